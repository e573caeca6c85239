#pragma once

/* Signing in to the console: what pass.c, sign_in.c, sessions_web.c and their users share. */

#include "engine/engine_int.h"

/* --- pass.c: what is asked of aios-pass --- */

/* What a check came to. `ok`: it is verified, and its counter is recorded. Views are valid during the call. */
struct engine_passed {
	bool ok;
	const char *code;	    /* not ok: "wrong", "vault_locked", "unset", "busy", "unavailable" */
	struct base_str message;    /* for the operator's log; who asks is told one thing for all */
	struct base_str credential; /* "passkey/NAME", "password", "totp" */
	struct base_str value;	    /* what aios-pass answered */
};
typedef void (*engine_pass_fn)(struct engine *e, void *userdata, const struct engine_passed *p);

/* Is `assertion` ({"id","client_data","authenticator_data","signature"}, base64url, as the pages' script sends it) one of a
 * registered passkey over `challenge` (32 to 128 raw bytes), asked for by a page of the host `host`? The caller sees to it
 * that a challenge counts once. fn is called once, perhaps before this returns. */
void engine_pass_verify(struct engine *e, struct base_str host, struct base_jv assertion,
	struct base_str challenge, engine_pass_fn fn, void *userdata);
/* A new passkey: {"client_data","authenticator_data"}. On ok `value` is as in src/pass/README.md (create). */
void engine_pass_create(struct engine *e, struct base_str host, struct base_jv answer,
	struct base_str challenge, engine_pass_fn fn, void *userdata);
/* The operator's password, and the code where one is needed. Both are copied, and wiped afterwards. */
void engine_pass_password(struct engine *e, struct base_str password, struct base_str code, bool need_code,
	engine_pass_fn fn, void *userdata);
/* A code alone; it does not count as used. */
void engine_pass_totp(struct engine *e, struct base_str code, engine_pass_fn fn, void *userdata);
/* Hooks of process.c and ask.c. */
void engine_pass_up(struct engine *e, struct engine_proc *p);
void engine_pass_down(struct engine *e, struct engine_proc *p);
void engine_pass_done(struct engine *e);

/* Where the console is for a browser that asks `host` (the Host header): "http://localhost:7717" and "localhost". False:
 * no browser offers passkeys there. */
struct engine_site {
	char origin[300], rp_id[256];
	bool secure; /* https */
};
bool engine_site_of(struct engine *e, struct base_str host, struct engine_site *ret);

/* --- sessions_web.c --- */

/* Is this session open? Does not count as use. */
bool engine_web_is_open(struct engine *e, struct base_str id);
/* Another token for the session of q, where its time has come: in q->headers. */
void engine_web_rotate(struct engine *e, struct engine_req *q);
/* A new session for the browser of q, which leaves the one that it had: the cookie in q->headers. False: it could not be
 * written. */
bool engine_web_open(struct engine *e, struct engine_req *q, const char *how, struct base_str credential);
void engine_web_sign_out(struct engine *e, struct engine_req *q);
/* Is this the token of a one-time link? It is none any more. */
bool engine_web_link(struct engine *e, struct base_str token);
/* A challenge of a kind ("sign-in", "register"), for a session or "" (L4). */
enum { ENGINE_CHALLENGE = 56 };
void engine_challenge_make(
	struct engine *e, const char *kind, const char *session, uint8_t ret[ENGINE_CHALLENGE]);
bool engine_challenge_is(struct engine *e, const char *kind, const char *session, struct base_str challenge);
/* The same, and it counts no more. */
bool engine_challenge_spend(
	struct engine *e, const char *kind, const char *session, struct base_str challenge);

/* --- sign_in.c --- */

enum engine_totp { ENGINE_TOTP_REQUIRED, ENGINE_TOTP_OPTIONAL, ENGINE_TOTP_OFF };
struct engine_sign_in_config {
	bool link, passkey, password;
	enum engine_totp totp;
	int64_t idle_ms, absolute_ms, rotate_ms, fresh_ms;
};
void engine_sign_in_config(struct engine *e, struct engine_sign_in_config *ret);

/* May q change how the operator signs in? Only the operator, in the shell, or in a session that was opened a moment ago:
 * who finds a browser open, or a cookie, is not to stay. Else answers 403. */
bool engine_may_change_sign_in(struct engine *e, struct engine_req *q);

/* Operations. */
void engine_op_sign_in_page(struct engine *e, struct engine_req *q);
void engine_op_sign_in_state(struct engine *e, struct engine_req *q);
void engine_op_session_revoke(struct engine *e, struct engine_req *q);
void engine_op_passkey_begin(struct engine *e, struct engine_req *q);
void engine_op_passkey_add(struct engine *e, struct engine_req *q);
void engine_op_passkey_challenge(struct engine *e, struct engine_req *q);
void engine_op_passkey_sign_in(struct engine *e, struct engine_req *q);
void engine_op_page_security(struct engine *e, struct engine_req *q);
void engine_op_security_act(struct engine *e, struct engine_req *q);
/* sign_in_secrets.c */
void engine_op_credential_remove(struct engine *e, struct engine_req *q);
void engine_op_password_set(struct engine *e, struct engine_req *q);
void engine_op_totp_set(struct engine *e, struct engine_req *q);
