#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "parse/parse_int.h"

static bool one_of(struct base_str s, const char *const *words)
{
	for (; *words; words++)
		if (base_str_is(s, *words))
			return true;
	return false;
}

static size_t digits(struct base_str s, size_t at)
{
	size_t n = 0;

	while (at + n < s.len && s.ptr[at + n] >= '0' && s.ptr[at + n] <= '9')
		n++;
	return n;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? ; *ret_int: no point and no exponent. */
static bool is_number(struct base_str s, bool *ret_int)
{
	size_t at = 0, whole, part = 0;
	bool integer = true;

	if (at < s.len && (s.ptr[at] == '-' || s.ptr[at] == '+'))
		at++;
	whole = digits(s, at);
	at += whole;
	if (at < s.len && s.ptr[at] == '.') {
		integer = false;
		part = digits(s, at + 1);
		at += 1 + part;
	}
	if (whole + part == 0)
		return false;
	if (at < s.len && (s.ptr[at] == 'e' || s.ptr[at] == 'E')) {
		integer = false;
		at++;
		if (at < s.len && (s.ptr[at] == '-' || s.ptr[at] == '+'))
			at++;
		if (digits(s, at) == 0)
			return false;
		at += digits(s, at);
	}
	*ret_int = integer;
	return at == s.len;
}

static const char *put_int(struct base_str s, struct base_buf *ret)
{
	struct base_str body = s;
	bool negative = s.ptr[0] == '-';
	char text[32];
	int64_t v;
	size_t n = 0;

	if (s.ptr[0] == '-' || s.ptr[0] == '+')
		body = base_str_sub(s, 1, s.len - 1);
	if (body.len > 1 && body.ptr[0] == '0')
		return "a number must not begin with 0: quote it if it is text";
	if (body.len > 20)
		return "this number does not fit 64 bits: quote it if it is text";
	if (negative)
		text[n++] = '-';
	memcpy(text + n, body.ptr, body.len);
	n += body.len;
	if (negative && base_str_is(body, "0"))
		n = 0, text[n++] = '0';
	if (base_str_i64((struct base_str){text, n}, &v) < 0)
		return "this number does not fit 64 bits: quote it if it is text";
	base_buf_i64(ret, v);
	return NULL;
}

static const char *put_real(struct base_str s, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);
	char text[64];
	double v;

	if (s.len >= sizeof(text))
		return "this number has too many digits: quote it if it is text";
	memcpy(text, s.ptr, s.len);
	text[s.len] = 0;
	v = strtod(text, NULL);
	if (v - v != 0)
		return "this number is too large: quote it if it is text";
	base_jw_real(&w, v);
	return NULL;
}

/* 0x and 0o of the core schema: -EINVAL if `s` is neither. */
static int radix(struct base_str s, int64_t *ret)
{
	uint64_t v = 0;
	unsigned base;

	if (s.len < 3 || s.ptr[0] != '0' || (s.ptr[1] != 'x' && s.ptr[1] != 'o'))
		return -EINVAL;
	base = s.ptr[1] == 'x' ? 16 : 8;
	for (size_t i = 2; i < s.len; i++) {
		const char *set = "0123456789abcdef";
		char c = s.ptr[i] >= 'A' && s.ptr[i] <= 'F' ? (char)(s.ptr[i] | 32) : s.ptr[i];
		const char *at = c ? strchr(set, c) : NULL;

		if (!at || (unsigned)(at - set) >= base)
			return -EINVAL;
		if (v > (INT64_MAX - (uint64_t)(at - set)) / base)
			return -ERANGE;
		v = v * base + (unsigned)(at - set);
	}
	*ret = (int64_t)v;
	return 0;
}

const char *parse_yaml_scalar(struct base_str s, bool plain, struct base_buf *ret)
{
	static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
	static const char *const trues[] = {"true", "True", "TRUE", NULL};
	static const char *const falses[] = {"false", "False", "FALSE", NULL};
	static const char *const endless[] = {".inf", ".Inf", ".INF", "-.inf", "-.Inf", "-.INF", "+.inf",
		"+.Inf", "+.INF", ".nan", ".NaN", ".NAN", NULL};
	bool integer;
	int64_t v;
	int r;

	if (!plain) {
		base_json_quote(ret, s);
		return NULL;
	}
	if (one_of(s, endless))
		return "infinite numbers and NaN are not allowed";
	if (one_of(s, nulls)) {
		base_buf_cstr(ret, "null");
	} else if (one_of(s, trues)) {
		base_buf_cstr(ret, "true");
	} else if (one_of(s, falses)) {
		base_buf_cstr(ret, "false");
	} else if (is_number(s, &integer)) {
		return integer ? put_int(s, ret) : put_real(s, ret);
	} else {
		r = radix(s, &v);
		if (r == -ERANGE)
			return "this number does not fit 64 bits: quote it if it is text";
		if (r == 0)
			base_buf_i64(ret, v);
		else
			base_json_quote(ret, s);
	}
	return NULL;
}
