#pragma once

#include "base/err.h"
#include "base/str.h"

/* How aios-connect is started: what main has opened and entered before anything foreign is read. */
struct connect_options {
	int wire_fd;		 /* taken over: the socket to aiosd */
	int files_fd;		 /* taken over: the workspace's files/ folder (O_PATH is enough), or -1 */
	struct base_str sandbox; /* what jail_enter reported, for the hello */
};

/* Says hello and serves effects until aiosd says stop (0) or goes away (-EPIPE), or -errno with a text. */
int connect_run(const struct connect_options *o, struct base_err *err) __attribute__((warn_unused_result));
