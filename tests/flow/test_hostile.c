#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* Flows that mean ill: only their own run fails, and neighbours that wait at a step go on. */

#define FLOW(body)                                                                                           \
	"import { flow } from 'aios';\nexport default flow({ name: 'evil' }, async (ctx, input) => {" body   \
	"\n});\n"

enum { NEIGHBOUR = 1 };

/* A neighbour stands at a step while the other does its worst. */
static uint32_t neighbour_step;

static int open_with(void **state, const char *config)
{
	static struct peer p;
	peer_open(&p, config);
	peer_version(&p, "good", FLOW("let s = 0; for (;;) s += await ctx.call('test.echo', { s });"));
	peer_start(&p, NEIGHBOUR, "good", "{}", 0);
	peer_call_is(&p, NEIGHBOUR, 0, "test.echo", "{\"s\":0}");
	peer_idle_is(&p, NEIGHBOUR, 1);
	neighbour_step = 0;
	*state = &p;
	return 0;
}

static int open_quick(void **state)
{
	return open_with(state, "{\"run_cpu_ms\":300}");
}

/* A bomb takes its time where the machine is slow: it shall meet the limit of memory, not that of time. */
static int open_patient(void **state)
{
	return open_with(state, "{\"run_cpu_ms\":20000}");
}

static int close_peer(void **state)
{
	peer_close(*state);
	return 0;
}

static void neighbour_goes_on(struct peer *p)
{
	char args[40];
	peer_result(p, NEIGHBOUR, neighbour_step, true, "1");
	uint32_t step = ++neighbour_step;
	snprintf(args, sizeof(args), "{\"s\":%u}", step);
	peer_call_is(p, NEIGHBOUR, step, "test.echo", args);
	peer_idle_is(p, NEIGHBOUR, step + 1);
}

static void fails(struct peer *p, const char *source, const char *kind, const char *text)
{
	static unsigned n;
	char hash[20];
	uint64_t run = 100 + n;
	snprintf(hash, sizeof(hash), "evil%u", n++);
	peer_version(p, hash, source);
	peer_start_with(p, run, hash, "{}", "{\"flow\":\"evil\"}", 1, 1);
	peer_failed_is(p, run, kind, text);
	neighbour_goes_on(p);
}

static void test_endless_loop(void **state)
{
	fails(*state, FLOW("for (;;) {}"), "cpu", "flow evil");
	fails(*state, FLOW("for (;;) { try { for (;;) {} } catch {} finally { for (;;) {} } }"), "cpu",
		"flow evil");
	fails(*state, "import { flow } from 'aios'; for (;;) {} export default flow({}, () => {});", "cpu",
		"flow evil");
	fails(*state, FLOW("return { toJSON() { for (;;) {} } };"), "cpu", "flow evil");
	fails(*state, FLOW("return { get x() { for (;;) {} } };"), "cpu", "flow evil");
	fails(*state, FLOW("throw { get message() { for (;;) {} } };"), "cpu", "flow evil");
	fails(*state, FLOW("await { then() { for (;;) {} } };"), "cpu", "flow evil");
	fails(*state, FLOW("throw new Proxy({}, { get() { for (;;) {} } });"), "cpu", "flow evil");
}

static void test_promise_loop(void **state)
{
	fails(*state, FLOW("for (;;) await null;"), "cpu", "flow evil");
	fails(*state, FLOW("const f = () => Promise.resolve().then(f); await f();"), "cpu", "flow evil");
	fails(*state, FLOW("const f = () => { queueMicrotask(f); }; f(); for (;;) await 1;"), "cpu",
		"flow evil");
}

static void test_memory(void **state)
{
	fails(*state, FLOW("const a = []; for (;;) a.push({ a: a.length, b: [1, 2, 3] });"), "memory",
		"flow evil");
	fails(*state,
		FLOW("const a = []; for (;;) { try { for (;;) a.push('x'.repeat(1e6) + a.length); } catch {} "
		     "}"),
		"memory", "flow evil");
	fails(*state, FLOW("let s = 'x'; for (;;) { s += s; s.charCodeAt(5); }"), "memory", "flow evil");
	fails(*state, FLOW("new Array(1e8).fill(0); for (;;) {}"), "memory", "flow evil");
	fails(*state, FLOW("const b = []; for (;;) b.push(new Uint8Array(1 << 20));"), "memory", "flow evil");
	fails(*state, FLOW("const m = new Map(); for (let i = 0; ; i++) m.set('k' + i, { i });"), "memory",
		"flow evil");
	fails(*state, FLOW("JSON.parse('['.repeat(4e6) + ']'.repeat(4e6)); for (;;) await 1;"), "stack",
		"call stack");
	fails(*state,
		FLOW("const f = () => { const p = []; for (let i = 0; i < 1e4; i++) "
		     "p.push(Promise.resolve(i).then(f)); return"
		     " Promise.all(p); }; await f();"),
		"memory", "flow evil");
	fails(*state,
		FLOW("const f = () => { queueMicrotask(f); queueMicrotask(f); }; f(); await new Promise(() "
		     "=> {});"),
		"memory", "flow evil");
}

static void test_recursion(void **state)
{
	fails(*state, FLOW("const f = () => f() + 1; f();"), "stack", "Maximum call stack");
	fails(*state, FLOW("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; JSON.stringify(a);"), "stack",
		"Maximum call stack");
	fails(*state, FLOW("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a;"), "exception",
		"deeper than 64 levels");
	fails(*state, FLOW("const o = {}; o.toString = () => `${o}`; `${o}`;"), "stack",
		"Maximum call stack");
}

static void test_regexp(void **state)
{
	fails(*state, FLOW("/^(a+)+$/.test('a'.repeat(40) + 'b');"), "cpu", "flow evil");
	fails(*state, FLOW("/(?:a?){40}a{40}/.exec('a'.repeat(40)); for (;;) {}"), "cpu", "flow evil");
}

static void test_no_way_to_new_code(void **state)
{
	fails(*state, FLOW("eval('1');"), "exception", "eval");
	fails(*state, FLOW("new Function('return 1')();"), "exception", "eval is not supported");
	fails(*state, FLOW("(async () => {}).constructor('return 1');"), "exception",
		"eval is not supported");
	fails(*state, FLOW("await import('aios:native');"), "exception", "import() is not available");
	fails(*state, FLOW("await import('./x.js');"), "exception", "import() is not available");
	fails(*state,
		"import { call } from 'aios:native'; import { flow } from 'aios'; export default flow({}, () "
		"=> {});",
		"load", "cannot find module");
	fails(*state, "import { flow } from 'aios'; await 1; export default flow({}, () => {});", "exception",
		"top-level await");
	fails(*state, "export default 1;", "exception", "has no default export made by flow");
}

/* What a killed run left in the queue does not come back to call steps in another's name. */
static void test_killed_run_stays_dead(void **state)
{
	fails(*state,
		FLOW("for (let i = 0; i < 1000; i++) Promise.resolve().then(() => ctx.call('mail.send', { i "
		     "}));"
		     "for (;;) {}"),
		"cpu", "flow evil");
	fails(*state,
		FLOW("for (let i = 0; i < 20; i++) Promise.resolve().then(() => { for (;;) {} }); for (;;) "
		     "{}"),
		"cpu", "flow evil");
}

/* Steps by the thousand, or huge ones: what is asked for at once has a limit, and the worker keeps its
 * connection. */
static void test_flood_of_steps(void **state)
{
	struct peer *p = *state;
	peer_version(p, "flood",
		FLOW("const s = 'x'.repeat(1 << 20); for (;;) ctx.call('test.echo', { s }).catch(() => "
		     "{});"));
	peer_start_with(p, 700, "flood", "{}", "{\"flow\":\"flood\"}", 1, 1);
	for (uint32_t i = 0; i < 23; i++)
		peer_call_is(p, 700, i, "test.echo", NULL);
	peer_failed_is(p, 700, "exception", "more than 24 MiB of arguments at once");
	neighbour_goes_on(p);
	peer_version(p, "flood2", FLOW("for (;;) ctx.call('test.echo', {}).catch(() => {});"));
	peer_start_with(p, 701, "flood2", "{}", "{\"flow\":\"flood\"}", 1, 1);
	for (uint32_t i = 0;; i++) {
		struct got g = peer_next(p);
		bool failed = g.type == WIRE_FLOW_FAILED;
		if (failed)
			assert_non_null(strstr(g.value, "\"kind\":\"memory\""));
		else
			assert_int_equal(g.type, WIRE_FLOW_CALL);
		peer_got_done(&g);
		if (failed)
			break;
	}
	neighbour_goes_on(p);
}

/* Jobs that cannot be got rid of in time: the worker says whose fault it is and ends, so that a fresh one can
 * replay the neighbours. */
static void test_poisoned_queue(void **state)
{
	struct peer p;
	(void)state;
	peer_open(&p, "{\"run_cpu_ms\":300}");
	peer_version(&p, "poison",
		FLOW("for (let i = 0; i < 50000; i++) Promise.resolve().then(() => { for (;;) {} }); for "
		     "(;;) {}"));
	peer_start_with(&p, 1, "poison", "{}", "{\"flow\":\"poison\"}", 1, 1);
	peer_failed_is(&p, 1, "cpu", "flow poison");
	struct got g = peer_next(&p);
	assert_int_equal(g.type, 0);
	int status = peer_reap(&p);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 3);
}

static void test_memory_over_steps(void **state)
{
	struct peer *p = *state;
	peer_version(p, "slow",
		FLOW("const all = []; for (let i = 0; ; i++) {"
		     "all.push(await ctx.call('test.echo', { i }), 'y'.repeat(8e6) + i); }"));
	peer_start_with(p, 500, "slow", "{}", "{\"flow\":\"slow\"}", 1, 1);
	for (uint32_t i = 0; i < 100; i++) {
		struct got g = peer_next(p);
		if (g.type == WIRE_FLOW_FAILED) {
			assert_true(i > 1);
			assert_non_null(strstr(g.value, "\"kind\":\"memory\""));
			peer_got_done(&g);
			neighbour_goes_on(p);
			return;
		}
		assert_int_equal(g.type, WIRE_FLOW_CALL);
		peer_got_done(&g);
		peer_idle_is(p, 500, i + 1);
		peer_result(p, 500, i, true, "1");
	}
	fail_msg("800 MB were let through");
}

/* Bombs one after the other leave nothing behind that would end the worker. */
static void test_many_bombs(void **state)
{
	for (int i = 0; i < 10; i++)
		fails(*state, FLOW("const a = []; for (;;) a.push([a.length]);"), "memory", "flow evil");
}

int main(void)
{
	const struct CMUnitTest busy[] = {cmocka_unit_test(test_endless_loop),
		cmocka_unit_test(test_promise_loop), cmocka_unit_test(test_recursion),
		cmocka_unit_test(test_regexp), cmocka_unit_test(test_no_way_to_new_code),
		cmocka_unit_test(test_killed_run_stays_dead)};
	const struct CMUnitTest greedy[] = {cmocka_unit_test(test_memory),
		cmocka_unit_test(test_flood_of_steps), cmocka_unit_test(test_poisoned_queue),
		cmocka_unit_test(test_memory_over_steps), cmocka_unit_test(test_many_bombs)};
	int failed = cmocka_run_group_tests_name("flow/hostile: time", busy, open_quick, close_peer);
	return failed + cmocka_run_group_tests_name("flow/hostile: memory", greedy, open_patient, close_peer);
}
