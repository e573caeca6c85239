/* Lanes and rates of starts: found by name, their limits, who stands in them. The sets and their order: apply_admit.c. */
#include <string.h>

#include "core/core_int.h"

enum { ID = 8, HOLDER_KEY = 16 };

void core_be(char *to, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		to[i] = (char)(v >> (56 - 8 * i));
}

uint64_t core_from_be(const char *at)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | (uint8_t)at[i];
	return v;
}

struct base_str core_lane_name(struct base_arena *a, struct base_str flow, struct base_str key)
{
	static const char separator = CORE_LANE_SEPARATOR;

	return BASE_JOIN(a, flow, {&separator, 1}, key);
}

struct base_str core_lane_flow(const struct core_flow *f)
{
	return f ? f->name : BASE_STR("aios:agent");
}

struct core_lane *core_lane_find(
	const struct core *c, struct base_str flow, struct base_str key, struct base_arena *arena)
{
	return base_names_get(c->lanes, core_lane_name(arena, flow, key));
}

struct core_bucket *core_bucket_find(
	const struct core *c, struct base_str flow, struct base_str key, struct base_arena *arena)
{
	return base_names_get(c->buckets, core_lane_name(arena, flow, key));
}

const struct core_control *core_flow_control(const struct core_flow *f)
{
	return f && f->current ? f->current->control : NULL;
}

int64_t core_lane_limit(const struct core_lane *l)
{
	const struct core_control *k = core_flow_control(l->flow);

	return l->keyed && k && k->limit ? k->limit : INT64_MAX;
}

enum core_lane_policy core_lane_policy_of(const struct core_lane *l)
{
	const struct core_control *k = core_flow_control(l->flow);

	return l->keyed && k && k->limit ? k->policy : CORE_FIFO;
}

int64_t core_bucket_slot(const struct core_bucket *b, int64_t now_ms)
{
	const struct core_control *k = core_flow_control(b->flow);
	int64_t slot_us;

	if (!k || !k->interval_us)
		return 0;
	slot_us = b->next_us - (k->burst - 1) * k->interval_us;
	return slot_us > now_ms * 1000 ? (slot_us + 999) / 1000 : 0;
}

/* The run of the first entry of `set` that begins with this id and stands behind `seq`. */
static struct core_run *first_of(const struct base_names *set, uint64_t id, uint64_t after, bool any)
{
	char from[HOLDER_KEY];
	struct base_str key;
	void *value;

	core_be(from, id);
	core_be(from + ID, after);
	if (!base_names_seek(set, (struct base_str){from, any ? ID : sizeof(from)}, any, &key, &value) ||
		memcmp(key.ptr, from, ID) != 0)
		return NULL;
	return value;
}

struct core_run *core_lane_waiting(
	const struct core *c, const struct core_lane *l, const struct core_run *except)
{
	struct base_str key;
	char from[ID];
	void *value;

	core_be(from, l->id);
	for (bool ok = base_names_seek(c->waiting, (struct base_str){from, ID}, true, &key, &value);
		ok && memcmp(key.ptr, from, ID) == 0;
		ok = base_names_seek(c->waiting, key, false, &key, &value))
		if (value != except)
			return value;
	return NULL;
}

struct core_run *core_lane_head(const struct core *c, const struct core_lane *l)
{
	return first_of(c->waiting, l->id, 0, true);
}

struct core_run *core_lane_oldest(const struct core *c, const struct core_lane *l, uint64_t after_seq)
{
	return first_of(c->holders, l->id, after_seq, after_seq == 0);
}

struct core_run *core_lane_last(const struct core *c, const struct core_lane *l)
{
	struct core_run *last = NULL;
	struct base_str key;
	char from[ID];
	void *value;

	core_be(from, l->id);
	for (bool ok = base_names_seek(c->waiting, (struct base_str){from, ID}, true, &key, &value);
		ok && memcmp(key.ptr, from, ID) == 0;
		ok = base_names_seek(c->waiting, key, false, &key, &value))
		if (!last || ((struct core_run *)value)->id > last->id)
			last = value;
	return last;
}
