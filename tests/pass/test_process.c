/* The real aios-pass in its sandbox: what works in a test program may die at a forbidden system call there. */
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
#include <sodium.h>

#include "authenticator.h"
#include "base/hash.h"
#include "base/json.h"
#include "wire/conn.h"
#include "wire/frames.h"
#include "wire/outcome.h"
#include "wire/secret.h"
#include "wire/sign_in.h"

struct process {
	pid_t pid;
	struct wire_conn *c;
	uint8_t key[crypto_box_PUBLICKEYBYTES];
};

static bool next(struct process *p, unsigned *ret_type, struct base_str *ret_body)
{
	int r;

	while ((r = wire_conn_next(p->c, ret_type, ret_body)) == 0)
		if (wire_conn_wait(p->c, 20000) < 0)
			return false;
	return r == 1;
}

static void start(struct process *p)
{
	const char *bin = getenv("AIOS_BIN");
	struct wire_hello hello;
	struct base_str body;
	char path[4096];
	unsigned type;
	int fds[2];

	assert_non_null(bin);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	snprintf(path, sizeof(path), "%s/aios-pass", bin);
	p->pid = fork();
	if (p->pid == 0) {
		dup2(fds[1], WIRE_FD);
		execl(path, "aios-pass", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	assert_int_equal(wire_conn_new(fds[0], &p->c), 0);
	assert_true(next(p, &type, &body) && type == WIRE_HELLO);
	assert_int_equal(wire_hello_get(body, &hello), 0);
	assert_true(base_str_is(hello.process, "aios-pass"));
	assert_non_null(memmem(hello.sandbox.ptr, hello.sandbox.len, "seccomp", 7));
	assert_int_equal(hello.public_key.len, sizeof(p->key));
	memcpy(p->key, hello.public_key.ptr, sizeof(p->key));
}

/* As aios-vault does. */
static struct base_str sealed(const struct process *p, const struct wire_secret *secret, uint8_t room[1024])
{
	struct base_buf b;
	struct base_str ret;

	base_buf_init(&b, 900);
	wire_secret_put(&b, secret);
	assert_int_equal(crypto_box_seal(room, (const uint8_t *)b.ptr, b.len, p->key), 0);
	ret = (struct base_str){(const char *)room, b.len + crypto_box_SEALBYTES};
	base_buf_done(&b);
	return ret;
}

/* Asks, and sees it end by itself. What the answer says, in `ret`. */
static bool ask(struct process *p, const struct wire_pass_check *f, char ret[1024])
{
	struct wire_pass_reply reply;
	struct base_str body;
	unsigned type;
	int status = 0;

	wire_pass_check_put(wire_conn_begin(p->c, WIRE_PASS_CHECK), f);
	assert_int_equal(wire_conn_end(p->c), 0);
	assert_int_equal(wire_conn_flush(p->c), 0);
	assert_true(next(p, &type, &body) && type == WIRE_PASS_REPLY);
	assert_int_equal(wire_pass_reply_get(body, &reply), 0);
	assert_int_equal(reply.req, f->req);
	snprintf(ret, 1024, "%.*s", BASE_STR_ARG(reply.value));
	wire_conn_free(p->c);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return reply.ok;
}

static void put(struct base_buf *b, const char *name, struct base_str data)
{
	base_buf_printf(b, ",\"%s\":\"", name);
	base_b64url_put(b, data);
	base_buf_char(b, '"');
}

/* A whole registration and an assertion, for each algorithm, each in a process of its own. */
static void test_webauthn(void **state)
{
	static const int algs[] = {-7, -8, -257};

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct act act = {.type = "webauthn.create",
			.origin = "http://localhost:1",
			.rp_id = "localhost",
			.challenge = BASE_STR("0123456789abcdef0123456789abcdef"),
			.flags = FLAG_UP | FLAG_UV,
			.create = true};
		static char made[1024];
		struct base_buf client, data, sig, params;
		static struct authenticator a;
		struct base_json *doc;
		struct process p;
		char text[1024];

		if (i % 2 == 0)
			authenticator_make(&a, algs[i / 2]);
		else
			act.type = "webauthn.get", act.create = false;
		base_buf_init(&client, 1 << 16);
		base_buf_init(&data, 1 << 16);
		base_buf_init(&sig, 1 << 16);
		base_buf_init(&params, 1 << 16);
		authenticator_client_data(&act, &client);
		authenticator_data(&a, &act, &data);
		authenticator_sign(&a, base_buf_view(&data), base_buf_view(&client), &sig);
		base_buf_cstr(&params, "{\"rp_id\":\"localhost\",\"origins\":[\"http://localhost:1\"]");
		put(&params, "challenge", act.challenge);
		put(&params, "client_data", base_buf_view(&client));
		put(&params, "authenticator_data", base_buf_view(&data));
		if (!act.create) {
			put(&params, "signature", base_buf_view(&sig));
			assert_int_equal(base_json_parse(base_str_of(made), &doc, NULL), 0);
			base_buf_printf(&params, ",\"alg\":%d,\"public_key\":\"%.*s\"", algs[i / 2],
				BASE_STR_ARG(base_jv_str(base_jv_get(base_json_root(doc), "public_key"))));
			base_json_free(doc);
		}
		base_buf_char(&params, '}');
		start(&p);
		if (!ask(&p,
			    &(struct wire_pass_check){.req = 7,
				    .what = act.create ? BASE_STR("create") : BASE_STR("get"),
				    .params = base_buf_view(&params)},
			    text))
			fail_msg("%s", text);
		if (act.create)
			snprintf(made, sizeof(made), "%s", text);
		else
			authenticator_done(&a);
		base_buf_done(&client);
		base_buf_done(&data);
		base_buf_done(&sig);
		base_buf_done(&params);
	}
}

static void test_password(void **state)
{
	struct wire_pass_check f = {.req = 9,
		.what = BASE_STR("password"),
		.params = BASE_STR("{\"password\":\"correct horse\",\"code\":\"287082\",\"now_s\":59}")};
	struct wire_secret right, code;
	char hash[crypto_pwhash_STRBYTES], text[1024];
	uint8_t a[1024], b[1024];
	struct process p;

	(void)state;
	assert_true(crypto_pwhash_str(hash, "correct horse", 13, WIRE_PASS_OPS, WIRE_PASS_MEM) == 0);
	right = (struct wire_secret){.call = 9,
		.host = BASE_STR(WIRE_PASS_HOST),
		.action = BASE_STR(WIRE_PASS_ACTION),
		.name = BASE_STR(WIRE_PASS_SECRET_PASSWORD),
		.value = base_str_of(hash)};
	code = right;
	code.name = BASE_STR(WIRE_PASS_SECRET_TOTP);
	code.value = BASE_STR("sha1:GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
	start(&p);
	f.hash = sealed(&p, &right, a);
	f.totp = sealed(&p, &code, b);
	assert_true(ask(&p, &f, text));
	assert_string_equal(text, "{\"step\":1}");
	/* Sealed for another call, host or action, another secret, to another process, or not at all. */
	for (unsigned i = 0; i < 4; i++) {
		struct wire_secret wrong = right;

		if (i == 0)
			wrong.call = 8;
		else if (i == 1)
			wrong.host = BASE_STR("mail.example.org");
		else if (i == 2)
			wrong.action = BASE_STR("mail.send");
		else
			wrong.name = BASE_STR("smtp");
		start(&p);
		f.hash = sealed(&p, &wrong, a);
		f.totp = sealed(&p, &code, b);
		assert_false(ask(&p, &f, text));
		assert_non_null(strstr(text, "\"failed\""));
	}
	start(&p);
	f.totp = sealed(&p, &code, b);
	assert_false(ask(&p, &f, text)); /* hash: of the process before */
	start(&p);
	f.hash = BASE_STR_NONE;
	f.totp = sealed(&p, &code, b);
	assert_false(ask(&p, &f, text));
	assert_non_null(strstr(text, "\"wrong\""));
}

/* What is no check ends it. */
static void test_other_frames(void **state)
{
	struct process p;
	int status = 0;

	(void)state;
	start(&p);
	wire_parse_put(wire_conn_begin(p.c, WIRE_PARSE), &(struct wire_parse){.req = 1});
	assert_int_equal(wire_conn_end(p.c), 0);
	assert_int_equal(wire_conn_flush(p.c), 0);
	assert_int_equal(waitpid(p.pid, &status, 0), p.pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	wire_conn_free(p.c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_webauthn),
		cmocka_unit_test(test_password),
		cmocka_unit_test(test_other_frames),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
