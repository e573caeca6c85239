#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "pass/pass.h"
#include "wire/sign_in.h"

/* RFC 6238 over RFC 4226; the HMAC is libcrypto's. */

static int base32(struct base_str text, uint8_t *ret, size_t room, size_t *ret_len)
{
	uint32_t bits = 0;
	unsigned have = 0;
	size_t n = 0;

	for (size_t i = 0; i < text.len; i++) {
		char ch = text.ptr[i];
		uint32_t v;

		if (ch >= 'A' && ch <= 'Z')
			v = (uint32_t)(ch - 'A');
		else if (ch >= '2' && ch <= '7')
			v = (uint32_t)(ch - '2') + 26;
		else
			return -EINVAL;
		bits = (bits << 5 | v) & 0xfff;
		have += 5;
		if (have < 8)
			continue;
		have -= 8;
		if (n == room)
			return -EINVAL;
		ret[n++] = (uint8_t)(bits >> have);
	}
	*ret_len = n;
	return 0;
}

int pass_totp(struct base_str secret, uint64_t counter, uint32_t *ret)
{
	struct base_str kind, text;
	uint8_t key[WIRE_TOTP_SECRET_MAX], message[8], mac[EVP_MAX_MD_SIZE];
	unsigned mac_len = 0, at;
	const EVP_MD *md;
	size_t len;

	if (!base_str_cut(secret, ':', &kind, &text))
		return -EINVAL;
	md = base_str_is(kind, "sha1") ? EVP_sha1() : base_str_is(kind, "sha256") ? EVP_sha256() : NULL;
	if (!md || base32(text, key, sizeof(key), &len) < 0 || len < 10)
		return -EINVAL;
	for (unsigned i = 0; i < 8; i++)
		message[i] = (uint8_t)(counter >> (56 - 8 * i));
	if (!HMAC(md, key, (int)len, message, sizeof(message), mac, &mac_len) || mac_len < 20)
		return -EINVAL;
	sodium_memzero(key, sizeof(key));
	at = mac[mac_len - 1] & 15;
	*ret = ((uint32_t)(mac[at] & 127) << 24 | (uint32_t)mac[at + 1] << 16 | (uint32_t)mac[at + 2] << 8 |
		       mac[at + 3]) %
	       1000000;
	sodium_memzero(mac, sizeof(mac));
	return 0;
}

int64_t pass_totp_check(struct base_str secret, struct base_str code, int64_t now_s)
{
	int64_t step = now_s / WIRE_TOTP_STEP, found = -EACCES;
	char right[16], given[WIRE_TOTP_DIGITS + 1] = {0};

	if (code.len == WIRE_TOTP_DIGITS)
		memcpy(given, code.ptr, WIRE_TOTP_DIGITS);
	for (int64_t at = step + 1; at >= step - 1 && at > 0; at--) {
		uint32_t value;

		if (pass_totp(secret, (uint64_t)at, &value) < 0)
			return -EACCES;
		snprintf(right, sizeof(right), "%06u", value);
		if (sodium_memcmp(right, given, WIRE_TOTP_DIGITS) == 0)
			found = at;
	}
	return found;
}
