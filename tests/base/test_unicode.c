#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/unicode.h"
#include "base/unicode_int.h"

/* What the search by halves rests on. */
static void test_tables_ascend(void **state)
{
	const struct base_unicode_shift *tables[] = {base_unicode_to_upper, base_unicode_to_lower};
	const unsigned counts[] = {base_unicode_to_upper_count, base_unicode_to_lower_count};
	unsigned i, t;

	(void)state;
	assert_int_equal(base_unicode_runs[0] >> 5, 0);
	for (i = 1; i < base_unicode_runs_count; i++)
		assert_true(base_unicode_runs[i] >> 5 > base_unicode_runs[i - 1] >> 5);
	for (t = 0; t < 2; t++)
		for (i = 0; i < counts[t]; i++) {
			const struct base_unicode_shift *s = &tables[t][i];

			assert_true(s->first <= s->last && s->step > 0 && s->distance != 0);
			assert_true(i == 0 || s->first > tables[t][i - 1].last);
		}
}

static bool in(const char *name, uint32_t c)
{
	uint32_t bits;

	assert_true(base_unicode_categories(base_str_of(name), &bits));
	return bits >> base_unicode_category(c) & 1;
}

static void test_categories(void **state)
{
	uint32_t bits;

	(void)state;
	assert_true(in("Lu", 'A') && in("L", 'A') && !in("Ll", 'A'));
	assert_true(in("Ll", 0xe4) && in("Lo", 0x65e5) && in("Nd", '7') && in("Sc", 0x20ac) && in("Zs", ' '));
	assert_true(in("Cc", 0) && in("Co", 0x10ffff - 2) && in("Cs", 0xd800));
	assert_false(in("C", 0x378) || in("L", 0x378)); /* not assigned */
	assert_false(base_unicode_categories(BASE_STR(""), &bits));
	assert_false(base_unicode_categories(BASE_STR("l"), &bits));
	assert_false(base_unicode_categories(BASE_STR("Luu"), &bits));
	assert_false(base_unicode_categories(BASE_STR("Greek"), &bits));
}

static void test_cases(void **state)
{
	(void)state;
	assert_int_equal(base_unicode_upper('z'), 'Z');
	assert_int_equal(base_unicode_lower('@'), '@');
	assert_int_equal(base_unicode_upper(0xe4), 0xc4);
	assert_int_equal(base_unicode_lower(0x416), 0x436);
	assert_int_equal(base_unicode_upper(0xdf), 0xdf); /* would be two */
	assert_int_equal(base_unicode_lower(0x100), 0x101);
	assert_int_equal(base_unicode_lower(0x101), 0x101);
	/* Three forms of one letter, the sign of kelvin, what is no code point. */
	assert_int_equal(base_unicode_fold(0x3c2), base_unicode_fold(0x3a3));
	assert_int_equal(base_unicode_fold(0x3c3), base_unicode_fold(0x3a3));
	assert_int_equal(base_unicode_fold(0x212a), 'k');
	assert_int_equal(base_unicode_fold(UINT32_MAX), UINT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_tables_ascend),
		cmocka_unit_test(test_categories), cmocka_unit_test(test_cases)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
