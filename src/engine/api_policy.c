#include "engine/engine_int.h"

#include <errno.h>

/* What the policy says, without doing anything. */

static bool read_event(void *userdata, uint64_t seq, struct core_record *ret)
{
	return engine_read_event(userdata, seq, ret) == 0;
}

void engine_op_can(struct engine *e, struct engine_req *q)
{
	struct base_err err;
	int rc = core_can_json(e->core, q->body, engine_wall_ms(), read_event, e, &q->reply, &err);

	if (rc == 0) {
		engine_reply_built(e, q, 200);
		return;
	}
	base_buf_clear(&q->reply);
	engine_reply_problem(e, q,
		rc == -ENOENT	? 404
		: rc == -ENOMEM ? 500
				: 400,
		rc == -ENOENT ? "unknown" : "invalid", "%s", rc == -ENOMEM ? "out of memory" : err.text);
}
