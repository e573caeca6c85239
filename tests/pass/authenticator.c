#include "authenticator.h"

#include <openssl/core_names.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"

static int alg_of(EVP_PKEY *key)
{
	return EVP_PKEY_is_a(key, "EC") ? -7 : EVP_PKEY_is_a(key, "ED25519") ? -8 : -257;
}

void authenticator_make(struct authenticator *a, int alg)
{
	a->alg = alg;
	a->key = alg == -7   ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256")
		 : alg == -8 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
			     : EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	BASE_CHECK(a->key);
}

bool authenticator_load(struct authenticator *a, const char *file)
{
	FILE *f = fopen(file, "r");

	a->key = f ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;
	if (f)
		fclose(f);
	if (a->key)
		a->alg = alg_of(a->key);
	return a->key != NULL;
}

bool authenticator_save(const struct authenticator *a, const char *file)
{
	FILE *f = fopen(file, "w");
	bool ok = f && PEM_write_PrivateKey(f, a->key, NULL, NULL, 0, NULL, NULL) == 1;

	return f && fclose(f) == 0 && ok;
}

void authenticator_done(struct authenticator *a)
{
	EVP_PKEY_free(a->key);
	a->key = NULL;
}

/* --- COSE_Key --- */

static void put(struct base_buf *b, const char *bytes, size_t n)
{
	base_buf_put(b, bytes, n);
}

static void number(const EVP_PKEY *key, const char *name, unsigned char *ret, int len)
{
	BIGNUM *n = NULL;

	BASE_CHECK(EVP_PKEY_get_bn_param(key, name, &n) == 1 && BN_bn2binpad(n, ret, len) == len);
	BN_free(n);
}

static void cose(const struct authenticator *a, struct base_buf *b)
{
	unsigned char x[256], y[32];
	size_t n = 32;

	if (a->alg == -7) {
		number(a->key, OSSL_PKEY_PARAM_EC_PUB_X, x, 32);
		number(a->key, OSSL_PKEY_PARAM_EC_PUB_Y, y, 32);
		put(b, "\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20", 10);
		base_buf_put(b, x, 32);
		put(b, "\x22\x58\x20", 3);
		base_buf_put(b, y, 32);
	} else if (a->alg == -8) {
		BASE_CHECK(EVP_PKEY_get_raw_public_key(a->key, x, &n) == 1);
		put(b, "\xa4\x01\x01\x03\x27\x20\x06\x21\x58\x20", 10);
		base_buf_put(b, x, 32);
	} else {
		number(a->key, OSSL_PKEY_PARAM_RSA_N, x, 256);
		put(b, "\xa4\x01\x03\x03\x39\x01\x00\x20\x59\x01\x00", 11);
		base_buf_put(b, x, 256);
		put(b, "\x21\x43\x01\x00\x01", 5);
	}
}

void authenticator_id(const struct authenticator *a, uint8_t ret[32])
{
	struct base_buf b;

	base_buf_init(&b, 1024);
	cose(a, &b);
	SHA256((const unsigned char *)b.ptr, b.len, ret);
	base_buf_done(&b);
}

void authenticator_client_data(const struct act *act, struct base_buf *ret)
{
	base_buf_printf(ret, "{\"type\":\"%s\",\"challenge\":\"", act->type);
	base_b64url_put(ret, act->challenge);
	base_buf_printf(ret, "\",\"origin\":\"%s\"%s}", act->origin, act->more ? act->more : "");
}

void authenticator_data(const struct authenticator *a, const struct act *act, struct base_buf *ret)
{
	unsigned char rp[32], id[32];
	uint8_t counter[4] = {(uint8_t)(act->counter >> 24), (uint8_t)(act->counter >> 16),
		(uint8_t)(act->counter >> 8), (uint8_t)act->counter};

	SHA256((const unsigned char *)act->rp_id, strlen(act->rp_id), rp);
	base_buf_put(ret, rp, 32);
	base_buf_char(ret, (char)(act->flags | (act->create ? FLAG_AT : 0)));
	base_buf_put(ret, counter, 4);
	if (!act->create)
		return;
	authenticator_id(a, id);
	put(ret, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x20", 18);
	base_buf_put(ret, id, 32);
	cose(a, ret);
}

void authenticator_sign(const struct authenticator *a, struct base_str data, struct base_str client_data,
	struct base_buf *ret)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char hash[32], sig[512];
	struct base_buf b;
	size_t n = sizeof(sig);

	SHA256((const unsigned char *)client_data.ptr, client_data.len, hash);
	base_buf_init(&b, 1 << 16);
	base_buf_str(&b, data);
	base_buf_put(&b, hash, 32);
	BASE_CHECK(EVP_DigestSignInit(ctx, NULL, a->alg == -8 ? NULL : EVP_sha256(), NULL, a->key) == 1 &&
		   EVP_DigestSign(ctx, sig, &n, (const unsigned char *)b.ptr, b.len) == 1);
	base_buf_put(ret, sig, n);
	EVP_MD_CTX_free(ctx);
	base_buf_done(&b);
}
