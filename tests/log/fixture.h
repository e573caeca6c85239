#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "log/log.h"

/* A new empty folder below the temporary folder; ends the test program when it cannot be made. */
void fixture_dir(char *ret, size_t size);
/* Removes the folder with all that is in it. */
void fixture_remove(const char *dir);

/* Appends one event whose bytes follow from its number. */
void fixture_event(struct base_buf *block, uint64_t seq, size_t len);
/* Commits `count` events behind the last one; 0 or log_append's error. */
int fixture_append(struct log *l, unsigned count, size_t len, const struct log_body *bodies,
	size_t body_count, struct base_err *err);
/* Ends the test when the events of c are not those that fixture_append made with this length. */
void fixture_check(const struct log_commit *c, size_t len);
struct log_body fixture_body(struct base_str data);
