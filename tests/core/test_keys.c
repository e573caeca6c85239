#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "house.h"

/* Keys: rotation, last use, scope. */

static uint8_t keys[8][32];

static struct base_str key(unsigned n)
{
	memset(keys[n], (int)n + 1, 32);
	return (struct base_str){(const char *)keys[n], 32};
}

static int set_up(void **state)
{
	return house_set_up(state, "{}");
}

static int add(struct house *h, const char *name, const char *body, unsigned n)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_KEY_ADD,
			    .by = {.id = BASE_STR("operator")},
			    .name = base_str_of(name),
			    .body = base_str_of(body),
			    .bytes = key(n)});
	return h->reply.status;
}

static int rotate(struct house *h, unsigned n, int64_t overlap)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_KEY_ROTATE,
			    .by = {.id = BASE_STR("operator")},
			    .name = BASE_STR("ci"),
			    .bytes = key(n),
			    .base = overlap});
	return h->reply.status;
}

static void used(struct house *h, bool new)
{
	char body[200];

	snprintf(body, sizeof(body), "[{\"id\":\"key/ci\",\"at_ms\":%lld%s}]", (long long)h->now_ms,
		new ? ",\"new\":true" : "");
	house_do(h, (struct core_cmd){.type = CORE_CMD_KEYS_USED, .body = base_str_of(body)});
}

static bool good(struct house *h, unsigned n)
{
	return core_principal_by_key(h->core, key(n), h->now_ms, NULL).len > 0;
}

#define GRANTS "{\"grants\":[\"api.run*\"]}"

/* Old or new, never neither: the old one ends when its time is over and the new one was used. */
static void test_fault_71_rotation(void **state)
{
	struct house *h = *state;
	bool fresh = false;

	assert_int_equal(rotate(h, 1, 0), 404);
	assert_int_equal(add(h, "ci", GRANTS, 0), 201);
	assert_int_equal(rotate(h, 1, 1000), 200);
	assert_true(good(h, 0) && good(h, 1));
	h->now_ms += 5000;
	assert_true(good(h, 0) && good(h, 1)); /* nobody has seen the new one yet */
	/* The answer was lost: once more. The one that nobody has is good no more, who has the old one goes on. */
	assert_int_equal(rotate(h, 2, 0), 200);
	assert_true(good(h, 0) && !good(h, 1) && good(h, 2));
	assert_true(
		base_str_is(core_principal_by_key(h->core, key(2), h->now_ms, &fresh), "key/ci") && fresh);
	used(h, false); /* with the old one */
	assert_true(good(h, 0) && good(h, 2));
	used(h, true);
	assert_true(!good(h, 0) && good(h, 2));
	assert_true(
		base_str_is(core_principal_by_key(h->core, key(2), h->now_ms, &fresh), "key/ci") && !fresh);
	/* With an overlap the old one goes on although the new one is used. */
	assert_int_equal(rotate(h, 3, 1000), 200);
	used(h, true);
	assert_true(good(h, 2) && good(h, 3));
	h->now_ms += 1000;
	assert_true(!good(h, 2) && good(h, 3));
	assert_int_equal(core_key_used_ms(h->core, BASE_STR("key/ci")), h->now_ms - 1000);
	/* Revoking ends both, at once. */
	assert_int_equal(rotate(h, 4, 100000), 200);
	house_do(h, (struct core_cmd){.type = CORE_CMD_KEY_REVOKE, .name = BASE_STR("ci")});
	assert_true(!good(h, 3) && !good(h, 4));
	assert_int_equal(rotate(h, 5, 0), 409);
}

static void test_rotation_that_is_none(void **state)
{
	struct house *h = *state;

	assert_int_equal(add(h, "ci", "{\"grants\":[\"api.run\"],\"expires_ms\":1}", 0), 201);
	assert_int_equal(rotate(h, 1, 0), 409); /* it has expired: that is no way round it */
	assert_int_equal(add(h, "b", GRANTS, 2), 201);
	assert_int_equal(rotate(h, 1, -1), 400);
	assert_int_equal(rotate(h, 1, INT64_MAX), 400);
}

static void test_names_and_kinds(void **state)
{
	static const char *const names[] = {"", "a b", "a/b", "a\"b", "a\nb", "\x1b[2J"};
	struct house *h = *state;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(add(h, names[i], GRANTS, 0), 400);
	assert_int_equal(add(h, "x", "{\"kind\":\"operator\",\"grants\":[]}", 0), 400);
	assert_int_equal(add(h, "x", "{\"kind\":\"flow\",\"grants\":[]}", 0), 400);
	assert_int_equal(add(h, "x", "{\"grants\":[],\"scope\":[]}", 0), 400);
	assert_int_equal(add(h, "x", "{\"grants\":[],\"scope\":{\"flow\":[]}}", 0), 400);
	assert_int_equal(add(h, "x", "{\"grants\":[],\"scope\":{\"flows\":\"*\"}}", 0), 400);
	assert_int_equal(add(h, "x", "{\"grants\":[],\"scope\":{\"own\":1}}", 0), 400);
}

static void scope_is(struct house *h, const char *id, const char *caveats, const char *expected)
{
	struct core_caller by = {.id = base_str_of(id), .caveats = base_str_of(caveats)};
	struct base_buf b;

	base_buf_init(&b, 1 << 16);
	core_scope_json(h->core, &by, &b);
	if (!base_str_is(base_buf_view(&b), expected))
		fail_msg("%.*s is not %s", (int)b.len, b.ptr ? b.ptr : "", expected);
	base_buf_done(&b);
}

static void test_fault_52_scope(void **state)
{
	struct house *h = *state;

	assert_int_equal(add(h, "all", GRANTS, 0), 201);
	assert_int_equal(
		add(h, "part",
			"{\"grants\":[\"*\"],\"scope\":{\"flows\":[\"a*\"],\"memory\":[\"c/\",\"b\"]}}", 1),
		201);
	assert_int_equal(add(h, "guest", "{\"kind\":\"visitor\",\"grants\":[\"api.run\"]}", 2), 201);
	scope_is(h, "operator", "", "");
	scope_is(h, "key/all", "", "");
	scope_is(h, "key/part", "", "{\"flows\":[[\"a*\"]],\"memory\":[\"b\",\"c/\"]}");
	/* A visitor has nothing that it did not make. */
	scope_is(h, "key/guest", "", "{\"memory\":[],\"own\":\"key/guest\"}");
	scope_is(h, "key/guest", "[{\"scope\":{\"own\":false,\"memory\":[\"x\"]}}]",
		"{\"memory\":[],\"own\":\"key/guest\"}");
	/* Each block takes away, and none gives. */
	scope_is(h, "key/all", "[{\"scope\":{\"flows\":[\"x\"]}},{\"scope\":{\"flows\":[\"*\"]}}]",
		"{\"flows\":[[\"x\"],[\"*\"]]}");
	scope_is(h, "key/part", "[{\"scope\":{\"memory\":[\"c/7\",\"bb\",\"d\"]}}]",
		"{\"flows\":[[\"a*\"]],\"memory\":[\"bb\",\"c/7\"]}");
	scope_is(h, "key/part", "[{\"scope\":{\"memory\":[\"\"]}}]",
		"{\"flows\":[[\"a*\"]],\"memory\":[\"b\",\"c/\"]}");
	scope_is(h, "key/part", "[{\"scope\":{\"memory\":[]}},{\"scope\":{\"memory\":[\"c/\"]}}]",
		"{\"flows\":[[\"a*\"]],\"memory\":[]}");
	scope_is(h, "key/all", "[{\"grants\":[\"x\"]},{}]", "");
	/* Nobody, and what cannot be read, see nothing. */
	scope_is(h, "key/nobody", "", "{\"flows\":[[]],\"memory\":[],\"own\":\"\"}");
	scope_is(h, "key/all", "[{", "{\"flows\":[[]],\"memory\":[],\"own\":\"\"}");
}

/* "*" gives nobody what only the operator does. */
static void test_by_name(void **state)
{
	struct core_caller all = {.id = BASE_STR("key/all")}, one = {.id = BASE_STR("key/one")},
			   narrow = {.id = BASE_STR("key/one"),
				   .caveats = BASE_STR("[{\"grants\":[\"api.run\"]}]")};
	struct house *h = *state;

	assert_int_equal(add(h, "all", "{\"grants\":[\"*\",\"api.*\"]}", 0), 201);
	assert_int_equal(add(h, "one", "{\"grants\":[\"api.deploy\"]}", 1), 201);
	assert_true(core_may(h->core, &all, BASE_STR("api.deploy"), h->now_ms));
	assert_false(core_may_by_name(h->core, &all, BASE_STR("api.deploy"), h->now_ms));
	assert_true(core_may_by_name(h->core, &one, BASE_STR("api.deploy"), h->now_ms));
	assert_false(core_may_by_name(h->core, &narrow, BASE_STR("api.deploy"), h->now_ms));
}

/* A key that makes keys makes none that reach further, or live longer, than itself. */
static void test_fault_52_keys_made_by_keys(void **state)
{
	struct core_cmd cmd = {.type = CORE_CMD_KEY_ADD,
		.by = {.id = BASE_STR("key/maker")},
		.name = BASE_STR("child"),
		.body = BASE_STR("{\"grants\":[\"api.run\"]}"),
		.bytes = key(3)};
	struct house *h = *state;

	assert_int_equal(add(h, "maker", "{\"grants\":[\"api.*\"],\"expires_ms\":1900000000000}", 0), 201);
	assert_int_equal(add(h, "held", "{\"grants\":[\"api.*\"],\"scope\":{\"own\":true}}", 1), 201);
	cmd.by.caveats = BASE_STR("[{\"expires_ms\":1900000000000}]");
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 403);
	cmd.by = (struct core_caller){.id = BASE_STR("key/held")};
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 403);
	cmd.by.id = BASE_STR("key/maker");
	house_do(h, cmd);
	assert_int_equal(h->reply.status, 201);
	assert_true(good(h, 3));
	assert_int_equal(core_principal_by_key(h->core, key(3), 1900000000000, NULL).len, 0);
}

static void test_workspaces_differ(void **state)
{
	struct base_str first, again;
	struct house *h = *state;
	char text[16];

	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("0.1.0")});
	first = core_workspace(h->core);
	assert_int_equal(first.len, 16);
	memcpy(text, first.ptr, 16);
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("0.1.0")});
	again = core_workspace(h->core);
	assert_int_equal(again.len, 16);
	assert_memory_equal(again.ptr, text, 16);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, house_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_fault_71_rotation), T(test_rotation_that_is_none),
		T(test_names_and_kinds), T(test_fault_52_scope), T(test_by_name),
		T(test_fault_52_keys_made_by_keys), T(test_workspaces_differ)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
