#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A view of bytes that somebody else owns. Not terminated. ptr may be NULL only when len is 0. */
struct base_str {
	const char *ptr;
	size_t len;
};

#define BASE_STR(lit) ((struct base_str){(lit), sizeof(lit) - 1})
#define BASE_STR_NONE ((struct base_str){NULL, 0})
/* For printf: "%.*s" takes BASE_STR_ARG(s). */
#define BASE_STR_ARG(s) (int)(s).len, (s).ptr

/* A view of a terminated string; NULL gives the empty view. */
struct base_str base_str_of(const char *cstr);
struct base_str base_str_sub(struct base_str s, size_t from, size_t len); /* clamped to s */

bool base_str_eq(struct base_str a, struct base_str b);
bool base_str_is(struct base_str a, const char *cstr);
int base_str_cmp(struct base_str a, struct base_str b); /* bytewise, shorter first: <0, 0, >0 */
bool base_str_starts(struct base_str s, struct base_str prefix);
bool base_str_ends(struct base_str s, struct base_str suffix);
/* Index of the first `c`, or -1. */
ptrdiff_t base_str_find(struct base_str s, char c);
/* Splits at the first `c`: *ret_head before it, *ret_tail behind it. False (tail empty, head = s) if there is
 * none. */
bool base_str_cut(struct base_str s, char c, struct base_str *ret_head, struct base_str *ret_tail);

/* "mail.*" or "*" or an exact name: a '*' at the end matches any rest; nowhere else is it special. */
bool base_str_matches(struct base_str pattern, struct base_str name);

/* The whole of s as a decimal number without sign, leading zeros or blanks. 0, -EINVAL or -ERANGE. */
int base_str_u64(struct base_str s, uint64_t *ret) __attribute__((warn_unused_result));
int base_str_i64(struct base_str s, int64_t *ret) __attribute__((warn_unused_result));

/* True for well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). */
bool base_utf8_valid(struct base_str s);
/* Bytes of the well-formed UTF-8 character at the start of s; 0 when s is empty or starts with something
 * else. */
size_t base_utf8_next(struct base_str s);
/* Writes code point c, which UTF-8 can hold, to at most 4 bytes; how many. */
size_t base_utf8_put(char *to, uint32_t c);
