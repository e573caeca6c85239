#include "engine/sign_in_int.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "wire/sign_in.h"

/*
 * What is asked of aios-pass, which lives for one question. WebAuthn's answers go there as they came (ask.c). For a
 * password the process must be there first: aios-vault seals the hash and the secret of TOTP to the key of its very life.
 *
 * Invariants
 *
 * S1 A process that was promised to a password is asked nothing else, and one that was asked something is never promised.
 *
 * S2 What a passkey or a code was verified for counts only after the core has taken its counter (core/sign_in.c): a copy of
 * an authenticator, or a code that comes twice, is refused there.
 */

enum { CHECK_MS = 15000, QUEUE_MAX = 4, LIVES_MAX = 2, TEXT_MAX = 1100 };

enum check_state { CHECK_WAITS, CHECK_HASH, CHECK_TOTP, CHECK_SENT };

/* A password, or a code alone, on its way. */
struct check {
	struct check *next;
	enum check_state state;
	bool code_only, need_code;
	unsigned lives; /* of aios-pass that it was given */
	uint64_t req, generation;
	char password[TEXT_MAX], code[16];
	size_t password_len;
	uint8_t hash[4096], totp[4096];
	size_t hash_len, totp_len;
	engine_pass_fn fn;
	void *userdata;
};
struct engine_pass {
	struct check *first;
};

/* A ceremony on its way. */
struct ceremony {
	char credential[160]; /* get: what it would be */
	engine_pass_fn fn;
	void *userdata;
};

static struct engine_proc *process(struct engine *e)
{
	return engine_proc_of(e, ENGINE_PASS, 0);
}

static void answer(struct engine *e, engine_pass_fn fn, void *userdata, const char *code, const char *message)
{
	fn(e, userdata, &(struct engine_passed){.code = code, .message = base_str_of(message)});
}

/* The counter of what was verified goes into the log; false where it did not go up. */
static bool take_counter(struct engine *e, const char *id, int64_t counter)
{
	struct core_cmd cmd = {.type = CORE_CMD_CREDENTIAL_USED,
		.by = {.id = BASE_STR("operator")},
		.name = base_str_of(id),
		.base = counter};
	struct core_reply r;

	if (engine_decide(e, &cmd, &r) < 0)
		return false;
	if (r.status == 409)
		engine_note(2,
			"%s was refused: its counter did not go up. If it was not used twice in a moment, "
			"there is a "
			"copy of it: aios sign-in passkeys --remove",
			id);
	return r.status < 400;
}

/* --- where the console is --- */

static bool is_address(const char *name)
{
	return name[0] == '[' || strspn(name, "0123456789.") == strlen(name);
}

bool engine_site_of(struct engine *e, struct base_str host, struct engine_site *ret)
{
	char *colon;

	memset(ret, 0, sizeof(*ret));
	if (!host.len || host.len >= sizeof(ret->rp_id))
		return false;
	for (size_t i = 0; i < host.len; i++)
		ret->rp_id[i] =
			(char)(host.ptr[i] >= 'A' && host.ptr[i] <= 'Z' ? host.ptr[i] + 32 : host.ptr[i]);
	ret->secure = engine_door_secure(e);
	snprintf(ret->origin, sizeof(ret->origin), "%s://%s", ret->secure ? "https" : "http", ret->rp_id);
	colon = ret->rp_id[0] == '[' ? NULL : strchr(ret->rp_id, ':');
	if (colon)
		*colon = '\0';
	return (ret->secure || strcmp(ret->rp_id, "localhost") == 0) && !is_address(ret->rp_id);
}

/* --- ceremonies --- */

static void on_ceremony(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct ceremony *c = userdata;
	struct engine_passed p = {.code = status < 0 ? "unavailable" : "wrong",
		.message = value,
		.value = value,
		.credential = base_str_of(c->credential)};
	struct base_json *doc = NULL;

	(void)sealed;
	if (status == 1 && base_json_parse(value, &doc, NULL) == 0) {
		int64_t count = base_jv_int(base_jv_get(base_json_root(doc), "sign_count"), -1);

		p.ok = count >= 0 && (!c->credential[0] || take_counter(e, c->credential, count));
		if (!p.ok)
			p.message = BASE_STR("its counter did not go up");
	}
	c->fn(e, c->userdata, &p);
	base_json_free(doc);
	free(c);
}

static void put_b64url(struct base_jw *w, const char *name, struct base_str data)
{
	struct base_buf b;

	base_buf_init(&b, 1 << 16);
	base_b64url_put(&b, data);
	base_jw_mstr(w, name, base_buf_view(&b));
	base_buf_done(&b);
}

static void put_ceremony(struct base_jw *w, const struct engine_site *site, struct base_jv from,
	struct base_str challenge, const struct core_credential_info *key)
{
	static const char *const members[] = {"client_data", "authenticator_data", "signature"};

	base_jw_obj(w);
	base_jw_mcstr(w, "rp_id", site->rp_id);
	base_jw_key(w, "origins");
	base_jw_arr(w);
	base_jw_cstr(w, site->origin);
	base_jw_end_arr(w);
	put_b64url(w, "challenge", challenge);
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		base_jw_mstr(w, members[i], base_jv_str(base_jv_get(from, members[i])));
	if (key) {
		put_b64url(w, "public_key", key->public_key);
		base_jw_mint(w, "alg", key->alg);
	}
	base_jw_end_obj(w);
}

static void ask_ceremony(struct engine *e, const char *what, struct base_str params, const char *credential,
	engine_pass_fn fn, void *userdata)
{
	struct ceremony *c = calloc(1, sizeof(*c));
	uint64_t req = engine_ask_next(e);
	struct base_buf b;

	BASE_CHECK(c);
	snprintf(c->credential, sizeof(c->credential), "%s", credential);
	c->fn = fn;
	c->userdata = userdata;
	base_buf_init(&b, 1 << 18);
	wire_pass_check_put(
		&b, &(struct wire_pass_check){.req = req, .what = base_str_of(what), .params = params});
	engine_ask(e, ENGINE_PASS, WIRE_PASS_CHECK, req, &b, CHECK_MS, on_ceremony, c);
	base_buf_done(&b);
}

static bool find_key(struct engine *e, struct base_jv assertion, struct core_credential_info *ret)
{
	struct base_buf id;
	bool found;

	base_buf_init(&id, 2048);
	found = base_b64url_get(base_jv_str(base_jv_get(assertion, "id")), &id) == 0 && id.len &&
		core_passkey_find(e->core, base_buf_view(&id), ret);
	base_buf_done(&id);
	return found;
}

void engine_pass_verify(struct engine *e, struct base_str host, struct base_jv assertion,
	struct base_str challenge, engine_pass_fn fn, void *userdata)
{
	struct core_credential_info key;
	struct engine_site site;
	struct base_buf params;
	struct base_jw w;
	char id[160];

	if (!engine_site_of(e, host, &site) || !find_key(e, assertion, &key)) {
		answer(e, fn, userdata, "wrong", "it is of no passkey that is registered here");
		return;
	}
	base_buf_init(&params, 1 << 18);
	w = base_jw_of(&params);
	put_ceremony(&w, &site, assertion, challenge, &key);
	snprintf(id, sizeof(id), "%.*s", BASE_STR_ARG(key.id));
	ask_ceremony(e, "get", base_buf_view(&params), id, fn, userdata);
	base_buf_done(&params);
}

void engine_pass_create(struct engine *e, struct base_str host, struct base_jv given,
	struct base_str challenge, engine_pass_fn fn, void *userdata)
{
	struct engine_site site;
	struct base_buf params;
	struct base_jw w;

	if (!engine_site_of(e, host, &site)) {
		answer(e, fn, userdata, "wrong", "no passkey can be made for this address");
		return;
	}
	base_buf_init(&params, 1 << 18);
	w = base_jw_of(&params);
	put_ceremony(&w, &site, given, challenge, NULL);
	ask_ceremony(e, "create", base_buf_view(&params), "", fn, userdata);
	base_buf_done(&params);
}

/* --- passwords and codes --- */

static void pump(struct engine *e);

/* Takes the first from the queue and answers it. */
static void finish(struct engine *e, struct engine_passed *p)
{
	struct check *c = e->pass->first;
	engine_pass_fn fn = c->fn;
	void *userdata = c->userdata;

	e->pass->first = c->next;
	sodium_memzero(c, sizeof(*c));
	free(c);
	fn(e, userdata, p);
	pump(e);
}

static void give_up(struct engine *e, const char *code, const char *message)
{
	finish(e, &(struct engine_passed){.code = code, .message = base_str_of(message)});
}

static bool is_code(struct base_str problem, const char *code)
{
	struct base_json *doc;
	bool is;

	if (base_json_parse(problem, &doc, NULL) < 0)
		return false;
	is = base_str_is(base_jv_str(base_jv_get(base_json_root(doc), "code")), code);
	base_json_free(doc);
	return is;
}

static void on_checked(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct check *c = e->pass->first;
	struct engine_passed p = {
		.code = status < 0 || (status == 0 && !is_code(value, "wrong")) ? "unavailable" : "wrong",
		.message = value,
		.value = value,
		.credential = c && c->code_only ? BASE_STR("totp") : BASE_STR("password")};
	struct base_json *doc = NULL;

	(void)userdata;
	(void)sealed;
	BASE_CHECK(c && c->state == CHECK_SENT);
	if (status == 1 && base_json_parse(value, &doc, NULL) == 0) {
		int64_t step = base_jv_int(base_jv_get(base_json_root(doc), "step"), 0);

		p.ok = c->code_only || (!c->need_code || take_counter(e, "totp", step));
		p.ok = p.ok && (c->code_only || take_counter(e, "password", 0));
		if (!p.ok)
			p.message = BASE_STR("the code was used before");
	}
	finish(e, &p);
	base_json_free(doc);
}

static void send(struct engine *e, struct check *c)
{
	struct engine_proc *p = process(e);
	struct base_buf b, params;
	struct base_jw w;

	if (p->state != ENGINE_UP || p->generation != c->generation) {
		c->state = CHECK_WAITS;
		pump(e);
		return;
	}
	base_buf_init(&params, 1 << 14);
	base_buf_init(&b, 1 << 16);
	w = base_jw_of(&params);
	base_jw_obj(&w);
	base_jw_mstr(&w, "password", (struct base_str){c->password, c->password_len});
	base_jw_mcstr(&w, "code", c->code);
	base_jw_mbool(&w, "need_code", c->need_code);
	base_jw_mint(&w, "now_s", engine_wall_ms() / 1000);
	base_jw_end_obj(&w);
	wire_pass_check_put(&b, &(struct wire_pass_check){.req = c->req,
					.what = c->code_only ? BASE_STR("totp") : BASE_STR("password"),
					.params = base_buf_view(&params),
					.hash = {(const char *)c->hash, c->hash_len},
					.totp = {(const char *)c->totp, c->totp_len}});
	c->state = CHECK_SENT;
	p->asked = false; /* promised to this one (S1) */
	if (params.ptr)
		sodium_memzero(params.ptr, params.size);
	base_buf_done(&params);
	engine_ask(e, ENGINE_PASS, WIRE_PASS_CHECK, c->req, &b, CHECK_MS, on_checked, NULL);
	base_buf_done(&b);
}

static void ask_vault(struct engine *e, struct check *c);

/* What is not there is left empty: aios-pass does the same work for it. */
static void on_secret(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct check *c = e->pass->first;
	bool hash;

	(void)userdata;
	if (!c || (c->state != CHECK_HASH && c->state != CHECK_TOTP))
		return;
	hash = c->state == CHECK_HASH;
	if (status == 1 && sealed.len <= sizeof(c->hash)) {
		memcpy(hash ? c->hash : c->totp, sealed.ptr, sealed.len);
		*(hash ? &c->hash_len : &c->totp_len) = sealed.len;
	} else if (status < 0 || !is_code(value, "unknown_secret")) {
		process(e)->asked = false; /* it was not asked: it may serve another */
		engine_ask_up(e, process(e));
		if (status == 0 && (is_code(value, "vault_locked") || is_code(value, "vault_closed")))
			give_up(e, "vault_locked", "the vault is locked");
		else
			give_up(e, "unavailable", "the vault does not answer");
		return;
	}
	if (hash) {
		c->state = CHECK_TOTP;
		ask_vault(e, c);
	} else {
		send(e, c);
	}
}

static void ask_vault(struct engine *e, struct check *c)
{
	struct engine_proc *p = process(e);
	uint64_t req = engine_ask_next(e);
	struct base_buf b;

	if (p->state != ENGINE_UP || p->generation != c->generation) {
		c->state = CHECK_WAITS;
		pump(e);
		return;
	}
	base_buf_init(&b, 1 << 16);
	wire_vault_release_put(
		&b, &(struct wire_vault_release){.req = req,
			    .call = c->req,
			    .name = c->state == CHECK_HASH ? BASE_STR(WIRE_PASS_SECRET_PASSWORD)
							   : BASE_STR(WIRE_PASS_SECRET_TOTP),
			    .host = BASE_STR(WIRE_PASS_HOST),
			    .action = BASE_STR(WIRE_PASS_ACTION),
			    .recipient = {p->public_key, p->has_key ? sizeof(p->public_key) : 0}});
	engine_ask(e, ENGINE_VAULT, WIRE_VAULT_RELEASE, req, &b, CHECK_MS, on_secret, NULL);
	base_buf_done(&b);
}

static void pump(struct engine *e)
{
	struct engine_proc *p = process(e);
	struct check *c = e->pass ? e->pass->first : NULL;

	if (!c || c->state != CHECK_WAITS)
		return;
	if (p->state == ENGINE_DOWN)
		engine_proc_start(e, p);
	if (p->state != ENGINE_UP || p->asked || p->killed)
		return;
	if (c->lives++ == LIVES_MAX) {
		give_up(e, "unavailable", "aios-pass does not stay");
		return;
	}
	p->asked = true;
	c->generation = p->generation;
	c->hash_len = c->totp_len = 0;
	c->state = c->code_only ? CHECK_TOTP : CHECK_HASH;
	ask_vault(e, c);
}

void engine_pass_up(struct engine *e, struct engine_proc *p)
{
	(void)p;
	pump(e);
}

void engine_pass_down(struct engine *e, struct engine_proc *p)
{
	struct check *c = e->pass ? e->pass->first : NULL;

	if (!c || e->stopping)
		return;
	if (c->state == CHECK_HASH || c->state == CHECK_TOTP)
		return; /* its secrets are on the way: what comes for another life begins again */
	if (c->state == CHECK_WAITS && p->fails >= 3)
		give_up(e, "unavailable", "aios-pass does not start");
	else if (c->state == CHECK_WAITS)
		engine_timer_add(e, ENGINE_TIMER_RESPAWN, p->index, p->fails ? 100 : 0);
}

static void enqueue(struct engine *e, const struct check *from)
{
	struct check **at, *c;
	unsigned n = 0;

	if (!e->pass) {
		e->pass = calloc(1, sizeof(*e->pass));
		BASE_CHECK(e->pass);
	}
	for (at = &e->pass->first; *at; at = &(*at)->next)
		n++;
	if (n >= QUEUE_MAX) {
		answer(e, from->fn, from->userdata, "busy", "others are being checked");
		return;
	}
	c = malloc(sizeof(*c));
	BASE_CHECK(c);
	*c = *from;
	c->req = engine_ask_next(e);
	*at = c;
	pump(e);
}

static void copy_code(struct check *c, struct base_str code)
{
	/* People write "123 456". */
	for (size_t i = 0, n = 0; i < code.len && n + 1 < sizeof(c->code); i++)
		if (code.ptr[i] != ' ')
			c->code[n++] = code.ptr[i];
}

void engine_pass_password(struct engine *e, struct base_str password, struct base_str code, bool need_code,
	engine_pass_fn fn, void *userdata)
{
	struct check c = {.need_code = need_code, .fn = fn, .userdata = userdata};

	if (password.len <= WIRE_PASSWORD_MAX && password.len) {
		memcpy(c.password, password.ptr, password.len);
		c.password_len = password.len;
	}
	copy_code(&c, code);
	enqueue(e, &c);
	sodium_memzero(&c, sizeof(c));
}

void engine_pass_totp(struct engine *e, struct base_str code, engine_pass_fn fn, void *userdata)
{
	struct check c = {.code_only = true, .fn = fn, .userdata = userdata};

	copy_code(&c, code);
	enqueue(e, &c);
}

void engine_pass_done(struct engine *e)
{
	while (e->pass && e->pass->first) {
		struct check *c = e->pass->first;

		e->pass->first = c->next;
		sodium_memzero(c, sizeof(*c));
		free(c);
	}
	free(e->pass);
	e->pass = NULL;
}
