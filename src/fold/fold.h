#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/* Folds a snapshot and the events behind it into the next snapshot. */
struct fold;

/* -ENOMEM, or -EINVAL for a catalogue that does not load. The caller frees *ret. */
int fold_new(struct fold **ret, struct base_err *err) __attribute__((warn_unused_result));
void fold_free(struct fold *f);
/* A piece of the snapshot to begin from; all pieces come before the first block. -ENOMEM, -EINVAL (too late).
 */
int fold_state(struct fold *f, struct base_str data) __attribute__((warn_unused_result));
/* The block of a commit. Events that are in the state already are skipped; a gap or bytes that are no block
 * are -EBADMSG, as is a snapshot that does not load. */
int fold_block(struct fold *f, uint64_t first_seq, struct base_str block, struct base_err *err)
	__attribute__((warn_unused_result));
/* The state at `seq`, to which the blocks must have led (-EBADMSG): appends it to ret. */
int fold_take(struct fold *f, uint64_t seq, struct base_buf *ret, struct base_err *err)
	__attribute__((warn_unused_result));
