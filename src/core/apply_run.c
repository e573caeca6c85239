/* Runs and signals into the state. */
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "core/undo_int.h"

static void set_key(struct core *c, struct core_run *r, const struct core_run_started *e)
{
	struct base_hash stands_for;
	void *value;

	if (e->key.len == 0 || e->previous)
		return;
	stands_for = core_fork_hash(&e->input_hash, e->forked_from, e->forked_steps, &e->version);
	r->key = core_key_new(c, e->run, stands_for.b);
	BASE_CHECK(base_names_put(c->keys, e->key, r->key) == 0 &&
		   base_names_seek(c->keys, e->key, true, &r->key->name, &value));
}

/* What the agent's own file lets one run of it cost: an amount, or {"run": amount}. -1: it does not say. */
static int64_t agent_budget(const struct core *c, struct base_str name)
{
	const struct core_agent *agent = base_names_get(c->agents, name);
	struct base_json *doc;
	int64_t nusd = -1;
	struct base_jv v;

	if (!agent || base_json_parse(agent->definition, &doc, NULL) < 0)
		return -1;
	v = base_jv_get(base_json_root(doc), "budget");
	if (base_jv_kind(v) == BASE_JSON_OBJ)
		v = base_jv_get(v, "run");
	if (base_jv_kind(v) != BASE_JSON_STR || base_money_parse(base_jv_str(v), &nusd, NULL) < 0)
		nusd = -1;
	base_json_free(doc);
	return nusd;
}

static int64_t budget_of(const struct core *c, const struct core_run *r)
{
	struct base_str agent = core_word_text(core_run_extra(r)->agent);
	int64_t own = agent.len ? agent_budget(c, agent) : -1;

	if (own >= 0)
		return own;
	if (r->version && r->version->budget_run >= 0)
		return r->version->budget_run;
	return c->budget_run;
}

static void set_extra(
	struct core *c, struct core_run *r, const struct core_run *parent, const struct core_run_started *e)
{
	struct core_run_extra *x;

	if (!e->parent && !e->customer.len && !e->agent.len && !e->event_depth && !e->shed)
		return;
	x = core_run_extend(c, r);
	x->parent = e->parent;
	x->parent_step = e->parent_step;
	x->event_depth = e->event_depth;
	x->shed = e->shed;
	x->payer = !r->flow && parent ? core_run_payer(parent) : NULL;
	x->customer = base_slab_dup(c->slab, e->customer);
	x->agent = core_word_take(c, e->agent);
}

/* A fork has the chances of the run that it comes from, but no key of it. */
static struct base_hash salt_of(const struct core_run_started *e)
{
	struct base_hash h = base_hash_of(e->seed), zero = {.b = {0}};

	return core_fork_hash(&h, e->forked_from ? e->run : 0, 0, &zero);
}

static void apply_started(struct core_apply *a, const struct core_run_started *e)
{
	struct core *c = a->c;
	struct core_run *r = base_slab_alloc(c->slab, sizeof(*r));
	struct base_str version = {(const char *)e->version.b, sizeof(e->version.b)};
	const struct core_run *parent = core_run_find(c, e->parent);
	struct core_step *waiting = core_step_find(parent, e->parent_step);
	struct base_hash salt = salt_of(e);

	BASE_CHECK(e->run >= c->next_run);
	c->next_run = e->run + 1;
	r->id = e->run;
	r->state = CORE_RUN_ACTIVE;
	r->flags = e->flags;
	r->flow = base_names_get(c->flows, e->flow);
	r->version = r->flow ? base_names_get(c->versions, version) : NULL;
	r->seq_started = a->seq;
	r->started_ms = a->time_ms;
	memcpy(r->salt, salt.b, sizeof(r->salt));
	r->as = core_word_take(c, e->as);
	r->by = core_word_take(c, e->by);
	r->origin = core_word_take(c, e->origin.len ? e->origin : e->by);
	r->labels = e->labels & 7;
	set_extra(c, r, parent, e);
	r->budget = budget_of(c, r);
	r->limits = core_limits_take(c, e->grants);
	set_key(c, r, e);
	if (e->previous)
		core_generation_started(a, r, e);
	core_deadline_set(c, r, UINT32_MAX, e->deadline_ms);
	BASE_CHECK(base_idmap_put(c->runs, r->id, r) == 0);
	if (core_step_open(waiting))
		waiting->open->child = r->id;
	if (e->forked_from)
		core_undo_inherit(a, r, e->forked_from);
	core_admit_started(a, r, e);
	if (core_run_is_undo(r)) { /* the core goes through it itself */
		r->labels = parent ? parent->labels : 0;
		r->budget = -1; /* it falls under that of its parent */
	} else if (r->state == CORE_RUN_ACTIVE) {
		core_act(a, &(struct core_act){.type = CORE_ACT_RUN_LOAD, .run = r->id});
	}
}

/* Gates of steps that are gone go with them. */
static void close_gates(struct core_apply *a, struct core_run *r, bool all)
{
	struct core *c = a->c;
	size_t cursor = 0;
	uint64_t id, gone[64];
	size_t count;
	void *value;

	do {
		count = 0;
		cursor = 0;
		while (count < 64 && base_idmap_next(c->gates, &cursor, &id, &value)) {
			const struct core_gate *g = value;
			const struct core_step *s = core_step_find(r, g->step);

			if (g->run == r->id && (all || !(core_step_open(s) || g->decided)))
				gone[count++] = id;
		}
		for (size_t i = 0; i < count; i++) {
			struct core_gate *g = core_gate_find(c, gone[i]);

			if (!g->decided)
				core_act(a, &(struct core_act){
						    .type = CORE_ACT_GATE_CLOSED, .id = g->id, .run = r->id});
			core_gate_forget(c, g);
		}
	} while (count == 64);
}

void core_run_retire(struct core_apply *a, struct core_run *r)
{
	if (r->has_gates)
		close_gates(a, r, r->open == 0);
	if (r->open == 0)
		core_run_forget(a->c, r);
}

void core_run_close_gates(struct core_apply *a, struct core_run *r)
{
	if (r->has_gates)
		close_gates(a, r, false);
	if (r->extra && r->state != CORE_RUN_PARKED && r->state != CORE_RUN_PAUSED)
		r->extra->park_gate = r->extra->seq_stand = 0;
}

/* What may have happened and can be asked for, or has an undo, stays until somebody knows. */
static bool is_dropped(const struct core *c, const struct core_run *r, const struct core_step *s, bool stop)
{
	const struct core_open *o = core_step_open(s);
	bool kept;

	if (!o || s->status == CORE_STEP_WAITING)
		return o != NULL;
	kept = o->effect->uncertain &&
	       (core_undo_counts(c, r, s) || (s->klass == CORE_LOOKUP && s->status == CORE_STEP_HELD));
	return stop && !kept && (s->status == CORE_STEP_GATED || s->status == CORE_STEP_HELD);
}

void core_run_drop_steps(struct core_apply *a, struct core_run *r, bool stop)
{
	for (uint32_t i = 0; i < r->steps && r->open; i++) {
		if (!is_dropped(a->c, r, &r->step[i], stop))
			continue;
		if (r->step[i].open->effect && !r->step[i].open->effect->uncertain)
			core_counts_release(a->c, r->step[i].open->effect);
		core_open_drop(a->c, r, i, CORE_STEP_FAILED, a->seq);
		core_undo_step_end(a, &r->step[i], false);
	}
}

static void apply_ended(struct core_apply *a, const struct core_run_ended *e)
{
	struct core_run *r = core_run_find(a->c, e->run);
	bool stop = e->outcome == CORE_CANCELLED || e->stop;
	struct core_run_extra *x;

	BASE_CHECK(r && r->state != CORE_RUN_ENDED);
	core_run_drop_steps(a, r, stop);
	r->state = CORE_RUN_ENDED;
	if (stop)
		r->flags |= CORE_RUN_STOPPED;
	core_deadline_drop(a->c, r, UINT32_MAX);
	core_apply_let_go(a, r);
	core_undo_ended(a, r);
	if (r->open) { /* it stays until they are settled */
		x = core_run_extend(a->c, r);
		x->outcome = e->outcome;
		x->seq_ended = a->seq;
	}
	if (r->extra)
		r->extra->park_gate = r->extra->seq_stand = 0;
	if (r->key)
		r->key->ended = true;
	core_ended_put(a->c, r->id, a->seq, r->key);
	core_admit_ended(a->c, r);
	core_schedule_run_ended(a->c, e->run, e->outcome, e->next);
	core_wait_ended(a->c, r->id);
	core_act(a, &(struct core_act){.type = CORE_ACT_RUN_DROP, .run = r->id});
	core_act(a, &(struct core_act){.type = CORE_ACT_RUN_ENDED,
			    .run = r->id,
			    .id = e->next,
			    .outcome = e->outcome,
			    .ok = e->outcome == CORE_DONE,
			    .blob = e->value,
			    .seq = a->seq,
			    .time_ms = a->time_ms});
	core_run_retire(a, r);
}

static void apply_signal(struct core_apply *a, const struct core_signal_sent *e)
{
	struct core_run *r = core_run_find(a->c, e->run);
	struct core_signal *s = base_slab_alloc(a->c->slab, sizeof(*s)),
			   **at = &core_run_extend(a->c, r)->signals;

	s->name = core_word_take(a->c, e->name);
	s->seq = a->seq;
	while (*at)
		at = &(*at)->next;
	*at = s;
	if (e->key.len)
		BASE_CHECK(
			base_names_put(a->c->outcome_keys, e->key, (void *)core_signal_fingerprint(e)) == 0);
}

void core_apply_run(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	struct core_run *r;

	switch (type) {
	case CORE_EV_RUN_STARTED:
		apply_started(a, &e->run_started);
		break;
	case CORE_EV_RUN_ENDED:
		apply_ended(a, &e->run_ended);
		break;
	case CORE_EV_RUN_PARKED:
		r = core_run_find(a->c, e->run_parked.run);
		BASE_CHECK(r && r->state == CORE_RUN_ACTIVE);
		core_apply_crash(a, &e->run_parked);
		r->state = CORE_RUN_PARKED;
		if (base_str_is(e->run_parked.why, "restored"))
			r->flags |= CORE_RUN_HELD;
		core_run_extend(a->c, r)->seq_stand = a->seq;
		core_slot_update(a->c, r);
		core_undo_sleep(a, r);
		core_act(a, &(struct core_act){.type = CORE_ACT_RUN_DROP, .run = r->id});
		break;
	case CORE_EV_RUN_PAUSED:
		r = core_run_find(a->c, e->run_paused.run);
		BASE_CHECK(r && r->state == CORE_RUN_ACTIVE);
		r->state = CORE_RUN_PAUSED;
		core_run_extend(a->c, r)->seq_stand = a->seq;
		core_slot_update(a->c, r);
		core_undo_sleep(a, r);
		core_act(a, &(struct core_act){.type = CORE_ACT_RUN_DROP, .run = r->id});
		break;
	case CORE_EV_RUN_ADMITTED:
		core_admit_admitted(a, core_run_find(a->c, e->run_admitted.run));
		break;
	case CORE_EV_RUN_FORGOTTEN:
		core_ended_drop(a->c, e->run_forgotten.run);
		break;
	case CORE_EV_RUN_RESUMED:
		r = core_run_find(a->c, e->run_resumed.run);
		BASE_CHECK(r && (r->state == CORE_RUN_PARKED || r->state == CORE_RUN_PAUSED));
		r->state = CORE_RUN_ACTIVE;
		r->rested = false;
		core_slot_update(a->c, r);
		core_apply_let_go(a, r);
		if (r->extra)
			r->extra->park_gate = r->extra->seq_stand = 0;
		if (!base_str_is(e->run_resumed.by, CORE_BY_AIOS))
			core_crashes_forget(a->c, r->id);
		if (r->has_gates)
			close_gates(a, r, false);
		core_undo_wake(a, r);
		if (!core_run_is_undo(r))
			core_act(a, &(struct core_act){.type = CORE_ACT_RUN_LOAD, .run = r->id});
		break;
	case CORE_EV_RUNS_RESTED:
		core_apply_rested(a, &e->runs_rested);
		break;
	case CORE_EV_RUN_MOVED:
		core_apply_moved(a, &e->run_moved);
		break;
	default:
		apply_signal(a, &e->signal_sent);
		break;
	}
}
