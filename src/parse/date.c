#include <string.h>

#include "parse/parse_int.h"

struct scan {
	struct base_str s;
	size_t at;
};

static void blanks(struct scan *k)
{
	while (k->at < k->s.len && strchr(" \t\r\n", k->s.ptr[k->at]) && k->s.ptr[k->at])
		k->at++;
}

static bool take(struct scan *k, char c)
{
	if (k->at >= k->s.len || k->s.ptr[k->at] != c)
		return false;
	k->at++;
	return true;
}

/* Between `min` and `max` digits. */
static bool number(struct scan *k, unsigned min, unsigned max, int *ret)
{
	unsigned n = 0;
	int v = 0;

	while (n < max && k->at < k->s.len && k->s.ptr[k->at] >= '0' && k->s.ptr[k->at] <= '9') {
		v = v * 10 + (k->s.ptr[k->at++] - '0');
		n++;
	}
	if (n < min)
		return false;
	*ret = v;
	return true;
}

/* Letters, at most 9 of them, in lower case. */
static struct base_str word(struct scan *k, char ret[10])
{
	size_t n = 0;

	while (n < 9 && k->at < k->s.len) {
		char c = (char)(k->s.ptr[k->at] | 32);

		if (c < 'a' || c > 'z')
			break;
		ret[n++] = c;
		k->at++;
	}
	return (struct base_str){ret, n};
}

static int month_of(struct base_str w)
{
	static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";

	for (int i = 0; i < 12 && w.len >= 3; i++)
		if (memcmp(w.ptr, names + i * 3, 3) == 0)
			return i + 1;
	return 0;
}

static bool valid_date(int y, int m, int d)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;

	return y >= 1000 && y <= 9999 && m >= 1 && m <= 12 && d >= 1 && d <= days[m - 1] + (m == 2 && leap);
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar. */
static int64_t days_of(int y, int m, int d)
{
	int64_t yy = y - (m <= 2);
	int64_t era = yy / 400;
	int64_t yoe = yy - era * 400;
	int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;

	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* "+02:00", "+0200", "Z" or a name of RFC 822; nothing counts as UTC. */
static bool zone(struct scan *k, int *ret_minutes)
{
	static const struct {
		const char *name;
		int minutes;
	} names[] = {{"z", 0}, {"ut", 0}, {"utc", 0}, {"gmt", 0}, {"est", -300}, {"edt", -240}, {"cst", -360},
		{"cdt", -300}, {"mst", -420}, {"mdt", -360}, {"pst", -480}, {"pdt", -420}};
	char text[10];
	struct base_str w;
	int h, m = 0, sign;

	blanks(k);
	*ret_minutes = 0;
	if (k->at == k->s.len)
		return true;
	if (k->s.ptr[k->at] == '+' || k->s.ptr[k->at] == '-') {
		sign = k->s.ptr[k->at++] == '-' ? -1 : 1;
		if (!number(k, 2, 2, &h))
			return false;
		take(k, ':');
		if (k->at < k->s.len && !number(k, 2, 2, &m))
			return false;
		*ret_minutes = sign * (h * 60 + m);
		return h <= 14 && m <= 59;
	}
	w = word(k, text);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (base_str_is(w, names[i].name)) {
			*ret_minutes = names[i].minutes;
			return true;
		}
	}
	return false;
}

/* "09:39", "09:39:21", "09:39:21.25" */
static bool clock_time(struct scan *k, int64_t *ret_ms)
{
	int h, m, s = 0, ms = 0, scale = 100, digit;

	if (!number(k, 1, 2, &h) || !take(k, ':') || !number(k, 2, 2, &m))
		return false;
	if (take(k, ':') && !number(k, 2, 2, &s))
		return false;
	if (take(k, '.')) {
		while (number(k, 1, 1, &digit)) {
			ms += digit * scale;
			scale /= 10;
		}
	}
	*ret_ms = ((h * 60 + m) * 60 + s) * (int64_t)1000 + ms;
	return h <= 23 && m <= 59 && s <= 60;
}

bool parse_date(struct base_str s, int64_t *ret_ms)
{
	struct scan k = {.s = s};
	char text[10];
	int y, m, d, minutes = 0;
	int64_t ms = 0;

	blanks(&k);
	if (k.s.len - k.at >= 8 && number(&k, 4, 4, &y) && take(&k, '-')) {
		if (!number(&k, 2, 2, &m) || !take(&k, '-') || !number(&k, 2, 2, &d))
			return false;
		if (take(&k, 'T') || take(&k, 't') || take(&k, ' ')) {
			if (!clock_time(&k, &ms) || !zone(&k, &minutes))
				return false;
		}
	} else {
		k.at = 0;
		blanks(&k);
		if (word(&k, text).len > 0)
			take(&k, ',');
		blanks(&k);
		if (!number(&k, 1, 2, &d))
			return false;
		blanks(&k);
		m = month_of(word(&k, text));
		blanks(&k);
		if (!number(&k, 2, 4, &y))
			return false;
		if (y < 100)
			y += y < 50 ? 2000 : 1900;
		blanks(&k);
		if (k.at < k.s.len && (!clock_time(&k, &ms) || !zone(&k, &minutes)))
			return false;
	}
	blanks(&k);
	if (k.at != k.s.len || !valid_date(y, m, d))
		return false;
	*ret_ms = days_of(y, m, d) * 86400000 + ms - minutes * (int64_t)60000;
	return true;
}
