#include "engine/sign_in_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/*
 * Decisions that are signatures: a passkey of the operator over the hash of what is decided. aios-pass verifies it; the
 * core takes it as proof (core/gate_votes.c).
 *
 * Invariant
 *
 * Y5 What is signed names the workspace, the gate, where it stands in the log, the hash of what it shows and the answer:
 * a signature is good for that one decision, and a gate is decided once. Only the operator's own passkeys count.
 */

enum { PROOF_MAX = 32 << 10 };

struct signing {
	uint64_t req; /* by its id: aiosd may stop, and forget it, while aios-pass looks */
	uint64_t gate;
	struct base_hash shown;
	struct base_buf reason, proof;
};

void engine_gate_challenge(
	struct engine *e, uint64_t gate, const struct base_hash *shown, struct base_hash *ret)
{
	struct base_buf b;
	uint64_t seq = core_gate_seq(e->core, gate);

	base_buf_init(&b, 1024);
	base_buf_cstr(&b, "aios gate decision 1");
	base_buf_str(&b, core_workspace(e->core));
	for (int i = 56; i >= 0; i -= 8)
		base_buf_char(&b, (char)(gate >> i & 0xff));
	for (int i = 56; i >= 0; i -= 8)
		base_buf_char(&b, (char)(seq >> i & 0xff));
	base_buf_put(&b, (const char *)shown->b, sizeof(shown->b));
	base_buf_cstr(&b, "approve");
	*ret = base_hash_of(base_buf_view(&b));
	base_buf_done(&b);
}

/* The Host of the console: "localhost:7717". */
static bool console_site(struct engine *e, struct base_buf *host, struct engine_site *ret)
{
	struct base_buf origin;
	struct base_str text;
	bool ok = false;

	base_buf_init(&origin, 1024);
	engine_door_origin(e, &origin);
	text = base_buf_view(&origin);
	for (size_t i = 0; !ok && i + 3 < text.len; i++) {
		if (memcmp(text.ptr + i, "://", 3) == 0) {
			base_buf_str(host, base_str_sub(text, i + 3, text.len));
			ok = true;
		}
	}
	base_buf_done(&origin);
	return ok && engine_site_of(e, base_buf_view(host), ret);
}

void engine_gate_challenge_put(
	struct engine *e, uint64_t gate, const struct base_hash *shown, struct base_buf *b)
{
	struct base_hash challenge;
	struct engine_site site;
	struct base_buf host;

	base_buf_init(&host, 1024);
	if (console_site(e, &host, &site)) {
		engine_gate_challenge(e, gate, shown, &challenge);
		base_buf_cstr(b, ",\"challenge\":\"");
		base_b64url_put(b, (struct base_str){(const char *)challenge.b, sizeof(challenge.b)});
		base_buf_cstr(b, "\",\"rp_id\":");
		base_json_quote(b, base_str_of(site.rp_id));
	}
	base_buf_done(&host);
}

static void signing_free(struct signing *s)
{
	base_buf_done(&s->reason);
	base_buf_done(&s->proof);
	free(s);
}

static void on_verified(struct engine *e, void *userdata, const struct engine_passed *p)
{
	struct signing *s = userdata;
	struct engine_req *q = engine_req_of(e, s->req);
	struct core_cmd cmd = {.type = CORE_CMD_GATE_DECIDE,
		.id = s->gate,
		.hash = s->shown,
		.name = BASE_STR("approve"),
		.text = base_buf_view(&s->reason),
		.key = BASE_STR("passkey"),
		.bytes = base_buf_view(&s->proof)};

	if (!q) {
		engine_note(2, "gate %llu: a signature came too late", (unsigned long long)s->gate);
	} else if (!engine_still_holds(e, q)) {
		engine_reply_problem(
			e, q, 401, "unauthenticated", "this session was ended meanwhile: sign in again");
	} else if (p->ok) {
		engine_reply_cmd(e, q, &cmd);
	} else if (strcmp(p->code, "wrong") != 0) {
		engine_reply_problem(e, q, 503, "busy", "this cannot be checked now: try again in a moment");
	} else {
		engine_note(2, "gate %llu: a signature was refused: %.*s", (unsigned long long)s->gate,
			BASE_STR_ARG(p->message));
		engine_reply_problem(e, q, 403, "signature",
			"this signature is not one of your passkeys over this decision: open the gate again");
	}
	signing_free(s);
}

void engine_gate_sign(struct engine *e, struct engine_req *q, struct base_jv body, struct base_jv assertion)
{
	struct base_hash challenge;
	struct engine_site site;
	struct base_buf host;
	struct signing *s;

	if (!base_str_is(q->by.id, "operator")) {
		engine_reply_problem(e, q, 403, "denied", "only the operator has passkeys");
		return;
	}
	/* What is signed is what was shown, approved as it is: nothing else rides on it. */
	if (base_jv_kind(base_jv_get(body, "value")) != BASE_JSON_NONE ||
		base_jv_kind(base_jv_get(body, "result")) != BASE_JSON_NONE) {
		engine_reply_problem(e, q, 422, "not_editable",
			"a signature approves what was shown: an edit is made in the operator's shell (aios "
			"approve "
			"--edit)");
		return;
	}
	s = calloc(1, sizeof(*s));
	BASE_CHECK(s);
	s->req = q->id;
	s->gate = engine_param_u64(q, "gate", 0);
	base_buf_init(&s->reason, 1 << 16);
	base_buf_init(&s->proof, PROOF_MAX);
	base_buf_str(&s->reason, base_jv_str(base_jv_get(body, "reason")));
	base_jv_write(assertion, &s->proof);
	base_buf_init(&host, 1024);
	if (base_buf_failed(&s->proof) || base_buf_failed(&s->reason) ||
		base_hash_from_hex(base_jv_str(base_jv_get(body, "shown")), &s->shown) < 0) {
		engine_reply_problem(
			e, q, 400, "invalid", "it needs \"shown\", and a signature of a passkey");
		signing_free(s);
	} else if (!console_site(e, &host, &site)) {
		engine_reply_problem(e, q, 422, "invalid", "no browser offers passkeys at this address");
		signing_free(s);
	} else {
		engine_gate_challenge(e, s->gate, &s->shown, &challenge);
		engine_pass_verify(e, base_buf_view(&host), assertion,
			(struct base_str){(const char *)challenge.b, sizeof(challenge.b)}, on_verified, s);
	}
	base_buf_done(&host);
}
