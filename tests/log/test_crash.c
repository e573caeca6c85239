/* Crashes, locks and full disks, with real processes. */
#include "log/log.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
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

struct ctx {
	char dir[256];
	struct base_err err;
};

static int setup(void **state)
{
	struct ctx *x = calloc(1, sizeof(*x));

	fixture_dir(x->dir, sizeof(x->dir));
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

/* Appends for ever and tells each acknowledged position through the pipe. */
static void append_for_ever(const char *dir, int out)
{
	struct base_err err;
	struct log *l;

	if (log_open_sqlite(dir, &l, &err) < 0)
		_exit(1);
	for (unsigned i = 0;; i++) {
		char text[64];
		struct log_body b;
		uint64_t seq;

		snprintf(text, sizeof(text), "body %llu", (unsigned long long)log_last_seq(l) + 1);
		b = fixture_body(base_str_of(text));
		if (fixture_append(l, i % 3 + 1, 700, &b, i % 4 == 0, &err) < 0)
			_exit(2);
		seq = log_last_seq(l);
		if (write(out, &seq, sizeof(seq)) != (ssize_t)sizeof(seq))
			_exit(3);
	}
}

static int check_commit(void *userdata, const struct log_commit *c)
{
	(void)userdata;
	fixture_check(c, 700);
	return 0;
}

/* Every acknowledged append is there after a kill. Returns the last position. */
static uint64_t kill_once(struct ctx *x, unsigned appends)
{
	uint64_t acknowledged = 0, seq, last;
	struct log_reader *r;
	struct log *l;
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		append_for_ever(x->dir, fds[1]);
	}
	close(fds[1]);
	for (unsigned i = 0; read(fds[0], &seq, sizeof(seq)) == (ssize_t)sizeof(seq);) {
		acknowledged = seq;
		if (++i == appends)
			kill(pid, SIGKILL);
	}
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	last = log_last_seq(l);
	assert_true(last >= acknowledged);
	assert_int_equal(log_reader_new(l, &r, &x->err), 0);
	assert_int_equal(log_verify(r, NULL, NULL, NULL, &x->err), 0);
	assert_int_equal(log_each(r, 1, check_commit, NULL, &x->err), 0);
	log_reader_free(r);
	log_close(l);
	return last;
}

static void test_kill(void **state)
{
	uint64_t before = 0;

	for (unsigned i = 0; i < 12; i++) {
		uint64_t last = kill_once(*state, 1 + i * 37);

		assert_true(last > before);
		before = last;
	}
}

static void test_lock(void **state)
{
	struct ctx *x = *state;
	struct log *l, *second;
	char want[32];

	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	assert_int_equal(log_open_sqlite(x->dir, &second, &x->err), -EBUSY);
	snprintf(want, sizeof(want), "pid %ld", (long)getpid());
	assert_non_null(strstr(x->err.text, want));
	assert_int_equal(fixture_append(l, 1, 10, NULL, 0, &x->err), 0);
	log_close(l);
	assert_int_equal(log_open_sqlite(x->dir, &second, &x->err), 0);
	log_close(second);
}

static void set_file_limit(rlim_t limit)
{
	struct rlimit r;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
	r.rlim_cur = limit;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

/* A file that cannot grow behaves as a full disk: refused, nothing kept, and all goes on when there is room
 * again. */
static void test_full_disk(void **state)
{
	struct ctx *x = *state;
	struct log_reader *r;
	struct log_commit c;
	struct log *l;
	uint64_t last;
	int rc = 0;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	assert_int_equal(log_reader_new(l, &r, &x->err), 0);
	assert_int_equal(fixture_append(l, 3, 1000, NULL, 0, &x->err), 0);
	set_file_limit(1 << 20);
	for (unsigned i = 0; rc == 0 && i < 1000; i++)
		rc = fixture_append(l, 2, 10000, NULL, 0, &x->err);
	assert_int_equal(rc, -ENOSPC);
	assert_non_null(strstr(x->err.text, "full"));
	last = log_last_seq(l);
	assert_int_equal(fixture_append(l, 2, 10000, NULL, 0, &x->err), -ENOSPC);
	assert_int_equal(log_last_seq(l), last);
	assert_int_equal(log_read(r, last, &c, &x->err), 0);
	assert_int_equal(log_read(r, last + 1, &c, &x->err), -ENOENT);
	set_file_limit(RLIM_INFINITY);
	assert_int_equal(fixture_append(l, 2, 10000, NULL, 0, &x->err), 0);
	assert_int_equal(log_last_seq(l), last + 2);
	assert_int_equal(log_verify(r, NULL, NULL, NULL, &x->err), 0);
	log_reader_free(r);
	log_close(l);
}

static off_t wal_size(struct ctx *x)
{
	char path[300];
	struct stat st;

	snprintf(path, sizeof(path), "%s/log.db-wal", x->dir);
	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static void test_wal_stays_small(void **state)
{
	struct ctx *x = *state;
	struct log_reader *r;
	struct log_commit c;
	struct log *l;

	assert_int_equal(log_open_sqlite(x->dir, &l, &x->err), 0);
	assert_int_equal(log_reader_new(l, &r, &x->err), 0);
	for (unsigned i = 0; i < 3000; i++) {
		assert_int_equal(fixture_append(l, 1, 2000, NULL, 0, &x->err), 0);
		if (i % 10 == 0)
			assert_int_equal(log_read(r, i / 2 + 1, &c, &x->err), 0);
	}
	assert_true(wal_size(x) < 8 << 20);
	log_reader_free(r);
	log_close(l);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_kill),
		T(test_lock),
		T(test_full_disk),
		T(test_wal_stays_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
