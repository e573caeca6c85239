#include <string.h>

#include "cel/cel_int.h"

/* Operators on values. */

struct cel_value cel_compare(enum cel_op op, struct cel_value a, struct cel_value b)
{
	int order;

	if (!cel_order(a, b, &order)) {
		if (cel_is_number(a) && cel_is_number(b))
			return cel_bool(false); /* NaN */
		return cel_no_overload();
	}
	switch (op) {
	case CEL_OP_LT:
		return cel_bool(order < 0);
	case CEL_OP_LE:
		return cel_bool(order <= 0);
	case CEL_OP_GT:
		return cel_bool(order > 0);
	default:
		return cel_bool(order >= 0);
	}
}

static struct cel_value int_math(enum cel_op op, int64_t a, int64_t b)
{
	bool overflow = false;
	int64_t v = 0;

	switch (op) {
	case CEL_OP_ADD:
		overflow = __builtin_add_overflow(a, b, &v);
		break;
	case CEL_OP_SUB:
		overflow = __builtin_sub_overflow(a, b, &v);
		break;
	case CEL_OP_MUL:
		overflow = __builtin_mul_overflow(a, b, &v);
		break;
	default:
		if (b == 0)
			return cel_error(op == CEL_OP_DIV ? "division by zero" : "modulus by zero");
		overflow = a == INT64_MIN && b == -1;
		if (!overflow)
			v = op == CEL_OP_DIV ? a / b : a % b;
	}
	return overflow ? cel_error("integer overflow") : cel_int(v);
}

static struct cel_value uint_math(enum cel_op op, uint64_t a, uint64_t b)
{
	bool overflow = false;
	uint64_t v = 0;

	switch (op) {
	case CEL_OP_ADD:
		overflow = __builtin_add_overflow(a, b, &v);
		break;
	case CEL_OP_SUB:
		overflow = __builtin_sub_overflow(a, b, &v);
		break;
	case CEL_OP_MUL:
		overflow = __builtin_mul_overflow(a, b, &v);
		break;
	default:
		if (b == 0)
			return cel_error(op == CEL_OP_DIV ? "division by zero" : "modulus by zero");
		v = op == CEL_OP_DIV ? a / b : a % b;
	}
	return overflow ? cel_error("integer overflow") : cel_uint(v);
}

static struct cel_value double_math(enum cel_op op, double a, double b)
{
	switch (op) {
	case CEL_OP_ADD:
		return cel_double(a + b);
	case CEL_OP_SUB:
		return cel_double(a - b);
	case CEL_OP_MUL:
		return cel_double(a * b);
	case CEL_OP_DIV:
		return cel_double(a / b);
	default:
		return cel_no_overload();
	}
}

static struct cel_value join_strings(
	struct cel_run *run, enum cel_kind kind, struct base_str a, struct base_str b)
{
	char *to = cel_string_room(run, a.len + b.len);

	if (!to)
		return cel_error(run->stopped);
	if (a.len)
		memcpy(to, a.ptr, a.len);
	if (b.len)
		memcpy(to + a.len, b.ptr, b.len);
	return (struct cel_value){.kind = kind, .as.s = {to, a.len + b.len}};
}

static struct cel_value join_lists(struct cel_run *run, struct cel_value a, struct cel_value b)
{
	struct cel_iter x = cel_iter_of(a), y = cel_iter_of(b);
	size_t count = x.count + y.count, i = 0;
	struct cel_value *items = cel_items_room(run, count), key;

	if (!items)
		return cel_error(run->stopped);
	while (cel_next(a, &x, &key, &items[i]))
		i++;
	while (cel_next(b, &y, &key, &items[i]))
		i++;
	return cel_made(run, CEL_LIST, items, count);
}

static struct cel_value no_duration(void)
{
	return cel_error("out of the range of duration: 292 years either way");
}

static struct cel_value duration_math(enum cel_op op, int64_t a, int64_t b)
{
	int64_t v;

	if (op != CEL_OP_ADD && op != CEL_OP_SUB)
		return cel_no_overload();
	if (op == CEL_OP_ADD ? __builtin_add_overflow(a, b, &v) : __builtin_sub_overflow(a, b, &v))
		return no_duration();
	return cel_duration(v);
}

/* A timestamp moved by nanoseconds. */
static struct cel_value moved(struct cel_value t, int64_t ns, bool back)
{
	int64_t s = ns / 1000000000, rest = ns % 1000000000;

	s = t.as.time.s + (back ? -s : s);
	rest = t.as.time.ns + (back ? -rest : rest);
	if (rest < 0) {
		rest += 1000000000;
		s--;
	} else if (rest >= 1000000000) {
		rest -= 1000000000;
		s++;
	}
	return cel_timestamp(s, (int32_t)rest);
}

static struct cel_value between(struct cel_value a, struct cel_value b)
{
	int64_t ns;

	if (__builtin_mul_overflow(a.as.time.s - b.as.time.s, (int64_t)1000000000, &ns) ||
		__builtin_add_overflow(ns, (int64_t)a.as.time.ns - b.as.time.ns, &ns))
		return no_duration();
	return cel_duration(ns);
}

static struct cel_value time_math(enum cel_op op, struct cel_value a, struct cel_value b)
{
	if (a.kind == CEL_TIMESTAMP && b.kind == CEL_TIMESTAMP && op == CEL_OP_SUB)
		return between(a, b);
	if (a.kind == CEL_TIMESTAMP && b.kind == CEL_DURATION && (op == CEL_OP_ADD || op == CEL_OP_SUB))
		return moved(a, b.as.i, op == CEL_OP_SUB);
	if (a.kind == CEL_DURATION && b.kind == CEL_TIMESTAMP && op == CEL_OP_ADD)
		return moved(b, a.as.i, false);
	return cel_no_overload();
}

struct cel_value cel_arithmetic(struct cel_run *run, enum cel_op op, struct cel_value a, struct cel_value b)
{
	if (a.kind == CEL_TIMESTAMP || b.kind == CEL_TIMESTAMP)
		return time_math(op, a, b);
	if (a.kind != b.kind)
		return cel_no_overload();
	switch (a.kind) {
	case CEL_INT:
		return int_math(op, a.as.i, b.as.i);
	case CEL_UINT:
		return uint_math(op, a.as.u, b.as.u);
	case CEL_DOUBLE:
		return double_math(op, a.as.d, b.as.d);
	case CEL_DURATION:
		return duration_math(op, a.as.i, b.as.i);
	case CEL_STRING:
	case CEL_BYTES:
		return op == CEL_OP_ADD ? join_strings(run, a.kind, a.as.s, b.as.s) : cel_no_overload();
	case CEL_LIST:
		return op == CEL_OP_ADD ? join_lists(run, a, b) : cel_no_overload();
	default:
		return cel_no_overload();
	}
}

struct cel_value cel_negate(struct cel_value v)
{
	if (v.kind == CEL_ERROR)
		return v;
	if (v.kind == CEL_DOUBLE)
		return cel_double(-v.as.d);
	if (v.kind != CEL_INT && v.kind != CEL_DURATION)
		return cel_no_overload();
	if (__builtin_sub_overflow((int64_t)0, v.as.i, &v.as.i))
		return cel_error("integer overflow");
	return v;
}
