#include "peer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire/frames.h"
#include "wire/outcome.h"

enum { PATIENCE_MS = 60000 };

void peer_dir(char *ret, size_t size)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(ret, size, "%s/aios-test-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(ret));
}

void peer_remove(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
}

void peer_start_bare(struct peer *p, const char *dir)
{
	const char *bin = getenv("AIOS_BIN");
	char exe[4096];
	int pair[2];

	assert_non_null(bin);
	snprintf(exe, sizeof(exe), "%s/aios-views", bin);
	memset(p, 0, sizeof(*p));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (p->pid == 0) {
		dup2(pair[1], WIRE_FD);
		if (pair[1] == WIRE_FD)
			fcntl(WIRE_FD, F_SETFD, 0);
		execl(exe, "aios-views", dir, (char *)NULL);
		_exit(127);
	}
	close(pair[1]);
	assert_int_equal(wire_conn_new(pair[0], &p->conn), 0);
}

void peer_setup(struct peer *p, const char *dir)
{
	struct wire_setup setup;
	struct base_buf json;
	struct base_jw w;

	base_buf_init(&json, 8192);
	w = base_jw_of(&json);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "dir", dir);
	base_jw_end_obj(&w);
	setup.config = base_buf_view(&json);
	wire_setup_put(wire_conn_begin(p->conn, WIRE_SETUP), &setup);
	assert_int_equal(wire_conn_end(p->conn), 0);
	base_buf_done(&json);
	peer_flush(p);
}

/* One frame: true and what it was; false at the end of the stream. */
static bool next_frame(struct peer *p, unsigned *ret_type, struct base_str *ret_body)
{
	struct wire_views_at at;
	struct wire_hello hello;
	struct wire_note note;
	int r;

	while ((r = wire_conn_next(p->conn, ret_type, ret_body)) == 0) {
		r = wire_conn_wait(p->conn, PATIENCE_MS);
		if (r == -EPIPE || r == -ECONNRESET)
			return false;
		assert_int_equal(r, 0);
	}
	assert_int_equal(r, 1);
	assert_true(wire_frame_permitted(*ret_type, "views", "aiosd"));
	if (*ret_type == WIRE_VIEWS_AT) {
		assert_int_equal(wire_views_at_get(*ret_body, &at), 0);
		p->at = at.seq;
		p->started = true;
	} else if (*ret_type == WIRE_HELLO) {
		assert_int_equal(wire_hello_get(*ret_body, &hello), 0);
		assert_int_equal(hello.version, wire_frame_version());
		assert_true(base_str_is(hello.process, "aios-views"));
		snprintf(p->sandbox, sizeof(p->sandbox), "%.*s", BASE_STR_ARG(hello.sandbox));
	} else if (*ret_type == WIRE_NOTE) {
		assert_int_equal(wire_note_get(*ret_body, &note), 0);
		snprintf(p->note, sizeof(p->note), "%.*s", BASE_STR_ARG(note.text));
	}
	return true;
}

static void must_next(struct peer *p, unsigned *ret_type, struct base_str *ret_body)
{
	if (!next_frame(p, ret_type, ret_body))
		fail_msg("aios-views went away: %s", p->note);
}

void peer_start(struct peer *p, const char *dir)
{
	struct base_str body;
	unsigned type;

	peer_start_bare(p, dir);
	peer_setup(p, dir);
	while (!p->started)
		must_next(p, &type, &body);
	assert_non_null(strstr(p->sandbox, "seccomp"));
}

int peer_wait_exit(struct peer *p)
{
	struct base_str body;
	unsigned type;
	int status;

	while (next_frame(p, &type, &body))
		continue;
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	wire_conn_free(p->conn);
	p->conn = NULL;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void peer_stop(struct peer *p)
{
	struct wire_stop stop = {0};

	wire_stop_put(wire_conn_begin(p->conn, WIRE_STOP), &stop);
	assert_int_equal(wire_conn_end(p->conn), 0);
	peer_flush(p);
	assert_int_equal(peer_wait_exit(p), 0);
}

void peer_kill(struct peer *p)
{
	kill(p->pid, SIGKILL);
	assert_int_equal(peer_wait_exit(p), -1);
}

void peer_block(struct peer *p, uint64_t first_seq, struct base_str block)
{
	struct wire_views_block b = {.first_seq = first_seq, .time_ms = 1, .block = block};

	wire_views_block_put(wire_conn_begin(p->conn, WIRE_VIEWS_BLOCK), &b);
	assert_int_equal(wire_conn_end(p->conn), 0);
}

void peer_body(struct peer *p, struct base_str data)
{
	struct wire_views_body b = {.hash = base_hash_of(data), .body = data};

	wire_views_body_put(wire_conn_begin(p->conn, WIRE_VIEWS_BODY), &b);
	assert_int_equal(wire_conn_end(p->conn), 0);
}

void peer_flush(struct peer *p)
{
	int r;

	while ((r = wire_conn_flush(p->conn)) == -EAGAIN)
		assert_int_equal(wire_conn_wait(p->conn, PATIENCE_MS), 0);
	assert_true(r == 0 || r == -EPIPE);
}

void peer_raw(struct peer *p, const void *data, size_t len)
{
	peer_flush(p);
	assert_int_equal(send(wire_conn_fd(p->conn), data, len, MSG_NOSIGNAL), len);
}

void peer_wait_at(struct peer *p, uint64_t seq)
{
	struct base_str body;
	unsigned type;

	peer_flush(p);
	while (p->at < seq)
		must_next(p, &type, &body);
}

uint64_t peer_send_query(struct peer *p, const char *query, const char *params, uint64_t at_least)
{
	struct wire_views_query q = {.req = ++p->req,
		.query = base_str_of(query),
		.params = base_str_of(params),
		.at_least = at_least};

	wire_views_query_put(wire_conn_begin(p->conn, WIRE_VIEWS_QUERY), &q);
	assert_int_equal(wire_conn_end(p->conn), 0);
	peer_flush(p);
	return q.req;
}

struct base_json *peer_answer(struct peer *p, uint64_t req, bool ok)
{
	struct wire_views_answer a;
	struct base_json *doc;
	struct base_err err;
	struct base_str body;
	unsigned type;

	do
		must_next(p, &type, &body);
	while (type != WIRE_VIEWS_ANSWER);
	assert_int_equal(wire_views_answer_get(body, &a), 0);
	assert_int_equal(a.req, req);
	if ((a.ok != 0) != ok)
		fail_msg("unexpected answer: %.*s", BASE_STR_ARG(a.value));
	if (base_json_parse(a.value, &doc, &err) < 0)
		fail_msg("%s: %.*s", err.text, BASE_STR_ARG(a.value));
	return doc;
}

struct base_json *peer_query(struct peer *p, const char *query, const char *params, uint64_t at_least)
{
	return peer_answer(p, peer_send_query(p, query, params, at_least), true);
}

void peer_dump(struct peer *p, uint64_t at_least, char ret[65])
{
	struct base_json *doc = peer_query(p, "dump", "{}", at_least);
	struct base_jv root = base_json_root(doc);
	struct base_str hash = base_jv_str(base_jv_get(root, "hash"));

	assert_int_equal(hash.len, 64);
	assert_int_equal(base_jv_int(base_jv_get(root, "seq"), -1), at_least);
	memcpy(ret, hash.ptr, 64);
	ret[64] = '\0';
	base_json_free(doc);
}
