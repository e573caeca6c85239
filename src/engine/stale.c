#include <stdlib.h>

#include "base/check.h"
#include "engine/engine_int.h"

/*
 * F6 A run that was dropped from a worker may come back to the same worker before that has read of it. What the worker
 * still says of the life that is over is told from what it says of the next: it answers every frame once, in order,
 * unless the life ends by itself; so as many answers are let pass as frames were unanswered at the drop, and the
 * calls before them.
 */

/* A life that is over, until the worker has said all of it. */
struct engine_stale {
	uint64_t run;
	uint32_t answers;
};

void engine_stale_add(struct engine_worker *w, uint64_t run, uint32_t answers)
{
	if (w->stale_count == w->stale_size) {
		w->stale_size = w->stale_size ? w->stale_size * 2 : 16;
		w->stale = realloc(w->stale, w->stale_size * sizeof(*w->stale));
		BASE_CHECK(w->stale);
	}
	w->stale[w->stale_count++] = (struct engine_stale){run, answers};
}

bool engine_stale(struct engine_worker *w, uint64_t run, unsigned type)
{
	size_t i = 0;

	while (i < w->stale_count && w->stale[i].run != run)
		i++;
	if (i == w->stale_count)
		return false;
	if (type == WIRE_FLOW_CALL || (type == WIRE_FLOW_IDLE && --w->stale[i].answers > 0))
		return true;
	for (; i + 1 < w->stale_count; i++)
		w->stale[i] = w->stale[i + 1];
	w->stale_count--;
	return true;
}
