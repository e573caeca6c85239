#include "engine/engine_int.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"

/*
 * Snapshots while aiosd runs: aios-fold gets the last one and the blocks behind it from the log, and gives back the
 * next. A thread with a reader of its own talks to it and writes the file; the loop starts both and is told of the end.
 * If anything fails, the old snapshot stays, and the next attempt waits.
 */

enum { PIECE = 1 << 20, PENDING_HIGH = 1 << 20, PAUSE_MS = 300000, FOLD_NICE = 10 };
static const size_t snapshot_max = (size_t)1 << 30;

struct engine_fold {
	bool timer;	    /* the quiet moment is waited for */
	bool busy, running; /* one is being made; its thread runs */
	int64_t not_before; /* after a failure */
	pthread_t thread;
	int efd;
	struct engine_source source;
	/* the thread's while it runs */
	struct wire_conn *conn;
	struct log *log;
	struct log_reader *reader;
	uint64_t usable, until; /* the last snapshot that this build could load; what the next one includes */
	int rc;
	struct base_err err;
};

static struct engine_proc *process(struct engine *e)
{
	return engine_proc_of(e, ENGINE_FOLD, 0);
}

int engine_fold_init(struct engine *e)
{
	e->fold = calloc(1, sizeof(*e->fold));
	if (!e->fold)
		return -ENOMEM;
	e->fold->efd = -1;
	return 0;
}

static void failed(struct engine *e, struct engine_fold *f, const char *why)
{
	engine_note(2, "no snapshot: %s", why);
	f->busy = false;
	f->not_before = e->mono + PAUSE_MS;
}

void engine_fold_check(struct engine *e, bool quiet)
{
	struct engine_fold *f = e->fold;
	uint64_t behind = e->durable - e->snapshot_seq;

	if (quiet)
		f->timer = false;
	if (e->degraded || e->stopping || !e->proc_count || f->busy || e->mono < f->not_before)
		return;
	if (behind >= e->opt.fold_after || (quiet && behind >= ENGINE_FOLD_QUIET)) {
		f->busy = true;
		engine_proc_start(e, process(e));
		if (process(e)->state == ENGINE_DOWN)
			failed(e, f, "aios-fold does not start");
	} else if (behind >= ENGINE_FOLD_QUIET && !f->timer) {
		f->timer = true;
		engine_timer_add(e, ENGINE_TIMER_SNAPSHOT, 0, ENGINE_QUIET_MS);
	}
}

/* --- the thread --- */

static int room(struct wire_conn *c)
{
	int rc = wire_conn_end(c);

	while (rc == 0 && wire_conn_pending(c) > PENDING_HIGH)
		rc = wire_conn_wait(c, -1);
	return rc;
}

static int send_state(struct engine_fold *f)
{
	struct base_str piece;
	uint64_t seq;
	char *data;
	size_t len;
	int rc = 0;

	/* One that could not be loaded at the start (another format) is no help: then from zero. */
	if (!f->usable || log_snapshot_get(f->log, f->usable, &seq, &data, &len, &f->err) < 0)
		return 0;
	f->usable = seq;
	for (size_t at = 0; rc == 0 && at < len; at += piece.len) {
		piece = base_str_sub((struct base_str){data, len}, at, PIECE);
		wire_fold_state_put(
			wire_conn_begin(f->conn, WIRE_FOLD_STATE), &(struct wire_fold_state){.data = piece});
		rc = room(f->conn);
	}
	free(data);
	return rc;
}

static int send_block(void *userdata, const struct log_commit *c)
{
	struct engine_fold *f = userdata;
	int rc;

	if (c->first_seq > f->until)
		return 1;
	wire_fold_block_put(wire_conn_begin(f->conn, WIRE_FOLD_BLOCK),
		&(struct wire_fold_block){.first_seq = c->first_seq, .block = c->block});
	rc = room(f->conn);
	return rc < 0 ? rc : 0;
}

static int receive(struct engine_fold *f, struct base_buf *ret)
{
	struct wire_fold_piece piece;
	struct wire_fold_done done;
	struct base_str body;
	struct base_hash hash;
	unsigned type = 0;
	int rc;

	while ((rc = wire_conn_next(f->conn, &type, &body)) >= 0) {
		if (rc == 0)
			rc = wire_conn_wait(f->conn, -1);
		else if (type == WIRE_FOLD_PIECE)
			rc = wire_fold_piece_get(body, &piece);
		else if (type == WIRE_FOLD_DONE)
			break;
		else
			rc = -EBADMSG;
		if (rc < 0)
			return rc;
		if (type == WIRE_FOLD_PIECE) {
			base_buf_str(ret, piece.data);
			type = 0;
		}
	}
	if (rc < 0 || wire_fold_done_get(body, &done) < 0)
		return rc < 0 ? rc : -EBADMSG;
	hash = base_hash_of(base_buf_view(ret));
	if (base_buf_failed(ret) || done.seq != f->until || done.len != ret->len ||
		!base_hash_eq(&hash, &done.hash))
		return -EBADMSG;
	return log_snapshot_put(f->log, f->until, &hash, base_buf_view(ret), &f->err);
}

static int converse(struct engine_fold *f)
{
	struct base_buf data;
	int rc = send_state(f);

	if (rc == 0)
		rc = log_each(f->reader, f->usable + 1, send_block, f, &f->err);
	if (rc < 0)
		return rc;
	wire_fold_take_put(
		wire_conn_begin(f->conn, WIRE_FOLD_TAKE), &(struct wire_fold_take){.seq = f->until});
	rc = wire_conn_end(f->conn);
	base_buf_init(&data, snapshot_max);
	if (rc == 0)
		rc = receive(f, &data);
	base_buf_done(&data);
	return rc;
}

static void *fold_main(void *arg)
{
	struct engine_fold *f = arg;
	uint64_t one = 1;

	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), FOLD_NICE);
	f->rc = converse(f);
	wire_conn_free(f->conn); /* the process ends at the end of its stream */
	f->conn = NULL;
	if (write(f->efd, &one, sizeof(one)) < 0)
		BASE_CHECK(errno == EAGAIN);
	return NULL;
}

/* --- its beginning and end --- */

static void on_end(struct engine *e, struct engine_source *s, uint32_t events)
{
	struct engine_fold *f = s->owner;

	(void)events;
	pthread_join(f->thread, NULL);
	engine_unwatch(e, f->efd);
	close(f->efd);
	f->efd = -1;
	log_reader_free(f->reader);
	f->reader = NULL;
	f->running = f->busy = false;
	if (f->rc < 0 && !e->stopping)
		failed(e, f, f->err.text[0] ? f->err.text : strerror(-f->rc));
	else if (f->rc >= 0 && f->until > e->snapshot_seq)
		e->snapshot_seq = f->until;
}

/* It has said hello: its connection goes over to the thread. */
void engine_fold_up(struct engine *e, struct engine_proc *p)
{
	struct engine_fold *f = e->fold;
	sigset_t all, old;
	int rc;

	f->log = e->log;
	f->until = e->durable;
	f->usable = e->snapshot_seq;
	f->err.text[0] = '\0';
	f->source = (struct engine_source){on_end, f};
	f->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = f->efd < 0 ? -errno : engine_watch(e, f->efd, &f->source, EPOLLIN);
	if (rc == 0)
		rc = log_reader_new(e->log, &f->reader, &f->err);
	if (rc == 0) {
		engine_procs_flush(e);
		engine_unwatch(e, wire_conn_fd(p->conn));
		f->conn = p->conn;
		p->conn = NULL;
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		rc = -pthread_create(&f->thread, NULL, fold_main, f);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	f->running = rc == 0;
	if (rc == 0)
		return;
	wire_conn_free(f->conn);
	f->conn = NULL;
	log_reader_free(f->reader);
	f->reader = NULL;
	if (f->efd >= 0)
		close(f->efd);
	f->efd = -1;
	failed(e, f, "out of memory or descriptors");
	engine_proc_kill(e, p, "cannot be served");
}

void engine_fold_down(struct engine *e)
{
	if (e->fold->busy && !e->fold->running)
		failed(e, e->fold, "aios-fold ended before it began");
}

void engine_fold_settle(struct engine *e)
{
	struct engine_proc *p;

	if (!e->fold || !e->fold->running)
		return;
	p = process(e);
	if (p->pidfd >= 0)
		engine_child_kill(p->pidfd);
	on_end(e, &e->fold->source, 0);
}

void engine_fold_done(struct engine *e)
{
	engine_fold_settle(e);
	free(e->fold);
	e->fold = NULL;
}
