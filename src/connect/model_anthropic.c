#include <errno.h>
#include <string.h>

#include "connect/model.h"

/* The Messages API of Anthropic, version 2023-06-01. */

static void put_text_block(struct base_jw *w, struct base_str text)
{
	base_jw_obj(w);
	base_jw_mcstr(w, "type", "text");
	base_jw_mstr(w, "text", text);
	base_jw_end_obj(w);
}

static void put_assistant(struct base_jw *w, struct base_jv message)
{
	struct base_str content = base_jv_str(base_jv_get(message, "content"));
	struct base_jv calls = base_jv_get(message, "tool_calls"), call;
	struct base_jv_iter it = {0};
	struct base_str key;

	base_jw_key(w, "content");
	base_jw_arr(w);
	if (content.len || !base_jv_len(calls))
		put_text_block(w, content);
	while (base_jv_next(calls, &it, &key, &call)) {
		base_jw_obj(w);
		base_jw_mcstr(w, "type", "tool_use");
		base_jw_mstr(w, "id", base_jv_str(base_jv_get(call, "id")));
		base_jw_mstr(w, "name", base_jv_str(base_jv_get(call, "name")));
		base_jw_key(w, "input");
		model_jw_value(w, base_jv_get(call, "args"));
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

static void put_tool_result(struct base_jw *w, struct base_jv message)
{
	base_jw_obj(w);
	base_jw_mcstr(w, "type", "tool_result");
	base_jw_mstr(w, "tool_use_id", base_jv_str(base_jv_get(message, "id")));
	base_jw_mstr(w, "content", base_jv_str(base_jv_get(message, "content")));
	if (base_jv_bool(base_jv_get(message, "error"), false))
		base_jw_mbool(w, "is_error", true);
	base_jw_end_obj(w);
}

/* The results of all tools of one turn belong into one message. */
static void put_messages(struct base_jw *w, struct base_jv messages)
{
	struct base_jv_iter it = {0};
	struct base_str key, role;
	struct base_jv message;
	bool in_tools = false;

	while (base_jv_next(messages, &it, &key, &message)) {
		role = base_jv_str(base_jv_get(message, "role"));
		if (in_tools && !base_str_is(role, "tool")) {
			base_jw_end_arr(w);
			base_jw_end_obj(w);
			in_tools = false;
		}
		if (base_str_is(role, "tool")) {
			if (!in_tools) {
				base_jw_obj(w);
				base_jw_mcstr(w, "role", "user");
				base_jw_key(w, "content");
				base_jw_arr(w);
			}
			in_tools = true;
			put_tool_result(w, message);
			continue;
		}
		base_jw_obj(w);
		base_jw_mstr(w, "role", role);
		if (base_str_is(role, "assistant"))
			put_assistant(w, message);
		else
			base_jw_mstr(w, "content", base_jv_str(base_jv_get(message, "content")));
		base_jw_end_obj(w);
	}
	if (in_tools) {
		base_jw_end_arr(w);
		base_jw_end_obj(w);
	}
}

static void put_tools(struct base_jw *w, struct base_jv tools)
{
	struct base_jv_iter it = {0};
	struct base_jv tool;
	struct base_str key;

	if (!base_jv_len(tools))
		return;
	base_jw_key(w, "tools");
	base_jw_arr(w);
	while (base_jv_next(tools, &it, &key, &tool)) {
		base_jw_obj(w);
		base_jw_mstr(w, "name", base_jv_str(base_jv_get(tool, "name")));
		base_jw_mstr(w, "description", base_jv_str(base_jv_get(tool, "description")));
		base_jw_key(w, "input_schema");
		model_jw_value(w, base_jv_get(tool, "args"));
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

static void request(
	struct base_jv args, struct base_str model, bool stream, struct base_jv provider, struct base_jw *w)
{
	struct base_str system = base_jv_str(base_jv_get(args, "system"));

	(void)provider;
	base_jw_mstr(w, "model", model);
	base_jw_mint(w, "max_tokens", base_jv_int(base_jv_get(args, "max_tokens"), 1024));
	if (system.len)
		base_jw_mstr(w, "system", system);
	base_jw_key(w, "messages");
	base_jw_arr(w);
	put_messages(w, base_jv_get(args, "messages"));
	base_jw_end_arr(w);
	put_tools(w, base_jv_get(args, "tools"));
	model_put_temperature(w, args);
	if (stream)
		base_jw_mbool(w, "stream", true);
}

static const char *stop_of(struct base_str reason)
{
	static const char *const names[][2] = {
		{"end_turn", "end"},
		{"stop_sequence", "end"},
		{"max_tokens", "length"},
		{"tool_use", "tools"},
		{"refusal", "refusal"},
		{"model_context_window_exceeded", "length"},
		{"pause_turn", "pause"},
	};

	return model_stop(names, sizeof(names) / sizeof(*names), reason);
}

/* input_tokens is without what was written to or read from the cache. Members that are absent keep what came
 * before. */
static void take_usage(struct base_jv usage, struct model_reply *reply)
{
	struct model_usage *ret = &reply->usage;
	const struct {
		const char *name;
		int64_t *to;
	} members[] = {
		{"input_tokens", &ret->input},
		{"output_tokens", &ret->output},
		{"cache_read_input_tokens", &ret->cache_read},
		{"cache_creation_input_tokens", &ret->cache_write},
	};

	reply->counted = reply->counted || base_jv_kind(usage) == BASE_JSON_OBJ;
	for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
		struct base_jv v = base_jv_get(usage, members[i].name);

		if (base_jv_kind(v) == BASE_JSON_INT)
			*members[i].to = model_tokens(v);
	}
}

static void take_model(struct base_jv message, struct model_reply *ret)
{
	struct base_str model = base_jv_str(base_jv_get(message, "model"));

	if (model.len)
		ret->model = base_arena_dup(ret->arena, model);
}

static int begin_tool(struct base_jv block, struct model_reply *ret)
{
	struct model_tool_call *tool = model_tool(ret, ret->tool_count);

	if (!tool)
		return -EBADMSG;
	tool->id = base_arena_dup(ret->arena, base_jv_str(base_jv_get(block, "id")));
	tool->name = base_arena_dup(ret->arena, base_jv_str(base_jv_get(block, "name")));
	return 0;
}

static int reply(struct base_jv root, struct model_reply *ret)
{
	struct base_jv content = base_jv_get(root, "content"), block;
	struct base_jv_iter it = {0};
	struct base_str key;

	if (base_jv_kind(content) != BASE_JSON_ARR)
		return -EBADMSG;
	while (base_jv_next(content, &it, &key, &block)) {
		struct base_str type = base_jv_str(base_jv_get(block, "type"));

		if (base_str_is(type, "text")) {
			base_buf_str(&ret->text, base_jv_str(base_jv_get(block, "text")));
		} else if (base_str_is(type, "tool_use")) {
			if (begin_tool(block, ret) < 0)
				return -EBADMSG;
			base_jv_write(base_jv_get(block, "input"), &ret->tools[ret->tool_count - 1].args);
		}
	}
	take_model(root, ret);
	take_usage(base_jv_get(root, "usage"), ret);
	ret->stop = stop_of(base_jv_str(base_jv_get(root, "stop_reason")));
	ret->complete = true;
	return 0;
}

static int on_delta(struct base_jv delta, struct model_reply *ret)
{
	struct base_str type = base_jv_str(base_jv_get(delta, "type"));

	if (base_str_is(type, "text_delta")) {
		base_buf_str(&ret->text, base_jv_str(base_jv_get(delta, "text")));
	} else if (base_str_is(type, "input_json_delta")) {
		if (!ret->tool_count)
			return -EBADMSG;
		base_buf_str(&ret->tools[ret->tool_count - 1].args,
			base_jv_str(base_jv_get(delta, "partial_json")));
	}
	return 0;
}

static int event(struct base_jv data, struct model_reply *ret)
{
	struct base_str type = base_jv_str(base_jv_get(data, "type"));

	if (base_str_is(type, "message_start")) {
		struct base_jv message = base_jv_get(data, "message");

		take_model(message, ret);
		take_usage(base_jv_get(message, "usage"), ret);
	} else if (base_str_is(type, "content_block_start")) {
		struct base_jv block = base_jv_get(data, "content_block");

		if (base_str_is(base_jv_str(base_jv_get(block, "type")), "tool_use"))
			return begin_tool(block, ret);
		base_buf_str(&ret->text, base_jv_str(base_jv_get(block, "text")));
	} else if (base_str_is(type, "content_block_delta")) {
		return on_delta(base_jv_get(data, "delta"), ret);
	} else if (base_str_is(type, "message_delta")) {
		ret->stop = stop_of(base_jv_str(base_jv_get(base_jv_get(data, "delta"), "stop_reason")));
		take_usage(base_jv_get(data, "usage"), ret);
	} else if (base_str_is(type, "message_stop")) {
		ret->complete = true;
	} else if (base_str_is(type, "error")) {
		ret->error = base_arena_dup(
			ret->arena, base_jv_str(base_jv_get(base_jv_get(data, "error"), "message")));
		return -EPIPE;
	}
	return 0; /* ping, content_block_stop, and what comes later */
}

const struct model_api model_anthropic = {
	.name = "anthropic",
	.path = "/v1/messages",
	.request = request,
	.reply = reply,
	.event = event,
	.key_header = "x-api-key",
	.key_prefix = "",
	.version_header = "anthropic-version",
	.version = "2023-06-01",
};
