/*
 * Undo: a step can have beside it the call that takes it back. A rollback is a run of its own (flow "aios:undo",
 * without JavaScript) whose steps are those calls, the last begun first, each judged, held, retried and asked about
 * like any other. It acts as the run whose steps they are; the approval that let the original pass does not let its
 * undo pass.
 *
 *   rollback_started ──► waits for what is not settled in the range (in flight, in doubt)
 *                             │ nothing left to wait for
 *                             ▼
 *              ┌──────── due: last item? ──── none ──► run_ended (done); the flow goes on, or its run ends: rolled_back
 *              │              │
 *              │        step_called … step_done ──► step_undone(done) ───┐
 *              │              └────── step_failed ─► step_undone(failed) │ run_parked, a gate lists what is left
 *              │                                          │              │
 *              ├── approve, retry: run_resumed ◄──────────┤              │
 *              ├── skip: step_undone(cancelled) ◄─────────┤              │
 *              └──────────────────────────────────────────┼──────────────┘
 *                       give_up, deny: run_ended (failed), what is left goes back to the run's list
 *
 * The invariants U1 to U4 stand in apply_undo.c.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "core/undo_int.h"

/* --- the form --- */

static bool has_hole(struct base_jv v)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv child;

	if (base_jv_kind(v) != BASE_JSON_OBJ && base_jv_kind(v) != BASE_JSON_ARR)
		return false;
	while (base_jv_next(v, &it, &key, &child))
		if ((base_jv_kind(v) == BASE_JSON_OBJ && base_str_is(key, "$result")) || has_hole(child))
			return true;
	return false;
}

/* What an undo may be: a call to the outside, of memory, or of another flow; nothing that waits or rolls back. */
static bool may_undo(const struct core_action *a)
{
	switch (a->handler) {
	case CORE_H_NONE:
	case CORE_H_MEMORY_PUT:
	case CORE_H_MEMORY_FORGET:
	case CORE_H_MEMORY_DOCUMENT:
	case CORE_H_RUN_START:
	case CORE_H_RUN_CALL:
	case CORE_H_AGENT_RUN:
	case CORE_H_OUTCOME:
	case CORE_H_EVENT_PUBLISH:
	case CORE_H_LOG:
		return true;
	default:
		return false;
	}
}

int core_undo_read(const struct core *c, struct base_jv opts, bool *ret_has, struct base_err *err)
{
	struct base_jv undo = base_jv_get(opts, "undo"), args = base_jv_get(undo, "args"), v;
	struct base_str name = base_jv_str(base_jv_get(undo, "action")), key;
	const struct core_action *a = core_action_find(c, name);
	struct base_jv_iter it = {0};
	struct base_err why;

	*ret_has = false;
	if (base_jv_kind(undo) == BASE_JSON_NONE || base_jv_kind(undo) == BASE_JSON_NULL)
		return 0;
	if (base_jv_kind(undo) != BASE_JSON_OBJ)
		return base_err_set(err, -EINVAL, "undo is null or {action, args, retry}");
	while (base_jv_next(undo, &it, &key, &v))
		if (!base_str_is(key, "action") && !base_str_is(key, "args") && !base_str_is(key, "retry"))
			return base_err_set(err, -EINVAL, "undo has action, args and retry, not %.*s",
				(int)(key.len < 64 ? key.len : 64), key.ptr);
	if (!a)
		return base_err_set(err, -EINVAL, "undo: there is no action %.*s",
			(int)(name.len < 128 ? name.len : 128), name.ptr ? name.ptr : "");
	if (!may_undo(a))
		return base_err_set(err, -EINVAL, "undo: %.*s takes nothing back", BASE_STR_ARG(name));
	if (base_jv_kind(args) != BASE_JSON_OBJ && base_jv_kind(args) != BASE_JSON_NONE)
		return base_err_set(err, -EINVAL, "undo: args is an object");
	if (base_jv_kind(args) == BASE_JSON_OBJ && !has_hole(args) &&
		base_schema_check(a->schema, args, &why) < 0)
		return base_err_set(err, -EINVAL, "undo: %.*s: %s", BASE_STR_ARG(name), why.text);
	*ret_has = true;
	return 0;
}

/* --- the call, filled in from the result --- */

/* RFC 6901; a value of kind NONE where there is nothing. */
static struct base_jv pointed(struct base_jv v, struct base_str pointer, struct base_arena *arena)
{
	while (pointer.len && pointer.ptr[0] == '/') {
		struct base_str head, rest;
		char *name;
		size_t n = 0;
		uint64_t index;

		(void)base_str_cut(base_str_sub(pointer, 1, pointer.len), '/', &head, &rest);
		name = base_arena_alloc(arena, head.len + 1);
		BASE_CHECK(name);
		for (size_t i = 0; i < head.len; i++) {
			bool escaped = head.ptr[i] == '~' && i + 1 < head.len;

			name[n++] = (char)(!escaped ? head.ptr[i] : head.ptr[++i] == '1' ? '/' : '~');
		}
		if (base_jv_kind(v) == BASE_JSON_ARR && base_str_u64(head, &index) == 0)
			v = base_jv_at(v, index);
		else
			v = base_jv_get_str(v, (struct base_str){name, n});
		pointer = (struct base_str){pointer.ptr + 1 + head.len, pointer.len - 1 - head.len};
	}
	return v;
}

struct filling {
	struct base_jw w;
	struct base_jv result;
	struct base_arena *arena;
	struct base_str missing; /* pointer that leads nowhere */
	bool failed;
};

static void fill(struct filling *f, struct base_jv v)
{
	struct base_jv_iter it = {0};
	struct base_str key, pointer = base_jv_str(base_jv_get(v, "$result"));
	enum base_json_kind kind = base_jv_kind(v);
	struct base_jv child;

	if (kind == BASE_JSON_OBJ && base_jv_len(v) == 1 &&
		base_jv_kind(base_jv_get(v, "$result")) == BASE_JSON_STR) {
		child = pointed(f->result, pointer, f->arena);
		if (base_jv_kind(child) == BASE_JSON_NONE) {
			f->failed = true;
			f->missing = base_arena_dup(f->arena, pointer);
			base_jw_null(&f->w);
		} else {
			base_jw_value(&f->w, child);
		}
	} else if (kind == BASE_JSON_OBJ) {
		base_jw_obj(&f->w);
		while (base_jv_next(v, &it, &key, &child)) {
			base_jw_key_str(&f->w, key);
			fill(f, child);
		}
		base_jw_end_obj(&f->w);
	} else if (kind == BASE_JSON_ARR) {
		base_jw_arr(&f->w);
		while (base_jv_next(v, &it, &key, &child))
			fill(f, child);
		base_jw_end_arr(&f->w);
	} else {
		base_jw_value(&f->w, v);
	}
}

struct undo_call {
	struct base_str action, args, opts;
	struct base_str problem; /* not empty: it cannot be asked for */
};

static struct base_str opts_of(struct core_turn *t, struct base_jv undo, struct base_str customer)
{
	struct base_jv retry = base_jv_get(undo, "retry");
	struct base_buf b;
	struct base_jw w;

	if (!customer.len && base_jv_kind(retry) == BASE_JSON_NONE)
		return BASE_STR_NONE;
	base_buf_init(&b, 1 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	if (customer.len)
		base_jw_mstr(&w, "customer", customer);
	if (base_jv_kind(retry) != BASE_JSON_NONE) {
		base_jw_key(&w, "retry");
		base_jw_value(&w, retry);
	}
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

/* `result`: JSON, or empty when it cannot be read. */
static struct undo_call call_of(
	struct core_turn *t, const struct core_undoable *i, struct base_jv undo, struct base_str result)
{
	struct base_jv args = base_jv_get(undo, "args");
	struct filling f = {.arena = t->arena};
	struct undo_call call = {.action = base_arena_dup(t->arena, base_jv_str(base_jv_get(undo, "action"))),
		.args = BASE_STR("{}"),
		.opts = opts_of(t, undo, i->customer)};
	struct base_json *doc = NULL;
	struct base_buf text, canon;
	struct base_err err;

	if (base_jv_kind(args) != BASE_JSON_OBJ)
		return call;
	if (base_json_parse(result, &doc, NULL) == 0)
		f.result = base_json_root(doc);
	base_buf_init(&text, 32 << 20);
	base_buf_init(&canon, 32 << 20);
	f.w = base_jw_of(&text);
	fill(&f, args);
	if (f.failed)
		call.problem = core_problem(t->arena, "invalid",
			"the result of step %u of run %llu has nothing at \"%.*s\", which its undo needs",
			i->step, (unsigned long long)i->run, BASE_STR_ARG(f.missing));
	else if (base_json_canon(base_buf_view(&text), &canon, &err) < 0)
		call.problem = core_problem(t->arena, "invalid", "the arguments of the undo: %s", err.text);
	if (!call.problem.len)
		call.args = base_arena_dup(t->arena, base_buf_view(&canon));
	base_buf_done(&text);
	base_buf_done(&canon);
	base_json_free(doc);
	return call;
}

/* --- what is left, what was done --- */

static void put_item(const struct core *c, struct base_jw *w, uint64_t run, uint32_t step, uint32_t action)
{
	base_jw_mint(w, "run", (int64_t)run);
	base_jw_mint(w, "step", step);
	base_jw_mstr(w, "action", c->action_names[action]);
}

static struct base_str outcomes_of(struct core_turn *t, const struct core_run *r, const struct core_undo *u)
{
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_arr(&w);
	for (uint32_t k = 0; k < u->work->done_count; k++) {
		const struct core_undone *d = &u->work->done[k];

		base_jw_obj(&w);
		put_item(t->c, &w, d->run, d->step, d->action);
		base_jw_mcstr(&w, "outcome", d->outcome == CORE_DONE ? "undone" : "given_up");
		base_jw_mstr(&w, "undo", t->c->action_names[r->step[d->undo_step].action]);
		base_jw_mint(&w, "undo_run", (int64_t)r->id);
		base_jw_mint(&w, "undo_step", d->undo_step);
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	return core_buf_to_arena(t->arena, &b);
}

static uint32_t count_done(const struct core_rollback *w, uint8_t outcome)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->done_count; i++)
		n += w->done[i].outcome == outcome;
	return n;
}

/* How far it came, for whoever waits for the run. */
static struct base_str summary(
	struct core_turn *t, const struct core_run *u_run, const char *code, uint64_t restarted)
{
	const struct core_undo *u = core_undo_find(t->c, u_run->id);
	const struct core_rollback *k = u->work;
	struct base_buf b, text;
	struct base_jw w;

	base_buf_init(&text, 16 << 20);
	base_buf_printf(&text, "rolled back%s%.*s by %.*s%s%.*s", k->name.len ? " to " : "",
		BASE_STR_ARG(k->name), BASE_STR_ARG(k->by), k->reason.len ? ": " : "",
		BASE_STR_ARG(k->reason));
	base_buf_printf(&text, " (%u undone", count_done(k, CORE_DONE));
	if (count_done(k, CORE_CANCELLED))
		base_buf_printf(&text, ", %u given up", count_done(k, CORE_CANCELLED));
	if (u->count)
		base_buf_printf(&text, ", %u left as they are", u->count);
	base_buf_char(&text, ')');
	if (restarted)
		base_buf_printf(&text, "; run %llu goes on from there", (unsigned long long)restarted);
	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", code);
	base_jw_mstr(&w, "message", base_buf_view(&text));
	base_jw_mint(&w, "undo", (int64_t)u_run->id);
	base_jw_mint(&w, "undone", count_done(k, CORE_DONE));
	base_jw_mint(&w, "given_up", count_done(k, CORE_CANCELLED));
	base_jw_mint(&w, "left", u->count);
	if (restarted)
		base_jw_mint(&w, "restarted_as", (int64_t)restarted);
	base_jw_end_obj(&w);
	base_buf_done(&text);
	return core_buf_to_arena(t->arena, &b);
}

static struct base_str left_of(struct core_turn *t, const struct core_undo *u,
	const struct core_undoable *failed, const struct core_run *r, uint32_t step, struct base_str problem)
{
	struct base_str action = step < r->steps ? t->c->action_names[r->step[step].action] : t->cmd->name;
	struct base_json *doc = NULL;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_key(&w, "failed");
	base_jw_obj(&w);
	put_item(t->c, &w, failed->run, failed->step, failed->action);
	base_jw_mstr(&w, "undo", action);
	if (base_json_parse(problem, &doc, NULL) == 0)
		base_jw_mraw(&w, "problem", problem);
	else
		base_jw_mstr(&w, "problem", problem);
	base_json_free(doc);
	base_jw_end_obj(&w);
	base_jw_key(&w, "left");
	base_jw_arr(&w);
	for (uint32_t k = u->count; k > 0 && u->count - k < CORE_UNDO_SHOWN_MAX; k--) {
		base_jw_obj(&w);
		put_item(t->c, &w, u->item[k - 1].run, u->item[k - 1].step, u->item[k - 1].action);
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	base_jw_mint(&w, "left_count", u->count);
	base_jw_mint(&w, "undone", count_done(u->work, CORE_DONE));
	base_jw_mcstr(&w, "choices",
		"approve: try this undo again; skip: leave this step as it is and go on; deny: leave all "
		"that is left");
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

static void park(struct core_turn *t, const struct core_run *r, const struct core_undoable *failed,
	struct base_str show)
{
	struct core_gate_open g = {.run = r->id,
		.step = CORE_STEP_NONE,
		.kind = "undo",
		.show = show,
		.rule = BASE_STR("an undo failed")};

	g.title = base_arena_printf(t->arena, "The undo of step %u (%.*s) of run %llu failed: what now?",
		failed->step, BASE_STR_ARG(t->c->action_names[failed->action]),
		(unsigned long long)failed->run);
	core_run_parked_emit(t->block, t->cmd->now_ms,
		&(struct core_run_parked){.run = r->id, .why = BASE_STR("undo"), .detail = show});
	(void)core_emit_gate(t, &g);
}

void core_undo_settle(struct core_turn *t, uint64_t run, uint32_t step, bool ok, struct base_str problem)
{
	const struct core_run *r = core_run_find(t->c, run);
	const struct core_undo *u, *owner;
	const struct core_undoable *i;
	uint8_t outcome;
	bool doubt;

	if (!core_run_is_undo(r))
		return;
	u = core_undo_find(t->c, run);
	owner = u->work->current ? core_undo_owner(t->c, u->work->current) : u;
	i = u->work->current ? (owner ? core_undo_item(owner, u->work->current) : NULL)
			     : &u->item[u->count - 1];
	if (!i) /* nobody will undo it again */
		return;
	/* Nobody knows whether it happened, and nobody is there to be asked again: it must not be tried by another. */
	doubt = r->state == CORE_RUN_ENDED && step < r->steps && r->step[step].status == CORE_STEP_DOUBT;
	outcome = ok ? CORE_DONE : doubt ? CORE_CANCELLED : CORE_FAILED;
	core_step_undone_emit(t->block, t->cmd->now_ms,
		&(struct core_step_undone){.run = u->work->target,
			.seq = i->seq,
			.undo = run,
			.undo_step = step,
			.outcome = outcome,
			.of_run = i->run,
			.of_step = i->step});
	if (outcome == CORE_FAILED && r->state == CORE_RUN_ACTIVE)
		park(t, r, i, left_of(t, u, i, r, step, problem));
}

/* --- an undo run moves --- */

size_t core_undo_wants(const struct core *c, const struct core_run *r, uint64_t ret[3])
{
	const struct core_undo *u = core_undo_find(c, r->id);
	const struct core_undoable *i = u->count ? &u->item[u->count - 1] : NULL;
	struct base_str customer;

	if (!i && u->work->then == CORE_THEN_RESTARTS && core_run_find(c, u->work->target)) {
		ret[0] = core_run_find(c, u->work->target)->seq_started;
		return 1;
	}
	if (!i)
		return 0;
	customer = i->customer.len ? i->customer : core_run_extra(r)->customer;
	ret[0] = i->seq;
	ret[1] = i->seq_end;
	ret[2] = core_customer_seq(c, customer);
	return ret[2] ? 3 : 2;
}

/* A call in the name of the undo run, as if a flow had asked for it. */
static void ask(struct core_turn *t, struct core_run *r, const struct undo_call *call)
{
	const struct core_cmd *saved = t->cmd;
	struct core_cmd cmd = *saved;

	cmd.type = CORE_CMD_FLOW_CALL;
	cmd.run = r->id;
	cmd.step = r->steps;
	cmd.name = call->action;
	cmd.body = call->args;
	cmd.params = call->opts;
	t->cmd = &cmd;
	if (call->problem.len || (r->flags & CORE_RUN_DRY)) {
		struct core_call step = {.run = r,
			.step = r->steps,
			.action = core_action_find(t->c, call->action),
			.args_text = call->args,
			.opts_text = call->opts,
			.args_hash = base_hash_of(call->args)};

		if (r->flags & CORE_RUN_DRY) /* its results are not there to be filled in */
			core_emit_called_done(t, &step, BASE_STR("{\"dry\":true}"));
		else
			core_emit_called_failed(t, &step, call->problem);
	} else {
		core_decide_new_step(t, r);
	}
	t->cmd = saved;
}

void core_undo_tick(struct core_turn *t, struct core_run *r)
{
	const struct core_undo *u = core_undo_find(t->c, r->id);
	const struct core_undoable *i = u->count ? &u->item[u->count - 1] : NULL;
	const struct core_fetched *f = i ? core_fetched_at(t, i->seq) : NULL,
				  *end = i ? core_fetched_at(t, i->seq_end) : NULL;
	struct core_step_called was;
	struct base_json *opts = NULL;
	struct undo_call call;

	if (!i) {
		core_undo_end(t, r, CORE_DONE, outcomes_of(t, r, u));
		return;
	}
	if (r->steps >= CORE_STEPS_MAX) {
		core_undo_end(t, r, CORE_FAILED,
			core_problem(t->arena, "too_many",
				"more than %d undos in one rollback: roll back again", CORE_STEPS_MAX));
		return;
	}
	if (!f || !end || core_step_called_get(f->record.body, &was) < 0 ||
		base_json_parse(was.opts, &opts, NULL) < 0) {
		park(t, r, i,
			left_of(t, u, i, r, r->steps, BASE_STR("its record in the log cannot be read now")));
		return;
	}
	call = call_of(t, i, base_jv_get(base_json_root(opts), "undo"), end->blob);
	base_json_free(opts);
	ask(t, r, &call);
}

/* Ends r as the one who asked for the rollback. */
static void end_as(struct core_turn *t, const struct core_run *r, struct base_str by,
	enum core_outcome outcome, struct base_str value)
{
	const struct core_cmd *saved = t->cmd;
	struct core_cmd cmd = *saved;

	cmd.by.id = by;
	t->cmd = &cmd;
	core_end_run(t, r, outcome, value, true);
	t->cmd = saved;
}

/* A new run takes over what is before the checkpoint and goes on. 0: it could not be begun. */
static uint64_t restart(struct core_turn *t, const struct core_run *target, const struct core_rollback *k)
{
	const struct core_cmd *saved = t->cmd;
	struct core_cmd cmd = *saved;

	cmd.run = target->id;
	cmd.step = k->to;
	cmd.by.id = k->by;
	cmd.text = k->reason;
	cmd.params = BASE_STR("{\"restart\":true}");
	t->cmd = &cmd;
	core_decide_run_fork(t);
	t->cmd = saved;
	return t->reply->status == 201 ? t->reply->id : 0;
}

void core_undo_end(
	struct core_turn *t, const struct core_run *r, enum core_outcome outcome, struct base_str value)
{
	const struct core_rollback *k = core_undo_find(t->c, r->id)->work;
	const struct core_run *target = core_run_find(t->c, k->target);
	uint64_t restarted = 0;

	if (outcome == CORE_CANCELLED)
		core_end_tree(t, r, outcome, value);
	else
		core_end_run(t, r, outcome, value, outcome != CORE_DONE);
	if (!k->then || !target || target->state != CORE_RUN_UNDOING)
		return;
	if (k->then == CORE_THEN_RESTARTS && outcome == CORE_DONE)
		restarted = restart(t, target, k);
	end_as(t, target, k->by, CORE_CANCELLED, summary(t, r, "rolled_back", restarted));
}

void core_undo_answer(
	struct core_turn *t, const struct core_run *r, struct base_str answer, struct base_str by)
{
	const struct core_undo *u = core_undo_find(t->c, r->id);
	const struct core_undoable *i = &u->item[u->count - 1];

	if (base_str_is(answer, "give_up") || base_str_is(answer, "deny") || base_str_is(answer, "expired")) {
		core_undo_end(t, r, CORE_FAILED, summary(t, r, "undo_given_up", 0));
		return;
	}
	if (base_str_is(answer, "skip"))
		core_step_undone_emit(t->block, t->cmd->now_ms,
			&(struct core_step_undone){.run = u->work->target,
				.seq = i->seq,
				.undo = r->id,
				.undo_step = r->steps ? r->steps - 1 : 0,
				.outcome = CORE_CANCELLED,
				.of_run = i->run,
				.of_step = i->step});
	core_run_resumed_emit(t->block, t->cmd->now_ms, &(struct core_run_resumed){.run = r->id, .by = by});
}

/* --- checkpoints --- */

static const struct core_checkpoint *checkpoint_of(const struct core_undo *u, struct base_str name)
{
	for (uint32_t i = 0; u && i < u->checkpoints; i++)
		if (base_str_eq(u->checkpoint[i].name, name))
			return &u->checkpoint[i];
	return NULL;
}

void core_decide_checkpoint(struct core_turn *t, const struct core_call *call)
{
	const struct core_undo *u = core_undo_find(t->c, call->run->id);
	struct base_str name = base_jv_str(base_jv_get(call->args, "name"));

	if (u && u->checkpoints >= CORE_CHECKPOINTS_MAX && !checkpoint_of(u, name))
		core_emit_called_failed(t, call,
			core_problem(t->arena, "too_many",
				"a run has at most %d checkpoints: use a name again, it then stands where it "
				"was made last",
				CORE_CHECKPOINTS_MAX));
	else
		core_emit_called_done(t, call, BASE_STR("null"));
}

/* --- a rollback begins --- */

struct rollback {
	const struct core_run *run;
	uint64_t from_seq;
	uint32_t to, step;
	uint8_t then;
	struct base_str name, by, reason;
	struct base_buf waits; /* JSON of what must be settled first */
	struct base_jw w;
	uint32_t held;
};

/* What was asked for since and has not left does not leave; children end first, the last of a line first. */
static void withdraw(struct core_turn *t, struct rollback *k)
{
	struct base_str problem = core_problem(t->arena, "rolled_back", "its run was rolled back%s%.*s",
		k->name.len ? " to " : "", BASE_STR_ARG(k->name));
	uint32_t i = k->run->steps;
	struct core_open *o;

	while ((o = core_open_before(k->run, &i)) != NULL) {
		const struct core_step *s = &k->run->step[i];
		const struct core_run *child = core_open_child(t->c, o);

		if (!k->then && s->seq <= k->from_seq)
			return; /* all before it began earlier */
		if (child && child->state != CORE_RUN_ENDED)
			core_cancel(t, child, problem);
		else if (!k->then && o->effect && !o->effect->uncertain &&
			 (s->status == CORE_STEP_GATED || s->status == CORE_STEP_HELD))
			core_emit_step_failed(t, k->run->id, o->step, problem, 0);
	}
}

/* Steps with an undo that may have happened, of the run and of those that it waits for. */
static void find_held(struct core_turn *t, struct rollback *k, const struct core_run *r, unsigned depth)
{
	uint32_t i = r->steps;
	struct core_open *o;

	while ((o = core_open_before(r, &i)) != NULL) {
		const struct core_step *s = &r->step[i];
		const struct core_run *child = core_open_child(t->c, o);

		if (s->seq <= k->from_seq)
			return;
		if (child && depth < CORE_DEPTH_MAX)
			find_held(t, k, child, depth + 1);
		if (!o->effect || !core_undo_counts(t->c, r, s) ||
			!(s->status == CORE_STEP_SENT || s->status == CORE_STEP_DOUBT ||
				o->effect->uncertain))
			continue;
		base_jw_obj(&k->w);
		put_item(t->c, &k->w, r->id, i, s->action);
		if (o->gate)
			base_jw_mint(&k->w, "gate", (int64_t)o->gate);
		base_jw_end_obj(&k->w);
		k->held++;
	}
}

static struct base_str undo_context(struct core_turn *t, const struct core_run *r, uint64_t run)
{
	return base_arena_printf(t->arena, "{\"id\":%llu,\"flow\":\"aios:undo\",\"parent\":%llu,\"dry\":%s}",
		(unsigned long long)run, (unsigned long long)r->id,
		r->flags & CORE_RUN_DRY ? "true" : "false");
}

static struct base_str limits_of(struct core_turn *t, const struct core_run *r)
{
	const struct core_run_extra *x = core_run_extra(r);
	struct base_buf b;
	struct base_jw w;

	if (!x->limit_count)
		return BASE_STR_NONE;
	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_arr(&w);
	for (uint32_t i = 0; i < x->limit_count; i++) {
		base_jw_arr(&w);
		for (uint32_t k = 0; k < x->limits[i].count; k++)
			base_jw_str(&w, x->limits[i].item[k]);
		base_jw_end_arr(&w);
	}
	base_jw_end_arr(&w);
	return core_buf_to_arena(t->arena, &b);
}

/* It takes no place in a lane and waits in no queue: what it takes back is there already. */
static uint64_t start_undo(struct core_turn *t, const struct rollback *k)
{
	const struct core_run_extra *x = core_run_extra(k->run);
	struct base_str input = base_arena_printf(t->arena, "{\"run\":%llu}", (unsigned long long)k->run->id);
	struct core_run_started ev = {.run = t->next_run++,
		.flow = BASE_STR("aios:undo"),
		.parent = k->run->id,
		.parent_step = k->step,
		.as = core_word_text(k->run->as),
		.by = k->by,
		.origin = core_word_text(k->run->origin),
		.input = core_blob(t, input),
		.input_hash = base_hash_of(input),
		.flags = (uint8_t)(CORE_RUN_UNDO | (k->run->flags & CORE_RUN_DRY) |
				   core_restored_flags(k->run)),
		.customer = x->customer,
		.agent = core_word_text(x->agent),
		.grants = limits_of(t, k->run)};
	uint64_t seed[4];

	for (int i = 0; i < 4; i++)
		seed[i] = core_entropy(t);
	ev.seed = (struct base_str){(const char *)seed, sizeof(seed)};
	ev.context = undo_context(t, k->run, ev.run);
	core_run_started_emit(t->block, t->cmd->now_ms, &ev);
	return ev.run;
}

/* Returns the undo run. */
static uint64_t begin(struct core_turn *t, struct rollback *k)
{
	uint64_t undo;

	base_buf_init(&k->waits, 64 << 20);
	k->w = base_jw_of(&k->waits);
	base_jw_arr(&k->w);
	find_held(t, k, k->run, 0);
	base_jw_end_arr(&k->w);
	withdraw(t, k);
	undo = start_undo(t, k);
	core_rollback_started_emit(t->block, t->cmd->now_ms,
		&(struct core_rollback_started){.run = k->run->id,
			.step = k->step,
			.to = k->to,
			.name = k->name,
			.undo = undo,
			.then = k->then,
			.by = k->by,
			.reason = k->reason});
	if (k->held) {
		struct base_str text = base_arena_printf(t->arena,
			"Waits: what may have happened must be settled before anything is undone: %.*s",
			(int)(k->waits.len < 2000 ? k->waits.len : 2000), k->waits.ptr);

		core_run_logged_emit(t->block, t->cmd->now_ms,
			&(struct core_run_logged){.run = undo, .level = BASE_STR("warning"), .text = text});
	}
	return undo;
}

/* False: there is no such checkpoint. */
static bool find_target(struct core_turn *t, struct rollback *k)
{
	const struct core_checkpoint *p = checkpoint_of(core_undo_find(t->c, k->run->id), k->name);

	if (!k->name.len)
		return true;
	if (!p)
		return false;
	k->from_seq = p->seq;
	k->to = p->step + 1;
	return true;
}

void core_decide_rollback_call(struct core_turn *t, const struct core_call *call)
{
	const struct core_undo *u = core_undo_find(t->c, call->run->id);
	struct rollback k = {.run = call->run,
		.step = call->step,
		.name = base_jv_str(base_jv_get(call->args, "to")),
		.by = core_word_text(call->run->as)};

	if (u && u->rollback) {
		core_emit_called_failed(t, call,
			core_problem(t->arena, "rolling_back",
				"run %llu is being rolled back already by run %llu",
				(unsigned long long)call->run->id, (unsigned long long)u->rollback));
		return;
	}
	if (!find_target(t, &k)) {
		core_emit_called_failed(t, call,
			core_problem(t->arena, "unknown_checkpoint", "run %llu has no checkpoint %.*s",
				(unsigned long long)call->run->id, BASE_STR_ARG(k.name)));
		return;
	}
	core_emit_called_waiting(t, call, 0, 0);
	(void)begin(t, &k);
	base_buf_done(&k.waits);
}

static bool may_roll_back(struct core_turn *t, const struct core_run *r)
{
	const struct core_undo *u = core_undo_find(t->c, t->cmd->run);
	unsigned long long id = t->cmd->run;

	if (!r || r->state == CORE_RUN_ENDED) {
		bool was = r || (id && id < t->c->next_run);

		core_refuse(t, was ? 409 : 404, "not_active",
			was ? "run %llu has ended already" : "there is no run %llu", id);
	} else if (core_run_is_undo(r)) {
		core_refuse(t, 409, "not_active", "run %llu is a rollback itself: cancel stops it", id);
	} else if (u && u->rollback) {
		core_refuse(t, 409, "rolling_back", "run %llu is being rolled back already by run %llu", id,
			(unsigned long long)u->rollback);
	} else if (r->state != CORE_RUN_ACTIVE && r->state != CORE_RUN_PARKED &&
		   r->state != CORE_RUN_PAUSED) {
		core_refuse(t, 409, "not_active",
			"run %llu has not begun: there is nothing to undo; cancel it", id);
	} else {
		return true;
	}
	return false;
}

/* A restart takes over every step before the checkpoint: each must have ended, and nobody may wait for the run. */
static bool may_restart(struct core_turn *t, const struct rollback *k)
{
	const struct core_run *parent = core_run_parent(t->c, k->run);

	if (parent && parent->state != CORE_RUN_ENDED) {
		core_refuse(t, 409, "waited_for", "run %llu waits for run %llu: roll that one back",
			(unsigned long long)parent->id, (unsigned long long)k->run->id);
		return false;
	}
	for (uint32_t i = 0; i < k->to; i++) {
		if (!core_step_open(&k->run->step[i]))
			continue;
		core_refuse(t, 409, "step_open",
			"step %u of run %llu began before the checkpoint and has not ended: it cannot be "
			"restarted from "
			"there",
			i, (unsigned long long)k->run->id);
		return false;
	}
	return true;
}

static bool wants(const struct core_cmd *cmd, const char *what)
{
	struct base_json *doc;
	bool is;

	if (!cmd->params.len || base_json_parse(cmd->params, &doc, NULL) < 0)
		return false;
	is = base_jv_bool(base_jv_get(base_json_root(doc), what), false);
	base_json_free(doc);
	return is;
}

void core_decide_rollback(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	const struct core_run *r = core_run_find(t->c, cmd->run);
	struct rollback k = {.run = r,
		.step = CORE_STEP_NONE,
		.then = CORE_THEN_ENDS,
		.by = cmd->by.id,
		.name = cmd->type == CORE_CMD_RUN_ROLLBACK ? cmd->name : BASE_STR_NONE,
		.reason = cmd->text};
	uint64_t undo;

	if (!may_roll_back(t, r))
		return;
	if (!find_target(t, &k)) {
		core_refuse(t, 404, "unknown_checkpoint", "run %llu has no checkpoint %.*s",
			(unsigned long long)r->id, BASE_STR_ARG(k.name));
		return;
	}
	if (wants(cmd, "restart")) {
		k.then = CORE_THEN_RESTARTS;
		if (!may_restart(t, &k))
			return;
	}
	undo = begin(t, &k);
	t->reply->id = undo;
	core_reply_json(t, 202,
		base_arena_printf(t->arena, "{\"run\":%llu,\"undo\":%llu,\"waits_for\":%.*s}",
			(unsigned long long)r->id, (unsigned long long)undo, (int)k.waits.len, k.waits.ptr));
	base_buf_done(&k.waits);
}
