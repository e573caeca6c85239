#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A min-heap of (when, id): timers. Equal times come out in order of id. */
struct base_heap_item {
	int64_t when;
	uint64_t id;
	uint32_t sub;
	uint32_t kind;
};

struct base_heap;
int base_heap_new(struct base_heap **ret) __attribute__((warn_unused_result));
void base_heap_free(struct base_heap *h);
int base_heap_push(struct base_heap *h, struct base_heap_item item)
	__attribute__((warn_unused_result)); /* -ENOMEM */
bool base_heap_peek(const struct base_heap *h, struct base_heap_item *ret);
bool base_heap_pop(struct base_heap *h, struct base_heap_item *ret);
/* Drops the items for which keep is false: O(count). keep must not touch the heap. */
void base_heap_filter(
	struct base_heap *h, bool (*keep)(void *userdata, const struct base_heap_item *item), void *userdata);
size_t base_heap_count(const struct base_heap *h);
