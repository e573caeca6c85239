#include "engine/engine_int.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/money.h"

/*
 * One-time links: somebody who may decide one gate sees it and decides it, from a phone, without a session.
 *
 * A token is base64url of: a byte 1, the gate (8), when it ends (8, ms), a nonce (12), the length of the approver's id (1),
 * that id, and a MAC (32) over all of it under the key in .aios/link.key.
 *
 * Invariants
 *
 * Y1 A token speaks for its approver at its gate, and at nothing else: the operations that take one read no other
 * credential.
 *
 * Y2 Looking decides nothing (GET, HEAD); a decision names the hash of what was shown.
 *
 * Y3 It is used once: it is dead when the gate is decided, when its approver has voted, may not decide any more, or when
 * its time is over. All of that, and tokens that never were, get one and the same answer.
 *
 * Y4 The key is 32 random bytes in a file that only the operator reads (0600), made when it is first needed. It is in no
 * backup: a restored workspace knows no link of before.
 */

enum { TOKEN_MAX = 512, HEAD_LEN = 30, WHO_MAX = 128, BAD_PER_MINUTE = 60 };
static const int64_t life_ms = 3LL * 24 * 3600 * 1000;

struct engine_links {
	uint8_t key[crypto_auth_KEYBYTES];
	bool loaded;
	int64_t minute; /* of `bad` */
	unsigned bad;
};

static struct engine_links *links(struct engine *e)
{
	if (!e->links) {
		e->links = calloc(1, sizeof(*e->links));
		BASE_CHECK(e->links && sodium_init() >= 0);
	}
	return e->links;
}

void engine_links_done(struct engine *e)
{
	if (e->links)
		sodium_memzero(e->links, sizeof(*e->links));
	free(e->links);
	e->links = NULL;
}

/* --- the key --- */

static int read_key(const char *path, uint8_t *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, ret, crypto_auth_KEYBYTES);
	(void)close(fd);
	return n == crypto_auth_KEYBYTES ? 0 : -EBADMSG;
}

/* Whole or not at all: beside it first, then in its place. */
static int write_key(struct engine *e, const char *path, const uint8_t *key)
{
	char beside[4200];
	ssize_t n;
	int fd, rc;

	snprintf(beside, sizeof(beside), "%s.new", path);
	(void)unlink(beside);
	fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	n = write(fd, key, crypto_auth_KEYBYTES);
	rc = n == crypto_auth_KEYBYTES && fsync(fd) == 0 ? 0 : -EIO;
	(void)close(fd);
	if (rc == 0 && rename(beside, path) < 0)
		rc = -errno;
	(void)e;
	return rc;
}

static int make_key(struct engine *e, const char *path)
{
	struct engine_links *l = links(e);
	uint8_t key[crypto_auth_KEYBYTES];
	int rc;

	engine_random(e, key, sizeof(key));
	rc = write_key(e, path, key);
	if (rc == 0) {
		memcpy(l->key, key, sizeof(key));
		l->loaded = true;
	}
	sodium_memzero(key, sizeof(key));
	return rc;
}

static void path_of(const struct engine *e, char *ret, size_t size)
{
	snprintf(ret, size, "%s/link.key", e->paths.aios);
}

/* make: where there is none. */
static bool have_key(struct engine *e, bool make)
{
	struct engine_links *l = links(e);
	char path[4096];
	int rc;

	if (l->loaded)
		return true;
	path_of(e, path, sizeof(path));
	rc = read_key(path, l->key);
	if (rc == -ENOENT && make)
		rc = make_key(e, path);
	if (rc < 0 && rc != -ENOENT)
		engine_note(3, "%s: %s: no links are made", path, strerror(-rc));
	l->loaded = rc == 0;
	return l->loaded;
}

/* --- tokens --- */

struct token {
	uint64_t gate;
	int64_t until_ms;
	char who[WHO_MAX + 1];
};

static void put_be(struct base_buf *b, uint64_t v)
{
	for (int i = 56; i >= 0; i -= 8)
		base_buf_char(b, (char)(v >> i & 0xff));
}

static uint64_t get_be(const char *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | (uint8_t)p[i];
	return v;
}

static struct base_jv notify_of(const struct engine *e)
{
	return e->config ? base_jv_get(base_json_root(e->config), "notify") : (struct base_jv){0};
}

void engine_link_put(struct engine *e, uint64_t gate, uint32_t nth, struct base_str who, int64_t expires_ms,
	struct base_buf *ret)
{
	struct base_str base = base_jv_str(base_jv_get(notify_of(e), "base"));
	uint8_t nonce[12], mac[crypto_auth_BYTES];
	int64_t life, until;
	struct base_buf raw;

	(void)nth;
	if (!base.len || who.len == 0 || who.len > WHO_MAX || !have_key(e, true))
		return;
	if (base_duration_parse(base_jv_str(base_jv_get(notify_of(e), "link_life")), &life, NULL) < 0)
		life = life_ms;
	until = engine_wall_ms() + life;
	if (expires_ms && expires_ms < until)
		until = expires_ms;
	engine_random(e, nonce, sizeof(nonce));
	base_buf_init(&raw, TOKEN_MAX);
	base_buf_char(&raw, 1);
	put_be(&raw, gate);
	put_be(&raw, (uint64_t)until);
	base_buf_put(&raw, (const char *)nonce, sizeof(nonce));
	base_buf_char(&raw, (char)who.len);
	base_buf_str(&raw, who);
	crypto_auth(mac, (const uint8_t *)raw.ptr, raw.len, links(e)->key);
	base_buf_put(&raw, (const char *)mac, sizeof(mac));
	base_buf_str(ret, base);
	base_buf_cstr(ret, "/l/");
	base_b64url_put(ret, base_buf_view(&raw));
	base_buf_done(&raw);
}

/* The MAC comes first: nothing of a token is looked at before. */
static bool read_token(struct engine *e, struct base_str text, struct token *ret)
{
	struct base_buf raw;
	size_t body, who;
	bool ok = false;

	if (text.len == 0 || text.len > TOKEN_MAX || !have_key(e, false))
		return false;
	base_buf_init(&raw, TOKEN_MAX);
	if (base_b64url_get(text, &raw) == 0 && raw.len > HEAD_LEN + crypto_auth_BYTES) {
		body = raw.len - crypto_auth_BYTES;
		who = (uint8_t)raw.ptr[HEAD_LEN - 1];
		ok = crypto_auth_verify((const uint8_t *)raw.ptr + body, (const uint8_t *)raw.ptr, body,
			     links(e)->key) == 0 &&
		     raw.ptr[0] == 1 && who > 0 && who <= WHO_MAX && body == HEAD_LEN + who;
		if (ok) {
			ret->gate = get_be(raw.ptr + 1);
			ret->until_ms = (int64_t)get_be(raw.ptr + 9);
			memcpy(ret->who, raw.ptr + HEAD_LEN, who);
			ret->who[who] = '\0';
		}
	}
	base_buf_done(&raw);
	return ok;
}

/* --- operations --- */

static void gone(struct engine *e, struct engine_req *q)
{
	struct engine_links *l = links(e);
	int64_t minute = e->mono / 60000;

	if (l->minute != minute)
		l->bad = 0;
	l->minute = minute;
	if (++l->bad > BAD_PER_MINUTE) {
		base_buf_cstr(&q->headers, "Retry-After: 60\n");
		engine_reply_problem(e, q, 429, "busy", "too many links that are not valid: try again later");
		return;
	}
	engine_reply_problem(e, q, 404, "link",
		"This link is not valid: it was used, its question is answered, or its time is over.");
}

/* Y1, Y3: q speaks for the approver from here on. */
static bool be_approver(struct engine *e, struct engine_req *q, struct token *ret)
{
	struct core_caller by;

	q->by = (struct core_caller){0};
	if (!read_token(e, engine_param(q, "token"), ret)) {
		gone(e, q);
		return false;
	}
	by = (struct core_caller){.id = base_str_of(ret->who)};
	if (engine_wall_ms() >= ret->until_ms ||
		!core_gate_may_decide(e->core, ret->gate, &by, BASE_STR("approve"), engine_wall_ms()) ||
		core_gate_has_vote(e->core, ret->gate, by.id)) {
		gone(e, q);
		return false;
	}
	snprintf(q->by_id, sizeof(q->by_id), "%s", ret->who);
	q->by.id = base_str_of(q->by_id);
	q->key = BASE_STR_NONE;
	/* A key that was narrowed is so by a link too. */
	if (!engine_scope_load(e, q) || !engine_scope_run(e, q, core_gate_run(e->core, ret->gate))) {
		gone(e, q);
		return false;
	}
	return true;
}

void engine_op_link_show(struct engine *e, struct engine_req *q)
{
	struct token token;

	if (!be_approver(e, q, &token))
		return;
	base_buf_cstr(&q->reply, "{\"token\":");
	base_json_quote(&q->reply, engine_param(q, "token"));
	base_buf_cstr(&q->reply, ",\"gate\":");
	if (!engine_gate_put(e, token.gate, &q->reply)) {
		base_buf_clear(&q->reply);
		gone(e, q);
		return;
	}
	base_buf_char(&q->reply, '}');
	q->shown_gate = token.gate;
	engine_reply_built(e, q, 200);
}

void engine_op_link_decide(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_GATE_DECIDE, .key = BASE_STR("link")};
	struct core_reply reply;
	struct base_json *doc;
	struct base_buf value;
	struct base_jv root, v;
	struct token token;

	if (!be_approver(e, q, &token))
		return;
	doc = engine_body_json(e, q);
	if (!doc)
		return;
	root = base_json_root(doc);
	cmd.id = token.gate;
	cmd.name = base_jv_str(base_jv_get(root, "answer"));
	cmd.text = base_jv_str(base_jv_get(root, "reason"));
	base_buf_init(&value, 20 << 20);
	v = base_jv_get(root, "value");
	if (base_jv_kind(v) != BASE_JSON_NONE &&
		(base_str_is(cmd.name, "edit") || base_str_is(cmd.name, "happened")))
		base_jv_write(v, &value);
	cmd.body = base_buf_view(&value);
	if (base_hash_from_hex(base_jv_str(base_jv_get(root, "shown")), &cmd.hash) < 0)
		engine_reply_problem(e, q, 400, "invalid", "the form is not complete: open the link again");
	else if (engine_req_decide(e, q, &cmd, &reply))
		engine_reply(e, q, 200,
			reply.status == 202
				? BASE_STR("{\"done\":\"Your vote counts. Others must agree too.\"}")
				: BASE_STR("{\"done\":\"Your decision is recorded.\"}"));
	base_buf_done(&value);
	base_json_free(doc);
}

/* Every link of before is dead. */
void engine_op_links_rotate(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_SECRET_NOTE, .name = BASE_STR("link.key")};
	struct core_reply reply;
	char path[4096];
	int rc;

	path_of(e, path, sizeof(path));
	rc = make_key(e, path);
	if (rc < 0) {
		engine_reply_problem(e, q, 500, "internal", "%s: %s", path, strerror(-rc));
		return;
	}
	if (engine_req_decide(e, q, &cmd, &reply))
		engine_reply(e, q, 200, BASE_STR("{\"rotated\":true}"));
}
