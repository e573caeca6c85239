#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "vault/vault_int.h"

enum { FIXED = 2 + 2 + 8 + 4 };

static uint64_t get(const uint8_t *p, size_t bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

static uint8_t *put(uint8_t *p, uint64_t v, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++, v >>= 8)
		*p++ = (uint8_t)v;
	return p;
}

static uint8_t *put_str(uint8_t *p, struct base_str s, size_t bytes)
{
	p = put(p, s.len, bytes);
	if (s.len)
		memcpy(p, s.ptr, s.len);
	return p + s.len;
}

void vault_book_free(struct vault_book *b)
{
	sodium_free(b->ptr);
	*b = (struct vault_book){0};
}

/* A length of `bytes` bytes and that many behind it. */
static bool take(const struct vault_book *b, size_t *at, size_t bytes, struct base_str *ret)
{
	size_t len;

	if (b->len - *at < bytes)
		return false;
	len = get(b->ptr + *at, bytes);
	*at += bytes;
	if (b->len - *at < len)
		return false;
	*ret = (struct base_str){(const char *)b->ptr + *at, len};
	*at += len;
	return true;
}

int vault_book_next(const struct vault_book *b, size_t *at, struct vault_entry *ret)
{
	struct vault_entry e;

	if (*at == b->len)
		return 0;
	if (!take(b, at, 2, &e.name) || !take(b, at, 2, &e.host) || b->len - *at < 8)
		return -EBADMSG;
	e.created_ms = (int64_t)get(b->ptr + *at, 8);
	*at += 8;
	if (!take(b, at, 4, &e.value))
		return -EBADMSG;
	*ret = e;
	return 1;
}

bool vault_book_find(const struct vault_book *b, struct base_str name, struct vault_entry *ret)
{
	struct vault_entry e;
	size_t at = 0;

	while (vault_book_next(b, &at, &e) > 0) {
		if (base_str_eq(e.name, name)) {
			*ret = e;
			return true;
		}
	}
	return false;
}

size_t vault_book_count(const struct vault_book *b)
{
	struct vault_entry e;
	size_t at = 0, n = 0;

	while (vault_book_next(b, &at, &e) > 0)
		n++;
	return n;
}

static size_t size_of(const struct vault_entry *e)
{
	return FIXED + e->name.len + e->host.len + e->value.len;
}

static uint8_t *put_entry(uint8_t *p, const struct vault_entry *e)
{
	p = put_str(p, e->name, 2);
	p = put_str(p, e->host, 2);
	p = put(p, (uint64_t)e->created_ms, 8);
	return put_str(p, e->value, 4);
}

int vault_book_edit(const struct vault_book *b, struct base_str name, const struct vault_entry *add,
	struct vault_book *ret)
{
	size_t at = 0, len = add ? size_of(add) : 0;
	struct vault_book out = {0};
	struct vault_entry e;
	uint8_t *p;

	while (vault_book_next(b, &at, &e) > 0)
		len += base_str_eq(e.name, name) ? 0 : size_of(&e);
	if (len > VAULT_PLAIN_MAX)
		return -E2BIG;
	if (len > 0) {
		out = (struct vault_book){.ptr = sodium_malloc(len), .len = len};
		if (!out.ptr)
			return -ENOMEM;
	}
	p = out.ptr;
	for (at = 0; vault_book_next(b, &at, &e) > 0;) {
		if (add && base_str_cmp(add->name, e.name) <= 0) {
			p = put_entry(p, add);
			add = NULL;
		}
		if (!base_str_eq(e.name, name))
			p = put_entry(p, &e);
	}
	if (add)
		put_entry(p, add);
	*ret = out;
	return 0;
}
