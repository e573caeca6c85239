/* A ceremony of WebAuthn as a browser sends it: a byte (what, which algorithm, whether the client data is of this
 * ceremony), a byte for the length of the key, the key, two bytes for the length of the signature, the signature, then
 * authenticator data and, behind its length, client data. With the right client data and the right hash of the relying
 * party in front, what is fuzzed is CBOR, COSE, keys and signatures. */
#include <sodium.h>
#include <string.h>

#include "base/check.h"
#include "fuzz.h"
#include "pass/pass.h"

#define CHALLENGE "0123456789abcdef0123456789abcdef"
#define CLIENT(type)                                                                                         \
	"{\"type\":\"webauthn." type "\",\"challenge\":\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\","     \
	"\"origin\":\"http://localhost:1\"}"

/* libcbor believes what a head says about its length. In aios-pass the limit on memory refuses that (JAIL_PURE,
 * MEMORY_MAX); here the sanitizer does, and libFuzzer is told that it is no find. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1:max_allocation_size_mb=512";
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static char *with[64], more[] = "-malloc_limit_mb=1000000";
	int n = *argc < 62 ? *argc : 62;

	memcpy(with, *argv, (size_t)n * sizeof(*with));
	with[n] = more;
	*argc = n + 1;
	*argv = with;
	return 0;
}

static struct base_str cut(struct base_str *in, size_t n)
{
	struct base_str s;

	if (n > in->len)
		n = in->len;
	s = base_str_sub(*in, 0, n);
	*in = base_str_sub(*in, n, in->len);
	return s;
}

static size_t number(struct base_str *in, unsigned bytes)
{
	struct base_str s = cut(in, bytes);
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++)
		n = n << 8 | (unsigned char)s.ptr[i];
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int64_t algs[] = {PASS_ES256, PASS_EDDSA, PASS_RS256, -65535};
	static char auth[16 << 10];
	static bool begun;
	struct base_str in = {(const char *)data, size}, rest;
	size_t how = number(&in, 1);
	struct pass_ceremony c = {.rp_id = BASE_STR("localhost"),
		.challenge = BASE_STR(CHALLENGE),
		.origins = {BASE_STR("http://localhost:1")},
		.origin_count = 1,
		.alg = algs[how >> 1 & 3]};
	struct pass_created made;
	struct base_err err = {0};
	uint32_t count;

	if (!begun)
		BASE_CHECK(pass_init(&err) == 0);
	begun = true;
	c.public_key = cut(&in, number(&in, 2));
	c.signature = cut(&in, number(&in, 2));
	rest = cut(&in, number(&in, 2));
	if (rest.len + 32 > sizeof(auth))
		return 0;
	crypto_hash_sha256((uint8_t *)auth, (const uint8_t *)"localhost", 9);
	if (rest.len)
		memcpy(auth + 32, rest.ptr, rest.len);
	c.authenticator_data = how & 16 ? rest : (struct base_str){auth, rest.len + 32};
	if (how & 8)
		c.client_data = in;
	else
		c.client_data = how & 1 ? BASE_STR(CLIENT("create")) : BASE_STR(CLIENT("get"));
	if (how & 1) {
		if (pass_create(&c, &made, &err) == 0)
			BASE_CHECK(made.id_len > 0 && made.id_len < sizeof(made.id) &&
				   made.public_key_len > 0 && made.public_key_len <= sizeof(made.public_key));
		else
			BASE_CHECK(strchr(err.text, ':'));
	} else if (pass_get(&c, &count, &err) < 0) {
		BASE_CHECK(strchr(err.text, ':'));
	}
	return 0;
}
