#include "connect/markdown.h"

#include <stdio.h>
#include <string.h>

#include "connect/markdown_int.h"

/* Blocks: what lines make together. */

enum { NEST_MAX = 4 << 20 }; /* the inside of a quote or list item */

struct doc {
	bool html;
	bool tight; /* inside of a list item: paragraphs stand bare */
	unsigned depth;
	struct base_buf *out;
};

struct list {
	bool ordered;
	unsigned long start;
	size_t indent; /* where the content of an item begins */
};

static void blocks(const struct doc *d, struct base_str src);

static size_t indent_of(struct base_str line)
{
	size_t n = 0;

	while (n < line.len && line.ptr[n] == ' ')
		n++;
	return n;
}

static bool is_empty(struct base_str line)
{
	for (size_t i = 0; i < line.len; i++)
		if (line.ptr[i] != ' ' && line.ptr[i] != '\t')
			return false;
	return true;
}

static struct base_str line_of(struct base_str *rest)
{
	struct base_str line;

	base_str_cut(*rest, '\n', &line, rest);
	if (line.len && line.ptr[line.len - 1] == '\r')
		line.len--;
	return line;
}

static struct base_str trim(struct base_str s)
{
	while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t' || s.ptr[s.len - 1] == '\n'))
		s.len--;
	return base_str_sub(s, indent_of(s), s.len);
}

/* "# " to "###### ": the level, or 0. */
static unsigned heading_of(struct base_str line, struct base_str *ret)
{
	size_t n = 0;

	while (n < line.len && line.ptr[n] == '#')
		n++;
	if (n == 0 || n > 6 || (n < line.len && line.ptr[n] != ' '))
		return 0;
	*ret = trim(base_str_sub(line, n, line.len));
	while (ret->len && ret->ptr[ret->len - 1] == '#')
		ret->len--;
	*ret = trim(*ret);
	return (unsigned)n;
}

static bool is_rule(struct base_str line)
{
	size_t count = 0;
	char c = 0;

	for (size_t i = 0; i < line.len; i++) {
		if (line.ptr[i] == ' ')
			continue;
		if (!strchr("-*_", line.ptr[i]) || (c && line.ptr[i] != c))
			return false;
		c = line.ptr[i];
		count++;
	}
	return count >= 3;
}

static bool is_fence(struct base_str line)
{
	line = base_str_sub(line, indent_of(line), line.len);
	return base_str_starts(line, BASE_STR("```")) || base_str_starts(line, BASE_STR("~~~"));
}

static bool is_item(struct base_str line, struct list *ret)
{
	size_t at = indent_of(line), digits = 0;
	struct list l = {0};

	if (at > 3 || is_rule(line))
		return false;
	while (at + digits < line.len && digits < 9 && line.ptr[at + digits] >= '0' &&
		line.ptr[at + digits] <= '9')
		l.start = l.start * 10 + (unsigned long)(line.ptr[at + digits++] - '0');
	l.ordered = digits > 0;
	at += digits;
	if (at + 1 >= line.len || !strchr(l.ordered ? ".)" : "-*+", line.ptr[at]) || line.ptr[at + 1] != ' ')
		return false;
	l.indent = at + 2;
	*ret = l;
	return true;
}

/* True where a paragraph ends because something else begins. */
static bool begins_other(struct base_str line)
{
	struct base_str text;
	struct list l;

	return is_empty(line) || heading_of(line, &text) || is_rule(line) || is_fence(line) ||
	       (line.len && line.ptr[0] == '>') || is_item(line, &l);
}

static void gap(const struct doc *d)
{
	if (!d->html && d->out->len && !d->tight)
		base_buf_char(d->out, '\n');
}

static void heading(const struct doc *d, unsigned level, struct base_str text)
{
	gap(d);
	if (d->html)
		base_buf_printf(d->out, "<h%u>", level);
	markdown_inline(text, d->html, 0, d->out);
	if (d->html)
		base_buf_printf(d->out, "</h%u>", level);
	base_buf_char(d->out, '\n');
}

static void paragraph(const struct doc *d, struct base_str text)
{
	gap(d);
	if (d->html && !d->tight)
		base_buf_cstr(d->out, "<p>");
	markdown_inline(trim(text), d->html, 0, d->out);
	base_buf_cstr(d->out, d->html && !d->tight ? "</p>\n" : "\n");
}

/* ``` to ```, or to the end. */
static void fence(const struct doc *d, struct base_str first, struct base_str *rest)
{
	char mark = first.ptr[indent_of(first)];

	gap(d);
	if (d->html)
		base_buf_cstr(d->out, "<pre><code>");
	while (rest->len) {
		struct base_str line = line_of(rest);

		if (is_fence(line) && line.ptr[indent_of(line)] == mark)
			break;
		if (d->html)
			markdown_escape(line, d->out);
		else
			base_buf_printf(d->out, "    %.*s", BASE_STR_ARG(line));
		base_buf_char(d->out, '\n');
	}
	if (d->html)
		base_buf_cstr(d->out, "</code></pre>\n");
}

/* Renders `inner` and puts it out with a prefix before the first and one before the other lines. */
static void prefixed(
	const struct doc *d, struct base_str inner, bool tight, const char *first, const char *other)
{
	struct base_buf b;
	struct base_str rest;
	struct doc in = {.html = d->html, .tight = tight, .depth = d->depth + 1, .out = &b};

	base_buf_init(&b, NEST_MAX);
	blocks(&in, inner);
	rest = base_buf_view(&b);
	if (d->html) {
		base_buf_str(d->out, trim(rest));
	} else {
		while (rest.len) {
			base_buf_cstr(d->out, first);
			base_buf_str(d->out, line_of(&rest));
			base_buf_char(d->out, '\n');
			first = other;
		}
	}
	base_buf_done(&b);
}

static void quote(const struct doc *d, struct base_str first, struct base_str *rest)
{
	struct base_str line = first;
	struct base_buf inner;

	gap(d);
	base_buf_init(&inner, NEST_MAX);
	for (;;) {
		struct base_str after = *rest;

		line = line.len && line.ptr[0] == '>' ? base_str_sub(line, 1, line.len) : line;
		base_buf_str(&inner, line.len && line.ptr[0] == ' ' ? base_str_sub(line, 1, line.len) : line);
		base_buf_char(&inner, '\n');
		if (!after.len)
			break;
		line = line_of(&after);
		if (!(line.len && line.ptr[0] == '>') && begins_other(line))
			break;
		*rest = after;
	}
	if (d->html)
		base_buf_cstr(d->out, "<blockquote>");
	prefixed(d, base_buf_view(&inner), false, "> ", "> ");
	if (d->html)
		base_buf_cstr(d->out, "</blockquote>\n");
	base_buf_done(&inner);
}

/* The lines of one item, without their indent; leaves *rest at what follows. */
static void item_lines(struct list *l, struct base_str first, struct base_str *rest, struct base_buf *inner)
{
	bool blank = false;
	struct list next;

	base_buf_str(inner, base_str_sub(first, l->indent, first.len));
	base_buf_char(inner, '\n');
	while (rest->len) {
		struct base_str after = *rest;
		struct base_str line = line_of(&after);
		size_t indent = indent_of(line);

		if (is_empty(line)) {
			blank = true;
		} else if (indent >= 2 &&
			   (indent >= l->indent || is_item(base_str_sub(line, 2, line.len), &next))) {
			if (blank)
				base_buf_char(inner, '\n');
			base_buf_str(
				inner, base_str_sub(line, indent < l->indent ? indent : l->indent, line.len));
			base_buf_char(inner, '\n');
			blank = false;
		} else if (blank || begins_other(line)) {
			return;
		} else {
			base_buf_str(inner, line);
			base_buf_char(inner, '\n');
		}
		*rest = after;
	}
}

static void list(const struct doc *d, struct list *l, struct base_str first, struct base_str *rest)
{
	bool ordered = l->ordered;
	unsigned long number = l->start;
	struct base_buf inner;

	gap(d);
	base_buf_init(&inner, NEST_MAX);
	if (d->html && ordered && number != 1)
		base_buf_printf(d->out, "<ol start=\"%lu\">\n", number);
	else if (d->html)
		base_buf_cstr(d->out, ordered ? "<ol>\n" : "<ul>\n");
	for (;;) {
		struct base_str after;
		char mark[16] = "- ";

		if (ordered)
			snprintf(mark, sizeof(mark), "%lu. ", number++ % 1000000000);
		base_buf_clear(&inner);
		item_lines(l, first, rest, &inner);
		if (d->html)
			base_buf_cstr(d->out, "<li>");
		prefixed(d, base_buf_view(&inner), true, mark, ordered ? "   " : "  ");
		if (d->html)
			base_buf_cstr(d->out, "</li>\n");
		after = *rest;
		if (!after.len)
			break;
		first = line_of(&after);
		if (!is_item(first, l) || l->ordered != ordered)
			break;
		*rest = after;
	}
	if (d->html)
		base_buf_cstr(d->out, ordered ? "</ol>\n" : "</ul>\n");
	base_buf_done(&inner);
}

static void block(const struct doc *d, struct base_str line, struct base_str *rest)
{
	struct base_str text, after;
	struct list l;
	unsigned level = heading_of(line, &text);
	const char *from = line.ptr;

	if (level) {
		heading(d, level, text);
	} else if (is_rule(line)) {
		gap(d);
		base_buf_cstr(d->out, d->html ? "<hr>\n" : "----\n");
	} else if (is_fence(line)) {
		fence(d, line, rest);
	} else if (line.ptr[0] == '>' && d->depth < MARKDOWN_DEPTH_MAX) {
		quote(d, line, rest);
	} else if (d->depth < MARKDOWN_DEPTH_MAX && is_item(line, &l)) {
		list(d, &l, line, rest);
	} else {
		text = line;
		for (after = *rest; after.len; *rest = after) {
			line = line_of(&after);
			if (begins_other(line))
				break;
			text = (struct base_str){from, (size_t)(line.ptr + line.len - from)};
		}
		paragraph(d, text);
	}
}

static void blocks(const struct doc *d, struct base_str src)
{
	while (src.len) {
		struct base_str line = line_of(&src);

		if (!is_empty(line))
			block(d, line, &src);
	}
}

void markdown_html(struct base_str md, struct base_buf *ret)
{
	blocks(&(struct doc){.html = true, .out = ret}, md);
}

void markdown_text(struct base_str md, struct base_buf *ret)
{
	blocks(&(struct doc){.html = false, .out = ret}, md);
}
