/*
 * Telling the operator that a gate waits: by which channels, when, and when it is put to others.
 *
 * An announcement is an event before it leaves (gate_announced); what became of it is another (gate_reported). What was
 * announced and not reported is sent again after a restart: it may be told twice, never not at all.
 *
 * Invariant (core_check walks it)
 *  G7  A gate that is to be told, or put to others, has a timer at or before that time, unless a restore holds its run.
 */
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "core/core_int.h"
#include "core/plan.h"
#include "core/schedule.h"

enum { REMINDERS_MAX = 30, PROBLEM_MAX = 300 };

static struct base_jv notify_of(const struct core *c)
{
	return c->config_doc ? base_jv_get(base_json_root(c->config_doc), "notify") : (struct base_jv){0};
}

/* --- which channels --- */

static bool channel_fits(
	const struct core_gate *g, struct base_str name, struct base_jv channel, struct base_str *ret_to)
{
	struct base_str to = base_jv_str(base_jv_get(channel, "to"));

	*ret_to = to.len ? to : BASE_STR("operator");
	if (g->terms.announce.count && !core_patterns_match(&g->terms.announce, name))
		return false;
	return core_gate_names(g, *ret_to);
}

static bool has_channel(const struct core *c, const struct core_gate *g)
{
	struct base_jv channels = base_jv_get(notify_of(c), "channels"), v;
	struct base_jv_iter it = {0};
	struct base_str name, to;

	while (base_jv_next(channels, &it, &name, &v))
		if (channel_fits(g, name, v, &to))
			return true;
	return false;
}

/* --- when --- */

static const struct core_zone *zone_named(const struct core *c, struct base_str name)
{
	static const struct core_zone utc;
	const struct core_zone_rules *z = name.len ? base_names_get(c->schedules->zones, name) : NULL;

	return z ? &z->zone : &utc;
}

/* The gate's own quiet hours, else the configuration's. What is urgent, or would be over by then, does not wait. */
static int64_t after_quiet(const struct core *c, const struct core_gate *g, int64_t at_ms)
{
	struct base_jv quiet = base_jv_get(notify_of(c), "quiet");
	int from = core_minutes_of(base_jv_str(base_jv_get(quiet, "from"))),
	    to = core_minutes_of(base_jv_str(base_jv_get(quiet, "to")));
	struct base_str tz = base_jv_str(base_jv_get(quiet, "tz"));
	int64_t end;

	if (g->terms.quiet) {
		from = g->terms.quiet_from;
		to = g->terms.quiet_to;
		tz = g->terms.quiet_tz.len ? g->terms.quiet_tz : tz;
	}
	if (g->terms.urgent || from < 0 || to < 0 || from == to)
		return at_ms;
	end = core_quiet_end(from, to, zone_named(c, tz), at_ms);
	return g->expires_ms && end >= g->expires_ms ? at_ms : end;
}

static int64_t remind_ms(const struct core *c, const struct core_gate *g)
{
	int64_t ms = g->terms.remind_ms;

	if (ms == 0 && base_duration_parse(base_jv_str(base_jv_get(notify_of(c), "remind")), &ms, NULL) < 0)
		return 0;
	return ms;
}

int64_t core_gate_due(const struct core *c, const struct core_gate *g)
{
	int64_t due = 0, stage;

	if (g->decided || core_is_held(core_run_find(c, g->run)))
		return 0;
	if (g->tell_ms && has_channel(c, g))
		due = g->tell_ms;
	if (g->escalated < g->terms.stage_count) {
		stage = g->opened_ms + g->terms.stage[g->escalated].after_ms;
		due = due && due < stage ? due : stage;
	}
	return due;
}

void core_gate_arm(struct core *c, const struct core_gate *g)
{
	int64_t due = core_gate_due(c, g);

	if (due)
		core_timer_add(c, CORE_TIMER_TELL, g->id, 0, due);
	if (!g->decided && g->expires_ms)
		core_timer_add(c, CORE_TIMER_GATE, g->id, 0, g->expires_ms);
}

void core_gates_rearm(struct core *c)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (base_idmap_next(c->gates, &cursor, &id, &value)) {
		int64_t due = core_gate_due(c, value);

		if (due)
			core_timer_add(c, CORE_TIMER_TELL, id, 0, due);
	}
}

/* --- decide --- */

static void announce(struct core_turn *t, const struct core_gate *g)
{
	struct base_jv channels = base_jv_get(notify_of(t->c), "channels"), v;
	struct base_jv_iter it = {0};
	uint32_t nth = g->announced;
	struct base_str name, to;

	while (base_jv_next(channels, &it, &name, &v))
		if (channel_fits(g, name, v, &to))
			core_gate_announced_emit(t->block, t->cmd->now_ms,
				&(struct core_gate_announced){.gate = g->id,
					.nth = nth++,
					.channel = name,
					.why = g->tell_why,
					.to = to});
}

static void escalate(struct core_turn *t, const struct core_gate *g)
{
	const struct core_patterns *to = &g->terms.stage[g->escalated].to;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, CORE_INLINE_MAX);
	w = base_jw_of(&b);
	base_jw_arr(&w);
	for (uint32_t i = 0; i < to->count; i++)
		base_jw_str(&w, to->item[i]);
	base_jw_end_arr(&w);
	core_gate_escalated_emit(t->block, t->cmd->now_ms,
		&(struct core_gate_escalated){.gate = g->id, .to = core_buf_to_arena(t->arena, &b)});
}

void core_decide_tell(struct core_turn *t, uint64_t gate)
{
	const struct core_gate *g = core_gate_find(t->c, gate);

	if (g->escalated < g->terms.stage_count &&
		g->opened_ms + g->terms.stage[g->escalated].after_ms <= t->cmd->now_ms)
		escalate(t, g);
	else
		announce(t, g);
}

/* Of a gate that is decided meanwhile too: for the record. */
void core_decide_report(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;

	if (cmd->id == 0 || cmd->id >= t->c->next_gate) {
		core_refuse(t, 404, "unknown_gate", "there is no gate %llu", (unsigned long long)cmd->id);
		return;
	}
	core_gate_reported_emit(t->block, cmd->now_ms,
		&(struct core_gate_reported){
			.gate = cmd->id, .nth = cmd->step, .ok = cmd->base == 1, .problem = cmd->body});
}

/* --- apply --- */

void core_gate_tell(const struct core_apply *a, struct core_gate *g, const char *why)
{
	g->tell_ms = after_quiet(a->c, g, a->time_ms);
	core_set_str(a->c, &g->tell_why, base_str_of(why));
	core_gate_arm(a->c, g);
}

static struct core_told *told_by(struct core *c, struct core_gate *g, struct base_str channel)
{
	struct core_told **at = &g->told;

	while (*at && !base_str_eq((*at)->channel, channel))
		at = &(*at)->next;
	if (!*at) {
		*at = base_slab_alloc(c->slab, sizeof(**at));
		(*at)->channel = base_slab_dup(c->slab, channel);
	}
	return *at;
}

static void apply_announced(struct core_apply *a, const struct core_gate_announced *e)
{
	struct core_gate *g = core_gate_find(a->c, e->gate);
	int64_t again = remind_ms(a->c, g);
	struct core_told *told = told_by(a->c, g, e->channel);

	told->nth = e->nth;
	told->state = CORE_TOLD_SENT;
	told->at_ms = a->time_ms;
	core_set_str(a->c, &told->why, e->why);
	core_set_str(a->c, &told->problem, BASE_STR_NONE);
	g->announced = e->nth + 1;
	if (g->tell_ms <= a->time_ms) { /* once for all channels of one time */
		if (base_str_is(e->why, "reminder"))
			g->reminded++;
		g->tell_ms = again > 0 && g->reminded < REMINDERS_MAX
				     ? after_quiet(a->c, g, a->time_ms + again)
				     : 0;
		core_set_str(a->c, &g->tell_why, BASE_STR("reminder"));
		core_gate_arm(a->c, g);
	}
	core_act(
		a, &(struct core_act){
			   .type = CORE_ACT_TELL, .id = g->id, .run = g->run, .step = e->nth, .seq = a->seq});
}

static void apply_reported(struct core_apply *a, const struct core_gate_reported *e)
{
	struct core_gate *g = core_gate_find(a->c, e->gate);
	struct base_str text = BASE_STR_NONE;
	struct base_json *doc = NULL;

	for (struct core_told *t = g ? g->told : NULL; t; t = t->next) {
		if (t->nth != e->nth)
			continue;
		t->state = e->ok ? CORE_TOLD_DONE : CORE_TOLD_FAILED;
		if (!e->ok && e->problem.len && base_json_parse(e->problem, &doc, NULL) == 0)
			text = base_str_sub(
				base_jv_str(base_jv_get(base_json_root(doc), "message")), 0, PROBLEM_MAX);
		while (text.len && !base_utf8_valid(text))
			text.len--;
		core_set_str(a->c, &t->problem, text);
		base_json_free(doc);
		return;
	}
}

void core_apply_telling(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	if (type == CORE_EV_GATE_ANNOUNCED)
		apply_announced(a, &e->gate_announced);
	else
		apply_reported(a, &e->gate_reported);
}

/* --- reading --- */

void core_tell_resume(struct core *c, core_act_fn fn, void *userdata)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (base_idmap_next(c->gates, &cursor, &id, &value)) {
		const struct core_gate *g = value;

		for (const struct core_told *t = g->decided ? NULL : g->told; t; t = t->next)
			if (fn && t->state == CORE_TOLD_SENT)
				fn(userdata, &(struct core_act){.type = CORE_ACT_TELL,
						     .id = id,
						     .run = g->run,
						     .step = t->nth});
	}
}

bool core_tell_get(const struct core *c, uint64_t gate, uint32_t nth, struct core_telling *ret)
{
	const struct core_gate *g = core_gate_find(c, gate);
	struct base_jv channels = base_jv_get(notify_of(c), "channels"), v;
	const struct core_told *t = g && !g->decided ? g->told : NULL;

	while (t && t->nth != nth)
		t = t->next;
	if (!t)
		return false;
	v = base_jv_get_str(channels, t->channel);
	*ret = (struct core_telling){.channel = t->channel,
		.why = t->why,
		.kind = g->kind,
		.title = g->title,
		.rule = g->rule,
		.flow = core_run_flow_name(core_run_find(c, g->run)),
		.cost = g->cost,
		.expires_ms = g->expires_ms,
		.run = g->run,
		.labels = g->labels,
		.sign = g->terms.sign,
		.known = base_jv_kind(v) == BASE_JSON_OBJ};
	ret->to = base_jv_str(base_jv_get(v, "to"));
	if (!ret->to.len)
		ret->to = BASE_STR("operator");
	return true;
}

void core_tell_failures(const struct core *c, size_t max, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);

	base_jw_arr(&w);
	for (uint64_t id = 1, left = base_idmap_count(c->gates); id < c->next_gate && left; id++) {
		const struct core_gate *g = core_gate_find(c, id);

		left -= g != NULL;
		for (const struct core_told *t = g && !g->decided ? g->told : NULL; t && max; t = t->next) {
			if (t->state != CORE_TOLD_FAILED)
				continue;
			base_jw_obj(&w);
			base_jw_mint(&w, "gate", (int64_t)id);
			base_jw_mstr(&w, "channel", t->channel);
			base_jw_mstr(&w, "problem", t->problem);
			base_jw_end_obj(&w);
			max--;
		}
	}
	base_jw_end_arr(&w);
}

static void put_names(struct base_jw *w, const char *key, const struct core_patterns *p)
{
	base_jw_key(w, key);
	base_jw_arr(w);
	for (uint32_t i = 0; i < p->count; i++)
		base_jw_str(w, p->item[i]);
	base_jw_end_arr(w);
}

static void put_people(struct base_jw *w, const struct core_gate *g)
{
	const struct core_terms *x = &g->terms;

	put_names(w, "approvers", &x->approvers);
	base_jw_mbool(w, "operator", core_gate_names(g, BASE_STR("operator")));
	base_jw_mint(w, "need", x->need);
	if (x->denials > 1)
		base_jw_mint(w, "denials", x->denials);
	base_jw_mbool(w, "sign", x->sign);
	base_jw_key(w, "votes");
	base_jw_arr(w);
	for (const struct core_vote *v = g->votes; v; v = v->next) {
		base_jw_obj(w);
		base_jw_mstr(w, "by", v->by);
		base_jw_mstr(w, "answer", v->answer);
		base_jw_mint(w, "at_ms", v->at_ms);
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
	base_jw_key(w, "delegated");
	base_jw_arr(w);
	for (const struct core_asked *a = g->asked; a; a = a->next) {
		if (a->gone)
			continue;
		base_jw_obj(w);
		base_jw_mstr(w, "to", a->who);
		base_jw_mstr(w, "by", a->by);
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

static void put_stages(struct base_jw *w, const struct core_gate *g)
{
	base_jw_key(w, "escalate");
	base_jw_arr(w);
	for (uint32_t i = 0; i < g->terms.stage_count; i++) {
		base_jw_obj(w);
		base_jw_mint(w, "at_ms", g->opened_ms + g->terms.stage[i].after_ms);
		put_names(w, "to", &g->terms.stage[i].to);
		base_jw_mbool(w, "done", i < g->escalated);
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

void core_gate_put_more(struct base_jw *w, const struct core_gate *g)
{
	static const char *const states[] = {"sent", "told", "failed"};

	put_people(w, g);
	put_stages(w, g);
	base_jw_key(w, "announced");
	base_jw_arr(w);
	for (const struct core_told *t = g->told; t; t = t->next) {
		base_jw_obj(w);
		base_jw_mstr(w, "channel", t->channel);
		base_jw_mstr(w, "why", t->why);
		base_jw_mcstr(w, "state", states[t->state]);
		base_jw_mint(w, "at_ms", t->at_ms);
		if (t->problem.len)
			base_jw_mstr(w, "problem", t->problem);
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
	if (g->tell_ms)
		base_jw_mint(w, "announce_ms", g->tell_ms);
	if (g->labels) {
		base_jw_key(w, "labels");
		base_jw_arr(w);
		if (g->labels & CORE_LABEL_PRIVATE)
			base_jw_cstr(w, "private");
		if (g->labels & CORE_LABEL_UNTRUSTED)
			base_jw_cstr(w, "untrusted");
		base_jw_end_arr(w);
	}
	if (g->sources.len)
		base_jw_mraw(w, "sources", g->sources);
}
