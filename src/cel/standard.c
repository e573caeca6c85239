#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/real.h"
#include "cel/cel_int.h"

/* The functions of the language itself: sizes, tests of strings, conversions, optionals. */

#define ARGS struct cel_run *run, const struct cel_value *args, unsigned count
#define UNUSED ((void)run, (void)args, (void)count)

const struct cel_overload *cel_function_find(struct base_str name, uint32_t *ret_count)
{
	static const struct cel_overload *const tables[] = {cel_standard_functions, cel_string_functions,
		cel_time_functions, cel_math_functions, cel_list_functions};
	const struct cel_overload *o, *first;
	size_t i;

	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (o = tables[i]; o->name; o++)
			if (base_str_is(name, o->name)) {
				for (first = o; o->name && base_str_is(name, o->name);)
					o++;
				*ret_count = (uint32_t)(o - first);
				return first;
			}
	return NULL;
}

static struct cel_value size_string(ARGS)
{
	struct base_str s = args[0].as.s;
	int64_t size = 0;
	size_t i;

	(void)count;
	if (!cel_pay(run, s.len / CEL_BYTES_A_STEP))
		return cel_null();
	for (i = 0; i < s.len; i++)
		size += ((unsigned char)s.ptr[i] & 0xc0) != 0x80;
	return cel_int(size);
}

static struct cel_value size_bytes(ARGS)
{
	UNUSED;
	return cel_int((int64_t)args[0].as.s.len);
}

static struct cel_value size_items(ARGS)
{
	UNUSED;
	return cel_int((int64_t)cel_count(args[0]));
}

static bool paid(struct cel_run *run, const struct cel_value *args)
{
	return cel_pay(run, (args[0].as.s.len + args[1].as.s.len) / CEL_BYTES_A_STEP);
}

static struct cel_value contains(ARGS)
{
	struct base_str s = args[0].as.s, what = args[1].as.s;

	(void)count;
	if (!paid(run, args))
		return cel_null();
	return cel_bool(what.len == 0 || (s.len > 0 && memmem(s.ptr, s.len, what.ptr, what.len) != NULL));
}

static struct cel_value starts_with(ARGS)
{
	(void)count;
	return paid(run, args) ? cel_bool(base_str_starts(args[0].as.s, args[1].as.s)) : cel_null();
}

static struct cel_value ends_with(ARGS)
{
	(void)count;
	return paid(run, args) ? cel_bool(base_str_ends(args[0].as.s, args[1].as.s)) : cel_null();
}

struct cel_value cel_matches(struct cel_run *run, struct base_str text, const struct base_regex *re)
{
	/* A place of the pattern is a few nanoseconds, as a byte is. */
	if (!cel_pay(run, 1 + (text.len + 1) / 8 * (1 + base_regex_cost(re) / 8)))
		return cel_null();
	return cel_bool(base_regex_search(re, text));
}

struct cel_value cel_call_matches(ARGS)
{
	const struct base_regex *re;
	int r;

	(void)count;
	/* It takes 20 KiB: patterns that are not written out are dear. */
	if (!cel_pay(run, 300 + args[1].as.s.len))
		return cel_null();
	r = base_regex_compile_in(args[1].as.s, run->arena, &re, NULL);
	if (r == -ENOMEM)
		return cel_stop(run, "out of memory");
	if (r < 0)
		return cel_error("not a regular expression that can be used");
	return cel_matches(run, args[0].as.s, re);
}

static struct cel_value same(ARGS)
{
	UNUSED;
	return args[0];
}

static struct cel_value type_of(ARGS)
{
	UNUSED;
	return cel_type_value(args[0].kind);
}

/* --- conversions --- */

static struct cel_value int_of_uint(ARGS)
{
	UNUSED;
	return args[0].as.u <= INT64_MAX ? cel_int((int64_t)args[0].as.u)
					 : cel_error("out of the range of int");
}

static struct cel_value int_of_double(ARGS)
{
	double d = args[0].as.d;

	UNUSED;
	if (!(d > -9223372036854775808.0 && d < 9223372036854775808.0))
		return cel_error("out of the range of int");
	return cel_int((int64_t)d);
}

/* Digits alone, zeros in front or not. */
static bool digits_of(struct cel_run *run, struct base_str s, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i;

	if (!cel_pay(run, s.len / 16))
		return false;
	for (i = 0; i < s.len; i++) {
		if (s.ptr[i] < '0' || s.ptr[i] > '9' || __builtin_mul_overflow(v, 10u, &v) ||
			__builtin_add_overflow(v, (uint64_t)(s.ptr[i] - '0'), &v))
			return false;
	}
	*ret = v;
	return s.len > 0;
}

static struct cel_value int_of_string(ARGS)
{
	struct base_str s = args[0].as.s;
	bool minus = s.len && s.ptr[0] == '-';
	uint64_t v;

	UNUSED;
	if (minus || (s.len && s.ptr[0] == '+'))
		s = base_str_sub(s, 1, s.len);
	if (!digits_of(run, s, &v) || v > (uint64_t)INT64_MAX + minus)
		return cel_error("not an int");
	return cel_int(minus ? (int64_t)(0 - v) : (int64_t)v);
}

static struct cel_value int_of_timestamp(ARGS)
{
	UNUSED;
	return cel_int(args[0].as.time.s);
}

static struct cel_value uint_of_int(ARGS)
{
	UNUSED;
	return args[0].as.i >= 0 ? cel_uint((uint64_t)args[0].as.i) : cel_error("out of the range of uint");
}

static struct cel_value uint_of_double(ARGS)
{
	UNUSED;
	if (!(args[0].as.d >= 0 && args[0].as.d < 18446744073709551616.0))
		return cel_error("out of the range of uint");
	return cel_uint((uint64_t)args[0].as.d);
}

static struct cel_value uint_of_string(ARGS)
{
	uint64_t v;

	UNUSED;
	return digits_of(run, args[0].as.s, &v) ? cel_uint(v) : cel_error("not a uint");
}

static struct cel_value double_of_int(ARGS)
{
	UNUSED;
	return cel_double((double)args[0].as.i);
}

static struct cel_value double_of_uint(ARGS)
{
	UNUSED;
	return cel_double((double)args[0].as.u);
}

static struct cel_value double_of_string(ARGS)
{
	static const struct {
		const char *name;
		double value;
	} special[] = {{"NaN", NAN}, {"nan", NAN}, {"Inf", INFINITY}, {"inf", INFINITY}, {"+Inf", INFINITY},
		{"+inf", INFINITY}, {"-Inf", -INFINITY}, {"-inf", -INFINITY}, {"Infinity", INFINITY},
		{"+Infinity", INFINITY}, {"-Infinity", -INFINITY}};
	double d;
	size_t i;

	UNUSED;
	for (i = 0; i < sizeof(special) / sizeof(special[0]); i++)
		if (base_str_is(args[0].as.s, special[i].name))
			return cel_double(special[i].value);
	return base_real_parse(args[0].as.s, &d) == 0 ? cel_double(d) : cel_error("not a double");
}

static struct cel_value string_of_bool(ARGS)
{
	UNUSED;
	return cel_string(base_str_of(args[0].as.b ? "true" : "false"));
}

static struct cel_value string_of_int(ARGS)
{
	int64_t i = args[0].as.i;
	char text[65];
	size_t n;

	(void)count;
	text[0] = '-';
	n = cel_unsigned_text(i < 0 ? 0 - (uint64_t)i : (uint64_t)i, 10, false, text + 1);
	return cel_copied(run, CEL_STRING, (struct base_str){i < 0 ? text : text + 1, n + (i < 0)});
}

static struct cel_value string_of_uint(ARGS)
{
	char text[64];

	(void)count;
	return cel_copied(
		run, CEL_STRING, (struct base_str){text, cel_unsigned_text(args[0].as.u, 10, false, text)});
}

static struct cel_value string_of_double(ARGS)
{
	double d = args[0].as.d;
	char text[BASE_REAL_MAX];

	(void)count;
	if (isnan(d))
		return cel_string(BASE_STR("NaN"));
	if (isinf(d))
		return cel_string(base_str_of(d > 0 ? "+Inf" : "-Inf"));
	if (d == 0 && signbit(d))
		return cel_string(BASE_STR("-0"));
	return cel_copied(run, CEL_STRING, (struct base_str){text, base_real_text(d, text)});
}

static struct cel_value string_of_bytes(ARGS)
{
	(void)count;
	if (!cel_pay(run, args[0].as.s.len / CEL_BYTES_A_STEP))
		return cel_null();
	if (!base_utf8_valid(args[0].as.s))
		return cel_error("these bytes are not UTF-8");
	return cel_string(args[0].as.s);
}

static struct cel_value string_of_timestamp(ARGS)
{
	char text[CEL_TIME_TEXT_MAX];

	(void)count;
	return cel_copied(run, CEL_STRING, (struct base_str){text, cel_timestamp_text(args[0], text)});
}

static struct cel_value string_of_duration(ARGS)
{
	char text[CEL_TIME_TEXT_MAX];

	(void)count;
	return cel_copied(run, CEL_STRING, (struct base_str){text, cel_duration_text(args[0], text)});
}

static struct cel_value bytes_of_string(ARGS)
{
	UNUSED;
	return cel_bytes(args[0].as.s);
}

static struct cel_value bool_of_string(ARGS)
{
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
	static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
	size_t i;

	UNUSED;
	for (i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		if (base_str_is(args[0].as.s, yes[i]) || base_str_is(args[0].as.s, no[i]))
			return cel_bool(base_str_is(args[0].as.s, yes[i]));
	return cel_error("not a bool");
}

/* --- optionals --- */

static struct cel_value optional_of(ARGS)
{
	(void)count;
	return cel_optional_of(run, args[0]);
}

static struct cel_value optional_none(ARGS)
{
	UNUSED;
	return cel_optional_none();
}

static bool is_zero(struct cel_value v)
{
	switch (v.kind) {
	case CEL_NULL:
		return true;
	case CEL_BOOL:
		return !v.as.b;
	case CEL_INT:
	case CEL_UINT:
	case CEL_DURATION:
		return v.as.i == 0;
	case CEL_DOUBLE:
		return v.as.d == 0;
	case CEL_STRING:
	case CEL_BYTES:
		return v.as.s.len == 0;
	case CEL_LIST:
	case CEL_MAP:
		return cel_count(v) == 0;
	case CEL_TIMESTAMP:
		return v.as.time.s == 0 && v.as.time.ns == 0;
	case CEL_OPTIONAL:
		return !cel_optional_get(v);
	default:
		return false;
	}
}

static struct cel_value optional_of_non_zero(ARGS)
{
	(void)count;
	return is_zero(args[0]) ? cel_optional_none() : cel_optional_of(run, args[0]);
}

static struct cel_value has_value(ARGS)
{
	UNUSED;
	return cel_bool(cel_optional_get(args[0]) != NULL);
}

static struct cel_value value_of(ARGS)
{
	UNUSED;
	return cel_optional_get(args[0]) ? *cel_optional_get(args[0])
					 : cel_error("optional.none() has no value");
}

static struct cel_value or_value(ARGS)
{
	UNUSED;
	return cel_optional_get(args[0]) ? *cel_optional_get(args[0]) : args[1];
}

static struct cel_value or_optional(ARGS)
{
	UNUSED;
	return cel_optional_get(args[0]) ? args[0] : args[1];
}

static struct cel_value unwrap(ARGS)
{
	struct cel_iter it = cel_iter_of(args[0]);
	struct cel_value *items = cel_items_room(run, it.count), key, v;
	size_t n = 0;

	(void)count;
	if (!items)
		return cel_null();
	while (cel_next(args[0], &it, &key, &v)) {
		if (v.kind != CEL_OPTIONAL)
			return cel_no_overload();
		if (cel_optional_get(v))
			items[n++] = *cel_optional_get(v);
	}
	return cel_made(run, CEL_LIST, items, n);
}

enum { BOTH = CEL_GLOBAL | CEL_MEMBER };

const struct cel_overload cel_standard_functions[] = {
	{"size", "s", 'i', BOTH, size_string},
	{"size", "y", 'i', BOTH, size_bytes},
	{"size", "l", 'i', BOTH, size_items},
	{"size", "m", 'i', BOTH, size_items},
	{"contains", "ss", 'b', CEL_MEMBER, contains},
	{"startsWith", "ss", 'b', CEL_MEMBER, starts_with},
	{"endsWith", "ss", 'b', CEL_MEMBER, ends_with},
	{"matches", "ss", 'b', BOTH, cel_call_matches},
	{"dyn", "d", 'd', CEL_GLOBAL, same},
	{"type", "d", 'k', CEL_GLOBAL, type_of},
	{"int", "i", 'i', CEL_GLOBAL, same},
	{"int", "u", 'i', CEL_GLOBAL, int_of_uint},
	{"int", "f", 'i', CEL_GLOBAL, int_of_double},
	{"int", "s", 'i', CEL_GLOBAL, int_of_string},
	{"int", "t", 'i', CEL_GLOBAL, int_of_timestamp},
	{"uint", "u", 'u', CEL_GLOBAL, same},
	{"uint", "i", 'u', CEL_GLOBAL, uint_of_int},
	{"uint", "f", 'u', CEL_GLOBAL, uint_of_double},
	{"uint", "s", 'u', CEL_GLOBAL, uint_of_string},
	{"double", "f", 'f', CEL_GLOBAL, same},
	{"double", "i", 'f', CEL_GLOBAL, double_of_int},
	{"double", "u", 'f', CEL_GLOBAL, double_of_uint},
	{"double", "s", 'f', CEL_GLOBAL, double_of_string},
	{"string", "s", 's', CEL_GLOBAL, same},
	{"string", "b", 's', CEL_GLOBAL, string_of_bool},
	{"string", "i", 's', CEL_GLOBAL, string_of_int},
	{"string", "u", 's', CEL_GLOBAL, string_of_uint},
	{"string", "f", 's', CEL_GLOBAL, string_of_double},
	{"string", "y", 's', CEL_GLOBAL, string_of_bytes},
	{"string", "t", 's', CEL_GLOBAL, string_of_timestamp},
	{"string", "r", 's', CEL_GLOBAL, string_of_duration},
	{"bytes", "y", 'y', CEL_GLOBAL, same},
	{"bytes", "s", 'y', CEL_GLOBAL, bytes_of_string},
	{"bool", "b", 'b', CEL_GLOBAL, same},
	{"bool", "s", 'b', CEL_GLOBAL, bool_of_string},
	{"optional.of", "d", 'o', CEL_GLOBAL, optional_of},
	{"optional.ofNonZeroValue", "d", 'o', CEL_GLOBAL, optional_of_non_zero},
	{"optional.none", "", 'o', CEL_GLOBAL, optional_none},
	{"optional.unwrap", "l", 'l', CEL_GLOBAL, unwrap},
	{"unwrapOpt", "l", 'l', CEL_MEMBER, unwrap},
	{"hasValue", "o", 'b', CEL_MEMBER, has_value},
	{"value", "o", 'd', CEL_MEMBER, value_of},
	{"orValue", "od", 'd', CEL_MEMBER | CEL_EITHER, or_value},
	{"or", "oo", 'o', CEL_MEMBER | CEL_EITHER, or_optional},
	{NULL, NULL, 0, 0, NULL},
};
