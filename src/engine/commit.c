#include "engine/engine_int.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

/*
 * Group commit on a thread of its own, or on the loop's where nothing else is under way.
 *
 * Invariants
 *
 * C1 Nothing leaves the house before the events that it follows from are durable: every dispatch, reply
 * and notification is an engine_out on the group that holds its events, released when log_append has
 * returned 0.
 *
 * C2 Groups are appended in the order of their sequence numbers, one at a time; first_seq = durable + 1.
 *
 * C3 A group that could not be appended is discarded together with everything decided since; nothing of it
 * is released.
 *
 * C4 The loop never touches a group while the committer has it, but to read its block (the tail cache).
 *
 * C5 One thread appends at a time: the committer, or the loop while the committer sees a job that is done.
 */

enum { INLINE_MAX = 64 << 10, IDLE_NS = 200000000 };

static int append(struct engine_committer *c, const struct engine_group *g)
{
	struct log_commit commit = {.first_seq = g->first_seq,
		.count = (uint32_t)g->count,
		.time_ms = g->time_ms,
		.block = base_buf_view(&g->block)};
	struct log_body *bodies = g->body_count ? calloc(g->body_count, sizeof(*bodies)) : NULL;
	int rc;

	if (g->body_count && !bodies)
		return -ENOMEM;
	for (size_t i = 0; i < g->body_count; i++)
		bodies[i] = (struct log_body){g->bodies[i].hash, {g->bodies[i].data, g->bodies[i].len}};
	rc = log_append(c->log, &commit, bodies, g->body_count, &c->err);
	free(bodies);
	return rc;
}

/* Nothing came for a while: what may wait is done now (checkpoints). Called and left with the lock held. */
static void idle_a_while(struct engine_committer *c)
{
	struct timespec until;
	uint64_t before = c->appended;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += IDLE_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	if (pthread_cond_timedwait(&c->wake, &c->lock, &until) != ETIMEDOUT || c->job ||
		c->appended != before)
		return;
	c->busy = false;
	c->idling = true;
	pthread_mutex_unlock(&c->lock);
	log_idle(c->log);
	pthread_mutex_lock(&c->lock);
	c->idling = false;
}

static void *commit_main(void *arg)
{
	struct engine_committer *c = arg;

	pthread_mutex_lock(&c->lock);
	while (!c->stop || (c->job && !c->done)) {
		struct engine_group *g = c->job;
		uint64_t one = 1;
		int rc;

		if (!g || c->done) {
			if (c->busy)
				idle_a_while(c);
			else
				pthread_cond_wait(&c->wake, &c->lock);
			continue;
		}
		pthread_mutex_unlock(&c->lock);
		rc = append(c, g);
		pthread_mutex_lock(&c->lock);
		c->result = rc;
		c->done = c->busy = true;
		c->appended++;
		if (write(c->efd, &one, sizeof(one)) < 0)
			BASE_CHECK(errno == EAGAIN);
		pthread_cond_broadcast(&c->wake);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static void group_reset(struct engine_group *g)
{
	base_buf_clear(&g->block);
	for (size_t i = 0; i < g->body_count; i++)
		free(g->bodies[i].data);
	g->count = g->body_count = 0;
	g->first_seq = 0;
	g->outs = NULL;
	g->outs_tail = &g->outs;
	g->time_ms = 0;
}

static struct engine_group *group_new(void)
{
	struct engine_group *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	base_buf_init(&g->block, 512 << 20);
	g->outs_tail = &g->outs;
	return g;
}

static void group_free(struct engine_group *g)
{
	if (!g)
		return;
	group_reset(g);
	base_buf_done(&g->block);
	free(g->bodies);
	free(g->offs);
	free(g);
}

static void discard(struct engine *e, struct engine_group *g, int code)
{
	struct engine_out *o = g->outs, *next;

	g->outs = NULL;
	g->outs_tail = &g->outs;
	for (; o; o = next) {
		next = o->next;
		o->discard(e, o, code);
	}
}

static void finish(struct engine *e)
{
	struct engine_committer *c = &e->committer;
	struct engine_group *g = e->inflight;
	struct engine_out *o, *next;
	int rc;

	pthread_mutex_lock(&c->lock);
	if (!c->done) {
		pthread_mutex_unlock(&c->lock);
		return;
	}
	rc = c->result;
	c->done = false;
	c->job = NULL;
	pthread_mutex_unlock(&c->lock);
	BASE_CHECK(g);
	if (rc < 0) {
		discard(e, g, rc);
		discard(e, e->pending, rc);
		group_reset(g);
		group_reset(e->pending);
		e->inflight = NULL;
		if (e->spare)
			group_free(g);
		else
			e->spare = g;
		engine_degrade(e, rc, c->err.text);
		return;
	}
	e->durable = g->first_seq + g->count - 1;
	e->inflight = NULL;
	/* The next commit runs while this one's outputs go out. */
	e->spare = e->spare ? e->spare : group_new();
	if (e->spare)
		engine_commit_start(e, false);
	o = g->outs;
	g->outs = NULL;
	for (; o; o = next) {
		next = o->next;
		o->release(e, o);
	}
	engine_views_committed(e, g);
	engine_fold_check(e, false);
	group_reset(g);
	if (e->spare)
		group_free(g);
	else
		e->spare = g;
	engine_commit_start(e, false);
}

static void on_event(struct engine *e, struct engine_source *s, uint32_t events)
{
	uint64_t n;

	(void)s;
	(void)events;
	if (read(e->committer.efd, &n, sizeof(n)) > 0)
		finish(e);
}

void engine_commit_start(struct engine *e, bool force)
{
	struct engine_committer *c = &e->committer;
	struct engine_group *g = e->pending;

	if (e->inflight || !g->count || e->degraded ||
		(!force && !g->outs && g->block.len < ENGINE_GROUP_MAX))
		return;
	if (!e->spare)
		e->spare = group_new();
	if (!e->spare)
		return;
	e->inflight = g;
	e->pending = e->spare;
	e->spare = NULL;
	pthread_mutex_lock(&c->lock);
	c->job = g;
	pthread_mutex_unlock(&c->lock);
	pthread_cond_signal(&c->wake);
}

/* True when nothing is under way inside the house: then nobody is kept waiting by a commit on this thread,
 * and two changes of thread are saved. */
static bool is_quiet(const struct engine *e)
{
	if (e->inflight || e->degraded || engine_effects_count(e) || e->pending->block.len > INLINE_MAX)
		return false;
	for (size_t i = 0; i < e->proc_count; i++)
		if (e->procs[i].worker.ring_count)
			return false;
	return true;
}

void engine_commit_inline(struct engine *e)
{
	struct engine_committer *c = &e->committer;
	struct engine_group *g = e->pending;
	int rc;

	if (!g->count || !g->outs || !is_quiet(e) || (!e->spare && !(e->spare = group_new())))
		return;
	pthread_mutex_lock(&c->lock);
	if (c->idling || c->job) {
		pthread_mutex_unlock(&c->lock);
		return;
	}
	/* The thread sees a job that is done: it touches nothing. */
	e->inflight = g;
	e->pending = e->spare;
	e->spare = NULL;
	c->job = g;
	c->done = true;
	pthread_mutex_unlock(&c->lock);
	rc = append(c, g);
	pthread_mutex_lock(&c->lock);
	c->result = rc;
	c->appended++;
	/* The thread looks after checkpoints. */
	if (!c->busy)
		pthread_cond_broadcast(&c->wake);
	c->busy = true;
	pthread_mutex_unlock(&c->lock);
	finish(e);
}

void engine_after_commit(struct engine *e, struct engine_out *o)
{
	struct engine_group *g = e->pending->count ? e->pending : e->inflight;

	o->next = NULL;
	if (!g) {
		o->release(e, o);
		return;
	}
	*g->outs_tail = o;
	g->outs_tail = &o->next;
}

bool engine_all_durable(const struct engine *e)
{
	return !e->inflight && !e->pending->count;
}

void engine_commit_one(struct engine *e)
{
	struct engine_committer *c = &e->committer;

	pthread_mutex_lock(&c->lock);
	while (!c->done)
		pthread_cond_wait(&c->wake, &c->lock);
	pthread_mutex_unlock(&c->lock);
	finish(e);
}

void engine_commit_wait(struct engine *e)
{
	while (!e->degraded && !engine_all_durable(e)) {
		engine_commit_start(e, true);
		engine_commit_one(e);
	}
}

int engine_commit_init(struct engine *e, struct base_err *err)
{
	struct engine_committer *c = &e->committer;
	pthread_condattr_t attr;
	sigset_t all, old;
	int rc;

	e->pending = group_new();
	e->spare = group_new();
	if (!e->pending || !e->spare)
		return base_err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->wake, &attr);
	pthread_condattr_destroy(&attr);
	c->log = e->log;
	c->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->efd < 0)
		return base_err_set(err, -errno, "no eventfd: %s", strerror(errno));
	c->source = (struct engine_source){on_event, e};
	rc = engine_watch(e, c->efd, &c->source, EPOLLIN);
	if (rc < 0)
		return base_err_set(err, rc, "cannot watch the committer");
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&c->thread, NULL, commit_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc < 0)
		return base_err_set(err, rc, "cannot start the committer: %s", strerror(-rc));
	c->started = true;
	return 0;
}

void engine_commit_done(struct engine *e)
{
	struct engine_committer *c = &e->committer;

	if (c->started) {
		pthread_mutex_lock(&c->lock);
		c->stop = true;
		pthread_cond_broadcast(&c->wake);
		pthread_mutex_unlock(&c->lock);
		pthread_join(c->thread, NULL);
		c->started = false;
		close(c->efd);
		pthread_mutex_destroy(&c->lock);
		pthread_cond_destroy(&c->wake);
	}
	if (e->inflight)
		discard(e, e->inflight, -ECANCELED);
	if (e->pending)
		discard(e, e->pending, -ECANCELED);
	group_free(e->inflight);
	group_free(e->pending);
	group_free(e->spare);
	e->inflight = e->pending = e->spare = NULL;
}
