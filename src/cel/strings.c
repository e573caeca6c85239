#include <string.h>

#include "cel/cel_int.h"

/* Functions on strings. Places in a string count code points. */

#define ARGS struct cel_run *run, const struct cel_value *args, unsigned count

static bool starts_char(char c)
{
	return ((unsigned char)c & 0xc0) != 0x80;
}

/* The byte at which code point `index` starts, the length for the one behind the last; false: there is none. */
static bool offset_of(struct base_str s, int64_t index, size_t *ret)
{
	size_t i;

	if (index < 0)
		return false;
	for (i = 0; i < s.len && index > 0;) {
		for (i++; i < s.len && !starts_char(s.ptr[i]);)
			i++;
		index--;
	}
	*ret = i;
	return index == 0;
}

static int64_t characters(struct base_str s)
{
	int64_t n = 0;
	size_t i;

	for (i = 0; i < s.len; i++)
		n += starts_char(s.ptr[i]);
	return n;
}

static struct cel_value out_of_range(void)
{
	return cel_error("index out of range");
}

static bool pays(struct cel_run *run, struct base_str s)
{
	return cel_pay(run, s.len / 16);
}

static struct cel_value char_at(ARGS)
{
	struct base_str s = args[0].as.s;
	size_t at;

	(void)count;
	if (!pays(run, s))
		return cel_null();
	if (!offset_of(s, args[1].as.i, &at))
		return out_of_range();
	s = base_str_sub(s, at, s.len);
	return cel_string(base_str_sub(s, 0, base_utf8_next(s)));
}

static struct cel_value index_of(ARGS)
{
	struct base_str s = args[0].as.s, what = args[1].as.s;
	size_t from = 0;
	const char *at;

	if (!pays(run, s))
		return cel_null();
	if (count == 3 && !offset_of(s, args[2].as.i, &from))
		return out_of_range();
	if (what.len == 0)
		return count == 3 ? args[2] : cel_int(0);
	at = s.len > from ? memmem(s.ptr + from, s.len - from, what.ptr, what.len) : NULL;
	return cel_int(at ? characters(base_str_sub(s, 0, (size_t)(at - s.ptr))) : -1);
}

/* At or before the byte `from`. */
static struct cel_value last_before(struct cel_run *run, struct base_str s, struct base_str what, size_t from)
{
	size_t i;

	if (what.len > s.len)
		return cel_int(-1);
	if (from > s.len - what.len)
		from = s.len - what.len;
	for (i = from + 1; i-- > 0;) {
		if (i % 64 == 0 && !cel_pay(run, 1 + what.len / 16))
			return cel_null();
		if (what.len == 0 || memcmp(s.ptr + i, what.ptr, what.len) == 0)
			return cel_int(characters(base_str_sub(s, 0, i)));
	}
	return cel_int(-1);
}

static struct cel_value last_index_of(ARGS)
{
	struct base_str s = args[0].as.s;
	size_t from = s.len;

	if (!pays(run, s))
		return cel_null();
	if (count == 3 && !offset_of(s, args[2].as.i, &from))
		return out_of_range();
	return last_before(run, s, args[1].as.s, from);
}

static struct cel_value cased(struct cel_run *run, struct base_str s, char low, char high)
{
	char *to = cel_string_room(run, s.len);
	size_t i;

	if (!to)
		return cel_null();
	for (i = 0; i < s.len; i++)
		to[i] = (char)(s.ptr[i] >= low && s.ptr[i] <= high ? s.ptr[i] ^ 0x20 : s.ptr[i]);
	return cel_string((struct base_str){to, s.len});
}

static struct cel_value lower_ascii(ARGS)
{
	(void)count;
	return cased(run, args[0].as.s, 'A', 'Z');
}

static struct cel_value upper_ascii(ARGS)
{
	(void)count;
	return cased(run, args[0].as.s, 'a', 'z');
}

static struct cel_value replace(ARGS)
{
	struct base_str s = args[0].as.s, old = args[1].as.s;
	int64_t left = count == 4 ? args[3].as.i : -1;
	struct cel_text t = {.run = run};
	size_t i = 0;

	if (!pays(run, s))
		return cel_null();
	for (; left != 0 && !t.failed; left -= left > 0) {
		const char *at = i <= s.len && s.len ? memmem(s.ptr + i, s.len - i, old.ptr, old.len) : NULL;

		if (old.len == 0) { /* in front of each character, and behind the last */
			cel_text_str(&t, args[2].as.s);
			if (i >= s.len)
				return cel_text_done(&t);
			at = s.ptr + i;
			i += base_utf8_next(base_str_sub(s, i, s.len));
			cel_text_put(&t, at, (size_t)(s.ptr + i - at));
		} else if (at) {
			cel_text_put(&t, s.ptr + i, (size_t)(at - s.ptr) - i);
			cel_text_str(&t, args[2].as.s);
			i = (size_t)(at - s.ptr) + old.len;
		} else {
			break;
		}
		if (!cel_pay(run, 1))
			return cel_null();
	}
	cel_text_str(&t, base_str_sub(s, i, s.len));
	return cel_text_done(&t);
}

/* How many parts there are, and, where items is not NULL, the parts. */
static size_t parts(struct base_str s, struct base_str by, int64_t limit, struct cel_value *items)
{
	size_t n = 0;

	while (limit < 0 || (int64_t)n + 1 < limit) {
		size_t cut = 0, next = 0;
		const char *at;

		if (by.len == 0) {
			cut = next = base_utf8_next(s);
			if (cut == s.len)
				break;
		} else {
			at = s.len ? memmem(s.ptr, s.len, by.ptr, by.len) : NULL;
			if (!at)
				break;
			cut = (size_t)(at - s.ptr);
			next = cut + by.len;
		}
		if (items)
			items[n] = cel_string(base_str_sub(s, 0, cut));
		n++;
		s = base_str_sub(s, next, s.len);
	}
	if (by.len == 0 && s.len == 0)
		return n;
	if (items)
		items[n] = cel_string(s);
	return n + 1;
}

static struct cel_value split(ARGS)
{
	int64_t limit = count == 3 ? args[2].as.i : -1;
	struct base_str s = args[0].as.s;
	struct cel_value *items;
	size_t n = 0;

	if (!pays(run, s))
		return cel_null();
	if (limit != 0)
		n = parts(s, args[1].as.s, limit, NULL);
	if (n > run->list_max)
		return cel_stop(run, "a list or map is too large");
	items = cel_items_room(run, n);
	if (!items)
		return cel_null();
	if (n)
		parts(s, args[1].as.s, limit, items);
	return cel_made(run, CEL_LIST, items, n);
}

static struct cel_value substring(ARGS)
{
	struct base_str s = args[0].as.s;
	size_t from, to = s.len;

	if (!pays(run, s))
		return cel_null();
	if (!offset_of(s, args[1].as.i, &from) || (count == 3 && !offset_of(s, args[2].as.i, &to)))
		return out_of_range();
	if (from > to)
		return cel_error("the substring ends before it starts");
	return cel_string(base_str_sub(s, from, to - from));
}

static uint32_t decode(const char *at, size_t len)
{
	const unsigned char *u = (const unsigned char *)at;
	uint32_t c = len == 1 ? u[0] : u[0] & (0x7fu >> len);
	size_t i;

	for (i = 1; i < len; i++)
		c = c << 6 | (u[i] & 0x3f);
	return c;
}

/* White_Space of Unicode. */
static bool is_space(uint32_t c)
{
	return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
	       c == 0x3000;
}

static struct cel_value trim(ARGS)
{
	struct base_str s = args[0].as.s;

	(void)count;
	if (!pays(run, s))
		return cel_null();
	while (s.len) {
		size_t n = base_utf8_next(s);

		if (!is_space(decode(s.ptr, n)))
			break;
		s = base_str_sub(s, n, s.len);
	}
	while (s.len) {
		size_t n = s.len - 1;

		while (n > 0 && !starts_char(s.ptr[n]))
			n--;
		if (!is_space(decode(s.ptr + n, s.len - n)))
			break;
		s.len = n;
	}
	return cel_string(s);
}

static struct cel_value join(ARGS)
{
	struct cel_iter it = cel_iter_of(args[0]);
	struct cel_text t = {.run = run};
	struct cel_value key, v;

	while (cel_next(args[0], &it, &key, &v) && cel_pay(run, 1)) {
		if (v.kind != CEL_STRING)
			return cel_error("join wants a list of strings");
		if (it.i > 1 && count == 2)
			cel_text_str(&t, args[1].as.s);
		cel_text_str(&t, v.as.s);
	}
	return cel_text_done(&t);
}

static struct cel_value reverse(ARGS)
{
	struct base_str s = args[0].as.s;
	char *to = cel_string_room(run, s.len);
	size_t i = 0, n;

	(void)count;
	if (!to)
		return cel_null();
	for (; i < s.len; i += n) {
		n = base_utf8_next(base_str_sub(s, i, s.len));
		memcpy(to + s.len - i - n, s.ptr + i, n);
	}
	return cel_string((struct base_str){to, s.len});
}

const struct cel_overload cel_string_functions[] = {
	{"charAt", "si", 's', CEL_MEMBER, char_at},
	{"indexOf", "ss", 'i', CEL_MEMBER, index_of},
	{"indexOf", "ssi", 'i', CEL_MEMBER, index_of},
	{"lastIndexOf", "ss", 'i', CEL_MEMBER, last_index_of},
	{"lastIndexOf", "ssi", 'i', CEL_MEMBER, last_index_of},
	{"lowerAscii", "s", 's', CEL_MEMBER, lower_ascii},
	{"upperAscii", "s", 's', CEL_MEMBER, upper_ascii},
	{"replace", "sss", 's', CEL_MEMBER, replace},
	{"replace", "sssi", 's', CEL_MEMBER, replace},
	{"split", "ss", 'l', CEL_MEMBER, split},
	{"split", "ssi", 'l', CEL_MEMBER, split},
	{"substring", "si", 's', CEL_MEMBER, substring},
	{"substring", "sii", 's', CEL_MEMBER, substring},
	{"trim", "s", 's', CEL_MEMBER, trim},
	{"join", "l", 's', CEL_MEMBER, join},
	{"join", "ls", 's', CEL_MEMBER, join},
	{"format", "sl", 's', CEL_MEMBER, cel_format},
	{"strings.quote", "s", 's', CEL_GLOBAL, cel_quote},
	{"reverse", "s", 's', CEL_MEMBER, reverse},
	{"reverse", "l", 'l', CEL_MEMBER, cel_reverse_list},
	{NULL, NULL, 0, 0, NULL},
};
