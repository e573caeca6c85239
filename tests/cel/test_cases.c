/* Cases in JSON lines: the project's own and, where they are, those from outside. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "cel/cel.h"
#include "core/zone.h"

static bool zone_at(void *ctx, struct base_str name, int64_t time, int32_t *ret_offset_s)
{
	static char file[CORE_ZONE_MAX];
	struct core_zone z;
	char path[300];
	size_t n;
	FILE *f;

	(void)ctx;
	snprintf(path, sizeof(path), "/usr/share/zoneinfo/%.*s", BASE_STR_ARG(name));
	f = fopen(path, "rb");
	if (!f)
		return false;
	n = fread(file, 1, sizeof(file), f);
	(void)fclose(f);
	if (n == 0 || core_zone_read((struct base_str){file, n}, &z, NULL) < 0)
		return false;
	*ret_offset_s = core_zone_offset(&z, time);
	return true;
}

static void run_file(const char *path, unsigned *passed, unsigned *failed)
{
	struct cel_limits limits = {.zone = zone_at};
	static char line[1 << 20];
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		struct base_json *d;
		struct base_buf why;
		struct base_err err;

		if (line[0] == '\n' || line[0] == '#')
			continue;
		if (base_json_parse((struct base_str){line, strcspn(line, "\n")}, &d, &err) < 0)
			fail_msg("%s: %s: %s", path, line, err.text);
		base_buf_init(&why, 1 << 20);
		if (cel_case(base_json_root(d), &limits, &why) == 0) {
			++*passed;
		} else {
			++*failed;
			print_message("%.*s: %.*s\n",
				BASE_STR_ARG(base_jv_str(base_jv_get(base_json_root(d), "expr"))),
				BASE_STR_ARG(base_buf_view(&why)));
		}
		base_buf_done(&why);
		base_json_free(d);
	}
	(void)fclose(f);
}

static void test_own(void **state)
{
	unsigned passed = 0, failed = 0;
	char path[4096];
	DIR *d = opendir(CEL_CASES);

	(void)state;
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		const char *dot = strrchr(e->d_name, '.');

		if (!dot || strcmp(dot, ".jsonl") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", CEL_CASES, e->d_name);
		run_file(path, &passed, &failed);
	}
	(void)closedir(d);
	print_message("%u passed, %u failed\n", passed, failed);
	assert_int_equal(failed, 0);
	assert_true(passed >= 1000);
}

/* The conformance suite's, from AIOS_CEL_CASES or beside the source. */
static void test_conformance(void **state)
{
	const char *given = getenv("AIOS_CEL_CASES"), *path = given ? given : CEL_DATA "/cel-cases.jsonl";
	unsigned passed = 0, failed = 0;
	FILE *f = fopen(path, "r");

	(void)state;
	if (!f && !given)
		skip();
	assert_non_null(f);
	(void)fclose(f);
	run_file(path, &passed, &failed);
	print_message("%u passed, %u failed\n", passed, failed);
	assert_int_equal(failed, 0);
	assert_true(passed > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_own), cmocka_unit_test(test_conformance)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
