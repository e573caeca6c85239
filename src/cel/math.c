#include <math.h>

#include "cel/cel_int.h"

/* The functions of math. */

#define ARGS struct cel_run *run, const struct cel_value *args, unsigned count
#define UNUSED ((void)run, (void)args, (void)count)

/* The greatest (sign 1) or least (sign -1) of a list; the first of equals. */
static struct cel_value extreme(struct cel_run *run, struct cel_value list, int sign)
{
	struct cel_iter it = cel_iter_of(list);
	struct cel_value key, v, best = cel_null();
	int order;

	if (it.count == 0)
		return cel_error("of an empty list there is no greatest or least");
	while (cel_next(list, &it, &key, &v) && cel_pay(run, 1)) {
		if (!cel_is_number(v))
			return cel_error("math.greatest and math.least take numbers");
		if (it.i == 1 || (cel_order(v, best, &order) && order * sign > 0))
			best = v;
	}
	return best;
}

static struct cel_value greatest(ARGS)
{
	(void)count;
	return extreme(run, args[0], 1);
}

static struct cel_value least(ARGS)
{
	(void)count;
	return extreme(run, args[0], -1);
}

static struct cel_value same(ARGS)
{
	UNUSED;
	return args[0];
}

static struct cel_value ceiling(ARGS)
{
	UNUSED;
	return cel_double(ceil(args[0].as.d));
}

static struct cel_value floor_of(ARGS)
{
	UNUSED;
	return cel_double(floor(args[0].as.d));
}

static struct cel_value rounded(ARGS)
{
	UNUSED;
	return cel_double(round(args[0].as.d));
}

static struct cel_value truncated(ARGS)
{
	UNUSED;
	return cel_double(trunc(args[0].as.d));
}

static struct cel_value abs_double(ARGS)
{
	UNUSED;
	return cel_double(fabs(args[0].as.d));
}

static struct cel_value abs_int(ARGS)
{
	UNUSED;
	if (args[0].as.i == INT64_MIN)
		return cel_error("integer overflow");
	return cel_int(args[0].as.i < 0 ? -args[0].as.i : args[0].as.i);
}

static struct cel_value sign_double(ARGS)
{
	double d = args[0].as.d;

	UNUSED;
	return isnan(d) ? args[0] : cel_double((d > 0) - (d < 0));
}

static struct cel_value sign_int(ARGS)
{
	UNUSED;
	return cel_int((args[0].as.i > 0) - (args[0].as.i < 0));
}

static struct cel_value sign_uint(ARGS)
{
	UNUSED;
	return cel_uint(args[0].as.u > 0);
}

static struct cel_value is_nan(ARGS)
{
	UNUSED;
	return cel_bool(isnan(args[0].as.d));
}

static struct cel_value is_inf(ARGS)
{
	UNUSED;
	return cel_bool(isinf(args[0].as.d));
}

static struct cel_value is_finite(ARGS)
{
	UNUSED;
	return cel_bool(isfinite(args[0].as.d));
}

static struct cel_value root(ARGS)
{
	UNUSED;
	return cel_double(sqrt(args[0].kind == CEL_DOUBLE ? args[0].as.d
			       : args[0].kind == CEL_INT  ? (double)args[0].as.i
							  : (double)args[0].as.u));
}

/* Ints and uints share their bits. */
static struct cel_value with_bits(struct cel_value like, uint64_t bits)
{
	like.as.u = bits;
	return like;
}

static struct cel_value bit_or(ARGS)
{
	UNUSED;
	return with_bits(args[0], args[0].as.u | args[1].as.u);
}

static struct cel_value bit_and(ARGS)
{
	UNUSED;
	return with_bits(args[0], args[0].as.u & args[1].as.u);
}

static struct cel_value bit_xor(ARGS)
{
	UNUSED;
	return with_bits(args[0], args[0].as.u ^ args[1].as.u);
}

static struct cel_value bit_not(ARGS)
{
	UNUSED;
	return with_bits(args[0], ~args[0].as.u);
}

static struct cel_value shift_left(ARGS)
{
	UNUSED;
	if (args[1].as.i < 0)
		return cel_error("a shift by less than nothing");
	return with_bits(args[0], args[1].as.i < 64 ? args[0].as.u << args[1].as.i : 0);
}

/* What comes in from the left is 0, whatever the sign. */
static struct cel_value shift_right(ARGS)
{
	UNUSED;
	if (args[1].as.i < 0)
		return cel_error("a shift by less than nothing");
	return with_bits(args[0], args[1].as.i < 64 ? args[0].as.u >> args[1].as.i : 0);
}

const struct cel_overload cel_math_functions[] = {
	{"math.greatest", "l", 'd', CEL_GLOBAL, greatest},
	{"math.greatest", "i", 'i', CEL_GLOBAL, same},
	{"math.greatest", "u", 'u', CEL_GLOBAL, same},
	{"math.greatest", "f", 'f', CEL_GLOBAL, same},
	{"math.least", "l", 'd', CEL_GLOBAL, least},
	{"math.least", "i", 'i', CEL_GLOBAL, same},
	{"math.least", "u", 'u', CEL_GLOBAL, same},
	{"math.least", "f", 'f', CEL_GLOBAL, same},
	{"math.ceil", "f", 'f', CEL_GLOBAL, ceiling},
	{"math.floor", "f", 'f', CEL_GLOBAL, floor_of},
	{"math.round", "f", 'f', CEL_GLOBAL, rounded},
	{"math.trunc", "f", 'f', CEL_GLOBAL, truncated},
	{"math.abs", "f", 'f', CEL_GLOBAL, abs_double},
	{"math.abs", "i", 'i', CEL_GLOBAL, abs_int},
	{"math.abs", "u", 'u', CEL_GLOBAL, same},
	{"math.sign", "f", 'f', CEL_GLOBAL, sign_double},
	{"math.sign", "i", 'i', CEL_GLOBAL, sign_int},
	{"math.sign", "u", 'u', CEL_GLOBAL, sign_uint},
	{"math.isNaN", "f", 'b', CEL_GLOBAL, is_nan},
	{"math.isInf", "f", 'b', CEL_GLOBAL, is_inf},
	{"math.isFinite", "f", 'b', CEL_GLOBAL, is_finite},
	{"math.sqrt", "f", 'f', CEL_GLOBAL, root},
	{"math.sqrt", "i", 'f', CEL_GLOBAL, root},
	{"math.sqrt", "u", 'f', CEL_GLOBAL, root},
	{"math.bitOr", "ii", 'i', CEL_GLOBAL, bit_or},
	{"math.bitOr", "uu", 'u', CEL_GLOBAL, bit_or},
	{"math.bitAnd", "ii", 'i', CEL_GLOBAL, bit_and},
	{"math.bitAnd", "uu", 'u', CEL_GLOBAL, bit_and},
	{"math.bitXor", "ii", 'i', CEL_GLOBAL, bit_xor},
	{"math.bitXor", "uu", 'u', CEL_GLOBAL, bit_xor},
	{"math.bitNot", "i", 'i', CEL_GLOBAL, bit_not},
	{"math.bitNot", "u", 'u', CEL_GLOBAL, bit_not},
	{"math.bitShiftLeft", "ii", 'i', CEL_GLOBAL, shift_left},
	{"math.bitShiftLeft", "ui", 'u', CEL_GLOBAL, shift_left},
	{"math.bitShiftRight", "ii", 'i', CEL_GLOBAL, shift_right},
	{"math.bitShiftRight", "ui", 'u', CEL_GLOBAL, shift_right},
	{NULL, NULL, 0, 0, NULL},
};
