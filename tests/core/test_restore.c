/* A log that was restored from a backup: nothing that may have happened in the lost time happens again on trust. After
 * each test the log is folded from zero and from a snapshot, and both must equal the live state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/core_int.h"
#include "house.h"

#define DEPLOYMENT                                                                                           \
	"{\"flows\":[{\"name\":\"f\","                                                                       \
	"\"version\":\"00000000000000000000000000000000000000000000000000000000000000aa\","                  \
	"\"modules\":{\"entry\":\"f\"},\"spec\":{},"                                                         \
	"\"grants\":[\"test.*\",\"timer.*\",\"gate.*\",\"run.*\",\"signal.*\"]}],"                           \
	"\"policy\":{\"rules\":[{\"on\":\"test.*\",\"then\":\"allow\"}]}}"

enum { HOUR = 3600000 };

static int set_up(void **state)
{
	return house_set_up(state, DEPLOYMENT);
}

static void restore(struct house *h, int64_t later_ms)
{
	h->now_ms += later_ms;
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test"), .base = 1});
}

static unsigned state_of(struct house *h, uint64_t run)
{
	struct core_run_info info;

	return core_run_get(h->core, run, &info) ? info.state : 0;
}

static void resume(struct house *h, uint64_t run)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_RESUME, .run = run});
	assert_int_equal(h->reply.status, 200);
}

static uint64_t held(struct house *h)
{
	return core_restored_held(h->core, NULL, 0);
}

static size_t count(struct house *h, enum core_act_type type)
{
	size_t n = 0;

	while (house_act(h, type, n))
		n++;
	return n;
}

/* Sent when the backup was made: each by its class, after a person let the run go on. */
static void test_sent_by_class(void **state)
{
	static const char *const actions[] = {"test.echo", "test.idempotent", "test.lookup", "test.once"};
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	char key[128];

	house_call(h, run, 0, "test.read", "{\"value\":\"x\"}", "");
	for (uint32_t i = 1; i < 4; i++)
		house_call(h, run, i, actions[i], "{\"value\":\"x\"}", "");
	house_call(h, run, 4, "test.idempotent", "{\"value\":\"y\"}", "");
	snprintf(key, sizeof(key), "%s", house_act(h, CORE_ACT_DISPATCH, 0)->key);
	restore(h, HOUR);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
	assert_int_equal(state_of(h, run), CORE_RUN_PARKED);
	assert_int_equal(held(h), 1);
	assert_int_equal(count(h, CORE_ACT_GATE), 1); /* one for the run */
	h->now_ms += 24 * HOUR;
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
	resume(h, run);
	assert_int_equal(held(h), 0);
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_GATE), 1); /* once: a person says */
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 4);
	for (size_t i = 0; i < 4; i++) {
		const struct house_act *a = house_act(h, CORE_ACT_DISPATCH, i);

		assert_int_equal(a->mode, a->step == 2); /* lookup asks first */
		assert_int_not_equal(a->step, 3);
		if (a->step == 4)
			assert_string_equal(a->key, key); /* the very key that it had */
	}
}

/* What the flow asks for after the backup was asked for in the lost time too. */
static void test_calls_of_the_lost_time(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate;

	house_call(h, run, 0, "test.idempotent", "{\"value\":\"x\"}", "");
	house_result(h, run, 0, 1, 1, "{}");
	restore(h, HOUR);
	assert_int_equal(state_of(h, run), CORE_RUN_PARKED);
	resume(h, run);
	house_call(h, run, 1, "test.once", "{\"value\":\"x\"}", "");
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	house_gate(h, gate, "happened", "{\"id\":7}");
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"id\":7}");
	house_call(h, run, 2, "test.lookup", "{\"value\":\"x\"}", "");
	house_tick(h);
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->mode, 1);
	house_result(h, run, 2, 1, CORE_WIRE_NOT_FOUND, "{\"code\":\"not_found\"}");
	house_tick(h);
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->mode, 0); /* it did not happen: now it is sent */
	house_result(h, run, 2, 2, CORE_WIRE_DONE, "{}");
	house_call(h, run, 3, "test.once", "{\"value\":\"x\"}", "");
	house_tick(h);
	house_gate(h, house_act(h, CORE_ACT_GATE, 0)->id, "send", "");
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 1);
	house_result(h, run, 3, 1, CORE_WIRE_DONE, "{}");
	/* A short sleep was slept in the lost time too, and what is behind it may have been done. */
	house_call(h, run, 4, "timer.sleep", "{\"ms\":1000}", "");
	h->now_ms += 1000;
	house_tick(h);
	house_call(h, run, 5, "test.once", "{\"value\":\"x\"}", "");
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
	house_gate(h, house_act(h, CORE_ACT_GATE, 0)->id, "happened", "{}");
	/* One that its time limit ends is none. */
	house_call(h, run, 6, "timer.sleep", "{\"ms\":7200000}", "{\"timeout\":\"1s\"}");
	h->now_ms += 1000;
	house_tick(h);
	house_call(h, run, 7, "test.once", "{\"value\":\"x\"}", "");
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
	house_gate(h, house_act(h, CORE_ACT_GATE, 0)->id, "happened", "{}");
	/* One longer than the lost time was not: what is behind it is new. */
	house_call(h, run, 8, "timer.sleep", "{\"ms\":3601000}", "");
	h->now_ms += HOUR + 1000;
	house_tick(h);
	house_call(h, run, 9, "test.once", "{\"value\":\"x\"}", "");
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 1);
}

/* Timers that were due in the lost time wait for a person; a run that only sleeps beyond it goes on by itself. */
static void test_timers(void **state)
{
	struct house *h = *state;
	uint64_t due = house_start(h, "f", "{}"), later = house_start(h, "f", "{}"),
		 waits = house_start(h, "f", "{}");

	house_call(h, due, 0, "timer.sleep", "{\"ms\":60000}", "");
	house_call(h, later, 0, "timer.sleep", "{\"ms\":7200000}", "");
	house_call(h, waits, 0, "signal.wait", "{\"name\":\"go\",\"timeout_ms\":7200000}", "");
	restore(h, HOUR);
	assert_int_equal(held(h), 2);
	assert_int_equal(state_of(h, later), CORE_RUN_ACTIVE);
	h->now_ms += HOUR;
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_RESULT), 1);
	assert_int_equal(house_act(h, CORE_ACT_RESULT, 0)->run, later);
	resume(h, due);
	resume(h, waits);
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_RESULT), 2);
	/* What follows is new for the one that slept; the others may have done it before. */
	house_call(h, later, 1, "test.once", "{\"value\":\"x\"}", "");
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 1);
	house_call(h, due, 1, "test.once", "{\"value\":\"x\"}", "");
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
}

/* A gate that would let an effect out when it expires stays shut, and its answer only opens the doubt. */
static void test_gates(void **state)
{
	struct house *h = *state;
	uint64_t run, gate;

	house_deploy(
		h, "{\"policy\":{\"rules\":[{\"on\":\"test.*\",\"then\":\"gate\",\"expires\":\"1h\"}]}}");
	run = house_start(h, "f", "{}");
	house_call(h, run, 0, "test.once", "{\"value\":\"x\"}", "");
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	restore(h, 2 * (int64_t)HOUR);
	house_tick(h);
	assert_int_not_equal(core_gate_seq(h->core, gate), 0); /* did not expire */
	house_gate(h, gate, "approve", "");
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0); /* its run is held */
	resume(h, run);
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
	house_gate(h, house_act(h, CORE_ACT_GATE, 0)->id, "give_up", "");
	assert_int_equal(house_act(h, CORE_ACT_RESULT, 0)->ok, false);
}

/* A child that is started again has other keys than the one of the lost time. */
static void test_strays(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), child;

	restore(h, HOUR);
	resume(h, run);
	house_call(h, run, 0, "run.call", "{\"flow\":\"f\",\"input\":{}}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	house_call(h, child, 0, "test.idempotent", "{\"value\":\"x\"}", "");
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
	assert_int_equal(count(h, CORE_ACT_GATE), 1);
	/* A key that the flow chose is the same as then. */
	house_call(h, child, 1, "test.idempotent", "{\"value\":\"y\"}", "{\"key\":\"invoice-7\"}");
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 1);
	house_call(h, child, 2, "test.read", "{\"value\":\"x\"}", "");
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 1);
}

/* So have a run that nobody waits for, and a fork or restart of one whose lost time nobody knows. */
static void test_strays_alone(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), stray;

	restore(h, HOUR);
	resume(h, run);
	house_call(h, run, 0, "run.start", "{\"flow\":\"f\",\"input\":{}}", "");
	stray = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	assert_int_not_equal(stray, run);
	house_call(h, stray, 0, "test.once", "{\"value\":\"x\"}", "");
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
	assert_int_equal(count(h, CORE_ACT_GATE), 1);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_FORK,
			    .run = run,
			    .step = 1,
			    .params = BASE_STR("{\"restart\":true}")});
	assert_int_equal(h->reply.status, 201);
	stray = h->reply.id;
	house_call(h, stray, 1, "test.once", "{\"value\":\"x\"}", "");
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
	assert_int_equal(count(h, CORE_ACT_GATE), 1);
}

/* So has a run that starts because a restored one published again what it had published. */
static void test_strays_of_events(void **state)
{
	struct house *h = *state;
	uint64_t run, heard;

	house_deploy(h, "{\"flows\":[{\"name\":\"hears\","
			"\"version\":\"00000000000000000000000000000000000000000000000000000000000000bb\","
			"\"modules\":{\"entry\":\"hears\"},\"spec\":{\"on\":[{\"event\":\"order.*\"}]},"
			"\"grants\":[\"test.*\"]},{\"name\":\"tells\","
			"\"version\":\"00000000000000000000000000000000000000000000000000000000000000cc\","
			"\"modules\":{\"entry\":\"tells\"},\"spec\":{},\"grants\":[\"event.*\"]}]}");
	run = house_start(h, "tells", "{}");
	restore(h, HOUR);
	resume(h, run);
	house_call(h, run, 0, "event.publish", "{\"payload\":1,\"topic\":\"order.new\"}", "");
	assert_non_null(house_act(h, CORE_ACT_RUN_LOAD, 0));
	heard = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	assert_int_not_equal(heard, run);
	house_call(h, heard, 0, "test.idempotent", "{\"value\":\"x\"}", "");
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
	assert_int_equal(count(h, CORE_ACT_GATE), 1);
}

/* Restored twice, cancelled while held, parked before: all hold together. */
static void test_again_and_again(void **state)
{
	struct house *h = *state;
	uint64_t a = house_start(h, "f", "{}"), b = house_start(h, "f", "{}"), c = house_start(h, "f", "{}");

	house_call(h, a, 0, "test.once", "{\"value\":\"x\"}", "");
	house_call(h, b, 0, "timer.sleep", "{\"ms\":1000}", "");
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_PAUSE, .run = c});
	restore(h, HOUR);
	assert_int_equal(held(h), 3);
	restore(h, HOUR);
	assert_int_equal(held(h), 3);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = b});
	assert_int_equal(h->reply.status, 200);
	assert_int_equal(state_of(h, b), 0);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = a});
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
	resume(h, c);
	assert_int_equal(state_of(h, c), CORE_RUN_ACTIVE);
	/* An ordinary start holds nobody. */
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test")});
	assert_int_equal(state_of(h, c), CORE_RUN_ACTIVE);
}

/* A start that was delayed into the lost time: held when its turn comes, and under the keys that it has. */
static void test_delayed_start(void **state)
{
	struct house *h = *state;
	char params[64];
	uint64_t run;

	snprintf(params, sizeof(params), "{\"begin_ms\":%lld}", (long long)h->now_ms + 60000);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_START,
			    .name = BASE_STR("f"),
			    .body = BASE_STR("{}"),
			    .params = base_str_of(params)});
	assert_int_equal(h->reply.status, 201);
	run = h->reply.id;
	assert_int_equal(state_of(h, run), CORE_RUN_QUEUED);
	restore(h, HOUR);
	house_tick(h);
	assert_int_equal(state_of(h, run), CORE_RUN_PARKED);
	assert_int_equal(held(h), 1);
	resume(h, run);
	assert_int_equal(held(h), 0);
	house_call(h, run, 0, "test.once", "{\"value\":\"x\"}", "");
	house_tick(h);
	assert_int_equal(count(h, CORE_ACT_DISPATCH), 0);
}

static void archived(struct house *h, const char *params, int status)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_ARCHIVED, .params = base_str_of(params)});
	assert_int_equal(h->reply.status, status);
}

static void test_archived(void **state)
{
	struct house *h = *state;

	archived(h, "{\"first_seq\":2,\"last_seq\":3,\"file\":\"seg\",\"bytes\":9}", 409);
	archived(h, "{\"first_seq\":1,\"last_seq\":2,\"file\":\"seg\",\"bytes\":9}", 200);
	assert_int_equal(core_archived(h->core), 2);
	archived(h, "{\"first_seq\":1,\"last_seq\":2,\"file\":\"seg\",\"bytes\":9}", 409);
	archived(h, "{\"first_seq\":3,\"last_seq\":1000,\"file\":\"seg\",\"bytes\":9}", 409);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, house_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_sent_by_class),
		T(test_calls_of_the_lost_time),
		T(test_timers),
		T(test_gates),
		T(test_strays),
		T(test_strays_alone),
		T(test_strays_of_events),
		T(test_again_and_again),
		T(test_delayed_start),
		T(test_archived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
