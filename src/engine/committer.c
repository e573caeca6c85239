#include "engine/engine_int.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

/*
 * The thread that appends.
 *
 * Invariants
 *
 * C5 One thread appends at a time: this one, or the loop while this one sees a job that is done.
 */

enum { IDLE_NS = 200000000 };

/* Nothing came for a while: what may wait is done now (checkpoints), a bit at a time. Called and left with the lock held. */
static void idle_a_while(struct engine_committer *c)
{
	struct timespec until;
	uint64_t before = c->appended;
	bool more;

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
	more = log_idle(c->log);
	pthread_mutex_lock(&c->lock);
	c->idling = false;
	if (more)
		c->busy = true;
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
		rc = engine_group_append(c->log, g, &c->err);
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

static void on_event(struct engine *e, struct engine_source *s, uint32_t events)
{
	uint64_t n;

	(void)s;
	(void)events;
	if (read(e->committer.efd, &n, sizeof(n)) > 0)
		engine_committed(e);
}

void engine_committer_give(struct engine *e, struct engine_group *g)
{
	struct engine_committer *c = &e->committer;

	pthread_mutex_lock(&c->lock);
	c->job = g;
	pthread_mutex_unlock(&c->lock);
	pthread_cond_signal(&c->wake);
}

bool engine_committer_take(struct engine *e, int *ret_rc, struct base_err *ret_err)
{
	struct engine_committer *c = &e->committer;
	bool done;

	pthread_mutex_lock(&c->lock);
	done = c->done;
	if (done) {
		*ret_rc = c->result;
		*ret_err = c->err;
		c->done = false;
		c->job = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	return done;
}

bool engine_committer_reserve(struct engine *e, struct engine_group *g)
{
	struct engine_committer *c = &e->committer;
	bool free;

	pthread_mutex_lock(&c->lock);
	free = !c->idling && !c->job;
	if (free) {
		/* The thread sees a job that is done: it touches nothing. */
		c->job = g;
		c->done = true;
	}
	pthread_mutex_unlock(&c->lock);
	return free;
}

void engine_committer_run(struct engine *e, struct engine_group *g)
{
	struct engine_committer *c = &e->committer;
	int rc = engine_group_append(c->log, g, &c->err);

	pthread_mutex_lock(&c->lock);
	c->result = rc;
	c->appended++;
	/* The thread looks after checkpoints. */
	if (!c->busy)
		pthread_cond_broadcast(&c->wake);
	c->busy = true;
	pthread_mutex_unlock(&c->lock);
}

void engine_committer_wait(struct engine *e)
{
	struct engine_committer *c = &e->committer;

	pthread_mutex_lock(&c->lock);
	while (!c->done)
		pthread_cond_wait(&c->wake, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

int engine_committer_start(struct engine *e, struct base_err *err)
{
	struct engine_committer *c = &e->committer;
	pthread_condattr_t attr;
	sigset_t all, old;
	int rc;

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

void engine_committer_stop(struct engine *e)
{
	struct engine_committer *c = &e->committer;

	if (!c->started)
		return;
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
