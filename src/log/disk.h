#pragma once

#include <stdint.h>

#include "log/log.h"

/*
 * A disk for logs in memory, for the simulator: it outlives the log that is opened on it, and fails as it is told. Only
 * what an append has returned for (or what `append` says was kept) is on it.
 */
struct log_disk;

struct log_disk_world {
	void *userdata;
	/* Before a commit is written: 0; -ENOSPC or -EIO, nothing is kept; LOG_DISK_UNCERTAIN: it is kept, and the
	 * log says -EIO. */
	int (*append)(void *userdata, const struct log_commit *c);
	/* After it was: it is durable. */
	void (*appended)(void *userdata, const struct log_commit *c);
	/* Before a snapshot is written: 0, or a negative errno. */
	int (*snapshot)(void *userdata, uint64_t seq);
};
enum { LOG_DISK_UNCERTAIN = 1 };

/* `w` may be NULL: nothing fails. -ENOMEM. The caller frees *ret, after every log that is open on it. */
int log_disk_new(const struct log_disk_world *w, struct log_disk **ret) __attribute__((warn_unused_result));
void log_disk_free(struct log_disk *d);
/* Opens the log that is on d. A log that is never closed leaves nothing behind on it. */
int log_open_disk(struct log_disk *d, struct log **ret, struct base_err *err)
	__attribute__((warn_unused_result));
