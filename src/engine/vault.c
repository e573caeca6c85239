#include "engine/engine_int.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/money.h"

/* What is asked of aios-vault: secrets, its state, signatures. */

enum { ASK_MS = 10000, OVERLAP_MS = 86400000 };

/* Argon2id of the strength "sensitive" takes seconds, on a small machine many. */
enum { UNLOCK_MS = 120000 };

static void ask_canaries(struct engine *e);

struct secret_change {
	uint64_t req;		/* 0: nobody waits */
	bool removed, canaries; /* may have changed */
	char name[160], host[1100];
};

/* The vault has done it: now the log says so. */
static void on_secret(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct secret_change *s = userdata;
	struct engine_req *q = s->req ? engine_req_of(e, s->req) : NULL;
	struct core_cmd cmd = {.type = CORE_CMD_SECRET_NOTE,
		.name = base_str_of(s->name),
		.text = base_str_of(s->host),
		.base = s->removed,
		.by = {.id = BASE_STR("operator")}};
	struct core_reply r;

	if (status == 1 && s->canaries) {
		e->canaries_for = 0; /* nothing leaves before aios-connect knows */
		ask_canaries(e);
	}
	if (status != 1) {
		if (q)
			engine_reply_ask(e, q, status, value, sealed);
		else
			engine_note(2, "secret %s could not be taken into the vault: %.*s", s->name,
				BASE_STR_ARG(value));
	} else if (q) {
		if (engine_req_decide(e, q, &cmd, &r))
			engine_reply(e, q, 200, BASE_STR("{}"));
	} else if (engine_decide(e, &cmd, &r) == 0) {
		engine_note(1, "secret %s for %s was taken into the vault", s->name, s->host);
	}
	free(s);
}

static struct secret_change *change(
	struct engine_req *q, struct base_str name, struct base_str host, bool removed)
{
	struct secret_change *s = calloc(1, sizeof(*s));

	BASE_CHECK(s);
	s->req = q ? q->id : 0;
	s->removed = s->canaries = removed;
	snprintf(s->name, sizeof(s->name), "%.*s", BASE_STR_ARG(name));
	snprintf(s->host, sizeof(s->host), "%.*s", BASE_STR_ARG(host));
	return s;
}

/* Asks the vault; what comes of it goes to q (NULL: nobody waits) and into the log. */
static void put_secret(struct engine *e, struct engine_req *q, struct wire_vault_set *f)
{
	struct secret_change *s = change(q, f->name, f->host, false);
	struct base_buf b;

	s->canaries = true; /* one may have been made, or replaced */
	f->req = engine_ask_next(e);
	base_buf_init(&b, 1 << 20);
	wire_vault_set_put(&b, f);
	engine_ask(e, ENGINE_VAULT, WIRE_VAULT_SET, f->req, &b, ASK_MS, on_secret, s);
	base_buf_done(&b);
}

/* Does a member of `list` (an object of objects) name it? */
static bool names_it(struct base_jv list, struct base_str name)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(list, &it, &key, &v))
		if (base_str_eq(base_jv_str(base_jv_get(v, "secret")), name))
			return true;
	return false;
}

/* The actions that a secret is for which the configuration names: a provider's key is for models, the password of the
 * mail server for mail, a channel's token for announcements. Empty: it names none of that name. Lies in the scratch. */
static struct base_str usual_actions(struct engine *e, struct base_str name)
{
	struct base_buf *b = &e->scratch;
	struct base_jv root;

	base_buf_clear(b);
	if (!e->config)
		return BASE_STR_NONE;
	root = base_json_root(e->config);
	if (base_str_eq(
		    base_jv_str(base_jv_get(base_jv_get(base_jv_get(root, "mail"), "smtp"), "secret")), name))
		base_buf_cstr(b, ",mail.*");
	if (names_it(base_jv_get(base_jv_get(root, "models"), "providers"), name))
		base_buf_cstr(b, ",model.*");
	if (names_it(base_jv_get(base_jv_get(root, "notify"), "channels"), name))
		base_buf_cstr(b, ",notify.*");
	return b->len ? base_str_sub(base_buf_view(b), 1, b->len) : BASE_STR_NONE;
}

static int read_sealed(struct base_jv root, struct base_buf *ret)
{
	struct base_str text = base_jv_str(base_jv_get(root, "sealed"));
	int rc = base_b64url_get(text, ret);

	if (rc < 0) {
		base_buf_clear(ret);
		rc = base_b64_get(text, ret);
	}
	return rc < 0 || !ret->len ? -EINVAL : 0;
}

static bool read_set(struct engine *e, struct engine_req *q, struct base_jv root, struct wire_vault_set *f)
{
	struct base_str overlap = base_jv_str(base_jv_get(root, "overlap"));
	struct base_err err;

	f->name = engine_param(q, "name");
	f->host = base_jv_str(base_jv_get(root, "host"));
	f->actions = base_jv_str(base_jv_get(root, "actions"));
	f->how = q->op == WIRE_OP_SECRET_ROTATE ? 1 : q->op == WIRE_OP_SECRET_CANARY ? 2 : 0;
	f->overlap_ms = f->how == 1 ? OVERLAP_MS : 0;
	if (!f->actions.len && f->how == 0)
		f->actions = usual_actions(e, f->name);
	if (overlap.len && base_duration_parse(overlap, &f->overlap_ms, &err) < 0) {
		engine_reply_problem(e, q, 400, "invalid", "overlap: %s", err.text);
		return false;
	}
	if (f->how == 0 && !f->actions.len) {
		engine_reply_problem(e, q, 400, "invalid",
			"say which actions may use %.*s (aios secrets set --action model.*): aios.yaml does "
			"not name "
			"it",
			BASE_STR_ARG(f->name));
		return false;
	}
	return true;
}

static void set_secret(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	struct wire_vault_set f = {0};
	struct base_buf sealed;

	if (!doc)
		return;
	base_buf_init(&sealed, 1 << 18);
	if (read_sealed(base_json_root(doc), &sealed) < 0 || engine_param(q, "name").len > 128) {
		engine_reply_problem(e, q, 400, "invalid",
			"the body is {\"host\": \"api.example.org\", \"actions\": \"model.*\", \"sealed\": "
			"base64 of the value sealed to GET /v1/vault/key}");
	} else if (read_set(e, q, base_json_root(doc), &f)) {
		f.sealed = base_buf_view(&sealed);
		put_secret(e, q, &f);
	}
	base_buf_done(&sealed);
	base_json_free(doc);
}

static void on_list(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_req *q = userdata;

	if (status != 1) {
		engine_reply_ask(e, q, status, value, sealed);
		return;
	}
	base_buf_cstr(&q->reply, "{\"items\":");
	base_buf_str(&q->reply, value);
	base_buf_char(&q->reply, '}');
	engine_reply_built(e, q, 200);
}

void engine_op_vault(struct engine *e, struct engine_req *q)
{
	const struct engine_proc *p = engine_proc_of(e, ENGINE_VAULT, 0);
	struct base_str name = engine_param(q, "name");
	struct base_buf b;
	uint64_t req;

	base_buf_init(&b, 4096);
	if (q->op == WIRE_OP_SECRET_SET || q->op == WIRE_OP_SECRET_ROTATE || q->op == WIRE_OP_SECRET_CANARY) {
		set_secret(e, q);
	} else if (q->op == WIRE_OP_SECRETS) {
		req = engine_ask_next(e);
		wire_vault_list_put(&b, &(struct wire_vault_list){.req = req});
		engine_ask(e, ENGINE_VAULT, WIRE_VAULT_LIST, req, &b, ASK_MS, on_list, q);
	} else if (q->op == WIRE_OP_SECRET_REMOVE) {
		req = engine_ask_next(e);
		wire_vault_remove_put(&b, &(struct wire_vault_remove){.req = req, .name = name});
		engine_ask(e, ENGINE_VAULT, WIRE_VAULT_REMOVE, req, &b, ASK_MS, on_secret,
			change(q, name, BASE_STR_NONE, true));
	} else if (p->state != ENGINE_UP || !p->has_key) {
		engine_reply_problem(e, q, 503, "unavailable", "the vault is not up");
	} else {
		base_buf_cstr(&q->reply, "{\"public_key\":\"");
		base_b64url_put(&q->reply, (struct base_str){p->public_key, sizeof(p->public_key)});
		base_buf_cstr(&q->reply, "\"}");
		engine_reply_built(e, q, 200);
	}
	base_buf_done(&b);
}

void engine_vault_adopt(struct engine *e)
{
	static const struct {
		const char *env, *name, *host;
	} known[] = {{"ANTHROPIC_API_KEY", "anthropic", "api.anthropic.com"},
		{"OPENAI_API_KEY", "openai", "api.openai.com"}};
	const struct engine_proc *p = engine_proc_of(e, ENGINE_VAULT, 0);
	uint8_t sealed[8192 + crypto_box_SEALBYTES];

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && p->has_key; i++) {
		char *value = getenv(known[i].env);
		size_t len = value ? strlen(value) : 0;

		if (!len || len > 8192 || sodium_init() < 0)
			continue;
		if (crypto_box_seal(sealed, (const uint8_t *)value, len, (const uint8_t *)p->public_key) == 0)
			put_secret(e, NULL,
				&(struct wire_vault_set){.name = base_str_of(known[i].name),
					.host = base_str_of(known[i].host),
					.actions = BASE_STR("model.*"),
					.sealed = {(const char *)sealed, len + crypto_box_SEALBYTES}});
		sodium_memzero(value, len);
		unsetenv(known[i].env);
	}
}

/* --- open or locked --- */

static void set_state(struct engine *e, bool locked, struct base_str by, struct base_str why)
{
	struct core_reply r;

	if (locked == core_is_locked(e->core) || e->stopping)
		return;
	if (engine_decide(e,
		    &(struct core_cmd){
			    .type = CORE_CMD_VAULT_STATE, .base = locked, .text = why, .by = {.id = by}},
		    &r) < 0)
		return; /* the disk is full: it is asked again when the vault is used */
	e->commit_wanted = true;
	if (locked)
		engine_note(2, "the vault is locked (%.*s): what needs a secret waits; aios vault unlock",
			BASE_STR_ARG(why));
	else
		engine_note(1, "the vault is open");
	if (!locked)
		engine_announce_unlocked(e);
}

/* What the vault says of itself: {"state","why",…}. */
static void take_state(struct engine *e, struct base_str value, struct base_str by)
{
	struct base_json *doc;
	struct base_jv root;
	bool locked;

	if (base_json_parse(value, &doc, NULL) < 0)
		return;
	root = base_json_root(doc);
	locked = base_str_is(base_jv_str(base_jv_get(root, "state")), "locked");
	set_state(e, locked, by, base_jv_str(base_jv_get(root, "why")));
	base_json_free(doc);
	ask_canaries(e);
	if (!locked)
		engine_vault_adopt(e);
}

static void on_up(struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	(void)userdata;
	(void)sealed;
	if (status == 1)
		take_state(e, value, BASE_STR("aios"));
}

void engine_vault_up(struct engine *e)
{
	uint64_t req = engine_ask_next(e);
	struct base_buf b;

	base_buf_init(&b, 64);
	wire_vault_status_put(&b, &(struct wire_vault_status){.req = req});
	engine_ask(e, ENGINE_VAULT, WIRE_VAULT_STATUS, req, &b, ASK_MS, on_up, NULL);
	base_buf_done(&b);
}

void engine_vault_is_locked(struct engine *e)
{
	set_state(e, true, BASE_STR("aios"), BASE_STR("it was started anew"));
}

static void on_state(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_req *q = userdata;

	if (status == 1 && q->op != WIRE_OP_VAULT_STATUS)
		take_state(e, value, BASE_STR("operator"));
	engine_reply_ask(e, q, status, value, sealed);
}

void engine_op_vault_state(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = q->op == WIRE_OP_VAULT_STATUS ? NULL : engine_body_json(e, q);
	uint64_t req = engine_ask_next(e);
	struct base_buf b, sealed;
	struct base_jv root;
	unsigned type = WIRE_VAULT_STATUS;

	if (!doc && q->op != WIRE_OP_VAULT_STATUS)
		return;
	root = base_json_root(doc);
	base_buf_init(&b, 1 << 16);
	base_buf_init(&sealed, 1 << 14);
	if (read_sealed(root, &sealed) < 0)
		base_buf_clear(&sealed);
	if (q->op == WIRE_OP_VAULT_UNLOCK) {
		type = WIRE_VAULT_UNLOCK;
		wire_vault_unlock_put(
			&b, &(struct wire_vault_unlock){.req = req, .sealed = base_buf_view(&sealed)});
	} else if (q->op == WIRE_OP_VAULT_LOCK) {
		type = WIRE_VAULT_LOCK;
		wire_vault_lock_put(&b, &(struct wire_vault_lock){.req = req});
	} else if (q->op == WIRE_OP_VAULT_REKEY) {
		type = WIRE_VAULT_REKEY;
		wire_vault_rekey_put(&b, &(struct wire_vault_rekey){.req = req,
						 .kind = base_jv_str(base_jv_get(root, "kind")),
						 .strength = base_jv_str(base_jv_get(root, "strength")),
						 .sealed = base_buf_view(&sealed)});
	} else {
		wire_vault_status_put(&b, &(struct wire_vault_status){.req = req});
	}
	engine_ask(e, ENGINE_VAULT, type, req, &b, UNLOCK_MS, on_state, q);
	base_buf_done(&b);
	base_buf_done(&sealed);
	base_json_free(doc);
}

/* --- canaries --- */

/* Whether or not the vault could give them: what it cannot give now it gives when it opens. */
static void on_canaries(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_proc *p = engine_proc_of(e, ENGINE_CONNECT, 0);
	uint64_t generation = *(uint64_t *)userdata;
	struct base_buf *b;

	(void)value;
	free(userdata);
	if (p->generation != generation || p->state != ENGINE_UP)
		return; /* sealed to one that is gone */
	e->canaries_asked = 0;
	b = status == 1 ? engine_proc_begin(e, p, WIRE_CANARIES) : NULL;
	if (b) {
		wire_canaries_put(b, &(struct wire_canaries){.sealed = sealed});
		engine_proc_send(e, p);
	}
	if (e->canaries_for != generation) {
		e->canaries_for = generation;
		engine_effects_up(e);
	}
}

static void ask_canaries(struct engine *e)
{
	struct engine_proc *p = engine_proc_of(e, ENGINE_CONNECT, 0);
	uint64_t req, *generation;
	struct base_buf b;

	if (p->state != ENGINE_UP || !p->has_key)
		return; /* it is asked for when something is to leave */
	generation = malloc(sizeof(*generation));
	BASE_CHECK(generation);
	*generation = e->canaries_asked = p->generation;
	req = engine_ask_next(e);
	base_buf_init(&b, 256);
	wire_vault_canaries_put(
		&b, &(struct wire_vault_canaries){
			    .req = req, .recipient = {(const char *)p->public_key, sizeof(p->public_key)}});
	engine_ask(e, ENGINE_VAULT, WIRE_VAULT_CANARIES, req, &b, ASK_MS, on_canaries, generation);
	base_buf_done(&b);
}

bool engine_canaries_ready(struct engine *e, struct engine_proc *connect)
{
	if (e->canaries_for == connect->generation)
		return true;
	if (e->canaries_asked != connect->generation)
		ask_canaries(e);
	return false;
}

void engine_canary_met(struct engine *e, struct base_str name, struct base_str where, struct base_str action,
	uint64_t run, uint32_t step)
{
	struct core_reply r;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 4096);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mstr(&w, "action", action);
	base_jw_mint(&w, "run", (int64_t)run);
	base_jw_mint(&w, "step", step);
	base_jw_end_obj(&w);
	engine_note(3,
		"ALARM: the canary %.*s was met in the %.*s of %.*s, run %llu step %u; the call was refused",
		BASE_STR_ARG(name), BASE_STR_ARG(where), BASE_STR_ARG(action), (unsigned long long)run, step);
	if (engine_decide(e,
		    &(struct core_cmd){.type = CORE_CMD_CANARY,
			    .name = name,
			    .text = where,
			    .body = base_buf_view(&b),
			    .by = {.id = BASE_STR("aios")}},
		    &r) < 0)
		engine_note(3, "the alarm could not be recorded: the disk is full");
	e->commit_wanted = true;
	base_buf_done(&b);
}

/* --- signatures --- */

void engine_vault_sign(
	struct engine *e, const char *domain, struct base_str data, engine_ask_fn fn, void *userdata)
{
	uint64_t req = engine_ask_next(e);
	struct base_buf b;

	base_buf_init(&b, 1 << 17);
	wire_vault_sign_put(
		&b, &(struct wire_vault_sign){.req = req, .domain = base_str_of(domain), .data = data});
	engine_ask(e, ENGINE_VAULT, WIRE_VAULT_SIGN, req, &b, ASK_MS, fn, userdata);
	base_buf_done(&b);
}
