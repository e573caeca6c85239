#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/money.h"
#include "base/str.h"

static void test_views(void **state)
{
	struct base_str head, tail, s = BASE_STR("key=value=more");

	(void)state;
	assert_true(base_str_of(NULL).len == 0);
	assert_true(base_str_eq(BASE_STR_NONE, BASE_STR("")));
	assert_true(base_str_is(base_str_sub(s, 4, 5), "value"));
	assert_int_equal(base_str_sub(s, 100, 1).len, 0);
	assert_int_equal(base_str_sub(s, 10, SIZE_MAX).len, 4);
	assert_true(base_str_cut(s, '=', &head, &tail));
	assert_true(base_str_is(head, "key") && base_str_is(tail, "value=more"));
	assert_false(base_str_cut(head, '=', &head, &tail));
	assert_true(base_str_is(head, "key") && tail.len == 0);
	assert_int_equal(base_str_find(s, 'v'), 4);
	assert_int_equal(base_str_find(s, 'z'), -1);
	assert_true(base_str_starts(s, BASE_STR("key")) && base_str_starts(s, BASE_STR_NONE));
	assert_true(base_str_ends(s, BASE_STR("more")) && !base_str_ends(BASE_STR("e"), BASE_STR("more")));
	assert_true(base_str_cmp(BASE_STR("a"), BASE_STR("ab")) < 0);
	assert_true(base_str_cmp(BASE_STR("b"), BASE_STR("ab")) > 0);
	assert_true(base_str_cmp(BASE_STR("\xff"), BASE_STR("a")) > 0);
	assert_int_equal(base_str_cmp(BASE_STR_NONE, BASE_STR("")), 0);
}

static void test_matches(void **state)
{
	(void)state;
	assert_true(base_str_matches(BASE_STR("*"), BASE_STR("mail.send")));
	assert_true(base_str_matches(BASE_STR("mail.*"), BASE_STR("mail.send")));
	assert_true(base_str_matches(BASE_STR("mail.send"), BASE_STR("mail.send")));
	assert_false(base_str_matches(BASE_STR("mail.*"), BASE_STR("mailer")));
	assert_false(base_str_matches(BASE_STR("mail.send"), BASE_STR("mail.sender")));
	assert_false(base_str_matches(BASE_STR("*.send"), BASE_STR("mail.send")));
	assert_false(base_str_matches(BASE_STR(""), BASE_STR("mail.send")));
}

static void test_numbers(void **state)
{
	uint64_t u = 7;
	int64_t i = 7;

	(void)state;
	assert_int_equal(base_str_u64(BASE_STR("18446744073709551615"), &u), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(base_str_u64(BASE_STR("18446744073709551616"), &u), -ERANGE);
	assert_int_equal(base_str_u64(BASE_STR("99999999999999999999999"), &u), -ERANGE);
	assert_int_equal(base_str_u64(BASE_STR(""), &u), -EINVAL);
	assert_int_equal(base_str_u64(BASE_STR("01"), &u), -EINVAL);
	assert_int_equal(base_str_u64(BASE_STR("+1"), &u), -EINVAL);
	assert_int_equal(base_str_u64(BASE_STR(" 1"), &u), -EINVAL);
	assert_int_equal(base_str_u64(BASE_STR("1x"), &u), -EINVAL);
	assert_true(u == UINT64_MAX);
	assert_int_equal(base_str_i64(BASE_STR("-9223372036854775808"), &i), 0);
	assert_true(i == INT64_MIN);
	assert_int_equal(base_str_i64(BASE_STR("9223372036854775807"), &i), 0);
	assert_true(i == INT64_MAX);
	assert_int_equal(base_str_i64(BASE_STR("9223372036854775808"), &i), -ERANGE);
	assert_int_equal(base_str_i64(BASE_STR("-9223372036854775809"), &i), -ERANGE);
	assert_int_equal(base_str_i64(BASE_STR("-"), &i), -EINVAL);
	assert_int_equal(base_str_i64(BASE_STR("-0"), &i), -EINVAL);
	assert_int_equal(base_str_i64(BASE_STR("0"), &i), 0);
}

static void test_utf8(void **state)
{
	static const char *const good[] = {"", "plain ascii, long enough for the fast path", "\x7f",
		"\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
		"\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "eight by\xc3\xa4te"};
	static const char *const bad[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2 ", "\xe0\x9f\xbf",
		"\xe0\xa0", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80", "\xff", "eight bytes and then \xe2\x82", "\xf0\x90\x80"};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(base_utf8_valid(base_str_of(good[i])));
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(base_utf8_valid(base_str_of(bad[i])));
	assert_true(base_utf8_valid(BASE_STR("a\0b")));
	assert_int_equal(base_utf8_next(BASE_STR("\xe2\x82\xac!")), 3);
	assert_int_equal(base_utf8_next(BASE_STR("\xe2\x82")), 0);
	assert_int_equal(base_utf8_next(BASE_STR_NONE), 0);
}

static void test_err(void **state)
{
	struct base_err err = {0};
	char text[2 * BASE_ERR_TEXT_MAX];
	int i;

	(void)state;
	assert_int_equal(base_err_set(NULL, -EINVAL, "%d", 1), -EINVAL);
	base_err_prefix(NULL, "x");
	assert_int_equal(base_err_set(&err, -EPERM, "no %s\n\x1b[31m", "way"), -EPERM);
	assert_int_equal(err.code, -EPERM);
	assert_string_equal(err.text, "no way??[31m");
	base_err_prefix(&err, "file %d", 3);
	assert_string_equal(err.text, "file 3: no way??[31m");
	/* Cut at the border of a character, wherever that falls. */
	for (i = 0; i < 4; i++) {
		memset(text, 'x', sizeof(text));
		text[BASE_ERR_TEXT_MAX + 100] = '\0';
		memcpy(text + BASE_ERR_TEXT_MAX - 2 - i, "\xf0\x9f\x98\x80", 4);
		base_err_set(&err, -EINVAL, "%s", text);
		assert_true(base_utf8_valid(base_str_of(err.text)));
		assert_int_equal(
			strlen(err.text), i == 3 ? BASE_ERR_TEXT_MAX - 1 : BASE_ERR_TEXT_MAX - 2 - i);
	}
	base_err_prefix(&err, "%s", text);
	assert_true(base_utf8_valid(base_str_of(err.text)));
	base_err_set(&err, -EINVAL, "bad \xff byte");
	assert_string_equal(err.text, "bad ? byte");
}

static void check_money(const char *text, int64_t want)
{
	struct base_buf b;
	int64_t v = -1;

	assert_int_equal(base_money_parse(base_str_of(text), &v, NULL), 0);
	assert_true(v == want);
	base_buf_init(&b, 100);
	base_money_put(&b, v);
	v = -1;
	assert_int_equal(base_money_parse(base_buf_view(&b), &v, NULL), 0);
	assert_true(v == want);
	base_buf_done(&b);
}

static void check_duration(int64_t ms, const char *want)
{
	struct base_buf b;

	base_buf_init(&b, 64);
	base_duration_put(&b, ms);
	base_buf_char(&b, '\0');
	assert_string_equal(b.ptr, want);
	base_buf_done(&b);
}

static void test_duration_text(void **state)
{
	(void)state;
	check_duration(-5, "0 ms");
	check_duration(999, "999 ms");
	check_duration(1250, "1.2 s");
	check_duration(61500, "1 min 1 s");
	check_duration(3600000, "1 h 0 min");
	check_duration(86400000 + 3600000, "1 d 1 h");
}

static void test_money(void **state)
{
	static const char *const bad[] = {"", "1", "1USD", "1 EUR", "-1 USD", "1. USD", ".5 USD", "1.2.3 USD",
		" 1 USD", "1  USD", "01 USD", "1e3 USD", "1 usd", "0x1 USD", "1 USD "};
	struct base_err err;
	struct base_buf b;
	int64_t v = 5;
	size_t i;

	(void)state;
	check_money("0.50 USD", 500000000);
	check_money("20 USD", 20000000000);
	check_money("0.000001 USD", 1000);
	check_money("0.000000001 USD", 1);
	check_money("9223372036.854775807 USD", INT64_MAX);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(base_money_parse(base_str_of(bad[i]), &v, &err), -EINVAL);
	assert_int_equal(base_money_parse(BASE_STR("9223372036.854775808 USD"), &v, &err), -ERANGE);
	assert_int_equal(base_money_parse(BASE_STR("0.0000000001 USD"), &v, &err), -ERANGE);
	assert_int_equal(base_money_parse(BASE_STR("99999999999999999999 USD"), &v, &err), -ERANGE);
	assert_true(v == 5);
	base_buf_init(&b, 100);
	base_money_put(&b, 12345000000);
	base_buf_char(&b, ' ');
	base_money_put(&b, -500000000);
	base_buf_char(&b, ' ');
	base_money_put(&b, INT64_MIN);
	assert_true(base_str_is(base_buf_view(&b), "12.345 USD -0.50 USD -9223372036.854775808 USD"));
	base_buf_done(&b);
}

static void test_duration(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} good[] = {{"0s", 0}, {"500ms", 500}, {"90s", 90000}, {"15m", 900000}, {"12h", 43200000},
		{"2d", 172800000}, {"1w", 604800000}};
	static const char *const bad[] = {"", "5", "s", "-1s", "1.5h", "1 h", "1y", "1h30m", "01s", "1S"};
	int64_t v;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(base_duration_parse(base_str_of(good[i].text), &v, NULL), 0);
		assert_true(v == good[i].ms);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(base_duration_parse(base_str_of(bad[i]), &v, NULL), -EINVAL);
	assert_int_equal(base_duration_parse(BASE_STR("9223372036854775807w"), &v, NULL), -ERANGE);
	assert_int_equal(base_duration_parse(BASE_STR("9223372036854775808ms"), &v, NULL), -ERANGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_views),
		cmocka_unit_test(test_matches),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_err),
		cmocka_unit_test(test_money),
		cmocka_unit_test(test_duration_text),
		cmocka_unit_test(test_duration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
