#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "flow/flow_int.h"

/*
 * Realms. Making and freezing a context costs about 0.7 ms, a module instance 10 µs, so runs share contexts.
 *
 * Invariants
 *  1. Nothing that two runs of a realm can both reach is mutable: the global object, every intrinsic,
 * everything of the standard library is frozen before the first run enters. What is mutable (module
 * instances, promises) is reached from one run only.
 *  2. The interpreter frees modules with their context, not before; so a realm takes a bounded number of
 * runs.
 *  3. There is no parser at run time: the context has no eval and no Function from text.
 */

enum {
	RUNS_PER_REALM = 64,
	BYTES_PER_REALM = 8 << 20,
};

static JSContext *new_context(JSRuntime *rt)
{
	JSContext *ctx = JS_NewContextRaw(rt);
	if (!ctx)
		return NULL;
	JS_AddIntrinsicRegExpCompiler(ctx);
	if (JS_AddIntrinsicBaseObjects(ctx) < 0 || JS_AddIntrinsicDate(ctx) < 0 ||
		JS_AddIntrinsicRegExp(ctx) < 0 || JS_AddIntrinsicJSON(ctx) < 0 ||
		JS_AddIntrinsicProxy(ctx) < 0 || JS_AddIntrinsicMapSet(ctx) < 0 ||
		JS_AddIntrinsicTypedArrays(ctx) < 0 || JS_AddIntrinsicPromise(ctx) < 0 ||
		JS_AddIntrinsicAToB(ctx) < 0) {
		JS_FreeContext(ctx);
		return NULL;
	}
	return ctx;
}

static bool fill(struct flow_worker *w, struct flow_realm *r)
{
	r->native = flow_natives_module(r->ctx);
	JSValue setup = r->native ? flow_instantiate_lib(w, r, "aios:setup") : JS_EXCEPTION;
	JSValue lib = JS_IsException(setup) ? JS_EXCEPTION : flow_instantiate_lib(w, r, "aios:ctx");
	JSValue front = JS_IsException(lib) ? JS_EXCEPTION : flow_instantiate_lib(w, r, "aios");
	bool ok = !JS_IsException(front) && flow_freeze(r->ctx, w->definition_class) == 0 &&
		  flow_freeze_exports(r->ctx, lib) == 0 && flow_freeze_exports(r->ctx, front) == 0;
	if (ok) {
		r->flow_ctx = JS_GetPropertyStr(r->ctx, lib, "ctx");
		r->step_error = JS_GetPropertyStr(r->ctx, lib, "stepError");
		r->describe = JS_GetPropertyStr(r->ctx, lib, "describe");
	}
	JS_FreeValue(r->ctx, setup);
	JS_FreeValue(r->ctx, lib);
	JS_FreeValue(r->ctx, front);
	return ok && JS_IsObject(r->flow_ctx) && JS_IsFunction(r->ctx, r->step_error) &&
	       JS_IsFunction(r->ctx, r->describe);
}

static void realm_free(struct flow_worker *w, struct flow_realm *r)
{
	for (struct flow_realm **at = &w->realms; *at; at = &(*at)->next) {
		if (*at == r) {
			*at = r->next;
			break;
		}
	}
	JS_FreeValue(r->ctx, r->flow_ctx);
	JS_FreeValue(r->ctx, r->step_error);
	JS_FreeValue(r->ctx, r->describe);
	JS_FreeContext(r->ctx);
	free(r->lib);
	free(r);
}

static struct flow_realm *realm_new(struct flow_worker *w)
{
	struct flow_run *before = flow_enter(w, NULL);
	struct flow_realm *r = calloc(1, sizeof(*r));
	JSModuleDef **lib = calloc(flow_lib_count, sizeof(JSModuleDef *));
	JSContext *ctx = new_context(w->rt);
	if (!r || !lib || !ctx) {
		free(r);
		free(lib);
		if (ctx)
			JS_FreeContext(ctx);
		flow_enter(w, before);
		return NULL;
	}
	*r = (struct flow_realm){.ctx = ctx,
		.lib = lib,
		.flow_ctx = JS_UNDEFINED,
		.step_error = JS_UNDEFINED,
		.describe = JS_UNDEFINED,
		.began = w->heap.total};
	if (!fill(w, r)) {
		struct base_buf b;
		base_buf_init(&b, 64 << 10);
		flow_problem_of(ctx, JS_GetException(ctx), NULL, &b);
		flow_note(w, 3, "the standard library does not load: %.*s", BASE_STR_ARG(base_buf_view(&b)));
		base_buf_done(&b);
		realm_free(w, r);
		r = NULL;
	}
	flow_enter(w, before);
	return r;
}

struct flow_realm *flow_realm_take(struct flow_worker *w)
{
	struct flow_realm *r = w->realms;
	if (r && (r->made >= RUNS_PER_REALM || w->heap.total > r->began + BYTES_PER_REALM)) {
		flow_realm_retire(w, r);
		r = NULL;
	}
	if (!r || r->retired) {
		r = realm_new(w);
		if (!r)
			return NULL;
		r->next = w->realms;
		w->realms = r;
	}
	r->runs++;
	r->made++;
	return r;
}

void flow_realm_leave(struct flow_worker *w, struct flow_realm *r)
{
	r->runs--;
	if (r->retired && r->runs == 0)
		realm_free(w, r);
}

void flow_realm_retire(struct flow_worker *w, struct flow_realm *r)
{
	r->retired = true;
	if (r->runs == 0)
		realm_free(w, r);
}

void flow_realm_free_all(struct flow_worker *w)
{
	while (w->realms)
		realm_free(w, w->realms);
}
