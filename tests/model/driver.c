/*
 * The real core behind lines of JSON, for the reference model (model.py): a command a line on stdin, what was
 * decided a line on stdout. {"cmd":"deploy"|"run_start"|…, "advance":MS, "run","step","attempt","id","outcome",
 * "name","text","key","by","body","params"}; {"cmd":"check"} folds the log from zero and from a snapshot.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "house.h"

static const struct {
	const char *name;
	enum core_cmd_type type;
} commands[] = {
	{"start", CORE_CMD_START},
	{"tick", CORE_CMD_TICK},
	{"run_start", CORE_CMD_RUN_START},
	{"run_cancel", CORE_CMD_RUN_CANCEL},
	{"run_pause", CORE_CMD_RUN_PAUSE},
	{"run_resume", CORE_CMD_RUN_RESUME},
	{"run_fork", CORE_CMD_RUN_FORK},
	{"flow_call", CORE_CMD_FLOW_CALL},
	{"flow_done", CORE_CMD_FLOW_DONE},
	{"flow_failed", CORE_CMD_FLOW_FAILED},
	{"effect_result", CORE_CMD_EFFECT_RESULT},
	{"gate_decide", CORE_CMD_GATE_DECIDE},
	{"signal", CORE_CMD_SIGNAL},
	{"fact_put", CORE_CMD_FACT_PUT},
	{"freeze", CORE_CMD_FREEZE},
	{"thaw", CORE_CMD_THAW},
};

static struct base_str text_of(struct base_jv root, const char *name)
{
	return base_jv_str(base_jv_get(root, name));
}

static uint64_t number_of(struct base_jv root, const char *name)
{
	return (uint64_t)base_jv_int(base_jv_get(root, name), 0);
}

static bool command_of(struct base_jv root, struct core_cmd *ret)
{
	struct base_str name = text_of(root, "cmd");

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (!base_str_is(name, commands[i].name))
			continue;
		*ret = (struct core_cmd){.type = commands[i].type,
			.run = number_of(root, "run"),
			.step = (uint32_t)number_of(root, "step"),
			.attempt = (uint32_t)number_of(root, "attempt"),
			.id = number_of(root, "id"),
			.outcome = (unsigned)number_of(root, "outcome"),
			.base = base_jv_int(base_jv_get(root, "base"), -1),
			.name = text_of(root, "name"),
			.text = text_of(root, "text"),
			.key = text_of(root, "key"),
			.body = text_of(root, "body"),
			.params = text_of(root, "params"),
			.by = {.id = text_of(root, "by")}};
		return true;
	}
	return false;
}

/* What a person would have been shown: the answer is bound to it, unless the test wants another. */
static void bind_to_shown(struct house *h, struct base_jv root, struct core_cmd *cmd)
{
	uint64_t seq = core_gate_seq(h->core, cmd->id);
	struct core_gate_opened ev;
	struct core_record rec;
	size_t at;

	if (cmd->type != CORE_CMD_GATE_DECIDE || !seq || base_jv_bool(base_jv_get(root, "wrong"), false))
		return;
	at = h->at[seq];
	assert_int_equal(core_block_next(base_buf_view(&h->log), &at, &rec), 1);
	assert_int_equal(core_gate_opened_get(rec.body, &ev), 0);
	cmd->hash = ev.shown;
}

static void put_events(struct house *h, uint64_t from, struct base_buf *out)
{
	for (uint64_t seq = from + 1; seq <= core_seq(h->core); seq++) {
		struct core_record rec;
		size_t at = h->at[seq];

		assert_int_equal(core_block_next(base_buf_view(&h->log), &at, &rec), 1);
		base_buf_printf(out, "%s{", seq > from + 1 ? "," : "");
		assert_int_equal(core_event_json(rec.type, rec.body, out), 0);
		base_buf_printf(out, "\"type\":\"%s\"}", core_event_name(rec.type));
	}
}

static void answer(struct house *h, uint64_t from)
{
	int64_t due = core_next_due(h->core);
	struct base_buf out;

	base_buf_init(&out, 64 << 20);
	base_buf_printf(&out,
		"{\"status\":%d,\"id\":%llu,\"now\":%lld,\"due\":%lld,\"reply\":%s,\"events\":[",
		h->reply.status, (unsigned long long)h->reply.id, (long long)h->now_ms,
		(long long)(due == INT64_MAX ? -1 : due), h->reply_text[0] ? h->reply_text : "null");
	put_events(h, from, &out);
	base_buf_cstr(&out, "]}\n");
	assert_int_equal(base_buf_failed(&out), 0);
	fwrite(base_buf_view(&out).ptr, 1, out.len, stdout);
	fflush(stdout);
	base_buf_done(&out);
}

static void serve(struct house *h, struct base_jv root)
{
	uint64_t from = core_seq(h->core);
	struct core_cmd cmd;

	h->now_ms += base_jv_int(base_jv_get(root, "advance"), 0);
	if (base_str_is(text_of(root, "cmd"), "check")) {
		house_check(h);
		h->reply = (struct core_reply){.status = 200};
		h->reply_text[0] = '\0';
	} else {
		assert_true(command_of(root, &cmd));
		bind_to_shown(h, root, &cmd);
		house_do(h, cmd);
	}
	answer(h, from);
}

int main(void)
{
	static char line[1 << 20];
	void *state = NULL;

	if (!fgets(line, sizeof(line), stdin))
		return 2;
	line[strcspn(line, "\n")] = '\0';
	house_set_up(&state, line);
	answer(state, core_seq(((struct house *)state)->core));
	while (fgets(line, sizeof(line), stdin)) {
		struct base_json *doc;

		assert_int_equal(base_json_parse(base_str_of(line), &doc, NULL), 0);
		serve(state, base_json_root(doc));
		base_json_free(doc);
	}
	return house_tear_down(&state);
}
