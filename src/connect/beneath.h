#pragma once

#include <sys/stat.h>

#include "base/err.h"
#include "base/str.h"

/* Files below one folder: nothing that is done here can leave it, through "..", an absolute path or a
 * symbolic link (openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS; without it, -ENOSYS). Paths are
 * relative to `root`. */

/* Opens; flags as for open(2), O_CLOEXEC is added. Returns a descriptor, or -errno with the path and what to
 * do. */
int beneath_open(int root, struct base_str path, int flags, unsigned mode, struct base_err *err)
	__attribute__((warn_unused_result));
/* Opens a folder, made with its parents (mode 0755), durably, where it is missing. Empty path: `root` itself.
 */
int beneath_mkdir(int root, struct base_str path, struct base_err *err) __attribute__((warn_unused_result));
/* Splits at the last '/': *ret_dir may be empty. -EINVAL when the last part is empty, "." or "..". */
int beneath_split(struct base_str path, struct base_str *ret_dir, struct base_str *ret_leaf,
	struct base_err *err) __attribute__((warn_unused_result));
/* Writes all of `data`. 0 or -errno. */
int beneath_write(int fd, struct base_str data) __attribute__((warn_unused_result));
/* Makes `data` the contents of dir/leaf, all or nothing, and durable. 0 or -errno. */
int beneath_replace(int dir, const char *leaf, struct base_str data) __attribute__((warn_unused_result));
/* A name for a temporary file: "." prefix ".aios-" and 16 random hex digits. */
enum { BENEATH_TEMP_LEN = 24 };
void beneath_temp(char ret[BENEATH_TEMP_LEN]);
