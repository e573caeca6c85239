#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "door/door.h"
#include "door/door_int.h"
#include "jail/jail.h"
#include "wire/outcome.h"

enum { TICK_MS = 5000, STOP_MS = 3000, SCRATCH_CAP = 20 << 20 };

static int enter_jail(struct wire_conn *wire, int listen_fd)
{
	const int keep[] = {listen_fd, -1};
	struct jail_options o = {.profile = JAIL_DOOR, .keep = keep};
	struct base_buf features;
	struct base_err err;
	int r;

	base_buf_init(&features, 4096);
	r = jail_enter(&o, &features, &err);
	if (r < 0) {
		dprintf(2, "aios-door: %s\n", err.text);
		return r;
	}
	base_buf_char(&features, '\0');
	r = base_buf_failed(&features);
	if (r == 0)
		r = wire_hello(wire, "aios-door", features.ptr, BASE_STR_NONE);
	base_buf_done(&features);
	return r;
}

static int wait_setup(struct wire_conn *wire, struct door_config *ret)
{
	struct wire_setup f;
	struct base_str body;
	struct base_err err;
	unsigned type;
	int r;

	while ((r = wire_conn_next(wire, &type, &body)) == 0) {
		r = wire_conn_wait(wire, -1);
		if (r < 0)
			return r;
	}
	if (r < 0 || type != WIRE_SETUP || wire_setup_get(body, &f) < 0)
		return -EBADMSG;
	r = door_config_read(f.config, ret, &err);
	if (r < 0)
		dprintf(2, "aios-door: %s\n", err.text);
	return r;
}

/* The pages have one style sheet, in the page; its hash is all that the policy lets through. */
static void make_csp(struct door *d)
{
	unsigned char sum[crypto_hash_sha256_BYTES];
	const char *css = door_css();
	struct base_buf b64;

	crypto_hash_sha256(sum, (const unsigned char *)css, strlen(css));
	base_buf_init(&b64, 128);
	base_b64_put(&b64, (struct base_str){(const char *)sum, sizeof(sum)});
	snprintf(d->page_csp, sizeof(d->page_csp),
		"default-src 'none'; style-src 'sha256-%.*s'; script-src 'self'; connect-src 'self'; "
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
		(int)b64.len, b64.ptr ? b64.ptr : "");
	base_buf_done(&b64);
}

/* Handles what has been read. */
static int take_frames(struct door *d)
{
	struct base_str body;
	unsigned type;
	int r;

	while ((r = wire_conn_next(d->wire, &type, &body)) == 1) {
		if (type == WIRE_STOP) {
			d->stopping = true;
			d->stop_ms = door_now_ms();
			door_http_quiesce(d);
			continue;
		}
		r = door_http_frame(d, type, body);
		if (r < 0)
			return r;
	}
	return r;
}

static int timeout_of(struct door *d)
{
	MHD_UNSIGNED_LONG_LONG ms;
	int timeout = d->conn_count || d->stopping ? TICK_MS : -1;

	if (d->resumed)
		return 0;
	if (d->stopping)
		timeout = 100;
	if (MHD_get_timeout(d->mhd, &ms) == MHD_YES && (timeout < 0 || ms < (unsigned)timeout))
		timeout = (int)ms;
	return timeout;
}

/* One turn: what has arrived from both sides, then one flush. */
static int turn(struct door *d, int64_t *next_tick)
{
	struct pollfd fds[3] = {
		{wire_conn_fd(d->wire), POLLIN, 0}, {d->mhd_epoll, POLLIN, 0}, {d->gone_epoll, POLLIN, 0}};
	int64_t now;
	int r, timeout = timeout_of(d);

	if (wire_conn_pending(d->wire) > 0)
		fds[0].events |= POLLOUT;
	if (poll(fds, 3, timeout) < 0 && errno != EINTR)
		return -errno;
	if (fds[0].revents & (POLLIN | POLLHUP | POLLERR)) {
		r = wire_conn_fill(d->wire);
		if (r == 0)
			r = take_frames(d);
		if (r < 0 && r != -EAGAIN)
			return r;
	}
	if (fds[2].revents)
		door_http_gone(d);
	now = door_now_ms();
	if (now >= *next_tick) {
		door_http_tick(d, now);
		*next_tick = now + (d->config.head_ms < TICK_MS ? d->config.head_ms / 4 : TICK_MS);
	}
	if (fds[1].revents || d->resumed || timeout >= 0) {
		d->resumed = false;
		if (MHD_run(d->mhd) != MHD_YES)
			return -EIO;
	}
	r = wire_conn_pending(d->wire) > 0 ? wire_conn_flush(d->wire) : 0;
	return r == -EAGAIN ? 0 : r;
}

static int serve(struct door *d)
{
	int64_t next_tick = 0;
	int r = take_frames(d); /* what came in one read with setup: poll would not tell of it */

	while (r == 0) {
		if (d->stopping && (d->in_flight == 0 || door_now_ms() - d->stop_ms > STOP_MS))
			return 0;
		r = turn(d, &next_tick);
	}
	return d->stopping && r == -EPIPE ? 0 : r;
}

/* The C library reads the time zone once, from a file; in the jail there is none. libmicrohttpd dates its
 * answers. */
static void learn_time_zone(void)
{
	time_t now = time(NULL);
	struct tm tm;

	setenv("TZ", "UTC", 1);
	tzset();
	gmtime_r(&now, &tm);
}

int door_main(int listen_fd)
{
	static struct door d; /* large, and there is one */
	struct base_err err;
	int r;

	if (sodium_init() < 0)
		return 1;
	learn_time_zone();
	base_buf_init(&d.scratch, SCRATCH_CAP);
	base_buf_init(&d.pairs.text, SCRATCH_CAP);
	base_buf_init(&d.openapi, 4 << 20);
	make_csp(&d);
	door_openapi(&d.openapi);
	r = wire_conn_new(WIRE_FD, &d.wire);
	if (r == 0)
		r = enter_jail(d.wire, listen_fd);
	if (r == 0)
		r = wait_setup(d.wire, &d.config);
	if (r < 0)
		return 1;
	randombytes_buf(d.buckets.secret, sizeof(d.buckets.secret));
	r = door_http_start(&d, listen_fd, &err);
	if (r < 0) {
		dprintf(2, "aios-door: %s\n", err.text);
		return 1;
	}
#ifdef DOOR_ATTACK
	door_attack(&d, base_jv_get(base_json_root(d.config.doc), "attack"));
#endif
	r = serve(&d);
	if (r < 0)
		dprintf(2, "aios-door: aiosd is gone: %s\n", strerror(-r));
	/* libmicrohttpd's own shutdown would wait for suspended connections; the kernel closes them all. */
	fflush(NULL);
	_exit(r < 0 ? 1 : 0);
}
