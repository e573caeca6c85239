#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "base/money.h"
#include "cli/cli_int.h"

/* What a person reads. */

void cli_flush(struct cli *c)
{
	if (c->out.len > 0)
		fwrite(c->out.ptr, 1, c->out.len, stdout);
	fflush(stdout);
	base_buf_clear(&c->out);
}

/* Control characters, escape sequences and direction overrides must not reach a terminal: text comes from
 * outside. */
static void put_clean(struct base_buf *b, struct base_str s, bool lines)
{
	size_t i;

	for (i = 0; i < s.len; i++) {
		const unsigned char *p = (const unsigned char *)s.ptr + i;
		size_t left = s.len - i;

		if (*p == '\n' || *p == '\t')
			base_buf_char(b, lines ? (char)*p : ' ');
		else if (*p < 0x20 || *p == 0x7f)
			base_buf_char(b, '?');
		else if (left > 1 && p[0] == 0xc2 && p[1] < 0xa0) /* C1 */
			base_buf_char(b, '?'), i++;
		else if (left > 2 && p[0] == 0xe2 &&
			 ((p[1] == 0x80 && p[2] >= 0xaa && p[2] <= 0xae) ||
				 (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9)))
			base_buf_char(b, '?'), i += 2;
		else
			base_buf_char(b, (char)*p);
	}
}

void cli_text(struct cli *c, struct base_str s)
{
	put_clean(&c->out, s, false);
}

void cli_lines(struct cli *c, struct base_str s)
{
	put_clean(&c->out, s, true);
}

void cli_put(struct cli *c, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0)
		base_buf_put(&c->out, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

const char *cli_paint(const struct cli *c, const char *colour)
{
	static const char *const codes[][2] = {{"off", "\033[0m"}, {"green", "\033[32m"}, {"red", "\033[31m"},
		{"yellow", "\033[33m"}, {"blue", "\033[34m"}, {"dim", "\033[2m"}, {"bold", "\033[1m"}};
	size_t i;

	for (i = 0; c->colour && i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strcmp(codes[i][0], colour) == 0)
			return codes[i][1];
	return "";
}

const char *cli_mood(struct base_str state)
{
	static const char *const good[] = {
		"done", "ended", "ok", "up", "approve", "edit", "happened", "true", "running"};
	static const char *const bad[] = {"failed", "deny", "denied", "doubt", "parked", "cancelled", "down",
		"expired", "error", "give_up"};
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (base_str_is(state, good[i]))
			return "green";
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (base_str_is(state, bad[i]))
			return "red";
	return "yellow";
}

void cli_money(struct base_buf *b, int64_t nusd)
{
	if (nusd < 0) {
		base_buf_char(b, '-');
		nusd = nusd == INT64_MIN ? INT64_MAX : -nusd;
	}
	base_money_put(b, nusd);
}

void cli_time(struct base_buf *b, int64_t ms)
{
	time_t t = (time_t)(ms / 1000);
	char text[32];
	struct tm tm;

	if (!localtime_r(&t, &tm) || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm) == 0)
		return;
	base_buf_cstr(b, text);
}

int cli_fail(struct cli *c, const char *fmt, ...)
{
	char text[1024];
	struct base_buf clean;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cli_flush(c);
	base_buf_init(&clean, 1 << 16);
	put_clean(&clean, base_str_of(text), true);
	fprintf(stderr, "aios: %.*s\n", BASE_STR_ARG(clean));
	base_buf_done(&clean);
	return CLI_FAILED;
}

/* --- values --- */

static bool is_money(struct base_str key)
{
	return base_str_ends(key, BASE_STR("_nusd")) || base_str_is(key, "cost") ||
	       base_str_is(key, "total") || base_str_is(key, "money") || base_str_is(key, "reserved") ||
	       base_str_is(key, "share") || base_str_is(key, "each");
}

static bool is_duration(struct base_str key)
{
	return base_str_is(key, "latency_ms") || base_str_is(key, "waited_ms") ||
	       base_str_is(key, "uptime_ms");
}

/* A list of words as words. False for any other list. */
static bool put_words(struct base_buf *b, struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	if (base_jv_kind(list) != BASE_JSON_ARR)
		return false;
	while (base_jv_next(list, &it, &key, &v))
		if (base_jv_kind(v) != BASE_JSON_STR)
			return false;
	it = (struct base_jv_iter){0};
	for (bool first = true; base_jv_next(list, &it, &key, &v); first = false) {
		if (!first)
			base_buf_char(b, ' ');
		put_clean(b, base_jv_str(v), false);
	}
	return true;
}

void cli_cell(struct base_buf *b, struct base_str key, struct base_jv v)
{
	bool number = base_jv_kind(v) == BASE_JSON_INT;
	int64_t n = base_jv_int(v, 0);

	if (number && is_money(key))
		cli_money(b, n);
	else if (number && is_duration(key))
		base_duration_put(b, n);
	else if (number && (base_str_ends(key, BASE_STR("_ms")) || base_str_is(key, "at")) &&
		 n > 100000000000)
		cli_time(b, n);
	else if (base_jv_kind(v) == BASE_JSON_STR)
		/* A version is a hash: its beginning says which. */
		put_clean(b, base_str_sub(base_jv_str(v), 0, base_str_is(key, "version") ? 12 : SIZE_MAX),
			false);
	else if (put_words(b, v))
		return;
	else if (base_jv_kind(v) != BASE_JSON_NULL && base_jv_kind(v) != BASE_JSON_NONE) {
		struct base_buf one;

		base_buf_init(&one, 1 << 20);
		base_jv_write(v, &one);
		put_clean(b, base_buf_view(&one), false);
		base_buf_done(&one);
	}
}

size_t cli_width(struct base_str s)
{
	size_t i, n = 0;

	for (i = 0; i < s.len; i++)
		n += ((unsigned char)s.ptr[i] & 0xc0) != 0x80;
	return n;
}

static bool is_nested(struct base_jv v)
{
	return (base_jv_kind(v) == BASE_JSON_OBJ || base_jv_kind(v) == BASE_JSON_ARR) && base_jv_len(v) > 0;
}

static void put_label(struct cli *c, struct base_str key, unsigned indent)
{
	if (base_str_ends(key, BASE_STR("_nusd")))
		key.len -= 5;
	else if (base_str_ends(key, BASE_STR("_ms")))
		key.len -= 3;
	cli_put(c, "%*s%s", (int)indent, "", cli_paint(c, "dim"));
	cli_text(c, key);
	cli_put(c, "%s", cli_paint(c, "off"));
}

static void put_block(struct cli *c, struct base_str text, unsigned indent)
{
	struct base_str line;

	while (text.len > 0) {
		base_str_cut(text, '\n', &line, &text);
		cli_put(c, "%*s", (int)indent, "");
		cli_text(c, line);
		cli_put(c, "\n");
	}
}

static void put_object(struct cli *c, struct base_jv v, unsigned indent)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv item;
	struct base_buf cell;

	while (base_jv_next(v, &it, &key, &item)) {
		put_label(c, key, indent);
		if (is_nested(item)) {
			cli_put(c, "\n");
			cli_value(c, item, indent + 2);
		} else if (base_jv_kind(item) == BASE_JSON_STR &&
			   base_str_find(base_jv_str(item), '\n') >= 0) {
			cli_put(c, "\n");
			put_block(c, base_jv_str(item), indent + 2);
		} else {
			base_buf_init(&cell, 1 << 20);
			cli_cell(&cell, key, item);
			cli_put(c, ": ");
			base_buf_str(&c->out, base_buf_view(&cell));
			cli_put(c, "\n");
			base_buf_done(&cell);
		}
	}
}

void cli_value(struct cli *c, struct base_jv v, unsigned indent)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv item;

	if (base_jv_kind(v) == BASE_JSON_OBJ) {
		put_object(c, v, indent);
	} else if (base_jv_kind(v) == BASE_JSON_ARR) {
		while (base_jv_next(v, &it, &key, &item)) {
			if (base_jv_kind(item) == BASE_JSON_OBJ) {
				cli_put(c, "%*s-\n", (int)indent, "");
				cli_value(c, item, indent + 2);
			} else {
				cli_put(c, "%*s- ", (int)indent, "");
				cli_cell(&c->out, BASE_STR_NONE, item);
				cli_put(c, "\n");
			}
		}
	} else if (base_jv_kind(v) == BASE_JSON_STR) {
		put_block(c, base_jv_str(v), indent);
	} else {
		cli_put(c, "%*s", (int)indent, "");
		cli_cell(&c->out, BASE_STR_NONE, v);
		cli_put(c, "\n");
	}
}

/* --- tables --- */

enum { COLUMNS_MAX = 12, CELL_MAX = 60 };

struct column {
	struct base_str title;
	bool right;
	size_t width;
};

/* The first of "member,member2" that the row has. */
static struct base_jv member(struct base_jv row, const char *spec, struct base_str *ret_key)
{
	struct base_str names, name, none;
	struct base_jv v = {0};

	base_str_cut(base_str_of(spec), '=', &none, &names);
	while (names.len > 0) {
		base_str_cut(names, ',', &name, &names);
		v = base_jv_get_str(row, name);
		*ret_key = name;
		if (base_jv_kind(v) != BASE_JSON_NONE && base_jv_kind(v) != BASE_JSON_NULL)
			break;
	}
	return v;
}

static struct base_str make_cell(struct cli *c, struct base_jv row, const char *spec)
{
	struct base_str key = BASE_STR_NONE, text;
	struct base_jv v = member(row, spec, &key);
	struct base_buf b;
	size_t n;

	base_buf_init(&b, 1 << 20);
	cli_cell(&b, key, v);
	text = base_buf_view(&b);
	if (cli_width(text) > CELL_MAX) {
		for (n = 0; cli_width(base_str_sub(text, 0, n)) < CELL_MAX - 1; n++)
			;
		while (n < text.len && ((unsigned char)text.ptr[n] & 0xc0) == 0x80)
			n++;
		text = base_arena_printf(c->arena, "%.*s…", (int)n, text.ptr);
	} else {
		text = base_arena_dup(c->arena, text);
	}
	base_buf_done(&b);
	return text;
}

static void put_padded(struct cli *c, struct base_str text, const struct column *col, bool last)
{
	size_t w = cli_width(text), pad = col->width > w ? col->width - w : 0;

	if (col->right)
		cli_put(c, "%*s", (int)pad, "");
	base_buf_str(&c->out, text);
	if (!col->right && !last)
		cli_put(c, "%*s", (int)pad, "");
	cli_put(c, last ? "\n" : "  ");
}

void cli_table(struct cli *c, struct base_jv list, const char *const *columns)
{
	struct column col[COLUMNS_MAX];
	size_t rows = base_jv_len(list), n = 0, r, i;
	struct base_str *cells, none;
	struct base_jv_iter it = {0};
	struct base_jv row;

	for (n = 0; n < COLUMNS_MAX && columns[n]; n++) {
		base_str_cut(base_str_of(columns[n]), '=', &col[n].title, &none);
		col[n].right = col[n].title.ptr[0] == '>';
		if (col[n].right)
			col[n].title = base_str_sub(col[n].title, 1, col[n].title.len);
		col[n].width = cli_width(col[n].title);
	}
	cells = base_arena_array(c->arena, rows * n + 1, sizeof(*cells));
	if (!cells)
		return;
	for (r = 0; base_jv_next(list, &it, &none, &row); r++)
		for (i = 0; i < n; i++) {
			cells[r * n + i] = make_cell(c, row, columns[i]);
			if (cli_width(cells[r * n + i]) > col[i].width)
				col[i].width = cli_width(cells[r * n + i]);
		}
	cli_put(c, "%s", cli_paint(c, "dim"));
	for (i = 0; i < n; i++)
		put_padded(c, col[i].title, &col[i], i + 1 == n);
	cli_put(c, "%s", cli_paint(c, "off"));
	for (r = 0; r < rows; r++)
		for (i = 0; i < n; i++) {
			bool state =
				base_str_is(col[i].title, "STATE") || base_str_is(col[i].title, "STATUS");

			cli_put(c, "%s", state ? cli_paint(c, cli_mood(cells[r * n + i])) : "");
			put_padded(c, cells[r * n + i], &col[i], i + 1 == n);
			cli_put(c, "%s", state ? cli_paint(c, "off") : "");
		}
}
