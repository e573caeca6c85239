/*
 * The state in a canonical form: a version, then each part in a fixed order, maps in the order of their keys.
 * What is derived (timers, schemas, compiled rules) is left out and made anew.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "core/undo_int.h"

enum { FORMAT = 22 };

static uint64_t u(struct base_reader *r)
{
	return base_get_u64(r);
}

static struct base_str text(struct core *c, struct base_reader *r)
{
	return base_slab_dup(c->slab, base_get_str(r));
}

/* --- named things --- */

typedef void (*put_fn)(struct base_buf *b, struct base_str key, const void *value);
typedef void *(*get_fn)(struct core *c, struct base_str key, struct base_reader *r);

static void put_names(struct base_buf *b, const struct base_names *m, put_fn put)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	base_put_u64(b, base_names_count(m));
	for (bool first = true; base_names_seek(m, at, first, &at, &value); first = false) {
		base_put_str(b, at);
		put(b, at, value);
	}
}

static void get_names(struct core *c, struct base_reader *r, struct base_names *m, get_fn get)
{
	uint64_t n = u(r);

	for (uint64_t i = 0; i < n && !r->failed; i++) {
		struct base_str key = base_get_str(r);
		void *value = get(c, key, r);

		if (!r->failed && base_names_put(m, key, value) < 0)
			r->failed = 1;
	}
}

static void put_principal(struct base_buf *b, struct base_str key, const void *value)
{
	const struct core_principal *p = value;

	(void)key;
	base_put_str(b, p->kind);
	base_put_str(b, p->name);
	base_put_str(b, p->by);
	base_put_str(b, (struct base_str){(const char *)p->public_key, p->has_key ? 32 : 0});
	base_put_u64(b, p->revoked);
	base_put_i64(b, p->expires_ms);
	core_put_patterns(b, &p->grants);
	base_put_str(b, p->scope);
	base_put_str(b, (struct base_str){(const char *)p->old_key, p->has_old ? 32 : 0});
	base_put_u64(b, p->fresh);
	base_put_i64(b, p->old_until_ms);
	base_put_i64(b, p->used_ms);
}

static void *get_principal(struct core *c, struct base_str key, struct base_reader *r)
{
	struct core_principal *p = base_slab_alloc(c->slab, sizeof(*p));
	struct base_str pub;

	p->id = base_slab_dup(c->slab, key);
	p->kind = text(c, r);
	p->name = text(c, r);
	p->by = text(c, r);
	pub = base_get_str(r);
	p->has_key = pub.len == 32;
	if (p->has_key)
		memcpy(p->public_key, pub.ptr, 32);
	p->revoked = u(r) != 0;
	p->expires_ms = base_get_i64(r);
	core_get_patterns(c, r, &p->grants);
	p->scope = text(c, r);
	pub = base_get_str(r);
	p->has_old = pub.len == 32;
	if (p->has_old)
		memcpy(p->old_key, pub.ptr, 32);
	p->fresh = u(r) != 0;
	p->old_until_ms = base_get_i64(r);
	p->used_ms = base_get_i64(r);
	return p;
}

static void put_version(struct base_buf *b, struct base_str key, const void *value)
{
	const struct core_version *v = value;

	(void)key;
	base_put_u64(b, v->seq);
	base_put_str(b, v->flow);
	base_put_str(b, v->spec);
}

static void *get_version(struct core *c, struct base_str key, struct base_reader *r)
{
	uint64_t seq = u(r);
	struct base_str flow = base_get_str(r), spec = base_get_str(r);
	struct base_hash h;

	if (key.len != sizeof(h.b)) {
		r->failed = 1;
		return NULL;
	}
	memcpy(h.b, key.ptr, sizeof(h.b));
	return core_version_make(c, flow, &h, seq, spec);
}

static void put_meter(struct base_buf *b, const struct core_meter *m)
{
	base_put_u64(b, m->month);
	base_put_i64(b, m->spent);
}

static struct core_meter get_meter(struct base_reader *r)
{
	uint32_t month = (uint32_t)base_get_uint(r, UINT32_MAX);

	return (struct core_meter){.month = month, .spent = base_get_i64(r)};
}

static void put_flow(struct base_buf *b, struct base_str key, const void *value)
{
	const struct core_flow *f = value;

	(void)key;
	base_put_hash(b, &f->current->hash);
	put_meter(b, &f->meter);
	base_put_i64(b, f->reserved);
}

static void *get_flow(struct core *c, struct base_str key, struct base_reader *r)
{
	struct core_flow *f = base_slab_alloc(c->slab, sizeof(*f));
	struct base_hash h;

	f->name = base_slab_dup(c->slab, key);
	base_get_hash(r, &h);
	f->current = base_names_get(c->versions, (struct base_str){(const char *)h.b, sizeof(h.b)});
	f->meter = get_meter(r);
	f->reserved = base_get_i64(r);
	if (!f->current)
		r->failed = 1;
	return f;
}

static void put_agent(struct base_buf *b, struct base_str key, const void *value)
{
	const struct core_agent *a = value;

	(void)key;
	base_put_str(b, a->definition);
	base_put_hash(b, &a->version);
}

static void *get_agent(struct core *c, struct base_str key, struct base_reader *r)
{
	struct core_agent *a = base_slab_alloc(c->slab, sizeof(*a));

	a->name = base_slab_dup(c->slab, key);
	a->definition = text(c, r);
	base_get_hash(r, &a->version);
	return a;
}

static void put_connector(struct base_buf *b, struct base_str key, const void *value)
{
	const struct core_connector *k = value;

	(void)key;
	base_put_i64(b, k->next_us);
	base_put_u64(b, k->fails);
	base_put_i64(b, k->open_until_ms);
}

static void *get_connector(struct core *c, struct base_str key, struct base_reader *r)
{
	struct core_connector *k = base_slab_alloc(c->slab, sizeof(*k));

	k->name = base_slab_dup(c->slab, key);
	k->next_us = base_get_i64(r);
	k->fails = (uint32_t)base_get_uint(r, UINT32_MAX);
	k->open_until_ms = base_get_i64(r);
	return k;
}

static void put_fact(struct base_buf *b, struct base_str key, const void *value)
{
	const struct core_fact *f = value;

	(void)key;
	base_put_u64(b, f->version);
	base_put_u64(b, f->seq);
	base_put_u64(b, f->removed);
	base_put_u64(b, f->labels);
}

static void *get_fact(struct core *c, struct base_str key, struct base_reader *r)
{
	struct core_fact *f = base_slab_alloc(c->slab, sizeof(*f));

	(void)key;
	f->version = u(r);
	f->seq = u(r);
	f->removed = u(r) != 0;
	f->labels = (uint8_t)base_get_uint(r, 255);
	return f;
}

static void put_key(struct base_buf *b, struct base_str key, const void *value)
{
	const struct core_key *k = value;

	(void)key;
	base_put_u64(b, k->run);
	base_buf_put(b, k->input, sizeof(k->input));
	base_put_u64(b, k->ended);
}

static void *get_key(struct core *c, struct base_str key, struct base_reader *r)
{
	uint64_t run = u(r);
	struct core_key *k;

	(void)key;
	if (r->failed || r->end - r->at < CORE_HASH_SHORT) {
		r->failed = 1;
		return NULL;
	}
	k = core_key_new(c, run, (const uint8_t *)r->at);
	r->at += CORE_HASH_SHORT;
	k->ended = u(r) != 0;
	return k;
}

static void put_number(struct base_buf *b, struct base_str key, const void *value)
{
	(void)key;
	base_put_u64(b, (uintptr_t)value);
}

static void *get_number(struct core *c, struct base_str key, struct base_reader *r)
{
	(void)c;
	(void)key;
	return (void *)(uintptr_t)u(r);
}

static void put_experiment(struct base_buf *b, struct base_str key, const void *value)
{
	const struct core_experiment *x = value;

	(void)key;
	base_put_u64(b, x->arms);
	base_put_u64(b, x->labels);
	for (uint32_t i = 0; i < CORE_ARMS_MAX; i++) {
		base_put_u64(b, x->arm[i].n);
		base_put_u64(b, x->arm[i].wins);
		base_put_i64(b, x->arm[i].value);
	}
	base_put_u64(b, x->chosen);
	base_put_u64(b, x->run);
	base_put_u64(b, x->units ? 1 : 0);
	if (x->units)
		put_names(b, x->units, put_number);
}

static void *get_experiment(struct core *c, struct base_str key, struct base_reader *r)
{
	struct core_experiment *x = base_slab_alloc(c->slab, sizeof(*x));

	(void)key;
	x->arms = (uint32_t)base_get_uint(r, CORE_ARMS_MAX);
	x->labels = (uint8_t)base_get_uint(r, CORE_LABELS_ALL);
	for (uint32_t i = 0; i < CORE_ARMS_MAX; i++) {
		x->arm[i].n = u(r);
		x->arm[i].wins = u(r);
		x->arm[i].value = base_get_i64(r);
	}
	x->chosen = u(r);
	x->run = u(r);
	if (u(r) && base_names_new(&x->units) == 0)
		get_names(c, r, x->units, get_number);
	return x;
}

/* --- crashes --- */

static void put_crashes(struct base_buf *b, uint64_t run, const struct core_crashes *k)
{
	base_put_u64(b, run);
	base_put_u64(b, k->position);
	base_put_u64(b, k->count);
	base_put_u64(b, k->total);
	for (unsigned i = 0; i < CORE_CRASHES_KEPT; i++)
		base_put_u64(b, k->seq[i]);
}

static void get_crashes(struct core *c, struct base_reader *r)
{
	struct core_crashes *k = base_slab_alloc(c->slab, sizeof(*k));
	uint64_t run = u(r);

	k->position = u(r);
	k->count = (uint32_t)base_get_uint(r, UINT32_MAX);
	k->total = (uint32_t)base_get_uint(r, UINT32_MAX);
	for (unsigned i = 0; i < CORE_CRASHES_KEPT; i++)
		k->seq[i] = u(r);
	if (!r->failed && (!core_run_find(c, run) || base_idmap_put(c->crashes, run, k) < 0))
		r->failed = 1;
}

/* By byte, the lowest first; qsort would ask the kernel for the size of the machine's memory. */
static void sort(uint64_t *ids, uint64_t *spare, size_t n)
{
	uint64_t all = 0;

	for (size_t i = 0; i < n; i++)
		all |= ids[i];
	for (unsigned shift = 0; shift < 64 && all >> shift; shift += 8) {
		size_t at[257] = {0};

		for (size_t i = 0; i < n; i++)
			at[(ids[i] >> shift & 255) + 1]++;
		for (size_t i = 1; i < 257; i++)
			at[i] += at[i - 1];
		for (size_t i = 0; i < n; i++)
			spare[at[ids[i] >> shift & 255]++] = ids[i];
		memcpy(ids, spare, n * sizeof(*ids));
	}
}

/* Ids of a map in ascending order, so that equal states give equal bytes. */
static size_t sorted_ids(const struct base_idmap *m, struct base_arena *a, uint64_t **ret)
{
	size_t n = base_idmap_count(m), i = 0, cursor = 0;
	uint64_t *ids = base_arena_array(a, n + 1, sizeof(*ids)), id;
	uint64_t *spare = base_arena_array(a, n + 1, sizeof(*spare));
	void *value;

	BASE_CHECK(ids && spare);
	while (base_idmap_next(m, &cursor, &id, &value))
		ids[i++] = id;
	sort(ids, spare, n);
	*ret = ids;
	return n;
}

static void put_head(const struct core *c, struct base_buf *b)
{
	base_put_u64(b, FORMAT);
	base_put_u64(b, c->seq);
	base_put_i64(b, c->time_ms);
	base_put_u64(b, c->epoch);
	base_put_u64(b, c->next_run);
	base_put_u64(b, c->next_gate);
	base_put_u64(b, c->frozen);
	base_put_u64(b, c->guard_off);
	base_put_u64(b, c->archived);
	base_put_i64(b, c->restored_ms);
	base_put_i64(b, c->lost_ms);
	base_put_str(b, c->config);
	base_put_str(b, c->policy);
	base_put_str(b, c->interpreter);
	base_put_str(b, c->workspace);
	put_meter(b, &c->meter);
	base_put_i64(b, c->reserved);
	base_put_u64(b, c->action_count);
	for (uint32_t i = 0; i < c->action_count; i++)
		base_put_str(b, c->action_names[i]);
}

int core_snapshot(const struct core *c, struct base_buf *ret)
{
	struct base_arena *a;
	uint64_t *ids;
	size_t n;

	if (base_arena_new((size_t)1 << 32, &a) < 0)
		return -ENOMEM;
	put_head(c, ret);
	put_names(ret, c->principals, put_principal);
	put_names(ret, c->versions, put_version);
	put_names(ret, c->flows, put_flow);
	put_names(ret, c->agents, put_agent);
	put_names(ret, c->connectors, put_connector);
	put_names(ret, c->facts, put_fact);
	put_names(ret, c->keys, put_key);
	put_names(ret, c->effect_keys, put_key);
	put_names(ret, c->experiments, put_experiment);
	put_names(ret, c->outcome_keys, put_number);
	put_names(ret, c->file_labels, put_number);
	core_admit_put(c, ret);
	n = sorted_ids(c->runs, a, &ids);
	core_put_runs(c, ids, n, ret);
	n = sorted_ids(c->gates, a, &ids);
	base_put_u64(ret, n);
	for (size_t i = 0; i < n; i++)
		core_gate_put(ret, core_gate_find(c, ids[i]));
	n = sorted_ids(c->undos, a, &ids);
	base_put_u64(ret, n);
	for (size_t i = 0; i < n; i++)
		core_undo_put(ret, core_undo_find(c, ids[i]));
	n = sorted_ids(c->crashes, a, &ids);
	base_put_u64(ret, n);
	for (size_t i = 0; i < n; i++)
		put_crashes(ret, ids[i], base_idmap_get(c->crashes, ids[i]));
	core_schedules_put(c, ret);
	n = sorted_ids(c->deliveries, a, &ids);
	core_deliveries_put(c, ids, n, ret);
	core_sign_in_put(c, ret);
	core_audit_put(c, ret);
	core_proposals_put(c, ret);
	core_counts_put(c, ret);
	core_lock_put(c, ret);
	base_arena_free(a);
	return base_buf_failed(ret);
}

static void get_head(struct core *c, struct base_reader *r)
{
	uint64_t n;

	c->seq = u(r);
	c->time_ms = base_get_i64(r);
	c->epoch = u(r);
	c->next_run = u(r);
	c->next_gate = u(r);
	c->frozen = u(r) != 0;
	c->guard_off = u(r) != 0;
	c->archived = u(r);
	c->restored_ms = base_get_i64(r);
	c->lost_ms = base_get_i64(r);
	c->config = text(c, r);
	c->policy = text(c, r);
	c->interpreter = text(c, r);
	c->workspace = text(c, r);
	c->meter = get_meter(r);
	c->reserved = base_get_i64(r);
	n = u(r);
	for (uint64_t i = 0; i < n && !r->failed; i++)
		(void)core_action_intern(c, base_get_str(r));
}

int core_restore(struct core *c, struct base_str snapshot, struct base_err *err)
{
	struct base_reader r = base_reader_of(snapshot);
	uint64_t format = u(&r), n;

	if (format != FORMAT)
		return base_err_set(
			err, -EBADMSG, "snapshot: format %llu is not %d", (unsigned long long)format, FORMAT);
	get_head(c, &r);
	get_names(c, &r, c->principals, get_principal);
	get_names(c, &r, c->versions, get_version);
	get_names(c, &r, c->flows, get_flow);
	get_names(c, &r, c->agents, get_agent);
	get_names(c, &r, c->connectors, get_connector);
	get_names(c, &r, c->facts, get_fact);
	get_names(c, &r, c->keys, get_key);
	get_names(c, &r, c->effect_keys, get_key);
	get_names(c, &r, c->experiments, get_experiment);
	get_names(c, &r, c->outcome_keys, get_number);
	get_names(c, &r, c->file_labels, get_number);
	core_admit_get(c, &r);
	core_get_runs(c, &r);
	n = u(&r);
	for (uint64_t i = 0; i < n && !r.failed; i++)
		core_gate_get(c, &r);
	n = u(&r);
	for (uint64_t i = 0; i < n && !r.failed; i++)
		core_undo_get(c, &r);
	n = u(&r);
	for (uint64_t i = 0; i < n && !r.failed; i++)
		get_crashes(c, &r);
	core_schedules_get(c, &r);
	core_deliveries_get(c, &r);
	core_sign_in_get(c, &r);
	core_audit_get(c, &r);
	core_proposals_get(c, &r);
	core_counts_get(c, &r);
	core_lock_get(c, &r);
	if (base_reader_end(&r) < 0)
		return base_err_set(err, -EBADMSG, "snapshot: damaged or of another version");
	core_config_load(c);
	core_policy_load(c, false);
	core_gates_rearm(c);
	core_admit_restored(c);
	core_check(c);
	return 0;
}

struct base_hash core_state_hash(const struct core *c)
{
	struct base_hash h;
	struct base_buf b;

	base_buf_init(&b, (size_t)1 << 34);
	BASE_CHECK(core_snapshot(c, &b) == 0);
	h = base_hash_of(base_buf_view(&b));
	base_buf_done(&b);
	return h;
}
