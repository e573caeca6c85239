#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nothing crosses from one run to another, and what a flow declares is read right. */

#define FLOW(body)                                                                                           \
	"import { flow, StepError } from 'aios';\nexport default flow({ name: 'x' }, async (ctx, input) => " \
	"{" body "\n});\n"

static int open_peer(void **state)
{
	static struct peer p;
	peer_open(&p, NULL);
	*state = &p;
	return 0;
}

static int close_peer(void **state)
{
	peer_close(*state);
	return 0;
}

/*
 * Every run tries every door, then tells what it found of those before it; all must tell the same. Runs of
 * one version share a realm, so this is the narrowest case.
 */
static const char crossing[] =
	"import { flow, StepError, Denied, duration } from 'aios';\n"
	"import * as everything from 'aios';\n"
	"import { shared, bump } from './shared.js';\n"
	"let count = 0; const list = []; class C { static n = 0; #p = 0; }\n"
	"const tag = (s) => s; const template = () => tag`a${1}`; const re = /a/g;\n"
	"const attempt = (f) => { try { return f() ?? 'did'; } catch (e) { return e.constructor.name; } };\n"
	"export default flow({ name: 'x' }, async (ctx) => {\n"
	" const found = []; const see = (n, v) => found.push([n, v]);\n"
	" see('module', [count++, list.push(1), ++C.n, bump(), shared.push(1), re.lastIndex]); "
	"re.test('aaa');\n"
	" template().x;\n"
	" const intrinsics = [globalThis, Object, Object.prototype, Array, Array.prototype, "
	"Function.prototype, Promise,"
	"  Promise.prototype, Error, Error.prototype, Map.prototype, RegExp, RegExp.prototype, Date, "
	"Date.prototype, Math, JSON, Reflect,"
	"  Symbol, String.prototype, Number.prototype, Symbol.prototype, ctx, ctx.memory, ctx.call, "
	"ctx.experiment, ctx.log, console,"
	"  console.log, flow, StepError, StepError.prototype, Denied, duration, everything,"
	"  (async () => {}).constructor, Object.getPrototypeOf(async () => {}), "
	"Object.getPrototypeOf(function* () {}),"
	"  Object.getPrototypeOf(Object.getPrototypeOf((function* () {})())), "
	"Object.getPrototypeOf(Object.getPrototypeOf((async function* () {})())),"
	"  Object.getPrototypeOf([][Symbol.iterator]()), Object.getPrototypeOf(new Map().entries()), "
	"Object.getPrototypeOf(''[Symbol.iterator]()),"
	"  Object.getPrototypeOf('a'.matchAll(/a/g)), "
	"Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]())),"
	"  Object.getPrototypeOf([].values().map((x) => x)), Object.getPrototypeOf(Int8Array), "
	"Int8Array.prototype, Proxy, WeakMap.prototype,"
	"  Object.getOwnPropertyDescriptor(Object.prototype, '__proto__').set, "
	"Object.getOwnPropertyDescriptor(Object.prototype, 'toString').get];\n"
	" for (const [i, o] of intrinsics.entries()) {\n"
	"  see('frozen ' + i, Object.isFrozen(o) || o === everything);\n"
	"  see('add ' + i, [o.leak, attempt(() => { o.leak = 1; }), o.leak]);\n"
	"  see('define ' + i, attempt(() => { Object.defineProperty(o, 'leak', { value: 1 }); }));\n"
	"  see('proto ' + i, attempt(() => { Object.setPrototypeOf(o, { leak: 1 }); }));\n"
	"  for (const k of Reflect.ownKeys(o)) { const d = Object.getOwnPropertyDescriptor(o, k);\n"
	"   if (d.writable && o !== everything) see('writable ' + String(k), i);\n"
	"   if (d.configurable) see('configurable ' + String(k), i); } }\n"
	" see('global', [typeof leak, attempt(() => { leak = 1; }), typeof leak]);\n"
	" see('assign', attempt(() => { Object.prototype.toString = 1; }));\n"
	" see('push', attempt(() => { Array.prototype.push(1); }));\n"
	" see('stack', [Error.prepareStackTrace, Error.stackTraceLimit, attempt(() => { "
	"Error.prepareStackTrace = () => 'x'; })]);\n"
	" see('registry', Symbol.keyFor(Symbol.for('leak')));\n"
	" see('regexp', [RegExp.$1, RegExp.lastMatch, RegExp.input]); /(a)(b)/.exec('ab');\n"
	" see('gone', [typeof WeakRef, typeof FinalizationRegistry, typeof SharedArrayBuffer, typeof "
	"Atomics, typeof performance,"
	"  typeof eval, typeof process, typeof std, typeof os, typeof gc, typeof navigator]);\n"
	" see('date', [attempt(() => { Date.now = () => 1; }), attempt(() => { Math.random = () => 1; })]);\n"
	" see('run', [ctx.run.leak, attempt(() => { ctx.run.leak = 1; }), attempt(() => { "
	"ctx.run.context.leak = 1; }), ctx.run.context.leak]);\n"
	" ctx.attribute({ customer: 'c' + count });\n"
	" await ctx.call('see', { n: found.length });\n"
	" see('after', [count, list.length]);\n"
	" return found; });\n";

static char *crossing_of(struct peer *p, uint64_t run)
{
	peer_start_with(p, run, "crossing", "{}", "{\"flow\":\"x\"}", 1000, 1);
	struct got g = peer_next(p);
	if (g.type != WIRE_FLOW_CALL)
		fail_msg("%s", g.value ? g.value : "?");
	assert_string_equal(g.opts, "{\"customer\":\"c1\"}");
	peer_got_done(&g);
	peer_idle_is(p, run, 1);
	return NULL;
}

static void test_nothing_crosses(void **state)
{
	struct peer *p = *state;
	char *first = NULL;
	peer_graph(p, "crossing", "flows/x.js", crossing, "flows/shared.js",
		"export const shared = []; let n = 0; export const bump = () => ++n;", NULL);
	for (uint64_t run = 1; run <= 5; run++)
		crossing_of(p, run); /* all alive at once */
	for (uint64_t run = 5; run >= 1; run--) {
		peer_result(p, run, 0, true, "1");
		struct got g = peer_next(p);
		assert_int_equal(g.type, WIRE_FLOW_DONE);
		if (!first) {
			first = strdup(g.value);
			assert_non_null(strstr(first, "[\"module\",[0,1,1,1,1,0]]"));
			assert_non_null(strstr(first, "[\"after\",[1,1]]"));
			assert_non_null(strstr(
				first, "[\"global\",[\"undefined\",\"ReferenceError\",\"undefined\"]]"));
			assert_non_null(strstr(first, "[\"stack\",[null,null,\"TypeError\"]]"));
			assert_non_null(strstr(first, "[\"gone\",[\"undefined\",\"undefined\",\"undefined\","
						      "\"undefined\",\"undefined\","
						      "\"undefined\",\"undefined\",\"undefined\","
						      "\"undefined\",\"undefined\",\"undefined\"]]"));
			for (const char *at = first; (at = strstr(at, "\"frozen ")); at++)
				if (!strstr(at, "\",true]") || strchr(at, ',') + 5 != strstr(at, "]"))
					fail_msg("not frozen: %.40s", at);
			assert_null(strstr(first, "\"writable "));
			assert_null(strstr(first, "\"configurable "));
			if (strstr(first, "\"did\""))
				fail_msg("let in: %.120s", strstr(first, "\"did\"") - 60);
		}
		assert_string_equal(g.value, first);
		peer_got_done(&g);
	}
	free(first);
}

/* Frozen prototypes must not get in the way of ordinary programs. */
static void test_ordinary_programs(void **state)
{
	struct peer *p = *state;
	peer_gives(p,
		FLOW("class MyError extends Error { constructor(m) { super(m); this.name = 'MyError'; "
		     "this.message = m + '!'; } }"
		     "const counts = {}; for (const w of ['constructor', 'toString', 'a', 'constructor', "
		     "'valueOf', '__proto__x'])"
		     " counts[w] = (Object.hasOwn(counts, w) ? counts[w] : 0) + 1;"
		     "function Old() {} Old.prototype.toString = function () { return 'old'; }; "
		     "Old.prototype.constructor = Old;"
		     "class Sub extends Array { sum() { return this.reduce((a, b) => a + b, 0); } }"
		     "const o = Object.create({ inherited: 1 }); o.hasOwnProperty = () => 'mine';"
		     "const fn = () => {}; fn.toString = () => 'fn';"
		     "const e = new MyError('x'); const s = new Sub(); s.push(1, 2); s.name = 'n';"
		     "return [e.name, e.message, String(e), e instanceof MyError, counts, `${new Old()}`, "
		     "s.sum(), o.hasOwnProperty(), `${fn}`,"
		     " Object.keys(e)];"),
		"[\"MyError\",\"x!\",\"MyError: "
		"x!\",true,{\"__proto__x\":1,\"a\":1,\"constructor\":2,\"toString\":1,\"valueOf\":1},"
		"\"old\",3,\"mine\",\"fn\",[\"name\"]]");
}

/* Realms are left behind and freed; the worker does not grow. */
static void test_many_runs(void **state)
{
	struct peer *p = *state;
	peer_version(p, "many",
		FLOW("const big = new Array(2000).fill(input.n); const r = await ctx.call('test.echo', {});"
		     "return big.length + r;"));
	for (uint64_t run = 1000; run < 1600; run++) {
		peer_start(p, run, "many", "{\"n\":1}", 0);
		peer_call_is(p, run, 0, "test.echo", "{}");
		peer_idle_is(p, run, 1);
		if (run >= 1100) {
			peer_result(p, run - 100, 0, true, "1");
			peer_done_is(p, run - 100, "2001");
		}
	}
}

struct inspected {
	int ok;
	char *spec;
};

static void inspected_is(struct peer *p, uint64_t req, int ok, const char *needle)
{
	struct got g = peer_next(p);
	assert_int_equal(g.type, WIRE_FLOW_INSPECTED);
	assert_int_equal(g.run, req);
	if ((int)g.step != ok || !strstr(g.value, needle))
		fail_msg("expected %d with %s: %u %s", ok, needle, g.step, g.value);
	peer_got_done(&g);
}

static void test_inspect(void **state)
{
	struct peer *p = *state;
	peer_inspect(p, 1, "flows/news.js",
		"import { flow } from 'aios'; import { b } from '../lib/b.js';\n"
		"export default flow({ on: [{ cron: '0 7 * * MON' }], input: { type: 'object' }, grants: "
		"['mail.send'], title: b },"
		" async () => {});",
		"lib/b.js", "import c from './c.js'; export const b = c + 'B';", "lib/c.js",
		"export default 'C';", NULL);
	inspected_is(p, 1, 1,
		"{\"grants\":[\"mail.send\"],\"input\":{\"type\":\"object\"},\"interpreter\":\"quickjs-ng ");
	peer_inspect(p, 2, "flows/news.js",
		"import { flow } from 'aios';\nexport default flow({ name: 'x' }, async () => {\n  let "
		"1a;\n});\n",
		NULL);
	inspected_is(p, 2, 0, "\"file\":\"flows/news.js\",\"line\":3");
	peer_inspect(p, 3, "flows/a.js",
		"import { flow } from 'aios';\n\nimport { x } from \"../lib/none.js\";\n", NULL);
	inspected_is(p, 3, 0,
		"\"message\":\"SyntaxError: cannot find module \\\"../lib/none.js\\\", which flows/a.js "
		"imports\",\"file\":\"flows/a.js\",\"line\":3");
	peer_inspect(p, 4, "flows/a.js", "export default 5;", NULL);
	inspected_is(p, 4, 0, "flows/a.js has no default export made by flow(");
	peer_inspect(p, 5, "flows/a.js", "import { flow } from 'aios';\nexport const x = 1;", NULL);
	inspected_is(p, 5, 0, "has no default export");
	peer_inspect(p, 6, "flows/a.js",
		"import { flow } from 'aios';\nimport { nope } from './b.js';\nexport default flow({}, () => "
		"nope);",
		"flows/b.js", "export const yes = 1;", NULL);
	inspected_is(p, 6, 0, "nope");
	peer_inspect(p, 7, "flows/a.js",
		"import { flow } from 'aios'; export default flow({ nmae: 'x' }, () => 1);", NULL);
	inspected_is(p, 7, 0, "flow(): nmae is unknown");
	peer_inspect(p, 8, "flows/a.js",
		"import { flow } from 'aios'; await 1; export default flow({}, () => 1);", NULL);
	inspected_is(p, 8, 0, "top-level await");
	peer_inspect(p, 9, "flows/a.js", "import { flow } from 'aios'; for (;;) {}", NULL);
	inspected_is(p, 9, 0, "\"kind\":\"cpu\"");
	peer_inspect(p, 10, "flows/a.js", "import { flow } from 'aios';\nthrow new Error('at load');", NULL);
	inspected_is(p, 10, 0, "\"message\":\"at load\",\"file\":\"flows/a.js\",\"line\":2");
	peer_inspect(p, 11, "flows/a.js",
		"import { flow } from 'aios'; export default flow({ name: 'A b' }, () => 1);", NULL);
	inspected_is(p, 11, 0, "name must be a word");
	peer_inspect(
		p, 12, "flows/a.js", "import { flow } from 'aios'; export default flow({}, () => 1);", NULL);
	inspected_is(p, 12, 1, "\"name\":\"a\"");
	peer_inspect(p, 13, "flows/a.js",
		"import { flow } from 'aios'; import './b.js'; export default flow({}, () => 1);",
		"flows/b.js", "import './a.js'; export default 1;", NULL); /* a cycle */
	inspected_is(p, 13, 1, "\"name\":\"a\"");
	peer_inspect(p, 14, "flows/a.js", "import x from '../../etc/passwd';", NULL);
	inspected_is(p, 14, 0, "cannot find module");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_crosses),
		cmocka_unit_test(test_ordinary_programs), cmocka_unit_test(test_many_runs),
		cmocka_unit_test(test_inspect)};
	return cmocka_run_group_tests_name("flow/isolation", tests, open_peer, close_peer);
}
