#include <errno.h>
#include <stdio.h>

#include "base/hash.h"
#include "fold/fold.h"
#include "jail/jail.h"
#include "wire/conn.h"
#include "wire/frames.h"
#include "wire/outcome.h"

enum { PIECE = 1 << 20 };

static int give(struct wire_conn *c, uint64_t seq, struct base_str data)
{
	struct wire_fold_done done = {.seq = seq, .len = data.len, .hash = base_hash_of(data)};

	for (size_t at = 0; at < data.len; at += PIECE) {
		struct wire_fold_piece piece = {.data = base_str_sub(data, at, PIECE)};
		int rc;

		wire_fold_piece_put(wire_conn_begin(c, WIRE_FOLD_PIECE), &piece);
		rc = wire_conn_end(c);
		while (rc == 0 && wire_conn_pending(c) > 8 * PIECE)
			rc = wire_conn_wait(c, -1);
		if (rc < 0)
			return rc;
	}
	wire_fold_done_put(wire_conn_begin(c, WIRE_FOLD_DONE), &done);
	return wire_conn_end(c);
}

static int take(struct wire_conn *c, struct fold *f, struct base_str body, struct base_err *err)
{
	struct wire_fold_take t;
	struct base_buf b;
	int rc = wire_fold_take_get(body, &t);

	if (rc < 0)
		return rc;
	base_buf_init(&b, (size_t)1 << 30);
	rc = fold_take(f, t.seq, &b, err);
	if (rc == 0)
		rc = give(c, t.seq, base_buf_view(&b));
	base_buf_done(&b);
	return rc;
}

static int frame(
	struct wire_conn *c, struct fold *f, unsigned type, struct base_str body, struct base_err *err)
{
	struct wire_fold_state state;
	struct wire_fold_block block;

	switch (type) {
	case WIRE_SETUP:
		return 0;
	case WIRE_FOLD_STATE:
		return wire_fold_state_get(body, &state) < 0 ? -EBADMSG : fold_state(f, state.data);
	case WIRE_FOLD_BLOCK:
		return wire_fold_block_get(body, &block) < 0
			       ? -EBADMSG
			       : fold_block(f, block.first_seq, block.block, err);
	case WIRE_FOLD_TAKE:
		return take(c, f, body, err);
	default:
		return -EBADMSG;
	}
}

/* Until `stop` (0) or the loss of aiosd (-EPIPE). */
static int serve(struct wire_conn *c, struct fold *f, struct base_err *err)
{
	struct base_str body;
	unsigned type;
	int rc;

	for (;;) {
		rc = wire_conn_wait(c, -1);
		if (rc < 0)
			return rc;
		while ((rc = wire_conn_next(c, &type, &body)) > 0) {
			if (type == WIRE_STOP)
				return 0;
			rc = frame(c, f, type, body, err);
			if (rc < 0)
				return rc;
		}
		if (rc < 0)
			return rc;
	}
}

int main(void)
{
	struct jail_options jail = {.profile = JAIL_PURE};
	struct base_err err = {0};
	struct base_buf features;
	struct wire_conn *c = NULL;
	struct fold *f = NULL;
	int rc;

	base_buf_init(&features, 256);
	rc = jail_enter(&jail, &features, &err);
	base_buf_char(&features, '\0');
	if (rc == 0)
		rc = wire_conn_new(WIRE_FD, &c);
	if (rc == 0)
		rc = fold_new(&f, &err);
	if (rc == 0)
		rc = wire_hello(c, "aios-fold", features.ptr, BASE_STR_NONE);
	if (rc == 0)
		rc = serve(c, f, &err);
	if (rc < 0 && rc != -EPIPE)
		fprintf(stderr, "aios-fold: %s\n", err.text[0] ? err.text : "it was sent what it cannot use");
	fold_free(f);
	wire_conn_free(c);
	base_buf_done(&features);
	return rc < 0 && rc != -EPIPE;
}
