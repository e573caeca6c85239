#include <errno.h>
#include <string.h>

#include "cel/cel_int.h"

/* An expression in one form: blanks around operators, parentheses where the tree needs them. */

enum { ANY = 0, UNARY = 6, MEMBER = 7 };

static void print(struct base_buf *b, const struct cel_node *n, int least);

static const struct {
	const char *text;
	int power;
} operators[] = {
	[CEL_OP_AND] = {" && ", 2},
	[CEL_OP_OR] = {" || ", 1},
	[CEL_OP_EQ] = {" == ", 3},
	[CEL_OP_NE] = {" != ", 3},
	[CEL_OP_LT] = {" < ", 3},
	[CEL_OP_LE] = {" <= ", 3},
	[CEL_OP_GT] = {" > ", 3},
	[CEL_OP_GE] = {" >= ", 3},
	[CEL_OP_IN] = {" in ", 3},
	[CEL_OP_ADD] = {" + ", 4},
	[CEL_OP_SUB] = {" - ", 4},
	[CEL_OP_MUL] = {" * ", 5},
	[CEL_OP_DIV] = {" / ", 5},
	[CEL_OP_MOD] = {" % ", 5},
};

/* How tight a node binds, as the parser has it. */
static int power(const struct cel_node *n)
{
	if (n->op == CEL_OP_IF)
		return ANY;
	if (n->op >= CEL_OP_AND && n->op <= CEL_OP_MOD)
		return operators[n->op].power;
	if (n->op == CEL_OP_NOT || n->op == CEL_OP_NEGATE)
		return UNARY;
	/* A number in front of a dot, or behind a minus, is one with it. */
	if (n->op == CEL_OP_CONST && cel_is_number(n->value))
		return UNARY;
	return MEMBER;
}

static void name(struct base_buf *b, struct base_str s)
{
	struct base_str first, second;

	if (base_str_starts(s, BASE_STR("@index"))) {
		base_buf_cstr(b, "cel.index(");
		base_buf_str(b, base_str_sub(s, 6, s.len));
		base_buf_char(b, ')');
	} else if (s.len && s.ptr[0] == '@') {
		base_buf_cstr(b, s.ptr[1] == 'i' ? "cel.iterVar(" : "cel.accuVar(");
		base_str_cut(base_str_sub(s, 4, s.len), ':', &first, &second);
		base_buf_str(b, first);
		base_buf_cstr(b, ", ");
		base_buf_str(b, second);
		base_buf_char(b, ')');
	} else {
		base_buf_str(b, s);
	}
}

static void list(struct base_buf *b, struct cel_node *const *args, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (i > 0)
			base_buf_cstr(b, ", ");
		print(b, args[i], ANY);
	}
}

static void map(struct base_buf *b, const struct cel_node *n)
{
	base_buf_char(b, '{');
	for (uint32_t i = 0; i < n->arg_count; i += 2) {
		const struct cel_node *v = n->args[i + 1];

		if (i > 0)
			base_buf_cstr(b, ", ");
		if (v->op == CEL_OP_MAYBE)
			base_buf_char(b, '?');
		print(b, n->args[i], ANY);
		base_buf_cstr(b, ": ");
		print(b, v->op == CEL_OP_MAYBE ? v->a : v, ANY);
	}
	base_buf_char(b, '}');
}

static void selection(struct base_buf *b, const struct cel_node *n)
{
	if (n->op == CEL_OP_HAS)
		base_buf_cstr(b, "has(");
	print(b, n->a, MEMBER);
	base_buf_cstr(b, n->optional ? ".?" : ".");
	if (n->root)
		base_buf_char(b, '`');
	base_buf_str(b, n->name);
	if (n->root)
		base_buf_char(b, '`');
	if (n->op == CEL_OP_HAS)
		base_buf_char(b, ')');
}

static void call(struct base_buf *b, const struct cel_node *n)
{
	if (n->a)
		print(b, n->a, MEMBER);
	if (n->a || n->root)
		base_buf_char(b, '.');
	base_buf_str(b, n->name);
	base_buf_char(b, '(');
	list(b, n->args, n->arg_count);
	base_buf_char(b, ')');
}

static void negate(struct base_buf *b, const struct cel_node *n)
{
	bool bare = n->a->op == CEL_OP_NEGATE || n->a->op == CEL_OP_NOT || n->a->op == CEL_OP_IDENT;

	base_buf_cstr(b, bare ? "-" : "-(");
	print(b, n->a, bare ? UNARY : ANY);
	if (!bare)
		base_buf_char(b, ')');
}

static const char *macro_name(const struct cel_node *n)
{
	switch (n->op) {
	case CEL_OP_ALL:
		return "all";
	case CEL_OP_EXISTS:
		return "exists";
	case CEL_OP_EXISTS_ONE:
		return "exists_one";
	case CEL_OP_FILTER:
		return "filter";
	case CEL_OP_TRANSFORM:
		return n->two ? "transformList" : "map";
	case CEL_OP_TRANSFORM_MAP:
		return "transformMap";
	case CEL_OP_TRANSFORM_ENTRY:
		return "transformMapEntry";
	case CEL_OP_SORT_BY:
		return "sortBy";
	case CEL_OP_OPT_MAP:
		return "optMap";
	default:
		return "optFlatMap";
	}
}

static void macro(struct base_buf *b, const struct cel_node *n)
{
	print(b, n->a, MEMBER);
	base_buf_char(b, '.');
	base_buf_cstr(b, macro_name(n));
	base_buf_char(b, '(');
	name(b, n->name);
	if (n->two) {
		base_buf_cstr(b, ", ");
		name(b, n->name2);
	}
	if (n->b) {
		base_buf_cstr(b, ", ");
		print(b, n->b, ANY);
	}
	if (n->c) {
		base_buf_cstr(b, ", ");
		print(b, n->c, ANY);
	}
	base_buf_char(b, ')');
}

static void binding(struct base_buf *b, const struct cel_node *n)
{
	if (n->op == CEL_OP_BIND) {
		base_buf_cstr(b, "cel.bind(");
		name(b, n->name);
		base_buf_cstr(b, ", ");
		print(b, n->a, ANY);
	} else {
		base_buf_cstr(b, "cel.block([");
		list(b, n->args, n->arg_count);
		base_buf_char(b, ']');
	}
	base_buf_cstr(b, ", ");
	print(b, n->b, ANY);
	base_buf_char(b, ')');
}

static void operation(struct base_buf *b, const struct cel_node *n)
{
	print(b, n->a, operators[n->op].power);
	base_buf_cstr(b, operators[n->op].text);
	print(b, n->b, operators[n->op].power + 1);
}

static void conditional(struct base_buf *b, const struct cel_node *n)
{
	print(b, n->a, 1);
	base_buf_cstr(b, " ? ");
	print(b, n->b, 1);
	base_buf_cstr(b, " : ");
	print(b, n->c, ANY);
}

static void print_bare(struct base_buf *b, const struct cel_node *n)
{
	switch (n->op) {
	case CEL_OP_CONST:
		cel_put_text(b, n->value);
		break;
	case CEL_OP_IDENT:
		if (n->root)
			base_buf_char(b, '.');
		name(b, n->name);
		break;
	case CEL_OP_SELECT:
	case CEL_OP_HAS:
		selection(b, n);
		break;
	case CEL_OP_INDEX:
		print(b, n->a, MEMBER);
		base_buf_cstr(b, n->optional ? "[?" : "[");
		print(b, n->b, ANY);
		base_buf_char(b, ']');
		break;
	case CEL_OP_LIST:
		base_buf_char(b, '[');
		list(b, n->args, n->arg_count);
		base_buf_char(b, ']');
		break;
	case CEL_OP_MAP:
		map(b, n);
		break;
	case CEL_OP_MAYBE:
		base_buf_char(b, '?');
		print(b, n->a, ANY);
		break;
	case CEL_OP_CALL:
		call(b, n);
		break;
	case CEL_OP_NOT:
		base_buf_char(b, '!');
		print(b, n->a, UNARY);
		break;
	case CEL_OP_NEGATE:
		negate(b, n);
		break;
	case CEL_OP_IF:
		conditional(b, n);
		break;
	case CEL_OP_BIND:
	case CEL_OP_BLOCK:
		binding(b, n);
		break;
	default:
		if (n->op >= CEL_OP_ALL)
			macro(b, n);
		else
			operation(b, n);
	}
}

static void print(struct base_buf *b, const struct cel_node *n, int least)
{
	bool parentheses = power(n) < least;

	if (parentheses)
		base_buf_char(b, '(');
	print_bare(b, n);
	if (parentheses)
		base_buf_char(b, ')');
}

int cel_print(struct base_str source, struct base_buf *ret, struct base_err *err)
{
	struct base_arena *arena;
	struct cel_node *root;
	int r = base_arena_new(32 << 20, &arena);

	if (r < 0)
		return base_err_set(err, r, "out of memory");
	r = cel_parse(source, arena, &root, err);
	if (r == 0) {
		print(ret, root, ANY);
		r = base_buf_failed(ret);
	}
	base_arena_free(arena);
	return r < 0 && r != -EINVAL ? base_err_set(err, r, "out of memory") : r;
}
