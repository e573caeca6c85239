/* A log's database as a file of its own, while somebody else writes to it; and what is changed in one that lies still. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/log.h"

enum { STEP_PAGES = 256 };

static int failed(sqlite3 *db, int rc, const char *path, struct base_err *err)
{
	int code = (rc & 0xff) == SQLITE_FULL ? -ENOSPC : (rc & 0xff) == SQLITE_NOMEM ? -ENOMEM : -EIO;

	return base_err_set(err, code, "%s: %s", path, db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
}

/* One read transaction over all steps: the copy is the log at one moment, whatever is appended meanwhile. */
static int copy_pages(sqlite3 *from, sqlite3 *to, const char *path,
	void (*progress)(void *userdata, uint64_t done, uint64_t total), void *userdata, struct base_err *err)
{
	sqlite3_backup *b;
	int rc = sqlite3_exec(from, "BEGIN; SELECT count(*) FROM meta", NULL, NULL, NULL);

	if (rc != SQLITE_OK)
		return failed(from, rc, path, err);
	b = sqlite3_backup_init(to, "main", from, "main");
	if (!b)
		return failed(to, sqlite3_errcode(to), path, err);
	do {
		rc = sqlite3_backup_step(b, STEP_PAGES);
		if (progress)
			progress(userdata,
				(uint64_t)(sqlite3_backup_pagecount(b) - sqlite3_backup_remaining(b)),
				(uint64_t)sqlite3_backup_pagecount(b));
	} while (rc == SQLITE_OK);
	sqlite3_backup_finish(b);
	sqlite3_exec(from, "COMMIT", NULL, NULL, NULL);
	return rc == SQLITE_DONE ? 0 : failed(to, rc, path, err);
}

int log_copy(const char *dir, const char *to_dir,
	void (*progress)(void *userdata, uint64_t done, uint64_t total), void *userdata, struct base_err *err)
{
	char path[4096], to_path[4096];
	sqlite3 *from = NULL, *to = NULL;
	int fd, rc, r;

	if ((size_t)snprintf(path, sizeof(path), "%s/log.db", dir) >= sizeof(path) ||
		(size_t)snprintf(to_path, sizeof(to_path), "%s/log.db", to_dir) >= sizeof(to_path))
		return base_err_set(err, -ENAMETOOLONG, "the name of the folder %s is too long", to_dir);
	fd = open(to_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return base_err_set(err, -errno, "cannot make %s: %s", to_path, strerror(errno));
	close(fd);
	rc = sqlite3_open_v2(path, &from, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_open_v2(to_path, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc != SQLITE_OK) {
		r = failed(to ? to : from, rc, to ? to_path : path, err);
	} else {
		/* The writer alone checkpoints, see sqlite.c S1. */
		sqlite3_db_config(from, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		sqlite3_busy_timeout(from, 5000);
		r = copy_pages(from, to, to_path, progress, userdata, err);
	}
	sqlite3_close(to);
	sqlite3_close(from);
	return r;
}

int log_forget_id(const char *dir, struct base_err *err)
{
	char path[4096];
	sqlite3 *db = NULL;
	int rc, r = 0;

	if ((size_t)snprintf(path, sizeof(path), "%s/log.db", dir) >= sizeof(path))
		return base_err_set(err, -ENAMETOOLONG, "the name of the folder %s is too long", dir);
	rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(
			db, "PRAGMA synchronous=FULL; DELETE FROM meta WHERE key = 'id'", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		r = failed(db, rc, path, err);
	sqlite3_close(db);
	return r;
}
