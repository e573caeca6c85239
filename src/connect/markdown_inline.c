#include <string.h>
#include <strings.h>

#include "connect/markdown.h"
#include "connect/markdown_int.h"

/* The inside of a paragraph. */

enum { AHEAD_MAX = 2000 }; /* how far the end of a mark is looked for */

struct inl {
	struct base_str s;
	size_t at;
	bool html;
	unsigned depth;
	struct base_buf *out;
};

void markdown_escape(struct base_str s, struct base_buf *ret)
{
	for (size_t i = 0; i < s.len; i++) {
		switch (s.ptr[i]) {
		case '&':
			base_buf_cstr(ret, "&amp;");
			break;
		case '<':
			base_buf_cstr(ret, "&lt;");
			break;
		case '>':
			base_buf_cstr(ret, "&gt;");
			break;
		case '"':
			base_buf_cstr(ret, "&quot;");
			break;
		case '\'':
			base_buf_cstr(ret, "&#39;");
			break;
		default:
			base_buf_char(ret, s.ptr[i]);
		}
	}
}

static void put(struct inl *p, struct base_str s)
{
	if (p->html)
		markdown_escape(s, p->out);
	else
		base_buf_str(p->out, s);
}

static void tag(struct inl *p, const char *text)
{
	if (p->html)
		base_buf_cstr(p->out, text);
}

static char peek(const struct inl *p, size_t ahead)
{
	return p->at + ahead < p->s.len ? p->s.ptr[p->at + ahead] : 0;
}

static bool is_blank(char c)
{
	return c == 0 || c == ' ' || c == '\t' || c == '\n';
}

static bool is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (unsigned char)c >= 128;
}

static bool has_scheme(struct base_str url, const char *scheme)
{
	size_t len = strlen(scheme);

	return url.len > len && strncasecmp(url.ptr, scheme, len) == 0;
}

static bool is_link(struct base_str url)
{
	for (size_t i = 0; i < url.len; i++)
		if ((unsigned char)url.ptr[i] <= ' ' || url.ptr[i] == '<' || url.ptr[i] == '>')
			return false;
	return has_scheme(url, "https://") || has_scheme(url, "http://") || has_scheme(url, "mailto:");
}

/* Position of `c` at or after `from`, behind escapes and balanced brackets of the same kind; or -1. */
static ptrdiff_t closing(struct base_str s, size_t from, char open, char close)
{
	size_t end = from + AHEAD_MAX < s.len ? from + AHEAD_MAX : s.len;
	unsigned nested = 0;

	for (size_t i = from; i < end; i++) {
		if (s.ptr[i] == '\\')
			i++;
		else if (s.ptr[i] == close && nested-- == 0)
			return (ptrdiff_t)i;
		else if (s.ptr[i] == open)
			nested++;
	}
	return -1;
}

static void open_link(struct inl *p, struct base_str url)
{
	tag(p, "<a href=\"");
	if (p->html)
		markdown_escape(url, p->out);
	tag(p, "\">");
}

static void nested(struct inl *p, struct base_str s)
{
	markdown_inline(s, p->html, p->depth + 1, p->out);
}

/* [text](address "title"), with or without a '!' before it. */
static bool link(struct inl *p, bool image)
{
	size_t start = p->at + (image ? 2 : 1);
	ptrdiff_t end = closing(p->s, start, '[', ']');
	struct base_str text, url, rest;
	ptrdiff_t stop;

	if (end < 0 || (size_t)end + 1 >= p->s.len || p->s.ptr[end + 1] != '(')
		return false;
	stop = closing(p->s, (size_t)end + 2, '(', ')');
	if (stop < 0)
		return false;
	text = base_str_sub(p->s, start, (size_t)end - start);
	url = base_str_sub(p->s, (size_t)end + 2, (size_t)stop - (size_t)end - 2);
	base_str_cut(url, ' ', &url, &rest); /* a title is dropped */
	if (url.len > 1 && url.ptr[0] == '<' && url.ptr[url.len - 1] == '>')
		url = base_str_sub(url, 1, url.len - 2);
	if (!is_link(url)) {
		nested(p, text); /* a link to nowhere safe: its text alone */
	} else if (image && p->html && !has_scheme(url, "mailto:")) {
		base_buf_cstr(p->out, "<img src=\"");
		markdown_escape(url, p->out);
		base_buf_cstr(p->out, "\" alt=\"");
		markdown_escape(text, p->out);
		base_buf_cstr(p->out, "\" style=\"max-width:100%\">");
	} else {
		open_link(p, url);
		nested(p, text);
		tag(p, "</a>");
		if (!p->html && !base_str_eq(text, url))
			base_buf_printf(p->out, " (%.*s)", BASE_STR_ARG(url));
	}
	p->at = (size_t)stop + 1;
	return true;
}

static void plain_link(struct inl *p, struct base_str url)
{
	open_link(p, url);
	put(p, url);
	tag(p, "</a>");
}

/* <https://...> */
static bool autolink(struct inl *p)
{
	ptrdiff_t end = closing(p->s, p->at + 1, '<', '>');
	struct base_str url;

	if (end < 0)
		return false;
	url = base_str_sub(p->s, p->at + 1, (size_t)end - p->at - 1);
	if (!is_link(url))
		return false;
	plain_link(p, url);
	p->at = (size_t)end + 1;
	return true;
}

/* https://... as it stands in running text; what ends a sentence does not belong to it. */
static bool bare_link(struct inl *p)
{
	struct base_str rest = base_str_sub(p->s, p->at, AHEAD_MAX);
	size_t len = 0;

	if ((p->at > 0 && is_word(p->s.ptr[p->at - 1])) ||
		!(has_scheme(rest, "https://") || has_scheme(rest, "http://")))
		return false;
	while (len < rest.len && !is_blank(rest.ptr[len]) && !strchr("<>\"'`*[]()", rest.ptr[len]))
		len++;
	while (len > 8 && strchr(".,;:!?", rest.ptr[len - 1]))
		len--;
	plain_link(p, base_str_sub(rest, 0, len));
	p->at += len;
	return true;
}

static bool code(struct inl *p)
{
	size_t run = 1, end = p->s.len, from;

	while (peek(p, run) == '`')
		run++;
	from = p->at + run;
	if (end > from + AHEAD_MAX)
		end = from + AHEAD_MAX;
	for (size_t i = from; i < end;) {
		size_t n = 0;

		while (i + n < end && p->s.ptr[i + n] == '`')
			n++;
		if (n == run) {
			tag(p, "<code>");
			put(p, base_str_sub(p->s, from, i - from));
			tag(p, "</code>");
			p->at = i + n;
			return true;
		}
		i += n ? n : 1;
	}
	put(p, base_str_sub(p->s, p->at, run));
	p->at = from;
	return true;
}

/* *em*, **strong**, _em_, __strong__ */
static bool emphasis(struct inl *p)
{
	char c = peek(p, 0);
	size_t run = peek(p, 1) == c ? 2 : 1;
	size_t from = p->at + run;
	size_t end = p->s.len < from + AHEAD_MAX ? p->s.len : from + AHEAD_MAX;

	if (is_blank(peek(p, run)) || (c == '_' && p->at > 0 && is_word(p->s.ptr[p->at - 1])))
		return false;
	for (size_t i = from + 1; i + run <= end; i++) {
		if (p->s.ptr[i] == '\\') {
			i++;
			continue;
		}
		if (p->s.ptr[i] != c || is_blank(p->s.ptr[i - 1]) || (run == 2 && p->s.ptr[i + 1] != c))
			continue;
		if (run == 1 && i + 1 < p->s.len && p->s.ptr[i + 1] == c) { /* the start or end of a strong */
			i++;
			continue;
		}
		if (c == '_' && i + run < p->s.len && is_word(p->s.ptr[i + run]))
			continue;
		tag(p, run == 2 ? "<strong>" : "<em>");
		nested(p, base_str_sub(p->s, from, i - from));
		tag(p, run == 2 ? "</strong>" : "</em>");
		p->at = i + run;
		return true;
	}
	return false;
}

static bool special(struct inl *p)
{
	char c = peek(p, 0);

	switch (c) {
	case '\\':
		if (peek(p, 1) == '\n') {
			tag(p, "<br>");
			p->at++;
			return true;
		}
		if (peek(p, 1) > ' ' && peek(p, 1) < 127 && !is_word(peek(p, 1))) {
			put(p, base_str_sub(p->s, p->at + 1, 1));
			p->at += 2;
			return true;
		}
		return false;
	case '`':
		return code(p);
	case '!':
		return peek(p, 1) == '[' && link(p, true);
	case '[':
		return link(p, false);
	case '<':
		return autolink(p);
	case 'h':
		return bare_link(p);
	case '*':
	case '_':
		return emphasis(p);
	case ' ': /* two blanks at the end of a line break it */
		if (peek(p, 1) == ' ' && peek(p, 2) == '\n') {
			tag(p, "<br>");
			p->at += 2;
			return true;
		}
		return false;
	default:
		return false;
	}
}

void markdown_inline(struct base_str s, bool html, unsigned depth, struct base_buf *out)
{
	struct inl p = {.s = s, .html = html, .depth = depth, .out = out};

	while (p.at < s.len) {
		size_t plain = p.at;

		if (depth < MARKDOWN_DEPTH_MAX && special(&p))
			continue;
		/* at least one, so that a mark which opens nothing stands for itself */
		do
			plain++;
		while (plain < s.len && !strchr("\\`![<h*_ ", s.ptr[plain]));
		/* a run of the same mark that opened nothing opens nothing later either */
		if (s.ptr[p.at] == '*' || s.ptr[p.at] == '_')
			while (plain < s.len && s.ptr[plain] == s.ptr[p.at])
				plain++;
		put(&p, base_str_sub(s, p.at, plain - p.at));
		p.at = plain;
	}
}
