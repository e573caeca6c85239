#include "engine/engine_int.h"

#include <stdio.h>
#include <unistd.h>

/*
 * Credentials: the peer's uid (local door only: our own user or root is the operator); a key (auth_keys.c); the cookie of
 * a browser session (sessions_web.c).
 *
 * Invariants
 *
 * K1 No secret of a caller is kept: of keys nothing.
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
