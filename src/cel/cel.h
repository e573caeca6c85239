#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

/*
 * The Common Expression Language (github.com/google/cel-spec) without protobuf messages: docs/cel.md lists it. Compiled
 * once, evaluated often: names become slots, constants are folded, functions are found. Pure: no clock, no I/O; an
 * evaluation allocates from the caller's arena alone.
 */

/* --- values --- */

enum cel_kind {
	CEL_NULL,
	CEL_BOOL,
	CEL_INT,
	CEL_UINT,
	CEL_DOUBLE,
	CEL_STRING,
	CEL_LIST,
	CEL_MAP,
	CEL_ERROR,
	CEL_BYTES,
	CEL_TYPE,
	CEL_TIMESTAMP,
	CEL_DURATION,
	CEL_OPTIONAL,
	CEL_LAZY, /* only in what is bound: made when it is read */
	CEL_DYN,  /* only in declarations: any kind */
};

struct cel_value;
struct cel_lazy {
	/* Makes the value; may be called more than once. May allocate from `arena`; may give CEL_ERROR. */
	struct cel_value (*get)(struct cel_lazy *lazy, struct base_arena *arena);
};

/* Strings (valid UTF-8), bytes, lists and maps are borrowed from the arena, the program or what is bound. */
struct cel_value {
	enum cel_kind kind;
	uint32_t tag; /* cel's own */
	union {
		bool b;
		int64_t i; /* also a duration, in nanoseconds */
		uint64_t u;
		double d;
		struct base_str s; /* also bytes, the name of a type, the text of an error */
		struct {
			int64_t s; /* since 1970 UTC */
			int32_t ns;
		} time;
		const void *ref; /* cel's own */
		struct cel_lazy *lazy;
	} as;
};

struct cel_value cel_bool(bool b);
struct cel_value cel_int(int64_t i);
struct cel_value cel_uint(uint64_t u);
struct cel_value cel_double(double d);
struct cel_value cel_string(struct base_str s); /* valid UTF-8 */
struct cel_value cel_bytes(struct base_str s);
struct cel_value cel_null(void);
struct cel_value cel_error(const char *text); /* text lives as long as the value */
struct cel_value cel_lazy(struct cel_lazy *lazy);
/* Years 1 to 9999; anything else is an error. ns: 0 to 999,999,999. */
struct cel_value cel_timestamp(int64_t s, int32_t ns);
struct cel_value cel_duration(int64_t ns);
/* A JSON value as CEL sees it: integers within int64 are int, all other numbers double. Read in place, not copied. */
struct cel_value cel_json(struct base_jv v);
/* A list of `count` items; a map of `count` pairs (key, value, key, value …), whose keys are not checked. The items are
 * borrowed. */
struct cel_value cel_list(const struct cel_value *items, size_t count, struct base_arena *arena);
struct cel_value cel_map(const struct cel_value *pairs, size_t count, struct base_arena *arena);
/* A value as {"t": type, "v": value}, see docs/cel.md: ints and uints as text, bytes as base64, a map as a list of pairs,
 * timestamp and duration as [seconds, nanoseconds]. -EINVAL with why. */
int cel_from_typed(struct base_jv v, struct base_arena *arena, struct cel_value *ret, struct base_err *err)
	__attribute__((warn_unused_result));
/* Appends that form; an error, an optional and a lazy value have one too ({"t":"error"} …), which does not read back. */
void cel_put_typed(struct base_buf *b, struct cel_value v);
/* Appends plain JSON: uint as a number, bytes as base64, timestamp, duration and types as text, keys as text, an optional
 * as its value or null, a double that is not finite as text. */
void cel_put_json(struct base_buf *b, struct cel_value v);
/* Appends the value as an expression that gives it again (an error: its text). */
void cel_put_text(struct base_buf *b, struct cel_value v);
/* The same value of the same type; NaN is itself, the order of a map's members is nothing. */
bool cel_same(struct cel_value a, struct cel_value b);
const char *cel_kind_name(enum cel_kind kind); /* as type() has it: "int" */

/* --- compiling --- */

struct cel_var {
	struct base_str name; /* may have dots */
	enum cel_kind kind;   /* CEL_DYN: any */
};

/* What an expression may name. Borrowed while it compiles. */
struct cel_env {
	const struct cel_var *vars; /* the slots, in this order */
	unsigned count;
	bool open;		   /* a name that is not declared is looked up when evaluated (cel_eval) */
	bool untyped;		   /* types are left to evaluation */
	bool unbound;		   /* so are functions that are not known: a call of one is an error */
	struct base_str container; /* "a.b": names are first looked for below it */
};
struct cel_program;

/* Parses and checks: syntax, names, numbers of arguments, types as far as they are known. -EINVAL with "line L, column C:
 * why", -ENOMEM. NULL for env: open and untyped. The caller frees *ret. */
int cel_compile_in(struct base_str source, const struct cel_env *env, struct cel_program **ret,
	struct base_err *err) __attribute__((warn_unused_result));
int cel_compile(struct base_str source, struct cel_program **ret, struct base_err *err)
	__attribute__((warn_unused_result));
void cel_free(struct cel_program *p);

/* What it gives as far as that is known, else CEL_DYN. */
enum cel_kind cel_result(const struct cel_program *p);
bool cel_reads(const struct cel_program *p, unsigned slot); /* names the variable of that slot */
bool cel_reads_name(const struct cel_program *p, const char *name);
/* A constant, known without evaluation. */
bool cel_constant(const struct cel_program *p, struct cel_value *ret);
/* Appends the expression in one form for all its spellings. -EINVAL, -ENOMEM. */
int cel_print(struct base_str source, struct base_buf *ret, struct base_err *err)
	__attribute__((warn_unused_result));

/* --- evaluating --- */

struct cel_limits {
	uint64_t steps;	   /* each a node, an element, some bytes; 0: 100,000 */
	size_t string_max; /* bytes of a string that is made; 0: 1 MiB */
	size_t list_max;   /* elements of a list or map that is made; 0: 100,000 */
	/* Seconds that the clocks of a zone ("Europe/Berlin") are ahead at `time` (seconds since 1970 UTC). False: no such
	 * zone. NULL: UTC and fixed offsets alone. */
	bool (*zone)(void *ctx, struct base_str name, int64_t time, int32_t *ret_offset_s);
	void *zone_ctx;
};

struct cel_binding {
	struct base_str name;
	struct cel_value value;
};

/* Evaluates. A failure is a value of kind CEL_ERROR, never a crash; what ran out (steps, memory, a size) is one whatever
 * the expression absorbs. `values` has one for each slot of the environment; limits may be NULL. */
struct cel_value cel_eval_in(const struct cel_program *p, const struct cel_value *values,
	struct base_arena *arena, const struct cel_limits *limits);
/* The same with names, for programs of an open environment too. steps_max 0: 100,000. */
struct cel_value cel_eval(const struct cel_program *p, const struct cel_binding *vars, unsigned count,
	struct base_arena *arena, uint64_t steps_max);
struct cel_value cel_eval_with(const struct cel_program *p, const struct cel_binding *vars, unsigned count,
	struct base_arena *arena, const struct cel_limits *limits);
/* Where in the source an error of evaluation arose; false: not known. Both count from 1, columns in characters. */
bool cel_error_place(struct base_str source, struct cel_value error, size_t *ret_line, size_t *ret_column);

/* A case: {"expr", "vars": {name: typed value}, "want": typed value | "error": true}. 0 passed; -EBADMSG: failed, with what
 * it gives in *why; -EINVAL: no case. */
int cel_case(struct base_jv c, const struct cel_limits *limits, struct base_buf *why);
