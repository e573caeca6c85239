/* Runs: pause, time limits, trees that end, and why a run waits. After each test the log is folded from zero and from a
 * snapshot, and both must equal the live state. */
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

enum { DONE = 1, FAILED, RETRY, UNKNOWN, NOT_FOUND };
enum { SECOND = 1000, MINUTE = 60000, HOUR = 3600000 };

#define VERSION_A "\"00000000000000000000000000000000000000000000000000000000000000aa\""
#define VERSION_B "\"00000000000000000000000000000000000000000000000000000000000000bb\""
#define VERSION_C "\"00000000000000000000000000000000000000000000000000000000000000cc\""
#define GRANTS                                                                                               \
	"\"grants\":[\"test.*\",\"mail.send\",\"http.*\",\"memory.*\",\"run.*\",\"gate.ask\",\"agent.run\"]"

static const char deployment[] =
	"{\"flows\":[{\"name\":\"f\",\"version\":" VERSION_A
	",\"modules\":{\"entry\":\"f\"},\"spec\":{}," GRANTS "},"
	"{\"name\":\"hour\",\"version\":" VERSION_B
	",\"modules\":{\"entry\":\"f\"},\"spec\":{\"timeout\":3600000}," GRANTS
	"},{\"name\":\"single\",\"version\":" VERSION_C
	",\"modules\":{\"entry\":\"f\"},\"spec\":{\"concurrency\":"
	"{\"limit\":1}}," GRANTS
	"}],\"agents\":[{\"name\":\"a\",\"definition\":{\"tools\":[\"test.echo\"]}}],"
	"\"config\":{},\"policy\":{\"rules\":[{\"on\":\"test.*\",\"then\":\"allow\"},"
	"{\"name\":\"mail\",\"on\":\"mail.send\",\"then\":\"gate\"}]}}";

static int set_up(void **state)
{
	return house_set_up(state, deployment);
}

static struct core_run_info info_of(const struct house *h, uint64_t run)
{
	struct core_run_info info = {0};

	assert_true(core_run_get(h->core, run, &info));
	return info;
}

static void on_run(struct house *h, enum core_cmd_type type, uint64_t run)
{
	house_do(h, (struct core_cmd){.type = type, .run = run, .text = BASE_STR("because")});
}

static void pass(struct house *h, int64_t ms)
{
	h->now_ms += ms;
	house_tick(h);
}

static void expect_problem(const struct house *h, const char *code)
{
	const struct house_act *a = house_act(h, CORE_ACT_RESULT, 0);

	assert_non_null(a);
	assert_false(a->ok);
	if (!strstr(a->text, code))
		fail_msg("%s does not name %s", a->text, code);
}

/* --- why --- */

static bool read_event(void *userdata, uint64_t seq, struct core_record *ret)
{
	struct house *h = userdata;
	size_t at = h->at[seq];

	return core_block_next(base_buf_view(&h->log), &at, ret) == 1;
}

static void expect_why(struct house *h, uint64_t run, const char *const *texts)
{
	struct base_json *doc;
	struct base_buf b;

	base_buf_init(&b, 1 << 20);
	assert_int_equal(core_why_json(h->core, run, h->now_ms, read_event, h, &b), 0);
	assert_int_equal(base_json_parse(base_buf_view(&b), &doc, NULL), 0);
	base_json_free(doc);
	base_buf_char(&b, '\0');
	for (; *texts; texts++)
		if (!strstr(b.ptr, *texts))
			fail_msg("%s is not in %s", *texts, b.ptr);
	base_buf_done(&b);
}
#define WHY(h, run, ...) expect_why(h, run, (const char *const[]){__VA_ARGS__, NULL})

/* --- pause --- */

static void test_pause(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "timer.sleep", "{\"ms\":1000}", "");
	house_call(h, run, 1, "signal.wait", "{\"name\":\"go\"}", "");
	house_call(h, run, 2, "test.echo", "{\"n\":1}", "");
	on_run(h, CORE_CMD_RUN_PAUSE, run);
	assert_int_equal(h->reply.status, 200);
	assert_non_null(house_act(h, CORE_ACT_RUN_DROP, 0));
	assert_int_equal(info_of(h, run).state, CORE_RUN_PAUSED);
	WHY(h, run, "\"kind\":\"paused\"", "paused by operator: because", "aios resume", "\"kind\":\"timer\"",
		"\"kind\":\"signal\"", "\"kind\":\"sent\"");
	on_run(h, CORE_CMD_RUN_PAUSE, run);
	assert_int_equal(h->reply.status, 409);
	/* What comes is recorded, and the flow hears nothing of it yet. */
	house_result(h, run, 2, 1, DONE, "{\"n\":1}");
	assert_int_equal(h->reply.status, 200);
	assert_null(house_act(h, CORE_ACT_RESULT, 0));
	house_do(h,
		(struct core_cmd){
			.type = CORE_CMD_SIGNAL, .run = run, .name = BASE_STR("go"), .body = BASE_STR("7")});
	assert_true(h->reply.status < 300);
	pass(h, 2 * SECOND);
	assert_null(house_act(h, CORE_ACT_RESULT, 0));
	assert_null(house_act(h, CORE_ACT_RUN_LOAD, 0));
	assert_int_equal(core_run_journal(h->core, run, NULL, 0), 3);
	house_call(h, run, 3, "test.echo", "{}", ""); /* a worker that has not heard it yet */
	assert_int_equal(h->reply.status, 409);
	/* A restart keeps it paused. */
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test")});
	assert_int_equal(info_of(h, run).state, CORE_RUN_PAUSED);
	house_check(h);
	on_run(h, CORE_CMD_RUN_RESUME, run);
	assert_int_equal(house_act(h, CORE_ACT_RUN_LOAD, 0)->run, run);
	WHY(h, run, "\"kind\":\"running\"");
	house_call(h, run, 3, "test.echo", "{}", "");
	on_run(h, CORE_CMD_RUN_PAUSE, run);
	on_run(h, CORE_CMD_RUN_CANCEL, run);
	assert_int_equal(h->reply.status, 200);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 0)->outcome, CORE_CANCELLED);
	on_run(h, CORE_CMD_RUN_PAUSE, run);
	assert_int_equal(h->reply.status, 409);
	on_run(h, CORE_CMD_RUN_PAUSE, 999);
	assert_int_equal(h->reply.status, 404);
}

/* --- time limits --- */

static void test_limits_of_waits(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), child, other;
	char args[64];

	house_call(h, run, 0, "signal.wait", "{\"name\":\"go\"}", "{\"timeout\":1000}");
	WHY(h, run, "\"limit\":");
	pass(h, SECOND - 1);
	assert_int_equal(h->act_count, 0);
	pass(h, 1);
	expect_problem(h, "timeout");
	house_call(h, run, 1, "gate.ask", "{\"show\":1,\"title\":\"ok?\"}", "{\"timeout\":1000}");
	WHY(h, run, "\"kind\":\"gate\"", "ok?", "aios approve", "by the operator");
	pass(h, SECOND);
	expect_problem(h, "timeout");
	assert_non_null(house_act(h, CORE_ACT_GATE_CLOSED, 0));
	house_call(h, run, 2, "mail.send", "{\"subject\":\"s\",\"text\":\"t\",\"to\":\"a@example.org\"}",
		"{\"timeout\":1000}");
	WHY(h, run, "\"kind\":\"gate\"", "mail.send", "(mail)");
	pass(h, SECOND);
	expect_problem(h, "timeout");
	assert_non_null(house_act(h, CORE_ACT_GATE_CLOSED, 0));
	house_call(h, run, 3, "run.call", "{\"flow\":\"f\",\"input\":{}}", "{\"timeout\":1000}");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	WHY(h, run, "\"kind\":\"child\"", "under way");
	house_call(h, child, 0, "timer.sleep", "{\"ms\":90000}", "");
	WHY(h, child, "\"kind\":\"timer\"", "\"until\":", "sleeps");
	pass(h, SECOND);
	expect_problem(h, "timeout");
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 0)->run, child);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 0)->outcome, CORE_FAILED);
	/* Who only waits for a run leaves it alone. */
	other = house_start(h, "f", "{}");
	snprintf(args, sizeof(args), "{\"run\":%llu}", (unsigned long long)other);
	house_call(h, run, 4, "run.wait", args, "{\"timeout\":1000}");
	WHY(h, run, "\"kind\":\"run\"", "under way");
	pass(h, SECOND);
	expect_problem(h, "timeout");
	assert_int_equal(info_of(h, other).state, CORE_RUN_ACTIVE);
	/* A step in time is not touched later. */
	house_call(h, run, 5, "test.echo", "{}", "{\"timeout\":1000}");
	house_result(h, run, 5, 1, DONE, "{}");
	pass(h, MINUTE);
	assert_int_equal(h->act_count, 0);
}

/* A run that is only waited for is nobody's child: neither cancel nor rollback of who waits ends it. */
static void test_waited_for(void **state)
{
	struct house *h = *state;
	uint64_t other = house_start(h, "f", "{}"), run;
	char args[64];

	snprintf(args, sizeof(args), "{\"run\":%llu}", (unsigned long long)other);
	for (int i = 0; i < 2; i++) {
		run = house_start(h, "f", "{}");
		house_call(h, run, 0, "run.wait", args, "");
		house_do(h, (struct core_cmd){
				    .type = i ? CORE_CMD_RUN_ROLLBACK : CORE_CMD_RUN_CANCEL, .run = run});
		assert_true(h->reply.status < 300);
		house_tick(h);
		assert_int_equal(info_of(h, other).state, CORE_RUN_ACTIVE);
	}
	house_do(h, (struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = other, .body = BASE_STR("7")});
	house_tick(h);
}

static void test_limits_of_effects(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	const struct house_act *a;
	uint64_t gate;

	/* May be asked for again: it fails, and its attempt is called off. */
	house_call(h, run, 0, "test.idempotent", "{\"value\":\"x\"}", "{\"timeout\":1000}");
	pass(h, SECOND);
	expect_problem(h, "timeout");
	assert_non_null(house_act(h, CORE_ACT_CANCEL, 0));
	house_result(h, run, 0, 1, DONE, "1");
	assert_int_equal(h->reply.status, 409);
	/* Can be looked up: asked whether it happened, and it did. */
	house_call(h, run, 1, "test.lookup", "{\"value\":\"x\"}", "{\"timeout\":1000}");
	pass(h, SECOND);
	assert_null(house_act(h, CORE_ACT_RESULT, 0));
	assert_non_null(house_act(h, CORE_ACT_CANCEL, 0));
	pass(h, HOUR);
	a = house_act(h, CORE_ACT_DISPATCH, 0);
	assert_true(a && a->mode == 1);
	house_result(h, run, 1, a->attempt, DONE, "\"late\"");
	assert_true(house_act(h, CORE_ACT_RESULT, 0)->ok);
	/* It did not: then it is not sent again. */
	house_call(h, run, 2, "test.lookup", "{\"value\":\"y\"}", "{\"timeout\":1000}");
	pass(h, HOUR);
	pass(h, HOUR);
	a = house_act(h, CORE_ACT_DISPATCH, 0);
	assert_true(a && a->mode == 1);
	house_result(
		h, run, 2, a->attempt, NOT_FOUND, "{\"code\":\"not_found\",\"message\":\"unknown key\"}");
	expect_problem(h, "timeout"); /* and says so, whatever the outside said */
	pass(h, HOUR);
	assert_int_equal(h->act_count, 0);
	/* Happens once: a person is asked; sent again on their word, the limit is gone. */
	house_call(h, run, 3, "test.once", "{\"value\":\"z\"}", "{\"timeout\":1000}");
	pass(h, SECOND);
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	assert_null(house_act(h, CORE_ACT_RESULT, 0));
	WHY(h, run, "\"kind\":\"doubt\"", "aios settle");
	house_gate(h, gate, "send", "");
	house_tick(h);
	a = house_act(h, CORE_ACT_DISPATCH, 0);
	assert_non_null(a);
	house_result(h, run, 3, a->attempt, DONE, "1");
	assert_true(house_act(h, CORE_ACT_RESULT, 0)->ok);
	/* The same before the limit, which then counts again. */
	house_call(h, run, 4, "test.once", "{\"value\":\"v\"}", "{\"timeout\":5000}");
	house_result(h, run, 4, 1, UNKNOWN, "{\"code\":\"lost\"}");
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	(void)core_next_due(h->core);
	house_gate(h, gate, "send", "");
	house_tick(h);
	house_result(h, run, 4, 2, RETRY, "{\"code\":\"busy\"}");
	pass(h, 10 * SECOND);
	expect_problem(h, "timeout");
	/* Held by a backoff, known not to have happened. */
	house_call(h, run, 5, "test.once", "{\"value\":\"w\"}", "{\"timeout\":100}");
	house_result(h, run, 5, 1, RETRY, "{\"code\":\"busy\",\"message\":\"later\"}");
	WHY(h, run, "\"kind\":\"backoff\"", "attempt 1: later", "failed 1 times");
	pass(h, SECOND);
	expect_problem(h, "timeout");
}

static void test_limit_of_a_run(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "hour", "{}"), child, grandchild;

	house_call(h, run, 0, "run.call", "{\"flow\":\"f\",\"input\":{}}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	house_call(h, child, 0, "run.call", "{\"flow\":\"f\",\"input\":{}}", "");
	grandchild = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	house_call(h, grandchild, 0, "test.lookup", "{\"value\":\"x\"}", "");
	house_call(h, grandchild, 1, "timer.sleep", "{\"ms\":90000000}", "");
	house_call(
		h, child, 1, "mail.send", "{\"subject\":\"s\",\"text\":\"t\",\"to\":\"a@example.org\"}", "");
	WHY(h, run, "\"limit\":");
	on_run(h, CORE_CMD_RUN_PAUSE, run);
	pass(h, HOUR);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 0)->run, grandchild);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 1)->run, child);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 2)->run, run);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 2)->outcome, CORE_FAILED);
	assert_non_null(strstr(house_act(h, CORE_ACT_RUN_ENDED, 0)->text, "timeout"));
	assert_non_null(house_act(h, CORE_ACT_GATE_CLOSED, 0));
	/* What was out is settled, and not sent again. */
	assert_true(info_of(h, grandchild).stopped);
	WHY(h, grandchild, "\"kind\":\"ended\"");
	house_result(h, grandchild, 0, 1, RETRY, "{\"code\":\"busy\"}");
	pass(h, HOUR);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	/* The start says another limit. */
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_START,
			    .name = BASE_STR("hour"),
			    .body = BASE_STR("{}"),
			    .params = BASE_STR("{\"timeout_ms\":5000}")});
	run = h->reply.id;
	pass(h, 5 * SECOND);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 0)->run, run);
}

/* A tree whose runs stand in every kind of wait: cancelled from the leaves to the root. */
static void test_deep_cancel(void **state)
{
	struct house *h = *state;
	uint64_t runs[CORE_DEPTH_MAX];
	unsigned n = 0;

	runs[n++] = house_start(h, "f", "{}");
	for (; n < CORE_DEPTH_MAX; n++) {
		house_call(h, runs[n - 1], 0, "run.call", "{\"flow\":\"f\",\"input\":{}}", "");
		runs[n] = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
		house_call(h, runs[n - 1], 1, "signal.wait", "{\"name\":\"go\"}", "");
		house_call(h, runs[n - 1], 2, "gate.ask", "{\"show\":1,\"title\":\"ok?\"}", "");
		if (n % 3 == 0)
			on_run(h, CORE_CMD_RUN_PAUSE, runs[n - 1]);
		if (n % 3 == 1)
			house_call(h, runs[n - 1], 0, "run.call", "{\"flow\":\"f\",\"input\":{\"other\":1}}",
				""); /* parks */
	}
	house_call(h, runs[n - 1], 0, "test.once", "{\"value\":\"z\"}", "");
	house_call(h, runs[n - 1], 1, "mail.send",
		"{\"subject\":\"s\",\"text\":\"t\",\"to\":\"a@example.org\"}", "");
	house_call(h, runs[n - 1], 2, "test.idempotent", "{\"value\":\"z\"}", "");
	house_result(h, runs[n - 1], 2, 1, RETRY, "{\"code\":\"busy\"}");
	on_run(h, CORE_CMD_RUN_CANCEL, runs[0]);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, i)->run, runs[n - 1 - i]);
	pass(h, HOUR);
	assert_int_equal(h->act_count, 0);
	house_result(h, runs[n - 1], 0, 1, DONE, "1"); /* the truth is still taken */
	assert_int_equal(h->reply.status, 200);
	for (unsigned i = 0; i < n; i++)
		assert_false(core_run_get(h->core, runs[i], &(struct core_run_info){0}));
}

static void test_why(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	struct base_buf b;

	house_do(h, (struct core_cmd){.type = CORE_CMD_FREEZE, .text = BASE_STR("stop")});
	house_call(h, run, 0, "test.once", "{\"value\":\"z\"}", "");
	WHY(h, run, "\"kind\":\"freeze\"", "aios thaw", "waits for 1 step");
	house_call(h, run, 0, "test.once", "{\"value\":\"other\"}", "");
	WHY(h, run, "\"kind\":\"parked\"", "diverged", "aios cancel");
	house_do(h, (struct core_cmd){.type = CORE_CMD_THAW});
	house_tick(h);
	WHY(h, run, "\"kind\":\"sent\"", "under way (attempt 1)");
	base_buf_init(&b, 1 << 16);
	assert_true(core_why_json(h->core, 999, h->now_ms, read_event, h, &b) < 0);
	base_buf_done(&b);
}

/* --- forks --- */

static void call_and_do(struct house *h, uint64_t run, uint32_t step, const char *args)
{
	house_call(h, run, step, "test.once", args, "");
	house_result(h, run, step, 1, DONE, "{\"n\":1}");
	assert_int_equal(h->reply.status, 200);
}

static void fork_run(
	struct house *h, uint64_t run, uint32_t from, const char *input, const char *params, const char *key)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_FORK,
			    .run = run,
			    .step = from,
			    .body = base_str_of(input),
			    .params = base_str_of(params),
			    .key = base_str_of(key)});
}

static struct core_run_started started_of(struct house *h, uint64_t run)
{
	struct core_run_started ev;
	struct core_record rec;

	assert_true(read_event(h, info_of(h, run).seq_started, &rec));
	assert_int_equal(core_run_started_get(rec.body, &ev), 0);
	return ev;
}

static void test_fork(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{\"a\":1,\"b\":2}"), fork, again;
	char key[128];

	call_and_do(h, run, 0, "{\"value\":\"x\"}");
	call_and_do(h, run, 1, "{\"value\":\"y\"}");
	house_call(h, run, 2, "test.once", "{\"value\":\"z\"}", "");
	snprintf(key, sizeof(key), "%s", house_act(h, CORE_ACT_DISPATCH, 0)->key);
	h->now_ms += HOUR;
	fork_run(h, run, 3, "", "", "");
	assert_int_equal(h->reply.status, 409); /* step 2 is under way */
	fork_run(h, run, 9, "", "", "");
	assert_int_equal(h->reply.status, 422);
	fork_run(h, 999, 0, "", "", "");
	assert_int_equal(h->reply.status, 404);
	fork_run(h, run, 2, "", "{\"set\":{\"b\":3}}", "k");
	assert_int_equal(h->reply.status, 201);
	fork = h->reply.id;
	assert_non_null(house_act(h, CORE_ACT_RUN_LOAD, 0));
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	assert_int_equal(info_of(h, fork).steps, 2);
	assert_int_equal(core_run_journal(h->core, fork, NULL, 0), 2);
	assert_true(base_str_is(started_of(h, fork).input.data, "{\"a\":1,\"b\":3}"));
	assert_true(base_str_eq(started_of(h, fork).seed, started_of(h, run).seed));
	assert_int_equal(started_of(h, fork).clock_ms, h->now_ms - HOUR);
	assert_int_equal(info_of(h, run).state, CORE_RUN_ACTIVE); /* the other goes on */
	/* Taken steps answer whatever is asked, if the action is the same. */
	house_call(h, fork, 0, "test.once", "{\"value\":\"other\"}", "");
	assert_int_equal(h->act_count, 0);
	/* What comes after is its own, with a key of its own. */
	house_call(h, fork, 2, "test.once", "{\"value\":\"z\"}", "");
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	assert_string_not_equal(house_act(h, CORE_ACT_DISPATCH, 0)->key, key);
	house_result(h, fork, 2, 1, DONE, "{\"n\":1}");
	/* The key stands for this fork, of this run, from this step. */
	fork_run(h, run, 2, "", "{\"set\":{\"b\":3}}", "k");
	assert_int_equal(h->reply.status, 200);
	assert_int_equal(h->reply.id, fork);
	fork_run(h, run, 1, "", "{\"set\":{\"b\":3}}", "k");
	assert_int_equal(h->reply.status, 409);
	fork_run(h, run, 2, "", "", "k");
	assert_int_equal(h->reply.status, 409);
	/* A fork of the fork: its own steps and those that it took over. */
	fork_run(h, fork, 3, "{\"c\":1}", "", "");
	assert_int_equal(h->reply.status, 201);
	again = h->reply.id;
	assert_int_equal(info_of(h, again).steps, 3);
	assert_int_equal(started_of(h, again).clock_ms, h->now_ms - HOUR);
	house_call(h, again, 1, "test.echo", "{\"value\":\"y\"}", ""); /* another action: it parks */
	assert_int_equal(info_of(h, again).state, CORE_RUN_PARKED);
	fork_run(h, run, 0, "", "{\"version\":\"nope\"}", "");
	assert_int_equal(h->reply.status, 422);
	fork_run(h, run, 0, "", "{\"version\":\"current\"}", "");
	assert_int_equal(h->reply.status, 201);
	fork_run(h, run, 0, "", "{\"version\":" VERSION_B "}", ""); /* of another flow */
	assert_int_equal(h->reply.status, 422);
}

/* An answer of a person that is taken over holds for what that person was shown, also in a fork of the fork. */
static void test_fork_keeps_what_was_shown(void **state)
{
	static const char shown[] = "{\"show\":{\"amount\":1},\"title\":\"pay?\"}",
			  other[] = "{\"show\":{\"amount\":1000},\"title\":\"pay?\"}";
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{\"amount\":1}"), fork;

	house_call(h, run, 0, "gate.ask", shown, "");
	house_gate(h, house_act(h, CORE_ACT_GATE, 0)->id, "approve", "");
	fork_run(h, run, 1, "{\"amount\":1}", "", "");
	fork = h->reply.id;
	house_call(h, fork, 0, "gate.ask", shown, "");
	assert_int_equal(info_of(h, fork).state, CORE_RUN_ACTIVE);
	fork_run(h, fork, 1, "{\"amount\":1000}", "", "");
	assert_int_equal(h->reply.status, 201);
	fork = h->reply.id;
	house_call(h, fork, 0, "gate.ask", other, "");
	assert_int_equal(info_of(h, fork).state, CORE_RUN_PARKED);
}

/* An agent's run, as the agent is now; with the limits that it had. */
static void test_fork_of_agent(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), agent;

	house_call(h, run, 0, "agent.run", "{\"agent\":\"a\",\"task\":\"t\"}", "");
	agent = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	house_call(h, agent, 0, "test.echo", "{\"n\":1}", "");
	house_result(h, agent, 0, 1, DONE, "1");
	fork_run(h, agent, 1, "", "{\"version\":\"current\"}", "");
	assert_int_equal(h->reply.status, 422);
	fork_run(h, agent, 1, "", "", "");
	assert_int_equal(h->reply.status, 201);
	assert_true(base_str_is(info_of(h, h->reply.id).as, "agent/a"));
	assert_true(base_str_eq(started_of(h, h->reply.id).grants, started_of(h, agent).grants));
	assert_int_equal(info_of(h, h->reply.id).parent, 0);
	house_call(h, h->reply.id, 1, "mail.send", "{}", ""); /* no tool of it */
	expect_problem(h, "invalid");
}

/* Limits of what has ended do not pile up until their time. */
static void test_many_limits(void **state)
{
	struct house *h = *state;
	uint64_t run;

	for (int i = 0; i < 10000; i++) {
		run = house_start(h, "hour", "{}");
		house_do(h, (struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = run});
	}
	assert_true(base_heap_count(h->core->timers) < 5000);
	run = house_start(h, "hour", "{}");
	pass(h, HOUR);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 0)->run, run);
}

/* A child that waits in the queue ends with its parent; a delayed run can be cancelled and forked, not paused. */
static void test_queued(void **state)
{
	struct house *h = *state;
	uint64_t first = house_start(h, "single", "{}"), run = house_start(h, "f", "{}"), child, fork;

	house_call(h, run, 0, "run.call", "{\"flow\":\"single\",\"input\":{}}", "{\"timeout\":60000}");
	child = info_of(h, run).run + 1;
	assert_int_equal(info_of(h, child).state, CORE_RUN_QUEUED);
	WHY(h, child, "\"kind\":\"queued\"", "1 of at most 1 runs", "the end of one");
	WHY(h, run, "\"kind\":\"child\"", "which is queued");
	on_run(h, CORE_CMD_RUN_PAUSE, child);
	assert_int_equal(h->reply.status, 409);
	fork_run(h, first, 0, "", "", "");
	fork = h->reply.id;
	assert_int_equal(info_of(h, fork).state, CORE_RUN_QUEUED);
	pass(h, MINUTE); /* the step's time limit */
	expect_problem(h, "timeout");
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 0)->run, child);
	/* A restart takes the place of the one that it ends, behind those that wait. */
	fork_run(h, first, 0, "", "{\"restart\":true}", "");
	assert_int_equal(h->reply.status, 201);
	assert_int_equal(info_of(h, h->reply.id).state, CORE_RUN_QUEUED);
	house_tick(h);
	assert_int_equal(info_of(h, fork).state, CORE_RUN_ACTIVE);
	on_run(h, CORE_CMD_RUN_CANCEL, fork);
	house_tick(h);
	assert_int_equal(info_of(h, fork + 1).state, CORE_RUN_ACTIVE);
}

/* The engine reads the journal of a run that the state has forgotten. */
static void test_fork_of_ended(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), seq;
	struct core_step_taken taken = {.run = run, .status = CORE_STEP_DONE, .klass = CORE_ONCE};
	struct core_cmd cmd = {.type = CORE_CMD_RUN_FORK, .run = run, .step = 2};
	struct base_buf block;

	seq = info_of(h, run).seq_started;
	call_and_do(h, run, 0, "{\"value\":\"x\"}");
	call_and_do(h, run, 1, "{\"value\":\"y\"}");
	house_do(h,
		(struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = run, .step = 2, .body = BASE_STR("7")});
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 409);
	base_buf_init(&block, 1 << 16);
	taken.action = BASE_STR("test.once");
	for (uint32_t i = 0; i < 2; i++) {
		taken.step = i;
		taken.seq = seq + 1 + 2 * i;
		taken.seq_end = taken.seq + 1;
		core_step_taken_emit(&block, 0, &taken);
	}
	cmd.base = (int64_t)seq;
	house_do(h, cmd); /* a step is missing */
	assert_int_equal(h->reply.status, 409);
	cmd.bytes = base_buf_view(&block);
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 201);
	assert_int_equal(info_of(h, h->reply.id).steps, 2);
	cmd.run = 999;
	house_do(h, cmd); /* not the run whose start stands there */
	assert_int_equal(h->reply.status, 404);
	base_buf_done(&block);
}

static void test_restart(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), again, child;

	call_and_do(h, run, 0, "{\"value\":\"x\"}");
	house_call(h, run, 1, "run.call", "{\"flow\":\"f\",\"input\":{}}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	fork_run(h, child, 0, "", "{\"restart\":true}", "");
	assert_int_equal(h->reply.status, 409); /* somebody waits for it */
	on_run(h, CORE_CMD_RUN_PAUSE, run);
	fork_run(h, run, 1, "", "{\"restart\":true}", "k");
	assert_int_equal(h->reply.status, 201);
	again = h->reply.id;
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 0)->run, child);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 1)->run, run);
	assert_int_equal(info_of(h, again).steps, 1);
	fork_run(h, run, 1, "", "{\"restart\":true}", "k");
	assert_int_equal(
		h->reply.status, 409); /* it has ended: the engine must read its journal, key or not */
}

/* 10,000 steps are one decision. */
static void test_fork_of_many(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	for (uint32_t i = 0; i < 10000; i++)
		house_call(h, run, i, "memory.put", "{\"key\":\"k\",\"value\":1}", "");
	fork_run(h, run, 10000, "", "", "");
	assert_int_equal(h->reply.status, 201);
	assert_int_equal(info_of(h, h->reply.id).steps, 10000);
}

/* --- chance: whatever is asked in whatever order, the invariants hold (house_do checks them), and all comes to an end --- */

static uint64_t chance(uint64_t *x, uint64_t below)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x % below;
}

static void random_call(struct house *h, uint64_t *x, uint64_t run)
{
	static const char *const calls[][2] = {{"test.once", "{\"value\":\"v\"}"},
		{"test.lookup", "{\"value\":\"v\"}"}, {"test.idempotent", "{\"value\":\"v\"}"},
		{"test.read", "{\"value\":\"v\"}"}, {"timer.sleep", "{\"ms\":700}"},
		{"signal.wait", "{\"name\":\"go\",\"timeout_ms\":900}"},
		{"run.call", "{\"flow\":\"f\",\"input\":{}}"},
		{"run.call", "{\"flow\":\"single\",\"input\":{}}"},
		{"gate.ask", "{\"show\":1,\"title\":\"ok?\"}"},
		{"mail.send", "{\"subject\":\"s\",\"text\":\"t\",\"to\":\"a@example.org\"}"},
		{"memory.put", "{\"key\":\"k\",\"value\":1}"}};
	static const char *const opts[] = {"", "", "{\"timeout\":500}", "{\"timeout\":1500}"};
	struct core_run_info info = info_of(h, run);
	size_t which = chance(x, sizeof(calls) / sizeof(calls[0]));

	if (info.state == CORE_RUN_ACTIVE && info.steps < 12)
		house_call(h, run, info.steps, calls[which][0], calls[which][1], opts[chance(x, 4)]);
}

static void random_result(struct house *h, uint64_t *x, uint64_t run)
{
	static const char *const values[] = {"1", "{\"code\":\"failed\"}", "{\"code\":\"busy\"}",
		"{\"code\":\"lost\"}", "{\"code\":\"not_found\"}"};
	uint32_t steps = info_of(h, run).steps, attempt = (uint32_t)chance(x, 3) + 1;
	unsigned outcome = (unsigned)chance(x, 5);

	if (steps)
		house_result(h, run, (uint32_t)chance(x, steps), attempt, outcome + 1, values[outcome]);
}

static void random_gate(struct house *h, uint64_t *x)
{
	static const char *const answers[] = {
		"approve", "deny", "happened", "send", "give_up", "resume", "cancel"};

	for (uint64_t gate = 1; gate < h->core->next_gate; gate++)
		if (core_gate_seq(h->core, gate) && chance(x, 3) == 0) {
			house_gate(h, gate, answers[chance(x, 7)], "");
			return;
		}
}

static void random_command(struct house *h, uint64_t *x)
{
	uint64_t run = 1 + chance(x, h->core->next_run);
	struct core_run_info info;

	if (!core_run_get(h->core, run, &info)) {
		if (chance(x, 4) == 0)
			(void)house_start(h, chance(x, 2) ? "f" : "hour", "{}");
		return;
	}
	switch (chance(x, 12)) {
	case 0:
		on_run(h, CORE_CMD_RUN_PAUSE, run);
		break;
	case 1:
		on_run(h, CORE_CMD_RUN_RESUME, run);
		break;
	case 2:
		if (chance(x, 4) == 0)
			on_run(h, CORE_CMD_RUN_CANCEL, run);
		break;
	case 3:
		fork_run(h, run, (uint32_t)chance(x, info.steps + 1), "",
			chance(x, 3) ? "" : "{\"restart\":true}", "");
		break;
	case 4:
		random_gate(h, x);
		break;
	case 5:
		pass(h, (int64_t)chance(x, 800));
		break;
	case 6:
		house_do(h, (struct core_cmd){.type = chance(x, 9) ? CORE_CMD_SIGNAL : CORE_CMD_START,
				    .run = run,
				    .name = BASE_STR("go"),
				    .body = BASE_STR("1"),
				    .text = BASE_STR("test")});
		break;
	case 7:
		house_do(h, (struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = run, .step = info.steps});
		break;
	case 8:
	case 9:
		random_result(h, x, run);
		break;
	default:
		random_call(h, x, run);
		break;
	}
}

static void test_chance(void **state)
{
	struct house *h = *state;
	uint64_t x = 0x9e3779b97f4a7c15u + h->entropy;
	struct core_run_info info;
	struct base_buf b;

	for (int i = 0; i < 6000; i++)
		random_command(h, &x);
	base_buf_init(&b, 1 << 24);
	for (uint64_t run = 1; run < h->core->next_run; run++) {
		if (core_run_get(h->core, run, &info))
			assert_int_equal(core_why_json(h->core, run, h->now_ms, read_event, h, &b), 0);
		base_buf_clear(&b);
	}
	base_buf_done(&b);
	/* Cancelled and answered, everything is over. */
	for (uint64_t run = h->core->next_run - 1; run > 0; run--)
		if (core_run_get(h->core, run, &info))
			on_run(h, CORE_CMD_RUN_CANCEL, run);
	for (int round = 0; round < 10; round++) {
		pass(h, HOUR);
		for (uint64_t run = 1; run < h->core->next_run; run++)
			for (uint32_t step = 0; core_run_get(h->core, run, &info) && step < info.steps;
				step++) {
				const struct core_step *s = &core_run_find(h->core, run)->step[step];

				if (s->status == CORE_STEP_SENT)
					house_result(h, run, step, s->open->effect->attempt, DONE, "1");
			}
		for (uint64_t gate = 1; gate < h->core->next_gate; gate++)
			if (core_gate_seq(h->core, gate))
				house_gate(h, gate, "deny", "");
	}
	assert_int_equal(base_idmap_count(h->core->runs), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pause, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_limits_of_waits, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_waited_for, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_limits_of_effects, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_limit_of_a_run, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_deep_cancel, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_fork, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_fork_of_agent, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_fork_keeps_what_was_shown, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_many_limits, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_queued, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_fork_of_ended, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_restart, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_fork_of_many, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_chance, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_why, set_up, house_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
