/*
 * Why a run waits: since when, until when, and what would wake it. In words, from the state; what the state does not
 * hold (when a step was asked for, which failure was the last) is read at positions that it names.
 */
#include <errno.h>
#include <string.h>

#include "base/money.h"
#include "core/undo_int.h"

struct why {
	const struct core *c;
	const struct core_run *run;
	int64_t now_ms;
	core_read_fn read;
	void *userdata;
	struct base_jw w;
};

/* One reason; the texts grow while it is found. */
struct reason {
	const char *kind;
	struct base_buf text, wakes;
	int64_t since, until, limit;
	uint64_t gate, child;
};

static void reason_init(struct reason *r)
{
	*r = (struct reason){.kind = "step"};
	base_buf_init(&r->text, 1 << 20);
	base_buf_init(&r->wakes, 1 << 16);
}

static void reason_done(struct reason *r)
{
	base_buf_done(&r->text);
	base_buf_done(&r->wakes);
}

static bool read_at(const struct why *y, uint64_t seq, struct core_record *ret)
{
	return seq && y->read && y->read(y->userdata, seq, ret);
}

static int64_t time_at(const struct why *y, uint64_t seq)
{
	struct core_record rec;

	return read_at(y, seq, &rec) ? rec.time_ms : 0;
}

static void put_reason(struct why *y, const struct reason *r)
{
	base_jw_mcstr(&y->w, "kind", r->kind);
	base_jw_mstr(&y->w, "text", base_buf_view(&r->text));
	if (r->since)
		base_jw_mint(&y->w, "since", r->since);
	if (r->until)
		base_jw_mint(&y->w, "until", r->until);
	if (r->limit)
		base_jw_mint(&y->w, "limit", r->limit);
	if (r->gate)
		base_jw_mint(&y->w, "gate", (int64_t)r->gate);
	if (r->child)
		base_jw_mint(&y->w, "child", (int64_t)r->child);
	base_jw_mstr(&y->w, "wakes", base_buf_view(&r->wakes));
}

/* The message of a problem, or the problem itself. */
static void put_problem(struct base_buf *b, struct base_str problem)
{
	struct base_json *doc;
	struct base_str text;

	if (base_json_parse(problem, &doc, NULL) < 0)
		return;
	text = base_jv_str(base_jv_get(base_json_root(doc), "message"));
	base_buf_str(b, text.len ? text : problem);
	base_json_free(doc);
}

/* --- waits inside the house --- */

static const char *expiry_word(const struct core_gate *g)
{
	if (base_str_is(g->on_expiry, "approve"))
		return "it counts as approved";
	if (base_str_is(g->on_expiry, "value"))
		return "the flow goes on with what is shown";
	return "it counts as denied";
}

static void by_gate(struct why *y, struct reason *r, uint64_t id, const char *what)
{
	const struct core_gate *g = core_gate_find(y->c, id);

	r->kind = "gate";
	r->gate = id;
	if (!g) {
		base_buf_printf(&r->text, "%s waits for gate %llu", what, (unsigned long long)id);
		return;
	}
	r->since = g->opened_ms;
	r->until = g->expires_ms;
	base_buf_printf(&r->text, "%s waits for a person at gate %llu: %.*s", what, (unsigned long long)id,
		BASE_STR_ARG(g->title));
	if (g->rule.len)
		base_buf_printf(&r->text, " (%.*s)", BASE_STR_ARG(g->rule));
	if (g->expires_ms)
		base_buf_printf(&r->text, "; if nobody answers in time, %s", expiry_word(g));
	if (base_str_is(g->kind, "doubt"))
		base_buf_printf(&r->wakes, "aios settle %llu --happened | --send | --give-up",
			(unsigned long long)id);
	else
		base_buf_printf(&r->wakes, "aios approve %llu, or aios deny %llu", (unsigned long long)id,
			(unsigned long long)id);
	if (g->terms.approvers.count || g->terms.need > 1 || g->asked)
		base_buf_printf(&r->wakes, ": %u must agree of those who may decide (aios gates %llu)",
			g->terms.need, (unsigned long long)id);
	else
		base_buf_cstr(&r->wakes, ": by the operator");
}

static const char *state_word(const struct core_run *r)
{
	static const char *const words[] = {[CORE_RUN_ACTIVE] = "under way",
		[CORE_RUN_PARKED] = "parked",
		[CORE_RUN_ENDED] = "over",
		[CORE_RUN_QUEUED] = "queued",
		[CORE_RUN_PAUSED] = "paused",
		[CORE_RUN_UNDOING] = "being undone"};

	return words[r->state];
}

static void by_child(struct why *y, struct reason *r, uint64_t id)
{
	const struct core_run *child = core_run_find(y->c, id);

	r->kind = "child";
	r->child = id;
	base_buf_printf(&r->text, "waits for run %llu", (unsigned long long)id);
	if (child)
		base_buf_printf(&r->text, " of %.*s, which is %s: aios why %llu",
			BASE_STR_ARG(child->flow ? child->flow->name : core_word_text(child->as)),
			state_word(child), (unsigned long long)id);
	base_buf_printf(&r->wakes, "the end of run %llu", (unsigned long long)id);
}

/* A member of the arguments that a step was asked for with; a view into `doc`, which the caller frees. */
static struct base_str arg_of(
	const struct why *y, const struct core_step *s, const char *name, struct base_json **ret_doc)
{
	struct core_step_called ev;
	struct core_record rec;

	*ret_doc = NULL;
	if (!read_at(y, s->seq, &rec) || core_step_called_get(rec.body, &ev) < 0 ||
		!base_blob_is_inline(&ev.args) || base_json_parse(ev.args.data, ret_doc, NULL) < 0)
		return BASE_STR_NONE;
	return base_jv_str(base_jv_get(base_json_root(*ret_doc), name));
}

static void by_event(struct why *y, struct reason *r, const struct core_step *s)
{
	struct base_json *doc;
	struct base_str topic = arg_of(y, s, "topic", &doc);

	r->kind = "event";
	base_buf_printf(&r->text, "waits for an event of the topic %.*s", BASE_STR_ARG(topic));
	base_buf_printf(&r->wakes, "aios publish %.*s, or a flow that publishes it", BASE_STR_ARG(topic));
	base_json_free(doc);
}

static void because_waiting(struct why *y, struct reason *r, const struct core_step *s)
{
	const struct core_open *o = s->open;
	struct base_str name = o->action->name;

	r->since = time_at(y, s->seq);
	r->until = o->due_ms;
	if (base_str_is(name, "run.wait")) {
		by_child(y, r, o->child);
		r->kind = "run";
	} else if (o->gate) {
		by_gate(y, r, o->gate, "the flow");
	} else if (o->child) {
		by_child(y, r, o->child);
	} else if (base_str_is(name, "timer.sleep")) {
		r->kind = "timer";
		base_buf_cstr(&r->text, "sleeps");
		base_buf_cstr(&r->wakes, "the clock");
	} else if (base_str_is(name, "signal.wait")) {
		r->kind = "signal";
		base_buf_printf(
			&r->text, "waits for the signal %.*s", BASE_STR_ARG(core_word_text(o->signal)));
		base_buf_printf(&r->wakes, "aios signal %llu %.*s [JSON]", (unsigned long long)y->run->id,
			BASE_STR_ARG(core_word_text(o->signal)));
	} else if (base_str_is(name, "event.wait")) {
		by_event(y, r, s);
	} else {
		base_buf_printf(&r->text, "waits for %.*s", BASE_STR_ARG(name));
	}
	if (o->due_ms && !base_str_is(name, "timer.sleep"))
		base_buf_cstr(&r->wakes, "; when its time is over it goes on without");
}

/* --- effects --- */

/* Text: "mail.send: attempt 2 failed: …; the next is not before its time". */
static void by_backoff(struct why *y, struct reason *r, const struct core_open *o)
{
	struct core_step_retry ev;
	struct core_record rec;

	r->kind = o->effect->mode == 1 ? "lookup" : "backoff";
	if (o->effect->mode == 1)
		base_buf_printf(&r->text, "%.*s may have happened: the outside is asked whether it did",
			BASE_STR_ARG(o->action->name));
	else
		base_buf_printf(&r->text, "%.*s failed %u times and is tried again",
			BASE_STR_ARG(o->action->name), o->effect->failures);
	if (read_at(y, o->effect->seq_retry, &rec) && core_step_retry_get(rec.body, &ev) == 0) {
		r->since = rec.time_ms;
		base_buf_printf(&r->text, "; attempt %u: ", ev.attempt);
		put_problem(&r->text, ev.problem);
	}
	base_buf_cstr(&r->wakes, "the clock");
}

static const struct core_connector *connector_of(const struct core *c, const struct core_open *o)
{
	const struct core_connector *k = core_connector_find(c, o->action->connector);
	struct base_json *doc;

	if (!o->action->model || !o->effect->route.len || base_json_parse(o->effect->route, &doc, NULL) < 0)
		return k;
	k = core_connector_find(c, base_jv_str(base_jv_get(base_json_root(doc), "provider")));
	base_json_free(doc);
	return k;
}

static void because_held(struct why *y, struct reason *r, const struct core_step *s)
{
	const struct core_open *o = s->open;
	const struct core_connector *k = connector_of(y->c, o);

	r->since = time_at(y, s->seq);
	r->until = o->due_ms;
	if (y->c->frozen && !o->action->internal) {
		r->kind = "freeze";
		r->until = 0;
		base_buf_printf(&r->text, "%.*s is held: aios is frozen, nothing goes out",
			BASE_STR_ARG(o->action->name));
		base_buf_cstr(&r->wakes, "aios thaw");
	} else if (o->due_ms == CORE_NEVER_MS) {
		r->kind = "secret";
		r->until = 0;
		base_buf_printf(&r->text, "%.*s is held: it needs a secret, and the vault is locked",
			BASE_STR_ARG(o->action->name));
		base_buf_cstr(&r->wakes, "aios vault unlock");
	} else if (k && k->open_until_ms > y->now_ms) {
		r->kind = "breaker";
		if (k->open_until_ms > r->until)
			r->until = k->open_until_ms;
		base_buf_printf(&r->text,
			"%.*s is held: %.*s failed %u times in a row and is left alone for a while",
			BASE_STR_ARG(o->action->name), BASE_STR_ARG(k->name), k->fails);
		base_buf_cstr(&r->wakes, "the clock");
	} else if (o->effect->seq_retry && (o->effect->failures || o->effect->mode == 1)) {
		by_backoff(y, r, o);
	} else {
		r->kind = "rate";
		base_buf_printf(&r->text, "%.*s is held until its connector's rate limit has a place for it",
			BASE_STR_ARG(o->action->name));
		base_buf_cstr(&r->wakes, "the clock");
	}
}

static void because_sent(struct why *y, struct reason *r, const struct core_step *s)
{
	const struct core_open *o = s->open;

	(void)y;
	r->kind = "sent";
	r->since = o->effect->sent_ms;
	if (o->effect->attempt == 1 && o->action->timeout_ms)
		r->until = o->effect->sent_ms + o->action->timeout_ms;
	base_buf_printf(&r->text,
		o->effect->mode == 1 ? "the outside is asked whether %.*s happened (attempt %u)"
				     : "%.*s is under way (attempt %u): no answer has come yet",
		BASE_STR_ARG(o->action->name), o->effect->attempt);
	base_buf_cstr(&r->wakes, "its answer");
}

static void put_step(struct why *y, uint32_t step)
{
	const struct core_step *s = &y->run->step[step];
	const struct core_deadline *d = core_deadline_of(y->run, step);
	struct reason r;

	reason_init(&r);
	if (s->status == CORE_STEP_WAITING)
		because_waiting(y, &r, s);
	else if (s->status == CORE_STEP_HELD)
		because_held(y, &r, s);
	else if (s->status == CORE_STEP_SENT)
		because_sent(y, &r, s);
	else
		by_gate(y, &r, s->open->gate,
			s->status == CORE_STEP_DOUBT ? "an effect in doubt" : "an effect");
	if (s->status == CORE_STEP_DOUBT)
		r.kind = "doubt";
	r.limit = d && !d->passed ? d->when_ms : 0;
	base_jw_obj(&y->w);
	base_jw_mint(&y->w, "step", step);
	base_jw_mstr(&y->w, "action", s->open->action->name);
	put_reason(y, &r);
	base_jw_end_obj(&y->w);
	reason_done(&r);
}

/* --- the run itself --- */

static void because_paused(struct why *y, struct reason *r)
{
	struct core_run_paused ev;
	struct core_record rec;

	r->kind = "paused";
	base_buf_cstr(&r->text, " is paused");
	if (read_at(y, core_run_extra(y->run)->seq_stand, &rec) && core_run_paused_get(rec.body, &ev) == 0) {
		r->since = rec.time_ms;
		base_buf_printf(&r->text, " by %.*s%s%.*s", BASE_STR_ARG(ev.by), ev.reason.len ? ": " : "",
			BASE_STR_ARG(ev.reason));
	}
	base_buf_printf(&r->wakes, "aios resume %llu", (unsigned long long)y->run->id);
}

static void because_parked(struct why *y, struct reason *r)
{
	struct core_run_parked ev;
	struct core_record rec;

	r->kind = "parked";
	r->gate = core_run_extra(y->run)->park_gate;
	base_buf_cstr(&r->text, " is parked");
	if (read_at(y, core_run_extra(y->run)->seq_stand, &rec) && core_run_parked_get(rec.body, &ev) == 0) {
		r->since = rec.time_ms;
		base_buf_printf(&r->text, ": %.*s", BASE_STR_ARG(ev.why));
	}
	if (y->run->flags & CORE_RUN_UNDO) {
		base_buf_printf(&r->wakes, "a person: aios settle %llu --again | --skip | --give-up",
			(unsigned long long)r->gate);
		return;
	}
	base_buf_printf(&r->wakes,
		"a person: aios gates %llu shows what is wrong; aios resume %llu when it is mended",
		(unsigned long long)r->gate, (unsigned long long)y->run->id);
	base_buf_printf(&r->wakes, ", aios cancel %llu to give it up", (unsigned long long)y->run->id);
}

static void because_queued(struct why *y, struct reason *r)
{
	r->kind = "queued";
	r->since = y->run->started_ms;
	base_buf_cstr(&r->text, " has not begun: ");
	core_queue_why(y->c, y->run, y->now_ms, &r->text, &r->wakes, &r->until);
	if (core_run_extra(y->run)->ticket->since_ms > y->now_ms)
		r->kind = "delayed";
}

/* A rollback that may not begin: what may have happened in its range is not settled. */
static void because_unsettled(struct why *y, struct reason *r, const struct core_undo *u)
{
	for (uint32_t k = u->count; k > 0; k--) {
		const struct core_undoable *i = &u->item[k - 1];
		const struct core_open *o =
			core_step_open(core_step_find(core_run_find(y->c, i->run), i->step));

		if (i->state == CORE_UNDO_READY)
			continue;
		r->kind = "rollback_held";
		base_buf_printf(&r->text, " undoes nothing yet: step %u (%.*s) of run %llu %s", i->step,
			BASE_STR_ARG(y->c->action_names[i->action]), (unsigned long long)i->run,
			i->state == CORE_UNDO_OPEN ? "may have happened and must be settled first"
						   : "is being undone by another run");
		r->gate = o ? o->gate : 0;
		if (r->gate)
			base_buf_printf(&r->wakes, "aios settle %llu --happened | --give-up",
				(unsigned long long)r->gate);
		else
			base_buf_cstr(&r->wakes, "the answer of the outside");
		return;
	}
}

static void because_of_run(struct why *y, struct reason *r)
{
	const struct core_deadline *d = core_deadline_of(y->run, UINT32_MAX);
	const struct core_undo *u = core_undo_find(y->c, y->run->id);
	uint32_t open = y->run->open;

	base_buf_printf(&r->text, "run %llu of %.*s", (unsigned long long)y->run->id,
		BASE_STR_ARG(y->run->flow ? y->run->flow->name : core_word_text(y->run->as)));
	r->limit = d ? d->when_ms : 0;
	switch (y->run->state) {
	case CORE_RUN_PAUSED:
		because_paused(y, r);
		break;
	case CORE_RUN_PARKED:
		because_parked(y, r);
		break;
	case CORE_RUN_QUEUED:
		because_queued(y, r);
		break;
	case CORE_RUN_UNDOING:
		r->kind = "undoing";
		base_buf_printf(&r->text, " is being undone by run %llu, and ends then",
			(unsigned long long)u->rollback);
		base_buf_printf(&r->wakes, "aios why %llu", (unsigned long long)u->rollback);
		r->child = u->rollback;
		break;
	case CORE_RUN_ENDED:
		r->kind = "ended";
		base_buf_printf(&r->text, " is over; %u of its calls %s not settled yet", open,
			open == 1 ? "is" : "are");
		break;
	default:
		r->kind = open ? "waiting" : "running";
		if (!open && u && u->work && u->unsettled)
			because_unsettled(y, r, u);
		else if (open)
			base_buf_printf(&r->text, " waits for %u step%s", open, open == 1 ? "" : "s");
		else
			base_buf_cstr(&r->text, " does not wait: it runs now");
		break;
	}
}

int core_why_json(const struct core *c, uint64_t run, int64_t now_ms, core_read_fn read, void *userdata,
	struct base_buf *ret)
{
	struct why y = {.c = c,
		.run = core_run_find(c, run),
		.now_ms = now_ms,
		.read = read,
		.userdata = userdata,
		.w = base_jw_of(ret)};
	struct reason r;

	if (!y.run)
		return -ENOENT;
	reason_init(&r);
	because_of_run(&y, &r);
	base_jw_obj(&y.w);
	base_jw_mint(&y.w, "run", (int64_t)run);
	base_jw_mint(&y.w, "now", now_ms);
	put_reason(&y, &r);
	base_jw_key(&y.w, "waits");
	base_jw_arr(&y.w);
	for (uint32_t i = 0, left = y.run->open < CORE_WHY_MAX ? y.run->open : CORE_WHY_MAX;
		i < y.run->steps && left; i++)
		if (core_step_open(&y.run->step[i])) {
			put_step(&y, i);
			left--;
		}
	base_jw_end_arr(&y.w);
	if (y.run->open > CORE_WHY_MAX)
		base_jw_mint(&y.w, "more", y.run->open - CORE_WHY_MAX);
	base_jw_end_obj(&y.w);
	reason_done(&r);
	return base_buf_failed(ret);
}
