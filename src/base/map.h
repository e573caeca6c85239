#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* Maps to pointers that the caller owns. Never seeded at random: the same operations give the same memory
 * layout and the same iteration order in every process (replay depends on it). */

/* Ids to pointers: open addressing. Iteration order is unspecified but deterministic; do not change it while
 * iterating. */
struct base_idmap;
int base_idmap_new(struct base_idmap **ret) __attribute__((warn_unused_result));
void base_idmap_free(struct base_idmap *m);		       /* not what it points to */
void *base_idmap_get(const struct base_idmap *m, uint64_t id); /* NULL: none */
int base_idmap_put(struct base_idmap *m, uint64_t id, void *value)
	__attribute__((warn_unused_result));		    /* -ENOMEM; replaces */
void *base_idmap_remove(struct base_idmap *m, uint64_t id); /* what was there, or NULL */
/* Room for `count` ids in all, so that filling it does not stop for a larger table again and again. */
int base_idmap_reserve(struct base_idmap *m, size_t count) __attribute__((warn_unused_result)); /* -ENOMEM */
size_t base_idmap_count(const struct base_idmap *m);
/* Start with *cursor = 0; false at the end. */
bool base_idmap_next(const struct base_idmap *m, size_t *cursor, uint64_t *ret_id, void **ret_value);

/* Strings to pointers, in bytewise order of the keys. Keys are copied. */
struct base_names;
int base_names_new(struct base_names **ret) __attribute__((warn_unused_result));
void base_names_free(struct base_names *m);
void *base_names_get(const struct base_names *m, struct base_str key);
int base_names_put(struct base_names *m, struct base_str key, void *value)
	__attribute__((warn_unused_result));
void *base_names_remove(struct base_names *m, struct base_str key);
size_t base_names_count(const struct base_names *m);
/* The first key that is >= `from` (inclusive) or > `from` (exclusive); views stay valid until the key is
 * removed. */
bool base_names_seek(const struct base_names *m, struct base_str from, bool inclusive,
	struct base_str *ret_key, void **ret_value);
