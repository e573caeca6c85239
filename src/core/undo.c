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
#include "core/undo_int.h"

/* --- what is left, what was done --- */

void core_undo_put_item(const struct core *c, struct base_jw *w, uint64_t run, uint32_t step, uint32_t action)
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
		core_undo_put_item(t->c, &w, d->run, d->step, d->action);
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
	core_undo_put_item(t->c, &w, failed->run, failed->step, failed->action);
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
		core_undo_put_item(t->c, &w, u->item[k - 1].run, u->item[k - 1].step, u->item[k - 1].action);
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
static void ask(struct core_turn *t, struct core_run *r, const struct core_undo_call *call)
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
	struct core_undo_call call;

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
	call = core_undo_call_of(t, i, base_jv_get(base_json_root(opts), "undo"), end->blob);
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
