/*
 * One file of the archive, DIR/archive/seg-<first>-<last> (20 digits each):
 *
 *   8 bytes magic · u32 format · u32 zero
 *   frames, each compressed by itself (zstd): about 256 KiB of commits, or of bodies
 *   index: what stands where, with a hash of each frame · u64 its offset · u64 its length · 32 bytes hash over head and index · 8 bytes magic
 *
 * A file appears whole or not at all (temporary name, sync, rename, sync of the folder) and never changes. What is read
 * from it is checked: a commit against its root, a body against its hash.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/codec.h"
#include "log/log_int.h"

enum { HEAD = 16, TAIL = 8 + 8 + 32 + 8, FORMAT = 1, LEVEL = 6, FRAME = 256 << 10, FRAME_MAX = 1 << 30 };

static const char head_magic[8] = "aiosseg1", tail_magic[8] = "aiosend1";

static void put_le(char *at, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		at[i] = (char)(uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const char *at, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)(uint8_t)at[i] << (8 * i);
	return v;
}

static void make_head(char ret[HEAD])
{
	memcpy(ret, head_magic, 8);
	put_le(ret + 8, FORMAT, 4);
	put_le(ret + 12, 0, 4);
}

/* --- writing --- */

struct log_segment_writer {
	int dirfd, fd;
	uint64_t at; /* offset in the file */
	struct log_segment s;
	size_t frame_size, body_size;
	struct base_buf raw, packed;
	uint64_t raw_first;
	unsigned raw_kind;
	ZSTD_CCtx *z;
};

static int write_all(struct log_segment_writer *w, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(w->fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EDQUOT || errno == EFBIG ? -ENOSPC : -errno;
		data += n;
		len -= (size_t)n;
		w->at += (uint64_t)n;
	}
	return 0;
}

/* Compresses what was gathered and writes it as one frame. */
static int flush(struct log_segment_writer *w)
{
	struct log_frame *f;
	size_t n;
	char *to;

	if (!w->raw.len)
		return 0;
	if (base_buf_failed(&w->raw))
		return -ENOMEM;
	if (w->s.frame_count == w->frame_size) {
		size_t size = w->frame_size ? w->frame_size * 2 : 64;

		f = reallocarray(w->s.frames, size, sizeof(*f));
		if (!f)
			return -ENOMEM;
		w->s.frames = f;
		w->frame_size = size;
	}
	base_buf_clear(&w->packed);
	n = ZSTD_compressBound(w->raw.len);
	to = base_buf_reserve(&w->packed, n);
	if (!to)
		return -ENOMEM;
	n = ZSTD_compress2(w->z, to, n, w->raw.ptr, w->raw.len);
	if (ZSTD_isError(n))
		return -ENOMEM;
	w->s.frames[w->s.frame_count++] = (struct log_frame){.kind = w->raw_kind,
		.first_seq = w->raw_first,
		.offset = w->at,
		.sum = base_hash_of((struct base_str){to, n}),
		.packed = (uint32_t)n,
		.raw = (uint32_t)w->raw.len};
	base_buf_clear(&w->raw);
	return write_all(w, to, n);
}

static int begin_item(struct log_segment_writer *w, unsigned kind, uint64_t first_seq, size_t len)
{
	int rc = 0;

	if (w->raw.len && (w->raw_kind != kind || w->raw.len + len > FRAME))
		rc = flush(w);
	if (!w->raw.len) {
		w->raw_kind = kind;
		w->raw_first = first_seq;
	}
	return rc;
}

int log_segment_begin(const char *dir, const struct base_hash *before, struct log_segment_writer **ret,
	struct base_err *err)
{
	struct log_segment_writer *w = calloc(1, sizeof(*w));
	char head[HEAD];
	int rc;

	if (!w)
		return base_err_set(err, -ENOMEM, "out of memory for the archive");
	base_buf_init(&w->raw, FRAME_MAX);
	base_buf_init(&w->packed, SIZE_MAX);
	w->s.before = *before;
	w->fd = -1;
	w->z = ZSTD_createCCtx();
	w->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->dirfd >= 0)
		w->fd = openat(
			w->dirfd, "seg.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	rc = w->fd < 0 ? -errno : w->z ? 0 : -ENOMEM;
	if (rc == 0) {
		ZSTD_CCtx_setParameter(w->z, ZSTD_c_compressionLevel, LEVEL);
		make_head(head);
		rc = write_all(w, head, HEAD);
	}
	if (rc < 0) {
		log_segment_abandon(w);
		return base_err_set(err, rc, "cannot write in %s: %s", dir, strerror(-rc));
	}
	*ret = w;
	return 0;
}

void log_segment_abandon(struct log_segment_writer *w)
{
	if (!w)
		return;
	if (w->fd >= 0) {
		close(w->fd);
		unlinkat(w->dirfd, "seg.tmp", 0);
	}
	if (w->dirfd >= 0)
		close(w->dirfd);
	ZSTD_freeCCtx(w->z);
	base_buf_done(&w->raw);
	base_buf_done(&w->packed);
	free(w->s.frames);
	free(w->s.bodies);
	free(w);
}

int log_segment_commit(struct log_segment_writer *w, const struct log_commit *c)
{
	int rc = begin_item(w, LOG_FRAME_COMMITS, c->first_seq, c->block.len);

	if (rc < 0)
		return rc;
	if (!w->s.commits++) {
		w->s.first_seq = c->first_seq;
		w->s.first_ms = c->time_ms;
	}
	w->s.last_seq = c->first_seq + c->count - 1;
	w->s.last_ms = c->time_ms;
	w->s.chain = c->chain;
	w->s.raw_bytes += c->block.len;
	base_put_u64(&w->raw, c->first_seq);
	base_put_u64(&w->raw, c->count);
	base_put_i64(&w->raw, c->time_ms);
	base_put_hash(&w->raw, &c->root);
	base_put_hash(&w->raw, &c->chain);
	base_put_str(&w->raw, c->block);
	return base_buf_failed(&w->raw) ? -ENOMEM : 0;
}

int log_segment_body(struct log_segment_writer *w, uint64_t first_seq, const struct log_body *body)
{
	int rc = begin_item(w, LOG_FRAME_BODIES, first_seq, body->data.len);

	if (rc < 0)
		return rc;
	if (w->s.body_count == w->body_size) {
		size_t size = w->body_size ? w->body_size * 2 : 64;
		struct log_segment_body *more = reallocarray(w->s.bodies, size, sizeof(*more));

		if (!more)
			return -ENOMEM;
		w->s.bodies = more;
		w->body_size = size;
	}
	w->s.bodies[w->s.body_count++] = (struct log_segment_body){
		.hash = body->hash, .frame = (uint32_t)w->s.frame_count, .at = (uint32_t)w->raw.len};
	w->s.raw_bytes += body->data.len;
	base_put_u64(&w->raw, first_seq);
	base_put_hash(&w->raw, &body->hash);
	base_put_str(&w->raw, body->data);
	return base_buf_failed(&w->raw) ? -ENOMEM : 0;
}

uint64_t log_segment_raw(const struct log_segment_writer *w)
{
	return w->s.raw_bytes;
}

static int by_hash(const void *a, const void *b)
{
	const struct log_segment_body *x = a, *y = b;

	return memcmp(x->hash.b, y->hash.b, sizeof(x->hash.b));
}

static void put_index(struct base_buf *b, const struct log_segment *s)
{
	base_put_u64(b, s->first_seq);
	base_put_u64(b, s->last_seq);
	base_put_i64(b, s->first_ms);
	base_put_i64(b, s->last_ms);
	base_put_hash(b, &s->before);
	base_put_hash(b, &s->chain);
	base_put_u64(b, s->commits);
	base_put_u64(b, s->raw_bytes);
	base_put_u64(b, s->frame_count);
	for (size_t i = 0; i < s->frame_count; i++) {
		base_put_u64(b, s->frames[i].kind);
		base_put_u64(b, s->frames[i].first_seq);
		base_put_u64(b, s->frames[i].offset);
		base_put_u64(b, s->frames[i].packed);
		base_put_u64(b, s->frames[i].raw);
		base_put_hash(b, &s->frames[i].sum);
	}
	base_put_u64(b, s->body_count);
	for (size_t i = 0; i < s->body_count; i++) {
		base_put_hash(b, &s->bodies[i].hash);
		base_put_u64(b, s->bodies[i].frame);
		base_put_u64(b, s->bodies[i].at);
	}
}

static int finish_file(struct log_segment_writer *w)
{
	char head[HEAD], tail[TAIL];
	struct base_hash sum;
	uint64_t at;
	int rc = flush(w);

	if (rc < 0)
		return rc;
	if (w->s.body_count)
		qsort(w->s.bodies, w->s.body_count, sizeof(*w->s.bodies), by_hash);
	base_buf_clear(&w->packed);
	put_index(&w->packed, &w->s);
	if (base_buf_failed(&w->packed))
		return -ENOMEM;
	at = w->at;
	make_head(head);
	sum = base_hash_of2((struct base_str){head, HEAD}, base_buf_view(&w->packed));
	put_le(tail, at, 8);
	put_le(tail + 8, w->packed.len, 8);
	memcpy(tail + 16, sum.b, 32);
	memcpy(tail + 48, tail_magic, 8);
	rc = write_all(w, w->packed.ptr, w->packed.len);
	if (rc == 0)
		rc = write_all(w, tail, TAIL);
	if (rc == 0 && fsync(w->fd) < 0)
		rc = -errno;
	/* What is verified next comes from the disk, where the kernel can drop its copy. */
	posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED);
	return rc;
}

int log_segment_finish(struct log_segment_writer *w, char ret_name[LOG_SEGMENT_NAME], struct base_err *err)
{
	char name[LOG_SEGMENT_NAME];
	int rc = finish_file(w);

	snprintf(name, sizeof(name), "seg-%020" PRIu64 "-%020" PRIu64, w->s.first_seq, w->s.last_seq);
	if (rc == 0 && renameat(w->dirfd, "seg.tmp", w->dirfd, name) < 0)
		rc = -errno;
	if (rc == 0) {
		close(w->fd);
		w->fd = -1;
		rc = fsync(w->dirfd) < 0 ? -errno : 0;
	}
	if (rc == 0)
		memcpy(ret_name, name, sizeof(name));
	log_segment_abandon(w);
	return rc < 0 ? base_err_set(err, rc, "cannot write the segment %s: %s", name, strerror(-rc)) : 0;
}

/* --- opening --- */

static int get_frames(struct log_segment *s, struct base_reader *r, uint64_t index_at)
{
	s->frame_count = base_get_uint(r, index_at);
	s->frames = calloc(s->frame_count ? s->frame_count : 1, sizeof(*s->frames));
	if (!s->frames)
		return -ENOMEM;
	for (size_t i = 0; i < s->frame_count && !r->failed; i++) {
		struct log_frame *f = &s->frames[i];

		f->kind = (unsigned)base_get_uint(r, LOG_FRAME_BODIES);
		f->first_seq = base_get_u64(r);
		f->offset = base_get_uint(r, index_at);
		f->packed = (uint32_t)base_get_uint(r, index_at);
		f->raw = (uint32_t)base_get_uint(r, FRAME_MAX);
		base_get_hash(r, &f->sum);
		if (f->offset + f->packed > index_at)
			return -EUCLEAN;
	}
	return r->failed ? -EUCLEAN : 0;
}

static int get_index(struct log_segment *s, struct base_str index, uint64_t index_at)
{
	struct base_reader r = base_reader_of(index);
	int rc;

	s->first_seq = base_get_u64(&r);
	s->last_seq = base_get_u64(&r);
	s->first_ms = base_get_i64(&r);
	s->last_ms = base_get_i64(&r);
	base_get_hash(&r, &s->before);
	base_get_hash(&r, &s->chain);
	s->commits = base_get_u64(&r);
	s->raw_bytes = base_get_u64(&r);
	rc = get_frames(s, &r, index_at);
	if (rc < 0)
		return rc;
	s->body_count = base_get_uint(&r, index.len);
	s->bodies = calloc(s->body_count ? s->body_count : 1, sizeof(*s->bodies));
	if (!s->bodies)
		return -ENOMEM;
	for (size_t i = 0; i < s->body_count && !r.failed; i++) {
		base_get_hash(&r, &s->bodies[i].hash);
		s->bodies[i].frame = (uint32_t)base_get_uint(&r, s->frame_count ? s->frame_count - 1 : 0);
		s->bodies[i].at = (uint32_t)base_get_uint(&r, FRAME_MAX);
	}
	return base_reader_end(&r) < 0 || s->first_seq == 0 || s->last_seq < s->first_seq ? -EUCLEAN : 0;
}

static int read_index(struct log_segment *s, int fd)
{
	char head[HEAD], want[HEAD], tail[TAIL], *index;
	uint64_t at, len, size;
	struct base_hash sum;
	struct stat st;
	int rc;

	if (fstat(fd, &st) < 0)
		return -errno;
	size = (uint64_t)st.st_size;
	if (size < HEAD + TAIL)
		return -EUCLEAN;
	s->bytes = size;
	make_head(want);
	rc = log_read_at(fd, head, HEAD, 0);
	if (rc == 0)
		rc = log_read_at(fd, tail, TAIL, size - TAIL);
	if (rc < 0)
		return rc;
	if (memcmp(head, head_magic, 8) == 0 && get_le(head + 8, 4) > FORMAT)
		return -ENOTSUP;
	at = get_le(tail, 8);
	len = get_le(tail + 8, 8);
	if (memcmp(head, want, HEAD) != 0 || memcmp(tail + 48, tail_magic, 8) != 0 || at < HEAD ||
		len > size - HEAD - TAIL || at != size - TAIL - len)
		return -EUCLEAN;
	index = malloc(len ? len : 1);
	if (!index)
		return -ENOMEM;
	rc = log_read_at(fd, index, len, at);
	sum = base_hash_of2((struct base_str){head, HEAD}, (struct base_str){index, rc < 0 ? 0 : len});
	if (rc == 0 && memcmp(sum.b, tail + 16, 32) != 0)
		rc = -EUCLEAN;
	if (rc == 0)
		rc = get_index(s, (struct base_str){index, len}, at);
	free(index);
	return rc;
}

bool log_segment_name(const char *name, uint64_t *ret_first, uint64_t *ret_last)
{
	char again[LOG_SEGMENT_NAME];
	uint64_t first, last;

	if (strlen(name) != LOG_SEGMENT_NAME - 1 ||
		sscanf(name, "seg-%20" SCNu64 "-%20" SCNu64, &first, &last) != 2)
		return false;
	snprintf(again, sizeof(again), "seg-%020" PRIu64 "-%020" PRIu64, first, last);
	if (strcmp(name, again) != 0)
		return false;
	*ret_first = first;
	*ret_last = last;
	return true;
}

int log_segment_open(const char *dir, const char *name, struct log_segment **ret, struct base_err *err)
{
	struct log_segment *s = calloc(1, sizeof(*s));
	uint64_t first, last;
	int fd, rc;

	if (!s || asprintf(&s->path, "%s/%s", dir, name) < 0) {
		free(s);
		return base_err_set(err, -ENOMEM, "out of memory for the archive");
	}
	s->name = s->path + strlen(dir) + 1;
	fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	rc = fd < 0 ? -errno : read_index(s, fd);
	if (fd >= 0)
		close(fd);
	if (rc == 0 &&
		(!log_segment_name(name, &first, &last) || first != s->first_seq || last != s->last_seq))
		rc = -EUCLEAN;
	if (rc < 0) {
		base_err_set(err, rc,
			rc == -ENOTSUP	 ? "%s was written by a newer aios: upgrade aios"
			: rc == -EUCLEAN ? "the segment %s is damaged: copy it from a backup"
					 : "the segment %s cannot be read",
			s->path);
		log_segment_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

void log_segment_free(struct log_segment *s)
{
	if (!s)
		return;
	free(s->frames);
	free(s->bodies);
	free(s->path);
	free(s);
}

int log_segment_hash(const struct log_segment *s, struct base_hash *ret, struct base_err *err)
{
	int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc = 0;
	void *map = MAP_FAILED;

	if (fd >= 0)
		map = mmap(NULL, s->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		rc = -errno;
	if (rc == 0) {
		*ret = base_hash_of((struct base_str){map, s->bytes});
		munmap(map, s->bytes);
	}
	if (fd >= 0)
		close(fd);
	return rc < 0 ? base_err_set(err, rc, "cannot read %s: %s", s->path, strerror(-rc)) : 0;
}

/* --- reading --- */

static int damaged(const struct log_segment *s, struct base_err *err)
{
	return base_err_set(err, -EUCLEAN, "the segment %s is damaged: copy it from a backup", s->path);
}

void log_frames_done(struct log_frames *f)
{
	base_buf_done(&f->raw);
	base_buf_done(&f->packed);
	ZSTD_freeDCtx(f->z);
	free(f->leaves);
	*f = (struct log_frames){.index = 0};
}

static int load_frame(struct log_frames *f, const struct log_segment *s, size_t i, struct base_err *err)
{
	const struct log_frame *x = &s->frames[i];
	struct base_hash sum;
	char *packed, *raw;
	int fd, rc;
	size_t n;

	if (f->segment == s && f->index == i)
		return 0;
	f->segment = NULL;
	if (!f->z) {
		f->z = ZSTD_createDCtx();
		base_buf_init(&f->raw, SIZE_MAX);
		base_buf_init(&f->packed, SIZE_MAX);
	}
	base_buf_clear(&f->raw);
	base_buf_clear(&f->packed);
	packed = base_buf_reserve(&f->packed, x->packed ? x->packed : 1);
	raw = base_buf_reserve(&f->raw, x->raw ? x->raw : 1);
	if (!f->z || !packed || !raw)
		return base_err_set(err, -ENOMEM, "out of memory to read the archive");
	fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	rc = fd < 0 ? -errno : log_read_at(fd, packed, x->packed, x->offset);
	if (fd >= 0)
		close(fd);
	if (rc == -EUCLEAN)
		return damaged(s, err);
	if (rc < 0)
		return base_err_set(err, rc, "cannot read %s: %s", s->path, strerror(-rc));
	sum = base_hash_of((struct base_str){packed, x->packed});
	if (!base_hash_eq(&sum, &x->sum))
		return damaged(s, err);
	n = ZSTD_decompressDCtx(f->z, raw, x->raw, packed, x->packed);
	if (ZSTD_isError(n) || n != x->raw)
		return damaged(s, err);
	base_buf_commit(&f->raw, n);
	f->segment = s;
	f->index = i;
	return 0;
}

/* The next commit of the frame that is loaded; checked against its root. */
static int next_commit(
	struct log_frames *f, struct base_reader *r, struct log_commit *ret, struct base_err *err)
{
	struct log_commit c = {0};
	struct base_hash root;
	int rc;

	c.first_seq = base_get_u64(r);
	c.count = (uint32_t)base_get_uint(r, UINT32_MAX);
	c.time_ms = base_get_i64(r);
	base_get_hash(r, &c.root);
	base_get_hash(r, &c.chain);
	c.block = base_get_str(r);
	if (r->failed)
		return damaged(f->segment, err);
	rc = log_block_root(c.block, c.count, &f->leaves, &f->leaves_size, &root);
	if (rc == -ENOMEM)
		return base_err_set(err, rc, "out of memory to read the archive");
	if (rc < 0 || !base_hash_eq(&root, &c.root))
		return damaged(f->segment, err);
	*ret = c;
	return 0;
}

/* The last frame of commits that begins at or before seq. */
static size_t frame_of(const struct log_segment *s, uint64_t seq)
{
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < s->frame_count; i++)
		if (s->frames[i].kind == LOG_FRAME_COMMITS && s->frames[i].first_seq <= seq)
			best = i;
	return best;
}

int log_segment_read(struct log_frames *f, const struct log_segment *s, uint64_t seq, struct log_commit *ret,
	struct base_err *err)
{
	size_t i = frame_of(s, seq);
	struct base_reader r;
	struct log_commit c;
	int rc = i == SIZE_MAX ? damaged(s, err) : load_frame(f, s, i, err);

	if (rc < 0)
		return rc;
	r = base_reader_of(base_buf_view(&f->raw));
	while (r.at < r.end) {
		rc = next_commit(f, &r, &c, err);
		if (rc < 0)
			return rc;
		if (seq >= c.first_seq && seq - c.first_seq < c.count) {
			*ret = c;
			return 0;
		}
	}
	return damaged(s, err);
}

int log_segment_each(struct log_frames *f, const struct log_segment *s, uint64_t from, log_each_fn fn,
	void *userdata, struct base_err *err)
{
	size_t i = frame_of(s, from > s->first_seq ? from : s->first_seq);
	struct base_reader r;
	struct log_commit c;
	int rc = i == SIZE_MAX ? damaged(s, err) : 0;

	for (; rc == 0 && i < s->frame_count; i++) {
		if (s->frames[i].kind != LOG_FRAME_COMMITS)
			continue;
		rc = load_frame(f, s, i, err);
		r = base_reader_of(rc == 0 ? base_buf_view(&f->raw) : BASE_STR_NONE);
		while (rc == 0 && r.at < r.end) {
			rc = next_commit(f, &r, &c, err);
			if (rc == 0 && c.first_seq + c.count > from)
				rc = fn(userdata, &c);
		}
	}
	return rc;
}

static int body_at(struct log_frames *f, const struct log_segment *s, const struct log_segment_body *at,
	uint64_t *ret_seq, struct log_body *ret, struct base_err *err)
{
	struct base_reader r;
	struct log_body b;
	uint64_t seq;
	int rc = load_frame(f, s, at->frame, err);

	if (rc < 0)
		return rc;
	r = base_reader_of(base_str_sub(base_buf_view(&f->raw), at->at, f->raw.len));
	seq = base_get_u64(&r);
	base_get_hash(&r, &b.hash);
	b.data = base_get_str(&r);
	if (r.failed || !base_hash_eq(&b.hash, &at->hash))
		return damaged(s, err);
	*ret_seq = seq;
	*ret = b;
	return 0;
}

int log_segment_find_body(struct log_frames *f, const struct log_segment *s, const struct base_hash *hash,
	struct base_str *ret, struct base_err *err)
{
	struct log_segment_body key = {.hash = *hash}, *at;
	struct base_hash real;
	struct log_body b;
	uint64_t seq;
	int rc;

	at = s->body_count ? bsearch(&key, s->bodies, s->body_count, sizeof(key), by_hash) : NULL;
	if (!at)
		return -ENOENT;
	rc = body_at(f, s, at, &seq, &b, err);
	if (rc < 0)
		return rc;
	real = base_hash_of(b.data);
	if (!base_hash_eq(&real, hash))
		return damaged(s, err);
	*ret = b.data;
	return 0;
}

int log_segment_each_body(struct log_frames *f, const struct log_segment *s, log_body_fn fn, void *userdata,
	struct base_err *err)
{
	struct log_body b;
	uint64_t seq;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < s->body_count; i++) {
		rc = body_at(f, s, &s->bodies[i], &seq, &b, err);
		if (rc == 0)
			rc = fn(userdata, seq, &b);
	}
	return rc;
}
