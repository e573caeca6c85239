#include "engine/sign_in_int.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/*
 * Requests of the doors.
 *
 * Invariants
 *
 * A1 Who asks is decided here from a verified credential (auth.c); what they may do by the core's grants
 * on "api.OPERATION". A refusal is recorded.
 *
 * A2 A reply leaves when everything decided before it is durable (commit.c, C1): what a client was told is
 * in the log.
 *
 * A4 Not more than ENGINE_BUSY_MAX bytes of clients' work wait behind a commit: beyond, it is refused with 429 and
 * Retry-After, and so is a start that the queue of runs has no place for (core/admit.c).
 *
 * A3 A request is answered once; if its client has left, its answer is dropped.
 */

int engine_api_init(struct engine *e)
{
	int rc = base_idmap_new(&e->reqs);

	return rc < 0 ? rc : base_idmap_new(&e->waiters);
}

void engine_req_free(struct engine *e, struct engine_req *q)
{
	if (!q)
		return;
	base_idmap_remove(e->reqs, q->id);
	base_json_free(q->params_doc);
	base_buf_done(&q->headers);
	base_buf_done(&q->reply);
	base_buf_done(&q->kept_body);
	base_json_free(q->scope_doc);
	free(q->by_caveats);
	free(q->state);
	free(q);
}

struct engine_req *engine_req_of(struct engine *e, uint64_t id)
{
	return base_idmap_get(e->reqs, id);
}

/* --- answers --- */

enum { REPLY_SMALL = 64 << 10, DOOR_HIGH = WIRE_OUT_MAX - (16 << 20) };

static void put_problem(struct engine_req *q, int status, const char *code, const char *detail)
{
	struct base_jw w;

	base_buf_clear(&q->reply);
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_mint(&w, "status", status);
	base_jw_mcstr(&w, "code", code);
	base_jw_mcstr(&w, "detail", detail);
	base_jw_end_obj(&w);
	q->status = status;
	q->content_type = "application/problem+json";
}

/* Large answers are on their way to slow readers: one more would not fit into the door's connection. */
static void put_busy(struct engine_req *q)
{
	put_problem(q, 503, "busy", "too many large answers are on their way: try again");
	base_buf_clear(&q->headers);
	base_buf_cstr(&q->headers, "Retry-After: 1\n");
}

static void send_reply(struct engine *e, struct engine_out *o)
{
	struct engine_req *q = (struct engine_req *)o;
	struct base_buf *b = NULL;

	engine_again_answered(e, q);
	if (!q->gone && q->door->generation == q->generation) {
		if (q->door->conn && q->reply.len > REPLY_SMALL &&
			wire_conn_pending(q->door->conn) + q->reply.len > DOOR_HIGH)
			put_busy(q);
		b = engine_proc_begin(e, q->door, WIRE_DOOR_REPLY);
	}
	if (b) {
		wire_door_reply_put(b, &(struct wire_door_reply){.req = q->req,
					       .status = (uint16_t)q->status,
					       .content_type = base_str_of(q->content_type),
					       .headers = base_buf_view(&q->headers),
					       .body = base_buf_view(&q->reply)});
		engine_proc_send(e, q->door);
	}
	engine_req_free(e, q);
}

static void discard_reply(struct engine *e, struct engine_out *o, int code)
{
	struct engine_req *q = (struct engine_req *)o;

	base_buf_clear(&q->headers);
	if (code == -ENOSPC)
		put_problem(q, 507, "disk_full",
			"the disk is full: nothing was done; free some space and try again");
	else
		put_problem(q, 503, "uncertain",
			"the log failed while it was written: look whether it was done before you try again");
	send_reply(e, o);
}

void engine_reply_built(struct engine *e, struct engine_req *q, int status)
{
	if (base_buf_failed(&q->reply)) {
		put_problem(q, 500, "too_large", "the answer is too large");
	} else {
		if (status < 400)
			engine_seen(e, q);
		q->status = status;
		q->content_type = status >= 400 ? "application/problem+json" : "application/json";
	}
	q->out.release = send_reply;
	q->out.discard = discard_reply;
	engine_after_commit(e, &q->out);
}

void engine_reply(struct engine *e, struct engine_req *q, int status, struct base_str json)
{
	base_buf_clear(&q->reply);
	base_buf_str(&q->reply, json);
	engine_reply_built(e, q, status);
}

void engine_reply_problem(
	struct engine *e, struct engine_req *q, int status, const char *code, const char *fmt, ...)
{
	struct base_err err;
	char text[BASE_ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	base_err_set(&err, 0, "%s", text); /* cleans the text */
	put_problem(q, status, code, err.text);
	engine_reply_built(e, q, status);
}

static void reply_errno(struct engine *e, struct engine_req *q, int rc)
{
	if (rc == -ENOSPC)
		engine_reply_problem(e, q, 507, "disk_full",
			"%s: new work is refused until it can be written", e->degraded_why);
	else if (rc == -ENOMEM || rc == -EFBIG)
		engine_reply_problem(e, q, 413, "too_large", "this is more than fits into memory");
	else
		engine_reply_problem(e, q, 500, "internal", "%s", strerror(-rc));
}

/* New work of clients while too much waits for the disk already; what an operator needs to act is always taken. */
static bool is_busy(const struct engine *e, const struct core_cmd *cmd)
{
	switch (cmd->type) {
	case CORE_CMD_RUN_START:
	case CORE_CMD_SIGNAL:
	case CORE_CMD_PUBLISH:
	case CORE_CMD_FACT_PUT:
	case CORE_CMD_DOC_PUT:
	case CORE_CMD_OUTCOME:
		return e->inflight && e->pending->block.len + e->pending->body_bytes > ENGINE_BUSY_MAX;
	default:
		return false;
	}
}

/* Nothing was decided: it need not wait for the commit, which is what is late. */
static void refuse_busy(struct engine *e, struct engine_req *q)
{
	base_buf_printf(&q->headers, "Retry-After: 1\n");
	put_problem(
		q, 429, "busy", "more is to be written than the disk keeps up with: try again in a moment");
	send_reply(e, &q->out);
}

bool engine_req_decide(struct engine *e, struct engine_req *q, struct core_cmd *cmd, struct core_reply *ret)
{
	int rc;

	if (is_busy(e, cmd)) {
		refuse_busy(e, q);
		return false;
	}
	cmd->by = q->by;
	if (!cmd->key.len)
		cmd->key = q->key;
	rc = engine_decide(e, cmd, ret);
	if (rc < 0) {
		reply_errno(e, q, rc);
		return false;
	}
	if (ret->status >= 400 && ret->retry_after_ms)
		base_buf_printf(
			&q->headers, "Retry-After: %lld\n", (long long)(ret->retry_after_ms + 999) / 1000);
	if (ret->status >= 400) {
		engine_reply(e, q, ret->status, ret->body);
		return false;
	}
	return true;
}

void engine_reply_cmd(struct engine *e, struct engine_req *q, struct core_cmd *cmd)
{
	struct core_reply r;

	if (engine_req_decide(e, q, cmd, &r))
		engine_reply(e, q, r.status, r.body.len ? r.body : BASE_STR("{}"));
}

void engine_reply_ask(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_req *q = userdata;
	struct base_json *doc = NULL;
	struct base_str code, message;

	(void)sealed;
	if (status == 1) {
		engine_reply(e, q, 200, value);
		return;
	}
	if (status < 0) {
		engine_reply_problem(
			e, q, 503, "unavailable", "the process that answers this does not; try again");
		return;
	}
	if (base_json_parse(value, &doc, NULL) < 0)
		doc = NULL;
	code = doc ? base_jv_str(base_jv_get(base_json_root(doc), "code")) : BASE_STR_NONE;
	message = doc ? base_jv_str(base_jv_get(base_json_root(doc), "message")) : BASE_STR_NONE;
	engine_reply_problem(e, q,
		base_str_is(code, "not_found") || base_str_starts(code, BASE_STR("unknown")) ? 404 : 422,
		"refused", "%.*s", BASE_STR_ARG(message));
	base_json_free(doc);
}

/* --- parameters --- */

struct base_str engine_param(const struct engine_req *q, const char *name)
{
	return base_jv_str(base_jv_get(q->params, name));
}

uint64_t engine_param_u64(const struct engine_req *q, const char *name, uint64_t otherwise)
{
	uint64_t v;

	return base_str_u64(engine_param(q, name), &v) == 0 ? v : otherwise;
}

struct base_json *engine_body_json(struct engine *e, struct engine_req *q)
{
	struct base_err err;
	struct base_json *doc;

	if (base_json_parse(q->body.len ? q->body : BASE_STR("{}"), &doc, &err) == 0)
		return doc;
	engine_reply_problem(e, q, 400, "invalid", "the body is not JSON: %s", err.text);
	return NULL;
}

/* --- requests --- */

static const engine_op_fn ops[WIRE_OP_COUNT] = {
	[WIRE_OP_HEALTH] = engine_op_health,
	[WIRE_OP_STATUS] = engine_op_status,
	[WIRE_OP_DEPLOY] = engine_op_deploy,
	[WIRE_OP_DEPLOY_CHECK] = engine_op_deploy,
	[WIRE_OP_FLOWS] = engine_op_state,
	[WIRE_OP_FLOW] = engine_op_flow,
	[WIRE_OP_REHEARSE] = engine_op_rehearse,
	[WIRE_OP_BACKTEST] = engine_op_backtest,
	[WIRE_OP_RUN_START] = engine_op_run_start,
	[WIRE_OP_RUNS] = engine_op_views,
	[WIRE_OP_RUN] = engine_op_run,
	[WIRE_OP_RUN_CANCEL] = engine_op_run_cmd,
	[WIRE_OP_RUN_PAUSE] = engine_op_run_cmd,
	[WIRE_OP_RUN_ROLLBACK] = engine_op_run_cmd,
	[WIRE_OP_RUN_RESUME] = engine_op_run_cmd,
	[WIRE_OP_RUN_FORK] = engine_op_run_fork,
	[WIRE_OP_RUN_RESTART] = engine_op_run_fork,
	[WIRE_OP_QUEUE] = engine_op_queue,
	[WIRE_OP_RUN_VALUE] = engine_op_run_value,
	[WIRE_OP_RUN_WHY] = engine_op_run_why,
	[WIRE_OP_CAN] = engine_op_can,
	[WIRE_OP_SIGNAL] = engine_op_signal,
	[WIRE_OP_EVENT_PUBLISH] = engine_op_event_publish,
	[WIRE_OP_SCHEDULES] = engine_op_schedules,
	[WIRE_OP_SCHEDULE] = engine_op_schedules,
	[WIRE_OP_SCHEDULE_PAUSE] = engine_op_schedule_pause,
	[WIRE_OP_SCHEDULE_RESUME] = engine_op_schedule_pause,
	[WIRE_OP_GATES] = engine_op_gates,
	[WIRE_OP_GATE] = engine_op_gate,
	[WIRE_OP_GATE_APPROVE] = engine_op_gate_decide,
	[WIRE_OP_GATE_DENY] = engine_op_gate_decide,
	[WIRE_OP_GATE_SETTLE] = engine_op_gate_decide,
	[WIRE_OP_PROPOSALS] = engine_op_proposals,
	[WIRE_OP_PROPOSAL] = engine_op_proposal,
	[WIRE_OP_PROPOSAL_CLOSE] = engine_op_proposal_close,
	[WIRE_OP_GATES_DECIDE] = engine_op_gates_decide,
	[WIRE_OP_GATE_DELEGATE] = engine_op_gate_delegate,
	[WIRE_OP_LINK_SHOW] = engine_op_link_show,
	[WIRE_OP_LINK_DECIDE] = engine_op_link_decide,
	[WIRE_OP_LINKS_ROTATE] = engine_op_links_rotate,
	[WIRE_OP_FACTS] = engine_op_facts,
	[WIRE_OP_FACT] = engine_op_fact,
	[WIRE_OP_FACT_PUT] = engine_op_fact_put,
	[WIRE_OP_SEARCH] = engine_op_views,
	[WIRE_OP_DOC_PUT] = engine_op_doc_put,
	[WIRE_OP_OUTCOME] = engine_op_outcome,
	[WIRE_OP_COSTS] = engine_op_views,
	[WIRE_OP_BUDGETS] = engine_op_state,
	[WIRE_OP_EVENTS] = engine_op_events,
	[WIRE_OP_FREEZE] = engine_op_freeze,
	[WIRE_OP_THAW] = engine_op_freeze,
	[WIRE_OP_GUARDS] = engine_op_guards,
	[WIRE_OP_GUARD_SET] = engine_op_guard_set,
	[WIRE_OP_KEYS] = engine_op_keys,
	[WIRE_OP_KEY_CREATE] = engine_op_key_create,
	[WIRE_OP_KEY_REVOKE] = engine_op_key_change,
	[WIRE_OP_KEY_ROTATE] = engine_op_key_change,
	[WIRE_OP_VAULT_KEY] = engine_op_vault,
	[WIRE_OP_VAULT_STATUS] = engine_op_vault_state,
	[WIRE_OP_VAULT_UNLOCK] = engine_op_vault_state,
	[WIRE_OP_VAULT_LOCK] = engine_op_vault_state,
	[WIRE_OP_VAULT_REKEY] = engine_op_vault_state,
	[WIRE_OP_SECRET_ROTATE] = engine_op_vault,
	[WIRE_OP_SECRET_CANARY] = engine_op_vault,
	[WIRE_OP_SECRETS] = engine_op_vault,
	[WIRE_OP_SECRET_SET] = engine_op_vault,
	[WIRE_OP_SECRET_REMOVE] = engine_op_vault,
	[WIRE_OP_AUDIT] = engine_op_views,
	[WIRE_OP_AUDIT_EXPORT] = engine_op_audit_export,
	[WIRE_OP_AUDIT_CHECKPOINT] = engine_op_audit_checkpoint,
	[WIRE_OP_AUDIT_VERIFY] = engine_op_audit_verify,
	[WIRE_OP_LOG_ARCHIVE] = engine_op_log_archive,
	[WIRE_OP_LOG_SEARCH] = engine_op_log_search,
	[WIRE_OP_BACKUP] = engine_op_backup,
	[WIRE_OP_BACKUP_STATE] = engine_op_backup,
	[WIRE_OP_RESTORED_RESUME] = engine_op_restored_resume,
	[WIRE_OP_LOG_VERIFY] = engine_op_log_verify,
	[WIRE_OP_VIEWS_REBUILD] = engine_op_views_rebuild,
	[WIRE_OP_VIEWS_DUMP] = engine_op_views,
	[WIRE_OP_SESSION_OPEN] = engine_op_session_open,
	[WIRE_OP_SIGN_IN] = engine_op_sign_in,
	[WIRE_OP_SIGN_IN_PAGE] = engine_op_sign_in_page,
	[WIRE_OP_SIGN_IN_STATE] = engine_op_sign_in_state,
	[WIRE_OP_SESSION_REVOKE] = engine_op_session_revoke,
	[WIRE_OP_CREDENTIAL_REMOVE] = engine_op_credential_remove,
	[WIRE_OP_PASSWORD_SET] = engine_op_password_set,
	[WIRE_OP_TOTP_SET] = engine_op_totp_set,
	[WIRE_OP_PASSKEY_BEGIN] = engine_op_passkey_begin,
	[WIRE_OP_PASSKEY_ADD] = engine_op_passkey_add,
	[WIRE_OP_PASSKEY_CHALLENGE] = engine_op_passkey_challenge,
	[WIRE_OP_PASSKEY_SIGN_IN] = engine_op_passkey_sign_in,
	[WIRE_OP_PAGE_SECURITY] = engine_op_page_security,
	[WIRE_OP_SECURITY_ACT] = engine_op_security_act,
	[WIRE_OP_PAGE_HOME] = engine_op_page,
	[WIRE_OP_PAGE_RUN] = engine_op_views,
	[WIRE_OP_PAGE_GATE] = engine_op_page_gate,
	[WIRE_OP_PAGE_DECIDE] = engine_op_page_decide,
};

engine_op_fn engine_op(enum wire_op op)
{
	return op < WIRE_OP_COUNT ? ops[op] : NULL;
}

void engine_req_deny(struct engine *e, struct engine_req *q, const char *why)
{
	struct core_cmd cmd = {.type = CORE_CMD_DENIED, .by = q->by, .text = base_str_of(q->by_id)};
	struct core_reply r;
	char action[64];

	snprintf(action, sizeof(action), "api.%s", wire_route_of(q->op)->name);
	cmd.name = base_str_of(action);
	if (engine_decide(e, &cmd, &r) < 0)
		engine_note(2, "%s was denied %s; it could not be recorded", q->by_id, action);
	engine_reply_problem(e, q, 403, "denied", "%s may not do %s: %s", q->by_id, action, why);
}

static bool copy_key(struct engine_req *q, struct base_str key)
{
	struct base_hash h;
	char hex[65];
	int n;

	if (!key.len)
		return true;
	/* Whoever narrowed a key is not answered with what the key was answered. */
	h = base_hash_of(q->by.caveats);
	base_hash_hex(&h, hex);
	n = snprintf(q->key_buf, sizeof(q->key_buf), "%s %.*s%s%.16s", q->by_id, BASE_STR_ARG(key),
		q->by.caveats.len ? "~" : "", q->by.caveats.len ? hex : "");
	q->key = (struct base_str){q->key_buf, n > 0 ? (size_t)n : 0};
	return n > 0 && (size_t)n < sizeof(q->key_buf);
}

/* What only the operator does, a key may where a grant names it, and only what stands here: never what would make it the
 * operator (keys, sessions, ways to sign in, the vault, the built-in rules). */
bool engine_req_may(struct engine *e, const struct engine_req *q)
{
	const struct wire_route *route = wire_route_of(q->op);
	struct base_str action;
	char text[64];

	snprintf(text, sizeof(text), "api.%s", route->name);
	action = base_str_of(text);
	if (base_str_is(q->by.id, "operator") || route->auth != WIRE_AUTH_OPERATOR)
		return core_may(e->core, &q->by, action, engine_wall_ms());
	switch (q->op) {
	case WIRE_OP_DEPLOY:
	case WIRE_OP_DEPLOY_CHECK:
	case WIRE_OP_BACKTEST:
	case WIRE_OP_REHEARSE:
	case WIRE_OP_RUN_PAUSE:
	case WIRE_OP_RUN_RESUME:
	case WIRE_OP_PROPOSALS:
	case WIRE_OP_PROPOSAL:
	case WIRE_OP_EVENTS:
	case WIRE_OP_FREEZE:
	case WIRE_OP_THAW:
	case WIRE_OP_VAULT_STATUS:
	case WIRE_OP_LOG_ARCHIVE:
	case WIRE_OP_LOG_SEARCH:
	case WIRE_OP_LOG_VERIFY:
	case WIRE_OP_BACKUP_STATE:
	case WIRE_OP_VIEWS_REBUILD:
	case WIRE_OP_VIEWS_DUMP:
		return core_may_by_name(e->core, &q->by, action, engine_wall_ms());
	default:
		return false;
	}
}

void engine_req_go_on(struct engine *e, struct engine_req *q)
{
	if (!engine_disk_refuses(e, q) && !engine_again(e, q))
		engine_op(q->op)(e, q);
}

static void handle(struct engine *e, struct engine_req *q, const struct wire_door_request *in)
{
	const struct wire_route *route = wire_route_of(q->op);
	int status = engine_authenticate(e, q, in);
	int64_t wait;

	if (route->auth != WIRE_AUTH_NONE && status) {
		engine_reply_unknown(e, q);
		return;
	}
	if (route->auth != WIRE_AUTH_NONE && in->credential == 2) {
		wait = engine_key_wait_ms(e, q->by.id);
		if (wait > 0) {
			base_buf_printf(&q->headers, "Retry-After: %lld\n", (long long)(wait + 999) / 1000);
			put_problem(q, 429, "busy", "too many requests with this key");
			send_reply(e, &q->out);
			return;
		}
	}
	if (route->auth != WIRE_AUTH_NONE && !engine_req_may(e, q)) {
		engine_req_deny(e, q, "it has no grant for it");
		return;
	}
	if (route->auth != WIRE_AUTH_NONE && !engine_scope_load(e, q)) {
		engine_reply_problem(e, q, 500, "internal", "out of memory");
		return;
	}
	/* Without a credential nobody's answer is kept for anybody. */
	if (route->auth != WIRE_AUTH_NONE && !copy_key(q, in->idempotency_key)) {
		engine_reply_problem(e, q, 400, "invalid", "the Idempotency-Key is too long");
		return;
	}
	if (route->auth != WIRE_AUTH_NONE && q->op != WIRE_OP_EVENTS)
		engine_web_rotate(e, q);
	if (in->last_event_id.len)
		q->has_last_event = base_str_u64(in->last_event_id, &q->last_event) == 0;
	q->body = in->body;
	if (engine_scope_check(e, q))
		engine_req_go_on(e, q);
}

/* What a client says of itself goes into the log and before people: printable ASCII. */
static void copy_plain(struct base_str from, char *to, size_t room)
{
	size_t n = from.len < room - 1 ? from.len : room - 1;

	for (size_t i = 0; i < n; i++)
		to[i] = (char)(from.ptr[i] >= 0x20 && from.ptr[i] < 0x7f ? from.ptr[i] : '?');
	to[n] = '\0';
}

static void on_request(struct engine *e, struct engine_proc *p, struct base_str body)
{
	struct wire_door_request in;
	struct engine_req *q;

	if (wire_door_request_get(body, &in) < 0) {
		engine_proc_kill(e, p, "sent a request that does not decode");
		return;
	}
	q = calloc(1, sizeof(*q));
	BASE_CHECK(q);
	q->id = ++e->next_req;
	q->req = in.req;
	q->door = p;
	q->generation = p->generation;
	q->op = wire_op_of(in.op);
	q->credential = in.credential;
	copy_plain(in.host, q->host, sizeof(q->host));
	copy_plain(in.address, q->address, sizeof(q->address));
	copy_plain(in.agent, q->agent, sizeof(q->agent));
	base_buf_init(&q->headers, 1 << 16);
	base_buf_init(&q->reply, 18 << 20);
	BASE_CHECK(base_idmap_put(e->reqs, q->id, q) == 0);
	if (!engine_op(q->op)) {
		engine_reply_problem(e, q, 404, "not_found", "aiosd does not know this operation");
		return;
	}
	if (base_json_parse(in.params.len ? in.params : BASE_STR("{}"), &q->params_doc, NULL) < 0) {
		engine_reply_problem(e, q, 400, "invalid", "the parameters are not JSON");
		return;
	}
	q->params = base_json_root(q->params_doc);
	handle(e, q, &in);
}

static void leave(struct engine *e, const struct engine_proc *p, bool all, uint64_t req)
{
	size_t cursor = 0, n = 0, count = base_idmap_count(e->reqs);
	uint64_t id, *ids = count ? calloc(count, sizeof(*ids)) : NULL;
	void *value;

	BASE_CHECK(ids || !count);
	while (base_idmap_next(e->reqs, &cursor, &id, &value)) {
		struct engine_req *q = value;

		if (q->door == p && (all || q->req == req))
			ids[n++] = id;
	}
	for (size_t i = 0; i < n; i++) {
		struct engine_req *q = engine_req_of(e, ids[i]);

		q->gone = true;
		if (q->run) {
			engine_waiter_drop(e, q);
			engine_req_free(e, q);
		}
	}
	free(ids);
	engine_stream_gone(e, p, all, req);
}

void engine_api_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body)
{
	struct wire_door_gone gone;

	if (type == WIRE_DOOR_REQUEST)
		on_request(e, p, body);
	else if (type == WIRE_DOOR_GONE && wire_door_gone_get(body, &gone) == 0)
		leave(e, p, false, gone.req);
}

void engine_api_down(struct engine *e, struct engine_proc *p)
{
	leave(e, p, true, 0);
}

void engine_api_done(struct engine *e)
{
	uint64_t id;
	void *value;

	for (size_t cursor = 0; e->reqs && base_idmap_next(e->reqs, &cursor, &id, &value); cursor = 0)
		engine_req_free(e, value);
	base_idmap_free(e->reqs);
	base_idmap_free(e->waiters);
	e->reqs = e->waiters = NULL;
}
