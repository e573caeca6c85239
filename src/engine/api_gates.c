#include "engine/engine_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Gates: the inbox, one gate with what it shows, and its decision. Open gates are answered from the state;
 * decided ones by aios-views. What was shown is read from the log. */

enum { BATCH_MAX = 200 };

/* Appends the members of `object` (JSON text) without its last brace. */
static void put_open(struct base_buf *b, struct base_str object)
{
	size_t n = object.len;

	while (n && object.ptr[n - 1] != '}')
		n--;
	base_buf_put(b, object.ptr, n ? n - 1 : 0);
}

static void put_show(struct engine *e, struct base_buf *b, uint64_t seq)
{
	struct core_record rec;
	struct base_str show;

	base_buf_cstr(b, ",\"show\":");
	if (engine_read_blob(e, seq, &rec, &show) == 0 && rec.type == CORE_EV_GATE_OPENED && show.len)
		base_buf_str(b, show);
	else
		base_buf_cstr(b, "null");
}

bool engine_gate_put(struct engine *e, uint64_t gate, struct base_buf *b)
{
	struct base_hash shown;
	struct base_buf head;
	bool found;

	base_buf_init(&head, 4 << 20);
	found = core_gate_json(e->core, gate, &head) == 0;
	if (found) {
		put_open(b, base_buf_view(&head));
		put_show(e, b, core_gate_seq(e->core, gate));
		if (core_gate_signs(e->core, gate, &shown))
			engine_gate_challenge_put(e, gate, &shown, b);
		base_buf_char(b, '}');
	}
	base_buf_done(&head);
	return found;
}

/* `csrf`: for pages, else NULL. */
static bool open_gate(struct engine *e, struct engine_req *q, uint64_t gate, const char *csrf)
{
	if (!engine_gate_put(e, gate, &q->reply))
		return false;
	if (csrf) {
		q->reply.len--; /* the brace */
		base_buf_printf(&q->reply, ",\"csrf\":\"%s\"}", csrf);
	}
	return true;
}

static void on_decided(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_req *q = userdata;
	struct base_json *doc = NULL;
	struct base_jv gate;
	struct base_buf head;

	if (status != 1 || base_json_parse(value, &doc, NULL) < 0) {
		engine_reply_ask(e, q, status == 1 ? -EBADMSG : status, value, sealed);
		return;
	}
	gate = base_jv_at(base_jv_get(base_json_root(doc), "items"), 0);
	if (base_jv_kind(gate) != BASE_JSON_OBJ) {
		engine_reply_problem(e, q, 404, "unknown_gate", "there is no gate %.*s",
			BASE_STR_ARG(engine_param(q, "gate")));
	} else {
		base_buf_init(&head, 4 << 20);
		base_jv_write(gate, &head);
		put_open(&q->reply, base_buf_view(&head));
		put_show(e, &q->reply, (uint64_t)base_jv_int(base_jv_get(gate, "seq"), 0));
		base_buf_char(&q->reply, '}');
		base_buf_done(&head);
		engine_reply_built(e, q, 200);
	}
	base_json_free(doc);
}

static void show_gate(struct engine *e, struct engine_req *q, const char *csrf)
{
	uint64_t gate = engine_param_u64(q, "gate", 0);
	struct base_buf b;

	if (open_gate(e, q, gate, csrf)) {
		engine_reply_built(e, q, 200);
		return;
	}
	base_buf_init(&b, 128);
	base_buf_printf(&b, "{\"gate\":%llu}", (unsigned long long)gate);
	engine_views_ask_as(e, q, "gates", base_buf_view(&b), on_decided, q);
	base_buf_done(&b);
}

void engine_op_gate(struct engine *e, struct engine_req *q)
{
	show_gate(e, q, NULL);
}

void engine_op_page_gate(struct engine *e, struct engine_req *q)
{
	char csrf[65];

	engine_web_csrf(e, q, csrf);
	show_gate(e, q, csrf);
}

void engine_op_gates(struct engine *e, struct engine_req *q)
{
	struct base_buf all;

	if (base_str_is(engine_param(q, "state"), "decided")) {
		engine_op_views(e, q);
		return;
	}
	base_buf_init(&all, 16 << 20);
	if ((base_str_is(engine_param(q, "mine"), "1")
			    ? core_gates_of_json(e->core, &q->by, engine_wall_ms(), &all)
			    : core_gates_json(e->core, &all)) < 0) {
		engine_reply_problem(e, q, 500, "internal", "out of memory");
	} else {
		base_buf_cstr(&q->reply, "{\"items\":");
		engine_scope_list(e, q, engine_array_of(&all), &q->reply);
		base_buf_char(&q->reply, '}');
		engine_reply_built(e, q, 200);
	}
	base_buf_done(&all);
}

/* Fills cmd from a decision's body; false and answered when it is not one. */
static bool read_decision(struct engine *e, struct engine_req *q, struct base_jv root, struct core_cmd *cmd,
	struct base_buf *value)
{
	static const char *const how[] = {"", "shell", "api", "console"};
	struct base_str answer = base_jv_str(base_jv_get(root, "answer")),
			shown = base_jv_str(base_jv_get(root, "shown"));
	struct base_jv v = base_jv_get(root, "value");

	if (base_jv_kind(v) == BASE_JSON_NONE)
		v = base_jv_get(root, "result");
	if (base_jv_kind(v) != BASE_JSON_NONE)
		base_jv_write(v, value);
	cmd->id = engine_param_u64(q, "gate", 0);
	cmd->body = base_buf_view(value);
	cmd->key = base_str_of(how[q->credential < 4 ? q->credential : 0]);
	cmd->text = base_jv_str(base_jv_get(root, "reason"));
	cmd->name = answer;
	if (q->op == WIRE_OP_GATE_APPROVE)
		cmd->name = value->len ? BASE_STR("edit") : BASE_STR("approve");
	if (q->op == WIRE_OP_GATE_DENY)
		cmd->name = BASE_STR("deny");
	if (!cmd->name.len) {
		engine_reply_problem(e, q, 400, "invalid",
			"the body needs an \"answer\": happened, send or give_up; to an undo that failed "
			"retry, skip or give_up");
		return false;
	}
	if (base_hash_from_hex(shown, &cmd->hash) < 0) {
		engine_reply_problem(e, q, 400, "invalid",
			"the body needs \"shown\": the hash of what the gate showed (GET /v1/gates/%llu)",
			(unsigned long long)cmd->id);
		return false;
	}
	return true;
}

void engine_op_gate_decide(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_GATE_DECIDE};
	struct base_json *doc = engine_body_json(e, q);
	struct base_buf value;

	if (!doc)
		return;
	base_buf_init(&value, 20 << 20);
	if (q->op == WIRE_OP_GATE_APPROVE &&
		base_jv_kind(base_jv_get(base_json_root(doc), "assertion")) == BASE_JSON_OBJ)
		engine_gate_sign(e, q, base_json_root(doc), base_jv_get(base_json_root(doc), "assertion"));
	else if (read_decision(e, q, base_json_root(doc), &cmd, &value))
		engine_reply_cmd(e, q, &cmd);
	base_buf_done(&value);
	base_json_free(doc);
}

/* --- several, and somebody else --- */

static void put_outcome(struct base_jw *w, uint64_t gate, int status, struct base_str body)
{
	base_jw_obj(w);
	base_jw_mint(w, "gate", (int64_t)gate);
	base_jw_mint(w, "status", status);
	base_jw_mraw(w, status >= 400 ? "problem" : "result", body.len ? body : BASE_STR("{}"));
	base_jw_end_obj(w);
}

static struct base_str grant_of(struct base_str answer)
{
	if (base_str_is(answer, "approve") || base_str_is(answer, "edit"))
		return BASE_STR("api.gate_approve");
	return base_str_is(answer, "deny") ? BASE_STR("api.gate_deny") : BASE_STR("api.gate_settle");
}

/* As if it had been asked for alone: with the grant that it needs alone. */
static void decide_one(struct engine *e, struct engine_req *q, struct base_jv item, struct base_jw *w)
{
	static const char *const how[] = {"", "shell", "api", "console"};
	struct base_str answer = base_jv_str(base_jv_get(item, "answer"));
	struct core_cmd cmd = {.type = CORE_CMD_GATE_DECIDE,
		.by = q->by,
		.id = (uint64_t)base_jv_int(base_jv_get(item, "gate"), 0),
		.name = answer,
		.text = base_jv_str(base_jv_get(item, "reason")),
		.key = base_str_of(how[q->credential < 4 ? q->credential : 0])};
	struct base_jv v = base_jv_get(item, "value");
	struct core_reply r;
	struct base_buf value;
	int rc;

	base_buf_init(&value, 20 << 20);
	if (base_jv_kind(v) != BASE_JSON_NONE)
		base_jv_write(v, &value);
	cmd.body = base_buf_view(&value);
	if (base_hash_from_hex(base_jv_str(base_jv_get(item, "shown")), &cmd.hash) < 0) {
		put_outcome(w, cmd.id, 400,
			BASE_STR("{\"code\":\"invalid\",\"message\":\"it needs shown, the hash of what the "
				 "gate "
				 "showed\"}"));
	} else if (q->scoped && !engine_scope_run(e, q, core_gate_run(e->core, cmd.id))) {
		put_outcome(w, cmd.id, 404,
			base_arena_printf(e->arena,
				"{\"code\":\"unknown_gate\",\"message\":\"there is no gate %llu\"}",
				(unsigned long long)cmd.id));
	} else if (!core_may(e->core, &q->by, grant_of(answer), engine_wall_ms())) {
		put_outcome(w, cmd.id, 403,
			BASE_STR("{\"code\":\"denied\",\"message\":\"no grant for this answer\"}"));
	} else {
		rc = engine_decide(e, &cmd, &r);
		if (rc < 0)
			put_outcome(w, cmd.id, rc == -ENOSPC ? 507 : 500,
				BASE_STR("{\"code\":\"internal\",\"message\":\"it could not be decided\"}"));
		else
			put_outcome(w, cmd.id, r.status, r.body);
	}
	base_buf_done(&value);
}

void engine_op_gates_decide(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	struct base_jv_iter it = {0};
	struct base_jv items, item;
	struct base_str none;
	struct base_jw w;

	if (!doc)
		return;
	items = base_json_root(doc);
	if (base_jv_kind(items) == BASE_JSON_OBJ)
		items = base_jv_get(items, "items");
	if (base_jv_kind(items) != BASE_JSON_ARR || base_jv_len(items) > BATCH_MAX) {
		engine_reply_problem(e, q, 400, "invalid",
			"the body is {\"items\":[{\"gate\",\"shown\",\"answer\"}]}, at most %d of them",
			BATCH_MAX);
		base_json_free(doc);
		return;
	}
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_key(&w, "items");
	base_jw_arr(&w);
	while (base_jv_next(items, &it, &none, &item))
		decide_one(e, q, item, &w);
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	base_json_free(doc);
	engine_reply_built(e, q, 200);
}

void engine_op_gate_delegate(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_GATE_DELEGATE, .id = engine_param_u64(q, "gate", 0)};
	struct base_json *doc = engine_body_json(e, q);

	if (!doc)
		return;
	cmd.name = base_jv_str(base_jv_get(base_json_root(doc), "to"));
	cmd.text = base_jv_str(base_jv_get(base_json_root(doc), "reason"));
	if (!cmd.name.len)
		engine_reply_problem(
			e, q, 400, "invalid", "the body needs \"to\": operator, or key/NAME (aios keys)");
	else
		engine_reply_cmd(e, q, &cmd);
	base_json_free(doc);
}

/* A form: the same, with the token of the page that it stood on. An edit that was not asked for is not one.
 */
void engine_op_page_decide(struct engine *e, struct engine_req *q)
{
	struct core_cmd cmd = {.type = CORE_CMD_GATE_DECIDE};
	struct base_json *doc = engine_body_json(e, q), *assertion = NULL;
	struct base_str token;
	struct base_buf value;
	char csrf[65];

	if (!doc)
		return;
	engine_web_csrf(e, q, csrf);
	token = base_jv_str(base_jv_get(base_json_root(doc), "csrf"));
	base_buf_init(&value, 20 << 20);
	if (!base_str_is(token, csrf)) {
		engine_reply_problem(e, q, 403, "denied", "the form is too old: open the gate again");
	} else if (base_json_parse(base_jv_str(base_jv_get(base_json_root(doc), "assertion")), &assertion,
			   NULL) == 0 &&
		   base_str_is(base_jv_str(base_jv_get(base_json_root(doc), "answer")), "approve")) {
		engine_gate_sign(e, q, base_json_root(doc), base_json_root(assertion));
	} else if (read_decision(e, q, base_json_root(doc), &cmd, &value)) {
		if (base_str_is(cmd.name, "approve") || base_str_is(cmd.name, "deny"))
			cmd.body = BASE_STR_NONE;
		engine_reply_cmd(e, q, &cmd);
	}
	base_buf_done(&value);
	base_json_free(assertion);
	base_json_free(doc);
}

/* --- the home page --- */

static void on_costs(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_req *q = userdata;
	struct base_buf all;
	char csrf[65];

	(void)sealed;
	engine_web_csrf(e, q, csrf);
	base_buf_cstr(&q->reply, ",\"costs\":");
	base_buf_str(&q->reply, status == 1 ? value : BASE_STR("null"));
	base_buf_init(&all, 16 << 20);
	base_buf_cstr(&q->reply, ",\"gates\":");
	engine_scope_list(
		e, q, core_gates_json(e->core, &all) < 0 ? BASE_STR("[]") : engine_array_of(&all), &q->reply);
	base_buf_done(&all);
	base_buf_cstr(&q->reply, ",\"name\":");
	base_json_quote(&q->reply,
		e->config ? base_jv_str(base_jv_get(base_json_root(e->config), "name")) : BASE_STR_NONE);
	base_buf_printf(&q->reply, ",\"frozen\":%s,\"csrf\":\"%s\"}",
		core_is_frozen(e->core) ? "true" : "false", csrf);
	engine_reply_built(e, q, 200);
}

static void on_runs(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_req *q = userdata;
	struct base_json *doc = NULL;

	(void)sealed;
	base_buf_cstr(&q->reply, "{\"runs\":");
	if (status == 1 && base_json_parse(value, &doc, NULL) == 0)
		base_jv_write(base_jv_get(base_json_root(doc), "items"), &q->reply);
	else
		base_buf_cstr(&q->reply, "[]");
	base_json_free(doc);
	engine_views_ask_as(e, q, "costs", BASE_STR("{\"by\":\"flow\"}"), on_costs, q);
}

void engine_op_page(struct engine *e, struct engine_req *q)
{
	engine_views_ask_as(e, q, "runs", BASE_STR("{\"limit\":50}"), on_runs, q);
}
