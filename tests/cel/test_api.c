/* What cel.h promises beyond the language: slots, checks by declared types, lazy values, limits, places, forms of values. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "cel/cel.h"

static struct base_arena *arena;

static int set_up(void **state)
{
	(void)state;
	return base_arena_new(16 << 20, &arena);
}

static int tear_down(void **state)
{
	(void)state;
	base_arena_free(arena);
	return 0;
}

/* The linker sends the allocations of cel and base here (tests/cel/meson.build). */
static unsigned allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);

void *__wrap_malloc(size_t size)
{
	allocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	allocations++;
	return __real_calloc(count, size);
}

void *__wrap_realloc(void *at, size_t size)
{
	allocations++;
	return __real_realloc(at, size);
}

enum { NAME, COUNT, ANY, LIST, SLOTS };
static const struct cel_var vars[SLOTS] = {
	{{"name", 4}, CEL_STRING}, {{"count", 5}, CEL_INT}, {{"any", 3}, CEL_DYN}, {{"list", 4}, CEL_LIST}};

static int try_compile(const char *expr, const struct cel_env *env, struct base_err *err)
{
	struct cel_program *p;
	int r = cel_compile_in(base_str_of(expr), env, &p, err);

	if (r == 0)
		cel_free(p);
	return r;
}

static void test_types(void **state)
{
	static const struct cel_env env = {.vars = vars, .count = SLOTS};
	static const struct cel_env untyped = {.vars = vars, .count = SLOTS, .untyped = true};
	static const char *const wrong[] = {"name + 1", "name > 1", "name == 1", "!name", "-name", "name.x",
		"has(name.x)", "name[0]", "name && true", "name ? 1 : 2", "count.size()",
		"count.startsWith('a')", "size(count)", "count in count", "count.map(x, x)",
		"name.all(x, true)", "count + name", "count + 1.0", "count % 1.5", "[1, 2]['a']",
		"{'a': 1}[1]", "{1: 1}.a < [1]", "'a' in [1]", "1 in ['a']", "[1].map(x, x + 'a')",
		"[1].filter(x, x)", "['a'].exists(s, s > 1)", "{'a': 1}.all(k, v, k > v)",
		"[{'a': 1}].map(m, m.a + 'x')", "cel.bind(x, 1, x + 'a')", "optional.of(1).value() + 'a'",
		"optional.of(1) + 1", "name.?x", "{name: 1}[1]", "{list: 1}", "{1.5: 2}", "[?count]",
		"name.matches(1)", "name.substring('a')", "timestamp(0) + 1", "timestamp(0) < duration('1s')",
		"name.split(',') + name", "math.abs(name)", "list < list", "null > 1", "count.optMap(x, x)",
		"[1].map(i, v, i)", "lists.range(2).exists(i, v, i == name)"};
	static const char *const right[] = {"any + 1", "any.x.y", "any > 1 && any", "count + any",
		"any in list", "list[0].x", "list.map(x, x + 1)", "count == 1u", "count < 1.5", "name == any",
		"any == null", "name == null", "[1, 'a'][0] + 1", "(any ? 1 : 'a') + 1",
		"{'a': 1, 'b': 'c'}.b + 'x'", "optional.none().orValue(1) + 1",
		"timestamp(0) - timestamp(1) < duration('1s')", "name.split(',').map(x, x + 'a')",
		"dyn(name) + 1", "cel.bind(x, any, x + 'a')", "[].map(x, x + 1)", "{}.a",
		"any.all(k, v, v > 1)", "type(name) == string"};
	struct base_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (try_compile(wrong[i], &env, &err) != -EINVAL)
			fail_msg("%s was accepted", wrong[i]);
		assert_int_equal(strncmp(err.text, "line 1, column ", 15), 0);
		if (strcmp(wrong[i], "[1].map(i, v, i)") != 0 && try_compile(wrong[i], &untyped, &err) < 0)
			fail_msg("%s: %s", wrong[i], err.text);
	}
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		if (try_compile(right[i], &env, &err) < 0)
			fail_msg("%s: %s", right[i], err.text);
}

static void test_names(void **state)
{
	static const struct cel_var dotted[] = {
		{{"a.b", 3}, CEL_INT}, {{"x.y.z", 5}, CEL_INT}, {{"z", 1}, CEL_INT}};
	static const struct cel_env env = {.vars = dotted, .count = 3, .container = {"x.y", 3}};
	static const struct cel_env closed = {.vars = vars, .count = SLOTS};
	struct cel_value values[] = {cel_int(1), cel_int(2), cel_int(3)}, v;
	static const struct {
		const char *expr;
		int64_t want;
	} rows[] = {{"a.b", 1}, {"z", 2}, {".z", 3}, {"y.z", 2}, {"x.y.z", 2}, {"[7].map(z, z)[0]", 7},
		{"[7].map(z, .z)[0]", 3}, {"[7].map(z, y.z)[0]", 2}};
	struct cel_program *p;
	struct base_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (cel_compile_in(base_str_of(rows[i].expr), &env, &p, &err) < 0)
			fail_msg("%s: %s", rows[i].expr, err.text);
		v = cel_eval_in(p, values, arena, NULL);
		assert_int_equal(v.kind, CEL_INT);
		if (v.as.i != rows[i].want)
			fail_msg("%s is %lld", rows[i].expr, (long long)v.as.i);
		cel_free(p);
	}
	assert_int_equal(try_compile("a", &env, &err), -EINVAL);
	assert_string_equal(err.text, "line 1, column 1: there is no variable a");
	assert_int_equal(try_compile("count +\n nope", &closed, &err), -EINVAL);
	assert_string_equal(err.text, "line 2, column 2: there is no variable nope");
	assert_int_equal(try_compile("[1].map(x, x) == x", &closed, &err), -EINVAL);
	assert_int_equal(try_compile("nope(1)", &closed, &err), -EINVAL);
	assert_string_equal(err.text, "line 1, column 1: there is no function nope");
	assert_int_equal(try_compile("name.nope(1)", &closed, &err), -EINVAL);
	assert_string_equal(err.text, "line 1, column 6: there is no function nope");
}

static void test_program(void **state)
{
	static const struct cel_env env = {.vars = vars, .count = SLOTS};
	struct cel_program *p;
	struct cel_value v;

	(void)state;
	assert_int_equal(
		cel_compile_in(BASE_STR("count > 1 && [name].exists(n, n == 'x')"), &env, &p, NULL), 0);
	assert_int_equal(cel_result(p), CEL_BOOL);
	assert_true(cel_reads(p, NAME) && cel_reads(p, COUNT) && !cel_reads(p, ANY) && !cel_reads(p, SLOTS));
	assert_true(cel_reads_name(p, "name") && !cel_reads_name(p, "any") && !cel_reads_name(p, "n"));
	assert_false(cel_constant(p, &v));
	cel_free(p);
	assert_int_equal(cel_compile_in(BASE_STR("'a' + 'b'.upperAscii()"), &env, &p, NULL), 0);
	assert_true(cel_constant(p, &v) && base_str_is(v.as.s, "aB"));
	cel_free(p);
	/* What fails is not folded away: it fails when it is evaluated. */
	assert_int_equal(cel_compile_in(BASE_STR("1 / 0"), &env, &p, NULL), 0);
	assert_false(cel_constant(p, &v));
	cel_free(p);
	assert_int_equal(cel_compile(BASE_STR("any_name.x"), &p, NULL), 0);
	assert_int_equal(cel_result(p), CEL_DYN);
	assert_true(cel_reads_name(p, "any_name"));
	cel_free(p);
}

struct counted {
	struct cel_lazy lazy;
	unsigned made;
};

static struct cel_value make(struct cel_lazy *lazy, struct base_arena *in)
{
	(void)in;
	((struct counted *)lazy)->made++;
	return cel_int(7);
}

static struct cel_value make_error(struct cel_lazy *lazy, struct base_arena *in)
{
	(void)lazy;
	(void)in;
	return cel_error("not today");
}

static void test_lazy(void **state)
{
	static const struct cel_env env = {.vars = vars, .count = SLOTS};
	struct counted c = {.lazy = {make}}, bad = {.lazy = {make_error}};
	struct cel_value values[SLOTS] = {cel_string(BASE_STR("x")), cel_int(1), cel_lazy(&c.lazy),
		cel_error("no list")},
			 v;
	struct cel_program *p;

	(void)state;
	assert_int_equal(cel_compile_in(BASE_STR("count > 1 ? any : count"), &env, &p, NULL), 0);
	assert_int_equal(cel_eval_in(p, values, arena, NULL).as.i, 1);
	assert_int_equal(c.made, 0);
	values[COUNT] = cel_int(2);
	assert_int_equal(cel_eval_in(p, values, arena, NULL).as.i, 7);
	assert_int_equal(c.made, 1);
	values[ANY] = cel_lazy(&bad.lazy);
	v = cel_eval_in(p, values, arena, NULL);
	assert_true(v.kind == CEL_ERROR && base_str_is(v.as.s, "not today"));
	cel_free(p);
	assert_int_equal(cel_compile_in(BASE_STR("list.size() > 0 || true"), &env, &p, NULL), 0);
	assert_true(cel_eval_in(p, values, arena, NULL).as.b);
	cel_free(p);
	assert_int_equal(cel_compile_in(BASE_STR("list.size() > 0"), &env, &p, NULL), 0);
	v = cel_eval_in(p, values, arena, NULL);
	assert_true(v.kind == CEL_ERROR && base_str_is(v.as.s, "no list"));
	cel_free(p);
}

static const char *fails(const char *expr, const struct cel_limits *limits)
{
	struct cel_program *p;
	struct cel_value v;

	assert_int_equal(cel_compile(base_str_of(expr), &p, NULL), 0);
	v = cel_eval_with(p, NULL, 0, arena, limits);
	cel_free(p);
	return v.kind == CEL_ERROR ? base_arena_dup(arena, v.as.s).ptr : NULL;
}

/* What runs out cannot be absorbed. */
static void test_limits(void **state)
{
	struct cel_limits limits = {.string_max = 100, .list_max = 10, .steps = 500};

	(void)state;
	assert_null(fails("lists.range(10).map(x, string(x)).join('---------').size() > 90", &limits));
	assert_string_equal(fails("[11].map(n, lists.range(n))", &limits), "a list or map is too large");
	assert_string_equal(fails("[11].exists(n, lists.range(n).size() > 0) || true", &limits),
		"a list or map is too large");
	assert_string_equal(
		fails("[10].exists(n, lists.range(n).map(x, '0123456789').join('x').size() > 0) || true",
			&limits),
		"a string is too long");
	assert_string_equal(fails("lists.range(10).exists(a, lists.range(10).exists(b, "
				  "lists.range(10).exists(c, false))) || true",
				    &limits),
		"took too many steps");
	assert_non_null(fails("timestamp(0).getHours('Europe/Berlin') == 1", &limits));
	assert_string_equal(fails("timestamp(0).getHours('Europe/Berlin') == 1", &limits),
		"a time zone that is not known: Europe/Berlin");
}

static void test_place(void **state)
{
	static const struct {
		const char *expr;
		size_t line, column;
	} rows[] = {{"1 / 0", 1, 3}, {"[0].map(x,\n  10 / x)", 2, 6},
		{"'\xc3\xa4\xc3\xb6' == string(b'\\xff')", 1, 9}, {"nope + 1", 1, 1}, {"{}.a.b", 1, 4},
		{"[1][2]", 1, 4}, {"true && (1 / 0 == 1)", 1, 12}};
	size_t line, column;
	struct cel_program *p;
	struct cel_value v;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(cel_compile(base_str_of(rows[i].expr), &p, NULL), 0);
		v = cel_eval_with(p, NULL, 0, arena, NULL);
		assert_true(cel_error_place(base_str_of(rows[i].expr), v, &line, &column));
		if (line != rows[i].line || column != rows[i].column)
			fail_msg("%s: %zu, %zu", rows[i].expr, line, column);
		cel_free(p);
	}
	assert_false(cel_error_place(BASE_STR("x"), cel_int(1), &line, &column));
	assert_false(cel_error_place(BASE_STR("x"), cel_error("why"), &line, &column));
}

static void test_forms(void **state)
{
	static const struct {
		const char *expr, *text, *json, *typed;
	} rows[] = {
		{"1u", "1u", "1", "{\"t\": \"uint\", \"v\": \"1\"}"},
		{"-5", "-5", "-5", "{\"t\": \"int\", \"v\": \"-5\"}"},
		{"1.0", "1.0", "1", "{\"t\": \"double\", \"v\": 1}"},
		{"1e100", "1e+100", "1e+100", "{\"t\": \"double\", \"v\": 1e+100}"},
		{"double('NaN')", "double(\"NaN\")", "\"NaN\"", "{\"t\": \"double\", \"v\": \"NaN\"}"},
		{"b'a\\xff'", "b\"a\\xff\"", "\"Yf8=\"", "{\"t\": \"bytes\", \"v\": \"Yf8=\"}"},
		{"'a\"b'", "\"a\\\"b\"", "\"a\\\"b\"", "{\"t\": \"string\", \"v\": \"a\\\"b\"}"},
		{"null", "null", "null", "{\"t\": \"null\", \"v\": null}"},
		{"int", "int", "\"int\"", "{\"t\": \"type\", \"v\": \"int\"}"},
		{"{1: [true]}", "{1: [true]}", "{\"1\": [true]}",
			"{\"t\": \"map\", \"v\": [[{\"t\": \"int\", \"v\": \"1\"}, {\"t\": \"list\", \"v\": "
			"[{\"t\": \"bool\", \"v\": true}]}]]}"},
		{"timestamp(1)", "timestamp(\"1970-01-01T00:00:01Z\")", "\"1970-01-01T00:00:01Z\"",
			"{\"t\": \"timestamp\", \"v\": [1, 0]}"},
		{"duration('-1.5s')", "duration(\"-1.5s\")", "\"-1.5s\"",
			"{\"t\": \"duration\", \"v\": [-1, -500000000]}"},
		{"optional.of(1)", "optional.of(1)", "1",
			"{\"t\": \"optional\", \"v\": {\"t\": \"int\", \"v\": \"1\"}}"},
		{"optional.none()", "optional.none()", "null", "{\"t\": \"optional\", \"v\": null}"},
	};
	struct base_buf b[3];
	struct cel_program *p;
	struct cel_value v;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(cel_compile(base_str_of(rows[i].expr), &p, NULL), 0);
		v = cel_eval_with(p, NULL, 0, arena, NULL);
		for (int j = 0; j < 3; j++)
			base_buf_init(&b[j], 4096);
		cel_put_text(&b[0], v);
		cel_put_json(&b[1], v);
		cel_put_typed(&b[2], v);
		assert_true(base_str_is(base_buf_view(&b[0]), rows[i].text));
		assert_true(base_str_is(base_buf_view(&b[1]), rows[i].json));
		assert_true(base_str_is(base_buf_view(&b[2]), rows[i].typed));
		for (int j = 0; j < 3; j++)
			base_buf_done(&b[j]);
		cel_free(p);
	}
}

static void test_typed_refused(void **state)
{
	static const char *const bad[] = {"1", "{}", "{\"t\":\"int\"}", "{\"t\":\"int\",\"v\":\"x\"}",
		"{\"t\":\"int\",\"v\":1.5}", "{\"t\":\"int\",\"v\":\"9223372036854775808\"}",
		"{\"t\":\"uint\",\"v\":\"-1\"}", "{\"t\":\"uint\",\"v\":-1}",
		"{\"t\":\"double\",\"v\":\"1\"}", "{\"t\":\"bytes\",\"v\":\"#\"}", "{\"t\":\"list\",\"v\":1}",
		"{\"t\":\"list\",\"v\":[1]}", "{\"t\":\"map\",\"v\":[[1]]}",
		"{\"t\":\"map\",\"v\":[[{\"t\":\"null\",\"v\":null},{\"t\":\"null\",\"v\":null}]]}",
		"{\"t\":\"timestamp\",\"v\":[1]}", "{\"t\":\"timestamp\",\"v\":[253402300800,0]}",
		"{\"t\":\"timestamp\",\"v\":[0,1000000000]}", "{\"t\":\"duration\",\"v\":[9223372037,0]}",
		"{\"t\":\"type\",\"v\":\"nope\"}", "{\"t\":\"string\",\"v\":1}", "{\"t\":\"bool\",\"v\":1}",
		"{\"t\":\"null\",\"v\":1}", "{\"t\":\"error\",\"v\":\"x\"}", "{\"t\":1,\"v\":1}"};
	struct base_json *doc;
	struct cel_value v;
	struct base_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(base_json_parse(base_str_of(bad[i]), &doc, &err), 0);
		if (cel_from_typed(base_json_root(doc), arena, &v, &err) != -EINVAL)
			fail_msg("%s was read", bad[i]);
		assert_true(err.text[0]);
		base_json_free(doc);
	}
}

static void test_print(void **state)
{
	static const struct {
		const char *source, *want;
	} rows[] = {{"1+2*3", "1 + 2 * 3"}, {"(1+2)*3", "(1 + 2) * 3"}, {"a-(b-c)", "a - (b - c)"},
		{"a-b-c", "a - b - c"}, {"!(a&&b)||c", "!(a && b) || c"}, {"a?b:c?d:e", "a ? b : c ? d : e"},
		{"(a?b:c)?d:e", "(a ? b : c) ? d : e"}, {"-(1)", "-(1)"}, {"-1", "-1"},
		{"(-1).abs()", "(-1).abs()"}, {"-x", "-x"}, {"- -x", "--x"}, {"-(x.y)", "-(x.y)"},
		{"a.?b[?0].`c d`", "a.?b[?0].`c d`"}, {"has(a.b)", "has(a.b)"}, {".a.b(1,2)", ".a.b(1, 2)"},
		{"[?a,1,]", "[?a, 1]"}, {"{?'a':b,1u:2.0}", "{?\"a\": b, 1u: 2.0}"},
		{"l.map(x,x>1,x)", "l.map(x, x > 1, x)"},
		{"l.existsOne(i,v,i==v)", "l.exists_one(i, v, i == v)"},
		{"cel.bind(x,1,x)", "cel.bind(x, 1, x)"},
		{"cel.block([1],cel.index(0))", "cel.block([1], cel.index(0))"},
		{"l.map(cel.iterVar(0,1),1)", "l.map(cel.iterVar(0, 1), 1)"},
		{"a in [1]==true", "a in [1] == true"}, {"'''a\nb'''", "\"a\\nb\""},
		{"b'\\377'", "b\"\\xff\""}, {"// c\n1", "1"}};
	struct base_buf b;
	struct base_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		base_buf_init(&b, 4096);
		assert_int_equal(cel_print(base_str_of(rows[i].source), &b, &err), 0);
		if (!base_str_is(base_buf_view(&b), rows[i].want))
			fail_msg("%s: %.*s", rows[i].source, BASE_STR_ARG(base_buf_view(&b)));
		base_buf_done(&b);
	}
	base_buf_init(&b, 4096);
	assert_int_equal(cel_print(BASE_STR("1 +"), &b, &err), -EINVAL);
	base_buf_done(&b);
}

static const char *const exprs[] = {"[x, x].map(y, y + x).join('-') == 'abab-abab'",
	"{'a': x, 'b': [x]}.transformMap(k, v, [v]).a[0] == x", "'%s %5.2f'.format([x, 1.5]) == ''",
	"'%s|%s|%x'.format([{x: [1, x]}, 1.5, x]) == '{ab: [1, ab]}|1.5|6162'",
	"(x + x).split('').size() == 4", "x.replace('a', x).upperAscii().reverse() == 'BBA'",
	"optional.of({x: [x]})[?x][0].orValue('') == x", "[3, x.size(), 1].sort() == [1, 2, 3]",
	"[x, x].distinct() + [x] == [x, x]", "x.matches(x + '|c')",
	"base64.decode(base64.encode(bytes(x))) == bytes(x)", "string(timestamp(x.size())).contains('02Z')",
	"[[x], [x, [x]]].flatten(3).size() == 3", "nope.x == 1 || x == 'ab'",
	"cel.bind(y, x + x, y + y).size() == 8"};

/* However little memory there is, an evaluation gives what it should or an error. */
static void test_little_memory(void **state)
{
	struct cel_binding var = {BASE_STR("x"), cel_string(BASE_STR("ab"))};
	struct base_arena *small;
	struct cel_program *p;
	struct cel_value v;

	(void)state;
	for (size_t i = 0; i < sizeof(exprs) / sizeof(exprs[0]); i++) {
		assert_int_equal(cel_compile(base_str_of(exprs[i]), &p, NULL), 0);
		for (size_t cap = 1; cap < 40000; cap += cap < 2000 ? 16 : 2000) {
			assert_int_equal(base_arena_new(cap, &small), 0);
			v = cel_eval(p, &var, 1, small, 0);
			if (v.kind == CEL_ERROR && i != 2)
				assert_true(base_str_is(v.as.s, "out of memory"));
			else if (v.kind != CEL_ERROR)
				assert_true(v.kind == CEL_BOOL && v.as.b);
			base_arena_free(small);
		}
		assert_true(v.kind == (i == 2 ? CEL_ERROR : CEL_BOOL)); /* enough in the end */
		cel_free(p);
	}
}

/* Nothing is allocated but what the arena has. */
static void test_no_allocation(void **state)
{
	struct cel_binding var = {BASE_STR("x"), cel_string(BASE_STR("ab"))};
	struct base_arena *warm;
	struct cel_program *p;
	struct cel_value v;

	(void)state;
	assert_int_equal(base_arena_new(1 << 20, &warm), 0);
	assert_non_null(base_arena_alloc(warm, 1)); /* its first chunk */
	for (size_t i = 0; i < sizeof(exprs) / sizeof(exprs[0]); i++) {
		assert_int_equal(cel_compile(base_str_of(exprs[i]), &p, NULL), 0);
		base_arena_reset(warm);
		allocations = 0;
		v = cel_eval(p, &var, 1, warm, 0);
		assert_int_equal(allocations, 0);
		assert_true(v.kind == CEL_BOOL || i == 2);
		cel_free(p);
	}
	base_arena_free(warm);
	assert_int_equal(cel_compile(BASE_STR("1"), &p, NULL), 0);
	assert_true(allocations > 0); /* they are counted */
	cel_free(p);
}

/* The same values make the same, whatever the order of members; kinds count. */
static void test_same(void **state)
{
	(void)state;
	assert_true(cel_same(cel_double(NAN), cel_double(NAN)));
	assert_false(cel_same(cel_int(1), cel_uint(1)));
	assert_false(cel_same(cel_error("x"), cel_error("x")));
	assert_true(cel_same(cel_null(), cel_null()));
	assert_true(
		cel_timestamp(253402300800, 0).kind == CEL_ERROR && cel_timestamp(0, -1).kind == CEL_ERROR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_program),
		cmocka_unit_test(test_lazy),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_place),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_typed_refused),
		cmocka_unit_test(test_print),
		cmocka_unit_test(test_little_memory),
		cmocka_unit_test(test_no_allocation),
		cmocka_unit_test(test_same),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
