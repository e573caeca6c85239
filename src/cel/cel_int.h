#pragma once

#include "base/arena.h"
#include "base/json.h"
#include "base/regex.h"
#include "cel/cel.h"

/* Shared by the files of this folder. */

enum {
	CEL_SOURCE_MAX = 64 << 10,
	CEL_DEPTH_MAX = 400,  /* of the tree: bounds every recursion over it */
	CEL_LOCALS_MAX = 32,  /* macros inside of macros */
	CEL_ARGS_MAX = 4,     /* of a function */
	CEL_STEPS = 100000,   /* unless the caller says otherwise */
	CEL_BYTES_A_STEP = 64 /* what a step pays for when a string is searched or copied */
};

/* --- tokens (lex.c) --- */

enum cel_token_kind {
	CEL_T_END,
	CEL_T_IDENT,  /* text */
	CEL_T_QUOTED, /* `text`: a field name */
	CEL_T_VALUE,  /* value: a number or a string */
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
	struct base_arena *arena; /* of strings with escapes */
	struct base_err *err;
};

/* The next token. 0, or -EINVAL with its place in err. */
int cel_lex(struct cel_lexer *l, struct cel_token *ret);
/* -EINVAL with "line L, column C: why". */
int cel_refuse(struct base_err *err, struct base_str source, size_t at, const char *why);

/* --- the tree (parse.c makes it, eval.c walks it) --- */

enum cel_op {
	CEL_OP_CONST,
	CEL_OP_VAR,
	CEL_OP_LOCAL,
	CEL_OP_SELECT, /* a.name */
	CEL_OP_HAS,
	CEL_OP_INDEX,
	CEL_OP_LIST,
	CEL_OP_MAP, /* args: key, value, key, value … */
	CEL_OP_CALL,
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
	CEL_OP_ALL, /* macros: a is the range, local the variable, b the body, c the body behind a filter */
	CEL_OP_EXISTS,
	CEL_OP_EXISTS_ONE,
	CEL_OP_COLLECT, /* map and filter */
};

struct cel_run;
struct cel_node;
typedef struct cel_value (*cel_fn)(
	struct cel_run *run, const struct cel_node *n, const struct cel_value *args, unsigned count);

struct cel_node {
	enum cel_op op;
	unsigned depth;
	const struct cel_node *a, *b, *c;
	const struct cel_node **args;
	unsigned arg_count;
	unsigned local;
	struct base_str name;
	struct cel_value value;
	cel_fn fn;
	const struct base_regex *regex; /* of a literal pattern */
};

struct cel_regexes {
	struct base_regex *regex;
	struct cel_regexes *next;
};

struct cel_program {
	struct base_arena *arena;
	const struct cel_node *root;
	struct cel_regexes *regexes;
};

/* Parses `source` into p (its arena is there). -EINVAL, -ENOMEM. */
int cel_parse(struct cel_program *p, struct base_str source, struct base_err *err);

/* --- values (value.c) --- */

/* A list or a map: a JSON value, or items of ours (a map's are key, value, key, value …). */
struct cel_box {
	struct base_jv json; /* v NULL: items */
	size_t count;	     /* elements or members */
	const struct cel_value *items;
};

struct cel_box_iter {
	struct base_jv_iter json;
	size_t i;
};

struct cel_run {
	const struct cel_binding *vars;
	unsigned var_count;
	struct base_arena *arena;
	uint64_t steps;
	struct cel_value locals[CEL_LOCALS_MAX];
};

struct cel_value cel_error(const char *text); /* text lives for ever */
struct cel_value cel_no_overload(void);
struct cel_value cel_no_memory(void);
/* Takes `cost` steps; false when there are none left. */
bool cel_pay(struct cel_run *run, uint64_t cost);
const struct cel_box *cel_box(struct cel_value v);
struct cel_value cel_box_value(enum cel_kind kind, const struct cel_box *box);
/* The next element (key: its index) or member. */
bool cel_box_next(const struct cel_box *b, bool map, struct cel_box_iter *it, struct cel_run *run,
	struct cel_value *ret_key, struct cel_value *ret);
/* Equality of CEL: numbers by value, different kinds are unequal. */
bool cel_equal(struct cel_run *run, struct cel_value a, struct cel_value b);
/* -1, 0, 1 into *ret; false if the two have no order (kinds that do not compare, NaN). */
bool cel_order(struct cel_value a, struct cel_value b, int *ret);
/* A member of a map; false: none. */
bool cel_find(struct cel_run *run, const struct cel_box *map, struct cel_value key, struct cel_value *ret);
bool cel_is_key(struct cel_value v);
bool cel_is_number(struct cel_value v);

/* --- functions (functions.c) --- */

struct cel_function {
	const char *name;
	bool member; /* may be called as args[0].name(…) */
	bool global; /* may be called as name(args[0], …) */
	unsigned args;
	cel_fn fn;
};
const struct cel_function *cel_function_find(struct base_str name);
struct cel_value cel_call_matches(
	struct cel_run *run, const struct cel_node *n, const struct cel_value *args, unsigned count);
