#include "flow/heap.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* In front of every block. 16 bytes, so that what follows stays aligned for any type. */
struct head {
	struct flow_account *owner;
	size_t size;
};

void flow_heap_init(struct flow_heap *h, size_t total_max)
{
	*h = (struct flow_heap){.total_max = total_max};
	h->common.limit = SIZE_MAX;
	h->cur = &h->common;
}

struct flow_account *flow_account_new(size_t limit)
{
	struct flow_account *a = calloc(1, sizeof(*a));
	if (a)
		a->limit = limit;
	return a;
}

void flow_account_close(struct flow_account *a)
{
	if (!a)
		return;
	a->closed = true;
	if (a->bytes == 0)
		free(a);
}

static bool may_take(struct flow_heap *h, struct flow_account *a, size_t more)
{
	if (more <= h->total_max - h->total && a->bytes <= a->limit && more <= a->limit - a->bytes)
		return true;
	a->exhausted = true;
	return false;
}

static void give_back(struct flow_heap *h, struct flow_account *a, size_t size)
{
	h->total -= size;
	a->bytes -= size;
	if (a->closed && a->bytes == 0)
		free(a);
}

static void *take(struct flow_heap *h, size_t size, bool zero)
{
	struct flow_account *a = h->cur;
	if (size > SIZE_MAX / 2 || !may_take(h, a, size + sizeof(struct head)))
		return NULL;
	struct head *b = zero ? calloc(1, size + sizeof(*b)) : malloc(size + sizeof(*b));
	if (!b) {
		a->exhausted = true;
		return NULL;
	}
	b->owner = a;
	b->size = size;
	a->bytes += size + sizeof(*b);
	h->total += size + sizeof(*b);
	return b + 1;
}

static void *heap_calloc(void *opaque, size_t count, size_t size)
{
	if (size != 0 && count > SIZE_MAX / 2 / size)
		return NULL;
	return take(opaque, count * size, true);
}

static void *heap_malloc(void *opaque, size_t size)
{
	return take(opaque, size, false);
}

static void heap_free(void *opaque, void *ptr)
{
	if (!ptr)
		return;
	struct head *b = (struct head *)ptr - 1;
	give_back(opaque, b->owner, b->size + sizeof(*b));
	free(b);
}

static void *heap_realloc(void *opaque, void *ptr, size_t size)
{
	struct flow_heap *h = opaque;
	if (!ptr)
		return take(h, size, false);
	if (size == 0) {
		heap_free(h, ptr);
		return NULL;
	}
	struct head *b = (struct head *)ptr - 1;
	struct flow_account *owner = b->owner;
	size_t old = b->size;
	if (size > SIZE_MAX / 2)
		return NULL;
	/* Tables that all share (atoms, shapes) stay with whoever made them; a run's own blocks meet its
	 * limit. */
	if (size > old && !may_take(h, owner == h->cur ? owner : &h->common, size - old))
		return NULL;
	struct head *n = realloc(b, size + sizeof(*b));
	if (!n) {
		h->cur->exhausted = true;
		return NULL;
	}
	n->size = size;
	h->total += size - old;
	owner->bytes += size - old;
	return n + 1;
}

static size_t heap_usable_size(const void *ptr)
{
	return ptr ? ((const struct head *)ptr - 1)->size : 0;
}

const JSMallocFunctions *flow_heap_functions(void)
{
	static const JSMallocFunctions functions = {
		heap_calloc, heap_malloc, heap_free, heap_realloc, heap_usable_size};
	return &functions;
}
