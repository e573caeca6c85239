/* Gates as bytes: who may decide them, who has, who was told. */
#include "core/core_int.h"

static struct base_str text(struct core *c, struct base_reader *r)
{
	return base_slab_dup(c->slab, base_get_str(r));
}

static void put_people(struct base_buf *b, const struct core_gate *g)
{
	uint64_t n = 0;

	for (const struct core_vote *v = g->votes; v; v = v->next)
		n++;
	base_put_u64(b, n);
	for (const struct core_vote *v = g->votes; v; v = v->next) {
		base_put_str(b, v->by);
		base_put_str(b, v->answer);
		base_put_i64(b, v->at_ms);
	}
	n = 0;
	for (const struct core_asked *a = g->asked; a; a = a->next)
		n++;
	base_put_u64(b, n);
	for (const struct core_asked *a = g->asked; a; a = a->next) {
		base_put_str(b, a->who);
		base_put_str(b, a->by);
		base_put_u64(b, a->gone);
	}
}

static void put_told(struct base_buf *b, const struct core_gate *g)
{
	uint64_t n = 0;

	for (const struct core_told *t = g->told; t; t = t->next)
		n++;
	base_put_u64(b, n);
	for (const struct core_told *t = g->told; t; t = t->next) {
		base_put_str(b, t->channel);
		base_put_str(b, t->why);
		base_put_str(b, t->problem);
		base_put_u64(b, t->nth);
		base_put_u64(b, t->state);
		base_put_i64(b, t->at_ms);
	}
	base_put_u64(b, g->announced);
	base_put_u64(b, g->escalated);
	base_put_u64(b, g->reminded);
	base_put_i64(b, g->tell_ms);
	base_put_str(b, g->tell_why);
}

void core_gate_put(struct base_buf *b, const struct core_gate *g)
{
	base_put_u64(b, g->id);
	base_put_u64(b, g->run);
	base_put_u64(b, g->seq);
	base_put_u64(b, g->step);
	base_put_str(b, g->kind);
	base_put_str(b, g->title);
	base_put_str(b, g->rule);
	base_put_str(b, g->on_expiry);
	base_put_str(b, g->allows);
	base_put_hash(b, &g->shown);
	base_put_i64(b, g->opened_ms);
	base_put_i64(b, g->expires_ms);
	base_put_i64(b, g->cost);
	base_put_u64(b, (uint64_t)g->edit | (uint64_t)g->decided << 1);
	base_put_str(b, g->action);
	base_put_str(b, g->fixed);
	base_put_u64(b, g->left);
	base_put_str(b, g->terms_text);
	base_put_str(b, g->sources);
	base_put_u64(b, g->labels);
	put_people(b, g);
	put_told(b, g);
}

static void get_people(struct core *c, struct base_reader *r, struct core_gate *g)
{
	struct core_vote **vote = &g->votes;
	struct core_asked **asked = &g->asked;
	uint64_t n = base_get_u64(r);

	for (; n && !r->failed; n--, vote = &(*vote)->next) {
		*vote = base_slab_alloc(c->slab, sizeof(**vote));
		(*vote)->by = text(c, r);
		(*vote)->answer = text(c, r);
		(*vote)->at_ms = base_get_i64(r);
	}
	n = base_get_u64(r);
	for (; n && !r->failed; n--, asked = &(*asked)->next) {
		*asked = base_slab_alloc(c->slab, sizeof(**asked));
		(*asked)->who = text(c, r);
		(*asked)->by = text(c, r);
		(*asked)->gone = base_get_uint(r, 1) != 0;
	}
}

static void get_told(struct core *c, struct base_reader *r, struct core_gate *g)
{
	struct core_told **at = &g->told;

	for (uint64_t n = base_get_u64(r); n && !r->failed; n--, at = &(*at)->next) {
		*at = base_slab_alloc(c->slab, sizeof(**at));
		(*at)->channel = text(c, r);
		(*at)->why = text(c, r);
		(*at)->problem = text(c, r);
		(*at)->nth = (uint32_t)base_get_uint(r, UINT32_MAX);
		(*at)->state = (uint8_t)base_get_uint(r, CORE_TOLD_FAILED);
		(*at)->at_ms = base_get_i64(r);
	}
	g->announced = (uint32_t)base_get_uint(r, UINT32_MAX);
	g->escalated = (uint32_t)base_get_uint(r, UINT32_MAX);
	g->reminded = (uint32_t)base_get_uint(r, UINT32_MAX);
	g->tell_ms = base_get_i64(r);
	g->tell_why = text(c, r);
	if (g->escalated > g->terms.stage_count)
		r->failed = 1;
}

void core_gate_get(struct core *c, struct base_reader *r)
{
	struct core_gate *g = base_slab_alloc(c->slab, sizeof(*g));
	uint64_t flags;

	g->id = base_get_u64(r);
	g->run = base_get_u64(r);
	g->seq = base_get_u64(r);
	g->step = (uint32_t)base_get_uint(r, UINT32_MAX);
	g->kind = text(c, r);
	g->title = text(c, r);
	g->rule = text(c, r);
	g->on_expiry = text(c, r);
	g->allows = text(c, r);
	base_get_hash(r, &g->shown);
	g->opened_ms = base_get_i64(r);
	g->expires_ms = base_get_i64(r);
	g->cost = base_get_i64(r);
	flags = base_get_u64(r);
	g->edit = flags & 1;
	g->decided = (flags & 2) != 0;
	g->action = text(c, r);
	g->fixed = text(c, r);
	g->left = base_get_u64(r);
	g->terms_text = text(c, r);
	g->sources = text(c, r);
	g->labels = (uint8_t)base_get_uint(r, 255);
	g->terms = core_terms_of(c, g->terms_text);
	get_people(c, r, g);
	get_told(c, r, g);
	if (!r->failed && base_idmap_put(c->gates, g->id, g) < 0)
		r->failed = 1;
	if (!g->decided && g->expires_ms)
		core_timer_add(c, CORE_TIMER_GATE, g->id, 0, g->expires_ms);
}
