#include "base/slab.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum {
	CLASS_STEP = 16,
	CLASS_COUNT = 64, /* objects up to 1 KiB share chunks; larger ones stand alone */
	CLASS_MAX = CLASS_STEP * CLASS_COUNT,
	CHUNK = 32 << 10,
};

struct chunk {
	struct chunk *next;
	_Alignas(16) char data[];
};

struct large {
	struct large *prev;
	struct large *next;
	_Alignas(16) char data[];
};

struct hole {
	struct hole *next;
};

struct base_slab {
	struct chunk *chunks;
	struct large *larges;
	struct hole *holes[CLASS_COUNT];
	char *at[CLASS_COUNT]; /* unused rest of the newest chunk of a class */
	char *end[CLASS_COUNT];
	size_t bytes;
};

int base_slab_new(struct base_slab **ret)
{
	struct base_slab *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	*ret = s;
	return 0;
}

void base_slab_free(struct base_slab *s)
{
	if (!s)
		return;
	for (struct chunk *c = s->chunks, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	for (struct large *l = s->larges, *next; l; l = next) {
		next = l->next;
		free(l);
	}
	free(s);
}

static void *alloc_large(struct base_slab *s, size_t size)
{
	struct large *l = calloc(1, sizeof(*l) + size);

	BASE_CHECK(l != NULL);
	l->next = s->larges;
	if (l->next)
		l->next->prev = l;
	s->larges = l;
	s->bytes += size;
	return l->data;
}

static void release_large(struct base_slab *s, void *ptr, size_t size)
{
	struct large *l = (struct large *)(void *)((char *)ptr - offsetof(struct large, data));

	if (l->prev)
		l->prev->next = l->next;
	else
		s->larges = l->next;
	if (l->next)
		l->next->prev = l->prev;
	s->bytes -= size;
	free(l);
}

/* A class's first chunk is small, so that a core with few runs stays small. */
static void refill(struct base_slab *s, size_t class, size_t size)
{
	size_t room = s->at[class] ? CHUNK : size * 8;
	struct chunk *c = malloc(sizeof(*c) + room);

	BASE_CHECK(c != NULL);
	c->next = s->chunks;
	s->chunks = c;
	s->at[class] = c->data;
	s->end[class] = c->data + room;
	s->bytes += room;
}

void *base_slab_alloc(struct base_slab *s, size_t size)
{
	size_t class = size ? (size - 1) / CLASS_STEP : 0;
	size_t full = (class + 1) * CLASS_STEP;
	void *ptr;

	BASE_CHECK(size < SIZE_MAX / 2);
	if (size > CLASS_MAX)
		return alloc_large(s, size);
	if (s->holes[class]) {
		ptr = s->holes[class];
		s->holes[class] = s->holes[class]->next;
	} else {
		if (!s->at[class] || (size_t)(s->end[class] - s->at[class]) < full)
			refill(s, class, full);
		ptr = s->at[class];
		s->at[class] += full;
	}
	memset(ptr, 0, full);
	return ptr;
}

void base_slab_release(struct base_slab *s, void *ptr, size_t size)
{
	size_t class = size ? (size - 1) / CLASS_STEP : 0;
	struct hole *h = ptr;

	if (!ptr)
		return;
	if (size > CLASS_MAX) {
		release_large(s, ptr, size);
		return;
	}
	h->next = s->holes[class];
	s->holes[class] = h;
}

void *base_slab_grow(struct base_slab *s, void *ptr, size_t count, size_t new_count, size_t size)
{
	void *grown;

	BASE_CHECK(new_count >= count && size > 0 && new_count < SIZE_MAX / 2 / size);
	grown = base_slab_alloc(s, new_count * size);
	if (count) {
		memcpy(grown, ptr, count * size);
		base_slab_release(s, ptr, count * size);
	}
	return grown;
}

struct base_str base_slab_dup(struct base_slab *s, struct base_str text)
{
	char *copy;

	if (text.len == 0)
		return BASE_STR_NONE;
	copy = base_slab_alloc(s, text.len + 1);
	memcpy(copy, text.ptr, text.len);
	return (struct base_str){copy, text.len};
}

void base_slab_str_release(struct base_slab *s, struct base_str text)
{
	if (text.len)
		base_slab_release(s, (void *)(uintptr_t)text.ptr, text.len + 1);
}

size_t base_slab_bytes(const struct base_slab *s)
{
	return s->bytes;
}
