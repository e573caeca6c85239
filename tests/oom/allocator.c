#include "allocator.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

/* glibc's own, under the names that it keeps for programs like this one. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

static atomic_long live, left;
static atomic_bool failed, persistent;

void allocator_fail(long nth, bool for_ever)
{
	left = nth;
	persistent = for_ever;
	if (nth)
		failed = false;
}

bool allocator_failed(void)
{
	return failed;
}

long allocator_live(void)
{
	return live;
}

static bool fails(void)
{
	if (failed && persistent)
		return true;
	if (left == 0 || atomic_fetch_sub(&left, 1) != 1)
		return false;
	failed = true;
	return true;
}

static void *given(void *p)
{
	if (p)
		live++;
	return p;
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	return given(__libc_malloc(size));
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t size)
{
	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	return given(__libc_calloc(count, size));
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t size)
{
	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	return p ? __libc_realloc(p, size) : given(__libc_malloc(size));
}

__attribute__((visibility("default"))) void *aligned_alloc(size_t align, size_t size)
{
	if (fails()) {
		errno = ENOMEM;
		return NULL;
	}
	return given(__libc_memalign(align, size));
}

__attribute__((visibility("default"))) void free(void *p)
{
	if (p)
		live--;
	__libc_free(p);
}
