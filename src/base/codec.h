#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/str.h"

/*
 * The binary form of frames and events: varints (LEB128, at most 10 bytes), zigzag for signed,
 * length-prefixed bytes.
 */

/* A body that is either here (hash all zero) or stored once under its hash, with its true length. */
struct base_blob {
	struct base_str data;  /* valid when inline */
	struct base_hash hash; /* zero when inline */
	uint64_t len;	       /* of the body, in both cases */
};

struct base_blob base_blob_of(struct base_str data);
bool base_blob_is_inline(const struct base_blob *b);

void base_put_u64(struct base_buf *b, uint64_t v);
void base_put_i64(struct base_buf *b, int64_t v);
void base_put_str(struct base_buf *b, struct base_str s);
void base_put_hash(struct base_buf *b, const struct base_hash *h);
void base_put_blob(struct base_buf *b, const struct base_blob *v);

/* Reads from a view; the first fault sticks. At the end of the input every read gives zero without a fault,
 * so that a record written by an older binary decodes (fields are only ever added at the end). A field that
 * starts but does not finish is a fault. */
struct base_reader {
	const char *at;
	const char *end;
	int failed;
};

struct base_reader base_reader_of(struct base_str in);
uint64_t base_get_u64(struct base_reader *r);
uint64_t base_get_uint(struct base_reader *r, uint64_t max); /* a value over max is a fault */
int64_t base_get_i64(struct base_reader *r);
struct base_str base_get_str(struct base_reader *r); /* points into the input */
void base_get_hash(struct base_reader *r, struct base_hash *ret);
void base_get_blob(struct base_reader *r, struct base_blob *ret);
/* 0, or -EBADMSG after a fault or when input is left over. */
int base_reader_end(const struct base_reader *r) __attribute__((warn_unused_result));

/* `"name":value,` for people: used by the generated JSON writers. The last comma is the caller's to drop.
 * bytes and hashes are hex (bytes over 64 bytes: the length only); an empty str is "", an empty json is null.
 */
void base_member_u64(struct base_buf *b, const char *name, uint64_t v);
void base_member_i64(struct base_buf *b, const char *name, int64_t v);
void base_member_str(struct base_buf *b, const char *name, struct base_str v);
void base_member_bytes(struct base_buf *b, const char *name, struct base_str v);
void base_member_json(
	struct base_buf *b, const char *name, struct base_str v); /* text that is JSON already */
void base_member_hash(struct base_buf *b, const char *name, const struct base_hash *v);
/* Inline: as JSON if it is valid JSON, else a string; by hash: {"hash":…,"bytes":n}. */
void base_member_blob(struct base_buf *b, const char *name, const struct base_blob *v);
