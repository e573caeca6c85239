#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/codec.h"
#include "base/prng.h"
#include "core/block.h"
#include "core/events.h"

static void test_numbers(void **state)
{
	static const uint64_t u[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, (uint64_t)1 << 63, UINT64_MAX};
	static const int64_t s[] = {0, -1, 1, -64, 64, INT64_MIN, INT64_MAX};
	struct base_reader r;
	struct base_buf b;
	size_t i;

	(void)state;
	base_buf_init(&b, 1000);
	for (i = 0; i < sizeof(u) / sizeof(u[0]); i++)
		base_put_u64(&b, u[i]);
	for (i = 0; i < sizeof(s) / sizeof(s[0]); i++)
		base_put_i64(&b, s[i]);
	r = base_reader_of(base_buf_view(&b));
	for (i = 0; i < sizeof(u) / sizeof(u[0]); i++)
		assert_true(base_get_u64(&r) == u[i]);
	for (i = 0; i < sizeof(s) / sizeof(s[0]); i++)
		assert_true(base_get_i64(&r) == s[i]);
	assert_int_equal(base_reader_end(&r), 0);
	base_buf_clear(&b);
	base_put_u64(&b, UINT64_MAX);
	assert_int_equal(b.len, 10);
	base_buf_clear(&b);
	base_put_u64(&b, 300);
	r = base_reader_of(base_buf_view(&b));
	assert_true(base_get_uint(&r, 299) == 0);
	assert_int_equal(base_reader_end(&r), -EBADMSG);
	base_buf_done(&b);
}

static void refused(struct base_str in)
{
	struct base_reader r = base_reader_of(in);

	assert_true(base_get_u64(&r) == 0);
	assert_true(base_get_u64(&r) == 0);
	assert_int_equal(base_reader_end(&r), -EBADMSG);
}

static void test_faults(void **state)
{
	struct base_reader r = base_reader_of(BASE_STR_NONE);
	struct base_blob blob;
	struct base_hash h;

	(void)state;
	/* Nothing left reads as zeros, for records of older binaries. */
	assert_true(base_get_u64(&r) == 0 && base_get_i64(&r) == 0 && base_get_str(&r).len == 0);
	base_get_hash(&r, &h);
	assert_true(base_hash_is_zero(&h));
	base_get_blob(&r, &blob);
	assert_true(base_blob_is_inline(&blob) && blob.len == 0);
	assert_int_equal(base_reader_end(&r), 0);
	refused(BASE_STR("\x80"));				       /* does not end */
	refused(BASE_STR("\x80\x00"));				       /* longer than it must be */
	refused(BASE_STR("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02")); /* over 64 bits */
	refused(BASE_STR("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
	r = base_reader_of(BASE_STR("\x05"
				    "abcd"));
	assert_true(base_get_str(&r).len == 0);
	assert_int_equal(base_reader_end(&r), -EBADMSG);
	r = base_reader_of(BASE_STR("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"));
	assert_true(base_get_str(&r).len == 0);
	assert_int_equal(base_reader_end(&r), -EBADMSG);
	r = base_reader_of(BASE_STR("0123456789"));
	base_get_hash(&r, &h);
	assert_true(base_hash_is_zero(&h));
	assert_int_equal(base_reader_end(&r), -EBADMSG);
	r = base_reader_of(BASE_STR("\x01xy"));
	assert_true(base_str_is(base_get_str(&r), "x"));
	assert_int_equal(base_reader_end(&r), -EBADMSG); /* something is left */
}

static void test_blob(void **state)
{
	struct base_blob in = base_blob_of(BASE_STR("{\"a\":1}")), out;
	struct base_reader r;
	struct base_buf b;

	(void)state;
	base_buf_init(&b, 1000);
	base_put_blob(&b, &in);
	in = (struct base_blob){.hash = base_hash_of(BASE_STR("x")), .len = 123456789};
	base_put_blob(&b, &in);
	r = base_reader_of(base_buf_view(&b));
	base_get_blob(&r, &out);
	assert_true(base_blob_is_inline(&out) && base_str_is(out.data, "{\"a\":1}") && out.len == 7);
	base_get_blob(&r, &out);
	assert_true(!base_blob_is_inline(&out) && out.len == 123456789 && base_hash_eq(&in.hash, &out.hash));
	assert_int_equal(base_reader_end(&r), 0);
	base_buf_clear(&b);
	base_put_u64(&b, 3);
	base_put_hash(&b, &(struct base_hash){{0}});
	r = base_reader_of(base_buf_view(&b));
	base_get_blob(&r, &out);
	assert_int_equal(base_reader_end(&r), -EBADMSG);
	base_buf_done(&b);
}

static void test_members(void **state)
{
	struct base_blob json = base_blob_of(BASE_STR("[1]")), text = base_blob_of(BASE_STR("a \"b\""));
	struct base_blob stored = {.hash = {{0xab}}, .len = 5};
	struct base_buf b;
	char many[65] = {0};

	(void)state;
	base_buf_init(&b, 10000);
	base_member_u64(&b, "u", 1);
	base_member_i64(&b, "i", -1);
	base_member_str(&b, "s", BASE_STR("x\ny"));
	base_member_str(&b, "e", BASE_STR_NONE);
	base_member_json(&b, "j", BASE_STR_NONE);
	base_member_bytes(&b, "b", BASE_STR("\x00\xff"));
	base_member_bytes(&b, "l", (struct base_str){many, sizeof(many)});
	base_member_blob(&b, "bj", &json);
	base_member_blob(&b, "bt", &text);
	assert_true(base_str_is(base_buf_view(&b), "\"u\":1,\"i\":-1,\"s\":\"x\\ny\",\"e\":\"\",\"j\":null,"
						   "\"b\":\"00ff\",\"l\":{\"bytes\":65},\"bj\":[1],"
						   "\"bt\":\"a \\\"b\\\"\","));
	base_buf_clear(&b);
	base_member_blob(&b, "bs", &stored);
	assert_true(base_str_is(base_buf_view(&b),
		"\"bs\":{\"hash\":\"ab00000000000000000000000000000000000000000000000000000000000000\","
		"\"bytes\":5},"));
	base_buf_done(&b);
}

/* Blocks of events with bodies of all sizes round the borders of the length's varint. */
static void test_block(void **state)
{
	static char body[70000];
	struct core_record rec;
	struct base_buf b;
	size_t at = 0, mark, i, n = 0;

	(void)state;
	memset(body, 'x', sizeof(body));
	base_buf_init(&b, 16 << 20);
	for (i = 0; i < sizeof(body); i += i < 300 ? 1 : 997) {
		mark = core_block_begin(&b, 7, -5 + (int64_t)i);
		base_buf_put(&b, body, i);
		core_block_end(&b, mark);
	}
	assert_int_equal(base_buf_failed(&b), 0);
	for (i = 0; i < sizeof(body); i += i < 300 ? 1 : 997, n++) {
		assert_int_equal(core_block_next(base_buf_view(&b), &at, &rec), 1);
		assert_int_equal(rec.type, 7);
		assert_true(rec.time_ms == -5 + (int64_t)i && rec.subject.len == 0 && rec.nonce.len == 0);
		assert_true(base_str_eq(rec.body, (struct base_str){body, i}));
		assert_true(rec.raw.ptr + rec.raw.len == b.ptr + at);
	}
	assert_int_equal(core_block_next(base_buf_view(&b), &at, &rec), 0);
	/* Cut anywhere, a block is refused or shorter, and nothing outside of it is read. */
	for (i = 0; i < 400; i++) {
		int r;

		at = 0;
		do
			r = core_block_next(base_str_sub(base_buf_view(&b), 0, i), &at, &rec);
		while (r > 0);
		assert_true(at <= i && (r == 0 ? at == i : r == -EBADMSG));
	}
	base_buf_done(&b);
}

static void test_block_subject(void **state)
{
	static const char in[] = "\x0d\x09\x02\x03"
				 "ada\x04"
				 "NNNNxyz";
	struct core_record rec;
	size_t at = 0;

	(void)state;
	assert_int_equal(core_block_next(BASE_STR(in), &at, &rec), 1);
	assert_true(rec.type == 9 && rec.time_ms == 1 && base_str_is(rec.subject, "ada"));
	assert_true(base_str_is(rec.nonce, "NNNN") && base_str_is(rec.body, "xy"));
	at = 0;
	assert_int_equal(core_block_next(BASE_STR("\x00"), &at, &rec), -EBADMSG);
	assert_int_equal(core_block_next(BASE_STR("\x02\x00\x00"), &at, &rec), -EBADMSG);
}

static void test_event_json(void **state)
{
	struct core_engine_started in = {.epoch = 3, .version = BASE_STR("0.1")}, out;
	struct base_buf b, text;

	(void)state;
	base_buf_init(&b, 1000);
	base_buf_init(&text, 1000);
	core_engine_started_put(&b, &in);
	assert_int_equal(core_engine_started_get(base_buf_view(&b), &out), 0);
	assert_true(out.epoch == 3 && base_str_is(out.version, "0.1"));
	assert_int_equal(core_event_json(CORE_EV_ENGINE_STARTED, base_buf_view(&b), &text), 0);
	/* Fields are only added at the end. */
	assert_true(base_str_starts(
		base_buf_view(&text), BASE_STR("\"epoch\":3,\"version\":\"0.1\",\"restored\":0,")));
	base_buf_char(&b, 'x');
	out.epoch = 77;
	assert_int_equal(core_engine_started_get(base_buf_view(&b), &out), -EBADMSG);
	assert_int_equal(out.epoch, 77);
	base_buf_done(&b);
	base_buf_done(&text);
}

static void test_prng(void **state)
{
	struct base_prng p = base_prng_of_u64(0), q;
	uint8_t seed[32] = {0};
	unsigned seen[7] = {0}, i;

	(void)state;
	/* Known answers of xoshiro256** for the state 1, 2, 3, 4. */
	for (i = 0; i < 4; i++)
		seed[8 * i] = (uint8_t)(i + 1);
	q = base_prng_of(seed);
	assert_true(base_prng_next(&q) == 11520u);
	assert_true(base_prng_next(&q) == 0u);
	assert_true(base_prng_next(&q) == 1509978240u);
	assert_true(base_prng_next(&q) == 1215971899390074240u);
	/* splitmix64 from 0. */
	assert_true(p.s[0] == 0xe220a8397b1dcdafu && p.s[1] == 0x6e789e6aa1b965f4u);
	memset(seed, 0, sizeof(seed));
	q = base_prng_of(seed);
	assert_true(base_prng_next(&q) == base_prng_next(&p));
	for (i = 0; i < 7000; i++)
		seen[base_prng_below(&p, 7)]++;
	for (i = 0; i < 7; i++)
		assert_in_range(seen[i], 800, 1200);
	assert_true(base_prng_below(&p, 1) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_blob),
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_block),
		cmocka_unit_test(test_block_subject),
		cmocka_unit_test(test_event_json),
		cmocka_unit_test(test_prng),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
