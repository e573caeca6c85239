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
/* What tells this log from all others (32 hex digits); a copy of its files has the same. Empty in memory. */
const char *log_id(const struct log *l);
struct base_hash log_last_chain(const struct log *l);
void log_head(const struct log *l, uint64_t *ret_seq, struct base_hash *ret_chain); /* both, of one moment */

/*
 * Appends one commit and its bodies and makes them durable, all or nothing. first_seq must be log_last_seq + 1
 * (-EINVAL). root and chain of `c` are ignored and computed. -ENOSPC: disk full, nothing is kept, the log goes on.
 * -EIO: the log must be closed and reopened; what was appended last may or may not be there.
 */
int log_append(struct log *l, const struct log_commit *c, const struct log_body *bodies, size_t body_count,
	struct base_err *err) __attribute__((warn_unused_result));
/* Work that may wait for a quiet moment (checkpoints, dropping what is archived): a bounded bit of it; true when there
 * is more. Called by the thread that appends. */
bool log_idle(struct log *l);

/* Readers: for one thread each. */
int log_reader_new(struct log *l, struct log_reader **ret, struct base_err *err)
	__attribute__((warn_unused_result));
void log_reader_free(struct log_reader *r);
/* Many reads in a row: until it is let go of, the reader sees the log as it was at the first of them, and a read costs half.
 * For a moment only: meanwhile the log's file of what is new can not start over. */
void log_reader_hold(struct log_reader *r, bool hold);
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

/*
 * The archive: commits of the first events, moved into compressed files beside the log. Every read goes on working over
 * them, and log_verify checks the chain across the border. Bodies move with the commit that brought them.
 */
struct log_archived {
	uint64_t first_seq, last_seq;
	int64_t first_ms, last_ms; /* times of the first and the last commit; 0 where lost */
	uint64_t bytes, raw_bytes; /* of the file; before compression */
	char file[64];
	bool lost; /* the file is missing or damaged: what was in it cannot be read */
};
uint64_t log_archived_seq(const struct log *l); /* last event that is in the archive, 0: none */
/* The segment that holds `seq`, or the first after it: 0, or -ENOENT. */
int log_archived_get(struct log *l, uint64_t seq, struct log_archived *ret);
/* BLAKE2b of the segment's whole file. */
int log_archived_hash(struct log *l, uint64_t first_seq, struct base_hash *ret, struct base_err *err);

struct log_archive_plan {
	int64_t before_ms; /* commits that are older than this */
	uint64_t keep_seq; /* and end before this event; 0: any but the last commit */
	uint64_t raw_max;  /* bytes before compression in one segment; 0: 64 MiB */
	/* Told before each step of the way ("write", "sync", "verify", "done"); may be NULL. */
	void (*step)(void *userdata, const char *what);
	void *userdata;
};
/* Would log_archive_make find something? How many events. 0, or negative errno. */
int log_archive_look(struct log_reader *r, const struct log_archive_plan *p, uint64_t *ret_events,
	uint64_t *ret_last, struct base_err *err) __attribute__((warn_unused_result));
/*
 * Copies the oldest commits that are not in the archive yet into one new segment, makes it durable, reads it back and
 * verifies it against the chain; from then on reads of them go there. What the log itself holds stays until
 * log_archive_release. On any thread, with that thread's reader; one at a time. 0 with *ret, -ENOENT: nothing is old
 * enough, -ENOTSUP: this log keeps none, -ENOSPC and others.
 */
int log_archive_make(struct log_reader *r, const struct log_archive_plan *p, struct log_archived *ret,
	struct base_err *err) __attribute__((warn_unused_result));
/* Reads the segment that holds seq back and verifies it, as log_archive_make does: of one that a crash left, nobody knows
 * whether that was done. -EUCLEAN: it is damaged, and removed; the next start does without it. */
int log_archive_check(struct log_reader *r, uint64_t seq, struct base_err *err)
	__attribute__((warn_unused_result));
/* Lets the thread that appends delete, bit by bit, what is archived up to seq. Any thread. */
void log_archive_release(struct log *l, uint64_t seq);

/*
 * Copies the database of the log in `dir` (not its archive and snapshots) into to_dir/log.db, which must not exist: the
 * log as it is at one moment, while it is appended to. On any thread. Not durable yet. progress may be NULL.
 */
int log_copy(const char *dir, const char *to_dir,
	void (*progress)(void *userdata, uint64_t done, uint64_t total), void *userdata, struct base_err *err)
	__attribute__((warn_unused_result));
/* A log that nobody has open gets a new id when it is opened next: it goes its own way from here. */
int log_forget_id(const char *dir, struct base_err *err) __attribute__((warn_unused_result));

/* Snapshots: files beside the log, written to a temporary name, synced, renamed. The newest two are kept. */
int log_snapshot_put(struct log *l, uint64_t seq, const struct base_hash *state, struct base_str data,
	struct base_err *err) __attribute__((warn_unused_result));
/* The newest whose own hash is right and whose seq is <= max_seq: 0 and malloc'ed data that the caller frees; -ENOENT. */
int log_snapshot_get(struct log *l, uint64_t max_seq, uint64_t *ret_seq, char **ret_data, size_t *ret_len,
	struct base_err *err) __attribute__((warn_unused_result));
