#pragma once

#include <stddef.h>

#include "base/str.h"

/* Memory for many small objects that come and go, all freed at once with the slab. Objects of one size class
 * reuse each other's places, so a long life does not fragment. Not for sharing between threads. */
struct base_slab;

int base_slab_new(struct base_slab **ret) __attribute__((warn_unused_result)); /* -ENOMEM */
void base_slab_free(struct base_slab *s);				       /* with every object in it */
/* Zeroed. Ends the process when the machine is out of memory: the state cannot be half built. */
void *base_slab_alloc(struct base_slab *s, size_t size);
void base_slab_release(struct base_slab *s, void *ptr, size_t size); /* size as allocated; NULL is fine */
/* Grows an array from `count` to `new_count` elements (the new ones zeroed); the old place is released. */
void *base_slab_grow(struct base_slab *s, void *ptr, size_t count, size_t new_count, size_t size);
/* A copy with a NUL behind it; release with base_slab_str_release. */
struct base_str base_slab_dup(struct base_slab *s, struct base_str text);
void base_slab_str_release(struct base_slab *s, struct base_str text);
size_t base_slab_bytes(const struct base_slab *s); /* taken from the machine */
