/* What the API can be told from the state alone. */
#include <errno.h>
#include <string.h>

#include "core/core_int.h"

static void put_gate(const struct core *c, struct base_jw *w, const struct core_gate *g)
{
	const struct core_run *r = core_run_find(c, g->run);

	base_jw_obj(w);
	base_jw_mint(w, "gate", (int64_t)g->id);
	if (g->run)
		base_jw_mint(w, "run", (int64_t)g->run);
	if (g->step != UINT32_MAX)
		base_jw_mint(w, "step", g->step);
	if (r)
		base_jw_mstr(w, "flow", core_run_flow_name(r));
	base_jw_mstr(w, "kind", g->kind);
	base_jw_mstr(w, "title", g->title);
	base_jw_mstr(w, "rule", g->rule);
	base_jw_mint(w, "cost_nusd", g->cost);
	base_jw_mint(w, "opened_ms", g->opened_ms);
	if (g->expires_ms)
		base_jw_mint(w, "expires_ms", g->expires_ms);
	base_jw_mstr(w, "on_expiry", g->on_expiry);
	base_jw_mbool(w, "edit", g->edit);
	base_jw_mhash(w, "shown", &g->shown);
	if (g->allows.len)
		base_jw_mraw(w, "allows", g->allows);
	base_jw_mcstr(w, "state", g->decided ? "decided" : "open");
	core_gate_put_more(w, g);
	base_jw_end_obj(w);
}

/* by NULL: all of them; else those that `by` may decide. */
static int put_gates(const struct core *c, const struct core_caller *by, int64_t now_ms, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);
	const char *why;

	base_jw_obj(&w);
	base_jw_key(&w, "gates");
	base_jw_arr(&w);
	for (uint64_t id = 1, left = base_idmap_count(c->gates); id < c->next_gate && left; id++) {
		const struct core_gate *g = core_gate_find(c, id);

		if (!g)
			continue;
		left--;
		if (!g->decided && (!by || core_gate_may(c, g, by, BASE_STR("approve"), now_ms, &why)))
			put_gate(c, &w, g);
	}
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	return base_buf_failed(ret);
}

int core_gates_json(const struct core *c, struct base_buf *ret)
{
	return put_gates(c, NULL, 0, ret);
}

int core_gates_of_json(
	const struct core *c, const struct core_caller *by, int64_t now_ms, struct base_buf *ret)
{
	return put_gates(c, by, now_ms, ret);
}

bool core_gate_may_decide(const struct core *c, uint64_t gate, const struct core_caller *by,
	struct base_str answer, int64_t now_ms)
{
	const struct core_gate *g = core_gate_find(c, gate);
	const char *why;

	return g && !g->decided && core_gate_may(c, g, by, answer, now_ms, &why);
}

bool core_gate_signs(const struct core *c, uint64_t gate, struct base_hash *ret_shown)
{
	const struct core_gate *g = core_gate_find(c, gate);

	if (!g || g->decided || !g->terms.sign)
		return false;
	*ret_shown = g->shown;
	return true;
}

bool core_gate_has_vote(const struct core *c, uint64_t gate, struct base_str who)
{
	const struct core_gate *g = core_gate_find(c, gate);

	for (const struct core_vote *v = g ? g->votes : NULL; v; v = v->next)
		if (base_str_eq(v->by, who))
			return true;
	return false;
}

int core_gate_json(const struct core *c, uint64_t gate, struct base_buf *ret)
{
	const struct core_gate *g = core_gate_find(c, gate);
	struct base_jw w = base_jw_of(ret);

	if (!g)
		return -ENOENT;
	put_gate(c, &w, g);
	return base_buf_failed(ret);
}

uint64_t core_gate_seq(const struct core *c, uint64_t gate)
{
	const struct core_gate *g = core_gate_find(c, gate);

	return g ? g->seq : 0;
}

uint64_t core_gate_run(const struct core *c, uint64_t gate)
{
	const struct core_gate *g = core_gate_find(c, gate);

	return g ? g->run : 0;
}

static void put_patterns(struct base_jw *w, const char *key, const struct core_principal *p)
{
	base_jw_key(w, key);
	base_jw_arr(w);
	for (uint32_t i = 0; p && i < p->grants.count; i++)
		base_jw_str(w, p->grants.item[i]);
	base_jw_end_arr(w);
}

int core_flows_json(const struct core *c, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);
	struct base_str at = BASE_STR_NONE;
	void *value;

	base_jw_obj(&w);
	base_jw_key(&w, "flows");
	base_jw_arr(&w);
	for (bool first = true; base_names_seek(c->flows, at, first, &at, &value); first = false) {
		const struct core_flow *f = value;
		char id[600] = "flow/";
		size_t n = f->name.len < sizeof(id) - 6 ? f->name.len : sizeof(id) - 6;

		memcpy(id + 5, f->name.ptr, n);
		base_jw_obj(&w);
		base_jw_mstr(&w, "flow", f->name);
		base_jw_mhash(&w, "version", &f->current->hash);
		put_patterns(&w, "grants", base_names_get(c->principals, (struct base_str){id, n + 5}));
		base_jw_mraw(&w, "spec", f->current->spec);
		base_jw_mint(&w, "spent_month_nusd", f->meter.spent);
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	return base_buf_failed(ret);
}

static void put_budget(struct base_jw *w, const char *of, struct base_str name, int64_t limit, int64_t spent,
	int64_t reserved)
{
	base_jw_obj(w);
	base_jw_mcstr(w, "of", of);
	base_jw_mstr(w, "name", name);
	if (limit >= 0)
		base_jw_mint(w, "limit_nusd", limit);
	base_jw_mint(w, "spent_nusd", spent);
	base_jw_mint(w, "reserved_nusd", reserved);
	base_jw_end_obj(w);
}

int core_budgets_json(const struct core *c, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);
	struct base_str at = BASE_STR_NONE;
	uint32_t month = core_month_of(c->time_ms);
	void *value;

	base_jw_obj(&w);
	base_jw_key(&w, "budgets");
	base_jw_arr(&w);
	put_budget(&w, "workspace month", BASE_STR_NONE, c->budget_month,
		c->meter.month == month ? c->meter.spent : 0, c->reserved);
	for (bool first = true; base_names_seek(c->flows, at, first, &at, &value); first = false) {
		const struct core_flow *f = value;

		put_budget(&w, "flow month", f->name, f->current->budget_month,
			f->meter.month == month ? f->meter.spent : 0, f->reserved);
	}
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	return base_buf_failed(ret);
}

int core_keys_json(const struct core *c, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);
	struct base_str at = BASE_STR_NONE;
	void *value;

	base_jw_obj(&w);
	base_jw_key(&w, "keys");
	base_jw_arr(&w);
	for (bool first = true; base_names_seek(c->principals, at, first, &at, &value); first = false) {
		const struct core_principal *p = value;

		if (!p->has_key)
			continue;
		base_jw_obj(&w);
		base_jw_mstr(&w, "id", p->id);
		base_jw_mstr(&w, "kind", p->kind);
		base_jw_mstr(&w, "name", p->name);
		put_patterns(&w, "grants", p);
		base_jw_mbool(&w, "revoked", p->revoked);
		if (p->expires_ms)
			base_jw_mint(&w, "expires_ms", p->expires_ms);
		if (p->scope.len)
			base_jw_mraw(&w, "scope", p->scope);
		if (p->used_ms)
			base_jw_mint(&w, "used_ms", p->used_ms);
		if (p->has_old && (p->fresh || c->time_ms < p->old_until_ms)) {
			base_jw_mint(&w, "old_until_ms", p->old_until_ms);
			base_jw_mbool(&w, "rotating", p->fresh);
		}
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	return base_buf_failed(ret);
}

bool core_fact_get(const struct core *c, struct base_str key, uint64_t *ret_seq, uint64_t *ret_version)
{
	const struct core_fact *f = base_names_get(c->facts, key);

	if (!f || f->removed)
		return false;
	*ret_seq = f->seq;
	*ret_version = f->version;
	return true;
}

size_t core_fact_list(
	const struct core *c, struct base_str prefix, struct base_str after, uint64_t *ret_seqs, size_t max)
{
	struct base_str key = after.len ? after : prefix;
	size_t count = 0;
	void *value;

	for (bool inclusive = after.len == 0;
		count < max && base_names_seek(c->facts, key, inclusive, &key, &value); inclusive = false) {
		const struct core_fact *f = value;

		if (!base_str_starts(key, prefix))
			break;
		if (!f->removed)
			ret_seqs[count++] = f->seq;
	}
	return count;
}

bool core_run_get(const struct core *c, uint64_t run, struct core_run_info *ret)
{
	const struct core_run *r = core_run_find(c, run);

	if (!r)
		return false;
	*ret = (struct core_run_info){.run = run,
		.state = (enum core_run_state)r->state,
		.outcome = core_run_extra(r)->outcome,
		.flow = core_run_flow_name(r),
		.as = core_word_text(r->as),
		.seq_started = r->seq_started,
		.seq_ended = core_run_extra(r)->seq_ended,
		.started_ms = r->started_ms,
		.steps = r->steps,
		.cost = r->spent,
		.reserved = r->reserved,
		.parent = core_run_extra(r)->parent,
		.stopped = (r->flags & CORE_RUN_STOPPED) != 0,
		.by = core_word_text(r->by),
		.origin = core_word_text(r->origin)};
	ret->payer = core_run_payer(r) ? core_run_payer(r)->name : ret->flow;
	if (r->version)
		ret->version = r->version->hash;
	return true;
}

/* Finished steps come mostly in order: an insertion sort is linear then. */
size_t core_run_journal(const struct core *c, uint64_t run, struct core_journal_entry *ret, size_t max)
{
	const struct core_run *r = core_run_find(c, run);
	size_t count = 0;

	for (uint32_t i = 0; r && i < r->steps; i++) {
		struct core_journal_entry e = {.seq = core_step_end(&r->step[i]), .step = i};
		size_t at = count;

		if (!e.seq)
			continue;
		if (count++ >= max)
			continue;
		while (at > 0 && ret[at - 1].seq > e.seq) {
			ret[at] = ret[at - 1];
			at--;
		}
		ret[at] = e;
	}
	return count;
}

uint64_t core_version_seq(const struct core *c, const struct base_hash *version)
{
	const struct core_version *v =
		base_names_get(c->versions, (struct base_str){(const char *)version->b, sizeof(version->b)});

	return v ? v->seq : 0;
}
