/*
 * Runs in a snapshot. There may be a million of them: what many share (words, flows, versions) is written once
 * and named by its number, positions stand relative to the run's first.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

enum {
	RUN_HAS_GATES = 1,
	RUN_HAS_EXTRA = 2,
	RUN_HAS_MONEY = 4,
	RUN_RESTED = 8,
	EFFECT_CLEARED = 1,
	EFFECT_UNCERTAIN = 2,
};

static uint64_t u(struct base_reader *r)
{
	return base_get_u64(r);
}

static uint32_t u32(struct base_reader *r)
{
	return (uint32_t)base_get_uint(r, UINT32_MAX);
}

static uint8_t u8(struct base_reader *r)
{
	return (uint8_t)base_get_uint(r, UINT8_MAX);
}

static struct base_str text(struct core *c, struct base_reader *r)
{
	return base_slab_dup(c->slab, base_get_str(r));
}

void core_put_patterns(struct base_buf *b, const struct core_patterns *p)
{
	base_put_u64(b, p->count);
	for (uint32_t i = 0; i < p->count; i++)
		base_put_str(b, p->item[i]);
}

void core_get_patterns(struct core *c, struct base_reader *r, struct core_patterns *p)
{
	uint64_t n = base_get_uint(r, 1 << 20);

	if (n == 0 || r->failed)
		return;
	p->item = base_slab_alloc(c->slab, n * sizeof(*p->item));
	p->count = (uint32_t)n;
	for (uint64_t i = 0; i < n; i++)
		p->item[i] = text(c, r);
}

/* --- what runs share, by number: 0 is none --- */

static void number_shared(const struct core *c)
{
	uint32_t words = 0, flows = 0, versions = 0;
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(c->words, at, first, &at, &value); first = false)
		((struct core_word *)value)->number = ++words;
	at = BASE_STR_NONE;
	for (bool first = true; base_names_seek(c->flows, at, first, &at, &value); first = false)
		((struct core_flow *)value)->number = ++flows;
	at = BASE_STR_NONE;
	for (bool first = true; base_names_seek(c->versions, at, first, &at, &value); first = false)
		((struct core_version *)value)->number = ++versions;
}

static void put_words(const struct core *c, struct base_buf *b)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	base_put_u64(b, base_names_count(c->words));
	for (bool first = true; base_names_seek(c->words, at, first, &at, &value); first = false)
		base_put_str(b, at);
}

static void put_word(struct base_buf *b, const struct core_word *w)
{
	base_put_u64(b, w ? w->number : 0);
}

/* A table of a reader: what stands at each number. */
struct table {
	void **item;
	size_t count;
};

struct load {
	struct core *c;
	struct base_reader *r;
	struct table words, flows, versions;
	const struct core_action **action; /* by index */
};

static struct table table_of(struct base_arena *a, const struct base_names *names)
{
	size_t n = base_names_count(names), i = 0;
	struct table t = {.item = base_arena_array(a, n + 1, sizeof(void *)), .count = n};
	struct base_str at = BASE_STR_NONE;
	void *value;

	BASE_CHECK(t.item);
	for (bool first = true; base_names_seek(names, at, first, &at, &value); first = false)
		t.item[i++] = value;
	return t;
}

static void *get_shared(struct load *l, const struct table *t)
{
	uint64_t number = base_get_uint(l->r, t->count);

	return number ? t->item[number - 1] : NULL;
}

static struct core_word *get_word(struct load *l)
{
	struct core_word *w = get_shared(l, &l->words);

	if (w)
		w->refs++;
	return w;
}

static void get_limits(struct load *l, struct core_run *run)
{
	struct core_word *text = get_word(l);

	run->limits = core_limits_take(l->c, core_word_text(text));
	l->r->failed |= text && !run->limits;
	core_word_drop(l->c, text);
}

static void get_words(struct core *c, struct base_reader *r)
{
	uint64_t n = u(r);

	for (uint64_t i = 0; i < n && !r->failed; i++) {
		struct core_word *w = core_word_take(c, base_get_str(r));

		if (w)
			w->refs = 0; /* each use counts */
		else
			r->failed = 1;
	}
}

/* --- open steps --- */

static void put_open(struct base_buf *b, const struct core_open *o)
{
	base_put_i64(b, o->due_ms);
	base_put_u64(b, o->gate);
	base_put_u64(b, o->child);
	put_word(b, o->signal);
}

static void get_open(struct load *l, struct core_open *o, uint32_t action)
{
	o->action = l->action[action];
	o->due_ms = base_get_i64(l->r);
	o->gate = u(l->r);
	o->child = u(l->r);
	o->signal = get_word(l);
	if (!o->action)
		l->r->failed = 1;
	else if (o->action->handler == CORE_H_RUN_WAIT)
		core_wait_add(l->c, o, o->child, true);
	if (o->due_ms)
		core_timer_add(l->c, CORE_TIMER_STEP, o->run, o->step, o->due_ms);
}

static void get_waiting(struct load *l, const struct core_run *r, struct core_open *o, uint32_t action)
{
	get_open(l, o, action);
	if (!l->r->failed && o->action->handler == CORE_H_EVENT_WAIT)
		core_event_wait_add(l->c, r, o);
}

static void put_effect(struct base_buf *b, const struct core_effect *x)
{
	base_put_u64(b, x->open->run);
	base_put_u64(b, x->open->step);
	put_open(b, x->open);
	base_put_u64(b, x->attempt);
	base_put_u64(b, x->failures);
	base_put_u64(b, x->mode);
	base_put_i64(b, x->reserved);
	base_put_i64(b, x->overrun);
	base_put_u64(b, (x->cleared ? EFFECT_CLEARED : 0) | (x->uncertain ? EFFECT_UNCERTAIN : 0));
	base_put_i64(b, x->sent_ms);
	base_put_u64(b, x->approval);
	base_put_str(b, x->key);
	base_put_str(b, x->customer);
	base_put_str(b, x->route);
	base_put_str(b, x->opts);
	base_put_hash(b, &x->args_hash);
	base_put_u64(b, x->seq_retry);
	base_put_str(b, x->counts);
	base_put_i64(b, x->counted_ms);
}

static void get_effect(struct load *l)
{
	struct base_reader *r = l->r;
	struct core_run *run = core_run_find(l->c, u(r));
	struct core_step *s = core_step_find(run, u32(r));
	struct core_effect *x;
	struct core_open *o;
	uint8_t flags;

	if (!s || s->open || s->status <= CORE_STEP_WAITING || s->status >= CORE_STEP_DONE) {
		r->failed = 1;
		return;
	}
	o = core_open_add(l->c, run, (uint32_t)(s - run->step), s->status);
	x = o->effect;
	get_open(l, o, s->action);
	x->attempt = u32(r);
	x->failures = u32(r);
	x->mode = u8(r);
	x->reserved = base_get_i64(r);
	x->overrun = base_get_i64(r);
	flags = u8(r);
	x->cleared = (flags & EFFECT_CLEARED) != 0;
	x->uncertain = (flags & EFFECT_UNCERTAIN) != 0;
	x->sent_ms = base_get_i64(r);
	x->approval = u(r);
	x->key = text(l->c, r);
	x->customer = text(l->c, r);
	x->route = text(l->c, r);
	x->opts = text(l->c, r);
	base_get_hash(r, &x->args_hash);
	x->seq_retry = u(r);
	x->counts = text(l->c, r);
	x->counted_ms = base_get_i64(r);
}

/* --- steps --- */

static void put_steps(struct base_buf *b, const struct core_run *r)
{
	base_put_u64(b, r->steps);
	for (uint32_t i = 0; i < r->steps; i++) {
		const struct core_step *s = &r->step[i];

		base_put_u64(b, s->seq - r->seq_started);
		base_put_u64(b, s->action);
		base_put_u64(b, (uint64_t)s->status | (uint64_t)s->klass << 8 | (uint64_t)s->labels << 16 |
					(uint64_t)s->attempt << 24);
		base_buf_put(b, s->hash, sizeof(s->hash));
		if (s->status >= CORE_STEP_DONE)
			base_put_u64(b, s->seq_end - s->seq);
		else if (s->status == CORE_STEP_WAITING)
			put_open(b, s->open);
	}
}

static void get_step(struct load *l, struct core_run *r, struct core_step *s)
{
	struct base_reader *rd = l->r;
	uint64_t packed;

	s->seq = r->seq_started + u(rd);
	s->action = u32(rd);
	packed = u(rd);
	s->klass = (uint8_t)(packed >> 8);
	s->labels = (uint8_t)(packed >> 16);
	s->attempt = (uint8_t)(packed >> 24);
	s->status = (uint8_t)packed;
	if (rd->failed || rd->end - rd->at < CORE_HASH_SHORT || s->action >= l->c->action_count) {
		s->status = CORE_STEP_FAILED;
		rd->failed = 1;
		return;
	}
	memcpy(s->hash, rd->at, CORE_HASH_SHORT);
	rd->at += CORE_HASH_SHORT;
	if (s->status >= CORE_STEP_DONE)
		s->seq_end = s->seq + u(rd);
	else if (s->status == CORE_STEP_WAITING)
		get_waiting(
			l, r, core_open_add(l->c, r, (uint32_t)(s - r->step), CORE_STEP_WAITING), s->action);
}

static void get_steps(struct load *l, struct core_run *r)
{
	uint64_t n = base_get_uint(l->r, CORE_STEPS_MAX);

	if (n == 0 || l->r->failed)
		return;
	r->step = base_slab_alloc(l->c->slab, n * sizeof(*r->step));
	r->steps_cap = (uint32_t)n;
	for (uint64_t i = 0; i < n && !l->r->failed; i++)
		get_step(l, r, &r->step[r->steps++]);
}

/* --- runs --- */

static void put_extra(struct base_buf *b, const struct core_run_extra *x)
{
	base_put_u64(b, x->parent);
	base_put_u64(b, x->parent_step);
	base_put_u64(b, x->outcome);
	base_put_u64(b, x->seq_ended);
	base_put_u64(b, x->payer ? x->payer->number : 0);
	put_word(b, x->agent);
	base_put_str(b, x->customer);
	base_put_u64(b, x->park_gate);
	base_put_u64(b, x->generation);
	core_ticket_put(b, x);
	base_put_u64(b, x->event_depth);
	base_put_u64(b, x->shed);
	for (const struct core_signal *s = x->signals; s; s = s->next) {
		base_put_u64(b, s->seq);
		put_word(b, s->name);
	}
	base_put_u64(b, 0);
	base_put_u64(b, x->seq_stand);
	base_put_u64(b, x->seq_stopped);
	for (const struct core_deadline *d = x->deadlines; d; d = d->next) {
		base_put_i64(b, d->when_ms);
		base_put_u64(b, d->step);
		base_put_u64(b, d->passed);
	}
	base_put_i64(b, 0);
}

static void get_signals(struct load *l, struct core_run_extra *x)
{
	struct core_signal **at = &x->signals;
	uint64_t seq;

	while ((seq = u(l->r)) != 0 && !l->r->failed) {
		*at = base_slab_alloc(l->c->slab, sizeof(**at));
		(*at)->seq = seq;
		(*at)->name = get_word(l);
		at = &(*at)->next;
	}
}

static void get_deadlines(struct load *l, struct core_run *run)
{
	int64_t when;

	while ((when = base_get_i64(l->r)) != 0 && !l->r->failed) {
		uint32_t step = u32(l->r);

		core_deadline_set(l->c, run, step, when);
		core_deadline_of(run, step)->passed = u(l->r) != 0;
	}
}

static void get_extra(struct load *l, struct core_run *run)
{
	struct core_run_extra *x = core_run_extend(l->c, run);
	struct base_reader *r = l->r;

	x->parent = u(r);
	x->parent_step = u32(r);
	x->outcome = u8(r);
	x->seq_ended = u(r);
	x->payer = get_shared(l, &l->flows);
	x->agent = get_word(l);
	x->customer = text(l->c, r);
	x->park_gate = u(r);
	x->generation = u32(r);
	core_ticket_get(l->c, r, run);
	x->event_depth = u8(r);
	x->shed = u8(r);
	get_signals(l, x);
	x->seq_stand = u(r);
	x->seq_stopped = u(r);
	get_deadlines(l, run);
}

/* Equal states give equal bytes: one that has never had an extra member, and one that has lost them again. */
static bool has_extra(const struct core_run_extra *x)
{
	const unsigned char *bytes = (const void *)x;

	for (size_t i = 0; x && i < sizeof(*x); i++)
		if (bytes[i])
			return true;
	return false;
}

static void put_run(struct base_buf *b, const struct core_run *r)
{
	bool extra = has_extra(r->extra), money = r->spent || r->reserved || r->budget != -1;

	base_put_u64(b, r->id);
	base_put_u64(b, (r->has_gates ? RUN_HAS_GATES : 0) | (extra ? RUN_HAS_EXTRA : 0) |
				(money ? RUN_HAS_MONEY : 0) | (r->rested ? RUN_RESTED : 0));
	base_put_u64(b, r->state);
	base_put_u64(b, r->flags);
	base_put_u64(b, r->labels);
	base_put_u64(b, r->flow ? r->flow->number : 0);
	base_put_u64(b, r->version ? r->version->number : 0);
	base_put_u64(b, r->seq_started);
	base_put_i64(b, r->started_ms);
	base_buf_put(b, r->salt, sizeof(r->salt));
	put_word(b, r->as);
	put_word(b, r->by);
	put_word(b, r->origin);
	put_word(b, r->limits ? r->limits->text : NULL);
	if (money) {
		base_put_i64(b, r->spent);
		base_put_i64(b, r->reserved);
		base_put_i64(b, r->budget);
	}
	if (extra)
		put_extra(b, r->extra);
	put_steps(b, r);
}

static void get_run(struct load *l)
{
	struct core_run *run = base_slab_alloc(l->c->slab, sizeof(*run));
	struct base_reader *r = l->r;
	uint64_t has;

	run->id = u(r);
	has = u(r);
	run->has_gates = (has & RUN_HAS_GATES) != 0;
	run->rested = (has & RUN_RESTED) != 0;
	run->state = u8(r);
	run->flags = u8(r);
	run->labels = u8(r);
	run->flow = get_shared(l, &l->flows);
	run->version = get_shared(l, &l->versions);
	run->seq_started = u(r);
	run->started_ms = base_get_i64(r);
	if (r->failed || r->end - r->at < CORE_HASH_SHORT) {
		r->failed = 1;
		return;
	}
	memcpy(run->salt, r->at, sizeof(run->salt));
	r->at += CORE_HASH_SHORT;
	run->as = get_word(l);
	run->by = get_word(l);
	run->origin = get_word(l);
	get_limits(l, run);
	run->budget = -1;
	if (has & RUN_HAS_MONEY) {
		run->spent = base_get_i64(r);
		run->reserved = base_get_i64(r);
		run->budget = base_get_i64(r);
	}
	if (has & RUN_HAS_EXTRA)
		get_extra(l, run);
	get_steps(l, run);
	if (!r->failed && base_idmap_put(l->c->runs, run->id, run) < 0)
		r->failed = 1;
}

/* A start key names its run; the run gets to know its key again. */
static void link_keys(struct core *c)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(c->keys, at, first, &at, &value); first = false) {
		struct core_key *k = value;
		struct core_run *run = k->ended ? NULL : core_run_find(c, k->run);

		k->name = at;
		if (run)
			run->key = k;
	}
}

void core_put_runs(const struct core *c, const uint64_t *ids, size_t count, struct base_buf *b)
{
	size_t effects = 0;

	number_shared(c);
	put_words(c, b);
	base_put_u64(b, count);
	for (size_t i = 0; i < count; i++)
		put_run(b, core_run_find(c, ids[i]));
	for (const struct core_effect *x = c->effect_first; x; x = x->next)
		effects++;
	base_put_u64(b, effects);
	for (const struct core_effect *x = c->effect_first; x; x = x->next)
		put_effect(b, x);
}

void core_get_runs(struct core *c, struct base_reader *r)
{
	struct load l = {.c = c, .r = r};
	uint64_t n;

	get_words(c, r);
	base_arena_reset(c->scratch);
	l.words = table_of(c->scratch, c->words);
	l.flows = table_of(c->scratch, c->flows);
	l.versions = table_of(c->scratch, c->versions);
	l.action = base_arena_array(c->scratch, c->action_count + 1, sizeof(*l.action));
	BASE_CHECK(l.action);
	for (uint32_t i = 0; i < c->action_count; i++)
		l.action[i] = core_action_find(c, c->action_names[i]);
	n = u(r);
	/* A run takes some bytes at least: a number that is not true takes no memory. */
	if (n > (size_t)(r->end - r->at) || base_idmap_reserve(c->runs, n) < 0)
		r->failed = 1;
	for (uint64_t i = 0; i < n && !r->failed; i++)
		get_run(&l);
	n = u(r);
	for (uint64_t i = 0; i < n && !r->failed; i++)
		get_effect(&l);
	link_keys(c);
}
