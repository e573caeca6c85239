#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"

/* Server-sent events, the part that model APIs use: the data of each event; names, ids and comments are
 * skipped. */
struct sse {
	struct base_buf line;
	struct base_buf data;
	bool after_cr;
};

void sse_init(struct sse *s, size_t cap); /* cap: the longest event */
void sse_done(struct sse *s);
/* Takes bytes as they come; calls fn for each event that is complete. Returns 0, -EFBIG, or what fn returned.
 */
int sse_feed(struct sse *s, struct base_str bytes, int (*fn)(void *userdata, struct base_str data),
	void *userdata);
