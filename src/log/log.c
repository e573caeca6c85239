/*
 * What every backend has in common: arguments, Merkle roots, the chain, the head, verification.
 *
 * L1  Sequence numbers have no gaps: a commit's first_seq is the last one's first_seq + count.
 * L2  root is the Merkle root of the commit's events; chain is the hash over the chain before, root,
 * first_seq, count and time. The chain before the first commit is zero. L3  The head moves only after the
 * backend has made the commit durable. L4  After a failed write other than a full disk nothing is appended
 * until the log is opened again. L5  What is read was checked: a commit's block against its root, a body against its
 * hash. A flipped bit gives an error, never another event.
 */
#include "log/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "log/log_int.h"

enum { DROP_EVERY = 256 };

int log_init(struct log *l, const struct log_ops *ops)
{
	l->ops = ops;
	return -pthread_mutex_init(&l->head_lock, NULL);
}

void log_done(struct log *l)
{
	log_archive_done(l);
	free(l->leaves);
	pthread_mutex_destroy(&l->head_lock);
}

static size_t varint_len(uint64_t v)
{
	size_t n = 1;

	for (; v >= 0x80; v >>= 7)
		n++;
	return n;
}

/* The length prefixes are outside the leaves, so only their one shortest form is accepted: then the root
 * fixes every byte of the block. */
int log_block_root(struct base_str block, uint32_t count, struct base_hash **scratch, size_t *scratch_size,
	struct base_hash *ret)
{
	struct base_reader r = base_reader_of(block);
	size_t n = 0;

	if (count == 0 || count > block.len)
		return -EBADMSG;
	if (count > *scratch_size) {
		struct base_hash *more = reallocarray(*scratch, count, sizeof(*more));

		if (!more)
			return -ENOMEM;
		*scratch = more;
		*scratch_size = count;
	}
	while (r.at < r.end) {
		const char *start = r.at;
		struct base_str event = base_get_str(&r);

		if (r.failed || n == count || (size_t)(r.at - start) != varint_len(event.len) + event.len)
			return -EBADMSG;
		(*scratch)[n++] = base_merkle_leaf(event);
	}
	if (n != count)
		return -EBADMSG;
	*ret = base_merkle_root(*scratch, n);
	return 0;
}

static void put_le(uint8_t *at, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		at[i] = (uint8_t)(v >> (8 * i));
}

struct base_hash log_chain(const struct base_hash *before, const struct log_commit *c)
{
	uint8_t in[32 + 32 + 8 + 4 + 8];

	memcpy(in, before->b, 32);
	memcpy(in + 32, c->root.b, 32);
	put_le(in + 64, c->first_seq, 8);
	put_le(in + 72, c->count, 4);
	put_le(in + 76, (uint64_t)c->time_ms, 8);
	return base_hash_of((struct base_str){(const char *)in, sizeof(in)});
}

static void move_head(struct log *l, uint64_t seq, const struct base_hash *chain)
{
	pthread_mutex_lock(&l->head_lock);
	l->last_seq = seq;
	l->last_chain = *chain;
	pthread_mutex_unlock(&l->head_lock);
}

int log_set_head(struct log *l, const struct log_commit *last, const struct base_hash *before)
{
	struct base_hash root, chain;
	int r = log_block_root(last->block, last->count, &l->leaves, &l->leaves_size, &root);

	if (r == -ENOMEM)
		return r;
	chain = log_chain(before, last);
	if (r < 0 || !base_hash_eq(&root, &last->root) || !base_hash_eq(&chain, &last->chain))
		l->dead = -EUCLEAN;
	move_head(l, last->first_seq + last->count - 1, &last->chain);
	return 0;
}

void log_close(struct log *l)
{
	if (l)
		l->ops->close(l);
}

void log_head(const struct log *l, uint64_t *ret_seq, struct base_hash *ret_chain)
{
	/* The lock is the one part of a log that its readers change. */
	struct log *m = (struct log *)(uintptr_t)l;

	pthread_mutex_lock(&m->head_lock);
	*ret_seq = l->last_seq;
	*ret_chain = l->last_chain;
	pthread_mutex_unlock(&m->head_lock);
}

const char *log_id(const struct log *l)
{
	return l->id;
}

uint64_t log_last_seq(const struct log *l)
{
	struct base_hash chain;
	uint64_t seq;

	log_head(l, &seq, &chain);
	return seq;
}

struct base_hash log_last_chain(const struct log *l)
{
	struct base_hash chain;
	uint64_t seq;

	log_head(l, &seq, &chain);
	return chain;
}

int log_append(struct log *l, const struct log_commit *c, const struct log_body *bodies, size_t body_count,
	struct base_err *err)
{
	struct log_commit full = *c;
	int r;

	if (l->dead == -EUCLEAN)
		return base_err_set(err, l->dead,
			"the log is damaged at its end (before event %" PRIu64 "): restore a backup",
			l->last_seq + 1);
	if (l->dead < 0)
		return base_err_set(err, l->dead, "the log failed to write before: it must be opened again");
	if (c->first_seq != l->last_seq + 1 || c->first_seq > INT64_MAX - UINT32_MAX)
		return base_err_set(err, -EINVAL, "cannot append event %" PRIu64 " behind event %" PRIu64,
			c->first_seq, l->last_seq);
	r = log_block_root(c->block, c->count, &l->leaves, &l->leaves_size, &full.root);
	if (r < 0)
		return base_err_set(err, r == -ENOMEM ? r : -EINVAL, "cannot append at event %" PRIu64 ": %s",
			c->first_seq,
			r == -ENOMEM ? "out of memory" : "the block does not hold the events it should");
	full.chain = log_chain(&l->last_chain, &full);
	r = l->ops->append(l, &full, bodies, body_count, err);
	if (r < 0) {
		if (r != -ENOSPC)
			l->dead = r;
		return r;
	}
	move_head(l, full.first_seq + full.count - 1, &full.chain);
	/* Where no moment is quiet, what is archived is dropped between the appends. */
	if (__atomic_load_n(&l->dropping, __ATOMIC_RELAXED) && ++l->drop_wait >= DROP_EVERY)
		log_archive_step(l);
	return 0;
}

bool log_idle(struct log *l)
{
	bool more = log_archive_step(l);

	if (l->ops->idle)
		l->ops->idle(l);
	return more;
}

int log_reader_new(struct log *l, struct log_reader **ret, struct base_err *err)
{
	struct log_reader *r = NULL;
	int rc = l->ops->reader_new(l, &r, err);

	if (rc < 0)
		return rc;
	r->log = l;
	*ret = r;
	return 0;
}

void log_reader_hold(struct log_reader *r, bool hold)
{
	if (r->log->ops->hold)
		r->log->ops->hold(r, hold);
}

void log_reader_free(struct log_reader *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < 3; i++)
		log_frames_done(&r->frames[i]);
	free(r->leaves);
	r->log->ops->reader_free(r);
}

static bool holds(const struct log_commit *c, uint64_t seq)
{
	return c->first_seq && seq >= c->first_seq && seq - c->first_seq < c->count;
}

/* L5: the backend's own checks are not enough, a flipped bit of a block can look like any other. */
static int check_root(struct log_reader *r, const struct log_commit *c, struct base_err *err)
{
	struct base_hash root;
	int rc;

	if (c->first_seq <= log_archived_seq(r->log))
		return 0; /* it was checked when it was unpacked */
	rc = log_block_root(c->block, c->count, &r->leaves, &r->leaves_size, &root);
	if (rc == -ENOMEM)
		return base_err_set(err, rc, "out of memory to read from the log");
	if (rc < 0 || !base_hash_eq(&root, &c->root))
		return base_err_set(err, -EUCLEAN,
			"the log is damaged: events %" PRIu64 " to %" PRIu64
			" are not what was written; see `aios log verify`",
			c->first_seq, c->first_seq + c->count - 1);
	return 0;
}

int log_read(struct log_reader *r, uint64_t seq, struct log_commit *ret, struct base_err *err)
{
	struct log_commit c;
	int rc;

	if (holds(&r->cached, seq)) {
		*ret = r->cached;
		return 0;
	}
	r->cached.first_seq = 0;
	if (seq <= log_archived_seq(r->log)) {
		rc = log_archive_read(r, seq, &c, err);
	} else {
		rc = r->log->ops->floor(r, seq, &c, err);
		/* It may have moved meanwhile. */
		if ((rc == -ENOENT || (rc == 0 && !holds(&c, seq))) && seq && seq <= log_archived_seq(r->log))
			rc = log_archive_read(r, seq, &c, err);
	}
	if (rc < 0)
		return rc;
	if (!holds(&c, seq)) {
		if (seq <= log_last_seq(r->log))
			return base_err_set(err, -EUCLEAN, "event %" PRIu64 " is missing from the log", seq);
		return base_err_set(err, -ENOENT, "there is no event %" PRIu64, seq);
	}
	rc = check_root(r, &c, err);
	if (rc < 0)
		return rc;
	r->cached = c;
	*ret = c;
	return 0;
}

int log_read_body(
	struct log_reader *r, const struct base_hash *hash, struct base_str *ret, struct base_err *err)
{
	struct base_str data;
	int rc = r->log->ops->body(r, hash, &data, err), rc2;
	struct base_hash is;
	struct base_err err2;

	if (rc == 0) {
		is = base_hash_of(data);
		if (!base_hash_eq(&is, hash))
			return base_err_set(err, -EUCLEAN,
				"the log is damaged: a body is not what was written; see `aios log verify`");
		*ret = data;
	}
	if (rc != -ENOENT)
		return rc;
	rc2 = log_archive_body(r, hash, ret, &err2);
	if (rc2 != -ENOENT && rc2 < 0 && err)
		*err = err2;
	return rc2 == -ENOENT ? rc : rc2;
}

struct each {
	struct log *log;
	struct log_reader *reader;
	log_each_fn fn;
	void *userdata;
	struct base_err *err;
	uint64_t next; /* the sequence number that must come */
	bool moved;    /* it went into the archive while the backend was walked */
};

static int each_one(void *userdata, const struct log_commit *c)
{
	struct each *e = userdata;
	int rc;

	if (c->first_seq > e->next && e->next <= log_archived_seq(e->log)) {
		e->moved = true;
		return 1;
	}
	if (c->first_seq != e->next || c->count == 0)
		return base_err_set(e->err, -EUCLEAN, "event %" PRIu64 " is missing from the log", e->next);
	rc = check_root(e->reader, c, e->err);
	if (rc < 0)
		return rc;
	e->next = c->first_seq + c->count;
	return e->fn(e->userdata, c);
}

/* All commits from e->next (where one begins) to the end, archive first. */
static int walk(struct log_reader *r, struct each *e, log_each_fn one)
{
	int rc = 0;

	do {
		e->moved = false;
		if (e->next <= log_archived_seq(r->log))
			rc = log_archive_each(r, e->next, one, e, e->err);
		if (rc == 0)
			rc = r->log->ops->each(r, e->next, one, e, e->err);
		if (e->moved)
			rc = 0;
	} while (e->moved);
	return rc;
}

int log_each(struct log_reader *r, uint64_t from, log_each_fn fn, void *userdata, struct base_err *err)
{
	uint64_t last = log_last_seq(r->log);
	struct each e = {.log = r->log, .reader = r, .fn = fn, .userdata = userdata, .err = err};
	struct log_commit c;
	int rc;

	if (from == 0)
		from = 1;
	if (from > last)
		return 0;
	rc = log_read(r, from, &c, err);
	if (rc < 0)
		return rc;
	e.next = c.first_seq;
	rc = walk(r, &e, each_one);
	if (rc == 0 && e.next <= last)
		rc = base_err_set(err, -EUCLEAN, "event %" PRIu64 " is missing from the log", e.next);
	return rc;
}

struct verify {
	struct each each; /* first: what walk knows */
	void (*progress)(void *userdata, uint64_t seq);
	void *userdata;
	struct base_err *err;
	struct base_hash *leaves;
	size_t leaves_size;
	struct base_hash chain;
	uint64_t bad;
	unsigned commits;
};

static int verify_commit(void *userdata, const struct log_commit *c)
{
	enum { PROGRESS_EVERY = 1024 };
	struct verify *v = userdata;
	struct base_hash root, chain;
	int r;

	if (c->first_seq > v->each.next && v->each.next <= log_archived_seq(v->each.log)) {
		v->each.moved = true;
		return 1;
	}
	v->bad = v->each.next;
	if (c->first_seq != v->each.next || c->count == 0)
		return base_err_set(v->err, -EUCLEAN,
			"event %" PRIu64 " is missing: the next one there is %" PRIu64, v->each.next,
			c->first_seq);
	r = log_block_root(c->block, c->count, &v->leaves, &v->leaves_size, &root);
	if (r == -ENOMEM)
		return base_err_set(v->err, r, "out of memory");
	if (r < 0)
		return base_err_set(v->err, -EUCLEAN,
			"the commit of events %" PRIu64 " to %" PRIu64 " is malformed", c->first_seq,
			c->first_seq + c->count - 1);
	if (!base_hash_eq(&root, &c->root))
		return base_err_set(v->err, -EUCLEAN,
			"events %" PRIu64 " to %" PRIu64 " do not match the root of their commit",
			c->first_seq, c->first_seq + c->count - 1);
	chain = log_chain(&v->chain, c);
	if (!base_hash_eq(&chain, &c->chain))
		return base_err_set(v->err, -EUCLEAN,
			"the commit of events %" PRIu64 " to %" PRIu64 " does not continue the chain",
			c->first_seq, c->first_seq + c->count - 1);
	v->chain = chain;
	v->each.next = c->first_seq + c->count;
	if (v->progress && ++v->commits % PROGRESS_EVERY == 0)
		v->progress(v->userdata, v->each.next - 1);
	return 0;
}

static int verify_body(void *userdata, uint64_t first_seq, const struct log_body *body)
{
	struct verify *v = userdata;
	struct base_hash h = base_hash_of(body->data);
	char hex[65];

	if (base_hash_eq(&h, &body->hash))
		return 0;
	v->bad = first_seq;
	base_hash_hex(&body->hash, hex);
	return base_err_set(v->err, -EUCLEAN,
		"the body %.16s… that came with the commit of event %" PRIu64 " does not match its hash", hex,
		first_seq);
}

int log_verify(struct log_reader *r, uint64_t *ret_bad, void (*progress)(void *userdata, uint64_t seq),
	void *userdata, struct base_err *err)
{
	struct verify v = {.each = {.log = r->log, .err = err, .next = 1},
		.progress = progress,
		.userdata = userdata,
		.err = err};
	uint64_t last = log_last_seq(r->log);
	int rc;

	r->cached.first_seq = 0;
	rc = walk(r, &v.each, verify_commit);
	if (rc == 0 && v.each.next <= last) {
		v.bad = v.each.next;
		rc = base_err_set(err, -EUCLEAN, "event %" PRIu64 " is missing from the log", v.each.next);
	}
	if (rc == 0)
		rc = r->log->ops->each_body(r, verify_body, &v, err);
	if (rc == 0)
		rc = log_archive_each_body(r, verify_body, &v, err);
	free(v.leaves);
	if (rc == -EUCLEAN && ret_bad)
		*ret_bad = v.bad ? v.bad : v.each.next;
	else if (rc == 0 && progress)
		progress(userdata, v.each.next - 1);
	return rc;
}

int log_snapshot_put(struct log *l, uint64_t seq, const struct base_hash *state, struct base_str data,
	struct base_err *err)
{
	if (seq > log_last_seq(l))
		return base_err_set(err, -EINVAL,
			"cannot keep a snapshot of event %" PRIu64 ": the log ends before it", seq);
	return l->ops->snapshot_put(l, seq, state, data, err);
}

int log_snapshot_get(struct log *l, uint64_t max_seq, uint64_t *ret_seq, char **ret_data, size_t *ret_len,
	struct base_err *err)
{
	return l->ops->snapshot_get(l, max_seq, ret_seq, ret_data, ret_len, err);
}
