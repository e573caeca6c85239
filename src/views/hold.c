/*
 * Rows of steps that are not written yet.
 *
 * H1 What is held belongs to the transaction that is open: it is written before that ends, and forgotten when it
 * is rolled back.
 *
 * H2 No statement reads or changes the row of a held step: views_project flushes before each event that could.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "views/views_int.h"

enum { HELD_MAX = 2048, BUCKETS = 4096, BYTES_MAX = 1 << 20 };

struct held {
	uint64_t run;
	uint32_t step;
	uint32_t next; /* in its bucket: index + 1, 0 ends */
	int64_t seq, time_ms;
	uint32_t at, len; /* of the event's bytes */
	bool written;
};

struct views_hold {
	struct held item[HELD_MAX];
	uint32_t bucket[BUCKETS]; /* index + 1 of the newest, 0: none */
	uint32_t count, bytes;
	char data[BYTES_MAX];
};

int views_hold_new(struct views_hold **ret)
{
	struct views_hold *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	*ret = h;
	return 0;
}

void views_hold_free(struct views_hold *h)
{
	free(h);
}

static uint32_t *bucket_of(struct views_hold *h, uint64_t run, uint32_t step)
{
	uint64_t x = (run * 0x9e3779b97f4a7c15u) ^ (step * 0xc2b2ae3d27d4eb4fu);

	return &h->bucket[(x >> 40) % BUCKETS];
}

static void clear(struct views_hold *h)
{
	if (h->count)
		memset(h->bucket, 0, sizeof(h->bucket));
	h->count = h->bytes = 0;
}

bool views_hold(
	struct views *v, int64_t seq, int64_t time_ms, const struct core_step_called *e, struct base_str body)
{
	struct views_hold *h = v->hold;
	uint32_t *b = bucket_of(h, e->run, e->step);
	struct held *item;

	if (body.len > BYTES_MAX)
		return false;
	if (h->count == HELD_MAX || body.len > BYTES_MAX - h->bytes) {
		views_hold_flush(v);
		b = bucket_of(h, e->run, e->step);
	}
	item = &h->item[h->count++];
	*item = (struct held){.run = e->run,
		.step = e->step,
		.next = *b,
		.seq = seq,
		.time_ms = time_ms,
		.at = h->bytes,
		.len = (uint32_t)body.len};
	*b = h->count;
	memcpy(h->data + h->bytes, body.ptr, body.len);
	h->bytes += item->len;
	return true;
}

static void write_row(struct views *v, struct held *item, const struct views_done *done)
{
	struct views_called called = {.seq = item->seq, .time_ms = item->time_ms};
	struct base_str body = {v->hold->data + item->at, item->len};

	/* It decoded when it came. */
	BASE_CHECK(core_step_called_get(body, &called.event) == 0);
	item->written = true;
	views_insert_called(v, &called, done);
}

bool views_held_done(struct views *v, const struct views_done *done)
{
	struct views_hold *h = v->hold;

	for (uint32_t i = *bucket_of(h, done->event->run, done->event->step); i; i = h->item[i - 1].next) {
		struct held *item = &h->item[i - 1];

		if (item->run != done->event->run || item->step != done->event->step)
			continue;
		if (item->written)
			return false;
		write_row(v, item, done);
		return true;
	}
	return false;
}

void views_hold_flush(struct views *v)
{
	struct views_hold *h = v->hold;

	for (uint32_t i = 0; i < h->count; i++)
		if (!h->item[i].written)
			write_row(v, &h->item[i], NULL);
	clear(h);
}

void views_hold_drop(struct views *v)
{
	clear(v->hold);
}
