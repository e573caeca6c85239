#include <errno.h>
#include <string.h>

#include "engine/engine_int.h"

/* What starts flows: schedules (the list, one with its next firings, pause and resume), events. */

void engine_op_schedules(struct engine *e, struct engine_req *q)
{
	struct base_str name = engine_param(q, "schedule");
	struct base_buf all;
	int rc;

	base_buf_init(&all, 16 << 20);
	if (q->op == WIRE_OP_SCHEDULE) {
		rc = core_schedule_json(e->core, name, &q->reply);
	} else if ((rc = core_schedules_json(e->core, &all)) == 0) {
		base_buf_cstr(&q->reply, "{\"items\":");
		engine_scope_list(e, q, engine_array_of(&all), &q->reply);
		base_buf_char(&q->reply, '}');
	}
	base_buf_done(&all);
	if (rc == -ENOENT)
		engine_reply_problem(e, q, 404, "unknown_schedule",
			"there is no schedule %.*s: `aios schedules` lists them", BASE_STR_ARG(name));
	else if (rc < 0)
		engine_reply_problem(e, q, 500, "internal", "%s", strerror(-rc));
	else
		engine_reply_built(e, q, 200);
}

void engine_op_schedule_pause(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_SCHEDULE_PAUSE,
		.name = engine_param(q, "schedule"),
		.base = q->op == WIRE_OP_SCHEDULE_PAUSE};

	engine_reply_cmd(e, q, &cmd);
}

/* An Idempotency-Key stands in the log with the event. */
void engine_op_event_publish(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_PUBLISH, .name = engine_param(q, "topic"), .body = q->body};
	struct core_reply r;

	if (!q->scoped)
		engine_reply_cmd(e, q, &cmd);
	else if (engine_req_decide(e, q, &cmd, &r)) /* which runs it started may be beyond its scope */
		engine_reply(e, q, r.status, BASE_STR("{\"published\":true}"));
}
