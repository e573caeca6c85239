/* Policy: verdicts and their obligations, limits that splitting does not evade, counters, confidence, delegation. After
 * each test the log is folded from zero and from a snapshot, and both must equal the live state. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/policy_int.h"
#include "house.h"

enum { DONE = 1, FAILED, RETRY, UNKNOWN, NOT_FOUND };
enum { HOUR = 3600000, DAY = 24 * HOUR };

#define FLOW(name, version, grants)                                                                          \
	"{'name':'" name                                                                                     \
	"','version':'00000000000000000000000000000000000000000000000000000000000000" version                \
	"','modules':{'entry':'" name "'},'spec':{},'grants':[" grants "]}"
#define FLOWS                                                                                                \
	"'flows':[" FLOW("f", "aa", "'test.*','memory.*','run.*','agent.run','model.generate'") "," FLOW(    \
		"wide", "bb", "'*'") "," FLOW("narrow", "cc",                                                \
		"'run.*','test.echo'") "],"                                                                  \
				       "'agents':[{'name':'a','definition':{'tools':['test.echo','test."     \
				       "once']}}]"

/* JSON with ' for ". */
static char *q(const char *text)
{
	static char ring[8][16384];
	static unsigned at;
	char *to = ring[at++ % 8];

	snprintf(to, sizeof(ring[0]), "%s", text);
	for (char *c = to; *c; c++)
		if (*c == '\'')
			*c = '"';
	return to;
}

static int set_up(void **state)
{
	return house_set_up(state, q("{" FLOWS "}"));
}

static void policy(struct house *h, const char *rules)
{
	char text[16384];

	snprintf(text, sizeof(text), "{'policy':%s}", rules);
	house_deploy(h, q(text));
}

/* The last event of a type. */
static bool last(struct house *h, unsigned type, union core_event_any *ret)
{
	for (uint64_t seq = core_seq(h->core); seq > 0; seq--) {
		size_t at = h->at[seq];
		struct core_record rec;

		assert_int_equal(core_block_next(base_buf_view(&h->log), &at, &rec), 1);
		if (rec.type == type)
			return core_event_get(rec.type, rec.body, ret) == 0;
	}
	return false;
}

static struct core_step_called called(struct house *h)
{
	union core_event_any e;

	assert_true(last(h, CORE_EV_STEP_CALLED, &e));
	return e.step_called;
}

static void rule_is(struct house *h, const char *rule)
{
	struct core_step_called e = called(h);

	if (!base_str_is(e.rule, rule))
		fail_msg("%.*s, not %s", BASE_STR_ARG(e.rule), rule);
}

/* Asks: 'a' allowed, 'g' gated, 'd' refused. */
static char ask(struct house *h, uint64_t run, const char *action, const char *args, const char *opts)
{
	struct core_run_info info;
	struct core_step_called e;

	assert_true(core_run_get(h->core, run, &info));
	house_call(h, run, info.steps, action, q(args), q(opts));
	e = called(h);
	return e.gate ? 'g' : e.status == CORE_STEP_FAILED ? 'd' : 'a';
}

static char pay(struct house *h, uint64_t run, int amount, const char *customer)
{
	char args[200], opts[200];

	snprintf(args, sizeof(args), "{'value':%d}", amount);
	snprintf(opts, sizeof(opts), "{'customer':'%s'}", customer);
	return ask(h, run, "test.once", args, customer ? opts : "");
}

static bool has(struct base_str text, const char *part)
{
	return memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

static void test_verdicts(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	union core_event_any e;

	assert_int_equal(ask(h, run, "test.echo", "{}", ""), 'd'); /* no policy at all */
	rule_is(h, "default: nothing allows it");
	policy(h, "{'rules':[{'on':'test.*','then':'allow'},"
		  "{'name':'big','on':'test.once','when':'args.value > 10','then':'gate','expires':'2h',"
		  "'on_expiry':'deny','approvers':['operator','key/anna'],'need':2,'remind':'1h','sign':true,"
		  "'escalate':[{'after':'4h','to':['key/ben']}],'announce':['phone']},"
		  "{'name':'huge','on':'test.*','when':'args.value > 100','then':'deny'}]}");
	assert_int_equal(ask(h, run, "test.once", "{'value':5}", ""), 'a');
	rule_is(h, "test.*");
	assert_int_equal(called(h).policy, h->core->policy_seq);
	assert_int_equal(ask(h, run, "test.once", "{'value':50}", ""), 'g');
	rule_is(h, "big");
	assert_true(last(h, CORE_EV_GATE_OPENED, &e));
	assert_true(base_str_is(
		e.gate_opened.terms, q("{'announce':['phone'],'approvers':['operator','key/"
				       "anna'],'escalate':[{'after_ms':14400000,'to':"
				       "['key/ben']}],'need':2,'remind_ms':3600000,'sign':true}")));
	assert_int_equal(e.gate_opened.expires_ms, h->now_ms + 2 * HOUR);
	assert_int_equal(e.gate_opened.policy, h->core->policy_seq);
	assert_int_equal(ask(h, run, "test.once", "{'value':500}", ""), 'd');
	rule_is(h, "huge");
	/* What fails to evaluate matches where it is strict: both do, deny wins. */
	assert_int_equal(ask(h, run, "test.once", "{'value':'a'}", ""), 'd');
	rule_is(h, "huge");
	policy(h, "{'rules':[{'on':'test.*','when':'args.value < 10','then':'allow'}]}");
	assert_int_equal(ask(h, run, "test.once", "{'value':'a'}", ""), 'd');
	rule_is(h, "default: nothing allows it");
	assert_int_equal(ask(h, run, "test.once", "{'value':'a'}", ""), 'd');
	assert_int_equal(ask(h, run, "test.once", "{'value':1}", ""), 'a');
}

/* What a rule read stands in the event, and only where one with a condition was asked. */
static void test_inputs(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	policy(h, "{'counters':{'n':{'on':'test.once','per':'customer'}},"
		  "'rules':[{'on':'test.echo','then':'allow'},"
		  "{'name':'few','on':'test.once','when':'history.n < 2 && confidence < 0.5 && cost == 0 && "
		  "labels.size() == 0','then':'allow'}]}");
	assert_int_equal(ask(h, run, "test.echo", "{}", ""), 'a');
	assert_int_equal(called(h).judged.len, 0);
	assert_int_equal(called(h).counts.len, 0);
	assert_int_equal(pay(h, run, 1, "c"), 'a');
	assert_true(base_str_is(called(h).judged, q("{'cost':0,'history':{'n':0},'labels':[]}")));
	assert_true(base_str_is(called(h).counts, q("[{'counter':'n','key':'c','value':1}]")));
	assert_int_equal(pay(h, run, 1, "c"), 'a');
	assert_int_equal(pay(h, run, 1, "c"), 'd');
	assert_true(has(called(h).judged, q("'history':{'n':2}")));
	assert_int_equal(called(h).counts.len, 0); /* what is refused does not count */
	assert_int_equal(pay(h, run, 1, "other"), 'a');
}

#define WEEKLY                                                                                               \
	"{'rules':[{'name':'refunds','on':'test.once','then':'allow','limit':{'sum':'args.value','max':'"    \
	"500 USD',"                                                                                          \
	"'per':'customer','window':'7d'}}]}"

/* A flow that splits one amount into many finds the limit of them all: in one run, in parallel runs, in child runs, with
 * the customer spelled in other ways; and again only when the time of the limit is over. */
static void fault_44_split_below_limit(void **state)
{
	static const char *const spelled[] = {"anna@a.example", "Anna@A.example", " anna@a.example ",
		"anna\xe2\x80\x8b@a.example", "\xef\xbd\x81nna@a.example", "ANNA@A.EXAMPLE\xc2\xa0"};
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), other, child;
	int passed = 0;

	policy(h, WEEKLY);
	assert_int_equal(pay(h, run, 501, "big"), 'g'); /* at once */
	rule_is(h, "refunds");
	for (int i = 0; i < 20; i++) /* amounts */
		passed += pay(h, run, 40, spelled[i % 6]) == 'a';
	assert_int_equal(passed, 12);
	rule_is(h, "refunds");
	other = house_start(h, "f", "{}");
	assert_int_equal(pay(h, other, 25, "anna@a.example"), 'g'); /* another run */
	house_call(h, other, 1, "run.call", q("{'flow':'f','input':{}}"), "");
	child = h->core->next_run - 1;
	assert_int_equal(pay(h, child, 25, "Anna@a.example"), 'g'); /* a child run */
	assert_int_equal(pay(h, child, 20, "ben@b.example"), 'a');
	h->now_ms += 6 * DAY;
	house_tick(h);
	assert_int_equal(pay(h, other, 30, "anna@a.example"), 'g');
	h->now_ms += 2 * DAY;
	house_tick(h);
	assert_int_equal(
		pay(h, other, 30, "anna@a.example"), 'a'); /* what was gated counted too, and is over now */
}

/* 100 at once: none has an answer yet, and no more pass than one after the other. */
static void fault_44_split_parallel(void **state)
{
	struct house *h = *state;
	int passed = 0;

	policy(h, WEEKLY);
	for (int i = 0; i < 100; i++)
		passed += pay(h, house_start(h, "f", "{}"), 50, "anna") == 'a';
	assert_int_equal(passed, 10);
}

/* Where customers are known by their facts, made-up names share one limit. */
static void fault_44_split_made_up_customers(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	int passed = 0;
	char name[32];

	house_deploy(h, q("{'config':{'customers':'customers/'}}"));
	house_do(h, (struct core_cmd){.type = CORE_CMD_FACT_PUT,
			    .name = BASE_STR("customers/anna"),
			    .body = BASE_STR("{}"),
			    .base = -1});
	policy(h, WEEKLY);
	for (int i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "nobody-%d", i);
		passed += pay(h, run, 50, name) == 'a';
	}
	assert_int_equal(passed, 10);
	assert_int_equal(pay(h, run, 500, "anna"), 'a');
	assert_int_equal(pay(h, run, 500, "Anna"), 'g');
}

/* One customer, composed and decomposed, in each case. */
static void fault_44_split_by_spelling(void **state)
{
	static const char *const spelled[] = {"Jos\xc3\xa9 \xc5\xbd", "jose\xcc\x81 z\xcc\x8c",
		"JOSE\xcc\x81\xc5\xbd", "JOS\xc3\x89\xc5\xbe", "jose\xe2\x80\x8bz"};
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	policy(h, WEEKLY);
	assert_int_equal(pay(h, run, 500, spelled[0]), 'a');
	for (size_t i = 0; i < sizeof(spelled) / sizeof(spelled[0]); i++)
		assert_int_equal(pay(h, run, 1, spelled[i]), 'g');
	assert_int_equal(pay(h, run, 1, "\xc5\x81"), 'a'); /* another letter is another */
}

/* Amounts that are none are not a way around. */
static void fault_44_split_strange_amounts(void **state)
{
	static const char *const args[] = {"{}", "{'value':-100}", "{'value':'-5 USD'}", "{'value':'many'}",
		"{'value':null}", "{'value':[1]}", "{'value':1e300}", "{'value':9223372036854775807}",
		"{'value':true}"};
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	policy(h,
		"{'rules':[{'name':'r','on':'test.once','then':'allow','limit':{'sum':'args.value','max':500,"
		"'window':'7d','else':'deny'}}]}");
	for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++)
		if (ask(h, run, "test.once", args[i], "") != 'd')
			fail_msg("%s passes", args[i]);
	assert_int_equal(ask(h, run, "test.once", "{'value':'499.5 USD'}", ""), 'a');
	assert_int_equal(ask(h, run, "test.once", "{'value':0.25}", ""), 'a');
	assert_int_equal(ask(h, run, "test.once", "{'value':0.26}", ""), 'd');
	assert_int_equal(ask(h, run, "test.once", "{'value':0.25}", ""), 'a');
}

static int64_t used(struct house *h, const char *counter, const char *key)
{
	const struct core_counter *k = core_counter_find(h->core->rules, base_str_of(counter));

	assert_non_null(k);
	return core_count_used(h->core->counts, k, base_str_of(key), h->now_ms);
}

/* Taken back only where it surely did not happen. */
static void test_released(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	policy(h, "{'counters':{'n':{'on':'test.*'}},'rules':[{'on':'test.*','then':'allow'},"
		  "{'on':'test.*','when':'has(args.ask)','then':'gate'}]}");
	assert_int_equal(pay(h, run, 1, ""), 'a');
	house_result(h, run, 0, 1, FAILED, "{}");
	assert_int_equal(used(h, "n", ""), 0);
	assert_int_equal(pay(h, run, 1, ""), 'a');
	house_result(h, run, 1, 1, DONE, "{}");
	assert_int_equal(used(h, "n", ""), 1);
	assert_int_equal(pay(h, run, 1, ""), 'a');
	house_result(h, run, 2, 1, UNKNOWN, "{}"); /* in doubt */
	assert_int_equal(used(h, "n", ""), 2);
	house_gate(h, h->core->next_gate - 1, "give_up", "");
	assert_int_equal(used(h, "n", ""), 2);
	assert_int_equal(ask(h, run, "test.echo", "{'ask':1}", ""), 'g');
	assert_int_equal(used(h, "n", ""), 3);
	house_gate(h, h->core->next_gate - 1, "deny", "");
	assert_int_equal(used(h, "n", ""), 2);
	assert_int_equal(ask(h, run, "test.echo", "{'ask':1}", ""), 'g');
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = run});
	assert_int_equal(used(h, "n", ""), 2);
}

/* What a limit let a gate ask about does not go through by itself, nor twice past the rules at its release. */
static void test_release_again(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");
	union core_event_any e;

	policy(h, "{'rules':[{'name':'two','on':'test.once','then':'allow','on_expiry':'approve','expires':'"
		  "1h',"
		  "'limit':{'max':2,'window':'1d'}}]}");
	assert_int_equal(pay(h, run, 1, ""), 'a');
	assert_int_equal(pay(h, run, 1, ""), 'a');
	assert_int_equal(pay(h, run, 1, ""), 'g');
	assert_true(last(h, CORE_EV_GATE_OPENED, &e));
	assert_true(base_str_is(e.gate_opened.on_expiry, "deny"));
	assert_true(has(e.gate_opened.title, "its limit is used up"));
	house_gate(h, e.gate_opened.gate, "approve", "");
	house_tick(h);
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	/* A counter that a condition reads does not count the call that is released. */
	policy(h, "{'counters':{'n':{'on':'test.once'}},'rules':[{'on':'test.once','when':'history.n < "
		  "1','then':"
		  "'gate'}]}");
	assert_int_equal(pay(h, run, 1, ""), 'g');
	house_gate(h, h->core->next_gate - 1, "approve", "");
	house_tick(h);
	assert_non_null(house_act(h, CORE_ACT_DISPATCH, 0));
	assert_int_equal(pay(h, run, 1, ""), 'd');
}

/* Another policy keeps what is counted under a name that it has too, and forgets the rest. */
static void test_policy_changes(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	policy(h, "{'counters':{'n':{'on':'test.*','window':'1h'},'m':{'on':'test.*'}},'rules':[{'on':'*','"
		  "then':"
		  "'allow'}]}");
	assert_int_equal(pay(h, run, 1, ""), 'a');
	h->now_ms += 30 * 60000;
	assert_int_equal(pay(h, run, 1, ""), 'a');
	assert_int_equal(used(h, "n", ""), 2);
	policy(h, "{'counters':{'n':{'on':'test.*','window':'1d'}},'rules':[{'on':'*','then':'allow'}]}");
	assert_int_equal(used(h, "n", ""), 2);
	assert_int_equal(pay(h, run, 1, ""), 'a');
	house_result(h, run, 1, 1, FAILED, "{}"); /* of the second: 'm' is gone */
	assert_int_equal(used(h, "n", ""), 2);
	policy(h, "{'counters':{'n':{'on':'test.*','window':'1d'},'m':{'on':'test.*'}},'rules':[{'on':'*','"
		  "then':"
		  "'allow'}]}");
	assert_int_equal(used(h, "m", ""), 0);
	h->now_ms += 2 * DAY;
	assert_int_equal(used(h, "n", ""), 0);
	for (int i = 0; i < 50; i++) { /* what is over does not stay */
		char name[32];

		snprintf(name, sizeof(name), "c%d", i);
		policy(h, "{'counters':{'k':{'on':'test.*','per':'customer','window':'1h'}},'rules':[{'on':'*"
			  "','then':"
			  "'allow'}]}");
		assert_int_equal(pay(h, run, 1, name), 'a');
		h->now_ms += HOUR;
	}
	assert_true(
		base_names_count(
			((struct core_count *)base_names_get(h->core->counts, BASE_STR("k")))->tallies) < 5);
}

static const char *problem(struct house *h)
{
	static char text[2000];
	struct core_step_called e = called(h);

	snprintf(text, sizeof(text), "%.*s", BASE_STR_ARG(e.result.data));
	return text;
}

/* Down a chain of child runs grants only narrow, however wide a flow's own are. */
static void fault_52_delegation_narrows(void **state)
{
	struct house *h = *state;
	uint64_t narrow, wide, deep;

	policy(h, "{'rules':[{'on':'*','then':'allow'}]}");
	narrow = house_start(h, "narrow", "{}");
	house_call(h, narrow, 0, "run.call", q("{'flow':'wide','input':{}}"), "");
	wide = h->core->next_run - 1;
	assert_int_equal(ask(h, wide, "test.echo", "{}", ""), 'a');
	assert_int_equal(ask(h, wide, "test.once", "{'value':'a'}", ""), 'd');
	assert_non_null(strstr(problem(h), "its starter may not"));
	house_call(h, wide, 2, "run.start", q("{'flow':'f','input':{}}"), "");
	deep = h->core->next_run - 1;
	assert_int_equal(ask(h, deep, "test.echo", "{}", ""), 'a');
	assert_int_equal(ask(h, deep, "test.once", "{'value':'a'}", ""), 'd');
	assert_int_equal(ask(h, deep, "memory.put", "{'key':'a','value':1}", ""), 'd');
	house_call(h, deep, 3, "run.again", q("{'state':{}}"), ""); /* the next generation is no way out */
	deep = h->core->next_run - 1;
	assert_int_equal(ask(h, deep, "test.once", "{'value':'a'}", ""), 'd');
	assert_int_equal(ask(h, house_start(h, "wide", "{}"), "test.once", "{'value':'a'}", ""), 'a');
	for (int i = 0; i < 40; i++) { /* one that starts itself has each list once */
		struct core_run_info info;

		assert_true(core_run_get(h->core, wide, &info));
		house_call(h, wide, info.steps, "run.start", q("{'flow':'wide','input':{}}"), "");
		wide = h->core->next_run - 1;
	}
	assert_true(core_run_find(h->core, wide)->limits->count <= 2);
}

/* Who narrows a starter narrows what it has started: also what runs already, was held, or goes on as a new generation. */
static void fault_52_starter_is_narrowed(void **state)
{
	struct house *h = *state;
	uint64_t child, waits, next;
	union core_event_any e;

	policy(h, "{'rules':[{'on':'*','then':'allow'},{'on':'test.once','when':'args.value > "
		  "5','then':'gate'}]}");
	house_call(h, house_start(h, "f", "{}"), 0, "run.start", q("{'flow':'wide','input':{}}"), "");
	child = h->core->next_run - 1;
	house_call(h, house_start(h, "f", "{}"), 0, "run.start", q("{'flow':'wide','input':{}}"), "");
	waits = h->core->next_run - 1;
	house_call(h, child, 0, "run.start", q("{'flow':'narrow','input':{}}"), "");
	next = h->core->next_run - 1;
	assert_int_equal(ask(h, child, "test.once", "{'value':1}", ""), 'a');
	assert_int_equal(ask(h, waits, "test.once", "{'value':6}", ""), 'g');
	assert_true(last(h, CORE_EV_GATE_OPENED, &e));
	house_deploy(h, q("{'flows':[" FLOW("f", "aa", "'run.*'") "]}"));
	assert_int_equal(ask(h, child, "test.once", "{'value':1}", ""), 'd');
	assert_non_null(strstr(problem(h), "its starter may not"));
	assert_int_equal(ask(h, next, "test.echo", "{}", ""), 'd'); /* down the chain */
	house_gate(h, e.gate_opened.gate, "approve", "");
	house_tick(h);
	assert_true(last(h, CORE_EV_STEP_FAILED, &e));
	assert_int_equal(e.step_failed.run, waits);
	assert_true(has(e.step_failed.problem, "no grant"));
	house_call(h, waits, 1, "run.again", q("{'state':{}}"), "");
	assert_int_equal(ask(h, h->core->next_run - 1, "test.echo", "{}", ""), 'd');
	/* Widened, it reaches no further than when they began. */
	house_deploy(h, q("{'flows':[" FLOW("f", "aa", "'*'") "]}"));
	assert_int_equal(ask(h, child, "test.once", "{'value':1}", ""), 'a');
	assert_int_equal(ask(h, child, "file.write", "{'path':'a','text':'a'}", ""), 'd');
}

/* A window that is shortened for a while: what was counted before is not taken from what others count after. */
static void test_window_there_and_back(void **state)
{
	static const char *const windows[] = {"64h", "1s", "640h"};
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}"), gate = 0;
	union core_event_any e;
	char text[512];

	h->now_ms += 10 * HOUR - h->now_ms % (10 * HOUR);
	for (int i = 0; i < 3; i++) {
		snprintf(text, sizeof(text),
			"{'rules':[{'name':'pay','on':'test.once','then':'%s','limit':{'sum':'args.value',"
			"'max':100,'per':'customer','window':'%s','else':'deny'}}]}",
			i ? "allow" : "gate", windows[i]);
		policy(h, text);
		assert_int_equal(pay(h, run, i == 0 ? 50 : 40, i == 1 ? "b" : "a"), i ? 'a' : 'g');
		if (i == 0) {
			assert_true(last(h, CORE_EV_GATE_OPENED, &e));
			gate = e.gate_opened.gate;
		}
		h->now_ms += HOUR + 10000;
	}
	house_check(h);
	house_gate(h, gate, "deny", "");
	assert_int_equal(pay(h, run, 61, "a"), 'd'); /* the 40 are counted still */
	assert_int_equal(pay(h, run, 59, "a"), 'a');
}

/* The terms of the last gate that was opened. */
static void terms_are(struct house *h, const char *terms, const char *on_expiry, int64_t expires_ms)
{
	union core_event_any e;

	assert_true(last(h, CORE_EV_GATE_OPENED, &e));
	if (!base_str_is(e.gate_opened.terms, q(terms)))
		fail_msg("%.*s, not %s", BASE_STR_ARG(e.gate_opened.terms), terms);
	if (!base_str_is(e.gate_opened.on_expiry, on_expiry))
		fail_msg("%.*s, not %s", BASE_STR_ARG(e.gate_opened.on_expiry), on_expiry);
	assert_int_equal(e.gate_opened.expires_ms, expires_ms ? h->now_ms + expires_ms : 0);
}

/* A second rule that gates the same call is not hidden behind the first. */
static void test_several_gates(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	policy(h, "{'rules':[{'on':'test.*','then':'allow'},"
		  "{'name':'soft','on':'test.*','then':'gate','expires':'1h','on_expiry':'approve'},"
		  "{'name':'late','on':'test.once','when':'args.value > 5','then':'gate','expires':'2h',"
		  "'on_expiry':'approve','remind':'1h'},"
		  "{'name':'two','on':'test.once','when':'args.value > 10','then':'gate','need':2,"
		  "'approvers':['key/anna','key/ben']},"
		  "{'name':'signed','on':'test.once','when':'args.value > 20','then':'gate','sign':true,"
		  "'expires':'3h','approvers':['key/anna']},"
		  "{'name':'other','on':'test.once','when':'args.value > 30','then':'gate','operator':false,"
		  "'approvers':['key/ben']}]}");
	assert_int_equal(pay(h, run, 1, "a"), 'g');
	terms_are(h, "", "approve", HOUR);
	assert_int_equal(pay(h, run, 6, "a"), 'g');
	rule_is(h, "soft");
	terms_are(h, "", "approve", 2 * HOUR);
	assert_int_equal(pay(h, run, 11, "a"), 'g');
	terms_are(h, "{'approvers':['key/anna','key/ben'],'need':2}", "deny", HOUR);
	assert_int_equal(pay(h, run, 21, "a"), 'g');
	terms_are(h, "{'approvers':['key/anna'],'need':2,'sign':true}", "deny", HOUR);
	assert_int_equal(pay(h, run, 31, "a"), 'd');
	assert_non_null(strstr(problem(h), "nobody may decide for all of them"));
}

/* What is over its limit is not let through by time because another rule gates it already. */
static void fault_44_split_waits_for_time(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	policy(h, "{'rules':[{'name':'soft','on':'test.once','then':'gate','expires':'1h','on_expiry':'"
		  "approve',"
		  "'limit':{'sum':'args.value','max':10}}]}");
	assert_int_equal(pay(h, run, 10, "a"), 'g');
	terms_are(h, "", "approve", HOUR);
	assert_int_equal(pay(h, run, 1, "a"), 'g');
	terms_are(h, "", "deny", HOUR);
	policy(h, "{'rules':[{'name':'soft','on':'test.once','then':'gate','expires':'1h','on_expiry':'"
		  "approve'}"
		  "],'counters':{'spent':{'on':'test.once','sum':'args.value'}}}");
	assert_int_equal(ask(h, run, "test.once", "{'value':'x'}", ""), 'g');
	terms_are(h, "", "deny", HOUR);
}

/* A flow asks beforehand on terms that it chooses: they answer no rule that wants more. */
static void test_approval_on_weaker_terms(void **state)
{
	static const struct {
		const char *rule, *terms;
		char verdict;
	} table[] = {
		{"", "{}", 'a'},
		{"", "{'announce':['phone'],'need':1}", 'a'},
		{"", "{'approvers':['key/anna']}", 'g'},
		{"", "{'escalate':[{'after_ms':1,'to':['key/anna']}]}", 'g'},
		{",'approvers':['key/anna']", "{'approvers':['key/anna']}", 'a'},
		{",'approvers':['key/a*']", "{'approvers':['key/anna']}", 'a'},
		{",'approvers':['key/anna']", "{'approvers':['key/*']}", 'g'},
		{",'sign':true", "{}", 'g'},
		{",'need':2,'approvers':['key/anna']", "{}", 'g'},
		{",'operator':false,'approvers':['key/anna']", "{}", 'g'},
	};
	struct house *h = *state;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char text[1024];
		uint64_t run = house_start(h, "f", "{}"), gate;
		union core_event_any e;

		snprintf(text, sizeof(text), "{'rules':[{'on':'test.*','then':'gate'%s}]}", table[i].rule);
		policy(h, text);
		snprintf(text, sizeof(text),
			"{'allows':{'action':'test.once','count':1,'fixed':[]},'show':{},'terms':%s,"
			"'title':'t'}",
			table[i].terms);
		house_call(h, run, 0, "gate.ask", q(text), "");
		assert_true(last(h, CORE_EV_GATE_OPENED, &e));
		gate = e.gate_opened.gate;
		house_gate(h, gate, "approve", "");
		snprintf(text, sizeof(text), "{'approval':%llu}", (unsigned long long)gate);
		if (ask(h, run, "test.once", "{'value':1}", text) != table[i].verdict)
			fail_msg("%s / %s is not %c", table[i].rule, table[i].terms, table[i].verdict);
	}
}

static bool nothing_read(void *userdata, uint64_t seq, struct core_record *ret)
{
	(void)userdata, (void)seq, (void)ret;
	return false;
}

/* Conditions that make large texts, in many rules, take no more memory than one does. */
static void test_large_conditions(void **state)
{
	enum { LARGE = 1000000, RULES = 150 };
	struct house *h = *state;
	struct base_buf ask, rules;
	struct base_err err;

	base_buf_init(&rules, 1 << 20);
	base_buf_init(&ask, 8 << 20);
	base_buf_cstr(&rules, "{'policy':{'rules':[");
	for (int i = 0; i < RULES; i++)
		base_buf_printf(&rules,
			"{'name':'r%d','on':'test.*','when':'args.t.lowerAscii().size() < "
			"%d','then':'deny'},",
			i, i);
	base_buf_cstr(
		&rules, "{'name':'lim','on':'test.*','then':'allow','limit':{'max':5,'per':'args.t'}}]}}");
	base_buf_char(&rules, 0);
	for (char *c = rules.ptr; *c; c++)
		*c = *c == '\'' ? '"' : *c;
	house_deploy(h, rules.ptr);
	base_buf_cstr(&ask, "{\"who\":\"flow/f\",\"action\":\"test.echo\",\"args\":{\"t\":\"");
	for (int i = 0; i < LARGE; i++)
		base_buf_char(&ask, 'A');
	base_buf_cstr(&ask, "\"}}");
	base_buf_clear(&rules);
	assert_int_equal(
		core_can_json(h->core, base_buf_view(&ask), h->now_ms, nothing_read, NULL, &rules, &err), 0);
	assert_true(has(base_buf_view(&rules), "\"verdict\":\"allow\""));
	base_buf_done(&rules);
	base_buf_done(&ask);
}

#define ASKED                                                                                                \
	"{'max_tokens':10,'messages':[{'content':'SOURCES\\nx\\n\\nTEXT\\nThe mill closed in "               \
	"1931.','role':'user'}],"                                                                            \
	"'system':'You check a text against its sources. Answer with JSON alone: {\\'confidence\\': 0 to "   \
	"1, "                                                                                                \
	"\\'problems\\': [\\'…\\']}.','tier':'draft'}"
#define VALUE "'The mill closed in 1931.'"

static void verified(struct house *h, uint64_t run, const char *args, const char *confidence)
{
	assert_int_equal(ask(h, run, "verify.check", args, ""), 'a');
	if (!strstr(problem(h), q(confidence)))
		fail_msg("%s is not %s", problem(h), confidence);
}

static void test_confidence(void **state)
{
	struct house *h = *state;
	uint64_t run, other;

	house_deploy(h, q("{'config':{'models':{'tiers':{'draft':['local/extract']}}}}"));
	policy(h, "{'rules':[{'on':'model.*','then':'allow'},{'name':'sure','on':'test.once','when':'"
		  "confidence >= 0.9',"
		  "'then':'allow'},{'name':'unsure','on':'test.once','when':'confidence < "
		  "0.9','then':'gate'}]}");
	house_do(h, (struct core_cmd){.type = CORE_CMD_FACT_PUT,
			    .name = BASE_STR("mill"),
			    .body = BASE_STR("{\"text\":\"It closed in 1931, said Ida.\"}"),
			    .base = -1});
	run = house_start(h, "f", "{}");
	assert_int_equal(
		ask(h, run, "verify.check", "{'value':" VALUE "}", ""), 'd'); /* form proves nothing */
	assert_int_equal(ask(h, run, "verify.check", "{'schema':{},'value':" VALUE "}", ""), 'd');
	assert_int_equal(ask(h, run, "verify.check", "{'citations':[],'value':'short'}", ""), 'd');
	verified(h, run, "{'citations':[],'value':" VALUE "}", "'confidence':0,");
	verified(h, run, "{'citations':[{'key':'mill','quote':'closed in 1931'}],'value':" VALUE "}",
		"'confidence':1000,");
	verified(h, run,
		"{'citations':[{'key':'mill','quote':'closed in 1931'},{'key':'mill','quote':'closed in "
		"1932'}],'value':" VALUE "}",
		"'confidence':500,");
	verified(h, run,
		"{'citations':[{'key':'mill','quote':'closed in "
		"1931'}],'schema':{'type':'object'},'value':" VALUE "}",
		"'confidence':0,");
	assert_int_equal(ask(h, run, "memory.put", "{'key':'own','value':'closed in 1931'}", ""), 'a');
	verified(h, run, "{'citations':[{'key':'own','quote':'closed in 1931'}],'value':" VALUE "}",
		"'confidence':0,");
	/* Steps: 4 is worth 1000, 5 is worth 500. */
	assert_int_equal(ask(h, run, "test.once", "{'value':" VALUE "}", "{'confidence':4}"), 'a');
	rule_is(h, "sure");
	assert_true(has(called(h).judged, q("'confidence':1000")));
	assert_int_equal(
		ask(h, run, "test.once", "{'value':{'body':" VALUE ",'n':1}}", "{'confidence':4}"), 'a');
	assert_int_equal(ask(h, run, "test.once", "{'value':" VALUE "}", "{'confidence':5}"), 'g');
	rule_is(h, "unsure");
	assert_int_equal(
		ask(h, run, "test.once", "{'value':'The mill closed in 1930.'}", "{'confidence':4}"), 'g');
	assert_int_equal(ask(h, run, "test.once", "{'value':" VALUE "}", ""), 'g');
	assert_int_equal(ask(h, run, "test.once", "{'value':" VALUE "}", "{'confidence':0}"), 'g');
	assert_int_equal(ask(h, run, "test.once", "{'value':" VALUE "}", "{'confidence':0.99}"), 'g');
	assert_int_equal(ask(h, run, "test.once", "{'value':" VALUE "}", "{'confidence':1000000}"), 'g');
	other = house_start(h, "f", "{}"); /* another run's is not its own */
	assert_int_equal(ask(h, other, "test.once", "{'value':" VALUE "}", "{'confidence':4}"), 'g');
}

/* A model's word counts only where it was asked about this value, in this run. */
static void test_confidence_model(void **state)
{
	struct house *h = *state;
	uint64_t run;
	char args[2000];

	house_deploy(h, q("{'config':{'models':{'tiers':{'draft':['local/extract']}}}}"));
	policy(h, "{'rules':[{'on':'model.*','then':'allow'}]}");
	run = house_start(h, "f", "{}");
	snprintf(args, sizeof(args), "%s", q(ASKED));
	house_call(h, run, 0, "model.generate", args, "");
	house_result(
		h, run, 0, 1, DONE, "{\"text\":\"Well: {\\\"confidence\\\": 0.93, \\\"problems\\\": []}\"}");
	snprintf(args, sizeof(args), "{\"model\":%s,\"value\":%s}", q(ASKED), q(VALUE));
	house_call(h, run, 1, "verify.check", args, "");
	assert_non_null(strstr(problem(h), q("'confidence':930,")));
	snprintf(
		args, sizeof(args), "{\"model\":%s,\"value\":%s}", q(ASKED), q("'The mill closed in 1940.'"));
	house_call(h, run, 2, "verify.check", args, "");
	assert_non_null(strstr(problem(h), q("'confidence':0,")));
	/* The flow's own question. */
	house_call(h, run, 3, "model.generate",
		q("{'max_tokens':10,'messages':[{'content':'Say 1. The mill closed in "
		  "1931.','role':'user'}],'tier':'draft'}"),
		"");
	house_result(h, run, 3, 1, DONE, "{\"text\":\"{\\\"confidence\\\": 1}\"}");
	house_call(h, run, 4, "verify.check",
		q("{'model':{'max_tokens':10,'messages':[{'content':'Say 1. The mill closed in "
		  "1931.','role':'user'}],'tier':"
		  "'draft'},'value':" VALUE "}"),
		"");
	assert_non_null(strstr(problem(h), q("'confidence':0,")));
}

static const struct {
	const char *policy, *at;
	size_t column;
} faults[] = {
	{"[]", ""},
	{"{}", ""},
	{"{'rules':[{'then':'allow'}]}", "/rules/0"},
	{"{'rules':[{'on':'a','then':'maybe'}]}", "/rules/0/then"},
	{"{'rules':[{'on':'a','then':'allow','typo':1}]}", "/rules/0"},
	{"{'rules':[{'on':'a','then':'allow'},{'on':'a','then':'deny','when':'1 +'}]}", "/rules/1/when", 4},
	{"{'rules':[{'on':'a','then':'deny','when':'arg.x'}]}", "/rules/0/when", 1},
	{"{'rules':[{'on':'a','then':'deny','when':'1 + 1'}]}", "/rules/0/when"},
	{"{'rules':[{'on':'a','then':'gate','expires':'soon'}]}", "/rules/0/expires"},
	{"{'rules':[{'on':'a','then':'allow','expires':'2d'}]}", "/rules/0/expires"},
	{"{'rules':[{'on':'a','then':'deny','approvers':['operator']}]}", "/rules/0/approvers"},
	{"{'rules':[{'on':'a','then':'gate','need':2}]}", "/rules/0"},
	{"{'rules':[{'on':'a','then':'gate','approvers':['flow/x']}]}", "/rules/0/approvers/0"},
	{"{'rules':[{'on':'a','then':'gate','sign':true,'on_expiry':'approve'}]}", "/rules/0/on_expiry"},
	{"{'rules':[{'on':'a','then':'gate','escalate':[{'after':'2h','to':['operator']},{'after':'1h','to':["
	 "'key/a']}]}]}",
		"/rules/0/escalate/1"},
	{"{'rules':[{'on':'a','then':'allow','limit':{'max':5}}]}", "/rules/0/limit"},
	{"{'rules':[{'name':'n','on':'a','then':'deny','limit':{'max':5}}]}", "/rules/0/limit"},
	{"{'rules':[{'name':'n','on':'a','then':'allow','limit':{'max':'5 USD'}}]}", "/rules/0/limit/max"},
	{"{'rules':[{'name':'n','on':'a','then':'allow','limit':{'max':0.5}}]}", "/rules/0/limit/max"},
	{"{'rules':[{'name':'n','on':'a','then':'allow','limit':{'max':5,'window':'0d'}}]}",
		"/rules/0/limit/window"},
	{"{'rules':[{'name':'n','on':'a','then':'allow','limit':{'max':5,'sum':'args.'}}]}",
		"/rules/0/limit/sum"},
	{"{'rules':[{'name':'n','on':'a','then':'allow','limit':{'max':1}},{'name':'n','on':'b','then':'"
	 "allow','limit':{'max':"
	 "1}}]}",
		"/rules/1/name"},
	{"{'counters':{'a b':{'on':'x'}},'rules':[]}", "/counters/a b"},
	{"{'counters':{'a':{'on':'x','per':'args.'}},'rules':[]}", "/counters/a/per"},
	{"{'counters':{'a':{}},'rules':[]}", "/counters/a"},
	{"{'rules':[{'on':'a','then':'allow'}],'tests':[{'action':'a','expect':'gate'}]}", "/tests/0/expect"},
	{"{'rules':[{'name':'x','on':'a','then':'allow'}],'tests':[{'action':'a','expect':'allow','rule':'y'}"
	 "]}",
		"/tests/0/rule"},
};

static void test_faults(void **state)
{
	struct house *h = *state;
	struct core_fault fault;
	char text[2000];

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		const char *json = q(faults[i].policy);

		if (core_policy_check(base_str_of(json), &fault, NULL) == 0)
			fail_msg("%s is accepted", json);
		if (strcmp(fault.at, faults[i].at) != 0 ||
			(faults[i].column && fault.column != faults[i].column))
			fail_msg("%s: %s at %s, column %zu", json, fault.err.text, fault.at, fault.column);
		if (json[0] == '[')
			continue;
		snprintf(text, sizeof(text), "{\"policy\":%s}", json);
		house_do(h, (struct core_cmd){.type = CORE_CMD_DEPLOY, .body = base_str_of(text)});
		assert_int_equal(h->reply.status, 422);
	}
}

static void test_own_tests(void **state)
{
	struct core_fault fault;
	unsigned passed;

	(void)state;
	assert_int_equal(
		core_policy_check(
			base_str_of(q("{'counters':{'n':{'on':'mail.send','window':'1d'}},'rules':["
				      "{'name':'ok','on':'mail.*','when':'history.n < 3 && principal == "
				      "\\\"flow/x\\\" && customer.vip','then':'allow',"
				      "'limit':{'sum':'args.amount','max':100}},"
				      "{'name':'no','on':'mail.*','when':'\\\"private\\\" in labels || "
				      "run.flow == \\\"bad\\\"','then':'deny'},"
				      "{'name':'cheap','on':'model.*','when':'cost < 1000000000 && "
				      "confidence > 0.5','then':'allow'}],"
				      "'tests':["
				      "{'action':'mail.send','principal':'flow/"
				      "x','customer':{'vip':true},'args':{'amount':5},'expect':'allow',"
				      "'rule':'ok'},"
				      "{'action':'mail.send','principal':'flow/"
				      "x','customer':{'vip':true},'args':{'amount':5},'history':{'ok':"
				      "99},'expect':'gate','rule':'ok'},"
				      "{'action':'mail.send','principal':'flow/"
				      "x','customer':{'vip':true},'args':{'amount':5},'history':{'n':"
				      "3},'expect':'deny'},"
				      "{'action':'mail.send','principal':'flow/"
				      "x','customer':{'vip':true},'args':{'amount':5},'labels':["
				      "'private'],'expect':'deny','rule':'no'},"
				      "{'action':'mail.send','principal':'flow/"
				      "x','run':{'flow':'bad'},'expect':'deny','rule':'no'},"
				      "{'action':'model.generate','cost':'0.5 "
				      "USD','confidence':0.8,'expect':'allow'},"
				      "{'action':'model.generate','cost':'1.5 "
				      "USD','confidence':0.8,'expect':'deny'}]}")),
			&fault, &passed),
		0);
	assert_int_equal(passed, 7);
}

static void test_join(void **state)
{
	struct base_str files[2] = {
		base_str_of(
			q("{'counters':{'a':{'on':'x'}},'rules':[{'on':'x','then':'allow'}],'tests':[]}")),
		base_str_of(q("{'counters':{'b':{'on':'x'}},'rules':[{'on':'y','then':'deny'}]}"))};
	struct core_fault fault;
	struct base_buf b;
	char at[256] = "/rules/1/when";
	size_t file;

	(void)state;
	base_buf_init(&b, 1 << 16);
	assert_int_equal(core_policy_join(files, 2, &b, &file, &fault), 0);
	assert_true(base_str_is(
		base_buf_view(&b), q("{'counters':{'a':{'on':'x'},'b':{'on':'x'}},'rules':[{'on':'x','then':"
				     "'allow'},{'on':'y','then':'deny'}],'tests':[]}")));
	assert_int_equal(core_policy_file_of(files, 2, at, sizeof(at)), 1);
	assert_string_equal(at, "/rules/0/when");
	snprintf(at, sizeof(at), "/counters/b/on");
	assert_int_equal(core_policy_file_of(files, 2, at, sizeof(at)), 1);
	files[1] = base_str_of(q("{'counters':{'a':{'on':'x'}}}"));
	base_buf_clear(&b);
	assert_int_equal(core_policy_join(files, 2, &b, &file, &fault), -EINVAL);
	assert_int_equal(file, 1);
	assert_string_equal(fault.at, "/counters/a");
	base_buf_done(&b);
}

/* --- an evaluator that shares nothing with the real one but the words --- */

static const struct {
	const char *text;
	char truth; /* 't', 'f', 'e': an error */
} conditions[] = {{"", 't'}, {"true", 't'}, {"false", 'f'}, {"args.n == 3", 't'}, {"args.n > 3", 'f'},
	{"args.missing == 1", 'e'}, {"args.s == 'x'", 't'}, {"args.n / 0 == 1", 'e'}, {"args.s", 'e'},
	{"args.missing || true", 't'}, {"args.missing && false", 'f'}, {"has(args.missing)", 'f'},
	{"principal == 'flow/q'", 'f'}, {"cost > 0", 'f'}};
static const char *const patterns[] = {"a.b", "a.*", "*", "a.c", "b.*", "a.bb", "a.b*"};
static const bool fits[] = {true, true, true, false, false, false, true};

/* The verdict as the documents have it: any deny that matches, else any gate, else any allow, else deny. */
static char naive(const unsigned *on, const unsigned *when, const char *then, unsigned count)
{
	char verdict = 'd';
	bool gate = false, allow = false;

	for (unsigned i = 0; i < count; i++) {
		char truth = conditions[when[i]].truth;

		if (!fits[on[i]] || truth == 'f' || (truth == 'e' && then[i] == 'a'))
			continue;
		if (then[i] == 'd')
			return 'd';
		gate |= then[i] == 'g';
		allow |= then[i] == 'a';
	}
	if (gate)
		verdict = 'g';
	else if (allow)
		verdict = 'a';
	return verdict;
}

static int64_t nothing(void *userdata, const struct core_counter *k, struct base_str key, int64_t now_ms)
{
	(void)userdata;
	(void)k;
	(void)key;
	(void)now_ms;
	return 0;
}

static void test_random_sets(void **state)
{
	static const char words[] = "adg";
	struct base_prng p = base_prng_of((const uint8_t[32]){7});
	struct base_json *args;
	struct base_arena *arena;
	unsigned verdicts[128] = {0};

	(void)state;
	assert_int_equal(base_arena_new(1 << 24, &arena), 0);
	assert_int_equal(base_json_parse(BASE_STR("{\"n\":3,\"s\":\"x\"}"), &args, NULL), 0);
	for (int set = 0; set < 12000; set++) {
		unsigned count = (unsigned)(base_prng_next(&p) % 7), on[7], when[7];
		struct core_case of = {
			.as = BASE_STR("flow/f"), .action = BASE_STR("a.b"), .args = base_json_root(args)};
		struct core_policy *policy;
		struct core_fault fault;
		struct core_judged j;
		struct core_scene s;
		struct base_buf b;
		char then[8] = "";

		base_buf_init(&b, 1 << 16);
		base_buf_cstr(&b, "{\"rules\":[");
		for (unsigned i = 0; i < count; i++) {
			on[i] = (unsigned)(base_prng_next(&p) % 7);
			when[i] =
				(unsigned)(base_prng_next(&p) % (sizeof(conditions) / sizeof(conditions[0])));
			then[i] = words[base_prng_next(&p) % 3];
			base_buf_printf(&b, "%s{\"on\":\"%s\"", i ? "," : "", patterns[on[i]]);
			if (conditions[when[i]].text[0])
				base_buf_printf(&b, ",\"when\":\"%s\"", conditions[when[i]].text);
			base_buf_printf(&b, ",\"then\":\"%s\"}",
				then[i] == 'a'	 ? "allow"
				: then[i] == 'd' ? "deny"
						 : "gate");
		}
		base_buf_cstr(&b, "]}");
		if (core_policy_compile(base_buf_view(&b), false, &policy, &fault) < 0)
			fail_msg("%.*s: %s", BASE_STR_ARG(base_buf_view(&b)), fault.err.text);
		core_scene_init(&s, policy, &of, nothing, NULL, arena);
		j = core_policy_judge(&s, NULL);
		if (core_verdict_name(j.verdict)[0] != naive(on, when, then, count))
			fail_msg("%.*s gives %s", BASE_STR_ARG(base_buf_view(&b)),
				core_verdict_name(j.verdict));
		verdicts[(unsigned char)core_verdict_name(j.verdict)[0]]++;
		core_scene_done(&s);
		core_policy_free(policy);
		base_buf_done(&b);
		base_arena_reset(arena);
	}
	assert_true(verdicts['a'] > 500 && verdicts['g'] > 500 && verdicts['d'] > 500);
	base_json_free(args);
	base_arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_verdicts, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_inputs, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(fault_44_split_below_limit, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(fault_44_split_parallel, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(fault_44_split_made_up_customers, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(fault_44_split_strange_amounts, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_released, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_release_again, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_policy_changes, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_large_conditions, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(fault_52_starter_is_narrowed, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_window_there_and_back, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(fault_44_split_by_spelling, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_several_gates, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(fault_44_split_waits_for_time, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_approval_on_weaker_terms, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(fault_52_delegation_narrows, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_confidence, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_confidence_model, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(test_faults, set_up, house_tear_down),
		cmocka_unit_test(test_own_tests),
		cmocka_unit_test(test_join),
		cmocka_unit_test(test_random_sets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
