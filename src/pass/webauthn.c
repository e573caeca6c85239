#include <errno.h>
#include <fido.h>
#include <fido/eddsa.h>
#include <fido/es256.h>
#include <fido/rs256.h>
#include <sodium.h>
#include <string.h>

#include "base/hash.h"
#include "pass/pass.h"

/*
 * The checks of WebAuthn Level 2, sections 7.1 and 7.2. libfido2 parses authenticator data and keys (CBOR, COSE) and
 * verifies signatures; what is left is the client data, which is JSON, and comparing.
 *
 * Invariants
 *
 *  W1  Nothing is verified unless type, challenge, origin, cross origin, relying party, user presence, user verification
 *      and (get) the signature with the registered key and algorithm have all been found right.
 *  W2  Every input is bounded before it is parsed.
 */

enum {
	CLIENT_DATA_MAX = 8 << 10,
	AUTH_DATA_MIN = 37,
	AUTH_DATA_MAX = 8 << 10,
	SIGNATURE_MAX = 1024,
	RP_ID_MAX = 253,
	FLAG_UP = 1,
	FLAG_UV = 4,
	FLAG_BE = 8,
	FLAG_BS = 16,
	FLAG_AT = 64,
	FLAG_ED = 128,
};

#define REFUSE(err, ...) base_err_set(err, -EACCES, __VA_ARGS__)

static bool same_bytes(struct base_str a, struct base_str b)
{
	return a.len == b.len && (a.len == 0 || sodium_memcmp(a.ptr, b.ptr, a.len) == 0);
}

static int check_sizes(const struct pass_ceremony *c, struct base_err *err)
{
	if (c->challenge.len < PASS_CHALLENGE_MIN || c->challenge.len > PASS_CHALLENGE_MAX)
		return REFUSE(err, "challenge: %zu bytes", c->challenge.len);
	if (!c->rp_id.len || c->rp_id.len > RP_ID_MAX || memchr(c->rp_id.ptr, 0, c->rp_id.len))
		return REFUSE(err, "relying_party: its name has %zu bytes", c->rp_id.len);
	if (!c->client_data.len || c->client_data.len > CLIENT_DATA_MAX)
		return REFUSE(err, "client_data: %zu bytes", c->client_data.len);
	if (c->authenticator_data.len < AUTH_DATA_MIN || c->authenticator_data.len > AUTH_DATA_MAX)
		return REFUSE(err, "authenticator_data: %zu bytes", c->authenticator_data.len);
	return 0;
}

static bool challenge_is(struct base_str text, struct base_str challenge)
{
	struct base_buf raw;
	bool ok;

	base_buf_init(&raw, 2 * PASS_CHALLENGE_MAX);
	ok = base_b64url_get(text, &raw) == 0 && same_bytes(base_buf_view(&raw), challenge);
	base_buf_done(&raw);
	return ok;
}

static bool origin_is(const struct pass_ceremony *c, struct base_str origin)
{
	for (unsigned i = 0; i < c->origin_count; i++)
		if (origin.len && base_str_eq(origin, c->origins[i]))
			return true;
	return false;
}

/* Absent, null or false. */
static bool is_no(struct base_jv v)
{
	return base_jv_kind(v) == BASE_JSON_NONE || base_jv_kind(v) == BASE_JSON_NULL ||
	       (base_jv_kind(v) == BASE_JSON_BOOL && !base_jv_bool(v, true));
}

static int check_members(
	const struct pass_ceremony *c, struct base_jv data, const char *type, struct base_err *err)
{
	struct base_str origin = base_jv_str(base_jv_get(data, "origin"));

	if (base_jv_kind(data) != BASE_JSON_OBJ)
		return REFUSE(err, "client_data: it is no object");
	if (!base_str_is(base_jv_str(base_jv_get(data, "type")), type))
		return REFUSE(err, "type: this is not %s", type);
	if (!challenge_is(base_jv_str(base_jv_get(data, "challenge")), c->challenge))
		return REFUSE(err, "challenge: it is another one");
	if (!origin_is(c, origin))
		return REFUSE(err, "origin: %.*s is not where this console is", BASE_STR_ARG(origin));
	if (!is_no(base_jv_get(data, "crossOrigin")) || !is_no(base_jv_get(data, "topOrigin")))
		return REFUSE(err, "cross_origin: another site's page asked");
	return 0;
}

static int check_client_data(const struct pass_ceremony *c, const char *type, struct base_err *err)
{
	struct base_json *doc;
	int r = base_json_parse(c->client_data, &doc, NULL);

	if (r < 0)
		return REFUSE(err, "client_data: it is not JSON");
	r = check_members(c, base_json_root(doc), type, err);
	base_json_free(doc);
	return r;
}

/* The fixed part of authenticator data: 32 bytes of the relying party's hash, flags, 4 bytes of the counter. */
static int check_authenticator_data(const struct pass_ceremony *c, bool create, struct base_err *err)
{
	const uint8_t *data = (const uint8_t *)c->authenticator_data.ptr;
	uint8_t rp[crypto_hash_sha256_BYTES], flags = data[32];

	crypto_hash_sha256(rp, (const uint8_t *)c->rp_id.ptr, c->rp_id.len);
	if (sodium_memcmp(data, rp, sizeof(rp)) != 0)
		return REFUSE(err, "relying_party: it is for another one than %.*s", BASE_STR_ARG(c->rp_id));
	if (!(flags & FLAG_UP))
		return REFUSE(err, "presence: nobody touched the authenticator");
	if (!(flags & FLAG_UV))
		return REFUSE(err, "verification: the authenticator did not ask for finger, face or PIN");
	if ((flags & FLAG_BS) && !(flags & FLAG_BE))
		return REFUSE(err, "authenticator_data: backed up, but not to be backed up");
	if (create != ((flags & FLAG_AT) != 0))
		return REFUSE(err, "authenticator_data: %s a new key", create ? "without" : "with");
	if (!(flags & FLAG_ED) && !create && c->authenticator_data.len != AUTH_DATA_MIN)
		return REFUSE(err, "authenticator_data: more than it says");
	return 0;
}

static int check(const struct pass_ceremony *c, bool create, struct base_err *err)
{
	int r = check_sizes(c, err);

	if (r == 0)
		r = check_client_data(c, create ? "webauthn.create" : "webauthn.get", err);
	if (r == 0)
		r = check_authenticator_data(c, create, err);
	return r;
}

/* A NUL behind it, for libfido2. Its length was checked. */
static void name_of(const struct pass_ceremony *c, char ret[RP_ID_MAX + 1])
{
	memcpy(ret, c->rp_id.ptr, c->rp_id.len);
	ret[c->rp_id.len] = '\0';
}

/* --- registration --- */

static bool take(const unsigned char *from, size_t len, uint8_t *to, size_t room, size_t *ret)
{
	if (!from || !len || len > room)
		return false;
	memcpy(to, from, len);
	*ret = len;
	return true;
}

/* libfido2 leaves what stands behind a key unread. A key is in CTAP2's canonical form, so its length is known. */
static bool is_whole(const struct pass_ceremony *c, const struct pass_created *made)
{
	enum { BEFORE_ID = 55, ES256 = 77, EDDSA = 42, RS256 = 272 };
	size_t key = made->alg == PASS_ES256 ? ES256 : made->alg == PASS_EDDSA ? EDDSA : RS256;

	return ((unsigned char)c->authenticator_data.ptr[32] & FLAG_ED) ||
	       c->authenticator_data.len == BEFORE_ID + made->id_len + key;
}

/* What libfido2 reads of a new key of this algorithm. False: it is of another, or damaged. */
static bool read_key(const struct pass_ceremony *c, int alg, struct pass_created *ret)
{
	fido_cred_t *cred = fido_cred_new();
	char rp_id[RP_ID_MAX + 1];
	bool ok;

	name_of(c, rp_id);
	ok = cred && fido_cred_set_type(cred, alg) == FIDO_OK &&
	     fido_cred_set_rp(cred, rp_id, NULL) == FIDO_OK &&
	     fido_cred_set_authdata_raw(cred, (const unsigned char *)c->authenticator_data.ptr,
		     c->authenticator_data.len) == FIDO_OK &&
	     take(fido_cred_id_ptr(cred), fido_cred_id_len(cred), ret->id, sizeof(ret->id) - 1,
		     &ret->id_len) &&
	     take(fido_cred_pubkey_ptr(cred), fido_cred_pubkey_len(cred), ret->public_key,
		     sizeof(ret->public_key), &ret->public_key_len);
	if (ok) {
		ret->alg = alg;
		ret->sign_count = fido_cred_sigcount(cred);
	}
	fido_cred_free(&cred);
	return ok;
}

/* --- assertion --- */

/* The key in libfido2's form, to be freed by free_key. */
struct key {
	es256_pk_t *es256;
	eddsa_pk_t *eddsa;
	rs256_pk_t *rs256;
	const void *any;
};

static bool make_key(const struct pass_ceremony *c, struct key *ret)
{
	const void *p = c->public_key.ptr;
	size_t n = c->public_key.len;

	*ret = (struct key){0};
	switch (c->alg) {
	case PASS_ES256:
		ret->any = ret->es256 = n == 64 ? es256_pk_new() : NULL;
		return ret->any && es256_pk_from_ptr(ret->es256, p, n) == FIDO_OK;
	case PASS_EDDSA:
		ret->any = ret->eddsa = n == 32 ? eddsa_pk_new() : NULL;
		return ret->any && eddsa_pk_from_ptr(ret->eddsa, p, n) == FIDO_OK;
	case PASS_RS256:
		ret->any = ret->rs256 = rs256_pk_new();
		return ret->any && rs256_pk_from_ptr(ret->rs256, p, n) == FIDO_OK;
	default:
		return false;
	}
}

static void free_key(struct key *k)
{
	es256_pk_free(&k->es256);
	eddsa_pk_free(&k->eddsa);
	rs256_pk_free(&k->rs256);
}

static bool keys_work(const struct pass_created *made)
{
	struct pass_ceremony c = {
		.public_key = {(const char *)made->public_key, made->public_key_len}, .alg = made->alg};
	struct key k;
	bool ok = make_key(&c, &k);

	free_key(&k);
	return ok;
}

int pass_create(const struct pass_ceremony *c, struct pass_created *ret, struct base_err *err)
{
	static const int algs[] = {PASS_ES256, PASS_EDDSA, PASS_RS256};
	struct pass_created made = {0};
	int r = check(c, true, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
		if (!read_key(c, algs[i], &made))
			continue;
		if (!keys_work(&made) || !is_whole(c, &made))
			break;
		*ret = made;
		return 0;
	}
	return REFUSE(
		err, "algorithm: there is no key in it that can be read and is of ES256, EdDSA or RS256");
}

int pass_get(const struct pass_ceremony *c, uint32_t *ret_sign_count, struct base_err *err)
{
	fido_assert_t *a = NULL;
	char rp_id[RP_ID_MAX + 1];
	struct key k = {0};
	bool ok;
	int r = check(c, false, err);

	if (r < 0)
		return r;
	if (!c->signature.len || c->signature.len > SIGNATURE_MAX)
		return REFUSE(err, "signature: %zu bytes", c->signature.len);
	if (!make_key(c, &k)) {
		free_key(&k);
		return REFUSE(err, "algorithm: the registered key cannot be used");
	}
	name_of(c, rp_id);
	a = fido_assert_new();
	ok = a && fido_assert_set_count(a, 1) == FIDO_OK && fido_assert_set_rp(a, rp_id) == FIDO_OK &&
	     fido_assert_set_clientdata(a, (const unsigned char *)c->client_data.ptr, c->client_data.len) ==
		     FIDO_OK &&
	     fido_assert_set_authdata_raw(a, 0, (const unsigned char *)c->authenticator_data.ptr,
		     c->authenticator_data.len) == FIDO_OK &&
	     fido_assert_set_sig(a, 0, (const unsigned char *)c->signature.ptr, c->signature.len) ==
		     FIDO_OK &&
	     fido_assert_set_up(a, FIDO_OPT_TRUE) == FIDO_OK &&
	     fido_assert_set_uv(a, FIDO_OPT_TRUE) == FIDO_OK &&
	     fido_assert_verify(a, 0, (int)c->alg, k.any) == FIDO_OK;
	if (ok)
		*ret_sign_count = fido_assert_sigcount(a, 0);
	fido_assert_free(&a);
	free_key(&k);
	return ok ? 0 : REFUSE(err, "signature: it is not one of the registered key over this");
}
