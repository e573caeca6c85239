#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/check.h"
#include "engine/trial_int.h"

/*
 * Invariants
 *
 * X1 Trials have a worker of their own (kind ENGINE_TRIAL), started when one is needed: its frames never reach the runs
 * (flows.c), and no run is ever in it. Its run ids have a bit that no run has, and none is used twice.
 *
 * X2 One trial at a time: whatever becomes of the worker, this trial alone is at fault.
 *
 * X3 It is fed one answer at a time, after the last was acknowledged: of those that it asked for and that the record
 * has, the one that comes first in the log. The same flow thereby gets them in the order in which the run got them.
 *
 * X4 A trial decides nothing and appends nothing: this file calls neither engine_decide nor core_apply.
 */

enum { GATHER_STEP = 128, IDLE_MS = 5000 };
static const uint64_t TRIAL = (uint64_t)1 << 62;

struct engine_trials {
	struct trial *head, *tail; /* head: the one that is under way */
	uint64_t next;
	bool has_version;
	struct base_hash version; /* that the worker holds */
};

int engine_trials_init(struct engine *e)
{
	e->trials = calloc(1, sizeof(*e->trials));
	return e->trials ? 0 : -ENOMEM;
}

const char *trial_outcome_name(enum trial_outcome o)
{
	static const char *const names[TRIAL_OUTCOMES] = {[TRIAL_SAME] = "same",
		[TRIAL_DIVERGED] = "diverged",
		[TRIAL_ENDED] = "ended",
		[TRIAL_STOPPED] = "stopped",
		[TRIAL_FAILED] = "failed",
		[TRIAL_HUNG] = "hung",
		[TRIAL_CRASHED] = "crashed",
		[TRIAL_UNREADABLE] = "unreadable"};

	return o < TRIAL_OUTCOMES && names[o] ? names[o] : "unknown";
}

struct trial *trial_new(uint32_t count)
{
	struct trial *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->count = count;
	t->steps = calloc((size_t)count + 1, sizeof(*t->steps));
	t->asked = calloc(TRIAL_ASKED_MAX, sizeof(*t->asked));
	if (!t->steps || !t->asked || base_arena_new((size_t)512 << 20, &t->arena) < 0 ||
		base_heap_new(&t->ready) < 0) {
		trial_free(t);
		return NULL;
	}
	return t;
}

void trial_free(struct trial *t)
{
	if (!t)
		return;
	base_heap_free(t->ready);
	base_names_free(t->index);
	base_arena_free(t->arena);
	free(t->asked);
	free(t->steps);
	free(t);
}

static struct engine_proc *worker(struct engine *e)
{
	return engine_proc_of(e, ENGINE_TRIAL, 0);
}

/* --- the end of one --- */

static void finish(struct engine *e, struct trial *t, enum trial_outcome outcome)
{
	struct engine_trials *x = e->trials;
	struct engine_proc *p = worker(e);
	struct base_buf *b;

	BASE_CHECK(x->head == t);
	t->outcome = outcome;
	t->waits = false;
	x->head = t->next;
	if (!x->head)
		x->tail = NULL;
	b = t->started && !t->ends ? engine_proc_begin(e, p, WIRE_FLOW_DROP) : NULL;
	if (b) {
		wire_flow_drop_put(b, &(struct wire_flow_drop){.run = t->id});
		engine_proc_send(e, p);
	}
	t->done(e, t);
	if (x->head)
		engine_timer_add(e, ENGINE_TIMER_TRIAL, 0, 0);
	else
		engine_timer_add(e, ENGINE_TIMER_TRIAL, 0, IDLE_MS);
}

/* --- feeding --- */

static void wait_for_worker(struct engine *e, struct trial *t)
{
	t->waits = true;
	t->sent_ms = e->mono;
	if (!t->watched)
		engine_timer_add(e, ENGINE_TIMER_TRIAL, t->id, ENGINE_WATCHDOG_MS);
	t->watched = true;
}

static bool send_result(
	struct engine *e, struct trial *t, uint32_t step, bool ok, int64_t time_ms, struct base_str value)
{
	struct base_buf *b = engine_proc_begin(e, worker(e), WIRE_FLOW_RESULT);

	if (!b)
		return false; /* its death follows */
	wire_flow_result_put(b, &(struct wire_flow_result){.run = t->id,
					.step = step,
					.status = ok ? 0 : 1,
					.time_ms = time_ms,
					.value = value});
	engine_proc_send(e, worker(e));
	wait_for_worker(e, t);
	return true;
}

static void finish_waiting(struct engine *e, struct trial *t)
{
	if (t->lenient) {
		finish(e, t, TRIAL_STOPPED);
	} else if (t->called >= t->count) {
		finish(e, t, TRIAL_SAME);
	} else {
		t->at = t->called;
		snprintf(t->why, sizeof(t->why), "it waits after %u steps, the record goes on", t->called);
		finish(e, t, TRIAL_DIVERGED);
	}
}

/* The next answer, or the end. */
static void feed(struct engine *e, struct trial *t)
{
	struct base_str value = BASE_STR_NONE;
	struct base_heap_item item;
	int64_t time_ms = t->fed_ms;
	bool ok = true;
	int rc;

	if (!base_heap_pop(t->ready, &item)) {
		finish_waiting(e, t);
		return;
	}
	if (item.kind) { /* not of the record */
		value = t->assume.len && item.kind == 2 ? t->assume : BASE_STR("null");
	} else {
		rc = engine_step_result(e, (uint64_t)item.when, &ok, &time_ms, &value);
		if (rc < 0) {
			snprintf(t->why, sizeof(t->why), "event %lld cannot be read: %s",
				(long long)item.when, strerror(-rc));
			finish(e, t, TRIAL_UNREADABLE);
			return;
		}
		t->fed_seq = item.when;
		t->fed_ms = time_ms;
	}
	(void)send_result(e, t, (uint32_t)item.id, ok, time_ms, value);
}

/* --- calls --- */

static bool is_same(const struct trial_step *s, struct base_str action, const struct base_hash *hash)
{
	/* What a fork took over answers whatever is asked; a person's answer holds for what was shown (core/fork.c, K2). */
	bool any = s->taken && !base_str_is(s->action, "gate.ask");

	return base_str_eq(s->action, action) && (any || base_hash_eq(&s->args_hash, hash));
}

static void ready_add(struct trial *t, int64_t when, uint32_t step, uint32_t kind)
{
	BASE_CHECK(base_heap_push(
			   t->ready, (struct base_heap_item){.when = when, .id = step, .kind = kind}) == 0);
}

static void answered_by(struct trial *t, uint32_t record, uint32_t step)
{
	t->steps[record].used = true;
	if (t->steps[record].seq_end)
		ready_add(t, (int64_t)t->steps[record].seq_end, step, 0);
}

static void keep_asked(struct engine *e, struct trial *t, const struct wire_flow_call *c, uint32_t found)
{
	struct trial_asked *a = &t->asked[t->asked_count];

	t->asked_all++;
	if (t->asked_count == TRIAL_ASKED_MAX)
		return;
	*a = (struct trial_asked){.step = c->step,
		.action = base_arena_dup(t->arena, c->action),
		.found = found,
		.klass = core_class_of(e->core, c->action)};
	if (c->args.len <= TRIAL_PREVIEW_MAX)
		a->args = base_arena_dup(t->arena, c->args);
	t->asked_count++;
}

static struct base_str index_key(struct trial *t, struct base_str action, const struct base_hash *hash)
{
	char *p = base_arena_alloc(t->arena, sizeof(hash->b) + action.len);

	BASE_CHECK(p);
	memcpy(p, hash->b, sizeof(hash->b));
	memcpy(p + sizeof(hash->b), action.ptr, action.len);
	return (struct base_str){p, sizeof(hash->b) + action.len};
}

/* Records by action and arguments: made when a call is first not found at its place. */
static void make_index(struct trial *t)
{
	BASE_CHECK(base_names_new(&t->index) == 0);
	for (uint32_t i = t->count; i-- > 0;) {
		struct base_str key = index_key(t, t->steps[i].action, &t->steps[i].args_hash);

		t->steps[i].same = (uint32_t)(uintptr_t)base_names_get(t->index, key);
		BASE_CHECK(base_names_put(t->index, key, (void *)(uintptr_t)(i + 1)) == 0);
	}
}

/* The first record of this call that answered no other + 1, or 0. */
static uint32_t find_elsewhere(struct trial *t, struct base_str action, const struct base_hash *hash)
{
	struct base_str key;
	uint32_t i;

	if (!t->index)
		make_index(t);
	key = index_key(t, action, hash);
	i = (uint32_t)(uintptr_t)base_names_get(t->index, key);
	while (i && t->steps[i - 1].used)
		i = t->steps[i - 1].same;
	if (i) /* what is used already need not be walked again */
		BASE_CHECK(base_names_put(t->index, key, (void *)(uintptr_t)i) == 0);
	return i;
}

/* What core would answer at once, without anything outside: a new line of a log, a pause, an outcome. */
static bool answers_itself(struct base_str action)
{
	return base_str_is(action, "log.write") || base_str_is(action, "timer.sleep") ||
	       base_str_is(action, "outcome.record");
}

/* Returns the record that answers it + 1, or 0. */
static uint32_t on_call_lenient(
	struct engine *e, struct trial *t, const struct wire_flow_call *c, const struct base_hash *hash)
{
	uint32_t found =
		c->step < t->count && !t->steps[c->step].used && is_same(&t->steps[c->step], c->action, hash)
			? c->step + 1
			: 0;

	if (found) {
		t->matched++;
		answered_by(t, c->step, c->step);
		return found;
	}
	found = find_elsewhere(t, c->action, hash);
	keep_asked(e, t, c, found);
	t->fresh += !found;
	if (found)
		answered_by(t, found - 1, c->step);
	else if (answers_itself(c->action))
		ready_add(t, t->fed_seq, c->step, 1);
	else if (t->assume.len)
		ready_add(t, t->fed_seq, c->step, 2);
	return found;
}

/* The next generation of a run begins: this one never hears of it again. */
static bool ends_here(const struct trial *t, struct base_str action, uint32_t found)
{
	return base_str_is(action, "run.again") && !(found && t->steps[found - 1].refused);
}

static void on_call(struct engine *e, struct trial *t, struct base_str body)
{
	struct wire_flow_call c;
	struct base_hash hash;

	if (wire_flow_call_get(body, &c) < 0) {
		engine_proc_kill(e, worker(e), "sent a call that does not decode");
		return;
	}
	if (c.run != t->id)
		return;
	if (c.step != t->called) {
		engine_proc_kill(e, worker(e), "sent a step out of its turn");
		return;
	}
	t->called++;
	hash = base_hash_of(c.args);
	if (t->lenient) {
		if (ends_here(t, c.action, on_call_lenient(e, t, &c, &hash))) {
			t->value = BASE_STR("null");
			finish(e, t, TRIAL_SAME);
		}
	} else if (c.step >= t->count) {
		keep_asked(e, t, &c, 0);
	} else if (is_same(&t->steps[c.step], c.action, &hash)) {
		t->matched++;
		answered_by(t, c.step, c.step);
	} else {
		t->at = c.step;
		keep_asked(e, t, &c, 0);
		finish(e, t, TRIAL_DIVERGED);
	}
}

/* --- frames --- */

static void on_failed(struct engine *e, struct trial *t, struct base_str problem)
{
	struct base_json *doc = NULL;
	struct base_str kind = BASE_STR_NONE;

	t->ends = true;
	t->value = base_arena_dup(t->arena, problem);
	if (base_json_parse(problem, &doc, NULL) == 0)
		kind = base_jv_str(base_jv_get(base_json_root(doc), "kind"));
	finish(e, t, base_str_is(kind, "cpu") ? TRIAL_HUNG : TRIAL_FAILED);
	base_json_free(doc);
}

static void on_done(struct engine *e, struct trial *t, struct base_str value)
{
	t->ends = true;
	t->value = base_arena_dup(t->arena, value.len ? value : BASE_STR("null"));
	if (!t->lenient && t->called < t->count)
		snprintf(t->why, sizeof(t->why), "it returns after %u steps, the record has %u", t->called,
			t->count);
	finish(e, t, !t->lenient && t->called < t->count ? TRIAL_ENDED : TRIAL_SAME);
}

void engine_trials_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body)
{
	struct trial *t = e->trials->head;
	struct wire_flow_idle idle;
	struct wire_flow_done done;
	struct wire_flow_failed failed;
	int rc = 0;

	if (!t || !t->started)
		return; /* of one that is over */
	if (type == WIRE_FLOW_CALL) {
		on_call(e, t, body);
	} else if (type == WIRE_FLOW_IDLE) {
		rc = wire_flow_idle_get(body, &idle);
		if (rc == 0 && idle.run == t->id && t->waits) {
			t->waits = false;
			feed(e, t);
		}
	} else if (type == WIRE_FLOW_DONE) {
		rc = wire_flow_done_get(body, &done);
		if (rc == 0 && done.run == t->id)
			on_done(e, t, done.value);
	} else if (type == WIRE_FLOW_FAILED) {
		rc = wire_flow_failed_get(body, &failed);
		if (rc == 0 && failed.run == t->id)
			on_failed(e, t, failed.problem);
	}
	if (rc < 0)
		engine_proc_kill(e, p, "sent a frame that does not decode");
}

/* --- beginning --- */

static int send_version(struct engine *e, struct trial *t)
{
	struct engine_trials *x = e->trials;
	struct base_buf *b;
	char hex[65];

	if (x->has_version && base_hash_eq(&x->version, &t->version))
		return 0;
	if (x->has_version) {
		b = engine_proc_begin(e, worker(e), WIRE_FLOW_FORGET);
		if (!b)
			return -EPIPE;
		base_hash_hex(&x->version, hex);
		wire_flow_forget_put(b, &(struct wire_flow_forget){.version = {hex, 64}});
		engine_proc_send(e, worker(e));
	}
	b = engine_proc_begin(e, worker(e), WIRE_FLOW_VERSION);
	if (!b)
		return -EPIPE;
	base_hash_hex(&t->version, hex);
	wire_flow_version_put(b, &(struct wire_flow_version){.version = {hex, 64}, .modules = t->modules});
	engine_proc_send(e, worker(e));
	x->version = t->version;
	x->has_version = true;
	return 0;
}

static int send_start(struct engine *e, struct trial *t)
{
	struct core_record rec;
	union core_event_any ev;
	struct base_str input;
	struct base_buf *b;
	char hex[65];
	int rc = engine_read_blob(e, t->seq_started, &rec, &input);

	if (rc == 0)
		rc = core_event_get(rec.type, rec.body, &ev);
	if (rc == 0 && (rec.type != CORE_EV_RUN_STARTED || ev.run_started.run != t->run))
		rc = -EUCLEAN;
	if (rc < 0)
		return rc;
	b = engine_proc_begin(e, worker(e), WIRE_FLOW_START);
	if (!b)
		return -EPIPE;
	base_hash_hex(&t->version, hex);
	t->fed_ms = ev.run_started.clock_ms ? ev.run_started.clock_ms : rec.time_ms;
	wire_flow_start_put(b, &(struct wire_flow_start){.run = t->id,
				       .version = {hex, 64},
				       .time_ms = t->fed_ms,
				       .seed = ev.run_started.seed,
				       .input = input,
				       .context = ev.run_started.context});
	engine_proc_send(e, worker(e));
	t->started = true;
	wait_for_worker(e, t);
	return 0;
}

/* Reads the record, a piece at a time so that nobody waits for it. True: it is read, or cannot be. */
static bool gather(struct engine *e, struct trial *t, int *ret)
{
	uint32_t until = t->count - t->gathered > GATHER_STEP ? t->gathered + GATHER_STEP : t->count;

	*ret = 0;
	while (t->gathered < until && *ret == 0)
		*ret = trial_read_step(e, t, t->gathered++);
	if (*ret < 0)
		return true;
	if (t->gathered < t->count) {
		engine_timer_add(e, ENGINE_TIMER_TRIAL, 0, 0);
		return false;
	}
	return true;
}

static void pump(struct engine *e)
{
	struct trial *t = e->trials->head;
	struct engine_proc *p = worker(e);
	int rc;

	if (!t || t->started || e->stopping)
		return;
	if (e->degraded) {
		engine_timer_add(e, ENGINE_TIMER_TRIAL, 0, 1000);
		return;
	}
	if (p->state == ENGINE_DOWN) {
		engine_proc_start(e, p);
		if (p->state == ENGINE_DOWN) {
			snprintf(t->why, sizeof(t->why), "no worker for trials can be started");
			finish(e, t, TRIAL_CRASHED);
		}
		return;
	}
	if (p->state != ENGINE_UP || p->killed || !gather(e, t, &rc))
		return;
	if (rc == 0)
		rc = send_version(e, t);
	if (rc == 0)
		rc = send_start(e, t);
	if (rc == 0 || rc == -EPIPE)
		return; /* EPIPE: its death follows, and the next life begins anew */
	snprintf(t->why, sizeof(t->why), "its record cannot be read: %s",
		rc == -EUCLEAN ? "the log holds something else at that place" : strerror(-rc));
	finish(e, t, TRIAL_UNREADABLE);
}

void trial_begin(struct engine *e, struct trial *t)
{
	struct engine_trials *x = e->trials;

	t->id = TRIAL | ++x->next;
	t->next = NULL;
	if (x->tail)
		x->tail->next = t;
	else
		x->head = t;
	x->tail = t;
	engine_timer_add(e, ENGINE_TIMER_TRIAL, 0, 0);
}

/* --- life and death of the worker --- */

void engine_trials_up(struct engine *e)
{
	e->trials->has_version = false;
	worker(e)->fails = 0; /* it can be started: what it dies of is its trial's */
	pump(e);
}

void engine_trials_down(struct engine *e, struct engine_proc *p, int status)
{
	struct engine_trials *x = e->trials;
	struct trial *t = x->head;

	x->has_version = false;
	if (!t)
		return;
	if (!t->started) { /* it could not be told anything yet */
		if (p->fails >= 3) {
			snprintf(t->why, sizeof(t->why), "no worker for trials can be started");
			finish(e, t, TRIAL_CRASHED);
		} else {
			engine_timer_add(e, ENGINE_TIMER_RESPAWN, p->index, 100);
		}
		return;
	}
	t->ends = true; /* nothing is left to be dropped */
	if (p->killed)
		snprintf(t->why, sizeof(t->why), "it did not come back within %d ms after step %u",
			ENGINE_WATCHDOG_MS, t->called);
	else if (WIFSIGNALED(status))
		snprintf(t->why, sizeof(t->why), "its worker died of signal %d (%s) after step %u",
			WTERMSIG(status), strsignal(WTERMSIG(status)), t->called);
	else
		snprintf(t->why, sizeof(t->why), "its worker ended with status %d after step %u",
			WEXITSTATUS(status), t->called);
	finish(e, t, p->killed ? TRIAL_HUNG : TRIAL_CRASHED);
}

static void watch(struct engine *e, struct engine_proc *p, const struct trial *t)
{
	int64_t left = t->waits ? t->sent_ms + ENGINE_WATCHDOG_MS - e->mono : ENGINE_WATCHDOG_MS;

	if (left > 0)
		engine_timer_add(e, ENGINE_TIMER_TRIAL, t->id, left);
	else
		engine_proc_kill(e, p, "a version that is tried does not come back");
}

/* id 0: go on, or stop the worker that nobody needs; else the watchdog of that trial. */
void engine_trials_timer(struct engine *e, uint64_t id)
{
	struct engine_trials *x = e->trials;
	struct engine_proc *p = worker(e);
	struct trial *t = x->head;
	struct base_buf *b;

	if (!id && t) {
		pump(e);
	} else if (!id && p->state == ENGINE_UP && e->mono - p->used_ms >= IDLE_MS) {
		b = engine_proc_begin(e, p, WIRE_STOP);
		if (!b)
			return;
		wire_stop_put(b, &(struct wire_stop){0});
		engine_proc_send(e, p);
		p->state = ENGINE_STOPPING;
	} else if (!id && p->state == ENGINE_UP) {
		engine_timer_add(e, ENGINE_TIMER_TRIAL, 0, IDLE_MS - (e->mono - p->used_ms));
	} else if (id && t && t->id == id) {
		watch(e, p, t);
	}
}

/* aiosd ends: the owners let go of what they hold. */
void engine_trials_done(struct engine *e)
{
	while (e->trials && e->trials->head) {
		struct trial *t = e->trials->head;

		e->trials->head = t->next;
		t->outcome = TRIAL_UNREADABLE;
		t->done(e, t);
	}
	free(e->trials);
	e->trials = NULL;
}
