#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/codec.h"
#include "vault/vault.h"
#include "wire/canary.h"
#include "wire/secret.h"

/*
 * What opens a vault, and what a secret is for; over a folder of each test's own. The steps of a change of keys are counted
 * by the calls that change the disk (rename, unlink, fsync, wrapped below): the change is done again and again, and dies at
 * the first, the second, … of them.
 */
static const char passphrase[] = "correct horse battery staple";
static const char value[] = "the value of the secret, which stays";

static int die_at = -1, steps; /* of this process; -1: never */

static void step(void)
{
	if (die_at >= 0 && steps++ == die_at)
		_exit(9);
}

int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
int __real_fsync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_fsync(int fd);

int __wrap_rename(const char *from, const char *to)
{
	step();
	return __real_rename(from, to);
}

int __wrap_unlink(const char *path)
{
	step();
	return __real_unlink(path);
}

int __wrap_fsync(int fd)
{
	step();
	return __real_fsync(fd);
}

struct house {
	char dir[64], credentials[64], credential[80];
	uint8_t my_public[32], my_secret[32];
};

static int make(void **state)
{
	struct house *h = calloc(1, sizeof(*h));
	FILE *f;

	if (!h || sodium_init() < 0)
		return -1;
	strcpy(h->dir, "/tmp/aios-test-keys-XXXXXX");
	strcpy(h->credentials, "/tmp/aios-test-cred-XXXXXX");
	if (!mkdtemp(h->dir) || !mkdtemp(h->credentials))
		return -1;
	snprintf(h->credential, sizeof(h->credential), "%s/aios-vault", h->credentials);
	f = fopen(h->credential, "w");
	if (!f)
		return -1;
	fputs("0123456789abcdef0123456789abcdef", f);
	fclose(f);
	crypto_box_keypair(h->my_public, h->my_secret);
	*state = h;
	return 0;
}

static int clean(void **state)
{
	static const char *const names[] = {
		"key", "secrets", "key.new", "secrets.new", "key.next", "key.next.new"};
	struct house *h = *state;
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", h->dir, names[i]);
		unlink(path);
	}
	unlink(h->credential);
	rmdir(h->credentials);
	rmdir(h->dir);
	free(h);
	return 0;
}

static struct vault *open_vault(struct house *h)
{
	struct base_err err = {0};
	struct vault *v = NULL;
	int r = vault_open(&(struct vault_options){.dir = h->dir, .credential = h->credential}, &v, &err);

	if (r < 0)
		fail_msg("open: %s", err.text);
	return v;
}

static struct base_str seal(struct vault *v, const char *text, uint8_t *ret, size_t size)
{
	size_t len = strlen(text);

	assert_true(len + crypto_box_SEALBYTES <= size);
	crypto_box_seal(ret, (const uint8_t *)text, len, (const uint8_t *)vault_public_key(v).ptr);
	return (struct base_str){(const char *)ret, len + crypto_box_SEALBYTES};
}

static int set(struct vault *v, const char *name, const char *text, enum vault_how how, int64_t overlap_ms,
	int64_t now_ms)
{
	uint8_t sealed[512];
	struct base_err err;

	return vault_set(v,
		&(struct vault_new){.name = base_str_of(name),
			.host = how == VAULT_SET ? BASE_STR("mail.example.org, api.example.org")
						 : BASE_STR_NONE,
			.actions = how == VAULT_SET ? BASE_STR("mail.*, model.generate") : BASE_STR_NONE,
			.sealed = seal(v, text, sealed, sizeof(sealed)),
			.how = how,
			.overlap_ms = overlap_ms},
		now_ms, &err);
}

/* 0 and the value and the old one ("" without), or what the vault said. */
static int release(struct house *h, struct vault *v, const char *name, const char *host, const char *action,
	int64_t now_ms, char ret[256], char ret_old[256])
{
	uint8_t plain[1024];
	struct wire_secret s = {0};
	struct base_buf b;
	struct base_err err;
	int r;

	base_buf_init(&b, 4096);
	r = vault_release(v,
		&(struct vault_ask){.call = 7,
			.name = base_str_of(name),
			.host = base_str_of(host),
			.action = base_str_of(action),
			.recipient = {(const char *)h->my_public, 32}},
		now_ms, &b, &err);
	if (r == 0) {
		assert_int_equal(crypto_box_seal_open(
					 plain, (const uint8_t *)b.ptr, b.len, h->my_public, h->my_secret),
			0);
		assert_int_equal(
			wire_secret_get((struct base_str){(char *)plain, b.len - crypto_box_SEALBYTES}, &s),
			0);
		assert_int_equal(s.call, 7);
		snprintf(ret, 256, "%.*s", BASE_STR_ARG(s.value));
		snprintf(ret_old, 256, "%.*s", BASE_STR_ARG(s.old));
	}
	base_buf_done(&b);
	return r;
}

static int rekey(struct vault *v, const char *kind, struct base_err *err)
{
	uint8_t sealed[512];
	bool passphrases = strcmp(kind, "passphrase") == 0;

	return vault_rekey(v, base_str_of(kind), BASE_STR_NONE,
		passphrases ? seal(v, passphrase, sealed, sizeof(sealed)) : BASE_STR_NONE, err);
}

static int unlock(struct vault *v, const char *with, int64_t now_ms)
{
	uint8_t sealed[512];
	struct base_err err;

	return vault_unlock(v, seal(v, with, sealed, sizeof(sealed)), now_ms, &err);
}

static void holds(struct house *h, struct vault *v)
{
	char got[256], old[256];

	assert_int_equal(release(h, v, "smtp", "mail.example.org", "mail.send", 1, got, old), 0);
	assert_string_equal(got, value);
}

/* One secret: these hosts and these actions, exactly, and nothing else; a canary for nothing at all. */
static void what_a_secret_is_for(void **state)
{
	static const char *const hosts[] = {"example.org", "mail.example.org.evil.example",
		"xmail.example.org", "", "mail.example.org,api.example.org", "mail.example.org.",
		" mail.example.org", "*"};
	static const char *const actions[] = {"mail", "model.generate2", "model", "http.get", "", "*",
		"mailx.send", "mail.*,x", "MAIL.send"};
	struct house *h = *state;
	struct vault *v = open_vault(h);
	char got[256], old[256];

	assert_int_equal(set(v, "smtp", value, VAULT_SET, 0, 1), 0);
	holds(h, v);
	assert_int_equal(release(h, v, "smtp", "API.example.ORG", "model.generate", 1, got, old), 0);
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
		assert_int_equal(release(h, v, "smtp", hosts[i], "mail.send", 1, got, old), -EACCES);
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		assert_int_equal(release(h, v, "smtp", "mail.example.org", actions[i], 1, got, old), -EACCES);
	assert_int_equal(set(v, "bait", "sk-live-4242424242424242424242", VAULT_CANARY, 0, 1), 0);
	assert_int_equal(release(h, v, "bait", "", "mail.send", 1, got, old), -EACCES);
	assert_int_equal(release(h, v, "bait", "mail.example.org", "mail.send", 1, got, old), -EACCES);
	assert_int_equal(set(v, "short", "too short", VAULT_CANARY, 0, 1), -EINVAL);
	vault_free(v);
}

static void rotation_has_an_end(void **state)
{
	struct house *h = *state;
	struct vault *v = open_vault(h);
	char got[256], old[256];

	assert_int_equal(set(v, "smtp", "first value", VAULT_ROTATE, 100, 10), -ENOENT);
	assert_int_equal(set(v, "smtp", "first value", VAULT_SET, 0, 10), 0);
	assert_int_equal(set(v, "smtp", "second value", VAULT_ROTATE, 100, 10), 0);
	assert_int_equal(release(h, v, "smtp", "mail.example.org", "mail.send", 109, got, old), 0);
	assert_string_equal(got, "second value");
	assert_string_equal(old, "first value");
	assert_int_equal(release(h, v, "smtp", "mail.example.org", "mail.send", 110, got, old), 0);
	assert_string_equal(old, "");
	assert_int_equal(set(v, "smtp", "third value", VAULT_ROTATE, 0, 20), 0);
	assert_int_equal(release(h, v, "smtp", "mail.example.org", "mail.send", 21, got, old), 0);
	assert_string_equal(got, "third value");
	assert_string_equal(old, "");
	assert_int_equal(set(v, "smtp", "x", VAULT_ROTATE, -1, 20), -EINVAL);
	vault_free(v);
}

static void a_passphrase_locks(void **state)
{
	struct house *h = *state;
	struct vault *v = open_vault(h);
	uint8_t signature[VAULT_SIGNATURE], public_key[32];
	char got[256], old[256];
	struct base_err err;
	struct base_buf b;

	assert_int_equal(set(v, "smtp", value, VAULT_SET, 0, 1), 0);
	memcpy(public_key, vault_sign_public(v), 32);
	assert_int_equal(
		vault_rekey(v, BASE_STR("passphrase"), BASE_STR("weak"), BASE_STR_NONE, &err), -EINVAL);
	assert_int_equal(vault_rekey(v, BASE_STR("purse"), BASE_STR_NONE, BASE_STR_NONE, &err), -EINVAL);
	assert_int_equal(rekey(v, "passphrase", &err), 0);
	holds(h, v);
	vault_free(v);
	v = open_vault(h);
	assert_true(vault_is_locked(v));
	assert_memory_equal(public_key, vault_sign_public(v), 32);
	base_buf_init(&b, 4096);
	assert_int_equal(release(h, v, "smtp", "mail.example.org", "mail.send", 1, got, old), -EKEYREVOKED);
	assert_int_equal(set(v, "smtp", "other", VAULT_SET, 0, 1), -EKEYREVOKED);
	assert_int_equal(vault_remove(v, BASE_STR("smtp"), 1, &err), -EKEYREVOKED);
	assert_int_equal(vault_list(v, 1, &b, &err), -EKEYREVOKED);
	assert_int_equal(vault_sign(v, BASE_STR("checkpoint"), BASE_STR("x"), signature, &err), -EKEYREVOKED);
	assert_int_equal(rekey(v, "file", &err), -EKEYREVOKED);
	assert_int_equal(unlock(v, "wrong passphrase", 1000), -EKEYREJECTED);
	assert_int_equal(unlock(v, passphrase, 1500), -EBUSY);
	assert_true(vault_is_locked(v));
	assert_int_equal(unlock(v, passphrase, 2000), 0);
	holds(h, v);
	assert_int_equal(vault_lock(v, &err), 0);
	assert_int_equal(release(h, v, "smtp", "mail.example.org", "mail.send", 1, got, old), -EKEYREVOKED);
	assert_int_equal(unlock(v, passphrase, 3000), 0);
	assert_int_equal(vault_rekey(v, BASE_STR_NONE, BASE_STR_NONE, BASE_STR_NONE, &err), 0);
	vault_free(v);
	v = open_vault(h);
	assert_int_equal(unlock(v, passphrase, 1), 0);
	holds(h, v);
	base_buf_done(&b);
	vault_free(v);
}

static void a_credential_opens(void **state)
{
	struct house *h = *state;
	struct vault *v = open_vault(h);
	struct base_err err;
	char away[96];

	assert_int_equal(set(v, "smtp", value, VAULT_SET, 0, 1), 0);
	assert_int_equal(rekey(v, "credential", &err), 0);
	vault_free(v);
	v = open_vault(h);
	holds(h, v);
	vault_free(v);
	snprintf(away, sizeof(away), "%s.away", h->credential);
	assert_int_equal(__real_rename(h->credential, away), 0);
	v = open_vault(h);
	assert_true(vault_is_locked(v));
	assert_true(unlock(v, passphrase, 1) < 0);
	assert_int_equal(__real_rename(away, h->credential), 0);
	assert_int_equal(vault_unlock(v, BASE_STR_NONE, 1, &err), 0);
	holds(h, v);
	vault_free(v);
}

/* The same as aios-verify would: the domain keeps kinds of signatures apart. */
static void signatures(void **state)
{
	static const char *const bad[] = {
		"", "Check", "a b", "checkpoint/x", "0123456789012345678901234567890123"};
	struct house *h = *state;
	struct vault *v = open_vault(h);
	uint8_t signature[VAULT_SIGNATURE];
	struct base_err err;

	assert_int_equal(vault_sign(v, BASE_STR("checkpoint"), BASE_STR("data"), signature, &err), 0);
	assert_int_equal(crypto_sign_verify_detached(signature, (const uint8_t *)"aios/1/checkpoint\0data",
				 22, vault_sign_public(v)),
		0);
	assert_int_not_equal(crypto_sign_verify_detached(signature,
				     (const uint8_t *)"aios/1/checkpointx\0data", 23, vault_sign_public(v)),
		0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
			vault_sign(v, base_str_of(bad[i]), BASE_STR("data"), signature, &err), -EINVAL);
	vault_free(v);
}

/* Opens as aios would at its next start; a passphrase is at hand. */
static void still_opens(struct house *h)
{
	struct vault *v = open_vault(h);

	if (vault_is_locked(v))
		assert_int_equal(unlock(v, passphrase, 1), 0);
	holds(h, v);
	vault_free(v);
}

/* Dies at its n-th step. True: it was through before. */
static bool change_dies_at(struct house *h, const char *kind, int n)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct vault *v = open_vault(h);
		struct base_err err;

		if (vault_is_locked(v) && unlock(v, passphrase, 1) < 0)
			_exit(1);
		steps = 0;
		die_at = n;
		if (kind[0] ? rekey(v, kind, &err)
			    : vault_rekey(v, BASE_STR_NONE, BASE_STR_NONE, BASE_STR_NONE, &err))
			_exit(2);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 9);
	return WEXITSTATUS(status) == 0;
}

/* From each kind of key to each, killed at each step: the old key opens it, or the new one, and the secret is there. */
static void fault_71_key_change_killed_at_each_step(void **state)
{
	static const char *const kinds[] = {"passphrase", "credential", "file", "", "file"};
	struct house *h = *state;
	struct vault *v = open_vault(h);
	int died = 0;

	assert_int_equal(set(v, "smtp", value, VAULT_SET, 0, 1), 0);
	vault_free(v);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		for (int n = 0;; n++) {
			bool through = change_dies_at(h, kinds[i], n);

			still_opens(h);
			died += !through;
			if (through)
				break;
			assert_true(n < 30);
		}
	}
	assert_true(died > 20);
}

/* The first form of the file is read, and becomes the second under the same key; killed, it is the first or the second. */
static void the_first_form(void **state)
{
	static const uint8_t magic[8] = {'A', 'I', 'O', 'S', 'V', 'L', 'T', '1'};
	struct house *h = *state;
	uint8_t key[32], file[8 + 24 + 128 + 16], plain[128], *p = plain;
	unsigned long long len;
	char path[128];
	int fd;

	randombytes_buf(key, sizeof(key));
	*p++ = 4, *p++ = 0;
	memcpy(p, "smtp", 4), p += 4;
	*p++ = 16, *p++ = 0;
	memcpy(p, "mail.example.org", 16), p += 16;
	memset(p, 1, 8), p += 8;
	*p++ = sizeof(value) - 1, *p++ = 0, *p++ = 0, *p++ = 0;
	memcpy(p, value, sizeof(value) - 1), p += sizeof(value) - 1;
	memcpy(file, magic, 8);
	randombytes_buf(file + 8, 24);
	crypto_aead_xchacha20poly1305_ietf_encrypt(
		file + 32, &len, plain, (size_t)(p - plain), magic, 8, NULL, file + 8, key);
	snprintf(path, sizeof(path), "%s/key", h->dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, key, 32), 32);
	close(fd);
	snprintf(path, sizeof(path), "%s/secrets", h->dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, file, 32 + len), 32 + len);
	close(fd);
	still_opens(h);
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, file, 8), 8);
	close(fd);
	assert_memory_equal(file, "AIOSVLT2", 8);
	still_opens(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_a_secret_is_for, make, clean),
		cmocka_unit_test_setup_teardown(rotation_has_an_end, make, clean),
		cmocka_unit_test_setup_teardown(a_passphrase_locks, make, clean),
		cmocka_unit_test_setup_teardown(a_credential_opens, make, clean),
		cmocka_unit_test_setup_teardown(signatures, make, clean),
		cmocka_unit_test_setup_teardown(fault_71_key_change_killed_at_each_step, make, clean),
		cmocka_unit_test_setup_teardown(the_first_form, make, clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
