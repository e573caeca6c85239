#include "sim/sim_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A second reading of the log: each commit as it becomes durable, by rules that share nothing with the core but the
 * codec. What the log must never say is found here, and everything else that is checked asks here what is durable.
 */

static void broken(struct sim *s, const char *invariant, const char *what, uint64_t run, uint32_t step)
{
	sim_broken(s, SIM_SAFETY, invariant, "event %llu: %s (run %llu, step %u)",
		(unsigned long long)s->audit.seq, what, (unsigned long long)run, step);
}

int sim_audit_init(struct sim *s)
{
	struct sim_audit *a = &s->audit;

	return base_idmap_new(&a->runs) < 0 || base_idmap_new(&a->gates) < 0 ||
			       base_idmap_new(&a->tokens) < 0 || base_names_new(&a->keys) < 0 ||
			       base_names_new(&a->effects) < 0 || base_names_new(&a->schedules) < 0 ||
			       base_idmap_new(&a->ends) < 0 || base_idmap_new(&a->undone) < 0
		       ? -1
		       : 0;
}

struct sim_run_seen *sim_run_seen(struct sim *s, uint64_t run)
{
	return base_idmap_get(s->audit.runs, run);
}

struct sim_gate_seen *sim_gate_seen(struct sim *s, uint64_t gate)
{
	return base_idmap_get(s->audit.gates, gate);
}

bool sim_token_seen(struct sim *s, uint64_t token)
{
	return base_idmap_get(s->audit.tokens, token) != NULL;
}

static void list_add(struct sim *s, uint64_t **list, size_t *count, size_t *size, uint64_t id)
{
	if (*count == *size) {
		uint64_t *more;

		*size = *count ? *count * 2 : 64;
		more = sim_alloc(s, *size * sizeof(*more));
		if (*count)
			memcpy(more, *list, *count * sizeof(*more));
		*list = more;
	}
	(*list)[(*count)++] = id;
}

static void list_del(uint64_t *list, size_t *count, uint64_t id)
{
	for (size_t i = 0; i < *count; i++)
		if (list[i] == id) {
			memmove(list + i, list + i + 1, (*count - i - 1) * sizeof(*list));
			(*count)--;
			return;
		}
}

/* It was there and is decided, or went with its run. */
void sim_gate_gone(struct sim *s, uint64_t gate)
{
	list_del(s->audit.waiting, &s->audit.waiting_count, gate);
}

/* --- runs --- */

static void run_started(struct sim *s, const struct core_run_started *ev)
{
	struct sim_audit *a = &s->audit;
	struct sim_run_seen *r = sim_alloc(s, sizeof(*r)), *parent;
	const struct sim_run_seen *other = ev->key.len ? base_names_get(a->keys, ev->key) : NULL;

	if (sim_run_seen(s, ev->run))
		broken(s, "run.twice", "a run's number is used twice", ev->run, 0);
	if (other && other->run != ev->previous)
		broken(s, "key.twice", "a second run is started with a key that is known", ev->run, 0);
	r->run = ev->run;
	r->parent = ev->parent;
	r->previous = ev->previous;
	r->key = sim_dup(s, ev->key);
	r->input = ev->input_hash;
	r->input_text = sim_dup(s, ev->input.data);
	r->version = ev->version;
	r->dry = ev->flags & 1;
	r->forked_from = ev->forked_from;
	r->forked_steps = ev->forked_steps;
	r->flow = sim_dup(s, ev->flow);
	r->own = base_str_is(ev->flow, "aios:undo");
	r->lane = sim_dup(s, ev->lane);
	r->queued = ev->queued;
	r->begin_ms = ev->begin_ms;
	r->deadline_ms = ev->deadline_ms;
	r->parent_step = ev->parent_step;
	BASE_CHECK(base_idmap_put(a->runs, ev->run, r) == 0);
	if (ev->key.len)
		BASE_CHECK(base_names_put(a->keys, ev->key, r) == 0);
	parent = ev->parent ? sim_run_seen(s, ev->parent) : NULL;
	if (ev->parent && (!parent || parent->outcome))
		broken(s, "run.orphan", "a run is started for a parent that does not run", ev->run, 0);
	list_add(s, &a->open, &a->open_count, &a->open_size, ev->run);
	a->started++;
	s->result->runs++;
}

static struct sim_run_seen *open_run(struct sim *s, uint64_t run, const char *what)
{
	struct sim_run_seen *r = sim_run_seen(s, run);

	if (!r)
		broken(s, "run.unknown", what, run, 0);
	if (r->outcome)
		broken(s, "run.over", what, run, 0);
	return r;
}

/* Children first: nothing acts for a run that is gone. */
static void no_child(struct sim *s, const struct sim_run_seen *r)
{
	for (size_t i = 0; i < s->audit.open_count; i++) {
		const struct sim_run_seen *c = sim_run_seen(s, s->audit.open[i]);

		if (c->parent == r->run && c->parent_step < r->steps && !r->step[c->parent_step].ended &&
			base_str_is(r->step[c->parent_step].action, "run.call"))
			broken(s, "run.orphan", "a run ends before the run that it waits for", r->run,
				c->parent_step);
	}
}

static void run_admitted(struct sim *s, uint64_t run, int64_t time_ms)
{
	struct sim_run_seen *r = open_run(s, run, "a run that has ended begins");

	if (!r->queued)
		broken(s, "run.admitted", "a run begins twice", run, 0);
	if (time_ms < r->begin_ms)
		broken(s, "timer.early", "a run begins before its time", run, 0);
	r->queued = false;
}

static void run_forgotten(struct sim *s, uint64_t run)
{
	const struct sim_run_seen *r = sim_run_seen(s, run);

	if (!r || !r->outcome)
		broken(s, "run.forgotten", "a run is forgotten that has not ended", run, 0);
	if (r->key.len && base_names_get(s->audit.keys, r->key) == r)
		base_names_remove(s->audit.keys, r->key);
}

static void run_ended(struct sim *s, const struct core_run_ended *ev)
{
	struct sim_run_seen *r = open_run(s, ev->run, "a run ends twice");

	no_child(s, r);
	r->outcome = ev->outcome;
	r->next = ev->next;
	r->value = sim_dup(s, ev->value.data);
	if (memmem(ev->value.data.ptr, ev->value.data.len, "fenced", 6))
		broken(s, "fence", "a run ended as a worker said that did not have it", ev->run, 0);
	list_del(s->audit.open, &s->audit.open_count, ev->run);
	s->audit.ended++;
}

/* --- steps --- */

static struct sim_step_seen *open_step(struct sim *s, uint64_t run, uint32_t step, const char *what)
{
	struct sim_run_seen *r = sim_run_seen(s, run);

	if (!r || step >= r->steps)
		broken(s, "step.unknown", what, run, step);
	if (r->step[step].ended)
		broken(s, "step.over", what, run, step);
	return &r->step[step];
}

/* What ended somewhere in the log may be taken over by a fork. */
static void end_at(struct sim *s, const struct sim_step_seen *st)
{
	struct base_str *kept = sim_alloc(s, sizeof(*kept));

	*kept = st->result;
	BASE_CHECK(base_idmap_put(s->audit.ends, st->seq_end, kept) == 0);
}

static void order_add(struct sim *s, struct sim_run_seen *r, uint32_t step)
{
	uint32_t at = r->ended_steps;

	if (r->ended_steps == r->order_size) {
		uint32_t *more;

		r->order_size = r->order_size ? r->order_size * 2 : 32;
		more = sim_alloc(s, r->order_size * sizeof(*more));
		if (r->ended_steps)
			memcpy(more, r->order, r->ended_steps * sizeof(*more));
		r->order = more;
	}
	/* In the order of the log; what was taken over stands where it stood there. */
	for (; at && r->step[r->order[at - 1]].seq_end > r->step[step].seq_end; at--)
		r->order[at] = r->order[at - 1];
	r->order[at] = step;
	r->ended_steps++;
}

static void end_step(struct sim *s, uint64_t run, uint32_t step, bool ok, struct base_str result)
{
	struct sim_step_seen *st = open_step(s, run, step, "a step ends twice");
	struct sim_run_seen *r = sim_run_seen(s, run);

	st->ended = true;
	st->ok = ok;
	st->seq_end = s->audit.seq;
	/* A key of the flow's own that came to nothing may be used again. */
	if (!ok && base_str_find(st->key, ':') >= 0)
		base_names_remove(s->audit.effects, st->key);
	st->result = sim_dup(s, result);
	if (ok && base_str_is(st->action, "signal.wait"))
		sim_audit_signal_heard(s, r, st->detail, result);
	end_at(s, st);
	order_add(s, r, step);
}

static struct sim_step_seen *add_step(struct sim *s, struct sim_run_seen *r)
{
	if (r->steps == r->size) {
		struct sim_step_seen *more;

		r->size = r->size ? r->size * 2 : 16;
		more = sim_alloc(s, r->size * sizeof(*more));
		if (r->steps)
			memcpy(more, r->step, r->steps * sizeof(*more));
		r->step = more;
	}
	return &r->step[r->steps++];
}

/* The policy of the simulation (client.c), once more and from its text: over 100 a person is asked, over 1000 no. */
static void judge(struct sim *s, const struct core_step_called *ev, struct sim_step_seen *st)
{
	struct base_json *doc = NULL;
	bool leaves = ev->status == CORE_STEP_SENT || ev->status == CORE_STEP_HELD;
	int64_t amount;

	if (!base_str_starts(ev->action, BASE_STR("test.")) || base_json_parse(ev->args.data, &doc, NULL) < 0)
		return;
	amount = base_jv_int(base_jv_get(base_jv_get(base_json_root(doc), "value"), "amount"), 0);
	base_json_free(doc);
	st->amount = amount;
	if (s->audit.deny && amount > s->audit.deny && ev->status != CORE_STEP_FAILED)
		broken(s, "policy", "what is denied was not refused", ev->run, ev->step);
	if (amount > 100 && leaves && !ev->approval)
		broken(s, "policy", "what needs a person was not shown to one", ev->run, ev->step);
	if (ev->status == CORE_STEP_GATED && !st->gate)
		broken(s, "policy", "a step is held by no gate", ev->run, ev->step);
	if (ev->approval) {
		const struct sim_gate_seen *g = sim_gate_seen(s, ev->approval);

		if (!g || !g->decided || g->run != ev->run ||
			!(base_str_is(g->answer, "approve") || base_str_is(g->answer, "edit")))
			broken(s, "approval", "a call leaves by an approval that was not given", ev->run,
				ev->step);
		/* Each of the flows' approvals is for one call (program.c). */
		if (ev->status != CORE_STEP_FAILED && sim_gate_seen(s, ev->approval)->used++)
			broken(s, "approval", "an approval for one call is used twice", ev->run, ev->step);
	}
}

static void step_key(struct sim *s, const struct core_step_called *ev)
{
	uint64_t *where;

	if (!ev->key.len || ev->status == CORE_STEP_FAILED || ev->status == CORE_STEP_DONE)
		return;
	if (base_names_get(s->audit.effects, ev->key))
		broken(s, "effect.key", "two steps have the same effect key", ev->run, ev->step);
	where = sim_alloc(s, 2 * sizeof(*where));
	where[0] = ev->run;
	where[1] = ev->step;
	BASE_CHECK(base_names_put(s->audit.effects, ev->key, where) == 0);
}

static void step_called(struct sim *s, const struct core_step_called *ev, int64_t time_ms)
{
	struct sim_run_seen *r = open_run(s, ev->run, "a run that has ended makes a call");
	struct sim_step_seen *st;

	if (ev->step < r->forked_steps)
		broken(s, "fork", "a step that was to be taken over is asked for", ev->run, ev->step);

	(void)time_ms;
	if (r->paused || r->queued)
		broken(s, "run.held", "a run that is held makes a call", ev->run, ev->step);
	if (ev->step != r->steps)
		broken(s, "step.gap", "the steps of a run have a gap", ev->run, ev->step);
	if (memmem(ev->args.data.ptr, ev->args.data.len, "fenced", 6))
		broken(s, "fence", "a call of a worker counts that does not have the run", ev->run, ev->step);
	st = add_step(s, r);
	st->seq = s->audit.seq;
	st->status = ev->status;
	st->klass = ev->klass;
	st->action = sim_dup(s, ev->action);
	st->args = ev->args_hash;
	st->detail = sim_dup(s, ev->args.data);
	st->key = sim_dup(s, ev->key);
	st->gate = ev->gate;
	st->gated = ev->status == CORE_STEP_GATED;
	st->due_ms = ev->due_ms;
	st->limit_ms = ev->deadline_ms;
	judge(s, ev, st);
	step_key(s, ev);
	if (ev->status == CORE_STEP_WAITING && base_str_is(ev->action, "signal.wait"))
		sim_audit_signal_wait(s, r, ev->args.data);
	if (ev->status == CORE_STEP_SENT)
		st->sent = 1;
	if (ev->status == CORE_STEP_DONE || ev->status == CORE_STEP_FAILED)
		end_step(s, ev->run, ev->step, ev->status == CORE_STEP_DONE, ev->result.data);
}

static void step_sent(struct sim *s, const struct core_step_sent *ev, int64_t time_ms)
{
	struct sim_step_seen *st = open_step(s, ev->run, ev->step, "a step that has ended is sent");

	if (time_ms < st->retry_at_ms || (st->status == CORE_STEP_HELD && time_ms < st->due_ms))
		broken(s, "timer.early", "it is sent before its time", ev->run, ev->step);
	if (ev->attempt != st->sent + 1)
		broken(s, "attempt", "attempts are not counted one by one", ev->run, ev->step);
	if (st->gated && !st->approved)
		broken(s, "approval", "it is sent though its gate is not approved", ev->run, ev->step);
	if (s->audit.deny && st->amount > s->audit.deny)
		broken(s, "policy", "what is denied by now is sent", ev->run, ev->step);
	if (s->audit.frozen && st->klass)
		broken(s, "freeze", "it is released while aios is frozen", ev->run, ev->step);
	if (st->limit_ms && time_ms >= st->limit_ms && ev->mode == 0)
		broken(s, "limit", "it is sent behind its time limit", ev->run, ev->step);
	st->sent = ev->attempt;
	st->status = CORE_STEP_SENT;
	st->retry_at_ms = 0;
	st->over = sim_run_seen(s, ev->run)->outcome || sim_run_seen(s, ev->run)->stopping;
}

static void step_done(struct sim *s, const struct core_step_done *ev, int64_t time_ms)
{
	const struct sim_step_seen *st = open_step(s, ev->run, ev->step, "a step ends twice");

	if (st->status == CORE_STEP_WAITING && st->due_ms && time_ms < st->due_ms &&
		(base_str_is(st->action, "timer.sleep") ||
			memmem(ev->result.data.ptr, ev->result.data.len, "\"timeout\"", 9)))
		broken(s, "timer.early", "a wait ends before its time", ev->run, ev->step);
	end_step(s, ev->run, ev->step, true, ev->result.data);
}

/* By its time limit: not before, and not if it may have happened and can be found out. */
static void step_failed(struct sim *s, const struct core_step_failed *ev, int64_t time_ms)
{
	static const char limit[] = "within its time limit";
	const struct sim_step_seen *st = open_step(s, ev->run, ev->step, "a step fails that has ended");
	const struct sim_deed *d = sim_deed_of(s, st->key);

	if (memmem(ev->problem.ptr, ev->problem.len, "\"denied\"", 8) &&
		memmem(ev->problem.ptr, ev->problem.len, "was not sent", 12) && st->klass != CORE_READ && d &&
		(d->done || d->under_way))
		broken(s, "doubt", "what happened is said not to have been sent", ev->run, ev->step);

	if (!memmem(ev->problem.ptr, ev->problem.len, limit, sizeof(limit) - 1) ||
		st->status == CORE_STEP_WAITING) /* a child's problem may say so too */
		return;
	if (!st->limit_ms || time_ms < st->limit_ms)
		broken(s, "timer.early", "a time limit ends it before its time", ev->run, ev->step);
	if (st->status == CORE_STEP_SENT && (st->klass == CORE_LOOKUP || st->klass == CORE_ONCE) && d &&
		(d->done || d->under_way))
		broken(s, "doubt", "what may have happened is said to have failed", ev->run, ev->step);
}

/* Nobody is asked what aiosd was told. */
static void step_doubt(struct sim *s, const struct core_step_doubt *ev)
{
	struct sim_step_seen *st = open_step(s, ev->run, ev->step, "a step that has ended is in doubt");
	const struct sim_deed *d = sim_deed_of(s, st->key);

	if (d && d->told == s->life && s->up && st->klass == CORE_ONCE && s->audit.seq > d->told_seq)
		broken(s, "answer.lost", "a step is in doubt, and aiosd was told that it is done", ev->run,
			ev->step);
	st->status = CORE_STEP_DOUBT;
}

static void step_retry(struct sim *s, const struct core_step_retry *ev)
{
	struct sim_step_seen *st = open_step(s, ev->run, ev->step, "a step that has ended is tried again");

	if (st->klass == CORE_ONCE && ev->unknown)
		broken(s, "doubt", "what may have happened and happens once is to be sent again", ev->run,
			ev->step);
	if (st->klass == CORE_LOOKUP && ev->unknown && ev->mode != 1)
		broken(s, "doubt", "what may have happened is to be sent again, and nobody has asked",
			ev->run, ev->step);
	st->status = CORE_STEP_HELD;
	st->retry_at_ms = ev->at_ms;
	st->due_ms = 0;
}

static void step_taken(struct sim *s, const struct core_step_taken *ev)
{
	struct sim_run_seen *r = open_run(s, ev->run, "a run that has ended takes a step over");
	const struct base_str *result = base_idmap_get(s->audit.ends, ev->seq_end);
	struct sim_step_seen *st;

	if (ev->step != r->steps || ev->step >= r->forked_steps || !result)
		broken(s, "fork", "a fork takes over what is not there", ev->run, ev->step);
	st = add_step(s, r);
	st->taken = st->ended = true;
	st->ok = ev->status == CORE_STEP_DONE;
	st->status = ev->status;
	st->action = sim_dup(s, ev->action);
	st->seq = ev->seq;
	st->seq_end = ev->seq_end;
	st->result = *result;
	order_add(s, r, ev->step);
}

/* Only what was done is undone, and by a call that was done: the outside says so too. */
static void check_undone(struct sim *s, const struct core_step_undone *ev, const struct sim_run_seen *undo)
{
	const struct sim_run_seen *r = sim_run_seen(s, ev->of_run);
	const struct sim_step_seen *of, *by;
	const struct sim_deed *d;

	if (!r || ev->of_step >= r->steps || ev->undo_step >= undo->steps)
		broken(s, "undo", "a step is undone that is not there", ev->of_run, ev->of_step);
	of = &r->step[ev->of_step];
	by = &undo->step[ev->undo_step];
	if (!of->ended || !of->ok || of->seq != ev->seq || !by->ended || !by->ok)
		broken(s, "undo", "a step is undone that was not done, or by one that was not", ev->of_run,
			ev->of_step);
	d = sim_deed_of(s, of->key);
	if (of->sent && of->klass >= CORE_IDEMPOTENT && base_str_starts(of->action, BASE_STR("test.")) &&
		(!d || d->done != 1))
		broken(s, "undo", "what never happened is undone", ev->of_run, ev->of_step);
	d = sim_deed_of(s, by->key);
	if (by->sent && base_str_starts(by->action, BASE_STR("test.")) && (!d || d->done != 1))
		broken(s, "undo", "what is said to be undone is not", ev->undo, ev->undo_step);
}

/* Each step is undone once, the last begun first. */
static void step_undone(struct sim *s, const struct core_step_undone *ev)
{
	struct sim_run_seen *undo = sim_run_seen(s, ev->undo);

	if (!undo || !undo->own)
		broken(s, "undo", "a step is undone by a run that is not there for that", ev->run,
			ev->undo_step);
	if (ev->outcome != CORE_DONE)
		return;
	check_undone(s, ev, undo);
	if (base_idmap_get(s->audit.undone, ev->seq))
		broken(s, "undo", "a step is undone twice", ev->run, ev->undo_step);
	if (undo->undone && ev->seq > undo->undone)
		broken(s, "undo", "steps are not undone in reverse order", ev->run, ev->undo_step);
	undo->undone = ev->seq;
	BASE_CHECK(base_idmap_put(s->audit.undone, ev->seq, undo) == 0);
}

/* --- gates --- */

static void gate_opened(struct sim *s, const struct core_gate_opened *ev)
{
	struct sim_gate_seen *g = sim_alloc(s, sizeof(*g));

	if (sim_gate_seen(s, ev->gate))
		broken(s, "gate.twice", "a gate's number is used twice", ev->run, ev->step);
	*g = (struct sim_gate_seen){.gate = ev->gate,
		.run = ev->run,
		.step = ev->step,
		.shown = ev->shown,
		.expires_ms = ev->expires_ms,
		.approves = base_str_is(ev->on_expiry, "approve")};
	snprintf(g->kind, sizeof(g->kind), "%.*s", BASE_STR_ARG(ev->kind));
	BASE_CHECK(base_idmap_put(s->audit.gates, ev->gate, g) == 0);
	list_add(s, &s->audit.waiting, &s->audit.waiting_count, &s->audit.waiting_size, ev->gate);
	if (strcmp(g->kind, "retry") == 0 || strcmp(g->kind, "budget") == 0) {
		struct sim_step_seen *st =
			open_step(s, ev->run, ev->step, "a gate holds a step that has ended");

		st->gated = true;
		st->approved = false;
		st->gate = ev->gate;
	}
}

static void gate_decided(struct sim *s, const struct core_gate_decided *ev, int64_t time_ms)
{
	struct sim_gate_seen *g = sim_gate_seen(s, ev->gate);
	struct sim_run_seen *r = g ? sim_run_seen(s, g->run) : NULL;

	if (!g || g->decided)
		broken(s, "gate.decided", "a gate is decided twice, or was never there", g ? g->run : 0, 0);
	if (!base_hash_eq(&ev->shown, &g->shown))
		broken(s, "gate.shown", "what was decided is not what was shown", g->run, g->step);
	if (base_str_is(ev->by, "time") && (!g->expires_ms || time_ms < g->expires_ms))
		broken(s, "timer.early", "a gate expires before its time", g->run, g->step);
	if (base_str_is(ev->by, "time") && !g->approves && base_str_is(ev->answer, "approve"))
		broken(s, "gate.expiry", "a gate that nobody answered counts as approved", g->run, g->step);
	g->decided = true;
	g->answer = sim_dup(s, ev->answer);
	list_del(s->audit.waiting, &s->audit.waiting_count, ev->gate);
	if (r && g->step < r->steps && r->step[g->step].gate == g->gate &&
		base_str_is(ev->answer, "approve")) {
		r->step[g->step].approved = true;
		r->step[g->step].retry_at_ms = 0;
	}
	if (r && g->step < r->steps && base_str_is(ev->answer, "send"))
		r->step[g->step].retry_at_ms = 0;
	/* A person let it go, though its time limit was over: doubt, or attempts used up. */
	if (r && g->step < r->steps && time_ms >= r->step[g->step].limit_ms &&
		(strcmp(g->kind, "doubt") == 0 || strcmp(g->kind, "retry") == 0))
		r->step[g->step].limit_ms = 0;
}

/* --- the whole --- */

static void tokens(struct sim *s, const struct core_record *rec)
{
	const char *at = rec->body.ptr, *end = at + rec->body.len;

	while (at < end && (at = memmem(at, (size_t)(end - at), "tok=", 4))) {
		uint64_t n = 0;

		for (at += 4; at < end && *at >= '0' && *at <= '9'; at++)
			n = n * 10 + (uint64_t)(*at - '0');
		if (at < end && *at == ';')
			BASE_CHECK(base_idmap_put(s->audit.tokens, n, s) == 0);
	}
}

/* What the last rule denies (client.c). */
static void read_policy(struct sim *s, struct base_str text)
{
	const char *at = memmem(text.ptr, text.len, "huge", 4), *end = text.ptr + text.len;

	at = at ? memmem(at, (size_t)(end - at), "amount > ", 9) : NULL;
	s->audit.deny = at ? strtoll(at + 9, NULL, 10) : 0;
}

static void of_runs(struct sim *s, const struct core_record *rec, const union core_event_any *ev)
{
	switch (rec->type) {
	case CORE_EV_RUN_STARTED:
		run_started(s, &ev->run_started);
		break;
	case CORE_EV_RUN_ENDED:
		run_ended(s, &ev->run_ended);
		break;
	case CORE_EV_RUN_PARKED:
		open_run(s, ev->run_parked.run, "a run that has ended is parked")->parked = true;
		break;
	case CORE_EV_RUN_RESUMED:
		open_run(s, ev->run_resumed.run, "a run that has ended is resumed")->parked = false;
		sim_run_seen(s, ev->run_resumed.run)->paused = false;
		break;
	case CORE_EV_RUN_PAUSED:
		open_run(s, ev->run_paused.run, "a run that has ended is paused")->paused = true;
		break;
	case CORE_EV_RUN_ADMITTED:
		run_admitted(s, ev->run_admitted.run, rec->time_ms);
		break;
	case CORE_EV_RUN_FORGOTTEN:
		run_forgotten(s, ev->run_forgotten.run);
		break;
	case CORE_EV_RUN_MOVED:
		open_run(s, ev->run_moved.run, "a run that has ended is moved")->version =
			ev->run_moved.version;
		break;
	case CORE_EV_POLICY_SET:
		read_policy(s, ev->policy_set.policy);
		break;
	case CORE_EV_FROZEN:
		s->audit.frozen = true;
		break;
	case CORE_EV_THAWED:
		s->audit.frozen = false;
		break;
	case CORE_EV_ENGINE_STARTED:
		if (ev->engine_started.epoch != ++s->audit.epoch)
			broken(s, "epoch", "epochs are not counted one by one", 0, 0);
		break;
	default:
		break;
	}
}

static void event(struct sim *s, const struct core_record *rec, const union core_event_any *ev)
{
	switch (rec->type) {
	case CORE_EV_STEP_CALLED:
		step_called(s, &ev->step_called, rec->time_ms);
		break;
	case CORE_EV_STEP_SENT:
		step_sent(s, &ev->step_sent, rec->time_ms);
		break;
	case CORE_EV_STEP_DONE:
		step_done(s, &ev->step_done, rec->time_ms);
		break;
	case CORE_EV_STEP_FAILED:
		step_failed(s, &ev->step_failed, rec->time_ms);
		end_step(s, ev->step_failed.run, ev->step_failed.step, false, ev->step_failed.problem);
		break;
	case CORE_EV_STEP_RETRY:
		step_retry(s, &ev->step_retry);
		break;
	case CORE_EV_STEP_DOUBT:
		step_doubt(s, &ev->step_doubt);
		break;
	case CORE_EV_STEP_TAKEN:
		step_taken(s, &ev->step_taken);
		break;
	case CORE_EV_ROLLBACK_STARTED:
		if (ev->rollback_started.then)
			open_run(s, ev->rollback_started.run, "a run that has ended is taken back")
				->stopping = true;
		break;
	case CORE_EV_STEP_UNDONE:
		step_undone(s, &ev->step_undone);
		break;
	case CORE_EV_GATE_OPENED:
		gate_opened(s, &ev->gate_opened);
		break;
	case CORE_EV_GATE_DECIDED:
		gate_decided(s, &ev->gate_decided, rec->time_ms);
		break;
	default:
		of_runs(s, rec, ev);
		sim_audit_schedules(s, rec, ev);
		break;
	}
}

static void say_event(struct sim *s, const struct core_record *rec)
{
	struct base_buf b;

	base_buf_init(&b, 1 << 20);
	if (core_event_json(rec->type, rec->body, &b) == 0)
		sim_say(s, "  %llu %s %.*s", (unsigned long long)s->audit.seq, core_event_name(rec->type),
			(int)(b.len < 240 ? b.len : 240), b.ptr);
	base_buf_done(&b);
}

void sim_disk_appended(void *userdata, const struct log_commit *c)
{
	struct sim *s = userdata;
	struct sim_audit *a = &s->audit;
	union core_event_any ev;
	struct core_record rec;
	size_t at = 0;

	if (c->first_seq != a->seq + 1)
		broken(s, "log.gap", "the log has a gap", 0, 0);
	while (core_block_next(c->block, &at, &rec) == 1) {
		a->seq++;
		if (rec.time_ms < a->time_ms)
			broken(s, "log.time", "the log's time goes back", 0, 0);
		a->time_ms = rec.time_ms;
		if (core_event_get(rec.type, rec.body, &ev) < 0)
			broken(s, "log.event", "an event does not decode", 0, 0);
		if (s->opt->verbose)
			say_event(s, &rec);
		tokens(s, &rec);
		sim_audit_events(s, &rec, &ev);
		event(s, &rec, &ev);
		sim_audit_signals(s, &rec, &ev);
		sim_audit_lanes(s, &rec, &ev);
	}
	sim_audit_events_commit(s);
	sim_audit_lanes_commit(s);
	if (at != c->block.len || a->seq != c->first_seq + c->count - 1)
		broken(s, "log.count", "a commit has not the events that it says", 0, 0);
	sim_shadow(s, c);
	sim_trace(s, c->chain.b, sizeof(c->chain.b));
	s->result->events = a->seq;
}

/* --- frames that leave aiosd --- */

static void effect_leaves(struct sim *s, const struct wire_effect *f)
{
	const uint64_t *where = base_names_get(s->audit.effects, f->key);
	struct base_hash h = base_hash_of(f->args);
	struct sim_run_seen *r;
	struct sim_step_seen *st;

	if (!where)
		sim_broken(s, SIM_SAFETY, "effect.early", "key %.*s leaves before its step is durable",
			BASE_STR_ARG(f->key));
	r = sim_run_seen(s, where[0]);
	st = &r->step[where[1]];
	if (++st->handed > st->sent)
		broken(s, "effect.early", "an attempt leaves before its release is durable", where[0],
			(uint32_t)where[1]);
	st->handed = st->sent;
	if (!base_hash_eq(&st->args, &h))
		broken(s, "effect.args", "what leaves is not what was judged", where[0], (uint32_t)where[1]);
	if (st->ended)
		broken(s, "effect.over", "an attempt of a finished step leaves", where[0],
			(uint32_t)where[1]);
	if (core_is_frozen(s->engine->core))
		broken(s, "freeze", "an effect leaves while aios is frozen", where[0], (uint32_t)where[1]);
	if (f->mode == 0 && r->outcome == CORE_CANCELLED && !st->over)
		broken(s, "cancel", "an effect leaves for a run that was cancelled before", where[0],
			(uint32_t)where[1]);
}

void sim_audit_frame(struct sim *s, struct sim_proc *p, unsigned type, struct base_str body)
{
	struct wire_effect effect;
	struct wire_flow_start start;
	struct wire_flow_drop drop;
	struct sim_proc *owner;

	if (type == WIRE_EFFECT && wire_effect_get(body, &effect) == 0) {
		effect_leaves(s, &effect);
	} else if (type == WIRE_FLOW_START && wire_flow_start_get(body, &start) == 0) {
		owner = base_idmap_get(s->owners, start.run);
		if (owner && owner != p && owner->alive)
			sim_broken(s, SIM_SAFETY, "fence", "run %llu begins in a second worker",
				(unsigned long long)start.run);
		BASE_CHECK(base_idmap_put(s->owners, start.run, p) == 0);
	} else if (type == WIRE_FLOW_DROP && wire_flow_drop_get(body, &drop) == 0) {
		if (base_idmap_get(s->owners, drop.run) == p)
			base_idmap_remove(s->owners, drop.run);
	}
}
