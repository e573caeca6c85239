#include "engine/engine_int.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

/*
 * Credentials: the peer's uid (local door only: our own user or root is the operator); a bearer token; the
 * cookie of a browser session (sessions_web.c).
 *
 * A bearer token is aios_SEED, base64url of an Ed25519 seed whose public half the log knows, or
 * aiosc_CHAIN, base64url of {"k":ROOT,"b":[{"c":CAVEATS,"n":NEXT,"s":SIG}…],"p":SEED}: each block narrows
 * the one before and is signed by its key over "aios-caveat-1", the canonical caveats and NEXT; the holder
 * proves the last key by its seed. ROOT, NEXT and SEED are 32 bytes, SIG 64, all hex.
 *
 * Invariants
 *
 * K1 No secret of a caller is kept: of keys nothing.
 *
 * K2 A key is looked up in the state at every request: a revoked one is refused from the next request on.
 */

enum { BLOCKS_MAX = 8, CACHE_MAX = 256 };

/* The public half of a seed that came lately: making it costs 20 µs and more. */
struct known {
	struct base_hash token;
	uint8_t key[32];
	bool used;
};
struct engine_auth {
	struct known known[CACHE_MAX];
	uint8_t cache_key[32];
};

static struct engine_auth *auth(struct engine *e)
{
	if (!e->auth) {
		e->auth = calloc(1, sizeof(*e->auth));
		BASE_CHECK(e->auth && sodium_init() >= 0);
		engine_random(e, e->auth->cache_key, sizeof(e->auth->cache_key));
	}
	return e->auth;
}

void engine_auth_done(struct engine *e)
{
	if (e->auth)
		sodium_memzero(e->auth, sizeof(*e->auth));
	free(e->auth);
	e->auth = NULL;
}

/* --- keys --- */

static int public_of_seed(struct engine *e, struct base_str seed, uint8_t ret[32])
{
	struct engine_auth *a = auth(e);
	struct base_hash h = base_hash_of2((struct base_str){(const char *)a->cache_key, 32}, seed);
	struct known *k = &a->known[h.b[0] % CACHE_MAX];
	uint8_t secret[crypto_sign_SECRETKEYBYTES];

	if (seed.len != 32)
		return -EINVAL;
	if (!k->used || !base_hash_eq(&k->token, &h)) {
		crypto_sign_seed_keypair(k->key, secret, (const uint8_t *)seed.ptr);
		sodium_memzero(secret, sizeof(secret));
		k->token = h;
		k->used = true;
	}
	memcpy(ret, k->key, 32);
	return 0;
}

static bool name_caller(struct engine *e, struct engine_req *q, const uint8_t key[32])
{
	struct base_str id =
		core_principal_by_key(e->core, (struct base_str){(const char *)key, 32}, engine_wall_ms());

	if (!id.len || id.len >= sizeof(q->by_id))
		return false;
	memcpy(q->by_id, id.ptr, id.len);
	q->by_id[id.len] = '\0';
	q->by.id = (struct base_str){q->by_id, id.len};
	return true;
}

static bool plain_key(struct engine *e, struct engine_req *q, struct base_str text)
{
	struct base_buf seed;
	uint8_t key[32];
	bool ok;

	base_buf_init(&seed, 256);
	ok = base_b64url_get(text, &seed) == 0 && public_of_seed(e, base_buf_view(&seed), key) == 0 &&
	     name_caller(e, q, key);
	if (seed.ptr)
		sodium_memzero(seed.ptr, seed.size);
	base_buf_done(&seed);
	return ok;
}

/* One block: signed by `key`, which becomes the key of the next. Its caveats are appended to the list. */
static bool chain_block(struct base_jv block, uint8_t key[32], struct base_jw *caveats)
{
	uint8_t next[32], sig[crypto_sign_BYTES];
	struct base_jv c = base_jv_get(block, "c");
	struct base_buf b;
	size_t from;
	bool ok;

	if (base_jv_kind(c) != BASE_JSON_OBJ ||
		base_hex_get(base_jv_str(base_jv_get(block, "n")), next, 32) < 0 ||
		base_hex_get(base_jv_str(base_jv_get(block, "s")), sig, sizeof(sig)) < 0)
		return false;
	base_buf_init(&b, 1 << 16);
	base_buf_cstr(&b, "aios-caveat-1");
	from = b.len;
	base_jv_write(c, &b);
	if (!base_buf_failed(&b))
		base_jw_raw(caveats, base_str_sub(base_buf_view(&b), from, b.len));
	base_buf_put(&b, next, 32);
	ok = !base_buf_failed(&b) &&
	     crypto_sign_verify_detached(sig, (const uint8_t *)b.ptr, b.len, key) == 0;
	base_buf_done(&b);
	memcpy(key, next, 32);
	return ok;
}

static bool chain(struct engine *e, struct engine_req *q, struct base_jv root)
{
	struct base_jv blocks = base_jv_get(root, "b"), block;
	struct base_jv_iter it = {0};
	struct base_buf caveats;
	uint8_t key[32], seed[32], last[32];
	struct base_str none;
	struct base_jw w;
	bool ok;

	if (base_hex_get(base_jv_str(base_jv_get(root, "k")), key, 32) < 0 || !name_caller(e, q, key) ||
		base_hex_get(base_jv_str(base_jv_get(root, "p")), seed, 32) < 0)
		return false;
	ok = base_jv_kind(blocks) == BASE_JSON_ARR && base_jv_len(blocks) >= 1 &&
	     base_jv_len(blocks) <= BLOCKS_MAX;
	base_buf_init(&caveats, 1 << 16);
	w = base_jw_of(&caveats);
	base_jw_arr(&w);
	while (ok && base_jv_next(blocks, &it, &none, &block))
		ok = chain_block(block, key, &w);
	base_jw_end_arr(&w);
	ok = ok && public_of_seed(e, (struct base_str){(const char *)seed, 32}, last) == 0 &&
	     sodium_memcmp(last, key, 32) == 0 && !base_buf_failed(&caveats);
	if (ok) {
		q->by.caveats = base_buf_view(&caveats);
		q->by_caveats = base_buf_take(&caveats, NULL);
		q->by.caveats.ptr = q->by_caveats;
		ok = q->by_caveats != NULL;
	}
	base_buf_done(&caveats);
	sodium_memzero(seed, sizeof(seed));
	return ok;
}

static bool attenuated_key(struct engine *e, struct engine_req *q, struct base_str text)
{
	struct base_json *doc = NULL;
	struct base_buf json;
	bool ok;

	base_buf_init(&json, 1 << 16);
	ok = base_b64url_get(text, &json) == 0 && base_json_parse(base_buf_view(&json), &doc, NULL) == 0 &&
	     chain(e, q, base_json_root(doc));
	base_json_free(doc);
	base_buf_done(&json);
	return ok;
}

/* --- who asks --- */

static void be_operator(struct engine_req *q)
{
	snprintf(q->by_id, sizeof(q->by_id), "operator");
	q->by.id = base_str_of(q->by_id);
}

int engine_authenticate(struct engine *e, struct engine_req *q, const struct wire_door_request *in)
{
	struct base_str token = in->token;

	q->by = (struct core_caller){0};
	switch (in->credential) {
	case 1:
		if (!q->door->local_door || (in->uid != geteuid() && in->uid != 0))
			return 401;
		be_operator(q);
		return 0;
	case 2:
		if (base_str_starts(token, BASE_STR("aiosc_")))
			return attenuated_key(e, q, base_str_sub(token, 6, token.len)) ? 0 : 401;
		if (base_str_starts(token, BASE_STR("aios_")))
			return plain_key(e, q, base_str_sub(token, 5, token.len)) ? 0 : 401;
		return 401;
	case 3:
		if (!engine_web_session(e, q, token))
			return 401;
		be_operator(q);
		return 0;
	default:
		return 401;
	}
}
