/* Pieces of aiosd: what a spawned process gets, sessions, and the rule that nothing leaves before it is
 * durable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine_int.h"
#include "token/token.h"
#include "wire/outcome.h"

/* --- spawn --- */

/* Runs a shell line as a spawned process and returns what it writes to its socket. */
static char *spawned(const char *line, int listen_fd, int *ret_status)
{
	const char *argv[] = {"sh", "-c", line, NULL};
	struct engine_spawn s = {.exe = "/bin/sh", .argv = argv, .listen_fd = listen_fd};
	struct base_err err;
	char *text = calloc(1, 65536);
	size_t have = 0;
	int pidfd, fd;
	ssize_t n;
	pid_t pid;

	assert_non_null(text);
	assert_int_equal(engine_spawn(&s, &pid, &pidfd, &fd, &err), 0);
	while ((n = read(fd, text + have, 65535 - have)) > 0)
		have += (size_t)n;
	assert_int_equal(waitpid(pid, ret_status, 0), pid);
	close(pidfd);
	close(fd);
	return text;
}

static void test_spawn_descriptors(void **state)
{
	int open_fd = open("/etc/passwd", O_RDONLY), status; /* without O_CLOEXEC: it must not get through */
	char *text;

	(void)state;
	assert_true(open_fd > 2);
	/* 9 and up are the shell's own while it expands the pattern. */
	text = spawned("cd /proc/$$/fd && for f in 0 1 2 3 4 5 6 7 8 20 50; do [ -e $f ] && echo -n \"$f \"; "
		       "done >&3",
		-1, &status);
	assert_string_equal(text, "0 1 2 3 ");
	free(text);
	text = spawned("cd /proc/$$/fd && for f in 3 4 5 6 7 8; do [ -e $f ] && echo -n \"$f \"; done >&3",
		open_fd, &status);
	assert_string_equal(text, "3 4 ");
	free(text);
	close(open_fd);
}

static void test_spawn_environment(void **state)
{
	int status;
	char *text;

	(void)state;
	setenv("SECRET_THING", "x", 1);
	text = spawned(
		"/usr/bin/env | /bin/grep -v '^_=\\|^PWD=\\|^SHLVL=\\|^OLDPWD=' >&3; exit 7", -1, &status);
	assert_string_equal(text, "TZ=UTC\n");
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	free(text);
}

static void test_spawn_missing(void **state)
{
	const char *argv[] = {"nothing", NULL};
	struct engine_spawn s = {.exe = "/nonexistent/aios-nothing", .argv = argv, .listen_fd = -1};
	struct base_err err;
	int pidfd, fd;
	pid_t pid;

	(void)state;
	assert_int_equal(engine_spawn(&s, &pid, &pidfd, &fd, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/aios-nothing"));
}

/* --- sessions --- */

static unsigned session(struct engine *e, const char *action, const char *args, struct base_buf *ret)
{
	unsigned outcome = 0;
	uint8_t labels = 0;

	base_buf_clear(ret);
	engine_session_call(e, base_str_of(action), base_str_of(args), &labels, &outcome, ret);
	return outcome;
}

static void test_sessions(void **state)
{
	struct engine e = {.mono = 1000};
	struct base_buf b;

	(void)state;
	base_buf_init(&b, 4 << 20);
	assert_int_equal(session(&e, "session.get", "{\"id\":\"a\"}", &b), WIRE_DONE);
	assert_true(base_str_is(base_buf_view(&b), "null"));
	assert_int_equal(session(&e, "session.put", "{\"id\":\"a\",\"ttl_ms\":50,\"value\":{\"n\":1}}", &b),
		WIRE_DONE);
	assert_int_equal(session(&e, "session.put", "{\"id\":\"b\",\"value\":2}", &b), WIRE_DONE);
	session(&e, "session.get", "{\"id\":\"a\"}", &b);
	assert_true(base_str_is(base_buf_view(&b), "{\"n\":1}"));
	e.mono += 50;
	session(&e, "session.get", "{\"id\":\"a\"}", &b);
	assert_true(base_str_is(base_buf_view(&b), "null"));
	session(&e, "session.get", "{\"id\":\"b\"}", &b);
	assert_true(base_str_is(base_buf_view(&b), "2"));
	base_buf_done(&b);
	engine_sessions_done(&e);
}

/* The cap holds; what was used last stays. */
static void test_sessions_cap(void **state)
{
	struct engine e = {.mono = 1000};
	struct base_buf b, args;
	unsigned kept = 0;

	(void)state;
	base_buf_init(&b, 4 << 20);
	base_buf_init(&args, 4 << 20);
	session(&e, "session.put", "{\"id\":\"first\",\"value\":1}", &b);
	for (int i = 0; i < 40; i++) {
		base_buf_clear(&args);
		base_buf_printf(&args, "{\"id\":\"s%d\",\"value\":\"", i);
		for (int n = 0; n < 900000; n++)
			base_buf_char(&args, 'x');
		base_buf_cstr(&args, "\"}");
		base_buf_char(&args, '\0');
		assert_int_equal(session(&e, "session.put", args.ptr, &b), WIRE_DONE);
		session(&e, "session.get", "{\"id\":\"first\"}", &b);
		assert_true(base_str_is(base_buf_view(&b), "1"));
	}
	for (int i = 0; i < 40; i++) {
		base_buf_clear(&args);
		base_buf_printf(&args, "{\"id\":\"s%d\"}", i);
		base_buf_char(&args, '\0');
		session(&e, "session.get", args.ptr, &b);
		kept += b.len > 10;
	}
	assert_true(kept > 10 && kept < 20);
	base_buf_done(&args);
	base_buf_done(&b);
	engine_sessions_done(&e);
}

/* --- commits --- */

struct seen {
	struct engine_out out;
	unsigned released, discarded;
	uint64_t durable_then;
};

static void on_release(struct engine *e, struct engine_out *o)
{
	struct seen *s = (struct seen *)o;

	s->released++;
	s->durable_then = e->durable;
}

static void on_discard(struct engine *e, struct engine_out *o, int code)
{
	(void)e;
	(void)code;
	((struct seen *)o)->discarded++;
}

static struct seen seen_new(void)
{
	return (struct seen){.out = {.release = on_release, .discard = on_discard}};
}

/* An engine without processes, on a log in memory. */
static void open_engine(struct engine *e)
{
	struct base_err err = {0};

	memset(e, 0, sizeof(*e));
	e->mono = engine_mono_ms();
	e->epfd = epoll_create1(EPOLL_CLOEXEC);
	e->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	assert_int_equal(base_heap_new(&e->timers), 0);
	assert_int_equal(base_arena_new(64 << 20, &e->arena), 0);
	assert_int_equal(engine_flows_init(e), 0);
	assert_int_equal(engine_effects_init(e), 0);
	assert_int_equal(engine_api_init(e), 0);
	assert_int_equal(base_idmap_new(&e->asks), 0);
	assert_int_equal(log_open_memory(&e->log, &err), 0);
	assert_int_equal(engine_commit_init(e, &err), 0);
	assert_int_equal(engine_recover(e, &err), 0);
	engine_commit_wait(e);
}

static void close_engine(struct engine *e)
{
	engine_commit_done(e);
	engine_flows_done(e);
	engine_effects_done(e);
	engine_api_done(e);
	engine_asks_done(e);
	base_json_free(e->config);
	engine_reads_forget(e);
	log_reader_free(e->reader);
	log_reader_free(e->body_reader);
	log_close(e->log);
	core_free(e->core);
	base_arena_free(e->arena);
	base_heap_free(e->timers);
	close(e->epfd);
	close(e->timerfd);
}

static struct core_reply put_fact(struct engine *e, const char *key, struct base_str value)
{
	struct core_cmd cmd = {.type = CORE_CMD_FACT_PUT,
		.by = {.id = BASE_STR("operator")},
		.name = base_str_of(key),
		.body = value,
		.base = -1};
	struct core_reply r;

	assert_int_equal(engine_decide(e, &cmd, &r), 0);
	return r;
}

static void test_output_waits_for_commit(void **state)
{
	struct seen first = seen_new(), second = seen_new();
	struct engine e;
	uint64_t before;

	(void)state;
	open_engine(&e);
	before = e.durable;
	assert_true(before >= 1); /* engine_started */
	assert_true(put_fact(&e, "a", BASE_STR("1")).status < 300);
	engine_after_commit(&e, &first.out);
	assert_int_equal(first.released, 0);
	assert_int_equal(e.seq, before + 1);
	assert_int_equal(e.durable, before);
	engine_commit_start(&e, false);
	/* Decided while the commit runs: it belongs to the next. */
	put_fact(&e, "b", BASE_STR("2"));
	engine_after_commit(&e, &second.out);
	assert_int_equal(second.released, 0);
	engine_commit_wait(&e);
	assert_int_equal(first.released, 1);
	assert_int_equal(second.released, 1);
	assert_true(first.durable_then >= before + 1);
	assert_true(second.durable_then >= before + 2);
	/* Nothing is open: at once. */
	first = seen_new();
	engine_after_commit(&e, &first.out);
	assert_int_equal(first.released, 1);
	assert_int_equal(log_last_seq(e.log), e.seq);
	close_engine(&e);
}

/* A refusal leaves no event, and an event is read back wherever it stands: pending, in flight, in the log. */
static void test_reading_the_tail(void **state)
{
	struct core_record rec;
	struct base_str blob;
	struct engine e;
	struct base_buf big;
	uint64_t seq;

	(void)state;
	open_engine(&e);
	base_buf_init(&big, 1 << 20);
	base_buf_char(&big, '"');
	for (int i = 0; i < 200000; i++)
		base_buf_char(&big, 'y');
	base_buf_char(&big, '"');
	put_fact(&e, "big", base_buf_view(&big));
	seq = e.seq;
	for (int round = 0; round < 3; round++) {
		assert_int_equal(engine_read_blob(&e, seq, &rec, &blob), 0);
		assert_int_equal(rec.type, CORE_EV_FACT_PUT);
		assert_true(base_str_eq(blob, base_buf_view(&big)));
		if (round == 0)
			engine_commit_start(&e, true);
		if (round == 1)
			engine_commit_wait(&e);
	}
	assert_int_equal(engine_read_event(&e, seq + 1, &rec), -ENOENT);
	assert_int_equal(engine_read_event(&e, 0, &rec), -ENOENT);
	base_buf_done(&big);
	close_engine(&e);
}

static void test_fold_from_zero(void **state)
{
	struct base_err err = {0};
	struct core *copy;
	struct base_hash a, b;
	struct engine e;
	char key[16];

	(void)state;
	open_engine(&e);
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "k/%d", i % 50);
		put_fact(&e, key, BASE_STR("{\"v\":1}"));
		if (i % 7 == 0)
			engine_commit_start(&e, true);
	}
	engine_commit_wait(&e);
	assert_int_equal(engine_core_new(&copy, &err), 0);
	assert_int_equal(engine_fold(copy, e.reader, 0, e.seq, &err), 0);
	a = core_state_hash(e.core);
	b = core_state_hash(copy);
	assert_true(base_hash_eq(&a, &b));
	assert_int_equal(engine_fold(copy, e.reader, e.seq, e.seq + 1, &err), -EUCLEAN);
	core_free(copy);
	close_engine(&e);
}

/* --- keys --- */

static int as_bearer(struct engine *e, struct engine_req *q, struct base_str token)
{
	struct wire_door_request in = {.credential = 2, .token = token};

	free(q->by_caveats);
	memset(q, 0, sizeof(*q));
	return engine_authenticate(e, q, &in);
}

static void narrow(const char *text, size_t len, const char *caveats, uint8_t seed, struct base_buf *ret)
{
	uint8_t next[TOKEN_SEED];
	struct base_json *doc;
	struct base_err err;
	struct token t;

	memset(next, seed, sizeof(next));
	base_buf_clear(ret);
	assert_int_equal(token_read((struct base_str){text, len}, &t, &err), 0);
	assert_int_equal(base_json_parse(base_str_of(caveats), &doc, &err), 0);
	assert_int_equal(token_attenuate(&t, base_json_root(doc), next, ret, &err), 0);
	base_json_free(doc);
	token_done(&t);
}

static void decide_key(struct engine *e, struct core_cmd cmd, int status)
{
	struct core_reply r;

	cmd.by = (struct core_caller){.id = BASE_STR("operator")};
	cmd.name = BASE_STR("ci");
	assert_int_equal(engine_decide(e, &cmd, &r), 0);
	assert_int_equal(r.status, status);
}

static void test_keys(void **state)
{
	uint8_t seed[TOKEN_SEED], tag[TOKEN_TAG], public[32], secret[64];
	struct core_cmd add = {.type = CORE_CMD_KEY_ADD,
		.body = BASE_STR("{\"kind\":\"service\",\"grants\":[\"api.*\"]}"),
		.bytes = {(const char *)public, 32}};
	struct base_buf plain, chain;
	struct engine_req q = {0};
	struct engine e;

	(void)state;
	open_engine(&e);
	memset(seed, 3, sizeof(seed));
	crypto_sign_seed_keypair(public, secret, seed);
	engine_keys_tag(&e, tag);
	base_buf_init(&plain, 1024);
	base_buf_init(&chain, 1 << 16);
	token_put(seed, tag, &plain);
	assert_int_equal(as_bearer(&e, &q, base_buf_view(&plain)), 401);
	decide_key(&e, add, 201);
	for (int i = 0; i < 2; i++) { /* the second is remembered */
		assert_int_equal(as_bearer(&e, &q, base_buf_view(&plain)), 0);
		assert_true(base_str_is(q.by.id, "key/ci"));
		assert_true(core_may(e.core, &q.by, BASE_STR("api.freeze"), engine_wall_ms()));
	}
	/* Narrowed: only what the block still allows. */
	narrow(plain.ptr, plain.len, "{\"grants\":[\"api.runs\"]}", 7, &chain);
	assert_int_equal(as_bearer(&e, &q, base_buf_view(&chain)), 0);
	assert_true(base_str_is(q.by.id, "key/ci"));
	assert_true(core_may(e.core, &q.by, BASE_STR("api.runs"), engine_wall_ms()));
	assert_false(core_may(e.core, &q.by, BASE_STR("api.freeze"), engine_wall_ms()));
	/* A revoked key takes its chains with it, at once. */
	decide_key(&e, (struct core_cmd){.type = CORE_CMD_KEY_REVOKE}, 200);
	assert_int_equal(as_bearer(&e, &q, base_buf_view(&chain)), 401);
	assert_int_equal(as_bearer(&e, &q, base_buf_view(&plain)), 401);
	free(q.by_caveats);
	base_buf_done(&plain);
	base_buf_done(&chain);
	engine_keys_done(&e);
	close_engine(&e);
}

/* A key whose public half this workspace knows, but which was made for another, is as good as none. */
static void test_fault_51_wrong_audience(void **state)
{
	uint8_t seed[TOKEN_SEED], tag[TOKEN_TAG], public[32], secret[64];
	struct base_buf plain, chain;
	struct engine_req q = {0};
	struct engine e;

	(void)state;
	open_engine(&e);
	memset(seed, 3, sizeof(seed));
	crypto_sign_seed_keypair(public, secret, seed);
	decide_key(&e,
		(struct core_cmd){.type = CORE_CMD_KEY_ADD,
			.body = BASE_STR("{\"grants\":[\"api.*\"]}"),
			.bytes = {(const char *)public, 32}},
		201);
	base_buf_init(&plain, 1024);
	base_buf_init(&chain, 1 << 16);
	for (int i = 0; i < TOKEN_TAG; i++) {
		engine_keys_tag(&e, tag);
		tag[i] ^= 1;
		base_buf_clear(&plain);
		token_put(seed, tag, &plain);
		assert_int_equal(as_bearer(&e, &q, base_buf_view(&plain)), 401);
		narrow(plain.ptr, plain.len, "{}", 9, &chain);
		assert_int_equal(as_bearer(&e, &q, base_buf_view(&chain)), 401);
	}
	/* The right one is taken also after all these. */
	tag[TOKEN_TAG - 1] ^= 1;
	base_buf_clear(&plain);
	token_put(seed, tag, &plain);
	assert_int_equal(as_bearer(&e, &q, base_buf_view(&plain)), 0);
	free(q.by_caveats);
	base_buf_done(&plain);
	base_buf_done(&chain);
	engine_keys_done(&e);
	close_engine(&e);
}

/* A wall clock that is set by a year fires nothing early and lets nothing expired live again. */
static void test_clock_jumps(void **state)
{
	static const int64_t start = 1700000000000, year = 365LL * 86400000;
	struct engine_clock k = {0};

	(void)state;
	assert_int_equal(engine_clock_follow(&k, start, 5000), start);
	assert_int_equal(engine_clock_follow(&k, start + 1000, 6000), start + 1000);
	assert_int_equal(engine_clock_follow(&k, start + 32000, 7000), start + 32000); /* corrected */
	assert_int_equal(engine_clock_follow(&k, start + year, 8000), start + 33000);
	assert_true(k.jumped);
	assert_int_equal(engine_clock_follow(&k, start - year, 9000), start + 34000);
	assert_int_equal(engine_clock_follow(&k, start + 35000, 10000), start + 35000);
	assert_false(k.jumped);
}

/* Answers of a life that is over are let pass, as many as there are; those of the next are heard. */
static void test_stale_answers(void **state)
{
	struct engine_worker w = {0};

	(void)state;
	assert_false(engine_stale(&w, 7, WIRE_FLOW_IDLE));
	engine_stale_add(&w, 7, 2); /* dropped with two frames unanswered, and again with one */
	engine_stale_add(&w, 8, 1);
	engine_stale_add(&w, 7, 1);
	assert_true(engine_stale(&w, 7, WIRE_FLOW_CALL));
	assert_true(engine_stale(&w, 7, WIRE_FLOW_IDLE));
	assert_false(engine_stale(&w, 9, WIRE_FLOW_CALL));
	assert_true(engine_stale(&w, 7, WIRE_FLOW_IDLE)); /* the first life has said all */
	assert_true(engine_stale(&w, 7, WIRE_FLOW_CALL));
	assert_true(engine_stale(&w, 7, WIRE_FLOW_IDLE));
	assert_false(engine_stale(&w, 7, WIRE_FLOW_CALL));
	assert_false(engine_stale(&w, 7, WIRE_FLOW_IDLE));
	assert_true(engine_stale(&w, 8, WIRE_FLOW_CALL));
	engine_stale_add(&w, 8, 5);
	assert_true(
		engine_stale(&w, 8, WIRE_FLOW_DONE)); /* a life that ends by itself answers nothing more */
	assert_true(engine_stale(&w, 8, WIRE_FLOW_FAILED));
	assert_false(engine_stale(&w, 8, WIRE_FLOW_DONE));
	free(w.stale);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spawn_descriptors),
		cmocka_unit_test(test_spawn_environment),
		cmocka_unit_test(test_spawn_missing),
		cmocka_unit_test(test_sessions),
		cmocka_unit_test(test_sessions_cap),
		cmocka_unit_test(test_output_waits_for_commit),
		cmocka_unit_test(test_reading_the_tail),
		cmocka_unit_test(test_fold_from_zero),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_fault_51_wrong_audience),
		cmocka_unit_test(test_stale_answers),
		cmocka_unit_test(test_clock_jumps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
uint8_t labels = 0;
