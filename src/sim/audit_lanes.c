#include "sim/sim_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Flow control, a second time: how many of a lane go, who of those that wait is next, how far apart starts are, how many
 * wait at most, and that nobody waits where there is room. What a flow declares is read from the version that is deployed.
 */

/* SLACK: a start that was put off may be noticed that much later. */
enum { LEVEL_MS = 60000, SLACK_MS = 1000, FULL_FOR_MS = 60000 };

struct control {
	int64_t limit; /* 0: none */
	bool replaces, rejects;
	int64_t apart_ms; /* between two starts, 0: no rate */
};
/* The last start of a flow and key of its rate, and what was declared then. */
struct start {
	int64_t ms;
	const struct control *by;
};
struct sim_lanes {
	struct base_names *flows; /* struct control */
	struct base_names *began; /* flow and rate: struct start */
	int64_t active, queue;	  /* limits, 0: none that counts here */
	int64_t queued;
	int64_t full_ms;  /* when the queue was full last */
	int64_t last_ms;  /* of the commit before: whose time came since then may not be noticed yet */
	int64_t begun_ms; /* when aiosd began: much may be due at once then */
	bool moved;
};

static void broken(struct sim *s, const char *what, uint64_t run, uint64_t with)
{
	sim_broken(s, SIM_SAFETY, "lane", "event %llu: %s (run %llu, %llu)", (unsigned long long)s->audit.seq,
		what, (unsigned long long)run, (unsigned long long)with);
}

static struct sim_lanes *lanes_of(struct sim *s)
{
	struct sim_lanes *l = s->audit.lanes;

	if (!l) {
		l = s->audit.lanes = sim_alloc(s, sizeof(*l));
		BASE_CHECK(base_names_new(&l->flows) == 0 && base_names_new(&l->began) == 0);
	}
	return l;
}

static struct control *control_of(struct sim *s, struct base_str flow)
{
	static struct control none;
	struct control *k = base_names_get(lanes_of(s)->flows, flow);

	return k ? k : &none;
}

/* --- what is declared --- */

static void deployed(struct sim *s, const struct core_flow_deployed *ev)
{
	struct control *k = sim_alloc(s, sizeof(*k));
	struct base_json *doc;
	struct base_jv root, lane;
	struct base_str policy, rate;
	int n = 0;

	BASE_CHECK(base_json_parse(ev->spec, &doc, NULL) == 0);
	root = base_json_root(doc);
	lane = base_jv_get(root, "concurrency");
	policy = base_jv_str(base_jv_get(lane, "policy"));
	k->limit = base_jv_int(base_jv_get(lane, "limit"), 0);
	k->replaces = base_str_is(policy, "replace");
	k->rejects = base_str_is(policy, "reject");
	rate = sim_dup(s, base_jv_str(base_jv_get(base_jv_get(root, "rate"), "limit")));
	/* Up to ten in a unit of time are spread evenly over it. */
	if (rate.len && (n = atoi(rate.ptr)) > 0)
		k->apart_ms = (base_str_ends(rate, BASE_STR("/s")) ? 1000 : 60000) / n;
	base_json_free(doc);
	BASE_CHECK(base_names_put(lanes_of(s)->flows, sim_dup(s, ev->flow), k) == 0);
}

static void configured(struct sim *s, const struct core_config_set *ev)
{
	struct base_json *doc;
	struct base_jv limits;

	BASE_CHECK(base_json_parse(ev->config, &doc, NULL) == 0);
	limits = base_jv_get(base_json_root(doc), "limits");
	lanes_of(s)->active = base_jv_int(base_jv_get(limits, "active"), 0);
	lanes_of(s)->queue = base_jv_int(base_jv_get(limits, "queue"), 0);
	base_json_free(doc);
}

/* --- who begins --- */

/* A deploy can have given one a rate to wait for that the other does not know. */
static bool same_queue(const struct sim_run_seen *r, const struct sim_run_seen *o)
{
	return base_str_eq(o->flow, r->flow) && base_str_eq(o->lane, r->lane) &&
	       base_str_eq(o->rate, r->rate);
}

static bool same_lane(const struct sim_run_seen *r, const struct sim_run_seen *o)
{
	return base_str_eq(o->flow, r->flow) && base_str_eq(o->lane, r->lane);
}

/* Since when it waits: every level of priority is worth a minute. */
static int64_t waits_since(const struct sim_run_seen *r)
{
	return r->since_ms - r->priority * LEVEL_MS;
}

static bool goes_before(const struct sim_run_seen *o, const struct sim_run_seen *r)
{
	int64_t a = waits_since(o), b = waits_since(r);

	return a < b || (a == b && o->run < r->run);
}

static bool waits(struct sim *s, const struct sim_run_seen *r)
{
	const struct sim_lanes *l = lanes_of(s);

	return r->since_ms + SLACK_MS <= l->last_ms && l->begun_ms + SLACK_MS <= l->last_ms;
}

static unsigned count(struct sim *s, const struct sim_run_seen *r, bool waiting)
{
	const struct sim_audit *a = &s->audit;
	unsigned n = 0;

	for (size_t i = 0; i < a->open_count; i++) {
		const struct sim_run_seen *o = sim_run_seen(s, a->open[i]);

		if (same_lane(r, o))
			n += waiting ? o->queued && waits(s, o) : !o->queued;
	}
	return n;
}

/* It goes beside those that compute, or are just being told something. */
static unsigned awake(struct sim *s)
{
	const struct sim_audit *a = &s->audit;
	unsigned n = 0;

	for (size_t i = 0; i < a->open_count; i++) {
		const struct sim_run_seen *r = sim_run_seen(s, a->open[i]);
		bool waits = false, sent = false;

		for (uint32_t k = 0; k < r->steps; k++) {
			waits |= !r->step[k].ended;
			sent |= !r->step[k].ended && r->step[k].status == CORE_STEP_SENT;
		}
		n += !r->queued && !r->paused && !r->parked && !r->stopping && (!waits || sent);
	}
	return n;
}

static void check_rate(struct sim *s, const struct sim_run_seen *r, int64_t time_ms)
{
	const struct control *k = control_of(s, r->flow);
	char name[160];
	struct start *last;

	if (!r->rate.len)
		return;
	snprintf(name, sizeof(name), "%.*s/%.*s", BASE_STR_ARG(r->flow), BASE_STR_ARG(r->rate));
	last = base_names_get(lanes_of(s)->began, base_str_of(name));
	if (!last) {
		last = sim_alloc(s, sizeof(*last));
		BASE_CHECK(base_names_put(lanes_of(s)->began, base_str_of(name), last) == 0);
	} else if (k->apart_ms && time_ms < last->ms + k->apart_ms - 1 && last->by == k) {
		broken(s, "runs begin faster than their rate", r->run, (uint64_t)(time_ms - last->ms));
	}
	*last = (struct start){time_ms, k};
}

/* `r` has just begun. A child that begins at once has the place of its parent, which waits for it. */
static void begins(struct sim *s, const struct sim_run_seen *r, int64_t time_ms, bool at_once)
{
	const struct sim_audit *a = &s->audit;
	const struct control *k = control_of(s, r->flow);

	check_rate(s, r, time_ms);
	if (r->lane.len && k->limit && count(s, r, false) > k->limit)
		broken(s, "more runs than its lane has room for have begun", r->run, (uint64_t)k->limit);
	for (size_t i = 0; i < a->open_count; i++) {
		const struct sim_run_seen *o = sim_run_seen(s, a->open[i]);

		if (o->queued && same_queue(r, o) && waits(s, o) && goes_before(o, r) &&
			!(at_once && r->parent))
			broken(s, "a run begins before one that waits in front of it", r->run, o->run);
	}
}

static void started(struct sim *s, const struct core_run_started *ev, int64_t time_ms)
{
	const struct sim_run_seen *from = ev->forked_from ? sim_run_seen(s, ev->forked_from) : NULL;
	struct sim_run_seen *r = sim_run_seen(s, ev->run);
	struct sim_lanes *l = lanes_of(s);

	r->since_ms = ev->begin_ms > time_ms ? ev->begin_ms : time_ms;
	r->priority = ev->priority;
	r->rate = sim_dup(s, ev->rate);
	/* What is restarted waits in the place of what was cancelled for that. */
	if (ev->queued && l->queue && l->queued >= l->queue && !(from && from->outcome == CORE_CANCELLED))
		broken(s, "more runs wait than may wait", r->run, (uint64_t)l->queued);
	l->queued += ev->queued;
	if (!ev->queued && !ev->previous && !r->own)
		begins(s, r, time_ms, true);
}

static void admitted(struct sim *s, uint64_t run, int64_t time_ms)
{
	const struct sim_run_seen *r = sim_run_seen(s, run);
	struct sim_lanes *l = lanes_of(s);

	l->queued--;
	begins(s, r, time_ms, false);
	if (l->active && awake(s) > l->active)
		broken(s, "more runs are awake than may be", run, awake(s));
}

void sim_audit_lanes(struct sim *s, const struct core_record *rec, const union core_event_any *ev)
{
	struct sim_lanes *l = lanes_of(s);

	switch (rec->type) {
	case CORE_EV_FLOW_DEPLOYED:
		deployed(s, &ev->flow_deployed);
		break;
	case CORE_EV_ENGINE_STARTED:
		l->begun_ms = rec->time_ms;
		break;
	case CORE_EV_CONFIG_SET:
		configured(s, &ev->config_set);
		break;
	case CORE_EV_RUN_STARTED:
		started(s, &ev->run_started, rec->time_ms);
		break;
	case CORE_EV_RUN_ADMITTED:
		admitted(s, ev->run_admitted.run, rec->time_ms);
		break;
	case CORE_EV_RUN_ENDED:
		l->queued -= sim_run_seen(s, ev->run_ended.run)->queued;
		break;
	default:
		return;
	}
	l->moved = true;
	if (l->queue && l->queued >= l->queue)
		l->full_ms = s->now / 1000 + 1;
}

/* --- after a commit --- */

static void check_waiting(struct sim *s, const struct sim_run_seen *r)
{
	const struct control *k = control_of(s, r->flow);
	unsigned waiting = count(s, r, true), going = count(s, r, false);
	bool room = !r->lane.len || !k->limit || going < k->limit;

	/* While it stops aiosd admits nobody any more: its next life does. */
	if (room && !k->apart_ms && !lanes_of(s)->active && !(s->engine && s->engine->stopping))
		broken(s, "a run waits where there is room", r->run, going);
	if (!r->lane.len || !k->limit)
		return;
	if (k->replaces && (waiting > 1 || !room))
		broken(s, "a run waits that should have replaced another", r->run, waiting);
	if (k->rejects && going + waiting > k->limit)
		broken(s, "a run waits that should have been rejected", r->run, waiting);
}

void sim_audit_lanes_commit(struct sim *s)
{
	const struct sim_audit *a = &s->audit;
	struct sim_lanes *l = lanes_of(s);

	for (size_t i = 0; l->moved && l->queued && i < a->open_count; i++) {
		const struct sim_run_seen *r = sim_run_seen(s, a->open[i]);

		if (r->queued && waits(s, r))
			check_waiting(s, r);
	}
	l->moved = false;
	l->last_ms = a->time_ms;
}

/* What is not durable yet may fill it, and be lost; an event is for all flows that it starts, or for none. */
bool sim_queue_was_full(struct sim *s, bool event)
{
	int64_t for_events = event ? 2 : 0;
	const struct sim_lanes *l = lanes_of(s);

	return s->disk_failed || (l->full_ms && l->full_ms + FULL_FOR_MS > s->now / 1000) ||
	       (l->queue && l->queued + for_events >= l->queue);
}
