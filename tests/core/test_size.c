/* What a run that sleeps takes: the sizes that a million of them rest on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/core_int.h"
#include "house.h"

enum { RUNS = 2000, DAY_MS = 86400000 };

static const char deployment[] = "{\"flows\":[{\"name\":\"nap\",\"version\":"
				 "\"00000000000000000000000000000000000000000000000000000000000000aa\","
				 "\"modules\":{\"entry\":\"nap\"},"
				 "\"spec\":{},\"grants\":[\"test.*\"]}],\"policy\":{\"rules\":[{\"on\":"
				 "\"test.*\",\"then\":\"allow\"}]}}";

static int set_up(void **state)
{
	return house_set_up(state, deployment);
}

/* Grow one of these only for what every run has; what few have goes behind `extra` or `effect`. */
static void test_structs(void **state)
{
	(void)state;
	assert_true(sizeof(struct core_run) <= 144);
	assert_true(sizeof(struct core_step) <= 40);
	assert_true(sizeof(struct core_open) <= 64);
	assert_true(sizeof(struct base_heap_item) <= 24);
}

/* In the slab: header, one step, its wait. The map of runs and the timer come on top: at most 43 and 24 bytes. */
static void test_sleeping(void **state)
{
	struct house *h = *state;
	size_t before = 0;

	for (int i = 0; i < 2 * RUNS; i++) {
		uint64_t run = house_start(h, "nap", "{\"customer\":\"c-1\",\"days\":30}");

		house_call(h, run, 0, "timer.sleep", "{\"ms\":2592000000}", NULL);
		if (i + 1 == RUNS)
			before = base_slab_bytes(h->core->slab);
	}
	assert_true(base_slab_bytes(h->core->slab) - before <= (size_t)RUNS * 304);
	assert_int_equal(base_heap_count(h->core->timers), 2 * RUNS);
	assert_null(h->core->effect_first);
	h->now_ms += 31 * (int64_t)DAY_MS;
	house_tick(h);
	assert_int_equal(core_next_due(h->core), INT64_MAX);
}

/* Words are counted: when the last run that used one is gone, so is the word. */
static void test_words(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "nap", "{}");
	size_t words = base_names_count(h->core->words);

	assert_true(words > 0);
	house_call(h, run, 0, "signal.wait", "{\"name\":\"answer\"}", NULL);
	assert_int_equal(base_names_count(h->core->words), words + 1);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = run});
	assert_null(core_run_find(h->core, run));
	assert_int_equal(base_names_count(h->core->words), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_structs),
		cmocka_unit_test_setup_teardown(test_sleeping, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_words, set_up, house_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
