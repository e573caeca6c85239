#include "engine/near.h"

#include <sched.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/engine_int.h"

/*
 * Where the workers run. A step goes from aiosd to aios-connect, back, to aios-flow and back: four times somebody
 * is woken. Where next to nothing runs, most of that time is the waking of another processor, so the workers are
 * put beside aiosd; as soon as there is something to do at once, they run wherever there is room.
 *
 * N1 aiosd itself is never bound: a flow that computes next to it loses the processor to nobody but itself and
 * its neighbours, aiosd is moved away from it.
 *
 * N2 A worker is never bound while more than NEAR_BUSY things are under way.
 */
enum { NEAR_BUSY = 2, CALM_TURNS = 200, LOOK_TURNS = 64 };

struct engine_near {
	cpu_set_t all; /* what aiosd itself may use */
	bool able;     /* there is more than one */
	int cpu;       /* where the workers are bound to, -1: nowhere */
	unsigned calm; /* turns in a row with next to nothing under way */
};

int engine_near_new(struct engine_near **ret)
{
	struct engine_near *n = calloc(1, sizeof(*n));

	if (!n)
		return -1;
	n->cpu = -1;
	n->able = sched_getaffinity(0, sizeof(n->all), &n->all) == 0 && CPU_COUNT(&n->all) > 1;
	*ret = n;
	return 0;
}

void engine_near_free(struct engine_near *n)
{
	free(n);
}

static void place(struct engine *e, struct engine_near *n, int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	if (cpu >= 0)
		CPU_SET((unsigned)cpu, &one);
	for (size_t i = 0; i < e->proc_count; i++) {
		const struct engine_proc *p = &e->procs[i];

		/* A refusal costs time and nothing else. */
		if ((p->kind == ENGINE_FLOW || p->kind == ENGINE_CONNECT) && p->state == ENGINE_UP)
			(void)sched_setaffinity(p->pid, sizeof(one), cpu >= 0 ? &one : &n->all);
	}
	n->cpu = cpu;
}

static size_t under_way(const struct engine *e)
{
	size_t count = engine_effects_count(e);

	for (size_t i = 0; i < e->proc_count; i++)
		count += e->procs[i].worker.ring_count;
	return count;
}

void engine_near_turn(struct engine *e, struct engine_near *n)
{
	int cpu;

	if (!n->able)
		return;
	if (under_way(e) > NEAR_BUSY) {
		n->calm = 0;
		if (n->cpu >= 0)
			place(e, n, -1);
		BASE_CHECK(n->cpu < 0); /* N2 */
		return;
	}
	if (++n->calm < CALM_TURNS || (n->cpu >= 0 && n->calm % LOOK_TURNS != 0))
		return;
	cpu = sched_getcpu();
	if (cpu >= 0 && cpu != n->cpu)
		place(e, n, cpu);
}
