#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vault/vault_int.h"

int vault_path(const char *dir, const char *name, char *ret, size_t size, struct base_err *err)
{
	int n = snprintf(ret, size, "%s/%s", dir, name);

	if (n < 0 || (size_t)n >= size)
		return base_err_set(err, -ENAMETOOLONG, "the vault's folder has too long a name");
	return 0;
}

int vault_failed(struct base_err *err, const char *what, const char *path)
{
	int code = -errno;

	return base_err_set(err, code, "cannot %s %s: %s", what, path, strerror(-code));
}

static int read_all(int fd, void *ret, size_t len)
{
	uint8_t *p = ret;

	while (len) {
		ssize_t n = read(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EBADMSG;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int vault_sync(const char *dir, struct base_err *err)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return vault_failed(err, "open", dir);
	if (fsync(fd) < 0)
		r = vault_failed(err, "sync", dir);
	close(fd);
	return r;
}

/* The new content under a name of its own, synced, then given the true name, then the folder synced: at every
 * moment the true name is the old file or the new one. */
int vault_replace(const char *dir, const char *name, const void *data, size_t len, struct base_err *err)
{
	char path[PATH_MAX], temp[PATH_MAX], temp_name[64];
	int fd, r;

	snprintf(temp_name, sizeof(temp_name), "%s.new", name);
	r = vault_path(dir, name, path, sizeof(path), err);
	r = r < 0 ? r : vault_path(dir, temp_name, temp, sizeof(temp), err);
	if (r < 0)
		return r;
	if (unlink(temp) < 0 && errno != ENOENT)
		return vault_failed(err, "remove", temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return vault_failed(err, "make", temp);
	r = write_all(fd, data, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r < 0) {
		unlink(temp);
		return base_err_set(err, r, "cannot write %s: %s", temp, strerror(-r));
	}
	if (rename(temp, path) < 0)
		return vault_failed(err, "rename to", path);
	return vault_sync(dir, err);
}

int vault_remove_file(const char *dir, const char *name, struct base_err *err)
{
	char path[PATH_MAX];
	int r = vault_path(dir, name, path, sizeof(path), err);

	if (r < 0)
		return r;
	if (unlink(path) < 0)
		return errno == ENOENT ? 0 : vault_failed(err, "remove", path);
	return vault_sync(dir, err);
}

static int check_private(const struct stat *st, const char *path, struct base_err *err)
{
	if (st->st_uid != geteuid() && geteuid() != 0)
		return base_err_set(
			err, -EACCES, "the vault's key %s belongs to another user: chown it to yours", path);
	if ((st->st_mode & 07777) != 0600)
		return base_err_set(err, -EACCES,
			"the vault's key %s has mode %04o, so others may have read it: run chmod 600 on it, "
			"and replace the secrets if somebody else uses this machine",
			path, (unsigned)(st->st_mode & 07777));
	return 0;
}

static int check_file(
	int fd, const char *path, size_t min, size_t max, bool private, size_t *ret_len, struct base_err *err)
{
	struct stat st;
	int r = 0;

	if (fstat(fd, &st) < 0)
		return vault_failed(err, "look at", path);
	if (!S_ISREG(st.st_mode))
		return base_err_set(err, -EACCES, "%s is not a regular file", path);
	if (private)
		r = check_private(&st, path, err);
	if (r == 0 && ((uint64_t)st.st_size < min || (uint64_t)st.st_size > max))
		r = base_err_set(err, (uint64_t)st.st_size > max ? -EFBIG : -EBADMSG,
			"%s is damaged: restore it from a backup", path);
	*ret_len = r == 0 ? (size_t)st.st_size : 0;
	return r;
}

int vault_read(const char *dir, const char *name, size_t min, size_t max, bool private, uint8_t **ret,
	size_t *ret_len, struct base_err *err)
{
	char path[PATH_MAX];
	uint8_t *bytes = NULL;
	size_t len = 0;
	int fd, r = vault_path(dir, name, path, sizeof(path), err);

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return vault_failed(err, "open", path);
	r = check_file(fd, path, min, max, private, &len, err);
	if (r == 0) {
		bytes = malloc(len ? len : 1);
		r = bytes ? read_all(fd, bytes, len) : -ENOMEM;
		if (r < 0)
			base_err_set(err, r, "cannot read %s: %s", path, strerror(-r));
	}
	close(fd);
	if (r < 0) {
		if (bytes)
			sodium_memzero(bytes, len);
		free(bytes);
		return r;
	}
	*ret = bytes;
	*ret_len = len;
	return 0;
}
