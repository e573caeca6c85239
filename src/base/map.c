#include "base/map.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"

/*
 * Invariants
 * 1. `size` is 0 or a power of two; at least a quarter of the slots is free.
 * 2. A slot is free if its value is NULL. Between the slot that an id hashes to and the slot where it stands
 * there is no free one (removal moves later ones back, so there are no tombstones).
 */
enum { SIZE_MIN = 16 };

struct slot {
	uint64_t id;
	void *value;
};

struct base_idmap {
	struct slot *slots;
	size_t size;
	size_t count;
};

static size_t home(const struct base_idmap *m, uint64_t id)
{
	id = (id ^ id >> 32) * 0x9e3779b97f4a7c15u;
	return (size_t)(id ^ id >> 32) & (m->size - 1);
}

int base_idmap_new(struct base_idmap **ret)
{
	struct base_idmap *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	*ret = m;
	return 0;
}

void base_idmap_free(struct base_idmap *m)
{
	if (!m)
		return;
	free(m->slots);
	free(m);
}

/* The slot where id stands or would stand. */
static struct slot *find(const struct base_idmap *m, uint64_t id)
{
	size_t i = home(m, id);

	while (m->slots[i].value && m->slots[i].id != id)
		i = (i + 1) & (m->size - 1);
	return &m->slots[i];
}

void *base_idmap_get(const struct base_idmap *m, uint64_t id)
{
	return m->size ? find(m, id)->value : NULL;
}

static int resize(struct base_idmap *m, size_t size)
{
	struct base_idmap to = {.size = size, .count = m->count};
	size_t i;

	to.slots = calloc(size, sizeof(*to.slots));
	if (!to.slots)
		return -ENOMEM;
	for (i = 0; i < m->size; i++)
		if (m->slots[i].value)
			*find(&to, m->slots[i].id) = m->slots[i];
	free(m->slots);
	*m = to;
	return 0;
}

int base_idmap_put(struct base_idmap *m, uint64_t id, void *value)
{
	struct slot *s;

	BASE_CHECK(value);
	s = m->size ? find(m, id) : NULL;
	if (!s || (!s->value && (m->count + 1) > m->size / 4 * 3)) {
		int r = resize(m, m->size ? m->size * 2 : SIZE_MIN);

		if (r < 0)
			return r;
		s = find(m, id);
	}
	m->count += !s->value;
	*s = (struct slot){id, value};
	return 0;
}

void *base_idmap_remove(struct base_idmap *m, uint64_t id)
{
	size_t mask = m->size - 1, hole, i;
	struct slot *s;
	void *value;

	if (m->size == 0)
		return NULL;
	s = find(m, id);
	value = s->value;
	if (!value)
		return NULL;
	hole = (size_t)(s - m->slots);
	for (i = (hole + 1) & mask; m->slots[i].value; i = (i + 1) & mask) {
		/* It may fill the hole unless its home lies behind the hole. */
		if (((i - home(m, m->slots[i].id)) & mask) >= ((i - hole) & mask)) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole].value = NULL;
	m->count--;
	/* Without memory for a smaller table the larger one stays. */
	if (m->size > SIZE_MIN && m->count < m->size / 8)
		(void)resize(m, m->size / 2);
	return value;
}

int base_idmap_reserve(struct base_idmap *m, size_t count)
{
	size_t size = m->size ? m->size : SIZE_MIN;

	while (count > size / 4 * 3)
		size *= 2;
	return size > m->size ? resize(m, size) : 0;
}

size_t base_idmap_count(const struct base_idmap *m)
{
	return m->count;
}

bool base_idmap_next(const struct base_idmap *m, size_t *cursor, uint64_t *ret_id, void **ret_value)
{
	while (*cursor < m->size) {
		const struct slot *s = &m->slots[(*cursor)++];

		if (!s->value)
			continue;
		if (ret_id)
			*ret_id = s->id;
		if (ret_value)
			*ret_value = s->value;
		return true;
	}
	return false;
}
