/*
 * Time limits of steps and runs.
 *
 * Invariants:
 *  D1  A run that has not ended and has a limit, and each open step with a limit that is not passed, has a timer at it.
 *  D2  Behind its limit a step is never sent again; what was sent before is settled by its class, and is never said to
 *      have failed when it may have happened and can be asked for or must be asked about.
 *  D3  A limit goes with its step.
 */
#include "base/check.h"
#include "base/money.h"
#include "core/core_int.h"

enum { DEADLINE_MAX_DAYS = 36500, SWEEP_MIN = 4096 };

int64_t core_duration_member(struct base_jv object, const char *name)
{
	const int64_t max = (int64_t)DEADLINE_MAX_DAYS * 86400000;
	struct base_jv v = base_jv_get(object, name);
	int64_t ms = base_jv_int(v, 0);

	if (base_jv_kind(v) == BASE_JSON_STR && base_duration_parse(base_jv_str(v), &ms, NULL) < 0)
		ms = 0;
	return ms < 0 ? 0 : ms > max ? max : ms;
}

/* --- the state --- */

struct core_deadline *core_deadline_of(const struct core_run *r, uint32_t step)
{
	struct core_deadline *d = core_run_extra(r)->deadlines;

	while (d && d->step != step)
		d = d->next;
	return d;
}

void core_deadline_set(struct core *c, struct core_run *r, uint32_t step, int64_t when)
{
	struct core_deadline **at, *d;

	if (!when)
		return;
	at = &core_run_extend(c, r)->deadlines;
	while (*at && (*at)->step < step) /* in order, so that equal states give equal snapshots */
		at = &(*at)->next;
	d = base_slab_alloc(c->slab, sizeof(*d));
	d->next = *at;
	d->when_ms = when;
	d->step = step;
	*at = d;
	core_timer_add(c, CORE_TIMER_DEADLINE, r->id, step, when);
}

void core_deadline_again(struct core *c, const struct core_run *r, uint32_t step)
{
	const struct core_deadline *d = core_deadline_of(r, step);

	if (d && !d->passed)
		core_timer_add(c, CORE_TIMER_DEADLINE, r->id, step, d->when_ms);
}

static bool still_counts(void *userdata, const struct base_heap_item *t)
{
	return t->kind != CORE_TIMER_DEADLINE || core_deadline_is_live(userdata, t);
}

/* Most runs and steps end long before their limit: their timers are not kept until then. */
static void sweep(struct core *c)
{
	if (++c->deadlines_gone < SWEEP_MIN || c->deadlines_gone < base_heap_count(c->timers) / 2)
		return;
	base_heap_filter(c->timers, still_counts, c);
	c->deadlines_gone = 0;
}

void core_deadline_drop(struct core *c, struct core_run *r, uint32_t step)
{
	if (!r->extra)
		return;
	for (struct core_deadline **at = &r->extra->deadlines; *at; at = &(*at)->next) {
		struct core_deadline *d = *at;

		if (d->step != step)
			continue;
		*at = d->next;
		base_slab_release(c->slab, d, sizeof(*d));
		sweep(c);
		return;
	}
}

void core_deadlines_free(struct core *c, struct core_run *r)
{
	while (core_run_extra(r)->deadlines)
		core_deadline_drop(c, r, r->extra->deadlines->step);
}

bool core_deadline_is_live(const struct core *c, const struct base_heap_item *t)
{
	const struct core_run *r = core_run_find(c, t->id);
	const struct core_deadline *d = r ? core_deadline_of(r, t->sub) : NULL;
	const struct core_step *s = core_step_find(r, t->sub);

	if (!d || d->when_ms != t->when || d->passed || core_is_held(r))
		return false;
	if (t->sub == UINT32_MAX)
		return r->state != CORE_RUN_ENDED;
	return core_step_open(s) && s->status != CORE_STEP_DOUBT;
}

bool core_is_overdue(const struct core_run *r, uint32_t step, int64_t now_ms)
{
	const struct core_deadline *d = core_deadline_of(r, step);

	return d && (d->passed || d->when_ms <= now_ms);
}

void core_deadline_passed(struct core_apply *a, struct core_run *r, uint32_t step)
{
	struct core_deadline *d = core_deadline_of(r, step);

	if (!d || d->passed || d->when_ms > a->time_ms)
		return;
	d->passed = true;
	core_act(a, &(struct core_act){.type = CORE_ACT_CANCEL, .run = r->id, .step = step});
}

/* --- the decision --- */

static void end_step(struct core_turn *t, struct core_run *r, uint32_t step)
{
	const struct core_step *s = &r->step[step];
	const struct core_run *child = core_open_child(t->c, s->open);
	struct base_str problem = core_problem(t->arena, "timeout", "%.*s did not end within its time limit",
		BASE_STR_ARG(s->open->action->name));

	if (s->status != CORE_STEP_WAITING)
		core_settle_overdue(t, r, step, problem);
	else if (child && child->state != CORE_RUN_ENDED) /* with the child ends the step that waits for it */
		core_end_tree(t, child, CORE_FAILED, problem);
	else
		core_emit_step_failed(t, r->id, step, problem, 0);
}

void core_decide_deadline(struct core_turn *t, const struct base_heap_item *item)
{
	struct core_run *r = core_run_find(t->c, item->id);

	if (item->sub != UINT32_MAX) {
		end_step(t, r, item->sub);
		return;
	}
	core_end_tree(t, r, CORE_FAILED,
		core_problem(t->arena, "timeout", "the run did not end within its time limit"));
}
