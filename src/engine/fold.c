#include "engine/engine_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

/*
 * Snapshots while aiosd runs: aios-fold gets the last one and the blocks behind it from the log, and gives
 * back the next; a thread writes the file. The loop does not wait for any of it. If anything fails, the old
 * snapshot stays.
 */

enum { PIECE = 1 << 20, FEED_HIGH = 2 << 20 };

enum fold_state { FOLD_IDLE, FOLD_STARTS, FOLD_STATE, FOLD_EVENTS, FOLD_WAITS, FOLD_WRITES };

struct engine_fold {
	enum fold_state state;
	bool timer; /* the quiet moment is waited for */
	uint64_t from, until, sent;
	char *base; /* the last snapshot */
	size_t base_len, base_at;
	struct base_buf data; /* the next */
	/* while a thread writes */
	struct log *log;
	pthread_t thread;
	int efd, rc;
	struct engine_source source;
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
	base_buf_init(&e->fold->data, (size_t)1 << 30);
	return 0;
}

static void reset(struct engine_fold *f)
{
	f->state = FOLD_IDLE;
	free(f->base);
	f->base = NULL;
	f->base_len = f->base_at = 0;
	base_buf_done(&f->data);
}

void engine_fold_check(struct engine *e, bool quiet)
{
	struct engine_fold *f = e->fold;
	uint64_t behind = e->durable - e->snapshot_seq;

	if (quiet)
		f->timer = false;
	if (e->degraded || e->stopping || !e->proc_count || f->state != FOLD_IDLE)
		return;
	if (behind >= e->opt.fold_after || (quiet && behind >= ENGINE_FOLD_QUIET)) {
		f->state = FOLD_STARTS;
		engine_proc_start(e, process(e));
		if (process(e)->state == ENGINE_DOWN)
			reset(f);
	} else if (behind >= ENGINE_FOLD_QUIET && !f->timer) {
		f->timer = true;
		engine_timer_add(e, ENGINE_TIMER_SNAPSHOT, 0, ENGINE_QUIET_MS);
	}
}

void engine_fold_up(struct engine *e, struct engine_proc *p)
{
	struct engine_fold *f = e->fold;
	struct base_err err;
	int rc = log_snapshot_get(e->log, e->durable, &f->from, &f->base, &f->base_len, &err);

	(void)p;
	if (rc < 0) {
		f->base = NULL;
		f->base_len = 0;
		f->from = 0;
	}
	f->base_at = 0;
	f->sent = f->from;
	f->until = e->durable;
	f->state = FOLD_STATE;
}

void engine_fold_down(struct engine *e)
{
	if (e->fold->state != FOLD_WRITES)
		reset(e->fold);
}

static void feed_state(struct engine *e, struct engine_fold *f, struct engine_proc *p)
{
	struct base_str all = {f->base, f->base_len}, piece = base_str_sub(all, f->base_at, PIECE);
	struct base_buf *b;

	if (!piece.len) {
		free(f->base);
		f->base = NULL;
		f->state = FOLD_EVENTS;
		return;
	}
	b = engine_proc_begin(e, p, WIRE_FOLD_STATE);
	if (!b)
		return;
	wire_fold_state_put(b, &(struct wire_fold_state){.data = piece});
	engine_proc_send(e, p);
	f->base_at += piece.len;
}

static void feed_events(struct engine *e, struct engine_fold *f, struct engine_proc *p)
{
	struct log_commit c;
	struct base_err err;
	struct base_buf *b;

	if (f->sent >= f->until) {
		b = engine_proc_begin(e, p, WIRE_FOLD_TAKE);
		if (!b)
			return;
		f->until = f->sent;
		wire_fold_take_put(b, &(struct wire_fold_take){.seq = f->until});
		engine_proc_send(e, p);
		f->state = FOLD_WAITS;
		return;
	}
	e->commit.count = 0; /* the reader's view moves on */
	if (log_read(e->reader, f->sent + 1, &c, &err) < 0) {
		engine_note(3, "no snapshot: %s", err.text);
		engine_proc_kill(e, p, "cannot be fed");
		f->state = FOLD_WAITS;
		return;
	}
	b = engine_proc_begin(e, p, WIRE_FOLD_BLOCK);
	if (!b)
		return;
	wire_fold_block_put(b, &(struct wire_fold_block){.first_seq = c.first_seq, .block = c.block});
	engine_proc_send(e, p);
	f->sent = c.first_seq + c.count - 1;
}

void engine_fold_pump(struct engine *e)
{
	struct engine_fold *f = e->fold;
	struct engine_proc *p;

	if (f->state != FOLD_STATE && f->state != FOLD_EVENTS)
		return;
	p = process(e);
	while (p->conn && !p->killed && wire_conn_pending(p->conn) < FEED_HIGH &&
		(f->state == FOLD_STATE || f->state == FOLD_EVENTS))
		if (f->state == FOLD_STATE)
			feed_state(e, f, p);
		else
			feed_events(e, f, p);
}

bool engine_fold_more(struct engine *e)
{
	struct engine_fold *f = e->fold;
	const struct engine_proc *p;

	if (f->state != FOLD_STATE && f->state != FOLD_EVENTS)
		return false;
	p = process(e);
	return p->conn && !p->killed && wire_conn_pending(p->conn) < FEED_HIGH;
}

/* --- the answer --- */

static void *write_main(void *arg)
{
	struct engine_fold *f = arg;
	struct base_hash hash = base_hash_of(base_buf_view(&f->data));
	uint64_t one = 1;

	f->rc = log_snapshot_put(f->log, f->until, &hash, base_buf_view(&f->data), &f->err);
	if (write(f->efd, &one, sizeof(one)) < 0)
		BASE_CHECK(errno == EAGAIN);
	return NULL;
}

static void on_written(struct engine *e, struct engine_source *s, uint32_t events)
{
	struct engine_fold *f = s->owner;

	(void)events;
	pthread_join(f->thread, NULL);
	engine_unwatch(e, f->efd);
	close(f->efd);
	f->efd = -1;
	if (f->rc < 0)
		engine_note(2, "no snapshot: %s", f->err.text);
	else if (f->until > e->snapshot_seq)
		e->snapshot_seq = f->until;
	reset(f);
}

void engine_fold_settle(struct engine *e)
{
	if (e->fold->state == FOLD_WRITES)
		on_written(e, &e->fold->source, 0);
}

static void write_file(struct engine *e, struct engine_fold *f)
{
	f->log = e->log;
	f->source = (struct engine_source){on_written, f};
	f->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->state = FOLD_WRITES;
	if (f->efd >= 0 && engine_watch(e, f->efd, &f->source, EPOLLIN) == 0 &&
		pthread_create(&f->thread, NULL, write_main, f) == 0)
		return;
	if (f->efd >= 0)
		close(f->efd);
	f->efd = -1;
	reset(f);
}

void engine_fold_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body)
{
	struct engine_fold *f = e->fold;
	struct wire_fold_piece piece;
	struct wire_fold_done done;
	struct base_hash hash;
	struct base_buf *b;

	if (f->state != FOLD_WAITS)
		return;
	if (type == WIRE_FOLD_PIECE && wire_fold_piece_get(body, &piece) == 0) {
		base_buf_str(&f->data, piece.data);
		return;
	}
	if (type != WIRE_FOLD_DONE || wire_fold_done_get(body, &done) < 0)
		return;
	hash = base_hash_of(base_buf_view(&f->data));
	if (base_buf_failed(&f->data) || done.seq != f->until || done.len != f->data.len ||
		!base_hash_eq(&hash, &done.hash)) {
		engine_proc_kill(e, p, "gave a snapshot that is not whole");
		return;
	}
	write_file(e, f);
	b = engine_proc_begin(e, p, WIRE_STOP);
	if (b) {
		wire_stop_put(b, &(struct wire_stop){0});
		engine_proc_send(e, p);
		p->state = ENGINE_STOPPING;
	}
}

void engine_fold_done(struct engine *e)
{
	if (!e->fold)
		return;
	if (e->fold->efd >= 0) {
		pthread_join(e->fold->thread, NULL);
		close(e->fold->efd);
	}
	reset(e->fold);
	free(e->fold);
	e->fold = NULL;
}
