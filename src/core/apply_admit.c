/*
 * Flow control in the state: lanes (runs of one flow and concurrency key), rates of starts, the queue.
 *
 * A queued run has a ticket. Until its time to begin it is only a timer; then it stands in `waiting`, by lane. Each lane
 * is represented by its head: in `ready`, or, where the head's flow has a rate, in `blocked`, from which the best lane of
 * each rate that has a slot now is exposed in `ready`. So the next to be admitted is the first of `ready`, and everything
 * is O(log n). All these sets are derived from the tickets.
 *
 * The order. In a lane: the time since when a run waits less CORE_AGE_MS for each level of priority, then the run's number.
 * Between lanes the same with the time since when the lane has not been served (its head's, or when a run of it was
 * admitted last, whichever is later), then who was served longer ago. So higher priorities go first, lanes of equal
 * priority take turns however many wait in each, and a lower priority waits at most a minute longer for each level.
 *
 * Invariants (core_admit_check):
 *  A1  A queued run has a ticket that was not admitted, no open step, and is in no worker; `queued` counts them.
 *  A2  A keyed lane's `active` is the number of its runs that were admitted and have not ended; `holders` has them.
 *  A3  A queued run whose time has come stands in `waiting` once, under its lane, by its order.
 *  A4  Nobody waits in a lane with room: such a lane stands in `ready` or `blocked`, and while `ready` has one and
 *      fewer runs are awake than the cap, core_next_due says now.
 *  A5  A run takes a slot (is awake) while it is active and has no open step or one that is SENT. Who waits for a timer, a
 *      signal, a gate, a slot of a connector or another run takes none, so a parent never keeps its child out, and
 *      whoever takes a slot comes to its end or to a wait by itself: the cap cannot lock up.
 *  A6  A lane and a rate are kept only while a run stands in them (a rate: or its next slot is still to come).
 */
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

enum { ID = 8, ORDER_KEY = 24, BLOCKED_KEY = 32, WAITING_KEY = 24, HOLDER_KEY = 16 };

/* Signed numbers in the order of unsigned ones. */
static uint64_t ordered(int64_t v)
{
	return (uint64_t)v ^ (uint64_t)1 << 63;
}

static struct base_str bytes(const char *at, size_t len)
{
	return (struct base_str){at, len};
}

static void put(struct base_names *set, const char *key, size_t len, void *value)
{
	BASE_CHECK(base_names_put(set, bytes(key, len), value) == 0);
}

static void drop(struct base_names *set, const char *key, size_t len)
{
	BASE_CHECK(base_names_remove(set, bytes(key, len)));
}

/* --- where a lane stands --- */

static void expose(struct core *c, struct core_bucket *b, int64_t now_ms)
{
	struct base_str key;
	char from[ID];
	void *value;
	int64_t slot;

	if (b->exposed)
		drop(c->ready, b->place, ORDER_KEY);
	b->exposed = NULL;
	core_be(from, b->id);
	if (!base_names_seek(c->blocked, bytes(from, ID), true, &key, &value) ||
		memcmp(key.ptr, from, ID) != 0) {
		b->armed_ms = 0;
		return;
	}
	slot = core_bucket_slot(b, now_ms);
	if (!slot) {
		b->armed_ms = 0;
		memcpy(b->place, key.ptr + ID, ORDER_KEY);
		b->exposed = value;
		put(c->ready, b->place, ORDER_KEY, value);
	} else if (b->armed_ms != slot) {
		b->armed_ms = slot;
		core_timer_add(c, CORE_TIMER_RATE, b->id, 0, slot);
	}
}

/* A lane that has to act before anybody is admitted: replaces, or rejects. */
static bool must_act(const struct core_lane *l)
{
	int64_t limit = core_lane_limit(l);

	switch (core_lane_policy_of(l)) {
	case CORE_REPLACE:
		return l->waiting > 1 || (l->waiting == 1 && l->active >= limit);
	case CORE_REJECT:
		return l->waiting > 0 && (int64_t)l->active + l->waiting > limit;
	default:
		return false;
	}
}

static void unplace(struct core *c, struct core_lane *l)
{
	if (l->placed && l->bucket)
		drop(c->blocked, l->place, BLOCKED_KEY);
	else if (l->placed)
		drop(c->ready, l->place + ID, ORDER_KEY);
	l->placed = false;
}

static void place(struct core *c, struct core_lane *l)
{
	struct core_run *head = core_lane_head(c, l);
	struct core_bucket *was = l->placed ? l->bucket : NULL;
	bool due = must_act(l);
	char id[ID];
	int64_t since;

	unplace(c, l);
	l->bucket = NULL;
	core_be(id, l->id);
	if (due != l->due && due)
		put(c->due, id, ID, l);
	else if (due != l->due)
		drop(c->due, id, ID);
	l->due = due;
	if (head && !due && (int64_t)l->active < core_lane_limit(l)) {
		since = core_run_extra(head)->ticket->since_ms > l->served_ms
				? core_run_extra(head)->ticket->since_ms
				: l->served_ms;
		l->bucket = core_run_extra(head)->ticket->bucket;
		l->placed = true;
		core_be(l->place, l->bucket ? l->bucket->id : 0);
		core_be(l->place + ID,
			ordered(since - (int64_t)core_run_extra(head)->priority * CORE_AGE_MS));
		core_be(l->place + 2 * ID, l->served_seq);
		core_be(l->place + 3 * ID, head->id);
		if (l->bucket)
			put(c->blocked, l->place, BLOCKED_KEY, l);
		else
			put(c->ready, l->place + ID, ORDER_KEY, l);
	}
	if (was && was != l->bucket)
		expose(c, was, c->time_ms);
	if (l->bucket)
		expose(c, l->bucket, c->time_ms);
}

void core_admit_flow(struct core *c, const struct core_flow *f)
{
	struct base_names *sets[] = {c->lanes, c->buckets};
	struct base_str at;
	void *value;

	for (int i = 0; i < 2; i++) {
		at = f->name;
		while (base_names_seek(sets[i], at, false, &at, &value) && base_str_starts(at, f->name) &&
			at.ptr[f->name.len] <= CORE_LANE_SEPARATOR) {
			if (at.ptr[f->name.len] != CORE_LANE_SEPARATOR)
				continue;
			if (i == 0)
				place(c, value);
			else
				expose(c, value, c->time_ms);
		}
	}
}

/* --- lanes and rates come and go --- */

static struct core_lane *lane_of(struct core *c, struct core_flow *flow, struct base_str key)
{
	struct core_lane *l;

	base_arena_reset(c->scratch);
	l = core_lane_find(c, core_lane_flow(flow), key, c->scratch);
	if (l)
		return l;
	l = base_slab_alloc(c->slab, sizeof(*l));
	l->id = ++c->next_place;
	l->name = base_slab_dup(c->slab, core_lane_name(c->scratch, core_lane_flow(flow), key));
	l->flow = flow;
	l->keyed = key.len > 0;
	BASE_CHECK(base_names_put(c->lanes, l->name, l) == 0);
	return l;
}

static void lane_settle(struct core *c, struct core_lane *l)
{
	place(c, l);
	if (l->active || l->members)
		return;
	base_names_remove(c->lanes, l->name);
	base_slab_str_release(c->slab, l->name);
	base_slab_release(c->slab, l, sizeof(*l));
}

static void idle_key(char key[16], const struct core_bucket *b)
{
	core_be(key, ordered(b->next_us));
	core_be(key + ID, b->id);
}

/* A rate in which nobody waits stands in `idle_buckets` until its next slot has come. */
static void bucket_idle(struct core *c, struct core_bucket *b, bool idle)
{
	char key[16];

	idle_key(key, b);
	if (idle)
		put(c->idle_buckets, key, sizeof(key), b);
	else
		drop(c->idle_buckets, key, sizeof(key));
}

static void buckets_expire(struct core *c)
{
	struct base_str key;
	void *value;

	while (base_names_seek(c->idle_buckets, BASE_STR_NONE, true, &key, &value)) {
		struct core_bucket *b = value;

		if (b->next_us > c->time_ms * 1000)
			return;
		bucket_idle(c, b, false);
		base_names_remove(c->buckets, b->name);
		base_idmap_remove(c->bucket_ids, b->id);
		base_slab_str_release(c->slab, b->name);
		base_slab_release(c->slab, b, sizeof(*b));
	}
}

static struct core_bucket *bucket_of(struct core *c, struct core_flow *flow, struct base_str key)
{
	struct core_bucket *b;

	base_arena_reset(c->scratch);
	b = core_bucket_find(c, core_lane_flow(flow), key, c->scratch);
	if (b)
		return b;
	b = base_slab_alloc(c->slab, sizeof(*b));
	b->id = ++c->next_place;
	b->name = base_slab_dup(c->slab, core_lane_name(c->scratch, core_lane_flow(flow), key));
	b->flow = flow;
	BASE_CHECK(base_names_put(c->buckets, b->name, b) == 0);
	BASE_CHECK(base_idmap_put(c->bucket_ids, b->id, b) == 0);
	bucket_idle(c, b, true);
	return b;
}

static void bucket_members(struct core *c, struct core_bucket *b, int by)
{
	if (!b)
		return;
	if (b->members == 0)
		bucket_idle(c, b, false);
	b->members = (uint32_t)((int)b->members + by);
	if (b->members == 0)
		bucket_idle(c, b, true);
}

static void bucket_take(struct core *c, struct core_bucket *b)
{
	const struct core_control *k = b ? core_flow_control(b->flow) : NULL;
	int64_t now_us = c->time_ms * 1000;

	if (!k || !k->interval_us)
		return;
	if (b->members == 0)
		bucket_idle(c, b, false);
	b->next_us = (b->next_us < now_us ? now_us : b->next_us) + k->interval_us;
	if (b->members == 0)
		bucket_idle(c, b, true);
	expose(c, b, c->time_ms);
}

/* --- tickets --- */

static void waiting_key(char key[WAITING_KEY], const struct core_run *r)
{
	const struct core_ticket *k = core_run_extra(r)->ticket;

	core_be(key, k->lane->id);
	core_be(key + ID, ordered(k->since_ms - (int64_t)core_run_extra(r)->priority * CORE_AGE_MS));
	core_be(key + 2 * ID, r->id);
}

struct core_run *core_lane_after(const struct core *c, const struct core_run *r)
{
	char from[WAITING_KEY];
	struct base_str key;
	void *value;

	waiting_key(from, r);
	if (!base_names_seek(c->waiting, bytes(from, sizeof(from)), false, &key, &value) ||
		memcmp(key.ptr, from, ID) != 0)
		return NULL;
	return value;
}

static void wait_add(struct core *c, struct core_run *r)
{
	char key[WAITING_KEY];

	waiting_key(key, r);
	put(c->waiting, key, sizeof(key), r);
	core_run_extra(r)->ticket->waits = true;
	core_run_extra(r)->ticket->lane->waiting++;
}

static void wait_drop(struct core *c, struct core_run *r)
{
	char key[WAITING_KEY];

	if (!core_run_extra(r)->ticket->waits)
		return;
	waiting_key(key, r);
	drop(c->waiting, key, sizeof(key));
	core_run_extra(r)->ticket->waits = false;
	core_run_extra(r)->ticket->lane->waiting--;
}

static void holder_key(char key[HOLDER_KEY], const struct core_ticket *k)
{
	core_be(key, k->lane->id);
	core_be(key + ID, k->seq);
}

static void hold(struct core *c, struct core_run *r)
{
	char key[HOLDER_KEY];

	holder_key(key, core_run_extra(r)->ticket);
	put(c->holders, key, sizeof(key), r);
	core_run_extra(r)->ticket->lane->active++;
}

static void ticket_free(struct core *c, struct core_run *r)
{
	base_slab_release(c->slab, r->extra->ticket, sizeof(*r->extra->ticket));
	r->extra->ticket = NULL;
}

void core_slot_update(struct core *c, struct core_run *r)
{
	bool awake = r->state == CORE_RUN_ACTIVE && (r->open == 0 || r->sent > 0);

	if (awake == r->awake)
		return;
	r->awake = awake;
	BASE_CHECK(awake || c->awake > 0);
	c->awake = awake ? c->awake + 1 : c->awake - 1;
}

/* It goes: the lane and the rate count it. */
static void enter(struct core *c, struct core_run *r, uint64_t seq)
{
	struct core_lane *l = core_run_extra(r)->ticket->lane;

	core_run_extra(r)->ticket->seq = seq;
	l->served_ms = c->time_ms;
	l->served_seq = seq;
	bucket_take(c, core_run_extra(r)->ticket->bucket);
	core_run_extra(r)->ticket->bucket = NULL;
	if (l->keyed)
		hold(c, r);
	else
		ticket_free(c, r);
	lane_settle(c, l);
}

static void queue(struct core *c, struct core_run *r, int64_t begin_ms)
{
	struct core_ticket *k = core_run_extra(r)->ticket;

	r->state = CORE_RUN_QUEUED;
	c->queued++;
	k->lane->members++;
	bucket_members(c, k->bucket, 1);
	k->since_ms = begin_ms > c->time_ms ? begin_ms : c->time_ms;
	if (begin_ms > c->time_ms)
		core_timer_add(c, CORE_TIMER_RUN, r->id, 0, begin_ms);
	else
		wait_add(c, r);
	place(c, k->lane);
}

static void unqueue(struct core *c, struct core_run *r)
{
	BASE_CHECK(c->queued > 0 && core_run_extra(r)->ticket->lane->members > 0);
	wait_drop(c, r);
	c->queued--;
	core_run_extra(r)->ticket->lane->members--;
	bucket_members(c, core_run_extra(r)->ticket->bucket, -1);
}

struct base_str core_lane_key(const struct core_run *r)
{
	const struct core_ticket *k = core_run_extra(r)->ticket;
	struct base_str flow, key;

	return k && k->lane->keyed && base_str_cut(k->lane->name, CORE_LANE_SEPARATOR, &flow, &key)
		       ? key
		       : BASE_STR_NONE;
}

/* The next generation has the place of the one before. */
static void inherit(struct core *c, struct core_run *before, struct core_run *r)
{
	struct core_ticket *k = core_run_extra(before)->ticket;
	char key[HOLDER_KEY];

	if (!k)
		return;
	BASE_CHECK(k->seq);
	holder_key(key, k);
	drop(c->holders, key, sizeof(key));
	before->extra->ticket = NULL;
	core_run_extend(c, r)->ticket = k;
	put(c->holders, key, sizeof(key), r);
}

void core_admit_started(struct core_apply *a, struct core_run *r, const struct core_run_started *e)
{
	struct core *c = a->c;
	struct core_ticket *k;
	struct core_bucket *b;

	buckets_expire(c);
	if (e->previous) {
		inherit(c, core_run_find(c, e->previous), r);
		core_slot_update(c, r);
		return;
	}
	b = e->rate.len ? bucket_of(c, r->flow, e->rate) : NULL;
	if (e->priority)
		core_run_extend(c, r)->priority = (int8_t)e->priority;
	if (!e->queued && e->lane.len == 0) {
		bucket_take(c, b);
	} else {
		k = base_slab_alloc(c->slab, sizeof(*k));
		k->lane = lane_of(c, r->flow, e->lane);
		k->bucket = b;
		core_run_extend(c, r)->ticket = k;
		if (e->queued)
			queue(c, r, e->begin_ms);
		else
			enter(c, r, a->seq);
	}
	core_slot_update(c, r);
}

void core_admit_admitted(struct core_apply *a, struct core_run *r)
{
	BASE_CHECK(r && r->state == CORE_RUN_QUEUED);
	unqueue(a->c, r);
	r->state = CORE_RUN_ACTIVE;
	enter(a->c, r, a->seq);
	core_slot_update(a->c, r);
	core_act(a, &(struct core_act){.type = CORE_ACT_RUN_LOAD, .run = r->id});
}

void core_admit_ended(struct core *c, struct core_run *r)
{
	struct core_lane *l = core_run_extra(r)->ticket ? core_run_extra(r)->ticket->lane : NULL;
	char key[HOLDER_KEY];

	core_slot_update(c, r);
	if (!l)
		return;
	if (core_run_extra(r)->ticket->seq) {
		holder_key(key, core_run_extra(r)->ticket);
		drop(c->holders, key, sizeof(key));
		l->active--;
	} else {
		unqueue(c, r);
	}
	ticket_free(c, r);
	lane_settle(c, l);
}

/* --- time --- */

bool core_admit_timer_live(const struct core *c, const struct base_heap_item *t)
{
	const struct core_bucket *b;
	const struct core_run *r;

	if (t->kind == CORE_TIMER_RATE) {
		b = base_idmap_get(c->bucket_ids, t->id);
		return b && b->armed_ms == t->when;
	}
	r = core_run_find(c, t->id);
	return r && core_run_extra(r)->ticket && !core_run_extra(r)->ticket->seq &&
	       !core_run_extra(r)->ticket->waits && core_run_extra(r)->ticket->since_ms == t->when;
}

static void promote(struct core *c, int64_t now_ms)
{
	struct base_heap_item item;

	while (core_timer_next(c, &item) && item.when <= now_ms) {
		struct core_run *r = core_run_find(c, item.id);
		struct core_bucket *b = base_idmap_get(c->bucket_ids, item.id);

		if (item.kind != CORE_TIMER_RUN && item.kind != CORE_TIMER_RATE)
			return;
		base_heap_pop(c->timers, &item);
		if (item.kind == CORE_TIMER_RUN) {
			wait_add(c, r);
			place(c, core_run_extra(r)->ticket->lane);
		} else {
			b->armed_ms = 0;
			expose(c, b, now_ms);
		}
	}
}

bool core_admit_timer_due(struct core *c, int64_t now_ms, struct base_heap_item *ret)
{
	promote(c, now_ms);
	return core_timer_next(c, ret) && ret->when <= now_ms;
}

/* --- snapshots --- */

void core_ticket_put(struct base_buf *b, const struct core_run_extra *x)
{
	const struct core_ticket *k = x->ticket;

	base_put_i64(b, x->priority);
	base_put_u64(b, k != NULL);
	if (!k)
		return;
	base_put_str(b, k->lane->name);
	base_put_str(b, k->bucket ? k->bucket->name : BASE_STR_NONE);
	base_put_i64(b, k->since_ms);
	base_put_u64(b, k->seq);
}

static struct base_str key_part(struct base_str name)
{
	for (size_t i = 0; i < name.len; i++)
		if (name.ptr[i] == CORE_LANE_SEPARATOR)
			return base_str_sub(name, i + 1, name.len);
	return BASE_STR_NONE;
}

void core_ticket_get(struct core *c, struct base_reader *rd, struct core_run *r)
{
	struct base_str lane, rate;
	struct core_ticket *k;

	r->extra->priority = (int8_t)base_get_i64(rd);
	if (base_get_u64(rd) == 0 || rd->failed)
		return;
	r->extra->ticket = k = base_slab_alloc(c->slab, sizeof(*k));
	lane = base_get_str(rd);
	rate = base_get_str(rd);
	k->since_ms = base_get_i64(rd);
	k->seq = base_get_u64(rd);
	k->lane = base_names_get(c->lanes, lane);
	k->bucket = rate.len ? base_names_get(c->buckets, rate) : NULL;
	if (!k->lane || (rate.len && !k->bucket) || (k->seq == 0) != (r->state == CORE_RUN_QUEUED)) {
		rd->failed = 1;
		return;
	}
	if (k->seq) {
		hold(c, r);
		return;
	}
	c->queued++;
	k->lane->members++;
	bucket_members(c, k->bucket, 1);
	if (k->since_ms > c->time_ms)
		core_timer_add(c, CORE_TIMER_RUN, r->id, 0, k->since_ms);
	else
		wait_add(c, r);
}

void core_admit_put(const struct core *c, struct base_buf *b)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	core_ended_save(c, b);
	base_put_u64(b, base_names_count(c->lanes));
	for (bool first = true; base_names_seek(c->lanes, at, first, &at, &value); first = false) {
		const struct core_lane *l = value;

		base_put_str(b, at);
		base_put_str(b, l->flow ? l->flow->name : BASE_STR_NONE);
		base_put_i64(b, l->served_ms);
		base_put_u64(b, l->served_seq);
	}
	at = BASE_STR_NONE;
	base_put_u64(b, base_names_count(c->buckets));
	for (bool first = true; base_names_seek(c->buckets, at, first, &at, &value); first = false) {
		const struct core_bucket *k = value;

		base_put_str(b, at);
		base_put_str(b, k->flow ? k->flow->name : BASE_STR_NONE);
		base_put_i64(b, k->next_us);
	}
}

void core_admit_get(struct core *c, struct base_reader *rd)
{
	uint64_t n;

	core_ended_load(c, rd);
	n = base_get_u64(rd);
	for (uint64_t i = 0; i < n && !rd->failed; i++) {
		struct base_str name = base_get_str(rd), flow = base_get_str(rd);
		struct core_lane *l = lane_of(c, base_names_get(c->flows, flow), key_part(name));

		l->served_ms = base_get_i64(rd);
		l->served_seq = base_get_u64(rd);
	}
	n = base_get_u64(rd);
	for (uint64_t i = 0; i < n && !rd->failed; i++) {
		struct base_str name = base_get_str(rd), flow = base_get_str(rd);
		struct core_bucket *b;

		b = bucket_of(c, base_names_get(c->flows, flow), key_part(name));
		bucket_idle(c, b, false);
		b->next_us = base_get_i64(rd);
		bucket_idle(c, b, true);
	}
}

void core_admit_restored(struct core *c)
{
	struct base_str at = BASE_STR_NONE;
	size_t cursor = 0;
	uint64_t id;
	void *value;

	for (bool first = true; base_names_seek(c->lanes, at, first, &at, &value); first = false)
		place(c, value);
	while (base_idmap_next(c->runs, &cursor, &id, &value))
		core_slot_update(c, value);
	core_wait_restored(c);
}

/* --- check --- */

static uint32_t count_of(const struct base_names *set, uint64_t id)
{
	uint32_t n = 0;
	struct base_str key;
	char from[ID];
	void *value;

	core_be(from, id);
	for (bool ok = base_names_seek(set, bytes(from, ID), true, &key, &value);
		ok && memcmp(key.ptr, from, ID) == 0; ok = base_names_seek(set, key, false, &key, &value))
		n++;
	return n;
}

static void check_runs(const struct core *c)
{
	uint64_t queued = 0, awake = 0, waits = 0, holds = 0, id;
	size_t cursor = 0;
	void *value;

	while (base_idmap_next(c->runs, &cursor, &id, &value)) {
		const struct core_run *r = value;
		const struct core_ticket *k = core_run_extra(r)->ticket;

		BASE_CHECK((r->state == CORE_RUN_QUEUED) == (k && k->seq == 0)); /* A1 */
		BASE_CHECK(r->state != CORE_RUN_QUEUED || r->open == 0);	 /* A1 */
		BASE_CHECK(!k || r->state != CORE_RUN_ENDED);			 /* A2 */
		BASE_CHECK(
			r->awake == (r->state == CORE_RUN_ACTIVE && (r->open == 0 || r->sent > 0))); /* A5 */
		queued += r->state == CORE_RUN_QUEUED;
		awake += r->awake;
		waits += k && k->waits;
		holds += k && k->seq;
	}
	BASE_CHECK(queued == c->queued && awake == c->awake); /* A1, A5 */
	BASE_CHECK(
		waits == base_names_count(c->waiting) && holds == base_names_count(c->holders)); /* A2, A3 */
}

void core_admit_check(const struct core *c)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	check_runs(c);
	core_wait_check(c);
	for (bool first = true; base_names_seek(c->lanes, at, first, &at, &value); first = false) {
		const struct core_lane *l = value;
		bool room = (int64_t)l->active < core_lane_limit(l);

		BASE_CHECK(l->active || l->members); /* A6 */
		BASE_CHECK(l->active == count_of(c->holders, l->id) &&
			   l->waiting == count_of(c->waiting, l->id)); /* A2, A3 */
		BASE_CHECK(l->waiting <= l->members && l->due == must_act(l));
		BASE_CHECK(l->placed == (l->waiting && room && !l->due)); /* A4 */
		BASE_CHECK(!l->placed || l->bucket ||
			   base_names_get(c->ready, bytes(l->place + ID, ORDER_KEY)) == l); /* A4 */
	}
	at = BASE_STR_NONE;
	for (bool first = true; base_names_seek(c->buckets, at, first, &at, &value); first = false) {
		const struct core_bucket *b = value;

		BASE_CHECK(b->exposed || b->armed_ms || count_of(c->blocked, b->id) == 0); /* A4 */
	}
	at = BASE_STR_NONE;
	for (bool first = true; base_names_seek(c->waiting, at, first, &at, &value); first = false) {
		const struct core_run *r = value;

		BASE_CHECK(core_run_extra(r)->ticket &&
			   core_run_extra(r)->ticket->lane->id == core_from_be(at.ptr)); /* A3 */
	}
}
