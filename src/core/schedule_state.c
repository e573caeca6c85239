/* Schedules into the state, into a snapshot, and as JSON. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "core/schedule.h"

int core_schedules_new(struct core *c)
{
	struct core_schedules *x = base_slab_alloc(c->slab, sizeof(*x));

	c->schedules = x;
	return base_names_new(&x->by_name) < 0 || base_names_new(&x->zones) < 0 ||
			       base_idmap_new(&x->by_id) < 0 || base_idmap_new(&x->runs) < 0
		       ? -1
		       : 0;
}

void core_schedules_free(struct core *c)
{
	if (!c->schedules)
		return;
	base_names_free(c->schedules->by_name);
	base_names_free(c->schedules->zones);
	base_idmap_free(c->schedules->by_id);
	base_idmap_free(c->schedules->runs);
}

struct core_schedule *core_schedule_find(const struct core *c, struct base_str name)
{
	return base_names_get(c->schedules->by_name, name);
}

const struct core_zone *core_schedule_zone(const struct core_schedule *s)
{
	static const struct core_zone utc;

	return s->zone ? &s->zone->zone : &utc;
}

const struct core_run *core_schedule_open(const struct core *c, const struct core_schedule *s)
{
	const struct core_run *r = s->run ? core_run_find(c, s->run) : NULL;

	return r && r->state != CORE_RUN_ENDED ? r : NULL;
}

int64_t core_schedule_due(const struct core *c, const struct core_schedule *s)
{
	if (s->paused)
		return 0;
	return s->queued && !core_schedule_open(c, s) ? s->queue[0] : s->next_ms;
}

bool core_schedule_timer_is_live(const struct core *c, uint64_t id, int64_t when)
{
	const struct core_schedule *s = base_idmap_get(c->schedules->by_id, id);

	return s && core_schedule_due(c, s) == when;
}

static void arm(struct core *c, const struct core_schedule *s)
{
	int64_t due = core_schedule_due(c, s);

	if (due)
		core_timer_add(c, CORE_TIMER_SCHEDULE, s->id, 0, due);
}

/* --- apply --- */

static struct core_zone_rules *zone_put(struct core *c, struct base_str name, struct base_str file)
{
	struct core_zone_rules *z = base_names_get(c->schedules->zones, name);

	if (!z) {
		z = base_slab_alloc(c->slab, sizeof(*z));
		z->name = base_slab_dup(c->slab, name);
		BASE_CHECK(base_names_put(c->schedules->zones, name, z) == 0);
	}
	core_set_str(c, &z->file, file);
	/* Rules that an older binary took and this one does not are those of UTC. */
	if (core_zone_read(z->file, &z->zone, NULL) < 0)
		z->zone = (struct core_zone){0};
	return z;
}

/* The plan and the zone from the spec. */
static void derive(struct core *c, struct core_schedule *s)
{
	struct base_str zone = BASE_STR_NONE;
	struct base_json *doc;

	BASE_CHECK(base_json_parse(s->spec, &doc, NULL) == 0);
	/* One that an older binary took and this one does not never fires. */
	if (core_plan_read(base_json_root(doc), &s->plan, &zone, NULL) < 0) {
		s->plan = (struct core_plan){.kind = CORE_PLAN_AT, .at_is_utc = true, .catch_max = 1};
		s->next_ms = 0;
	}
	s->zone = zone.len ? base_names_get(c->schedules->zones, zone) : NULL;
	base_json_free(doc);
}

static void apply_set(struct core_apply *a, const struct core_schedule_set *e)
{
	struct core *c = a->c;
	struct core_schedule *s = core_schedule_find(c, e->name);
	bool same = s && base_str_eq(s->spec, e->spec);

	if (!s) {
		s = base_slab_alloc(c->slab, sizeof(*s));
		s->name = base_slab_dup(c->slab, e->name);
		BASE_CHECK(base_names_put(c->schedules->by_name, e->name, s) == 0);
	} else {
		base_idmap_remove(c->schedules->by_id, s->id);
	}
	s->id = a->seq;
	BASE_CHECK(base_idmap_put(c->schedules->by_id, s->id, s) == 0);
	core_set_str(c, &s->flow, e->flow);
	core_set_str(c, &s->by, e->by);
	core_set_str(c, &s->spec, e->spec);
	s->next_ms = e->next_ms;
	if (!same) { /* else: only its zone has changed */
		s->anchor_ms = s->after_ms = a->time_ms;
		s->queued = 0;
	}
	derive(c, s);
	arm(c, s);
}

static void forget_run(struct core *c, struct core_schedule *s)
{
	if (base_idmap_get(c->schedules->runs, s->run) == s)
		base_idmap_remove(c->schedules->runs, s->run);
}

static void apply_removed(struct core_apply *a, const struct core_schedule_removed *e)
{
	struct core *c = a->c;
	struct core_schedule *s = base_names_remove(c->schedules->by_name, e->name);
	struct base_str *texts[] = {&s->name, &s->flow, &s->by, &s->spec};

	base_idmap_remove(c->schedules->by_id, s->id);
	forget_run(c, s);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		base_slab_str_release(c->slab, *texts[i]);
	base_slab_release(c->slab, s, sizeof(*s));
}

static void apply_fired(struct core_apply *a, const struct core_schedule_fired *e)
{
	struct core *c = a->c;
	struct core_schedule *s = core_schedule_find(c, e->name);

	if (s->queued && s->queue[0] == e->due_ms) {
		s->queued--;
		memmove(s->queue, s->queue + 1, s->queued * sizeof(s->queue[0]));
		s->queue[s->queued] = 0;
	} else {
		s->after_ms = e->due_ms;
	}
	s->next_ms = e->next_ms;
	if (e->run) {
		forget_run(c, s);
		s->run = e->run;
		s->due_ms = e->due_ms;
		s->outcome = 0;
		BASE_CHECK(base_idmap_put(c->schedules->runs, s->run, s) == 0);
	} else if (base_str_is(e->why, CORE_SCHEDULE_QUEUED)) {
		BASE_CHECK(s->queued < CORE_CATCH_MAX);
		s->queue[s->queued++] = e->due_ms;
	}
	arm(c, s);
}

static void apply_paused(struct core_apply *a, const struct core_schedule_paused *e)
{
	struct core_schedule *s = core_schedule_find(a->c, e->name);

	s->paused = e->paused;
	s->next_ms = e->next_ms;
	if (!s->paused)
		s->after_ms = a->time_ms;
	arm(a->c, s);
}

void core_apply_schedule(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	switch (type) {
	case CORE_EV_ZONE_SET:
		(void)zone_put(a->c, e->zone_set.name, e->zone_set.rules);
		break;
	case CORE_EV_SCHEDULE_SET:
		apply_set(a, &e->schedule_set);
		break;
	case CORE_EV_SCHEDULE_REMOVED:
		apply_removed(a, &e->schedule_removed);
		break;
	case CORE_EV_SCHEDULE_FIRED:
		apply_fired(a, &e->schedule_fired);
		break;
	default:
		apply_paused(a, &e->schedule_paused);
		break;
	}
}

void core_schedule_run_ended(struct core *c, uint64_t run, uint8_t outcome, uint64_t next)
{
	struct core_schedule *s = base_idmap_remove(c->schedules->runs, run);

	if (!s)
		return;
	if (next) { /* the generation after is its run now */
		s->run = next;
		BASE_CHECK(base_idmap_put(c->schedules->runs, next, s) == 0);
		return;
	}
	s->outcome = outcome;
	if (s->queued)
		arm(c, s);
}

/* --- snapshot --- */

void core_schedules_put(const struct core *c, struct base_buf *b)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	base_put_u64(b, base_names_count(c->schedules->zones));
	for (bool first = true; base_names_seek(c->schedules->zones, at, first, &at, &value); first = false) {
		base_put_str(b, at);
		base_put_str(b, ((const struct core_zone_rules *)value)->file);
	}
	base_put_u64(b, base_names_count(c->schedules->by_name));
	at = BASE_STR_NONE;
	for (bool first = true; base_names_seek(c->schedules->by_name, at, first, &at, &value);
		first = false) {
		const struct core_schedule *s = value;

		base_put_str(b, s->name);
		base_put_str(b, s->flow);
		base_put_str(b, s->by);
		base_put_str(b, s->spec);
		base_put_u64(b, s->id);
		base_put_i64(b, s->anchor_ms);
		base_put_i64(b, s->after_ms);
		base_put_i64(b, s->next_ms);
		base_put_i64(b, s->due_ms);
		base_put_u64(b, s->run);
		base_put_u64(b, s->outcome);
		base_put_u64(b, s->paused);
		base_put_u64(b, s->queued);
		for (uint32_t i = 0; i < s->queued; i++)
			base_put_i64(b, s->queue[i]);
	}
}

static void get_one(struct core *c, struct base_reader *r)
{
	struct core_schedule *s = base_slab_alloc(c->slab, sizeof(*s));
	struct base_json *doc;

	s->name = base_slab_dup(c->slab, base_get_str(r));
	s->flow = base_slab_dup(c->slab, base_get_str(r));
	s->by = base_slab_dup(c->slab, base_get_str(r));
	s->spec = base_slab_dup(c->slab, base_get_str(r));
	s->id = base_get_u64(r);
	s->anchor_ms = base_get_i64(r);
	s->after_ms = base_get_i64(r);
	s->next_ms = base_get_i64(r);
	s->due_ms = base_get_i64(r);
	s->run = base_get_u64(r);
	s->outcome = (uint8_t)base_get_uint(r, 255);
	s->paused = base_get_uint(r, 1) != 0;
	s->queued = (uint32_t)base_get_uint(r, CORE_CATCH_MAX);
	for (uint32_t i = 0; i < s->queued && !r->failed; i++)
		s->queue[i] = base_get_i64(r);
	if (r->failed || base_json_parse(s->spec, &doc, NULL) < 0) {
		r->failed = 1;
		return;
	}
	base_json_free(doc);
	derive(c, s);
	if (base_names_put(c->schedules->by_name, s->name, s) < 0 ||
		base_idmap_put(c->schedules->by_id, s->id, s) < 0 ||
		(core_schedule_open(c, s) && base_idmap_put(c->schedules->runs, s->run, s) < 0))
		r->failed = 1;
	arm(c, s);
}

void core_schedules_get(struct core *c, struct base_reader *r)
{
	uint64_t n = base_get_u64(r);

	for (uint64_t i = 0; i < n && !r->failed; i++) {
		struct base_str name = base_get_str(r), file = base_get_str(r);

		if (!r->failed)
			(void)zone_put(c, name, file);
	}
	n = base_get_u64(r);
	for (uint64_t i = 0; i < n && !r->failed; i++)
		get_one(c, r);
}

void core_schedules_check(const struct core *c)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(c->schedules->by_name, at, first, &at, &value);
		first = false) {
		const struct core_schedule *s = value;

		BASE_CHECK(base_idmap_get(c->schedules->by_id, s->id) == s);
		BASE_CHECK(s->queued <= CORE_CATCH_MAX && s->run < c->next_run);
		BASE_CHECK(s->next_ms == 0 || s->next_ms > s->after_ms);
		BASE_CHECK((base_idmap_get(c->schedules->runs, s->run) == s) ==
			   (core_schedule_open(c, s) != NULL));
		BASE_CHECK(s->queued == 0 || s->plan.overlap == CORE_OVERLAP_QUEUE);
	}
	BASE_CHECK(base_idmap_count(c->schedules->by_id) == base_names_count(c->schedules->by_name));
}

/* --- JSON --- */

/* 2026-11-23T07:00:00+01:00 */
static void put_local(struct base_jw *w, const char *member, const struct core_zone *z, int64_t ms)
{
	int64_t s = core_floor_div(ms, 1000), offset = core_zone_offset(z, s), days, year, left;
	struct base_buf b;
	int month, day;

	days = core_floor_div(s + offset, 86400);
	left = s + offset - days * 86400;
	core_date_of(days, &year, &month, &day);
	base_buf_init(&b, 64);
	base_buf_printf(&b, "%04lld-%02d-%02dT%02lld:%02lld:%02lld%c%02lld:%02lld", (long long)year, month,
		day, (long long)(left / 3600), (long long)(left / 60 % 60), (long long)(left % 60),
		offset < 0 ? '-' : '+', (long long)((offset < 0 ? -offset : offset) / 3600),
		(long long)((offset < 0 ? -offset : offset) / 60 % 60));
	base_jw_mstr(w, member, base_buf_view(&b));
	base_buf_done(&b);
}

static void put_firings(struct base_jw *w, const struct core_schedule *s)
{
	const struct core_zone *z = core_schedule_zone(s);
	int64_t due = s->next_ms;

	base_jw_key(w, "firings");
	base_jw_arr(w);
	for (int i = 0; i < CORE_SCHEDULE_FIRINGS && due; i++) {
		base_jw_obj(w);
		base_jw_mint(w, "at_ms", due);
		put_local(w, "local", z, due);
		base_jw_end_obj(w);
		due = core_plan_next(&s->plan, z, s->anchor_ms, due);
	}
	base_jw_end_arr(w);
}

static const char *outcome_of(const struct core *c, const struct core_schedule *s)
{
	if (core_schedule_open(c, s))
		return "open";
	return s->outcome == CORE_DONE	      ? "done"
	       : s->outcome == CORE_FAILED    ? "failed"
	       : s->outcome == CORE_CANCELLED ? "cancelled"
					      : "";
}

/* "0 7 * * MON, Europe/Amsterdam", "every 15m": for a list. */
static void put_when(struct base_jw *w, const struct core_schedule *s)
{
	struct base_json *doc;
	struct base_jv root, every;
	struct base_buf b;

	BASE_CHECK(base_json_parse(s->spec, &doc, NULL) == 0);
	root = base_json_root(doc);
	every = base_jv_get(root, "every");
	base_buf_init(&b, 4096);
	if (s->plan.kind == CORE_PLAN_CRON) {
		base_buf_str(&b, base_jv_str(base_jv_get(root, "cron")));
	} else if (s->plan.kind == CORE_PLAN_EVENT) {
		base_buf_cstr(&b, "event ");
		base_buf_str(&b, base_jv_str(base_jv_get(root, "event")));
	} else if (s->plan.kind == CORE_PLAN_AT) {
		base_buf_cstr(&b, "at ");
		base_buf_str(&b, base_jv_str(base_jv_get(root, "at")));
	} else {
		base_buf_cstr(&b, "every ");
		if (base_jv_kind(every) == BASE_JSON_STR)
			base_buf_str(&b, base_jv_str(every));
		else
			base_duration_put(&b, s->plan.every_ms);
	}
	if (s->zone) {
		base_buf_cstr(&b, ", ");
		base_buf_str(&b, s->zone->name);
	}
	base_jw_mstr(w, "when", base_buf_view(&b));
	base_buf_done(&b);
	base_json_free(doc);
}

static const char *state_of(const struct core_schedule *s)
{
	if (s->paused)
		return "paused";
	return s->next_ms || s->plan.kind == CORE_PLAN_EVENT ? "active" : "over";
}

static void put_schedule(const struct core *c, struct base_jw *w, const struct core_schedule *s, bool firings)
{
	base_jw_obj(w);
	base_jw_mstr(w, "name", s->name);
	base_jw_mstr(w, "flow", s->flow);
	put_when(w, s);
	base_jw_mraw(w, "spec", s->spec);
	base_jw_mcstr(w, "state", state_of(s));
	base_jw_mstr(w, "by", s->by);
	base_jw_mbool(w, "paused", s->paused);
	if (s->next_ms && !s->paused) {
		base_jw_mint(w, "next_ms", s->next_ms);
		put_local(w, "next", core_schedule_zone(s), s->next_ms);
	}
	if (s->queued)
		base_jw_mint(w, "queued", s->queued);
	if (s->run) {
		base_jw_mint(w, "last_run", (int64_t)s->run);
		base_jw_mint(w, "last_due_ms", s->due_ms);
		base_jw_mcstr(w, "last_outcome", outcome_of(c, s));
	}
	if (firings)
		put_firings(w, s);
	base_jw_end_obj(w);
}

int core_schedules_json(const struct core *c, struct base_buf *ret)
{
	struct base_str at = BASE_STR_NONE;
	struct base_jw w = base_jw_of(ret);
	void *value;

	base_jw_obj(&w);
	base_jw_key(&w, "items");
	base_jw_arr(&w);
	for (bool first = true; base_names_seek(c->schedules->by_name, at, first, &at, &value); first = false)
		put_schedule(c, &w, value, false);
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	return base_buf_failed(ret);
}

int core_schedule_json(const struct core *c, struct base_str name, struct base_buf *ret)
{
	const struct core_schedule *s = core_schedule_find(c, name);
	struct base_jw w = base_jw_of(ret);

	if (!s)
		return -ENOENT;
	put_schedule(c, &w, s, true);
	return base_buf_failed(ret);
}
