/* The decisions: runs, steps, effects of every class, gates, approvals, money, memory, replay. After each
 * test the log is folded from zero and from a snapshot, and both must equal the live state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/core_int.h"
#include "house.h"
#include "wire/outcome.h"

_Static_assert((int)CORE_WIRE_DONE == (int)WIRE_DONE && (int)CORE_WIRE_FAILED == (int)WIRE_FAILED &&
		       (int)CORE_WIRE_RETRY == (int)WIRE_RETRY &&
		       (int)CORE_WIRE_UNKNOWN == (int)WIRE_UNKNOWN &&
		       (int)CORE_WIRE_NOT_FOUND == (int)WIRE_NOT_FOUND,
	"the numbers of outcomes are the same on both sides of a frame");

enum { DONE = 1, FAILED, RETRY, UNKNOWN, NOT_FOUND };

static const char deployment[] =
	"{\"flows\":[{\"name\":\"f\",\"version\":"
	"\"00000000000000000000000000000000000000000000000000000000000000aa\",\"modules\":{\"entry\":\"f\"},"
	"\"spec\":{\"input\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},"
	"\"additionalProperties\":false},\"budget\":{\"run\":\"1 USD\"}},"
	"\"grants\":[\"test.*\",\"mail.send\",\"memory.*\",\"run.*\",\"agent.run\",\"model.generate\"]}],"
	"\"agents\":[{\"name\":\"a\",\"definition\":{\"tools\":[\"test.echo\",\"http.get\"]}}],"
	"\"config\":{\"rates\":{\"mail\":\"1/s\"},\"customers\":\"readers/"
	"\",\"models\":{\"tiers\":{\"draft\":"
	"[\"big/one\",\"local/extract\"]},\"prices\":{\"big/one\":{\"input\":\"1000 USD\",\"output\":\"0.1 "
	"USD\"}}}},"
	"\"policy\":{\"rules\":[{\"on\":\"test.*\",\"then\":\"allow\"},{\"on\":\"model.*\",\"then\":"
	"\"allow\"},"
	"{\"name\":\"mail\",\"on\":\"mail.send\",\"then\":\"gate\",\"expires\":\"1h\"},"
	"{\"name\":\"gone\",\"on\":\"mail.send\",\"when\":\"has(customer.unsubscribed) && "
	"customer.unsubscribed\","
	"\"then\":\"deny\"}]}}";

static int set_up(void **state)
{
	return house_set_up(state, deployment);
}

static void test_start(void **state)
{
	struct house *h = *state;
	struct core_cmd cmd = {.type = CORE_CMD_RUN_START,
		.name = BASE_STR("f"),
		.key = BASE_STR("k"),
		.body = BASE_STR("{\"n\":1}")};
	uint64_t run;

	house_do(h, cmd);
	assert_int_equal(h->reply.status, 201);
	run = h->reply.id;
	assert_int_equal(house_act(h, CORE_ACT_RUN_LOAD, 0)->run, run);
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 200);
	assert_int_equal(h->reply.id, run);
	cmd.body = BASE_STR("{\"n\":2}");
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 409);
	cmd.key = BASE_STR("k2");
	cmd.body = BASE_STR("{\"n\":\"x\"}");
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 422);
	cmd.name = BASE_STR("nope");
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 404);
}

static void test_echo_and_end(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	const struct house_act *a;

	house_call(h, run, 0, "test.echo", "{\"value\":1}", "");
	a = house_act(h, CORE_ACT_DISPATCH, 0);
	assert_non_null(a);
	assert_string_equal(a->text, "{\"value\":1}");
	assert_string_equal(a->action, "test.echo");
	assert_int_equal(strlen(a->key), 32);
	house_result(h, run, 0, 1, DONE, "{\"value\":1}");
	a = house_act(h, CORE_ACT_RESULT, 0);
	assert_true(a && a->ok);
	house_result(h, run, 0, 1, DONE, "{\"value\":2}"); /* late: fenced */
	assert_int_equal(h->reply.status, 409);
	assert_int_equal(h->act_count, 0);
	house_do(h,
		(struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = run, .step = 1, .body = BASE_STR("7")});
	a = house_act(h, CORE_ACT_RUN_ENDED, 0);
	assert_true(a && a->ok);
	assert_string_equal(a->text, "7");
	house_do(h, (struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = run, .body = BASE_STR("8")});
	assert_int_equal(h->reply.status, 409);
}

static void expect_problem(const struct house *h, const char *code)
{
	const struct house_act *a = house_act(h, CORE_ACT_RESULT, 0);

	assert_non_null(a);
	assert_false(a->ok);
	if (!strstr(a->text, code))
		fail_msg("%s does not name %s", a->text, code);
}

static void test_refused_calls(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "no.such", "{}", "");
	expect_problem(h, "unknown_action");
	house_call(h, run, 1, "memory.get", "{\"key\":1}", "");
	expect_problem(h, "invalid");
	house_call(h, run, 2, "test.echo", "{\"b\":1,\"a\":2}", ""); /* not canonical */
	expect_problem(h, "invalid");
	house_call(h, run, 3, "test.echo", "{\"a\":1,\"a\":2}", "");
	expect_problem(h, "invalid");
	house_call(h, run, 4, "http.get", "{\"url\":\"http://a/\"}", ""); /* no grant */
	expect_problem(h, "denied");
	house_call(h, run, 9, "test.echo", "{}", "");
	assert_int_equal(h->reply.status, 400);
}

static void test_classes_without_answer(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	const struct house_act *a;
	uint64_t gate;

	house_call(h, run, 0, "test.idempotent", "{\"value\":\"x\"}", "");
	a = house_act(h, CORE_ACT_DISPATCH, 0);
	assert_non_null(a);
	char key[128];
	strcpy(key, a->key);
	house_result(h, run, 0, 1, UNKNOWN, "{}");
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	h->now_ms += 1000;
	house_tick(h);
	a = house_act(h, CORE_ACT_DISPATCH, 0);
	assert_true(a && a->attempt == 2 && a->mode == 0);
	assert_string_equal(a->key, key);
	house_result(h, run, 0, 2, DONE, "1");

	house_call(h, run, 1, "test.lookup", "{\"value\":\"x\"}", "");
	house_result(h, run, 1, 1, UNKNOWN, "{}");
	h->now_ms += 5000;
	house_tick(h);
	a = house_act(h, CORE_ACT_DISPATCH, 0);
	assert_true(a && a->mode == 1);
	house_result(h, run, 1, 2, NOT_FOUND, "{}");
	house_tick(h);
	a = house_act(h, CORE_ACT_DISPATCH, 0);
	assert_true(a && a->mode == 0 && a->attempt == 3);
	house_result(h, run, 1, 3, DONE, "2");

	house_call(h, run, 2, "test.once", "{\"value\":\"x\"}", "");
	house_result(h, run, 2, 1, UNKNOWN, "{}");
	a = house_act(h, CORE_ACT_GATE, 0);
	assert_non_null(a);
	gate = a->id;
	h->now_ms += 1000000;
	house_tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0)); /* never by itself */
	house_gate(h, gate, "approve", "");
	assert_int_equal(h->reply.status, 422);
	house_gate(h, gate, "happened", "{\"id\":5}");
	a = house_act(h, CORE_ACT_RESULT, 0);
	assert_true(a && a->ok);
	assert_string_equal(a->text, "{\"id\":5}");
	house_gate(h, gate, "send", "");
	assert_int_equal(h->reply.status, 409);

	house_call(h, run, 3, "test.once", "{\"value\":\"y\"}", "");
	house_result(h, run, 3, 1, UNKNOWN, "{}");
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	house_gate(h, gate, "send", "");
	house_tick(h);
	a = house_act(h, CORE_ACT_DISPATCH, 0);
	assert_true(a && a->attempt == 2);
}

static void fault_41_retry_after_provider_forgot_key(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate;

	house_call(h, run, 0, "test.forgets", "{}", "");
	house_result(h, run, 0, 1, UNKNOWN, "{\"code\":\"timeout\"}");
	h->now_ms += 10000;
	house_tick(h);
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->attempt, 2); /* within the life of the key */
	house_result(h, run, 0, 2, UNKNOWN, "{\"code\":\"timeout\"}");
	h->now_ms += 25ll * 3600000; /* the machine slept for a day and an hour */
	house_tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	house_gate(h, gate, "send", "");
	house_tick(h);
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->attempt, 3);
	h->now_ms += 7200000;
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test")});
	assert_non_null(house_act(h, CORE_ACT_GATE, 0)); /* in flight when aiosd ended, and too long ago */
}

static void test_restart(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "test.read", "{\"value\":\"x\"}", "");
	house_call(h, run, 1, "test.once", "{\"value\":\"x\"}", "");
	house_call(h, run, 2, "test.lookup", "{\"value\":\"x\"}", "");
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test")});
	assert_non_null(house_act(h, CORE_ACT_GATE, 0));
	assert_null(house_act(h, CORE_ACT_GATE, 1)); /* only the `once` is in doubt */
	h->now_ms += 1000;			     /* the lookup comes after the settling time */
	house_tick(h);
	assert_int_equal(
		house_act(h, CORE_ACT_DISPATCH, 0)->mode + house_act(h, CORE_ACT_DISPATCH, 1)->mode, 1);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 2));
}

static void test_retries_end_at_a_gate(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate = 0;
	uint32_t attempt = 1;

	house_call(h, run, 0, "test.fail", "{\"kind\":\"retry\"}", "");
	for (; attempt < 50; attempt++) {
		house_result(h, run, 0, attempt, RETRY, "{\"code\":\"down\"}");
		if (house_act(h, CORE_ACT_GATE, 0)) {
			gate = house_act(h, CORE_ACT_GATE, 0)->id;
			break;
		}
		h->now_ms += 600000;
		house_tick(h);
		assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->attempt, attempt + 1);
	}
	assert_true(gate && attempt > 1);
	house_gate(h, gate, "approve", "");
	h->now_ms += 600000;
	house_tick(h);
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->attempt, attempt + 1);
	house_result(h, run, 0, attempt + 1, FAILED, "{\"code\":\"bad\"}");
	expect_problem(h, "bad");
}

static void test_policy_gate(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate;
	const char *mail = "{\"markdown\":\"x\",\"subject\":\"s\",\"to\":\"a@example.org\"}";

	house_call(h, run, 0, "mail.send", mail, "");
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	house_do(h, (struct core_cmd){.type = CORE_CMD_GATE_DECIDE, .id = gate, .name = BASE_STR("approve")});
	assert_int_equal(h->reply.status, 409); /* without the hash of what was shown */
	house_gate(h, gate, "approve", "");
	house_tick(h);
	assert_string_equal(house_act(h, CORE_ACT_DISPATCH, 0)->action, "mail.send");
	house_call(h, run, 1, "mail.send", mail, "");
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	house_gate(h, gate, "deny", "");
	expect_problem(h, "denied");
	house_call(h, run, 2, "mail.send", mail, "");
	h->now_ms += 3600000;
	house_tick(h);
	expect_problem(h, "expired");
}

static void test_approval_for_calls_to_come(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate;
	const struct house_act *a;

	house_call(h, run, 0, "gate.ask",
		"{\"allows\":{\"action\":\"mail.send\",\"count\":2,\"fixed\":{\"markdown\":\"/"
		"body\"}},\"edit\":true,"
		"\"show\":{\"body\":\"A\"},\"title\":\"t\"}",
		"");
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	house_gate(h, gate, "edit", "{\"body\": \"B\"}");
	a = house_act(h, CORE_ACT_RESULT, 0);
	assert_true(a && a->ok && strstr(a->text, "{\"body\":\"B\"}"));
	/* What was shown at first is not what was approved. */
	house_call(h, run, 1, "mail.send", "{\"markdown\":\"A\",\"subject\":\"s\",\"to\":\"a@example.org\"}",
		"{\"approval\":1}");
	expect_problem(h, "approval_mismatch");
	a = house_act(h, CORE_ACT_RESULT, 0);
	assert_true(strstr(a->text, "\"sent\":\"A\"") && strstr(a->text, "B"));
	house_call(h, run, 2, "mail.send", "{\"markdown\":\"B\",\"subject\":\"s\",\"to\":\"a@example.org\"}",
		"{\"approval\":1}");
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_call(h, run, 3, "mail.send", "{\"markdown\":\"B\",\"subject\":\"s\",\"to\":\"b@example.org\"}",
		"{\"approval\":1}");
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0)); /* one a second: held */
	house_check(h);
	h->now_ms += 2000;
	house_tick(h);
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_call(h, run, 4, "mail.send", "{\"markdown\":\"B\",\"subject\":\"s\",\"to\":\"c@example.org\"}",
		"{\"approval\":1}");
	expect_problem(h, "approval_spent");
	house_do(h, (struct core_cmd){
			    .type = CORE_CMD_FLOW_DONE, .run = run, .step = 5, .body = BASE_STR("null")});
	house_result(h, run, 2, 1, DONE, "1");
	house_result(h, run, 3, 1, DONE, "1");
}

static void test_customer_policy(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_do(h, (struct core_cmd){.type = CORE_CMD_FACT_PUT,
			    .name = BASE_STR("readers/r1"),
			    .base = -1,
			    .body = BASE_STR("{\"unsubscribed\":false}")});
	house_call(h, run, 0, "gate.ask",
		"{\"allows\":{\"action\":\"mail.send\",\"count\":9,\"fixed\":[]},\"show\":1,\"title\":\"t\"}",
		"");
	house_gate(h, 1, "approve", "");
	house_call(h, run, 1, "mail.send", "{\"markdown\":\"B\",\"subject\":\"s\",\"to\":\"a@example.org\"}",
		"{\"approval\":1,\"customer\":\"r1\"}");
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_call(h, run, 2, "mail.send", "{\"markdown\":\"B\",\"subject\":\"s\",\"to\":\"a@example.org\"}",
		"{\"approval\":1,\"customer\":\"r1\"}");
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0)); /* held by the rate, then the reader leaves */
	house_do(h, (struct core_cmd){.type = CORE_CMD_FACT_PUT,
			    .name = BASE_STR("readers/r1"),
			    .base = 1,
			    .body = BASE_STR("{\"unsubscribed\":true}")});
	assert_int_equal(h->reply.status, 200);
	h->now_ms += 5000;
	house_tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	expect_problem(h, "denied");
}

static void test_memory(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	const struct house_act *a;

	house_call(h, run, 0, "memory.put", "{\"key\":\"k/1\",\"value\":{\"a\":1}}", "");
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"version\":1}");
	house_call(h, run, 1, "memory.put", "{\"base\":0,\"key\":\"k/1\",\"value\":2}", "");
	expect_problem(h, "conflict");
	house_call(h, run, 2, "memory.put", "{\"key\":\"k/2\",\"value\":\"two\"}", "");
	house_call(h, run, 3, "memory.list", "{\"prefix\":\"k/\"}", "");
	a = house_act(h, CORE_ACT_RESULT, 0);
	assert_true(strstr(a->text, "{\"a\":1}") && strstr(a->text, "\"two\""));
	house_call(h, run, 4, "memory.forget", "{\"key\":\"k/1\"}", "");
	house_call(h, run, 5, "memory.get", "{\"key\":\"k/1\"}", "");
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "null");
	house_call(h, run, 6, "memory.get", "{\"key\":\"k/2\"}", "");
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "\"version\":1"));
}

static void test_waits(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "timer.sleep", "{\"ms\":60000}", "");
	house_call(h, run, 1, "signal.wait", "{\"name\":\"go\",\"timeout_ms\":1000}", "");
	house_call(h, run, 2, "signal.wait", "{\"name\":\"stay\"}", "");
	house_tick(h);
	assert_null(house_act(h, CORE_ACT_RESULT, 0));
	h->now_ms += 1000;
	house_tick(h);
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"timeout\":true}");
	house_do(h, (struct core_cmd){.type = CORE_CMD_SIGNAL,
			    .run = run,
			    .name = BASE_STR("stay"),
			    .body = BASE_STR("{\"x\":1}")});
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"payload\":{\"x\":1}}");
	house_do(h, (struct core_cmd){.type = CORE_CMD_SIGNAL,
			    .run = run,
			    .name = BASE_STR("early"),
			    .body = BASE_STR("2")});
	house_check(h);
	house_call(h, run, 3, "signal.wait", "{\"name\":\"early\"}", "");
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"payload\":2}");
	h->now_ms += 59000;
	house_tick(h);
	assert_int_equal(house_act(h, CORE_ACT_RESULT, 0)->step, 0);
}

static void test_children_and_cancel(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), child;

	house_call(h, run, 0, "run.call", "{\"flow\":\"f\",\"input\":{\"n\":3}}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	assert_true(child > run);
	house_do(h, (struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = child, .body = BASE_STR("\"c\"")});
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "\"c\"");
	house_call(h, run, 1, "agent.run", "{\"agent\":\"a\",\"task\":\"t\"}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	/* The agent's tools and its starter's grants: http.get is the agent's alone. */
	house_call(h, child, 0, "http.get", "{\"url\":\"http://a/\"}", "");
	expect_problem(h, "denied");
	house_call(h, child, 1, "test.echo", "{}", "");
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = run});
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 0)->run, child);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 1)->run, run);
	house_result(h, child, 1, 1, DONE, "1"); /* what was out comes home and is recorded */
	assert_int_equal(h->reply.status, 200);
}

static void test_divergence(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate;

	house_call(h, run, 0, "test.echo", "{\"a\":1}", "");
	house_call(h, run, 0, "test.echo", "{\"a\":1}", ""); /* replay: the same again is no event */
	assert_int_equal(h->act_count, 0);
	house_call(h, run, 0, "test.echo", "{\"a\":2}", "");
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	assert_non_null(house_act(h, CORE_ACT_RUN_DROP, 0));
	house_gate(h, gate, "approve", "");
	assert_int_equal(house_act(h, CORE_ACT_RUN_LOAD, 0)->run, run);
}

static void test_money(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate;
	const char *args = "{\"max_tokens\":10,\"messages\":[{\"content\":\"hello\",\"role\":\"user\"}],"
			   "\"tier\":\"draft\"}";
	struct core_run_info info;

	house_call(h, run, 0, "model.generate", args, "");
	assert_true(core_run_get(h->core, run, &info) && info.reserved > 0);
	house_do(h, (struct core_cmd){.type = CORE_CMD_EFFECT_RESULT,
			    .run = run,
			    .step = 0,
			    .attempt = 1,
			    .outcome = DONE,
			    .body = BASE_STR("{}"),
			    .params = BASE_STR("{\"cost_nusd\":999900000}")});
	assert_true(core_run_get(h->core, run, &info) && info.reserved == 0 && info.cost == 999900000);
	house_call(h, run, 1, "model.generate", args, "");
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0)); /* 1 USD a run */
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	house_gate(h, gate, "approve", "");
	house_tick(h);
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	/* No answer: charged what was reserved, and the next model of the tier is tried. */
	house_result(h, run, 1, 1, UNKNOWN, "{}");
	assert_true(core_run_get(h->core, run, &info) && info.reserved == 0 && info.cost > 999900000);
	h->now_ms += 10000;
	house_tick(h);
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->attempt, 2);
	assert_true(core_run_get(h->core, run, &info) && info.reserved == 0); /* local: free */
}

static void refused_deploy(struct house *h, const char *json, const char *why)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_DEPLOY, .body = base_str_of(json)});
	assert_int_equal(h->reply.status, 422);
	if (!strstr(h->reply_text, why))
		fail_msg("%s does not say %s", h->reply_text, why);
}

static void test_settings(void **state)
{
	struct house *h = *state;
	uint64_t before = core_seq(h->core);

	refused_deploy(h,
		"{\"policy\":{\"rules\":[{\"on\":\"mail.*\",\"then\":\"allow\",\"wen\":\"false\"}]}}", "wen");
	refused_deploy(h, "{\"policy\":{\"rules\":[{\"on\":\"mail.*\",\"then\":\"maybe\"}]}}", "policy.yaml");
	refused_deploy(h, "{\"policy\":{\"rules\":[{\"on\":\"a\",\"then\":\"deny\",\"when\":\"1 +\"}]}}",
		"/rules/0/when");
	refused_deploy(h, "{\"config\":{\"door\":7}}", "/door");
	refused_deploy(h, "{\"config\":{\"mail\":{\"transport\":\"pigeon\"}}}", "/mail/transport");
	refused_deploy(h, "{\"config\":{\"rates\":{\"mail\":\"fast\"}}}", "rates.mail");
	refused_deploy(h, "{\"config\":{\"budgets\":{\"month\":\"-1 USD\"}}}", "budgets.month");
	refused_deploy(h, "{\"config\":{\"colour\":\"red\"}}", "colour");
	assert_int_equal(core_seq(h->core), before);
	/* One line for a real model: provider and price are built in. */
	house_deploy(h, "{\"config\":{\"models\":{\"tiers\":{\"quality\":[\"anthropic/"
			"claude-sonnet-4-5\",\"local/extract\"]}}}}");
	assert_non_null(strstr(core_config(h->core).ptr, "api.anthropic.com"));
	assert_non_null(strstr(core_config(h->core).ptr, "\"output\":\"15 USD\""));
	assert_null(strstr(core_config(h->core).ptr, "gpt"));
}

static void test_refused_model_falls_back(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	const struct house_act *a;

	house_call(h, run, 0, "model.generate",
		"{\"max_tokens\":10,\"messages\":[{\"content\":\"hello\",\"role\":\"user\"}],\"tier\":"
		"\"draft\"}",
		"");
	house_result(h, run, 0, 1, FAILED, "{\"code\":\"unknown_secret\"}");
	house_tick(h);
	a = house_act(h, CORE_ACT_DISPATCH, 0);
	assert_true(a && a->attempt == 2);
	house_result(h, run, 0, 2, FAILED, "{\"code\":\"invalid\"}"); /* the last of its tier */
	expect_problem(h, "invalid");
}

static void test_dry(void **state)
{
	struct house *h = *state;
	uint64_t run;

	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_START,
			    .name = BASE_STR("f"),
			    .params = BASE_STR("{\"dry\":true}")});
	run = h->reply.id;
	house_call(h, run, 0, "mail.send", "{\"markdown\":\"x\",\"subject\":\"s\",\"to\":\"a@example.org\"}",
		"");
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "would_send"));
	house_call(h, run, 1, "model.generate",
		"{\"max_tokens\":10,\"messages\":[{\"content\":\"hello\",\"role\":\"user\"}],\"tier\":"
		"\"draft\"}",
		"");
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "would_send"));
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_call(h, run, 2, "test.echo", "{}", ""); /* a read that costs nothing is asked */
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
}

static void test_signal_key(void **state)
{
	struct house *h = *state;
	struct core_cmd cmd = {.type = CORE_CMD_SIGNAL,
		.run = house_start(h, "f", "{}"),
		.name = BASE_STR("go"),
		.key = BASE_STR("k"),
		.body = BASE_STR("1")};
	uint64_t before;

	house_do(h, cmd);
	assert_int_equal(h->reply.status, 202);
	before = core_seq(h->core);
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 200);
	cmd.body = BASE_STR("2");
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 409);
	assert_int_equal(core_seq(h->core), before);
}

static void test_freeze(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_do(h, (struct core_cmd){.type = CORE_CMD_FREEZE, .text = BASE_STR("look")});
	house_call(h, run, 0, "test.echo", "{}", "");
	h->now_ms += 1000;
	house_tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_call(h, run, 1, "memory.put", "{\"key\":\"k\",\"value\":1}", ""); /* stays in the house */
	assert_non_null(house_act(h, CORE_ACT_RESULT, 0));
	house_do(h, (struct core_cmd){.type = CORE_CMD_THAW});
	house_tick(h);
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
}

static void test_keys(void **state)
{
	struct house *h = *state;
	struct core_caller by = {.id = BASE_STR("key/ci")};
	char pub[32] = "0123456789abcdef0123456789abcdef";
	struct base_str key = {pub, 32};

	assert_false(core_may(h->core, &by, BASE_STR("run.start"), h->now_ms));
	house_do(h, (struct core_cmd){.type = CORE_CMD_KEY_ADD,
			    .name = BASE_STR("ci"),
			    .bytes = key,
			    .body = BASE_STR("{\"grants\":[\"run.*\"]}")});
	assert_int_equal(h->reply.status, 201);
	assert_true(base_str_is(core_principal_by_key(h->core, key, h->now_ms, NULL), "key/ci"));
	assert_true(core_may(h->core, &by, BASE_STR("run.start"), h->now_ms));
	assert_false(core_may(h->core, &by, BASE_STR("gate.approve"), h->now_ms));
	by.caveats = BASE_STR("[{\"grants\":[\"run.get\"]}]");
	assert_false(core_may(h->core, &by, BASE_STR("run.start"), h->now_ms));
	house_do(h, (struct core_cmd){.type = CORE_CMD_KEY_REVOKE, .name = BASE_STR("ci")});
	assert_int_equal(core_principal_by_key(h->core, key, h->now_ms, NULL).len, 0);
}

static void test_experiment(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	char opts[64];

	for (uint32_t i = 0; i < 4; i++) {
		snprintf(opts, sizeof(opts), "{\"customer\":\"r%u\"}", i);
		house_call(h, run, i, "experiment.choose",
			"{\"arms\":[\"x\",\"y\"],\"mode\":\"even\",\"name\":\"s\"}", opts);
	}
	house_do(h, (struct core_cmd){.type = CORE_CMD_OUTCOME,
			    .body = BASE_STR(
				    "{\"name\":\"open\",\"run\":1,\"customer\":\"r1\",\"key\":\"o1\"}")});
	assert_int_equal(h->reply.status, 201);
	house_do(h, (struct core_cmd){.type = CORE_CMD_OUTCOME,
			    .body = BASE_STR(
				    "{\"name\":\"open\",\"run\":1,\"customer\":\"r1\",\"key\":\"o1\"}")});
	assert_int_equal(h->reply.status, 200); /* counts once */
	house_call(h, run, 4, "experiment.counts", "{\"name\":\"s\"}", "");
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text,
		"{\"arms\":[{\"n\":2,\"value\":0,\"wins\":0},{\"n\":2,\"value\":1000,\"wins\":1}]}");
	house_call(h, run, 5, "experiment.choose",
		"{\"arms\":[\"x\",\"y\"],\"mode\":\"best\",\"name\":\"s\"}", "");
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "\"value\":\"y\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_start, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_echo_and_end, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_refused_calls, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_classes_without_answer, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(
			fault_41_retry_after_provider_forgot_key, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_restart, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_retries_end_at_a_gate, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_policy_gate, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_approval_for_calls_to_come, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_customer_policy, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_memory, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_waits, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_children_and_cancel, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_divergence, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_money, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_settings, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_refused_model_falls_back, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_dry, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_signal_key, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_freeze, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_keys, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_experiment, set_up, house_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
