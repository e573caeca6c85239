/* decide: one command, the events that it gives, the answer to whoever asked. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/check.h"
#include "core/undo_int.h"

struct base_str core_buf_to_arena(struct base_arena *a, struct base_buf *b)
{
	struct base_str s = base_arena_dup(a, base_buf_view(b));

	BASE_CHECK(base_buf_failed(b) == 0 && s.ptr); /* without memory it is not empty: it is not */
	base_buf_done(b);
	return s;
}

/* What a person reads: with every byte escaped it still fits into an event. */
static struct base_str cut_text(struct base_str s)
{
	if (s.len <= CORE_MESSAGE_MAX)
		return s;
	s.len = CORE_MESSAGE_MAX;
	while (s.len && ((unsigned char)s.ptr[s.len] & 0xc0) == 0x80)
		s.len--;
	return s;
}

static struct base_str problem_text(struct base_arena *a, const char *code, const char *fmt, va_list ap)
{
	struct base_buf b, text;
	struct base_jw w;

	base_buf_init(&text, 64 << 20);
	base_buf_vprintf(&text, fmt, ap);
	base_buf_init(&b, CORE_INLINE_MAX);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", code);
	base_jw_mstr(&w, "message", cut_text(base_buf_view(&text)));
	base_jw_end_obj(&w);
	base_buf_done(&text);
	return core_buf_to_arena(a, &b);
}

struct base_str core_problem(struct base_arena *a, const char *code, const char *fmt, ...)
{
	struct base_str s;
	va_list ap;

	va_start(ap, fmt);
	s = problem_text(a, code, fmt, ap);
	va_end(ap);
	return s;
}

void core_refuse(struct core_turn *t, int status, const char *code, const char *fmt, ...)
{
	va_list ap;

	t->reply->status = status;
	va_start(ap, fmt);
	t->reply->body = problem_text(t->arena, code, fmt, ap);
	va_end(ap);
}

void core_reply_json(struct core_turn *t, int status, struct base_str json)
{
	t->reply->status = status;
	t->reply->body = json;
}

struct base_blob core_blob(struct core_turn *t, struct base_str data)
{
	struct base_blob blob = base_blob_of(data);

	if (data.len <= CORE_INLINE_MAX)
		return blob;
	if (t->body_count == t->body_cap) {
		size_t cap = t->body_cap ? t->body_cap * 2 : 4;
		struct core_body *grown = base_arena_array(t->arena, cap, sizeof(*grown));

		BASE_CHECK(grown);
		if (t->body_count)
			memcpy(grown, t->bodies, t->body_count * sizeof(*grown));
		t->bodies = grown;
		t->body_cap = cap;
	}
	blob.data = BASE_STR_NONE;
	blob.hash = base_hash_of(data);
	blob.len = data.len;
	t->bodies[t->body_count++] = (struct core_body){blob.hash, data};
	return blob;
}

uint64_t core_entropy(struct core_turn *t)
{
	return base_prng_next(&t->entropy);
}

uintptr_t core_fingerprint(struct base_str a, struct base_str b)
{
	struct base_hash h = base_hash_of2(a, b);
	uintptr_t v;

	memcpy(&v, h.b, sizeof(v));
	return v | 1;
}

const struct core_fetched *core_fetched_at(const struct core_turn *t, uint64_t seq)
{
	for (size_t i = 0; i < t->cmd->fetched_count; i++)
		if (t->cmd->fetched[i].seq == seq && t->cmd->fetched[i].record.type)
			return &t->cmd->fetched[i];
	return NULL;
}

static void decide_freeze(struct core_turn *t)
{
	if (t->c->frozen) {
		core_reply_json(t, 200, BASE_STR("{\"frozen\":true,\"changed\":false}"));
		return;
	}
	core_frozen_emit(
		t->block, t->cmd->now_ms, &(struct core_frozen){.by = t->cmd->by.id, .reason = t->cmd->text});
	core_reply_json(t, 200, BASE_STR("{\"frozen\":true,\"changed\":true}"));
}

void core_decide_thaw(struct core_turn *t)
{
	if (!t->c->frozen) {
		core_reply_json(t, 200, BASE_STR("{\"frozen\":false,\"changed\":false}"));
		return;
	}
	core_thawed_emit(
		t->block, t->cmd->now_ms, &(struct core_thawed){.by = t->cmd->by.id, .reason = t->cmd->text});
	core_reply_json(t, 200, BASE_STR("{\"frozen\":false,\"changed\":true}"));
}

static void decide_secret(struct core_turn *t)
{
	core_secret_changed_emit(t->block, t->cmd->now_ms,
		&(struct core_secret_changed){.name = t->cmd->name,
			.host = t->cmd->text,
			.removed = t->cmd->base == 1,
			.by = t->cmd->by.id});
	core_reply_json(t, 200, BASE_STR("{}"));
}

/* What the engine has made durable and verified outside of the log's database. */
static void decide_archived(struct core_turn *t)
{
	struct core_log_archived ev = {.hash = t->cmd->hash};
	struct base_json *doc;
	struct base_jv root;

	if (base_json_parse(t->cmd->params, &doc, NULL) < 0) {
		core_refuse(t, 400, "invalid", "parameters are missing");
		return;
	}
	root = base_json_root(doc);
	ev.first_seq = (uint64_t)base_jv_int(base_jv_get(root, "first_seq"), 0);
	ev.last_seq = (uint64_t)base_jv_int(base_jv_get(root, "last_seq"), 0);
	ev.bytes = (uint64_t)base_jv_int(base_jv_get(root, "bytes"), 0);
	ev.file = base_arena_dup(t->arena, base_jv_str(base_jv_get(root, "file")));
	base_json_free(doc);
	if (ev.first_seq != t->c->archived + 1 || ev.last_seq < ev.first_seq || ev.last_seq >= t->c->seq) {
		core_refuse(t, 409, "out_of_order", "the archive goes to event %llu",
			(unsigned long long)t->c->archived);
		return;
	}
	core_log_archived_emit(t->block, t->cmd->now_ms, &ev);
	core_reply_json(t, 200, BASE_STR("{}"));
}

static void decide_denied(struct core_turn *t)
{
	core_access_denied_emit(t->block, t->cmd->now_ms,
		&(struct core_access_denied){.principal = t->cmd->by.id,
			.action = t->cmd->name,
			.object = t->cmd->text,
			.reason = BASE_STR("no grant")});
	core_refuse(t, 403, "denied", "%.*s may not do %.*s: ask the operator for a key with that grant",
		BASE_STR_ARG(t->cmd->by.id), BASE_STR_ARG(t->cmd->name));
}

static void decide_by_type(struct core_turn *t)
{
	static void (*const table[])(struct core_turn *) = {
		[CORE_CMD_START] = core_decide_start,
		[CORE_CMD_TICK] = core_decide_tick,
		[CORE_CMD_DEPLOY] = core_decide_deploy,
		[CORE_CMD_RUN_START] = core_decide_run_start,
		[CORE_CMD_RUN_CANCEL] = core_decide_run_cancel,
		[CORE_CMD_RUN_RESUME] = core_decide_run_resume,
		[CORE_CMD_RUNS_REST] = core_decide_runs_rest,
		[CORE_CMD_RUN_ROLLBACK] = core_decide_rollback,
		[CORE_CMD_FLOW_CALL] = core_decide_flow_call,
		[CORE_CMD_FLOW_DONE] = core_decide_flow_end,
		[CORE_CMD_FLOW_FAILED] = core_decide_flow_end,
		[CORE_CMD_FLOW_CRASHED] = core_decide_flow_crashed,
		[CORE_CMD_EFFECT_RESULT] = core_decide_effect_result,
		[CORE_CMD_GATE_DECIDE] = core_decide_gate,
		[CORE_CMD_SIGNAL] = core_decide_signal,
		[CORE_CMD_FACT_PUT] = core_decide_fact_put,
		[CORE_CMD_DOC_PUT] = core_decide_doc_put,
		[CORE_CMD_OUTCOME] = core_decide_outcome,
		[CORE_CMD_FREEZE] = decide_freeze,
		[CORE_CMD_THAW] = core_decide_thaw,
		[CORE_CMD_KEY_ADD] = core_decide_key,
		[CORE_CMD_KEY_REVOKE] = core_decide_key,
		[CORE_CMD_KEY_ROTATE] = core_decide_key,
		[CORE_CMD_KEYS_USED] = core_decide_key,
		[CORE_CMD_SECRET_NOTE] = decide_secret,
		[CORE_CMD_DENIED] = decide_denied,
		[CORE_CMD_RUN_FORK] = core_decide_run_fork,
		[CORE_CMD_ARCHIVED] = decide_archived,
		[CORE_CMD_RUN_PAUSE] = core_decide_run_pause,
		[CORE_CMD_RUN_MOVE] = core_decide_run_move,
		[CORE_CMD_RUN_PARK] = core_decide_run_park,
		[CORE_CMD_RUN_FORGET] = core_decide_run_forget,
		[CORE_CMD_PUBLISH] = core_decide_publish,
		[CORE_CMD_SCHEDULE_PAUSE] = core_decide_schedule_pause,
		[CORE_CMD_CREDENTIAL] = core_decide_credential,
		[CORE_CMD_CREDENTIAL_USED] = core_decide_credential_used,
		[CORE_CMD_SESSION_OPEN] = core_decide_session_open,
		[CORE_CMD_SESSION_CLOSE] = core_decide_session_close,
		[CORE_CMD_SIGN_IN_FAILED] = core_decide_sign_in_failed,
		[CORE_CMD_CHECKPOINT] = core_decide_log_checkpoint,
		[CORE_CMD_CHECKPOINT_SENT] = core_decide_log_checkpoint_sent,
		[CORE_CMD_SEEN] = core_decide_seen,
		[CORE_CMD_VAULT_STATE] = core_decide_vault_state,
		[CORE_CMD_CANARY] = core_decide_canary,
		[CORE_CMD_GATE_DELEGATE] = core_decide_delegate,
		[CORE_CMD_GATE_REPORT] = core_decide_report,
		[CORE_CMD_PROPOSAL] = core_decide_proposal,
		[CORE_CMD_GUARD_SET] = core_decide_guard,
	};
	unsigned type = t->cmd->type;

	BASE_CHECK(type < sizeof(table) / sizeof(table[0]) && table[type]);
	table[type](t);
}

int core_decide(struct core *c, const struct core_cmd *cmd, struct base_arena *arena, struct base_buf *block,
	struct core_reply *ret)
{
	struct core_reply reply = {.status = 200, .body = BASE_STR("{}")};
	struct core_turn t = {.c = c,
		.cmd = cmd,
		.arena = arena,
		.block = block,
		.reply = &reply,
		.next_run = c->next_run,
		.next_gate = c->next_gate,
		.entropy = base_prng_of(cmd->entropy)};
	size_t before = block->len;

	t.mark = before;

	BASE_CHECK(cmd->now_ms >= c->time_ms);
	decide_by_type(&t);
	if (base_buf_failed(block)) {
		block->len = before;
		block->failed = 0;
		return -ENOMEM;
	}
	reply.bodies = t.bodies;
	reply.body_count = t.body_count;
	*ret = reply;
	return 0;
}
