/* Signing in to the console, decided: the engine has verified who it is (aios-pass), here is what may follow. */
#include <string.h>

#include "base/check.h"
#include "core/undo_int.h"

enum { NAME_LEN = 64, AGENT_MAX = 200, ADDRESS_MAX = 64, CREDENTIAL_ID_MAX = 1023, PUBLIC_KEY_MAX = 1024 };

static bool operator_asks(struct core_turn *t)
{
	if (base_str_is(t->cmd->by.id, "operator") && !t->cmd->by.caveats.len)
		return true;
	core_refuse(t, 403, "denied", "only the operator may change how the operator signs in");
	return false;
}

static struct base_str arena_text(struct core_turn *t, struct base_jv v, size_t max)
{
	struct base_str s = base_jv_str(v);

	if (s.len > max) {
		s.len = max;
		while (s.len && ((unsigned char)s.ptr[s.len] & 0xc0) == 0x80)
			s.len--;
	}
	return base_arena_dup(t->arena, s);
}

/* Closes the open sessions for which `is` says so. Returns how many. */
static unsigned close_sessions(struct core_turn *t, bool (*is)(const struct core_web_session *s, void *of),
	void *of, struct base_str reason)
{
	struct base_str at = BASE_STR_NONE;
	unsigned n = 0;
	void *value;

	for (bool first = true; base_names_seek(t->c->web_sessions, at, first, &at, &value); first = false) {
		const struct core_web_session *s = value;

		if (!is(s, of))
			continue;
		core_session_closed_emit(t->block, t->cmd->now_ms,
			&(struct core_session_closed){.id = s->id, .by = t->cmd->by.id, .reason = reason});
		n++;
	}
	return n;
}

static bool of_credential(const struct core_web_session *s, void *of)
{
	return base_str_eq(s->credential, *(const struct base_str *)of);
}

static bool by_password(const struct core_web_session *s, void *of)
{
	(void)of;
	return base_str_is(s->how, "password");
}

/* --- credentials --- */

static void remove_credential(struct core_turn *t)
{
	struct base_str id = t->cmd->name;
	bool passkey = base_str_starts(id, BASE_STR("passkey/"));

	if (!base_names_get(t->c->credentials, id)) {
		core_refuse(t, 404, "unknown", "there is no %.*s to sign in with", BASE_STR_ARG(id));
		return;
	}
	core_credential_removed_emit(t->block, t->cmd->now_ms,
		&(struct core_credential_removed){.id = id, .by = t->cmd->by.id, .reason = t->cmd->text});
	close_sessions(t, passkey ? of_credential : by_password, &id, BASE_STR("what opened it was removed"));
	core_reply_json(t, 200, BASE_STR("{\"removed\":true}"));
}

static bool b64url_member(
	struct core_turn *t, struct base_jv from, const char *name, size_t max, struct base_str *ret)
{
	struct base_str text = base_jv_str(base_jv_get(from, name));
	struct base_buf b;
	int r;

	base_buf_init(&b, max);
	r = base_b64url_get(text, &b);
	*ret = r == 0 ? base_arena_dup(t->arena, base_buf_view(&b)) : BASE_STR_NONE;
	base_buf_done(&b);
	return r == 0 && ret->len > 0;
}

/* A name for people: letters, digits, blank, dash, dot, underscore. */
static bool name_is_plain(struct base_str s)
{
	if (!s.len || s.len > NAME_LEN || s.ptr[0] == ' ')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char ch = s.ptr[i];
		bool alnum = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9');

		if (!alnum && ch != ' ' && ch != '-' && ch != '.' && ch != '_')
			return false;
	}
	return true;
}

static bool passkey_reads(struct core_turn *t, struct base_jv body, struct core_credential_added *ev)
{
	struct core_credential_info was;

	ev->name = arena_text(t, base_jv_get(body, "name"), SIZE_MAX);
	ev->alg = base_jv_int(base_jv_get(body, "alg"), 0);
	if (!name_is_plain(ev->name)) {
		core_refuse(t, 400, "invalid",
			"a passkey needs a name of 1 to %d letters, digits, blanks, dashes, dots", NAME_LEN);
		return false;
	}
	if (!b64url_member(t, body, "credential_id", CREDENTIAL_ID_MAX, &ev->credential_id) ||
		!b64url_member(t, body, "public_key", PUBLIC_KEY_MAX, &ev->public_key) ||
		(ev->alg != -7 && ev->alg != -8 && ev->alg != -257)) {
		core_refuse(t, 400, "invalid", "this passkey has no id or key that can be used here");
		return false;
	}
	if (core_passkey_find(t->c, ev->credential_id, &was)) {
		core_refuse(t, 409, "exists", "this passkey is known already, as %.*s", BASE_STR_ARG(was.id));
		return false;
	}
	ev->id = base_arena_printf(t->arena, "passkey/%.*s", BASE_STR_ARG(ev->name));
	return true;
}

static void add_credential(struct core_turn *t, struct base_jv body)
{
	struct core_credential_added ev = {.by = t->cmd->by.id};
	struct base_str kind = base_jv_str(base_jv_get(body, "kind"));

	if (base_str_is(kind, "passkey")) {
		ev.kind = BASE_STR("passkey");
		if (!passkey_reads(t, body, &ev))
			return;
	} else if (base_str_is(kind, "password") || base_str_is(kind, "totp")) {
		ev.kind = ev.id = ev.name = base_arena_dup(t->arena, kind);
	} else {
		core_refuse(t, 400, "invalid", "one signs in with a passkey, a password and totp");
		return;
	}
	if (!base_str_is(ev.kind, "password") && base_names_get(t->c->credentials, ev.id)) {
		core_refuse(
			t, 409, "exists", "there is a %.*s already: remove it first", BASE_STR_ARG(ev.id));
		return;
	}
	if (base_names_count(t->c->credentials) >= CORE_CREDENTIALS_MAX) {
		core_refuse(t, 409, "too_many", "there are %d ways to sign in already: remove one first",
			CORE_CREDENTIALS_MAX);
		return;
	}
	core_credential_added_emit(t->block, t->cmd->now_ms, &ev);
	/* Whoever knew the old password is out. */
	if (!base_str_is(ev.kind, "passkey"))
		close_sessions(t, by_password, NULL, BASE_STR("the way to sign in was changed"));
	core_reply_json(t, 201, base_arena_printf(t->arena, "{\"id\":\"%.*s\"}", BASE_STR_ARG(ev.id)));
}

void core_decide_credential(struct core_turn *t)
{
	struct base_json *doc;

	if (!operator_asks(t))
		return;
	if (t->cmd->base == 1) {
		remove_credential(t);
		return;
	}
	if (base_json_parse(t->cmd->body, &doc, NULL) < 0) {
		core_refuse(t, 400, "invalid", "what to add is missing");
		return;
	}
	add_credential(t, base_json_root(doc));
	base_json_free(doc);
}

/* Authenticators without a counter always say 0. */
static bool counter_goes_up(const struct core_credential *k, int64_t to)
{
	if (base_str_is(k->kind, "password"))
		return true;
	if (base_str_is(k->kind, "passkey") && k->sign_count == 0 && to == 0)
		return true;
	return to > k->sign_count;
}

void core_decide_credential_used(struct core_turn *t)
{
	const struct core_credential *k = base_names_get(t->c->credentials, t->cmd->name);
	bool up = k && counter_goes_up(k, t->cmd->base);

	if (!k) {
		core_refuse(t, 404, "unknown", "there is no %.*s", BASE_STR_ARG(t->cmd->name));
		return;
	}
	core_credential_used_emit(t->block, t->cmd->now_ms,
		&(struct core_credential_used){
			.id = k->id, .sign_count = t->cmd->base, .session = t->cmd->text, .refused = !up});
	if (!up)
		core_refuse(t, 409, "copied",
			"the counter of %.*s went from %lld to %lld: there may be a copy of it",
			BASE_STR_ARG(k->id), (long long)k->sign_count, (long long)t->cmd->base);
}

/* --- sessions --- */

/* The one that ends first makes room. */
static void make_room(struct core_turn *t)
{
	struct base_str at = BASE_STR_NONE;
	const struct core_web_session *oldest = NULL;
	size_t live = 0;
	void *value;

	for (bool first = true; base_names_seek(t->c->web_sessions, at, first, &at, &value); first = false) {
		const struct core_web_session *s = value;

		live += s->until_ms > t->cmd->now_ms;
		if (!oldest || s->until_ms < oldest->until_ms)
			oldest = s;
	}
	if (live >= CORE_SESSIONS_MAX)
		core_session_closed_emit(t->block, t->cmd->now_ms,
			&(struct core_session_closed){.id = oldest->id,
				.by = BASE_STR("aios"),
				.reason = BASE_STR("too many are open")});
}

static void rotate(struct core_turn *t)
{
	const struct core_web_session *s = base_names_get(t->c->web_sessions, t->cmd->key);

	if (!s || s->until_ms <= t->cmd->now_ms) {
		core_refuse(t, 404, "unknown", "there is no such session");
		return;
	}
	core_session_opened_emit(t->block, t->cmd->now_ms,
		&(struct core_session_opened){.id = s->id,
			.token = t->cmd->hash,
			.how = s->how,
			.address = s->address,
			.agent = s->agent,
			.until_ms = s->until_ms,
			.previous = s->id,
			.credential = s->credential});
	core_reply_json(t, 200, BASE_STR("{}"));
}

void core_decide_session_open(struct core_turn *t)
{
	struct core_session_opened ev = {.token = t->cmd->hash};
	struct core_session_info was;
	struct base_json *doc;
	struct base_jv body;

	if (!operator_asks(t))
		return;
	if (core_session_find(t->c, &t->cmd->hash, t->cmd->now_ms, &was)) {
		core_refuse(t, 409, "exists", "this token is in use");
		return;
	}
	if (t->cmd->key.len) {
		rotate(t);
		return;
	}
	if (base_json_parse(t->cmd->body, &doc, NULL) < 0) {
		core_refuse(t, 400, "invalid", "a session needs what opened it");
		return;
	}
	body = base_json_root(doc);
	ev.id = arena_text(t, base_jv_get(body, "id"), NAME_LEN);
	ev.how = arena_text(t, base_jv_get(body, "how"), NAME_LEN);
	ev.address = arena_text(t, base_jv_get(body, "address"), ADDRESS_MAX);
	ev.agent = arena_text(t, base_jv_get(body, "agent"), AGENT_MAX);
	ev.credential = arena_text(t, base_jv_get(body, "credential"), 2 * NAME_LEN);
	ev.until_ms = base_jv_int(base_jv_get(body, "until_ms"), 0);
	base_json_free(doc);
	if (!ev.id.len || ev.until_ms <= t->cmd->now_ms || base_names_get(t->c->web_sessions, ev.id)) {
		core_refuse(t, 400, "invalid", "a session needs an id of its own and an end");
		return;
	}
	make_room(t);
	core_session_opened_emit(t->block, t->cmd->now_ms, &ev);
	core_reply_json(t, 201, base_arena_printf(t->arena, "{\"id\":\"%.*s\"}", BASE_STR_ARG(ev.id)));
}

static bool any(const struct core_web_session *s, void *of)
{
	const struct base_str *id = of;

	return !id->len || base_str_eq(s->id, *id);
}

void core_decide_session_close(struct core_turn *t)
{
	struct base_str id = t->cmd->name;
	unsigned n;

	if (!operator_asks(t))
		return;
	n = close_sessions(t, any, &id, t->cmd->text);
	if (!n && id.len)
		core_refuse(t, 404, "unknown", "there is no session %.*s", BASE_STR_ARG(id));
	else
		core_reply_json(t, 200, base_arena_printf(t->arena, "{\"closed\":%u}", n));
}

void core_decide_sign_in_failed(struct core_turn *t)
{
	struct base_str address = t->cmd->text;

	if (address.len > ADDRESS_MAX)
		address.len = ADDRESS_MAX;
	core_sign_in_failed_emit(t->block, t->cmd->now_ms,
		&(struct core_sign_in_failed){.how = t->cmd->name,
			.address = address,
			.count = t->cmd->base > 0 && t->cmd->base < UINT32_MAX ? (uint32_t)t->cmd->base : 1});
}
