#include <stdio.h>
#include <time.h>

#include "base/money.h"
#include "door/door_int.h"

/* Markup, text and figures of the plain pages. Everything that comes from a run passes html_text. */

const char *door_css(void)
{
	return ":root{color-scheme:light "
	       "dark;--bg:#f7f7f5;--card:#fff;--ink:#1c1d1f;--dim:#63666d;--line:#dcdcd6;"
	       "--go:#16653a;--stop:#a3231c;--wait:#8a5a00;--link:#1a4f9c}"
	       "@media(prefers-color-scheme:dark){:root{--bg:#151618;--card:#1e2023;--ink:#e9e9e6;--dim:#"
	       "a0a4ab;"
	       "--line:#34373c;--go:#6cc794;--stop:#f08a80;--wait:#e3b35a;--link:#8fb8f5}}"
	       "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
	       "font:16px/1.5 system-ui,sans-serif}a{color:var(--link)}"
	       "header,main,footer{max-width:60rem;margin:0 auto;padding:.75rem 1rem}"
	       "header{display:flex;gap:1rem;align-items:baseline}header "
	       "a{font-weight:700;text-decoration:none}"
	       "footer,.dim{color:var(--dim);font-size:.875rem}h1{font-size:1.4rem;margin:.5rem 0}"
	       "h2{font-size:1.1rem;margin:1.5rem 0 .5rem}h3{font-size:1rem;margin:0 0 .25rem}"
	       ".card{background:var(--card);border:1px solid "
	       "var(--line);border-radius:.5rem;padding:1rem;margin:.75rem 0}"
	       ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;background:var(--card)}"
	       "th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid "
	       "var(--line);vertical-align:top}"
	       "th{font-size:.8rem;color:var(--dim)}td.n,th.n{text-align:right;font-variant-numeric:tabular-"
	       "nums}"
	       "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--bg);border:1px solid "
	       "var(--line);"
	       "border-radius:.375rem;padding:.75rem;margin:.25rem 0;font:.875rem/1.5 ui-monospace,monospace}"
	       "textarea,input[type=text]{width:100%;font:inherit;color:inherit;background:var(--bg);padding:"
	       ".5rem;"
	       "border:1px solid var(--line);border-radius:.375rem}textarea{min-height:8rem}"
	       "label{display:block;font-weight:600;margin:.5rem 0 .2rem}"
	       "button,.button{font:inherit;font-weight:600;padding:.5rem "
	       "1rem;min-height:2.75rem;border-radius:.375rem;"
	       "border:1px solid currentColor;background:transparent;color:var(--link);cursor:pointer;"
	       "text-decoration:none;display:inline-block}"
	       "button.go{color:var(--go)}button.stop{color:var(--stop)}.row{display:flex;flex-wrap:wrap;gap:"
	       ".5rem;"
	       "margin-top:.75rem}.good{color:var(--go)}.bad{color:var(--stop)}.wait{color:var(--wait)}"
	       "dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.5rem 0}"
	       "dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}"
	       "svg.bar{width:100%;min-width:6rem;height:.6rem;display:block}svg.bar rect{fill:var(--link)}"
	       "svg.bar rect.bad{fill:var(--stop)}svg.bar rect.wait{fill:var(--wait)}"
	       ":focus-visible{outline:3px solid var(--link);outline-offset:2px}";
}

/* Characters that change what a reader sees of the text around them: bidirectional overrides and isolates. */
static size_t deceptive(struct base_str s, size_t i)
{
	const unsigned char *p = (const unsigned char *)s.ptr + i;

	if (s.len - i < 3 || p[0] != 0xe2)
		return 0;
	if (p[1] == 0x80 && p[2] >= 0xaa && p[2] <= 0xae)
		return 3;
	if (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9)
		return 3;
	return 0;
}

void html_text(struct base_buf *b, struct base_str s)
{
	size_t i, from = 0, skip;

	for (i = 0; i < s.len; i++) {
		const char *as = NULL;
		unsigned char c = (unsigned char)s.ptr[i];

		skip = 1;
		if (c == '&')
			as = "&amp;";
		else if (c == '<')
			as = "&lt;";
		else if (c == '>')
			as = "&gt;";
		else if (c == '"')
			as = "&#34;";
		else if (c == '\'')
			as = "&#39;";
		else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
			as = "\xef\xbf\xbd";
		else if (deceptive(s, i)) {
			as = "\xef\xbf\xbd";
			skip = 3;
		}
		if (!as)
			continue;
		base_buf_put(b, s.ptr + from, i - from);
		base_buf_cstr(b, as);
		i += skip - 1;
		from = i + 1;
	}
	if (from < s.len)
		base_buf_put(b, s.ptr + from, s.len - from);
}

void html_cstr(struct base_buf *b, const char *s)
{
	base_buf_cstr(b, s);
}

void html_money(struct base_buf *b, int64_t nusd)
{
	if (nusd < 0) {
		base_buf_char(b, '-');
		nusd = nusd == INT64_MIN ? INT64_MAX : -nusd;
	}
	base_money_put(b, nusd);
}

/* Days since 1970 to a date (proleptic Gregorian); the jail has no time zone files and needs none. */
static void civil(int64_t days, int64_t *ret_year, unsigned *ret_month, unsigned *ret_day)
{
	int64_t era, year;
	unsigned doe, yoe, doy, mp;

	days += 719468;
	era = (days >= 0 ? days : days - 146096) / 146097;
	doe = (unsigned)(days - era * 146097);
	yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	year = (int64_t)yoe + era * 400;
	doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	mp = (5 * doy + 2) / 153;
	*ret_day = doy - (153 * mp + 2) / 5 + 1;
	*ret_month = mp < 10 ? mp + 3 : mp - 9;
	*ret_year = year + (*ret_month <= 2);
}

void html_time(struct base_buf *b, int64_t ms)
{
	int64_t s = ms / 1000 - (ms % 1000 < 0), day = s / 86400 - (s % 86400 < 0), year,
		in_day = s - day * 86400;
	unsigned month, d, h = (unsigned)(in_day / 3600), m = (unsigned)(in_day / 60 % 60),
			   sec = (unsigned)(in_day % 60);

	civil(day, &year, &month, &d);
	base_buf_printf(b,
		"<time datetime=\"%04lld-%02u-%02uT%02u:%02u:%02uZ\">%04lld-%02u-%02u %02u:%02u UTC</time>",
		(long long)year, month, d, h, m, sec, (long long)year, month, d, h, m);
}
