#include <string.h>

#include "parse/parse_int.h"

/* Text so far: blanks are owed until something follows them. */
struct text {
	struct base_buf *out;
	size_t start;
	bool blank;
	bool full;
};

void parse_put_char(struct base_buf *b, uint32_t c)
{
	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		c = 0xfffd;
	if (c < 0x80) {
		base_buf_char(b, (char)c);
	} else if (c < 0x800) {
		base_buf_char(b, (char)(0xc0 | c >> 6));
		base_buf_char(b, (char)(0x80 | (c & 63)));
	} else if (c < 0x10000) {
		base_buf_char(b, (char)(0xe0 | c >> 12));
		base_buf_char(b, (char)(0x80 | (c >> 6 & 63)));
		base_buf_char(b, (char)(0x80 | (c & 63)));
	} else {
		base_buf_char(b, (char)(0xf0 | c >> 18));
		base_buf_char(b, (char)(0x80 | (c >> 12 & 63)));
		base_buf_char(b, (char)(0x80 | (c >> 6 & 63)));
		base_buf_char(b, (char)(0x80 | (c & 63)));
	}
}

/* One whole character as UTF-8. */
static void put(struct text *t, const char *bytes, size_t len)
{
	if (len == 1 && (unsigned char)bytes[0] <= ' ') {
		t->blank = t->out->len > t->start;
		return;
	}
	if (t->full || t->out->len - t->start + len + t->blank > PARSE_TEXT_MAX) {
		t->full = true;
		return;
	}
	if (t->blank)
		base_buf_char(t->out, ' ');
	t->blank = false;
	base_buf_put(t->out, bytes, len);
}

static size_t char_len(struct base_str s, size_t at)
{
	unsigned char c = (unsigned char)s.ptr[at];
	size_t len = c < 0xc0 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

	return len > s.len - at ? s.len - at : len;
}

static bool is_letter(char c)
{
	return (c | 32) >= 'a' && (c | 32) <= 'z';
}

static uint32_t named(struct base_str name)
{
	static const struct {
		const char *name;
		uint32_t c;
	} all[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}, {"nbsp", ' '},
		{"hellip", 0x2026}, {"mdash", 0x2014}, {"ndash", 0x2013}, {"lsquo", 0x2018},
		{"rsquo", 0x2019}, {"ldquo", 0x201c}, {"rdquo", 0x201d}, {"laquo", 0xab}, {"raquo", 0xbb},
		{"bull", 0x2022}, {"middot", 0xb7}, {"deg", 0xb0}, {"plusmn", 0xb1}, {"times", 0xd7},
		{"frac12", 0xbd}, {"frac14", 0xbc}, {"frac34", 0xbe}, {"euro", 0x20ac}, {"pound", 0xa3},
		{"cent", 0xa2}, {"copy", 0xa9}, {"reg", 0xae}, {"trade", 0x2122}, {"micro", 0xb5},
		{"sup2", 0xb2}, {"sup3", 0xb3}, {"agrave", 0xe0}, {"aacute", 0xe1}, {"auml", 0xe4},
		{"ccedil", 0xe7}, {"egrave", 0xe8}, {"eacute", 0xe9}, {"ecirc", 0xea}, {"euml", 0xeb},
		{"iuml", 0xef}, {"ntilde", 0xf1}, {"oacute", 0xf3}, {"ouml", 0xf6}, {"uuml", 0xfc},
		{"szlig", 0xdf}, {"Auml", 0xc4}, {"Eacute", 0xc9}, {"Ouml", 0xd6}, {"Uuml", 0xdc},
		{"shy", 0xad}};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (base_str_is(name, all[i].name))
			return all[i].c;
	return 0;
}

/* The entity at `at` ("&…;"): its character, and its length in *ret_len; 0 if there is none. */
static uint32_t entity(struct base_str s, size_t at, size_t *ret_len)
{
	struct base_str name = base_str_sub(s, at + 1, 12);
	ptrdiff_t end = base_str_find(name, ';');
	uint32_t v = 0;
	size_t i = 1;
	bool hex;

	if (end < 1)
		return 0;
	*ret_len = (size_t)end + 2;
	name.len = (size_t)end;
	if (name.ptr[0] != '#')
		return named(name);
	hex = name.len > 1 && (name.ptr[1] | 32) == 'x';
	for (i += hex; i < name.len; i++) {
		char c = name.ptr[i];
		bool digit = c >= '0' && c <= '9';

		if (!digit && !(hex && (c | 32) >= 'a' && (c | 32) <= 'f'))
			return 0;
		v = v * (hex ? 16 : 10) + (uint32_t)(digit ? c - '0' : (c | 32) - 'a' + 10);
		if (v > 0x10ffff)
			v = 0xfffd;
	}
	return v ? v : 0xfffd;
}

/* Case-blind search for `needle` (lower case) from `at`; s.len if it is not there. */
static size_t find_word(struct base_str s, size_t at, const char *needle)
{
	size_t len = strlen(needle);

	for (; at + len <= s.len; at++) {
		size_t i = 0;

		while (i < len &&
			(is_letter(s.ptr[at + i]) ? (s.ptr[at + i] | 32) : s.ptr[at + i]) == needle[i])
			i++;
		if (i == len)
			return at;
	}
	return s.len;
}

static bool is_inline(struct base_str name)
{
	static const char *const all[] = {"a", "abbr", "b", "bdi", "bdo", "cite", "code", "del", "dfn", "em",
		"font", "i", "ins", "kbd", "mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup",
		"u", "var", "wbr", NULL};

	for (size_t i = 0; all[i]; i++)
		if (strlen(all[i]) == name.len && strncasecmp(all[i], name.ptr, name.len) == 0)
			return true;
	return false;
}

/* Where the tag that begins at `at` ends (behind its '>'); quoted '>' do not end it. */
static size_t tag_end(struct base_str s, size_t at)
{
	char quote = 0;

	for (; at < s.len; at++) {
		char c = s.ptr[at];

		if (quote)
			quote = c == quote ? 0 : quote;
		else if (c == '"' || c == '\'')
			quote = c;
		else if (c == '>')
			return at + 1;
	}
	return s.len;
}

/* Skips the markup at `at`; returns `at` if that '<' is only text. */
static size_t markup(struct text *t, struct base_str s, size_t at)
{
	static const char *const raw[] = {"script", "style", "noscript", "iframe", "template", NULL};
	struct base_str rest = base_str_sub(s, at + 1, s.len), name;
	bool closing;
	size_t n = 0, end;

	if (base_str_starts(rest, BASE_STR("!--"))) {
		end = find_word(s, at + 4, "-->");
		return end == s.len ? end : end + 3;
	}
	if (rest.len && (rest.ptr[0] == '!' || rest.ptr[0] == '?'))
		return tag_end(s, at);
	closing = rest.len && rest.ptr[0] == '/';
	name = base_str_sub(rest, closing, rest.len);
	while (n < name.len && (is_letter(name.ptr[n]) || (n && name.ptr[n] >= '0' && name.ptr[n] <= '9')))
		n++;
	if (n == 0)
		return at;
	name.len = n;
	end = tag_end(s, at);
	if (!is_inline(name))
		put(t, " ", 1);
	for (size_t i = 0; !closing && raw[i]; i++) {
		char stop[16] = "</";

		if (strlen(raw[i]) != n || strncasecmp(raw[i], name.ptr, n) != 0)
			continue;
		memcpy(stop + 2, raw[i], n + 1);
		return tag_end(s, find_word(s, end, stop));
	}
	return end;
}

void parse_html_text(struct base_str html, struct base_buf *ret)
{
	struct text t = {.out = ret, .start = ret->len};
	size_t at = 0;

	while (at < html.len && !t.full) {
		size_t len = char_len(html, at);

		if (html.ptr[at] == '<') {
			size_t next = markup(&t, html, at);

			if (next > at) {
				at = next;
				continue;
			}
		} else if (html.ptr[at] == '&') {
			uint32_t c = entity(html, at, &len);

			if (c) {
				char bytes[8];
				struct base_buf one = {
					.ptr = bytes, .size = sizeof(bytes), .cap = sizeof(bytes)};

				parse_put_char(&one, c);
				put(&t, bytes, one.len);
				at += len;
				continue;
			}
			len = 1;
		}
		put(&t, html.ptr + at, len);
		at += len;
	}
}

void parse_plain_text(struct base_str s, struct base_buf *ret)
{
	struct text t = {.out = ret, .start = ret->len};

	for (size_t at = 0; at < s.len && !t.full;) {
		size_t len = char_len(s, at);

		put(&t, s.ptr + at, len);
		at += len;
	}
}
