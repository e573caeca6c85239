#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "vault/vault.h"

enum {
	VAULT_KEY = 32,
	VAULT_SEED = 32,
	VAULT_SALT = 16,
	VAULT_ID = 16,
	VAULT_PLAIN_MAX = 16 << 20,
	VAULT_PASSPHRASE_MAX = 1024,
};

/* --- book.c: the secrets in locked memory --- */

/*
 * The form in which they are encrypted: the seed of the signing key (32 bytes), then per secret u16 length and
 * name, u16 length and hosts, u16 length and actions, u8 kind (1: canary), i64 created_ms, i64 old_until_ms,
 * u32 length and value, u32 length and old value; little endian; sorted by name.
 */
struct vault_book {
	uint8_t *ptr; /* sodium_malloc, or NULL when len is 0 */
	size_t len;
};

struct vault_entry {
	struct base_str name, host, actions, value, old; /* views into the book */
	bool canary;
	int64_t created_ms, old_until_ms;
};

/* An empty one with this seed. -ENOMEM. */
int vault_book_new(const uint8_t seed[VAULT_SEED], struct vault_book *ret)
	__attribute__((warn_unused_result));
void vault_book_free(struct vault_book *b);
const uint8_t *vault_book_seed(const struct vault_book *b);
/* Walks: *at starts at 0; 1 and an entry, 0 at the end, -EBADMSG for a book that is malformed. */
int vault_book_next(const struct vault_book *b, size_t *at, struct vault_entry *ret);
/* Whether all of it can be walked, in order and without doubles. -EBADMSG. */
int vault_book_check(const struct vault_book *b);
bool vault_book_find(const struct vault_book *b, struct base_str name, struct vault_entry *ret);
size_t vault_book_count(const struct vault_book *b);
/* A new book: `b` without `name` and, if `add` is not NULL, with *add in its place; old values whose time is
 * over at now_ms are left out. -ENOMEM, -E2BIG. */
int vault_book_edit(const struct vault_book *b, struct base_str name, const struct vault_entry *add,
	int64_t now_ms, struct vault_book *ret) __attribute__((warn_unused_result));
/* From the form of AIOSVLT1, which had no actions, no canaries and no signing key. -EBADMSG, -ENOMEM. */
int vault_book_convert(const uint8_t *old, size_t len, const uint8_t seed[VAULT_SEED], struct vault_book *ret)
	__attribute__((warn_unused_result));

/* --- disk.c: files that are whole at every moment --- */

int vault_path(const char *dir, const char *name, char *ret, size_t size, struct base_err *err);
/* "cannot WHAT PATH: why" from errno. */
int vault_failed(struct base_err *err, const char *what, const char *path);
/* The new content, or the old one, under its name; on return it is on disk. */
int vault_replace(const char *dir, const char *name, const void *data, size_t len, struct base_err *err)
	__attribute__((warn_unused_result));
int vault_sync(const char *dir, struct base_err *err); /* the folder */
/* -ENOENT is not an error. */
int vault_remove_file(const char *dir, const char *name, struct base_err *err);
/* A file of at least `min` and at most `max` bytes, in malloc'd memory. private: it must be this user's with mode
 * 0600. -ENOENT without a text, if there is none. */
int vault_read(const char *dir, const char *name, size_t min, size_t max, bool private, uint8_t **ret,
	size_t *ret_len, struct base_err *err) __attribute__((warn_unused_result));

/* --- file.c: DIR/secrets --- */

/* What stands before the secrets, in the clear, authenticated with them. */
struct vault_head {
	uint8_t kind;		     /* enum vault_kind */
	uint64_t opslimit, memlimit; /* of Argon2id; 0 without a passphrase */
	uint8_t salt[VAULT_SALT];
	uint8_t id[VAULT_ID]; /* of this vault, for its life */
	uint8_t sign_public[VAULT_SIGN_PUBLIC];
};

/* What DIR/secrets holds, still closed. */
struct vault_file {
	struct vault_head head;
	uint8_t *bytes;
	size_t len;
	bool first_form; /* AIOSVLT1: encrypted with the key file itself */
};

/* -ENOENT (no text): there is none. -EBADMSG with a text. */
int vault_file_load(const char *dir, struct vault_file *ret, struct base_err *err)
	__attribute__((warn_unused_result));
void vault_file_free(struct vault_file *f);
/* Opens with the key-encryption key: gives the data key and the book. -EBADMSG: another key, or damage. -ENOMEM. */
int vault_file_open(const struct vault_file *f, const uint8_t kek[VAULT_KEY], uint8_t ret_data_key[VAULT_KEY],
	struct vault_book *ret) __attribute__((warn_unused_result));
/* Decodes bytes without a folder: for fuzzing, and by vault_file_load. Takes `bytes` over on success. */
int vault_file_decode(uint8_t *bytes, size_t len, struct vault_file *ret) __attribute__((warn_unused_result));
/* Encrypts and replaces DIR/secrets; on return it is on disk. */
int vault_file_write(const char *dir, const struct vault_head *head, const uint8_t kek[VAULT_KEY],
	const uint8_t data_key[VAULT_KEY], const struct vault_book *b, struct base_err *err)
	__attribute__((warn_unused_result));

/* --- key.c: where the key-encryption key comes from --- */

const char *vault_kind_name(enum vault_kind kind);
/* 0: there is none of that name. */
enum vault_kind vault_kind_of(struct base_str name);
/* Draws a new key and puts it on disk as DIR/key.next (it counts once vault_key_settle has made it DIR/key). */
int vault_key_make(const char *dir, uint8_t ret[VAULT_KEY], struct base_err *err)
	__attribute__((warn_unused_result));
/* DIR/key, or with next DIR/key.next. -ENOENT (no text): there is none. */
int vault_key_read(const char *dir, bool next, uint8_t ret[VAULT_KEY], struct base_err *err)
	__attribute__((warn_unused_result));
/* Once it is known what opens DIR/secrets: by_next: DIR/key.next takes the place of DIR/key. What opens nothing any more
 * is removed: is_file: DIR/key.next; else both. */
int vault_key_settle(const char *dir, bool is_file, bool by_next, struct base_err *err)
	__attribute__((warn_unused_result));
/* From systemd's credential. -ENOENT with a text. */
int vault_key_credential(const char *path, uint8_t ret[VAULT_KEY], struct base_err *err)
	__attribute__((warn_unused_result));
/* Argon2id. -ENOMEM: it needs memlimit bytes. */
int vault_key_derive(const struct vault_head *h, struct base_str passphrase, uint8_t ret[VAULT_KEY])
	__attribute__((warn_unused_result));
/* Sets kind, salt and limits. -EINVAL. */
int vault_key_strength(struct vault_head *h, struct base_str strength, struct base_err *err)
	__attribute__((warn_unused_result));

/* --- keyring.c: the kernel's --- */

/* -ENOKEY, -EKEYEXPIRED, … */
int vault_keyring_get(int32_t keyring, const uint8_t id[VAULT_ID], uint8_t ret[VAULT_KEY])
	__attribute__((warn_unused_result));
int vault_keyring_put(int32_t keyring, const uint8_t id[VAULT_ID], const uint8_t key[VAULT_KEY])
	__attribute__((warn_unused_result));
int vault_keyring_drop(int32_t keyring, const uint8_t id[VAULT_ID]);

/* --- canary.c --- */

struct base_buf;
/* Appends the fingerprints of one canary, in the form of wire/canary.h. -1: out of memory. */
int vault_canary_put(const struct vault_entry *e, const uint8_t key[16], uint64_t base, struct base_buf *ret);

/* --- vault.c --- */

struct vault {
	char dir[PATH_MAX];
	char credential[PATH_MAX]; /* empty: none */
	int32_t keyring;
	bool locked;
	bool by_next;	 /* the key that opens it is DIR/key.next */
	const char *why; /* it is locked */
	struct vault_head head;
	uint8_t *kek, *data_key; /* VAULT_KEY bytes each, locked memory; zero while the vault is locked */
	uint8_t *secret;	 /* of the sealing key, locked memory */
	uint8_t public_key[VAULT_PUBLIC_KEY];
	struct vault_book book; /* empty while the vault is locked */
	unsigned wrong;		/* passphrases since the last right one */
	int64_t again_ms;	/* no other attempt before this */
};

/* 0, or -EKEYREVOKED with what to do. */
int vault_check_open(const struct vault *v, struct base_err *err) __attribute__((warn_unused_result));
/* Writes the edited book and takes it over (or frees it); on failure the old one stays, on disk and here. */
int vault_commit(struct vault *v, struct vault_book *next, struct base_err *err)
	__attribute__((warn_unused_result));
/* What was sealed to vault_public_key: at least `min` and at most `max` bytes, in memory to be freed with sodium_free.
 * -EINVAL, -ENOMEM. what: for the message. */
int vault_unseal(const struct vault *v, struct base_str sealed, size_t min, size_t max, const char *what,
	struct base_str *ret, struct base_err *err) __attribute__((warn_unused_result));
