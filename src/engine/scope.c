#include "engine/engine_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/*
 * What exists for a key that is narrowed to a part of the workspace.
 *
 * Invariants
 *
 * K5 Outside of its scope an object does not exist for it: the answer is the one for what was never made, by the same
 * way (both are looked for in the views). Lists leave it out; aios-views is asked with the scope and answers from what it
 * leaves.
 *
 * K8 Whom an event wakes and what it starts is not the sender's to see, nor bounded by a scope: who has one publishes only
 * where "api.event_publish" is granted by its name, in the key and in each block that narrows what exists. No pattern
 * reaches it.
 *
 * K6 An operation that is not in this table is refused to whoever has a scope: what is new is not seen by accident.
 */

enum object {
	NOTHING_KNOWN = 0, /* K6 */
	FREE,		   /* names nothing of the workspace's, or only lists what the views leave */
	RUN,
	RUN_IN_BODY, /* "run", if it is there */
	GATE,
	FLOW,
	SCHEDULE,
	FACT,
	DOCUMENT,
	TOPIC, /* K8 */
};

static const uint8_t objects[WIRE_OP_COUNT] = {
	[WIRE_OP_HEALTH] = FREE,
	[WIRE_OP_STATUS] = FREE,
	[WIRE_OP_FLOWS] = FREE,
	[WIRE_OP_FLOW] = FLOW,
	[WIRE_OP_RUN_START] = FLOW,
	[WIRE_OP_RUNS] = FREE,
	[WIRE_OP_RUN] = RUN,
	[WIRE_OP_RUN_CANCEL] = RUN,
	[WIRE_OP_RUN_PAUSE] = RUN,
	[WIRE_OP_RUN_RESUME] = RUN,
	[WIRE_OP_RUN_ROLLBACK] = RUN,
	[WIRE_OP_RUN_FORK] = RUN,
	[WIRE_OP_RUN_RESTART] = RUN,
	[WIRE_OP_RUN_VALUE] = RUN,
	[WIRE_OP_RUN_WHY] = RUN,
	[WIRE_OP_SIGNAL] = RUN,
	[WIRE_OP_QUEUE] = FREE,
	[WIRE_OP_SCHEDULES] = FREE,
	[WIRE_OP_SCHEDULE] = SCHEDULE,
	[WIRE_OP_SCHEDULE_PAUSE] = SCHEDULE,
	[WIRE_OP_SCHEDULE_RESUME] = SCHEDULE,
	[WIRE_OP_EVENT_PUBLISH] = TOPIC,
	[WIRE_OP_GATES] = FREE,
	[WIRE_OP_GATE] = GATE,
	[WIRE_OP_GATE_APPROVE] = GATE,
	[WIRE_OP_GATE_DENY] = GATE,
	[WIRE_OP_GATE_SETTLE] = GATE,
	[WIRE_OP_GATE_DELEGATE] = GATE,
	[WIRE_OP_GATES_DECIDE] = FREE, /* each of them is looked at */
	[WIRE_OP_FACTS] = FREE,
	[WIRE_OP_FACT] = FACT,
	[WIRE_OP_FACT_PUT] = FACT,
	[WIRE_OP_SEARCH] = FREE,
	[WIRE_OP_DOC_PUT] = DOCUMENT,
	[WIRE_OP_OUTCOME] = RUN_IN_BODY,
	[WIRE_OP_COSTS] = FREE,
	[WIRE_OP_BUDGETS] = FREE,
	[WIRE_OP_PAGE_HOME] = FREE,
	[WIRE_OP_PAGE_RUN] = RUN,
	[WIRE_OP_PAGE_GATE] = GATE,
	[WIRE_OP_PAGE_DECIDE] = GATE,
};

/* --- the scope of a request --- */

bool engine_scope_load(struct engine *e, struct engine_req *q)
{
	struct base_buf b;

	base_buf_init(&b, 1 << 18);
	core_scope_json(e->core, &q->by, &b);
	if (base_buf_failed(&b) || (b.len && base_json_parse(base_buf_view(&b), &q->scope_doc, NULL) < 0)) {
		base_buf_done(&b);
		return false;
	}
	q->scoped = b.len > 0;
	if (q->scoped)
		q->scope = base_json_root(q->scope_doc);
	base_buf_done(&b);
	return true;
}

static bool own_only(const struct engine_req *q)
{
	return base_jv_kind(base_jv_get(q->scope, "own")) == BASE_JSON_STR;
}

bool engine_scope_flow(const struct engine_req *q, struct base_str flow)
{
	struct base_jv_iter it = {0}, jt;
	struct base_str key;
	struct base_jv list, v;

	while (q->scoped && base_jv_next(base_jv_get(q->scope, "flows"), &it, &key, &list)) {
		bool match = false;

		jt = (struct base_jv_iter){0};
		while (!match && base_jv_next(list, &jt, &key, &v))
			match = base_str_matches(base_jv_str(v), flow);
		if (!match)
			return false;
	}
	return true;
}

bool engine_scope_key(const struct engine_req *q, struct base_str key)
{
	struct base_jv list = base_jv_get(q->scope, "memory"), v;
	struct base_jv_iter it = {0};
	struct base_str none;

	if (!q->scoped || base_jv_kind(list) != BASE_JSON_ARR)
		return true;
	while (base_jv_next(list, &it, &none, &v))
		if (base_str_starts(key, base_jv_str(v)))
			return true;
	return false;
}

bool engine_scope_run(struct engine *e, const struct engine_req *q, uint64_t run)
{
	struct base_str own = base_jv_str(base_jv_get(q->scope, "own"));
	struct core_run_info info;

	if (!q->scoped)
		return true;
	return core_run_get(e->core, run, &info) && engine_scope_flow(q, info.payer) &&
	       (!own_only(q) || base_str_eq(own, info.by) || base_str_eq(own, info.origin));
}

/* A schedule is a flow's, and nobody's who only has what they started. */
static bool sees_schedule(const struct engine_req *q, struct base_str name)
{
	size_t n = name.len;

	while (n > 0 && name.ptr[n - 1] != '/')
		n--;
	return !own_only(q) && engine_scope_flow(q, base_str_sub(name, 0, n ? n - 1 : 0));
}

/* --- lists --- */

/* An element of a list that was made from the state, by what it names. */
static bool sees_item(struct engine *e, const struct engine_req *q, struct base_jv v)
{
	struct base_jv run = base_jv_get(v, "run"), flow = base_jv_get(v, "flow");

	switch (q->op) {
	case WIRE_OP_FLOWS:
		return base_jv_kind(flow) == BASE_JSON_STR && engine_scope_flow(q, base_jv_str(flow));
	case WIRE_OP_QUEUE:
	case WIRE_OP_SCHEDULES:
		return base_jv_kind(flow) == BASE_JSON_STR && !own_only(q) &&
		       engine_scope_flow(q, base_jv_str(flow));
	case WIRE_OP_BUDGETS:
		return base_str_is(base_jv_str(base_jv_get(v, "of")), "flow month") && !own_only(q) &&
		       engine_scope_flow(q, base_jv_str(base_jv_get(v, "name")));
	default: /* gates */
		return base_jv_int(run, 0) > 0 && engine_scope_run(e, q, (uint64_t)base_jv_int(run, 0));
	}
}

void engine_scope_list(
	struct engine *e, const struct engine_req *q, struct base_str list, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);
	struct base_jv_iter it = {0};
	struct base_json *doc;
	struct base_str none;
	struct base_jv v;

	if (!q->scoped) {
		base_buf_str(ret, list);
		return;
	}
	if (base_json_parse(list, &doc, NULL) < 0) {
		base_buf_cstr(ret, "[]");
		return;
	}
	base_jw_arr(&w);
	while (base_jv_next(base_json_root(doc), &it, &none, &v))
		if (sees_item(e, q, v))
			base_jw_value(&w, v);
	base_jw_end_arr(&w);
	base_json_free(doc);
}

/* --- asking the views --- */

void engine_views_ask_as(struct engine *e, struct engine_req *q, const char *query, struct base_str params,
	engine_ask_fn fn, void *userdata)
{
	struct base_buf b;

	if (!q->scoped) {
		engine_views_ask(e, query, params, fn, userdata);
		return;
	}
	BASE_CHECK(params.len >= 2 && params.ptr[0] == '{');
	base_buf_init(&b, WIRE_BODY_MAX);
	base_buf_cstr(&b, "{\"scope\":");
	base_jv_write(q->scope, &b);
	if (params.len > 2)
		base_buf_char(&b, ',');
	base_buf_str(&b, base_str_sub(params, 1, params.len));
	engine_views_ask(e, query, base_buf_view(&b), fn, userdata);
	base_buf_done(&b);
}

/* --- the check --- */

static void not_there(struct engine *e, struct engine_req *q)
{
	const char *name = q->asked_gate ? "gate" : "run";

	engine_reply_problem(e, q, 404, q->asked_gate ? "unknown_gate" : "unknown_run", "there is no %s %llu",
		name, (unsigned long long)q->asked);
}

static void on_views(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_req *q = userdata;
	struct base_json *doc = NULL;
	bool there = false;

	(void)sealed;
	if (status < 0) {
		engine_reply_ask(e, q, status, value, sealed);
		return;
	}
	if (status == 1 && base_json_parse(value, &doc, NULL) == 0) {
		struct base_jv root = base_json_root(doc);

		there = q->asked_gate ? base_jv_len(base_jv_get(root, "items")) > 0
				      : base_jv_int(base_jv_get(root, "run"), 0) == (int64_t)q->asked;
	}
	base_json_free(doc);
	if (!there) {
		not_there(e, q);
		return;
	}
	q->body = base_buf_view(&q->kept_body);
	engine_req_go_on(e, q);
}

/* Looked for where it is if it is there at all. */
static void ask_views(struct engine *e, struct engine_req *q)
{
	struct base_buf b;

	base_buf_init(&q->kept_body, WIRE_BODY_MAX);
	base_buf_str(&q->kept_body, q->body);
	q->body = BASE_STR_NONE;
	base_buf_init(&b, 128);
	base_buf_printf(&b, "{\"%s\":%llu,\"limit\":1}", q->asked_gate ? "gate" : "run",
		(unsigned long long)q->asked);
	engine_views_ask_as(e, q, q->asked_gate ? "gates" : "run", base_buf_view(&b), on_views, q);
	base_buf_done(&b);
}

/* "run" of the body; false: it names none. */
static bool run_in_body(struct engine_req *q)
{
	struct base_json *doc;
	struct base_jv run;

	if (base_json_parse(q->body, &doc, NULL) < 0)
		return false; /* refused later */
	run = base_jv_get(base_json_root(doc), "run");
	q->asked = base_jv_kind(run) == BASE_JSON_INT ? (uint64_t)base_jv_int(run, 0) : 0;
	base_json_free(doc);
	return q->asked != 0;
}

static bool run_is_there(struct engine *e, struct engine_req *q, uint64_t run)
{
	if (engine_scope_run(e, q, run))
		return true;
	ask_views(e, q);
	return false;
}

static bool name_is_there(
	struct engine *e, struct engine_req *q, const char *what, struct base_str name, bool seen)
{
	char code[64];

	if (seen)
		return true;
	snprintf(code, sizeof(code), "unknown_%s", what);
	engine_reply_problem(e, q, 404, code, "there is no %s %.*s", what, BASE_STR_ARG(name));
	return false;
}

static bool names_publish(struct base_jv grants)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	while (base_jv_next(grants, &it, &none, &v))
		if (base_str_is(base_jv_str(v), "api.event_publish"))
			return true;
	return false;
}

/* K8 */
static bool may_publish(struct engine *e, const struct engine_req *q)
{
	struct base_json *blocks = NULL;
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;
	bool ok = core_may_by_name(e->core, &q->by, BASE_STR("api.event_publish"), engine_wall_ms());

	if (ok && q->by.caveats.len)
		ok = base_json_parse(q->by.caveats, &blocks, NULL) == 0;
	while (ok && blocks && base_jv_next(base_json_root(blocks), &it, &none, &v))
		ok = base_jv_kind(base_jv_get(v, "scope")) == BASE_JSON_NONE ||
		     names_publish(base_jv_get(v, "grants"));
	base_json_free(blocks);
	return ok;
}

bool engine_scope_check(struct engine *e, struct engine_req *q)
{
	struct base_str name;

	if (!q->scoped)
		return true;
	switch ((enum object)objects[q->op]) {
	case FREE:
		return true;
	case RUN:
		q->asked = engine_param_u64(q, "run", 0);
		return run_is_there(e, q, q->asked);
	case RUN_IN_BODY:
		return !run_in_body(q) || run_is_there(e, q, q->asked);
	case GATE:
		q->asked_gate = true;
		q->asked = engine_param_u64(q, "gate", 0);
		return run_is_there(e, q, core_gate_run(e->core, q->asked));
	case FLOW:
		name = engine_param(q, "flow");
		return name_is_there(e, q, "flow", name, engine_scope_flow(q, name));
	case SCHEDULE:
		name = engine_param(q, "schedule");
		return name_is_there(e, q, "schedule", name, sees_schedule(q, name));
	case FACT:
		name = engine_param(q, "key");
		return name_is_there(e, q, "fact", name, engine_scope_key(q, name));
	case DOCUMENT:
		name = engine_param(q, "id");
		return name_is_there(e, q, "document", name, engine_scope_key(q, name));
	case TOPIC:
		if (may_publish(e, q))
			return true;
		engine_req_deny(e, q,
			"an event reaches beyond a scope; a grant that names it lets a key with one do it");
		return false;
	default:
		engine_req_deny(e, q, "it concerns everything, and the key has a scope");
		return false;
	}
}
