#include "sim/sim_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Events between flows, a second time: who waits hears the first publication that is for it, and once; who is started by a
 * topic is started once for each; nobody hears what is not for them. All that a publication does, it does in its commit,
 * but for those that event_published says are told later (`more`).
 */

enum { FLOWS_MAX = 8 };

struct wait {
	struct wait *next;
	uint64_t run, seq, heard; /* heard: the publication that it must be told of */
	uint32_t step;
	struct base_str pattern;
};
struct publication {
	uint64_t seq;
	int64_t time_ms;
	bool more;
	struct base_str topic, payload;
	struct base_str flow[FLOWS_MAX]; /* that it must start, and whether it has */
	bool started[FLOWS_MAX], may_refuse[FLOWS_MAX];
	unsigned flows;
};
struct trigger {
	struct base_str flow, pattern;
	bool paused, gone;
};
struct sim_events {
	struct wait *waits;
	struct base_idmap *publications;
	struct base_names *keys, *triggers, *rejects; /* rejects: flows that may refuse a start */
	struct publication *last;
};

static void broken(struct sim *s, const char *what, uint64_t run, uint64_t step)
{
	sim_broken(s, SIM_SAFETY, "event", "event %llu: %s (run %llu, step %llu)",
		(unsigned long long)s->audit.seq, what, (unsigned long long)run, (unsigned long long)step);
}

static struct sim_events *events_of(struct sim *s)
{
	struct sim_events *e = s->audit.events;

	if (!e) {
		e = s->audit.events = sim_alloc(s, sizeof(*e));
		BASE_CHECK(base_idmap_new(&e->publications) == 0 && base_names_new(&e->keys) == 0 &&
			   base_names_new(&e->triggers) == 0 && base_names_new(&e->rejects) == 0);
	}
	return e;
}

/* "order.*" is all below order, "*" is all. */
static bool hears(struct base_str pattern, struct base_str topic)
{
	if (pattern.len && pattern.ptr[pattern.len - 1] == '*')
		return topic.len >= pattern.len - 1 && memcmp(topic.ptr, pattern.ptr, pattern.len - 1) == 0;
	return base_str_eq(pattern, topic);
}

bool sim_event_seen(struct sim *s, uint64_t id)
{
	return base_idmap_get(events_of(s)->publications, id) != NULL;
}

/* --- who waits --- */

static struct base_str topic_of(struct sim *s, struct base_str args)
{
	struct base_json *doc;
	struct base_str topic;

	BASE_CHECK(base_json_parse(args, &doc, NULL) == 0);
	topic = sim_dup(s, base_jv_str(base_jv_get(base_json_root(doc), "topic")));
	base_json_free(doc);
	return topic;
}

static void called(struct sim *s, const struct core_step_called *ev)
{
	struct sim_events *e = events_of(s);
	struct wait *w;

	if (!base_str_is(ev->action, "event.wait") || ev->status != CORE_STEP_WAITING)
		return;
	w = sim_alloc(s, sizeof(*w));
	*w = (struct wait){e->waits, ev->run, s->audit.seq, 0, ev->step, topic_of(s, ev->args.data)};
	e->waits = w;
}

static void over(struct sim *s, uint64_t run)
{
	struct wait **at = &events_of(s)->waits;

	while (*at)
		if ((*at)->run == run)
			*at = (*at)->next;
		else
			at = &(*at)->next;
}

static void check_heard(struct sim *s, const struct wait *w, struct base_str result)
{
	const struct publication *p;
	struct base_json *doc;
	struct base_jv root;
	struct base_buf b;

	BASE_CHECK(base_json_parse(result, &doc, NULL) == 0);
	root = base_json_root(doc);
	if (base_jv_bool(base_jv_get(root, "timeout"), false)) {
		if (w->heard)
			broken(s, "a wait ends by its time, though what it waits for was published", w->run,
				w->step);
		base_json_free(doc);
		return;
	}
	p = base_idmap_get(events_of(s)->publications, (uint64_t)base_jv_int(base_jv_get(root, "id"), 0));
	if (!p || !w->heard || p->seq < w->heard || !hears(w->pattern, p->topic))
		broken(s, "a wait hears what is not for it", w->run, w->step);
	base_buf_init(&b, 1 << 20);
	base_jv_write(base_jv_get(root, "payload"), &b);
	if (!base_str_eq(base_buf_view(&b), p->payload) ||
		base_jv_int(base_jv_get(root, "at"), 0) != p->time_ms ||
		!base_str_eq(base_jv_str(base_jv_get(root, "topic")), p->topic))
		broken(s, "a wait hears something else than was published", w->run, w->step);
	base_buf_done(&b);
	base_json_free(doc);
}

static void ended(struct sim *s, uint64_t run, uint32_t step, const struct base_str *result)
{
	for (struct wait **at = &events_of(s)->waits; *at; at = &(*at)->next)
		if ((*at)->run == run && (*at)->step == step) {
			if (result)
				check_heard(s, *at, *result);
			*at = (*at)->next;
			return;
		}
}

/* --- who is started --- */

static void trigger_set(struct sim *s, const struct core_schedule_set *ev)
{
	struct trigger *t = base_names_get(events_of(s)->triggers, ev->name);
	struct base_json *doc;

	BASE_CHECK(base_json_parse(ev->spec, &doc, NULL) == 0);
	if (!t) {
		t = sim_alloc(s, sizeof(*t));
		BASE_CHECK(base_names_put(events_of(s)->triggers, sim_dup(s, ev->name), t) == 0);
	}
	t->gone = false;
	t->flow = sim_dup(s, ev->flow);
	t->pattern = sim_dup(s, base_jv_str(base_jv_get(base_json_root(doc), "event")));
	base_json_free(doc);
}

static void trigger_gone(struct sim *s, struct base_str name)
{
	struct trigger *t = base_names_get(events_of(s)->triggers, name);

	t->gone = true;
	t->paused = false;
}

/* A lane that rejects refuses what it has no room for. */
static void deployed(struct sim *s, const struct core_flow_deployed *ev)
{
	bool rejects = memmem(ev->spec.ptr, ev->spec.len, "\"reject\"", 8) != NULL;

	if (rejects)
		BASE_CHECK(base_names_put(events_of(s)->rejects, sim_dup(s, ev->flow), s) == 0);
	else
		base_names_remove(events_of(s)->rejects, ev->flow);
}

static void expect(struct sim *s, struct publication *p, struct base_str flow)
{
	for (unsigned i = 0; i < p->flows; i++)
		if (base_str_eq(p->flow[i], flow))
			return;
	BASE_CHECK(p->flows < FLOWS_MAX);
	p->may_refuse[p->flows] = base_names_get(events_of(s)->rejects, flow) != NULL;
	p->flow[p->flows++] = flow;
}

static void published(struct sim *s, const struct core_event_published *ev, int64_t time_ms)
{
	struct sim_events *e = events_of(s);
	struct publication *p = sim_alloc(s, sizeof(*p));
	struct base_str name = BASE_STR_NONE;
	void *value;

	*p = (struct publication){.seq = s->audit.seq,
		.time_ms = time_ms,
		.more = ev->more,
		.topic = sim_dup(s, ev->topic),
		.payload = sim_dup(s, ev->payload.data)};
	BASE_CHECK(base_idmap_put(e->publications, p->seq, p) == 0);
	if (ev->key.len && base_names_get(e->keys, ev->key))
		broken(s, "a key publishes twice", ev->run, ev->step);
	if (ev->key.len)
		BASE_CHECK(base_names_put(e->keys, sim_dup(s, ev->key), p) == 0);
	for (struct wait *w = e->waits; w; w = w->next)
		if (!w->heard && hears(w->pattern, p->topic))
			w->heard = p->seq;
	for (bool first = true; base_names_seek(e->triggers, name, first, &name, &value); first = false) {
		const struct trigger *t = value;

		if (!t->gone && !t->paused && t->pattern.len && hears(t->pattern, p->topic))
			expect(s, p, t->flow);
	}
	e->last = p;
}

static void started(struct sim *s, const struct core_run_started *ev)
{
	struct publication *p = events_of(s)->last;
	char key[160];

	if (!base_str_starts(ev->trigger, BASE_STR("event/")) || ev->forked_from || ev->previous)
		return;
	snprintf(key, sizeof(key), "event/%llu/%.*s", (unsigned long long)(p ? p->seq : 0),
		BASE_STR_ARG(ev->flow));
	if (!p || !base_str_is(ev->key, key))
		broken(s, "a run is started by an event that is not the one just published", ev->run, 0);
	for (unsigned i = 0; i < p->flows; i++)
		if (base_str_eq(p->flow[i], ev->flow) && !p->started[i]) {
			p->started[i] = true;
			return;
		}
	broken(s, "a flow is started by what it does not hear, or twice", ev->run, 0);
}

/* --- all who had to hear have heard --- */

static void check_last(struct sim *s, const struct publication *p)
{
	for (unsigned i = 0; i < p->flows; i++)
		if (!p->started[i] && !p->may_refuse[i])
			broken(s, "a flow is not started by what it hears", 0, i);
}

void sim_audit_events_commit(struct sim *s)
{
	struct sim_events *e = events_of(s);

	if (e->last)
		check_last(s, e->last);
	e->last = NULL;
	for (const struct wait *w = e->waits; w; w = w->next) {
		const struct publication *p = w->heard ? base_idmap_get(e->publications, w->heard) : NULL;

		if (p && !p->more)
			broken(s, "a run does not hear what it waits for", w->run, w->step);
	}
}

static void delivered(struct sim *s, uint64_t event)
{
	for (const struct wait *w = events_of(s)->waits; w; w = w->next)
		if (w->heard == event)
			broken(s, "a run was not told of what was told to all", w->run, w->step);
}

void sim_audit_events(struct sim *s, const struct core_record *rec, const union core_event_any *ev)
{
	switch (rec->type) {
	case CORE_EV_STEP_CALLED:
		called(s, &ev->step_called);
		break;
	case CORE_EV_STEP_DONE:
		ended(s, ev->step_done.run, ev->step_done.step, &ev->step_done.result.data);
		break;
	case CORE_EV_STEP_FAILED:
		ended(s, ev->step_failed.run, ev->step_failed.step, NULL);
		break;
	case CORE_EV_RUN_ENDED:
		over(s, ev->run_ended.run);
		break;
	case CORE_EV_ROLLBACK_STARTED:
		if (ev->rollback_started.then)
			over(s, ev->rollback_started.run);
		break;
	case CORE_EV_FLOW_DEPLOYED:
		deployed(s, &ev->flow_deployed);
		break;
	case CORE_EV_SCHEDULE_SET:
		trigger_set(s, &ev->schedule_set);
		break;
	case CORE_EV_SCHEDULE_REMOVED:
		trigger_gone(s, ev->schedule_removed.name);
		break;
	case CORE_EV_SCHEDULE_PAUSED:
		((struct trigger *)base_names_get(events_of(s)->triggers, ev->schedule_paused.name))->paused =
			ev->schedule_paused.paused;
		break;
	case CORE_EV_EVENT_PUBLISHED:
		if (events_of(s)->last)
			check_last(s, events_of(s)->last);
		published(s, &ev->event_published, rec->time_ms);
		break;
	case CORE_EV_EVENT_DELIVERED:
		delivered(s, ev->event_delivered.event);
		break;
	case CORE_EV_RUN_STARTED:
		started(s, &ev->run_started);
		break;
	default:
		break;
	}
}
