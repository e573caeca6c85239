/*
 * Making a backup, while the log is written to.
 *
 * B1 It is the log at one moment: the database in one read transaction, then the segments up to its last event, which never
 * change. It never runs ahead of what is durable.
 * B2 It counts only with its manifest, which comes last, when everything else is on the disk and the copied log was
 * verified from its first event to its last.
 */
#include "engine/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine_int.h"

static int join(char ret[PATH_MAX], const char *a, const char *b, struct base_err *err)
{
	if ((size_t)snprintf(ret, PATH_MAX, "%s/%s", a, b) >= PATH_MAX)
		return base_err_set(err, -ENAMETOOLONG, "the name %s/%s is too long", a, b);
	return 0;
}

/* --- the log --- */

static void on_page(void *userdata, uint64_t done, uint64_t total)
{
	backup_at(userdata, "log", done, total);
}

static int copy_segments(struct backup_job *j, const char *to, uint64_t last, struct base_err *err)
{
	char from_dir[PATH_MAX], to_dir[PATH_MAX], from[PATH_MAX], target[PATH_MAX];
	struct log_archived a;
	int rc = join(from_dir, j->log, "archive", err);

	if (rc == 0)
		rc = join(to_dir, to, "archive", err);
	if (rc < 0 || access(from_dir, F_OK) < 0)
		return rc;
	rc = backup_mkdir(to_dir, err);
	for (uint64_t seq = 1; rc == 0 && log_archived_get(j->open, seq, &a) == 0 && a.last_seq < last;
		seq = a.last_seq + 1) {
		backup_at(&j->at, "archive", seq, last);
		if (a.lost)
			rc = base_err_set(
				err, -EUCLEAN, "the segment %s is lost or damaged: aios log verify", a.file);
		if (rc == 0)
			rc = join(from, from_dir, a.file, err);
		if (rc == 0)
			rc = join(target, to_dir, a.file, err);
		if (rc == 0)
			rc = backup_copy(from, target, err);
	}
	return rc == 0 ? backup_sync_dir(to_dir, err) : rc;
}

static int last_of(const char *dir, uint64_t *ret, struct base_err *err)
{
	struct log *l;
	int rc = log_open_sqlite(dir, &l, err);

	if (rc < 0)
		return rc;
	*ret = log_last_seq(l);
	log_close(l);
	return 0;
}

static int check_log(struct backup_job *j, const char *dir, struct base_err *err)
{
	struct log_reader *r = NULL;
	struct log *l;
	uint64_t bad = 0;
	int rc = log_open_sqlite(dir, &l, err);

	if (rc < 0)
		return rc;
	backup_at(&j->at, "verify", 0, log_last_seq(l));
	rc = log_reader_new(l, &r, err);
	if (rc == 0)
		rc = log_verify(r, &bad, NULL, NULL, err);
	j->seq = log_last_seq(l);
	j->chain = log_last_chain(l);
	log_reader_free(r);
	log_close(l);
	return rc;
}

/* The newest that is not ahead of the copy makes the first start short; without any, the log is folded. */
static int copy_snapshot(struct backup_job *j, const char *to, struct base_err *err)
{
	struct base_err ignored;
	uint64_t seq;
	struct log *l;
	char *data = NULL;
	size_t len;
	int rc = log_open_sqlite(to, &l, err);

	if (rc < 0)
		return rc;
	if (log_snapshot_get(j->open, log_last_seq(l), &seq, &data, &len, &ignored) == 0) {
		struct base_hash state = base_hash_of((struct base_str){data, len});

		rc = log_snapshot_put(l, seq, &state, (struct base_str){data, len}, err);
	}
	free(data);
	log_close(l);
	return rc;
}

static int copy_log(struct backup_job *j, struct base_err *err)
{
	static const char *const leave[] = {"lock", "log.db-wal", "log.db-shm"};
	char to[PATH_MAX], path[PATH_MAX];
	uint64_t last = 0;
	int rc = join(to, j->to, "log", err);

	if (rc == 0)
		rc = backup_mkdir(to, err);
	if (rc == 0)
		rc = log_copy(j->log, to, on_page, &j->at, err);
	if (rc == 0)
		rc = last_of(to, &last, err);
	if (rc == 0)
		rc = copy_segments(j, to, last, err);
	if (rc == 0)
		rc = copy_snapshot(j, to, err);
	if (rc == 0)
		rc = check_log(j, to, err);
	/* What the check left; nothing that belongs to the log is in them after an orderly close. */
	for (size_t i = 0; rc == 0 && i < sizeof(leave) / sizeof(leave[0]); i++)
		if (join(path, to, leave[i], err) == 0)
			unlink(path);
	return rc == 0 ? backup_sync_dir(to, err) : rc;
}

/* --- what else --- */

static bool skip_key(const char *relative)
{
	return strcmp(relative, "key") == 0 || strstr(relative, ".tmp");
}

static bool skip_tmp(const char *relative)
{
	return strstr(relative, ".tmp") != NULL;
}

/* Sources: all but what aios keeps, what the connectors touch, and what is hidden. */
static bool skip_source(const char *relative)
{
	return relative[0] == '.' || strcmp(relative, "files") == 0 || strcmp(relative, "node_modules") == 0;
}

static int copy_rest(struct backup_job *j, struct base_err *err)
{
	char to[PATH_MAX];
	int rc = join(to, j->to, "vault", err);

	backup_at(&j->at, "files", 0, 0);
	if (rc == 0)
		rc = backup_mkdir(to, err);
	if (rc == 0)
		rc = backup_copy_tree(j->vault, to, j->with_key ? skip_tmp : skip_key, err);
	if (rc == 0)
		rc = backup_sync_dir(to, err);
	if (rc == 0)
		rc = join(to, j->to, "sources", err);
	if (rc == 0)
		rc = backup_mkdir(to, err);
	if (rc == 0)
		rc = backup_copy_tree(j->workspace, to, skip_source, err);
	return rc == 0 ? backup_sync_dir(to, err) : rc;
}

/* --- the manifest --- */

struct listing {
	struct backup_job *job;
	struct base_jw w;
};

static int list_one(void *userdata, const char *relative, struct base_err *err)
{
	struct listing *l = userdata;
	char path[PATH_MAX];
	struct base_hash hash;
	uint64_t bytes;
	int rc = join(path, l->job->to, relative, err);

	if (rc == 0)
		rc = backup_hash(path, &hash, &bytes, err);
	if (rc < 0)
		return rc;
	base_jw_obj(&l->w);
	base_jw_mcstr(&l->w, "path", relative);
	base_jw_mint(&l->w, "bytes", (int64_t)bytes);
	base_jw_mhash(&l->w, "hash", &hash);
	base_jw_end_obj(&l->w);
	l->job->bytes += bytes;
	l->job->files++;
	backup_at(&l->job->at, "manifest", l->job->files, 0);
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int write_file(const char *path, struct base_str text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), rc = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text.ptr, text.len) != (ssize_t)text.len || fsync(fd) < 0)
		rc = errno ? -errno : -EIO;
	close(fd);
	return rc;
}

static int write_manifest(struct backup_job *j, struct base_err *err)
{
	struct listing l = {.job = j};
	char path[PATH_MAX], tmp[PATH_MAX];
	struct base_buf b;
	int rc;

	base_buf_init(&b, 256 << 20);
	l.w = base_jw_of(&b);
	base_jw_obj(&l.w);
	base_jw_mint(&l.w, "format", BACKUP_FORMAT);
	base_jw_mcstr(&l.w, "version", ENGINE_VERSION);
	base_jw_mint(&l.w, "made_ms", now_ms());
	base_jw_mint(&l.w, "seq", (int64_t)j->seq);
	base_jw_mhash(&l.w, "chain", &j->chain);
	base_jw_mbool(&l.w, "with_key", j->with_key);
	base_jw_key(&l.w, "files");
	base_jw_arr(&l.w);
	rc = backup_walk(j->to, NULL, list_one, &l, err);
	base_jw_end_arr(&l.w);
	base_jw_end_obj(&l.w);
	base_buf_char(&b, '\n');
	if (rc == 0 && base_buf_failed(&b))
		rc = base_err_set(err, -ENOMEM, "out of memory for the manifest");
	if (rc == 0)
		rc = join(path, j->to, BACKUP_MANIFEST, err);
	if (rc == 0)
		rc = join(tmp, j->to, BACKUP_MANIFEST ".tmp", err);
	if (rc == 0) {
		rc = write_file(tmp, base_buf_view(&b));
		if (rc == 0 && rename(tmp, path) < 0)
			rc = -errno;
		if (rc < 0)
			base_err_set(err, rc, "cannot write %s: %s", path, strerror(-rc));
	}
	base_buf_done(&b);
	return rc == 0 ? backup_sync_dir(j->to, err) : rc;
}

int backup_make(struct backup_job *j, struct base_err *err)
{
	int rc;

	if (!backup_is_free(j->to))
		return base_err_set(err, -EEXIST,
			"%s is there already and not empty: a backup overwrites nothing; name another folder",
			j->to);
	rc = backup_mkdir(j->to, err);
	if (rc == 0)
		rc = copy_log(j, err);
	if (rc == 0)
		rc = copy_rest(j, err);
	return rc == 0 ? write_manifest(j, err) : rc;
}
