/*
 * The version that an open run is on: moved to another, held back, quarantined because it crashes its worker.
 *
 * Invariants
 *
 * V1 A run moves only at the position at which it was rehearsed: the caller names it, and it is compared here.
 *
 * V2 Crashes are counted from the log: a crash that is tried again is a run_parked ("crashed") and a run_resumed by
 * "aios" in the same decision, so a restart of aiosd forgets none. What counts is how often in a row without a step
 * in between (CRASHES_MAX), and how often since a person last looked (CRASHES_TOTAL).
 *
 * V3 A person's resume, and a move, give a run a new chance: the count begins anew.
 */
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

enum { CRASHES_MAX = CORE_CRASHES_KEPT, CRASHES_TOTAL = 10, LAST_STEPS = 5 };

uint64_t core_run_position(const struct core *c, uint64_t run)
{
	const struct core_run *r = core_run_find(c, run);

	return r ? (uint64_t)r->steps * 2 - r->open : 0;
}

struct base_str core_version_flow(const struct core *c, const struct base_hash *version)
{
	const struct core_version *v =
		base_names_get(c->versions, (struct base_str){(const char *)version->b, sizeof(version->b)});

	return v ? v->flow : BASE_STR_NONE;
}

size_t core_run_steps(const struct core *c, uint64_t run, struct core_step_at *ret, size_t max)
{
	const struct core_run *r = core_run_find(c, run);

	for (uint32_t i = 0; r && i < r->steps && i < max; i++)
		ret[i] = (struct core_step_at){r->step[i].seq, core_step_end(&r->step[i])};
	return r ? r->steps : 0;
}

size_t core_runs_open(const struct core *c, struct base_str flow, uint64_t *ret, size_t max)
{
	size_t cursor = 0, n = 0;
	uint64_t id;
	void *value;

	while (base_idmap_next(c->runs, &cursor, &id, &value)) {
		const struct core_run *r = value;

		if (r->state == CORE_RUN_ENDED ||
			(flow.len && !(r->flow && base_str_eq(r->flow->name, flow))))
			continue;
		if (n < max)
			ret[n] = id;
		n++;
	}
	return n;
}

int core_class_of(const struct core *c, struct base_str action)
{
	const struct core_action *a = core_action_find(c, action);

	return a ? (int)a->klass : -1;
}

static void reply_run(struct core_turn *t, uint64_t run, bool changed)
{
	t->reply->id = run;
	core_reply_json(t, 200,
		base_arena_printf(t->arena, "{\"run\":%llu,\"changed\":%s}", (unsigned long long)run,
			changed ? "true" : "false"));
}

/* --- move, park --- */

/* The run that is to be changed, if it is open; else refused and NULL. */
static struct core_run *open_run(struct core_turn *t)
{
	struct core_run *r = core_run_find(t->c, t->cmd->run);
	bool was = t->cmd->run && t->cmd->run < t->c->next_run;

	if (r && r->state != CORE_RUN_ENDED)
		return r;
	core_refuse(t, was ? 409 : 404, "not_active", was ? "run %llu has ended" : "there is no run %llu",
		(unsigned long long)t->cmd->run);
	return NULL;
}

void core_decide_run_move(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	struct core_run *r = open_run(t);
	const struct core_version *v = base_names_get(
		t->c->versions, (struct base_str){(const char *)cmd->hash.b, sizeof(cmd->hash.b)});
	uint64_t at;

	if (!r)
		return;
	if (!v || !r->version || !base_str_eq(v->flow, r->version->flow)) {
		core_refuse(t, 422, "unknown_version",
			!r->version ? "run %llu is an agent's: it has no version to move to%.*s"
			: !v ? "run %llu cannot move%.*s: this version is not deployed: aios deploy first"
			     : "run %llu cannot move: this version is of flow %.*s",
			(unsigned long long)r->id, BASE_STR_ARG(v ? v->flow : BASE_STR_NONE));
		return;
	}
	if (v == r->version) {
		reply_run(t, r->id, false);
		return;
	}
	at = core_run_position(t->c, r->id);
	if ((uint64_t)cmd->base != at) { /* V1 */
		core_refuse(t, 409, "went_on",
			"run %llu stands at position %llu, it was rehearsed at %lld: rehearse it again",
			(unsigned long long)r->id, (unsigned long long)at, (long long)cmd->base);
		return;
	}
	core_run_moved_emit(t->block, cmd->now_ms,
		&(struct core_run_moved){.run = r->id, .version = cmd->hash, .by = cmd->by.id});
	if (r->state == CORE_RUN_PARKED)
		core_run_resumed_emit(
			t->block, cmd->now_ms, &(struct core_run_resumed){.run = r->id, .by = cmd->by.id});
	reply_run(t, r->id, true);
}

static void emit_parked(struct core_turn *t, const struct core_run *r, struct base_str why,
	struct base_str title, struct base_str detail)
{
	struct core_gate_open g = {.run = r->id,
		.step = UINT32_MAX,
		.kind = "parked",
		.show = detail,
		.rule = why,
		.title = title};

	core_run_parked_emit(t->block, t->cmd->now_ms,
		&(struct core_run_parked){.run = r->id, .why = why, .detail = detail});
	(void)core_emit_gate(t, &g);
}

void core_decide_run_park(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	struct core_run *r = open_run(t);
	struct base_buf canon;
	struct base_err err;

	if (!r)
		return;
	if (r->state != CORE_RUN_ACTIVE) {
		core_refuse(
			t, 409, "not_active", "run %llu stands still already", (unsigned long long)cmd->run);
		return;
	}
	base_buf_init(&canon, 4 << 20);
	if (base_json_canon(cmd->body.len ? cmd->body : BASE_STR("{}"), &canon, &err) < 0) {
		base_buf_done(&canon);
		core_refuse(t, 400, "invalid", "detail: %s", err.text);
		return;
	}
	emit_parked(t, r, cmd->name.len ? cmd->name : BASE_STR("held"),
		base_arena_printf(t->arena, "Run %llu was parked by %.*s", (unsigned long long)r->id,
			BASE_STR_ARG(cmd->by.id)),
		core_buf_to_arena(t->arena, &canon));
	reply_run(t, r->id, true);
}

/* --- crashes --- */

static struct core_crashes *crashes_of(const struct core *c, uint64_t run)
{
	return base_idmap_get(c->crashes, run);
}

void core_crashes_forget(struct core *c, uint64_t run)
{
	struct core_crashes *k = base_idmap_remove(c->crashes, run);

	if (k)
		base_slab_release(c->slab, k, sizeof(*k));
}

static void put_last_steps(const struct core *c, struct base_jw *w, const struct core_run *r)
{
	uint32_t from = r->steps > LAST_STEPS ? r->steps - LAST_STEPS : 0;

	base_jw_key(w, "last");
	base_jw_arr(w);
	for (uint32_t i = from; i < r->steps; i++) {
		base_jw_obj(w);
		base_jw_mint(w, "step", i);
		base_jw_mstr(w, "action", c->action_names[r->step[i].action]);
		base_jw_mbool(w, "open", core_step_open(&r->step[i]) != NULL);
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

/* What is known of one crash. */
static struct base_str crash_detail(struct core_turn *t, const struct core_run *r)
{
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 1 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mint(&w, "at_ms", t->cmd->now_ms);
	base_jw_mstr(&w, "flow", r->flow ? r->flow->name : BASE_STR("aios:agent"));
	if (r->version)
		base_jw_mhash(&w, "version", &r->version->hash);
	base_jw_mstr(&w, "interpreter", t->c->interpreter);
	base_jw_mraw(&w, "problem", t->cmd->body);
	base_jw_mint(&w, "steps", r->steps);
	put_last_steps(t->c, &w, r);
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

/* All of it, for the person who decides: this crash and those before it. */
static struct base_str evidence(
	struct core_turn *t, const struct core_crashes *k, uint32_t total, struct base_str last)
{
	uint32_t n = k ? (k->count < CORE_CRASHES_KEPT ? k->count : CORE_CRASHES_KEPT) : 0;
	struct core_run_parked was;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 4 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mint(&w, "run", (int64_t)t->cmd->run);
	base_jw_mint(&w, "crashes", total);
	base_jw_key(&w, "evidence");
	base_jw_arr(&w);
	for (uint32_t i = 0; i < n; i++) {
		const struct core_fetched *f =
			core_fetched_at(t, k->seq[(k->count - n + i) % CORE_CRASHES_KEPT]);

		if (f && core_run_parked_get(f->record.body, &was) == 0)
			base_jw_raw(&w, was.detail);
	}
	base_jw_raw(&w, last);
	base_jw_end_arr(&w);
	base_jw_mcstr(&w, "next",
		"resume gives it a new chance; aios flows rehearse FILE --move RUN takes it to a version "
		"that is "
		"repaired; cancel ends it");
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

size_t core_want_crashes(const struct core *c, uint64_t run, struct core_want *ret, size_t max)
{
	const struct core_crashes *k = crashes_of(c, run);
	size_t n = 0;

	for (uint32_t i = 0; k && i < k->count && i < CORE_CRASHES_KEPT && n < max; i++)
		ret[n++].seq = k->seq[i];
	return n;
}

/* FLOW_CRASHED: its worker died of it, or had to be ended. base 1: it has been seen often enough. */
void core_decide_flow_crashed(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	struct core_run *r = core_run_find(t->c, cmd->run);
	const struct core_crashes *k = crashes_of(t->c, cmd->run);
	uint32_t total = (k ? k->total : 0) + 1, here;
	struct base_str detail;

	if (!r || r->state != CORE_RUN_ACTIVE) {
		core_refuse(t, 409, "not_active", "run %llu does not run", (unsigned long long)cmd->run);
		return;
	}
	here = (k && k->position == core_run_position(t->c, r->id) ? k->count : 0) + 1;
	detail = crash_detail(t, r);
	if (here < CRASHES_MAX && total < CRASHES_TOTAL && cmd->base != 1) { /* V2 */
		core_run_parked_emit(t->block, cmd->now_ms,
			&(struct core_run_parked){
				.run = r->id, .why = BASE_STR("crashed"), .detail = detail});
		core_run_resumed_emit(t->block, cmd->now_ms,
			&(struct core_run_resumed){.run = r->id, .by = BASE_STR(CORE_BY_AIOS)});
		return;
	}
	emit_parked(t, r, BASE_STR("quarantined"),
		base_arena_printf(t->arena, "Run %llu is quarantined: it crashed its worker %u times",
			(unsigned long long)r->id, total),
		evidence(t, k, total, detail));
}

/* --- into the state --- */

static void note_crash(struct core_apply *a, const struct core_run *r)
{
	struct core_crashes *k = crashes_of(a->c, r->id);
	uint64_t at = core_run_position(a->c, r->id);

	if (!k) {
		k = base_slab_alloc(a->c->slab, sizeof(*k));
		BASE_CHECK(base_idmap_put(a->c->crashes, r->id, k) == 0);
	}
	if (k->position != at)
		k->count = 0;
	k->position = at;
	k->seq[k->count++ % CORE_CRASHES_KEPT] = a->seq;
	k->total++;
}

void core_apply_crash(struct core_apply *a, const struct core_run_parked *e)
{
	if (base_str_is(e->why, "crashed"))
		note_crash(a, core_run_find(a->c, e->run));
}

void core_apply_moved(struct core_apply *a, const struct core_run_moved *e)
{
	struct core_run *r = core_run_find(a->c, e->run);
	struct core_version *v = base_names_get(
		a->c->versions, (struct base_str){(const char *)e->version.b, sizeof(e->version.b)});

	BASE_CHECK(r && v && r->state != CORE_RUN_ENDED);
	r->version = v;
	r->rested = false;
	core_crashes_forget(a->c, r->id); /* V3 */
	if (r->state == CORE_RUN_ACTIVE)
		core_act(a, &(struct core_act){.type = CORE_ACT_RUN_LOAD, .run = r->id});
}
