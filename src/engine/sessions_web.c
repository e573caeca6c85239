#include "engine/engine_int.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/*
 * Sessions of browsers: a cookie of 32 random bytes, traded for a one-time link.
 *
 * W1 No token is kept, of cookies and links only the hash.
 */

enum { SESSIONS_MAX = 64, LINKS_MAX = 16 };
static const int64_t session_ms = 12 * 3600 * 1000, link_ms = 300 * 1000;

struct session {
	char hash[65]; /* empty: free */
	int64_t until; /* monotonic */
};
struct engine_web {
	struct session sessions[SESSIONS_MAX], links[LINKS_MAX];
	uint8_t csrf_key[32];
};

static struct engine_web *web(struct engine *e)
{
	if (!e->web) {
		e->web = calloc(1, sizeof(*e->web));
		BASE_CHECK(e->web && sodium_init() >= 0);
		engine_random(e, e->web->csrf_key, sizeof(e->web->csrf_key));
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

static void hash_token(struct base_str token, char ret[65])
{
	struct base_hash h = base_hash_of2(BASE_STR("aios session "), token);

	base_hash_hex(&h, ret);
}

static struct session *find(struct engine *e, struct session *list, size_t n, const char *hash)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].hash[0] && list[i].until > e->mono && sodium_memcmp(list[i].hash, hash, 64) == 0)
			return &list[i];
	return NULL;
}

/* A new token in `list`: base64url of 32 random bytes. The oldest entry makes room. */
static void issue(struct engine *e, struct session *list, size_t n, int64_t ms, struct base_buf *ret)
{
	struct session *at = &list[0];
	uint8_t raw[32];
	size_t from = ret->len;

	for (size_t i = 0; i < n; i++)
		if (!list[i].hash[0] || list[i].until < at->until)
			at = &list[i];
	engine_random(e, raw, sizeof(raw));
	base_b64url_put(ret, (struct base_str){(const char *)raw, sizeof(raw)});
	hash_token(base_str_sub(base_buf_view(ret), from, ret->len), at->hash);
	at->until = e->mono + ms;
	sodium_memzero(raw, sizeof(raw));
}

void engine_op_session_open(struct engine *e, struct engine_req *q)
{
	struct base_buf url;
	struct base_jw w;

	/* Whoever opens the link is the operator: no grant makes a key that. */
	if (!base_str_is(q->by.id, "operator")) {
		engine_reply_problem(e, q, 403, "denied", "only the operator can sign a browser in");
		return;
	}
	base_buf_init(&url, 512);
	engine_door_origin(e, &url);
	base_buf_cstr(&url, "/sign-in?token=");
	issue(e, web(e)->links, LINKS_MAX, link_ms, &url);
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_mstr(&w, "url", base_buf_view(&url));
	base_jw_mint(&w, "expires_s", link_ms / 1000);
	base_jw_end_obj(&w);
	base_buf_done(&url);
	engine_reply_built(e, q, 201);
}

void engine_op_sign_in(struct engine *e, struct engine_req *q)
{
	struct engine_web *a = web(e);
	struct session *link;
	char hash[65];

	hash_token(engine_param(q, "token"), hash);
	link = find(e, a->links, LINKS_MAX, hash);
	if (!link) {
		engine_reply_problem(e, q, 403, "expired",
			"this link was used or is too old: `aios open` makes a new one");
		return;
	}
	memset(link, 0, sizeof(*link));
	base_buf_printf(&q->headers,
		"Location: /\nSet-Cookie: %s=", engine_door_secure(e) ? "__Host-aios" : "aios_session");
	issue(e, a->sessions, SESSIONS_MAX, session_ms, &q->headers);
	base_buf_printf(&q->headers, "; Path=/; HttpOnly; SameSite=Strict%s; Max-Age=%d\n",
		engine_door_secure(e) ? "; Secure" : "", (int)(session_ms / 1000));
	engine_reply(e, q, 303, BASE_STR_NONE);
}

void engine_web_csrf(struct engine *e, const struct engine_req *q, char ret[65])
{
	struct base_hash h = base_hash_of2((struct base_str){(const char *)web(e)->csrf_key, 32},
		q->credential == 3 ? base_str_of(q->session) : BASE_STR("local"));

	base_hash_hex(&h, ret);
}

bool engine_web_session(struct engine *e, struct engine_req *q, struct base_str token)
{
	hash_token(token, q->session);
	return find(e, web(e)->sessions, SESSIONS_MAX, q->session) != NULL;
}
