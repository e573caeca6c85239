#include "connect/model.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "connect/connect_int.h"
#include "connect/sse.h"
#include "connect/xfer.h"

/*
 * model.generate: one request to one model; which one is core's choice (config.route). What may have been
 * charged and was not answered is reported as usage {"unknown":true}.
 */

enum { TOKENS_MAX = 1000000000, EVENT_MAX = 4 << 20, PIECE_MAX = 1 << 20 };

struct model_call {
	const struct model_api *api;
	struct model_reply reply;
	struct sse sse;
	bool stream;
	int fault; /* of a stream: what an event returned */
	struct base_str provider, model;
};

int64_t model_tokens(struct base_jv v)
{
	int64_t n = base_jv_int(v, 0);

	return n < 0 ? 0 : n > TOKENS_MAX ? TOKENS_MAX : n;
}

struct model_tool_call *model_tool(struct model_reply *r, size_t index)
{
	if (index >= MODEL_TOOLS_MAX || index > r->tool_count)
		return NULL;
	if (index == r->tool_count) {
		base_buf_init(&r->tools[index].args, PIECE_MAX);
		r->tool_count++;
	}
	return &r->tools[index];
}

void model_jw_value(struct base_jw *w, struct base_jv v)
{
	base_jw_raw(w, BASE_STR("null")); /* places the comma */
	if (base_buf_failed(w->b))
		return;
	w->b->len -= 4;
	base_jv_write(v, w->b);
}

void model_put_temperature(struct base_jw *w, struct base_jv args)
{
	struct base_jv temperature = base_jv_get(args, "temperature");

	if (base_jv_kind(temperature) == BASE_JSON_NONE)
		return;
	base_jw_key(w, "temperature");
	model_jw_value(w, temperature);
}

const char *model_stop(const char *const (*names)[2], size_t count, struct base_str reason)
{
	for (size_t i = 0; i < count; i++)
		if (base_str_is(reason, names[i][0]))
			return names[i][1];
	return "other";
}

static void model_free(struct connect_call *call)
{
	struct model_call *m = call->state;
	struct model_reply *r = &m->reply;

	for (size_t i = 0; i < r->tool_count; i++)
		base_buf_done(&r->tools[i].args);
	base_buf_done(&r->text);
	sse_done(&m->sse);
}

/* --- usage and cost --- */

/* Nano-USD, rounded up: prices are per million tokens. -1 without a price. */
static int64_t cost_of(const struct model_usage *u, struct base_jv prices)
{
	const struct {
		const char *name;
		int64_t tokens;
	} parts[] = {{"input", u->input}, {"output", u->output}, {"cache_read", u->cache_read},
		{"cache_write", u->cache_write}};
	unsigned __int128 sum = 0;

	if (u->cost_nusd >= 0)
		return u->cost_nusd;
	if (base_jv_kind(base_jv_get(prices, "input")) != BASE_JSON_INT ||
		base_jv_kind(base_jv_get(prices, "output")) != BASE_JSON_INT)
		return -1;
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		/* Without a price of their own, cached tokens cost what others do. */
		int64_t price = base_jv_int(
			base_jv_get(prices, parts[i].name), base_jv_int(base_jv_get(prices, "input"), 0));

		sum += (unsigned __int128)(price < 0 ? 0 : price) * (uint64_t)parts[i].tokens;
	}
	sum = (sum + 999999) / 1000000;
	return sum > INT64_MAX ? INT64_MAX : (int64_t)sum;
}

static void put_tokens(struct base_jw *w, const struct model_usage *u)
{
	base_jw_mint(w, "input_tokens", u->input);
	base_jw_mint(w, "output_tokens", u->output);
	base_jw_mint(w, "cache_read_tokens", u->cache_read);
	base_jw_mint(w, "cache_write_tokens", u->cache_write);
}

/* certain: the provider gave the figures of a whole reply. */
static void put_usage(
	struct connect_call *call, const struct model_call *m, bool certain, struct base_buf *out)
{
	int64_t cost = cost_of(&m->reply.usage, connect_config(call, "prices"));
	struct base_jw w = base_jw_of(out);

	base_jw_obj(&w);
	base_jw_mstr(&w, "provider", m->provider);
	base_jw_mstr(&w, "model", m->model);
	put_tokens(&w, &m->reply.usage);
	if (certain && m->reply.counted && cost >= 0)
		base_jw_mint(&w, "cost_nusd", cost);
	else
		base_jw_mbool(&w, "unknown", true);
	base_jw_end_obj(&w);
}

/* --- the reply --- */

/* A model's arguments are its own text: what is not a JSON object is shown as it came. */
static void put_tool_calls(struct base_jw *w, const struct model_reply *r)
{
	base_jw_key(w, "tool_calls");
	base_jw_arr(w);
	for (size_t i = 0; i < r->tool_count; i++) {
		struct base_str text = base_buf_view(&r->tools[i].args);
		struct base_json *doc = NULL;

		base_jw_obj(w);
		base_jw_mstr(w, "id", r->tools[i].id);
		base_jw_mstr(w, "name", r->tools[i].name);
		if (base_json_parse(text.len ? text : BASE_STR("{}"), &doc, NULL) == 0 &&
			base_jv_kind(base_json_root(doc)) == BASE_JSON_OBJ) {
			base_jw_key(w, "args");
			model_jw_value(w, base_json_root(doc));
		} else {
			base_jw_mraw(w, "args", BASE_STR("{}"));
			base_jw_mstr(w, "invalid", text);
		}
		base_json_free(doc);
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

static void finish_reply(struct connect_call *call, struct model_call *m)
{
	struct model_reply *r = &m->reply;
	struct base_buf value, usage;
	struct base_jw w;

	base_buf_init(&value, CONNECT_VALUE_MAX);
	base_buf_init(&usage, 4096);
	w = base_jw_of(&value);
	base_jw_obj(&w);
	base_jw_mstr(&w, "text", base_buf_view(&r->text));
	put_tool_calls(&w, r);
	base_jw_mcstr(&w, "stop", r->tool_count && strcmp(r->stop, "end") == 0 ? "tools" : r->stop);
	base_jw_mstr(&w, "model", r->model.len ? r->model : m->model);
	base_jw_key(&w, "usage");
	base_jw_obj(&w);
	put_tokens(&w, &r->usage);
	base_jw_end_obj(&w);
	base_jw_end_obj(&w);
	put_usage(call, m, true, &usage);
	connect_finish(call,
		&(struct connect_result){
			.outcome = base_buf_failed(&value) ? WIRE_FAILED : WIRE_DONE,
			.value = base_buf_failed(&value) ? BASE_STR("{\"code\":\"too_large\",\"message\":"
								    "\"the model's answer is "
								    "larger than a step may hold\"}")
							 : base_buf_view(&value),
			.usage = base_buf_view(&usage),
		});
	base_buf_done(&value);
	base_buf_done(&usage);
}

/* Ends the call: no reply, but the provider may charge for it. */
static void fail_unknown(
	struct connect_call *call, const struct model_call *m, const char *code, const char *what)
{
	struct base_err err = {0};
	struct base_buf usage;

	base_buf_init(&usage, 4096);
	put_usage(call, m, false, &usage);
	base_err_set(&err, -EIO, "%s: %s", call->xfer->host, what);
	connect_fail_with(call, &(struct connect_problem){.outcome = WIRE_RETRY,
					.code = code,
					.message = err.text,
					.usage = base_buf_view(&usage)});
	base_buf_done(&usage);
}

static const char *advice(long status)
{
	switch (status) {
	case 401:
	case 403:
		return "it does not accept the key: check the provider's secret (aios secrets set)";
	case 402:
		return "its account has no credit";
	case 404:
		return "it does not know this model or address: check aios.yaml";
	case 429:
		return "too many requests";
	case 529:
		return "it is overloaded";
	default:
		return status >= 500 ? "it cannot answer now" : "it does not take this request";
	}
}

static void fail_status(struct connect_call *call, long status)
{
	struct connect_xfer *x = call->xfer;
	bool later = status == 408 || status == 409 || status == 429 || status >= 500;
	struct base_str words = BASE_STR_NONE;
	struct base_json *doc = NULL;
	struct base_err err = {0};
	char extra[32];

	if (base_json_parse(base_buf_view(&x->body), &doc, NULL) == 0)
		words = base_jv_str(base_jv_get(base_jv_get(base_json_root(doc), "error"), "message"));
	words = base_str_sub(words, 0, 300);
	base_err_set(&err, -EIO, "%s: answered %ld, %s%s%.*s", x->host, status, advice(status),
		words.len ? ": " : "", BASE_STR_ARG(words));
	base_json_free(doc);
	snprintf(extra, sizeof(extra), "\"status\":%ld", status);
	connect_fail_with(call, &(struct connect_problem){
					.outcome = later ? WIRE_RETRY : WIRE_FAILED,
					.code = status == 401 || status == 403 ? "denied"
						: later			       ? "busy"
									       : "invalid",
					.message = err.text,
					.extra = base_str_of(extra),
					.retry_after_ms = connect_xfer_retry_after_ms(x),
				});
}

/* --- transfer --- */

static int on_event(void *userdata, struct base_str data)
{
	struct model_call *m = userdata;
	struct base_json *doc;
	int r;

	if (base_str_is(data, "[DONE]")) {
		m->reply.complete = true;
		return 0;
	}
	if (base_json_parse(data, &doc, NULL) < 0)
		return -EBADMSG;
	r = m->api->event(base_json_root(doc), &m->reply);
	base_json_free(doc);
	return r < 0 ? r : base_buf_failed(&m->reply.text);
}

static bool on_stream(struct connect_call *call, struct base_str data)
{
	struct model_call *m = call->state;

	if (m->fault == 0)
		m->fault = sse_feed(&m->sse, data, on_event, m);
	return m->fault == 0;
}

static void stream_ended(struct connect_call *call, struct model_call *m, CURLcode code)
{
	struct base_err err = {0};

	/* Some servers end without the mark: a reason to stop and an orderly end will do. */
	if (m->fault == 0 && (m->reply.complete || (code == CURLE_OK && m->reply.stopped))) {
		finish_reply(call, m);
		return;
	}
	if (m->fault == -EPIPE)
		base_err_set(
			&err, -EIO, "it broke off: %.*s", BASE_STR_ARG(base_str_sub(m->reply.error, 0, 300)));
	else if (m->fault == -EFBIG)
		base_err_set(&err, -EIO, "its answer is larger than is taken");
	else if (m->fault < 0)
		base_err_set(&err, -EIO, "its stream cannot be understood");
	else
		base_err_set(&err, -EIO, "its stream was cut in the middle%s%s", code == CURLE_OK ? "" : ": ",
			code == CURLE_OK ? "" : curl_easy_strerror(code));
	fail_unknown(call, m, "broken", err.text);
}

static void whole_ended(struct connect_call *call, struct model_call *m)
{
	struct base_json *doc = NULL;
	int r = base_json_parse(base_buf_view(&call->xfer->body), &doc, NULL);

	if (r == 0)
		r = m->api->reply(base_json_root(doc), &m->reply);
	base_json_free(doc);
	if (r == 0)
		finish_reply(call, m);
	else
		fail_unknown(call, m, "broken", "its answer cannot be understood");
}

static void remote(struct connect_call *call, struct model_call *m, struct base_jv provider);

/* With the value that the secret had before it was rotated. Nothing was charged: the key was not taken. */
static void again(struct connect_call *call, struct model_call *m)
{
	connect_xfer_free(call->xfer);
	call->xfer = NULL;
	call->billed = false;
	sse_done(&m->sse);
	remote(call, m, connect_config(call, "provider"));
}

static void on_done(struct connect_call *call, CURLcode code)
{
	struct model_call *m = call->state;
	struct connect_xfer *x = call->xfer;
	long status = connect_xfer_status(x);

	if ((status == 401 || status == 403) && connect_secret_turn(call)) {
		again(call, m);
		return;
	}
	if (status >= 400 || (code == CURLE_OK && status != 200)) {
		call->billed = false;
		fail_status(call, status);
	} else if (m->stream && status == 200) {
		stream_ended(call, m, code);
	} else if (code != CURLE_OK) {
		connect_xfer_fail(x, code);
	} else {
		whole_ended(call, m);
	}
}

static int put_key(
	struct connect_call *call, const struct model_api *api, struct base_str url, struct base_err *err)
{
	struct connect_xfer *x = call->xfer;
	struct base_str secret;
	struct base_buf value;
	int r = connect_secret_for(call, base_str_of(x->host), &secret, err);

	if (r < 0 || !secret.len)
		return r;
	if (!base_str_starts(url, BASE_STR("https://")) && !connect_is_loopback(x->host))
		return base_err_set(err, -EACCES,
			"%s: a key is not sent without TLS to another machine: use https", x->host);
	base_buf_init(&value, 65536);
	base_buf_cstr(&value, api->key_prefix);
	base_buf_str(&value, secret);
	r = connect_xfer_header(x, base_str_of(api->key_header), base_buf_view(&value), err);
	if (value.ptr)
		sodium_memzero(value.ptr, value.len);
	base_buf_done(&value);
	return r;
}

static struct base_str url_of(struct connect_call *call, const struct model_api *api, struct base_str base)
{
	const char *path = api->path;

	while (base.len && base.ptr[base.len - 1] == '/')
		base.len--;
	if (base_str_ends(base, BASE_STR("/v1")) && strncmp(path, "/v1/", 4) == 0)
		path += 3;
	return base_arena_printf(call->arena, "%.*s%s", BASE_STR_ARG(base), path);
}

static struct base_str body_of(struct connect_call *call, const struct model_call *m, struct base_jv provider)
{
	struct base_str body;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, CONNECT_VALUE_MAX);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	m->api->request(call->args, m->model, m->stream, provider, &w);
	base_jw_end_obj(&w);
	body = base_buf_failed(&b) ? BASE_STR_NONE : base_arena_dup(call->arena, base_buf_view(&b));
	base_buf_done(&b);
	return body;
}

static int prepare(
	struct connect_call *call, struct model_call *m, struct base_jv provider, struct base_err *err)
{
	struct base_str url = url_of(call, m->api, base_jv_str(base_jv_get(provider, "url")));
	struct base_str body = body_of(call, m, provider);
	int r;

	if (!url.ptr || !body.ptr)
		return base_err_set(err, -ENOMEM, "out of memory");
	r = connect_xfer_new(call, url, MODEL_TEXT_MAX, err);
	if (r == 0)
		r = put_key(call, m->api, url, err);
	if (r == 0)
		r = connect_xfer_header(
			call->xfer, BASE_STR("Content-Type"), BASE_STR("application/json"), err);
	if (r == 0 && m->api->version_header)
		r = connect_xfer_header(
			call->xfer, base_str_of(m->api->version_header), base_str_of(m->api->version), err);
	if (r < 0)
		return r;
	connect_xfer_post(call->xfer, body);
	connect_xfer_ca(call->xfer, base_jv_str(base_jv_get(provider, "ca")));
	return 0;
}

static void remote(struct connect_call *call, struct model_call *m, struct base_jv provider)
{
	struct base_err err = {0};
	int r = prepare(call, m, provider, &err);

	if (r < 0) {
		connect_fail(call, r == -ENOMEM ? WIRE_RETRY : WIRE_FAILED,
			r == -EACCES ? "denied" : "invalid", "provider %.*s: %s", BASE_STR_ARG(m->provider),
			err.text);
		return;
	}
	call->xfer->bills = true;
	call->xfer->on_done = on_done;
	if (m->stream) {
		sse_init(&m->sse, EVENT_MAX);
		call->xfer->on_data = on_stream;
	}
	connect_xfer_start(call->xfer);
}

static void local(struct connect_call *call, struct model_call *m)
{
	int r = model_local(call->args, &m->reply);

	if (r < 0) {
		connect_fail(call, r == -ENOMEM ? WIRE_RETRY : WIRE_FAILED, "failed",
			"the built-in model cannot hold that much text; shorten the messages");
		return;
	}
	finish_reply(call, m);
}

static const struct model_api *api_of(struct base_str name)
{
	static const struct model_api *const apis[] = {&model_anthropic, &model_openai};

	for (size_t i = 0; i < sizeof(apis) / sizeof(*apis); i++)
		if (base_str_is(name, apis[i]->name))
			return apis[i];
	return NULL;
}

void connect_model_generate(struct connect_call *call)
{
	struct base_jv route = connect_config(call, "route"), provider = connect_config(call, "provider");
	struct base_str api = base_jv_str(base_jv_get(provider, "api"));
	struct model_call *m = base_arena_alloc(call->arena, sizeof(*m));

	if (!m) {
		connect_fail(call, WIRE_RETRY, "busy", "aios-connect is out of memory");
		return;
	}
	m->provider = base_jv_str(base_jv_get(route, "provider"));
	m->model = base_jv_str(base_jv_get(route, "model"));
	m->reply.arena = call->arena;
	m->reply.stop = "other";
	m->reply.usage.cost_nusd = -1;
	base_buf_init(&m->reply.text, MODEL_TEXT_MAX);
	m->stream = base_jv_bool(base_jv_get(provider, "stream"), false);
	m->api = api_of(api.len ? api : m->provider);
	call->state = m;
	call->on_free = model_free;
	if (m->api)
		remote(call, m, provider);
	else if (base_str_is(m->provider, "local"))
		local(call, m);
	else
		connect_fail(call, WIRE_FAILED, "invalid",
			"provider %.*s: its api must be anthropic or openai", BASE_STR_ARG(m->provider));
}
