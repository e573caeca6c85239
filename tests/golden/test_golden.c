/*
 * Histories that earlier builds recorded (tools/golden NAME): this build reads them, folds them, and says of every run what
 * the build that recorded it said. argv[1]: the folder that holds them.
 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/json.h"
#include "core/actions.h"
#include "core/core.h"
#include "log/log.h"

static const char *folder;

struct golden {
	char dir[256]; /* a copy: opening a log of an older format takes it over */
	struct base_json *doc;
	struct base_jv root;
	struct log *log;
	struct log_reader *reader;
	struct base_err err;
};

static void read_file(const char *path, struct base_buf *ret)
{
	FILE *f = fopen(path, "rb");
	size_t n;
	char *to;

	assert_non_null(f);
	base_buf_init(ret, 64 << 20);
	while ((to = base_buf_reserve(ret, 65536)) && (n = fread(to, 1, 65536, f)) > 0)
		base_buf_commit(ret, n);
	fclose(f);
}

static void write_file(const char *path, struct base_str text)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(text.ptr, 1, text.len, f), text.len);
	fclose(f);
}

static void open_golden(struct golden *g, const char *name)
{
	const char *tmp = getenv("TMPDIR");
	char path[1024];
	struct base_buf b;

	memset(g, 0, sizeof(*g));
	snprintf(path, sizeof(path), "%s/%s/golden.json", folder, name);
	read_file(path, &b);
	assert_int_equal(base_json_parse(base_buf_view(&b), &g->doc, &g->err), 0);
	g->root = base_json_root(g->doc);
	base_buf_done(&b);
	snprintf(g->dir, sizeof(g->dir), "%s/aios-golden-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(g->dir));
	snprintf(path, sizeof(path), "%s/%s/log.db", folder, name);
	read_file(path, &b);
	snprintf(path, sizeof(path), "%s/log.db", g->dir);
	write_file(path, base_buf_view(&b));
	base_buf_done(&b);
	if (log_open_sqlite(g->dir, &g->log, &g->err) < 0)
		fail_msg("%s: %s", name, g->err.text);
	assert_int_equal(log_reader_new(g->log, &g->reader, &g->err), 0);
}

static void remove_folder(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[1024];

	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (unlink(path) < 0)
			remove_folder(path);
	}
	if (d)
		closedir(d);
	rmdir(dir);
}

static void close_golden(struct golden *g)
{
	log_reader_free(g->reader);
	log_close(g->log);
	remove_folder(g->dir);
	base_json_free(g->doc);
}

static struct core *fresh(void)
{
	struct base_err err;
	struct core *c;

	assert_int_equal(core_new(&c), 0);
	for (size_t i = 0; i < core_actions_count; i++)
		assert_int_equal(core_catalogue_add(c, core_actions[i], &err), 0);
	return c;
}

struct fold {
	struct core *core;
	uint64_t until;
};

static int fold_commit(void *userdata, const struct log_commit *c)
{
	struct fold *f = userdata;
	struct core_record rec;
	size_t at = 0;

	if (c->first_seq > f->until)
		return 1;
	for (uint64_t seq = c->first_seq; core_block_next(c->block, &at, &rec) == 1; seq++)
		if (seq > core_seq(f->core))
			core_apply(f->core, seq, &rec, NULL, NULL);
	return 0;
}

/* Up to the end of the commit that holds `until`: within a decision not every invariant holds. */
static struct core *fold(struct golden *g, struct core *from, uint64_t until)
{
	struct fold f = {from ? from : fresh(), until};

	assert_true(log_each(g->reader, core_seq(f.core) + 1, fold_commit, &f, &g->err) >= 0);
	assert_true(core_seq(f.core) >= until);
	core_check(f.core);
	return f.core;
}

static uint64_t number(struct base_jv v, const char *name)
{
	return (uint64_t)base_jv_int(base_jv_get(v, name), 0);
}

/* A run that was open has the same state and the same finished steps, at the same positions. */
static void check_open(const struct core *c, struct base_jv r, const struct core_run_info *info)
{
	static const char *const names[] = {[CORE_RUN_ACTIVE] = "active",
		[CORE_RUN_PARKED] = "parked",
		[CORE_RUN_QUEUED] = "queued",
		[CORE_RUN_PAUSED] = "paused"};
	struct base_jv steps = base_jv_get(r, "steps");
	struct core_journal_entry j[256];
	size_t n = core_run_journal(c, number(r, "run"), j, 256), done = 0;

	assert_true(base_str_is(base_jv_str(base_jv_get(r, "state")), names[info->state]));
	assert_int_equal(info->steps, base_jv_len(steps));
	for (size_t i = 0; i < n; i++)
		assert_int_equal(j[i].seq, base_jv_int(base_jv_at(base_jv_at(steps, j[i].step), 3), 0));
	for (size_t i = 0; i < base_jv_len(steps); i++)
		done += base_jv_int(base_jv_at(base_jv_at(steps, i), 3), 0) != 0;
	assert_int_equal(n, done);
}

/* What the log says at the positions that were recorded. */
static void check_event(struct golden *g, uint64_t seq, unsigned type, uint64_t run)
{
	union core_event_any e;
	struct core_record rec;
	struct log_commit c;
	size_t at = 0;

	assert_int_equal(log_read(g->reader, seq, &c, &g->err), 0);
	for (uint64_t i = c.first_seq; i <= seq; i++)
		assert_int_equal(core_block_next(c.block, &at, &rec), 1);
	assert_int_equal(rec.type, type);
	assert_int_equal(core_event_get(rec.type, rec.body, &e), 0);
	assert_int_equal(type == CORE_EV_RUN_STARTED ? e.run_started.run : e.run_ended.run, run);
}

static void check_runs(struct golden *g, const struct core *c)
{
	struct base_jv_iter it = {0};
	struct core_run_info info;
	struct base_str none;
	struct base_jv r;

	while (base_jv_next(base_jv_get(g->root, "runs"), &it, &none, &r)) {
		uint64_t run = number(r, "run"), ended = number(r, "seq_ended");
		bool known = core_run_get(c, run, &info);

		check_event(g, number(r, "seq"), CORE_EV_RUN_STARTED, run);
		if (ended)
			check_event(g, ended, CORE_EV_RUN_ENDED, run);
		else
			assert_true(known);
		if (known && !ended) {
			assert_true(base_str_eq(info.flow, base_jv_str(base_jv_get(r, "flow"))));
			check_open(c, r, &info);
		}
	}
}

/* The state as bytes and back; and its hash as recorded, where this build writes states in that form. */
static void check_state(struct golden *g, const struct core *c)
{
	struct base_hash live = core_state_hash(c), again, want;
	struct base_reader r;
	struct base_buf b;
	struct core *restored = fresh();

	base_buf_init(&b, 1 << 30);
	assert_int_equal(core_snapshot(c, &b), 0);
	assert_int_equal(core_restore(restored, base_buf_view(&b), &g->err), 0);
	again = core_state_hash(restored);
	assert_true(base_hash_eq(&live, &again));
	core_free(restored);
	r = base_reader_of(base_buf_view(&b));
	if (base_get_u64(&r) == number(g->root, "state_format")) {
		assert_int_equal(base_hash_from_hex(base_jv_str(base_jv_get(g->root, "state")), &want), 0);
		assert_true(base_hash_eq(&live, &want));
	}
	base_buf_done(&b);
}

/* The same from its middle on, and with its first half in the archive. */
static void check_halves(struct golden *g, const struct core *whole, uint64_t last)
{
	struct log_archive_plan p = {.before_ms = INT64_MAX, .keep_seq = last / 2};
	struct base_hash want = core_state_hash(whole), got;
	struct log_archived a;
	struct core *c;

	c = fold(g, fold(g, NULL, last / 2), last);
	got = core_state_hash(c);
	core_free(c);
	assert_true(base_hash_eq(&want, &got));
	assert_int_equal(log_archive_make(g->reader, &p, &a, &g->err), 0);
	log_archive_release(g->log, a.last_seq);
	while (log_idle(g->log))
		;
	c = fold(g, NULL, last);
	got = core_state_hash(c);
	core_free(c);
	assert_true(base_hash_eq(&want, &got));
}

static void replay(const char *name)
{
	struct base_hash chain, want;
	struct golden g;
	struct core *c;
	uint64_t last;

	open_golden(&g, name);
	last = number(g.root, "seq");
	assert_int_equal(log_last_seq(g.log), last);
	chain = log_last_chain(g.log);
	assert_int_equal(base_hash_from_hex(base_jv_str(base_jv_get(g.root, "chain")), &want), 0);
	assert_true(base_hash_eq(&chain, &want));
	assert_int_equal(log_verify(g.reader, NULL, NULL, NULL, &g.err), 0);
	c = fold(&g, NULL, number(g.root, "state_seq"));
	check_runs(&g, c);
	check_state(&g, c);
	c = fold(&g, c, last);
	check_halves(&g, c, last);
	core_free(c);
	close_golden(&g);
}

static void test_every_history(void **state)
{
	DIR *d = opendir(folder);
	unsigned count = 0;
	struct dirent *e;
	char path[1024];

	(void)state;
	assert_non_null(d);
	while ((e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s/golden.json", folder, e->d_name);
		if (e->d_name[0] == '.' || access(path, F_OK) < 0)
			continue;
		print_message("%s\n", e->d_name);
		replay(e->d_name);
		count++;
	}
	closedir(d);
	assert_true(count >= 2); /* this release, and the format before it */
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_history)};

	folder = argc > 1 ? argv[1] : "tests/golden";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
