/* Disks that fail, and power that goes: under SQLite, at every point. */
#include "log/log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "fault_vfs.h"
#include "fixture.h"

struct ctx {
	char dir[256];
	struct base_err err;
};

enum { LEN = 900 };

static int setup(void **state)
{
	struct ctx *x = calloc(1, sizeof(*x));

	fixture_dir(x->dir, sizeof(x->dir));
	fault_reset();
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *x = *state;

	fixture_remove(x->dir);
	fault_reset();
	free(x);
	return 0;
}

static int check_commit(void *userdata, const struct log_commit *c)
{
	(void)userdata;
	fixture_check(c, LEN);
	return 0;
}

/* Opens the log in dir and checks it whole; returns its last position. */
static uint64_t check_all(const char *dir)
{
	struct base_err err = {0};
	struct log_reader *r;
	struct log *l;
	uint64_t last;

	if (log_open_sqlite(dir, &l, &err) < 0)
		fail_msg("does not open: %s", err.text);
	assert_int_equal(log_reader_new(l, &r, &err), 0);
	if (log_verify(r, NULL, NULL, NULL, &err) < 0)
		fail_msg("does not verify: %s", err.text);
	assert_int_equal(log_each(r, 1, check_commit, NULL, &err), 0);
	last = log_last_seq(l);
	assert_int_equal(fixture_append(l, 1, LEN, NULL, 0, &err), 0); /* and goes on */
	log_reader_free(r);
	log_close(l);
	return last;
}

/* The n-th sync fails: that append may be there or not, nothing after it is taken, nothing before it is lost.
 */
static void fail_sync(struct ctx *x, unsigned n)
{
	uint64_t acknowledged, last;
	struct log *l;
	int rc = 0;

	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	acknowledged = log_last_seq(l);
	fault_sync(n);
	for (unsigned i = 0; rc == 0 && i < 400; i++) {
		struct log_body b = fixture_body(BASE_STR("body"));

		rc = fixture_append(l, i % 3 + 1, LEN, &b, i % 5 == 0, &x->err);
		if (rc == 0)
			acknowledged = log_last_seq(l);
		if (i % 40 == 39)
			log_idle(l);
	}
	assert_true(fault_happened());
	assert_int_equal(rc, -EIO);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fixture_append(l, 1, LEN, NULL, 0, &x->err), -EIO);
	log_close(l);
	last = check_all(x->dir);
	assert_true(last == acknowledged || (last > acknowledged && last <= acknowledged + 3));
}

static void test_failed_sync(void **state)
{
	for (unsigned n = 1; n <= 60; n += n < 10 ? 1 : 7)
		fail_sync(*state, n);
}

/* The n-th write finds the disk full: that append leaves nothing, the next one is taken. */
static void full_disk(struct ctx *x, unsigned n)
{
	unsigned full = 0;
	uint64_t last;
	struct log *l;

	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	fault_write(n);
	for (unsigned i = 0; i < 60; i++) {
		int rc;

		last = log_last_seq(l);
		rc = fixture_append(l, 2, LEN, NULL, 0, &x->err);
		if (rc < 0) {
			assert_int_equal(rc, -ENOSPC);
			assert_int_equal(log_last_seq(l), last);
			full++;
		}
		if (i % 30 == 29)
			log_idle(l);
	}
	assert_true(fault_happened());
	assert_true(full <= 1); /* none: a checkpoint met it, and tries again later */
	last = log_last_seq(l);
	log_close(l);
	assert_int_equal(check_all(x->dir), last);
}

static void test_full_disk_at_each_write(void **state)
{
	for (unsigned n = 1; n <= 90; n += n < 20 ? 1 : 9)
		full_disk(*state, n);
}

/* Appends; after each a power cut is tried: everything acknowledged is on the disk whatever else is not. */
static void cut_power(struct ctx *x, uint64_t seed)
{
	struct base_prng p = base_prng_of_u64(seed);
	char own[256];
	struct log *l;

	fault_reset(); /* the images know nothing of older files: a new folder */
	fixture_dir(own, sizeof(own));
	assert_int_equal(log_open_sqlite(own, &l, &x->err), 0);
	for (unsigned i = 0; i < 500; i++) {
		struct log_body b = fixture_body(BASE_STR("body"));
		uint64_t last;
		char dir[256];

		assert_int_equal(fixture_append(l, 1 + (unsigned)base_prng_below(&p, 4), LEN, &b,
					 base_prng_below(&p, 6) == 0, &x->err),
			0);
		if (base_prng_below(&p, 30) == 0)
			log_idle(l);
		if (base_prng_below(&p, 12) != 0)
			continue;
		fixture_dir(dir, sizeof(dir));
		fault_power_cut(dir, base_prng_next(&p));
		last = log_last_seq(l);
		fault_watch(false);
		assert_int_equal(check_all(dir), last);
		fault_watch(true);
		fixture_remove(dir);
	}
	log_close(l);
	fixture_remove(own);
}

static void test_power_cut(void **state)
{
	for (uint64_t seed = 1; seed <= 6; seed++)
		cut_power(*state, seed);
}

/* --- commits on their way into the archive --- */

enum { DROPPED = 900 };

/* A log whose first commits are in segments and may leave the database; 0, or the error of log_archive_make. */
static void open_archived(struct ctx *x, const char *dir, struct log **ret)
{
	struct log_archive_plan p = {.before_ms = INT64_MAX, .raw_max = 300000};
	struct log_archived a;
	struct log_reader *r;
	struct log *l;
	int rc;

	assert_int_equal(log_open_sqlite(dir, &l, &x->err), 0);
	for (unsigned i = 0; i < DROPPED; i++) {
		struct log_body b;
		char text[32];

		snprintf(text, sizeof(text), "body %u", i);
		b = fixture_body(base_str_of(text));
		assert_int_equal(fixture_append(l, 2, LEN, &b, i % 7 == 0, &x->err), 0);
	}
	assert_int_equal(log_reader_new(l, &r, &x->err), 0);
	while ((rc = log_archive_make(r, &p, &a, &x->err)) == 0)
		;
	assert_int_equal(rc, -ENOENT);
	log_reader_free(r);
	log_archive_release(l, log_archived_seq(l));
	*ret = l;
}

static void copy_segments(const char *from, const char *to)
{
	char path[600], line[1400];

	snprintf(path, sizeof(path), "%s/archive", to);
	snprintf(line, sizeof(line), "cp -r %s/archive %s", from, path);
	assert_int_equal(system(line), 0);
}

/* Power goes between and within the steps that delete and shrink: what is not in the database is in a segment. */
static void test_power_cut_while_dropping(void **state)
{
	struct ctx *x = *state;

	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct base_prng p = base_prng_of_u64(seed);
		char own[256], dir[256];
		struct log *l;
		bool more = true;

		fault_reset();
		fixture_dir(own, sizeof(own));
		open_archived(x, own, &l);
		for (unsigned i = 0; i < 60 && (more || i < 20); i++) {
			more = log_idle(l);
			assert_int_equal(fixture_append(l, 1, LEN, NULL, 0, &x->err), 0);
			fixture_dir(dir, sizeof(dir));
			fault_power_cut(dir, base_prng_next(&p));
			fault_watch(false);
			copy_segments(own, dir);
			assert_int_equal(check_all(dir), log_last_seq(l));
			fault_watch(true);
			fixture_remove(dir);
		}
		assert_false(more);
		log_close(l);
		fixture_remove(own);
	}
}

/* The n-th sync fails, or the n-th write finds the disk full, while commits leave: nothing is lost. */
static void test_faults_while_dropping(void **state)
{
	struct ctx *x = *state;

	for (unsigned n = 1; n <= 24; n++) {
		uint64_t last;
		char own[256];
		struct log *l;

		fault_reset();
		fixture_dir(own, sizeof(own));
		open_archived(x, own, &l);
		last = log_last_seq(l);
		if (n % 2)
			fault_sync(n / 2 + 1);
		else
			fault_write(n * 7);
		for (unsigned i = 0; i < 30; i++)
			log_idle(l);
		fault_sync(0);
		fault_write(0);
		log_close(l);
		assert_int_equal(check_all(own), last);
		fixture_remove(own);
	}
}

/* The n-th read fails: an error or what was written, and the next time all of it. */
static bool fail_read(struct ctx *x, struct log *l, unsigned n)
{
	uint64_t last = log_last_seq(l);
	struct log_reader *r;
	struct log_commit c;
	bool happened;

	fault_read(n);
	if (log_reader_new(l, &r, &x->err) == 0) {
		for (uint64_t seq = last; seq > 0; seq -= seq > 7 ? 7 : seq)
			if (log_read(r, seq, &c, &x->err) == 0)
				fixture_check(&c, LEN);
		(void)log_each(r, 1, check_commit, NULL, &x->err);
		log_reader_free(r);
	}
	happened = fault_happened();
	fault_read(0);
	assert_int_equal(log_reader_new(l, &r, &x->err), 0);
	assert_int_equal(log_each(r, 1, check_commit, NULL, &x->err), 0);
	assert_int_equal(log_last_seq(l), last);
	log_reader_free(r);
	return happened;
}

static void test_failed_reads(void **state)
{
	struct ctx *x = *state;
	unsigned failed = 0;
	struct log *l;

	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	for (unsigned i = 0; i < 400; i++) {
		assert_int_equal(fixture_append(l, 2, LEN, NULL, 0, &x->err), 0);
		if (i % 50 == 49)
			log_idle(l);
	}
	for (unsigned n = 1; n <= 400; n += n < 60 ? 1 : 11)
		failed += fail_read(x, l, n);
	assert_true(failed > 60);
	log_close(l);
}

/* The writer cannot read what it needs: that append fails or not, what was acknowledged is there after the next opening. */
static void test_failed_reads_of_the_writer(void **state)
{
	struct ctx *x = *state;

	for (unsigned n = 1; n <= 40; n++) {
		uint64_t acknowledged = 0;
		struct log *l;
		int rc = 0;

		fault_read(n);
		if (log_open_sqlite(x->dir, &l, &x->err) < 0) {
			assert_true(fault_happened());
			fault_read(0);
			assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
		}
		acknowledged = log_last_seq(l);
		for (unsigned i = 0; rc == 0 && i < 120; i++) {
			rc = fixture_append(l, 1, LEN, NULL, 0, &x->err);
			if (rc == 0)
				acknowledged = log_last_seq(l);
			if (i % 30 == 29)
				log_idle(l);
		}
		fault_read(0);
		log_close(l);
		assert_true(check_all(x->dir) >= acknowledged);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_failed_sync),
		T(test_full_disk_at_each_write),
		T(test_power_cut),
		T(test_failed_reads),
		T(test_failed_reads_of_the_writer),
		T(test_power_cut_while_dropping),
		T(test_faults_while_dropping),
	};

	fault_install();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
