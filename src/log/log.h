#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/str.h"

/*
 * The event log: commits of events, chained by hashes, durable when log_append returns. One table of functions, with a
 * backend in memory and one on SQLite (PostgreSQL and a plain file come later). One thread appends; others may read
 * at the same time through a reader of their own (log_reader_new).
 */
struct log;
struct log_reader;

/* A commit: `count` events, the first numbered first_seq. Root: Merkle root over the events' bytes (RFC 6962 with
 * BLAKE2b-256). Chain: hash over (previous chain, root, first_seq, count, time). */
struct log_commit {
	uint64_t first_seq;
	uint32_t count;
	int64_t time_ms;
	struct base_str
		block; /* see core/block.h; the log knows only that it is `count` length-prefixed events */
	struct base_hash root;	/* read: as stored */
	struct base_hash chain; /* read: as stored */
};
struct log_body { /* stored once under its hash */
	struct base_hash hash;
	struct base_str data;
};

/* Opens (makes) the log in `dir`. Locks it: -EBUSY when another process holds it. -EUCLEAN when it is damaged. */
int log_open_sqlite(const char *dir, struct log **ret, struct base_err *err)
	__attribute__((warn_unused_result));
int log_open_memory(struct log **ret, struct base_err *err) __attribute__((warn_unused_result));
void log_close(struct log *l);

uint64_t log_last_seq(const struct log *l); /* 0: empty */
struct base_hash log_last_chain(const struct log *l);

/*
 * Appends one commit and its bodies and makes them durable, all or nothing. first_seq must be log_last_seq + 1
 * (-EINVAL). root and chain of `c` are ignored and computed. -ENOSPC: disk full, nothing is kept, the log goes on.
 * -EIO: the log must be closed and reopened; what was appended last may or may not be there.
 */
int log_append(struct log *l, const struct log_commit *c, const struct log_body *bodies, size_t body_count,
	struct base_err *err) __attribute__((warn_unused_result));
/* Work that may wait for a quiet moment (checkpoints). Called by the thread that appends. */
void log_idle(struct log *l);

/* Readers: for one thread each. */
int log_reader_new(struct log *l, struct log_reader **ret, struct base_err *err)
	__attribute__((warn_unused_result));
void log_reader_free(struct log_reader *r);
/* The commit that holds event `seq`. Its views stay valid until the next log_read of another commit on this reader, a
 * body's until the next log_read_body. 0, -ENOENT, -EIO, -EUCLEAN. */
int log_read(struct log_reader *r, uint64_t seq, struct log_commit *ret, struct base_err *err);
int log_read_body(
	struct log_reader *r, const struct base_hash *hash, struct base_str *ret, struct base_err *err);

/* Calls fn for each commit from the one holding `from` on; stops when fn returns non-zero and returns that. */
typedef int (*log_each_fn)(void *userdata, const struct log_commit *c);
int log_each(struct log_reader *r, uint64_t from, log_each_fn fn, void *userdata, struct base_err *err);

/* Recomputes every root and the chain, and every body's hash. 0, or -EUCLEAN with the first bad event or commit in
 * err and *ret_bad. progress may be NULL. */
int log_verify(struct log_reader *r, uint64_t *ret_bad, void (*progress)(void *userdata, uint64_t seq),
	void *userdata, struct base_err *err) __attribute__((warn_unused_result));

/* Snapshots: files beside the log, written to a temporary name, synced, renamed. The newest two are kept. */
int log_snapshot_put(struct log *l, uint64_t seq, const struct base_hash *state, struct base_str data,
	struct base_err *err) __attribute__((warn_unused_result));
/* The newest whose own hash is right and whose seq is <= max_seq: 0 and malloc'ed data that the caller frees; -ENOENT. */
int log_snapshot_get(struct log *l, uint64_t max_seq, uint64_t *ret_seq, char **ret_data, size_t *ret_len,
	struct base_err *err) __attribute__((warn_unused_result));
