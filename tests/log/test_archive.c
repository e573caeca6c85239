/* The archive: reads go on across its border, space comes back, and no moment to die at loses a commit. */
#include "log/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

enum { LEN = 700, COMMITS = 300, PER_COMMIT = 3, EVENTS = COMMITS * PER_COMMIT };

struct ctx {
	char dir[256];
	struct base_err err;
	struct log *l;
	struct log_reader *r;
};

static struct log_body body_of(unsigned i, char text[64])
{
	snprintf(text, 64, "the body of commit %u", i);
	return fixture_body(base_str_of(text));
}

static void open_log(struct ctx *x)
{
	assert_int_equal(log_open_sqlite(x->dir, &x->l, &x->err), 0);
	assert_int_equal(log_reader_new(x->l, &x->r, &x->err), 0);
}

static void close_log(struct ctx *x)
{
	log_reader_free(x->r);
	log_close(x->l);
	x->r = NULL;
	x->l = NULL;
}

static int setup(void **state)
{
	struct ctx *x = calloc(1, sizeof(*x));
	char text[64];

	fixture_dir(x->dir, sizeof(x->dir));
	open_log(x);
	for (unsigned i = 0; i < COMMITS; i++) {
		struct log_body b = body_of(i, text);

		assert_int_equal(fixture_append(x->l, PER_COMMIT, LEN, &b, i % 5 == 0, &x->err), 0);
	}
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *x = *state;

	if (x->l)
		close_log(x);
	fixture_remove(x->dir);
	free(x);
	return 0;
}

static int check_commit(void *userdata, const struct log_commit *c)
{
	uint64_t *next = userdata;

	assert_int_equal(c->first_seq, *next);
	*next += c->count;
	fixture_check(c, LEN);
	return 0;
}

/* Every event and every body, by all the ways in. */
static void check_all(struct ctx *x, uint64_t last)
{
	struct log_commit c;
	struct base_str data;
	uint64_t next = 1, bad = 0;
	char text[64];

	assert_int_equal(log_last_seq(x->l), last);
	if (log_verify(x->r, &bad, NULL, NULL, &x->err) != 0)
		fail_msg("at %llu: %s", (unsigned long long)bad, x->err.text);
	assert_int_equal(log_each(x->r, 1, check_commit, &next, &x->err), 0);
	assert_int_equal(next, last + 1);
	for (uint64_t seq = 1; seq <= last; seq += 7) {
		assert_int_equal(log_read(x->r, seq, &c, &x->err), 0);
		assert_true(seq >= c.first_seq && seq < c.first_seq + c.count);
		fixture_check(&c, LEN);
	}
	for (unsigned i = 0; i < COMMITS; i += 5) {
		struct log_body b = body_of(i, text);

		assert_int_equal(log_read_body(x->r, &b.hash, &data, &x->err), 0);
		assert_true(base_str_eq(data, b.data));
	}
	assert_int_equal(log_read(x->r, last + 1, &c, &x->err), -ENOENT);
}

/* Commits of the fixture are 1,000 ms apart per event. */
static struct log_archive_plan before(uint64_t seq)
{
	return (struct log_archive_plan){.before_ms = (int64_t)seq * 1000, .raw_max = 200000};
}

static unsigned make_all(struct ctx *x, uint64_t seq)
{
	struct log_archive_plan p = before(seq);
	struct log_archived a;
	unsigned n = 0;
	int rc;

	while ((rc = log_archive_make(x->r, &p, &a, &x->err)) == 0)
		n++;
	assert_int_equal(rc, -ENOENT);
	return n;
}

static void drop_all(struct ctx *x)
{
	log_archive_release(x->l, log_archived_seq(x->l));
	while (log_idle(x->l))
		;
}

static int64_t rows(struct ctx *x)
{
	sqlite3_stmt *st;
	sqlite3 *db;
	char path[300];
	int64_t n;

	snprintf(path, sizeof(path), "%s/log.db", x->dir);
	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM commits", -1, &st, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	n = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	sqlite3_close(db);
	return n;
}

static void test_reads_across_the_border(void **state)
{
	struct ctx *x = *state;
	struct log_archived a;
	uint64_t events, last;
	struct log_archive_plan p = before(600);
	char text[64];
	struct log_body b = body_of(1, text);

	assert_int_equal(log_archive_look(x->r, &p, &events, &last, &x->err), 0);
	assert_int_equal(events, 600);
	assert_true(make_all(x, 600) > 1);
	assert_int_equal(log_archived_seq(x->l), last);
	assert_int_equal(rows(x), COMMITS); /* nothing goes before it is let go */
	check_all(x, EVENTS);
	drop_all(x);
	assert_int_equal(rows(x), COMMITS - 200);
	check_all(x, EVENTS);
	assert_int_equal(log_archived_get(x->l, 1, &a), 0);
	assert_int_equal(a.first_seq, 1);
	assert_true(a.bytes < a.raw_bytes && !a.lost);
	assert_int_equal(log_archived_get(x->l, EVENTS, &a), -ENOENT);
	close_log(x);
	open_log(x);
	check_all(x, EVENTS);
	assert_int_equal(fixture_append(x->l, 3, LEN, NULL, 0, &x->err), 0);
	/* A body that the archive has may come again. */
	b = body_of(0, text);
	assert_int_equal(fixture_append(x->l, 3, LEN, &b, 1, &x->err), 0);
	check_all(x, EVENTS + 6);
}

static void test_the_last_commit_stays(void **state)
{
	struct ctx *x = *state;

	make_all(x, UINT32_MAX);
	drop_all(x);
	assert_int_equal(log_archived_seq(x->l), EVENTS - PER_COMMIT);
	assert_int_equal(rows(x), 1);
	close_log(x);
	open_log(x);
	check_all(x, EVENTS);
	assert_int_equal(fixture_append(x->l, 3, LEN, NULL, 0, &x->err), 0);
	close_log(x);
	open_log(x);
	check_all(x, EVENTS + 3);
	make_all(x, UINT32_MAX);
	drop_all(x);
	check_all(x, EVENTS + 3);
}

static off_t size_of(struct ctx *x, const char *name)
{
	char path[600];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", x->dir, name);
	return stat(path, &st) == 0 ? st.st_size : 0;
}

static void test_space_comes_back(void **state)
{
	struct ctx *x = *state;
	struct log_archive_plan p = {.before_ms = INT64_MAX};
	struct log_archived a;
	off_t full;
	unsigned steps = 0;

	for (unsigned i = 0; i < 3000; i++)
		assert_int_equal(fixture_append(x->l, 3, LEN, NULL, 0, &x->err), 0);
	close_log(x);
	open_log(x);
	full = size_of(x, "log.db");
	assert_int_equal(log_archive_make(x->r, &p, &a, &x->err), 0);
	log_archive_release(x->l, a.last_seq);
	do
		steps++;
	while (log_idle(x->l));
	assert_true(steps > 10); /* a bit at a time */
	close_log(x);
	open_log(x);
	assert_true(size_of(x, "log.db") < full / 3);
	check_all(x, EVENTS + 9000);
}

/* Walking while commits leave for the archive under the walker's feet. */
struct mover {
	struct ctx *x;
	uint64_t next;
};

static int move_one(void *userdata, const struct log_commit *c)
{
	struct mover *m = userdata;

	assert_int_equal(c->first_seq, m->next);
	m->next += c->count;
	if (m->next == 301) {
		struct log_reader *other;
		struct log_archive_plan p = {.before_ms = 900 * 1000};
		struct log_archived a;

		assert_int_equal(log_reader_new(m->x->l, &other, &m->x->err), 0);
		assert_int_equal(log_archive_make(other, &p, &a, &m->x->err), 0);
		log_reader_free(other);
		drop_all(m->x);
	}
	return 0;
}

static void test_moves_under_a_walker(void **state)
{
	struct ctx *x = *state;
	struct mover m = {x, 1};

	assert_int_equal(log_each(x->r, 1, move_one, &m, &x->err), 0);
	assert_int_equal(m.next, EVENTS + 1);
}

/* --- death at every step --- */

struct death {
	const char *at;
};

static void die_at(void *userdata, const char *what)
{
	const struct death *d = userdata;

	if (strcmp(d->at, what) == 0)
		kill(getpid(), SIGKILL);
}

static void archive_and_die(const char *dir, const char *at, unsigned drops)
{
	struct death d = {at};
	struct log_archive_plan p = before(700);
	struct log_archived a;
	struct log_reader *r;
	struct base_err err;
	struct log *l;

	p.step = die_at;
	p.userdata = &d;
	if (log_open_sqlite(dir, &l, &err) < 0 || log_reader_new(l, &r, &err) < 0)
		_exit(1);
	while (log_archive_make(r, &p, &a, &err) == 0)
		;
	log_archive_release(l, log_archived_seq(l));
	for (unsigned i = 0; i < drops; i++)
		log_idle(l);
	kill(getpid(), SIGKILL);
}

static void test_killed_at_each_step(void **state)
{
	static const char *const steps[] = {"write", "sync", "verify", "done", "", NULL};
	struct ctx *x = *state;

	close_log(x);
	for (size_t i = 0; steps[i]; i++)
		for (unsigned drops = 0; drops < (steps[i][0] ? 1 : 4); drops++) {
			pid_t pid = fork();
			int status;

			if (pid == 0)
				archive_and_die(x->dir, steps[i], drops);
			assert_int_equal(waitpid(pid, &status, 0), pid);
			assert_true(WIFSIGNALED(status));
			open_log(x);
			check_all(x, EVENTS);
			assert_int_equal(size_of(x, "archive/seg.tmp"), 0);
			close_log(x);
		}
	open_log(x);
	drop_all(x);
	check_all(x, EVENTS);
}

/* A disk that is full while a segment is written: no segment, nothing lost, and it works when there is room. */
static void test_full_disk(void **state)
{
	struct ctx *x = *state;
	struct log_archive_plan p = {.before_ms = INT64_MAX};
	struct log_archived a;
	struct rlimit old, small;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 4096;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(log_archive_make(x->r, &p, &a, &x->err), -ENOSPC);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(log_archived_seq(x->l), 0);
	assert_int_equal(size_of(x, "archive/seg.tmp"), 0);
	check_all(x, EVENTS);
	assert_int_equal(log_archive_make(x->r, &p, &a, &x->err), 0);
	drop_all(x);
	check_all(x, EVENTS);
}

/* --- damage --- */

static void segment_path(struct ctx *x, char *ret, size_t size)
{
	struct log_archived a;

	assert_int_equal(log_archived_get(x->l, 1, &a), 0);
	snprintf(ret, size, "%s/archive/%s", x->dir, a.file);
}

static void flip(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	char c;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c = (char)(c ^ 0x10);
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static int ignore(void *userdata, const struct log_commit *c)
{
	uint64_t *next = userdata;

	fixture_check(c, LEN); /* whatever is given is right */
	*next = c->first_seq + c->count;
	return 0;
}

/* A flipped bit anywhere in a segment is found, and never a wrong answer. */
static void fault_68_hostile_archive(void **state)
{
	struct ctx *x = *state;
	char path[600];
	off_t size;

	make_all(x, 600);
	drop_all(x);
	segment_path(x, path, sizeof(path));
	size = size_of(x, strstr(path, "archive/"));
	close_log(x);
	for (off_t at = 0; at < size; at += at < 40 || at > size - 100 ? 3 : 997) {
		uint64_t bad = 0, next = 1;

		flip(path, at);
		open_log(x);
		assert_int_equal(log_verify(x->r, &bad, NULL, NULL, &x->err), -EUCLEAN);
		assert_non_null(strstr(x->err.text, "backup"));
		/* Whole, where the flip is in a body. */
		if (log_each(x->r, 1, ignore, &next, &x->err) < 0)
			assert_int_equal(x->err.code, -EUCLEAN);
		/* What stands behind it goes on. */
		assert_int_equal(log_each(x->r, 800, ignore, &next, &x->err), 0);
		close_log(x);
		flip(path, at);
	}
	open_log(x);
	check_all(x, EVENTS);
}

static void test_missing_file(void **state)
{
	struct ctx *x = *state;
	struct log_archived a;
	struct log_commit c;
	char path[600], away[600];
	uint64_t bad = 0;

	make_all(x, 600);
	drop_all(x);
	segment_path(x, path, sizeof(path));
	snprintf(away, sizeof(away), "%s/away", x->dir);
	close_log(x);
	assert_int_equal(rename(path, away), 0);
	open_log(x);
	assert_int_equal(log_archived_get(x->l, 1, &a), 0);
	assert_true(a.lost);
	assert_int_equal(log_read(x->r, 1, &c, &x->err), -EUCLEAN);
	assert_int_equal(log_verify(x->r, &bad, NULL, NULL, &x->err), -EUCLEAN);
	assert_int_equal(log_read(x->r, 800, &c, &x->err), 0);
	assert_int_equal(fixture_append(x->l, 3, LEN, NULL, 0, &x->err), 0);
	close_log(x);
	assert_int_equal(rename(away, path), 0);
	open_log(x);
	check_all(x, EVENTS + 3);
}

/* A segment that was damaged before the backend let its commits go takes nothing away: they are read where they are, and
 * archived again. */
static void test_damaged_before_it_counts(void **state)
{
	struct ctx *x = *state;
	char path[600];

	make_all(x, 600);
	segment_path(x, path, sizeof(path));
	close_log(x);
	flip(path, 3);
	open_log(x);
	check_all(x, EVENTS);
	assert_true(make_all(x, 600) > 0);
	check_all(x, EVENTS);
	/* One of which nobody knows whether it was verified: its index is whole, what it indexes is not. */
	assert_int_equal(log_archive_check(x->r, 1, &x->err), 0);
	close_log(x);
	flip(path, 200);
	open_log(x);
	assert_int_equal(log_archive_check(x->r, 1, &x->err), -EUCLEAN);
	close_log(x);
	open_log(x);
	check_all(x, EVENTS);
	assert_true(make_all(x, 600) > 0);
	close_log(x);
	open_log(x);
	drop_all(x);
	check_all(x, EVENTS);
}

static void sql(struct ctx *x, const char *text)
{
	char path[300];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/log.db", x->dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

/* An older format is taken over, a newer one is refused with a word on what to do. */
static void test_formats(void **state)
{
	struct ctx *x = *state;

	close_log(x);
	sql(x, "PRAGMA user_version=1; UPDATE meta SET value = 1 WHERE key = 'format'");
	open_log(x);
	check_all(x, EVENTS);
	close_log(x);
	sql(x, "PRAGMA user_version=99");
	assert_int_equal(log_open_sqlite(x->dir, &x->l, &x->err), -ENOTSUP);
	assert_non_null(strstr(x->err.text, "upgrade aios"));
	x->l = NULL;
	sql(x, "PRAGMA user_version=2");
	open_log(x);
	check_all(x, EVENTS);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_reads_across_the_border),
		T(test_the_last_commit_stays),
		T(test_space_comes_back),
		T(test_moves_under_a_walker),
		T(test_killed_at_each_step),
		T(test_full_disk),
		T(fault_68_hostile_archive),
		T(test_missing_file),
		T(test_damaged_before_it_counts),
		T(test_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
