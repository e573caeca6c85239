/*
 * The state: a fold of the log.
 *
 * Invariants (core_check walks them):
 *  S1  A run that has ended has no open step of its own waits; one without open steps is not kept.
 *  S2  Steps of a run number from 0 without gaps; a step has `open` if and only if it is not finished.
 *  S3  An open step has an effect part if and only if it does not just wait; each stands once in the list of
 *      effects, and its run exists.
 *  S4  The workspace's reserved money is the sum over all open steps; a run's is at least that of its own steps (it
 *      counts its children's too).
 *  S5  A gate that is not decided belongs to a step that is open or to a parked run, or (a built-in rule) to no run.
 *  S6  No event changes a finished step.
 *  S7  An effect is SENT only with a key (its class is not internal).
 *  S8  Timers are derived: every due time of an open step or gate has an entry at or before it.
 *  S9  What is known of crashes belongs to a run that is open.
 *  S10 A parked or paused run knows the event since which it stands.
 *  S11 A schedule's next time is behind the last that it looked at; its run, where that is open, leads to it.
 */
#include <errno.h>

#include "base/check.h"
#include "core/undo_int.h"

enum { SCRATCH_MAX = 64 << 20 };

static int new_maps(struct core *c)
{
	struct base_names **names[] = {&c->actions, &c->principals, &c->flows, &c->agents, &c->connectors,
		&c->facts, &c->keys, &c->experiments, &c->outcome_keys, &c->effect_keys, &c->versions,
		&c->action_index, &c->words, &c->limits, &c->lanes, &c->buckets, &c->waiting, &c->holders,
		&c->ready, &c->blocked, &c->due, &c->idle_buckets, &c->waits, &c->answers, &c->credentials,
		&c->web_sessions, &c->failures, &c->counts, &c->file_labels};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (base_names_new(names[i]) < 0)
			return -1;
	if (base_idmap_new(&c->ended) < 0 || base_idmap_new(&c->bucket_ids) < 0 ||
		base_idmap_new(&c->runs) < 0 || base_idmap_new(&c->gates) < 0 ||
		base_idmap_new(&c->undos) < 0 || base_idmap_new(&c->undo_owners) < 0 ||
		base_idmap_new(&c->crashes) < 0 || base_heap_new(&c->timers) < 0)
		return -1;
	if (base_names_new(&c->event_waits) < 0 || base_idmap_new(&c->deliveries) < 0 ||
		core_schedules_new(c) < 0)
		return -1;
	return base_arena_new(SCRATCH_MAX, &c->scratch);
}

int core_new(struct core **ret)
{
	struct base_slab *slab;
	struct core *c;
	int r = base_slab_new(&slab);

	if (r < 0)
		return r;
	c = base_slab_alloc(slab, sizeof(*c));
	c->slab = slab;
	c->next_run = 1;
	c->next_gate = 1;
	c->budget_month = -1;
	c->budget_run = -1;
	c->active_max = CORE_ACTIVE_DEFAULT;
	c->queue_max = CORE_QUEUE_DEFAULT;
	if (new_maps(c) < 0) {
		core_free(c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

static void free_derived(struct core *c)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; c->versions && base_names_seek(c->versions, at, first, &at, &value);
		first = false) {
		base_schema_free(((struct core_version *)value)->input);
		base_schema_free(((struct core_version *)value)->output);
		core_control_done(((struct core_version *)value)->control);
	}
	at = BASE_STR_NONE;
	for (bool first = true; c->experiments && base_names_seek(c->experiments, at, first, &at, &value);
		first = false)
		base_names_free(((struct core_experiment *)value)->units);
	core_policy_unload(c);
	base_json_free(c->config_doc);
}

void core_free(struct core *c)
{
	struct base_slab *slab;

	if (!c)
		return;
	slab = c->slab;
	free_derived(c);
	core_catalogue_free(c);
	struct base_names *names[] = {c->actions, c->principals, c->flows, c->agents, c->connectors, c->facts,
		c->keys, c->experiments, c->outcome_keys, c->effect_keys, c->versions, c->action_index,
		c->words, c->limits, c->lanes, c->buckets, c->waiting, c->holders, c->ready, c->blocked,
		c->due, c->idle_buckets, c->waits, c->answers, c->credentials, c->file_labels,
		c->web_sessions, c->failures};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		base_names_free(names[i]);
	base_idmap_free(c->ended);
	base_idmap_free(c->bucket_ids);
	core_schedules_free(c);
	base_names_free(c->event_waits);
	base_idmap_free(c->deliveries);
	base_idmap_free(c->runs);
	base_idmap_free(c->gates);
	base_idmap_free(c->undos);
	base_idmap_free(c->undo_owners);
	base_idmap_free(c->crashes);
	base_heap_free(c->timers);
	base_arena_free(c->scratch);
	base_slab_free(slab);
}

struct core_run *core_run_find(const struct core *c, uint64_t id)
{
	return base_idmap_get(c->runs, id);
}

struct core_gate *core_gate_find(const struct core *c, uint64_t id)
{
	return base_idmap_get(c->gates, id);
}

struct core_connector *core_connector_find(const struct core *c, struct base_str name)
{
	return base_names_get(c->connectors, name);
}

struct core_connector *core_connector_of(struct core *c, struct base_str name)
{
	struct core_connector *k = base_names_get(c->connectors, name);

	if (k)
		return k;
	k = base_slab_alloc(c->slab, sizeof(*k));
	k->name = base_slab_dup(c->slab, name);
	BASE_CHECK(base_names_put(c->connectors, name, k) == 0);
	return k;
}

uint32_t core_action_intern(struct core *c, struct base_str name)
{
	uintptr_t found = (uintptr_t)base_names_get(c->action_index, name);

	if (found)
		return (uint32_t)(found - 1);
	if (c->action_count == c->action_cap) {
		uint32_t cap = c->action_cap ? c->action_cap * 2 : 16;

		c->action_names = base_slab_grow(
			c->slab, c->action_names, c->action_cap, cap, sizeof(*c->action_names));
		c->action_cap = cap;
	}
	c->action_names[c->action_count] = base_slab_dup(c->slab, name);
	c->action_count++;
	BASE_CHECK(base_names_put(c->action_index, name, (void *)(uintptr_t)c->action_count) == 0);
	return c->action_count - 1;
}

void core_gate_forget(struct core *c, struct core_gate *g)
{
	struct base_str *texts[] = {&g->kind, &g->title, &g->rule, &g->on_expiry, &g->allows, &g->action,
		&g->fixed, &g->terms_text, &g->sources, &g->tell_why};

	core_gate_forget_people(c, g);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		base_slab_str_release(c->slab, *texts[i]);
	base_idmap_remove(c->gates, g->id);
	base_slab_release(c->slab, g, sizeof(*g));
}

struct core_patterns core_patterns_of(struct core *c, struct base_jv list)
{
	struct core_patterns p = {NULL, 0};
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	size_t n = base_jv_len(list);

	if (base_jv_kind(list) != BASE_JSON_ARR || n == 0)
		return p;
	p.item = base_slab_alloc(c->slab, n * sizeof(*p.item));
	p.count = (uint32_t)n;
	for (size_t i = 0; base_jv_next(list, &it, &key, &v); i++)
		p.item[i] = base_slab_dup(c->slab, base_jv_str(v));
	return p;
}

void core_patterns_free(struct core *c, struct core_patterns *p)
{
	for (uint32_t i = 0; i < p->count; i++)
		base_slab_str_release(c->slab, p->item[i]);
	base_slab_release(c->slab, p->item, p->count * sizeof(*p->item));
	*p = (struct core_patterns){NULL, 0};
}

bool core_patterns_match(const struct core_patterns *p, struct base_str name)
{
	for (uint32_t i = 0; i < p->count; i++)
		if (base_str_matches(p->item[i], name))
			return true;
	return false;
}

void core_set_str(struct core *c, struct base_str *place, struct base_str value)
{
	struct base_str old = *place;

	*place = base_slab_dup(c->slab, value);
	base_slab_str_release(c->slab, old);
}

void core_timer_add(struct core *c, enum core_timer_kind kind, uint64_t id, uint32_t sub, int64_t when)
{
	struct base_heap_item item = {.when = when, .id = id, .sub = sub, .kind = kind};

	if (when >= CORE_NEVER_MS)
		return;
	BASE_CHECK(base_heap_push(c->timers, item) == 0);
}

static bool timer_is_live(const struct core *c, const struct base_heap_item *t)
{
	const struct core_gate *g;
	const struct core_run *r;
	const struct core_step *s;

	if (t->kind == CORE_TIMER_GATE) {
		g = core_gate_find(c, t->id);
		return g && !g->decided && g->expires_ms == t->when &&
		       !core_is_held(core_run_find(c, g->run));
	}
	if (t->kind == CORE_TIMER_TELL) {
		g = core_gate_find(c, t->id);
		return g && core_gate_due(c, g) == t->when;
	}
	if (t->kind == CORE_TIMER_DEADLINE)
		return core_deadline_is_live(c, t);
	if (t->kind == CORE_TIMER_RUN || t->kind == CORE_TIMER_RATE)
		return core_admit_timer_live(c, t);
	if (t->kind == CORE_TIMER_UNDO) {
		const struct core_undo *u = core_undo_find(c, t->id);

		return u && u->work && u->work->due_ms == t->when;
	}
	if (t->kind == CORE_TIMER_DELIVERY)
		return core_delivery_seq(c, t->id) != 0;
	if (t->kind == CORE_TIMER_SCHEDULE)
		return core_schedule_timer_is_live(c, t->id, t->when);
	r = core_run_find(c, t->id);
	s = core_step_find(r, t->sub);
	if (!core_step_open(s) || s->open->due_ms != t->when || core_is_held(r))
		return false;
	return s->status == CORE_STEP_WAITING || (s->status == CORE_STEP_HELD && !c->frozen);
}

bool core_timer_next(struct core *c, struct base_heap_item *ret)
{
	while (base_heap_peek(c->timers, ret)) {
		if (timer_is_live(c, ret))
			return true;
		base_heap_pop(c->timers, ret);
	}
	return false;
}

int64_t core_next_due(const struct core *c)
{
	struct base_heap_item item;

	if (core_admit_is_due(c))
		return c->time_ms;
	/* Dropping stale timers does not change the state: they are derived. */
	return core_timer_next((struct core *)(uintptr_t)c, &item) ? item.when : INT64_MAX;
}

static void check_run(const struct core_run *r)
{
	int64_t reserved = 0;
	uint32_t open = 0, sent = 0;

	BASE_CHECK(r->state >= CORE_RUN_ACTIVE && r->state <= CORE_RUN_UNDOING);
	BASE_CHECK(!core_is_held(r) || r->state != CORE_RUN_ACTIVE); /* restore.c, O1 */
	BASE_CHECK((r->state == CORE_RUN_PARKED || r->state == CORE_RUN_PAUSED) ==
		   (core_run_extra(r)->seq_stand != 0)); /* S10 */
	for (const struct core_deadline *d = core_run_extra(r)->deadlines; d; d = d->next) {
		BASE_CHECK(d->step == UINT32_MAX
				   ? r->state != CORE_RUN_ENDED
				   : core_step_find(r, d->step) && r->step[d->step].open); /* D3 */
		BASE_CHECK(!d->next || d->next->step > d->step);
	}
	BASE_CHECK(r->state != CORE_RUN_ENDED || r->open > 0); /* S1 */
	for (uint32_t i = 0; i < r->steps; i++) {
		const struct core_step *s = &r->step[i];

		const struct core_open *o = core_step_open(s);

		if (!o) {
			BASE_CHECK(s->status <= CORE_STEP_FAILED && core_step_end(s) >= s->seq); /* S6 */
			continue;
		}
		open++;
		sent += s->status == CORE_STEP_SENT;
		reserved += o->effect ? o->effect->reserved : 0;
		BASE_CHECK(o->run == r->id && o->step == i && o->action);		  /* S2 */
		BASE_CHECK((o->effect != NULL) == (s->status != CORE_STEP_WAITING));	  /* S3 */
		BASE_CHECK(s->status != CORE_STEP_SENT || o->effect->key.len > 0);	  /* S7 */
		BASE_CHECK(r->state != CORE_RUN_ENDED || s->status != CORE_STEP_WAITING); /* S1 */
	}
	BASE_CHECK(open == r->open && sent == r->sent && reserved <= r->reserved); /* S2, S4 */
}

void core_check(const struct core *c)
{
	int64_t reserved = 0;
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (base_idmap_next(c->runs, &cursor, &id, &value)) {
		const struct core_run *r = value;

		BASE_CHECK(r->id == id && id < c->next_run);
		check_run(r);
	}
	for (const struct core_effect *x = c->effect_first; x; x = x->next) {
		const struct core_open *o = x->open;

		BASE_CHECK(core_step_open(core_step_find(core_run_find(c, o->run), o->step)) == o); /* S3 */
		BASE_CHECK(o->effect == x);
		reserved += x->reserved;
	}
	BASE_CHECK(reserved == c->reserved); /* S4 */
	core_undo_check(c);
	core_check_audit(c);
	cursor = 0;
	while (base_idmap_next(c->crashes, &cursor, &id, &value)) /* S9 */
		BASE_CHECK(core_run_find(c, id) && ((const struct core_crashes *)value)->count > 0);
	cursor = 0;
	while (base_idmap_next(c->gates, &cursor, &id, &value)) {
		const struct core_gate *g = value;
		const struct core_run *r = core_run_find(c, g->run);
		const struct core_step *s = core_step_find(r, g->step);

		BASE_CHECK(g->id == id && id < c->next_gate);
		BASE_CHECK(g->decided || !g->run ||
			   (r && (core_step_open(s) || core_run_extra(r)->park_gate == id))); /* S5 */
		core_gate_check(c, g);
	}
	core_admit_check(c);
	core_schedules_check(c); /* S11 */
	core_lock_check(c);	 /* X1 */
	core_events_check(c);
	core_sign_in_check(c);
	core_counts_check(c);
	core_keys_check(c); /* I1, I2 */
}

uint64_t core_seq(const struct core *c)
{
	return c->seq;
}

int64_t core_time_ms(const struct core *c)
{
	return c->time_ms;
}

uint64_t core_epoch(const struct core *c)
{
	return c->epoch;
}

uint64_t core_archived(const struct core *c)
{
	return c->archived;
}

bool core_is_frozen(const struct core *c)
{
	return c->frozen;
}

struct base_str core_interpreter(const struct core *c)
{
	return c->interpreter;
}

struct base_str core_config(const struct core *c)
{
	return c->config;
}
