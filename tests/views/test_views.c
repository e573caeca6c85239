/* What aios-views answers: the real process is fed hand-made blocks over its socket and asked. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "company.h"
#include "core/core.h"
#include "peer.h"

struct ctx {
	char dir[256];
	struct peer p;
	struct company c;
};

static int setup(void **state)
{
	struct ctx *x = calloc(1, sizeof(*x));

	peer_dir(x->dir, sizeof(x->dir));
	company_init(&x->c);
	company_newsletter(&x->c);
	peer_start(&x->p, x->dir);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *x = *state;

	peer_stop(&x->p);
	company_done(&x->c);
	peer_remove(x->dir);
	free(x);
	return 0;
}

static void feed(struct ctx *x)
{
	peer_block(&x->p, 1, company_block(&x->c, 1, x->c.count + 1));
	peer_wait_at(&x->p, x->c.count);
}

/* The value at a path of member names and array indexes: "items/0/run". */
static struct base_jv at(struct base_json *doc, const char *path)
{
	struct base_jv v = base_json_root(doc);
	struct base_str rest = base_str_of(path), name;
	uint64_t i;

	while (rest.len) {
		base_str_cut(rest, '/', &name, &rest);
		v = base_str_u64(name, &i) == 0 ? base_jv_at(v, i) : base_jv_get_str(v, name);
	}
	return v;
}

static void is_int(struct base_json *doc, const char *path, int64_t want)
{
	int64_t got = base_jv_int(at(doc, path), INT64_MIN);

	if (got != want)
		fail_msg("%s is %lld, not %lld", path, (long long)got, (long long)want);
}

static void is_str(struct base_json *doc, const char *path, const char *want)
{
	struct base_str got = base_jv_str(at(doc, path));

	if (!base_str_is(got, want))
		fail_msg("%s is \"%.*s\", not \"%s\"", path, BASE_STR_ARG(got), want);
}

static void is_null(struct base_json *doc, const char *path)
{
	if (base_jv_kind(at(doc, path)) != BASE_JSON_NULL)
		fail_msg("%s is not null", path);
}

static void has_len(struct base_json *doc, const char *path, size_t want)
{
	size_t got = base_jv_len(at(doc, path));

	if (got != want)
		fail_msg("%s has %zu elements, not %zu", path, got, want);
}

static struct base_json *ask(struct ctx *x, const char *query, const char *params)
{
	return peer_query(&x->p, query, params, 0);
}

static void test_runs(void **state)
{
	struct ctx *x = *state;
	struct base_json *d;

	feed(x);
	d = ask(x, "runs", "{}");
	has_len(d, "items", 2);
	is_int(d, "items/0/run", 2);
	is_str(d, "items/0/state", "parked");
	is_int(d, "items/0/parent", 1);
	is_int(d, "items/1/run", 1);
	is_str(d, "items/1/state", "done");
	is_str(d, "items/1/flow", "newsletter");
	is_int(d, "items/1/steps", 5);
	is_int(d, "items/1/cost", 1047);
	is_null(d, "items/1/parent");
	is_null(d, "next");
	base_json_free(d);
	d = ask(x, "runs", "{\"limit\":\"1\"}");
	has_len(d, "items", 1);
	is_int(d, "next", 2);
	base_json_free(d);
	d = ask(x, "runs", "{\"limit\":1,\"before\":2}");
	is_int(d, "items/0/run", 1);
	is_null(d, "next");
	base_json_free(d);
	d = ask(x, "runs", "{\"state\":\"parked\",\"flow\":\"child\"}");
	has_len(d, "items", 1);
	base_json_free(d);
	d = ask(x, "runs", "{\"state\":\"parked\",\"flow\":\"newsletter\"}");
	has_len(d, "items", 0);
	base_json_free(d);
}

static void test_run(void **state)
{
	struct ctx *x = *state;
	struct base_json *d;

	feed(x);
	d = ask(x, "run", "{\"run\":\"1\"}");
	is_int(d, "run", 1);
	is_str(d, "input/issue", "12");
	is_int(d, "value/sent", 1);
	is_int(d, "cost", 1047);
	is_int(d, "cost_tree", 1347);
	has_len(d, "children", 1);
	has_len(d, "steps", 5);
	is_int(d, "step_count", 5);
	is_str(d, "steps/0/action", "model.generate");
	is_str(d, "steps/0/status", "done");
	is_str(d, "steps/0/class", "read");
	is_int(d, "steps/0/attempts", 2);
	is_int(d, "steps/0/cost", 1007);
	is_int(d, "steps/0/latency_ms", 40);
	is_str(d, "steps/0/route/model", "m");
	is_str(d, "steps/0/result/text", "hello");
	is_null(d, "steps/0/gate");
	is_str(d, "steps/1/gate/answer", "edit");
	is_str(d, "steps/1/gate/reason", "a better title");
	is_int(d, "steps/2/approval/gate", 1);
	is_str(d, "steps/2/approval/by", "operator");
	is_str(d, "steps/2/rule", "mail");
	is_str(d, "steps/3/status", "failed");
	is_str(d, "steps/3/problem/code", "denied");
	is_str(d, "steps/4/status", "doubt");
	is_int(d, "steps/4/gate/gate", 2);
	is_str(d, "steps/4/evidence/why", "no answer");
	has_len(d, "gates", 2);
	is_str(d, "logs/0/text", "half way");
	is_str(d, "signals/0/name", "go");
	has_len(d, "outcomes", 2);
	base_json_free(d);
	d = ask(x, "run", "{\"run\":1,\"after\":1,\"limit\":2}");
	has_len(d, "steps", 2);
	is_int(d, "steps/0/step", 2);
	is_int(d, "next", 3);
	base_json_free(d);
	d = ask(x, "run", "{\"run\":2}");
	is_str(d, "why", "diverged");
	is_int(d, "detail/step", 1);
	base_json_free(d);
	d = peer_answer(&x->p, peer_send_query(&x->p, "run", "{\"run\":77}", 0), false);
	is_str(d, "code", "not_found");
	base_json_free(d);
}

static void test_gates(void **state)
{
	struct ctx *x = *state;
	struct base_json *d;

	feed(x);
	d = ask(x, "gates", "{}");
	has_len(d, "items", 2);
	is_int(d, "items/0/gate", 2);
	is_str(d, "items/0/state", "open");
	is_str(d, "items/1/answer", "edit");
	is_int(d, "items/1/waited_ms", 1234);
	is_str(d, "items/1/flow", "newsletter");
	assert_true(base_jv_bool(at(d, "items/1/edited"), false));
	base_json_free(d);
	d = ask(x, "gates", "{\"state\":\"open\"}");
	has_len(d, "items", 1);
	is_str(d, "items/0/kind", "doubt");
	base_json_free(d);
}

static void test_costs(void **state)
{
	struct ctx *x = *state;
	struct base_json *d;
	char params[100];

	feed(x);
	d = ask(x, "costs", "{\"by\":\"flow\"}");
	is_int(d, "total", 1347);
	is_str(d, "items/0/key", "newsletter");
	is_int(d, "items/0/cost", 1047);
	is_int(d, "items/0/input_tokens", 11);
	is_int(d, "items/0/cache_write_tokens", 4);
	is_str(d, "items/1/key", "child");
	is_int(d, "items/1/cost", 300);
	base_json_free(d);
	d = ask(x, "costs", "{\"by\":\"model\"}");
	is_str(d, "items/0/key", "p/m");
	is_int(d, "items/0/cost", 1000);
	base_json_free(d);
	d = ask(x, "costs", "{\"by\":\"customer\"}");
	is_str(d, "items/0/key", "acme");
	is_int(d, "items/0/cost", 1007);
	is_str(d, "items/2/key", "bob");
	is_int(d, "items/2/cost", 40);
	base_json_free(d);
	d = ask(x, "costs", "{\"by\":\"run\"}");
	is_int(d, "items/0/key", 1);
	base_json_free(d);
	d = ask(x, "costs", "{\"by\":\"outcome\"}");
	is_str(d, "items/0/key", "open");
	is_int(d, "items/0/count", 2);
	is_int(d, "items/0/runs", 1);
	is_int(d, "items/0/money", 50);
	is_int(d, "items/0/cost", 1347);
	is_int(d, "items/0/each", 1347 / 2);
	base_json_free(d);
	snprintf(params, sizeof(params), "{\"by\":\"flow\",\"since\":%lld}", (long long)x->c.now + 1);
	d = ask(x, "costs", params);
	has_len(d, "items", 0);
	is_int(d, "total", 0);
	base_json_free(d);
	d = peer_answer(&x->p, peer_send_query(&x->p, "costs", "{\"by\":\"moon\"}", 0), false);
	is_str(d, "code", "invalid");
	base_json_free(d);
}

static void test_history(void **state)
{
	struct ctx *x = *state;
	struct base_json *d;

	feed(x);
	d = ask(x, "history", "{\"key\":\"voice/main\"}");
	has_len(d, "items", 2);
	is_int(d, "items/0/version", 2);
	is_str(d, "items/0/value/tone", "dry humour");
	is_str(d, "items/0/by", "operator");
	is_null(d, "items/0/run");
	is_str(d, "items/1/value/tone", "plain");
	is_int(d, "items/1/run", 1);
	is_int(d, "items/1/step", 5);
	is_str(d, "items/1/source", "notes");
	base_json_free(d);
	d = ask(x, "history", "{\"key\":\"voice/old\",\"limit\":1}");
	has_len(d, "items", 1);
	assert_true(base_jv_bool(at(d, "items/0/removed"), false));
	is_null(d, "items/0/value");
	base_json_free(d);
}

static void test_learning(void **state)
{
	struct ctx *x = *state;
	struct base_json *d;

	feed(x);
	d = ask(x, "outcomes", "{\"experiment\":\"subject\"}");
	has_len(d, "items", 2);
	is_str(d, "totals/0/name", "open");
	is_int(d, "totals/0/count", 2);
	is_int(d, "totals/0/value", 1000);
	has_len(d, "experiments", 2);
	is_str(d, "experiments/0/value", "Winter");
	is_int(d, "experiments/0/chosen", 1);
	is_int(d, "experiments/0/wins", 0);
	is_str(d, "experiments/1/value", "Patience");
	is_int(d, "experiments/1/outcomes", 1);
	is_int(d, "experiments/1/wins", 1);
	is_int(d, "experiments/1/money", 50);
	base_json_free(d);
}

static void test_audit_and_denied(void **state)
{
	struct ctx *x = *state;
	struct base_json *d;

	feed(x);
	d = ask(x, "denied", "{}");
	has_len(d, "items", 2);
	is_str(d, "items/0/principal", "flow/newsletter");
	is_str(d, "items/0/action", "http.post");
	is_str(d, "items/0/reason", "not granted");
	is_int(d, "items/0/run", 1);
	is_int(d, "items/0/step", 3);
	is_str(d, "items/1/principal", "key/ci");
	base_json_free(d);
	d = ask(x, "audit", "{\"type\":\"gate.decided\"}");
	has_len(d, "items", 1);
	is_str(d, "items/0/by", "operator");
	is_str(d, "items/0/object", "1");
	is_str(d, "items/0/text", "edit: a better title");
	is_str(d, "items/0/kind", "approved");
	is_int(d, "items/0/run", 1);
	base_json_free(d);
	d = ask(x, "flows", "{}");
	has_len(d, "items", 1);
	is_int(d, "items/0/runs", 1);
	is_int(d, "items/0/active", 0);
	is_int(d, "items/0/cost", 1047);
	base_json_free(d);
}

static size_t count(struct ctx *x, const char *params)
{
	struct base_json *d = ask(x, "audit", params);
	size_t n = base_jv_len(at(d, "items"));

	base_json_free(d);
	return n;
}

#define MORE(c, name, ...)                                                                                   \
	do {                                                                                                 \
		core_##name##_emit(&(c)->events, (c)->now += 10, &(struct core_##name){__VA_ARGS__});        \
		company_mark(c);                                                                             \
	} while (0)

static void more_for_the_audit(struct company *c)
{
	MORE(c, objects_seen, .by = BASE_STR("key/anna"), .how = BASE_STR("key"),
		.seen = BASE_STR("[{\"op\":\"api.run\",\"object\":\"1\",\"run\":1,\"n\":3},"
				 "{\"op\":\"api.fact\",\"object\":\"voice/main\",\"n\":1}]"));
	MORE(c, session_opened, .id = BASE_STR("s1"), .how = BASE_STR("passkey"),
		.address = BASE_STR("192.0.2.7"), .agent = BASE_STR("Mozilla"));
	MORE(c, sign_in_failed, .how = BASE_STR("password"), .address = BASE_STR("192.0.2.8"), .count = 12);
	MORE(c, key_rotated, .id = BASE_STR("key/ci"), .by = BASE_STR("operator"));
	MORE(c, guard_set, .rule = BASE_STR("untrusted-private"), .by = BASE_STR("operator"),
		.reason = BASE_STR("a test"));
	MORE(c, gate_voted, .gate = 2, .by = BASE_STR("key/anna"), .answer = BASE_STR("deny"),
		.reason = BASE_STR("no"), .how = BASE_STR("api"));
	MORE(c, checkpoint_sent, .seq = 3, .where = BASE_STR("disk"),
		.problem = BASE_STR("{\"message\":\"not mounted\"}"));
}

static void test_audit_rows(void **state)
{
	struct ctx *x = *state;
	struct base_json *d;
	int64_t next;

	more_for_the_audit(&x->c);
	feed(x);
	/* Saw: one row for each thing of a list, newest first. */
	d = ask(x, "audit", "{\"kind\":\"saw\"}");
	has_len(d, "items", 2);
	is_str(d, "items/0/action", "api.fact");
	is_str(d, "items/0/object", "voice/main");
	is_str(d, "items/1/by", "key/anna");
	is_str(d, "items/1/text", "3 times");
	is_int(d, "items/1/run", 1);
	base_json_free(d);
	/* A list can be cut within an event and goes on behind the cut. */
	d = ask(x, "audit", "{\"kind\":\"saw\",\"limit\":1}");
	next = base_jv_int(at(d, "next"), 0);
	assert_true(next > 0);
	base_json_free(d);
	{
		char params[96];

		snprintf(params, sizeof(params), "{\"kind\":\"saw\",\"limit\":1,\"before\":%lld}",
			(long long)next);
		d = ask(x, "audit", params);
		has_len(d, "items", 1);
		is_str(d, "items/0/object", "1");
		is_null(d, "next");
		base_json_free(d);
	}
	/* Did, with the rule, who approved, for whom and at what cost. */
	d = ask(x, "audit", "{\"action\":\"mail.*\"}");
	has_len(d, "items", 1);
	is_str(d, "items/0/kind", "did");
	is_str(d, "items/0/by", "flow/newsletter");
	is_str(d, "items/0/rule", "mail");
	is_str(d, "items/0/approved_by", "operator");
	is_str(d, "items/0/customer", "bob");
	is_int(d, "items/0/cost", 40);
	is_int(d, "items/0/gate", 1);
	base_json_free(d);
	/* Denied: a flow's step, the API, a decision, a sign-in. */
	d = ask(x, "audit", "{\"kind\":\"denied\"}");
	has_len(d, "items", 4);
	is_str(d, "items/0/type", "gate.voted");
	is_str(d, "items/0/text", "deny: no");
	is_str(d, "items/1/type", "sign.in_failed");
	base_json_free(d);
	assert_int_equal(count(x, "{\"kind\":\"denied\",\"run\":1}"), 2);
	assert_int_equal(count(x, "{\"kind\":\"allowed\",\"action\":\"http.post\"}"), 0);
	assert_int_equal(count(x, "{\"kind\":\"signed-in\"}"), 1);
	assert_int_equal(count(x, "{\"kind\":\"approved\",\"gate\":\"1\"}"), 1);
	assert_int_equal(count(x, "{\"who\":\"key/anna\"}"), 3);
	assert_int_equal(count(x, "{\"object\":\"key/ci\"}"), 1);
	assert_int_equal(count(x, "{\"who\":\"nobody\"}"), 0);
	assert_int_equal(count(x, "{\"customer\":\"bob\"}"), 1);
	assert_int_equal(count(x, "{\"until\":1}"), 0);
	assert_int_equal(count(x, "{\"who\":\"' OR 1=1 --\"}"), 0);
	assert_int_equal(count(x, "{\"action\":\"%.*\"}"), 0);
}

/* --- search --- */

static void test_search(void **state)
{
	struct ctx *x = *state;
	struct base_json *d;

	feed(x);
	d = ask(x, "search", "{\"query\":\"gardens in the winter\"}");
	has_len(d, "hits", 2);
	is_str(d, "hits/0/id", "notes/garden");
	is_str(d, "hits/0/kind", "document");
	is_str(d, "hits/0/title", "The garden");
	is_str(d, "hits/0/text", "Gardening in winter needs patience.");
	assert_true(base_jv_real(at(d, "hits/0/score"), 0) > base_jv_real(at(d, "hits/1/score"), 9));
	base_json_free(d);
	d = ask(x, "search", "{\"query\":\"humour\"}");
	has_len(d, "hits", 1);
	is_str(d, "hits/0/kind", "fact");
	is_str(d, "hits/0/id", "voice/main");
	base_json_free(d);
	d = ask(x, "search", "{\"query\":\"plain\"}"); /* an older version's word */
	has_len(d, "hits", 0);
	base_json_free(d);
	d = ask(x, "search", "{\"query\":\"flamboyant\"}"); /* a removed fact's */
	has_len(d, "hits", 0);
	base_json_free(d);
	d = ask(x, "search", "{\"query\":\"winter\",\"prefix\":\"notes/c\"}");
	has_len(d, "hits", 1);
	is_str(d, "hits/0/id", "notes/city");
	base_json_free(d);
	d = ask(x, "search", "{\"query\":\"winter\",\"limit\":1}");
	has_len(d, "hits", 1);
	base_json_free(d);
}

static void test_search_takes_any_text(void **state)
{
	static const char *const queries[] = {"", " ", "\\\"", "\\\"winter", "winter\\\"", "winter AND",
		"OR OR", "NEAR(winter city)", "title:winter", "-winter", "^winter", "winter*", "(", ")",
		"'; DROP TABLE runs; --", "{title}:x", "\\u0000", "winter\\u0000city",
		"\xc3\xa9t\xc3\xa9 \xe2\x80\x94", "%s%n", "NOT winter", "a+b"};
	struct ctx *x = *state;

	feed(x);
	for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
		struct base_json *d;
		char params[200];

		snprintf(params, sizeof(params), "{\"query\":\"%s\",\"prefix\":\"\"}", queries[i]);
		d = ask(x, "search", params);
		if (strstr(queries[i], "winter") && !strstr(queries[i], "u0000"))
			assert_true(base_jv_len(at(d, "hits")) >= 1);
		base_json_free(d);
	}
	base_json_free(ask(x, "runs", "{\"flow\":\"' OR 1=1 --\",\"state\":\"\\\"\"}"));
}

/* Bodies that are stored by their hash, and texts of several chunks. */
static void test_bodies(void **state)
{
	struct ctx *x = *state;
	struct core_document_put doc = {.id = BASE_STR("book"), .by = BASE_STR("operator")};
	struct core_fact_put fact = {.key = BASE_STR("big"), .version = 1};
	uint64_t first = x->c.count + 1;
	struct base_buf text, value;
	struct base_json *d;

	base_buf_init(&text, SIZE_MAX);
	base_buf_init(&value, SIZE_MAX);
	for (unsigned i = 0; i < 3000; i++)
		base_buf_printf(&text, "Paragraph %u speaks of nothing in particular, and then of %s.\n\n", i,
			i == 2500 ? "zeppelins" : "rain");
	base_json_quote(&value, base_buf_view(&text));
	doc.text = (struct base_blob){.hash = base_hash_of(base_buf_view(&text)), .len = text.len};
	core_document_put_emit(&x->c.events, 1, &doc);
	company_mark(&x->c);
	fact.value = (struct base_blob){.hash = base_hash_of(base_buf_view(&value)), .len = value.len};
	core_fact_put_emit(&x->c.events, 1, &fact);
	company_mark(&x->c);
	doc.id = BASE_STR("book/copy"); /* stored once, so it does not come again */
	core_document_put_emit(&x->c.events, 1, &doc);
	company_mark(&x->c);

	peer_block(&x->p, 1, company_block(&x->c, 1, first));
	peer_body(&x->p, base_buf_view(&text));
	peer_body(&x->p, base_buf_view(&value));
	peer_block(&x->p, first, company_block(&x->c, first, first + 2));
	peer_wait_at(&x->p, first + 1);
	peer_block(&x->p, first + 2, company_block(&x->c, first + 2, first + 3));
	d = peer_query(&x->p, "search", "{\"query\":\"zeppelin\"}", first + 2);
	has_len(d, "hits", 3);
	assert_true(base_jv_str(at(d, "hits/0/text")).len < 4000);
	base_json_free(d);
	d = ask(x, "history", "{\"key\":\"big\"}");
	assert_int_equal(base_jv_str(at(d, "items/0/value")).len, text.len);
	base_json_free(d);
	d = ask(x, "documents", "{\"prefix\":\"book\"}");
	has_len(d, "items", 2);
	is_int(d, "items/0/bytes", (int64_t)text.len);
	base_json_free(d);
	base_buf_done(&text);
	base_buf_done(&value);
}

/* --- positions --- */

static void test_waits_for_position(void **state)
{
	struct ctx *x = *state;
	uint64_t late, later, now;
	struct base_json *d;

	peer_block(&x->p, 1, company_block(&x->c, 1, 6));
	peer_wait_at(&x->p, 5);
	later = peer_send_query(&x->p, "runs", "{}", x->c.count);
	late = peer_send_query(&x->p, "run", "{\"run\":1}", 10);
	now = peer_send_query(&x->p, "runs", "{}", 5);
	d = peer_answer(&x->p, now, true);
	has_len(d, "items", 1);
	base_json_free(d);
	peer_block(&x->p, 6, company_block(&x->c, 6, 11));
	d = peer_answer(&x->p, late, true);
	has_len(d, "steps", 1);
	base_json_free(d);
	peer_block(&x->p, 11, company_block(&x->c, 11, x->c.count + 1));
	peer_flush(&x->p);
	d = peer_answer(&x->p, later, true);
	has_len(d, "items", 2);
	base_json_free(d);
}

static void test_blocks_again(void **state)
{
	struct ctx *x = *state;
	char before[65], after[65];

	feed(x);
	peer_dump(&x->p, x->c.count, before);
	peer_block(&x->p, 1, company_block(&x->c, 1, x->c.count + 1));
	peer_block(&x->p, 4, company_block(&x->c, 4, 9));
	peer_flush(&x->p);
	peer_dump(&x->p, x->c.count, after);
	assert_string_equal(before, after);
}

static void test_unknown_and_secret_events(void **state)
{
	struct ctx *x = *state;
	char before[65], after[65];
	struct base_buf e, block;

	feed(x);
	peer_dump(&x->p, x->c.count, before);
	base_buf_init(&e, SIZE_MAX);
	base_buf_init(&block, SIZE_MAX);
	base_put_u64(&e, 50000); /* from a newer aiosd */
	base_put_i64(&e, 5);
	base_put_str(&e, BASE_STR_NONE);
	base_buf_cstr(&e, "whatever");
	base_put_str(&block, base_buf_view(&e));
	base_buf_clear(&e);
	base_put_u64(&e, CORE_EV_FACT_PUT); /* a person's: ciphertext */
	base_put_i64(&e, 6);
	base_put_str(&e, BASE_STR("person/ada"));
	base_put_str(&e, BASE_STR("nonce"));
	base_buf_cstr(&e, "\x05hello\x01\x01");
	base_put_str(&block, base_buf_view(&e));
	peer_block(&x->p, x->c.count + 1, base_buf_view(&block));
	peer_wait_at(&x->p, x->c.count + 2);
	peer_dump(&x->p, x->c.count + 2, after);
	assert_string_equal(before, after);
	assert_string_equal(x->p.note, "");
	base_buf_done(&e);
	base_buf_done(&block);
}

static void test_bad_queries(void **state)
{
	static const char *const bad[][2] = {{"nonsense", "{}"}, {"runs", "[]"}, {"runs", "{"},
		{"runs", "{\"limit\":0}"}, {"runs", "{\"limit\":\"x\"}"}, {"run", "{\"run\":1.5}"},
		{"history", "{}"}, {"search", "{\"limit\":-1}"}, {"runs", "{\"before\":{}}"}, {"", ""}};
	struct ctx *x = *state;

	feed(x);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct base_json *d =
			peer_answer(&x->p, peer_send_query(&x->p, bad[i][0], bad[i][1], 0), false);

		is_str(d, "code", "invalid");
		assert_true(base_jv_str(at(d, "message")).len > 0);
		base_json_free(d);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_runs),
		T(test_run),
		T(test_gates),
		T(test_costs),
		T(test_history),
		T(test_learning),
		T(test_audit_and_denied),
		T(test_audit_rows),
		T(test_search),
		T(test_search_takes_any_text),
		T(test_bodies),
		T(test_waits_for_position),
		T(test_blocks_again),
		T(test_unknown_and_secret_events),
		T(test_bad_queries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
