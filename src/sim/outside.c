#include "sim/sim_int.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * aios-connect and what lies behind it. The ledger says what really happened, by key, and is there whatever dies. A
 * request that has left may be done after its connector is dead.
 *
 * What the outside promises, by class: an idempotent action is done once for a key however often it comes; one that can
 * be looked up is found at the latest 200 ms after it was asked for; one that happens once happens each time it comes.
 */

enum { DELAY_MAX_US = 150000 };
#define USAGE                                                                                                \
	"{\"cost_nusd\":30000,\"input_tokens\":10,\"model\":\"m\",\"output_tokens\":10,\"provider\":\"p\"}"

struct sim_outside {
	struct base_names *deeds;
	uint64_t done;
};

/* One request on its way through aios-connect. */
struct call {
	struct sim_proc *p;
	uint64_t id, life;
	struct sim_deed *deed;
	bool cancelled, answered, lookup, told, model;
};

static struct sim_outside *outside(struct sim *s)
{
	if (!s->outside) {
		s->outside = sim_alloc(s, sizeof(*s->outside));
		BASE_CHECK(base_names_new(&s->outside->deeds) == 0);
	}
	return s->outside;
}

struct sim_deed *sim_deed_of(struct sim *s, struct base_str key)
{
	return base_names_get(outside(s)->deeds, key);
}

static struct sim_deed *deed_for(struct sim *s, const struct wire_effect *f)
{
	struct base_str tail = base_str_sub(f->action, 5, f->action.len);
	struct sim_deed *d = sim_deed_of(s, f->key);
	struct base_hash h = base_hash_of(f->args);

	if (!d) {
		d = sim_alloc(s, sizeof(*d));
		d->args = h;
		d->klass = base_str_is(tail, "idempotent") ? CORE_IDEMPOTENT
			   : base_str_is(tail, "lookup")   ? CORE_LOOKUP
			   : base_str_is(tail, "once")	   ? CORE_ONCE
							   : CORE_READ;
		d->key = sim_dup(s, f->key);
		BASE_CHECK(base_names_put(outside(s)->deeds, f->key, d) == 0);
	}
	/* A key that came to nothing may be used for something else. */
	if (!d->done && !d->under_way)
		d->args = h;
	if (!base_hash_eq(&d->args, &h))
		sim_broken(s, SIM_SAFETY, "effect.key", "key %.*s comes with other arguments than before",
			BASE_STR_ARG(f->key));
	return d;
}

/* It really happens. */
static void do_it(struct sim *s, struct sim_deed *d)
{
	if (d->klass == CORE_READ)
		return;
	if (d->klass == CORE_IDEMPOTENT && d->done)
		return;
	d->number = ++outside(s)->done;
	s->result->effects++;
	if (++d->done > 1)
		sim_broken(s, SIM_SAFETY, "effect.twice", "the effect with key %.*s happened twice",
			BASE_STR_ARG(d->key));
}

static void answer(struct call *c, unsigned outcome, uint32_t retry_after_ms, int64_t us)
{
	struct sim_proc *p = c->p;
	struct sim *s = p->s;
	char text[128];

	if (!p->alive || c->life != s->life || (c->cancelled && !c->answered))
		return;
	if (outcome == WIRE_DONE)
		snprintf(text, sizeof(text), "{\"n\":%llu}", (unsigned long long)c->deed->number);
	else
		snprintf(text, sizeof(text), "{\"code\":\"sim\",\"message\":\"outcome %u\"}", outcome);
	wire_effect_result_put(sim_send_begin(p),
		&(struct wire_effect_result){.call = c->id,
			.outcome = (uint8_t)outcome,
			.value = base_str_of(text),
			.retry_after_ms = retry_after_ms,
			.usage = c->model && outcome == WIRE_DONE ? BASE_STR(USAGE) : BASE_STR_NONE});
	sim_send_end(p, WIRE_EFFECT_RESULT, us);
	c->answered = true;
}

/* b: what becomes of it. */
enum fate { ARRIVES, SILENT, UNCERTAIN, TWICE };

static void at_outside(struct sim *s, void *a, uint64_t b)
{
	struct call *c = a;

	c->deed->under_way--;
	do_it(s, c->deed);
	if (b == SILENT)
		return;
	answer(c, b == UNCERTAIN ? WIRE_UNKNOWN : WIRE_DONE, 0, 100);
	if (b == TWICE)
		answer(c, WIRE_DONE, 0, 3000);
}

static void look_up(struct sim *s, void *a, uint64_t b)
{
	struct call *c = a;

	(void)b;
	(void)s;
	answer(c, c->deed->done ? WIRE_DONE : WIRE_NOT_FOUND, 0, 100);
}

static bool fault(struct sim *s, enum sim_rate r)
{
	return !s->healed && sim_chance(s, SIM_OUTSIDE, s->plan.rate[r]);
}

static void on_effect(struct sim_proc *p, struct base_str body)
{
	struct sim *s = p->s;
	struct call *c = sim_alloc(s, sizeof(*c));
	int64_t us = 200 + (int64_t)sim_draw(s, SIM_OUTSIDE, DELAY_MAX_US);
	enum fate fate = ARRIVES;
	struct wire_effect f;

	BASE_CHECK(wire_effect_get(body, &f) == 0);
	*c = (struct call){.p = p,
		.id = f.call,
		.life = s->life,
		.deed = deed_for(s, &f),
		.model = base_str_starts(f.action, BASE_STR("model.")),
		.lookup = f.mode == 1};
	BASE_CHECK(base_idmap_put(p->runs, f.call, c) == 0);
	if (fault(s, SIM_RATE_LOST)) {
		if (fault(s, SIM_RATE_UNKNOWN))
			answer(c, WIRE_UNKNOWN, 0, 50);
		return;
	}
	if (fault(s, SIM_RATE_RETRY)) {
		answer(c, WIRE_RETRY, (uint32_t)sim_draw(s, SIM_OUTSIDE, 3000), us);
		return;
	}
	if (c->lookup) {
		sim_later(s, us, true, look_up, c, 0);
		return;
	}
	/* What was done under this key, or may be, is not refused under it. */
	if (!c->deed->done && !c->deed->under_way && fault(s, SIM_RATE_FAIL)) {
		answer(c, WIRE_FAILED, 0, us);
		return;
	}
	if (fault(s, SIM_RATE_SILENT))
		fate = SILENT;
	else if (fault(s, SIM_RATE_UNKNOWN))
		fate = UNCERTAIN;
	else if (fault(s, SIM_RATE_TWICE))
		fate = TWICE;
	c->deed->under_way++;
	/* It has left: it happens even if everybody who knows of it dies. */
	sim_later(s, us, false, at_outside, c, fate);
}

static void on_cancel(struct sim_proc *p, struct base_str body)
{
	struct wire_effect_cancel f;
	struct call *c;

	BASE_CHECK(wire_effect_cancel_get(body, &f) == 0);
	c = base_idmap_get(p->runs, f.call);
	if (!c || c->answered)
		return;
	/* It cannot be called back: nobody knows. */
	answer(c, WIRE_UNKNOWN, 0, 100);
	c->cancelled = true;
}

void sim_outside_told(struct sim_proc *p, struct base_str bytes)
{
	struct wire_effect_result f;
	struct call *c;

	if (bytes.len < WIRE_HEAD || (unsigned char)bytes.ptr[4] != WIRE_EFFECT_RESULT ||
		wire_effect_result_get(base_str_sub(bytes, WIRE_HEAD, bytes.len), &f) < 0)
		return;
	c = base_idmap_get(p->runs, f.call);
	/* What is told while it can be written goes with a commit that fails; what is told while it cannot is kept. */
	if (c && !c->told && f.outcome == WIRE_DONE && p->s->engine && p->s->engine->degraded) {
		c->deed->told = p->s->life;
		c->deed->told_seq = p->s->engine->seq;
	}
	if (c)
		c->told = true;
}

void sim_outside_frame(struct sim_proc *p, unsigned type, struct base_str body)
{
	if (type == WIRE_EFFECT)
		on_effect(p, body);
	else if (type == WIRE_EFFECT_CANCEL)
		on_cancel(p, body);
}
