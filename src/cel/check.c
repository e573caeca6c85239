#include <errno.h>
#include <string.h>

#include "cel/cel_int.h"

/*
 * After parsing: names become slots and locals, calls find their functions, constants are folded, and what no evaluation
 * could do is refused. Types are kept as far as they are known; CEL_DYN fits everywhere, so nothing is refused that could
 * succeed, but for what an operand of && and || hides.
 */
enum { TYPE_DEPTH_MAX = 6 };

struct type {
	enum cel_kind kind;
	unsigned depth;
	const struct type *key, *of; /* of lists, maps and optionals; NULL: any */
};

struct scope {
	const struct scope *up;
	struct base_str name;
	unsigned local;
	const struct type *type;
};

struct checker {
	struct cel_program *p;
	struct base_str source;
	const struct cel_env *env;
	struct base_err *err;
	const struct scope *scope;
	unsigned locals;
	struct cel_run fold;
	int failed;
};

static const struct type plain[] = {[CEL_NULL] = {.kind = CEL_NULL},
	[CEL_BOOL] = {.kind = CEL_BOOL},
	[CEL_INT] = {.kind = CEL_INT},
	[CEL_UINT] = {.kind = CEL_UINT},
	[CEL_DOUBLE] = {.kind = CEL_DOUBLE},
	[CEL_STRING] = {.kind = CEL_STRING},
	[CEL_LIST] = {.kind = CEL_LIST},
	[CEL_MAP] = {.kind = CEL_MAP},
	[CEL_ERROR] = {.kind = CEL_DYN},
	[CEL_BYTES] = {.kind = CEL_BYTES},
	[CEL_TYPE] = {.kind = CEL_TYPE},
	[CEL_TIMESTAMP] = {.kind = CEL_TIMESTAMP},
	[CEL_DURATION] = {.kind = CEL_DURATION},
	[CEL_OPTIONAL] = {.kind = CEL_OPTIONAL},
	[CEL_LAZY] = {.kind = CEL_DYN},
	[CEL_DYN] = {.kind = CEL_DYN}};

static const struct type *check(struct checker *c, struct cel_node *n);

static const struct type *any_type(void)
{
	return &plain[CEL_DYN];
}

/* The first thing that is wrong stays. */
static const struct type *refuse(struct checker *c, const struct cel_node *n, const char *why)
{
	if (c->failed == 0)
		c->failed = cel_refuse(c->err, c->source, n->at, why);
	return any_type();
}

static const struct type *refuse_name(
	struct checker *c, const struct cel_node *n, const char *what, struct base_str name)
{
	char text[160];
	size_t at = strlen(what), len = name.len < 100 ? name.len : 100;

	while (len < name.len && len && ((unsigned char)name.ptr[len] & 0xc0) == 0x80)
		len--;
	memcpy(text, what, at);
	text[at++] = ' ';
	memcpy(text + at, name.ptr, len);
	text[at + len] = '\0';
	return refuse(c, n, text);
}

static const struct type *no_memory(struct checker *c)
{
	if (c->failed == 0)
		c->failed = base_err_set(
			c->err, -ENOMEM, "the expression is too large: it takes too much memory");
	return any_type();
}

/* --- types --- */

static bool is(const struct type *t, enum cel_kind kind)
{
	return t->kind == kind || t->kind == CEL_DYN;
}

static bool is_number(const struct type *t)
{
	return t->kind == CEL_INT || t->kind == CEL_UINT || t->kind == CEL_DOUBLE;
}

static const struct type *part(const struct type *t)
{
	return t ? t : any_type();
}

static const struct type *of_type(
	struct checker *c, enum cel_kind kind, const struct type *key, const struct type *of)
{
	unsigned depth = of->depth > key->depth ? of->depth : key->depth;
	struct type *t;

	if (depth >= TYPE_DEPTH_MAX)
		return &plain[kind];
	t = base_arena_alloc(c->p->arena, sizeof(*t));
	if (!t)
		return no_memory(c);
	*t = (struct type){.kind = kind, .depth = depth + 1, .key = key, .of = of};
	return t;
}

static bool same(const struct type *a, const struct type *b)
{
	return a == b ||
	       (a->kind == b->kind && same(part(a->key), part(b->key)) && same(part(a->of), part(b->of)));
}

static const struct type *joined(const struct type *a, const struct type *b)
{
	if (same(a, b))
		return a;
	return a->kind == b->kind ? &plain[a->kind] : any_type();
}

static const struct type *of_constant(struct cel_value v)
{
	return &plain[v.kind];
}

/* Whether two values of these types could ever be equal. */
static bool comparable(const struct type *a, const struct type *b)
{
	return a->kind == CEL_DYN || b->kind == CEL_DYN || a->kind == b->kind ||
	       (is_number(a) && is_number(b)) || a->kind == CEL_NULL || b->kind == CEL_NULL;
}

/* --- folding --- */

static bool constant(const struct cel_node *n)
{
	return !n || n->op == CEL_OP_CONST;
}

static bool foldable(const struct cel_node *n)
{
	uint32_t i;

	if (n->op <= CEL_OP_LOCAL || n->op == CEL_OP_MAYBE || n->op >= CEL_OP_ALL)
		return false;
	if (n->op == CEL_OP_CALL && (n->fn->style & CEL_ZONED || n->fn[n->fn_count - 1].style & CEL_ZONED))
		return false;
	for (i = 0; i < n->arg_count; i++)
		if (!constant(n->args[i]))
			return false;
	return constant(n->a) && constant(n->b) && constant(n->c);
}

/* What fails is left as it is: it fails when it is evaluated, if it is. */
static void fold(struct checker *c, struct cel_node *n)
{
	enum { NODE_STEPS = 2000 };
	uint64_t left = c->fold.steps;
	struct cel_value v;
	bool failed;

	if (!foldable(n) || left <= NODE_STEPS)
		return;
	c->fold.steps = NODE_STEPS;
	v = cel_eval_node(&c->fold, n);
	c->fold.steps = left - (NODE_STEPS - c->fold.steps);
	failed = c->fold.stopped || v.kind == CEL_ERROR; /* what ran out has given anything */
	c->fold.stopped = NULL;
	if (failed)
		return;
	n->value = v;
	n->op = CEL_OP_CONST;
	n->depth = 1;
}

/* --- names --- */

static bool local_named(struct checker *c, struct base_str name, unsigned *ret, const struct type **ret_type)
{
	const struct scope *s;

	for (s = c->scope; s; s = s->up)
		if (base_str_eq(s->name, name)) {
			*ret = s->local;
			*ret_type = s->type;
			return true;
		}
	return false;
}

static bool type_named(struct base_str name, struct cel_value *ret)
{
	static const enum cel_kind kinds[] = {CEL_NULL, CEL_BOOL, CEL_INT, CEL_UINT, CEL_DOUBLE, CEL_STRING,
		CEL_BYTES, CEL_LIST, CEL_MAP, CEL_TYPE, CEL_TIMESTAMP, CEL_DURATION, CEL_OPTIONAL};
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (base_str_is(name, cel_kind_name(kinds[i]))) {
			*ret = cel_type_value(kinds[i]);
			return true;
		}
	return false;
}

static bool declared(struct checker *c, struct base_str name, uint32_t *ret)
{
	for (uint32_t i = 0; i < c->p->count; i++)
		if (base_str_eq(c->p->names[i], name)) {
			*ret = i;
			return true;
		}
	return false;
}

static const struct type *slot_type(struct checker *c, uint32_t slot)
{
	return slot < c->env->count ? &plain[c->env->vars[slot].kind] : any_type();
}

/* Makes `n` the variable or type of that full name. False: there is none. */
static bool becomes(struct checker *c, struct cel_node *n, struct base_str name, const struct type **ret)
{
	struct cel_value v;
	uint32_t slot;

	if (declared(c, name, &slot)) {
		n->op = CEL_OP_VAR;
		n->slot = slot;
		c->p->reads |= 1ull << slot;
		*ret = slot_type(c, slot);
	} else if (type_named(name, &v)) {
		n->op = CEL_OP_CONST;
		n->value = v;
		*ret = &plain[CEL_TYPE];
	} else {
		return false;
	}
	n->a = NULL;
	return true;
}

/* Tries a name in the container, in what holds the container, and on its own. */
static bool resolved(
	struct checker *c, struct cel_node *n, struct base_str name, bool root, const struct type **ret)
{
	struct base_str in = root ? BASE_STR_NONE : c->env->container;

	while (in.len) {
		struct base_str full = BASE_JOIN(c->p->arena, in, BASE_STR("."), name);

		if (full.ptr && becomes(c, n, full, ret))
			return true;
		while (in.len && in.ptr[--in.len] != '.')
			;
	}
	return becomes(c, n, name, ret);
}

/* a.b.c as it is written, if it is nothing but names; empty: it is not. *ret_root: the first of them. */
static struct base_str dotted(struct checker *c, const struct cel_node *n, const struct cel_node **ret_root)
{
	struct base_str parts[2 * 16 - 1];
	size_t at = sizeof(parts) / sizeof(parts[0]);

	for (; n->op == CEL_OP_SELECT && !n->optional && !n->root && at >= 2; n = n->a) {
		parts[--at] = n->name;
		parts[--at] = BASE_STR(".");
	}
	if (n->op != CEL_OP_IDENT || at == 0)
		return BASE_STR_NONE;
	parts[--at] = n->name;
	*ret_root = n;
	return base_arena_join(c->p->arena, parts + at, sizeof(parts) / sizeof(parts[0]) - at);
}

static const struct type *open_variable(struct checker *c, struct cel_node *n)
{
	struct cel_program *p = c->p;

	if (p->count == CEL_SLOTS_MAX)
		return refuse(c, n, "too many variables");
	p->names[p->count] = n->name;
	n->op = CEL_OP_VAR;
	n->slot = p->count++;
	p->reads |= 1ull << n->slot;
	return any_type();
}

static const struct type *identifier(struct checker *c, struct cel_node *n)
{
	unsigned local;
	const struct type *t;

	if (!n->root && local_named(c, n->name, &local, &t)) {
		n->op = CEL_OP_LOCAL;
		n->local = (uint16_t)local;
		return t;
	}
	if (resolved(c, n, n->name, n->root, &t))
		return t;
	if (c->env->open && n->name.ptr[0] != '@')
		return open_variable(c, n);
	return refuse_name(c, n, "there is no variable", n->name);
}

static const struct type *field_of(struct checker *c, struct cel_node *n, const struct type *of)
{
	const struct type *t = any_type();

	n->value = cel_string(n->name);
	if (of->kind == CEL_OPTIONAL)
		of = part(of->of);
	if (!is(of, CEL_MAP) && !c->env->untyped)
		return refuse_name(c, n, "not a map, so it has no field", n->name);
	if (of->kind == CEL_MAP)
		t = part(of->of);
	return t;
}

static const struct type *selection(struct checker *c, struct cel_node *n)
{
	const struct cel_node *root = NULL;
	struct base_str name;
	unsigned local;
	const struct type *t, *of;

	if (n->op == CEL_OP_SELECT && !n->optional && !n->root) {
		name = dotted(c, n, &root);
		if (name.len && (root->root || !local_named(c, root->name, &local, &t)) &&
			resolved(c, n, name, root->root, &t))
			return t;
	}
	of = check(c, n->a);
	t = field_of(c, n, of);
	if (n->op == CEL_OP_HAS)
		t = &plain[CEL_BOOL];
	else if (n->optional || of->kind == CEL_OPTIONAL)
		t = of_type(c, CEL_OPTIONAL, any_type(), t);
	else if (of->kind == CEL_DYN)
		t = any_type();
	fold(c, n);
	return t;
}

/* --- calls --- */

static bool suits(const struct cel_overload *o, const struct type *const *args, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (o->args[i] != 'd' && args[i]->kind != CEL_DYN && o->args[i] != cel_letter(args[i]->kind))
			return false;
	return true;
}

static const struct type *of_letter(char letter)
{
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		if (i != CEL_LAZY && i != CEL_ERROR && cel_letter((enum cel_kind)i) == letter)
			return &plain[i];
	return any_type();
}

static const struct type *result_of(
	struct checker *c, const struct cel_overload *o, const struct type *const *args)
{
	if (base_str_is(base_str_of(o->name), "optional.of"))
		return of_type(c, CEL_OPTIONAL, any_type(), args[0]);
	if (o->args[0] == 'o' && o->args[1] == '\0' && o->result == 'd') /* value() */
		return part(args[0]->of);
	return of_letter(o->result);
}

/* Finds what of the overloads could be meant. */
static const struct type *overloads(
	struct checker *c, struct cel_node *n, const struct type *const *args, uint8_t style)
{
	bool named = false, counted = false;
	const struct type *t = NULL;
	uint32_t i;

	for (i = 0; i < n->fn_count; i++) {
		const struct cel_overload *o = &n->fn[i];

		named |= (o->style & style) != 0;
		if (!(o->style & style) || strlen(o->args) != n->arg_count)
			continue;
		counted = true;
		if (suits(o, args, n->arg_count))
			t = t ? joined(t, result_of(c, o, args)) : result_of(c, o, args);
	}
	if (!named)
		return refuse_name(c, n, "there is no such function here:", n->name);
	if (!counted)
		return refuse_name(c, n, "the wrong number of arguments for", n->name);
	if (t)
		return t;
	return c->env->untyped ? any_type()
			       : refuse_name(c, n, "the arguments have the wrong types for", n->name);
}

/* A target that is nothing but a namespace: math.abs(x). True: n is a global call then. */
static bool namespaced(struct checker *c, struct cel_node *n)
{
	const struct cel_node *root;
	struct base_str name = n->a ? dotted(c, n->a, &root) : BASE_STR_NONE;

	if (name.len == 0)
		return false;
	name = BASE_JOIN(c->p->arena, name, BASE_STR("."), n->name);
	if (!name.ptr || !cel_function_find(name, &n->fn_count))
		return false;
	n->name = name;
	n->a = NULL;
	return true;
}

/* The target of a member is the first argument. */
static bool with_target(struct checker *c, struct cel_node *n)
{
	struct cel_node **args = base_arena_array(c->p->arena, n->arg_count + 1, sizeof(*args));

	if (!args) {
		no_memory(c);
		return false;
	}
	args[0] = n->a;
	if (n->arg_count)
		memcpy(args + 1, n->args, n->arg_count * sizeof(*args));
	n->args = args;
	n->arg_count++;
	n->a = NULL;
	return true;
}

static void literal_pattern(struct checker *c, struct cel_node *n)
{
	struct base_err why;

	if (n->args[1]->op != CEL_OP_CONST || n->args[1]->value.kind != CEL_STRING)
		return;
	if (base_regex_compile_in(n->args[1]->value.as.s, c->p->arena, &n->regex, &why) < 0)
		refuse(c, n->args[1], why.text);
}

/* Where that is not refused, a call of nothing: it has no overload for any argument. */
static const struct type *unknown_function(struct checker *c, struct cel_node *n)
{
	if (!c->env->unbound)
		return refuse_name(c, n, "there is no function", n->name);
	n->fn = cel_function_find(BASE_STR("dyn"), &n->fn_count);
	n->fn_count = 0;
	n->arg_count = 0;
	n->args = NULL;
	n->a = NULL;
	return any_type();
}

static const struct type *call(struct checker *c, struct cel_node *n)
{
	uint8_t style = !n->a || namespaced(c, n) ? CEL_GLOBAL : CEL_MEMBER;
	const struct type *args[CEL_ARGS_MAX], *t;
	uint32_t i;

	n->fn = cel_function_find(n->name, &n->fn_count);
	if (!n->fn)
		return unknown_function(c, n);
	if (style == CEL_MEMBER && !with_target(c, n))
		return any_type();
	if (n->arg_count > CEL_ARGS_MAX)
		return refuse_name(c, n, "the wrong number of arguments for", n->name);
	for (i = 0; i < n->arg_count; i++)
		args[i] = check(c, n->args[i]);
	t = overloads(c, n, args, style);
	if (c->failed)
		return t;
	if (n->fn->fn == cel_call_matches)
		literal_pattern(c, n);
	if (!c->failed)
		fold(c, n);
	return t;
}

/* --- operators --- */

static const struct type *wants(
	struct checker *c, const struct cel_node *n, const struct type *t, enum cel_kind kind)
{
	if (!is(t, kind) && !c->env->untyped)
		refuse_name(c, n, "the operand has the wrong type:", base_str_of(cel_kind_name(t->kind)));
	return &plain[kind];
}

static const struct type *wrong_operands(
	struct checker *c, const struct cel_node *n, const struct type *a, const struct type *b)
{
	char text[80];
	size_t la = strlen(cel_kind_name(a->kind)), lb = strlen(cel_kind_name(b->kind));

	if (c->env->untyped)
		return any_type();
	memcpy(text, cel_kind_name(a->kind), la);
	memcpy(text + la, " and ", 5);
	memcpy(text + la + 5, cel_kind_name(b->kind), lb + 1);
	return refuse_name(c, n, "no such operator for the types", (struct base_str){text, la + 5 + lb});
}

static bool ordered(const struct type *a, const struct type *b)
{
	if (a->kind == CEL_DYN || b->kind == CEL_DYN) {
		const struct type *known = a->kind == CEL_DYN ? b : a;

		return known->kind != CEL_LIST && known->kind != CEL_MAP && known->kind != CEL_NULL &&
		       known->kind != CEL_TYPE && known->kind != CEL_OPTIONAL;
	}
	if (is_number(a) && is_number(b))
		return true;
	return a->kind == b->kind && (a->kind == CEL_BOOL || a->kind == CEL_STRING || a->kind == CEL_BYTES ||
					     a->kind == CEL_TIMESTAMP || a->kind == CEL_DURATION);
}

/* Whether `op` is there for two of this kind. */
static bool arithmetic_kind(enum cel_op op, enum cel_kind kind)
{
	switch (kind) {
	case CEL_INT:
	case CEL_UINT:
	case CEL_DYN:
		return true;
	case CEL_DOUBLE:
		return op != CEL_OP_MOD;
	case CEL_TIMESTAMP:
	case CEL_DURATION:
		return op == CEL_OP_ADD || op == CEL_OP_SUB;
	case CEL_STRING:
	case CEL_BYTES:
	case CEL_LIST:
		return op == CEL_OP_ADD;
	default:
		return false;
	}
}

static bool is_time(const struct type *t)
{
	return t->kind == CEL_TIMESTAMP || t->kind == CEL_DURATION;
}

static const struct type *arithmetic(
	struct checker *c, const struct cel_node *n, const struct type *a, const struct type *b)
{
	if (!arithmetic_kind(n->op, a->kind) || !arithmetic_kind(n->op, b->kind))
		return wrong_operands(c, n, a, b);
	if (a->kind == CEL_DYN && b->kind == CEL_DYN)
		return any_type();
	if (is_time(a) || is_time(b)) {
		if ((a->kind != CEL_DYN && !is_time(a)) || (b->kind != CEL_DYN && !is_time(b)))
			return wrong_operands(c, n, a, b);
		return any_type();
	}
	if (a->kind != CEL_DYN && b->kind != CEL_DYN && a->kind != b->kind)
		return wrong_operands(c, n, a, b);
	if (a->kind == CEL_LIST || b->kind == CEL_LIST)
		return a->kind == b->kind ? joined(a, b) : &plain[CEL_LIST];
	return a->kind == CEL_DYN ? b : a;
}

/* A long list of strings is searched by halves. */
static void sort_list(struct checker *c, struct cel_node *n)
{
	enum { SHORT = 8 };
	struct cel_value list = n->b->value, *items, *keys;
	size_t count, i;

	if (n->b->op != CEL_OP_CONST || list.kind != CEL_LIST)
		return;
	count = cel_count(list);
	n->few = count <= SHORT && list.tag != CEL_TAG_JSON;
	if (count <= SHORT)
		return;
	items = base_arena_array(c->p->arena, count, sizeof(*items));
	keys = base_arena_array(c->p->arena, count, sizeof(*keys));
	if (!items || !keys)
		return;
	for (i = 0; i < count; i++) {
		items[i] = keys[i] = cel_at(list, i);
		if (items[i].kind != CEL_STRING)
			return;
	}
	if (cel_sort(&c->fold, keys, items, count) && !c->fold.stopped)
		n->sorted = items;
	c->fold.stopped = NULL;
}

static const struct type *membership(
	struct checker *c, struct cel_node *n, const struct type *a, const struct type *b)
{
	const struct type *of = b->kind == CEL_LIST  ? part(b->of)
				: b->kind == CEL_MAP ? part(b->key)
						     : any_type();

	if (c->env->untyped)
		return &plain[CEL_BOOL];
	if (b->kind != CEL_LIST && b->kind != CEL_MAP && b->kind != CEL_DYN)
		return refuse_name(
			c, n, "`in` wants a list or a map, not", base_str_of(cel_kind_name(b->kind)));
	return comparable(a, of) ? &plain[CEL_BOOL] : wrong_operands(c, n, a, of);
}

static const struct type *binary(struct checker *c, struct cel_node *n)
{
	const struct type *a = check(c, n->a), *b = check(c, n->b), *t = &plain[CEL_BOOL];

	switch (n->op) {
	case CEL_OP_AND:
	case CEL_OP_OR:
		wants(c, n->a, a, CEL_BOOL);
		wants(c, n->b, b, CEL_BOOL);
		break;
	case CEL_OP_EQ:
	case CEL_OP_NE:
		if (!comparable(a, b))
			wrong_operands(c, n, a, b);
		break;
	case CEL_OP_IN:
		t = membership(c, n, a, b);
		break;
	case CEL_OP_LT:
	case CEL_OP_LE:
	case CEL_OP_GT:
	case CEL_OP_GE:
		if (!ordered(a, b))
			wrong_operands(c, n, a, b);
		break;
	default:
		t = arithmetic(c, n, a, b);
	}
	fold(c, n);
	if (n->op == CEL_OP_IN)
		sort_list(c, n);
	return t;
}

static const struct type *unary(struct checker *c, struct cel_node *n)
{
	const struct type *t = check(c, n->a);

	if (n->op == CEL_OP_NOT)
		t = wants(c, n->a, t, CEL_BOOL);
	else if (t->kind != CEL_INT && t->kind != CEL_DOUBLE && t->kind != CEL_DURATION && t->kind != CEL_DYN)
		wants(c, n->a, t, CEL_INT);
	fold(c, n);
	return t;
}

static const struct type *conditional(struct checker *c, struct cel_node *n)
{
	const struct type *t;

	wants(c, n->a, check(c, n->a), CEL_BOOL);
	t = check(c, n->b);
	return joined(t, check(c, n->c));
}

static const struct type *index_of(struct checker *c, struct cel_node *n)
{
	const struct type *of = check(c, n->a), *at = check(c, n->b), *t = any_type();
	bool optional = n->optional || of->kind == CEL_OPTIONAL;

	if (of->kind == CEL_OPTIONAL)
		of = part(of->of);
	if (of->kind == CEL_LIST || of->kind == CEL_MAP)
		t = part(of->of);
	if (!c->env->untyped) {
		if (of->kind != CEL_LIST && of->kind != CEL_MAP && of->kind != CEL_DYN)
			return refuse_name(c, n, "no list and no map, so it has no elements:",
				base_str_of(cel_kind_name(of->kind)));
		if (of->kind == CEL_LIST && at->kind != CEL_DYN && !is_number(at))
			return refuse(c, n->b, "the index of a list is a number");
		if (of->kind == CEL_MAP && !comparable(at, part(of->key)))
			return refuse(c, n->b, "the map's keys are of another type");
	}
	fold(c, n);
	return optional ? of_type(c, CEL_OPTIONAL, any_type(), t) : t;
}

static const struct type *entry(struct checker *c, struct cel_node *n)
{
	const struct type *t;

	if (n->op != CEL_OP_MAYBE)
		return check(c, n);
	t = check(c, n->a);
	if (t->kind != CEL_OPTIONAL && t->kind != CEL_DYN && !c->env->untyped)
		return refuse(c, n, "behind a ? stands an optional");
	return t->kind == CEL_OPTIONAL ? part(t->of) : any_type();
}

static const struct type *list_literal(struct checker *c, struct cel_node *n)
{
	const struct type *of = NULL, *t;
	uint32_t i;

	for (i = 0; i < n->arg_count; i++) {
		t = entry(c, n->args[i]);
		of = of ? joined(of, t) : t;
	}
	fold(c, n);
	return of_type(c, CEL_LIST, any_type(), part(of));
}

static const struct type *map_literal(struct checker *c, struct cel_node *n)
{
	const struct type *key = NULL, *of = NULL, *t;
	uint32_t i;

	for (i = 0; i < n->arg_count; i += 2) {
		t = check(c, n->args[i]);
		if (t->kind != CEL_DYN && t->kind != CEL_BOOL && t->kind != CEL_INT && t->kind != CEL_UINT &&
			t->kind != CEL_STRING && !c->env->untyped)
			return refuse(
				c, n->args[i], "a map's key must be a bool, an int, a uint or a string");
		key = key ? joined(key, t) : t;
		t = entry(c, n->args[i + 1]);
		of = of ? joined(of, t) : t;
	}
	fold(c, n);
	return of_type(c, CEL_MAP, part(key), part(of));
}

/* --- macros --- */

static bool enough_locals(struct checker *c, const struct cel_node *n, uint32_t more)
{
	if (more <= CEL_LOCALS_MAX && c->locals + more <= CEL_LOCALS_MAX)
		return true;
	refuse(c, n, "macros are nested too deep");
	return false;
}

/* The types of a macro's variables, and of its body and what it collects with them. */
static const struct type *macro_result(
	struct checker *c, struct cel_node *n, const struct type *range, const struct type *collected)
{
	switch (n->op) {
	case CEL_OP_FILTER:
		return of_type(c, CEL_LIST, any_type(),
			range->kind == CEL_LIST ? part(range->of) : part(range->key));
	case CEL_OP_TRANSFORM:
		return of_type(c, CEL_LIST, any_type(), collected);
	case CEL_OP_TRANSFORM_MAP:
		return of_type(c, CEL_MAP, range->kind == CEL_MAP ? part(range->key) : any_type(), collected);
	case CEL_OP_TRANSFORM_ENTRY:
		return collected;
	case CEL_OP_SORT_BY:
		return range->kind == CEL_LIST ? range : &plain[CEL_LIST];
	case CEL_OP_OPT_MAP:
		return of_type(c, CEL_OPTIONAL, any_type(), collected);
	case CEL_OP_OPT_FLAT_MAP:
		return &plain[CEL_OPTIONAL];
	default:
		return &plain[CEL_BOOL];
	}
}

static const struct type *macro(struct checker *c, struct cel_node *n)
{
	bool optional = n->op == CEL_OP_OPT_MAP || n->op == CEL_OP_OPT_FLAT_MAP, list, map;
	struct scope first = {.name = n->name, .up = c->scope}, second = {.name = n->name2, .up = &first};
	const struct type *range = check(c, n->a), *collected = any_type(), *index;

	list = range->kind == CEL_LIST;
	map = range->kind == CEL_MAP && n->op != CEL_OP_SORT_BY;
	if (range->kind != CEL_DYN && !c->env->untyped &&
		(optional ? range->kind != CEL_OPTIONAL : !list && !map))
		return refuse_name(c, n, "the macro is not for a", base_str_of(cel_kind_name(range->kind)));
	if (!enough_locals(c, n, 2))
		return any_type();
	index = map ? part(range->key) : list ? &plain[CEL_INT] : any_type();
	first.type = n->two ? index : map ? index : part(range->of);
	second.type = part(range->of);
	first.local = n->local = (uint16_t)c->locals;
	second.local = first.local + 1;
	c->locals += 1 + n->two;
	c->scope = n->two ? &second : &first;
	if (n->b)
		wants(c, n->b, check(c, n->b), CEL_BOOL);
	if (n->c)
		collected = check(c, n->c);
	c->locals = first.local;
	c->scope = first.up;
	return macro_result(c, n, range, collected);
}

static const struct type *bind(struct checker *c, struct cel_node *n)
{
	struct scope s = {.name = n->name, .up = c->scope};
	const struct type *t;

	s.type = check(c, n->a);
	if (!enough_locals(c, n, 1))
		return any_type();
	s.local = n->local = (uint16_t)c->locals++;
	c->scope = &s;
	t = check(c, n->b);
	c->scope = s.up;
	c->locals = s.local;
	return t;
}

static const struct type *block(struct checker *c, struct cel_node *n)
{
	struct scope *s;
	const struct scope *up = c->scope;
	const struct type *t;
	uint32_t i;

	if (!enough_locals(c, n, n->arg_count))
		return any_type();
	n->local = (uint16_t)c->locals;
	c->locals += n->arg_count;
	for (i = 0; i < n->arg_count; i++) {
		t = check(c, n->args[i]);
		s = base_arena_alloc(c->p->arena, sizeof(*s));
		if (!s)
			return no_memory(c);
		*s = (struct scope){.up = c->scope, .local = n->local + i, .type = t};
		s->name = base_arena_printf(c->p->arena, "@index%u", i);
		c->scope = s;
	}
	t = check(c, n->b);
	c->scope = up;
	c->locals = n->local;
	return t;
}

static const struct type *check(struct checker *c, struct cel_node *n)
{
	if (c->failed)
		return any_type();
	switch (n->op) {
	case CEL_OP_CONST:
		return of_constant(n->value);
	case CEL_OP_IDENT:
		return identifier(c, n);
	case CEL_OP_SELECT:
	case CEL_OP_HAS:
		return selection(c, n);
	case CEL_OP_INDEX:
		return index_of(c, n);
	case CEL_OP_LIST:
		return list_literal(c, n);
	case CEL_OP_MAP:
		return map_literal(c, n);
	case CEL_OP_CALL:
		return call(c, n);
	case CEL_OP_NOT:
	case CEL_OP_NEGATE:
		return unary(c, n);
	case CEL_OP_IF:
		return conditional(c, n);
	case CEL_OP_BIND:
		return bind(c, n);
	case CEL_OP_BLOCK:
		return block(c, n);
	default:
		return n->op >= CEL_OP_ALL ? macro(c, n) : binary(c, n);
	}
}

/* The error of each variable that is not bound. */
static int name_missing(struct checker *c)
{
	struct cel_program *p = c->p;

	p->missing = base_arena_array(p->arena, p->count, sizeof(*p->missing));
	for (uint32_t i = 0; p->missing && i < p->count; i++) {
		struct base_str text = BASE_JOIN(p->arena, BASE_STR("no such variable: "), p->names[i]);

		if (!text.ptr)
			p->missing = NULL;
		else
			p->missing[i] = (struct cel_value){.kind = CEL_ERROR, .as.s = text};
	}
	if (!p->missing)
		no_memory(c);
	return c->failed;
}

int cel_check(struct cel_program *p, struct base_str source, const struct cel_env *env, struct base_err *err)
{
	struct checker c = {.p = p, .source = source, .env = env, .err = err};

	if (env->count > CEL_SLOTS_MAX)
		return base_err_set(err, -EINVAL, "more than %d variables are declared", CEL_SLOTS_MAX);
	c.fold.arena = p->arena;
	c.fold.steps = CEL_FOLD_STEPS;
	c.fold.string_max = CEL_STRING_MAX / 16;
	c.fold.list_max = CEL_LIST_MAX / 10;
	p->names = base_arena_array(p->arena, CEL_SLOTS_MAX, sizeof(*p->names));
	if (!p->names) {
		no_memory(&c);
		return c.failed;
	}
	for (; p->count < env->count; p->count++) {
		p->names[p->count] = base_arena_dup(p->arena, env->vars[p->count].name);
		if (!p->names[p->count].ptr)
			no_memory(&c);
	}
	p->result = check(&c, p->root)->kind;
	return c.failed ? c.failed : name_missing(&c);
}
