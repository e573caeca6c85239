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
	assert_true(sizeof(struct core_run) <= 152);
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

static void count_load(void *userdata, const struct core_act *act)
{
	uint64_t *loads = userdata;

	if (act->type == CORE_ACT_RUN_LOAD)
		*loads += act->run;
}

/* The sum of the ids of the runs that a start would load. */
static uint64_t loads(struct house *h)
{
	uint64_t sum = 0;

	core_resume(h->core, count_load, &sum);
	return sum;
}

static void say_rest(struct house *h, const uint64_t *runs, size_t count)
{
	struct base_buf b;
	uint64_t last = 0;

	base_buf_init(&b, 1024);
	for (size_t i = 0; i < count; i++) {
		base_put_u64(&b, runs[i] - last);
		last = runs[i];
	}
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUNS_REST, .body = base_buf_view(&b)});
	base_buf_done(&b);
}

/* A run at rest is left alone by a start, until there is something for it to hear. */
static void test_rest(void **state)
{
	struct house *h = *state;
	uint64_t a = house_start(h, "nap", "{}"), b = house_start(h, "nap", "{}"), seq;

	house_call(h, a, 0, "signal.wait", "{\"name\":\"answer\"}", NULL);
	house_call(h, b, 0, "timer.sleep", "{\"ms\":1000}", NULL);
	assert_int_equal(loads(h), a + b);
	say_rest(h, (uint64_t[]){a, b, 4711}, 3); /* one that nobody knows is passed over */
	assert_int_equal(loads(h), 0);
	seq = core_seq(h->core);
	say_rest(h, (uint64_t[]){a, b}, 2); /* known already: no event */
	assert_int_equal(core_seq(h->core), seq);
	house_check(h);
	h->now_ms += 2000;
	house_tick(h);
	assert_int_equal(loads(h), b);
	say_rest(h, (uint64_t[]){b}, 1);
	house_do(h, (struct core_cmd){.type = CORE_CMD_SIGNAL,
			    .run = a,
			    .name = BASE_STR("answer"),
			    .body = BASE_STR("1")});
	assert_int_equal(loads(h), a);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_PAUSE, .run = b});
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_RESUME, .run = b});
	assert_int_equal(loads(h), a + b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_structs),
		cmocka_unit_test_setup_teardown(test_sleeping, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_rest, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_words, set_up, house_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
