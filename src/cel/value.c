#include <math.h>
#include <string.h>

#include "base/check.h"
#include "cel/cel_int.h"

struct cel_value cel_bool(bool b)
{
	return (struct cel_value){.kind = CEL_BOOL, .as.b = b};
}

struct cel_value cel_int(int64_t i)
{
	return (struct cel_value){.kind = CEL_INT, .as.i = i};
}

struct cel_value cel_uint(uint64_t u)
{
	return (struct cel_value){.kind = CEL_UINT, .as.u = u};
}

struct cel_value cel_double(double d)
{
	return (struct cel_value){.kind = CEL_DOUBLE, .as.d = d};
}

struct cel_value cel_string(struct base_str s)
{
	return (struct cel_value){.kind = CEL_STRING, .as.s = s};
}

struct cel_value cel_bytes(struct base_str s)
{
	return (struct cel_value){.kind = CEL_BYTES, .as.s = s};
}

struct cel_value cel_null(void)
{
	return (struct cel_value){.kind = CEL_NULL};
}

struct cel_value cel_error(const char *text)
{
	return (struct cel_value){.kind = CEL_ERROR, .as.s = base_str_of(text)};
}

struct cel_value cel_lazy(struct cel_lazy *lazy)
{
	return (struct cel_value){.kind = CEL_LAZY, .as.lazy = lazy};
}

struct cel_value cel_timestamp(int64_t s, int32_t ns)
{
	static const int64_t first = -62135596800, last = 253402300799; /* 0001-01-01, 9999-12-31T23:59:59 */

	if (s < first || s > last || ns < 0 || ns > 999999999)
		return cel_error("out of the range of timestamp: years 1 to 9999");
	return (struct cel_value){.kind = CEL_TIMESTAMP, .as.time = {s, ns}};
}

struct cel_value cel_duration(int64_t ns)
{
	return (struct cel_value){.kind = CEL_DURATION, .as.i = ns};
}

struct cel_value cel_no_overload(void)
{
	return cel_error("no such overload: the operands have the wrong types");
}

struct cel_value cel_named_error(struct cel_run *run, const char *what, struct base_str name)
{
	struct base_str parts[] = {base_str_of(what), BASE_STR(": "), base_str_sub(name, 0, 100)}, text;

	while (parts[2].len < name.len && parts[2].len &&
		((unsigned char)name.ptr[parts[2].len] & 0xc0) == 0x80)
		parts[2].len--; /* no half of a character */
	text = base_arena_join(run->arena, parts, 3);
	return text.ptr ? (struct cel_value){.kind = CEL_ERROR, .as.s = text} : cel_error(what);
}

/* --- what runs out --- */

struct cel_value cel_stop(struct cel_run *run, const char *text)
{
	if (!run->stopped)
		run->stopped = text;
	run->steps = 0;
	return cel_error(run->stopped);
}

bool cel_pay(struct cel_run *run, uint64_t cost)
{
	if (run->steps <= cost) {
		cel_stop(run, "took too many steps");
		return false;
	}
	run->steps -= cost;
	return true;
}

char *cel_string_room(struct cel_run *run, size_t len)
{
	char *to;

	if (len > run->string_max) {
		cel_stop(run, "a string is too long");
		return NULL;
	}
	if (!cel_pay(run, len / CEL_BYTES_A_STEP))
		return NULL;
	to = base_arena_alloc(run->arena, len + 1);
	if (!to)
		cel_stop(run, "out of memory");
	return to;
}

struct cel_value *cel_items_room(struct cel_run *run, size_t count)
{
	struct cel_value *to;

	if (count / 2 > run->list_max) { /* of a map: two for a member */
		cel_stop(run, "a list or map is too large");
		return NULL;
	}
	if (!cel_pay(run, count / 4))
		return NULL;
	to = base_arena_array(run->arena, count + 1, sizeof(*to));
	if (!to)
		cel_stop(run, "out of memory");
	return to;
}

struct cel_value cel_made(
	struct cel_run *run, enum cel_kind kind, const struct cel_value *items, size_t count)
{
	struct cel_items *box;

	if (count > run->list_max)
		return cel_stop(run, "a list or map is too large");
	box = base_arena_alloc(run->arena, sizeof(*box));
	if (!box)
		return cel_stop(run, "out of memory");
	*box = (struct cel_items){.count = count, .items = items};
	return (struct cel_value){.kind = kind, .as.ref = box};
}

struct cel_value cel_copied(struct cel_run *run, enum cel_kind kind, struct base_str s)
{
	char *to = cel_string_room(run, s.len);

	if (!to)
		return cel_error(run->stopped);
	if (s.len)
		memcpy(to, s.ptr, s.len);
	return (struct cel_value){.kind = kind, .as.s = {to, s.len}};
}

/* --- lists and maps --- */

static struct cel_value boxed(
	enum cel_kind kind, const struct cel_value *items, size_t count, struct base_arena *arena)
{
	struct cel_items *box = base_arena_alloc(arena, sizeof(*box));

	if (!box)
		return cel_error("out of memory");
	*box = (struct cel_items){.count = count, .items = items};
	return (struct cel_value){.kind = kind, .as.ref = box};
}

struct cel_value cel_list(const struct cel_value *items, size_t count, struct base_arena *arena)
{
	return boxed(CEL_LIST, items, count, arena);
}

struct cel_value cel_map(const struct cel_value *pairs, size_t count, struct base_arena *arena)
{
	return boxed(CEL_MAP, pairs, count, arena);
}

struct cel_value cel_json(struct base_jv v)
{
	switch (base_jv_kind(v)) {
	case BASE_JSON_BOOL:
		return cel_bool(base_jv_bool(v, false));
	case BASE_JSON_INT:
		return cel_int(base_jv_int(v, 0));
	case BASE_JSON_REAL:
		return cel_double(base_jv_real(v, 0));
	case BASE_JSON_STR:
		return cel_string(base_jv_str(v));
	case BASE_JSON_ARR:
		return (struct cel_value){.kind = CEL_LIST, .tag = CEL_TAG_JSON, .as.ref = v.v};
	case BASE_JSON_OBJ:
		return (struct cel_value){.kind = CEL_MAP, .tag = CEL_TAG_JSON, .as.ref = v.v};
	default:
		return cel_null();
	}
}

static struct base_jv json_of(struct cel_value v)
{
	return (struct base_jv){v.as.ref};
}

size_t cel_count(struct cel_value v)
{
	return v.tag == CEL_TAG_JSON ? base_jv_len(json_of(v)) : cel_items(v)->count;
}

struct cel_value cel_at(struct cel_value list, size_t i)
{
	return list.tag == CEL_TAG_JSON ? cel_json(base_jv_at(json_of(list), i)) : cel_items(list)->items[i];
}

struct cel_iter cel_iter_of(struct cel_value v)
{
	return (struct cel_iter){.count = cel_count(v)};
}

bool cel_next(struct cel_value v, struct cel_iter *it, struct cel_value *ret_key, struct cel_value *ret)
{
	bool map = v.kind == CEL_MAP;
	struct base_str key;
	struct base_jv j;

	if (it->i >= it->count)
		return false;
	if (v.tag == CEL_TAG_JSON) {
		base_jv_next(json_of(v), &it->json, &key, &j);
		*ret_key = map ? cel_string(key) : cel_int((int64_t)it->i);
		*ret = cel_json(j);
	} else {
		const struct cel_value *items = cel_items(v)->items;

		*ret_key = map ? items[2 * it->i] : cel_int((int64_t)it->i);
		*ret = map ? items[2 * it->i + 1] : items[it->i];
	}
	it->i++;
	return true;
}

/* --- optionals and types --- */

struct cel_value cel_optional_none(void)
{
	return (struct cel_value){.kind = CEL_OPTIONAL};
}

struct cel_value cel_optional_of(struct cel_run *run, struct cel_value v)
{
	struct cel_value *held;

	if (v.kind == CEL_ERROR)
		return v;
	held = base_arena_alloc(run->arena, sizeof(*held));
	if (!held)
		return cel_stop(run, "out of memory");
	*held = v;
	return (struct cel_value){.kind = CEL_OPTIONAL, .as.ref = held};
}

const struct cel_value *cel_optional_get(struct cel_value v)
{
	return v.as.ref;
}

static const struct {
	const char *name;
	char letter;
} kinds[] = {
	[CEL_NULL] = {"null_type", 'n'},
	[CEL_BOOL] = {"bool", 'b'},
	[CEL_INT] = {"int", 'i'},
	[CEL_UINT] = {"uint", 'u'},
	[CEL_DOUBLE] = {"double", 'f'},
	[CEL_STRING] = {"string", 's'},
	[CEL_LIST] = {"list", 'l'},
	[CEL_MAP] = {"map", 'm'},
	[CEL_ERROR] = {"error", 'e'},
	[CEL_BYTES] = {"bytes", 'y'},
	[CEL_TYPE] = {"type", 'k'},
	[CEL_TIMESTAMP] = {"google.protobuf.Timestamp", 't'},
	[CEL_DURATION] = {"google.protobuf.Duration", 'r'},
	[CEL_OPTIONAL] = {"optional_type", 'o'},
	[CEL_LAZY] = {"dyn", 'd'},
	[CEL_DYN] = {"dyn", 'd'},
};

const char *cel_kind_name(enum cel_kind kind)
{
	BASE_CHECK((size_t)kind < sizeof(kinds) / sizeof(kinds[0]));
	return kinds[kind].name;
}

char cel_letter(enum cel_kind kind)
{
	return kinds[kind].letter;
}

struct cel_value cel_type_value(enum cel_kind kind)
{
	return (struct cel_value){.kind = CEL_TYPE, .as.s = base_str_of(cel_kind_name(kind))};
}

/* --- equality and order --- */

bool cel_is_number(struct cel_value v)
{
	return v.kind == CEL_INT || v.kind == CEL_UINT || v.kind == CEL_DOUBLE;
}

bool cel_is_key(struct cel_value v)
{
	return v.kind == CEL_BOOL || v.kind == CEL_INT || v.kind == CEL_UINT || v.kind == CEL_STRING;
}

static int order_double(double a, double b)
{
	return (a > b) - (a < b);
}

static int order_int(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

/* Beside a double everything is one, as the language has it: above 2^53 that rounds. */
static int order_mixed(struct cel_value whole, double d)
{
	return order_double(whole.kind == CEL_INT ? (double)whole.as.i : (double)whole.as.u, d);
}

static int order_number(struct cel_value a, struct cel_value b)
{
	if (a.kind == CEL_DOUBLE && b.kind == CEL_DOUBLE)
		return order_double(a.as.d, b.as.d);
	if (a.kind == CEL_DOUBLE)
		return -order_mixed(b, a.as.d);
	if (b.kind == CEL_DOUBLE)
		return order_mixed(a, b.as.d);
	if (a.kind == CEL_INT && b.kind == CEL_INT)
		return order_int(a.as.i, b.as.i);
	if (a.kind == CEL_INT && a.as.i < 0)
		return -1;
	if (b.kind == CEL_INT && b.as.i < 0)
		return 1;
	return (a.as.u > b.as.u) - (a.as.u < b.as.u);
}

static bool is_nan(struct cel_value v)
{
	return v.kind == CEL_DOUBLE && isnan(v.as.d);
}

bool cel_order(struct cel_value a, struct cel_value b, int *ret)
{
	if (cel_is_number(a) && cel_is_number(b)) {
		if (is_nan(a) || is_nan(b))
			return false;
		*ret = order_number(a, b);
		return true;
	}
	if (a.kind != b.kind)
		return false;
	switch (a.kind) {
	case CEL_BOOL:
		*ret = a.as.b - b.as.b;
		return true;
	case CEL_STRING:
	case CEL_BYTES:
		*ret = base_str_cmp(a.as.s, b.as.s);
		*ret = (*ret > 0) - (*ret < 0);
		return true;
	case CEL_DURATION:
		*ret = order_int(a.as.i, b.as.i);
		return true;
	case CEL_TIMESTAMP:
		*ret = order_int(a.as.time.s, b.as.time.s);
		if (*ret == 0)
			*ret = order_int(a.as.time.ns, b.as.time.ns);
		return true;
	default:
		return false;
	}
}

static bool equal_lists(struct cel_run *run, struct cel_value a, struct cel_value b)
{
	struct cel_iter i = cel_iter_of(a), j = cel_iter_of(b);
	struct cel_value key, x, y;

	if (i.count != j.count)
		return false;
	while (cel_next(a, &i, &key, &x) && cel_next(b, &j, &key, &y))
		if (!cel_equal(run, x, y))
			return false;
	return true;
}

static bool equal_maps(struct cel_run *run, struct cel_value a, struct cel_value b)
{
	struct cel_iter i = cel_iter_of(a);
	struct cel_value key, x, y;

	if (i.count != cel_count(b))
		return false;
	while (cel_next(a, &i, &key, &x))
		if (!cel_find(run, b, key, &y) || !cel_equal(run, x, y))
			return false;
	return true;
}

static bool equal_optionals(struct cel_run *run, struct cel_value a, struct cel_value b)
{
	const struct cel_value *x = cel_optional_get(a), *y = cel_optional_get(b);

	return x && y ? cel_equal(run, *x, *y) : x == y;
}

bool cel_equal(struct cel_run *run, struct cel_value a, struct cel_value b)
{
	int order;

	if (a.kind == CEL_STRING && b.kind == CEL_STRING) {
		uint64_t cost = a.as.s.len / CEL_BYTES_A_STEP;

		return a.as.s.len == b.as.s.len && (cost == 0 || cel_pay(run, cost)) &&
		       base_str_eq(a.as.s, b.as.s);
	}
	if (!cel_pay(run, 1))
		return false;
	if (cel_order(a, b, &order))
		return order == 0;
	if (a.kind != b.kind)
		return false;
	switch (a.kind) {
	case CEL_NULL:
		return true;
	case CEL_LIST:
		return equal_lists(run, a, b);
	case CEL_MAP:
		return equal_maps(run, a, b);
	case CEL_TYPE:
		return base_str_eq(a.as.s, b.as.s);
	case CEL_OPTIONAL:
		return equal_optionals(run, a, b);
	default:
		return false;
	}
}

bool cel_find(struct cel_run *run, struct cel_value map, struct cel_value key, struct cel_value *ret)
{
	const struct cel_items *box;
	struct base_jv v;
	size_t i;

	if (map.tag == CEL_TAG_JSON) {
		if (key.kind != CEL_STRING || !cel_pay(run, 1 + base_jv_len(json_of(map)) / 16))
			return false;
		v = base_jv_get_str(json_of(map), key.as.s);
		if (!v.v)
			return false;
		*ret = cel_json(v);
		return true;
	}
	box = cel_items(map);
	if (!cel_pay(run, 1 + box->count / 16))
		return false;
	for (i = 0; i < box->count; i++) {
		struct cel_value at = box->items[2 * i];

		if (key.kind == CEL_STRING && at.kind != CEL_STRING)
			continue;
		if (cel_equal(run, at, key)) {
			*ret = box->items[2 * i + 1];
			return true;
		}
	}
	return false;
}

/* --- text that grows --- */

static bool text_grows(struct cel_text *t, size_t size)
{
	char *to = cel_pay(t->run, size / CEL_BYTES_A_STEP) ? base_arena_alloc(t->run->arena, size) : NULL;

	if (!to) {
		cel_stop(t->run, "out of memory"); /* unless there are no steps */
		return false;
	}
	if (t->len)
		memcpy(to, t->ptr, t->len);
	t->ptr = to;
	t->size = size;
	return true;
}

void cel_text_put(struct cel_text *t, const char *data, size_t len)
{
	size_t size = t->size ? t->size : 64;

	if (t->failed || len == 0)
		return;
	if (len > t->run->string_max - t->len) {
		cel_stop(t->run, "a string is too long");
		t->failed = true;
		return;
	}
	while (size - t->len < len)
		size *= 2;
	if (size != t->size && !text_grows(t, size)) {
		t->failed = true;
		return;
	}
	memcpy(t->ptr + t->len, data, len);
	t->len += len;
}

void cel_text_str(struct cel_text *t, struct base_str s)
{
	cel_text_put(t, s.ptr, s.len);
}

void cel_text_cstr(struct cel_text *t, const char *s)
{
	cel_text_put(t, s, strlen(s));
}

struct cel_value cel_text_done(struct cel_text *t)
{
	if (t->failed)
		return cel_error(t->run->stopped);
	return cel_string((struct base_str){t->len ? t->ptr : "", t->len});
}

/* --- sorting --- */

/* False: two have no order, or (the evaluation has ended) there are no steps. */
static bool sort_order(struct cel_run *run, struct cel_value a, struct cel_value b, int *ret)
{
	bool text = a.kind == CEL_STRING || a.kind == CEL_BYTES;

	return (!text || cel_pay(run, a.as.s.len / CEL_BYTES_A_STEP)) && cel_order(a, b, ret);
}

static bool merge(struct cel_run *run, struct cel_value *keys, struct cel_value *items,
	struct cel_value *spare_keys, struct cel_value *spare, size_t low, size_t mid, size_t high)
{
	size_t i = low, j = mid, n = low;
	int order;

	while (n < high) {
		bool left = j >= high;

		if (!left && i < mid) {
			if (!sort_order(run, keys[i], keys[j], &order))
				return false;
			left = order <= 0;
		}
		spare_keys[n] = left ? keys[i] : keys[j];
		spare[n++] = left ? items[i++] : items[j++];
	}
	memcpy(keys + low, spare_keys + low, (high - low) * sizeof(*keys));
	memcpy(items + low, spare + low, (high - low) * sizeof(*items));
	return true;
}

bool cel_sort(struct cel_run *run, struct cel_value *keys, struct cel_value *items, size_t count)
{
	struct cel_value *spare_keys = cel_items_room(run, count), *spare = cel_items_room(run, count);
	size_t width, at;
	int order;

	if (!spare_keys || !spare)
		return true; /* the evaluation has ended */
	if (count == 1)
		return cel_order(keys[0], keys[0], &order);
	for (width = 1; width < count; width *= 2)
		for (at = 0; at + width < count; at += 2 * width) {
			size_t high = at + 2 * width < count ? at + 2 * width : count;

			if (!cel_pay(run, high - at))
				return true;
			if (!merge(run, keys, items, spare_keys, spare, at, at + width, high))
				return false;
		}
	return true;
}
