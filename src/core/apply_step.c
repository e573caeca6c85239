/* Steps into the state: the effect's state machine (see effects.c). */
#include <string.h>

#include "base/check.h"
#include "core/undo_int.h"

enum { BREAKER_FAILS = 5, BREAKER_OPEN_MS = 30000 };

/* Which statuses may follow which: bit per enum core_step_status. */
static const uint16_t may_follow[] = {
	[CORE_STEP_WAITING] = 1 << CORE_STEP_DONE | 1 << CORE_STEP_FAILED,
	[CORE_STEP_GATED] = 1 << CORE_STEP_SENT | 1 << CORE_STEP_HELD | 1 << CORE_STEP_FAILED |
			    1 << CORE_STEP_GATED | 1 << CORE_STEP_DOUBT,
	[CORE_STEP_HELD] = 1 << CORE_STEP_SENT | 1 << CORE_STEP_HELD | 1 << CORE_STEP_FAILED |
			   1 << CORE_STEP_GATED | 1 << CORE_STEP_DOUBT,
	[CORE_STEP_SENT] =
		1 << CORE_STEP_DONE | 1 << CORE_STEP_FAILED | 1 << CORE_STEP_HELD | 1 << CORE_STEP_DOUBT,
	[CORE_STEP_DOUBT] = 1 << CORE_STEP_DONE | 1 << CORE_STEP_FAILED | 1 << CORE_STEP_HELD,
	[CORE_STEP_DONE] = 0,
	[CORE_STEP_FAILED] = 0,
};

static void move(struct core *c, struct core_run *r, struct core_step *s, enum core_step_status to)
{
	BASE_CHECK(may_follow[s->status] & (1u << to));
	r->sent += to == CORE_STEP_SENT;
	r->sent -= s->status == CORE_STEP_SENT;
	s->status = (uint8_t)to;
	core_slot_update(c, r);
}

/* The connector, or the provider of a model call, whose slots and failures count. */
static struct core_connector *connector_of(struct core *c, const struct core_open *o)
{
	struct core_connector *k;
	struct base_json *doc;

	if (!o->action->model || o->effect->route.len == 0)
		return core_connector_of(c, o->action->connector);
	BASE_CHECK(base_json_parse(o->effect->route, &doc, NULL) == 0);
	k = core_connector_of(c, base_jv_str(base_jv_get(base_json_root(doc), "provider")));
	base_json_free(doc);
	return k;
}

static void take_slot(struct core_apply *a, const struct core_open *o)
{
	struct core_connector *k;
	int64_t now_us = a->time_ms * 1000;

	if (o->action->internal)
		return;
	k = connector_of(a->c, o);
	if (!k->interval_us)
		return;
	if (k->next_us < now_us)
		k->next_us = now_us;
	k->next_us += k->interval_us;
}

static void count_failure(struct core_apply *a, const struct core_open *o, bool failed)
{
	struct core_connector *k;

	if (o->action->internal)
		return;
	k = connector_of(a->c, o);
	k->fails = failed ? k->fails + 1 : 0;
	if (k->fails >= BREAKER_FAILS)
		k->open_until_ms = a->time_ms + BREAKER_OPEN_MS;
	else if (!failed)
		k->open_until_ms = 0;
}

static void dispatch(
	const struct core_apply *a, const struct core_open *o, uint64_t seq, const struct base_blob *args)
{
	struct core_act act = {.type = CORE_ACT_DISPATCH,
		.run = o->run,
		.step = o->step,
		.attempt = o->effect->attempt,
		.mode = o->effect->mode,
		.connector = o->action->connector,
		.action = o->action->name,
		.key = o->effect->key,
		.route = o->effect->route,
		.timeout_ms = o->action->timeout_ms,
		.seq = seq,
		.time_ms = a->time_ms};

	if (args && base_blob_is_inline(args))
		act.blob = *args;
	core_act(a, &act);
}

static void drop_signal(struct core *c, struct core_run *r, struct base_str name)
{
	if (!r->extra)
		return;
	for (struct core_signal **at = &r->extra->signals; *at; at = &(*at)->next) {
		struct core_signal *s = *at;

		if (!base_str_eq(s->name->text, name))
			continue;
		*at = s->next;
		core_word_drop(c, s->name);
		base_slab_release(c->slab, s, sizeof(*s));
		return;
	}
}

static struct base_str arg_name(struct core *c, const char *member, struct base_str args)
{
	struct base_str name = BASE_STR_NONE;
	struct base_json *doc;

	if (base_json_parse(args, &doc, NULL) < 0)
		return name;
	base_arena_reset(c->scratch);
	name = base_arena_dup(c->scratch, base_jv_str(base_jv_get(base_json_root(doc), member)));
	base_json_free(doc);
	return name;
}

static uint64_t waited_run(struct base_str args)
{
	struct base_json *doc;
	uint64_t run = 0;

	if (base_json_parse(args, &doc, NULL) == 0) {
		run = (uint64_t)base_jv_int(base_jv_get(base_json_root(doc), "run"), 0);
		base_json_free(doc);
	}
	return run;
}

void core_finish_step(
	struct core_apply *a, struct core_run *r, uint32_t step, bool ok, const struct base_blob *value)
{
	struct core_act act = {.type = CORE_ACT_RESULT,
		.run = r->id,
		.step = step,
		.ok = ok,
		.seq = a->seq,
		.time_ms = a->time_ms};

	r->rested = false;
	if (r->state == CORE_RUN_ENDED) {
		if (r->open == 0)
			core_run_retire(a, r);
		return;
	}
	if (r->state != CORE_RUN_ACTIVE || core_run_is_undo(r))
		return; /* it stands still: the journal has it when it goes on; an undo run is in no worker */
	if (base_blob_is_inline(value))
		act.blob = *value;
	core_act(a, &act);
}

static void fill_open(struct core *c, struct core_open *o, const struct core_action *action,
	const struct core_step_called *e)
{
	struct core_effect *x = o->effect;

	o->action = action;
	o->due_ms = e->due_ms;
	o->gate = e->gate;
	if (!x)
		return;
	x->approval = e->approval;
	x->key = base_slab_dup(c->slab, e->key);
	x->customer = base_slab_dup(c->slab, e->customer);
	x->route = base_slab_dup(c->slab, e->route);
	x->opts = base_slab_dup(c->slab, e->opts);
	x->args_hash = e->args_hash;
}

static void use_approval(struct core *c, uint64_t gate)
{
	struct core_gate *g = gate ? core_gate_find(c, gate) : NULL;

	if (g && g->left)
		g->left--;
}

static void note_key(struct core *c, const struct core_step_called *e)
{
	struct base_str head, tail;
	struct core_key *k;

	/* Keys that the run derives are unique; those that the flow chose ("mail.send:invoice-7") are
	 * remembered. */
	if (!base_str_cut(e->key, ':', &head, &tail) || base_names_get(c->effect_keys, e->key))
		return;
	k = core_key_new(c, e->run, e->args_hash.b);
	BASE_CHECK(base_names_put(c->effect_keys, e->key, k) == 0);
}

/* It certainly did not happen, or was given up: the flow may ask for it again under the same key. */
static void free_key(struct core *c, const struct core_open *o)
{
	struct core_key *k;

	if (!o->effect || !o->effect->key.len)
		return;
	k = base_names_remove(c->effect_keys, o->effect->key);
	base_slab_release(c->slab, k, sizeof(*k));
}

/* What takes back its steps may use this result. */
static void join_labels(struct core *c, struct core_run *r, uint8_t labels)
{
	const struct core_undo *u = labels ? core_undo_find(c, r->id) : NULL;
	struct core_run *undo = u && u->rollback ? core_run_find(c, u->rollback) : NULL;

	r->labels |= labels & CORE_LABELS_ALL;
	if (undo)
		undo->labels |= labels & CORE_LABELS_ALL;
}

/* What is written has the labels of who writes it, and keeps them. */
static void mark_file(struct core *c, const struct core_step_called *e)
{
	uintptr_t labels = (uintptr_t)base_names_get(c->file_labels, e->marks);

	if (e->marks.len)
		BASE_CHECK(base_names_put(c->file_labels, e->marks, (void *)(labels | e->labels)) == 0);
}

static void apply_called(struct core_apply *a, const struct core_step_called *e)
{
	struct core *c = a->c;
	struct core_run *r = core_run_find(c, e->run);
	const struct core_action *action = core_action_find(c, e->action);
	struct core_step *s;
	struct core_open *o;

	BASE_CHECK(
		r && e->step == r->steps && e->status >= CORE_STEP_WAITING && e->status <= CORE_STEP_FAILED);
	s = core_step_new(c, r);
	s->seq = a->seq;
	s->klass = e->klass;
	s->action = core_action_intern(c, e->action);
	memcpy(s->hash, e->args_hash.b, sizeof(s->hash));
	s->labels = e->brings;
	r->labels |= e->brings & CORE_LABELS_ALL;
	mark_file(c, e);
	use_approval(c, e->approval);
	if (e->key.len)
		note_key(c, e);
	if (e->status >= CORE_STEP_DONE) {
		s->status = e->status;
		s->seq_end = a->seq;
		if (action && action->handler == CORE_H_CHECKPOINT && e->status == CORE_STEP_DONE)
			core_undo_checkpoint(a, r, e->step, e->args.data);
		core_undo_called(a, r, e->step, e);
		if (action && action->handler == CORE_H_SIGNAL_WAIT)
			drop_signal(c, r, arg_name(c, "name", e->args.data));
		core_finish_step(a, r, e->step, e->status == CORE_STEP_DONE, &e->result);
		return;
	}
	BASE_CHECK(action); /* an open step is of a known action; the catalogue never loses one */
	o = core_open_add(c, r, e->step, e->status);
	fill_open(c, o, action, e);
	if (o->effect)
		core_counts_apply(a, o->effect, e->counts);
	core_undo_called(a, r, e->step, e);
	core_apply_doubtful(a, r, e->step);
	if (action->handler == CORE_H_RUN_WAIT)
		core_wait_add(c, o, waited_run(e->args.data), false);
	if (action->handler == CORE_H_SIGNAL_WAIT)
		o->signal = core_word_take(c, arg_name(c, "name", e->args.data));
	if (action->handler == CORE_H_EVENT_WAIT) {
		o->signal = core_word_take(c, arg_name(c, "topic", e->args.data));
		core_event_wait_add(c, r, o);
	}
	if (e->due_ms)
		core_timer_add(c, CORE_TIMER_STEP, r->id, e->step, e->due_ms);
	core_deadline_set(c, r, e->step, e->deadline_ms);
	if (e->status == CORE_STEP_HELD || e->status == CORE_STEP_SENT)
		take_slot(a, o);
	if (e->status == CORE_STEP_SENT) {
		o->effect->attempt = 1;
		o->effect->sent_ms = a->time_ms;
		s->attempt = 1;
		core_reserve(c, r, o, e->reserved);
		dispatch(a, o, a->seq, &e->args);
	}
}

static void apply_sent(
	struct core_apply *a, struct core_run *r, struct core_step *s, const struct core_step_sent *e)
{
	struct core_open *o = s->open;
	struct core_effect *x = o->effect;
	bool slot_taken = s->status == CORE_STEP_HELD;

	move(a->c, r, s, CORE_STEP_SENT);
	x->attempt = e->attempt;
	if (!x->sent_ms)
		x->sent_ms = a->time_ms;
	s->attempt = (uint8_t)(e->attempt < 255 ? e->attempt : 255);
	x->mode = e->mode;
	o->due_ms = 0;
	if (e->klass)
		s->klass = e->klass;
	if (e->route.len)
		core_set_str(a->c, &x->route, e->route);
	if (!slot_taken)
		take_slot(a, o);
	core_reserve(a->c, r, o, e->reserved);
	dispatch(a, o, s->seq, NULL);
}

static void apply_retry(
	struct core_apply *a, struct core_run *r, struct core_step *s, const struct core_step_retry *e)
{
	struct core_open *o = s->open;
	struct core_effect *x = o->effect;

	if (e->attempt) {
		if (e->blame)
			x->failures++;
		if (e->unknown)
			x->uncertain = true;
		if (e->blame == 1)
			count_failure(a, o, true);
		core_settle(a->c, r, o, e->cost);
		x->overrun = x->overrun > e->cost ? x->overrun - e->cost : 0;
	}
	move(a->c, r, s, CORE_STEP_HELD);
	core_gate_close(a, o->gate);
	o->gate = 0;
	core_deadline_passed(a, r, o->step);
	x->seq_retry = a->seq;
	x->mode = e->mode;
	o->due_ms = e->at_ms;
	take_slot(a, o);
	core_timer_add(a->c, CORE_TIMER_STEP, r->id, o->step, o->due_ms);
}

static void apply_end(struct core_apply *a, struct core_run *r, uint32_t step, bool ok,
	const struct base_blob *value, int64_t cost, uint8_t labels)
{
	struct core_step *s = &r->step[step];
	struct core_open *o = core_step_open(s);
	const struct core_action *action = o ? o->action : NULL;
	int64_t due_ms = o ? o->due_ms : 0;
	uint8_t to = ok ? CORE_STEP_DONE : CORE_STEP_FAILED;

	BASE_CHECK(o && may_follow[s->status] & (1u << to));
	/* That a flow does not wait any longer says nothing of the connector. */
	if (s->status == CORE_STEP_SENT && (ok || !core_is_overdue(r, step, a->time_ms)))
		count_failure(a, o, false);
	if (o->action->handler == CORE_H_SIGNAL_WAIT)
		drop_signal(a->c, r, core_word_text(o->signal));
	core_settle(a->c, r, o, cost);
	if (!ok)
		free_key(a->c, o);
	core_gate_close(a, o->gate);
	if (s->status == CORE_STEP_SENT)
		core_deadline_passed(a, r, step);
	s->labels = labels;
	join_labels(a->c, r, labels);
	core_open_drop(a->c, r, step, to, a->seq);
	core_undo_step_end(a, s, ok);
	core_apply_woke(a, r, s, action, due_ms);
	core_finish_step(a, r, step, ok, value);
}

void core_apply_step(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	struct base_blob problem;
	struct core_run *r;

	switch (type) {
	case CORE_EV_STEP_CALLED:
		apply_called(a, &e->step_called);
		return;
	case CORE_EV_STEP_TAKEN:
		core_apply_taken(a, &e->step_taken);
		return;
	case CORE_EV_STEP_SENT:
		r = core_run_find(a->c, e->step_sent.run);
		apply_sent(a, r, core_step_find(r, e->step_sent.step), &e->step_sent);
		return;
	case CORE_EV_STEP_RETRY:
		r = core_run_find(a->c, e->step_retry.run);
		apply_retry(a, r, core_step_find(r, e->step_retry.step), &e->step_retry);
		return;
	case CORE_EV_STEP_DOUBT:
		r = core_run_find(a->c, e->step_doubt.run);
		move(a->c, r, core_step_find(r, e->step_doubt.step), CORE_STEP_DOUBT);
		core_gate_close(a, core_step_find(r, e->step_doubt.step)->open->gate);
		core_step_find(r, e->step_doubt.step)->open->gate = e->step_doubt.gate;
		core_deadline_passed(a, r, e->step_doubt.step);
		return;
	case CORE_EV_STEP_DONE:
		r = core_run_find(a->c, e->step_done.run);
		apply_end(a, r, e->step_done.step, true, &e->step_done.result, e->step_done.cost,
			e->step_done.labels);
		return;
	default:
		problem = base_blob_of(e->step_failed.problem);
		r = core_run_find(a->c, e->step_failed.run);
		if (e->step_failed.sure)
			core_counts_release(
				a->c, core_step_open(core_step_find(r, e->step_failed.step))->effect);
		apply_end(a, r, e->step_failed.step, false, &problem, e->step_failed.cost,
			e->step_failed.labels);
		return;
	}
}
