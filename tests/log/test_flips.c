/*
 * Bit flips in every file of a log: database, write-ahead log, archive, snapshot. A read gives what was written or an
 * error, never something else; nothing crashes. Flips are made in a copy, one a time.
 *
 * AIOS_FLIPS=N makes N of them instead of the default.
 */
#include "log/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/prng.h"
#include "fixture.h"

enum { LEN = 300, COMMITS = 160, BODIES = 8, BODY_LEN = 70000, FILES = 16, FLIPS = 600 };

struct piece { /* one file of the whole log */
	char name[300];
	char *data;
	size_t len;
	bool wal;
};

struct ctx {
	struct piece piece[FILES];
	size_t pieces;
	uint64_t last;
	struct base_hash body[BODIES];
	char *body_data[BODIES];
	unsigned detected, harmless, cut;
};

static void read_piece(struct ctx *x, const char *dir, const char *name)
{
	struct piece *p = &x->piece[x->pieces];
	char path[600];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	if (S_ISREG(st.st_mode) && st.st_size && !strstr(name, "lock") && !strstr(name, "-shm")) {
		assert_true(x->pieces < FILES);
		snprintf(p->name, sizeof(p->name), "%s", name);
		p->len = (size_t)st.st_size;
		p->data = malloc(p->len);
		assert_true(p->data && read(fd, p->data, p->len) == st.st_size);
		p->wal = strstr(name, "-wal") != NULL;
		x->pieces++;
	}
	close(fd);
}

static void read_dir(struct ctx *x, const char *dir, const char *below)
{
	char path[600], name[300];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", dir, below);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if (strcmp(e->d_name, "archive") == 0) {
			read_dir(x, dir, "archive");
			continue;
		}
		snprintf(name, sizeof(name), "%s%s%s", below, below[0] ? "/" : "", e->d_name);
		read_piece(x, dir, name);
	}
	if (d)
		closedir(d);
}

/* A third is in the archive, the rest in the database and its write-ahead log, a snapshot beside them. */
static void fill(struct ctx *x, struct log *l)
{
	struct log_archive_plan plan = {.before_ms = COMMITS * 2 / 3 * 1000, .raw_max = 40000};
	struct base_err err = {0};
	struct log_archived a;
	struct log_reader *r;
	struct base_hash state = base_hash_of(BASE_STR("state"));

	for (unsigned i = 0; i < COMMITS; i++) {
		struct log_body b;
		bool with = i % (COMMITS / BODIES) == 0;

		if (with) {
			unsigned k = i / (COMMITS / BODIES);

			x->body_data[k] = malloc(BODY_LEN);
			assert_non_null(x->body_data[k]);
			memset(x->body_data[k], 'a' + (int)k, BODY_LEN);
			b = fixture_body((struct base_str){x->body_data[k], BODY_LEN});
			x->body[k] = b.hash;
		}
		assert_int_equal(fixture_append(l, 1 + i % 3, LEN, &b, with, &err), 0);
	}
	x->last = log_last_seq(l);
	assert_int_equal(log_snapshot_put(l, x->last, &state, BASE_STR("the state"), &err), 0);
	assert_int_equal(log_reader_new(l, &r, &err), 0);
	while (log_archive_make(r, &plan, &a, &err) == 0)
		log_archive_release(l, a.last_seq);
	assert_true(log_archived_seq(l) > 0);
	for (unsigned i = 0; i < 100 && log_idle(l); i++)
		;
	log_reader_free(r);
}

static int setup(void **state)
{
	struct ctx *x = calloc(1, sizeof(*x));
	struct base_err err;
	char dir[256];
	struct log *l;

	assert_non_null(x);
	fixture_dir(dir, sizeof(dir));
	assert_int_equal(log_open_sqlite(dir, &l, &err), 0);
	fill(x, l);
	read_dir(x, dir, ""); /* while it is open: the write-ahead log is there */
	log_close(l);
	fixture_remove(dir);
	assert_true(x->pieces >= 4);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *x = *state;

	for (size_t i = 0; i < x->pieces; i++)
		free(x->piece[i].data);
	for (size_t i = 0; i < BODIES; i++)
		free(x->body_data[i]);
	free(x);
	return 0;
}

static void lay_out(const struct ctx *x, const char *dir)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/archive", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	for (size_t i = 0; i < x->pieces; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/%s", dir, x->piece[i].name);
		fd = open(path, O_WRONLY | O_CREAT, 0600);
		assert_true(
			fd >= 0 && write(fd, x->piece[i].data, x->piece[i].len) == (ssize_t)x->piece[i].len);
		close(fd);
	}
}

/* The events are those that were written: the bytes, not only the hashes. */
static int is_right(void *userdata, const struct log_commit *c)
{
	struct base_buf block;

	(void)userdata;
	base_buf_init(&block, SIZE_MAX);
	for (unsigned i = 0; i < c->count; i++)
		fixture_event(&block, c->first_seq + i, LEN);
	assert_int_equal(block.len, c->block.len);
	assert_memory_equal(block.ptr, c->block.ptr, block.len);
	base_buf_done(&block);
	return 0;
}

/* Reads everything in every way. True: something was wrong and was noticed. */
static bool read_all(struct ctx *x, struct log *l, struct base_prng *p)
{
	struct base_err err = {0};
	struct log_commit c;
	struct log_reader *r;
	bool noticed = false;
	struct base_str body;
	uint64_t seq;
	size_t len;
	char *data;

	if (log_reader_new(l, &r, &err) < 0)
		return true;
	noticed |= log_each(r, 1, is_right, NULL, &err) < 0;
	for (unsigned i = 0; i < 20; i++) {
		seq = 1 + base_prng_below(p, x->last);
		if (log_read(r, seq, &c, &err) == 0)
			is_right(NULL, &c);
		else
			noticed = true;
	}
	for (unsigned i = 0; i < BODIES; i++) {
		if (log_read_body(r, &x->body[i], &body, &err) < 0) {
			noticed = true;
			continue;
		}
		assert_int_equal(body.len, BODY_LEN);
		assert_memory_equal(body.ptr, x->body_data[i], BODY_LEN);
	}
	if (log_snapshot_get(l, x->last, &seq, &data, &len, &err) == 0) {
		assert_true(seq == x->last && len == 9 && memcmp(data, "the state", 9) == 0);
		free(data);
	} else {
		noticed = true;
	}
	noticed |= log_verify(r, NULL, NULL, NULL, &err) < 0;
	log_reader_free(r);
	return noticed;
}

static void flip_one(struct ctx *x, struct base_prng *p)
{
	struct piece *piece = &x->piece[base_prng_below(p, x->pieces)];
	size_t at = base_prng_below(p, piece->len);
	char bit = (char)(1 << base_prng_below(p, 8)), dir[256];
	struct base_err err = {0};
	struct log *l;

	fixture_dir(dir, sizeof(dir));
	piece->data[at] ^= bit;
	lay_out(x, dir);
	piece->data[at] ^= bit;
	if (log_open_sqlite(dir, &l, &err) < 0) {
		assert_true(strlen(err.text) > 10);
		x->detected++;
	} else {
		/* The write-ahead log ends where it is damaged: what is lost is its tail, and nothing looks like it. */
		bool cut = log_last_seq(l) < x->last;

		if (cut && !piece->wal)
			fail_msg("%s byte %zu: the log ends at %llu of %llu and says nothing", piece->name,
				at, (unsigned long long)log_last_seq(l), (unsigned long long)x->last);
		if (read_all(x, l, p))
			x->detected++;
		else if (cut)
			x->cut++;
		else
			x->harmless++;
		log_close(l);
	}
	fixture_remove(dir);
}

static void fault_69_flipped_log_files(void **state)
{
	const char *wanted = getenv("AIOS_FLIPS");
	long flips = wanted ? atol(wanted) : FLIPS;
	struct base_prng p = base_prng_of_u64(7);
	struct ctx *x = *state;

	for (long i = 0; i < flips; i++)
		flip_one(x, &p);
	print_message("%ld flips in %zu files: %u detected, %u harmless, %u shortened the write-ahead log, 0 "
		      "wrong reads\n",
		flips, x->pieces, x->detected, x->harmless, x->cut);
	assert_true(x->detected > 0 && x->harmless > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(fault_69_flipped_log_files, setup, teardown)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
