#include "base/heap.h"

#include <errno.h>
#include <stdlib.h>

struct base_heap {
	struct base_heap_item *items; /* invariant: no item comes before its parent at (i - 1) / 2 */
	size_t count;
	size_t size;
};

int base_heap_new(struct base_heap **ret)
{
	struct base_heap *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	*ret = h;
	return 0;
}

void base_heap_free(struct base_heap *h)
{
	if (!h)
		return;
	free(h->items);
	free(h);
}

/* A total order, so that what comes out does not depend on how it went in. */
static bool before(const struct base_heap_item *a, const struct base_heap_item *b)
{
	if (a->when != b->when)
		return a->when < b->when;
	if (a->id != b->id)
		return a->id < b->id;
	if (a->sub != b->sub)
		return a->sub < b->sub;
	return a->kind < b->kind;
}

int base_heap_push(struct base_heap *h, struct base_heap_item item)
{
	size_t i;

	if (h->count == h->size) {
		size_t size = h->size ? h->size * 2 : 64;
		struct base_heap_item *items = reallocarray(h->items, size, sizeof(*items));

		if (!items)
			return -ENOMEM;
		h->items = items;
		h->size = size;
	}
	for (i = h->count++; i > 0 && before(&item, &h->items[(i - 1) / 2]); i = (i - 1) / 2)
		h->items[i] = h->items[(i - 1) / 2];
	h->items[i] = item;
	return 0;
}

bool base_heap_peek(const struct base_heap *h, struct base_heap_item *ret)
{
	if (h->count == 0)
		return false;
	*ret = h->items[0];
	return true;
}

/* Puts an item into the empty place i, or below it. */
static void sink(struct base_heap *h, size_t i, struct base_heap_item item)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= h->count)
			break;
		if (child + 1 < h->count && before(&h->items[child + 1], &h->items[child]))
			child++;
		if (!before(&h->items[child], &item))
			break;
		h->items[i] = h->items[child];
		i = child;
	}
	h->items[i] = item;
}

bool base_heap_pop(struct base_heap *h, struct base_heap_item *ret)
{
	if (!base_heap_peek(h, ret))
		return false;
	h->count--;
	if (h->count > 0)
		sink(h, 0, h->items[h->count]);
	return true;
}

void base_heap_filter(
	struct base_heap *h, bool (*keep)(void *userdata, const struct base_heap_item *item), void *userdata)
{
	size_t kept = 0;

	for (size_t i = 0; i < h->count; i++)
		if (keep(userdata, &h->items[i]))
			h->items[kept++] = h->items[i];
	h->count = kept;
	for (size_t i = kept / 2; i > 0; i--)
		sink(h, i - 1, h->items[i - 1]);
}

size_t base_heap_count(const struct base_heap *h)
{
	return h->count;
}
