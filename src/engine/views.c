#include "engine/engine_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Committed events go to aios-views: straight from the commit while it keeps up, from the log while it does
 * not. It is sent blocks in order, each once per life of the process; what it has it says with views_at.
 */

enum { BACKLOG_HIGH = 1 << 20, LIVE_HIGH = 8 << 20, BATCH_HIGH = 128 << 10 };

static struct engine_proc *views(struct engine *e)
{
	return engine_proc_of(e, ENGINE_VIEWS, 0);
}

static void put_body(
	struct engine *e, struct engine_proc *p, const struct base_hash *hash, struct base_str data)
{
	struct base_buf *b = engine_proc_begin(e, p, WIRE_VIEWS_BODY);

	if (!b)
		return;
	wire_views_body_put(b, &(struct wire_views_body){.hash = *hash, .body = data});
	engine_proc_send(e, p);
}

static void put_block(
	struct engine *e, struct engine_proc *p, uint64_t first_seq, int64_t time_ms, struct base_str block)
{
	struct base_buf *b = engine_proc_begin(e, p, WIRE_VIEWS_BLOCK);

	if (!b)
		return;
	wire_views_block_put(
		b, &(struct wire_views_block){.first_seq = first_seq, .time_ms = time_ms, .block = block});
	engine_proc_send(e, p);
}

static void blob_body(struct engine *e, struct engine_proc *p, const struct base_blob *blob)
{
	struct base_str data;

	if (!base_blob_is_inline(blob) && engine_read_body(e, &blob->hash, &data) == 0)
		put_body(e, p, &blob->hash, data);
}

/* Bodies that the events of a block name by hash come before it, as many at a time as the connection takes: those of one
 * commit may be more than it ever holds. True: all of them are sent. */
static bool put_bodies(struct engine *e, struct engine_proc *p, struct base_str block)
{
	union core_event_any ev;
	struct core_record rec;

	while (p->conn && wire_conn_pending(p->conn) < BACKLOG_HIGH) {
		const struct base_blob *blob;

		if (core_block_next(block, &e->views_record, &rec) != 1) {
			e->views_record = 0;
			return true;
		}
		if (rec.subject.len || core_event_get(rec.type, rec.body, &ev) < 0)
			continue;
		if (rec.type == CORE_EV_STEP_CALLED) {
			blob_body(e, p, &ev.step_called.args);
			blob_body(e, p, &ev.step_called.result);
		} else if ((blob = engine_event_blob(rec.type, &ev))) {
			blob_body(e, p, blob);
		}
	}
	return false;
}

void engine_views_pump(struct engine *e)
{
	struct engine_proc *p;
	struct base_err err;

	if (!e->views_ready || e->views_live)
		return;
	p = views(e);
	while (p->conn && e->views_sent < e->durable && wire_conn_pending(p->conn) < BACKLOG_HIGH) {
		struct log_commit c;

		if (log_read(e->reader, e->views_sent + 1, &c, &err) < 0) {
			engine_note(3, "the views cannot be fed: %s", err.text);
			e->views_ready = false;
			return;
		}
		if (!put_bodies(e, p, c.block))
			return;
		put_block(e, p, c.first_seq, c.time_ms, c.block);
		e->views_sent = c.first_seq + c.count - 1;
	}
	if (e->views_sent >= e->durable)
		e->views_live = true;
}

/* One transaction of the views for many small commits: they wait a moment in the connection. */
static void put_live(struct engine *e, struct engine_proc *p, const struct engine_group *g)
{
	struct base_buf *b = engine_proc_begin(e, p, WIRE_VIEWS_BLOCK);

	if (!b)
		return;
	wire_views_block_put(b,
		&(struct wire_views_block){
			.first_seq = g->first_seq, .time_ms = g->time_ms, .block = base_buf_view(&g->block)});
	if (wire_conn_pending(p->conn) > BATCH_HIGH) {
		engine_proc_send(e, p);
		return;
	}
	engine_proc_send_later(e, p);
	if (!e->views_timer) {
		e->views_timer = true;
		engine_timer_add(e, ENGINE_TIMER_VIEWS, 0, ENGINE_VIEWS_MS);
	}
}

void engine_views_due(struct engine *e)
{
	e->views_timer = false;
	views(e)->dirty = true;
}

void engine_views_committed(struct engine *e, const struct engine_group *g)
{
	struct engine_proc *p;

	if (!e->views_live)
		return;
	p = views(e);
	if (!p->conn || wire_conn_pending(p->conn) + g->body_bytes > LIVE_HIGH ||
		e->views_sent + 1 != g->first_seq) {
		e->views_live = false;
		return;
	}
	for (size_t i = 0; i < g->body_count; i++)
		put_body(e, p, &g->bodies[i].hash, (struct base_str){g->bodies[i].data, g->bodies[i].len});
	put_live(e, p, g);
	e->views_sent = g->first_seq + g->count - 1;
}

static void wipe(struct engine *e)
{
	int dir = open(e->paths.views, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	DIR *d = dir >= 0 ? fdopendir(dir) : NULL;

	if (!d) {
		if (dir >= 0)
			close(dir);
		return;
	}
	while ((entry = readdir(d)))
		if (entry->d_name[0] != '.')
			unlinkat(dir, entry->d_name, 0);
	closedir(d);
}

void engine_views_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body)
{
	struct wire_views_at at;

	if (type != WIRE_VIEWS_AT)
		return;
	if (wire_views_at_get(body, &at) < 0) {
		engine_proc_kill(e, p, "sent a frame that does not decode");
		return;
	}
	if (at.seq > e->durable) {
		/* The log was restored to an older state: what the views hold is not true any more. */
		e->views_wipe = true;
		engine_proc_kill(e, p, "holds more than the log does; it is built again");
		return;
	}
	e->views_at = at.seq;
	if (e->views_ready)
		return;
	e->views_ready = true;
	e->views_live = false;
	e->views_sent = at.seq;
	e->views_record = 0;
}

void engine_views_down(struct engine *e)
{
	e->views_ready = e->views_live = false;
	e->views_at = e->views_sent = 0;
	e->views_record = 0;
	if (!e->views_wipe)
		return;
	e->views_wipe = false;
	wipe(e);
	views(e)->fails = 0;
}

void engine_views_rebuild(struct engine *e)
{
	struct engine_proc *p = views(e);

	if (p->state == ENGINE_DOWN) {
		wipe(e);
		return;
	}
	e->views_wipe = true;
	engine_proc_kill(e, p, "its tables are built again");
}

bool engine_views_more(struct engine *e)
{
	struct engine_proc *p = views(e);

	return e->views_ready && e->views_sent < e->durable && p->conn &&
	       wire_conn_pending(p->conn) < BACKLOG_HIGH;
}
