/*
 * The archive: the first events of the log in files (segment.c), without a gap from event 1 to archived.
 *
 * V1  A commit is in the backend, in a segment, or in both: it leaves the backend only after its segment is durable, was
 * read back from the disk and continues the chain (log_archive_make), and after its owner has let it go
 * (log_archive_release).
 * V2  Segments never change; the list only grows, and one that is in it stays until the log is closed.
 * V3  An event up to archived is read from its segment, one behind it from the backend.
 * V4  A file that is missing or damaged has a place in the list (lost): what it held is refused, never passed over. One whose
 * commits the backend holds still is no loss: it does not count, and is made again.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/log_int.h"

static const uint64_t raw_default = 64 << 20;

/* --- the list --- */

static int append_segment(struct log *l, struct log_segment *s)
{
	int rc = 0;

	pthread_mutex_lock(&l->head_lock);
	if (l->segment_count == l->segment_size) {
		size_t size = l->segment_size ? l->segment_size * 2 : 16;
		struct log_segment **more = reallocarray(l->segments, size, sizeof(struct log_segment *));

		if (more) {
			l->segments = more;
			l->segment_size = size;
		}
		rc = more ? 0 : -ENOMEM;
	}
	if (rc == 0) {
		l->segments[l->segment_count++] = s;
		l->archived = s->last_seq;
	}
	pthread_mutex_unlock(&l->head_lock);
	return rc;
}

/* The n-th, or NULL. */
static const struct log_segment *segment_at(struct log *l, size_t i)
{
	const struct log_segment *s;

	pthread_mutex_lock(&l->head_lock);
	s = i < l->segment_count ? l->segments[i] : NULL;
	pthread_mutex_unlock(&l->head_lock);
	return s;
}

/* The one that holds seq, or NULL. */
static const struct log_segment *segment_of(struct log *l, uint64_t seq, size_t *ret_index)
{
	const struct log_segment *s = NULL;
	size_t lo = 0, hi;

	pthread_mutex_lock(&l->head_lock);
	hi = l->segment_count;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->segments[mid]->last_seq < seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < l->segment_count && l->segments[lo]->first_seq <= seq)
		s = l->segments[lo];
	pthread_mutex_unlock(&l->head_lock);
	if (s && ret_index)
		*ret_index = lo;
	return s;
}

uint64_t log_archived_seq(const struct log *l)
{
	struct log *m = (struct log *)(uintptr_t)l;
	uint64_t seq;

	pthread_mutex_lock(&m->head_lock);
	seq = l->archived;
	pthread_mutex_unlock(&m->head_lock);
	return seq;
}

struct base_hash log_archive_chain(struct log *l)
{
	const struct log_segment *s = NULL;

	pthread_mutex_lock(&l->head_lock);
	if (l->segment_count)
		s = l->segments[l->segment_count - 1];
	pthread_mutex_unlock(&l->head_lock);
	return s && !s->lost ? s->chain : (struct base_hash){{0}};
}

static int lost(const struct log_segment *s, struct base_err *err)
{
	return base_err_set(err, -EUCLEAN,
		"events %" PRIu64 " to %" PRIu64
		" cannot be read: %s is missing or damaged; copy it from a backup",
		s->first_seq, s->last_seq, s->path);
}

static void put_info(const struct log_segment *s, struct log_archived *ret)
{
	*ret = (struct log_archived){.first_seq = s->first_seq,
		.last_seq = s->last_seq,
		.first_ms = s->first_ms,
		.last_ms = s->last_ms,
		.bytes = s->bytes,
		.raw_bytes = s->raw_bytes,
		.lost = s->lost};
	snprintf(ret->file, sizeof(ret->file), "%s", s->name);
}

int log_archived_get(struct log *l, uint64_t seq, struct log_archived *ret)
{
	const struct log_segment *s;

	for (size_t i = 0; (s = segment_at(l, i)); i++)
		if (s->last_seq >= seq) {
			put_info(s, ret);
			return 0;
		}
	return -ENOENT;
}

int log_archived_hash(struct log *l, uint64_t first_seq, struct base_hash *ret, struct base_err *err)
{
	const struct log_segment *s = segment_of(l, first_seq, NULL);

	if (!s)
		return base_err_set(err, -ENOENT, "event %" PRIu64 " is in no segment", first_seq);
	return s->lost ? lost(s, err) : log_segment_hash(s, ret, err);
}

/* --- opening --- */

struct names {
	struct log_archived *item;
	size_t count, size;
};

static int by_first(const void *a, const void *b)
{
	const struct log_archived *x = a, *y = b;

	return x->first_seq < y->first_seq ? -1 : x->first_seq > y->first_seq;
}

static int list_files(int dirfd, struct names *n)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct log_archived a = {0};
	struct dirent *e;

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		if (!log_segment_name(e->d_name, &a.first_seq, &a.last_seq))
			continue;
		if (n->count == n->size) {
			size_t size = n->size ? n->size * 2 : 64;
			struct log_archived *more = reallocarray(n->item, size, sizeof(*more));

			if (!more) {
				closedir(d);
				return -ENOMEM;
			}
			n->item = more;
			n->size = size;
		}
		memcpy(a.file, e->d_name, LOG_SEGMENT_NAME);
		n->item[n->count++] = a;
	}
	closedir(d);
	if (n->count)
		qsort(n->item, n->count, sizeof(*n->item), by_first);
	return 0;
}

static int append_lost(struct log *l, uint64_t first, uint64_t last)
{
	struct log_segment *s = calloc(1, sizeof(*s));
	int rc = -ENOMEM;

	if (s && asprintf(&s->path, "%s/seg-%020" PRIu64 "-%020" PRIu64, l->archive_dir, first, last) > 0) {
		s->name = s->path + strlen(l->archive_dir) + 1;
		s->first_seq = first;
		s->last_seq = last;
		s->lost = true;
		rc = append_segment(l, s);
	}
	if (rc < 0)
		log_segment_free(s);
	return rc;
}

static void unlink_file(const struct log *l, const char *name)
{
	int dirfd = open(l->archive_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dirfd < 0)
		return;
	unlinkat(dirfd, name, 0);
	close(dirfd);
}

/* One file behind what is there; those that stand across what is there are no part of this log. `held`: the backend has
 * what follows; then a gap, or a file that is damaged, ends the archive (1), and nothing is lost (V4). */
static int take_file(struct log *l, const struct log_archived *a, bool held)
{
	struct base_hash before = log_archive_chain(l);
	bool after_lost = l->segment_count && l->segments[l->segment_count - 1]->lost;
	struct log_segment *s = NULL;
	int rc;

	if (a->first_seq <= l->archived)
		return 0;
	rc = log_segment_open(l->archive_dir, a->file, &s, NULL);
	if (rc == -ENOMEM)
		return rc;
	if (held && rc == 0 && a->first_seq == l->archived + 1 && !after_lost &&
		!base_hash_eq(&before, &s->before))
		rc = -EUCLEAN;
	if (held && (rc < 0 || a->first_seq > l->archived + 1)) {
		if (rc == -EUCLEAN) /* it would stand in the way of the one that is made again */
			unlink_file(l, a->file);
		log_segment_free(s);
		return 1;
	}
	if (rc == 0 && a->first_seq > l->archived + 1) {
		rc = append_lost(l, l->archived + 1, a->first_seq - 1);
		after_lost = true;
	}
	if (rc == 0 && !after_lost && !base_hash_eq(&before, &s->before))
		rc = -EUCLEAN;
	if (rc == 0)
		rc = append_segment(l, s);
	if (rc == 0)
		return 0;
	log_segment_free(s);
	return rc == -ENOMEM ? rc : append_lost(l, a->first_seq, a->last_seq);
}

int log_archive_open(struct log *l, const char *dir, uint64_t first_seq, struct base_err *err)
{
	struct names n = {NULL, 0, 0};
	int dirfd, rc = 0;

	l->archive_dir = strdup(dir);
	if (!l->archive_dir)
		return base_err_set(err, -ENOMEM, "out of memory for the archive");
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd >= 0) {
		unlinkat(dirfd, "seg.tmp", 0);
		rc = list_files(dirfd, &n);
		close(dirfd);
	} else if (errno != ENOENT) {
		rc = -errno;
	}
	for (size_t i = 0; rc == 0 && i < n.count; i++)
		rc = take_file(l, &n.item[i], first_seq && first_seq <= l->archived + 1);
	rc = rc > 0 ? 0 : rc;
	free(n.item);
	if (rc == 0 && first_seq > l->archived + 1)
		rc = append_lost(l, l->archived + 1, first_seq - 1);
	return rc < 0 ? base_err_set(err, rc, "cannot open the archive %s: %s", dir, strerror(-rc)) : 0;
}

void log_archive_done(struct log *l)
{
	for (size_t i = 0; i < l->segment_count; i++)
		log_segment_free(l->segments[i]);
	free(l->segments);
	free(l->archive_dir);
}

/* --- reading --- */

int log_archive_read(struct log_reader *r, uint64_t seq, struct log_commit *ret, struct base_err *err)
{
	const struct log_segment *s = segment_of(r->log, seq, NULL);

	if (!s)
		return base_err_set(err, -ENOENT, "there is no event %" PRIu64, seq);
	if (s->lost)
		return lost(s, err);
	return log_segment_read(&r->frames[LOG_FOR_READ], s, seq, ret, err);
}

int log_archive_each(
	struct log_reader *r, uint64_t from, log_each_fn fn, void *userdata, struct base_err *err)
{
	const struct log_segment *s;
	size_t i = 0;
	int rc = 0;

	if (!segment_of(r->log, from, &i))
		return 0;
	for (; rc == 0 && (s = segment_at(r->log, i)); i++)
		rc = s->lost ? lost(s, err)
			     : log_segment_each(&r->frames[LOG_FOR_EACH], s, from, fn, userdata, err);
	return rc;
}

/* Newest first: what is asked for is seldom old. One that is lost may have held it. */
int log_archive_body(
	struct log_reader *r, const struct base_hash *hash, struct base_str *ret, struct base_err *err)
{
	const struct log_segment *s, *gone = NULL;
	size_t n = 0;
	int rc;

	while (segment_at(r->log, n))
		n++;
	while (n-- > 0 && (s = segment_at(r->log, n))) {
		if (s->lost) {
			gone = s;
			continue;
		}
		rc = log_segment_find_body(&r->frames[LOG_FOR_BODY], s, hash, ret, err);
		if (rc != -ENOENT)
			return rc;
	}
	return gone ? lost(gone, err) : -ENOENT;
}

int log_archive_each_body(struct log_reader *r, log_body_fn fn, void *userdata, struct base_err *err)
{
	const struct log_segment *s;
	int rc = 0;

	for (size_t i = 0; rc == 0 && (s = segment_at(r->log, i)); i++)
		rc = s->lost ? lost(s, err)
			     : log_segment_each_body(&r->frames[LOG_FOR_EACH], s, fn, userdata, err);
	return rc;
}

/* --- making one --- */

struct make {
	const struct log_archive_plan *plan;
	struct log_segment_writer *w;  /* NULL: only looking */
	uint64_t raw_max, last_commit; /* first_seq of the log's last commit: it stays */
	uint64_t events, last_seq;
	int rc;
};

static int make_commit(void *userdata, const struct log_commit *c)
{
	struct make *m = userdata;
	uint64_t last = c->first_seq + c->count - 1;

	if (c->time_ms >= m->plan->before_ms || c->first_seq >= m->last_commit ||
		(m->plan->keep_seq && last >= m->plan->keep_seq))
		return 1;
	if (m->w && m->events && log_segment_raw(m->w) + c->block.len > m->raw_max)
		return 1;
	if (m->w)
		m->rc = log_segment_commit(m->w, c);
	if (m->rc < 0)
		return m->rc;
	m->events += c->count;
	m->last_seq = last;
	return 0;
}

static int make_body(void *userdata, uint64_t first_seq, const struct log_body *body)
{
	struct make *m = userdata;

	m->rc = log_segment_body(m->w, first_seq, body);
	return m->rc;
}

static int walk_old(struct log_reader *r, struct make *m, struct base_err *err)
{
	struct log_commit last;
	int rc;

	if (!r->log->archive_dir || !r->log->ops->drop)
		return base_err_set(err, -ENOTSUP, "this log keeps no archive");
	if (log_last_seq(r->log) <= log_archived_seq(r->log))
		return 0;
	rc = log_read(r, log_last_seq(r->log), &last, err);
	if (rc < 0)
		return rc;
	m->last_commit = last.first_seq;
	m->raw_max = m->plan->raw_max ? m->plan->raw_max : raw_default;
	rc = log_each(r, log_archived_seq(r->log) + 1, make_commit, m, err);
	if (m->rc < 0)
		return base_err_set(err, m->rc, "cannot write the archive in %s: %s", r->log->archive_dir,
			strerror(-m->rc));
	return rc < 0 ? rc : 0;
}

int log_archive_look(struct log_reader *r, const struct log_archive_plan *p, uint64_t *ret_events,
	uint64_t *ret_last, struct base_err *err)
{
	struct make m = {.plan = p};
	int rc = walk_old(r, &m, err);

	if (rc < 0)
		return rc;
	*ret_events = m.events;
	*ret_last = m.last_seq;
	return 0;
}

static void step(const struct log_archive_plan *p, const char *what)
{
	if (p->step)
		p->step(p->userdata, what);
}

struct check {
	struct base_hash chain;
	uint64_t next;
};

static int check_commit(void *userdata, const struct log_commit *c)
{
	struct check *k = userdata;
	struct base_hash chain = log_chain(&k->chain, c);

	if (c->first_seq != k->next || !base_hash_eq(&chain, &c->chain))
		return -EUCLEAN;
	k->chain = chain;
	k->next = c->first_seq + c->count;
	return 0;
}

static int check_body(void *userdata, uint64_t first_seq, const struct log_body *body)
{
	struct base_hash real = base_hash_of(body->data);

	(void)userdata;
	(void)first_seq;
	return base_hash_eq(&real, &body->hash) ? 0 : -EUCLEAN;
}

/* Everything that the file holds, read from the disk, against the roots (in segment.c), the chain and the hashes. */
static int check_segment(struct log_reader *r, const struct log_segment *s, const struct base_hash *before,
	struct base_err *err)
{
	struct check k = {.chain = *before, .next = s->first_seq};
	struct log_frames *f = &r->frames[LOG_FOR_EACH];
	struct log_commit c;
	int rc;

	rc = log_segment_each(f, s, s->first_seq, check_commit, &k, err);
	if (rc == 0)
		rc = log_segment_each_body(f, s, check_body, NULL, err);
	f->segment = NULL;
	if (rc == 0 && (k.next != s->last_seq + 1 || !base_hash_eq(&k.chain, &s->chain)))
		rc = -EUCLEAN;
	/* The log goes on from the very commit that the segment ends with. */
	if (rc == 0)
		rc = log_read(r, s->last_seq, &c, err);
	if (rc == 0 && !base_hash_eq(&c.chain, &s->chain))
		rc = -EUCLEAN;
	return rc < 0 ? base_err_set(err, rc, "the segment %s is not what was written: the disk is at fault",
				s->path)
		      : 0;
}

static int write_segment(struct log_reader *r, const struct log_archive_plan *p, struct make *m,
	const struct base_hash *before, char ret_name[LOG_SEGMENT_NAME], struct base_err *err)
{
	struct log *l = r->log;
	uint64_t from = log_archived_seq(l) + 1;
	int rc;

	if (mkdir(l->archive_dir, 0700) < 0 && errno != EEXIST)
		return base_err_set(err, -errno, "cannot make %s: %s", l->archive_dir, strerror(errno));
	step(p, "write");
	rc = log_segment_begin(l->archive_dir, before, &m->w, err);
	if (rc < 0)
		return rc;
	rc = walk_old(r, m, err);
	if (rc == 0 && !m->events)
		rc = base_err_set(err, -ENOENT, "nothing in the log is old enough for the archive");
	if (rc == 0)
		rc = l->ops->each_body_of(r, from, m->last_seq, make_body, m, err);
	if (m->rc < 0)
		rc = base_err_set(
			err, m->rc, "cannot write the archive in %s: %s", l->archive_dir, strerror(-m->rc));
	if (rc < 0) {
		log_segment_abandon(m->w);
		return rc;
	}
	step(p, "sync");
	return log_segment_finish(m->w, ret_name, err);
}

int log_archive_make(struct log_reader *r, const struct log_archive_plan *p, struct log_archived *ret,
	struct base_err *err)
{
	struct log *l = r->log;
	struct base_hash before = log_archive_chain(l);
	struct make m = {.plan = p};
	struct log_segment *s = NULL;
	char name[LOG_SEGMENT_NAME];
	int rc;

	if (!l->archive_dir || !l->ops->drop)
		return base_err_set(err, -ENOTSUP, "this log keeps no archive");
	rc = write_segment(r, p, &m, &before, name, err);
	if (rc < 0)
		return rc;
	step(p, "verify");
	rc = log_segment_open(l->archive_dir, name, &s, err);
	if (rc == 0)
		rc = check_segment(r, s, &before, err);
	if (rc == 0)
		rc = append_segment(l, s);
	if (rc < 0) {
		if (rc != -ENOMEM)
			unlink_file(l, name);
		log_segment_free(s);
		return rc;
	}
	put_info(s, ret);
	step(p, "done");
	return 0;
}

int log_archive_check(struct log_reader *r, uint64_t seq, struct base_err *err)
{
	const struct log_segment *s = segment_of(r->log, seq, NULL);
	int rc;

	if (!s)
		return base_err_set(err, -ENOENT, "event %" PRIu64 " is in no segment", seq);
	rc = s->lost ? lost(s, err) : check_segment(r, s, &s->before, err);
	if (rc == -EUCLEAN && !s->lost)
		unlink_file(r->log, s->name);
	return rc;
}

/* --- dropping --- */

void log_archive_release(struct log *l, uint64_t seq)
{
	pthread_mutex_lock(&l->head_lock);
	if (seq > l->archived)
		seq = l->archived;
	if (seq > l->drop_to) {
		l->drop_to = seq;
		__atomic_store_n(&l->dropping, true, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&l->head_lock);
}

bool log_archive_step(struct log *l)
{
	uint64_t upto;

	l->drop_wait = 0;
	if (!__atomic_load_n(&l->dropping, __ATOMIC_RELAXED))
		return false;
	pthread_mutex_lock(&l->head_lock);
	upto = l->drop_to;
	__atomic_store_n(&l->dropping, false, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&l->head_lock);
	if (l->ops->drop(l, upto) == 0)
		return false;
	__atomic_store_n(&l->dropping, true, __ATOMIC_RELAXED);
	return true;
}
