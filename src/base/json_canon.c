#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/json_int.h"

/*
 * Canonical JSON (RFC 8785). Two ways to it: writing it, and walking a parsed document beside its text to see
 * that the text is canonical already, which is what arguments of actions normally are.
 */
static const double exact_max = 9007199254740992.0; /* 2^53 */
static const double plain_max = 1e21;		    /* from here on numbers are written with an exponent */

/* In UTF-8 order, U+E000 to U+FFFF (first byte ee, ef) stand before what UTF-16 writes with surrogates (f0 to
 * f4). */
static unsigned rank(char c)
{
	unsigned char u = (unsigned char)c;

	return u < 0xee ? u : u < 0xf0 ? u + 0x10u : u - 2u;
}

int json_key_cmp(struct base_str a, struct base_str b)
{
	size_t n = a.len < b.len ? a.len : b.len, i;

	for (i = 0; i < n; i++)
		if (a.ptr[i] != b.ptr[i])
			return rank(a.ptr[i]) < rank(b.ptr[i]) ? -1 : 1;
	return (a.len > b.len) - (a.len < b.len);
}

struct member {
	struct base_str key;
	struct base_jv value;
};

static int member_order(const void *a, const void *b)
{
	return json_key_cmp(((const struct member *)a)->key, ((const struct member *)b)->key);
}

static bool in_order(struct base_jv obj)
{
	struct base_str key, last = BASE_STR_NONE;
	struct base_jv_iter it = {0};
	bool first = true;

	for (; base_jv_next(obj, &it, &key, NULL); last = key, first = false)
		if (!first && json_key_cmp(last, key) >= 0)
			return false;
	return true;
}

static void write_member(struct base_buf *b, const struct member *m, bool first)
{
	if (!first)
		base_buf_char(b, ',');
	base_json_quote(b, m->key);
	base_buf_char(b, ':');
	base_jv_write(m->value, b);
}

static void write_object(struct base_jv obj, struct base_buf *b)
{
	size_t count = base_jv_len(obj), i;
	struct base_jv_iter it = {0};
	struct member m, *sorted;

	if (in_order(obj)) {
		for (i = 0; base_jv_next(obj, &it, &m.key, &m.value); i++)
			write_member(b, &m, i == 0);
		return;
	}
	sorted = reallocarray(NULL, count, sizeof(*sorted));
	if (!sorted) {
		b->failed = b->failed ? b->failed : -ENOMEM;
		return;
	}
	for (i = 0; base_jv_next(obj, &it, &sorted[i].key, &sorted[i].value); i++)
		continue;
	qsort(sorted, count, sizeof(*sorted), member_order);
	for (i = 0; i < count; i++)
		write_member(b, &sorted[i], i == 0);
	free(sorted);
}

void base_jv_write(struct base_jv v, struct base_buf *b)
{
	struct base_jv_iter it = {0};
	char text[JSON_REAL_MAX];
	struct base_jv child;

	switch (base_jv_kind(v)) {
	case BASE_JSON_NONE:
	case BASE_JSON_NULL:
		base_buf_cstr(b, "null");
		break;
	case BASE_JSON_BOOL:
		base_buf_cstr(b, base_jv_bool(v, false) ? "true" : "false");
		break;
	case BASE_JSON_INT:
		base_buf_i64(b, base_jv_int(v, 0));
		break;
	case BASE_JSON_REAL:
		base_buf_put(b, text, json_real_text(base_jv_real(v, 0), text));
		break;
	case BASE_JSON_STR:
		base_json_quote(b, base_jv_str(v));
		break;
	case BASE_JSON_ARR:
		base_buf_char(b, '[');
		while (base_jv_next(v, &it, NULL, &child)) {
			if (it.i > 1)
				base_buf_char(b, ',');
			base_jv_write(child, b);
		}
		base_buf_char(b, ']');
		break;
	case BASE_JSON_OBJ:
		base_buf_char(b, '{');
		write_object(v, b);
		base_buf_char(b, '}');
		break;
	}
}

/* A number that may have lost digits, or would be written as an integer outside of int64. */
static bool inexact(double v)
{
	return (v >= exact_max && v < plain_max) || (v <= -exact_max && v > -plain_max);
}

static int check_reals(struct base_jv v, bool *ret_huge, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_jv child;
	double real;

	if (base_jv_kind(v) == BASE_JSON_REAL) {
		real = base_jv_real(v, 0);
		if (inexact(real))
			return base_err_set(err, -ERANGE,
				"a number near %.17g is too large to be exact: send it as a string", real);
		*ret_huge |= real >= plain_max || real <= -plain_max;
	}
	while (base_jv_next(v, &it, NULL, &child)) {
		int r = check_reals(child, ret_huge, err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* An integer of 22 digits or more, which parsing has rounded: the text alone still shows it. */
static bool has_long_integer(struct base_str text)
{
	size_t i, start;

	for (i = 0; i < text.len; i++) {
		if (text.ptr[i] == '"') {
			for (i++; text.ptr[i] != '"'; i++)
				i += text.ptr[i] == '\\';
			continue;
		}
		if (text.ptr[i] < '0' || text.ptr[i] > '9')
			continue;
		for (start = i; i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9';)
			i++;
		if (i - start >= 22 && (i == text.len || !memchr(".eE", text.ptr[i], 3)))
			return true;
		while (i < text.len &&
			(memchr(".eE+-", text.ptr[i], 5) || (text.ptr[i] >= '0' && text.ptr[i] <= '9')))
			i++;
		i--;
	}
	return false;
}

int base_json_canon(struct base_str text, struct base_buf *ret, struct base_err *err)
{
	struct base_json *d;
	bool huge = false;
	int r;

	r = base_json_parse(text, &d, err);
	if (r < 0)
		return r;
	r = check_reals(base_json_root(d), &huge, err);
	if (r == 0 && huge && has_long_integer(text))
		r = base_err_set(err, -ERANGE, "an integer is too large to be exact: send it as a string");
	if (r == 0) {
		base_jv_write(base_json_root(d), ret);
		r = base_buf_failed(ret);
		if (r < 0)
			base_err_set(err, r, r == -EFBIG ? "the JSON is too large" : "out of memory");
	}
	base_json_free(d);
	return r;
}

/* The walk: `at` moves over the text; each step compares what stands there with what canonical form has
 * there. */
struct walk {
	const char *at;
	const char *end;
	const char *why;
};

static bool differs(struct walk *w, const char *why)
{
	w->why = why;
	return false;
}

static inline bool expect(struct walk *w, const char *what, size_t len)
{
	if ((size_t)(w->end - w->at) < len || memcmp(w->at, what, len) != 0)
		return false;
	w->at += len;
	return true;
}

static inline bool expect_char(struct walk *w, char c)
{
	if (w->at == w->end || *w->at != c)
		return differs(w, "white space or another form than the canonical one");
	w->at++;
	return true;
}

static bool same_string(struct walk *w, struct base_str s)
{
	static const char why[] = "an escape that canonical form does not have";

	if (!expect_char(w, '"'))
		return false;
	for (;;) {
		size_t n = json_plain(s);
		char esc[6];

		if (!expect(w, s.ptr, n))
			return differs(w, why);
		if (n == s.len)
			break;
		if (!expect(w, esc, json_escape(s.ptr[n], esc)))
			return differs(w, why);
		s = base_str_sub(s, n + 1, s.len);
	}
	return expect_char(w, '"');
}

static bool same(struct walk *w, struct base_jv v);

static bool same_object(struct walk *w, struct base_jv v)
{
	struct base_str key, last = BASE_STR_NONE;
	struct base_jv_iter it = {0};
	struct base_jv child;

	if (!expect_char(w, '{'))
		return false;
	for (; base_jv_next(v, &it, &key, &child); last = key) {
		if (it.i > 1 && json_key_cmp(last, key) >= 0)
			return differs(w, "keys that are not sorted");
		if ((it.i > 1 && !expect_char(w, ',')) || !same_string(w, key) || !expect_char(w, ':') ||
			!same(w, child))
			return false;
	}
	return expect_char(w, '}');
}

static bool same_array(struct walk *w, struct base_jv v)
{
	struct base_jv_iter it = {0};
	struct base_jv child;

	if (!expect_char(w, '['))
		return false;
	while (base_jv_next(v, &it, NULL, &child))
		if ((it.i > 1 && !expect_char(w, ',')) || !same(w, child))
			return false;
	return expect_char(w, ']');
}

static bool same_number(struct walk *w, struct base_jv v)
{
	char text[JSON_REAL_MAX];
	size_t len;

	if (base_jv_kind(v) == BASE_JSON_INT) {
		len = json_int_text(base_jv_int(v, 0), text);
	} else {
		double real = base_jv_real(v, 0);

		if (inexact(real))
			return differs(w, "a number that is too large to be exact");
		len = json_real_text(real, text);
	}
	return expect(w, text, len) || differs(w, "a number in another form than the shortest");
}

static bool same(struct walk *w, struct base_jv v)
{
	static const char why[] = "white space or another form than the canonical one";

	switch (base_jv_kind(v)) {
	case BASE_JSON_NONE:
		return differs(w, "no value");
	case BASE_JSON_NULL:
		return expect(w, "null", 4) || differs(w, why);
	case BASE_JSON_BOOL:
		return (base_jv_bool(v, false) ? expect(w, "true", 4) : expect(w, "false", 5)) ||
		       differs(w, why);
	case BASE_JSON_INT:
	case BASE_JSON_REAL:
		if (w->at < w->end && *w->at != '-' && (*w->at < '0' || *w->at > '9'))
			return differs(w, why);
		return same_number(w, v);
	case BASE_JSON_STR:
		return same_string(w, base_jv_str(v));
	case BASE_JSON_ARR:
		return same_array(w, v);
	case BASE_JSON_OBJ:
		return same_object(w, v);
	}
	return differs(w, "no value");
}

int base_json_is_canon(const struct base_json *d, struct base_str text, struct base_err *err)
{
	struct walk w = {.at = text.ptr, .end = text.ptr ? text.ptr + text.len : NULL, .why = ""};

	if (same(&w, base_json_root(d))) {
		if (w.at == w.end)
			return 0;
		w.why = "something behind the value";
	}
	return base_err_set(err, -EINVAL, "not canonical JSON (RFC 8785) at byte %zu: %s",
		(size_t)(w.at - text.ptr), w.why);
}
