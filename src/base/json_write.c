#include <errno.h>
#include <math.h>
#include <string.h>
#include <yyjson.h>

#include "base/check.h"
#include "base/json.h"
#include "base/json_int.h"

#define ONES (UINT64_MAX / 255)

/* True if one of eight bytes is below 0x20, a quote or a backslash. */
static bool special8(uint64_t v)
{
	uint64_t quote = v ^ ONES * '"', slash = v ^ ONES * '\\';
	uint64_t low = (v - ONES * 0x20) & ~v, q = (quote - ONES) & ~quote, s = (slash - ONES) & ~slash;

	return ((low | q | s) & ONES * 0x80) != 0;
}

static bool special(char c)
{
	return (unsigned char)c < 0x20 || c == '"' || c == '\\';
}

size_t json_plain(struct base_str s)
{
	size_t i = 0;

	for (; s.len - i >= 8; i += 8) {
		uint64_t v;

		memcpy(&v, s.ptr + i, 8);
		if (special8(v))
			break;
	}
	while (i < s.len && !special(s.ptr[i]))
		i++;
	return i;
}

size_t json_escape(char c, char ret[6])
{
	static const char hex[] = "0123456789abcdef", names[] = "btn?fr";

	ret[0] = '\\';
	if (c == '"' || c == '\\') {
		ret[1] = c;
		return 2;
	}
	if (c >= '\b' && c <= '\r' && c != '\v') {
		ret[1] = names[c - '\b'];
		return 2;
	}
	memcpy(ret + 1, "u00", 3);
	ret[4] = hex[(unsigned char)c >> 4];
	ret[5] = hex[c & 15];
	return 6;
}

/* What is not UTF-8 becomes U+FFFD, one for each byte. */
static void quote_repaired(struct base_buf *b, struct base_str s)
{
	while (s.len > 0) {
		size_t n = base_utf8_next(s);

		if (n == 0) {
			base_buf_put(b, "\xef\xbf\xbd", 3);
			n = 1;
		} else if (special(s.ptr[0])) {
			char esc[6];

			base_buf_put(b, esc, json_escape(s.ptr[0], esc));
		} else {
			base_buf_put(b, s.ptr, n);
		}
		s = base_str_sub(s, n, s.len);
	}
}

void base_json_quote(struct base_buf *b, struct base_str s)
{
	base_buf_char(b, '"');
	if (!base_utf8_valid(s)) {
		quote_repaired(b, s);
		s.len = 0;
	}
	while (s.len > 0) {
		size_t n = json_plain(s);
		char esc[6];

		base_buf_put(b, s.ptr, n);
		if (n == s.len)
			break;
		base_buf_put(b, esc, json_escape(s.ptr[n], esc));
		s = base_str_sub(s, n + 1, s.len);
	}
	base_buf_char(b, '"');
}

size_t json_int_text(int64_t v, char ret[20])
{
	uint64_t left = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + left % 10);
		left /= 10;
	} while (left);
	if (v < 0)
		digits[--at] = '-';
	memcpy(ret, digits + at, sizeof(digits) - at);
	return sizeof(digits) - at;
}

/* The shortest decimal digits of v (more than 0), and the exponent n of 0.DIGITS * 10^n. */
static size_t shortest(double v, char digits[JSON_REAL_MAX], int *ret_point)
{
	_Alignas(16) char pool[1024];
	char *text, *at;
	size_t len = 0, count = 0, lead = 0;
	int point = 0, exponent = 0;
	bool seen_point = false;
	yyjson_alc alc;
	yyjson_val num = {0};

	unsafe_yyjson_set_real(&num, v);
	yyjson_alc_pool_init(&alc, pool, sizeof(pool));
	text = yyjson_val_write_opts(&num, YYJSON_WRITE_NOFLAG, &alc, &len, NULL);
	BASE_CHECK(text && len < JSON_REAL_MAX);
	for (at = text; at < text + len && *at != 'e' && *at != 'E'; at++) {
		if (*at == '.') {
			seen_point = true;
			continue;
		}
		digits[count++] = *at;
		point += !seen_point;
	}
	if (at < text + len) {
		bool negative = at[1] == '-';

		for (at += 1 + (at[1] == '-' || at[1] == '+'); at < text + len; at++)
			exponent = exponent * 10 + (*at - '0');
		exponent = negative ? -exponent : exponent;
	}
	while (lead + 1 < count && digits[lead] == '0')
		lead++;
	count -= lead;
	memmove(digits, digits + lead, count);
	while (count > 1 && digits[count - 1] == '0')
		count--;
	*ret_point = point + exponent - (int)lead;
	return count;
}

size_t json_real_text(double v, char ret[JSON_REAL_MAX])
{
	char digits[JSON_REAL_MAX], *at = ret;
	size_t count;
	int n;

	if (v == 0) {
		ret[0] = '0';
		return 1;
	}
	if (v < 0)
		*at++ = '-';
	count = shortest(fabs(v), digits, &n);
	if (n > 21 || n < -5) {
		*at++ = digits[0];
		if (count > 1) {
			*at++ = '.';
			memcpy(at, digits + 1, count - 1);
			at += count - 1;
		}
		*at++ = 'e';
		if (n > 0)
			*at++ = '+';
		return (size_t)(at - ret) + json_int_text(n - 1, at);
	}
	if (n <= 0) {
		memcpy(at, "0.", 2);
		memset(at + 2, '0', (size_t)-n);
		memcpy(at + 2 - n, digits, count);
		return (size_t)(at - ret) + 2 + (size_t)-n + count;
	}
	if ((size_t)n >= count) {
		memcpy(at, digits, count);
		memset(at + count, '0', (size_t)n - count);
		return (size_t)(at - ret) + (size_t)n;
	}
	memcpy(at, digits, (size_t)n);
	at[n] = '.';
	memcpy(at + n + 1, digits + n, count - (size_t)n);
	return (size_t)(at - ret) + count + 1;
}

struct base_jw base_jw_of(struct base_buf *b)
{
	return (struct base_jw){.b = b};
}

static uint64_t *level(struct base_jw *w, uint64_t *ret_bit)
{
	*ret_bit = w->depth ? (uint64_t)1 << (w->depth - 1) : 0;
	return &w->comma;
}

static void separate(struct base_jw *w)
{
	uint64_t bit, *comma = level(w, &bit);

	if (*comma & bit)
		base_buf_char(w->b, ',');
	*comma |= bit;
}

static void begin(struct base_jw *w, char c)
{
	separate(w);
	BASE_CHECK(w->depth < BASE_JSON_DEPTH_MAX);
	base_buf_char(w->b, c);
	w->depth++;
	w->comma &= ~((uint64_t)1 << (w->depth - 1));
}

static void end(struct base_jw *w, char c)
{
	BASE_CHECK(w->depth > 0);
	w->depth--;
	base_buf_char(w->b, c);
}

void base_jw_obj(struct base_jw *w)
{
	begin(w, '{');
}

void base_jw_arr(struct base_jw *w)
{
	begin(w, '[');
}

void base_jw_end_obj(struct base_jw *w)
{
	end(w, '}');
}

void base_jw_end_arr(struct base_jw *w)
{
	end(w, ']');
}

void base_jw_key(struct base_jw *w, const char *key)
{
	base_jw_key_str(w, base_str_of(key));
}

void base_jw_key_str(struct base_jw *w, struct base_str key)
{
	uint64_t bit, *comma = level(w, &bit);

	separate(w);
	base_json_quote(w->b, key);
	base_buf_char(w->b, ':');
	*comma &= ~bit;
}

void base_jw_str(struct base_jw *w, struct base_str s)
{
	separate(w);
	base_json_quote(w->b, s);
}

void base_jw_cstr(struct base_jw *w, const char *s)
{
	base_jw_str(w, base_str_of(s));
}

void base_jw_value(struct base_jw *w, struct base_jv v)
{
	separate(w);
	base_jv_write(v, w->b);
}

void base_jw_int(struct base_jw *w, int64_t v)
{
	separate(w);
	base_buf_i64(w->b, v);
}

void base_jw_uint(struct base_jw *w, uint64_t v)
{
	separate(w);
	base_buf_u64(w->b, v);
}

void base_jw_real(struct base_jw *w, double v)
{
	char text[JSON_REAL_MAX];

	if (!isfinite(v)) {
		base_jw_null(w);
		return;
	}
	separate(w);
	base_buf_put(w->b, text, json_real_text(v, text));
}

void base_jw_bool(struct base_jw *w, bool v)
{
	separate(w);
	base_buf_cstr(w->b, v ? "true" : "false");
}

void base_jw_null(struct base_jw *w)
{
	separate(w);
	base_buf_cstr(w->b, "null");
}

void base_jw_raw(struct base_jw *w, struct base_str json)
{
	separate(w);
	base_buf_str(w->b, json.len ? json : BASE_STR("null"));
}

void base_jw_mstr(struct base_jw *w, const char *key, struct base_str s)
{
	base_jw_key(w, key);
	base_jw_str(w, s);
}

void base_jw_mcstr(struct base_jw *w, const char *key, const char *s)
{
	base_jw_key(w, key);
	base_jw_cstr(w, s);
}

void base_jw_mint(struct base_jw *w, const char *key, int64_t v)
{
	base_jw_key(w, key);
	base_jw_int(w, v);
}

void base_jw_mbool(struct base_jw *w, const char *key, bool v)
{
	base_jw_key(w, key);
	base_jw_bool(w, v);
}

void base_jw_mraw(struct base_jw *w, const char *key, struct base_str json)
{
	base_jw_key(w, key);
	base_jw_raw(w, json);
}

void base_jw_mhash(struct base_jw *w, const char *key, const struct base_hash *h)
{
	char hex[65];

	base_hash_hex(h, hex);
	base_jw_mcstr(w, key, hex);
}
