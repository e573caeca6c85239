#include "engine/sign_in_int.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/*
 * Sessions of browsers, one-time links, challenges. Sessions are the core's (core/sign_in.c): a restart keeps them. Here is
 * what a restart may forget: when each was last used, links, which challenges were used.
 *
 * Invariants
 *
 * L1 No token is kept: of cookies and links the hash.
 *
 * L2 A session lives at most its absolute life, and its idle life behind its last use. After a restart the last use is taken
 * to be as early as it can have been: a session in use gets another token each `rotate`, which the log tells.
 *
 * L3 A token of a browser that signs in is new, and its session before is closed: nobody can have known it.
 *
 * L4 A challenge is made for one kind of ceremony and (registering) one session, and counts once, within two minutes. What is
 * not used costs no memory: it says itself when it was made, under a key that only this life of aiosd has.
 */

enum { LINKS_MAX = 16, USES_MAX = 2 * CORE_SESSIONS_MAX, SPENT_MAX = 256, ID_MAX = 65 };
static const int64_t link_ms = 300 * 1000, challenge_ms = 120 * 1000;

struct link {
	struct base_hash hash;
	int64_t until; /* monotonic; 0: free */
};
struct use {
	char id[ID_MAX];
	int64_t last_ms;
};
/* A challenge that was used. */
struct spent {
	uint8_t random[16];
	int64_t until_ms; /* 0: free */
};
struct engine_web {
	struct link links[LINKS_MAX];
	struct use uses[USES_MAX];
	struct spent spent[SPENT_MAX];
	uint8_t csrf_key[32], challenge_key[crypto_auth_KEYBYTES];
};

static struct engine_web *web(struct engine *e)
{
	if (!e->web) {
		e->web = calloc(1, sizeof(*e->web));
		BASE_CHECK(e->web && sodium_init() >= 0);
		engine_random(e, e->web->csrf_key, sizeof(e->web->csrf_key));
		engine_random(e, e->web->challenge_key, sizeof(e->web->challenge_key));
	}
	return e->web;
}

void engine_web_done(struct engine *e)
{
	if (e->web)
		sodium_memzero(e->web, sizeof(*e->web));
	free(e->web);
	e->web = NULL;
}

static struct base_hash hash_token(struct base_str token)
{
	return base_hash_of2(BASE_STR("aios session "), token);
}

/* A new token: base64url of 32 random bytes. */
static struct base_hash make_token(struct engine *e, struct base_buf *ret)
{
	struct base_hash h;
	uint8_t raw[32];
	size_t from = ret->len;

	engine_random(e, raw, sizeof(raw));
	base_b64url_put(ret, (struct base_str){(const char *)raw, sizeof(raw)});
	h = hash_token(base_str_sub(base_buf_view(ret), from, ret->len));
	sodium_memzero(raw, sizeof(raw));
	return h;
}

static int decide(struct engine *e, struct core_cmd *cmd)
{
	struct core_reply r;

	cmd->by = (struct core_caller){.id = BASE_STR("operator")};
	return engine_decide(e, cmd, &r) < 0 ? 500 : r.status;
}

/* --- cookies --- */

/* "Set-Cookie: …" in one line of q->headers. `token` empty: it goes. */
static void put_cookie(struct engine *e, struct engine_req *q, struct base_str token, int64_t life_ms)
{
	bool secure = engine_door_secure(e);

	base_buf_printf(&q->headers,
		"Set-Cookie: %s=%.*s; Path=/; HttpOnly; SameSite=Strict; Max-Age=%lld%s\n",
		secure ? "__Host-aios" : "aios_session", BASE_STR_ARG(token), (long long)(life_ms / 1000),
		secure ? "; Secure" : "");
}

/* --- use --- */

static struct use *use_of(struct engine *e, struct base_str id, bool make)
{
	struct engine_web *w = web(e);
	struct use *oldest = &w->uses[0];

	for (size_t i = 0; i < USES_MAX; i++) {
		if (base_str_is(id, w->uses[i].id))
			return &w->uses[i];
		if (w->uses[i].last_ms < oldest->last_ms)
			oldest = &w->uses[i];
	}
	if (!make)
		return NULL;
	snprintf(oldest->id, sizeof(oldest->id), "%.*s", BASE_STR_ARG(id));
	oldest->last_ms = 0;
	return oldest;
}

/* When it was last used, as far as is known (L2). */
static int64_t last_use(struct engine *e, const struct core_session_info *s, int64_t rotate_ms)
{
	const struct use *u = use_of(e, s->id, false);
	int64_t at = s->token_ms + rotate_ms, now = engine_wall_ms();

	return u ? u->last_ms : at < now ? at : now;
}

static void close_session(struct engine *e, struct base_str id, const char *reason)
{
	struct core_cmd cmd = {.type = CORE_CMD_SESSION_CLOSE, .text = base_str_of(reason)};
	char copy[ID_MAX];

	snprintf(copy, sizeof(copy), "%.*s", BASE_STR_ARG(id));
	cmd.name = base_str_of(copy);
	(void)decide(e, &cmd);
}

bool engine_web_is_open(struct engine *e, struct base_str id)
{
	struct engine_sign_in_config config;
	struct core_session_info s;

	engine_sign_in_config(e, &config);
	return core_session_get(e->core, id, engine_wall_ms(), &s) &&
	       engine_wall_ms() - last_use(e, &s, config.rotate_ms) < config.idle_ms;
}

bool engine_web_session(struct engine *e, struct engine_req *q, struct base_str token)
{
	struct engine_sign_in_config config;
	struct base_hash h = hash_token(token);
	int64_t now = engine_wall_ms();
	struct core_session_info s;

	engine_sign_in_config(e, &config);
	if (!core_session_find(e->core, &h, now, &s))
		return false;
	if (now - last_use(e, &s, config.rotate_ms) >= config.idle_ms) {
		close_session(e, s.id, "not used for too long");
		return false;
	}
	use_of(e, s.id, true)->last_ms = now;
	snprintf(q->session, sizeof(q->session), "%.*s", BASE_STR_ARG(s.id));
	q->session_rotates = !s.old && now - s.token_ms >= config.rotate_ms;
	return true;
}

void engine_web_rotate(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_SESSION_OPEN, .key = base_str_of(q->session)};
	struct core_session_info s;
	struct base_buf token;

	if (!q->session_rotates || !core_session_get(e->core, base_str_of(q->session), engine_wall_ms(), &s))
		return;
	q->session_rotates = false;
	base_buf_init(&token, 256);
	cmd.hash = make_token(e, &token);
	if (decide(e, &cmd) < 400)
		put_cookie(e, q, base_buf_view(&token), s.until_ms - engine_wall_ms());
	sodium_memzero(token.ptr, token.len);
	base_buf_done(&token);
}

bool engine_web_open(struct engine *e, struct engine_req *q, const char *how, struct base_str credential)
{
	struct core_cmd cmd = {.type = CORE_CMD_SESSION_OPEN};
	struct engine_sign_in_config config;
	struct base_buf token, body;
	struct base_jw w;
	uint8_t raw[6];
	char id[16], hex[13];
	int status;

	engine_sign_in_config(e, &config);
	if (q->credential == 3 && q->session[0])
		close_session(e, base_str_of(q->session), "signed in anew");
	engine_random(e, raw, sizeof(raw));
	sodium_bin2hex(hex, sizeof(hex), raw, sizeof(raw));
	snprintf(id, sizeof(id), "s-%s", hex);
	base_buf_init(&token, 256);
	base_buf_init(&body, 4096);
	cmd.hash = make_token(e, &token);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "id", id);
	base_jw_mcstr(&w, "how", how);
	base_jw_mcstr(&w, "address", q->address);
	base_jw_mcstr(&w, "agent", q->agent);
	base_jw_mint(&w, "until_ms", engine_wall_ms() + config.absolute_ms);
	base_jw_mstr(&w, "credential", credential);
	base_jw_end_obj(&w);
	cmd.body = base_buf_view(&body);
	status = decide(e, &cmd);
	if (status < 400) {
		put_cookie(e, q, base_buf_view(&token), config.absolute_ms);
		use_of(e, base_str_of(id), true)->last_ms = engine_wall_ms();
	}
	sodium_memzero(token.ptr, token.len);
	base_buf_done(&token);
	base_buf_done(&body);
	return status < 400;
}

void engine_web_sign_out(struct engine *e, struct engine_req *q)
{
	if (q->session[0])
		close_session(e, base_str_of(q->session), "signed out");
	put_cookie(e, q, BASE_STR(""), 0);
}

void engine_web_csrf(struct engine *e, const struct engine_req *q, char ret[65])
{
	struct base_hash h = base_hash_of2((struct base_str){(const char *)web(e)->csrf_key, 32},
		q->credential == 3 ? base_str_of(q->session) : BASE_STR("local"));

	base_hash_hex(&h, ret);
}

/* --- one-time links --- */

void engine_op_session_open(struct engine *e, struct engine_req *q)
{
	struct engine_sign_in_config config;
	struct link *at = &web(e)->links[0];
	struct base_buf url;
	struct base_jw w;

	engine_sign_in_config(e, &config);
	/* Whoever opens the link is the operator: no grant makes a key that. */
	if (!base_str_is(q->by.id, "operator") || q->by.caveats.len) {
		engine_reply_problem(e, q, 403, "denied", "only the operator can sign a browser in");
		return;
	}
	/* A session makes no other: who has its cookie would never be out. */
	if (q->credential == 3) {
		engine_reply_problem(
			e, q, 403, "denied", "a link is made in a shell of this machine: aios open");
		return;
	}
	if (!config.link) {
		engine_reply_problem(e, q, 403, "denied",
			"aios.yaml turns sign-in by link off (sign_in.link): change that and aios deploy");
		return;
	}
	for (size_t i = 0; i < LINKS_MAX; i++)
		if (web(e)->links[i].until < at->until)
			at = &web(e)->links[i];
	base_buf_init(&url, 512);
	engine_door_origin(e, &url);
	base_buf_cstr(&url, "/sign-in?token=");
	at->hash = make_token(e, &url);
	at->until = e->mono + link_ms;
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_mstr(&w, "url", base_buf_view(&url));
	base_jw_mint(&w, "expires_s", link_ms / 1000);
	base_jw_end_obj(&w);
	base_buf_done(&url);
	engine_reply_built(e, q, 201);
}

bool engine_web_link(struct engine *e, struct base_str token)
{
	struct base_hash h = hash_token(token);

	for (size_t i = 0; i < LINKS_MAX; i++) {
		struct link *l = &web(e)->links[i];

		if (l->until <= e->mono || sodium_memcmp(l->hash.b, h.b, sizeof(h.b)) != 0)
			continue;
		memset(l, 0, sizeof(*l));
		return true;
	}
	return false;
}

/* --- challenges: the time (8 bytes), 16 random ones, and a MAC over both, the kind and the session --- */

enum { CHALLENGE_RANDOM = 16, CHALLENGE_HEAD = 8 + CHALLENGE_RANDOM };
_Static_assert(CHALLENGE_HEAD + crypto_auth_BYTES == ENGINE_CHALLENGE, "how long a challenge is");

static void challenge_mac(struct engine *e, const uint8_t head[CHALLENGE_HEAD], const char *kind,
	const char *session, uint8_t ret[crypto_auth_BYTES])
{
	uint8_t text[CHALLENGE_HEAD + 200];
	int n;

	memcpy(text, head, CHALLENGE_HEAD);
	n = snprintf((char *)text + CHALLENGE_HEAD, 200, "%s %s", kind, session);
	BASE_CHECK(n > 0 && n < 200);
	crypto_auth(ret, text, CHALLENGE_HEAD + (size_t)n, web(e)->challenge_key);
}

void engine_challenge_make(
	struct engine *e, const char *kind, const char *session, uint8_t ret[ENGINE_CHALLENGE])
{
	uint64_t now = (uint64_t)engine_wall_ms();

	for (unsigned i = 0; i < 8; i++)
		ret[i] = (uint8_t)(now >> (56 - 8 * i));
	engine_random(e, ret + 8, CHALLENGE_RANDOM);
	challenge_mac(e, ret, kind, session, ret + CHALLENGE_HEAD);
}

bool engine_challenge_is(struct engine *e, const char *kind, const char *session, struct base_str challenge)
{
	const uint8_t *c = (const uint8_t *)challenge.ptr;
	uint8_t mac[crypto_auth_BYTES];
	uint64_t made = 0;
	int64_t age;

	if (challenge.len != ENGINE_CHALLENGE)
		return false;
	challenge_mac(e, c, kind, session, mac);
	if (sodium_memcmp(mac, c + CHALLENGE_HEAD, sizeof(mac)) != 0)
		return false;
	for (unsigned i = 0; i < 8; i++)
		made = made << 8 | c[i];
	age = engine_wall_ms() - (int64_t)made;
	if (age < 0 || age > challenge_ms)
		return false;
	for (size_t i = 0; i < SPENT_MAX; i++)
		if (web(e)->spent[i].until_ms &&
			memcmp(web(e)->spent[i].random, c + 8, CHALLENGE_RANDOM) == 0)
			return false;
	return true;
}

bool engine_challenge_spend(
	struct engine *e, const char *kind, const char *session, struct base_str challenge)
{
	int64_t now = engine_wall_ms();

	if (!engine_challenge_is(e, kind, session, challenge))
		return false;
	for (size_t i = 0; i < SPENT_MAX; i++) {
		struct spent *s = &web(e)->spent[i];

		if (s->until_ms > now)
			continue;
		memcpy(s->random, challenge.ptr + 8, CHALLENGE_RANDOM);
		s->until_ms = now + challenge_ms + 1;
		return true;
	}
	return false; /* more in two minutes than an operator has hands */
}
