#include "engine/engine_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/outcome.h"

/*
 * session.get and session.put: short-lived context in aiosd's memory, outside the log. Each entry has a time
 * to live; together they keep below a cap, the least recently used leave first. A restart forgets all.
 */

enum { SESSIONS_MAX = 16 << 20, SESSION_MAX = 1 << 20 };
static const int64_t ttl_default_ms = 24 * 3600 * 1000;

struct session {
	struct session *prev, *next;
	int64_t until;	/* monotonic ms */
	uint8_t labels; /* of the run that wrote it */
	size_t len, id_len;
	char *value, *id;
};
struct engine_sessions {
	struct base_names *by_id;
	struct session *head, *tail; /* oldest use first */
	size_t bytes;
};

static void list_del(struct engine_sessions *s, struct session *x)
{
	if (x->prev)
		x->prev->next = x->next;
	else
		s->head = x->next;
	if (x->next)
		x->next->prev = x->prev;
	else
		s->tail = x->prev;
}

static void list_add(struct engine_sessions *s, struct session *x)
{
	x->next = NULL;
	x->prev = s->tail;
	if (s->tail)
		s->tail->next = x;
	else
		s->head = x;
	s->tail = x;
}

static void drop(struct engine_sessions *s, struct session *x)
{
	base_names_remove(s->by_id, (struct base_str){x->id, x->id_len});
	list_del(s, x);
	s->bytes -= x->len + x->id_len + sizeof(*x);
	free(x->value);
	free(x->id);
	free(x);
}

static struct engine_sessions *sessions(struct engine *e)
{
	if (!e->sessions) {
		e->sessions = calloc(1, sizeof(*e->sessions));
		if (e->sessions && base_names_new(&e->sessions->by_id) < 0) {
			free(e->sessions);
			e->sessions = NULL;
		}
	}
	return e->sessions;
}

void engine_sessions_done(struct engine *e)
{
	struct engine_sessions *s = e->sessions;

	if (!s)
		return;
	while (s->head)
		drop(s, s->head);
	base_names_free(s->by_id);
	free(s);
	e->sessions = NULL;
}

static int put(struct engine *e, struct engine_sessions *s, struct base_str id, struct base_str value,
	uint8_t labels, int64_t ttl_ms)
{
	struct session *old = base_names_get(s->by_id, id), *x;

	if (value.len > SESSION_MAX)
		return -EFBIG;
	x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	x->value = malloc(value.len + 1);
	x->id = malloc(id.len + 1);
	if (old)
		drop(s, old);
	if (!x->value || !x->id || base_names_put(s->by_id, id, x) < 0) {
		free(x->value);
		free(x->id);
		free(x);
		return -ENOMEM;
	}
	memcpy(x->value, value.ptr, value.len);
	memcpy(x->id, id.ptr, id.len);
	x->len = value.len;
	x->id_len = id.len;
	x->labels = labels;
	x->until = e->mono + (ttl_ms > 0 ? ttl_ms : ttl_default_ms);
	list_add(s, x);
	s->bytes += x->len + x->id_len + sizeof(*x);
	while (s->bytes > SESSIONS_MAX && s->head != x)
		drop(s, s->head);
	return 0;
}

static void get(struct engine *e, struct engine_sessions *s, struct base_str id, uint8_t *ret_labels,
	struct base_buf *ret)
{
	struct session *x = base_names_get(s->by_id, id);

	if (x && x->until <= e->mono) {
		drop(s, x);
		x = NULL;
	}
	if (!x) {
		*ret_labels = 0;
		base_buf_cstr(ret, "null");
		return;
	}
	list_del(s, x);
	list_add(s, x);
	*ret_labels = x->labels;
	base_buf_put(ret, x->value, x->len);
}

void engine_session_call(struct engine *e, struct base_str action, struct base_str args, uint8_t *labels,
	unsigned *ret_outcome, struct base_buf *ret)
{
	struct engine_sessions *s = sessions(e);
	struct base_json *doc = NULL;
	struct base_buf value;
	struct base_jv root;
	int rc = s ? base_json_parse(args, &doc, NULL) : -ENOMEM;

	base_buf_init(&value, 16 << 20);
	if (rc == 0) {
		struct base_str id;

		root = base_json_root(doc);
		id = base_jv_str(base_jv_get(root, "id"));
		if (base_str_is(action, "session.put")) {
			base_jv_write(base_jv_get(root, "value"), &value);
			rc = base_buf_failed(&value);
			rc = rc ? rc
				: put(e, s, id, base_buf_view(&value), *labels,
					  base_jv_int(base_jv_get(root, "ttl_ms"), 0));
			if (rc == 0)
				base_buf_cstr(ret, "null");
		} else {
			get(e, s, id, labels, ret);
		}
	}
	if (rc < 0) {
		base_buf_clear(ret);
		base_buf_printf(ret, "{\"code\":\"failed\",\"message\":\"%s\"}",
			rc == -EFBIG ? "a session holds at most 1 MiB" : "out of memory");
	}
	*ret_outcome = rc < 0 ? WIRE_FAILED : WIRE_DONE;
	base_buf_done(&value);
	base_json_free(doc);
}
