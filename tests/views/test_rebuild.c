/* The tables follow from the events alone: however they come, whatever dies, the dump is the same. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/prng.h"
#include "company.h"
#include "peer.h"

struct ctx {
	char dir[256];
	struct peer p;
	struct company c;
	char want[65]; /* the dump of all of it, fed as one block */
};

static int setup(void **state)
{
	struct ctx *x = calloc(1, sizeof(*x));

	peer_dir(x->dir, sizeof(x->dir));
	company_init(&x->c);
	company_newsletter(&x->c);
	company_bulk(&x->c, 42, 300);
	peer_start(&x->p, x->dir);
	peer_block(&x->p, 1, company_block(&x->c, 1, x->c.count + 1));
	peer_wait_at(&x->p, x->c.count);
	peer_dump(&x->p, x->c.count, x->want);
	peer_stop(&x->p);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *x = *state;

	company_done(&x->c);
	peer_remove(x->dir);
	free(x);
	return 0;
}

static void forget(struct ctx *x)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/views.db", x->dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/views.db-wal", x->dir);
	unlink(path);
}

/* Feeds from where the process stands in random pieces, up to `end`. */
static void feed(struct ctx *x, struct base_prng *rng, uint64_t end, uint64_t piece)
{
	uint64_t at = x->p.at + 1;

	while (at <= end) {
		uint64_t to = at + 1 + base_prng_below(rng, piece);

		to = to > end + 1 ? end + 1 : to;
		peer_block(&x->p, at, company_block(&x->c, at, to));
		if (base_prng_below(rng, 3) == 0)
			peer_wait_at(&x->p, to - 1);
		at = to;
	}
	peer_flush(&x->p);
}

static void expect_dump(struct ctx *x)
{
	char got[65];

	peer_dump(&x->p, x->c.count, got);
	assert_string_equal(got, x->want);
}

static void test_reopened(void **state)
{
	struct ctx *x = *state;

	peer_start(&x->p, x->dir);
	assert_int_equal(x->p.at, x->c.count);
	expect_dump(x);
	peer_stop(&x->p);
}

static void test_other_batches(void **state)
{
	static const uint64_t pieces[] = {1, 7, 400};
	struct ctx *x = *state;

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		struct base_prng rng = base_prng_of_u64(i);

		forget(x);
		peer_start(&x->p, x->dir);
		assert_int_equal(x->p.at, 0);
		feed(x, &rng, x->c.count, pieces[i]);
		expect_dump(x);
		peer_stop(&x->p);
	}
}

static void test_dump_sees_a_difference(void **state)
{
	struct ctx *x = *state;
	struct base_prng rng = base_prng_of_u64(1);
	struct company other;
	char got[65];

	company_init(&other);
	company_newsletter(&other);
	company_bulk(&other, 43, 300);
	forget(x);
	peer_start(&x->p, x->dir);
	feed(x, &rng, 20, 100);
	for (uint64_t i = 21; i <= other.count; i++)
		peer_block(&x->p, i, company_block(&other, i, i + 1));
	peer_wait_at(&x->p, other.count);
	peer_dump(&x->p, other.count, got);
	assert_string_not_equal(got, x->want);
	peer_stop(&x->p);
	company_done(&other);
}

static void test_killed(void **state)
{
	struct ctx *x = *state;
	struct base_prng rng = base_prng_of_u64(7);
	uint64_t before = 0;
	unsigned kills = 0;

	forget(x);
	for (;;) {
		uint64_t end;

		peer_start(&x->p, x->dir);
		assert_true(x->p.at >= before); /* what it said it had, it has */
		if (x->p.at == x->c.count)
			break;
		end = x->p.at + 150 > x->c.count ? x->c.count : x->p.at + 150;
		before = x->p.at + base_prng_below(&rng, end - x->p.at + 1);
		feed(x, &rng, end, 20);
		peer_wait_at(&x->p, before);
		before = x->p.at;
		peer_kill(&x->p);
		kills++;
	}
	assert_true(kills >= 5);
	expect_dump(x);
	peer_stop(&x->p);
}

static void overwrite(struct ctx *x, off_t at, size_t len)
{
	char path[300], junk[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/views.db", x->dir);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	memset(junk, 0xa5, sizeof(junk));
	for (; len; len -= len < sizeof(junk) ? len : sizeof(junk), at += (off_t)sizeof(junk))
		assert_true(pwrite(fd, junk, len < sizeof(junk) ? len : sizeof(junk), at) > 0);
	close(fd);
}

/* Files that are not a database any more, or not ours: it starts over. */
static void test_damaged_files(void **state)
{
	struct ctx *x = *state;
	struct base_prng rng = base_prng_of_u64(3);

	overwrite(x, 0, 8192);
	peer_start(&x->p, x->dir);
	assert_int_equal(x->p.at, 0);
	feed(x, &rng, x->c.count, 50);
	expect_dump(x);
	peer_stop(&x->p);
	overwrite(x, 68, 4); /* application_id */
	peer_start(&x->p, x->dir);
	assert_int_equal(x->p.at, 0);
	feed(x, &rng, x->c.count, 50);
	expect_dump(x);
	peer_stop(&x->p);
}

static void sql(struct ctx *x, const char *text)
{
	char path[300];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/views.db", x->dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", text, sqlite3_errmsg(db));
	sqlite3_close(db);
}

/* Nothing is synced while it runs: after a crash of the machine it starts over; after a clean stop it need
 * not. */
static void test_machine_restarted(void **state)
{
	struct ctx *x = *state;

	sql(x, "UPDATE meta SET value = value - 100000 WHERE key = 'boot'");
	peer_start(&x->p, x->dir);
	assert_int_equal(x->p.at, x->c.count);
	peer_kill(&x->p);
	peer_start(&x->p, x->dir); /* killed, on the same boot: all is there */
	assert_int_equal(x->p.at, x->c.count);
	peer_kill(&x->p);
	sql(x, "UPDATE meta SET value = value - 100000 WHERE key = 'boot'");
	peer_start(&x->p, x->dir);
	assert_int_equal(x->p.at, 0);
	peer_stop(&x->p);
}

/* --- frames that cannot be --- */

static void expect_refused(struct ctx *x, const char *note)
{
	peer_flush(&x->p);
	assert_int_equal(peer_wait_exit(&x->p), 1);
	if (!strstr(x->p.note, note))
		fail_msg("the note \"%s\" does not say \"%s\"", x->p.note, note);
	peer_start(&x->p, x->dir); /* and nothing is lost */
	assert_int_equal(x->p.at, x->c.count);
	expect_dump(x);
	peer_stop(&x->p);
}

static void test_gap(void **state)
{
	struct ctx *x = *state;

	peer_start(&x->p, x->dir);
	peer_block(&x->p, x->c.count + 2, company_block(&x->c, 1, 2));
	expect_refused(x, "next block");
}

static void test_malformed_block(void **state)
{
	struct ctx *x = *state;

	peer_start(&x->p, x->dir);
	peer_block(&x->p, x->c.count + 1, BASE_STR("\x40garbage"));
	expect_refused(x, "malformed");
}

/* A good event before a bad one: neither is kept. */
static void test_half_a_block(void **state)
{
	struct ctx *x = *state;
	struct base_buf b;

	base_buf_init(&b, SIZE_MAX);
	base_buf_str(&b, company_block(&x->c, 1, 8));
	base_buf_cstr(&b, "\x7f");
	peer_start(&x->p, x->dir);
	peer_block(&x->p, x->c.count + 1, base_buf_view(&b));
	expect_refused(x, "malformed");
	base_buf_done(&b);
}

static void test_malformed_head(void **state)
{
	struct ctx *x = *state;

	peer_start(&x->p, x->dir);
	peer_raw(&x->p, "\xff\xff\xff\xff\x47\x00\x00\x00", 8);
	expect_refused(x, "head");
}

static void test_malformed_body(void **state)
{
	struct ctx *x = *state;

	peer_start(&x->p, x->dir);
	peer_raw(&x->p, "\x02\x00\x00\x00\x47\x00\x00\x00\xff\xff", 10);
	expect_refused(x, "malformed");
}

static void test_foreign_frame(void **state)
{
	struct ctx *x = *state;

	peer_start(&x->p, x->dir);
	peer_raw(&x->p, "\x00\x00\x00\x00\x1e\x00\x00\x00", 8);
	expect_refused(x, "unexpected");
}

static void test_before_setup(void **state)
{
	struct ctx *x = *state;

	peer_start_bare(&x->p, x->dir);
	peer_block(&x->p, 1, company_block(&x->c, 1, 2));
	expect_refused(x, "unexpected");
}

static void test_setup_twice(void **state)
{
	struct ctx *x = *state;

	peer_start(&x->p, x->dir);
	peer_setup(&x->p, x->dir);
	expect_refused(x, "unexpected");
}

/* Events of a known type that do not decode are left out, with a note; the rest counts. */
static void test_undecodable_event(void **state)
{
	struct ctx *x = *state;
	struct base_buf e, block;
	char got[65];

	base_buf_init(&e, SIZE_MAX);
	base_buf_init(&block, SIZE_MAX);
	base_put_u64(&e, CORE_EV_FACT_PUT);
	base_put_i64(&e, 5);
	base_put_str(&e, BASE_STR_NONE);
	base_buf_cstr(&e, "\x7f");
	base_put_str(&block, base_buf_view(&e));
	peer_start(&x->p, x->dir);
	peer_block(&x->p, x->c.count + 1, base_buf_view(&block));
	peer_wait_at(&x->p, x->c.count + 1);
	peer_dump(&x->p, x->c.count + 1, got);
	assert_string_equal(got, x->want);
	assert_non_null(strstr(x->p.note, "could not decode"));
	peer_stop(&x->p);
	base_buf_done(&e);
	base_buf_done(&block);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_reopened),
		T(test_other_batches),
		T(test_dump_sees_a_difference),
		T(test_killed),
		T(test_damaged_files),
		T(test_machine_restarted),
		T(test_gap),
		T(test_malformed_block),
		T(test_half_a_block),
		T(test_malformed_head),
		T(test_malformed_body),
		T(test_foreign_frame),
		T(test_before_setup),
		T(test_setup_twice),
		T(test_undecodable_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
