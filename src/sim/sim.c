#include "sim/sim_int.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One seed: lives of aiosd, one after the other, while the plan goes on; then everything heals, and all must come to its
 * end. */

enum { HEAL_EVERY_MS = 5000, SETTLED_MS = 120000, LIVENESS_MS = 24 * 3600 * 1000, OPTIONS_PORT = 7717 };

void *sim_alloc(struct sim *s, size_t size)
{
	void *p = base_arena_alloc(s->arena, size);

	BASE_CHECK(p);
	return p;
}

struct base_str sim_dup(struct sim *s, struct base_str t)
{
	return base_arena_dup(s->arena, t);
}

void sim_say(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (!s->opt->verbose)
		return;
	fprintf(stderr, "%10.3f ", (double)s->now / 1000.0);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void sim_trace(struct sim *s, const void *data, size_t len)
{
	const char *at = data;
	uint64_t h = s->trace ^ (uint64_t)s->now, v;

	for (; len >= 8; at += 8, len -= 8) {
		memcpy(&v, at, 8);
		h = (h ^ v) * 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
	}
	v = 0;
	if (len)
		memcpy(&v, at, len);
	s->trace = (h ^ v ^ len << 56) * 0x9e3779b97f4a7c15u;
}

static void fill(struct sim *s)
{
	struct sim_result *r = s->result;

	r->trace = s->trace;
	r->commands = s->commands;
	r->crashes = s->crashes;
	r->ms = s->now / 1000;
	sim_plan_write(s, r->plan, SIM_PLAN_MAX, &r->plan_len);
}

void sim_broken(struct sim *s, enum sim_verdict v, const char *invariant, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->result->what, sizeof(s->result->what), fmt, ap);
	va_end(ap);
	snprintf(s->result->invariant, sizeof(s->result->invariant), "%s", invariant);
	sim_say(s, "BROKEN %s: %s", invariant, s->result->what);
	fill(s);
	s->result->verdict = v;
	_exit((int)v);
}

/* --- the plan goes on --- */

static void no_progress(struct sim *s)
{
	const struct sim_run_seen *r = s->audit.open_count ? sim_run_seen(s, s->audit.open[0]) : NULL;
	const struct sim_step_seen *st = NULL;

	if (!r)
		sim_broken(
			s, SIM_LIVENESS, "progress", "every run has ended, and aiosd does not come to rest");
	for (uint32_t i = 0; i < r->steps && !st; i++)
		if (!r->step[i].ended)
			st = &r->step[i];
	sim_broken(s, SIM_LIVENESS, "progress",
		"%zu runs do not come to their end; the first is %llu%s%s: %u of %u steps have ended; open: "
		"%.*s, status %u",
		s->audit.open_count, (unsigned long long)r->run, r->parked ? ", parked" : "",
		base_idmap_get(s->owners, r->run) ? ", in a worker" : "", r->ended_steps, r->steps,
		st ? (int)st->action.len : 4, st ? st->action.ptr : "none", st ? st->status : 0);
}

static void next_op(struct sim *s, void *a, uint64_t b);

/* A seed that did too little goes on with its plan. */
static bool goes_on(struct sim *s)
{
	if (s->plan.fixed || s->commands >= s->opt->commands || s->plan.want == s->opt->commands)
		return false;
	s->plan.want = s->opt->commands;
	s->healed = false;
	next_op(s, NULL, 0);
	return true;
}

static void heal_tick(struct sim *s, void *a, uint64_t b)
{
	(void)a;
	(void)b;
	if (s->finished)
		return;
	if (s->audit.open_count == 0 && sim_client_idle(s) && s->engine && s->up && !s->engine->stopping &&
		engine_effects_count(s->engine) == 0 && engine_all_durable(s->engine)) {
		sim_check_fold(s, true);
		sim_check_money(s);
		if (goes_on(s))
			return;
		s->finished = s->stop_asked = s->woken = true;
		return;
	}
	if (s->now / 1000 - s->healed_at > LIVENESS_MS)
		no_progress(s);
	if (s->up && s->now / 1000 - s->healed_at > SETTLED_MS)
		sim_check_overdue(s);
	if (s->up)
		sim_client_heal(s);
	sim_later(s, HEAL_EVERY_MS * 1000, false, heal_tick, NULL, 0);
}

static void heal(struct sim *s)
{
	sim_say(s, "all is healed");
	s->healed = true;
	s->healed_at = s->now / 1000;
	s->crash_in = s->crash_next = 0;
	s->die_now = false;
	s->full_until = s->off_ms = 0;
	s->fail_sync = 0;
	if (sim_wall_ms(s) < s->audit.time_ms)
		s->wall_skew += s->audit.time_ms - sim_wall_ms(s);
	for (size_t i = 0; i < s->proc_count; i++)
		s->procs[i]->stalled = 0;
	heal_tick(s, NULL, 0);
}

static void do_op(struct sim *s, void *a, uint64_t b)
{
	const struct sim_op *op = a;

	(void)b;
	if (op->kind < SIM_OP_QUIET)
		sim_client_op(s, op);
	else
		sim_fault_op(s, op);
	next_op(s, NULL, 0);
}

static void next_op(struct sim *s, void *a, uint64_t b)
{
	struct sim_op op, *kept;

	(void)a;
	(void)b;
	if (!sim_plan_next(s, &op)) {
		heal(s);
		return;
	}
	kept = sim_alloc(s, sizeof(*kept));
	*kept = op;
	sim_later(s, (int64_t)op.dt_ms * (op.kind == SIM_OP_QUIET ? 10000 : 1000), false, do_op, kept, 0);
}

/* --- lives --- */

/* What was under way when aiosd died: its processes go with it, and the commit may or may not be on the disk. */
static void bury(struct sim *s)
{
	struct base_err err;

	if (s->job && !s->job_done && s->engine && s->engine->log && sim_draw(s, SIM_DISK, 2)) {
		int rc = engine_group_append(s->engine->log, s->job, &err);

		sim_say(s, "the commit under way is %s", rc == 0 ? "kept" : "not kept");
	}
	/* The plan goes on from here: only the clock on the wall has seen that time. */
	s->wall_skew += s->off_ms;
	s->off_ms = 0;
	s->job = NULL;
	s->job_done = s->job_event = s->folding = s->woken = s->stop_asked = false;
	while (s->proc_count)
		sim_proc_die(s, s->procs[s->proc_count - 1], SIGKILL);
	sim_client_lost(s);
	base_idmap_free(s->owners);
	BASE_CHECK(base_idmap_new(&s->owners) == 0);
	s->engine = NULL;
	s->up = false;
	s->fd_next = SIM_FD_FIRST;
	memset(s->fds, 0, SIM_FDS * sizeof(*s->fds));
	s->clock = (struct engine_clock){0};
}

void sim_live(struct sim *s)
{
	static const int64_t evict[] = {20, 500, 30000};
	static const uint64_t fold[] = {40, 300, 1000000};
	struct engine_options opt = {.workspace = "/sim",
		.port = OPTIONS_PORT,
		.workers = 2 + (unsigned)(s->opt->seed % 3),
		.evict_ms = evict[s->opt->seed / 3 % 3],
		.fold_after = fold[s->opt->seed / 9 % 3]};
	struct base_err err = {0};
	volatile int rc = 0;
	int64_t until;

	s->life++;
	s->life_time_ms =
		(s->audit.time_ms > sim_wall_ms(s) ? s->audit.time_ms : sim_wall_ms(s)) - s->now / 1000 + 1;
	s->crash_in = s->crash_next ? s->crash_next : s->crash_in;
	s->crash_next = 0;
	if (setjmp(s->death) == 0) {
		rc = engine_run_main(&opt, &err);
		s->engine = NULL;
		sim_say(s, "aiosd ends with %d %s", rc, err.text);
	} else {
		s->crashes++;
	}
	bury(s);
	s->dying = s->die_now = false;
	if (rc != 0 && s->healed)
		sim_broken(s, SIM_CRASH, "start", "aiosd ends with %d: %s", rc, err.text);
	until = s->now + 1000 * (int64_t)(5 + sim_draw(s, SIM_DISK, 500));
	while (!s->finished && sim_step(s, until))
		;
	if (s->now < until)
		s->now = until;
}

void sim_run(const struct sim_options *opt, struct sim_result *ret)
{
	struct sim *s = calloc(1, sizeof(*s));
	const struct log_disk_world disk = {s, sim_disk_append, sim_disk_appended, sim_disk_snapshot};

	BASE_CHECK(s && base_arena_new((size_t)1 << 30, &s->arena) == 0);
	memset(ret, 0, sizeof(*ret));
	s->opt = opt;
	s->result = ret;
	ret->verdict = SIM_CRASH;
	for (unsigned i = 0; i < SIM_STREAMS; i++)
		s->streams[i] = base_prng_of_u64(opt->seed * SIM_STREAMS + i + 1);
	s->fds = sim_alloc(s, SIM_FDS * sizeof(*s->fds));
	s->fd_next = SIM_FD_FIRST;
	base_buf_init(&s->frame, 64 << 20);
	BASE_CHECK(log_disk_new(&disk, &s->disk) == 0 && sim_audit_init(s) == 0 &&
		   base_names_new(&s->versions) == 0 && base_idmap_new(&s->owners) == 0);
	sim_world_set(s);
	s->plan.want = opt->commands * 6 / 10;
	if (opt->plan && sim_plan_parse(s, opt->plan) < 0)
		sim_broken(s, SIM_CRASH, "plan", "the plan cannot be read");
	if (!opt->plan)
		sim_plan_draw(s);
	sim_client_deploy(s, 1);
	sim_later(s, 100000, false, next_op, NULL, 0);
	while (!s->finished || s->engine)
		sim_live(s);
	sim_check_end(s);
	fill(s);
	ret->verdict = SIM_OK;
}
