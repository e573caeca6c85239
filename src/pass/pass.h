#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

/* Before the sandbox is entered: what the libraries load and learn once. -EIO. */
int pass_init(struct base_err *err) __attribute__((warn_unused_result));

/* --- webauthn.c --- */

enum { PASS_ORIGINS_MAX = 16, PASS_CHALLENGE_MIN = 32, PASS_CHALLENGE_MAX = 128 };

/* A ceremony as the browser tells it, and what it must be. All views are the caller's. */
struct pass_ceremony {
	/* what it must be */
	struct base_str rp_id;	   /* "localhost" */
	struct base_str challenge; /* raw, PASS_CHALLENGE_MIN to PASS_CHALLENGE_MAX bytes */
	struct base_str origins[PASS_ORIGINS_MAX];
	unsigned origin_count;
	struct base_str public_key; /* get: as it was registered, see PASS_ES256 … */
	int64_t alg;
	/* what came */
	struct base_str client_data;	    /* the JSON, exactly */
	struct base_str authenticator_data; /* raw */
	struct base_str signature;	    /* get */
};
/* COSE's numbers. Keys: x and y; the point; modulus of 256 bytes and exponent of 3. */
enum { PASS_ES256 = -7, PASS_EDDSA = -8, PASS_RS256 = -257 };

struct pass_created {
	uint8_t id[1024];
	size_t id_len;
	uint8_t public_key[512];
	size_t public_key_len;
	int64_t alg;
	uint32_t sign_count;
};
/* Registration: all of WebAuthn's checks but those of an attestation, which is neither asked for nor believed. -EACCES with
 * what is wrong: the text begins with one word ("challenge", "origin", …) and a colon. -ENOMEM. */
int pass_create(const struct pass_ceremony *c, struct pass_created *ret, struct base_err *err)
	__attribute__((warn_unused_result));
/* An assertion, signature and all. As above. */
int pass_get(const struct pass_ceremony *c, uint32_t *ret_sign_count, struct base_err *err)
	__attribute__((warn_unused_result));

/* --- totp.c --- */

/* The code (0 to 999999) of step `counter`. `secret`: "sha1:BASE32" or "sha256:BASE32". -EINVAL. */
int pass_totp(struct base_str secret, uint64_t counter, uint32_t *ret) __attribute__((warn_unused_result));
/* The step for which `code` is right, one step early or late allowed; -EACCES: for none. All are tried, whatever the first
 * says. */
int64_t pass_totp_check(struct base_str secret, struct base_str code, int64_t now_s)
	__attribute__((warn_unused_result));

/* --- password.c --- */

/* Is this the password of the hash? The same work is done for a hash that is empty or of another form. */
bool pass_password_is(struct base_str hash, struct base_str password);

/* --- pass.c: one request as JSON; secrets are opened already --- */

struct pass_request {
	struct base_str what;
	struct base_str params;
	struct base_str hash, totp; /* empty: there is none */
};
/* Appends the value of the reply. True: it is verified. */
bool pass_answer(const struct pass_request *r, struct base_buf *ret);
