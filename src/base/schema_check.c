#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/schema.h"
#include "base/schema_int.h"

/*
 * Checking: no allocation, and work bounded by STEPS_MAX visits of a node or comparisons of values, which
 * only schemas made to be slow, or unique lists of thousands, come near.
 */
enum { STEPS_MAX = 16 << 20 };

/* Where we are: a list up to the root, on the stack. */
struct path {
	const struct path *up;
	struct base_str key; /* ptr NULL: index */
	size_t index;
};

struct checker {
	uint64_t steps;
	struct base_err *err; /* NULL while alternatives are tried */
};

static int visit(struct checker *c, const struct schema_node *n, struct base_jv v, const struct path *at);

const char *schema_kind_name(enum base_json_kind kind)
{
	static const char *const names[] = {[BASE_JSON_NONE] = "nothing",
		[BASE_JSON_NULL] = "null",
		[BASE_JSON_BOOL] = "boolean",
		[BASE_JSON_INT] = "integer",
		[BASE_JSON_REAL] = "number",
		[BASE_JSON_STR] = "string",
		[BASE_JSON_ARR] = "array",
		[BASE_JSON_OBJ] = "object"};

	return names[kind];
}

/* As much of the JSON Pointer as fits; returns its length. */
static size_t put_pointer(char *to, size_t size, const struct path *at)
{
	size_t len, i;

	if (!at->up)
		return 0;
	len = put_pointer(to, size, at->up);
	if (len < size)
		to[len++] = '/';
	if (!at->key.ptr)
		len += (size_t)snprintf(to + len, size - len, "%zu", at->index);
	for (i = 0; i < at->key.len && len + 2 < size; i++) {
		char c = at->key.ptr[i];

		to[len++] = c == '/' ? '~' : c;
		if (c == '~' || c == '/')
			to[len++] = c == '~' ? '0' : '1';
	}
	return len < size ? len : size;
}

/* "at "/a/0": what is wrong". */
static int fail(struct checker *c, const struct path *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int fail(struct checker *c, const struct path *at, const char *fmt, ...)
{
	char what[256], place[256];
	va_list args;

	if (!c->err)
		return -EINVAL;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return base_err_set(
		c->err, -EINVAL, "at \"%.*s\": %s", (int)put_pointer(place, sizeof(place), at), place, what);
}

int schema_compare(struct base_jv a, struct base_jv b)
{
	double x, y;

	if (base_jv_kind(a) == BASE_JSON_INT && base_jv_kind(b) == BASE_JSON_INT) {
		int64_t i = base_jv_int(a, 0), j = base_jv_int(b, 0);

		return (i > j) - (i < j);
	}
	x = base_jv_real(a, 0);
	y = base_jv_real(b, 0);
	return (x > y) - (x < y);
}

static bool is_number(enum base_json_kind kind)
{
	return kind == BASE_JSON_INT || kind == BASE_JSON_REAL;
}

bool schema_equal(struct base_jv a, struct base_jv b, uint64_t *steps)
{
	enum base_json_kind kind = base_jv_kind(a);
	struct base_jv_iter i = {0}, j = {0};
	struct base_str key, other_key;
	struct base_jv x, y;

	if (*steps == 0)
		return false;
	--*steps;
	if (is_number(kind) && is_number(base_jv_kind(b)))
		return schema_compare(a, b) == 0;
	if (kind != base_jv_kind(b))
		return false;
	if (kind == BASE_JSON_BOOL)
		return base_jv_bool(a, false) == base_jv_bool(b, false);
	if (kind == BASE_JSON_STR)
		return base_str_eq(base_jv_str(a), base_jv_str(b));
	if (base_jv_len(a) != base_jv_len(b))
		return false;
	while (base_jv_next(a, &i, &key, &x)) {
		/* Mostly the keys stand in the same order. */
		base_jv_next(b, &j, &other_key, &y);
		if (!base_str_eq(key, other_key))
			y = base_jv_get_str(b, key);
		if (!schema_equal(x, y, steps))
			return false;
	}
	return true;
}

static bool whole(struct base_jv v)
{
	double d = base_jv_real(v, 0.5);

	return d == floor(d) && fabs(d) <= 9007199254740992.0;
}

static int check_type(struct checker *c, const struct schema_node *n, struct base_jv v,
	enum base_json_kind kind, const struct path *at)
{
	static const enum base_json_kind kinds[] = {BASE_JSON_OBJ, BASE_JSON_ARR, BASE_JSON_STR,
		BASE_JSON_REAL, BASE_JSON_INT, BASE_JSON_BOOL, BASE_JSON_NULL};
	char want[96] = "";
	size_t i;

	if (n->types & (1u << kind) || (kind == BASE_JSON_REAL && n->integer && whole(v)))
		return 0;
	if (!c->err)
		return -EINVAL;
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!(n->types & (1u << kinds[i])) || (kinds[i] == BASE_JSON_INT && !n->integer))
			continue;
		if (want[0])
			strcat(want, " or ");
		strcat(want, schema_kind_name(kinds[i]));
	}
	return fail(c, at, "must be %s, is %s", want, schema_kind_name(kind));
}

static int check_number(
	struct checker *c, const struct schema_node *n, struct base_jv v, const struct path *at)
{
	int order;

	if (n->has & HAS_MIN) {
		order = schema_compare(v, n->min.number);
		if (order < 0 || (order == 0 && n->min.exclusive))
			return fail(c, at, "must be %s %.15g", n->min.exclusive ? "more than" : "at least",
				base_jv_real(n->min.number, 0));
	}
	if (n->has & HAS_MAX) {
		order = schema_compare(v, n->max.number);
		if (order > 0 || (order == 0 && n->max.exclusive))
			return fail(c, at, "must be %s %.15g", n->max.exclusive ? "less than" : "at most",
				base_jv_real(n->max.number, 0));
	}
	if (n->has & HAS_MULTIPLE) {
		bool ok = base_jv_kind(v) == BASE_JSON_INT
				  ? base_jv_int(v, 0) % n->multiple == 0
				  : fmod(base_jv_real(v, 0), (double)n->multiple) == 0;

		if (!ok)
			return fail(c, at, "must be a multiple of %lld", (long long)n->multiple);
	}
	return 0;
}

/* Characters, not bytes: the string is valid UTF-8. */
static uint64_t characters(struct base_str s)
{
	uint64_t count = 0;
	size_t i;

	for (i = 0; i < s.len; i++)
		count += ((unsigned char)s.ptr[i] & 0xc0) != 0x80;
	return count;
}

static int check_string(
	struct checker *c, const struct schema_node *n, struct base_jv v, const struct path *at)
{
	static const char *const formats[] = {"", "an email address", "a URI", "a date (2026-01-31)",
		"a date and time (2026-01-31T12:00:00Z)"};
	struct base_str s = base_jv_str(v);
	uint64_t len;

	if (n->has & HAS_LENGTH) {
		len = characters(s);
		if (len < n->length_min)
			return fail(c, at, "must have at least %llu characters",
				(unsigned long long)n->length_min);
		if (len > n->length_max)
			return fail(c, at, "must have at most %llu characters",
				(unsigned long long)n->length_max);
	}
	if (n->pattern && !base_regex_search(n->pattern, s))
		return fail(c, at, "does not match the pattern");
	if (n->format && !schema_format_ok(n->format, s))
		return fail(c, at, "must be %s", formats[n->format]);
	return 0;
}

static int check_unique(struct checker *c, struct base_jv v, const struct path *at)
{
	struct base_jv_iter it = {0}, other;
	struct base_jv a, b;

	while (base_jv_next(v, &it, NULL, &a)) {
		for (other = it; base_jv_next(v, &other, NULL, &b);)
			if (schema_equal(a, b, &c->steps))
				return fail(c, at, "items %zu and %zu are equal", it.i - 1, other.i - 1);
	}
	return 0;
}

static int check_array(
	struct checker *c, const struct schema_node *n, struct base_jv v, const struct path *at)
{
	struct path here = {.up = at};
	struct base_jv_iter it = {0};
	struct base_jv item;
	int r;

	if (n->has & HAS_ITEMS) {
		if (base_jv_len(v) < n->items_min)
			return fail(c, at, "must have at least %llu items", (unsigned long long)n->items_min);
		if (base_jv_len(v) > n->items_max)
			return fail(c, at, "must have at most %llu items", (unsigned long long)n->items_max);
	}
	if (n->items || n->prefix.count > 0) {
		while (base_jv_next(v, &it, NULL, &item)) {
			const struct schema_node *sub = n->items;

			here.index = it.i - 1;
			if (here.index < n->prefix.count)
				sub = n->prefix.nodes[here.index];
			r = sub ? visit(c, sub, item, &here) : 0;
			if (r < 0)
				return r;
		}
	}
	return n->has & HAS_UNIQUE ? check_unique(c, v, at) : 0;
}

static int missing(struct checker *c, const struct schema_node *n, struct base_jv v, const struct path *at)
{
	size_t i;

	for (i = 0; i < n->prop_count; i++)
		if (n->props[i].required && !base_jv_get_str(v, n->props[i].name).v)
			return fail(c, at, "lacks the member \"%.*s\"",
				(int)(n->props[i].name.len < 100 ? n->props[i].name.len : 100),
				n->props[i].name.ptr);
	return 0;
}

static int check_object(
	struct checker *c, const struct schema_node *n, struct base_jv v, const struct path *at)
{
	struct path here = {.up = at};
	struct base_jv_iter it = {0};
	size_t required = 0, next = 0, i;
	struct base_jv sub;
	int r;

	while (base_jv_next(v, &it, &here.key, &sub)) {
		const struct schema_prop *p = NULL;

		/* Both sides are sorted most of the time: the search begins behind the last one found. */
		for (i = 0; i < n->prop_count && !p; i++) {
			size_t k = next + i < n->prop_count ? next + i : next + i - n->prop_count;

			if (base_str_eq(n->props[k].name, here.key)) {
				p = &n->props[k];
				next = k + 1;
			}
		}
		required += p && p->required;
		r = 0;
		if (p && p->node)
			r = visit(c, p->node, sub, &here);
		else if (n->closed)
			r = fail(c, at, "has the member \"%.*s\", which is not known",
				(int)(here.key.len < 100 ? here.key.len : 100), here.key.ptr);
		else if (n->additional)
			r = visit(c, n->additional, sub, &here);
		if (r < 0)
			return r;
	}
	return required < n->required_count ? missing(c, n, v, at) : 0;
}

static int check_choices(
	struct checker *c, const struct schema_node *n, struct base_jv v, const struct path *at)
{
	struct base_jv_iter it = {0};
	struct base_jv choice;

	if (n->has & HAS_CONST && !schema_equal(v, n->constant, &c->steps))
		return fail(c, at, "is not the constant that is wanted");
	if (!n->choices.v)
		return 0;
	while (base_jv_next(n->choices, &it, NULL, &choice))
		if (schema_equal(v, choice, &c->steps))
			return 0;
	return fail(c, at, "is not one of the values that are wanted");
}

/* Tries a schema without a message. */
static bool fits(struct checker *c, const struct schema_node *n, struct base_jv v, const struct path *at)
{
	struct base_err *err = c->err;
	int r;

	c->err = NULL;
	r = visit(c, n, v, at);
	c->err = err;
	return r == 0;
}

static int check_combined(
	struct checker *c, const struct schema_node *n, struct base_jv v, const struct path *at)
{
	size_t i, fitting = 0;
	int r = n->ref ? visit(c, n->ref, v, at) : 0;

	for (i = 0; i < n->all_of.count && r == 0; i++)
		r = visit(c, n->all_of.nodes[i], v, at);
	if (r < 0)
		return r;
	for (i = 0; i < n->any_of.count && fitting == 0; i++)
		fitting += fits(c, n->any_of.nodes[i], v, at);
	if (n->any_of.count > 0 && fitting == 0)
		return fail(c, at, "fits none of the forms that are wanted");
	for (i = 0, fitting = 0; i < n->one_of.count && fitting < 2; i++)
		fitting += fits(c, n->one_of.nodes[i], v, at);
	if (n->one_of.count > 0 && fitting != 1)
		return fail(
			c, at, "fits %s of the forms of which one is wanted", fitting ? "several" : "none");
	if (n->not_ && fits(c, n->not_, v, at))
		return fail(c, at, "has a form that is not wanted");
	return 0;
}

static int visit(struct checker *c, const struct schema_node *n, struct base_jv v, const struct path *at)
{
	enum base_json_kind kind = base_jv_kind(v);
	int r = 0;

	if (c->steps == 0)
		return -EINVAL;
	c->steps--;
	if (n->never)
		return fail(c, at, "is not wanted");
	if (n->types)
		r = check_type(c, n, v, kind, at);
	if (r == 0 && (n->choices.v || n->has & HAS_CONST))
		r = check_choices(c, n, v, at);
	if (r < 0)
		return r;
	if (is_number(kind))
		r = n->has & (HAS_MIN | HAS_MAX | HAS_MULTIPLE) ? check_number(c, n, v, at) : 0;
	else if (kind == BASE_JSON_STR)
		r = check_string(c, n, v, at);
	else if (kind == BASE_JSON_ARR)
		r = check_array(c, n, v, at);
	else if (kind == BASE_JSON_OBJ)
		r = check_object(c, n, v, at);
	if (r == 0 && (n->ref || n->all_of.count + n->any_of.count + n->one_of.count > 0 || n->not_))
		r = check_combined(c, n, v, at);
	return r;
}

int base_schema_check(const struct base_schema *s, struct base_jv value, struct base_err *err)
{
	struct checker c = {.steps = STEPS_MAX, .err = err};
	struct path root = {0};
	int r = visit(&c, s->root, value, &root);

	/* Out of steps, "not" and comparisons may have said anything. */
	if (c.steps == 0)
		return base_err_set(err, -EINVAL, "at \"\": checking this against its schema takes too long");
	return r;
}
