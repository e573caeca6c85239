/* The log in memory: for tests and simulations. What is appended never moves, so that readers need the lock
 * only to find it. */
#include "log/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "log/disk.h"
#include "log/log_int.h"

enum { SNAPSHOTS = 2 };

struct body {
	uint64_t first_seq;
	struct log_body body;
	char data[];
};

struct snapshot {
	uint64_t seq;
	char *data; /* NULL: none */
	size_t len;
};

/* What is on the disk. */
struct log_disk {
	struct log_disk_world world;
	pthread_mutex_t lock; /* everything below */
	struct log_commit **commits;
	size_t count;
	size_t size;
	struct base_names *bodies;	      /* hash bytes to struct body */
	struct snapshot snapshots[SNAPSHOTS]; /* newest first */
};

struct memory {
	struct log log;
	struct log_disk *disk;
	bool own; /* the disk goes with the log */
};

static struct log_disk *disk_of(struct log *l)
{
	return ((struct memory *)l)->disk;
}

static struct base_str hash_key(const struct base_hash *h)
{
	return (struct base_str){(const char *)h->b, sizeof(h->b)};
}

void log_disk_free(struct log_disk *d)
{
	struct base_str key = BASE_STR_NONE;
	void *body;

	if (!d)
		return;
	for (size_t i = 0; i < d->count; i++)
		free(d->commits[i]);
	free(d->commits);
	if (d->bodies)
		while (base_names_seek(d->bodies, BASE_STR_NONE, true, &key, &body)) {
			base_names_remove(d->bodies, key);
			free(body);
		}
	base_names_free(d->bodies);
	for (size_t i = 0; i < SNAPSHOTS; i++)
		free(d->snapshots[i].data);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static void memory_close(struct log *l)
{
	struct memory *m = (struct memory *)l;

	if (m->own)
		log_disk_free(m->disk);
	log_done(l);
	free(m);
}

static int add_body(struct log_disk *m, uint64_t first_seq, const struct log_body *in)
{
	struct body *b;

	if (base_names_get(m->bodies, hash_key(&in->hash)))
		return 0;
	b = malloc(sizeof(*b) + in->data.len);
	if (!b)
		return -ENOMEM;
	b->first_seq = first_seq;
	b->body.hash = in->hash;
	if (in->data.len)
		memcpy(b->data, in->data.ptr, in->data.len);
	b->body.data = (struct base_str){b->data, in->data.len};
	if (base_names_put(m->bodies, hash_key(&in->hash), b) < 0) {
		free(b);
		return -ENOMEM;
	}
	return 0;
}

static struct log_commit *copy_commit(const struct log_commit *c)
{
	struct log_commit *copy = malloc(sizeof(*copy) + c->block.len);

	if (!copy)
		return NULL;
	*copy = *c;
	memcpy(copy + 1, c->block.ptr, c->block.len);
	copy->block.ptr = (const char *)(copy + 1);
	return copy;
}

static int add(
	struct log_disk *m, const struct log_commit *c, const struct log_body *bodies, size_t body_count)
{
	struct log_commit *copy;
	int r;

	if (m->count == m->size) {
		size_t size = m->size ? m->size * 2 : 64;
		struct log_commit **more = reallocarray(m->commits, size, sizeof(struct log_commit *));

		if (!more)
			return -ENOMEM;
		m->commits = more;
		m->size = size;
	}
	for (size_t i = 0; i < body_count; i++) {
		r = add_body(m, c->first_seq, &bodies[i]);
		if (r < 0)
			return r;
	}
	copy = copy_commit(c);
	if (!copy)
		return -ENOMEM;
	m->commits[m->count++] = copy;
	return 0;
}

static int memory_append(struct log *l, const struct log_commit *c, const struct log_body *bodies,
	size_t body_count, struct base_err *err)
{
	struct log_disk *m = disk_of(l);
	int fault = m->world.append ? m->world.append(m->world.userdata, c) : 0, r;

	if (fault < 0)
		return base_err_set(err, fault, "the disk does not take it");
	pthread_mutex_lock(&m->lock);
	r = add(m, c, bodies, body_count);
	pthread_mutex_unlock(&m->lock);
	if (r < 0)
		return base_err_set(err, r, "out of memory for the log");
	if (m->world.appended)
		m->world.appended(m->world.userdata, c);
	return fault == LOG_DISK_UNCERTAIN
		       ? base_err_set(err, -EIO, "the disk does not say whether it took it")
		       : 0;
}

static int memory_reader_new(struct log *l, struct log_reader **ret, struct base_err *err)
{
	struct log_reader *r = calloc(1, sizeof(*r));

	(void)l;
	if (!r)
		return base_err_set(err, -ENOMEM, "out of memory");
	*ret = r;
	return 0;
}

static void memory_reader_free(struct log_reader *r)
{
	free(r);
}

/* Index of the first commit with first_seq >= seq. Under the lock. */
static size_t lower_bound(const struct log_disk *m, uint64_t seq)
{
	size_t lo = 0, hi = m->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->commits[mid]->first_seq < seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int memory_floor(struct log_reader *r, uint64_t seq, struct log_commit *ret, struct base_err *err)
{
	struct log_disk *m = disk_of(r->log);
	const struct log_commit *c = NULL;
	size_t i;

	pthread_mutex_lock(&m->lock);
	i = lower_bound(m, seq);
	if (i < m->count && m->commits[i]->first_seq == seq)
		c = m->commits[i];
	else if (i > 0)
		c = m->commits[i - 1];
	pthread_mutex_unlock(&m->lock);
	if (!c)
		return base_err_set(err, -ENOENT, "there is no event %" PRIu64, seq);
	*ret = *c;
	return 0;
}

static int memory_body(
	struct log_reader *r, const struct base_hash *hash, struct base_str *ret, struct base_err *err)
{
	struct log_disk *m = disk_of(r->log);
	const struct body *b;

	pthread_mutex_lock(&m->lock);
	b = base_names_get(m->bodies, hash_key(hash));
	pthread_mutex_unlock(&m->lock);
	if (!b)
		return base_err_set(err, -ENOENT, "a body is missing from the log");
	*ret = b->body.data;
	return 0;
}

static int memory_each(
	struct log_reader *r, uint64_t first, log_each_fn fn, void *userdata, struct base_err *err)
{
	struct log_disk *m = disk_of(r->log);
	size_t i;
	int rc;

	(void)err;
	pthread_mutex_lock(&m->lock);
	i = lower_bound(m, first);
	for (;; i++) {
		const struct log_commit *c = i < m->count ? m->commits[i] : NULL;

		pthread_mutex_unlock(&m->lock);
		if (!c)
			return 0;
		rc = fn(userdata, c);
		if (rc)
			return rc;
		pthread_mutex_lock(&m->lock);
	}
}

static int memory_each_body(struct log_reader *r, log_body_fn fn, void *userdata, struct base_err *err)
{
	struct log_disk *m = disk_of(r->log);
	struct base_str key = BASE_STR_NONE;
	bool inclusive = true;
	void *v;
	int rc;

	(void)err;
	for (;; inclusive = false) {
		const struct body *b;
		bool more;

		pthread_mutex_lock(&m->lock);
		more = base_names_seek(m->bodies, key, inclusive, &key, &v);
		pthread_mutex_unlock(&m->lock);
		if (!more)
			return 0;
		b = v;
		rc = fn(userdata, b->first_seq, &b->body);
		if (rc)
			return rc;
	}
}

static int memory_snapshot_put(struct log *l, uint64_t seq, const struct base_hash *state,
	struct base_str data, struct base_err *err)
{
	struct log_disk *m = disk_of(l);
	int fault = m->world.snapshot ? m->world.snapshot(m->world.userdata, seq) : 0;
	char *copy;

	(void)state;
	if (fault < 0)
		return base_err_set(err, fault, "the disk does not take the snapshot");
	copy = malloc(data.len ? data.len : 1);
	if (!copy)
		return base_err_set(err, -ENOMEM, "out of memory for a snapshot");
	if (data.len)
		memcpy(copy, data.ptr, data.len);
	pthread_mutex_lock(&m->lock);
	free(m->snapshots[SNAPSHOTS - 1].data);
	memmove(&m->snapshots[1], &m->snapshots[0], (SNAPSHOTS - 1) * sizeof(m->snapshots[0]));
	m->snapshots[0] = (struct snapshot){.seq = seq, .data = copy, .len = data.len};
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static int memory_snapshot_get(struct log *l, uint64_t max_seq, uint64_t *ret_seq, char **ret_data,
	size_t *ret_len, struct base_err *err)
{
	struct log_disk *m = disk_of(l);
	int rc = -ENOENT;

	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < SNAPSHOTS; i++) {
		const struct snapshot *s = &m->snapshots[i];
		char *copy;

		if (!s->data || s->seq > max_seq)
			continue;
		copy = malloc(s->len ? s->len : 1);
		if (!copy) {
			rc = -ENOMEM;
			break;
		}
		memcpy(copy, s->data, s->len);
		*ret_seq = s->seq;
		*ret_data = copy;
		*ret_len = s->len;
		rc = 0;
		break;
	}
	pthread_mutex_unlock(&m->lock);
	return rc < 0 ? base_err_set(err, rc, rc == -ENOENT ? "there is no snapshot" : "out of memory") : 0;
}

static const struct log_ops memory_ops = {
	.close = memory_close,
	.append = memory_append,
	.reader_new = memory_reader_new,
	.reader_free = memory_reader_free,
	.floor = memory_floor,
	.body = memory_body,
	.each = memory_each,
	.each_body = memory_each_body,
	.snapshot_put = memory_snapshot_put,
	.snapshot_get = memory_snapshot_get,
};

int log_disk_new(const struct log_disk_world *w, struct log_disk **ret)
{
	struct log_disk *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	if (w)
		d->world = *w;
	pthread_mutex_init(&d->lock, NULL);
	if (base_names_new(&d->bodies) < 0) {
		log_disk_free(d);
		return -ENOMEM;
	}
	*ret = d;
	return 0;
}

int log_open_disk(struct log_disk *d, struct log **ret, struct base_err *err)
{
	struct memory *m = calloc(1, sizeof(*m));
	struct base_hash before = {0};
	int rc = m ? log_init(&m->log, &memory_ops) : -ENOMEM;

	if (rc < 0) {
		free(m);
		return base_err_set(err, -ENOMEM, "out of memory for the log");
	}
	m->disk = d;
	if (d->count > 1)
		before = d->commits[d->count - 2]->chain;
	if (d->count)
		rc = log_set_head(&m->log, d->commits[d->count - 1], &before);
	if (rc < 0) {
		memory_close(&m->log);
		return base_err_set(err, rc, "out of memory for the log");
	}
	*ret = &m->log;
	return 0;
}

int log_open_memory(struct log **ret, struct base_err *err)
{
	struct log_disk *d;
	int rc = log_disk_new(NULL, &d);

	if (rc < 0)
		return base_err_set(err, rc, "out of memory for the log");
	rc = log_open_disk(d, ret, err);
	if (rc < 0)
		log_disk_free(d);
	else
		((struct memory *)*ret)->own = true;
	return rc;
}
