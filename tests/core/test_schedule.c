/* Schedules: what a deployment sets, when they fire, what is made up for, what overlaps, quiet hours, pause, zones. After
 * each test the log is folded from zero and from a snapshot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/schedule.h"
#include "house.h"

enum { MINUTE = 60000, HOUR = 60 * MINUTE, DAY = 24 * HOUR };
/* 2023-11-15T00:00:00Z; the house begins some hours before. */
static const int64_t midnight = INT64_C(1700006400000);

static const char *zones_folder;

static int set_up(void **state)
{
	int r = house_set_up(state, "{}");

	((struct house *)*state)->now_ms = midnight;
	return r;
}

static void deploy(struct house *h, const char *on, const char *input, struct core_cmd cmd)
{
	static unsigned version;
	char body[4096];

	snprintf(body, sizeof(body),
		"{\"flows\":[{\"name\":\"f\",\"version\":\"%064x\",\"modules\":{\"entry\":\"f\"},\"spec\":{"
		"\"on\":%s%s%s},"
		"\"grants\":[\"test.*\"]}]}",
		++version, on, *input ? ",\"input\":" : "", input);
	cmd.type = CORE_CMD_DEPLOY;
	cmd.body = base_str_of(body);
	house_do(h, cmd);
}

static void set(struct house *h, const char *on)
{
	deploy(h, on, "", (struct core_cmd){0});
	if (h->reply.status != 200)
		fail_msg("%s", h->reply_text);
}

static void refused(struct house *h, const char *on, const char *why)
{
	deploy(h, on, "", (struct core_cmd){0});
	if (h->reply.status != 422 || !strstr(h->reply_text, why))
		fail_msg("%s: %d %s", on, h->reply.status, h->reply_text);
}

static const struct core_schedule *schedule(const struct house *h, const char *name)
{
	return core_schedule_find(h->core, base_str_of(name));
}

/* The nth event of a type from behind, 0: the last. */
static bool event_back(const struct house *h, unsigned type, unsigned nth, union core_event_any *ret)
{
	for (uint64_t seq = core_seq(h->core); seq > 0; seq--) {
		struct core_record rec;
		size_t at = h->at[seq];

		assert_int_equal(core_block_next(base_buf_view(&h->log), &at, &rec), 1);
		if (rec.type != type || nth-- > 0)
			continue;
		assert_int_equal(core_event_get(rec.type, rec.body, ret), 0);
		return true;
	}
	return false;
}

static unsigned events(const struct house *h, unsigned type)
{
	union core_event_any e;
	unsigned n = 0;

	while (event_back(h, type, n, &e))
		n++;
	return n;
}

static struct core_schedule_fired fired(const struct house *h, unsigned nth)
{
	union core_event_any e;

	assert_true(event_back(h, CORE_EV_SCHEDULE_FIRED, nth, &e));
	return e.schedule_fired;
}

static void to(struct house *h, int64_t now_ms)
{
	h->now_ms = now_ms;
	house_tick(h);
}

static void end(struct house *h, uint64_t run)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = run, .body = BASE_STR("1")});
	assert_int_equal(h->reply.status, 200);
}

/* It starts at its time, not before, once, as who deployed it, with what was declared and what it is. */
static void test_fires(void **state)
{
	struct house *h = *state;
	union core_event_any e;
	char want[256];

	set(h, "[{\"cron\":\"0 7 * * *\",\"input\":{\"b\":1,\"zone\":\"x\"}}]");
	assert_int_equal(schedule(h, "f/0")->next_ms, midnight + 7 * HOUR);
	to(h, midnight + 7 * HOUR - 1);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), 0);
	to(h, midnight + 7 * HOUR);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), 1);
	assert_true(event_back(h, CORE_EV_RUN_STARTED, 0, &e));
	snprintf(want, sizeof(want),
		"{\"b\":1,\"schedule\":{\"due\":%lld,\"missed\":0,\"name\":\"f/0\"},\"zone\":\"x\"}",
		(long long)(midnight + 7 * HOUR));
	assert_true(base_str_is(e.run_started.input.data, want));
	snprintf(want, sizeof(want), "schedule/f/0/%lld", (long long)(midnight + 7 * HOUR));
	assert_true(base_str_is(e.run_started.key, want));
	assert_true(base_str_is(e.run_started.trigger, "schedule/f/0"));
	assert_true(base_str_is(e.run_started.by, "operator"));
	assert_int_equal(fired(h, 0).run, e.run_started.run);
	house_tick(h);
	to(h, midnight + 31 * HOUR - 1);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), 1);
}

static void test_deploy(void **state)
{
	struct house *h = *state;
	uint64_t id;

	set(h, "[{\"cron\":\"0 7 * * *\"},{\"webhook\":\"x\"},{\"every\":\"15m\"}]");
	assert_non_null(strstr(h->reply_text, "\"f/0\""));
	assert_non_null(schedule(h, "f/2"));
	assert_null(schedule(h, "f/1"));
	id = schedule(h, "f/2")->id;
	h->now_ms += MINUTE;
	set(h, "[{\"cron\":\"0 8 * * *\"},{\"webhook\":\"x\"},{\"every\":\"15m\"}]");
	assert_int_equal(schedule(h, "f/2")->id, id); /* as it was: its intervals count on */
	assert_int_equal(schedule(h, "f/2")->next_ms, midnight + 15 * MINUTE);
	assert_int_equal(schedule(h, "f/0")->next_ms, midnight + 8 * HOUR);
	house_do(h, (struct core_cmd){.type = CORE_CMD_SCHEDULE_PAUSE, .name = BASE_STR("f/0"), .base = 1});
	set(h, "[{\"cron\":\"0 9 * * *\"}]");
	assert_true(schedule(h, "f/0")->paused);
	assert_null(schedule(h, "f/2"));
	to(h, midnight + DAY);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), 0);
	deploy(h, "[{\"cron\":\"0 10 * * *\"}]", "",
		(struct core_cmd){.params = BASE_STR("{\"check\":true}")});
	assert_int_equal(h->reply.status, 200);
	assert_non_null(strstr(h->reply_text, "\"f/0\""));
	assert_true(base_str_is(schedule(h, "f/0")->spec, "{\"cron\":\"0 9 * * *\"}"));
	set(h, "[]");
	assert_null(schedule(h, "f/0"));
}

static void test_refused(void **state)
{
	struct house *h = *state;
	uint64_t seq = core_seq(h->core);

	refused(h, "[{\"cron\":\"0 7 * *\"}]", "flow f: on[0]: cron: ");
	refused(h, "[{\"every\":\"1s\"},{\"cron\":\"61 7 * * *\"}]", "on[1]: cron: the minute");
	refused(h, "[{\"cron\":\"0 0 31 2 *\"}]", "no such time ever comes");
	refused(h, "[{\"every\":\"10ms\"}]", "a second to a year");
	refused(h, "[{\"every\":500}]", "a second to a year");
	refused(h, "[{\"every\":\"often\"}]", "every: ");
	refused(h, "[{\"at\":\"tomorrow\"}]", "at: ");
	refused(h, "[{\"at\":\"2027-02-30T09:00\"}]", "there is no day 2027-02-30");
	refused(h, "[{\"at\":\"2027-02-03T09:00+1\"}]", "an offset such as");
	refused(h, "[{\"at\":\"2027-02-03T09:00\",\"every\":\"1d\"}]", "one of cron, every and at");
	refused(h, "[{\"every\":\"1h\",\"catchup\":\"all\"}]", "catchup is unknown");
	refused(h, "[{\"every\":\"1h\",\"catchUp\":\"some\"}]", "catchUp: it is");
	refused(h, "[{\"every\":\"1h\",\"catchUpMax\":101}]", "catchUpMax: it is 1 to 100");
	refused(h, "[{\"every\":\"1h\",\"overlap\":\"no\"}]", "overlap: it is");
	refused(h, "[{\"every\":\"1h\",\"quiet\":\"22-7\"}]", "quiet: it is");
	refused(h, "[{\"every\":\"1h\",\"quiet\":\"22:00-22:00\"}]", "quiet: it is");
	refused(h, "[{\"every\":\"1h\",\"tz\":\"../../etc/passwd\"}]", "tz: it is the name");
	refused(h, "[{\"cron\":\"0 7 * * *\",\"tz\":\"Europe/Amsterdam\"}]",
		"knows no time zone Europe/Amsterdam");
	refused(h, "[{\"every\":\"1h\",\"input\":{\"schedule\":1}}]", "put there when it fires");
	deploy(h, "[{\"every\":\"1h\"}]", "{\"type\":\"object\",\"additionalProperties\":false}",
		(struct core_cmd){0});
	assert_int_equal(h->reply.status, 422);
	assert_non_null(strstr(h->reply_text, "does not fit the flow's"));
	assert_int_equal(core_seq(h->core), seq);
}

/* Down from before the first due time on, back at `back`: what fires, with how many missed. An hour between. */
static void test_catch_up(void **state)
{
	static const struct {
		const char *policy;
		int64_t back;	 /* after the first due time */
		unsigned fires;	 /* runs that start */
		int64_t first;	 /* due time of the first of them, after the first due time */
		unsigned missed; /* told to it */
	} table[] = {
		{"\"catchUp\":\"last\"", 0, 1, 0, 0},
		{"\"catchUp\":\"last\"", HOUR - 1, 1, 0, 0},
		{"\"catchUp\":\"last\"", HOUR, 1, HOUR, 1},
		{"\"catchUp\":\"last\"", 30 * (int64_t)HOUR + 5, 1, 30 * (int64_t)HOUR, 30},
		{"\"catchUp\":\"skip\"", 0, 1, 0, 0},
		{"\"catchUp\":\"skip\"", CORE_SCHEDULE_LATE_MS, 1, 0, 0},
		{"\"catchUp\":\"skip\"", CORE_SCHEDULE_LATE_MS + 1, 0, 0, 1},
		{"\"catchUp\":\"skip\"", 3 * HOUR, 1, 3 * HOUR, 3},
		{"\"catchUp\":\"skip\"", 3 * HOUR + HOUR / 2, 0, 0, 4},
		{"\"catchUp\":\"all\"", 0, 1, 0, 0},
		{"\"catchUp\":\"all\"", 2 * HOUR - 1, 2, 0, 0},
		{"\"catchUp\":\"all\"", 2 * HOUR, 3, 0, 0},
		{"\"catchUp\":\"all\"", 9 * HOUR, 10, 0, 0},
		{"\"catchUp\":\"all\"", 10 * HOUR - 1, 10, 0, 0},
		{"\"catchUp\":\"all\"", 10 * HOUR, 10, HOUR, 1},
		{"\"catchUp\":\"all\",\"catchUpMax\":1", 5 * HOUR, 1, 5 * HOUR, 5},
		{"\"catchUp\":\"all\",\"catchUpMax\":100", 500 * (int64_t)HOUR, 100, 401 * (int64_t)HOUR,
			401},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct house *h = *state;
		unsigned before, n;
		int64_t first;
		char on[256];

		set(h, "[]");
		snprintf(on, sizeof(on), "[{\"every\":\"1h\",\"overlap\":\"allow\",%s}]", table[i].policy);
		set(h, on);
		before = events(h, CORE_EV_RUN_STARTED);
		first = h->now_ms + HOUR;
		to(h, first + table[i].back);
		n = events(h, CORE_EV_RUN_STARTED) - before;
		if (n != table[i].fires)
			fail_msg("row %zu: %u runs started", i, n);
		if (n && (fired(h, n - 1).due_ms != first + table[i].first ||
				 fired(h, n - 1).missed != table[i].missed))
			fail_msg("row %zu: the first was due at %lld, missed %u", i,
				(long long)(fired(h, n - 1).due_ms - first), fired(h, n - 1).missed);
		if (!n && (!base_str_is(fired(h, 0).why, "missed") || fired(h, 0).missed != table[i].missed))
			fail_msg("row %zu: missed %u", i, fired(h, 0).missed);
		assert_true(schedule(h, "f/0")->next_ms > h->now_ms &&
			    schedule(h, "f/0")->next_ms <= h->now_ms + HOUR);
		assert_int_equal((schedule(h, "f/0")->next_ms - first) % HOUR, 0);
		while (n-- > 0)
			end(h, fired(h, n).run);
	}
}

/* A year of seconds: the last counts, and nobody walks through all of them. */
static void test_long_sleep(void **state)
{
	struct house *h = *state;
	int64_t back = h->now_ms + 365 * (int64_t)DAY;

	set(h, "[{\"every\":\"1s\",\"catchUp\":\"all\",\"catchUpMax\":3,\"overlap\":\"allow\"},{\"cron\":\"* "
	       "* * * *\"}]");
	to(h, back);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), 4);
	assert_int_equal(schedule(h, "f/0")->due_ms, back);
	assert_int_equal(schedule(h, "f/0")->next_ms, back + 1000);
	assert_int_equal(schedule(h, "f/1")->due_ms, back);
}

static uint64_t start_first(struct house *h, const char *overlap)
{
	char on[128];

	snprintf(on, sizeof(on), "[{\"every\":\"1h\",\"overlap\":\"%s\"}]", overlap);
	set(h, on);
	to(h, h->now_ms + HOUR);
	assert_int_not_equal(fired(h, 0).run, 0);
	return fired(h, 0).run;
}

static void test_overlap(void **state)
{
	struct house *h = *state;
	uint64_t run = start_first(h, "skip");

	to(h, h->now_ms + HOUR);
	assert_int_equal(fired(h, 0).run, 0);
	assert_true(base_str_starts(fired(h, 0).why, BASE_STR("overlap: run ")));
	end(h, run);
	to(h, h->now_ms + HOUR);
	run = fired(h, 0).run;
	assert_int_not_equal(run, 0);
	end(h, run);
	assert_int_equal(schedule(h, "f/0")->outcome, CORE_DONE);

	run = start_first(h, "allow");
	to(h, h->now_ms + HOUR);
	assert_int_not_equal(fired(h, 0).run, 0);
	assert_non_null(core_run_find(h->core, run));
	end(h, run);
	assert_int_equal(schedule(h, "f/0")->outcome, 0); /* of the last one */
	end(h, fired(h, 0).run);

	run = start_first(h, "replace");
	to(h, h->now_ms + HOUR);
	assert_null(core_run_find(h->core, run));
	assert_int_not_equal(fired(h, 0).run, 0);
	assert_int_not_equal(fired(h, 0).run, run);
	end(h, fired(h, 0).run);
}

static void test_overlap_queue(void **state)
{
	struct house *h = *state;
	uint64_t run = start_first(h, "queue"), next;
	int64_t first = h->now_ms;

	to(h, first + HOUR);
	to(h, first + 2 * HOUR);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), 1);
	assert_int_equal(schedule(h, "f/0")->queued, 2);
	h->now_ms += MINUTE;
	end(h, run);
	assert_true(core_next_due(h->core) <= h->now_ms);
	house_tick(h);
	next = fired(h, 0).run;
	assert_int_not_equal(next, 0);
	assert_int_equal(fired(h, 0).due_ms, first + HOUR);
	assert_int_equal(schedule(h, "f/0")->queued, 1);
	house_do(h, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = next});
	assert_int_equal(schedule(h, "f/0")->outcome, CORE_CANCELLED);
	house_tick(h);
	assert_int_equal(fired(h, 0).due_ms, first + 2 * HOUR);
	assert_int_equal(schedule(h, "f/0")->next_ms, first + 3 * HOUR);
	end(h, fired(h, 0).run);
	assert_int_equal(schedule(h, "f/0")->queued, 0);
	run = 0;
	for (int i = 0; i < CORE_CATCH_MAX + 3; i++)
		to(h, h->now_ms + HOUR);
	assert_int_equal(schedule(h, "f/0")->queued, CORE_CATCH_MAX); /* bounded, and said */
	assert_true(base_str_starts(fired(h, 0).why, BASE_STR("overlap: 100 firings wait")));
}

/* The generation after is the schedule's run now. */
static void test_overlap_again(void **state)
{
	struct house *h = *state;
	uint64_t run = start_first(h, "skip"), next;

	house_call(h, run, 0, "run.again", "{\"state\":{}}", "");
	next = schedule(h, "f/0")->run;
	assert_int_not_equal(next, run);
	assert_non_null(core_schedule_open(h->core, schedule(h, "f/0")));
	to(h, h->now_ms + HOUR);
	assert_int_equal(fired(h, 0).run, 0);
	end(h, next);
	to(h, h->now_ms + HOUR);
	assert_int_not_equal(fired(h, 0).run, 0);
}

/* What is due in quiet hours fires once, at their end. */
static void test_quiet(void **state)
{
	struct house *h = *state;
	unsigned n;

	set(h, "[{\"every\":\"1h\",\"quiet\":\"22:00-07:00\",\"overlap\":\"allow\"}]");
	assert_int_equal(schedule(h, "f/0")->next_ms, midnight + 7 * HOUR);
	to(h, midnight + 7 * HOUR - 1);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), 0);
	for (int i = 7; i < 24 + 8; i++)
		to(h, midnight + i * HOUR);
	n = events(h, CORE_EV_RUN_STARTED); /* 07 to 21, 07 */
	assert_int_equal(n, 16);
	assert_int_equal(fired(h, 0).due_ms, midnight + DAY + 7 * HOUR);
	assert_int_equal(fired(h, 1).due_ms, midnight + 21 * HOUR);
	set(h, "[{\"at\":\"2023-11-17T12:30Z\",\"overlap\":\"allow\",\"quiet\":\"12:00-13:00\"}]");
	assert_int_equal(schedule(h, "f/0")->next_ms, midnight + 2 * DAY + 13 * HOUR);
	to(h, midnight + 3 * DAY);
	assert_int_equal(schedule(h, "f/0")->next_ms, 0);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), n + 1);
	to(h, midnight + 30 * (int64_t)DAY);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), n + 1); /* once */
}

static void test_at(void **state)
{
	struct house *h = *state;

	set(h, "[{\"at\":\"2023-11-15T09:00:30+01:00\"},{\"at\":\"2023-11-15T09:00\"},{\"at\":\"2020-01-"
	       "01T00:00\"}]");
	assert_int_equal(schedule(h, "f/0")->next_ms, midnight + 8 * HOUR + 30000);
	assert_int_equal(schedule(h, "f/1")->next_ms, midnight + 9 * HOUR);
	assert_int_equal(schedule(h, "f/2")->next_ms, 0); /* over: a deployment does not bring it back */
	to(h, midnight + DAY);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), 2);
}

static void pause(struct house *h, int on)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_SCHEDULE_PAUSE, .name = BASE_STR("f/0"), .base = on});
	assert_int_equal(h->reply.status, 200);
}

static void test_pause(void **state)
{
	struct house *h = *state;
	uint64_t seq;

	set(h, "[{\"every\":\"1h\",\"catchUp\":\"all\",\"overlap\":\"allow\"}]");
	pause(h, 1);
	seq = core_seq(h->core);
	pause(h, 1);
	assert_int_equal(core_seq(h->core), seq);
	assert_true(core_next_due(h->core) == INT64_MAX);
	to(h, midnight + 5 * HOUR + 1);
	pause(h, 0);
	house_tick(h);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), 0); /* what was due meanwhile is not made up for */
	assert_int_equal(schedule(h, "f/0")->next_ms, midnight + 6 * HOUR);
	to(h, midnight + 6 * HOUR);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), 1);
	house_do(h, (struct core_cmd){.type = CORE_CMD_SCHEDULE_PAUSE, .name = BASE_STR("g/0"), .base = 1});
	assert_int_equal(h->reply.status, 404);
}

static struct core_zone_file load(const char *file, const char *name)
{
	char path[512];
	char *text = malloc(CORE_ZONE_MAX);
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", zones_folder, file);
	f = fopen(path, "rb");
	assert_true(f && text);
	n = fread(text, 1, CORE_ZONE_MAX, f);
	(void)fclose(f);
	return (struct core_zone_file){.name = base_str_of(name), .file = {text, n}};
}

/* The rules stand in the log; others at the next start move the next time. */
static void test_zones(void **state)
{
	static const char on[] = "[{\"cron\":\"0 7 * * *\",\"tz\":\"Europe/Amsterdam\"}]";
	struct core_zone_file amsterdam = load("Europe/Amsterdam", "Europe/Amsterdam"),
			      other = load("America/New_York", "Europe/Amsterdam"),
			      broken = {.name = BASE_STR("Europe/Amsterdam"), .file = BASE_STR("no rules")};
	struct house *h = *state;
	uint64_t seq;

	deploy(h, on, "", (struct core_cmd){.zones = &broken, .zone_count = 1});
	assert_int_equal(h->reply.status, 422);
	assert_non_null(strstr(h->reply_text, "not a file of time zone rules"));
	deploy(h, on, "", (struct core_cmd){.zones = &amsterdam, .zone_count = 1});
	assert_int_equal(h->reply.status, 200);
	assert_int_equal(events(h, CORE_EV_ZONE_SET), 1);
	assert_int_equal(schedule(h, "f/0")->next_ms, midnight + 6 * HOUR);
	set(h, on); /* known by now */
	seq = core_seq(h->core);
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .zones = &amsterdam, .zone_count = 1});
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .zones = &broken, .zone_count = 1});
	assert_int_equal(core_seq(h->core), seq + 2);
	pause(h, 1);
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .zones = &other, .zone_count = 1});
	assert_int_equal(events(h, CORE_EV_ZONE_SET), 2);
	assert_int_equal(schedule(h, "f/0")->next_ms, midnight + 12 * HOUR);
	assert_true(schedule(h, "f/0")->paused);
	free((char *)(uintptr_t)amsterdam.file.ptr);
	free((char *)(uintptr_t)other.file.ptr);
}

/* The night of 2026-03-29 in Amsterdam has no 02:00 to 03:00, that of 2026-10-25 has it twice. */
static void test_changes_of_clocks(void **state)
{
	static const struct {
		const char *on;
		int64_t now, next; /* seconds, UTC */
	} table[] = {
		{"{\"at\":\"2026-03-29T02:30\",", 1774656000, 1774746000},	 /* the gap: right after it */
		{"{\"at\":\"2026-10-25T02:30\",", 1792800000, 1792888200},	 /* twice: the first */
		{"{\"at\":\"2026-10-25T02:30+01:00\",", 1792800000, 1792891800}, /* it says which */
		{"{\"cron\":\"30 1 * * *\",\"quiet\":\"01:00-02:30\",", 1774738800,
			1774746000}, /* an end that is not there */
		{"{\"cron\":\"30 1 * * *\",\"quiet\":\"01:00-02:30\",", 1792879200,
			1792888200}, /* one that comes twice */
		{"{\"cron\":\"15 * * * *\",\"quiet\":\"02:00-02:30\",", 1792890000,
			1792891800}, /* after it the second counts */
		{"{\"cron\":\"0 23 * * *\",\"quiet\":\"22:00-07:00\",", 1774699200,
			1774760400},				 /* over the change */
		{"{\"every\":\"24h\",", 1774699200, 1774785600}, /* an interval knows no clocks */
	};
	struct core_zone_file amsterdam = load("Europe/Amsterdam", "Europe/Amsterdam");

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct house *h;
		void *fresh;
		char on[256];

		assert_int_equal(set_up(&fresh), 0);
		h = fresh;
		h->now_ms = table[i].now * 1000;
		snprintf(on, sizeof(on), "[%s\"tz\":\"Europe/Amsterdam\"}]", table[i].on);
		deploy(h, on, "", (struct core_cmd){.zones = &amsterdam, .zone_count = 1});
		assert_int_equal(h->reply.status, 200);
		if (schedule(h, "f/0")->next_ms != table[i].next * 1000)
			fail_msg("%s: %lld", table[i].on, (long long)schedule(h, "f/0")->next_ms / 1000);
		assert_int_equal(house_tear_down(&fresh), 0);
	}
	free((char *)(uintptr_t)amsterdam.file.ptr);
}

/* One that was due while rules changed still is. */
static void test_zone_changes_when_due(void **state)
{
	struct core_zone_file amsterdam = load("Europe/Amsterdam", "Europe/Amsterdam"),
			      other = load("Africa/Casablanca", "Europe/Amsterdam");
	struct house *h = *state;

	deploy(h, "[{\"cron\":\"0 7 * * *\",\"tz\":\"Europe/Amsterdam\"}]", "",
		(struct core_cmd){.zones = &amsterdam, .zone_count = 1});
	h->now_ms = midnight + 8 * HOUR;
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .zones = &other, .zone_count = 1});
	house_tick(h);
	assert_int_equal(events(h, CORE_EV_RUN_STARTED), 1);
	free((char *)(uintptr_t)amsterdam.file.ptr);
	free((char *)(uintptr_t)other.file.ptr);
}

static void test_json(void **state)
{
	struct house *h = *state;
	struct base_buf b;

	base_buf_init(&b, 1 << 16);
	set(h, "[{\"every\":\"1h\"}]");
	assert_int_equal(core_schedule_json(h->core, BASE_STR("f/0"), &b), 0);
	base_buf_char(&b, '\0');
	assert_non_null(strstr(b.ptr, "\"next\":\"2023-11-15T01:00:00+00:00\""));
	assert_non_null(strstr(b.ptr, "{\"at_ms\":1700042400000,\"local\":\"2023-11-15T10:00:00+00:00\"}]"));
	base_buf_clear(&b);
	assert_true(core_schedule_json(h->core, BASE_STR("f/1"), &b) < 0);
	to(h, midnight + HOUR);
	assert_int_equal(core_schedules_json(h->core, &b), 0);
	base_buf_char(&b, '\0');
	assert_non_null(strstr(b.ptr, "\"last_outcome\":\"open\""));
	base_buf_done(&b);
}

int main(int argc, char **argv)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, house_tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_fires),
		TEST(test_deploy),
		TEST(test_refused),
		TEST(test_catch_up),
		TEST(test_long_sleep),
		TEST(test_overlap),
		TEST(test_overlap_queue),
		TEST(test_overlap_again),
		TEST(test_quiet),
		TEST(test_at),
		TEST(test_pause),
		TEST(test_zones),
		TEST(test_changes_of_clocks),
		TEST(test_zone_changes_when_due),
		TEST(test_json),
	};

	zones_folder = argc > 1 ? argv[1] : "tests/core/zones";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
