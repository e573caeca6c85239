#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/checkpoint.h"

/*
 * POST /v1/audit/verify: this log against checkpoints that were sent elsewhere. A log that was cut, forked or rewritten holds
 * together by itself; what it cannot have is the chain that was signed. On a thread of its own.
 */

enum { POINTS_MAX = 100000 };

struct point {
	uint64_t seq;
	struct base_hash chain;
	int64_t at_ms;
	struct base_buf key, signature, log;
};
struct engine_compare {
	struct engine_job job;
	uint64_t req;
	struct log_reader *reader;
	struct point *points;
	size_t count, size;
	char id[33];
	uint64_t last; /* of this log */
	bool of_log;   /* those that stand in the log itself */
	/* results */
	int rc;
	uint64_t bad, good;
	struct base_err err;
};

static void done(struct engine_compare *x)
{
	log_reader_free(x->reader);
	for (size_t i = 0; i < x->count; i++) {
		base_buf_done(&x->points[i].key);
		base_buf_done(&x->points[i].signature);
		base_buf_done(&x->points[i].log);
	}
	free(x->points);
	free(x);
}

/* Room for one more; NULL: too many. */
static struct point *more(struct engine_compare *x)
{
	struct point *p;

	if (x->count == POINTS_MAX)
		return NULL;
	if (x->count == x->size) {
		x->size = x->size ? 2 * x->size : 64;
		x->points = reallocarray(x->points, x->size, sizeof(*x->points));
		BASE_CHECK(x->points);
	}
	p = &x->points[x->count++];
	memset(p, 0, sizeof(*p));
	base_buf_init(&p->key, 64);
	base_buf_init(&p->signature, 128);
	base_buf_init(&p->log, 128);
	return p;
}

static int hex_into(struct base_str hex, struct base_buf *ret, size_t len)
{
	uint8_t raw[64];

	if (hex.len != 2 * len || base_hex_get(hex, raw, len) < 0)
		return -EINVAL;
	base_buf_put(ret, (const char *)raw, len);
	return 0;
}

static bool read_point(struct engine_compare *x, struct base_jv v, struct base_str key)
{
	struct point *p = more(x);
	struct base_str own = base_jv_str(base_jv_get(v, "public_key"));

	if (!p)
		return false;
	p->seq = (uint64_t)base_jv_int(base_jv_get(v, "checkpoint"), 0);
	p->at_ms = base_jv_int(base_jv_get(v, "time"), 0);
	base_buf_str(&p->log, base_jv_str(base_jv_get(v, "log")));
	return p->seq > 0 && base_hash_from_hex(base_jv_str(base_jv_get(v, "chain")), &p->chain) == 0 &&
	       hex_into(key.len ? key : own, &p->key, 32) == 0 &&
	       hex_into(base_jv_str(base_jv_get(v, "signature")), &p->signature, 64) == 0;
}

static int by_seq(const void *a, const void *b)
{
	const struct point *p = a, *q = b;

	return p->seq < q->seq ? -1 : p->seq > q->seq;
}

static int own_points(void *userdata, const struct log_commit *c)
{
	struct engine_compare *x = userdata;
	union core_event_any ev;
	struct core_record rec;
	struct point *p;
	size_t at = 0;

	while (core_block_next(c->block, &at, &rec) == 1) {
		if (rec.type != CORE_EV_CHECKPOINT_SIGNED || rec.subject.len ||
			core_event_get(rec.type, rec.body, &ev) < 0 || !(p = more(x)))
			continue;
		p->seq = ev.checkpoint_signed.seq;
		p->chain = ev.checkpoint_signed.root;
		p->at_ms = ev.checkpoint_signed.signed_ms;
		base_buf_str(&p->log, ev.checkpoint_signed.log);
		base_buf_str(&p->key, ev.checkpoint_signed.public_key);
		base_buf_str(&p->signature, ev.checkpoint_signed.signature);
	}
	return 0;
}

static int bad(struct engine_compare *x, uint64_t at, const char *why, uint64_t seq)
{
	x->bad = at;
	return base_err_set(&x->err, -EUCLEAN,
		"%s (checkpoint of event %" PRIu64 ", first bad event %" PRIu64 ")", why, seq, at);
}

/* Against one; those before it agreed, up to x->good. */
static int compare(struct engine_compare *x, const struct point *p)
{
	struct log_commit c;
	struct base_buf text;
	bool holds;
	int rc;

	base_buf_init(&text, 1024);
	engine_checkpoint_text(&text, base_buf_view(&p->log), p->seq, &p->chain, p->at_ms);
	holds = engine_checkpoint_holds(
		base_buf_view(&text), base_buf_view(&p->key), base_buf_view(&p->signature));
	base_buf_done(&text);
	if (!holds)
		return base_err_set(&x->err, -EINVAL,
			"the checkpoint of event %" PRIu64 " is not signed by this key: it proves nothing",
			p->seq);
	if (!base_str_is(base_buf_view(&p->log), x->id))
		return base_err_set(&x->err, -EINVAL,
			"the checkpoint of event %" PRIu64 " is of another log: this one is %s", p->seq,
			x->id);
	if (p->seq > x->last)
		return bad(x, x->last + 1,
			"the log ends before what was signed: its end is missing, or older "
			"files were put back",
			p->seq);
	rc = log_read(x->reader, p->seq, &c, &x->err);
	if (rc < 0)
		return rc;
	if (c.first_seq + c.count - 1 != p->seq || !base_hash_eq(&c.chain, &p->chain))
		return bad(x, x->good + 1,
			"the log is not what was signed: events were changed, or it is a fork", p->seq);
	x->good = p->seq;
	return 0;
}

static void work(void *owner)
{
	struct engine_compare *x = owner;

	x->rc = log_verify(x->reader, &x->bad, NULL, NULL, &x->err);
	if (x->rc == 0 && x->of_log)
		x->rc = log_each(x->reader, 1, own_points, x, &x->err);
	if (x->count)
		qsort(x->points, x->count, sizeof(*x->points), by_seq);
	for (size_t i = 0; i < x->count && x->rc == 0; i++)
		x->rc = compare(x, &x->points[i]);
}

static void ended(struct engine *e, void *owner)
{
	struct engine_compare *x = owner;
	struct engine_req *q = engine_req_of(e, x->req);
	struct base_jw w;

	e->compare = NULL;
	if (q && x->rc == -EINVAL) {
		engine_reply_problem(e, q, 422, "invalid", "%s", x->err.text);
	} else if (q) {
		w = base_jw_of(&q->reply);
		base_jw_obj(&w);
		base_jw_mbool(&w, "ok", x->rc == 0);
		base_jw_mint(&w, "seq", (int64_t)x->last);
		base_jw_mint(&w, "checkpoints", (int64_t)x->count);
		base_jw_mint(&w, "covered", (int64_t)x->good);
		if (x->rc < 0)
			base_jw_mcstr(&w, "message", x->err.text);
		if (x->bad)
			base_jw_mint(&w, "bad", (int64_t)x->bad);
		base_jw_end_obj(&w);
		engine_reply_built(e, q, 200);
	}
	done(x);
}

static bool read_points(struct engine *e, struct engine_req *q, struct engine_compare *x, struct base_jv root)
{
	struct base_str key = base_jv_str(base_jv_get(root, "key")), none;
	struct base_jv_iter it = {0};
	struct base_jv v;

	while (base_jv_next(base_jv_get(root, "checkpoints"), &it, &none, &v))
		if (!read_point(x, v, key)) {
			engine_reply_problem(e, q, 400, "invalid",
				"checkpoint %zu is none: the body is {\"checkpoints\":[…],\"key\"?: hex}",
				x->count);
			return false;
		}
	x->of_log = x->count == 0;
	return true;
}

void engine_op_audit_verify(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	struct engine_compare *x;
	struct base_err err = {0};
	int rc;

	if (!doc)
		return;
	if (e->compare) {
		engine_reply_problem(e, q, 409, "busy", "a verification is running already");
		base_json_free(doc);
		return;
	}
	x = calloc(1, sizeof(*x));
	BASE_CHECK(x);
	x->req = q->id;
	memcpy(x->id, log_id(e->log), sizeof(x->id) - 1);
	if (!read_points(e, q, x, base_json_root(doc))) {
		done(x);
		base_json_free(doc);
		return;
	}
	base_json_free(doc);
	engine_commit_wait(e);
	x->last = e->durable;
	x->job = (struct engine_job){.work = work, .done = ended, .owner = x};
	rc = log_reader_new(e->log, &x->reader, &err);
	if (rc == 0)
		rc = engine_job_start(e, &x->job);
	if (rc == 0) {
		e->compare = x;
		return;
	}
	done(x);
	engine_reply_problem(e, q, 503, "unavailable", "%s", err.text);
}

void engine_compare_settle(struct engine *e)
{
	if (e->compare)
		engine_job_settle(e, &e->compare->job);
}
