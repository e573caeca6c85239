#include <sodium.h>
#include <string.h>

#include "pass/pass.h"
#include "wire/sign_in.h"

/* The work of a hash, for one that is not there: how long an answer takes tells nothing. */
static void work_for_nothing(struct base_str password)
{
	static const unsigned char salt[crypto_pwhash_SALTBYTES];
	unsigned char out[32];

	if (crypto_pwhash(out, sizeof(out), password.ptr ? password.ptr : "", password.len, salt,
		    WIRE_PASS_OPS, WIRE_PASS_MEM, crypto_pwhash_ALG_ARGON2ID13) == 0)
		sodium_memzero(out, sizeof(out));
}

bool pass_password_is(struct base_str hash, struct base_str password)
{
	char text[WIRE_PASS_HASH_MAX] = {0};

	if (password.len > WIRE_PASSWORD_MAX)
		password.len = 0;
	if (!password.len || hash.len >= sizeof(text) || hash.len >= crypto_pwhash_STRBYTES ||
		!base_str_starts(hash, BASE_STR(WIRE_PASS_PREFIX))) {
		work_for_nothing(password);
		return false;
	}
	memcpy(text, hash.ptr, hash.len);
	return crypto_pwhash_str_verify(text, password.ptr, password.len) == 0;
}
