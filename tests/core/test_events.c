/* Events between flows: who hears what, what is started, once, in bounded decisions; and signals, which have one run to go
 * to. After each test the log is folded from zero and from a snapshot. */
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

#define FLOW(name, byte, spec)                                                                               \
	"{\"name\":\"" name                                                                                  \
	"\",\"version\":\"00000000000000000000000000000000000000000000000000000000000000" byte               \
	"\",\"modules\":{\"entry\":\"" name "\"},\"spec\":" spec                                             \
	",\"grants\":[\"event.*\",\"test.*\",\"run.*\",\"memory.*\",\"http.*\"]}"

static const char deployment[] = "{\"config\":{\"limits\":{\"active\":1000,\"queue\":1000}},\"policy\":{"
				 "\"rules\":[{\"on\":\"*\",\"then\":\"allow\"}]},"
				 "\"flows\":[" FLOW("f", "aa", "{}") "]}";

static int set_up(void **state)
{
	return house_set_up(state, deployment);
}

static void publish(struct house *h, const char *topic, const char *payload, const char *key)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_PUBLISH,
			    .name = base_str_of(topic),
			    .body = base_str_of(payload),
			    .key = base_str_of(key)});
}

static uint64_t waiter(struct house *h, const char *args)
{
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "event.wait", args, "");
	return run;
}

static size_t results(const struct house *h)
{
	size_t n = 0;

	while (house_act(h, CORE_ACT_RESULT, n))
		n++;
	return n;
}

static size_t loads(const struct house *h)
{
	size_t n = 0;

	while (house_act(h, CORE_ACT_RUN_LOAD, n))
		n++;
	return n;
}

static void deploy(struct house *h, const char *flow)
{
	char body[4096];

	snprintf(body, sizeof(body), "{\"flows\":[%s]}", flow);
	house_deploy(h, body);
}

/* Every pattern that a topic is heard by, and none that it is not. */
static void test_patterns(void **state)
{
	static const struct {
		const char *pattern, *topic;
		bool hears;
	} table[] = {
		{"order.paid", "order.paid", true},
		{"order.*", "order.paid", true},
		{"order.*", "order.paid.late", true},
		{"order.paid.*", "order.paid.late", true},
		{"*", "order.paid", true},
		{"*", "order", true},
		{"order.paid", "order.paid.late", false},
		{"order.paid", "order.pai", false},
		{"order.*", "order", false},
		{"order.*", "orders.paid", false},
		{"order.paid.*", "order.paid", false},
		{"order", "order.paid", false},
	};
	struct house *h = *state;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char args[128];
		uint64_t run;

		snprintf(args, sizeof(args), "{\"topic\":\"%s\"}", table[i].pattern);
		run = waiter(h, args);
		assert_int_equal(results(h), 0);
		publish(h, table[i].topic, "{\"b\":1,\"a\":2}", "");
		assert_int_equal(h->reply.status, 202);
		if ((results(h) == 1) != table[i].hears)
			fail_msg("%s of %s", table[i].pattern, table[i].topic);
		if (table[i].hears)
			assert_non_null(strstr(
				house_act(h, CORE_ACT_RESULT, 0)->text, "\"payload\":{\"a\":2,\"b\":1}"));
		house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = run});
	}
	assert_int_equal(base_names_count(h->core->event_waits), 0);
}

static void test_faults(void **state)
{
	static const char *const bad[] = {"", "a..b", ".a", "a.", "a b", "a.*", "*", "\303\244"};
	struct house *h = *state;
	uint64_t seq = core_seq(h->core), run;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		publish(h, bad[i], "1", "");
		assert_int_equal(h->reply.status, 400);
	}
	publish(h, "a", "{", "");
	assert_int_equal(h->reply.status, 400);
	assert_int_equal(core_seq(h->core), seq);
	run = waiter(h, "{\"topic\":\"a*\"}");
	assert_false(house_act(h, CORE_ACT_RESULT, 0)->ok);
	house_call(h, run, 1, "event.publish", "{\"topic\":\"a..b\"}", "");
	assert_false(house_act(h, CORE_ACT_RESULT, 0)->ok);
	house_do(h, (struct core_cmd){.type = CORE_CMD_DEPLOY,
			    .body = BASE_STR(
				    "{\"flows\":[" FLOW("g", "bb", "{\"on\":[{\"event\":\"a*\"}]}") "]}")});
	assert_int_equal(h->reply.status, 422);
}

/* A wait hears what comes after it began, once; its time may run out first. */
static void test_wait(void **state)
{
	struct house *h = *state;
	uint64_t run;

	publish(h, "a", "1", "");
	run = waiter(h, "{\"timeout_ms\":1000,\"topic\":\"a\"}");
	assert_int_equal(results(h), 0);
	h->now_ms += 1000;
	house_tick(h);
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"timeout\":true}");
	publish(h, "a", "2", "");
	assert_int_equal(results(h), 0);
	house_call(h, run, 1, "event.wait", "{\"timeout_ms\":0,\"topic\":\"a\"}", "");
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"timeout\":true}");
	house_call(h, run, 2, "event.wait", "{\"topic\":\"*\"}", "");
	house_call(h, run, 3, "event.wait", "{\"topic\":\"a\"}", "");
	house_call(h, run, 4, "event.publish", "{\"topic\":\"a\"}", "");
	assert_int_equal(results(h), 3); /* both waits, and the publisher's own step */
	publish(h, "a", "3", "");
	assert_int_equal(results(h), 0);
}

/* Declared to be started by it: once, with what was declared and the event, for whoever deployed the flow. */
static void test_starts(void **state)
{
	struct house *h = *state;
	const struct core_run *r;

	deploy(h, FLOW("g", "bb",
			  "{\"on\":[{\"cron\":\"0 7 * * "
			  "*\"},{\"event\":\"order.*\",\"input\":{\"z\":1}},{\"event\":\"*\"}]}"));
	publish(h, "order.paid", "{\"n\":5}", "");
	assert_int_equal(h->reply.status, 202);
	assert_int_equal(loads(h), 1);
	r = core_run_find(h->core, house_act(h, CORE_ACT_RUN_LOAD, 0)->run);
	assert_true(base_str_is(r->flow->name, "g"));
	assert_true(base_str_is(core_word_text(r->by), "operator"));
	assert_int_equal(core_run_extra(r)->event_depth, 1);
	publish(h, "other", "", "");
	assert_int_equal(loads(h), 1); /* by its other entry */
	deploy(h, FLOW("g", "cc", "{\"on\":[]}"));
	publish(h, "order.paid", "1", "");
	assert_int_equal(loads(h), 0);
}

static void test_keys(void **state)
{
	struct house *h = *state;
	uint64_t seq, run = house_start(h, "f", "{}");

	deploy(h, FLOW("g", "bb", "{\"on\":[{\"event\":\"a\"}]}"));
	publish(h, "a", "1", "k");
	assert_int_equal(loads(h), 1);
	seq = core_seq(h->core);
	publish(h, "a", "1", "k");
	assert_int_equal(h->reply.status, 200);
	assert_string_equal(h->reply_text, "{\"existing\":true}");
	publish(h, "a", "2", "k");
	assert_int_equal(h->reply.status, 409);
	assert_int_equal(core_seq(h->core), seq);
	house_call(h, run, 0, "event.publish", "{\"key\":\"k\",\"payload\":1,\"topic\":\"a\"}", "");
	assert_int_equal(loads(h), 1); /* another caller's key */
	house_call(h, run, 1, "event.publish", "{\"key\":\"k\",\"payload\":1,\"topic\":\"a\"}", "");
	assert_int_equal(loads(h), 0);
	house_call(h, run, 2, "event.publish", "{\"key\":\"k\",\"payload\":2,\"topic\":\"a\"}", "");
	assert_false(house_act(h, CORE_ACT_RESULT, 0)->ok);
}

/* Paused, and gone with its flow's file, a trigger starts nothing. */
static void test_pause_and_removal(void **state)
{
	static const char others[] = "{\"flows\":[" FLOW("f", "aa", "{}") "]}";
	struct house *h = *state;

	deploy(h, FLOW("g", "bb", "{\"on\":[{\"event\":\"a\"}]}"));
	house_do(h, (struct core_cmd){.type = CORE_CMD_SCHEDULE_PAUSE, .name = BASE_STR("g/0"), .base = 1});
	publish(h, "a", "1", "");
	assert_int_equal(loads(h), 0);
	house_do(h, (struct core_cmd){.type = CORE_CMD_SCHEDULE_PAUSE, .name = BASE_STR("g/0")});
	publish(h, "a", "1", "");
	assert_int_equal(loads(h), 1);
	house_deploy(h, others); /* a part: says nothing of g */
	publish(h, "a", "1", "");
	assert_int_equal(loads(h), 1);
	house_do(h, (struct core_cmd){.type = CORE_CMD_DEPLOY,
			    .body = base_str_of(others),
			    .params = BASE_STR("{\"check\":true,\"whole\":true}")});
	assert_non_null(strstr(h->reply_text, "{\"what\":\"schedule removed\",\"name\":\"g/0\"}"));
	publish(h, "a", "1", "");
	assert_int_equal(loads(h), 1);
	house_do(h, (struct core_cmd){.type = CORE_CMD_DEPLOY,
			    .body = base_str_of(others),
			    .params = BASE_STR("{\"whole\":true}")});
	publish(h, "a", "1", "");
	assert_int_equal(loads(h), 0);
	assert_int_equal(house_start(h, "g", "{}") > 0, 1);
}

/* What the publisher has read goes along to who hears it. */
static void test_labels(void **state)
{
	struct house *h = *state;
	uint64_t heard = waiter(h, "{\"topic\":\"a\"}"), run = house_start(h, "f", "{}"), started;

	deploy(h, FLOW("g", "bb", "{\"on\":[{\"event\":\"a\"}]}"));
	house_call(h, run, 0, "http.get", "{\"url\":\"https://example.org/\"}", "");
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_result(h, run, 0, 1, CORE_WIRE_DONE, "{\"status\":200}");
	assert_int_equal(core_run_find(h->core, run)->labels, CORE_LABEL_UNTRUSTED);
	assert_int_equal(core_run_find(h->core, heard)->labels, 0);
	house_call(h, run, 1, "event.publish", "{\"topic\":\"a\"}", "");
	assert_int_equal(core_run_find(h->core, heard)->labels, CORE_LABEL_UNTRUSTED);
	started = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	assert_int_equal(core_run_find(h->core, started)->labels, CORE_LABEL_UNTRUSTED);
}

/* Flows that start one another stop, and say why. */
static void test_depth(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), next;
	unsigned depth = 0;

	deploy(h, FLOW("g", "bb", "{\"on\":[{\"event\":\"a\"}]}"));
	while (depth < 100) {
		house_call(h, run, 0, "event.publish", "{\"topic\":\"a\"}", "");
		if (!house_act(h, CORE_ACT_RUN_LOAD, 0))
			break;
		next = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
		house_call(
			h, next, 0, "run.start", "{\"flow\":\"f\",\"input\":{}}", ""); /* does not hide it */
		run = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
		depth++;
	}
	assert_int_equal(depth, 32);
	assert_false(house_act(h, CORE_ACT_RESULT, 0)->ok);
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "too_deep"));
}

/* More than one decision wakes: the rest in the ticks after, and nobody who came later. */
static void test_many(void **state)
{
	struct house *h = *state;
	uint64_t gone = 0, late;
	size_t woken;

	for (int i = 0; i < 250; i++)
		gone = waiter(h, i % 2 ? "{\"topic\":\"a.*\"}" : "{\"topic\":\"a.b\"}");
	publish(h, "a.b", "1", "");
	woken = results(h);
	assert_int_equal(woken, 100);
	assert_true(core_next_due(h->core) <= h->now_ms);
	late = waiter(h, "{\"topic\":\"a.b\"}");
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = gone});
	house_check(h);
	house_do(h, (struct core_cmd){.type = CORE_CMD_TICK});
	assert_int_equal(results(h), 100);
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "\"payload\":1,\"topic\":\"a.b\""));
	publish(h, "a.b", "2", ""); /* the next one overtakes nobody twice */
	woken = 200 + results(h);
	house_tick(h);
	woken += results(h);
	assert_int_equal(woken, 250);
	assert_int_equal(base_names_count(h->core->event_waits), 0);
	assert_int_equal(base_idmap_count(h->core->deliveries), 0);
	assert_int_equal(core_step_open(&core_run_find(h->core, late)->step[0]) != NULL, 0);
}

/* A flow that has no room: nothing is published. One whose input does not fit is named. */
static void test_room(void **state)
{
	struct house *h = *state;
	uint64_t seq;

	deploy(h,
		FLOW("g", "bb",
			"{\"on\":[{\"event\":\"a\"}],\"input\":{\"type\":\"object\",\"required\":[\"x\"]}}"));
	publish(h, "a", "1", "");
	assert_int_equal(h->reply.status, 202);
	assert_non_null(
		strstr(h->reply_text, "\"refused\":[{\"flow\":\"g\",\"problem\":{\"code\":\"invalid\""));
	house_deploy(h, "{\"config\":{\"limits\":{\"active\":1,\"queue\":1}}}");
	deploy(h, FLOW("g", "cc", "{\"on\":[{\"event\":\"a\"}]}"));
	publish(h, "a", "1", "");
	publish(h, "a", "1", "");
	assert_int_equal(h->reply.status, 202);
	seq = core_seq(h->core);
	publish(h, "a", "1", "");
	assert_int_equal(h->reply.status, 429);
	assert_int_equal(core_seq(h->core), seq);
}

/* One event starts two flows, and there is room for one of them to wait: neither starts. */
static void test_room_for_all(void **state)
{
	struct house *h = *state;
	uint64_t seq;

	deploy(h, FLOW("g", "bb", "{\"on\":[{\"event\":\"a\"},{\"event\":\"b\"}]}"));
	deploy(h, FLOW("k", "cc", "{\"on\":[{\"event\":\"a\"}]}"));
	house_deploy(h, "{\"config\":{\"limits\":{\"active\":1,\"queue\":2}}}");
	publish(h, "b", "1", "");
	publish(h, "b", "1", "");
	assert_int_equal(h->reply.status, 202);
	seq = core_seq(h->core);
	publish(h, "a", "1", "");
	assert_int_equal(h->reply.status, 429);
	assert_int_equal(core_seq(h->core), seq);
	publish(h, "b", "1", "");
	assert_int_equal(h->reply.status, 202);
}

/* "Signals with payload, buffered if they come before the wait; wait with timeout branch." */
static void test_signals_with_payload_buffered_before_the_wait_and_timeout(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_do(h, (struct core_cmd){.type = CORE_CMD_SIGNAL,
			    .run = run,
			    .name = BASE_STR("go"),
			    .body = BASE_STR("{\"n\":1}")});
	house_do(h, (struct core_cmd){.type = CORE_CMD_SIGNAL,
			    .run = run,
			    .name = BASE_STR("go"),
			    .body = BASE_STR("{\"n\":2}")});
	house_call(h, run, 0, "signal.wait", "{\"name\":\"go\"}", "");
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"payload\":{\"n\":1}}");
	house_call(h, run, 1, "signal.wait", "{\"name\":\"go\",\"timeout_ms\":0}", "");
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"payload\":{\"n\":2}}");
	house_call(h, run, 2, "signal.wait", "{\"name\":\"go\",\"timeout_ms\":500}", "");
	assert_null(house_act(h, CORE_ACT_RESULT, 0));
	h->now_ms += 499;
	house_tick(h);
	assert_null(house_act(h, CORE_ACT_RESULT, 0));
	h->now_ms++;
	house_tick(h);
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"timeout\":true}");
	house_call(h, run, 3, "signal.wait", "{\"name\":\"go\"}", "");
	house_do(h, (struct core_cmd){.type = CORE_CMD_SIGNAL, .run = run, .name = BASE_STR("go")});
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"payload\":null}");
}

/* A key that was used for another payload is refused, also where only the hashes of both stand in the log. */
static void test_key_of_a_large_signal(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	static char body[100003];

	for (int i = 0; i < 3; i++) {
		memset(body, i < 2 ? 'a' : 'b', sizeof(body) - 1);
		body[0] = body[sizeof(body) - 2] = '"';
		house_do(h, (struct core_cmd){.type = CORE_CMD_SIGNAL,
				    .run = run,
				    .name = BASE_STR("go"),
				    .key = BASE_STR("k"),
				    .body = base_str_of(body)});
		assert_int_equal(h->reply.status, i == 0 ? 202 : i == 1 ? 200 : 409);
	}
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, house_tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_patterns),
		TEST(test_faults),
		TEST(test_wait),
		TEST(test_starts),
		TEST(test_keys),
		TEST(test_pause_and_removal),
		TEST(test_labels),
		TEST(test_depth),
		TEST(test_many),
		TEST(test_room),
		TEST(test_key_of_a_large_signal),
		TEST(test_room_for_all),
		TEST(test_signals_with_payload_buffered_before_the_wait_and_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
