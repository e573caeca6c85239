#include "core/actions.h"
#include "engine/near.h"
#include "sim/sim_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

/*
 * The world of aiosd, as src/engine/world.c, committer.c, fold.c, verify.c and workspace.c have it for the real one: a
 * clock that moves when nothing else can happen, entropy from the seed, a disk in memory, a committer that is done
 * when the plan says so, and points at which aiosd dies.
 *
 * The functions that the engine calls have no place for a context: `the` is the simulation of this process.
 */
static struct sim *the;
enum { SPINS_MAX = 10000 };

void sim_world_set(struct sim *s)
{
	the = s;
}

struct sim *sim_the(void)
{
	return the;
}

/* --- what wakes aiosd --- */

int engine_watch(struct engine *e, int fd, struct engine_source *source, uint32_t events)
{
	(void)e;
	(void)events;
	BASE_CHECK(fd >= SIM_FD_FIRST && fd < the->fd_next);
	the->fds[fd - SIM_FD_FIRST].source = source;
	return 0;
}

void engine_unwatch(struct engine *e, int fd)
{
	(void)e;
	if (fd >= SIM_FD_FIRST && fd < the->fd_next)
		the->fds[fd - SIM_FD_FIRST].source = NULL;
}

static void ring(struct sim *s, void *a, uint64_t b)
{
	(void)a;
	if (b != s->alarm || !s->engine)
		return;
	s->engine->armed = INT64_MAX;
	s->woken = true;
}

void engine_arm(struct engine *e, int64_t when)
{
	(void)e;
	sim_later(the, when * 1000 - the->now, true, ring, NULL, ++the->alarm);
}

static size_t collect(struct sim *s, int ready[64])
{
	size_t n = 0;

	for (int i = 0; i < s->fd_next - SIM_FD_FIRST && n < 64; i++)
		if (s->fds[i].ready && s->fds[i].source)
			ready[n++] = i;
	return n;
}

/* Frames and deaths, in any order that epoll could give them in. */
static void dispatch(struct sim *s, struct engine *e)
{
	int ready[64];
	size_t n = collect(s, ready);

	for (size_t i = n; i > 1; i--) {
		size_t k = sim_draw(s, SIM_NET, i);
		int t = ready[i - 1];

		ready[i - 1] = ready[k];
		ready[k] = t;
	}
	if (s->stop_asked) {
		s->stop_asked = false;
		engine_stop(e);
	}
	if (s->job_event) {
		s->job_event = false;
		engine_committed(e);
	}
	for (size_t i = 0; i < n; i++) {
		struct sim_fd *f = &s->fds[ready[i]];

		if (!f->ready || !f->source)
			continue;
		f->ready = false;
		f->source->fn(e, f->source, EPOLLIN);
	}
}

void engine_wait(struct engine *e, int timeout_ms)
{
	struct sim *s = the;
	int64_t until = timeout_ms < 0 ? INT64_MAX : s->now + (int64_t)timeout_ms * 1000;
	int ready[64];

	if (!s->up) {
		s->up = true;
		sim_check_recovered(s);
	}
	sim_check_turn(s);
	s->spins = timeout_ms == 0 ? s->spins + 1 : 0;
	if (s->spins > SPINS_MAX)
		sim_broken(s, SIM_LIVENESS, "spin", "aiosd turns without waiting, and nothing comes of it");
	while (!s->woken && !s->job_event && !collect(s, ready)) {
		if (sim_step(s, until))
			continue;
		if (until == INT64_MAX)
			sim_broken(s, SIM_LIVENESS, "stuck", "nothing will ever happen again");
		s->now = until;
		break;
	}
	s->woken = false;
	if (s->die_now) {
		s->crash_in = 1;
		engine_point("rest");
	}
	e->mono = engine_mono_ms();
	dispatch(s, e);
}

int engine_world_open(struct engine *e, struct base_err *err)
{
	(void)err;
	the->engine = e;
	return 0;
}

void engine_world_done(struct engine *e)
{
	(void)e;
	the->engine = NULL;
}

/* --- time, chance, notes --- */

int64_t sim_wall_ms(const struct sim *s)
{
	/* 2026-03-29 00:00 UTC: summer time begins in Europe an hour later. */
	return 1774742400000 + s->now / 1000 + s->wall_skew;
}

int64_t engine_wall_ms(void)
{
	return engine_clock_follow(&the->clock, sim_wall_ms(the), the->now / 1000);
}

int64_t engine_mono_ms(void)
{
	return the->now / 1000;
}

void engine_entropy(void *ret, size_t len)
{
	uint8_t *at = ret;

	for (size_t i = 0; i < len; i += 8) {
		uint64_t v = base_prng_next(&the->streams[SIM_ENTROPY]);

		memcpy(at + i, &v, len - i < 8 ? len - i : 8);
	}
}

void engine_note(unsigned level, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	sim_say(the, "aiosd %u: %s", level, text);
}

/* --- places where it may die --- */

void engine_point(const char *name)
{
	struct sim *s = the;

	s->points++;
	if (strcmp(name, "decide") == 0)
		s->commands++;
	if (s->dying || !s->crash_in || --s->crash_in)
		return;
	sim_say(s, "aiosd dies at %s", name);
	s->dying = true;
	longjmp(s->death, 1);
}

/* --- the committer: it is done when its time has come --- */

static void run_job(struct sim *s)
{
	if (!s->job || s->job_done)
		return;
	s->job_rc = engine_group_append(s->engine->log, s->job, &s->job_err);
	s->job_done = true;
	s->job_event = true;
}

static void job_due(struct sim *s, void *a, uint64_t b)
{
	(void)b;
	if (s->job == a)
		run_job(s);
}

int engine_committer_start(struct engine *e, struct base_err *err)
{
	(void)err;
	e->committer.log = e->log;
	return 0;
}

void engine_committer_stop(struct engine *e)
{
	(void)e;
	run_job(the);
}

void engine_committer_give(struct engine *e, struct engine_group *g)
{
	struct sim *s = the;
	int64_t us = 50 + (int64_t)sim_draw(s, SIM_DISK, 2000);

	(void)e;
	if (!s->healed && sim_chance(s, SIM_DISK, s->plan.rate[SIM_RATE_SLOW_SYNC]))
		us = 1000 * (int64_t)sim_draw(s, SIM_DISK, 5000);
	s->job = g;
	s->job_done = s->job_event = false;
	s->job_until = s->now + us;
	sim_later(s, us, true, job_due, g, 0);
}

bool engine_committer_take(struct engine *e, int *ret_rc, struct base_err *ret_err)
{
	struct sim *s = the;

	(void)e;
	if (!s->job || !s->job_done)
		return false;
	*ret_rc = s->job_rc;
	*ret_err = s->job_err;
	s->job = NULL;
	s->job_done = s->job_event = false;
	return true;
}

bool engine_committer_reserve(struct engine *e, struct engine_group *g)
{
	struct sim *s = the;

	(void)e;
	if (s->job || sim_chance(s, SIM_DISK, 300))
		return false; /* it may be busy with a checkpoint */
	s->job = g;
	s->job_done = false;
	return true;
}

void engine_committer_run(struct engine *e, struct engine_group *g)
{
	struct sim *s = the;

	(void)e;
	BASE_CHECK(s->job == g);
	s->now += 50 + (int64_t)sim_draw(s, SIM_DISK, 2000);
	run_job(s);
}

void engine_committer_wait(struct engine *e)
{
	struct sim *s = the;

	(void)e;
	if (s->job && s->job_until > s->now)
		s->now = s->job_until;
	run_job(s);
}

int engine_log_open(struct engine *e, struct log **ret, struct base_err *err)
{
	(void)e;
	return log_open_disk(the->disk, ret, err);
}

/* --- empty states: made once, before the processes of the seeds part --- */

enum { POOL = 24 };
static struct core *pool[POOL];
static size_t pooled;

static struct core *make_core(struct base_err *err)
{
	struct core *c;

	if (core_new(&c) < 0)
		return NULL;
	for (size_t i = 0; i < core_actions_count; i++)
		if (core_catalogue_add(c, core_actions[i], err) < 0)
			return NULL;
	return c;
}

void sim_prepare(void)
{
	struct base_err err;

	while (pooled < POOL && (pool[pooled] = make_core(&err)))
		pooled++;
}

int engine_core_new(struct core **ret, struct base_err *err)
{
	*ret = pooled ? pool[--pooled] : make_core(err);
	return *ret ? 0 : -ENOMEM;
}

/* --- snapshots while it runs --- */

int engine_fold_init(struct engine *e)
{
	(void)e;
	return 0;
}

/* As aios-fold makes it: from the log alone. */
static void fold_now(struct sim *s, void *a, uint64_t b)
{
	struct engine *e = s->engine;
	uint64_t seq = s->audit.seq;
	struct base_err err = {0};
	struct base_hash hash;
	struct base_buf data;

	(void)a;
	(void)b;
	s->folding = false;
	if (!e || !e->log || e->degraded)
		return;
	base_buf_init(&data, (size_t)1 << 30);
	BASE_CHECK(core_snapshot(s->shadow, &data) == 0);
	hash = base_hash_of(base_buf_view(&data));
	if (log_snapshot_put(e->log, seq, &hash, base_buf_view(&data), &err) == 0 && seq > e->snapshot_seq)
		e->snapshot_seq = seq;
	base_buf_done(&data);
}

void engine_fold_check(struct engine *e, bool quiet)
{
	struct sim *s = the;

	(void)quiet;
	if (s->folding || e->degraded || e->stopping || e->durable - e->snapshot_seq < e->opt.fold_after)
		return;
	s->folding = true;
	sim_later(s, (int64_t)sim_draw(s, SIM_DISK, 200000), true, fold_now, NULL, 0);
}

void engine_fold_up(struct engine *e, struct engine_proc *p)
{
	(void)e;
	(void)p;
}

void engine_fold_down(struct engine *e)
{
	(void)e;
}

void engine_fold_settle(struct engine *e)
{
	(void)e;
	the->folding = false;
}

void engine_fold_done(struct engine *e)
{
	(void)e;
}

/* --- verification: between two turns it is part of the checks --- */

void engine_op_log_verify(struct engine *e, struct engine_req *q)
{
	engine_reply(e, q, 200, BASE_STR("{\"ok\":true}"));
}

void engine_verify_settle(struct engine *e)
{
	(void)e;
}

void engine_verify_done(struct engine *e)
{
	(void)e;
}

/* --- the workspace --- */

int engine_workspace_open(struct engine_paths *p, const char *dir, struct base_err *err)
{
	static char name[] = "/sim";

	(void)dir;
	(void)err;
	memset(p, 0, sizeof(*p));
	p->lock_fd = -1;
	p->workspace = p->aios = p->log = p->views = p->vault = p->run = p->files = p->bin = name;
	return 0;
}

void engine_workspace_done(struct engine_paths *p)
{
	(void)p;
}

int engine_workspace_announce(const struct engine_paths *p, unsigned port, struct base_err *err)
{
	(void)p;
	(void)port;
	(void)err;
	return 0;
}

int engine_listen_tcp(const char *address, unsigned port, unsigned *ret_port, struct base_err *err)
{
	(void)address;
	(void)err;
	*ret_port = port ? port : 7717;
	return 3;
}

int engine_listen_unix(const char *path, struct base_err *err)
{
	(void)path;
	(void)err;
	return 4;
}

/* --- which processors: there are none --- */

int engine_near_new(struct engine_near **ret)
{
	(void)ret;
	return -1;
}

void engine_near_free(struct engine_near *n)
{
	(void)n;
}

void engine_near_turn(struct engine *e, struct engine_near *n)
{
	(void)e;
	(void)n;
}
