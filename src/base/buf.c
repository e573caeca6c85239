#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

enum { FIRST = 64 };

void base_buf_init(struct base_buf *b, size_t cap)
{
	*b = (struct base_buf){.cap = cap < SIZE_MAX ? cap : SIZE_MAX - 1};
}

void base_buf_done(struct base_buf *b)
{
	if (!b)
		return;
	free(b->ptr);
	*b = (struct base_buf){.cap = b->cap};
}

void base_buf_clear(struct base_buf *b)
{
	b->len = 0;
	b->failed = 0;
}

int base_buf_failed(const struct base_buf *b)
{
	return b->failed;
}

/* The memory is one byte larger than `size`: base_buf_take puts its NUL there. */
bool base_buf_grow(struct base_buf *b, size_t len)
{
	size_t size = b->size;
	char *p;

	if (b->failed)
		return false;
	if (len > b->cap - b->len) {
		b->failed = -EFBIG;
		return false;
	}
	if (b->ptr && size - b->len >= len)
		return true;
	size = size < FIRST ? FIRST : size < SIZE_MAX / 2 ? size * 2 : SIZE_MAX - 1;
	if (size < b->len + len)
		size = b->len + len;
	if (size > b->cap)
		size = b->cap;
	p = realloc(b->ptr, size + 1);
	if (!p) {
		b->failed = -ENOMEM;
		return false;
	}
	b->ptr = p;
	b->size = size;
	return true;
}

void base_buf_u64(struct base_buf *b, uint64_t v)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	base_buf_put(b, digits + at, sizeof(digits) - at);
}

void base_buf_i64(struct base_buf *b, int64_t v)
{
	char digits[20];
	size_t at = sizeof(digits);
	uint64_t left = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

	do {
		digits[--at] = (char)('0' + left % 10);
		left /= 10;
	} while (left);
	if (v < 0)
		digits[--at] = '-';
	base_buf_put(b, digits + at, sizeof(digits) - at);
}

void base_buf_vprintf(struct base_buf *b, const char *fmt, va_list args)
{
	va_list again;
	char *to;
	int n;

	va_copy(again, args);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0) {
		b->failed = b->failed ? b->failed : -ENOMEM;
		return;
	}
	/* The terminating NUL goes into the spare byte behind `size`. */
	to = base_buf_reserve(b, (size_t)n);
	if (!to)
		return;
	vsnprintf(to, (size_t)n + 1, fmt, args);
	b->len += (size_t)n;
}

void base_buf_printf(struct base_buf *b, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	base_buf_vprintf(b, fmt, args);
	va_end(args);
}

void base_buf_consume(struct base_buf *b, size_t len)
{
	BASE_CHECK(len <= b->len);
	if (len == 0)
		return;
	memmove(b->ptr, b->ptr + len, b->len - len);
	b->len -= len;
}

char *base_buf_take(struct base_buf *b, size_t *ret_len)
{
	char *p;

	if (!base_buf_reserve(b, 0))
		return NULL;
	p = b->ptr;
	p[b->len] = '\0';
	if (ret_len)
		*ret_len = b->len;
	*b = (struct base_buf){.cap = b->cap};
	return p;
}
