#include "engine/engine_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "wire/outcome.h"

/*
 * Attempts at effects, from their release by the core to their result.
 *
 * Invariants
 *
 * E1 An attempt reaches its connector only after the step_sent that released it is durable (commit.c, C1).
 *
 * E2 Each attempt gives exactly one CORE_CMD_EFFECT_RESULT: the connector's answer, or WIRE_UNKNOWN when
 * the connector died or went silent after the attempt had been sent to it. What was never sent is RETRY or
 * waits, never UNKNOWN. One that the core has called off gives none: what is to be made of it is recorded.
 *
 * E3 The bytes that were judged are the bytes that are sent.
 *
 * E5 What has not been handed to a connector yet when aios is frozen, when its run is cancelled, or when the
 * configuration that it was judged under has changed, goes back to the core.
 *
 * E4 A secret goes sealed from the vault to aios-connect; aiosd cannot read it.
 */

enum call_state { CALL_NEW, CALL_WAITS, CALL_SECRET, CALL_SENT, CALL_ASKED };
enum { GRACE_MS = 2000, SEND_HIGH = 8 << 20 };

struct engine_call {
	struct engine_out out;
	uint64_t id, run;
	uint32_t step, attempt, timeout_ms;
	uint8_t mode;
	enum call_state state;
	bool cancelled;
	bool over;	 /* its run was over when it was released: somebody wants it all the same */
	uint64_t config; /* which configuration it was judged under */
	int64_t deadline;
	struct base_str connector, action, key, args, route;
	uint8_t labels; /* of what it read: sessions */
	uint32_t usage_len;
	char *usage; /* kept while a result is being parsed */
};

struct engine_held {
	struct engine_held *next;
	uint64_t run;
	uint32_t step, attempt, retry_after_ms;
	unsigned outcome;
	uint8_t labels;
	size_t value_len, usage_len;
	char data[];
};

int engine_effects_init(struct engine *e)
{
	return base_idmap_new(&e->calls);
}

size_t engine_effects_count(const struct engine *e)
{
	return base_idmap_count(e->calls);
}

void engine_effects_done(struct engine *e)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (e->calls && base_idmap_next(e->calls, &cursor, &id, &value)) {
		free(((struct engine_call *)value)->usage);
		free(value);
	}
	base_idmap_free(e->calls);
	e->calls = NULL;
	engine_effects_replayed(e);
}

/* --- results --- */

static void hold(struct engine *e, const struct core_cmd *cmd)
{
	struct engine_held *h = malloc(sizeof(*h) + cmd->body.len + cmd->params.len), **at = &e->held;

	BASE_CHECK(h);
	*h = (struct engine_held){.run = cmd->run,
		.step = cmd->step,
		.attempt = cmd->attempt,
		.retry_after_ms = cmd->retry_after_ms,
		.outcome = cmd->outcome,
		.labels = cmd->labels,
		.value_len = cmd->body.len,
		.usage_len = cmd->params.len};
	if (cmd->body.len)
		memcpy(h->data, cmd->body.ptr, cmd->body.len);
	if (cmd->params.len)
		memcpy(h->data + cmd->body.len, cmd->params.ptr, cmd->params.len);
	while (*at)
		at = &(*at)->next;
	*at = h;
}

static void decide(struct engine *e, struct core_cmd *cmd)
{
	struct core_reply reply;
	int rc = e->degraded ? -ENOSPC : engine_decide(e, cmd, &reply);

	if (rc == -ENOSPC)
		hold(e, cmd);
	else if (rc < 0)
		engine_note(3, "run %llu step %u: its result could not be taken: %s",
			(unsigned long long)cmd->run, cmd->step, strerror(-rc));
	else if (reply.status >= 400)
		engine_note(2, "run %llu step %u: its result was refused: %.*s", (unsigned long long)cmd->run,
			cmd->step, BASE_STR_ARG(reply.body));
}

/* They are kept until what they led to is durable. */
void engine_effects_replay(struct engine *e)
{
	struct core_reply reply;

	for (struct engine_held *h = e->held; h && !e->degraded; h = h->next) {
		struct core_cmd cmd = {.type = CORE_CMD_EFFECT_RESULT,
			.run = h->run,
			.step = h->step,
			.attempt = h->attempt,
			.retry_after_ms = h->retry_after_ms,
			.outcome = h->outcome,
			.labels = h->labels,
			.body = {h->data, h->value_len},
			.params = {h->data + h->value_len, h->usage_len}};
		int rc = engine_decide(e, &cmd, &reply);

		if (rc < 0)
			engine_note(3, "run %llu: a result was lost: %s", (unsigned long long)h->run,
				strerror(-rc));
	}
}

void engine_effects_replayed(struct engine *e)
{
	while (e->held) {
		struct engine_held *h = e->held;

		e->held = h->next;
		free(h);
	}
}

/* Ends c with a result. */
static void settle(struct engine *e, struct engine_call *c, unsigned outcome, struct base_str value,
	struct base_str usage, uint32_t retry_after_ms)
{
	base_idmap_remove(e->calls, c->id);
	decide(e, &(struct core_cmd){.type = CORE_CMD_EFFECT_RESULT,
			  .run = c->run,
			  .step = c->step,
			  .attempt = c->attempt,
			  .outcome = outcome,
			  .labels = c->labels,
			  .body = value,
			  .params = usage,
			  .retry_after_ms = retry_after_ms});
	free(c->usage);
	free(c);
}

static void settle_problem(
	struct engine *e, struct engine_call *c, unsigned outcome, const char *code, const char *text)
{
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 4096);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", code);
	base_jw_mcstr(&w, "message", text);
	base_jw_end_obj(&w);
	settle(e, c, outcome, base_buf_view(&b), BASE_STR_NONE, 0);
	base_buf_done(&b);
}

/* --- on the way out --- */

static void put_provider(struct engine *e, const struct engine_call *c, struct base_jw *w)
{
	struct base_jv models = base_jv_get(base_json_root(e->config), "models"), p, prices;
	struct base_json *route = NULL;
	struct base_str provider, model, key;
	struct base_jv_iter it = {0};
	struct base_buf name;
	struct base_jv v;

	if (base_json_parse(c->route, &route, NULL) < 0)
		return;
	provider = base_jv_str(base_jv_get(base_json_root(route), "provider"));
	model = base_jv_str(base_jv_get(base_json_root(route), "model"));
	base_jw_mraw(w, "route", c->route);
	p = base_jv_get_str(base_jv_get(models, "providers"), provider);
	base_buf_init(&name, 1024);
	base_jw_key(w, "provider");
	if (base_jv_kind(p) == BASE_JSON_OBJ)
		base_jv_write(p, &name);
	else
		base_buf_cstr(&name, "{\"api\":\"local\"}");
	base_jw_raw(w, base_buf_view(&name));
	base_buf_clear(&name);
	base_buf_str(&name, provider);
	base_buf_char(&name, '/');
	base_buf_str(&name, model);
	prices = base_jv_get_str(base_jv_get(models, "prices"), base_buf_view(&name));
	base_jw_key(w, "prices");
	base_jw_obj(w);
	while (base_jv_next(prices, &it, &key, &v)) {
		int64_t nusd;

		if (base_jv_kind(v) != BASE_JSON_STR || base_money_parse(base_jv_str(v), &nusd, NULL) < 0)
			continue;
		base_jw_key_str(w, key);
		base_jw_int(w, nusd);
	}
	base_jw_end_obj(w);
	base_buf_done(&name);
	base_json_free(route);
}

static void put_config(struct engine *e, const struct engine_call *c, struct base_buf *b)
{
	static const char *const sections[] = {"mail", "http", "test"};
	struct base_jw w = base_jw_of(b);

	base_jw_obj(&w);
	base_jw_mint(&w, "now_ms", core_time_ms(e->core));
	if (e->config && base_str_is(c->connector, "model"))
		put_provider(e, c, &w);
	for (size_t i = 0; e->config && i < sizeof(sections) / sizeof(sections[0]); i++) {
		struct base_jv v = base_jv_get(base_json_root(e->config), sections[i]);
		bool feed = base_str_is(c->connector, "feed") && i == 1;

		if ((!base_str_is(c->connector, sections[i]) && !feed) || base_jv_kind(v) != BASE_JSON_OBJ)
			continue;
		base_jw_key(&w, sections[i]);
		/* The writer's comma is placed by the key; the value follows as it stands. */
		base_buf_clear(&e->scratch);
		base_jv_write(v, &e->scratch);
		base_jw_raw(&w, base_buf_view(&e->scratch));
	}
	base_jw_end_obj(&w);
}

static bool run_is_over(const struct engine *e, uint64_t run)
{
	struct core_run_info info;

	return !core_run_get(e->core, run, &info) || info.stopped;
}

/* True: it may not leave any more as it was released (E5), and c is gone. */
static bool recalled(struct engine *e, struct engine_call *c)
{
	if (core_is_frozen(e->core))
		settle_problem(e, c, WIRE_RETRY, "busy", "aios was frozen before it left");
	else if (c->config != e->config_count)
		settle_problem(e, c, WIRE_RETRY, "busy", "the configuration changed before it left");
	else if (c->mode == 0 && !c->over && run_is_over(e, c->run))
		settle_problem(e, c, WIRE_RETRY, "busy", "its run was cancelled before it left");
	else
		return false;
	return true;
}

static void transmit(struct engine *e, struct engine_call *c, struct base_str secret)
{
	struct engine_proc *p = engine_proc_of(e, ENGINE_CONNECT, 0);
	struct base_buf config, *b;

	if (recalled(e, c))
		return;
	if (p->state == ENGINE_UP && p->conn && wire_conn_pending(p->conn) > SEND_HIGH) {
		c->state = CALL_WAITS;
		e->effects_held = true;
		return;
	}
	b = p->state == ENGINE_UP ? engine_proc_begin(e, p, WIRE_EFFECT) : NULL;
	if (!b) {
		c->state = CALL_WAITS;
		return;
	}
	base_buf_init(&config, 1 << 20);
	put_config(e, c, &config);
	wire_effect_put(b, &(struct wire_effect){.call = c->id,
				   .mode = c->mode,
				   .action = c->action,
				   .key = c->key,
				   .args = c->args,
				   .config = base_buf_view(&config),
				   .secret = secret,
				   .timeout_ms = c->timeout_ms});
	c->state = CALL_SENT;
	base_buf_done(&config);
	engine_proc_send(e, p);
}

struct base_str engine_host_of(struct base_str url)
{
	size_t from = 0, to;

	for (size_t i = 0; i + 2 < url.len; i++)
		if (memcmp(url.ptr + i, "://", 3) == 0) {
			from = i + 3;
			break;
		}
	for (to = from; to < url.len && !strchr("/?#", url.ptr[to]); to++)
		if (url.ptr[to] == '@')
			from = to + 1;
	if (from < to && url.ptr[from] == '[') {
		size_t end = from;

		while (end < to && url.ptr[end] != ']')
			end++;
		return base_str_sub(url, from + 1, end - from - 1);
	}
	for (size_t i = from; i < to; i++)
		if (url.ptr[i] == ':')
			to = i;
	return base_str_sub(url, from, to - from);
}

/* The secret that this call needs; false: none. Views live as long as the configuration. */
static bool secret_of(
	struct engine *e, const struct engine_call *c, struct base_str *ret_name, struct base_str *ret_host)
{
	struct base_jv root, at = {0};

	if (!e->config)
		return false;
	root = base_json_root(e->config);
	if (base_str_is(c->connector, "mail")) {
		struct base_jv mail = base_jv_get(root, "mail");

		if (base_str_is(base_jv_str(base_jv_get(mail, "transport")), "smtp"))
			at = base_jv_get(mail, "smtp");
	} else if (base_str_is(c->connector, "model")) {
		struct base_json *route = NULL;

		if (base_json_parse(c->route, &route, NULL) == 0)
			at = base_jv_get_str(base_jv_get(base_jv_get(root, "models"), "providers"),
				base_jv_str(base_jv_get(base_json_root(route), "provider")));
		base_json_free(route);
	}
	*ret_name = base_jv_str(base_jv_get(at, "secret"));
	*ret_host = engine_host_of(base_jv_str(base_jv_get(at, "url")));
	return ret_name->len > 0;
}

static uint64_t *boxed(uint64_t id)
{
	uint64_t *box = malloc(sizeof(*box));

	BASE_CHECK(box);
	*box = id;
	return box;
}

/* The call that a question was asked for, NULL when it is gone; the box is freed. */
static struct engine_call *unbox(struct engine *e, void *box)
{
	uint64_t id = *(uint64_t *)box;

	free(box);
	return base_idmap_get(e->calls, id);
}

bool engine_is_locked_problem(struct base_str problem)
{
	struct base_json *doc;
	bool locked;

	if (base_json_parse(problem, &doc, NULL) < 0)
		return false;
	locked = base_str_is(base_jv_str(base_jv_get(base_json_root(doc), "code")), "vault_locked");
	base_json_free(doc);
	return locked;
}

/* It was released before the core knew that the vault is locked: it goes back, and waits there. */
static void wait_for_vault(struct engine *e, struct engine_call *c, struct base_str problem)
{
	engine_vault_is_locked(e);
	settle(e, c, WIRE_RETRY, problem, BASE_STR_NONE, 0);
}

static void on_secret(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_call *c = unbox(e, userdata);

	if (!c || c->state != CALL_SECRET)
		return;
	if (status == 1)
		transmit(e, c, sealed);
	else if (status == 0 && engine_is_locked_problem(value))
		wait_for_vault(e, c, value);
	else if (status == 0)
		settle(e, c, WIRE_FAILED, value, BASE_STR_NONE, 0);
	else
		settle_problem(e, c, WIRE_RETRY, "vault", "the vault does not answer");
}

static void to_connect(struct engine *e, struct engine_call *c)
{
	struct engine_proc *p = engine_proc_of(e, ENGINE_CONNECT, 0);
	struct base_str name, host;
	struct base_buf b;
	uint64_t req;

	if (recalled(e, c))
		return;
	if (p->state != ENGINE_UP) {
		c->state = CALL_WAITS;
		return;
	}
	if (!engine_canaries_ready(e, p)) {
		c->state = CALL_WAITS;
		return;
	}
	if (!secret_of(e, c, &name, &host)) {
		transmit(e, c, BASE_STR_NONE);
		return;
	}
	c->state = CALL_SECRET;
	req = engine_ask_next(e);
	base_buf_init(&b, 1 << 16);
	wire_vault_release_put(
		&b, &(struct wire_vault_release){.req = req,
			    .call = c->id,
			    .name = name,
			    .host = host,
			    .action = c->action,
			    .recipient = {p->public_key, p->has_key ? sizeof(p->public_key) : 0}});
	engine_ask(e, ENGINE_VAULT, WIRE_VAULT_RELEASE, req, &b, 10000, on_secret, boxed(c->id));
	base_buf_done(&b);
}

static void on_views(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_call *c = unbox(e, userdata);

	(void)sealed;
	if (!c)
		return;
	if (status < 0)
		settle_problem(e, c, WIRE_RETRY, "views", "the views do not answer");
	else
		settle(e, c, status == 1 ? WIRE_DONE : WIRE_FAILED, value, BASE_STR_NONE, 0);
}

static void to_engine(struct engine *e, struct engine_call *c)
{
	struct base_buf b;
	unsigned outcome;

	base_buf_init(&b, 4 << 20);
	c->labels = core_run_labels(e->core, c->run);
	engine_session_call(e, c->action, c->args, &c->labels, &outcome, &b);
	settle(e, c, outcome, base_buf_view(&b), BASE_STR_NONE, 0);
	base_buf_done(&b);
}

static void watch_deadline(struct engine *e, int64_t deadline)
{
	if (e->sweep_at && e->sweep_at <= deadline)
		return;
	e->sweep_at = deadline;
	engine_timer_add(e, ENGINE_TIMER_CALLS, 0, deadline - e->mono);
}

static void start(struct engine *e, struct engine_call *c)
{
	c->deadline = e->mono + c->timeout_ms + GRACE_MS;
	watch_deadline(e, c->deadline);
	if (base_str_is(c->connector, "engine"))
		to_engine(e, c);
	else if (base_str_is(c->connector, "views")) {
		c->state = CALL_ASKED;
		engine_views_ask(e, c->action.ptr + strlen("memory."), c->args, on_views, boxed(c->id));
	} else
		to_connect(e, c);
}

static void on_release(struct engine *e, struct engine_out *o)
{
	struct engine_call *c = (struct engine_call *)o;

	if (c->cancelled) {
		free(c);
		return;
	}
	c->id = ++e->next_call;
	BASE_CHECK(base_idmap_put(e->calls, c->id, c) == 0);
	start(e, c);
}

static void on_discard(struct engine *e, struct engine_out *o, int code)
{
	(void)e;
	(void)code;
	free(o);
}

static struct base_str copy(char **at, struct base_str s)
{
	struct base_str r = {*at, s.len};

	if (s.len)
		memcpy(*at, s.ptr, s.len);
	*at += s.len;
	*(*at)++ = '\0';
	return r;
}

void engine_effects_dispatch(struct engine *e, const struct core_act *act)
{
	struct base_str args = act->blob.data;
	struct engine_call *c;
	char *at;

	if (!args.ptr) {
		struct core_record rec;
		int rc = engine_read_blob(e, act->seq, &rec, &args);

		/* The log held it when it was judged: without it nothing may go on. */
		BASE_CHECK(rc == 0);
	}
	c = calloc(1, sizeof(*c) + args.len + act->action.len + act->connector.len + act->key.len +
			      act->route.len + 8);
	BASE_CHECK(c);
	at = (char *)(c + 1);
	c->out.release = on_release;
	c->out.discard = on_discard;
	c->run = act->run;
	c->step = act->step;
	c->attempt = act->attempt;
	c->config = e->config_count;
	c->over = run_is_over(e, act->run);
	c->mode = (uint8_t)act->mode;
	c->timeout_ms = act->timeout_ms ? act->timeout_ms : 60000;
	c->action = copy(&at, act->action);
	c->connector = copy(&at, act->connector);
	c->key = copy(&at, act->key);
	c->args = copy(&at, args);
	c->route = copy(&at, act->route);
	engine_after_commit(e, &c->out);
}

/* --- answers --- */

static void on_parsed(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_call *c = unbox(e, userdata);

	(void)sealed;
	if (!c)
		return;
	/* What is parsed has only been read: it may be read again. */
	if (status < 0)
		settle_problem(e, c, WIRE_RETRY, "parse", "aios-parse could not read what came back");
	else
		settle(e, c, status == 1 ? WIRE_DONE : WIRE_FAILED, value,
			(struct base_str){c->usage, c->usage_len}, 0);
}

/* The call's result, which refuses it, follows. */
static void canary_met(struct engine *e, struct engine_proc *p, struct base_str body)
{
	struct wire_canary_met f;
	struct engine_call *c;

	if (wire_canary_met_get(body, &f) < 0 || f.name.len > 128 || f.where.len > 64) {
		engine_proc_kill(e, p, "sent an alarm that does not decode");
		return;
	}
	c = base_idmap_get(e->calls, f.call);
	if (c)
		engine_canary_met(e, f.name, f.where, c->action, c->run, c->step);
	else
		engine_announce_canary(e, &f);
}

void engine_effects_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body)
{
	struct wire_effect_result r;
	struct engine_call *c;

	if (type == WIRE_CANARY_MET) {
		canary_met(e, p, body);
		return;
	}
	if (type != WIRE_EFFECT_RESULT)
		return;
	if (wire_effect_result_get(body, &r) < 0 || r.outcome < WIRE_DONE || r.outcome > WIRE_NOT_FOUND) {
		engine_proc_kill(e, p, "sent a result that does not decode");
		return;
	}
	c = base_idmap_get(e->calls, r.call);
	if (!c && (engine_announce_result(e, &r) || engine_checkpoint_result(e, &r)))
		return;
	if (!c || c->state != CALL_SENT)
		return;
	if (!r.parse.len || r.outcome != WIRE_DONE) {
		settle(e, c, r.outcome, r.value, r.usage, r.retry_after_ms);
		return;
	}
	c->state = CALL_ASKED;
	if (r.usage.len && (c->usage = malloc(r.usage.len))) {
		memcpy(c->usage, r.usage.ptr, r.usage.len);
		c->usage_len = (uint32_t)r.usage.len;
	}
	engine_parse(e, ENGINE_PARSE, r.parse, c->action, r.raw, on_parsed, boxed(c->id));
}

static void send_cancel(struct engine *e, const struct engine_call *c)
{
	struct engine_proc *p = engine_proc_of(e, ENGINE_CONNECT, 0);
	struct base_buf *b = c->state == CALL_SENT ? engine_proc_begin(e, p, WIRE_EFFECT_CANCEL) : NULL;

	if (!b)
		return;
	wire_effect_cancel_put(b, &(struct wire_effect_cancel){.call = c->id});
	engine_proc_send(e, p);
}

struct each {
	uint64_t *ids;
	size_t n;
};

static struct each collect(
	struct engine *e, bool (*want)(const struct engine_call *c, const void *arg), const void *arg)
{
	size_t cursor = 0, count = base_idmap_count(e->calls);
	struct each r = {.ids = count ? calloc(count, sizeof(*r.ids)) : NULL};
	uint64_t id;
	void *value;

	BASE_CHECK(r.ids || !count);
	while (base_idmap_next(e->calls, &cursor, &id, &value))
		if (want(value, arg))
			r.ids[r.n++] = id;
	return r;
}

static bool is_act(const struct engine_call *c, const void *arg)
{
	const struct core_act *act = arg;

	return c->run == act->run && c->step == act->step;
}

void engine_effects_cancel(struct engine *e, const struct core_act *act)
{
	struct each r = collect(e, is_act, act);
	const struct engine_group *groups[] = {e->pending, e->inflight};

	for (size_t i = 0; i < r.n; i++) {
		struct engine_call *c = base_idmap_remove(e->calls, r.ids[i]);

		send_cancel(e, c);
		free(c->usage);
		free(c);
	}
	free(r.ids);
	/* Not out yet: it stays in. */
	for (size_t i = 0; i < 2; i++)
		for (struct engine_out *o = groups[i] ? groups[i]->outs : NULL; o; o = o->next)
			if (o->release == on_release && is_act((struct engine_call *)o, act))
				((struct engine_call *)o)->cancelled = true;
}

static bool is_late(const struct engine_call *c, const void *arg)
{
	return c->deadline <= *(const int64_t *)arg;
}

void engine_effects_sweep(struct engine *e)
{
	int64_t next = INT64_MAX;
	size_t cursor = 0;
	struct each r;
	uint64_t id;
	void *value;

	if (!e->sweep_at || e->sweep_at > e->mono)
		return; /* an earlier one has done it */
	e->sweep_at = 0;
	r = collect(e, is_late, &e->mono);
	for (size_t i = 0; i < r.n; i++) {
		struct engine_call *c = base_idmap_get(e->calls, r.ids[i]);
		bool sent = c && c->state == CALL_SENT;

		if (!c)
			continue;
		send_cancel(e, c);
		settle_problem(e, c, sent ? WIRE_UNKNOWN : WIRE_RETRY, "timeout",
			sent ? "no answer in time" : "it could not be sent in time");
	}
	free(r.ids);
	while (base_idmap_next(e->calls, &cursor, &id, &value))
		if (((struct engine_call *)value)->deadline < next)
			next = ((struct engine_call *)value)->deadline;
	if (next != INT64_MAX)
		watch_deadline(e, next > e->mono + 250 ? next : e->mono + 250);
}

static bool is_waiting(const struct engine_call *c, const void *arg)
{
	(void)arg;
	return c->state == CALL_WAITS;
}

void engine_effects_up(struct engine *e)
{
	struct each r = collect(e, is_waiting, NULL);

	for (size_t i = 0; i < r.n; i++) {
		struct engine_call *c = base_idmap_get(e->calls, r.ids[i]);

		if (c && c->state == CALL_WAITS)
			to_connect(e, c);
	}
	free(r.ids);
}

void engine_effects_pump(struct engine *e)
{
	struct engine_proc *p = e->effects_held ? engine_proc_of(e, ENGINE_CONNECT, 0) : NULL;

	if (!p || p->state != ENGINE_UP || !p->conn || wire_conn_pending(p->conn) > SEND_HIGH)
		return;
	e->effects_held = false;
	engine_effects_up(e);
}

static bool is_out(const struct engine_call *c, const void *arg)
{
	(void)arg;
	return c->state == CALL_SENT || c->state == CALL_SECRET;
}

void engine_effects_down(struct engine *e)
{
	struct each r = collect(e, is_out, NULL);

	for (size_t i = 0; i < r.n; i++) {
		struct engine_call *c = base_idmap_get(e->calls, r.ids[i]);

		if (!c)
			continue;
		if (c->state == CALL_SECRET)
			c->state = CALL_WAITS; /* sealed to a key that is gone: asked again */
		else if (!e->stopping)
			settle_problem(e, c, WIRE_UNKNOWN, "lost", "the connector died before it answered");
	}
	free(r.ids);
}
