#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "flow/flow_int.h"

/*
 * The module "aios:native", which only the standard library may import. None of these functions takes a run:
 * whose code runs is what the worker says, and no flow can say otherwise.
 */

struct definition {
	JSValue spec, fn;
};

static void definition_finalize(JSRuntime *rt, JSValueConst v)
{
	JSClassID id;
	struct definition *d = JS_GetAnyOpaque(v, &id);
	if (!d)
		return;
	JS_FreeValueRT(rt, d->spec);
	JS_FreeValueRT(rt, d->fn);
	free(d);
}

static void definition_mark(JSRuntime *rt, JSValueConst v, JS_MarkFunc *mark)
{
	JSClassID id;
	struct definition *d = JS_GetAnyOpaque(v, &id);
	if (!d)
		return;
	JS_MarkValue(rt, d->spec, mark);
	JS_MarkValue(rt, d->fn, mark);
}

int flow_natives_init(struct flow_worker *w)
{
	static const JSClassDef class = {"Flow", definition_finalize, definition_mark, NULL, NULL};
	JS_NewClassID(w->rt, &w->definition_class);
	return JS_NewClass(w->rt, w->definition_class, &class) < 0 ? -ENOMEM : 0;
}

bool flow_definition_of(JSContext *ctx, JSValueConst v, JSValueConst *ret_spec, JSValueConst *ret_fn)
{
	struct definition *d = JS_GetOpaque(v, flow_worker_of(ctx)->definition_class);
	if (!d)
		return false;
	*ret_spec = d->spec;
	*ret_fn = d->fn;
	return true;
}

/* definition(spec, fn): what `export default flow(…)` gives; only this class counts as a flow. */
static JSValue native_definition(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
{
	(void)self;
	(void)argc;
	JSValue obj = JS_NewObjectProtoClass(ctx, JS_NULL, flow_worker_of(ctx)->definition_class);
	if (JS_IsException(obj))
		return obj;
	struct definition *d = malloc(sizeof(*d));
	if (!d) {
		JS_FreeValue(ctx, obj);
		return JS_ThrowOutOfMemory(ctx);
	}
	*d = (struct definition){JS_DupValue(ctx, argv[0]), JS_DupValue(ctx, argv[1])};
	JS_SetOpaque(obj, d);
	JS_PreventExtensions(ctx, obj);
	return obj;
}

static JSValue native_call(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
{
	(void)self;
	(void)argc;
	return flow_run_call(flow_worker_of(ctx), ctx, argv[0], argv[1], argv[2]);
}

static JSValue native_time(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
{
	(void)self;
	(void)argc;
	(void)argv;
	struct flow_run *run = flow_worker_of(ctx)->cur;
	return JS_NewInt64(ctx, run ? run->time_ms : 0);
}

static JSValue native_random(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
{
	(void)self;
	(void)argc;
	(void)argv;
	struct flow_run *run = flow_worker_of(ctx)->cur;
	double d = run ? (double)(base_prng_next(&run->prng) >> 11) * 0x1p-53 : 0;
	return JS_NewFloat64(ctx, d);
}

/* context(make): make(what the run was started with), once a run. */
static JSValue native_context(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
{
	(void)self;
	(void)argc;
	struct flow_worker *w = flow_worker_of(ctx);
	struct flow_run *run = w->cur;
	if (!run)
		return JS_UNDEFINED;
	if (JS_IsUndefined(run->context)) {
		struct base_str text = {run->context_json, run->context_len};
		JSValue v = flow_codec_get(w->codec, ctx, text);
		if (JS_IsException(v))
			return v;
		JSValue made = JS_Call(ctx, argv[0], JS_UNDEFINED, 1, &v);
		JS_FreeValue(ctx, v);
		if (JS_IsException(made))
			return made;
		run->context = made;
	}
	return JS_DupValue(ctx, run->context);
}

/* attribute(customer): who the run's further calls are for; undefined: nobody. */
static JSValue native_attribute(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
{
	(void)self;
	(void)argc;
	struct flow_run *run = flow_worker_of(ctx)->cur;
	if (!run)
		return JS_UNDEFINED;
	free(run->customer);
	run->customer = NULL;
	if (JS_IsUndefined(argv[0]))
		return JS_UNDEFINED;
	const char *s = JS_ToCString(ctx, argv[0]);
	run->customer = s ? strdup(s) : NULL;
	JS_FreeCString(ctx, s);
	return s ? JS_UNDEFINED : JS_EXCEPTION;
}

static JSValue native_customer(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
{
	(void)self;
	(void)argc;
	(void)argv;
	struct flow_run *run = flow_worker_of(ctx)->cur;
	return run && run->customer ? JS_NewString(ctx, run->customer) : JS_UNDEFINED;
}

/* Is a version being inspected, rather than a run under way? */
static JSValue native_inspecting(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
{
	(void)self;
	(void)argc;
	(void)argv;
	struct flow_run *run = flow_worker_of(ctx)->cur;
	return JS_NewBool(ctx, run && !run->version);
}

static const JSCFunctionListEntry natives[] = {
	JS_CFUNC_DEF("definition", 2, native_definition),
	JS_CFUNC_DEF("call", 3, native_call),
	JS_CFUNC_DEF("time", 0, native_time),
	JS_CFUNC_DEF("random", 0, native_random),
	JS_CFUNC_DEF("context", 1, native_context),
	JS_CFUNC_DEF("attribute", 1, native_attribute),
	JS_CFUNC_DEF("customer", 0, native_customer),
	JS_CFUNC_DEF("inspecting", 0, native_inspecting),
};
enum { NATIVES = sizeof(natives) / sizeof(natives[0]) };

static int natives_fill(JSContext *ctx, JSModuleDef *m)
{
	return JS_SetModuleExportList(ctx, m, natives, NATIVES);
}

JSModuleDef *flow_natives_module(JSContext *ctx)
{
	JSModuleDef *m = JS_NewCModule(ctx, "aios:native", natives_fill);
	if (m && JS_AddModuleExportList(ctx, m, natives, NATIVES) < 0)
		return NULL;
	return m;
}
