#include <errno.h>
#include <math.h>
#include <string.h>

#include "cel/cel_int.h"

/* Cases: an expression, variables, and what it must give. */

static bool same_lists(struct cel_value a, struct cel_value b)
{
	struct cel_iter i = cel_iter_of(a), j = cel_iter_of(b);
	struct cel_value key, x, y;

	while (cel_next(a, &i, &key, &x) && cel_next(b, &j, &key, &y))
		if (!cel_same(x, y))
			return false;
	return i.count == j.count;
}

/* Whatever the order of their members. */
static bool same_maps(struct cel_value a, struct cel_value b)
{
	struct cel_iter i = cel_iter_of(a);
	struct cel_value key, x, other, y;

	while (cel_next(a, &i, &key, &x)) {
		struct cel_iter j = cel_iter_of(b);
		bool found = false;

		while (!found && cel_next(b, &j, &other, &y))
			found = cel_same(key, other);
		if (!found || !cel_same(x, y))
			return false;
	}
	return i.count == cel_count(b);
}

bool cel_same(struct cel_value a, struct cel_value b)
{
	if (a.kind != b.kind)
		return false;
	switch (a.kind) {
	case CEL_BOOL:
		return a.as.b == b.as.b;
	case CEL_INT:
	case CEL_UINT:
	case CEL_DURATION:
		return a.as.u == b.as.u;
	case CEL_DOUBLE:
		return a.as.d == b.as.d || (isnan(a.as.d) && isnan(b.as.d));
	case CEL_STRING:
	case CEL_BYTES:
	case CEL_TYPE:
		return base_str_eq(a.as.s, b.as.s);
	case CEL_LIST:
		return same_lists(a, b);
	case CEL_MAP:
		return same_maps(a, b);
	case CEL_TIMESTAMP:
		return a.as.time.s == b.as.time.s && a.as.time.ns == b.as.time.ns;
	case CEL_OPTIONAL:
		if (!cel_optional_get(a) || !cel_optional_get(b))
			return cel_optional_get(a) == cel_optional_get(b);
		return cel_same(*cel_optional_get(a), *cel_optional_get(b));
	default:
		return a.kind == CEL_NULL;
	}
}

struct trial {
	struct base_arena *arena;
	struct cel_var vars[CEL_SLOTS_MAX];
	struct cel_binding bound[CEL_SLOTS_MAX];
	struct cel_env env;
	struct base_buf *why;
};

static int bind(struct trial *t, struct base_jv vars)
{
	struct base_jv_iter it = {0};
	struct base_str name;
	struct base_jv v;
	struct base_err err;

	while (base_jv_next(vars, &it, &name, &v)) {
		unsigned n = t->env.count;

		if (n == CEL_SLOTS_MAX) {
			base_buf_cstr(t->why, "too many variables");
			return -EINVAL;
		}
		t->bound[n].name = name;
		if (cel_from_typed(v, t->arena, &t->bound[n].value, &err) < 0) {
			base_buf_cstr(t->why, err.text);
			return -EINVAL;
		}
		t->vars[n] = (struct cel_var){name, t->bound[n].value.kind};
		t->env.count++;
	}
	t->env.vars = t->vars;
	return 0;
}

/* What must fail may do so when it is checked, types included; what must give a value may be of any type. */
static int judge(struct trial *t, struct base_jv c, const struct cel_limits *limits)
{
	bool fails = base_jv_bool(base_jv_get(c, "error"), false);
	struct cel_value want = cel_null(), got;
	struct cel_program *p;
	struct base_err err;
	int r;

	if (!fails && cel_from_typed(base_jv_get(c, "want"), t->arena, &want, &err) < 0) {
		base_buf_cstr(t->why, err.text);
		return -EINVAL;
	}
	t->env.untyped = t->env.unbound = t->env.open = !fails;
	if (cel_compile_in(base_jv_str(base_jv_get(c, "expr")), &t->env, &p, &err) < 0) {
		base_buf_cstr(t->why, err.text);
		return fails ? 0 : -EBADMSG;
	}
	got = cel_eval_with(p, t->bound, t->env.count, t->arena, limits);
	r = fails ? got.kind == CEL_ERROR : cel_same(got, want);
	base_buf_cstr(t->why, "it gives ");
	cel_put_text(t->why, got);
	if (!fails) {
		base_buf_cstr(t->why, ", not ");
		cel_put_text(t->why, want);
	}
	cel_free(p);
	return r ? 0 : -EBADMSG;
}

int cel_case(struct base_jv c, const struct cel_limits *limits, struct base_buf *why)
{
	struct trial t = {.why = why};
	int r;

	if (base_jv_kind(base_jv_get(c, "expr")) != BASE_JSON_STR) {
		base_buf_cstr(why, "a case has `expr`, `vars` and either `want` or `error`");
		return -EINVAL;
	}
	r = base_arena_new(64 << 20, &t.arena);
	if (r == 0)
		r = bind(&t, base_jv_get(c, "vars"));
	if (r == 0)
		r = judge(&t, c, limits);
	base_arena_free(t.arena);
	return r;
}
