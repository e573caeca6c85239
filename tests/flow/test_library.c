#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The standard library: what ctx asks for, what it makes of the answers, verify, agents. */

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

static uint64_t next_run = 1;

static uint64_t start(struct peer *p, const char *source)
{
	char hash[30];
	snprintf(hash, sizeof(hash), "lib%llu", (unsigned long long)next_run);
	peer_version(p, hash, source);
	peer_start_with(p, next_run, hash, "{}", "{\"flow\":\"x\"}", 1000000, 1);
	return next_run++;
}

/* A call, its answer, and what the flow returns. */
static void maps(struct peer *p, const char *expression, const char *action, const char *args, bool ok,
	const char *answer, const char *result)
{
	char source[2000];
	snprintf(source, sizeof(source),
		FLOW("try { return %s; } catch (e) { return [e.name, e.code, e.message]; }"), expression);
	uint64_t run = start(p, source);
	peer_call_is(p, run, 0, action, args);
	peer_idle_is(p, run, 1);
	peer_result(p, run, 0, ok, answer);
	peer_done_is(p, run, result);
}

static void test_memory(void **state)
{
	struct peer *p = *state;
	maps(p, "await ctx.memory.get('a/b')", "memory.get", "{\"key\":\"a/b\"}", true,
		"{\"at\":1,\"key\":\"a/b\",\"value\":{\"x\":1},\"version\":3}", "{\"x\":1}");
	maps(p, "await ctx.memory.get('a/b')", "memory.get", "{\"key\":\"a/b\"}", true, "null", "null");
	maps(p, "(await ctx.memory.entry('a/b')).version", "memory.get", "{\"key\":\"a/b\"}", true,
		"{\"key\":\"a/b\",\"value\":0,\"version\":3}", "3");
	maps(p, "await ctx.memory.put('k', [1], { base: 0, source: 's' })", "memory.put",
		"{\"base\":0,\"key\":\"k\",\"source\":\"s\",\"value\":[1]}", true, "{\"version\":1}",
		"{\"version\":1}");
	maps(p, "await ctx.memory.list('r/')", "memory.list", "{\"limit\":500,\"prefix\":\"r/\"}", true,
		"{\"items\":[{\"key\":\"r/1\",\"value\":\"a\",\"version\":1},{\"key\":\"r/"
		"2\",\"value\":\"b\",\"version\":1}]}",
		"[\"a\",\"b\"]");
	maps(p, "await ctx.memory.entries('r/', { limit: 1, after: 'r/0' })", "memory.list",
		"{\"after\":\"r/0\",\"limit\":1,\"prefix\":\"r/\"}", true,
		"{\"items\":[{\"key\":\"r/1\",\"value\":1,\"version\":1}]}",
		"[{\"key\":\"r/1\",\"value\":1,\"version\":1}]");
	maps(p, "await ctx.memory.history('k')", "memory.history", "{\"key\":\"k\"}", true, "{\"items\":[1]}",
		"[1]");
	maps(p, "await ctx.memory.search('q', { limit: 2, prefix: 'n/' })", "memory.search",
		"{\"limit\":2,\"prefix\":\"n/\",\"query\":\"q\"}", true, "{\"hits\":[2]}", "[2]");
	maps(p, "await ctx.memory.document('d', 'text', { title: 't' })", "memory.document",
		"{\"id\":\"d\",\"meta\":{\"title\":\"t\"},\"text\":\"text\"}", true, "{\"id\":\"d\"}",
		"{\"id\":\"d\"}");
	maps(p, "await ctx.memory.forget('k')", "memory.forget", "{\"key\":\"k\"}", true, "{\"version\":2}",
		"{\"version\":2}");
	maps(p, "await ctx.session('s').get()", "session.get", "{\"id\":\"s\"}", true, "{\"a\":1}",
		"{\"a\":1}");
	maps(p, "await ctx.session('s').put(5, { ttl: '2m' })", "session.put",
		"{\"id\":\"s\",\"ttl_ms\":120000,\"value\":5}", true, "null", "null");
}

static void test_pages(void **state)
{
	struct peer *p = *state;
	uint64_t run = start(p, FLOW("return (await ctx.memory.list('r/')).length;"));
	struct base_buf b;
	base_buf_init(&b, 1 << 20);
	base_buf_cstr(&b, "{\"items\":[");
	for (int i = 0; i < 500; i++)
		base_buf_printf(&b, "%s{\"key\":\"r/%03d\",\"value\":%d,\"version\":1}", i ? "," : "", i, i);
	base_buf_put(&b, "]}", 3);
	peer_call_is(p, run, 0, "memory.list", "{\"limit\":500,\"prefix\":\"r/\"}");
	peer_idle_is(p, run, 1);
	peer_result(p, run, 0, true, b.ptr);
	base_buf_done(&b);
	peer_call_is(p, run, 1, "memory.list", "{\"after\":\"r/499\",\"limit\":500,\"prefix\":\"r/\"}");
	peer_idle_is(p, run, 2);
	peer_result(p, run, 1, true, "{\"items\":[]}");
	peer_done_is(p, run, "500");
}

static void test_waits(void **state)
{
	struct peer *p = *state;
	const char *ask =
		"await ctx.approve({ title: 'T', show: { a: 1 }, edit: true, expires: '2d', onExpiry: 'deny',"
		" allows: { action: 'mail.send', count: 2, fixed: ['markdown'] } })";
	const char *args =
		"{\"allows\":{\"action\":\"mail.send\",\"count\":2,\"fixed\":[\"markdown\"]},\"edit\":true,"
		"\"expires_ms\":172800000,\"on_expiry\":\"deny\",\"show\":{\"a\":1},\"title\":\"T\"}";
	maps(p, ask, "gate.ask", args, true,
		"{\"answer\":\"edit\",\"approval\":4,\"by\":\"operator\",\"reason\":\"\",\"value\":{\"a\":2}"
		"}",
		"{\"answer\":\"edit\",\"approval\":4,\"by\":\"operator\",\"reason\":\"\",\"value\":{\"a\":2}"
		"}");
	maps(p, ask, "gate.ask", args, true,
		"{\"answer\":\"deny\",\"approval\":4,\"by\":\"operator\",\"reason\":\"too "
		"long\",\"value\":null}",
		"[\"Denied\",\"denied\",\"denied: too long\"]");
	maps(p, ask, "gate.ask", args, true,
		"{\"answer\":\"expired\",\"approval\":4,\"by\":\"time\",\"reason\":\"\",\"value\":null}",
		"[\"Denied\",\"expired\",\"nobody answered in time\"]");
	maps(p, "(await ctx.approve({ title: 'T', show: 1, onExpiry: 'value' })).answer", "gate.ask",
		"{\"on_expiry\":\"value\",\"show\":1,\"title\":\"T\"}", true,
		"{\"answer\":\"expired\",\"approval\":4,\"by\":\"time\",\"reason\":\"\",\"value\":1}",
		"\"expired\"");
	maps(p, "await ctx.sleep('1h30m')", "timer.sleep", "{\"ms\":5400000}", true, "null", "null");
	maps(p, "await ctx.sleep(5)", "timer.sleep", "{\"ms\":5}", true, "null", "null");
	maps(p, "await ctx.sleep({ until: '1970-01-02T00:00:00Z' })", "timer.sleep",
		"{\"until_ms\":86400000}", true, "null", "null");
	maps(p, "await ctx.sleep(new Date(7))", "timer.sleep", "{\"until_ms\":7}", true, "null", "null");
	maps(p, "await ctx.signal('opened', { timeout: '1m' })", "signal.wait",
		"{\"name\":\"opened\",\"timeout_ms\":60000}", true, "{\"payload\":3}", "{\"payload\":3}");
	peer_gives(p, FLOW("try { await ctx.sleep('soon'); } catch (e) { return e.name; }"), "\"TypeError\"");
}

static void test_children_and_learning(void **state)
{
	struct peer *p = *state;
	maps(p, "await ctx.start('other', { a: 1 }, { key: 'k' })", "run.start",
		"{\"flow\":\"other\",\"input\":{\"a\":1},\"key\":\"k\"}", true, "{\"run\":9}", "{\"run\":9}");
	maps(p, "await ctx.run('other', { a: 1 })", "run.call", "{\"flow\":\"other\",\"input\":{\"a\":1}}",
		true, "\"done\"", "\"done\"");
	maps(p, "await ctx.run('other')", "run.call", "{\"flow\":\"other\",\"input\":{}}", false,
		"{\"code\":\"failed\",\"message\":\"no\"}", "[\"StepError\",\"failed\",\"no\"]");
	maps(p, "await ctx.agent('writer', { task: 't', voice: 'v' })", "agent.run",
		"{\"agent\":\"writer\",\"task\":\"t\",\"voice\":\"v\"}", true, "{\"text\":\"x\"}",
		"{\"text\":\"x\"}");
	maps(p, "await ctx.agent('writer', 't')", "agent.run", "{\"agent\":\"writer\",\"task\":\"t\"}", true,
		"1", "1");
	maps(p, "(await ctx.experiment('e', ['a', 'b'], { mode: 'thompson' })).value", "experiment.choose",
		"{\"arms\":[\"a\",\"b\"],\"mode\":\"thompson\",\"name\":\"e\"}", true,
		"{\"arm\":1,\"how\":\"explore\",\"value\":\"b\"}", "\"b\"");
	maps(p, "await ctx.experiment.counts('e')", "experiment.counts", "{\"name\":\"e\"}", true,
		"{\"arms\":[{\"n\":1}]}", "[{\"n\":1}]");
	maps(p, "await ctx.outcome('sold', 2, { customer: 'c', key: 'k', money: 5 })", "outcome.record",
		"{\"customer\":\"c\",\"key\":\"k\",\"money\":5,\"name\":\"sold\",\"value\":2}", true, "null",
		"null");
	maps(p, "await ctx.log('a', { b: 1 }, 2)", "log.write",
		"{\"level\":\"info\",\"text\":\"a {\\\"b\\\":1} 2\"}", true, "null", "null");
	maps(p, "await ctx.log.warn('w')", "log.write", "{\"level\":\"warning\",\"text\":\"w\"}", true,
		"null", "null");
}

static void test_model(void **state)
{
	struct peer *p = *state;
	maps(p, "(await ctx.model({ tier: 'draft', prompt: 'hi', max_tokens: 9 })).text", "model.generate",
		"{\"max_tokens\":9,\"messages\":[{\"content\":\"hi\",\"role\":\"user\"}],\"tier\":\"draft\"}",
		true, "{\"text\":\"ho\"}", "\"ho\"");
	uint64_t run = start(p, FLOW("return (await ctx.model({ prompt: 'p', schema: { type: 'object', "
				     "required: ['n'] } })).value;"));
	peer_call_is(p, run, 0, "model.generate", NULL);
	peer_idle_is(p, run, 1);
	peer_result(p, run, 0, true, "{\"text\":\"I would say {\\\"m\\\": 1}\"}");
	struct got g = peer_next(p);
	assert_int_equal(g.type, WIRE_FLOW_CALL);
	assert_non_null(strstr(g.args, "value.n is missing"));
	peer_got_done(&g);
	peer_idle_is(p, run, 2);
	peer_result(p, run, 1, true, "{\"text\":\"```json\\n{\\\"n\\\": 2}\\n```\"}");
	peer_done_is(p, run, "{\"n\":2}");
	/* a dry run asked nobody: not once more either */
	run = start(p, FLOW("return (await ctx.model({ prompt: 'p', schema: { type: 'object' } })).value;"));
	peer_call_is(p, run, 0, "model.generate", NULL);
	peer_idle_is(p, run, 1);
	peer_result(p, run, 0, true, "{\"dry\":true,\"text\":\"\",\"would_send\":{}}");
	peer_done_is(p, run, "null");
}

static void test_verify(void **state)
{
	struct peer *p = *state;
	const char *sources = "const s = ['The mill ran from 1888 to 1931 and made 40 tons of paper a day. "
			      "https://a.example/mill'];";
	char source[3000];
	snprintf(source, sizeof(source),
		FLOW("%s const v = await ctx.verify('# The Mill\\n\\nThe mill made 40 tons of paper a day. "
		     "It ran from 1888.',"
		     " { sources: s, claims: true, links: true, length: { min: 5, max: 50 } }); return v;"),
		sources);
	peer_gives(p, source, "{\"claims\":2,\"confidence\":1,\"ok\":true,\"problems\":[]}");
	snprintf(source, sizeof(source),
		FLOW("%s const v = await ctx.verify('The mill made 55 tons of paper a day. See "
		     "https://b.example/x.',"
		     " { sources: s, claims: true, links: true, length: { min: 50 } });"
		     " return [v.ok, v.confidence < 0.5, v.problems.map((p) => p.check)];"),
		sources);
	peer_gives(p, source, "[false,true,[\"length\",\"links\",\"claims\"]]");
	snprintf(source, sizeof(source),
		FLOW("return ctx.verify('In 1931 the last owner, Ida Vance, closed the mill.', { claims: { "
		     "prefix: 'notes/' } });"));
	uint64_t run = start(p, source);
	struct got g = peer_next(p);
	assert_int_equal(g.type, WIRE_FLOW_CALL);
	assert_string_equal(g.action, "memory.search");
	assert_non_null(
		strstr(g.args, "\"limit\":5,\"prefix\":\"notes/\",\"query\":\"1931 last owner ida vance"));
	peer_got_done(&g);
	peer_idle_is(p, run, 1);
	peer_result(p, run, 0, true,
		"{\"hits\":[{\"text\":\"nothing\"},{\"text\":\"Ida Vance was the last owner; she closed the "
		"mill in 1931.\"}]}");
	peer_done_is(p, run, "{\"claims\":1,\"confidence\":1,\"ok\":true,\"problems\":[]}");
}

static const char agent_context[] =
	"{\"agent\":{\"budget\":\"1 USD\",\"instructions\":\"Be "
	"brief.\",\"max_tokens\":100,\"name\":\"writer\",\"tier\":\"quality\","
	"\"tools\":[\"memory.search\",\"memory.get\"],\"turns\":3},\"flow\":\"aios:agent\",\"id\":5}";

static void start_agent(struct peer *p, uint64_t run)
{
	peer_graph(p, "agent1", "aios:agent", NULL);
	peer_start_with(p, run, "agent1", "{\"agent\":\"writer\",\"notes\":[1],\"task\":\"Write.\"}",
		agent_context, 1, 1);
}

static void test_agent(void **state)
{
	struct peer *p = *state;
	start_agent(p, 900);
	struct got g = peer_next(p);
	assert_int_equal(g.type, WIRE_FLOW_CALL);
	assert_string_equal(g.action, "model.generate");
	assert_non_null(strstr(g.args,
		"{\"max_tokens\":100,\"messages\":[{\"content\":\"Write.\\n\\n## notes\\n\\n[\\n "
		"1\\n]\",\"role\":\"user\"}],"
		"\"system\":\"Be "
		"brief.\",\"tier\":\"quality\",\"tools\":[{\"args\":{\"additionalProperties\":false"));
	assert_non_null(strstr(g.args, "\"name\":\"memory_search\"}"));
	peer_got_done(&g);
	peer_idle_is(p, 900, 1);
	peer_result(p, 900, 0, true,
		"{\"model\":\"m\",\"stop\":\"tools\",\"text\":\"\",\"tool_calls\":[{\"args\":{\"query\":"
		"\"q\"},\"id\":\"t1\",\"name\":\"memory_search\"},"
		"{\"args\":{\"key\":\"k\"},\"id\":\"t2\",\"name\":\"memory_get\"},{\"args\":{},\"id\":\"t3\","
		"\"name\":\"mail_send\"}]}");
	peer_call_is(p, 900, 1, "memory.search", "{\"query\":\"q\"}");
	peer_call_is(p, 900, 2, "memory.get", "{\"key\":\"k\"}");
	peer_idle_is(p, 900, 3);
	peer_result(p, 900, 1, true, "{\"hits\":[]}");
	peer_idle_is(p, 900, 3);
	peer_result(p, 900, 2, false, "{\"code\":\"denied\",\"message\":\"no\"}");
	g = peer_next(p);
	assert_int_equal(g.type, WIRE_FLOW_CALL);
	assert_non_null(
		strstr(g.args, "{\"content\":\"{\\\"hits\\\":[]}\",\"id\":\"t1\",\"role\":\"tool\"}"));
	assert_non_null(strstr(
		g.args, "{\"content\":\"denied: no\",\"error\":true,\"id\":\"t2\",\"role\":\"tool\"}"));
	assert_non_null(strstr(g.args, "{\"content\":\"there is no tool "
				       "mail_send\",\"error\":true,\"id\":\"t3\",\"role\":\"tool\"}"));
	peer_got_done(&g);
	peer_idle_is(p, 900, 4);
	peer_result(
		p, 900, 3, true, "{\"model\":\"m\",\"stop\":\"end\",\"text\":\"Done.\",\"tool_calls\":[]}");
	peer_done_is(p, 900,
		"{\"model\":\"m\",\"stop\":\"end\",\"text\":\"Done.\",\"tools\":[\"memory_search\",\"memory_"
		"get\",\"mail_send\"],\"turns\":2}");
}

/* In its last turn it is given no tools, and tool calls that come all the same are not made. */
static void test_agent_turns(void **state)
{
	struct peer *p = *state;
	start_agent(p, 901);
	for (uint32_t turn = 0; turn < 3; turn++) {
		struct got g = peer_next(p);
		assert_int_equal(g.type, WIRE_FLOW_CALL);
		assert_int_equal(strstr(g.args, "\"tools\":") != NULL, turn < 2);
		peer_got_done(&g);
		peer_idle_is(p, 901, 2 * turn + 1);
		peer_result(p, 901, 2 * turn, true,
			"{\"model\":\"m\",\"stop\":\"tools\",\"text\":\"t\",\"tool_calls\":[{\"args\":{"
			"\"key\":\"k\"},\"id\":\"a\",\"name\":\"memory_get\"}]}");
		if (turn == 2)
			break;
		peer_call_is(p, 901, 2 * turn + 1, "memory.get", "{\"key\":\"k\"}");
		peer_idle_is(p, 901, 2 * turn + 2);
		peer_result(p, 901, 2 * turn + 1, true, "null");
	}
	peer_done_is(p, 901,
		"{\"model\":\"m\",\"stop\":\"tools\",\"text\":\"t\",\"tools\":[\"memory_get\",\"memory_get\"]"
		",\"turns\":3}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_memory), cmocka_unit_test(test_pages),
		cmocka_unit_test(test_waits), cmocka_unit_test(test_children_and_learning),
		cmocka_unit_test(test_model), cmocka_unit_test(test_verify), cmocka_unit_test(test_agent),
		cmocka_unit_test(test_agent_turns)};
	return cmocka_run_group_tests_name("flow/library", tests, open_peer, close_peer);
}
