#include "engine/engine_int.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

/*
 * The loop: everything waits in one epoll; nothing polls, so an idle aiosd is not woken at all.
 *
 * epoll_wait → frames in (decide, apply, queue) → timers → loads → a commit if somebody waits → flush sockets
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

void engine_timer_add(struct engine *e, enum engine_timer kind, uint64_t id, int64_t in_ms)
{
	BASE_CHECK(base_heap_push(e->timers,
			   (struct base_heap_item){
				   .when = e->mono + (in_ms > 0 ? in_ms : 0), .id = id, .kind = kind}) == 0);
}

static void timer_due(struct engine *e, const struct base_heap_item *t)
{
	switch ((enum engine_timer)t->kind) {
	case ENGINE_TIMER_LINGER:
		e->linger = false;
		engine_commit_start(e, true);
		break;
	case ENGINE_TIMER_RESPAWN:
		engine_respawn_due(e, t->id);
		break;
	case ENGINE_TIMER_WATCHDOG:
		engine_flows_watchdog(e, t->id);
		break;
	case ENGINE_TIMER_EVICT:
		engine_flows_evict(e);
		break;
	case ENGINE_TIMER_CALLS:
		engine_effects_sweep(e);
		break;
	case ENGINE_TIMER_ASK:
		engine_ask_timeout(e, t->id);
		break;
	case ENGINE_TIMER_WAITER:
		engine_waiter_due(e, t->id);
		break;
	case ENGINE_TIMER_PARSE:
		engine_parse_idle(e);
		break;
	case ENGINE_TIMER_STOP:
		e->quit = true;
		break;
	case ENGINE_TIMER_DEGRADED:
		engine_degraded_retry(e);
		break;
	case ENGINE_TIMER_VIEWS:
		engine_views_due(e);
		break;
	case ENGINE_TIMER_SNAPSHOT:
		engine_fold_check(e, true);
		break;
	}
}

static void run_timers(struct engine *e)
{
	struct base_heap_item t;

	while (base_heap_peek(e->timers, &t) && t.when <= e->mono) {
		base_heap_pop(e->timers, &t);
		timer_due(e, &t);
	}
	if (core_next_due(e->core) != INT64_MAX)
		engine_tick(e);
}

/* One timerfd for all; touched only when the next moment comes earlier than the one that is set. */
static void arm(struct engine *e)
{
	struct base_heap_item t;
	int64_t when = base_heap_peek(e->timers, &t) ? t.when : INT64_MAX, due;
	struct itimerspec its = {0};

	due = e->degraded || e->stopping ? INT64_MAX : core_next_due(e->core);
	if (due != INT64_MAX) {
		int64_t in = due - engine_wall_ms();

		/* At most an hour ahead: the wall clock may be set meanwhile. */
		in = in < 0 ? 0 : in > 3600000 ? 3600000 : in;
		if (e->mono + in < when)
			when = e->mono + in;
	}
	if (when >= e->armed)
		return;
	e->armed = when;
	its.it_value.tv_sec = when / 1000;
	its.it_value.tv_nsec = when % 1000 * 1000000;
	if (!its.it_value.tv_sec && !its.it_value.tv_nsec)
		its.it_value.tv_nsec = 1;
	timerfd_settime(e->timerfd, TFD_TIMER_ABSTIME, &its, NULL);
}

static void on_timer(struct engine *e, struct engine_source *s, uint32_t events)
{
	uint64_t n;

	(void)s;
	(void)events;
	if (read(e->timerfd, &n, sizeof(n)) > 0)
		e->armed = INT64_MAX;
}

static void begin_stop(struct engine *e)
{
	if (e->stopping)
		return;
	engine_note(1, "stopping");
	e->stopping = true;
	engine_procs_stop(e, true);
	engine_timer_add(e, ENGINE_TIMER_STOP, 0, ENGINE_STOP_MS);
}

static void on_signal(struct engine *e, struct engine_source *s, uint32_t events)
{
	struct signalfd_siginfo info;

	(void)s;
	(void)events;
	while (read(e->sigfd, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
			begin_stop(e);
}

static void end_of_turn(struct engine *e)
{
	run_timers(e);
	engine_flows_pump(e);
	if (e->pending->outs && !e->inflight) {
		engine_procs_flush(e);
		engine_commit_inline(e);
	}
	engine_commit_start(e, e->commit_wanted);
	if (e->pending->count == 0)
		e->commit_wanted = false;
	/* The disk does not keep up: nothing more is taken in until it has. */
	while (e->inflight && e->pending->block.len > ENGINE_PENDING_MAX)
		engine_commit_one(e);
	engine_views_pump(e);
	engine_stream_pump(e);
	engine_procs_flush(e);
	if (e->stopping && engine_procs_gone(e, true) && !engine_effects_count(e) && engine_all_durable(e))
		e->quit = true;
	arm(e);
}

/* What aiosd itself can do without: no program that it starts gains rights, and its memory is never written to disk. */
static void confine(void)
{
	struct rlimit none = {0, 0};

	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)setrlimit(RLIMIT_CORE, &none);
}

static int open_loop(struct engine *e, struct base_err *err)
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
	e->armed = INT64_MAX;
	e->sig_source = (struct engine_source){on_signal, e};
	e->timer_source = (struct engine_source){on_timer, e};
	if (engine_watch(e, e->sigfd, &e->sig_source, EPOLLIN) < 0 ||
		engine_watch(e, e->timerfd, &e->timer_source, EPOLLIN) < 0 || base_heap_new(&e->timers) < 0 ||
		base_arena_new((size_t)1 << 30, &e->arena) < 0)
		return base_err_set(err, -ENOMEM, "out of memory");
	base_buf_init(&e->scratch, 64 << 20);
	return 0;
}

static void loop(struct engine *e)
{
	struct epoll_event evs[64];

	end_of_turn(e);
	while (!e->quit) {
		bool more = engine_views_more(e) || engine_stream_more(e);
		int n = epoll_wait(e->epfd, evs, 64, more ? 0 : -1);

		e->mono = engine_mono_ms();
		for (int i = 0; i < n; i++) {
			struct engine_source *s = evs[i].data.ptr;

			s->fn(e, s, evs[i].events);
		}
		end_of_turn(e);
	}
}

/* The rest of the processes stop; then the state goes into a snapshot, so that the next start is short. */
static void finish(struct engine *e)
{
	struct epoll_event evs[16];
	struct base_err err = {0};
	int64_t until = engine_mono_ms() + 800;

	e->stopping = true;
	engine_commit_wait(e);
	engine_procs_flush(e);
	engine_procs_stop(e, false);
	engine_procs_stop(e, true);
	while (!(engine_procs_gone(e, true) && engine_procs_gone(e, false)) && engine_mono_ms() < until) {
		int n = epoll_wait(e->epfd, evs, 16, 50);

		e->mono = engine_mono_ms();
		for (int i = 0; i < n; i++) {
			struct engine_source *s = evs[i].data.ptr;

			s->fn(e, s, evs[i].events);
		}
		engine_procs_flush(e);
	}
	engine_fold_settle(e);
	engine_commit_wait(e);
	if (!e->degraded && e->exit_code == 0 && engine_snapshot(e, &err) < 0)
		engine_note(2, "no snapshot: %s", err.text);
}

static void close_all(struct engine *e)
{
	engine_fold_done(e);
	engine_procs_done(e);
	engine_verify_done(e);
	if (e->log)
		engine_commit_done(e);
	engine_api_done(e);
	engine_agains_done(e);
	engine_auth_done(e);
	engine_streams_done(e);
	engine_asks_done(e);
	engine_flows_done(e);
	engine_effects_done(e);
	engine_sessions_done(e);
	base_json_free(e->config);
	log_reader_free(e->reader);
	log_reader_free(e->body_reader);
	if (e->log)
		log_close(e->log);
	core_free(e->core);
	base_arena_free(e->arena);
	base_buf_done(&e->scratch);
	base_heap_free(e->timers);
	if (e->epfd >= 0)
		close(e->epfd);
	if (e->timerfd >= 0)
		close(e->timerfd);
	if (e->sigfd >= 0)
		close(e->sigfd);
	engine_workspace_done(&e->paths);
}

static int port_of(struct engine *e)
{
	struct base_jv door =
		e->config ? base_jv_get(base_json_root(e->config), "door") : (struct base_jv){0};
	int64_t port = base_jv_int(base_jv_get(door, "port"), 7717);

	return port >= 0 && port <= 65535 ? (int)port : 7717;
}

static unsigned workers_of(struct engine *e)
{
	int64_t n = e->config ? base_jv_int(base_jv_get(base_json_root(e->config), "workers"), 2) : 2;

	return n >= 1 && n <= ENGINE_FLOWS_MAX ? (unsigned)n : 2;
}

static int open_all(struct engine *e, struct base_err *err)
{
	int rc = engine_workspace_open(&e->paths, e->opt.workspace, err);

	if (rc < 0)
		return rc;
	rc = open_loop(e, err);
	if (rc < 0)
		return rc;
	if (engine_flows_init(e) < 0 || engine_effects_init(e) < 0 || base_idmap_new(&e->asks) < 0 ||
		engine_api_init(e) < 0 || engine_fold_init(e) < 0)
		return base_err_set(err, -ENOMEM, "out of memory");
	rc = engine_procs_early(e, err);
	if (rc < 0)
		return rc;
	rc = log_open_sqlite(e->paths.log, &e->log, err);
	if (rc < 0) {
		e->log = NULL;
		return rc;
	}
	rc = engine_commit_init(e, err);
	if (rc < 0)
		return rc;
	rc = engine_recover(e, err);
	if (rc < 0)
		return rc;
	if (e->opt.port < 0)
		e->opt.port = port_of(e);
	if (!e->opt.workers)
		e->opt.workers = workers_of(e);
	return engine_procs_start(e, err);
}

int engine_run_main(const struct engine_options *opt, struct base_err *err)
{
	struct engine *e = calloc(1, sizeof(*e));
	int rc;

	if (!e)
		return base_err_set(err, -ENOMEM, "out of memory");
	e->opt = *opt;
	e->epfd = e->timerfd = e->sigfd = e->paths.lock_fd = -1;
	e->mono = engine_mono_ms();
	e->started_ms = engine_wall_ms();
	rc = open_all(e, err);
	if (rc == 0)
		rc = engine_workspace_announce(&e->paths, e->port, err);
	if (rc == 0) {
		engine_note(1, "aiosd is up: workspace %s, http://127.0.0.1:%u, event %llu",
			e->paths.workspace, e->port, (unsigned long long)e->seq);
		loop(e);
		finish(e);
		rc = e->exit_code;
	}
	close_all(e);
	free(e);
	return rc;
}
