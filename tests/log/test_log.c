/* What every backend must do: each test runs over each of them. */
#include "log/log.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/codec.h"
#include "fixture.h"

struct ctx {
	bool sqlite;
	char dir[256];
	struct log *log;
	struct log_reader *reader;
	struct base_err err;
};

static void open_log(struct ctx *x)
{
	if (x->sqlite)
		assert_int_equal(log_open_sqlite(x->dir, &x->log, &x->err), 0);
	else
		assert_int_equal(log_open_memory(&x->log, &x->err), 0);
	assert_int_equal(log_reader_new(x->log, &x->reader, &x->err), 0);
}

static void close_log(struct ctx *x)
{
	log_reader_free(x->reader);
	log_close(x->log);
	x->reader = NULL;
	x->log = NULL;
}

static int setup(void **state, bool sqlite)
{
	struct ctx *x = calloc(1, sizeof(*x));

	x->sqlite = sqlite;
	if (sqlite)
		fixture_dir(x->dir, sizeof(x->dir));
	open_log(x);
	*state = x;
	return 0;
}

static int setup_memory(void **state)
{
	return setup(state, false);
}

static int setup_sqlite(void **state)
{
	return setup(state, true);
}

static int teardown(void **state)
{
	struct ctx *x = *state;

	close_log(x);
	if (x->sqlite)
		fixture_remove(x->dir);
	free(x);
	return 0;
}

static void test_empty(void **state)
{
	struct ctx *x = *state;
	struct log_commit c;
	struct base_hash chain = log_last_chain(x->log);
	uint64_t bad = 99;

	assert_int_equal(log_last_seq(x->log), 0);
	assert_true(base_hash_is_zero(&chain));
	assert_int_equal(log_read(x->reader, 1, &c, &x->err), -ENOENT);
	assert_int_equal(log_read(x->reader, 0, &c, &x->err), -ENOENT);
	assert_int_equal(log_each(x->reader, 1, NULL, NULL, &x->err), 0);
	assert_int_equal(log_verify(x->reader, &bad, NULL, NULL, &x->err), 0);
	assert_int_equal(bad, 99);
}

static void test_append_read(void **state)
{
	struct ctx *x = *state;
	struct log_commit c;
	struct base_hash before = {{0}};

	for (unsigned i = 1; i <= 200; i++) {
		struct base_hash now;

		assert_int_equal(
			fixture_append(x->log, i % 5 + 1, i == 77 ? 300000 : 60, NULL, 0, &x->err), 0);
		now = log_last_chain(x->log);
		assert_false(base_hash_eq(&now, &before));
		before = now;
	}
	for (uint64_t seq = log_last_seq(x->log); seq >= 1; seq--) {
		assert_int_equal(log_read(x->reader, seq, &c, &x->err), 0);
		assert_true(c.first_seq <= seq && seq < c.first_seq + c.count);
		fixture_check(&c, c.block.len > 100000 ? 300000 : 60);
	}
	assert_int_equal(log_read(x->reader, log_last_seq(x->log) + 1, &c, &x->err), -ENOENT);
	assert_int_equal(log_read(x->reader, UINT64_MAX, &c, &x->err), -ENOENT);
}

static void test_roots_are_what_they_say(void **state)
{
	struct ctx *x = *state;
	struct base_hash before = {{0}};
	struct log_commit c;
	uint8_t in[84];

	for (unsigned i = 0; i < 3; i++) {
		struct base_hash leaves[4], root, chain;
		struct base_reader r;
		size_t n = 0;

		assert_int_equal(fixture_append(x->log, i + 2, 50, NULL, 0, &x->err), 0);
		assert_int_equal(log_read(x->reader, log_last_seq(x->log), &c, &x->err), 0);
		r = base_reader_of(c.block);
		while (r.at < r.end)
			leaves[n++] = base_merkle_leaf(base_get_str(&r));
		assert_int_equal(n, i + 2);
		root = base_merkle_root(leaves, n);
		assert_memory_equal(root.b, c.root.b, 32);
		memcpy(in, before.b, 32);
		memcpy(in + 32, root.b, 32);
		for (unsigned k = 0; k < 8; k++) {
			in[64 + k] = (uint8_t)(c.first_seq >> 8 * k);
			in[76 + k] = (uint8_t)((uint64_t)c.time_ms >> 8 * k);
		}
		for (unsigned k = 0; k < 4; k++)
			in[72 + k] = (uint8_t)(c.count >> 8 * k);
		chain = base_hash_of((struct base_str){(const char *)in, sizeof(in)});
		assert_memory_equal(chain.b, c.chain.b, 32);
		before = chain;
	}
}

static void test_refused(void **state)
{
	struct ctx *x = *state;
	struct log_commit c = {.first_seq = 2, .count = 1};
	char event[] = "\x03"
		       "abc";
	char overlong[] = "\x83\x00"
			  "abc";

	c.block = (struct base_str){event, 4};
	assert_int_equal(log_append(x->log, &c, NULL, 0, &x->err), -EINVAL);
	c.first_seq = 1;
	c.count = 2;
	assert_int_equal(log_append(x->log, &c, NULL, 0, &x->err), -EINVAL);
	c.count = 0;
	assert_int_equal(log_append(x->log, &c, NULL, 0, &x->err), -EINVAL);
	c.count = 1;
	c.block.len = 3;
	assert_int_equal(log_append(x->log, &c, NULL, 0, &x->err), -EINVAL);
	c.block = (struct base_str){overlong, 5};
	assert_int_equal(log_append(x->log, &c, NULL, 0, &x->err), -EINVAL);
	assert_int_equal(log_last_seq(x->log), 0);
	c.block = (struct base_str){event, 4};
	assert_int_equal(log_append(x->log, &c, NULL, 0, &x->err), 0);
	assert_int_equal(log_append(x->log, &c, NULL, 0, &x->err), -EINVAL);
	assert_int_equal(log_last_seq(x->log), 1);
}

static void test_bodies(void **state)
{
	struct ctx *x = *state;
	size_t big_len = 3 << 20;
	char *big = malloc(big_len);
	struct log_body b[3];
	struct base_str got;
	struct base_hash none = {{1}};
	struct log_commit c;

	memset(big, 'x', big_len);
	b[0] = fixture_body((struct base_str){big, big_len});
	b[1] = fixture_body(BASE_STR("small"));
	b[2] = fixture_body(BASE_STR_NONE);
	assert_int_equal(fixture_append(x->log, 2, 40, b, 3, &x->err), 0);
	assert_int_equal(fixture_append(x->log, 1, 40, b, 2, &x->err), 0); /* the same again: stored once */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(log_read_body(x->reader, &b[i].hash, &got, &x->err), 0);
		assert_true(base_str_eq(got, b[i].data));
	}
	assert_int_equal(log_read(x->reader, 1, &c, &x->err), 0);
	assert_int_equal(log_read_body(x->reader, &b[0].hash, &got, &x->err), 0);
	fixture_check(&c, 40); /* reading a body leaves the commit's view */
	assert_int_equal(log_read_body(x->reader, &none, &got, &x->err), -ENOENT);
	assert_int_equal(log_verify(x->reader, NULL, NULL, NULL, &x->err), 0);
	free(big);
}

struct walk {
	uint64_t next;
	unsigned calls;
	unsigned stop_after;
};

static int walk_one(void *userdata, const struct log_commit *c)
{
	struct walk *w = userdata;

	assert_int_equal(c->first_seq, w->next);
	fixture_check(c, 40);
	w->next += c->count;
	return ++w->calls == w->stop_after ? 42 : 0;
}

static void test_each(void **state)
{
	struct ctx *x = *state;
	struct walk w = {.next = 1};

	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(fixture_append(x->log, 3, 40, NULL, 0, &x->err), 0);
	assert_int_equal(log_each(x->reader, 0, walk_one, &w, &x->err), 0);
	assert_int_equal(w.calls, 1000);
	w = (struct walk){.next = 1501 / 3 * 3 + 1};
	assert_int_equal(log_each(x->reader, w.next + 1, walk_one, &w, &x->err), 0);
	assert_int_equal(w.next, 3001);
	w = (struct walk){.next = 1, .stop_after = 7};
	assert_int_equal(log_each(x->reader, 1, walk_one, &w, &x->err), 42);
	assert_int_equal(w.calls, 7);
	assert_int_equal(log_each(x->reader, 3001, walk_one, &w, &x->err), 0);
	assert_int_equal(w.calls, 7);
}

static void count_progress(void *userdata, uint64_t seq)
{
	uint64_t *last = userdata;

	assert_true(seq > *last);
	*last = seq;
}

static void test_verify(void **state)
{
	struct ctx *x = *state;
	uint64_t progress = 0;

	for (unsigned i = 0; i < 1100; i++)
		assert_int_equal(fixture_append(x->log, 2, 40, NULL, 0, &x->err), 0);
	assert_int_equal(log_verify(x->reader, NULL, count_progress, &progress, &x->err), 0);
	assert_int_equal(progress, 2200);
}

static void test_snapshots(void **state)
{
	struct ctx *x = *state;
	struct base_hash state_hash = {{7}};
	uint64_t seq = 0;
	char *data = NULL;
	size_t len = 0;

	assert_int_equal(log_snapshot_get(x->log, UINT64_MAX, &seq, &data, &len, &x->err), -ENOENT);
	assert_int_equal(log_snapshot_put(x->log, 1, &state_hash, BASE_STR("too early"), &x->err), -EINVAL);
	assert_int_equal(fixture_append(x->log, 30, 40, NULL, 0, &x->err), 0);
	assert_int_equal(log_snapshot_put(x->log, 10, &state_hash, BASE_STR("ten"), &x->err), 0);
	assert_int_equal(log_snapshot_put(x->log, 20, &state_hash, BASE_STR("twenty"), &x->err), 0);
	assert_int_equal(log_snapshot_put(x->log, 30, &state_hash, BASE_STR("thirty"), &x->err), 0);
	assert_int_equal(log_snapshot_get(x->log, UINT64_MAX, &seq, &data, &len, &x->err), 0);
	assert_int_equal(seq, 30);
	assert_int_equal(len, 6);
	assert_memory_equal(data, "thirty", 6);
	free(data);
	assert_int_equal(log_snapshot_get(x->log, 29, &seq, &data, &len, &x->err), 0);
	assert_int_equal(seq, 20);
	assert_memory_equal(data, "twenty", 6);
	free(data);
	assert_int_equal(log_snapshot_get(x->log, 19, &seq, &data, &len, &x->err), -ENOENT);
}

struct race {
	struct ctx *x;
	atomic_bool stop;
	unsigned seen;
	const char *failed;
};

/* Reads at the head all the time, through a reader of its own. */
static void *race_read(void *userdata)
{
	struct race *r = userdata;
	struct log_reader *reader;
	struct log_commit c;
	struct base_err err;

	if (log_reader_new(r->x->log, &reader, &err) < 0) {
		r->failed = "no reader";
		return NULL;
	}
	while (!atomic_load(&r->stop)) {
		uint64_t seq = log_last_seq(r->x->log);

		if (seq == 0)
			continue;
		if (log_read(reader, seq, &c, &err) < 0 || c.first_seq + c.count - 1 < seq) {
			r->failed = "what was acknowledged cannot be read";
			break;
		}
		r->seen++;
	}
	if (log_verify(reader, NULL, NULL, NULL, &err) < 0)
		r->failed = "does not verify";
	log_reader_free(reader);
	return NULL;
}

static void test_read_while_appending(void **state)
{
	struct ctx *x = *state;
	struct race r = {.x = x};
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, race_read, &r), 0);
	for (unsigned i = 0; i < 1500; i++) {
		assert_int_equal(fixture_append(x->log, 2, 3000, NULL, 0, &x->err), 0);
		if (i % 100 == 0)
			log_idle(x->log);
	}
	atomic_store(&r.stop, true);
	pthread_join(t, NULL);
	if (r.failed)
		fail_msg("%s", r.failed);
}

static void test_reopen(void **state)
{
	struct ctx *x = *state;
	struct base_hash chain, again;
	struct base_str got;
	struct log_body b = fixture_body(BASE_STR("kept"));

	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(fixture_append(x->log, 2, 500, &b, 1, &x->err), 0);
	chain = log_last_chain(x->log);
	close_log(x);
	open_log(x);
	again = log_last_chain(x->log);
	assert_int_equal(log_last_seq(x->log), 100);
	assert_memory_equal(chain.b, again.b, 32);
	assert_int_equal(log_read_body(x->reader, &b.hash, &got, &x->err), 0);
	assert_int_equal(fixture_append(x->log, 2, 500, NULL, 0, &x->err), 0);
	assert_int_equal(log_verify(x->reader, NULL, NULL, NULL, &x->err), 0);
}

#define BOTH(f)                                                                                              \
	{#f " memory", f, setup_memory, teardown, NULL},                                                     \
	{                                                                                                    \
#f " sqlite", f, setup_sqlite, teardown, NULL                                                \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_empty),
		BOTH(test_append_read),
		BOTH(test_roots_are_what_they_say),
		BOTH(test_refused),
		BOTH(test_bodies),
		BOTH(test_each),
		BOTH(test_verify),
		BOTH(test_snapshots),
		BOTH(test_read_while_appending),
		{"test_reopen sqlite", test_reopen, setup_sqlite, teardown, NULL},
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
