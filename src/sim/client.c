#include "sim/sim_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Clients at the local door. What is acknowledged to them must be durable at that moment: each request carries a token
 * that the log then has. A request whose door or whose aiosd died is not known to have happened; one that may be
 * repeated is.
 */

enum { SCHEDULES_MS = 130000, REQS_MAX = 64, STREAMS_MAX = 4, TRIES_MAX = 40 };

struct req {
	struct req *next;
	uint64_t id, token, run, gate, last;
	char op[16], params[96], key[16];
	const char *body;
	unsigned tries;
	bool sent, again, stream, wrong, keyed, waits;
};

struct sim_client {
	struct req *first;
	uint64_t next, acknowledged;
	unsigned count, streams;
};

static struct sim_client *client(struct sim *s)
{
	if (!s->client)
		s->client = sim_alloc(s, sizeof(*s->client));
	return s->client;
}

static const char *text(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static const char *text(struct sim *s, const char *fmt, ...)
{
	char t[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t, sizeof(t), fmt, ap);
	va_end(ap);
	return sim_dup(s, base_str_of(t)).ptr;
}

static struct req *req_new(struct sim *s, const char *op)
{
	struct sim_client *c = client(s);
	struct req *q = sim_alloc(s, sizeof(*q));

	q->id = ++c->next;
	q->token = ++s->tokens;
	snprintf(q->op, sizeof(q->op), "%s", op);
	q->next = c->first;
	c->first = q;
	c->count++;
	return q;
}

static void req_drop(struct sim *s, struct req *q)
{
	struct req **at = &client(s)->first;

	while (*at && *at != q)
		at = &(*at)->next;
	if (!*at)
		return;
	*at = q->next;
	client(s)->count--;
	client(s)->streams -= q->stream;
}

static struct req *req_of(struct sim *s, uint64_t id)
{
	struct req *q = client(s)->first;

	while (q && q->id != id)
		q = q->next;
	return q;
}

static struct sim_proc *door_of(struct sim *s)
{
	for (size_t i = 0; i < s->proc_count; i++)
		if (s->procs[i]->kind == ENGINE_DOOR && s->procs[i]->local && s->procs[i]->ready)
			return s->procs[i];
	return NULL;
}

static void send(struct sim *s, void *a, uint64_t b)
{
	struct req *q = a;
	struct sim_proc *p = door_of(s);

	(void)b;
	if (req_of(s, q->id) != q || q->sent)
		return;
	if (!p || !s->up) {
		if (++q->tries > TRIES_MAX && !q->again)
			req_drop(s, q);
		else
			sim_later(s, 20000, false, send, q, 0);
		return;
	}
	q->sent = true;
	wire_door_request_put(sim_send_begin(p), &(struct wire_door_request){.req = q->id,
							 .op = base_str_of(q->op),
							 .params = base_str_of(q->params),
							 .body = base_str_of(q->body),
							 .idempotency_key = base_str_of(q->key),
							 .credential = 1,
							 .uid = geteuid()});
	sim_send_end(p, WIRE_DOOR_REQUEST, 50 + (int64_t)sim_draw(s, SIM_CLIENT, 500));
}

static void req_send(struct sim *s, struct req *q)
{
	send(s, q, 0);
}

void sim_client_lost(struct sim *s)
{
	struct req *next;

	for (struct req *q = client(s)->first; q; q = next) {
		next = q->next;
		if (!q->sent)
			continue;
		q->sent = false;
		if (q->again)
			sim_later(s, 10000, false, send, q, 0);
		else
			req_drop(s, q);
	}
}

bool sim_client_idle(const struct sim *s)
{
	for (const struct req *q = s->client ? s->client->first : NULL; q; q = q->next)
		if (!q->stream)
			return false;
	return true;
}

/* --- requests --- */

/* Over 100 a person is asked, over a limit that deployments change it is denied: audit.c reads it from the log. */
static const char policy[] =
	"{\\\"rules\\\":[{\\\"name\\\":\\\"all\\\",\\\"on\\\":\\\"*\\\",\\\"then\\\":\\\"allow\\\"},"
	"{\\\"name\\\":\\\"big\\\",\\\"on\\\":\\\"test.*\\\",\\\"then\\\":\\\"gate\\\",\\\"when\\\":"
	"\\\"args.value.amount > 100\\\"},"
	"{\\\"name\\\":\\\"huge\\\",\\\"on\\\":\\\"test.*\\\",\\\"then\\\":\\\"deny\\\",\\\"when\\\":"
	"\\\"args.value.amount > %u\\\"}]}";
static const char config[] =
	"{\\\"name\\\":\\\"sim\\\",\\\"rates\\\":{\\\"test\\\":\\\"%u/s\\\"},"
	"\\\"budgets\\\":{\\\"month\\\":\\\"1 USD\\\",\\\"run\\\":\\\"0.01 USD\\\"},"
	"\\\"models\\\":{\\\"providers\\\":{\\\"p\\\":{\\\"api\\\":\\\"openai\\\",\\\"url\\\":\\\"https://"
	"p.example/v1\\\"}},"
	"\\\"tiers\\\":{\\\"draft\\\":[\\\"p/m\\\"]},"
	"\\\"prices\\\":{\\\"p/m\\\":{\\\"input\\\":\\\"1 USD\\\",\\\"output\\\":\\\"2 USD\\\"}}}%s}";

void sim_client_deploy(struct sim *s, unsigned version)
{
	struct req *q = req_new(s, "deploy");
	char limits[96];

	sim_declare_limits(s, version, limits, sizeof(limits));
	q->token = 0;
	q->again = true;
	s->version = version;
	snprintf(q->params, sizeof(q->params), "{}");
	q->body = text(s,
		"{\"files\":{\"aios.yaml\":\"%s\",\"policy.yaml\":\"%s\",\"flows/a.js\":\"sim %u0\","
		"\"flows/b.js\":\"sim %u1\",\"flows/c.js\":\"sim %u2\"}}",
		text(s, config, 20 + version % 80, limits), text(s, policy, version % 3 ? 1000 : 60), version,
		version, version);
	req_send(s, q);
}

static void start(struct sim *s, const struct sim_op *op)
{
	struct req *q = req_new(s, "run_start");
	char more[96] = "";

	if (op->kind == SIM_OP_START_KEY) {
		unsigned k = op->b % 24, variant = op->c % 5 == 0;

		/* The same key with the same input is the same request, whoever repeats it. */
		q->token = 1000000 + k * 10 + variant;
		q->keyed = q->again = true;
		snprintf(q->key, sizeof(q->key), "K%u", k);
		snprintf(q->params, sizeof(q->params), "{\"flow\":\"%c\"}", 'a' + (char)(k % 3));
		q->body = text(s, "{\"input\":{\"p\":\"%x\",\"t\":\"tok=%llu;\"}}", k * 7919 + variant,
			(unsigned long long)q->token);
	} else {
		q->waits = op->kind == SIM_OP_WAIT;
		if (op->kind == SIM_OP_START_LATER)
			snprintf(more, sizeof(more), ",\"delay_ms\":%u,\"priority\":%d,\"timeout\":%u",
				op->c % 30000, (int)(op->c % 21) - 10, 1000 + op->a % 600000);
		snprintf(q->params, sizeof(q->params),
			q->waits ? "{\"flow\":\"%c\",\"wait\":\"%u\"}" : "{\"flow\":\"%c\"}",
			'a' + (char)(op->a % 3), op->c % 60);
		q->body = text(s, "{\"input\":{\"p\":\"%x\",\"t\":\"tok=%llu;\"}%s}", op->b,
			(unsigned long long)q->token, more);
	}
	req_send(s, q);
}

static void on_run(struct sim *s, const char *op, uint64_t run, uint32_t c)
{
	struct req *q = req_new(s, op);

	q->run = run;
	snprintf(q->params, sizeof(q->params), "{\"run\":\"%llu\",\"name\":\"s%u\"}", (unsigned long long)run,
		c % 2);
	if (strcmp(op, "signal") == 0)
		q->body = text(s, "{\"t\":\"tok=%llu;\"}", (unsigned long long)q->token);
	else
		q->body = text(s, "{\"reason\":\"tok=%llu;\"}", (unsigned long long)q->token);
	if (strcmp(op, "run_resume") == 0)
		q->token = 0; /* the log has no reason of it */
	req_send(s, q);
}

/* From a step that has ended, as far as the log says; or from one that has not, which is refused. */
static void fork_run(struct sim *s, const struct sim_op *op, uint64_t run)
{
	const struct sim_run_seen *r = sim_run_seen(s, run);
	bool restart = op->kind == SIM_OP_FORK_RESTART;
	struct req *q = req_new(s, restart ? "run_restart" : "run_fork");
	uint32_t from = r->steps ? op->b % (r->steps + 1) : 0;

	snprintf(q->params, sizeof(q->params), "{\"run\":\"%llu\"}", (unsigned long long)run);
	if (restart)
		q->token = 0;
	q->body = text(s,
		restart ? "{\"from\":%u,\"reason\":\"%llu\"}" : "{\"from\":%u,\"set\":{\"t\":\"tok=%llu;\"}}",
		from, (unsigned long long)q->token);
	req_send(s, q);
}

/* What an honest person answers; NULL: not now. */
static const char *answer_to(struct sim *s, const struct sim_gate_seen *g, uint32_t dice, const char **ret_op)
{
	const struct sim_run_seen *r = sim_run_seen(s, g->run);
	const struct sim_deed *d;

	*ret_op = dice % 4 ? "gate_approve" : "gate_deny";
	if (strcmp(g->kind, "parked") == 0) {
		*ret_op = "gate_settle";
		return dice % 2 ? "resume" : "cancel";
	}
	if (strcmp(g->kind, "undo") == 0) {
		*ret_op = "gate_settle";
		return dice % 3 == 0 ? "skip" : dice % 3 == 1 ? "retry" : "give_up";
	}
	if (strcmp(g->kind, "doubt") != 0)
		return "";
	if (!r || g->step >= r->steps)
		return NULL;
	*ret_op = "gate_settle";
	d = sim_deed_of(s, r->step[g->step].key);
	if (d && d->under_way)
		return NULL;
	if (d && d->done)
		return "happened";
	return dice % 3 ? "send" : "give_up";
}

static void decide_once(struct sim *s, const struct sim_gate_seen *g, uint32_t dice, bool wrong)
{
	const char *op, *answer = answer_to(s, g, dice, &op);
	char shown[65];
	struct req *q;

	if (!answer)
		return;
	q = req_new(s, op);
	q->gate = g->gate;
	q->wrong = wrong;
	base_hash_hex(&g->shown, shown);
	if (wrong)
		shown[0] = shown[0] == '0' ? '1' : '0';
	snprintf(q->params, sizeof(q->params), "{\"gate\":\"%llu\"}", (unsigned long long)g->gate);
	q->body = text(s, "{\"shown\":\"%s\",\"reason\":\"tok=%llu;\"%s%s%s%s}", shown,
		(unsigned long long)q->token, answer[0] ? ",\"answer\":\"" : "", answer,
		answer[0] ? "\"" : "", strcmp(answer, "happened") == 0 ? ",\"result\":{\"n\":1}" : "");
	req_send(s, q);
}

static void decide(struct sim *s, const struct sim_op *op)
{
	const struct sim_audit *a = &s->audit;
	const struct sim_gate_seen *g;

	if (!a->waiting_count)
		return;
	g = sim_gate_seen(s, a->waiting[op->a % a->waiting_count]);
	decide_once(s, g, op->b, op->kind == SIM_OP_DECIDE_WRONG);
	for (unsigned i = 0; op->kind == SIM_OP_DECIDE && op->c % 4 == 0 && i < 3; i++)
		decide_once(s, g, op->b + i, false); /* several at once: one wins */
}

/* The same key is the same event, whoever repeats it; or another one (variant), which is refused. */
static void publish(struct sim *s, const char *topic, unsigned key, bool variant)
{
	struct req *q = req_new(s, "event_publish");

	if (key) {
		q->token = 2000000 + key * 10 + variant;
		q->again = true;
		topic = sim_topics[key % SIM_TOPICS];
		snprintf(q->key, sizeof(q->key), "E%u", key);
	}
	snprintf(q->params, sizeof(q->params), "{\"topic\":\"%s\"}", topic);
	q->body = text(s, "{\"t\":\"tok=%llu;\"}", (unsigned long long)q->token);
	req_send(s, q);
}

static void simple(struct sim *s, const struct sim_op *op)
{
	struct req *q;

	if (op->kind == SIM_OP_FACT) {
		q = req_new(s, "fact_put");
		snprintf(q->params, sizeof(q->params), "{\"key\":\"f/%u\"}", op->a % 8);
		q->body = text(s, "{\"value\":{\"t\":\"tok=%llu;\"}}", (unsigned long long)q->token);
	} else if (op->kind == SIM_OP_KEY) {
		q = req_new(s, "key_create");
		snprintf(q->params, sizeof(q->params), "{}");
		q->body = text(s, "{\"name\":\"tok=%llu;\",\"grants\":[\"api.run_start\"]}",
			(unsigned long long)q->token);
	} else if (op->kind == SIM_OP_PUBLISH) {
		publish(s, sim_topics[op->a % SIM_TOPICS], op->b % 3 ? 0 : 1 + op->c % 12, op->b % 7 == 0);
		return;
	} else if (op->kind == SIM_OP_SCHEDULE) {
		q = req_new(s, op->b % 2 ? "schedule_pause" : "schedule_resume");
		q->token = 0;
		snprintf(q->params, sizeof(q->params), "{\"schedule\":\"%.*s\"}",
			BASE_STR_ARG(sim_schedule_nth(s, op->a % 4, false)));
		q->body = "{}";
	} else {
		q = req_new(s, op->kind == SIM_OP_FREEZE ? "freeze" : "thaw");
		q->again = true;
		if (op->kind == SIM_OP_THAW)
			q->token = 0; /* thawed has a reason; but it may not have been frozen */
		snprintf(q->params, sizeof(q->params), "{}");
		q->body = text(s, "{\"reason\":\"tok=%llu;\"}", (unsigned long long)q->token);
	}
	req_send(s, q);
}

static void open_stream(struct sim *s, const struct sim_op *op)
{
	struct req *q;

	if (client(s)->streams >= STREAMS_MAX)
		return;
	client(s)->streams++;
	q = req_new(s, "events");

	q->stream = true;
	q->token = 0;
	q->last = s->audit.seq ? op->a % s->audit.seq : 0;
	snprintf(q->params, sizeof(q->params), "{\"stream\":\"1\",\"after\":\"%llu\"}",
		(unsigned long long)q->last);
	req_send(s, q);
}

static uint64_t some_run(const struct sim *s, uint32_t a, bool parked)
{
	const struct sim_audit *au = &s->audit;

	for (size_t i = 0; i < au->open_count; i++) {
		uint64_t run = au->open[(a + i) % au->open_count];
		const struct sim_run_seen *r = base_idmap_get(au->runs, run);

		if (!parked || r->parked || r->paused)
			return run;
	}
	return 0;
}

void sim_client_op(struct sim *s, const struct sim_op *op)
{
	static const char *const names[SIM_OPS] = {[SIM_OP_CANCEL] = "run_cancel",
		[SIM_OP_RESUME] = "run_resume",
		[SIM_OP_SIGNAL] = "signal",
		[SIM_OP_PAUSE] = "run_pause",
		[SIM_OP_ROLLBACK] = "run_rollback"};
	uint64_t run = some_run(s, op->a, op->kind == SIM_OP_RESUME);

	if (client(s)->count > REQS_MAX + client(s)->streams)
		return;
	switch ((enum sim_op_kind)op->kind) {
	case SIM_OP_START:
	case SIM_OP_START_KEY:
	case SIM_OP_WAIT:
	case SIM_OP_START_LATER:
		start(s, op);
		break;
	case SIM_OP_CANCEL:
	case SIM_OP_RESUME:
	case SIM_OP_PAUSE:
	case SIM_OP_SIGNAL:
	case SIM_OP_ROLLBACK:
		if (run)
			on_run(s, names[op->kind], run, op->b);
		/* Several of one name, before anybody waits for them. */
		for (unsigned i = 0; run && op->kind == SIM_OP_SIGNAL && i < op->c % 4; i++)
			on_run(s, names[op->kind], run, op->b);
		break;
	case SIM_OP_FORK:
	case SIM_OP_FORK_RESTART:
		if (run)
			fork_run(s, op, run);
		break;
	case SIM_OP_DECIDE:
	case SIM_OP_DECIDE_WRONG:
		decide(s, op);
		break;
	case SIM_OP_DEPLOY:
		sim_client_deploy(s, (unsigned)s->version + 1);
		break;
	case SIM_OP_STREAM:
		open_stream(s, op);
		break;
	default:
		simple(s, op);
		break;
	}
}

/* --- answers --- */

static void check_keyed(struct sim *s, const struct req *q, const struct wire_door_reply *f, uint64_t run)
{
	const struct sim_run_seen *r = sim_run_seen(s, run);
	char mark[32];

	if (f->status >= 400)
		return;
	snprintf(mark, sizeof(mark), "tok=%llu;", (unsigned long long)q->token);
	/* A key goes over to the next generation. */
	while (r && r->previous)
		r = sim_run_seen(s, r->previous);
	if (!r || !memmem(r->input_text.ptr, r->input_text.len, mark, strlen(mark)))
		sim_broken(s, SIM_SAFETY, "ack.run",
			"%s is answered with run %llu, which is not durable or not its own", q->op,
			(unsigned long long)run);
}

static void check_ended(struct sim *s, const struct req *q, struct base_jv root, uint64_t run)
{
	struct base_str state = base_jv_str(base_jv_get(root, "state"));
	const struct sim_run_seen *r = sim_run_seen(s, run);
	unsigned outcome = base_str_is(state, "done")	     ? CORE_DONE
			   : base_str_is(state, "failed")    ? CORE_FAILED
			   : base_str_is(state, "cancelled") ? CORE_CANCELLED
							     : 0;

	if (q->waits && outcome && (!r || r->outcome != outcome))
		sim_broken(s, SIM_SAFETY, "ack.end",
			"run %llu is said to be over, and the log does not have it", (unsigned long long)run);
}

static void check_published(struct sim *s, const struct req *q, struct base_jv root)
{
	if (strcmp(q->op, "event_publish") == 0 && !base_jv_bool(base_jv_get(root, "existing"), false) &&
		!sim_event_seen(s, (uint64_t)base_jv_int(base_jv_get(root, "id"), 0)))
		sim_broken(s, SIM_SAFETY, "ack.lost", "an event is acknowledged and not published");
}

static void on_reply(struct sim *s, struct base_str body)
{
	struct wire_door_reply f;
	struct base_json *doc = NULL;
	struct base_jv root = {0};
	struct req *q;
	uint64_t run = 0;

	BASE_CHECK(wire_door_reply_get(body, &f) == 0);
	q = req_of(s, f.req);
	if (!q || (q->stream && f.status == 200))
		return;
	if (base_json_parse(f.body, &doc, NULL) == 0)
		root = base_json_root(doc);
	run = (uint64_t)base_jv_int(base_jv_get(root, "run"), 0);
	sim_say(s, "%s %s: %u %.*s", q->op, q->params, f.status, (int)(f.body.len < 120 ? f.body.len : 120),
		f.body.ptr);
	if (f.status == 429 && base_str_is(base_jv_str(base_jv_get(root, "code")), "queue_full") &&
		!sim_queue_was_full(s, strcmp(q->op, "event_publish") == 0))
		sim_broken(s, SIM_SAFETY, "queue", "%s is refused for a queue that is not full", q->op);
	/* The worker that looked at it may have been killed, or have hung. */
	if (strcmp(q->op, "deploy") == 0 && (f.status == 400 || f.status == 422) &&
		!memmem(f.body.ptr, f.body.len, "reads it ended", 14) &&
		!memmem(f.body.ptr, f.body.len, "does not come back", 18))
		sim_broken(s, SIM_CRASH, "plan", "what the simulation deploys is refused: %.*s",
			BASE_STR_ARG(f.body));
	if (f.status == 500)
		sim_broken(s, SIM_SAFETY, "internal", "%s: %.*s", q->op, BASE_STR_ARG(f.body));
	if (f.status < 300) {
		if (q->wrong)
			sim_broken(s, SIM_SAFETY, "gate.shown", "a gate takes an answer to something else");
		if (q->token && base_jv_bool(base_jv_get(root, "changed"), true) &&
			!sim_token_seen(s, q->token))
			sim_broken(s, SIM_SAFETY, "ack.lost", "%s %s was acknowledged and is not durable",
				q->op, q->params);
		client(s)->acknowledged++;
		if (strcmp(q->op, "run_start") == 0)
			check_keyed(s, q, &f, run);
		check_ended(s, q, root, run);
		check_published(s, q, root);
	}
	if (f.status == 409 && q->gate && base_str_is(base_jv_str(base_jv_get(root, "code")), "decided"))
		sim_gate_gone(s, q->gate);
	base_json_free(doc);
	if (f.status >= 500 && q->again && !s->finished && ++q->tries < TRIES_MAX) {
		q->sent = false;
		sim_later(s, 500000, false, send, q, 0);
		return;
	}
	req_drop(s, q);
}

/* Server-sent events: in order, without a gap, and nothing that is not durable. */
static void on_chunk(struct sim *s, struct base_str body)
{
	struct wire_door_chunk f;
	const char *at, *end;
	struct req *q;

	BASE_CHECK(wire_door_chunk_get(body, &f) == 0);
	q = req_of(s, f.req);
	if (!q)
		return;
	at = f.data.ptr;
	end = at + f.data.len;
	while (at < end && (at = memmem(at, (size_t)(end - at), "id: ", 4))) {
		uint64_t seq = strtoull(at + 4, NULL, 10);

		at += 4;
		if (at - 4 != f.data.ptr && at[-5] != '\n')
			continue;
		if (seq != q->last + 1 || seq > s->audit.seq)
			sim_broken(s, SIM_SAFETY, "stream",
				"a stream gives event %llu after %llu; %llu are durable",
				(unsigned long long)seq, (unsigned long long)q->last,
				(unsigned long long)s->audit.seq);
		q->last = seq;
	}
}

void sim_client_frame(struct sim_proc *p, unsigned type, struct base_str body)
{
	if (type == WIRE_DOOR_REPLY)
		on_reply(p->s, body);
	else if (type == WIRE_DOOR_CHUNK)
		on_chunk(p->s, body);
}

/* --- all is well --- */

static void heal_wait(struct sim *s, const struct sim_run_seen *r, const struct sim_step_seen *st)
{
	const char *name;

	/* A publication starts flows, which wait too: only for whom no time comes. */
	if (base_str_is(st->action, "event.wait") && !st->due_ms && sim_queue_was_full(s, true))
		on_run(s, "run_cancel", r->run, 0); /* what it starts has no room, and waits for this run */
	else if (base_str_is(st->action, "event.wait") && !st->due_ms)
		publish(s,
			memmem(st->detail.ptr, st->detail.len, "\"t1\"", 4) ? "t1"
			: memmem(st->detail.ptr, st->detail.len, "\"t.", 3) ? "t.b.c"
									    : "t0",
			0, false);
	if (base_str_is(st->action, "signal.wait") &&
		(name = memmem(st->detail.ptr, st->detail.len, "\"name\":\"s", 9)))
		on_run(s, "signal", r->run, (uint32_t)(name[9] - '0'));
}

static void pause_schedules(struct sim *s)
{
	for (unsigned i = 0; sim_schedule_nth(s, i, true).len; i++) {
		struct req *q = req_new(s, "schedule_pause");

		q->token = 0;
		q->body = "{}";
		snprintf(q->params, sizeof(q->params), "{\"schedule\":\"%.*s\"}",
			BASE_STR_ARG(sim_schedule_nth(s, i, true)));
		req_send(s, q);
	}
}

void sim_client_heal(struct sim *s)
{
	const struct sim_audit *a = &s->audit;

	if (!sim_client_idle(s))
		return;
	if (a->frozen)
		simple(s, &(struct sim_op){.kind = SIM_OP_THAW});
	/* What fires again and again never comes to its end by itself. */
	if (s->now / 1000 - s->healed_at > SCHEDULES_MS)
		pause_schedules(s);
	for (size_t i = 0; i < a->waiting_count && i < 16; i++) {
		const struct sim_gate_seen *g =
			sim_gate_seen(s, a->waiting[(s->turns + i) % a->waiting_count]);
		const struct sim_run_seen *r = sim_run_seen(s, g->run);

		/* Gates of runs that are over go with them. */
		if (!r || (r->outcome && (g->step >= r->steps || r->step[g->step].ended)))
			continue;
		decide_once(s, g, 1, false);
	}
	for (size_t i = 0; i < a->open_count; i++) {
		const struct sim_run_seen *r = sim_run_seen(s, a->open[i]);

		if (r->paused)
			on_run(s, "run_resume", r->run, 0);
		for (uint32_t k = 0; k < r->steps; k++)
			if (!r->step[k].ended)
				heal_wait(s, r, &r->step[k]);
	}
}
