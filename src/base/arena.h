#pragma once

#include <stddef.h>

#include "base/str.h"

/* Memory that is freed all at once. Not for sharing between threads. */
struct base_arena;

/* cap: the most bytes that it will ever hand out. -ENOMEM. The caller frees *ret. */
int base_arena_new(size_t cap, struct base_arena **ret) __attribute__((warn_unused_result));
void base_arena_free(struct base_arena *a); /* NULL is fine */
/* Takes back everything; keeps the first chunk for reuse. */
void base_arena_reset(struct base_arena *a);
/* Zeroed, aligned for any type, valid until reset or free. NULL when the cap or the machine's memory is
 * reached. */
void *base_arena_alloc(struct base_arena *a, size_t size);
/* count * size with an overflow check. */
void *base_arena_array(struct base_arena *a, size_t count, size_t size);
/* A copy with a terminating NUL behind it. ptr is NULL when memory is out. */
struct base_str base_arena_dup(struct base_arena *a, struct base_str s);
/* One behind the other, whatever bytes they hold (%.*s ends at a NUL). ptr is NULL when memory is out. */
struct base_str base_arena_join(struct base_arena *a, const struct base_str *part, size_t count);
#define BASE_JOIN(a, ...)                                                                                    \
	base_arena_join(a, (const struct base_str[]){__VA_ARGS__},                                           \
		sizeof((const struct base_str[]){__VA_ARGS__}) / sizeof(struct base_str))
struct base_str base_arena_printf(struct base_arena *a, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
size_t base_arena_used(const struct base_arena *a); /* bytes handed out since the last reset */
