/*
 * Forks: a new run that takes the first steps of another over, as they were recorded there, and goes its own way from
 * then on. A restart is a fork of the same input and version that ends the other.
 *
 * Invariants:
 *  K1  A step is taken over only if it ended in the other run; taken steps stand in front of all others, and their
 *      positions lie before the fork's own start (seq < seq_started). Nothing of them is done again.
 *  K2  A taken step answers whatever the flow asks, if only the action is the same: with another input or version its
 *      arguments are others. Its hash in the state is zero. But for a question to a person (gate.ask), which keeps it:
 *      who approved something approved what was shown, and nothing else.
 *  K3  A fork shares the other's chances and clock up to the last step taken over, but not its salt: effects that it
 *      asks for have new keys.
 */
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

struct fork {
	const struct core_run *open; /* the other, if the state knows it */
	struct core_run_started was;
	int64_t clock_ms;
	struct base_str input; /* the other's */
	struct core_start start;
	bool restart;
};

bool core_step_is(
	const struct core *c, const struct core_step *s, struct base_str action, struct base_str args)
{
	static const uint8_t any[CORE_HASH_SHORT];
	struct base_hash h;

	if (!base_str_eq(c->action_names[s->action], action))
		return false;
	if (memcmp(s->hash, any, sizeof(any)) == 0)
		return true;
	h = base_hash_of(args);
	return memcmp(s->hash, h.b, CORE_HASH_SHORT) == 0;
}

/* --- what is taken over --- */

static struct base_hash bound_to(const struct core *c, struct base_str action, const uint8_t *args_hash)
{
	const struct core_action *a = core_action_find(c, action);
	struct base_hash h = {.b = {0}};

	if (a && a->handler == CORE_H_GATE_ASK) /* K2 */
		memcpy(h.b, args_hash, CORE_HASH_SHORT);
	return h;
}

static bool emit_taken_of_state(
	struct core_turn *t, const struct core_run *r, uint64_t run, struct base_buf *block)
{
	for (uint32_t i = 0; i < t->cmd->step; i++) {
		const struct core_step *s = &r->step[i];

		/* With the run, or when it is taken back, ends what it waited for: that is no end of the step's own. */
		if (s->status < CORE_STEP_DONE || core_step_end(s) == core_run_extra(r)->seq_ended ||
			core_step_end(s) == core_run_extra(r)->seq_stopped) {
			core_refuse(t, 409, "step_open",
				"step %u of run %llu has not ended: a fork takes over at most the steps "
				"before it",
				i, (unsigned long long)r->id);
			return false;
		}
		core_step_taken_emit(block, t->cmd->now_ms,
			&(struct core_step_taken){.run = run,
				.step = i,
				.status = s->status,
				.klass = s->klass,
				.action = t->c->action_names[s->action],
				.args_hash = bound_to(t->c, t->c->action_names[s->action], s->hash),
				.seq = s->seq,
				.seq_end = core_step_end(s),
				.labels = s->labels});
	}
	return true;
}

/* The same of a run that the state has forgotten: the engine has read its records and gives them as a block. */
static bool emit_taken_of_block(struct core_turn *t, uint64_t run, struct base_buf *block)
{
	struct core_record rec;
	struct core_step_taken ev;
	size_t at = 0;
	uint32_t n = 0;

	while (n < t->cmd->step && core_block_next(t->cmd->bytes, &at, &rec) == 1) {
		if (rec.type != CORE_EV_STEP_TAKEN || core_step_taken_get(rec.body, &ev) < 0 ||
			ev.step != n || (ev.status != CORE_STEP_DONE && ev.status != CORE_STEP_FAILED))
			break;
		ev.run = run;
		ev.args_hash = bound_to(t->c, ev.action, ev.args_hash.b);
		core_step_taken_emit(block, t->cmd->now_ms, &ev);
		n++;
	}
	if (n == t->cmd->step)
		return true;
	core_refuse(t, 409, "step_open",
		"step %u of run %llu cannot be taken over: it did not end, or there is no such step", n,
		(unsigned long long)t->cmd->run);
	return false;
}

/* --- with which input and version --- */

static bool find_source(struct core_turn *t, struct fork *f)
{
	const struct core_cmd *cmd = t->cmd;
	uint64_t seq;
	const struct core_fetched *got;
	bool was = cmd->run && cmd->run < t->c->next_run;

	f->open = core_run_find(t->c, cmd->run);
	seq = f->open ? f->open->seq_started : (uint64_t)cmd->base;
	got = core_fetched_at(t, seq);
	if (!got || got->record.type != CORE_EV_RUN_STARTED ||
		core_run_started_get(got->record.body, &f->was) < 0 || f->was.run != cmd->run) {
		core_refuse(t, was ? 409 : 404, was ? "unreadable" : "unknown_run",
			was ? "the journal of run %llu cannot be read" : "there is no run %llu",
			(unsigned long long)cmd->run);
		return false;
	}
	if (f->was.flags & CORE_RUN_UNDO) {
		core_refuse(t, 422, "invalid", "run %llu undoes the steps of another: it cannot be forked",
			(unsigned long long)cmd->run);
		return false;
	}
	f->input = got->blob;
	f->clock_ms = f->was.clock_ms ? f->was.clock_ms : got->record.time_ms;
	if (f->open && cmd->step > f->open->steps) {
		core_refuse(t, 422, "invalid", "run %llu has %u steps: it cannot be forked from step %u",
			(unsigned long long)cmd->run, f->open->steps, cmd->step);
		return false;
	}
	return true;
}

static bool choose_version(struct core_turn *t, struct fork *f, struct base_str wanted)
{
	struct base_hash h = f->open && f->open->version ? f->open->version->hash : f->was.version,
			 zero = {.b = {0}};
	const struct core_version *v;

	if (f->was.agent.len) {
		f->start.agent = base_names_get(t->c->agents, f->was.agent);
		if (f->start.agent && !wanted.len)
			return true;
		core_refuse(t, 422, "invalid", "an agent's run is forked as the agent is now: %.*s%s",
			BASE_STR_ARG(f->was.agent), wanted.len ? "" : " is not deployed any more");
		return false;
	}
	if (!base_hash_eq(&t->cmd->hash, &zero)) /* the one that an ended run was on at last */
		h = t->cmd->hash;
	f->start.flow = base_names_get(t->c->flows, f->was.flow);
	if (f->start.flow && base_str_is(wanted, "current"))
		h = f->start.flow->current->hash;
	else if (wanted.len && base_hash_from_hex(wanted, &h) < 0)
		h = zero;
	v = base_names_get(t->c->versions, (struct base_str){(const char *)h.b, sizeof(h.b)});
	if (!f->start.flow || !v || !base_str_eq(v->flow, f->start.flow->name)) {
		core_refuse(t, 422, "unknown_version",
			"flow %.*s has no such version: \"current\", or a whole hash",
			BASE_STR_ARG(f->was.flow));
		return false;
	}
	f->start.version = v;
	return true;
}

/* The other's input with some members replaced. */
static struct base_str merged(struct core_turn *t, struct base_jv from, struct base_jv set)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	while (base_jv_next(from, &it, &key, &v)) {
		if (base_jv_kind(base_jv_get_str(set, key)) != BASE_JSON_NONE)
			continue;
		base_jw_key_str(&w, key);
		base_jw_value(&w, v);
	}
	it = (struct base_jv_iter){0};
	while (base_jv_next(set, &it, &key, &v)) {
		base_jw_key_str(&w, key);
		base_jw_value(&w, v);
	}
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

static bool choose_input(struct core_turn *t, struct fork *f, struct base_jv set)
{
	struct base_str text = t->cmd->body.len ? t->cmd->body : f->input;
	const struct base_schema *schema = f->start.version ? f->start.version->input : NULL;
	struct base_json *doc;
	struct base_buf canon;
	struct base_err err;
	int r;

	if (base_json_parse(text, &doc, &err) < 0) {
		core_refuse(t, 400, "invalid", "input: %s", err.text);
		return false;
	}
	if (base_jv_len(set) && base_jv_kind(base_json_root(doc)) != BASE_JSON_OBJ) {
		base_json_free(doc);
		core_refuse(t, 422, "invalid", "the input is no object: no member of it can be set");
		return false;
	}
	if (base_jv_len(set))
		text = merged(t, base_json_root(doc), set);
	base_json_free(doc);
	base_buf_init(&canon, 32 << 20);
	r = base_json_canon(text, &canon, &err);
	if (r == 0)
		r = base_json_parse(base_buf_view(&canon), &doc, &err);
	if (r == 0 && schema)
		r = base_schema_check(schema, base_json_root(doc), &err);
	if (r < 0) {
		core_refuse(t, 422, "invalid", "input: %s", err.text);
		base_buf_done(&canon);
		return false;
	}
	base_json_free(doc);
	f->start.input = core_buf_to_arena(t->arena, &canon);
	return true;
}

/* --- the command --- */

static bool read_params(struct core_turn *t, struct fork *f)
{
	struct base_json *params = NULL;
	struct base_str wanted;
	struct base_err err;
	struct base_jv root;
	bool ok;

	if (base_json_parse(t->cmd->params.len ? t->cmd->params : BASE_STR("{}"), &params, &err) < 0) {
		core_refuse(t, 400, "invalid", "parameters: %s", err.text);
		return false;
	}
	root = base_json_root(params);
	wanted = base_jv_str(base_jv_get(root, "version"));
	f->restart = base_jv_bool(base_jv_get(root, "restart"), false);
	ok = choose_version(t, f, wanted) && choose_input(t, f, base_jv_get(root, "set"));
	base_json_free(params);
	return ok;
}

/* A restart ends the other first, if that is still open. */
static bool end_source(struct core_turn *t, const struct fork *f)
{
	const struct core_run *r = f->open, *parent;

	if (!f->restart || !r || r->state == CORE_RUN_ENDED)
		return true;
	if (r->state == CORE_RUN_UNDOING &&
		t->cmd->type == CORE_CMD_TICK) /* its rollback is over, and ends it */
		return true;
	if (r->state == CORE_RUN_UNDOING) {
		core_refuse(t, 409, "rolling_back",
			"run %llu is being rolled back: wait for its end, or cancel it",
			(unsigned long long)r->id);
		return false;
	}
	parent = core_run_parent(t->c, r);
	if (parent && parent->state != CORE_RUN_ENDED) {
		core_refuse(t, 409, "waited_for",
			"run %llu waits for run %llu: restart that from the step that called it, or fork "
			"this one",
			(unsigned long long)parent->id, (unsigned long long)r->id);
		return false;
	}
	core_cancel(t, r,
		core_problem(t->arena, "cancelled", "restarted from step %u by %.*s%s%.*s", t->cmd->step,
			BASE_STR_ARG(t->cmd->by.id), t->cmd->text.len ? ": " : "",
			BASE_STR_ARG(t->cmd->text)));
	return true;
}

static void fill_start(struct core_turn *t, struct fork *f)
{
	f->start.by = t->cmd->by.id;
	f->start.cause = f->open;
	f->start.customer = f->was.customer;
	f->start.limits = f->was.grants;
	f->start.labels = (uint8_t)(f->was.labels | core_caller_labels(t->c, t->cmd->by.id));
	f->start.dry = (f->was.flags & CORE_RUN_DRY) != 0;
	f->start.fork = (struct core_fork){.run = t->cmd->run,
		.steps = t->cmd->step,
		.seed = f->was.seed,
		.clock_ms = t->cmd->step ? f->clock_ms : 0};
	if (t->cmd->key.len)
		f->start.key =
			core_start_key(t->arena, t->cmd->by.id, f->was.flow, f->start.dry, t->cmd->key);
}

struct base_hash core_fork_hash(
	const struct base_hash *input, uint64_t run, uint32_t steps, const struct base_hash *version)
{
	char text[12 + sizeof(version->b)];

	if (!run)
		return *input;
	for (int i = 0; i < 8; i++)
		text[i] = (char)(run >> (8 * i) & 0xff);
	for (int i = 0; i < 4; i++)
		text[8 + i] = (char)(steps >> (8 * i) & 0xff);
	memcpy(text + 12, version->b, sizeof(version->b));
	return base_hash_of2((struct base_str){(const char *)input->b, sizeof(input->b)},
		(struct base_str){text, sizeof(text)});
}

static void reply_fork(struct core_turn *t, int status, uint64_t run, bool known)
{
	t->reply->id = run;
	core_reply_json(t, status,
		base_arena_printf(t->arena, "{\"run\":%llu,\"existing\":%s,\"forked_from\":%llu,\"from\":%u}",
			(unsigned long long)run, known ? "true" : "false", (unsigned long long)t->cmd->run,
			t->cmd->step));
}

/* True when this key is known; then the reply is written. */
static bool known_by_key(struct core_turn *t, const struct fork *f)
{
	const struct core_key *k = f->start.key.len ? base_names_get(t->c->keys, f->start.key) : NULL;
	struct base_hash input = base_hash_of(f->start.input), h;

	if (!k)
		return false;
	h = core_fork_hash(&input, t->cmd->run, t->cmd->step,
		f->start.agent ? &f->start.agent->version : &f->start.version->hash);
	if (core_key_is(k, &h))
		reply_fork(t, 200, k->run, true);
	else
		core_refuse(t, 409, "key_reused",
			"run %llu was started with this key and something else: use a new key for a new run",
			(unsigned long long)k->run);
	return true;
}

void core_decide_run_fork(struct core_turn *t)
{
	uint64_t run = t->next_run;
	struct base_str problem;
	struct base_buf taken;
	struct fork f = {0};
	int status;
	bool ok;

	if (t->cmd->key.len > CORE_NAME_MAX || t->cmd->step > CORE_STEPS_MAX) {
		core_refuse(t, 400, "invalid", "a key has at most %d bytes, a run %d steps", CORE_NAME_MAX,
			CORE_STEPS_MAX);
		return;
	}
	if (!find_source(t, &f) || !read_params(t, &f))
		return;
	fill_start(t, &f);
	if (known_by_key(t, &f))
		return;
	/* A restart takes the place of the one that it ends: it waits where others would be refused. */
	if (!core_start_check(t, &f.start, &problem, &status) && !f.restart) {
		core_reply_json(t, status, problem);
		return;
	}
	base_buf_init(&taken, 64 << 20);
	ok = f.open ? emit_taken_of_state(t, f.open, run, &taken) : emit_taken_of_block(t, run, &taken);
	if (ok && base_buf_failed(&taken)) {
		core_refuse(t, 413, "too_large", "too many steps are taken over at once");
		ok = false;
	}
	if (ok && end_source(t, &f)) {
		BASE_CHECK(core_emit_run_started(t, &f.start) == run);
		base_buf_str(t->block, base_buf_view(&taken));
		reply_fork(t, 201, run, false);
	}
	base_buf_done(&taken);
}

/* --- into the state --- */

void core_apply_taken(struct core_apply *a, const struct core_step_taken *e)
{
	struct core_run *r = core_run_find(a->c, e->run);
	struct core_step *s;

	BASE_CHECK(r && e->step == r->steps && e->seq_end >= e->seq && e->seq && e->seq_end < r->seq_started);
	s = core_step_new(a->c, r);
	s->seq = e->seq;
	s->seq_end = e->seq_end;
	s->status = e->status;
	s->klass = e->klass;
	s->labels = e->labels;
	s->action = core_action_intern(a->c, e->action);
	memcpy(s->hash, e->args_hash.b, sizeof(s->hash));
	r->labels |= e->labels;
}
