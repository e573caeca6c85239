#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

/* BLAKE2b-256 (RFC 7693), unkeyed. */
struct base_hash {
	uint8_t b[32];
};

struct base_hash base_hash_of(struct base_str data);
/* Of two parts, as if they stood one behind the other. */
struct base_hash base_hash_of2(struct base_str a, struct base_str b);
bool base_hash_eq(const struct base_hash *a, const struct base_hash *b);
bool base_hash_is_zero(const struct base_hash *h);
void base_hash_hex(const struct base_hash *h, char ret_hex[65]); /* lower case, terminated */
int base_hash_from_hex(struct base_str hex, struct base_hash *ret)
	__attribute__((warn_unused_result)); /* -EINVAL */

/*
 * Merkle root over `count` leaves (RFC 6962: leaf hash over 0x00 and the data, node hash over 0x01 and both
 * children; with BLAKE2b-256 in the place of SHA-256). `leaves` are leaf hashes and are overwritten.
 */
struct base_hash base_merkle_leaf(struct base_str data);
struct base_hash base_merkle_root(struct base_hash *leaves, size_t count);
/* The same tree with all its nodes, level by level behind the leaves: `tree` has room for BASE_MERKLE_TREE(count). */
#define BASE_MERKLE_TREE(count) (2 * (count) + 64)
void base_merkle_tree(struct base_hash *tree, size_t count);
/* What proves that leaf `index` is under the root: the siblings on its way up. How many, at most 64. */
size_t base_merkle_path(const struct base_hash *tree, size_t count, size_t index, struct base_hash ret[64]);

void base_hex_put(struct base_buf *b, struct base_str data); /* lower case */
int base_hex_get(struct base_str hex, uint8_t *ret, size_t len)
	__attribute__((warn_unused_result));			/* -EINVAL */
void base_b64url_put(struct base_buf *b, struct base_str data); /* RFC 4648 section 5, no padding */
int base_b64url_get(struct base_str text, struct base_buf *ret)
	__attribute__((warn_unused_result));		     /* -EINVAL */
void base_b64_put(struct base_buf *b, struct base_str data); /* RFC 4648 section 4, with padding */
int base_b64_get(struct base_str text, struct base_buf *ret) __attribute__((warn_unused_result));
