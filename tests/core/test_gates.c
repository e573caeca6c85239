/* Who decides: terms, votes, delegation, escalation; when a gate is announced; what an approval is bound to. After each
 * test the log is folded from zero and from a snapshot. */
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

#define CONFIG                                                                                               \
	"\"config\":{\"notify\":{\"quiet\":{\"from\":\"22:00\",\"to\":\"07:00\"},\"channels\":{"             \
	"\"phone\":{\"kind\":\"ntfy\",\"url\":\"https://ntfy.example\",\"topic\":\"t\"},"                    \
	"\"anna\":{\"kind\":\"mail\",\"address\":\"anna@example.org\",\"to\":\"key/anna\"}}},"               \
	"\"labels\":{\"private\":[\"customers/\"]},\"gates\":{\"sign_above\":\"1 USD\"}}"

static const char deployment[] =
	"{\"flows\":[{\"name\":\"f\",\"version\":"
	"\"00000000000000000000000000000000000000000000000000000000000000aa\",\"modules\":{\"entry\":\"f\"},"
	"\"spec\":{},\"grants\":[\"*\"]}]," CONFIG ",\"policy\":{\"rules\":["
	"{\"on\":\"test.*\",\"then\":\"allow\"},{\"on\":\"memory.get\",\"then\":\"allow\"},{\"on\":\"file."
	"write\",\"then\":\"gate\"},"
	"{\"name\":\"reads\",\"on\":\"http.get\",\"then\":\"gate\",\"when\":\"args.max_bytes > 10\"},"
	"{\"on\":\"http.get\",\"then\":\"allow\"}]}}";

static void add_key(struct house *h, const char *name, const char *grants)
{
	char body[200], key[64];
	struct core_cmd cmd = {.type = CORE_CMD_KEY_ADD, .by = {.id = BASE_STR("operator")}};

	snprintf(body, sizeof(body), "{\"kind\":\"service\",\"grants\":[\"%s\"]}", grants);
	snprintf(key, sizeof(key), "%-16s%16llu", name, (unsigned long long)h->entropy);
	cmd.name = base_str_of(name);
	cmd.body = base_str_of(body);
	cmd.bytes = base_str_of(key);
	house_do(h, cmd);
	assert_true(h->reply.status < 300);
}

static int set_up(void **state)
{
	static const char *const names[] = {"anna", "bob", "cem", "dora"};
	int r = house_set_up(state, deployment);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		add_key(*state, names[i], "api.*");
	return r;
}

/* Asks with these terms: the gate. */
static uint64_t ask(struct house *h, uint64_t run, uint32_t step, const char *terms, const char *more)
{
	char args[2000];

	snprintf(args, sizeof(args), "{%s\"show\":{\"text\":\"A\"},\"terms\":%s,\"title\":\"t\"}", more,
		terms);
	house_call(h, run, step, "gate.ask", args, "");
	return house_act(h, CORE_ACT_GATE, 0) ? house_act(h, CORE_ACT_GATE, 0)->id : 0;
}

static int answer(struct house *h, uint64_t gate, const char *who, const char *word)
{
	const struct core_gate *g = core_gate_find(h->core, gate);

	house_do(h, (struct core_cmd){.type = CORE_CMD_GATE_DECIDE,
			    .by = {.id = base_str_of(who)},
			    .id = gate,
			    .name = base_str_of(word),
			    .hash = g ? g->shown : (struct base_hash){{0}},
			    .key = BASE_STR("api")});
	return h->reply.status;
}

static int hand_over(struct house *h, uint64_t gate, const char *who, const char *to)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_GATE_DELEGATE,
			    .by = {.id = base_str_of(who)},
			    .id = gate,
			    .name = base_str_of(to)});
	return h->reply.status;
}

static const char *result(const struct house *h)
{
	const struct house_act *a = house_act(h, CORE_ACT_RESULT, 0);

	return a ? a->text : "";
}

static const char two[] = "{\"approvers\":[\"key/anna\",\"key/bob\",\"key/cem\"],\"need\":2}";

static void test_need_two(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate = ask(h, run, 0, two, "");

	assert_int_equal(answer(h, gate, "key/dora", "approve"), 403);
	assert_int_equal(answer(h, gate, "key/nobody", "approve"), 403);
	assert_int_equal(answer(h, gate, "flow/f", "approve"), 403);
	assert_int_equal(answer(h, gate, "key/anna", "approve"), 202);
	assert_int_equal(answer(h, gate, "key/anna", "approve"), 409); /* counts once */
	assert_null(house_act(h, CORE_ACT_RESULT, 0));
	assert_int_equal(answer(h, gate, "key/bob", "approve"), 200);
	assert_non_null(strstr(result(h), "\"voted\":[\"key/anna\"]"));
	assert_int_equal(answer(h, gate, "key/cem", "approve"), 409); /* over */
	/* One denial ends it, whoever approved before. */
	gate = ask(h, run, 1, two, "");
	assert_int_equal(answer(h, gate, "key/anna", "approve"), 202);
	assert_int_equal(answer(h, gate, "key/bob", "deny"), 200);
	assert_non_null(strstr(result(h), "\"deny\""));
	/* Unless the terms say otherwise; a voter can change their mind. */
	gate = ask(h, run, 2, "{\"approvers\":[\"key/*\"],\"denials\":2,\"need\":3}", "");
	assert_int_equal(answer(h, gate, "key/anna", "approve"), 202);
	assert_int_equal(answer(h, gate, "key/bob", "deny"), 202);
	assert_int_equal(answer(h, gate, "key/bob", "approve"), 202);
	assert_int_equal(answer(h, gate, "key/cem", "deny"), 202);
	assert_int_equal(answer(h, gate, "operator", "approve"), 200);
}

/* What several approve is one thing. */
static void test_no_edit_by_several(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate = ask(h, run, 0, two, "\"edit\":true,");

	house_do(h, (struct core_cmd){.type = CORE_CMD_GATE_DECIDE,
			    .by = {.id = BASE_STR("key/anna")},
			    .id = gate,
			    .name = BASE_STR("edit"),
			    .body = BASE_STR("{\"text\":\"B\"}"),
			    .hash = core_gate_find(h->core, gate)->shown});
	assert_int_equal(h->reply.status, 422);
}

/* Without approvers the operator alone decides; with operator:false the operator does not. */
static void test_operator(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate = ask(h, run, 0, "{}", "");

	assert_int_equal(answer(h, gate, "key/anna", "approve"), 403);
	assert_int_equal(answer(h, gate, "operator", "approve"), 200);
	gate = ask(h, run, 1, "{\"approvers\":[\"key/anna\"],\"operator\":false}", "");
	assert_int_equal(answer(h, gate, "operator", "approve"), 403);
	assert_int_equal(hand_over(h, gate, "operator", "key/bob"), 403);
	assert_int_equal(answer(h, gate, "key/anna", "approve"), 200);
}

/* Nobody approves what they asked for: not the starter, not the starter of an ancestor, whatever the terms say. */
static void test_who_asked(void **state)
{
	struct house *h = *state;
	uint64_t run, child, gate;

	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_START,
			    .name = BASE_STR("f"),
			    .by = {.id = BASE_STR("key/anna")},
			    .body = BASE_STR("{}")});
	run = h->reply.id;
	house_call(h, run, 0, "run.call", "{\"flow\":\"f\",\"input\":{}}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	gate = ask(h, child, 0, two, "");
	assert_int_equal(answer(h, gate, "key/anna", "approve"), 403);
	assert_int_equal(answer(h, gate, "key/anna", "deny"), 403);
	assert_int_equal(hand_over(h, gate, "operator", "key/anna"), 422);
	assert_int_equal(hand_over(h, gate, "key/anna", "key/dora"), 403);
	assert_int_equal(answer(h, gate, "key/bob", "approve"), 202);
	assert_int_equal(answer(h, gate, "key/cem", "approve"), 200);
}

/* A key that is revoked since does not count at the decision. */
static void test_revoked_voter(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate = ask(h, run, 0, two, "");

	assert_int_equal(answer(h, gate, "key/anna", "approve"), 202);
	house_do(h, (struct core_cmd){.type = CORE_CMD_KEY_REVOKE,
			    .by = {.id = BASE_STR("operator")},
			    .name = BASE_STR("key/anna")});
	assert_int_equal(h->reply.status, 200);
	assert_int_equal(answer(h, gate, "key/bob", "approve"), 202);
	assert_int_equal(answer(h, gate, "key/anna", "approve"), 403);
	assert_int_equal(answer(h, gate, "key/cem", "approve"), 200);
	/* One that may not decide gates does not, though it is named. */
	add_key(h, "eva", "api.runs");
	gate = ask(h, run, 1, "{\"approvers\":[\"key/*\"]}", "");
	assert_int_equal(answer(h, gate, "key/eva", "approve"), 403);
}

static void test_delegation(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate = ask(h, run, 0, two, "");

	assert_int_equal(hand_over(h, gate, "key/dora", "key/dora"), 403);
	assert_int_equal(hand_over(h, gate, "operator", "key/nobody"), 404);
	assert_int_equal(hand_over(h, gate, "operator", "flow/f"), 404);
	assert_int_equal(hand_over(h, gate, "operator", "key/bob"), 409);
	/* Who hands over has no vote any more: it is not one more. */
	assert_int_equal(answer(h, gate, "key/anna", "approve"), 202);
	assert_int_equal(hand_over(h, gate, "key/anna", "key/dora"), 200);
	assert_int_equal(answer(h, gate, "key/anna", "approve"), 403);
	assert_int_equal(answer(h, gate, "key/dora", "approve"), 202);
	assert_int_equal(answer(h, gate, "key/bob", "approve"), 200);
	assert_int_equal(hand_over(h, gate, "operator", "key/dora"), 409);
	/* The operator asks somebody else too, and may still decide. */
	gate = ask(h, run, 1, "{}", "");
	assert_int_equal(hand_over(h, gate, "operator", "key/dora"), 200);
	assert_int_equal(answer(h, gate, "key/dora", "approve"), 200);
}

static uint64_t told(const struct house *h)
{
	uint64_t n = 0;

	for (size_t i = 0; i < h->act_count; i++)
		n += h->acts[i].type == CORE_ACT_TELL;
	return n;
}

/* 1,700,000,000 s is 22:13 UTC. */
enum { HOUR = 3600 * 1000 };

static void test_quiet_hours(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate = ask(h, run, 0, "{}", "");

	house_tick(h);
	assert_int_equal(told(h), 0);
	h->now_ms += 8 * HOUR;
	house_tick(h);
	assert_int_equal(told(h), 0); /* 06:13 */
	h->now_ms += HOUR;
	house_tick(h);
	assert_int_equal(told(h), 1); /* to the operator's phone alone: nobody else may decide */
	house_tick(h);
	assert_int_equal(told(h), 0);
	assert_int_equal(answer(h, gate, "operator", "approve"), 200);
	h->now_ms += 15 * HOUR; /* 22:13 again: what is urgent, and what would be over by the morning */
	(void)ask(h, run, 1, "{\"urgent\":true}", "");
	house_tick(h);
	assert_int_equal(told(h), 1);
	(void)ask(h, run, 2, "{}", "\"expires_ms\":3600000,");
	house_tick(h);
	assert_int_equal(told(h), 1);
	(void)ask(h, run, 3, "{\"quiet\":\"00:00-01:00\"}", "");
	house_tick(h);
	assert_int_equal(told(h), 1);
	(void)ask(h, run, 4, "{\"quiet\":false}", "");
	house_tick(h);
	assert_int_equal(told(h), 1);
}

static void test_reminders_and_escalation(void **state)
{
	struct house *h = *state;
	uint64_t run, gate;

	h->now_ms += 12 * HOUR; /* 10:13 */
	run = house_start(h, "f", "{}");
	gate = ask(h, run, 0,
		"{\"escalate\":[{\"after_ms\":7200000,\"to\":[\"key/anna\"]}],\"remind_ms\":3600000}", "");
	house_tick(h);
	assert_int_equal(told(h), 1);
	assert_int_equal(answer(h, gate, "key/anna", "approve"), 403);
	h->now_ms += HOUR;
	house_tick(h);
	assert_int_equal(told(h), 1); /* the reminder */
	h->now_ms += HOUR;
	house_tick(h);
	assert_int_equal(told(h), 2); /* anna too */
	assert_true(core_gate_find(h->core, gate)->escalated == 1);
	house_do(h, (struct core_cmd){.type = CORE_CMD_GATE_REPORT,
			    .id = gate,
			    .step = core_gate_find(h->core, gate)->told->nth,
			    .base = 0,
			    .body = BASE_STR("{\"code\":\"status\",\"message\":\"answered 404\"}")});
	assert_int_equal(core_gate_find(h->core, gate)->told->state, CORE_TOLD_FAILED);
	assert_int_equal(answer(h, gate, "key/anna", "approve"), 200);
	house_do(h, (struct core_cmd){.type = CORE_CMD_GATE_REPORT, .id = gate, .step = 0, .base = 1});
	assert_int_equal(h->reply.status, 200); /* of a gate that is gone: for the record */
	house_do(h, (struct core_cmd){.type = CORE_CMD_GATE_REPORT, .id = 99, .base = 1});
	assert_int_equal(h->reply.status, 404);
}

/* Reminders end. */
static void test_reminders_end(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"),
		 gate = ask(h, run, 0, "{\"quiet\":false,\"remind_ms\":60000}", "");

	for (int i = 0; i < 200; i++) {
		h->now_ms += HOUR;
		house_tick(h);
	}
	assert_int_equal(core_gate_find(h->core, gate)->announced, 31);
}

/* A signature: a verified proof, or the operator's own shell. To deny needs none. */
static void test_signature(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate;
	struct core_cmd cmd = {.type = CORE_CMD_GATE_DECIDE,
		.by = {.id = BASE_STR("operator")},
		.name = BASE_STR("approve"),
		.key = BASE_STR("console")};
	static const char *const ways[] = {"console", "link", "api", ""};

	gate = ask(h, run, 0, "{\"sign\":true}", "");
	cmd.id = gate;
	cmd.hash = core_gate_find(h->core, gate)->shown;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		cmd.key = base_str_of(ways[i]);
		house_do(h, cmd);
		assert_int_equal(h->reply.status, 403);
	}
	cmd.key = BASE_STR("passkey");
	cmd.bytes = BASE_STR("proof");
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 200);
	gate = ask(h, run, 1, "{\"sign\":true}", "");
	cmd.id = gate;
	cmd.key = BASE_STR("shell");
	cmd.bytes = BASE_STR_NONE;
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 200);
	/* A key that calls itself a shell is none. */
	gate = ask(h, run, 2, "{\"approvers\":[\"key/anna\"],\"sign\":true}", "");
	cmd.id = gate;
	cmd.by.id = BASE_STR("key/anna");
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 403);
	assert_int_equal(answer(h, gate, "operator", "deny"), 200);
}

/* The terms of a question are checked before anybody is asked. */
static void test_bad_terms(void **state)
{
	static const char *const bad[] = {"{\"approvers\":[\"flow/f\"]}", "{\"approvers\":[\"agent/a\"]}",
		"{\"approvers\":[\"key/\"]}", "{\"need\":2}", "{\"approvers\":[\"key/a\"],\"need\":3}",
		"{\"operator\":false}", "{\"escalate\":[{\"after_ms\":5,\"to\":[\"flow/x\"]}]}",
		"{\"escalate\":[{\"after_ms\":5,\"to\":[\"key/a\"]},{\"after_ms\":5,\"to\":[\"key/a\"]}]}",
		"{\"quiet\":\"25:00-07:00\"}", "{\"quiet\":{\"from\":\"07:00\",\"to\":\"07:00\"}}",
		"{\"approvers\":[\"key/a\"],\"need\":2,\"operator\":false}", "{\"approvers\":[\"*\"]}"};
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(ask(h, run, i, bad[i], ""), 0);
		assert_non_null(strstr(result(h), "\"invalid\""));
	}
}

/* Approve A, run B: the answer is bound to the bytes, is used once, and dies with its time. */
static void test_fault_43_approve_a_run_b(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), a, b;
	struct core_cmd cmd = {.type = CORE_CMD_GATE_DECIDE,
		.by = {.id = BASE_STR("operator")},
		.name = BASE_STR("approve")};

	house_call(h, run, 0, "file.write", "{\"path\":\"x\",\"text\":\"A\"}", "");
	a = house_act(h, CORE_ACT_GATE, 0)->id;
	house_call(h, run, 1, "file.write", "{\"path\":\"x\",\"text\":\"B\"}", "");
	b = house_act(h, CORE_ACT_GATE, 0)->id;
	cmd.id = b; /* the answer to A, given to B */
	cmd.hash = core_gate_find(h->core, a)->shown;
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 409);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	cmd.id = a;
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 200);
	house_tick(h);
	assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0)->step, 0); /* A */
	assert_null(house_act(h, CORE_ACT_DISPATCH, 1));
	house_do(h, cmd); /* once */
	assert_int_equal(h->reply.status, 409);
	house_tick(h);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	/* The same call asked for again is another question. */
	house_call(h, run, 2, "file.write", "{\"path\":\"x\",\"text\":\"A\"}", "");
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
	assert_non_null(house_act(h, CORE_ACT_GATE, 0));
	/* Expired stays dead, also if clocks are put back meanwhile: log time does not. */
	a = ask(h, run, 3, "{}", "\"expires_ms\":1000,");
	h->now_ms += 1001;
	house_tick(h);
	assert_non_null(strstr(result(h), "expired"));
	assert_int_equal(answer(h, a, "operator", "approve"), 409);
}

/* Many at once: whatever the order, one decision; the rest hear that it is decided. */
static void test_fault_42_approval_race(void **state)
{
	static const char *const people[] = {"operator", "key/anna", "key/bob", "key/cem"};
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate;
	unsigned won = 0, sent = 0;

	gate = ask(h, run, 0, "{\"approvers\":[\"key/*\"]}", "\"expires_ms\":1000,");
	h->now_ms += 1000; /* its time is over as well, and nobody has noticed yet */
	for (unsigned i = 0; i < 100; i++) {
		won += answer(h, gate, people[i % 4], i % 3 ? "approve" : "deny") == 200;
		sent += house_act(h, CORE_ACT_RESULT, 0) != NULL;
	}
	house_tick(h);
	sent += house_act(h, CORE_ACT_RESULT, 0) != NULL;
	assert_int_equal(won + (won == 0), 1);
	assert_int_equal(sent, 1);
}

/* The last rule_proposed, and how many there are. */
static unsigned proposed(const struct house *h, struct core_rule_proposed *ret)
{
	uint64_t seqs[300];
	size_t n = core_proposals_open(h->core, seqs, 300), at;
	struct core_record rec;

	if (n) {
		at = h->at[seqs[0]];
		assert_int_equal(core_block_next(base_buf_view(&h->log), &at, &rec), 1);
		assert_int_equal(core_rule_proposed_get(rec.body, ret), 0);
	}
	return (unsigned)n;
}

static void fetch_page(
	struct house *h, uint64_t run, uint32_t step, const char *url, int max, const char *word)
{
	char args[300];

	snprintf(args, sizeof(args), "{\"max_bytes\":%d,\"url\":\"%s\"}", max, url);
	house_call(h, run, step, "http.get", args, "");
	assert_non_null(house_act(h, CORE_ACT_GATE, 0));
	assert_int_equal(answer(h, house_act(h, CORE_ACT_GATE, 0)->id, "operator", word), 200);
}

static bool says(struct base_str text, const char *what)
{
	return memmem(text.ptr, text.len, what, strlen(what)) != NULL;
}

/* After a decision: a rule that would have answered it, no wider than what was decided shows. */
static void test_proposals(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	struct core_rule_proposed p;

	fetch_page(h, run, 0, "https://a.example/", 100, "approve");
	assert_int_equal(proposed(h, &p), 1);
	assert_true(says(p.text, "args.max_bytes <= 100 && args.url == \\\"https://a.example/\\\""));
	assert_true(says(p.text, "principal == \\\"flow/f\\\"") && says(p.text, "then: \"allow\""));
	/* The rule that asked lets it pass: gate comes before allow. */
	assert_true(says(p.text, "(args.max_bytes > 10) && !(principal"));
	assert_int_equal(p.would, 1);
	fetch_page(
		h, run, 1, "https://a.example/", 50, "approve"); /* within: the same rule takes its place */
	assert_int_equal(proposed(h, &p), 1);
	assert_true(p.would == 2 && p.against == 0);
	fetch_page(h, run, 2, "https://b.example/", 200,
		"approve"); /* the address differs: it says nothing of it */
	assert_int_equal(proposed(h, &p), 2);
	assert_true(says(p.text, "args.max_bytes <= 200") && !says(p.text, "args.url"));
	assert_true(p.would == 3 && p.against == 0);
	fetch_page(h, run, 3, "https://c.example/", 5000, "deny");
	(void)proposed(h, &p);
	assert_true(says(p.text, "args.max_bytes >= 5000") && says(p.text, "then: \"deny\"") &&
		    !says(p.text, "instead"));
	assert_true(p.would == 1 && p.against == 0);
	/* A bound would let through what was denied: only what was decided. */
	fetch_page(h, run, 4, "https://d.example/", 9000, "approve");
	(void)proposed(h, &p);
	assert_true(says(p.text, "args.max_bytes == 9000 && args.url == "));
	assert_true(p.would == 1 && p.against == 0);
	/* Nothing changed by itself. */
	house_call(h, run, 5, "http.get", "{\"max_bytes\":50,\"url\":\"https://a.example/\"}", "");
	assert_non_null(house_act(h, CORE_ACT_GATE, 0));
	house_do(h, (struct core_cmd){.type = CORE_CMD_PROPOSAL, .id = p.gate, .name = BASE_STR("dropped")});
	assert_int_equal(h->reply.status, 200);
	house_do(h, (struct core_cmd){.type = CORE_CMD_PROPOSAL, .id = p.gate, .name = BASE_STR("taken")});
	assert_int_equal(h->reply.status, 404);
}

/* A rule stands in a file: what is private becomes none. */
static void test_nothing_private_is_proposed(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	struct core_rule_proposed p;

	house_call(h, run, 0, "memory.get", "{\"key\":\"customers/anna\"}", "");
	fetch_page(h, run, 1, "https://a.example/anna-is-ill", 100, "approve");
	assert_int_equal(proposed(h, &p), 0);
	fetch_page(h, house_start(h, "f", "{}"), 0, "https://a.example/", 100, "approve");
	assert_int_equal(proposed(h, &p), 1);
}

/* Time neither signs nor stands for several; and nobody is asked for more denials than there are people. */
static void test_time_signs_nothing(void **state)
{
	static const char *const terms[] = {
		"{\"sign\":true}", "{\"approvers\":[\"key/anna\"],\"need\":2}", "{}"};
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	for (uint32_t i = 0; i < 3; i++) {
		assert_true(ask(h, run, i, terms[i], "\"expires_ms\":1000,\"on_expiry\":\"approve\",") > 0);
		h->now_ms += 1001;
		house_tick(h);
		assert_non_null(strstr(result(h), i < 2 ? "\"expired\"" : "\"approve\""));
	}
	assert_int_equal(ask(h, run, 3, "{\"denials\":2}", ""), 0);
	assert_true(ask(h, run, 4, "{\"approvers\":[\"key/anna\"],\"denials\":2}", "") > 0);
}

/* They are bounded. */
static void test_proposals_end(void **state)
{
	struct core_rule_proposed p;
	struct house *h = *state;
	char url[80];

	for (uint32_t i = 0; i < 600; i++) {
		uint64_t run = house_start(h, "f", "{}");

		h->unchecked = i % 50 != 0;
		snprintf(url, sizeof(url), "https://%u.example/", i);
		fetch_page(h, run, 0, url, (int)(11 + (i * 7919) % 4000), i % 2 ? "approve" : "deny");
	}
	assert_true(proposed(h, &p) <= 256);
}

/* What a configuration may not say about announcements. */
static void test_bad_channels(void **state)
{
	static const char *const bad[] = {"{\"channels\":{\"a\":{\"kind\":\"ntfy\",\"topic\":\"t\"}}}",
		"{\"channels\":{\"a\":{\"kind\":\"ntfy\",\"topic\":\"t\",\"url\":\"http://ntfy.example/\"}}}",
		"{\"channels\":{\"a\":{\"kind\":\"ntfy\",\"topic\":\"a/b\",\"url\":\"https://ntfy.example/"
		"\"}}}",
		"{\"channels\":{\"a\":{\"kind\":\"mail\"}}}",
		"{\"channels\":{\"a\":{\"kind\":\"webhook\",\"url\":\"https://h.example\"}}}",
		"{\"channels\":{\"a\":{\"kind\":\"telegram\",\"chat\":\"1\"}}}",
		"{\"channels\":{\"a\":{\"kind\":\"mail\",\"address\":\"a@b.example\",\"to\":\"flow/f\"}}}",
		"{\"base\":\"http://desk.example\"}", "{\"base\":\"https://desk.example\"}",
		"{\"base\":\"https://desk.example/path\"}", "{\"base\":\"javascript:alert(1)\"}",
		"{\"quiet\":{\"from\":\"22:00\",\"to\":\"24:30\"}}",
		"{\"quiet\":{\"from\":\"22:00\",\"to\":\"07:00\",\"tz\":\"../../etc/passwd\"}}",
		"{\"remind\":\"5s\"}", "{\"link_life\":\"soon\"}"};
	struct house *h = *state;
	char config[600];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(config, sizeof(config), "{\"config\":{\"notify\":%s}}", bad[i]);
		house_do(h, (struct core_cmd){.type = CORE_CMD_DEPLOY,
				    .by = {.id = BASE_STR("operator")},
				    .body = base_str_of(config)});
		if (h->reply.status != 422)
			fail_msg("%s: %d", bad[i], h->reply.status);
	}
}

/* Random people, answers, delegations, keys that come and go, and time: one decision at most, by who may. */
static void test_random(void **state)
{
	static const char *const people[] = {
		"operator", "key/anna", "key/bob", "key/cem", "key/dora", "flow/f"};
	static const char *const terms[] = {two, "{\"approvers\":[\"key/*\"],\"denials\":2,\"need\":3}",
		"{\"approvers\":[\"key/anna\"],\"operator\":false}",
		"{\"escalate\":[{\"after_ms\":3000,\"to\":[\"key/dora\"]}],\"remind_ms\":60000}", "{}"};
	struct base_prng rng = base_prng_of((const uint8_t *)"a seed of thirty-two bytes......");
	struct house *h = *state;

	for (uint32_t i = 0; i < 120; i++) {
		const char *starter = people[base_prng_next(&rng) % 5];
		uint64_t run, gate;
		unsigned decided = 0;

		house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_START,
				    .name = BASE_STR("f"),
				    .by = {.id = base_str_of(starter)},
				    .body = BASE_STR("{}")});
		run = h->reply.id;
		gate = ask(h, run, 0, terms[base_prng_next(&rng) % 5], "\"expires_ms\":40000,");
		assert_true(gate > 0);
		for (unsigned k = 0; k < 30; k++) {
			const char *who = people[base_prng_next(&rng) % 6];
			uint64_t what = base_prng_next(&rng) % 8;

			if (what < 5) {
				int status = answer(h, gate, who, what < 4 ? "approve" : "deny");

				decided += status == 200;
				if (status < 300)
					assert_true(!strcmp(who, "operator") ||
						    (strcmp(who, starter) && strcmp(who, "flow/f")));
			} else if (what == 5) {
				(void)hand_over(h, gate, who, people[base_prng_next(&rng) % 6]);
			} else if (what == 6 && i > 60 && (!strcmp(who, "key/dora") || i > 90)) {
				house_do(h, (struct core_cmd){.type = CORE_CMD_KEY_REVOKE,
						    .by = {.id = BASE_STR("operator")},
						    .name = base_str_of(who)});
			} else {
				h->now_ms += 1500;
				house_tick(h);
			}
		}
		assert_true(decided <= 1);
		core_check(h->core);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_need_two, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_no_edit_by_several, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_operator, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_who_asked, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_revoked_voter, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_delegation, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_quiet_hours, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_reminders_and_escalation, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_reminders_end, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_signature, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_bad_terms, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_fault_43_approve_a_run_b, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_fault_42_approval_race, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_proposals, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_nothing_private_is_proposed, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_time_signs_nothing, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_proposals_end, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_bad_channels, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_random, set_up, house_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
