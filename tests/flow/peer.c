#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"

static char *text(struct base_str s)
{
	char *p = malloc(s.len + 1);
	assert_non_null(p);
	if (s.len > 0)
		memcpy(p, s.ptr, s.len);
	p[s.len] = '\0';
	return p;
}

static void end(struct peer *p)
{
	assert_int_equal(wire_conn_end(p->conn), 0);
}

void peer_send(struct peer *p)
{
	while (wire_conn_pending(p->conn) > 0) {
		int rc = wire_conn_flush(p->conn);
		if (rc == -EPIPE || rc == -ECONNRESET)
			return;
		if (rc == -EAGAIN)
			usleep(1000);
	}
}

static void send_setup(struct peer *p, const char *config)
{
	struct wire_setup f = {.config = base_str_of(config)};
	wire_setup_put(wire_conn_begin(p->conn, WIRE_SETUP), &f);
	end(p);
}

/* The next frame's body, or type 0 at the end of the stream. */
static unsigned next_frame(struct peer *p, struct base_str *ret)
{
	unsigned type;
	peer_send(p);
	for (;;) {
		int rc = wire_conn_next(p->conn, &type, ret);
		if (rc > 0)
			return type;
		assert_int_equal(rc, 0);
		rc = wire_conn_wait(p->conn, PEER_WAIT_MS);
		if (rc == -EPIPE || rc == -ECONNRESET)
			return 0;
		assert_int_not_equal(rc, -ETIMEDOUT);
	}
}

void peer_open(struct peer *p, const char *config)
{
	int fd[2];
	char path[1000];
	const char *bin = getenv("AIOS_BIN");
	assert_non_null(bin);
	snprintf(path, sizeof(path), "%s/aios-flow", bin);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (p->pid == 0) {
		if (fd[1] == 3)
			fcntl(3, F_SETFD, 0);
		else
			dup2(fd[1], 3);
		execl(path, "aios-flow", (char *)NULL);
		_exit(127);
	}
	close(fd[1]);
	assert_int_equal(wire_conn_new(fd[0], &p->conn), 0);
	struct base_str body;
	struct wire_hello hello;
	assert_int_equal(next_frame(p, &body), WIRE_HELLO);
	assert_int_equal(wire_hello_get(body, &hello), 0);
	assert_true(base_str_is(hello.process, "aios-flow"));
	assert_int_equal(hello.version, wire_frame_version());
	snprintf(p->sandbox, sizeof(p->sandbox), "%.*s", BASE_STR_ARG(hello.sandbox));
	send_setup(p, config ? config : "{}");
}

int peer_reap(struct peer *p)
{
	int status = 0;
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	wire_conn_free(p->conn);
	p->conn = NULL;
	return status;
}

void peer_close(struct peer *p)
{
	struct wire_stop f = {0};
	wire_stop_put(wire_conn_begin(p->conn, WIRE_STOP), &f);
	end(p);
	peer_send(p);
	int status = peer_reap(p);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void put_graph(struct base_buf *b, va_list ap)
{
	struct base_jw w = base_jw_of(b);
	const char *name = va_arg(ap, const char *);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "entry", name);
	base_jw_key(&w, "modules");
	base_jw_obj(&w);
	while (name) {
		const char *source = va_arg(ap, const char *);
		if (source)
			base_jw_mcstr(&w, name, source);
		name = source ? va_arg(ap, const char *) : NULL;
	}
	base_jw_end_obj(&w);
	base_jw_end_obj(&w);
	assert_int_equal(base_buf_failed(b), 0);
}

void peer_graph(struct peer *p, const char *hash, ...)
{
	struct base_buf b;
	base_buf_init(&b, 64 << 20);
	va_list ap;
	va_start(ap, hash);
	put_graph(&b, ap);
	va_end(ap);
	struct wire_flow_version f = {.version = base_str_of(hash), .modules = base_buf_view(&b)};
	wire_flow_version_put(wire_conn_begin(p->conn, WIRE_FLOW_VERSION), &f);
	end(p);
	base_buf_done(&b);
}

void peer_version(struct peer *p, const char *hash, const char *source)
{
	peer_graph(p, hash, "flows/x.js", source, NULL);
}

void peer_inspect(struct peer *p, uint64_t req, ...)
{
	struct base_buf b;
	base_buf_init(&b, 64 << 20);
	va_list ap;
	va_start(ap, req);
	put_graph(&b, ap);
	va_end(ap);
	struct wire_flow_inspect f = {.req = req, .modules = base_buf_view(&b)};
	wire_flow_inspect_put(wire_conn_begin(p->conn, WIRE_FLOW_INSPECT), &f);
	end(p);
	base_buf_done(&b);
}

void peer_start_with(struct peer *p, uint64_t run, const char *hash, const char *input, const char *context,
	int64_t time_ms, uint8_t seed)
{
	char bytes[32];
	memset(bytes, seed, sizeof(bytes));
	struct wire_flow_start f = {.run = run,
		.version = base_str_of(hash),
		.time_ms = time_ms,
		.seed = {bytes, 32},
		.input = base_str_of(input),
		.context = base_str_of(context)};
	wire_flow_start_put(wire_conn_begin(p->conn, WIRE_FLOW_START), &f);
	end(p);
}

void peer_start(struct peer *p, uint64_t run, const char *hash, const char *input, uint32_t replay)
{
	(void)replay;
	peer_start_with(p, run, hash, input, "{\"flow\":\"x\"}", 1000, 7);
}

void peer_result_at(struct peer *p, uint64_t run, uint32_t step, bool ok, const char *value, int64_t time_ms)
{
	struct wire_flow_result f = {
		.run = run, .step = step, .status = !ok, .time_ms = time_ms, .value = base_str_of(value)};
	wire_flow_result_put(wire_conn_begin(p->conn, WIRE_FLOW_RESULT), &f);
	end(p);
}

void peer_result(struct peer *p, uint64_t run, uint32_t step, bool ok, const char *value)
{
	peer_result_at(p, run, step, ok, value, 2000 + step);
}

static void take_call(struct base_str body, struct got *g)
{
	struct wire_flow_call f;
	assert_int_equal(wire_flow_call_get(body, &f), 0);
	g->run = f.run;
	g->step = f.step;
	g->action = text(f.action);
	g->args = text(f.args);
	g->opts = text(f.opts);
}

static void take_end(unsigned type, struct base_str body, struct got *g)
{
	struct wire_flow_done done;
	struct wire_flow_failed failed;
	struct wire_flow_idle idle;
	if (type == WIRE_FLOW_DONE) {
		assert_int_equal(wire_flow_done_get(body, &done), 0);
		g->run = done.run;
		g->step = done.steps;
		g->value = text(done.value);
	} else if (type == WIRE_FLOW_FAILED) {
		assert_int_equal(wire_flow_failed_get(body, &failed), 0);
		g->run = failed.run;
		g->step = failed.steps;
		g->value = text(failed.problem);
	} else {
		assert_int_equal(wire_flow_idle_get(body, &idle), 0);
		g->run = idle.run;
		g->step = idle.steps;
	}
}

struct got peer_next(struct peer *p)
{
	struct got g = {0};
	struct base_str body;
	g.type = next_frame(p, &body);
	if (g.type == WIRE_FLOW_CALL) {
		take_call(body, &g);
	} else if (g.type == WIRE_FLOW_DONE || g.type == WIRE_FLOW_FAILED || g.type == WIRE_FLOW_IDLE) {
		take_end(g.type, body, &g);
	} else if (g.type == WIRE_FLOW_INSPECTED) {
		struct wire_flow_inspected f;
		assert_int_equal(wire_flow_inspected_get(body, &f), 0);
		g.run = f.req;
		g.step = f.ok;
		g.value = text(f.spec);
	} else if (g.type == WIRE_NOTE) {
		struct wire_note f;
		assert_int_equal(wire_note_get(body, &f), 0);
		g.value = text(f.text);
	}
	return g;
}

void peer_got_done(struct got *g)
{
	free(g->action);
	free(g->args);
	free(g->opts);
	free(g->value);
	*g = (struct got){0};
}

static struct got expect(struct peer *p, unsigned type, uint64_t run)
{
	struct got g = peer_next(p);
	if (g.type != type || g.run != run)
		fail_msg("expected %s of %llu, got %s of %llu: %s%s", wire_frame_name(type),
			(unsigned long long)run, g.type ? wire_frame_name(g.type) : "the end",
			(unsigned long long)g.run, g.value ? g.value : "", g.action ? g.action : "");
	return g;
}

void peer_call_is(struct peer *p, uint64_t run, uint32_t step, const char *action, const char *args)
{
	struct got g = expect(p, WIRE_FLOW_CALL, run);
	assert_int_equal(g.step, step);
	assert_string_equal(g.action, action);
	if (args)
		assert_string_equal(g.args, args);
	peer_got_done(&g);
}

void peer_idle_is(struct peer *p, uint64_t run, uint32_t steps)
{
	struct got g = expect(p, WIRE_FLOW_IDLE, run);
	assert_int_equal(g.step, steps);
	peer_got_done(&g);
}

void peer_done_is(struct peer *p, uint64_t run, const char *value)
{
	struct got g = expect(p, WIRE_FLOW_DONE, run);
	if (value)
		assert_string_equal(g.value, value);
	peer_got_done(&g);
}

void peer_failed_is(struct peer *p, uint64_t run, const char *kind, const char *needle)
{
	struct got g = expect(p, WIRE_FLOW_FAILED, run);
	struct base_json *doc;
	struct base_err err;
	if (base_json_parse(base_str_of(g.value), &doc, &err) < 0)
		fail_msg("the problem is not JSON: %s", g.value);
	char *message = text(base_jv_str(base_jv_get(base_json_root(doc), "message")));
	if (!base_str_is(base_jv_str(base_jv_get(base_json_root(doc), "kind")), kind) ||
		!strstr(message, needle))
		fail_msg("expected kind %s, \"%s\": %s", kind, needle, g.value);
	free(message);
	base_json_free(doc);
	peer_got_done(&g);
}

void peer_gives(struct peer *p, const char *source, const char *value)
{
	static uint64_t run = 1 << 20;
	struct base_hash h = base_hash_of(base_str_of(source));
	char hash[65];
	base_hash_hex(&h, hash);
	peer_version(p, hash, source);
	peer_start(p, ++run, hash, "{}", 0);
	peer_done_is(p, run, value);
}
