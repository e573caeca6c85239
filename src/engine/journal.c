#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/trial_int.h"

/*
 * What a run recorded, and the version that it is tried on.
 *
 * J1 A position is only a hint, whoever gave it: each record is read from the log and must be of this run and this step;
 * what finished a step must be of that step.
 */

enum { INSPECT_MS = 8000 };

/* The event at `seq`, decoded; of at most one read at a time. */
static int read_event(struct engine *e, uint64_t seq, struct core_record *ret_rec, union core_event_any *ret)
{
	int rc = engine_read_event(e, seq, ret_rec);

	return rc < 0 ? rc : core_event_get(ret_rec->type, ret_rec->body, ret);
}

/* How the step ended. A wait that ended with its run has no result: it stays open here. */
static int read_end(struct engine *e, uint64_t run, uint32_t step, struct trial_step *s)
{
	union core_event_any ev;
	struct core_record rec;
	int rc = read_event(e, s->seq_end, &rec, &ev);

	if (rc < 0)
		return rc;
	if (rec.type == CORE_EV_STEP_DONE) {
		s->cost = ev.step_done.cost;
		return ev.step_done.run == run && ev.step_done.step == step ? 0 : -EUCLEAN;
	}
	if (rec.type == CORE_EV_STEP_FAILED) {
		s->cost = ev.step_failed.cost;
		return ev.step_failed.run == run && ev.step_failed.step == step ? 0 : -EUCLEAN;
	}
	if (rec.type == CORE_EV_STEP_CALLED)
		return ev.step_called.run == run && ev.step_called.step == step ? 0 : -EUCLEAN;
	if (rec.type != CORE_EV_RUN_ENDED)
		return -EUCLEAN;
	s->seq_end = 0;
	return ev.run_ended.run == run ? 0 : -EUCLEAN;
}

/* A fork's first steps are another run's, under the same numbers; the event that says so is this run's. */
static int read_taken(struct engine *e, const struct trial *t, struct trial_step *s, uint32_t i)
{
	union core_event_any ev;
	struct core_record rec;
	int rc = read_event(e, s->copy, &rec, &ev);

	if (rc < 0)
		return rc;
	if (rec.type != CORE_EV_STEP_TAKEN || ev.step_taken.run != t->run || ev.step_taken.step != i)
		return -EUCLEAN;
	s->seq = ev.step_taken.seq;
	s->seq_end = ev.step_taken.seq_end;
	return 0;
}

int trial_read_step(struct engine *e, struct trial *t, uint32_t i)
{
	struct trial_step *s = &t->steps[i];
	const struct core_step_called *c;
	union core_event_any ev;
	struct core_record rec;
	uint64_t run;
	int rc = s->copy ? read_taken(e, t, s, i) : 0;

	if (rc == 0)
		rc = read_event(e, s->seq, &rec, &ev);
	if (rc < 0)
		return rc;
	c = &ev.step_called;
	if (rec.type != CORE_EV_STEP_CALLED || c->step != i || (c->run != t->run && s->seq > t->seq_started))
		return -EUCLEAN;
	run = c->run;
	s->taken = run != t->run;
	s->refused = c->status == CORE_STEP_FAILED;
	s->action = base_arena_dup(t->arena, c->action);
	if (!s->action.ptr && c->action.len)
		return -ENOMEM;
	s->args_hash = c->args_hash;
	s->klass = c->klass;
	if (c->status == CORE_STEP_DONE || c->status == CORE_STEP_FAILED)
		s->seq_end = s->seq;
	else if (s->seq_end == s->seq)
		return -EUCLEAN;
	else if (s->seq_end)
		return read_end(e, run, i, s);
	return 0;
}

/* --- for reports --- */

static void put_args(struct base_jw *w, struct base_str args)
{
	struct base_json *doc = NULL;

	if (args.len && args.len <= TRIAL_PREVIEW_MAX && base_json_parse(args, &doc, NULL) == 0)
		base_jw_mraw(w, "args", args);
	base_json_free(doc);
}

void trial_put_step(struct engine *e, struct base_jw *w, const char *key, const struct trial_step *s)
{
	union core_event_any ev;
	struct core_record rec;
	struct base_str args = BASE_STR_NONE;
	int rc;

	base_jw_key(w, key);
	base_jw_obj(w);
	base_jw_mstr(w, "action", s->action);
	rc = read_event(e, s->seq, &rec, &ev);
	if (rc == 0 && rec.type == CORE_EV_STEP_CALLED) {
		if (base_blob_is_inline(&ev.step_called.args))
			args = ev.step_called.args.data;
		put_args(w, args);
	}
	base_jw_end_obj(w);
}

void trial_put_asked(struct base_jw *w, const char *key, const struct trial_asked *a)
{
	if (key)
		base_jw_key(w, key);
	base_jw_obj(w);
	base_jw_mstr(w, "action", a->action);
	put_args(w, a->args);
	base_jw_end_obj(w);
}

/* --- the version --- */

void candidate_done(struct candidate *c)
{
	base_buf_done(&c->modules);
	base_json_free(c->spec);
	free(c->path);
	c->spec = NULL;
	c->path = NULL;
}

int candidate_deployed(struct engine *e, struct candidate *c, const struct base_hash *version)
{
	uint64_t seq = core_version_seq(e->core, version);
	struct base_str modules = BASE_STR("{\"entry\":\"aios:agent\",\"modules\":{}}");
	struct core_record rec;
	int rc = seq ? engine_read_blob(e, seq, &rec, &modules) : 0;

	if (rc < 0)
		return rc;
	base_buf_init(&c->modules, 32 << 20);
	base_buf_str(&c->modules, modules);
	c->version = *version;
	c->flow = core_version_flow(e->core, version);
	return base_buf_failed(&c->modules);
}

static void on_inspected(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct candidate *c = userdata;
	struct engine_req *q = engine_req_of(e, c->req);
	bool ok = status == 1 && base_json_parse(value, &c->spec, NULL) == 0;

	(void)sealed;
	if (ok) {
		c->flow = base_jv_str(base_jv_get(base_json_root(c->spec), "name"));
		c->version = base_hash_of(base_buf_view(&c->modules));
	} else if (q) {
		engine_reply_fault(e, q, base_str_of(c->path), status, value,
			"The version has a fault; nothing was tried");
	}
	c->ready(e, c->owner, ok);
}

void candidate_inspect(struct engine *e, struct candidate *c, struct engine_req *q, struct base_jv body)
{
	struct base_jv files = base_jv_get(body, "files");
	struct base_str entry = base_jv_str(base_jv_get(body, "entry"));
	uint64_t req = engine_ask_next(e);
	struct base_buf b;

	c->req = q->id;
	c->path = strndup(entry.len ? entry.ptr : "", entry.len);
	BASE_CHECK(c->path);
	base_buf_init(&c->modules, 32 << 20);
	if (base_jv_kind(base_jv_get_str(files, entry)) != BASE_JSON_STR) {
		engine_reply_problem(e, q, 400, "invalid",
			"the body is {\"files\": {PATH: TEXT}, \"entry\": PATH}: the sources and which of "
			"them is "
			"the flow");
		c->ready(e, c->owner, false);
		return;
	}
	if (engine_graph_put(files, entry, &c->modules) < 0) {
		engine_reply_problem(
			e, q, 422, "invalid", "%s imports too many modules, or too much", c->path);
		c->ready(e, c->owner, false);
		return;
	}
	base_buf_init(&b, WIRE_BODY_MAX);
	wire_flow_inspect_put(
		&b, &(struct wire_flow_inspect){.req = req, .modules = base_buf_view(&c->modules)});
	engine_ask(e, ENGINE_TRIAL, WIRE_FLOW_INSPECT, req, &b, INSPECT_MS, on_inspected, c);
	base_buf_done(&b);
}
