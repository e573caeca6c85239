/*
 * Schedules: what a deployment sets, what happens when one is due, and its pause.
 *
 * A firing is one decision. What was missed meanwhile (the machine slept, aiosd was down) is made up for as `catchUp`
 * says, one firing a decision; each is known by its start key, "schedule/NAME/DUE", so that none starts twice.
 */
#include "core/schedule.h"

#include <string.h>

#include "base/check.h"
#include "base/schema.h"

/* --- zones --- */

static const struct core_zone_file *given_zone(const struct core_turn *t, struct base_str name)
{
	for (size_t i = 0; i < t->cmd->zone_count; i++)
		if (base_str_eq(t->cmd->zones[i].name, name))
			return &t->cmd->zones[i];
	return NULL;
}

/* The zone as it is after this decision: as the engine brought it, else as the log has it. -1 with what is wrong. */
static int zone_of(
	const struct core_turn *t, struct base_str name, struct core_zone *ret, struct base_err *err)
{
	const struct core_zone_file *given = given_zone(t, name);
	const struct core_zone_rules *known = base_names_get(t->c->schedules->zones, name);

	if (name.len == 0) {
		*ret = (struct core_zone){0};
		return 0;
	}
	if (given && given->file.len) {
		if (core_zone_read(given->file, ret, err) == 0)
			return 0;
		if (!known) {
			base_err_prefix(err, "tz: the rules of %.*s on this machine", BASE_STR_ARG(name));
			return -1;
		}
	}
	if (known) {
		*ret = known->zone;
		return 0;
	}
	return base_err_set(err, -1,
		"tz: this machine knows no time zone %.*s: is the name right, and the package tzdata "
		"installed?",
		BASE_STR_ARG(name));
}

static bool zone_changes(const struct core_turn *t, const struct core_zone_file *given)
{
	const struct core_zone_rules *known = base_names_get(t->c->schedules->zones, given->name);
	struct core_zone z;

	return given->file.len && !(known && base_str_eq(known->file, given->file)) &&
	       core_zone_read(given->file, &z, NULL) == 0;
}

void core_emit_zones(struct core_turn *t)
{
	for (size_t i = 0; i < t->cmd->zone_count; i++)
		if (zone_changes(t, &t->cmd->zones[i]))
			core_zone_set_emit(t->block, t->cmd->now_ms,
				&(struct core_zone_set){
					.name = t->cmd->zones[i].name, .rules = t->cmd->zones[i].file});
}

static void emit_set(struct core_turn *t, struct base_str name, struct base_str flow, struct base_str spec,
	int64_t next_ms, struct base_str by)
{
	core_schedule_set_emit(t->block, t->cmd->now_ms,
		&(struct core_schedule_set){
			.name = name, .flow = flow, .spec = spec, .next_ms = next_ms, .by = by});
}

void core_emit_rezoned(struct core_turn *t, core_named_fn touched, void *userdata)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(t->c->schedules->by_name, at, first, &at, &value);
		first = false) {
		const struct core_schedule *s = value;
		const struct core_zone_file *given = s->zone ? given_zone(t, s->zone->name) : NULL;
		struct core_zone z;
		int64_t next;

		if (!given || !zone_changes(t, given) || (touched && touched(userdata, s->name)) ||
			zone_of(t, s->zone->name, &z, NULL) < 0)
			continue;
		next = s->next_ms ? core_plan_next(&s->plan, &z, s->anchor_ms, s->after_ms) : 0;
		if (next != s->next_ms)
			emit_set(t, s->name, s->flow, s->spec, next, s->by);
	}
}

size_t core_zone_names(const struct core *c, struct base_str *ret, size_t max)
{
	struct base_str at = BASE_STR_NONE;
	size_t n = 0;
	void *value;

	for (bool first = true; n < max && base_names_seek(c->schedules->zones, at, first, &at, &value);
		first = false)
		ret[n++] = ((const struct core_zone_rules *)value)->name;
	return n;
}

/* --- the input of a run --- */

struct base_str core_trigger_input(
	struct core_turn *t, struct base_jv declared, const char *member, struct base_str what)
{
	struct base_jv_iter it = {0};
	struct base_buf b, canon;
	struct base_str key;
	struct base_jw w;
	struct base_jv v;

	base_buf_init(&b, 32 << 20);
	base_buf_init(&canon, 32 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	while (base_jv_next(declared, &it, &key, &v)) {
		base_jw_key_str(&w, key);
		base_jw_value(&w, v);
	}
	base_jw_mraw(&w, member, what);
	base_jw_end_obj(&w);
	BASE_CHECK(base_json_canon(base_buf_view(&b), &canon, NULL) == 0);
	base_buf_done(&b);
	return core_buf_to_arena(t->arena, &canon);
}

static struct base_str input_of(
	struct core_turn *t, struct base_jv declared, struct base_str name, int64_t due_ms, uint32_t missed)
{
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 1 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mint(&w, "due", due_ms);
	base_jw_mint(&w, "missed", missed);
	base_jw_mstr(&w, "name", name);
	base_jw_end_obj(&w);
	return core_trigger_input(t, declared, "schedule", core_buf_to_arena(t->arena, &b));
}

int core_input_fits(const struct base_schema *schema, struct base_str input, struct base_err *err)
{
	struct base_json *doc;
	int r = 0;

	if (!schema)
		return 0;
	BASE_CHECK(base_json_parse(input, &doc, NULL) == 0);
	r = base_schema_check(schema, base_json_root(doc), err);
	base_json_free(doc);
	return r;
}

/* --- deploy --- */

static int check_input(struct core_turn *t, struct base_jv spec, struct base_jv entry, struct base_str name,
	struct base_err *err)
{
	struct base_jv declared = base_jv_get(spec, "input");
	struct base_schema *schema = NULL;
	int r = 0;

	if (base_jv_kind(declared) == BASE_JSON_OBJ && base_schema_compile(declared, &schema, NULL) == 0)
		r = core_input_fits(
			schema, input_of(t, base_jv_get(entry, "input"), name, t->cmd->now_ms, 0), err);
	base_schema_free(schema);
	if (r < 0)
		base_err_prefix(err, "its runs' input, with the member schedule, does not fit the flow's");
	return r;
}

/* 1: it changes, 0: it stands as it is, -1 with what is wrong. */
static int deploy_one(struct core_turn *t, struct base_str flow, struct base_str name, struct base_jv spec,
	struct base_jv entry, bool check, struct base_err *err)
{
	const struct core_schedule *was = core_schedule_find(t->c, name);
	struct base_str zone, text;
	struct core_plan plan;
	struct core_zone z;
	struct base_buf b;
	int64_t next;

	base_buf_init(&b, CORE_INLINE_MAX);
	base_jv_write(entry, &b);
	if (base_buf_failed(&b)) { /* first: what follows counts on it */
		base_buf_done(&b);
		return base_err_set(
			err, -1, "it is larger than %d KiB, its input included", CORE_INLINE_MAX >> 10);
	}
	text = core_buf_to_arena(t->arena, &b);
	if (core_plan_read(entry, &plan, &zone, err) < 0 || zone_of(t, zone, &z, err) < 0 ||
		(plan.kind != CORE_PLAN_EVENT && check_input(t, spec, entry, name, err) < 0))
		return -1;
	if (was && base_str_eq(was->spec, text))
		return 0;
	next = core_plan_next(&plan, &z, t->cmd->now_ms, t->cmd->now_ms);
	if (!next && plan.kind == CORE_PLAN_CRON)
		return base_err_set(err, -1, "cron: no such time ever comes");
	if (!check)
		emit_set(t, name, flow, text, next, t->cmd->by.id);
	return 1;
}

int core_deploy_schedules(struct core_turn *t, struct base_str flow, struct base_jv spec, bool check,
	void (*changed)(void *userdata, const char *what, struct base_str name), void *userdata,
	struct base_err *err)
{
	struct base_str prefix = base_arena_printf(t->arena, "%.*s/", BASE_STR_ARG(flow)), at = prefix, key;
	struct base_jv on = base_jv_get(spec, "on"), entry;
	struct base_jv_iter it = {0};
	unsigned i = 0;
	void *value;

	for (; base_jv_next(on, &it, &key, &entry); i++) {
		struct base_str name = base_arena_printf(t->arena, "%.*s%u", BASE_STR_ARG(prefix), i);
		int r = core_plan_is(entry) ? deploy_one(t, flow, name, spec, entry, check, err) : 0;

		if (r < 0) {
			base_err_prefix(err, "flow %.*s: on[%u]", BASE_STR_ARG(flow), i);
			return -1;
		}
		if (r)
			changed(userdata, "schedule", name);
	}
	for (bool first = true; base_names_seek(t->c->schedules->by_name, at, first, &at, &value);
		first = false) {
		uint64_t n;

		if (!base_str_starts(at, prefix))
			break;
		if (base_str_u64(base_str_sub(at, prefix.len, at.len), &n) == 0 && n < i &&
			core_plan_is(base_jv_at(on, n)))
			continue;
		changed(userdata, "schedule removed", at);
		if (!check)
			core_schedule_removed_emit(
				t->block, t->cmd->now_ms, &(struct core_schedule_removed){.name = at});
	}
	return 0;
}

/* --- firing --- */

/* Of the times that have come: the last ones, how many there were, and the first that has not. */
struct pending {
	int64_t last[CORE_CATCH_MAX]; /* oldest first */
	uint32_t count, keep;	      /* in `last`; how many at most */
	uint32_t total;
	int64_t next;
};

static void note_due(struct pending *p, int64_t due_ms)
{
	if (p->count == p->keep) {
		memmove(p->last, p->last + 1, (p->count - 1) * sizeof(p->last[0]));
		p->count--;
	}
	p->last[p->count++] = due_ms;
	p->total++;
}

/* From `due_ms`, the first. Where more were missed than anybody counts, the last ones are looked for from behind. */
static void look_back(const struct core_schedule *s, int64_t due_ms, int64_t now_ms, struct pending *p)
{
	const struct core_zone *z = core_schedule_zone(s);
	int64_t first = due_ms, back = 60000;

	while (due_ms && due_ms <= now_ms && p->total < CORE_SCHEDULE_COUNT_MAX) {
		note_due(p, due_ms);
		due_ms = core_plan_next(&s->plan, z, s->anchor_ms, due_ms);
	}
	while (due_ms && due_ms <= now_ms) {
		p->count = 0;
		due_ms = core_plan_next(
			&s->plan, z, s->anchor_ms, back < now_ms - first ? now_ms - back : first - 1);
		for (; due_ms && due_ms <= now_ms; due_ms = core_plan_next(&s->plan, z, s->anchor_ms, due_ms))
			note_due(p, due_ms);
		if (p->count == p->keep)
			break;
		back *= 4;
		due_ms = first;
	}
	if (p->total > CORE_SCHEDULE_COUNT_MAX)
		p->total = CORE_SCHEDULE_COUNT_MAX;
	p->next = due_ms;
}

static void emit_fired(struct core_turn *t, const struct core_schedule *s, int64_t due_ms, uint64_t run,
	struct base_str why, uint32_t missed, int64_t next_ms)
{
	core_schedule_fired_emit(t->block, t->cmd->now_ms,
		&(struct core_schedule_fired){.name = s->name,
			.due_ms = due_ms,
			.run = run,
			.why = why,
			.missed = missed,
			.next_ms = next_ms});
}

static struct base_str message_of(struct core_turn *t, struct base_str problem)
{
	struct base_str text = problem;
	struct base_json *doc;

	if (base_json_parse(problem, &doc, NULL) < 0)
		return text;
	text = base_arena_dup(t->arena, base_jv_str(base_jv_get(base_json_root(doc), "message")));
	base_json_free(doc);
	return text;
}

/* Starts the run; 0 with *ret_why where it does not start. */
static uint64_t start(struct core_turn *t, const struct core_schedule *s, int64_t due_ms, uint32_t missed,
	struct base_str *ret_why)
{
	struct core_flow *flow = base_names_get(t->c->flows, s->flow);
	struct core_start st = {.flow = flow,
		.by = s->by,
		.key = base_arena_printf(
			t->arena, "schedule/%.*s/%lld", BASE_STR_ARG(s->name), (long long)due_ms),
		.trigger = base_arena_printf(t->arena, "schedule/%.*s", BASE_STR_ARG(s->name))};
	struct base_str problem;
	struct base_json *doc;
	struct base_err err;
	int status;

	if (!flow || !flow->current) {
		*ret_why = BASE_STR("its flow is not deployed");
		return 0;
	}
	if (base_names_get(t->c->keys, st.key)) {
		*ret_why = BASE_STR("it has started already");
		return 0;
	}
	BASE_CHECK(base_json_parse(s->spec, &doc, NULL) == 0);
	st.input = input_of(t, base_jv_get(base_json_root(doc), "input"), s->name, due_ms, missed);
	base_json_free(doc);
	if (core_input_fits(flow->current->input, st.input, &err) < 0) {
		*ret_why = base_arena_printf(t->arena, "its input does not fit the flow's: %s", err.text);
		return 0;
	}
	if (!core_start_check(t, &st, &problem, &status)) { /* flow control */
		*ret_why = message_of(t, problem);
		return 0;
	}
	return core_emit_run_started(t, &st);
}

/* One due time, by the overlap policy. */
static void fire(
	struct core_turn *t, const struct core_schedule *s, int64_t due_ms, uint32_t missed, int64_t next_ms)
{
	const struct core_run *open = core_schedule_open(t->c, s);
	struct base_str why = BASE_STR_NONE;
	uint64_t run = 0;

	if (open && s->plan.overlap == CORE_OVERLAP_SKIP)
		why = base_arena_printf(
			t->arena, "overlap: run %llu is still open", (unsigned long long)open->id);
	else if (open && s->plan.overlap == CORE_OVERLAP_QUEUE && s->queued == CORE_CATCH_MAX)
		why = base_arena_printf(t->arena, "overlap: %u firings wait already", s->queued);
	else if (open && s->plan.overlap == CORE_OVERLAP_QUEUE)
		why = BASE_STR(CORE_SCHEDULE_QUEUED);
	if (!why.len && open && s->plan.overlap == CORE_OVERLAP_REPLACE)
		core_cancel(t, open,
			core_problem(t->arena, "cancelled", "replaced by the next firing of schedule %.*s",
				BASE_STR_ARG(s->name)));
	if (!why.len)
		run = start(t, s, due_ms, missed, &why);
	emit_fired(t, s, due_ms, run, why, missed, next_ms);
}

void core_decide_schedule(struct core_turn *t, uint64_t id)
{
	const struct core_schedule *s = base_idmap_get(t->c->schedules->by_id, id);
	struct pending p = {.keep = s->plan.catch_up == CORE_CATCH_ALL ? s->plan.catch_max : 1};
	int64_t late;

	if (s->queued && !core_schedule_open(t->c, s)) {
		fire(t, s, s->queue[0], 0, s->next_ms);
		return;
	}
	look_back(s, s->next_ms, t->cmd->now_ms, &p);
	late = t->cmd->now_ms - p.last[0];
	if (s->plan.catch_up == CORE_CATCH_SKIP && late > CORE_SCHEDULE_LATE_MS)
		emit_fired(t, s, p.last[0], 0, BASE_STR("missed"), p.total, p.next);
	else
		fire(t, s, p.last[0], p.total - p.count, p.count > 1 ? p.last[1] : p.next);
}

/* --- pause --- */

void core_decide_schedule_pause(struct core_turn *t)
{
	const struct core_schedule *s = core_schedule_find(t->c, t->cmd->name);
	bool pause = t->cmd->base == 1;
	int64_t next;

	if (!s) {
		core_refuse(t, 404, "unknown_schedule",
			"there is no schedule %.*s: `aios schedules` lists them", BASE_STR_ARG(t->cmd->name));
		return;
	}
	if (s->paused != pause) {
		next = pause ? s->next_ms
			     : core_plan_next(&s->plan, core_schedule_zone(s), s->anchor_ms, t->cmd->now_ms);
		core_schedule_paused_emit(t->block, t->cmd->now_ms,
			&(struct core_schedule_paused){
				.name = s->name, .paused = pause, .by = t->cmd->by.id, .next_ms = next});
	}
	core_reply_json(t, 200,
		base_arena_printf(t->arena, "{\"paused\":%s,\"changed\":%s}", pause ? "true" : "false",
			s->paused != pause ? "true" : "false"));
}

void core_hold_schedules(struct core_turn *t)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(t->c->schedules->by_name, at, first, &at, &value);
		first = false) {
		const struct core_schedule *s = value;
		int64_t due = core_schedule_due(t->c, s);

		if (!s->paused && due && due <= t->cmd->now_ms)
			core_schedule_paused_emit(t->block, t->cmd->now_ms,
				&(struct core_schedule_paused){.name = s->name,
					.paused = 1,
					.by = BASE_STR("restored"),
					.next_ms = s->next_ms});
	}
}
