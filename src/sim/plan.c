#include "sim/sim_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The plan: what clients and faults do, and when. A seed draws it as it goes, with weights and rates of its own (whole
 * kinds are off in some seeds); written down it can be run again, and in parts.
 *
 *   rate NAME PARTS_OF_1000
 *   op MILLISECONDS_LATER NAME A B C
 */

enum { CRASHES_MIN = 3, OPS_MAX = 4000 };

static const struct {
	const char *name;
	unsigned weight;
} kinds[SIM_OPS] = {
#define SIM_OP(id, name, weight) [SIM_OP_##id] = {name, weight},
#include "sim/ops.def"
#undef SIM_OP
};
static const struct {
	const char *name;
	unsigned max;
} rates[SIM_RATES] = {
	[SIM_RATE_LOST] = {"lost", 150},
	[SIM_RATE_SILENT] = {"silent", 150},
	[SIM_RATE_RETRY] = {"retry", 300},
	[SIM_RATE_FAIL] = {"fail", 100},
	[SIM_RATE_UNKNOWN] = {"unknown", 200},
	[SIM_RATE_TWICE] = {"twice", 200},
	[SIM_RATE_SLOW_SYNC] = {"slow_sync", 100},
	[SIM_RATE_SPAWN] = {"spawn", 200},
	[SIM_RATE_STRAY] = {"stray", 60},
	[SIM_RATE_LATE] = {"late", 500},
};

void sim_plan_draw(struct sim *s)
{
	static const unsigned swarm[] = {0, 1, 1, 3};

	for (unsigned i = 0; i < SIM_RATES; i++)
		if (sim_draw(s, SIM_PLAN, 2))
			s->plan.rate[i] = (unsigned)sim_draw(s, SIM_PLAN, rates[i].max + 1);
	for (unsigned i = 0; i < SIM_OPS; i++)
		s->plan.weight[i] = kinds[i].weight * swarm[sim_draw(s, SIM_PLAN, 4)];
	/* Without runs nothing happens. */
	s->plan.weight[SIM_OP_START] += 20;
}

static void keep(struct sim *s, const struct sim_op *op)
{
	struct sim_plan *p = &s->plan;

	if (p->count == p->size) {
		p->size = p->size ? p->size * 2 : 256;
		p->ops = realloc(p->ops, p->size * sizeof(*p->ops));
		BASE_CHECK(p->ops);
	}
	p->ops[p->count++] = *op;
}

static unsigned draw_kind(struct sim *s)
{
	unsigned all = 0, at;

	for (unsigned i = 0; i < SIM_OPS; i++)
		all += s->plan.weight[i];
	at = (unsigned)sim_draw(s, SIM_PLAN, all);
	for (unsigned i = 0; i < SIM_OPS; i++) {
		if (at < s->plan.weight[i])
			return i;
		at -= s->plan.weight[i];
	}
	return SIM_OP_START;
}

bool sim_plan_next(struct sim *s, struct sim_op *ret)
{
	struct sim_plan *p = &s->plan;
	bool enough = s->commands >= p->want;

	if (p->fixed) {
		if (p->next >= p->count)
			return false;
		*ret = p->ops[p->next++];
		return true;
	}
	if ((enough && s->crashes >= CRASHES_MIN) || p->count >= OPS_MAX)
		return false;
	*ret = (struct sim_op){.kind = enough ? SIM_OP_CRASH : draw_kind(s),
		.dt_ms = (uint32_t)sim_draw(s, SIM_PLAN, sim_draw(s, SIM_PLAN, 8) ? 60 : 3000),
		.a = (uint32_t)base_prng_next(&s->streams[SIM_PLAN]) & 0xffffff,
		.b = (uint32_t)base_prng_next(&s->streams[SIM_PLAN]) & 0xffffff,
		.c = (uint32_t)base_prng_next(&s->streams[SIM_PLAN]) & 0xffffff};
	keep(s, ret);
	return true;
}

void sim_plan_write(const struct sim *s, char *ret, size_t size, size_t *ret_len)
{
	size_t at = 0;

	for (unsigned i = 0; i < SIM_RATES; i++)
		if (s->plan.rate[i] && at + 64 < size)
			at += (size_t)snprintf(
				ret + at, size - at, "rate %s %u\n", rates[i].name, s->plan.rate[i]);
	for (size_t i = 0; i < s->plan.count && at + 96 < size; i++) {
		const struct sim_op *o = &s->plan.ops[i];

		at += (size_t)snprintf(ret + at, size - at, "op %u %s %u %u %u\n", o->dt_ms,
			kinds[o->kind].name, o->a, o->b, o->c);
	}
	ret[at] = '\0';
	*ret_len = at;
}

static int parse_line(struct sim *s, const char *line)
{
	struct sim_op op = {0};
	char name[32];
	unsigned n;

	if (line[0] == '#' || line[0] == '\n' || !line[0] || strncmp(line, "seed ", 5) == 0)
		return 0;
	if (sscanf(line, "rate %31s %u", name, &n) == 2) {
		for (unsigned i = 0; i < SIM_RATES; i++)
			if (rates[i].name && strcmp(rates[i].name, name) == 0) {
				s->plan.rate[i] = n;
				return 0;
			}
		return -1;
	}
	if (sscanf(line, "op %u %31s %u %u %u", &op.dt_ms, name, &op.a, &op.b, &op.c) != 5)
		return -1;
	for (; op.kind < SIM_OPS; op.kind++)
		if (strcmp(kinds[op.kind].name, name) == 0) {
			keep(s, &op);
			return 0;
		}
	return -1;
}

int sim_plan_parse(struct sim *s, const char *text)
{
	s->plan.fixed = true;
	while (*text) {
		const char *end = strchr(text, '\n');

		if (parse_line(s, text) < 0)
			return -1;
		if (!end)
			break;
		text = end + 1;
	}
	return 0;
}
