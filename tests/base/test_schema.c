#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/regex.h"
#include "base/schema.h"

static struct base_schema *compile(const char *text)
{
	struct base_schema *s = NULL;
	struct base_err err = {0};
	struct base_json *d;

	assert_int_equal(base_json_parse(base_str_of(text), &d, &err), 0);
	if (base_schema_compile(base_json_root(d), &s, &err) < 0)
		fail_msg("%s: %s", text, err.text);
	base_json_free(d); /* the schema keeps what it needs */
	return s;
}

static int check(const struct base_schema *s, const char *value, struct base_err *err)
{
	struct base_json *d;
	int r, quiet;

	assert_int_equal(base_json_parse(base_str_of(value), &d, NULL), 0);
	r = base_schema_check(s, base_json_root(d), err);
	quiet = base_schema_check(s, base_json_root(d), NULL);
	assert_int_equal(r, quiet);
	base_json_free(d);
	return r;
}

static const struct {
	const char *schema;
	const char *good; /* values, separated by | */
	const char *bad;
} cases[] = {
	{"{}", "1|null|{}", ""},
	{"true", "1|{}", ""},
	{"false", "", "1|null"},
	{"{\"type\":\"integer\"}", "1|-5|1.0|9223372036854775807", "1.5|\"1\"|true|null|1e300"},
	{"{\"type\":\"number\"}", "1|1.5|-1e300", "\"1\"|true"},
	{"{\"type\":\"string\"}", "\"\"|\"x\"", "1|null"},
	{"{\"type\":[\"string\",\"null\"]}", "\"\"|null", "1|false"},
	{"{\"type\":\"boolean\"}", "true|false", "0|null"},
	{"{\"type\":\"array\"}", "[]", "{}"},
	{"{\"enum\":[1,\"a\",null,[1],{\"a\":1,\"b\":2}]}", "1|1.0|\"a\"|null|[1]|{\"b\":2,\"a\":1}",
		"2|\"b\"|[1,2]|{\"a\":1}|{\"a\":1,\"c\":2}|false"},
	{"{\"const\":null}", "null", "0|false|\"\""},
	{"{\"const\":{\"a\":[1.0]}}", "{\"a\":[1]}", "{\"a\":[2]}|{}"},
	{"{\"properties\":{\"a\":{\"type\":\"string\"}}}", "{}|{\"a\":\"\"}|{\"b\":1}|5", "{\"a\":1}"},
	{"{\"required\":[\"a\",\"b\"],\"properties\":{\"b\":true}}", "{\"a\":1,\"b\":2}|{\"b\":0,\"a\":0}|[]",
		"{}|{\"a\":1}|{\"b\":1}"},
	{"{\"properties\":{\"a\":true},\"additionalProperties\":false}", "{}|{\"a\":1}",
		"{\"b\":1}|{\"a\":1,\"b\":1}"},
	{"{\"required\":[\"r\"],\"additionalProperties\":false}", "3", "{}|{\"r\":1}"},
	{"{\"properties\":{\"a\":true},\"additionalProperties\":{\"type\":\"integer\"}}",
		"{\"a\":\"\",\"b\":1}", "{\"b\":\"\"}"},
	{"{\"items\":{\"type\":\"integer\"}}", "[]|[1,2]", "[1,\"\"]"},
	{"{\"prefixItems\":[{\"type\":\"string\"}],\"items\":{\"type\":\"integer\"}}",
		"[]|[\"a\"]|[\"a\",1,2]", "[1]|[\"a\",\"b\"]"},
	{"{\"prefixItems\":[true],\"items\":false}", "[]|[1]", "[1,2]"},
	{"{\"minItems\":1,\"maxItems\":2}", "[1]|[1,2]|{}", "[]|[1,2,3]"},
	{"{\"uniqueItems\":true}", "[]|[1,2,\"1\"]|[[1],[2]]|[{\"a\":1},{\"a\":2}]|[0,false]",
		"[1,1]|[1,2,1.0]|[{\"a\":1,\"b\":2},{\"b\":2,\"a\":1}]"},
	{"{\"minimum\":1,\"maximum\":3}", "1|2.5|3|\"x\"", "0|0.99|3.01|4"},
	{"{\"exclusiveMinimum\":1,\"exclusiveMaximum\":3}", "2|1.0001", "1|3|1.0"},
	{"{\"minimum\":1,\"exclusiveMinimum\":1}", "2", "1"},
	{"{\"exclusiveMaximum\":5,\"maximum\":3}", "3", "4|5"},
	{"{\"minimum\":9007199254740993}", "9007199254740993", "9007199254740992"},
	{"{\"multipleOf\":5}", "0|-10|15|15.0", "1|7.5"},
	{"{\"minLength\":2,\"maxLength\":3}", "\"ab\"|\"\xc3\xa4\xc3\xa4\xc3\xa4\"|\"\xf0\x9f\x98\x80z\"|7",
		"\"a\"|\"abcd\"|\"\xf0\x9f\x98\x80\""},
	{"{\"pattern\":\"^[a-z]+$\"}", "\"abc\"|1", "\"\"|\"aBc\"|\"abc\\n\""},
	{"{\"pattern\":\"b\"}", "\"abc\"", "\"aac\""},
	{"{\"format\":\"email\"}", "\"a@b\"|\"ada.l+x@mail.example.org\"|1",
		"\"a\"|\"@b\"|\"a@\"|\"a@b@c\"|\".a@b\"|\"a..b@c\"|\"a.@b\"|\"a "
		"b@c\"|\"a@-b\"|\"a@b..c\"|\"a@b c\""},
	{"{\"format\":\"uri\"}", "\"https://example.org/a?b=c#d\"|\"mailto:x@y\"|\"urn:a:b\"|\"a:%41\"",
		"\"\"|\"/path\"|\"http//x\"|\"1a:b\"|\"http://a b\"|\"a:%4\"|\"a:<b>\"|\"a:\xc3\xa4\""},
	{"{\"format\":\"date\"}", "\"2024-02-29\"|\"2000-02-29\"|\"2026-12-31\"",
		"\"2023-02-29\"|\"1900-02-29\"|\"2026-13-01\"|\"2026-00-01\"|\"2026-01-32\"|\"2026-1-1\"|"
		"\"2026-01-01T\""},
	{"{\"format\":\"date-time\"}",
		"\"2026-01-31T12:00:00Z\"|\"2026-01-31t12:00:00.123+02:00\"|\"1998-12-31T23:59:60Z\"|"
		"\"1998-12-31T15:59:60.123-08:00\"",
		"\"2026-01-31\"|\"2026-01-31 12:00:00Z\"|\"2026-01-31T24:00:00Z\"|\"2026-01-31T12:00:00\"|"
		"\"2026-01-31T12:00:00.Z\"|\"2026-01-31T12:00:60Z\"|\"2026-01-31T12:00:00+2:00\"|\"2026-01-"
		"31T12:00:00Zx\""},
	{"{\"anyOf\":[{\"type\":\"string\"},{\"minimum\":5}]}", "\"a\"|5|null", "4"},
	{"{\"allOf\":[{\"minimum\":2},{\"maximum\":4}]}", "2|4", "1|5"},
	{"{\"oneOf\":[{\"multipleOf\":2},{\"multipleOf\":3}]}", "2|3|9", "6|7"},
	{"{\"not\":{\"type\":\"string\"}}", "1|null", "\"a\""},
	{"{\"$defs\":{\"n\":{\"type\":\"integer\"}},\"items\":{\"$ref\":\"#/$defs/n\",\"minimum\":2}}",
		"[2,3]", "[1]|[\"a\"]"},
	{"{\"$defs\":{\"tree\":{\"type\":\"object\",\"properties\":{\"kids\":{\"type\":\"array\",\"items\":"
	 "{\"$ref\":\"#/$defs/tree\"}}},\"required\":[\"kids\"]}},\"$ref\":\"#/$defs/tree\"}",
		"{\"kids\":[]}|{\"kids\":[{\"kids\":[{\"kids\":[]}]}]}", "{}|{\"kids\":[{\"kids\":[{}]}]}"},
	{"{\"title\":\"t\",\"description\":\"d\",\"default\":1,\"examples\":[1],"
	 "\"$schema\":\"https://json-schema.org/draft/2020-12/schema\"}",
		"1", ""},
};

static void test_cases(void **state)
{
	size_t i;
	int want;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct base_schema *s = compile(cases[i].schema);

		for (want = 0; want >= -EINVAL; want -= EINVAL) {
			struct base_str rest = base_str_of(want ? cases[i].bad : cases[i].good), one;

			while (rest.len > 0) {
				struct base_err err = {.text = ""};
				char value[200];

				base_str_cut(rest, '|', &one, &rest);
				snprintf(value, sizeof(value), "%.*s", BASE_STR_ARG(one));
				if (check(s, value, &err) != want)
					fail_msg("%s: %s should be %s (%s)", cases[i].schema, value,
						want ? "refused" : "accepted", err.text);
			}
		}
		base_schema_free(s);
	}
	base_schema_free(NULL);
}

static void test_messages(void **state)
{
	static const struct {
		const char *value, *text;
	} want[] = {
		{"{\"a\":[{\"x/~\":\"no\"}]}", "at \"/a/0/x~1~0\": must be integer, is string"},
		{"{\"a\":[{}]}", "at \"/a/0\": lacks the member \"x/~\""},
		{"{\"b\":1}", "at \"\": has the member \"b\", which is not known"},
		{"[]", "at \"\": must be object, is array"},
		{"{\"n\":0.5}", "at \"/n\": must be at least 1"},
	};
	struct base_schema *s =
		compile("{\"type\":\"object\",\"properties\":{\"a\":{\"items\":{\"properties\":{\"x/~\":"
			"{\"type\":\"integer\"}},\"required\":[\"x/~\"]}},\"n\":{\"minimum\":1}},"
			"\"additionalProperties\":false}");
	struct base_err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		assert_int_equal(check(s, want[i].value, &err), -EINVAL);
		assert_string_equal(err.text, want[i].text);
	}
	base_schema_free(s);
}

static void test_refused_schemas(void **state)
{
	static const char *const bad[] = {"1", "null", "[]", "{\"type\":\"text\"}", "{\"type\":[]}",
		"{\"type\":1}", "{\"minLenght\":1}", "{\"if\":{}}", "{\"minLength\":-1}",
		"{\"minLength\":1.5}", "{\"enum\":[]}", "{\"enum\":1}", "{\"required\":\"a\"}",
		"{\"required\":[1]}", "{\"properties\":[]}", "{\"properties\":{\"a\":1}}", "{\"items\":[{}]}",
		"{\"anyOf\":[]}", "{\"anyOf\":{}}", "{\"multipleOf\":0}", "{\"multipleOf\":0.5}",
		"{\"pattern\":\"(\"}", "{\"pattern\":1}", "{\"format\":\"ipv4\"}", "{\"$ref\":\"#/$defs/x\"}",
		"{\"$ref\":\"#\"}", "{\"$defs\":1}", "{\"items\":{\"$defs\":{}}}", "{\"minimum\":\"1\"}",
		"{\"uniqueItems\":1}", "{\"$schema\":\"http://json-schema.org/draft-07/schema#\"}",
		"{\"$defs\":{\"a\":{\"$ref\":\"#/$defs/a\"}}}",
		"{\"$defs\":{\"a\":{\"anyOf\":[{\"$ref\":\"#/$defs/b\"}]},\"b\":{\"not\":{\"$ref\":\"#/$defs/"
		"a\"}}}}",
		"{\"properties\":{\"x\":{\"allOf\":[{\"patternProperties\":{}}]}}}"};
	struct base_schema *s = NULL;
	struct base_json *d;
	struct base_err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(base_json_parse(base_str_of(bad[i]), &d, NULL), 0);
		memset(&err, 0, sizeof(err));
		if (base_schema_compile(base_json_root(d), &s, &err) != -EINVAL)
			fail_msg("%s was accepted", bad[i]);
		assert_true(strlen(err.text) > 10);
		base_json_free(d);
	}
	assert_null(s);
}

/* A schema whose alternatives multiply ends with a refusal, not with the heat death. */
static void test_bounded(void **state)
{
	struct base_schema *s;
	struct base_err err;
	struct base_buf b;
	int i;

	(void)state;
	base_buf_init(&b, 100000);
	base_buf_cstr(&b, "{\"$defs\":{");
	for (i = 0; i < 13; i++)
		base_buf_printf(&b,
			"\"d%d\":{\"anyOf\":[{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/d%d\"},"
			"{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/d%d\"}]},",
			i, i + 1, i + 1, i + 1, i + 1);
	base_buf_cstr(&b, "\"d13\":false},\"not\":{\"$ref\":\"#/$defs/d0\"}}");
	base_buf_char(&b, '\0');
	s = compile(b.ptr);
	assert_int_equal(check(s, "1", &err), -EINVAL);
	assert_non_null(strstr(err.text, "too long"));
	base_schema_free(s);
	base_buf_done(&b);
}

static const struct {
	const char *pattern, *good, *bad; /* texts, separated by spaces */
} patterns[] = {
	{"abc", "abc xabcx", "ab ac"},
	{"^abc$", "abc", "xabc abcx"},
	{"a.c",
		"abc a\xc3\xa4"
		"c",
		"ac a\nc"},
	{"^a*$", "a aaa", "b ab"},
	{"^a+b?$", "a aab", "b abb"},
	{"^(ab|cd)+$", "ab cd abcd", "a abc"},
	{"^(a|b|c|)x$", "ax bx cx x", "dx"},
	{"^(?:a|bc){2}$", "aa abc bcbc", "a aaa"},
	{"^a{2,3}$", "aa aaa", "a aaaa"},
	{"^a{2,}$", "aa aaaaa", "a"},
	{"^a{0,1}b{0}c$", "c ac", "bc aac"},
	{"^(a{2}){3}$", "aaaaaa", "aaaaa aaaaaaa"},
	{"^[a-c-]+$", "a-c", "d"},
	{"^[^a-c]+$", "xyz", "xay"},
	{"^[]x]+$", "]x", "y"},
	{"^[\\d\\]_]+$", "1]_", "a"},
	{"^[^\\s\\d]+$", "abc", "a1"},
	{"^\\d{4}-\\d{2}$", "2026-01", "2026-1 x2026-01"},
	{"^\\w+@\\w+\\.com$", "a_1@b.com", "a@bxcom"},
	{"^[[:alpha:]]+[[:digit:]]$", "abc1", "1a ab"},
	{"\\bcat\\b", "cat a,cat,b", "cats concat"},
	{"\\Bcat", "concat", "cat"},
	{"^\\x41\\u0042\\x{1f600}$", "AB\xf0\x9f\x98\x80", "AB"},
	{"^[\xc3\xa4-\xc3\xb6]$", "\xc3\xa5", "a \xc3\xbc"},
	{"(?i)^hello [w]orld$", "", ""},
	{"(?i)^he[l-m]LO$", "HELLO hello", "HEKLO"},
	{"^a(?i)b(?-i:c)$", "abc aBc", "Abc abC"},
	{"(?m)^b$", "b a\nb b\na", "ab"},
	{"(?s)^a.b$", "a\nb acb", "ab"},
	{"^\\p{Lu}\\PL$", "A1 \xc3\x84-", "a1 AB"},
	{"(?i)^\xc3\xa4$", "\xc3\xa4 \xc3\x84", "a"},
	{"^(?<n>\\Qa.(\\E+)$", "a.( a.((", "a.(a.( ab("},
	{"^(a*)*$", "a aaaa", "b"},
	{"^(a|aa)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"},
	{"a{,2}", "a{,2}", "aa"},
	{"^a+?b??$", "a aab", "b"},
	{"x*", "abc", ""},
	{"$^", "", "a"},
	{"a|^b|c$", "xa bx xc", "xb cx"},
};

static void test_patterns(void **state)
{
	static const char *const bad[] = {"(", ")", "a)", "[", "[a", "*", "+a", "a**", "a{2}{3}", "(?=a)",
		"(?<=n)a", "\\", "\\1", "\\p{Lx}", "[b-a]", "a{3,2}", "a{1001}", "((a{100}){100})", "\\x4",
		"\\x{110000}", "\\u12"};
	struct base_regex *re;
	struct base_err err;
	size_t i;
	int want;

	(void)state;
	for (i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		if (base_regex_compile(base_str_of(patterns[i].pattern), &re, &err) < 0)
			fail_msg("%s: %s", patterns[i].pattern, err.text);
		for (want = 0; want < 2; want++) {
			struct base_str rest = base_str_of(want ? patterns[i].good : patterns[i].bad), one;

			while (rest.len > 0) {
				base_str_cut(rest, ' ', &one, &rest);
				if (base_regex_search(re, one) != want)
					fail_msg("%s on \"%.*s\" should be %d", patterns[i].pattern,
						BASE_STR_ARG(one), want);
			}
		}
		base_regex_free(re);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (base_regex_compile(base_str_of(bad[i]), &re, &err) >= 0)
			fail_msg("%s was accepted", bad[i]);
	assert_int_equal(base_regex_compile(BASE_STR("$^"), &re, NULL), 0);
	assert_true(base_regex_search(re, BASE_STR_NONE));
	base_regex_free(re);
	base_regex_free(NULL);
}

/* Where a backtracking matcher would need 2^n steps. */
static void test_linear(void **state)
{
	static char text[200000];
	struct base_regex *re;

	(void)state;
	memset(text, 'a', sizeof(text));
	assert_int_equal(base_regex_compile(BASE_STR("^(a+)+(a|a)*(a?){30}b$"), &re, NULL), 0);
	assert_false(base_regex_search(re, (struct base_str){text, sizeof(text)}));
	text[sizeof(text) - 1] = 'b';
	assert_true(base_regex_search(re, (struct base_str){text, sizeof(text)}));
	base_regex_free(re);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_refused_schemas),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_linear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
