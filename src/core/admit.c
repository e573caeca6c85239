/* Flow control, decided: what a flow declares about its starts, who waits, who is admitted next. The state and the order
 * stand in apply_admit.c. */
#include <errno.h>
#include <string.h>

#include "base/money.h"
#include "core/core_int.h"

enum { KEY_STEPS_MAX = 10000, CHAIN_MAX = 4096, AHEAD_MAX = 1000 };

/* --- what a spec declares --- */

/* Names and types are checked where somebody can be told (err): what was deployed before this was checked goes on. */
static int compile_key(struct base_str text, struct cel_program **ret, struct base_err *err)
{
	static const struct cel_var input = {{"input", 5}, CEL_DYN};
	static const struct cel_env env = {.vars = &input, .count = 1};

	return cel_compile_in(text, err ? &env : NULL, ret, err);
}

static int key_of(struct base_jv obj, const char *where, struct cel_program **ret, struct base_err *err)
{
	struct base_jv v = base_jv_get(obj, "key");

	if (base_jv_kind(v) == BASE_JSON_NONE)
		return 0;
	if (base_jv_kind(v) != BASE_JSON_STR || base_jv_str(v).len == 0)
		return base_err_set(
			err, -EINVAL, "%s.key is an expression over `input`, such as \"input.issue\"", where);
	if (compile_key(base_jv_str(v), ret, err) < 0) {
		base_err_prefix(err, "%s.key (it sees only `input`)", where);
		return -EINVAL;
	}
	return 0;
}

static int only(struct base_jv obj, const char *where, const char *const *names, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(obj, &it, &key, &v)) {
		const char *const *at = names;

		while (*at && !base_str_is(key, *at))
			at++;
		if (!*at)
			return base_err_set(err, -EINVAL, "%s has no member %.*s", where, BASE_STR_ARG(key));
	}
	return 0;
}

static int lane_control(struct base_jv v, struct core_control *k, struct base_err *err)
{
	static const char *const names[] = {"key", "limit", "policy", NULL};
	struct base_jv limit = base_jv_get(v, "limit"), policy = base_jv_get(v, "policy");
	struct base_str p = base_jv_str(policy);

	if (base_jv_kind(v) != BASE_JSON_OBJ)
		return base_err_set(
			err, -EINVAL, "concurrency is an object, such as {key: \"input.issue\", limit: 1}");
	k->limit = base_jv_int(limit, 0);
	if (base_jv_kind(limit) != BASE_JSON_INT || k->limit < 1 || k->limit > 1000000)
		return base_err_set(err, -EINVAL, "concurrency.limit is a number of runs from 1 to 1000000");
	if (base_jv_kind(policy) == BASE_JSON_NONE || base_str_is(p, "fifo"))
		k->policy = CORE_FIFO;
	else if (base_str_is(p, "replace"))
		k->policy = CORE_REPLACE;
	else if (base_str_is(p, "reject"))
		k->policy = CORE_REJECT;
	else
		return base_err_set(
			err, -EINVAL, "concurrency.policy is \"fifo\", \"replace\" or \"reject\"");
	return only(v, "concurrency", names, err) < 0 ? -EINVAL : key_of(v, "concurrency", &k->lane, err);
}

static int rate_control(struct base_jv v, struct core_control *k, struct base_err *err)
{
	static const char *const names[] = {"key", "limit", NULL};
	struct base_jv limit = base_jv_kind(v) == BASE_JSON_OBJ ? base_jv_get(v, "limit") : v;

	if (base_jv_kind(limit) != BASE_JSON_STR ||
		core_rate_of(base_jv_str(limit), &k->interval_us, &k->burst) < 0)
		return base_err_set(err, -EINVAL, "rate.limit is a rate of starts, such as \"10/m\"");
	if (base_jv_kind(v) != BASE_JSON_OBJ)
		return 0;
	return only(v, "rate", names, err) < 0 ? -EINVAL : key_of(v, "rate", &k->rate, err);
}

int core_control_read(struct base_jv spec, struct core_control *ret, struct base_err *err)
{
	struct base_jv lane = base_jv_get(spec, "concurrency"), rate = base_jv_get(spec, "rate"),
		       priority = base_jv_get(spec, "priority");
	struct base_jv retention = base_jv_get(spec, "retention");
	struct core_control k = {0};
	int64_t keep_ms;
	int r = 0;

	if (base_jv_kind(retention) != BASE_JSON_NONE && base_jv_kind(retention) != BASE_JSON_NULL &&
		base_duration_parse(base_jv_str(retention), &keep_ms, NULL) < 0)
		return base_err_set(err, -EINVAL, "retention is a duration, such as \"90d\"");

	if (base_jv_kind(lane) != BASE_JSON_NONE && base_jv_kind(lane) != BASE_JSON_NULL)
		r = lane_control(lane, &k, err);
	if (r == 0 && base_jv_kind(rate) != BASE_JSON_NONE && base_jv_kind(rate) != BASE_JSON_NULL)
		r = rate_control(rate, &k, err);
	if (r == 0 && base_jv_kind(priority) != BASE_JSON_NONE) {
		k.priority = base_jv_int(priority, CORE_PRIORITY_MAX + 1);
		if (k.priority < -CORE_PRIORITY_MAX || k.priority > CORE_PRIORITY_MAX)
			r = base_err_set(err, -EINVAL, "priority is a whole number from -%d to %d",
				CORE_PRIORITY_MAX, CORE_PRIORITY_MAX);
	}
	if (r < 0)
		core_control_done(&k);
	else
		*ret = k;
	return r;
}

void core_control_done(struct core_control *k)
{
	if (!k)
		return;
	cel_free(k->lane);
	cel_free(k->rate);
}

/* --- starts --- */

/* The key as text: never empty. False: it has none, with why in *ret. */
static bool key_text(struct core_turn *t, const struct cel_program *p, const char *member,
	struct base_str input, struct base_str *ret)
{
	struct base_json *doc = NULL;
	struct cel_binding var = {.name = BASE_STR("input")};
	struct cel_value v;
	bool ok = true;

	if (!p) {
		*ret = BASE_STR("*");
		return true;
	}
	if (base_json_parse(input, &doc, NULL) < 0)
		var.value = cel_null();
	else
		var.value = cel_json(base_json_root(doc));
	v = cel_eval(p, &var, 1, t->arena, KEY_STEPS_MAX);
	if (v.kind == CEL_STRING && v.as.s.len && v.as.s.len <= CORE_NAME_MAX)
		*ret = base_arena_dup(t->arena, v.as.s);
	else if (v.kind == CEL_INT)
		*ret = base_arena_printf(t->arena, "%lld", (long long)v.as.i);
	else if (v.kind == CEL_UINT)
		*ret = base_arena_printf(t->arena, "%llu", (unsigned long long)v.as.u);
	else if (v.kind == CEL_BOOL)
		*ret = v.as.b ? BASE_STR("true") : BASE_STR("false");
	else
		ok = false;
	if (!ok)
		*ret = base_arena_printf(t->arena, "%s.key is no text, number or bool for this input%s%.*s",
			member, v.kind == CEL_ERROR ? ": " : "",
			BASE_STR_ARG(v.kind == CEL_ERROR ? v.as.s : BASE_STR_NONE));
	base_json_free(doc);
	return ok;
}

/* A dry run is only tried: it stands in no lane and counts for no rate. */
static bool keys_of(struct core_turn *t, struct core_start *s, struct base_str *ret_why)
{
	const struct core_control *k = core_flow_control(s->flow);
	struct base_str key = BASE_STR_NONE;

	s->lane = s->rate = BASE_STR_NONE;
	if (!k || s->dry)
		return true;
	if (k->limit && !key_text(t, k->lane, "concurrency", s->input, &key)) {
		*ret_why = key;
		return false;
	}
	s->lane = key;
	key = BASE_STR_NONE;
	if (k->interval_us && !key_text(t, k->rate, "rate", s->input, &key)) {
		*ret_why = key;
		return false;
	}
	s->rate = key;
	return true;
}

int64_t core_start_priority(const struct core_start *s)
{
	const struct core_control *k = core_flow_control(s->flow);

	if (s->has_priority)
		return s->priority;
	if (k && k->priority)
		return k->priority;
	return s->parent ? core_run_extra(s->parent)->priority : 0;
}

static struct core_lane *start_lane(struct core_turn *t, const struct core_start *s)
{
	return s->lane.len ? core_lane_find(t->c, s->flow->name, s->lane, t->arena) : NULL;
}

/* A run that computes and now waits for its child gives its slot up in this decision: the child has it. */
static bool takes_slot_over(const struct core_start *s)
{
	return s->parent && s->parent->awake && s->parent->sent == 0;
}

bool core_start_queues(struct core_turn *t, const struct core_start *s)
{
	const struct core *c = t->c;
	const struct core_lane *l = start_lane(t, s);
	const struct core_bucket *b =
		s->rate.len ? core_bucket_find(c, s->flow->name, s->rate, t->arena) : NULL;

	if (s->begin_ms > t->cmd->now_ms)
		return true;
	/* The state does not know yet of those that this decision has started before. */
	if (t->starts && (s->lane.len || s->rate.len))
		return true;
	if (!takes_slot_over(s) && (c->awake + t->starts >= c->active_max || base_names_count(c->ready)))
		return true;
	if (l && (l->waiting || (int64_t)l->active >= core_lane_limit(l)))
		return true;
	return b && (b->exposed || b->armed_ms || core_bucket_slot(b, t->cmd->now_ms));
}

/* --- who waits for whom --- */

struct chain {
	const struct core *c;
	uint64_t to;
	unsigned left; /* how much is looked at: beyond, nobody is accused */
};

/* The runs on the way to here. Who is met again waits for itself: there is no way out through it. */
struct way {
	uint64_t run;
	const struct way *before;
};

static bool chain_from(struct chain *k, uint64_t from, const struct way *before);

static bool lane_waits(struct chain *k, const struct core_lane *l, const struct way *before)
{
	const struct core_run *h = NULL;

	if ((int64_t)l->active < core_lane_limit(l) || core_lane_policy_of(l) == CORE_REPLACE)
		return false;
	/* A place gets free when any of them ends: only if all wait for it is there no way out. */
	for (uint64_t seq = 0; (h = core_lane_oldest(k->c, l, seq)); seq = core_run_extra(h)->ticket->seq)
		if (h->id != k->to && !chain_from(k, h->id, before))
			return false;
	return true;
}

static bool chain_from(struct chain *k, uint64_t from, const struct way *before)
{
	const struct core_run *r = core_run_find(k->c, from);
	const struct way here = {from, before};

	if (!r || r->state == CORE_RUN_ENDED || k->left == 0)
		return false;
	k->left--;
	for (; before; before = before->before)
		if (before->run == from)
			return true;
	if (r->state == CORE_RUN_QUEUED)
		return lane_waits(k, core_run_extra(r)->ticket->lane, &here);
	for (uint32_t i = 0, open = r->open; i < r->steps && open && k->left; i++) {
		const struct core_open *o = core_step_open(&r->step[i]);

		open -= o != NULL;
		if (o && o->child && (o->child == k->to || chain_from(k, o->child, &here)))
			return true;
	}
	return false;
}

bool core_waits_for(const struct core *c, uint64_t from, uint64_t to)
{
	struct chain k = {c, to, CHAIN_MAX};

	return from == to || chain_from(&k, from, NULL);
}

/* A child that would wait for a place that its own parents hold: they wait for it, for ever. */
static bool locks_up(struct core_turn *t, const struct core_start *s)
{
	const struct core_lane *l = s->parent ? start_lane(t, s) : NULL;
	struct chain k = {t->c, s->parent ? s->parent->id : 0, CHAIN_MAX};
	const struct core_run *h;

	if (!l || (int64_t)l->active < core_lane_limit(l))
		return false;
	if (core_lane_policy_of(l) == CORE_REPLACE) {
		h = core_lane_oldest(t->c, l, 0);
		return h && core_waits_for(t->c, h->id, s->parent->id);
	}
	return lane_waits(&k, l, NULL);
}

bool core_start_check(
	struct core_turn *t, struct core_start *s, struct base_str *ret_problem, int *ret_status)
{
	const struct core_lane *l;
	struct base_str why;

	if (!keys_of(t, s, &why)) {
		*ret_status = 422;
		*ret_problem = core_problem(
			t->arena, "invalid", "%.*s: %.*s", BASE_STR_ARG(s->flow->name), BASE_STR_ARG(why));
		return false;
	}
	s->checked = true;
	l = start_lane(t, s);
	if (l && s->begin_ms <= t->cmd->now_ms && core_lane_policy_of(l) == CORE_REJECT &&
		(int64_t)l->active + l->waiting >= core_lane_limit(l)) {
		*ret_status = 409;
		t->reply->retry_after_ms = CORE_QUEUE_RETRY_MS;
		*ret_problem = core_problem(t->arena, "lane_full",
			"%.*s: as many runs as its concurrency lets go at a time go for %.*s: start it when "
			"one "
			"has ended",
			BASE_STR_ARG(s->flow->name), BASE_STR_ARG(s->lane));
		return false;
	}
	if (locks_up(t, s)) {
		*ret_status = 409;
		*ret_problem = core_problem(t->arena, "deadlock",
			"%.*s: its place in the lane %.*s is held by runs that would wait for it",
			BASE_STR_ARG(s->flow->name), BASE_STR_ARG(s->lane));
		return false;
	}
	if (t->c->queued + t->starts >= t->c->queue_max && core_start_queues(t, s)) {
		*ret_status = 429;
		t->reply->retry_after_ms = CORE_QUEUE_RETRY_MS;
		*ret_problem = core_problem(t->arena, "queue_full",
			"%llu runs wait already, which is what limits.queue lets wait: try again later",
			(unsigned long long)t->c->queued);
		return false;
	}
	return true;
}

/* --- admission --- */

static struct core_lane *first_lane(const struct base_names *set)
{
	struct base_str key;
	void *value;

	return base_names_seek(set, BASE_STR_NONE, true, &key, &value) ? value : NULL;
}

bool core_admit_is_due(const struct core *c)
{
	return base_names_count(c->answers) || base_names_count(c->due) ||
	       (base_names_count(c->ready) && c->awake < c->active_max);
}

/* More stand in this lane than its policy lets: the newest replaces, or is rejected. */
static void act(struct core_turn *t, const struct core_lane *l)
{
	struct core_run *last = core_lane_last(t->c, l), *other;

	if (core_lane_policy_of(l) == CORE_REJECT) {
		core_end_tree(t, last, CORE_FAILED,
			core_problem(t->arena, "lane_full",
				"as many runs as the flow's concurrency lets go at a time went already"));
		return;
	}
	other = core_lane_waiting(t->c, l, last);
	core_cancel(t, other ? other : core_lane_oldest(t->c, l, 0),
		core_problem(t->arena, "replaced", "run %llu took its place", (unsigned long long)last->id));
}

bool core_decide_admit(struct core_turn *t)
{
	const struct core_lane *l;
	const struct core_run *r;
	struct core *c = t->c;

	if (!core_admit_is_due(c))
		return false;
	if (core_decide_answer(t))
		return true;
	l = first_lane(c->due);
	if (l) {
		act(t, l);
		return true;
	}
	r = core_lane_head(c, first_lane(c->ready));
	core_run_admitted_emit(t->block, t->cmd->now_ms, &(struct core_run_admitted){.run = r->id});
	core_restored_admit(t, r);
	return true;
}

/* --- in words --- */

static struct base_str lane_key(const struct core_lane *l)
{
	return base_str_sub(l->name, (l->flow ? l->flow->name.len : 10) + 1, l->name.len);
}

/* How many go before it in its lane: counted up to a bound. */
static unsigned ahead_of(const struct core *c, const struct core_run *r, unsigned max)
{
	const struct core_run *w = NULL;
	unsigned n = 0;

	for (w = core_lane_head(c, core_run_extra(r)->ticket->lane); w && w != r && n < max;
		w = core_lane_after(c, w))
		n++;
	return n;
}

void core_queue_why(const struct core *c, const struct core_run *r, int64_t now_ms, struct base_buf *ret_text,
	struct base_buf *ret_wakes, int64_t *ret_until)
{
	const struct core_ticket *k = core_run_extra(r)->ticket;
	const struct core_lane *l = k->lane;
	int64_t slot = k->bucket ? core_bucket_slot(k->bucket, now_ms) : 0;
	struct core_run *oldest;
	unsigned ahead;

	if (k->since_ms > now_ms) {
		*ret_until = k->since_ms;
		base_buf_cstr(ret_text, "its start was put off");
		base_buf_cstr(ret_wakes, "the clock");
		return;
	}
	ahead = ahead_of(c, r, AHEAD_MAX);
	if (l->keyed && (int64_t)l->active >= core_lane_limit(l)) {
		oldest = core_lane_oldest(c, l, 0);
		base_buf_printf(ret_text,
			"%u of at most %lld runs of its lane %.*s go already (the first of them is run %llu)",
			l->active, (long long)core_lane_limit(l), BASE_STR_ARG(lane_key(l)),
			(unsigned long long)oldest->id);
		base_buf_cstr(ret_wakes, "the end of one of them");
	} else if (slot) {
		*ret_until = slot;
		base_buf_cstr(ret_text, "the rate of starts of its flow has no slot before");
		base_buf_cstr(ret_wakes, "the clock");
	} else {
		base_buf_printf(ret_text, "%llu runs are awake, as many as limits.active lets",
			(unsigned long long)c->awake);
		base_buf_cstr(ret_wakes, "a run that ends or waits");
	}
	if (ahead)
		base_buf_printf(ret_text, "; %s%u of its lane %s before it",
			ahead == AHEAD_MAX ? "over " : "", ahead, ahead == 1 ? "goes" : "go");
}

int core_queue_json(const struct core *c, struct base_str flow, size_t max, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);
	struct base_str at = flow;
	bool more = false;
	void *value;

	base_jw_obj(&w);
	base_jw_mint(&w, "queued", (int64_t)c->queued);
	base_jw_mint(&w, "queue_max", (int64_t)c->queue_max);
	base_jw_mint(&w, "awake", (int64_t)c->awake);
	base_jw_mint(&w, "active_max", (int64_t)c->active_max);
	base_jw_key(&w, "lanes");
	base_jw_arr(&w);
	while (base_names_seek(c->lanes, at, false, &at, &value) && base_str_starts(at, flow)) {
		const struct core_lane *l = value;
		const struct core_run *head = core_lane_head(c, l);
		int64_t limit = core_lane_limit(l);

		if (flow.len && !(l->flow && base_str_eq(l->flow->name, flow)))
			continue;
		more = max == 0;
		if (more)
			break;
		max--;
		base_jw_obj(&w);
		base_jw_mstr(&w, "flow", l->flow ? l->flow->name : BASE_STR("aios:agent"));
		base_jw_mstr(&w, "lane", lane_key(l));
		base_jw_mint(&w, "active", l->active);
		if (limit != INT64_MAX)
			base_jw_mint(&w, "limit", limit);
		base_jw_mint(&w, "waiting", l->waiting);
		base_jw_mint(&w, "delayed", l->members - l->waiting);
		if (head) {
			base_jw_mint(&w, "next", (int64_t)head->id);
			base_jw_mint(&w, "since_ms", core_run_extra(head)->ticket->since_ms);
		}
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	base_jw_mbool(&w, "more", more);
	base_jw_end_obj(&w);
	return base_buf_failed(ret);
}
