#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/json.h"
#include "log/log.h"

/* Backups: a folder with manifest.json, log/, vault/ and sources/. Shared by backup.c, backup_files.c and restore.c. */

enum { BACKUP_FORMAT = 1 };
#define BACKUP_MANIFEST "manifest.json"

/* How far it is: written by the thread that works, read by the loop. */
struct backup_progress {
	uint64_t done, total; /* of this part: pages, files */
	const char *part;
};
void backup_at(struct backup_progress *p, const char *part, uint64_t done, uint64_t total);

/* --- files (backup_files.c) --- */

/* Makes a folder that is there already, or not. */
int backup_mkdir(const char *path, struct base_err *err);
int backup_sync_dir(const char *path, struct base_err *err);
/* Copies a regular file to a name that must not exist, and syncs it. */
int backup_copy(const char *from, const char *to, struct base_err *err);
int backup_hash(const char *path, struct base_hash *ret, uint64_t *ret_bytes, struct base_err *err);
/* Calls fn for each regular file below dir, with its path relative to it, folders first come folders; links are passed
 * over. `skip` (may be NULL) names what is not entered or given. Stops when fn returns non-zero. */
int backup_walk(const char *dir, bool (*skip)(const char *relative),
	int (*fn)(void *userdata, const char *relative, struct base_err *err), void *userdata,
	struct base_err *err);
/* Copies a tree of regular files, folders made as needed. */
int backup_copy_tree(
	const char *from, const char *to, bool (*skip)(const char *relative), struct base_err *err);
/* Would `path`, which need not be there, stand in `folder` or be it? Symbolic links are followed. */
bool backup_is_inside(const char *path, const char *folder);
/* Is there nothing at path, or an empty folder? */
bool backup_is_free(const char *path);
/* A relative path that stays below its folder. */
bool backup_path_ok(struct base_str path);

/* --- making one (backup.c) --- */

struct backup_job {
	struct log *open;		     /* the log that is open in the folder `log` */
	const char *workspace, *log, *vault; /* folders */
	const char *to;			     /* made; must not exist, or be empty */
	bool with_key;
	struct backup_progress at;
	/* results */
	uint64_t seq, bytes, files;
	struct base_hash chain;
};
int backup_make(struct backup_job *j, struct base_err *err) __attribute__((warn_unused_result));

/* --- using one (restore.c) --- */

struct backup_info {
	uint64_t seq, bytes, files;
	int64_t made_ms;
	bool has_key;
};
/* Every file against the manifest, and nothing besides. */
int backup_verify(const char *dir, struct backup_progress *at, struct backup_info *ret, struct base_err *err)
	__attribute__((warn_unused_result));
/* Verifies, then makes the workspace, whole or not at all; its next start is that of a restored log. */
int backup_restore(const char *dir, const char *workspace, struct backup_progress *at,
	struct backup_info *ret, struct base_err *err) __attribute__((warn_unused_result));
