#include <errno.h>
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

struct cel_value cel_string(struct base_str s)
{
	return (struct cel_value){.kind = CEL_STRING, .as.s = s};
}

struct cel_value cel_null(void)
{
	return (struct cel_value){.kind = CEL_NULL};
}

struct cel_value cel_error(const char *text)
{
	return (struct cel_value){.kind = CEL_ERROR, .as.s = base_str_of(text)};
}

struct cel_value cel_no_overload(void)
{
	return cel_error("no such overload: the operands have the wrong types");
}

struct cel_value cel_no_memory(void)
{
	return cel_error("out of memory");
}

bool cel_pay(struct cel_run *run, uint64_t cost)
{
	if (run->steps <= cost) {
		run->steps = 0;
		return false;
	}
	run->steps -= cost;
	return true;
}

const struct cel_box *cel_box(struct cel_value v)
{
	BASE_CHECK(v.kind == CEL_LIST || v.kind == CEL_MAP);
	return v.as.ref;
}

struct cel_value cel_box_value(enum cel_kind kind, const struct cel_box *box)
{
	return (struct cel_value){.kind = kind, .as.ref = box};
}

struct cel_value cel_json(struct base_jv v, struct base_arena *arena)
{
	enum base_json_kind kind = base_jv_kind(v);
	struct cel_box *box;

	switch (kind) {
	case BASE_JSON_NONE:
	case BASE_JSON_NULL:
		return cel_null();
	case BASE_JSON_BOOL:
		return cel_bool(base_jv_bool(v, false));
	case BASE_JSON_INT:
		return cel_int(base_jv_int(v, 0));
	case BASE_JSON_REAL:
		return (struct cel_value){.kind = CEL_DOUBLE, .as.d = base_jv_real(v, 0)};
	case BASE_JSON_STR:
		return cel_string(base_jv_str(v));
	case BASE_JSON_ARR:
	case BASE_JSON_OBJ:
		break;
	}
	box = base_arena_alloc(arena, sizeof(*box));
	if (!box)
		return cel_no_memory();
	*box = (struct cel_box){.json = v, .count = base_jv_len(v)};
	return cel_box_value(kind == BASE_JSON_OBJ ? CEL_MAP : CEL_LIST, box);
}

bool cel_box_next(const struct cel_box *b, bool map, struct cel_box_iter *it, struct cel_run *run,
	struct cel_value *ret_key, struct cel_value *ret)
{
	struct base_str key;
	struct base_jv v;

	if (it->i >= b->count)
		return false;
	if (b->json.v) {
		base_jv_next(b->json, &it->json, &key, &v);
		*ret_key = map ? cel_string(key) : cel_int((int64_t)it->i);
		*ret = cel_json(v, run->arena);
	} else {
		*ret_key = map ? b->items[2 * it->i] : cel_int((int64_t)it->i);
		*ret = map ? b->items[2 * it->i + 1] : b->items[it->i];
	}
	it->i++;
	return true;
}

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

/* Beside a double everything is one, as the language has it: above 2^53 that rounds. */
static int order_number(struct cel_value a, struct cel_value b)
{
	if (a.kind == CEL_DOUBLE && b.kind == CEL_DOUBLE)
		return order_double(a.as.d, b.as.d);
	if (a.kind == CEL_DOUBLE)
		return -order_number(b, a);
	if (b.kind == CEL_DOUBLE)
		return order_double(a.kind == CEL_INT ? (double)a.as.i : (double)a.as.u, b.as.d);
	if (a.kind == CEL_INT && b.kind == CEL_INT)
		return (a.as.i > b.as.i) - (a.as.i < b.as.i);
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
	int order;

	if (cel_is_number(a) && cel_is_number(b)) {
		if (is_nan(a) || is_nan(b))
			return false;
		*ret = order_number(a, b);
		return true;
	}
	if (a.kind != b.kind || (a.kind != CEL_STRING && a.kind != CEL_BOOL))
		return false;
	order = a.kind == CEL_STRING ? base_str_cmp(a.as.s, b.as.s) : a.as.b - b.as.b;
	*ret = (order > 0) - (order < 0);
	return true;
}

static bool equal_lists(struct cel_run *run, const struct cel_box *a, const struct cel_box *b)
{
	struct cel_box_iter i = {0}, j = {0};
	struct cel_value key, x, y;

	if (a->count != b->count)
		return false;
	while (cel_box_next(a, false, &i, run, &key, &x) && cel_box_next(b, false, &j, run, &key, &y))
		if (!cel_equal(run, x, y))
			return false;
	return true;
}

static bool equal_maps(struct cel_run *run, const struct cel_box *a, const struct cel_box *b)
{
	struct cel_box_iter i = {0};
	struct cel_value key, x, y;

	if (a->count != b->count)
		return false;
	while (cel_box_next(a, true, &i, run, &key, &x))
		if (!cel_find(run, b, key, &y) || !cel_equal(run, x, y))
			return false;
	return true;
}

bool cel_equal(struct cel_run *run, struct cel_value a, struct cel_value b)
{
	int order;

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
		return equal_lists(run, cel_box(a), cel_box(b));
	case CEL_MAP:
		return equal_maps(run, cel_box(a), cel_box(b));
	default:
		return false;
	}
}

bool cel_find(struct cel_run *run, const struct cel_box *map, struct cel_value key, struct cel_value *ret)
{
	struct base_jv v;
	size_t i;

	if (!cel_pay(run, 1 + map->count / 16))
		return false;
	if (map->json.v) {
		v = key.kind == CEL_STRING ? base_jv_get_str(map->json, key.as.s) : (struct base_jv){NULL};
		if (!v.v)
			return false;
		*ret = cel_json(v, run->arena);
		return true;
	}
	for (i = 0; i < map->count; i++)
		if (cel_equal(run, map->items[2 * i], key)) {
			*ret = map->items[2 * i + 1];
			return true;
		}
	return false;
}
