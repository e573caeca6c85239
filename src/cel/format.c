#include <math.h>
#include <string.h>

#include "base/real.h"
#include "cel/cel_int.h"

/* string.format and strings.quote. */

#define ARGS struct cel_run *run, const struct cel_value *args, unsigned count

size_t cel_unsigned_text(uint64_t v, unsigned base, bool upper, char ret[64])
{
	const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	char reversed[64];
	size_t n = 0, i;

	do
		reversed[n++] = digits[v % base];
	while ((v /= base) > 0);
	for (i = 0; i < n; i++)
		ret[i] = reversed[n - 1 - i];
	return n;
}

/* --- %s --- */

static void put_double(struct cel_text *t, double d)
{
	char text[BASE_REAL_PRINT_MAX];

	if (isnan(d))
		cel_text_cstr(t, "NaN");
	else if (isinf(d))
		cel_text_cstr(t, d > 0 ? "Infinity" : "-Infinity");
	else if (d == 0 && signbit(d))
		cel_text_cstr(t, "-0");
	else
		cel_text_put(t, text, base_real_plain(d, text));
}

static void put_number(struct cel_text *t, uint64_t magnitude, bool minus, unsigned base, bool upper)
{
	char text[64];

	if (minus)
		cel_text_cstr(t, "-");
	cel_text_put(t, text, cel_unsigned_text(magnitude, base, upper, text));
}

static bool put_int(struct cel_text *t, struct cel_value v, unsigned base, bool upper)
{
	if (v.kind == CEL_UINT)
		put_number(t, v.as.u, false, base, upper);
	else if (v.kind == CEL_INT)
		put_number(t, v.as.i < 0 ? 0 - (uint64_t)v.as.i : (uint64_t)v.as.i, v.as.i < 0, base, upper);
	return v.kind == CEL_UINT || v.kind == CEL_INT;
}

/* Bytes as text: what is not UTF-8 becomes U+FFFD, a single one for as much of it as stands together. */
static void put_bytes(struct cel_text *t, struct base_str s)
{
	bool bad = false;

	while (s.len) {
		size_t n = base_utf8_next(s);

		if (n)
			cel_text_put(t, s.ptr, n);
		else if (!bad)
			cel_text_cstr(t, "\xef\xbf\xbd");
		bad = n == 0;
		s = base_str_sub(s, n ? n : 1, s.len);
	}
}

static bool put_list(struct cel_text *t, struct cel_value v)
{
	struct cel_iter it = cel_iter_of(v);
	struct cel_value key, item;

	cel_text_cstr(t, "[");
	while (cel_next(v, &it, &key, &item)) {
		if (it.i > 1)
			cel_text_cstr(t, ", ");
		if (!cel_text_value(t, item))
			return false;
	}
	cel_text_cstr(t, "]");
	return true;
}

/* In the order of the keys' texts. */
static bool put_map(struct cel_text *t, struct cel_value v)
{
	struct cel_iter it = cel_iter_of(v);
	struct cel_value *keys = cel_items_room(t->run, it.count), *items = cel_items_room(t->run, it.count),
			 key;
	size_t i;

	if (!keys || !items) {
		t->failed = true;
		return true;
	}
	while (cel_next(v, &it, &key, &items[it.i])) {
		struct cel_text k = {.run = t->run};

		cel_text_value(&k, key);
		keys[it.i - 1] = cel_text_done(&k);
	}
	cel_sort(t->run, keys, items, it.count);
	cel_text_cstr(t, "{");
	for (i = 0; i < it.count && !t->run->stopped; i++) {
		if (i > 0)
			cel_text_cstr(t, ", ");
		cel_text_str(t, keys[i].as.s);
		cel_text_cstr(t, ": ");
		if (!cel_text_value(t, items[i]))
			return false;
	}
	cel_text_cstr(t, "}");
	return true;
}

bool cel_text_value(struct cel_text *t, struct cel_value v)
{
	char text[CEL_TIME_TEXT_MAX];

	if (!cel_pay(t->run, 1)) {
		t->failed = true;
		return true;
	}
	switch (v.kind) {
	case CEL_NULL:
		cel_text_cstr(t, "null");
		return true;
	case CEL_BOOL:
		cel_text_cstr(t, v.as.b ? "true" : "false");
		return true;
	case CEL_INT:
	case CEL_UINT:
		return put_int(t, v, 10, false);
	case CEL_DOUBLE:
		put_double(t, v.as.d);
		return true;
	case CEL_STRING:
	case CEL_TYPE:
		cel_text_str(t, v.as.s);
		return true;
	case CEL_BYTES:
		put_bytes(t, v.as.s);
		return true;
	case CEL_TIMESTAMP:
		cel_text_put(t, text, cel_timestamp_text(v, text));
		return true;
	case CEL_DURATION:
		cel_text_put(t, text, cel_duration_text(v, text));
		return true;
	case CEL_LIST:
		return put_list(t, v);
	case CEL_MAP:
		return put_map(t, v);
	default:
		return false;
	}
}

/* --- the other clauses --- */

static bool put_hex(struct cel_text *t, struct cel_value v, bool upper)
{
	const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	size_t i;

	if (v.kind != CEL_STRING && v.kind != CEL_BYTES)
		return put_int(t, v, 16, upper);
	for (i = 0; i < v.as.s.len; i++) {
		unsigned char c = (unsigned char)v.as.s.ptr[i];

		cel_text_put(t, (char[]){digits[c >> 4], digits[c & 15]}, 2);
	}
	return true;
}

static bool put_real(struct cel_text *t, struct cel_value v, bool fixed, unsigned digits)
{
	char text[BASE_REAL_PRINT_MAX];
	double d;

	if (!cel_is_number(v))
		return false;
	d = v.kind == CEL_DOUBLE ? v.as.d : v.kind == CEL_INT ? (double)v.as.i : (double)v.as.u;
	if (!isfinite(d))
		put_double(t, d);
	else
		cel_text_put(t, text,
			fixed ? base_real_fixed(d, digits, text) : base_real_scientific(d, digits, text));
	return true;
}

static bool put_binary(struct cel_text *t, struct cel_value v)
{
	if (v.kind != CEL_BOOL)
		return put_int(t, v, 2, false);
	cel_text_cstr(t, v.as.b ? "1" : "0");
	return true;
}

static bool put_decimal(struct cel_text *t, struct cel_value v)
{
	if (v.kind != CEL_DOUBLE)
		return put_int(t, v, 10, false);
	put_double(t, v.as.d);
	return true;
}

static bool clause(struct cel_text *t, char c, unsigned digits, struct cel_value v)
{
	switch (c) {
	case 's':
		return cel_text_value(t, v);
	case 'd':
		return put_decimal(t, v);
	case 'f':
	case 'e':
		return put_real(t, v, c == 'f', digits);
	case 'b':
		return put_binary(t, v);
	case 'o':
		return put_int(t, v, 8, false);
	default:
		return put_hex(t, v, c == 'X');
	}
}

/* ".3" in front of a clause; -1: too many digits, or none. */
static int precision(struct base_str f, size_t *at)
{
	int digits = 0;
	size_t from;

	if (*at >= f.len || f.ptr[*at] != '.')
		return 6;
	for (from = ++*at; *at < f.len && f.ptr[*at] >= '0' && f.ptr[*at] <= '9'; ++*at) {
		digits = digits * 10 + (f.ptr[*at] - '0');
		if (digits > BASE_REAL_DIGITS_MAX)
			return -1;
	}
	return *at > from ? digits : -1;
}

struct cel_value cel_format(ARGS)
{
	struct base_str f = args[0].as.s;
	struct cel_text t = {.run = run};
	size_t at = 0, next = 0, total = cel_count(args[1]);

	(void)count;
	while (at < f.len && cel_pay(run, 1)) {
		const char *sign = memchr(f.ptr + at, '%', f.len - at);
		size_t plain = sign ? (size_t)(sign - f.ptr) : f.len;
		int digits;

		cel_text_put(&t, f.ptr + at, plain - at);
		at = plain + 1;
		if (!sign)
			break;
		if (at < f.len && f.ptr[at] == '%') {
			cel_text_cstr(&t, "%");
			at++;
			continue;
		}
		digits = precision(f, &at);
		if (digits < 0)
			return cel_error("format: too many digits behind the point, or none");
		if (at >= f.len || !memchr("sdfebxXo", f.ptr[at], 8))
			return cel_error("format: behind % stands one of s d f e b x X o %");
		if (next >= total)
			return cel_error("format: there are fewer arguments than clauses");
		if (!clause(&t, f.ptr[at], (unsigned)digits, cel_at(args[1], next++)))
			return cel_error("format: an argument has a type that its clause does not take");
		at++;
	}
	return cel_text_done(&t);
}

struct cel_value cel_quote(ARGS)
{
	static const char names[] = "abfnrtv\\\"", values[] = "\a\b\f\n\r\t\v\\\"";
	struct base_str s = args[0].as.s;
	struct cel_text t = {.run = run};
	size_t i, from = 0;

	(void)count;
	cel_text_cstr(&t, "\"");
	for (i = 0; i < s.len; i++) {
		const char *at = memchr(values, s.ptr[i], sizeof(values) - 1);

		if (!at)
			continue;
		cel_text_put(&t, s.ptr + from, i - from);
		cel_text_put(&t, (char[]){'\\', names[at - values]}, 2);
		from = i + 1;
	}
	cel_text_str(&t, base_str_sub(s, from, s.len));
	cel_text_cstr(&t, "\"");
	return cel_text_done(&t);
}
