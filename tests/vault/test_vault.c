#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "wire/conn.h"
#include "wire/frames.h"
#include "wire/outcome.h"
#include "wire/secret.h"

/* The real aios-vault in its sandbox, over a folder of each test's own. */
static const char canary[] = "canary-5f1d0a-do-not-write-me-down";

struct vault {
	char dir[64];
	pid_t pid;
	struct wire_conn *c;
	uint8_t key[32]; /* the vault's public key */
	size_t key_len;
	uint8_t my_public[32], my_secret[32];
	uint64_t req;
	bool noted; /* it said in a note that something is wrong */
};

/* The reply to the last request. */
struct got {
	bool ok;
	struct base_json *value;
	uint8_t sealed[8192];
	size_t sealed_len;
};

static int make(void **state)
{
	struct vault *v = calloc(1, sizeof(*v));

	if (!v || sodium_init() < 0)
		return -1;
	strcpy(v->dir, "/tmp/aios-test-vault-XXXXXX");
	if (!mkdtemp(v->dir))
		return -1;
	crypto_box_keypair(v->my_public, v->my_secret);
	*state = v;
	return 0;
}

static void path_of(const struct vault *v, const char *name, char ret[128])
{
	snprintf(ret, 128, "%s/%s", v->dir, name);
}

static int clean(void **state)
{
	static const char *const names[] = {
		"key", "secrets", "key.new", "secrets.new", "key.next", "key.next.new"};
	struct vault *v = *state;
	char path[128];

	wire_conn_free(v->c);
	if (v->pid > 0) {
		kill(v->pid, SIGKILL);
		waitpid(v->pid, NULL, 0);
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		path_of(v, names[i], path);
		unlink(path);
	}
	rmdir(v->dir);
	free(v);
	return 0;
}

static unsigned next(struct vault *v, struct base_str *ret_body)
{
	unsigned type;
	int r;

	while ((r = wire_conn_next(v->c, &type, ret_body)) == 0)
		assert_int_equal(wire_conn_wait(v->c, 30000), 0);
	assert_int_equal(r, 1);
	return type;
}

static void start(struct vault *v)
{
	const char *bin = getenv("AIOS_BIN");
	struct wire_hello hello;
	struct base_str body;
	char path[4096];
	int fds[2];

	assert_non_null(bin);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	snprintf(path, sizeof(path), "%s/aios-vault", bin);
	v->noted = false;
	v->pid = fork();
	if (v->pid == 0) {
		dup2(fds[1], WIRE_FD);
		execl(path, "aios-vault", v->dir, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	assert_int_equal(wire_conn_new(fds[0], &v->c), 0);
	assert_int_equal(next(v, &body), WIRE_HELLO);
	assert_int_equal(wire_hello_get(body, &hello), 0);
	v->key_len = hello.public_key.len;
	if (v->key_len == 32)
		memcpy(v->key, hello.public_key.ptr, 32);
}

static void stop(struct vault *v)
{
	struct wire_stop s = {0};
	int status;

	wire_stop_put(wire_conn_begin(v->c, WIRE_STOP), &s);
	assert_int_equal(wire_conn_end(v->c), 0);
	assert_int_equal(wire_conn_flush(v->c), 0);
	assert_int_equal(waitpid(v->pid, &status, 0), v->pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	v->pid = 0;
	wire_conn_free(v->c);
	v->c = NULL;
}

static void reply(struct vault *v, struct got *g)
{
	struct wire_vault_reply out;
	struct base_str body;
	unsigned type;

	assert_int_equal(wire_conn_end(v->c), 0);
	while ((type = next(v, &body)) == WIRE_NOTE)
		v->noted = true;
	assert_int_equal(type, WIRE_VAULT_REPLY);
	assert_int_equal(wire_vault_reply_get(body, &out), 0);
	assert_int_equal(out.req, v->req);
	assert_true(out.sealed.len <= sizeof(g->sealed));
	g->ok = out.ok;
	assert_int_equal(base_json_parse(out.value, &g->value, NULL), 0);
	g->sealed_len = out.sealed.len;
	if (out.sealed.len)
		memcpy(g->sealed, out.sealed.ptr, out.sealed.len);
}

/* Checks the outcome (code NULL: success) and frees the value. */
static void expect(struct got *g, const char *code)
{
	struct base_str is = base_jv_str(base_jv_get(base_json_root(g->value), "code"));

	if (code ? g->ok || !base_str_is(is, code) : !g->ok)
		fail_msg("wanted %s, got %.*s", code ? code : "success", BASE_STR_ARG(is));
	base_json_free(g->value);
}

static void set(struct vault *v, const char *name, const char *host, const char *value, const char *code)
{
	struct wire_vault_set f = {.req = ++v->req,
		.name = base_str_of(name),
		.host = base_str_of(host),
		.actions = BASE_STR("mail.*, model.generate")};
	uint8_t sealed[4096 + crypto_box_SEALBYTES];
	struct got g;

	assert_true(strlen(value) <= 4096);
	crypto_box_seal(sealed, (const uint8_t *)value, strlen(value), v->key);
	f.sealed = (struct base_str){(const char *)sealed, strlen(value) + crypto_box_SEALBYTES};
	wire_vault_set_put(wire_conn_begin(v->c, WIRE_VAULT_SET), &f);
	reply(v, &g);
	expect(&g, code);
}

static void list(struct vault *v, const char *want)
{
	struct wire_vault_list f = {.req = ++v->req};
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv one;
	char have[512] = "";
	struct got g;

	wire_vault_list_put(wire_conn_begin(v->c, WIRE_VAULT_LIST), &f);
	reply(v, &g);
	while (base_jv_next(base_json_root(g.value), &it, &key, &one)) {
		struct base_str name = base_jv_str(base_jv_get(one, "name")),
				host = base_jv_str(base_jv_get(one, "host"));

		assert_true(base_jv_int(base_jv_get(one, "created_ms"), 0) > 1500000000000);
		assert_int_equal(base_jv_len(one), 4);
		snprintf(have + strlen(have), sizeof(have) - strlen(have), "%.*s@%.*s;", BASE_STR_ARG(name),
			BASE_STR_ARG(host));
	}
	expect(&g, NULL);
	assert_string_equal(have, want);
}

static void drop(struct vault *v, const char *name, const char *code)
{
	struct wire_vault_remove f = {.req = ++v->req, .name = base_str_of(name)};
	struct got g;

	wire_vault_remove_put(wire_conn_begin(v->c, WIRE_VAULT_REMOVE), &f);
	reply(v, &g);
	expect(&g, code);
}

/* value: what the release must hold, or NULL with the code of its refusal. */
static void release(struct vault *v, const char *name, const char *host, const char *value, const char *code)
{
	struct wire_vault_release f = {.req = ++v->req,
		.call = 77,
		.name = base_str_of(name),
		.host = base_str_of(host),
		.action = BASE_STR("mail.send")};
	struct wire_secret out;
	uint8_t plain[8192];
	struct got g;

	f.recipient = (struct base_str){(const char *)v->my_public, 32};
	wire_vault_release_put(wire_conn_begin(v->c, WIRE_VAULT_RELEASE), &f);
	reply(v, &g);
	expect(&g, code);
	if (!value) {
		assert_int_equal(g.sealed_len, 0);
		return;
	}
	assert_int_equal(crypto_box_seal_open(plain, g.sealed, g.sealed_len, v->my_public, v->my_secret), 0);
	assert_int_equal(
		wire_secret_get((struct base_str){(char *)plain, g.sealed_len - crypto_box_SEALBYTES}, &out),
		0);
	assert_int_equal(out.call, 77);
	assert_true(base_str_is(out.host, host));
	assert_true(base_str_is(out.action, "mail.send"));
	assert_true(base_str_is(out.name, name));
	assert_true(base_str_is(out.value, value));
	assert_int_equal(out.old.len, 0);
}

static void test_secrets(void **state)
{
	struct vault *v = *state;
	char path[128];
	struct stat st;

	start(v);
	assert_int_equal(v->key_len, 32);
	path_of(v, "key", path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	list(v, "");
	set(v, "smtp", "mail.example.org", canary, NULL);
	set(v, "anthropic", "api.anthropic.com, proxy.example.org", "k\"\n1", NULL);
	list(v, "anthropic@api.anthropic.com, proxy.example.org;smtp@mail.example.org;");
	release(v, "smtp", "MAIL.example.ORG", canary, NULL);
	release(v, "anthropic", "proxy.example.org", "k\"\n1", NULL);
	set(v, "smtp", "mail.example.org", "second", NULL);
	release(v, "smtp", "mail.example.org", "second", NULL);
	drop(v, "anthropic", NULL);
	drop(v, "anthropic", "unknown_secret");
	list(v, "smtp@mail.example.org;");
	stop(v);
	start(v);
	list(v, "smtp@mail.example.org;");
	release(v, "smtp", "mail.example.org", "second", NULL);
	stop(v);
}

static void test_refusals(void **state)
{
	struct vault *v = *state;

	start(v);
	set(v, "smtp", "mail.example.org", canary, NULL);
	release(v, "smtp", "example.org", NULL, "denied");
	release(v, "smtp", "mail.example.org.evil.example", NULL, "denied");
	release(v, "smtp", "xmail.example.org", NULL, "denied");
	release(v, "smtp", "", NULL, "denied");
	release(v, "smtp", "a,mail.example.org", NULL, "denied");
	release(v, "imap", "mail.example.org", NULL, "unknown_secret");
	set(v, "", "a", "x", "invalid");
	set(v, "a b", "a", "x", "invalid");
	set(v, "a", "", "x", "invalid");
	set(v, "a", "*.example.org", "x", "invalid");
	set(v, "a", "x,,y", "x", "invalid");
	set(v, "a", "x", "", "invalid");
	set(v, "a", "x", "\xff", "invalid");
	v->key[0] ^= 1;
	set(v, "a", "x", "for another vault", "invalid");
	list(v, "smtp@mail.example.org;");
	stop(v);
}

/* Damages byte `at` (from the end when negative) of a file. */
static void flip(const struct vault *v, const char *name, long at)
{
	char path[128];
	FILE *f;
	int c;

	path_of(v, name, path);
	f = fopen(path, "r+");
	assert_non_null(f);
	assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
	c = fgetc(f);
	assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
	fputc(c ^ 1, f);
	assert_int_equal(fclose(f), 0);
}

/* A vault that cannot be opened answers each request so, and changes nothing on disk. */
static void closed(struct vault *v)
{
	start(v);
	release(v, "smtp", "mail.example.org", NULL, "vault_closed");
	set(v, "smtp", "mail.example.org", "other", "vault_closed");
	drop(v, "smtp", "vault_closed");
	assert_true(v->noted);
	stop(v);
}

static void works(struct vault *v)
{
	start(v);
	release(v, "smtp", "mail.example.org", canary, NULL);
	stop(v);
}

static void test_damage(void **state)
{
	static const long places[] = {0, 7, 8, 31, 32, 40, -1};
	struct vault *v = *state;
	char path[128], other[128];

	start(v);
	set(v, "smtp", "mail.example.org", canary, NULL);
	stop(v);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		flip(v, "secrets", places[i]);
		closed(v);
		flip(v, "secrets", places[i]);
		works(v);
	}
	flip(v, "key", 3);
	closed(v);
	flip(v, "key", 3);
	works(v);
	path_of(v, "key", path);
	path_of(v, "key.new", other);
	assert_int_equal(rename(path, other), 0);
	closed(v); /* a missing key is not made anew while there are secrets */
	assert_int_equal(rename(other, path), 0);
	works(v);
}

static void test_permissions(void **state)
{
	static const mode_t modes[] = {0644, 0640, 0660, 0601, 0400};
	struct vault *v = *state;
	char path[128], other[128];

	start(v);
	set(v, "smtp", "mail.example.org", canary, NULL);
	stop(v);
	path_of(v, "key", path);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		assert_int_equal(chmod(path, modes[i]), 0);
		closed(v);
	}
	assert_int_equal(chmod(path, 0600), 0);
	works(v);
	path_of(v, "key.new", other);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink(other, path), 0);
	closed(v);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rename(other, path), 0);
	works(v);
}

/* Reads a whole file into ret; the number of bytes. */
static size_t slurp(const char *path, char *ret, size_t size)
{
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	n = fread(ret, 1, size, f);
	assert_int_equal(fclose(f), 0);
	return n;
}

static void test_no_plain_text(void **state)
{
	struct vault *v = *state;
	static char content[1 << 20];
	struct dirent *e;
	char path[512];
	size_t files = 0;
	DIR *d;

	start(v);
	set(v, "smtp", "mail.example.org", canary, NULL);
	release(v, "smtp", "mail.example.org", canary, NULL);
	d = opendir(v->dir);
	assert_non_null(d);
	while ((e = readdir(d))) {
		size_t n;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", v->dir, e->d_name);
		n = slurp(path, content, sizeof(content));
		files++;
		assert_null(memmem(content, n, canary, sizeof(canary) - 1));
		assert_null(memmem(content, n, "mail.example.org", 16));
	}
	closedir(d);
	assert_int_equal(files, 2);
	stop(v);
}

/* SIGKILL at any moment of many rewrites: each secret is its old or its new value, and one that was
 * acknowledged is there. */
static void test_kill(void **state)
{
	struct vault *v = *state;
	char value[4001];
	unsigned round;

	start(v);
	set(v, "smtp", "mail.example.org", canary, NULL);
	for (round = 0; round < 25; round++) {
		char name[32];
		uint8_t sealed[sizeof(value) + crypto_box_SEALBYTES];
		struct wire_vault_set f = {.req = ++v->req, .host = BASE_STR("h"), .actions = BASE_STR("*")};

		memset(value, 'a' + (int)(round % 26), sizeof(value) - 1);
		value[sizeof(value) - 1] = 0;
		snprintf(name, sizeof(name), "s%03u", round);
		set(v, name, "h", value, NULL);
		/* many rewrites are in the pipe when the kill arrives; none of them is acknowledged */
		crypto_box_seal(sealed, (const uint8_t *)"new", 3, v->key);
		f.sealed = (struct base_str){(const char *)sealed, 3 + crypto_box_SEALBYTES};
		f.name = base_str_of(name);
		for (int i = 0; i < 40; i++) {
			wire_vault_set_put(wire_conn_begin(v->c, WIRE_VAULT_SET), &f);
			assert_int_equal(wire_conn_end(v->c), 0);
		}
		wire_conn_flush(v->c);
		usleep((useconds_t)(round * 137 % 3000));
		kill(v->pid, SIGKILL);
		assert_int_equal(waitpid(v->pid, NULL, 0), v->pid);
		wire_conn_free(v->c);
		start(v);
		assert_int_equal(v->key_len, 32);
		for (unsigned i = 0; i <= round; i++) {
			struct wire_vault_release rel = {.req = ++v->req,
				.call = 1,
				.host = BASE_STR("h"),
				.action = BASE_STR("mail.x")};
			struct wire_secret out = {0};
			uint8_t plain[8192];
			struct got g;
			size_t len;

			snprintf(name, sizeof(name), "s%03u", i);
			rel.name = base_str_of(name);
			rel.recipient = (struct base_str){(const char *)v->my_public, 32};
			wire_vault_release_put(wire_conn_begin(v->c, WIRE_VAULT_RELEASE), &rel);
			reply(v, &g);
			expect(&g, NULL);
			assert_int_equal(crypto_box_seal_open(
						 plain, g.sealed, g.sealed_len, v->my_public, v->my_secret),
				0);
			assert_int_equal(wire_secret_get((struct base_str){(char *)plain,
								 g.sealed_len - crypto_box_SEALBYTES},
						 &out),
				0);
			len = out.value.len;
			assert_true(len == 3 || len == sizeof(value) - 1);
		}
		release(v, "smtp", "mail.example.org", canary, NULL);
	}
	stop(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_secrets, make, clean),
		cmocka_unit_test_setup_teardown(test_refusals, make, clean),
		cmocka_unit_test_setup_teardown(test_damage, make, clean),
		cmocka_unit_test_setup_teardown(test_permissions, make, clean),
		cmocka_unit_test_setup_teardown(test_no_plain_text, make, clean),
		cmocka_unit_test_setup_teardown(test_kill, make, clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
