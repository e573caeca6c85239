#include "engine/engine_int.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/money.h"

/* What the operator looks at and turns: health, status, flows, budgets, secrets, outcomes, freeze. */

static const char *const state_names[] = {"down", "starting", "up", "stopping"};

void engine_op_health(struct engine *e, struct engine_req *q)
{
	struct base_jw w = base_jw_of(&q->reply);

	base_jw_obj(&w);
	base_jw_mcstr(&w, "status", e->degraded ? "degraded" : "ok");
	if (e->degraded)
		base_jw_mcstr(&w, "why", e->degraded_why);
	base_jw_mint(&w, "since_ms", e->started_ms);
	base_jw_mcstr(&w, "version", ENGINE_VERSION);
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}

static void put_process(struct base_jw *w, const struct engine_proc *p)
{
	base_jw_obj(w);
	base_jw_mcstr(w, "process", p->label);
	base_jw_mcstr(w, "state", p->state == ENGINE_DOWN && p->on_demand ? "idle" : state_names[p->state]);
	base_jw_mint(w, "pid", p->pid);
	base_jw_mcstr(w, "sandbox", p->state == ENGINE_UP ? p->sandbox : "");
	base_jw_mint(w, "starts", (int64_t)p->generation);
	if (p->kind == ENGINE_FLOW)
		base_jw_mint(w, "runs", p->worker.runs);
	base_jw_end_obj(w);
}

void engine_op_status(struct engine *e, struct engine_req *q)
{
	struct base_jw w = base_jw_of(&q->reply);

	base_jw_obj(&w);
	base_jw_mcstr(&w, "version", ENGINE_VERSION);
	base_jw_mstr(&w, "interpreter", engine_interpreter());
	base_jw_mcstr(&w, "workspace", e->paths.workspace);
	base_jw_mint(&w, "pid", getpid());
	base_jw_mint(&w, "port", e->port);
	base_jw_mint(&w, "since_ms", e->started_ms);
	base_jw_mcstr(&w, "status", e->degraded ? "degraded" : "ok");
	base_jw_mbool(&w, "frozen", core_is_frozen(e->core));
	base_jw_mbool(&w, "vault_locked", core_is_locked(e->core));
	base_jw_mint(&w, "epoch", (int64_t)core_epoch(e->core));
	base_jw_mint(&w, "seq", (int64_t)e->seq);
	base_jw_mint(&w, "durable", (int64_t)e->durable);
	base_jw_mint(&w, "views_seq", (int64_t)e->views_at);
	base_jw_mint(&w, "loaded_runs", (int64_t)engine_flows_count(e));
	base_jw_mint(&w, "calls_in_flight", (int64_t)engine_effects_count(e));
	base_jw_mint(&w, "archived", (int64_t)core_archived(e->core));
	if (core_restored_held(e->core, NULL, 0))
		base_jw_mint(&w, "held_by_restore", (int64_t)core_restored_held(e->core, NULL, 0));
	engine_disk_put(e, &w);
	engine_checkpoint_put(e, &w);
	base_buf_clear(&e->scratch);
	core_tell_failures(e->core, 20, &e->scratch);
	base_jw_mraw(&w, "announcements_failed", base_buf_view(&e->scratch));
	base_jw_key(&w, "processes");
	base_jw_arr(&w);
	for (size_t i = 0; i < e->proc_count; i++)
		put_process(&w, &e->procs[i]);
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}

struct base_str engine_array_of(const struct base_buf *object)
{
	struct base_str s = base_buf_view(object);
	ptrdiff_t at = base_str_find(s, '[');

	if (at < 0 || s.len < 2)
		return BASE_STR("[]");
	return base_str_sub(s, (size_t)at, s.len - 1 - (size_t)at);
}

void engine_op_state(struct engine *e, struct engine_req *q)
{
	struct base_buf all;
	int rc;

	base_buf_init(&all, 16 << 20);
	if (q->op == WIRE_OP_FLOWS)
		rc = core_flows_json(e->core, &all);
	else
		rc = core_budgets_json(e->core, &all);
	if (rc < 0) {
		engine_reply_problem(e, q, 500, "internal", "%s", strerror(-rc));
	} else {
		base_buf_cstr(&q->reply, "{\"items\":");
		engine_scope_list(e, q, engine_array_of(&all), &q->reply);
		base_buf_char(&q->reply, '}');
		engine_reply_built(e, q, 200);
	}
	base_buf_done(&all);
}

void engine_op_flow(struct engine *e, struct engine_req *q)
{
	struct base_str name = engine_param(q, "flow"), none;
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct base_buf all;
	struct base_jv v;
	bool found = false;

	base_buf_init(&all, 16 << 20);
	if (core_flows_json(e->core, &all) == 0 && base_json_parse(engine_array_of(&all), &doc, NULL) == 0)
		while (!found && base_jv_next(base_json_root(doc), &it, &none, &v))
			if (base_str_eq(base_jv_str(base_jv_get(v, "flow")), name) ||
				base_str_eq(base_jv_str(base_jv_get(v, "name")), name)) {
				base_jv_write(v, &q->reply);
				found = true;
			}
	base_json_free(doc);
	base_buf_done(&all);
	if (found)
		engine_reply_built(e, q, 200);
	else
		engine_reply_problem(e, q, 404, "unknown_flow", "there is no flow %.*s", BASE_STR_ARG(name));
}

/* With an Idempotency-Key and no key of its own, an outcome counts once for that. */
void engine_op_outcome(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_OUTCOME, .body = q->body};
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct base_jv root = {0}, v;
	struct base_str key;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 1 << 20);
	if (q->key.len && base_json_parse(q->body, &doc, NULL) == 0)
		root = base_json_root(doc);
	if (base_jv_kind(root) == BASE_JSON_OBJ && base_jv_kind(base_jv_get(root, "key")) == BASE_JSON_NONE) {
		w = base_jw_of(&b);
		base_jw_obj(&w);
		while (base_jv_next(root, &it, &key, &v)) {
			base_buf_clear(&e->scratch);
			base_jv_write(v, &e->scratch);
			base_jw_key_str(&w, key);
			base_jw_raw(&w, base_buf_view(&e->scratch));
		}
		base_jw_mstr(&w, "key", q->key);
		base_jw_end_obj(&w);
		cmd.body = base_buf_view(&b);
	}
	engine_reply_cmd(e, q, &cmd);
	base_buf_done(&b);
	base_json_free(doc);
}

void engine_op_freeze(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);

	if (!doc)
		return;
	engine_reply_cmd(e, q,
		&(struct core_cmd){.type = q->op == WIRE_OP_FREEZE ? CORE_CMD_FREEZE : CORE_CMD_THAW,
			.text = base_jv_str(base_jv_get(base_json_root(doc), "reason"))});
	base_json_free(doc);
}

/* --- views --- */

void engine_op_views_rebuild(struct engine *e, struct engine_req *q)
{
	uint64_t req = engine_ask_next(e);
	struct base_buf b;

	engine_views_rebuild(e);
	/* The answer comes when they have caught up. */
	base_buf_init(&b, 1024);
	wire_views_query_put(&b,
		&(struct wire_views_query){
			.req = req, .query = BASE_STR("dump"), .params = BASE_STR("{}"), .at_least = e->seq});
	e->commit_wanted = true;
	engine_ask(e, ENGINE_VIEWS, WIRE_VIEWS_QUERY, req, &b, 900000, engine_reply_ask, q);
	base_buf_done(&b);
}
