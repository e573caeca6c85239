#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/*
 * Frames on a stream socket. A frame is: u32 length of the body (little endian), u16 type, u16 zero, then the body
 * (see frames.def). Both ends buffer and write in batches.
 */
enum {
	WIRE_HEAD = 8,
	WIRE_BODY_MAX = 20 << 20, /* a step payload of 16 MiB, and what goes round it */
	WIRE_OUT_MAX = 64 << 20,
};

struct wire_conn;

/* Takes over fd (a stream socket, made non-blocking here). The caller frees *ret, which closes fd. -ENOMEM. */
int wire_conn_new(int fd, struct wire_conn **ret) __attribute__((warn_unused_result));
void wire_conn_free(struct wire_conn *c);
int wire_conn_fd(const struct wire_conn *c);

/* Begins a frame; append the body to the returned buffer (with a generated _put), then call wire_conn_end. Nothing is
 * written yet. Never NULL. */
struct base_buf *wire_conn_begin(struct wire_conn *c, unsigned type);
/* 0, -EFBIG (frame or queue over its limit; the frame is dropped), -ENOMEM. */
int wire_conn_end(struct wire_conn *c) __attribute__((warn_unused_result));
size_t wire_conn_pending(const struct wire_conn *c); /* bytes not yet written */
/* Writes what the socket takes. 0 when all is out, -EAGAIN when some is left, else -errno (peer gone: -EPIPE). */
int wire_conn_flush(struct wire_conn *c);
/* The same from a signal handler of the thread that owns the connection: writes what it can, unless that thread is in
 * the middle of a frame or of a flush. Leaves errno alone. */
void wire_conn_push(struct wire_conn *c);

/* Reads what is there. 0, -EAGAIN when nothing was, -EPIPE at the end of the stream, else -errno. */
int wire_conn_fill(struct wire_conn *c);
/* The next complete frame: 1 and a view that is valid until the next fill; 0 when there is none; -EBADMSG for a head
 * that cannot be (the connection must be dropped). */
int wire_conn_next(struct wire_conn *c, unsigned *ret_type, struct base_str *ret_body);

/* For simple processes: waits (poll, -1 for ever) until readable or writable as needed, flushes and fills.
 * Returns 0, -ETIMEDOUT, or what fill and flush return for a lost peer. */
int wire_conn_wait(struct wire_conn *c, int timeout_ms);

/* Sends hello (frames.def) and flushes. process: "aios-parse"; sandbox: what jail_enter reported. */
int wire_hello(struct wire_conn *c, const char *process, const char *sandbox, struct base_str public_key);
