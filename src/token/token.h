#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

/*
 * The texts of API keys.
 *
 *   aios_  base64url(SEED TAG) CHECK      a key: an Ed25519 seed, whose public half the log knows
 *   aiosc_ base64url(JSON) CHECK          the same, narrowed by its holders, who asked nobody
 *
 * TAG is 8 bytes that name the workspace: a key is good for one, also where another knows its public half. CHECK is the
 * CRC-32 of what stands before it, as six digits of base 62: a typing error is told from a wrong key, and scanners for
 * lost secrets can tell a key from noise. JSON is {"b":[{"c":CAVEATS,"n":NEXT,"s":SIG}…],"k":ROOT,"p":SEED,"w":TAG}:
 * each block is signed by the key of the block before (the first by ROOT's) over "aios-caveat-2", TAG, the canonical
 * caveats and NEXT, the public half of the key that signs the next block; SEED proves the last one. ROOT, NEXT, SEED and
 * TAG are hex.
 *
 * CAVEATS is {"grants":[…],"expires_ms":N,"scope":{"flows":[…],"memory":[…],"own":true}}, every member optional: each
 * block only takes away.
 *
 * Pure: the caller brings the entropy.
 */
enum { TOKEN_SEED = 32, TOKEN_TAG = 8, TOKEN_TEXT_MAX = 8192, TOKEN_BLOCKS_MAX = 8 };

struct token {
	uint8_t tag[TOKEN_TAG];
	uint8_t root[32];	  /* the public half that aiosd looks up */
	uint8_t seed[TOKEN_SEED]; /* of the last block, or of the key */
	unsigned blocks;	  /* 0: a plain key */
	struct base_buf caveats;  /* canonical JSON: the list of all blocks' caveats; empty for a plain key */
	struct base_buf chain;	  /* canonical JSON: the blocks as they stand; empty for a plain key */
};

/* Appends the text of a key. */
void token_put(const uint8_t seed[TOKEN_SEED], const uint8_t tag[TOKEN_TAG], struct base_buf *ret);

/* Reads a text and verifies everything that can be verified without the log. -EINVAL: no such text; -EILSEQ: the
 * checksum is wrong, so it was not copied whole; -EBADMSG: a block is not signed by who had to, or has caveats that
 * nobody understands; -ENOMEM. The caller ends *ret. */
int token_read(struct base_str text, struct token *ret, struct base_err *err)
	__attribute__((warn_unused_result));
void token_done(struct token *t); /* wipes it */

/* Appends the text of a narrower one: `caveats` as above, as an object; `next` is fresh entropy. -EINVAL for caveats that
 * are none, -E2BIG beyond TOKEN_BLOCKS_MAX or TOKEN_TEXT_MAX, -ENOMEM. */
int token_attenuate(const struct token *t, struct base_jv caveats, const uint8_t next[TOKEN_SEED],
	struct base_buf *ret, struct base_err *err) __attribute__((warn_unused_result));

/* The caveats of one block, and a scope by itself. -EINVAL with what is wrong. */
int token_caveats_check(struct base_jv caveats, struct base_err *err) __attribute__((warn_unused_result));
int token_scope_check(struct base_jv scope, struct base_err *err) __attribute__((warn_unused_result));
