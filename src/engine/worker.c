#include "engine/flows_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

/* What a worker has been given and has not answered, and how long it may take (F3 in flows.c). */

enum { RING_MIN = 256 };

void engine_worker_push(struct engine *e, struct engine_proc *p, uint64_t run)
{
	struct engine_worker *w = &p->worker;

	if (w->ring_count == w->ring_size) {
		size_t size = w->ring_size ? w->ring_size * 2 : RING_MIN;
		uint64_t *ring = malloc(size * sizeof(*ring));

		BASE_CHECK(ring);
		for (size_t i = 0; i < w->ring_count; i++)
			ring[i] = w->unacked[(w->ring_head + i) % w->ring_size];
		free(w->unacked);
		w->unacked = ring;
		w->ring_size = size;
		w->ring_head = 0;
	}
	w->unacked[(w->ring_head + w->ring_count++) % w->ring_size] = run;
	if (w->ring_count == 1)
		w->head_since = e->mono;
	if (!w->watched) {
		w->watched = true;
		engine_timer_add(e, ENGINE_TIMER_WATCHDOG, p->index, ENGINE_WATCHDOG_MS);
	}
}

/* Takes the oldest entry of `run` off; entries of runs that are gone (0) before it go too. */
void engine_worker_ack(struct engine *e, struct engine_proc *p, uint64_t run)
{
	struct engine_worker *w = &p->worker;

	for (size_t i = 0; i < w->ring_count; i++) {
		uint64_t *at = &w->unacked[(w->ring_head + i) % w->ring_size];

		if (*at != run)
			continue;
		*at = 0;
		break;
	}
	while (w->ring_count && w->unacked[w->ring_head] == 0) {
		w->ring_head = (w->ring_head + 1) % w->ring_size;
		w->ring_count--;
	}
	w->head_since = e->mono;
}

void engine_worker_forget(struct engine *e, struct engine_proc *p, uint64_t run)
{
	struct engine_worker *w = &p->worker;

	for (size_t i = 0; i < w->ring_count; i++) {
		uint64_t *at = &w->unacked[(w->ring_head + i) % w->ring_size];

		if (*at == run)
			*at = 0;
	}
	engine_worker_ack(e, p, 0);
}

void engine_worker_reset(struct engine_worker *w)
{
	w->version_count = 0;
	w->ring_head = w->ring_count = 0;
	w->watched = false;
	w->runs = 0;
	w->hung = false;
	w->stale_count = 0;
}

void engine_worker_watchdog(struct engine *e, uint64_t index)
{
	struct engine_proc *p = &e->procs[index];
	struct engine_worker *w = &p->worker;
	int64_t left;

	w->watched = false;
	if (!w->ring_count || p->state == ENGINE_DOWN)
		return;
	left = w->head_since + ENGINE_WATCHDOG_MS - e->mono;
	if (left <= 0) {
		uint64_t head = w->unacked[w->ring_head];
		char why[96];

		snprintf(why, sizeof(why), "run %llu does not come back", (unsigned long long)head);
		w->hung = true;
		engine_proc_kill(e, p, why);
		return;
	}
	w->watched = true;
	engine_timer_add(e, ENGINE_TIMER_WATCHDOG, index, left);
}
