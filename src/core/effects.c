/*
 * Effects: planned → approved → sent → done | failed | in doubt.
 *
 *      step_called(GATED) ──gate──► step_sent ─┬─► step_done
 *      step_called(HELD) ──slot───►    ▲       ├─► step_failed
 *      step_called(SENT) ──────────────┤       ├─► step_retry (known not to have happened) ─► HELD
 *                                      └───────┴─── no answer: by class
 *
 * No answer: `read` and `idempotent` are sent again, `lookup` asks first, `once` becomes step_doubt.
 */
#include <string.h>

#include "core/undo_int.h"

enum { BACKOFF_FIRST_MS = 200, BACKOFF_MAX_MS = 300000, UNREADABLE_MS = 1000 };

int64_t core_slot(const struct core_connector *k, int64_t now_ms)
{
	int64_t slot_us, ahead;

	if (!k)
		return 0;
	if (k->open_until_ms > now_ms)
		return k->open_until_ms;
	if (!k->interval_us)
		return 0;
	ahead = (k->burst - 1) * k->interval_us;
	slot_us = k->next_us - ahead;
	return slot_us > now_ms * 1000 ? slot_us / 1000 + 1 : 0;
}

void core_emit_step_done(struct core_turn *t, uint64_t run, uint32_t step, struct base_str result,
	int64_t cost, struct base_str usage, uint8_t labels)
{
	core_step_done_emit(t->block, t->cmd->now_ms,
		&(struct core_step_done){.run = run,
			.step = step,
			.result = core_blob(t, result),
			.cost = cost,
			.usage = usage,
			.labels = labels});
	core_undo_settle(t, run, step, true, BASE_STR_NONE);
}

/* A step that fails now surely did not happen: it was never sent, or what it was sent to says so. */
static bool surely_not(const struct core_turn *t, uint64_t run, uint32_t step)
{
	const struct core_step *s = core_step_find(core_run_find(t->c, run), step);
	const struct core_open *o = core_step_open(s);
	bool answered = t->cmd->type == CORE_CMD_EFFECT_RESULT && t->cmd->run == run && t->cmd->step == step;

	if (!o || !o->effect)
		return false;
	if (s->status == CORE_STEP_GATED || s->status == CORE_STEP_HELD)
		return !o->effect->uncertain;
	if (s->status != CORE_STEP_SENT || !answered)
		return false;
	if (o->effect->mode == 1) /* asked whether it happened */
		return t->cmd->outcome == CORE_WIRE_NOT_FOUND;
	return !o->effect->uncertain &&
	       (t->cmd->outcome == CORE_WIRE_FAILED || t->cmd->outcome == CORE_WIRE_RETRY);
}

void core_emit_step_failed_with(struct core_turn *t, uint64_t run, uint32_t step, struct base_str problem,
	int64_t cost, uint8_t labels)
{
	core_step_failed_emit(t->block, t->cmd->now_ms,
		&(struct core_step_failed){.run = run,
			.step = step,
			.problem = problem,
			.cost = cost,
			.sure = surely_not(t, run, step),
			.labels = labels});
	core_undo_settle(t, run, step, false, problem);
}

void core_emit_step_failed(
	struct core_turn *t, uint64_t run, uint32_t step, struct base_str problem, int64_t cost)
{
	const struct core_step *s = core_step_find(core_run_find(t->c, run), step);
	const struct core_open *o = core_step_open(s);
	bool outside = o && o->action && o->effect && o->effect->attempt; /* it may quote who was asked */

	core_emit_step_failed_with(t, run, step, problem, cost, outside ? o->action->labels : 0);
}

/* Whose fault a failure was: 0 a restart of aios, 1 the outside, 2 a connector of aios. */
static uint8_t blame_of(struct core_turn *t, struct base_str problem)
{
	struct base_json *doc;
	struct base_str code;
	uint8_t blame;

	if (t->cmd->type == CORE_CMD_START || base_json_parse(problem, &doc, NULL) < 0)
		return 0;
	code = base_jv_str(base_jv_get(base_json_root(doc), "code"));
	if (base_str_is(code, "not_found") || base_str_is(code, "vault_locked"))
		blame = 0;
	else
		blame = base_str_is(code, "lost") ? 2 : 1;
	base_json_free(doc);
	return blame;
}

/* What is being decided leaves open whether the attempt happened: no answer, or one to another question. */
static bool is_unknown(const struct core_turn *t, const struct core_open *o)
{
	return t->cmd->type == CORE_CMD_START || t->cmd->outcome == CORE_WIRE_UNKNOWN || t->overdue ||
	       (t->cmd->outcome == CORE_WIRE_NOT_FOUND && o->effect->mode == 0);
}

static void emit_retry(struct core_turn *t, const struct core_open *o, uint32_t attempt, int64_t at_ms,
	uint8_t mode, struct base_str problem, int64_t cost)
{
	/* A flow's own time limit is nobody's fault. */
	bool unknown = is_unknown(t, o);

	core_step_retry_emit(t->block, t->cmd->now_ms,
		&(struct core_step_retry){.run = o->run,
			.step = o->step,
			.attempt = attempt,
			.at_ms = at_ms,
			.mode = mode,
			.problem = problem,
			.blame = attempt && !t->overdue ? blame_of(t, problem) : 0,
			.unknown = attempt && unknown,
			.cost = cost});
}

/* The class that counts now: an idempotent call whose key the outside has forgotten is one that happens once.
 */
enum core_class core_class_now(const struct core *c, const struct core_step *s, int64_t now_ms)
{
	int64_t life = s->open->action->key_life_ms;

	if (s->klass == CORE_IDEMPOTENT && life && s->open->effect->sent_ms &&
		now_ms - s->open->effect->sent_ms > life)
		return CORE_ONCE;
	if ((s->klass == CORE_IDEMPOTENT || s->klass == CORE_LOOKUP) &&
		core_is_stray(core_run_find(c, s->open->run), s->open->effect))
		return CORE_ONCE;
	return (enum core_class)s->klass;
}

static enum core_class class_now(const struct core_turn *t, const struct core_step *s)
{
	return core_class_now(t->c, s, t->cmd->now_ms);
}

static bool is_stopped(const struct core_run *r)
{
	return (r->flags & CORE_RUN_STOPPED) != 0;
}

/* Nothing is sent again for a run that was cancelled, nor for a step behind its time limit. */
static bool is_over(const struct core_turn *t, const struct core_run *r, const struct core_open *o)
{
	return is_stopped(r) || core_is_overdue(r, o->step, t->cmd->now_ms);
}

static struct base_str evidence_of(struct core_turn *t, const struct core_open *o, struct base_str problem);

/* --- release --- */

/* The call as it was judged, read back from the log. */
struct judged_call {
	struct base_json *args;
	struct base_str args_text;
	struct core_step_called ev;
	bool found;
};

static struct judged_call recall(struct core_turn *t, const struct core_step *s)
{
	const struct core_fetched *f = core_fetched_at(t, s->seq);
	struct judged_call j = {0};

	j.found = f && core_step_called_get(f->record.body, &j.ev) == 0 &&
		  base_json_parse(f->blob, &j.args, NULL) == 0;
	if (j.found)
		j.args_text = f->blob;
	return j;
}

/* What it was given then: the value that it is bound to is in the arguments, which are the same. */
static int64_t judged_confidence(struct base_str judged)
{
	struct base_json *doc;
	int64_t n;

	if (judged.len == 0 || base_json_parse(judged, &doc, NULL) < 0)
		return 0;
	n = base_jv_int(base_jv_get(base_json_root(doc), "confidence"), 0);
	base_json_free(doc);
	return n;
}

/* Grants and policy once more: what was allowed when it was asked may be denied when it would leave. */
static bool still_allowed(
	struct core_turn *t, struct core_run *r, const struct core_open *o, struct judged_call *call)
{
	uint64_t seq = core_customer_seq(t->c, o->effect->customer);
	const struct core_fetched *fact = seq ? core_fetched_at(t, seq) : NULL;
	struct core_question q = {.run = r,
		.action = o->action,
		.args = base_json_root(call->args),
		.customer = o->effect->customer,
		.customer_fact = fact ? fact->blob : BASE_STR_NONE,
		.now_ms = t->cmd->now_ms,
		.confidence = judged_confidence(call->ev.judged),
		.released = true,
		.counts = o->effect->counts,
		.labels = call->ev.labels};
	struct core_judged j = core_judge(t->c, &q, t->arena);

	if (j.verdict == CORE_ALLOW ||
		(j.verdict == CORE_GATE && (o->effect->cleared || o->effect->approval)))
		return true;
	/* An attempt may have happened: what is denied now has not failed by that. */
	if (o->effect->uncertain && r->step[o->step].klass != CORE_READ)
		core_emit_doubt(t, r, o->step,
			evidence_of(t, o,
				core_problem(t->arena, "denied", "%.*s is not sent again: %.*s",
					BASE_STR_ARG(o->action->name), BASE_STR_ARG(j.rule))));
	else
		core_emit_step_failed(t, r->id, o->step,
			core_problem(t->arena, "denied", "%.*s was not sent: %.*s",
				BASE_STR_ARG(o->action->name), BASE_STR_ARG(j.rule)),
			0);
	return false;
}

/* attempt: that failed for it, 0: none. Every hold is by time first: the gate takes it over from there. */
static void hold_for_vault(struct core_turn *t, const struct core_open *o, uint32_t attempt,
	struct base_str problem, int64_t cost)
{
	emit_retry(t, o, attempt, CORE_NEVER_MS, o->effect->mode, problem, cost);
	if (core_lock_asks(t->c))
		core_emit_lock_gate(t, o->run, o->step);
}

/* The vault was locked before the core knew: that is no attempt that has failed. */
static bool was_locked(const struct core_turn *t, struct base_str problem)
{
	struct base_json *doc;
	bool locked;

	if (!t->c->locked || base_json_parse(problem, &doc, NULL) < 0)
		return false;
	locked = base_str_is(base_jv_str(base_jv_get(base_json_root(doc), "code")), "vault_locked");
	base_json_free(doc);
	return locked;
}

static void ask_for_money(struct core_turn *t, const struct core_open *o, struct base_str lacking,
	int64_t cost, struct base_str shown)
{
	struct core_gate_open g = {.run = o->run,
		.step = o->step,
		.kind = "budget",
		.rule = BASE_STR("budget"),
		.show = shown,
		.cost = cost,
		.on_expiry = BASE_STR("deny")};

	g.title = base_arena_printf(
		t->arena, "%.*s: %.*s", BASE_STR_ARG(o->action->name), BASE_STR_ARG(lacking));
	(void)core_emit_gate(t, &g);
}

static void send_now(struct core_turn *t, struct core_run *r, struct core_open *o, struct judged_call *call)
{
	struct core_route route = {.json = o->effect->route};
	struct base_str lacking = BASE_STR_NONE;

	if (o->action->model && call->found) {
		route = core_route_of(t->c, base_json_root(call->args), call->ev.args.len, call->ev.labels,
			o->effect->failures, t->cmd->now_ms, t->arena);
		if (route.problem.len) {
			core_emit_step_failed(t, r->id, o->step,
				core_problem(t->arena, "no_route", "%.*s", BASE_STR_ARG(route.problem)), 0);
			return;
		}
		if (route.reserve > o->effect->overrun)
			lacking = core_budget_short(t->c, r, route.reserve, t->cmd->now_ms, t->arena);
	}
	if (!core_guard_release(t, r, o, call->args, call->args_text, call->ev.labels, route.provider))
		return;
	if (lacking.len) {
		ask_for_money(t, o, lacking, route.reserve, call->args_text);
		return;
	}
	if (core_lock_holds(t->c, o->action, route.provider)) {
		hold_for_vault(t, o, 0, BASE_STR_NONE, 0);
		return;
	}
	core_step_sent_emit(t->block, t->cmd->now_ms,
		&(struct core_step_sent){.run = r->id,
			.step = o->step,
			.attempt = o->effect->attempt + 1,
			.reserved = route.reserve,
			.route = route.json,
			.mode = o->effect->mode,
			.klass = (uint8_t)core_action_class(t->c, o->action)});
}

/* An attempt may have happened under a class that a setting has changed since (another transport): what made
 * it safe to repeat is gone, so a person says whether it happened. */
static bool class_is_gone(struct core_turn *t, const struct core_step *s, const struct core_open *o)
{
	return o->effect->uncertain && (s->klass == CORE_IDEMPOTENT || s->klass == CORE_LOOKUP) &&
	       core_action_class(t->c, o->action) != (enum core_class)s->klass;
}

static struct base_str why_doubtful(struct core_turn *t, const struct core_run *r)
{
	if (r->flags & CORE_RUN_RESTORED)
		return core_problem(t->arena, "restored",
			"the workspace was restored from a backup: it may have happened in the time that was "
			"lost");
	return core_problem(t->arena, "key_expired", "the outside has forgotten the key");
}

void core_release(struct core_turn *t, struct core_run *r, uint32_t step)
{
	struct core_open *o = core_step_open(&r->step[step]);
	struct judged_call call = recall(t, &r->step[step]);
	const struct core_connector *k = core_connector_find(t->c, o->action->connector);

	bool stale = core_is_overdue(r, step, t->cmd->now_ms) || (is_stopped(r) && o->effect->uncertain);

	if (o->effect->mode == 0 && stale)
		core_settle_overdue(t, r, step,
			core_problem(t->arena, is_stopped(r) ? "cancelled" : "timeout", "%.*s %s: %s",
				BASE_STR_ARG(o->action->name),
				o->effect->uncertain ? "may have happened and is not sent again"
						     : "was not sent",
				is_stopped(r) ? "its run has ended" : "its time limit is over"));
	else if (o->effect->uncertain && class_now(t, &r->step[step]) == CORE_ONCE)
		core_emit_doubt(t, r, step, evidence_of(t, o, why_doubtful(t, r)));
	else if (t->c->frozen && !o->action->internal)
		emit_retry(t, o, 0, t->cmd->now_ms, o->effect->mode, BASE_STR_NONE, 0);
	else if (k &&
		 k->open_until_ms > t->cmd->now_ms) /* its slot is taken, but the breaker opened meanwhile */
		emit_retry(t, o, 0, k->open_until_ms, o->effect->mode, BASE_STR_NONE, 0);
	else if (!call.found) /* what was judged cannot be read: nothing is sent on trust */
		emit_retry(t, o, 0, t->cmd->now_ms + UNREADABLE_MS, o->effect->mode, BASE_STR_NONE, 0);
	else if (class_is_gone(t, &r->step[step], o))
		core_emit_doubt(t, r, step,
			evidence_of(t, o,
				core_problem(t->arena, "changed",
					"a setting changed after an attempt: it cannot be repeated safely")));
	else if (still_allowed(t, r, o, &call))
		send_now(t, r, o, &call);
	base_json_free(call.args);
}

/* --- results --- */

void core_emit_doubt(struct core_turn *t, struct core_run *r, uint32_t step, struct base_str evidence)
{
	const struct core_open *o = core_step_open(&r->step[step]);
	struct core_gate_open g = {.run = r->id,
		.step = step,
		.kind = "doubt",
		.show = evidence,
		.rule = BASE_STR("effects that cannot be asked for again")};

	g.title = base_arena_printf(t->arena, "Did %.*s of run %llu happen?", BASE_STR_ARG(o->action->name),
		(unsigned long long)r->id);
	core_step_doubt_emit(t->block, t->cmd->now_ms,
		&(struct core_step_doubt){.run = r->id,
			.step = step,
			.attempt = o->effect->attempt,
			.gate = t->next_gate,
			.evidence = evidence});
	(void)core_emit_gate(t, &g);
}

static struct base_str evidence_of(struct core_turn *t, const struct core_open *o, struct base_str problem)
{
	const struct core_step *s = core_step_find(core_run_find(t->c, o->run), o->step);
	const struct core_fetched *f = core_fetched_at(t, s->seq);
	struct core_step_called ev;
	struct base_json *doc = NULL;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 256 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mstr(&w, "action", o->action->name);
	base_jw_mint(&w, "attempt", o->effect->attempt);
	base_jw_mstr(&w, "key", o->effect->key);
	if (f && core_step_called_get(f->record.body, &ev) == 0 && base_blob_is_inline(&ev.args))
		base_jw_mraw(&w, "args", ev.args.data);
	if (base_json_parse(problem, &doc, NULL) == 0)
		base_jw_mraw(&w, "last_word", problem);
	else
		base_jw_mstr(&w, "last_word", problem);
	base_json_free(doc);
	base_jw_mcstr(&w, "choices", "happened: it did, with its result; send: it did not, send it; give_up");
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

static uint32_t attempts_max(const struct core_open *o)
{
	struct base_json *doc;
	int64_t n = o->action->attempts;

	if (o->effect->opts.len && base_json_parse(o->effect->opts, &doc, NULL) == 0) {
		struct base_jv retry = base_jv_get(base_json_root(doc), "retry");

		n = base_jv_int(
			base_jv_kind(retry) == BASE_JSON_OBJ ? base_jv_get(retry, "attempts") : retry, n);
		base_json_free(doc);
	}
	return n < 1 ? 1 : (uint32_t)n;
}

static int64_t backoff(struct core_turn *t, uint32_t failures)
{
	int64_t base = BACKOFF_MAX_MS;

	if (failures < 11)
		base = (int64_t)BACKOFF_FIRST_MS << failures;
	if (base > BACKOFF_MAX_MS)
		base = BACKOFF_MAX_MS;
	if ((int64_t)t->cmd->retry_after_ms > base)
		return t->cmd->retry_after_ms;
	return base / 2 + (int64_t)(core_entropy(t) % (uint64_t)(base / 2 + 1));
}

/* A failure after which it may be tried again; at the last attempt a person decides. */
static void retry_or_park(
	struct core_turn *t, const struct core_open *o, uint8_t mode, struct base_str problem, int64_t cost)
{
	struct core_gate_open g = {.run = o->run,
		.step = o->step,
		.kind = "retry",
		.rule = BASE_STR("attempts used up"),
		.show = evidence_of(t, o, problem)};
	bool own = o->effect->opts.len > 0 && attempts_max(o) != o->action->attempts;
	bool maybe = is_unknown(t, o) && o->action->klass != CORE_READ;

	if (o->effect->failures + 1 < attempts_max(o)) {
		emit_retry(t, o, o->effect->attempt, t->cmd->now_ms + backoff(t, o->effect->failures), mode,
			problem, cost);
		return;
	}
	if ((own && !maybe) || o->action->internal) { /* the flow said how often: it deals with it itself */
		core_emit_step_failed(t, o->run, o->step, problem, cost);
		return;
	}
	emit_retry(t, o, o->effect->attempt, t->cmd->now_ms, mode, problem, cost);
	g.title = base_arena_printf(t->arena, "%.*s of run %llu failed %u times",
		BASE_STR_ARG(o->action->name), (unsigned long long)o->run, o->effect->failures + 1);
	(void)core_emit_gate(t, &g);
}

/* What a step fails with that is not sent again: its limit, whatever was said last; a run that ended has no use for it. */
static struct base_str problem_of_over(
	struct core_turn *t, const struct core_run *r, const struct core_open *o, struct base_str said)
{
	struct base_json *doc = NULL;
	struct base_str out = said, code, why;

	if (is_stopped(r))
		return said;
	if (base_json_parse(said, &doc, NULL) == 0) {
		code = base_jv_str(base_jv_get(base_json_root(doc), "code"));
		why = base_jv_str(base_jv_get(base_json_root(doc), "message"));
		if (!base_str_is(code, "timeout"))
			out = core_problem(t->arena, "timeout",
				"%.*s did not end within its time limit%s%.*s", BASE_STR_ARG(o->action->name),
				why.len ? "; last: " : "", BASE_STR_ARG(why));
	}
	base_json_free(doc);
	return out;
}

/* What did not happen has failed, what may have happened is asked about. A time limit is the flow's own: a step whose
 * call it may repeat under the same key fails with it. */
static void settle_over(struct core_turn *t, struct core_run *r, const struct core_open *o, bool maybe,
	struct base_str problem, int64_t cost)
{
	enum core_class klass = class_now(t, &r->step[o->step]);

	if ((!maybe && !o->effect->uncertain) || klass == CORE_READ || klass == CORE_INTERNAL ||
		(klass == CORE_IDEMPOTENT && !is_stopped(r)))
		core_emit_step_failed(t, r->id, o->step, problem_of_over(t, r, o, problem), cost);
	else if (klass == CORE_LOOKUP)
		emit_retry(t, o, o->effect->attempt, t->cmd->now_ms + o->action->settle_ms, 1, problem, cost);
	else
		core_emit_doubt(t, r, o->step, evidence_of(t, o, problem));
}

void core_settle_overdue(struct core_turn *t, struct core_run *r, uint32_t step, struct base_str problem)
{
	const struct core_open *o = r->step[step].open;
	bool out = r->step[step].status == CORE_STEP_SENT;

	t->overdue = out;
	if (!out && o->effect->uncertain &&
		class_now(t, &r->step[step]) == CORE_LOOKUP) /* it is asked when it was to be sent */
		emit_retry(t, o, 0, o->due_ms > t->cmd->now_ms ? o->due_ms : t->cmd->now_ms, 1, problem, 0);
	else
		settle_over(t, r, o, out, problem, out ? o->effect->reserved : 0);
}

/* No answer: it may have happened. */
static void no_answer(struct core_turn *t, struct core_run *r, const struct core_open *o,
	struct base_str problem, int64_t cost)
{
	enum core_class klass = class_now(t, &r->step[o->step]);

	if (is_over(t, r, o))
		settle_over(t, r, o, true, problem, cost);
	else if (klass == CORE_ONCE)
		core_emit_doubt(t, r, o->step, evidence_of(t, o, problem));
	else if (klass == CORE_LOOKUP)
		emit_retry(t, o, o->effect->attempt, t->cmd->now_ms + o->action->settle_ms, 1, problem, cost);
	else
		retry_or_park(t, o, 0, problem, cost);
}

static int64_t cost_of(struct core_turn *t, const struct core_open *o)
{
	int64_t cost = 0;
	struct base_json *doc;

	if (t->cmd->params.len && base_json_parse(t->cmd->params, &doc, NULL) == 0) {
		struct base_jv root = base_json_root(doc);

		/* Charged until the truth is known. */
		cost = base_jv_int(base_jv_get(root, "cost_nusd"),
			t->cmd->outcome == CORE_WIRE_UNKNOWN ? o->effect->reserved : 0);
		if (base_jv_bool(base_jv_get(root, "unknown"), false))
			cost = o->effect->reserved;
		base_json_free(doc);
	} else if (t->cmd->outcome == CORE_WIRE_UNKNOWN) {
		cost = o->effect->reserved;
	}
	return cost < 0 ? 0 : cost;
}

/* A model that refuses (no secret, a key that is not taken, a request it cannot serve) is not the end of its tier. */
static bool has_next_model(struct core_turn *t, const struct core_step *s)
{
	struct judged_call call;
	struct core_route route = {.candidates = 0};

	if (!s->open->action->model)
		return false;
	call = recall(t, s);
	if (call.found)
		route = core_route_of(t->c, base_json_root(call.args), call.ev.args.len, call.ev.labels,
			s->open->effect->failures + 1, t->cmd->now_ms, t->arena);
	base_json_free(call.args);
	return !route.problem.len && s->open->effect->failures + 1 < route.candidates;
}

void core_decide_effect_result(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	struct core_run *r = core_run_find(t->c, cmd->run);
	struct core_step *s = core_step_find(r, cmd->step);
	struct core_open *o = core_step_open(s);
	struct base_str value = cmd->body.len ? cmd->body : BASE_STR("null");
	int64_t cost;

	if (!o || s->status != CORE_STEP_SENT || o->effect->attempt != cmd->attempt) {
		core_refuse(t, 409, "late", "attempt %u of step %u of run %llu is not awaited", cmd->attempt,
			cmd->step, (unsigned long long)cmd->run);
		return;
	}
	cost = cost_of(t, o);
	switch (cmd->outcome) {
	case CORE_WIRE_DONE:
		core_emit_step_done(
			t, r->id, cmd->step, value, cost, cmd->params, core_result_labels(t, r, o, value));
		break;
	case CORE_WIRE_RETRY:
		if (o->effect->mode == 1)
			emit_retry(t, o, o->effect->attempt, t->cmd->now_ms + backoff(t, o->effect->failures),
				1, value, cost);
		else if (is_over(t, r, o))
			settle_over(t, r, o, false, value, cost);
		else if (was_locked(t, value))
			hold_for_vault(t, o, o->effect->attempt, value, cost);
		else
			retry_or_park(t, o, 0, value, cost);
		break;
	case CORE_WIRE_NOT_FOUND:
		if (o->effect->mode == 0) /* an answer to another question */
			no_answer(t, r, o, value, cost);
		else if (is_over(t, r, o)) /* it did not happen, and will not */
			core_emit_step_failed(t, r->id, cmd->step, problem_of_over(t, r, o, value), cost);
		else if (o->effect->failures + 1 < attempts_max(o))
			emit_retry(t, o, o->effect->attempt, t->cmd->now_ms, 0, value, cost);
		else
			retry_or_park(t, o, 0, value, cost);
		break;
	case CORE_WIRE_UNKNOWN:
		no_answer(t, r, o, value, cost);
		break;
	default:
		if (has_next_model(t, s) && !is_over(t, r, o))
			emit_retry(t, o, o->effect->attempt, t->cmd->now_ms, 0, value, cost);
		else
			core_emit_step_failed(t, r->id, cmd->step, value, cost);
		break;
	}
}

/* --- a new epoch --- */

/* What was in flight when aiosd ended has no answer any more; each by its class. */
void core_decide_start(struct core_turn *t)
{
	struct base_str problem = core_problem(t->arena, "restarted", "aiosd ended before the answer came");

	core_engine_started_emit(t->block, t->cmd->now_ms,
		&(struct core_engine_started){.epoch = t->c->epoch + 1,
			.version = t->cmd->text,
			.interpreter = t->cmd->name,
			.workspace = core_workspace_of(t),
			.restored = t->cmd->base == 1,
			.lost_ms = t->cmd->base == 1 ? t->c->time_ms : 0});
	core_emit_zones(t);
	core_emit_rezoned(t, NULL, NULL);
	if (t->cmd->base == 1) {
		core_decide_restored(t);
		return;
	}
	for (struct core_effect *x = t->c->effect_first; x; x = x->next) {
		struct core_open *o = x->open;
		struct core_run *r = core_run_find(t->c, o->run);
		struct core_step *s = &r->step[o->step];

		if (s->status != CORE_STEP_SENT)
			continue;
		if (is_over(t, r, o))
			settle_over(t, r, o, true, problem, o->effect->reserved);
		else if (class_now(t, s) == CORE_ONCE)
			core_emit_doubt(t, r, o->step, evidence_of(t, o, problem));
		else
			emit_retry(t, o, o->effect->attempt,
				t->cmd->now_ms + (s->klass == CORE_LOOKUP ? o->action->settle_ms : 0),
				s->klass == CORE_LOOKUP ? 1 : 0, problem, o->effect->reserved);
	}
}

/* --- time --- */

void core_decide_tick(struct core_turn *t)
{
	struct base_heap_item item;
	struct core_run *r;
	struct core_step *s;

	if (!core_admit_timer_due(t->c, t->cmd->now_ms, &item)) {
		(void)core_decide_admit(t);
		return;
	}
	if (item.kind == CORE_TIMER_GATE) {
		core_decide_gate(t);
		return;
	}
	if (item.kind == CORE_TIMER_TELL) {
		core_decide_tell(t, item.id);
		return;
	}
	if (item.kind == CORE_TIMER_DEADLINE) {
		core_decide_deadline(t, &item);
		return;
	}
	if (item.kind == CORE_TIMER_UNDO) {
		core_undo_tick(t, core_run_find(t->c, item.id));
		return;
	}
	if (item.kind == CORE_TIMER_DELIVERY) {
		core_decide_delivery(t, item.id);
		return;
	}
	if (item.kind == CORE_TIMER_SCHEDULE) {
		core_decide_schedule(t, item.id);
		return;
	}
	r = core_run_find(t->c, item.id);
	s = &r->step[item.sub];
	if (s->status == CORE_STEP_HELD) {
		core_release(t, r, item.sub);
		return;
	}
	if (s->open->action->handler == CORE_H_SIGNAL_WAIT || s->open->action->handler == CORE_H_RUN_WAIT ||
		s->open->action->handler == CORE_H_EVENT_WAIT)
		core_emit_step_done(t, r->id, item.sub, BASE_STR("{\"timeout\":true}"), 0, BASE_STR_NONE, 0);
	else
		core_emit_step_done(t, r->id, item.sub, BASE_STR("null"), 0, BASE_STR_NONE, 0);
}
