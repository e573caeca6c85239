/* Damage on purpose: verification names the first bad event, and nothing is built on a damaged end. */
#include "log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

struct ctx {
	char dir[256];
	struct base_err err;
	struct base_hash body;
};

enum { COMMITS = 20, PER_COMMIT = 3 }; /* commit i (from 0) holds 3i+1 … 3i+3 */

static int setup(void **state)
{
	struct ctx *x = calloc(1, sizeof(*x));
	struct log_body b = fixture_body(BASE_STR("the body of commit 4"));
	struct log *l;

	fixture_dir(x->dir, sizeof(x->dir));
	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	for (unsigned i = 0; i < COMMITS; i++)
		assert_int_equal(fixture_append(l, PER_COMMIT, 40, i == 4 ? &b : NULL, i == 4, &x->err), 0);
	log_close(l);
	x->body = b.hash;
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *x = *state;

	fixture_remove(x->dir);
	free(x);
	return 0;
}

static void sql(struct ctx *x, const char *text)
{
	char path[300];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/log.db", x->dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", text, sqlite3_errmsg(db));
	sqlite3_close(db);
}

/* Returns what log_verify said. */
static int verify(struct ctx *x, uint64_t *ret_bad)
{
	struct log_reader *r;
	struct log *l;
	int rc;

	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	assert_int_equal(log_reader_new(l, &r, &x->err), 0);
	rc = log_verify(r, ret_bad, NULL, NULL, &x->err);
	log_reader_free(r);
	log_close(l);
	return rc;
}

static void expect_bad(struct ctx *x, uint64_t seq)
{
	uint64_t bad = 0;

	x->err.text[0] = '\0';
	assert_int_equal(verify(x, &bad), -EUCLEAN);
	assert_int_equal(bad, seq);
	assert_true(strlen(x->err.text) > 10);
}

static void test_whole(void **state)
{
	assert_int_equal(verify(*state, NULL), 0);
}

static void test_block_byte(void **state)
{
	sql(*state, "UPDATE commits SET block = substr(block,1,9) || x'7f' || substr(block,11) WHERE "
		    "first_seq=16");
	expect_bad(*state, 16);
}

static void test_block_length_prefix(void **state)
{
	sql(*state, "UPDATE commits SET block = x'7f' || substr(block,2) WHERE first_seq=16");
	expect_bad(*state, 16);
}

static void test_root(void **state)
{
	sql(*state, "UPDATE commits SET root = x'00' || substr(root,2) WHERE first_seq=31");
	expect_bad(*state, 31);
}

static void test_root_and_block(void **state)
{
	/* A block with its right root, from elsewhere: the chain tells. */
	sql(*state, "UPDATE commits SET (root,block) = (SELECT root,block FROM commits WHERE first_seq=4)"
		    " WHERE first_seq=7");
	expect_bad(*state, 7);
}

static void test_chain(void **state)
{
	sql(*state, "UPDATE commits SET chain = zeroblob(32) WHERE first_seq=31");
	expect_bad(*state, 31);
}

static void test_time(void **state)
{
	sql(*state, "UPDATE commits SET time_ms = time_ms + 1 WHERE first_seq=13");
	expect_bad(*state, 13);
}

static void test_count(void **state)
{
	sql(*state, "UPDATE commits SET count = 2 WHERE first_seq=13");
	expect_bad(*state, 13);
}

static void test_dropped(void **state)
{
	struct ctx *x = *state;
	struct log_commit c;
	struct log_reader *r;
	struct log *l;

	sql(x, "DELETE FROM commits WHERE first_seq=22");
	expect_bad(x, 22);
	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	assert_int_equal(log_reader_new(l, &r, &x->err), 0);
	assert_int_equal(log_read(r, 23, &c, &x->err), -EUCLEAN);
	assert_int_equal(log_read(r, 25, &c, &x->err), 0);
	log_reader_free(r);
	log_close(l);
}

static void test_first_dropped(void **state)
{
	sql(*state, "DELETE FROM commits WHERE first_seq=1");
	expect_bad(*state, 1);
}

static int stop_at(void *userdata, const struct log_commit *c)
{
	uint64_t *last = userdata;

	*last = c->first_seq + c->count - 1;
	return 0;
}

static void test_each_stops_at_a_gap(void **state)
{
	struct ctx *x = *state;
	struct log_reader *r;
	struct log *l;
	uint64_t last = 0;

	sql(x, "DELETE FROM commits WHERE first_seq=22");
	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	assert_int_equal(log_reader_new(l, &r, &x->err), 0);
	assert_int_equal(log_each(r, 1, stop_at, &last, &x->err), -EUCLEAN);
	assert_int_equal(last, 21);
	log_reader_free(r);
	log_close(l);
}

static void test_swapped(void **state)
{
	sql(*state, "UPDATE commits SET first_seq=1000 WHERE first_seq=10;"
		    "UPDATE commits SET first_seq=10 WHERE first_seq=40;"
		    "UPDATE commits SET first_seq=40 WHERE first_seq=1000");
	expect_bad(*state, 10);
}

static void test_body(void **state)
{
	sql(*state, "UPDATE bodies SET data = CAST('another body' AS BLOB)");
	expect_bad(*state, 13);
}

static void test_damaged_end_takes_no_more(void **state)
{
	struct ctx *x = *state;
	struct log *l;

	sql(x, "UPDATE commits SET chain = zeroblob(32) WHERE first_seq=58");
	expect_bad(x, 58);
	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	assert_int_equal(fixture_append(l, 1, 40, NULL, 0, &x->err), -EUCLEAN);
	log_close(l);
}

static void test_foreign_database(void **state)
{
	struct ctx *x = *state;
	struct log *l;

	sql(x, "PRAGMA application_id=1");
	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), -EUCLEAN);
}

static void test_newer_format(void **state)
{
	struct ctx *x = *state;
	struct log *l;

	sql(x, "PRAGMA user_version=3");
	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), -ENOTSUP);
	assert_non_null(strstr(x->err.text, "newer aios"));
}

static void overwrite(const char *path, off_t at, const char *text)
{
	int fd = open(path, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, text, strlen(text), at), strlen(text));
	close(fd);
}

static void test_not_a_database(void **state)
{
	struct ctx *x = *state;
	struct log *l;
	char path[300];

	snprintf(path, sizeof(path), "%s/log.db", x->dir);
	sql(x, "PRAGMA wal_checkpoint(TRUNCATE)");
	overwrite(path, 0, "this is not a database at all, is it?");
	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), -EUCLEAN);
}

/* --- snapshots --- */

static void put_two(struct ctx *x)
{
	struct base_hash h = {{3}};
	struct log *l;

	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	assert_int_equal(log_snapshot_put(l, 30, &h, BASE_STR("the older one"), &x->err), 0);
	assert_int_equal(log_snapshot_put(l, 60, &h, BASE_STR("the newer one"), &x->err), 0);
	log_close(l);
}

/* Position of the snapshot that is given, 0: none. */
static uint64_t got_seq(struct ctx *x)
{
	struct log *l;
	uint64_t seq = 0;
	char *data = NULL;
	size_t len;

	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	if (log_snapshot_get(l, UINT64_MAX, &seq, &data, &len, &x->err) < 0)
		seq = 0;
	else
		assert_memory_equal(data, seq == 30 ? "the older one" : "the newer one", len);
	free(data);
	log_close(l);
	return seq;
}

static void test_snapshot_damaged(void **state)
{
	struct ctx *x = *state;
	char path[300];

	put_two(x);
	assert_int_equal(got_seq(x), 60);
	snprintf(path, sizeof(path), "%s/snapshot-%020d", x->dir, 60);
	overwrite(path, 90, "Z");
	assert_int_equal(got_seq(x), 30);
	snprintf(path, sizeof(path), "%s/snapshot-%020d", x->dir, 30);
	assert_int_equal(truncate(path, 50), 0);
	assert_int_equal(got_seq(x), 0);
}

static void test_snapshot_half_written(void **state)
{
	struct ctx *x = *state;
	char path[300];
	int fd;

	put_two(x);
	snprintf(path, sizeof(path), "%s/snapshot.tmp", x->dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(got_seq(x), 60);
	assert_int_equal(access(path, F_OK), -1);
}

/* A log that was restored from a backup ends before its newest snapshot, which tells of another history. */
static void test_snapshot_of_another_history(void **state)
{
	struct ctx *x = *state;
	struct log *l;

	put_two(x);
	sql(x, "DELETE FROM commits WHERE first_seq > 40");
	assert_int_equal(got_seq(x), 30);
	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	while (log_last_seq(l) < 100)
		assert_int_equal(fixture_append(l, 3, 40, NULL, 0, &x->err), 0);
	log_close(l);
	assert_int_equal(got_seq(x), 30);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_whole),
		T(test_block_byte),
		T(test_block_length_prefix),
		T(test_root),
		T(test_root_and_block),
		T(test_chain),
		T(test_time),
		T(test_count),
		T(test_dropped),
		T(test_first_dropped),
		T(test_each_stops_at_a_gap),
		T(test_swapped),
		T(test_body),
		T(test_damaged_end_takes_no_more),
		T(test_foreign_database),
		T(test_newer_format),
		T(test_not_a_database),
		T(test_snapshot_damaged),
		T(test_snapshot_half_written),
		T(test_snapshot_of_another_history),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
