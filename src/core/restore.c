/*
 * A log that was restored from a backup does not know what ran after the backup was made: the lost time.
 *
 * Invariants
 *
 * O1 What may have gone on in the lost time is held until a person lets it go on: every open run but one that only
 * sleeps, until after the restore; one that waits for its turn, when that comes; a schedule that was due is paused. A held run runs in no worker, none of its timers fires, none of its gates expires.
 *
 * O2 A run that was open at the restore (CORE_RUN_RESTORED), those that it starts and its forks may ask again
 * for what was done in the lost time. None of their effects leaves on trust: `read` is asked again, `idempotent` is sent with the key that it
 * had then, `lookup` asks the outside first, `once` is in doubt.
 *
 * O3 A run that was started after the restore by such a run (CORE_RUN_STRAY) has other keys than the one that it stands
 * for: unless the flow chose the key, all that is not read is in doubt.
 *
 * O4 That ends for a run when all of it has waited for a sleep that cannot have ended in the lost time: one that the log
 * knew before and that ends after the restore, or one that was asked for since and is longer than the lost time. A
 * shorter one may have been slept then too, and what is behind it may have been done.
 */
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

/* OUTLASTS: the attempt of a sleep, which has none else, that cannot have ended in the lost time (O4). */
enum { SHOWN_STEPS = 50, OUTLASTS = 1 };

static bool sleeps_on(const struct core_open *o, int64_t now_ms)
{
	return o->action->handler == CORE_H_SLEEP && o->due_ms > now_ms;
}

/* O1 */
static bool may_have_gone_on(const struct core_run *r, int64_t now_ms)
{
	const struct core_open *o;
	uint32_t i = r->steps;

	/* One that waits for its turn is held when that comes; one that is being undone, by the run that does it. */
	if (r->state == CORE_RUN_ENDED || r->state == CORE_RUN_QUEUED || r->state == CORE_RUN_UNDOING)
		return false;
	if (r->state != CORE_RUN_ACTIVE || r->open == 0)
		return true;
	while ((o = core_open_before(r, &i)))
		if (!sleeps_on(o, now_ms))
			return true;
	return false;
}

static const char *status_word(unsigned status)
{
	static const char *const words[] = {[CORE_STEP_WAITING] = "waits",
		[CORE_STEP_GATED] = "was held by a gate",
		[CORE_STEP_HELD] = "was about to be sent",
		[CORE_STEP_SENT] = "was sent",
		[CORE_STEP_DOUBT] = "was in doubt"};

	return status < sizeof(words) / sizeof(words[0]) && words[status] ? words[status] : "";
}

/* What the gate of a held run shows. */
static struct base_str concerned(struct core_turn *t, const struct core_run *r)
{
	const struct core_open *o;
	uint32_t i = r->steps, n = 0;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, CORE_INLINE_MAX);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "why",
		"restored from a backup: what this run did after it was made is not known here. Look outside "
		"before you "
		"let it go on");
	base_jw_mint(&w, "lost_from_ms", t->c->time_ms);
	base_jw_mint(&w, "lost_until_ms", t->cmd->now_ms);
	base_jw_mint(&w, "steps_known", r->steps);
	base_jw_key(&w, "open");
	base_jw_arr(&w);
	while ((o = core_open_before(r, &i)) && n++ < SHOWN_STEPS) {
		base_jw_obj(&w);
		base_jw_mint(&w, "step", o->step);
		base_jw_mstr(&w, "action", o->action->name);
		base_jw_mcstr(&w, "status", status_word(r->step[o->step].status));
		if (o->due_ms)
			base_jw_mint(&w, "due_ms", o->due_ms);
		if (o->effect)
			base_jw_mstr(&w, "key", o->effect->key);
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	base_jw_mcstr(&w, "choices",
		"resume: it goes on; what may have happened is looked up or asked about step by step; "
		"cancel");
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

static void hold(struct core_turn *t, const struct core_run *r)
{
	struct base_str detail = concerned(t, r);
	struct core_gate_open g = {.run = r->id,
		.step = UINT32_MAX,
		.kind = "parked",
		.show = detail,
		.rule = BASE_STR("restored")};

	g.title = base_arena_printf(
		t->arena, "Run %llu was restored from a backup: may it go on?", (unsigned long long)r->id);
	core_run_parked_emit(t->block, t->cmd->now_ms,
		&(struct core_run_parked){.run = r->id, .why = BASE_STR("restored"), .detail = detail});
	(void)core_emit_gate(t, &g);
}

void core_restored_admit(struct core_turn *t, const struct core_run *r)
{
	if ((r->flags & CORE_RUN_RESTORED) && r->started_ms <= t->c->lost_ms)
		hold(t, r);
}

/* Behind engine_started. What was being sent is taken back, as far as it can be; it is held with its run. */
void core_decide_restored(struct core_turn *t)
{
	struct base_str problem = core_problem(t->arena, "restored",
		"the workspace was restored from a backup: whether it happened is not known here");
	size_t cursor = 0;
	uint64_t id;
	void *value;

	for (struct core_effect *x = t->c->effect_first; x; x = x->next) {
		const struct core_open *o = x->open;
		const struct core_step *s = core_step_find(core_run_find(t->c, o->run), o->step);

		if (s->status == CORE_STEP_SENT)
			core_step_retry_emit(t->block, t->cmd->now_ms,
				&(struct core_step_retry){.run = o->run,
					.step = o->step,
					.attempt = x->attempt,
					.at_ms = t->cmd->now_ms,
					.mode = s->klass == CORE_LOOKUP,
					.problem = problem,
					.unknown = 1,
					.cost = x->reserved});
	}
	while (base_idmap_next(t->c->runs, &cursor, &id, &value)) {
		const struct core_run *r = value;

		if (r->state == CORE_RUN_ACTIVE && may_have_gone_on(r, t->cmd->now_ms))
			hold(t, r);
	}
	core_hold_schedules(t);
}

/* An effect that may have been sent in the lost time. */
static void doubt_effect(const struct core *c, struct core_step *s)
{
	struct core_effect *x = s->open->effect;

	if (!x || s->open->action->internal || s->klass == CORE_READ || s->klass == CORE_INTERNAL)
		return;
	x->uncertain = true;
	if (s->klass == CORE_LOOKUP)
		x->mode = 1;
	if (!x->sent_ms)
		x->sent_ms = c->lost_ms;
}

void core_apply_restored(struct core_apply *a, int64_t lost_ms)
{
	struct core *c = a->c;
	size_t cursor = 0;
	uint64_t id;
	void *value;

	c->lost_ms = lost_ms;
	c->restored_ms = a->time_ms;
	for (struct core_effect *x = c->effect_first; x; x = x->next)
		doubt_effect(c, core_step_find(core_run_find(c, x->open->run), x->open->step));
	while (base_idmap_next(c->runs, &cursor, &id, &value)) {
		struct core_run *r = value;
		struct core_open *o;
		uint32_t i = r->steps;

		while ((o = core_open_before(r, &i)))
			if (o->action->handler == CORE_H_SLEEP)
				r->step[o->step].attempt = o->due_ms > a->time_ms ? OUTLASTS : 0;
		r->flags |= CORE_RUN_RESTORED;
		if (may_have_gone_on(r, a->time_ms))
			r->flags |= CORE_RUN_HELD;
	}
}

void core_apply_let_go(struct core_apply *a, struct core_run *r)
{
	const struct core_deadline *d = core_run_extra(r)->deadlines;
	const struct core_open *o;
	uint32_t i = r->steps;
	size_t cursor = 0;
	uint64_t id;
	void *value;

	if (!core_is_held(r))
		return;
	r->flags &= (uint8_t)~CORE_RUN_HELD;
	while ((o = core_open_before(r, &i)))
		if (o->due_ms)
			core_timer_add(a->c, CORE_TIMER_STEP, r->id, o->step, o->due_ms);
	for (; d; d = d->next)
		core_timer_add(a->c, CORE_TIMER_DEADLINE, r->id, d->step, d->when_ms);
	while (r->has_gates && base_idmap_next(a->c->gates, &cursor, &id, &value)) {
		const struct core_gate *g = value;

		if (g->run == r->id)
			core_gate_arm(a->c, g);
	}
}

void core_apply_doubtful(struct core_apply *a, const struct core_run *r, uint32_t step)
{
	const struct core *c = a->c;
	struct core_step *s = &r->step[step];

	if (!(r->flags & CORE_RUN_RESTORED))
		return;
	if (s->open->action->handler == CORE_H_SLEEP &&
		s->open->due_ms - a->time_ms > c->restored_ms - c->lost_ms) /* O4 */
		s->attempt = OUTLASTS;
	doubt_effect(c, s);
}

void core_apply_woke(struct core_apply *a, struct core_run *r, const struct core_step *s,
	const struct core_action *action, int64_t due_ms)
{
	if ((r->flags & CORE_RUN_RESTORED) && action->handler == CORE_H_SLEEP && s->attempt == OUTLASTS &&
		due_ms <= a->time_ms && r->open == 0) /* O4 */
		r->flags &= (uint8_t) ~(CORE_RUN_RESTORED | CORE_RUN_STRAY);
}

uint8_t core_restored_flags(const struct core_run *from)
{
	return from && (from->flags & CORE_RUN_RESTORED) ? CORE_RUN_RESTORED | CORE_RUN_STRAY : 0;
}

bool core_is_held(const struct core_run *r)
{
	return r && (r->flags & CORE_RUN_HELD);
}

bool core_is_stray(const struct core_run *r, const struct core_effect *x)
{
	struct base_str head, tail;

	return x->uncertain && (r->flags & CORE_RUN_STRAY) &&
	       !base_str_cut(x->key, ':', &head, &tail); /* O3 */
}

size_t core_restored_held(const struct core *c, uint64_t *ret, size_t max)
{
	size_t cursor = 0, n = 0;
	uint64_t id;
	void *value;

	while (base_idmap_next(c->runs, &cursor, &id, &value)) {
		const struct core_run *r = value;

		if (!core_is_held(r))
			continue;
		if (n < max)
			ret[n] = id;
		n++;
	}
	return n;
}
