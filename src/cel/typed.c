#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/real.h"
#include "cel/cel_int.h"

/* Values as JSON, with their types and without, and as expressions. */

/* --- reading --- */

static int refuse(struct base_err *err, const char *why)
{
	return base_err_set(err, -EINVAL, "not a typed value: %s", why);
}

static int whole_number(struct base_jv v, bool is_unsigned, struct cel_value *ret, struct base_err *err)
{
	struct base_str s = base_jv_str(v);
	bool minus = s.len && s.ptr[0] == '-';
	uint64_t u;

	if (base_jv_kind(v) == BASE_JSON_INT && (!is_unsigned || base_jv_int(v, 0) >= 0)) {
		*ret = is_unsigned ? cel_uint((uint64_t)base_jv_int(v, 0)) : cel_int(base_jv_int(v, 0));
		return 0;
	}
	if (base_str_u64(base_str_sub(s, minus, s.len), &u) < 0)
		return refuse(err, "int and uint are numbers, or text of digits");
	if (is_unsigned ? minus && u : u > (uint64_t)INT64_MAX + minus)
		return refuse(err, "a number out of range");
	*ret = is_unsigned ? cel_uint(u) : cel_int((int64_t)(minus ? 0 - u : u));
	return 0;
}

static int real(struct base_jv v, struct cel_value *ret, struct base_err *err)
{
	struct base_str s = base_jv_str(v);

	if (base_jv_kind(v) == BASE_JSON_INT || base_jv_kind(v) == BASE_JSON_REAL)
		*ret = cel_double(base_jv_real(v, 0));
	else if (base_str_is(s, "NaN"))
		*ret = cel_double(NAN);
	else if (base_str_is(s, "Infinity") || base_str_is(s, "inf") || base_str_is(s, "Inf"))
		*ret = cel_double(INFINITY);
	else if (base_str_is(s, "-Infinity") || base_str_is(s, "-inf") || base_str_is(s, "-Inf"))
		*ret = cel_double(-INFINITY);
	else
		return refuse(err, "a double is a number, \"NaN\", \"Infinity\" or \"-Infinity\"");
	return 0;
}

static int bytes(struct base_jv v, struct base_arena *arena, struct cel_value *ret, struct base_err *err)
{
	struct base_str s = base_jv_str(v);
	struct base_buf b;
	int r;

	base_buf_init(&b, CEL_STRING_MAX);
	r = base_b64_get(s, &b);
	if (r == 0)
		r = base_buf_failed(&b);
	if (r == 0) {
		*ret = cel_bytes(base_arena_dup(arena, base_buf_view(&b)));
		r = ret->as.s.ptr ? 0 : base_err_set(err, -ENOMEM, "out of memory");
	} else {
		refuse(err, "bytes are base64");
	}
	base_buf_done(&b);
	return r;
}

static int items(
	struct base_jv v, struct base_arena *arena, bool map, struct cel_value *ret, struct base_err *err)
{
	size_t count = base_jv_len(v), i = 0;
	struct cel_value *to = base_arena_array(arena, 2 * count + 1, sizeof(*to));
	struct base_jv_iter it = {0};
	struct base_jv item;
	int r = 0;

	if (base_jv_kind(v) != BASE_JSON_ARR)
		return refuse(err, map ? "a map is a list of pairs" : "a list is a list");
	if (!to)
		return base_err_set(err, -ENOMEM, "out of memory");
	while (r == 0 && base_jv_next(v, &it, NULL, &item)) {
		if (map && base_jv_len(item) != 2)
			return refuse(err, "a member of a map is [key, value]");
		r = cel_from_typed(map ? base_jv_at(item, 0) : item, arena, &to[i++], err);
		if (r == 0 && map && !cel_is_key(to[i - 1]))
			r = refuse(err, "a map's key is a bool, an int, a uint or a string");
		if (r == 0 && map)
			r = cel_from_typed(base_jv_at(item, 1), arena, &to[i++], err);
	}
	if (r == 0)
		*ret = map ? cel_map(to, count, arena) : cel_list(to, count, arena);
	return r;
}

static int seconds_nanos(struct base_jv v, bool timestamp, struct cel_value *ret, struct base_err *err)
{
	int64_t s = base_jv_int(base_jv_at(v, 0), INT64_MIN), ns = base_jv_int(base_jv_at(v, 1), INT64_MIN),
		all;

	if (base_jv_len(v) != 2 || s == INT64_MIN || ns <= -1000000000 || ns >= 1000000000)
		return refuse(err, "timestamp and duration are [seconds, nanoseconds]");
	if (timestamp) {
		*ret = cel_timestamp(s, (int32_t)ns);
		return ret->kind == CEL_ERROR ? refuse(err, "a timestamp out of range") : 0;
	}
	if (__builtin_mul_overflow(s, (int64_t)1000000000, &all) || __builtin_add_overflow(all, ns, &all))
		return refuse(err, "a duration out of range");
	*ret = cel_duration(all);
	return 0;
}

static int type_named(struct base_str name, struct cel_value *ret, struct base_err *err)
{
	for (enum cel_kind k = CEL_NULL; k < CEL_LAZY; k++)
		if (k != CEL_ERROR && base_str_is(name, cel_kind_name(k))) {
			*ret = cel_type_value(k);
			return 0;
		}
	return refuse(err, "a type that is not known");
}

int cel_from_typed(struct base_jv v, struct base_arena *arena, struct cel_value *ret, struct base_err *err)
{
	struct base_str type = base_jv_str(base_jv_get(v, "t"));
	struct base_jv value = base_jv_get(v, "v");

	if (base_str_is(type, "int") || base_str_is(type, "uint"))
		return whole_number(value, base_str_is(type, "uint"), ret, err);
	if (base_str_is(type, "double"))
		return real(value, ret, err);
	if (base_str_is(type, "bytes"))
		return bytes(value, arena, ret, err);
	if (base_str_is(type, "list") || base_str_is(type, "map"))
		return items(value, arena, base_str_is(type, "map"), ret, err);
	if (base_str_is(type, "timestamp") || base_str_is(type, "duration"))
		return seconds_nanos(value, base_str_is(type, "timestamp"), ret, err);
	if (base_str_is(type, "type"))
		return type_named(base_jv_str(value), ret, err);
	if ((base_str_is(type, "string") && base_jv_kind(value) == BASE_JSON_STR) ||
		(base_str_is(type, "bool") && base_jv_kind(value) == BASE_JSON_BOOL) ||
		(base_str_is(type, "null") && base_jv_kind(value) == BASE_JSON_NULL)) {
		*ret = cel_json(value);
		return 0;
	}
	return refuse(err, "it is {\"t\": type, \"v\": value}");
}

/* --- writing --- */

static const char *special(double d)
{
	return isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity";
}

static void put_real(struct base_buf *b, double d)
{
	char text[BASE_REAL_MAX];

	if (d == 0 && signbit(d))
		base_buf_cstr(b, "-0.0");
	else
		base_buf_put(b, text, base_real_text(d, text));
}

static void put_json_real(struct base_buf *b, double d)
{
	if (isfinite(d)) {
		put_real(b, d);
		return;
	}
	base_buf_char(b, '"');
	base_buf_cstr(b, special(d));
	base_buf_char(b, '"');
}

static void put_base64(struct base_buf *b, struct base_str s)
{
	base_buf_char(b, '"');
	base_b64_put(b, s);
	base_buf_char(b, '"');
}

static void put_digits(struct base_buf *b, struct cel_value v)
{
	if (v.kind == CEL_UINT)
		base_buf_u64(b, v.as.u);
	else
		base_buf_i64(b, v.as.i);
}

static void put_items(
	struct base_buf *b, struct cel_value v, void (*put)(struct base_buf *b, struct cel_value v))
{
	struct cel_iter it = cel_iter_of(v);
	struct cel_value key, item;

	base_buf_char(b, '[');
	while (!base_buf_failed(b) && cel_next(v, &it, &key, &item)) {
		if (it.i > 1)
			base_buf_cstr(b, ", ");
		if (v.kind == CEL_MAP) {
			base_buf_char(b, '[');
			put(b, key);
			base_buf_cstr(b, ", ");
		}
		put(b, item);
		if (v.kind == CEL_MAP)
			base_buf_char(b, ']');
	}
	base_buf_char(b, ']');
}

static void put_time(struct base_buf *b, struct cel_value v)
{
	bool timestamp = v.kind == CEL_TIMESTAMP;

	base_buf_char(b, '[');
	base_buf_i64(b, timestamp ? v.as.time.s : v.as.i / 1000000000);
	base_buf_cstr(b, ", ");
	base_buf_i64(b, timestamp ? v.as.time.ns : v.as.i % 1000000000);
	base_buf_char(b, ']');
}

static const char *typed_name(enum cel_kind kind)
{
	switch (kind) {
	case CEL_NULL:
		return "null";
	case CEL_TIMESTAMP:
		return "timestamp";
	case CEL_DURATION:
		return "duration";
	case CEL_OPTIONAL:
		return "optional";
	default:
		return cel_kind_name(kind);
	}
}

void cel_put_typed(struct base_buf *b, struct cel_value v)
{
	base_buf_cstr(b, "{\"t\": \"");
	base_buf_cstr(b, typed_name(v.kind));
	base_buf_cstr(b, "\", \"v\": ");
	switch (v.kind) {
	case CEL_INT:
	case CEL_UINT:
		base_buf_char(b, '"');
		put_digits(b, v);
		base_buf_char(b, '"');
		break;
	case CEL_TYPE:
		base_json_quote(b, v.as.s);
		break;
	case CEL_LIST:
	case CEL_MAP:
		put_items(b, v, cel_put_typed);
		break;
	case CEL_TIMESTAMP:
	case CEL_DURATION:
		put_time(b, v);
		break;
	case CEL_OPTIONAL:
		if (cel_optional_get(v))
			cel_put_typed(b, *cel_optional_get(v));
		else
			base_buf_cstr(b, "null");
		break;
	default:
		cel_put_json(b, v);
	}
	base_buf_char(b, '}');
}

static void put_time_text(struct base_buf *b, struct cel_value v)
{
	char text[CEL_TIME_TEXT_MAX];

	base_json_quote(b, (struct base_str){text, v.kind == CEL_TIMESTAMP ? cel_timestamp_text(v, text)
									   : cel_duration_text(v, text)});
}

static void put_object(struct base_buf *b, struct cel_value v)
{
	struct cel_iter it = cel_iter_of(v);
	struct cel_value key, item;

	base_buf_char(b, '{');
	while (!base_buf_failed(b) && cel_next(v, &it, &key, &item)) {
		if (it.i > 1)
			base_buf_cstr(b, ", ");
		if (key.kind == CEL_STRING) {
			base_json_quote(b, key.as.s);
		} else {
			base_buf_char(b, '"');
			cel_put_json(b, key);
			base_buf_char(b, '"');
		}
		base_buf_cstr(b, ": ");
		cel_put_json(b, item);
	}
	base_buf_char(b, '}');
}

void cel_put_json(struct base_buf *b, struct cel_value v)
{
	switch (v.kind) {
	case CEL_BOOL:
		base_buf_cstr(b, v.as.b ? "true" : "false");
		break;
	case CEL_INT:
	case CEL_UINT:
		put_digits(b, v);
		break;
	case CEL_DOUBLE:
		put_json_real(b, v.as.d);
		break;
	case CEL_STRING:
	case CEL_TYPE:
	case CEL_ERROR:
		base_json_quote(b, v.as.s);
		break;
	case CEL_BYTES:
		put_base64(b, v.as.s);
		break;
	case CEL_TIMESTAMP:
	case CEL_DURATION:
		put_time_text(b, v);
		break;
	case CEL_LIST:
		put_items(b, v, cel_put_json);
		break;
	case CEL_MAP:
		put_object(b, v);
		break;
	case CEL_OPTIONAL:
		cel_put_json(b, cel_optional_get(v) ? *cel_optional_get(v) : cel_null());
		break;
	default:
		base_buf_cstr(b, "null");
	}
}

/* --- as an expression --- */

static void text_of_double(struct base_buf *b, double d)
{
	size_t from = b->len;

	if (!isfinite(d)) {
		base_buf_cstr(b, "double(\"");
		base_buf_cstr(b, special(d));
		base_buf_cstr(b, "\")");
		return;
	}
	put_real(b, d);
	if (!base_buf_failed(b) && !memchr(b->ptr + from, '.', b->len - from) &&
		!memchr(b->ptr + from, 'e', b->len - from))
		base_buf_cstr(b, ".0");
}

static void text_of_bytes(struct base_buf *b, struct base_str s)
{
	static const char hex[] = "0123456789abcdef";

	base_buf_cstr(b, "b\"");
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
			base_buf_char(b, (char)c);
		else
			base_buf_put(b, (char[]){'\\', 'x', hex[c >> 4], hex[c & 15]}, 4);
	}
	base_buf_char(b, '"');
}

static void text_of_map(struct base_buf *b, struct cel_value v)
{
	struct cel_iter it = cel_iter_of(v);
	struct cel_value key, item;

	base_buf_char(b, '{');
	while (!base_buf_failed(b) && cel_next(v, &it, &key, &item)) {
		if (it.i > 1)
			base_buf_cstr(b, ", ");
		cel_put_text(b, key);
		base_buf_cstr(b, ": ");
		cel_put_text(b, item);
	}
	base_buf_char(b, '}');
}

static void text_of_optional(struct base_buf *b, struct cel_value v)
{
	if (!cel_optional_get(v)) {
		base_buf_cstr(b, "optional.none()");
		return;
	}
	base_buf_cstr(b, "optional.of(");
	cel_put_text(b, *cel_optional_get(v));
	base_buf_char(b, ')');
}

void cel_put_text(struct base_buf *b, struct cel_value v)
{
	switch (v.kind) {
	case CEL_UINT:
		base_buf_u64(b, v.as.u);
		base_buf_char(b, 'u');
		break;
	case CEL_DOUBLE:
		text_of_double(b, v.as.d);
		break;
	case CEL_BYTES:
		text_of_bytes(b, v.as.s);
		break;
	case CEL_TYPE:
	case CEL_ERROR:
		base_buf_str(b, v.as.s);
		break;
	case CEL_TIMESTAMP:
	case CEL_DURATION:
		base_buf_cstr(b, v.kind == CEL_TIMESTAMP ? "timestamp(" : "duration(");
		put_time_text(b, v);
		base_buf_char(b, ')');
		break;
	case CEL_LIST:
		put_items(b, v, cel_put_text);
		break;
	case CEL_MAP:
		text_of_map(b, v);
		break;
	case CEL_OPTIONAL:
		text_of_optional(b, v);
		break;
	default:
		cel_put_json(b, v);
	}
}
