/* Checkpoints, where they are, and who looked at what. After each test the log is folded from zero and from a snapshot, and
 * both must equal the live state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/core_int.h"
#include "house.h"

#define DEPLOYMENT "{\"flows\":[],\"policy\":{\"rules\":[]}}"

static const char bytes[64];

static int set_up(void **state)
{
	return house_set_up(state, DEPLOYMENT);
}

static int checkpoint(struct house *h, uint64_t seq, size_t signature, size_t key)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_CHECKPOINT,
			    .id = seq,
			    .bytes = {bytes, signature},
			    .key = {bytes, key},
			    .name = BASE_STR("00112233445566778899aabbccddeeff")});
	return h->reply.status;
}

static int sent(struct house *h, uint64_t seq, const char *where, bool ok)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_CHECKPOINT_SENT,
			    .id = seq,
			    .name = base_str_of(where),
			    .base = ok,
			    .body = ok ? BASE_STR_NONE : BASE_STR("{\"message\":\"no\"}")});
	return h->reply.status;
}

static int seen(struct house *h, const char *who, const char *list)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_SEEN,
			    .name = base_str_of(who),
			    .text = BASE_STR("session"),
			    .body = base_str_of(list)});
	return h->reply.status;
}

static void test_checkpoints_go_forward(void **state)
{
	struct house *h = *state;
	uint64_t seq = core_seq(h->core);
	struct core_checkpoint_info k;

	assert_int_equal(checkpoint(h, 0, 64, 32), 409);
	assert_int_equal(checkpoint(h, seq + 1, 64, 32), 409);
	assert_int_equal(checkpoint(h, seq, 63, 32), 400);
	assert_int_equal(checkpoint(h, seq, 64, 31), 400);
	assert_int_equal(checkpoint(h, seq, 64, 32), 200);
	assert_int_equal(checkpoint(h, seq, 64, 32), 409);
	assert_int_equal(checkpoint(h, seq - 1, 64, 32), 409);
	core_checkpoint_get(h->core, &k);
	assert_int_equal(k.seq, seq);
	assert_int_equal(k.at, seq + 1);
	assert_int_equal(k.since, 0);
	/* What is about checkpoints asks for no further one; anything else does. */
	assert_int_equal(sent(h, seq, "disk", true), 200);
	core_checkpoint_get(h->core, &k);
	assert_int_equal(k.since, 0);
	assert_int_equal(seen(h, "operator", "[{\"op\":\"run\",\"object\":\"1\",\"n\":1}]"), 200);
	core_checkpoint_get(h->core, &k);
	assert_int_equal(k.since, 1);
	assert_int_equal(checkpoint(h, core_seq(h->core), 64, 32), 200);
}

static void test_places(void **state)
{
	struct house *h = *state;
	uint64_t seq = core_seq(h->core);
	char name[16] = "place-a";
	bool failed;

	assert_int_equal(sent(h, seq, "disk", true), 409); /* there is none yet */
	assert_int_equal(checkpoint(h, seq, 64, 32), 200);
	assert_int_equal(sent(h, seq + 1, "disk", true), 409);
	assert_int_equal(sent(h, seq, "", true), 409);
	assert_int_equal(sent(h, seq, "disk", false), 200);
	assert_int_equal(core_place_get(h->core, BASE_STR("disk"), &failed), 0);
	assert_true(failed);
	assert_int_equal(sent(h, seq, "disk", true), 200);
	assert_int_equal(core_place_get(h->core, BASE_STR("disk"), &failed), seq);
	assert_false(failed);
	/* More than are kept: the one that is furthest behind goes. */
	for (int i = 0; i < CORE_PLACES_MAX + 8; i++) {
		name[6] = (char)('a' + i);
		assert_int_equal(sent(h, seq, name, i % 2), 200);
	}
	assert_int_equal(h->core->audit.place_count, CORE_PLACES_MAX);
}

static void test_seen(void **state)
{
	struct house *h = *state;

	assert_int_equal(seen(h, "", "[{\"op\":\"run\"}]"), 400);
	assert_int_equal(seen(h, "operator", "[]"), 400);
	assert_int_equal(seen(h, "operator", "{\"op\":1}"), 400);
	assert_int_equal(seen(h, "operator", "[{\"op\":\"run\",\"object\":\"1\",\"n\":3}]"), 200);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, house_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_checkpoints_go_forward), T(test_places), T(test_seen)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
