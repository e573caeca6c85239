#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Runs: steps and their order, replay, time and chance, what comes back. */

#define FLOW(body)                                                                                           \
	"import { flow, StepError, Denied } from 'aios';\nexport default flow({ name: 'x' }, async (ctx, "   \
	"input) => {" body "\n});\n"

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

static void test_ten_steps(void **state)
{
	struct peer *p = *state;
	peer_version(p, "ten",
		FLOW("let s = 0; for (let i = 0; i < 10; i++) s += (await ctx.call('test.echo', { b: 1, i, "
		     "a: 'x' })).i;"
		     "return { s };"));
	peer_start(p, 1, "ten", "{}", 0);
	for (uint32_t i = 0; i < 10; i++) {
		char args[60];
		snprintf(args, sizeof(args), "{\"a\":\"x\",\"b\":1,\"i\":%u}", i);
		peer_call_is(p, 1, i, "test.echo", args);
		peer_idle_is(p, 1, i + 1);
		peer_result(p, 1, i, true, args);
	}
	peer_done_is(p, 1, "{\"s\":45}");
}

static void test_input_and_context(void **state)
{
	struct peer *p = *state;
	peer_version(p, "ctx",
		FLOW("return [input.issue, ctx.run.flow, ctx.run.id, ctx.run.context.agent.name, "
		     "ctx.run.dry];"));
	peer_start_with(p, 9, "ctx", "{\"issue\":\"12\"}",
		"{\"agent\":{\"name\":\"writer\"},\"dry\":true,\"flow\":\"x\",\"id\":9}", 1000, 1);
	peer_done_is(p, 9, "[\"12\",\"x\",9,\"writer\",true]");
}

/* All steps are asked for at once; results come in any order. */
static void test_all_and_race(void **state)
{
	struct peer *p = *state;
	peer_version(p, "all",
		FLOW("return Promise.all(['a', 'b', 'c'].map((n) => ctx.call('test.echo', { n })));"));
	peer_start(p, 2, "all", "{}", 0);
	peer_call_is(p, 2, 0, "test.echo", "{\"n\":\"a\"}");
	peer_call_is(p, 2, 1, "test.echo", "{\"n\":\"b\"}");
	peer_call_is(p, 2, 2, "test.echo", "{\"n\":\"c\"}");
	peer_idle_is(p, 2, 3);
	peer_result(p, 2, 2, true, "\"C\"");
	peer_idle_is(p, 2, 3);
	peer_result(p, 2, 0, true, "\"A\"");
	peer_idle_is(p, 2, 3);
	peer_result(p, 2, 1, true, "\"B\"");
	peer_done_is(p, 2, "[\"A\",\"B\",\"C\"]");

	peer_version(p, "race",
		FLOW("const r = await Promise.race(['a', 'b'].map((n) => ctx.call('test.echo', { n }))); "
		     "return r;"));
	peer_start(p, 3, "race", "{}", 0);
	peer_call_is(p, 3, 0, "test.echo", NULL);
	peer_call_is(p, 3, 1, "test.echo", NULL);
	peer_idle_is(p, 3, 2);
	peer_result(p, 3, 1, true, "\"second\"");
	peer_done_is(p, 3, "\"second\"");

	peer_version(
		p, "any", FLOW("return Promise.any(['a', 'b'].map((n) => ctx.call('test.echo', { n })));"));
	peer_start(p, 4, "any", "{}", 0);
	peer_call_is(p, 4, 0, "test.echo", NULL);
	peer_call_is(p, 4, 1, "test.echo", NULL);
	peer_idle_is(p, 4, 2);
	peer_result(p, 4, 0, false, "{\"code\":\"failed\",\"message\":\"no\"}");
	peer_idle_is(p, 4, 2);
	peer_result(p, 4, 1, true, "7");
	peer_done_is(p, 4, "7");
}

static void test_step_errors(void **state)
{
	struct peer *p = *state;
	peer_version(p, "err",
		FLOW("try { await ctx.call('mail.send', {}); } catch (e) {"
		     "return [e instanceof StepError, e instanceof Error, e.name, e.code, e.step, e.action, "
		     "e.message,"
		     " e.problem.extra]; }"));
	peer_start(p, 5, "err", "{}", 0);
	peer_call_is(p, 5, 0, "mail.send", "{}");
	peer_idle_is(p, 5, 1);
	peer_result(p, 5, 0, false, "{\"code\":\"denied\",\"extra\":1,\"message\":\"not you\"}");
	peer_done_is(p, 5, "[true,true,\"StepError\",\"denied\",0,\"mail.send\",\"not you\",1]");

	peer_version(p, "err2", FLOW("await ctx.call('mail.send', {});"));
	peer_start(p, 6, "err2", "{}", 0);
	peer_call_is(p, 6, 0, "mail.send", NULL);
	peer_idle_is(p, 6, 1);
	peer_result(p, 6, 0, false, "{\"code\":\"denied\",\"message\":\"not you\"}");
	struct got g = peer_next(p);
	assert_int_equal(g.type, WIRE_FLOW_FAILED);
	assert_non_null(strstr(g.value, "\"code\":\"denied\""));
	assert_non_null(strstr(g.value, "\"action\":\"mail.send\""));
	peer_got_done(&g);
}

static void test_exception_names_the_line(void **state)
{
	struct peer *p = *state;
	peer_graph(p, "thrown", "flows/a.js",
		"import { flow } from 'aios';\nimport { f } from '../lib/b.js';\nexport default flow({ name: "
		"'a' }, async () => f());\n",
		"lib/b.js", "\n\nexport function f() {\n  throw new RangeError('too far');\n}\n", NULL);
	peer_start(p, 7, "thrown", "{}", 0);
	struct got g = peer_next(p);
	assert_int_equal(g.type, WIRE_FLOW_FAILED);
	assert_non_null(strstr(g.value, "\"message\":\"RangeError: too far\""));
	assert_non_null(strstr(g.value, "\"file\":\"lib/b.js\",\"line\":4"));
	peer_got_done(&g);
}

static void test_stuck(void **state)
{
	struct peer *p = *state;
	peer_version(p, "stuck", FLOW("await new Promise(() => {});"));
	peer_start(p, 8, "stuck", "{}", 0);
	peer_failed_is(p, 8, "stuck", "waits for nothing");
	peer_version(p, "stuck2", FLOW("Promise.reject(new Error('lost')); await new Promise(() => {});"));
	peer_start(p, 8, "stuck2", "{}", 0);
	peer_failed_is(p, 8, "stuck", "lost");
}

/* The journal, fed to a fresh worker, gives the same calls and the same end. */
static void test_replay(void **state)
{
	struct peer *p = *state, q;
	const char *source =
		FLOW("const a = await ctx.call('test.echo', { t: Date.now(), r: Math.random() });"
		     "const [b, c] = await Promise.all([ctx.call('test.echo', { a, r: Math.random() }),"
		     " ctx.call('test.echo', { d: new Date().toISOString() })]);"
		     "return { a, b, c, r: ctx.random(), now: ctx.now() };");
	char *args[3], *end;
	peer_version(p, "replay", source);
	peer_start(p, 10, "replay", "{}", 0);
	struct got g = peer_next(p);
	args[0] = strdup(g.args);
	peer_got_done(&g);
	peer_idle_is(p, 10, 1);
	peer_result_at(p, 10, 0, true, "\"A\"", 5000);
	for (int i = 1; i < 3; i++) {
		g = peer_next(p);
		assert_int_equal(g.type, WIRE_FLOW_CALL);
		args[i] = strdup(g.args);
		peer_got_done(&g);
	}
	peer_idle_is(p, 10, 3);
	peer_result_at(p, 10, 2, true, "\"C\"", 6000);
	peer_idle_is(p, 10, 3);
	peer_result_at(p, 10, 1, true, "\"B\"", 7000);
	g = peer_next(p);
	assert_int_equal(g.type, WIRE_FLOW_DONE);
	end = strdup(g.value);
	peer_got_done(&g);
	assert_non_null(strstr(end, "\"now\":7000"));
	assert_non_null(strstr(args[0], "\"t\":1000"));
	assert_string_equal(args[2], "{\"d\":\"1970-01-01T00:00:05.000Z\"}");

	peer_open(&q, NULL);
	peer_version(&q, "replay", source);
	peer_start(&q, 10, "replay", "{}", 3); /* all at once, as the engine replays */
	peer_result_at(&q, 10, 0, true, "\"A\"", 5000);
	peer_result_at(&q, 10, 2, true, "\"C\"", 6000);
	peer_result_at(&q, 10, 1, true, "\"B\"", 7000);
	peer_call_is(&q, 10, 0, "test.echo", args[0]);
	peer_idle_is(&q, 10, 1);
	peer_call_is(&q, 10, 1, "test.echo", args[1]);
	peer_call_is(&q, 10, 2, "test.echo", args[2]);
	peer_idle_is(&q, 10, 3);
	peer_idle_is(&q, 10, 3);
	peer_done_is(&q, 10, end);
	peer_close(&q);
	for (int i = 0; i < 3; i++)
		free(args[i]);
	free(end);
}

static void test_divergence(void **state)
{
	struct peer *p = *state;
	peer_version(p, "div", FLOW("await ctx.call('test.echo', {}); await ctx.call('test.echo', {});"));
	peer_start(p, 11, "div", "{}", 2);
	peer_result(p, 11, 1, true, "1");
	peer_call_is(p, 11, 0, "test.echo", NULL);
	peer_idle_is(p, 11, 1);
	peer_failed_is(p, 11, "diverged", "result of step 1");
	peer_start(p, 12, "div", "{}", 2);
	peer_call_is(p, 12, 0, "test.echo", NULL);
	peer_idle_is(p, 12, 1);
	peer_result(p, 12, 0, true, "1");
	peer_result(p, 12, 0, true, "1");
	peer_call_is(p, 12, 1, "test.echo", NULL);
	peer_idle_is(p, 12, 2);
	peer_failed_is(p, 12, "diverged", "twice");
}

static void test_time_and_chance(void **state)
{
	struct peer *p = *state;
	peer_version(p, "time",
		FLOW("return [Date.now(), new Date().getTime(), +new Date(5), new Date(2026, 0, 2, "
		     "3).toISOString(),"
		     " typeof Date(), new Date().getTimezoneOffset(), Math.random(), ctx.random(),"
		     " new Date() instanceof Date, Date.UTC(1970, 0, 1)];"));
	peer_start_with(p, 13, "time", "{}", "{}", 1234567890123, 1);
	struct got a = peer_next(p);
	assert_int_equal(a.type, WIRE_FLOW_DONE);
	assert_non_null(strstr(
		a.value, "[1234567890123,1234567890123,5,\"2026-01-02T03:00:00.000Z\",\"string\",0,0."));
	assert_non_null(strstr(a.value, ",true,0]"));
	peer_start_with(p, 14, "time", "{}", "{}", 1234567890123, 1);
	struct got b = peer_next(p);
	assert_string_equal(a.value, b.value);
	peer_got_done(&b);
	peer_start_with(p, 15, "time", "{}", "{}", 1234567890123, 2);
	b = peer_next(p);
	assert_string_not_equal(a.value, b.value);
	peer_got_done(&b);
	peer_got_done(&a);
}

static void test_options(void **state)
{
	struct peer *p = *state;
	peer_version(p, "opts",
		FLOW("const c = ctx.call; ctx.attribute({ customer: 'ann' });"
		     "c('test.echo', {}, { key: 'k', retry: 3, timeout: '1m30s', approval: 7, undo: null });"
		     "c('test.echo', {}, { customer: 'bob' }); c('test.echo');"
		     "ctx.attribute({}); c('test.echo'); await c('test.echo', {}, { nonsense: 1 });"));
	peer_start(p, 16, "opts", "{}", 0);
	static const char *const opts[] = {"{\"approval\":7,\"customer\":\"ann\",\"key\":\"k\",\"retry\":3,"
					   "\"timeout\":90000,\"undo\":null}",
		"{\"customer\":\"bob\"}", "{\"customer\":\"ann\"}", ""};
	for (uint32_t i = 0; i < 4; i++) {
		struct got g = peer_next(p);
		assert_int_equal(g.type, WIRE_FLOW_CALL);
		assert_string_equal(g.opts, opts[i]);
		assert_string_equal(g.args, "{}");
		peer_got_done(&g);
	}
	peer_failed_is(p, 16, "exception", "nonsense");
}

static void test_bad_arguments(void **state)
{
	struct peer *p = *state;
	peer_gives(p,
		FLOW("const o = { list: [1, { f() {} }] }; const c = { n: {} }; c.n.up = c; const out = [];"
		     "for (const v of [o, c, { n: 1n }, { x: NaN }, { m: new Map() }, { s: '\\ud800' }, { i: "
		     "2 ** 60 }])"
		     "try { await ctx.call('a', v); } catch (e) { out.push(e.message.split(':')[0].slice(0, "
		     "40)); } return out;"),
		"[\"a.list[1].f is a function\",\"a.n.up refers back to what contains it\",\"a.n is a "
		"BigInt\",\"a.x is NaN\","
		"\"a.m is a Map\",\"a.s holds half of a surrogate pair\",\"a.i is an integer beyond 2^53, "
		"which a n\"]");
}

/* A getter in the arguments calls a step of its own: it comes first, and numbers stay in the order of the
 * frames. */
static void test_nested_call(void **state)
{
	struct peer *p = *state;
	peer_version(p, "nest",
		FLOW("await ctx.call('outer', { get x() { ctx.call('inner', { y: 1 }); return 2; } });"));
	peer_start(p, 17, "nest", "{}", 0);
	peer_call_is(p, 17, 0, "inner", "{\"y\":1}");
	peer_call_is(p, 17, 1, "outer", "{\"x\":2}");
	peer_idle_is(p, 17, 2);
	peer_result(p, 17, 1, true, "null");
	peer_done_is(p, 17, "null");
}

static void test_drop_and_unknown(void **state)
{
	struct peer *p = *state;
	peer_version(p, "drop", FLOW("await ctx.call('a', {}); return 1;"));
	peer_start(p, 18, "drop", "{}", 0);
	peer_call_is(p, 18, 0, "a", NULL);
	peer_idle_is(p, 18, 1);
	struct wire_flow_drop f = {.run = 18};
	wire_flow_drop_put(wire_conn_begin(p->conn, WIRE_FLOW_DROP), &f);
	assert_int_equal(wire_conn_end(p->conn), 0);
	peer_result(p, 18, 0, true, "1"); /* too late: no answer */
	peer_start(p, 19, "no such version", "{}", 0);
	peer_failed_is(p, 19, "load", "was not sent");
	struct wire_flow_forget v = {.version = BASE_STR("drop")};
	wire_flow_forget_put(wire_conn_begin(p->conn, WIRE_FLOW_FORGET), &v);
	assert_int_equal(wire_conn_end(p->conn), 0);
	peer_start(p, 20, "drop", "{}", 0);
	peer_failed_is(p, 20, "load", "was not sent");
}

static void test_results(void **state)
{
	struct peer *p = *state;
	peer_gives(p, FLOW("return;"), "null");
	peer_gives(p,
		FLOW("return { z: 1, a: [undefined, null, new Date(0)], u: undefined, e: 'é\\n\"', n: -0, f: "
		     "1e21, g: 0.1 };"),
		"{\"a\":[null,null,\"1970-01-01T00:00:00.000Z\"],\"e\":\"é\\n\\\"\",\"f\":1e+21,\"g\":0.1,"
		"\"n\":0,\"z\":1}");
	peer_version(
		p, "sync", "import { flow } from 'aios'; export default flow({}, (ctx, input) => input);");
	peer_start(p, 21, "sync", "[1,\"\\u0041\\ud83d\\ude00\",{\"__proto__\":1,\"a\":1.5e3}]", 0);
	peer_done_is(p, 21, "[1,\"A😀\",{\"__proto__\":1,\"a\":1500}]");
	peer_version(p, "bad", FLOW("return { f() {} };"));
	peer_start(p, 22, "bad", "{}", 0);
	peer_failed_is(p, 22, "exception", "the flow's result.f is a function");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_ten_steps),
		cmocka_unit_test(test_input_and_context), cmocka_unit_test(test_all_and_race),
		cmocka_unit_test(test_step_errors), cmocka_unit_test(test_exception_names_the_line),
		cmocka_unit_test(test_stuck), cmocka_unit_test(test_replay),
		cmocka_unit_test(test_divergence), cmocka_unit_test(test_time_and_chance),
		cmocka_unit_test(test_options), cmocka_unit_test(test_bad_arguments),
		cmocka_unit_test(test_nested_call), cmocka_unit_test(test_drop_and_unknown),
		cmocka_unit_test(test_results)};
	return cmocka_run_group_tests_name("flow/run", tests, open_peer, close_peer);
}
