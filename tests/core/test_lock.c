/* The vault's lock and its canaries: one gate for all that waits, and all else goes on. After each test the log is folded from
 * zero and from a snapshot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/core_int.h"
#include "house.h"

#define DEPLOYED(more)                                                                                       \
	"{\"flows\":[{\"name\":\"f\",\"version\":"                                                           \
	"\"00000000000000000000000000000000000000000000000000000000000000aa\",\"modules\":{\"entry\":\"f\"}" \
	","                                                                                                  \
	"\"spec\":{},\"grants\":[\"*\"]}],\"config\":{" more                                                 \
	"\"mail\":{\"from\":\"me@example.org\",\"transport\":\"smtp\",\"smtp\":{\"url\":\"smtps://"          \
	"mail.example.org\","                                                                                \
	"\"user\":\"me\",\"secret\":\"smtp\"}}},\"policy\":{\"rules\":[{\"on\":\"*\",\"then\":\"allow\"}]}}"

#define MAIL "{\"markdown\":\"t\",\"subject\":\"s\",\"to\":\"a@example.org\"}"

static int set_up(void **state)
{
	return house_set_up(state, DEPLOYED(""));
}

static int set_up_refusing(void **state)
{
	return house_set_up(state, DEPLOYED("\"vault\":{\"on_canary\":\"refuse\"},"));
}

static void lock(struct house *h, bool locked)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_VAULT_STATE,
			    .base = locked,
			    .text = BASE_STR("test"),
			    .by = {.id = BASE_STR("operator")}});
	assert_true(h->reply.status == 200);
	assert_int_equal(core_is_locked(h->core), locked);
}

static const struct house_act *sent(struct house *h)
{
	return house_act(h, CORE_ACT_DISPATCH, 0);
}

/* The id of the gate that this command opened, 0: none. */
static uint64_t opened(struct house *h)
{
	const struct house_act *a = house_act(h, CORE_ACT_GATE, 0);

	return a ? a->id : 0;
}

static void one_gate_for_all(void **state)
{
	struct house *h = *state;
	uint64_t runs[3], gate;
	unsigned out = 0;

	lock(h, true);
	for (size_t i = 0; i < 3; i++)
		runs[i] = house_start(h, "f", "{}");
	house_call(h, runs[0], 0, "mail.send", MAIL, "");
	gate = opened(h);
	assert_int_not_equal(gate, 0);
	assert_null(sent(h));
	for (size_t i = 1; i < 3; i++) {
		house_call(h, runs[i], 0, "mail.send", MAIL, "");
		assert_int_equal(opened(h), 0);
		assert_null(sent(h));
	}
	house_call(h, runs[1], 1, "test.echo", "{}", "");
	assert_non_null(sent(h)); /* needs no secret */
	house_tick(h);
	assert_null(sent(h));
	house_gate(h, gate, "approve", NULL);
	assert_int_equal(h->reply.status, 422);
	lock(h, false);
	for (size_t i = 0; i < 8; i++) {
		house_do(h, (struct core_cmd){.type = CORE_CMD_TICK});
		out += sent(h) != NULL;
	}
	assert_int_equal(out, 3);
	lock(h, false); /* is so already */
	house_call(h, runs[0], 1, "mail.send", MAIL, "");
	assert_non_null(sent(h));
}

/* Whose gate is denied fails; the next that comes asks again. */
static void a_gate_denied(void **state)
{
	struct house *h = *state;
	uint64_t a = house_start(h, "f", "{}"), b = house_start(h, "f", "{}"), gate;

	lock(h, true);
	house_call(h, a, 0, "mail.send", MAIL, "");
	gate = opened(h);
	house_gate(h, gate, "deny", NULL);
	assert_int_equal(h->reply.status, 200);
	assert_null(sent(h));
	house_call(h, b, 0, "mail.send", MAIL, "");
	assert_true(opened(h) > gate);
	lock(h, false);
	house_do(h, (struct core_cmd){.type = CORE_CMD_TICK});
	assert_non_null(sent(h));
	assert_int_equal(sent(h)->run, b);
}

/* It left before the core knew of the lock: what the vault refused is no attempt that failed. */
static void refused_by_the_vault(void **state)
{
	struct house *h = *state;
	uint64_t run = house_start(h, "f", "{}");

	house_call(h, run, 0, "mail.send", MAIL, "{\"retry\":{\"attempts\":1}}");
	assert_non_null(sent(h));
	lock(h, true);
	house_result(h, run, 0, 1, CORE_WIRE_RETRY, "{\"code\":\"vault_locked\",\"message\":\"locked\"}");
	assert_int_not_equal(opened(h), 0);
	house_tick(h);
	assert_null(sent(h));
	lock(h, false);
	house_do(h, (struct core_cmd){.type = CORE_CMD_TICK});
	assert_non_null(sent(h));
	assert_int_equal(sent(h)->attempt, 2);
}

static void meet(struct house *h)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_CANARY,
			    .name = BASE_STR("bait"),
			    .text = BASE_STR("arguments"),
			    .body = BASE_STR("{\"action\":\"http.get\"}"),
			    .by = {.id = BASE_STR("aios")}});
	assert_int_equal(h->reply.status, 200);
}

static void a_canary_freezes(void **state)
{
	struct house *h = *state;
	uint64_t gate;

	meet(h);
	gate = opened(h);
	assert_int_not_equal(gate, 0);
	assert_true(core_is_frozen(h->core));
	meet(h);
	assert_int_equal(opened(h), 0); /* told once until somebody has looked */
	house_gate(h, gate, "deny", NULL);
	assert_int_equal(h->reply.status, 422);
	house_gate(h, gate, "approve", NULL);
	assert_int_equal(h->reply.status, 200);
	assert_true(core_is_frozen(h->core));
	meet(h);
	assert_true(opened(h) > gate);
	house_do(h, (struct core_cmd){.type = CORE_CMD_THAW, .by = {.id = BASE_STR("operator")}});
	meet(h); /* it stops everything anew: that is told anew, answered or not */
	assert_int_not_equal(opened(h), 0);
	assert_true(core_is_frozen(h->core));
}

static void a_canary_only_refused(void **state)
{
	struct house *h = *state;

	meet(h);
	assert_int_not_equal(opened(h), 0);
	assert_false(core_is_frozen(h->core));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_gate_for_all, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(a_gate_denied, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(refused_by_the_vault, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(a_canary_freezes, set_up, house_tear_down),
		cmocka_unit_test_setup_teardown(a_canary_only_refused, set_up_refusing, house_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
