/*
 * Snapshots beside the log: snapshot-<seq, 20 digits>, each
 *   8 bytes magic · u64 seq · u64 length · 32 bytes state hash · 32 bytes hash over all of the above and the
 * data · data A file appears whole or not at all (temporary name, sync, rename); one whose hash is wrong is
 * passed over.
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

#include "base/hash.h"
#include "log/log_int.h"

enum { HEAD = 8 + 8 + 8 + 32, SUM = 32, KEEP = 2 };

static const char magic[8] = "aiossnp1";

static void name_of(uint64_t seq, char *ret, size_t size)
{
	snprintf(ret, size, "snapshot-%020" PRIu64, seq);
}

static bool seq_of(const char *name, uint64_t *ret)
{
	char *end;

	if (strncmp(name, "snapshot-", 9) != 0 || strlen(name) != 29 || strspn(name + 9, "0123456789") != 20)
		return false;
	errno = 0;
	*ret = strtoull(name + 9, &end, 10);
	return errno == 0 && *end == '\0';
}

static void put_u64(char *at, uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		at[i] = (char)(uint8_t)(v >> (8 * i));
}

static uint64_t get_u64(const char *at)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v |= (uint64_t)(uint8_t)at[i] << (8 * i);
	return v;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int open_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Calls fn for each snapshot. The order is the folder's. */
static void each(
	int dirfd, void (*fn)(int dirfd, uint64_t seq, const char *name, void *userdata), void *userdata)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	uint64_t seq;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d)))
		if (seq_of(e->d_name, &seq))
			fn(dirfd, seq, e->d_name, userdata);
	closedir(d);
}

struct below {
	uint64_t limit; /* inclusive */
	uint64_t best;
	bool found;
};

static void find_below(int dirfd, uint64_t seq, const char *name, void *userdata)
{
	struct below *b = userdata;

	(void)dirfd;
	(void)name;
	if (seq > b->limit || (b->found && seq < b->best))
		return;
	b->best = seq;
	b->found = true;
}

static bool newest(int dirfd, uint64_t limit, uint64_t *ret)
{
	struct below b = {.limit = limit};

	each(dirfd, find_below, &b);
	if (b.found)
		*ret = b.best;
	return b.found;
}

struct keep {
	uint64_t seqs[KEEP];
	size_t count;
};

static void drop_others(int dirfd, uint64_t seq, const char *name, void *userdata)
{
	const struct keep *k = userdata;

	for (size_t i = 0; i < k->count; i++)
		if (k->seqs[i] == seq)
			return;
	unlinkat(dirfd, name, 0);
}

static void drop_newer(int dirfd, uint64_t seq, const char *name, void *userdata)
{
	const uint64_t *limit = userdata;

	if (seq > *limit)
		unlinkat(dirfd, name, 0);
}

void log_snapfile_drop_after(const char *dir, uint64_t seq)
{
	int dirfd = open_dir(dir);

	if (dirfd < 0)
		return;
	each(dirfd, drop_newer, &seq);
	unlinkat(dirfd, "snapshot.tmp", 0);
	close(dirfd);
}

static struct base_hash sum_of(const char head[HEAD], struct base_str data)
{
	return base_hash_of2((struct base_str){head, HEAD}, data);
}

static int write_file(int dirfd, uint64_t seq, const struct base_hash *state, struct base_str data)
{
	char head[HEAD];
	struct base_hash sum;
	int fd, r;

	memcpy(head, magic, 8);
	put_u64(head + 8, seq);
	put_u64(head + 16, data.len);
	memcpy(head + 24, state->b, 32);
	sum = sum_of(head, data);
	fd = openat(dirfd, "snapshot.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, head, HEAD);
	if (r == 0)
		r = write_all(fd, (const char *)sum.b, SUM);
	if (r == 0)
		r = write_all(fd, data.ptr, data.len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

int log_snapfile_put(const char *dir, uint64_t seq, const struct base_hash *state, struct base_str data,
	struct base_err *err)
{
	struct keep keep = {.seqs = {seq}, .count = 1};
	int dirfd = open_dir(dir);
	char name[32];
	int r;

	if (dirfd < 0)
		return base_err_set(err, dirfd, "cannot open %s: %s", dir, strerror(-dirfd));
	name_of(seq, name, sizeof(name));
	r = write_file(dirfd, seq, state, data);
	if (r == 0 && renameat(dirfd, "snapshot.tmp", dirfd, name) < 0)
		r = -errno;
	if (r == 0 && fsync(dirfd) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dirfd, "snapshot.tmp", 0);
		close(dirfd);
		if (r == -EDQUOT || r == -EFBIG)
			r = -ENOSPC;
		return base_err_set(err, r, "cannot write a snapshot in %s: %s", dir, strerror(-r));
	}
	if (seq > 0 && newest(dirfd, seq - 1, &keep.seqs[1]))
		keep.count = 2;
	each(dirfd, drop_others, &keep);
	close(dirfd);
	return 0;
}

int log_read_at(int fd, char *to, size_t len, uint64_t at)
{
	while (len) {
		ssize_t n = pread(fd, to, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EUCLEAN;
		to += n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

static int read_data(
	int fd, const char head[HEAD], const struct base_hash *sum, char **ret_data, size_t *ret_len)
{
	uint64_t len = get_u64(head + 16);
	struct base_hash real;
	struct stat st;
	char *data;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (len > (uint64_t)st.st_size || len + HEAD + SUM != (uint64_t)st.st_size)
		return -EUCLEAN;
	data = malloc(len ? len : 1);
	if (!data)
		return -ENOMEM;
	r = log_read_at(fd, data, len, HEAD + SUM);
	real = r < 0 ? (struct base_hash){{0}} : sum_of(head, (struct base_str){data, len});
	if (r == 0 && !base_hash_eq(&real, sum))
		r = -EUCLEAN;
	if (r < 0) {
		free(data);
		return r;
	}
	*ret_data = data;
	*ret_len = len;
	return 0;
}

static int read_file(int dirfd, uint64_t seq, char **ret_data, size_t *ret_len)
{
	char head[HEAD], name[32];
	struct base_hash sum;
	int fd, r;

	name_of(seq, name, sizeof(name));
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	r = log_read_at(fd, head, HEAD, 0);
	if (r == 0)
		r = log_read_at(fd, (char *)sum.b, SUM, HEAD);
	if (r == 0 && (memcmp(head, magic, 8) != 0 || get_u64(head + 8) != seq))
		r = -EUCLEAN;
	if (r == 0)
		r = read_data(fd, head, &sum, ret_data, ret_len);
	close(fd);
	return r;
}

int log_snapfile_get(const char *dir, uint64_t max_seq, uint64_t *ret_seq, char **ret_data, size_t *ret_len,
	struct base_err *err)
{
	int dirfd = open_dir(dir);
	uint64_t seq;
	int r = -ENOENT;

	if (dirfd < 0)
		return base_err_set(err, dirfd, "cannot open %s: %s", dir, strerror(-dirfd));
	while (newest(dirfd, max_seq, &seq)) {
		r = read_file(dirfd, seq, ret_data, ret_len);
		if (r == 0) {
			*ret_seq = seq;
			break;
		}
		if (r == -ENOMEM)
			break;
		r = -ENOENT; /* damaged: an older one will do */
		if (seq == 0)
			break;
		max_seq = seq - 1;
	}
	close(dirfd);
	return r < 0 ? base_err_set(
			       err, r, r == -ENOMEM ? "out of memory for a snapshot" : "there is no snapshot")
		     : 0;
}
