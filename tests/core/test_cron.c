/* Cron expressions, zones, and what clocks that are put forward and back do to them: against cron_cases.h, which another
 * program worked out minute by minute. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/core.h"
#include "core/cron.h"
#include "cron_cases.h"

static const char *folder;

static struct base_str load(const char *zone)
{
	char path[512];
	char *text = malloc(CORE_ZONE_MAX);
	size_t n = 0;
	FILE *f;

	assert_non_null(text);
	if (strcmp(zone, "UTC") == 0)
		return (struct base_str){text, 0};
	snprintf(path, sizeof(path), "%s/%s", folder, zone);
	f = fopen(path, "rb");
	if (!f)
		fail_msg("%s is not there", path);
	n = fread(text, 1, CORE_ZONE_MAX, f);
	assert_int_equal(fclose(f), 0);
	return (struct base_str){text, n};
}

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cron_cases) / sizeof(cron_cases[0]); i++) {
		const struct cron_case *k = &cron_cases[i];
		struct base_str file = load(k->zone);
		struct core_cron cron;
		struct core_zone zone;
		struct base_err err;
		int64_t at = k->after;

		if (core_zone_read(file, &zone, &err) < 0 ||
			core_cron_read(base_str_of(k->cron), &cron, &err) < 0)
			fail_msg("%s %s: %s", k->zone, k->cron, err.text);
		for (int n = 0; n < CRON_FIRINGS && k->fires[n]; n++) {
			at = core_cron_next(&cron, &zone, at);
			if (at != k->fires[n])
				fail_msg("%s \"%s\" after %lld: firing %d is %lld, not %lld", k->zone,
					k->cron, (long long)k->after, n, (long long)at,
					(long long)k->fires[n]);
		}
		free((char *)(uintptr_t)file.ptr);
	}
}

static void test_words(void **state)
{
	static const char *const good[] = {"* * * * *", "0 7 * * MON", "0\t7  1,15 jan-mar,DEC sun",
		"*/5 0-23/2 L 2 5-7", "00 07 01 01 00", "@daily"};
	static const char *const bad[] = {"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *",
		"* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5/2 * * * *",
		"5-1 * * * *", "MON * * * *", "* * * * L", "1,,2 * * * *", "@reboot", "-1 * * * *",
		"1- * * * *", "* * L-2 * *", "*5 * * * *"};
	struct core_cron c;
	struct base_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (core_cron_read(base_str_of(good[i]), &c, &err) < 0)
			fail_msg("\"%s\": %s", good[i], err.text);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (core_cron_read(base_str_of(bad[i]), &c, &err) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_non_null(strstr(err.text, "cron: "));
	}
}

/* What never comes is said to be so, and soon. */
static void test_never(void **state)
{
	struct core_zone utc = {0};
	struct core_cron c;

	(void)state;
	assert_int_equal(core_cron_read(BASE_STR("0 0 30 2 *"), &c, NULL), 0);
	assert_true(core_cron_next(&c, &utc, 1800000000) == INT64_MAX);
}

static void test_calendar(void **state)
{
	int64_t year, days = core_days_of(1800, 1, 1);
	int month, day;

	(void)state;
	assert_int_equal(core_days_of(1970, 1, 1), 0);
	assert_int_equal(core_days_of(2000, 3, 1), 11017);
	assert_int_equal(core_weekday_of(0), 4);
	assert_int_equal(core_weekday_of(-1), 3);
	for (; days < core_days_of(2200, 1, 1); days++) {
		core_date_of(days, &year, &month, &day);
		assert_int_equal(core_days_of(year, month, day), days);
	}
}

/* A local time as an instant: there, passed over, there twice. */
static void test_instants(void **state)
{
	struct base_str file = load("Europe/Amsterdam");
	struct core_zone z;
	int64_t spring = core_days_of(2026, 3, 29) * 86400, autumn = core_days_of(2026, 10, 25) * 86400;

	(void)state;
	assert_int_equal(core_zone_read(file, &z, NULL), 0);
	assert_int_equal(core_zone_instant(&z, spring + 3600, spring - 86400), spring);
	assert_int_equal(
		core_zone_instant(&z, spring + 9000, spring - 86400), spring + 3600); /* 02:30: the gap */
	assert_int_equal(core_zone_instant(&z, spring + 10800, spring - 86400), spring + 3600);
	assert_int_equal(core_zone_instant(&z, autumn + 9000, autumn - 86400), autumn + 1800);
	assert_int_equal(
		core_zone_instant(&z, autumn + 9000, autumn + 3600), autumn + 5400); /* the second 02:30 */
	free((char *)(uintptr_t)file.ptr);
}

static void test_names(void **state)
{
	static const char *const bad[] = {
		"", "/etc/passwd", "../x", "Europe/../x", "Europe/", "a//b", "Europe Amsterdam", ".x"};

	(void)state;
	assert_true(core_zone_name_valid(BASE_STR("Europe/Amsterdam")));
	assert_true(core_zone_name_valid(BASE_STR("America/Port-au-Prince")));
	assert_true(core_zone_name_valid(BASE_STR("Etc/GMT+5")));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(core_zone_name_valid(base_str_of(bad[i])));
}

/* Every length cut, every byte changed: an error or rules, nothing else. */
static void test_damaged(void **state)
{
	struct base_str file = load("Pacific/Apia");
	struct core_cron c;
	char *copy;

	(void)state;
	assert_int_equal(core_cron_read(BASE_STR("30 2 * * *"), &c, NULL), 0);
	for (size_t n = 1; n < file.len; n++) {
		struct core_zone z;

		copy = malloc(n);
		assert_non_null(copy);
		memcpy(copy, file.ptr, n);
		assert_true(core_zone_read((struct base_str){copy, n}, &z, NULL) < 0);
		free(copy);
	}
	for (size_t n = 0; n < file.len; n++) {
		struct core_zone z;

		copy = malloc(file.len);
		assert_non_null(copy);
		memcpy(copy, file.ptr, file.len);
		copy[n] = (char)(copy[n] ^ 0x81);
		if (core_zone_read((struct base_str){copy, file.len}, &z, NULL) == 0)
			assert_true(core_cron_next(&c, &z, 1325100000) > 1325100000);
		free(copy);
	}
	free((char *)(uintptr_t)file.ptr);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_never),
		cmocka_unit_test(test_calendar),
		cmocka_unit_test(test_instants),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_damaged),
	};

	folder = argc > 1 ? argv[1] : "tests/core/zones";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
