/* Actions that the core answers itself: memory, gates, timers, signals, child runs, experiments, outcomes,
 * logs. */
#include <math.h>
#include <string.h>

#include "core/undo_int.h"

typedef void (*internal_fn)(struct core_turn *t, const struct core_call *call);

static struct base_str arg_str(const struct core_call *call, const char *key)
{
	return base_jv_str(base_jv_get(call->args, key));
}

static struct base_str arg_text(struct core_turn *t, const struct core_call *call, const char *key)
{
	struct base_jv v = base_jv_get(call->args, key);
	struct base_buf b;

	if (base_jv_kind(v) == BASE_JSON_NONE)
		return BASE_STR_NONE;
	base_buf_init(&b, 32 << 20);
	base_jv_write(v, &b);
	return core_buf_to_arena(t->arena, &b);
}

/* Finished at once, with a result that has labels of its own. */
static void emit_brought(
	struct core_turn *t, const struct core_call *call, struct base_str result, uint8_t labels)
{
	struct core_call with = *call;

	with.brings = labels;
	core_emit_called_done(t, &with, result);
}

/* --- memory --- */

static void write_fact(
	struct base_jw *w, struct base_str key, const struct core_fact *f, const struct core_fetched *got)
{
	base_jw_obj(w);
	base_jw_mstr(w, "key", key);
	base_jw_mraw(w, "value", got->blob);
	base_jw_mint(w, "version", (int64_t)f->version);
	base_jw_mint(w, "at", got->record.time_ms);
	base_jw_end_obj(w);
}

static void memory_get(struct core_turn *t, const struct core_call *call)
{
	struct base_str key = arg_str(call, "key");
	const struct core_fact *f = base_names_get(t->c->facts, key);
	const struct core_fetched *got = f && !f->removed ? core_fetched_at(t, f->seq) : NULL;
	struct base_buf b;
	struct base_jw w;

	if (!got) { /* that it is not there is told too */
		emit_brought(t, call, BASE_STR("null"), core_fact_labels_of(t->c, key, f));
		return;
	}
	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	write_fact(&w, key, f, got);
	emit_brought(t, call, core_buf_to_arena(t->arena, &b), core_fact_labels_of(t->c, key, f));
}

static void memory_list(struct core_turn *t, const struct core_call *call)
{
	struct base_str prefix = arg_str(call, "prefix"), after = arg_str(call, "after"),
			key = after.len ? after : prefix;
	int64_t limit = core_list_limit(call->args);
	uint8_t labels = core_key_labels(t->c, prefix);
	struct base_buf b;
	struct base_jw w;
	void *value;

	base_buf_init(&b, 16 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_key(&w, "items");
	base_jw_arr(&w);
	for (bool inclusive = after.len == 0;
		limit > 0 && base_names_seek(t->c->facts, key, inclusive, &key, &value); inclusive = false) {
		const struct core_fact *f = value;
		const struct core_fetched *got = f->removed ? NULL : core_fetched_at(t, f->seq);

		if (!base_str_starts(key, prefix))
			break;
		if (!got)
			continue;
		write_fact(&w, key, f, got);
		labels |= core_fact_labels_of(t->c, key, f);
		limit--;
	}
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	if (base_buf_failed(&b)) {
		base_buf_done(&b);
		core_emit_called_failed(t, call,
			core_problem(
				t->arena, "too_large", "the facts of one list are too large: use `limit`"));
		return;
	}
	emit_brought(t, call, core_buf_to_arena(t->arena, &b), labels);
}

void core_emit_fact(struct core_turn *t, struct base_str key, struct base_str value, bool removed,
	uint64_t run, uint32_t step, struct base_str by, struct base_str source, uint8_t labels)
{
	const struct core_fact *f = base_names_get(t->c->facts, key);

	core_fact_put_emit(t->block, t->cmd->now_ms,
		&(struct core_fact_put){.key = key,
			.version = f ? f->version + 1 : 1,
			.value = core_blob(t, value),
			.removed = removed,
			.run = run,
			.step = step,
			.by = by,
			.source = source,
			.labels = labels});
}

static void memory_put(struct core_turn *t, const struct core_call *call)
{
	struct base_str key = arg_str(call, "key");
	const struct core_fact *f = base_names_get(t->c->facts, key);
	int64_t base = base_jv_int(base_jv_get(call->args, "base"), -1);
	uint64_t version = f ? f->version : 0;

	if (base >= 0 && (uint64_t)base != version) {
		core_emit_called_failed(t, call,
			core_problem(t->arena, "conflict",
				"%.*s stands at version %llu, not %lld: read it again", BASE_STR_ARG(key),
				(unsigned long long)version, (long long)base));
		return;
	}
	core_emit_fact(t, key, arg_text(t, call, "value"), false, call->run->id, call->step,
		core_word_text(call->run->as), arg_str(call, "source"), call->run->labels);
	core_emit_called_done(
		t, call, base_arena_printf(t->arena, "{\"version\":%llu}", (unsigned long long)version + 1));
}

static void memory_forget(struct core_turn *t, const struct core_call *call)
{
	struct base_str key = arg_str(call, "key");
	const struct core_fact *f = base_names_get(t->c->facts, key);

	if (!f || f->removed) {
		core_emit_called_done(t, call, BASE_STR("null"));
		return;
	}
	core_emit_fact(t, key, BASE_STR_NONE, true, call->run->id, call->step, core_word_text(call->run->as),
		BASE_STR_NONE, call->run->labels);
	core_emit_called_done(t, call,
		base_arena_printf(t->arena, "{\"version\":%llu}", (unsigned long long)f->version + 1));
}

static void memory_document(struct core_turn *t, const struct core_call *call)
{
	struct base_str text = arg_str(call, "text");
	struct core_document_put ev = {.id = arg_str(call, "id"),
		.text = core_blob(t, text),
		.meta = arg_text(t, call, "meta"),
		.hash = base_hash_of(text),
		.run = call->run->id,
		.step = call->step,
		.by = core_word_text(call->run->as),
		.labels = call->run->labels};

	core_document_put_emit(t->block, t->cmd->now_ms, &ev);
	core_emit_called_done(t, call,
		arg_text(t, call, "id").len
			? base_arena_printf(t->arena, "{\"id\":%.*s}", BASE_STR_ARG(arg_text(t, call, "id")))
			: BASE_STR("null"));
}

/* --- waits --- */

static bool is_dry(const struct core_call *call)
{
	return (call->run->flags & CORE_RUN_DRY) != 0;
}

static void gate_ask(struct core_turn *t, const struct core_call *call)
{
	int64_t expires = base_jv_int(base_jv_get(call->args, "expires_ms"), 0);
	struct base_str on_expiry = arg_str(call, "on_expiry");
	struct core_gate_open g = {.run = call->run->id,
		.step = call->step,
		.kind = "approve",
		.title = arg_str(call, "title"),
		.show = arg_text(t, call, "show"),
		.allows = arg_text(t, call, "allows"),
		.rule = BASE_STR("the flow asks"),
		.edit = base_jv_bool(base_jv_get(call->args, "edit"), false),
		.on_expiry = on_expiry.len ? on_expiry : BASE_STR("deny"),
		.expires_ms = expires > 0 ? t->cmd->now_ms + expires : 0,
		.labels = (uint8_t)call->run->labels,
		.sources = core_sources(t, call->run, (uint8_t)call->run->labels),
		.terms = arg_text(t, call, "terms")};
	struct base_err err;

	if (core_terms_check(base_jv_get(call->args, "terms"), &err) < 0) {
		core_emit_called_failed(t, call, core_problem(t->arena, "invalid", "%s", err.text));
		return;
	}
	if (is_dry(call)) {
		core_emit_called_done(t, call,
			base_arena_printf(t->arena,
				"{\"answer\":\"approve\",\"approval\":0,\"by\":\"dry\",\"reason\":\"\","
				"\"value\":%.*s}",
				BASE_STR_ARG(g.show)));
		return;
	}
	core_emit_called_waiting(t, call, 0, t->next_gate);
	(void)core_emit_gate(t, &g);
}

static void sleep_until(struct core_turn *t, const struct core_call *call)
{
	int64_t ms = base_jv_int(base_jv_get(call->args, "ms"), -1);
	int64_t due = ms >= 0 ? t->cmd->now_ms + ms : base_jv_int(base_jv_get(call->args, "until_ms"), 0);

	if (is_dry(call) || due <= t->cmd->now_ms)
		core_emit_called_done(t, call, BASE_STR("null"));
	else
		core_emit_called_waiting(t, call, due, 0);
}

/* What cannot be read may be anything. */
static uint8_t labels_of_signal(const struct core_fetched *got)
{
	struct core_signal_sent ev;

	return got && core_signal_sent_get(got->record.body, &ev) == 0 ? ev.labels : CORE_LABELS_ALL;
}

static void signal_wait(struct core_turn *t, const struct core_call *call)
{
	struct base_str name = arg_str(call, "name");
	int64_t timeout = base_jv_int(base_jv_get(call->args, "timeout_ms"), -1);
	const struct core_fetched *got;

	for (const struct core_signal *s = core_run_extra(call->run)->signals; s; s = s->next) {
		if (!base_str_eq(s->name->text, name))
			continue;
		got = core_fetched_at(t, s->seq);
		emit_brought(t, call,
			base_arena_printf(t->arena, "{\"payload\":%.*s}",
				BASE_STR_ARG(got && got->blob.len ? got->blob : BASE_STR("null"))),
			labels_of_signal(got));
		return;
	}
	if (is_dry(call) || timeout == 0)
		core_emit_called_done(t, call, BASE_STR("{\"timeout\":true}"));
	else
		core_emit_called_waiting(t, call, timeout > 0 ? t->cmd->now_ms + timeout : 0, 0);
}

/* --- runs --- */

/* A run that calls itself does not do so for ever. */
static bool too_deep(struct core_turn *t, const struct core_call *call)
{
	unsigned depth = 1;

	for (const struct core_run *r = call->run; (r = core_run_parent(t->c, r)) != NULL;)
		depth++;
	if (depth < CORE_DEPTH_MAX)
		return false;
	core_emit_called_failed(t, call,
		core_problem(t->arena, "too_deep", "more than %d runs wait for one another", CORE_DEPTH_MAX));
	return true;
}

static struct core_flow *callable(struct core_turn *t, const struct core_call *call)
{
	struct base_str name = arg_str(call, "flow");
	struct core_flow *flow = base_names_get(t->c->flows, name);

	if (flow && flow->current)
		return flow;
	core_emit_called_failed(t, call,
		core_problem(t->arena, "unknown_flow", "no flow named %.*s is deployed", BASE_STR_ARG(name)));
	return NULL;
}

static bool input_fits(struct core_turn *t, const struct core_call *call, const struct core_flow *flow)
{
	struct base_err err;

	if (!flow->current->input ||
		base_schema_check(flow->current->input, base_jv_get(call->args, "input"), &err) == 0)
		return true;
	core_emit_called_failed(t, call,
		core_problem(t->arena, "invalid", "input of %.*s: %s", BASE_STR_ARG(flow->name), err.text));
	return false;
}

static void run_child(struct core_turn *t, const struct core_call *call)
{
	bool waits = call->action->handler == CORE_H_RUN_CALL;
	struct core_flow *flow = callable(t, call);
	struct core_start s = {.flow = flow,
		.parent = waits ? call->run : NULL,
		.parent_step = call->step,
		.cause = call->run,
		.by = core_word_text(call->run->as),
		.origin = core_word_text(call->run->origin),
		.customer = call->customer,
		.labels = (uint8_t)call->run->labels,
		.event_depth = core_run_extra(call->run)->event_depth,
		.dry = is_dry(call)};
	struct base_str problem;
	int64_t delay = base_jv_int(base_jv_get(call->args, "delay_ms"), 0);
	uint64_t run;
	int status;

	s.has_priority = base_jv_kind(base_jv_get(call->args, "priority")) != BASE_JSON_NONE;
	s.priority = base_jv_int(base_jv_get(call->args, "priority"), 0);
	s.begin_ms = delay > 0 ? t->cmd->now_ms + delay : 0;
	if (!flow || !input_fits(t, call, flow) || (waits && too_deep(t, call)) ||
		!core_shed_read(t, call, flow, &s.shed))
		return;
	s.limits = core_run_limits(t->c, call->run, true, t->arena);
	s.input = arg_text(t, call, "input");
	if (waits) {
		if (!core_start_check(t, &s, &problem, &status)) {
			core_emit_called_failed(t, call, problem);
			return;
		}
		core_emit_called_waiting(t, call, 0, 0);
		(void)core_emit_run_started(t, &s);
		return;
	}
	if (arg_str(call, "key").len) {
		const struct core_key *k;
		struct base_hash hash = base_hash_of(s.input);

		s.key = core_start_key(
			t->arena, core_word_text(call->run->as), flow->name, s.dry, arg_str(call, "key"));
		k = base_names_get(t->c->keys, s.key);
		if (k && !core_key_is(k, &hash)) {
			core_emit_called_failed(t, call,
				core_problem(t->arena, "key_reused",
					"run %llu was started with this key and another input",
					(unsigned long long)k->run));
			return;
		}
		if (k) {
			core_emit_called_done(t, call,
				base_arena_printf(t->arena, "{\"run\":%llu}", (unsigned long long)k->run));
			return;
		}
	}
	if (!core_start_check(t, &s, &problem, &status)) {
		core_emit_called_failed(t, call, problem);
		return;
	}
	run = t->next_run;
	core_emit_called_done(
		t, call, base_arena_printf(t->arena, "{\"run\":%llu}", (unsigned long long)run));
	(void)core_emit_run_started(t, &s);
}

static void agent_run(struct core_turn *t, const struct core_call *call)
{
	const struct core_agent *agent = base_names_get(t->c->agents, arg_str(call, "agent"));
	struct core_start s = {.agent = agent,
		.parent = call->run,
		.parent_step = call->step,
		.by = core_word_text(call->run->as),
		.origin = core_word_text(call->run->origin),
		.customer = call->customer,
		.dry = is_dry(call)};
	struct base_str problem;
	int status;

	if (agent && too_deep(t, call))
		return;
	if (!agent) {
		core_emit_called_failed(t, call,
			core_problem(t->arena, "unknown_agent",
				"no agent named %.*s is deployed: it would be agents/%.*s.md",
				BASE_STR_ARG(arg_str(call, "agent")), BASE_STR_ARG(arg_str(call, "agent"))));
		return;
	}
	s.input = base_arena_dup(t->arena, call->args_text);
	s.limits = core_run_limits(t->c, call->run, true, t->arena);
	if (!core_start_check(t, &s, &problem, &status)) {
		core_emit_called_failed(t, call, problem);
		return;
	}
	core_emit_called_waiting(t, call, 0, 0);
	(void)core_emit_run_started(t, &s);
}

/* --- learning --- */

/* A draw from Beta(wins + 1, losses + 1) as the ratio of two Gammas with integer shapes, each a sum of
 * exponentials (for large shapes: its normal approximation). The choice is journaled; no floating point
 * enters the state. */
static double gamma_draw(struct base_prng *p, uint64_t shape)
{
	double sum = 0;

	if (shape > 200) {
		for (int i = 0; i < 12; i++)
			sum += (double)(base_prng_next(p) >> 11) * 0x1p-53;
		sum = (double)shape + sqrt((double)shape) * (sum - 6);
		return sum > 0 ? sum : 1e-9;
	}
	for (uint64_t i = 0; i < shape; i++)
		sum -= log(((double)(base_prng_next(p) >> 11) + 0.5) * 0x1p-53);
	return sum;
}

static uint32_t thompson(const struct core_experiment *x, uint32_t arms, struct base_prng *p)
{
	double best = -1;
	uint32_t chosen = 0;

	for (uint32_t i = 0; i < arms; i++) {
		uint64_t n = x ? x->arm[i].n : 0, wins = x ? x->arm[i].wins : 0;
		double a = gamma_draw(p, wins + 1), b = gamma_draw(p, (n > wins ? n - wins : 0) + 1);
		double draw = a / (a + b);

		if (draw > best) {
			best = draw;
			chosen = i;
		}
	}
	return chosen;
}

/* wins / n without division: a/b > c/d as a*d > c*b. An arm that was never tried counts as 0 of 1. */
static uint32_t best_arm(const struct core_experiment *x, uint32_t arms)
{
	uint32_t best = 0;

	for (uint32_t i = 1; x && i < arms; i++) {
		uint64_t n = x->arm[i].n ? x->arm[i].n : 1, m = x->arm[best].n ? x->arm[best].n : 1;

		if (x->arm[i].wins * m > x->arm[best].wins * n)
			best = i;
	}
	return best;
}

static uint32_t least_tried(const struct core_experiment *x, uint32_t arms)
{
	uint32_t least = 0;

	for (uint32_t i = 1; x && i < arms; i++)
		if (x->arm[i].n < x->arm[least].n)
			least = i;
	return least;
}

static void experiment_choose(struct core_turn *t, const struct core_call *call)
{
	struct base_str name = arg_str(call, "name"), mode = arg_str(call, "mode");
	const struct core_experiment *x = base_names_get(t->c->experiments, name);
	struct base_jv arms = base_jv_get(call->args, "arms");
	struct base_prng p = base_prng_of(t->cmd->entropy);
	uintptr_t unit =
		x && x->units && call->customer.len ? (uintptr_t)base_names_get(x->units, call->customer) : 0;
	uint32_t count = (uint32_t)base_jv_len(arms), arm;
	const char *how;
	struct base_buf b;
	struct base_jw w;

	if (count == 0 || count > CORE_ARMS_MAX) {
		core_emit_called_failed(t, call,
			core_problem(t->arena, "invalid", "an experiment has 1 to %d arms", CORE_ARMS_MAX));
		return;
	}
	if (unit && unit <= count) {
		arm = (uint32_t)unit - 1;
		how = "known";
	} else if (base_str_is(mode, "even")) {
		arm = least_tried(x, count);
		how = "even";
	} else if (base_str_is(mode, "best")) {
		arm = best_arm(x, count);
		how = "best";
	} else {
		arm = thompson(x, count, &p);
		how = "thompson";
	}
	if (!is_dry(call)) /* what is only tried teaches nothing */
		core_experiment_chosen_emit(t->block, t->cmd->now_ms,
			&(struct core_experiment_chosen){.experiment = name,
				.run = call->run->id,
				.step = call->step,
				.arm = arm,
				.arms = arg_text(t, call, "arms"),
				.how = base_str_of(how),
				.customer = call->customer,
				.labels = call->run->labels});
	base_buf_init(&b, 32 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mint(&w, "arm", arm);
	base_jw_mcstr(&w, "how", how);
	base_jw_key(&w, "value");
	base_jv_write(base_jv_at(arms, arm), &b);
	base_jw_end_obj(&w);
	/* One of what it was given: no text from outside comes in by it, but a private fact could be spelled out. */
	emit_brought(t, call, core_buf_to_arena(t->arena, &b), x ? x->labels & CORE_LABEL_PRIVATE : 0);
}

static void experiment_counts(struct core_turn *t, const struct core_call *call)
{
	const struct core_experiment *x = base_names_get(t->c->experiments, arg_str(call, "name"));
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, CORE_INLINE_MAX);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_key(&w, "arms");
	base_jw_arr(&w);
	for (uint32_t i = 0; x && i < x->arms; i++) {
		base_jw_obj(&w);
		base_jw_mint(&w, "n", (int64_t)x->arm[i].n);
		base_jw_mint(&w, "value", x->arm[i].value);
		base_jw_mint(&w, "wins", (int64_t)x->arm[i].wins);
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	emit_brought(t, call, core_buf_to_arena(t->arena, &b), x ? x->labels : 0);
}

static void outcome_record(struct core_turn *t, const struct core_call *call)
{
	struct base_str own = arg_str(call, "customer"), key = arg_str(call, "key");
	struct core_outcome_recorded ev = {.name = arg_str(call, "name"),
		.run = call->run->id,
		.by = core_word_text(call->run->as),
		.customer = own.len ? own : call->customer,
		.key = key,
		.labels = call->run->labels};
	struct base_err err;

	if (core_outcome_read(t->c, call->args, false, &ev, &err) < 0) {
		core_emit_called_failed(t, call, core_problem(t->arena, "invalid", "%s", err.text));
		return;
	}
	if (!is_dry(call) && !(key.len && base_names_get(t->c->outcome_keys, key)))
		core_outcome_recorded_emit(t->block, t->cmd->now_ms, &ev);
	core_emit_called_done(t, call, BASE_STR("null"));
}

static void log_write(struct core_turn *t, const struct core_call *call)
{
	core_run_logged_emit(t->block, t->cmd->now_ms,
		&(struct core_run_logged){.run = call->run->id,
			.level = arg_str(call, "level"),
			.text = arg_str(call, "text")});
	core_emit_called_done(t, call, BASE_STR("null"));
}

void core_decide_internal(struct core_turn *t, const struct core_call *call)
{
	static const internal_fn table[] = {
		[CORE_H_MEMORY_GET] = memory_get,
		[CORE_H_MEMORY_PUT] = memory_put,
		[CORE_H_MEMORY_LIST] = memory_list,
		[CORE_H_MEMORY_FORGET] = memory_forget,
		[CORE_H_MEMORY_DOCUMENT] = memory_document,
		[CORE_H_GATE_ASK] = gate_ask,
		[CORE_H_SLEEP] = sleep_until,
		[CORE_H_SIGNAL_WAIT] = signal_wait,
		[CORE_H_EVENT_PUBLISH] = core_event_publish,
		[CORE_H_EVENT_WAIT] = core_event_wait,
		[CORE_H_RUN_START] = run_child,
		[CORE_H_RUN_CALL] = run_child,
		[CORE_H_RUN_WAIT] = core_run_wait,
		[CORE_H_AGENT_RUN] = agent_run,
		[CORE_H_EXPERIMENT_CHOOSE] = experiment_choose,
		[CORE_H_EXPERIMENT_COUNTS] = experiment_counts,
		[CORE_H_OUTCOME] = outcome_record,
		[CORE_H_LOG] = log_write,
		[CORE_H_CHECKPOINT] = core_decide_checkpoint,
		[CORE_H_ROLLBACK] = core_decide_rollback_call,
		[CORE_H_AGAIN] = core_decide_again,
		[CORE_H_VERIFY] = core_verify,
	};

	table[call->action->handler](t, call);
}
