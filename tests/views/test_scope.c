/* What readers with a scope are answered from: no table is forgotten, every query leaves out what is beyond it, and what is
 * written afterwards still reaches the tables. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "company.h"
#include "peer.h"
#include "views/views_int.h"

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

/* Bodies are found by the hash that a row names, the index by the row of texts: neither is read by itself. */
static bool is_exempt(const char *table)
{
	return strcmp(table, "meta") == 0 || strcmp(table, "bodies") == 0 || strcmp(table, "fts") == 0;
}

static void test_fault_52_no_table_is_forgotten(void **state)
{
	const char *at = views_schema;
	unsigned n = 0;

	(void)state;
	while ((at = strstr(at, " TABLE "))) {
		char name[64];
		bool known;

		assert_int_equal(sscanf(at + 7, "%63[a-z_]", name), 1);
		known = is_exempt(name);
		for (size_t i = 0; !known && views_scope_table(i); i++)
			known = strcmp(name, views_scope_table(i)) == 0;
		if (!known)
			fail_msg("%s would be seen whole", name);
		at += 7;
		n++;
	}
	assert_true(n > 15);
}

static size_t count(struct ctx *x, const char *query, const char *params, const char *list)
{
	struct base_json *d = peer_query(&x->p, query, params, 0);
	size_t n = base_jv_len(base_jv_get(base_json_root(d), list));

	base_json_free(d);
	return n;
}

#define NOBODY "{\"scope\":{\"flows\":[[]],\"memory\":[],\"own\":\"key/x\"}"
#define NEWS "{\"scope\":{\"flows\":[[\"news*\"],[\"*\"]]}"

static void test_fault_52_queries(void **state)
{
	static const struct {
		const char *query, *params, *list;
	} all[] = {{"runs", "", "items"}, {"gates", "", "items"},
		{"gates", ",\"state\":\"decided\"", "items"}, {"costs", "", "items"},
		{"costs", ",\"by\":\"run\"", "items"}, {"costs", ",\"by\":\"customer\"", "items"},
		{"costs", ",\"by\":\"outcome\"", "items"}, {"outcomes", "", "items"},
		{"outcomes", "", "totals"}, {"outcomes", "", "experiments"}, {"documents", "", "items"},
		{"denied", "", "items"}, {"flows", "", "items"},
		{"search", ",\"query\":\"garden city winter\"", "hits"},
		{"history", ",\"key\":\"voice/main\"", "items"}};
	struct ctx *x = *state;
	char params[256];

	feed(x);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		snprintf(params, sizeof(params), NOBODY "%s}", all[i].params);
		assert_int_equal(count(x, all[i].query, params, all[i].list), 0);
	}
	assert_int_equal(count(x, "runs", "{}", "items"), 2); /* nothing was left behind */
	assert_int_equal(count(x, "runs", NEWS "}", "items"), 1);
	assert_int_equal(count(x, "runs", "{\"scope\":{\"flows\":[[\"news*\"],[\"child\"]]}}", "items"), 0);
	assert_int_equal(count(x, "runs", "{\"scope\":{\"own\":\"key/nobody\"}}", "items"), 0);
	assert_true(count(x, "search", "{\"query\":\"winter\",\"scope\":{\"flows\":[]}}", "hits") > 1);
	assert_int_equal(
		count(x, "search", "{\"query\":\"winter\",\"scope\":{\"memory\":[\"notes/c\"]}}", "hits"), 1);
	/* One of its children, of another flow, is not there; nor is it, by its number. */
	assert_int_equal(count(x, "run", NEWS ",\"run\":1}", "children"), 0);
	base_json_free(peer_answer(&x->p, peer_send_query(&x->p, "run", NEWS ",\"run\":2}", 0), false));
	base_json_free(peer_answer(&x->p, peer_send_query(&x->p, "dump", NEWS "}", 0), false));
	base_json_free(peer_answer(&x->p, peer_send_query(&x->p, "runs", "{\"scope\":1}", 0), false));
}

/* Blocks that come after a query with a scope are written where they belong. */
static void test_writing_goes_on(void **state)
{
	struct ctx *x = *state;
	uint64_t half = x->c.count / 2;

	peer_block(&x->p, 1, company_block(&x->c, 1, half + 1));
	peer_wait_at(&x->p, half);
	assert_int_equal(count(x, "runs", NOBODY "}", "items"), 0);
	peer_block(&x->p, half + 1, company_block(&x->c, half + 1, x->c.count + 1));
	peer_wait_at(&x->p, x->c.count);
	assert_int_equal(count(x, "runs", NOBODY "}", "items"), 0);
	assert_int_equal(count(x, "runs", "{}", "items"), 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_fault_52_no_table_is_forgotten), T(test_fault_52_queries), T(test_writing_goes_on)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
