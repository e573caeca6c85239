#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "cel/cel.h"

enum { VARS_MAX = 16 };

/* What the expressions see. */
static const char vars_json[] =
	"{\"action\":\"mail.send\",\"args\":{\"amount\":501,\"rate\":2.5,\"to\":\"ada@example.org\",\"tags\":"
	"[\"a\",\"b\"],"
	"\"big\":9223372036854775807,\"nothing\":null,\"flag\":true,\"in\":1,\"deep\":{\"er\":{\"est\":7}},"
	"\"rows\":[{\"n\":1},{\"n\":2},{\"n\":3}]},\"customer\":{\"tier\":\"basic\",\"name\":"
	"\"J\xc3\xbcrgen\"},"
	"\"trusted\":{\"tier\":\"trusted\"},\"n\":3,\"s\":\"text\",\"empty\":{},\"nil\":null}";

static struct base_json *doc;
static struct cel_binding vars[VARS_MAX];
static unsigned var_count;
static struct base_arena *arena;

static int set_up(void **state)
{
	struct base_jv_iter it = {0};
	struct base_jv v;

	(void)state;
	if (base_arena_new(8 << 20, &arena) < 0 || base_json_parse(BASE_STR(vars_json), &doc, NULL) < 0)
		return -1;
	for (; base_jv_next(base_json_root(doc), &it, &vars[var_count].name, &v); var_count++)
		vars[var_count].value = cel_json(v);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	base_json_free(doc);
	base_arena_free(arena);
	return 0;
}

static struct cel_value run(const char *expr, uint64_t steps)
{
	struct cel_program *p;
	struct base_err err;
	struct cel_value v;

	if (cel_compile(base_str_of(expr), &p, &err) < 0)
		fail_msg("%s: %s", expr, err.text);
	v = cel_eval(p, vars, var_count, arena, steps);
	/* Strings may live in the program: keep those. */
	if (v.kind == CEL_STRING || v.kind == CEL_ERROR)
		v.as.s = base_arena_dup(arena, v.as.s);
	cel_free(p);
	return v;
}

static const char *const true_[] = {
	/* literals and comparison */
	"true",
	"!false",
	"!!true",
	"1 == 1",
	"1 != 2",
	"1 == 1u",
	"1 == 1.0",
	"1u == 1.0",
	"1 < 1.5",
	"2u > 1",
	"-1 < 0u",
	"18446744073709551615u > -1",
	"!(9223372036854775807 < 9223372036854775808.0)",
	"-9223372036854775808 < 0",
	"0x10 == 16",
	"-0x10 == -16",
	"0xffu == 255u",
	"1e3 == 1000.0",
	".5 == 0.5",
	"1 == 1 // a comment",
	"'a' < 'b'",
	"'a' < 'aa'",
	"'\xc3\xa4' > 'z'",
	"false < true",
	"'a' != 1",
	"null == null",
	"null != 0",
	"[1, 2] == [1.0, 2u]",
	"[1] != [1, 2]",
	"[] == []",
	"{} == {}",
	"{'a': 1, 'b': 2} == {'b': 2.0, 'a': 1u}",
	"{'a': 1} != {'a': 2}",
	"{'a': 1} != {'b': 1}",
	"{1: 'x'} == {1u: 'x'}",
	"double('NaN') != double('NaN')",
	"!(double('NaN') < 1.0)",
	"0.0 == -0.0",
	"[1, 'a', null, true, 2.5].size() == 5",
	/* strings */
	"'a' + 'b' == 'ab'",
	"\"it's\" == 'it\\'s'",
	"'\\n' != r'\\n'",
	"r'\\n'.size() == 2",
	"'''a'b''' == 'a\\'b'",
	"\"\"\"two\nlines\"\"\" == 'two\\nlines'",
	"'\\x41\\u0042\\U00000043\\104' == 'ABCD'",
	"'\\u00fc' == '\xc3\xbc'",
	"size('J\xc3\xbcrgen') == 6",
	"'abc'.contains('b')",
	"'abc'.contains('')",
	"''.contains('')",
	"!'abc'.contains('cb')",
	"'abc'.startsWith('ab')",
	"'abc'.endsWith('bc')",
	"!'abc'.endsWith('abcd')",
	"'abc'.matches('^a.c$')",
	"matches('xabcx', 'b')",
	"!'abc'.matches('^b')",
	"'a' + 'b' in ['ab']",
	"'abc'.matches(s + '|b')",
	/* arithmetic */
	"1 + 2 * 3 == 7",
	"(1 + 2) * 3 == 9",
	"7 / 2 == 3",
	"-7 / 2 == -3",
	"-7 % 3 == -1",
	"7 - 2 - 1 == 4",
	"2.5 * 2.0 == 5.0",
	"1.0 / 0.0 > 1e308",
	"--1 == 1",
	"-n == -3",
	"1u + 2u == 3u",
	"[1] + [2] == [1, 2]",
	"n + 1 == 4",
	"8 / 4 / 2 == 1",
	/* logic: what decides absorbs the error beside it */
	"false || true",
	"!(true && false)",
	"true || 1 / 0 > 0",
	"1 / 0 > 0 || true",
	"!(false && 1 / 0 > 0)",
	"!(1 / 0 > 0 && false)",
	"true || 'x'",
	"'x' || true",
	"true ? true : 1 / 0 > 0",
	"false ? 1 / 0 > 0 : true",
	"true ? (false ? false : true) : false",
	"1 < 2 == true",
	"true || unknown",
	"unknown.field == 1 || true",
	/* selection, index, in */
	"args.amount > 500",
	"args.deep.er.est == 7",
	"args['amount'] == 501",
	"args.tags[0] == 'a'",
	"args.tags[1.0] == 'b'",
	"args.tags[1u] == 'b'",
	"args.rows[2].n == 3",
	"'a' in args.tags",
	"!('c' in args.tags)",
	"1 in [1.0]",
	"'to' in args",
	"!('cc' in args)",
	"!(1 in args)",
	"2 in {1: 'a', 2: 'b'}",
	"2.0 in {2: 'b'}",
	"{'a': {'b': [1, 2]}}.a.b[1] == 2",
	"{true: 1}[true] == 1",
	"[[1, 2], [3]][1][0] == 3",
	"args.nothing == null",
	"args.`to` == args.to",
	"{'a-b': 1}.`a-b` == 1",
	"args.big == 9223372036854775807",
	"size(args.tags) == 2",
	"args.rows.size() == 3",
	"size({}) == 0",
	"size({'a': 1}) == 1",
	".n == 3",
	"{'if': 1}.if == 1",
	"args == args && args.rows == [{'n': 1}, {'n': 2}, {'n': 3}]",
	"nil == null",
	"args.rate == 2.5",
	"args.rate > 2",
	/* has */
	"has(args.to)",
	"!has(args.cc)",
	"has(args.nothing)",
	"!has(empty.x)",
	"has(args.deep.er)",
	"!has({'a': 1}.b)",
	"has(args.deep.er) && args.deep.er.est == 7",
	"!has(args.cc) || args.cc == ''",
	/* conversions */
	"int('-12') == -12",
	"int(2.9) == 2",
	"int(-2.9) == -2",
	"int(3u) == 3",
	"uint(3) == 3u",
	"uint('7') == 7u",
	"double(1) == 1.0",
	"double('1.5e3') == 1500.0",
	"string(1) == '1'",
	"string(1.5) == '1.5'",
	"string(true) == 'true'",
	"string(2u) == '2'",
	"string(-9223372036854775808) == '-9223372036854775808'",
	"bool('true')",
	"!bool('FALSE')",
	"dyn(1) == 1",
	"string(1e21) == '1e+21'",
	/* macros */
	"[1, 2, 3].all(x, x > 0)",
	"![1, 2, 3].all(x, x > 1)",
	"[].all(x, false)",
	"[1, 2, 3].exists(x, x == 2)",
	"![].exists(x, true)",
	"[1, 2, 3].exists_one(x, x > 2)",
	"![1, 2, 3].exists_one(x, x > 1)",
	"[1, 2, 3].map(x, x * 2) == [2, 4, 6]",
	"[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
	"[1, 2, 3].filter(x, x % 2 == 1) == [1, 3]",
	"args.rows.map(r, r.n) == [1, 2, 3]",
	"args.rows.exists(r, r.n == 3)",
	"args.tags.all(t, t.size() == 1)",
	"empty.all(k, false)",
	"args.deep.all(k, k == 'er')",
	"{'a': 1, 'b': 2}.exists(k, k == 'b')",
	"{'a': 1, 'b': 2}.filter(k, k > 'a') == ['b']",
	"[1, 2].map(x, [10, 20].map(y, x * y)) == [[10, 20], [20, 40]]",
	"[1, 2].map(x, [x].map(x, x + 1)) == [[2], [3]]",
	"[1, 2].all(n, n < 3) && n == 3",
	"[1, 0].exists(x, 1 / x == 1)",
	"[0, 1].exists(x, 1 / x == 1)",
	"![0, 1].all(x, 1 / x == 2)",
	"[5, 6].all(i, v, v == i + 5)",
	"{'a': 1}.exists(k, v, k == 'a' && v == 1)",
	/* the policy of the book */
	"args.amount > 500 && !(customer.tier in [\"trusted\"])",
	"!(args.amount > 500 && !(trusted.tier in [\"trusted\"]))",
	"action.startsWith('mail.') && args.to.endsWith('@example.org')",
	"action.matches('^mail\\\\.(send|draft)$') && size(args.tags) <= 5",
};

static const char *const error[] = {"unknown", "unknown.x", "args.cc", "args.to.x", "n.x", "nil.x", "1 / 0",
	"1 % 0", "1u / 0u", "9223372036854775807 + 1", "-9223372036854775808 - 1", "9223372036854775807 * 2",
	"-(-9223372036854775808)", "-9223372036854775808 / -1", "-9223372036854775808 % -1", "0u - 1u",
	"18446744073709551615u + 1u", "1 + 1u", "1 + 1.0", "1 + '1'", "'a' - 'b'", "1.0 % 2.0", "-'a'", "-1u",
	"-true", "!1", "1 && true", "true && 1", "null < 1", "1 < '1'", "[1] < [2]", "true < 1", "[1, 2][2]",
	"[1][-1]", "[1]['a']", "[1][0.5]", "{'a': 1}['b']", "{'a': 1}.b", "{1: 1}[null]", "1[0]", "'abc'[0]",
	"1 in 1", "'a' in 'abc'", "1 ? 2 : 3", "1 / 0 > 0 && true", "true && 1 / 0 > 0", "1 / 0 > 0 || false",
	"false || unknown", "size(1)", "size(null)", "'a'.contains(1)", "n.startsWith('a')", "s.matches('(')",
	"s.matches(s + '(')", "int('x')", "int('')", "int('1.5')", "int(1e19)", "int(double('NaN'))",
	"int(true)", "uint(-1)", "uint(-1.0)", "uint('-1')", "double('x')", "double(true)", "bool('yes')",
	"bool(1)", "string([])", "string(null)", "[1].all(x, x)", "[1, 2].all(x, 1 / 0 == 1)",
	"n.all(x, true)", "[1].map(x, y)", "[1].filter(x, x)", "[1, 0].map(x, 1 / x)",
	"[1, 0].exists_one(x, 1 / x == 1)", "has(n.x)", "has(nil.x)", "{'a': 1, 'a': 2}", "{1: 1, 1u: 2}",
	"{1.5: 1}", "{null: 1}", "[1 / 0]", "{'a': 1 / 0}", "[1, 2].map(x, x).foo", "args.tags.x",
	"args[1 / 0]", "s.startsWith(unknown)"};

static void test_table(void **state)
{
	struct cel_value v;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(true_) / sizeof(true_[0]); i++) {
		v = run(true_[i], 0);
		if (v.kind == CEL_ERROR)
			fail_msg("%s: %.*s", true_[i], BASE_STR_ARG(v.as.s));
		if (v.kind != CEL_BOOL || !v.as.b)
			fail_msg("%s is not true", true_[i]);
	}
	for (i = 0; i < sizeof(error) / sizeof(error[0]); i++) {
		/* What a literal pattern cannot be is found when it is compiled. */
		if (strcmp(error[i], "s.matches('(')") == 0)
			continue;
		v = run(error[i], 0);
		if (v.kind != CEL_ERROR)
			fail_msg("%s is no error", error[i]);
		assert_true(v.as.s.len > 0);
	}
}

static void test_values(void **state)
{
	(void)state;
	assert_int_equal(run("null", 0).kind, CEL_NULL);
	assert_true(run("-9223372036854775808", 0).as.i == INT64_MIN);
	assert_true(run("18446744073709551615u", 0).as.u == UINT64_MAX);
	assert_true(run("1.5", 0).as.d == 1.5);
	assert_true(base_str_is(run("s + s", 0).as.s, "texttext"));
	assert_int_equal(run("[1]", 0).kind, CEL_LIST);
	assert_int_equal(run("args", 0).kind, CEL_MAP);
	assert_true(base_str_is(run("args.cc", 0).as.s, "no such field: cc"));
	assert_true(base_str_is(run("unknown", 0).as.s, "no such variable: unknown"));
	assert_int_equal(cel_json((struct base_jv){NULL}).kind, CEL_NULL);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {"", " ", "1 +", "(1", "1)", "[1", "[1 2]", "[,]", "{1}", "{'a':}",
		"{'a' 1}", "a.", "a.1", "a..b", "a.true", "1 2", "&& true", "true &", "true and true",
		"a = 1", "a ? b", "a ? b : ", "'abc", "\"abc", "'''abc''", "'a\nb'", "'\\q'", "'\\x4'",
		"'\\ud800'", "'\\U00110000'", "'\\400'", "'\\9'", "9223372036854775808",
		"-9223372036854775809", "18446744073709551616u", "0x", "0x1ffffffffffffffff", "1e", "12ab",
		"0x1g", "1u2", "rb'x'", "#", "a @ b", "$x", "`a`", "a.`b", "a.``", "if", "for", "a.b{}",
		"Foo{a: 1}", "f(1)", "s.foo()", "size()", "size(1, 2)", "contains('a', 'b')", "s.contains()",
		"s.int()", "has(a)", "has(a, b)", "has(a[0])", "has()", "[1].all(x)", "[1].all(1, true)",
		"[1].all(x.y, true)", "[1].map(in, 1)", "[1].map(x, 1, 2, 3)", "all(x, true)",
		"s.matches('(')", "s.matches('[b-a]')", "in", "1 in", "!", "-", "a?.b", "[1,,2]", "f(,)",
		"s.contains('a',)", "true\0false", "'\xff'", "a[0", "b'\\u00ff'", "b'\xff'"};
	struct cel_program *p = NULL;
	struct base_err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct base_str s = base_str_of(bad[i]);

		if (strcmp(bad[i], "true") == 0)
			s.len = 10; /* the one with a NUL in it */
		memset(&err, 0, sizeof(err));
		if (cel_compile(s, &p, &err) != -EINVAL)
			fail_msg("%s was accepted", bad[i]);
		assert_true(err.text[0] != '\0');
	}
	assert_null(p);
	assert_int_equal(cel_compile(BASE_STR("a == 1 &&\n  '\xc3\xa4' ? b"), &p, &err), -EINVAL);
	assert_string_equal(err.text, "line 2, column 10: expected a colon");
	assert_int_equal(cel_compile(BASE_STR("nope(1)"), &p, NULL), -EINVAL);
	cel_free(NULL);
}

static int compile_repeated(const char *open, const char *middle, const char *close, unsigned count)
{
	struct cel_program *p;
	struct base_buf b;
	unsigned i;
	int r;

	base_buf_init(&b, 1 << 20);
	for (i = 0; i < count; i++)
		base_buf_cstr(&b, open);
	base_buf_cstr(&b, middle);
	for (i = 0; i < count; i++)
		base_buf_cstr(&b, close);
	r = cel_compile(base_buf_view(&b), &p, NULL);
	if (r == 0) {
		assert_true(cel_eval(p, vars, var_count, arena, 0).kind < CEL_LAZY);
		cel_free(p);
	}
	base_buf_done(&b);
	return r;
}

static void test_depth(void **state)
{
	static const struct {
		const char *open, *middle, *close;
	} forms[] = {{"(", "1", ")"}, {"[", "1", "]"}, {"{1:", "1", "}"}, {"!", "true", ""}, {"-", "n", ""},
		{"", "1", "+1"}, {"", "true", "&&true"}, {"", "args", ".x"}, {"", "n", "[0]"},
		{"true?1:", "1", ""}, {"string(", "1", ")"}, {"[1].map(x,", "1", ")"},
		{"", "[1]", ".map(x,x)"}};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		assert_int_equal(compile_repeated(forms[i].open, forms[i].middle, forms[i].close, 30), 0);
		/* Parentheses leave no trace in the tree; but nobody needs thousands. */
		assert_int_equal(
			compile_repeated(forms[i].open, forms[i].middle, forms[i].close, 5000), -EINVAL);
	}
	assert_int_equal(compile_repeated("[1].map(x,", "1", ")", 65), -EINVAL);
	assert_int_equal(compile_repeated("1,", "", "", 100000), -EINVAL); /* too long */
}

/* Work is bounded whatever the expression does, and an error for want of steps cannot be absorbed. */
static void test_steps(void **state)
{
	static const char *const heavy[] = {
		"[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, [0,1,2,3,4,5,6,7,8,9].all(c, "
		"[0,1,2,3,4,5,6,7,8,9].all(d, [0,1,2,3,4,5,6,7,8,9].all(e, [0,1,2,3,4,5,6,7,8,9].all(f, a >= "
		"0))))))",
		"[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, [0,1,2,3,4,5,6,7,8,9].all(c, "
		"[0,1,2,3,4,5,6,7,8,9].all(d, [0,1,2,3,4,5,6,7,8,9].all(e, [0,1,2,3,4,5,6,7,8,9].all(f, a >= "
		"0)))))) || true",
		"[1,2,3,4,5,6,7,8,9].map(a, [1,2,3,4,5,6,7,8,9].map(b, [1,2,3,4,5,6,7,8,9].map(c, "
		"[1,2,3,4,5,6,7,8,9].map(d, [1,2,3,4,5,6,7,8,9].map(e, s + s + s + s)))))",
	};
	struct cel_value v;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(heavy) / sizeof(heavy[0]); i++) {
		v = run(heavy[i], 0);
		assert_int_equal(v.kind, CEL_ERROR);
		assert_true(base_str_is(v.as.s, "took too many steps"));
	}
	assert_int_equal(run("n + 2 + n", 2).kind, CEL_ERROR);
	assert_int_equal(run("n + 2 + n", 3).kind, CEL_INT);
	assert_int_equal(run("n > 2 && n < 9", 3).kind, CEL_ERROR);
	assert_int_equal(run("n > 2 && n < 9", 4).kind, CEL_BOOL);
	assert_int_equal(run("1 + 2", 2).kind, CEL_INT); /* a constant */
}

/* The arena's cap is an error like any other. */
static void test_memory(void **state)
{
	struct cel_program *p;
	struct base_arena *small;
	struct cel_value v;

	(void)state;
	assert_int_equal(base_arena_new(300, &small), 0);
	assert_int_equal(
		cel_compile(BASE_STR("[1,2,3,4,5,6,7,8,9,10].map(x, string(x) + s + s)"), &p, NULL), 0);
	v = cel_eval(p, vars, var_count, small, 0);
	assert_int_equal(v.kind, CEL_ERROR);
	assert_true(base_str_is(v.as.s, "out of memory"));
	cel_free(p);
	base_arena_free(small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
