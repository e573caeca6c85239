#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "wire/routes.h"

/* Request targets and forms: strict decoders over bytes that anybody may have sent. */
enum { DOOR_PAIRS_MAX = 64, DOOR_METHODS_MAX = 48 };

struct door_pair {
	struct base_str name;
	struct base_str value;
};

/* name=value pairs of a query or of a form, decoded. Starts zeroed but for text, which is base_buf_init's. */
struct door_pairs {
	struct door_pair at[DOOR_PAIRS_MAX];
	unsigned count;
	struct base_buf text; /* what the pairs point to */
};

/* Appends `in` with %XX decoded, and '+' as a blank where plus is set. -EINVAL for a broken %, a NUL byte or
 * text that is not UTF-8 (what was appended then stays); -ENOMEM or -EFBIG of the buffer. */
int door_percent_decode(struct base_str in, bool plus, struct base_buf *ret, struct base_err *err)
	__attribute__((warn_unused_result));
/* Appends `in` as one path segment or query value. */
void door_percent_encode(struct base_str in, struct base_buf *ret);

/* application/x-www-form-urlencoded, which queries are too. Replaces what is in *ret; the pairs are valid
 * until the next parse. -EINVAL for broken encoding, an empty name or a name that comes twice; -E2BIG for too
 * many. */
int door_pairs_parse(struct base_str in, struct door_pairs *ret, struct base_err *err)
	__attribute__((warn_unused_result));
/* The value of a name, or the empty view with a NULL ptr. */
struct base_str door_pairs_get(const struct door_pairs *p, const char *name);

/* What a target matched; views into the target. */
struct door_match {
	enum wire_op op;
	const struct wire_route *route;
	struct base_str params[WIRE_SEGMENTS_MAX]; /* by segment, as received (encoded); empty for literals */
	struct base_str query;
	char allow[DOOR_METHODS_MAX]; /* of a refused method: "GET, HEAD, POST" */
};

/* Finds the route of a request target ("/v1/runs/7?wait=1"). HEAD matches GET. -ENOENT: no such path (or one
 * with empty, "." or ".." segments); -EPERM: another method (allow is set). */
int door_route(struct base_str method, struct base_str target, struct door_match *ret)
	__attribute__((warn_unused_result));

/* Appends path and query parameters as one JSON object of strings, `extra` (may be NULL) as "extra":"1" too.
 * `pairs` is scratch for the query. -EINVAL, -E2BIG as above, also for a query parameter with the name of a
 * path parameter. */
int door_params(const struct door_match *m, const char *extra, struct door_pairs *pairs, struct base_buf *ret,
	struct base_err *err) __attribute__((warn_unused_result));
