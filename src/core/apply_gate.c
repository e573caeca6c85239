/* Gates into the state. */
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

static void apply_opened(struct core_apply *a, const struct core_gate_opened *e)
{
	struct core *c = a->c;
	struct core_gate *g = base_slab_alloc(c->slab, sizeof(*g));
	struct core_run *r = core_run_find(c, e->run);
	struct core_step *s = core_step_find(r, e->step);

	BASE_CHECK((r || !e->run) && e->gate >= c->next_gate);
	c->next_gate = e->gate + 1;
	g->id = e->gate;
	g->run = e->run;
	g->step = e->step;
	g->seq = a->seq;
	g->kind = base_slab_dup(c->slab, e->kind);
	g->title = base_slab_dup(c->slab, e->title);
	g->rule = base_slab_dup(c->slab, e->rule);
	g->on_expiry = base_slab_dup(c->slab, e->on_expiry);
	g->allows = base_slab_dup(c->slab, e->allows);
	g->shown = e->shown;
	g->opened_ms = a->time_ms;
	g->expires_ms = e->expires_ms;
	g->cost = e->cost;
	g->edit = e->edit != 0;
	g->terms_text = base_slab_dup(c->slab, e->terms);
	g->terms = core_terms_of(c, e->terms);
	g->sources = base_slab_dup(c->slab, e->sources);
	g->labels = e->labels;
	BASE_CHECK(base_idmap_put(c->gates, g->id, g) == 0);
	if (r)
		r->has_gates = true;
	core_lock_opened(c, g);
	if (core_step_open(s)) {
		s->open->gate = g->id;
		if (s->status ==
			CORE_STEP_HELD) { /* budget, or attempts used up: held by a person, not by time */
			s->status = CORE_STEP_GATED;
			s->open->due_ms = 0;
		}
	} else if (r) {
		core_run_extend(c, r)->park_gate = g->id;
	}
	core_gate_tell(a, g, "opened");
	core_act(a,
		&(struct core_act){
			.type = CORE_ACT_GATE, .id = g->id, .run = g->run, .step = g->step, .seq = a->seq});
}

/* What an approval lets through: the action, how often, and the values that its arguments may have. */
static void set_allowance(struct core *c, struct core_gate *g, struct base_str fixed)
{
	struct base_json *doc;

	if (g->allows.len == 0 || base_json_parse(g->allows, &doc, NULL) < 0)
		return;
	g->action = base_slab_dup(c->slab, base_jv_str(base_jv_get(base_json_root(doc), "action")));
	g->left = (uint64_t)base_jv_int(base_jv_get(base_json_root(doc), "count"), 0);
	g->fixed = base_slab_dup(c->slab, fixed);
	base_json_free(doc);
}

/* The held effect goes on: it is due now, and its timer releases it through the same checks as any other. */
static void release_held(
	struct core_apply *a, const struct core_gate *g, struct core_run *r, struct core_step *s)
{
	struct core_effect *x = s->open->effect;

	s->status = CORE_STEP_HELD;
	s->open->gate = 0;
	s->open->due_ms = a->time_ms;
	if (base_str_is(g->kind, "policy"))
		x->cleared = true;
	if (base_str_is(g->kind, "budget"))
		x->overrun = g->cost;
	if (base_str_is(g->kind, "retry"))
		x->failures = 0;
	/* A person let it go after its time limit: none counts any more. */
	if (core_is_overdue(r, g->step, a->time_ms) &&
		(base_str_is(g->kind, "doubt") || base_str_is(g->kind, "retry")))
		core_deadline_drop(a->c, r, g->step);
	core_deadline_again(a->c, r, g->step);
	if (base_str_is(g->kind, "doubt")) { /* a person has looked: it did not happen */
		x->mode = 0;
		x->uncertain = false;
		x->sent_ms = 0;
	}
	core_timer_add(a->c, CORE_TIMER_STEP, r->id, g->step, a->time_ms);
}

static void apply_decided(struct core_apply *a, const struct core_gate_decided *e)
{
	struct core *c = a->c;
	struct core_gate *g = core_gate_find(c, e->gate);
	struct core_run *r = g ? core_run_find(c, g->run) : NULL;
	struct core_step *s = g ? core_step_find(r, g->step) : NULL;
	bool yes = base_str_is(e->answer, "approve") || base_str_is(e->answer, "edit") ||
		   base_str_is(e->answer, "send");

	BASE_CHECK(g && !g->decided);
	g->decided = true;
	if (s && base_str_is(g->kind, "policy") && !base_str_is(e->by, "time"))
		core_precedent_add(c, g, c->action_names[s->action], core_word_text(r->as),
			base_str_is(e->answer, "approve"));
	core_act(a,
		&(struct core_act){.type = CORE_ACT_GATE_CLOSED, .id = g->id, .run = g->run, .seq = a->seq});
	if (base_str_is(g->kind, "approve")) {
		/* Time may let the flow go on; only somebody can approve calls to come. */
		if (yes && !base_str_is(e->answer, "send") && !base_str_is(e->by, "time"))
			set_allowance(c, g, e->fixed);
		if (g->left)
			return; /* stays for the calls to come, until the run ends */
	} else if (yes && core_step_open(s) && s->status != CORE_STEP_WAITING) {
		release_held(a, g, r, s);
	}
	if (r && core_run_extra(r)->park_gate == g->id)
		return; /* run_resumed or run_ended follows and closes it */
	core_gate_forget(c, g);
}

void core_gate_close(struct core_apply *a, uint64_t gate)
{
	struct core_gate *g = gate ? core_gate_find(a->c, gate) : NULL;

	if (!g || g->decided)
		return;
	core_act(a,
		&(struct core_act){.type = CORE_ACT_GATE_CLOSED, .id = g->id, .run = g->run, .seq = a->seq});
	core_gate_forget(a->c, g);
}

void core_apply_gate(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	switch (type) {
	case CORE_EV_GATE_OPENED:
		apply_opened(a, &e->gate_opened);
		break;
	case CORE_EV_GATE_DECIDED:
		apply_decided(a, &e->gate_decided);
		break;
	case CORE_EV_RULE_PROPOSED:
	case CORE_EV_PROPOSAL_CLOSED:
		core_apply_proposal(a, type, e);
		break;
	case CORE_EV_GATE_ANNOUNCED:
	case CORE_EV_GATE_REPORTED:
		core_apply_telling(a, type, e);
		break;
	default:
		core_apply_voting(a, type, e);
		break;
	}
}
