/*
 * Keys: made, rotated, revoked, used.
 *
 * Invariants (core_keys_check walks them):
 *  I1  Whoever held a good key before a rotation still does: the old one holds until its overlap is over and the new one
 *      was used. A rotation that nobody heard of locks nobody out; revoking does, at once.
 *  I2  A key's scope is an object that was checked when it was made.
 */
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

enum { NAME_MAX_ = 64, SCOPE_MAX = 64, TEXT_MAX = 200, USED_MAX = 1000 };

static bool same_key(const uint8_t *key, struct base_str public_key)
{
	return memcmp(key, public_key.ptr, 32) == 0;
}

static bool is_over(const struct core_principal *p, int64_t now_ms)
{
	return p->revoked || (p->expires_ms && now_ms >= p->expires_ms);
}

static bool old_holds(const struct core_principal *p, int64_t now_ms)
{
	return p->has_old && (p->fresh || now_ms < p->old_until_ms);
}

struct base_str core_principal_by_key(
	const struct core *c, struct base_str public_key, int64_t now_ms, bool *ret_new)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	if (public_key.len != 32)
		return BASE_STR_NONE;
	for (bool first = true; base_names_seek(c->principals, at, first, &at, &value); first = false) {
		const struct core_principal *p = value;
		bool current = p->has_key && same_key(p->public_key, public_key);

		if (!current && !(old_holds(p, now_ms) && same_key(p->old_key, public_key)))
			continue;
		if (is_over(p, now_ms))
			return BASE_STR_NONE;
		if (ret_new)
			*ret_new = current && p->fresh;
		return p->id;
	}
	return BASE_STR_NONE;
}

int64_t core_key_used_ms(const struct core *c, struct base_str id)
{
	const struct core_principal *p = base_names_get(c->principals, id);

	return p ? p->used_ms : 0;
}

struct base_str core_workspace(const struct core *c)
{
	return c->workspace;
}

struct base_str core_workspace_of(const struct core_turn *t)
{
	if (t->c->workspace.len)
		return t->c->workspace;
	return base_arena_dup(t->arena, (struct base_str){(const char *)t->cmd->entropy, 16});
}

/* --- made --- */

/* Nobody gives away what they do not have. */
static bool grants_are_covered(struct core_turn *t, struct base_jv grants)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	while (base_jv_next(grants, &it, &none, &v)) {
		if (core_may(t->c, &t->cmd->by, base_jv_str(v), t->cmd->now_ms))
			continue;
		core_refuse(t, 403, "denied", "%.*s may not grant %.*s: it has no such grant itself",
			BASE_STR_ARG(t->cmd->by.id), BASE_STR_ARG(base_jv_str(v)));
		return false;
	}
	return true;
}

static bool texts_fit(struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	if (base_jv_kind(list) != BASE_JSON_ARR || base_jv_len(list) > SCOPE_MAX)
		return false;
	while (base_jv_next(list, &it, &key, &v))
		if (!base_jv_str(v).len || base_jv_str(v).len > TEXT_MAX)
			return false;
	return true;
}

static bool scope_fits(struct base_jv scope)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	if (base_jv_kind(scope) == BASE_JSON_NONE || base_jv_kind(scope) == BASE_JSON_NULL)
		return true;
	if (base_jv_kind(scope) != BASE_JSON_OBJ)
		return false;
	while (base_jv_next(scope, &it, &key, &v)) {
		bool list = base_str_is(key, "flows") || base_str_is(key, "memory");

		if (list ? !texts_fit(v) : !base_str_is(key, "own") || base_jv_kind(v) != BASE_JSON_BOOL)
			return false;
	}
	return true;
}

/* As it is kept: a visitor has what it made itself, and no memory but what it is given. */
static struct base_str scope_text(struct core_turn *t, struct base_jv scope, bool visitor)
{
	static const char *const lists[] = {"flows", "memory"};
	bool own = visitor || base_jv_bool(base_jv_get(scope, "own"), false), any = own;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, CORE_INLINE_MAX);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	for (int i = 0; i < 2; i++) {
		struct base_jv list = base_jv_get(scope, lists[i]);
		bool given = base_jv_kind(list) == BASE_JSON_ARR;

		any = any || given;
		if (given || (visitor && i == 1))
			base_jw_key(&w, lists[i]);
		if (given)
			base_jw_value(&w, list);
		else if (visitor && i == 1)
			base_jw_raw(&w, BASE_STR("[]"));
	}
	if (own)
		base_jw_mbool(&w, "own", true);
	base_jw_end_obj(&w);
	if (any)
		return core_buf_to_arena(t->arena, &b);
	base_buf_done(&b);
	return BASE_STR_NONE;
}

static bool name_fits(struct base_str name)
{
	for (size_t i = 0; i < name.len; i++)
		if (name.ptr[i] <= ' ' || name.ptr[i] >= 0x7f || strchr("/\"\\", name.ptr[i]))
			return false;
	return name.len > 0 && name.len <= NAME_MAX_;
}

/* A key that is made with a key lives no longer and reaches no further than that. */
static bool maker_allows(struct core_turn *t, int64_t *expires_ms)
{
	const struct core_principal *maker = base_names_get(t->c->principals, t->cmd->by.id);

	if (!maker || base_str_is(t->cmd->by.id, "operator"))
		return true;
	if (maker->expires_ms && (!*expires_ms || *expires_ms > maker->expires_ms))
		*expires_ms = maker->expires_ms;
	if (!t->cmd->by.caveats.len && !maker->scope.len)
		return true;
	core_refuse(t, 403, "denied",
		"a key that is narrowed itself makes none: narrow it further instead "
		"(aios keys attenuate)");
	return false;
}

static bool key_form_fits(struct core_turn *t, struct base_jv root)
{
	static const char *const kinds[] = {"service", "edge", "visitor", "agent"};
	struct base_str kind = base_jv_str(base_jv_get(root, "kind"));
	bool known = kind.len == 0;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		known = known || base_str_is(kind, kinds[i]);
	if (!known)
		core_refuse(t, 400, "invalid",
			"a key is of kind service, edge, visitor or agent; none is the operator");
	else if (!scope_fits(base_jv_get(root, "scope")))
		core_refuse(t, 400, "invalid",
			"scope is {\"flows\":[patterns],\"memory\":[prefixes],\"own\":true}");
	else
		return true;
	return false;
}

static void add_checked(struct core_turn *t, struct base_str id, struct base_jv root)
{
	struct base_str kind = base_jv_str(base_jv_get(root, "kind"));
	int64_t expires_ms = base_jv_int(base_jv_get(root, "expires_ms"), 0);
	struct base_buf grants;

	if (!key_form_fits(t, root) || !grants_are_covered(t, base_jv_get(root, "grants")) ||
		!maker_allows(t, &expires_ms))
		return;
	base_buf_init(&grants, CORE_INLINE_MAX);
	base_jv_write(base_jv_get(root, "grants"), &grants);
	core_principal_added_emit(t->block, t->cmd->now_ms,
		&(struct core_principal_added){.id = id,
			.kind = kind.len ? kind : BASE_STR("service"),
			.name = t->cmd->name,
			.public_key = t->cmd->bytes,
			.grants = core_buf_to_arena(t->arena, &grants),
			.by = t->cmd->by.id,
			.expires_ms = expires_ms,
			.scope = scope_text(t, base_jv_get(root, "scope"), base_str_is(kind, "visitor"))});
	core_reply_json(t, 201, base_arena_printf(t->arena, "{\"id\":\"%.*s\"}", BASE_STR_ARG(id)));
}

static void add_key(struct core_turn *t)
{
	struct base_str id = base_arena_printf(t->arena, "key/%.*s", BASE_STR_ARG(t->cmd->name));
	const struct core_principal *was = base_names_get(t->c->principals, id);
	struct base_json *doc;
	struct base_err err;

	if (!name_fits(t->cmd->name) || t->cmd->bytes.len != 32) {
		core_refuse(t, 400, "invalid",
			"a key needs a name: 1 to %d letters, digits and signs, without spaces, / or quotes",
			NAME_MAX_);
		return;
	}
	if (was) {
		core_refuse(t, 409, "exists", "there is a key named %.*s%s: choose another name",
			BASE_STR_ARG(t->cmd->name), was->revoked ? " (revoked)" : "");
		return;
	}
	if (base_json_parse(t->cmd->body, &doc, &err) < 0) {
		core_refuse(t, 400, "invalid", "key: %s", err.text);
		return;
	}
	add_checked(t, id, base_json_root(doc));
	base_json_free(doc);
}

/* --- revoked, rotated, used --- */

static void revoke(struct core_turn *t, struct base_str id)
{
	core_principal_revoked_emit(t->block, t->cmd->now_ms,
		&(struct core_principal_revoked){.id = id, .by = t->cmd->by.id, .reason = t->cmd->text});
	core_reply_json(
		t, 200, base_arena_printf(t->arena, "{\"id\":\"%.*s\",\"revoked\":true}", BASE_STR_ARG(id)));
}

static void rotate(struct core_turn *t, const struct core_principal *p)
{
	int64_t until = 0;

	if (t->cmd->bytes.len != 32 || t->cmd->base < 0 ||
		__builtin_add_overflow(t->cmd->now_ms, t->cmd->base, &until)) {
		core_refuse(t, 400, "invalid", "the overlap is a duration such as 1d or 0s");
		return;
	}
	if (is_over(p, t->cmd->now_ms)) {
		core_refuse(t, 409, "expired", "%.*s has expired: make another key", BASE_STR_ARG(p->id));
		return;
	}
	if (t->cmd->base == 0)
		until = 0;
	core_key_rotated_emit(t->block, t->cmd->now_ms,
		&(struct core_key_rotated){.id = p->id,
			.public_key = t->cmd->bytes,
			.old_until_ms = until,
			.by = t->cmd->by.id});
	core_reply_json(t, 200,
		base_arena_printf(t->arena, "{\"id\":\"%.*s\",\"old_until_ms\":%lld}", BASE_STR_ARG(p->id),
			(long long)until));
}

/* Only what is true of keys that there are is written down. */
static void used(struct core_turn *t)
{
	struct base_jv_iter it = {0};
	struct base_json *doc;
	struct base_str none;
	struct base_buf b;
	struct base_jw w;
	struct base_jv v;
	unsigned n = 0;

	if (base_json_parse(t->cmd->body, &doc, NULL) < 0)
		return;
	base_buf_init(&b, CORE_INLINE_MAX);
	w = base_jw_of(&b);
	base_jw_arr(&w);
	while (n < USED_MAX && base_jv_next(base_json_root(doc), &it, &none, &v)) {
		const struct core_principal *p =
			base_names_get(t->c->principals, base_jv_str(base_jv_get(v, "id")));

		if (!p || !p->has_key)
			continue;
		base_jw_value(&w, v);
		n++;
	}
	base_jw_end_arr(&w);
	base_json_free(doc);
	if (n > 0 && !base_buf_failed(&b))
		core_keys_used_emit(t->block, t->cmd->now_ms,
			&(struct core_keys_used){.used = core_buf_to_arena(t->arena, &b)});
	else
		base_buf_done(&b);
}

void core_decide_key(struct core_turn *t)
{
	const struct core_principal *p;
	struct base_str id = t->cmd->name;

	if (t->cmd->type == CORE_CMD_KEY_ADD) {
		add_key(t);
		return;
	}
	if (t->cmd->type == CORE_CMD_KEYS_USED) {
		used(t);
		return;
	}
	if (!base_str_starts(id, BASE_STR("key/")))
		id = base_arena_printf(t->arena, "key/%.*s", BASE_STR_ARG(id));
	p = base_names_get(t->c->principals, id);
	if (!p || p->revoked)
		core_refuse(t, p ? 409 : 404, "unknown_key",
			p ? "%.*s is revoked already" : "there is no key %.*s", BASE_STR_ARG(id));
	else if (t->cmd->type == CORE_CMD_KEY_ROTATE)
		rotate(t, p);
	else
		revoke(t, id);
}

/* --- folded --- */

/* A new key that nobody has used is replaced without a trace: who holds the one before it goes on. */
static void apply_rotated(struct core_principal *p, const struct core_key_rotated *e)
{
	if (e->public_key.len != 32)
		return;
	if (!p->fresh) {
		memcpy(p->old_key, p->public_key, sizeof(p->old_key));
		p->has_old = p->has_key;
	}
	memcpy(p->public_key, e->public_key.ptr, sizeof(p->public_key));
	p->old_until_ms = e->old_until_ms;
	p->has_key = p->fresh = true;
}

static void apply_used(struct core *c, struct base_str text)
{
	struct base_jv_iter it = {0};
	struct base_json *doc;
	struct base_str none;
	struct base_jv v;

	if (base_json_parse(text, &doc, NULL) < 0)
		return;
	while (base_jv_next(base_json_root(doc), &it, &none, &v)) {
		struct core_principal *p = base_names_get(c->principals, base_jv_str(base_jv_get(v, "id")));
		int64_t at = base_jv_int(base_jv_get(v, "at_ms"), 0);

		if (p && at > p->used_ms)
			p->used_ms = at;
		if (p && base_jv_bool(base_jv_get(v, "new"), false))
			p->fresh = false;
	}
	base_json_free(doc);
}

void core_apply_key(struct core *c, unsigned type, const union core_event_any *e)
{
	struct core_principal *p;

	switch (type) {
	case CORE_EV_PRINCIPAL_ADDED:
		p = base_names_get(c->principals, e->principal_added.id);
		core_set_str(c, &p->scope, e->principal_added.scope);
		p->has_old = p->fresh = false;
		p->old_until_ms = p->used_ms = 0;
		break;
	case CORE_EV_PRINCIPAL_REVOKED:
		p = base_names_get(c->principals, e->principal_revoked.id);
		if (p)
			p->revoked = true;
		break;
	case CORE_EV_KEY_ROTATED:
		p = base_names_get(c->principals, e->key_rotated.id);
		if (p)
			apply_rotated(p, &e->key_rotated);
		break;
	default:
		apply_used(c, e->keys_used.used);
		break;
	}
}

void core_keys_check(const struct core *c)
{
	struct base_str at = BASE_STR_NONE;
	struct base_json *doc;
	void *value;

	for (bool first = true; base_names_seek(c->principals, at, first, &at, &value); first = false) {
		const struct core_principal *p = value;

		BASE_CHECK(!p->fresh || (p->has_key && p->has_old)); /* I1 */
		if (!p->scope.len)
			continue;
		BASE_CHECK(base_json_parse(p->scope, &doc, NULL) == 0 &&
			   scope_fits(base_json_root(doc))); /* I2 */
		base_json_free(doc);
	}
}
