#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

/*
 * Delivery into a Maildir, once per name: the file is written to tmp/, synced, linked into new/, and the
 * folder is synced. A mail of that name that is there already, in new/ or moved to cur/ by a reader, counts
 * as delivered.
 */

/* `dir`: relative to `root`, made where missing. `message`: lines in CRLF, stored with LF. *ret_already: it
 * was there. 0, or -errno with the place in err: nothing was delivered then, but for -EIO after the link,
 * when it may have been. */
int maildir_deliver(int root, struct base_str dir, struct base_str name, struct base_str message,
	bool *ret_already, struct base_err *err) __attribute__((warn_unused_result));
/* 1: there, 0: not, -errno. */
int maildir_has(int root, struct base_str dir, struct base_str name, struct base_err *err)
	__attribute__((warn_unused_result));
