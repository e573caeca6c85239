#pragma once

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* An authenticator in software: what a browser would hand over of WebAuthn's ceremonies, right or wrong on purpose. */

struct authenticator {
	EVP_PKEY *key;
	int alg; /* -7, -8, -257 */
};
void authenticator_make(struct authenticator *a, int alg);
bool authenticator_load(struct authenticator *a, const char *file);
bool authenticator_save(const struct authenticator *a, const char *file);
void authenticator_done(struct authenticator *a);

enum { FLAG_UP = 1, FLAG_UV = 4, FLAG_BE = 8, FLAG_BS = 16, FLAG_AT = 64, FLAG_ED = 128 };

struct act {
	const char *type, *origin, *rp_id;
	const char *more;	   /* further members of the client data: ",\"crossOrigin\":true" */
	struct base_str challenge; /* raw */
	uint8_t flags;
	uint32_t counter;
	bool create;
};
void authenticator_client_data(const struct act *act, struct base_buf *ret);
/* The id of its credential: the hash of its key. */
void authenticator_id(const struct authenticator *a, uint8_t ret[32]);
void authenticator_data(const struct authenticator *a, const struct act *act, struct base_buf *ret);
void authenticator_sign(const struct authenticator *a, struct base_str data, struct base_str client_data,
	struct base_buf *ret);
