/* Checkpoints, and how a rollback begins: children end, what has not left is withdrawn, what may have happened is waited
 * for. What follows stands at the top of undo.c. */
#include "core/undo_int.h"

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
		core_undo_put_item(t->c, &k->w, r->id, i, s->action);
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
		.grants = core_run_limits(t->c, k->run, false, t->arena)};
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
