#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wire/conn.h"
#include "wire/frames.h"
#include "wire/outcome.h"
#include "wire/secret.h"

enum { PATIENCE_MS = 60000 };

const char *fmt(const char *format, ...)
{
	static char texts[16][65536];
	static unsigned next;
	char *text = texts[next++ % 16];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(texts[0]), format, ap);
	va_end(ap);
	return text;
}

char *slurp(const char *path, size_t *ret_len)
{
	FILE *f = fopen(path, "rb");
	char *text = calloc(1, 4 << 20);

	if (!f)
		fail_msg("%s: %s", path, strerror(errno));
	*ret_len = fread(text, 1, (4 << 20) - 1, f);
	fclose(f);
	return text;
}

static void run_child(int fd, const char *files)
{
	const char *bin = getenv("AIOS_BIN");
	char path[4096];

	snprintf(path, sizeof(path), "%s/aios-connect", bin ? bin : ".");
	dup2(fd, 3);
	execl(path, "aios-connect", files, (char *)NULL);
	fprintf(stderr, "%s: %s\n", path, strerror(errno));
	_exit(127);
}

/* The next frame; fails the test when none comes. */
static unsigned next_frame(struct rig *r, struct base_str *ret)
{
	unsigned type;
	int got;

	while ((got = wire_conn_next(r->wire, &type, ret)) == 0)
		assert_int_equal(wire_conn_wait(r->wire, PATIENCE_MS), 0);
	assert_int_equal(got, 1);
	return type;
}

static void take_hello(struct rig *r)
{
	struct base_str body;
	struct wire_hello hello;

	assert_int_equal(next_frame(r, &body), WIRE_HELLO);
	assert_int_equal(wire_hello_get(body, &hello), 0);
	assert_int_equal(hello.version, wire_frame_version());
	assert_int_equal(hello.public_key.len, 32);
	memcpy(r->public_key, hello.public_key.ptr, 32);
	snprintf(r->sandbox, sizeof(r->sandbox), "%.*s", BASE_STR_ARG(hello.sandbox));
}

static void flush(struct rig *r)
{
	int rc;

	assert_int_equal(wire_conn_end(r->wire), 0);
	while ((rc = wire_conn_flush(r->wire)) == -EAGAIN)
		;
	assert_int_equal(rc, 0);
}

static void start(struct rig *r, const char *members)
{
	const char *config;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	r->pid = fork();
	assert_true(r->pid >= 0);
	if (r->pid == 0)
		run_child(pair[1], r->files);
	close(pair[1]);
	assert_int_equal(wire_conn_new(pair[0], &r->wire), 0);
	config = fmt("{\"workspace\":\"%s\",\"files\":\"%s\"%s%s}", r->dir, r->files, *members ? "," : "",
		members);
	take_hello(r);
	wire_setup_put(
		wire_conn_begin(r->wire, WIRE_SETUP), &(struct wire_setup){.config = base_str_of(config)});
	flush(r);
}

void rig_start(struct rig *r, const char *setup)
{
	signal(SIGPIPE, SIG_IGN);
	memset(r, 0, sizeof(*r));
	strcpy(r->dir, "/tmp/aios-connect-XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	snprintf(r->files, sizeof(r->files), "%s/files", r->dir);
	assert_int_equal(mkdir(r->files, 0755), 0);
	start(r, setup);
}

void rig_kill(struct rig *r, const char *setup)
{
	int status;

	assert_int_equal(kill(r->pid, SIGKILL), 0);
	assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
	wire_conn_free(r->wire);
	start(r, setup);
}

void rig_stop(struct rig *r)
{
	int status;

	wire_stop_put(wire_conn_begin(r->wire, WIRE_STOP), &(struct wire_stop){0});
	flush(r);
	assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	wire_conn_free(r->wire);
	assert_int_equal(system(fmt("rm -rf '%s'", r->dir)), 0);
}

uint64_t rig_send(struct rig *r, const struct rig_effect *e)
{
	const struct wire_effect frame = {
		.call = ++r->calls,
		.mode = (uint8_t)e->mode,
		.action = base_str_of(e->action),
		.key = base_str_of(e->key ? e->key : "key"),
		.args = base_str_of(e->args),
		.config = base_str_of(e->config),
		.secret = e->secret,
		.timeout_ms = e->timeout_ms ? e->timeout_ms : 30000,
	};

	wire_effect_put(wire_conn_begin(r->wire, WIRE_EFFECT), &frame);
	flush(r);
	return r->calls;
}

void rig_cancel(struct rig *r, uint64_t call)
{
	wire_effect_cancel_put(
		wire_conn_begin(r->wire, WIRE_EFFECT_CANCEL), &(struct wire_effect_cancel){.call = call});
	flush(r);
}

static struct base_jv parse_into(struct base_str text, struct base_json **ret)
{
	struct base_err err;

	if (!text.len)
		return (struct base_jv){NULL};
	if (base_json_parse(text, ret, &err) < 0)
		fail_msg("not JSON: %s: %.*s", err.text, BASE_STR_ARG(text));
	return base_json_root(*ret);
}

uint64_t rig_take(struct rig *r, struct rig_result *ret)
{
	struct wire_effect_result frame;
	struct base_str body;

	memset(ret, 0, sizeof(*ret));
	assert_int_equal(next_frame(r, &body), WIRE_EFFECT_RESULT);
	assert_int_equal(wire_effect_result_get(body, &frame), 0);
	ret->outcome = frame.outcome;
	ret->value = parse_into(frame.value, &ret->doc);
	ret->usage = parse_into(frame.usage, &ret->usage_doc);
	ret->retry_after_ms = frame.retry_after_ms;
	snprintf(ret->parse, sizeof(ret->parse), "%.*s", BASE_STR_ARG(frame.parse));
	base_buf_init(&ret->raw, 64 << 20);
	base_buf_str(&ret->raw, frame.raw);
	return frame.call;
}

void rig_do(struct rig *r, const struct rig_effect *e, struct rig_result *ret)
{
	uint64_t call = rig_send(r, e);

	assert_int_equal(rig_take(r, ret), call);
}

void rig_result_done(struct rig_result *x)
{
	base_json_free(x->doc);
	base_json_free(x->usage_doc);
	base_buf_done(&x->raw);
}

struct base_str rig_seal(
	struct rig *r, uint64_t call, const char *action, const char *host, const char *value)
{
	struct base_buf plain;
	unsigned char *sealed;
	size_t len;

	base_buf_init(&plain, 1 << 18);
	wire_secret_put(&plain, &(struct wire_secret){.call = call,
					.host = base_str_of(host),
					.action = base_str_of(action),
					.name = BASE_STR("of-the-test"),
					.value = base_str_of(value)});
	len = plain.len;
	sealed = malloc(len + crypto_box_SEALBYTES);
	assert_int_equal(crypto_box_seal(sealed, (const unsigned char *)plain.ptr, len, r->public_key), 0);
	base_buf_done(&plain);
	return (struct base_str){(const char *)sealed, len + crypto_box_SEALBYTES};
}

const char *rig_text(const struct rig_result *x, const char *key)
{
	return fmt("%.*s", BASE_STR_ARG(base_jv_str(base_jv_get(x->value, key))));
}

int64_t rig_int(const struct rig_result *x, const char *key)
{
	return base_jv_int(base_jv_get(x->value, key), -1);
}

void rig_expect(const struct rig_result *x, unsigned outcome)
{
	if (x->outcome != outcome)
		fail_msg("outcome %u, not %u: %s: %s", x->outcome, outcome, rig_text(x, "code"),
			rig_text(x, "message"));
}

void rig_problem(const struct rig_result *x, unsigned outcome, const char *code, const char *part)
{
	rig_expect(x, outcome);
	assert_string_equal(rig_text(x, "code"), code);
	if (!strstr(rig_text(x, "message"), part))
		fail_msg("\"%s\" does not say \"%s\"", rig_text(x, "message"), part);
}

void standin_start(struct standin *s, const char *script, const char *const *argv)
{
	const char *folder = getenv("AIOS_STANDINS");
	char line[256], path[4096];
	const char *runs = strstr(script, ".mjs") ? "node" : "python3";
	const char *args[20] = {runs, path, "--while-stdin"};
	int in[2], out[2];
	size_t at = 0;

	snprintf(path, sizeof(path), "%s/%s", folder ? folder : "tests/standins", script);
	for (size_t i = 0; argv[i]; i++)
		args[3 + i] = argv[i];
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execvp(runs, (char *const *)(uintptr_t)args);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	s->stdin_fd = in[1];
	while (at < sizeof(line) - 1 && !memchr(line, '\n', at)) {
		ssize_t n = read(out[0], line + at, sizeof(line) - 1 - at);

		assert_true(n > 0);
		at += (size_t)n;
	}
	close(out[0]);
	line[at] = 0;
	assert_int_equal(sscanf(line, "{\"port\": %u}", &s->port), 1);
}

void standin_stop(struct standin *s)
{
	close(s->stdin_fd);
	waitpid(s->pid, NULL, 0);
}
