/*
 * The database of the views: opening (or starting over), transactions, statements.
 *
 * It is disposable, so nothing is synced while it runs; a killed process loses nothing that SQLite's WAL
 * held. A crash of the whole machine can lose or tear writes: the tables are marked (synced) as being in use,
 * with the machine's boot, and are made anew when they were in use and the machine has started since.
 */
#include "views/views.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/codec.h"
#include "views/views_int.h"

enum { APPLICATION_ID = 0x61696f76, FORMAT = 10, BOOT_SLACK_S = 120 };

static int exec(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

int views_error(struct views *v, int rc, struct base_err *err)
{
	int code = -EIO;

	switch (rc & 0xff) {
	case SQLITE_FULL:
		return base_err_set(err, -ENOSPC, "the disk is full: cannot write %s", v->path);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		code = -EUCLEAN;
		break;
	case SQLITE_NOMEM:
		code = -ENOMEM;
		break;
	case SQLITE_TOOBIG:
		code = -EFBIG;
		break;
	default:
		break;
	}
	return base_err_set(err, code, "%s: %s", v->path, v->db ? sqlite3_errmsg(v->db) : sqlite3_errstr(rc));
}

/* --- statements --- */

sqlite3_stmt *views_prepare(struct views *v, const char *sql)
{
	size_t i = ((uintptr_t)sql >> 3) * 0x9e3779b1u, n;

	for (n = 0; n < VIEWS_STATEMENTS; n++, i++) {
		size_t at = i % VIEWS_STATEMENTS;

		if (v->statements[at].sql == sql)
			return v->statements[at].st;
		if (v->statements[at].sql)
			continue;
		v->rc = sqlite3_prepare_v3(
			v->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &v->statements[at].st, NULL);
		if (v->rc != SQLITE_OK)
			return NULL;
		v->statements[at].sql = sql;
		return v->statements[at].st;
	}
	BASE_CHECK(n < VIEWS_STATEMENTS); /* there are fewer literals than places */
	return NULL;
}

static void finalize_all(struct views *v)
{
	for (size_t i = 0; i < VIEWS_STATEMENTS; i++) {
		sqlite3_finalize(v->statements[i].st);
		v->statements[i].st = NULL;
		v->statements[i].sql = NULL;
	}
}

static int bind_list(sqlite3_stmt *st, const char *types, va_list ap)
{
	int rc = SQLITE_OK;

	for (int i = 1; *types && (rc == SQLITE_OK || rc == SQLITE_RANGE); i++, types++) {
		const struct base_hash *h;
		struct base_str s;

		switch (*types) {
		case 'i':
			rc = sqlite3_bind_int64(st, i, va_arg(ap, int64_t));
			break;
		case 'h':
			h = va_arg(ap, const struct base_hash *);
			rc = sqlite3_bind_blob64(st, i, h->b, sizeof(h->b), SQLITE_STATIC);
			break;
		default:
			s = va_arg(ap, struct base_str);
			if (*types == 'n' && s.len == 0)
				rc = sqlite3_bind_null(st, i);
			else if (*types == 'b')
				rc = sqlite3_bind_blob64(st, i, s.len ? s.ptr : "", s.len, SQLITE_STATIC);
			else
				rc = sqlite3_bind_text64(
					st, i, s.len ? s.ptr : "", s.len, SQLITE_STATIC, SQLITE_UTF8);
		}
	}
	return rc == SQLITE_RANGE ? SQLITE_OK : rc;
}

int views_bind(sqlite3_stmt *st, const char *types, ...)
{
	va_list ap;
	int rc;

	va_start(ap, types);
	rc = bind_list(st, types, ap);
	va_end(ap);
	return rc;
}

void views_run(struct views *v, const char *sql, const char *types, ...)
{
	sqlite3_stmt *st = v->rc == SQLITE_OK ? views_prepare(v, sql) : NULL;
	va_list ap;
	int rc;

	if (!st)
		return;
	BASE_CHECK((int)strlen(types) == sqlite3_bind_parameter_count(st));
	va_start(ap, types);
	rc = bind_list(st, types, ap);
	va_end(ap);
	while (rc == SQLITE_OK || rc == SQLITE_ROW)
		rc = sqlite3_step(st);
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	if (rc != SQLITE_DONE)
		v->rc = rc;
}

int64_t views_int(struct views *v, const char *sql, int64_t otherwise, const char *types, ...)
{
	sqlite3_stmt *st = v->rc == SQLITE_OK ? views_prepare(v, sql) : NULL;
	int64_t ret = otherwise;
	va_list ap;
	int rc;

	if (!st)
		return otherwise;
	va_start(ap, types);
	rc = bind_list(st, types, ap);
	va_end(ap);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		ret = sqlite3_column_int64(st, 0);
	else if (rc != SQLITE_DONE)
		v->rc = rc;
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return ret;
}

struct base_str views_column(sqlite3_stmt *st, int i)
{
	const char *p = sqlite3_column_blob(st, i);
	int n = sqlite3_column_bytes(st, i);

	return (struct base_str){p, p && n > 0 ? (size_t)n : 0};
}

/* --- opening --- */

/* The wall clock at which the machine started, in seconds: another one means that it has started since. */
static int64_t boot_s(void)
{
	struct timespec real, boot;

	if (clock_gettime(CLOCK_REALTIME, &real) < 0 || clock_gettime(CLOCK_BOOTTIME, &boot) < 0)
		return 0;
	return real.tv_sec - boot.tv_sec;
}

static void remove_files(const char *path)
{
	static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
	char name[4096];

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if ((size_t)snprintf(name, sizeof(name), "%s%s", path, ends[i]) < sizeof(name))
			unlink(name);
}

static int open_db(struct views *v)
{
	int rc = sqlite3_open_v2(v->path, &v->db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
		NULL);

	if (rc != SQLITE_OK)
		return rc;
	sqlite3_db_config(v->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(v->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_busy_timeout(v->db, 2000); /* the one before may still be dying */
	rc = views_scope_init(v);
	if (rc != SQLITE_OK)
		return rc;
	return exec(v->db,
		"PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
		"PRAGMA temp_store=MEMORY; PRAGMA cache_size=-4096; PRAGMA journal_size_limit=16777216;"
		"PRAGMA cell_size_check=ON;");
}

static void close_db(struct views *v)
{
	finalize_all(v);
	sqlite3_close(v->db);
	v->db = NULL;
	v->rc = SQLITE_OK;
}

static const char get_meta[] = "SELECT value FROM meta WHERE key = ?1";
static const char set_meta[] =
	"INSERT INTO meta VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = excluded.value";

static void put_meta(struct views *v, const char *key, int64_t value)
{
	views_run(v, set_meta, "si", base_str_of(key), value);
}

static int64_t meta(struct views *v, const char *key, int64_t otherwise)
{
	return views_int(v, get_meta, otherwise, "s", base_str_of(key));
}

/* The tables are ours, of this format, and whole as far as can be known. */
static bool usable(struct views *v)
{
	int64_t boot;

	if (views_int(v, "PRAGMA application_id", 0, "") != APPLICATION_ID ||
		views_int(v, "PRAGMA user_version", 0, "") != FORMAT)
		return false;
	boot = meta(v, "boot", 0) - boot_s();
	if (meta(v, "in_use", 1) && (boot > BOOT_SLACK_S || boot < -BOOT_SLACK_S))
		return false;
	v->seq = (uint64_t)meta(v, "seq", 0);
	return v->rc == SQLITE_OK;
}

static int create(struct views *v)
{
	char sql[128];
	int rc = exec(v->db, "BEGIN IMMEDIATE");

	if (rc == SQLITE_OK)
		rc = exec(v->db, views_schema);
	snprintf(sql, sizeof(sql), "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT", APPLICATION_ID,
		FORMAT);
	if (rc == SQLITE_OK)
		rc = exec(v->db, sql);
	v->seq = 0;
	return rc;
}

/* Written and synced before the first write that is not. */
static int mark_in_use(struct views *v)
{
	if (!meta(v, "in_use", 0) || !meta(v, "boot", 0)) {
		put_meta(v, "boot", boot_s());
		put_meta(v, "in_use", 1);
		if (v->rc == SQLITE_OK)
			v->rc = exec(v->db, "PRAGMA wal_checkpoint(TRUNCATE)");
	}
	if (v->rc == SQLITE_OK)
		v->rc = exec(v->db, "PRAGMA synchronous=OFF");
	return v->rc;
}

/* An error that deleting the files can cure. */
static bool curable(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR:
	case SQLITE_SCHEMA:
	case SQLITE_IOERR:
		return true;
	default:
		return false;
	}
}

int views_open(const char *dir, struct views **ret, struct base_err *err)
{
	struct views *v = calloc(1, sizeof(*v));
	int rc;

	if (!v || views_hold_new(&v->hold) < 0 || asprintf(&v->path, "%s/views.db", dir) < 0) {
		if (v)
			views_hold_free(v->hold);
		free(v);
		return base_err_set(err, -ENOMEM, "out of memory for the views");
	}
	rc = open_db(v);
	if (rc == SQLITE_OK && !usable(v))
		rc = v->rc == SQLITE_OK ? SQLITE_NOTADB : v->rc;
	if (rc != SQLITE_OK && curable(rc)) {
		close_db(v);
		remove_files(v->path);
		rc = open_db(v);
		if (rc == SQLITE_OK)
			rc = create(v);
	}
	if (rc == SQLITE_OK)
		rc = mark_in_use(v);
	if (rc != SQLITE_OK) {
		rc = views_error(v, rc, err);
		close_db(v);
		views_hold_free(v->hold);
		free(v->path);
		free(v);
		return rc;
	}
	*ret = v;
	return 0;
}

static void drop_bodies(struct views *v)
{
	while (v->body_count)
		free(v->bodies[--v->body_count].data);
}

static void roll_back(struct views *v)
{
	if (!sqlite3_get_autocommit(v->db))
		exec(v->db, "ROLLBACK");
	v->open = false;
	views_hold_drop(v);
}

void views_close(struct views *v)
{
	if (!v)
		return;
	if (views_commit(v, NULL) == 0 &&
		exec(v->db, "PRAGMA synchronous=FULL; PRAGMA wal_checkpoint(TRUNCATE)") == SQLITE_OK) {
		put_meta(v, "in_use", 0);
		if (v->rc == SQLITE_OK)
			exec(v->db, "PRAGMA wal_checkpoint(TRUNCATE)");
	}
	close_db(v);
	drop_bodies(v);
	free(v->bodies);
	views_hold_free(v->hold);
	free(v->path);
	free(v);
}

uint64_t views_seq(const struct views *v)
{
	return v->seq;
}

void views_quiet(struct views *v)
{
	if (v->rc == SQLITE_OK && !v->open)
		sqlite3_db_release_memory(v->db);
	malloc_trim(0);
}

uint64_t views_skipped(const struct views *v)
{
	return v->skipped;
}

/* --- bodies --- */

int views_body(struct views *v, const struct base_hash *hash, struct base_str data)
{
	struct views_pending *p;

	for (size_t i = 0; i < v->body_count; i++)
		if (base_hash_eq(&v->bodies[i].hash, hash))
			return 0;
	if (v->body_count == v->body_size) {
		size_t size = v->body_size ? v->body_size * 2 : 16;

		p = reallocarray(v->bodies, size, sizeof(*p));
		if (!p)
			return -ENOMEM;
		v->bodies = p;
		v->body_size = size;
	}
	p = &v->bodies[v->body_count];
	p->hash = *hash;
	p->len = data.len;
	p->data = malloc(data.len ? data.len : 1);
	if (!p->data)
		return -ENOMEM;
	if (data.len)
		memcpy(p->data, data.ptr, data.len);
	v->body_count++;
	return 0;
}

bool views_resolve(struct views *v, const struct base_blob *blob, struct base_str *ret)
{
	static const char sql[] = "SELECT data FROM bodies WHERE hash = ?1";
	sqlite3_stmt *st;

	if (base_blob_is_inline(blob)) {
		*ret = blob->data;
		return true;
	}
	for (size_t i = 0; i < v->body_count; i++)
		if (base_hash_eq(&v->bodies[i].hash, &blob->hash)) {
			*ret = (struct base_str){v->bodies[i].data, v->bodies[i].len};
			return true;
		}
	/* An earlier event named it: from then on it is in the table. Copied to where it lives until the
	 * block's end. */
	st = v->rc == SQLITE_OK ? views_prepare(v, sql) : NULL;
	if (!st || views_bind(st, "h", &blob->hash) != SQLITE_OK)
		return false;
	if (sqlite3_step(st) == SQLITE_ROW && views_body(v, &blob->hash, views_column(st, 0)) == 0) {
		*ret = (struct base_str){v->bodies[v->body_count - 1].data, v->bodies[v->body_count - 1].len};
		sqlite3_reset(st);
		return true;
	}
	sqlite3_reset(st);
	return false;
}

void views_keep_body(struct views *v, const struct base_blob *blob, struct base_str data)
{
	if (!base_blob_is_inline(blob))
		views_run(v, "INSERT OR IGNORE INTO bodies VALUES(?1, ?2)", "hb", &blob->hash, data);
}

/* --- blocks --- */

/* Every event of the block from position v->seq + 1 on. */
static int project(struct views *v, uint64_t first_seq, struct base_str block)
{
	uint64_t seq = first_seq;
	struct core_record rec;
	size_t at = 0;
	int r;

	while ((r = core_block_next(block, &at, &rec)) == 1) {
		if (seq > v->seq) {
			if (views_project(v, seq, &rec) < 0)
				v->skipped++;
			v->seq = seq;
		}
		seq++;
	}
	return r;
}

static int begin(struct views *v)
{
	if (!v->open && v->rc == SQLITE_OK) {
		v->rc = exec(v->db, "BEGIN");
		v->open = v->rc == SQLITE_OK;
	}
	return v->rc;
}

int views_block(struct views *v, uint64_t first_seq, struct base_str block, struct base_err *err)
{
	int r;

	if (first_seq == 0)
		return base_err_set(err, -EBADMSG, "a block begins at event 0");
	if (first_seq > v->seq + 1)
		return base_err_set(err, -ESPIPE,
			"the views stand at event %" PRIu64 ", the next block at %" PRIu64, v->seq,
			first_seq);
	if (begin(v) != SQLITE_OK)
		return views_error(v, v->rc, err);
	r = project(v, first_seq, block);
	drop_bodies(v);
	if (r < 0) {
		roll_back(v);
		return base_err_set(err, r, "the block of event %" PRIu64 " is malformed", first_seq);
	}
	if (v->rc != SQLITE_OK) {
		r = views_error(v, v->rc, err);
		roll_back(v);
		return r;
	}
	return 0;
}

int views_commit(struct views *v, struct base_err *err)
{
	int r;

	if (!v->open)
		return v->rc == SQLITE_OK ? 0 : views_error(v, v->rc, err);
	views_hold_flush(v);
	put_meta(v, "seq", (int64_t)v->seq);
	if (v->rc == SQLITE_OK)
		v->rc = exec(v->db, "COMMIT");
	if (v->rc != SQLITE_OK) {
		r = views_error(v, v->rc, err);
		roll_back(v);
		return r;
	}
	v->open = false;
	return 0;
}
