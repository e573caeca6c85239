#pragma once

#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

/*
 * Regular expressions in time linear in the text (times the pattern): no captures, no backtracking. The syntax
 * of RE2: literals, \Q…\E, ., classes ([a-z], [^…], [[:alpha:]], [[:^alpha:]], \d \w \s, \pL \p{Lu} \p{^Lu}
 * and their negations), groups with and without names, |, *, +, ?, {m,n}, lazy forms, ^, $, \A, \z, \b, \B,
 * escapes (\n, \101, \x41, \x{1f600}, \u0041), the flags i, m, s and U of a group or of what follows. Anything
 * else is refused: so are \C and the scripts of Unicode. Over code points.
 */
struct base_regex;

/* -EINVAL with the place in err, -E2BIG for a pattern that expands too far. The caller frees *ret. */
int base_regex_compile(struct base_str pattern, struct base_regex **ret, struct base_err *err)
	__attribute__((warn_unused_result));
/* The same in an arena, which frees it. */
int base_regex_compile_in(struct base_str pattern, struct base_arena *arena, const struct base_regex **ret,
	struct base_err *err) __attribute__((warn_unused_result));
/* What a character of the text may cost, in places of the pattern. */
unsigned base_regex_cost(const struct base_regex *re);
void base_regex_free(struct base_regex *re);
/* True if the pattern matches somewhere in the text. Does not allocate. */
bool base_regex_search(const struct base_regex *re, struct base_str text);
