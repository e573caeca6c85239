/*
 * The log in SQLite, DIR/log.db in WAL mode.
 *
 * S1  One connection writes and checkpoints: versions before 3.51.3 can corrupt a WAL when two do so at once.
 * Readers are read-only connections that never checkpoint, not even when they close. S2  One row per commit
 * and no second index; a commit without bodies is one INSERT, and so one transaction. S3  Checkpoints happen
 * in small pieces, so that the WAL stays small and no append waits long for one. S4  Readers hold no
 * transaction between calls (but for the moment of log_reader_hold), and only a short one in log_each: the WAL can
 * start over.
 */
#include "log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/log_int.h"

enum {
	APPLICATION_ID = 0x61696f73, /* "aios" */
	FORMAT = 2,		     /* 2: an archive may hold the first commits */
	PAGE_SIZE = 4096,
	CHUNK = 1 << 20,	 /* the database file grows by this */
	CHECKPOINT_PAGES = 1000, /* an append checkpoints when the WAL has grown by so many pages */
	IDLE_PAGES = 100,	 /* log_idle does */
	EACH_BATCH = 256,	 /* commits read in one transaction */
	DROP_COMMITS = 256,	 /* deleted in one transaction */
	DROP_BODIES = 16,
	VACUUM_PAGES = 1024,   /* given back after one */
	COMPACT_PAGES = 16384, /* a file of an older aios that is mostly empty is written anew */
};

static const char schema[] =
	"CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
	"CREATE TABLE commits(first_seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL,"
	" count INTEGER NOT NULL, root BLOB NOT NULL, chain BLOB NOT NULL, block BLOB NOT NULL);"
	"CREATE TABLE bodies(id INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL,"
	" hash BLOB NOT NULL UNIQUE, data BLOB NOT NULL);"
	"INSERT INTO meta VALUES('format', 2);";

#define COLUMNS "first_seq, time_ms, count, root, chain, block"

struct store {
	struct log log;
	char *dir;
	char *path;
	int lock_fd;
	sqlite3 *db;
	sqlite3_stmt *insert;
	sqlite3_stmt *insert_body;
	int wal_pages;	     /* after the last commit */
	int checkpoint_at;   /* pages at which the next checkpoint is due */
	int checkpointed_at; /* pages at the last one */
	bool vacuums;	     /* the file was made so that it can shrink */
};

struct store_reader {
	struct log_reader reader;
	sqlite3 *db;
	sqlite3_stmt *floor;
	sqlite3_stmt *each;
	sqlite3_stmt *body;
	sqlite3_stmt *each_body;
	struct base_buf block; /* what the last floor gave */
	struct base_buf data;  /* what the last body gave */
};

static struct store *store_of(struct log *l)
{
	return (struct store *)l;
}

static struct store_reader *reader_of(struct log_reader *r)
{
	return (struct store_reader *)r;
}

/* --- errors --- */

static int code_of(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_IOERR:
		/* A write that hit a quota or a size limit is a full disk by another name; SQLite keeps the
		 * number of the system call only for the database file, so errno (cleared before, see
		 * store_append) tells. */
		if (rc == SQLITE_IOERR_WRITE && (errno == EDQUOT || errno == EFBIG))
			return -ENOSPC;
		return -EIO;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_READONLY:
	case SQLITE_AUTH:
		return -EACCES;
	default:
		return -EIO;
	}
}

static int fail(sqlite3 *db, int rc, const char *path, struct base_err *err)
{
	int code = code_of(rc);

	switch (code) {
	case -ENOSPC:
		return base_err_set(err, code, "the disk is full: cannot write %s", path);
	case -EUCLEAN:
		return base_err_set(err, code, "%s is damaged or no log: restore a backup", path);
	default:
		return base_err_set(err, code, "%s: %s", path, db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
	}
}

/* --- opening --- */

static int make_dir(const char *dir, struct base_err *err)
{
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return base_err_set(err, -errno, "cannot make %s: %s", dir, strerror(errno));
	return 0;
}

/* Keeps an exclusive flock for as long as the log is open. */
static int take_lock(struct store *s, struct base_err *err)
{
	char name[4096], pid[32] = "";
	ssize_t n;

	if ((size_t)snprintf(name, sizeof(name), "%s/lock", s->dir) >= sizeof(name))
		return base_err_set(err, -ENAMETOOLONG, "the name of the folder %s is too long", s->dir);
	s->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0)
		return base_err_set(err, -errno, "cannot open %s: %s", name, strerror(errno));
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return base_err_set(err, -errno, "cannot lock %s: %s", name, strerror(errno));
		n = pread(s->lock_fd, pid, sizeof(pid) - 1, 0);
		pid[n > 0 ? n : 0] = '\0';
		pid[strspn(pid, "0123456789")] = '\0';
		return base_err_set(
			err, -EBUSY, "another aiosd (pid %s) uses this workspace", *pid ? pid : "?");
	}
	n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	/* Only a hint for people: the lock counts, whether the number could be written or not. */
	if (ftruncate(s->lock_fd, 0) < 0 || pwrite(s->lock_fd, pid, (size_t)n, 0) != n)
		return 0;
	return 0;
}

static int exec(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static int pragma_int(sqlite3 *db, const char *sql, int64_t *ret)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		*ret = sqlite3_column_int64(st, 0);
		rc = SQLITE_OK;
	} else if (rc == SQLITE_DONE) {
		rc = SQLITE_CORRUPT;
	}
	sqlite3_finalize(st);
	return rc;
}

static int open_db(const char *path, int flags, sqlite3 **ret)
{
	sqlite3 *db = NULL;
	int rc = sqlite3_open_v2(path, &db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);

	*ret = db; /* also on failure: it holds the message */
	if (rc != SQLITE_OK)
		return rc;
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_busy_timeout(db, 2000);
	return exec(db, "PRAGMA cell_size_check=ON; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY;");
}

static int sync_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 || fsync(fd) < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return r;
}

/* A log that an older aios wrote takes the new number before anything is written to it, all or nothing: from then on the
 * older one refuses it. What it holds stays as it is. */
static int upgrade(struct store *s, int64_t format, struct base_err *err)
{
	int64_t vacuum = 0, pages = 0, unused = 0;
	char sql[192];
	int rc = SQLITE_OK;

	if (format < FORMAT) {
		snprintf(sql, sizeof(sql),
			"BEGIN IMMEDIATE; UPDATE meta SET value = %d WHERE key = 'format'; PRAGMA "
			"user_version=%d; COMMIT",
			FORMAT, FORMAT);
		rc = exec(s->db, sql);
		if (rc != SQLITE_OK && !sqlite3_get_autocommit(s->db))
			exec(s->db, "ROLLBACK");
	}
	if (rc == SQLITE_OK)
		rc = pragma_int(s->db, "PRAGMA auto_vacuum", &vacuum);
	if (rc == SQLITE_OK)
		rc = pragma_int(s->db, "PRAGMA page_count", &pages);
	if (rc == SQLITE_OK)
		rc = pragma_int(s->db, "PRAGMA freelist_count", &unused);
	s->vacuums = vacuum == 2;
	/* Made before there was an archive, and now mostly empty: written anew once. Where there is no room for it, the
	 * empty pages are filled again by and by. */
	if (rc == SQLITE_OK && !s->vacuums && pages > COMPACT_PAGES && unused > pages / 2)
		s->vacuums = exec(s->db, "PRAGMA auto_vacuum=INCREMENTAL; VACUUM") == SQLITE_OK;
	return rc == SQLITE_OK ? 0 : fail(s->db, rc, s->path, err);
}

/* Writes the schema into an empty database, or checks whose it is. */
static int check_format(struct store *s, struct base_err *err)
{
	int64_t id = 0, format = 0, tables = 0;
	char sql[128];
	int rc;

	rc = pragma_int(s->db, "SELECT count(*) FROM sqlite_schema", &tables);
	if (rc == SQLITE_OK)
		rc = pragma_int(s->db, "PRAGMA application_id", &id);
	if (rc == SQLITE_OK)
		rc = pragma_int(s->db, "PRAGMA user_version", &format);
	if (rc != SQLITE_OK)
		return fail(s->db, rc, s->path, err);
	if (tables != 0 && id != APPLICATION_ID)
		return base_err_set(err, -EUCLEAN, "%s is a database, but no log of aios", s->path);
	if (format > FORMAT)
		return base_err_set(err, -ENOTSUP,
			"%s was written by a newer aios (format %" PRId64
			", this one knows %d): upgrade aios",
			s->path, format, FORMAT);
	if (tables != 0)
		return upgrade(s, format, err);
	rc = exec(s->db, "BEGIN IMMEDIATE");
	if (rc == SQLITE_OK)
		rc = exec(s->db, schema);
	snprintf(sql, sizeof(sql), "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT", APPLICATION_ID,
		FORMAT);
	if (rc == SQLITE_OK)
		rc = exec(s->db, sql);
	if (rc != SQLITE_OK)
		return fail(s->db, rc, s->path, err);
	rc = sync_dir(s->dir);
	return rc < 0 ? base_err_set(err, rc, "cannot sync %s: %s", s->dir, strerror(-rc)) : 0;
}

static int wal_hook(void *userdata, sqlite3 *db, const char *name, int pages)
{
	struct store *s = userdata;

	(void)db;
	(void)name;
	if (pages < s->checkpointed_at) {
		s->checkpointed_at = 0; /* the WAL has started over */
		s->checkpoint_at = CHECKPOINT_PAGES;
	}
	s->wal_pages = pages;
	return SQLITE_OK;
}

static int open_writer(struct store *s, struct base_err *err)
{
	int chunk = CHUNK, persist = 1;
	int64_t pages = 0;
	char sql[128];
	int fd, rc;

	/* SQLite gives its other files the mode of this one. */
	fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return base_err_set(err, -errno, "cannot open %s: %s", s->path, strerror(errno));
	close(fd);
	rc = open_db(s->path, SQLITE_OPEN_READWRITE, &s->db);
	if (rc == SQLITE_OK)
		rc = pragma_int(s->db, "PRAGMA page_count", &pages);
	/* A new file can shrink; of an old one that stands written, and asking for it again would be a commit. */
	snprintf(sql, sizeof(sql), "PRAGMA page_size=%d; %s PRAGMA journal_mode=WAL;", PAGE_SIZE,
		pages ? "" : "PRAGMA auto_vacuum=INCREMENTAL;");
	s->vacuums = pages == 0; /* for one that exists: see upgrade */
	if (rc == SQLITE_OK)
		rc = exec(s->db, sql);
	if (rc == SQLITE_OK)
		rc = exec(s->db, "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA "
				 "journal_size_limit=-1;");
	if (rc != SQLITE_OK)
		return fail(s->db, rc, s->path, err);
	sqlite3_file_control(s->db, "main", SQLITE_FCNTL_CHUNK_SIZE, &chunk);
	/* A WAL that stays is overwritten in place: a sync then has no new blocks to record. */
	sqlite3_file_control(s->db, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
	sqlite3_wal_hook(s->db, wal_hook, s);
	s->checkpoint_at = CHECKPOINT_PAGES;
	rc = check_format(s, err);
	if (rc < 0)
		return rc;
	rc = sqlite3_prepare_v3(s->db, "INSERT INTO commits(" COLUMNS ") VALUES(?1,?2,?3,?4,?5,?6)", -1,
		SQLITE_PREPARE_PERSISTENT, &s->insert, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(s->db,
			"INSERT OR IGNORE INTO bodies(first_seq, hash, data) VALUES(?1,?2,?3)", -1,
			SQLITE_PREPARE_PERSISTENT, &s->insert_body, NULL);
	return rc == SQLITE_OK ? 0 : fail(s->db, rc, s->path, err);
}

/* --- rows --- */

static bool column_hash(sqlite3_stmt *st, int i, struct base_hash *ret)
{
	const void *p = sqlite3_column_blob(st, i);

	if (!p || sqlite3_column_bytes(st, i) != (int)sizeof(ret->b))
		return false;
	memcpy(ret->b, p, sizeof(ret->b));
	return true;
}

static struct base_str column_bytes(sqlite3_stmt *st, int i)
{
	const char *p = sqlite3_column_blob(st, i);
	int n = sqlite3_column_bytes(st, i);

	return (struct base_str){p, p && n > 0 ? (size_t)n : 0};
}

/* COLUMNS of the row that st stands on; views until its next step. */
static int row_commit(sqlite3_stmt *st, const char *path, struct log_commit *ret, struct base_err *err)
{
	int64_t seq = sqlite3_column_int64(st, 0), count = sqlite3_column_int64(st, 2);
	struct log_commit c = {.first_seq = (uint64_t)seq, .count = (uint32_t)count};

	c.time_ms = sqlite3_column_int64(st, 1);
	c.block = column_bytes(st, 5);
	if (seq < 1 || count < 1 || count > UINT32_MAX || !column_hash(st, 3, &c.root) ||
		!column_hash(st, 4, &c.chain))
		return base_err_set(
			err, -EUCLEAN, "%s: the commit of event %" PRId64 " is malformed", path, seq);
	*ret = c;
	return 0;
}

static int read_id(struct store *s)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(s->db, "SELECT value FROM meta WHERE key = 'id'", -1, &st, NULL);

	if (rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW && sqlite3_column_text(st, 0))
		snprintf(s->log.id, sizeof(s->log.id), "%s", (const char *)sqlite3_column_text(st, 0));
	sqlite3_finalize(st);
	return rc;
}

/* Made at the first opening, and only then: a log whose disk does not take a sync can still be opened and read. */
static int load_id(struct store *s, struct base_err *err)
{
	int rc = read_id(s);

	if (rc == SQLITE_OK && !s->log.id[0]) {
		rc = exec(s->db, "INSERT OR IGNORE INTO meta VALUES('id', lower(hex(randomblob(16))))");
		if (rc == SQLITE_OK)
			rc = read_id(s);
	}
	return rc == SQLITE_OK ? 0 : fail(s->db, rc, s->path, err);
}

/* The first commit that is still in the database. */
static int open_archive(struct store *s, struct base_err *err)
{
	int64_t first = 0;
	char dir[4096];
	int rc = pragma_int(s->db, "SELECT coalesce((SELECT min(first_seq) FROM commits), 0)", &first);

	if (rc != SQLITE_OK)
		return fail(s->db, rc, s->path, err);
	if ((size_t)snprintf(dir, sizeof(dir), "%s/archive", s->dir) >= sizeof(dir))
		return base_err_set(err, -ENAMETOOLONG, "the name of the folder %s is too long", s->dir);
	return log_archive_open(&s->log, dir, first > 0 ? (uint64_t)first : 0, err);
}

static int load_head(struct store *s, struct base_err *err)
{
	struct base_hash before = {{0}};
	struct log_commit last;
	sqlite3_stmt *st = NULL;
	int rc, r = 0;

	rc = sqlite3_prepare_v2(
		s->db, "SELECT " COLUMNS " FROM commits ORDER BY first_seq DESC LIMIT 1", -1, &st, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		sqlite3_stmt *prev = NULL;

		r = row_commit(st, s->path, &last, err);
		rc = sqlite3_prepare_v2(s->db,
			"SELECT chain FROM commits WHERE first_seq < ?1 ORDER BY first_seq DESC LIMIT 1", -1,
			&prev, NULL);
		if (r == 0 && rc == SQLITE_OK) {
			sqlite3_bind_int64(prev, 1, (int64_t)last.first_seq);
			rc = sqlite3_step(prev);
			if (rc == SQLITE_ROW)
				column_hash(prev, 0, &before);
			else
				before = log_archive_chain(&s->log);
		}
		sqlite3_finalize(prev);
		if (r == 0 && (rc == SQLITE_ROW || rc == SQLITE_DONE))
			r = log_set_head(&s->log, &last, &before);
	}
	if (r == 0 && rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = fail(s->db, rc, s->path, err);
	sqlite3_finalize(st);
	return r;
}

/* --- the writer --- */

static int step_once(sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int bind_bytes(sqlite3_stmt *st, int i, struct base_str s)
{
	return sqlite3_bind_blob64(st, i, s.len ? s.ptr : "", s.len, SQLITE_STATIC);
}

static struct base_str hash_str(const struct base_hash *h)
{
	return (struct base_str){(const char *)h->b, sizeof(h->b)};
}

static int insert_commit(struct store *s, const struct log_commit *c)
{
	sqlite3_bind_int64(s->insert, 1, (int64_t)c->first_seq);
	sqlite3_bind_int64(s->insert, 2, c->time_ms);
	sqlite3_bind_int64(s->insert, 3, c->count);
	bind_bytes(s->insert, 4, hash_str(&c->root));
	bind_bytes(s->insert, 5, hash_str(&c->chain));
	bind_bytes(s->insert, 6, c->block);
	return step_once(s->insert);
}

static int insert_all(
	struct store *s, const struct log_commit *c, const struct log_body *bodies, size_t body_count)
{
	int rc = exec(s->db, "BEGIN IMMEDIATE");

	for (size_t i = 0; rc == SQLITE_OK && i < body_count; i++) {
		sqlite3_bind_int64(s->insert_body, 1, (int64_t)c->first_seq);
		bind_bytes(s->insert_body, 2, hash_str(&bodies[i].hash));
		bind_bytes(s->insert_body, 3, bodies[i].data);
		rc = step_once(s->insert_body);
	}
	if (rc == SQLITE_OK)
		rc = insert_commit(s, c);
	if (rc == SQLITE_OK)
		rc = exec(s->db, "COMMIT");
	return rc;
}

/* What was committed stays in the WAL when this fails; but after a failed sync nothing can be trusted to
 * reach the disk through this connection, so the log dies. */
static void checkpoint(struct store *s)
{
	int rc;

	errno = 0;
	rc = sqlite3_wal_checkpoint_v2(s->db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	s->checkpointed_at = s->wal_pages;
	s->checkpoint_at = s->wal_pages + CHECKPOINT_PAGES;
	if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY && code_of(rc) != -ENOSPC)
		s->log.dead = -EIO;
}

static int store_append(struct log *l, const struct log_commit *c, const struct log_body *bodies,
	size_t body_count, struct base_err *err)
{
	struct store *s = store_of(l);
	int rc, r;

	errno = 0;
	rc = body_count ? insert_all(s, c, bodies, body_count) : insert_commit(s, c);
	if (rc != SQLITE_OK) {
		r = fail(s->db, rc, s->path, err);
		if (!sqlite3_get_autocommit(s->db) && exec(s->db, "ROLLBACK") != SQLITE_OK)
			r = r == -ENOSPC ? -EIO : r;
		return r == -ENOMEM ? -EIO : r;
	}
	if (s->wal_pages >= s->checkpoint_at)
		checkpoint(s);
	return 0;
}

static void store_idle(struct log *l)
{
	struct store *s = store_of(l);

	if (!l->dead && s->wal_pages >= s->checkpointed_at + IDLE_PAGES)
		checkpoint(s);
}

/* Commits that end at or before `upto`, oldest first; the last commit of all stays, since the head is read from it. */
static int store_drop(struct log *l, uint64_t upto)
{
	struct store *s = store_of(l);
	int64_t gone = 0;
	char sql[640];
	int rc;

	if (l->dead)
		return 0;
	snprintf(sql, sizeof(sql),
		"BEGIN IMMEDIATE;"
		"DELETE FROM commits WHERE first_seq IN (SELECT first_seq FROM commits WHERE first_seq <= "
		"%" PRIu64
		" AND first_seq < (SELECT max(first_seq) FROM commits) ORDER BY first_seq LIMIT %d)"
		" AND first_seq + count - 1 <= %" PRIu64 ";"
		"DELETE FROM bodies WHERE id IN (SELECT id FROM bodies ORDER BY id LIMIT %d) AND first_seq "
		"<= %" PRIu64 ";",
		upto, DROP_COMMITS, upto, DROP_BODIES, upto);
	errno = 0;
	gone = sqlite3_total_changes(s->db);
	rc = exec(s->db, sql);
	gone = sqlite3_total_changes(s->db) - gone;
	if (rc == SQLITE_OK && s->vacuums) {
		snprintf(sql, sizeof(sql), "PRAGMA incremental_vacuum(%d)", VACUUM_PAGES);
		rc = exec(s->db, sql);
	}
	if (rc == SQLITE_OK)
		rc = exec(s->db, "COMMIT");
	if (rc != SQLITE_OK) {
		if (!sqlite3_get_autocommit(s->db) && exec(s->db, "ROLLBACK") != SQLITE_OK)
			l->dead = -EIO;
		if (code_of(rc) != -ENOSPC)
			l->dead = -EIO;
		return 0;
	}
	/* Each time: the WAL starts over, and with the last one the file ends where the database does. */
	checkpoint(s);
	if (gone == 0 && s->vacuums && pragma_int(s->db, "PRAGMA freelist_count", &gone) != SQLITE_OK)
		gone = 0;
	return gone > 0 ? 1 : 0;
}

static void store_close(struct log *l)
{
	struct store *s = store_of(l);

	sqlite3_finalize(s->insert);
	sqlite3_finalize(s->insert_body);
	if (s->db && l->dead)
		sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_close(s->db);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s->path);
	free(s->dir);
	log_done(l);
	free(s);
}

/* --- readers --- */

static void store_reader_free(struct log_reader *reader)
{
	struct store_reader *r = reader_of(reader);

	sqlite3_finalize(r->floor);
	sqlite3_finalize(r->each);
	sqlite3_finalize(r->body);
	sqlite3_finalize(r->each_body);
	sqlite3_close(r->db);
	base_buf_done(&r->block);
	base_buf_done(&r->data);
	free(r);
}

/* Each read by itself asks for and gives back the locks of a transaction. If it cannot be, each does. */
static void store_hold(struct log_reader *reader, bool hold)
{
	(void)exec(reader_of(reader)->db, hold ? "BEGIN" : "COMMIT");
}

static int store_reader_new(struct log *l, struct log_reader **ret, struct base_err *err)
{
	struct store *s = store_of(l);
	struct store_reader *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return base_err_set(err, -ENOMEM, "out of memory");
	base_buf_init(&r->block, SIZE_MAX);
	base_buf_init(&r->data, SIZE_MAX);
	rc = open_db(s->path, SQLITE_OPEN_READONLY, &r->db);
	if (rc == SQLITE_OK) {
		sqlite3_db_config(r->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		rc = exec(r->db, "PRAGMA query_only=ON");
	}
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(r->db,
			"SELECT " COLUMNS
			" FROM commits WHERE first_seq <= ?1 ORDER BY first_seq DESC LIMIT 1",
			-1, SQLITE_PREPARE_PERSISTENT, &r->floor, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(r->db,
			"SELECT " COLUMNS " FROM commits WHERE first_seq >= ?1 ORDER BY first_seq LIMIT ?2",
			-1, SQLITE_PREPARE_PERSISTENT, &r->each, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(r->db, "SELECT data FROM bodies WHERE hash = ?1", -1,
			SQLITE_PREPARE_PERSISTENT, &r->body, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(r->db,
			"SELECT id, first_seq, hash, data FROM bodies WHERE id > ?1 ORDER BY id LIMIT 1", -1,
			SQLITE_PREPARE_PERSISTENT, &r->each_body, NULL);
	if (rc != SQLITE_OK) {
		rc = fail(r->db, rc, s->path, err);
		store_reader_free(&r->reader);
		return rc;
	}
	*ret = &r->reader;
	return 0;
}

/* Moves a view into the reader's own buffer, so that the statement can be reset. */
static int keep(struct base_buf *buf, struct base_str *view, struct base_err *err)
{
	enum { KEEP_MAX = 1 << 20 };

	if (buf->size > KEEP_MAX && view->len < KEEP_MAX)
		base_buf_done(buf); /* one large body must not stay in memory for ever */
	base_buf_clear(buf);
	base_buf_str(buf, *view);
	if (base_buf_failed(buf))
		return base_err_set(err, -ENOMEM, "out of memory to read from the log");
	*view = base_buf_view(buf);
	return 0;
}

static int store_floor(struct log_reader *reader, uint64_t seq, struct log_commit *ret, struct base_err *err)
{
	struct store_reader *r = reader_of(reader);
	const char *path = store_of(reader->log)->path;
	struct log_commit c;
	int rc, res;

	sqlite3_bind_int64(r->floor, 1, seq > INT64_MAX ? INT64_MAX : (int64_t)seq);
	rc = sqlite3_step(r->floor);
	if (rc == SQLITE_ROW) {
		res = row_commit(r->floor, path, &c, err);
		if (res == 0)
			res = keep(&r->block, &c.block, err);
	} else if (rc == SQLITE_DONE) {
		res = base_err_set(err, -ENOENT, "there is no event %" PRIu64, seq);
	} else {
		res = fail(r->db, rc, path, err);
	}
	sqlite3_reset(r->floor);
	if (res == 0)
		*ret = c;
	return res;
}

static int store_body(
	struct log_reader *reader, const struct base_hash *hash, struct base_str *ret, struct base_err *err)
{
	struct store_reader *r = reader_of(reader);
	struct base_str data;
	char hex[65];
	int rc, res;

	bind_bytes(r->body, 1, hash_str(hash));
	rc = sqlite3_step(r->body);
	if (rc == SQLITE_ROW) {
		data = column_bytes(r->body, 0);
		res = keep(&r->data, &data, err);
	} else if (rc == SQLITE_DONE) {
		base_hash_hex(hash, hex);
		res = base_err_set(err, -ENOENT, "the body %.16s… is missing from the log", hex);
	} else {
		res = fail(r->db, rc, store_of(reader->log)->path, err);
	}
	sqlite3_reset(r->body);
	sqlite3_clear_bindings(r->body);
	if (res == 0)
		*ret = data;
	return res;
}

/* One transaction's worth. *first moves behind what was read; *ret_rows says how many. */
static int each_batch(struct store_reader *r, uint64_t *first, int *ret_rows, log_each_fn fn, void *userdata,
	struct base_err *err)
{
	const char *path = store_of(r->reader.log)->path;
	struct log_commit c;
	int rc, res = 0, rows = 0;

	sqlite3_bind_int64(r->each, 1, (int64_t)*first);
	sqlite3_bind_int(r->each, 2, EACH_BATCH);
	while ((rc = sqlite3_step(r->each)) == SQLITE_ROW) {
		res = row_commit(r->each, path, &c, err);
		if (res == 0) {
			*first = c.first_seq + 1;
			rows++;
			res = fn(userdata, &c);
		}
		if (res)
			break;
	}
	if (res == 0 && rc != SQLITE_DONE)
		res = fail(r->db, rc, path, err);
	sqlite3_reset(r->each);
	*ret_rows = rows;
	return res;
}

static int store_each(
	struct log_reader *reader, uint64_t first, log_each_fn fn, void *userdata, struct base_err *err)
{
	struct store_reader *r = reader_of(reader);
	int rows = EACH_BATCH, res = 0;

	if (first > INT64_MAX)
		return 0;
	while (res == 0 && rows == EACH_BATCH)
		res = each_batch(r, &first, &rows, fn, userdata, err);
	return res;
}

/* Bodies in the order in which they came, of the commits `from` to `to`. */
static int bodies_of(struct store_reader *r, uint64_t from, uint64_t to, log_body_fn fn, void *userdata,
	struct base_err *err)
{
	sqlite3_stmt *st = r->each_body;
	int64_t id = INT64_MIN;
	int rc, res = 0;

	do {
		sqlite3_bind_int64(st, 1, id);
		rc = sqlite3_step(st);
		if (rc == SQLITE_ROW) {
			struct log_body b = {.data = column_bytes(st, 3)};
			uint64_t seq = (uint64_t)sqlite3_column_int64(st, 1);

			id = sqlite3_column_int64(st, 0);
			column_hash(st, 2, &b.hash); /* malformed: stays zero and does not match */
			if (seq > to)
				rc = SQLITE_DONE;
			else if (seq >= from)
				res = fn(userdata, seq, &b);
		} else if (rc != SQLITE_DONE) {
			res = fail(r->db, rc, store_of(r->reader.log)->path, err);
		}
		sqlite3_reset(st);
	} while (res == 0 && rc == SQLITE_ROW);
	return res;
}

static int store_each_body(struct log_reader *reader, log_body_fn fn, void *userdata, struct base_err *err)
{
	struct store_reader *r = reader_of(reader);

	return bodies_of(r, 0, UINT64_MAX, fn, userdata, err);
}

static int store_each_body_of(struct log_reader *reader, uint64_t from, uint64_t to, log_body_fn fn,
	void *userdata, struct base_err *err)
{
	struct store_reader *r = reader_of(reader);

	return bodies_of(r, from, to, fn, userdata, err);
}

static int store_snapshot_put(struct log *l, uint64_t seq, const struct base_hash *state,
	struct base_str data, struct base_err *err)
{
	return log_snapfile_put(store_of(l)->dir, seq, state, data, err);
}

static int store_snapshot_get(struct log *l, uint64_t max_seq, uint64_t *ret_seq, char **ret_data,
	size_t *ret_len, struct base_err *err)
{
	return log_snapfile_get(store_of(l)->dir, max_seq, ret_seq, ret_data, ret_len, err);
}

static const struct log_ops store_ops = {
	.close = store_close,
	.append = store_append,
	.idle = store_idle,
	.drop = store_drop,
	.reader_new = store_reader_new,
	.reader_free = store_reader_free,
	.hold = store_hold,
	.floor = store_floor,
	.body = store_body,
	.each = store_each,
	.each_body = store_each_body,
	.each_body_of = store_each_body_of,
	.snapshot_put = store_snapshot_put,
	.snapshot_get = store_snapshot_get,
};

int log_open_sqlite(const char *dir, struct log **ret, struct base_err *err)
{
	struct store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return base_err_set(err, -ENOMEM, "out of memory for the log");
	s->lock_fd = -1;
	if (log_init(&s->log, &store_ops) < 0) {
		free(s);
		return base_err_set(err, -ENOMEM, "out of memory for the log");
	}
	s->dir = strdup(dir);
	if (!s->dir || asprintf(&s->path, "%s/log.db", dir) < 0) {
		s->path = NULL;
		store_close(&s->log);
		return base_err_set(err, -ENOMEM, "out of memory for the log");
	}
	r = make_dir(dir, err);
	if (r == 0)
		r = take_lock(s, err);
	if (r == 0)
		r = open_writer(s, err);
	if (r == 0)
		r = load_id(s, err);
	if (r == 0)
		r = open_archive(s, err);
	if (r == 0)
		r = load_head(s, err);
	if (r < 0) {
		store_close(&s->log);
		return r;
	}
	log_snapfile_drop_after(s->dir, s->log.last_seq);
	*ret = &s->log;
	return 0;
}
