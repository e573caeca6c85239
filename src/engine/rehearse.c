#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/trial_int.h"

/*
 * POST /v1/rehearsals: open runs on another version (a source that is not deployed), or all on their own (after the
 * interpreter has changed), without effects; then each is moved, parked or kept, as the operator asked.
 *
 * X5 A run moves only if it has just come to the end of its record on exactly this version, and stands where it stood
 * then: its position is compared by core in the same turn, and its worker has nothing more to say (flows.c, F4). If it
 * went on meanwhile it is tried again, TRIES times, and then left alone.
 */

enum { TRIES = 4, ITEM_NEXT_MAX = 8 };
enum decision { KEEP, MOVE, PARK };

struct rehearsal {
	uint64_t req;
	struct base_json *doc; /* the request */
	struct candidate candidate;
	bool open, deployed, move_same;
	uint64_t *runs;
	size_t count, at;
	unsigned tries, stuck;
	uint64_t position;
	struct base_buf items;
	struct base_jw w;
	uint64_t totals[TRIAL_OUTCOMES], skipped, moved, parked, left_out;
};

static void next(struct engine *e, struct rehearsal *r);

static void rehearsal_free(struct rehearsal *r)
{
	candidate_done(&r->candidate);
	base_buf_done(&r->items);
	base_json_free(r->doc);
	free(r->runs);
	free(r);
}

/* --- the answer --- */

static void put_totals(struct rehearsal *r, struct base_jw *w)
{
	base_jw_key(w, "totals");
	base_jw_obj(w);
	for (unsigned i = 1; i < TRIAL_OUTCOMES; i++)
		if (r->totals[i])
			base_jw_mint(w, trial_outcome_name(i), (int64_t)r->totals[i]);
	if (r->skipped)
		base_jw_mint(w, "skipped", (int64_t)r->skipped);
	base_jw_end_obj(w);
}

static void answer(struct engine *e, struct rehearsal *r)
{
	struct engine_req *q = engine_req_of(e, r->req);
	struct base_jw w;

	base_jw_end_arr(&r->w);
	if (q) {
		w = base_jw_of(&q->reply);
		base_jw_obj(&w);
		if (!r->open) {
			base_jw_mstr(&w, "flow", r->candidate.flow);
			base_jw_mhash(&w, "version", &r->candidate.version);
			base_jw_mbool(&w, "deployed", r->deployed);
		}
		base_jw_mstr(&w, "interpreter", engine_interpreter());
		base_jw_mint(&w, "runs", (int64_t)r->count);
		put_totals(r, &w);
		base_jw_mint(&w, "moved", (int64_t)r->moved);
		base_jw_mint(&w, "parked", (int64_t)r->parked);
		if (r->left_out)
			base_jw_mint(&w, "left_out", (int64_t)r->left_out);
		base_jw_mraw(&w, "items", base_buf_view(&r->items));
		base_jw_end_obj(&w);
		engine_reply_built(e, q, 200);
	}
	rehearsal_free(r);
}

/* --- deciding --- */

static bool is_in(struct base_jv list, uint64_t run)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	while (base_jv_kind(list) == BASE_JSON_ARR && base_jv_next(list, &it, &none, &v))
		if (base_jv_int(v, 0) == (int64_t)run)
			return true;
	return false;
}

static enum decision decision_for(const struct rehearsal *r, uint64_t run)
{
	struct base_jv root = base_json_root(r->doc);

	if (is_in(base_jv_get(root, "park"), run))
		return PARK;
	return r->move_same || is_in(base_jv_get(root, "move"), run) ? MOVE : KEEP;
}

/* Decides in the operator's name: the status, and what it says where it refuses. */
static int decide(struct engine *e, struct engine_req *q, struct core_cmd *cmd, char *ret_why, size_t size)
{
	struct base_json *doc = NULL;
	struct core_reply reply;
	int rc;

	cmd->by = q->by;
	rc = engine_decide(e, cmd, &reply);
	if (rc < 0) {
		snprintf(ret_why, size, "%s", strerror(-rc));
		return 507;
	}
	if (reply.status >= 400 && base_json_parse(reply.body, &doc, NULL) == 0)
		snprintf(ret_why, size, "%.*s",
			BASE_STR_ARG(base_jv_str(base_jv_get(base_json_root(doc), "detail"))));
	base_json_free(doc);
	return reply.status;
}

/* False: it went on since it was tried, and is worth another try. */
static bool decide_trial(
	struct engine *e, struct rehearsal *r, struct trial *t, struct base_str item, struct base_jw *w)
{
	struct engine_req *q = engine_req_of(e, r->req);
	enum decision d = decision_for(r, t->run);
	char why[400] = "";
	int status;

	if (d == MOVE && t->outcome != TRIAL_SAME) {
		base_jw_mcstr(w, "refused", "only a run that rehearses the same is moved");
	} else if (d == MOVE) {
		bool settled = engine_flows_settled(e, t->run);
		struct core_cmd cmd = {.type = CORE_CMD_RUN_MOVE,
			.run = t->run,
			.hash = r->candidate.version,
			.base = (int64_t)r->position};

		status = settled ? decide(e, q, &cmd, why, sizeof(why)) : 409;
		if (status == 409 && r->tries + 1 < TRIES)
			return false;
		if (status < 400) {
			base_jw_mcstr(w, "decided", "moved");
			r->moved++;
		} else {
			base_jw_mcstr(
				w, "refused", settled ? why : "it goes on while it is rehearsed: try again");
		}
	} else if (d == PARK) {
		struct core_cmd cmd = {.type = CORE_CMD_RUN_PARK,
			.run = t->run,
			.name = BASE_STR("rehearsed"),
			.body = item};

		status = decide(e, q, &cmd, why, sizeof(why));
		base_jw_mcstr(w, status < 400 ? "decided" : "refused", status < 400 ? "parked" : why);
		r->parked += status < 400;
	}
	return true;
}

/* --- one run --- */

static void put_next(struct engine *e, struct base_jw *w, const struct trial *t)
{
	if (t->outcome == TRIAL_DIVERGED || t->outcome == TRIAL_ENDED) {
		base_jw_mint(w, "step", t->outcome == TRIAL_ENDED ? t->called : t->at);
		trial_put_step(e, w, "recorded", &t->steps[t->outcome == TRIAL_ENDED ? t->called : t->at]);
	}
	if (t->outcome == TRIAL_DIVERGED && t->asked_count) {
		trial_put_asked(w, "asked", &t->asked[0]);
	} else if (t->asked_count) {
		base_jw_key(w, "next");
		base_jw_arr(w);
		for (uint32_t i = 0; i < t->asked_count && i < ITEM_NEXT_MAX; i++)
			trial_put_asked(w, NULL, &t->asked[i]);
		base_jw_end_arr(w);
	}
	if (!t->ends || !t->value.len)
		return;
	if (t->outcome == TRIAL_FAILED || t->outcome == TRIAL_HUNG)
		base_jw_mraw(w, "problem", t->value);
	else if (t->value.len <= TRIAL_PREVIEW_MAX)
		base_jw_mraw(w, "value", t->value);
}

static void put_item(struct engine *e, struct rehearsal *r, struct trial *t, struct base_buf *b)
{
	struct core_run_info info;
	struct base_jw w = base_jw_of(b);

	base_jw_obj(&w);
	base_jw_mint(&w, "run", (int64_t)t->run);
	if (core_run_get(e->core, t->run, &info)) {
		base_jw_mstr(&w, "flow", info.flow);
		base_jw_mcstr(&w, "state", engine_run_state(&info));
		base_jw_mhash(&w, "from", &info.version);
	}
	base_jw_mint(&w, "position", (int64_t)r->position);
	base_jw_mint(&w, "steps", t->count);
	base_jw_mint(&w, "called", t->called);
	base_jw_mcstr(&w, "outcome", trial_outcome_name(t->outcome));
	if (t->ends && t->outcome == TRIAL_SAME)
		base_jw_mbool(&w, "ends", true);
	if (t->why[0])
		base_jw_mcstr(&w, "why", t->why);
	put_next(e, &w, t);
	base_jw_end_obj(&w);
}

/* The item with what was decided about it, if there is room. */
static bool report(struct engine *e, struct rehearsal *r, struct trial *t)
{
	struct base_buf item, decided;
	struct base_jw w;
	bool over;

	base_buf_init(&item, 4 << 20);
	base_buf_init(&decided, 4096);
	put_item(e, r, t, &item);
	w = base_jw_of(&decided);
	base_jw_obj(&w);
	over = decide_trial(e, r, t, base_buf_view(&item), &w);
	base_jw_end_obj(&w);
	if (over && r->items.len + item.len > TRIAL_REPORT_MAX) {
		r->left_out++;
	} else if (over) {
		item.len--; /* its brace */
		if (decided.len > 2) {
			base_buf_char(&item, ',');
			base_buf_str(&item, base_str_sub(base_buf_view(&decided), 1, decided.len));
		} else {
			base_buf_char(&item, '}');
		}
		base_jw_raw(&r->w, base_buf_view(&item));
	}
	base_buf_done(&item);
	base_buf_done(&decided);
	return over;
}

static void on_trial(struct engine *e, struct trial *t)
{
	struct rehearsal *r = t->owner;
	struct engine_req *q = e->stopping ? NULL : engine_req_of(e, r->req);
	bool over;

	if (!q || q->gone) { /* nobody waits any more */
		trial_free(t);
		if (q)
			answer(e, r);
		else
			rehearsal_free(r);
		return;
	}
	over = report(e, r, t);
	if (over) {
		r->totals[t->outcome]++;
		if (t->outcome == TRIAL_HUNG || t->outcome == TRIAL_CRASHED)
			r->stuck++;
		r->at++;
		r->tries = 0;
	} else {
		r->tries++;
	}
	trial_free(t);
	next(e, r);
}

/* The trial of a run as it stands now. NULL: it has ended meanwhile, is being taken back, or has no JavaScript. */
static struct trial *trial_of(struct engine *e, struct rehearsal *r, uint64_t run)
{
	struct core_step_at *steps;
	struct core_run_info info;
	struct trial *t;
	size_t n;

	if (!core_run_get(e->core, run, &info) || info.state == CORE_RUN_ENDED ||
		info.state == CORE_RUN_UNDOING)
		return NULL;
	if (r->open) {
		candidate_done(&r->candidate);
		if ((base_str_starts(info.flow, BASE_STR("aios:")) &&
			    !base_str_is(info.flow, "aios:agent")) ||
			candidate_deployed(e, &r->candidate, &info.version) < 0)
			return NULL;
	}
	n = core_run_steps(e->core, run, NULL, 0);
	steps = calloc(n + 1, sizeof(*steps));
	t = trial_new((uint32_t)n);
	BASE_CHECK(steps && t);
	(void)core_run_steps(e->core, run, steps, n);
	for (size_t i = 0; i < n; i++) {
		t->steps[i].seq = steps[i].seq;
		t->steps[i].seq_end = steps[i].seq_end;
	}
	free(steps);
	t->run = run;
	t->seq_started = info.seq_started;
	t->version = r->candidate.version;
	t->modules = base_buf_view(&r->candidate.modules);
	t->owner = r;
	t->done = on_trial;
	r->position = core_run_position(e->core, run);
	return t;
}

static void next(struct engine *e, struct rehearsal *r)
{
	while (r->at < r->count && r->stuck < TRIAL_STUCK_MAX) {
		struct trial *t = trial_of(e, r, r->runs[r->at]);

		if (t) {
			trial_begin(e, t);
			return;
		}
		r->at++;
		r->skipped++;
		r->tries = 0;
	}
	r->skipped += r->count - r->at;
	answer(e, r);
}

/* --- the request --- */

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The runs that are named, else all that are open. */
static void choose_runs(struct engine *e, struct rehearsal *r, struct base_str flow)
{
	static const char *const lists[] = {"runs", "move", "park", "keep"};
	struct base_jv root = base_json_root(r->doc), v;
	size_t named = 0;

	for (unsigned i = 0; i < 4; i++)
		named += base_jv_kind(base_jv_get(root, lists[i])) == BASE_JSON_ARR
				 ? base_jv_len(base_jv_get(root, lists[i]))
				 : 0;
	r->count = named ? named : core_runs_open(e->core, flow, NULL, 0);
	r->runs = calloc(r->count + 1, sizeof(*r->runs));
	BASE_CHECK(r->runs);
	if (!named) {
		r->count = core_runs_open(e->core, flow, r->runs, r->count);
	} else {
		r->count = 0;
		for (unsigned i = 0; i < 4; i++) {
			struct base_jv_iter it = {0};
			struct base_jv list = base_jv_get(root, lists[i]);
			struct base_str none;

			while (base_jv_kind(list) == BASE_JSON_ARR && base_jv_next(list, &it, &none, &v))
				r->runs[r->count++] = (uint64_t)base_jv_int(v, 0);
		}
	}
	qsort(r->runs, r->count, sizeof(*r->runs), by_number);
	for (size_t i = 0, n = r->count, k = 0; i < n; i++) {
		if (k && r->runs[k - 1] == r->runs[i])
			r->count--;
		else
			r->runs[k++] = r->runs[i];
	}
}

/* A run that is named must be one that can be tried. */
static bool runs_fit(struct engine *e, struct engine_req *q, const struct rehearsal *r, struct base_str flow)
{
	for (size_t i = 0; i < r->count; i++) {
		struct core_run_info info;

		if (!core_run_get(e->core, r->runs[i], &info) || info.state == CORE_RUN_ENDED) {
			engine_reply_problem(e, q, 404, "not_active", "run %llu is not open",
				(unsigned long long)r->runs[i]);
			return false;
		}
		if (flow.len && !base_str_eq(info.flow, flow)) {
			engine_reply_problem(e, q, 422, "another_flow",
				"run %llu is of flow %.*s, not of %.*s", (unsigned long long)r->runs[i],
				BASE_STR_ARG(info.flow), BASE_STR_ARG(flow));
			return false;
		}
	}
	return true;
}

static void on_ready(struct engine *e, void *owner, bool ok)
{
	struct rehearsal *r = owner;
	struct engine_req *q = engine_req_of(e, r->req);
	struct base_jv root = base_json_root(r->doc);
	struct base_str flow = base_jv_str(base_jv_get(root, "flow"));

	if (!ok || !q) {
		rehearsal_free(r);
		return;
	}
	if (!r->open && !flow.len)
		flow = r->candidate.flow;
	r->deployed = !r->open && core_version_seq(e->core, &r->candidate.version) != 0;
	choose_runs(e, r, flow);
	if (!runs_fit(e, q, r, flow)) {
		rehearsal_free(r);
		return;
	}
	if ((r->move_same || base_jv_len(base_jv_get(root, "move"))) && !r->deployed) {
		engine_reply_problem(e, q, 409, "not_deployed",
			"%s: nothing was moved: aios deploy first (or --deploy)",
			r->open ? "runs move to a version of a file" : "this version is not deployed");
		rehearsal_free(r);
		return;
	}
	next(e, r);
}

void engine_op_rehearse(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	struct rehearsal *r;
	struct base_jv root;

	if (!doc)
		return;
	root = base_json_root(doc);
	r = calloc(1, sizeof(*r));
	BASE_CHECK(r);
	r->req = q->id;
	r->doc = doc;
	r->open = base_jv_bool(base_jv_get(root, "open"), false);
	r->move_same = base_str_is(base_jv_str(base_jv_get(root, "move")), "same");
	r->candidate.ready = on_ready;
	r->candidate.owner = r;
	base_buf_init(&r->items, TRIAL_REPORT_MAX + (8 << 20));
	r->w = base_jw_of(&r->items);
	base_jw_arr(&r->w);
	if (r->open)
		on_ready(e, r, true);
	else
		candidate_inspect(e, &r->candidate, q, root);
}
