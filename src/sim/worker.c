#include "sim/sim_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/frames.h"

/*
 * aios-flow: runs programs, one frame after the other. What it is given of a run must be what the log says, in the
 * log's order, each step once: that is checked here, where it arrives.
 */

struct held {
	uint64_t run;
	struct sim_run *program;
	uint32_t given; /* results so far */
	bool late;	/* it was taken away, and this worker does not know yet */
};

struct ctx {
	struct sim_proc *p;
	uint64_t run;
	int64_t us;
};

static void on_emit(
	void *userdata, uint32_t step, const char *action, struct base_str args, struct base_str opts)
{
	struct ctx *x = userdata;

	wire_flow_call_put(sim_send_begin(x->p), &(struct wire_flow_call){.run = x->run,
							 .step = step,
							 .action = base_str_of(action),
							 .args = args,
							 .opts = opts});
	sim_send_end(x->p, WIRE_FLOW_CALL, x->us);
}

static struct held *held_of(struct sim_proc *p, uint64_t run)
{
	return base_idmap_get(p->runs, run);
}

/* Tells aiosd how far it is: idle, or the run's end. */
static void acknowledge(struct sim_proc *p, struct held *h, int64_t us)
{
	uint32_t steps;
	uint64_t value;
	char text[96];
	int ended = sim_program_ended(h->program, &steps, &value);

	snprintf(text, sizeof(text),
		ended == 2 ? "{\"kind\":\"exception\",\"message\":\"a step failed\",\"v\":%llu}"
			   : "{\"v\":%llu}",
		(unsigned long long)value);
	if (ended == 1) {
		wire_flow_done_put(sim_send_begin(p),
			&(struct wire_flow_done){.run = h->run, .steps = steps, .value = base_str_of(text)});
		sim_send_end(p, WIRE_FLOW_DONE, us);
	} else if (ended == 2) {
		wire_flow_failed_put(sim_send_begin(p),
			&(struct wire_flow_failed){
				.run = h->run, .steps = steps, .problem = base_str_of(text)});
		sim_send_end(p, WIRE_FLOW_FAILED, us);
	} else {
		wire_flow_idle_put(
			sim_send_begin(p), &(struct wire_flow_idle){.run = h->run, .steps = steps});
		sim_send_end(p, WIRE_FLOW_IDLE, us);
	}
	if (ended)
		base_idmap_remove(p->runs, h->run);
}

/* The number in a version's text: "sim 12". */
static uint64_t salt_of(struct sim *s, struct base_str modules)
{
	const char *at = memmem(modules.ptr, modules.len, "sim ", 4);

	BASE_CHECK(at);
	return strtoull(sim_dup(s, base_str_sub(modules, (size_t)(at - modules.ptr) + 4, 20)).ptr, NULL, 10);
}

static void on_version(struct sim_proc *p, struct base_str body)
{
	struct wire_flow_version f;
	struct sim_version *v;
	char hex[65];

	BASE_CHECK(wire_flow_version_get(body, &f) == 0 && f.version.len == 64);
	snprintf(hex, sizeof(hex), "%.*s", BASE_STR_ARG(f.version));
	if (base_names_get(p->s->versions, base_str_of(hex)))
		return;
	v = sim_alloc(p->s, sizeof(*v));
	v->salt = salt_of(p->s, f.modules);
	BASE_CHECK(base_names_put(p->s->versions, base_str_of(hex), v) == 0);
}

uint64_t sim_program_number(struct base_str input, uint64_t salt)
{
	struct base_json *doc = NULL;
	char text[32];
	uint64_t n;

	BASE_CHECK(base_json_parse(input, &doc, NULL) == 0);
	snprintf(
		text, sizeof(text), "%.*s", BASE_STR_ARG(base_jv_str(base_jv_get(base_json_root(doc), "p"))));
	base_json_free(doc);
	n = strtoull(text, NULL, 16);
	return n ^ (salt * 0x9e3779b97f4a7c15u & 0xffffffffffffffu);
}

static void on_start(struct sim_proc *p, struct base_str body)
{
	struct sim *s = p->s;
	struct wire_flow_start f;
	struct held *h = sim_alloc(s, sizeof(*h));
	struct ctx x = {.p = p, .us = 20 + (int64_t)sim_draw(s, SIM_NET, 300)};
	const struct sim_version *v;
	struct sim_emit emit = {&x, on_emit};
	bool stray;

	BASE_CHECK(wire_flow_start_get(body, &f) == 0);
	v = base_names_get(s->versions, f.version);
	if (!v)
		sim_broken(s, SIM_SAFETY, "flow.version",
			"run %llu begins in a worker that was not sent its version",
			(unsigned long long)f.run);
	stray = f.replay && !s->healed && sim_chance(s, SIM_NET, s->plan.rate[SIM_RATE_STRAY]);
	if (stray)
		sim_say(s, "run %llu strays", (unsigned long long)f.run);
	h->run = x.run = f.run;
	h->program = sim_program_new(s, sim_program_number(f.input, v->salt), v->salt, stray);
	BASE_CHECK(base_idmap_put(p->runs, f.run, h) == 0);
	sim_program_start(h->program, &emit);
	acknowledge(p, h, x.us);
}

/* The nth result of a run that a worker is given is the nth that the log has, if the log has it already. */
static void check_result(struct sim_proc *p, const struct held *h, const struct wire_flow_result *f)
{
	const struct sim_run_seen *r = sim_run_seen(p->s, f->run);
	const struct sim_step_seen *st;

	if (!r || h->given >= r->ended_steps)
		return; /* not durable yet: a flow may run ahead of the disk */
	if (r->order[h->given] != f->step)
		sim_broken(p->s, SIM_SAFETY, "flow.order",
			"run %llu is given step %u where the log has step %u next",
			(unsigned long long)f->run, f->step, r->order[h->given]);
	st = &r->step[f->step];
	if (st->ok != (f->status == 0) || !base_str_eq(st->result, f->value))
		sim_broken(p->s, SIM_SAFETY, "flow.result",
			"run %llu is given another result of step %u than the log has: %.*s, not %.*s",
			(unsigned long long)f->run, f->step, (int)(f->value.len < 80 ? f->value.len : 80),
			f->value.ptr, (int)(st->result.len < 80 ? st->result.len : 80), st->result.ptr);
}

static void on_result(struct sim_proc *p, struct base_str body)
{
	struct sim *s = p->s;
	struct wire_flow_result f;
	struct ctx x = {.p = p, .us = 20 + (int64_t)sim_draw(s, SIM_NET, 300)};
	struct sim_emit emit = {&x, on_emit};
	struct held *h;

	BASE_CHECK(wire_flow_result_get(body, &f) == 0);
	h = held_of(p, f.run);
	if (!h)
		return; /* it has ended here */
	check_result(p, h, &f);
	h->given++;
	x.run = f.run;
	sim_program_result(h->program, &emit, f.step, f.status == 0, f.value);
	acknowledge(p, h, x.us);
}

/* A worker that was too slow to hear that its run was taken from it: what it says of it must change nothing. */
static void speak_late(struct sim *s, void *a, uint64_t b)
{
	struct sim_proc *p = a;

	if (!p->alive || !p->conn || held_of(p, b) || base_idmap_get(s->owners, b) == p ||
		p->to_engine > s->now || p->stalled > s->now)
		return;
	sim_say(s, "a worker goes on with run %llu, which it does not have any more", (unsigned long long)b);
	wire_flow_call_put(
		sim_send_begin(p), &(struct wire_flow_call){.run = b,
					   .step = (uint32_t)sim_draw(s, SIM_NET, 8),
					   .action = BASE_STR("log.write"),
					   .args = BASE_STR("{\"level\":\"info\",\"text\":\"fenced\"}")});
	sim_send_now(p, WIRE_FLOW_CALL);
	wire_flow_done_put(sim_send_begin(p),
		&(struct wire_flow_done){.run = b, .steps = 1000, .value = BASE_STR("\"fenced\"")});
	sim_send_now(p, WIRE_FLOW_DONE);
}

static void on_drop(struct sim_proc *p, struct base_str body)
{
	struct sim *s = p->s;
	struct wire_flow_drop f;

	BASE_CHECK(wire_flow_drop_get(body, &f) == 0);
	base_idmap_remove(p->runs, f.run);
	if (!s->healed && sim_chance(s, SIM_NET, s->plan.rate[SIM_RATE_LATE]))
		sim_later(s, (int64_t)sim_draw(s, SIM_NET, 50000), true, speak_late, p, f.run);
}

static void on_inspect(struct sim_proc *p, struct base_str body)
{
	struct wire_flow_inspect f;
	char spec[4096];
	struct base_json *doc = NULL;
	struct base_str entry;

	BASE_CHECK(wire_flow_inspect_get(body, &f) == 0 && base_json_parse(f.modules, &doc, NULL) == 0);
	entry = base_jv_str(base_jv_get(base_json_root(doc), "entry")); /* flows/a.js */
	sim_declare(p->s, entry.len > 6 ? entry.ptr[6] : 'a', salt_of(p->s, f.modules), spec, sizeof(spec));
	base_json_free(doc);
	wire_flow_inspected_put(sim_send_begin(p),
		&(struct wire_flow_inspected){.req = f.req, .ok = 1, .spec = base_str_of(spec)});
	sim_send_end(p, WIRE_FLOW_INSPECTED, 200);
}

void sim_worker_frame(struct sim_proc *p, unsigned type, struct base_str body)
{
	switch (type) {
	case WIRE_FLOW_VERSION:
		on_version(p, body);
		break;
	case WIRE_FLOW_START:
		on_start(p, body);
		break;
	case WIRE_FLOW_RESULT:
		on_result(p, body);
		break;
	case WIRE_FLOW_DROP:
		on_drop(p, body);
		break;
	case WIRE_FLOW_INSPECT:
		on_inspect(p, body);
		break;
	default:
		break;
	}
}
