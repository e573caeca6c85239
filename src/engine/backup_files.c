/* Trees of files: copied, hashed, walked. Nothing here follows a symbolic link. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/backup.h"

void backup_at(struct backup_progress *p, const char *part, uint64_t done, uint64_t total)
{
	__atomic_store_n(&p->part, part, __ATOMIC_RELAXED);
	__atomic_store_n(&p->total, total, __ATOMIC_RELAXED);
	__atomic_store_n(&p->done, done, __ATOMIC_RELAXED);
}

int backup_mkdir(const char *path, struct base_err *err)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return base_err_set(err, -errno, "cannot make %s: %s", path, strerror(errno));
	return 0;
}

int backup_sync_dir(const char *path, struct base_err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return rc < 0 ? base_err_set(err, rc, "cannot sync %s: %s", path, strerror(-rc)) : 0;
}

static int pump(int in, int out)
{
	static const size_t chunk = 1 << 18;
	char *buf = malloc(chunk);
	ssize_t n, done;
	int rc = buf ? 0 : -ENOMEM;

	while (rc == 0 && (n = read(in, buf, chunk)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		rc = n < 0 ? -errno : 0;
		for (ssize_t at = 0; rc == 0 && at < n; at += done) {
			done = write(out, buf + at, (size_t)(n - at));
			if (done < 0 && errno == EINTR)
				done = 0;
			if (done < 0)
				rc = -errno;
		}
	}
	free(buf);
	return rc;
}

int backup_copy(const char *from, const char *to, struct base_err *err)
{
	int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out = -1, rc;

	if (in < 0)
		return base_err_set(err, -errno, "cannot open %s: %s", from, strerror(errno));
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	rc = out < 0 ? -errno : pump(in, out);
	if (rc == 0 && fsync(out) < 0)
		rc = -errno;
	close(in);
	if (out >= 0)
		close(out);
	return rc < 0 ? base_err_set(err, rc, "cannot write %s: %s", to, strerror(-rc)) : 0;
}

int backup_hash(const char *path, struct base_hash *ret, uint64_t *ret_bytes, struct base_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc = 0;
	void *map = MAP_FAILED;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		rc = -errno;
	else if (st.st_size > 0 &&
		 (map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
		rc = -errno;
	if (rc == 0) {
		*ret = base_hash_of(st.st_size ? (struct base_str){map, (size_t)st.st_size} : BASE_STR_NONE);
		*ret_bytes = (uint64_t)st.st_size;
	}
	if (map != MAP_FAILED)
		munmap(map, (size_t)st.st_size);
	if (fd >= 0)
		close(fd);
	return rc < 0 ? base_err_set(err, rc, "cannot read %s: %s", path, strerror(-rc)) : 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

struct walk {
	const char *dir;
	bool (*skip)(const char *relative);
	int (*fn)(void *userdata, const char *relative, struct base_err *err);
	void *userdata;
	struct base_err *err;
};

static int walk_below(const struct walk *w, const char *relative, unsigned depth);

static int walk_one(const struct walk *w, const char *relative, const char *name, unsigned depth)
{
	char below[PATH_MAX], path[PATH_MAX];
	struct stat st;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	if ((size_t)snprintf(below, sizeof(below), "%s%s%s", relative, *relative ? "/" : "", name) >=
			sizeof(below) ||
		(size_t)snprintf(path, sizeof(path), "%s/%s", w->dir, below) >= sizeof(path))
		return base_err_set(w->err, -ENAMETOOLONG, "a name in %s is too long", w->dir);
	if ((w->skip && w->skip(below)) || lstat(path, &st) < 0)
		return 0;
	if (S_ISDIR(st.st_mode))
		return walk_below(w, below, depth + 1);
	return S_ISREG(st.st_mode) ? w->fn(w->userdata, below, w->err) : 0;
}

static int walk_below(const struct walk *w, const char *relative, unsigned depth)
{
	struct dirent **names = NULL;
	char path[PATH_MAX];
	int n, rc = 0;

	if (depth > 32 || (size_t)snprintf(path, sizeof(path), "%s/%s", w->dir, relative) >= sizeof(path))
		return base_err_set(w->err, -ELOOP, "%s is nested too deep", w->dir);
	n = scandir(path, &names, NULL, by_name);
	if (n < 0)
		return base_err_set(w->err, -errno, "cannot read the folder %s: %s", path, strerror(errno));
	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = walk_one(w, relative, names[i]->d_name, depth);
		free(names[i]);
	}
	free(names);
	return rc;
}

int backup_walk(const char *dir, bool (*skip)(const char *relative),
	int (*fn)(void *userdata, const char *relative, struct base_err *err), void *userdata,
	struct base_err *err)
{
	struct walk w = {dir, skip, fn, userdata, err};

	return walk_below(&w, "", 0);
}

struct copy {
	const char *from, *to;
};

/* The folders of `relative` below dir. */
static int make_folders(const char *dir, const char *relative, struct base_err *err)
{
	char path[PATH_MAX];
	int rc = 0;

	for (const char *slash = strchr(relative, '/'); rc == 0 && slash; slash = strchr(slash + 1, '/')) {
		if ((size_t)snprintf(path, sizeof(path), "%s/%.*s", dir, (int)(slash - relative), relative) >=
			sizeof(path))
			return base_err_set(err, -ENAMETOOLONG, "a name in %s is too long", dir);
		rc = backup_mkdir(path, err);
	}
	return rc;
}

static int copy_one(void *userdata, const char *relative, struct base_err *err)
{
	const struct copy *c = userdata;
	char from[PATH_MAX], to[PATH_MAX];
	int rc = make_folders(c->to, relative, err);

	if (rc < 0)
		return rc;
	if ((size_t)snprintf(from, sizeof(from), "%s/%s", c->from, relative) >= sizeof(from) ||
		(size_t)snprintf(to, sizeof(to), "%s/%s", c->to, relative) >= sizeof(to))
		return base_err_set(err, -ENAMETOOLONG, "a name in %s is too long", c->from);
	return backup_copy(from, to, err);
}

int backup_copy_tree(
	const char *from, const char *to, bool (*skip)(const char *relative), struct base_err *err)
{
	struct copy c = {from, to};

	return backup_walk(from, skip, copy_one, &c, err);
}

bool backup_is_free(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	bool empty = true;

	if (!d)
		return errno == ENOENT;
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			empty = false;
	closedir(d);
	return empty;
}

bool backup_is_inside(const char *path, const char *folder)
{
	char at[PATH_MAX], real[PATH_MAX], in[PATH_MAX];
	size_t len;
	char *slash;

	if ((size_t)snprintf(at, sizeof(at), "%s", path) >= sizeof(at) || !realpath(folder, in))
		return false;
	while (!realpath(at, real)) { /* the nearest folder above it that is there */
		slash = strrchr(at, '/');
		if (!slash)
			return false;
		slash[slash == at] = '\0';
	}
	len = strlen(in);
	return strncmp(real, in, len) == 0 && (real[len] == '/' || real[len] == '\0');
}

bool backup_path_ok(struct base_str path)
{
	struct base_str part, rest = path;

	if (path.len == 0 || path.len >= PATH_MAX / 2 || path.ptr[0] == '/' || memchr(path.ptr, 0, path.len))
		return false;
	while (rest.len) {
		(void)base_str_cut(rest, '/', &part, &rest);
		if (part.len == 0 || base_str_is(part, ".") || base_str_is(part, ".."))
			return false;
	}
	return true;
}
