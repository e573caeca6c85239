#include <string.h>

#include "cel/cel_int.h"

/* Functions on lists, sets (lists without order) and encodings. */

#define ARGS struct cel_run *run, const struct cel_value *args, unsigned count

/* The elements as an array; NULL: the evaluation has ended. */
static struct cel_value *array_of(struct cel_run *run, struct cel_value list, size_t *ret_count)
{
	struct cel_iter it = cel_iter_of(list);
	struct cel_value *items = cel_items_room(run, it.count), key;

	*ret_count = it.count;
	if (!items)
		return NULL;
	while (cel_next(list, &it, &key, &items[it.i]))
		;
	return items;
}

struct cel_value cel_reverse_list(ARGS)
{
	size_t n, i;
	struct cel_value *items = array_of(run, args[0], &n), v;

	(void)count;
	if (!items)
		return cel_null();
	for (i = 0; i < n / 2; i++) {
		v = items[i];
		items[i] = items[n - 1 - i];
		items[n - 1 - i] = v;
	}
	return cel_made(run, CEL_LIST, items, n);
}

static bool among(struct cel_run *run, struct cel_value v, const struct cel_value *items, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (!cel_pay(run, 1) || cel_equal(run, items[i], v))
			return true;
	return false;
}

static struct cel_value distinct(ARGS)
{
	size_t n, i, kept = 0;
	struct cel_value *items = array_of(run, args[0], &n);

	(void)count;
	if (!items)
		return cel_null();
	for (i = 0; i < n; i++)
		if (!among(run, items[i], items, kept))
			items[kept++] = items[i];
	return cel_made(run, CEL_LIST, items, kept);
}

/* How many elements there are `depth` levels down; with `to`, them as well. */
static size_t flat(struct cel_run *run, struct cel_value list, int64_t depth, struct cel_value *to)
{
	struct cel_iter it = cel_iter_of(list);
	struct cel_value key, v;
	size_t n = 0;

	while (cel_next(list, &it, &key, &v) && cel_pay(run, 1)) {
		if (v.kind == CEL_LIST && depth > 0)
			n += flat(run, v, depth - 1, to ? to + n : NULL);
		else if (to)
			to[n++] = v;
		else
			n++;
	}
	return n;
}

static struct cel_value flatten(ARGS)
{
	int64_t depth = count == 2 ? args[1].as.i : 1;
	struct cel_value *items;
	size_t n;

	if (depth < 0)
		return cel_error("a depth below zero");
	n = flat(run, args[0], depth, NULL);
	items = run->stopped ? NULL : cel_items_room(run, n);
	if (!items)
		return cel_null();
	return cel_made(run, CEL_LIST, items, flat(run, args[0], depth, items));
}

static struct cel_value range(ARGS)
{
	int64_t n = args[0].as.i, i;
	struct cel_value *items;

	(void)count;
	if (n < 0)
		return cel_error("a range of less than nothing");
	if ((uint64_t)n > run->list_max)
		return cel_stop(run, "a list or map is too large");
	items = cel_items_room(run, (size_t)n);
	if (!items)
		return cel_null();
	for (i = 0; i < n; i++)
		items[i] = cel_int(i);
	return cel_made(run, CEL_LIST, items, (size_t)n);
}

static struct cel_value slice(ARGS)
{
	int64_t from = args[1].as.i, to = args[2].as.i;
	size_t n;
	struct cel_value *items;

	(void)count;
	if (from < 0 || to < from || (uint64_t)to > cel_count(args[0]))
		return cel_error("slice: the bounds are not those of a part of the list");
	items = array_of(run, args[0], &n);
	return items ? cel_made(run, CEL_LIST, items + from, (size_t)(to - from)) : cel_null();
}

static struct cel_value sort(ARGS)
{
	size_t n, i;
	struct cel_value *items = array_of(run, args[0], &n), *keys = array_of(run, args[0], &n);

	(void)count;
	if (!items || !keys)
		return cel_null();
	for (i = 1; i < n; i++)
		if (items[i].kind != items[0].kind)
			return cel_error("what is sorted must be of one type");
	if (!cel_sort(run, keys, items, n))
		return cel_error("what is sorted has no order");
	return cel_made(run, CEL_LIST, items, n);
}

static struct cel_value first(ARGS)
{
	(void)count;
	return cel_count(args[0]) ? cel_optional_of(run, cel_at(args[0], 0)) : cel_optional_none();
}

static struct cel_value last(ARGS)
{
	size_t n = cel_count(args[0]);

	(void)count;
	if (n == 0)
		return cel_optional_none();
	return cel_pay(run, n / 16) ? cel_optional_of(run, cel_at(args[0], n - 1)) : cel_null();
}

/* --- sets --- */

/* True if `list` holds all (any: one) of what `of` holds. */
static bool holds(struct cel_run *run, struct cel_value list, struct cel_value of, bool any)
{
	struct cel_iter it = cel_iter_of(of);
	size_t n;
	struct cel_value *items = array_of(run, list, &n), key, v;

	while (items && cel_next(of, &it, &key, &v))
		if (among(run, v, items, n) == any)
			return any;
	return !any;
}

static struct cel_value set_contains(ARGS)
{
	(void)count;
	return cel_bool(holds(run, args[0], args[1], false));
}

static struct cel_value set_equivalent(ARGS)
{
	(void)count;
	return cel_bool(holds(run, args[0], args[1], false) && holds(run, args[1], args[0], false));
}

static struct cel_value set_intersects(ARGS)
{
	(void)count;
	return cel_bool(holds(run, args[0], args[1], true));
}

/* --- base64 --- */

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static struct cel_value encode(ARGS)
{
	struct base_str s = args[0].as.s;
	char *to = s.len > run->string_max ? NULL : cel_string_room(run, (s.len + 2) / 3 * 4);
	size_t i, n = 0;

	(void)count;
	if (!to)
		return cel_stop(run, "a string is too long");
	for (i = 0; i < s.len; i += 3) {
		size_t left = s.len - i;
		uint32_t v = (uint32_t)(unsigned char)s.ptr[i] << 16;

		v |= left > 1 ? (uint32_t)(unsigned char)s.ptr[i + 1] << 8 : 0;
		v |= left > 2 ? (unsigned char)s.ptr[i + 2] : 0;
		to[n++] = letters[v >> 18];
		to[n++] = letters[v >> 12 & 63];
		to[n++] = (char)(left > 1 ? letters[v >> 6 & 63] : '=');
		to[n++] = (char)(left > 2 ? letters[v & 63] : '=');
	}
	return cel_string((struct base_str){to, n});
}

/* Padding may be left out, but not be too little. */
static struct cel_value decode(ARGS)
{
	struct base_str s = args[0].as.s;
	size_t padding = 0, i, n = 0, bits = 0;
	uint32_t v = 0;
	char *to;

	(void)count;
	while (padding < 2 && s.len && s.ptr[s.len - 1] == '=') {
		padding++;
		s.len--;
	}
	if ((padding && (s.len + padding) % 4 != 0) || s.len % 4 == 1)
		return cel_error("not base64");
	to = cel_string_room(run, s.len);
	if (!to)
		return cel_null();
	for (i = 0; i < s.len; i++) {
		const char *at = s.ptr[i] ? strchr(letters, s.ptr[i]) : NULL;

		if (!at)
			return cel_error("not base64");
		v = v << 6 | (uint32_t)(at - letters);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			to[n++] = (char)(v >> bits);
			v &= (1u << bits) - 1;
		}
	}
	return v ? cel_error("not base64") : cel_bytes((struct base_str){to, n});
}

const struct cel_overload cel_list_functions[] = {
	{"distinct", "l", 'l', CEL_MEMBER, distinct},
	{"flatten", "l", 'l', CEL_MEMBER, flatten},
	{"flatten", "li", 'l', CEL_MEMBER, flatten},
	{"lists.range", "i", 'l', CEL_GLOBAL, range},
	{"slice", "lii", 'l', CEL_MEMBER, slice},
	{"sort", "l", 'l', CEL_MEMBER, sort},
	{"first", "l", 'o', CEL_MEMBER, first},
	{"last", "l", 'o', CEL_MEMBER, last},
	{"sets.contains", "ll", 'b', CEL_GLOBAL, set_contains},
	{"sets.equivalent", "ll", 'b', CEL_GLOBAL, set_equivalent},
	{"sets.intersects", "ll", 'b', CEL_GLOBAL, set_intersects},
	{"base64.encode", "y", 's', CEL_GLOBAL, encode},
	{"base64.decode", "s", 'y', CEL_GLOBAL, decode},
	{NULL, NULL, 0, 0, NULL},
};
