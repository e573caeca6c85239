/* Generations: a run ends and goes on as the next, under its key, for whoever waits, with its signals and its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/undo_int.h"
#include "house.h"

enum { DONE = 1 };

static const char deployment[] =
	"{\"flows\":[{\"name\":\"f\",\"version\":"
	"\"00000000000000000000000000000000000000000000000000000000000000aa\",\"modules\":{\"entry\":\"f\"},"
	"\"spec\":{\"input\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},"
	"\"additionalProperties\":false},\"concurrency\":{\"key\":\"string(input.n % 2)\",\"limit\":1},"
	"\"timeout\":\"1h\"},"
	"\"grants\":[\"test.*\",\"run.*\"]}],"
	"\"policy\":{\"rules\":[{\"on\":\"test.*\",\"then\":\"allow\"}]}}";

static int set_up(void **state)
{
	return house_set_up(state, deployment);
}

static struct core_run_info info_of(const struct house *h, uint64_t run)
{
	struct core_run_info info = {0};

	(void)core_run_get(h->core, run, &info);
	return info;
}

static uint64_t start(struct house *h, const char *key, const char *input, int status)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_START,
			    .name = BASE_STR("f"),
			    .key = base_str_of(key),
			    .body = base_str_of(input)});
	assert_int_equal(h->reply.status, status);
	return h->reply.id;
}

static void again(struct house *h, uint64_t run, uint32_t step, const char *args)
{
	house_call(h, run, step, "run.again", args, "");
	house_check(h);
}

/* The key stands for the newest generation; the one before is gone from the state; its lane is not free meanwhile. */
static void test_key_lane_signals(void **state)
{
	struct house *h = *state;
	uint64_t run = start(h, "k", "{\"n\":1}", 201), queued = start(h, "", "{\"n\":3}", 201),
		 next = queued + 1;
	const struct house_act *a;

	assert_int_equal(info_of(h, queued).state, CORE_RUN_QUEUED);
	house_do(h,
		(struct core_cmd){
			.type = CORE_CMD_SIGNAL, .run = run, .name = BASE_STR("s"), .body = BASE_STR("7")});
	again(h, run, 0, "{\"state\":{\"n\":\"x\"}}"); /* not an input of this flow */
	assert_false(house_act(h, CORE_ACT_RESULT, 0)->ok);
	h->now_ms += 3000000;
	again(h, run, 1, "{\"state\":{\"n\":2}}");
	a = house_act(h, CORE_ACT_RUN_ENDED, 0);
	assert_true(a && a->run == run && a->id == next && a->outcome == CORE_DONE);
	assert_int_equal(house_act(h, CORE_ACT_RUN_LOAD, 0)->run, next);
	assert_int_equal(info_of(h, run).run, 0);
	assert_int_equal(info_of(h, next).state, CORE_RUN_ACTIVE);
	assert_int_equal(start(h, "k", "{\"n\":1}", 200), next);
	(void)start(h, "k", "{\"n\":2}", 409);
	house_tick(h);
	assert_int_equal(info_of(h, queued).state, CORE_RUN_QUEUED); /* the place is taken still */
	house_call(h, next, 0, "signal.wait", "{\"name\":\"s\"}", "");
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"payload\":7}");
	h->now_ms += 3000000; /* its time limit began anew */
	house_tick(h);
	assert_int_equal(info_of(h, next).state, CORE_RUN_ACTIVE);
	again(h, next, 1, "{\"state\":{\"n\":4}}");
	assert_int_equal(start(h, "k", "{\"n\":1}", 200), next + 1);
	house_do(h, (struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = next + 1, .body = BASE_STR("1")});
	house_tick(h);
	assert_int_equal(
		info_of(h, start(h, "", "{\"n\":5}", 201)).state, CORE_RUN_ACTIVE); /* now it is free */
	assert_int_equal(start(h, "k", "{\"n\":1}", 200), next + 1);
}

/* Whoever waits for the run waits for its next generation; what the first did can be undone by the one that waits. */
static void test_parent_waits(void **state)
{
	struct house *h = *state;
	uint64_t parent = start(h, "", "{\"n\":1}", 201), run = parent + 1, next = run + 1;
	const struct house_act *a;

	house_call(h, parent, 0, "run.call", "{\"flow\":\"f\",\"input\":{\"n\":2}}", "");
	house_call(h, run, 0, "test.once", "{\"value\":1}",
		"{\"undo\":{\"action\":\"test.once\",\"args\":{\"value\":2}}}");
	house_result(h, run, 0, 1, DONE, "{}");
	house_call(h, run, 1, "run.checkpoint", "{\"name\":\"a\"}", "");
	again(h, run, 2, "{\"state\":{\"n\":2}}");
	a = house_act(h, CORE_ACT_RESULT, 0);
	assert_true(a && a->run == run && !house_act(h, CORE_ACT_RESULT, 1)); /* the parent waits on */
	house_call(h, next, 0, "run.rollback", "{\"to\":\"a\"}", "");
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "unknown_checkpoint"));
	house_do(h,
		(struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = next, .step = 1, .body = BASE_STR("9")});
	a = house_act(h, CORE_ACT_RESULT, 0);
	assert_true(a && a->run == parent && a->ok);
	assert_string_equal(a->text, "9");
	house_call(h, parent, 1, "run.rollback", "{}", "");
	house_tick(h);
	assert_string_equal(house_act(h, CORE_ACT_DISPATCH, 0)->text, "{\"value\":2}");
}

/* A parent that ends takes the newest generation with it; an effect in flight holds only the old one. */
static void test_cancel_and_flight(void **state)
{
	struct house *h = *state;
	uint64_t parent = start(h, "", "{\"n\":1}", 201), run = parent + 1, next = run + 1;

	house_call(h, parent, 0, "run.call", "{\"flow\":\"f\",\"input\":{\"n\":2}}", "");
	house_call(h, run, 0, "test.once", "{\"value\":1}", "");
	again(h, run, 1, "{\"state\":{\"n\":2}}");
	assert_int_equal(info_of(h, run).state, CORE_RUN_ENDED);
	house_result(h, run, 0, 1, DONE, "{}");
	assert_int_equal(info_of(h, run).run, 0);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = parent});
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 0)->run, next);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 1)->run, parent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_key_lane_signals, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_parent_waits, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_cancel_and_flight, set_up, house_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
