#include <errno.h>
#include <string.h>

#include "cel/cel_int.h"

/*
 * Macros: calls whose arguments are taken apart instead of being evaluated. A call that has the name of a macro but not
 * its number of arguments is a call.
 */
struct shape {
	const char *name;
	uint8_t count; /* of arguments */
	uint8_t vars;
	enum cel_op op;
	bool filter; /* the first behind the variables, when something stands behind it */
};

static const struct shape shapes[] = {
	{"all", 2, 1, CEL_OP_ALL, true},
	{"all", 3, 2, CEL_OP_ALL, true},
	{"exists", 2, 1, CEL_OP_EXISTS, true},
	{"exists", 3, 2, CEL_OP_EXISTS, true},
	{"exists_one", 2, 1, CEL_OP_EXISTS_ONE, true},
	{"exists_one", 3, 2, CEL_OP_EXISTS_ONE, true},
	{"existsOne", 2, 1, CEL_OP_EXISTS_ONE, true},
	{"existsOne", 3, 2, CEL_OP_EXISTS_ONE, true},
	{"filter", 2, 1, CEL_OP_FILTER, true},
	{"map", 2, 1, CEL_OP_TRANSFORM, false},
	{"map", 3, 1, CEL_OP_TRANSFORM, true},
	{"transformList", 3, 2, CEL_OP_TRANSFORM, false},
	{"transformList", 4, 2, CEL_OP_TRANSFORM, true},
	{"transformMap", 3, 2, CEL_OP_TRANSFORM_MAP, false},
	{"transformMap", 4, 2, CEL_OP_TRANSFORM_MAP, true},
	{"transformMapEntry", 3, 2, CEL_OP_TRANSFORM_ENTRY, false},
	{"transformMapEntry", 4, 2, CEL_OP_TRANSFORM_ENTRY, true},
	{"sortBy", 2, 1, CEL_OP_SORT_BY, false},
	{"optMap", 2, 1, CEL_OP_OPT_MAP, false},
	{"optFlatMap", 2, 1, CEL_OP_OPT_FLAT_MAP, false},
};

static bool names(const struct cel_node *n, const char *name)
{
	return n && n->op == CEL_OP_IDENT && !n->root && base_str_is(n->name, name);
}

/* has(a.b): takes the selection apart. */
static int has_macro(struct cel_parser *p, size_t at, const struct cel_nodes *args, struct cel_node **ret)
{
	struct cel_node has;

	if (args->count != 1 || args->at[0]->op != CEL_OP_SELECT)
		return cel_refuse_at(p, at, "has() wants a field: has(a.b)");
	has = *args->at[0];
	has.op = CEL_OP_HAS;
	return cel_make(p, has, ret);
}

static int bind_macro(struct cel_parser *p, size_t at, const struct cel_nodes *args, struct cel_node **ret)
{
	struct cel_node n = {.op = CEL_OP_BIND, .at = (uint32_t)at};

	if (args->at[0]->op != CEL_OP_IDENT || args->at[0]->root)
		return cel_refuse_at(p, args->at[0]->at, "expected the name of a variable");
	n.name = args->at[0]->name;
	n.a = args->at[1];
	n.b = args->at[2];
	return cel_make(p, n, ret);
}

static bool small_number(const struct cel_node *n, int64_t *ret)
{
	*ret = n->value.as.i;
	return n->op == CEL_OP_CONST && n->value.kind == CEL_INT && *ret >= 0 && *ret < 1000;
}

/* cel.index(1), cel.iterVar(0, 1): names that no source can write otherwise. */
static int numbered(struct cel_parser *p, const char *kind, size_t at, const struct cel_nodes *args,
	struct cel_node **ret)
{
	struct cel_node n = {.op = CEL_OP_IDENT, .at = (uint32_t)at};
	int64_t first = 0, second = 0;

	if (!small_number(args->at[0], &first) || (args->count == 2 && !small_number(args->at[1], &second)))
		return cel_refuse_at(p, at, "expected a number that is written out");
	n.name = args->count == 2 ? base_arena_printf(p->arena, "@%s:%d:%d", kind, (int)first, (int)second)
				  : base_arena_printf(p->arena, "@%s%d", kind, (int)first);
	if (!n.name.ptr)
		return base_err_set(p->err, -ENOMEM, "out of memory");
	return cel_make(p, n, ret);
}

/* cel.block([first, second], body): each is named cel.index(n) behind it. */
static int block_macro(struct cel_parser *p, size_t at, const struct cel_nodes *args, struct cel_node **ret)
{
	struct cel_node n = {.op = CEL_OP_BLOCK, .at = (uint32_t)at};

	if (args->at[0]->op != CEL_OP_LIST)
		return cel_refuse_at(p, args->at[0]->at, "cel.block wants a list that is written out");
	n.args = args->at[0]->args;
	n.arg_count = args->at[0]->arg_count;
	for (uint32_t i = 0; i < n.arg_count; i++)
		if (n.args[i]->op == CEL_OP_MAYBE)
			return cel_refuse_at(p, n.args[i]->at, "cel.block takes no optional elements");
	n.b = args->at[1];
	return cel_make(p, n, ret);
}

static int cel_macros(struct cel_parser *p, struct base_str name, size_t at, const struct cel_nodes *args,
	struct cel_node **ret)
{
	int r = 0;

	if (base_str_is(name, "bind") && args->count == 3)
		r = bind_macro(p, at, args, ret);
	else if (base_str_is(name, "block") && args->count == 2)
		r = block_macro(p, at, args, ret);
	else if (base_str_is(name, "index") && args->count == 1)
		r = numbered(p, "index", at, args, ret);
	else if (base_str_is(name, "iterVar") && args->count == 2)
		r = numbered(p, "it", at, args, ret);
	else if (base_str_is(name, "accuVar") && args->count == 2)
		r = numbered(p, "ac", at, args, ret);
	else
		return 0;
	return r < 0 ? r : 1;
}

static int variable(struct cel_parser *p, const struct cel_node *n, struct base_str *ret)
{
	if (n->op != CEL_OP_IDENT || n->root)
		return cel_refuse_at(p, n->at, "expected the name of a variable");
	*ret = n->name;
	return 0;
}

static int comprehension(struct cel_parser *p, const struct shape *s, size_t at, struct cel_node *target,
	const struct cel_nodes *args, struct cel_node **ret)
{
	struct cel_node n = {.op = (uint8_t)s->op, .at = (uint32_t)at, .a = target, .two = s->vars == 2};
	int r = variable(p, args->at[0], &n.name);

	if (r == 0 && n.two)
		r = variable(p, args->at[1], &n.name2);
	if (r < 0)
		return r;
	if (n.two && base_str_eq(n.name, n.name2))
		return cel_refuse_at(p, args->at[1]->at, "the two variables need two names");
	if (s->filter)
		n.b = args->at[s->vars];
	if (s->count > s->vars + s->filter)
		n.c = args->at[s->count - 1];
	if (n.op == CEL_OP_TRANSFORM_ENTRY && n.c->op != CEL_OP_MAP)
		return cel_refuse_at(
			p, n.c->at, "transformMapEntry wants a map that is written out: {key: value}");
	r = cel_make(p, n, ret);
	return r < 0 ? r : 1;
}

/* math.greatest(a, b, …) is math.greatest([a, b, …]). */
static int greatest(struct cel_parser *p, struct base_str name, size_t at, struct cel_node *target,
	const struct cel_nodes *args, struct cel_node **ret)
{
	struct cel_node list = {
		.op = CEL_OP_LIST, .at = (uint32_t)at, .args = args->at, .arg_count = args->count};
	struct cel_node call = {
		.op = CEL_OP_CALL, .at = (uint32_t)at, .name = name, .a = target, .arg_count = 1};
	int r;

	call.args = base_arena_array(p->arena, 1, sizeof(struct cel_node *));
	if (!call.args)
		return base_err_set(p->err, -ENOMEM, "out of memory");
	r = cel_make(p, list, &call.args[0]);
	if (r == 0)
		r = cel_make(p, call, ret);
	return r < 0 ? r : 1;
}

int cel_macro(struct cel_parser *p, struct base_str name, size_t at, struct cel_node *target,
	struct cel_nodes *args, struct cel_node **ret)
{
	size_t i;
	int r;

	if (!target) {
		if (!base_str_is(name, "has"))
			return 0;
		r = has_macro(p, at, args, ret);
		return r < 0 ? r : 1;
	}
	if (names(target, "cel")) {
		r = cel_macros(p, name, at, args, ret);
		if (r != 0)
			return r;
	}
	if (names(target, "math") && args->count > 1 &&
		(base_str_is(name, "greatest") || base_str_is(name, "least")))
		return greatest(p, name, at, target, args, ret);
	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (args->count == shapes[i].count && base_str_is(name, shapes[i].name))
			return comprehension(p, &shapes[i], at, target, args, ret);
	return 0;
}
