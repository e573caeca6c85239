/*
 * Memory that cannot be had, at one place after the other: the log gives an error and loses nothing, the core gives an
 * error or ends with a message (apply cannot fail; the log is whole and the next start goes on). Nothing leaks, nothing
 * else happens. Each try is a process of its own.
 *
 * AIOS_OOM=1 tries every allocation instead of a part of them.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../log/fixture.h"
#include "allocator.h"
#include "core/actions.h"
#include "core/core.h"
#include "log/log.h"

enum { TRIES_MAX = 100000, EACH = 150, STRIDE = 37 };
enum { FINE, LEAKED = 3, WRONG, NEVER };

typedef int (*scenario_fn)(void);

static char folder[256];

/* --- the log --- */

static int check(void *userdata, const struct log_commit *c)
{
	uint64_t *seen = userdata;

	*seen = c->first_seq + c->count - 1;
	return 0;
}

/* What was acknowledged is there. */
static int read_back(struct log *l, uint64_t acknowledged)
{
	struct base_err err;
	struct log_reader *r;
	struct log_commit c;
	uint64_t seen = 0;
	int rc = log_reader_new(l, &r, &err);

	if (rc < 0)
		return rc;
	rc = log_each(r, 1, check, &seen, &err);
	if (rc == 0 && seen < acknowledged)
		rc = -EPROTO;
	if (rc == 0)
		rc = log_read(r, 1, &c, &err);
	if (rc == 0)
		rc = log_verify(r, NULL, NULL, NULL, &err);
	log_reader_free(r);
	return rc == -EUCLEAN || rc == -ENOENT ? -EPROTO : rc;
}

static int write_log(struct log *l, uint64_t *ret_acknowledged)
{
	struct base_hash state = base_hash_of(BASE_STR("s"));
	struct base_err err;
	uint64_t seq;
	size_t len;
	char *data;
	int rc = 0;

	for (unsigned i = 0; i < 6; i++) {
		struct log_body b = fixture_body(BASE_STR("a body"));
		int one = fixture_append(l, 2, 200, &b, i == 3, &err);

		if (one < 0)
			rc = one;
		*ret_acknowledged = log_last_seq(l);
	}
	log_idle(l);
	if (rc == 0)
		rc = log_snapshot_put(l, log_last_seq(l), &state, BASE_STR("the state"), &err);
	if (rc == 0 && (rc = log_snapshot_get(l, log_last_seq(l), &seq, &data, &len, &err)) == 0)
		free(data);
	return rc;
}

static int log_scenario(void)
{
	uint64_t acknowledged = 0;
	struct base_err err;
	struct log *l;
	int rc = log_open_sqlite(folder, &l, &err);

	if (rc == 0) {
		rc = write_log(l, &acknowledged);
		if (rc == 0)
			rc = read_back(l, acknowledged);
		log_close(l);
	}
	if (rc == -EPROTO)
		return rc;
	/* Whatever happened: with memory again everything that was acknowledged is there. */
	allocator_fail(0, false);
	if (log_open_sqlite(folder, &l, &err) < 0)
		return -EPROTO;
	rc = read_back(l, acknowledged) < 0 ? -EPROTO : 0;
	log_close(l);
	return rc;
}

/* --- the core --- */

static const char deployment[] = "{\"flows\":[{\"name\":\"f\",\"version\":"
				 "\"00000000000000000000000000000000000000000000000000000000000000aa\","
				 "\"modules\":{\"entry\":\"f\"},\"spec\":{},"
				 "\"grants\":[\"test.*\",\"memory.*\",\"gate.*\"]}],\"agents\":[],\"config\":"
				 "{},\"policy\":{\"rules\":[{\"on\":"
				 "\"test.*\",\"when\":\"args.value != "
				 "'x'\",\"then\":\"allow\"},{\"on\":\"test.*\",\"when\":\"args.value == "
				 "'ask'\",\"then\":\"gate\"}]}}";

struct mind {
	struct core *core;
	struct base_arena *arena;
	struct base_buf block;
};

/* A decision that found no memory left nothing behind: it is asked for again. */
static int decide(struct mind *m, struct core_cmd cmd)
{
	struct core_reply reply;
	struct core_record rec;
	int rc = -ENOMEM;
	size_t at = 0;

	cmd.now_ms = 1700000000000;
	cmd.by.id = BASE_STR("operator");
	for (unsigned i = 0; rc == -ENOMEM && i < 2; i++) {
		base_arena_reset(m->arena);
		base_buf_clear(&m->block);
		rc = core_decide(m->core, &cmd, m->arena, &m->block, &reply);
	}
	while (rc == 0 && core_block_next(base_buf_view(&m->block), &at, &rec) == 1)
		core_apply(m->core, core_seq(m->core) + 1, &rec, NULL, NULL);
	return rc;
}

static int make_core(struct core **ret)
{
	struct base_err err;
	int rc = core_new(ret);

	for (size_t i = 0; rc == 0 && i < core_actions_count; i++)
		rc = core_catalogue_add(*ret, core_actions[i], &err);
	return rc;
}

static int think(struct mind *m)
{
	static const char *const calls[][2] = {{"memory.put", "{\"key\":\"k\",\"value\":1}"},
		{"test.once", "{\"value\":\"v\"}"}, {"test.read", "{\"value\":\"ask\"}"},
		{"timer.sleep", "{\"ms\":1000}"}, {"no.such", "{}"}};
	int rc = decide(m, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("t")});

	if (rc == 0)
		rc = decide(m, (struct core_cmd){.type = CORE_CMD_DEPLOY, .body = base_str_of(deployment)});
	if (rc == 0)
		rc = decide(m, (struct core_cmd){.type = CORE_CMD_RUN_START,
				       .name = BASE_STR("f"),
				       .key = BASE_STR("k"),
				       .body = BASE_STR("{}")});
	for (uint32_t i = 0; rc == 0 && i < sizeof(calls) / sizeof(calls[0]); i++)
		rc = decide(m, (struct core_cmd){.type = CORE_CMD_FLOW_CALL,
				       .run = 1,
				       .step = i,
				       .name = base_str_of(calls[i][0]),
				       .body = base_str_of(calls[i][1])});
	if (rc == 0)
		rc = decide(m, (struct core_cmd){.type = CORE_CMD_EFFECT_RESULT,
				       .run = 1,
				       .step = 1,
				       .attempt = 1,
				       .outcome = 1,
				       .body = BASE_STR("1")});
	if (rc == 0)
		rc = decide(m, (struct core_cmd){.type = CORE_CMD_RUN_CANCEL, .run = 1});
	return rc;
}

static int remember(struct mind *m)
{
	struct core *other = NULL;
	struct base_buf snap;
	struct base_err err;
	int rc;

	base_buf_init(&snap, 1 << 24);
	rc = core_snapshot(m->core, &snap);
	if (rc == 0)
		rc = make_core(&other);
	if (rc == 0)
		rc = core_restore(other, base_buf_view(&snap), &err);
	core_free(other);
	base_buf_done(&snap);
	return rc;
}

static int core_scenario(void)
{
	struct mind m = {0};
	int rc = base_arena_new(64 << 20, &m.arena);

	base_buf_init(&m.block, 1 << 24);
	if (rc == 0)
		rc = make_core(&m.core);
	if (rc == 0)
		rc = think(&m);
	if (rc == 0)
		rc = remember(&m);
	core_free(m.core);
	base_arena_free(m.arena);
	base_buf_done(&m.block);
	return 0;
}

/* --- tries --- */

static int child(scenario_fn scenario, long nth, bool for_ever)
{
	long before;
	int rc;

	/* What libraries make once and keep is made before. */
	if (scenario() < 0)
		return WRONG;
	before = allocator_live();
	allocator_fail(nth, for_ever);
	rc = scenario();
	if (!allocator_failed() && nth)
		return rc < 0 ? WRONG : NEVER;
	allocator_fail(0, false);
	if (rc < 0)
		return WRONG;
	return allocator_live() == before ? FINE : LEAKED;
}

/* False: the scenario has no n-th allocation. */
static bool try(scenario_fn scenario, long nth, bool for_ever, bool may_end, unsigned *ended)
{
	int status;
	pid_t pid;

	fixture_dir(folder, sizeof(folder));
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (may_end && !freopen("/dev/null", "w", stderr))
			_exit(WRONG);
		_exit(child(scenario, nth, for_ever));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	fixture_remove(folder);
	if (may_end && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) {
		(*ended)++;
		return true;
	}
	if (!WIFEXITED(status))
		fail_msg("allocation %ld%s: signal %d", nth, for_ever ? " and all after it" : "",
			WTERMSIG(status));
	if (WEXITSTATUS(status) == NEVER)
		return false;
	if (WEXITSTATUS(status) != FINE)
		fail_msg("allocation %ld%s: %s", nth, for_ever ? " and all after it" : "",
			WEXITSTATUS(status) == LEAKED ? "memory leaked"
						      : "something that was acknowledged is lost");
	return true;
}

static void try_all(scenario_fn scenario, bool may_end, const char *what)
{
	bool every = getenv("AIOS_OOM") != NULL;
	unsigned ended = 0;
	long n = 1, tries = 0;

	while (n < TRIES_MAX && try(scenario, n, false, may_end, &ended)) {
		(void)try(scenario, n, true, may_end, &ended);
		tries += 2;
		n += every || n < EACH ? 1 : STRIDE;
	}
	assert_true(n > 20 && n < TRIES_MAX);
	print_message("%s: about %ld allocations, %ld tries, %u of them ended with a message\n", what, n,
		tries, ended);
}

/* A scenario that forgets to free when its second allocation fails: the rig must see it. */
static int leaky_scenario(void)
{
	char *volatile a = malloc(10), *volatile b = a ? malloc(10) : NULL;

	if (!b)
		return 0;
	free(a);
	free(b);
	return 0;
}

static int losing_scenario(void)
{
	void *volatile p = malloc(10);
	int rc = p ? 0 : -EPROTO;

	free(p);
	return rc;
}

static void test_the_rig_sees(void **state)
{
	(void)state;
	assert_int_equal(child(leaky_scenario, 2, false), LEAKED);
	assert_int_equal(child(leaky_scenario, 3, false), NEVER);
	assert_int_equal(child(losing_scenario, 1, false), WRONG);
	allocator_fail(0, false);
}

static void test_log(void **state)
{
	(void)state;
	try_all(log_scenario, false, "log");
}

static void test_core(void **state)
{
	(void)state;
	try_all(core_scenario, true, "core");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_rig_sees),
		cmocka_unit_test(test_core),
		cmocka_unit_test(test_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
