#include "engine/engine_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/money.h"

/* Runs: start, wait, look at, cancel, resume, signal. Lists and timelines are answered by aios-views. */

static const char *outcome_name(unsigned outcome)
{
	return outcome == CORE_DONE ? "done" : outcome == CORE_FAILED ? "failed" : "cancelled";
}

const char *engine_run_state(const struct core_run_info *info)
{
	switch (info->state) {
	case CORE_RUN_PARKED:
		return "parked";
	case CORE_RUN_QUEUED:
		return "queued";
	case CORE_RUN_PAUSED:
		return "paused";
	case CORE_RUN_UNDOING:
		return "undoing";
	case CORE_RUN_ENDED:
		return outcome_name(info->outcome);
	default:
		return "active";
	}
}

/* --- waiting --- */

void engine_waiter_drop(struct engine *e, struct engine_req *q)
{
	struct engine_req *first = base_idmap_get(e->waiters, q->run), **at = &first;

	while (*at && *at != q)
		at = &(*at)->next;
	if (*at)
		*at = q->next;
	if (!first)
		base_idmap_remove(e->waiters, q->run);
	else
		BASE_CHECK(base_idmap_put(e->waiters, q->run, first) == 0);
	q->run = 0;
	q->next = NULL;
}

static void reply_ended(
	struct engine *e, struct engine_req *q, uint64_t run, unsigned outcome, struct base_str value)
{
	struct base_jw w;

	if (q->op == WIRE_OP_RUN) {
		engine_op_views(e, q);
		return;
	}
	base_buf_clear(&q->reply);
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_key(&w, "run");
	base_jw_uint(&w, run);
	base_jw_mcstr(&w, "state", outcome_name(outcome));
	base_jw_mraw(&w, outcome == CORE_DONE ? "result" : "problem", value);
	base_jw_end_obj(&w);
	base_buf_printf(&q->headers, "Location: /v1/runs/%llu\n", (unsigned long long)run);
	engine_reply_built(e, q, 200);
}

static void reply_going(struct engine *e, struct engine_req *q, uint64_t run)
{
	struct core_run_info info;
	struct base_jw w;

	if (q->op == WIRE_OP_RUN) {
		engine_op_views(e, q);
		return;
	}
	base_buf_clear(&q->reply);
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_key(&w, "run");
	base_jw_uint(&w, run);
	base_jw_mcstr(&w, "state", core_run_get(e->core, run, &info) ? engine_run_state(&info) : "active");
	base_jw_end_obj(&w);
	base_buf_printf(&q->headers, "Location: /v1/runs/%llu\n", (unsigned long long)run);
	engine_reply_built(e, q, 202);
}

static void on_past(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_req *q = userdata;
	struct base_json *doc = NULL;
	struct base_str state;
	struct base_buf b;

	if (status != 1 || base_json_parse(value, &doc, NULL) < 0) {
		engine_reply_ask(e, q, status == 1 ? -EBADMSG : status, value, sealed);
		return;
	}
	state = base_jv_str(base_jv_get(base_json_root(doc), "state"));
	base_buf_init(&b, 18 << 20);
	base_jv_write(base_jv_get(base_json_root(doc), "value"), &b);
	reply_ended(e, q, (uint64_t)base_jv_int(base_jv_get(base_json_root(doc), "run"), 0),
		base_str_is(state, "done")     ? CORE_DONE
		: base_str_is(state, "failed") ? CORE_FAILED
					       : CORE_CANCELLED,
		base_buf_view(&b));
	base_buf_done(&b);
	base_json_free(doc);
}

/* The state forgets a run that has ended; the views do not. */
static void ask_past(struct engine *e, struct engine_req *q, uint64_t run)
{
	struct base_buf b;

	if (q->op == WIRE_OP_RUN) {
		engine_op_views(e, q);
		return;
	}
	base_buf_init(&b, 64);
	base_buf_printf(&b, "{\"run\":%llu,\"limit\":1}", (unsigned long long)run);
	engine_views_ask_as(e, q, "run", base_buf_view(&b), on_past, q);
	base_buf_done(&b);
}

static void wait_for(struct engine *e, struct engine_req *q, uint64_t run)
{
	q->run = run;
	q->next = base_idmap_get(e->waiters, run);
	BASE_CHECK(base_idmap_put(e->waiters, run, q) == 0);
}

void engine_run_wait(struct engine *e, struct engine_req *q, uint64_t run, uint64_t seconds)
{
	struct core_run_info info;
	struct core_record rec;
	struct base_str value;

	if (!core_run_get(e->core, run, &info)) {
		ask_past(e, q, run);
		return;
	}
	if (info.state == CORE_RUN_ENDED) {
		if (engine_read_blob(e, info.seq_ended, &rec, &value) < 0)
			value = BASE_STR("null");
		reply_ended(e, q, run, info.outcome, value);
		return;
	}
	if (!seconds) {
		reply_going(e, q, run);
		return;
	}
	wait_for(e, q, run);
	engine_timer_add(e, ENGINE_TIMER_WAITER, q->id, (int64_t)(seconds > 3600 ? 3600 : seconds) * 1000);
}

void engine_waiters_check(struct engine *e)
{
	struct core_run_info info;
	size_t cursor = 0;
	uint64_t run;
	void *value;

	while (base_idmap_next(e->waiters, &cursor, &run, &value)) {
		struct engine_req *q = value, *next;

		if (core_run_get(e->core, run, &info))
			continue;
		base_idmap_remove(e->waiters, run);
		cursor = 0;
		for (; q; q = next) {
			next = q->next;
			q->run = 0;
			q->next = NULL;
			engine_reply_problem(e, q, 507, "disk_full",
				"%s: what was begun could not be written and did not happen",
				e->degraded_why);
		}
	}
}

void engine_waiter_due(struct engine *e, uint64_t id)
{
	struct engine_req *q = engine_req_of(e, id);
	uint64_t run = q ? q->run : 0;

	if (!run)
		return;
	engine_waiter_drop(e, q);
	if (engine_still_holds(e, q))
		reply_going(e, q, run);
	else
		engine_reply_unknown(e, q);
}

void engine_run_ended(struct engine *e, const struct core_act *act)
{
	struct engine_req *q = base_idmap_remove(e->waiters, act->run), *next;
	struct base_str value = act->blob.data;
	struct core_record rec;

	if (!q)
		return;
	if (!value.ptr && engine_read_blob(e, act->seq, &rec, &value) < 0)
		value = BASE_STR("null");
	for (; q; q = next) {
		next = q->next;
		q->run = 0;
		q->next = NULL;
		if (!engine_still_holds(e, q)) /* K7 */
			engine_reply_unknown(e, q);
		else if (act->id &&
			 q->op != WIRE_OP_RUN) /* who started it waits for what comes of it in the end */
			wait_for(e, q, act->id);
		else
			reply_ended(e, q, act->run, act->outcome, value);
	}
}

/* --- operations --- */

/* "2026-11-22T14:00:00Z", with an offset or a fraction too (RFC 3339). */
static bool parse_time(struct base_str text, int64_t *ret_ms)
{
	char buf[40];
	struct tm tm = {0};
	const char *at;
	int hours = 0, minutes = 0, n = 0;
	bool minus;

	if (text.len >= sizeof(buf))
		return false;
	memcpy(buf, text.ptr, text.len);
	buf[text.len] = '\0';
	at = strptime(buf, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!at)
		return false;
	if (*at == '.')
		at += 1 + strspn(at + 1, "0123456789");
	minus = *at == '-';
	if (strcmp(at, "Z") != 0 && (strlen(at) != 6 || !strchr("+-", *at) ||
					    sscanf(at + 1, "%2d:%2d%n", &hours, &minutes, &n) != 2 || n != 5))
		return false;
	*ret_ms = ((int64_t)timegm(&tm) - (minus ? -1 : 1) * (hours * 3600 + minutes * 60)) * 1000;
	return true;
}

/* A point in time: milliseconds, RFC 3339, or a duration from now. False: it is there and none of these. */
static bool moment_of(struct base_jv v, int64_t *ret_ms)
{
	int64_t ms;

	switch (base_jv_kind(v)) {
	case BASE_JSON_NONE:
	case BASE_JSON_NULL:
		return true;
	case BASE_JSON_INT:
		*ret_ms = base_jv_int(v, 0);
		return *ret_ms >= 0;
	case BASE_JSON_STR:
		if (base_duration_parse(base_jv_str(v), &ms, NULL) == 0) {
			*ret_ms = engine_wall_ms() + ms;
			return true;
		}
		return parse_time(base_jv_str(v), ret_ms);
	default:
		return false;
	}
}

static bool duration_of(struct base_jv v, int64_t *ret_ms)
{
	if (base_jv_kind(v) == BASE_JSON_NONE || base_jv_kind(v) == BASE_JSON_NULL)
		return true;
	*ret_ms = base_jv_int(v, 0);
	return *ret_ms > 0 || base_duration_parse(base_jv_str(v), ret_ms, NULL) == 0;
}

/* The parameters of a start; false with what is wrong with them in *ret_wrong. */
static bool start_params(
	struct engine_req *q, struct base_jv root, struct base_buf *b, const char **ret_wrong)
{
	struct base_jw w = base_jw_of(b);
	struct base_str customer = base_jv_str(base_jv_get(root, "customer"));
	struct base_jv priority = base_jv_get(root, "priority");
	int64_t delay = base_jv_int(base_jv_get(root, "delay_ms"), 0), begin = 0, timeout = 0;
	bool dry = base_jv_bool(base_jv_get(root, "dry"), false) || engine_param_u64(q, "dry", 0) == 1;

	if (!moment_of(base_jv_get(root, "begin"), &begin)) {
		*ret_wrong = "begin is a time (2026-11-22T14:00:00Z, or milliseconds), or a duration from "
			     "now (2h)";
		return false;
	}
	if (!duration_of(base_jv_get(root, "timeout"), &timeout)) {
		*ret_wrong = "timeout is a duration: milliseconds, or a text such as 90s, 2h, 1d";
		return false;
	}
	if (!customer.len)
		customer = engine_param(q, "customer");
	base_jw_obj(&w);
	base_jw_mbool(&w, "dry", dry);
	if (customer.len)
		base_jw_mstr(&w, "customer", customer);
	if (delay > 0)
		begin = engine_wall_ms() + delay;
	if (begin)
		base_jw_mint(&w, "begin_ms", begin);
	if (timeout)
		base_jw_mint(&w, "timeout_ms", timeout);
	if (base_jv_kind(priority) != BASE_JSON_NONE) {
		base_jw_key(&w, "priority");
		base_jv_write(priority, b);
	}
	base_jw_end_obj(&w);
	return true;
}

static void start_run(struct engine *e, struct engine_req *q, struct core_cmd *cmd)
{
	struct core_reply r;

	if (!engine_req_decide(e, q, cmd, &r))
		return;
	if (engine_param(q, "wait").len) {
		engine_run_wait(e, q, r.id, engine_param_u64(q, "wait", 0));
		return;
	}
	base_buf_printf(&q->headers, "Location: /v1/runs/%llu\n", (unsigned long long)r.id);
	engine_reply(e, q, r.status, r.body);
}

void engine_op_run_start(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_RUN_START, .name = engine_param(q, "flow")};
	struct base_json *doc = engine_body_json(e, q);
	struct base_buf input, params;
	const char *wrong;
	struct base_jv root, v;

	if (!doc)
		return;
	root = base_json_root(doc);
	v = base_jv_get(root, "input");
	base_buf_init(&input, 32 << 20);
	base_buf_init(&params, 1 << 16);
	if (base_jv_kind(root) != BASE_JSON_OBJ) {
		engine_reply_problem(e, q, 400, "invalid", "the body is an object: {\"input\": …}");
	} else if (!start_params(q, root, &params, &wrong)) {
		engine_reply_problem(e, q, 400, "invalid", "%s", wrong);
	} else {
		if (base_jv_kind(v) == BASE_JSON_NONE)
			base_buf_cstr(&input, "{}");
		else
			base_jv_write(v, &input);
		cmd.body = base_buf_view(&input);
		cmd.params = base_buf_view(&params);
		start_run(e, q, &cmd);
	}
	base_buf_done(&input);
	base_buf_done(&params);
	base_json_free(doc);
}

void engine_op_run_value(struct engine *e, struct engine_req *q)
{
	static const char *const states[] = {
		[CORE_DONE] = "done", [CORE_FAILED] = "failed", [CORE_CANCELLED] = "cancelled"};
	uint64_t run = engine_param_u64(q, "run", 0), seq = core_ended_seq(e->core, run);
	union core_event_any ev;
	struct core_record rec;
	struct base_str value;
	struct base_jw w;
	int rc = seq ? engine_read_blob(e, seq, &rec, &value) : -ENOENT;

	if (rc == 0)
		rc = core_event_get(rec.type, rec.body, &ev);
	if (rc < 0 || rec.type != CORE_EV_RUN_ENDED || ev.run_ended.outcome < CORE_DONE ||
		ev.run_ended.outcome > CORE_CANCELLED) {
		engine_reply_problem(e, q, seq ? 500 : 404, seq ? "internal" : "not_ended",
			seq ? "the end of run %llu cannot be read"
			    : "run %llu has not ended, or is not known",
			(unsigned long long)run);
		return;
	}
	base_buf_clear(&q->reply);
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_mint(&w, "run", (int64_t)run);
	base_jw_mcstr(&w, "state", states[ev.run_ended.outcome]);
	base_jw_mraw(&w, ev.run_ended.outcome == CORE_DONE ? "value" : "problem",
		value.len ? value : BASE_STR("null"));
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}

void engine_op_run(struct engine *e, struct engine_req *q)
{
	uint64_t run = engine_param_u64(q, "run", 0);

	if (engine_param(q, "wait").len)
		engine_run_wait(e, q, run, engine_param_u64(q, "wait", 0));
	else
		engine_op_views(e, q);
}

void engine_op_run_cmd(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	struct core_cmd cmd = {.type = q->op == WIRE_OP_RUN_CANCEL     ? CORE_CMD_RUN_CANCEL
				       : q->op == WIRE_OP_RUN_PAUSE    ? CORE_CMD_RUN_PAUSE
				       : q->op == WIRE_OP_RUN_ROLLBACK ? CORE_CMD_RUN_ROLLBACK
								       : CORE_CMD_RUN_RESUME,
		.run = engine_param_u64(q, "run", 0)};
	struct base_jv root;

	if (!doc)
		return;
	root = base_json_root(doc);
	cmd.text = base_jv_str(base_jv_get(root, "reason"));
	if (q->op == WIRE_OP_RUN_ROLLBACK)
		cmd.name = base_jv_str(base_jv_get(root, "to"));
	if (q->op == WIRE_OP_RUN_ROLLBACK && base_jv_bool(base_jv_get(root, "restart"), false))
		cmd.params = BASE_STR("{\"restart\":true}");
	if (q->op == WIRE_OP_RUN_CANCEL && base_jv_bool(base_jv_get(root, "undo"), false))
		cmd.params = BASE_STR("{\"undo\":true}");
	engine_reply_cmd(e, q, &cmd);
	base_json_free(doc);
}

void engine_op_signal(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_SIGNAL,
		.run = engine_param_u64(q, "run", 0),
		.name = engine_param(q, "name")};
	struct base_json *doc = engine_body_json(e, q);
	struct base_buf b;

	if (!doc)
		return;
	base_buf_init(&b, 2 << 20);
	base_jv_write(base_json_root(doc), &b);
	cmd.body = base_buf_view(&b);
	engine_reply_cmd(e, q, &cmd);
	base_buf_done(&b);
	base_json_free(doc);
}

/* Passes the parameters of a request on to a query of aios-views. */
void engine_op_views(struct engine *e, struct engine_req *q)
{
	static const char *const queries[WIRE_OP_COUNT] = {
		[WIRE_OP_RUNS] = "runs",
		[WIRE_OP_RUN] = "run",
		[WIRE_OP_PAGE_RUN] = "run",
		[WIRE_OP_SEARCH] = "search",
		[WIRE_OP_COSTS] = "costs",
		[WIRE_OP_VIEWS_DUMP] = "dump",
		[WIRE_OP_FACT] = "history",
		[WIRE_OP_GATES] = "gates",
		[WIRE_OP_AUDIT] = "audit",
	};
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 1 << 16);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	while (base_jv_next(q->params, &it, &key, &v)) {
		if (base_str_is(key, "wait") || base_str_is(key, "history") || base_str_is(key, "scope"))
			continue;
		base_jw_key_str(
			&w, q->op == WIRE_OP_SEARCH && base_str_is(key, "q") ? BASE_STR("query") : key);
		base_jw_str(&w, base_jv_str(v));
	}
	base_jw_end_obj(&w);
	engine_views_ask_as(e, q, queries[q->op], base_buf_view(&b), engine_reply_ask, q);
	base_buf_done(&b);
}
