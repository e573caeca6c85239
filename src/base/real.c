#include "base/real.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yyjson.h>

#include "base/check.h"
#include "base/json_int.h"

/* Longer literals say nothing that a double could hold. */
enum { TEXT_MAX = 1200 };

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

struct reader {
	struct base_str in;
	size_t at;
	char text[TEXT_MAX + 16];
	size_t len;
};

static size_t digits(struct reader *r)
{
	size_t from = r->at;

	for (; r->at < r->in.len && is_digit(r->in.ptr[r->at]); r->at++)
		r->text[r->len++] = r->in.ptr[r->at];
	return r->at - from;
}

static bool accept(struct reader *r, const char *any)
{
	return r->at < r->in.len && r->in.ptr[r->at] && strchr(any, r->in.ptr[r->at]) && ++r->at;
}

/* As JSON has it: a digit on both sides of the point, no plus, no zeros in front. */
static bool normal(struct reader *r)
{
	size_t whole, part = 0;

	if (accept(r, "+-") && r->in.ptr[0] == '-')
		r->text[r->len++] = '-';
	while (r->in.len - r->at > 1 && r->in.ptr[r->at] == '0' && is_digit(r->in.ptr[r->at + 1]))
		r->at++;
	whole = digits(r);
	if (whole == 0)
		r->text[r->len++] = '0';
	if (accept(r, ".")) {
		r->text[r->len++] = '.';
		part = digits(r);
		if (part == 0)
			r->text[r->len++] = '0';
	}
	if (whole + part == 0)
		return false;
	if (accept(r, "eE")) {
		r->text[r->len++] = 'e';
		if (accept(r, "+-"))
			r->text[r->len++] = r->in.ptr[r->at - 1];
		if (digits(r) == 0)
			return false;
	}
	r->text[r->len] = '\0';
	return r->at == r->in.len;
}

int base_real_parse(struct base_str s, double *ret)
{
	struct reader r = {.in = s};
	yyjson_read_err e;
	yyjson_val v;

	if (s.len == 0 || s.len > TEXT_MAX || !normal(&r))
		return -EINVAL;
	if (!yyjson_read_number(r.text, &v, YYJSON_READ_NOFLAG, NULL, &e))
		return -ERANGE;
	*ret = yyjson_get_num(&v);
	return 0;
}

size_t base_real_text(double v, char ret[BASE_REAL_MAX])
{
	return json_real_text(v, ret);
}

/* printf writes the locale's point. */
static size_t with_point(const char *text, int len, char *ret)
{
	bool point = false;
	size_t n = 0;

	BASE_CHECK(len > 0 && len < BASE_REAL_PRINT_MAX);
	for (int i = 0; i < len; i++) {
		if (is_digit(text[i]) || strchr("+-e", text[i])) {
			ret[n++] = text[i];
		} else if (!point) {
			ret[n++] = '.';
			point = true;
		}
	}
	return n;
}

size_t base_real_fixed(double v, unsigned digits_after, char ret[BASE_REAL_PRINT_MAX])
{
	char text[BASE_REAL_PRINT_MAX];

	BASE_CHECK(digits_after <= BASE_REAL_DIGITS_MAX);
	return with_point(text, snprintf(text, sizeof(text), "%.*f", (int)digits_after, v), ret);
}

size_t base_real_scientific(double v, unsigned digits_after, char ret[BASE_REAL_PRINT_MAX])
{
	char text[BASE_REAL_PRINT_MAX];

	BASE_CHECK(digits_after <= BASE_REAL_DIGITS_MAX);
	return with_point(text, snprintf(text, sizeof(text), "%.*e", (int)digits_after, v), ret);
}

static size_t zeros(char *to, int count)
{
	if (count <= 0)
		return 0;
	memset(to, '0', (size_t)count);
	return (size_t)count;
}

/* Takes the exponent of the shortest form out: 1.5e-7 is 0.00000015. */
size_t base_real_plain(double v, char ret[BASE_REAL_PRINT_MAX])
{
	char text[BASE_REAL_MAX + 1], figures[BASE_REAL_MAX];
	size_t len = base_real_text(v, text), n = 0, i = 0, count = 0;
	const char *e = memchr(text, 'e', len), *c;
	int whole = 0, exponent = 0;

	if (!e) {
		memcpy(ret, text, len);
		return len;
	}
	for (c = e + 1; c < text + len; c++)
		exponent = is_digit(*c) ? exponent * 10 + (*c - '0') : exponent;
	if (text[0] == '-')
		ret[n++] = text[i++];
	for (; text + i < e; i++) {
		if (text[i] == '.')
			continue;
		figures[count++] = text[i];
		whole += !memchr(text, '.', i);
	}
	whole += e[1] == '-' ? -exponent : exponent;
	if (whole <= 0) {
		ret[n++] = '0';
		ret[n++] = '.';
		n += zeros(ret + n, -whole);
	}
	memcpy(ret + n, figures, count);
	n += count;
	if (whole > 0) /* an exponent that is positive is over 20: all figures stand in front of the point */
		n += zeros(ret + n, whole - (int)count);
	return n;
}
