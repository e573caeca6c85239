#include "engine/engine_int.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* What is asked of aios-vault: secrets, its state, signatures. */

enum { ASK_MS = 10000 };

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

/* Asks the vault; what comes of it goes to q (NULL: nobody waits) and into the log. */
static void put_secret(struct engine *e, struct engine_req *q, struct wire_vault_set *f)
{
	struct base_buf b;

	f->req = engine_ask_next(e);
	base_buf_init(&b, 1 << 20);
	wire_vault_set_put(&b, f);
	engine_ask(e, ENGINE_VAULT, WIRE_VAULT_SET, f->req, &b, ASK_MS, on_secret,
		change(q, f->name, f->host, false));
	base_buf_done(&b);
}

/* The actions that a secret is for which the configuration names: a provider's key is for models, the password of the
 * mail server for mail. Empty: it names none of that name. */
static struct base_str usual_actions(struct engine *e, struct base_str name)
{
	struct base_jv root, providers, v;
	struct base_jv_iter it = {0};
	bool mail, model = false;
	struct base_str key;

	if (!e->config)
		return BASE_STR_NONE;
	root = base_json_root(e->config);
	providers = base_jv_get(base_jv_get(root, "models"), "providers");
	mail = base_str_eq(
		base_jv_str(base_jv_get(base_jv_get(base_jv_get(root, "mail"), "smtp"), "secret")), name);
	while (!model && base_jv_next(providers, &it, &key, &v))
		model = base_str_eq(base_jv_str(base_jv_get(v, "secret")), name);
	return mail && model ? BASE_STR("mail.*,model.*")
	       : mail	     ? BASE_STR("mail.*")
	       : model	     ? BASE_STR("model.*")
			     : BASE_STR_NONE;
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

static void set_secret(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	struct wire_vault_set f = {.name = engine_param(q, "name")};
	struct base_buf sealed;
	struct base_jv root;

	if (!doc)
		return;
	root = base_json_root(doc);
	base_buf_init(&sealed, 1 << 18);
	f.host = base_jv_str(base_jv_get(root, "host"));
	f.actions = base_jv_str(base_jv_get(root, "actions"));
	if (!f.actions.len)
		f.actions = usual_actions(e, f.name);
	if (read_sealed(root, &sealed) < 0 || f.name.len > 128) {
		engine_reply_problem(e, q, 400, "invalid",
			"the body is {\"host\": \"api.example.org\", \"actions\": \"model.*\", \"sealed\": "
			"base64 of "
			"the value sealed to GET /v1/vault/key}");
	} else if (!f.actions.len) {
		engine_reply_problem(e, q, 400, "invalid",
			"say which actions may use %.*s (aios secrets set --action model.*): aios.yaml does "
			"not name it",
			BASE_STR_ARG(f.name));
	} else {
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
	if (q->op == WIRE_OP_SECRET_SET) {
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
