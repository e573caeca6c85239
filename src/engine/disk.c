#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/keep.h"

/*
 * How much of the disk the workspace takes.
 *
 * Invariants
 *
 * D1 Beyond 80 % of the quota it is said; beyond all of it new work is refused, and everything that ends or answers work,
 * reads it or frees space goes on.
 *
 * D2 A part of the disk is kept in a file. When the disk is full the file goes, so that the operator can still act; no flow
 * runs and no timer fires until there is room for the file again.
 */

enum { DEPTH_MAX = 8 };
static const int64_t quota_default = (int64_t)10 << 30, reserve_default = 32 << 20;

static int64_t usage(int dirfd, unsigned depth)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int64_t sum = 0;
	struct stat st;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((e = readdir(d))) {
		int below;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		sum += (int64_t)st.st_blocks * 512;
		if (!S_ISDIR(st.st_mode) || depth >= DEPTH_MAX)
			continue;
		below = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (below >= 0) {
			sum += usage(below, depth + 1);
			close(below);
		}
	}
	closedir(d);
	return sum;
}

static void reserve_path(const struct engine *e, char *ret, size_t size)
{
	snprintf(ret, size, "%s/reserve", e->paths.aios);
}

/* Blocks, not a hole; where the file system cannot say so, written. */
static int fill(int fd, int64_t size)
{
	static const char zero[1 << 16];
	int64_t at = 0;

	if (fallocate(fd, 0, 0, size) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	while (at < size) {
		ssize_t n = pwrite(fd, zero, sizeof(zero), at);

		if (n < 0)
			return -errno;
		at += n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

static int make_reserve(const struct engine *e, int64_t size)
{
	char path[PATH_MAX];
	struct stat st;
	int fd, rc;

	reserve_path(e, path, sizeof(path));
	if (stat(path, &st) == 0 && st.st_size == size && (int64_t)st.st_blocks * 512 >= size)
		return 0;
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	rc = fill(fd, size);
	close(fd);
	if (rc < 0)
		unlink(path);
	return rc;
}

static void keep_reserve(struct engine *e, struct engine_disk *d)
{
	char path[PATH_MAX];

	reserve_path(e, path, sizeof(path));
	if (d->reserve <= 0) {
		unlink(path);
		d->spent = false;
		return;
	}
	/* As much again must be free besides, or it would be taken at once. */
	if ((d->spent || access(path, F_OK) < 0) && d->room < 2 * d->reserve)
		return;
	if (make_reserve(e, d->reserve) < 0)
		return;
	if (d->spent)
		engine_note(1, "there is room on the disk again: work goes on");
	d->spent = false;
}

static void say(struct engine_disk *d)
{
	bool warned = d->quota > 0 && d->used >= d->quota / 100 * 80,
	     over = d->quota > 0 && d->used >= d->quota;

	if (over && !d->over)
		engine_note(3,
			"the workspace takes %lld MiB of its quota of %lld MiB: new work is refused; aios "
			"log archive, or a "
			"larger log.quota in aios.yaml",
			(long long)(d->used >> 20), (long long)(d->quota >> 20));
	else if (warned && !d->warned)
		engine_note(2, "the workspace takes %lld MiB of its quota of %lld MiB",
			(long long)(d->used >> 20), (long long)(d->quota >> 20));
	else if (!over && d->over)
		engine_note(1, "the workspace is within its quota again: new work is taken");
	d->warned = warned;
	d->over = over;
}

void engine_disk_check(struct engine *e, struct engine_disk *d)
{
	int fd = open(e->paths.aios, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statvfs vfs;

	if (fd < 0)
		return;
	d->quota = engine_keep_size(e, "quota", quota_default);
	d->reserve = engine_keep_size(e, "reserve", reserve_default);
	d->room = fstatvfs(fd, &vfs) == 0 ? (int64_t)vfs.f_bavail * (int64_t)vfs.f_frsize : INT64_MAX;
	keep_reserve(e, d);
	d->used = usage(fd, 0);
	close(fd);
	say(d);
}

void engine_disk_full(struct engine *e)
{
	struct engine_disk *d = e->keep ? &e->keep->disk : NULL;
	char path[PATH_MAX];

	reserve_path(e, path, sizeof(path));
	if (!d || d->spent || unlink(path) < 0)
		return;
	d->spent = true;
	engine_note(3,
		"the disk is full: the reserve of %lld MiB is given up so that you can act (aios cancel, "
		"aios log archive, "
		"aios freeze); flows stand still until there is room",
		(long long)(d->reserve >> 20));
}

bool engine_disk_stands(const struct engine *e)
{
	return e->keep && e->keep->disk.spent;
}

/* D1: what makes something new. Everything else ends, answers, reads or frees. */
static bool is_new_work(enum wire_op op)
{
	switch (op) {
	case WIRE_OP_RUN_START:
	case WIRE_OP_RUN_FORK:
	case WIRE_OP_RUN_RESTART:
	case WIRE_OP_SIGNAL:
	case WIRE_OP_FACT_PUT:
	case WIRE_OP_DOC_PUT:
	case WIRE_OP_OUTCOME:
		return true;
	default:
		return false;
	}
}

bool engine_disk_refuses(struct engine *e, struct engine_req *q)
{
	const struct engine_disk *d = e->keep ? &e->keep->disk : NULL;

	if (!d || !(d->over || d->spent) || !is_new_work(q->op))
		return false;
	if (d->spent)
		engine_reply_problem(e, q, 507, "disk_full",
			"the disk is full: new work is refused until there is room; aios log archive, or "
			"free some space");
	else
		engine_reply_problem(e, q, 507, "quota",
			"the workspace takes %lld MiB of its quota of %lld MiB: aios log archive, or a "
			"larger log.quota in "
			"aios.yaml",
			(long long)(d->used >> 20), (long long)(d->quota >> 20));
	return true;
}

void engine_disk_put(const struct engine *e, struct base_jw *w)
{
	const struct engine_disk *d = e->keep ? &e->keep->disk : NULL;

	if (!d)
		return;
	base_jw_key(w, "disk");
	base_jw_obj(w);
	base_jw_mint(w, "used", d->used);
	base_jw_mint(w, "quota", d->quota);
	base_jw_mint(w, "free", d->room);
	base_jw_mint(w, "reserve", d->spent ? 0 : d->reserve);
	base_jw_mcstr(w, "state", d->spent ? "full" : d->over ? "over" : d->warned ? "warning" : "ok");
	base_jw_end_obj(w);
}
