/*
 * What counters and limits have counted: whole numbers, in parts of their windows (core_counter). A call counts in the
 * same decision that judges it, so that many at once cannot pass together; it is taken back only where it surely did not
 * happen.
 *
 * Invariants (core_counts_check walks them):
 *  N1  What is counted belongs to a counter or a limit of the policy.
 *  N2  The parts of a tally ascend, do not overlap, and hold more than nothing; no tally is empty.
 *  N3  What an open effect counted still stands in the part of its time, or that part is over.
 */
#include <string.h>

#include "base/check.h"
#include "base/codec.h"
#include "core/policy_int.h"

enum { SWEEP = 2 };

static int64_t sum_of(int64_t a, int64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static bool is_over(const struct core_counter *k, const struct core_bucket_sum *s, int64_t now_ms)
{
	return k->window_ms && s->end_ms <= now_ms - k->window_ms;
}

int64_t core_count_used(
	const struct base_names *counts, const struct core_counter *k, struct base_str key, int64_t now_ms)
{
	const struct core_count *count = base_names_get(counts, k->name);
	const struct core_tally *t = count ? base_names_get(count->tallies, key) : NULL;
	int64_t used = 0;

	for (uint32_t i = 0; t && i < t->count; i++)
		if (!is_over(k, &t->sum[i], now_ms))
			used = sum_of(used, t->sum[i].value);
	return used;
}

static void drop_tally(struct base_slab *slab, struct core_count *count, struct base_str key)
{
	struct core_tally *t = base_names_remove(count->tallies, key);

	base_slab_release(slab, t->sum, t->cap * sizeof(*t->sum));
	base_slab_release(slab, t, sizeof(*t));
}

/* Parts that are over go; true when none is left. */
static bool prune(struct core_tally *t, const struct core_counter *k, int64_t now_ms)
{
	uint32_t gone = 0;

	while (gone < t->count && is_over(k, &t->sum[gone], now_ms))
		gone++;
	if (gone) {
		t->count -= gone;
		memmove(t->sum, t->sum + gone, t->count * sizeof(*t->sum));
	}
	return t->count == 0;
}

/* Each time something is counted a few others are looked through: what is over does not stay. */
static void sweep(
	struct base_slab *slab, struct core_count *count, const struct core_counter *k, int64_t now_ms)
{
	struct base_str key, copy;
	void *value;

	for (int i = 0; k->window_ms && i < SWEEP; i++) {
		if (!base_names_seek(count->tallies, count->sweep, false, &key, &value)) {
			base_slab_str_release(slab, count->sweep);
			count->sweep = BASE_STR_NONE;
			return;
		}
		copy = base_slab_dup(slab, key);
		base_slab_str_release(slab, count->sweep);
		count->sweep = copy;
		if (prune(value, k, now_ms))
			drop_tally(slab, count, copy);
	}
}

static struct core_bucket_sum bucket_of(const struct core_counter *k, int64_t now_ms)
{
	/* From what is counted first on: what was counted before stood in another, which may be forgotten by now. */
	struct core_bucket_sum b = {.start_ms = now_ms, .end_ms = INT64_MAX};
	int64_t width = (k->window_ms + CORE_BUCKETS - 1) / CORE_BUCKETS;

	if (k->window_ms)
		b.end_ms = now_ms - now_ms % width + width;
	return b;
}

static void add(struct base_slab *slab, struct core_tally *t, const struct core_counter *k, int64_t value,
	int64_t now_ms)
{
	struct core_bucket_sum *last = t->count ? &t->sum[t->count - 1] : NULL;

	if (!last || now_ms >= last->end_ms) {
		struct core_bucket_sum b = bucket_of(k, now_ms);

		if (t->count == t->cap) {
			t->sum = base_slab_grow(
				slab, t->sum, t->cap, t->cap ? t->cap * 2 : 2, sizeof(*t->sum));
			t->cap = t->cap ? t->cap * 2 : 2;
		}
		last = &t->sum[t->count++];
		*last = b;
	}
	last->value = sum_of(last->value, value);
}

static struct core_count *count_of(struct base_names *counts, struct base_slab *slab, struct base_str name)
{
	struct core_count *count = base_names_get(counts, name);

	if (count)
		return count;
	count = base_slab_alloc(slab, sizeof(*count));
	BASE_CHECK(base_names_new(&count->tallies) == 0 && base_names_put(counts, name, count) == 0);
	return count;
}

static struct core_tally *tally_of(struct core_count *count, struct base_slab *slab, struct base_str key)
{
	struct core_tally *t = base_names_get(count->tallies, key);

	if (t)
		return t;
	t = base_slab_alloc(slab, sizeof(*t));
	BASE_CHECK(base_names_put(count->tallies, key, t) == 0);
	return t;
}

void core_count_add(struct base_names *counts, struct base_slab *slab, const struct core_policy *p,
	struct base_str json, int64_t time_ms)
{
	struct base_jv_iter it = {0};
	struct base_json *doc;
	struct base_str none;
	struct base_jv v;

	if (json.len == 0)
		return;
	BASE_CHECK(base_json_parse(json, &doc, NULL) == 0);
	while (base_jv_next(base_json_root(doc), &it, &none, &v)) {
		const struct core_counter *k = core_counter_find(p, base_jv_str(base_jv_get(v, "counter")));
		int64_t value = base_jv_int(base_jv_get(v, "value"), 0);
		struct core_tally *t;

		if (!k || value <= 0)
			continue;
		t = tally_of(count_of(counts, slab, k->name), slab, base_jv_str(base_jv_get(v, "key")));
		(void)prune(t, k, time_ms);
		add(slab, t, k, value, time_ms);
		sweep(slab, base_names_get(counts, k->name), k, time_ms);
	}
	base_json_free(doc);
}

static struct core_bucket_sum *bucket_at(struct core_tally *t, int64_t time_ms)
{
	for (uint32_t i = 0; t && i < t->count; i++)
		if (t->sum[i].start_ms <= time_ms && time_ms < t->sum[i].end_ms)
			return &t->sum[i];
	return NULL;
}

static void take(
	struct core_count *count, struct base_slab *slab, struct base_str key, int64_t value, int64_t time_ms)
{
	struct core_tally *t = base_names_get(count->tallies, key);
	struct core_bucket_sum *b = bucket_at(t, time_ms);

	if (!b || b->value == INT64_MAX) /* over; or more than can be counted, which stays */
		return;
	b->value -= value < b->value ? value : b->value;
	if (b->value)
		return;
	t->count--;
	memmove(b, b + 1, (size_t)(&t->sum[t->count] - b) * sizeof(*b));
	if (t->count == 0)
		drop_tally(slab, count, key);
}

void core_count_take(struct base_names *counts, struct base_slab *slab, struct base_str json, int64_t time_ms)
{
	struct base_jv_iter it = {0};
	struct base_json *doc;
	struct base_str none;
	struct base_jv v;

	if (json.len == 0)
		return;
	BASE_CHECK(base_json_parse(json, &doc, NULL) == 0);
	while (base_jv_next(base_json_root(doc), &it, &none, &v)) {
		struct core_count *count = base_names_get(counts, base_jv_str(base_jv_get(v, "counter")));

		if (count)
			take(count, slab, base_jv_str(base_jv_get(v, "key")),
				base_jv_int(base_jv_get(v, "value"), 0), time_ms);
	}
	base_json_free(doc);
}

void core_counts_free(struct base_names *counts)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; counts && base_names_seek(counts, at, first, &at, &value); first = false)
		base_names_free(((struct core_count *)value)->tallies);
	base_names_free(counts);
}

/* --- in the state --- */

void core_counts_apply(struct core_apply *a, struct core_effect *x, struct base_str counts)
{
	if (counts.len == 0)
		return;
	core_count_add(a->c->counts, a->c->slab, a->c->rules, counts, a->time_ms);
	x->counts = base_slab_dup(a->c->slab, counts);
	x->counted_ms = a->time_ms;
}

void core_counts_release(struct core *c, struct core_effect *x)
{
	core_count_take(c->counts, c->slab, x->counts, x->counted_ms);
	base_slab_str_release(c->slab, x->counts);
	x->counts = BASE_STR_NONE;
}

static bool undeclared(const struct core *c, struct base_str *ret)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(c->counts, at, first, &at, &value); first = false)
		if (!core_counter_find(c->rules, at)) {
			*ret = at;
			return true;
		}
	return false;
}

/* What an open effect counted for a counter that is gone is not taken from one of the same name that comes later. */
static void forget_counted(struct core *c, struct core_effect *x)
{
	struct base_jv_iter it = {0};
	struct base_json *doc;
	struct base_str none, counts;
	struct base_buf b;
	struct base_jw w;
	struct base_jv v;

	if (x->counts.len == 0)
		return;
	BASE_CHECK(base_json_parse(x->counts, &doc, NULL) == 0);
	base_buf_init(&b, x->counts.len + 64);
	w = base_jw_of(&b);
	base_jw_arr(&w);
	while (base_jv_next(base_json_root(doc), &it, &none, &v))
		if (core_counter_find(c->rules, base_jv_str(base_jv_get(v, "counter"))))
			base_jw_value(&w, v);
	base_jw_end_arr(&w);
	counts = base_buf_view(&b);
	core_set_str(c, &x->counts, base_str_is(counts, "[]") ? BASE_STR_NONE : counts);
	base_buf_done(&b);
	base_json_free(doc);
}

/* What a new policy does not count any more is forgotten. */
static void forget(struct core *c)
{
	struct base_str name, key;
	void *value;

	for (struct core_effect *x = c->effect_first; x; x = x->next)
		forget_counted(c, x);
	while (undeclared(c, &name)) {
		struct core_count *count = base_names_remove(c->counts, name);

		while (base_names_seek(count->tallies, BASE_STR_NONE, true, &key, &value))
			drop_tally(c->slab, count, key);
		base_names_free(count->tallies);
		base_slab_str_release(c->slab, count->sweep);
		base_slab_release(c->slab, count, sizeof(*count));
	}
}

void core_policy_load(struct core *c, bool set)
{
	core_policy_free(c->rules);
	c->rules = NULL;
	if (c->policy.len) {
		BASE_CHECK(core_policy_compile(c->policy, true, &c->rules, NULL) == 0);
		core_policy_index(c->rules, c->actions);
	}
	if (set)
		forget(c);
}

void core_policy_unload(struct core *c)
{
	core_policy_free(c->rules);
	core_counts_free(c->counts);
}

static void put_tallies(struct base_buf *b, const struct core_count *count)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	base_put_str(b, count->sweep);
	base_put_u64(b, base_names_count(count->tallies));
	for (bool first = true; base_names_seek(count->tallies, at, first, &at, &value); first = false) {
		const struct core_tally *t = value;

		base_put_str(b, at);
		base_put_u64(b, t->count);
		for (uint32_t i = 0; i < t->count; i++) {
			base_put_i64(b, t->sum[i].start_ms);
			base_put_i64(b, t->sum[i].end_ms);
			base_put_i64(b, t->sum[i].value);
		}
	}
}

void core_counts_put(const struct core *c, struct base_buf *b)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	base_put_u64(b, c->policy_seq);
	base_put_u64(b, base_names_count(c->counts));
	for (bool first = true; base_names_seek(c->counts, at, first, &at, &value); first = false) {
		base_put_str(b, at);
		put_tallies(b, value);
	}
}

static void get_tally(struct core *c, struct base_reader *r, struct core_tally *t)
{
	uint64_t n = base_get_uint(r, 1 << 20);

	for (uint64_t i = 0; i < n && !r->failed; i++) {
		if (t->count == t->cap) {
			t->sum = base_slab_grow(
				c->slab, t->sum, t->cap, t->cap ? t->cap * 2 : 2, sizeof(*t->sum));
			t->cap = t->cap ? t->cap * 2 : 2;
		}
		t->sum[t->count].start_ms = base_get_i64(r);
		t->sum[t->count].end_ms = base_get_i64(r);
		t->sum[t->count++].value = base_get_i64(r);
	}
}

void core_counts_get(struct core *c, struct base_reader *r)
{
	uint64_t n, tallies;

	c->policy_seq = base_get_u64(r);
	n = base_get_u64(r);
	for (uint64_t i = 0; i < n && !r->failed; i++) {
		struct core_count *count = count_of(c->counts, c->slab, base_get_str(r));

		count->sweep = base_slab_dup(c->slab, base_get_str(r));
		tallies = base_get_u64(r);
		for (uint64_t k = 0; k < tallies && !r->failed; k++)
			get_tally(c, r, tally_of(count, c->slab, base_get_str(r)));
	}
}

static void check_effect(const struct core *c, const struct core_effect *x)
{
	struct base_jv_iter it = {0};
	struct base_json *doc;
	struct base_str none;
	struct base_jv v;

	if (x->counts.len == 0)
		return;
	BASE_CHECK(base_json_parse(x->counts, &doc, NULL) == 0);
	while (base_jv_next(base_json_root(doc), &it, &none, &v)) {
		const struct core_count *count =
			base_names_get(c->counts, base_jv_str(base_jv_get(v, "counter")));
		struct core_tally *t =
			count ? base_names_get(count->tallies, base_jv_str(base_jv_get(v, "key"))) : NULL;
		const struct core_bucket_sum *b = bucket_at(t, x->counted_ms);

		BASE_CHECK(!b || b->value >= base_jv_int(base_jv_get(v, "value"), 0)); /* N3 */
	}
	base_json_free(doc);
}

void core_counts_check(const struct core *c)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(c->counts, at, first, &at, &value); first = false) {
		const struct core_count *count = value;
		struct base_str key = BASE_STR_NONE;

		BASE_CHECK(core_counter_find(c->rules, at)); /* N1 */
		for (bool begin = true; base_names_seek(count->tallies, key, begin, &key, &value);
			begin = false) {
			const struct core_tally *t = value;

			BASE_CHECK(t->count > 0);
			for (uint32_t i = 0; i < t->count; i++) /* N2 */
				BASE_CHECK(t->sum[i].start_ms < t->sum[i].end_ms && t->sum[i].value > 0 &&
					   (i == 0 || t->sum[i].start_ms >= t->sum[i - 1].end_ms));
		}
	}
	for (const struct core_effect *x = c->effect_first; x; x = x->next)
		check_effect(c, x);
}
