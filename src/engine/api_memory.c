#include "engine/engine_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Facts and documents: `get` and lists from the state and the log; search and history are aios-views'. */

enum { LIST_DEFAULT = 100, LIST_MAX = 1000 };

static int put_fact(struct engine *e, struct base_jw *w, uint64_t seq, struct base_buf *key_buf)
{
	union core_event_any ev;
	struct core_record rec;
	struct base_str value;
	uint8_t labels;
	int rc = engine_read_blob(e, seq, &rec, &value);

	if (rc == 0)
		rc = core_event_get(rec.type, rec.body, &ev);
	if (rc < 0)
		return rc;
	if (rec.type != CORE_EV_FACT_PUT)
		return -EUCLEAN;
	base_jw_obj(w);
	base_jw_mstr(w, "key", ev.fact_put.key);
	base_jw_mraw(w, "value", value);
	base_jw_key(w, "version");
	base_jw_uint(w, ev.fact_put.version);
	base_jw_mint(w, "at", rec.time_ms);
	base_jw_mstr(w, "by", ev.fact_put.by);
	base_jw_mstr(w, "source", ev.fact_put.source);
	base_jw_key(w, "run");
	base_jw_uint(w, ev.fact_put.run);
	labels = (uint8_t)(ev.fact_put.labels | core_fact_labels(e->core, ev.fact_put.key));
	base_jw_mraw(w, "labels", core_labels_json(labels));
	base_jw_end_obj(w);
	base_buf_clear(key_buf);
	base_buf_str(key_buf, ev.fact_put.key);
	return 0;
}

/* The part of a listing below one prefix of a scope: as core_fact_list, where the listing's own prefix and where it goes
 * on are somewhere else. */
static size_t list_below(struct engine *e, struct base_str below, struct base_str prefix,
	struct base_str after, uint64_t *ret, size_t max)
{
	struct base_str longer = prefix.len > below.len ? prefix : below;

	if (!base_str_starts(longer, prefix) || !base_str_starts(longer, below))
		return 0;
	if (after.len && !base_str_starts(after, longer)) {
		if (base_str_cmp(after, longer) > 0)
			return 0;
		after = BASE_STR_NONE;
	}
	return core_fact_list(e->core, longer, after, ret, max);
}

static size_t list_facts(struct engine *e, struct engine_req *q, uint64_t *ret, size_t max)
{
	struct base_jv list = base_jv_get(q->scope, "memory"), v;
	struct base_str prefix = engine_param(q, "prefix"), after = engine_param(q, "after"), none;
	struct base_jv_iter it = {0};
	size_t n = 0;

	if (!q->scoped || base_jv_kind(list) != BASE_JSON_ARR)
		return core_fact_list(e->core, prefix, after, ret, max);
	while (n < max && base_jv_next(list, &it, &none, &v)) /* in order, and none within another */
		n += list_below(e, base_jv_str(v), prefix, after, ret + n, max - n);
	return n;
}

void engine_op_facts(struct engine *e, struct engine_req *q)
{
	uint64_t limit = engine_param_u64(q, "limit", LIST_DEFAULT), *seqs;
	struct base_jw w = base_jw_of(&q->reply);
	struct base_buf last;
	size_t n, i;
	int rc = 0;

	limit = limit < 1 ? 1 : limit > LIST_MAX ? LIST_MAX : limit;
	seqs = calloc(limit + 1, sizeof(*seqs));
	if (!seqs) {
		engine_reply_problem(e, q, 500, "internal", "out of memory");
		return;
	}
	base_buf_init(&last, 1 << 16);
	n = list_facts(e, q, seqs, limit + 1);
	base_jw_obj(&w);
	base_jw_key(&w, "items");
	base_jw_arr(&w);
	for (i = 0; i < n && i < limit && rc == 0; i++)
		rc = put_fact(e, &w, seqs[i], &last);
	base_jw_end_arr(&w);
	if (n > limit)
		base_jw_mstr(&w, "next", base_buf_view(&last));
	base_jw_end_obj(&w);
	base_buf_done(&last);
	free(seqs);
	if (rc < 0)
		engine_reply_problem(e, q, 500, "internal", "the log cannot be read: %s", strerror(-rc));
	else
		engine_reply_built(e, q, 200);
}

void engine_op_fact(struct engine *e, struct engine_req *q)
{
	struct base_str key = engine_param(q, "key");
	struct base_jw w = base_jw_of(&q->reply);
	struct base_buf scratch;
	uint64_t seq, version;
	int rc;

	if (engine_param_u64(q, "history", 0) == 1) {
		engine_op_views(e, q);
		return;
	}
	if (!core_fact_get(e->core, key, &seq, &version)) {
		engine_reply_problem(e, q, 404, "unknown_fact", "there is no fact %.*s", BASE_STR_ARG(key));
		return;
	}
	base_buf_init(&scratch, 1 << 16);
	rc = put_fact(e, &w, seq, &scratch);
	base_buf_done(&scratch);
	if (rc < 0)
		engine_reply_problem(e, q, 500, "internal", "the log cannot be read: %s", strerror(-rc));
	else
		engine_reply_built(e, q, 200);
}

/* Those that the body asks for; false and answered when there are no such labels. */
static bool labels_of(struct engine *e, struct engine_req *q, struct base_jv root, uint8_t *ret)
{
	if (core_labels_read(base_jv_get(root, "labels"), ret) == 0)
		return true;
	engine_reply_problem(e, q, 400, "invalid", "labels is a list of these: \"private\", \"untrusted\"");
	return false;
}

void engine_op_fact_put(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_FACT_PUT, .name = engine_param(q, "key"), .base = -1};
	struct base_json *doc = engine_body_json(e, q);
	struct base_jv root, v;
	struct base_buf value;
	uint64_t base;

	if (!doc)
		return;
	root = base_json_root(doc);
	v = base_jv_get(root, "value");
	base_buf_init(&value, 20 << 20);
	if (engine_param(q, "base").len) {
		base = engine_param_u64(q, "base", UINT64_MAX);
		if (base > INT64_MAX) {
			engine_reply_problem(e, q, 400, "invalid", "base is the number of a version");
			goto out;
		}
		cmd.base = (int64_t)base;
	}
	if (base_jv_kind(v) == BASE_JSON_NONE && !base_jv_bool(base_jv_get(root, "removed"), false)) {
		engine_reply_problem(
			e, q, 400, "invalid", "the body is {\"value\": …} or {\"removed\": true}");
		goto out;
	}
	if (base_jv_kind(v) != BASE_JSON_NONE)
		base_jv_write(v, &value);
	cmd.body = base_buf_view(&value);
	cmd.text = base_jv_str(base_jv_get(root, "source"));
	if (labels_of(e, q, root, &cmd.labels))
		engine_reply_cmd(e, q, &cmd);
out:
	base_buf_done(&value);
	base_json_free(doc);
}

void engine_op_doc_put(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_DOC_PUT, .name = engine_param(q, "id")};
	struct base_json *doc = engine_body_json(e, q);
	struct base_jv meta;
	struct base_buf b;

	if (!doc)
		return;
	base_buf_init(&b, 1 << 20);
	cmd.body = base_jv_str(base_jv_get(base_json_root(doc), "text"));
	meta = base_jv_get(base_json_root(doc), "meta");
	if (base_jv_kind(meta) == BASE_JSON_OBJ)
		base_jv_write(meta, &b);
	cmd.params = base_buf_view(&b);
	if (base_jv_kind(base_jv_get(base_json_root(doc), "text")) != BASE_JSON_STR)
		engine_reply_problem(e, q, 400, "invalid", "the body is {\"text\": \"…\", \"meta\": {…}}");
	else if (labels_of(e, q, base_json_root(doc), &cmd.labels))
		engine_reply_cmd(e, q, &cmd);
	base_buf_done(&b);
	base_json_free(doc);
}
