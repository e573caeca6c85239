/*
 * Events between flows: a publication wakes the runs that wait for its topic and starts the flows that are declared to be
 * started by it (`on: [{event: "order.*"}]`).
 *
 * Who waits stands in an index by pattern, in the order in which they began to wait, so that a publication looks at those
 * it is for and at no others. What one decision wakes is bounded: event_published says that there is `more`, each tick
 * wakes as many again, event_delivered ends it. Flows are started in the first decision, all or none.
 *
 * Invariants (core_check walks them):
 *  P1  Every entry of the index is an open step that waits for an event, under its own pattern and position.
 *  P2  A delivery is in the state from its event_published with `more` to its event_delivered.
 */
#include <string.h>

#include "base/check.h"
#include "core/schedule.h"

enum {
	TOPIC_MAX = 128,
	WAKES_MAX = 100,      /* runs that one decision wakes */
	EVENT_DEPTH_MAX = 32, /* flows that start one another by events */
	PAYLOAD_DEPTH_MAX = BASE_JSON_DEPTH_MAX - 2,
	STARTS_BYTES_MAX = 256 << 20, /* of input, of all runs that one event starts */
};

/* A publication of which not all have heard. */
struct core_delivery {
	uint64_t seq;
	int64_t time_ms;
	struct base_str topic;
	uint8_t labels;
};

/* --- topics --- */

/* "order.paid": words of letters, digits, _ and - with dots between. */
static bool topic_valid(struct base_str s)
{
	bool fresh = true;

	if (s.len == 0 || s.len > TOPIC_MAX)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (c == '.' ? fresh
			     : !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
				       c == '_' || c == '-'))
			return false;
		fresh = c == '.';
	}
	return !fresh;
}

bool core_topic_pattern_valid(struct base_str s)
{
	if (base_str_is(s, "*"))
		return true;
	return topic_valid(base_str_ends(s, BASE_STR(".*")) ? base_str_sub(s, 0, s.len - 2) : s);
}

/* --- who waits --- */

/* The index's key: the pattern, a NUL, the position of step_called with its highest byte first. */
static struct base_str wait_key(char *room, struct base_str pattern, uint64_t seq)
{
	BASE_CHECK(pattern.len <= TOPIC_MAX);
	memcpy(room, pattern.ptr, pattern.len);
	room[pattern.len] = '\0';
	for (int i = 0; i < 8; i++)
		room[pattern.len + 1 + (size_t)i] = (char)(seq >> (56 - 8 * i) & 0xff);
	return (struct base_str){room, pattern.len + 9};
}

void core_event_wait_add(struct core *c, const struct core_run *r, const struct core_open *o)
{
	char room[TOPIC_MAX + 16];

	BASE_CHECK(base_names_put(c->event_waits,
			   wait_key(room, core_word_text(o->signal), r->step[o->step].seq),
			   (void *)(uintptr_t)o) == 0);
}

void core_event_wait_drop(struct core *c, const struct core_run *r, const struct core_open *o)
{
	char room[TOPIC_MAX + 16];

	(void)base_names_remove(
		c->event_waits, wait_key(room, core_word_text(o->signal), r->step[o->step].seq));
}

struct listeners {
	const struct core_open *open[WAKES_MAX];
	size_t count;
	bool more;
};

/* Those that wait for this very pattern since before `seq`. */
static void listen_to(const struct core *c, struct base_str pattern, uint64_t seq, struct listeners *l)
{
	char room[TOPIC_MAX + 16];
	struct base_str from = wait_key(room, pattern, 0), key;
	void *value;

	for (bool first = true; !l->more && base_names_seek(c->event_waits, from, first, &key, &value);
		first = false) {
		const struct core_open *o = value;

		if (key.len != pattern.len + 9 || memcmp(key.ptr, room, pattern.len + 1) != 0 ||
			core_run_find(c, o->run)->step[o->step].seq >= seq)
			return;
		if (l->count == WAKES_MAX)
			l->more = true;
		else
			l->open[l->count++] = o;
		from = key;
	}
}

/* "order.paid.late" is heard as itself, as *, as order.* and as order.paid.* */
static void listeners_of(const struct core *c, struct base_str topic, uint64_t seq, struct listeners *l)
{
	char room[TOPIC_MAX + 2];

	memset(l, 0, sizeof(*l));
	listen_to(c, topic, seq, l);
	listen_to(c, BASE_STR("*"), seq, l);
	for (size_t i = 0; i < topic.len; i++) {
		if (topic.ptr[i] != '.')
			continue;
		memcpy(room, topic.ptr, i + 1);
		room[i + 1] = '*';
		listen_to(c, (struct base_str){room, i + 2}, seq, l);
	}
}

static void wake(struct core_turn *t, const struct listeners *l, struct base_str event, uint8_t labels)
{
	for (size_t i = 0; i < l->count; i++)
		core_emit_step_done(t, l->open[i]->run, l->open[i]->step, event, 0, BASE_STR_NONE, labels);
}

/* --- flows that it starts --- */

struct starts {
	struct core_start *start;
	size_t count, refused;
	struct base_str refusals; /* JSON members of a list */
};

static bool input_fits(const struct core_flow *flow, struct base_str input, struct base_err *err)
{
	return core_input_fits(flow->current->input, input, err) == 0;
}

static void refused(struct core_turn *t, struct starts *s, struct base_str flow, struct base_str problem)
{
	struct base_buf b;

	base_buf_init(&b, CORE_INLINE_MAX);
	base_json_quote(&b, flow);
	s->refusals = base_arena_printf(t->arena, "%.*s%s{\"flow\":%.*s,\"problem\":%.*s}",
		BASE_STR_ARG(s->refusals), s->refused++ ? "," : "", BASE_STR_ARG(base_buf_view(&b)),
		BASE_STR_ARG(problem));
	base_buf_done(&b);
}

/* Fills in the start where this schedule is one of the topic; false: it is not, or its flow is started already. */
static bool start_of(struct core_turn *t, const struct core_schedule *s, const struct core_publication *p,
	uint64_t seq, struct base_str event, const struct starts *all, struct core_start *ret)
{
	struct core_flow *flow = base_names_get(t->c->flows, s->flow);
	struct base_json *doc;
	bool hears;

	if (s->plan.kind != CORE_PLAN_EVENT || s->paused || !flow || !flow->current)
		return false;
	for (size_t i = 0; i < all->count; i++)
		if (all->start[i].flow == flow)
			return false;
	BASE_CHECK(base_json_parse(s->spec, &doc, NULL) == 0);
	hears = base_str_matches(base_jv_str(base_jv_get(base_json_root(doc), "event")), p->topic);
	if (hears)
		*ret = (struct core_start){.flow = flow,
			.by = s->by,
			.origin = p->origin,
			.input = core_trigger_input(
				t, base_jv_get(base_json_root(doc), "input"), "event", event),
			.key = base_arena_printf(t->arena, "event/%llu/%.*s", (unsigned long long)seq,
				BASE_STR_ARG(flow->name)),
			.trigger = base_arena_printf(t->arena, "event/%.*s", BASE_STR_ARG(p->topic)),
			.cause = core_run_find(t->c, p->run),
			.labels = p->labels,
			.event_depth = p->depth};
	base_json_free(doc);
	return hears;
}

/* As core_start_check, for the place of those too that the same event starts before it. */
static bool has_room(struct core_turn *t, struct core_start *st, size_t before, struct base_str *ret_problem,
	int *ret_status)
{
	bool ok;

	t->starts += before;
	ok = core_start_check(t, st, ret_problem, ret_status);
	t->starts -= before;
	return ok;
}

/* False, with the problem, where one of them has no room: then nothing is published. */
static bool plan_starts(struct core_turn *t, const struct core_publication *p, uint64_t seq,
	struct base_str event, struct starts *s, struct base_str *ret_problem, int *ret_status)
{
	const struct base_names *all = t->c->schedules->by_name;
	struct base_str at = BASE_STR_NONE, problem;
	struct base_err err;
	void *value;
	int status;

	s->start = base_arena_array(t->arena, base_names_count(all) + 1, sizeof(*s->start));
	BASE_CHECK(s->start);
	for (bool first = true; base_names_seek(all, at, first, &at, &value); first = false) {
		struct core_start *st = &s->start[s->count];

		if (!start_of(t, value, p, seq, event, s, st))
			continue;
		if (st->input.len > STARTS_BYTES_MAX / (s->count + 1)) {
			*ret_problem = core_problem(t->arena, "too_large",
				"%.*s starts so many flows that its payload is too large for all of them",
				BASE_STR_ARG(p->topic));
			*ret_status = 413;
			return false;
		}
		if (!input_fits(st->flow, st->input, &err)) {
			refused(t, s, st->flow->name,
				core_problem(t->arena, "invalid", "its input does not fit: %s", err.text));
		} else if (has_room(t, st, s->count, &problem, &status)) {
			st->checked = true;
			s->count++;
		} else if (status == 429) {
			*ret_problem = problem;
			*ret_status = status;
			return false;
		} else {
			refused(t, s, st->flow->name, problem);
		}
	}
	return true;
}

/* --- publishing --- */

/* A payload stands two levels deeper in the input of a run that it starts. */
static bool payload_fits(struct base_str payload)
{
	unsigned depth = 0, deepest = 0;
	bool string = false;

	for (size_t i = 0; i < payload.len; i++) {
		char c = payload.ptr[i];

		if (string && c == '\\')
			i++;
		else if (c == '"')
			string = !string;
		else if (!string && (c == '[' || c == '{'))
			deepest = ++depth > deepest ? depth : deepest;
		else if (!string && (c == ']' || c == '}'))
			depth--;
	}
	return deepest <= PAYLOAD_DEPTH_MAX;
}

/* {"at":…,"id":…,"payload":…,"topic":…}: what a wait gives and a started run gets. */
static struct base_str event_json(
	struct core_turn *t, uint64_t seq, int64_t at_ms, struct base_str payload, struct base_str topic)
{
	return base_arena_printf(t->arena, "{\"at\":%lld,\"id\":%llu,\"payload\":%.*s,\"topic\":\"%.*s\"}",
		(long long)at_ms, (unsigned long long)seq, BASE_STR_ARG(payload), BASE_STR_ARG(topic));
}

/* The position that the next event of this decision will have. */
static uint64_t next_seq(const struct core_turn *t)
{
	struct base_str block = base_buf_view(t->block);
	struct core_record rec;
	uint64_t seq = t->c->seq + 1;
	size_t at = t->mark;

	while (core_block_next(block, &at, &rec) == 1)
		seq++;
	return seq;
}

static struct base_str reply_json(
	struct core_turn *t, uint64_t seq, const struct starts *s, uint64_t first_run)
{
	struct base_buf b;

	base_buf_init(&b, 1 << 20);
	base_buf_printf(&b, "{\"id\":%llu", (unsigned long long)seq);
	if (s->refused)
		base_buf_printf(&b, ",\"refused\":[%.*s]", BASE_STR_ARG(s->refusals));
	base_buf_cstr(&b, ",\"started\":[");
	for (size_t i = 0; i < s->count; i++, first_run++)
		base_buf_printf(&b, "%s%llu", i ? "," : "", (unsigned long long)first_run);
	base_buf_cstr(&b, "]}");
	return core_buf_to_arena(t->arena, &b);
}

bool core_publish(
	struct core_turn *t, const struct core_publication *p, struct base_str *ret, int *ret_status)
{
	uint64_t seq = next_seq(t), first_run;
	struct base_str event = event_json(t, seq, t->cmd->now_ms, p->payload, p->topic);
	struct starts s = {.count = 0};
	struct listeners l;

	if (p->depth > EVENT_DEPTH_MAX) {
		*ret_status = 409;
		*ret = core_problem(t->arena, "too_deep",
			"%.*s: %d flows have started one another by events before it: do they go round in "
			"circles?",
			BASE_STR_ARG(p->topic), EVENT_DEPTH_MAX);
		return false;
	}
	if (!payload_fits(p->payload)) {
		*ret_status = 400;
		*ret = core_problem(t->arena, "invalid", "the payload of %.*s is nested deeper than %d",
			BASE_STR_ARG(p->topic), PAYLOAD_DEPTH_MAX);
		return false;
	}
	if (!plan_starts(t, p, seq, event, &s, ret, ret_status))
		return false;
	listeners_of(t->c, p->topic, UINT64_MAX, &l);
	core_event_published_emit(t->block, t->cmd->now_ms,
		&(struct core_event_published){.topic = p->topic,
			.payload = core_blob(t, p->payload),
			.run = p->run,
			.step = p->step,
			.by = p->by,
			.key = p->key,
			.labels = p->labels,
			.depth = p->depth,
			.more = l.more});
	first_run = t->next_run;
	for (size_t i = 0; i < s.count; i++)
		(void)core_emit_run_started(t, &s.start[i]);
	wake(t, &l, event, p->labels);
	*ret = reply_json(t, seq, &s, first_run);
	return true;
}

static uintptr_t fingerprint(struct base_str topic, const struct base_hash *payload)
{
	return core_fingerprint(topic, (struct base_str){(const char *)payload->b, sizeof(payload->b)});
}

/* What a key stood for before: 0 nothing, 1 the same, -1 something else. */
static int known(const struct core_turn *t, const struct core_publication *p)
{
	uintptr_t was = p->key.len ? (uintptr_t)base_names_get(t->c->outcome_keys, p->key) : 0;
	struct base_hash hash = base_hash_of(p->payload);

	return !was ? 0 : was == fingerprint(p->topic, &hash) ? 1 : -1;
}

static const char topic_fault[] =
	"a topic is words of letters, digits, _ and - with dots between, such as order.paid";

void core_decide_publish(struct core_turn *t)
{
	struct core_publication p = {.topic = t->cmd->name,
		.by = t->cmd->by.id,
		.origin = t->cmd->by.id,
		.labels = core_caller_labels(t->c, t->cmd->by.id),
		.depth = 1};
	struct base_str answer;
	struct base_buf canon;
	struct base_err err;
	int again, status = 202;

	if (!topic_valid(t->cmd->name)) {
		core_refuse(t, 400, "invalid", "%s", topic_fault);
		return;
	}
	base_buf_init(&canon, 32 << 20);
	if (base_json_canon(t->cmd->body.len ? t->cmd->body : BASE_STR("null"), &canon, &err) < 0) {
		base_buf_done(&canon);
		core_refuse(t, 400, "invalid", "payload: %s", err.text);
		return;
	}
	p.payload = core_buf_to_arena(t->arena, &canon);
	if (t->cmd->key.len)
		p.key = base_arena_printf(
			t->arena, "event:%.*s:%.*s", BASE_STR_ARG(t->cmd->by.id), BASE_STR_ARG(t->cmd->key));
	again = known(t, &p);
	if (again > 0) {
		core_reply_json(t, 200, BASE_STR("{\"existing\":true}"));
	} else if (again < 0) {
		core_refuse(t, 409, "key_reused", "this key was used for something else: use a new key");
	} else {
		(void)core_publish(t, &p, &answer, &status);
		core_reply_json(t, status, answer);
	}
}

void core_event_publish(struct core_turn *t, const struct core_call *call)
{
	struct base_str key = base_jv_str(base_jv_get(call->args, "key")), answer;
	struct core_publication p = {.topic = base_jv_str(base_jv_get(call->args, "topic")),
		.payload = BASE_STR("null"),
		.run = call->run->id,
		.step = call->step,
		.by = core_word_text(call->run->as),
		.origin = core_word_text(call->run->origin),
		.labels = (uint8_t)call->run->labels,
		.depth = (uint8_t)(core_run_extra(call->run)->event_depth + 1)};
	struct base_buf b;
	int again, status;

	if (!topic_valid(p.topic)) {
		core_emit_called_failed(
			t, call, core_problem(t->arena, "invalid", "event.publish: %s", topic_fault));
		return;
	}
	if (base_jv_kind(base_jv_get(call->args, "payload")) != BASE_JSON_NONE) {
		base_buf_init(&b, 32 << 20);
		base_jv_write(base_jv_get(call->args, "payload"), &b);
		p.payload = core_buf_to_arena(t->arena, &b);
	}
	if (key.len)
		p.key = BASE_JOIN(t->arena, BASE_STR("event:"), p.by, BASE_STR(":"), key);
	again = known(t, &p);
	if (call->run->flags & CORE_RUN_DRY)
		core_emit_called_done(t, call, BASE_STR("{\"dry\":true}"));
	else if (again > 0)
		core_emit_called_done(t, call, BASE_STR("{\"existing\":true}"));
	else if (again < 0)
		core_emit_called_failed(t, call,
			core_problem(t->arena, "key_reused",
				"this flow used the key for another event: use a new key"));
	else if (core_publish(t, &p, &answer, &status))
		core_emit_called_done(t, call, answer);
	else
		core_emit_called_failed(t, call, answer);
}

void core_event_wait(struct core_turn *t, const struct core_call *call)
{
	int64_t timeout = base_jv_int(base_jv_get(call->args, "timeout_ms"), -1);

	if (!core_topic_pattern_valid(base_jv_str(base_jv_get(call->args, "topic"))))
		core_emit_called_failed(t, call,
			core_problem(t->arena, "invalid",
				"event.wait: the topic is one such as order.paid, or all below one "
				"(order.*), or all (*)"));
	else if (call->run->flags & CORE_RUN_DRY || timeout == 0)
		core_emit_called_done(t, call, BASE_STR("{\"timeout\":true}"));
	else
		core_emit_called_waiting(t, call, timeout > 0 ? t->cmd->now_ms + timeout : 0, 0);
}

/* --- what one decision did not finish --- */

uint64_t core_delivery_seq(const struct core *c, uint64_t id)
{
	return base_idmap_get(c->deliveries, id) ? id : 0;
}

void core_decide_delivery(struct core_turn *t, uint64_t id)
{
	const struct core_delivery *d = base_idmap_get(t->c->deliveries, id);
	const struct core_fetched *got = core_fetched_at(t, id);
	struct base_str payload = got && got->blob.len ? got->blob : BASE_STR("null");
	struct listeners l;

	listeners_of(t->c, d->topic, d->seq, &l);
	wake(t, &l, event_json(t, d->seq, d->time_ms, payload, d->topic), d->labels);
	if (!l.more)
		core_event_delivered_emit(
			t->block, t->cmd->now_ms, &(struct core_event_delivered){.event = d->seq});
}

static void delivery_put(struct core *c, struct core_delivery from)
{
	struct core_delivery *d = base_slab_alloc(c->slab, sizeof(*d));

	*d = from;
	d->topic = base_slab_dup(c->slab, from.topic);
	BASE_CHECK(base_idmap_put(c->deliveries, d->seq, d) == 0);
	core_timer_add(c, CORE_TIMER_DELIVERY, d->seq, 0, d->time_ms);
}

void core_apply_event(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	const struct core_event_published *p = &e->event_published;
	struct core_delivery *d;

	if (type == CORE_EV_EVENT_DELIVERED) {
		d = base_idmap_remove(a->c->deliveries, e->event_delivered.event);
		base_slab_str_release(a->c->slab, d->topic);
		base_slab_release(a->c->slab, d, sizeof(*d));
		return;
	}
	if (p->key.len) {
		struct base_hash hash =
			base_blob_is_inline(&p->payload) ? base_hash_of(p->payload.data) : p->payload.hash;

		BASE_CHECK(base_names_put(a->c->outcome_keys, p->key, (void *)fingerprint(p->topic, &hash)) ==
			   0);
	}
	if (p->more)
		delivery_put(a->c, (struct core_delivery){.seq = a->seq,
					   .time_ms = a->time_ms,
					   .topic = p->topic,
					   .labels = p->labels});
}

/* Ascending: equal states give equal bytes. */
void core_deliveries_put(const struct core *c, const uint64_t *ids, size_t count, struct base_buf *b)
{
	base_put_u64(b, count);
	for (size_t i = 0; i < count; i++) {
		const struct core_delivery *d = base_idmap_get(c->deliveries, ids[i]);

		base_put_u64(b, d->seq);
		base_put_i64(b, d->time_ms);
		base_put_str(b, d->topic);
		base_put_u64(b, d->labels);
	}
}

void core_deliveries_get(struct core *c, struct base_reader *r)
{
	uint64_t n = base_get_u64(r);

	for (uint64_t i = 0; i < n && !r->failed; i++) {
		struct core_delivery d = {.seq = base_get_u64(r)};

		d.time_ms = base_get_i64(r);
		d.topic = base_get_str(r);
		d.labels = (uint8_t)base_get_uint(r, 255);
		if (!r->failed && topic_valid(d.topic) && !base_idmap_get(c->deliveries, d.seq))
			delivery_put(c, d);
		else
			r->failed = 1;
	}
}

void core_events_check(const struct core *c)
{
	struct base_str at = BASE_STR_NONE;
	char room[TOPIC_MAX + 16];
	void *value;

	for (bool first = true; base_names_seek(c->event_waits, at, first, &at, &value); first = false) {
		const struct core_open *o = value;
		const struct core_run *r = core_run_find(c, o->run);

		BASE_CHECK(r && core_step_open(core_step_find(r, o->step)) == o &&
			   o->action->handler == CORE_H_EVENT_WAIT); /* P1 */
		BASE_CHECK(base_str_eq(at, wait_key(room, core_word_text(o->signal), r->step[o->step].seq)));
	}
}
