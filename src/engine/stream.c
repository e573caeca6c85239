#include "engine/engine_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/*
 * GET /v1/events: as JSON, or as a stream of server-sent events that goes on from Last-Event-ID. A stream
 * reads the log from where it stands; only committed events are seen. A slow reader holds back nobody: its
 * stream waits for its door's socket, and the door drops it when its own buffer is full.
 */

enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 1000, PUMP_HIGH = 1 << 20, CHUNK_HIGH = 64 << 10 };

struct stream {
	struct stream *next;
	struct engine_req *q; /* that opened it: it ends with what that was let in with (K7) */
	uint64_t at;	      /* last event sent */
};
struct engine_streams {
	struct stream *first;
};

void engine_put_event(struct base_buf *b, uint64_t seq, const struct core_record *rec)
{
	const char *name = core_event_name(rec->type);
	size_t mark;

	base_buf_printf(b, "{\"seq\":%llu,\"type\":\"%s\",\"at\":%lld,", (unsigned long long)seq,
		name ? name : "unknown", (long long)rec->time_ms);
	mark = b->len;
	if (rec->subject.len) {
		base_member_str(b, "subject", rec->subject);
	} else if (!name || core_event_json(rec->type, rec->body, b) < 0) {
		b->len = mark;
	}
	if (b->len && !base_buf_failed(b) && b->ptr[b->len - 1] == ',')
		b->len--;
	base_buf_char(b, '}');
}

/* Walks committed events behind `after`; stops when fn returns false. Returns the last event seen. */
static uint64_t walk(struct engine *e, uint64_t after,
	bool (*fn)(void *userdata, uint64_t seq, const struct core_record *r), void *userdata)
{
	struct core_record rec;
	uint64_t seq;

	for (seq = after + 1; seq <= e->durable; seq++)
		if (engine_read_event(e, seq, &rec) < 0 || !fn(userdata, seq, &rec))
			break;
	return seq - 1;
}

struct list {
	struct base_buf *b;
	uint64_t left;
	bool first;
};

static bool list_one(void *userdata, uint64_t seq, const struct core_record *rec)
{
	struct list *l = userdata;

	if (!l->left || l->b->len > 15 << 20)
		return false;
	l->left--;
	if (!l->first)
		base_buf_char(l->b, ',');
	l->first = false;
	engine_put_event(l->b, seq, rec);
	return true;
}

static void open_stream(struct engine *e, struct engine_req *q, uint64_t after)
{
	struct stream *s = calloc(1, sizeof(*s));
	struct base_buf *b = engine_proc_begin(e, q->door, WIRE_DOOR_REPLY);

	BASE_CHECK(s);
	if (b) {
		wire_door_reply_put(b,
			&(struct wire_door_reply){
				.req = q->req, .status = 200, .content_type = BASE_STR("text/event-stream")});
		engine_proc_send(e, q->door);
	}
	if (!e->streams) {
		e->streams = calloc(1, sizeof(*e->streams));
		BASE_CHECK(e->streams);
	}
	*s = (struct stream){.next = e->streams->first, .q = q, .at = after};
	e->streams->first = s;
}

void engine_op_events(struct engine *e, struct engine_req *q)
{
	uint64_t after = engine_param_u64(q, "after", UINT64_MAX),
		 limit = engine_param_u64(q, "limit", LIMIT_DEFAULT);
	bool stream = engine_param(q, "stream").len > 0;
	struct list l = {.b = &q->reply, .first = true};
	uint64_t last;

	if (stream) {
		engine_seen(e, q);
		after = q->has_last_event ? q->last_event : after == UINT64_MAX ? e->durable : after;
		open_stream(e, q, after < e->durable ? after : e->durable);
		return;
	}
	limit = limit < 1 ? 1 : limit > LIMIT_MAX ? LIMIT_MAX : limit;
	/* Without a position: the newest. */
	if (after == UINT64_MAX)
		after = e->durable > limit ? e->durable - limit : 0;
	l.left = limit;
	base_buf_cstr(&q->reply, "{\"items\":[");
	last = walk(e, after, list_one, &l);
	base_buf_printf(&q->reply, "],\"last\":%llu,\"durable\":%llu}",
		(unsigned long long)(last < after ? after : last), (unsigned long long)e->durable);
	engine_reply_built(e, q, 200);
}

static bool stream_one(void *userdata, uint64_t seq, const struct core_record *rec)
{
	struct base_buf *b = userdata;
	const char *name = core_event_name(rec->type);

	if (b->len > CHUNK_HIGH)
		return false;
	base_buf_printf(b, "id: %llu\nevent: %s\ndata: ", (unsigned long long)seq, name ? name : "unknown");
	engine_put_event(b, seq, rec);
	base_buf_cstr(b, "\n\n");
	return true;
}

static void drop(struct engine *e, struct stream **at)
{
	struct stream *s = *at;

	*at = s->next;
	engine_req_free(e, s->q);
	free(s);
}

void engine_stream_check(struct engine *e)
{
	struct stream **at = e->streams ? &e->streams->first : NULL;

	while (at && *at) {
		struct stream *s = *at;
		struct base_buf *b;

		if (engine_still_holds(e, s->q)) {
			at = &s->next;
			continue;
		}
		b = s->q->generation == s->q->door->generation
			    ? engine_proc_begin(e, s->q->door, WIRE_DOOR_CHUNK)
			    : NULL;
		if (b) {
			wire_door_chunk_put(b, &(struct wire_door_chunk){.req = s->q->req, .end = 1});
			engine_proc_send(e, s->q->door);
		}
		drop(e, at);
	}
}

void engine_stream_pump(struct engine *e)
{
	struct stream **at;

	engine_stream_check(e);
	at = e->streams ? &e->streams->first : NULL;
	while (at && *at) {
		struct stream *s = *at;

		if (s->q->generation != s->q->door->generation || !s->q->door->conn) {
			drop(e, at);
			continue;
		}
		while (s->at < e->durable && wire_conn_pending(s->q->door->conn) < PUMP_HIGH) {
			uint64_t from = s->at;
			struct base_buf *b;

			base_buf_clear(&e->scratch);
			s->at = walk(e, s->at, stream_one, &e->scratch);
			if (s->at == from || base_buf_failed(&e->scratch))
				break;
			b = engine_proc_begin(e, s->q->door, WIRE_DOOR_CHUNK);
			if (!b)
				break;
			wire_door_chunk_put(b, &(struct wire_door_chunk){
						       .req = s->q->req, .data = base_buf_view(&e->scratch)});
			engine_proc_send(e, s->q->door);
		}
		at = &s->next;
	}
}

void engine_stream_gone(struct engine *e, const struct engine_proc *door, bool all, uint64_t req)
{
	struct stream **at = e->streams ? &e->streams->first : NULL;

	while (at && *at)
		if ((*at)->q->door == door && (all || (*at)->q->req == req))
			drop(e, at);
		else
			at = &(*at)->next;
}

void engine_streams_done(struct engine *e)
{
	while (e->streams && e->streams->first)
		drop(e, &e->streams->first);
	free(e->streams);
	e->streams = NULL;
}

bool engine_stream_more(struct engine *e)
{
	for (const struct stream *s = e->streams ? e->streams->first : NULL; s; s = s->next)
		if (s->at < e->durable && s->q->door->conn && wire_conn_pending(s->q->door->conn) < PUMP_HIGH)
			return true;
	return false;
}
