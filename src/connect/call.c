#include "connect/connect_int.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "connect/xfer.h"
#include "wire/frames.h"

/*
 * Invariants:
 *  1. Every effect frame gets exactly one effect_result frame, unless the process ends first.
 *  2. A call that is in c->calls is in flight; connect_finish takes it out and frees it.
 *  3. A result never says that nothing happened once call->left is set and the outside has not said so.
 */

enum { TIMER_DEADLINE = 0, TIMER_OWN = 1 };

static const struct connect_action actions[] = {
	{"mail.send", false, connect_mail_send},
	{"http.get", true, connect_http_get},
	{"file.read", true, connect_file_read},
	{"file.write", false, connect_file_write},
	{"file.list", true, connect_file_list},
	{"feed.read", true, connect_feed_read},
	{"notify.post", true, connect_notify_post},
	{"model.generate", true, connect_model_generate},
	{"test.fail", true, connect_test_fail},
	{"test.slow", true, connect_test_slow},
	{"test.read", true, connect_test_ledger},
	{"test.idempotent", false, connect_test_ledger},
	{"test.lookup", false, connect_test_ledger},
	{"test.once", false, connect_test_ledger},
};

int64_t connect_clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static const struct connect_action *action_find(struct base_str name)
{
	for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++)
		if (base_str_is(name, actions[i].name))
			return &actions[i];
	return NULL;
}

/* Puts one result frame into the queue. */
static void send_result(struct connect *c, uint64_t id, const struct connect_result *r)
{
	const struct wire_effect_result out = {
		.call = id,
		.outcome = (uint8_t)r->outcome,
		.value = r->value,
		.parse = base_str_of(r->parse),
		.raw = r->raw,
		.retry_after_ms = r->retry_after_ms,
		.usage = r->usage,
	};

	wire_effect_result_put(wire_conn_begin(c->wire, WIRE_EFFECT_RESULT), &out);
	if (wire_conn_end(c->wire) == 0)
		return;
	/* Too large for a frame: only a read can bring that much. */
	const struct wire_effect_result small = {
		.call = id,
		.outcome = r->outcome == WIRE_DONE ? WIRE_FAILED : out.outcome,
		.value = BASE_STR("{\"code\":\"too_large\",\"message\":\"the result is larger than a step "
				  "may hold; ask for "
				  "less of it\"}"),
		.usage = r->usage,
	};

	wire_effect_result_put(wire_conn_begin(c->wire, WIRE_EFFECT_RESULT), &small);
	BASE_CHECK(wire_conn_end(c->wire) == 0);
}

static void put_problem(struct base_buf *b, const struct connect_problem *p)
{
	struct base_jw w = base_jw_of(b);

	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", p->code);
	base_jw_mcstr(&w, "message", p->message);
	base_jw_end_obj(&w);
	if (p->extra.len) {
		b->len--; /* the brace */
		base_buf_char(b, ',');
		base_buf_str(b, p->extra);
		base_buf_char(b, '}');
	}
}

/* Answers a frame that never became a call. */
static void refuse(
	struct connect *c, uint64_t id, enum wire_outcome outcome, const char *code, const char *message)
{
	struct base_buf b;

	base_buf_init(&b, 4096);
	put_problem(&b, &(struct connect_problem){.code = code, .message = message});
	send_result(c, id, &(struct connect_result){.outcome = outcome, .value = base_buf_view(&b)});
	base_buf_done(&b);
}

static void tell_canary(struct connect *c, uint64_t id, const char *name, const char *where)
{
	const struct wire_canary_met out = {
		.call = id, .name = base_str_of(name), .where = base_str_of(where)};

	wire_canary_met_put(wire_conn_begin(c->wire, WIRE_CANARY_MET), &out);
	BASE_CHECK(wire_conn_end(c->wire) == 0);
}

static void call_free(struct connect_call *call)
{
	if (call->on_free)
		call->on_free(call);
	connect_xfer_free(call->xfer);
	connect_secret_wipe(call);
	base_json_free(call->args_doc);
	base_json_free(call->config_doc);
	base_arena_free(call->arena); /* the call itself lies in it */
}

/* Decodes what the call needs and opens its secret. */
static int call_prepare(struct connect_call *call, const struct wire_effect *in, struct base_err *err)
{
	int r;

	call->key = base_arena_dup(call->arena, in->key);
	if (in->key.len && !call->key.ptr)
		return base_err_set(err, -ENOMEM, "out of memory");
	r = base_json_parse(in->args, &call->args_doc, err);
	if (r < 0) {
		base_err_prefix(err, "arguments");
		return r;
	}
	call->args = base_json_root(call->args_doc);
	if (in->config.len) {
		r = base_json_parse(in->config, &call->config_doc, err);
		if (r < 0) {
			base_err_prefix(err, "configuration");
			return r;
		}
	}
	return in->secret.len ? connect_secret_open(call, in->secret, err) : 0;
}

static int call_new(struct connect *c, const struct wire_effect *in, const struct connect_action *action,
	struct connect_call **ret)
{
	struct base_arena *arena;
	struct connect_call *call;

	if (base_arena_new(CONNECT_ARENA_MAX, &arena) < 0)
		return -ENOMEM;
	call = base_arena_alloc(arena, sizeof(*call));
	if (!call) {
		base_arena_free(arena);
		return -ENOMEM;
	}
	call->c = c;
	call->arena = arena;
	call->action = action;
	call->id = in->call;
	call->mode = in->mode;
	call->timeout_ms = in->timeout_ms ? in->timeout_ms : 60000;
	call->deadline_ms = connect_clock_ms() + call->timeout_ms;
	*ret = call;
	return 0;
}

/* The hot path of benchmarks: no call, no parsing. */
static void echo(struct connect *c, const struct wire_effect *in)
{
	const struct connect_result r = {.outcome = WIRE_DONE, .value = in->args};

	send_result(c, in->call, &r);
}

int connect_call_begin(struct connect *c, struct base_str body)
{
	struct wire_effect in;
	const struct connect_action *action;
	struct connect_call *call;
	const char *canary;
	struct base_err err;
	int r;

	if (wire_effect_get(body, &in) < 0)
		return -EBADMSG;
	if (base_str_is(in.action, "test.echo")) {
		echo(c, &in);
		return 0;
	}
	action = action_find(in.action);
	if (!action) {
		refuse(c, in.call, WIRE_FAILED, "unknown_action", "aios-connect does not know this action");
		return 0;
	}
	canary = connect_canary_in(c, in.args);
	if (!canary)
		canary = connect_canary_in(c, in.key);
	if (canary) {
		tell_canary(c, in.call, canary, "arguments");
		refuse(c, in.call, WIRE_FAILED, "canary",
			"the arguments hold a canary secret: nothing was sent");
		return 0;
	}
	if (base_idmap_get(c->calls, in.call)) {
		refuse(c, in.call, WIRE_UNKNOWN, "invalid", "this attempt is in flight already");
		return 0;
	}
	if (base_idmap_count(c->calls) >= CONNECT_CALLS_MAX || call_new(c, &in, action, &call) < 0) {
		refuse(c, in.call, WIRE_RETRY, "busy",
			"aios-connect has as many calls in flight as it can hold");
		return 0;
	}
	r = base_idmap_put(c->calls, in.call, call);
	if (r == 0)
		r = base_heap_push(
			c->timers, (struct base_heap_item){call->deadline_ms, call->id, 0, TIMER_DEADLINE});
	if (r < 0) {
		base_idmap_remove(c->calls, in.call);
		call_free(call);
		refuse(c, in.call, WIRE_RETRY, "busy", "aios-connect is out of memory");
		return 0;
	}
	r = call_prepare(call, &in, &err);
	if (r < 0) {
		connect_fail(call, r == -ENOMEM ? WIRE_RETRY : WIRE_FAILED,
			r == -EACCES ? "denied" : "invalid", "%s", err.text);
		return 0;
	}
	action->start(call);
	return 0;
}

enum wire_outcome connect_no_answer(const struct connect_call *call)
{
	return call->left && !call->action->read ? WIRE_UNKNOWN : WIRE_RETRY;
}

/* A model call that may be charged for: its cost is unknown until the provider says. */
static struct base_str unknown_cost(const struct connect_call *call)
{
	return call->billed ? BASE_STR("{\"unknown\":true}") : BASE_STR_NONE;
}

static void cut_short(
	struct connect_call *call, enum wire_outcome otherwise, const char *code, const char *message)
{
	enum wire_outcome outcome;

	if (call->on_cut)
		call->on_cut(call);
	outcome = connect_no_answer(call);
	connect_fail_with(call, &(struct connect_problem){
					.outcome = outcome == WIRE_UNKNOWN ? outcome : otherwise,
					.code = code,
					.message = message,
					.usage = unknown_cost(call),
				});
}

void connect_call_cancel(struct connect *c, uint64_t id)
{
	struct connect_call *call = base_idmap_get(c->calls, id);

	if (call)
		cut_short(call, WIRE_FAILED, "cancelled", "cancelled before it was answered");
}

static void deadline(struct connect_call *call)
{
	struct base_str host = connect_xfer_host(call->xfer);
	char message[400];

	if (host.len)
		snprintf(message, sizeof(message), "%.*s: no answer within %u ms",
			host.len > 253 ? 253 : (int)host.len, host.ptr, call->timeout_ms);
	else
		snprintf(message, sizeof(message), "no answer within %u ms", call->timeout_ms);
	cut_short(call, WIRE_RETRY, "timeout", message);
}

int connect_call_timers(struct connect *c)
{
	struct base_heap_item item;
	int64_t now = connect_clock_ms();

	while (base_heap_peek(c->timers, &item)) {
		struct connect_call *call = base_idmap_get(c->calls, item.id);

		if (call && item.when > now)
			return item.when - now > 3600000 ? 3600000 : (int)(item.when - now);
		base_heap_pop(c->timers, &item);
		if (!call)
			continue;
		if (item.kind == TIMER_OWN)
			call->on_timer(call);
		else
			deadline(call);
	}
	return -1;
}

int connect_call_timer(struct connect_call *call, uint32_t ms)
{
	const struct base_heap_item item = {connect_clock_ms() + ms, call->id, 0, TIMER_OWN};

	return base_heap_push(call->c->timers, item);
}

void connect_calls_drop(struct connect *c)
{
	size_t cursor = 0;
	uint64_t id;
	void *call;

	while (base_idmap_next(c->calls, &cursor, &id, &call)) {
		struct connect_call *one = call;

		if (one->on_cut)
			one->on_cut(one);
		call_free(one);
	}
}

static const char unchecked[] = "{\"code\":\"redacted\",\"message\":\"what came back holds the secret of "
				"this call in a way that it cannot be "
				"taken out of\"}";

/* A result without the secret that the call was made with. What happened, happened: a text that cannot be cleared is
 * replaced, the outcome stays. */
static void send_redacted(struct connect_call *call, struct connect_result r)
{
	struct base_str before = r.value;
	struct base_buf value = {0}, raw = {0}, usage = {0};
	struct base_json *doc = NULL;

	if (!connect_redact(call, &r.value, &value))
		r.value = BASE_STR(unchecked);
	if (r.value.ptr != before.ptr && base_json_parse(r.value, &doc, NULL) < 0)
		r.value = BASE_STR(unchecked);
	base_json_free(doc);
	if (!connect_redact(call, &r.raw, &raw))
		r.raw = BASE_STR_NONE;
	if (!connect_redact(call, &r.usage, &usage))
		r.usage = BASE_STR("{\"unknown\":true}");
	send_result(call->c, call->id, &r);
	base_buf_done(&value);
	base_buf_done(&raw);
	base_buf_done(&usage);
}

void connect_finish(struct connect_call *call, const struct connect_result *in)
{
	struct connect_result r = *in;
	const char *canary = connect_canary_in(call->c, r.value);

	BASE_CHECK(base_idmap_remove(call->c->calls, call->id) == call);
	if (!canary && r.raw.len)
		canary = connect_canary_in(call->c, r.raw);
	if (canary) {
		tell_canary(call->c, call->id, canary, "result");
		if (r.outcome == WIRE_DONE && call->action->read)
			r.outcome = WIRE_FAILED;
		r.value = BASE_STR(
			"{\"code\":\"canary\",\"message\":\"what came back holds a canary secret\"}");
		r.raw = r.usage = BASE_STR_NONE;
		r.parse = NULL;
	}
	send_redacted(call, r);
	call_free(call);
}

void connect_done(struct connect_call *call, const struct base_buf *value)
{
	if (base_buf_failed(value)) {
		connect_fail(call, WIRE_FAILED, "too_large", "the result is larger than a step may hold");
		return;
	}
	connect_finish(call, &(struct connect_result){.outcome = WIRE_DONE, .value = base_buf_view(value)});
}

void connect_fail_with(struct connect_call *call, const struct connect_problem *p)
{
	struct base_buf b;

	base_buf_init(&b, 64 << 10);
	put_problem(&b, p);
	connect_finish(call, &(struct connect_result){.outcome = p->outcome,
				     .value = base_buf_view(&b),
				     .retry_after_ms = p->retry_after_ms,
				     .usage = p->usage});
	base_buf_done(&b);
}

void connect_fail(
	struct connect_call *call, enum wire_outcome outcome, const char *code, const char *fmt, ...)
{
	struct base_err err = {0}; /* cuts at a UTF-8 border, drops control characters */
	char text[BASE_ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	base_err_set(&err, -EIO, "%s", text);
	connect_fail_with(
		call, &(struct connect_problem){.outcome = outcome, .code = code, .message = err.text});
}

struct base_jv connect_config(const struct connect_call *call, const char *key)
{
	struct base_jv v = {NULL};

	if (call->config_doc)
		v = base_jv_get(base_json_root(call->config_doc), key);
	if (base_jv_kind(v) == BASE_JSON_NONE && call->c->setup)
		v = base_jv_get(base_json_root(call->c->setup), key);
	return v;
}
