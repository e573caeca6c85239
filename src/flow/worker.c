#include "flow/worker.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "flow/attack.h"
#include "flow/flow_int.h"
#include "wire/frames.h"

enum {
	TOTAL_MEMORY_MAX = 512 << 20,
	RUN_MEMORY_MAX = 64 << 20,
	RUN_CPU_MAX_MS = 1000,
	GC_SLACK = 16 << 20, /* garbage that may lie about before it is collected */
	GC_STEP = 4 << 20,   /* no collection for less than this */
	PURGE_MAX_MS = 400,
	TIDY_AFTER_MS = 1000,
	PUSH_MS = 50,
	FLUSH_BYTES = 2048,
	OUT_HIGH = 16 << 20,
	STACK_MAX = 1 << 20,
	EXIT_POISONED = 3, /* a killed run's jobs could not be got rid of: a fresh process is the cure */
};

struct flow_worker *flow_worker_of(JSContext *ctx)
{
	return JS_GetRuntimeOpaque(JS_GetRuntime(ctx));
}

static int64_t clock_ms(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void flow_note(struct flow_worker *w, int level, const char *fmt, ...)
{
	char text[1000];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	struct wire_note n = {.level = (uint8_t)level, .text = base_str_of(text)};
	wire_note_put(wire_conn_begin(w->conn, WIRE_NOTE), &n);
	if (wire_conn_end(w->conn) < 0)
		w->stopping = true;
}

/* --- limits --- */

struct flow_run *flow_enter(struct flow_worker *w, struct flow_run *run)
{
	struct flow_run *before = w->cur;
	w->cur = run;
	w->heap.cur = run ? run->account : &w->heap.common;
	return before;
}

/* Garbage is collected before the run meets its limit because of it. */
static void set_gc_threshold(struct flow_worker *w)
{
	size_t at = w->next_gc + GC_SLACK / 2;
	if (w->cur) {
		const struct flow_account *a = w->cur->account;
		size_t left = a->limit > a->bytes ? a->limit - a->bytes : 0;
		size_t step = left - left / 4 > GC_STEP ? left - left / 4 : GC_STEP;
		if (w->heap.total + step < at)
			at = w->heap.total + step;
	}
	JS_SetGCThreshold(w->rt, at);
}

static void collect(struct flow_worker *w)
{
	if (w->heap.total <= w->next_gc)
		return;
	JS_RunGC(w->rt);
	size_t half = w->heap.total / 2;
	w->next_gc = w->heap.total + (half > GC_SLACK ? half : GC_SLACK);
}

/* Called by the interpreter every ten thousand or so loop rounds, calls, and backtracks of a regular
 * expression. */
static int on_interrupt(JSRuntime *rt, void *opaque)
{
	(void)rt;
	struct flow_worker *w = opaque;
	struct flow_run *run = w->cur;
	if (!run)
		return 0;
	if (!run->kill && run->account->exhausted)
		run->kill = FLOW_MEMORY;
	if (run->kill)
		return 1;
	set_gc_threshold(w);
	int64_t cpu = clock_ms(CLOCK_THREAD_CPUTIME_ID), wall = clock_ms(CLOCK_MONOTONIC);
	if (w->cpu_began_ms < 0) {
		w->cpu_began_ms = cpu;
		w->wall_began_ms = wall;
		return 0;
	}
	/* CPU time counts; but the engine's watchdog looks at the wall clock, and being killed here is the
	 * milder way. */
	int64_t used = cpu - w->cpu_began_ms;
	if (used >= w->run_cpu_max_ms ||
		(wall - w->wall_began_ms >= w->run_cpu_max_ms * 3 / 2 && used >= w->run_cpu_max_ms / 4))
		run->kill = FLOW_CPU;
	return run->kill != FLOW_ALIVE;
}

static void on_rejection(
	JSContext *ctx, JSValueConst promise, JSValueConst reason, bool handled, void *opaque)
{
	(void)promise;
	struct flow_worker *w = opaque;
	if (!w->cur)
		return;
	w->cur->unhandled[0] = '\0';
	if (handled)
		return;
	JSValue message = JS_IsError(reason) ? JS_GetPropertyStr(ctx, reason, "message") : JS_UNDEFINED;
	const char *s = JS_IsString(message) ? JS_ToCString(ctx, message) : NULL;
	if (JS_IsException(message) || (!s && JS_HasException(ctx)))
		JS_FreeValue(ctx, JS_GetException(ctx));
	snprintf(w->cur->unhandled, sizeof(w->cur->unhandled), "%s", s ? s : "(not an error)");
	JS_FreeCString(ctx, s);
	JS_FreeValue(ctx, message);
}

/* Where memory runs out the interpreter leaves exceptions that nobody was told of; the next to run would meet
 * them. */
static void drop_exception(struct flow_run *run)
{
	if (run->realm && JS_HasException(run->realm->ctx))
		JS_FreeValue(run->realm->ctx, JS_GetException(run->realm->ctx));
}

void flow_drain(struct flow_worker *w, struct flow_run *run)
{
	while (!run->kill && JS_IsJobPending(w->rt)) {
		JSContext *ctx;
		if (JS_ExecutePendingJob(w->rt, &ctx) < 0)
			JS_FreeValue(ctx, JS_GetException(ctx));
		/* Between jobs too: a promise loop may be short of the interpreter's own count. */
		if (run->account->exhausted)
			run->kill = FLOW_MEMORY;
	}
	if (!run->kill && run->account->exhausted)
		run->kill = FLOW_MEMORY;
	drop_exception(run);
}

void flow_purge(struct flow_worker *w, struct flow_run *run)
{
	int64_t until = clock_ms(CLOCK_MONOTONIC) + PURGE_MAX_MS;
	if (run->kill == FLOW_ALIVE)
		run->kill = FLOW_BROKEN;
	flow_enter(w, run);
	JS_SetMemoryLimit(w->rt, 1); /* no job can make another one */
	while (JS_IsJobPending(w->rt)) {
		JSContext *ctx;
		if (JS_ExecutePendingJob(w->rt, &ctx) < 0)
			JS_FreeValue(ctx, JS_GetException(ctx));
		if (clock_ms(CLOCK_MONOTONIC) > until) {
			w->stopping = true;
			w->exit_code = EXIT_POISONED;
			break;
		}
	}
	JS_SetMemoryLimit(w->rt, 0);
	drop_exception(run);
	flow_enter(w, NULL);
	w->next_gc = 0;
}

/* "flow newsletter", as far as it is known. */
static void name_flow(const struct flow_run *run, char *out, size_t size)
{
	struct base_json *doc = NULL;
	struct base_str text = {run->context_json, run->context_len};
	snprintf(out, size, "flow");
	if (text.len > 0 && base_json_parse(text, &doc, NULL) == 0) {
		struct base_str name = base_jv_str(base_jv_get(base_json_root(doc), "flow"));
		if (name.len > 0)
			snprintf(out, size, "flow %.*s", BASE_STR_ARG(base_str_sub(name, 0, 100)));
	} else if (run->version) {
		snprintf(out, size, "flow %.100s", run->version->modules[run->version->entry].name);
	}
	base_json_free(doc);
}

void flow_kill_problem(struct flow_worker *w, const struct flow_run *run, struct base_buf *b)
{
	char name[128];
	name_flow(run, name, sizeof(name));
	const char *file = run->version ? run->version->modules[run->version->entry].name : NULL;
	if (run->kill == FLOW_MEMORY)
		flow_problem_say(b, "memory", file, 0, 0, "%s took more than %zu MiB of memory and was ended",
			name, run->account->limit >> 20);
	else
		flow_problem_say(b, "cpu", file, 0, 0,
			"%s computed for more than %lld ms without waiting for a step and was ended (an "
			"endless loop?)",
			name, (long long)w->run_cpu_max_ms);
}

/* --- scratch --- */

struct base_buf *flow_scratch(struct flow_worker *w, struct base_buf *spare)
{
	if (!w->scratch_taken) {
		w->scratch_taken = true;
		base_buf_clear(&w->scratch);
		return &w->scratch;
	}
	base_buf_init(spare, FLOW_JSON_MAX);
	return spare;
}

void flow_scratch_done(struct flow_worker *w, struct base_buf *b)
{
	if (b != &w->scratch) {
		base_buf_done(b);
		return;
	}
	w->scratch_taken = false;
	if (b->size > (1 << 20)) {
		base_buf_done(b);
		base_buf_init(b, FLOW_JSON_MAX);
	}
}

/* --- frames --- */

static int on_setup(struct flow_worker *w, struct base_str body)
{
	struct wire_setup f;
	struct base_json *doc = NULL;
	if (wire_setup_get(body, &f) < 0)
		return -EBADMSG;
	if (f.config.len == 0)
		return 0;
	if (base_json_parse(f.config, &doc, NULL) < 0)
		return -EBADMSG;
	struct base_jv config = base_json_root(doc);
	int64_t memory = base_jv_int(base_jv_get(config, "run_memory_mib"), 0);
	int64_t cpu = base_jv_int(base_jv_get(config, "run_cpu_ms"), 0);
	if (memory > 0 && memory <= 4096)
		w->run_memory_max = (size_t)memory << 20;
	if (cpu > 0)
		w->run_cpu_max_ms = cpu;
	flow_attack(w->conn, config);
	base_json_free(doc);
	return 0;
}

static int on_version(struct flow_worker *w, struct base_str body)
{
	struct wire_flow_version f;
	if (wire_flow_version_get(body, &f) < 0)
		return -EBADMSG;
	struct flow_version *v;
	if (flow_version_find(w, f.version))
		return 0;
	int rc = flow_version_new(w, f.version, f.modules, &v);
	if (rc < 0) {
		flow_note(w, 3, "a version could not be loaded: out of memory");
		return 0;
	}
	v->next = w->versions;
	w->versions = v;
	return 0;
}

static int on_forget(struct flow_worker *w, struct base_str body)
{
	struct wire_flow_forget f;
	if (wire_flow_forget_get(body, &f) < 0)
		return -EBADMSG;
	for (struct flow_version **at = &w->versions; *at; at = &(*at)->next) {
		struct flow_version *v = *at;
		if (!base_str_is(f.version, v->hash))
			continue;
		if (v->runs > 0)
			return -EBADMSG;
		*at = v->next;
		flow_version_free(w, v);
		break;
	}
	return 0;
}

static int on_start(struct flow_worker *w, struct base_str body)
{
	struct wire_flow_start f;
	if (wire_flow_start_get(body, &f) < 0)
		return -EBADMSG;
	flow_run_start(w, &f);
	return 0;
}

static int on_result(struct flow_worker *w, struct base_str body)
{
	struct wire_flow_result f;
	if (wire_flow_result_get(body, &f) < 0)
		return -EBADMSG;
	flow_run_result(w, &f);
	return 0;
}

static int on_drop(struct flow_worker *w, struct base_str body)
{
	struct wire_flow_drop f;
	if (wire_flow_drop_get(body, &f) < 0)
		return -EBADMSG;
	flow_run_drop(w, f.run);
	return 0;
}

static int on_inspect(struct flow_worker *w, struct base_str body)
{
	struct wire_flow_inspect f;
	if (wire_flow_inspect_get(body, &f) < 0)
		return -EBADMSG;
	flow_inspect(w, &f);
	return 0;
}

int flow_worker_frame(struct flow_worker *w, unsigned type, struct base_str body)
{
	w->cpu_began_ms = -1;
	w->called_bytes = 0;
	collect(w);
	set_gc_threshold(w);
	switch (type) {
	case WIRE_SETUP:
		return on_setup(w, body);
	case WIRE_STOP:
		w->stopping = true;
		return 0;
	case WIRE_FLOW_VERSION:
		return on_version(w, body);
	case WIRE_FLOW_FORGET:
		return on_forget(w, body);
	case WIRE_FLOW_START:
		return on_start(w, body);
	case WIRE_FLOW_RESULT:
		return on_result(w, body);
	case WIRE_FLOW_DROP:
		return on_drop(w, body);
	case WIRE_FLOW_INSPECT:
		return on_inspect(w, body);
	default:
		return -EBADMSG;
	}
}

/* --- answers that wait --- */

/* Answers leave in batches. But aiosd takes the oldest frame without an answer for the one that is worked on,
 * so what is answered must not wait while the next run computes, be it in a native loop that nothing but a
 * signal interrupts. */
static struct wire_conn *volatile pushed;

static void on_alarm(int sig)
{
	(void)sig;
	if (pushed)
		wire_conn_push(pushed);
}

static void push_while_busy(struct flow_worker *w, bool on)
{
	struct itimerval t = {0};
	if (on == (pushed != NULL))
		return;
	if (on)
		t.it_interval.tv_usec = t.it_value.tv_usec = PUSH_MS * 1000;
	pushed = on ? w->conn : NULL;
	setitimer(ITIMER_REAL, &t, NULL);
}

/* --- life --- */

int flow_worker_new(struct wire_conn *conn, struct flow_worker **ret, struct base_err *err)
{
	struct flow_worker *w = calloc(1, sizeof(*w));
	if (!w)
		return base_err_set(err, -ENOMEM, "out of memory");
	w->conn = conn;
	w->run_memory_max = RUN_MEMORY_MAX;
	w->run_cpu_max_ms = RUN_CPU_MAX_MS;
	w->next_gc = GC_SLACK;
	base_buf_init(&w->scratch, FLOW_JSON_MAX);
	flow_heap_init(&w->heap, TOTAL_MEMORY_MAX);
	w->rt = JS_NewRuntime2(flow_heap_functions(), &w->heap);
	int rc = w->rt ? base_idmap_new(&w->runs) : -ENOMEM;
	if (rc == 0) {
		JS_SetRuntimeOpaque(w->rt, w);
		JS_SetMaxStackSize(w->rt, STACK_MAX);
		JS_SetInterruptHandler(w->rt, on_interrupt, w);
		JS_SetHostPromiseRejectionTracker(w->rt, on_rejection, w);
		rc = flow_natives_init(w);
	}
	if (rc == 0)
		rc = flow_codec_new(w->rt, &w->codec);
	if (rc == 0)
		rc = flow_modules_init(w);
	if (rc < 0) {
		base_err_set(err, rc, "the standard library of flows does not load: %s",
			w->lib && w->lib->problem ? w->lib->problem : strerror(-rc));
		flow_worker_free(w);
		return rc;
	}
	*ret = w;
	return 0;
}

void flow_worker_free(struct flow_worker *w)
{
	if (!w)
		return;
	size_t cursor = 0;
	uint64_t id;
	void *run;
	while (w->runs && base_idmap_next(w->runs, &cursor, &id, &run))
		flow_run_free(w, run);
	base_idmap_free(w->runs);
	if (w->rt) {
		flow_modules_done(w);
		flow_realm_free_all(w);
		flow_codec_free(w->codec);
		JS_FreeRuntime(w->rt);
	}
	base_buf_done(&w->scratch);
	free(w);
}

/* Before more is asked of the flows, what they asked for must have left: the queue of the connection has an
 * end. */
static int flush_most(struct flow_worker *w)
{
	int rc = wire_conn_pending(w->conn) < FLUSH_BYTES ? 0 : wire_conn_flush(w->conn);
	while (rc == -EAGAIN && wire_conn_pending(w->conn) > OUT_HIGH) {
		struct pollfd p = {.fd = wire_conn_fd(w->conn), .events = POLLOUT};
		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return -errno;
		rc = wire_conn_flush(w->conn);
	}
	return rc == -EAGAIN ? 0 : rc;
}

static int handle_all(struct flow_worker *w)
{
	unsigned type;
	struct base_str body;
	int rc = 0;
	while (!w->stopping && (rc = wire_conn_next(w->conn, &type, &body)) != 0) {
		if (rc > 0) {
			if (wire_conn_pending(w->conn) > 0)
				push_while_busy(w, true);
			rc = flow_worker_frame(w, type, body);
		}
		if (rc < 0)
			break;
		rc = flush_most(w);
		if (rc < 0)
			break;
	}
	push_while_busy(w, false);
	return rc < 0 ? rc : 0;
}

/* The last answers; the peer may be gone. */
static void flush_rest(struct flow_worker *w)
{
	while (wire_conn_pending(w->conn) > 0) {
		int rc = wire_conn_wait(w->conn, 1000);
		if (rc < 0 && rc != -EAGAIN)
			return;
	}
}

/* Nothing has come for a while: what the last runs left behind goes back to the machine. */
static void tidy(struct flow_worker *w)
{
	w->next_gc = 0;
	collect(w);
	malloc_trim(0);
}

int flow_worker_serve(struct flow_worker *w)
{
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	bool tidied = true;
	sigaction(SIGALRM, &action, NULL);
	while (!w->stopping) {
		int rc = wire_conn_wait(w->conn, tidied ? -1 : TIDY_AFTER_MS);
		if (rc == -ETIMEDOUT) {
			tidy(w);
			tidied = true;
			continue;
		}
		if (rc < 0)
			return rc == -EPIPE ? 0 : 1;
		tidied = false;
		if (handle_all(w) < 0)
			return 1;
		wire_conn_flush(w->conn);
	}
	flush_rest(w);
	return w->exit_code;
}
