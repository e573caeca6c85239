/* Undo: what stands beside a step is done when the run is rolled back, the last begun first, once. After every
 * command the log is folded from zero and from a snapshot (a crash there would leave just that), and both must equal
 * the live state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/undo_int.h"
#include "house.h"

enum { DONE = 1, FAILED, RETRY, UNKNOWN, NOT_FOUND };

static const char deployment[] =
	"{\"flows\":[{\"name\":\"f\",\"version\":"
	"\"00000000000000000000000000000000000000000000000000000000000000aa\",\"modules\":{\"entry\":\"f\"},"
	"\"spec\":{},\"grants\":[\"test.*\",\"mail.send\",\"memory.*\",\"run.*\"]}],"
	"\"policy\":{\"rules\":[{\"on\":\"test.*\",\"then\":\"allow\"},"
	"{\"name\":\"ask\",\"on\":\"mail.send\",\"then\":\"gate\"},"
	"{\"name\":\"own\",\"on\":\"test.once\",\"when\":\"run.flow != \\\"f\\\"\",\"then\":\"deny\"}]}}";

static int set_up(void **state)
{
	return house_set_up(state, deployment);
}

/* An effect with its undo, done at once with a result that names it. */
static void effect(struct house *h, uint64_t run, uint32_t step, const char *action)
{
	char args[64], opts[200], result[64];

	snprintf(args, sizeof(args), "{\"value\":\"do %u\"}", step);
	snprintf(opts, sizeof(opts),
		"{\"undo\":{\"action\":\"%s\",\"args\":{\"value\":{\"$result\":\"/took\"}}}}", action);
	snprintf(result, sizeof(result), "{\"took\":\"undo %u of %llu\"}", step, (unsigned long long)run);
	house_call(h, run, step, action, args, opts);
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_result(h, run, step, 1, DONE, result);
	house_check(h);
}

static struct core_run_info info_of(const struct house *h, uint64_t run)
{
	struct core_run_info info = {0};

	(void)core_run_get(h->core, run, &info);
	return info;
}

static void tick(struct house *h)
{
	house_tick(h);
	house_check(h);
}

/* The undo that is asked for now must be that of `step`, with what its result said; it is answered. */
static void expect_undo(
	struct house *h, uint64_t undo, uint32_t undo_step, uint64_t run, uint32_t step, unsigned outcome)
{
	const struct house_act *a;
	char text[64];

	tick(h);
	a = house_act(h, CORE_ACT_DISPATCH, 0);
	assert_non_null(a);
	assert_int_equal(a->run, undo);
	assert_int_equal(a->step, undo_step);
	snprintf(text, sizeof(text), "{\"value\":\"undo %u of %llu\"}", step, (unsigned long long)run);
	assert_string_equal(a->text, text);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 1));
	house_result(h, undo, undo_step, 1, outcome,
		outcome == DONE ? "{}" : "{\"code\":\"no\",\"message\":\"no\"}");
	house_check(h);
}

static uint64_t roll_back(struct house *h, uint64_t run, const char *to)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_ROLLBACK,
			    .run = run,
			    .name = base_str_of(to),
			    .text = BASE_STR("why")});
	if (h->reply.status != 202)
		fail_msg("%s", h->reply_text);
	house_check(h);
	return h->reply.id;
}

/* What a child leaves is undone by its parent's rollback, which has the parent's grants: a child names only what it may do
 * itself. */
static void test_child_names_what_it_may_do(void **state)
{
	struct house *h = *state;
	uint64_t run, child;

	house_deploy(h, "{\"flows\":[{\"name\":\"g\",\"version\":"
			"\"00000000000000000000000000000000000000000000000000000000000000bb\",\"modules\":{"
			"\"entry\":\"g\"},"
			"\"spec\":{},\"grants\":[\"test.echo\"]}]}");
	run = house_start(h, "f", "{}");
	house_call(h, run, 0, "run.call", "{\"flow\":\"g\",\"input\":{}}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	house_call(h, child, 0, "test.echo", "{\"value\":1}",
		"{\"undo\":{\"action\":\"test.idempotent\",\"args\":{\"value\":\"as the parent\"}}}");
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	assert_true(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "no grant") != NULL);
	house_call(h, child, 1, "test.echo", "{\"value\":1}",
		"{\"undo\":{\"action\":\"test.echo\",\"args\":{\"value\":\"its own\"}}}");
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
}

static void test_form(void **state)
{
	static const char *const bad[] = {"{\"undo\":1}", "{\"undo\":{\"action\":\"no.such\"}}",
		"{\"undo\":{\"action\":\"test.once\",\"args\":[]}}",
		"{\"undo\":{\"action\":\"test.once\",\"more\":1}}",
		"{\"undo\":{\"action\":\"timer.sleep\",\"args\":{\"ms\":1}}}",
		"{\"undo\":{\"action\":\"memory.put\",\"args\":{\"key\":7}}}"};
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	const struct house_act *a;

	for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		house_call(h, run, i, "test.once", "{\"value\":1}", bad[i]);
		a = house_act(h, CORE_ACT_RESULT, 0);
		assert_true(a && !a->ok && strstr(a->text, "undo"));
	}
	house_call(h, run, 6, "test.once", "{\"value\":1}", "{\"undo\":null}");
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_call(h, run, 7, "run.checkpoint", "{\"name\":\"a\"}", "");
	assert_true(house_act(h, CORE_ACT_RESULT, 0)->ok);
	house_call(h, run, 8, "run.rollback", "{\"to\":\"b\"}", "");
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "unknown_checkpoint"));
}

/* A flow rolls back to a checkpoint: what is before it stays; the list of what was undone is the result. */
static void test_to_checkpoint(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), undo;
	const struct house_act *a;

	effect(h, run, 0, "test.once");
	house_call(h, run, 1, "run.checkpoint", "{\"name\":\"a\"}", "");
	effect(h, run, 2, "test.idempotent");
	house_call(h, run, 3, "memory.put", "{\"key\":\"k\",\"value\":1}",
		"{\"undo\":{\"action\":\"memory.put\",\"args\":{\"key\":\"k\",\"value\":{\"$result\":\"\"}}}"
		"}");
	effect(h, run, 4, "test.once");
	house_call(h, run, 5, "run.rollback", "{\"to\":\"a\"}", "");
	undo = run + 1;
	assert_null(house_act(h, CORE_ACT_RUN_LOAD, 0));
	house_check(h);
	house_call(h, run, 6, "run.rollback", "{}", ""); /* one at a time */
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "rolling_back"));
	expect_undo(h, undo, 0, run, 4, DONE);
	expect_undo(h, undo, 2, run, 2, DONE); /* 1 was memory.put, answered by the core itself */
	tick(h);
	a = house_act(h, CORE_ACT_RESULT, 0);
	assert_true(a && a->run == run && a->step == 5 && a->ok);
	assert_string_equal(a->text,
		"[{\"run\":1,\"step\":4,\"action\":\"test.once\",\"outcome\":\"undone\",\"undo\":\"test."
		"once\",\"undo_run\":2,"
		"\"undo_step\":0},{\"run\":1,\"step\":3,\"action\":\"memory.put\",\"outcome\":\"undone\","
		"\"undo\":"
		"\"memory.put\",\"undo_run\":2,\"undo_step\":1},{\"run\":1,\"step\":2,\"action\":\"test."
		"idempotent\","
		"\"outcome\":\"undone\",\"undo\":\"test.idempotent\",\"undo_run\":2,\"undo_step\":2}]");
	assert_int_equal(info_of(h, run).state, CORE_RUN_ACTIVE);
	/* A second rollback finds only what is before: nothing is undone twice. */
	house_call(h, run, 7, "run.rollback", "{}", "");
	expect_undo(h, undo + 1, 0, run, 0, DONE);
	tick(h);
	assert_true(house_act(h, CORE_ACT_RESULT, 0)->ok);
	house_call(h, run, 8, "run.rollback", "{}", "");
	tick(h);
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "[]");
}

/* A person does: the run ends; its children's steps are undone with it, in the order of start over the whole tree. */
static void test_by_person(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), child = run + 1, open = run + 2, undo;
	const struct house_act *a;

	effect(h, run, 0, "test.once");
	house_call(h, run, 1, "run.call", "{\"flow\":\"f\",\"input\":{}}", "");
	effect(h, child, 0, "test.once");
	effect(h, run, 2, "test.once");
	effect(h, child, 1, "test.once");
	house_do(h, (struct core_cmd){
			    .type = CORE_CMD_FLOW_DONE, .run = child, .step = 2, .body = BASE_STR("1")});
	house_check(h);
	house_call(h, run, 3, "run.call", "{\"flow\":\"f\",\"input\":{}}", "");
	effect(h, open, 0, "test.once"); /* this child has not ended */
	house_call(h, run, 4, "mail.send", "{\"subject\":\"s\",\"text\":\"t\",\"to\":\"a@b.c\"}",
		""); /* waits at a gate */
	undo = roll_back(h, run, "");
	a = house_act(h, CORE_ACT_RUN_ENDED, 0);
	assert_true(a && a->run == open && a->outcome == CORE_CANCELLED);
	assert_int_equal(info_of(h, run).state, CORE_RUN_UNDOING);
	house_call(h, run, 5, "test.once", "{\"value\":1}", "");
	assert_int_equal(h->reply.status, 409);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_ROLLBACK, .run = run});
	assert_int_equal(h->reply.status, 409);
	expect_undo(h, undo, 0, open, 0, DONE);
	expect_undo(h, undo, 1, child, 1, DONE);
	expect_undo(h, undo, 2, run, 2, DONE);
	expect_undo(h, undo, 3, child, 0, DONE);
	expect_undo(h, undo, 4, run, 0, DONE);
	tick(h);
	a = house_act(h, CORE_ACT_RUN_ENDED, 0);
	assert_true(a && a->run == undo && a->outcome == CORE_DONE);
	a = house_act(h, CORE_ACT_RUN_ENDED, 1);
	assert_true(a && a->run == run && a->outcome == CORE_CANCELLED);
	assert_non_null(strstr(a->text, "\"code\":\"rolled_back\""));
	assert_non_null(strstr(a->text, "why (5 undone)"));
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_ROLLBACK, .run = run});
	assert_int_equal(h->reply.status, 409);
}

/* An undo that fails parks the rollback with what is left; it is tried again, skipped, or all is left. */
static void test_failing_undo(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), undo, gate;
	const struct house_act *a;

	for (uint32_t i = 0; i < 4; i++)
		effect(h, run, i, "test.once");
	undo = roll_back(h, run, "");
	expect_undo(h, undo, 0, run, 3, FAILED);
	a = house_act(h, CORE_ACT_GATE, 0);
	assert_non_null(a);
	gate = a->id;
	assert_int_equal(info_of(h, undo).state, CORE_RUN_PARKED);
	tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_gate(h, gate, "approve", ""); /* try again */
	house_check(h);
	expect_undo(h, undo, 1, run, 3, DONE);
	expect_undo(h, undo, 2, run, 2, FAILED);
	house_gate(h, house_act(h, CORE_ACT_GATE, 0)->id, "skip", "");
	house_check(h);
	expect_undo(h, undo, 3, run, 1, FAILED);
	house_gate(h, house_act(h, CORE_ACT_GATE, 0)->id, "give_up", "");
	a = house_act(h, CORE_ACT_RUN_ENDED, 1);
	assert_true(a && a->run == run);
	assert_non_null(strstr(a->text, "(1 undone, 1 given up, 2 left as they are)"));
}

/* An effect in doubt holds the rollback until somebody says what became of it. */
static void test_doubt_holds(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), undo, gate;
	const struct house_act *a;

	effect(h, run, 0, "test.once");
	house_call(h, run, 1, "test.once", "{\"value\":1}",
		"{\"undo\":{\"action\":\"test.once\",\"args\":{\"value\":{\"$result\":\"/took\"}}}}");
	house_call(h, run, 2, "test.once", "{\"value\":2}", /* in flight */
		"{\"undo\":{\"action\":\"test.once\",\"args\":{\"value\":{\"$result\":\"/took\"}}}}");
	house_result(h, run, 1, 1, UNKNOWN, "{}");
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	undo = roll_back(h, run, "");
	assert_non_null(strstr(h->reply_text, "\"waits_for\":[{\"run\":1,\"step\":2"));
	tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_result(h, run, 2, 1, FAILED, "{}"); /* it did not happen: nothing to undo */
	tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_gate(h, gate, "happened", "{\"took\":\"undo 1 of 1\"}");
	house_check(h);
	expect_undo(h, undo, 0, run, 1, DONE);
	expect_undo(h, undo, 1, run, 0, DONE);
	tick(h);
	a = house_act(h, CORE_ACT_RUN_ENDED, 1);
	assert_true(a && a->run == run);
}

/* What may have happened and would be tried again is not, when its run is rolled back: somebody is asked. */
static void test_uncertain_retry(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), undo, gate;

	house_call(h, run, 0, "test.idempotent", "{\"value\":1}",
		"{\"undo\":{\"action\":\"test.once\",\"args\":{\"value\":{\"$result\":\"/took\"}}}}");
	house_result(h, run, 0, 1, UNKNOWN, "{}");
	undo = roll_back(h, run, "");
	h->now_ms += 600000;
	tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	house_gate(h, gate, "happened", "{\"took\":\"undo 0 of 1\"}");
	expect_undo(h, undo, 0, run, 0, DONE);
	tick(h);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 1)->run, run);
}

/* An undo is judged like any call: as the flow, by the rules of now; no approval carries over. */
static void test_judged(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), undo, gate, approval;
	const char *mail = "{\"subject\":\"s\",\"text\":\"t\",\"to\":\"a@b.c\"}";

	house_call(h, run, 0, "gate.ask",
		"{\"allows\":{\"action\":\"mail.send\",\"count\":5,\"fixed\":[\"text\"]},\"show\":\"t\","
		"\"title\":\"m\"}",
		"");
	approval = house_act(h, CORE_ACT_GATE, 0)->id;
	house_gate(h, approval, "approve", "");
	house_call(h, run, 1, "mail.send", mail,
		"{\"approval\":1,\"undo\":{\"action\":\"mail.send\",\"args\":{\"subject\":\"sorry\",\"text\":"
		"\"t\",\"to\":\"a@b.c\"}}}");
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_result(h, run, 1, 1, DONE, "{}");
	undo = roll_back(h, run, "");
	tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	assert_int_not_equal(gate, approval);
	house_gate(h, gate, "deny", ""); /* the undo is refused: the rollback asks what now */
	house_check(h);
	assert_int_equal(info_of(h, undo).state, CORE_RUN_PARKED);
	house_gate(h, house_act(h, CORE_ACT_GATE, 0)->id, "retry", "");
	tick(h);
	house_gate(h, house_act(h, CORE_ACT_GATE, 0)->id, "approve", "");
	tick(h);
	assert_string_equal(house_act(h, CORE_ACT_DISPATCH, 0)->action, "mail.send");
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->run, undo);
	house_result(h, undo, 1, 1, DONE, "{}");
	tick(h);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 1)->run, run);
}

/* An undo without an answer is in doubt like every effect, also over a restart; it is not sent twice. */
static void test_undo_in_doubt(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), undo, gate;

	effect(h, run, 0, "test.once");
	effect(h, run, 1, "test.idempotent");
	undo = roll_back(h, run, "");
	tick(h);
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("again")});
	h->now_ms += 1000;
	tick(h); /* idempotent: sent again with the same key */
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->attempt, 2);
	house_result(h, undo, 0, 2, DONE, "{}");
	tick(h);
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->step, 1);
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("and again")});
	house_check(h);
	gate = house_act(h, CORE_ACT_GATE, 0)->id; /* once: a person is asked */
	h->now_ms += 1000000;
	tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_gate(h, gate, "happened", "{}");
	tick(h);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 1)->run, run);
}

/* Cancelled in the middle: what was undone stays so, what is at work goes on, and nothing begins. */
static void test_cancelled(void **state)
{
	struct house *h = *state;
	uint64_t parent = house_start(h, "f", "{}"), run = parent + 1, undo = run + 1, second;

	house_call(h, parent, 0, "run.call", "{\"flow\":\"f\",\"input\":{}}", "");
	for (uint32_t i = 0; i < 3; i++)
		effect(h, run, i, "test.once");
	house_call(h, run, 3, "run.rollback", "{}", "");
	expect_undo(h, undo, 0, run, 2, DONE);
	tick(h);
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->step, 1); /* that of 1 is under way */
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = run});
	assert_int_equal(h->reply.status, 200);
	house_check(h);
	/* Its parent is rolled back: 2 was undone, 1 is waited for, 0 is left. */
	house_call(h, parent, 1, "run.rollback", "{}", "");
	second = undo + 1;
	tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_result(h, undo, 1, 1, DONE, "{}");
	house_check(h);
	expect_undo(h, second, 0, run, 0, DONE);
	tick(h);
	assert_int_equal(house_act(h, CORE_ACT_RESULT, 0)->run, parent);
}

/* cancel with undo; and a cancel of that. */
static void test_cancel_with_undo(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), undo;

	effect(h, run, 0, "test.once");
	effect(h, run, 1, "test.once");
	house_do(h, (struct core_cmd){
			    .type = CORE_CMD_RUN_CANCEL, .run = run, .params = BASE_STR("{\"undo\":true}")});
	assert_int_equal(h->reply.status, 202);
	undo = h->reply.id;
	expect_undo(h, undo, 0, run, 1, DONE);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = undo});
	house_check(h);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 0)->run, undo);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 1)->run, run);
	assert_non_null(strstr(house_act(h, CORE_ACT_RUN_ENDED, 1)->text, "1 left"));
	/* A run that is being undone can be cancelled outright. */
	run = house_start(h, "f", "{}");
	effect(h, run, 0, "test.once");
	undo = roll_back(h, run, "");
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = run});
	house_check(h);
	tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	assert_int_equal(info_of(h, undo).state, 0);
}

/* What a flow's rollback finds not yet sent is not sent; a dry run shows and does nothing. */
static void test_not_sent_and_dry(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	const struct house_act *a;

	house_call(h, run, 0, "mail.send", "{\"subject\":\"s\",\"text\":\"t\",\"to\":\"a@b.c\"}", "");
	assert_non_null(house_act(h, CORE_ACT_GATE, 0));
	house_call(h, run, 1, "run.rollback", "{}", "");
	a = house_act(h, CORE_ACT_RESULT, 0);
	assert_true(a && a->step == 0 && !a->ok && strstr(a->text, "rolled_back"));
	assert_non_null(house_act(h, CORE_ACT_GATE_CLOSED, 0));
	tick(h);
	assert_true(house_act(h, CORE_ACT_RESULT, 0)->ok);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_START,
			    .name = BASE_STR("f"),
			    .body = BASE_STR("{}"),
			    .params = BASE_STR("{\"dry\":true}")});
	run = h->reply.id;
	house_call(h, run, 0, "test.once", "{\"value\":1}",
		"{\"undo\":{\"action\":\"test.once\",\"args\":{\"value\":{\"$result\":\"/x\"}}}}");
	house_call(h, run, 1, "run.rollback", "{}", "");
	tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "\"outcome\":\"undone\""));
}

/* A result that lacks what the undo needs: the rollback parks, nothing is sent. */
static void test_nothing_there(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), undo;

	house_call(h, run, 0, "test.once", "{\"value\":1}",
		"{\"undo\":{\"action\":\"test.once\",\"args\":{\"value\":{\"$result\":\"/a~1b/1\"}}}}");
	house_result(h, run, 0, 1, DONE, "{\"a/b\":[1]}");
	undo = roll_back(h, run, "");
	tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	assert_int_equal(info_of(h, undo).state, CORE_RUN_PARKED);
	house_gate(h, house_act(h, CORE_ACT_GATE, 0)->id, "skip", "");
	tick(h);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 1)->run, run);
}

/* What was dropped when the run was taken back has no end of its own: no fork can take it over. */
static void test_fork_meanwhile(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "timer.sleep", "{\"ms\":100000}", "");
	(void)roll_back(h, run, "");
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_FORK, .run = run, .step = 1});
	assert_int_equal(h->reply.status, 409);
	house_check(h);
}

/* With restart a new run takes over what is before the checkpoint, its undos and checkpoints among it. */
static void test_restart(void **state)
{
	struct house *h = *state;
	struct core_cmd cmd = {.type = CORE_CMD_RUN_ROLLBACK,
		.name = BASE_STR("a"),
		.params = BASE_STR("{\"restart\":true}")};
	uint64_t run = house_start(h, "f", "{}"), undo, next;
	const struct house_act *a;

	house_call(h, run, 0, "timer.sleep", "{\"ms\":100000}", "");
	effect(h, run, 1, "test.once");
	house_call(h, run, 2, "run.checkpoint", "{\"name\":\"a\"}", "");
	effect(h, run, 3, "test.once");
	cmd.run = run;
	house_do(h, cmd); /* a step from before the checkpoint is open */
	assert_int_equal(h->reply.status, 409);
	h->now_ms += 100000;
	tick(h);
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 202);
	undo = h->reply.id;
	house_check(h);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_FORK,
			    .run = run,
			    .step = 1,
			    .params = BASE_STR("{\"restart\":true}")});
	assert_int_equal(h->reply.status, 409); /* not while it is being undone */
	expect_undo(h, undo, 0, run, 3, DONE);
	tick(h);
	next = undo + 1;
	a = house_act(h, CORE_ACT_RUN_ENDED, 1);
	assert_true(a && a->run == run && strstr(a->text, "\"restarted_as\":3"));
	assert_int_equal(house_act(h, CORE_ACT_RUN_LOAD, 0)->run, next);
	assert_int_equal(info_of(h, next).steps, 3);
	effect(h, next, 3, "test.once");
	undo = roll_back(h, next, "a"); /* the checkpoint came along */
	expect_undo(h, undo, 0, next, 3, DONE);
	tick(h);
	assert_int_equal(house_act(h, CORE_ACT_RUN_ENDED, 1)->run, next);
	/* What is before it is undone by a rollback of everything, once. */
	run = house_start(h, "f", "{}");
	effect(h, run, 0, "test.once");
	house_call(h, run, 1, "run.checkpoint", "{\"name\":\"a\"}", "");
	cmd.run = run;
	house_do(h, cmd);
	tick(h);
	next = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	house_call(h, next, 2, "run.rollback", "{}", "");
	expect_undo(h, next + 1, 0, run, 0, DONE);
	tick(h);
	assert_true(house_act(h, CORE_ACT_RESULT, 0)->ok);
}

/* Restored from a backup: a rollback is a person's word that the run may be touched; what may have happened, the undos
 * of the lost time among it, is asked about. */
static void test_restored(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), undo;
	const struct house_act *a;
	unsigned undos = 0;

	effect(h, run, 0, "test.once");
	house_call(h, run, 1, "test.lookup", "{\"value\":1}",
		"{\"undo\":{\"action\":\"test.once\",\"args\":{\"value\":{\"$result\":\"/took\"}}}}");
	h->now_ms += 3600000;
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test"), .base = 1});
	assert_int_equal(info_of(h, run).state, CORE_RUN_PARKED);
	undo = roll_back(h, run, "");
	tick(h);
	a = house_act(h, CORE_ACT_DISPATCH, 0);
	assert_true(a && a->run == run && a->step == 1 && a->mode == 1); /* the outside is asked */
	house_result(h, run, 1, a->attempt, DONE, "{\"took\":\"undo 1 of 1\"}");
	for (int i = 0; i < 20 && info_of(h, run).state == CORE_RUN_UNDOING; i++) {
		uint64_t last = h->core->next_gate - 1;
		const struct core_gate *g = core_gate_find(h->core, last);

		tick(h);
		a = house_act(h, CORE_ACT_DISPATCH, 0);
		if (a) {
			assert_int_equal(a->run, undo);
			house_result(h, undo, a->step, a->attempt, DONE, "{}");
			undos++;
		} else if (g && !g->decided) {
			assert_true(base_str_is(g->kind, "doubt"));
			house_gate(h, last, "send", "");
		}
	}
	assert_int_equal(info_of(h, run).state, 0);
	assert_int_equal(undos, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_form, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_child_names_what_it_may_do, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_to_checkpoint, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_by_person, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_failing_undo, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_doubt_holds, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_uncertain_retry, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_judged, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_undo_in_doubt, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_cancelled, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_cancel_with_undo, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_not_sent_and_dry, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_nothing_there, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_fork_meanwhile, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_restart, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_restored, set_up, house_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
