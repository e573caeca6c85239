#include "base/str.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

struct base_str base_str_of(const char *cstr)
{
	return (struct base_str){cstr, cstr ? strlen(cstr) : 0};
}

struct base_str base_str_sub(struct base_str s, size_t from, size_t len)
{
	if (from >= s.len)
		return (struct base_str){s.ptr ? s.ptr + s.len : NULL, 0};
	if (len > s.len - from)
		len = s.len - from;
	return (struct base_str){s.ptr + from, len};
}

bool base_str_eq(struct base_str a, struct base_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool base_str_is(struct base_str a, const char *cstr)
{
	return base_str_eq(a, base_str_of(cstr));
}

int base_str_cmp(struct base_str a, struct base_str b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int order = n ? memcmp(a.ptr, b.ptr, n) : 0;

	if (order != 0)
		return order;
	return (a.len > b.len) - (a.len < b.len);
}

bool base_str_starts(struct base_str s, struct base_str prefix)
{
	return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

bool base_str_ends(struct base_str s, struct base_str suffix)
{
	return s.len >= suffix.len &&
	       (suffix.len == 0 || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}

ptrdiff_t base_str_find(struct base_str s, char c)
{
	const char *at = s.len ? memchr(s.ptr, c, s.len) : NULL;

	return at ? at - s.ptr : -1;
}

bool base_str_cut(struct base_str s, char c, struct base_str *ret_head, struct base_str *ret_tail)
{
	ptrdiff_t at = base_str_find(s, c);

	if (at < 0) {
		*ret_head = s;
		*ret_tail = BASE_STR_NONE;
		return false;
	}
	*ret_head = (struct base_str){s.ptr, (size_t)at};
	*ret_tail = (struct base_str){s.ptr + at + 1, s.len - (size_t)at - 1};
	return true;
}

bool base_str_matches(struct base_str pattern, struct base_str name)
{
	if (pattern.len > 0 && pattern.ptr[pattern.len - 1] == '*')
		return base_str_starts(name, (struct base_str){pattern.ptr, pattern.len - 1});
	return base_str_eq(pattern, name);
}

int base_str_u64(struct base_str s, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i;

	if (s.len == 0 || (s.len > 1 && s.ptr[0] == '0'))
		return -EINVAL;
	for (i = 0; i < s.len; i++)
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return -EINVAL;
	for (i = 0; i < s.len; i++)
		if (__builtin_mul_overflow(v, 10u, &v) ||
			__builtin_add_overflow(v, (uint64_t)(s.ptr[i] - '0'), &v))
			return -ERANGE;
	*ret = v;
	return 0;
}

int base_str_i64(struct base_str s, int64_t *ret)
{
	bool negative = s.len > 0 && s.ptr[0] == '-';
	uint64_t v;
	int r;

	if (negative)
		s = base_str_sub(s, 1, s.len);
	r = base_str_u64(s, &v);
	if (r < 0)
		return r;
	if (negative && v == 0)
		return -EINVAL;
	if (v > (uint64_t)INT64_MAX + negative)
		return -ERANGE;
	*ret = negative ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}

/* Length of the well-formed sequence that starts at p, or 0 (Unicode 15, table 3-7). */
static size_t sequence(const unsigned char *p, size_t left)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t len, i;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (left < len)
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

size_t base_utf8_next(struct base_str s)
{
	return s.len ? sequence((const unsigned char *)s.ptr, s.len) : 0;
}

bool base_utf8_valid(struct base_str s)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	size_t i = 0;

	while (i < s.len) {
		uint64_t eight;
		size_t n;

		if (s.len - i >= 8) {
			memcpy(&eight, p + i, 8);
			if ((eight & 0x8080808080808080u) == 0) {
				i += 8;
				continue;
			}
		}
		n = sequence(p + i, s.len - i);
		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

size_t base_utf8_put(char *to, uint32_t c)
{
	if (c < 0x80) {
		to[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		to[0] = (char)(0xc0 | c >> 6);
		to[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		to[0] = (char)(0xe0 | c >> 12);
		to[1] = (char)(0x80 | (c >> 6 & 0x3f));
		to[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	to[0] = (char)(0xf0 | c >> 18);
	to[1] = (char)(0x80 | (c >> 12 & 0x3f));
	to[2] = (char)(0x80 | (c >> 6 & 0x3f));
	to[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}
