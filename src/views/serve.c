/*
 * The process: frames in, frames out.
 *
 * What has arrived is projected as one transaction and committed before the next wait; then the position is
 * told and the queries whose position is reached are answered. Anything that cannot be (a gap, a malformed
 * frame or block, a table that cannot be written) ends the process: it starts again at the position of its
 * last commit.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "views/views_int.h"
#include "wire/conn.h"
#include "wire/frames.h"

enum {
	WAITING_MAX = 1024,
	BATCH_MAX = 8 << 20, /* bytes of blocks in a transaction */
	QUIET_MS = 2000, /* after so long without a frame, memory is given back; then it sleeps for good */
};

/* A query that waits for its position. */
struct waiting {
	struct waiting *next;
	uint64_t req;
	uint64_t at_least;
	struct base_str query, params; /* into data */
	char data[];
};

struct server {
	struct wire_conn *conn;
	struct views *views;
	struct waiting *first, **last;
	unsigned waiting;
	uint64_t told; /* the position that aiosd knows */
	uint64_t skipped;
	size_t batch;
	bool busy; /* frames have come since the memory was given back */
	bool stop;
	struct base_err *err;
};

static int send_frame(struct server *s)
{
	int r = wire_conn_end(s->conn);

	return r < 0 ? base_err_set(s->err, r, "cannot send a frame: %s", strerror(-r)) : 0;
}

static int send_at(struct server *s)
{
	struct wire_views_at at = {.seq = views_seq(s->views)};

	wire_views_at_put(wire_conn_begin(s->conn, WIRE_VIEWS_AT), &at);
	s->told = at.seq;
	return send_frame(s);
}

static void note(struct server *s, uint8_t level, struct base_str text)
{
	struct wire_note n = {.level = level, .text = text};

	wire_note_put(wire_conn_begin(s->conn, WIRE_NOTE), &n);
	if (wire_conn_end(s->conn) < 0)
		return; /* a note that does not fit is lost */
}

static void problem(struct base_buf *out, const char *code, const char *message)
{
	struct base_jw w;

	base_buf_clear(out);
	w = base_jw_of(out);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", code);
	base_jw_mcstr(&w, "message", message);
	base_jw_end_obj(&w);
}

static const char *code_name(int r)
{
	switch (r) {
	case -EINVAL:
		return "invalid";
	case -ENOENT:
		return "not_found";
	case -EFBIG:
		return "too_large";
	default:
		return "failed";
	}
}

static int answer(struct server *s, uint64_t req, struct base_str query, struct base_str params)
{
	struct wire_views_answer a = {.req = req, .ok = 1};
	struct base_err err = {0};
	struct base_buf out;
	int r;

	base_buf_init(&out, VIEWS_ANSWER_MAX);
	r = views_query(s->views, query, params, &out, &err);
	if (r < 0) {
		a.ok = 0;
		problem(&out, code_name(r), err.text);
	}
	a.value = base_buf_view(&out);
	wire_views_answer_put(wire_conn_begin(s->conn, WIRE_VIEWS_ANSWER), &a);
	r = send_frame(s);
	base_buf_done(&out);
	return r;
}

static int wait_for(struct server *s, const struct wire_views_query *q)
{
	struct waiting *w;

	if (s->waiting >= WAITING_MAX)
		return base_err_set(s->err, -EBADMSG, "too many queries wait for a position");
	w = malloc(sizeof(*w) + q->query.len + q->params.len);
	if (!w)
		return base_err_set(s->err, -ENOMEM, "out of memory for a query");
	w->next = NULL;
	w->req = q->req;
	w->at_least = q->at_least;
	if (q->query.len)
		memcpy(w->data, q->query.ptr, q->query.len);
	if (q->params.len)
		memcpy(w->data + q->query.len, q->params.ptr, q->params.len);
	w->query = (struct base_str){w->data, q->query.len};
	w->params = (struct base_str){w->data + q->query.len, q->params.len};
	*s->last = w;
	s->last = &w->next;
	s->waiting++;
	return 0;
}

/* Answers the queries whose position has come. */
static int answer_waiting(struct server *s)
{
	struct waiting **at = &s->first;
	int r = 0;

	while (*at && r == 0) {
		struct waiting *w = *at;

		if (w->at_least > views_seq(s->views)) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		s->waiting--;
		r = answer(s, w->req, w->query, w->params);
		free(w);
	}
	while (*at)
		at = &(*at)->next;
	s->last = at;
	return r;
}

static int settle(struct server *s)
{
	int r = views_commit(s->views, s->err);

	s->batch = 0;
	if (r < 0)
		return r;
	if (views_skipped(s->views) > s->skipped) {
		s->skipped = views_skipped(s->views);
		note(s, 2, BASE_STR("aios-views left out events that it could not decode"));
	}
	r = views_seq(s->views) > s->told ? send_at(s) : 0;
	return r < 0 ? r : answer_waiting(s);
}

static int malformed(struct server *s, unsigned type)
{
	return base_err_set(s->err, -EBADMSG, "a malformed or unexpected frame (type %u)", type);
}

static int open_views(struct server *s, struct base_str body)
{
	struct wire_setup setup;
	struct base_json *doc;
	struct base_str dir;
	char path[4096];
	int r;

	if (s->views || wire_setup_get(body, &setup) < 0)
		return malformed(s, WIRE_SETUP);
	r = base_json_parse(setup.config, &doc, s->err);
	if (r < 0)
		return r;
	dir = base_jv_str(base_jv_get(base_json_root(doc), "dir"));
	if (dir.len == 0 || dir.len >= sizeof(path) || memchr(dir.ptr, 0, dir.len)) {
		base_json_free(doc);
		return base_err_set(s->err, -EINVAL, "setup names no folder");
	}
	memcpy(path, dir.ptr, dir.len);
	path[dir.len] = '\0';
	base_json_free(doc);
	r = views_open(path, &s->views, s->err);
	return r < 0 ? r : send_at(s);
}

static int on_block(struct server *s, struct base_str body)
{
	struct wire_views_block b;
	uint64_t before = views_seq(s->views);
	int r;

	if (wire_views_block_get(body, &b) < 0)
		return malformed(s, WIRE_VIEWS_BLOCK);
	r = views_block(s->views, b.first_seq, b.block, s->err);
	if (r < 0)
		return r;
	s->batch += b.block.len;
	if (views_seq(s->views) == before)
		s->told = 0; /* aiosd does not know where we stand: tell it again */
	return s->batch > BATCH_MAX ? settle(s) : 0;
}

static int on_query(struct server *s, struct base_str body)
{
	struct wire_views_query q;

	if (wire_views_query_get(body, &q) < 0)
		return malformed(s, WIRE_VIEWS_QUERY);
	if (q.at_least > views_seq(s->views))
		return wait_for(s, &q);
	return answer(s, q.req, q.query, q.params);
}

static int on_frame(struct server *s, unsigned type, struct base_str body)
{
	struct wire_views_body b;

	if (type == WIRE_SETUP)
		return open_views(s, body);
	if (type == WIRE_STOP) {
		s->stop = true;
		return 0;
	}
	if (!s->views)
		return malformed(s, type);
	switch (type) {
	case WIRE_VIEWS_BLOCK:
		return on_block(s, body);
	case WIRE_VIEWS_BODY:
		if (wire_views_body_get(body, &b) < 0)
			return malformed(s, type);
		return views_body(s->views, &b.hash, b.body);
	case WIRE_VIEWS_QUERY:
		return on_query(s, body);
	default:
		return malformed(s, type);
	}
}

static int drain(struct server *s)
{
	struct base_str body;
	unsigned type;
	int r;

	while (!s->stop && (r = wire_conn_next(s->conn, &type, &body)) != 0) {
		if (r < 0)
			return base_err_set(s->err, r, "a malformed frame head");
		r = on_frame(s, type, body);
		if (r < 0)
			return r;
	}
	return s->views ? settle(s) : 0;
}

static int loop(struct server *s)
{
	int r = 0;

	while (r == 0 && !s->stop) {
		r = wire_conn_wait(s->conn, s->busy ? QUIET_MS : -1);
		if (r == -ETIMEDOUT) {
			s->busy = false;
			views_quiet(s->views);
			r = 0;
		} else if (r == 0) {
			s->busy = s->views != NULL;
			r = drain(s);
		}
	}
	while (r == 0 && wire_conn_pending(s->conn)) {
		r = wire_conn_wait(s->conn, 1000);
		if (r == -ETIMEDOUT)
			break;
	}
	return s->stop ? 0 : r;
}

int views_serve(const struct views_options *o, struct base_err *err)
{
	struct base_err own = {0};
	struct server s = {.err = &own};
	int r = wire_conn_new(o->wire_fd, &s.conn);

	if (r < 0)
		return base_err_set(err, r, "no socket to aiosd: %s", strerror(-r));
	s.last = &s.first;
	r = wire_hello(s.conn, "aios-views", o->sandbox, BASE_STR_NONE);
	if (r == 0)
		r = loop(&s);
	if (r < 0 && r != -EPIPE) {
		if (own.text[0] == '\0')
			base_err_set(&own, r, "%s", strerror(-r));
		note(&s, 3, base_str_of(own.text));
		wire_conn_flush(s.conn);
	}
	views_close(s.views);
	while (s.first) {
		struct waiting *w = s.first;

		s.first = w->next;
		free(w);
	}
	wire_conn_free(s.conn);
	if (err)
		*err = own;
	return r;
}
