#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "engine/trial_int.h"

/*
 * POST /v1/flows/{flow}/backtest: past runs of a flow on other code, with what they recorded answering. Where they stand
 * in the log is asked of the views; what is used of it is read from the log and checked (journal.c, J1).
 */

enum { LAST_DEFAULT = 50, LAST_MAX = 10000, PAGE = 500, SHOWN_MAX = 50, ACTIONS_MAX = 64 };

struct past {
	uint64_t run, seq, seq_ended;
};

/* Effects that would be added and dropped, by action. */
struct tally {
	char action[96];
	uint64_t added, dropped;
};

struct backtest {
	uint64_t req;
	struct base_json *doc;
	struct candidate candidate;
	char *flow;
	struct base_buf assume;
	uint64_t last;
	struct past *runs;
	size_t count, at;
	unsigned stuck;
	struct base_buf items;
	struct base_jw w;
	struct tally tally[ACTIONS_MAX];
	size_t tally_count;
	uint64_t same, differ, stopped, untried, left_out;
	uint64_t steps_new, steps_moved, steps_dropped, outcomes_changed, results_changed;
	int64_t cost, kept;
};

static void next(struct engine *e, struct backtest *b);

static void backtest_free(struct backtest *b)
{
	candidate_done(&b->candidate);
	base_buf_done(&b->items);
	base_buf_done(&b->assume);
	base_json_free(b->doc);
	free(b->runs);
	free(b->flow);
	free(b);
}

/* --- the report --- */

static struct tally *tally_of(struct backtest *b, struct base_str action)
{
	struct tally *y;

	for (size_t i = 0; i < b->tally_count; i++)
		if (base_str_is(action, b->tally[i].action))
			return &b->tally[i];
	if (b->tally_count == ACTIONS_MAX - 1 || action.len >= sizeof(y->action))
		action = BASE_STR("others");
	y = &b->tally[b->tally_count < ACTIONS_MAX ? b->tally_count++ : ACTIONS_MAX - 1];
	memcpy(y->action, action.ptr, action.len);
	return y;
}

static void put_verdict(const struct backtest *b, struct base_buf *v)
{
	uint64_t other = b->differ + b->stopped;
	const char *between = ": ";

	if (!b->count) {
		base_buf_printf(v, "no run of %s has ended: nothing could be tried", b->flow);
		return;
	}
	if (b->same == b->count) {
		base_buf_printf(v, "all %zu runs would have gone the same way", b->count);
		return;
	}
	base_buf_printf(
		v, "%llu of %zu runs would have gone another way", (unsigned long long)other, b->count);
	for (size_t i = 0; i < b->tally_count; i++) {
		const struct tally *y = &b->tally[i];

		if (y->added)
			base_buf_printf(
				v, "%s%llu %s more", between, (unsigned long long)y->added, y->action);
		between = y->added ? ", " : between;
		if (y->dropped)
			base_buf_printf(
				v, "%s%llu %s fewer", between, (unsigned long long)y->dropped, y->action);
		between = y->dropped ? ", " : between;
	}
	if (b->results_changed)
		base_buf_printf(v, "%s%llu other results", between, (unsigned long long)b->results_changed);
	between = b->results_changed ? ", " : between;
	if (b->outcomes_changed)
		base_buf_printf(v, "%s%llu other outcomes", between, (unsigned long long)b->outcomes_changed);
	if (b->stopped)
		base_buf_printf(v, "; %llu stop at a call that nothing in their record answers",
			(unsigned long long)b->stopped);
	if (b->untried)
		base_buf_printf(v, "; %llu could not be tried", (unsigned long long)b->untried);
}

static void put_sums(const struct backtest *b, struct base_jw *w)
{
	base_jw_key(w, "totals");
	base_jw_obj(w);
	base_jw_mint(w, "same", (int64_t)b->same);
	base_jw_mint(w, "differ", (int64_t)b->differ);
	base_jw_mint(w, "stopped", (int64_t)b->stopped);
	base_jw_mint(w, "untried", (int64_t)b->untried);
	base_jw_mint(w, "steps_new", (int64_t)b->steps_new);
	base_jw_mint(w, "steps_moved", (int64_t)b->steps_moved);
	base_jw_mint(w, "steps_dropped", (int64_t)b->steps_dropped);
	base_jw_mint(w, "results_changed", (int64_t)b->results_changed);
	base_jw_mint(w, "outcomes_changed", (int64_t)b->outcomes_changed);
	base_jw_mint(w, "cost_recorded_nusd", b->cost);
	base_jw_mint(w, "cost_kept_nusd", b->kept);
	base_jw_key(w, "effects");
	base_jw_arr(w);
	for (size_t i = 0; i < b->tally_count; i++) {
		base_jw_obj(w);
		base_jw_mcstr(w, "action", b->tally[i].action);
		base_jw_mint(w, "added", (int64_t)b->tally[i].added);
		base_jw_mint(w, "dropped", (int64_t)b->tally[i].dropped);
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
	base_jw_end_obj(w);
}

static void answer(struct engine *e, struct backtest *b)
{
	struct engine_req *q = engine_req_of(e, b->req);
	struct base_buf verdict;
	struct base_jw w;

	base_jw_end_arr(&b->w);
	if (q) {
		base_buf_init(&verdict, 1 << 16);
		put_verdict(b, &verdict);
		w = base_jw_of(&q->reply);
		base_jw_obj(&w);
		base_jw_mcstr(&w, "flow", b->flow);
		base_jw_mhash(&w, "version", &b->candidate.version);
		base_jw_mint(&w, "runs", (int64_t)b->count);
		put_sums(b, &w);
		if (b->left_out)
			base_jw_mint(&w, "left_out", (int64_t)b->left_out);
		base_jw_mraw(&w, "items", base_buf_view(&b->items));
		base_jw_mstr(&w, "verdict", base_buf_view(&verdict));
		base_jw_end_obj(&w);
		engine_reply_built(e, q, 200);
		base_buf_done(&verdict);
	}
	backtest_free(b);
}

/* --- one run --- */

/* What one run's trial comes to. */
struct finding {
	struct backtest *b;
	struct trial *t;
	uint32_t dropped, unreached, outcomes;
	int64_t cost, kept;
	bool result_changed, stopped, untried;
	unsigned recorded_outcome;
	struct base_str recorded; /* in the trial's arena */
};

/* What a record that answered nothing means: where the run came to its end it is dropped. */
static bool came_to_its_end(const struct trial *t)
{
	return t->outcome == TRIAL_SAME || t->outcome == TRIAL_FAILED;
}

static bool is_outcome(struct base_str action)
{
	return base_str_is(action, "outcome.record");
}

static void count_steps(struct finding *f)
{
	const struct trial *t = f->t;
	bool end = came_to_its_end(t);

	for (uint32_t i = 0; i < t->count; i++) {
		const struct trial_step *s = &t->steps[i];

		f->cost += s->cost;
		f->kept += s->used ? s->cost : 0;
		if (s->used)
			continue;
		if (!end) {
			f->unreached++;
			continue;
		}
		f->dropped++;
		f->outcomes += is_outcome(s->action);
		if (s->klass != CORE_INTERNAL)
			tally_of(f->b, s->action)->dropped++;
	}
	for (uint32_t i = 0; i < t->asked_count; i++) {
		const struct trial_asked *a = &t->asked[i];

		if (a->found)
			continue;
		f->outcomes += is_outcome(a->action);
		if (a->klass != CORE_INTERNAL)
			tally_of(f->b, a->action)->added++;
	}
}

static bool same_problem(struct base_str a, struct base_str b)
{
	struct base_json *x = NULL, *y = NULL;
	bool same = base_json_parse(a, &x, NULL) == 0 && base_json_parse(b, &y, NULL) == 0 &&
		    base_str_eq(base_jv_str(base_jv_get(base_json_root(x), "message")),
			    base_jv_str(base_jv_get(base_json_root(y), "message")));

	base_json_free(x);
	base_json_free(y);
	return same;
}

/* How the run ended, from the log. */
static int read_result(struct engine *e, struct finding *f, const struct past *p)
{
	union core_event_any ev;
	struct core_record rec;
	struct base_str value;
	int rc = engine_read_blob(e, p->seq_ended, &rec, &value);

	if (rc == 0)
		rc = core_event_get(rec.type, rec.body, &ev);
	if (rc < 0)
		return rc;
	if (rec.type != CORE_EV_RUN_ENDED || ev.run_ended.run != p->run)
		return -EUCLEAN;
	f->recorded_outcome = ev.run_ended.outcome;
	f->recorded = base_arena_dup(f->t->arena, value);
	return f->recorded.ptr || !value.len ? 0 : -ENOMEM;
}

static void judge(struct engine *e, struct finding *f, const struct past *p)
{
	const struct trial *t = f->t;
	int rc = read_result(e, f, p);

	f->untried = rc < 0 || t->outcome == TRIAL_UNREADABLE;
	if (f->untried) {
		f->b->untried++;
		return;
	}
	count_steps(f);
	/* The record itself ended while it waited (a time limit): the trial waits there too. */
	f->stopped = t->outcome == TRIAL_STOPPED && (t->fresh || f->unreached);
	if (t->outcome == TRIAL_SAME)
		f->result_changed = f->recorded_outcome != CORE_DONE || !base_str_eq(f->recorded, t->value);
	else if (t->outcome == TRIAL_FAILED)
		f->result_changed =
			f->recorded_outcome != CORE_FAILED || !same_problem(f->recorded, t->value);
	else
		f->result_changed = t->outcome == TRIAL_HUNG || t->outcome == TRIAL_CRASHED;
	f->b->steps_new += t->fresh;
	f->b->steps_moved += t->asked_all - t->fresh;
	f->b->steps_dropped += f->dropped;
	f->b->outcomes_changed += f->outcomes;
	f->b->results_changed += f->result_changed;
	f->b->cost += f->cost;
	f->b->kept += f->kept;
	if (f->stopped)
		f->b->stopped++;
	else if (t->asked_all || f->dropped || f->result_changed)
		f->b->differ++;
	else
		f->b->same++;
}

static const char *name_of(const struct finding *f)
{
	if (f->untried)
		return "untried";
	if (f->stopped)
		return "stopped";
	if (f->t->outcome == TRIAL_HUNG || f->t->outcome == TRIAL_CRASHED)
		return trial_outcome_name(f->t->outcome);
	return f->t->asked_all || f->dropped || f->result_changed ? "differs" : "same";
}

/* Calls beside the record, then what the record has and nobody asked for. */
static void put_differences(struct engine *e, struct base_jw *w, struct finding *f)
{
	struct trial *t = f->t;
	uint32_t shown = 0;

	base_jw_key(w, "differences");
	base_jw_arr(w);
	for (uint32_t i = 0; i < t->asked_count && shown < SHOWN_MAX; i++, shown++) {
		const struct trial_asked *a = &t->asked[i];

		base_jw_obj(w);
		base_jw_mint(w, "step", a->step);
		base_jw_mcstr(w, "kind", a->found ? "moved" : "new");
		if (a->found)
			base_jw_mint(w, "from", a->found - 1);
		trial_put_asked(w, "asked", a);
		if (!a->found && a->step < t->count && !t->steps[a->step].used)
			trial_put_step(e, w, "recorded", &t->steps[a->step]);
		base_jw_end_obj(w);
	}
	for (uint32_t i = 0; i < t->count && shown < SHOWN_MAX && came_to_its_end(t); i++) {
		if (t->steps[i].used)
			continue;
		shown++;
		base_jw_obj(w);
		base_jw_mint(w, "step", i);
		base_jw_mcstr(w, "kind", "dropped");
		trial_put_step(e, w, "recorded", &t->steps[i]);
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

static void put_item(struct engine *e, struct base_jw *w, struct finding *f)
{
	struct trial *t = f->t;

	base_jw_obj(w);
	base_jw_mint(w, "run", (int64_t)t->run);
	base_jw_mcstr(w, "outcome", name_of(f));
	base_jw_mint(w, "steps", t->count);
	base_jw_mint(w, "called", t->called);
	base_jw_mint(w, "same", t->matched);
	base_jw_mint(w, "new", t->fresh);
	base_jw_mint(w, "moved", t->asked_all - t->fresh);
	base_jw_mint(w, "dropped", f->dropped);
	base_jw_mint(w, "unreached", f->unreached);
	base_jw_mint(w, "outcomes_changed", f->outcomes);
	base_jw_mint(w, "cost_recorded_nusd", f->cost);
	base_jw_mint(w, "cost_kept_nusd", f->kept);
	base_jw_mbool(w, "result_changed", f->result_changed);
	if (t->why[0])
		base_jw_mcstr(w, "why", t->why);
	if (f->result_changed && f->recorded.len <= TRIAL_PREVIEW_MAX)
		base_jw_mraw(w, "recorded", f->recorded);
	if (f->result_changed && t->ends && t->value.len && t->value.len <= TRIAL_PREVIEW_MAX)
		base_jw_mraw(w, t->outcome == TRIAL_SAME ? "result" : "problem", t->value);
	if (!f->untried)
		put_differences(e, w, f);
	base_jw_end_obj(w);
}

static void on_trial(struct engine *e, struct trial *t)
{
	struct backtest *b = t->owner;
	struct engine_req *q = e->stopping ? NULL : engine_req_of(e, b->req);
	struct finding f = {.b = b, .t = t};
	struct base_buf item;
	struct base_jw w;

	if (!q || q->gone) { /* nobody waits any more */
		trial_free(t);
		if (q)
			answer(e, b);
		else
			backtest_free(b);
		return;
	}
	judge(e, &f, &b->runs[b->at]);
	if (t->outcome == TRIAL_HUNG || t->outcome == TRIAL_CRASHED)
		b->stuck++;
	base_buf_init(&item, 4 << 20);
	w = base_jw_of(&item);
	put_item(e, &w, &f);
	if (b->items.len + item.len > TRIAL_REPORT_MAX || base_buf_failed(&item))
		b->left_out++;
	else
		base_jw_raw(&b->w, base_buf_view(&item));
	base_buf_done(&item);
	trial_free(t);
	b->at++;
	next(e, b);
}

static void on_positions(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct backtest *b = userdata;
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct base_str none;
	struct trial *t;
	struct base_jv steps, v;
	uint32_t i = 0;

	(void)sealed;
	if (status != 1 || base_json_parse(value, &doc, NULL) < 0) { /* the views will know it another time */
		b->untried++;
		b->at++;
		next(e, b);
		return;
	}
	steps = base_jv_get(base_json_root(doc), "steps");
	t = trial_new((uint32_t)base_jv_len(steps));
	BASE_CHECK(t);
	while (base_jv_next(steps, &it, &none, &v)) {
		t->steps[i].seq = (uint64_t)base_jv_int(base_jv_at(v, 0), 0);
		t->steps[i].seq_end = (uint64_t)base_jv_int(base_jv_at(v, 1), 0);
		t->steps[i++].copy = (uint64_t)base_jv_int(base_jv_at(v, 2), 0);
	}
	base_json_free(doc);
	t->run = b->runs[b->at].run;
	t->seq_started = b->runs[b->at].seq;
	t->version = b->candidate.version;
	t->modules = base_buf_view(&b->candidate.modules);
	t->lenient = true;
	t->assume = base_buf_view(&b->assume);
	t->owner = b;
	t->done = on_trial;
	trial_begin(e, t);
}

static void next(struct engine *e, struct backtest *b)
{
	struct engine_req *q = engine_req_of(e, b->req);
	struct base_buf params;

	if (b->at == b->count || b->stuck >= TRIAL_STUCK_MAX || !q || q->gone) {
		b->untried += b->count - b->at;
		answer(e, b);
		return;
	}
	base_buf_init(&params, 64);
	base_buf_printf(&params, "{\"run\":%llu}", (unsigned long long)b->runs[b->at].run);
	engine_views_ask(e, "positions", base_buf_view(&params), on_positions, b);
	base_buf_done(&params);
}

/* --- which runs --- */

static void ask_runs(struct engine *e, struct backtest *b, int64_t before);

/* Dry and cancelled runs tell nothing: the one had no effects, the other was stopped by a person. */
static bool is_telling(struct base_jv run)
{
	return !(base_jv_int(base_jv_get(run, "flags"), 0) & 1) &&
	       !base_str_is(base_jv_str(base_jv_get(run, "state")), "cancelled");
}

static void on_runs(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct backtest *b = userdata;
	struct engine_req *q = engine_req_of(e, b->req);
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;
	int64_t more;

	if (status != 1 || base_json_parse(value, &doc, NULL) < 0) {
		if (q)
			engine_reply_ask(e, q, status == 1 ? -EBADMSG : status, value, sealed);
		backtest_free(b);
		return;
	}
	while (b->count < b->last && base_jv_next(base_jv_get(base_json_root(doc), "items"), &it, &none, &v))
		if (is_telling(v))
			b->runs[b->count++] =
				(struct past){.run = (uint64_t)base_jv_int(base_jv_get(v, "run"), 0),
					.seq = (uint64_t)base_jv_int(base_jv_get(v, "seq"), 0),
					.seq_ended = (uint64_t)base_jv_int(base_jv_get(v, "seq_ended"), 0)};
	more = base_jv_int(base_jv_get(base_json_root(doc), "next"), 0);
	base_json_free(doc);
	if (b->count < b->last && more)
		ask_runs(e, b, more);
	else
		next(e, b);
}

static void ask_runs(struct engine *e, struct backtest *b, int64_t before)
{
	struct base_buf params;
	struct base_jw w;

	base_buf_init(&params, 4096);
	w = base_jw_of(&params);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "flow", b->flow);
	base_jw_mcstr(&w, "state", "ended");
	base_jw_mint(&w, "limit", PAGE);
	if (before)
		base_jw_mint(&w, "before", before);
	base_jw_end_obj(&w);
	engine_views_ask(e, "runs", base_buf_view(&params), on_runs, b);
	base_buf_done(&params);
}

/* --- the request --- */

static void on_ready(struct engine *e, void *owner, bool ok)
{
	struct backtest *b = owner;

	if (!ok || !engine_req_of(e, b->req))
		backtest_free(b);
	else
		ask_runs(e, b, 0);
}

void engine_op_backtest(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	struct base_str flow = engine_param(q, "flow");
	struct backtest *b;
	struct base_jv root;

	if (!doc)
		return;
	root = base_json_root(doc);
	b = calloc(1, sizeof(*b));
	BASE_CHECK(b);
	b->req = q->id;
	b->doc = doc;
	b->flow = strndup(flow.ptr, flow.len);
	b->last = (uint64_t)base_jv_int(base_jv_get(root, "last"), LAST_DEFAULT);
	b->last = b->last < 1 ? 1 : b->last > LAST_MAX ? LAST_MAX : b->last;
	b->runs = calloc(b->last, sizeof(*b->runs));
	BASE_CHECK(b->flow && b->runs);
	base_buf_init(&b->assume, 1 << 20);
	if (base_jv_kind(base_jv_get(root, "assume")) != BASE_JSON_NONE)
		base_jv_write(base_jv_get(root, "assume"), &b->assume);
	base_buf_init(&b->items, TRIAL_REPORT_MAX + (8 << 20));
	b->w = base_jw_of(&b->items);
	base_jw_arr(&b->w);
	b->candidate.ready = on_ready;
	b->candidate.owner = b;
	candidate_inspect(e, &b->candidate, q, root);
}
