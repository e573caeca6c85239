/* Cron expressions, and when they fire by the clocks of a zone. */
#include "core/cron.h"

#include <errno.h>
#include <string.h>

enum { DAY_S = 86400, TEXT_MAX = 256, DAY_LAST = 0 };
static const int64_t horizon_s = INT64_C(50) * 366 * DAY_S;

struct field {
	const char *name;
	int min, max;
	const char *words; /* three letters each, the first is the value of `first` */
	int first;
};
static const struct field fields[] = {
	{"minute", 0, 59, "", 0},
	{"hour", 0, 23, "", 0},
	{"day of the month", 1, 31, "", 0},
	{"month", 1, 12, "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC", 1},
	{"day of the week", 0, 7, "SUNMONTUEWEDTHUFRISAT", 0},
};
enum { MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS };

static char upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

static bool value_of(const struct field *f, struct base_str s, int *ret)
{
	uint64_t v;

	if (base_str_u64(s, &v) == 0 ||
		(s.len == 2 && s.ptr[0] == '0' && base_str_u64(base_str_sub(s, 1, 1), &v) == 0)) {
		if (v < (uint64_t)f->min || v > (uint64_t)f->max)
			return false;
		*ret = (int)v;
		return true;
	}
	for (size_t i = 0; s.len == 3 && f->words[i]; i += 3) {
		if (upper(s.ptr[0]) != f->words[i] || upper(s.ptr[1]) != f->words[i + 1] ||
			upper(s.ptr[2]) != f->words[i + 2])
			continue;
		*ret = f->first + (int)(i / 3);
		return true;
	}
	return false;
}

/* One part of a list: its bits, or false. */
static bool part_of(const struct field *f, struct base_str part, uint64_t *bits)
{
	struct base_str range, step_text, low, high;
	bool stepped = base_str_cut(part, '/', &range, &step_text);
	uint64_t step = 1;
	int lo = f->min, hi = f->max;

	if (stepped && (base_str_u64(step_text, &step) < 0 || step == 0 || step > 60))
		return false;
	if (f == &fields[DAY] && base_str_is(part, "L")) {
		*bits |= UINT64_C(1) << DAY_LAST;
		return true;
	}
	if (!base_str_is(range, "*")) {
		bool ranged = base_str_cut(range, '-', &low, &high);

		if (!value_of(f, low, &lo) || (ranged && !value_of(f, high, &hi)) || (!ranged && stepped))
			return false;
		if (!ranged)
			hi = lo;
		else if (f == &fields[WEEKDAY] && hi == 0)
			hi = 7; /* FRI-SUN */
		if (hi < lo)
			return false;
	} else if (f == &fields[WEEKDAY]) {
		hi = 6;
	}
	for (int v = lo; v <= hi; v += (int)step)
		*bits |= UINT64_C(1) << v;
	return true;
}

static int field_of(const struct field *f, struct base_str text, uint64_t *ret, struct base_err *err)
{
	struct base_str part, rest = text;
	bool more = true;

	*ret = 0;
	while (more) {
		more = base_str_cut(rest, ',', &part, &rest);
		if (!part_of(f, part, ret))
			return base_err_set(err, -EINVAL,
				"cron: the %s \"%.*s\" is not understood: it is %d to %d, a range such as "
				"%d-%d, * or either "
				"with a step (*/2), or a list of those",
				f->name, BASE_STR_ARG(text), f->min, f->max, f->min, f->max);
	}
	return 0;
}

/* The next word; false: there is none. */
static bool word(struct base_str *rest, struct base_str *ret)
{
	size_t from = 0, to;

	while (from < rest->len && (rest->ptr[from] == ' ' || rest->ptr[from] == '\t'))
		from++;
	for (to = from; to < rest->len && rest->ptr[to] != ' ' && rest->ptr[to] != '\t';)
		to++;
	*ret = base_str_sub(*rest, from, to - from);
	*rest = base_str_sub(*rest, to, rest->len);
	return ret->len > 0;
}

static struct base_str spelled_out(struct base_str text)
{
	static const char *const table[][2] = {{"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"},
		{"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},
		{"@midnight", "0 0 * * *"}, {"@hourly", "0 * * * *"}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (base_str_is(text, table[i][0]))
			return base_str_of(table[i][1]);
	return text;
}

int core_cron_read(struct base_str text, struct core_cron *ret, struct base_err *err)
{
	struct base_str rest = spelled_out(text), at[FIELDS], more;
	uint64_t bits[FIELDS];
	bool whole = text.len <= TEXT_MAX;
	int r;

	for (int i = 0; i < FIELDS && whole; i++)
		whole = word(&rest, &at[i]);
	if (!whole || word(&rest, &more))
		return base_err_set(err, -EINVAL,
			"cron: \"%.*s\" is not five fields (minute, hour, day of the month, month, day of "
			"the week) such as "
			"\"0 7 * * MON\", or @daily and the like",
			(int)(text.len < 80 ? text.len : 80), text.ptr);
	for (int i = 0; i < FIELDS; i++) {
		r = field_of(&fields[i], at[i], &bits[i], err);
		if (r < 0)
			return r;
	}
	*ret = (struct core_cron){.minutes = bits[MINUTE],
		.hours = (uint32_t)bits[HOUR],
		.days = (uint32_t)bits[DAY],
		.months = (uint16_t)bits[MONTH],
		.weekdays = (uint8_t)((bits[WEEKDAY] | bits[WEEKDAY] >> 7) & 0x7f),
		.minute_star = at[MINUTE].ptr[0] == '*',
		.hour_star = at[HOUR].ptr[0] == '*',
		.day_star = at[DAY].ptr[0] == '*',
		.weekday_star = at[WEEKDAY].ptr[0] == '*'};
	return 0;
}

static bool day_fits(const struct core_cron *c, int64_t days)
{
	int64_t year, next_year;
	int month, day, next_month, next_day;
	bool by_date, by_week = c->weekdays >> core_weekday_of(days) & 1;

	core_date_of(days, &year, &month, &day);
	if (!(c->months >> month & 1))
		return false;
	by_date = c->days >> day & 1;
	if (!by_date && (c->days >> DAY_LAST & 1)) {
		core_date_of(days + 1, &next_year, &next_month, &next_day);
		by_date = next_day == 1;
	}
	return c->day_star || c->weekday_star ? by_date && by_week : by_date || by_week;
}

/* The first minute of a day, not before `minute`; -1: none. */
static int minute_fits(const struct core_cron *c, int minute)
{
	for (int h = minute / 60; h < 24; h++) {
		uint64_t left = c->minutes;

		if (!(c->hours >> h & 1))
			continue;
		if (h == minute / 60)
			left = left >> (minute % 60) << (minute % 60);
		if (left)
			return h * 60 + __builtin_ctzll(left);
	}
	return -1;
}

/* The first local time that fits, not before `from` and before `until`; INT64_MAX: none. */
static int64_t local_fits(const struct core_cron *c, int64_t from, int64_t until)
{
	int64_t days = core_floor_div(from, DAY_S);
	int minute = (int)((from - days * DAY_S + 59) / 60);

	for (; days * DAY_S < until; days++, minute = 0) {
		int m = minute < 24 * 60 && day_fits(c, days) ? minute_fits(c, minute) : -1;

		if (m >= 0)
			return days * DAY_S + m * 60 < until ? days * DAY_S + m * 60 : INT64_MAX;
	}
	return INT64_MAX;
}

/* Walks through the times between two changes of the clocks, from some days before, so that what came twice is seen. */
int64_t core_cron_next(const struct core_cron *c, const struct core_zone *z, int64_t after)
{
	int64_t start = after - 3 * (int64_t)DAY_S, limit = after + horizon_s, end, from, at;
	int32_t offset = core_zone_offset(z, start), before = offset;
	bool more = true;

	while (more && start < limit) {
		more = core_zone_next(z, start, &end);
		if (!more || end > limit)
			end = limit;
		/* Passed over: right after the gap. */
		if (offset > before && start > after && !c->hour_star &&
			local_fits(c, start + before, start + offset) != INT64_MAX)
			return start;
		from = start + offset;
		if (offset < before && !c->hour_star && !c->minute_star)
			from = start + before;
		if (from < after + 1 + offset)
			from = after + 1 + offset;
		at = local_fits(c, from, end + offset);
		if (at != INT64_MAX)
			return at - offset;
		start = end;
		before = offset;
		offset = core_zone_offset(z, start);
	}
	return INT64_MAX;
}
