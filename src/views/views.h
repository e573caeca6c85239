#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/str.h"

/*
 * The tables of aios-views: events in, answers out. One thread. See README.md for the queries.
 */
struct views;

/* Opens the tables in `dir`, or makes them anew where they are missing, damaged, of another format, or may
 * have lost writes in a crash of the machine. The caller closes *ret. */
int views_open(const char *dir, struct views **ret, struct base_err *err) __attribute__((warn_unused_result));
/* Commits what is open and leaves the files in order. */
void views_close(struct views *v);

/* The position that the tables include. */
uint64_t views_seq(const struct views *v);

/* Keeps a copy of a body for the block that comes next. */
int views_body(struct views *v, const struct base_hash *hash, struct base_str data)
	__attribute__((warn_unused_result));
/* Projects one committed block, in the transaction that is open or a new one. What is there already is
 * skipped. -EBADMSG: malformed; -ESPIPE: events before it are missing; -ENOSPC, -EIO, -EUCLEAN: the tables;
 * *err tells. After an error the transaction is gone and nothing more can be projected. */
int views_block(struct views *v, uint64_t first_seq, struct base_str block, struct base_err *err)
	__attribute__((warn_unused_result));
/* Ends the open transaction, if there is one. Errors as views_block. */
int views_commit(struct views *v, struct base_err *err) __attribute__((warn_unused_result));

/* Gives memory back to the system when nothing happens. */
void views_quiet(struct views *v);

/* Events that did not decode and were left out, since opening. */
uint64_t views_skipped(const struct views *v);

/* Appends the JSON answer. -EINVAL: the query or its parameters, *err says why; -ENOENT: no such run; -EFBIG:
 * the answer is too large; -ENOMEM, -EIO, -EUCLEAN. */
int views_query(struct views *v, struct base_str query, struct base_str params, struct base_buf *ret,
	struct base_err *err) __attribute__((warn_unused_result));

/* The process: serves frames on wire_fd until told to stop (0) or the peer is gone (-EPIPE). */
struct views_options {
	int wire_fd;
	const char *sandbox; /* for hello */
};
int views_serve(const struct views_options *o, struct base_err *err) __attribute__((warn_unused_result));
