#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/real.h"
#include "cel/cel_int.h"

void cel_line_column(struct base_str source, size_t at, size_t *ret_line, size_t *ret_column)
{
	size_t line = 1, col = 1, i;

	for (i = 0; i < at && i < source.len; i++) {
		unsigned char c = (unsigned char)source.ptr[i];

		if (c == '\n') {
			line++;
			col = 1;
		} else {
			col += (c & 0xc0) != 0x80;
		}
	}
	/* In the middle of a character is at it. */
	if (i < source.len && ((unsigned char)source.ptr[i] & 0xc0) == 0x80 && col > 1)
		col--;
	*ret_line = line;
	*ret_column = col;
}

int cel_refuse(struct base_err *err, struct base_str source, size_t at, const char *why)
{
	size_t line, col;

	cel_line_column(source, at, &line, &col);
	return base_err_set(err, -EINVAL, "line %zu, column %zu: %s", line, col, why);
}

static int refuse(struct cel_lexer *l, size_t at, const char *why)
{
	return cel_refuse(l->err, l->in, at, why);
}

static char peek(const struct cel_lexer *l, size_t ahead)
{
	return l->in.len - l->at > ahead ? l->in.ptr[l->at + ahead] : '\0';
}

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool letter(char c)
{
	return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_';
}

static int hex(char c)
{
	if (digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void skip(struct cel_lexer *l)
{
	while (l->at < l->in.len) {
		char c = l->in.ptr[l->at];

		if (c == '/' && peek(l, 1) == '/') {
			while (l->at < l->in.len && l->in.ptr[l->at] != '\n')
				l->at++;
		} else if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f') {
			l->at++;
		} else {
			break;
		}
	}
}

static bool accept_u(struct cel_lexer *l)
{
	bool u = peek(l, 0) == 'u' || peek(l, 0) == 'U';

	l->at += u;
	return u;
}

static int whole_number(struct cel_lexer *l, struct cel_token *t, uint64_t v, bool overflow)
{
	if (accept_u(l)) {
		t->value = cel_uint(v);
	} else {
		t->min_magnitude = v == (uint64_t)INT64_MAX + 1;
		overflow |= v > (uint64_t)INT64_MAX + 1;
		t->value = cel_int((int64_t)v);
	}
	if (overflow)
		return refuse(l, t->at, "a number that is too large");
	if (letter(peek(l, 0)) || digit(peek(l, 0)))
		return refuse(l, l->at, "not a number");
	return 0;
}

static int hex_number(struct cel_lexer *l, struct cel_token *t)
{
	bool overflow = false;
	uint64_t v = 0;
	size_t from;

	l->at += 2;
	for (from = l->at; hex(peek(l, 0)) >= 0; l->at++) {
		overflow |= v >> 60 != 0;
		v = v << 4 | (uint64_t)hex(peek(l, 0));
	}
	if (l->at == from)
		return refuse(l, t->at, "not a number");
	return whole_number(l, t, v, overflow);
}

static int number(struct cel_lexer *l, struct cel_token *t)
{
	bool real = false, overflow = false;
	uint64_t v = 0;
	double d;

	t->kind = CEL_T_VALUE;
	if (peek(l, 0) == '0' && (peek(l, 1) | 0x20) == 'x')
		return hex_number(l, t);
	for (; digit(peek(l, 0)); l->at++)
		overflow |= __builtin_mul_overflow(v, 10u, &v) ||
			    __builtin_add_overflow(v, (uint64_t)(peek(l, 0) - '0'), &v);
	if (peek(l, 0) == '.' && digit(peek(l, 1))) {
		real = true;
		for (l->at++; digit(peek(l, 0));)
			l->at++;
	}
	if ((peek(l, 0) | 0x20) == 'e') {
		size_t sign = peek(l, 1) == '+' || peek(l, 1) == '-';

		if (!digit(peek(l, 1 + sign)))
			return refuse(l, t->at, "not a number");
		real = true;
		for (l->at += 2 + sign; digit(peek(l, 0));)
			l->at++;
	}
	if (!real)
		return whole_number(l, t, v, overflow);
	if (letter(peek(l, 0)) || base_real_parse(base_str_sub(l->in, t->at, l->at - t->at), &d) < 0)
		return refuse(l, t->at, "not a number");
	t->value = cel_double(d);
	return 0;
}

/* Behind a backslash. *ret_len: bytes of the escape; *ret_octet: it stands for a number that bytes take as it is. -1: not
 * one. */
static int64_t escape(struct base_str s, size_t *ret_len, bool *ret_octet)
{
	static const char names[] = "abfnrtv\\'\"`?", values[] = "\a\b\f\n\r\t\v\\'\"`?";
	const char *at = s.len ? memchr(names, s.ptr[0], sizeof(names) - 1) : NULL;
	size_t digits = 0, i;
	int64_t c = 0;

	*ret_len = 1;
	*ret_octet = s.len && (digit(s.ptr[0]) || (s.ptr[0] | 0x20) == 'x');
	if (at)
		return values[at - names];
	if (s.len && digit(s.ptr[0])) {
		if (s.len < 3 || s.ptr[0] > '3')
			return -1;
		for (i = 0; i < 3; i++) {
			if (s.ptr[i] < '0' || s.ptr[i] > '7')
				return -1;
			c = c << 3 | (s.ptr[i] - '0');
		}
		*ret_len = 3;
		return c;
	}
	if (s.len)
		digits = (s.ptr[0] | 0x20) == 'x' ? 2 : s.ptr[0] == 'u' ? 4 : s.ptr[0] == 'U' ? 8 : 0;
	if (digits == 0 || s.len < 1 + digits)
		return -1;
	for (i = 1; i <= digits; i++) {
		if (hex(s.ptr[i]) < 0)
			return -1;
		c = c << 4 | hex(s.ptr[i]);
	}
	*ret_len = 1 + digits;
	return c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? -1 : c;
}

static int unescape(struct cel_lexer *l, struct cel_token *t, struct base_str raw, bool bytes)
{
	/* No escape is shorter than what it stands for. */
	char *to = base_arena_alloc(l->arena, raw.len + 1);
	size_t len = 0, n, i;

	if (!to)
		return base_err_set(l->err, -ENOMEM, "out of memory");
	for (i = 0; i < raw.len; i++) {
		bool octet;
		int64_t c;

		if (raw.ptr[i] != '\\') {
			to[len++] = raw.ptr[i];
			continue;
		}
		c = escape(base_str_sub(raw, i + 1, raw.len), &n, &octet);
		if (c < 0 || (bytes && !octet && n > 1))
			return refuse(l, (size_t)(raw.ptr - l->in.ptr) + i, "an escape that is not known");
		if (bytes && octet)
			to[len++] = (char)c;
		else
			len += base_utf8_put(to + len, (uint32_t)c);
		i += n;
	}
	t->value = bytes ? cel_bytes((struct base_str){to, len}) : cel_string((struct base_str){to, len});
	return 0;
}

static int string(struct cel_lexer *l, struct cel_token *t, bool raw, bool bytes)
{
	char quote = peek(l, 0);
	bool triple = peek(l, 1) == quote && peek(l, 2) == quote;
	struct base_str body;
	bool escapes = false;

	t->kind = CEL_T_VALUE;
	l->at += triple ? 3 : 1;
	body = (struct base_str){l->in.ptr + l->at, 0};
	for (;; l->at++) {
		char c = peek(l, 0);

		if (l->at >= l->in.len || (!triple && (c == '\n' || c == '\r')))
			return refuse(l, t->at, "a string without its end");
		if (c == quote && (!triple || (peek(l, 1) == quote && peek(l, 2) == quote)))
			break;
		/* In a raw string a backslash is one, and hides nothing. */
		if (c == '\\' && !raw) {
			escapes = true;
			l->at += l->at + 1 < l->in.len;
		}
	}
	body.len = (size_t)(l->in.ptr + l->at - body.ptr);
	l->at += triple ? 3 : 1;
	if (escapes)
		return unescape(l, t, body, bytes);
	body = base_arena_dup(l->arena, body);
	t->value = bytes ? cel_bytes(body) : cel_string(body);
	return body.ptr ? 0 : base_err_set(l->err, -ENOMEM, "out of memory");
}

/* A string that may have a prefix: r or R for raw, b or B for bytes. */
static bool string_ahead(const struct cel_lexer *l, size_t *ret_prefix, bool *ret_raw, bool *ret_bytes)
{
	size_t i;

	*ret_raw = *ret_bytes = false;
	for (i = 0; i < 3; i++) {
		char c = peek(l, i);

		if (c == '"' || c == '\'') {
			*ret_prefix = i;
			return true;
		}
		if ((c | 0x20) == 'r' && !*ret_raw)
			*ret_raw = true;
		else if ((c | 0x20) == 'b' && !*ret_bytes && !*ret_raw)
			*ret_bytes = true;
		else
			return false;
	}
	return false;
}

static int quoted(struct cel_lexer *l, struct cel_token *t)
{
	size_t from = ++l->at;

	while (l->at < l->in.len && peek(l, 0) != '`') {
		char c = peek(l, 0);

		if (!letter(c) && !digit(c) && !memchr(".-/ ", c, 4))
			return refuse(l, l->at, "not a field name");
		l->at++;
	}
	t->kind = CEL_T_QUOTED;
	t->text = (struct base_str){l->in.ptr + from, l->at - from};
	if (l->at == l->in.len || t->text.len == 0)
		return refuse(l, t->at, "not a field name");
	l->at++;
	return 0;
}

static int operator(struct cel_lexer *l, struct cel_token *t)
{
	static const char *const pairs[] = {"==", "!=", "<=", ">=", "&&", "||"};
	char c = peek(l, 0);
	size_t i;

	t->kind = CEL_T_OP;
	for (i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (c == pairs[i][0] && peek(l, 1) == pairs[i][1]) {
			t->op = CEL_OP2(c, pairs[i][1]);
			l->at += 2;
			return 0;
		}
	if (!c || !strchr("+-*/%<>!?:.,()[]{}", c))
		return refuse(l, t->at, "a character that does not belong here");
	t->op = (unsigned char)c;
	l->at++;
	return 0;
}

int cel_lex(struct cel_lexer *l, struct cel_token *ret)
{
	bool raw, bytes;
	size_t prefix;
	char c;

	skip(l);
	*ret = (struct cel_token){.at = l->at};
	if (l->at >= l->in.len)
		return 0;
	c = peek(l, 0);
	if (string_ahead(l, &prefix, &raw, &bytes)) {
		l->at += prefix;
		return string(l, ret, raw, bytes);
	}
	if (digit(c) || (c == '.' && digit(peek(l, 1))))
		return number(l, ret);
	if (c == '`')
		return quoted(l, ret);
	if (!letter(c))
		return operator(l, ret);
	while (letter(peek(l, 0)) || digit(peek(l, 0)))
		l->at++;
	ret->kind = CEL_T_IDENT;
	ret->text = (struct base_str){l->in.ptr + ret->at, l->at - ret->at};
	return 0;
}
