/* Undo lists, checkpoints and rollbacks as bytes. Which list holds what is not settled is derived. */
#include "base/check.h"
#include "core/undo_int.h"

static void put_item(struct base_buf *b, const struct core_undoable *i)
{
	base_put_u64(b, i->seq);
	base_put_u64(b, i->seq_end);
	base_put_u64(b, i->run);
	base_put_u64(b, i->step);
	base_put_u64(b, i->action);
	base_put_u64(b, i->state);
	base_put_u64(b, i->by_run);
	base_put_u64(b, i->by_step);
	base_put_str(b, i->customer);
}

static void put_work(struct base_buf *b, const struct core_rollback *w)
{
	base_put_u64(b, w->target);
	base_put_u64(b, w->step);
	base_put_u64(b, w->to);
	base_put_u64(b, w->then);
	base_put_u64(b, w->current);
	base_put_i64(b, w->due_ms);
	base_put_str(b, w->name);
	base_put_str(b, w->by);
	base_put_str(b, w->reason);
	base_put_u64(b, w->done_count);
	for (uint32_t k = 0; k < w->done_count; k++) {
		const struct core_undone *d = &w->done[k];

		base_put_u64(b, d->run);
		base_put_u64(b, d->step);
		base_put_u64(b, d->action);
		base_put_u64(b, d->undo_step);
		base_put_u64(b, d->outcome);
	}
}

void core_undo_put(struct base_buf *b, const struct core_undo *u)
{
	base_put_u64(b, u->run);
	base_put_u64(b, u->rollback);
	base_put_u64(b, u->checkpoints);
	for (uint32_t i = 0; i < u->checkpoints; i++) {
		base_put_u64(b, u->checkpoint[i].seq);
		base_put_u64(b, u->checkpoint[i].step);
		base_put_str(b, u->checkpoint[i].name);
	}
	base_put_u64(b, u->count);
	for (uint32_t i = 0; i < u->count; i++)
		put_item(b, &u->item[i]);
	base_put_u64(b, u->work != NULL);
	if (u->work)
		put_work(b, u->work);
}

static uint32_t u32(struct base_reader *r)
{
	return (uint32_t)base_get_uint(r, UINT32_MAX);
}

/* A count that the rest of the snapshot can hold: what is damaged asks for no memory. */
static uint32_t count(struct base_reader *r)
{
	uint32_t n = u32(r);

	if (n > r->end - r->at)
		r->failed = 1;
	return r->failed ? 0 : n;
}

static struct base_str text(struct core *c, struct base_reader *r)
{
	return base_slab_dup(c->slab, base_get_str(r));
}

static void get_item(struct core *c, struct base_reader *r, struct core_undo *u, struct core_undoable *i)
{
	i->seq = base_get_u64(r);
	i->seq_end = base_get_u64(r);
	i->run = base_get_u64(r);
	i->step = u32(r);
	i->action = u32(r);
	i->state = (uint8_t)base_get_uint(r, 255);
	i->by_run = base_get_u64(r);
	i->by_step = u32(r);
	i->customer = text(c, r);
	if (i->action >= c->action_count)
		r->failed = 1;
	if (i->state == CORE_UNDO_READY || r->failed)
		return;
	u->unsettled++;
	if (base_idmap_put(c->undo_owners, i->seq, (void *)(uintptr_t)u->run) < 0)
		r->failed = 1;
}

static void get_work(struct core *c, struct base_reader *r, struct core_undo *u)
{
	struct core_rollback *w = base_slab_alloc(c->slab, sizeof(*w));

	u->work = w;
	w->target = base_get_u64(r);
	w->step = u32(r);
	w->to = u32(r);
	w->then = (uint8_t)base_get_uint(r, 255);
	w->current = base_get_u64(r);
	w->due_ms = base_get_i64(r);
	w->name = text(c, r);
	w->by = text(c, r);
	w->reason = text(c, r);
	w->done_cap = count(r);
	if (w->done_cap)
		w->done = base_slab_alloc(c->slab, w->done_cap * sizeof(*w->done));
	for (; w->done_count < w->done_cap && !r->failed; w->done_count++) {
		struct core_undone *d = &w->done[w->done_count];

		d->run = base_get_u64(r);
		d->step = u32(r);
		d->action = u32(r);
		d->undo_step = u32(r);
		d->outcome = (uint8_t)base_get_uint(r, 255);
	}
	if (w->due_ms)
		core_timer_add(c, CORE_TIMER_UNDO, u->run, 0, w->due_ms);
}

void core_undo_get(struct core *c, struct base_reader *r)
{
	struct core_undo *u = base_slab_alloc(c->slab, sizeof(*u));

	u->run = base_get_u64(r);
	u->rollback = base_get_u64(r);
	u->checkpoint_cap = count(r);
	if (u->checkpoint_cap)
		u->checkpoint = base_slab_alloc(c->slab, u->checkpoint_cap * sizeof(*u->checkpoint));
	for (; u->checkpoints < u->checkpoint_cap && !r->failed; u->checkpoints++) {
		struct core_checkpoint *p = &u->checkpoint[u->checkpoints];

		p->seq = base_get_u64(r);
		p->step = u32(r);
		p->name = text(c, r);
	}
	u->cap = count(r);
	if (u->cap)
		u->item = base_slab_alloc(c->slab, u->cap * sizeof(*u->item));
	for (; u->count < u->cap && !r->failed; u->count++)
		get_item(c, r, u, &u->item[u->count]);
	if (base_get_u64(r))
		get_work(c, r, u);
	if (!r->failed && base_idmap_put(c->undos, u->run, u) < 0)
		r->failed = 1;
}
