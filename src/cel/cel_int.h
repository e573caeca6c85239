#pragma once

#include "base/arena.h"
#include "base/json.h"
#include "base/regex.h"
#include "cel/cel.h"

/* Shared by the files of this folder. */

enum {
	CEL_SOURCE_MAX = 64 << 10,
	CEL_NESTING_MAX = 250, /* of the source: bounds the parser's recursion */
	CEL_DEPTH_MAX = 400,   /* of the tree: bounds every other recursion */
	CEL_LOCALS_MAX = 64,   /* variables of macros inside of macros */
	CEL_SLOTS_MAX = 64,    /* variables of an expression */
	CEL_ARGS_MAX = 4,      /* of a function */
	CEL_STEPS = 100000,    /* unless the caller says otherwise */
	CEL_STRING_MAX = 1 << 20,
	CEL_LIST_MAX = 100000,
	CEL_BYTES_A_STEP = 64, /* what a step pays for when a string is searched or copied */
	CEL_FOLD_STEPS = 20000 /* of all constants together */
};

/* --- tokens (lex.c) --- */

enum cel_token_kind {
	CEL_T_END,
	CEL_T_IDENT,  /* text */
	CEL_T_QUOTED, /* `text`: a field name */
	CEL_T_VALUE,  /* value: a number, a string or bytes */
	CEL_T_OP,     /* op: one of the characters below, or a pair of them */
};
#define CEL_OP2(a, b) ((unsigned)(a) | (unsigned)(b) << 8)

struct cel_token {
	enum cel_token_kind kind;
	size_t at; /* where it starts in the source */
	struct base_str text;
	unsigned op;
	struct cel_value value;
	bool min_magnitude; /* 9223372036854775808: an int only behind a minus */
};

struct cel_lexer {
	struct base_str in;
	size_t at;
	struct base_arena *arena; /* of strings */
	struct base_err *err;
};

/* The next token. 0, or -EINVAL with its place in err. */
int cel_lex(struct cel_lexer *l, struct cel_token *ret);
/* -EINVAL with "line L, column C: why". */
int cel_refuse(struct base_err *err, struct base_str source, size_t at, const char *why);
void cel_line_column(struct base_str source, size_t at, size_t *ret_line, size_t *ret_column);

/* --- the tree (parse.c and macro.c make it, check.c resolves it, eval.c walks it) --- */

enum cel_op {
	CEL_OP_CONST,
	CEL_OP_IDENT, /* until it is checked */
	CEL_OP_VAR,
	CEL_OP_LOCAL,
	CEL_OP_SELECT, /* a.name */
	CEL_OP_HAS,
	CEL_OP_INDEX,
	CEL_OP_LIST,
	CEL_OP_MAP,   /* args: key, value, key, value … */
	CEL_OP_MAYBE, /* an element or a member's value behind a '?': a is an optional */
	CEL_OP_CALL,  /* a: of a member until it is checked, then the first of args */
	CEL_OP_NOT,
	CEL_OP_NEGATE,
	CEL_OP_IF,
	CEL_OP_AND,
	CEL_OP_OR,
	CEL_OP_EQ,
	CEL_OP_NE,
	CEL_OP_LT,
	CEL_OP_LE,
	CEL_OP_GT,
	CEL_OP_GE,
	CEL_OP_IN,
	CEL_OP_ADD,
	CEL_OP_SUB,
	CEL_OP_MUL,
	CEL_OP_DIV,
	CEL_OP_MOD,
	/* Macros. a: the range or what is bound; name, name2 and locals: the variables; b: the predicate, the filter (NULL:
	 * none) or the body; c: what is collected. */
	CEL_OP_ALL,
	CEL_OP_EXISTS,
	CEL_OP_EXISTS_ONE,
	CEL_OP_FILTER,
	CEL_OP_TRANSFORM, /* map and transformList */
	CEL_OP_TRANSFORM_MAP,
	CEL_OP_TRANSFORM_ENTRY,
	CEL_OP_SORT_BY,
	CEL_OP_OPT_MAP,
	CEL_OP_OPT_FLAT_MAP,
	CEL_OP_BIND,
	CEL_OP_BLOCK, /* args are bound, in order, to @index0 and on */
};

struct cel_run;
typedef struct cel_value (*cel_fn)(struct cel_run *run, const struct cel_value *args, unsigned count);

/*
 * A function for arguments of certain types, a letter each (cel_letter): b bool, i int, u uint, f double, s string, y bytes,
 * l list, m map, t timestamp, r duration, k type, o optional, n null, d any.
 */
struct cel_overload {
	const char *name;
	const char *args;
	char result;
	uint8_t style;
	cel_fn fn;
};
enum {
	CEL_GLOBAL = 1,
	CEL_MEMBER = 2,
	CEL_ZONED = 4, /* depends on the zones of the evaluation */
	CEL_EITHER = 8 /* an optional that holds something answers, whatever the other argument is */
};

struct cel_node {
	uint8_t op;    /* enum cel_op */
	bool optional; /* select, index: behind a '?' */
	bool root;     /* ident: behind a '.' */
	bool two;      /* macro with two variables */
	bool few;      /* `in` a constant list that is short */
	uint16_t depth;
	uint16_t local; /* and local + 1 */
	uint32_t at;
	uint32_t arg_count;
	uint32_t slot;	   /* variable */
	uint32_t fn_count; /* overloads at fn */
	struct cel_node *a, *b, *c;
	struct cel_node **args;
	struct base_str name, name2;
	struct cel_value value;
	const struct cel_overload *fn;
	const struct base_regex *regex; /* of a literal pattern */
	const struct cel_value *sorted; /* `in` a constant list of strings: that list in order */
};

struct cel_program {
	struct base_arena *arena;
	struct cel_node *root;
	struct base_str *names;	   /* of the slots */
	struct cel_value *missing; /* the error of each that is not bound */
	uint32_t count;
	uint64_t reads; /* a bit per slot */
	enum cel_kind result;
};

struct cel_parser {
	struct cel_lexer lex;
	struct cel_token token; /* the one ahead */
	struct base_arena *arena;
	struct base_err *err;
	unsigned depth;
};

/* Nodes in the order of the source. */
struct cel_nodes {
	struct cel_node **at;
	uint32_t count, size;
};

/* The tree of `source`. -EINVAL, -ENOMEM. */
int cel_parse(struct base_str source, struct base_arena *arena, struct cel_node **ret, struct base_err *err);
int cel_make(struct cel_parser *p, struct cel_node node, struct cel_node **ret);
int cel_refuse_at(struct cel_parser *p, size_t at, const char *why);
/* Turns a call into the macro of that name, if it is one: 1; 0: it is none. `at` is where the name stands. */
int cel_macro(struct cel_parser *p, struct base_str name, size_t at, struct cel_node *target,
	struct cel_nodes *args, struct cel_node **ret);

/* Resolves names, functions and types, folds constants. -EINVAL with the place, -ENOMEM. */
int cel_check(struct cel_program *p, struct base_str source, const struct cel_env *env, struct base_err *err);

/* --- values (value.c) --- */

enum { CEL_TAG_JSON = 1 };

struct cel_items {
	size_t count;		       /* elements or members */
	const struct cel_value *items; /* a map's: key, value, key, value … */
};

struct cel_iter {
	struct base_jv_iter json;
	size_t i, count;
};

struct cel_run {
	const struct cel_value *vars;
	struct base_arena *arena;
	uint64_t steps;
	const char *stopped; /* what ran out */
	size_t string_max, list_max;
	const struct cel_limits *limits; /* or NULL */
	struct cel_value locals[CEL_LOCALS_MAX];
};

struct cel_value cel_eval_node(struct cel_run *run, const struct cel_node *n);
/* 1 true, 0 false, -1: neither, with the error in *ret. */
int cel_truth(struct cel_run *run, const struct cel_node *n, struct cel_value *ret);

/* The value of a node where it is, or made in *room. What needs no work costs no step. */
static inline const struct cel_value *cel_operand(
	struct cel_run *run, const struct cel_node *n, struct cel_value *room)
{
	if (n->op == CEL_OP_CONST)
		return &n->value;
	if (n->op == CEL_OP_LOCAL)
		return &run->locals[n->local];
	if (n->op == CEL_OP_VAR && run->vars[n->slot].kind != CEL_LAZY &&
		run->vars[n->slot].kind != CEL_ERROR)
		return &run->vars[n->slot];
	*room = cel_eval_node(run, n);
	return room;
}

struct cel_value cel_no_overload(void);
struct cel_value cel_named_error(struct cel_run *run, const char *what, struct base_str name);
/* Something ran out: ends the evaluation with this text. */
struct cel_value cel_stop(struct cel_run *run, const char *text);
/* Takes `cost` steps; false when there are none left, and the evaluation ends. */
bool cel_pay(struct cel_run *run, uint64_t cost);
/* Memory, paid for; NULL: the evaluation ends. */
char *cel_string_room(struct cel_run *run, size_t len);
struct cel_value *cel_items_room(struct cel_run *run, size_t count);
struct cel_value cel_made(
	struct cel_run *run, enum cel_kind kind, const struct cel_value *items, size_t count);
struct cel_value cel_copied(struct cel_run *run, enum cel_kind kind, struct base_str s);
struct cel_value cel_optional_of(struct cel_run *run, struct cel_value v);
struct cel_value cel_optional_none(void);
/* What is in it; NULL: none. */
const struct cel_value *cel_optional_get(struct cel_value v);
struct cel_value cel_type_value(enum cel_kind kind);

static inline const struct cel_items *cel_items(struct cel_value v)
{
	return (const struct cel_items *)v.as.ref;
}

size_t cel_count(struct cel_value v); /* of a list or map */
/* The element at i, which is below the count. */
struct cel_value cel_at(struct cel_value list, size_t i);
/* The next element (key: its index) or member. *it starts with i 0 and count cel_count. */
struct cel_iter cel_iter_of(struct cel_value v);
bool cel_next(struct cel_value v, struct cel_iter *it, struct cel_value *ret_key, struct cel_value *ret);
/* Equality of CEL: numbers by value, different kinds are unequal. */
bool cel_equal(struct cel_run *run, struct cel_value a, struct cel_value b);
/* -1, 0, 1 into *ret; false if the two have no order (kinds that do not compare, NaN). */
bool cel_order(struct cel_value a, struct cel_value b, int *ret);
/* A member of a map; false: none. */
bool cel_find(struct cel_run *run, struct cel_value map, struct cel_value key, struct cel_value *ret);
bool cel_is_key(struct cel_value v);
bool cel_is_number(struct cel_value v);
char cel_letter(enum cel_kind kind);

/* A string that grows in the run's arena. */
struct cel_text {
	struct cel_run *run;
	char *ptr;
	size_t len, size;
	bool failed;
};
void cel_text_put(struct cel_text *t, const char *data, size_t len);
void cel_text_str(struct cel_text *t, struct base_str s);
void cel_text_cstr(struct cel_text *t, const char *s);
struct cel_value cel_text_done(struct cel_text *t);
/* Sorts `items` by `keys`, stable. False: two keys have no order, or a single one is of a kind that has none. */
bool cel_sort(struct cel_run *run, struct cel_value *keys, struct cel_value *items, size_t count);

/* --- operators (arith.c) --- */
struct cel_value cel_arithmetic(struct cel_run *run, enum cel_op op, struct cel_value a, struct cel_value b);
struct cel_value cel_compare(enum cel_op op, struct cel_value a, struct cel_value b);
struct cel_value cel_negate(struct cel_value v);

/* --- times (time.c) --- */
enum { CEL_TIME_TEXT_MAX = 48 };
bool cel_timestamp_parse(struct base_str s, struct cel_value *ret);
bool cel_duration_parse(struct base_str s, struct cel_value *ret);
size_t cel_timestamp_text(struct cel_value v, char ret[CEL_TIME_TEXT_MAX]);
size_t cel_duration_text(struct cel_value v, char ret[CEL_TIME_TEXT_MAX]);

/* --- functions --- */
/* The overloads of a name stand together; *ret_count of them. NULL: none. */
const struct cel_overload *cel_function_find(struct base_str name, uint32_t *ret_count);
/* The tables that it looks through, each ended by a NULL name. */
extern const struct cel_overload cel_standard_functions[];
extern const struct cel_overload cel_string_functions[];
extern const struct cel_overload cel_time_functions[];
extern const struct cel_overload cel_math_functions[];
extern const struct cel_overload cel_list_functions[];
struct cel_value cel_matches(struct cel_run *run, struct base_str text, const struct base_regex *re);
struct cel_value cel_call_matches(struct cel_run *run, const struct cel_value *args, unsigned count);
struct cel_value cel_format(struct cel_run *run, const struct cel_value *args, unsigned count);
struct cel_value cel_quote(struct cel_run *run, const struct cel_value *args, unsigned count);
struct cel_value cel_reverse_list(struct cel_run *run, const struct cel_value *args, unsigned count);
/* The value as format's %s has it. False: it has no text. */
bool cel_text_value(struct cel_text *t, struct cel_value v);
size_t cel_unsigned_text(uint64_t v, unsigned base, bool upper, char ret[64]);
