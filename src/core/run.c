/*
 * The memory of a run. A million of them may sleep, so what every run has stands in struct core_run, what few
 * have behind `extra`, what an open step of every kind has in struct core_open, and what only effects have
 * behind `effect`. tests/core holds the sizes.
 */
#include <string.h>

#include "base/check.h"
#include "core/undo_int.h"

/* --- words --- */

struct core_word *core_word_take(struct core *c, struct base_str text)
{
	struct core_word *w;

	if (text.len == 0)
		return NULL;
	w = base_names_get(c->words, text);
	if (!w) {
		w = base_slab_alloc(c->slab, sizeof(*w));
		w->text = base_slab_dup(c->slab, text);
		BASE_CHECK(base_names_put(c->words, text, w) == 0);
	}
	w->refs++;
	return w;
}

void core_word_drop(struct core *c, struct core_word *w)
{
	if (!w || --w->refs > 0)
		return;
	BASE_CHECK(base_names_remove(c->words, w->text) == w);
	base_slab_str_release(c->slab, w->text);
	base_slab_release(c->slab, w, sizeof(*w));
}

struct base_str core_word_text(const struct core_word *w)
{
	return w ? w->text : BASE_STR_NONE;
}

/* --- keys --- */

struct core_key *core_key_new(struct core *c, uint64_t run, const uint8_t *input)
{
	struct core_key *k = base_slab_alloc(c->slab, sizeof(*k));

	k->run = run;
	memcpy(k->input, input, sizeof(k->input));
	return k;
}

bool core_key_is(const struct core_key *k, const struct base_hash *input)
{
	return memcmp(k->input, input->b, sizeof(k->input)) == 0;
}

/* --- runs --- */

const struct core_run_extra *core_run_extra(const struct core_run *r)
{
	static const struct core_run_extra none;

	return r->extra ? r->extra : &none;
}

struct core_run_extra *core_run_extend(struct core *c, struct core_run *r)
{
	if (!r->extra)
		r->extra = base_slab_alloc(c->slab, sizeof(*r->extra));
	return r->extra;
}

struct core_flow *core_run_payer(const struct core_run *r)
{
	return r->flow ? r->flow : core_run_extra(r)->payer;
}

struct base_str core_run_flow_name(const struct core_run *r)
{
	if (r && (r->flags & CORE_RUN_UNDO))
		return BASE_STR("aios:undo");
	return r && r->flow ? r->flow->name : BASE_STR("aios:agent");
}

struct core_run *core_run_parent(const struct core *c, const struct core_run *r)
{
	uint64_t parent = core_run_extra(r)->parent;

	return parent ? core_run_find(c, parent) : NULL;
}

static void free_extra(struct core *c, struct core_run_extra *x)
{
	if (!x)
		return;
	while (x->signals) {
		struct core_signal *s = x->signals;

		x->signals = s->next;
		core_word_drop(c, s->name);
		base_slab_release(c->slab, s, sizeof(*s));
	}
	core_word_drop(c, x->agent);
	base_slab_str_release(c->slab, x->customer);
	base_slab_release(c->slab, x, sizeof(*x));
}

void core_run_forget(struct core *c, struct core_run *r)
{
	BASE_CHECK(r->open == 0 && r->state == CORE_RUN_ENDED);
	core_word_drop(c, r->as);
	core_word_drop(c, r->by);
	core_word_drop(c, r->origin);
	core_limits_drop(c, r->limits);
	core_deadlines_free(c, r);
	core_undo_forget(c, r->id);
	free_extra(c, r->extra);
	core_crashes_forget(c, r->id);
	base_slab_release(c->slab, r->step, r->steps_cap * sizeof(*r->step));
	base_idmap_remove(c->runs, r->id);
	base_slab_release(c->slab, r, sizeof(*r));
}

/* --- steps --- */

struct core_step *core_step_find(const struct core_run *r, uint32_t step)
{
	return r && step < r->steps ? &r->step[step] : NULL;
}

/* Most runs that sleep have few steps: their array grows by one, a long one by half. */
struct core_step *core_step_new(struct core *c, struct core_run *r)
{
	if (r->steps == r->steps_cap) {
		uint32_t cap = r->steps_cap + 1 + (r->steps_cap < 4 ? 0 : r->steps_cap / 2);

		r->step = base_slab_grow(c->slab, r->step, r->steps_cap, cap, sizeof(*r->step));
		r->steps_cap = cap;
	}
	return &r->step[r->steps++];
}

struct core_open *core_step_open(const struct core_step *s)
{
	return s && s->status < CORE_STEP_DONE ? s->open : NULL;
}

uint64_t core_step_end(const struct core_step *s)
{
	return s->status < CORE_STEP_DONE ? 0 : s->seq_end;
}

struct core_open *core_open_before(const struct core_run *r, uint32_t *i)
{
	while (*i > 0) {
		struct core_open *o = core_step_open(&r->step[--*i]);

		if (o)
			return o;
	}
	return NULL;
}

struct core_open *core_open_add(struct core *c, struct core_run *r, uint32_t step, uint8_t status)
{
	struct core_open *o = base_slab_alloc(c->slab, sizeof(*o));
	struct core_effect *x;

	BASE_CHECK(status < CORE_STEP_DONE);
	o->run = r->id;
	o->step = step;
	r->step[step].status = status;
	r->step[step].open = o;
	r->open++;
	r->sent += status == CORE_STEP_SENT;
	core_slot_update(c, r);
	if (status == CORE_STEP_WAITING)
		return o;
	x = base_slab_alloc(c->slab, sizeof(*x));
	o->effect = x;
	x->open = o;
	x->prev = c->effect_last;
	if (x->prev)
		x->prev->next = x;
	else
		c->effect_first = x;
	c->effect_last = x;
	return o;
}

static void free_effect(struct core *c, struct core_effect *x)
{
	if (x->prev)
		x->prev->next = x->next;
	else
		c->effect_first = x->next;
	if (x->next)
		x->next->prev = x->prev;
	else
		c->effect_last = x->prev;
	base_slab_str_release(c->slab, x->key);
	base_slab_str_release(c->slab, x->customer);
	base_slab_str_release(c->slab, x->route);
	base_slab_str_release(c->slab, x->opts);
	base_slab_str_release(c->slab, x->counts);
	base_slab_release(c->slab, x, sizeof(*x));
}

void core_open_drop(struct core *c, struct core_run *r, uint32_t step, uint8_t status, uint64_t seq)
{
	struct core_open *o = core_step_open(&r->step[step]);

	BASE_CHECK(o && r->open > 0 && status >= CORE_STEP_DONE && seq > 0);
	if (o->effect) {
		core_settle(c, r, o, 0);
		free_effect(c, o->effect);
	}
	core_deadline_drop(c, r, step);
	if (o->action && o->action->handler == CORE_H_EVENT_WAIT)
		core_event_wait_drop(c, r, o);
	core_word_drop(c, o->signal);
	core_wait_drop(c, o);
	base_slab_release(c->slab, o, sizeof(*o));
	r->sent -= r->step[step].status == CORE_STEP_SENT;
	r->step[step].status = status;
	r->step[step].seq_end = seq;
	r->open--;
	core_slot_update(c, r);
}
