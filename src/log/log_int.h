#pragma once

#include <pthread.h>

#include "base/buf.h"
#include "log/log.h"

/* What the files of this folder share. */

/* One backend. log.c checks arguments, computes roots and the chain, and keeps the head. */
struct log_ops {
	void (*close)(struct log *l);
	/* c is complete (root, chain). 0; -ENOSPC: nothing was kept; anything else: the log takes no more. */
	int (*append)(struct log *l, const struct log_commit *c, const struct log_body *bodies,
		size_t body_count, struct base_err *err);
	void (*idle)(struct log *l); /* may be NULL */

	int (*reader_new)(struct log *l, struct log_reader **ret, struct base_err *err);
	void (*reader_free)(struct log_reader *r);
	/* The last commit whose first_seq is <= seq; -ENOENT when there is none. */
	int (*floor)(struct log_reader *r, uint64_t seq, struct log_commit *ret, struct base_err *err);
	int (*body)(struct log_reader *r, const struct base_hash *hash, struct base_str *ret,
		struct base_err *err);
	/* Commits with first_seq >= first in order; stops when fn returns non-zero and returns that. */
	int (*each)(
		struct log_reader *r, uint64_t first, log_each_fn fn, void *userdata, struct base_err *err);
	/* Every body with the commit that brought it. */
	int (*each_body)(struct log_reader *r,
		int (*fn)(void *userdata, uint64_t first_seq, const struct log_body *body), void *userdata,
		struct base_err *err);

	int (*snapshot_put)(struct log *l, uint64_t seq, const struct base_hash *state, struct base_str data,
		struct base_err *err);
	int (*snapshot_get)(struct log *l, uint64_t max_seq, uint64_t *ret_seq, char **ret_data,
		size_t *ret_len, struct base_err *err);
};

/* The first member of every backend's struct. */
struct log {
	const struct log_ops *ops;
	pthread_mutex_t head_lock; /* the head is read by other threads than the one that appends */
	uint64_t last_seq;
	struct base_hash last_chain;
	int dead;		  /* 0, or why nothing can be appended any more (-EIO, -EUCLEAN) */
	struct base_hash *leaves; /* scratch of log_append */
	size_t leaves_size;
};

struct log_reader {
	struct log *log;
	/* The last commit that log_read gave, to answer for its other events; first_seq 0: none. */
	struct log_commit cached;
};

int log_init(struct log *l, const struct log_ops *ops); /* -ENOMEM */
void log_done(struct log *l);
/* Takes the newest commit (as stored) and the one before it as the head. Where they do not hold together the
 * log can be read and verified, and refuses to be appended to. -ENOMEM. */
int log_set_head(struct log *l, const struct log_commit *last, const struct base_hash *before);

/* Merkle root of a block; scratch as in struct log. -EBADMSG: not `count` length-prefixed events. -ENOMEM. */
int log_block_root(struct base_str block, uint32_t count, struct base_hash **scratch, size_t *scratch_size,
	struct base_hash *ret) __attribute__((warn_unused_result));
struct base_hash log_chain(const struct base_hash *before, const struct log_commit *c);

/* Snapshot files (snapshot.c). */
int log_snapfile_put(const char *dir, uint64_t seq, const struct base_hash *state, struct base_str data,
	struct base_err *err);
int log_snapfile_get(const char *dir, uint64_t max_seq, uint64_t *ret_seq, char **ret_data, size_t *ret_len,
	struct base_err *err);
/* Removes those that are newer than the log: it was restored from a backup, they tell of another history. */
void log_snapfile_drop_after(const char *dir, uint64_t seq);
