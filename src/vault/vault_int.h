#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "vault/vault.h"

enum { VAULT_KEY = 32, VAULT_PLAIN_MAX = 16 << 20 };

/*
 * The secrets in locked memory, in the form in which they are encrypted: per secret u16 length and name, u16
 * length and host, i64 created_ms, u32 length and value; little endian; sorted by name.
 */
struct vault_book {
	uint8_t *ptr; /* sodium_malloc, or NULL when len is 0 */
	size_t len;
};

struct vault_entry {
	struct base_str name, host, value; /* views into the book */
	int64_t created_ms;
};

void vault_book_free(struct vault_book *b);
/* Walks: *at starts at 0; 1 and an entry, 0 at the end, -EBADMSG for a book that is malformed. */
int vault_book_next(const struct vault_book *b, size_t *at, struct vault_entry *ret);
bool vault_book_find(const struct vault_book *b, struct base_str name, struct vault_entry *ret);
size_t vault_book_count(const struct vault_book *b);
/* A new book: `b` without `name` and, if `add` is not NULL, with *add in its place. -ENOMEM, -E2BIG. */
int vault_book_edit(const struct vault_book *b, struct base_str name, const struct vault_entry *add,
	struct vault_book *ret) __attribute__((warn_unused_result));

/* Makes or reads DIR/key into `key`. fresh: there are no secrets yet, so a missing key is made. */
int vault_key_open(const char *dir, bool fresh, uint8_t key[VAULT_KEY], struct base_err *err)
	__attribute__((warn_unused_result));
/* 1 when DIR/secrets exists, 0 when not. */
int vault_file_exists(const char *dir, struct base_err *err) __attribute__((warn_unused_result));
/* Reads and decrypts DIR/secrets. -EBADMSG when it is not what this key wrote. */
int vault_file_read(const char *dir, const uint8_t key[VAULT_KEY], struct vault_book *ret,
	struct base_err *err) __attribute__((warn_unused_result));
/* Encrypts and replaces DIR/secrets; on return it is on disk. */
int vault_file_write(const char *dir, const uint8_t key[VAULT_KEY], const struct vault_book *b,
	struct base_err *err) __attribute__((warn_unused_result));
