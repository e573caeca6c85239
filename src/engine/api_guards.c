#include "engine/engine_int.h"

/* The built-in rules: which are on; on again at once, off by a gate. */

static const char guard[] = "untrusted-private";

void engine_op_guards(struct engine *e, struct engine_req *q)
{
	struct base_jw w = base_jw_of(&q->reply);

	base_jw_obj(&w);
	base_jw_key(&w, "items");
	base_jw_arr(&w);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "rule", guard);
	base_jw_mbool(&w, "on", core_guard_is_on(e->core, base_str_of(guard)));
	base_jw_mcstr(&w, "text",
		"a run that has read untrusted data and touched private data sends nothing outside without a "
		"gate");
	base_jw_end_obj(&w);
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}

void engine_op_guard_set(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_GUARD_SET, .name = engine_param(q, "guard")};
	struct base_json *doc = engine_body_json(e, q);
	struct base_jv on;

	if (!doc)
		return;
	on = base_jv_get(base_json_root(doc), "on");
	cmd.base = base_jv_bool(on, true);
	cmd.text = base_jv_str(base_jv_get(base_json_root(doc), "reason"));
	if (base_jv_kind(on) != BASE_JSON_BOOL)
		engine_reply_problem(e, q, 400, "invalid",
			"the body is {\"on\": true} or {\"on\": false, \"reason\": \"…\"}");
	else
		engine_reply_cmd(e, q, &cmd);
	base_json_free(doc);
}
