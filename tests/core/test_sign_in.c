/* Signing in to the console: credentials, sessions and failed attempts as state. After each test the log is folded from
 * zero and from a snapshot, and both must equal the live state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/core_int.h"
#include "house.h"

enum { HOUR = 3600000 };

static int set_up(void **state)
{
	return house_set_up(state, "{\"flows\":[],\"policy\":{\"rules\":[]}}");
}

static struct core_caller boss(void)
{
	return (struct core_caller){.id = BASE_STR("operator")};
}

static struct base_hash token(const char *name)
{
	return base_hash_of(base_str_of(name));
}

static int add(struct house *h, const char *body)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_CREDENTIAL, .by = boss(), .body = base_str_of(body)});
	return h->reply.status;
}

static int drop(struct house *h, const char *id)
{
	house_do(h, (struct core_cmd){
			    .type = CORE_CMD_CREDENTIAL, .by = boss(), .name = base_str_of(id), .base = 1});
	return h->reply.status;
}

static int use(struct house *h, const char *id, int64_t counter)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_CREDENTIAL_USED,
			    .by = boss(),
			    .name = base_str_of(id),
			    .base = counter});
	return h->reply.status;
}

static int open_session(struct house *h, const char *id, const char *how, const char *credential,
	const char *text, int64_t life_ms)
{
	char body[256];

	snprintf(body, sizeof(body),
		"{\"id\":\"%s\",\"how\":\"%s\",\"credential\":\"%s\",\"address\":\"192.0.2.7\","
		"\"agent\":\"test\",\"until_ms\":%lld}",
		id, how, credential, (long long)(h->now_ms + life_ms));
	house_do(h, (struct core_cmd){.type = CORE_CMD_SESSION_OPEN,
			    .by = boss(),
			    .body = base_str_of(body),
			    .hash = token(text)});
	return h->reply.status;
}

static int rotate(struct house *h, const char *id, const char *text)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_SESSION_OPEN,
			    .by = boss(),
			    .key = base_str_of(id),
			    .hash = token(text)});
	return h->reply.status;
}

static int close_session(struct house *h, const char *id)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_SESSION_CLOSE, .by = boss(), .name = base_str_of(id)});
	return h->reply.status;
}

static bool is_open(struct house *h, const char *text)
{
	struct base_hash t = token(text);
	struct core_session_info info;

	return core_session_find(h->core, &t, h->now_ms, &info);
}

#define PASSKEY(name, id)                                                                                    \
	"{\"kind\":\"passkey\",\"name\":\"" name "\",\"credential_id\":\"" id                                \
	"\",\"public_key\":\"AAAA\",\"alg\":-7}"

static void test_credentials(void **state)
{
	struct house *h = *state;
	struct core_credential_info info;

	assert_int_equal(add(h, PASSKEY("phone", "AQID")), 201);
	assert_int_equal(add(h, PASSKEY("phone", "AQIE")), 409); /* the name */
	assert_int_equal(add(h, PASSKEY("other", "AQID")), 409); /* the same passkey */
	assert_int_equal(add(h, PASSKEY("", "AQIE")), 400);
	assert_int_equal(add(h, PASSKEY("a/b", "AQIE")), 400);
	assert_int_equal(add(h, PASSKEY("<b>", "AQIE")), 400);
	assert_int_equal(add(h, PASSKEY("x", "")), 400);
	assert_int_equal(add(h, PASSKEY("x", "not base64!")), 400);
	assert_int_equal(add(h, "{\"kind\":\"passkey\",\"name\":\"x\",\"credential_id\":\"AQIE\","
				"\"public_key\":\"AAAA\",\"alg\":-65535}"),
		400);
	assert_int_equal(add(h, "{\"kind\":\"magic\"}"), 400);
	assert_int_equal(add(h, "nonsense"), 400);
	assert_true(core_passkey_find(h->core, (struct base_str){"\1\2\3", 3}, &info));
	assert_true(base_str_is(info.id, "passkey/phone"));
	assert_false(core_passkey_find(h->core, (struct base_str){"\1\2\4", 3}, &info));
	assert_int_equal(add(h, "{\"kind\":\"password\"}"), 201);
	assert_int_equal(add(h, "{\"kind\":\"password\"}"), 201); /* a new one takes its place */
	assert_int_equal(add(h, "{\"kind\":\"totp\"}"), 201);
	assert_int_equal(add(h, "{\"kind\":\"totp\"}"), 409);
	assert_int_equal(drop(h, "totp"), 200);
	assert_int_equal(drop(h, "totp"), 404);
	assert_int_equal(drop(h, "passkey/none"), 404);
	/* Nobody but the operator. */
	house_do(h, (struct core_cmd){.type = CORE_CMD_CREDENTIAL,
			    .by = {.id = BASE_STR("key/ci")},
			    .body = BASE_STR(PASSKEY("mine", "AQIF"))});
	assert_int_equal(h->reply.status, 403);
	house_do(h, (struct core_cmd){.type = CORE_CMD_SESSION_CLOSE, .by = {.id = BASE_STR("key/ci")}});
	assert_int_equal(h->reply.status, 403);
}

static void test_too_many_credentials(void **state)
{
	struct house *h = *state;
	char body[256];

	for (unsigned i = 0; i < CORE_CREDENTIALS_MAX; i++) {
		snprintf(body, sizeof(body), PASSKEY("k%u", "AQ%02u"), i, i);
		assert_int_equal(add(h, body), 201);
	}
	assert_int_equal(add(h, PASSKEY("more", "AQAAAA")), 409);
}

/* A counter that does not go up is refused, and it is known. */
static void test_counters_never_go_back(void **state)
{
	struct house *h = *state;
	struct core_credential_info info;

	assert_int_equal(add(h, PASSKEY("phone", "AQID")), 201);
	assert_int_equal(use(h, "passkey/phone", 0), 200); /* has none */
	assert_int_equal(use(h, "passkey/phone", 0), 200);
	assert_int_equal(use(h, "passkey/phone", 7), 200);
	assert_int_equal(use(h, "passkey/phone", 7), 409);
	assert_int_equal(use(h, "passkey/phone", 6), 409);
	assert_int_equal(use(h, "passkey/phone", 0), 409);
	assert_true(core_credential_get(h->core, BASE_STR("passkey/phone"), &info));
	assert_int_equal(info.sign_count, 7);
	assert_int_equal(info.refused_ms, h->now_ms);
	assert_int_equal(use(h, "passkey/phone", 8), 200);
	/* A code of TOTP is used once: its step is its counter, and 0 is none. */
	assert_int_equal(add(h, "{\"kind\":\"totp\"}"), 201);
	assert_int_equal(use(h, "totp", 0), 409);
	assert_int_equal(use(h, "totp", 56666666), 200);
	assert_int_equal(use(h, "totp", 56666666), 409);
	assert_int_equal(use(h, "totp", 56666665), 409);
	assert_int_equal(use(h, "totp", 56666667), 200);
	assert_int_equal(use(h, "passkey/none", 1), 404);
}

static void test_sessions(void **state)
{
	struct house *h = *state;

	assert_int_equal(open_session(h, "a", "link", "", "one", HOUR), 201);
	assert_int_equal(open_session(h, "a", "link", "", "other", HOUR), 400); /* the id */
	assert_int_equal(open_session(h, "b", "link", "", "one", HOUR), 409);	/* the token */
	assert_int_equal(open_session(h, "b", "link", "", "two", -1), 400);	/* over before it began */
	assert_true(is_open(h, "one"));
	assert_false(is_open(h, "two"));
	/* Another token: the one before counts a minute longer. */
	assert_int_equal(rotate(h, "a", "three"), 200);
	assert_true(is_open(h, "one"));
	assert_true(is_open(h, "three"));
	h->now_ms += CORE_SESSION_OVERLAP_MS;
	assert_false(is_open(h, "one"));
	assert_true(is_open(h, "three"));
	assert_int_equal(rotate(h, "none", "four"), 404);
	/* The end stays where it was. */
	h->now_ms += HOUR - CORE_SESSION_OVERLAP_MS;
	assert_false(is_open(h, "three"));
	assert_int_equal(rotate(h, "a", "four"), 404);
	/* Closed at once, both tokens. */
	assert_int_equal(open_session(h, "c", "link", "", "five", HOUR), 201);
	assert_int_equal(rotate(h, "c", "six"), 200);
	assert_int_equal(close_session(h, "c"), 200);
	assert_non_null(house_act(h, CORE_ACT_SESSIONS, 0));
	assert_false(is_open(h, "five"));
	assert_false(is_open(h, "six"));
	assert_int_equal(close_session(h, "c"), 404);
	assert_int_equal(open_session(h, "d", "link", "", "seven", HOUR), 201);
	assert_int_equal(open_session(h, "e", "link", "", "eight", HOUR), 201);
	assert_int_equal(close_session(h, ""), 200);
	assert_false(is_open(h, "seven") || is_open(h, "eight"));
}

static void test_sessions_are_bounded(void **state)
{
	struct house *h = *state;
	char id[16], text[16];

	for (unsigned i = 0; i < CORE_SESSIONS_MAX + 5; i++) {
		snprintf(id, sizeof(id), "s%u", i);
		snprintf(text, sizeof(text), "t%u", i);
		assert_int_equal(open_session(h, id, "link", "", text, HOUR + i), 201);
	}
	assert_false(is_open(h, "t4")); /* those that end first made room */
	assert_true(is_open(h, "t5"));
}

/* Who signed in with what is taken away, or changed, is out. */
static void test_a_credential_takes_its_sessions_along(void **state)
{
	struct house *h = *state;

	assert_int_equal(add(h, PASSKEY("phone", "AQID")), 201);
	assert_int_equal(add(h, PASSKEY("desk", "AQIE")), 201);
	assert_int_equal(add(h, "{\"kind\":\"password\"}"), 201);
	assert_int_equal(open_session(h, "a", "passkey", "passkey/phone", "phone", HOUR), 201);
	assert_int_equal(open_session(h, "b", "passkey", "passkey/desk", "desk", HOUR), 201);
	assert_int_equal(open_session(h, "c", "password", "password", "word", HOUR), 201);
	assert_int_equal(drop(h, "passkey/phone"), 200);
	assert_false(is_open(h, "phone"));
	assert_true(is_open(h, "desk") && is_open(h, "word"));
	assert_int_equal(add(h, "{\"kind\":\"password\"}"), 201);
	assert_false(is_open(h, "word"));
	assert_int_equal(open_session(h, "d", "password", "password", "word2", HOUR), 201);
	assert_int_equal(add(h, "{\"kind\":\"totp\"}"), 201);
	assert_false(is_open(h, "word2"));
	assert_int_equal(open_session(h, "e", "password", "password", "word3", HOUR), 201);
	assert_int_equal(drop(h, "totp"), 200);
	assert_false(is_open(h, "word3"));
	assert_true(is_open(h, "desk"));
}

/* An old backup does not bring back a session that was closed since. */
static void test_a_restore_ends_sessions(void **state)
{
	struct house *h = *state;

	assert_int_equal(open_session(h, "a", "link", "", "one", 100 * HOUR), 201);
	h->now_ms += HOUR;
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test")});
	assert_true(is_open(h, "one"));
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test"), .base = 1});
	assert_false(is_open(h, "one"));
}

static void wrong(struct house *h, const char *address, int64_t count)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_SIGN_IN_FAILED,
			    .name = BASE_STR("password"),
			    .text = base_str_of(address),
			    .base = count});
	assert_int_equal(h->reply.status, 200);
}

static uint32_t failures(struct house *h, const char *address)
{
	int64_t last = 0;

	return core_sign_in_failures(h->core, BASE_STR("password"), base_str_of(address), h->now_ms, &last);
}

static void test_fault_59_failures_are_counted(void **state)
{
	struct house *h = *state;
	char address[32];

	wrong(h, "192.0.2.1", 3);
	wrong(h, "192.0.2.1", 1);
	wrong(h, "192.0.2.2", 1);
	assert_int_equal(failures(h, "192.0.2.1"), 4);
	assert_int_equal(failures(h, "192.0.2.2"), 1);
	assert_int_equal(failures(h, "192.0.2.3"), 0);
	assert_int_equal(failures(h, ""), 5);
	h->now_ms += CORE_FORGIVE_MS;
	assert_int_equal(failures(h, "192.0.2.1"), 3);
	assert_int_equal(failures(h, "192.0.2.2"), 0);
	assert_int_equal(failures(h, ""), 0);
	/* However many addresses: what is kept is bounded, the sum is not lost. */
	for (unsigned i = 0; i < 2 * CORE_FAILURES_MAX; i++) {
		snprintf(address, sizeof(address), "198.51.100.%u", i);
		wrong(h, address, 1);
	}
	assert_int_equal(failures(h, ""), 2 * CORE_FAILURES_MAX);
	assert_int_equal(failures(h, "198.51.100.511"), 1);
	assert_int_equal(failures(h, "198.51.100.0"), 0);
}

static void test_json(void **state)
{
	struct house *h = *state;
	struct base_buf b;

	base_buf_init(&b, 1 << 16);
	assert_int_equal(add(h, PASSKEY("phone", "AQID")), 201);
	assert_int_equal(open_session(h, "a", "link", "", "one", HOUR), 201);
	wrong(h, "192.0.2.1", 3);
	assert_int_equal(core_sign_in_json(h->core, h->now_ms, BASE_STR("a"), &b), 0);
	base_buf_char(&b, '\0');
	assert_non_null(strstr(b.ptr, "\"id\":\"passkey/phone\""));
	assert_non_null(strstr(b.ptr, "\"current\":true"));
	assert_non_null(strstr(b.ptr, "\"address\":\"192.0.2.1\",\"count\":3"));
	/* Neither tokens nor their hashes. */
	assert_null(strstr(b.ptr, "token"));
	base_buf_done(&b);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, house_tear_down)
	const struct CMUnitTest tests[] = {
		T(test_credentials),
		T(test_too_many_credentials),
		T(test_counters_never_go_back),
		T(test_sessions),
		T(test_sessions_are_bounded),
		T(test_a_credential_takes_its_sessions_along),
		T(test_a_restore_ends_sessions),
		T(test_fault_59_failures_are_counted),
		T(test_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
