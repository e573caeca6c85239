/* Precedents and proposals in the state. Both are bounded: the oldest leaves. */
#include <string.h>

#include "base/check.h"
#include "core/propose.h"

static struct core_proposals *all(struct core *c)
{
	if (!c->proposals)
		c->proposals = base_slab_alloc(c->slab, sizeof(*c->proposals));
	return c->proposals;
}

/* Of what it says, whatever it is called. */
static uint64_t hash_of(struct base_str rule)
{
	static const char *const members[] = {"on", "then", "when"};
	struct base_hash h = base_hash_of(BASE_STR_NONE);
	struct base_json *doc;
	uint64_t v;

	if (base_json_parse(rule, &doc, NULL) == 0) {
		for (size_t i = 0; i < 3; i++)
			h = base_hash_of2((struct base_str){(const char *)h.b, sizeof(h.b)},
				base_jv_str(
					base_jv_get(base_jv_get(base_json_root(doc), "add"), members[i])));
		base_json_free(doc);
	}
	memcpy(&v, h.b, sizeof(v));
	return v;
}

size_t core_precedents_of(const struct core *c, struct base_str action, struct base_str as,
	const struct core_precedent **ret, size_t max)
{
	const struct core_proposals *p = c->proposals;
	size_t n = 0;

	for (uint32_t i = p ? p->precedents : 0; i > 0 && n < max; i--) {
		const struct core_precedent *one = &p->precedent[i - 1];

		if (base_str_eq(one->action, action) && base_str_eq(one->as, as))
			ret[n++] = one;
	}
	return n;
}

/* --- apply --- */

void core_precedent_add(
	struct core *c, const struct core_gate *g, struct base_str action, struct base_str as, bool yes)
{
	struct core_proposals *p = all(c);

	if (p->precedents == CORE_PRECEDENTS_MAX) {
		base_slab_str_release(c->slab, p->precedent[0].action);
		base_slab_str_release(c->slab, p->precedent[0].as);
		p->precedents--;
		memmove(&p->precedent[0], &p->precedent[1], p->precedents * sizeof(p->precedent[0]));
	}
	p->precedent[p->precedents++] = (struct core_precedent){.gate = g->id,
		.seq = g->seq,
		.action = base_slab_dup(c->slab, action),
		.as = base_slab_dup(c->slab, as),
		.yes = yes};
}

static void remove_at(struct core_proposals *p, uint32_t i)
{
	p->proposals--;
	memmove(&p->proposal[i], &p->proposal[i + 1], (p->proposals - i) * sizeof(p->proposal[0]));
	memset(&p->proposal[p->proposals], 0, sizeof(p->proposal[0]));
}

void core_apply_proposal(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	struct core_proposals *p = all(a->c);
	uint64_t hash;

	if (type == CORE_EV_PROPOSAL_CLOSED) {
		for (uint32_t i = 0; i < p->proposals; i++)
			if (p->proposal[i].gate == e->proposal_closed.gate) {
				remove_at(p, i);
				return;
			}
		return;
	}
	hash = hash_of(e->rule_proposed.rule);
	for (uint32_t i = 0; i < p->proposals; i++)
		if (p->proposal[i].hash == hash) {
			remove_at(p, i);
			break;
		}
	if (p->proposals == CORE_PROPOSALS_MAX)
		remove_at(p, 0);
	p->proposal[p->proposals++] =
		(struct core_proposal){.gate = e->rule_proposed.gate, .seq = a->seq, .hash = hash};
}

/* --- reading --- */

size_t core_proposals_open(const struct core *c, uint64_t *ret_seqs, size_t max)
{
	size_t n = 0;

	for (uint32_t i = c->proposals ? c->proposals->proposals : 0; i > 0 && n < max; i--)
		ret_seqs[n++] = c->proposals->proposal[i - 1].seq;
	return n;
}

uint64_t core_proposal_seq(const struct core *c, uint64_t gate)
{
	for (uint32_t i = 0; c->proposals && i < c->proposals->proposals; i++)
		if (c->proposals->proposal[i].gate == gate)
			return c->proposals->proposal[i].seq;
	return 0;
}

/* --- snapshot --- */

void core_proposals_put(const struct core *c, struct base_buf *b)
{
	const struct core_proposals *p = c->proposals;

	base_put_u64(b, p ? p->precedents : 0);
	for (uint32_t i = 0; p && i < p->precedents; i++) {
		base_put_u64(b, p->precedent[i].gate);
		base_put_u64(b, p->precedent[i].seq);
		base_put_str(b, p->precedent[i].action);
		base_put_str(b, p->precedent[i].as);
		base_put_u64(b, p->precedent[i].yes);
	}
	base_put_u64(b, p ? p->proposals : 0);
	for (uint32_t i = 0; p && i < p->proposals; i++) {
		base_put_u64(b, p->proposal[i].gate);
		base_put_u64(b, p->proposal[i].seq);
		base_put_u64(b, p->proposal[i].hash);
	}
}

void core_proposals_get(struct core *c, struct base_reader *r)
{
	uint64_t n = base_get_uint(r, CORE_PRECEDENTS_MAX);
	struct core_proposals *p;

	if (n && !r->failed) {
		p = all(c);
		for (; p->precedents < n && !r->failed; p->precedents++) {
			struct core_precedent *one = &p->precedent[p->precedents];

			one->gate = base_get_u64(r);
			one->seq = base_get_u64(r);
			one->action = base_slab_dup(c->slab, base_get_str(r));
			one->as = base_slab_dup(c->slab, base_get_str(r));
			one->yes = base_get_uint(r, 1) != 0;
		}
	}
	n = base_get_uint(r, CORE_PROPOSALS_MAX);
	if (n && !r->failed) {
		p = all(c);
		for (; p->proposals < n && !r->failed; p->proposals++) {
			p->proposal[p->proposals].gate = base_get_u64(r);
			p->proposal[p->proposals].seq = base_get_u64(r);
			p->proposal[p->proposals].hash = base_get_u64(r);
		}
	}
}
