#include "connect/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int copy_path(struct base_str path, char ret[PATH_MAX], struct base_err *err)
{
	if (path.len == 0)
		return base_err_set(err, -EINVAL, "an empty path");
	if (path.len >= PATH_MAX)
		return base_err_set(err, -ENAMETOOLONG, "the path is too long");
	if (memchr(path.ptr, 0, path.len))
		return base_err_set(err, -EINVAL, "a path must not hold a NUL byte");
	memcpy(ret, path.ptr, path.len);
	ret[path.len] = 0;
	return 0;
}

static int explain(struct base_err *err, int code, const char *path)
{
	switch (code) {
	case -EXDEV:
		return base_err_set(err, code, "%s: leads out of the workspace's files folder", path);
	case -ELOOP:
		return base_err_set(
			err, code, "%s: goes through a symbolic link, which is not followed", path);
	case -ENOENT:
		return base_err_set(
			err, code, "%s: there is no such file in the workspace's files folder", path);
	case -ENOSYS:
		return base_err_set(
			err, code, "%s: this kernel lacks openat2 (Linux 5.6): files stay closed", path);
	default:
		return base_err_set(err, code, "%s: %s", path, strerror(-code));
	}
}

static int open_at(int root, const char *path, int flags, unsigned mode)
{
	const struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	for (int tries = 0; tries < 8; tries++) { /* EAGAIN: something was renamed meanwhile */
		fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

int beneath_open(int root, struct base_str path, int flags, unsigned mode, struct base_err *err)
{
	char text[PATH_MAX];
	int r = copy_path(path, text, err);

	if (r < 0)
		return r;
	r = open_at(root, text, flags, mode);
	return r < 0 ? explain(err, r, text) : r;
}

/* Makes a folder, durably, where it is missing. */
static int make_dir(int dir, const char *name)
{
	if (mkdirat(dir, name, 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	return fsync(dir) < 0 ? -errno : 0;
}

/* The folder `part` of dir, made where it is missing. `path`: for the message. */
static int step_into(int dir, struct base_str part, struct base_str path, struct base_err *err)
{
	char name[PATH_MAX];
	int r = copy_path(part, name, err);

	if (r < 0)
		return r;
	if (base_str_is(part, ".."))
		return base_err_set(
			err, -EXDEV, "%.*s: leads out of the workspace's files folder", BASE_STR_ARG(path));
	r = make_dir(dir, name);
	if (r == 0)
		r = open_at(dir, name, O_RDONLY | O_DIRECTORY, 0);
	return r < 0 ? explain(err, r, name) : r;
}

int beneath_mkdir(int root, struct base_str path, struct base_err *err)
{
	int dir = open_at(root, ".", O_RDONLY | O_DIRECTORY, 0);
	struct base_str rest = path, part;

	if (dir < 0)
		return explain(err, dir, ".");
	if (path.len && path.ptr[0] == '/') {
		close(dir);
		return base_err_set(
			err, -EXDEV, "%.*s: leads out of the workspace's files folder", BASE_STR_ARG(path));
	}
	while (dir >= 0 && rest.len) {
		int next;

		base_str_cut(rest, '/', &part, &rest);
		if (part.len == 0)
			continue;
		next = step_into(dir, part, path, err);
		close(dir);
		dir = next;
	}
	return dir;
}

int beneath_split(
	struct base_str path, struct base_str *ret_dir, struct base_str *ret_leaf, struct base_err *err)
{
	size_t at = path.len;
	struct base_str leaf;

	while (at > 0 && path.ptr[at - 1] != '/')
		at--;
	leaf = base_str_sub(path, at, path.len - at);
	if (leaf.len == 0 || base_str_is(leaf, ".") || base_str_is(leaf, "..") || leaf.len > NAME_MAX ||
		memchr(leaf.ptr, 0, leaf.len))
		return base_err_set(err, -EINVAL, "%.*s: does not name a file", BASE_STR_ARG(path));
	if (at > 0 && path.ptr[0] == '/')
		return base_err_set(
			err, -EXDEV, "%.*s: leads out of the workspace's files folder", BASE_STR_ARG(path));
	*ret_leaf = leaf;
	*ret_dir = base_str_sub(path, 0, at);
	return 0;
}

int beneath_write(int fd, struct base_str data)
{
	while (data.len) {
		ssize_t n = write(fd, data.ptr, data.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data = base_str_sub(data, (size_t)n, data.len);
	}
	return 0;
}

void beneath_temp(char ret[BENEATH_TEMP_LEN])
{
	unsigned char random[8];

	randombytes_buf(random, sizeof(random));
	memcpy(ret, ".aios-", 6);
	sodium_bin2hex(ret + 6, 17, random, sizeof(random));
}

int beneath_replace(int dir, const char *leaf, struct base_str data)
{
	char temp[BENEATH_TEMP_LEN];
	int fd, r;

	beneath_temp(temp);
	fd = open_at(dir, temp, O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd < 0)
		return fd;
	r = beneath_write(fd, data);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	close(fd);
	if (r == 0 && renameat(dir, temp, dir, leaf) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dir, temp, 0);
		return r;
	}
	return fsync(dir) < 0 ? -errno : 0;
}
