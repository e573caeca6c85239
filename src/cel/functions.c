#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cel/cel_int.h"

#define ARGS struct cel_run *run, const struct cel_node *n, const struct cel_value *args, unsigned count

static struct cel_value uint_value(uint64_t u)
{
	return (struct cel_value){.kind = CEL_UINT, .as.u = u};
}

static uint64_t characters(struct base_str s)
{
	uint64_t count = 0;
	size_t i;

	for (i = 0; i < s.len; i++)
		count += ((unsigned char)s.ptr[i] & 0xc0) != 0x80;
	return count;
}

static struct cel_value size_of(ARGS)
{
	(void)n;
	(void)count;
	if (args[0].kind == CEL_LIST || args[0].kind == CEL_MAP)
		return cel_int((int64_t)cel_box(args[0])->count);
	if (args[0].kind != CEL_STRING)
		return cel_no_overload();
	if (!cel_pay(run, args[0].as.s.len / CEL_BYTES_A_STEP))
		return cel_null();
	return cel_int((int64_t)characters(args[0].as.s));
}

/* Two strings, paid for; false: *ret says why. */
static bool two_strings(struct cel_run *run, const struct cel_value *args, struct cel_value *ret)
{
	if (args[0].kind != CEL_STRING || args[1].kind != CEL_STRING) {
		*ret = cel_no_overload();
		return false;
	}
	*ret = cel_null();
	return cel_pay(run, (args[0].as.s.len + args[1].as.s.len) / CEL_BYTES_A_STEP);
}

static struct cel_value contains(ARGS)
{
	struct base_str s = args[0].as.s, what = args[1].as.s;
	struct cel_value ret;

	(void)n;
	(void)count;
	if (!two_strings(run, args, &ret))
		return ret;
	return cel_bool(what.len == 0 || (s.len > 0 && memmem(s.ptr, s.len, what.ptr, what.len) != NULL));
}

static struct cel_value starts_with(ARGS)
{
	struct cel_value ret;

	(void)n;
	(void)count;
	return two_strings(run, args, &ret) ? cel_bool(base_str_starts(args[0].as.s, args[1].as.s)) : ret;
}

static struct cel_value ends_with(ARGS)
{
	struct cel_value ret;

	(void)n;
	(void)count;
	return two_strings(run, args, &ret) ? cel_bool(base_str_ends(args[0].as.s, args[1].as.s)) : ret;
}

struct cel_value cel_call_matches(ARGS)
{
	struct base_regex *re;
	struct cel_value ret;

	(void)count;
	if (!two_strings(run, args, &ret) || !cel_pay(run, args[0].as.s.len))
		return ret;
	if (n->regex)
		return cel_bool(base_regex_search(n->regex, args[0].as.s));
	if (base_regex_compile(args[1].as.s, &re, NULL) < 0)
		return cel_error("not a regular expression that can be used");
	ret = cel_bool(base_regex_search(re, args[0].as.s));
	base_regex_free(re);
	return ret;
}

static struct cel_value to_int(ARGS)
{
	struct cel_value v = args[0];
	int64_t i;

	(void)run;
	(void)n;
	(void)count;
	switch (v.kind) {
	case CEL_INT:
		return v;
	case CEL_UINT:
		return v.as.u <= INT64_MAX ? cel_int((int64_t)v.as.u) : cel_error("out of the range of int");
	case CEL_DOUBLE:
		if (!(v.as.d > -9223372036854775808.0 && v.as.d < 9223372036854775808.0))
			return cel_error("out of the range of int");
		return cel_int((int64_t)v.as.d);
	case CEL_STRING:
		return base_str_i64(v.as.s, &i) == 0 ? cel_int(i) : cel_error("not an int");
	default:
		return cel_no_overload();
	}
}

static struct cel_value to_uint(ARGS)
{
	struct cel_value v = args[0];
	uint64_t u;

	(void)run;
	(void)n;
	(void)count;
	switch (v.kind) {
	case CEL_UINT:
		return v;
	case CEL_INT:
		return v.as.i >= 0 ? uint_value((uint64_t)v.as.i) : cel_error("out of the range of uint");
	case CEL_DOUBLE:
		if (!(v.as.d >= 0 && v.as.d < 18446744073709551616.0))
			return cel_error("out of the range of uint");
		return uint_value((uint64_t)v.as.d);
	case CEL_STRING:
		return base_str_u64(v.as.s, &u) == 0 ? uint_value(u) : cel_error("not a uint");
	default:
		return cel_no_overload();
	}
}

static bool parse_double(struct base_str s, double *ret)
{
	static const struct {
		const char *name;
		double value;
	} special[] = {{"NaN", NAN}, {"Inf", INFINITY}, {"inf", INFINITY}, {"+Inf", INFINITY},
		{"+inf", INFINITY}, {"-Inf", -INFINITY}, {"-inf", -INFINITY}};
	char text[512], *end;
	size_t i;

	for (i = 0; i < sizeof(special) / sizeof(special[0]); i++)
		if (base_str_is(s, special[i].name)) {
			*ret = special[i].value;
			return true;
		}

	if (s.len == 0 || s.len >= sizeof(text))
		return false;
	for (i = 0; i < s.len; i++)
		if (!memchr("0123456789+-.eE", s.ptr[i], 15))
			return false;
	memcpy(text, s.ptr, s.len);
	text[s.len] = '\0';
	*ret = strtod(text, &end);
	return *end == '\0';
}

static struct cel_value to_double(ARGS)
{
	struct cel_value v = {.kind = CEL_DOUBLE};

	(void)run;
	(void)n;
	(void)count;
	switch (args[0].kind) {
	case CEL_DOUBLE:
		return args[0];
	case CEL_INT:
		v.as.d = (double)args[0].as.i;
		return v;
	case CEL_UINT:
		v.as.d = (double)args[0].as.u;
		return v;
	case CEL_STRING:
		if (!parse_double(args[0].as.s, &v.as.d))
			return cel_error("not a double");
		return v;
	default:
		return cel_no_overload();
	}
}

static struct cel_value to_string(ARGS)
{
	struct base_str s;
	struct base_buf b;
	struct base_jw w;

	(void)n;
	(void)count;
	if (args[0].kind == CEL_STRING)
		return args[0];
	base_buf_init(&b, 64);
	w = base_jw_of(&b);
	if (args[0].kind == CEL_INT)
		base_jw_int(&w, args[0].as.i);
	else if (args[0].kind == CEL_UINT)
		base_jw_uint(&w, args[0].as.u);
	else if (args[0].kind == CEL_BOOL)
		base_jw_bool(&w, args[0].as.b);
	else if (args[0].kind == CEL_DOUBLE && isfinite(args[0].as.d))
		base_jw_real(&w, args[0].as.d);
	else if (args[0].kind == CEL_DOUBLE)
		base_buf_cstr(&b, isnan(args[0].as.d) ? "NaN" : args[0].as.d > 0 ? "+Inf" : "-Inf");
	else
		return cel_no_overload();
	s = base_buf_failed(&b) ? BASE_STR_NONE : base_arena_dup(run->arena, base_buf_view(&b));
	base_buf_done(&b);
	return s.ptr ? cel_string(s) : cel_no_memory();
}

static struct cel_value to_bool(ARGS)
{
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
	static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
	size_t i;

	(void)run;
	(void)n;
	(void)count;
	if (args[0].kind == CEL_BOOL)
		return args[0];
	if (args[0].kind != CEL_STRING)
		return cel_no_overload();
	for (i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		if (base_str_is(args[0].as.s, yes[i]) || base_str_is(args[0].as.s, no[i]))
			return cel_bool(base_str_is(args[0].as.s, yes[i]));
	return cel_error("not a bool");
}

const struct cel_function *cel_function_find(struct base_str name)
{
	static const struct cel_function functions[] = {
		{"size", true, true, 1, size_of},
		{"contains", true, false, 2, contains},
		{"startsWith", true, false, 2, starts_with},
		{"endsWith", true, false, 2, ends_with},
		{"matches", true, true, 2, cel_call_matches},
		{"int", false, true, 1, to_int},
		{"uint", false, true, 1, to_uint},
		{"double", false, true, 1, to_double},
		{"string", false, true, 1, to_string},
		{"bool", false, true, 1, to_bool},
	};
	size_t i;

	for (i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		if (base_str_is(name, functions[i].name))
			return &functions[i];
	return NULL;
}
