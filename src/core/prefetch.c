/* What a decision must read and the state does not hold: named first, fetched by the engine, then decided. */
#include <string.h>

#include "core/undo_int.h"

enum { SOURCE_STEPS_MAX = 1000 };

int64_t core_list_limit(struct base_jv args)
{
	int64_t limit = base_jv_int(base_jv_get(args, "limit"), CORE_LIST_DEFAULT);

	return limit > CORE_LIST_MAX ? CORE_LIST_MAX : limit;
}

struct wants {
	struct core_want *ret;
	size_t count, max;
};

static void want(struct wants *w, uint64_t seq)
{
	if (seq && w->count < w->max)
		w->ret[w->count++].seq = seq;
}

static void want_list(const struct core *c, struct wants *w, struct base_jv args)
{
	struct base_str prefix = base_jv_str(base_jv_get(args, "prefix"));
	struct base_str after = base_jv_str(base_jv_get(args, "after")), key = after.len ? after : prefix;
	int64_t limit = core_list_limit(args);
	void *value;

	for (bool inclusive = after.len == 0;
		limit > 0 && base_names_seek(c->facts, key, inclusive, &key, &value); inclusive = false) {
		const struct core_fact *f = value;

		if (!base_str_starts(key, prefix))
			return;
		if (f->removed)
			continue;
		want(w, f->seq);
		limit--;
	}
}

static void want_signal(struct wants *w, const struct core_run *r, struct base_str name)
{
	for (const struct core_signal *s = r ? core_run_extra(r)->signals : NULL; s; s = s->next) {
		if (base_str_eq(s->name->text, name)) {
			want(w, s->seq);
			return;
		}
	}
}

static void want_for_verify(
	const struct core *c, const struct core_run *r, struct base_jv args, struct wants *w)
{
	uint64_t seqs[CORE_CITATIONS_MAX + 2];
	size_t n = core_verify_wants(c, r, args, seqs, sizeof(seqs) / sizeof(seqs[0]));

	for (size_t i = 0; i < n; i++)
		want(w, seqs[i]);
}

static void want_for_internal(
	const struct core *c, const struct core_cmd *cmd, enum core_handler h, struct wants *w)
{
	const struct core_fact *f;
	struct base_json *doc;
	struct base_jv args;

	if (h != CORE_H_MEMORY_GET && h != CORE_H_MEMORY_LIST && h != CORE_H_SIGNAL_WAIT &&
		h != CORE_H_RUN_WAIT && h != CORE_H_VERIFY)
		return;
	if (base_json_parse(cmd->body, &doc, NULL) < 0)
		return;
	args = base_json_root(doc);
	if (h == CORE_H_MEMORY_GET) {
		f = base_names_get(c->facts, base_jv_str(base_jv_get(args, "key")));
		if (f && !f->removed)
			want(w, f->seq);
	} else if (h == CORE_H_RUN_WAIT) {
		want(w, core_wait_seq(c, args));
	} else if (h == CORE_H_VERIFY) {
		want_for_verify(c, core_run_find(c, cmd->run), args, w);
	} else if (h == CORE_H_MEMORY_LIST) {
		want_list(c, w, args);
	} else {
		want_signal(w, core_run_find(c, cmd->run), base_jv_str(base_jv_get(args, "name")));
	}
	base_json_free(doc);
}

/* A gate may open that shows where labels came from. Where the guard asks it always does; else a run of very many steps is not
 * gone through at each call. */
static void want_sources(
	const struct core *c, const struct core_action *a, const struct core_run *r, struct wants *w)
{
	bool sure = a->handler == CORE_H_GATE_ASK || core_guard(c, a, BASE_STR_NONE, (uint8_t)r->labels).len;
	uint64_t seqs[2];
	size_t n;

	if (!r->labels ||
		(!sure && (a->handler != CORE_H_NONE || a->internal || r->steps > SOURCE_STEPS_MAX)))
		return;
	n = core_sources_want(r, (uint8_t)r->labels, seqs);
	for (size_t i = 0; i < n; i++)
		want(w, seqs[i]);
}

static void want_for_call(const struct core *c, const struct core_cmd *cmd, struct wants *w)
{
	const struct core_run *r = core_run_find(c, cmd->run);
	const struct core_step *s = core_step_find(r, cmd->step);
	const struct core_action *a = core_action_find(c, cmd->name);
	struct base_json *opts;

	if (s) { /* a replayed step is compared; only one that differs is shown */
		if (!core_step_is(c, s, cmd->name, cmd->body))
			want(w, s->seq);
		return;
	}
	if (!a || !r)
		return;
	want_sources(c, a, r, w);
	if (a->handler != CORE_H_NONE) {
		want_for_internal(c, cmd, a->handler, w);
		return;
	}
	if (cmd->params.len && base_json_parse(cmd->params, &opts, NULL) == 0) {
		want(w, core_customer_seq(c, base_jv_str(base_jv_get(base_json_root(opts), "customer"))));
		want(w, core_confidence_seq(c, r, base_json_root(opts)));
		base_json_free(opts);
	}
	want(w, core_customer_seq(c, core_run_extra(r)->customer));
}

static void want_for_tick(const struct core *c, int64_t now_ms, struct wants *w)
{
	struct base_heap_item item;
	const struct core_step *s;

	if (!core_admit_timer_due((struct core *)(uintptr_t)c, now_ms, &item)) {
		want(w, core_answer_seq(c));
		return;
	}
	if (item.kind == CORE_TIMER_GATE) {
		want(w, core_gate_find(c, item.id)->seq);
		return;
	}
	if (item.kind == CORE_TIMER_UNDO) {
		uint64_t seqs[3];
		size_t n = core_undo_wants(c, core_run_find(c, item.id), seqs);

		for (size_t i = 0; i < n; i++)
			want(w, seqs[i]);
		return;
	}
	if (item.kind == CORE_TIMER_DELIVERY)
		want(w, core_delivery_seq(c, item.id));
	if (item.kind == CORE_TIMER_SCHEDULE || item.kind == CORE_TIMER_DELIVERY ||
		item.kind == CORE_TIMER_TELL)
		return;
	s = core_step_find(core_run_find(c, item.id), item.sub);
	if (!s || (s->status != CORE_STEP_HELD && s->status != CORE_STEP_SENT))
		return;
	want(w, s->seq);
	want(w, core_customer_seq(c, s->open->effect->customer));
}

/* A gate may follow that shows what was asked for. */
static void want_for_result(const struct core *c, const struct core_cmd *cmd, struct wants *w)
{
	const struct core_step *s = core_step_find(core_run_find(c, cmd->run), cmd->step);

	if (core_step_open(s) &&
		(cmd->outcome != CORE_WIRE_DONE || core_result_needs_call(core_step_open(s)->action)))
		want(w, s->seq);
}

/* What will be in doubt is shown to a person with its arguments. */
static void want_for_start(const struct core *c, int64_t now_ms, struct wants *w)
{
	for (const struct core_effect *x = c->effect_first; x; x = x->next) {
		const struct core_open *o = x->open;
		const struct core_run *r = core_run_find(c, o->run);
		const struct core_step *s = core_step_find(r, o->step);

		if (s->status == CORE_STEP_SENT &&
			(core_class_now(c, s, now_ms) == CORE_ONCE || (r->flags & CORE_RUN_STOPPED)))
			want(w, s->seq);
	}
}

size_t core_prefetch(const struct core *c, const struct core_cmd *cmd, struct core_want *ret, size_t max)
{
	struct wants w = {.ret = ret, .max = max};
	const struct core_gate *g;
	const struct core_run *r;

	switch (cmd->type) {
	case CORE_CMD_FLOW_CALL:
		want_for_call(c, cmd, &w);
		break;
	case CORE_CMD_FLOW_CRASHED:
		return core_want_crashes(c, cmd->run, ret, max);
	case CORE_CMD_EFFECT_RESULT:
		want_for_result(c, cmd, &w);
		break;
	case CORE_CMD_START:
		want_for_start(c, cmd->now_ms, &w);
		break;
	case CORE_CMD_TICK:
		want_for_tick(c, cmd->now_ms, &w);
		break;
	case CORE_CMD_RUN_FORK:
		r = core_run_find(c, cmd->run);
		want(&w, r ? r->seq_started : (uint64_t)cmd->base);
		break;
	case CORE_CMD_GATE_DECIDE:
		g = core_gate_find(c, cmd->id);
		if (g)
			want(&w, g->seq);
		if (g && !g->decided && w.count < max)
			w.count += core_want_precedents(c, g, ret + w.count, max - w.count);
		break;
	default:
		break;
	}
	return w.count;
}
