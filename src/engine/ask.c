#include "engine/sign_in_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/*
 * Questions to aios-parse, aios-vault, aios-views and (flow_inspect) aios-flow. Each is asked again once if
 * the process dies before it answers; a second death counts as no answer.
 *
 * Invariants
 *
 * G1 An answer counts only from the life of the process that was asked.
 *
 * G2 What the operator deploys is read by a process that has read nothing else and reads nothing after it: neither a feed
 * that exploits the parser nor a flow that exploits the interpreter can speak in a policy's or another flow's name.
 */

enum { ATTEMPTS_MAX = 2 };

struct ask {
	uint64_t req;
	enum engine_kind kind;
	unsigned type;
	struct engine_proc *proc; /* that it was sent to; NULL: waits for one */
	struct base_buf frame;
	unsigned attempts;
	engine_ask_fn fn;
	void *userdata;
};

uint64_t engine_ask_next(struct engine *e)
{
	return ++e->next_ask;
}

static void finish(struct engine *e, struct ask *a, int status, struct base_str value, struct base_str sealed)
{
	engine_ask_fn fn = a->fn;
	void *userdata = a->userdata;

	base_idmap_remove(e->asks, a->req);
	base_buf_done(&a->frame);
	free(a);
	fn(e, userdata, status, value, sealed);
}

static bool try_send(struct engine *e, struct ask *a)
{
	for (size_t i = 0; i < e->proc_count; i++) {
		struct engine_proc *p = &e->procs[i];
		struct base_buf *b;

		if (p->kind != a->kind || p->state != ENGINE_UP || p->killed || (p->once && p->asked))
			continue;
		b = engine_proc_begin(e, p, a->type);
		if (!b)
			continue;
		base_buf_str(b, base_buf_view(&a->frame));
		engine_proc_send(e, p);
		a->proc = p;
		a->attempts++;
		p->asked = true;
		if (p->once)
			engine_timer_add(e, ENGINE_TIMER_ONCE, a->req, ENGINE_WATCHDOG_MS);
		return true;
	}
	return false;
}

void engine_ask(struct engine *e, enum engine_kind kind, unsigned type, uint64_t req, struct base_buf *frame,
	int64_t timeout_ms, engine_ask_fn fn, void *userdata)
{
	struct ask *a = calloc(1, sizeof(*a));

	if (!a || base_buf_failed(frame) || base_idmap_put(e->asks, req, a) < 0) {
		int rc = base_buf_failed(frame) ? base_buf_failed(frame) : -ENOMEM;

		free(a);
		base_buf_done(frame);
		fn(e, userdata, rc, BASE_STR_NONE, BASE_STR_NONE);
		return;
	}
	a->req = req;
	a->kind = kind;
	a->type = type;
	a->frame = *frame;
	base_buf_init(frame, frame->cap);
	a->fn = fn;
	a->userdata = userdata;
	engine_timer_add(e, ENGINE_TIMER_ASK, req, timeout_ms);
	if (!try_send(e, a) && engine_proc_of(e, kind, 0)->on_demand)
		engine_proc_start(e, engine_proc_of(e, kind, 0));
}

void engine_ask_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body)
{
	struct wire_views_answer v = {0};
	struct base_str sealed = BASE_STR_NONE;
	struct ask *a;
	int rc = 0;

	/* All of them begin with the same three fields. */
	if (type == WIRE_VAULT_REPLY) {
		struct wire_vault_reply r;

		rc = wire_vault_reply_get(body, &r);
		if (rc == 0) {
			v = (struct wire_views_answer){r.req, r.ok, r.value};
			sealed = r.sealed;
		}
	} else {
		rc = wire_views_answer_get(body, &v);
	}
	if (rc < 0) {
		engine_proc_kill(e, p, "sent an answer that does not decode");
		return;
	}
	a = base_idmap_get(e->asks, v.req);
	if (a && a->proc == p) {
		finish(e, a, v.ok ? 1 : 0, v.value, sealed);
		if (p->once)
			engine_proc_end(e, p);
	} else if (p->once) {
		engine_proc_kill(e, p, "answers what it was not asked");
	}
}

void engine_ask_up(struct engine *e, struct engine_proc *p)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	if (p->kind == ENGINE_PASS)
		engine_pass_up(e, p);
	while (base_idmap_next(e->asks, &cursor, &id, &value)) {
		struct ask *a = value;

		if (a->kind == p->kind && !a->proc)
			try_send(e, a);
	}
	if (p->kind == ENGINE_PARSE)
		engine_timer_add(e, ENGINE_TIMER_PARSE, 0, ENGINE_PARSE_IDLE_MS);
	if (p->kind == ENGINE_TRIAL)
		engine_timer_add(e, ENGINE_TIMER_TRIAL, 0, ENGINE_PARSE_IDLE_MS);
}

/* The process has died, or could not be started. */
void engine_ask_down(struct engine *e, struct engine_proc *p)
{
	bool waits = false;
	size_t cursor = 0, n = 0, count = base_idmap_count(e->asks);
	uint64_t id, *ids = count ? calloc(count, sizeof(*ids)) : NULL;
	void *value;

	BASE_CHECK(ids || !count);
	while (base_idmap_next(e->asks, &cursor, &id, &value)) {
		struct ask *a = value;

		if (a->kind != p->kind || (a->proc && a->proc != p))
			continue;
		if (a->proc || p->fails >= 3)
			ids[n++] = id;
		else
			waits = true;
	}
	for (size_t i = 0; i < n; i++) {
		struct ask *a = base_idmap_get(e->asks, ids[i]);

		if (!a)
			continue;
		a->proc = NULL;
		if (a->attempts < ATTEMPTS_MAX && !e->stopping && try_send(e, a))
			continue;
		if (a->attempts >= ATTEMPTS_MAX || p->fails >= 3 || e->stopping)
			finish(e, a, -EPIPE, BASE_STR_NONE, BASE_STR_NONE);
		else
			waits = true;
	}
	free(ids);
	if (waits && p->once && !p->fails)
		engine_proc_start(e, p);
	else if (waits && p->on_demand)
		engine_timer_add(e, ENGINE_TIMER_RESPAWN, p->index, 100);
	if (p->kind == ENGINE_PASS)
		engine_pass_down(e, p);
}

void engine_ask_hung(struct engine *e, uint64_t req)
{
	struct ask *a = base_idmap_get(e->asks, req);

	if (a && a->proc && a->proc->once)
		engine_ask_timeout(e, req);
}

void engine_ask_timeout(struct engine *e, uint64_t req)
{
	struct ask *a = base_idmap_get(e->asks, req);

	if (!a)
		return;
	if (a->proc && a->proc->on_demand)
		engine_proc_kill(e, a->proc, "does not answer");
	finish(e, a, -ETIMEDOUT, BASE_STR_NONE, BASE_STR_NONE);
}

void engine_asks_done(struct engine *e)
{
	uint64_t id;
	void *value;
	size_t cursor = 0;

	while (e->asks && base_idmap_next(e->asks, &cursor, &id, &value)) {
		struct ask *a = value;

		base_buf_done(&a->frame);
		free(a);
	}
	base_idmap_free(e->asks);
	e->asks = NULL;
}

/* --- aios-parse --- */

void engine_parse(struct engine *e, enum engine_kind kind, struct base_str format, struct base_str name,
	struct base_str input, engine_ask_fn fn, void *userdata)
{
	struct base_buf b;
	uint64_t req = engine_ask_next(e);

	base_buf_init(&b, WIRE_BODY_MAX);
	wire_parse_put(&b, &(struct wire_parse){.req = req, .format = format, .name = name, .input = input});
	engine_ask(e, kind, WIRE_PARSE, req, &b, 15000, fn, userdata);
	base_buf_done(&b);
}

void engine_parse_idle(struct engine *e)
{
	struct engine_proc *p = engine_proc_of(e, ENGINE_PARSE, 0);
	struct base_buf *b;
	int64_t left;

	if (p->state != ENGINE_UP)
		return;
	left = p->used_ms + ENGINE_PARSE_IDLE_MS - e->mono;
	if (left > 0) {
		engine_timer_add(e, ENGINE_TIMER_PARSE, 0, left);
		return;
	}
	b = engine_proc_begin(e, p, WIRE_STOP);
	if (!b)
		return;
	wire_stop_put(b, &(struct wire_stop){0});
	engine_proc_send(e, p);
	p->state = ENGINE_STOPPING;
}

/* --- aios-views --- */

void engine_views_ask(
	struct engine *e, const char *query, struct base_str params, engine_ask_fn fn, void *userdata)
{
	struct base_buf b;
	uint64_t req = engine_ask_next(e);

	base_buf_init(&b, WIRE_BODY_MAX);
	wire_views_query_put(
		&b, &(struct wire_views_query){
			    .req = req, .query = base_str_of(query), .params = params, .at_least = e->seq});
	e->commit_wanted = true; /* it waits until the views have what was decided so far */
	engine_ask(e, ENGINE_VIEWS, WIRE_VIEWS_QUERY, req, &b, 30000, fn, userdata);
	base_buf_done(&b);
}
