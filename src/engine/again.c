#include "engine/engine_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/*
 * Idempotency-Key: a POST that comes again with the same key, caller and content is answered with what the first was
 * answered, and does nothing. The answers are kept in memory, the oldest leave first; a start of a run keeps its key in
 * the log instead (core), and an outcome too (api_admin.c).
 */

enum { KEPT_MAX = 4096, BYTES_MAX = 16 << 20, BODY_MAX = 256 << 10 };

struct engine_again {
	struct engine_again *next; /* younger */
	char *key;
	struct base_hash content;
	bool done;
	int status;
	char *body;
	size_t len;
};

struct engine_agains {
	struct base_names *by_key;
	struct engine_again *first, *last; /* oldest first */
	size_t count, bytes;
};

static bool takes_part(enum wire_op op)
{
	switch (op) {
	case WIRE_OP_DEPLOY:
	case WIRE_OP_RUN_CANCEL:
	case WIRE_OP_RUN_PAUSE:
	case WIRE_OP_RUN_ROLLBACK:
	case WIRE_OP_RUN_RESUME:
	case WIRE_OP_SIGNAL:
	case WIRE_OP_GATE_APPROVE:
	case WIRE_OP_GATE_DENY:
	case WIRE_OP_GATE_SETTLE:
	case WIRE_OP_OUTCOME:
	case WIRE_OP_FREEZE:
	case WIRE_OP_THAW:
	case WIRE_OP_KEY_REVOKE:
	case WIRE_OP_DOC_PUT:
	case WIRE_OP_FACT_PUT:
		return true;
	default:
		return false;
	}
}

static void drop(struct engine_agains *all, struct engine_again *a)
{
	struct engine_again **at = &all->first, *before = NULL;

	while (*at && *at != a) {
		before = *at;
		at = &(*at)->next;
	}
	BASE_CHECK(*at == a);
	*at = a->next;
	if (all->last == a)
		all->last = before;
	base_names_remove(all->by_key, base_str_of(a->key));
	all->count--;
	all->bytes -= a->len;
	free(a->key);
	free(a->body);
	free(a);
}

static struct engine_agains *agains(struct engine *e)
{
	if (!e->agains) {
		e->agains = calloc(1, sizeof(*e->agains));
		BASE_CHECK(e->agains && base_names_new(&e->agains->by_key) == 0);
	}
	return e->agains;
}

void engine_agains_done(struct engine *e)
{
	struct engine_agains *all = e->agains;

	if (!all)
		return;
	while (all->first)
		drop(all, all->first);
	base_names_free(all->by_key);
	free(all);
	e->agains = NULL;
}

/* What makes two requests the same: operation, parameters, body. */
static struct base_hash content_of(struct engine *e, const struct engine_req *q)
{
	base_buf_clear(&e->scratch);
	base_buf_u64(&e->scratch, (uint64_t)q->op);
	base_jv_write(q->params, &e->scratch);
	return base_hash_of2(base_buf_view(&e->scratch), q->body);
}

static void begin(struct engine_agains *all, struct engine_req *q, const struct base_hash *content)
{
	struct engine_again *a = calloc(1, sizeof(*a));

	BASE_CHECK(a);
	a->key = strndup(q->key.ptr, q->key.len);
	a->content = *content;
	BASE_CHECK(a->key && base_names_put(all->by_key, q->key, a) == 0);
	if (all->last)
		all->last->next = a;
	else
		all->first = a;
	all->last = a;
	all->count++;
	q->again = true;
}

bool engine_again(struct engine *e, struct engine_req *q)
{
	struct engine_agains *all;
	struct engine_again *a;
	struct base_hash content;

	if (!q->key.len || !takes_part(q->op))
		return false;
	all = agains(e);
	content = content_of(e, q);
	a = base_names_get(all->by_key, q->key);
	if (!a) {
		begin(all, q, &content);
		return false;
	}
	if (!base_hash_eq(&a->content, &content))
		engine_reply_problem(
			e, q, 409, "key_reused", "this Idempotency-Key came with another request before");
	else if (!a->done)
		engine_reply_problem(e, q, 409, "in_progress",
			"the first request with this Idempotency-Key is not answered yet");
	else
		engine_reply(e, q, a->status, (struct base_str){a->body, a->len});
	return true;
}

void engine_again_answered(struct engine *e, struct engine_req *q)
{
	struct engine_agains *all = e->agains;
	struct engine_again *a = q->again && all ? base_names_get(all->by_key, q->key) : NULL;

	if (!a)
		return;
	q->again = false;
	/* What failed on our side, or may go better next time, may be asked again. */
	if (q->status >= 500 || q->status == 429 || q->status == 401 || q->reply.len > BODY_MAX) {
		drop(all, a);
		return;
	}
	a->body = malloc(q->reply.len + 1);
	BASE_CHECK(a->body);
	if (q->reply.len)
		memcpy(a->body, q->reply.ptr, q->reply.len);
	a->len = q->reply.len;
	a->status = q->status;
	a->done = true;
	all->bytes += a->len;
	while (all->first && all->first->done && all->first != a &&
		(all->count > KEPT_MAX || all->bytes > BYTES_MAX))
		drop(all, all->first);
}
