#include "engine/engine_int.h"

#include <errno.h>

/* Events and bodies by position: from the groups that are not durable yet, else from the log through a few commits that
 * were read last. */

enum { READ_KEEP = 1 << 20 }; /* a slot with more memory gives it back */

static bool from_group(const struct engine_group *g, uint64_t seq, struct core_record *ret)
{
	size_t at;

	if (!g || !g->count || seq < g->first_seq || seq >= g->first_seq + g->count)
		return false;
	at = g->offs[seq - g->first_seq];
	return core_block_next(base_buf_view(&g->block), &at, ret) == 1;
}

void engine_reads_forget(struct engine *e)
{
	for (size_t i = 0; i < ENGINE_READS; i++) {
		base_buf_done(&e->reads[i].block);
		e->reads[i] = (struct engine_read){0};
		base_buf_init(&e->reads[i].block, SIZE_MAX);
	}
}

/* The slot that holds the commit of `seq`: a load goes to and fro between the commit of a run's start and those of its
 * results, and each read from the log is checked against its root. */
static int find(struct engine *e, uint64_t seq, struct engine_read **ret)
{
	struct engine_read *oldest = &e->reads[0], *r;
	struct log_commit commit;
	struct base_err err;
	int rc;

	for (r = e->reads; r < e->reads + ENGINE_READS; r++) {
		if (seq >= r->first_seq && seq - r->first_seq < r->count) {
			*ret = r;
			return 0;
		}
		if (r->used < oldest->used)
			oldest = r;
	}
	rc = log_read(e->reader, seq, &commit, &err);
	if (rc < 0)
		return rc;
	r = oldest;
	r->count = 0;
	if (r->block.size > READ_KEEP)
		base_buf_done(&r->block);
	base_buf_clear(&r->block);
	base_buf_str(&r->block, commit.block);
	if (base_buf_failed(&r->block))
		return -ENOMEM;
	r->first_seq = r->at = commit.first_seq;
	r->count = commit.count;
	r->pos = 0;
	*ret = r;
	return 0;
}

static int from_log(struct engine *e, uint64_t seq, struct core_record *ret)
{
	struct engine_read *r;
	int rc = find(e, seq, &r);

	if (rc < 0)
		return rc;
	r->used = ++e->reads_clock;
	if (seq < r->at) {
		r->at = r->first_seq;
		r->pos = 0;
	}
	while (core_block_next(base_buf_view(&r->block), &r->pos, ret) == 1)
		if (r->at++ == seq)
			return 0;
	return -EUCLEAN;
}

int engine_read_event(struct engine *e, uint64_t seq, struct core_record *ret)
{
	if (seq == 0 || seq > e->seq)
		return -ENOENT;
	if (from_group(e->pending, seq, ret) || from_group(e->inflight, seq, ret))
		return 0;
	return from_log(e, seq, ret);
}

bool engine_group_body(const struct engine_group *g, const struct base_hash *hash, struct base_str *ret)
{
	for (size_t i = 0; g && i < g->body_count; i++)
		if (base_hash_eq(&g->bodies[i].hash, hash)) {
			*ret = (struct base_str){g->bodies[i].data, g->bodies[i].len};
			return true;
		}
	return false;
}

int engine_read_body(struct engine *e, const struct base_hash *hash, struct base_str *ret)
{
	struct base_err err;

	if (engine_group_body(e->pending, hash, ret) || engine_group_body(e->inflight, hash, ret))
		return 0;
	return log_read_body(e->body_reader, hash, ret, &err);
}

const struct base_blob *engine_event_blob(unsigned type, const union core_event_any *ev)
{
	switch (type) {
	case CORE_EV_FLOW_DEPLOYED:
		return &ev->flow_deployed.modules;
	case CORE_EV_RUN_STARTED:
		return &ev->run_started.input;
	case CORE_EV_RUN_ENDED:
		return &ev->run_ended.value;
	case CORE_EV_STEP_DONE:
		return &ev->step_done.result;
	case CORE_EV_GATE_OPENED:
		return &ev->gate_opened.show;
	case CORE_EV_GATE_DECIDED:
		return &ev->gate_decided.value;
	case CORE_EV_SIGNAL_SENT:
		return &ev->signal_sent.payload;
	case CORE_EV_EVENT_PUBLISHED:
		return &ev->event_published.payload;
	case CORE_EV_FACT_PUT:
		return &ev->fact_put.value;
	case CORE_EV_DOCUMENT_PUT:
		return &ev->document_put.text;
	case CORE_EV_STEP_CALLED:
		/* A step that ended at once stands here with its result. */
		return ev->step_called.status == CORE_STEP_DONE || ev->step_called.status == CORE_STEP_FAILED
			       ? &ev->step_called.result
			       : &ev->step_called.args;
	default:
		return NULL;
	}
}

int engine_read_blob(struct engine *e, uint64_t seq, struct core_record *ret_rec, struct base_str *ret_blob)
{
	union core_event_any ev;
	const struct base_blob *blob;
	struct core_record rec;
	struct base_str data = BASE_STR_NONE;
	int rc = engine_read_event(e, seq, &rec);

	if (rc < 0)
		return rc;
	rc = core_event_get(rec.type, rec.body, &ev);
	if (rc < 0)
		return rc;
	blob = engine_event_blob(rec.type, &ev);
	if (blob && base_blob_is_inline(blob))
		data = blob->data;
	else if (blob)
		rc = engine_read_body(e, &blob->hash, &data);
	if (rc < 0)
		return rc;
	*ret_rec = rec;
	*ret_blob = data;
	return 0;
}

int engine_step_result(
	struct engine *e, uint64_t seq, bool *ret_ok, int64_t *ret_time_ms, struct base_str *ret_value)
{
	union core_event_any ev;
	struct core_record rec;
	struct base_str value;
	bool ok = true;
	int rc = engine_read_blob(e, seq, &rec, &value);

	if (rc == 0)
		rc = core_event_get(rec.type, rec.body, &ev);
	if (rc < 0)
		return rc;
	if (rec.type == CORE_EV_STEP_FAILED) {
		ok = false;
		value = ev.step_failed.problem;
	} else if (rec.type == CORE_EV_STEP_CALLED) {
		ok = ev.step_called.status == CORE_STEP_DONE;
	} else if (rec.type != CORE_EV_STEP_DONE) {
		return -EUCLEAN;
	}
	*ret_ok = ok;
	*ret_time_ms = rec.time_ms;
	*ret_value = value;
	return 0;
}
