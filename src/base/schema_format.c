#include <string.h>

#include "base/schema_int.h"

static bool alnum(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Labels of letters, digits and inner hyphens, joined by dots. */
static bool domain_ok(struct base_str s)
{
	struct base_str label;
	size_t i;
	bool rest = true;

	if (s.len == 0 || s.len > 253)
		return false;
	while (rest) {
		rest = base_str_cut(s, '.', &label, &s);
		if (label.len == 0 || label.len > 63 || label.ptr[0] == '-' ||
			label.ptr[label.len - 1] == '-')
			return false;
		for (i = 0; i < label.len; i++)
			if (!alnum(label.ptr[i]) && label.ptr[i] != '-')
				return false;
	}
	return true;
}

/* RFC 5321 without quoted names and address literals. */
static bool email_ok(struct base_str s)
{
	struct base_str local, domain;
	size_t i;

	if (!base_str_cut(s, '@', &local, &domain) || local.len == 0 || local.len > 64 || !domain_ok(domain))
		return false;
	for (i = 0; i < local.len; i++) {
		char c = local.ptr[i];

		if (c == '.' ? i == 0 || i + 1 == local.len || local.ptr[i + 1] == '.'
			     : !alnum(c) && !memchr("!#$%&'*+-/=?^_`{|}~", c, 19))
			return false;
	}
	return true;
}

/* A scheme, and behind it only characters that RFC 3986 allows. */
static bool uri_ok(struct base_str s)
{
	static const char marks[] = "-._~:/?#[]@!$&'()*+,;=";
	struct base_str scheme, rest;
	size_t i;

	if (!base_str_cut(s, ':', &scheme, &rest) || scheme.len == 0 ||
		alnum(scheme.ptr[0]) == digit(scheme.ptr[0]))
		return false;
	for (i = 0; i < scheme.len; i++)
		if (!alnum(scheme.ptr[i]) && !memchr("+-.", scheme.ptr[i], 3))
			return false;
	for (i = 0; i < rest.len; i++) {
		static const char hex[] = "0123456789abcdefABCDEF";
		char c = rest.ptr[i];

		if (c == '%') {
			if (rest.len - i < 3 || !memchr(hex, rest.ptr[i + 1], 22) ||
				!memchr(hex, rest.ptr[i + 2], 22))
				return false;
			i += 2;
		} else if (!alnum(c) && !memchr(marks, c, sizeof(marks) - 1)) {
			return false;
		}
	}
	return true;
}

/* `count` digits at the start of *s, which moves behind them and behind `end` (0: nothing). -1 if they are
 * not there. */
static int take(struct base_str *s, unsigned count, char end)
{
	unsigned i;
	int v = 0;

	if (s->len < count + (end != 0) || (end && s->ptr[count] != end))
		return -1;
	for (i = 0; i < count; i++) {
		if (!digit(s->ptr[i]))
			return -1;
		v = v * 10 + (s->ptr[i] - '0');
	}
	*s = base_str_sub(*s, count + (end != 0), s->len);
	return v;
}

static bool take_date(struct base_str *s, char end)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int y = take(s, 4, '-'), m = take(s, 2, '-'), d = take(s, 2, end);
	bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;

	return y >= 0 && m >= 1 && m <= 12 && d >= 1 && d <= days[m - 1] + (m == 2 && leap);
}

/* RFC 3339. A leap second stands at the end of a day of UTC. */
static bool date_time_ok(struct base_str s)
{
	int h, m, sec, sign, zone = 0, zh, zm;
	size_t i = 0;

	if (s.len < 11 || (s.ptr[10] | 0x20) != 't' || !take_date(&s, s.ptr[10]))
		return false;
	h = take(&s, 2, ':');
	m = take(&s, 2, ':');
	sec = take(&s, 2, 0);
	if (h < 0 || h > 23 || m < 0 || m > 59 || sec < 0 || sec > 60)
		return false;
	if (s.len > 0 && s.ptr[0] == '.') {
		for (i = 1; i < s.len && digit(s.ptr[i]); i++)
			continue;
		if (i == 1)
			return false;
		s = base_str_sub(s, i, s.len);
	}
	if (s.len == 0)
		return false;
	sign = s.ptr[0] == '-' ? -1 : 1;
	if ((s.ptr[0] | 0x20) != 'z') {
		if (s.ptr[0] != '+' && s.ptr[0] != '-')
			return false;
		s = base_str_sub(s, 1, s.len);
		zh = take(&s, 2, ':');
		zm = take(&s, 2, 0);
		if (zh < 0 || zh > 23 || zm < 0 || zm > 59)
			return false;
		zone = sign * (zh * 60 + zm);
	} else {
		s = base_str_sub(s, 1, s.len);
	}
	return s.len == 0 && (sec < 60 || (h * 60 + m - zone + 2880) % 1440 == 1439);
}

bool schema_format_ok(enum schema_format format, struct base_str s)
{
	switch (format) {
	case FORMAT_NONE:
		return true;
	case FORMAT_EMAIL:
		return email_ok(s);
	case FORMAT_URI:
		return uri_ok(s);
	case FORMAT_DATE:
		return s.len == 10 && take_date(&s, 0);
	case FORMAT_DATE_TIME:
		return date_time_ok(s);
	}
	return false;
}
