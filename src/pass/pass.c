#include "pass/pass.h"

#include <errno.h>
#include <fido.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sodium.h>

#include "base/hash.h"
#include "wire/sign_in.h"

/* A code of TOTP and an empty hash of each kind: what libcrypto fetches at its first use is fetched. */
static bool warm_up(void)
{
	static const int digests[] = {1, 256};
	uint32_t code;

	for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]); i++)
		if (pass_totp(digests[i] == 1 ? BASE_STR("sha1:GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
					      : BASE_STR("sha256:GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"),
			    1, &code) < 0)
			return false;
	return true;
}

int pass_init(struct base_err *err)
{
	if (sodium_init() < 0 || OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1 || !warm_up())
		return base_err_set(err, -EIO, "the cryptographic libraries do not start");
	fido_init(FIDO_DISABLE_U2F_FALLBACK);
	return 0;
}

static bool refuse(struct base_buf *ret, const char *code, const char *message)
{
	struct base_jw w;

	base_buf_clear(ret);
	w = base_jw_of(ret);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", code);
	base_jw_mcstr(&w, "message", message);
	base_jw_end_obj(&w);
	return false;
}

/* --- WebAuthn --- */

enum { RAW_COUNT = 5, RAW_MAX = 16 << 10 };

/* The members that are base64url, decoded into `raw`; what is not there is empty. */
static bool decode(struct base_jv params, struct base_buf raw[RAW_COUNT])
{
	static const char *const names[RAW_COUNT] = {
		"challenge", "client_data", "authenticator_data", "signature", "public_key"};

	for (unsigned i = 0; i < RAW_COUNT; i++)
		if (base_b64url_get(base_jv_str(base_jv_get(params, names[i])), &raw[i]) < 0)
			return false;
	return true;
}

static void fill(struct base_jv params, const struct base_buf raw[RAW_COUNT], struct pass_ceremony *ret)
{
	struct base_jv origins = base_jv_get(params, "origins"), v;
	struct base_jv_iter it = {0};
	struct base_str none;

	*ret = (struct pass_ceremony){.rp_id = base_jv_str(base_jv_get(params, "rp_id")),
		.alg = base_jv_int(base_jv_get(params, "alg"), 0),
		.challenge = base_buf_view(&raw[0]),
		.client_data = base_buf_view(&raw[1]),
		.authenticator_data = base_buf_view(&raw[2]),
		.signature = base_buf_view(&raw[3]),
		.public_key = base_buf_view(&raw[4])};
	while (ret->origin_count < PASS_ORIGINS_MAX && base_jv_next(origins, &it, &none, &v))
		ret->origins[ret->origin_count++] = base_jv_str(v);
}

static void put_b64url(struct base_jw *w, const char *name, const uint8_t *data, size_t len)
{
	struct base_buf text;

	base_buf_init(&text, RAW_MAX);
	base_b64url_put(&text, (struct base_str){(const char *)data, len});
	base_jw_mstr(w, name, base_buf_view(&text));
	base_buf_done(&text);
}

static bool ceremony(const struct pass_ceremony *c, bool create, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);
	struct pass_created made;
	struct base_err err = {0};
	uint32_t count = 0;

	if ((create ? pass_create(c, &made, &err) : pass_get(c, &count, &err)) < 0)
		return refuse(ret, "refused", err.text);
	base_jw_obj(&w);
	if (create) {
		put_b64url(&w, "credential_id", made.id, made.id_len);
		put_b64url(&w, "public_key", made.public_key, made.public_key_len);
		base_jw_mint(&w, "alg", made.alg);
		count = made.sign_count;
	}
	base_jw_mint(&w, "sign_count", count);
	base_jw_end_obj(&w);
	return true;
}

static bool webauthn(struct base_jv params, bool create, struct base_buf *ret)
{
	struct base_buf raw[RAW_COUNT];
	struct pass_ceremony c;
	bool ok;

	for (unsigned i = 0; i < RAW_COUNT; i++)
		base_buf_init(&raw[i], RAW_MAX);
	if (decode(params, raw)) {
		fill(params, raw, &c);
		ok = ceremony(&c, create, ret);
	} else {
		ok = refuse(ret, "refused", "encoding: something is not base64url, or too long");
	}
	for (unsigned i = 0; i < RAW_COUNT; i++)
		base_buf_done(&raw[i]);
	return ok;
}

/* --- passwords and codes --- */

static bool put_step(struct base_buf *ret, int64_t step)
{
	struct base_jw w = base_jw_of(ret);

	base_jw_obj(&w);
	base_jw_mint(&w, "step", step);
	base_jw_end_obj(&w);
	return true;
}

/* Both are looked at, whatever the first says, and the answer does not tell which was wrong. */
static bool password(const struct pass_request *r, struct base_jv params, struct base_buf *ret)
{
	bool need = base_jv_bool(base_jv_get(params, "need_code"), true);
	int64_t now_s = base_jv_int(base_jv_get(params, "now_s"), 0), step;
	bool right = pass_password_is(r->hash, base_jv_str(base_jv_get(params, "password")));

	step = pass_totp_check(r->totp, base_jv_str(base_jv_get(params, "code")), now_s);
	if (!right || (need && step < 0))
		return refuse(ret, "wrong", "the password or the code is wrong");
	return put_step(ret, need ? step : 0);
}

static bool totp(const struct pass_request *r, struct base_jv params, struct base_buf *ret)
{
	int64_t step = pass_totp_check(r->totp, base_jv_str(base_jv_get(params, "code")),
		base_jv_int(base_jv_get(params, "now_s"), 0));

	return step < 0 ? refuse(ret, "wrong", "the code is wrong") : put_step(ret, step);
}

bool pass_answer(const struct pass_request *r, struct base_buf *ret)
{
	struct base_json *doc;
	struct base_jv params;
	bool ok;

	if (base_json_parse(r->params, &doc, NULL) < 0)
		return refuse(ret, "invalid", "the parameters are not JSON");
	params = base_json_root(doc);
	if (base_str_is(r->what, "create") || base_str_is(r->what, "get"))
		ok = webauthn(params, base_str_is(r->what, "create"), ret);
	else if (base_str_is(r->what, "password"))
		ok = password(r, params, ret);
	else if (base_str_is(r->what, "totp"))
		ok = totp(r, params, ret);
	else
		ok = refuse(ret, "invalid", "there is no such check");
	base_json_free(doc);
	if (ok && base_buf_failed(ret))
		return refuse(ret, "failed", "out of memory");
	return ok;
}
