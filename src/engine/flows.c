#include "engine/flows_int.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/check.h"

/*
 * Runs in flow workers.
 *
 * Invariants
 *
 * F1 A run is loaded in at most one worker; only that worker is heard for it.
 *
 * F2 A run is rebuilt from its journal as the state holds it at the moment of loading; results that come
 * later are sent as they are applied. So a worker sees every result of a run once, in log order.
 *
 * F3 A worker handles frames one after the other: the oldest unacknowledged one is the run that it
 * executes now. If it stays the oldest for longer than ENGINE_WATCHDOG_MS, the worker is ended and that run
 * is at fault; all others are only loaded again. A run at fault is tried again too, until core has seen it often enough and quarantines it.
 *
 * F4 Only a run without unacknowledged frames is evicted: every call that it made has been received. So it is at
 * rest, which the log is told: the next start leaves it where it is. A run that is wanted again before that is not.
 *
 * F5 No more runs than limits.loaded are in workers: for a further one the one that is idle longest is evicted; while
 * none is idle, loading waits. How many can wait here is bounded by limits.active and by the runs that sleep.
 *
 * F6 (stale.c) What a worker still says of a run that it was told to drop is not taken for what it says of it later.
 */

/* aios-flow ends with this after it has answered for a run that it cannot clean up behind. */
enum { EXIT_SOILED = 3 };
enum {
	LOAD_UNACKED = 512, /* the same in frames that it has not answered */
	LATER_TURNS = 16,   /* in which there was no time for such a run: then it is a run like others */
	LATER_UNACKED = 32, /* the same for a run that is only to be looked at */
	SUSPECT_MAX = 3,
};

int engine_flows_init(struct engine *e)
{
	e->rest = calloc(ENGINE_REST_MAX, sizeof(*e->rest));
	return e->rest ? base_idmap_new(&e->runs) : -ENOMEM;
}

size_t engine_flows_count(const struct engine *e)
{
	return base_idmap_count(e->runs);
}

/* --- lists --- */

static void list_add(struct engine_run **head, struct engine_run **tail, struct engine_run *r)
{
	r->next = NULL;
	r->prev = *tail;
	if (*tail)
		(*tail)->next = r;
	else
		*head = r;
	*tail = r;
}

static void list_del(struct engine_run **head, struct engine_run **tail, struct engine_run *r)
{
	if (r->prev)
		r->prev->next = r->next;
	else
		*head = r->next;
	if (r->next)
		r->next->prev = r->prev;
	else
		*tail = r->prev;
	r->prev = r->next = NULL;
}

static void set_idle(struct engine *e, struct engine_run *r, bool idle)
{
	if (r->idle == idle)
		return;
	r->idle = idle;
	if (!idle) {
		list_del(&e->lru_head, &e->lru_tail, r);
		return;
	}
	r->idle_since = e->mono;
	list_add(&e->lru_head, &e->lru_tail, r);
	if (!e->evict_armed) {
		e->evict_armed = true;
		engine_timer_add(e, ENGINE_TIMER_EVICT, 0, e->opt.evict_ms);
	}
}

/* --- in and out --- */

static void unload(struct engine *e, struct engine_run *r)
{
	struct engine_loaded *v;

	if (r->state == QUEUED)
		list_del(&e->queue_head, &e->queue_tail, r);
	if (r->state == LATER)
		list_del(&e->later_head, &e->later_tail, r);
	if (r->state == LOADED) {
		set_idle(e, r, false);
		engine_replay_end(e, r);
		v = engine_worker_version(&r->worker->worker, &r->version);
		if (v && v->runs)
			v->runs--;
		r->worker->worker.runs--;
		if (r->unacked) {
			engine_worker_forget(e, r->worker, r->run);
			engine_stale_add(&r->worker->worker, r->run, r->unacked);
		}
	}
	r->state = 0;
	r->worker = NULL;
	r->unacked = 0;
}

static void run_free(struct engine *e, struct engine_run *r)
{
	unload(e, r);
	base_idmap_remove(e->runs, r->run);
	free(r);
}

static void send_drop(struct engine *e, struct engine_proc *p, uint64_t run)
{
	struct base_buf *b = engine_proc_begin(e, p, WIRE_FLOW_DROP);

	if (!b)
		return;
	wire_flow_drop_put(b, &(struct wire_flow_drop){.run = run});
	engine_proc_send(e, p);
}

static void enqueue(struct engine *e, struct engine_run *r, bool later)
{
	r->state = later ? LATER : QUEUED;
	if (later)
		list_add(&e->later_head, &e->later_tail, r);
	else
		list_add(&e->queue_head, &e->queue_tail, r);
}

void engine_flows_want(struct engine *e, uint64_t run, bool later)
{
	struct engine_run *r = base_idmap_get(e->runs, run);

	if (r && (r->state == QUEUED || (r->state == LATER && later)))
		return;
	if (r) {
		if (r->state == LOADED)
			send_drop(e, r->worker, run);
		unload(e, r);
	} else {
		r = calloc(1, sizeof(*r));
		BASE_CHECK(r && base_idmap_put(e->runs, run, r) == 0);
		r->run = run;
	}
	enqueue(e, r, later);
}

void engine_flows_drop(struct engine *e, uint64_t run)
{
	struct engine_run *r = base_idmap_get(e->runs, run);

	if (!r)
		return;
	if (r->state == LOADED)
		send_drop(e, r->worker, run);
	run_free(e, r);
}

/* Out of its worker's memory, where it is at rest (F4). */
static void evict(struct engine *e, struct engine_run *r)
{
	BASE_CHECK(r->state == LOADED && r->idle);
	if (e->rest_count == ENGINE_REST_MAX)
		engine_flows_rest(e);
	if (!r->unheard)
		e->rest[e->rest_count++] = r->run;
	engine_flows_drop(e, r->run);
}

/* --- loading (load.c) --- */

static struct engine_proc *pick(struct engine *e, size_t unacked)
{
	struct engine_proc *best = NULL;

	for (size_t i = 0; i < e->proc_count; i++) {
		struct engine_proc *p = &e->procs[i];

		if (p->kind != ENGINE_FLOW || p->state != ENGINE_UP || p->killed ||
			p->worker.ring_count >= unacked || wire_conn_pending(p->conn) > LOAD_HIGH)
			continue;
		if (!best || p->worker.runs < best->worker.runs)
			best = p;
	}
	return best;
}

bool engine_flows_more(const struct engine *e)
{
	return e->loads_left == 0;
}

/* What becomes of a run that could not be brought into its worker. */
static void load_failed(struct engine *e, struct engine_run *r, int rc)
{
	if (rc == -EPIPE && r->state != LOADED)
		enqueue(e, r, false);
	if (rc == -EPIPE)
		return; /* its worker's death queues it again */
	if (rc != -ENOENT)
		engine_note(3, "run %llu cannot be loaded: %s", (unsigned long long)r->run, strerror(-rc));
	if (r->state == LOADED)
		send_drop(e, r->worker, r->run);
	run_free(e, r);
}

/* F5 */
static bool is_full(const struct engine *e)
{
	int64_t runs = 0, max = 0;

	for (size_t i = 0; i < e->proc_count; i++) {
		if (e->procs[i].kind != ENGINE_FLOW)
			continue;
		runs += e->procs[i].worker.runs;
		max += ENGINE_LOADED_MAX;
	}
	return runs >= (e->loaded_max ? e->loaded_max : max);
}

/* Loads runs of a queue until the workers have enough to do. */
static void pump(struct engine *e, struct engine_run *const *head, size_t unacked)
{
	struct engine_run *r;

	while (!e->degraded && e->loads_left && (r = *head)) {
		struct engine_proc *p = pick(e, unacked);
		int rc;

		if (!p)
			return;
		if (is_full(e) && !e->lru_head)
			return; /* all of them are executing: one that has answered makes room */
		e->loads_left--;
		if (is_full(e))
			evict(e, e->lru_head);
		unload(e, r);
		rc = engine_run_load(e, p, r);
		if (rc == -EPIPE && r->state != LOADED) {
			load_failed(e, r, rc);
			return;
		}
		if (rc < 0)
			load_failed(e, r, rc);
	}
}

/* However busy the house is, those that are only to be looked at come to it, one by one. */
static void promote(struct engine *e, struct engine_run *r)
{
	e->later_turns = 0;
	list_del(&e->later_head, &e->later_tail, r);
	enqueue(e, r, false);
}

void engine_flows_pump(struct engine *e)
{
	struct engine_replay *y, *next;

	e->loads_left = e->ticking ? ENGINE_LOADS_MAX / 8 : ENGINE_LOADS_MAX; /* time does not wait */
	if (e->degraded || e->stopping || engine_disk_stands(e))
		return;
	for (y = e->replays; y; y = next) {
		struct engine_run *r = y->run;
		int rc;

		next = y->next;
		rc = engine_replay_more(e, r);
		if (rc < 0)
			load_failed(e, r, rc);
	}
	pump(e, &e->queue_head, LOAD_UNACKED);
	if (!e->queue_head)
		pump(e, &e->later_head, LATER_UNACKED);
	else if (e->later_head && ++e->later_turns >= LATER_TURNS)
		promote(e, e->later_head);
}

void engine_flows_result(struct engine *e, const struct core_act *act)
{
	struct engine_run *r = base_idmap_get(e->runs, act->run);
	struct base_str value = act->blob.data;
	int64_t time_ms = act->time_ms;
	bool ok = act->ok;
	int rc = 0;

	if (!r || r->state == LATER) {
		engine_flows_want(e, act->run, false);
		return;
	}
	if (r->state != LOADED)
		return; /* the journal will have it */
	set_idle(e, r, false);
	if (r->replay || (r->worker->conn && wire_conn_pending(r->worker->conn) > LOAD_HIGH)) {
		BASE_CHECK(engine_result_later(e, r, act->seq, act->step) == 0);
		return;
	}
	if (!value.ptr)
		rc = engine_step_result(e, act->seq, &ok, &time_ms, &value);
	if (rc == 0)
		rc = engine_result_send(e, r->worker, r, act->step, ok, act->time_ms, value);
	if (rc < 0 && rc != -EPIPE)
		engine_note(3, "run %llu: a result cannot be read: %s", (unsigned long long)act->run,
			strerror(-rc));
}

/* --- frames --- */

static struct engine_run *run_in(struct engine *e, const struct engine_proc *p, uint64_t run)
{
	struct engine_run *r = base_idmap_get(e->runs, run);

	return r && r->state == LOADED && r->worker == p ? r : NULL;
}

static void decide(struct engine *e, struct core_cmd *cmd)
{
	struct core_reply reply;
	int rc = engine_decide(e, cmd, &reply);

	if (rc < 0 && rc != -ENOSPC)
		engine_note(3, "run %llu: a frame of its flow was lost: %s", (unsigned long long)cmd->run,
			strerror(-rc));
}

static void on_call(struct engine *e, struct engine_proc *p, struct base_str body)
{
	struct wire_flow_call c;

	if (wire_flow_call_get(body, &c) < 0) {
		engine_proc_kill(e, p, "sent a call that does not decode");
		return;
	}
	if (engine_stale(&p->worker, c.run, WIRE_FLOW_CALL) || !run_in(e, p, c.run))
		return;
	decide(e, &(struct core_cmd){.type = CORE_CMD_FLOW_CALL,
			  .run = c.run,
			  .step = c.step,
			  .name = c.action,
			  .body = c.args,
			  .params = c.opts});
}

static void on_idle(struct engine *e, struct engine_proc *p, struct base_str body)
{
	struct wire_flow_idle f;
	struct engine_run *r;

	if (wire_flow_idle_get(body, &f) < 0) {
		engine_proc_kill(e, p, "sent a frame that does not decode");
		return;
	}
	r = engine_stale(&p->worker, f.run, WIRE_FLOW_IDLE) ? NULL : run_in(e, p, f.run);
	if (!r || !r->unacked)
		return;
	engine_worker_ack(e, p, f.run);
	if (--r->unacked > 0 || r->replay)
		return;
	r->suspect = 0; /* it survived all that it was given; its replay alone says nothing */
	set_idle(e, r, true);
}

static void on_end(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body)
{
	struct core_cmd cmd = {.type = CORE_CMD_FLOW_DONE};
	struct wire_flow_failed f;
	struct wire_flow_done d;
	struct engine_run *r;
	int rc;

	if (type == WIRE_FLOW_DONE) {
		rc = wire_flow_done_get(body, &d);
		if (rc == 0)
			cmd.run = d.run, cmd.step = d.steps, cmd.body = d.value;
	} else {
		cmd.type = CORE_CMD_FLOW_FAILED;
		rc = wire_flow_failed_get(body, &f);
		if (rc == 0)
			cmd.run = f.run, cmd.step = f.steps, cmd.body = f.problem;
	}
	if (rc < 0) {
		engine_proc_kill(e, p, "sent a frame that does not decode");
		return;
	}
	r = engine_stale(&p->worker, cmd.run, type) ? NULL : run_in(e, p, cmd.run);
	if (!r)
		return;
	engine_worker_forget(e, p, cmd.run); /* the worker has dropped it: it says no more */
	r->unacked = 0;
	run_free(e, r);
	decide(e, &cmd);
}

/* While aiosd stops nothing new begins: what is not recorded is asked for again after the next start. So the run is not at
 * rest (F4). */
static void pass_over(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body)
{
	struct wire_flow_call call;
	struct engine_run *r;

	if (type != WIRE_FLOW_CALL || wire_flow_call_get(body, &call) < 0)
		return; /* one that ends is not idle before it has been heard */
	r = run_in(e, p, call.run);
	if (r)
		r->unheard = true;
}

void engine_flows_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body)
{
	if (e->degraded)
		return;
	if (e->stopping && type != WIRE_FLOW_IDLE) {
		pass_over(e, p, type, body);
		return;
	}
	if (type == WIRE_FLOW_CALL)
		on_call(e, p, body);
	else if (type == WIRE_FLOW_IDLE)
		on_idle(e, p, body);
	else if (type == WIRE_FLOW_DONE || type == WIRE_FLOW_FAILED)
		on_end(e, p, type, body);
}

bool engine_flows_settled(const struct engine *e, uint64_t run)
{
	const struct engine_run *r = base_idmap_get(e->runs, run);

	return !r || r->state != LOADED || (r->unacked == 0 && !r->replay);
}

/* --- life and death --- */

void engine_flows_up(struct engine *e, struct engine_proc *p)
{
	(void)p;
	engine_flows_pump(e);
}

/* Whether the run that was executing is at fault for this death: 0 no, 1 yes, 2 beyond doubt. A kill from outside is
 * nobody's fault until it has met the same run several times in a row (the kernel's out-of-memory killer looks
 * just like it). A hang, a crash and a breach of the sandbox count. */
static int at_fault(struct engine_proc *p, struct engine_run *r, int status)
{
	if (p->killed)
		return 1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SOILED)
		return 0;
	if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM))
		return ++r->suspect >= SUSPECT_MAX ? 2 : 0;
	return 1;
}

void engine_flows_down(struct engine *e, struct engine_proc *p, int status)
{
	struct engine_worker *w = &p->worker;
	uint64_t head = w->ring_count ? w->unacked[w->ring_head] : 0, id;
	struct engine_run *blame = head ? run_in(e, p, head) : NULL;
	size_t cursor = 0, n = 0, count = base_idmap_count(e->runs);
	uint64_t *again = count ? calloc(count, sizeof(*again)) : NULL;
	int fault = blame && !e->stopping ? at_fault(p, blame, status) : 0;
	enum engine_death death = !p->killed ? ENGINE_DIED : w->hung ? ENGINE_HUNG : ENGINE_ROGUE;
	void *value;

	BASE_CHECK(again || !count);
	while (base_idmap_next(e->runs, &cursor, &id, &value))
		if (run_in(e, p, id))
			again[n++] = id;
	for (size_t i = 0; i < n; i++) {
		struct engine_run *r = base_idmap_get(e->runs, again[i]);

		set_idle(e, r, false);
		engine_replay_end(e, r);
		r->worker = NULL;
		r->unacked = 0;
		enqueue(e, r, false);
	}
	free(again);
	engine_worker_reset(w);
	if (fault)
		engine_flow_crashed(e, head, death, status, fault > 1);
}

void engine_flows_evict(struct engine *e)
{
	struct engine_run *r;

	e->evict_armed = false;
	while ((r = e->lru_head)) {
		int64_t left = r->idle_since + e->opt.evict_ms - e->mono;

		if (left > 0) {
			e->evict_armed = true;
			engine_timer_add(e, ENGINE_TIMER_EVICT, 0, left);
			return;
		}
		evict(e, r);
	}
	engine_flows_rest(e);
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

void engine_flows_rest(struct engine *e)
{
	struct core_cmd cmd = {.type = CORE_CMD_RUNS_REST};
	uint64_t last = 0;
	struct base_buf b;

	if (!e->rest_count)
		return;
	qsort(e->rest, e->rest_count, sizeof(*e->rest), by_id);
	base_buf_init(&b, 1 << 20);
	for (size_t i = 0; i < e->rest_count; i++) {
		const struct engine_run *r = base_idmap_get(e->runs, e->rest[i]);

		if (e->rest[i] == last || (r && !(r->state == LOADED && r->idle)))
			continue; /* wanted again since */
		base_put_u64(&b, e->rest[i] - last);
		last = e->rest[i];
	}
	e->rest_count = 0;
	cmd.body = base_buf_view(&b);
	if (last)
		decide(e, &cmd);
	base_buf_done(&b);
}

void engine_flows_stop(struct engine *e)
{
	if (e->degraded)
		return;
	engine_flows_rest(e);
	for (struct engine_run *r = e->lru_head; r; r = r->next) {
		if (e->rest_count == ENGINE_REST_MAX)
			engine_flows_rest(e);
		e->rest[e->rest_count++] = r->run;
	}
	engine_flows_rest(e);
}

void engine_flows_forget(struct engine *e)
{
	e->rest_count = 0;
	uint64_t id;
	void *value;
	size_t cursor = 0;

	while (base_idmap_next(e->runs, &cursor, &id, &value)) {
		engine_flows_drop(e, id);
		cursor = 0;
	}
}

void engine_flows_done(struct engine *e)
{
	uint64_t id;
	void *value;

	for (size_t cursor = 0; e->runs && base_idmap_next(e->runs, &cursor, &id, &value);) {
		engine_replay_end(e, value);
		free(value);
	}
	base_idmap_free(e->runs);
	e->runs = NULL;
	free(e->rest);
}
