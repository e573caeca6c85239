#include <string.h>

#include "cel/cel_int.h"

/* Timestamps (RFC 3339, in the proleptic Gregorian calendar) and durations, as text and in parts. */

#define ARGS struct cel_run *run, const struct cel_value *args, unsigned count

enum { DAY_S = 86400 };
#define SECOND_NS 1000000000LL

/* --- the calendar --- */

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Days since 1970-01-01; the year starts in March, so that the day that comes and goes is its last. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = floor_div(y, 400), of_era = y - era * 400;
	int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

struct date {
	int64_t year, month, day; /* month and day from 1 */
};

static struct date date_of(int64_t days)
{
	int64_t z = days + 719468, era = floor_div(z, 146097), n = z - era * 146097;
	int64_t y = (n - n / 1460 + n / 36524 - n / 146096) / 365, of_year = n - (365 * y + y / 4 - y / 100);
	int64_t m = (5 * of_year + 2) / 153;
	struct date d = {.day = of_year - (153 * m + 2) / 5 + 1, .month = m < 10 ? m + 3 : m - 9};

	d.year = y + era * 400 + (d.month <= 2);
	return d;
}

static bool leap(int64_t year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t month_days(int64_t year, int64_t month)
{
	static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return days[month - 1] + (month == 2 && leap(year));
}

/* --- reading --- */

struct reader {
	struct base_str s;
	bool bad;
};

static char peek(const struct reader *r)
{
	return r->s.len ? r->s.ptr[0] : '\0';
}

static char take(struct reader *r)
{
	char c = peek(r);

	r->bad |= r->s.len == 0;
	r->s = base_str_sub(r->s, 1, r->s.len);
	return c;
}

static int64_t number(struct reader *r, int digits)
{
	int64_t v = 0;

	while (digits-- > 0) {
		char c = take(r);

		r->bad |= c < '0' || c > '9';
		v = v * 10 + (c - '0');
	}
	return v;
}

static void literal(struct reader *r, const char *any)
{
	char c = take(r);

	r->bad |= c == '\0' || !strchr(any, c);
}

/* Digits behind a point as billionths, and six more of them; further ones are cut off. */
static int64_t fraction(struct reader *r, int64_t *ret_finer)
{
	int64_t ns = 0, unit = 100000000, finer = 0, finer_unit = 100000;
	bool any = false;

	*ret_finer = 0;
	if (peek(r) != '.')
		return 0;
	take(r);
	while (peek(r) >= '0' && peek(r) <= '9') {
		int digit = take(r) - '0';

		if (unit > 0) {
			ns += digit * unit;
			unit /= 10;
		} else {
			finer += digit * finer_unit;
			finer_unit /= 10;
		}
		any = true;
	}
	r->bad |= !any;
	*ret_finer = finer;
	return ns;
}

static int64_t hours_minutes(struct reader *r)
{
	int64_t hours = number(r, 2), minutes;

	literal(r, ":");
	minutes = number(r, 2);
	r->bad |= hours > 23 || minutes > 59;
	return hours * 3600 + minutes * 60;
}

bool cel_timestamp_parse(struct base_str s, struct cel_value *ret)
{
	struct reader r = {.s = s};
	int64_t year, month, day, time, seconds, ns, finer, ahead = 0;
	char sign;

	year = number(&r, 4);
	literal(&r, "-");
	month = number(&r, 2);
	literal(&r, "-");
	day = number(&r, 2);
	literal(&r, "Tt");
	time = hours_minutes(&r);
	literal(&r, ":");
	seconds = number(&r, 2);
	ns = fraction(&r, &finer);
	sign = take(&r);
	if (sign == '+' || sign == '-')
		ahead = (sign == '-' ? -1 : 1) * hours_minutes(&r);
	else if (sign != 'Z' && sign != 'z')
		r.bad = true;
	if (r.bad || r.s.len || month < 1 || month > 12 || seconds > 59 || day < 1 ||
		day > month_days(year, month))
		return false;
	*ret = cel_timestamp(days_of(year, month, day) * DAY_S + time + seconds - ahead, (int32_t)ns);
	return true;
}

/* One unit of a duration, in nanoseconds; 0: none. */
static int64_t unit_of(struct reader *r)
{
	static const struct {
		const char *name;
		int64_t ns;
	} units[] = {{"ns", 1}, {"us", 1000}, {"\xc2\xb5s", 1000}, {"\xce\xbcs", 1000}, {"ms", 1000000},
		{"s", SECOND_NS}, {"m", 60 * SECOND_NS}, {"h", 3600 * SECOND_NS}};
	size_t i;

	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (base_str_starts(r->s, base_str_of(units[i].name))) {
			r->s = base_str_sub(r->s, strlen(units[i].name), r->s.len);
			return units[i].ns;
		}
	return 0;
}

/* "1.5": digits before the point as a number, behind it as billionths, and finer. */
static bool decimal(struct reader *r, uint64_t *ret_whole, int64_t *ret_ns, int64_t *ret_finer)
{
	uint64_t whole = 0;
	bool any = false, ok = true;

	for (; peek(r) >= '0' && peek(r) <= '9'; any = true)
		ok &= !__builtin_mul_overflow(whole, 10u, &whole) &&
		      !__builtin_add_overflow(whole, (uint64_t)(take(r) - '0'), &whole);
	if (peek(r) == '.' && !any && !(r->s.len > 1 && r->s.ptr[1] >= '0' && r->s.ptr[1] <= '9'))
		return false;
	any |= peek(r) == '.';
	if (peek(r) == '.' && !(r->s.len > 1 && r->s.ptr[1] >= '0' && r->s.ptr[1] <= '9'))
		take(r); /* "1.s" */
	*ret_ns = fraction(r, ret_finer);
	*ret_whole = whole;
	return any && ok && !r->bad;
}

bool cel_duration_parse(struct base_str s, struct cel_value *ret)
{
	struct reader r = {.s = s};
	bool minus = peek(&r) == '-';
	uint64_t total = 0;

	if (minus || peek(&r) == '+')
		take(&r);
	if (base_str_is(r.s, "0")) {
		*ret = cel_duration(0);
		return true;
	}
	if (r.s.len == 0)
		return false;
	while (r.s.len) {
		uint64_t whole, ns;
		int64_t part, finer, unit;

		if (!decimal(&r, &whole, &part, &finer))
			return false;
		unit = unit_of(&r);
		if (unit == 0 || __builtin_mul_overflow(whole, (uint64_t)unit, &ns))
			return false;
		part = unit < SECOND_NS ? part * unit / SECOND_NS
					: part * (unit / SECOND_NS) + finer * (unit / SECOND_NS) / 1000000;
		if (__builtin_add_overflow(ns, (uint64_t)part, &ns) ||
			__builtin_add_overflow(total, ns, &total) || total > (uint64_t)INT64_MAX + minus)
			return false;
	}
	*ret = cel_duration(minus ? (int64_t)(0 - total) : (int64_t)total);
	return true;
}

/* --- writing --- */

static size_t put_padded(char *to, uint64_t v, size_t width)
{
	char text[64];
	size_t n = cel_unsigned_text(v, 10, false, text), pad = n < width ? width - n : 0;

	memset(to, '0', pad);
	memcpy(to + pad, text, n);
	return pad + n;
}

/* ".5", without zeros at the end. */
static size_t put_fraction(char *to, uint32_t ns)
{
	size_t n;

	if (ns == 0)
		return 0;
	to[0] = '.';
	n = 1 + put_padded(to + 1, ns, 9);
	while (to[n - 1] == '0')
		n--;
	return n;
}

size_t cel_timestamp_text(struct cel_value v, char ret[CEL_TIME_TEXT_MAX])
{
	int64_t days = floor_div(v.as.time.s, DAY_S), rest = v.as.time.s - days * DAY_S;
	struct date d = date_of(days);
	size_t n = put_padded(ret, (uint64_t)d.year, 4);

	ret[n++] = '-';
	n += put_padded(ret + n, (uint64_t)d.month, 2);
	ret[n++] = '-';
	n += put_padded(ret + n, (uint64_t)d.day, 2);
	ret[n++] = 'T';
	n += put_padded(ret + n, (uint64_t)(rest / 3600), 2);
	ret[n++] = ':';
	n += put_padded(ret + n, (uint64_t)(rest / 60 % 60), 2);
	ret[n++] = ':';
	n += put_padded(ret + n, (uint64_t)(rest % 60), 2);
	n += put_fraction(ret + n, (uint32_t)v.as.time.ns);
	ret[n++] = 'Z';
	return n;
}

size_t cel_duration_text(struct cel_value v, char ret[CEL_TIME_TEXT_MAX])
{
	uint64_t ns = v.as.i < 0 ? 0 - (uint64_t)v.as.i : (uint64_t)v.as.i;
	size_t n = 0;

	if (v.as.i < 0)
		ret[n++] = '-';
	n += put_padded(ret + n, ns / SECOND_NS, 1);
	n += put_fraction(ret + n, (uint32_t)(ns % SECOND_NS));
	ret[n++] = 's';
	return n;
}

/* --- parts --- */

/* "+02:00", "-09:30", "02:00". */
static bool fixed_offset(struct base_str s, int64_t *ret)
{
	struct reader r = {.s = s};
	bool minus = peek(&r) == '-';

	if (minus || peek(&r) == '+')
		take(&r);
	*ret = hours_minutes(&r);
	if (minus)
		*ret = -*ret;
	return !r.bad && r.s.len == 0;
}

/* What the clocks of args[1] show, as seconds; false: *ret says why not. */
static bool local_time(struct cel_run *run, const struct cel_value *args, unsigned count, int64_t *ret_s,
	struct cel_value *ret)
{
	const struct cel_limits *l = run->limits;
	int64_t offset = 0;
	int32_t ahead;

	if (count == 2 && !base_str_is(args[1].as.s, "UTC") && !base_str_is(args[1].as.s, "Z") &&
		!fixed_offset(args[1].as.s, &offset)) {
		if (!cel_pay(run, 10) || args[1].as.s.len == 0 || !l || !l->zone ||
			!l->zone(l->zone_ctx, args[1].as.s, args[0].as.time.s, &ahead)) {
			*ret = cel_named_error(run, "a time zone that is not known", args[1].as.s);
			return false;
		}
		offset = ahead;
	}
	*ret_s = args[0].as.time.s + offset;
	return true;
}

enum part { YEAR, MONTH, MONTH_DAY_0, MONTH_DAY_1, YEAR_DAY, WEEKDAY, HOURS, MINUTES, SECONDS };

static struct cel_value part_of(
	struct cel_run *run, const struct cel_value *args, unsigned count, enum part part)
{
	struct cel_value error;
	int64_t s, days;
	struct date d;

	if (!local_time(run, args, count, &s, &error))
		return error;
	days = floor_div(s, DAY_S);
	s -= days * DAY_S;
	d = date_of(days);
	switch (part) {
	case YEAR:
		return cel_int(d.year);
	case MONTH:
		return cel_int(d.month - 1);
	case MONTH_DAY_0:
		return cel_int(d.day - 1);
	case MONTH_DAY_1:
		return cel_int(d.day);
	case YEAR_DAY:
		return cel_int(days - days_of(d.year, 1, 1));
	case WEEKDAY:
		return cel_int(days + 4 - floor_div(days + 4, 7) * 7);
	case HOURS:
		return cel_int(s / 3600);
	case MINUTES:
		return cel_int(s / 60 % 60);
	default:
		return cel_int(s % 60);
	}
}

static struct cel_value full_year(ARGS)
{
	return part_of(run, args, count, YEAR);
}

static struct cel_value month(ARGS)
{
	return part_of(run, args, count, MONTH);
}

static struct cel_value day_of_month(ARGS)
{
	return part_of(run, args, count, MONTH_DAY_0);
}

static struct cel_value date(ARGS)
{
	return part_of(run, args, count, MONTH_DAY_1);
}

static struct cel_value day_of_year(ARGS)
{
	return part_of(run, args, count, YEAR_DAY);
}

static struct cel_value day_of_week(ARGS)
{
	return part_of(run, args, count, WEEKDAY);
}

static struct cel_value hours(ARGS)
{
	return part_of(run, args, count, HOURS);
}

static struct cel_value minutes(ARGS)
{
	return part_of(run, args, count, MINUTES);
}

static struct cel_value seconds(ARGS)
{
	return part_of(run, args, count, SECONDS);
}

static struct cel_value milliseconds(ARGS)
{
	struct cel_value error;
	int64_t s;

	if (!local_time(run, args, count, &s, &error))
		return error;
	return cel_int(args[0].as.time.ns / 1000000);
}

static struct cel_value duration_hours(ARGS)
{
	(void)run;
	(void)count;
	return cel_int(args[0].as.i / (3600 * SECOND_NS));
}

static struct cel_value duration_minutes(ARGS)
{
	(void)run;
	(void)count;
	return cel_int(args[0].as.i / (60 * SECOND_NS));
}

static struct cel_value duration_seconds(ARGS)
{
	(void)run;
	(void)count;
	return cel_int(args[0].as.i / SECOND_NS);
}

/* Of the second, as the language has it: the others are totals. */
static struct cel_value duration_milliseconds(ARGS)
{
	(void)run;
	(void)count;
	return cel_int(args[0].as.i % SECOND_NS / 1000000);
}

static struct cel_value timestamp_of_string(ARGS)
{
	struct cel_value v;

	(void)count;
	if (!cel_pay(run, args[0].as.s.len / 16))
		return cel_null();
	return cel_timestamp_parse(args[0].as.s, &v)
		       ? v
		       : cel_error("not a timestamp such as 2026-01-31T09:30:00Z");
}

static struct cel_value timestamp_of_int(ARGS)
{
	(void)run;
	(void)count;
	return cel_timestamp(args[0].as.i, 0);
}

static struct cel_value duration_of_string(ARGS)
{
	struct cel_value v;

	(void)count;
	if (!cel_pay(run, args[0].as.s.len / 16))
		return cel_null();
	return cel_duration_parse(args[0].as.s, &v)
		       ? v
		       : cel_error("not a duration such as 1h30m or 12.5s, or out of range");
}

static struct cel_value same(ARGS)
{
	(void)run;
	(void)count;
	return args[0];
}

enum { ZONED = CEL_MEMBER | CEL_ZONED };

const struct cel_overload cel_time_functions[] = {
	{"timestamp", "s", 't', CEL_GLOBAL, timestamp_of_string},
	{"timestamp", "i", 't', CEL_GLOBAL, timestamp_of_int},
	{"timestamp", "t", 't', CEL_GLOBAL, same},
	{"duration", "s", 'r', CEL_GLOBAL, duration_of_string},
	{"duration", "r", 'r', CEL_GLOBAL, same},
	{"getFullYear", "t", 'i', CEL_MEMBER, full_year},
	{"getFullYear", "ts", 'i', ZONED, full_year},
	{"getMonth", "t", 'i', CEL_MEMBER, month},
	{"getMonth", "ts", 'i', ZONED, month},
	{"getDate", "t", 'i', CEL_MEMBER, date},
	{"getDate", "ts", 'i', ZONED, date},
	{"getDayOfMonth", "t", 'i', CEL_MEMBER, day_of_month},
	{"getDayOfMonth", "ts", 'i', ZONED, day_of_month},
	{"getDayOfYear", "t", 'i', CEL_MEMBER, day_of_year},
	{"getDayOfYear", "ts", 'i', ZONED, day_of_year},
	{"getDayOfWeek", "t", 'i', CEL_MEMBER, day_of_week},
	{"getDayOfWeek", "ts", 'i', ZONED, day_of_week},
	{"getHours", "t", 'i', CEL_MEMBER, hours},
	{"getHours", "ts", 'i', ZONED, hours},
	{"getHours", "r", 'i', CEL_MEMBER, duration_hours},
	{"getMinutes", "t", 'i', CEL_MEMBER, minutes},
	{"getMinutes", "ts", 'i', ZONED, minutes},
	{"getMinutes", "r", 'i', CEL_MEMBER, duration_minutes},
	{"getSeconds", "t", 'i', CEL_MEMBER, seconds},
	{"getSeconds", "ts", 'i', ZONED, seconds},
	{"getSeconds", "r", 'i', CEL_MEMBER, duration_seconds},
	{"getMilliseconds", "t", 'i', CEL_MEMBER, milliseconds},
	{"getMilliseconds", "ts", 'i', ZONED, milliseconds},
	{"getMilliseconds", "r", 'i', CEL_MEMBER, duration_milliseconds},
	{NULL, NULL, 0, 0, NULL},
};
