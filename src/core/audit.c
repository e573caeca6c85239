/*
 * What the log says about itself for those who check it: signed checkpoints, where they were sent, and who looked at what.
 *
 * Invariants (core_check walks them):
 *  C1  Checkpoints go forward: each covers more events than the one before, and none that are not there yet.
 *  C2  A place is known to have at most the newest checkpoint.
 *
 * The signature itself is verified by the engine, before and after: core has no key.
 */
#include "base/check.h"
#include "core/core_int.h"

enum { SIGNATURE = 64, PUBLIC_KEY = 32, LOG_ID = 32 };

void core_decide_log_checkpoint(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	const struct core_audit *a = &t->c->audit;

	if (cmd->bytes.len != SIGNATURE || cmd->key.len != PUBLIC_KEY || cmd->name.len > LOG_ID) {
		core_refuse(t, 400, "invalid", "a checkpoint has a signature of 64 bytes and a key of 32");
		return;
	}
	if (cmd->id <= a->seq || cmd->id > t->c->seq) {
		core_refuse(t, 409, "out_of_order", "the last checkpoint covers event %llu, the log has %llu",
			(unsigned long long)a->seq, (unsigned long long)t->c->seq);
		return;
	}
	core_checkpoint_signed_emit(t->block, cmd->now_ms,
		&(struct core_checkpoint_signed){.seq = cmd->id,
			.root = cmd->hash,
			.public_key = cmd->key,
			.signature = cmd->bytes,
			.log = cmd->name,
			.signed_ms = cmd->base});
	core_reply_json(t, 200, BASE_STR("{}"));
}

static struct core_place *place_of(struct core_audit *a, struct base_str name)
{
	for (unsigned i = 0; i < a->place_count; i++)
		if (base_str_eq(a->place[i].name, name))
			return &a->place[i];
	return NULL;
}

void core_decide_log_checkpoint_sent(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;

	if (!cmd->name.len || cmd->id == 0 || cmd->id > t->c->audit.seq) {
		core_refuse(t, 409, "out_of_order", "there is no such checkpoint");
		return;
	}
	core_checkpoint_sent_emit(t->block, cmd->now_ms,
		&(struct core_checkpoint_sent){
			.seq = cmd->id, .where = cmd->name, .ok = cmd->base == 1, .problem = cmd->body});
	core_reply_json(t, 200, BASE_STR("{}"));
}

void core_decide_seen(struct core_turn *t)
{
	struct base_json *doc = NULL;
	bool list = base_json_parse(t->cmd->body, &doc, NULL) == 0 &&
		    base_jv_kind(base_json_root(doc)) == BASE_JSON_ARR &&
		    base_jv_len(base_json_root(doc)) > 0;

	base_json_free(doc);
	if (!list || !t->cmd->name.len) {
		core_refuse(t, 400, "invalid", "somebody, and a list of what was seen");
		return;
	}
	core_objects_seen_emit(t->block, t->cmd->now_ms,
		&(struct core_objects_seen){.by = t->cmd->name, .how = t->cmd->text, .seen = t->cmd->body});
	core_reply_json(t, 200, BASE_STR("{}"));
}

/* A place that is one too many takes the one that is furthest behind out: it is told everything once more, at worst. */
static void sent(struct core *c, const struct core_checkpoint_sent *e)
{
	struct core_audit *a = &c->audit;
	struct core_place *p = place_of(a, e->where);

	a->own++;
	if (!p && a->place_count < CORE_PLACES_MAX) {
		p = &a->place[a->place_count++];
		core_set_str(c, &p->name, e->where);
	} else if (!p) {
		p = &a->place[0];
		for (unsigned i = 1; i < a->place_count; i++)
			p = a->place[i].seq < p->seq ? &a->place[i] : p;
		core_set_str(c, &p->name, e->where);
		*p = (struct core_place){.name = p->name};
	}
	p->failed = !e->ok;
	p->tried_ms = c->time_ms;
	if (e->ok && e->seq > p->seq)
		p->seq = e->seq;
}

void core_apply_audit(struct core_apply *ap, unsigned type, const union core_event_any *e)
{
	struct core_audit *a = &ap->c->audit;

	if (type == CORE_EV_CHECKPOINT_SIGNED) {
		a->seq = e->checkpoint_signed.seq;
		a->at = ap->seq;
		a->at_ms = ap->time_ms;
		a->own = 1;
	} else if (type == CORE_EV_CHECKPOINT_SENT) {
		sent(ap->c, &e->checkpoint_sent);
	}
}

void core_audit_put(const struct core *c, struct base_buf *b)
{
	const struct core_audit *a = &c->audit;

	base_put_u64(b, a->seq);
	base_put_u64(b, a->at);
	base_put_i64(b, a->at_ms);
	base_put_u64(b, a->own);
	base_put_u64(b, a->place_count);
	for (unsigned i = 0; i < a->place_count; i++) {
		base_put_str(b, a->place[i].name);
		base_put_u64(b, a->place[i].seq);
		base_put_i64(b, a->place[i].tried_ms);
		base_put_u64(b, a->place[i].failed);
	}
}

void core_audit_get(struct core *c, struct base_reader *r)
{
	struct core_audit *a = &c->audit;

	a->seq = base_get_u64(r);
	a->at = base_get_u64(r);
	a->at_ms = base_get_i64(r);
	a->own = base_get_u64(r);
	a->place_count = (unsigned)base_get_uint(r, CORE_PLACES_MAX);
	for (unsigned i = 0; i < a->place_count && !r->failed; i++) {
		core_set_str(c, &a->place[i].name, base_get_str(r));
		a->place[i].seq = base_get_u64(r);
		a->place[i].tried_ms = base_get_i64(r);
		a->place[i].failed = base_get_u64(r) != 0;
	}
}

void core_check_audit(const struct core *c)
{
	const struct core_audit *a = &c->audit;

	BASE_CHECK(a->seq < a->at || a->at == 0); /* C1 */
	BASE_CHECK(a->at <= c->seq);
	for (unsigned i = 0; i < a->place_count; i++)
		BASE_CHECK(a->place[i].seq <= a->seq); /* C2 */
}

void core_checkpoint_get(const struct core *c, struct core_checkpoint_info *ret)
{
	const struct core_audit *a = &c->audit;

	*ret = (struct core_checkpoint_info){.seq = a->seq,
		.at = a->at,
		.at_ms = a->at_ms,
		/* What came behind the events that it covers, but for what is about it. */
		.since = c->seq - a->seq - (a->seq ? a->own : 0)};
}

uint64_t core_place_get(const struct core *c, struct base_str name, bool *ret_failed)
{
	const struct core_place *p = place_of((struct core_audit *)(uintptr_t)&c->audit, name);

	*ret_failed = p && p->failed;
	return p ? p->seq : 0;
}
