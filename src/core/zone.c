/*
 * TZif: a header and data for readers of 32 bits, which is passed over, then the same with 64 bits, then a line with a
 * POSIX TZ string.
 */
#include "core/zone.h"

#include <errno.h>
#include <string.h>

#include "core/core.h"

enum { DAY_S = 86400, HEADER = 44, TIMES_MAX = 4096, TYPES_MAX = 256, OFFSET_MAX_S = 26 * 3600 };
/* Changes between two times that a search walks through at most; real zones have some hundreds in all. */
enum { WALK_MAX = 2 * TIMES_MAX };

int64_t core_floor_div(int64_t a, int64_t b)
{
	int64_t q = a / b;

	return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

/* A year of this calendar begins in March: the leap day is its last. */
int64_t core_days_of(int64_t year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = core_floor_div(y, 400);
	int64_t of_era = y - era * 400, of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

void core_date_of(int64_t days, int64_t *ret_year, int *ret_month, int *ret_day)
{
	int64_t z = days + 719468, era = core_floor_div(z, 146097), of_era = z - era * 146097;
	int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;

	*ret_day = (int)(of_year - (153 * m + 2) / 5 + 1);
	*ret_month = (int)(m < 10 ? m + 3 : m - 9);
	*ret_year = y + era * 400 + (*ret_month <= 2);
}

int core_weekday_of(int64_t days)
{
	return (int)(days + 4 - core_floor_div(days + 4, 7) * 7);
}

static uint32_t u32_at(const char *p)
{
	const unsigned char *b = (const unsigned char *)p;

	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static int64_t i64_at(const char *p)
{
	return (int64_t)((uint64_t)u32_at(p) << 32 | u32_at(p + 4));
}

static int64_t time_at(const struct core_zone *z, uint32_t i)
{
	return i64_at(z->times + (size_t)i * 8);
}

static int32_t type_offset(const struct core_zone *z, unsigned type)
{
	return (int32_t)u32_at(z->infos + (size_t)type * 6);
}

/* --- the footer --- */

/* A number of at most three digits; false: there is none. */
static bool number(struct base_str *s, int *ret)
{
	size_t n = 0;
	int v = 0;

	for (; n < s->len && n < 3 && s->ptr[n] >= '0' && s->ptr[n] <= '9'; n++)
		v = v * 10 + (s->ptr[n] - '0');
	if (n == 0)
		return false;
	*s = base_str_sub(*s, n, s->len);
	*ret = v;
	return true;
}

static bool skip(struct base_str *s, char c)
{
	if (s->len == 0 || s->ptr[0] != c)
		return false;
	*s = base_str_sub(*s, 1, s->len);
	return true;
}

/* [+-]hours[:minutes[:seconds]] */
static bool clock_of(struct base_str *s, int hours_max, int *ret_s)
{
	int sign = 1, h, m = 0, sec = 0;

	if (skip(s, '-'))
		sign = -1;
	else
		(void)skip(s, '+');
	if (!number(s, &h) || (skip(s, ':') && (!number(s, &m) || (skip(s, ':') && !number(s, &sec)))))
		return false;
	if (h > hours_max || m > 59 || sec > 59)
		return false;
	*ret_s = sign * (h * 3600 + m * 60 + sec);
	return true;
}

/* Three letters or more, or anything in <>: nobody asks for it. */
static bool skip_name(struct base_str *s)
{
	size_t n = 0;
	ptrdiff_t end;

	if (skip(s, '<')) {
		end = base_str_find(*s, '>');
		if (end < 1)
			return false;
		*s = base_str_sub(*s, (size_t)end + 1, s->len);
		return true;
	}
	while (n < s->len &&
		((s->ptr[n] >= 'a' && s->ptr[n] <= 'z') || (s->ptr[n] >= 'A' && s->ptr[n] <= 'Z')))
		n++;
	*s = base_str_sub(*s, n, s->len);
	return n >= 3;
}

static bool date_rule(struct base_str *s, struct core_zone_rule *ret)
{
	struct core_zone_rule r = {.kind = 'N', .time_s = 7200};

	if (!skip(s, ','))
		return false;
	if (skip(s, 'M')) {
		r.kind = 'M';
		if (!number(s, &r.month) || !skip(s, '.') || !number(s, &r.week) || !skip(s, '.') ||
			!number(s, &r.day))
			return false;
		if (r.month < 1 || r.month > 12 || r.week < 1 || r.week > 5 || r.day > 6)
			return false;
	} else {
		if (skip(s, 'J'))
			r.kind = 'J';
		if (!number(s, &r.day) || r.day > 365 || (r.kind == 'J' && r.day < 1))
			return false;
	}
	if (skip(s, '/') && !clock_of(s, 167, &r.time_s))
		return false;
	*ret = r;
	return true;
}

static bool footer_of(struct base_str s, struct core_zone *z)
{
	int west;

	if (s.len == 0) /* nothing is known of times after the last change: it stays as it was */
		return true;
	if (!skip_name(&s) || !clock_of(&s, 24, &west))
		return false;
	z->footer = true;
	z->standard_s = -west;
	if (s.len == 0)
		return true;
	z->dst = true;
	z->summer_s = z->standard_s + 3600;
	if (!skip_name(&s))
		return false;
	if (s.len && s.ptr[0] != ',') {
		if (!clock_of(&s, 24, &west))
			return false;
		z->summer_s = -west;
	}
	return date_rule(&s, &z->start) && date_rule(&s, &z->end) && s.len == 0;
}

static int64_t rule_day(const struct core_zone_rule *r, int64_t year)
{
	int64_t first, last;
	bool leap;

	if (r->kind == 'N')
		return core_days_of(year, 1, 1) + r->day;
	if (r->kind == 'J') {
		leap = core_days_of(year, 3, 1) - core_days_of(year, 2, 28) == 2;
		return core_days_of(year, 1, 1) + r->day - 1 + (leap && r->day >= 60);
	}
	first = core_days_of(year, r->month, 1);
	last = (r->month == 12 ? core_days_of(year + 1, 1, 1) : core_days_of(year, r->month + 1, 1)) - 1;
	first += (r->day - core_weekday_of(first) + 7) % 7 + (r->week - 1) * 7;
	return first > last ? first - 7 : first;
}

static int64_t summer_start(const struct core_zone *z, int64_t year)
{
	return rule_day(&z->start, year) * DAY_S + z->start.time_s - z->standard_s;
}

static int64_t summer_end(const struct core_zone *z, int64_t year)
{
	return rule_day(&z->end, year) * DAY_S + z->end.time_s - z->summer_s;
}

static int64_t year_of(int64_t local)
{
	int64_t year;
	int month, day;

	core_date_of(core_floor_div(local, DAY_S), &year, &month, &day);
	return year;
}

static int32_t footer_offset(const struct core_zone *z, int64_t time)
{
	int64_t year, start, end;
	bool summer;

	if (!z->dst)
		return z->standard_s;
	year = year_of(time + z->standard_s);
	start = summer_start(z, year);
	end = summer_end(z, year);
	summer = start < end ? time >= start && time < end : time >= start || time < end;
	return summer ? z->summer_s : z->standard_s;
}

static bool footer_next(const struct core_zone *z, int64_t after, int64_t *ret)
{
	int64_t year, best = INT64_MAX;

	if (!z->dst)
		return false;
	year = year_of(after);
	for (int64_t y = year - 1; y <= year + 1; y++) {
		int64_t at[2] = {summer_start(z, y), summer_end(z, y)};

		for (int i = 0; i < 2; i++)
			if (at[i] > after && at[i] < best)
				best = at[i];
	}
	if (best == INT64_MAX)
		return false;
	*ret = best;
	return true;
}

/* --- the file --- */

struct block {
	uint32_t isut, isstd, leap, time, type, chars;
	size_t size;
};

static bool header(struct base_str s, size_t width, struct block *ret)
{
	struct block b;

	if (s.len < HEADER || memcmp(s.ptr, "TZif", 4) != 0)
		return false;
	b.isut = u32_at(s.ptr + 20);
	b.isstd = u32_at(s.ptr + 24);
	b.leap = u32_at(s.ptr + 28);
	b.time = u32_at(s.ptr + 32);
	b.type = u32_at(s.ptr + 36);
	b.chars = u32_at(s.ptr + 40);
	if (b.time > TIMES_MAX || b.type < 1 || b.type > TYPES_MAX || b.leap > TIMES_MAX ||
		b.chars > TIMES_MAX || b.isut > TYPES_MAX || b.isstd > TYPES_MAX)
		return false;
	b.size = b.time * (width + 1) + b.type * 6 + b.chars + b.leap * (width + 4) + b.isstd + b.isut;
	if (s.len - HEADER < b.size)
		return false;
	*ret = b;
	return true;
}

static bool tables_of(const struct core_zone *z)
{
	for (uint32_t i = 0; i < z->time_count; i++) {
		if (i && time_at(z, i) <= time_at(z, i - 1))
			return false;
		if ((unsigned char)z->types[i] >= z->type_count)
			return false;
	}
	for (uint32_t i = 0; i < z->type_count; i++) {
		int32_t o = type_offset(z, i);

		if (o < -OFFSET_MAX_S || o > OFFSET_MAX_S)
			return false;
	}
	return true;
}

int core_zone_read(struct base_str file, struct core_zone *ret, struct base_err *err)
{
	struct core_zone z = {0};
	struct block b;
	const char *at;

	if (file.len == 0) {
		*ret = z;
		return 0;
	}
	if (file.len > CORE_ZONE_MAX || !header(file, 4, &b))
		return base_err_set(err, -EBADMSG, "it is not a file of time zone rules (TZif)");
	if (file.ptr[4] < '2')
		return base_err_set(err, -EBADMSG,
			"it is of TZif version 1, which does not tell of the future; 2 is needed");
	file = base_str_sub(file, HEADER + b.size, file.len);
	if (!header(file, 8, &b))
		return base_err_set(err, -EBADMSG, "its part for 64 bits is damaged");
	if (b.leap)
		return base_err_set(err, -EBADMSG,
			"it counts leap seconds; take the zone of the same name that does not");
	at = file.ptr + HEADER;
	z.times = at;
	z.types = at + (size_t)b.time * 8;
	z.infos = z.types + b.time;
	z.time_count = b.time;
	z.type_count = b.type;
	if (!tables_of(&z))
		return base_err_set(err, -EBADMSG, "its table of changes is damaged");
	file = base_str_sub(file, HEADER + b.size, file.len);
	if (file.len < 2 || file.ptr[0] != '\n' || file.ptr[file.len - 1] != '\n' ||
		!footer_of(base_str_sub(file, 1, file.len - 2), &z))
		return base_err_set(err, -EBADMSG, "the line at its end is damaged");
	*ret = z;
	return 0;
}

bool core_zone_name_valid(struct base_str name)
{
	bool fresh = true; /* at the start of a segment */

	if (name.len == 0 || name.len > CORE_ZONE_NAME_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (c == '/' ? fresh
			     : !letter && (fresh || !((c >= '0' && c <= '9') || (c && strchr("_+-", c)))))
			return false;
		fresh = c == '/';
	}
	return !fresh;
}

int32_t core_zone_offset(const struct core_zone *z, int64_t time)
{
	uint32_t lo = 0, hi = z->time_count;

	if (z->type_count == 0)
		return 0;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (time_at(z, mid) <= time)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == z->time_count && z->footer)
		return footer_offset(z, time);
	return type_offset(z, lo ? (unsigned char)z->types[lo - 1] : 0);
}

bool core_zone_next(const struct core_zone *z, int64_t after, int64_t *ret)
{
	uint32_t lo = 0, hi = z->time_count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (time_at(z, mid) <= after)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < z->time_count) {
		*ret = time_at(z, lo);
		return true;
	}
	return z->footer && footer_next(z, after, ret);
}

int64_t core_zone_instant(const struct core_zone *z, int64_t local, int64_t from)
{
	int64_t t = from, end, at;

	for (int i = 0; i < WALK_MAX; i++) {
		at = local - core_zone_offset(z, t);
		if (!core_zone_next(z, t, &end) || at < end)
			return at > t ? at : t;
		t = end;
	}
	return t;
}
