#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rig.h"
#include "wire/conn.h"
#include "wire/frames.h"
#include "wire/outcome.h"

/* Files, the web, the test connector, secrets, limits: through the real process. */

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	rig_start(r, "");
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	rig_stop(*state);
	free(*state);
	return 0;
}

static void do_file(struct rig *r, const char *action, const char *args, struct rig_result *ret)
{
	rig_do(r, &(struct rig_effect){.action = action, .args = args}, ret);
}

static void hello_names_the_sandbox(void **state)
{
	struct rig *r = *state;

	assert_non_null(strstr(r->sandbox, "seccomp"));
}

static void echo_answers_in_order(void **state)
{
	struct rig *r = *state;

	for (int i = 0; i < 500; i++)
		rig_send(r, &(struct rig_effect){.action = "test.echo", .args = fmt("{\"n\":%d}", i)});
	for (int i = 0; i < 500; i++) {
		struct rig_result x;

		assert_int_equal(rig_take(r, &x), i + 1);
		rig_expect(&x, WIRE_DONE);
		assert_int_equal(rig_int(&x, "n"), i);
		rig_result_done(&x);
	}
}

static void unknown_actions_and_bad_arguments_are_refused(void **state)
{
	struct rig *r = *state;
	struct rig_result x;

	do_file(r, "pay.all", "{}", &x);
	rig_problem(&x, WIRE_FAILED, "unknown_action", "does not know");
	rig_result_done(&x);
	do_file(r, "file.read", "{\"path\":", &x);
	rig_problem(&x, WIRE_FAILED, "invalid", "arguments");
	rig_result_done(&x);
}

static void files_come_back_as_written(void **state)
{
	struct rig *r = *state;
	struct rig_result x;

	do_file(r, "file.write", "{\"path\":\"a/b/c.txt\",\"text\":\"gr\\u00fc\\u00dfe\\n\"}", &x);
	rig_expect(&x, WIRE_DONE);
	rig_result_done(&x);
	do_file(r, "file.read", "{\"path\":\"a/b/c.txt\"}", &x);
	rig_expect(&x, WIRE_DONE);
	assert_string_equal(rig_text(&x, "text"), "grüße\n");
	assert_int_equal(rig_int(&x, "size"), 8);
	rig_result_done(&x);
	/* again, with the same key: the same file */
	do_file(r, "file.write", "{\"path\":\"a/b/c.txt\",\"text\":\"new\"}", &x);
	rig_expect(&x, WIRE_DONE);
	rig_result_done(&x);
	do_file(r, "file.list", "{\"path\":\"a/b\"}", &x);
	rig_expect(&x, WIRE_DONE);
	assert_int_equal(base_jv_len(base_jv_get(x.value, "items")), 1);
	assert_true(base_str_is(
		base_jv_str(base_jv_get(base_jv_at(base_jv_get(x.value, "items"), 0), "name")), "c.txt"));
	rig_result_done(&x);
	do_file(r, "file.list", "{}", &x);
	rig_expect(&x, WIRE_DONE);
	assert_true(base_str_is(
		base_jv_str(base_jv_get(base_jv_at(base_jv_get(x.value, "items"), 0), "kind")), "dir"));
	rig_result_done(&x);
}

static void bytes_that_are_no_text_come_in_base64(void **state)
{
	struct rig *r = *state;
	struct rig_result x;
	FILE *f = fopen(fmt("%s/blob", r->files), "wb");

	fwrite("\xff\xfe\x00", 1, 3, f);
	fclose(f);
	do_file(r, "file.read", "{\"path\":\"blob\"}", &x);
	rig_expect(&x, WIRE_DONE);
	assert_string_equal(rig_text(&x, "text"), "//4A");
	assert_true(base_jv_bool(base_jv_get(x.value, "base64"), false));
	rig_result_done(&x);
}

static void nothing_outside_of_files_is_reached(void **state)
{
	static const char *const paths[] = {"../secret", "a/../../secret", "/etc/hostname", "link",
		"link/hostname", "deep/link", "..", "", "a\\u0000b", "./../secret", "/", "loop"};
	struct rig *r = *state;
	struct rig_result x;
	FILE *f = fopen(fmt("%s/secret", r->dir), "w");

	fputs("top secret", f);
	fclose(f);
	assert_int_equal(symlink("/etc", fmt("%s/link", r->files)), 0);
	assert_int_equal(symlink("loop", fmt("%s/loop", r->files)), 0);
	assert_int_equal(mkdir(fmt("%s/deep", r->files), 0755), 0);
	assert_int_equal(symlink("../../secret", fmt("%s/deep/link", r->files)), 0);
	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		do_file(r, "file.read", fmt("{\"path\":\"%s\"}", paths[i]), &x);
		rig_expect(&x, WIRE_FAILED);
		assert_null(strstr(rig_text(&x, "message"), "top secret"));
		rig_result_done(&x);
		do_file(r, "feed.read", fmt("{\"file\":\"%s\"}", paths[i]), &x);
		rig_expect(&x, WIRE_FAILED);
		rig_result_done(&x);
	}
	do_file(r, "file.write", "{\"path\":\"../stolen\",\"text\":\"x\"}", &x);
	rig_problem(&x, WIRE_FAILED, "denied", "leads out");
	rig_result_done(&x);
	do_file(r, "file.write", "{\"path\":\"link/x\",\"text\":\"x\"}", &x);
	rig_expect(&x, WIRE_FAILED);
	rig_result_done(&x);
	do_file(r, "file.write", "{\"path\":\"/tmp/stolen\",\"text\":\"x\"}", &x);
	rig_problem(&x, WIRE_FAILED, "denied", "leads out");
	rig_result_done(&x);
	do_file(r, "file.write", "{\"path\":\"deep/../../stolen\",\"text\":\"x\"}", &x);
	rig_expect(&x, WIRE_FAILED);
	rig_result_done(&x);
	do_file(r, "file.list", "{\"path\":\"..\"}", &x);
	rig_expect(&x, WIRE_FAILED);
	rig_result_done(&x);
	assert_int_equal(access(fmt("%s/stolen", r->dir), F_OK), -1);
}

static void a_link_in_the_place_of_a_file_is_replaced_not_followed(void **state)
{
	struct rig *r = *state;
	struct rig_result x;
	struct stat st;
	FILE *f = fopen(fmt("%s/victim", r->dir), "w");

	fputs("mine", f);
	fclose(f);
	assert_int_equal(symlink("../victim", fmt("%s/out.txt", r->files)), 0);
	do_file(r, "file.write", "{\"path\":\"out.txt\",\"text\":\"new\"}", &x);
	rig_expect(&x, WIRE_DONE);
	rig_result_done(&x);
	assert_int_equal(lstat(fmt("%s/out.txt", r->files), &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(stat(fmt("%s/victim", r->dir), &st), 0);
	assert_int_equal(st.st_size, 4);
}

static void odd_and_large_files_are_refused(void **state)
{
	struct rig *r = *state;
	struct rig_result x;

	assert_int_equal(mkfifo(fmt("%s/pipe", r->files), 0644), 0);
	do_file(r, "file.read", "{\"path\":\"pipe\"}", &x);
	rig_problem(&x, WIRE_FAILED, "failed", "regular");
	rig_result_done(&x);
	do_file(r, "file.write", "{\"path\":\"big\",\"text\":\"0123456789\"}", &x);
	rig_result_done(&x);
	do_file(r, "file.read", "{\"path\":\"big\",\"max_bytes\":9}", &x);
	rig_problem(&x, WIRE_FAILED, "failed", "limit");
	rig_result_done(&x);
	do_file(r, "file.read", "{\"path\":\"none\"}", &x);
	rig_problem(&x, WIRE_FAILED, "not_found", "no such file");
	rig_result_done(&x);
}

static void failures_end_after_the_times_asked_for(void **state)
{
	static const struct {
		const char *kind;
		unsigned outcome;
	} kinds[] = {{"failed", WIRE_FAILED}, {"retry", WIRE_RETRY}, {"unknown", WIRE_UNKNOWN}};
	struct rig *r = *state;
	struct rig_result x;

	for (size_t i = 0; i < 3; i++) {
		const struct rig_effect e = {.action = "test.fail",
			.key = kinds[i].kind,
			.args = fmt("{\"kind\":\"%s\",\"times\":2,\"retry_after_ms\":70}", kinds[i].kind)};

		for (int n = 0; n < 2; n++) {
			rig_do(r, &e, &x);
			rig_expect(&x, kinds[i].outcome);
			assert_int_equal(x.retry_after_ms, 70);
			rig_result_done(&x);
		}
		rig_do(r, &e, &x);
		rig_expect(&x, WIRE_DONE);
		assert_int_equal(rig_int(&x, "attempts"), 3);
		rig_result_done(&x);
	}
}

static void slow_calls_do_not_hold_others_and_can_be_cut(void **state)
{
	struct rig *r = *state;
	uint64_t slow, timed, cancelled;
	struct rig_result x;

	cancelled = rig_send(r, &(struct rig_effect){.action = "test.slow", .args = "{\"ms\":500000}"});
	slow = rig_send(r, &(struct rig_effect){.action = "test.slow", .args = "{\"ms\":300}"});
	rig_do(r, &(struct rig_effect){.action = "test.echo", .args = "{}"}, &x);
	rig_result_done(&x);
	assert_int_equal(rig_take(r, &x), slow);
	rig_expect(&x, WIRE_DONE);
	rig_result_done(&x);
	timed = rig_send(
		r, &(struct rig_effect){.action = "test.slow", .args = "{\"ms\":500000}", .timeout_ms = 50});
	assert_int_equal(rig_take(r, &x), timed);
	rig_problem(&x, WIRE_RETRY, "timeout", "50 ms");
	rig_result_done(&x);
	rig_cancel(r, cancelled);
	assert_int_equal(rig_take(r, &x), cancelled);
	rig_problem(&x, WIRE_FAILED, "cancelled", "cancelled");
	rig_result_done(&x);
	rig_cancel(r, 999); /* nobody's: no answer */
}

/* --- ledger --- */

static size_t lines_of(const char *path)
{
	size_t len, n = 0;
	char *text = slurp(path, &len);

	for (size_t i = 0; i < len; i++)
		n += text[i] == '\n';
	free(text);
	return n;
}

struct judge {
	struct rig *r;
	struct standin s;
	char file[128], config[128];
};

static void judge_start(struct judge *j, struct rig *r)
{
	const char *argv[] = {"--file", j->file, NULL};

	j->r = r;
	snprintf(j->file, sizeof(j->file), "%s/ledger", r->dir);
	standin_start(&j->s, "ledger.py", argv);
	snprintf(j->config, sizeof(j->config), "{\"test\":{\"ledger\":\"127.0.0.1:%u\"}}", j->s.port);
}

static void put(
	struct judge *j, const char *action, const char *key, const char *args, struct rig_result *ret)
{
	const struct rig_effect e = {.action = action,
		.key = key,
		.args = args,
		.config = j->config,
		.timeout_ms = strstr(args, "delay") ? 400 : 30000};

	rig_do(j->r, &e, ret);
}

static void the_ledger_counts_each_class(void **state)
{
	static const char *const actions[] = {"test.idempotent", "test.lookup", "test.once"};
	struct rig_result x;
	struct judge j;

	judge_start(&j, *state);
	for (int i = 0; i < 2; i++) { /* twice the same key */
		for (size_t a = 0; a < 3; a++) {
			put(&j, actions[a], "k1", "{\"value\":1}", &x);
			rig_expect(&x, WIRE_DONE);
			assert_int_equal(rig_int(&x, "value"), 1);
			rig_result_done(&x);
		}
	}
	assert_int_equal(lines_of(j.file), 4); /* once: both */
	standin_stop(&j.s);
	put(&j, "test.once", "k2", "{\"value\":8}", &x);
	rig_problem(&x, WIRE_RETRY, "unreachable", "nothing accepts");
	rig_result_done(&x);
	assert_int_equal(lines_of(j.file), 4);
}

/* What the ledger did and what can be told from here are two things. */
static void a_lost_answer_is_never_taken_for_a_no(void **state)
{
	static const struct {
		const char *action, *key, *args;
		unsigned outcome;
		size_t lines;
	} cases[] = {
		{"test.once", "k2", "{\"die\":\"after\",\"value\":2}", WIRE_UNKNOWN, 1},
		{"test.lookup", "k3", "{\"die\":\"after\",\"value\":3}", WIRE_UNKNOWN, 2},
		{"test.once", "k5", "{\"die\":\"before\",\"value\":5}", WIRE_UNKNOWN, 2},
		{"test.once", "k6", "{\"delay_ms\":30000,\"value\":6}", WIRE_UNKNOWN, 3},
		{"test.read", "k7", "{\"die\":\"after\",\"value\":7}", WIRE_RETRY, 4},
	};
	struct rig_result x;
	struct judge j;

	judge_start(&j, *state);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		put(&j, cases[i].action, cases[i].key, cases[i].args, &x);
		rig_expect(&x, cases[i].outcome);
		rig_result_done(&x);
		assert_int_equal(lines_of(j.file), cases[i].lines);
	}
	rig_do(j.r,
		&(struct rig_effect){.mode = 1,
			.action = "test.lookup",
			.key = "k3",
			.args = "{\"value\":3}",
			.config = j.config},
		&x);
	rig_expect(&x, WIRE_DONE);
	assert_int_equal(rig_int(&x, "value"), 3);
	rig_result_done(&x);
	rig_do(j.r,
		&(struct rig_effect){.mode = 1,
			.action = "test.lookup",
			.key = "k4",
			.args = "{\"value\":4}",
			.config = j.config},
		&x);
	rig_expect(&x, WIRE_NOT_FOUND);
	rig_result_done(&x);
	standin_stop(&j.s);
}

/* --- the web --- */

#define OPEN "{\"http\":{\"allow_private\":true}}"

static void get(
	struct rig *r, const struct standin *s, const char *path, const char *more, struct rig_result *ret)
{
	const char *args = fmt("{\"url\":\"http://127.0.0.1:%u%s\"%s}", s->port, path, more);

	rig_do(r, &(struct rig_effect){.action = "http.get", .args = args, .config = OPEN}, ret);
}

static void pages_come_with_status_headers_and_body(void **state)
{
	struct rig *r = *state;
	struct rig_result x;
	struct standin s;
	const char *none[] = {NULL};

	standin_start(&s, "web.py", none);
	get(r, &s, "/ok", "", &x);
	rig_expect(&x, WIRE_DONE);
	assert_int_equal(rig_int(&x, "status"), 200);
	assert_string_equal(rig_text(&x, "body"), "ok");
	assert_true(base_str_is(
		base_jv_str(base_jv_get(base_jv_get(x.value, "headers"), "content-type")), "text/plain"));
	rig_result_done(&x);
	get(r, &s, "/repeated", "", &x);
	assert_true(
		base_str_is(base_jv_str(base_jv_get(base_jv_get(x.value, "headers"), "x-many")), "one, two"));
	rig_result_done(&x);
	get(r, &s, "/status/404", "", &x);
	rig_expect(&x, WIRE_DONE);
	assert_int_equal(rig_int(&x, "status"), 404);
	rig_result_done(&x);
	get(r, &s, "/redirect/ok", "", &x);
	rig_expect(&x, WIRE_DONE);
	assert_int_equal(rig_int(&x, "status"), 302);
	rig_result_done(&x);
	get(r, &s, "/binary", "", &x);
	rig_expect(&x, WIRE_DONE);
	assert_true(base_jv_bool(base_jv_get(x.value, "base64"), false));
	rig_result_done(&x);
	get(r, &s, "/echo", ",\"headers\":{\"X-Mine\":\"yes\"}", &x);
	assert_non_null(strstr(rig_text(&x, "body"), "\"x-mine\": \"yes\""));
	rig_result_done(&x);
	standin_stop(&s);
}

/* No answer is asked for compressed, and what comes so is taken as the bytes that it is: nothing grows. */
static void fault_64_a_bomb_is_not_inflated(void **state)
{
	struct rig *r = *state;
	struct rig_result x;
	struct standin s;
	const char *none[] = {NULL};

	standin_start(&s, "web.py", none);
	get(r, &s, "/echo", "", &x);
	assert_null(strstr(rig_text(&x, "body"), "accept-encoding"));
	rig_result_done(&x);
	get(r, &s, "/bomb/64", ",\"max_bytes\":100000", &x);
	rig_expect(&x, WIRE_DONE);
	assert_true(base_jv_bool(base_jv_get(x.value, "base64"), false));
	assert_true(strlen(rig_text(&x, "body")) < 100000);
	rig_result_done(&x);
	standin_stop(&s);
}

static void what_goes_wrong_on_the_web_is_told_apart(void **state)
{
	struct rig *r = *state;
	struct rig_result x;
	struct standin s;
	const char *none[] = {NULL};

	standin_start(&s, "web.py", none);
	get(r, &s, "/status/429", "", &x);
	rig_problem(&x, WIRE_RETRY, "status", "too many requests");
	assert_int_equal(x.retry_after_ms, 2000);
	assert_int_equal(rig_int(&x, "status"), 429);
	rig_result_done(&x);
	get(r, &s, "/status/500", "", &x);
	rig_problem(&x, WIRE_RETRY, "status", "500");
	rig_result_done(&x);
	get(r, &s, "/big/5000", ",\"max_bytes\":4000", &x);
	rig_problem(&x, WIRE_FAILED, "too_large", "4000");
	rig_result_done(&x);
	get(r, &s, "/drop", "", &x);
	rig_problem(&x, WIRE_RETRY, "broken", "127.0.0.1");
	rig_result_done(&x);
	get(r, &s, "/half", "", &x);
	rig_expect(&x, WIRE_RETRY);
	rig_result_done(&x);
	get(r, &s, "/ok", ",\"headers\":{\"X-A\":\"b\\r\\nHost: evil\"}", &x);
	rig_problem(&x, WIRE_FAILED, "invalid", "line breaks");
	rig_result_done(&x);
	get(r, &s, "/ok", ",\"headers\":{\"Host\":\"evil\"}", &x);
	rig_problem(&x, WIRE_FAILED, "invalid", "not the caller's");
	rig_result_done(&x);
	rig_do(r,
		&(struct rig_effect){.action = "http.get",
			.config = OPEN,
			.timeout_ms = 300,
			.args = fmt("{\"url\":\"http://127.0.0.1:%u/hang\"}", s.port)},
		&x);
	rig_problem(&x, WIRE_RETRY, "timeout", "127.0.0.1");
	rig_result_done(&x);
	rig_do(r,
		&(struct rig_effect){.action = "http.get",
			.config = OPEN,
			.args = "{\"url\":\"http://no.such.host.invalid/\"}"},
		&x);
	rig_problem(&x, WIRE_RETRY, "unreachable", "no.such.host.invalid");
	rig_result_done(&x);
	rig_do(r,
		&(struct rig_effect){
			.action = "http.get", .config = OPEN, .args = "{\"url\":\"file:///etc/passwd\"}"},
		&x);
	rig_expect(&x, WIRE_FAILED);
	rig_result_done(&x);
	standin_stop(&s);
}

static void fault_54_ssrf_private_addresses_are_not_reached(void **state)
{
	struct rig *r = *state;
	struct rig_result x;
	struct standin s;
	const char *none[] = {NULL};
	const char *hosts[] = {"127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "0x7f000001",
		"0177.0.0.1", "[::ffff:127.0.0.1]", "127.1", "[64:ff9b::7f00:1]", "10.0.0.1",
		"169.254.169.254", "[fe80::1]", "[fd00::1]"};

	standin_start(&s, "web.py", none);
	get(r, &s, "/ok", "", &x); /* leaves a connection that could be taken again */
	rig_expect(&x, WIRE_DONE);
	rig_result_done(&x);
	for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
		rig_do(r,
			&(struct rig_effect){.action = i % 2 ? "feed.read" : "http.get",
				.args = fmt("{\"url\":\"http://%s:%u/ok\"}", hosts[i], s.port)},
			&x);
		if (x.outcome != WIRE_FAILED)
			fail_msg("%s: outcome %u: %s", hosts[i], x.outcome, rig_text(&x, "message"));
		rig_problem(&x, WIRE_FAILED, "denied", "not public");
		rig_result_done(&x);
	}
	standin_stop(&s);
}

/* A redirect is an answer, not an order: the address behind it is never contacted, whatever it is. */
static void fault_54_ssrf_no_redirect_is_followed(void **state)
{
	struct rig *r = *state;
	struct rig_result x;
	struct standin s;
	const char *none[] = {NULL};

	standin_start(&s, "web.py", none);
	get(r, &s, "/redirect/ok", "", &x);
	rig_expect(&x, WIRE_DONE);
	assert_int_equal(base_jv_int(base_jv_get(x.value, "status"), 0) / 100, 3);
	rig_result_done(&x);
	standin_stop(&s);
}

static void feeds_come_as_bytes_to_be_parsed(void **state)
{
	struct rig *r = *state;
	struct rig_result x;
	struct standin s;
	const char *none[] = {NULL};

	standin_start(&s, "web.py", none);
	rig_do(r,
		&(struct rig_effect){.action = "feed.read",
			.config = OPEN,
			.args = fmt("{\"url\":\"http://127.0.0.1:%u/redirect/feed\"}", s.port)},
		&x);
	rig_expect(&x, WIRE_DONE);
	assert_string_equal(x.parse, "feed");
	assert_true(base_str_starts(base_buf_view(&x.raw), BASE_STR("<?xml")));
	rig_result_done(&x);
	rig_do(r,
		&(struct rig_effect){.action = "feed.read",
			.config = OPEN,
			.args = fmt("{\"url\":\"http://127.0.0.1:%u/status/404\"}", s.port)},
		&x);
	rig_problem(&x, WIRE_FAILED, "status", "404");
	rig_result_done(&x);
	do_file(r, "file.write", "{\"path\":\"feed.xml\",\"text\":\"<rss/>\"}", &x);
	rig_result_done(&x);
	do_file(r, "feed.read", "{\"file\":\"feed.xml\"}", &x);
	rig_expect(&x, WIRE_DONE);
	assert_string_equal(x.parse, "feed");
	assert_int_equal(x.raw.len, 6);
	rig_result_done(&x);
	standin_stop(&s);
}

/* --- the process --- */

static void a_frame_that_is_none_ends_the_process(void **state)
{
	struct rig r;
	int status;

	(void)state;
	rig_start(&r, "");
	base_buf_cstr(wire_conn_begin(r.wire, WIRE_EFFECT), "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
	assert_int_equal(wire_conn_end(r.wire), 0);
	assert_int_equal(wire_conn_flush(r.wire), 0);
	assert_int_equal(waitpid(r.pid, &status, 0), r.pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	wire_conn_free(r.wire);
	assert_int_equal(system(fmt("rm -rf '%s'", r.dir)), 0);
}

static void it_ends_with_the_engine(void **state)
{
	struct rig r;
	int status;

	(void)state;
	rig_start(&r, "");
	rig_send(&r, &(struct rig_effect){.action = "test.slow", .args = "{\"ms\":500000}"});
	wire_conn_free(r.wire);
	assert_int_equal(waitpid(r.pid, &status, 0), r.pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(system(fmt("rm -rf '%s'", r.dir)), 0);
}

static void stop_lets_calls_in_flight_finish(void **state)
{
	struct rig r;
	struct rig_result x;

	(void)state;
	rig_start(&r, "");
	rig_send(&r, &(struct rig_effect){.action = "test.slow", .args = "{\"ms\":200}"});
	wire_stop_put(wire_conn_begin(r.wire, WIRE_STOP), &(struct wire_stop){0});
	assert_int_equal(wire_conn_end(r.wire), 0);
	assert_int_equal(wire_conn_flush(r.wire), 0);
	rig_take(&r, &x);
	rig_expect(&x, WIRE_DONE);
	rig_result_done(&x);
	waitpid(r.pid, NULL, 0);
	wire_conn_free(r.wire);
	assert_int_equal(system(fmt("rm -rf '%s'", r.dir)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(hello_names_the_sandbox, setup, teardown),
		cmocka_unit_test_setup_teardown(echo_answers_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(
			unknown_actions_and_bad_arguments_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(files_come_back_as_written, setup, teardown),
		cmocka_unit_test_setup_teardown(bytes_that_are_no_text_come_in_base64, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_outside_of_files_is_reached, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_link_in_the_place_of_a_file_is_replaced_not_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(odd_and_large_files_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(failures_end_after_the_times_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(
			slow_calls_do_not_hold_others_and_can_be_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(the_ledger_counts_each_class, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lost_answer_is_never_taken_for_a_no, setup, teardown),
		cmocka_unit_test_setup_teardown(pages_come_with_status_headers_and_body, setup, teardown),
		cmocka_unit_test_setup_teardown(fault_64_a_bomb_is_not_inflated, setup, teardown),
		cmocka_unit_test_setup_teardown(what_goes_wrong_on_the_web_is_told_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(
			fault_54_ssrf_private_addresses_are_not_reached, setup, teardown),
		cmocka_unit_test_setup_teardown(fault_54_ssrf_no_redirect_is_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(feeds_come_as_bytes_to_be_parsed, setup, teardown),
		cmocka_unit_test(a_frame_that_is_none_ends_the_process),
		cmocka_unit_test(it_ends_with_the_engine),
		cmocka_unit_test(stop_lets_calls_in_flight_finish),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
