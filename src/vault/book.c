#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "vault/vault_int.h"

enum { FIXED = 2 + 2 + 2 + 1 + 8 + 8 + 4 + 4, KIND_SECRET = 0, KIND_CANARY = 1 };

/* What a secret of the first form, which named no actions, was good for. */
static const char first_actions[] = "mail.*,model.*";

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

int vault_book_new(const uint8_t seed[VAULT_SEED], struct vault_book *ret)
{
	uint8_t *p = sodium_malloc(VAULT_SEED);

	if (!p)
		return -ENOMEM;
	memcpy(p, seed, VAULT_SEED);
	*ret = (struct vault_book){p, VAULT_SEED};
	return 0;
}

void vault_book_free(struct vault_book *b)
{
	sodium_free(b->ptr);
	*b = (struct vault_book){0};
}

const uint8_t *vault_book_seed(const struct vault_book *b)
{
	return b->ptr;
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

/* A number of `bytes` bytes. */
static bool take_number(const struct vault_book *b, size_t *at, size_t bytes, uint64_t *ret)
{
	if (b->len - *at < bytes)
		return false;
	*ret = get(b->ptr + *at, bytes);
	*at += bytes;
	return true;
}

int vault_book_next(const struct vault_book *b, size_t *at, struct vault_entry *ret)
{
	uint64_t kind, created, until;
	struct vault_entry e;

	if (*at == 0)
		*at = b->len < VAULT_SEED ? b->len : VAULT_SEED;
	if (*at == b->len)
		return 0;
	if (!take(b, at, 2, &e.name) || !take(b, at, 2, &e.host) || !take(b, at, 2, &e.actions) ||
		!take_number(b, at, 1, &kind) || !take_number(b, at, 8, &created) ||
		!take_number(b, at, 8, &until) || !take(b, at, 4, &e.value) || !take(b, at, 4, &e.old) ||
		kind > KIND_CANARY)
		return -EBADMSG;
	e.canary = kind == KIND_CANARY;
	e.created_ms = (int64_t)created;
	e.old_until_ms = (int64_t)until;
	*ret = e;
	return 1;
}

int vault_book_check(const struct vault_book *b)
{
	struct base_str before = BASE_STR_NONE;
	struct vault_entry e;
	size_t at = 0;
	int r;

	if (b->len < VAULT_SEED)
		return -EBADMSG;
	while ((r = vault_book_next(b, &at, &e)) > 0) {
		if (e.name.len == 0 || base_str_cmp(before, e.name) >= 0)
			return -EBADMSG;
		before = e.name;
	}
	return r;
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
	return FIXED + e->name.len + e->host.len + e->actions.len + e->value.len + e->old.len;
}

static uint8_t *put_entry(uint8_t *p, const struct vault_entry *e)
{
	p = put_str(p, e->name, 2);
	p = put_str(p, e->host, 2);
	p = put_str(p, e->actions, 2);
	p = put(p, e->canary ? KIND_CANARY : KIND_SECRET, 1);
	p = put(p, (uint64_t)e->created_ms, 8);
	p = put(p, (uint64_t)e->old_until_ms, 8);
	p = put_str(p, e->value, 4);
	return put_str(p, e->old, 4);
}

/* The next that stays: without `name`, and without an old value whose time is over. */
static bool next_kept(
	const struct vault_book *b, size_t *at, struct base_str name, int64_t now_ms, struct vault_entry *ret)
{
	while (vault_book_next(b, at, ret) > 0) {
		if (base_str_eq(ret->name, name))
			continue;
		if (ret->old_until_ms <= now_ms) {
			ret->old = BASE_STR_NONE;
			ret->old_until_ms = 0;
		}
		return true;
	}
	return false;
}

int vault_book_edit(const struct vault_book *b, struct base_str name, const struct vault_entry *add,
	int64_t now_ms, struct vault_book *ret)
{
	size_t at = 0, len = VAULT_SEED + (add ? size_of(add) : 0);
	struct vault_book out;
	struct vault_entry e;
	uint8_t *p;

	while (next_kept(b, &at, name, now_ms, &e))
		len += size_of(&e);
	if (len > VAULT_PLAIN_MAX)
		return -E2BIG;
	out = (struct vault_book){.ptr = sodium_malloc(len), .len = len};
	if (!out.ptr)
		return -ENOMEM;
	memcpy(out.ptr, b->ptr, VAULT_SEED);
	p = out.ptr + VAULT_SEED;
	for (at = 0; next_kept(b, &at, name, now_ms, &e);) {
		if (add && base_str_cmp(add->name, e.name) <= 0) {
			p = put_entry(p, add);
			add = NULL;
		}
		p = put_entry(p, &e);
	}
	if (add)
		put_entry(p, add);
	*ret = out;
	return 0;
}

/* Per secret u16 length and name, u16 length and host, i64 created_ms, u32 length and value. */
static int next_first(const struct vault_book *b, size_t *at, struct vault_entry *ret)
{
	struct vault_entry e = {.actions = BASE_STR(first_actions)};
	uint64_t created;

	if (*at == b->len)
		return 0;
	if (!take(b, at, 2, &e.name) || !take(b, at, 2, &e.host) || !take_number(b, at, 8, &created) ||
		!take(b, at, 4, &e.value))
		return -EBADMSG;
	e.created_ms = (int64_t)created;
	*ret = e;
	return 1;
}

int vault_book_convert(const uint8_t *old, size_t len, const uint8_t seed[VAULT_SEED], struct vault_book *ret)
{
	const struct vault_book from = {(uint8_t *)(uintptr_t)old, len};
	struct vault_book out;
	struct vault_entry e;
	size_t at = 0, size = VAULT_SEED;
	uint8_t *p;
	int r;

	while ((r = next_first(&from, &at, &e)) > 0)
		size += size_of(&e);
	if (r < 0)
		return r;
	out = (struct vault_book){.ptr = sodium_malloc(size), .len = size};
	if (!out.ptr)
		return -ENOMEM;
	memcpy(out.ptr, seed, VAULT_SEED);
	p = out.ptr + VAULT_SEED;
	for (at = 0; next_first(&from, &at, &e) > 0;)
		p = put_entry(p, &e);
	r = vault_book_check(&out);
	if (r < 0)
		vault_book_free(&out);
	else
		*ret = out;
	return r;
}
