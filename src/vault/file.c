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

/*
 * DIR/secrets: magic, nonce, then the book encrypted with XChaCha20-Poly1305 (IETF); the magic, which holds
 * the version of the form, is authenticated with it.
 */
static const char magic[8] = {'A', 'I', 'O', 'S', 'V', 'L', 'T', '1'};

enum {
	NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
	TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES,
	HEAD = sizeof(magic) + NONCE,
};

static int path_of(const char *dir, const char *name, char ret[PATH_MAX], struct base_err *err)
{
	int n = snprintf(ret, PATH_MAX, "%s/%s", dir, name);

	if (n < 0 || n >= PATH_MAX)
		return base_err_set(err, -ENAMETOOLONG, "the vault's folder has too long a name");
	return 0;
}

static int failed(struct base_err *err, const char *what, const char *path)
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

static int sync_dir(const char *dir, struct base_err *err)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return failed(err, "open", dir);
	if (fsync(fd) < 0)
		r = failed(err, "sync", dir);
	close(fd);
	return r;
}

/* The new content under a name of its own, synced, then given the true name, then the folder synced: at every
 * moment the true name is the old file or the new one. keep: an existing file of the true name is an error.
 */
static int replace(
	const char *dir, const char *name, const void *data, size_t len, bool keep, struct base_err *err)
{
	char path[PATH_MAX], temp[PATH_MAX], temp_name[64];
	int fd, r;

	snprintf(temp_name, sizeof(temp_name), "%s.new", name);
	r = path_of(dir, name, path, err);
	r = r < 0 ? r : path_of(dir, temp_name, temp, err);
	if (r < 0)
		return r;
	if (unlink(temp) < 0 && errno != ENOENT)
		return failed(err, "remove", temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return failed(err, "make", temp);
	r = write_all(fd, data, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r < 0) {
		unlink(temp);
		return base_err_set(err, r, "cannot write %s: %s", temp, strerror(-r));
	}
	if (keep && access(path, F_OK) == 0)
		return base_err_set(err, -EEXIST, "%s has appeared meanwhile", path);
	if (rename(temp, path) < 0)
		return failed(err, "rename to", path);
	return sync_dir(dir, err);
}

static int check_key_file(int fd, const char *path, struct base_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return failed(err, "look at", path);
	if (!S_ISREG(st.st_mode))
		return base_err_set(err, -EACCES, "the vault's key %s is not a regular file", path);
	if (st.st_uid != geteuid() && geteuid() != 0)
		return base_err_set(
			err, -EACCES, "the vault's key %s belongs to another user: chown it to yours", path);
	if ((st.st_mode & 07777) != 0600)
		return base_err_set(err, -EACCES,
			"the vault's key %s has mode %04o, so others may have read it: run chmod 600 on it, "
			"and replace "
			"the secrets if somebody else uses this machine",
			path, (unsigned)(st.st_mode & 07777));
	if (st.st_size != VAULT_KEY)
		return base_err_set(
			err, -EBADMSG, "the vault's key %s is damaged: restore it from a backup", path);
	return 0;
}

static int read_key(const char *path, uint8_t key[VAULT_KEY], struct base_err *err)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), r;

	if (fd < 0)
		return failed(err, "open the vault's key", path);
	r = check_key_file(fd, path, err);
	if (r == 0 && read_all(fd, key, VAULT_KEY) < 0)
		r = base_err_set(err, -EIO, "cannot read the vault's key %s", path);
	close(fd);
	return r;
}

int vault_key_open(const char *dir, bool fresh, uint8_t key[VAULT_KEY], struct base_err *err)
{
	char path[PATH_MAX];
	struct stat st;
	int r = path_of(dir, "key", path, err);

	if (r < 0)
		return r;
	if (lstat(path, &st) == 0)
		return read_key(path, key, err);
	if (errno != ENOENT)
		return failed(err, "look at", path);
	if (!fresh)
		return base_err_set(err, -ENOENT,
			"the vault's key %s is missing: restore it from a backup, or remove the file "
			"\"secrets\" beside it "
			"and set the secrets again",
			path);
	randombytes_buf(key, VAULT_KEY);
	return replace(dir, "key", key, VAULT_KEY, true, err);
}

int vault_file_exists(const char *dir, struct base_err *err)
{
	char path[PATH_MAX];
	struct stat st;
	int r = path_of(dir, "secrets", path, err);

	if (r < 0)
		return r;
	if (lstat(path, &st) == 0)
		return 1;
	return errno == ENOENT ? 0 : failed(err, "look at", path);
}

static int check_book(const struct vault_book *b)
{
	struct vault_entry e;
	size_t at = 0;
	int r;

	while ((r = vault_book_next(b, &at, &e)) > 0)
		;
	return r;
}

static int decrypt(const uint8_t *file, size_t len, const uint8_t key[VAULT_KEY], struct vault_book *ret)
{
	struct vault_book b = {.len = len - HEAD - TAG};
	unsigned long long got;
	int r = 0;

	if (memcmp(file, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	b.ptr = sodium_malloc(b.len ? b.len : 1);
	if (!b.ptr)
		return -ENOMEM;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(b.ptr, &got, NULL, file + HEAD, len - HEAD,
		    (const uint8_t *)magic, sizeof(magic), file + sizeof(magic), key) != 0)
		r = -EBADMSG;
	if (r == 0)
		r = check_book(&b);
	if (r < 0)
		vault_book_free(&b);
	else
		*ret = b;
	return r;
}

int vault_file_read(
	const char *dir, const uint8_t key[VAULT_KEY], struct vault_book *ret, struct base_err *err)
{
	char path[PATH_MAX];
	struct stat st;
	uint8_t *file = NULL;
	size_t len = 0;
	int fd, r = path_of(dir, "secrets", path, err);

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return failed(err, "open", path);
	if (fstat(fd, &st) < 0)
		r = failed(err, "look at", path);
	else if (st.st_size < HEAD + TAG)
		r = -EBADMSG;
	else if (st.st_size > HEAD + TAG + VAULT_PLAIN_MAX)
		r = base_err_set(err, -EFBIG, "%s is larger than a vault can be", path);
	if (r == 0) {
		len = (size_t)st.st_size;
		file = malloc(len);
		r = file ? read_all(fd, file, len) : -ENOMEM;
	}
	close(fd);
	if (r == 0)
		r = decrypt(file, len, key, ret);
	free(file);
	if (r == -EBADMSG)
		return base_err_set(err, r,
			"%s was changed from outside, or belongs to another key: restore it (and the key "
			"beside it) from a "
			"backup, or remove it and set the secrets again",
			path);
	if (r == -ENOMEM)
		return base_err_set(err, r, "out of memory");
	return r;
}

int vault_file_write(
	const char *dir, const uint8_t key[VAULT_KEY], const struct vault_book *b, struct base_err *err)
{
	uint8_t *file = malloc(HEAD + TAG + b->len);
	const uint8_t nothing = 0;
	int r;

	if (!file)
		return base_err_set(err, -ENOMEM, "out of memory");
	memcpy(file, magic, sizeof(magic));
	randombytes_buf(file + sizeof(magic), NONCE);
	crypto_aead_xchacha20poly1305_ietf_encrypt(file + HEAD, NULL, b->len ? b->ptr : &nothing, b->len,
		(const uint8_t *)magic, sizeof(magic), NULL, file + sizeof(magic), key);
	r = replace(dir, "secrets", file, HEAD + TAG + b->len, false, err);
	free(file);
	return r;
}
