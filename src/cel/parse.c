#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cel/cel_int.h"

/*
 * A Pratt parser. Nodes live in the program's arena. Every node knows the depth below it, and none is deeper
 * than CEL_DEPTH_MAX: what walks the tree by recursion cannot run out of stack.
 */
struct scope {
	const struct scope *up;
	struct base_str name;
	unsigned local;
};

struct parser {
	struct cel_lexer lex;
	struct cel_token token; /* the one ahead */
	struct cel_program *program;
	struct base_err *err;
	unsigned depth;
	const struct scope *scope;
	unsigned locals;
};

static int parse_expr(struct parser *p, const struct cel_node **ret);
static int parse_unary(struct parser *p, const struct cel_node **ret);

static int refuse_at(struct parser *p, size_t at, const char *why)
{
	return cel_refuse(p->err, p->lex.in, at, why);
}

static int refuse(struct parser *p, const char *why)
{
	return refuse_at(p, p->token.at, why);
}

static int no_memory(struct parser *p)
{
	return base_err_set(p->err, -ENOMEM, "the expression is too large");
}

static int advance(struct parser *p)
{
	return cel_lex(&p->lex, &p->token);
}

static bool is_op(const struct parser *p, unsigned op)
{
	return p->token.kind == CEL_T_OP && p->token.op == op;
}

static int expect(struct parser *p, unsigned op, const char *why)
{
	return is_op(p, op) ? advance(p) : refuse(p, why);
}

static bool among(struct base_str s, const char *const *names, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (base_str_is(s, names[i]))
			return true;
	return false;
}

static bool reserved(struct base_str s)
{
	static const char *const words[] = {"as", "break", "const", "continue", "else", "false", "for",
		"function", "if", "import", "in", "let", "loop", "namespace", "null", "package", "return",
		"true", "var", "void", "while"};

	return among(s, words, sizeof(words) / sizeof(words[0]));
}

/* Words that are no field names either. */
static bool keyword(struct base_str s)
{
	static const char *const words[] = {"false", "in", "null", "true"};

	return among(s, words, sizeof(words) / sizeof(words[0]));
}

static unsigned deeper(unsigned depth, const struct cel_node *n)
{
	return n && n->depth > depth ? n->depth : depth;
}

/* A copy in the arena, with its depth. */
static int make(struct parser *p, struct cel_node node, const struct cel_node **ret)
{
	struct cel_node *n = base_arena_alloc(p->program->arena, sizeof(*n));
	unsigned depth = deeper(deeper(deeper(0, node.a), node.b), node.c), i;

	if (!n)
		return no_memory(p);
	for (i = 0; i < node.arg_count; i++)
		depth = deeper(depth, node.args[i]);
	node.depth = depth + 1;
	if (node.depth > CEL_DEPTH_MAX)
		return refuse(p, "the expression is nested too deep");
	*n = node;
	*ret = n;
	return 0;
}

static int constant(struct parser *p, struct cel_value v, const struct cel_node **ret)
{
	return make(p, (struct cel_node){.op = CEL_OP_CONST, .value = v}, ret);
}

/* Nodes in the order of the source, then as an array in the arena. */
struct nodes {
	const struct cel_node **at;
	unsigned count, size;
};

static int push(struct parser *p, struct nodes *list, const struct cel_node *n)
{
	if (list->count == list->size) {
		unsigned size = list->size ? list->size * 2 : 4;
		const struct cel_node **at = base_arena_array(p->program->arena, size, sizeof(*at));

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

/* Expressions, parted by commas, up to and with `end`. A comma may stand behind the last one if `trailing`.
 */
static int parse_list(struct parser *p, unsigned end, bool trailing, struct nodes *ret)
{
	int r = 0;

	while (r == 0 && !is_op(p, end)) {
		const struct cel_node *n;

		r = parse_expr(p, &n);
		if (r == 0)
			r = push(p, ret, n);
		if (r == 0 && !is_op(p, end)) {
			r = expect(p, ',', "expected a comma");
			if (r == 0 && is_op(p, end) && !trailing)
				r = refuse(p, "expected an expression");
		}
	}
	return r < 0 ? r : advance(p);
}

static bool all_constant(const struct nodes *list)
{
	unsigned i;

	for (i = 0; i < list->count; i++)
		if (list->at[i]->op != CEL_OP_CONST)
			return false;
	return true;
}

static int list_literal(struct parser *p, const struct cel_node **ret)
{
	struct nodes list = {0};
	struct cel_value *items;
	struct cel_box *box;
	unsigned i;
	int r = parse_list(p, ']', true, &list);

	if (r < 0)
		return r;
	if (!all_constant(&list))
		return make(p, (struct cel_node){.op = CEL_OP_LIST, .args = list.at, .arg_count = list.count},
			ret);
	items = base_arena_array(p->program->arena, list.count, sizeof(*items));
	box = base_arena_alloc(p->program->arena, sizeof(*box));
	if (!items || !box)
		return no_memory(p);
	for (i = 0; i < list.count; i++)
		items[i] = list.at[i]->value;
	*box = (struct cel_box){.count = list.count, .items = items};
	r = constant(p, cel_box_value(CEL_LIST, box), ret);
	return r;
}

static int map_literal(struct parser *p, const struct cel_node **ret)
{
	struct nodes list = {0};
	int r = 0;

	while (r == 0 && !is_op(p, '}')) {
		const struct cel_node *key, *value;

		r = parse_expr(p, &key);
		if (r == 0)
			r = expect(p, ':', "expected a colon");
		if (r == 0)
			r = parse_expr(p, &value);
		if (r == 0)
			r = push(p, &list, key);
		if (r == 0)
			r = push(p, &list, value);
		if (r == 0 && !is_op(p, '}'))
			r = expect(p, ',', "expected a comma");
	}
	if (r == 0)
		r = advance(p);
	return r < 0 ? r
		     : make(p, (struct cel_node){.op = CEL_OP_MAP, .args = list.at, .arg_count = list.count},
			       ret);
}

static int keep_regex(struct parser *p, struct cel_node *n, struct base_str pattern, size_t at)
{
	struct cel_regexes *keep = base_arena_alloc(p->program->arena, sizeof(*keep));
	struct base_err err;

	if (!keep)
		return no_memory(p);
	if (base_regex_compile(pattern, &keep->regex, &err) < 0)
		return refuse_at(p, at, err.text);
	keep->next = p->program->regexes;
	p->program->regexes = keep;
	n->regex = keep->regex;
	return 0;
}

static int call(struct parser *p, struct base_str name, size_t at, const struct cel_node *target,
	struct nodes *args, const struct cel_node **ret)
{
	const struct cel_function *f = cel_function_find(name);
	struct cel_node n = {.op = CEL_OP_CALL, .name = name};
	struct nodes all = {0};
	unsigned i;
	int r = 0;

	if (base_str_is(name, "dyn") && !target && args->count == 1) {
		*ret = args->at[0];
		return 0;
	}
	if (!f || (target ? !f->member : !f->global))
		return refuse_at(p, at, "a function that is not known");
	if (args->count + (target != NULL) != f->args)
		return refuse_at(p, at, "the wrong number of arguments");
	if (target)
		r = push(p, &all, target);
	for (i = 0; i < args->count && r == 0; i++)
		r = push(p, &all, args->at[i]);
	if (r < 0)
		return r;
	n.fn = f->fn;
	n.args = all.at;
	n.arg_count = all.count;
	if (f->fn == cel_call_matches && all.at[1]->op == CEL_OP_CONST && all.at[1]->value.kind == CEL_STRING)
		r = keep_regex(p, &n, all.at[1]->value.as.s, at);
	return r < 0 ? r : make(p, n, ret);
}

/* has(a.b): takes the selection apart. */
static int has_macro(struct parser *p, size_t at, const struct cel_node **ret)
{
	const struct cel_node *n;
	struct cel_node has;
	int r = parse_expr(p, &n);

	if (r == 0)
		r = expect(p, ')', "expected a )");
	if (r < 0)
		return r;
	if (n->op != CEL_OP_SELECT)
		return refuse_at(p, at, "has() wants a field: has(a.b)");
	has = *n;
	has.op = CEL_OP_HAS;
	return make(p, has, ret);
}

static bool macro_op(struct base_str name, enum cel_op *ret)
{
	static const struct {
		const char *name;
		enum cel_op op;
	} macros[] = {{"all", CEL_OP_ALL}, {"exists", CEL_OP_EXISTS}, {"exists_one", CEL_OP_EXISTS_ONE},
		{"existsOne", CEL_OP_EXISTS_ONE}, {"map", CEL_OP_COLLECT}, {"filter", CEL_OP_COLLECT}};
	size_t i;

	for (i = 0; i < sizeof(macros) / sizeof(macros[0]); i++)
		if (base_str_is(name, macros[i].name)) {
			*ret = macros[i].op;
			return true;
		}
	return false;
}

static int macro_variable(struct parser *p, struct scope *s)
{
	if (p->token.kind != CEL_T_IDENT || reserved(p->token.text))
		return refuse(p, "expected the name of a variable");
	if (p->locals == CEL_LOCALS_MAX)
		return refuse(p, "macros are nested too deep");
	*s = (struct scope){.up = p->scope, .name = p->token.text, .local = p->locals++};
	p->scope = s;
	return advance(p);
}

/* True if what is ahead is "name ,": a second variable. */
static bool second_variable(const struct parser *p)
{
	struct cel_lexer ahead = p->lex;
	struct cel_token t;

	ahead.err = NULL;
	return p->token.kind == CEL_T_IDENT && !reserved(p->token.text) && cel_lex(&ahead, &t) == 0 &&
	       t.kind == CEL_T_OP && t.op == ',';
}

static int macro_bodies(struct parser *p, struct base_str name, struct cel_node *n)
{
	int r = parse_expr(p, &n->b);

	if (r == 0 && base_str_is(name, "map") && is_op(p, ',')) {
		r = advance(p);
		if (r == 0)
			r = parse_expr(p, &n->c);
	} else if (r == 0 && base_str_is(name, "map")) {
		n->c = n->b; /* no filter */
		n->b = NULL;
	}
	return r < 0 ? r : expect(p, ')', "expected a )");
}

static int macro(struct parser *p, struct base_str name, enum cel_op op, const struct cel_node *range,
	const struct cel_node **ret)
{
	struct cel_node n = {.op = op, .a = range, .local = p->locals};
	const struct scope *outer = p->scope;
	struct scope first, second;
	int r = macro_variable(p, &first);

	if (r == 0)
		r = expect(p, ',', "expected a comma");
	if (r == 0 && op != CEL_OP_COLLECT && second_variable(p)) {
		r = macro_variable(p, &second);
		if (r == 0)
			r = expect(p, ',', "expected a comma");
	}
	n.arg_count = 0;
	n.value = cel_bool(p->locals - n.local == 2);
	if (r == 0)
		r = macro_bodies(p, name, &n);
	p->scope = outer;
	p->locals = n.local;
	return r < 0 ? r : make(p, n, ret);
}

/* Behind the name of a function and its "(". */
static int parse_call(struct parser *p, struct base_str name, size_t at, const struct cel_node *target,
	const struct cel_node **ret)
{
	struct nodes args = {0};
	enum cel_op op;
	int r;

	if (!target && base_str_is(name, "has"))
		return has_macro(p, at, ret);
	if (target && macro_op(name, &op))
		return macro(p, name, op, target, ret);
	r = parse_list(p, ')', false, &args);
	return r < 0 ? r : call(p, name, at, target, &args, ret);
}

static int identifier(struct parser *p, const struct cel_node **ret)
{
	struct base_str name = p->token.text;
	const struct scope *s;
	size_t at = p->token.at;
	int r;

	if (base_str_is(name, "true") || base_str_is(name, "false")) {
		r = constant(p, cel_bool(base_str_is(name, "true")), ret);
		return r < 0 ? r : advance(p);
	}
	if (base_str_is(name, "null")) {
		r = constant(p, cel_null(), ret);
		return r < 0 ? r : advance(p);
	}
	if (reserved(name))
		return refuse(p, "a reserved word");
	r = advance(p);
	if (r < 0)
		return r;
	if (is_op(p, '(')) {
		r = advance(p);
		return r < 0 ? r : parse_call(p, name, at, NULL, ret);
	}
	for (s = p->scope; s; s = s->up)
		if (base_str_eq(s->name, name))
			return make(p, (struct cel_node){.op = CEL_OP_LOCAL, .local = s->local}, ret);
	name = base_arena_dup(p->program->arena, name);
	return name.ptr ? make(p, (struct cel_node){.op = CEL_OP_VAR, .name = name}, ret) : no_memory(p);
}

static int parse_primary(struct parser *p, const struct cel_node **ret)
{
	int r;

	if (p->token.kind == CEL_T_VALUE) {
		if (p->token.min_magnitude)
			return refuse(p, "a number that is too large");
		r = constant(p, p->token.value, ret);
		return r < 0 ? r : advance(p);
	}
	if (is_op(p, '.')) { /* a name from the outermost scope: there is but one */
		r = advance(p);
		if (r < 0)
			return r;
		if (p->token.kind != CEL_T_IDENT)
			return refuse(p, "expected a name");
	}
	if (p->token.kind == CEL_T_IDENT)
		return identifier(p, ret);
	if (is_op(p, '(')) {
		r = advance(p);
		if (r == 0)
			r = parse_expr(p, ret);
		return r < 0 ? r : expect(p, ')', "expected a )");
	}
	if (is_op(p, '[')) {
		r = advance(p);
		return r < 0 ? r : list_literal(p, ret);
	}
	if (is_op(p, '{')) {
		r = advance(p);
		return r < 0 ? r : map_literal(p, ret);
	}
	return refuse(
		p, p->token.kind == CEL_T_END ? "the expression ends too early" : "expected an expression");
}

static int selection(struct parser *p, const struct cel_node *of, const struct cel_node **ret)
{
	struct base_str name = p->token.text;
	size_t at = p->token.at;
	bool quoted = p->token.kind == CEL_T_QUOTED;
	int r;

	if (!quoted && (p->token.kind != CEL_T_IDENT || keyword(name)))
		return refuse(p, "expected the name of a field");
	name = base_arena_dup(p->program->arena, name);
	if (!name.ptr)
		return no_memory(p);
	r = advance(p);
	if (r < 0)
		return r;
	if (!quoted && is_op(p, '(')) {
		r = advance(p);
		return r < 0 ? r : parse_call(p, name, at, of, ret);
	}
	return make(p, (struct cel_node){.op = CEL_OP_SELECT, .a = of, .name = name}, ret);
}

static int parse_member(struct parser *p, const struct cel_node **ret)
{
	const struct cel_node *n, *index;
	int r = parse_primary(p, &n);

	while (r == 0) {
		if (is_op(p, '.')) {
			r = advance(p);
			if (r == 0)
				r = selection(p, n, &n);
		} else if (is_op(p, '[')) {
			r = advance(p);
			if (r == 0)
				r = parse_expr(p, &index);
			if (r == 0)
				r = expect(p, ']', "expected a ]");
			if (r == 0)
				r = make(p, (struct cel_node){.op = CEL_OP_INDEX, .a = n, .b = index}, &n);
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
static int negative(struct parser *p, const struct cel_node **ret)
{
	struct cel_token *t = &p->token;
	const struct cel_node *n;
	int r;

	if (t->kind == CEL_T_VALUE && (t->value.kind == CEL_INT || t->value.kind == CEL_DOUBLE)) {
		if (t->value.kind == CEL_INT)
			t->value.as.i = (int64_t)(0 - (uint64_t)t->value.as.i);
		else
			t->value.as.d = -t->value.as.d;
		t->min_magnitude = false;
		return parse_member(p, ret);
	}
	r = parse_unary(p, &n);
	return r < 0 ? r : make(p, (struct cel_node){.op = CEL_OP_NEGATE, .a = n}, ret);
}

static int parse_unary(struct parser *p, const struct cel_node **ret)
{
	const struct cel_node *n;
	int r;

	if (p->depth >= CEL_DEPTH_MAX)
		return refuse(p, "the expression is nested too deep");
	if (!is_op(p, '!') && !is_op(p, '-'))
		return parse_member(p, ret);
	p->depth++;
	if (is_op(p, '-')) {
		r = advance(p);
		if (r == 0)
			r = negative(p, ret);
	} else {
		r = advance(p);
		if (r == 0)
			r = parse_unary(p, &n);
		if (r == 0)
			r = make(p, (struct cel_node){.op = CEL_OP_NOT, .a = n}, ret);
	}
	p->depth--;
	return r;
}

/* How tight an operator binds, or 0 if what is ahead is none. */
static unsigned binding(const struct parser *p, enum cel_op *ret)
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

static int parse_binary(struct parser *p, unsigned least, const struct cel_node **ret)
{
	const struct cel_node *left, *right;
	enum cel_op op = CEL_OP_CONST;
	unsigned power;
	int r = parse_unary(p, &left);

	while (r == 0 && (power = binding(p, &op)) >= least && power > 0) {
		r = advance(p);
		if (r == 0)
			r = parse_binary(p, power + 1, &right);
		if (r == 0)
			r = make(p, (struct cel_node){.op = op, .a = left, .b = right}, &left);
	}
	if (r == 0)
		*ret = left;
	return r;
}

static int parse_conditional(struct parser *p, const struct cel_node **ret)
{
	struct cel_node n = {.op = CEL_OP_IF};
	int r = parse_binary(p, 1, &n.a);

	if (r < 0 || !is_op(p, '?')) {
		*ret = n.a;
		return r;
	}
	r = advance(p);
	if (r == 0)
		r = parse_binary(p, 1, &n.b);
	if (r == 0)
		r = expect(p, ':', "expected a colon");
	if (r == 0)
		r = parse_expr(p, &n.c);
	return r < 0 ? r : make(p, n, ret);
}

static int parse_expr(struct parser *p, const struct cel_node **ret)
{
	int r;

	if (p->depth >= CEL_DEPTH_MAX)
		return refuse(p, "the expression is nested too deep");
	p->depth++;
	r = parse_conditional(p, ret);
	p->depth--;
	return r;
}

int cel_parse(struct cel_program *program, struct base_str source, struct base_err *err)
{
	struct parser p = {
		.lex = {.in = source, .arena = program->arena, .err = err}, .program = program, .err = err};
	int r;

	if (source.len > CEL_SOURCE_MAX)
		return base_err_set(err, -EINVAL, "the expression is longer than %d bytes", CEL_SOURCE_MAX);
	if (!base_utf8_valid(source))
		return base_err_set(err, -EINVAL, "the expression is not UTF-8");
	r = advance(&p);
	if (r == 0)
		r = parse_expr(&p, &program->root);
	if (r == 0 && p.token.kind != CEL_T_END)
		r = refuse(&p, "expected an operator or the end");
	return r;
}
