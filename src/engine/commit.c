#include "engine/engine_int.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"

/*
 * Group commit: on a thread of its own (committer.c), or on the loop's where nothing else is under way.
 *
 * Invariants
 *
 * C1 Nothing leaves the house before the events that it follows from are durable: every dispatch, reply
 * and notification is an engine_out on the group that holds its events, released when log_append has
 * returned 0.
 *
 * C2 Groups are appended in the order of their sequence numbers, one at a time; first_seq = durable + 1.
 *
 * C3 A group that could not be appended is discarded together with everything decided since; nothing of it
 * is released.
 *
 * C4 The loop never touches a group while the committer has it, but to read its block (the tail cache).
 */

enum { INLINE_MAX = 64 << 10 };

int engine_group_append(struct log *log, const struct engine_group *g, struct base_err *err)
{
	struct log_commit commit = {.first_seq = g->first_seq,
		.count = (uint32_t)g->count,
		.time_ms = g->time_ms,
		.block = base_buf_view(&g->block)};
	struct log_body *bodies = g->body_count ? calloc(g->body_count, sizeof(*bodies)) : NULL;
	int rc;

	if (g->body_count && !bodies)
		return -ENOMEM;
	for (size_t i = 0; i < g->body_count; i++)
		bodies[i] = (struct log_body){g->bodies[i].hash, {g->bodies[i].data, g->bodies[i].len}};
	engine_point("append");
	rc = log_append(log, &commit, bodies, g->body_count, err);
	engine_point("appended");
	free(bodies);
	return rc;
}

static void group_reset(struct engine_group *g)
{
	base_buf_clear(&g->block);
	for (size_t i = 0; i < g->body_count; i++)
		free(g->bodies[i].data);
	g->count = g->body_count = g->body_bytes = 0;
	g->first_seq = 0;
	g->outs = NULL;
	g->outs_tail = &g->outs;
	g->time_ms = 0;
}

static struct engine_group *group_new(void)
{
	struct engine_group *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	base_buf_init(&g->block, 512 << 20);
	g->outs_tail = &g->outs;
	return g;
}

static void group_free(struct engine_group *g)
{
	if (!g)
		return;
	group_reset(g);
	base_buf_done(&g->block);
	free(g->bodies);
	free(g->offs);
	free(g);
}

static void discard(struct engine *e, struct engine_group *g, int code)
{
	struct engine_out *o = g->outs, *next;

	g->outs = NULL;
	g->outs_tail = &g->outs;
	for (; o; o = next) {
		next = o->next;
		o->discard(e, o, code);
	}
}

void engine_committed(struct engine *e)
{
	struct engine_group *g = e->inflight;
	struct engine_out *o, *next;
	struct base_err err = {0};
	int rc;

	if (!engine_committer_take(e, &rc, &err))
		return;
	BASE_CHECK(g);
	if (rc < 0) {
		discard(e, g, rc);
		discard(e, e->pending, rc);
		group_reset(g);
		group_reset(e->pending);
		e->inflight = NULL;
		if (e->spare)
			group_free(g);
		else
			e->spare = g;
		engine_degrade(e, rc, err.text);
		return;
	}
	e->durable = g->first_seq + g->count - 1;
	engine_keep_committed(e, g);
	e->inflight = NULL;
	/* The next commit runs while this one's outputs go out. */
	e->spare = e->spare ? e->spare : group_new();
	if (e->spare)
		engine_commit_start(e, false);
	o = g->outs;
	g->outs = NULL;
	engine_point("committed");
	for (; o; o = next) {
		next = o->next;
		engine_point("release");
		o->release(e, o);
		engine_point("released");
	}
	engine_views_committed(e, g);
	engine_fold_check(e, false);
	group_reset(g);
	if (e->spare)
		group_free(g);
	else
		e->spare = g;
	engine_commit_start(e, false);
}

void engine_commit_start(struct engine *e, bool force)
{
	struct engine_group *g = e->pending;

	if (e->inflight || !g->count || e->degraded ||
		(!force && !g->outs && g->block.len < ENGINE_GROUP_MAX))
		return;
	if (!e->spare)
		e->spare = group_new();
	if (!e->spare)
		return;
	e->inflight = g;
	e->pending = e->spare;
	e->spare = NULL;
	engine_point("commit");
	engine_committer_give(e, g);
}

/* True when nothing is under way inside the house: then nobody is kept waiting by a commit on this thread,
 * and two changes of thread are saved. */
static bool is_quiet(const struct engine *e)
{
	if (e->inflight || e->degraded || engine_effects_count(e) || e->pending->block.len > INLINE_MAX)
		return false;
	for (size_t i = 0; i < e->proc_count; i++)
		if (e->procs[i].worker.ring_count)
			return false;
	return true;
}

void engine_commit_inline(struct engine *e)
{
	struct engine_group *g = e->pending;

	if (!g->count || !g->outs || !is_quiet(e) || (!e->spare && !(e->spare = group_new())) ||
		!engine_committer_reserve(e, g))
		return;
	e->inflight = g;
	e->pending = e->spare;
	e->spare = NULL;
	engine_committer_run(e, g);
	engine_committed(e);
}

void engine_after_commit(struct engine *e, struct engine_out *o)
{
	struct engine_group *g = e->pending->count ? e->pending : e->inflight;

	o->next = NULL;
	if (!g) {
		o->release(e, o);
		return;
	}
	*g->outs_tail = o;
	g->outs_tail = &o->next;
}

bool engine_all_durable(const struct engine *e)
{
	return !e->inflight && !e->pending->count;
}

void engine_commit_one(struct engine *e)
{
	engine_committer_wait(e);
	engine_committed(e);
}

void engine_commit_wait(struct engine *e)
{
	while (!e->degraded && !engine_all_durable(e)) {
		engine_commit_start(e, true);
		engine_commit_one(e);
	}
}

int engine_commit_init(struct engine *e, struct base_err *err)
{
	e->pending = group_new();
	e->spare = group_new();
	if (!e->pending || !e->spare)
		return base_err_set(err, -ENOMEM, "out of memory");
	return engine_committer_start(e, err);
}

void engine_commit_done(struct engine *e)
{
	engine_committer_stop(e);
	if (e->inflight)
		discard(e, e->inflight, -ECANCELED);
	if (e->pending)
		discard(e, e->pending, -ECANCELED);
	group_free(e->inflight);
	group_free(e->pending);
	group_free(e->spare);
	e->inflight = e->pending = e->spare = NULL;
}
