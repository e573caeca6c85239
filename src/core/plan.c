/* What a flow declares of time, read and reckoned with. */
#include "core/plan.h"

#include <errno.h>
#include <string.h>

#include "base/money.h"
#include "core/core_int.h"

enum { DAY_S = 86400, EVERY_MIN_MS = 1000 };
static const int64_t every_max_ms = INT64_C(366) * DAY_S * 1000;

static int two_digits(struct base_str s, size_t at)
{
	if (s.len < at + 2 || s.ptr[at] < '0' || s.ptr[at] > '9' || s.ptr[at + 1] < '0' ||
		s.ptr[at + 1] > '9')
		return -1;
	return (s.ptr[at] - '0') * 10 + (s.ptr[at + 1] - '0');
}

/* "07:30" as minutes, -1. */
int core_minutes_of(struct base_str s)
{
	int h = two_digits(s, 0), m = two_digits(s, 3);

	return s.len == 5 && s.ptr[2] == ':' && h >= 0 && h < 24 && m >= 0 && m < 60 ? h * 60 + m : -1;
}

/* "2027-01-01T09:00", ":30" behind it where seconds matter, then nothing, Z, or +01:00. */
static int read_at(struct base_str s, struct core_plan *p, struct base_err *err)
{
	int century = two_digits(s, 0), year = two_digits(s, 2), month = two_digits(s, 5),
	    day = two_digits(s, 8);
	int hour = two_digits(s, 11), minute = two_digits(s, 14), second = 0, back_month, back_day, west = 0;
	struct base_str rest = base_str_sub(s, 16, s.len);
	int64_t days, back_year;

	if (rest.len >= 3 && rest.ptr[0] == ':') {
		second = two_digits(rest, 1);
		rest = base_str_sub(rest, 3, rest.len);
	}
	if (s.len < 16 || s.ptr[4] != '-' || s.ptr[7] != '-' || s.ptr[10] != 'T' || s.ptr[13] != ':' ||
		century < 0 || year < 0 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 ||
		minute < 0 || minute > 59 || second < 0 || second > 59)
		return base_err_set(err, -EINVAL, "at: \"%.*s\" is not a time such as 2027-01-01T09:00",
			(int)(s.len < 64 ? s.len : 64), s.ptr);
	days = core_days_of(century * 100 + year, month, day);
	core_date_of(days, &back_year, &back_month, &back_day);
	if (back_month != month)
		return base_err_set(err, -EINVAL, "at: there is no day %.*s", 10, s.ptr);
	p->at_is_utc = rest.len > 0;
	if (rest.len > 0 && !base_str_is(rest, "Z")) {
		west = core_minutes_of(base_str_sub(rest, 1, rest.len));
		if ((rest.ptr[0] != '+' && rest.ptr[0] != '-') || west < 0)
			return base_err_set(err, -EINVAL,
				"at: behind the time stands nothing, Z, or an offset such as +01:00");
		west = rest.ptr[0] == '+' ? west : -west;
	}
	p->at_s = days * DAY_S + hour * 3600 + minute * 60 + second - west * 60;
	return 0;
}

static int read_every(struct base_jv v, struct core_plan *p, struct base_err *err)
{
	if (base_jv_kind(v) == BASE_JSON_INT)
		p->every_ms = base_jv_int(v, 0);
	else if (base_duration_parse(base_jv_str(v), &p->every_ms, err) < 0) {
		base_err_prefix(err, "every");
		return -EINVAL;
	}
	if (p->every_ms < EVERY_MIN_MS || p->every_ms > every_max_ms)
		return base_err_set(
			err, -EINVAL, "every: an interval is of a second to a year, such as \"15m\"");
	return 0;
}

static int read_quiet(struct base_jv v, struct core_plan *p, struct base_err *err)
{
	struct base_str from, to;

	if (base_jv_kind(v) == BASE_JSON_NONE)
		return 0;
	(void)base_str_cut(base_jv_str(v), '-', &from, &to);
	p->quiet_from = core_minutes_of(from);
	p->quiet_to = core_minutes_of(to);
	p->quiet = true;
	if (p->quiet_from < 0 || p->quiet_to < 0 || p->quiet_from == p->quiet_to)
		return base_err_set(
			err, -EINVAL, "quiet: it is two times of the day such as \"22:00-07:00\"");
	return 0;
}

/* Which of the words a member is; the first where it is not there. -1: none. */
static int word_of(struct base_jv entry, const char *member, const char *const *words, struct base_err *err)
{
	struct base_jv v = base_jv_get(entry, member);

	if (base_jv_kind(v) == BASE_JSON_NONE)
		return 0;
	for (int i = 0; words[i]; i++)
		if (base_str_is(base_jv_str(v), words[i]))
			return i;
	return base_err_set(err, -1, "%s: it is %s, %s or %s", member, words[0], words[1], words[2]);
}

static int read_policies(struct base_jv entry, struct core_plan *p, struct base_err *err)
{
	static const char *const catches[] = {"last", "skip", "all", NULL};
	static const char *const overlaps[] = {"skip", "allow", "queue", "replace", NULL};
	struct base_jv max = base_jv_get(entry, "catchUpMax");
	int64_t n = base_jv_int(max, CORE_CATCH_DEFAULT);
	int c = word_of(entry, "catchUp", catches, err), o;

	if (c < 0)
		return -EINVAL;
	o = word_of(entry, "overlap", overlaps, err);
	if (o < 0)
		return base_err_set(err, -EINVAL, "overlap: it is skip, allow, queue or replace");
	if ((base_jv_kind(max) != BASE_JSON_NONE && base_jv_kind(max) != BASE_JSON_INT) || n < 1 ||
		n > CORE_CATCH_MAX)
		return base_err_set(err, -EINVAL, "catchUpMax: it is 1 to %d", CORE_CATCH_MAX);
	p->catch_up = (enum core_catch_up)c;
	p->overlap = (enum core_overlap)o;
	p->catch_max = (uint32_t)n;
	return read_quiet(base_jv_get(entry, "quiet"), p, err);
}

static int read_members(struct base_jv entry, struct base_err *err)
{
	static const char *const known[] = {
		"cron", "every", "at", "tz", "catchUp", "catchUpMax", "overlap", "quiet", "input", NULL};
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(entry, &it, &key, &v)) {
		int i = 0;

		while (known[i] && !base_str_is(key, known[i]))
			i++;
		if (!known[i])
			return base_err_set(err, -EINVAL,
				"%.*s is unknown; a schedule has cron, every or at, and tz, catchUp, "
				"catchUpMax, overlap, quiet, "
				"input",
				(int)(key.len < 64 ? key.len : 64), key.ptr);
	}
	v = base_jv_get(entry, "input");
	if (base_jv_kind(v) != BASE_JSON_NONE && base_jv_kind(v) != BASE_JSON_OBJ)
		return base_err_set(err, -EINVAL, "input: it is an object");
	if (base_jv_kind(base_jv_get(v, "schedule")) != BASE_JSON_NONE)
		return base_err_set(err, -EINVAL, "input: the member schedule is put there when it fires");
	return 0;
}

bool core_plan_is(struct base_jv entry)
{
	return base_jv_kind(base_jv_get(entry, "cron")) != BASE_JSON_NONE ||
	       base_jv_kind(base_jv_get(entry, "every")) != BASE_JSON_NONE ||
	       base_jv_kind(base_jv_get(entry, "at")) != BASE_JSON_NONE ||
	       base_jv_kind(base_jv_get(entry, "event")) != BASE_JSON_NONE;
}

/* {event: "order.*", input}: publish.c starts the flow. */
static int read_event(struct base_jv entry, struct core_plan *ret, struct base_err *err)
{
	struct base_jv input = base_jv_get(entry, "input");

	if (!core_topic_pattern_valid(base_jv_str(base_jv_get(entry, "event"))))
		return base_err_set(err, -EINVAL,
			"event: it is a topic such as order.paid, all below one (order.*), or all (*)");
	if (base_jv_len(entry) > (base_jv_kind(input) == BASE_JSON_NONE ? 1 : 2))
		return base_err_set(err, -EINVAL, "a trigger by an event has event and input, nothing else");
	if (base_jv_kind(input) != BASE_JSON_NONE && base_jv_kind(input) != BASE_JSON_OBJ)
		return base_err_set(err, -EINVAL, "input: it is an object");
	if (base_jv_kind(base_jv_get(input, "event")) != BASE_JSON_NONE)
		return base_err_set(err, -EINVAL, "input: the member event is put there when it starts");
	*ret = (struct core_plan){.kind = CORE_PLAN_EVENT, .catch_max = 1};
	return 0;
}

int core_plan_read(
	struct base_jv entry, struct core_plan *ret, struct base_str *ret_zone, struct base_err *err)
{
	struct base_jv cron = base_jv_get(entry, "cron"), every = base_jv_get(entry, "every"),
		       at = base_jv_get(entry, "at"), tz = base_jv_get(entry, "tz");
	int given = (base_jv_kind(cron) != BASE_JSON_NONE) + (base_jv_kind(every) != BASE_JSON_NONE) +
		    (base_jv_kind(at) != BASE_JSON_NONE);
	struct core_plan p = {0};
	int r;

	if (base_jv_kind(base_jv_get(entry, "event")) != BASE_JSON_NONE) {
		r = read_event(entry, ret, err);
		if (r == 0)
			*ret_zone = BASE_STR_NONE;
		return r;
	}
	r = read_members(entry, err);
	if (r < 0)
		return r;
	if (given != 1)
		return base_err_set(err, -EINVAL, "a schedule has one of cron, every and at");
	if (base_jv_kind(tz) != BASE_JSON_NONE && !core_zone_name_valid(base_jv_str(tz)))
		return base_err_set(
			err, -EINVAL, "tz: it is the name of a time zone such as Europe/Amsterdam");
	if (base_jv_kind(cron) != BASE_JSON_NONE) {
		p.kind = CORE_PLAN_CRON;
		r = core_cron_read(base_jv_str(cron), &p.cron, err);
	} else if (base_jv_kind(every) != BASE_JSON_NONE) {
		p.kind = CORE_PLAN_EVERY;
		r = read_every(every, &p, err);
	} else {
		p.kind = CORE_PLAN_AT;
		r = read_at(base_jv_str(at), &p, err);
	}
	if (r == 0)
		r = read_policies(entry, &p, err);
	if (r < 0)
		return r;
	*ret = p;
	*ret_zone = base_str_is(base_jv_str(tz), "UTC") ? BASE_STR_NONE : base_jv_str(tz);
	return 0;
}

/* Without the quiet hours. */
static int64_t bare_next(
	const struct core_plan *p, const struct core_zone *z, int64_t anchor_ms, int64_t after_ms)
{
	int64_t s;

	switch (p->kind) {
	case CORE_PLAN_EVENT:
		return 0;
	case CORE_PLAN_CRON:
		s = core_cron_next(&p->cron, z, core_floor_div(after_ms, 1000));
		return s == INT64_MAX ? 0 : s * 1000;
	case CORE_PLAN_EVERY:
		if (after_ms < anchor_ms)
			return anchor_ms + p->every_ms;
		return anchor_ms + ((after_ms - anchor_ms) / p->every_ms + 1) * p->every_ms;
	default:
		s = p->at_is_utc ? p->at_s : core_zone_instant(z, p->at_s, p->at_s - 2 * DAY_S);
		return s * 1000 > after_ms ? s * 1000 : 0;
	}
}

int64_t core_quiet_end(int from, int to, const struct core_zone *z, int64_t due_ms)
{
	int64_t s = core_floor_div(due_ms, 1000), local = s + core_zone_offset(z, s);
	int64_t days = core_floor_div(local, DAY_S), end;
	int minute = (int)((local - days * DAY_S) / 60);
	bool over_midnight = from > to;
	bool in = over_midnight ? minute >= from || minute < to : minute >= from && minute < to;

	if (!in)
		return due_ms;
	if (over_midnight && minute >= from)
		days++;
	end = core_zone_instant(z, days * DAY_S + to * 60, s) * 1000;
	return end > due_ms ? end : due_ms;
}

int64_t core_plan_next(
	const struct core_plan *p, const struct core_zone *z, int64_t anchor_ms, int64_t after_ms)
{
	int64_t due = bare_next(p, z, anchor_ms, after_ms);

	return due > 0 && p->quiet ? core_quiet_end(p->quiet_from, p->quiet_to, z, due) : due > 0 ? due : 0;
}
