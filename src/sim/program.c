#include "sim/sim_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Flows. A program is a tree that is drawn from a number: calls, one after the other, side by side, tried, repeated,
 * chosen by what came before. It has no state but what its results made of it, so the same results give the same calls.
 */

enum node_kind { N_CALL, N_SEQ, N_PAR, N_TRY, N_IF, N_LOOP };
enum call_kind {
	C_READ,
	C_IDEMPOTENT,
	C_LOOKUP,
	C_ONCE,
	C_SLEEP,
	C_SIGNAL,
	C_GATE,
	C_APPROVED,
	C_START,
	C_CALL,
	C_GET,
	C_PUT,
	C_LIST,
	C_SESSION,
	C_OUTCOME,
	C_EXPERIMENT,
	C_LOG,
	C_CHECKPOINT,
	C_ROLLBACK,
	C_AGAIN,
	C_PUBLISH,
	C_EVENT,
	C_START_WAIT,
	C_MODEL,
	C_KINDS
};
enum { NODES_MAX = 24, CHILDREN_MAX = 6, DEPTH_MAX = 3 };

struct node {
	uint8_t kind, call, count;
	uint8_t child[CHILDREN_MAX];
	int16_t parent;
	uint32_t p, q;
	/* while it runs */
	uint8_t left, at;
	bool over;
	uint32_t step;	   /* the call whose result it waits for */
	uint64_t approval; /* or the run that it started and waits for */
};

struct sim_run {
	struct sim *s;
	struct base_prng prng;
	struct node node[NODES_MAX];
	unsigned count;
	uint64_t number, acc, salt; /* salt: of its version; undone in what the next generation is given */
	bool stray;
	uint32_t steps;
	uint8_t *node_of; /* by step */
	uint32_t steps_size;
	int ended;
};

static uint64_t draw(struct sim_run *r, uint64_t n)
{
	return base_prng_below(&r->prng, n);
}

/* --- drawing --- */

static uint8_t draw_call(struct sim_run *r)
{
	static const uint8_t often[C_KINDS] = {[C_READ] = 6,
		[C_IDEMPOTENT] = 8,
		[C_LOOKUP] = 8,
		[C_ONCE] = 8,
		[C_SLEEP] = 6,
		[C_SIGNAL] = 5,
		[C_GATE] = 2,
		[C_APPROVED] = 2,
		[C_START] = 1,
		[C_CALL] = 4,
		[C_GET] = 2,
		[C_PUT] = 4,
		[C_LIST] = 1,
		[C_SESSION] = 2,
		[C_OUTCOME] = 1,
		[C_EXPERIMENT] = 1,
		[C_LOG] = 1,
		[C_CHECKPOINT] = 2,
		[C_ROLLBACK] = 1,
		[C_AGAIN] = 1,
		[C_PUBLISH] = 2,
		[C_EVENT] = 2,
		[C_START_WAIT] = 1,
		[C_MODEL] = 2};
	bool deep = r->number >> 60 >= 2 || r->number % 2;
	unsigned all = 0, at;

	for (unsigned i = 0; i < C_KINDS; i++)
		all += often[i];
	at = (unsigned)draw(r, all);
	for (unsigned i = 0; i < C_KINDS; i++) {
		if (at < often[i])
			return deep && (i == C_START || i == C_CALL || i == C_START_WAIT) ? C_PUT
			       : i == C_PUBLISH && r->number >> 60 == 4			  ? C_PUT
			       : i == C_AGAIN && (r->number >> 56 & 15) >= 2		  ? C_PUT
											  : (uint8_t)i;
		at -= often[i];
	}
	return C_LOG;
}

static uint8_t draw_node(struct sim_run *r, int parent, unsigned depth)
{
	uint8_t i = (uint8_t)r->count++;
	struct node *n = &r->node[i];
	unsigned pick = (unsigned)draw(r, 10), children = 0;

	n->parent = (int16_t)parent;
	n->p = (uint32_t)base_prng_next(&r->prng);
	n->q = (uint32_t)base_prng_next(&r->prng);
	if (parent < 0)
		n->kind = N_SEQ;
	else if (depth >= DEPTH_MAX || pick < 5 || r->count > NODES_MAX - CHILDREN_MAX - 2)
		n->kind = N_CALL;
	else
		n->kind = (uint8_t)(pick == 5	? N_SEQ
				    : pick == 6 ? N_PAR
				    : pick == 7 ? N_TRY
				    : pick == 8 ? N_IF
						: N_LOOP);
	if (n->kind == N_CALL)
		n->call = draw_call(r);
	else
		children = n->kind == N_TRY || n->kind == N_LOOP ? 1
			   : n->kind == N_IF			 ? 2
								 : 1 + (unsigned)draw(r, parent < 0 ? 5 : 4);
	for (unsigned c = 0; c < children && r->count < NODES_MAX; c++) {
		uint8_t child = draw_node(r, i, depth + 1);

		n->child[n->count++] = child;
	}
	return i;
}

struct sim_run *sim_program_new(struct sim *s, uint64_t number, uint64_t salt, bool stray)
{
	struct sim_run *r = sim_alloc(s, sizeof(*r));

	r->s = s;
	r->number = number;
	r->salt = salt * 0x9e3779b97f4a7c15u & 0xffffffffffffffu;
	r->acc = number * 0x9e3779b97f4a7c15u;
	r->stray = stray;
	if (stray)
		r->acc ^= 0x5555;
	r->prng = base_prng_of_u64(number);
	(void)draw_node(r, -1, 0);
	return r;
}

/* --- running --- */

static void begin(struct sim_run *r, const struct sim_emit *emit, unsigned i);
static void end(struct sim_run *r, const struct sim_emit *emit, int i, bool ok);

static uint32_t amount_of(const struct node *n)
{
	uint32_t dice = n->p % 100;

	return dice < 85   ? n->q % 100
	       : dice < 95 ? 101 + n->q % 800
	       : dice < 97 ? 1001 + n->q % 100
			   : n->q % 50;
}

static void emit_call(struct sim_run *r, const struct sim_emit *emit, unsigned i, const char *action,
	const char *opts, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

static void emit_call(struct sim_run *r, const struct sim_emit *emit, unsigned i, const char *action,
	const char *opts, const char *fmt, ...)
{
	char args[1024], limit[32];
	va_list ap;
	uint32_t step = r->steps++;

	if (step == r->steps_size) {
		uint8_t *more;

		r->steps_size = step ? step * 2 : 32;
		more = sim_alloc(r->s, r->steps_size);
		if (step)
			memcpy(more, r->node_of, step);
		r->node_of = more;
	}
	/* Some steps have a time limit. */
	if (!opts[0] && r->node[i].p % 11 == 3) {
		snprintf(limit, sizeof(limit), "{\"timeout\":%u}", 50 + r->node[i].q % 4000);
		opts = limit;
	}
	r->node_of[step] = (uint8_t)i;
	r->node[i].step = step;
	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	if (r->stray && step == 0)
		/* An action of no program: a fork's taken steps answer whatever the arguments are. */
		emit->call(emit->userdata, 0, "memory.forget",
			BASE_STR("{\"key\":\"not what it did before\"}"), BASE_STR_NONE);
	else
		emit->call(emit->userdata, step, action, base_str_of(args), base_str_of(opts));
}

static void call_effect(struct sim_run *r, const struct sim_emit *emit, unsigned i)
{
	static const char *const names[] = {"test.read", "test.idempotent", "test.lookup", "test.once"};
	struct node *n = &r->node[i];
	char opts[128] = "";

	if (n->call == C_APPROVED)
		snprintf(opts, sizeof(opts), "{\"approval\":%llu}", (unsigned long long)n->approval);
	else if (n->q % 7 == 0 && n->call != C_READ)
		snprintf(opts, sizeof(opts),
			"{\"undo\":{\"action\":\"test.%s\",\"args\":{\"value\":{\"amount\":1,\"undo\":%u}}}}",
			n->p % 2 ? "idempotent" : "lookup", (unsigned)(r->acc & 0xffff));
	else if (n->q % 17 == 0)
		snprintf(opts, sizeof(opts), "{\"timeout\":%u}", 500 + n->p % 20000);
	else if (n->q % 11 == 0)
		snprintf(opts, sizeof(opts), "{\"retry\":{\"attempts\":%u}}", 1 + n->p % 3);
	else if (n->q % 13 == 0)
		snprintf(opts, sizeof(opts), "{\"key\":\"k%llu\"}",
			(unsigned long long)(r->number % 16 * 4 + n->p % 4));
	emit_call(r, emit, i, n->call == C_APPROVED ? "test.once" : names[n->call], opts,
		"{\"value\":{\"a\":%u,\"amount\":%u,\"n\":%u}}", (unsigned)(r->acc & 0xffff),
		n->call == C_APPROVED ? 500 : amount_of(n), i);
}

static void call_wait(struct sim_run *r, const struct sim_emit *emit, unsigned i)
{
	static const char *const after[] = {"deny", "approve", "value"};
	struct node *n = &r->node[i];
	unsigned ms = n->q % 7 == 0 ? n->p % 3600000 : n->p % 5000;

	if (n->call == C_SLEEP)
		emit_call(r, emit, i, "timer.sleep", "", "{\"ms\":%u}", ms);
	else if (n->call == C_SIGNAL && n->q % 3)
		emit_call(
			r, emit, i, "signal.wait", "", "{\"name\":\"s%u\",\"timeout_ms\":%u}", n->p % 2, ms);
	else if (n->call == C_SIGNAL)
		emit_call(r, emit, i, "signal.wait", "", "{\"name\":\"s%u\"}", n->p % 2);
	else if (n->call == C_GATE && n->q % 3)
		emit_call(r, emit, i, "gate.ask", "",
			"{\"expires_ms\":%u,\"on_expiry\":\"%s\",\"show\":{\"a\":%u},\"title\":\"sim\"}",
			ms + 1, after[n->p % 3], (unsigned)(r->acc & 0xff));
	else if (n->call == C_GATE)
		emit_call(r, emit, i, "gate.ask", "", "{\"edit\":true,\"show\":{\"a\":%u},\"title\":\"sim\"}",
			(unsigned)(r->acc & 0xff));
	else
		emit_call(r, emit, i, "gate.ask", "",
			"{\"allows\":{\"action\":\"test.once\",\"count\":1,\"fixed\":[]},\"show\":{\"a\":%u},"
			"\"title\":\"sim\"}",
			(unsigned)(r->acc & 0xff));
}

static void call_run(struct sim_run *r, const struct sim_emit *emit, unsigned i)
{
	struct node *n = &r->node[i];
	unsigned a = (unsigned)(r->acc & 0xffff);
	unsigned long long child = (n->p & 0xffffff) | (unsigned long long)((r->number >> 60) + 1) << 60,
			   next = (r->number & 0xf0ffffffffffffffu) | ((r->number >> 56 & 15) + 1) << 56;
	/* Not b: it has a lane, and would wait for itself. */
	char flow = n->q % 2 ? 'a' : 'c';

	switch (n->call) {
	case C_START:
		if (n->q % 3 == 0)
			emit_call(r, emit, i, "run.start", "",
				"{\"delay_ms\":%u,\"flow\":\"%c\",\"input\":{\"p\":\"%llx\"}}", n->p % 20000,
				flow, child);
		else if (n->q % 2)
			emit_call(r, emit, i, "run.start", "",
				"{\"flow\":\"%c\",\"input\":{\"p\":\"%llx\"},\"key\":\"c%u\"}", flow, child,
				a % 64);
		else
			emit_call(r, emit, i, "run.start", "", "{\"flow\":\"%c\",\"input\":{\"p\":\"%llx\"}}",
				flow, child);
		break;
	case C_START_WAIT:
		if (n->approval)
			emit_call(r, emit, i, "run.wait", "", "{\"run\":%llu,\"timeout_ms\":%u}",
				(unsigned long long)n->approval, n->p % 9000);
		else
			emit_call(r, emit, i, "run.start", "", "{\"flow\":\"%c\",\"input\":{\"p\":\"%llx\"}}",
				flow, child);
		break;
	case C_CHECKPOINT:
		emit_call(r, emit, i, "run.checkpoint", "", "{\"name\":\"c%u\"}", n->p % 2);
		break;
	case C_ROLLBACK:
		if (n->q % 2)
			emit_call(r, emit, i, "run.rollback", "", "{\"to\":\"c%u\"}", n->p % 2);
		else
			emit_call(r, emit, i, "run.rollback", "", "{}");
		break;
	case C_CALL:
		emit_call(r, emit, i, "run.call", "", "{\"flow\":\"%c\",\"input\":{\"p\":\"%llx\"}}", flow,
			child);
		break;
	default:
		emit_call(r, emit, i, "run.again", "", "{\"state\":{\"n\":%u,\"p\":\"%llx\"}}", a,
			next ^ r->salt);
		break;
	}
}

const char *const sim_topics[SIM_TOPICS] = {"t0", "t1", "t.a", "t.b.c"};

static void call_event(struct sim_run *r, const struct sim_emit *emit, unsigned i)
{
	static const char *const patterns[] = {"t0", "t1", "t.*", "t.b.*", "*"};
	struct node *n = &r->node[i];
	const char *topic = r->number >> 60 == 3 ? "u.0" : sim_topics[n->p % SIM_TOPICS];

	if (n->call == C_PUBLISH && n->q % 3 == 0)
		emit_call(r, emit, i, "event.publish", "",
			"{\"key\":\"e%u\",\"payload\":{\"a\":1},\"topic\":\"%s\"}", n->p % 8, topic);
	else if (n->call == C_PUBLISH)
		emit_call(r, emit, i, "event.publish", "", "{\"payload\":{\"a\":%u},\"topic\":\"%s\"}",
			(unsigned)(r->acc & 0xffff), topic);
	else if (n->q % 4 == 0 && /* who is started by an event does not wait for another one for ever */
		 r->number >> 60 < 3)
		emit_call(r, emit, i, "event.wait", "", "{\"topic\":\"%s\"}", patterns[n->p % 5]);
	else
		emit_call(r, emit, i, "event.wait", "", "{\"timeout_ms\":%u,\"topic\":\"%s\"}", n->p % 9000,
			patterns[n->q % 5]);
}

static void call_other(struct sim_run *r, const struct sim_emit *emit, unsigned i)
{
	struct node *n = &r->node[i];
	unsigned a = (unsigned)(r->acc & 0xffff);

	switch (n->call) {
	case C_START:
	case C_START_WAIT:
	case C_CHECKPOINT:
	case C_ROLLBACK:
	case C_AGAIN:
	case C_CALL:
		call_run(r, emit, i);
		break;
	case C_PUBLISH:
	case C_EVENT:
		call_event(r, emit, i);
		break;
	case C_GET:
		emit_call(r, emit, i, "memory.get", "", "{\"key\":\"f/%u\"}", n->p % 8);
		break;
	case C_PUT:
		emit_call(
			r, emit, i, "memory.put", "", "{\"key\":\"f/%u\",\"value\":{\"a\":%u}}", n->p % 8, a);
		break;
	case C_LIST:
		emit_call(r, emit, i, "memory.list", "", "{\"prefix\":\"f/\"}");
		break;
	case C_SESSION:
		emit_call(r, emit, i, "session.put", "", "{\"id\":\"s%u\",\"value\":%u}", n->p % 4, a);
		break;
	case C_OUTCOME:
		emit_call(r, emit, i, "outcome.record", "",
			"{\"key\":\"o%u\",\"name\":\"sale\",\"value\":%u}", a % 100, n->p % 9);
		break;
	case C_EXPERIMENT:
		emit_call(r, emit, i, "experiment.choose", "", "{\"arms\":[\"x\",\"y\"],\"name\":\"e%u\"}",
			n->p % 2);
		break;
	case C_MODEL:
		emit_call(r, emit, i, "model.generate", "",
			"{\"max_tokens\":%u,\"messages\":[{\"content\":\"a "
			"%u\",\"role\":\"user\"}],\"tier\":\"draft\"}",
			100 + n->p % 3000, a);
		break;
	default:
		emit_call(r, emit, i, "log.write", "", "{\"level\":\"info\",\"text\":\"a %u\"}", a);
		break;
	}
}

/* What goes on below from an earlier round is not waited for any more. */
static void forget(struct sim_run *r, unsigned i)
{
	r->node[i].step = UINT32_MAX;
	for (unsigned c = 0; c < r->node[i].count; c++)
		forget(r, r->node[i].child[c]);
}

static void begin(struct sim_run *r, const struct sim_emit *emit, unsigned i)
{
	struct node *n = &r->node[i];

	forget(r, i);
	n->over = false;
	n->left = n->count;
	n->at = 0;
	n->approval = 0;
	if (n->kind == N_CALL) {
		if (n->call <= C_ONCE)
			call_effect(r, emit, i);
		else if (n->call <= C_APPROVED)
			call_wait(r, emit, i);
		else
			call_other(r, emit, i);
	} else if (!n->count) {
		end(r, emit, (int)i, true);
	} else if (n->kind == N_PAR) {
		for (unsigned c = 0; c < n->count && !r->ended; c++)
			begin(r, emit, n->child[c]);
	} else if (n->kind == N_IF) {
		begin(r, emit, n->child[n->count > 1 ? r->acc >> 8 & 1 : 0]);
	} else {
		begin(r, emit, n->child[0]);
	}
}

/* A node has come to its end: what its parent makes of it. */
static void end(struct sim_run *r, const struct sim_emit *emit, int i, bool ok)
{
	struct node *n, *p;

	r->node[i].over = true;
	if (r->node[i].parent < 0) {
		r->ended = ok ? 1 : 2;
		return;
	}
	n = &r->node[i];
	p = &r->node[n->parent];
	if (p->over)
		return; /* a Promise.all that failed already */
	if (p->kind == N_TRY)
		end(r, emit, n->parent, true);
	else if (!ok || p->kind == N_IF)
		end(r, emit, n->parent, ok);
	else if (p->kind == N_LOOP && ++p->at < 2 + p->p % 2)
		begin(r, emit, p->child[0]);
	else if (p->kind == N_SEQ && ++p->at < p->count)
		begin(r, emit, p->child[p->at]);
	else if (p->kind != N_PAR || --p->left == 0)
		end(r, emit, n->parent, true);
}

void sim_program_start(struct sim_run *r, const struct sim_emit *emit)
{
	begin(r, emit, 0);
}

void sim_program_result(
	struct sim_run *r, const struct sim_emit *emit, uint32_t step, bool ok, struct base_str value)
{
	uint64_t h = 14695981039346656037u;
	struct base_json *doc = NULL;
	struct node *n;
	unsigned i;

	if (step >= r->steps || r->ended)
		return;
	for (size_t k = 0; k < value.len; k++)
		h = (h ^ (unsigned char)value.ptr[k]) * 1099511628211u;
	r->acc = (r->acc ^ h ^ step) * 0x9e3779b97f4a7c15u;
	i = r->node_of[step];
	n = &r->node[i];
	if (n->step != step)
		return;
	if (n->call == C_APPROVED && ok && !n->approval && base_json_parse(value, &doc, NULL) == 0) {
		struct base_str answer = base_jv_str(base_jv_get(base_json_root(doc), "answer"));

		n->approval = (uint64_t)base_jv_int(base_jv_get(base_json_root(doc), "approval"), 0);
		ok = base_str_is(answer, "approve") || base_str_is(answer, "edit");
		base_json_free(doc);
		if (ok && n->approval) {
			call_effect(r, emit, i);
			return;
		}
	}
	/* Once more, with an approval that is used up. */
	if (n->call == C_APPROVED && n->approval && !n->at && n->q % 3 == 0) {
		n->at = 1;
		call_effect(r, emit, i);
		return;
	}
	if (n->call == C_START_WAIT && ok && !n->approval && base_json_parse(value, &doc, NULL) == 0) {
		n->approval = (uint64_t)base_jv_int(base_jv_get(base_json_root(doc), "run"), 0);
		base_json_free(doc);
		if (n->approval) {
			call_other(r, emit, i);
			return;
		}
	}
	end(r, emit, (int)i, ok);
}

int sim_program_ended(const struct sim_run *r, uint32_t *ret_steps, uint64_t *ret_value)
{
	*ret_steps = r->steps;
	*ret_value = r->acc & 0xffffffffu;
	return r->ended;
}
