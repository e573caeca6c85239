#include "sim/sim_int.h"

#include <stdlib.h>

/* What is going to happen, in the order of its time; what falls on the same time, in the order in which it was asked
 * for. And the streams that choices are drawn from. */

struct sim_timed {
	int64_t at;
	uint64_t seq, life, b;
	sim_fn fn;
	void *a;
};

static bool before(const struct sim_timed *x, const struct sim_timed *y)
{
	return x->at != y->at ? x->at < y->at : x->seq < y->seq;
}

static void sink(struct sim *s, size_t i)
{
	for (;;) {
		size_t least = i, l = 2 * i + 1, r = l + 1;
		struct sim_timed t;

		if (l < s->heap_count && before(&s->heap[l], &s->heap[least]))
			least = l;
		if (r < s->heap_count && before(&s->heap[r], &s->heap[least]))
			least = r;
		if (least == i)
			return;
		t = s->heap[i];
		s->heap[i] = s->heap[least];
		s->heap[least] = t;
		i = least;
	}
}

void sim_later(struct sim *s, int64_t us, bool life, sim_fn fn, void *a, uint64_t b)
{
	size_t i = s->heap_count;

	if (i == s->heap_size) {
		s->heap_size = i ? i * 2 : 1024;
		s->heap = realloc(s->heap, s->heap_size * sizeof(*s->heap));
		BASE_CHECK(s->heap);
	}
	s->heap_count++;
	s->heap[i] = (struct sim_timed){.at = s->now + (us > 0 ? us : 0),
		.seq = ++s->seq,
		.life = life ? s->life : 0,
		.b = b,
		.fn = fn,
		.a = a};
	while (i && before(&s->heap[i], &s->heap[(i - 1) / 2])) {
		struct sim_timed t = s->heap[i];

		s->heap[i] = s->heap[(i - 1) / 2];
		s->heap[(i - 1) / 2] = t;
		i = (i - 1) / 2;
	}
}

bool sim_step(struct sim *s, int64_t until)
{
	struct sim_timed t;

	if (!s->heap_count || s->heap[0].at > until)
		return false;
	t = s->heap[0];
	s->heap[0] = s->heap[--s->heap_count];
	sink(s, 0);
	if (t.at > s->now)
		s->now = t.at;
	if (!t.life || t.life == s->life)
		t.fn(s, t.a, t.b);
	return true;
}

uint64_t sim_draw(struct sim *s, enum sim_stream which, uint64_t n)
{
	return base_prng_below(&s->streams[which], n);
}

bool sim_chance(struct sim *s, enum sim_stream which, unsigned of_1000)
{
	return of_1000 && base_prng_below(&s->streams[which], 1000) < of_1000;
}
