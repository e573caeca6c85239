#include "engine/engine_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/money.h"

/* Why a run waits: from the state; of one that has ended, what the views know. */

static bool read_event(void *userdata, uint64_t seq, struct core_record *ret)
{
	return engine_read_event(userdata, seq, ret) == 0;
}

static void on_past(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_req *q = userdata;
	struct base_json *doc = NULL;
	struct base_jv root;
	struct base_str state;
	struct base_buf text;
	struct base_jw w;

	if (status != 1 || base_json_parse(value, &doc, NULL) < 0) {
		engine_reply_ask(e, q, status == 1 ? -EBADMSG : status, value, sealed);
		return;
	}
	root = base_json_root(doc);
	state = base_jv_str(base_jv_get(root, "state"));
	base_buf_init(&text, 1 << 16);
	base_buf_printf(&text, "run %lld of %.*s does not wait: it is over, and was %.*s",
		(long long)base_jv_int(base_jv_get(root, "run"), 0),
		BASE_STR_ARG(base_jv_str(base_jv_get(root, "flow"))), BASE_STR_ARG(state));
	base_buf_clear(&q->reply);
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_mint(&w, "run", base_jv_int(base_jv_get(root, "run"), 0));
	base_jw_mint(&w, "now", engine_wall_ms());
	base_jw_mcstr(&w, "kind", "ended");
	base_jw_mstr(&w, "state", state);
	base_jw_mstr(&w, "text", base_buf_view(&text));
	base_jw_mint(&w, "since", base_jv_int(base_jv_get(root, "ended_ms"), 0));
	base_jw_mcstr(&w, "wakes", "");
	base_jw_key(&w, "waits");
	base_jw_arr(&w);
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	base_buf_done(&text);
	base_json_free(doc);
	engine_reply_built(e, q, 200);
}

void engine_op_run_why(struct engine *e, struct engine_req *q)
{
	uint64_t run = engine_param_u64(q, "run", 0);
	struct base_buf b;
	int rc;

	base_buf_clear(&q->reply);
	rc = core_why_json(e->core, run, engine_wall_ms(), read_event, e, &q->reply);
	if (rc == 0) {
		engine_reply_built(e, q, 200);
		return;
	}
	if (rc != -ENOENT) {
		engine_reply_problem(e, q, 500, "internal", "it cannot be told: %s", strerror(-rc));
		return;
	}
	base_buf_init(&b, 64);
	base_buf_printf(&b, "{\"run\":%llu,\"limit\":1}", (unsigned long long)run);
	engine_views_ask_as(e, q, "run", base_buf_view(&b), on_past, q);
	base_buf_done(&b);
}

enum { QUEUE_LANES_MAX = 1000 };

void engine_op_queue(struct engine *e, struct engine_req *q)
{
	struct base_buf all;

	base_buf_init(&all, 16 << 20);
	if (core_queue_json(e->core, engine_param(q, "flow"), QUEUE_LANES_MAX, &all) < 0) {
		engine_reply_problem(e, q, 413, "too_large", "too many lanes for one answer: ?flow=FLOW");
	} else if (q->scoped) { /* the figures of the whole workspace are none of its business */
		base_buf_cstr(&q->reply, "{\"lanes\":");
		engine_scope_list(e, q, engine_array_of(&all), &q->reply);
		base_buf_char(&q->reply, '}');
		engine_reply_built(e, q, 200);
	} else {
		engine_reply(e, q, 200, base_buf_view(&all));
	}
	base_buf_done(&all);
}
