/*
 * Ended runs that are still known, until retention forgets them (run_forgotten): where their run_ended stands in the log.
 * From there run.wait, `why` and forks answer. A start key is known as long as its run.
 */
#include "base/check.h"
#include "core/core_int.h"

/* A run with a start key is found through it, any other by the position itself. */
void core_ended_put(struct core *c, uint64_t run, uint64_t seq, struct core_key *k)
{
	uintptr_t value = k ? (uintptr_t)k | 1 : (uintptr_t)seq << 1;

	if (k)
		k->seq_ended = seq;
	BASE_CHECK(base_idmap_put(c->ended, run, (void *)value) == 0);
}

uint64_t core_ended_seq(const struct core *c, uint64_t run)
{
	uintptr_t value = (uintptr_t)base_idmap_get(c->ended, run);

	return value & 1 ? ((const struct core_key *)(value - 1))->seq_ended : value >> 1;
}

void core_ended_drop(struct core *c, uint64_t run)
{
	uintptr_t value = (uintptr_t)base_idmap_remove(c->ended, run);
	struct core_key *k = value & 1 ? (struct core_key *)(value - 1) : NULL;

	if (!k)
		return;
	base_names_remove(c->keys, k->name);
	base_slab_release(c->slab, k, sizeof(*k));
}

/* --- snapshots --- */

static void put_one_ended(const struct core *c, uint64_t run, struct base_buf *b)
{
	base_put_u64(b, run);
	base_put_u64(b, core_ended_seq(c, run));
	base_put_u64(b, (uintptr_t)base_idmap_get(c->ended, run) & 1);
}

/* In the order of their numbers. Most runs that ever were are known yet: then to try each number is quicker than to sort. */
void core_ended_save(const struct core *c, struct base_buf *b)
{
	size_t n = base_idmap_count(c->ended), cursor = 0;
	struct base_heap_item item;
	struct base_heap *h;
	uint64_t id;
	void *value;

	base_put_u64(b, n);
	if (c->next_run < 16 * (uint64_t)n) {
		for (id = 1; id < c->next_run; id++)
			if (base_idmap_get(c->ended, id))
				put_one_ended(c, id, b);
		return;
	}
	BASE_CHECK(base_heap_new(&h) == 0);
	while (base_idmap_next(c->ended, &cursor, &id, &value))
		BASE_CHECK(base_heap_push(h, (struct base_heap_item){.id = id}) == 0);
	while (base_heap_pop(h, &item))
		put_one_ended(c, item.id, b);
	base_heap_free(h);
}

void core_ended_load(struct core *c, struct base_reader *rd)
{
	struct base_idmap *keyed;
	struct base_str at = BASE_STR_NONE;
	uint64_t n;
	void *value;

	BASE_CHECK(base_idmap_new(&keyed) == 0);
	for (bool first = true; base_names_seek(c->keys, at, first, &at, &value); first = false) {
		struct core_key *k = value;

		k->name = at;
		BASE_CHECK(base_idmap_put(keyed, k->run, k) == 0);
	}
	n = base_get_u64(rd);
	for (uint64_t i = 0; i < n && !rd->failed; i++) {
		uint64_t run = base_get_u64(rd), seq = base_get_u64(rd);
		bool has_key = base_get_u64(rd) != 0;
		struct core_key *k = has_key ? base_idmap_get(keyed, run) : NULL;

		if (has_key && !k)
			rd->failed = 1;
		else
			core_ended_put(c, run, seq, k);
	}
	base_idmap_free(keyed);
}

/* --- retention --- */

void core_decide_run_forget(struct core_turn *t)
{
	uint64_t run = t->cmd->run;

	if (!core_ended_seq(t->c, run) || core_run_find(t->c, run)) {
		bool known = core_run_find(t->c, run) != NULL;

		core_refuse(t, known ? 409 : 404, known ? "not_ended" : "unknown_run",
			known ? "run %llu has not come to its end" : "there is no ended run %llu",
			(unsigned long long)run);
		return;
	}
	core_run_forgotten_emit(t->block, t->cmd->now_ms, &(struct core_run_forgotten){.run = run});
}
