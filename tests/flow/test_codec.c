#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qjs/quickjs.h>

#include "base/json.h"
#include "flow/codec.h"

/* The codec against the interpreter's own JSON and against base's canonical form. */

struct env {
	JSRuntime *rt;
	JSContext *ctx;
	struct flow_codec *codec;
};

static int open_env(void **state)
{
	static struct env e;
	e.rt = JS_NewRuntime();
	e.ctx = JS_NewContext(e.rt);
	assert_int_equal(flow_codec_new(e.rt, &e.codec), 0);
	*state = &e;
	return 0;
}

static int close_env(void **state)
{
	struct env *e = *state;
	flow_codec_free(e->codec);
	JS_FreeContext(e->ctx);
	JS_FreeRuntime(e->rt);
	return 0;
}

static JSValue eval(struct env *e, const char *source)
{
	JSValue v = JS_Eval(e->ctx, source, strlen(source), "<test>", JS_EVAL_TYPE_GLOBAL);
	if (JS_IsException(v))
		fail_msg("%s: %s", source, JS_ToCString(e->ctx, JS_GetException(e->ctx)));
	return v;
}

/* As JSON, or the message of what was thrown. The caller frees it. */
static char *put(struct env *e, JSValueConst v)
{
	struct base_buf b;
	base_buf_init(&b, FLOW_JSON_MAX);
	if (flow_codec_put(e->codec, e->ctx, v, "v", &b) < 0) {
		JSValue err = JS_GetException(e->ctx);
		JSValue message = JS_GetPropertyStr(e->ctx, err, "message");
		const char *s = JS_ToCString(e->ctx, message);
		char *ret = strdup(s);
		JS_FreeCString(e->ctx, s);
		JS_FreeValue(e->ctx, message);
		JS_FreeValue(e->ctx, err);
		base_buf_done(&b);
		return ret;
	}
	char *ret = base_buf_take(&b, NULL);
	assert_non_null(ret);
	return ret;
}

static void gives(struct env *e, const char *source, const char *expected)
{
	JSValue v = eval(e, source);
	char *s = put(e, v);
	assert_string_equal(s, expected);
	free(s);
	JS_FreeValue(e->ctx, v);
}

static void test_values(void **state)
{
	struct env *e = *state;
	gives(e, "undefined", "null");
	gives(e, "[null, true, false, 0, -0, 1.5, 1e21, 1e-7, 2 ** 53 - 1, -(2 ** 53 - 1), 123456789012]",
		"[null,true,false,0,0,1.5,1e+21,1e-7,9007199254740991,-9007199254740991,123456789012]");
	gives(e, "({ b: 1, a: undefined, c: [undefined, , 2], 10: 1, 9: 2 })",
		"{\"10\":1,\"9\":2,\"b\":1,\"c\":[null,null,2]}");
	gives(e, "'\\u0000\\b\\t\\n\\f\\r\\u001f\"\\\\/\\u007f\\u2028é😀'",
		"\"\\u0000\\b\\t\\n\\f\\r\\u001f\\\"\\\\/\x7f\xe2\x80\xa8é😀\"");
	gives(e,
		"({ '\\ufb33': 1, '\\u{1f600}': 2, '\\u20ac': 3, '\\r': 4, 1: 5, '\\u0080': 6, '\\u00f6': 7 "
		"})",
		"{\"\\r\":4,\"1\":5,\"\xc2\x80\":6,\"ö\":7,\"€\":3,\"😀\":2,\"\xef\xac\xb3\":1}");
	gives(e,
		"({ d: new Date(0), n: Object(1), s: Object('x'), b: Object(true), p: new Proxy({ z: 1, a: "
		"[2] }, {}) })",
		"{\"b\":true,\"d\":\"1970-01-01T00:00:00.000Z\",\"n\":1,\"p\":{\"a\":[2],\"z\":1},\"s\":"
		"\"x\"}");
	gives(e, "({ toJSON(k) { return [k, { toJSON: (k) => 'in ' + k }]; } })", "[\"\",\"in 1\"]");
	gives(e, "({ x: { toJSON() { return undefined; } }, get y() { return 2; } })", "{\"y\":2}");
	gives(e, "class A { x = 1; #p = 2; get z() { return 3; } } ; new A()", "{\"x\":1}");
	gives(e, "({ ['k'.repeat(100)]: 1, a: 2 })",
		"{\"a\":2,"
		"\"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
		"kkkkkkkkkk"
		"\":1}");
	gives(e, "const shared = { a: 1 }; [shared, shared]", "[{\"a\":1},{\"a\":1}]");
}

static void test_refusals(void **state)
{
	struct env *e = *state;
	gives(e, "({ a: [0, { f() {} }] })", "v.a[1].f is a function: not JSON");
	gives(e, "({ s: Symbol() })", "v.s is a symbol: not JSON");
	gives(e, "[1n]", "v[0] is a BigInt: pass a string or a number");
	gives(e, "({ x: 0 / 0 })", "v.x is NaN: JSON has no such number");
	gives(e, "-1 / 0", "v is infinite: JSON has no such number");
	gives(e, "2 ** 53", "v is an integer beyond 2^53, which a number cannot hold exactly: pass a string");
	gives(e, "const c = { n: [] }; c.n.push(c); c",
		"v.n[0] refers back to what contains it: JSON has no cycles");
	gives(e, "({ m: new Map() })", "v.m is a Map: pass Object.fromEntries(map) or [...map]");
	gives(e, "({ t: 'a\\udc00' })", "v.t holds half of a surrogate pair: not valid text");
	gives(e, "({ get x() { throw new Error('mine'); } })", "mine");
}

static void test_depth_and_size(void **state)
{
	struct env *e = *state;
	JSValue v = eval(e, "let d = 1; for (let i = 0; i < 64; i++) d = [d]; d");
	char *s = put(e, v);
	assert_int_equal(strlen(s), 129);
	free(s);
	JS_FreeValue(e->ctx, v);
	v = eval(e, "[d]");
	s = put(e, v);
	assert_non_null(strstr(s, "lies deeper than 64 levels"));
	free(s);
	JS_FreeValue(e->ctx, v);
	gives(e, "'x'.repeat(17 << 20)", "v is larger than 16 MiB as JSON");
	gives(e, "const long = []; long.length = 2 ** 32 - 1; long", "v is larger than 16 MiB as JSON");
}

/* What a getter does to the object that is being written. */
static void test_objects_that_change(void **state)
{
	struct env *e = *state;
	gives(e, "const o = { get a() { delete o.b; o.z = 1; return 1; }, b: 2, c: 3 }; o",
		"{\"a\":1,\"c\":3}");
	gives(e, "const arr = [{ toJSON() { arr.length = 1; return 0; } }, 1, 2]; arr", "[0,null,null]");
	gives(e,
		"const many = {}; for (let i = 0; i < 3000; i++) many['key' + i] = i; const big = { get a() "
		"{ JSON.stringify(many);"
		" return Object.keys(many).length; }, b: 1 }; big",
		"{\"a\":3000,\"b\":1}");
}

/* Random values: canonical as base says, equal to what the interpreter's own JSON gives, and back again. */
static void test_differential(void **state)
{
	struct env *e = *state;
	JSValue make =
		eval(e, "let seed = 12345; const rnd = (n) => (seed = (seed * 1103515245 + 12345) % "
			"2147483648, Math.floor(seed / 7) % n);"
			"const text = () => Array.from({ length: rnd(9) }, () => "
			"String.fromCodePoint([rnd(128), rnd(0x7ff), 0x800 + rnd(0xc000),"
			" 0xe000 + rnd(0x1fff), 0x10000 + rnd(0xfffff)][rnd(5)])).join('');"
			"const make = (d) => { switch (rnd(d > 4 ? 6 : 9)) {"
			" case 0: return null; case 1: return rnd(2) === 1; case 2: return rnd(2000) - 1000;"
			" case 3: return (rnd(1e9) - 5e8) * 10 ** (rnd(40) - 20) + 0.1; case 4: return "
			"text(); case 5: return rnd(1e9) / 7;"
			" case 6: return Array.from({ length: rnd(6) }, () => make(d + 1));"
			" default: return Object.fromEntries(Array.from({ length: rnd(7) }, () => [text(), "
			"make(d + 1)])); } };"
			"() => { for (;;) { const v = make(0); const s = JSON.stringify(v);"
			" if (!/[0-9]{17}(?![0-9.e])/.test(s)) return [v, s]; } }");
	JSValue back = eval(e, "(v) => JSON.stringify(v)");
	for (int i = 0; i < 3000; i++) {
		JSValue pair = JS_Call(e->ctx, make, JS_UNDEFINED, 0, NULL);
		JSValue v = JS_GetPropertyUint32(e->ctx, pair, 0), s = JS_GetPropertyUint32(e->ctx, pair, 1);
		const char *theirs = JS_ToCString(e->ctx, s);
		char *ours = put(e, v);
		struct base_buf canon;
		struct base_err err;
		base_buf_init(&canon, FLOW_JSON_MAX);
		if (base_json_canon(base_str_of(theirs), &canon, &err) < 0)
			fail_msg("%s: %s", theirs, err.text);
		base_buf_char(&canon, '\0');
		assert_string_equal(ours, canon.ptr);
		/* Their text, read by us, is the same value: compared in the order in which it was written.
		 */
		JSValue read = flow_codec_get(e->codec, e->ctx, base_str_of(theirs));
		assert_false(JS_IsException(read));
		JSValue again = JS_Call(e->ctx, back, JS_UNDEFINED, 1, &read);
		const char *t = JS_ToCString(e->ctx, again);
		assert_string_equal(t, theirs);
		JS_FreeCString(e->ctx, t);
		JS_FreeCString(e->ctx, theirs);
		JS_FreeValue(e->ctx, again);
		JS_FreeValue(e->ctx, read);
		JS_FreeValue(e->ctx, v);
		JS_FreeValue(e->ctx, s);
		JS_FreeValue(e->ctx, pair);
		base_buf_done(&canon);
		free(ours);
	}
	JS_FreeValue(e->ctx, make);
	JS_FreeValue(e->ctx, back);
}

static void reads(struct env *e, const char *json, const char *expected)
{
	JSValue v = flow_codec_get(e->codec, e->ctx, base_str_of(json));
	if (JS_IsException(v)) {
		JS_FreeValue(e->ctx, JS_GetException(e->ctx));
		if (expected)
			fail_msg("%s was refused", json);
		return;
	}
	JSValue s = JS_JSONStringify(e->ctx, v, JS_UNDEFINED, JS_UNDEFINED);
	const char *t = JS_ToCString(e->ctx, s);
	if (!expected)
		fail_msg("%s was read as %s", json, t);
	assert_string_equal(t, expected);
	JS_FreeCString(e->ctx, t);
	JS_FreeValue(e->ctx, s);
	JS_FreeValue(e->ctx, v);
}

static void test_reading(void **state)
{
	struct env *e = *state;
	reads(e, "", "null");
	reads(e, " [ 1 , -0, 1.5e3, 12345678901234567890, 0.1 ] ", "[1,0,1500,12345678901234567000,0.1]");
	reads(e, "{\"a\":{\"b\":[]},\"__proto__\":{\"x\":1},\"\":0}",
		"{\"a\":{\"b\":[]},\"__proto__\":{\"x\":1},\"\":0}");
	reads(e, "\"\\u00e9\\ud83d\\ude00\\/\\b\"", "\"é😀/\\b\"");
	static const char *const bad[] = {"[", "[1", "[1,", "[1,]", "{", "{\"a\"", "{\"a\":", "{\"a\":1",
		"{\"a\":1,}", "{a:1}", "01", "1.", "-", "+1", "nul", "tru", "\"", "\"\\", "\"\\u12",
		"\"\\ud800\"", "\"\\x\"", "\"\n\"", "[1] 2", "1e999", "NaN", "'a'", "{\"a\":1 \"b\":2}", "]"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		reads(e, bad[i], NULL);
	char deep[1000];
	memset(deep, '[', 500);
	memset(deep + 500, ']', 499);
	deep[999] = '\0';
	reads(e, deep, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_depth_and_size), cmocka_unit_test(test_objects_that_change),
		cmocka_unit_test(test_differential), cmocka_unit_test(test_reading)};
	return cmocka_run_group_tests_name("flow/codec", tests, open_env, close_env);
}
