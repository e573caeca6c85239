#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "vault/vault_int.h"

/*
 * DIR/secrets, little endian:
 *
 *	magic "AIOSVLT2"; u8 kind of key and seven zero bytes; u64 opslimit, u64 memlimit; salt (16); id of the vault (16);
 *	public half of the signing key (32)
 *	nonce (24) and the data key (32 + 16), encrypted with the key-encryption key; all before is authenticated
 *	nonce (24) and the book, encrypted with the data key; all before is authenticated
 *
 * both with XChaCha20-Poly1305 (IETF). The form before it, AIOSVLT1: magic, nonce, the book encrypted with the key
 * file itself; it is read and written anew.
 */
static const char magic[8] = {'A', 'I', 'O', 'S', 'V', 'L', 'T', '2'};
static const char magic_first[8] = {'A', 'I', 'O', 'S', 'V', 'L', 'T', '1'};

enum {
	NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
	TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES,
	HEAD = 8 + 8 + 16 + VAULT_SALT + VAULT_ID + VAULT_SIGN_PUBLIC,
	WRAP = NONCE + VAULT_KEY + TAG,
	BODY = HEAD + WRAP, /* where its nonce stands */
	FIRST_BODY = 8 + NONCE,
	/* What a file may ask for: more would be a way to stop the vault, less a weaker key than any that aios makes. */
	OPS_MAX = 64,
};

static const uint64_t mem_max = (uint64_t)1 << 30;

static uint64_t get64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 7; i >= 0; i--)
		v = v << 8 | p[i];
	return v;
}

static void put64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++, v >>= 8)
		p[i] = (uint8_t)v;
}

static void head_put(const struct vault_head *h, uint8_t *p)
{
	memcpy(p, magic, sizeof(magic));
	memset(p + 8, 0, 8);
	p[8] = h->kind;
	put64(p + 16, h->opslimit);
	put64(p + 24, h->memlimit);
	memcpy(p + 32, h->salt, VAULT_SALT);
	memcpy(p + 48, h->id, VAULT_ID);
	memcpy(p + 64, h->sign_public, VAULT_SIGN_PUBLIC);
}

static int head_get(const uint8_t *p, struct vault_head *ret)
{
	struct vault_head h = {.kind = p[8], .opslimit = get64(p + 16), .memlimit = get64(p + 24)};
	bool passphrase = h.kind == VAULT_PASSPHRASE || h.kind == VAULT_KEYRING;

	if (h.kind < VAULT_FILE || h.kind > VAULT_CREDENTIAL)
		return -EBADMSG;
	for (int i = 9; i < 16; i++)
		if (p[i])
			return -EBADMSG;
	if (passphrase ? h.opslimit < crypto_pwhash_OPSLIMIT_MODERATE || h.opslimit > OPS_MAX ||
				 h.memlimit < crypto_pwhash_MEMLIMIT_MODERATE || h.memlimit > mem_max
		       : h.opslimit || h.memlimit)
		return -EBADMSG;
	memcpy(h.salt, p + 32, VAULT_SALT);
	memcpy(h.id, p + 48, VAULT_ID);
	memcpy(h.sign_public, p + 64, VAULT_SIGN_PUBLIC);
	*ret = h;
	return 0;
}

int vault_file_decode(uint8_t *bytes, size_t len, struct vault_file *ret)
{
	struct vault_file f = {.bytes = bytes, .len = len};

	if (len >= FIRST_BODY + TAG && memcmp(bytes, magic_first, sizeof(magic_first)) == 0) {
		f.first_form = true;
		f.head.kind = VAULT_FILE;
	} else if (len < BODY + NONCE + TAG || memcmp(bytes, magic, sizeof(magic)) != 0 ||
		   head_get(bytes, &f.head) < 0) {
		return -EBADMSG;
	}
	*ret = f;
	return 0;
}

int vault_file_load(const char *dir, struct vault_file *ret, struct base_err *err)
{
	uint8_t *bytes;
	size_t len;
	int r = vault_read(dir, "secrets", 0, VAULT_PLAIN_MAX + BODY + NONCE + TAG, false, &bytes, &len, err);

	if (r < 0)
		return r;
	r = vault_file_decode(bytes, len, ret);
	if (r < 0) {
		free(bytes);
		base_err_set(err, r,
			"%s/secrets is not a vault, or was changed from outside: restore it from a backup, "
			"or "
			"remove it and set the secrets again",
			dir);
	}
	return r;
}

void vault_file_free(struct vault_file *f)
{
	free(f->bytes);
	*f = (struct vault_file){0};
}

/* len: of what is encrypted, its tag included; ad: what is authenticated with it, from the file's start. */
static int decrypt(const struct vault_file *f, size_t nonce, size_t len, size_t ad,
	const uint8_t key[VAULT_KEY], uint8_t *ret)
{
	unsigned long long got;

	return crypto_aead_xchacha20poly1305_ietf_decrypt(ret, &got, NULL, f->bytes + nonce + NONCE, len,
		       f->bytes, ad, f->bytes + nonce, key) != 0
		       ? -EBADMSG
		       : 0;
}

static int open_first(const struct vault_file *f, const uint8_t kek[VAULT_KEY], uint8_t data_key[VAULT_KEY],
	struct vault_book *ret)
{
	size_t len = f->len - FIRST_BODY - TAG;
	uint8_t *plain = sodium_malloc(len ? len : 1), *seed = sodium_malloc(VAULT_SEED);
	int r = plain && seed ? decrypt(f, 8, len + TAG, 8, kek, plain) : -ENOMEM;

	if (r == 0) {
		randombytes_buf(data_key, VAULT_KEY);
		randombytes_buf(seed, VAULT_SEED);
		r = vault_book_convert(plain, len, seed, ret);
	}
	sodium_free(plain);
	sodium_free(seed);
	return r;
}

/* The seed must be that of the public half which the head shows. */
static int check_sign(const struct vault_file *f, const struct vault_book *b)
{
	uint8_t public_key[crypto_sign_PUBLICKEYBYTES], *secret = sodium_malloc(crypto_sign_SECRETKEYBYTES);
	int r;

	if (!secret)
		return -ENOMEM;
	crypto_sign_seed_keypair(public_key, secret, vault_book_seed(b));
	r = memcmp(public_key, f->head.sign_public, sizeof(public_key)) == 0 ? 0 : -EBADMSG;
	sodium_free(secret);
	return r;
}

int vault_file_open(const struct vault_file *f, const uint8_t kek[VAULT_KEY], uint8_t ret_data_key[VAULT_KEY],
	struct vault_book *ret)
{
	struct vault_book b = {.len = 0};
	uint8_t *key;
	int r;

	if (f->first_form)
		return open_first(f, kek, ret_data_key, ret);
	key = sodium_malloc(VAULT_KEY);
	b.len = f->len - BODY - NONCE - TAG;
	b.ptr = sodium_malloc(b.len ? b.len : 1);
	r = key && b.ptr ? decrypt(f, HEAD, VAULT_KEY + TAG, HEAD, kek, key) : -ENOMEM;
	if (r == 0)
		r = decrypt(f, BODY, b.len + TAG, BODY, key, b.ptr);
	if (r == 0)
		r = vault_book_check(&b);
	if (r == 0)
		r = check_sign(f, &b);
	if (r == 0) {
		memcpy(ret_data_key, key, VAULT_KEY);
		*ret = b;
	} else {
		vault_book_free(&b);
	}
	sodium_free(key);
	return r;
}

static void encrypt(uint8_t *file, size_t nonce, const uint8_t *plain, size_t len, size_t ad,
	const uint8_t key[VAULT_KEY])
{
	randombytes_buf(file + nonce, NONCE);
	crypto_aead_xchacha20poly1305_ietf_encrypt(
		file + nonce + NONCE, NULL, plain, len, file, ad, NULL, file + nonce, key);
}

int vault_file_write(const char *dir, const struct vault_head *head, const uint8_t kek[VAULT_KEY],
	const uint8_t data_key[VAULT_KEY], const struct vault_book *b, struct base_err *err)
{
	size_t len = BODY + NONCE + TAG + b->len;
	uint8_t *file = malloc(len);
	int r;

	if (!file)
		return base_err_set(err, -ENOMEM, "out of memory");
	head_put(head, file);
	encrypt(file, HEAD, data_key, VAULT_KEY, HEAD, kek);
	encrypt(file, BODY, b->ptr, b->len, BODY, data_key);
	r = vault_replace(dir, "secrets", file, len, err);
	free(file);
	return r;
}
