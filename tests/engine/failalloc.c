/* Preloaded into aiosd by a test: the allocation whose number FAILALLOC gives, counted from the start, finds no memory. */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);

static atomic_long count;

static int fails(void)
{
	static atomic_long nth = -1;
	long n = nth;

	if (n < 0) {
		const char *wanted = getenv("FAILALLOC");

		nth = n = wanted ? atol(wanted) : 0;
	}
	if (n == 0 || atomic_fetch_add(&count, 1) + 1 != n)
		return 0;
	errno = ENOMEM;
	return 1;
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t size)
{
	return fails() ? NULL : __libc_realloc(p, size);
}
