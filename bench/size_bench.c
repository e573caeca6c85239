/*
 * usage: size_bench fill LOG FLOW COUNT DUE_MS [STEPS]
 *        size_bench fold LOG
 *
 * fill: decides COUNT runs of FLOW that have done STEPS steps and sleep until DUE_MS from now (0: they have ended), as
 * aiosd would, and appends them to the log in the folder LOG (nobody else may have it open). A log without the flow gets a flow of that
 * name. fold: what a start costs, without aiosd: the fold from zero, the memory that the state takes, the snapshot and
 * its way back, beside what hashing and copying the same bytes costs. One JSON object each.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/prng.h"
#include "core/actions.h"
#include "core/core.h"
#include "log/log.h"

enum { GROUP = 64 << 10 };

static const char flow_of[] =
	"{\"flows\":[{\"name\":\"%s\",\"version\":"
	"\"00000000000000000000000000000000000000000000000000000000000000aa\",\"modules\":{\"entry\":\"f\"},"
	"\"spec\":{},\"grants\":[\"test.*\"]}],\"policy\":{\"rules\":[{\"on\":\"*\",\"then\":\"allow\"}]}}";

/* Of this thread alone: others may have the machine meanwhile. */
static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void die(const char *what)
{
	fprintf(stderr, "size_bench: %s\n", what);
	exit(1);
}

/* What malloc has handed out, without what it keeps for later. */
static double heap_bytes(void)
{
	struct mallinfo2 m = mallinfo2();

	return (double)m.uordblks + (double)m.hblkhd;
}

static struct core *new_core(void)
{
	struct base_err err = {0};
	struct core *c;

	if (core_new(&c) < 0)
		die("out of memory");
	for (size_t i = 0; i < core_actions_count; i++)
		if (core_catalogue_add(c, core_actions[i], &err) < 0)
			die(err.text);
	return c;
}

/* --- folding --- */

struct fold {
	struct core *core;
	double longest;
	uint64_t bytes;
};

static int fold_commit(void *userdata, const struct log_commit *commit)
{
	struct fold *f = userdata;
	struct core_record rec;
	size_t at = 0;

	f->bytes += commit->block.len;
	while (core_block_next(commit->block, &at, &rec) == 1)
		core_apply(f->core, core_seq(f->core) + 1, &rec, NULL, NULL);
	return 0;
}

/* The commits in memory, so that the fold alone is timed. */
struct blocks {
	struct base_buf data;
	size_t *end;
	size_t count, size;
};

static int keep_commit(void *userdata, const struct log_commit *commit)
{
	struct blocks *b = userdata;

	if (b->count == b->size) {
		b->size = b->size ? b->size * 2 : 1024;
		b->end = realloc(b->end, b->size * sizeof(*b->end));
		if (!b->end)
			die("out of memory");
	}
	base_buf_str(&b->data, commit->block);
	b->end[b->count++] = b->data.len;
	return 0;
}

static double fold_blocks(struct fold *f, const struct blocks *b)
{
	double begin = now_s(), at = begin, then;
	size_t from = 0;

	for (size_t i = 0; i < b->count; i++) {
		struct log_commit c = {.block = {b->data.ptr + from, b->end[i] - from}};

		from = b->end[i];
		fold_commit(f, &c);
		then = now_s();
		if (then - at > f->longest)
			f->longest = then - at;
		at = then;
	}
	return now_s() - begin;
}

static double time_hash(struct base_str data)
{
	double at = now_s();
	struct base_hash h = base_hash_of(data);

	__asm__ volatile("" : : "r"(&h) : "memory");
	return now_s() - at;
}

static double time_copy(struct base_str data)
{
	char *to = malloc(data.len + 1);
	double at;

	if (!to)
		die("out of memory");
	memset(to, 1, data.len);
	at = now_s();
	memcpy(to, data.ptr, data.len);
	__asm__ volatile("" : : "r"(to) : "memory");
	at = now_s() - at;
	free(to);
	return at;
}

static void bench_fold(const char *dir)
{
	struct blocks b = {.data = {0}};
	double read_s, fold_s, snap_s, restore_s, before, state;
	struct base_err err = {0};
	struct fold f = {0};
	struct log_reader *r;
	struct base_buf snap;
	struct core *again;
	struct log *l;

	base_buf_init(&b.data, SIZE_MAX);
	base_buf_init(&snap, SIZE_MAX);
	if (log_open_sqlite(dir, &l, &err) < 0 || log_reader_new(l, &r, &err) < 0)
		die(err.text);
	read_s = now_s();
	if (log_each(r, 1, keep_commit, &b, &err) < 0)
		die(err.text);
	read_s = now_s() - read_s;
	before = heap_bytes();
	f.core = new_core();
	fold_s = fold_blocks(&f, &b);
	state = heap_bytes() - before;
	snap_s = now_s();
	if (core_snapshot(f.core, &snap) < 0)
		die("out of memory");
	snap_s = now_s() - snap_s;
	again = new_core();
	restore_s = now_s();
	if (core_restore(again, base_buf_view(&snap), &err) < 0)
		die(err.text);
	restore_s = now_s() - restore_s;
	printf("{\"events\":%llu,\"log_bytes\":%llu,\"read_s\":%.3f,\"fold_s\":%.3f,\"events_per_s\":%.0f,"
	       "\"longest_pause_ms\":%.2f,\"hash_s\":%.3f,\"copy_s\":%.3f,\"state_bytes\":%.0f,"
	       "\"snapshot_bytes\":%zu,\"snapshot_s\":%.3f,\"restore_s\":%.3f,\"snapshot_hash_s\":%.3f}\n",
		(unsigned long long)core_seq(f.core), (unsigned long long)f.bytes, read_s, fold_s,
		(double)core_seq(f.core) / fold_s, f.longest * 1e3, time_hash(base_buf_view(&b.data)),
		time_copy(base_buf_view(&b.data)), state, snap.len, snap_s, restore_s,
		time_hash(base_buf_view(&snap)));
	core_free(again);
	core_free(f.core);
	base_buf_done(&snap);
	base_buf_done(&b.data);
	free(b.end);
	log_reader_free(r);
	log_close(l);
}

/* --- filling --- */

struct fill {
	struct core *core;
	struct log *log;
	struct base_arena *arena;
	struct base_buf block;
	uint64_t first_seq, entropy;
	uint32_t count;
	int64_t now_ms;
	struct base_buf rest; /* runs that are asleep since the last note of it */
	uint64_t rest_last, rest_count;
};

static void commit(struct fill *f)
{
	struct log_commit c = {.first_seq = f->first_seq, .count = f->count, .time_ms = f->now_ms};
	struct base_err err = {0};

	c.block = base_buf_view(&f->block);
	if (f->count && log_append(f->log, &c, NULL, 0, &err) < 0)
		die(err.text);
	base_buf_clear(&f->block);
	f->first_seq = core_seq(f->core) + 1;
	f->count = 0;
}

static uint64_t decide(struct fill *f, struct core_cmd cmd)
{
	size_t at = f->block.len;
	struct core_reply reply;
	struct core_record rec;

	base_arena_reset(f->arena);
	cmd.now_ms = f->now_ms;
	if (cmd.by.id.len == 0)
		cmd.by.id = BASE_STR("operator");
	memcpy(cmd.entropy, &f->entropy, sizeof(f->entropy));
	f->entropy++;
	if (core_decide(f->core, &cmd, f->arena, &f->block, &reply) < 0)
		die("out of memory");
	if (reply.status >= 300) {
		fprintf(stderr, "%.*s\n", BASE_STR_ARG(reply.body));
		die("refused");
	}
	while (core_block_next(base_buf_view(&f->block), &at, &rec) == 1) {
		core_apply(f->core, core_seq(f->core) + 1, &rec, NULL, NULL);
		f->count++;
	}
	if (f->block.len > GROUP)
		commit(f);
	return reply.id;
}

static bool has_flow(const struct core *c, const char *flow)
{
	struct base_buf b;
	char name[256];
	bool has;

	base_buf_init(&b, SIZE_MAX);
	if (core_flows_json(c, &b) < 0)
		die("out of memory");
	base_buf_char(&b, '\0');
	snprintf(name, sizeof(name), "\"name\":\"%s\"", flow);
	has = strstr(b.ptr, name) != NULL;
	base_buf_done(&b);
	return has;
}

static uint64_t add_run(struct fill *f, const char *flow, int64_t i, int64_t due_ms, int steps)
{
	char input[128], args[64];
	uint64_t run;

	snprintf(input, sizeof(input), "{\"customer\":\"c-%lld\",\"days\":30,\"plan\":\"standard\"}",
		(long long)i);
	run = decide(f,
		(struct core_cmd){
			.type = CORE_CMD_RUN_START, .name = base_str_of(flow), .body = base_str_of(input)});
	for (int s = 0; s < steps; s++)
		decide(f, (struct core_cmd){.type = CORE_CMD_FLOW_CALL,
				  .run = run,
				  .step = (uint32_t)s,
				  .name = BASE_STR("timer.sleep"),
				  .body = BASE_STR("{\"ms\":0}")});
	if (due_ms == 0) {
		decide(f, (struct core_cmd){.type = CORE_CMD_FLOW_DONE, .run = run, .step = (uint32_t)steps});
		return run;
	}
	snprintf(args, sizeof(args), "{\"ms\":%lld}", (long long)due_ms);
	decide(f, (struct core_cmd){.type = CORE_CMD_FLOW_CALL,
			  .run = run,
			  .step = (uint32_t)steps,
			  .name = BASE_STR("timer.sleep"),
			  .body = base_str_of(args)});
	return run;
}

/* As aiosd when it takes runs out of memory: noted by the thousand. */
static void rest(struct fill *f, uint64_t run, bool last)
{
	base_put_u64(&f->rest, run - f->rest_last);
	f->rest_last = run;
	if (++f->rest_count < 1000 && !last)
		return;
	decide(f, (struct core_cmd){.type = CORE_CMD_RUNS_REST, .body = base_buf_view(&f->rest)});
	base_buf_clear(&f->rest);
	f->rest_last = f->rest_count = 0;
}

static void bench_fill(const char *dir, const char *flow, int64_t count, int64_t due_ms, int steps)
{
	struct fill f = {.now_ms = wall_ms(), .entropy = 1};
	struct fold old = {0};
	struct base_err err = {0};
	struct log_reader *r;
	char deployment[1024];
	double at;

	base_buf_init(&f.block, SIZE_MAX);
	base_buf_init(&f.rest, SIZE_MAX);
	if (log_open_sqlite(dir, &f.log, &err) < 0 || log_reader_new(f.log, &r, &err) < 0)
		die(err.text);
	f.core = old.core = new_core();
	if (base_arena_new((size_t)1 << 30, &f.arena) < 0)
		die("out of memory");
	if (log_last_seq(f.log) && log_each(r, 1, fold_commit, &old, &err) < 0)
		die(err.text);
	log_reader_free(r);
	f.first_seq = core_seq(f.core) + 1;
	if (!has_flow(f.core, flow)) {
		snprintf(deployment, sizeof(deployment), flow_of, flow);
		decide(&f, (struct core_cmd){.type = CORE_CMD_DEPLOY, .body = base_str_of(deployment)});
	}
	at = now_s();
	for (int64_t i = 0; i < count; i++) {
		uint64_t run = add_run(&f, flow, i, due_ms, steps);

		if (due_ms)
			rest(&f, run, i + 1 == count);
	}
	commit(&f);
	at = now_s() - at;
	printf("{\"runs\":%lld,\"events\":%llu,\"seconds\":%.3f}\n", (long long)count,
		(unsigned long long)core_seq(f.core), at);
	core_free(f.core);
	base_arena_free(f.arena);
	base_buf_done(&f.block);
	base_buf_done(&f.rest);
	log_close(f.log);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "fold") == 0)
		bench_fold(argv[2]);
	else if (argc >= 6 && argc <= 7 && strcmp(argv[1], "fill") == 0)
		bench_fill(argv[2], argv[3], atoll(argv[4]), atoll(argv[5]), argc > 6 ? atoi(argv[6]) : 0);
	else
		die("usage: size_bench fill LOG FLOW COUNT DUE_MS [STEPS] | size_bench fold LOG");
	return 0;
}
