/*
 * Random programs with undos: runs and their children call, checkpoint, roll back, begin again, end; the outside answers or
 * does not; a person rolls back, cancels, pauses, answers gates; aiosd is started anew. core_check walks the invariants after
 * every command; now and then the log is folded from zero. In the end everything is let through, and the log is read:
 * no step was undone twice, none that did not happen, each rollback went backwards, and nothing hangs.
 *
 * usage: test_undo_random [SEEDS [FIRST]]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "core/undo_int.h"
#include "house.h"

enum { DONE = 1, FAILED, RETRY, UNKNOWN, NOT_FOUND };
enum { COMMANDS = 300, CALLS_MAX = 256, STEPS = 40 };

static const char deployment[] =
	"{\"flows\":[{\"name\":\"f\",\"version\":"
	"\"00000000000000000000000000000000000000000000000000000000000000aa\",\"modules\":{\"entry\":\"f\"},"
	"\"spec\":{},\"grants\":[\"test.*\",\"memory.*\",\"run.*\"]}],"
	"\"policy\":{\"rules\":[{\"on\":\"test.*\",\"then\":\"allow\"},"
	"{\"name\":\"ask\",\"on\":\"test.lookup\",\"when\":\"has(args.ask)\",\"then\":\"gate\"}]}}";

struct outside { /* an attempt that has left */
	uint64_t run;
	uint32_t step, attempt;
	unsigned mode;
};

struct world {
	struct house *h;
	struct base_prng prng;
	struct outside call[CALLS_MAX];
	size_t calls;
	bool kind; /* everything succeeds now */
};

static uint64_t pick(struct world *w, uint64_t n)
{
	return n ? base_prng_next(&w->prng) % n : 0;
}

static void take_acts(struct world *w)
{
	for (size_t i = 0; i < w->h->act_count; i++) {
		const struct house_act *a = &w->h->acts[i];

		if (a->type != CORE_ACT_DISPATCH)
			continue;
		assert_true(w->calls < CALLS_MAX);
		w->call[w->calls++] = (struct outside){a->run, a->step, a->attempt, a->mode};
	}
}

static void command(struct world *w, struct core_cmd cmd)
{
	house_do(w->h, cmd);
	take_acts(w);
}

static void tick(struct world *w)
{
	house_tick(w->h);
	take_acts(w);
}

static void answer(struct world *w)
{
	static const unsigned outcomes[] = {DONE, DONE, DONE, FAILED, RETRY, UNKNOWN};
	size_t i = (size_t)pick(w, w->calls);
	struct outside o;
	unsigned outcome;

	if (!w->calls)
		return;
	o = w->call[i];
	w->call[i] = w->call[--w->calls];
	outcome = w->kind ? DONE : outcomes[pick(w, 6)];
	if (o.mode == 1 && outcome == FAILED)
		outcome = NOT_FOUND;
	command(w, (struct core_cmd){.type = CORE_CMD_EFFECT_RESULT,
			   .run = o.run,
			   .step = o.step,
			   .attempt = o.attempt,
			   .outcome = outcome,
			   .body = outcome == DONE ? BASE_STR("{\"id\":7}") : BASE_STR("{\"code\":\"x\"}")});
}

static uint64_t some_run(struct world *w)
{
	uint64_t last = w->h->core->next_run - 1, back = pick(w, 12);

	return last > back ? last - back : last;
}

static void flow_call(
	struct world *w, const struct core_run *r, const char *action, const char *args, const char *opts)
{
	command(w, (struct core_cmd){.type = CORE_CMD_FLOW_CALL,
			   .run = r->id,
			   .step = r->steps,
			   .name = base_str_of(action),
			   .body = base_str_of(args),
			   .params = base_str_of(opts)});
}

static void flow_moves(struct world *w, const struct core_run *r)
{
	static const char *const effects[] = {"test.once", "test.idempotent", "test.lookup"};
	char opts[256];

	if (r->state != CORE_RUN_ACTIVE || core_run_is_undo(r))
		return;
	if (r->steps >= STEPS) {
		command(w, (struct core_cmd){.type = CORE_CMD_FLOW_DONE,
				   .run = r->id,
				   .step = r->steps,
				   .body = BASE_STR("1")});
		return;
	}
	snprintf(opts, sizeof(opts),
		"{\"undo\":{\"action\":\"%s\",\"args\":{%s\"value\":{\"$result\":\"/%s\"}}}}",
		effects[pick(w, 3)], pick(w, 4) ? "" : "\"value\":1,\"delay_ms\":1,",
		pick(w, 12) ? "id" : "gone");
	switch (pick(w, 12)) {
	case 0:
		flow_call(w, r, "run.call", "{\"flow\":\"f\",\"input\":{}}", pick(w, 2) ? "" : opts);
		break;
	case 1:
		flow_call(w, r, "run.checkpoint", pick(w, 2) ? "{\"name\":\"a\"}" : "{\"name\":\"b\"}", "");
		break;
	case 2:
		flow_call(w, r, "run.rollback", pick(w, 2) ? "{\"to\":\"a\"}" : "{}", "");
		break;
	case 3:
		if (pick(w, 3) == 0)
			flow_call(w, r, "run.again", "{\"state\":{}}", "");
		break;
	case 4:
		if (pick(w, 4))
			break;
		command(w, (struct core_cmd){.type = pick(w, 2) ? CORE_CMD_FLOW_DONE : CORE_CMD_FLOW_FAILED,
				   .run = r->id,
				   .step = r->steps,
				   .body = BASE_STR("{\"code\":\"over\"}")});
		break;
	case 5:
		flow_call(w, r, "memory.put", "{\"key\":\"k\",\"value\":1}",
			"{\"undo\":{\"action\":\"memory.put\",\"args\":{\"key\":\"k\",\"value\":0}}}");
		break;
	default:
		flow_call(w, r, effects[pick(w, 3)], "{\"value\":1}", opts);
		break;
	}
}

static void decide_gate(struct world *w)
{
	static const char *const words[] = {
		"approve", "deny", "happened", "send", "give_up", "retry", "skip", "resume"};
	uint64_t last = w->h->core->next_gate;

	for (uint64_t id = 1; id < last; id++) {
		const struct core_gate *g = core_gate_find(w->h->core, id);
		const char *word = words[pick(w, 8)];

		if (!g || g->decided || (!w->kind && pick(w, 3)))
			continue;
		if (w->kind)
			word = base_str_is(g->kind, "doubt")  ? "happened"
			       : base_str_is(g->kind, "undo") ? "skip"
							      : "approve";
		house_gate(w->h, id, word, base_str_is(base_str_of(word), "happened") ? "{\"id\":7}" : "");
		take_acts(w);
		return;
	}
}

static void person_moves(struct world *w, uint64_t run)
{
	static const enum core_cmd_type types[] = {CORE_CMD_RUN_ROLLBACK, CORE_CMD_RUN_ROLLBACK,
		CORE_CMD_RUN_CANCEL, CORE_CMD_RUN_CANCEL, CORE_CMD_RUN_PAUSE, CORE_CMD_RUN_RESUME,
		CORE_CMD_RUN_RESUME};
	static const char *const params[] = {"", "{\"undo\":true}", "{\"restart\":true}"};

	command(w, (struct core_cmd){.type = types[pick(w, 7)],
			   .run = run,
			   .name = pick(w, 2) ? BASE_STR("a") : BASE_STR_NONE,
			   .params = base_str_of(params[pick(w, 3)])});
}

static void step(struct world *w)
{
	const struct core_run *r = core_run_find(w->h->core, some_run(w));
	uint64_t what = pick(w, 100);

	if (what < 40 && r)
		flow_moves(w, r);
	else if (what < 73)
		answer(w);
	else if (what < 78)
		decide_gate(w);
	else if (what < 81)
		person_moves(w, some_run(w));
	else if (what < 94)
		w->h->now_ms += (int64_t)pick(w, 2000);
	else if (what < 95)
		w->calls = 0;
	else if (base_idmap_count(w->h->core->runs) < 6)
		(void)house_start(w->h, "f", "{}");
	if (what == 94) /* now and then from a backup */
		command(w,
			(struct core_cmd){
				.type = CORE_CMD_START, .text = BASE_STR("again"), .base = pick(w, 3) == 0});
	if (pick(w, 3))
		tick(w);
	if (pick(w, 25) == 0)
		house_check(w->h);
}

/* Everything is let through: nothing may hang. */
static void heal(struct world *w)
{
	w->kind = true;
	for (int i = 0; i < 4000; i++) {
		bool undoing = false;
		size_t cursor = 0;
		uint64_t id;
		void *value;

		w->h->now_ms += 10000;
		tick(w);
		answer(w);
		decide_gate(w);
		while (base_idmap_next(w->h->core->runs, &cursor, &id, &value)) {
			const struct core_run *r = value;

			if (r->state == CORE_RUN_PAUSED) {
				command(w, (struct core_cmd){.type = CORE_CMD_RUN_RESUME, .run = id});
				undoing = true;
				break;
			}
			undoing |= r->state == CORE_RUN_UNDOING || core_run_is_undo(r);
		}
		if (!undoing && !w->calls)
			return;
	}
	fail_msg("a rollback hangs");
}

/* --- what the log says --- */

struct tale {
	uint64_t happened[4096], undone[4096]; /* run << 16 | step */
	size_t happened_count, undone_count;
	uint64_t last[512]; /* by undo run: position of the step that was undone last */
};

static bool has(const uint64_t *list, size_t n, uint64_t what)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == what)
			return true;
	return false;
}

static void read_event(struct tale *t, const struct core_record *rec)
{
	union core_event_any e;
	uint64_t id;

	assert_int_equal(core_event_get(rec->type, rec->body, &e), 0);
	if (rec->type == CORE_EV_STEP_DONE) {
		t->happened[t->happened_count++] = e.step_done.run << 16 | e.step_done.step;
	} else if (rec->type == CORE_EV_STEP_CALLED && e.step_called.status == CORE_STEP_DONE) {
		t->happened[t->happened_count++] = e.step_called.run << 16 | e.step_called.step;
	} else if (rec->type == CORE_EV_STEP_UNDONE) {
		id = e.step_undone.of_run << 16 | e.step_undone.of_step;
		assert_true(has(t->happened, t->happened_count, id));
		assert_false(has(t->undone, t->undone_count,
			id)); /* U1: neither twice nor again after it was given up */
		assert_true(e.step_undone.undo < 512);
		if (t->last[e.step_undone.undo])
			assert_true(e.step_undone.seq <= t->last[e.step_undone.undo]); /* backwards */
		t->last[e.step_undone.undo] = e.step_undone.seq;
		if (e.step_undone.outcome != CORE_FAILED)
			t->undone[t->undone_count++] = id;
	}
	assert_true(t->happened_count < 4096 && t->undone_count < 4096);
}

static size_t judge(const struct house *h)
{
	struct tale *t = calloc(1, sizeof(*t));
	struct core_record rec;
	size_t at = 0, undone;

	assert_non_null(t);
	while (core_block_next(base_buf_view(&h->log), &at, &rec) == 1)
		read_event(t, &rec);
	undone = t->undone_count;
	free(t);
	return undone;
}

static size_t play(uint64_t seed)
{
	struct world w = {0};
	uint8_t bytes[32] = {0};
	void *state = NULL;
	size_t undone;

	memcpy(bytes, &seed, sizeof(seed));
	w.prng = base_prng_of(bytes);
	assert_int_equal(house_set_up(&state, deployment), 0);
	w.h = state;
	(void)house_start(w.h, "f", "{}");
	for (int i = 0; i < COMMANDS; i++)
		step(&w);
	heal(&w);
	undone = judge(w.h);
	assert_int_equal(house_tear_down(&state), 0);
	return undone;
}

static unsigned seeds = 40, first = 1;

static void test_random(void **state)
{
	size_t undone = 0;

	(void)state;
	for (unsigned i = 0; i < seeds; i++) {
		if (seeds != 40)
			fprintf(stderr, "seed %u\n", first + i);
		undone += play(first + i);
	}
	printf("%u seeds, %zu steps undone\n", seeds, undone);
	assert_true(undone > seeds); /* it does what it says */
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

	if (argc > 1)
		seeds = (unsigned)strtoul(argv[1], NULL, 10);
	if (argc > 2)
		first = (unsigned)strtoul(argv[2], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
