#include "engine/sign_in_int.h"

#include <stdio.h>
#include <unistd.h>

/*
 * Credentials: the peer's uid (local door only: our own user or root is the operator); a key (auth_keys.c); the cookie of
 * a browser session (sessions_web.c).
 *
 * Invariants
 *
 * K1 No secret of a caller is kept: of keys nothing but the public half, while a request goes on.
 *
 * K7 What is answered later than at once (a stream, ?wait=) asks again whether the credential holds, before anything leaves.
 */

static void be_operator(struct engine_req *q)
{
	snprintf(q->by_id, sizeof(q->by_id), "operator");
	q->by.id = base_str_of(q->by_id);
}

int engine_authenticate(struct engine *e, struct engine_req *q, const struct wire_door_request *in)
{
	q->by = (struct core_caller){0};
	switch (in->credential) {
	case 1:
		if (!q->door->local_door || (in->uid != geteuid() && in->uid != 0))
			return 401;
		be_operator(q);
		return 0;
	case 2:
		return engine_authenticate_key(e, q, in->token) ? 0 : 401;
	case 3:
		if (!engine_web_session(e, q, in->token))
			return 401;
		be_operator(q);
		return 0;
	default:
		return 401;
	}
}

bool engine_still_holds(struct engine *e, const struct engine_req *q)
{
	struct base_str id;

	switch (q->credential) {
	case 1:
		return true;
	case 2:
		id = core_principal_by_key(e->core,
			(struct base_str){(const char *)q->holder, sizeof(q->holder)}, engine_wall_ms(),
			NULL);
		return id.len > 0 && base_str_eq(id, q->by.id) && engine_req_may(e, q);
	case 3:
		return engine_web_is_open(e, base_str_of(q->session));
	default:
		return wire_route_of(q->op)->auth == WIRE_AUTH_NONE;
	}
}

void engine_reply_unknown(struct engine *e, struct engine_req *q)
{
	engine_reply_problem(e, q, 401, "unauthenticated",
		"no valid credential came with the request: use a key (Authorization: Bearer) or "
		"sign in with `aios open`");
}
