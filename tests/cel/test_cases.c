/* Cases in JSON lines from outside: run when AIOS_CEL_CASES names their file. */
#include <errno.h>
#include <math.h>
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

enum { VARS_MAX = 16 };
static const int UNSUPPORTED = 1;

/* {"t": type, "v": value} as an expression, so that lists and maps need no door of their own. */
static int put_value(struct base_buf *b, struct base_jv v)
{
	struct base_str type = base_jv_str(base_jv_get(v, "t"));
	struct base_jv value = base_jv_get(v, "v"), item;
	struct base_jv_iter it = {0};
	char real[64];

	if (base_str_is(type, "int") || base_str_is(type, "uint")) {
		base_buf_str(b, base_jv_str(value));
		if (base_str_is(type, "uint"))
			base_buf_char(b, 'u');
	} else if (base_str_is(type, "double") && base_jv_kind(value) == BASE_JSON_STR) {
		base_buf_cstr(b, "double(");
		base_json_quote(b, base_jv_str(value));
		base_buf_char(b, ')');
	} else if (base_str_is(type, "double")) {
		snprintf(real, sizeof(real), "%.17e", base_jv_real(value, 0));
		base_buf_cstr(b, real);
	} else if (base_str_is(type, "bool") || base_str_is(type, "null") || base_str_is(type, "string")) {
		base_jv_write(value, b);
	} else if (base_str_is(type, "list")) {
		base_buf_char(b, '[');
		while (base_jv_next(value, &it, NULL, &item)) {
			if (put_value(b, item) != 0)
				return UNSUPPORTED;
			base_buf_char(b, ',');
		}
		base_buf_char(b, ']');
	} else if (base_str_is(type, "map")) {
		base_buf_char(b, '{');
		while (base_jv_next(value, &it, NULL, &item)) {
			if (put_value(b, base_jv_at(item, 0)) != 0)
				return UNSUPPORTED;
			base_buf_char(b, ':');
			if (put_value(b, base_jv_at(item, 1)) != 0)
				return UNSUPPORTED;
			base_buf_char(b, ',');
		}
		base_buf_char(b, '}');
	} else {
		return UNSUPPORTED;
	}
	return 0;
}

struct bench {
	struct base_arena *arena;
	struct cel_binding vars[VARS_MAX + 2];
	struct cel_program *programs[VARS_MAX + 2];
	unsigned count;
};

static int bind(struct bench *t, struct base_str name, struct base_jv v)
{
	struct base_buf b;
	int r;

	if (t->count == VARS_MAX)
		return UNSUPPORTED;
	base_buf_init(&b, 1 << 20);
	r = put_value(&b, v);
	if (r == 0)
		r = cel_compile(base_buf_view(&b), &t->programs[t->count], NULL);
	base_buf_done(&b);
	if (r != 0)
		return UNSUPPORTED;
	t->vars[t->count].name = name;
	t->vars[t->count].value = cel_eval(t->programs[t->count], NULL, 0, t->arena, 0);
	t->count++;
	return 0;
}

/* The kind counts as well as the value, and NaN is itself. */
static bool same(struct bench *t, struct cel_value got, struct cel_value want)
{
	struct cel_program *p;
	struct cel_value v;

	if (got.kind != want.kind)
		return false;
	if (got.kind == CEL_DOUBLE && isnan(want.as.d))
		return isnan(got.as.d);
	t->vars[t->count] = (struct cel_binding){BASE_STR("got__"), got};
	t->vars[t->count + 1] = (struct cel_binding){BASE_STR("want__"), want};
	if (cel_compile(BASE_STR("got__ == want__"), &p, NULL) < 0)
		return false;
	v = cel_eval(p, t->vars, t->count + 2, t->arena, 0);
	cel_free(p);
	return v.kind == CEL_BOOL && v.as.b;
}

/* 0 passed, 1 not supported, -1 failed. */
static int one(struct bench *t, struct base_jv c)
{
	struct base_jv_iter it = {0};
	struct cel_program *p;
	struct base_str name;
	struct cel_value got;
	struct base_jv v;
	bool wants_error = base_jv_bool(base_jv_get(c, "error"), false);
	int r = 0;

	while (r == 0 && base_jv_next(base_jv_get(c, "vars"), &it, &name, &v))
		r = bind(t, name, v);
	if (r == 0 && !wants_error)
		r = bind(t, BASE_STR("want_"), base_jv_get(c, "want"));
	if (r != 0)
		return UNSUPPORTED;
	if (cel_compile(base_jv_str(base_jv_get(c, "expr")), &p, NULL) < 0)
		return wants_error ? 0 : UNSUPPORTED;
	got = cel_eval(p, t->vars, t->count, t->arena, 0);
	if (wants_error)
		r = got.kind == CEL_ERROR ? 0 : -1;
	else
		r = same(t, got, t->vars[t->count - 1].value) ? 0 : -1;
	cel_free(p);
	return r;
}

static void test_cases(void **state)
{
	const char *path = getenv("AIOS_CEL_CASES");
	unsigned passed = 0, unsupported = 0, failed = 0;
	static char line[1 << 20];
	FILE *f;

	(void)state;
	if (!path)
		skip();
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		struct bench t = {.count = 0};
		struct base_json *d;
		int r;

		assert_int_equal(base_json_parse((struct base_str){line, strcspn(line, "\n")}, &d, NULL), 0);
		assert_int_equal(base_arena_new(8 << 20, &t.arena), 0);
		r = one(&t, base_json_root(d));
		passed += r == 0;
		unsupported += r > 0;
		failed += r < 0;
		if (r < 0)
			print_message("differs: %.*s\n",
				BASE_STR_ARG(base_jv_str(base_jv_get(base_json_root(d), "expr"))));
		while (t.count > 0)
			cel_free(t.programs[--t.count]);
		base_arena_free(t.arena);
		base_json_free(d);
	}
	(void)fclose(f);
	print_message("%u pass, %u use what is not supported, %u differ\n", passed, unsupported, failed);
	assert_true(passed > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
