#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "flow/flow_int.h"
#include "wire/frames.h"

/*
 * One run: its function's promise, its open steps.
 *
 * Invariants
 *  1. flow_enter brackets every piece of the run's code: it pays for its memory and answers for its time.
 *  2. Between two frames the job queue is empty, so no job of one run ever runs inside another's turn.
 *  3. Every flow_start and flow_result is answered by exactly one of flow_idle, flow_done and flow_failed;
 * after the last two nothing of the run is left here.
 */

enum { CALLED_MAX = 24 << 20 }; /* arguments of the steps that one turn may ask for */

struct flow_run *flow_run_new(struct flow_worker *w, uint64_t id)
{
	struct flow_run *run = calloc(1, sizeof(*run));
	struct flow_account *account = flow_account_new(w->run_memory_max);
	if (!run || !account) {
		free(run);
		free(account);
		return NULL;
	}
	*run = (struct flow_run){.id = id, .account = account, .main = JS_UNDEFINED, .context = JS_UNDEFINED};
	return run;
}

void flow_run_free(struct flow_worker *w, struct flow_run *run)
{
	for (uint32_t i = 0; i < run->count; i++) {
		JS_FreeValueRT(w->rt, run->steps[i].resolve);
		JS_FreeValueRT(w->rt, run->steps[i].reject);
		JS_FreeAtomRT(w->rt, run->steps[i].action);
	}
	JS_FreeValueRT(w->rt, run->main);
	JS_FreeValueRT(w->rt, run->context);
	free(run->steps);
	free(run->customer);
	free(run->context_json);
	if (run->version)
		run->version->runs--;
	if (run->realm)
		flow_realm_leave(w, run->realm);
	if (run->account->bytes > (1 << 20))
		w->next_gc = 0; /* it left much behind: collect before the next run */
	flow_account_close(run->account);
	free(run);
}

/* --- answers --- */

static void end_frame(struct flow_worker *w)
{
	if (wire_conn_end(w->conn) < 0) {
		w->stopping = true;
		w->exit_code = 1;
	}
}

static void send_idle(struct flow_worker *w, const struct flow_run *run)
{
	struct wire_flow_idle f = {.run = run->id, .steps = run->count};
	wire_flow_idle_put(wire_conn_begin(w->conn, WIRE_FLOW_IDLE), &f);
	end_frame(w);
}

static void send_done(struct flow_worker *w, const struct flow_run *run, struct base_str value)
{
	struct wire_flow_done f = {.run = run->id, .steps = run->count, .value = value};
	wire_flow_done_put(wire_conn_begin(w->conn, WIRE_FLOW_DONE), &f);
	end_frame(w);
}

static void send_failed(struct flow_worker *w, uint64_t id, uint32_t steps, struct base_str problem)
{
	struct wire_flow_failed f = {.run = id, .steps = steps, .problem = problem};
	wire_flow_failed_put(wire_conn_begin(w->conn, WIRE_FLOW_FAILED), &f);
	end_frame(w);
}

static void forget(struct flow_worker *w, struct flow_run *run)
{
	base_idmap_remove(w->runs, run->id);
	flow_run_free(w, run);
}

/* Fails the run with the problem in b, which it frees. */
static void fail(struct flow_worker *w, struct flow_run *run, struct base_buf *b)
{
	send_failed(w, run->id, run->count, base_buf_view(b));
	base_buf_done(b);
	forget(w, run);
}

static void fail_saying(struct flow_worker *w, struct flow_run *run, const char *kind, const char *text)
{
	struct base_buf b;
	base_buf_init(&b, 64 << 10);
	flow_problem_say(&b, kind, NULL, 0, 0, "%s", text);
	fail(w, run, &b);
}

/* --- after a drain --- */

static void settle_killed(struct flow_worker *w, struct flow_run *run)
{
	struct base_buf b;
	base_buf_init(&b, 64 << 10);
	flow_kill_problem(w, run, &b);
	send_failed(w, run->id, run->count, base_buf_view(&b));
	base_buf_done(&b);
	flow_purge(w, run);
	/* Its instances died in the middle of something: nobody shall share a realm with them. */
	if (run->realm && !run->realm->retired)
		flow_realm_retire(w, run->realm);
	forget(w, run);
}

static void settle_fulfilled(struct flow_worker *w, struct flow_run *run)
{
	JSContext *ctx = run->realm->ctx;
	struct base_buf b, own;
	base_buf_init(&b, 64 << 10);
	struct base_buf *s = flow_scratch(w, &own);
	flow_enter(w, run);
	JSValue v = JS_PromiseResult(ctx, run->main);
	int rc = flow_codec_put(w->codec, ctx, v, "the flow's result", s);
	JS_FreeValue(ctx, v);
	if (rc < 0)
		flow_problem_of(ctx, JS_GetException(ctx), NULL, &b);
	flow_drain(w, run); /* a toJSON or a getter of the result may have left jobs */
	flow_enter(w, NULL);
	if (run->kill) {
		settle_killed(w, run);
	} else if (rc < 0) {
		fail(w, run, &b);
		base_buf_init(&b, 0);
	} else {
		send_done(w, run, base_buf_view(s));
		forget(w, run);
	}
	flow_scratch_done(w, s);
	base_buf_done(&b);
}

static void settle_rejected(struct flow_worker *w, struct flow_run *run)
{
	struct base_buf b;
	base_buf_init(&b, 64 << 10);
	flow_enter(w, run);
	flow_problem_of(run->realm->ctx, JS_PromiseResult(run->realm->ctx, run->main), NULL, &b);
	flow_drain(w, run);
	flow_enter(w, NULL);
	if (run->kill) {
		base_buf_done(&b);
		settle_killed(w, run);
		return;
	}
	fail(w, run, &b);
}

static void settle_stuck(struct flow_worker *w, struct flow_run *run)
{
	char text[400];
	snprintf(text, sizeof(text),
		"stuck: it waits for nothing (no step is open, and its promise is not settled)%s%s",
		run->unhandled[0] ? "; a rejection was not handled: " : "", run->unhandled);
	fail_saying(w, run, "stuck", text);
}

/* Drains, then answers the frame that led here. The run may be gone afterwards. */
static void settle(struct flow_worker *w, struct flow_run *run)
{
	flow_enter(w, run);
	flow_drain(w, run);
	JSPromiseStateEnum state =
		run->kill ? JS_PROMISE_PENDING : JS_PromiseState(run->realm->ctx, run->main);
	flow_enter(w, NULL);
	if (run->kill)
		settle_killed(w, run);
	else if (state == JS_PROMISE_FULFILLED)
		settle_fulfilled(w, run);
	else if (state == JS_PROMISE_REJECTED)
		settle_rejected(w, run);
	else if (run->open == 0)
		settle_stuck(w, run);
	else
		send_idle(w, run);
}

/* --- start --- */

/* The promise of whatever the flow's function returned. */
static JSValue as_promise(JSContext *ctx, JSValue v)
{
	if (JS_IsException(v) || JS_IsPromise(v))
		return v;
	JSValue funcs[2];
	JSValue promise = JS_NewPromiseCapability(ctx, funcs);
	if (!JS_IsException(promise)) {
		JS_FreeValue(ctx, JS_Call(ctx, funcs[0], JS_UNDEFINED, 1, &v));
		JS_FreeValue(ctx, funcs[0]);
		JS_FreeValue(ctx, funcs[1]);
	}
	JS_FreeValue(ctx, v);
	return promise;
}

static JSValue call_flow(struct flow_worker *w, struct flow_run *run, struct base_str input)
{
	JSContext *ctx = run->realm->ctx;
	JSValue def = flow_instantiate(w, run->realm, run->version);
	if (JS_IsException(def))
		return def;
	JSValueConst spec, fn;
	JSValue ret = JS_EXCEPTION;
	if (!flow_definition_of(ctx, def, &spec, &fn)) {
		JS_ThrowTypeError(ctx, "%s has no default export made by flow({…}, fn)",
			run->version->modules[run->version->entry].name);
	} else {
		JSValue argv[2] = {
			JS_DupValue(ctx, run->realm->flow_ctx), flow_codec_get(w->codec, ctx, input)};
		if (!JS_IsException(argv[1]))
			ret = as_promise(ctx, JS_Call(ctx, fn, JS_UNDEFINED, 2, argv));
		JS_FreeValue(ctx, argv[0]);
		JS_FreeValue(ctx, argv[1]);
	}
	JS_FreeValue(ctx, def);
	return ret;
}

static bool keep_context(struct flow_run *run, struct base_str json)
{
	run->context_json = malloc(json.len + 1);
	if (!run->context_json)
		return false;
	if (json.len > 0)
		memcpy(run->context_json, json.ptr, json.len);
	run->context_len = json.len;
	return true;
}

static struct flow_run *begin(struct flow_worker *w, const struct wire_flow_start *f)
{
	struct flow_run *run = flow_run_new(w, f->run);
	if (!run)
		return NULL;
	uint8_t seed[32] = {0};
	if (f->seed.len == sizeof(seed))
		memcpy(seed, f->seed.ptr, sizeof(seed));
	run->prng = base_prng_of(seed);
	run->time_ms = f->time_ms;
	if (!keep_context(run, f->context) || base_idmap_put(w->runs, f->run, run) < 0) {
		flow_run_free(w, run);
		return NULL;
	}
	run->realm = flow_realm_take(w);
	if (run->realm)
		return run;
	forget(w, run);
	return NULL;
}

static void refuse_start(struct flow_worker *w, uint64_t id, const char *kind, const char *text)
{
	struct base_buf b;
	base_buf_init(&b, 4096);
	flow_problem_say(&b, kind, NULL, 0, 0, "%s", text);
	send_failed(w, id, 0, base_buf_view(&b));
	base_buf_done(&b);
}

void flow_run_start(struct flow_worker *w, const struct wire_flow_start *f)
{
	flow_run_drop(w, f->run); /* started anew: the engine says so */
	struct flow_version *v = flow_version_find(w, f->version);
	if (!v) {
		refuse_start(w, f->run, "load", "this version was not sent to the worker");
		return;
	}
	if (v->problem) {
		send_failed(w, f->run, 0, base_str_of(v->problem));
		return;
	}
	struct flow_run *run = begin(w, f);
	if (!run) {
		refuse_start(w, f->run, "memory", "the worker has no memory left for another run");
		return;
	}
	run->version = v;
	v->runs++;
	flow_enter(w, run);
	run->main = call_flow(w, run, f->input);
	if (!JS_IsException(run->main)) {
		JS_PromiseMarkAsHandled(run->realm->ctx, run->main);
		settle(w, run);
		return;
	}
	run->main = JS_UNDEFINED;
	struct base_buf b;
	base_buf_init(&b, 64 << 10);
	flow_problem_of(run->realm->ctx, JS_GetException(run->realm->ctx), NULL, &b);
	flow_drain(w, run);
	flow_enter(w, NULL);
	if (run->kill) {
		base_buf_done(&b);
		settle_killed(w, run);
		return;
	}
	fail(w, run, &b);
}

/* --- steps --- */

static struct flow_step *next_step(struct flow_run *run)
{
	if (run->count == run->size) {
		uint32_t size = run->size ? run->size * 2 : 8;
		struct flow_step *steps = realloc(run->steps, size * sizeof(*steps));
		if (!steps)
			return NULL;
		run->steps = steps;
		run->size = size;
	}
	return &run->steps[run->count];
}

static int send_call(struct flow_worker *w, JSContext *ctx, struct flow_run *run, const char *action,
	JSValueConst args, JSValueConst opts)
{
	struct base_buf own, opts_buf;
	struct base_buf *s = flow_scratch(w, &own);
	base_buf_init(&opts_buf, FLOW_JSON_MAX);
	int rc = flow_codec_put(w->codec, ctx, args, action, s);
	if (rc == 0 && !JS_IsUndefined(opts))
		rc = flow_codec_put(w->codec, ctx, opts, "options", &opts_buf);
	w->called_bytes += s->len + opts_buf.len;
	if (rc == 0 && w->called_bytes > CALLED_MAX) {
		JS_ThrowRangeError(ctx,
			"more than %d MiB of arguments at once: await some of the steps first",
			CALLED_MAX >> 20);
		rc = -1;
	}
	if (rc == 0) {
		/* The number is taken only now: a getter in the arguments may have called another step. */
		struct wire_flow_call f = {.run = run->id,
			.step = run->count,
			.action = base_str_of(action),
			.args = base_buf_view(s),
			.opts = base_buf_view(&opts_buf)};
		wire_flow_call_put(wire_conn_begin(w->conn, WIRE_FLOW_CALL), &f);
		end_frame(w);
	}
	flow_scratch_done(w, s);
	base_buf_done(&opts_buf);
	return rc;
}

JSValue flow_run_call(
	struct flow_worker *w, JSContext *ctx, JSValueConst action, JSValueConst args, JSValueConst opts)
{
	struct flow_run *run = w->cur;
	if (!run || !run->version || run->kill)
		return JS_ThrowTypeError(ctx, "steps can be called only while the flow's function runs");
	if (!JS_IsString(action))
		return JS_ThrowTypeError(ctx, "the action must be a string such as \"mail.send\"");
	struct flow_step s = {.open = true};
	JSValue funcs[2];
	JSValue promise = JS_NewPromiseCapability(ctx, funcs);
	if (JS_IsException(promise))
		return promise;
	s.resolve = funcs[0];
	s.reject = funcs[1];
	s.action = JS_ValueToAtom(ctx, action);
	const char *name = s.action ? JS_AtomToCString(ctx, s.action) : NULL;
	int rc = name ? send_call(w, ctx, run, name, args, opts) : -1;
	struct flow_step *at = rc == 0 ? next_step(run) : NULL;
	JS_FreeCString(ctx, name);
	if (!at) {
		JS_FreeValue(ctx, funcs[0]);
		JS_FreeValue(ctx, funcs[1]);
		JS_FreeAtom(ctx, s.action);
		JS_FreeValue(ctx, promise);
		return rc == 0 ? JS_ThrowOutOfMemory(ctx) : JS_EXCEPTION;
	}
	*at = s;
	run->count++;
	run->open++;
	return promise;
}

/* --- results --- */

/* Settles the step's promise. The run's code does not run yet: promise reactions are jobs. */
static void resolve_step(struct flow_worker *w, struct flow_run *run, const struct wire_flow_result *f)
{
	JSContext *ctx = run->realm->ctx;
	struct flow_step *s = &run->steps[f->step];
	JSValue funcs[2] = {s->resolve, s->reject};
	JSAtom action = s->action;
	*s = (struct flow_step){.resolve = JS_UNDEFINED, .reject = JS_UNDEFINED, .action = JS_ATOM_NULL};
	run->open--;
	JSValue v = flow_codec_get(w->codec, ctx, f->value);
	if (f->status != 0 && !JS_IsException(v)) {
		JSValue argv[3] = {v, JS_NewUint32(ctx, f->step), JS_AtomToString(ctx, action)};
		v = JS_Call(ctx, run->realm->step_error, JS_UNDEFINED, 3, argv);
		for (int i = 0; i < 3; i++)
			JS_FreeValue(ctx, argv[i]);
	}
	bool reject = f->status != 0;
	if (JS_IsException(v)) {
		v = JS_GetException(ctx);
		reject = true;
	}
	JSValue ret = JS_Call(ctx, funcs[reject], JS_UNDEFINED, 1, &v);
	if (JS_IsException(ret))
		JS_FreeValue(ctx, JS_GetException(ctx));
	JS_FreeValue(ctx, ret);
	JS_FreeValue(ctx, v);
	JS_FreeValue(ctx, funcs[0]);
	JS_FreeValue(ctx, funcs[1]);
	JS_FreeAtom(ctx, action);
}

void flow_run_result(struct flow_worker *w, const struct wire_flow_result *f)
{
	struct flow_run *run = base_idmap_get(w->runs, f->run);
	if (!run)
		return; /* it ended, and that answer crossed with this frame */
	if (f->step >= run->count || !run->steps[f->step].open) {
		char text[200];
		snprintf(text, sizeof(text),
			f->step >= run->count ? "diverged: the journal has a result of step %u, but the flow "
						"has asked for %u steps only"
					      : "diverged: step %u has ended twice (of %u)",
			f->step, run->count);
		fail_saying(w, run, "diverged", text);
		return;
	}
	if (f->time_ms > run->time_ms)
		run->time_ms = f->time_ms;
	flow_enter(w, run);
	resolve_step(w, run, f);
	settle(w, run);
}

void flow_run_drop(struct flow_worker *w, uint64_t id)
{
	struct flow_run *run = base_idmap_get(w->runs, id);
	if (run)
		forget(w, run);
}
