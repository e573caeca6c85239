#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "token/token.h"

static const uint8_t tag[TOKEN_TAG] = {1, 2, 3, 4, 5, 6, 7, 8};

static struct base_str key_text(struct base_buf *b, uint8_t fill)
{
	uint8_t seed[TOKEN_SEED];

	memset(seed, fill, sizeof(seed));
	base_buf_clear(b);
	token_put(seed, tag, b);
	return base_buf_view(b);
}

static int narrow_by(struct base_str text, const char *caveats, uint8_t fill, struct base_buf *ret)
{
	uint8_t next[TOKEN_SEED];
	struct base_json *doc;
	struct base_err err;
	struct token t;
	int r;

	memset(next, fill, sizeof(next));
	assert_int_equal(token_read(text, &t, &err), 0);
	assert_int_equal(base_json_parse(base_str_of(caveats), &doc, &err), 0);
	base_buf_clear(ret);
	r = token_attenuate(&t, base_json_root(doc), next, ret, &err);
	base_json_free(doc);
	token_done(&t);
	return r;
}

static int reads(struct base_str text)
{
	struct base_err err;
	struct token t;
	int r = token_read(text, &t, &err);

	if (r == 0)
		token_done(&t);
	return r;
}

static void test_a_key(void **state)
{
	uint8_t public[32], secret[64], seed[TOKEN_SEED];
	struct base_buf b;
	struct base_err err;
	struct token t;
	struct base_str text;

	(void)state;
	base_buf_init(&b, 4096);
	text = key_text(&b, 3);
	assert_true(base_str_starts(text, BASE_STR("aios_")));
	assert_int_equal(text.len, 5 + 54 + 6);
	assert_int_equal(token_read(text, &t, &err), 0);
	memset(seed, 3, sizeof(seed));
	crypto_sign_seed_keypair(public, secret, seed);
	assert_memory_equal(t.root, public, 32);
	assert_memory_equal(t.tag, tag, TOKEN_TAG);
	assert_int_equal(t.blocks, 0);
	token_done(&t);
	base_buf_done(&b);
}

/* One character that is wrong, missing or too many is told from a wrong key. */
static void test_typing_errors(void **state)
{
	char text[100];
	struct base_buf b;
	size_t len;

	(void)state;
	base_buf_init(&b, 4096);
	len = key_text(&b, 3).len;
	for (size_t i = 0; i < len; i++) {
		memcpy(text, b.ptr, len);
		text[i] = text[i] == 'x' ? 'y' : 'x';
		assert_int_equal(reads((struct base_str){text, len}), i < 5 ? -EINVAL : -EILSEQ);
		memmove(text + i, b.ptr + i + 1, len - i - 1);
		assert_int_not_equal(reads((struct base_str){text, len - 1}), 0);
		assert_int_not_equal(reads((struct base_str){b.ptr, i}), 0);
	}
	base_buf_char(&b, 'A');
	assert_int_equal(reads(base_buf_view(&b)), -EILSEQ);
	base_buf_done(&b);
}

static void test_narrowing(void **state)
{
	struct base_buf a, b, c;
	struct base_err err;
	struct token t;

	(void)state;
	base_buf_init(&a, 1 << 14);
	base_buf_init(&b, 1 << 14);
	base_buf_init(&c, 1 << 14);
	key_text(&a, 3);
	assert_int_equal(
		narrow_by(base_buf_view(&a), "{\"scope\":{\"own\":true},\"grants\":[\"api.run*\"]}", 4, &b),
		0);
	assert_int_equal(narrow_by(base_buf_view(&b), "{\"expires_ms\":5}", 5, &c), 0);
	assert_int_equal(token_read(base_buf_view(&c), &t, &err), 0);
	assert_int_equal(t.blocks, 2);
	assert_true(base_str_is(base_buf_view(&t.caveats),
		"[{\"grants\":[\"api.run*\"],\"scope\":{\"own\":true}},{\"expires_ms\":5}]"));
	token_done(&t);
	/* No further than a line has room for. */
	for (int i = 0; i < TOKEN_BLOCKS_MAX; i++) {
		assert_int_equal(narrow_by(base_buf_view(i ? &b : &a), "{}", (uint8_t)(10 + i), &c), 0);
		base_buf_clear(&b);
		base_buf_str(&b, base_buf_view(&c));
	}
	assert_int_equal(narrow_by(base_buf_view(&b), "{}", 99, &c), -E2BIG);
	base_buf_done(&a);
	base_buf_done(&b);
	base_buf_done(&c);
}

/* What nobody understands must not be taken for no narrowing at all. */
static void test_caveats_that_are_none(void **state)
{
	static const char *const wrong[] = {"[]", "null", "{\"grant\":[\"x\"]}", "{\"grants\":\"x\"}",
		"{\"grants\":[1]}", "{\"grants\":[\"\"]}", "{\"grants\":null}", "{\"expires_ms\":\"5\"}",
		"{\"expires_ms\":0}", "{\"expires_ms\":-1}", "{\"expires_ms\":1.5}", "{\"scope\":[]}",
		"{\"scope\":{\"flow\":[]}}", "{\"scope\":{\"flows\":\"*\"}}", "{\"scope\":{\"own\":1}}",
		"{\"scope\":{\"memory\":[[]]}}", "{\"grants\":[\"a\\u0000b\"]}"};
	static const char *const right[] = {"{}", "{\"grants\":[]}", "{\"expires_ms\":1}", "{\"scope\":{}}",
		"{\"scope\":{\"flows\":[],\"memory\":[\"a/\"],\"own\":false}}"};
	struct base_buf a, b;

	(void)state;
	base_buf_init(&a, 1 << 14);
	base_buf_init(&b, 1 << 14);
	key_text(&a, 3);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(narrow_by(base_buf_view(&a), wrong[i], 4, &b), -EINVAL);
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		assert_int_equal(narrow_by(base_buf_view(&a), right[i], 4, &b), 0);
	base_buf_done(&a);
	base_buf_done(&b);
}

/* --- forgers --- */

/* The JSON of a chain, changed, with a checksum that fits: as somebody sends it who wrote a program for it. */
static int forged(struct base_str json)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	uint32_t crc = UINT32_MAX;
	char check[6];
	struct base_buf b;
	int r;

	base_buf_init(&b, 1 << 16);
	base_buf_cstr(&b, "aiosc_");
	base_b64url_put(&b, json);
	for (size_t i = 0; i < b.len; i++) {
		crc ^= (uint8_t)b.ptr[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
	}
	crc = ~crc;
	for (int i = 5; i >= 0; i--, crc /= 62)
		check[i] = digits[crc % 62];
	base_buf_put(&b, check, sizeof(check));
	r = reads(base_buf_view(&b));
	base_buf_done(&b);
	return r;
}

static void json_of(struct base_str text, struct base_buf *ret)
{
	base_buf_clear(ret);
	assert_int_equal(base_b64url_get(base_str_sub(text, 6, text.len - 12), ret), 0);
}

/* `json` with the first `what` replaced. */
static int with(struct base_str json, const char *what, const char *by)
{
	char *at = memmem(json.ptr, json.len, what, strlen(what));
	struct base_buf b;
	int r;

	assert_non_null(at);
	base_buf_init(&b, 1 << 16);
	base_buf_put(&b, json.ptr, (size_t)(at - json.ptr));
	base_buf_cstr(&b, by);
	base_buf_str(&b, base_str_sub(json, (size_t)(at - json.ptr) + strlen(what), json.len));
	r = forged(base_buf_view(&b));
	base_buf_done(&b);
	return r;
}

static void test_fault_52_forged_chains(void **state)
{
	struct base_buf a, b, c, json, cut;
	const char *second, *close;

	(void)state;
	base_buf_init(&a, 1 << 14);
	base_buf_init(&b, 1 << 14);
	base_buf_init(&c, 1 << 14);
	base_buf_init(&json, 1 << 14);
	base_buf_init(&cut, 1 << 14);
	key_text(&a, 3);
	assert_int_equal(narrow_by(base_buf_view(&a), "{\"grants\":[\"api.runs\"]}", 4, &b), 0);
	assert_int_equal(narrow_by(base_buf_view(&b), "{\"expires_ms\":99}", 5, &c), 0);
	json_of(base_buf_view(&c), &json);
	assert_int_equal(forged(base_buf_view(&json)), 0); /* the forger's own tool works */
	/* Wider, longer, elsewhere, under another root. */
	assert_int_equal(with(base_buf_view(&json), "api.runs", "api.*"), -EBADMSG);
	assert_int_equal(with(base_buf_view(&json), "\"expires_ms\":99", "\"expires_ms\":9999"), -EBADMSG);
	assert_int_equal(with(base_buf_view(&json), "\"w\":\"01", "\"w\":\"02"), -EBADMSG);
	assert_int_equal(with(base_buf_view(&json), "\"k\":\"", "\"k\":\"00"), -EINVAL);
	assert_int_equal(with(base_buf_view(&json), "{\"grants\":[\"api.runs\"]}", "{}"), -EBADMSG);
	/* Members that are not signed, twice, or missing. */
	assert_int_equal(with(base_buf_view(&json), "\"w\":", "\"x\":1,\"w\":"), -EINVAL);
	assert_int_equal(with(base_buf_view(&json), "\"w\":", "\"w\":\"00\",\"w\":"), -EINVAL);
	assert_int_equal(with(base_buf_view(&json), "\"n\":", "\"m\":1,\"n\":"), -EINVAL);
	assert_int_equal(with(base_buf_view(&json), "\"b\":[{", "\"b\":[[],{"), -EINVAL);
	/* The last block cut off: its key is not the holder's. The first cut off: its signer is not the root. */
	second = memmem(json.ptr, json.len, "},{\"c\"", 6);
	close = memmem(json.ptr, json.len, "}],\"k\"", 6);
	assert_true(second && close);
	base_buf_put(&cut, json.ptr, (size_t)(second - json.ptr));
	base_buf_put(&cut, close, json.len - (size_t)(close - json.ptr));
	assert_int_equal(forged(base_buf_view(&cut)), -EBADMSG);
	base_buf_clear(&cut);
	base_buf_cstr(&cut, "{\"b\":[");
	base_buf_put(&cut, second + 2, json.len - (size_t)(second + 2 - json.ptr));
	assert_int_equal(forged(base_buf_view(&cut)), -EBADMSG);
	base_buf_done(&a);
	base_buf_done(&b);
	base_buf_done(&c);
	base_buf_done(&json);
	base_buf_done(&cut);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_key), cmocka_unit_test(test_typing_errors),
		cmocka_unit_test(test_narrowing), cmocka_unit_test(test_caveats_that_are_none),
		cmocka_unit_test(test_fault_52_forged_chains)};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
