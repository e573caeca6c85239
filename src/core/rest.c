/*
 * Runs at rest: their flows have heard everything and asked for everything that they could, so no worker needs them
 * until a step of theirs ends. The engine knows it from a worker, and says it here when it takes runs out of a
 * worker's memory; with it in the log, a start loads only those runs that were under way, however many sleep.
 */
#include <errno.h>

#include "core/core_int.h"

/* runs: ascending ids, each as the distance to the one before. False at the end. */
static bool next_run(struct base_reader *r, uint64_t *id)
{
	uint64_t more = base_get_u64(r);

	*id += more;
	return more > 0 && !r->failed;
}

static bool may_rest(const struct core_run *r)
{
	return r && r->state == CORE_RUN_ACTIVE && !r->rested;
}

void core_decide_runs_rest(struct core_turn *t)
{
	struct base_reader r = base_reader_of(t->cmd->body);
	uint64_t id = 0, last = 0;
	struct base_buf runs;

	base_buf_init(&runs, t->cmd->body.len + 16);
	while (next_run(&r, &id)) {
		if (!may_rest(core_run_find(t->c, id)))
			continue;
		base_put_u64(&runs, id - last);
		last = id;
	}
	if (last)
		core_runs_rested_emit(t->block, t->cmd->now_ms,
			&(struct core_runs_rested){.runs = core_buf_to_arena(t->arena, &runs)});
	base_buf_done(&runs);
}

void core_apply_rested(struct core_apply *a, const struct core_runs_rested *e)
{
	struct base_reader r = base_reader_of(e->runs);
	uint64_t id = 0;

	while (next_run(&r, &id)) {
		struct core_run *run = core_run_find(a->c, id);

		if (may_rest(run))
			run->rested = true;
	}
}

void core_resume(struct core *c, core_act_fn fn, void *userdata)
{
	struct core_apply a = {.c = c, .seq = c->seq, .time_ms = c->time_ms, .fn = fn, .userdata = userdata};
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (base_idmap_next(c->runs, &cursor, &id, &value)) {
		const struct core_run *r = value;

		if (r->state == CORE_RUN_ACTIVE && !r->rested && !(r->flags & CORE_RUN_UNDO))
			core_act(&a, &(struct core_act){
					     .type = CORE_ACT_RUN_LOAD, .run = id, .mode = r->open > 0});
	}
	core_tell_resume(c, fn, userdata);
}
