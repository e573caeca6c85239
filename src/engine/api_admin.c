#include "engine/engine_int.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/money.h"

/* What the operator looks at and turns: health, status, flows, budgets, keys, secrets, outcomes, freeze. */

static const char *const state_names[] = {"down", "starting", "up", "stopping"};

void engine_op_health(struct engine *e, struct engine_req *q)
{
	struct base_jw w = base_jw_of(&q->reply);

	base_jw_obj(&w);
	base_jw_mcstr(&w, "status", e->degraded ? "degraded" : "ok");
	if (e->degraded)
		base_jw_mcstr(&w, "why", e->degraded_why);
	base_jw_mint(&w, "since_ms", e->started_ms);
	base_jw_mcstr(&w, "version", ENGINE_VERSION);
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}

static void put_process(struct base_jw *w, const struct engine_proc *p)
{
	base_jw_obj(w);
	base_jw_mcstr(w, "process", p->label);
	base_jw_mcstr(w, "state", p->state == ENGINE_DOWN && p->on_demand ? "idle" : state_names[p->state]);
	base_jw_mint(w, "pid", p->pid);
	base_jw_mcstr(w, "sandbox", p->state == ENGINE_UP ? p->sandbox : "");
	base_jw_mint(w, "starts", (int64_t)p->generation);
	if (p->kind == ENGINE_FLOW)
		base_jw_mint(w, "runs", p->worker.runs);
	base_jw_end_obj(w);
}

void engine_op_status(struct engine *e, struct engine_req *q)
{
	struct base_jw w = base_jw_of(&q->reply);

	base_jw_obj(&w);
	base_jw_mcstr(&w, "version", ENGINE_VERSION);
	base_jw_mstr(&w, "interpreter", engine_interpreter());
	base_jw_mcstr(&w, "workspace", e->paths.workspace);
	base_jw_mint(&w, "pid", getpid());
	base_jw_mint(&w, "port", e->port);
	base_jw_mint(&w, "since_ms", e->started_ms);
	base_jw_mcstr(&w, "status", e->degraded ? "degraded" : "ok");
	base_jw_mbool(&w, "frozen", core_is_frozen(e->core));
	base_jw_mint(&w, "epoch", (int64_t)core_epoch(e->core));
	base_jw_mint(&w, "seq", (int64_t)e->seq);
	base_jw_mint(&w, "durable", (int64_t)e->durable);
	base_jw_mint(&w, "views_seq", (int64_t)e->views_at);
	base_jw_mint(&w, "loaded_runs", (int64_t)engine_flows_count(e));
	base_jw_mint(&w, "calls_in_flight", (int64_t)engine_effects_count(e));
	base_jw_mint(&w, "archived", (int64_t)core_archived(e->core));
	if (core_restored_held(e->core, NULL, 0))
		base_jw_mint(&w, "held_by_restore", (int64_t)core_restored_held(e->core, NULL, 0));
	engine_disk_put(e, &w);
	base_jw_key(&w, "processes");
	base_jw_arr(&w);
	for (size_t i = 0; i < e->proc_count; i++)
		put_process(&w, &e->procs[i]);
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}

struct base_str engine_array_of(const struct base_buf *object)
{
	struct base_str s = base_buf_view(object);
	ptrdiff_t at = base_str_find(s, '[');

	if (at < 0 || s.len < 2)
		return BASE_STR("[]");
	return base_str_sub(s, (size_t)at, s.len - 1 - (size_t)at);
}

void engine_op_state(struct engine *e, struct engine_req *q)
{
	struct base_buf all;
	int rc;

	base_buf_init(&all, 16 << 20);
	if (q->op == WIRE_OP_FLOWS)
		rc = core_flows_json(e->core, &all);
	else if (q->op == WIRE_OP_KEYS)
		rc = core_keys_json(e->core, &all);
	else
		rc = core_budgets_json(e->core, &all);
	if (rc < 0) {
		engine_reply_problem(e, q, 500, "internal", "%s", strerror(-rc));
	} else {
		base_buf_cstr(&q->reply, "{\"items\":");
		base_buf_str(&q->reply, engine_array_of(&all));
		base_buf_char(&q->reply, '}');
		engine_reply_built(e, q, 200);
	}
	base_buf_done(&all);
}

void engine_op_flow(struct engine *e, struct engine_req *q)
{
	struct base_str name = engine_param(q, "flow"), none;
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct base_buf all;
	struct base_jv v;
	bool found = false;

	base_buf_init(&all, 16 << 20);
	if (core_flows_json(e->core, &all) == 0 && base_json_parse(engine_array_of(&all), &doc, NULL) == 0)
		while (!found && base_jv_next(base_json_root(doc), &it, &none, &v))
			if (base_str_eq(base_jv_str(base_jv_get(v, "flow")), name) ||
				base_str_eq(base_jv_str(base_jv_get(v, "name")), name)) {
				base_jv_write(v, &q->reply);
				found = true;
			}
	base_json_free(doc);
	base_buf_done(&all);
	if (found)
		engine_reply_built(e, q, 200);
	else
		engine_reply_problem(e, q, 404, "unknown_flow", "there is no flow %.*s", BASE_STR_ARG(name));
}

/* With an Idempotency-Key and no key of its own, an outcome counts once for that. */
void engine_op_outcome(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_OUTCOME, .body = q->body};
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct base_jv root = {0}, v;
	struct base_str key;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 1 << 20);
	if (q->key.len && base_json_parse(q->body, &doc, NULL) == 0)
		root = base_json_root(doc);
	if (base_jv_kind(root) == BASE_JSON_OBJ && base_jv_kind(base_jv_get(root, "key")) == BASE_JSON_NONE) {
		w = base_jw_of(&b);
		base_jw_obj(&w);
		while (base_jv_next(root, &it, &key, &v)) {
			base_buf_clear(&e->scratch);
			base_jv_write(v, &e->scratch);
			base_jw_key_str(&w, key);
			base_jw_raw(&w, base_buf_view(&e->scratch));
		}
		base_jw_mstr(&w, "key", q->key);
		base_jw_end_obj(&w);
		cmd.body = base_buf_view(&b);
	}
	engine_reply_cmd(e, q, &cmd);
	base_buf_done(&b);
	base_json_free(doc);
}

void engine_op_freeze(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);

	if (!doc)
		return;
	engine_reply_cmd(e, q,
		&(struct core_cmd){.type = q->op == WIRE_OP_FREEZE ? CORE_CMD_FREEZE : CORE_CMD_THAW,
			.text = base_jv_str(base_jv_get(base_json_root(doc), "reason"))});
	base_json_free(doc);
}

/* --- keys --- */

static bool read_key(struct engine *e, struct engine_req *q, struct base_jv root, struct base_buf *body)
{
	struct base_str kind = base_jv_str(base_jv_get(root, "kind")),
			expires = base_jv_str(base_jv_get(root, "expires"));
	struct base_jv grants = base_jv_get(root, "grants"), v;
	int64_t until = base_jv_int(base_jv_get(root, "expires_ms"), 0), ms;
	struct base_jw w = base_jw_of(body);
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_err err;

	if (base_jv_kind(grants) != BASE_JSON_ARR || !base_jv_len(grants)) {
		engine_reply_problem(e, q, 400, "invalid",
			"the body needs \"grants\": a list such as [\"api.run_start\"]");
		return false;
	}
	if (expires.len) {
		if (base_duration_parse(expires, &ms, &err) < 0) {
			engine_reply_problem(e, q, 400, "invalid", "expires: %s", err.text);
			return false;
		}
		until = engine_wall_ms() + ms;
	}
	base_jw_obj(&w);
	base_jw_mstr(&w, "kind", kind.len ? kind : BASE_STR("service"));
	base_jw_key(&w, "grants");
	base_jw_arr(&w);
	while (base_jv_next(grants, &it, &none, &v))
		base_jw_str(&w, base_jv_str(v));
	base_jw_end_arr(&w);
	base_jw_mint(&w, "expires_ms", until);
	base_jw_end_obj(&w);
	return true;
}

void engine_op_key_create(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	uint8_t seed[32], public[32], secret[crypto_sign_SECRETKEYBYTES];
	struct core_cmd cmd = {.type = CORE_CMD_KEY_ADD, .bytes = {(const char *)public, sizeof(public)}};
	struct base_buf body, key;
	struct core_reply r;
	struct base_jw w;

	if (!doc)
		return;
	base_buf_init(&body, 1 << 16);
	base_buf_init(&key, 128);
	cmd.name = base_jv_str(base_jv_get(base_json_root(doc), "name"));
	if (read_key(e, q, base_json_root(doc), &body)) {
		cmd.body = base_buf_view(&body);
		engine_random(e, seed, sizeof(seed));
		crypto_sign_seed_keypair(public, secret, seed);
		if (engine_req_decide(e, q, &cmd, &r)) {
			base_buf_cstr(&key, "aios_");
			base_b64url_put(&key, (struct base_str){(const char *)seed, sizeof(seed)});
			w = base_jw_of(&q->reply);
			base_jw_obj(&w);
			base_jw_mstr(&w, "name", cmd.name);
			base_jw_mstr(&w, "key", base_buf_view(&key));
			base_jw_end_obj(&w);
			engine_reply_built(e, q, 201);
		}
		sodium_memzero(seed, sizeof(seed));
		sodium_memzero(secret, sizeof(secret));
	}
	if (key.ptr)
		sodium_memzero(key.ptr, key.size);
	base_buf_done(&key);
	base_buf_done(&body);
	base_json_free(doc);
}

void engine_op_key_revoke(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);

	if (!doc)
		return;
	engine_reply_cmd(e, q,
		&(struct core_cmd){.type = CORE_CMD_KEY_REVOKE,
			.name = engine_param(q, "key"),
			.text = base_jv_str(base_jv_get(base_json_root(doc), "reason"))});
	base_json_free(doc);
}

/* --- secrets --- */

struct secret_change {
	uint64_t req; /* 0: nobody waits */
	bool removed;
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
	s->removed = removed;
	snprintf(s->name, sizeof(s->name), "%.*s", BASE_STR_ARG(name));
	snprintf(s->host, sizeof(s->host), "%.*s", BASE_STR_ARG(host));
	return s;
}

static void put_secret(struct engine *e, struct engine_req *q, struct base_str name, struct base_str host,
	struct base_str sealed)
{
	uint64_t req = engine_ask_next(e);
	struct base_buf b;

	base_buf_init(&b, 1 << 20);
	wire_vault_set_put(
		&b, &(struct wire_vault_set){.req = req, .name = name, .host = host, .sealed = sealed});
	engine_ask(e, ENGINE_VAULT, WIRE_VAULT_SET, req, &b, 10000, on_secret, change(q, name, host, false));
	base_buf_done(&b);
}

static void set_secret(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	struct base_str text, name = engine_param(q, "name");
	struct base_buf sealed;
	int rc;

	if (!doc)
		return;
	base_buf_init(&sealed, 1 << 18);
	text = base_jv_str(base_jv_get(base_json_root(doc), "sealed"));
	rc = base_b64url_get(text, &sealed);
	if (rc < 0) {
		base_buf_clear(&sealed);
		rc = base_b64_get(text, &sealed);
	}
	if (rc < 0 || !sealed.len || name.len > 128)
		engine_reply_problem(e, q, 400, "invalid",
			"the body is {\"host\": \"api.example.org\", \"sealed\": base64 of the value sealed "
			"to GET /v1/vault/key}");
	else
		put_secret(e, q, name, base_jv_str(base_jv_get(base_json_root(doc), "host")),
			base_buf_view(&sealed));
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
	if (q->op == WIRE_OP_SECRET_SET) {
		set_secret(e, q);
	} else if (q->op == WIRE_OP_SECRETS) {
		req = engine_ask_next(e);
		wire_vault_list_put(&b, &(struct wire_vault_list){.req = req});
		engine_ask(e, ENGINE_VAULT, WIRE_VAULT_LIST, req, &b, 10000, on_list, q);
	} else if (q->op == WIRE_OP_SECRET_REMOVE) {
		req = engine_ask_next(e);
		wire_vault_remove_put(&b, &(struct wire_vault_remove){.req = req, .name = name});
		engine_ask(e, ENGINE_VAULT, WIRE_VAULT_REMOVE, req, &b, 10000, on_secret,
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
			put_secret(e, NULL, base_str_of(known[i].name), base_str_of(known[i].host),
				(struct base_str){(const char *)sealed, len + crypto_box_SEALBYTES});
		sodium_memzero(value, len);
		unsetenv(known[i].env);
	}
}

/* --- views --- */

void engine_op_views_rebuild(struct engine *e, struct engine_req *q)
{
	uint64_t req = engine_ask_next(e);
	struct base_buf b;

	engine_views_rebuild(e);
	/* The answer comes when they have caught up. */
	base_buf_init(&b, 1024);
	wire_views_query_put(&b,
		&(struct wire_views_query){
			.req = req, .query = BASE_STR("dump"), .params = BASE_STR("{}"), .at_least = e->seq});
	e->commit_wanted = true;
	engine_ask(e, ENGINE_VIEWS, WIRE_VIEWS_QUERY, req, &b, 900000, engine_reply_ask, q);
	base_buf_done(&b);
}
