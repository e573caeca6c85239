#include "engine/engine_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/*
 * Forks and restarts. The state knows where the steps of an open run stand in the log; of one that has ended the views
 * are asked, and what they name is believed only as far as the records there say the same: each is read.
 */

enum { TAKEN_MAX = 64 << 20, ARENA_MAX = 256 << 20 };

/* A request that waits for the views. */
struct wanted {
	uint64_t run;
	uint32_t from;
	size_t input_len, params_len, text_len;
	char data[]; /* input, params, text */
};

/* One step as its own records tell it. */
struct taken {
	struct core_step_taken ev;
	uint64_t copy; /* of a step_taken of the other, 0: its own step */
};

static void decide(struct engine *e, struct engine_req *q, const struct wanted *w, uint64_t seq_started,
	const struct base_hash *version, struct base_str taken)
{
	struct core_cmd cmd = {.type = CORE_CMD_RUN_FORK,
		.run = w->run,
		.step = w->from,
		.base = (int64_t)seq_started,
		.body = {w->data, w->input_len},
		.params = {w->data + w->input_len, w->params_len},
		.text = {w->data + w->input_len + w->params_len, w->text_len},
		.bytes = taken};

	if (version)
		cmd.hash = *version;
	engine_reply_cmd(e, q, &cmd);
}

/* --- the journal of a run that has ended --- */

static int read_called(struct engine *e, uint64_t run, uint32_t step, struct taken *t, struct base_arena *a)
{
	union core_event_any ev;
	struct core_record rec;
	int rc = engine_read_event(e, t->copy ? t->copy : t->ev.seq, &rec);

	if (rc < 0)
		return rc;
	if (core_event_get(rec.type, rec.body, &ev) < 0)
		return -EUCLEAN;
	if (t->copy) {
		if (rec.type != CORE_EV_STEP_TAKEN || ev.step_taken.run != run || ev.step_taken.step != step)
			return -EUCLEAN;
		t->ev = ev.step_taken;
	} else {
		if (rec.type != CORE_EV_STEP_CALLED || ev.step_called.run != run ||
			ev.step_called.step != step)
			return -EUCLEAN;
		t->ev.klass = ev.step_called.klass;
		t->ev.action = ev.step_called.action;
		t->ev.args_hash = ev.step_called.args_hash;
		t->ev.status = ev.step_called.status;
		t->ev.labels = ev.step_called.brings;
	}
	t->ev.action = base_arena_dup(a, t->ev.action);
	return t->ev.action.ptr ? 0 : -ENOMEM;
}

static int read_ended(struct engine *e, uint64_t run, uint32_t step, struct taken *t)
{
	union core_event_any ev;
	struct core_record rec;
	int rc;

	if (t->copy || (t->ev.seq_end == t->ev.seq && t->ev.status >= CORE_STEP_DONE))
		return 0;
	rc = engine_read_event(e, t->ev.seq_end, &rec);
	if (rc < 0)
		return rc;
	if (core_event_get(rec.type, rec.body, &ev) < 0)
		return -EUCLEAN;
	if (rec.type == CORE_EV_STEP_DONE && ev.step_done.run == run && ev.step_done.step == step) {
		t->ev.status = CORE_STEP_DONE;
		t->ev.labels = ev.step_done.labels;
		return 0;
	}
	if (rec.type == CORE_EV_STEP_FAILED && ev.step_failed.run == run && ev.step_failed.step == step) {
		t->ev.status = CORE_STEP_FAILED;
		t->ev.labels = ev.step_failed.labels;
		return 0;
	}
	return -EUCLEAN;
}

/* Appends the first `count` steps as a block of step_taken. In two passes, each through the log in order. */
static int collect(
	struct engine *e, const struct wanted *w, struct base_jv steps, uint32_t count, struct base_buf *ret)
{
	struct base_jv_iter it = {0};
	struct base_arena *a;
	struct base_str key;
	struct base_jv v;
	struct taken *t = calloc(count + 1, sizeof(*t));
	int rc = t ? base_arena_new(ARENA_MAX, &a) : -ENOMEM;
	uint32_t n = 0;

	if (rc < 0) {
		free(t);
		return rc;
	}
	for (; rc == 0 && n < count && base_jv_next(steps, &it, &key, &v); n++) {
		t[n].ev.step = n;
		t[n].ev.seq = (uint64_t)base_jv_int(base_jv_at(v, 0), 0);
		t[n].ev.seq_end = (uint64_t)base_jv_int(base_jv_at(v, 1), 0);
		t[n].copy = (uint64_t)base_jv_int(base_jv_at(v, 2), 0);
		if (!t[n].ev.seq_end) /* it did not end: decide says so */
			break;
		rc = read_called(e, w->run, n, &t[n], a);
	}
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		rc = read_ended(e, w->run, i, &t[i]);
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		core_step_taken_emit(ret, 0, &t[i].ev);
	base_arena_free(a);
	free(t);
	return rc < 0 ? rc : base_buf_failed(ret);
}

static void on_positions(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_req *q = userdata;
	const struct wanted *w = q->state;
	struct base_json *doc = NULL;
	struct base_hash version;
	struct base_jv root;
	struct base_buf taken;
	int rc;

	if (status != 1 || base_json_parse(value, &doc, NULL) < 0) {
		engine_reply_ask(e, q, status == 1 ? -EBADMSG : status, value, sealed);
		return;
	}
	root = base_json_root(doc);
	base_buf_init(&taken, TAKEN_MAX);
	rc = collect(e, w, base_jv_get(root, "steps"), w->from, &taken);
	if (rc == 0 && base_hash_from_hex(base_jv_str(base_jv_get(root, "version")), &version) < 0)
		rc = -EBADMSG;
	if (rc < 0)
		engine_reply_problem(e, q, 503, "unreadable", "the journal of run %llu cannot be read: %s",
			(unsigned long long)w->run, strerror(-rc));
	else
		decide(e, q, w, (uint64_t)base_jv_int(base_jv_get(root, "seq"), 0), &version,
			base_buf_view(&taken));
	base_buf_done(&taken);
	base_json_free(doc);
}

/* --- the request --- */

static void put_params(struct base_buf *b, struct base_jv root, bool restart)
{
	struct base_jv set = base_jv_get(root, "set");
	struct base_str version = base_jv_str(base_jv_get(root, "version"));
	struct base_jw w = base_jw_of(b);

	base_jw_obj(&w);
	if (restart)
		base_jw_mbool(&w, "restart", true);
	if (version.len && !restart)
		base_jw_mstr(&w, "version", version);
	if (base_jv_kind(set) == BASE_JSON_OBJ && !restart) {
		base_jw_key(&w, "set");
		base_jw_value(&w, set);
	}
	base_jw_end_obj(&w);
}

static struct wanted *wanted_of(const struct engine_req *q, struct base_jv root)
{
	bool restart = q->op == WIRE_OP_RUN_RESTART;
	struct base_jv input = base_jv_get(root, "input");
	struct base_str reason = base_jv_str(base_jv_get(root, "reason"));
	struct wanted *w = NULL;
	struct base_buf b;
	size_t input_len;

	base_buf_init(&b, 64 << 20);
	if (base_jv_kind(input) != BASE_JSON_NONE && !restart)
		base_jv_write(input, &b);
	input_len = b.len;
	put_params(&b, root, restart);
	if (!base_buf_failed(&b))
		w = malloc(sizeof(*w) + b.len + reason.len);
	if (w) {
		*w = (struct wanted){.run = engine_param_u64(q, "run", 0),
			.from = (uint32_t)base_jv_int(base_jv_get(root, "from"), 0),
			.input_len = input_len,
			.params_len = b.len - input_len,
			.text_len = reason.len};
		memcpy(w->data, b.ptr, b.len);
		if (reason.len)
			memcpy(w->data + b.len, reason.ptr, reason.len);
	}
	base_buf_done(&b);
	return w;
}

void engine_op_run_fork(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	struct core_run_info info;
	struct wanted *w;
	struct base_buf b;
	int64_t from;

	if (!doc)
		return;
	from = base_jv_int(base_jv_get(base_json_root(doc), "from"), 0);
	if (base_jv_kind(base_json_root(doc)) != BASE_JSON_OBJ || from < 0 || from > UINT32_MAX) {
		base_json_free(doc);
		engine_reply_problem(e, q, 400, "invalid",
			"the body is an object: {\"from\": the first step that is not taken over, …}");
		return;
	}
	w = wanted_of(q, base_json_root(doc));
	base_json_free(doc);
	if (!w) {
		engine_reply_problem(e, q, 413, "too_large", "the input is too large");
		return;
	}
	q->state = w; /* freed with the request */
	if (core_run_get(e->core, w->run, &info)) {
		decide(e, q, w, 0, NULL, BASE_STR_NONE);
		return;
	}
	base_buf_init(&b, 128);
	base_buf_printf(&b, "{\"run\":%llu,\"before\":%u}", (unsigned long long)w->run, w->from);
	engine_views_ask_as(e, q, "positions", base_buf_view(&b), on_positions, q);
	base_buf_done(&b);
}
