#include "engine/engine_int.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

/*
 * The world, as far as it is not a process, a thread or a file: what wakes the loop, clocks, entropy, the operator's
 * log, where the event log lies. The simulator has another file like this one (src/sim/world.c); the others that it
 * replaces are spawn.c, committer.c, fold.c, verify.c, workspace.c and the sockets of src/wire/conn.c.
 */

void engine_note(unsigned level, const char *fmt, ...)
{
	static const char *const names[] = {"debug", "info", "warning", "error"};
	struct timespec t;
	struct tm tm;
	char text[2048], when[32];
	va_list ap;

	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	fprintf(stderr, "%s.%03ldZ %s %s\n", when, t.tv_nsec / 1000000, names[level < 4 ? level : 3], text);
}

int engine_watch(struct engine *e, int fd, struct engine_source *s, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};

	if (epoll_ctl(e->epfd, EPOLL_CTL_ADD, fd, &ev) == 0)
		return 0;
	if (errno == EEXIST && epoll_ctl(e->epfd, EPOLL_CTL_MOD, fd, &ev) == 0)
		return 0;
	return -errno;
}

void engine_unwatch(struct engine *e, int fd)
{
	epoll_ctl(e->epfd, EPOLL_CTL_DEL, fd, NULL);
}

static int64_t read_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t engine_wall_ms(void)
{
	static struct engine_clock k;

	return engine_clock_follow(&k, read_clock(CLOCK_REALTIME), read_clock(CLOCK_BOOTTIME));
}

int64_t engine_mono_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void engine_entropy(void *ret, size_t len)
{
	uint8_t *at = ret;

	while (len) {
		ssize_t n = getrandom(at, len, 0);

		BASE_CHECK(n > 0 || errno == EINTR);
		at += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
}

int engine_log_open(struct engine *e, struct log **ret, struct base_err *err)
{
	return log_open_sqlite(e->paths.log, ret, err);
}

void engine_point(const char *name)
{
	(void)name;
}

void engine_arm(struct engine *e, int64_t when)
{
	struct itimerspec its = {0};

	its.it_value.tv_sec = when / 1000;
	its.it_value.tv_nsec = when % 1000 * 1000000;
	if (!its.it_value.tv_sec && !its.it_value.tv_nsec)
		its.it_value.tv_nsec = 1;
	timerfd_settime(e->timerfd, TFD_TIMER_ABSTIME, &its, NULL);
}

void engine_wait(struct engine *e, int timeout_ms)
{
	struct epoll_event evs[64];
	int n = epoll_wait(e->epfd, evs, 64, timeout_ms);

	e->mono = engine_mono_ms();
	for (int i = 0; i < n; i++) {
		struct engine_source *s = evs[i].data.ptr;

		s->fn(e, s, evs[i].events);
	}
}

static void on_timer(struct engine *e, struct engine_source *s, uint32_t events)
{
	uint64_t n;

	(void)s;
	(void)events;
	if (read(e->timerfd, &n, sizeof(n)) > 0)
		e->armed = INT64_MAX;
}

static void on_signal(struct engine *e, struct engine_source *s, uint32_t events)
{
	struct signalfd_siginfo info;

	(void)s;
	(void)events;
	while (read(e->sigfd, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
			engine_stop(e);
}

/* What aiosd itself can do without: no program that it starts gains rights, and its memory is never written to disk. */
static void confine(void)
{
	struct rlimit none = {0, 0};

	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)setrlimit(RLIMIT_CORE, &none);
}

int engine_world_open(struct engine *e, struct base_err *err)
{
	sigset_t set;

	e->epfd = epoll_create1(EPOLL_CLOEXEC);
	e->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	confine();
	e->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (e->epfd < 0 || e->timerfd < 0 || e->sigfd < 0)
		return base_err_set(err, -errno, "cannot open the loop: %s", strerror(errno));
	e->sig_source = (struct engine_source){on_signal, e};
	e->timer_source = (struct engine_source){on_timer, e};
	if (engine_watch(e, e->sigfd, &e->sig_source, EPOLLIN) < 0 ||
		engine_watch(e, e->timerfd, &e->timer_source, EPOLLIN) < 0)
		return base_err_set(err, -ENOMEM, "out of memory");
	return 0;
}

void engine_world_done(struct engine *e)
{
	if (e->epfd >= 0)
		close(e->epfd);
	if (e->timerfd >= 0)
		close(e->timerfd);
	if (e->sigfd >= 0)
		close(e->sigfd);
}
