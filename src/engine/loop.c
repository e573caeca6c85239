#include "engine/sign_in_int.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/near.h"

/*
 * The loop: everything waits in one place (world.c); nothing polls, so an idle aiosd is not woken at all.
 *
 * engine_wait → frames in (decide, apply, queue) → timers → loads → a commit if somebody waits → flush sockets
 */

void engine_timer_add(struct engine *e, enum engine_timer kind, uint64_t id, int64_t in_ms)
{
	BASE_CHECK(base_heap_push(e->timers,
			   (struct base_heap_item){
				   .when = e->mono + (in_ms > 0 ? in_ms : 0), .id = id, .kind = kind}) == 0);
}

static void timer_due(struct engine *e, const struct base_heap_item *t)
{
	switch ((enum engine_timer)t->kind) {
	case ENGINE_TIMER_LINGER:
		e->linger = false;
		engine_commit_start(e, true);
		break;
	case ENGINE_TIMER_RESPAWN:
		engine_respawn_due(e, t->id);
		break;
	case ENGINE_TIMER_WATCHDOG:
		engine_worker_watchdog(e, t->id);
		break;
	case ENGINE_TIMER_EVICT:
		engine_flows_evict(e);
		break;
	case ENGINE_TIMER_CALLS:
		engine_effects_sweep(e);
		break;
	case ENGINE_TIMER_ASK:
		engine_ask_timeout(e, t->id);
		break;
	case ENGINE_TIMER_ONCE:
		engine_ask_hung(e, t->id);
		break;
	case ENGINE_TIMER_WAITER:
		engine_waiter_due(e, t->id);
		break;
	case ENGINE_TIMER_PARSE:
		engine_parse_idle(e);
		break;
	case ENGINE_TIMER_STOP:
		e->quit = true;
		break;
	case ENGINE_TIMER_DEGRADED:
		engine_degraded_retry(e);
		break;
	case ENGINE_TIMER_VIEWS:
		engine_views_due(e);
		break;
	case ENGINE_TIMER_TRIAL:
		engine_trials_timer(e, t->id);
		break;
	case ENGINE_TIMER_KEEP:
		engine_keep_due(e, t->id);
		break;
	case ENGINE_TIMER_TELL:
		engine_announce_due(e, t->id);
		break;
	case ENGINE_TIMER_ANCHOR:
		engine_anchor_due(e);
		break;
	case ENGINE_TIMER_SEEN:
		engine_seen_due(e);
		break;
	case ENGINE_TIMER_SNAPSHOT:
		engine_fold_check(e, true);
		break;
	}
}

static void run_timers(struct engine *e)
{
	struct base_heap_item t;

	while (base_heap_peek(e->timers, &t) && t.when <= e->mono) {
		base_heap_pop(e->timers, &t);
		timer_due(e, &t);
	}
	if (!engine_disk_stands(e) && core_next_due(e->core) != INT64_MAX)
		engine_tick(e);
}

/* One alarm for all; touched only when the next moment comes earlier than the one that is set. */
static void arm(struct engine *e)
{
	struct base_heap_item t;
	int64_t when = base_heap_peek(e->timers, &t) ? t.when : INT64_MAX, due;

	due = e->degraded || e->stopping || engine_disk_stands(e) ? INT64_MAX : core_next_due(e->core);
	if (due != INT64_MAX) {
		int64_t in = due - engine_wall_ms();

		/* At most an hour ahead: the wall clock may be set meanwhile. */
		in = in < 0 ? 0 : in > 3600000 ? 3600000 : in;
		if (e->mono + in < when)
			when = e->mono + in;
	}
	if (when >= e->armed)
		return;
	e->armed = when;
	engine_arm(e, when);
}

void engine_stop(struct engine *e)
{
	if (e->stopping)
		return;
	engine_note(1, "stopping");
	engine_flows_stop(e);
	engine_seen_flush(e);
	e->stopping = true;
	engine_procs_stop(e, true);
	engine_timer_add(e, ENGINE_TIMER_STOP, 0, ENGINE_STOP_MS);
}

static void end_of_turn(struct engine *e)
{
	run_timers(e);
	engine_flows_pump(e);
	engine_effects_pump(e);
	if (e->pending->outs && !e->inflight) {
		engine_procs_flush(e);
		engine_commit_inline(e);
	}
	engine_commit_start(e, e->commit_wanted);
	if (e->pending->count == 0)
		e->commit_wanted = false;
	/* The disk does not keep up: nothing more is taken in until it has. */
	while (e->inflight && e->pending->block.len > ENGINE_PENDING_MAX)
		engine_commit_one(e);
	engine_views_pump(e);
	engine_stream_pump(e);
	engine_procs_flush(e);
	if (e->stopping && engine_procs_gone(e, true) && !engine_effects_count(e) && engine_all_durable(e))
		e->quit = true;
	arm(e);
}

static void loop(struct engine *e)
{
	struct engine_near *near = NULL;

	if (engine_near_new(&near) < 0)
		near = NULL; /* it is only faster with it */
	end_of_turn(e);
	while (!e->quit) {
		engine_wait(
			e, engine_views_more(e) || engine_stream_more(e) || engine_flows_more(e) ? 0 : -1);
		end_of_turn(e);
		if (near)
			engine_near_turn(e, near);
	}
	engine_near_free(near);
}

/* The rest of the processes stop; then the state goes into a snapshot, so that the next start is short. */
static void finish(struct engine *e)
{
	struct base_err err = {0};
	int64_t until = engine_mono_ms() + 800;

	e->stopping = true;
	engine_keys_flush(e);
	engine_commit_wait(e);
	engine_seen_flush(e); /* what was looked at meanwhile */
	engine_commit_wait(e);
	engine_procs_flush(e);
	engine_procs_stop(e, false);
	engine_procs_stop(e, true);
	while (!(engine_procs_gone(e, true) && engine_procs_gone(e, false)) && engine_mono_ms() < until) {
		engine_wait(e, 50);
		engine_procs_flush(e);
	}
	engine_fold_settle(e);
	engine_keep_settle(e);
	engine_commit_wait(e);
	engine_anchor_due(e);
	if (!e->degraded && e->exit_code == 0 && engine_snapshot(e, &err) < 0)
		engine_note(2, "no snapshot: %s", err.text);
}

static void close_all(struct engine *e)
{
	engine_fold_done(e);
	engine_keep_settle(e);
	engine_keep_done(e);
	engine_procs_done(e);
	engine_trials_done(e);
	engine_verify_done(e);
	if (e->log)
		engine_commit_done(e);
	engine_streams_done(e);
	engine_api_done(e);
	engine_agains_done(e);
	engine_keys_done(e);
	engine_seen_done(e);
	engine_door_done(e);
	engine_web_done(e);
	engine_pass_done(e);
	engine_asks_done(e);
	engine_checks_done(e);
	engine_flows_done(e);
	engine_effects_done(e);
	engine_announce_done(e);
	engine_links_done(e);
	engine_sessions_done(e);
	base_json_free(e->config);
	engine_reads_forget(e);
	log_reader_free(e->reader);
	log_reader_free(e->body_reader);
	if (e->log)
		log_close(e->log);
	core_free(e->core);
	base_arena_free(e->arena);
	base_buf_done(&e->scratch);
	base_heap_free(e->timers);
	engine_world_done(e);
	engine_workspace_done(&e->paths);
}

static int port_of(struct engine *e)
{
	struct base_jv door =
		e->config ? base_jv_get(base_json_root(e->config), "door") : (struct base_jv){0};
	int64_t port = base_jv_int(base_jv_get(door, "port"), 7717);

	return port >= 0 && port <= 65535 ? (int)port : 7717;
}

static unsigned workers_of(struct engine *e)
{
	int64_t n = e->config ? base_jv_int(base_jv_get(base_json_root(e->config), "workers"), 2) : 2;

	return n >= 1 && n <= ENGINE_FLOWS_MAX ? (unsigned)n : 2;
}

static int open_all(struct engine *e, struct base_err *err)
{
	int rc = engine_workspace_open(&e->paths, e->opt.workspace, err);

	if (rc < 0)
		return rc;
	rc = engine_world_open(e, err);
	if (rc < 0)
		return rc;
	e->armed = INT64_MAX;
	if (base_heap_new(&e->timers) < 0 || base_arena_new((size_t)1 << 30, &e->arena) < 0)
		return base_err_set(err, -ENOMEM, "out of memory");
	base_buf_init(&e->scratch, 64 << 20);
	if (engine_flows_init(e) < 0 || engine_effects_init(e) < 0 || base_idmap_new(&e->asks) < 0 ||
		engine_api_init(e) < 0 || engine_fold_init(e) < 0 || engine_trials_init(e) < 0 ||
		engine_keep_init(e) < 0)
		return base_err_set(err, -ENOMEM, "out of memory");
	rc = engine_procs_early(e, err);
	if (rc < 0)
		return rc;
	rc = engine_log_open(e, &e->log, err);
	if (rc < 0) {
		e->log = NULL;
		return rc;
	}
	rc = engine_commit_init(e, err);
	if (rc < 0)
		return rc;
	rc = engine_anchor_check(e, err);
	if (rc < 0)
		return rc;
	rc = engine_recover(e, err);
	if (rc < 0)
		return rc;
	if (e->opt.port < 0)
		e->opt.port = port_of(e);
	if (!e->opt.workers)
		e->opt.workers = workers_of(e);
	rc = engine_procs_start(e, err);
	if (rc == 0)
		engine_keep_start(e);
	return rc;
}

int engine_run_main(const struct engine_options *opt, struct base_err *err)
{
	struct engine *e = calloc(1, sizeof(*e));
	int rc;

	if (!e)
		return base_err_set(err, -ENOMEM, "out of memory");
	e->opt = *opt;
	e->epfd = e->timerfd = e->sigfd = e->paths.lock_fd = -1;
	e->mono = engine_mono_ms();
	e->started_ms = engine_wall_ms();
	rc = open_all(e, err);
	if (rc == 0)
		rc = engine_workspace_announce(&e->paths, e->port, err);
	if (rc == 0) {
		engine_note(1, "aiosd is up: workspace %s, port %u, event %llu", e->paths.workspace, e->port,
			(unsigned long long)e->seq);
		loop(e);
		finish(e);
		rc = e->exit_code;
	}
	close_all(e);
	free(e);
	return rc;
}
