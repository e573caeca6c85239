/* Labels: they join as a run uses data, go along with all that it does, and together let nothing leave without a gate; the
 * built-in rule is turned off by a decision only, a label is lost by one only. After each test the log is folded from zero and
 * from a snapshot. */
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

enum { NONE = 0, UNTRUSTED = 1, PRIVATE = 2, BOTH = 3 };

#define FLOW(name, byte, spec)                                                                               \
	"{\"name\":\"" name                                                                                  \
	"\",\"version\":\"00000000000000000000000000000000000000000000000000000000000000" byte               \
	"\",\"modules\":{\"entry\":\"" name "\"},\"spec\":" spec                                             \
	",\"grants\":[\"*\",\"event.*\",\"test.*\",\"run.*\",\"memory.*\",\"http.*\",\"mail.*\",\"file.*\"," \
	"\"model.*\",\"feed.*\",\"session.*\"]}"
#define NARROW                                                                                               \
	"{\"output\":{\"type\":\"object\",\"properties\":{\"tier\":{\"enum\":[\"gold\",\"tin\"]}},"          \
	"\"required\":[\"tier\"],\"additionalProperties\":false}}"

static const char deployment[] =
	"{\"config\":{\"labels\":{\"private\":[\"customers/\"],\"untrusted\":[\"inbox/\"],"
	"\"trusted\":[\"key/shop*\"],\"files\":{\"private\":[\"vip/\"]}},\"models\":{\"providers\":{"
	"\"far\":{\"api\":\"openai\",\"url\":\"https://far.example\"},"
	"\"near\":{\"api\":\"openai\",\"url\":\"https://near.example\",\"private\":true}},"
	"\"tiers\":{\"both\":[\"far/m\",\"near/m\"],\"open\":[\"far/m\"]},\"prices\":{"
	"\"far/m\":{\"input\":\"0.01 USD\",\"output\":\"0.01 USD\"},"
	"\"near/m\":{\"input\":\"0.01 USD\",\"output\":\"0.01 USD\"}}}},"
	"\"policy\":{\"rules\":[{\"on\":\"*\",\"then\":\"allow\"}]},"
	"\"flows\":[" FLOW("f", "aa", "{}") "," FLOW("child", "bb", NARROW) "," FLOW("wide", "cc", "{}") "]}";

static int set_up(void **state)
{
	int r = house_set_up(state, deployment);
	struct house *h = *state;

	for (unsigned i = 0; i < 2; i++)
		house_do(h, (struct core_cmd){.type = CORE_CMD_FACT_PUT,
				    .name = i ? BASE_STR("inbox/1") : BASE_STR("customers/anna"),
				    .body = BASE_STR("{\"name\":\"x\"}"),
				    .base = -1});
	return r;
}

static unsigned labels(const struct house *h, uint64_t run)
{
	return core_run_find(h->core, run)->labels;
}

static unsigned status(const struct house *h, uint64_t run, uint32_t step)
{
	return core_run_find(h->core, run)->step[step].status;
}

static uint64_t gate_of(const struct house *h, uint64_t run, uint32_t step)
{
	return core_step_open(&core_run_find(h->core, run)->step[step])->gate;
}

/* A run that has read these; its next step is the second, or the third. */
static uint64_t tainted(struct house *h, unsigned what, uint32_t *ret_step)
{
	uint64_t run = house_start(h, "f", "{}");

	*ret_step = 0;
	if (what & PRIVATE)
		house_call(h, run, (*ret_step)++, "memory.get", "{\"key\":\"customers/anna\"}", "");
	if (what & UNTRUSTED)
		house_call(h, run, (*ret_step)++, "memory.get", "{\"key\":\"inbox/1\"}", "");
	assert_int_equal(labels(h, run), what);
	return run;
}

static struct core_gate_opened opened(struct house *h, uint64_t gate)
{
	static struct core_gate_opened ev;
	struct core_record rec;
	size_t at = h->at[core_gate_seq(h->core, gate)];

	assert_int_equal(core_block_next(base_buf_view(&h->log), &at, &rec), 1);
	assert_int_equal(core_gate_opened_get(rec.body, &ev), 0);
	return ev;
}

#define MAIL "{\"subject\":\"s\",\"text\":\"t\",\"to\":\"a@b.example\"}"
#define FAR "{\"max_tokens\":9,\"messages\":[{\"content\":\"x\",\"role\":\"user\"}],\"model\":\"far/m\"}"
#define NEAR "{\"max_tokens\":9,\"messages\":[{\"content\":\"x\",\"role\":\"user\"}],\"model\":\"near/m\"}"
#define LOCAL                                                                                                \
	"{\"max_tokens\":9,\"messages\":[{\"content\":\"x\",\"role\":\"user\"}],\"model\":\"local/"          \
	"extract\"}"

/* Everything that a run can have read, by everything that it can send, with the rule on and off. */
static void test_fault_49_lethal_trifecta(void **state)
{
	static const struct {
		const char *action, *args;
		char with[4]; /* by labels none, untrusted, private, both: s sent, g gated, f failed */
		char off[4];  /* the same with the rule off */
	} table[] = {
		{"mail.send", MAIL, {'s', 's', 's', 'g'}, {'s', 's', 's', 's'}},
		{"http.get", "{\"url\":\"https://a.example/\"}", {'s', 's', 's', 'g'}, {'s', 's', 's', 's'}},
		{"feed.read", "{\"url\":\"https://a.example/\"}", {'s', 's', 's', 'g'}, {'s', 's', 's', 's'}},
		{"test.once", "{\"value\":1}", {'s', 's', 's', 'g'}, {'s', 's', 's', 's'}},
		{"test.read", "{\"value\":1}", {'s', 's', 's', 'g'}, {'s', 's', 's', 's'}},
		{"test.narrow", "{}", {'s', 's', 'g', 'g'}, {'s', 's', 'g', 'g'}},
		{"model.generate", FAR, {'s', 's', 'f', 'f'}, {'s', 's', 'f', 'f'}},
		{"model.generate", NEAR, {'s', 's', 's', 'g'}, {'s', 's', 's', 's'}},
		{"model.generate", LOCAL, {'s', 's', 's', 's'}, {'s', 's', 's', 's'}},
		{"file.write", "{\"path\":\"a\",\"text\":\"t\"}", {'s', 's', 's', 's'}, {'s', 's', 's', 's'}},
		{"file.read", "{\"path\":\"a\"}", {'s', 's', 's', 's'}, {'s', 's', 's', 's'}},
		{"memory.search", "{\"query\":\"x\"}", {'s', 's', 's', 's'}, {'s', 's', 's', 's'}},
		{"session.put", "{\"id\":\"x\",\"value\":1}", {'s', 's', 's', 's'}, {'s', 's', 's', 's'}},
	};
	struct house *h = *state;

	for (unsigned off = 0; off < 2; off++) {
		for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
			for (unsigned what = NONE; what <= BOTH; what++) {
				char want = off ? table[i].off[what] : table[i].with[what];
				uint32_t step;
				uint64_t run = tainted(h, what, &step);

				house_call(h, run, step, table[i].action, table[i].args, "");
				if (status(h, run, step) != (want == 's'	  ? CORE_STEP_SENT
								    : want == 'g' ? CORE_STEP_GATED
										  : CORE_STEP_FAILED))
					fail_msg("%s with labels %u, rule %s: %u", table[i].action, what,
						off ? "off" : "on", status(h, run, step));
				assert_int_equal(house_act(h, CORE_ACT_DISPATCH, 0) != NULL, want == 's');
			}
		}
		if (off)
			break;
		house_do(h, (struct core_cmd){.type = CORE_CMD_GUARD_SET,
				    .name = BASE_STR(CORE_GUARD),
				    .text = BASE_STR("to see")});
		assert_int_equal(h->reply.status, 202);
		assert_true(core_guard_is_on(h->core, BASE_STR(CORE_GUARD)));
		house_gate(h, h->reply.id, "approve", "");
		assert_false(core_guard_is_on(h->core, BASE_STR(CORE_GUARD)));
	}
}

/* The gate on that very call shows what is sent, and where its labels came from; time lets nothing out. */
/* The worth of a citation tells whether a fact says something: asking often enough would read it. */
static void test_citing_is_reading(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "verify.check",
		"{\"citations\":[{\"key\":\"customers/anna\",\"quote\":\"is there this?\"}],"
		"\"value\":\"a value that is long enough\"}",
		"");
	assert_int_equal(labels(h, run), PRIVATE);
	house_call(h, run, 1, "verify.check",
		"{\"citations\":[{\"key\":\"inbox/nobody\",\"quote\":\"is there this?\"}],"
		"\"value\":\"a value that is long enough\"}",
		"");
	assert_int_equal(labels(h, run), BOTH);
}

static void test_gate_shows_sources(void **state)
{
	struct house *h = *state;
	uint32_t step;
	uint64_t run = tainted(h, BOTH, &step), gate;
	struct core_gate_opened ev;

	house_call(h, run, step, "mail.send", MAIL, "{\"key\":\"secret\"}");
	gate = gate_of(h, run, step);
	ev = opened(h, gate);
	assert_int_equal(ev.labels, BOTH);
	assert_true(base_str_is(ev.rule, CORE_GUARD));
	assert_true(base_str_is(ev.on_expiry, "deny"));
	assert_true(
		base_str_is(ev.show.data, "{\"action\":\"mail.send\",\"args\":" MAIL ",\"key\":\"secret\"}"));
	assert_true(base_str_is(ev.sources,
		"[{\"label\":\"private\",\"step\":0,\"action\":\"memory.get\",\"key\":\"customers/anna\"},"
		"{\"label\":\"untrusted\",\"step\":1,\"action\":\"memory.get\",\"key\":\"inbox/1\"}]"));
	house_gate(h, gate, "approve", "");
	house_tick(h);
	assert_int_equal(status(h, run, step), CORE_STEP_SENT);
	/* An approval of one call is none of the next. */
	house_call(h, run, step + 1, "mail.send", MAIL, "");
	assert_int_equal(status(h, run, step + 1), CORE_STEP_GATED);
	house_gate(h, gate_of(h, run, step + 1), "deny", "");
	assert_int_equal(status(h, run, step + 1), CORE_STEP_FAILED);
	assert_null(house_act(h, CORE_ACT_DISPATCH, 0));
}

/* An approval given beforehand counts where it says of every argument where it stood in what was shown; else a gate asks. */
static void test_approval_beforehand(void **state)
{
	static const struct {
		const char *fixed, *opts;
		bool sent;
	} table[] = {
		{"{\"subject\":\"/s\",\"text\":\"/t\",\"to\":\"/a\"}", "", true},
		{"{\"subject\":\"/s\",\"to\":\"/a\"}", "", false},
		{"[\"subject\",\"text\",\"to\"]", "", false},
		{"{\"subject\":\"/s\",\"text\":\"/t\",\"to\":[\"/a\",\"/s\"]}", "", false},
		{"[]", "", false},
		{"{\"subject\":\"/s\",\"text\":\"/t\",\"to\":\"/a\"}", ",\"key\":\"secret\"", false},
	};
	struct house *h = *state;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		uint32_t step;
		uint64_t run = tainted(h, BOTH, &step), gate;
		char args[512], opts[128];

		snprintf(args, sizeof(args),
			"{\"allows\":{\"action\":\"mail.send\",\"count\":5,\"fixed\":%s},"
			"\"show\":{\"a\":\"a@b.example\",\"s\":\"s\",\"t\":\"t\"},\"title\":\"T\"}",
			table[i].fixed);
		house_call(h, run, step, "gate.ask", args, "");
		gate = gate_of(h, run, step);
		assert_int_equal(opened(h, gate).labels, BOTH);
		assert_true(opened(h, gate).sources.len > 0);
		house_gate(h, gate, "approve", "");
		snprintf(
			opts, sizeof(opts), "{\"approval\":%llu%s}", (unsigned long long)gate, table[i].opts);
		house_call(h, run, step + 1, "mail.send", MAIL, opts);
		if (status(h, run, step + 1) != (table[i].sent ? CORE_STEP_SENT : CORE_STEP_GATED))
			fail_msg("%s: %u", table[i].fixed, status(h, run, step + 1));
	}
}

/* What is held while the rule is off meets it again when it would leave. */
static void test_again_at_release(void **state)
{
	struct house *h = *state;
	uint32_t step;
	struct base_str shown;
	uint64_t run, asked;

	house_do(h, (struct core_cmd){.type = CORE_CMD_GUARD_SET,
			    .name = BASE_STR(CORE_GUARD),
			    .text = BASE_STR("why not")});
	asked = h->reply.id;
	house_gate(h, asked, "approve", "");
	run = tainted(h, BOTH, &step);
	house_do(h, (struct core_cmd){.type = CORE_CMD_FREEZE});
	house_call(h, run, step, "mail.send", MAIL, "{\"key\":\"told by it\"}");
	assert_int_equal(status(h, run, step), CORE_STEP_HELD);
	house_do(h, (struct core_cmd){.type = CORE_CMD_GUARD_SET, .name = BASE_STR(CORE_GUARD), .base = 1});
	assert_true(core_guard_is_on(h->core, BASE_STR(CORE_GUARD)));
	house_do(h, (struct core_cmd){.type = CORE_CMD_THAW});
	house_tick(h);
	assert_int_equal(status(h, run, step), CORE_STEP_GATED);
	assert_int_equal(opened(h, gate_of(h, run, step)).labels, BOTH);
	shown = opened(h, gate_of(h, run, step)).show.data;
	assert_non_null(memmem(shown.ptr, shown.len, "told by it", 10)); /* it goes along */
	house_gate(h, gate_of(h, run, step), "approve", "");
	house_tick(h);
	assert_int_equal(status(h, run, step), CORE_STEP_SENT);
}

/* Who may turn the rule off, and how. */
static void test_guard_off(void **state)
{
	static const struct {
		const char *by, *name, *reason;
		int status;
	} table[] = {
		{"operator", CORE_GUARD, "", 422}, {"operator", "another", "r", 404},
		{"key/ci", CORE_GUARD, "r", 403}, {"flow/f", CORE_GUARD, "r", 403},
		{"operator", CORE_GUARD, "r", 202}, {"operator", CORE_GUARD, "r", 409}, /* asked already */
	};
	struct house *h = *state;
	uint64_t gate = 0;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		house_do(h, (struct core_cmd){.type = CORE_CMD_GUARD_SET,
				    .by = {.id = base_str_of(table[i].by)},
				    .name = base_str_of(table[i].name),
				    .text = base_str_of(table[i].reason)});
		assert_int_equal(h->reply.status, table[i].status);
		gate = h->reply.status == 202 ? h->reply.id : gate;
	}
	house_do(h, (struct core_cmd){.type = CORE_CMD_GATE_DECIDE,
			    .by = {.id = BASE_STR("key/ci")},
			    .id = gate,
			    .name = BASE_STR("approve"),
			    .hash = opened(h, gate).shown});
	assert_int_equal(h->reply.status, 403);
	assert_true(core_guard_is_on(h->core, BASE_STR(CORE_GUARD)));
	house_gate(h, gate, "deny", "");
	assert_true(core_guard_is_on(h->core, BASE_STR(CORE_GUARD)));
}

/* Private data is routed past models that nobody trusts with it. */
static void test_private_models(void **state)
{
	struct house *h = *state;
	uint32_t step;
	uint64_t run = tainted(h, PRIVATE, &step);

	house_call(h, run, step, "model.generate",
		"{\"max_tokens\":9,\"messages\":[{\"content\":\"x\",\"role\":\"user\"}],\"tier\":\"both\"}",
		"");
	assert_int_equal(status(h, run, step), CORE_STEP_SENT);
	assert_non_null(strstr(core_step_open(&core_run_find(h->core, run)->step[step])->effect->route.ptr,
		"\"provider\":\"near\""));
	/* It fails: there is no other that may see it. */
	house_result(h, run, step, 1, CORE_WIRE_RETRY, "{\"code\":\"x\",\"message\":\"y\"}");
	h->now_ms += 60000;
	house_tick(h);
	assert_non_null(strstr(core_step_open(&core_run_find(h->core, run)->step[step])->effect->route.ptr,
		"\"provider\":\"near\""));
	house_call(h, run, step + 1, "model.generate",
		"{\"max_tokens\":9,\"messages\":[{\"content\":\"x\",\"role\":\"user\"}],\"tier\":\"open\"}",
		"");
	assert_int_equal(status(h, run, step + 1), CORE_STEP_FAILED);
	assert_non_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "no_route"));
}

static uint64_t start_as(struct house *h, const char *by)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_START,
			    .by = {.id = base_str_of(by)},
			    .name = BASE_STR("f"),
			    .body = BASE_STR("{}")});
	return h->reply.id;
}

/* What comes in by a key is untrusted, unless the operator says otherwise: inputs, signals, events, facts, forks, answers. */
static void test_callers(void **state)
{
	struct house *h = *state;
	uint64_t run = start_as(h, "key/web"), own = start_as(h, "operator");

	assert_int_equal(labels(h, run), UNTRUSTED);
	assert_int_equal(labels(h, start_as(h, "key/shop-1")), NONE);
	assert_int_equal(labels(h, own), NONE);
	house_do(h, (struct core_cmd){.type = CORE_CMD_SIGNAL,
			    .by = {.id = BASE_STR("key/web")},
			    .run = own,
			    .name = BASE_STR("go"),
			    .body = BASE_STR("1")});
	assert_int_equal(labels(h, own), NONE); /* it has not heard it yet */
	house_call(h, own, 0, "signal.wait", "{\"name\":\"go\"}", "");
	assert_int_equal(labels(h, own), UNTRUSTED);
	own = start_as(h, "operator");
	house_call(h, own, 0, "signal.wait", "{\"name\":\"go\"}", "");
	house_do(h, (struct core_cmd){.type = CORE_CMD_SIGNAL,
			    .by = {.id = BASE_STR("key/web")},
			    .run = own,
			    .name = BASE_STR("go"),
			    .body = BASE_STR("1")});
	assert_int_equal(labels(h, own), UNTRUSTED);
	own = start_as(h, "operator");
	house_call(h, own, 0, "event.wait", "{\"topic\":\"a\"}", "");
	house_do(h,
		(struct core_cmd){
			.type = CORE_CMD_PUBLISH, .by = {.id = BASE_STR("key/web")}, .name = BASE_STR("a")});
	assert_int_equal(labels(h, own), UNTRUSTED);
	house_do(h, (struct core_cmd){.type = CORE_CMD_FACT_PUT,
			    .by = {.id = BASE_STR("key/web")},
			    .name = BASE_STR("notes/1"),
			    .body = BASE_STR("1"),
			    .base = -1});
	assert_int_equal(core_fact_labels(h->core, BASE_STR("notes/1")), UNTRUSTED);
	house_do(h, (struct core_cmd){.type = CORE_CMD_FACT_PUT,
			    .name = BASE_STR("notes/2"),
			    .body = BASE_STR("1"),
			    .base = -1,
			    .labels = PRIVATE});
	assert_int_equal(core_fact_labels(h->core, BASE_STR("notes/2")), PRIVATE);
}

/* A fact that a tainted run wrote taints whoever reads it, in any way, and what that one writes. */
static void test_fault_53_memory_poisoning(void **state)
{
	struct house *h = *state;
	uint32_t step;
	uint64_t run = tainted(h, BOTH, &step), next;

	house_call(h, run, step, "memory.put", "{\"key\":\"notes/1\",\"value\":\"x\"}", "");
	next = house_start(h, "f", "{}");
	house_call(h, next, 0, "memory.get", "{\"key\":\"notes/2\"}", "");
	assert_int_equal(labels(h, next), NONE);
	house_call(h, next, 1, "memory.list", "{\"prefix\":\"notes/\"}", "");
	assert_int_equal(labels(h, next), BOTH);
	house_call(h, next, 2, "memory.put", "{\"key\":\"notes/2\",\"value\":\"y\"}", "");
	next = house_start(h, "f", "{}");
	house_call(h, next, 0, "memory.get", "{\"key\":\"notes/2\"}", "");
	assert_int_equal(labels(h, next), BOTH);
	house_call(h, next, 1, "http.get", "{\"url\":\"https://a.example/\"}", "");
	assert_int_equal(status(h, next, 1), CORE_STEP_GATED);
	house_check(h);
	/* What the views found, by what they say of it and by what the state knows; what cannot be read may be anything. */
	next = house_start(h, "f", "{}");
	house_call(h, next, 0, "memory.search", "{\"query\":\"x\"}", "");
	house_result(h, next, 0, 1, CORE_WIRE_DONE, "{\"hits\":[{\"id\":\"notes/1\",\"kind\":\"fact\"}]}");
	assert_int_equal(labels(h, next), BOTH);
	next = house_start(h, "f", "{}");
	house_call(h, next, 0, "memory.search", "{\"query\":\"x\"}", "");
	house_result(h, next, 0, 1, CORE_WIRE_DONE,
		"{\"hits\":[{\"id\":\"doc\",\"kind\":\"document\",\"labels\":[\"untrusted\"]}]}");
	assert_int_equal(labels(h, next), UNTRUSTED);
	next = house_start(h, "f", "{}");
	house_call(h, next, 0, "memory.history", "{\"key\":\"a\"}", "");
	house_result(h, next, 0, 1, CORE_WIRE_DONE, "{\"items\":[{\"labels\":[\"private\"]}]}");
	assert_int_equal(labels(h, next), PRIVATE);
	next = house_start(h, "f", "{}");
	house_call(h, next, 0, "memory.search", "{\"query\":\"x\"}", "");
	house_result(h, next, 0, 1, CORE_WIRE_DONE, "not JSON");
	assert_int_equal(labels(h, next), BOTH);
}

/* A file has the labels of who wrote it, however its path is spelled; folders that are marked too. */
static void test_files(void **state)
{
	static const char *const paths[] = {"{\"path\":\"out/a.txt\"}", "{\"path\":\"./out//a.txt\"}",
		"{\"path\":\"x/../out/a.txt\"}", "{\"path\":\"out/./a.txt\"}"};
	struct house *h = *state;
	uint32_t step;
	uint64_t run = tainted(h, BOTH, &step);

	house_call(h, run, step, "file.write", "{\"path\":\"out/./a.txt\",\"text\":\"x\"}", "");
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		run = house_start(h, "f", "{}");
		house_call(h, run, 0, "file.read", paths[i], "");
		house_result(h, run, 0, 1, CORE_WIRE_DONE, "{}");
		assert_int_equal(labels(h, run), BOTH);
	}
	run = house_start(h, "f", "{}");
	house_call(h, run, 0, "file.read", "{\"path\":\"b.txt\"}", "");
	house_result(h, run, 0, 1, CORE_WIRE_DONE, "{}");
	assert_int_equal(labels(h, run), NONE);
	house_call(h, run, 1, "file.read", "{\"path\":\"vip/b.txt\"}", "");
	house_result(h, run, 1, 1, CORE_WIRE_DONE, "{}");
	assert_int_equal(labels(h, run), PRIVATE);
	house_call(h, run, 2, "file.list", "{\"path\":\"out\"}", "");
	house_result(h, run, 2, 1, CORE_WIRE_DONE, "{}");
	assert_int_equal(labels(h, run), BOTH);
}

/* Mails that were delivered to a folder hold what their sender had read, and are not marked one by one. */
static void test_outbox(void **state)
{
	static const struct {
		const char *args;
		unsigned labels;
	} at[] = {{"{\"path\":\"outbox/new/1\"}", BOTH}, {"{\"path\":\"x/../outbox/cur/1\"}", BOTH},
		{"{\"path\":\"outbox\"}", BOTH}, {"{\"path\":\"outbox2/1\"}", NONE},
		{"{\"path\":\"out/outbox/1\"}", NONE}};
	struct house *h = *state;

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		uint64_t run = house_start(h, "f", "{}");

		house_call(h, run, 0, i == 2 ? "file.list" : "file.read", at[i].args, "");
		house_result(h, run, 0, 1, CORE_WIRE_DONE, "{}");
		assert_int_equal(labels(h, run), at[i].labels);
	}
}

/* A private fact spelled out in the counts of an experiment is read as private, by its counts and by its choices. */
static void test_experiments(void **state)
{
#define CHOOSE "{\"arms\":[1,2],\"mode\":\"best\",\"name\":\"bits\"}"
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	uint32_t step;

	house_call(h, run, 0, "experiment.choose", CHOOSE, "");
	house_call(h, run, 1, "experiment.counts", "{\"name\":\"bits\"}", "");
	assert_int_equal(labels(h, run), NONE);
	run = tainted(h, PRIVATE, &step);
	house_call(h, run, step, "outcome.record",
		"{\"arm\":1,\"experiment\":\"bits\",\"name\":\"n\",\"value\":1234567890}", "");
	assert_int_equal(status(h, run, step), CORE_STEP_DONE);
	run = house_start(h, "f", "{}");
	house_call(h, run, 0, "experiment.choose", CHOOSE, "");
	assert_int_equal(labels(h, run), PRIVATE);
	run = house_start(h, "f", "{}");
	house_call(h, run, 0, "experiment.counts", "{\"name\":\"bits\"}", "");
	assert_int_equal(labels(h, run), PRIVATE);
	house_do(h, (struct core_cmd){.type = CORE_CMD_OUTCOME,
			    .body = BASE_STR("{\"arm\":0,\"experiment\":\"bits\",\"name\":\"n\"}"),
			    .by = {.id = BASE_STR("key/site")}});
	assert_int_equal(h->reply.status, 201);
	house_call(h, run, 1, "experiment.choose", CHOOSE, "");
	assert_int_equal(labels(h, run), PRIVATE);
	house_call(h, run, 2, "experiment.counts", "{\"name\":\"bits\"}", "");
	assert_int_equal(labels(h, run), BOTH);
#undef CHOOSE
}

static void finish(struct house *h, uint64_t run, uint32_t steps, bool ok, const char *value)
{
	house_do(h, (struct core_cmd){.type = ok ? CORE_CMD_FLOW_DONE : CORE_CMD_FLOW_FAILED,
			    .run = run,
			    .step = steps,
			    .body = base_str_of(value)});
}

/* A run that reads what is private, called by one that has read nothing. */
static uint64_t call_child(struct house *h, const char *args, uint64_t *ret_child)
{
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "run.call", args, "");
	*ret_child = house_act(h, CORE_ACT_RUN_LOAD, 0) ? house_act(h, CORE_ACT_RUN_LOAD, 0)->run : 0;
	if (*ret_child)
		house_call(h, *ret_child, 0, "memory.get", "{\"key\":\"customers/anna\"}", "");
	return run;
}

/* The labels of a child come with what it gives, and with what it fails with; those of the caller go to the child. */
static void test_children(void **state)
{
	struct house *h = *state;
	uint64_t child, run = call_child(h, "{\"flow\":\"wide\",\"input\":{}}", &child);
	uint32_t step;

	finish(h, child, 1, true, "{\"all\":1}");
	assert_int_equal(labels(h, run), PRIVATE);
	run = call_child(h, "{\"flow\":\"wide\",\"input\":{}}", &child);
	finish(h, child, 1, false, "{\"code\":\"failed\",\"message\":\"the secret\"}");
	assert_int_equal(labels(h, run), PRIVATE);
	run = tainted(h, UNTRUSTED, &step);
	house_call(h, run, step, "run.start", "{\"flow\":\"wide\",\"input\":{}}", "");
	child = house_act(h, CORE_ACT_RUN_LOAD, 0)->run;
	assert_int_equal(labels(h, child), UNTRUSTED);
	/* Again: the next generation; a fork: what it takes over. */
	run = tainted(h, BOTH, &step);
	house_call(h, run, step, "run.again", "{\"state\":{}}", "");
	assert_int_equal(labels(h, run + 1), BOTH);
	run = tainted(h, BOTH, &step);
	house_do(h, (struct core_cmd){
			    .type = CORE_CMD_RUN_FORK, .run = run, .step = 1, .params = BASE_STR("{}")});
	assert_int_equal(h->reply.status, 201);
	assert_int_equal(labels(h, h->reply.id), PRIVATE);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_FORK,
			    .by = {.id = BASE_STR("key/web")},
			    .run = run,
			    .step = 1,
			    .params = BASE_STR("{}")});
	assert_int_equal(labels(h, h->reply.id), BOTH);
}

#define SHED "{\"flow\":\"child\",\"input\":{},\"shed\":[\"private\"]}"

/* One way round: a narrow value, and the operator's word. */
static void test_shed(void **state)
{
	struct house *h = *state;
	uint64_t child, run = call_child(h, SHED, &child), gate;
	struct core_gate_opened ev;

	finish(h, child, 1, true, "{\"tier\":\"gold\"}");
	assert_int_equal(labels(h, run), NONE);
	gate = gate_of(h, run, 0);
	ev = opened(h, gate);
	assert_true(base_str_is(ev.kind, "shed"));
	assert_int_equal(ev.labels & PRIVATE, PRIVATE);
	assert_non_null(strstr(ev.show.data.ptr, "\"value\":{\"tier\":\"gold\"}"));
	house_do(h, (struct core_cmd){.type = CORE_CMD_GATE_DECIDE,
			    .by = {.id = BASE_STR("key/ci")},
			    .id = gate,
			    .name = BASE_STR("approve"),
			    .hash = ev.shown});
	assert_int_equal(h->reply.status, 403);
	house_gate(h, gate, "approve", "");
	assert_int_equal(status(h, run, 0), CORE_STEP_DONE);
	assert_string_equal(house_act(h, CORE_ACT_RESULT, 0)->text, "{\"tier\":\"gold\"}");
	assert_int_equal(labels(h, run), NONE);
	/* Denied: the call fails, and nothing of the value is told. */
	run = call_child(h, SHED, &child);
	finish(h, child, 1, true, "{\"tier\":\"gold\"}");
	house_gate(h, gate_of(h, run, 0), "deny", "");
	assert_int_equal(status(h, run, 0), CORE_STEP_FAILED);
	assert_null(strstr(house_act(h, CORE_ACT_RESULT, 0)->text, "gold"));
	assert_int_equal(labels(h, run), NONE);
	/* What does not fit is not even shown, what fails keeps its labels. */
	run = call_child(h, SHED, &child);
	finish(h, child, 1, true, "{\"tier\":\"gold\",\"more\":\"x\"}");
	assert_int_equal(status(h, run, 0), CORE_STEP_FAILED);
	assert_int_equal(labels(h, run), NONE);
	run = call_child(h, SHED, &child);
	finish(h, child, 1, false, "{\"code\":\"failed\",\"message\":\"the secret\"}");
	assert_int_equal(labels(h, run), PRIVATE);
	/* A flow whose output is open, or undeclared, sheds nothing. */
	run = call_child(h, "{\"flow\":\"wide\",\"input\":{},\"shed\":[\"private\"]}", &child);
	assert_int_equal(status(h, run, 0), CORE_STEP_FAILED);
	/* Over a generation. */
	run = call_child(h, SHED, &child);
	house_call(h, child, 1, "run.again", "{\"state\":{}}", "");
	finish(h, child + 1, 0, true, "{\"tier\":\"tin\"}");
	assert_true(base_str_is(opened(h, gate_of(h, run, 0)).kind, "shed"));
}

static void test_narrow_schemas(void **state)
{
	static const struct {
		const char *schema;
		bool narrow;
	} table[] = {
		{"{\"type\":\"integer\"}", true},
		{"{\"type\":[\"integer\",\"null\"]}", true},
		{"{\"enum\":[\"a\"]}", true},
		{"{\"const\":\"a\"}", true},
		{"{\"type\":\"string\",\"pattern\":\"^[0-9]+$\",\"maxLength\":20}", true},
		{"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"maxItems\":9}", true},
		{"{\"anyOf\":[{\"type\":\"integer\"},{\"const\":1}]}", true},
		{"{}", false},
		{"true", false},
		{"{\"type\":\"string\"}", false},
		{"{\"type\":\"string\",\"maxLength\":20}", false},
		{"{\"type\":\"string\",\"pattern\":\"x\"}", false},
		{"{\"type\":\"string\",\"pattern\":\"x\",\"maxLength\":129}", false},
		{"{\"type\":[\"integer\",\"string\"]}", false},
		{"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"}}", false},
		{"{\"type\":\"array\",\"maxItems\":9}", false},
		{"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"maxItems\":9,\"prefixItems\":[{}]}",
			false},
		{"{\"type\":\"object\"}", false},
		{"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}", false},
		{"{\"type\":\"object\",\"properties\":{\"a\":{}},\"additionalProperties\":false}", false},
		{"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"}},\"additionalProperties\":{}"
		 "}",
			false},
		{"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"}},\"additionalProperties\":"
		 "false,"
		 "\"patternProperties\":{\".*\":{}}}",
			false},
		{"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}", false},
		{"{\"$ref\":\"#/x\"}", false},
	};
	struct base_json *doc;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(base_json_parse(base_str_of(table[i].schema), &doc, NULL), 0);
		if (core_schema_is_narrow(base_json_root(doc)) != table[i].narrow)
			fail_msg("%s", table[i].schema);
		base_json_free(doc);
	}
}

/* Whether a private fact says something is itself private. */
static void test_citations(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "verify.check",
		"{\"citations\":[{\"key\":\"customers/anna\",\"quote\":\"12345678\"}],\"value\":\"a text of "
		"some length\"}",
		"");
	assert_int_equal(status(h, run, 0), CORE_STEP_DONE);
	assert_int_equal(labels(h, run), PRIVATE);
}

/* What takes steps back has the labels of what they gave, also of a result that comes while it is at work. */
static void test_undo(void **state)
{
	struct house *h = *state;
	uint32_t step;
	uint64_t run = tainted(h, PRIVATE, &step), undo;

	house_call(h, run, step, "http.get", "{\"url\":\"https://a.example/\"}",
		"{\"undo\":{\"action\":\"mail.send\",\"args\":" MAIL "}}");
	house_call(h, run, step + 1, "run.rollback", "{}", "");
	undo = run + 1;
	house_result(h, run, step, 1, CORE_WIRE_DONE, "{}");
	assert_int_equal(labels(h, run), BOTH);
	if (core_run_find(h->core, undo)) {
		assert_int_equal(labels(h, undo), BOTH);
		house_tick(h);
		assert_int_equal(status(h, undo, 0), CORE_STEP_GATED);
	}
}

/* A rollback that had an undo would wait for its own end. */
static void test_rollback_has_no_undo(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "run.rollback", "{}",
		"{\"undo\":{\"action\":\"log.write\",\"args\":{\"level\":\"info\",\"text\":\"x\"}}}");
	assert_int_equal(status(h, run, 0), CORE_STEP_FAILED);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, house_tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_fault_49_lethal_trifecta),
		TEST(test_citing_is_reading),
		TEST(test_gate_shows_sources),
		TEST(test_approval_beforehand),
		TEST(test_again_at_release),
		TEST(test_guard_off),
		TEST(test_private_models),
		TEST(test_callers),
		TEST(test_fault_53_memory_poisoning),
		TEST(test_files),
		TEST(test_outbox),
		TEST(test_experiments),
		TEST(test_children),
		TEST(test_shed),
		TEST(test_narrow_schemas),
		TEST(test_citations),
		TEST(test_undo),
		TEST(test_rollback_has_no_undo),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
