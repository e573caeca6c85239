#pragma once

#include <pthread.h>

#include "base/buf.h"
#include "log/log.h"

/* What the files of this folder share. */

typedef int (*log_body_fn)(void *userdata, uint64_t first_seq, const struct log_body *body);

/* One backend. log.c checks arguments, computes roots and the chain, and keeps the head. */
struct log_ops {
	void (*close)(struct log *l);
	/* c is complete (root, chain). 0; -ENOSPC: nothing was kept; anything else: the log takes no more. */
	int (*append)(struct log *l, const struct log_commit *c, const struct log_body *bodies,
		size_t body_count, struct base_err *err);
	void (*idle)(struct log *l); /* may be NULL */
	/* Deletes a bounded number of the oldest commits that end at or before upto, and their bodies, and gives disk
	 * space back. 1: there is more to do, 0: all done; may be NULL: the backend keeps no archive. */
	int (*drop)(struct log *l, uint64_t upto);

	int (*reader_new)(struct log *l, struct log_reader **ret, struct base_err *err);
	void (*reader_free)(struct log_reader *r);
	void (*hold)(struct log_reader *r, bool hold); /* may be NULL */
	/* The last commit whose first_seq is <= seq; -ENOENT when there is none. */
	int (*floor)(struct log_reader *r, uint64_t seq, struct log_commit *ret, struct base_err *err);
	int (*body)(struct log_reader *r, const struct base_hash *hash, struct base_str *ret,
		struct base_err *err);
	/* Commits with first_seq >= first in order; stops when fn returns non-zero and returns that. */
	int (*each)(
		struct log_reader *r, uint64_t first, log_each_fn fn, void *userdata, struct base_err *err);
	/* Every body with the commit that brought it. */
	int (*each_body)(struct log_reader *r, log_body_fn fn, void *userdata, struct base_err *err);
	/* Bodies that came with the commits `from` to `to`. */
	int (*each_body_of)(struct log_reader *r, uint64_t from, uint64_t to, log_body_fn fn, void *userdata,
		struct base_err *err);

	int (*snapshot_put)(struct log *l, uint64_t seq, const struct base_hash *state, struct base_str data,
		struct base_err *err);
	int (*snapshot_get)(struct log *l, uint64_t max_seq, uint64_t *ret_seq, char **ret_data,
		size_t *ret_len, struct base_err *err);
};

enum { LOG_FOR_READ, LOG_FOR_BODY, LOG_FOR_EACH };

/* The first member of every backend's struct. */
struct log {
	const struct log_ops *ops;
	pthread_mutex_t head_lock; /* the head is read by other threads than the one that appends */
	uint64_t last_seq;
	struct base_hash last_chain;
	char id[33];
	/* The archive (archive.c): the first events, whose commits are in files and need not be in the backend. */
	char *archive_dir; /* NULL: none */
	struct log_segment **segments;
	size_t segment_count, segment_size;
	uint64_t archived;	  /* last event of the last segment, 0: none */
	uint64_t drop_to;	  /* commits up to here may leave the backend */
	unsigned drop_wait;	  /* appends since the last bit was dropped; the thread that appends */
	bool dropping;		  /* there is more to drop; the thread that appends */
	int dead;		  /* 0, or why nothing can be appended any more (-EIO, -EUCLEAN) */
	struct base_hash *leaves; /* scratch of log_append */
	size_t leaves_size;
};

struct log_reader {
	struct log *log;
	/* The last commit that log_read gave, to answer for its other events; first_seq 0: none. */
	struct log_commit cached;
	struct base_hash *leaves; /* scratch of the check of what was read */
	size_t leaves_size;
	/* What was unpacked of the archive: for log_read, log_read_body and the walks, whose views live side by side. */
	struct log_frames {
		const struct log_segment *segment; /* whose frame is in raw; NULL: none */
		size_t index;
		struct base_buf raw, packed;
		struct ZSTD_DCtx_s *z;
		struct base_hash *leaves;
		size_t leaves_size;
	} frames[3];
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

/* One file of the archive (segment.c). */
enum { LOG_SEGMENT_NAME = 4 + 20 + 1 + 20 + 1 };
enum { LOG_FRAME_COMMITS = 0, LOG_FRAME_BODIES = 1 };
struct log_frame {
	unsigned kind;
	uint32_t packed, raw;
	uint64_t first_seq, offset;
	struct base_hash sum; /* of the packed bytes */
};
struct log_segment_body {
	struct base_hash hash;
	uint32_t frame, at;
};
struct log_segment {
	char *path, *name; /* name points into path */
	uint64_t first_seq, last_seq, commits, bytes, raw_bytes;
	int64_t first_ms, last_ms;
	struct base_hash before, chain; /* the chain before its first and after its last commit */
	struct log_frame *frames;
	size_t frame_count;
	struct log_segment_body *bodies; /* by hash */
	size_t body_count;
	bool lost; /* no such file, or a damaged one: only first_seq and last_seq are known */
};
struct log_segment_writer;
/* Begins a file whose first commit follows `before`. */
int log_segment_begin(const char *dir, const struct base_hash *before, struct log_segment_writer **ret,
	struct base_err *err);
int log_segment_commit(struct log_segment_writer *w, const struct log_commit *c); /* -ENOMEM, -ENOSPC, -EIO */
int log_segment_body(struct log_segment_writer *w, uint64_t first_seq, const struct log_body *body);
uint64_t log_segment_raw(const struct log_segment_writer *w); /* bytes so far, before compression */
/* Makes it durable under its name and frees w, also on failure. */
int log_segment_finish(struct log_segment_writer *w, char ret_name[LOG_SEGMENT_NAME], struct base_err *err);
void log_segment_abandon(struct log_segment_writer *w);
bool log_segment_name(const char *name, uint64_t *ret_first, uint64_t *ret_last);
int log_segment_open(const char *dir, const char *name, struct log_segment **ret, struct base_err *err);
void log_segment_free(struct log_segment *s);
int log_segment_hash(const struct log_segment *s, struct base_hash *ret, struct base_err *err);
/* The commit that holds event seq, which is in s. Views until the next call on f. */
int log_segment_read(struct log_frames *f, const struct log_segment *s, uint64_t seq, struct log_commit *ret,
	struct base_err *err);
/* Commits that end at or after `from`. */
int log_segment_each(struct log_frames *f, const struct log_segment *s, uint64_t from, log_each_fn fn,
	void *userdata, struct base_err *err);
int log_segment_find_body(struct log_frames *f, const struct log_segment *s, const struct base_hash *hash,
	struct base_str *ret, struct base_err *err);
int log_segment_each_body(struct log_frames *f, const struct log_segment *s, log_body_fn fn, void *userdata,
	struct base_err *err);
void log_frames_done(struct log_frames *f);

/* All of them (archive.c). */
/* Reads the folder; first_seq: of the first commit in the backend, 0: none. Takes the archive as the log's. -ENOMEM. */
int log_archive_open(struct log *l, const char *dir, uint64_t first_seq, struct base_err *err);
void log_archive_done(struct log *l);
/* The chain after the last archived commit; zero when there is none. */
struct base_hash log_archive_chain(struct log *l);
/* Commits from the one that holds `from` to the end of the archive. */
int log_archive_each(
	struct log_reader *r, uint64_t from, log_each_fn fn, void *userdata, struct base_err *err);
int log_archive_read(struct log_reader *r, uint64_t seq, struct log_commit *ret, struct base_err *err);
int log_archive_body(
	struct log_reader *r, const struct base_hash *hash, struct base_str *ret, struct base_err *err);
int log_archive_each_body(struct log_reader *r, log_body_fn fn, void *userdata, struct base_err *err);
/* A bit of what log_archive_release let go; true: there is more. The thread that appends. */
bool log_archive_step(struct log *l);

/* Exactly len bytes of a file from `at` on; -EUCLEAN: it ends before. (snapshot.c) */
int log_read_at(int fd, char *to, size_t len, uint64_t at) __attribute__((warn_unused_result));

/* Snapshot files (snapshot.c). */
int log_snapfile_put(const char *dir, uint64_t seq, const struct base_hash *state, struct base_str data,
	struct base_err *err);
int log_snapfile_get(const char *dir, uint64_t max_seq, uint64_t *ret_seq, char **ret_data, size_t *ret_len,
	struct base_err *err);
/* Removes those that are newer than the log: it was restored from a backup, they tell of another history. */
void log_snapfile_drop_after(const char *dir, uint64_t seq);
