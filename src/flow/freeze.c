#include <string.h>

#include "flow/flow_int.h"

/*
 * Freezes a context for good. Two things need care:
 *  - a frozen prototype property cannot be shadowed by assignment (`this.name = "X"` in a class that extends
 * Error, `counts["constructor"] = 1`), so on the prototypes that programs do shadow such properties become
 * accessors that behave as the data property did;
 *  - prototypes that no property leads to (iterators, generators, async functions) are found by class.
 */

static JSValue shadow_get(
	JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv, int magic, JSValueConst *data)
{
	(void)self;
	(void)argc;
	(void)argv;
	(void)magic;
	return JS_DupValue(ctx, data[0]);
}

/* data: the value, the holder, the property's name */
static JSValue shadow_set(
	JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv, int magic, JSValueConst *data)
{
	(void)magic;
	if (!JS_IsObject(self) || JS_VALUE_GET_PTR(self) == JS_VALUE_GET_PTR(data[1]))
		return JS_ThrowTypeError(ctx, "the built-in objects are frozen");
	JSAtom key = JS_ValueToAtom(ctx, data[2]);
	if (key == JS_ATOM_NULL)
		return JS_EXCEPTION;
	JSValue v = argc > 0 ? JS_DupValue(ctx, argv[0]) : JS_UNDEFINED;
	int rc = JS_DefinePropertyValue(ctx, self, key, v, JS_PROP_C_W_E | JS_PROP_THROW);
	JS_FreeAtom(ctx, key);
	return rc < 0 ? JS_EXCEPTION : JS_UNDEFINED;
}

static int make_shadowable(JSContext *ctx, JSValueConst proto, JSAtom key)
{
	JSPropertyDescriptor d;
	int got = JS_GetOwnProperty(ctx, &d, proto, key);
	if (got <= 0)
		return got;
	if (d.flags & JS_PROP_GETSET) {
		JS_FreeValue(ctx, d.getter);
		JS_FreeValue(ctx, d.setter);
		JS_FreeValue(ctx, d.value);
		return 0;
	}
	JSValue data[3] = {d.value, JS_DupValue(ctx, proto), JS_AtomToValue(ctx, key)};
	JSValue get = JS_NewCFunctionData(ctx, shadow_get, 0, 0, 1, data);
	JSValue set = JS_NewCFunctionData(ctx, shadow_set, 1, 0, 3, data);
	for (int i = 0; i < 3; i++)
		JS_FreeValue(ctx, data[i]);
	return JS_DefinePropertyGetSet(ctx, proto, key, get, set, JS_PROP_CONFIGURABLE) < 0 ? -1 : 0;
}

static int make_all_shadowable(JSContext *ctx, JSValueConst proto)
{
	JSPropertyEnum *tab;
	uint32_t count;
	if (JS_GetOwnPropertyNames(ctx, &tab, &count, proto, JS_GPN_STRING_MASK) < 0)
		return -1;
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		rc = make_shadowable(ctx, proto, tab[i].atom);
	JS_FreePropertyEnum(ctx, tab, count);
	return rc;
}

static int shadow_prototype(JSContext *ctx, JSValueConst global, const char *name)
{
	JSValue ctor = JS_GetPropertyStr(ctx, global, name);
	JSValue proto = JS_IsObject(ctor) ? JS_GetPropertyStr(ctx, ctor, "prototype") : JS_UNDEFINED;
	int rc = JS_IsObject(proto) ? make_all_shadowable(ctx, proto) : 0;
	JS_FreeValue(ctx, proto);
	JS_FreeValue(ctx, ctor);
	return rc;
}

static int freeze_property(JSContext *ctx, JSValueConst obj, JSAtom key)
{
	JSPropertyDescriptor d;
	int got = JS_GetOwnProperty(ctx, &d, obj, key);
	if (got <= 0)
		return got;
	int rc = flow_freeze_value(ctx, d.value);
	if (rc == 0)
		rc = flow_freeze_value(ctx, d.getter);
	if (rc == 0)
		rc = flow_freeze_value(ctx, d.setter);
	JS_FreeValue(ctx, d.value);
	JS_FreeValue(ctx, d.getter);
	JS_FreeValue(ctx, d.setter);
	return rc;
}

int flow_freeze_value(JSContext *ctx, JSValueConst v)
{
	if (!JS_IsObject(v) || JS_IsExtensible(ctx, v) == 0)
		return 0; /* not an object, or frozen already */
	if (JS_FreezeObject(ctx, v) < 0)
		return -1;
	JSPropertyEnum *tab;
	uint32_t count;
	if (JS_GetOwnPropertyNames(ctx, &tab, &count, v, JS_GPN_STRING_MASK | JS_GPN_SYMBOL_MASK) < 0)
		return -1;
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		rc = freeze_property(ctx, v, tab[i].atom);
	JS_FreePropertyEnum(ctx, tab, count);
	JSValue proto = JS_GetPrototype(ctx, v);
	if (rc == 0)
		rc = flow_freeze_value(ctx, proto);
	JS_FreeValue(ctx, proto);
	return rc;
}

int flow_freeze_exports(JSContext *ctx, JSValueConst ns)
{
	JSPropertyEnum *tab;
	uint32_t count;
	if (JS_GetOwnPropertyNames(ctx, &tab, &count, ns, JS_GPN_STRING_MASK) < 0)
		return -1;
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		JSValue v = JS_GetProperty(ctx, ns, tab[i].atom);
		rc = JS_IsException(v) ? -1 : flow_freeze_value(ctx, v);
		JS_FreeValue(ctx, v);
	}
	JS_FreePropertyEnum(ctx, tab, count);
	return rc;
}

int flow_freeze(JSContext *ctx, JSClassID own_classes)
{
	static const char *const shadowed[] = {"Object", "Function", "Error", "TypeError", "RangeError",
		"SyntaxError", "ReferenceError", "EvalError", "URIError", "InternalError", "AggregateError"};
	JSValue global = JS_GetGlobalObject(ctx);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof(shadowed) / sizeof(shadowed[0]); i++)
		rc = shadow_prototype(ctx, global, shadowed[i]);
	for (JSClassID id = 1; rc == 0 && id <= own_classes; id++) {
		if (!JS_IsRegisteredClass(JS_GetRuntime(ctx), id))
			continue;
		JSValue proto = JS_GetClassProto(ctx, id);
		rc = flow_freeze_value(ctx, proto);
		JS_FreeValue(ctx, proto);
	}
	if (rc == 0)
		rc = flow_freeze_value(ctx, global);
	JS_FreeValue(ctx, global);
	return rc;
}
