/* Open runs and versions: moves, parks, and runs that crash their worker. After each test the log is folded from zero
 * and from a snapshot, and both must equal the live state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/core_int.h"
#include "house.h"

#define FLOW(name, version)                                                                                  \
	"{\"flows\":[{\"name\":\"" name                                                                      \
	"\",\"version\":\"00000000000000000000000000000000000000000000000000000000000000" version            \
	"\",\"modules\":{\"entry\":\"f\"},\"spec\":{},\"grants\":[\"test.*\",\"timer.*\"]}],"                \
	"\"policy\":{\"rules\":[{\"on\":\"test.*\",\"then\":\"allow\"}]}}"

static int set_up(void **state)
{
	return house_set_up(state, FLOW("f", "aa"));
}

static struct base_hash version(uint8_t last)
{
	struct base_hash h = {{0}};

	h.b[31] = last;
	return h;
}

static struct core_run_info info_of(struct house *h, uint64_t run)
{
	struct core_run_info info;

	assert_true(core_run_get(h->core, run, &info));
	return info;
}

static void move(struct house *h, uint64_t run, uint8_t to, uint64_t at)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_MOVE,
			    .run = run,
			    .hash = version(to),
			    .base = (int64_t)at,
			    .by = {.id = BASE_STR("operator")}});
}

static void test_move(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), at;

	house_call(h, run, 0, "test.echo", "{}", "");
	at = core_run_position(h->core, run);
	assert_int_equal(at, 1);
	move(h, run, 0xbb, at);
	assert_int_equal(h->reply.status, 422); /* not deployed */
	house_deploy(h, FLOW("f", "bb"));
	house_deploy(h, FLOW("g", "cc"));
	move(h, run, 0xcc, at);
	assert_int_equal(h->reply.status, 422); /* another flow's */
	house_result(h, run, 0, 1, 1, "{}");
	assert_int_equal(core_run_position(h->core, run), 2);
	move(h, run, 0xbb, at);
	assert_int_equal(h->reply.status, 409); /* it went on since it was rehearsed */
	move(h, run, 0xbb, 2);
	assert_int_equal(h->reply.status, 200);
	assert_int_equal(info_of(h, run).version.b[31], 0xbb);
	assert_int_equal(house_act(h, CORE_ACT_RUN_LOAD, 0)->run, run);
	move(h, run, 0xbb, 2); /* already there */
	assert_int_equal(h->reply.status, 200);
	assert_int_equal(h->act_count, 0);
	move(h, run + 1, 0xbb, 0);
	assert_int_equal(h->reply.status, 404);
	house_do(h,
		(struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = run, .step = 1, .body = BASE_STR("1")});
	move(h, run, 0xaa, 2);
	assert_int_equal(h->reply.status, 409);
}

static void test_park(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	struct core_cmd park = {.type = CORE_CMD_RUN_PARK,
		.run = run,
		.name = BASE_STR("rehearsed"),
		.body = BASE_STR("{\"b\":1,\"a\":2}"),
		.by = {.id = BASE_STR("operator")}};

	house_do(h, park);
	assert_int_equal(h->reply.status, 200);
	assert_int_equal(info_of(h, run).state, CORE_RUN_PARKED);
	assert_non_null(house_act(h, CORE_ACT_GATE, 0));
	house_do(h, park);
	assert_int_equal(h->reply.status, 409);
	house_deploy(h, FLOW("f", "bb"));
	move(h, run, 0xbb, 0); /* moving it lets it go on; its gate is gone */
	assert_int_equal(info_of(h, run).state, CORE_RUN_ACTIVE);
	assert_int_equal(core_gate_seq(h->core, 1), 0);
}

static void crash(struct house *h, uint64_t run, int64_t enough)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_FLOW_CRASHED,
			    .run = run,
			    .base = enough,
			    .body = BASE_STR("{\"code\":\"crashed\",\"signal\":11}")});
}

static void test_quarantine(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), other = house_start(h, "f", "{}");

	for (int i = 0; i < 2; i++) { /* tried again */
		crash(h, run, 0);
		assert_int_equal(info_of(h, run).state, CORE_RUN_ACTIVE);
		assert_int_equal(house_act(h, CORE_ACT_RUN_LOAD, 0)->run, run);
		assert_null(house_act(h, CORE_ACT_GATE, 0));
	}
	house_call(h, run, 0, "test.echo", "{}", ""); /* it went on: those do not count */
	for (int i = 0; i < 2; i++)
		crash(h, run, 0);
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test")}); /* restarted */
	crash(h, run, 0);
	assert_int_equal(info_of(h, run).state, CORE_RUN_PARKED);
	assert_non_null(house_act(h, CORE_ACT_GATE, 0));
	assert_null(house_act(h, CORE_ACT_RUN_ENDED, 0));
	assert_int_equal(info_of(h, other).state, CORE_RUN_ACTIVE);
	crash(h, run, 0);
	assert_int_equal(h->reply.status, 409);
	house_check(h);
	/* A person gives it a new chance. */
	house_do(h, (struct core_cmd){
			    .type = CORE_CMD_RUN_RESUME, .run = run, .by = {.id = BASE_STR("operator")}});
	crash(h, run, 0);
	assert_int_equal(info_of(h, run).state, CORE_RUN_ACTIVE);
	crash(h, run, 1); /* seen often enough elsewhere */
	assert_int_equal(info_of(h, run).state, CORE_RUN_PARKED);
}

/* A crash at each step is poison too, though it gets on. */
static void test_crashes_in_all(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	uint32_t step = 0;

	while (step < 50 && info_of(h, run).state == CORE_RUN_ACTIVE) {
		crash(h, run, 0);
		house_call(h, run, step++, "test.echo", "{}", "");
	}
	assert_int_equal(info_of(h, run).state, CORE_RUN_PARKED);
	assert_int_equal(step, 10);
	house_do(h, (struct core_cmd){
			    .type = CORE_CMD_RUN_CANCEL, .run = run, .by = {.id = BASE_STR("operator")}});
	assert_int_equal(h->reply.status, 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_move, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_park, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_quarantine, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_crashes_in_all, set_up, house_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
