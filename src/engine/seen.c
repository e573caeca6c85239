#include "engine/engine_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/*
 * Who looked at what. A read that was answered is noted, the same one again only counted; what is noted goes into the log
 * together, at most once a minute, and at a stop. Nothing is looked at: no timer stands.
 *
 * Invariants
 *
 * O1 What shows the whole company at once (events, secrets' names, keys, the audit and its exports) is in the log before the
 * answer leaves: the first such read of a minute is written at once, and the answer waits for that commit (C1). What else is
 * seen within the last minute is lost if aiosd is killed; nothing that was done is.
 *
 * O2 What was noted is forgotten when it is durable. While nothing can be written reads go on and are counted; those for
 * which there is no place any more are counted together ("more").
 */

enum { SEEN_MAX = 256, FLUSH_MS = 60000, OBJECT_MAX = 200 };

struct seen {
	char by[160], how[8], op[40], object[OBJECT_MAX + 8];
	uint64_t run, gate;
	uint64_t n, out; /* times since it was written; that are in the batch that is under way */
	int64_t since;	 /* it is written at once, once in so long */
};
struct engine_seen {
	struct seen at[SEEN_MAX];
	size_t count;
	bool armed, under_way;
};

/* What a read is of: the parameter that names it; at once: see O1. */
static const struct {
	enum wire_op op;
	const char *object;
	bool at_once;
} reads[] = {
	{WIRE_OP_RUNS, NULL, false},
	{WIRE_OP_RUN, "run", false},
	{WIRE_OP_RUN_VALUE, "run", false},
	{WIRE_OP_RUN_WHY, "run", false},
	{WIRE_OP_PAGE_RUN, "run", false},
	{WIRE_OP_QUEUE, NULL, false},
	{WIRE_OP_BACKTEST, "flow", false}, /* shows past runs */
	{WIRE_OP_PAGE_HOME, NULL, false},
	{WIRE_OP_GATES, NULL, false},
	{WIRE_OP_GATE, "gate", false},
	{WIRE_OP_PAGE_GATE, "gate", false},
	{WIRE_OP_PROPOSALS, NULL, false},
	{WIRE_OP_PROPOSAL, "proposal", false},
	{WIRE_OP_SIGN_IN_STATE, NULL, false},
	{WIRE_OP_PAGE_SECURITY, NULL, false},
	{WIRE_OP_LINK_SHOW, NULL, false}, /* its token is a secret */
	{WIRE_OP_FACTS, "prefix", false},
	{WIRE_OP_FACT, "key", false},
	{WIRE_OP_SEARCH, "q", false},
	{WIRE_OP_COSTS, NULL, false},
	{WIRE_OP_EVENTS, NULL, true},
	{WIRE_OP_LOG_SEARCH, "q", true},
	{WIRE_OP_KEYS, NULL, true},
	{WIRE_OP_SECRETS, NULL, true},
	{WIRE_OP_AUDIT, NULL, true},
	{WIRE_OP_AUDIT_EXPORT, "from", true},
};

static int find_read(enum wire_op op)
{
	for (size_t i = 0; i < sizeof(reads) / sizeof(reads[0]); i++)
		if (reads[i].op == op)
			return (int)i;
	return -1;
}

static const char *how(const struct engine_req *q)
{
	if (q->op == WIRE_OP_LINK_SHOW)
		return "link";
	return q->credential == 3 ? "session" : q->credential == 2 ? "key" : "local";
}

/* Cut at a whole character; the rest is "…". */
static void cut(char ret[OBJECT_MAX + 8], struct base_str s)
{
	size_t n = s.len < OBJECT_MAX ? s.len : OBJECT_MAX;

	while (n < s.len && n > 0 && ((unsigned char)s.ptr[n] & 0xc0) == 0x80)
		n--;
	if (n)
		memcpy(ret, s.ptr, n);
	strcpy(ret + n, n < s.len ? "…" : "");
}

static bool same(const struct seen *a, const struct seen *b)
{
	return a->run == b->run && a->gate == b->gate && strcmp(a->op, b->op) == 0 &&
	       strcmp(a->object, b->object) == 0 && strcmp(a->by, b->by) == 0 && strcmp(a->how, b->how) == 0;
}

static struct seen *find(struct engine_seen *s, const struct seen *x)
{
	for (size_t i = 0; i < s->count; i++)
		if (same(&s->at[i], x))
			return &s->at[i];
	return NULL;
}

/* Those that are written and old enough make room. */
static void forget(struct engine_seen *s, int64_t now)
{
	size_t n = 0;

	for (size_t i = 0; i < s->count; i++)
		if (s->at[i].n || s->at[i].out || now - s->at[i].since < FLUSH_MS)
			s->at[n++] = s->at[i];
	s->count = n;
}

/* True: it was not seen within the last minute. */
static bool add(struct engine_seen *s, const struct seen *x)
{
	static const struct seen more = {.by = "several", .op = "more"};
	struct seen *at = find(s, x);
	bool fresh = !at || x->since - at->since >= FLUSH_MS;

	if (!at && s->count >= SEEN_MAX - 1) {
		forget(s, x->since);
		if (s->count >= SEEN_MAX - 1) {
			x = &more;
			at = find(s, x);
			fresh = false;
		}
	}
	if (!at) {
		BASE_CHECK(s->count < SEEN_MAX);
		at = &s->at[s->count++];
		*at = *x;
	}
	at->n++;
	if (fresh)
		at->since = x->since;
	return fresh;
}

/* --- into the log --- */

/* One batch at a time: it is durable, or it is written once more. */
static void settle(struct engine_seen *s, bool is_durable)
{
	for (size_t i = 0; i < s->count; i++) {
		s->at[i].n += is_durable ? 0 : s->at[i].out;
		s->at[i].out = 0;
	}
	s->under_way = false;
}

static void durable(struct engine *e, struct engine_out *o)
{
	settle(e->seen, true);
	free(o);
}

static void not_durable(struct engine *e, struct engine_out *o, int code)
{
	(void)code;
	settle(e->seen, false);
	free(o);
}

/* What one principal saw one way, from entry `from` on: all of it into one event. */
static bool put_one(struct engine *e, size_t from)
{
	struct engine_seen *s = e->seen;
	const struct seen *first = &s->at[from];
	struct core_cmd cmd = {.type = CORE_CMD_SEEN,
		.by = {.id = base_str_of(first->by)},
		.name = base_str_of(first->by),
		.text = base_str_of(first->how)};
	struct core_reply r;
	struct base_buf b;
	struct base_jw w;
	bool ok;

	base_buf_init(&b, 1 << 20);
	w = base_jw_of(&b);
	base_jw_arr(&w);
	for (size_t i = from; i < s->count; i++) {
		struct seen *x = &s->at[i];

		if (!x->n || strcmp(x->by, first->by) != 0 || strcmp(x->how, first->how) != 0)
			continue;
		x->out = x->n;
		x->n = 0;
		base_jw_obj(&w);
		base_jw_mcstr(&w, "op", x->op);
		base_jw_mcstr(&w, "object", x->object);
		base_jw_mint(&w, "n", (int64_t)x->out);
		if (x->run)
			base_jw_mint(&w, "run", (int64_t)x->run);
		if (x->gate)
			base_jw_mint(&w, "gate", (int64_t)x->gate);
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	cmd.body = base_buf_view(&b);
	ok = engine_decide(e, &cmd, &r) == 0 && r.status < 400;
	base_buf_done(&b);
	return ok;
}

static bool has_more(const struct engine_seen *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->at[i].n)
			return true;
	return false;
}

void engine_seen_flush(struct engine *e)
{
	struct engine_seen *s = e->seen;
	struct engine_out *o;
	bool ok = true;

	if (!s || s->under_way || e->degraded || !has_more(s))
		return;
	for (size_t i = 0; i < s->count && ok; i++)
		ok = !s->at[i].n || put_one(e, i);
	s->under_way = true;
	o = calloc(1, sizeof(*o));
	BASE_CHECK(o);
	o->release = durable;
	o->discard = not_durable;
	if (ok)
		engine_after_commit(e, o);
	else
		not_durable(e, o, 0);
}

void engine_seen_due(struct engine *e)
{
	e->seen->armed = false;
	engine_seen_flush(e);
	forget(e->seen, e->mono);
	if (has_more(e->seen)) /* it could not be written */
		engine_seen_later(e);
}

void engine_seen_later(struct engine *e)
{
	if (e->seen->armed || e->stopping)
		return;
	e->seen->armed = true;
	engine_timer_add(e, ENGINE_TIMER_SEEN, 0, FLUSH_MS);
}

void engine_seen(struct engine *e, const struct engine_req *q)
{
	int read = find_read(q->op);
	struct seen x = {.since = e->mono};
	struct base_str object;
	bool fresh;

	if (read < 0 || !q->by.id.len)
		return;
	if (!e->seen) {
		e->seen = calloc(1, sizeof(*e->seen));
		BASE_CHECK(e->seen);
	}
	snprintf(x.by, sizeof(x.by), "%.*s", BASE_STR_ARG(q->by.id));
	snprintf(x.how, sizeof(x.how), "%s", how(q));
	snprintf(x.op, sizeof(x.op), "api.%s", wire_route_of(q->op)->name);
	object = reads[read].object ? engine_param(q, reads[read].object) : BASE_STR_NONE;
	cut(x.object, object);
	if (reads[read].object && strcmp(reads[read].object, "run") == 0 && base_str_u64(object, &x.run) < 0)
		x.run = 0;
	if (reads[read].object && strcmp(reads[read].object, "gate") == 0 &&
		base_str_u64(object, &x.gate) < 0)
		x.gate = 0;
	if (q->shown_gate) {
		x.gate = q->shown_gate;
		snprintf(x.object, sizeof(x.object), "%llu", (unsigned long long)x.gate);
	}
	fresh = add(e->seen, &x);
	engine_seen_later(e);
	if ((fresh && reads[read].at_once) || e->seen->count == SEEN_MAX - 1)
		engine_seen_flush(e);
}

void engine_seen_done(struct engine *e)
{
	free(e->seen);
	e->seen = NULL;
}
