#include "vault/vault.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/hash.h"
#include "base/json.h"
#include "vault/vault_int.h"

enum { DELAY_FIRST_MS = 1000, DELAY_MAX_MS = 60000 };

void vault_free(struct vault *v)
{
	if (!v)
		return;
	sodium_free(v->kek);
	sodium_free(v->data_key);
	sodium_free(v->secret);
	vault_book_free(&v->book);
	free(v);
}

struct base_str vault_public_key(const struct vault *v)
{
	return (struct base_str){(const char *)v->public_key, sizeof(v->public_key)};
}

bool vault_is_locked(const struct vault *v)
{
	return v->locked;
}

const uint8_t *vault_sign_public(const struct vault *v)
{
	return v->head.sign_public;
}

int vault_check_open(const struct vault *v, struct base_err *err)
{
	return v->locked ? base_err_set(err, -EKEYREVOKED, "the vault is locked: aios vault unlock") : 0;
}

/* --- opening --- */

static void forget(struct vault *v)
{
	sodium_memzero(v->kek, VAULT_KEY);
	sodium_memzero(v->data_key, VAULT_KEY);
	vault_book_free(&v->book);
	v->locked = true;
}

/* kek is taken over on success. */
static int open_with(struct vault *v, const struct vault_file *f, const uint8_t *kek)
{
	struct vault_book b;
	uint8_t *key = sodium_malloc(VAULT_KEY);
	int r = key ? vault_file_open(f, kek, key, &b) : -ENOMEM;

	if (r == 0) {
		memcpy(v->data_key, key, VAULT_KEY);
		memcpy(v->kek, kek, VAULT_KEY);
		vault_book_free(&v->book);
		v->book = b;
		v->head = f->head;
		v->locked = false;
		v->why = NULL;
	}
	sodium_free(key);
	return r;
}

static int damaged(const struct vault *v, struct base_err *err)
{
	return base_err_set(err, -EBADMSG,
		"%s/secrets was changed from outside, or belongs to another key: restore it (and the key "
		"beside it) from a backup, or remove it and set the secrets again",
		v->dir);
}

/* DIR/key opens it, or DIR/key.next when a change of keys was cut off behind its last step but one. */
static int open_by_file(struct vault *v, const struct vault_file *f, uint8_t *kek, struct base_err *err)
{
	int r = vault_key_read(v->dir, false, kek, err), next;

	v->by_next = false;
	r = r == 0 ? open_with(v, f, kek) : r;
	if (r != -ENOENT && r != -EBADMSG)
		return r;
	next = vault_key_read(v->dir, true, kek, err);
	if (next == 0 && open_with(v, f, kek) == 0) {
		v->by_next = true;
		return 0;
	}
	if (r == -ENOENT && next == -ENOENT)
		return base_err_set(err, r,
			"the vault's key %s/key is missing: restore it from a backup, or remove the file "
			"\"secrets\" "
			"beside it and set the secrets again",
			v->dir);
	return damaged(v, err);
}

static int open_by_credential(struct vault *v, const struct vault_file *f, uint8_t *kek, struct base_err *err)
{
	int r = vault_key_credential(v->credential[0] ? v->credential : NULL, kek, err);

	if (r < 0)
		return r;
	r = open_with(v, f, kek);
	return r == -EBADMSG ? base_err_set(err, r,
				       "the systemd credential \"aios-vault\" does not open this vault")
			     : r;
}

/* Without a passphrase, where that can be; else it stays locked. */
static int try_open(struct vault *v, const struct vault_file *f, struct base_err *err)
{
	uint8_t *kek = sodium_malloc(VAULT_KEY);
	int r = 0;

	if (!kek)
		return base_err_set(err, -ENOMEM, "out of memory for the vault");
	switch (f->head.kind) {
	case VAULT_FILE:
		r = open_by_file(v, f, kek, err);
		break;
	case VAULT_PASSPHRASE:
		v->why = "it was started anew: it needs its passphrase";
		break;
	case VAULT_KEYRING:
		if (vault_keyring_get(v->keyring, f->head.id, kek) < 0 || open_with(v, f, kek) < 0)
			v->why = "its key is not in the keyring of this machine: it needs its passphrase";
		break;
	default:
		if (open_by_credential(v, f, kek, err) < 0)
			v->why = "its systemd credential is not there or does not open it";
		break;
	}
	sodium_free(kek);
	return r;
}

static int begin(struct vault *v, struct base_err *err)
{
	uint8_t *seed = sodium_malloc(VAULT_SEED), *secret = sodium_malloc(crypto_sign_SECRETKEYBYTES);
	int r = -ENOMEM;

	if (seed && secret) {
		randombytes_buf(v->data_key, VAULT_KEY);
		randombytes_buf(seed, VAULT_SEED);
		randombytes_buf(v->head.id, sizeof(v->head.id));
		crypto_sign_seed_keypair(v->head.sign_public, secret, seed);
		v->head.kind = VAULT_FILE;
		r = vault_book_new(seed, &v->book);
	}
	sodium_free(seed);
	sodium_free(secret);
	if (r < 0)
		return base_err_set(err, r, "out of memory for the vault");
	/* A key without secrets is one of a beginning that was cut off, or set aside by hand: it is used. */
	r = vault_key_read(v->dir, false, v->kek, err);
	if (r == -ENOENT) {
		r = vault_key_make(v->dir, v->kek, err);
		r = r < 0 ? r : vault_key_settle(v->dir, true, true, err);
	}
	r = r < 0 ? r : vault_file_write(v->dir, &v->head, v->kek, v->data_key, &v->book, err);
	v->locked = r < 0;
	return r;
}

/* AIOSVLT1 becomes AIOSVLT2, under the same key file. */
static int renew(struct vault *v, struct base_err *err)
{
	uint8_t *secret = sodium_malloc(crypto_sign_SECRETKEYBYTES);

	if (!secret)
		return base_err_set(err, -ENOMEM, "out of memory for the vault");
	randombytes_buf(v->head.id, sizeof(v->head.id));
	crypto_sign_seed_keypair(v->head.sign_public, secret, vault_book_seed(&v->book));
	sodium_free(secret);
	return vault_file_write(v->dir, &v->head, v->kek, v->data_key, &v->book, err);
}

static int load(struct vault *v, struct base_err *err)
{
	struct vault_file f;
	int r = vault_file_load(v->dir, &f, err);

	if (r == -ENOENT)
		return begin(v, err);
	if (r < 0)
		return r;
	v->head = f.head;
	r = try_open(v, &f, err);
	if (r == 0 && f.first_form)
		r = renew(v, err);
	/* What a change of keys left behind that was cut off at its last step. */
	if (r == 0 && !v->locked)
		r = vault_key_settle(v->dir, v->head.kind == VAULT_FILE, v->by_next, err);
	vault_file_free(&f);
	return r;
}

static int take_options(struct vault *v, const struct vault_options *o)
{
	if (o->credential && (size_t)snprintf(v->credential, sizeof(v->credential), "%s", o->credential) >=
				     sizeof(v->credential))
		return -ENAMETOOLONG;
	v->keyring = o->keyring;
	return realpath(o->dir, v->dir) ? 0 : -errno;
}

int vault_open(const struct vault_options *o, struct vault **ret, struct base_err *err)
{
	struct vault *v = calloc(1, sizeof(*v));
	int r = v && sodium_init() >= 0 ? take_options(v, o) : -ENOMEM;

	if (r < 0) {
		free(v);
		return base_err_set(err, r, "cannot open the vault %s: %s", o->dir, strerror(-r));
	}
	v->locked = true;
	v->kek = sodium_malloc(VAULT_KEY);
	v->data_key = sodium_malloc(VAULT_KEY);
	v->secret = sodium_malloc(crypto_box_SECRETKEYBYTES);
	if (!v->kek || !v->data_key || !v->secret) {
		vault_free(v);
		return base_err_set(err, -ENOMEM, "out of memory for the vault");
	}
	crypto_box_keypair(v->public_key, v->secret);
	*err = (struct base_err){0};
	r = load(v, err);
	if (r < 0)
		vault_free(v);
	else
		*ret = v;
	return r;
}

/* --- locked and open --- */

int vault_unseal(const struct vault *v, struct base_str sealed, size_t min, size_t max, const char *what,
	struct base_str *ret, struct base_err *err)
{
	size_t len = sealed.len > crypto_box_SEALBYTES ? sealed.len - crypto_box_SEALBYTES : 0;
	uint8_t *plain;

	if (len < min || len > max || len == 0)
		return base_err_set(err, -EINVAL, "%s has %zu to %zu bytes", what, min, max);
	plain = sodium_malloc(len);
	if (!plain)
		return base_err_set(err, -ENOMEM, "out of memory for the vault");
	if (crypto_box_seal_open(plain, (const uint8_t *)sealed.ptr, sealed.len, v->public_key, v->secret) !=
		0) {
		sodium_free(plain);
		return base_err_set(err, -EINVAL, "%s was not sealed to this vault: try again", what);
	}
	*ret = (struct base_str){(const char *)plain, len};
	return 0;
}

static int wrong(struct vault *v, int64_t now_ms, struct base_err *err)
{
	int64_t delay = v->wrong < 6 ? (int64_t)DELAY_FIRST_MS << v->wrong : DELAY_MAX_MS;

	v->wrong++;
	v->again_ms = now_ms + (delay > DELAY_MAX_MS ? DELAY_MAX_MS : delay);
	return base_err_set(err, -EKEYREJECTED, "the passphrase does not open the vault");
}

static int open_by_passphrase(struct vault *v, const struct vault_file *f, struct base_str sealed,
	int64_t now_ms, struct base_err *err)
{
	struct base_str passphrase;
	uint8_t *kek;
	int r;

	if (now_ms < v->again_ms)
		return base_err_set(err, -EBUSY, "too many wrong passphrases: try again in %lld s",
			(long long)((v->again_ms - now_ms + 999) / 1000));
	r = vault_unseal(v, sealed, 1, VAULT_PASSPHRASE_MAX, "the passphrase", &passphrase, err);
	if (r < 0)
		return r;
	kek = sodium_malloc(VAULT_KEY);
	r = kek ? vault_key_derive(&f->head, passphrase, kek) : -ENOMEM;
	sodium_free((void *)(uintptr_t)passphrase.ptr);
	if (r == 0)
		r = open_with(v, f, kek);
	if (r == -ENOMEM)
		base_err_set(err, r, "the vault needs %llu MiB of memory to check a passphrase",
			(unsigned long long)(f->head.memlimit >> 20));
	else if (r < 0)
		r = wrong(v, now_ms, err);
	else
		v->wrong = 0;
	if (r == 0 && f->head.kind == VAULT_KEYRING && vault_keyring_put(v->keyring, f->head.id, kek) < 0)
		v->why = "its key could not be put into the keyring: the next start needs the passphrase "
			 "again";
	sodium_free(kek);
	return r;
}

int vault_unlock(struct vault *v, struct base_str sealed, int64_t now_ms, struct base_err *err)
{
	struct vault_file f;
	int r;

	if (!v->locked)
		return 0;
	*err = (struct base_err){0};
	r = vault_file_load(v->dir, &f, err);
	if (r == -ENOENT)
		return base_err_set(err, r, "%s/secrets is gone: restore it from a backup", v->dir);
	if (r < 0)
		return r;
	if (f.head.kind == VAULT_PASSPHRASE || (f.head.kind == VAULT_KEYRING && sealed.len)) {
		r = open_by_passphrase(v, &f, sealed, now_ms, err);
	} else {
		r = try_open(v, &f, err);
		if (r == 0 && v->locked)
			r = base_err_set(err, err->code ? err->code : -EKEYREJECTED, "%s",
				err->text[0] ? err->text : "the vault needs its passphrase");
	}
	if (r == 0)
		r = vault_key_settle(v->dir, f.head.kind == VAULT_FILE, v->by_next, err);
	vault_file_free(&f);
	return r;
}

int vault_lock(struct vault *v, struct base_err *err)
{
	if (!v->locked && v->head.kind == VAULT_KEYRING && vault_keyring_drop(v->keyring, v->head.id) < 0)
		return base_err_set(
			err, -EIO, "the key could not be taken out of the keyring; nothing was changed");
	forget(v);
	v->why = "it was locked by hand";
	return 0;
}

/* --- signing, status --- */

static bool is_domain(struct base_str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((s.ptr[i] < 'a' || s.ptr[i] > 'z') && s.ptr[i] != '-')
			return false;
	return s.len > 0 && s.len <= 32;
}

int vault_sign(const struct vault *v, struct base_str domain, struct base_str data,
	uint8_t ret[VAULT_SIGNATURE], struct base_err *err)
{
	uint8_t public_key[crypto_sign_PUBLICKEYBYTES], *secret;
	struct base_buf message;
	int r = vault_check_open(v, err);

	if (r < 0)
		return r;
	if (!is_domain(domain) || data.len > VAULT_DATA_MAX)
		return base_err_set(err, -EINVAL,
			"what is signed has a domain of lower-case letters, and at most %d bytes",
			VAULT_DATA_MAX);
	secret = sodium_malloc(crypto_sign_SECRETKEYBYTES);
	base_buf_init(&message, 2 * VAULT_DATA_MAX);
	base_buf_printf(&message, "aios/1/%.*s", BASE_STR_ARG(domain));
	base_buf_char(&message, 0);
	base_buf_str(&message, data);
	if (secret && !base_buf_failed(&message)) {
		crypto_sign_seed_keypair(public_key, secret, vault_book_seed(&v->book));
		crypto_sign_detached(ret, NULL, (const uint8_t *)message.ptr, message.len, secret);
	} else {
		r = base_err_set(err, -ENOMEM, "out of memory for the vault");
	}
	base_buf_done(&message);
	sodium_free(secret);
	return r;
}

/* libsodium goes on where the kernel locks no memory for it: so it is asked once more, for all that is held. */
bool vault_memory_is_locked(const struct vault *v)
{
	return mlock(v->kek, VAULT_KEY) == 0 && mlock(v->data_key, VAULT_KEY) == 0 &&
	       mlock(v->secret, crypto_box_SECRETKEYBYTES) == 0 &&
	       (!v->book.len || mlock(v->book.ptr, v->book.len) == 0);
}

void vault_status(const struct vault *v, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);
	struct vault_entry e;
	size_t at = 0;
	int64_t secrets = 0, canaries = 0;

	while (vault_book_next(&v->book, &at, &e) > 0) {
		secrets += !e.canary;
		canaries += e.canary;
	}
	base_jw_obj(&w);
	base_jw_mcstr(&w, "state", v->locked ? "locked" : "open");
	base_jw_mcstr(&w, "key", vault_kind_name((enum vault_kind)v->head.kind));
	if (v->why)
		base_jw_mcstr(&w, "why", v->why);
	if (v->head.opslimit) {
		base_jw_mint(&w, "opslimit", (int64_t)v->head.opslimit);
		base_jw_mint(&w, "memlimit", (int64_t)v->head.memlimit);
	}
	base_jw_mbool(&w, "memory_locked", vault_memory_is_locked(v));
	if (!v->locked) {
		base_jw_mint(&w, "secrets", secrets);
		base_jw_mint(&w, "canaries", canaries);
	}
	base_jw_key(&w, "signing_key");
	base_buf_char(ret, '"');
	base_b64url_put(ret, (struct base_str){(const char *)v->head.sign_public, VAULT_SIGN_PUBLIC});
	base_buf_char(ret, '"');
	base_jw_end_obj(&w);
}
