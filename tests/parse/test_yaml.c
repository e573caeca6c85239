#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "parse/parse.h"

static void gives(const char *format, const char *in, const char *want)
{
	struct parse_fault f = {0};
	struct base_buf out, canon;

	base_buf_init(&out, PARSE_OUTPUT_MAX);
	base_buf_init(&canon, PARSE_OUTPUT_MAX);
	if (parse_any(base_str_of(format), base_str_of(in), &out, &f) < 0)
		fail_msg("%s: refused: %s", in, f.err.text);
	assert_int_equal(base_json_canon(base_buf_view(&out), &canon, NULL), 0);
	base_buf_char(&canon, 0);
	assert_string_equal(canon.ptr, want);
	base_buf_done(&out);
	base_buf_done(&canon);
}

static void refused(const char *format, struct base_str in, unsigned line, unsigned column, const char *part)
{
	struct parse_fault f = {0};
	struct base_buf out;

	base_buf_init(&out, PARSE_OUTPUT_MAX);
	base_buf_cstr(&out, "kept");
	assert_true(parse_any(base_str_of(format), in, &out, &f) < 0);
	if (!strstr(f.err.text, part))
		fail_msg("\"%s\" does not say \"%s\"", f.err.text, part);
	assert_int_equal(f.line, line);
	assert_int_equal(f.column, column);
	assert_int_equal(out.len, 4);
	base_buf_done(&out);
}

static void test_scalars(void **state)
{
	(void)state;
	gives("yaml", "", "null");
	gives("yaml", "a: 1\nb: -2\nc: +3\nd: 0\n", "{\"a\":1,\"b\":-2,\"c\":3,\"d\":0}");
	gives("yaml", "[true, False, TRUE, null, ~, Null]", "[true,false,true,null,null,null]");
	gives("yaml", "[yes, no, on, off, y]", "[\"yes\",\"no\",\"on\",\"off\",\"y\"]");
	gives("yaml", "[\"1\", '2', \"true\", 'null', '']", "[\"1\",\"2\",\"true\",\"null\",\"\"]");
	gives("yaml", "[1.5, .5, 1., 1e3, -2.5e-1]", "[1.5,0.5,1,1000,-0.25]");
	gives("yaml", "[0x1F, 0o17, 1.2.3, 1_000, -, --1, 12:30]",
		"[31,15,\"1.2.3\",\"1_000\",\"-\",\"--1\",\"12:30\"]");
	gives("yaml", "[9223372036854775807, -9223372036854775808]",
		"[9223372036854775807,-9223372036854775808]");
	gives("yaml", "[0.50 USD, 20 USD, 2d, 2025-06-01]",
		"[\"0.50 USD\",\"20 USD\",\"2d\",\"2025-06-01\"]");
	gives("yaml", "a: |\n  one\n  two\nb: >\n  one\n  two\n",
		"{\"a\":\"one\\ntwo\\n\",\"b\":\"one two\\n\"}");
	gives("yaml",
		"\xef\xbb\xbf"
		"a: caf\xc3\xa9\n",
		"{\"a\":\"caf\xc3\xa9\"}");
}

static void test_structure(void **state)
{
	(void)state;
	gives("yaml",
		"rules:\n  - name: x\n    on: \"mail.*\"\n    when: customer.unsubscribed == true\n    then: "
		"deny\n",
		"{\"rules\":[{\"name\":\"x\",\"on\":\"mail.*\",\"then\":\"deny\",\"when\":\"customer."
		"unsubscribed == true\"}]}");
	gives("yaml", "--- # a comment\na: {b: [1, {c: 2}]}\n...\n", "{\"a\":{\"b\":[1,{\"c\":2}]}}");
	gives("yaml", "a: {x: 1}\nb: {x: 2}\n", "{\"a\":{\"x\":1},\"b\":{\"x\":2}}");
	gives("yaml", "1: a\ntrue: b\n", "{\"1\":\"a\",\"true\":\"b\"}");
}

static void test_refusals(void **state)
{
	(void)state;
	refused("yaml", BASE_STR("a: 1\nb: 2\na: 3\n"), 3, 1, "twice");
	refused("yaml", BASE_STR("x:\n  k: 1\n  k: 2\n"), 3, 3, "twice");
	refused("yaml", BASE_STR("a: &x [1]\nb: *x\n"), 1, 4, "anchors");
	refused("yaml", BASE_STR("b: *x\n"), 1, 4, "aliases");
	refused("yaml", BASE_STR("a: !!python/object:os.system ls\n"), 1, 4, "tags");
	refused("yaml", BASE_STR("a: !x {}\n"), 1, 4, "tags");
	refused("yaml", BASE_STR("<<: {a: 1}\n"), 1, 1, "merge");
	refused("yaml", BASE_STR("[a]: 1\n"), 1, 1, "key");
	refused("yaml", BASE_STR("a: 1\n---\nb: 2\n"), 2, 1, "one document");
	refused("yaml", BASE_STR("a: 007\n"), 1, 4, "begin with 0");
	refused("yaml", BASE_STR("a: 9223372036854775808\n"), 1, 4, "64 bits");
	refused("yaml", BASE_STR("a: .nan\n"), 1, 4, "NaN");
	refused("yaml", BASE_STR("a: 1e999\n"), 1, 4, "too large");
	refused("yaml", BASE_STR("a: 1\n  b: 2\n"), 2, 4, "not allowed");
	refused("yaml", BASE_STR("a: [1, 2\n"), 2, 1, "expected");
	refused("yaml", BASE_STR("a: ok\nb: caf\xe9\n"), 2, 7, "UTF-8");
	refused("xml", BASE_STR("x"), 0, 0, "no such format");
}

/* Refuses `s` repeated `n` times. */
static void refused_many(
	const char *format, const char *s, size_t n, unsigned line, unsigned column, const char *part)
{
	struct base_buf b;

	base_buf_init(&b, (size_t)PARSE_INPUT_MAX + 1);
	while (n--)
		base_buf_cstr(&b, s);
	refused(format, base_buf_view(&b), line, column, part);
	base_buf_done(&b);
}

static void test_bombs(void **state)
{
	(void)state;
	refused_many("yaml", "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", 1, 1, 4, "anchors");
	refused_many("yaml", "[", 100000, 1, 61, "60 deep");
	refused_many("yaml", "- ", 100000, 1, 121, "60 deep");
	refused_many("yaml", "- 1\n", 250000, 199998, 3, "200000");
	refused_many("yaml", "x", PARSE_INPUT_MAX + 1, 0, 0, "bytes");
	refused_many("json", "x", PARSE_INPUT_MAX + 1, 0, 0, "bytes");
	refused_many("agent", "x", PARSE_INPUT_MAX + 1, 0, 0, "bytes");
	refused_many("feed", "x", PARSE_INPUT_MAX + 1, 0, 0, "bytes");
	refused_many("json", "[", 100000, 0, 0, "deep");
}

/* Keys that a slow set would take for ever over. */
static void test_many_keys(void **state)
{
	struct parse_fault f = {0};
	struct base_buf in, out;

	(void)state;
	base_buf_init(&in, 8 << 20);
	base_buf_init(&out, 8 << 20);
	for (unsigned i = 0; i < 90000; i++)
		base_buf_printf(&in, "key%u: %u\n", i, i);
	assert_int_equal(parse_yaml(base_buf_view(&in), &out, &f), 0);
	base_buf_cstr(&in, "key77: again\n");
	base_buf_clear(&out);
	assert_true(parse_yaml(base_buf_view(&in), &out, &f) < 0);
	assert_int_equal(f.line, 90001);
	base_buf_done(&in);
	base_buf_done(&out);
}

static void test_agent(void **state)
{
	(void)state;
	gives("agent",
		"---\nname: writer\ntier: draft\ntools: [memory.search]\ngrants: [\"memory.*\"]\nbudget: "
		"0.10 USD\n---\n"
		"\nYou write.\n\n- short\n",
		"{\"budget\":\"0.10 USD\",\"grants\":[\"memory.*\"],\"instructions\":\"You write.\\n\\n- "
		"short\","
		"\"name\":\"writer\",\"tier\":\"draft\",\"tools\":[\"memory.search\"]}");
	gives("agent", "---\r\nname: a\r\nbudget: {run: 1 USD}\r\n---\r\nText --- here",
		"{\"budget\":{\"run\":\"1 USD\"},\"instructions\":\"Text --- here\",\"name\":\"a\"}");
	refused("agent", BASE_STR("name: a\n"), 1, 1, "---");
	refused("agent", BASE_STR("---\nname: a\ntext\n"), 3, 1, "does not end");
	refused("agent", BASE_STR("---\nname: a\n---\n \n"), 3, 1, "instructions");
	refused("agent", BASE_STR("---\ntier: draft\n---\nx"), 2, 1, "needs a name");
	refused("agent", BASE_STR("---\nname: A B\n---\nx"), 2, 1, "name must be");
	refused("agent", BASE_STR("---\nname: a\ntolls: []\n---\nx"), 3, 1, "no \"tolls\"");
	refused("agent", BASE_STR("---\nname: a\ntools: memory.search\n---\nx"), 3, 1, "must be a list");
	refused("agent", BASE_STR("---\nname: a\ntools: [1]\n---\nx"), 3, 1, "list of names");
	refused("agent", BASE_STR("---\nname: a\nbudget: lots\n---\nx"), 3, 1, "amount");
	refused("agent", BASE_STR("---\nname: a\nturns: 0\n---\nx"), 3, 1, "whole number");
	refused("agent", BASE_STR("---\nname: a\nname: b\n---\nx"), 3, 1, "twice");
	refused("agent", BASE_STR("---\nname: a\n\n  x: : y\n---\nx"), 4, 4, "not allowed");
	refused("agent", BASE_STR("---\n- a\n---\nx"), 2, 1, "name");
}

static void test_json(void **state)
{
	(void)state;
	gives("json", " {\"b\": 1.0, \"a\": [1, \"\\u00e9\"]} ", "{\"a\":[1,\"\xc3\xa9\"],\"b\":1}");
	refused("json", BASE_STR("{\"a\":1,\"a\":2}"), 0, 0, "");
	refused("json", BASE_STR("{\"a\":\n  nope}"), 2, 3, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scalars),
		cmocka_unit_test(test_structure),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_bombs),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_agent),
		cmocka_unit_test(test_json),
	};

	parse_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
