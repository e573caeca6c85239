#include "engine/engine_int.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "token/token.h"

/*
 * Keys: who holds one (token/token.h has their form), and the operations on them.
 *
 * Invariants
 *
 * K2 A key is looked up in the state at every request: a revoked one is refused from the next request on.
 *
 * K3 Every refusal looks the same from outside: a text that is no key, another workspace's, one that is unknown,
 * revoked, expired, or whose chain does not verify.
 *
 * K4 When a key was last used is known at least to the hour, also after a crash; the first use of a rotated one at once,
 * since it ends the old one.
 */

enum { CACHE_MAX = 256, USES_MAX = 4096, RATE = 2000, BURST = 10000 };
static const int64_t used_every_ms = 3600 * 1000;

/* The public half of a key that came lately: making it costs 20 µs and more. */
struct known {
	struct base_hash text;
	uint8_t key[32];
	bool used;
};

struct use {
	char id[160];
	int64_t at_ms;
	bool written;
	int64_t level, level_at; /* tokens of its rate, in thousandths; monotonic */
};

struct engine_key_uses {
	struct known known[CACHE_MAX];
	uint8_t cache_key[32];
	struct use uses[USES_MAX];
	size_t count;
};

static struct engine_key_uses *mine(struct engine *e)
{
	if (!e->key_uses) {
		e->key_uses = calloc(1, sizeof(*e->key_uses));
		BASE_CHECK(e->key_uses && sodium_init() >= 0);
		engine_random(e, e->key_uses->cache_key, sizeof(e->key_uses->cache_key));
	}
	return e->key_uses;
}

void engine_keys_done(struct engine *e)
{
	if (e->key_uses)
		sodium_memzero(e->key_uses, sizeof(*e->key_uses));
	free(e->key_uses);
	e->key_uses = NULL;
}

void engine_keys_tag(const struct engine *e, uint8_t ret[8])
{
	struct base_hash h = base_hash_of2(BASE_STR("aios workspace "), core_workspace(e->core));

	memcpy(ret, h.b, 8);
}

/* --- last use --- */

static void write_uses(struct engine *e, struct use *list, size_t n, bool fresh)
{
	struct core_cmd cmd = {.type = CORE_CMD_KEYS_USED, .by = {.id = BASE_STR("operator")}};
	struct core_reply r;
	struct base_buf b;
	struct base_jw w;
	size_t count = 0;

	base_buf_init(&b, 60 << 10);
	w = base_jw_of(&b);
	base_jw_arr(&w);
	for (size_t i = 0; i < n && count < 200; i++) {
		if (list[i].written)
			continue;
		base_jw_obj(&w);
		base_jw_mcstr(&w, "id", list[i].id);
		base_jw_mint(&w, "at_ms", list[i].at_ms);
		if (fresh)
			base_jw_mbool(&w, "new", true);
		base_jw_end_obj(&w);
		list[i].written = true;
		count++;
	}
	base_jw_end_arr(&w);
	cmd.body = base_buf_view(&b);
	if (count > 0 && engine_decide(e, &cmd, &r) < 0)
		engine_note(2, "when keys were last used could not be written");
	base_buf_done(&b);
}

void engine_keys_flush(struct engine *e)
{
	if (e->key_uses)
		write_uses(e, e->key_uses->uses, e->key_uses->count, false);
}

/* The place of the key that was used longest ago, for another; that it was used is written. */
static struct use *longest_ago(struct engine *e, struct engine_key_uses *m)
{
	struct use *u = &m->uses[0];

	for (size_t i = 1; i < m->count; i++)
		if (m->uses[i].at_ms < u->at_ms)
			u = &m->uses[i];
	write_uses(e, u, 1, false);
	return u;
}

static struct use *find_use(struct engine_key_uses *m, struct base_str id)
{
	for (size_t i = 0; i < m->count; i++)
		if (base_str_is(id, m->uses[i].id))
			return &m->uses[i];
	return NULL;
}

static struct use *use_of(struct engine *e, struct base_str id)
{
	struct engine_key_uses *m = mine(e);
	struct use *u = find_use(m, id);

	if (u)
		return u;
	if (id.len >= sizeof(u->id))
		return NULL;
	u = m->count == USES_MAX ? longest_ago(e, m) : &m->uses[m->count++];
	*u = (struct use){.written = true, .level = INT64_MAX, .level_at = e->mono};
	memcpy(u->id, id.ptr, id.len);
	return u;
}

static void note_use(struct engine *e, struct base_str id, bool fresh)
{
	struct use *u = use_of(e, id);
	int64_t now = engine_wall_ms();

	if (!u)
		return;
	u->at_ms = now;
	u->written = false;
	if (fresh || now - core_key_used_ms(e->core, id) >= used_every_ms)
		write_uses(e, u, 1, fresh);
}

/* --- how much a key may ask --- */

static int64_t rate_of(const struct engine *e, const char *name, int64_t otherwise)
{
	struct base_jv door =
		e->config ? base_jv_get(base_json_root(e->config), "door") : (struct base_jv){0};

	return base_jv_int(base_jv_get(base_jv_get(base_jv_get(door, "rates"), "key"), name), otherwise);
}

int64_t engine_key_wait_ms(struct engine *e, struct base_str id)
{
	int64_t rate = rate_of(e, "per_second", RATE), full = 1000 * rate_of(e, "burst", BURST), ms;
	struct use *u = use_of(e, id);

	if (!u || rate <= 0)
		return 0;
	ms = e->mono - u->level_at;
	u->level = u->level >= full || ms > full / rate ? full : u->level + ms * rate;
	u->level = u->level > full ? full : u->level;
	u->level_at = e->mono;
	if (u->level >= 1000) {
		u->level -= 1000;
		return 0;
	}
	return (1000 - u->level + rate - 1) / rate;
}

/* --- who asks --- */

static bool name_caller(struct engine *e, struct engine_req *q, const uint8_t key[32])
{
	bool fresh = false;
	struct base_str id = core_principal_by_key(
		e->core, (struct base_str){(const char *)key, 32}, engine_wall_ms(), &fresh);

	if (!id.len || id.len >= sizeof(q->by_id))
		return false;
	memcpy(q->by_id, id.ptr, id.len);
	q->by_id[id.len] = '\0';
	q->by.id = (struct base_str){q->by_id, id.len};
	memcpy(q->holder, key, sizeof(q->holder));
	note_use(e, q->by.id, fresh);
	return true;
}

/* Keeps what a plain key's text comes to. */
static bool read_text(struct engine *e, struct engine_req *q, struct base_str text, struct known *k)
{
	struct base_hash h = k->text;
	uint8_t tag[TOKEN_TAG];
	struct base_err err;
	struct token t;
	bool ok;

	if (token_read(text, &t, &err) < 0)
		return false;
	engine_keys_tag(e, tag);
	ok = memcmp(tag, t.tag, sizeof(tag)) == 0;
	if (ok && t.blocks == 0)
		*k = (struct known){.text = h, .used = true};
	if (ok && t.blocks == 0)
		memcpy(k->key, t.root, sizeof(k->key));
	if (ok && t.blocks > 0) {
		q->by.caveats = base_buf_view(&t.caveats);
		q->by_caveats = base_buf_take(&t.caveats, NULL);
		q->by.caveats.ptr = q->by_caveats;
		ok = q->by_caveats != NULL;
	}
	ok = ok && name_caller(e, q, t.root);
	token_done(&t);
	return ok;
}

bool engine_authenticate_key(struct engine *e, struct engine_req *q, struct base_str text)
{
	struct engine_key_uses *m = mine(e);
	struct base_hash h = base_hash_of2((struct base_str){(const char *)m->cache_key, 32}, text);
	struct known *k = &m->known[h.b[0] % CACHE_MAX], try = {.text = h};
	bool ok;

	if (k->used && base_hash_eq(&k->text, &h))
		return name_caller(e, q, k->key);
	ok = read_text(e, q, text, &try);
	if (try.used)
		*k = try;
	return ok;
}

/* --- operations --- */

void engine_op_keys(struct engine *e, struct engine_req *q)
{
	struct base_jv_iter it = {0}, jt;
	struct base_json *doc = NULL;
	struct base_str none, key;
	struct base_buf all;
	struct base_jv v, m;
	struct base_jw w;

	base_buf_init(&all, 16 << 20);
	if (core_keys_json(e->core, &all) < 0 || base_json_parse(engine_array_of(&all), &doc, NULL) < 0) {
		engine_reply_problem(e, q, 500, "internal", "out of memory");
		base_buf_done(&all);
		return;
	}
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_key(&w, "items");
	base_jw_arr(&w);
	while (base_jv_next(base_json_root(doc), &it, &none, &v)) {
		const struct use *u = find_use(mine(e), base_jv_str(base_jv_get(v, "id")));
		int64_t used = base_jv_int(base_jv_get(v, "used_ms"), 0);

		base_jw_obj(&w);
		for (jt = (struct base_jv_iter){0}; base_jv_next(v, &jt, &key, &m);) {
			if (base_str_is(key, "used_ms"))
				continue;
			base_jw_key_str(&w, key);
			base_jw_value(&w, m);
		}
		if (u && u->at_ms > used)
			used = u->at_ms;
		if (used)
			base_jw_mint(&w, "used_ms", used);
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	base_json_free(doc);
	base_buf_done(&all);
	engine_reply_built(e, q, 200);
}

/* "expires" as a duration, or "expires_ms". False and answered when it is neither: no key is without an end by mistake. */
static bool read_expiry(struct engine *e, struct engine_req *q, struct base_jv root, int64_t *ret)
{
	struct base_jv at = base_jv_get(root, "expires_ms"), in = base_jv_get(root, "expires");
	struct base_err err = {.text = "it is a duration such as 30d; expires_ms is a time in milliseconds"};
	int64_t ms;

	*ret = base_jv_int(at, 0);
	if (base_jv_kind(in) == BASE_JSON_NONE &&
		(base_jv_kind(at) == BASE_JSON_NONE || (base_jv_kind(at) == BASE_JSON_INT && *ret >= 0)))
		return true;
	if (base_jv_kind(in) == BASE_JSON_STR && base_jv_kind(at) == BASE_JSON_NONE &&
		base_duration_parse(base_jv_str(in), &ms, &err) == 0 &&
		!__builtin_add_overflow(engine_wall_ms(), ms, ret))
		return true;
	engine_reply_problem(e, q, 400, "invalid", "expires: %s", err.text);
	return false;
}

/* A member that nobody reads would be a limit that nobody keeps. */
static bool members_known(struct engine *e, struct engine_req *q, struct base_jv root)
{
	static const char *const known[] = {"name", "kind", "grants", "scope", "expires", "expires_ms"};
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(root, &it, &key, &v)) {
		bool is_known = false;

		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			is_known = is_known || base_str_is(key, known[i]);
		if (is_known && (!base_str_is(key, "kind") || base_jv_kind(v) == BASE_JSON_STR))
			continue;
		engine_reply_problem(e, q, 400, "invalid",
			"a key has name, kind, grants, scope and expires: \"%.*s\" is none of these, or no "
			"text",
			BASE_STR_ARG(key));
		return false;
	}
	return true;
}

static bool grants_fit(struct base_jv grants)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	while (base_jv_next(grants, &it, &none, &v))
		if (!base_jv_str(v).len)
			return false;
	return base_jv_kind(grants) == BASE_JSON_ARR && base_jv_len(grants) > 0;
}

static bool read_key(struct engine *e, struct engine_req *q, struct base_jv root, struct base_buf *body)
{
	struct base_str kind = base_jv_str(base_jv_get(root, "kind"));
	struct base_jv grants = base_jv_get(root, "grants"), scope = base_jv_get(root, "scope"), v;
	struct base_jw w = base_jw_of(body);
	struct base_jv_iter it = {0};
	struct base_str none;
	int64_t until;

	if (!members_known(e, q, root))
		return false;
	if (!grants_fit(grants)) {
		engine_reply_problem(e, q, 400, "invalid",
			"the body needs \"grants\": a list such as [\"api.run_start\"]");
		return false;
	}
	if (!read_expiry(e, q, root, &until))
		return false;
	base_jw_obj(&w);
	base_jw_mstr(&w, "kind", kind.len ? kind : BASE_STR("service"));
	base_jw_key(&w, "grants");
	base_jw_arr(&w);
	while (base_jv_next(grants, &it, &none, &v))
		base_jw_str(&w, base_jv_str(v));
	base_jw_end_arr(&w);
	base_jw_mint(&w, "expires_ms", until);
	if (base_jv_kind(scope) != BASE_JSON_NONE) {
		base_jw_key(&w, "scope");
		base_jw_value(&w, scope);
	}
	base_jw_end_obj(&w);
	return true;
}

/* Decides with the public half of a new seed; the seed leaves once, in the answer, behind the commit. */
static void issue(struct engine *e, struct engine_req *q, struct core_cmd *cmd, int status)
{
	uint8_t seed[TOKEN_SEED], public[32], secret[crypto_sign_SECRETKEYBYTES], tag[TOKEN_TAG];
	struct base_buf key;
	struct core_reply r;
	struct base_jw w;

	base_buf_init(&key, 256);
	engine_random(e, seed, sizeof(seed));
	BASE_CHECK(sodium_init() >= 0);
	crypto_sign_seed_keypair(public, secret, seed);
	sodium_memzero(secret, sizeof(secret));
	cmd->bytes = (struct base_str){(const char *)public, sizeof(public)};
	if (engine_req_decide(e, q, cmd, &r)) {
		engine_keys_tag(e, tag);
		token_put(seed, tag, &key);
		w = base_jw_of(&q->reply);
		base_jw_obj(&w);
		base_jw_mstr(&w, "name", cmd->name);
		base_jw_mstr(&w, "key", base_buf_view(&key));
		base_jw_end_obj(&w);
		engine_reply_built(e, q, status);
	}
	sodium_memzero(seed, sizeof(seed));
	if (key.ptr)
		sodium_memzero(key.ptr, key.size);
	base_buf_done(&key);
}

void engine_op_key_create(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_KEY_ADD};
	struct base_json *doc = engine_body_json(e, q);
	struct base_buf body;

	if (!doc)
		return;
	base_buf_init(&body, 1 << 16);
	cmd.name = base_jv_str(base_jv_get(base_json_root(doc), "name"));
	if (read_key(e, q, base_json_root(doc), &body)) {
		cmd.body = base_buf_view(&body);
		issue(e, q, &cmd, 201);
	}
	base_buf_done(&body);
	base_json_free(doc);
}

static bool read_overlap(struct engine *e, struct engine_req *q, struct base_jv root, int64_t *ret)
{
	struct base_str overlap = base_jv_str(base_jv_get(root, "overlap"));
	struct base_err err;

	*ret = 0;
	if (!overlap.len || base_duration_parse(overlap, ret, &err) == 0)
		return true;
	engine_reply_problem(e, q, 400, "invalid", "overlap: %s", err.text);
	return false;
}

void engine_op_key_change(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {
		.type = q->op == WIRE_OP_KEY_ROTATE ? CORE_CMD_KEY_ROTATE : CORE_CMD_KEY_REVOKE,
		.name = engine_param(q, "key")};
	struct base_json *doc = engine_body_json(e, q);

	if (!doc)
		return;
	cmd.text = base_jv_str(base_jv_get(base_json_root(doc), "reason"));
	if (q->op == WIRE_OP_KEY_REVOKE)
		engine_reply_cmd(e, q, &cmd);
	else if (read_overlap(e, q, base_json_root(doc), &cmd.base))
		issue(e, q, &cmd, 200);
	base_json_free(doc);
}
