#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/*
 * The secrets of a workspace and its signing key, in one file that is encrypted with a data key; the data key is
 * wrapped by a key-encryption key from a file, a passphrase, the kernel's keyring or a systemd credential.
 *
 * Invariants:
 *  1. A value stands in no file but encrypted, and in no memory but locked memory that is wiped when freed.
 *  2. The file on disk is always the old or the new one, whole, and the key that opens it is there; what was
 *     answered with success is on disk.
 *  3. A file that does not decrypt is never overwritten, and a key is never made while there are secrets.
 *  4. A value leaves only sealed to one process, for one call of an action and to a host that it names. A
 *     canary's never does, nor does the signing key.
 */
enum {
	VAULT_NAME_MAX = 128,
	VAULT_HOST_MAX = 1024,
	VAULT_ACTIONS_MAX = 1024,
	VAULT_VALUE_MAX = 64 << 10,
	VAULT_SECRETS_MAX = 1000,
	VAULT_PUBLIC_KEY = 32,
	VAULT_SIGN_PUBLIC = 32,
	VAULT_SIGNATURE = 64,
	VAULT_DATA_MAX = 64 << 10,
	VAULT_CANARY_MIN = 20, /* bytes: fewer would be met by accident */
};

enum vault_kind {
	VAULT_FILE = 1,	      /* DIR/key */
	VAULT_PASSPHRASE = 2, /* Argon2id; locked after each start */
	VAULT_KEYRING = 3, /* a passphrase, whose key rests in the kernel's keyring until the machine stops */
	VAULT_CREDENTIAL = 4, /* systemd: LoadCredential, LoadCredentialEncrypted */
};

struct vault;

struct vault_options {
	const char *dir;	/* must exist */
	const char *credential; /* path, or NULL */
	int32_t keyring;	/* serial of the user's keyring, 0: none */
};

/* Opens (or, in an empty folder, begins) the vault. Call before the sandbox is entered. A vault whose key is not at
 * hand is locked, which is not an error. The key is refused unless it is a regular file of this user that nobody
 * else may read. -EACCES (mode or owner of the key), -ENOENT (secrets without their key), -EBADMSG (tampered or
 * another key), -EFBIG, -ENOMEM, or what the file system says. The caller frees *ret. */
int vault_open(const struct vault_options *o, struct vault **ret, struct base_err *err)
	__attribute__((warn_unused_result));
void vault_free(struct vault *v); /* wipes; NULL is fine */

/* The X25519 key to seal new values and passphrases to; made at each start; valid as long as the vault. */
struct base_str vault_public_key(const struct vault *v);
bool vault_is_locked(const struct vault *v);
/* {"state":"open"/"locked","key","why","public_key" (signing),"opslimit","memlimit","memory_locked","secrets","canaries"} */
void vault_status(const struct vault *v, struct base_buf *ret);
/* Whether the kernel keeps keys and secrets out of swap: false where RLIMIT_MEMLOCK is too small for them. */
bool vault_memory_is_locked(const struct vault *v);

/* Opens a locked vault; `sealed`: the passphrase, empty where the key is kept elsewhere. now_ms: any clock that does
 * not go back. -EKEYREJECTED (wrong), -EBUSY (too early after wrong ones), -EINVAL, -ENOMEM. */
int vault_unlock(struct vault *v, struct base_str sealed, int64_t now_ms, struct base_err *err)
	__attribute__((warn_unused_result));
/* Wipes what opens it. With a keyring the key is dropped there too. */
int vault_lock(struct vault *v, struct base_err *err) __attribute__((warn_unused_result));
/* A new data key, under `kind` (empty: as it is, with the same key). At every moment the old key or the new one
 * opens what is on disk. -EKEYREVOKED: locked. */
int vault_rekey(struct vault *v, struct base_str kind, struct base_str strength, struct base_str sealed,
	struct base_err *err) __attribute__((warn_unused_result));

enum vault_how { VAULT_SET, VAULT_ROTATE, VAULT_CANARY };
struct vault_new {
	struct base_str name;
	struct base_str host;	 /* one, or several with commas */
	struct base_str actions; /* patterns with commas */
	struct base_str sealed;	 /* crypto_box_seal to vault_public_key */
	enum vault_how how;	 /* rotate: hosts and actions stay, unless given */
	int64_t overlap_ms;
};
/* On return it is on disk. -EINVAL with a sentence, -E2BIG, -ENOENT (to be rotated), -EKEYREVOKED (locked),
 * -ENOMEM, or what the file system says. */
int vault_set(struct vault *v, const struct vault_new *n, int64_t now_ms, struct base_err *err)
	__attribute__((warn_unused_result));
/* -ENOENT if there is none of that name. */
int vault_remove(struct vault *v, struct base_str name, int64_t now_ms, struct base_err *err)
	__attribute__((warn_unused_result));
/* Appends [{"name","host","actions","created_ms","canary","old_until_ms"}], by name. -EKEYREVOKED. */
int vault_list(const struct vault *v, int64_t now_ms, struct base_buf *ret, struct base_err *err)
	__attribute__((warn_unused_result));

struct vault_ask {
	uint64_t call;
	struct base_str name, host, action, recipient;
};
/* Appends a struct wire_secret sealed to the recipient, if the secret names that host and that action. -ENOENT,
 * -EACCES (another host or action, a canary), -EINVAL, -EKEYREVOKED (locked), -ENOMEM. */
int vault_release(const struct vault *v, const struct vault_ask *a, int64_t now_ms, struct base_buf *ret,
	struct base_err *err) __attribute__((warn_unused_result));
/* Appends the fingerprints of all canaries, sealed to `recipient`. -EKEYREVOKED, -EINVAL, -ENOMEM. */
int vault_canaries(const struct vault *v, struct base_str recipient, struct base_buf *ret,
	struct base_err *err) __attribute__((warn_unused_result));
/* Signs "aios/1/" domain, a zero byte, data. -EKEYREVOKED, -EINVAL. */
int vault_sign(const struct vault *v, struct base_str domain, struct base_str data,
	uint8_t ret[VAULT_SIGNATURE], struct base_err *err) __attribute__((warn_unused_result));
const uint8_t *vault_sign_public(const struct vault *v);
