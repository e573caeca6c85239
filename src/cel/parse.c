#include <errno.h>
#include <string.h>

#include "cel/cel_int.h"

/*
 * A Pratt parser. Nodes live in the program's arena. Every node knows the depth below it, and none is deeper
 * than CEL_DEPTH_MAX: what walks the tree by recursion cannot run out of stack.
 */
static int parse_expr(struct cel_parser *p, struct cel_node **ret);
static int parse_unary(struct cel_parser *p, struct cel_node **ret);

int cel_refuse_at(struct cel_parser *p, size_t at, const char *why)
{
	return cel_refuse(p->err, p->lex.in, at, why);
}

static int refuse(struct cel_parser *p, const char *why)
{
	return cel_refuse_at(p, p->token.at, why);
}

static int no_memory(struct cel_parser *p)
{
	return base_err_set(p->err, -ENOMEM, "the expression is too large: it takes too much memory");
}

static int advance(struct cel_parser *p)
{
	return cel_lex(&p->lex, &p->token);
}

static bool is_op(const struct cel_parser *p, unsigned op)
{
	return p->token.kind == CEL_T_OP && p->token.op == op;
}

static int expect(struct cel_parser *p, unsigned op, const char *why)
{
	return is_op(p, op) ? advance(p) : refuse(p, why);
}

/* Goes on behind `op` if it is what is ahead. */
static int skip_op(struct cel_parser *p, unsigned op, bool *ret)
{
	*ret = is_op(p, op);
	return *ret ? advance(p) : 0;
}

static bool one_of(struct base_str name, const char *const *words, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (base_str_is(name, words[i]))
			return true;
	return false;
}

/* Not even a field. */
static bool keyword(struct base_str name)
{
	static const char *const words[] = {"true", "false", "null", "in"};

	return one_of(name, words, sizeof(words) / sizeof(words[0]));
}

static bool reserved(struct base_str name)
{
	static const char *const words[] = {"as", "break", "const", "continue", "else", "for", "function",
		"if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while"};

	return keyword(name) || one_of(name, words, sizeof(words) / sizeof(words[0]));
}

static unsigned deeper(unsigned depth, const struct cel_node *n)
{
	return n && n->depth > depth ? n->depth : depth;
}

int cel_make(struct cel_parser *p, struct cel_node node, struct cel_node **ret)
{
	struct cel_node *n = base_arena_alloc(p->arena, sizeof(*n));
	unsigned depth = deeper(deeper(deeper(0, node.a), node.b), node.c), i;

	if (!n)
		return no_memory(p);
	for (i = 0; i < node.arg_count; i++)
		depth = deeper(depth, node.args[i]);
	if (depth + 1 > CEL_DEPTH_MAX)
		return cel_refuse_at(p, node.at, "the expression is nested too deep");
	node.depth = (uint16_t)(depth + 1);
	*n = node;
	*ret = n;
	return 0;
}

static int make_op(struct cel_parser *p, enum cel_op op, size_t at, struct cel_node *a, struct cel_node *b,
	struct cel_node **ret)
{
	return cel_make(p, (struct cel_node){.op = (uint8_t)op, .at = (uint32_t)at, .a = a, .b = b}, ret);
}

static int constant(struct cel_parser *p, struct cel_value v, struct cel_node **ret)
{
	return cel_make(
		p, (struct cel_node){.op = CEL_OP_CONST, .at = (uint32_t)p->token.at, .value = v}, ret);
}

static int push(struct cel_parser *p, struct cel_nodes *list, struct cel_node *n)
{
	if (list->count == list->size) {
		unsigned size = list->size ? list->size * 2 : 4;
		struct cel_node **at = base_arena_array(p->arena, size, sizeof(*at));

		if (!at)
			return no_memory(p);
		if (list->count)
			memcpy(at, list->at, list->count * sizeof(*at));
		list->at = at;
		list->size = size;
	}
	list->at[list->count++] = n;
	return 0;
}

/* "?expr" is an optional: what it holds, if anything. */
static int parse_entry(struct cel_parser *p, struct cel_node **ret)
{
	size_t at = p->token.at;
	bool optional;
	int r = skip_op(p, '?', &optional);

	if (r == 0)
		r = parse_expr(p, ret);
	return r == 0 && optional ? make_op(p, CEL_OP_MAYBE, at, *ret, NULL, ret) : r;
}

/* Expressions, parted by commas, up to and with `end`. In a literal a comma may stand behind the last one, and an
 * element may be optional. */
static int parse_list(struct cel_parser *p, unsigned end, bool literal, struct cel_nodes *ret)
{
	int r = 0;

	while (r == 0 && !is_op(p, end)) {
		struct cel_node *n;

		r = literal ? parse_entry(p, &n) : parse_expr(p, &n);
		if (r == 0)
			r = push(p, ret, n);
		if (r == 0 && !is_op(p, end)) {
			r = expect(p, ',', "expected a comma");
			if (r == 0 && is_op(p, end) && !literal)
				r = refuse(p, "expected an expression");
		}
	}
	return r < 0 ? r : advance(p);
}

static int list_literal(struct cel_parser *p, size_t at, struct cel_node **ret)
{
	struct cel_nodes list = {0};
	int r = parse_list(p, ']', true, &list);

	return r < 0 ? r
		     : cel_make(p,
			       (struct cel_node){.op = CEL_OP_LIST,
				       .at = (uint32_t)at,
				       .args = list.at,
				       .arg_count = list.count},
			       ret);
}

static int map_member(struct cel_parser *p, struct cel_nodes *list)
{
	struct cel_node *key, *value;
	size_t at = p->token.at;
	bool optional;
	int r = skip_op(p, '?', &optional);

	if (r == 0)
		r = parse_expr(p, &key);
	if (r == 0)
		r = expect(p, ':', "expected a colon");
	if (r == 0)
		r = parse_expr(p, &value);
	if (r == 0 && optional)
		r = make_op(p, CEL_OP_MAYBE, at, value, NULL, &value);
	if (r == 0)
		r = push(p, list, key);
	return r == 0 ? push(p, list, value) : r;
}

static int map_literal(struct cel_parser *p, size_t at, struct cel_node **ret)
{
	struct cel_nodes list = {0};
	int r = 0;

	while (r == 0 && !is_op(p, '}')) {
		r = map_member(p, &list);
		if (r == 0 && !is_op(p, '}'))
			r = expect(p, ',', "expected a comma");
	}
	if (r == 0)
		r = advance(p);
	return r < 0 ? r
		     : cel_make(p,
			       (struct cel_node){.op = CEL_OP_MAP,
				       .at = (uint32_t)at,
				       .args = list.at,
				       .arg_count = list.count},
			       ret);
}

/* Behind the name of a function and its "(". */
static int parse_call(struct cel_parser *p, struct base_str name, size_t at, struct cel_node *target,
	bool root, struct cel_node **ret)
{
	struct cel_node n = {.op = CEL_OP_CALL, .at = (uint32_t)at, .name = name, .a = target, .root = root};
	struct cel_nodes args = {0};
	int r = parse_list(p, ')', false, &args);

	if (r < 0)
		return r;
	r = root ? 0 : cel_macro(p, name, at, target, &args, ret);
	if (r != 0)
		return r < 0 ? r : 0;
	n.args = args.at;
	n.arg_count = args.count;
	return cel_make(p, n, ret);
}

static int identifier(struct cel_parser *p, bool root, struct cel_node **ret)
{
	struct base_str name = p->token.text;
	size_t at = p->token.at;
	int r;

	if (!root && (base_str_is(name, "true") || base_str_is(name, "false") || base_str_is(name, "null"))) {
		r = constant(
			p, base_str_is(name, "null") ? cel_null() : cel_bool(base_str_is(name, "true")), ret);
		return r < 0 ? r : advance(p);
	}
	if (reserved(name))
		return refuse(p, "a reserved word");
	name = base_arena_dup(p->arena, name);
	if (!name.ptr)
		return no_memory(p);
	r = advance(p);
	if (r < 0)
		return r;
	if (is_op(p, '(')) {
		r = advance(p);
		return r < 0 ? r : parse_call(p, name, at, NULL, root, ret);
	}
	return cel_make(p,
		(struct cel_node){.op = CEL_OP_IDENT, .at = (uint32_t)at, .name = name, .root = root}, ret);
}

/* ( [ { and what belongs to it. */
static int parse_bracket(struct cel_parser *p, struct cel_node **ret)
{
	size_t at = p->token.at;
	unsigned op = p->token.op;
	int r = advance(p);

	if (r < 0)
		return r;
	if (op == '[')
		return list_literal(p, at, ret);
	if (op == '{')
		return map_literal(p, at, ret);
	r = parse_expr(p, ret);
	return r < 0 ? r : expect(p, ')', "expected a )");
}

static int parse_primary(struct cel_parser *p, struct cel_node **ret)
{
	bool root;
	int r;

	if (p->token.kind == CEL_T_VALUE) {
		if (p->token.min_magnitude)
			return refuse(p, "a number that is too large");
		r = constant(p, p->token.value, ret);
		return r < 0 ? r : advance(p);
	}
	if (is_op(p, '(') || is_op(p, '[') || is_op(p, '{'))
		return parse_bracket(p, ret);
	r = skip_op(p, '.', &root);
	if (r < 0)
		return r;
	if (p->token.kind == CEL_T_IDENT)
		return identifier(p, root, ret);
	if (root)
		return refuse(p, "expected a name");
	return refuse(
		p, p->token.kind == CEL_T_END ? "the expression ends too early" : "expected an expression");
}

/* Behind the dot. */
static int selection(struct cel_parser *p, struct cel_node *of, struct cel_node **ret)
{
	struct cel_node n = {.op = CEL_OP_SELECT, .a = of};
	bool quoted;
	int r = skip_op(p, '?', &n.optional);

	if (r < 0)
		return r;
	quoted = p->token.kind == CEL_T_QUOTED;
	n.at = (uint32_t)p->token.at;
	if (!quoted && (p->token.kind != CEL_T_IDENT || keyword(p->token.text)))
		return refuse(p, "expected the name of a field");
	n.name = base_arena_dup(p->arena, p->token.text);
	if (!n.name.ptr)
		return no_memory(p);
	n.root = quoted; /* no part of a name with dots */
	r = advance(p);
	if (r < 0)
		return r;
	if (quoted || n.optional || !is_op(p, '('))
		return cel_make(p, n, ret);
	r = advance(p);
	return r < 0 ? r : parse_call(p, n.name, n.at, of, false, ret);
}

static int subscript(struct cel_parser *p, struct cel_node *of, struct cel_node **ret)
{
	struct cel_node n = {.op = CEL_OP_INDEX, .at = (uint32_t)p->token.at, .a = of};
	int r = advance(p);

	if (r == 0)
		r = skip_op(p, '?', &n.optional);
	if (r == 0)
		r = parse_expr(p, &n.b);
	if (r == 0)
		r = expect(p, ']', "expected a ]");
	return r < 0 ? r : cel_make(p, n, ret);
}

static int parse_member(struct cel_parser *p, struct cel_node **ret)
{
	struct cel_node *n;
	int r = parse_primary(p, &n);

	while (r == 0) {
		if (is_op(p, '.')) {
			r = advance(p);
			if (r == 0)
				r = selection(p, n, &n);
		} else if (is_op(p, '[')) {
			r = subscript(p, n, &n);
		} else if (is_op(p, '{')) {
			r = refuse(p, "messages are not supported");
		} else {
			*ret = n;
			return 0;
		}
	}
	return r;
}

/* A minus and a number right behind it are one literal: so the smallest int can be written. */
static int negative(struct cel_parser *p, size_t at, struct cel_node **ret)
{
	struct cel_token *t = &p->token;
	struct cel_node *n;
	int r;

	if (t->kind == CEL_T_VALUE && (t->value.kind == CEL_INT || t->value.kind == CEL_DOUBLE)) {
		if (t->value.kind == CEL_INT)
			t->value.as.i = (int64_t)(0 - (uint64_t)t->value.as.i);
		else
			t->value.as.d = -t->value.as.d;
		t->min_magnitude = false;
		t->at = at;
		return parse_member(p, ret);
	}
	r = parse_unary(p, &n);
	return r < 0 ? r : make_op(p, CEL_OP_NEGATE, at, n, NULL, ret);
}

static int parse_unary(struct cel_parser *p, struct cel_node **ret)
{
	size_t at = p->token.at;
	struct cel_node *n;
	int r;

	if (p->depth >= CEL_NESTING_MAX)
		return refuse(p, "the expression is nested too deep");
	if (!is_op(p, '!') && !is_op(p, '-'))
		return parse_member(p, ret);
	p->depth++;
	if (is_op(p, '-')) {
		r = advance(p);
		if (r == 0)
			r = negative(p, at, ret);
	} else {
		r = advance(p);
		if (r == 0)
			r = parse_unary(p, &n);
		if (r == 0)
			r = make_op(p, CEL_OP_NOT, at, n, NULL, ret);
	}
	p->depth--;
	return r;
}

/* How tight an operator binds, or 0 if what is ahead is none. */
static unsigned binding(const struct cel_parser *p, enum cel_op *ret)
{
	static const struct {
		unsigned op, power;
		enum cel_op node;
	} ops[] = {
		{CEL_OP2('|', '|'), 1, CEL_OP_OR},
		{CEL_OP2('&', '&'), 2, CEL_OP_AND},
		{CEL_OP2('=', '='), 3, CEL_OP_EQ},
		{CEL_OP2('!', '='), 3, CEL_OP_NE},
		{CEL_OP2('<', '='), 3, CEL_OP_LE},
		{CEL_OP2('>', '='), 3, CEL_OP_GE},
		{'<', 3, CEL_OP_LT},
		{'>', 3, CEL_OP_GT},
		{'+', 4, CEL_OP_ADD},
		{'-', 4, CEL_OP_SUB},
		{'*', 5, CEL_OP_MUL},
		{'/', 5, CEL_OP_DIV},
		{'%', 5, CEL_OP_MOD},
	};
	size_t i;

	if (p->token.kind == CEL_T_IDENT && base_str_is(p->token.text, "in")) {
		*ret = CEL_OP_IN;
		return 3;
	}
	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (is_op(p, ops[i].op)) {
			*ret = ops[i].node;
			return ops[i].power;
		}
	return 0;
}

static int parse_binary(struct cel_parser *p, unsigned least, struct cel_node **ret)
{
	struct cel_node *left, *right;
	enum cel_op op = CEL_OP_CONST;
	unsigned power;
	int r = parse_unary(p, &left);

	while (r == 0 && (power = binding(p, &op)) >= least && power > 0) {
		size_t at = p->token.at;

		r = advance(p);
		if (r == 0)
			r = parse_binary(p, power + 1, &right);
		if (r == 0)
			r = make_op(p, op, at, left, right, &left);
	}
	if (r == 0)
		*ret = left;
	return r;
}

static int parse_conditional(struct cel_parser *p, struct cel_node **ret)
{
	struct cel_node n = {.op = CEL_OP_IF};
	int r = parse_binary(p, 1, &n.a);

	if (r < 0)
		return r;
	if (!is_op(p, '?')) {
		*ret = n.a;
		return 0;
	}
	n.at = (uint32_t)p->token.at;
	r = advance(p);
	if (r == 0)
		r = parse_binary(p, 1, &n.b);
	if (r == 0)
		r = expect(p, ':', "expected a colon");
	if (r == 0)
		r = parse_expr(p, &n.c);
	return r < 0 ? r : cel_make(p, n, ret);
}

static int parse_expr(struct cel_parser *p, struct cel_node **ret)
{
	int r;

	if (p->depth >= CEL_NESTING_MAX)
		return refuse(p, "the expression is nested too deep");
	p->depth++;
	r = parse_conditional(p, ret);
	p->depth--;
	return r;
}

int cel_parse(struct base_str source, struct base_arena *arena, struct cel_node **ret, struct base_err *err)
{
	struct cel_parser p = {.lex = {.in = source, .arena = arena, .err = err}, .arena = arena, .err = err};
	struct cel_node *root;
	int r;

	if (source.len > CEL_SOURCE_MAX)
		return base_err_set(err, -EINVAL, "line 1, column 1: the expression is longer than %d bytes",
			CEL_SOURCE_MAX);
	if (!base_utf8_valid(source))
		return base_err_set(err, -EINVAL, "line 1, column 1: the expression is not UTF-8");
	r = advance(&p);
	if (r == 0)
		r = parse_expr(&p, &root);
	if (r == 0 && p.token.kind != CEL_T_END)
		r = refuse(&p, "expected an operator or the end");
	if (r == 0)
		*ret = root;
	return r;
}
