/*
 * Undo lists, checkpoints and rollbacks into the state.
 *
 * Invariants (core_undo_check walks them):
 *  U1  A list stands in the order of start; a step stands in one list at most, and in none once it was undone or
 *      given up: so nothing is undone twice.
 *  U2  An item that is OPEN belongs to a step that is open; one that is RUNNING to an open step of the undo run that
 *      is at it, and no other undo run begins before that has an end.
 *  U3  A run has a rollback if and only if its undo run has not ended; a run is UNDOING only with one.
 *  U4  An undo run that is ACTIVE moves: it has an open step, or waits for an item that is not settled, or is due.
 */
#include <string.h>

#include "base/check.h"
#include "core/undo_int.h"

struct core_undo *core_undo_find(const struct core *c, uint64_t run)
{
	return base_idmap_get(c->undos, run);
}

bool core_run_is_undo(const struct core_run *r)
{
	return r && (r->flags & CORE_RUN_UNDO);
}

static struct core_undo *undo_of(struct core *c, uint64_t run)
{
	struct core_undo *u = core_undo_find(c, run);

	if (u)
		return u;
	u = base_slab_alloc(c->slab, sizeof(*u));
	u->run = run;
	BASE_CHECK(base_idmap_put(c->undos, run, u) == 0);
	return u;
}

struct core_undo *core_undo_owner(const struct core *c, uint64_t seq)
{
	uint64_t run = (uintptr_t)base_idmap_get(c->undo_owners, seq);

	return run ? core_undo_find(c, run) : NULL;
}

struct core_undoable *core_undo_item(const struct core_undo *u, uint64_t seq)
{
	uint32_t lo = 0, hi = u->count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (u->item[mid].seq < seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < u->count && u->item[lo].seq == seq ? &u->item[lo] : NULL;
}

static void own(struct core *c, const struct core_undo *u, const struct core_undoable *i)
{
	if (i->state == CORE_UNDO_READY)
		base_idmap_remove(c->undo_owners, i->seq);
	else
		BASE_CHECK(base_idmap_put(c->undo_owners, i->seq, (void *)(uintptr_t)u->run) == 0);
}

static void set_state(struct core *c, struct core_undo *u, struct core_undoable *i, uint8_t state)
{
	u->unsettled -= i->state != CORE_UNDO_READY;
	i->state = state;
	u->unsettled += state != CORE_UNDO_READY;
	if (state != CORE_UNDO_RUNNING)
		i->by_run = i->by_step = 0;
	own(c, u, i);
}

static void reserve(struct core *c, struct core_undo *u, uint32_t more)
{
	uint32_t cap = u->cap ? u->cap * 2 : 4;

	if (u->cap - u->count >= more)
		return;
	if (cap < u->count + more)
		cap = u->count + more;
	u->item = base_slab_grow(c->slab, u->item, u->cap, cap, sizeof(*u->item));
	u->cap = cap;
}

/* A step that begins now: it goes behind all others. */
static void add(struct core *c, struct core_undo *u, const struct core_undoable *i)
{
	BASE_CHECK(!u->count || u->item[u->count - 1].seq < i->seq);
	reserve(c, u, 1);
	u->item[u->count++] = *i;
	u->unsettled += i->state != CORE_UNDO_READY;
	own(c, u, i);
}

static void take_out(struct core *c, struct core_undo *u, struct core_undoable *i)
{
	size_t at = (size_t)(i - u->item);

	u->unsettled -= i->state != CORE_UNDO_READY;
	base_idmap_remove(c->undo_owners, i->seq);
	base_slab_str_release(c->slab, i->customer);
	memmove(i, i + 1, (u->count - at - 1) * sizeof(*i));
	u->count--;
}

/* Moves what began after `from_seq` from one list to another; to NULL: nobody will undo it. */
static void move_items(struct core *c, struct core_undo *from, struct core_undo *to, uint64_t from_seq)
{
	uint32_t first = from->count, n, old, at;

	while (first && from->item[first - 1].seq > from_seq)
		first--;
	n = from->count - first;
	while (!to && from->count > first)
		take_out(c, from, &from->item[from->count - 1]);
	if (!to || n == 0)
		return;
	reserve(c, to, n);
	old = to->count;
	to->count += n;
	for (at = to->count; n > 0;) { /* from the back: most of it is later than all that is there */
		struct core_undoable *i = &from->item[first + n - 1];

		if (old && to->item[old - 1].seq > i->seq) {
			to->item[--at] = to->item[--old];
			continue;
		}
		to->item[--at] = *i;
		own(c, to, i);
		from->unsettled -= i->state != CORE_UNDO_READY;
		to->unsettled += i->state != CORE_UNDO_READY;
		n--;
	}
	from->count = first;
}

/* --- an undo run moves --- */

void core_undo_wake(struct core_apply *a, const struct core_run *r)
{
	struct core_undo *u = core_undo_find(a->c, r->id);

	if (!u || !u->work || r->state != CORE_RUN_ACTIVE || r->open || u->unsettled || u->work->due_ms)
		return;
	u->work->due_ms = a->time_ms;
	core_timer_add(a->c, CORE_TIMER_UNDO, r->id, 0, a->time_ms);
}

void core_undo_sleep(struct core_apply *a, const struct core_run *r)
{
	struct core_undo *u = core_undo_find(a->c, r->id);

	if (u && u->work)
		u->work->due_ms = 0;
}

static void wake_owner(struct core_apply *a, const struct core_undo *u)
{
	const struct core_run *r = core_run_find(a->c, u->run);

	if (r)
		core_undo_wake(a, r);
}

/* --- steps --- */

static bool has_undo(struct base_str opts, struct core *c, struct base_str *ret_customer)
{
	struct base_json *doc;
	bool has;

	*ret_customer = BASE_STR_NONE;
	if (opts.len == 0 || !memmem(opts.ptr, opts.len, "\"undo\"", 6) ||
		base_json_parse(opts, &doc, NULL) < 0)
		return false;
	has = base_jv_kind(base_jv_get(base_json_root(doc), "undo")) == BASE_JSON_OBJ;
	if (has)
		*ret_customer =
			base_slab_dup(c->slab, base_jv_str(base_jv_get(base_json_root(doc), "customer")));
	base_json_free(doc);
	return has;
}

void core_undo_called(
	struct core_apply *a, struct core_run *r, uint32_t step, const struct core_step_called *e)
{
	struct core_undoable i = {.seq = a->seq, .run = r->id, .step = step};
	struct core *c = a->c;
	struct core_undo *u;

	if (core_run_is_undo(r)) {
		u = core_undo_find(c, r->id);
		BASE_CHECK(u && u->work && u->count && !u->work->current);
		u->work->due_ms = 0;
		u->work->current = u->item[u->count - 1].seq;
		u->item[u->count - 1].by_run = r->id;
		u->item[u->count - 1].by_step = step;
		set_state(c, u, &u->item[u->count - 1], CORE_UNDO_RUNNING);
		return;
	}
	if (e->status == CORE_STEP_FAILED || !has_undo(e->opts, c, &i.customer))
		return;
	i.action = r->step[step].action;
	i.state = e->status == CORE_STEP_DONE ? CORE_UNDO_READY : CORE_UNDO_OPEN;
	i.seq_end = e->status == CORE_STEP_DONE ? a->seq : 0;
	add(c, undo_of(c, r->id), &i);
}

void core_undo_step_end(struct core_apply *a, const struct core_step *s, bool ok)
{
	struct core_undo *u = core_undo_owner(a->c, s->seq);
	struct core_undoable *i = u ? core_undo_item(u, s->seq) : NULL;

	if (!i || i->state != CORE_UNDO_OPEN)
		return;
	i->seq_end = a->seq;
	if (ok)
		set_state(a->c, u, i, CORE_UNDO_READY);
	else
		take_out(a->c, u, i);
	wake_owner(a, u);
}

bool core_undo_counts(const struct core *c, const struct core_run *r, const struct core_step *s)
{
	return core_run_is_undo(r) || base_idmap_get(c->undo_owners, s->seq);
}

static void checkpoints_drop(struct core *c, struct core_undo *u, uint64_t from_seq)
{
	while (u->checkpoints && u->checkpoint[u->checkpoints - 1].seq > from_seq)
		base_slab_str_release(c->slab, u->checkpoint[--u->checkpoints].name);
}

/* A checkpoint that is made again stands where it was made last. */
static void checkpoint_add(struct core_apply *a, struct core_run *r, uint32_t step, struct base_str name)
{
	struct core_undo *u = undo_of(a->c, r->id);
	uint32_t at = 0;

	while (at < u->checkpoints && !base_str_eq(u->checkpoint[at].name, name))
		at++;
	if (at < u->checkpoints) {
		base_slab_str_release(a->c->slab, u->checkpoint[at].name);
		memmove(&u->checkpoint[at], &u->checkpoint[at + 1],
			(u->checkpoints - at - 1) * sizeof(*u->checkpoint));
		u->checkpoints--;
	}
	if (u->checkpoints == u->checkpoint_cap) {
		uint32_t cap = u->checkpoint_cap ? u->checkpoint_cap * 2 : 2;

		u->checkpoint = base_slab_grow(
			a->c->slab, u->checkpoint, u->checkpoint_cap, cap, sizeof(*u->checkpoint));
		u->checkpoint_cap = cap;
	}
	u->checkpoint[u->checkpoints++] = (struct core_checkpoint){
		.name = base_slab_dup(a->c->slab, name), .seq = a->seq, .step = step};
}

void core_undo_checkpoint(struct core_apply *a, struct core_run *r, uint32_t step, struct base_str args)
{
	struct base_json *doc;

	BASE_CHECK(base_json_parse(args, &doc, NULL) == 0);
	checkpoint_add(a, r, step, base_jv_str(base_jv_get(base_json_root(doc), "name")));
	base_json_free(doc);
}

/* --- the end of a run --- */

struct core_run *core_undo_heir(const struct core *c, const struct core_run *r)
{
	struct core_run *at = core_run_parent(c, r);

	while (at && at->state == CORE_RUN_ENDED && !core_run_is_undo(at))
		at = core_run_parent(c, at);
	return at && !core_run_is_undo(at) ? at : NULL; /* what an undo did is not undone */
}

/* The undo that was under way when its run ended: it goes on (it left the house), or never left. */
static void leave_current(struct core_apply *a, struct core_run *r, struct core_undo *u)
{
	struct core_undoable *i = core_undo_item(u, u->work->current);
	const struct core_step *s = &r->step[i->by_step];

	if (core_step_open(s))
		return;
	u->work->current = 0;
	if (s->klass == CORE_INTERNAL)
		take_out(a->c, u, i); /* a flow or an agent that was at it: nobody can say how far it came */
	else
		set_state(a->c, u, i, CORE_UNDO_READY);
}

void core_undo_inherit(struct core_apply *a, const struct core_run *r, uint64_t from)
{
	const struct core_run *source = core_run_find(a->c, from);
	struct core_undo *old = core_undo_find(a->c, from), *u;

	if (!source || source->state != CORE_RUN_UNDOING || !old || old->rollback)
		return;
	u = undo_of(a->c, r->id);
	u->checkpoint = old->checkpoint;
	u->checkpoints = old->checkpoints;
	u->checkpoint_cap = old->checkpoint_cap;
	old->checkpoint = NULL;
	old->checkpoints = old->checkpoint_cap = 0;
	move_items(a->c, old, u, 0);
}

void core_undo_ended(struct core_apply *a, struct core_run *r)
{
	struct core *c = a->c;
	struct core_undo *u = core_undo_find(c, r->id), *to;
	struct core_run *heir;

	if (!u)
		return;
	if (u->work) {
		u->work->due_ms = 0;
		if (u->work->current)
			leave_current(a, r, u);
		to = core_undo_find(c, u->work->target);
		if (to)
			to->rollback = 0;
	}
	checkpoints_drop(c, u, 0);
	heir = core_undo_heir(c, r);
	if (!u->count)
		return;
	to = heir ? undo_of(c, heir->id) : NULL;
	move_items(c, u, to, 0);
}

void core_undo_forget(struct core *c, uint64_t run)
{
	struct core_undo *u = base_idmap_remove(c->undos, run);

	if (!u)
		return;
	BASE_CHECK(u->count == 0 && u->checkpoints == 0);
	base_slab_release(c->slab, u->item, u->cap * sizeof(*u->item));
	base_slab_release(c->slab, u->checkpoint, u->checkpoint_cap * sizeof(*u->checkpoint));
	if (u->work) {
		base_slab_str_release(c->slab, u->work->name);
		base_slab_str_release(c->slab, u->work->by);
		base_slab_str_release(c->slab, u->work->reason);
		base_slab_release(c->slab, u->work->done, u->work->done_cap * sizeof(*u->work->done));
		base_slab_release(c->slab, u->work, sizeof(*u->work));
	}
	base_slab_release(c->slab, u, sizeof(*u));
}

/* --- events --- */

static void apply_rollback(struct core_apply *a, const struct core_rollback_started *e)
{
	struct core *c = a->c;
	struct core_run *r = core_run_find(c, e->run), *run = core_run_find(c, e->undo);
	struct core_undo *from = undo_of(c, e->run), *u = undo_of(c, e->undo);
	uint64_t from_seq = 0;

	BASE_CHECK(r && core_run_is_undo(run) && !from->rollback && !u->work);
	for (uint32_t i = 0; i < from->checkpoints; i++)
		if (e->name.len && base_str_eq(from->checkpoint[i].name, e->name))
			from_seq = from->checkpoint[i].seq;
	BASE_CHECK(from_seq || !e->name.len);
	u->work = base_slab_alloc(c->slab, sizeof(*u->work));
	*u->work = (struct core_rollback){.target = e->run,
		.step = e->step,
		.to = e->to,
		.then = e->then,
		.name = base_slab_dup(c->slab, e->name),
		.by = base_slab_dup(c->slab, e->by),
		.reason = base_slab_dup(c->slab, e->reason)};
	from->rollback = e->undo;
	checkpoints_drop(c, from, from_seq);
	if (e->then) {
		core_act(a, &(struct core_act){.type = CORE_ACT_RUN_DROP, .run = r->id});
		r->state = CORE_RUN_UNDOING;
		r->flags |= CORE_RUN_STOPPED;
		core_run_extend(c, r)->seq_stopped = a->seq;
		core_slot_update(c, r);
		core_deadline_drop(c, r, UINT32_MAX);
		core_run_drop_steps(a, r, true);
		core_apply_let_go(
			a, r); /* of a run that was restored, what may have happened is settled now */
	}
	core_run_close_gates(a, r);
	move_items(c, from, u, from_seq);
	core_undo_wake(a, run);
}

static void note_done(struct core *c, struct core_rollback *w, const struct core_undoable *i,
	uint32_t undo_step, uint8_t outcome)
{
	if (w->done_count == w->done_cap) {
		uint32_t cap = w->done_cap ? w->done_cap * 2 : 4;

		w->done = base_slab_grow(c->slab, w->done, w->done_cap, cap, sizeof(*w->done));
		w->done_cap = cap;
	}
	w->done[w->done_count++] = (struct core_undone){.run = i->run,
		.step = i->step,
		.action = i->action,
		.undo_step = undo_step,
		.outcome = outcome};
}

static void apply_undone(struct core_apply *a, const struct core_step_undone *e)
{
	struct core *c = a->c;
	struct core_run *run = core_run_find(c, e->undo);
	struct core_undo *u = core_undo_find(c, e->undo), *owner = core_undo_owner(c, e->seq);
	struct core_undoable *i;

	if (u && u->work && u->work->current == e->seq)
		u->work->current = 0;
	if (!owner && u && core_undo_item(u, e->seq)) /* one that had failed is given up */
		owner = u;
	i = owner ? core_undo_item(owner, e->seq) : NULL;
	if (!i) /* the run that it belonged to is gone */
		return;
	if (e->outcome == CORE_FAILED) {
		set_state(c, owner, i, CORE_UNDO_READY);
	} else {
		if (owner == u)
			note_done(c, u->work, i, e->undo_step, e->outcome);
		take_out(c, owner, i);
	}
	wake_owner(a, owner);
	if (owner != u && run)
		core_undo_wake(a, run);
}

void core_apply_undo(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	if (type == CORE_EV_ROLLBACK_STARTED)
		apply_rollback(a, &e->rollback_started);
	else
		apply_undone(a, &e->step_undone);
}

/* --- the invariants --- */

static size_t check_list(const struct core *c, const struct core_undo *u)
{
	uint32_t unsettled = 0;

	for (uint32_t k = 0; k < u->count; k++) {
		const struct core_undoable *i = &u->item[k];
		const struct core_undo *by = core_undo_find(c, i->by_run);

		BASE_CHECK(!k || u->item[k - 1].seq < i->seq); /* U1 */
		BASE_CHECK((i->state == CORE_UNDO_OPEN) == (i->seq_end == 0));
		if (i->state == CORE_UNDO_OPEN) /* U2 */
			BASE_CHECK(core_step_open(core_step_find(core_run_find(c, i->run), i->step)));
		if (i->state == CORE_UNDO_RUNNING) {
			BASE_CHECK(by && by->work && by->work->current == i->seq);
			BASE_CHECK(core_step_open(core_step_find(core_run_find(c, i->by_run), i->by_step)));
		}
		if (i->state == CORE_UNDO_READY)
			continue;
		unsettled++;
		BASE_CHECK(core_undo_owner(c, i->seq) == u); /* U1 */
	}
	BASE_CHECK(u->unsettled == unsettled);
	return unsettled;
}

void core_undo_check(const struct core *c)
{
	size_t cursor = 0, unsettled = 0;
	uint64_t id;
	void *value;

	while (base_idmap_next(c->undos, &cursor, &id, &value)) {
		const struct core_undo *u = value, *other;
		const struct core_run *r = core_run_find(c, id), *undo;

		BASE_CHECK(r && u->run == id && (u->work != NULL) <= core_run_is_undo(r));
		unsettled += check_list(c, u);
		undo = core_run_find(c, u->rollback);
		other = core_undo_find(c, u->rollback);
		if (u->rollback) /* U3 */
			BASE_CHECK(other && other->work->target == id && undo->state != CORE_RUN_ENDED);
		BASE_CHECK(r->state != CORE_RUN_UNDOING || u->rollback);
		if (!u->work)
			continue;
		other = core_undo_find(c, u->work->target);
		BASE_CHECK(r->state == CORE_RUN_ENDED || (other && other->rollback == id)); /* U3 */
		BASE_CHECK((u->work->due_ms != 0) ==
			   (r->state == CORE_RUN_ACTIVE && r->open == 0 && u->unsettled == 0)); /* U4 */
	}
	BASE_CHECK(base_idmap_count(c->undo_owners) == unsettled);
}
