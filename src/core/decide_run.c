/* Runs: start, end, cancel, pause, resume. */
#include <string.h>

#include "base/check.h"
#include "core/undo_int.h"

static void seed_of(struct core_turn *t, uint8_t seed[32])
{
	for (int i = 0; i < 4; i++) {
		uint64_t v = core_entropy(t);

		memcpy(seed + i * 8, &v, 8);
	}
}

static struct base_str context_of(struct core_turn *t, const struct core_start *s, uint64_t run)
{
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 4 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mint(&w, "id", (int64_t)run);
	base_jw_mstr(&w, "flow", s->flow ? s->flow->name : BASE_STR("aios:agent"));
	base_jw_mstr(&w, "by", s->by);
	base_jw_mstr(&w, "key", s->key);
	base_jw_mstr(&w, "customer", s->customer);
	base_jw_mbool(&w, "dry", s->dry);
	if (s->parent)
		base_jw_mint(&w, "parent", (int64_t)s->parent->id);
	if (s->fork.run)
		base_jw_mint(&w, "forked_from", (int64_t)s->fork.run);
	if (s->previous) {
		base_jw_mint(&w, "previous", (int64_t)s->previous->id);
		base_jw_mint(&w, "generation", (int64_t)core_run_extra(s->previous)->generation + 1);
	}
	if (s->agent)
		base_jw_mraw(&w, "agent", s->agent->definition);
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

static const struct core_version *version_of(const struct core_start *s)
{
	return s->version ? s->version : s->flow->current;
}

static int64_t deadline_of(const struct core_turn *t, const struct core_start *s)
{
	int64_t limit = s->timeout_ms ? s->timeout_ms : s->flow ? version_of(s)->timeout_ms : 0;

	return limit ? (s->begin_ms > t->cmd->now_ms ? s->begin_ms : t->cmd->now_ms) + limit : 0;
}

/* Whoever it goes on for, or is started by, counts on. */
static uint8_t event_depth_of(const struct core_start *s)
{
	const struct core_run *from = s->previous ? s->previous : s->parent;

	return from ? core_run_extra(from)->event_depth : s->event_depth;
}

/* What its input brings along. */
static uint8_t labels_of(const struct core_start *s)
{
	const struct core_run *from = s->previous ? s->previous : s->parent;

	return (uint8_t)(s->labels | (from ? from->labels : 0));
}

uint64_t core_emit_run_started(struct core_turn *t, const struct core_start *s)
{
	struct base_str as = s->agent
				     ? base_arena_printf(t->arena, "agent/%.*s", BASE_STR_ARG(s->agent->name))
				     : base_arena_printf(t->arena, "flow/%.*s", BASE_STR_ARG(s->flow->name));
	struct core_run_started ev = {.run = t->next_run++,
		.as = as,
		.by = s->by,
		.key = s->key,
		.input = core_blob(t, s->input),
		.input_hash = base_hash_of(s->input),
		.customer = s->customer,
		.flags = (uint8_t)((s->dry ? CORE_RUN_DRY : 0) | core_restored_flags(s->previous ? s->previous
										     : s->parent ? s->parent
												 : s->cause)),
		.trigger = s->trigger,
		.labels = labels_of(s),
		.shed = s->shed,
		.event_depth = event_depth_of(s),
		.grants = s->limits,
		.forked_from = s->fork.run,
		.forked_steps = s->fork.steps,
		.clock_ms = s->fork.clock_ms};
	struct core_start checked = *s;
	struct base_str problem;
	uint8_t seed[32];
	int status;

	if (!s->checked && !core_start_check(t, &checked, &problem, &status))
		t->reply->retry_after_ms = 0; /* it waits, whatever stands in the way */
	s = &checked;
	seed_of(t, seed);
	ev.seed = s->fork.seed.len ? s->fork.seed : (struct base_str){(const char *)seed, sizeof(seed)};
	ev.flow = s->flow ? s->flow->name : BASE_STR("aios:agent");
	if (s->flow)
		ev.version = version_of(s)->hash;
	if (s->agent) {
		ev.agent = s->agent->name;
		ev.version = s->agent->version;
	}
	if (s->parent) {
		ev.parent = s->parent->id;
		ev.parent_step = s->parent_step;
	}
	ev.origin = s->origin.len ? s->origin : s->by;
	ev.deadline_ms = deadline_of(t, s);
	ev.context = context_of(t, s, ev.run);
	ev.lane = s->lane;
	ev.rate = s->rate;
	ev.begin_ms = s->begin_ms > t->cmd->now_ms ? s->begin_ms : 0;
	ev.priority = core_start_priority(s);
	if (s->previous) { /* it goes on where that one stands: it has its turn */
		ev.previous = s->previous->id;
		ev.generation = core_run_extra(s->previous)->generation + 1;
	} else {
		ev.queued = core_start_queues(t, s);
	}
	t->starts++;
	core_run_started_emit(t->block, t->cmd->now_ms, &ev);
	return ev.run;
}

struct base_str core_start_key(
	struct base_arena *a, struct base_str by, struct base_str flow, bool dry, struct base_str key)
{
	/* No key that a flow chooses begins like this, and no flow's name ends so. */
	return BASE_JOIN(a, by, BASE_STR(":"), flow,
		dry ? BASE_STR("\x1f"
			       "dry:")
		    : BASE_STR(":"),
		key);
}

static void reply_run(struct core_turn *t, int status, uint64_t run, bool known)
{
	t->reply->id = run;
	core_reply_json(t, status,
		base_arena_printf(t->arena, "{\"run\":%llu,\"existing\":%s}", (unsigned long long)run,
			known ? "true" : "false"));
}

/* True when the key is known; then the reply is written. */
static bool answered_by_key(struct core_turn *t, struct base_str key, struct base_str input)
{
	const struct core_key *k = key.len ? base_names_get(t->c->keys, key) : NULL;
	struct base_hash hash = base_hash_of(input);

	if (!k)
		return false;
	if (core_key_is(k, &hash))
		reply_run(t, 200, k->run, true);
	else
		core_refuse(t, 409, "key_reused",
			"run %llu was started with this key and another input: use a new key for a new run",
			(unsigned long long)k->run);
	return true;
}

void core_decide_run_start(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	struct core_flow *flow = base_names_get(t->c->flows, cmd->name);
	struct core_start s = {
		.flow = flow, .by = cmd->by.id, .labels = core_caller_labels(t->c, cmd->by.id)};
	struct base_str input = cmd->body.len ? cmd->body : BASE_STR("{}");
	struct base_json *doc, *params = NULL;
	struct base_str problem;
	struct base_buf canon;
	struct base_err err;
	int status;

	if (!flow || !flow->current) {
		core_refuse(t, 404, "unknown_flow",
			"no flow named %.*s is deployed: `aios deploy` deploys flows/*.js",
			BASE_STR_ARG(cmd->name));
		return;
	}
	base_buf_init(&canon, 32 << 20);
	if (base_json_canon(input, &canon, &err) < 0 ||
		base_json_parse(base_buf_view(&canon), &doc, &err) < 0) {
		base_buf_done(&canon);
		core_refuse(t, 400, "invalid", "input: %s", err.text);
		return;
	}
	s.input = core_buf_to_arena(t->arena, &canon);
	if (flow->current->input && base_schema_check(flow->current->input, base_json_root(doc), &err) < 0) {
		base_json_free(doc);
		core_refuse(t, 422, "invalid", "input of %.*s: %s", BASE_STR_ARG(cmd->name), err.text);
		return;
	}
	base_json_free(doc);
	if (cmd->params.len && base_json_parse(cmd->params, &params, &err) < 0) {
		core_refuse(t, 400, "invalid", "parameters: %s", err.text);
		return;
	}
	if (cmd->params.len) {
		struct base_jv priority = base_jv_get(base_json_root(params), "priority");

		s.has_priority = base_jv_kind(priority) != BASE_JSON_NONE;
		s.priority = base_jv_int(priority, CORE_PRIORITY_MAX + 1);
		s.begin_ms = base_jv_int(base_jv_get(base_json_root(params), "begin_ms"), 0);
		s.dry = base_jv_bool(base_jv_get(base_json_root(params), "dry"), false);
		s.timeout_ms = core_duration_member(base_json_root(params), "timeout_ms");
		s.customer = base_arena_dup(
			t->arena, base_jv_str(base_jv_get(base_json_root(params), "customer")));
		base_json_free(params);
	}
	if (s.has_priority && (s.priority < -CORE_PRIORITY_MAX || s.priority > CORE_PRIORITY_MAX)) {
		core_refuse(t, 400, "invalid", "priority is a whole number from -%d to %d", CORE_PRIORITY_MAX,
			CORE_PRIORITY_MAX);
		return;
	}
	if (s.customer.len > CORE_NAME_MAX || cmd->key.len > CORE_NAME_MAX) {
		core_refuse(t, 400, "invalid", "a customer and a key have at most %d bytes", CORE_NAME_MAX);
		return;
	}
	if (cmd->key.len)
		s.key = core_start_key(t->arena, cmd->by.id, flow->name, s.dry, cmd->key);
	if (answered_by_key(t, s.key, s.input))
		return;
	if (!core_start_check(t, &s, &problem, &status)) {
		/* Not 409 where it can be tried again: an Idempotency-Key would keep that answer. */
		core_reply_json(t, t->reply->retry_after_ms ? 429 : status, problem);
		return;
	}
	reply_run(t, 201, core_emit_run_started(t, &s), false);
}

/* The step of the parent that waits for this run, or NULL. */
static struct core_open *waiting_parent(const struct core *c, const struct core_run *r)
{
	const struct core_run_extra *x = core_run_extra(r);
	struct core_open *o = core_step_open(core_step_find(core_run_find(c, x->parent), x->parent_step));

	return x->parent && o && o->child == r->id ? o : NULL;
}

void core_end_run(struct core_turn *t, const struct core_run *r, enum core_outcome outcome,
	struct base_str value, bool stop)
{
	struct core_open *o = waiting_parent(t->c, r);

	core_run_ended_emit(t->block, t->cmd->now_ms,
		&(struct core_run_ended){.run = r->id,
			.outcome = (uint8_t)outcome,
			.value = core_blob(t, value),
			.labels = (uint8_t)r->labels,
			.by = t->cmd->by.id,
			.stop = stop});
	if (!o)
		return;
	if (outcome != CORE_DONE)
		core_emit_step_failed_with(t, o->run, o->step, value, 0, (uint8_t)r->labels);
	else if (!core_shed_ask(t, r, o, value))
		core_emit_step_done(t, o->run, o->step, value, 0, BASE_STR_NONE, r->labels);
}

static void park(struct core_turn *t, const struct core_run *r, const char *why, struct base_str detail)
{
	struct core_gate_open g = {
		.run = r->id, .step = UINT32_MAX, .kind = "parked", .show = detail, .rule = base_str_of(why)};

	g.title = base_arena_printf(t->arena, "Run %llu stands still: %s", (unsigned long long)r->id, why);
	core_run_parked_emit(t->block, t->cmd->now_ms,
		&(struct core_run_parked){.run = r->id, .why = base_str_of(why), .detail = detail});
	(void)core_emit_gate(t, &g);
}

static bool problem_is(struct base_str problem, const char *kind)
{
	struct base_json *doc;
	bool is;

	if (base_json_parse(problem, &doc, NULL) < 0)
		return false;
	is = base_str_is(base_jv_str(base_jv_get(base_json_root(doc), "kind")), kind);
	base_json_free(doc);
	return is;
}

/* Children first, so that nothing acts for a parent that is gone. */
static void end_children(struct core_turn *t, const struct core_run *r, enum core_outcome outcome,
	struct base_str problem, unsigned depth)
{
	const struct core_undo *u = core_undo_find(t->c, r->id);
	const struct core_run *undo = u && u->rollback ? core_run_find(t->c, u->rollback) : NULL;

	if (undo && !waiting_parent(t->c, undo)) { /* a person asked for it: no step of this run waits */
		end_children(t, undo, outcome, problem, depth + 1);
		core_end_run(t, undo, outcome, problem, true);
	}
	for (uint32_t i = 0; i < r->steps; i++) {
		const struct core_open *o = core_step_open(&r->step[i]);
		const struct core_run *child = core_open_child(t->c, o);

		if (!child || child->state == CORE_RUN_ENDED)
			continue;
		BASE_CHECK(depth < CORE_DEPTH_MAX);
		end_children(t, child, outcome, problem, depth + 1);
		core_end_run(t, child, outcome, problem, true);
	}
}

void core_end_children(struct core_turn *t, const struct core_run *r, struct base_str problem)
{
	end_children(t, r, CORE_CANCELLED, problem, 0);
}

void core_end_tree(
	struct core_turn *t, const struct core_run *r, enum core_outcome outcome, struct base_str problem)
{
	end_children(t, r, outcome, problem, 0);
	core_end_run(t, r, outcome, problem, true);
}

void core_cancel(struct core_turn *t, const struct core_run *r, struct base_str problem)
{
	if (core_run_is_undo(r))
		core_undo_end(t, r, CORE_CANCELLED, problem);
	else
		core_end_tree(t, r, CORE_CANCELLED, problem);
}

/* Fewer steps than are recorded: this time it went another way. */
static struct base_str went_short(struct core_turn *t, const struct core_run *r)
{
	return core_problem(t->arena, "diverged",
		"the flow ended after %u steps, but its record has %u: it does not do the same twice",
		t->cmd->step, r->steps);
}

/* FLOW_DONE and FLOW_FAILED: what a worker says of a run that it holds. */
void core_decide_flow_end(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	struct core_run *r = core_run_find(t->c, cmd->run);

	if (!r || r->state != CORE_RUN_ACTIVE) {
		core_refuse(t, 409, "not_active", "run %llu does not run", (unsigned long long)cmd->run);
		return;
	}
	if (cmd->type == CORE_CMD_FLOW_DONE && cmd->step < r->steps) {
		park(t, r, "diverged", went_short(t, r));
		return;
	}
	if (cmd->type == CORE_CMD_FLOW_FAILED && problem_is(cmd->body, "diverged")) {
		park(t, r, "diverged", cmd->body);
		return;
	}
	core_end_children(t, r, core_problem(t->arena, "cancelled", "the run that waited for it has ended"));
	if (cmd->type == CORE_CMD_FLOW_DONE)
		core_end_run(t, r, CORE_DONE, cmd->body.len ? cmd->body : BASE_STR("null"), false);
	else
		core_end_run(t, r, CORE_FAILED, cmd->body, false);
}

static bool asks_undo(const struct core_cmd *cmd)
{
	struct base_json *doc;
	bool undo;

	if (!cmd->params.len || base_json_parse(cmd->params, &doc, NULL) < 0)
		return false;
	undo = base_jv_bool(base_jv_get(base_json_root(doc), "undo"), false);
	base_json_free(doc);
	return undo;
}

void core_decide_run_cancel(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	struct core_run *r = core_run_find(t->c, cmd->run);
	struct base_str problem;

	if (!r || r->state == CORE_RUN_ENDED) {
		core_refuse(t, r || (cmd->run && cmd->run < t->c->next_run) ? 409 : 404, "not_active",
			r || (cmd->run && cmd->run < t->c->next_run) ? "run %llu has ended already"
								     : "there is no run %llu",
			(unsigned long long)cmd->run);
		return;
	}
	if (asks_undo(cmd) && r->state != CORE_RUN_QUEUED) {
		core_decide_rollback(t);
		return;
	}
	problem = core_problem(t->arena, "cancelled", "cancelled by %.*s%s%.*s", BASE_STR_ARG(cmd->by.id),
		cmd->text.len ? ": " : "", BASE_STR_ARG(cmd->text));
	core_cancel(t, r, problem);
	reply_run(t, 200, r->id, true);
}

void core_decide_run_pause(struct core_turn *t)
{
	const struct core_run *r = core_run_find(t->c, t->cmd->run);
	const char *why = !r || r->state == CORE_RUN_ENDED ? "does not run (any more)"
			  : r->state == CORE_RUN_PAUSED	   ? "is paused already"
			  : r->state == CORE_RUN_PARKED
				  ? "stands still already, until somebody acts: see aios why"
				  : "has not begun: cancel it, or pause it when it has";

	if (!r || r->state != CORE_RUN_ACTIVE) {
		core_refuse(t, r || (t->cmd->run && t->cmd->run < t->c->next_run) ? 409 : 404, "not_active",
			"run %llu %s", (unsigned long long)t->cmd->run, why);
		return;
	}
	core_run_paused_emit(t->block, t->cmd->now_ms,
		&(struct core_run_paused){.run = r->id, .by = t->cmd->by.id, .reason = t->cmd->text});
	reply_run(t, 200, r->id, true);
}

void core_decide_run_resume(struct core_turn *t)
{
	struct core_run *r = core_run_find(t->c, t->cmd->run);

	if (!r || (r->state != CORE_RUN_PARKED && r->state != CORE_RUN_PAUSED)) {
		core_refuse(t, r ? 409 : 404, "not_parked",
			r ? "run %llu is neither paused nor parked" : "there is no such run as %llu",
			(unsigned long long)t->cmd->run);
		return;
	}
	core_run_resumed_emit(
		t->block, t->cmd->now_ms, &(struct core_run_resumed){.run = r->id, .by = t->cmd->by.id});
	reply_run(t, 200, r->id, true);
}
