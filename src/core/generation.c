/*
 * Generations: a run that lives for years ends again and again, and its next generation begins with what it must know
 * (ctx.again). The state of the one that ended is gone, as that of every ended run.
 *
 *  G1  In one decision the next generation starts and the one before ends: there is always exactly one of them open.
 *  G2  The start key, the step that waits for the run, its lane, its buffered signals and its labels go over. Its time limit
 *      begins anew; its undo list and checkpoints begin empty (what could be undone passes to the run that waits).
 */
#include <string.h>

#include "base/check.h"
#include "core/undo_int.h"

static struct base_str state_of(struct core_turn *t, const struct core_call *call)
{
	struct base_buf b;

	base_buf_init(&b, 32 << 20);
	base_jv_write(base_jv_get(call->args, "state"), &b);
	return core_buf_to_arena(t->arena, &b);
}

static bool may_go_on(struct core_turn *t, const struct core_call *call)
{
	const struct core_flow *flow = call->run->flow;
	const struct core_undo *u = core_undo_find(t->c, call->run->id);
	struct base_err err;

	if (!flow || !flow->current)
		core_emit_called_failed(
			t, call, core_problem(t->arena, "invalid", "only the run of a flow has generations"));
	else if (u && u->rollback)
		core_emit_called_failed(t, call,
			core_problem(t->arena, "rolling_back", "run %llu is being rolled back by run %llu",
				(unsigned long long)call->run->id, (unsigned long long)u->rollback));
	else if (flow->current->input &&
		 base_schema_check(flow->current->input, base_jv_get(call->args, "state"), &err) < 0)
		core_emit_called_failed(t, call,
			core_problem(t->arena, "invalid", "the state is the next input of %.*s: %s",
				BASE_STR_ARG(flow->name), err.text));
	else
		return true;
	return false;
}

void core_decide_again(struct core_turn *t, const struct core_call *call)
{
	const struct core_run *r = call->run;
	const struct core_run_extra *x = core_run_extra(r);
	const struct core_deadline *d = core_deadline_of(r, UINT32_MAX);
	struct core_start s = {.flow = r->flow,
		.previous = r,
		.parent = core_run_parent(t->c, r),
		.parent_step = x->parent_step,
		.by = core_word_text(r->by),
		.origin = core_word_text(r->origin),
		.key = r->key ? r->key->name : BASE_STR_NONE,
		.customer = x->customer,
		.shed = x->shed,
		.dry = (r->flags & CORE_RUN_DRY) != 0,
		.timeout_ms = d ? d->when_ms - r->started_ms : 0,
		.priority = x->priority,
		.has_priority = true,
		.lane = core_lane_key(r),
		.limits = core_run_limits(t->c, r, false, t->arena),
		.checked = true};

	if (!may_go_on(t, call))
		return;
	s.input = state_of(t, call);
	core_emit_called_done(
		t, call, base_arena_printf(t->arena, "{\"run\":%llu}", (unsigned long long)t->next_run));
	core_end_children(
		t, r, core_problem(t->arena, "cancelled", "the generation that waited for it has ended"));
	(void)core_emit_run_started(t, &s);
	core_run_ended_emit(t->block, t->cmd->now_ms,
		&(struct core_run_ended){.run = r->id,
			.outcome = CORE_DONE,
			.value = base_blob_of(BASE_STR("null")),
			.labels = r->labels,
			.by = core_word_text(r->as),
			.next = t->next_run - 1});
}

void core_generation_started(struct core_apply *a, struct core_run *r, const struct core_run_started *e)
{
	struct core_run *before = core_run_find(a->c, e->previous);
	struct core_run_extra *x = core_run_extend(a->c, r);

	BASE_CHECK(before && before->state == CORE_RUN_ACTIVE);
	x->generation = e->generation;
	r->labels |= before->labels;
	r->key = before->key;
	before->key = NULL;
	if (r->key)
		r->key->run = r->id;
	if (!before->extra)
		return;
	x->signals = before->extra->signals;
	before->extra->signals = NULL;
}
