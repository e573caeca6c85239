#include <errno.h>
#include <string.h>

#include "connect/model.h"

/* Chat Completions of OpenAI, and of the many servers that speak the same. */

static void put_tool_calls(struct base_jw *w, struct base_jv calls)
{
	struct base_jv_iter it = {0};
	struct base_jv call;
	struct base_str key;
	struct base_buf args;

	base_jw_key(w, "tool_calls");
	base_jw_arr(w);
	base_buf_init(&args, MODEL_TEXT_MAX);
	while (base_jv_next(calls, &it, &key, &call)) {
		base_buf_clear(&args);
		base_jv_write(base_jv_get(call, "args"), &args);
		base_jw_obj(w);
		base_jw_mstr(w, "id", base_jv_str(base_jv_get(call, "id")));
		base_jw_mcstr(w, "type", "function");
		base_jw_key(w, "function");
		base_jw_obj(w);
		base_jw_mstr(w, "name", base_jv_str(base_jv_get(call, "name")));
		base_jw_mstr(w, "arguments", base_buf_view(&args));
		base_jw_end_obj(w);
		base_jw_end_obj(w);
	}
	base_buf_done(&args);
	base_jw_end_arr(w);
}

static void put_message(struct base_jw *w, struct base_jv message)
{
	struct base_str role = base_jv_str(base_jv_get(message, "role"));
	struct base_jv content = base_jv_get(message, "content"), calls = base_jv_get(message, "tool_calls");

	base_jw_obj(w);
	base_jw_mstr(w, "role", role);
	if (base_str_is(role, "tool"))
		base_jw_mstr(w, "tool_call_id", base_jv_str(base_jv_get(message, "id")));
	base_jw_key(w, "content");
	if (base_jv_kind(content) == BASE_JSON_STR)
		base_jw_str(w, base_jv_str(content));
	else
		base_jw_null(w);
	if (base_jv_len(calls))
		put_tool_calls(w, calls);
	base_jw_end_obj(w);
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
		base_jw_mcstr(w, "type", "function");
		base_jw_key(w, "function");
		base_jw_obj(w);
		base_jw_mstr(w, "name", base_jv_str(base_jv_get(tool, "name")));
		base_jw_mstr(w, "description", base_jv_str(base_jv_get(tool, "description")));
		base_jw_key(w, "parameters");
		model_jw_value(w, base_jv_get(tool, "args"));
		base_jw_end_obj(w);
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

/* OpenAI itself has renamed the member; the servers that follow it know the old name. */
static const char *max_tokens_name(struct base_jv provider)
{
	struct base_str url = base_jv_str(base_jv_get(provider, "url"));

	return base_str_starts(url, BASE_STR("https://api.openai.com/")) ? "max_completion_tokens"
									 : "max_tokens";
}

static void request(
	struct base_jv args, struct base_str model, bool stream, struct base_jv provider, struct base_jw *w)
{
	struct base_str system = base_jv_str(base_jv_get(args, "system")), key;
	struct base_jv message;
	struct base_jv_iter it = {0};

	base_jw_mstr(w, "model", model);
	base_jw_mint(w, max_tokens_name(provider), base_jv_int(base_jv_get(args, "max_tokens"), 1024));
	base_jw_key(w, "messages");
	base_jw_arr(w);
	if (system.len) {
		base_jw_obj(w);
		base_jw_mcstr(w, "role", "system");
		base_jw_mstr(w, "content", system);
		base_jw_end_obj(w);
	}
	while (base_jv_next(base_jv_get(args, "messages"), &it, &key, &message))
		put_message(w, message);
	base_jw_end_arr(w);
	put_tools(w, base_jv_get(args, "tools"));
	model_put_temperature(w, args);
	if (stream) {
		base_jw_mbool(w, "stream", true);
		base_jw_mraw(w, "stream_options", BASE_STR("{\"include_usage\":true}"));
	}
}

static const char *stop_of(struct base_str reason)
{
	static const char *const names[][2] = {
		{"stop", "end"},
		{"length", "length"},
		{"tool_calls", "tools"},
		{"function_call", "tools"},
		{"content_filter", "refusal"},
	};

	return model_stop(names, sizeof(names) / sizeof(*names), reason);
}

/* prompt_tokens includes what came from the cache. xAI sends what it billed, in 10^-10 USD. */
static void take_usage(struct base_jv usage, struct model_reply *reply)
{
	struct model_usage *ret = &reply->usage;
	struct base_jv details = base_jv_get(usage, "prompt_tokens_details");
	int64_t ticks = base_jv_int(base_jv_get(usage, "cost_in_usd_ticks"), -1);

	if (base_jv_kind(usage) != BASE_JSON_OBJ)
		return;
	reply->counted = true;
	ret->cache_read = model_tokens(base_jv_get(details, "cached_tokens"));
	ret->cache_write = model_tokens(base_jv_get(details, "cache_write_tokens"));
	ret->input = model_tokens(base_jv_get(usage, "prompt_tokens")) - ret->cache_read - ret->cache_write;
	ret->input = ret->input < 0 ? 0 : ret->input;
	ret->output = model_tokens(base_jv_get(usage, "completion_tokens"));
	if (ticks >= 0)
		ret->cost_nusd = ticks / 10 + (ticks % 10 != 0);
}

static void take_model(struct base_jv root, struct model_reply *ret)
{
	struct base_str model = base_jv_str(base_jv_get(root, "model"));

	if (model.len && !ret->model.len)
		ret->model = base_arena_dup(ret->arena, model);
}

static void set_if(struct base_arena *arena, struct base_str *to, struct base_jv v)
{
	if (base_jv_str(v).len && !to->len)
		*to = base_arena_dup(arena, base_jv_str(v));
}

/* In a stream each piece names its call by its index; in a whole reply the place is the index. */
static int take_tools(struct base_jv calls, struct model_reply *ret)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv call;
	int64_t place = 0;

	while (base_jv_next(calls, &it, &key, &call)) {
		struct base_jv function = base_jv_get(call, "function");
		int64_t index = base_jv_int(base_jv_get(call, "index"), place++);
		struct model_tool_call *tool = index < 0 ? NULL : model_tool(ret, (size_t)index);

		if (!tool)
			return -EBADMSG;
		set_if(ret->arena, &tool->id, base_jv_get(call, "id"));
		set_if(ret->arena, &tool->name, base_jv_get(function, "name"));
		base_buf_str(&tool->args, base_jv_str(base_jv_get(function, "arguments")));
	}
	return 0;
}

static int reply(struct base_jv root, struct model_reply *ret)
{
	struct base_jv choice = base_jv_at(base_jv_get(root, "choices"), 0);
	struct base_jv message = base_jv_get(choice, "message");

	if (base_jv_kind(message) != BASE_JSON_OBJ)
		return -EBADMSG;
	base_buf_str(&ret->text, base_jv_str(base_jv_get(message, "content")));
	base_buf_str(&ret->text, base_jv_str(base_jv_get(message, "refusal")));
	if (take_tools(base_jv_get(message, "tool_calls"), ret) < 0)
		return -EBADMSG;
	take_model(root, ret);
	take_usage(base_jv_get(root, "usage"), ret);
	ret->stop = stop_of(base_jv_str(base_jv_get(choice, "finish_reason")));
	ret->complete = true;
	return 0;
}

static int event(struct base_jv data, struct model_reply *ret)
{
	struct base_jv error = base_jv_get(data, "error");
	struct base_jv choices = base_jv_get(data, "choices"), choice = base_jv_at(choices, 0);
	struct base_jv delta = base_jv_get(choice, "delta"), finish = base_jv_get(choice, "finish_reason");

	if (base_jv_kind(error) == BASE_JSON_OBJ) {
		ret->error = base_arena_dup(ret->arena, base_jv_str(base_jv_get(error, "message")));
		return -EPIPE;
	}
	take_model(data, ret);
	take_usage(base_jv_get(data, "usage"), ret);
	base_buf_str(&ret->text, base_jv_str(base_jv_get(delta, "content")));
	base_buf_str(&ret->text, base_jv_str(base_jv_get(delta, "refusal")));
	if (base_jv_kind(finish) == BASE_JSON_STR) {
		ret->stop = stop_of(base_jv_str(finish));
		ret->stopped = true;
	}
	return take_tools(base_jv_get(delta, "tool_calls"), ret);
}

const struct model_api model_openai = {
	.name = "openai",
	.path = "/chat/completions",
	.request = request,
	.reply = reply,
	.event = event,
	.key_header = "Authorization",
	.key_prefix = "Bearer ",
};
