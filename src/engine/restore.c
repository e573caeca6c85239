/*
 * Using a backup: verify, restore. Run by `aiosd --verify-backup` and `aiosd --restore`, without a workspace.
 *
 * Q1 A restored workspace is there as a whole or not at all: .aios gets its name last.
 * Q2 It has an id of its own, and its first start is that of a restored log (core's restore.c): what the lost time did is
 * not known.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/backup.h"
#include "engine/engine_int.h"

enum { MANIFEST_MAX = 256 << 20 };

static int join(char ret[PATH_MAX], const char *a, const char *b, struct base_err *err)
{
	if ((size_t)snprintf(ret, PATH_MAX, "%s/%s", a, b) >= PATH_MAX)
		return base_err_set(err, -ENAMETOOLONG, "the name %s/%s is too long", a, b);
	return 0;
}

/* --- the manifest --- */

static int read_text(const char *path, struct base_buf *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = -1;
	char *to;

	if (fd < 0)
		return -errno;
	while ((to = base_buf_reserve(ret, 65536)) && (n = read(fd, to, 65536)) > 0)
		base_buf_commit(ret, (size_t)n);
	close(fd);
	return n == 0 ? 0 : -EIO;
}

static int read_manifest(const char *dir, struct base_json **ret, struct base_err *err)
{
	char path[PATH_MAX];
	struct base_buf text;
	int rc = join(path, dir, BACKUP_MANIFEST, err);
	int64_t format;

	if (rc < 0)
		return rc;
	base_buf_init(&text, MANIFEST_MAX);
	rc = read_text(path, &text);
	if (rc < 0)
		base_err_set(err, rc, "%s is no backup, or one that was not finished: it has no %s", dir,
			BACKUP_MANIFEST);
	else if (base_json_parse(base_buf_view(&text), ret, NULL) < 0)
		rc = base_err_set(err, -EUCLEAN, "%s is damaged", path);
	base_buf_done(&text);
	if (rc < 0)
		return rc;
	format = base_jv_int(base_jv_get(base_json_root(*ret), "format"), 0);
	if (format < 1 || format > BACKUP_FORMAT) {
		base_json_free(*ret);
		return base_err_set(err, -ENOTSUP, "%s was made by a newer aios: upgrade aios", path);
	}
	return 0;
}

/* --- verify --- */

static int check_file(const char *dir, struct base_jv file, struct base_err *err)
{
	struct base_str name = base_jv_str(base_jv_get(file, "path"));
	struct base_hash want, real;
	char relative[PATH_MAX], path[PATH_MAX];
	uint64_t bytes;
	int rc;

	if (!backup_path_ok(name) || base_hash_from_hex(base_jv_str(base_jv_get(file, "hash")), &want) < 0)
		return base_err_set(err, -EUCLEAN, "%s/%s is damaged", dir, BACKUP_MANIFEST);
	snprintf(relative, sizeof(relative), "%.*s", BASE_STR_ARG(name));
	rc = join(path, dir, relative, err);
	if (rc == 0)
		rc = backup_hash(path, &real, &bytes, err);
	if (rc == 0 && !base_hash_eq(&want, &real))
		rc = base_err_set(err, -EUCLEAN, "%s is not what was backed up: it is damaged", path);
	return rc;
}

struct presence {
	struct base_jv files;
	uint64_t count;
};

static int count_one(void *userdata, const char *relative, struct base_err *err)
{
	struct presence *p = userdata;

	(void)err;
	p->count += strcmp(relative, BACKUP_MANIFEST) != 0;
	return 0;
}

int backup_verify(const char *dir, struct backup_progress *at, struct backup_info *ret, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_json *doc;
	struct presence p = {.count = 0};
	struct backup_info info = {0};
	struct base_str none;
	struct base_jv root, v;
	int rc = read_manifest(dir, &doc, err);

	if (rc < 0)
		return rc;
	root = base_json_root(doc);
	info.seq = (uint64_t)base_jv_int(base_jv_get(root, "seq"), 0);
	info.made_ms = base_jv_int(base_jv_get(root, "made_ms"), 0);
	info.has_key = base_jv_bool(base_jv_get(root, "with_key"), false);
	p.files = base_jv_get(root, "files");
	while (rc == 0 && base_jv_next(p.files, &it, &none, &v)) {
		backup_at(at, "verify", ++info.files, base_jv_len(p.files));
		rc = check_file(dir, v, err);
		info.bytes += (uint64_t)base_jv_int(base_jv_get(v, "bytes"), 0);
	}
	if (rc == 0)
		rc = backup_walk(dir, NULL, count_one, &p, err);
	if (rc == 0 && p.count != info.files)
		rc = base_err_set(err, -EUCLEAN, "%s holds %llu files, its manifest names %llu", dir,
			(unsigned long long)p.count, (unsigned long long)info.files);
	base_json_free(doc);
	if (rc == 0)
		*ret = info;
	return rc;
}

/* --- restore --- */

static bool all(const char *relative)
{
	return strstr(relative, ".tmp") != NULL;
}

static int check_log(
	const char *dir, const struct backup_info *info, struct backup_progress *at, struct base_err *err)
{
	struct log_reader *r = NULL;
	struct log *l;
	uint64_t bad = 0, seq;
	int rc = log_open_sqlite(dir, &l, err);

	if (rc < 0)
		return rc;
	backup_at(at, "log", 0, info->seq);
	seq = log_last_seq(l);
	rc = log_reader_new(l, &r, err);
	if (rc == 0)
		rc = log_verify(r, &bad, NULL, NULL, err);
	if (rc == 0 && seq != info->seq)
		rc = base_err_set(err, -EUCLEAN, "the log ends at event %llu, its manifest says %llu",
			(unsigned long long)seq, (unsigned long long)info->seq);
	log_reader_free(r);
	log_close(l);
	return rc == 0 ? log_forget_id(dir, err) : rc;
}

static int mark(const char *log, struct base_err *err)
{
	char path[PATH_MAX];
	int rc = join(path, log, ENGINE_RESTORED, err), fd;

	if (rc < 0)
		return rc;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || fsync(fd) < 0)
		rc = base_err_set(err, -errno, "cannot write %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return rc == 0 ? backup_sync_dir(log, err) : rc;
}

static int fill_state(const char *dir, const char *aios, const struct backup_info *info,
	struct backup_progress *at, struct base_err *err)
{
	char from[PATH_MAX], to[PATH_MAX];
	int rc = backup_mkdir(aios, err);

	if (rc == 0)
		rc = join(from, dir, "vault", err);
	if (rc == 0)
		rc = join(to, aios, "vault", err);
	if (rc == 0)
		rc = backup_mkdir(to, err);
	if (rc == 0)
		rc = backup_copy_tree(from, to, all, err);
	if (rc == 0)
		rc = join(from, dir, "log", err);
	if (rc == 0)
		rc = join(to, aios, "log", err);
	if (rc == 0)
		rc = backup_mkdir(to, err);
	if (rc == 0)
		rc = backup_copy_tree(from, to, all, err);
	if (rc == 0)
		rc = check_log(to, info, at, err);
	if (rc == 0)
		rc = mark(to, err);
	return rc == 0 ? backup_sync_dir(aios, err) : rc;
}

int backup_restore(const char *dir, const char *workspace, struct backup_progress *at,
	struct backup_info *ret, struct base_err *err)
{
	char partial[PATH_MAX], aios[PATH_MAX], from[PATH_MAX];
	struct backup_info info;
	int rc;

	if (!backup_is_free(workspace))
		return base_err_set(err, -EEXIST,
			"%s is there already and not empty: restore into a new folder, look at it, and use "
			"it instead",
			workspace);
	rc = backup_verify(dir, at, &info, err);
	if (rc == 0)
		rc = backup_mkdir(workspace, err);
	if (rc == 0)
		rc = join(from, dir, "sources", err);
	if (rc == 0)
		rc = backup_copy_tree(from, workspace, NULL, err);
	if (rc == 0)
		rc = join(partial, workspace, ".aios.partial", err);
	if (rc == 0)
		rc = join(aios, workspace, ".aios", err);
	if (rc == 0)
		rc = fill_state(dir, partial, &info, at, err);
	if (rc == 0 && rename(partial, aios) < 0)
		rc = base_err_set(err, -errno, "cannot make %s: %s", aios, strerror(errno));
	if (rc == 0)
		rc = backup_sync_dir(workspace, err);
	if (rc == 0)
		*ret = info;
	return rc;
}
