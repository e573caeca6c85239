/*
 * How the operator signs in to the console, as state: credentials, browser sessions, failed attempts.
 *
 * Invariants
 *
 *  L1  No token is kept, only its hash; of a password and of TOTP there is no more than that there is one. Ids of passkeys
 *      are known once.
 *  L2  A counter (of a passkey, of the codes of TOTP) only goes up.
 *  L3  There are at most CORE_CREDENTIALS_MAX credentials, CORE_SESSIONS_MAX sessions and CORE_FAILURES_MAX addresses.
 *  L4  Two sessions never share a token. A restore from a backup ends all of them.
 */
#include <string.h>

#include "base/check.h"
#include "core/undo_int.h"

/* --- what others read --- */

static struct core_credential_info credential_info(const struct core_credential *k)
{
	return (struct core_credential_info){.id = k->id,
		.kind = k->kind,
		.name = k->name,
		.credential_id = k->credential_id,
		.public_key = k->public_key,
		.alg = k->alg,
		.sign_count = k->sign_count,
		.added_ms = k->added_ms,
		.used_ms = k->used_ms,
		.refused_ms = k->refused_ms};
}

bool core_credential_get(const struct core *c, struct base_str id, struct core_credential_info *ret)
{
	const struct core_credential *k = base_names_get(c->credentials, id);

	if (k)
		*ret = credential_info(k);
	return k != NULL;
}

bool core_passkey_find(const struct core *c, struct base_str credential_id, struct core_credential_info *ret)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(c->credentials, at, first, &at, &value); first = false) {
		const struct core_credential *k = value;

		if (!base_str_is(k->kind, "passkey") || !base_str_eq(k->credential_id, credential_id))
			continue;
		*ret = credential_info(k);
		return true;
	}
	return false;
}

void core_passkeys(const struct core *c, void (*fn)(void *userdata, const struct core_credential_info *info),
	void *userdata)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(c->credentials, at, first, &at, &value); first = false) {
		struct core_credential_info info = credential_info(value);

		if (base_str_is(info.kind, "passkey"))
			fn(userdata, &info);
	}
}

static struct core_session_info session_info(const struct core_web_session *s, bool old)
{
	return (struct core_session_info){.id = s->id,
		.how = s->how,
		.address = s->address,
		.agent = s->agent,
		.credential = s->credential,
		.opened_ms = s->opened_ms,
		.token_ms = s->token_ms,
		.until_ms = s->until_ms,
		.old = old};
}

bool core_session_find(
	const struct core *c, const struct base_hash *token, int64_t now_ms, struct core_session_info *ret)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(c->web_sessions, at, first, &at, &value); first = false) {
		const struct core_web_session *s = value;
		bool old = s->old_until_ms > now_ms && base_hash_eq(&s->old, token);

		if (s->until_ms <= now_ms || (!old && !base_hash_eq(&s->token, token)))
			continue;
		*ret = session_info(s, old);
		return true;
	}
	return false;
}

bool core_session_get(const struct core *c, struct base_str id, int64_t now_ms, struct core_session_info *ret)
{
	const struct core_web_session *s = base_names_get(c->web_sessions, id);

	if (!s || s->until_ms <= now_ms)
		return false;
	*ret = session_info(s, false);
	return true;
}

static uint32_t forgiven(const struct core_failures *f, bool all, int64_t now_ms)
{
	int64_t gone = (now_ms - f->last_ms) / (all ? CORE_FORGIVE_ALL_MS : CORE_FORGIVE_MS);

	return gone < 0 ? f->count : gone >= f->count ? 0 : f->count - (uint32_t)gone;
}

/* Where the failures of this way and address stand. */
static struct base_str failures_key(struct core *c, struct base_str how, struct base_str address)
{
	base_arena_reset(c->scratch);
	return address.len
		       ? base_arena_printf(c->scratch, "%.*s %.*s", BASE_STR_ARG(how), BASE_STR_ARG(address))
		       : base_arena_dup(c->scratch, how);
}

uint32_t core_sign_in_failures(const struct core *c, struct base_str how, struct base_str address,
	int64_t now_ms, int64_t *ret_last_ms)
{
	char key[256];
	size_t n = 0;
	const struct core_failures *f;

	if (how.len + 1 + address.len > sizeof(key))
		return 0;
	memcpy(key, how.ptr, how.len);
	n = how.len;
	if (address.len) {
		key[n++] = ' ';
		memcpy(key + n, address.ptr, address.len);
		n += address.len;
	}
	f = base_names_get(c->failures, (struct base_str){key, n});
	if (!f)
		return 0;
	*ret_last_ms = f->last_ms;
	return forgiven(f, !address.len, now_ms);
}

/* --- JSON --- */

static void put_credentials(const struct core *c, struct base_jw *w)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	base_jw_key(w, "credentials");
	base_jw_arr(w);
	for (bool first = true; base_names_seek(c->credentials, at, first, &at, &value); first = false) {
		const struct core_credential *k = value;

		base_jw_obj(w);
		base_jw_mstr(w, "id", k->id);
		base_jw_mstr(w, "kind", k->kind);
		base_jw_mint(w, "added_ms", k->added_ms);
		if (k->used_ms)
			base_jw_mint(w, "used_ms", k->used_ms);
		if (k->refused_ms)
			base_jw_mint(w, "refused_ms", k->refused_ms);
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

static void put_sessions(const struct core *c, int64_t now_ms, struct base_str current, struct base_jw *w)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	base_jw_key(w, "sessions");
	base_jw_arr(w);
	for (bool first = true; base_names_seek(c->web_sessions, at, first, &at, &value); first = false) {
		const struct core_web_session *s = value;

		if (s->until_ms <= now_ms)
			continue;
		base_jw_obj(w);
		base_jw_mstr(w, "id", s->id);
		base_jw_mstr(w, "how", s->how);
		if (s->credential.len)
			base_jw_mstr(w, "credential", s->credential);
		base_jw_mstr(w, "address", s->address);
		base_jw_mstr(w, "agent", s->agent);
		base_jw_mint(w, "opened_ms", s->opened_ms);
		base_jw_mint(w, "until_ms", s->until_ms);
		base_jw_mbool(w, "current", current.len && base_str_eq(s->id, current));
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

static void put_failures(const struct core *c, int64_t now_ms, struct base_jw *w)
{
	struct base_str at = BASE_STR_NONE, how, address;
	void *value;

	base_jw_key(w, "failures");
	base_jw_arr(w);
	for (bool first = true; base_names_seek(c->failures, at, first, &at, &value); first = false) {
		const struct core_failures *f = value;

		if (!base_str_cut(at, ' ', &how, &address) || !forgiven(f, false, now_ms))
			continue;
		base_jw_obj(w);
		base_jw_mstr(w, "how", how);
		base_jw_mstr(w, "address", address);
		base_jw_mint(w, "count", f->count);
		base_jw_mint(w, "last_ms", f->last_ms);
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

int core_sign_in_json(const struct core *c, int64_t now_ms, struct base_str current, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);

	base_jw_obj(&w);
	put_credentials(c, &w);
	put_sessions(c, now_ms, current, &w);
	put_failures(c, now_ms, &w);
	base_jw_end_obj(&w);
	return base_buf_failed(ret);
}

/* --- apply --- */

static void free_credential(struct core *c, struct core_credential *k)
{
	struct base_str parts[] = {k->id, k->kind, k->name, k->credential_id, k->public_key};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		base_slab_str_release(c->slab, parts[i]);
	base_slab_release(c->slab, k, sizeof(*k));
}

static void free_session(struct core *c, struct core_web_session *s)
{
	struct base_str parts[] = {s->id, s->how, s->address, s->agent, s->credential};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		base_slab_str_release(c->slab, parts[i]);
	base_slab_release(c->slab, s, sizeof(*s));
}

static void add_credential(struct core_apply *a, const struct core_credential_added *e)
{
	struct core *c = a->c;
	struct core_credential *k = base_names_remove(c->credentials, e->id);

	if (k)
		free_credential(c, k);
	k = base_slab_alloc(c->slab, sizeof(*k));
	core_set_str(c, &k->id, e->id);
	core_set_str(c, &k->kind, e->kind);
	core_set_str(c, &k->name, e->name);
	core_set_str(c, &k->credential_id, e->credential_id);
	core_set_str(c, &k->public_key, e->public_key);
	k->alg = e->alg;
	k->added_ms = a->time_ms;
	BASE_CHECK(base_names_put(c->credentials, e->id, k) == 0);
}

static void use_credential(struct core_apply *a, const struct core_credential_used *e)
{
	struct core_credential *k = base_names_get(a->c->credentials, e->id);

	if (!k)
		return;
	if (e->refused) {
		k->refused_ms = a->time_ms;
		return;
	}
	k->used_ms = a->time_ms;
	if (e->sign_count > k->sign_count)
		k->sign_count = e->sign_count;
}

/* Sessions whose life is over, at this event; all of them: `all`. */
static void drop_sessions(struct core_apply *a, bool all)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(a->c->web_sessions, at, first, &at, &value);) {
		struct core_web_session *s = value;

		first = false;
		if (!all && s->until_ms > a->time_ms)
			continue;
		/* The key goes with it: begin again. */
		base_names_remove(a->c->web_sessions, s->id);
		free_session(a->c, s);
		at = BASE_STR_NONE;
		first = true;
	}
}

static void open_session(struct core_apply *a, const struct core_session_opened *e)
{
	struct core *c = a->c;
	struct core_web_session *s = base_names_get(c->web_sessions, e->id);

	if (s && base_str_eq(e->previous, e->id)) {
		s->old = s->token;
		s->old_until_ms = a->time_ms + CORE_SESSION_OVERLAP_MS;
		s->token = e->token;
		s->token_ms = a->time_ms;
		return;
	}
	drop_sessions(a, false);
	s = base_names_remove(c->web_sessions, e->id);
	if (s)
		free_session(c, s);
	s = base_slab_alloc(c->slab, sizeof(*s));
	core_set_str(c, &s->id, e->id);
	core_set_str(c, &s->how, e->how);
	core_set_str(c, &s->address, e->address);
	core_set_str(c, &s->agent, e->agent);
	core_set_str(c, &s->credential, e->credential);
	s->token = e->token;
	s->opened_ms = s->token_ms = a->time_ms;
	s->until_ms = e->until_ms;
	BASE_CHECK(base_names_put(c->web_sessions, e->id, s) == 0);
}

static void count_failures(struct core_apply *a, struct base_str key, uint32_t count, bool all)
{
	struct core_failures *f = base_names_get(a->c->failures, key);

	if (!f) {
		f = base_slab_alloc(a->c->slab, sizeof(*f));
		f->last_ms = a->time_ms;
		BASE_CHECK(base_names_put(a->c->failures, key, f) == 0);
	}
	f->count = forgiven(f, all, a->time_ms);
	f->count = f->count + count < f->count ? UINT32_MAX : f->count + count;
	f->last_ms = a->time_ms;
}

/* The address that has been quiet for longest. */
static struct base_str quietest(const struct core *c)
{
	struct base_str at = BASE_STR_NONE, ret = BASE_STR_NONE, how, address;
	int64_t when = INT64_MAX;
	void *value;

	for (bool first = true; base_names_seek(c->failures, at, first, &at, &value); first = false) {
		const struct core_failures *f = value;

		if (f->last_ms < when && base_str_cut(at, ' ', &how, &address)) {
			when = f->last_ms;
			ret = at;
		}
	}
	return ret;
}

static void bound_failures(struct core *c)
{
	while (base_names_count(c->failures) > CORE_FAILURES_MAX)
		base_slab_release(
			c->slab, base_names_remove(c->failures, quietest(c)), sizeof(struct core_failures));
}

void core_sessions_restored(struct core_apply *a)
{
	drop_sessions(a, true);
}

void core_apply_sign_in(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	struct core *c = a->c;
	struct core_credential *k;
	struct core_web_session *s;
	const struct core_sign_in_failed *failed;

	switch (type) {
	case CORE_EV_CREDENTIAL_ADDED:
		add_credential(a, &e->credential_added);
		break;
	case CORE_EV_CREDENTIAL_REMOVED:
		k = base_names_remove(c->credentials, e->credential_removed.id);
		if (k)
			free_credential(c, k);
		break;
	case CORE_EV_CREDENTIAL_USED:
		use_credential(a, &e->credential_used);
		break;
	case CORE_EV_SESSION_OPENED:
		open_session(a, &e->session_opened);
		break;
	case CORE_EV_SESSION_CLOSED:
		s = base_names_remove(c->web_sessions, e->session_closed.id);
		if (s)
			free_session(c, s);
		core_act(a, &(struct core_act){.type = CORE_ACT_SESSIONS});
		break;
	case CORE_EV_SIGN_IN_FAILED:
		failed = &e->sign_in_failed;
		count_failures(a, failures_key(c, failed->how, failed->address), failed->count, false);
		count_failures(a, failures_key(c, failed->how, BASE_STR_NONE), failed->count, true);
		bound_failures(c);
		break;
	default:
		break;
	}
}

/* --- snapshot, invariants --- */

static void put_credential(struct base_buf *b, const struct core_credential *k)
{
	base_put_str(b, k->id);
	base_put_str(b, k->kind);
	base_put_str(b, k->name);
	base_put_str(b, k->credential_id);
	base_put_str(b, k->public_key);
	base_put_i64(b, k->alg);
	base_put_i64(b, k->sign_count);
	base_put_i64(b, k->added_ms);
	base_put_i64(b, k->used_ms);
	base_put_i64(b, k->refused_ms);
}

static void put_session(struct base_buf *b, const struct core_web_session *s)
{
	base_put_str(b, s->id);
	base_put_str(b, s->how);
	base_put_str(b, s->address);
	base_put_str(b, s->agent);
	base_put_str(b, s->credential);
	base_put_hash(b, &s->token);
	base_put_hash(b, &s->old);
	base_put_i64(b, s->opened_ms);
	base_put_i64(b, s->token_ms);
	base_put_i64(b, s->until_ms);
	base_put_i64(b, s->old_until_ms);
}

void core_sign_in_put(const struct core *c, struct base_buf *b)
{
	const struct base_names *maps[] = {c->credentials, c->web_sessions, c->failures};

	for (unsigned i = 0; i < 3; i++) {
		struct base_str at = BASE_STR_NONE;
		void *value;

		base_put_u64(b, base_names_count(maps[i]));
		for (bool first = true; base_names_seek(maps[i], at, first, &at, &value); first = false) {
			if (i == 0)
				put_credential(b, value);
			else if (i == 1)
				put_session(b, value);
			else {
				base_put_str(b, at);
				base_put_u64(b, ((const struct core_failures *)value)->count);
				base_put_i64(b, ((const struct core_failures *)value)->last_ms);
			}
		}
	}
}

static struct base_str text(struct core *c, struct base_reader *r)
{
	return base_slab_dup(c->slab, base_get_str(r));
}

static void get_credential(struct core *c, struct base_reader *r)
{
	struct core_credential *k = base_slab_alloc(c->slab, sizeof(*k));

	k->id = text(c, r);
	k->kind = text(c, r);
	k->name = text(c, r);
	k->credential_id = text(c, r);
	k->public_key = text(c, r);
	k->alg = base_get_i64(r);
	k->sign_count = base_get_i64(r);
	k->added_ms = base_get_i64(r);
	k->used_ms = base_get_i64(r);
	k->refused_ms = base_get_i64(r);
	if (!r->failed && base_names_put(c->credentials, k->id, k) < 0)
		r->failed = 1;
}

static void get_session(struct core *c, struct base_reader *r)
{
	struct core_web_session *s = base_slab_alloc(c->slab, sizeof(*s));

	s->id = text(c, r);
	s->how = text(c, r);
	s->address = text(c, r);
	s->agent = text(c, r);
	s->credential = text(c, r);
	base_get_hash(r, &s->token);
	base_get_hash(r, &s->old);
	s->opened_ms = base_get_i64(r);
	s->token_ms = base_get_i64(r);
	s->until_ms = base_get_i64(r);
	s->old_until_ms = base_get_i64(r);
	if (!r->failed && base_names_put(c->web_sessions, s->id, s) < 0)
		r->failed = 1;
}

void core_sign_in_get(struct core *c, struct base_reader *r)
{
	uint64_t n = base_get_u64(r);

	for (uint64_t i = 0; i < n && !r->failed; i++)
		get_credential(c, r);
	n = base_get_u64(r);
	for (uint64_t i = 0; i < n && !r->failed; i++)
		get_session(c, r);
	n = base_get_u64(r);
	for (uint64_t i = 0; i < n && !r->failed; i++) {
		struct core_failures *f = base_slab_alloc(c->slab, sizeof(*f));
		struct base_str key = base_get_str(r);

		f->count = (uint32_t)base_get_uint(r, UINT32_MAX);
		f->last_ms = base_get_i64(r);
		if (!r->failed && base_names_put(c->failures, key, f) < 0)
			r->failed = 1;
	}
}

void core_sign_in_check(const struct core *c)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	BASE_CHECK(base_names_count(c->credentials) <= CORE_CREDENTIALS_MAX &&
		   base_names_count(c->web_sessions) <= CORE_SESSIONS_MAX &&
		   base_names_count(c->failures) <= CORE_FAILURES_MAX); /* L3 */
	for (bool first = true; base_names_seek(c->web_sessions, at, first, &at, &value); first = false) {
		const struct core_web_session *s = value;
		struct core_session_info found;

		if (s->until_ms > c->time_ms)
			BASE_CHECK(core_session_find(c, &s->token, c->time_ms, &found) &&
				   base_str_eq(found.id, s->id)); /* L4 */
	}
	at = BASE_STR_NONE;
	for (bool first = true; base_names_seek(c->credentials, at, first, &at, &value); first = false) {
		const struct core_credential *k = value;
		struct core_credential_info found;

		BASE_CHECK(k->sign_count >= 0); /* L2 */
		if (base_str_is(k->kind, "passkey"))
			BASE_CHECK(core_passkey_find(c, k->credential_id, &found) &&
				   base_str_eq(found.id, k->id)); /* L1 */
	}
}
