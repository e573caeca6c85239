#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "door/door_int.h"

enum { TARGET_CAP = 16 << 10, KEEP = 32 << 10 };

/* An id names a slot and which use of the slot it is, so that a late answer finds nobody. */
uint64_t door_req_id(const struct door_req *q)
{
	return (uint64_t)q->gen << 32 | q->slot;
}

struct door_req *door_req_find(struct door *d, uint64_t id)
{
	uint32_t slot = (uint32_t)id;
	struct door_req *q = slot < d->slot_count ? d->slots[slot] : NULL;

	if (!q || q->gen != (uint32_t)(id >> 32) || (q->state != REQ_SENT && q->state != REQ_STREAM))
		return NULL;
	return q;
}

static int grow(struct door *d)
{
	uint32_t n = d->slot_count ? d->slot_count * 2 : 64;
	struct door_req **slots;
	uint32_t *free_slots;

	if (n > DOOR_REQUESTS_MAX)
		return -1;
	slots = realloc(d->slots, n * sizeof(struct door_req *));
	if (!slots)
		return -1;
	d->slots = slots;
	free_slots = realloc(d->free_slots, n * sizeof(uint32_t));
	if (!free_slots)
		return -1;
	d->free_slots = free_slots;
	memset(slots + d->slot_count, 0, (n - d->slot_count) * sizeof(struct door_req *));
	while (n > d->slot_count) {
		d->free_slots[d->free_count++] = d->slot_count;
		d->slot_count++;
	}
	return 0;
}

struct door_req *door_req_new(struct door *d)
{
	struct door_req *q;
	uint32_t slot;

	if (d->free_count == 0 && grow(d) < 0)
		return NULL;
	slot = d->free_slots[d->free_count - 1];
	q = d->slots[slot];
	if (!q) {
		q = calloc(1, sizeof(*q));
		if (!q)
			return NULL;
		q->slot = slot;
		q->door = d;
		base_buf_init(&q->target, TARGET_CAP);
		base_buf_init(&q->body, WIRE_BODY_MAX);
		base_buf_init(&q->stream, d->config.stream_max);
		d->slots[slot] = q;
	}
	d->free_count--;
	BASE_CHECK(q->state == REQ_FREE);
	q->gen++;
	q->state = REQ_NEW;
	return q;
}

/* Memory of usual size stays for the next request. */
static void recycle(struct base_buf *b)
{
	size_t cap = b->cap;

	if (b->size > KEEP) {
		base_buf_done(b);
		base_buf_init(b, cap);
	}
	base_buf_clear(b);
}

void door_req_free(struct door_req *q)
{
	struct door *d = q->door;

	BASE_CHECK(q->state != REQ_FREE);
	if (q->response)
		MHD_destroy_response(q->response);
	recycle(&q->target);
	recycle(&q->body);
	recycle(&q->stream);
	q->state = REQ_FREE;
	q->conn = NULL;
	q->mhd = NULL;
	q->response = NULL;
	q->status = 0;
	memset(&q->fail, 0, offsetof(struct door_fail, detail));
	q->fail.line = q->fail.column = 0;
	q->fail.close = false;
	q->fail.allow = NULL;
	q->fail.retry_ms = 0;
	q->received = 0;
	q->sent_ms = q->beat_ms = 0;
	q->head_only = q->watched = q->suspended = q->ended = q->gone = false;
	q->stream_at = 0;
	d->free_slots[d->free_count++] = q->slot;
}
