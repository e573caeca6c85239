#include "base/arena.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Chunks in a list, the newest first; each is filled from its start. The first chunk lives until the arena
 * does, so that work that fits into it never calls malloc again.
 */
enum { CHUNK_FIRST = 64 << 10, CHUNK_MAX = 1 << 20, ALIGN = 16 };

struct chunk {
	struct chunk *older;
	size_t size;
	size_t used;
	_Alignas(ALIGN) unsigned char data[];
};

struct base_arena {
	struct chunk *newest;
	size_t cap;
	size_t used;
};

int base_arena_new(size_t cap, struct base_arena **ret)
{
	struct base_arena *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->cap = cap;
	*ret = a;
	return 0;
}

void base_arena_free(struct base_arena *a)
{
	if (!a)
		return;
	while (a->newest) {
		struct chunk *c = a->newest;

		a->newest = c->older;
		free(c);
	}
	free(a);
}

void base_arena_reset(struct base_arena *a)
{
	while (a->newest && a->newest->older) {
		struct chunk *c = a->newest;

		a->newest = c->older;
		free(c);
	}
	if (a->newest)
		a->newest->used = 0;
	a->used = 0;
}

static bool grow(struct base_arena *a, size_t need)
{
	size_t size = a->newest ? a->newest->size * 2 : CHUNK_FIRST;
	struct chunk *c;

	if (size > CHUNK_MAX)
		size = CHUNK_MAX;
	if (size > a->cap)
		size = (a->cap + ALIGN - 1) / ALIGN * ALIGN;
	if (size < need)
		size = need;
	c = malloc(sizeof(*c) + size);
	if (!c)
		return false;
	c->older = a->newest;
	c->size = size;
	c->used = 0;
	a->newest = c;
	return true;
}

void *base_arena_alloc(struct base_arena *a, size_t size)
{
	size_t need;
	void *p;

	if (size > SIZE_MAX / 2 || size > a->cap - a->used)
		return NULL;
	need = (size + ALIGN - 1) / ALIGN * ALIGN;
	if (need == 0)
		need = ALIGN;
	if ((!a->newest || a->newest->size - a->newest->used < need) && !grow(a, need))
		return NULL;
	p = a->newest->data + a->newest->used;
	a->newest->used += need;
	a->used += size;
	return memset(p, 0, need);
}

void *base_arena_array(struct base_arena *a, size_t count, size_t size)
{
	size_t bytes;

	return __builtin_mul_overflow(count, size, &bytes) ? NULL : base_arena_alloc(a, bytes);
}

struct base_str base_arena_dup(struct base_arena *a, struct base_str s)
{
	char *p = s.len < SIZE_MAX ? base_arena_alloc(a, s.len + 1) : NULL;

	if (!p)
		return BASE_STR_NONE;
	if (s.len)
		memcpy(p, s.ptr, s.len);
	return (struct base_str){p, s.len};
}

struct base_str base_arena_join(struct base_arena *a, const struct base_str *part, size_t count)
{
	size_t len = 0;
	char *p, *at;

	for (size_t i = 0; i < count; i++)
		len += part[i].len;
	p = base_arena_alloc(a, len + 1);
	if (!p)
		return BASE_STR_NONE;
	at = p;
	for (size_t i = 0; i < count; i++) {
		if (part[i].len)
			memcpy(at, part[i].ptr, part[i].len);
		at += part[i].len;
	}
	return (struct base_str){p, len};
}

struct base_str base_arena_printf(struct base_arena *a, const char *fmt, ...)
{
	va_list args;
	char *p;
	int n;

	va_start(args, fmt);
	n = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (n < 0)
		return BASE_STR_NONE;
	p = base_arena_alloc(a, (size_t)n + 1);
	if (!p)
		return BASE_STR_NONE;
	va_start(args, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, args);
	va_end(args);
	return (struct base_str){p, (size_t)n};
}

size_t base_arena_used(const struct base_arena *a)
{
	return a->used;
}
