#include "base/map.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"

/*
 * Invariants
 * 1. `size` is 0 or a power of two; at least a quarter of the slots of `now` is free.
 * 2. A slot is free if its value is NULL. Between the slot that an id hashes to and the slot where it stands
 * there is no free one (removal moves later ones back, so there are no tombstones).
 * 3. A table of another size takes over in portions, so that no single call is long: while `old` has slots, those
 * before `moved` stand in `now` (and are not looked at in `old` any more), the others stand only in `old`. Nothing is
 * added to `old`; what is removed from it leaves `gone`, so 2 holds for it.
 */
enum { SIZE_MIN = 16, MOVES = 16 };

struct slot {
	uint64_t id;
	void *value;
};

struct table {
	struct slot *slots;
	size_t size;
};

struct base_idmap {
	struct table now, old;
	size_t moved; /* slots of `old` that are done with */
	size_t count;
};

static void *const gone = (void *)UINTPTR_MAX; /* no pointer of a caller, nor a number that one keeps */

/* Ids are counted up: eight in a row stand side by side, so that many in order find their lines in the cache. */
static size_t home(const struct table *t, uint64_t id)
{
	uint64_t block = id >> 3;

	block = (block ^ block >> 32) * 0x9e3779b97f4a7c15u;
	return (size_t)((block ^ block >> 32) << 3 | (id & 7)) & (t->size - 1);
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
	free(m->now.slots);
	free(m->old.slots);
	free(m);
}

/* The slot where id stands or would stand. */
static struct slot *find(const struct table *t, uint64_t id)
{
	size_t i = home(t, id);

	while (t->slots[i].value && t->slots[i].id != id)
		i = (i + 1) & (t->size - 1);
	return &t->slots[i];
}

/* The slot in `old` where id still stands, or NULL. */
static struct slot *find_old(const struct base_idmap *m, uint64_t id)
{
	struct slot *s;

	if (!m->old.size)
		return NULL;
	s = find(&m->old, id);
	if (!s->value || s->value == gone || (size_t)(s - m->old.slots) < m->moved)
		return NULL;
	return s;
}

void *base_idmap_get(const struct base_idmap *m, uint64_t id)
{
	const struct slot *s = find_old(m, id);

	if (s)
		return s->value;
	return m->now.size ? find(&m->now, id)->value : NULL;
}

/* Brings up to `slots` slots over; the last lets the old table go. */
static void move(struct base_idmap *m, size_t slots)
{
	for (; m->moved < m->old.size && slots; slots--) {
		const struct slot *s = &m->old.slots[m->moved++];

		if (s->value && s->value != gone)
			*find(&m->now, s->id) = *s;
	}
	if (m->old.size == 0 || m->moved < m->old.size)
		return;
	free(m->old.slots);
	m->old = (struct table){NULL, 0};
	m->moved = 0;
}

static int resize(struct base_idmap *m, size_t size)
{
	struct slot *slots = calloc(size, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	move(m, SIZE_MAX); /* an earlier one is done long since */
	m->old = m->now;
	m->now = (struct table){slots, size};
	m->moved = 0;
	return 0;
}

int base_idmap_put(struct base_idmap *m, uint64_t id, void *value)
{
	struct slot *s;

	BASE_CHECK(value && value != gone);
	move(m, MOVES);
	s = find_old(m, id);
	if (s) {
		s->value = value;
		return 0;
	}
	s = m->now.size ? find(&m->now, id) : NULL;
	if (!s || (!s->value && m->count + 1 > m->now.size / 4 * 3)) {
		int r = resize(m, m->now.size ? m->now.size * 2 : SIZE_MIN);

		if (r < 0)
			return r;
		s = find_old(m, id);
		s = s ? s : find(&m->now, id);
	}
	m->count += !s->value;
	*s = (struct slot){id, value};
	return 0;
}

/* Empties a slot of `now`. */
static void close_up(const struct table *t, size_t hole)
{
	size_t mask = t->size - 1;

	for (size_t i = (hole + 1) & mask; t->slots[i].value; i = (i + 1) & mask) {
		/* It may fill the hole unless its home lies behind the hole. */
		if (((i - home(t, t->slots[i].id)) & mask) >= ((i - hole) & mask)) {
			t->slots[hole] = t->slots[i];
			hole = i;
		}
	}
	t->slots[hole].value = NULL;
}

void *base_idmap_remove(struct base_idmap *m, uint64_t id)
{
	struct slot *s;
	void *value;

	if (m->now.size == 0)
		return NULL;
	move(m, MOVES);
	s = find_old(m, id);
	if (s) {
		value = s->value;
		s->value = gone;
	} else {
		s = find(&m->now, id);
		value = s->value;
		if (!value)
			return NULL;
		close_up(&m->now, (size_t)(s - m->now.slots));
	}
	m->count--;
	/* Without memory for a smaller table the larger one stays. */
	if (m->now.size > SIZE_MIN && m->count < m->now.size / 8)
		(void)resize(m, m->now.size / 2);
	return value;
}

int base_idmap_reserve(struct base_idmap *m, size_t count)
{
	size_t size = m->now.size ? m->now.size : SIZE_MIN;

	while (count > size / 4 * 3)
		size *= 2;
	return size > m->now.size ? resize(m, size) : 0;
}

size_t base_idmap_count(const struct base_idmap *m)
{
	return m->count;
}

bool base_idmap_next(const struct base_idmap *m, size_t *cursor, uint64_t *ret_id, void **ret_value)
{
	size_t left = m->old.size - m->moved;

	while (*cursor < left + m->now.size) {
		size_t i = (*cursor)++;
		const struct slot *s = i < left ? &m->old.slots[m->moved + i] : &m->now.slots[i - left];

		if (!s->value || s->value == gone)
			continue;
		if (ret_id)
			*ret_id = s->id;
		if (ret_value)
			*ret_value = s->value;
		return true;
	}
	return false;
}
