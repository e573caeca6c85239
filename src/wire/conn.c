#include "wire/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "wire/frames.h"
#include "wire/head.h"

/*
 * Invariants
 * 1. `out` holds, from `out_at`, whole frames in the order of wire_conn_begin, and behind them at most one
 * that is being written (`frame` is where it starts, NONE otherwise). What is before `out_at` has been
 * written.
 * 2. `in` holds, from `in_at`, what was read and not yet handed out; it moves only in wire_conn_fill.
 * 3. An idle connection holds at most KEEP bytes each way.
 * 4. While `busy`, `out` is not what invariant 1 says: a signal handler keeps its hands off.
 */
enum {
	READ_MIN = 64 << 10, /* room offered to each read */
	FILL_MAX = 1 << 20,  /* read per fill, so that one busy peer does not starve the others */
	KEEP = 256 << 10,
	GONE_MAX =
		4
		<< 20, /* written and not yet given up: it counts against WIRE_OUT_MAX like what is pending */
	IN_MAX = WIRE_HEAD + WIRE_BODY_MAX + FILL_MAX,
};
static const size_t NONE = SIZE_MAX;

struct wire_conn {
	int fd;
	bool ended; /* the peer has closed its side */
	struct base_buf in;
	size_t in_at;
	struct base_buf out;
	size_t out_at;
	size_t frame;
	volatile sig_atomic_t busy;
};

int wire_conn_new(int fd, struct wire_conn **ret)
{
	struct wire_conn *c = calloc(1, sizeof(*c));
	int flags;

	if (!c)
		return -ENOMEM;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		free(c);
		return -errno;
	}
	c->fd = fd;
	c->frame = NONE;
	base_buf_init(&c->in, IN_MAX);
	base_buf_init(&c->out, WIRE_OUT_MAX);
	*ret = c;
	return 0;
}

void wire_conn_free(struct wire_conn *c)
{
	if (!c)
		return;
	close(c->fd);
	base_buf_done(&c->in);
	base_buf_done(&c->out);
	free(c);
}

int wire_conn_fd(const struct wire_conn *c)
{
	return c->fd;
}

/* Makes the place of what is done with free again. */
static void compact(struct base_buf *b, size_t *at)
{
	if (*at == b->len) {
		if (b->size > KEEP)
			base_buf_done(b);
		base_buf_clear(b);
		*at = 0;
	} else if (*at > b->len / 2 || *at >= GONE_MAX) {
		base_buf_consume(b, *at);
		*at = 0;
	}
}

struct base_buf *wire_conn_begin(struct wire_conn *c, unsigned type)
{
	char head[WIRE_HEAD] = {0};

	BASE_CHECK(c->frame == NONE && type > 0 && type <= UINT16_MAX);
	c->busy = 1;
	compact(&c->out, &c->out_at);
	c->frame = c->out.len;
	wire_head_put(head, type, 0);
	base_buf_put(&c->out, head, sizeof(head));
	return &c->out;
}

int wire_conn_end(struct wire_conn *c)
{
	int r = base_buf_failed(&c->out);
	size_t start = c->frame, body;

	BASE_CHECK(start != NONE);
	c->frame = NONE;
	body = r < 0 ? 0 : c->out.len - start - WIRE_HEAD;
	if (r == 0 && body > WIRE_BODY_MAX)
		r = -EFBIG;
	if (r < 0) {
		c->out.len = start;
		c->out.failed = 0;
	} else {
		wire_head_size(c->out.ptr + start, body);
	}
	c->busy = 0;
	return r;
}

size_t wire_conn_pending(const struct wire_conn *c)
{
	return (c->frame == NONE ? c->out.len : c->frame) - c->out_at;
}

static int write_out(struct wire_conn *c)
{
	while (wire_conn_pending(c) > 0) {
		ssize_t n = write(c->fd, c->out.ptr + c->out_at, wire_conn_pending(c));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		c->out_at += (size_t)n;
	}
	return 0;
}

int wire_conn_flush(struct wire_conn *c)
{
	sig_atomic_t before = c->busy;
	int r;

	c->busy = 1;
	r = write_out(c);
	if (r == 0 && c->frame == NONE)
		compact(&c->out, &c->out_at);
	c->busy = before;
	return r;
}

void wire_conn_push(struct wire_conn *c)
{
	int saved = errno;

	if (!c->busy)
		(void)write_out(c); /* a lost peer is met again where it can be answered */
	errno = saved;
}

/* How much the frame that is being read still lacks, so that a large one is not read in small pieces. */
static size_t wanted(const struct wire_conn *c)
{
	size_t have = c->in.len - c->in_at, body;

	if (have < WIRE_HEAD)
		return READ_MIN;
	body = wire_head_body(c->in.ptr + c->in_at);
	if (body > WIRE_BODY_MAX || body + WIRE_HEAD <= have || body + WIRE_HEAD - have < READ_MIN)
		return READ_MIN;
	return body + WIRE_HEAD - have;
}

int wire_conn_fill(struct wire_conn *c)
{
	size_t total = 0, room;
	ssize_t n;
	char *to;

	compact(&c->in, &c->in_at);
	while (total < FILL_MAX && !c->ended) {
		to = base_buf_reserve(&c->in, wanted(c));
		if (!to) {
			n = base_buf_failed(&c->in);
			c->in.failed = 0;
			/* Full of frames that nobody has taken: those first. */
			return n == -EFBIG ? 0 : (int)n;
		}
		room = c->in.size - c->in.len;
		n = read(c->fd, to, room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0)
			return -errno;
		c->ended = n == 0;
		base_buf_commit(&c->in, (size_t)n);
		total += (size_t)n;
		if ((size_t)n < room)
			break;
	}
	if (total > 0)
		return 0;
	return c->ended ? -EPIPE : -EAGAIN;
}

int wire_conn_next(struct wire_conn *c, unsigned *ret_type, struct base_str *ret_body)
{
	struct base_str in = {c->in.ptr + c->in_at, c->in.len - c->in_at};
	int rc = wire_head_next(in, ret_type, ret_body);

	if (rc > 0)
		c->in_at += WIRE_HEAD + ret_body->len;
	return rc;
}

int wire_conn_wait(struct wire_conn *c, int timeout_ms)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	int r;

	r = wire_conn_flush(c);
	if (r < 0 && r != -EAGAIN)
		return r;
	if (r == -EAGAIN)
		p.events |= POLLOUT;
	r = poll(&p, 1, timeout_ms);
	if (r < 0)
		return errno == EINTR ? 0 : -errno;
	if (r == 0)
		return -ETIMEDOUT;
	if (p.revents & POLLOUT) {
		r = wire_conn_flush(c);
		if (r < 0 && r != -EAGAIN)
			return r;
	}
	if (p.revents & ~POLLOUT) {
		r = wire_conn_fill(c);
		if (r < 0 && r != -EAGAIN)
			return r;
	}
	return 0;
}

int wire_hello(struct wire_conn *c, const char *process, const char *sandbox, struct base_str public_key)
{
	struct wire_hello hello = {
		.version = wire_frame_version(),
		.process = base_str_of(process),
		.sandbox = base_str_of(sandbox),
		.public_key = public_key,
	};
	int r;

	wire_hello_put(wire_conn_begin(c, WIRE_HELLO), &hello);
	r = wire_conn_end(c);
	if (r < 0)
		return r;
	r = wire_conn_flush(c);
	return r == -EAGAIN ? 0 : r;
}
