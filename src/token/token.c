#include "token/token.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

enum { CHECK_LEN = 6, LIST_MAX = 64, TEXT_MAX = 200, CHAIN_CAP = 1 << 16 };

static const struct base_str plain_prefix = {"aios_", 5}, chain_prefix = {"aiosc_", 6};
static const struct base_str signed_as = {"aios-caveat-2", 13};

/* --- the checksum --- */

static uint32_t crc32_of(struct base_str s)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < s.len; i++) {
		crc ^= (uint8_t)s.ptr[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
	}
	return ~crc;
}

static void check_of(struct base_str s, char ret[CHECK_LEN])
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	uint32_t crc = crc32_of(s);

	for (int i = CHECK_LEN - 1; i >= 0; i--, crc /= 62)
		ret[i] = digits[crc % 62];
}

static void put_check(struct base_buf *b, size_t from)
{
	char check[CHECK_LEN];

	check_of(base_str_sub(base_buf_view(b), from, b->len), check);
	base_buf_put(b, check, sizeof(check));
}

/* --- caveats --- */

/* A list of short texts; what they mean is core's to know. */
static int check_list(struct base_jv list, const char *name, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_str key, s;
	struct base_jv v;

	if (base_jv_kind(list) != BASE_JSON_ARR || base_jv_len(list) > LIST_MAX)
		return base_err_set(err, -EINVAL, "%s is a list of at most %d texts", name, LIST_MAX);
	while (base_jv_next(list, &it, &key, &v)) {
		s = base_jv_str(v);
		if (s.len == 0 || s.len > TEXT_MAX || memchr(s.ptr, 0, s.len))
			return base_err_set(
				err, -EINVAL, "%s holds texts of 1 to %d characters", name, TEXT_MAX);
	}
	return 0;
}

int token_scope_check(struct base_jv scope, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	int r = 0;

	if (base_jv_kind(scope) != BASE_JSON_OBJ)
		return base_err_set(err, -EINVAL, "scope is an object with flows, memory and own");
	while (r == 0 && base_jv_next(scope, &it, &key, &v)) {
		if (base_str_is(key, "flows"))
			r = check_list(v, "scope.flows", err);
		else if (base_str_is(key, "memory"))
			r = check_list(v, "scope.memory", err);
		else if (!base_str_is(key, "own") || base_jv_kind(v) != BASE_JSON_BOOL)
			r = base_err_set(err, -EINVAL, "scope has flows, memory and own (true or false)");
	}
	return r;
}

int token_caveats_check(struct base_jv caveats, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	int r = 0;

	if (base_jv_kind(caveats) != BASE_JSON_OBJ)
		return base_err_set(err, -EINVAL, "what narrows a key is an object");
	while (r == 0 && base_jv_next(caveats, &it, &key, &v)) {
		if (base_str_is(key, "grants"))
			r = check_list(v, "grants", err);
		else if (base_str_is(key, "scope"))
			r = token_scope_check(v, err);
		else if (!base_str_is(key, "expires_ms") || base_jv_int(v, 0) <= 0)
			r = base_err_set(err, -EINVAL,
				"a key is narrowed by grants, expires_ms and scope, nothing else");
	}
	return r;
}

/* --- plain keys --- */

void token_put(const uint8_t seed[TOKEN_SEED], const uint8_t tag[TOKEN_TAG], struct base_buf *ret)
{
	uint8_t raw[TOKEN_SEED + TOKEN_TAG];
	size_t from = ret->len;

	memcpy(raw, seed, TOKEN_SEED);
	memcpy(raw + TOKEN_SEED, tag, TOKEN_TAG);
	base_buf_str(ret, plain_prefix);
	base_b64url_put(ret, (struct base_str){(const char *)raw, sizeof(raw)});
	put_check(ret, from);
	sodium_memzero(raw, sizeof(raw));
}

static void public_of(const uint8_t seed[TOKEN_SEED], uint8_t ret[32])
{
	uint8_t secret[crypto_sign_SECRETKEYBYTES];

	crypto_sign_seed_keypair(ret, secret, seed);
	sodium_memzero(secret, sizeof(secret));
}

static int read_plain(struct base_str raw, struct token *t)
{
	if (raw.len != TOKEN_SEED + TOKEN_TAG)
		return -EINVAL;
	memcpy(t->seed, raw.ptr, TOKEN_SEED);
	memcpy(t->tag, raw.ptr + TOKEN_SEED, TOKEN_TAG);
	public_of(t->seed, t->root);
	return 0;
}

/* --- chains --- */

/* What a block's key signs. */
static void put_signed(
	struct base_buf *b, const uint8_t tag[TOKEN_TAG], struct base_jv caveats, const uint8_t next[32])
{
	base_buf_str(b, signed_as);
	base_buf_put(b, tag, TOKEN_TAG);
	base_jv_write(caveats, b);
	base_buf_put(b, next, 32);
}

static bool hex_of(struct base_jv v, uint8_t *ret, size_t len)
{
	return base_jv_kind(v) == BASE_JSON_STR && base_hex_get(base_jv_str(v), ret, len) == 0;
}

/* One block: signed by `key`, which becomes the key of the next. */
static int read_block(
	struct base_jv block, const uint8_t tag[TOKEN_TAG], uint8_t key[32], struct base_err *err)
{
	uint8_t next[32], sig[crypto_sign_BYTES];
	struct base_jv caveats = base_jv_get(block, "c");
	struct base_buf b;
	bool ok;

	if (base_jv_kind(block) != BASE_JSON_OBJ || base_jv_len(block) != 3 ||
		!hex_of(base_jv_get(block, "n"), next, sizeof(next)) ||
		!hex_of(base_jv_get(block, "s"), sig, sizeof(sig)))
		return base_err_set(err, -EINVAL, "the key's chain has a block that is none");
	base_buf_init(&b, CHAIN_CAP);
	put_signed(&b, tag, caveats, next);
	ok = !base_buf_failed(&b) &&
	     crypto_sign_verify_detached(sig, (const uint8_t *)b.ptr, b.len, key) == 0;
	base_buf_done(&b);
	memcpy(key, next, sizeof(next));
	if (!ok)
		return base_err_set(err, -EBADMSG, "a block of the key's chain is not signed by who had to");
	return token_caveats_check(caveats, err) < 0 ? -EBADMSG : 0;
}

static int read_blocks(struct base_jv blocks, struct token *t, struct base_err *err)
{
	uint8_t key[32], last[32];
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv block;
	struct base_jw w = base_jw_of(&t->caveats);
	int r = 0;

	memcpy(key, t->root, sizeof(key));
	base_jw_arr(&w);
	while (r == 0 && base_jv_next(blocks, &it, &none, &block)) {
		r = read_block(block, t->tag, key, err);
		base_jw_value(&w, base_jv_get(block, "c"));
		t->blocks++;
	}
	base_jw_end_arr(&w);
	base_jv_write(blocks, &t->chain);
	public_of(t->seed, last);
	if (r == 0 && sodium_memcmp(last, key, sizeof(key)) != 0)
		r = base_err_set(err, -EBADMSG, "whoever holds the chain does not hold its last key");
	if (r == 0 && (base_buf_failed(&t->caveats) || base_buf_failed(&t->chain)))
		r = -ENOMEM;
	return r;
}

static int read_chain(struct base_str json, struct token *t, struct base_err *err)
{
	struct base_json *doc;
	struct base_jv root, blocks;
	int r;

	if (base_json_parse(json, &doc, NULL) < 0)
		return base_err_set(err, -EINVAL, "this is not a key");
	root = base_json_root(doc);
	blocks = base_jv_get(root, "b");
	if (base_jv_kind(root) != BASE_JSON_OBJ || base_jv_len(root) != 4 ||
		base_jv_kind(blocks) != BASE_JSON_ARR || base_jv_len(blocks) < 1 ||
		base_jv_len(blocks) > TOKEN_BLOCKS_MAX ||
		!hex_of(base_jv_get(root, "k"), t->root, sizeof(t->root)) ||
		!hex_of(base_jv_get(root, "p"), t->seed, sizeof(t->seed)) ||
		!hex_of(base_jv_get(root, "w"), t->tag, sizeof(t->tag)))
		r = base_err_set(err, -EINVAL, "this is not a key");
	else
		r = read_blocks(blocks, t, err);
	base_json_free(doc);
	return r;
}

int token_read(struct base_str text, struct token *ret, struct base_err *err)
{
	bool chained = base_str_starts(text, chain_prefix);
	struct base_str body, check;
	struct token t = {0};
	char want[CHECK_LEN];
	struct base_buf raw;
	int r;

	if ((!chained && !base_str_starts(text, plain_prefix)) || text.len > TOKEN_TEXT_MAX ||
		text.len < chain_prefix.len + CHECK_LEN)
		return base_err_set(err, -EINVAL, "this is not a key: it begins with aios_ or aiosc_");
	body = base_str_sub(text, 0, text.len - CHECK_LEN);
	check = base_str_sub(text, text.len - CHECK_LEN, text.len);
	check_of(body, want);
	if (memcmp(check.ptr, want, CHECK_LEN) != 0)
		return base_err_set(err, -EILSEQ, "the key was not copied whole: its checksum does not fit");
	body = base_str_sub(body, chained ? chain_prefix.len : plain_prefix.len, body.len);
	base_buf_init(&raw, TOKEN_TEXT_MAX);
	base_buf_init(&t.caveats, CHAIN_CAP);
	base_buf_init(&t.chain, CHAIN_CAP);
	r = base_b64url_get(body, &raw);
	if (r == 0)
		r = chained ? read_chain(base_buf_view(&raw), &t, err) : read_plain(base_buf_view(&raw), &t);
	if (r == -EINVAL)
		base_err_set(err, r, "this is not a key");
	if (raw.ptr)
		sodium_memzero(raw.ptr, raw.size);
	base_buf_done(&raw);
	if (r < 0) {
		token_done(&t);
		return r;
	}
	*ret = t;
	return 0;
}

void token_done(struct token *t)
{
	if (!t)
		return;
	if (t->caveats.ptr)
		sodium_memzero(t->caveats.ptr, t->caveats.size);
	base_buf_done(&t->caveats);
	base_buf_done(&t->chain);
	sodium_memzero(t, sizeof(*t));
}

/* --- narrowing --- */

static void put_hex(struct base_jw *w, const char *name, const uint8_t *data, size_t len)
{
	struct base_buf hex;

	base_buf_init(&hex, 256);
	base_hex_put(&hex, (struct base_str){(const char *)data, len});
	base_jw_mstr(w, name, base_buf_view(&hex));
	if (hex.ptr)
		sodium_memzero(hex.ptr, hex.size);
	base_buf_done(&hex);
}

/* The signature of a block by the key whose seed this is. */
static int sign(
	const struct token *t, struct base_jv caveats, const uint8_t next[32], uint8_t ret[crypto_sign_BYTES])
{
	uint8_t public[32], secret[crypto_sign_SECRETKEYBYTES];
	struct base_buf b;
	int r;

	base_buf_init(&b, CHAIN_CAP);
	put_signed(&b, t->tag, caveats, next);
	r = base_buf_failed(&b);
	crypto_sign_seed_keypair(public, secret, t->seed);
	if (r == 0)
		crypto_sign_detached(ret, NULL, (const uint8_t *)b.ptr, b.len, secret);
	sodium_memzero(secret, sizeof(secret));
	base_buf_done(&b);
	return r;
}

/* The chain's JSON with one block more. */
static void put_chain(const struct token *t, struct base_jv caveats, const uint8_t public[32],
	const uint8_t sig[crypto_sign_BYTES], const uint8_t next[TOKEN_SEED], struct base_buf *b)
{
	struct base_str before = base_buf_view(&t->chain);
	struct base_jw w = base_jw_of(b);

	base_jw_obj(&w);
	base_jw_key(&w, "b");
	base_jw_arr(&w);
	if (before.len > 2) /* what stands between the brackets */
		base_jw_raw(&w, base_str_sub(before, 1, before.len - 2));
	base_jw_obj(&w);
	base_jw_key(&w, "c");
	base_jw_value(&w, caveats);
	put_hex(&w, "n", public, 32);
	put_hex(&w, "s", sig, crypto_sign_BYTES);
	base_jw_end_obj(&w);
	base_jw_end_arr(&w);
	put_hex(&w, "k", t->root, sizeof(t->root));
	put_hex(&w, "p", next, TOKEN_SEED);
	put_hex(&w, "w", t->tag, sizeof(t->tag));
	base_jw_end_obj(&w);
}

int token_attenuate(const struct token *t, struct base_jv caveats, const uint8_t next[TOKEN_SEED],
	struct base_buf *ret, struct base_err *err)
{
	uint8_t public[32], sig[crypto_sign_BYTES];
	size_t from = ret->len;
	struct base_buf b;
	int r = token_caveats_check(caveats, err);

	if (r < 0)
		return r;
	if (t->blocks >= TOKEN_BLOCKS_MAX)
		return base_err_set(err, -E2BIG,
			"the key was narrowed %d times already: take one from before", TOKEN_BLOCKS_MAX);
	public_of(next, public);
	r = sign(t, caveats, public, sig);
	if (r < 0)
		return base_err_set(err, r, "out of memory");
	base_buf_init(&b, CHAIN_CAP);
	put_chain(t, caveats, public, sig, next, &b);
	base_buf_str(ret, chain_prefix);
	base_b64url_put(ret, base_buf_view(&b));
	put_check(ret, from);
	r = base_buf_failed(&b) ? base_buf_failed(&b) : base_buf_failed(ret);
	if (b.ptr)
		sodium_memzero(b.ptr, b.size);
	base_buf_done(&b);
	if (r < 0)
		return base_err_set(err, r, "out of memory");
	if (ret->len - from > TOKEN_TEXT_MAX)
		return base_err_set(err, -E2BIG,
			"the key would be longer than %d characters: say it with fewer patterns",
			TOKEN_TEXT_MAX);
	return 0;
}
