#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/str.h"

/*
 * A growable buffer with a cap. Appending never fails at the call: a buffer that could not grow remembers it,
 * appends nothing from then on, and says so in base_buf_failed, which the owner checks once at the end.
 */
struct base_buf {
	char *ptr;
	size_t len;
	size_t size;
	size_t cap;
	int failed; /* 0, -ENOMEM or -EFBIG */
};

void base_buf_init(struct base_buf *b, size_t cap); /* allocates nothing */
void base_buf_done(struct base_buf *b);		    /* frees; NULL and twice are fine */
void base_buf_clear(struct base_buf *b);	    /* len and failed to 0, keeps the memory */
int base_buf_failed(const struct base_buf *b);	    /* 0, -ENOMEM or -EFBIG */
void base_buf_u64(struct base_buf *b, uint64_t v);  /* decimal */
void base_buf_i64(struct base_buf *b, int64_t v);   /* decimal */
void base_buf_printf(struct base_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void base_buf_vprintf(struct base_buf *b, const char *fmt, va_list args)
	__attribute__((format(printf, 2, 0)));
/* For the inline functions below: room for `len` more bytes, or false and the buffer has failed. */
bool base_buf_grow(struct base_buf *b, size_t len) __attribute__((cold));
/* Drops the first `len` bytes (moves the rest down). */
void base_buf_consume(struct base_buf *b, size_t len);
/* Gives the memory (NUL-terminated, to be freed with free()) to the caller and empties the buffer; NULL if
 * failed. */
char *base_buf_take(struct base_buf *b, size_t *ret_len);

/* Room for `len` more bytes: a pointer to write to, followed by base_buf_commit(len); NULL when it cannot
 * grow. */
static inline char *base_buf_reserve(struct base_buf *b, size_t len)
{
	if (__builtin_expect(b->failed || b->size - b->len < len || !b->ptr, 0) && !base_buf_grow(b, len))
		return NULL;
	return b->ptr + b->len;
}

static inline void base_buf_commit(struct base_buf *b, size_t len)
{
	b->len += len;
}

static inline void base_buf_put(struct base_buf *b, const void *data, size_t len)
{
	char *to = len ? base_buf_reserve(b, len) : NULL;

	if (to) {
		memcpy(to, data, len);
		b->len += len;
	}
}

static inline void base_buf_str(struct base_buf *b, struct base_str s)
{
	base_buf_put(b, s.ptr, s.len);
}

static inline void base_buf_cstr(struct base_buf *b, const char *s)
{
	base_buf_put(b, s, strlen(s));
}

static inline void base_buf_char(struct base_buf *b, char c)
{
	char *to = base_buf_reserve(b, 1);

	if (to) {
		*to = c;
		b->len++;
	}
}

/* A view, valid until the next change of the buffer. */
static inline struct base_str base_buf_view(const struct base_buf *b)
{
	return (struct base_str){b->ptr, b->len};
}
