#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

/*
 * The Common Expression Language (github.com/google/cel-spec), the part that policy rules use today: null,
 * bool, int, uint, double, string, list, map; all operators with CEL's overflow and short-circuit rules (an
 * error beside a deciding operand of && and || is absorbed); field selection, index, has(), size(), contains,
 * startsWith, endsWith, matches, int(), uint(), double(), string(), bool(), type checks by error, and the
 * macros all, exists, exists_one, map, filter. Pure.
 */
struct cel_program;

/* Parses and checks. -EINVAL with line and column. The caller frees *ret. */
int cel_compile(struct base_str source, struct cel_program **ret, struct base_err *err)
	__attribute__((warn_unused_result));
void cel_free(struct cel_program *p);

/* A value. Strings and JSON values are borrowed from the arena, the program or the bindings. */
enum cel_kind { CEL_NULL, CEL_BOOL, CEL_INT, CEL_UINT, CEL_DOUBLE, CEL_STRING, CEL_LIST, CEL_MAP, CEL_ERROR };
struct cel_value {
	enum cel_kind kind;
	union {
		bool b;
		int64_t i;
		uint64_t u;
		double d;
		struct base_str s; /* also the text of an error */
		const void *ref;   /* cel.c's own */
	} as;
};
struct cel_value cel_bool(bool b);
struct cel_value cel_int(int64_t i);
struct cel_value cel_string(struct base_str s);
struct cel_value cel_null(void);
/* A JSON value seen as CEL (objects are maps, ints are int, other numbers double); not copied: `arena` holds
 * a handle. */
struct cel_value cel_json(struct base_jv v, struct base_arena *arena);

struct cel_binding {
	struct base_str name;
	struct cel_value value;
};

/* Evaluates; steps_max bounds the work (0: 100,000). A failure is a value of kind CEL_ERROR, never a crash.
 */
struct cel_value cel_eval(const struct cel_program *p, const struct cel_binding *vars, unsigned count,
	struct base_arena *arena, uint64_t steps_max);
