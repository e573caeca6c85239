#include "engine/sign_in_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/money.h"

/*
 * Signing in: by a one-time link, a passkey, or a password with a code, as aios.yaml's sign_in says.
 *
 * Invariants
 *
 * I1 Who fails is told one thing: status 403 and one sentence, whatever was wrong.
 *
 * I2 A password is looked at only when no pause stands: behind FREE failures of an address each doubles the pause, up to 15
 * minutes; behind FREE_ALL from anywhere, up to one. What a pause refuses costs no hash. A pause never holds up a link, and a
 * passkey, which nobody guesses, for two seconds at most: so nobody locks the operator out by failing.
 *
 * I3 How one signs in is changed in the operator's shell, or in a session that was opened within the last quarter of an hour:
 * a cookie that was stolen makes nobody stay.
 */

enum { FREE = 5, FREE_ALL = 20, PAUSE_MS = 1000, PAUSE_MAX_MS = 15 * 60000, PAUSE_ALL_MS = 60000 };
enum { PAUSE_PASSKEY_MS = 2000, NOTE_EVERY_MS = 10000, FRESH_MS = 15 * 60000 };

/* --- what aios.yaml says --- */

static bool setting(struct base_jv from, const char *name, bool otherwise)
{
	return base_jv_bool(base_jv_get(from, name), otherwise);
}

static int64_t life(struct base_jv from, const char *name, int64_t otherwise)
{
	int64_t ms;

	return base_duration_parse(base_jv_str(base_jv_get(from, name)), &ms, NULL) == 0 && ms >= 60000
		       ? ms
		       : otherwise;
}

void engine_sign_in_config(struct engine *e, struct engine_sign_in_config *ret)
{
	const int64_t hour = 3600000;
	struct base_jv s =
		e->config ? base_jv_get(base_json_root(e->config), "sign_in") : (struct base_jv){0};
	struct base_jv session = base_jv_get(s, "session");
	struct base_str totp = base_jv_str(base_jv_get(s, "totp"));

	*ret = (struct engine_sign_in_config){.link = setting(s, "link", true),
		.passkey = setting(s, "passkey", true),
		.password = setting(s, "password", false),
		.totp = base_str_is(totp, "optional") ? ENGINE_TOTP_OPTIONAL
			: base_str_is(totp, "off")    ? ENGINE_TOTP_OFF
						      : ENGINE_TOTP_REQUIRED,
		.idle_ms = life(session, "idle", 12 * hour),
		.absolute_ms = life(session, "absolute", 7 * 24 * hour)};
	ret->rotate_ms = ret->idle_ms < 4 * hour ? ret->idle_ms / 4 : hour;
	ret->fresh_ms = ret->idle_ms < FRESH_MS ? ret->idle_ms : FRESH_MS;
}

/* --- failures and pauses --- */

/* An address that one person may have many of counts as one: IPv6's /64. */
static void network_of(const char *address, char ret[64])
{
	struct in6_addr six;

	snprintf(ret, 64, "%s", address);
	if (inet_pton(AF_INET6, address, &six) != 1)
		return;
	memset(six.s6_addr + 8, 0, 8);
	if (!IN6_IS_ADDR_V4MAPPED(&six) && inet_ntop(AF_INET6, &six, ret, 60))
		strcat(ret, "/64");
}

static int64_t pause_ms(uint32_t failures, uint32_t unpunished, int64_t max)
{
	uint32_t over = failures > unpunished ? failures - unpunished : 0;

	return !over						    ? 0
	       : over > 20 || (int64_t)PAUSE_MS << (over - 1) > max ? max
								    : (int64_t)PAUSE_MS << (over - 1);
}

/* How long this must wait, in ms; 0: not at all. */
static int64_t pause_of(struct engine *e, const char *how, const char *address)
{
	bool password = strcmp(how, "password") == 0;
	int64_t now = engine_wall_ms(), last = 0, wait, all;
	uint32_t n = core_sign_in_failures(e->core, base_str_of(how), base_str_of(address), now, &last);

	wait = last + pause_ms(n, FREE, password ? PAUSE_MAX_MS : PAUSE_PASSKEY_MS) - now;
	if (password) {
		last = 0;
		n = core_sign_in_failures(e->core, base_str_of(how), BASE_STR_NONE, now, &last);
		all = last + pause_ms(n, FREE_ALL, PAUSE_ALL_MS) - now;
		wait = all > wait ? all : wait;
	}
	return wait > 0 ? wait : 0;
}

/* Failures that cost nothing to make are told to the log together. */
static void failed(struct engine *e, struct engine_req *q, const char *how)
{
	bool password = strcmp(how, "password") == 0;
	struct core_cmd cmd = {.type = CORE_CMD_SIGN_IN_FAILED,
		.by = {.id = BASE_STR("operator")},
		.name = base_str_of(how)};
	char network[64];
	struct core_reply r;

	e->sign_in_failed++;
	if (!password && e->mono - e->sign_in_told < NOTE_EVERY_MS)
		return;
	network_of(q->address, network);
	cmd.text = base_str_of(network);
	cmd.base = password ? 1 : (int64_t)e->sign_in_failed;
	if (engine_decide(e, &cmd, &r) < 0)
		engine_note(2, "a failed sign-in from %s could not be recorded", network);
	if (!password)
		e->sign_in_told = e->mono;
	e->sign_in_failed = 0;
}

static void refuse(struct engine *e, struct engine_req *q, const char *how)
{
	failed(e, q, how);
	engine_reply_problem(e, q, 403, "denied",
		"this did not work. In a shell of this machine, `aios open` makes a link that signs in");
}

static bool is_paused(struct engine *e, struct engine_req *q, const char *how)
{
	char network[64];
	int64_t wait;

	network_of(q->address, network);
	wait = pause_of(e, how, network);
	if (!wait)
		return false;
	base_buf_printf(&q->headers, "Retry-After: %lld\n", (long long)(wait + 999) / 1000);
	engine_reply_problem(e, q, 429, "paused",
		"too many attempts failed: try again later, or use a passkey or a link (`aios open`)");
	return true;
}

/* --- answers --- */

/* Signed in: a form goes to the console, a script is told where. */
static void welcome(struct engine *e, struct engine_req *q, const char *how, struct base_str credential)
{
	if (!engine_web_open(e, q, how, credential)) {
		engine_reply_problem(e, q, 503, "unavailable", "the session could not be written: try again");
		return;
	}
	if (q->op == WIRE_OP_SIGN_IN) {
		base_buf_cstr(&q->headers, "Location: /\n");
		engine_reply(e, q, 303, BASE_STR_NONE);
	} else {
		engine_reply(e, q, 200, BASE_STR("{\"to\":\"/\"}"));
	}
}

static void on_password(struct engine *e, void *userdata, const struct engine_passed *p)
{
	struct engine_req *q = engine_req_of(e, (uint64_t)(uintptr_t)userdata);

	if (!q)
		return;
	if (p->ok)
		welcome(e, q, "password", p->credential);
	else if (strcmp(p->code, "wrong") == 0)
		refuse(e, q, "password");
	else if (strcmp(p->code, "vault_locked") == 0)
		engine_reply_problem(e, q, 503, "vault_locked",
			"the vault is locked, and a password cannot be checked: sign in with a passkey or a "
			"link "
			"(`aios open`), or unlock it (`aios vault unlock`)");
	else
		engine_reply_problem(e, q, 503, "busy", "this cannot be checked now: try again in a moment");
}

static bool has(struct engine *e, const char *id)
{
	struct core_credential_info info;

	return core_credential_get(e->core, base_str_of(id), &info);
}

static void by_password(struct engine *e, struct engine_req *q, struct base_jv body)
{
	struct engine_sign_in_config config;
	bool need;

	engine_sign_in_config(e, &config);
	if (!config.password) {
		refuse(e, q, "password");
		return;
	}
	if (is_paused(e, q, "password"))
		return;
	need = config.totp == ENGINE_TOTP_REQUIRED || (config.totp == ENGINE_TOTP_OPTIONAL && has(e, "totp"));
	engine_pass_password(e, base_jv_str(base_jv_get(body, "password")),
		base_jv_str(base_jv_get(body, "code")), need, on_password, (void *)(uintptr_t)q->id);
}

void engine_op_sign_in(struct engine *e, struct engine_req *q)
{
	struct engine_sign_in_config config;
	struct base_json *doc = engine_body_json(e, q);
	struct base_str token;

	if (!doc)
		return;
	engine_sign_in_config(e, &config);
	token = base_jv_str(base_jv_get(base_json_root(doc), "token"));
	if (!token.len)
		by_password(e, q, base_json_root(doc));
	else if (config.link && engine_web_link(e, token))
		welcome(e, q, "link", BASE_STR_NONE);
	else
		refuse(e, q, "link");
	base_json_free(doc);
}

void engine_op_sign_in_page(struct engine *e, struct engine_req *q)
{
	struct engine_sign_in_config config;
	struct base_jw w = base_jw_of(&q->reply);
	struct engine_site site;
	bool passkeys = engine_site_of(e, base_str_of(q->host), &site);

	engine_sign_in_config(e, &config);
	base_jw_obj(&w);
	if (engine_param(q, "token").len)
		base_jw_mstr(&w, "token", engine_param(q, "token"));
	base_jw_mbool(&w, "link", config.link);
	base_jw_mbool(&w, "passkey", config.passkey && passkeys);
	base_jw_mbool(&w, "password", config.password);
	base_jw_mbool(&w, "code", config.totp != ENGINE_TOTP_OFF);
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}

/* --- passkeys --- */

/* What navigator.credentials needs. Without ids of passkeys: who asks learns nothing of what there is. */
static void put_options(struct engine *e, struct base_jw *w, const char *kind, const char *session,
	const struct engine_site *site)
{
	uint8_t challenge[ENGINE_CHALLENGE];
	struct base_buf text;

	engine_challenge_make(e, kind, session, challenge);
	base_buf_init(&text, 256);
	base_b64url_put(&text, (struct base_str){(const char *)challenge, sizeof(challenge)});
	base_jw_mstr(w, "challenge", base_buf_view(&text));
	base_jw_mcstr(w, "rp_id", site->rp_id);
	base_buf_done(&text);
}

static bool site_or_refuse(struct engine *e, struct engine_req *q, struct engine_site *ret)
{
	struct engine_sign_in_config config;

	engine_sign_in_config(e, &config);
	if (config.passkey && engine_site_of(e, base_str_of(q->host), ret))
		return true;
	if (!config.passkey)
		engine_reply_problem(e, q, 403, "denied", "aios.yaml turns passkeys off (sign_in.passkey)");
	else
		engine_reply_problem(e, q, 403, "denied",
			"browsers have passkeys only for https and http://localhost: open the console as "
			"http://localhost:%u",
			e->port);
	return false;
}

void engine_op_passkey_challenge(struct engine *e, struct engine_req *q)
{
	struct base_jw w = base_jw_of(&q->reply);
	struct engine_site site;

	if (!site_or_refuse(e, q, &site))
		return;
	base_jw_obj(&w);
	put_options(e, &w, "sign-in", "", &site);
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}

/* A challenge that stands in the browser's answer, kept while it is checked. */
struct answered {
	uint64_t req;
	char name[200];
	uint8_t challenge[ENGINE_CHALLENGE];
};

static struct answered *read_challenge(
	struct engine *e, struct engine_req *q, struct base_jv body, const char *kind, const char *session)
{
	struct answered *a = NULL;
	struct base_buf raw;

	base_buf_init(&raw, 256);
	if (base_b64url_get(base_jv_str(base_jv_get(body, "challenge")), &raw) == 0 &&
		engine_challenge_is(e, kind, session, base_buf_view(&raw))) {
		a = calloc(1, sizeof(*a));
		BASE_CHECK(a);
		a->req = q->id;
		memcpy(a->challenge, raw.ptr, sizeof(a->challenge));
	}
	base_buf_done(&raw);
	return a;
}

static struct base_str challenge_of(const struct answered *a)
{
	return (struct base_str){(const char *)a->challenge, sizeof(a->challenge)};
}

static void on_assertion(struct engine *e, void *userdata, const struct engine_passed *p)
{
	struct answered *a = userdata;
	struct engine_req *q = engine_req_of(e, a->req);

	if (!q)
		;
	else if (!p->ok && strcmp(p->code, "wrong") != 0)
		engine_reply_problem(e, q, 503, "busy", "this cannot be checked now: try again in a moment");
	else if (!p->ok || !engine_challenge_spend(e, "sign-in", "", challenge_of(a)))
		refuse(e, q, "passkey");
	else
		welcome(e, q, "passkey", p->credential);
	free(a);
}

void engine_op_passkey_sign_in(struct engine *e, struct engine_req *q)
{
	struct engine_sign_in_config config;
	struct base_json *doc;
	struct answered *a;

	engine_sign_in_config(e, &config);
	if (is_paused(e, q, "passkey"))
		return;
	doc = engine_body_json(e, q);
	if (!doc)
		return;
	a = config.passkey ? read_challenge(e, q, base_json_root(doc), "sign-in", "") : NULL;
	if (!a)
		refuse(e, q, "passkey");
	else
		engine_pass_verify(
			e, base_str_of(q->host), base_json_root(doc), challenge_of(a), on_assertion, a);
	base_json_free(doc);
}

/* --- what only the operator does --- */

static bool is_operator(struct engine *e, struct engine_req *q)
{
	if (base_str_is(q->by.id, "operator") && !q->by.caveats.len)
		return true;
	engine_reply_problem(
		e, q, 403, "denied", "only the operator may look at, or change, how the operator signs in");
	return false;
}

bool engine_may_change_sign_in(struct engine *e, struct engine_req *q)
{
	struct engine_sign_in_config config;
	struct core_session_info s;
	int64_t now = engine_wall_ms();

	if (!is_operator(e, q))
		return false;
	engine_sign_in_config(e, &config);
	if (q->credential != 3 || (core_session_get(e->core, base_str_of(q->session), now, &s) &&
					  now - s.opened_ms < config.fresh_ms))
		return true;
	engine_reply_problem(e, q, 403, "sign_in_again",
		"to change how you sign in, sign in anew first: this session is older than %lld minutes",
		(long long)config.fresh_ms / 60000);
	return false;
}

/* The browser that registers it knows which ones its authenticator has already. */
static void put_id(void *userdata, const struct core_credential_info *info)
{
	struct base_buf text;

	base_buf_init(&text, 4096);
	base_b64url_put(&text, info->credential_id);
	base_jw_str(userdata, base_buf_view(&text));
	base_buf_done(&text);
}

void engine_op_passkey_begin(struct engine *e, struct engine_req *q)
{
	struct base_str name =
		e->config ? base_jv_str(base_jv_get(base_json_root(e->config), "name")) : BASE_STR_NONE;
	struct engine_site site;
	struct base_buf text;
	struct base_jw w;
	uint8_t user[16];

	if (!engine_may_change_sign_in(e, q) || !site_or_refuse(e, q, &site))
		return;
	engine_random(e, user, sizeof(user));
	base_buf_init(&text, 64);
	base_b64url_put(&text, (struct base_str){(const char *)user, sizeof(user)});
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	put_options(e, &w, "register", q->session, &site);
	base_jw_mstr(&w, "user", base_buf_view(&text));
	base_jw_mstr(&w, "name", name.len ? name : BASE_STR("aios"));
	base_jw_key(&w, "exclude");
	base_jw_arr(&w);
	core_passkeys(e->core, put_id, &w);
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	base_buf_done(&text);
	engine_reply_built(e, q, 200);
}

static void on_created(struct engine *e, void *userdata, const struct engine_passed *p)
{
	struct core_cmd cmd = {.type = CORE_CMD_CREDENTIAL};
	struct answered *a = userdata;
	struct engine_req *q = engine_req_of(e, a->req);
	struct base_json *doc = NULL;
	struct base_buf body;
	struct base_jv made;
	struct base_jw w;

	if (!q || !p->ok || !engine_challenge_spend(e, "register", q->session, challenge_of(a)) ||
		base_json_parse(p->value, &doc, NULL) < 0) {
		/* Whoever registers is signed in: they may know what is wrong. */
		if (q)
			engine_reply_problem(e, q, 422, "refused", "this passkey cannot be used: %.*s",
				BASE_STR_ARG(p->ok ? BASE_STR("its challenge was used before") : p->message));
		free(a);
		return;
	}
	made = base_json_root(doc);
	base_buf_init(&body, 1 << 14);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "kind", "passkey");
	base_jw_mcstr(&w, "name", a->name);
	base_jw_mstr(&w, "credential_id", base_jv_str(base_jv_get(made, "credential_id")));
	base_jw_mstr(&w, "public_key", base_jv_str(base_jv_get(made, "public_key")));
	base_jw_mint(&w, "alg", base_jv_int(base_jv_get(made, "alg"), 0));
	base_jw_end_obj(&w);
	cmd.body = base_buf_view(&body);
	/* What changes how one signs in changes the token too. */
	q->session_rotates = q->credential == 3;
	engine_web_rotate(e, q);
	engine_reply_cmd(e, q, &cmd);
	base_buf_done(&body);
	base_json_free(doc);
	free(a);
}

void engine_op_passkey_add(struct engine *e, struct engine_req *q)
{
	struct engine_site site;
	struct base_json *doc;
	struct answered *a;

	if (!engine_may_change_sign_in(e, q) || !site_or_refuse(e, q, &site))
		return;
	doc = engine_body_json(e, q);
	if (!doc)
		return;
	a = read_challenge(e, q, base_json_root(doc), "register", q->session);
	if (!a) {
		engine_reply_problem(
			e, q, 422, "refused", "this took too long, or was done before: begin again");
	} else {
		snprintf(a->name, sizeof(a->name), "%.*s",
			BASE_STR_ARG(base_jv_str(base_jv_get(base_json_root(doc), "name"))));
		engine_pass_create(
			e, base_str_of(q->host), base_json_root(doc), challenge_of(a), on_created, a);
	}
	base_json_free(doc);
}

void engine_op_sign_in_state(struct engine *e, struct engine_req *q)
{
	if (!is_operator(e, q))
		return;
	if (core_sign_in_json(e->core, engine_wall_ms(), base_str_of(q->session), &q->reply) < 0)
		engine_reply_problem(e, q, 500, "internal", "out of memory");
	else
		engine_reply_built(e, q, 200);
}

void engine_op_session_revoke(struct engine *e, struct engine_req *q)
{
	struct base_str id = engine_param(q, "session");
	struct core_cmd cmd = {.type = CORE_CMD_SESSION_CLOSE,
		.name = base_str_is(id, "all") ? BASE_STR_NONE : id,
		.text = BASE_STR("revoked")};

	if (is_operator(e, q))
		engine_reply_cmd(e, q, &cmd);
}

/* --- the page --- */

void engine_op_page_security(struct engine *e, struct engine_req *q)
{
	struct engine_site site;
	struct base_buf state;
	char csrf[65];

	if (!is_operator(e, q))
		return;
	engine_web_csrf(e, q, csrf);
	base_buf_init(&state, 1 << 20);
	if (core_sign_in_json(e->core, engine_wall_ms(), base_str_of(q->session), &state) < 0) {
		engine_reply_problem(e, q, 500, "internal", "out of memory");
	} else {
		base_buf_printf(&q->reply, "{\"csrf\":\"%s\",\"passkeys\":%s,\"port\":%u,\"state\":", csrf,
			engine_site_of(e, base_str_of(q->host), &site) ? "true" : "false", e->port);
		base_buf_str(&q->reply, base_buf_view(&state));
		base_buf_char(&q->reply, '}');
		engine_reply_built(e, q, 200);
	}
	base_buf_done(&state);
}

void engine_op_security_act(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.text = BASE_STR("revoked")};
	struct base_json *doc;
	struct base_str what;
	struct base_jv body;
	struct core_reply r;
	char csrf[65];

	if (!is_operator(e, q))
		return;
	doc = engine_body_json(e, q);
	if (!doc)
		return;
	body = base_json_root(doc);
	what = base_jv_str(base_jv_get(body, "answer"));
	engine_web_csrf(e, q, csrf);
	cmd.name = base_jv_str(base_jv_get(body, "id"));
	cmd.type = base_str_is(what, "remove") ? CORE_CMD_CREDENTIAL : CORE_CMD_SESSION_CLOSE;
	cmd.base = base_str_is(what, "remove");
	if (base_str_is(what, "revoke_all"))
		cmd.name = BASE_STR_NONE;
	if (!base_str_is(base_jv_str(base_jv_get(body, "csrf")), csrf)) {
		engine_reply_problem(e, q, 403, "denied", "the form is too old: open the page again");
	} else if (base_str_is(what, "remove") && !engine_may_change_sign_in(e, q)) {
		; /* answered */
	} else if (base_str_is(what, "sign_out")) {
		engine_web_sign_out(e, q);
		base_buf_cstr(&q->headers, "Location: /sign-in\n");
		engine_reply(e, q, 303, BASE_STR_NONE);
	} else if (!cmd.name.len && !base_str_is(what, "revoke_all")) {
		engine_reply_problem(e, q, 400, "invalid", "the form does not say which");
	} else if (engine_req_decide(e, q, &cmd, &r)) {
		base_buf_cstr(&q->headers, "Location: /security\n");
		engine_reply(e, q, 303, BASE_STR_NONE);
	}
	base_json_free(doc);
}
