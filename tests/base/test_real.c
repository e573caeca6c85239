#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/real.h"

static void test_parse(void **state)
{
	static const struct {
		const char *text;
		double want;
	} good[] = {{"0", 0}, {"1", 1}, {"-1.5", -1.5}, {"+2", 2}, {".5", .5}, {"5.", 5}, {"007.250", 7.25},
		{"1e3", 1000}, {"1E-3", .001}, {"-.5e+1", -5}, {"4.9e-324", 5e-324}, {"1e-999", 0},
		{"18446744073709551616", 18446744073709551616.0},
		{"0.1000000000000000055511151231257827021181583404541015625", .1}};
	static const char *const bad[] = {"", " 1", "1 ", ".", "+", "e1", "1e", "1e+", "0x1", "1.2.3", "--1",
		"1,5", "inf", "nan", "1_0"};
	char longer[1300];
	double d = 7;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(base_real_parse(base_str_of(good[i].text), &d), 0);
		if (d != good[i].want)
			fail_msg("%s", good[i].text);
	}
	d = 7;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (base_real_parse(base_str_of(bad[i]), &d) != -EINVAL)
			fail_msg("%s", bad[i]);
	assert_int_equal(base_real_parse(BASE_STR("1\0"), &d), -EINVAL);
	assert_int_equal(base_real_parse(BASE_STR("1e309"), &d), -ERANGE);
	memset(longer, '1', sizeof(longer));
	assert_int_equal(base_real_parse((struct base_str){longer, sizeof(longer)}, &d), -EINVAL);
	assert_true(d == 7);
}

static void check(const char *want, const char *got, size_t len)
{
	if (len != strlen(want) || memcmp(want, got, len) != 0)
		fail_msg("%.*s, not %s", (int)len, got, want);
}

static void test_text(void **state)
{
	char to[BASE_REAL_PRINT_MAX];

	(void)state;
	check("1.5", to, base_real_text(1.5, to));
	check("1e+21", to, base_real_text(1e21, to));
	check("2.50", to, base_real_fixed(2.5, 2, to));
	check("2", to, base_real_fixed(2.5, 0, to));
	check("-0.000", to, base_real_fixed(-0.0, 3, to));
	check("1.25e+01", to, base_real_scientific(12.5, 2, to));
	check("0.00000015", to, base_real_plain(1.5e-7, to));
	check("-1500000000000000000000", to, base_real_plain(-1.5e21, to));
	check("1000000000000000000000", to, base_real_plain(1e21, to));
	check("123.25", to, base_real_plain(123.25, to));
	assert_int_equal(base_real_fixed(1.7976931348623157e308, BASE_REAL_DIGITS_MAX, to),
		309 + 1 + BASE_REAL_DIGITS_MAX);
	assert_int_equal(base_real_plain(5e-324, to), 326);
	assert_int_equal(base_real_plain(-1.7976931348623157e308, to), 310);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse), cmocka_unit_test(test_text)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
