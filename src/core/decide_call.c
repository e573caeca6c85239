/* A run asks for a step: form, schema, grants, policy, budget, limits; then it is done, sent, held, gated or
 * refused. */
#include <string.h>

#include "core/undo_int.h"

struct base_str core_effect_key(const struct core_run *r, uint32_t step, struct base_arena *arena)
{
	char text[CORE_HASH_SHORT + 4], hex[65];
	struct base_hash h;

	memcpy(text, r->salt, CORE_HASH_SHORT);
	for (int i = 0; i < 4; i++)
		text[CORE_HASH_SHORT + i] = (char)(step >> (8 * i) & 0xff);
	h = base_hash_of((struct base_str){text, sizeof(text)});
	base_hash_hex(&h, hex);
	return base_arena_dup(arena, (struct base_str){hex, 32});
}

static struct core_step_called called(const struct core_call *call, struct base_str name)
{
	return (struct core_step_called){.run = call->run->id,
		.step = call->step,
		.action = name,
		.klass = call->action ? (uint8_t)call->action->klass : CORE_INTERNAL,
		.args_hash = call->args_hash,
		.opts = call->opts_text,
		.rule = call->rule,
		.policy = call->policy,
		.judged = call->judged,
		.customer = call->customer,
		.labels = (uint8_t)call->run->labels};
}

static void emit_called(struct core_turn *t, const struct core_call *call, struct core_step_called *ev)
{
	/* A rollback that has begun is not left half done. */
	bool limits = !call->action || call->action->handler != CORE_H_ROLLBACK;
	int64_t limit = limits ? core_duration_member(call->opts, "timeout") : 0;

	ev->args = core_blob(t, call->args_text);
	if (limit && ev->status < CORE_STEP_DONE)
		ev->deadline_ms = t->cmd->now_ms + limit;
	core_step_called_emit(t->block, t->cmd->now_ms, ev);
	if (ev->status >= CORE_STEP_DONE)
		core_undo_settle(t, ev->run, ev->step, ev->status == CORE_STEP_DONE, ev->result.data);
}

void core_emit_called_done(struct core_turn *t, const struct core_call *call, struct base_str result)
{
	struct core_step_called ev = called(call, t->cmd->name);

	ev.status = CORE_STEP_DONE;
	ev.result = core_blob(t, result);
	ev.brings = call->brings;
	emit_called(t, call, &ev);
}

void core_emit_called_failed(struct core_turn *t, const struct core_call *call, struct base_str problem)
{
	struct core_step_called ev = called(call, t->cmd->name);

	ev.status = CORE_STEP_FAILED;
	ev.result = core_blob(t, problem);
	emit_called(t, call, &ev);
}

void core_emit_called_waiting(
	struct core_turn *t, const struct core_call *call, int64_t due_ms, uint64_t gate)
{
	struct core_step_called ev = called(call, t->cmd->name);

	ev.status = CORE_STEP_WAITING;
	ev.due_ms = due_ms;
	ev.gate = gate;
	emit_called(t, call, &ev);
}

/* --- replay --- */

static struct base_str divergence(struct core_turn *t, const struct core_run *r, uint32_t step)
{
	const struct core_fetched *f = core_fetched_at(t, r->step[step].seq);
	struct core_step_called was;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mint(&w, "step", step);
	base_jw_key(&w, "recorded");
	base_jw_obj(&w);
	base_jw_mstr(&w, "action", t->c->action_names[r->step[step].action]);
	if (f && core_step_called_get(f->record.body, &was) == 0)
		base_jw_mraw(&w, "args", was.args.data);
	base_jw_end_obj(&w);
	base_jw_key(&w, "asked");
	base_jw_obj(&w);
	base_jw_mstr(&w, "action", t->cmd->name);
	base_jw_mraw(&w, "args", t->cmd->body);
	base_jw_end_obj(&w);
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

/* A step that is recorded must be asked for again as it was; else the run stands still with both shown. */
static void decide_replayed(struct core_turn *t, const struct core_run *r)
{
	const struct core_step *s = &r->step[t->cmd->step];
	struct core_gate_open g = {
		.run = r->id, .step = UINT32_MAX, .kind = "parked", .rule = BASE_STR("diverged")};

	if (core_step_is(t->c, s, t->cmd->name, t->cmd->body))
		return;
	g.show = divergence(t, r, t->cmd->step);
	g.title = base_arena_printf(t->arena, "Run %llu differs from its record at step %u",
		(unsigned long long)r->id, t->cmd->step);
	core_run_parked_emit(t->block, t->cmd->now_ms,
		&(struct core_run_parked){.run = r->id, .why = BASE_STR("diverged"), .detail = g.show});
	(void)core_emit_gate(t, &g);
}

/* --- effects --- */

struct base_str core_shown_call(
	struct core_turn *t, struct base_str action, struct base_str args, struct base_str key)
{
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mstr(&w, "action", action);
	base_jw_mraw(&w, "args", args);
	if (key.len) /* it goes along */
		base_jw_mstr(&w, "key", key);
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

static struct base_str shown_call(struct core_turn *t, const struct core_call *call)
{
	return core_shown_call(t, t->cmd->name, call->args_text, base_jv_str(base_jv_get(call->opts, "key")));
}

/* j: the rule that opens it, NULL: none does. */
static void emit_gated(struct core_turn *t, const struct core_call *call, struct core_step_called *ev,
	const char *kind, struct base_str title, int64_t cost, const struct core_judged *j, bool guarded)
{
	struct core_gate_open g = {.run = call->run->id,
		.step = call->step,
		.kind = kind,
		.title = title,
		.show = shown_call(t, call),
		.rule = ev->rule,
		.cost = cost,
		.on_expiry = j && j->on_expiry.len && !guarded ? j->on_expiry : BASE_STR("deny"),
		.labels = ev->labels,
		.sources = core_sources(t, call->run, ev->labels),
		.terms = j ? j->terms : BASE_STR_NONE,
		.policy = j ? j->policy : 0,
		.expires_ms = j && j->expires_ms ? t->cmd->now_ms + j->expires_ms : 0};

	ev->status = CORE_STEP_GATED;
	ev->sources = g.sources;
	ev->gate = t->next_gate;
	emit_called(t, call, ev);
	(void)core_emit_gate(t, &g);
}

/* The first call that needs a secret asks for the vault to be opened, the others wait behind it. */
static void hold_for_vault(struct core_turn *t, const struct core_call *call, struct core_step_called *ev)
{
	if (core_lock_asks(t->c)) {
		ev->status = CORE_STEP_GATED;
		ev->gate = t->next_gate;
		emit_called(t, call, ev);
		core_emit_lock_gate(t, call->run->id, call->step);
		return;
	}
	ev->status = CORE_STEP_HELD;
	ev->due_ms = CORE_NEVER_MS;
	emit_called(t, call, ev);
}

/* Allowed by policy: money, the vault, then the connector's limits. */
static void send_or_hold(struct core_turn *t, const struct core_call *call, const struct core_route *route,
	struct core_step_called *ev)
{
	const struct core_connector *k =
		core_connector_find(t->c, call->action->model ? route->provider : call->action->connector);
	struct base_str lacking;
	int64_t slot;

	ev->route = route->json;
	lacking = core_budget_short(t->c, call->run, route->reserve, t->cmd->now_ms, t->arena);
	if (lacking.len) {
		ev->rule = BASE_STR("budget");
		emit_gated(t, call, ev, "budget",
			base_arena_printf(
				t->arena, "%.*s: %.*s", BASE_STR_ARG(t->cmd->name), BASE_STR_ARG(lacking)),
			route->reserve, NULL, false);
		return;
	}
	if (core_lock_holds(t->c, call->action, route->provider)) {
		hold_for_vault(t, call, ev);
		return;
	}
	slot = core_slot(k, t->cmd->now_ms);
	/* After a restore it may have been sent before: held, and released as what may have happened (restore.c, O2). */
	if ((t->c->frozen && !call->action->internal) || slot > t->cmd->now_ms ||
		((call->run->flags & CORE_RUN_RESTORED) && !call->action->internal &&
			ev->klass >= CORE_IDEMPOTENT)) {
		ev->status = CORE_STEP_HELD;
		ev->due_ms = slot > t->cmd->now_ms ? slot : t->cmd->now_ms;
	} else {
		ev->status = CORE_STEP_SENT;
		ev->reserved = route->reserve;
	}
	emit_called(t, call, ev);
}

/* A dry run asks the outside nothing but reads that cost nothing, and shows what it would have sent. */
static bool answered_dry(struct core_turn *t, const struct core_call *call, const struct core_route *route)
{
	bool harmless = call->action->model ? base_str_is(route->provider, "local")
					    : call->action->klass == CORE_READ || call->action->internal;
	struct base_buf b;
	struct base_jw w;

	if (!(call->run->flags & CORE_RUN_DRY) || harmless)
		return false;
	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mbool(&w, "dry", true);
	if (call->action->model)
		base_jw_mcstr(&w, "text", "");
	base_jw_mraw(&w, "would_send", shown_call(t, call));
	base_jw_end_obj(&w);
	core_emit_called_done(t, call, core_buf_to_arena(t->arena, &b));
	return true;
}

/* An explicit key: the same key with other arguments is refused; with the same, it happens once. */
static bool refused_by_key(struct core_turn *t, const struct core_call *call, struct base_str key)
{
	const struct core_key *k = base_names_get(t->c->effect_keys, key);

	if (!k)
		return false;
	core_emit_called_failed(t, call,
		core_problem(t->arena, "key_reused",
			core_key_is(k, &call->args_hash)
				? "run %llu has asked for exactly this with the same key: it is not done "
				  "twice"
				: "run %llu used this key with other arguments",
			(unsigned long long)k->run));
	return true;
}

/* What the policy gates, or the guard, goes on with an approval that the flow was given, or waits for a person. False: it
 * has failed, or waits. */
static bool met(struct core_turn *t, const struct core_call *call, struct core_step_called *ev,
	const struct core_judged *j, struct base_str guard)
{
	uint64_t approval = (uint64_t)base_jv_int(base_jv_get(call->opts, "approval"), 0);
	struct base_str problem;

	if (j->verdict == CORE_ALLOW && !guard.len)
		return true;
	if (guard.len && j->verdict == CORE_ALLOW)
		ev->rule = guard;
	if (approval && core_approval_use(t, call, approval, &problem) < 0) {
		core_emit_called_failed(t, call, problem);
		return false;
	}
	if (approval &&
		(j->verdict != CORE_GATE || core_terms_cover(core_gate_find(t->c, approval), j->terms)) &&
		(!guard.len || core_approval_covers(core_gate_find(t->c, approval), call->args,
				       base_jv_str(base_jv_get(call->opts, "key"))))) {
		ev->approval = approval;
		return true;
	}
	emit_gated(t, call, ev, "policy",
		base_arena_printf(t->arena, "%.*s wants to do %.*s%s%.*s", BASE_STR_ARG(call->run->as->text),
			BASE_STR_ARG(t->cmd->name), j->why.len ? ": " : "", BASE_STR_ARG(j->why)),
		0, j, guard.len > 0);
	return false;
}

static void decide_effect(struct core_turn *t, struct core_call *call)
{
	uint64_t seq = core_customer_seq(t->c, call->customer);
	const struct core_fetched *fact = seq ? core_fetched_at(t, seq) : NULL;
	struct core_question q = {.run = call->run,
		.action = call->action,
		.args = call->args,
		.customer = call->customer,
		.customer_fact = fact ? fact->blob : BASE_STR_NONE,
		.now_ms = t->cmd->now_ms,
		.confidence = core_confidence_of(t, call),
		.labels = (uint8_t)call->run->labels};
	struct base_str own_key = base_jv_str(base_jv_get(call->opts, "key"));
	struct core_route route = {.reserve = 0};
	struct core_step_called ev;
	struct core_judged j;

	if (call->action->model) {
		route = core_route_of(
			t->c, call->args, call->args_text.len, q.labels, 0, t->cmd->now_ms, t->arena);
		if (route.problem.len) {
			core_emit_called_failed(t, call,
				core_problem(t->arena, "no_route", "%.*s", BASE_STR_ARG(route.problem)));
			return;
		}
		q.cost = route.reserve;
	}
	j = core_judge(t->c, &q, t->arena);
	call->rule = j.rule;
	call->policy = j.policy;
	call->judged = j.judged;
	ev = called(call, t->cmd->name);
	ev.counts = j.counts;
	ev.klass = (uint8_t)core_action_class(t->c, call->action);
	ev.key = core_effect_key(call->run, call->step, t->arena);
	if (own_key.len) {
		ev.key = BASE_JOIN(t->arena, t->cmd->name, BASE_STR(":"), own_key);
		if (refused_by_key(t, call, ev.key))
			return;
	}
	if (j.verdict == CORE_DENY) {
		core_emit_called_failed(t, call,
			core_problem(t->arena, "denied", "%.*s may not do %.*s (%.*s%s%.*s)",
				BASE_STR_ARG(call->run->as->text), BASE_STR_ARG(t->cmd->name),
				BASE_STR_ARG(j.rule), j.why.len ? ": " : "", BASE_STR_ARG(j.why)));
		return;
	}
	if (answered_dry(t, call, &route))
		return;
	if (base_str_is(call->action->name, "file.write") && ev.labels)
		ev.marks = core_file_path(t->arena, base_jv_str(base_jv_get(call->args, "path")));
	if (!met(t, call, &ev, &j, core_guard(t->c, call->action, route.provider, ev.labels)))
		return;
	send_or_hold(t, call, &route, &ev);
}

static void decide_known(struct core_turn *t, struct core_call *call)
{
	struct base_err err;

	if (base_schema_check(call->action->schema, call->args, &err) < 0) {
		core_emit_called_failed(t, call,
			core_problem(t->arena, "invalid", "%.*s: %s", BASE_STR_ARG(t->cmd->name), err.text));
		return;
	}
	if (!base_str_is(call->action->connector, "core")) {
		decide_effect(t, call);
		return;
	}
	if (!call->action->always && !core_run_may(t->c, call->run, t->cmd->name)) {
		call->rule = BASE_STR("no grant");
		core_emit_called_failed(t, call,
			core_problem(t->arena, "denied", "%.*s may not do %.*s: %s",
				BASE_STR_ARG(call->run->as->text), BASE_STR_ARG(t->cmd->name),
				core_run_may_not(t->c, call->run, t->cmd->name)));
		return;
	}
	call->rule = BASE_STR("grant");
	core_decide_internal(t, call);
}

/* When this run is over, what it leaves to be undone is its parent's, and would be done with the parent's grants: it must
 * not name what it may not do itself. */
static bool may_name(const struct core_turn *t, const struct core_call *call)
{
	struct base_str name = base_jv_str(base_jv_get(base_jv_get(call->opts, "undo"), "action"));

	return core_action_find(t->c, name)->always || core_run_may(t->c, call->run, name);
}

void core_decide_new_step(struct core_turn *t, struct core_run *r)
{
	struct core_call call = {.run = r,
		.step = t->cmd->step,
		.action = core_action_find(t->c, t->cmd->name),
		.args_text = t->cmd->body,
		.opts_text = t->cmd->params,
		.args_hash = base_hash_of(t->cmd->body)};
	struct base_json *args = NULL, *opts = NULL;
	struct base_err err;
	bool undoable;

	if (base_json_parse(t->cmd->body, &args, &err) < 0 ||
		base_json_is_canon(args, t->cmd->body, &err) < 0) {
		call.args_text =
			BASE_STR("null"); /* what is not JSON must not stand in the log as if it were */
		core_emit_called_failed(t, &call,
			core_problem(t->arena, "invalid", "%.*s: arguments: %s", BASE_STR_ARG(t->cmd->name),
				err.text));
	} else if (t->cmd->params.len && base_json_parse(t->cmd->params, &opts, &err) < 0) {
		call.opts_text = BASE_STR_NONE;
		core_emit_called_failed(t, &call,
			core_problem(t->arena, "invalid", "%.*s: options: %s", BASE_STR_ARG(t->cmd->name),
				err.text));
	} else if (!call.action) {
		core_emit_called_failed(t, &call,
			core_problem(t->arena, "unknown_action", "there is no action %.*s",
				BASE_STR_ARG(t->cmd->name)));
	} else {
		call.args = base_json_root(args);
		if (opts)
			call.opts = base_json_root(opts);
		call.customer = base_jv_str(base_jv_get(call.opts, "customer"));
		if (call.customer.len > CORE_NAME_MAX ||
			base_jv_str(base_jv_get(call.opts, "key")).len > CORE_NAME_MAX) {
			call.customer = call.opts_text = BASE_STR_NONE;
			core_emit_called_failed(t, &call,
				core_problem(t->arena, "invalid",
					"%.*s: options: a customer and a key have at most %d bytes",
					BASE_STR_ARG(t->cmd->name), CORE_NAME_MAX));
		} else if (core_undo_read(t->c, call.opts, &undoable, &err) < 0) {
			call.opts_text = BASE_STR_NONE;
			core_emit_called_failed(t, &call,
				core_problem(t->arena, "invalid", "%.*s: %s", BASE_STR_ARG(t->cmd->name),
					err.text));
		} else if (undoable && call.action->handler == CORE_H_ROLLBACK) {
			call.opts_text = BASE_STR_NONE; /* it would wait for its own end */
			core_emit_called_failed(t, &call,
				core_problem(t->arena, "invalid", "a rollback has no undo of its own"));
		} else if (undoable && !may_name(t, &call)) {
			call.opts_text = BASE_STR_NONE;
			call.rule = BASE_STR("no grant");
			core_emit_called_failed(t, &call,
				core_problem(t->arena, "denied",
					"%.*s: its undo: %.*s may not do that: it has no grant for it",
					BASE_STR_ARG(t->cmd->name), BASE_STR_ARG(r->as->text)));
		} else {
			if (call.customer.len == 0)
				call.customer = core_run_extra(r)->customer;
			decide_known(t, &call);
		}
	}
	base_json_free(opts);
	base_json_free(args);
}

void core_decide_flow_call(struct core_turn *t)
{
	struct core_run *r = core_run_find(t->c, t->cmd->run);

	if (!r || r->state != CORE_RUN_ACTIVE) {
		core_refuse(t, 409, "not_active", "run %llu does not run", (unsigned long long)t->cmd->run);
		return;
	}
	if (t->cmd->step < r->steps) {
		decide_replayed(t, r);
		return;
	}
	if (t->cmd->step == r->steps && r->steps >= CORE_STEPS_MAX) {
		core_end_children(
			t, r, core_problem(t->arena, "cancelled", "the run that waited for it has ended"));
		core_end_run(t, r, CORE_FAILED,
			core_problem(t->arena, "too_many_steps",
				"a run has at most %d steps: end it before with ctx.again(state), which goes "
				"on in "
				"a new one",
				CORE_STEPS_MAX),
			false);
		return;
	}
	if (t->cmd->step > r->steps) {
		core_refuse(t, 400, "protocol", "run %llu: step %u cannot follow step %u",
			(unsigned long long)r->id, t->cmd->step, r->steps);
		return;
	}
	core_decide_new_step(t, r);
}
