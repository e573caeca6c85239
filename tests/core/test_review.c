/* What must not be possible: approvals by the wrong answer or by time, work for a parent that is gone, money
 * that nobody counts, a repeat under a class that a setting changed, texts that end the process. After each
 * test the log is folded from zero and from a snapshot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/core_int.h"
#include "house.h"

enum { DONE = 1, FAILED, RETRY, UNKNOWN, NOT_FOUND };

#define CONFIG(transport)                                                                                    \
	"\"config\":{\"mail\":{\"transport\":\"" transport                                                   \
	"\"},\"models\":{\"tiers\":{\"draft\":[\"big/one\"]},"                                               \
	"\"prices\":{\"big/one\":{\"input\":\"0 USD\",\"output\":\"100 USD\"}}}}"

static const char deployment[] =
	"{\"flows\":[{\"name\":\"f\",\"version\":"
	"\"00000000000000000000000000000000000000000000000000000000000000aa\",\"modules\":{\"entry\":\"f\"},"
	"\"spec\":{\"budget\":{\"run\":\"1 USD\",\"month\":\"1 USD\"}},"
	"\"grants\":[\"test.*\",\"mail.send\",\"file.write\",\"memory.*\",\"run.*\",\"agent.run\",\"model."
	"generate\"]},"
	"{\"name\":\"g\",\"version\":"
	"\"00000000000000000000000000000000000000000000000000000000000000bb\",\"modules\":{\"entry\":\"g\"},"
	"\"spec\":{},\"grants\":[\"test.*\"]}],"
	"\"agents\":[{\"name\":\"a\",\"definition\":{\"tools\":[\"test.*\",\"agent.run\"]}}]," CONFIG(
		"maildir") ","
			   "\"policy\":{\"rules\":[{\"on\":\"test.*\",\"then\":\"allow\"},{\"on\":\"model.*"
			   "\",\"then\":\"allow\"},"
			   "{\"on\":\"mail.send\",\"then\":\"allow\"},{\"on\":\"file.write\",\"then\":"
			   "\"gate\"}]}}";

static int set_up(void **state)
{
	return house_set_up(state, deployment);
}

static void expect_problem(const struct house *h, const char *code)
{
	const struct house_act *a = house_act(h, CORE_ACT_RESULT, 0);
	char want[80] = "{\"code\":\"";

	assert_non_null(a);
	assert_false(a->ok);
	strcat(strcat(want, code), "\"");
	assert_memory_equal(a->text, want, strlen(want));
}

static void decide_as(struct house *h, const char *who, uint64_t gate, const char *answer, const char *value)
{
	struct core_gate *g = core_gate_find(h->core, gate);

	assert_non_null(g);
	house_do(h, (struct core_cmd){.type = CORE_CMD_GATE_DECIDE,
			    .by = {.id = base_str_of(who)},
			    .id = gate,
			    .name = base_str_of(answer),
			    .body = base_str_of(value),
			    .hash = g->shown});
}

static const char ask[] = "{\"allows\":{\"action\":\"file.write\",\"count\":2,\"fixed\":[\"text\"]},\"edit\":"
			  "true,\"expires_ms\":1000,"
			  "\"on_expiry\":\"approve\",\"show\":{\"text\":\"A\"},\"title\":\"t\"}";

/* Each kind of gate takes its own answers; none of the others lets anything through. */
static void test_answers_fit(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate;
	static const char *const wrong[] = {"send", "happened", "resume", "cancel", "give_up", "yes"};

	house_call(h, run, 0, "gate.ask", ask, "");
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		house_gate(h, gate, wrong[i], "");
		assert_int_equal(h->reply.status, 422);
	}
	house_gate(h, gate, "edit", ""); /* an edit without a value would fix nothing */
	assert_int_equal(h->reply.status, 422);
	house_call(h, run, 1, "file.write", "{\"path\":\"x\",\"text\":\"A\"}", "");
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	house_gate(h, gate, "send", "");
	assert_int_equal(h->reply.status, 422);
	house_gate(h, gate, "edit", "1");
	assert_int_equal(h->reply.status, 422);
	house_gate(h, gate, "deny", "");
	assert_int_equal(h->reply.status, 200);
}

/* Time may let a flow go on. It approves nothing that policy wants a person for. */
static void test_time_approves_no_calls(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "gate.ask", ask, "");
	h->now_ms += 2000;
	house_tick(h);
	assert_non_null(house_act(h, CORE_ACT_RESULT, 0));
	house_call(h, run, 1, "file.write", "{\"path\":\"x\",\"text\":\"A\"}", "{\"approval\":1}");
	expect_problem(h, "no_approval");
}

/* Whoever set the first run going does not decide what its children ask. */
static void test_starter_of_the_line(void **state)
{
	struct house *h = *state;
	uint64_t run, child, gate;

	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_START,
			    .name = BASE_STR("f"),
			    .by = {.id = BASE_STR("key/ci")},
			    .body = BASE_STR("{}")});
	run = h->reply.id;
	house_call(h, run, 0, "run.call", "{\"flow\":\"f\",\"input\":{}}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	house_call(h, child, 0, "file.write", "{\"path\":\"x\",\"text\":\"A\"}", "");
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	decide_as(h, "key/ci", gate, "approve", "");
	assert_int_equal(h->reply.status, 403);
	house_call(h, run, 1, "run.start", "{\"flow\":\"f\",\"input\":{}}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	house_call(h, child, 0, "file.write", "{\"path\":\"x\",\"text\":\"A\"}", "");
	decide_as(h, "key/ci", house_act(h, CORE_ACT_GATE, 0)->id, "approve", "");
	assert_int_equal(h->reply.status, 403);
	/* Nobody is named: the operator alone. */
	decide_as(h, "key/other", gate, "approve", "");
	assert_int_equal(h->reply.status, 403);
	decide_as(h, "operator", gate, "approve", "");
	assert_int_equal(h->reply.status, 200);
}

static void finish(struct house *h, uint64_t run, uint32_t steps)
{
	house_do(h, (struct core_cmd){
			    .type = CORE_CMD_FLOW_DONE, .run = run, .step = steps, .body = BASE_STR("1")});
}

/* A parent that ends takes with it those that it waited for. */
static void test_no_orphans(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), child;
	struct core_run_info info;

	house_call(h, run, 0, "agent.run", "{\"agent\":\"a\",\"task\":\"t\"}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	finish(h, run, 1);
	assert_false(core_run_get(h->core, child, &info));
	assert_false(core_run_get(h->core, run, &info));
	house_call(h, child, 0, "test.once", "{\"value\":1}", "");
	assert_int_equal(h->reply.status, 409);
}

static const char prompt[] =
	"{\"max_tokens\":4000,\"messages\":[{\"content\":\"x\",\"role\":\"user\"}],\"tier\":\"draft\"}";

/* What an agent has under way when its flow is gone is still the flow's money. */
static void test_money_of_the_gone(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), child;
	struct core_flow *f;

	house_call(h, run, 0, "agent.run", "{\"agent\":\"a\",\"task\":\"t\"}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	house_call(h, child, 0, "model.generate", prompt, "");
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = run});
	f = base_names_get(h->core->flows, BASE_STR("f"));
	assert_true(f->reserved > 0);
	house_do(h, (struct core_cmd){.type = CORE_CMD_EFFECT_RESULT,
			    .run = child,
			    .step = 0,
			    .attempt = 1,
			    .outcome = DONE,
			    .body = BASE_STR("{}"),
			    .params = BASE_STR("{\"cost_nusd\":300000000}")});
	assert_int_equal(f->reserved, 0);
	assert_int_equal(f->meter.spent, 300000000);
}

/* One yes covers what it was shown to cost, not every later attempt. */
static void test_overrun_is_used_up(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate;
	static const char dear[] =
		"{\"max_tokens\":20000,\"messages\":[{\"content\":\"x\",\"role\":\"user\"}],"
		"\"tier\":\"draft\"}";

	house_call(h, run, 0, "model.generate", dear, "");
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	house_gate(h, gate, "approve", "");
	house_tick(h);
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	/* A stream that broke off without a word about its cost. */
	house_do(h, (struct core_cmd){.type = CORE_CMD_EFFECT_RESULT,
			    .run = run,
			    .attempt = 1,
			    .outcome = UNKNOWN,
			    .body = BASE_STR("{\"code\":\"broken\"}"),
			    .params = BASE_STR("{\"model\":\"one\"}")});
	assert_true(core_run_find(h->core, run)->spent >= 2000000000);
	h->now_ms += 600000;
	house_tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	assert_non_null(house_act(h, CORE_ACT_GATE, 0));
}

static const char mail[] = "{\"subject\":\"s\",\"text\":\"t\",\"to\":\"a@example.org\"}";

/* Sent as a file that can be written twice; the transport is changed to one that cannot. */
static void test_class_changes(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate;

	house_call(h, run, 0, "mail.send", mail, "");
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_result(h, run, 0, 1, UNKNOWN, "{\"code\":\"lost\"}");
	assert_null(house_act(h, CORE_ACT_GATE, 0));
	house_deploy(h, "{" CONFIG("smtp") "}");
	h->now_ms += 600000;
	house_tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	house_gate(h, gate, "send", "");
	house_tick(h);
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_result(h, run, 0, 2, UNKNOWN, "{\"code\":\"lost\"}"); /* now it happens once */
	assert_non_null(house_act(h, CORE_ACT_GATE, 0));
	assert_int_equal(core_run_find(h->core, run)->step[0].status, CORE_STEP_DOUBT);
}

/* Held while nothing had been sent: it goes out under the class of the day. */
static void test_class_of_the_release(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_do(h, (struct core_cmd){.type = CORE_CMD_FREEZE});
	house_call(h, run, 0, "mail.send", mail, "");
	house_deploy(h, "{" CONFIG("smtp") "}");
	house_do(h, (struct core_cmd){.type = CORE_CMD_THAW});
	house_tick(h);
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_result(h, run, 0, 1, UNKNOWN, "{\"code\":\"lost\"}");
	assert_int_equal(core_run_find(h->core, run)->step[0].status, CORE_STEP_DOUBT);
}

/* After a restart, too, the outside gets its time before it is asked. */
static void test_restart_waits_before_it_asks(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "test.lookup", "{\"value\":\"x\"}", "");
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test")});
	house_tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	h->now_ms += 200;
	house_tick(h);
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->mode, 1);
}

/* A person who is asked about what a cancelled run may have sent sees what it was; after a restart too. */
static void test_doubt_of_a_cancelled_run_shows_its_arguments(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	const struct house_act *gate;
	struct base_str log;

	house_call(h, run, 0, "test.idempotent", "{\"value\":\"what it was\"}", "");
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = run});
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test")});
	gate = house_act(h, CORE_ACT_GATE, 0);
	assert_non_null(gate);
	log = base_buf_view(&h->log);
	assert_non_null(memmem(log.ptr + h->at[gate->seq], log.len - h->at[gate->seq], "what it was", 11));
}

/* "Not found" to a call that asked nothing is no licence to send it again and again. */
static void test_not_found_out_of_turn(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "test.once", "{\"value\":\"x\"}", "");
	house_result(h, run, 0, 1, NOT_FOUND, "null");
	assert_int_equal(core_run_find(h->core, run)->step[0].status, CORE_STEP_DOUBT);
}

/* What is only tried does not stand in the way of the real thing. */
static void test_dry_runs_use_up_nothing(void **state)
{
	struct house *h = *state;
	struct core_cmd cmd = {.type = CORE_CMD_RUN_START,
		.name = BASE_STR("f"),
		.key = BASE_STR("k"),
		.params = BASE_STR("{\"dry\":true}"),
		.body = BASE_STR("{}")};
	uint64_t dry;

	house_do(h, cmd);
	dry = h->reply.id;
	house_call(h, dry, 0, "experiment.choose", "{\"arms\":[1,2],\"mode\":\"even\",\"name\":\"x\"}",
		"{\"customer\":\"c\"}");
	assert_null(base_names_get(h->core->experiments, BASE_STR("x")));
	house_call(h, dry, 1, "run.start", "{\"flow\":\"f\",\"input\":{},\"key\":\"n\"}", "");
	cmd.params = BASE_STR_NONE;
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 201);
	house_call(h, h->reply.id, 0, "run.start", "{\"flow\":\"f\",\"input\":{},\"key\":\"n\"}", "");
	assert_non_null(house_act(h, CORE_ACT_RUN_LOAD, 0));
	cmd.name = BASE_STR("g"); /* the same key for another flow is another run */
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 201);
}

static char *long_text(size_t n, char c)
{
	char *s = malloc(n + 1);

	assert_non_null(s);
	memset(s, c, n);
	s[n] = '\0';
	return s;
}

/* Long names in messages end no process. */
static void test_long_texts(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate;
	char *name = long_text(65000, '\x01'), *opts = long_text((3 << 20) + 10, 'k');

	house_call(h, run, 0, name, "{}", "");
	expect_problem(h, "unknown_action");
	memcpy(opts, "{\"key\":\"", 8);
	memcpy(opts + (3 << 20) + 8, "\"}", 2);
	house_call(h, run, 1, "test.once", "{\"value\":1}", opts);
	expect_problem(h, "invalid");
	house_call(h, run, 2, "test.once", "{\"value\":1}", "");
	house_result(h, run, 2, 1, UNKNOWN, opts); /* neither JSON nor short */
	gate = house_act(h, CORE_ACT_GATE, 0)->id;
	house_do(h, (struct core_cmd){.type = CORE_CMD_GATE_DECIDE,
			    .id = gate,
			    .name = BASE_STR("give_up"),
			    .text = base_str_of(name),
			    .hash = core_gate_find(h->core, gate)->shown});
	assert_int_equal(h->reply.status, 200);
	free(name);
	free(opts);
}

/* A run that calls itself comes to an end. */
static void test_depth(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), first = run;
	unsigned depth = 1;

	for (;; depth++) {
		house_call(h, run, 0, "agent.run", "{\"agent\":\"a\",\"task\":\"t\"}", "");
		if (!house_act(h, CORE_ACT_RUN_LOAD, 0))
			break;
		run = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
		assert_true(depth < 100);
	}
	expect_problem(h, "too_deep");
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = first});
	assert_int_equal(h->reply.status, 200);
	assert_int_equal(base_idmap_count(h->core->runs), 0);
}

/* A flow that ends before it has asked for what is recorded went another way. */
static void test_ends_short(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	struct core_run_info info;

	house_call(h, run, 0, "test.once", "{\"value\":1}", "");
	house_result(h, run, 0, 1, DONE, "1");
	finish(h, run, 0);
	assert_true(core_run_get(h->core, run, &info));
	assert_int_equal(info.state, CORE_RUN_PARKED);
	house_call(h, run, 1, "test.once", "{\"value\":1}", "");
	assert_int_equal(h->reply.status, 409);
	house_gate(h, 1, "deny", "");
	assert_false(core_run_get(h->core, run, &info));
}

/* Giving up a parked run ends its children. */
static void test_parked_children(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), child;
	struct core_run_info info;

	house_call(h, run, 0, "run.call", "{\"flow\":\"g\",\"input\":{}}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	finish(h, run, 0);
	assert_true(core_run_get(h->core, child, &info));
	house_gate(h, 1, "give_up", "");
	assert_int_equal(h->reply.status, 200);
	assert_false(core_run_get(h->core, child, &info));
}

static void test_signals_are_capped(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	struct core_cmd cmd = {.type = CORE_CMD_SIGNAL, .run = run, .name = BASE_STR("s")};

	for (int i = 0; i < CORE_SIGNALS_MAX; i++) {
		house_do(h, cmd);
		assert_int_equal(h->reply.status, 202);
	}
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 429);
}

/* What an agent's file says that a run of it may cost is the most that it costs. */
static void test_budget_of_an_agent(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), child;

	house_deploy(h, "{\"agents\":[{\"name\":\"a\",\"definition\":{\"budget\":\"0.10 USD\"}},"
			"{\"name\":\"b\",\"definition\":{\"budget\":{\"run\":\"0.20 USD\"}}}]}");
	house_call(h, run, 0, "agent.run", "{\"agent\":\"a\",\"task\":\"t\"}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	house_call(h, child, 0, "model.generate", prompt, "");
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	assert_non_null(house_act(h, CORE_ACT_GATE, 0));
	house_call(h, run, 1, "agent.run", "{\"agent\":\"b\",\"task\":\"t\"}", "");
	assert_int_equal(core_run_find(h->core, house_act(h, CORE_ACT_RUN_LOAD, 0)->run)->budget, 200000000);
}

/* What was under way when its run was cancelled is never sent again. */
static void test_cancelled_is_not_sent_again(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	struct core_run_info info;

	house_call(h, run, 0, "test.once", "{\"value\":1}", "");
	house_call(h, run, 1, "test.idempotent", "{\"value\":1}", "");
	house_call(h, run, 2, "test.lookup", "{\"value\":1}", "");
	house_call(h, run, 3, "test.read", "{\"value\":1}", "");
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = run});
	house_result(h, run, 0, 1, RETRY, "{\"code\":\"status\"}");
	house_result(h, run, 1, 1, UNKNOWN, "{\"code\":\"timeout\"}");
	assert_non_null(house_act(h, CORE_ACT_GATE, 0)); /* it may have happened */
	house_result(h, run, 3, 1, UNKNOWN, "{\"code\":\"timeout\"}");
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test")});
	h->now_ms += 600000;
	house_tick(h);
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->mode, 1); /* the lookup asks */
	assert_null(house_act(h, CORE_ACT_DISPATCH, 1));
	house_result(h, run, 2, 2, NOT_FOUND, "{\"code\":\"not_found\"}");
	h->now_ms += 600000;
	house_tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	house_gate(h, 1, "give_up", "");
	assert_false(core_run_get(h->core, run, &info));
}

static unsigned add_key(struct house *h, struct core_caller by, const char *name, const char *grants)
{
	char body[200] = "{\"grants\":";
	static char public[32];

	strcat(strcat(body, grants), "}");
	public[0]++;
	house_do(h, (struct core_cmd){.type = CORE_CMD_KEY_ADD,
			    .by = by,
			    .name = base_str_of(name),
			    .bytes = {public, 32},
			    .body = base_str_of(body)});
	return (unsigned)h->reply.status;
}

/* A key gives away no more than it has; its narrowing ends when it says, not when the log next moves. */
/* "Not found" is no answer to a send: that it failed is more than anybody knows. */
static void test_an_answer_to_another_question(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "test.idempotent", "{\"value\":1}", "{\"retry\":1}");
	house_result(h, run, 0, 1, NOT_FOUND, "{\"code\":\"failed\"}");
	assert_null(house_act(h, CORE_ACT_RESULT, 0));
	assert_non_null(house_act(h, CORE_ACT_GATE, 0));
}

static void test_keys_do_not_grow(void **state)
{
	struct house *h = *state;
	struct core_caller operator= {.id = BASE_STR("operator")}, ci = {.id = BASE_STR("key/ci")},
			   narrow = ci;

	assert_int_equal(add_key(h, operator, "ci", "[\"api.key_create\",\"api.run*\"]"), 201);
	assert_int_equal(add_key(h, ci, "k1", "[\"api.run_start\"]"), 201);
	assert_int_equal(add_key(h, ci, "k2", "[\"api.run*\"]"), 201);
	assert_int_equal(add_key(h, ci, "k3", "[\"api.run_start\",\"api.*\"]"), 403);
	assert_int_equal(add_key(h, ci, "k4", "[\"api.gate_approve\"]"), 403);
	narrow.caveats = BASE_STR("[{\"expires_ms\":1700000001000}]");
	assert_true(core_may(h->core, &narrow, BASE_STR("api.run_start"), 1700000000999));
	assert_false(core_may(h->core, &narrow, BASE_STR("api.run_start"), 1700000001000));
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, house_tear_down)

/* What may have happened has not failed because it is denied by now. */
static void test_denied_after_unknown(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	const struct house_act *gate;

	house_call(h, run, 0, "test.idempotent", "{\"value\":1}", "");
	house_result(h, run, 0, 1, UNKNOWN, "{\"code\":\"lost\"}");
	house_deploy(h, "{\"policy\":{\"rules\":[{\"on\":\"test.*\",\"then\":\"deny\"}]}}");
	h->now_ms += 600000;
	house_do(h, (struct core_cmd){.type = CORE_CMD_TICK});
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	assert_null(house_act(h, CORE_ACT_RESULT, 0));
	gate = house_act(h, CORE_ACT_GATE, 0);
	assert_non_null(gate);
	decide_as(h, "operator", gate->id, "happened", "{\"n\":1}");
	assert_true(house_act(h, CORE_ACT_RESULT, 0)->ok);
}

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_denied_after_unknown), T(test_answers_fit),
		T(test_time_approves_no_calls), T(test_starter_of_the_line), T(test_no_orphans),
		T(test_money_of_the_gone), T(test_overrun_is_used_up), T(test_class_changes),
		T(test_class_of_the_release), T(test_restart_waits_before_it_asks),
		T(test_not_found_out_of_turn), T(test_doubt_of_a_cancelled_run_shows_its_arguments),
		T(test_dry_runs_use_up_nothing), T(test_long_texts), T(test_depth), T(test_ends_short),
		T(test_parked_children), T(test_signals_are_capped), T(test_cancelled_is_not_sent_again),
		T(test_an_answer_to_another_question), T(test_keys_do_not_grow), T(test_budget_of_an_agent)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
