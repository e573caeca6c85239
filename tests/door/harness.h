#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/str.h"
#include "wire/conn.h"
#include "wire/frames.h"

/* A real aios-door with a scripted aiosd (this process) behind it. Every wait fails the test after ten
 * seconds. */
struct door_test {
	pid_t pid;
	struct wire_conn *wire;
	int port;	/* network; 0 for local */
	char path[108]; /* local: of the socket */
	char dir[64];
};

/* Starts one; kind "network" or "local"; limits: JSON object or NULL; attack: JSON or NULL. */
void door_test_start(struct door_test *t, const char *kind, const char *limits, const char *attack);
/* The same with members of the set-up: ",\"rate\":{…}". */
void door_test_start_with(struct door_test *t, const char *kind, const char *more);
/* Sends stop, waits for exit status 0. */
void door_test_stop(struct door_test *t);
/* Waits for its end and returns the wait status. */
int door_test_wait_end(struct door_test *t);

/* A connection to it. */
int door_test_connect(const struct door_test *t);
void door_test_send(int fd, const char *text);
void door_test_send_bytes(int fd, const void *data, size_t len);
/* Reads until the whole answer (Content-Length, or the end) is there; into a static buffer. Status, or 0 when
 * the connection ended without one. */
int door_test_read(int fd, struct base_str *ret_head, struct base_str *ret_body);
/* Reads until `text` has arrived. */
void door_test_read_until(int fd, const char *text);
bool door_test_readable(int fd); /* something, or the end, can be read now */
/* True when the other side closed (data before it is dropped). */
bool door_test_closed(int fd);
/* Sends one request line with headers, reads the answer on a connection of its own. */
int door_test_ask(
	const struct door_test *t, const char *request, struct base_str *ret_head, struct base_str *ret_body);

/* The next frame, which must be of that type; its views are valid until the next call. */
struct base_str door_test_frame(struct door_test *t, unsigned type);
struct wire_door_request door_test_request(struct door_test *t);
/* True when aiosd was sent nothing so far. */
bool door_test_quiet(struct door_test *t);
void door_test_reply(struct door_test *t, uint64_t req, unsigned status, const char *type, const char *body);
void door_test_chunk(struct door_test *t, uint64_t req, const char *data, size_t len, bool end);
/* Resident memory in KiB. */
long door_test_rss(const struct door_test *t);
