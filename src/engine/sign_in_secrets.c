#include "engine/sign_in_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "wire/sign_in.h"

/*
 * The operator's password and secret of TOTP: both come sealed to the vault's key, from the command line, and stand nowhere
 * else. The log says only that there is one (core/sign_in.c).
 */

enum { ASK_MS = 10000 };

/* What becomes of a request while the vault, and perhaps aios-pass, is asked. */
struct change {
	uint64_t req;
	bool removes;
	const char *secret; /* its name in the vault; NULL: a passkey */
	char credential[160], code[16];
};

/* It is done: now the log says so. */
static void record(struct engine *e, struct engine_req *q, const struct change *c)
{
	struct core_cmd cmd = {.type = CORE_CMD_CREDENTIAL,
		.name = base_str_of(c->credential),
		.base = c->removes,
		.text = BASE_STR("removed")};
	char body[200];

	snprintf(body, sizeof(body), "{\"kind\":\"%s\"}", c->credential);
	if (!c->removes)
		cmd.body = base_str_of(body);
	engine_reply_cmd(e, q, &cmd);
}

static void ask_remove(struct engine *e, const char *secret, engine_ask_fn fn, void *userdata)
{
	uint64_t req = engine_ask_next(e);
	struct base_buf b;

	base_buf_init(&b, 4096);
	wire_vault_remove_put(&b, &(struct wire_vault_remove){.req = req, .name = base_str_of(secret)});
	engine_ask(e, ENGINE_VAULT, WIRE_VAULT_REMOVE, req, &b, ASK_MS, fn, userdata);
	base_buf_done(&b);
}

/* --- removing: first the log, after which it counts no more, then the vault --- */

static void on_removed(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	(void)e;
	(void)userdata;
	(void)sealed;
	if (status != 1)
		engine_note(2, "what signed in with was removed, but the vault kept its secret: %.*s",
			BASE_STR_ARG(value));
}

void engine_op_credential_remove(struct engine *e, struct engine_req *q)
{
	struct base_str id = engine_param(q, "credential");
	struct change c = {.removes = true};

	if (!engine_may_change_sign_in(e, q))
		return;
	c.secret = base_str_is(id, "password") ? WIRE_PASS_SECRET_PASSWORD
		   : base_str_is(id, "totp")   ? WIRE_PASS_SECRET_TOTP
					       : NULL;
	snprintf(c.credential, sizeof(c.credential), "%.*s", BASE_STR_ARG(id));
	if (c.secret)
		ask_remove(e, c.secret, on_removed, NULL);
	record(e, q, &c);
}

/* --- setting --- */

static void on_wrong_removed(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_req *q = engine_req_of(e, (uint64_t)(uintptr_t)userdata);

	(void)status;
	(void)value;
	(void)sealed;
	if (q)
		engine_reply_problem(e, q, 422, "wrong",
			"the code is not one of this secret at this time: look at the clock of the phone, "
			"and begin "
			"again");
}

static void on_code(struct engine *e, void *userdata, const struct engine_passed *p)
{
	struct change *c = userdata;
	struct engine_req *q = engine_req_of(e, c->req);

	if (!p->ok)
		ask_remove(e, c->secret, on_wrong_removed, (void *)(uintptr_t)c->req);
	else if (q)
		record(e, q, c);
	free(c);
}

static void on_set(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct change *c = userdata;
	struct engine_req *q = engine_req_of(e, c->req);

	if (status != 1) {
		if (q)
			engine_reply_ask(e, q, status, value, sealed);
	} else if (c->code[0]) {
		engine_pass_totp(e, base_str_of(c->code), on_code, c);
		return;
	} else if (q) {
		record(e, q, c);
	}
	free(c);
}

static void set(struct engine *e, struct engine_req *q, struct base_jv body, const struct change *from)
{
	struct change *c = malloc(sizeof(*c));
	uint64_t req = engine_ask_next(e);
	struct base_buf sealed, b;
	struct base_str text = base_jv_str(base_jv_get(body, "sealed"));

	BASE_CHECK(c);
	*c = *from;
	base_buf_init(&sealed, 1 << 16);
	base_buf_init(&b, 1 << 17);
	if (base_b64_get(text, &sealed) < 0 || !sealed.len) {
		engine_reply_problem(e, q, 400, "invalid",
			"the body needs \"sealed\": base64 of the value sealed to GET /v1/vault/key");
		free(c);
	} else {
		wire_vault_set_put(&b, &(struct wire_vault_set){.req = req,
					       .name = base_str_of(c->secret),
					       .host = BASE_STR(WIRE_PASS_HOST),
					       .actions = BASE_STR(WIRE_PASS_ACTION),
					       .sealed = base_buf_view(&sealed)});
		engine_ask(e, ENGINE_VAULT, WIRE_VAULT_SET, req, &b, ASK_MS, on_set, c);
	}
	base_buf_done(&sealed);
	base_buf_done(&b);
}

void engine_op_password_set(struct engine *e, struct engine_req *q)
{
	struct change c = {.req = q->id, .secret = WIRE_PASS_SECRET_PASSWORD, .credential = "password"};
	struct base_json *doc = engine_may_change_sign_in(e, q) ? engine_body_json(e, q) : NULL;

	if (doc)
		set(e, q, base_json_root(doc), &c);
	base_json_free(doc);
}

void engine_op_totp_set(struct engine *e, struct engine_req *q)
{
	struct change c = {.req = q->id, .secret = WIRE_PASS_SECRET_TOTP, .credential = "totp"};
	struct core_credential_info info;
	struct base_json *doc;
	struct base_str code;

	if (!engine_may_change_sign_in(e, q))
		return;
	/* The one that works is not lost for one that may not. */
	if (core_credential_get(e->core, BASE_STR("totp"), &info)) {
		engine_reply_problem(
			e, q, 409, "exists", "there is a totp already: aios sign-in totp --remove");
		return;
	}
	doc = engine_body_json(e, q);
	if (!doc)
		return;
	code = base_jv_str(base_jv_get(base_json_root(doc), "code"));
	snprintf(c.code, sizeof(c.code), "%.*s", BASE_STR_ARG(code));
	if (c.code[0])
		set(e, q, base_json_root(doc), &c);
	else
		engine_reply_problem(
			e, q, 400, "invalid", "the body needs \"code\": one that shows that it works");
	base_json_free(doc);
}
