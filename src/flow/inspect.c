#include <errno.h>
#include <stdio.h>

#include "flow/flow_int.h"
#include "wire/frames.h"

/* What `aios deploy` does with a flow before it is a version: load it for real, and read what it declares. */

static void answer(struct flow_worker *w, uint64_t req, bool ok, struct base_str spec)
{
	struct wire_flow_inspected f = {.req = req, .ok = ok, .spec = spec};
	wire_flow_inspected_put(wire_conn_begin(w->conn, WIRE_FLOW_INSPECTED), &f);
	if (wire_conn_end(w->conn) < 0) {
		w->stopping = true;
		w->exit_code = 1;
	}
}

/* What the definition declares, as a JS value. JS_EXCEPTION. */
static JSValue describe(struct flow_worker *w, struct flow_run *run, struct flow_version *v)
{
	JSContext *ctx = run->realm->ctx;
	JSValue def = flow_instantiate(w, run->realm, v);
	if (JS_IsException(def))
		return def;
	const char *entry = v->modules[v->entry].name;
	JSValueConst spec, fn;
	JSValue ret;
	if (!flow_definition_of(ctx, def, &spec, &fn)) {
		JS_ThrowTypeError(ctx, "%s has no default export made by flow({…}, fn)", entry);
		JSValue e = JS_GetException(ctx);
		if (JS_IsObject(e)) {
			JS_DefinePropertyValueStr(
				ctx, e, "fileName", JS_NewString(ctx, entry), JS_PROP_C_W_E);
			JS_DefinePropertyValueStr(ctx, e, "lineNumber", JS_NewInt32(ctx, 1), JS_PROP_C_W_E);
		}
		ret = JS_Throw(ctx, e);
	} else {
		char interpreter[64];
		snprintf(interpreter, sizeof(interpreter), "quickjs-ng %s", JS_GetVersion());
		JSValue argv[3] = {
			JS_DupValue(ctx, spec), JS_NewString(ctx, entry), JS_NewString(ctx, interpreter)};
		ret = JS_Call(ctx, run->realm->describe, JS_UNDEFINED, 3, argv);
		for (int i = 0; i < 3; i++)
			JS_FreeValue(ctx, argv[i]);
	}
	JS_FreeValue(ctx, def);
	return ret;
}

/* 1 with the spec in b, 0 with a problem. */
static int inspect(struct flow_worker *w, struct flow_run *run, struct flow_version *v, struct base_buf *b)
{
	JSContext *ctx = run->realm->ctx;
	flow_enter(w, run);
	JSValue spec = describe(w, run, v);
	int rc = JS_IsException(spec) ? -1 : flow_codec_put(w->codec, ctx, spec, "spec", b);
	JS_FreeValue(ctx, spec);
	if (rc < 0) {
		base_buf_clear(b);
		flow_problem_of(ctx, JS_GetException(ctx), "load", b);
	}
	flow_drain(w, run);
	flow_enter(w, NULL);
	if (!run->kill)
		return rc == 0;
	base_buf_clear(b);
	flow_kill_problem(w, run, b);
	flow_purge(w, run);
	flow_realm_retire(w, run->realm);
	return 0;
}

void flow_inspect(struct flow_worker *w, const struct wire_flow_inspect *f)
{
	struct flow_version *v = NULL;
	struct base_buf b;
	base_buf_init(&b, FLOW_JSON_MAX);
	int ok = 0;
	if (flow_version_new(w, BASE_STR("inspected"), f->modules, &v) < 0) {
		flow_problem_say(&b, "memory", NULL, 0, 0, "out of memory while the flow was loaded");
	} else if (v->problem) {
		base_buf_cstr(&b, v->problem);
	} else {
		struct flow_run *run = flow_run_new(w, 0);
		if (run)
			run->realm = flow_realm_take(w);
		if (run && run->realm)
			ok = inspect(w, run, v, &b);
		else
			flow_problem_say(&b, "memory", NULL, 0, 0, "out of memory while the flow was loaded");
		if (run)
			flow_run_free(w, run);
	}
	answer(w, f->req, ok, base_buf_view(&b));
	base_buf_done(&b);
	flow_version_free(w, v);
}
