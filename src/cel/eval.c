#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cel/cel_int.h"

/*
 * A walk over the tree. Its depth is the tree's (at most CEL_DEPTH_MAX); its length is bounded by steps: when
 * they are gone every node answers with an error, and so does the whole.
 */
static struct cel_value eval(struct cel_run *run, const struct cel_node *n);

static struct cel_value named_error(struct cel_run *run, const char *what, struct base_str name)
{
	struct base_str text = base_arena_printf(run->arena, "%s: %.*s", what,
		(int)(name.len < 100 ? name.len : 100), name.len ? name.ptr : "");

	return text.ptr ? (struct cel_value){.kind = CEL_ERROR, .as.s = text} : cel_error(what);
}

static struct cel_value variable(struct cel_run *run, struct base_str name)
{
	unsigned i;

	for (i = 0; i < run->var_count; i++)
		if (base_str_eq(run->vars[i].name, name))
			return run->vars[i].value;
	return named_error(run, "no such variable", name);
}

static struct cel_value select_field(struct cel_run *run, struct cel_value of, const struct cel_node *n)
{
	struct cel_value v;

	if (of.kind == CEL_ERROR)
		return of;
	if (of.kind != CEL_MAP)
		return n->op == CEL_OP_HAS ? cel_no_overload()
					   : named_error(run, "not a map, so it has no field", n->name);
	if (cel_find(run, cel_box(of), cel_string(n->name), &v))
		return n->op == CEL_OP_HAS ? cel_bool(true) : v;
	return n->op == CEL_OP_HAS ? cel_bool(false) : named_error(run, "no such field", n->name);
}

/* A number that is whole as an int64: what may index a list. */
static bool whole(struct cel_value v, int64_t *ret)
{
	if (v.kind == CEL_INT)
		*ret = v.as.i;
	else if (v.kind == CEL_UINT && v.as.u <= INT64_MAX)
		*ret = (int64_t)v.as.u;
	else if (v.kind == CEL_DOUBLE && v.as.d == trunc(v.as.d) && fabs(v.as.d) < 9007199254740992.0)
		*ret = (int64_t)v.as.d;
	else
		return false;
	return true;
}

static struct cel_value index_of(struct cel_run *run, struct cel_value of, struct cel_value at)
{
	struct cel_value v;
	const struct cel_box *box;
	int64_t i;

	if (of.kind == CEL_ERROR || at.kind == CEL_ERROR)
		return of.kind == CEL_ERROR ? of : at;
	if (of.kind == CEL_MAP && (cel_is_key(at) || cel_is_number(at)))
		return cel_find(run, cel_box(of), at, &v) ? v : cel_error("no such key");
	if (of.kind != CEL_LIST || !cel_is_number(at))
		return cel_no_overload();
	box = cel_box(of);
	if (!whole(at, &i) || i < 0 || (uint64_t)i >= box->count)
		return cel_error("index out of range");
	if (!box->json.v)
		return box->items[i];
	if (!cel_pay(run, 1 + (uint64_t)i / 16))
		return cel_null();
	return cel_json(base_jv_at(box->json, (size_t)i), run->arena);
}

static struct cel_value membership(struct cel_run *run, struct cel_value what, struct cel_value in)
{
	struct cel_box_iter it = {0};
	struct cel_value key, v;

	if (what.kind == CEL_ERROR || in.kind == CEL_ERROR)
		return what.kind == CEL_ERROR ? what : in;
	if (in.kind == CEL_MAP)
		return cel_bool(
			(cel_is_key(what) || cel_is_number(what)) && cel_find(run, cel_box(in), what, &v));
	if (in.kind != CEL_LIST)
		return cel_no_overload();
	while (cel_box_next(cel_box(in), false, &it, run, &key, &v))
		if (cel_equal(run, what, v))
			return cel_bool(true);
	return cel_bool(false);
}

static struct cel_value make_box(
	struct cel_run *run, enum cel_kind kind, const struct cel_value *items, size_t count)
{
	struct cel_box *box = base_arena_alloc(run->arena, sizeof(*box));

	if (!box)
		return cel_no_memory();
	*box = (struct cel_box){.count = count, .items = items};
	return cel_box_value(kind, box);
}

static struct cel_value literal(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value *items = base_arena_array(run->arena, n->arg_count, sizeof(*items));
	unsigned i, j;

	if (!items)
		return cel_no_memory();
	for (i = 0; i < n->arg_count; i++) {
		items[i] = eval(run, n->args[i]);
		if (items[i].kind == CEL_ERROR)
			return items[i];
		if (n->op == CEL_OP_LIST || i % 2)
			continue;
		if (!cel_is_key(items[i]))
			return cel_error("a map's key must be a bool, an int, a uint or a string");
		for (j = 0; j < i; j += 2)
			if (cel_equal(run, items[j], items[i]))
				return cel_error("a key stands twice in a map");
	}
	if (n->op == CEL_OP_LIST)
		return make_box(run, CEL_LIST, items, n->arg_count);
	return make_box(run, CEL_MAP, items, n->arg_count / 2);
}

static struct cel_value call(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value args[CEL_ARGS_MAX];
	unsigned i;

	for (i = 0; i < n->arg_count; i++) {
		args[i] = eval(run, n->args[i]);
		if (args[i].kind == CEL_ERROR)
			return args[i];
	}
	return n->fn(run, n, args, n->arg_count);
}

/* && and ||: `decides` is the value with which one side alone settles it, even beside an error. */
static struct cel_value logic(struct cel_run *run, const struct cel_node *n, bool decides)
{
	struct cel_value left = eval(run, n->a), right;

	if (left.kind == CEL_BOOL && left.as.b == decides)
		return left;
	right = eval(run, n->b);
	if (right.kind == CEL_BOOL && (right.as.b == decides || left.kind == CEL_BOOL))
		return right;
	if (left.kind == CEL_ERROR)
		return left;
	return right.kind == CEL_ERROR ? right : cel_no_overload();
}

static struct cel_value compare(const struct cel_node *n, struct cel_value a, struct cel_value b)
{
	int order;

	if (!cel_order(a, b, &order)) {
		if (cel_is_number(a) && cel_is_number(b))
			return cel_bool(false); /* NaN */
		return cel_no_overload();
	}
	switch (n->op) {
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
			return cel_error("division by zero");
		overflow = a == INT64_MIN && b == -1;
		if (!overflow)
			v = op == CEL_OP_DIV ? a / b : a % b;
	}
	return overflow ? cel_error("integer overflow") : cel_int(v);
}

static struct cel_value uint_math(enum cel_op op, uint64_t a, uint64_t b)
{
	struct cel_value v = {.kind = CEL_UINT};
	bool overflow = false;

	switch (op) {
	case CEL_OP_ADD:
		overflow = __builtin_add_overflow(a, b, &v.as.u);
		break;
	case CEL_OP_SUB:
		overflow = __builtin_sub_overflow(a, b, &v.as.u);
		break;
	case CEL_OP_MUL:
		overflow = __builtin_mul_overflow(a, b, &v.as.u);
		break;
	default:
		if (b == 0)
			return cel_error("division by zero");
		v.as.u = op == CEL_OP_DIV ? a / b : a % b;
	}
	return overflow ? cel_error("integer overflow") : v;
}

static struct cel_value double_math(enum cel_op op, double a, double b)
{
	struct cel_value v = {.kind = CEL_DOUBLE};

	switch (op) {
	case CEL_OP_ADD:
		v.as.d = a + b;
		break;
	case CEL_OP_SUB:
		v.as.d = a - b;
		break;
	case CEL_OP_MUL:
		v.as.d = a * b;
		break;
	case CEL_OP_DIV:
		v.as.d = a / b;
		break;
	default:
		return cel_no_overload();
	}
	return v;
}

static struct cel_value join_strings(struct cel_run *run, struct base_str a, struct base_str b)
{
	char *to;

	if (!cel_pay(run, (a.len + b.len) / CEL_BYTES_A_STEP))
		return cel_null();
	to = base_arena_alloc(run->arena, a.len + b.len + 1);
	if (!to)
		return cel_no_memory();
	if (a.len)
		memcpy(to, a.ptr, a.len);
	if (b.len)
		memcpy(to + a.len, b.ptr, b.len);
	return cel_string((struct base_str){to, a.len + b.len});
}

static struct cel_value join_lists(struct cel_run *run, const struct cel_box *a, const struct cel_box *b)
{
	size_t count = a->count + b->count, i = 0;
	struct cel_box_iter x = {0}, y = {0};
	struct cel_value *items, key;

	if (!cel_pay(run, count))
		return cel_null();
	items = base_arena_array(run->arena, count, sizeof(*items));
	if (!items)
		return cel_no_memory();
	while (cel_box_next(a, false, &x, run, &key, &items[i]))
		i++;
	while (cel_box_next(b, false, &y, run, &key, &items[i]))
		i++;
	return make_box(run, CEL_LIST, items, count);
}

static struct cel_value arithmetic(
	struct cel_run *run, enum cel_op op, struct cel_value a, struct cel_value b)
{
	if (a.kind != b.kind)
		return cel_no_overload();
	switch (a.kind) {
	case CEL_INT:
		return int_math(op, a.as.i, b.as.i);
	case CEL_UINT:
		return uint_math(op, a.as.u, b.as.u);
	case CEL_DOUBLE:
		return double_math(op, a.as.d, b.as.d);
	case CEL_STRING:
		return op == CEL_OP_ADD ? join_strings(run, a.as.s, b.as.s) : cel_no_overload();
	case CEL_LIST:
		return op == CEL_OP_ADD ? join_lists(run, cel_box(a), cel_box(b)) : cel_no_overload();
	default:
		return cel_no_overload();
	}
}

static struct cel_value binary(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value a = eval(run, n->a), b;

	if (a.kind == CEL_ERROR)
		return a;
	b = eval(run, n->b);
	if (b.kind == CEL_ERROR)
		return b;
	switch (n->op) {
	case CEL_OP_EQ:
		return cel_bool(cel_equal(run, a, b));
	case CEL_OP_NE:
		return cel_bool(!cel_equal(run, a, b));
	case CEL_OP_IN:
		return membership(run, a, b);
	case CEL_OP_LT:
	case CEL_OP_LE:
	case CEL_OP_GT:
	case CEL_OP_GE:
		return compare(n, a, b);
	default:
		return arithmetic(run, n->op, a, b);
	}
}

static struct cel_value negate(struct cel_value v)
{
	if (v.kind == CEL_ERROR)
		return v;
	if (v.kind == CEL_DOUBLE)
		v.as.d = -v.as.d;
	else if (v.kind != CEL_INT)
		return cel_no_overload();
	else if (__builtin_sub_overflow((int64_t)0, v.as.i, &v.as.i))
		return cel_error("integer overflow");
	return v;
}

/* The next round of a macro: binds its variables. */
static bool next_round(
	struct cel_run *run, const struct cel_node *n, struct cel_value range, struct cel_box_iter *it)
{
	bool map = range.kind == CEL_MAP, two = n->value.as.b;
	struct cel_value key, v;

	if (!cel_pay(run, 1) || !cel_box_next(cel_box(range), map, it, run, &key, &v))
		return false;
	run->locals[n->local] = map || two ? key : v;
	if (two)
		run->locals[n->local + 1] = v;
	return true;
}

/* all and exists: the value `decides` ends it; an error counts only if nothing does. */
static struct cel_value quantifier(
	struct cel_run *run, const struct cel_node *n, struct cel_value range, bool decides)
{
	struct cel_value ret = cel_bool(!decides), v;
	struct cel_box_iter it = {0};

	while (next_round(run, n, range, &it)) {
		v = eval(run, n->b);
		if (v.kind == CEL_BOOL && v.as.b == decides)
			return v;
		if (v.kind != CEL_BOOL && ret.kind != CEL_ERROR)
			ret = v.kind == CEL_ERROR ? v : cel_no_overload();
	}
	return ret;
}

static struct cel_value exists_one(struct cel_run *run, const struct cel_node *n, struct cel_value range)
{
	struct cel_box_iter it = {0};
	struct cel_value v;
	size_t count = 0;

	while (next_round(run, n, range, &it)) {
		v = eval(run, n->b);
		if (v.kind != CEL_BOOL)
			return v.kind == CEL_ERROR ? v : cel_no_overload();
		count += v.as.b;
	}
	return cel_bool(count == 1);
}

static struct cel_value collect(struct cel_run *run, const struct cel_node *n, struct cel_value range)
{
	struct cel_value *items = base_arena_array(run->arena, cel_box(range)->count, sizeof(*items)), v;
	struct cel_box_iter it = {0};
	size_t count = 0;

	if (!items)
		return cel_no_memory();
	while (next_round(run, n, range, &it)) {
		if (n->b) {
			v = eval(run, n->b);
			if (v.kind != CEL_BOOL)
				return v.kind == CEL_ERROR ? v : cel_no_overload();
			if (!v.as.b)
				continue;
		}
		v = n->c ? eval(run, n->c) : run->locals[n->local];
		if (v.kind == CEL_ERROR)
			return v;
		items[count++] = v;
	}
	return make_box(run, CEL_LIST, items, count);
}

static struct cel_value macro(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value range = eval(run, n->a);

	if (range.kind == CEL_ERROR)
		return range;
	if (range.kind != CEL_LIST && range.kind != CEL_MAP)
		return cel_no_overload();
	switch (n->op) {
	case CEL_OP_ALL:
		return quantifier(run, n, range, false);
	case CEL_OP_EXISTS:
		return quantifier(run, n, range, true);
	case CEL_OP_EXISTS_ONE:
		return exists_one(run, n, range);
	default:
		return collect(run, n, range);
	}
}

static struct cel_value conditional(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value v = eval(run, n->a);

	if (v.kind == CEL_BOOL)
		return eval(run, v.as.b ? n->b : n->c);
	return v.kind == CEL_ERROR ? v : cel_no_overload();
}

static struct cel_value eval(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value v;

	if (!cel_pay(run, 1))
		return cel_error("took too many steps");
	switch (n->op) {
	case CEL_OP_CONST:
		return n->value;
	case CEL_OP_VAR:
		return variable(run, n->name);
	case CEL_OP_LOCAL:
		return run->locals[n->local];
	case CEL_OP_SELECT:
	case CEL_OP_HAS:
		return select_field(run, eval(run, n->a), n);
	case CEL_OP_INDEX:
		v = eval(run, n->a);
		return v.kind == CEL_ERROR ? v : index_of(run, v, eval(run, n->b));
	case CEL_OP_LIST:
	case CEL_OP_MAP:
		return literal(run, n);
	case CEL_OP_CALL:
		return call(run, n);
	case CEL_OP_NOT:
		v = eval(run, n->a);
		if (v.kind != CEL_BOOL)
			return v.kind == CEL_ERROR ? v : cel_no_overload();
		return cel_bool(!v.as.b);
	case CEL_OP_NEGATE:
		return negate(eval(run, n->a));
	case CEL_OP_IF:
		return conditional(run, n);
	case CEL_OP_AND:
		return logic(run, n, false);
	case CEL_OP_OR:
		return logic(run, n, true);
	case CEL_OP_ALL:
	case CEL_OP_EXISTS:
	case CEL_OP_EXISTS_ONE:
	case CEL_OP_COLLECT:
		return macro(run, n);
	default:
		return binary(run, n);
	}
}

int cel_compile(struct base_str source, struct cel_program **ret, struct base_err *err)
{
	enum { ARENA_MAX = 32 << 20 };
	struct cel_program *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return base_err_set(err, -ENOMEM, "out of memory");
	r = base_arena_new(ARENA_MAX, &p->arena);
	if (r < 0)
		base_err_set(err, r, "out of memory");
	else
		r = cel_parse(p, source, err);
	if (r < 0) {
		cel_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

void cel_free(struct cel_program *p)
{
	struct cel_regexes *r;

	if (!p)
		return;
	for (r = p->regexes; r; r = r->next)
		base_regex_free(r->regex);
	base_arena_free(p->arena);
	free(p);
}

struct cel_value cel_eval(const struct cel_program *p, const struct cel_binding *vars, unsigned count,
	struct base_arena *arena, uint64_t steps_max)
{
	struct cel_run run;
	struct cel_value v;

	/* The locals are set before they are read: clearing them would cost more than most rules. */
	run.vars = vars;
	run.var_count = count;
	run.arena = arena;
	run.steps = steps_max ? steps_max : CEL_STEPS;
	v = eval(&run, p->root);
	return run.steps == 0 ? cel_error("took too many steps") : v;
}
