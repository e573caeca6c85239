#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

/*
 * The block of one commit: its events one behind the other, each as
 *   varint length of what follows
 *   varint type · varint time_ms · str subject · [subject not empty: str nonce] · the body (the rest)
 * A body whose event names a subject (a person) is ciphertext under that subject's key; hashes are over these bytes.
 */
struct core_record {
	unsigned type; /* enum core_event_type, or a newer number */
	int64_t time_ms;
	struct base_str subject;
	struct base_str nonce;
	struct base_str body; /* plain unless subject is set */
	struct base_str raw;  /* the whole event behind its length: the leaf of the Merkle tree */
};

/* Begins an event at the end of `block`; append the body with a generated _put, then core_block_end(block, mark). */
size_t core_block_begin(struct base_buf *block, unsigned type, int64_t time_ms);
void core_block_end(struct base_buf *block, size_t mark);
/* The next event: 1 and *ret, with *at moved behind it; 0 at the end; -EBADMSG. *at starts at 0. Views into block. */
int core_block_next(struct base_str block, size_t *at, struct core_record *ret);
