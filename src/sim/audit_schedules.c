#include "sim/sim_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Schedules, a second time: when each is due is reckoned anew from what it declares, minute by minute, and so is what must
 * become of each due time: by its catch-up, by its overlap, by its pauses. It reads what declare.c writes, and no more.
 */

enum { MINUTE = 60000, LATE_MS = 60000, QUEUE_MAX = 100, OVERDUE_MS = 120000 };

enum overlap { SKIP, ALLOW, QUEUE, REPLACE };
enum catches { LAST, NONE, ALL };

struct schedule {
	struct base_str name, flow, spec;
	bool timed, amsterdam, paused, gone, quiet;
	int64_t every, at; /* ms */
	unsigned minute, step, hour_from, hour_to;
	unsigned quiet_from, quiet_to; /* minutes */
	enum catches catch_up;
	unsigned catch_max;
	enum overlap overlap;
	int64_t anchor, next;
	uint64_t run; /* that it started last */
	int64_t queue[QUEUE_MAX];
	unsigned queued;
};

static void broken(struct sim *s, const struct schedule *c, const char *what, int64_t due, int64_t is)
{
	sim_broken(s, SIM_SAFETY, "schedule", "event %llu: %.*s: %s (%lld, not %lld)",
		(unsigned long long)s->audit.seq, BASE_STR_ARG(c->name), what, (long long)is, (long long)due);
}

/* --- when it is due --- */

/* Amsterdam, in the year of the simulation: an hour before UTC, two between these. */
static int64_t offset(const struct schedule *c, int64_t t)
{
	return !c->amsterdam ? 0 : t >= 1774746000000 && t < 1792890000000 ? 2 * 60 * MINUTE : 60 * MINUTE;
}

static int64_t instant(const struct schedule *c, int64_t local)
{
	for (int64_t hours = 0; hours < 3; hours++)
		if (offset(c, local - hours * 60 * MINUTE) == hours * 60 * MINUTE)
			return local - hours * 60 * MINUTE;
	return local;
}

static unsigned minute_of_day(const struct schedule *c, int64_t t)
{
	return (unsigned)((t + offset(c, t)) / MINUTE % (24 * 60));
}

static bool fires_at(const struct schedule *c, int64_t t)
{
	unsigned m = minute_of_day(c, t);

	if (c->step)
		return m % 60 % c->step == 0;
	return m % 60 == c->minute && m / 60 >= c->hour_from && m / 60 <= c->hour_to;
}

static bool is_quiet(const struct schedule *c, int64_t t)
{
	unsigned m = minute_of_day(c, t);

	if (!c->quiet)
		return false;
	if (c->quiet_from < c->quiet_to)
		return m >= c->quiet_from && m < c->quiet_to;
	return m >= c->quiet_from || m < c->quiet_to;
}

/* The first time behind this one, 0: none. */
static int64_t due_after(const struct schedule *c, int64_t t)
{
	int64_t due;

	if (!c->timed)
		return 0;
	if (c->every) {
		for (due = c->anchor + (t - c->anchor) / c->every * c->every; due <= t;)
			due += c->every;
	} else if (c->at) {
		due = c->at > t ? c->at : 0;
	} else {
		for (due = t - t % MINUTE + MINUTE; !fires_at(c, due);)
			due += MINUTE;
	}
	if (due && is_quiet(c, due))
		for (due -= due % MINUTE; is_quiet(c, due);)
			due += MINUTE;
	return due;
}

/* --- what it declares --- */

static int64_t duration(const char *text)
{
	char *unit;
	int64_t n = strtoll(text, &unit, 10);

	return n * (*unit == 's' ? 1000 : *unit == 'm' ? MINUTE : 60 * MINUTE);
}

static void read_cron(struct schedule *c, const char *text)
{
	if (sscanf(text, "*/%u * * * *", &c->step) == 1)
		return;
	BASE_CHECK(sscanf(text, "%u %u-%u * * *", &c->minute, &c->hour_from, &c->hour_to) == 3);
}

static void read_at(struct schedule *c, const char *text)
{
	unsigned day, hour, minute;
	char end = 0;

	BASE_CHECK(sscanf(text, "2026-03-%uT%u:%u%c", &day, &hour, &minute, &end) >= 3);
	c->at = 1774742400000 + (((int64_t)day - 29) * 24 * 60 + hour * 60 + minute) * MINUTE;
	if (end != 'Z')
		c->at = instant(c, c->at);
}

static int one_of(struct base_str word, const char *const *words)
{
	for (int i = 0; words[i]; i++)
		if (base_str_is(word, words[i]))
			return i;
	return 0;
}

static void read_spec(struct sim *s, struct schedule *c)
{
	static const char *const overlaps[] = {"skip", "allow", "queue", "replace", NULL};
	static const char *const catches[] = {"last", "skip", "all", NULL};
	struct base_json *doc;
	struct base_jv root;
	struct base_str every, cron, at, quiet;
	unsigned h0, m0, h1, m1;

	BASE_CHECK(base_json_parse(c->spec, &doc, NULL) == 0);
	root = base_json_root(doc);
	every = sim_dup(s, base_jv_str(base_jv_get(root, "every")));
	cron = sim_dup(s, base_jv_str(base_jv_get(root, "cron")));
	at = sim_dup(s, base_jv_str(base_jv_get(root, "at")));
	quiet = sim_dup(s, base_jv_str(base_jv_get(root, "quiet")));
	c->timed = every.len || cron.len || at.len;
	c->amsterdam = base_str_is(base_jv_str(base_jv_get(root, "tz")), "Europe/Amsterdam");
	c->overlap = (enum overlap)one_of(base_jv_str(base_jv_get(root, "overlap")), overlaps);
	c->catch_up = (enum catches)one_of(base_jv_str(base_jv_get(root, "catchUp")), catches);
	c->catch_max = (unsigned)base_jv_int(base_jv_get(root, "catchUpMax"), 10);
	if (every.len)
		c->every = duration(every.ptr);
	if (cron.len)
		read_cron(c, cron.ptr);
	if (at.len)
		read_at(c, at.ptr);
	c->quiet = quiet.len && sscanf(quiet.ptr, "%u:%u-%u:%u", &h0, &m0, &h1, &m1) == 4;
	if (c->quiet) {
		c->quiet_from = h0 * 60 + m0;
		c->quiet_to = h1 * 60 + m1;
	}
	base_json_free(doc);
}

/* --- what becomes of it --- */

static void set(struct sim *s, const struct core_schedule_set *ev, int64_t now)
{
	const struct schedule *was = base_names_get(s->audit.schedules, ev->name);
	struct schedule *c;

	if (was && !was->gone && base_str_eq(was->spec, ev->spec))
		broken(s, was, "what stays as it is is set again", was->next, ev->next_ms);
	c = sim_alloc(s, sizeof(*c));
	c->name = sim_dup(s, ev->name);
	c->flow = sim_dup(s, ev->flow);
	c->spec = sim_dup(s, ev->spec);
	c->anchor = now;
	c->next = ev->next_ms;
	if (was && !was->gone) {
		c->paused = was->paused;
		c->run = was->run;
	}
	read_spec(s, c);
	if (due_after(c, now) != ev->next_ms)
		broken(s, c, "it is set to another time than it declares", due_after(c, now), ev->next_ms);
	BASE_CHECK(base_names_put(s->audit.schedules, c->name, c) == 0);
}

static void paused(struct sim *s, struct schedule *c, const struct core_schedule_paused *ev, int64_t now)
{
	int64_t next = ev->paused ? c->next : due_after(c, now);

	if (ev->paused == c->paused || ev->next_ms != next)
		broken(s, c, "a pause changes when it is due", next, ev->next_ms);
	c->paused = ev->paused;
	c->next = next;
}

/* The run that it started last, if that goes on: in this generation or a later one. */
static bool is_open(struct sim *s, const struct schedule *c)
{
	const struct sim_run_seen *r = c->run ? sim_run_seen(s, c->run) : NULL;

	while (r && r->outcome && r->next)
		r = sim_run_seen(s, r->next);
	return r && !r->outcome;
}

static void check_run(struct sim *s, const struct schedule *c, const struct core_schedule_fired *ev)
{
	const struct sim_run_seen *r = sim_run_seen(s, ev->run);
	char key[128], due[64], missed[32];

	snprintf(key, sizeof(key), "schedule/%.*s/%lld", BASE_STR_ARG(c->name), (long long)ev->due_ms);
	snprintf(due, sizeof(due), "\"due\":%lld,", (long long)ev->due_ms);
	snprintf(missed, sizeof(missed), "\"missed\":%u,", ev->missed);
	if (!r || !base_str_is(r->key, key) || !base_str_eq(r->flow, c->flow) ||
		!memmem(r->input_text.ptr, r->input_text.len, due, strlen(due)) ||
		!memmem(r->input_text.ptr, r->input_text.len, missed, strlen(missed)))
		broken(s, c, "it starts another run than the one for this time", ev->due_ms,
			(int64_t)ev->run);
}

/* Whether it starts a run, as its overlap says. */
static void check_overlap(struct sim *s, struct schedule *c, const struct core_schedule_fired *ev)
{
	bool open = is_open(s, c);

	if (open && c->overlap == SKIP) {
		if (ev->run || !base_str_starts(ev->why, BASE_STR("overlap")))
			broken(s, c, "it does not skip while its run goes on", 0, (int64_t)ev->run);
	} else if (open && c->overlap == QUEUE) {
		if (ev->run)
			broken(s, c, "it does not wait for its run", 0, (int64_t)ev->run);
		if (c->queued < QUEUE_MAX)
			c->queue[c->queued++] = ev->due_ms;
	} else if (open && c->overlap == REPLACE) {
		broken(s, c, "it does not replace its run", ev->due_ms, (int64_t)ev->run);
	} else if (!ev->run && !base_str_is(ev->why, "it has started already") && !sim_has(s, SIM_LANES)) {
		broken(s, c, "it starts nothing", ev->due_ms, (int64_t)ev->run);
	}
}

static bool from_queue(struct sim *s, struct schedule *c, const struct core_schedule_fired *ev)
{
	if (!c->queued || is_open(s, c) || (ev->run && c->run == ev->run))
		return false;
	if (ev->due_ms != c->queue[0] || ev->next_ms != c->next || ev->missed)
		broken(s, c, "the first that waits does not go first", c->queue[0], ev->due_ms);
	memmove(c->queue, c->queue + 1, --c->queued * sizeof(c->queue[0]));
	return true;
}

static void fired(struct sim *s, struct schedule *c, const struct core_schedule_fired *ev, int64_t now)
{
	int64_t last[QUEUE_MAX], due = c->next, next;
	unsigned keep = c->catch_up == ALL ? c->catch_max : 1, total = 0, at;
	bool starts = true;

	if (c->gone || c->paused)
		broken(s, c, "it fires though it does not go", 0, ev->due_ms);
	/* Of its own run nothing is known yet; of the one before everything is. */
	if (from_queue(s, c, ev)) {
		check_overlap(s, c, ev);
	} else {
		if (!due || due > now)
			broken(s, c, "it fires before its time", due, ev->due_ms);
		for (; due && due <= now; due = due_after(c, due))
			last[total++ % keep] = due;
		at = total > keep ? total - keep : 0; /* the first that is made up for */
		next = total - at > 1 ? last[(at + 1) % keep] : due;
		if (ev->due_ms != last[at % keep])
			broken(s, c, "it fires for another time than is due", last[at % keep], ev->due_ms);
		if (ev->next_ms != next)
			broken(s, c, "it is due next at another time than it declares", next, ev->next_ms);
		if (c->catch_up == NONE && now - ev->due_ms > LATE_MS) {
			starts = false;
			at = total;
		}
		if (ev->missed != at)
			broken(s, c, "what is not made up for is not counted", at, ev->missed);
		if (!starts && ev->run)
			broken(s, c, "it makes up for what it is to skip", 0, (int64_t)ev->run);
		if (starts)
			check_overlap(s, c, ev);
		c->next = next;
	}
	if (ev->run) {
		check_run(s, c, ev);
		c->run = ev->run;
	}
}

void sim_audit_schedules(struct sim *s, const struct core_record *rec, const union core_event_any *ev)
{
	struct base_str name = rec->type == CORE_EV_SCHEDULE_REMOVED  ? ev->schedule_removed.name
			       : rec->type == CORE_EV_SCHEDULE_PAUSED ? ev->schedule_paused.name
			       : rec->type == CORE_EV_SCHEDULE_FIRED  ? ev->schedule_fired.name
								      : BASE_STR_NONE;
	struct schedule *c = name.len ? base_names_get(s->audit.schedules, name) : NULL;

	if (name.len && !c)
		sim_broken(s, SIM_SAFETY, "schedule", "there is no schedule %.*s", BASE_STR_ARG(name));
	if (rec->type == CORE_EV_SCHEDULE_SET)
		set(s, &ev->schedule_set, rec->time_ms);
	else if (rec->type == CORE_EV_SCHEDULE_REMOVED)
		c->gone = true;
	else if (rec->type == CORE_EV_SCHEDULE_PAUSED)
		paused(s, c, &ev->schedule_paused, rec->time_ms);
	else if (rec->type == CORE_EV_SCHEDULE_FIRED)
		fired(s, c, &ev->schedule_fired, rec->time_ms);
}

/* --- asked by others --- */

void sim_schedules_overdue(struct sim *s, int64_t now)
{
	struct base_str name = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(s->audit.schedules, name, first, &name, &value);
		first = false) {
		const struct schedule *c = value;

		if (!c->paused && !c->gone && c->next && c->next + OVERDUE_MS < now)
			sim_broken(s, SIM_LIVENESS, "timer.lost", "schedule %.*s was due %lld ms ago",
				BASE_STR_ARG(name), (long long)(now - c->next));
	}
}

struct base_str sim_schedule_nth(struct sim *s, unsigned nth, bool going)
{
	struct base_str name = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(s->audit.schedules, name, first, &name, &value);
		first = false) {
		const struct schedule *c = value;

		if (!c->gone && !(going && (c->paused || !c->timed)) && nth-- == 0)
			return name;
	}
	return BASE_STR_NONE;
}
