#include "engine/engine_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/*
 * One command: prefetch, decide, apply.
 *
 * Invariants
 *
 * T1 The events of a decision are applied, in order, before the next command is looked at; the sequence
 * numbers in the pending group are those that the log will give them.
 *
 * T2 What follows from an event inside the house (a result for a flow, a run to load) happens while it is
 * applied; what leaves the house becomes an engine_out (commit.c, C1).
 *
 * T3 Log time never goes back: a command's time is the wall clock's or the last event's, whichever is
 * later.
 *
 * T5 A jump of the wall clock against the boot clock moves no timer and no expiry: time goes on by the boot clock.
 *
 * T6 Who can be admitted after a decision (core_admit_is_due) is, before anything else is decided or committed.
 *
 * T4 Acts never decide: a callback of core_apply only queues and sends.
 */

int64_t engine_clock_follow(struct engine_clock *k, int64_t wall, int64_t boot)
{
	int64_t ahead = wall - boot - k->skew;

	if (!k->set || (ahead <= ENGINE_CLOCK_STEP_MS && ahead >= -ENGINE_CLOCK_STEP_MS)) {
		if (k->jumped)
			engine_note(1, "the wall clock agrees with the boot clock again");
		k->set = true;
		k->jumped = false;
		k->skew = wall - boot;
		return wall;
	}
	if (!k->jumped)
		engine_note(3,
			"the wall clock jumped by %lld s: time goes on by the boot clock until it is set "
			"right, or "
			"aiosd is started again because it was",
			(long long)(ahead / 1000));
	k->jumped = true;
	return boot + k->skew;
}

void engine_random(struct engine *e, void *ret, size_t len)
{
	BASE_CHECK(len <= sizeof(e->entropy));
	if (e->entropy_left < len) {
		engine_entropy(e->entropy, sizeof(e->entropy));
		e->entropy_left = sizeof(e->entropy);
	}
	e->entropy_left -= len;
	memcpy(ret, e->entropy + e->entropy_left, len);
	explicit_bzero(e->entropy + e->entropy_left, len);
}

/* The arena is not emptied between them, and one may read and write a value of 16 MiB. */
enum { ADMIT_MAX = 64, ADMIT_BYTES = 64 << 20 };

/* --- deciding --- */

static int fetch(struct engine *e, struct core_cmd *cmd)
{
	struct core_want wants[CORE_WANTS_MAX];
	size_t n = core_prefetch(e->core, cmd, wants, CORE_WANTS_MAX);
	struct core_fetched *f;

	cmd->fetched = NULL;
	cmd->fetched_count = 0;
	if (!n)
		return 0;
	f = base_arena_array(e->arena, n, sizeof(*f));
	if (!f)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct base_str blob;
		int rc = engine_read_blob(e, wants[i].seq, &f[i].record, &blob);

		f[i].seq = wants[i].seq;
		if (rc == -ENOENT)
			continue;
		if (rc < 0)
			return rc;
		f[i].record.body = base_arena_dup(e->arena, f[i].record.body);
		f[i].record.raw = f[i].record.subject = f[i].record.nonce = BASE_STR_NONE;
		f[i].blob = base_arena_dup(e->arena, blob);
		if (!f[i].record.body.ptr || !f[i].blob.ptr)
			return -ENOMEM;
	}
	cmd->fetched = f;
	cmd->fetched_count = n;
	return 0;
}

static void on_act(void *userdata, const struct core_act *act)
{
	struct engine *e = userdata;

	switch (act->type) {
	case CORE_ACT_RUN_LOAD:
		engine_flows_want(e, act->run, act->mode == 1);
		break;
	case CORE_ACT_RESULT:
		engine_flows_result(e, act);
		break;
	case CORE_ACT_DISPATCH:
		engine_effects_dispatch(e, act);
		break;
	case CORE_ACT_RUN_DROP:
		engine_flows_drop(e, act->run);
		break;
	case CORE_ACT_RUN_ENDED:
		engine_run_ended(e, act);
		break;
	case CORE_ACT_CANCEL:
		engine_effects_cancel(e, act);
		break;
	case CORE_ACT_TELL:
		engine_announce(e, act);
		break;
	case CORE_ACT_SESSIONS:
		engine_stream_check(e);
		break;
	case CORE_ACT_CONFIG:
		e->config_dirty = true;
		break;
	default:
		break;
	}
}

static int group_room(struct engine_group *g)
{
	size_t size = g->size ? g->size * 2 : 1024;
	uint32_t *offs;

	if (g->count < g->size)
		return 0;
	offs = realloc(g->offs, size * sizeof(*offs));
	if (!offs)
		return -ENOMEM;
	g->offs = offs;
	g->size = size;
	return 0;
}

static int group_bodies(struct engine_group *g, const struct core_reply *r)
{
	for (size_t i = 0; i < r->body_count; i++) {
		struct engine_body *b;
		struct base_str have;

		if (engine_group_body(g, &r->bodies[i].hash, &have))
			continue;
		if (g->body_count == g->body_size) {
			size_t size = g->body_size ? g->body_size * 2 : 8;
			struct engine_body *more = realloc(g->bodies, size * sizeof(*more));

			if (!more)
				return -ENOMEM;
			g->bodies = more;
			g->body_size = size;
		}
		b = &g->bodies[g->body_count];
		b->data = malloc(r->bodies[i].data.len + 1);
		if (!b->data)
			return -ENOMEM;
		memcpy(b->data, r->bodies[i].data.ptr, r->bodies[i].data.len);
		b->len = r->bodies[i].data.len;
		g->body_bytes += b->len;
		b->hash = r->bodies[i].hash;
		g->body_count++;
	}
	return 0;
}

/* Applies what stands behind `mark` in the pending group. Memory that cannot be had here ends the process:
 * the log is whole and the next start goes on from it. */
static void apply_new(struct engine *e, size_t mark, const struct core_reply *r)
{
	struct engine_group *g = e->pending;
	struct core_record rec;
	size_t at = mark, before;

	if (at == g->block.len)
		return;
	BASE_CHECK(group_bodies(g, r) == 0);
	if (!g->count)
		g->first_seq = e->seq + 1;
	while (before = at, core_block_next(base_buf_view(&g->block), &at, &rec) == 1) {
		BASE_CHECK(group_room(g) == 0 && before <= UINT32_MAX);
		g->offs[g->count++] = (uint32_t)before;
		g->time_ms = rec.time_ms;
		engine_point("apply");
		core_apply(e->core, ++e->seq, &rec, on_act, e);
		engine_point("applied");
	}
	BASE_CHECK(at == g->block.len);
}

/* T6: what a decision made room for. The reply's views stay: the arena only grows. What is left after so many comes with
 * the next ticks. */
static void admit(struct engine *e, int64_t now_ms)
{
	for (unsigned i = 0;
		i < ADMIT_MAX && base_arena_used(e->arena) < ADMIT_BYTES && core_admit_is_due(e->core); i++) {
		struct core_cmd cmd = {.type = CORE_CMD_TICK, .now_ms = now_ms};
		size_t mark = e->pending->block.len;
		struct core_reply r = {0};

		engine_random(e, cmd.entropy, sizeof(cmd.entropy));
		if (fetch(e, &cmd) < 0 || core_decide(e->core, &cmd, e->arena, &e->pending->block, &r) < 0)
			return;
		apply_new(e, mark, &r);
	}
}

int engine_decide(struct engine *e, struct core_cmd *cmd, struct core_reply *ret)
{
	size_t mark = e->pending->block.len;
	int64_t last = core_time_ms(e->core);
	int rc;

	if (e->degraded)
		return -ENOSPC;
	engine_point("decide");
	base_arena_reset(e->arena);
	cmd->now_ms = engine_wall_ms();
	if (cmd->now_ms < last)
		cmd->now_ms = last;
	engine_random(e, cmd->entropy, sizeof(cmd->entropy));
	rc = fetch(e, cmd);
	if (rc < 0)
		return rc;
	memset(ret, 0, sizeof(*ret));
	rc = core_decide(e->core, cmd, e->arena, &e->pending->block, ret);
	if (rc < 0) {
		BASE_CHECK(e->pending->block.len == mark);
		return rc;
	}
	apply_new(e, mark, ret);
	if (!e->stopping)
		admit(e, cmd->now_ms);
	if (e->config_dirty) {
		e->config_dirty = false;
		engine_config_load(e);
	}
	if (e->pending->count && !e->linger) {
		e->linger = true;
		engine_timer_add(e, ENGINE_TIMER_LINGER, 0, ENGINE_LINGER_MS);
	}
	return 0;
}

void engine_tick(struct engine *e)
{
	int64_t until = engine_mono_ms() + ENGINE_TICKS_MS;
	struct core_reply r;
	unsigned i;

	e->ticking = false;
	for (i = 0; !e->degraded && !e->stopping && core_next_due(e->core) <= engine_wall_ms(); i++) {
		struct core_cmd cmd = {.type = CORE_CMD_TICK};

		/* Large values take their time: workers and clients are heard between them. */
		e->ticking = i == ENGINE_TICKS_MAX || engine_mono_ms() > until;
		if (e->ticking)
			break;
		if (engine_decide(e, &cmd, &r) < 0)
			break;
	}
}

void engine_resume(struct engine *e)
{
	core_resume(e->core, on_act, e);
}
