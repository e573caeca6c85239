#include "engine/engine_int.h"

#include <stdlib.h>
#include <string.h>

/* Rules that were proposed after decisions: which are open stands in the state, what they say in the log. */

enum { LIST_MAX = 256 };

static bool put_proposal(struct engine *e, struct base_jw *w, uint64_t seq)
{
	struct core_record rec;
	struct core_rule_proposed ev;

	if (engine_read_event(e, seq, &rec) < 0 || rec.type != CORE_EV_RULE_PROPOSED ||
		core_rule_proposed_get(rec.body, &ev) < 0)
		return false;
	base_jw_obj(w);
	base_jw_mint(w, "proposal", (int64_t)ev.gate);
	base_jw_mint(w, "gate", (int64_t)ev.gate);
	base_jw_mint(w, "at_ms", rec.time_ms);
	base_jw_mint(w, "would", ev.would);
	base_jw_mint(w, "against", ev.against);
	base_jw_mraw(w, "rule", ev.rule);
	base_jw_mstr(w, "yaml", ev.text);
	base_jw_end_obj(w);
	return true;
}

void engine_op_proposals(struct engine *e, struct engine_req *q)
{
	uint64_t seqs[LIST_MAX];
	size_t n = core_proposals_open(e->core, seqs, LIST_MAX);
	struct base_jw w = base_jw_of(&q->reply);

	base_jw_obj(&w);
	base_jw_key(&w, "items");
	base_jw_arr(&w);
	for (size_t i = 0; i < n; i++)
		(void)put_proposal(e, &w, seqs[i]);
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}

void engine_op_proposal(struct engine *e, struct engine_req *q)
{
	uint64_t seq = core_proposal_seq(e->core, engine_param_u64(q, "proposal", 0));
	struct base_jw w = base_jw_of(&q->reply);

	if (!seq || !put_proposal(e, &w, seq)) {
		base_buf_clear(&q->reply);
		engine_reply_problem(e, q, 404, "unknown_proposal",
			"there is no open proposal %.*s: aios proposals lists them",
			BASE_STR_ARG(engine_param(q, "proposal")));
		return;
	}
	engine_reply_built(e, q, 200);
}

void engine_op_proposal_close(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_PROPOSAL, .id = engine_param_u64(q, "proposal", 0)};
	struct base_json *doc = engine_body_json(e, q);

	if (!doc)
		return;
	cmd.name = base_jv_str(base_jv_get(base_json_root(doc), "answer"));
	engine_reply_cmd(e, q, &cmd);
	base_json_free(doc);
}
