/* Flow control: lanes, rates, priorities, the cap on those awake, delayed starts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "core/core_int.h"
#include "house.h"

#define ZEROS31 "00000000000000000000000000000000000000000000000000000000000000"
#define FLOW(number, name, spec)                                                                             \
	"{\"name\":\"" name "\",\"version\":\"" ZEROS31 number "\",\"modules\":{\"entry\":\"flows/" name     \
	".js\"},\"spec\":{" spec "},\"grants\":[\"*\"]}"
#define BY_ISSUE "\"concurrency\":{\"key\":\"input.issue\",\"limit\":1"

static const char deployment[] =
	"{\"config\":{\"name\":\"test\"},\"policy\":{\"rules\":[{\"on\":\"*\",\"then\":\"allow\"}]},"
	"\"flows\":[" FLOW("00", "plain", "") "," FLOW("01", "urgent", "\"priority\":5") "," FLOW("02",
		"issue", BY_ISSUE "}") "," FLOW("03", "pair", "\"concurrency\":{\"limit\":2}") "," FLOW("04",
		"newest", BY_ISSUE ",\"policy\":\"replace\"}") "," FLOW("05", "once",
		BY_ISSUE ",\"policy\":\"reject\"}") "," FLOW("06", "slow",
		"\"rate\":{\"limit\":\"10/m\"}") "," FLOW("07", "outside", "") "]}";

static int set_up(void **state)
{
	return house_set_up(state, deployment);
}

static uint64_t start(struct house *h, const char *flow, const char *input, const char *params)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_START,
			    .name = base_str_of(flow),
			    .body = base_str_of(input),
			    .params = base_str_of(params)});
	if (h->reply.status != 201)
		fail_msg("%s", h->reply_text);
	return h->reply.id;
}

static int refused(struct house *h, const char *flow, const char *input)
{
	house_do(h,
		(struct core_cmd){
			.type = CORE_CMD_RUN_START, .name = base_str_of(flow), .body = base_str_of(input)});
	assert_true(h->reply.status >= 400);
	return h->reply.status;
}

/* 0: not known any more. */
static enum core_run_state state_of(struct house *h, uint64_t run)
{
	struct core_run_info info;

	return core_run_get(h->core, run, &info) ? info.state : 0;
}

static void end(struct house *h, uint64_t run)
{
	house_do(h,
		(struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = run, .body = BASE_STR("1"), .step = 99});
	assert_int_equal(state_of(h, run), 0);
}

static void cancel(struct house *h, uint64_t run)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = run});
	assert_int_equal(h->reply.status, 200);
}

static void limits(struct house *h, int active, int queue)
{
	char text[200];

	snprintf(text, sizeof(text),
		"{\"config\":{\"name\":\"test\",\"limits\":{\"active\":%d,\"queue\":%d}}}", active, queue);
	house_deploy(h, text);
}

static void test_lane(void **state)
{
	struct house *h = *state;
	uint64_t a = start(h, "issue", "{\"issue\":\"7\"}", ""), b, c, d;

	assert_non_null(house_act(h, CORE_ACT_RUN_LOAD, 0));
	b = start(h, "issue", "{\"issue\":\"7\"}", "");
	assert_null(house_act(h, CORE_ACT_RUN_LOAD, 0));
	c = start(h, "issue", "{\"issue\":\"7\"}", "");
	d = start(h, "issue", "{\"issue\":\"8\"}", "");
	assert_int_equal(state_of(h, a), CORE_RUN_ACTIVE);
	assert_int_equal(state_of(h, b), CORE_RUN_QUEUED);
	assert_int_equal(state_of(h, c), CORE_RUN_QUEUED);
	assert_int_equal(state_of(h, d), CORE_RUN_ACTIVE);
	end(h, a); /* the next is admitted in the same decision */
	assert_int_equal(house_act(h, CORE_ACT_RUN_LOAD, 0)->run, b);
	assert_int_equal(state_of(h, c), CORE_RUN_QUEUED);
	cancel(h, b);
	assert_int_equal(state_of(h, c), CORE_RUN_ACTIVE);
	assert_int_equal(refused(h, "issue", "{}"), 422);
}

static void test_limit_of_a_flow(void **state)
{
	struct house *h = *state;
	uint64_t run[4];

	for (int i = 0; i < 4; i++)
		run[i] = start(h, "pair", "{}", "");
	assert_int_equal(state_of(h, run[1]), CORE_RUN_ACTIVE);
	assert_int_equal(state_of(h, run[2]), CORE_RUN_QUEUED);
	cancel(h, run[3]); /* one that waits */
	end(h, run[0]);
	assert_int_equal(state_of(h, run[2]), CORE_RUN_ACTIVE);
}

static void test_replace(void **state)
{
	struct house *h = *state;
	uint64_t a = start(h, "newest", "{\"issue\":1}", ""), b = start(h, "newest", "{\"issue\":1}", ""), c;

	assert_int_equal(state_of(h, a), 0); /* cancelled: b took its place */
	assert_int_equal(state_of(h, b), CORE_RUN_ACTIVE);
	limits(h, 1, 100);
	c = start(h, "newest", "{\"issue\":2}", "");
	assert_int_equal(state_of(h, c), CORE_RUN_QUEUED); /* for the cap */
	a = start(h, "newest", "{\"issue\":2}", "");
	assert_int_equal(state_of(h, c), 0);
	assert_int_equal(state_of(h, a), CORE_RUN_QUEUED);
	end(h, b);
	assert_int_equal(state_of(h, a), CORE_RUN_ACTIVE);
}

static void test_reject(void **state)
{
	struct house *h = *state;
	uint64_t a = start(h, "once", "{\"issue\":1}", ""), late;

	assert_int_equal(refused(h, "once", "{\"issue\":1}"), 429);
	assert_non_null(strstr(h->reply_text, "lane_full"));
	late = start(h, "once", "{\"issue\":1}", "{\"begin_ms\":1700000005000}");
	assert_int_equal(state_of(h, late), CORE_RUN_QUEUED);
	h->now_ms = 1700000005000;
	house_tick(h);
	assert_int_equal(state_of(h, late), 0); /* its time came, its lane was full */
	end(h, a);
	start(h, "once", "{\"issue\":1}", "");
}

static void test_delayed(void **state)
{
	struct house *h = *state;
	uint64_t run = start(h, "plain", "{}", "{\"begin_ms\":1700000060000}");

	assert_null(house_act(h, CORE_ACT_RUN_LOAD, 0));
	assert_int_equal(core_next_due(h->core), 1700000060000);
	house_do(h,
		(struct core_cmd){
			.type = CORE_CMD_SIGNAL, .run = run, .name = BASE_STR("x"), .body = BASE_STR("1")});
	assert_int_equal(h->reply.status, 202);
	house_check(h);
	h->now_ms = 1700000060000;
	house_tick(h);
	assert_int_equal(house_act(h, CORE_ACT_RUN_LOAD, 0)->run, run);
	run = start(h, "plain", "{}", "{\"begin_ms\":1700000090000}");
	cancel(h, run);
	assert_int_equal(core_next_due(h->core), INT64_MAX);
}

static void test_rate(void **state)
{
	struct house *h = *state;
	uint64_t run[3];

	for (int i = 0; i < 3; i++)
		run[i] = start(h, "slow", "{}", "");
	assert_int_equal(state_of(h, run[0]), CORE_RUN_ACTIVE);
	assert_int_equal(state_of(h, run[1]), CORE_RUN_QUEUED);
	assert_int_equal(core_next_due(h->core), h->now_ms + 6000);
	h->now_ms += 6000;
	house_tick(h);
	assert_int_equal(state_of(h, run[1]), CORE_RUN_ACTIVE);
	assert_int_equal(state_of(h, run[2]), CORE_RUN_QUEUED);
	house_check(h);
	h->now_ms += 5999;
	house_tick(h);
	assert_int_equal(state_of(h, run[2]), CORE_RUN_QUEUED);
	h->now_ms += 1;
	house_tick(h);
	assert_int_equal(state_of(h, run[2]), CORE_RUN_ACTIVE);
	h->now_ms += 3600000;
	start(h, "slow", "{}", "");
	assert_int_equal(state_of(h, h->reply.id), CORE_RUN_ACTIVE);
}

static void test_cap_and_priority(void **state)
{
	struct house *h = *state;
	uint64_t a, low, mid, high;

	limits(h, 1, 3);
	a = start(h, "plain", "{}", "");
	low = start(h, "plain", "{}", "{\"priority\":-1}");
	mid = start(h, "plain", "{}", "");
	high = start(h, "urgent", "{}", "");
	assert_int_equal(refused(h, "plain", "{}"), 429);
	assert_true(h->reply.retry_after_ms > 0);
	end(h, a);
	assert_int_equal(state_of(h, high), CORE_RUN_ACTIVE);
	/* One that sleeps takes no slot. */
	house_call(h, high, 0, "timer.sleep", "{\"ms\":1000000}", "");
	assert_int_equal(state_of(h, mid), CORE_RUN_ACTIVE);
	assert_int_equal(state_of(h, low), CORE_RUN_QUEUED);
	/* It waits for an answer from outside: it takes one. */
	house_call(h, mid, 0, "test.read", "{\"id\":\"1\"}", "");
	assert_int_equal(state_of(h, low), CORE_RUN_QUEUED);
	cancel(h, mid);
	assert_int_equal(state_of(h, low), CORE_RUN_ACTIVE);
}

/* A level of priority is worth a minute. */
static void test_ageing(void **state)
{
	struct house *h = *state;
	uint64_t a, low, high;

	limits(h, 1, 100);
	a = start(h, "plain", "{}", "");
	low = start(h, "plain", "{}", "{\"priority\":-1}");
	h->now_ms += 59999;
	high = start(h, "urgent", "{}", "{\"priority\":0}");
	end(h, a);
	assert_int_equal(state_of(h, high), CORE_RUN_ACTIVE);
	h->now_ms += 2;
	a = start(h, "urgent", "{}", "{\"priority\":0}");
	end(h, high);
	assert_int_equal(state_of(h, low), CORE_RUN_ACTIVE);
	assert_int_equal(state_of(h, a), CORE_RUN_QUEUED);
}

/* 10,000 that wait in one lane do not keep another out. */
static void test_fair(void **state)
{
	struct house *h = *state;
	uint64_t a, other;

	limits(h, 1, 100000);
	h->unchecked = true;
	a = start(h, "plain", "{}", "");
	for (int i = 0; i < 10000; i++)
		start(h, "plain", "{}", "");
	h->now_ms += 1000;
	other = start(h, "urgent", "{}", "{\"priority\":0}");
	h->now_ms += 1000;
	end(h, a);
	a = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	assert_true(a != other); /* the lane that waited longer has its turn */
	h->now_ms += 1000;
	end(h, a);
	assert_int_equal(house_act(h, CORE_ACT_RUN_LOAD, 0)->run, other);
	core_check(h->core);
}

/* Lanes take turns, also within one millisecond. */
static void test_turns(void **state)
{
	struct house *h = *state;
	uint64_t a, seen[3] = {0};
	struct core_run_info info;

	limits(h, 1, 1000);
	a = start(h, "outside", "{}", "");
	for (int i = 0; i < 10; i++) {
		start(h, "plain", "{}", "");
		start(h, "urgent", "{}", "{\"priority\":0}");
		start(h, "outside", "{}", "");
	}
	end(h, a);
	for (int i = 0; i < 12; i++) {
		a = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
		assert_true(core_run_get(h->core, a, &info));
		seen[base_str_is(info.flow, "plain") ? 0 : base_str_is(info.flow, "urgent") ? 1 : 2]++;
		end(h, a);
	}
	assert_true(seen[0] == 4 && seen[1] == 4 && seen[2] == 4);
}

/* 100,000 that wait in 1,000 lanes are admitted one after the other, each once. */
static void test_many(void **state)
{
	struct house *h = *state;
	uint64_t a, next, count = 0;
	char input[40];

	limits(h, 1, 200000);
	h->unchecked = true;
	a = start(h, "plain", "{}", "");
	for (int i = 0; i < 100000; i++) {
		snprintf(input, sizeof(input), "{\"issue\":%d}", i % 1000);
		h->now_ms += i % 100 == 0;
		start(h, "issue", input, i % 7 == 0 ? "{\"priority\":2}" : "");
	}
	core_check(h->core);
	for (; a; a = next) {
		const struct house_act *act;

		end(h, a);
		act = house_act(h, CORE_ACT_RUN_LOAD, 0);
		next = act ? act->run : 0;
		count++;
	}
	assert_int_equal(count, 100001);
	core_check(h->core);
}

/* A deploy that makes room lets in who waits; one that takes it away ends nobody. */
static void test_deployed_limit(void **state)
{
	struct house *h = *state;
	uint64_t run[5], more;

	for (int i = 0; i < 5; i++)
		run[i] = start(h, "issue", "{\"issue\":1}", "");
	house_deploy(h, "{\"flows\":[" FLOW(
				"a0", "issue", "\"concurrency\":{\"key\":\"input.issue\",\"limit\":3}") "]}");
	assert_int_equal(state_of(h, run[2]), CORE_RUN_ACTIVE);
	assert_int_equal(state_of(h, run[3]), CORE_RUN_QUEUED);
	house_deploy(h, "{\"flows\":[" FLOW("a1", "issue", BY_ISSUE "}") "]}");
	assert_int_equal(state_of(h, run[2]), CORE_RUN_ACTIVE);
	end(h, run[0]);
	assert_int_equal(state_of(h, run[3]), CORE_RUN_QUEUED);
	house_deploy(h, "{\"flows\":[" FLOW("a2", "issue", "") "]}");
	assert_int_equal(state_of(h, run[4]), CORE_RUN_ACTIVE);
	more = start(h, "issue", "{\"issue\":1}", "");
	assert_int_equal(state_of(h, more), CORE_RUN_ACTIVE);
	house_do(h, (struct core_cmd){.type = CORE_CMD_DEPLOY,
			    .body = BASE_STR("{\"flows\":[" FLOW("a3", "issue",
				    "\"concurrency\":{\"key\":\"input.\",\"limit\":3}") "]}")});
	assert_int_equal(h->reply.status, 422);
	assert_non_null(strstr(h->reply_text, "flows/issue.js: concurrency.key"));
}

/* A child needs no slot that its parent has, and does not wait for a place that its parent holds. */
static void test_children(void **state)
{
	struct house *h = *state;
	uint64_t parent;

	limits(h, 1, 100);
	parent = start(h, "plain", "{}", "");
	house_call(h, parent, 0, "run.call", "{\"flow\":\"plain\",\"input\":{}}", "");
	assert_int_equal(house_act(h, CORE_ACT_RUN_LOAD, 0)->run, parent + 1);
	end(h, parent + 1);
	end(h, parent);
	/* With no place to wait a child has its parent's slot; a run of its own has none. */
	limits(h, 1, 0);
	parent = start(h, "plain", "{}", "");
	house_call(h, parent, 0, "run.start", "{\"flow\":\"plain\",\"input\":{}}", "");
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "queue_full"));
	house_call(h, parent, 1, "run.call", "{\"flow\":\"plain\",\"input\":{}}", "");
	assert_int_equal(house_act(h, CORE_ACT_RUN_LOAD, 0)->run, parent + 1);
	house_call(h, parent, 2, "run.call", "{\"flow\":\"plain\",\"input\":{}}", "");
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "queue_full"));
	cancel(h, parent);
	limits(h, 1, 100);
	parent = start(h, "issue", "{\"issue\":\"1\"}", "");
	house_call(h, parent, 0, "run.call", "{\"flow\":\"issue\",\"input\":{\"issue\":\"1\"}}", "");
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "deadlock"));
	house_call(h, parent, 1, "run.start", "{\"flow\":\"issue\",\"input\":{\"issue\":\"1\"}}", "");
	assert_int_equal(state_of(h, parent + 1), CORE_RUN_QUEUED);
}

/* Two hold a lane, and both call a child that waits for a place in it: the second would leave no way out. */
static void test_deadlock_of_two(void **state)
{
	struct house *h = *state;
	uint64_t a = start(h, "pair", "{}", ""), b = start(h, "pair", "{}", "");

	house_call(h, a, 0, "run.call", "{\"flow\":\"pair\",\"input\":{}}", "");
	assert_int_equal(state_of(h, b + 1), CORE_RUN_QUEUED);
	house_call(h, b, 0, "run.call", "{\"flow\":\"pair\",\"input\":{}}", "");
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "deadlock"));
	end(h, b);
	assert_int_equal(state_of(h, b + 1), CORE_RUN_ACTIVE);
}

/* A further generation has the place of the one before, whoever waits. */
static void test_generations(void **state)
{
	struct house *h = *state;
	uint64_t a = start(h, "issue", "{\"issue\":1}", ""), b = start(h, "issue", "{\"issue\":1}", ""), next;
	uint64_t waits = start(h, "plain", "{}", "");
	char args[80];

	snprintf(args, sizeof(args), "{\"run\":%llu}", (unsigned long long)a);
	house_call(h, waits, 0, "run.wait", args, "");
	house_call(h, a, 0, "run.again", "{\"state\":{\"issue\":2}}", "");
	next = h->core->next_run - 1;
	assert_int_equal(state_of(h, a), 0);
	assert_int_equal(state_of(h, next), CORE_RUN_ACTIVE);
	assert_int_equal(state_of(h, b), CORE_RUN_QUEUED);
	assert_int_equal(core_step_find(core_run_find(h->core, waits), 0)->status, CORE_STEP_DONE);
	end(h, next);
	assert_int_equal(state_of(h, b), CORE_RUN_ACTIVE);
	cancel(h, b);
	a = start(h, "issue", "{\"issue\":1}", "");
	assert_int_equal(state_of(h, a), CORE_RUN_ACTIVE);
}

static void test_forget(void **state)
{
	struct house *h = *state;
	uint64_t a;

	house_do(h, (struct core_cmd){
			    .type = CORE_CMD_RUN_START, .name = BASE_STR("plain"), .key = BASE_STR("k")});
	a = h->reply.id;
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_FORGET, .run = a});
	assert_int_equal(h->reply.status, 409);
	end(h, a);
	house_check(h);
	house_do(h, (struct core_cmd){
			    .type = CORE_CMD_RUN_START, .name = BASE_STR("plain"), .key = BASE_STR("k")});
	assert_int_equal(h->reply.id, a);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_FORGET, .run = a});
	assert_int_equal(h->reply.status, 200);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_FORGET, .run = a});
	assert_int_equal(h->reply.status, 404);
	house_do(h, (struct core_cmd){
			    .type = CORE_CMD_RUN_START, .name = BASE_STR("plain"), .key = BASE_STR("k")});
	assert_int_equal(h->reply.status, 201);
}

static void test_run_wait(void **state)
{
	struct house *h = *state;
	uint64_t a = start(h, "plain", "{}", ""), b = start(h, "plain", "{}", ""), c;
	char args[80];

	snprintf(args, sizeof(args), "{\"run\":%llu}", (unsigned long long)b);
	house_call(h, a, 0, "run.wait", args, "");
	assert_null(house_act(h, CORE_ACT_RESULT, 0));
	house_check(h);
	house_call(h, b, 0, "run.wait", "{\"run\":1}", ""); /* a waits for it */
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "deadlock"));
	house_call(h, b, 1, "run.wait", "{\"run\":2}", ""); /* itself */
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "deadlock"));
	end(h, b);
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"state\":\"done\",\"value\":1}");
	house_call(h, a, 1, "run.wait", args, ""); /* it has ended */
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"state\":\"done\",\"value\":1}");
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_FORGET, .run = b});
	house_call(h, a, 2, "run.wait", args, "");
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "forgotten"));
	house_call(h, a, 3, "run.wait", "{\"run\":99}", "");
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "unknown_run"));
	/* A time limit; neither ends with the other. */
	c = start(h, "plain", "{}", "");
	snprintf(args, sizeof(args), "{\"run\":%llu,\"timeout_ms\":1000}", (unsigned long long)c);
	house_call(h, a, 4, "run.wait", args, "");
	h->now_ms += 1000;
	house_tick(h);
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"timeout\":true}");
	house_call(h, a, 5, "run.wait", args, "");
	cancel(h, a);
	assert_int_equal(state_of(h, c), CORE_RUN_ACTIVE);
	a = start(h, "plain", "{}", "");
	house_call(h, a, 0, "run.wait", args, "");
	cancel(h, c);
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "\"state\":\"cancelled\""));
	/* Children that wait for one another end with their parent in one decision. */
	c = start(h, "plain", "{}", "");
	house_call(h, c, 0, "run.call", "{\"flow\":\"plain\",\"input\":{}}", "");
	house_call(h, c, 1, "run.call", "{\"flow\":\"plain\",\"input\":{}}", "");
	snprintf(args, sizeof(args), "{\"run\":%llu}", (unsigned long long)c + 2);
	house_call(h, c + 1, 0, "run.wait", args, "");
	cancel(h, c);
	assert_int_equal(state_of(h, c + 1), 0);
}

/* --- any commands in any order --- */

enum { LIVE_MAX = 400, SEEDS = 12 };

struct play {
	struct house *h;
	struct base_prng p;
	uint64_t live[LIVE_MAX];
	size_t count;
};

static uint64_t pick(struct play *y, uint64_t n)
{
	return base_prng_next(&y->p) % n;
}

static void play_start(struct play *y)
{
	static const char *const flows[] = {"plain", "urgent", "issue", "pair", "newest", "once", "slow"};
	char input[40], params[80];

	snprintf(input, sizeof(input), "{\"issue\":%d}", (int)pick(y, 4));
	snprintf(params, sizeof(params), "{\"priority\":%d,\"begin_ms\":%lld}", (int)pick(y, 21) - 10,
		(long long)(pick(y, 4) ? 0 : y->h->now_ms + (int64_t)pick(y, 20000)));
	house_do(y->h, (struct core_cmd){.type = CORE_CMD_RUN_START,
			       .name = base_str_of(flows[pick(y, 7)]),
			       .body = base_str_of(input),
			       .params = base_str_of(params)});
	if (y->h->reply.status == 201 && y->count < LIVE_MAX)
		y->live[y->count++] = y->h->reply.id;
}

static void play_call(struct play *y, struct core_run *r)
{
	static const char *const actions[] = {"timer.sleep", "signal.wait", "test.read", "run.call",
		"run.start", "run.wait", "gate.ask", "run.again"};
	size_t which = pick(y, 8);
	char args[120];

	switch (which) {
	case 0:
		snprintf(args, sizeof(args), "{\"ms\":%d}", (int)pick(y, 20000));
		break;
	case 1:
		snprintf(args, sizeof(args), "{\"name\":\"s\",\"timeout_ms\":%d}", (int)pick(y, 20000));
		break;
	case 2:
		snprintf(args, sizeof(args), "{\"id\":\"1\"}");
		break;
	case 5:
		snprintf(args, sizeof(args), "{\"run\":%d}", 1 + (int)pick(y, y->h->core->next_run));
		break;
	case 6:
		snprintf(args, sizeof(args), "{\"title\":\"t\",\"show\":1}");
		break;
	case 7:
		snprintf(args, sizeof(args), "{\"state\":{\"issue\":%d}}", (int)pick(y, 4));
		break;
	default:
		snprintf(args, sizeof(args), "{\"flow\":\"%s\",\"input\":{\"issue\":%d}}",
			pick(y, 2) ? "issue" : "newest", (int)pick(y, 4));
		break;
	}
	house_call(y->h, r->id, r->steps, actions[which], args, "");
}

static void play_end(struct play *y, struct core_run *r)
{
	house_do(y->h,
		(struct core_cmd){
			.type = CORE_CMD_FLOW_DONE, .run = r->id, .body = BASE_STR("1"), .step = r->steps});
}

/* An answer from outside, if one is awaited. */
static void play_answer(struct play *y, struct core_run *r)
{
	for (uint32_t i = 0; i < r->steps; i++)
		if (r->step[i].status == CORE_STEP_SENT) {
			house_result(y->h, r->id, i, r->step[i].open->effect->attempt,
				1 + (unsigned)pick(y, 3), "{}");
			return;
		}
}

static void play_one(struct play *y)
{
	uint64_t run = 1 + pick(y, y->h->core->next_run);
	struct core_run *r = core_run_find(y->h->core, run);
	bool runs = r && r->state == CORE_RUN_ACTIVE;

	switch (pick(y, 12)) {
	case 0:
	case 1:
	case 2:
		play_start(y);
		break;
	case 3:
	case 4:
	case 5:
		if (runs)
			play_call(y, r);
		break;
	case 6:
		if (runs)
			play_end(y, r);
		break;
	case 7:
		house_do(y->h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = run});
		break;
	case 8:
		if (r)
			play_answer(y, r);
		break;
	case 9:
		y->h->now_ms += (int64_t)pick(y, 5000);
		house_tick(y->h);
		break;
	case 10:
		if (pick(y, 8) == 0)
			limits(y->h, 1 + (int)pick(y, 6), (int)pick(y, 30));
		else
			house_do(y->h, (struct core_cmd){.type = CORE_CMD_RUN_PAUSE, .run = run});
		break;
	default:
		house_do(y->h,
			(struct core_cmd){
				.type = pick(y, 2) ? CORE_CMD_RUN_RESUME : CORE_CMD_RUN_FORGET, .run = run});
		break;
	}
}

static void lanes_hold(struct house *h)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	assert_false(core_admit_is_due(h->core));
	for (bool first = true; base_names_seek(h->core->lanes, at, first, &at, &value); first = false) {
		const struct core_lane *l = value;

		assert_true((int64_t)l->active <= core_lane_limit(l));
		assert_true(core_lane_policy_of(l) != CORE_REPLACE || l->waiting <= 1);
	}
}

static void play(struct house *h, uint64_t seed)
{
	uint8_t bytes[32] = {0};
	struct play y = {.h = h};

	memcpy(bytes, &seed, sizeof(seed));
	y.p = base_prng_of(bytes);
	limits(h, 4, 20);
	for (int i = 0; i < 400; i++) {
		play_one(&y);
		lanes_hold(h);
		if (i % 100 == 99)
			house_check(h);
	}
	/* Then everything that waits has its turn: nobody is forgotten. */
	limits(h, 4, 1000);
	for (int left = 5000; left && h->core->queued; left--) {
		for (uint64_t run = 1; run < h->core->next_run; run++) {
			struct core_run *r = core_run_find(h->core, run);

			if (r && r->state != CORE_RUN_ENDED && r->state != CORE_RUN_QUEUED)
				house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = run});
		}
		h->now_ms += 6000;
		house_tick(h);
	}
	assert_int_equal(h->core->queued, 0);
}

static void test_any(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		void *other = NULL;

		(void)state;
		assert_int_equal(house_set_up(&other, deployment), 0);
		play(other, seed);
		assert_int_equal(house_tear_down(&other), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lane, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_limit_of_a_flow, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_replace, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_reject, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_delayed, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_rate, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_cap_and_priority, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_ageing, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_fair, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_turns, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_many, set_up, house_tear_down),
		cmocka_unit_test(test_any),
		cmocka_unit_test_setup_teardown(test_deployed_limit, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_children, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_run_wait, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_deadlock_of_two, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_generations, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_forget, set_up, house_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
