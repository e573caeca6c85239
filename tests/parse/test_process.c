#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "parse/parse.h"
#include "wire/conn.h"
#include "wire/frames.h"
#include "wire/outcome.h"

/* The real aios-parse in its sandbox: what works in a test program may die at a forbidden system call there.
 */
struct process {
	pid_t pid;
	struct wire_conn *c;
};

static int start(void **state)
{
	static struct process p;
	const char *bin = getenv("AIOS_BIN");
	struct base_str body;
	struct wire_hello hello;
	char path[4096];
	unsigned type;
	int fds[2];

	if (!bin || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/aios-parse", bin);
	p.pid = fork();
	if (p.pid == 0) {
		dup2(fds[1], WIRE_FD);
		execl(path, "aios-parse", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	if (p.pid < 0 || wire_conn_new(fds[0], &p.c) < 0)
		return -1;
	while (wire_conn_next(p.c, &type, &body) == 0)
		if (wire_conn_wait(p.c, 20000) < 0)
			return -1;
	if (type != WIRE_HELLO || wire_hello_get(body, &hello) < 0 ||
		!base_str_is(hello.process, "aios-parse"))
		return -1;
	if (!memmem(hello.sandbox.ptr, hello.sandbox.len, "seccomp", 7))
		return -1;
	*state = &p;
	return 0;
}

static int stop(void **state)
{
	struct process *p = *state;
	struct wire_stop s = {0};
	int status;

	wire_stop_put(wire_conn_begin(p->c, WIRE_STOP), &s);
	if (wire_conn_end(p->c) < 0 || wire_conn_flush(p->c) < 0)
		return -1;
	if (waitpid(p->pid, &status, 0) != p->pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return -1;
	wire_conn_free(p->c);
	return 0;
}

static bool ask(struct process *p, const char *format, struct base_str input, struct base_json **ret)
{
	static uint64_t req;
	struct wire_parse in = {
		.req = ++req, .format = base_str_of(format), .name = BASE_STR("x.file"), .input = input};
	struct wire_parsed out;
	struct base_str body;
	unsigned type;
	int r;

	wire_parse_put(wire_conn_begin(p->c, WIRE_PARSE), &in);
	assert_int_equal(wire_conn_end(p->c), 0);
	while ((r = wire_conn_next(p->c, &type, &body)) == 0)
		assert_int_equal(wire_conn_wait(p->c, 60000), 0);
	assert_int_equal(r, 1);
	assert_int_equal(type, WIRE_PARSED);
	assert_int_equal(wire_parsed_get(body, &out), 0);
	assert_int_equal(out.req, in.req);
	assert_int_equal(base_json_parse(out.value, ret, NULL), 0);
	return out.ok;
}

static void good(void **state, const char *format, const char *input, const char *want)
{
	struct base_json *doc;
	struct base_buf b;

	assert_true(ask(*state, format, base_str_of(input), &doc));
	base_buf_init(&b, 1 << 20);
	base_jv_write(base_json_root(doc), &b);
	base_buf_char(&b, 0);
	assert_string_equal(b.ptr, want);
	base_buf_done(&b);
	base_json_free(doc);
}

static void bad(void **state, const char *format, struct base_str input, int line, const char *part)
{
	struct base_json *doc;
	struct base_str message, file;

	assert_false(ask(*state, format, input, &doc));
	message = base_jv_str(base_jv_get(base_json_root(doc), "message"));
	file = base_jv_str(base_jv_get(base_json_root(doc), "file"));
	assert_non_null(memmem(message.ptr, message.len, part, strlen(part)));
	assert_true(base_str_is(file, "x.file"));
	assert_int_equal(base_jv_int(base_jv_get(base_json_root(doc), "line"), -1), line);
	base_json_free(doc);
}

static void test_formats(void **state)
{
	good(state, "yaml", "a: [1, 2.5, x]", "{\"a\":[1,2.5,\"x\"]}");
	good(state, "json", "{\"b\":1,\"a\":2}", "{\"a\":2,\"b\":1}");
	good(state, "agent", "---\nname: w\nbudget: 1 USD\n---\nDo.",
		"{\"budget\":\"1 USD\",\"instructions\":\"Do.\",\"name\":\"w\"}");
	good(state, "feed",
		"<?xml version='1.0' "
		"encoding='iso-8859-1'?><rss><channel><title>t</title><item><pubDate>Tue, 03 Jun 2025 "
		"09:39:21 +0200</pubDate></item></channel></rss>",
		"{\"items\":[{\"id\":\"\",\"link\":\"\",\"published_ms\":1748936361000,\"summary\":\"\","
		"\"title\":\"\"}],"
		"\"link\":\"\",\"title\":\"t\"}");
}

static void test_refusals(void **state)
{
	bad(state, "yaml", BASE_STR("a: 1\na: 2"), 2, "twice");
	bad(state, "yaml", BASE_STR("a: \xff"), 1, "UTF-8");
	bad(state, "feed", BASE_STR("<?xml version='1.0' encoding='EUC-JP'?><rss/>"), 1, "EUC-JP");
	bad(state, "feed", BASE_STR("<!DOCTYPE a [<!ENTITY b 'c'>]><rss>&b;</rss>"), 1, "entities");
	bad(state, "feed", BASE_STR("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><rss>&b;</rss>"), 0, "");
	bad(state, "feed", BASE_STR("<rss"), 1, "");
	bad(state, "nothing", BASE_STR("x"), 0, "format");
}

static void test_large(void **state)
{
	struct base_json *doc;
	struct base_buf b;

	base_buf_init(&b, WIRE_BODY_MAX);
	for (int i = 0; i < 500000; i++)
		base_buf_cstr(&b, "<a><b>");
	bad(state, "feed", base_buf_view(&b), 1, "depth");
	base_buf_clear(&b);
	base_buf_cstr(&b, "<rss><channel>");
	for (int i = 0; i < 190000; i++)
		base_buf_cstr(&b, "<item a='x'>some text here</item>\n");
	base_buf_cstr(&b, "</channel></rss>");
	assert_true(ask(*state, "feed", base_buf_view(&b), &doc));
	assert_int_equal(base_jv_len(base_jv_get(base_json_root(doc), "items")), PARSE_FEED_ITEMS_MAX);
	base_json_free(doc);
	base_buf_clear(&b);
	base_buf_cstr(&b, "\"");
	while (b.len < PARSE_INPUT_MAX - 2)
		base_buf_cstr(&b, "0123456789abcdef");
	b.len = PARSE_INPUT_MAX - 1;
	base_buf_cstr(&b, "\"");
	assert_true(ask(*state, "json", base_buf_view(&b), &doc));
	base_json_free(doc);
	base_buf_cstr(&b, " ");
	bad(state, "json", base_buf_view(&b), 0, "bytes");
	base_buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_large),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
