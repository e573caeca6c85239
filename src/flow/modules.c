#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "flow/flow_int.h"

/*
 * Module graphs. A version is compiled once, in a context of its own that never runs anything; its bytecode
 * is read into the realm anew for each run, so that module state is a run's own.
 *
 * Names: a module in a realm carries its plain name ("flows/x.js": what stack traces show), while imports
 * resolve to the name behind MARK. The interpreter finds loaded modules by name, so it never finds another
 * run's instance and always asks the loader, which knows the run.
 */

#define MARK "\1"

static const char native_name[] = "aios:native";

static bool is_lib_name(const char *name)
{
	return strncmp(name, "aios:", 5) == 0 || strcmp(name, "aios") == 0;
}

static ptrdiff_t find_module(const struct flow_version *v, const char *name)
{
	for (size_t i = 0; i < v->count; i++) {
		if (strcmp(v->modules[i].name, name) == 0)
			return (ptrdiff_t)i;
	}
	return -1;
}

/* --- names --- */

/* "flows/a.js" and "../lib/b.js" give "lib/b.js"; NULL if it leaves the workspace or does not fit. */
static char *join(const char *base, const char *name, char *out, size_t size)
{
	const char *slash = strrchr(base, '/');
	size_t len = slash ? (size_t)(slash - base) : 0;
	if (len + strlen(name) + 16 > size)
		return NULL;
	memcpy(out, base, len);
	while (*name) {
		size_t part = strcspn(name, "/");
		if (part == 2 && memcmp(name, "..", 2) == 0) {
			if (len == 0)
				return NULL;
			while (len > 0 && out[len - 1] != '/')
				len--;
			len -= len > 0;
		} else if (part > 0 && !(part == 1 && *name == '.')) {
			if (len > 0)
				out[len++] = '/';
			memcpy(out + len, name, part);
			len += part;
		}
		name += part + (name[part] == '/');
	}
	out[len] = '\0';
	return out;
}

/* The module that `name`, imported by `base`, means. -1: none. */
static ptrdiff_t resolve(const struct flow_version *v, const char *base, const char *name)
{
	char path[1024];
	if (strncmp(name, "./", 2) != 0 && strncmp(name, "../", 3) != 0)
		return -1;
	return join(base, name, path, sizeof(path)) ? find_module(v, path) : -1;
}

/* Where `name` stands in quotes in the source of `file`: for messages. */
static void locate(
	const struct flow_version *v, const char *file, const char *name, int *ret_line, int *ret_column)
{
	ptrdiff_t at = find_module(v, file);
	const char *source = at >= 0 ? v->modules[at].source : NULL;
	size_t len = strlen(name);
	*ret_line = 0;
	*ret_column = 0;
	for (const char *p = source; p && (p = strstr(p, name)); p++) {
		if (p == source || (p[-1] != '"' && p[-1] != '\'') || p[len] != p[-1])
			continue;
		const char *begin = p - 1;
		*ret_line = 1;
		for (const char *q = source; q < p; q++) {
			if (*q == '\n') {
				(*ret_line)++;
				begin = q + 1;
			}
		}
		*ret_column = *ret_line == 1 ? (int)(p - source) : (int)(p - begin);
		return;
	}
}

static char *throw_missing(JSContext *ctx, const struct flow_version *v, const char *base, const char *name)
{
	int line, column;
	locate(v, base, name, &line, &column);
	JS_ThrowSyntaxError(ctx, "cannot find module \"%s\", which %s imports", name, base);
	JSValue e = JS_GetException(ctx);
	if (JS_IsObject(e)) {
		JS_DefinePropertyValueStr(ctx, e, "fileName", JS_NewString(ctx, base), JS_PROP_C_W_E);
		JS_DefinePropertyValueStr(ctx, e, "lineNumber", JS_NewInt32(ctx, line), JS_PROP_C_W_E);
		JS_DefinePropertyValueStr(ctx, e, "columnNumber", JS_NewInt32(ctx, column), JS_PROP_C_W_E);
	}
	JS_Throw(ctx, e);
	return NULL;
}

static char *normalize(JSContext *ctx, const char *base, const char *name, void *opaque)
{
	struct flow_worker *w = opaque;
	const struct flow_version *v = w->compiling ? w->compiling : w->link ? w->link->version : NULL;
	if (!v) {
		JS_ThrowTypeError(ctx,
			"import() is not available in a flow: a version is the hash of its whole graph, so "
			"import \"%s\" at the top of the module",
			name);
		return NULL;
	}
	const char *plain = NULL;
	if (is_lib_name(name)) {
		bool ours = is_lib_name(base);
		if (strcmp(name, "aios") == 0 ||
			(ours && (strcmp(name, native_name) == 0 || find_module(w->lib, name) >= 0)))
			plain = name;
	} else {
		ptrdiff_t at = resolve(v, base, name);
		if (at >= 0)
			plain = v->modules[at].name;
	}
	if (!plain)
		return throw_missing(ctx, v, base, name);
	char *ret = js_malloc(ctx, strlen(plain) + sizeof(MARK));
	if (ret)
		sprintf(ret, "%s%s", w->compiling ? "" : MARK, plain);
	return ret;
}

/* --- compiling --- */

static int no_init(JSContext *ctx, JSModuleDef *m)
{
	(void)ctx;
	(void)m;
	return 0;
}

/* Compiles one module and, through the loader, what it imports. NULL with an exception. */
static JSModuleDef *compile(JSContext *ctx, struct flow_module *m)
{
	JSValue v = JS_Eval(
		ctx, m->source, m->source_len, m->name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
	if (JS_IsException(v))
		return NULL;
	JSModuleDef *def = JS_VALUE_GET_PTR(v);
	if (!m->code) {
		size_t len;
		uint8_t *code =
			JS_WriteObject(ctx, &len, v, JS_WRITE_OBJ_BYTECODE | JS_WRITE_OBJ_STRIP_SOURCE);
		m->code = code ? malloc(len) : NULL;
		if (m->code)
			memcpy(m->code, code, len);
		m->code_len = len;
		js_free(ctx, code);
	}
	JS_FreeValue(ctx, v);
	if (!m->code) {
		JS_ThrowOutOfMemory(ctx);
		return NULL;
	}
	return def;
}

static JSModuleDef *load_to_compile(struct flow_worker *w, JSContext *ctx, const char *name)
{
	struct flow_version *v = w->compiling;
	ptrdiff_t at = find_module(v, name);
	if (at < 0 || !v->modules[at].source)
		return JS_NewCModule(
			ctx, name, no_init); /* of the library, or native: only its name counts here */
	return compile(ctx, &v->modules[at]);
}

/* Fills the bytecode of every module that the entry needs; on failure v->problem. */
static int compile_version(struct flow_worker *w, struct flow_version *v, struct flow_module *entry)
{
	JSContext *ctx = JS_NewContextRaw(w->rt);
	if (!ctx)
		return -ENOMEM;
	JS_AddIntrinsicBaseObjects(ctx);
	JS_AddIntrinsicEval(ctx);
	JS_AddIntrinsicRegExpCompiler(ctx);
	JS_AddIntrinsicRegExp(ctx);
	JS_AddIntrinsicBigInt(ctx);
	w->compiling = v;
	bool ok = entry->code || compile(ctx, entry);
	w->compiling = NULL;
	if (!ok && !v->problem) {
		struct base_buf b;
		base_buf_init(&b, 64 << 10);
		flow_problem_of(ctx, JS_GetException(ctx), "load", &b);
		v->problem = base_buf_take(&b, NULL);
	}
	JS_FreeContext(ctx);
	return ok || v->problem ? 0 : -ENOMEM;
}

static char *copy(struct base_str s)
{
	char *p = malloc(s.len + 1);
	if (p) {
		if (s.len > 0)
			memcpy(p, s.ptr, s.len);
		p[s.len] = '\0';
	}
	return p;
}

static int add_module(struct flow_version *v, struct base_str name, struct base_str source)
{
	struct flow_module *m = &v->modules[v->count];
	*m = (struct flow_module){.name = copy(name), .source = copy(source), .source_len = source.len};
	v->count++;
	return m->name && m->source ? 0 : -ENOMEM;
}

static void say_problem(struct flow_version *v, const char *text)
{
	struct base_buf b;
	base_buf_init(&b, 4096);
	flow_problem_say(&b, "load", NULL, 0, 0, "%s", text);
	v->problem = base_buf_take(&b, NULL);
}

static int fill_version(struct flow_worker *w, struct flow_version *v, struct base_jv root)
{
	struct base_jv modules = base_jv_get(root, "modules");
	struct base_str entry = base_jv_str(base_jv_get(root, "entry"));
	struct base_jv_iter it = {0};
	struct base_str name;
	struct base_jv source;
	v->modules = calloc(base_jv_len(modules) + 1, sizeof(*v->modules));
	if (!v->modules)
		return -ENOMEM;
	while (base_jv_next(modules, &it, &name, &source)) {
		if (add_module(v, name, base_jv_str(source)) < 0)
			return -ENOMEM;
	}
	for (v->entry = 0; v->entry < v->count; v->entry++) {
		if (base_str_is(entry, v->modules[v->entry].name))
			return 0;
	}
	char plain[64];
	snprintf(plain, sizeof(plain), "%.*s", BASE_STR_ARG(base_str_sub(entry, 0, sizeof(plain) - 1)));
	ptrdiff_t at = is_lib_name(plain) ? find_module(w->lib, plain) : -1;
	if (at < 0) {
		say_problem(v, "the entry is not among the modules");
		return 0;
	}
	const struct flow_module *lib = &w->lib->modules[at];
	struct flow_module *m =
		&v->modules[v->count++]; /* a flow of the standard library: compiled already */
	*m = (struct flow_module){
		.name = copy(entry), .code = malloc(lib->code_len), .code_len = lib->code_len};
	if (!m->name || !m->code)
		return -ENOMEM;
	memcpy(m->code, lib->code, lib->code_len);
	return 0;
}

int flow_version_new(
	struct flow_worker *w, struct base_str hash, struct base_str modules, struct flow_version **ret)
{
	struct flow_version *v = calloc(1, sizeof(*v));
	struct base_json *doc = NULL;
	struct base_err err;
	if (!v)
		return -ENOMEM;
	v->hash = copy(hash);
	int rc = v->hash ? base_json_parse(modules, &doc, &err) : -ENOMEM;
	if (rc == 0) {
		rc = fill_version(w, v, base_json_root(doc));
		base_json_free(doc);
	} else if (rc != -ENOMEM) {
		say_problem(v, err.text);
		rc = 0;
	}
	if (rc == 0 && !v->problem)
		rc = compile_version(w, v, &v->modules[v->entry]);
	for (size_t i = 0; i < v->count; i++) {
		free(v->modules[i].source);
		v->modules[i].source = NULL;
	}
	if (rc < 0) {
		flow_version_free(w, v);
		return rc;
	}
	*ret = v;
	return 0;
}

void flow_version_free(struct flow_worker *w, struct flow_version *v)
{
	(void)w;
	if (!v)
		return;
	for (size_t i = 0; i < v->count; i++) {
		free(v->modules[i].name);
		free(v->modules[i].source);
		free(v->modules[i].code);
	}
	free(v->modules);
	free(v->hash);
	free(v->problem);
	free(v);
}

struct flow_version *flow_version_find(struct flow_worker *w, struct base_str hash)
{
	for (struct flow_version *v = w->versions; v; v = v->next) {
		if (base_str_is(hash, v->hash))
			return v;
	}
	return NULL;
}

/* --- instances --- */

/* The interpreter asks for a module's imports already while it reads it, and again when it resolves it. A
 * cycle could not be answered the first time, and what is answered then does not count: any module will do.
 */
static JSModuleDef *read_module(struct flow_link *l, const struct flow_module *m)
{
	JSContext *ctx = l->realm->ctx;
	if (!m->code) {
		JS_ThrowInternalError(ctx, "module %s was not compiled", m->name);
		return NULL;
	}
	l->reading = true;
	JSValue v = JS_ReadObject(ctx, m->code, m->code_len, JS_READ_OBJ_BYTECODE);
	l->reading = false;
	if (JS_IsException(v))
		return NULL;
	JSModuleDef *def = JS_VALUE_GET_PTR(v);
	JS_FreeValue(ctx, v); /* the context owns it */
	return def;
}

static JSModuleDef *load_to_link(struct flow_worker *w, JSContext *ctx, const char *name)
{
	struct flow_link *l = w->link;
	if (l->reading || strcmp(name, native_name) == 0)
		return l->realm->native;
	struct flow_version *v = is_lib_name(name) ? w->lib : l->version;
	JSModuleDef **defs = is_lib_name(name) ? l->realm->lib : l->defs;
	ptrdiff_t at = find_module(v, name);
	if (at < 0) {
		JS_ThrowInternalError(ctx, "module %s is gone", name);
		return NULL;
	}
	if (!defs[at])
		defs[at] = read_module(l, &v->modules[at]);
	return defs[at];
}

static JSModuleDef *load(JSContext *ctx, const char *name, void *opaque)
{
	struct flow_worker *w = opaque;
	if (w->compiling)
		return load_to_compile(w, ctx, name);
	return load_to_link(w, ctx, name + strlen(MARK));
}

/* Links and evaluates; the namespace of the module. */
static JSValue evaluate(struct flow_worker *w, struct flow_link *l, size_t at)
{
	JSContext *ctx = l->realm->ctx;
	struct flow_link *before = w->link;
	w->link = l;
	JSModuleDef *def = l->defs[at] ? l->defs[at] : read_module(l, &l->version->modules[at]);
	l->defs[at] = def;
	JSValue promise = JS_EXCEPTION;
	if (def) {
		/* When it cannot be resolved the interpreter has freed it, and no reference may be touched.
		 */
		JSValue m = JS_MKPTR(JS_TAG_MODULE, def);
		if (JS_ResolveModule(ctx, m) == 0)
			promise = JS_EvalFunction(ctx, JS_DupValue(ctx, m));
	}
	w->link = before;
	if (JS_IsException(promise))
		return JS_EXCEPTION;
	JSValue ret = JS_EXCEPTION;
	switch (JS_PromiseState(ctx, promise)) {
	case JS_PROMISE_FULFILLED:
		ret = JS_GetModuleNamespace(ctx, def);
		break;
	case JS_PROMISE_REJECTED:
		JS_PromiseMarkAsHandled(ctx, promise);
		JS_Throw(ctx, JS_PromiseResult(ctx, promise));
		break;
	default:
		/* It holds on to its modules: the realm may not be freed under it. */
		l->realm->runs++;
		flow_realm_retire(w, l->realm);
		JS_ThrowSyntaxError(
			ctx, "top-level await is not available in a flow: await inside its function");
		break;
	}
	JS_FreeValue(ctx, promise);
	return ret;
}

JSValue flow_instantiate(struct flow_worker *w, struct flow_realm *r, struct flow_version *v)
{
	JSModuleDef *few[16] = {NULL};
	JSModuleDef **defs = v->count <= 16 ? few : calloc(v->count, sizeof(JSModuleDef *));
	if (!defs)
		return JS_ThrowOutOfMemory(r->ctx);
	struct flow_link l = {.version = v, .realm = r, .defs = defs};
	JSValue ns = evaluate(w, &l, v->entry);
	if (defs != few)
		free(defs);
	if (JS_IsException(ns))
		return ns;
	JSValue ret = JS_GetPropertyStr(r->ctx, ns, "default");
	JS_FreeValue(r->ctx, ns);
	return ret;
}

JSValue flow_instantiate_lib(struct flow_worker *w, struct flow_realm *r, const char *name)
{
	struct flow_link l = {.version = w->lib, .realm = r, .defs = r->lib};
	ptrdiff_t at = find_module(w->lib, name);
	if (at < 0)
		return JS_ThrowInternalError(r->ctx, "no module %s in the standard library", name);
	return evaluate(w, &l, (size_t)at);
}

int flow_modules_init(struct flow_worker *w)
{
	JS_SetModuleLoaderFunc(w->rt, normalize, load, w);
	struct flow_version *v = calloc(1, sizeof(*v));
	w->lib = v;
	if (!v)
		return -ENOMEM;
	v->modules = calloc(flow_lib_count, sizeof(*v->modules));
	if (!v->modules)
		return -ENOMEM;
	for (size_t i = 0; i < flow_lib_count; i++) {
		const struct flow_lib_module *m = &flow_lib_modules[i];
		if (add_module(v, base_str_of(m->name), (struct base_str){m->source, m->len}) < 0)
			return -ENOMEM;
	}
	for (size_t i = 0; i < v->count; i++) {
		int rc = compile_version(w, v, &v->modules[i]);
		if (rc < 0)
			return rc;
		if (v->problem)
			return -EINVAL;
	}
	for (size_t i = 0; i < v->count; i++) {
		free(v->modules[i].source);
		v->modules[i].source = NULL;
	}
	return 0;
}

void flow_modules_done(struct flow_worker *w)
{
	flow_version_free(w, w->lib);
	w->lib = NULL;
	while (w->versions) {
		struct flow_version *next = w->versions->next;
		flow_version_free(w, w->versions);
		w->versions = next;
	}
}
