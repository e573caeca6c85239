#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/*
 * The secrets of a workspace: a key file (32 random bytes, mode 0600) and a file of secrets encrypted under
 * it. Invariants:
 *  1. A secret's value stands in no file but encrypted, and in no memory but locked memory that is wiped when
 * freed.
 *  2. The file on disk is always the old or the new one, whole; what was answered with success is on disk.
 *  3. A file that does not decrypt is never overwritten.
 */
enum {
	VAULT_NAME_MAX = 128,
	VAULT_HOST_MAX = 1024,
	VAULT_VALUE_MAX = 64 << 10,
	VAULT_SECRETS_MAX = 1000,
	VAULT_PUBLIC_KEY = 32,
};

struct vault;

/* Opens (or, in an empty folder, begins) the vault in folder `dir`, which must exist. Call before the sandbox
 * is entered. The key is refused unless it is a regular file of this user that nobody else may read. -EACCES
 * (mode or owner of the key), -ENOENT (secrets without their key), -EBADMSG (tampered or another key),
 * -EFBIG, -ENOMEM, or what the file system says. The caller frees *ret. */
int vault_open(const char *dir, struct vault **ret, struct base_err *err) __attribute__((warn_unused_result));
void vault_free(struct vault *v); /* wipes; NULL is fine */

/* The X25519 key to seal new values to; made at each start; valid as long as the vault. */
struct base_str vault_public_key(const struct vault *v);

/* Sets a secret to the value in `sealed` (crypto_box_seal to vault_public_key) for the hosts in `host` (one,
 * or several with commas). On return it is on disk. -EINVAL with a sentence, -E2BIG, -ENOMEM, or what the
 * file system says. */
int vault_set(struct vault *v, struct base_str name, struct base_str host, struct base_str sealed,
	int64_t now_ms, struct base_err *err) __attribute__((warn_unused_result));
/* -ENOENT if there is none of that name. */
int vault_remove(struct vault *v, struct base_str name, struct base_err *err)
	__attribute__((warn_unused_result));
/* Appends [{"name","host","created_ms"}], by name. */
void vault_list(const struct vault *v, struct base_buf *ret);
/* Appends {"call","host","value"} sealed to `recipient` (a 32-byte X25519 key), if the secret names that
 * host. -ENOENT, -EACCES (another host), -EINVAL, -ENOMEM. */
int vault_release(const struct vault *v, uint64_t call, struct base_str name, struct base_str host,
	struct base_str recipient, struct base_buf *ret, struct base_err *err)
	__attribute__((warn_unused_result));
