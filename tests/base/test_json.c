#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/prng.h"

static void test_refused(void **state)
{
	static const char *const bad[] = {"", " ", "[", "{", "[1,]", "{\"a\":1,}", "{a:1}", "'a'", "01", "1.",
		".5", "+1", "1e", "-", "NaN", "Infinity", "tru", "\"\n\"", "\"\\x\"", "\"\\u12\"",
		"\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\xff\"", "\"\xed\xa0\x80\"",
		"\"\xc0\xaf\"", "[1] 2", "/* */1",
		"\xef\xbb\xbf"
		"1",
		"{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}", "[{\"x\":{\"b\":1,\"c\":2,\"a\":1,\"b\":2}}]",
		"1e999", "\"a"};
	struct base_json *d = NULL;
	struct base_err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err.code = 0;
		assert_int_equal(base_json_parse(base_str_of(bad[i]), &d, &err), -EINVAL);
		assert_int_equal(err.code, -EINVAL);
		assert_int_equal(base_json_parse(base_str_of(bad[i]), &d, NULL), -EINVAL);
	}
	assert_null(d);
	assert_int_equal(base_json_parse(BASE_STR("{\n  \"a\": tru\n}"), &d, &err), -EINVAL);
	assert_non_null(strstr(err.text, "line 2, column "));
	assert_int_equal(base_json_parse(BASE_STR("{\"key\":1,\"key\":1}"), &d, &err), -EINVAL);
	assert_non_null(strstr(err.text, "\"key\""));
}

static void test_duplicates_many(void **state)
{
	struct base_json *d;
	struct base_buf b;
	int i, twice;

	(void)state;
	base_buf_init(&b, 1 << 20);
	for (twice = 0; twice < 2; twice++) {
		base_buf_clear(&b);
		base_buf_char(&b, '{');
		for (i = 0; i < 5000; i++)
			base_buf_printf(&b, "\"%d\":0,", i * 7919 % 5000);
		base_buf_printf(&b, "\"%s\":1}", twice ? "17" : "x");
		assert_int_equal(base_json_parse(base_buf_view(&b), &d, NULL), twice ? -EINVAL : 0);
		if (!twice)
			base_json_free(d);
	}
	base_buf_done(&b);
}

static int parse_depth(unsigned depth, const char *open, const char *close)
{
	struct base_json *d;
	struct base_buf b;
	unsigned i;
	int r;

	base_buf_init(&b, 1 << 20);
	for (i = 0; i < depth; i++)
		base_buf_cstr(&b, open);
	base_buf_cstr(&b, "1");
	for (i = 0; i < depth; i++)
		base_buf_cstr(&b, close);
	r = base_json_parse(base_buf_view(&b), &d, NULL);
	if (r == 0)
		base_json_free(d);
	base_buf_done(&b);
	return r;
}

static void test_depth(void **state)
{
	struct base_json *d;
	struct base_buf b;

	(void)state;
	assert_int_equal(parse_depth(BASE_JSON_DEPTH_MAX, "[", "]"), 0);
	assert_int_equal(parse_depth(BASE_JSON_DEPTH_MAX + 1, "[", "]"), -E2BIG);
	assert_int_equal(parse_depth(BASE_JSON_DEPTH_MAX, "{\"a\":", "}"), 0);
	assert_int_equal(parse_depth(BASE_JSON_DEPTH_MAX + 1, "{\"a\":", "}"), -E2BIG);
	assert_int_equal(parse_depth(100000, "[", "]"), -E2BIG);
	assert_int_equal(parse_depth(100000, "[", ""), -E2BIG);
	assert_int_equal(parse_depth(10000, "{\"a\":", "}"), -E2BIG);
	/* Brackets in strings are no nesting, in long texts either. */
	base_buf_init(&b, 1 << 20);
	base_buf_char(&b, '"');
	while (b.len < 100000)
		base_buf_cstr(&b, "[{\\\"[");
	base_buf_char(&b, '"');
	assert_int_equal(base_json_parse(base_buf_view(&b), &d, NULL), 0);
	base_json_free(d);
	base_buf_done(&b);
}

static void test_access(void **state)
{
	struct base_jv root, none = {NULL}, v;
	struct base_jv_iter it = {0};
	struct base_json *d;
	struct base_str key;

	(void)state;
	assert_int_equal(
		base_json_parse(
			BASE_STR(" {\"s\":\"a\\u0000b\",\"i\":-7,\"r\":1.5,\"t\":true,\"n\":null,"
				 "\"a\":[1,[2],3],\"big\":9223372036854775808,\"max\":9223372036854775807} "),
			&d, NULL),
		0);
	root = base_json_root(d);
	assert_int_equal(base_jv_kind(root), BASE_JSON_OBJ);
	assert_int_equal(base_jv_len(root), 8);
	assert_true(base_str_eq(base_jv_str(base_jv_get(root, "s")), BASE_STR("a\0b")));
	assert_int_equal(base_jv_int(base_jv_get(root, "i"), 0), -7);
	assert_true(base_jv_real(base_jv_get(root, "i"), 0) == -7.0);
	assert_int_equal(base_jv_kind(base_jv_get(root, "r")), BASE_JSON_REAL);
	assert_int_equal(base_jv_int(base_jv_get(root, "r"), 42), 42);
	assert_true(base_jv_bool(base_jv_get(root, "t"), false));
	assert_int_equal(base_jv_kind(base_jv_get(root, "n")), BASE_JSON_NULL);
	assert_int_equal(base_jv_kind(base_jv_get(root, "big")), BASE_JSON_REAL);
	assert_true(base_jv_real(base_jv_get(root, "big"), 0) == 9223372036854775808.0);
	assert_true(base_jv_int(base_jv_get(root, "max"), 0) == INT64_MAX);
	v = base_jv_get(root, "a");
	assert_int_equal(base_jv_int(base_jv_at(v, 2), 0), 3);
	assert_int_equal(base_jv_int(base_jv_at(base_jv_at(v, 1), 0), 0), 2);
	assert_int_equal(base_jv_kind(base_jv_at(v, 3)), BASE_JSON_NONE);
	while (base_jv_next(v, &it, &key, &none))
		assert_int_equal(key.len, 0);
	assert_int_equal(it.i, 3);
	it = (struct base_jv_iter){0};
	assert_true(base_jv_next(root, &it, &key, &v));
	assert_true(base_str_is(key, "s"));
	assert_true(base_jv_next(root, &it, &key, &v));
	assert_true(base_str_is(key, "i") && base_jv_int(v, 0) == -7);
	none = base_jv_get(root, "nothing");
	assert_int_equal(base_jv_kind(none), BASE_JSON_NONE);
	assert_int_equal(base_jv_kind(base_jv_get(none, "x")), BASE_JSON_NONE);
	assert_int_equal(base_jv_kind(base_jv_at(none, 0)), BASE_JSON_NONE);
	assert_int_equal(base_jv_len(none), 0);
	it = (struct base_jv_iter){0};
	assert_false(base_jv_next(none, &it, &key, &v));
	assert_int_equal(base_jv_kind(base_jv_get(base_jv_get(root, "a"), "x")), BASE_JSON_NONE);
	base_json_free(d);
	base_json_free(NULL);
}

static int canonical(struct base_str text)
{
	struct base_json *d;
	int r;

	assert_int_equal(base_json_parse(text, &d, NULL), 0);
	r = base_json_is_canon(d, text, NULL);
	base_json_free(d);
	return r;
}

/* What canon gives is canonical, and a text is canonical exactly if canon gives it back. */
static void check_canon(const char *text, const char *want)
{
	struct base_str in = base_str_of(text);
	struct base_err err = {0};
	struct base_buf b;

	base_buf_init(&b, 1 << 20);
	assert_int_equal(base_json_canon(in, &b, &err), 0);
	if (!base_str_is(base_buf_view(&b), want))
		fail_msg("%s became %.*s, not %s", text, (int)b.len, b.ptr, want);
	assert_int_equal(canonical(base_buf_view(&b)), 0);
	assert_int_equal(canonical(in), base_str_is(in, want) ? 0 : -EINVAL);
	base_buf_done(&b);
}

static void test_canon(void **state)
{
	(void)state;
	/* RFC 8785, section 3.2.2 and 3.2.4 */
	check_canon(
		"{\n  \"numbers\": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],\n"
		"  \"string\": \"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\",\n"
		"  \"literals\": [null, true, false]\n}",
		"{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],"
		"\"string\":\"\xe2\x82\xac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}");
	/* Section 3.2.3: the order of keys, by UTF-16 units (U+1F600 before U+FB33) */
	check_canon("{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Hebrew Letter "
		    "Dalet With Dagesh\","
		    "\"1\":\"One\",\"\\ud83d\\ude00\":\"Emoji: Grinning Face\",\"\\u0080\":\"Control\","
		    "\"\\u00f6\":\"Latin Small Letter O With Diaeresis\"}",
		"{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\xc2\x80\":\"Control\","
		"\"\xc3\xb6\":\"Latin Small Letter O With Diaeresis\",\"\xe2\x82\xac\":\"Euro Sign\","
		"\"\xf0\x9f\x98\x80\":\"Emoji: Grinning Face\",\"\xef\xac\xb3\":\"Hebrew Letter Dalet With "
		"Dagesh\"}");
	check_canon("{}", "{}");
	check_canon("[]", "[]");
	check_canon(" [ ] ", "[]");
	check_canon("[1,2]", "[1,2]");
	check_canon("\"\\b\\t\\n\\f\\r\\u0000\\u001f\x7f\"", "\"\\b\\t\\n\\f\\r\\u0000\\u001f\x7f\"");
	check_canon("\"\\u000B\"", "\"\\u000b\"");
	check_canon("{\"b\":1,\"a\":{\"d\":[],\"c\":{}}}", "{\"a\":{\"c\":{},\"d\":[]},\"b\":1}");
	check_canon("{\"a\":1,\"aa\":2,\"b\":3}", "{\"a\":1,\"aa\":2,\"b\":3}");
	check_canon("{\"a\":1, \"b\":2}", "{\"a\":1,\"b\":2}");
	check_canon("[true ]", "[true]");
	check_canon("1 ", "1");
}

static void test_numbers(void **state)
{
	static const struct {
		uint64_t bits;
		const char *text;
	} rfc[] = {/* RFC 8785, appendix B */
		{0x0000000000000001, "5e-324"}, {0x8000000000000001, "-5e-324"},
		{0x7fefffffffffffff, "1.7976931348623157e+308"},
		{0xffefffffffffffff, "-1.7976931348623157e+308"}, {0x4340000000000000, "9007199254740992"},
		{0xc340000000000000, "-9007199254740992"}, {0x4430000000000000, "295147905179352830000"},
		{0x44b52d02c7e14af5, "9.999999999999997e+22"}, {0x44b52d02c7e14af6, "1e+23"},
		{0x44b52d02c7e14af7, "1.0000000000000001e+23"}, {0x444b1ae4d6e2ef4e, "999999999999999700000"},
		{0x444b1ae4d6e2ef4f, "999999999999999900000"}, {0x444b1ae4d6e2ef50, "1e+21"},
		{0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"}, {0x3eb0c6f7a0b5ed8d, "0.000001"},
		{0x41b3de4355555553, "333333333.3333332"}, {0x41b3de4355555554, "333333333.33333325"},
		{0x41b3de4355555555, "333333333.3333333"}, {0x41b3de4355555556, "333333333.3333334"},
		{0x41b3de4355555557, "333333333.33333343"}, {0xbecbf647612f3696, "-0.0000033333333333333333"},
		{0x43143ff3c1cb0959, "1424953923781206.2"}, {0x0000000000000000, "0"},
		{0x8000000000000000, "0"}};
	struct base_buf b;
	size_t i;

	(void)state;
	base_buf_init(&b, 1000);
	for (i = 0; i < sizeof(rfc) / sizeof(rfc[0]); i++) {
		struct base_jw w = base_jw_of(&b);
		double d;

		memcpy(&d, &rfc[i].bits, 8);
		base_buf_clear(&b);
		base_jw_real(&w, d);
		if (!base_str_is(base_buf_view(&b), rfc[i].text))
			fail_msg("%.*s is not %s", (int)b.len, b.ptr, rfc[i].text);
	}
	base_buf_done(&b);
	check_canon("-0", "0");
	check_canon("-0.0", "0");
	check_canon("1.0", "1");
	check_canon("1e3", "1000");
	check_canon("100E-2", "1");
	check_canon("1e21", "1e+21");
	check_canon("1e+21", "1e+21");
	check_canon("123456789012345678", "123456789012345678"); /* every digit within int64 */
	check_canon("9223372036854775807", "9223372036854775807");
	check_canon("-9223372036854775808", "-9223372036854775808");
	check_canon("[0.1,1e-7,123.456,-1.5]", "[0.1,1e-7,123.456,-1.5]");
}

static void test_inexact(void **state)
{
	static const char *const bad[] = {"9223372036854775808", "-9223372036854775809",
		"18446744073709551615", "18446744073709551616", "9007199254740993.0", "1e18", "[1,-1e20]",
		"{\"a\":123456789012345678901}", "1000000000000000000000000",
		"[1,-12345678901234567890123456789]"};
	struct base_buf b;
	size_t i;

	(void)state;
	base_buf_init(&b, 1000);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(base_json_canon(base_str_of(bad[i]), &b, NULL), -ERANGE);
		assert_int_equal(canonical(base_str_of(bad[i])), -EINVAL);
	}
	assert_int_equal(b.len, 0);
	check_canon("[1e25,\"1000000000000000000000000\",1.0000000000000000000000]",
		"[1e+25,\"1000000000000000000000000\",1]");
	base_buf_done(&b);
}

/* Random doubles survive, in the shortest form that does. */
static void test_round_trip(void **state)
{
	struct base_prng p = base_prng_of_u64(4);
	struct base_buf b;
	int i;

	(void)state;
	base_buf_init(&b, 1000);
	for (i = 0; i < 100000; i++) {
		struct base_jw w = base_jw_of(&b);
		uint64_t bits = base_prng_next(&p);
		double d, back;

		memcpy(&d, &bits, 8);
		if (i % 2)
			d = (double)(int64_t)(bits >> 40) / 100;
		if (!isfinite(d))
			continue;
		base_buf_clear(&b);
		base_jw_real(&w, d);
		base_buf_char(&b, '\0');
		back = strtod(b.ptr, NULL);
		assert_memory_equal(&back, &d, 8);
	}
	base_buf_done(&b);
}

static void test_writer(void **state)
{
	struct base_hash h = {{0x12}};
	struct base_buf b;
	struct base_jw w;
	int i;

	(void)state;
	base_buf_init(&b, 10000);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mstr(&w, "s", BASE_STR("a\"b"));
	base_jw_mint(&w, "i", INT64_MIN);
	base_jw_key(&w, "arr");
	base_jw_arr(&w);
	base_jw_obj(&w);
	base_jw_end_obj(&w);
	base_jw_arr(&w);
	base_jw_end_arr(&w);
	base_jw_uint(&w, UINT64_MAX);
	base_jw_null(&w);
	base_jw_real(&w, INFINITY);
	base_jw_real(&w, 0.5);
	base_jw_raw(&w, BASE_STR_NONE);
	base_jw_bool(&w, false);
	base_jw_end_arr(&w);
	base_jw_mbool(&w, "t", true);
	base_jw_mraw(&w, "raw", BASE_STR("[1,2]"));
	base_jw_mcstr(&w, "c", "d");
	base_jw_end_obj(&w);
	assert_true(
		base_str_is(base_buf_view(&b), "{\"s\":\"a\\\"b\",\"i\":-9223372036854775808,\"arr\":[{},[],"
					       "18446744073709551615,null,null,0.5,null,false],\"t\":true,"
					       "\"raw\":[1,2],\"c\":\"d\"}"));
	base_buf_clear(&b);
	w = base_jw_of(&b);
	for (i = 0; i < BASE_JSON_DEPTH_MAX; i++) {
		base_jw_arr(&w);
		base_jw_int(&w, i);
	}
	for (i = 0; i < BASE_JSON_DEPTH_MAX; i++)
		base_jw_end_arr(&w);
	assert_true(base_str_starts(base_buf_view(&b), BASE_STR("[0,[1,[2,")));
	assert_int_equal(canonical(base_buf_view(&b)), 0);
	base_buf_clear(&b);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mhash(&w, "h", &h);
	base_jw_end_obj(&w);
	assert_true(base_str_starts(base_buf_view(&b), BASE_STR("{\"h\":\"12000000")));
	base_buf_done(&b);
}

static void test_quote(void **state)
{
	struct base_buf b;

	(void)state;
	base_buf_init(&b, 1000);
	base_json_quote(&b, BASE_STR("plain and long enough \x01 \\ \" \xc3\xa4 \x7f"));
	assert_true(
		base_str_is(base_buf_view(&b), "\"plain and long enough \\u0001 \\\\ \\\" \xc3\xa4 \x7f\""));
	base_buf_clear(&b);
	base_json_quote(&b, BASE_STR("a\xff\n\xe2\x82z"));
	assert_true(base_str_is(base_buf_view(&b), "\"a\xef\xbf\xbd\\n\xef\xbf\xbd\xef\xbf\xbdz\""));
	base_buf_clear(&b);
	base_json_quote(&b, BASE_STR_NONE);
	assert_true(base_str_is(base_buf_view(&b), "\"\""));
	base_buf_done(&b);
}

/* A canonical text with one byte changed, taken away or doubled is not canonical (or not JSON, or another
 * value). */
static void test_canon_mutations(void **state)
{
	static const char text[] = "{\"a\":[1,-2.5,true,null,\"x\\ny\"],\"b\":{},\"c\":\"\xc3\xa4\",\"d\":[[]"
				   ",{\"e\":false}],\"z\":1e+30}";
	char copy[sizeof(text) + 1];
	struct base_buf b;
	size_t i, c;

	(void)state;
	base_buf_init(&b, 1000);
	for (i = 0; i < sizeof(text) - 1; i++)
		for (c = 0; c < 256; c++) {
			struct base_str in = {copy, sizeof(text) - 1};
			struct base_json *d;

			memcpy(copy, text, sizeof(text));
			copy[i] = (char)c;
			base_buf_clear(&b);
			if (base_json_parse(in, &d, NULL) < 0)
				continue;
			if (base_json_canon(in, &b, NULL) == 0)
				assert_int_equal(base_json_is_canon(d, in, NULL) == 0,
					base_str_eq(base_buf_view(&b), in));
			base_json_free(d);
		}
	base_buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_duplicates_many),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_access),
		cmocka_unit_test(test_canon),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_inexact),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_writer),
		cmocka_unit_test(test_quote),
		cmocka_unit_test(test_canon_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
