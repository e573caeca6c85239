/* The decoders and the pages without a process round them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "door/door_int.h"

static struct base_buf out;

static int setup(void **state)
{
	(void)state;
	base_buf_init(&out, 8 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	base_buf_done(&out);
	return 0;
}

static bool has(const char *what)
{
	return out.len > 0 && memmem(out.ptr, out.len, what, strlen(what)) != NULL;
}

static void decodes(void **state)
{
	struct base_err err;

	(void)state;
	assert_int_equal(door_percent_decode(BASE_STR("a%20b+c%2F"), true, &out, &err), 0);
	assert_true(base_str_is(base_buf_view(&out), "a b c/"));
	assert_int_equal(door_percent_decode(BASE_STR("%4"), false, &out, &err), -EINVAL);
	assert_int_equal(door_percent_decode(BASE_STR("%"), false, &out, &err), -EINVAL);
	assert_int_equal(door_percent_decode(BASE_STR("a%"), false, &out, &err), -EINVAL);
	assert_int_equal(door_percent_decode(BASE_STR("%00"), false, &out, &err), -EINVAL);
	assert_int_equal(door_percent_decode(BASE_STR("%C0%AF"), false, &out, &err), -EINVAL);
	base_buf_clear(&out);
	assert_int_equal(door_percent_decode(BASE_STR("%41"), false, &out, &err), 0);
	assert_true(base_str_is(base_buf_view(&out), "A"));
	base_buf_clear(&out);
	door_percent_encode(BASE_STR("a/b \xc3\xa9"), &out);
	assert_true(base_str_is(base_buf_view(&out), "a%2Fb%20%C3%A9"));
}

/* Every declared route matches its own path, with its own method, and no other operation. */
static void every_route(void **state)
{
	unsigned op;

	(void)state;
	for (op = 0; op < WIRE_OP_COUNT; op++) {
		const struct wire_route *r = wire_route_of((enum wire_op)op);
		struct door_match m;
		unsigned i;

		base_buf_clear(&out);
		for (i = 0; i < r->count; i++)
			base_buf_printf(&out, "/%s",
				r->segments[i].kind == WIRE_SEGMENT_LITERAL ? r->segments[i].text
				: r->segments[i].kind == WIRE_SEGMENT_REST  ? "x/y/z"
									    : "x");
		if (r->count == 0)
			base_buf_char(&out, '/');
		assert_int_equal(door_route(base_str_of(r->method), base_buf_view(&out), &m), 0);
		assert_int_equal(m.op, op);
		assert_int_equal(wire_op_of(base_str_of(r->name)), op);
		base_buf_char(&out, '/');
		assert_int_equal(door_route(base_str_of(r->method), base_buf_view(&out), &m), -ENOENT);
	}
	assert_int_equal(wire_op_of(BASE_STR("nothing")), WIRE_OP_COUNT);
}

static void forms(void **state)
{
	static const struct {
		const char *form, *json;
	} cases[] = {
		{"answer=approve", "{\"answer\":\"approve\"}"},
		{"answer=approve&text:body=x",
			"{\"answer\":\"approve\"}"}, /* an approval as shown carries no value */
		{"csrf=c&shown=h&answer=edit&reason=&text%3Abody=a%0D%0Ab&json%3Alist=%5B1%2C2%5D",
			"{\"csrf\":\"c\",\"shown\":\"h\",\"answer\":\"edit\",\"reason\":\"\",\"value\":{"
			"\"body\":\"a\\nb\","
			"\"list\":[1,2]}}"},
		{"answer=edit&text=%22hi%22", "{\"answer\":\"edit\",\"value\":\"\\\"hi\\\"\"}"},
		{"answer=happened&json=%7B%22id%22%3A1%7D", "{\"answer\":\"happened\",\"value\":{\"id\":1}}"},
		{"answer=edit&text:body=x&extra=y", "{\"answer\":\"edit\",\"value\":{\"body\":\"x\"}}"},
		{"answer=edit&json:a=%7B", NULL},
		{"answer=edit&text:a=1&json:a=1", NULL},
		{"answer=edit&text=1&json:a=1", NULL},
		{"answer=edit&json:a=1&text=1", NULL},
		{"answer=edit&answer=deny", NULL},
		{"reason=x", NULL},
		{"answer=%zz", NULL},
		{"=x", NULL},
		{"", NULL},
	};
	struct door_pairs pairs = {0};
	struct base_err err;
	size_t i;

	(void)state;
	base_buf_init(&pairs.text, 1 << 20);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int r;

		base_buf_clear(&out);
		r = door_form_json(base_str_of(cases[i].form), &pairs, &out, &err);
		if (!cases[i].json) {
			assert_int_equal(r, -EINVAL);
		} else {
			if (r < 0 || !base_str_is(base_buf_view(&out), cases[i].json))
				fail_msg("%s gave %d %.*s", cases[i].form, r, BASE_STR_ARG(out));
		}
	}
	base_buf_done(&pairs.text);
}

/* Texts that would be markup, a way out of an attribute, or a lie, were they not escaped. */
static const char *const evil[] = {
	"<script>alert(1)</script>",
	"\"><img src=x onerror=alert(1)>",
	"'><svg/onload=alert(1)>",
	"</textarea><script>alert(1)</script>",
	"</pre></style></title><script>x</script>",
	"javascript:alert(1)",
	"&lt;script&gt;",
	"<!--",
	"]]><script>",
	"\xe2\x80\xae"
	"gpj.exe",
	"\x01\x02\x7f",
};

static void put_evil(const char *text, struct base_buf *b)
{
	base_json_quote(b, base_str_of(text));
}

static void check_page(enum wire_op op, const char *before, const char *text, const char *after)
{
	struct base_buf json;

	base_buf_init(&json, 1 << 20);
	base_buf_cstr(&json, before);
	put_evil(text, &json);
	base_buf_cstr(&json, after);
	base_buf_clear(&out);
	assert_int_equal(door_page(op, base_buf_view(&json), &out), 0);
	assert_int_equal(base_buf_failed(&out), 0);
	assert_true(has("</html>"));
	assert_false(has("<script"));
	assert_false(has("<img"));
	assert_false(has("<svg/"));
	assert_false(has("<!--"));
	assert_false(has("href=\"javascript:"));
	assert_false(has("\xe2\x80\xae"));
	assert_false(has("\x01"));
	base_buf_done(&json);
}

static void escapes(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(evil) / sizeof(evil[0]); i++) {
		check_page(WIRE_OP_PAGE_HOME,
			"{\"csrf\":\"c\",\"gates\":[{\"gate\":1,\"kind\":\"x\",\"title\":", evil[i], "}]}");
		check_page(WIRE_OP_PAGE_HOME, "{\"csrf\":", evil[i],
			",\"gates\":[{\"gate\":1,\"kind\":\"x\"}]}");
		check_page(WIRE_OP_PAGE_HOME, "{\"name\":", evil[i], "}");
		check_page(
			WIRE_OP_PAGE_HOME, "{\"runs\":[{\"run\":1,\"state\":\"x\",\"flow\":", evil[i], "}]}");
		check_page(WIRE_OP_PAGE_HOME, "{\"runs\":[{\"run\":", evil[i], "}]}");
		check_page(WIRE_OP_PAGE_HOME, "{\"costs\":[{\"name\":", evil[i], "}]}");
		check_page(WIRE_OP_PAGE_RUN,
			"{\"run\":{\"run\":1,\"steps\":[{\"step\":0,\"status\":", evil[i], "}]}}");
		check_page(WIRE_OP_PAGE_RUN,
			"{\"run\":{\"run\":1,\"steps\":[{\"step\":0,\"action\":", evil[i], "}]}}");
		check_page(WIRE_OP_PAGE_RUN,
			"{\"run\":{\"run\":1,\"steps\":[{\"problem\":{\"message\":", evil[i], "}}]}}");
		check_page(WIRE_OP_PAGE_RUN, "{\"run\":{\"run\":1,\"steps\":[{\"reason\":", evil[i], "}]}}");
		check_page(WIRE_OP_PAGE_RUN, "{\"run\":1,\"problem\":", evil[i], "}");
		check_page(WIRE_OP_PAGE_GATE,
			"{\"gate\":{\"gate\":1,\"title\":\"t\",\"edit\":true,\"show\":", evil[i], "}}");
		check_page(WIRE_OP_PAGE_GATE, "{\"gate\":{\"gate\":1,\"edit\":1,\"show\":{\"body\":", evil[i],
			"}}}");
		check_page(WIRE_OP_PAGE_GATE, "{\"gate\":{\"gate\":1,\"edit\":1,\"show\":{\"list\":[[",
			evil[i], "]]}}}");
		check_page(WIRE_OP_PAGE_GATE, "{\"gate\":1,\"shown\":", evil[i], "}");
		check_page(WIRE_OP_PAGE_GATE, "{\"gate\":1,\"votes\":[{\"answer\":\"x\",\"by\":", evil[i],
			"}]}");
		check_page(WIRE_OP_PAGE_GATE, "{\"gate\":1,\"approvers\":[", evil[i], "]}");
		check_page(WIRE_OP_PAGE_GATE, "{\"gate\":1,\"delegated\":[{\"to\":", evil[i], "}]}");
		check_page(WIRE_OP_PAGE_GATE,
			"{\"gate\":1,\"announced\":[{\"channel\":\"c\",\"state\":\"failed\",\"problem\":",
			evil[i], "}]}");
		check_page(WIRE_OP_PAGE_GATE, "{\"gate\":1,\"sources\":[{\"url\":", evil[i], "}]}");
		check_page(WIRE_OP_LINK_SHOW, "{\"token\":", evil[i], ",\"gate\":{\"gate\":1,\"show\":1}}");
		check_page(
			WIRE_OP_LINK_SHOW, "{\"token\":\"t\",\"gate\":{\"gate\":1,\"title\":", evil[i], "}}");
		check_page(
			WIRE_OP_LINK_SHOW, "{\"token\":\"t\",\"gate\":{\"gate\":1,\"show\":", evil[i], "}}");
		check_page(WIRE_OP_LINK_DECIDE, "{\"done\":", evil[i], "}");
		check_page(WIRE_OP_PAGE_GATE, "{\"gate\":1,\"allows\":{\"action\":", evil[i], "}}");
	}
	/* a key is text of a run too */
	base_buf_clear(&out);
	assert_int_equal(
		door_page(WIRE_OP_PAGE_GATE,
			BASE_STR("{\"gate\":1,\"edit\":true,\"show\":{\"\\\"><script>\":\"x\",\"<b>\":[1]}}"),
			&out),
		0);
	assert_false(has("<script"));
	assert_false(has("<b>"));
}

static void gate_answers(void **state)
{
	(void)state;
	assert_int_equal(door_page(WIRE_OP_PAGE_GATE,
				 BASE_STR("{\"gate\":5,\"kind\":\"approve\",\"shown\":\"ff\",\"edit\":true,"
					  "\"cost_nusd\":1500000,\"show\":{\"body\":\"Dear\"}}"),
				 &out),
		0);
	assert_true(has("action=\"/gates/5\""));
	assert_true(has("name=\"shown\" value=\"ff\""));
	assert_true(has("value=\"approve\""));
	assert_true(has("value=\"edit\""));
	assert_true(has("value=\"deny\""));
	assert_true(has("name=\"text:body\">\nDear</textarea>"));
	assert_true(has("0.0015 USD"));
	base_buf_clear(&out);
	assert_int_equal(door_page(WIRE_OP_PAGE_GATE, BASE_STR("{\"gate\":5,\"kind\":\"doubt\"}"), &out), 0);
	assert_true(has("value=\"happened\"") && has("value=\"send\"") && has("value=\"give_up\""));
	assert_false(has("value=\"approve\""));
	base_buf_clear(&out);
	assert_int_equal(door_page(WIRE_OP_PAGE_GATE,
				 BASE_STR("{\"gate\":5,\"answer\":\"deny\",\"by\":\"operator\"}"), &out),
		0);
	assert_false(has("<form"));
	assert_int_equal(door_page(WIRE_OP_PAGE_GATE, BASE_STR("[1]"), &out), -EINVAL);
	assert_int_equal(door_page(WIRE_OP_PAGE_GATE, BASE_STR(""), &out), -EINVAL);
}

static void times(void **state)
{
	(void)state;
	html_time(&out, 0);
	assert_true(has(">1970-01-01 00:00 UTC<"));
	html_time(&out, 951782400000);
	assert_true(has("2000-02-29T00:00:00Z"));
	html_time(&out, 4102444799999);
	assert_true(has("2099-12-31T23:59:59Z"));
}

static void openapi_is_json(void **state)
{
	struct base_json *doc;
	struct base_jv paths;
	unsigned op;

	(void)state;
	door_openapi(&out);
	assert_int_equal(base_json_parse(base_buf_view(&out), &doc, NULL), 0);
	paths = base_jv_get(base_json_root(doc), "paths");
	assert_true(base_jv_len(paths) > 20);
	for (op = 0; op < WIRE_OP_COUNT; op++) {
		char id[64];

		snprintf(id, sizeof(id), "\"operationId\":\"%s\"", wire_route_of((enum wire_op)op)->name);
		assert_true(has(id));
	}
	base_json_free(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(decodes, setup, teardown),
		cmocka_unit_test_setup_teardown(every_route, setup, teardown),
		cmocka_unit_test_setup_teardown(forms, setup, teardown),
		cmocka_unit_test_setup_teardown(escapes, setup, teardown),
		cmocka_unit_test_setup_teardown(gate_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(times, setup, teardown),
		cmocka_unit_test_setup_teardown(openapi_is_json, setup, teardown),
	};

	return cmocka_run_group_tests_name("door texts", tests, NULL, NULL);
}
