#include "sim/sim_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * What is checked between two turns of aiosd, after each of its starts, and when all is healed and over. The numbers
 * are those of README.md; what can be seen where a frame arrives or a commit becomes durable is checked there (worker.c,
 * outside.c, client.c, help.c, audit.c).
 */

enum { CORE_EVERY = 16, FOLD_EVERY = 16, SNAPSHOT_EVERY = 1024 };
static const int64_t overdue_ms = 120000;

/* --- I2: one state --- */

static void compare(struct sim *s, const struct core *c, const char *what)
{
	struct base_hash folded = core_state_hash(c), live = core_state_hash(s->engine->core);

	if (!base_hash_eq(&folded, &live))
		sim_broken(s, SIM_SAFETY, "fold", "%s gives another state than the live one at event %llu",
			what, (unsigned long long)s->engine->seq);
}

static struct core *fresh(struct sim *s)
{
	struct base_err err = {0};
	struct core *c;

	if (engine_core_new(&c, &err) < 0)
		sim_broken(s, SIM_CRASH, "core", "no core: %s", err.text);
	return c;
}

/* The shadow is a state that is folded from the log alone, each commit as it becomes durable, whoever lives or dies. */
void sim_shadow(struct sim *s, const struct log_commit *commit)
{
	struct core_record rec;
	uint64_t seq = commit->first_seq;
	size_t at = 0;

	if (!s->shadow)
		s->shadow = fresh(s);
	while (core_block_next(commit->block, &at, &rec) == 1)
		core_apply(s->shadow, seq++, &rec, NULL, NULL);
}

static void check_snapshot(struct sim *s)
{
	struct engine *e = s->engine;
	struct core *c = fresh(s);
	struct base_err err = {0};
	struct log_reader *r;
	struct base_buf b;
	uint64_t seq = 0;
	size_t len;
	char *data;

	base_buf_init(&b, (size_t)1 << 30);
	BASE_CHECK(core_snapshot(e->core, &b) == 0);
	if (core_restore(c, base_buf_view(&b), &err) < 0)
		sim_broken(s, SIM_SAFETY, "fold", "a snapshot of the live state does not load: %s", err.text);
	compare(s, c, "a snapshot of the live state");
	core_check(c);
	base_buf_done(&b);
	if (log_snapshot_get(e->log, e->durable, &seq, &data, &len, &err) < 0)
		return;
	c = fresh(s);
	BASE_CHECK(log_reader_new(e->log, &r, &err) == 0);
	if (core_restore(c, (struct base_str){data, len}, &err) < 0 ||
		engine_fold(c, r, seq, e->durable, &err) < 0)
		sim_broken(s, SIM_SAFETY, "fold", "the newest snapshot does not load: %s", err.text);
	compare(s, c, "the newest snapshot and what came since");
	log_reader_free(r);
	free(data); /* the states go with the process */
}

void sim_check_fold(struct sim *s, bool snapshot)
{
	struct engine *e = s->engine;

	/* What is not durable yet is not in the shadow. */
	if (e->degraded || e->seq != e->durable || e->durable != s->audit.seq || !s->shadow)
		return;
	s->folds++;
	compare(s, s->shadow, "the log from its start");
	if (snapshot)
		check_snapshot(s);
}

/* --- between two turns --- */

/* A run that is held is in no worker. */
static void check_held(struct sim *s)
{
	struct core_run_info info;

	for (size_t i = 0; i < s->audit.open_count; i++) {
		const struct sim_run_seen *r = sim_run_seen(s, s->audit.open[i]);
		const struct sim_proc *owner = base_idmap_get(s->owners, r->run);

		/* When the log fails all workers are ended, with what was decided since. */
		if (r->paused && owner && owner->alive && !s->engine->degraded &&
			core_run_get(s->engine->core, r->run, &info) && info.state == CORE_RUN_PAUSED)
			sim_broken(s, SIM_SAFETY, "run.held", "run %llu is paused, and a worker has it",
				(unsigned long long)r->run);
	}
}

/* All is over: no money is set aside for anything. */
void sim_check_money(struct sim *s)
{
	struct base_buf b;
	struct base_str all;

	base_buf_init(&b, 1 << 20);
	BASE_CHECK(core_budgets_json(s->engine->core, &b) == 0);
	all = base_buf_view(&b);
	for (const char *at = all.ptr;
		(at = memmem(at, (size_t)(all.ptr + all.len - at), "reserved_nusd\":", 15)); at++)
		if (at[15] != '0')
			sim_broken(s, SIM_SAFETY, "money",
				"every run has ended, and money is set aside: %.*s",
				(int)(all.len < 300 ? all.len : 300), all.ptr);
	base_buf_done(&b);
}

void sim_check_turn(struct sim *s)
{
	struct engine *e = s->engine;
	int64_t due;

	s->turns++;
	if (e->durable > s->audit.seq)
		sim_broken(s, SIM_SAFETY, "ack.lost", "aiosd takes event %llu for durable; the disk has %llu",
			(unsigned long long)e->durable, (unsigned long long)s->audit.seq);
	if (e->seq != core_seq(e->core))
		sim_broken(s, SIM_SAFETY, "seq", "the state stands at event %llu, the engine at %llu",
			(unsigned long long)core_seq(e->core), (unsigned long long)e->seq);
	if (e->pending->block.len > ENGINE_PENDING_MAX + (1 << 20))
		sim_broken(s, SIM_SAFETY, "queue", "%zu bytes wait for a commit", e->pending->block.len);
	due = core_next_due(e->core);
	if (due != INT64_MAX && !e->degraded && !e->stopping) {
		int64_t in = due - engine_wall_ms();

		if (e->armed > s->now / 1000 + (in > 0 ? in : 0))
			sim_broken(s, SIM_SAFETY, "timer.late",
				"something is due in %lld ms, and aiosd will not be woken for it",
				(long long)in);
	}
	/* T5: the wall clock moves time by little, or not at all. */
	if (core_time_ms(e->core) > s->life_time_ms + s->now / 1000)
		sim_broken(s, SIM_SAFETY, "clock", "the log's time went ahead with a jump of the wall clock");
	if (s->turns % CORE_EVERY == 0) {
		core_check(e->core);
		check_held(s);
	}
	if (s->turns % FOLD_EVERY == 0)
		sim_check_fold(s, s->turns % SNAPSHOT_EVERY == 0);
}

void sim_check_recovered(struct sim *s)
{
	core_check(s->engine->core);
	sim_check_fold(s, sim_chance(s, SIM_CHECK, 100));
}

/* --- I9: what a flow did is what its program does with these results --- */

struct model {
	struct sim *s;
	const struct sim_run_seen *r;
	uint32_t calls;
};

static void on_call(
	void *userdata, uint32_t step, const char *action, struct base_str args, struct base_str opts)
{
	struct model *m = userdata;
	struct base_hash h = base_hash_of(args);
	const struct sim_step_seen *st;

	(void)opts;
	m->calls = step + 1;
	if (step >= m->r->steps)
		return;
	st = &m->r->step[step];
	/* What a fork took over answers whatever is asked. */
	if (st->taken && base_str_is(st->action, action))
		return;
	if (!base_str_is(st->action, action) || !base_hash_eq(&st->args, &h))
		sim_broken(m->s, SIM_SAFETY, "replay",
			"run %llu did %.*s %.*s at step %u, where its program does %s %.*s",
			(unsigned long long)m->r->run, BASE_STR_ARG(st->action), BASE_STR_ARG(st->detail),
			step, action, BASE_STR_ARG(args));
}

static void check_program(struct sim *s, const struct sim_run_seen *r)
{
	struct model m = {.s = s, .r = r};
	struct sim_emit emit = {&m, on_call};
	const struct sim_version *v;
	struct sim_run *p;
	char hex[65], value[64];
	uint64_t acc;
	uint32_t steps;
	int ended;

	base_hash_hex(&r->version, hex);
	v = base_names_get(s->versions, base_str_of(hex));
	if (!v || r->own)
		return; /* no worker ever got to it */
	p = sim_program_new(s, sim_program_number(r->input_text, v->salt), v->salt, false);
	sim_program_start(p, &emit);
	for (uint32_t i = 0; i < r->ended_steps; i++) {
		const struct sim_step_seen *st = &r->step[r->order[i]];

		sim_program_result(p, &emit, r->order[i], st->ok, st->result);
	}
	ended = sim_program_ended(p, &steps, &acc);
	snprintf(value, sizeof(value), "{\"v\":%llu}", (unsigned long long)acc);
	if (r->steps > m.calls)
		sim_broken(s, SIM_SAFETY, "replay", "run %llu made %u calls where its program makes %u",
			(unsigned long long)r->run, r->steps, m.calls);
	if (r->outcome == CORE_DONE && !r->next && (ended != 1 || !base_str_is(r->value, value)))
		sim_broken(s, SIM_SAFETY, "replay", "run %llu is done with %.*s where its program says %d %s",
			(unsigned long long)r->run, BASE_STR_ARG(r->value), ended, value);
}

/* I4: what the log says was done was done. */
static void check_deeds(struct sim *s, const struct sim_run_seen *r)
{
	for (uint32_t i = 0; i < r->steps; i++) {
		const struct sim_step_seen *st = &r->step[i];
		const struct sim_deed *d = st->key.len ? sim_deed_of(s, st->key) : NULL;

		if (!st->ended || !st->ok || !st->sent || st->klass < CORE_IDEMPOTENT ||
			!base_str_starts(st->action, BASE_STR("test.")))
			continue;
		if (!d || d->done != 1)
			sim_broken(s, SIM_SAFETY, "effect.phantom",
				"step %u of run %llu is done, and nothing happened", i,
				(unsigned long long)r->run);
	}
}

void sim_check_overdue(struct sim *s)
{
	const struct sim_audit *a = &s->audit;
	/* What the wall clock has not come to yet is not due, whatever time the log had before it was set back. */
	int64_t now = a->time_ms < engine_wall_ms() ? a->time_ms : engine_wall_ms();

	/* After a jump of its clock aiosd holds all timers until its time has come to that of the log. */
	if (engine_wall_ms() < now)
		return;
	for (size_t i = 0; i < a->open_count; i++) {
		const struct sim_run_seen *r = base_idmap_get(a->runs, a->open[i]);

		/* One that is taken back has dropped its waits. */
		for (uint32_t k = 0; !r->stopping && k < r->steps; k++) {
			const struct sim_step_seen *st = &r->step[k];

			if (!st->ended && st->status == CORE_STEP_WAITING && st->due_ms &&
				st->due_ms + overdue_ms < now)
				sim_broken(s, SIM_LIVENESS, "timer.lost",
					"step %u of run %llu was due %lld ms ago", k,
					(unsigned long long)r->run, (long long)(now - st->due_ms));
		}
		if (r->deadline_ms && r->deadline_ms + overdue_ms < now)
			sim_broken(s, SIM_LIVENESS, "timer.lost", "run %llu should have ended %lld ms ago",
				(unsigned long long)r->run, (long long)(now - r->deadline_ms));
	}
	sim_schedules_overdue(s, now);
}

static void check_log(struct sim *s)
{
	struct base_err err = {0};
	struct log_reader *r;
	struct log *l;
	uint64_t bad;

	BASE_CHECK(log_open_disk(s->disk, &l, &err) == 0 && log_reader_new(l, &r, &err) == 0);
	if (log_verify(r, &bad, NULL, NULL, &err) < 0)
		sim_broken(s, SIM_SAFETY, "chain", "the log does not verify: %s", err.text);
	if (log_last_seq(l) != s->audit.seq)
		sim_broken(s, SIM_SAFETY, "ack.lost", "the log ends at event %llu, not at %llu",
			(unsigned long long)log_last_seq(l), (unsigned long long)s->audit.seq);
	log_reader_free(r);
	log_close(l);
}

void sim_check_end(struct sim *s)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	check_log(s);
	while (base_idmap_next(s->audit.runs, &cursor, &id, &value)) {
		check_program(s, value);
		check_deeds(s, value);
	}
}
