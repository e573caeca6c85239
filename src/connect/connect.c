#include "connect/connect.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "connect/connect_int.h"
#include "connect/smtp.h"
#include "connect/xfer.h"
#include "wire/frames.h"

enum {
	FLUSH_AT = 4096,	/* bytes that are worth a write of their own */
	BACKLOG_MAX = 16 << 20, /* unread results: no more effects are taken on */
};

static int on_setup(struct connect *c, struct base_str body)
{
	struct wire_setup in;
	struct base_json *doc;

	if (wire_setup_get(body, &in) < 0 || base_json_parse(in.config, &doc, NULL) < 0)
		return -EBADMSG;
	base_json_free(c->setup);
	c->setup = doc;
	return 0;
}

/* Those that were sealed to another process than this are of no use, and no fault. */
static int on_canaries(struct connect *c, struct base_str body)
{
	struct wire_canaries in;

	if (wire_canaries_get(body, &in) < 0)
		return -EBADMSG;
	return connect_canaries_load(c, in.sealed) == -ENOMEM ? -ENOMEM : 0;
}

static int on_frame(struct connect *c, unsigned type, struct base_str body)
{
	struct wire_effect_cancel cancel;

	switch (type) {
	case WIRE_EFFECT:
		return connect_call_begin(c, body);
	case WIRE_EFFECT_CANCEL:
		if (wire_effect_cancel_get(body, &cancel) < 0)
			return -EBADMSG;
		connect_call_cancel(c, cancel.call);
		return 0;
	case WIRE_CANARIES:
		return on_canaries(c, body);
	case WIRE_SETUP:
		return on_setup(c, body);
	case WIRE_STOP:
		c->stopping = true;
		return 0;
	default:
		return -EBADMSG;
	}
}

/* Takes what the wire has. */
static int serve(struct connect *c)
{
	struct base_str body;
	unsigned type;
	int r = wire_conn_fill(c->wire);
	int got;

	if (r < 0 && r != -EAGAIN)
		return r;
	while ((got = wire_conn_next(c->wire, &type, &body)) > 0) {
		r = on_frame(c, type, body);
		if (r < 0)
			return r;
		if (wire_conn_pending(c->wire) >= FLUSH_AT) {
			r = wire_conn_flush(c->wire);
			if (r < 0 && r != -EAGAIN)
				return r;
		}
	}
	return got;
}

static int loop(struct connect *c)
{
	for (;;) {
		int timeout = connect_call_timers(c);
		int r = wire_conn_flush(c->wire);
		size_t pending = wire_conn_pending(c->wire);

		if (r < 0 && r != -EAGAIN)
			return r;
		if (c->stopping && !base_idmap_count(c->calls) && !pending)
			return 0;
		r = connect_net_wait(c->net, timeout, pending<BACKLOG_MAX, pending> 0);
		if (r < 0)
			return r;
		if (r == 0 || pending >= BACKLOG_MAX)
			continue;
		r = serve(c);
		if (r < 0)
			return r;
	}
}

static int begin(struct connect *c, const struct connect_options *o)
{
	int r;

	c->files_fd = o->files_fd;
	r = wire_conn_new(o->wire_fd, &c->wire);
	if (r < 0) {
		close(o->wire_fd);
		return r;
	}
	r = base_idmap_new(&c->calls);
	if (r == 0)
		r = base_heap_new(&c->timers);
	if (r == 0)
		r = base_names_new(&c->tries);
	if (r == 0)
		r = connect_net_new(o->wire_fd, &c->net);
	if (r < 0)
		return r;
	crypto_box_keypair(c->public_key, c->secret_key);
	return wire_hello(c->wire, "aios-connect", o->sandbox.ptr,
		(struct base_str){(const char *)c->public_key, sizeof(c->public_key)});
}

static void tries_free(struct base_names *tries)
{
	struct base_str key;
	void *value;

	while (tries && base_names_seek(tries, BASE_STR_NONE, true, &key, &value)) {
		base_names_remove(tries, key);
		free(value);
	}
	base_names_free(tries);
}

int connect_run(const struct connect_options *o, struct base_err *err)
{
	struct connect c = {0};
	int r = begin(&c, o);

	if (r == 0)
		r = loop(&c);
	if (c.calls)
		connect_calls_drop(&c);
	if (!smtp_pool_free(c.mailers))
		_exit(r < 0 &&
			r != -EPIPE); /* a thread waits for a mail server: nothing below may be freed */
	connect_net_free(c.net);
	base_idmap_free(c.calls);
	base_heap_free(c.timers);
	tries_free(c.tries);
	base_json_free(c.setup);
	connect_canaries_free(c.canaries);
	wire_conn_free(c.wire);
	if (c.files_fd >= 0)
		close(c.files_fd);
	sodium_memzero(c.secret_key, sizeof(c.secret_key));
	return r < 0 && r != -EPIPE ? base_err_set(err, r, "the socket to aiosd: %s", strerror(-r)) : r;
}
