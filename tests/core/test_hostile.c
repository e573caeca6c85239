/* Input that is built to break: deep and large JSON, keys with a NUL in them, too much at once. aiosd refuses it with what and
 * where, or does as it is told; it never ends. After each test the log is folded from zero and from a snapshot. */
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

static const char deployment[] =
	"{\"config\":{\"limits\":{\"active\":1000,\"queue\":1000}},\"policy\":{"
	"\"rules\":[{\"on\":\"*\",\"then\":\"allow\"}]},\"flows\":[" FLOW("f", "aa", "{}") "," FLOW(
		"hears", "ab", "{\"on\":[{\"event\":\"deep.*\"}]}") "," FLOW("lane", "ac",
		"{\"concurrency\":{\"key\":\"input.k\",\"limit\":1}}") "]}";

static int set_up(void **state)
{
	return house_set_up(state, deployment);
}

/* "[[[…]]]", so many deep. */
static char *nested(unsigned depth)
{
	char *text = calloc(1, 2 * (size_t)depth + 1);

	assert_non_null(text);
	memset(text, '[', depth);
	memset(text + depth, ']', depth);
	return text;
}

static void publish(struct house *h, const char *payload)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_PUBLISH,
			    .name = BASE_STR("deep.one"),
			    .body = base_str_of(payload)});
}

/* What stands in a member of an input, or of a result, is deeper there than it was. */
static void test_deep_payload(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	for (unsigned depth = 60; depth <= BASE_JSON_DEPTH_MAX + 1; depth++) {
		char *payload = nested(depth), args[400];

		publish(h, payload);
		assert_int_equal(h->reply.status, depth + 2 <= BASE_JSON_DEPTH_MAX ? 202 : 400);
		snprintf(args, sizeof(args), "{\"payload\":%s,\"topic\":\"deep.one\"}", payload);
		house_call(h, run, depth - 60, "event.publish", args, "");
		free(payload);
	}
}

/* A schedule's input that fits into no event. */
static void test_large_declared_input(void **state)
{
	struct house *h = *state;
	size_t size = 3 << 20;
	char *text = malloc(size + 1000), *at = text;

	assert_non_null(text);
	at += sprintf(at,
		"{\"flows\":[{\"name\":\"big\",\"version\":\"00000000000000000000000000000000"
		"000000000000000000000000000000ad\",\"modules\":{\"entry\":\"big\"},\"grants\":[],"
		"\"spec\":{\"input\":{\"type\":\"object\"},\"on\":[{\"every\":\"1h\",\"input\":{\"a\":\"");
	memset(at, 'a', size);
	at += size;
	sprintf(at, "\"}}]}}]}");
	house_do(h, (struct core_cmd){.type = CORE_CMD_DEPLOY, .body = base_str_of(text)});
	assert_int_equal(h->reply.status, 422);
	assert_non_null(strstr(h->reply_text, "flow big: on[0]: it is larger than 64 KiB"));
	free(text);
}

static enum core_run_state state_of(struct house *h, uint64_t run)
{
	struct core_run_info info;

	return core_run_get(h->core, run, &info) ? info.state : 0;
}

/* A NUL is a character of a key like any other. */
static void test_nul_in_keys(void **state)
{
	struct house *h = *state;
	uint64_t a = house_start(h, "lane", "{\"k\":\"a\\u00001\"}"),
		 b = house_start(h, "lane", "{\"k\":\"a\\u00002\"}"),
		 c = house_start(h, "lane", "{\"k\":\"\\u0000\"}"),
		 d = house_start(h, "lane", "{\"k\":\"\\u0000\"}");
	uint64_t run = house_start(h, "f", "{}"), first;

	assert_int_equal(state_of(h, a), CORE_RUN_ACTIVE);
	assert_int_equal(state_of(h, b), CORE_RUN_ACTIVE);
	assert_int_equal(state_of(h, c), CORE_RUN_ACTIVE);
	assert_int_equal(state_of(h, d), CORE_RUN_QUEUED);
	house_call(h, run, 0, "run.start", "{\"flow\":\"f\",\"input\":{},\"key\":\"a\\u00001\"}", "");
	first = h->core->next_run;
	house_call(h, run, 1, "run.start", "{\"flow\":\"f\",\"input\":{},\"key\":\"a\\u00002\"}", "");
	assert_int_equal(h->core->next_run, first + 1);
	house_call(h, run, 2, "test.once", "{\"value\":1}", "{\"key\":\"a\\u00001\"}");
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_call(h, run, 3, "test.once", "{\"value\":2}", "{\"key\":\"a\\u00002\"}");
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	for (uint32_t i = 0; i < 2; i++) {
		house_call(h, run, 4 + i, "event.publish",
			i ? "{\"key\":\"a\\u00001\",\"topic\":\"t\"}"
			  : "{\"key\":\"a\\u00002\",\"topic\":\"t\"}",
			"");
		assert_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "existing"));
	}
}

/* A key that begins like what aios puts before those of dry runs. */
static void test_key_like_that_of_a_dry_run(void **state)
{
	struct house *h = *state;
	struct core_cmd cmd = {.type = CORE_CMD_RUN_START,
		.name = BASE_STR("f"),
		.key = BASE_STR("x"),
		.params = BASE_STR("{\"dry\":true}")};

	house_do(h, cmd);
	assert_int_equal(h->reply.status, 201);
	cmd.key = BASE_STR("dry:x");
	cmd.params = BASE_STR_NONE;
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 201);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, house_tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_deep_payload),
		TEST(test_large_declared_input),
		TEST(test_nul_in_keys),
		TEST(test_key_like_that_of_a_dry_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
