#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connect/connect_int.h"
#include "connect/xfer.h"

/*
 * The `test` connector: effects whose outcome is known beforehand. test.echo is answered in call.c. The
 * classes write to a ledger, a process of its own (tests/standins/ledger.py) that is the judge of what
 * happened.
 */

enum { TRIES_MAX = 100000, LEDGER_REPLY_MAX = 1 << 20 };

/* How often this key was asked for before, in the life of this process. */
static uint64_t count_try(struct connect_call *call)
{
	struct base_names *tries = call->c->tries;
	uint64_t *n = base_names_get(tries, call->key);

	if (!n) {
		if (base_names_count(tries) >= TRIES_MAX)
			return 0;
		n = calloc(1, sizeof(*n));
		if (!n || base_names_put(tries, call->key, n) < 0) {
			free(n);
			return 0;
		}
	}
	return (*n)++;
}

void connect_test_fail(struct connect_call *call)
{
	struct base_jv times = base_jv_get(call->args, "times");
	struct base_str kind = base_jv_str(base_jv_get(call->args, "kind"));
	struct base_str message = base_jv_str(base_jv_get(call->args, "message"));
	int64_t after = base_jv_int(base_jv_get(call->args, "retry_after_ms"), 0);
	uint64_t before = count_try(call);
	struct base_err err = {0};
	struct base_buf value;

	if (base_jv_kind(times) == BASE_JSON_INT && before >= (uint64_t)base_jv_int(times, 0)) {
		base_buf_init(&value, 64);
		base_buf_printf(&value, "{\"attempts\":%llu}", (unsigned long long)before + 1);
		connect_done(call, &value);
		base_buf_done(&value);
		return;
	}
	if (!message.len)
		message = BASE_STR("test.fail was asked to fail");
	base_err_set(&err, -EIO, "%.*s", BASE_STR_ARG(message));
	connect_fail_with(call, &(struct connect_problem){
					.outcome = base_str_is(kind, "retry")	  ? WIRE_RETRY
						   : base_str_is(kind, "unknown") ? WIRE_UNKNOWN
										  : WIRE_FAILED,
					.code = "failed",
					.message = err.text,
					.retry_after_ms = (uint32_t)after,
				});
}

static void slow_through(struct connect_call *call)
{
	struct base_buf value;

	base_buf_init(&value, 64);
	base_buf_cstr(&value, "{\"ms\":");
	base_buf_i64(&value, base_jv_int(base_jv_get(call->args, "ms"), 0));
	base_buf_char(&value, '}');
	connect_done(call, &value);
	base_buf_done(&value);
}

void connect_test_slow(struct connect_call *call)
{
	int64_t ms = base_jv_int(base_jv_get(call->args, "ms"), 0);

	call->on_timer = slow_through;
	if (connect_call_timer(call, ms < 0 || ms > 3600000 ? 3600000 : (uint32_t)ms) < 0)
		connect_fail(call, WIRE_RETRY, "busy", "aios-connect is out of memory");
}

static void ledger_done(struct connect_call *call, CURLcode code)
{
	struct connect_xfer *x = call->xfer;
	long status = connect_xfer_status(x);
	struct base_json *doc = NULL;
	struct base_buf value;

	if (code != CURLE_OK) {
		connect_xfer_fail(x, code);
		return;
	}
	if (status == 404 && call->mode == 1) {
		connect_fail(call, WIRE_NOT_FOUND, "not_found", "the ledger does not know this key");
		return;
	}
	if (status == 429 || status == 503) {
		connect_fail(call, WIRE_RETRY, "status", "%s: the ledger answered %ld", x->host, status);
		return;
	}
	if (status != 200 || base_json_parse(base_buf_view(&x->body), &doc, NULL) < 0) {
		connect_fail(call, status == 200 ? connect_no_answer(call) : WIRE_FAILED, "status",
			"%s: the ledger answered %ld", x->host, status);
		return;
	}
	base_buf_init(&value, LEDGER_REPLY_MAX);
	base_jv_write(base_json_root(doc), &value);
	base_json_free(doc);
	connect_done(call, &value);
	base_buf_done(&value);
}

/* {"class","key","mode","args"}: the ledger knows what to do with them. */
static struct base_str ledger_request(struct connect_call *call)
{
	struct base_buf b;
	struct base_jw w;
	struct base_str body;

	base_buf_init(&b, CONNECT_VALUE_MAX);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "class", strchr(call->action->name, '.') + 1);
	base_jw_mstr(&w, "key", call->key);
	base_jw_mcstr(&w, "mode", call->mode == 1 ? "lookup" : "send");
	base_jw_key(&w, "args");
	base_jv_write(call->args, &b);
	base_jw_end_obj(&w);
	body = base_buf_failed(&b) ? BASE_STR_NONE : base_arena_dup(call->arena, base_buf_view(&b));
	base_buf_done(&b);
	return body;
}

void connect_test_ledger(struct connect_call *call)
{
	struct base_str address = base_jv_str(base_jv_get(connect_config(call, "test"), "ledger"));
	struct base_str body = ledger_request(call), url;
	struct base_err err = {0};

	if (!address.len) {
		connect_fail(call, WIRE_FAILED, "invalid",
			"no ledger: set test: { ledger: \"127.0.0.1:PORT\" } in aios.yaml");
		return;
	}
	url = base_arena_printf(call->arena, "http://%.*s/", BASE_STR_ARG(address));
	if (!body.ptr || !url.ptr || connect_xfer_new(call, url, LEDGER_REPLY_MAX, &err) < 0) {
		connect_fail(call, WIRE_FAILED, "invalid", "the ledger's address: %s", err.text);
		return;
	}
	connect_xfer_post(call->xfer, body);
	connect_xfer_fresh(call->xfer);
	if (connect_xfer_header(call->xfer, BASE_STR("Content-Type"), BASE_STR("application/json"), &err) <
		0) {
		connect_fail(call, WIRE_RETRY, "busy", "%s", err.text);
		return;
	}
	call->xfer->leaves = call->mode == 0;
	call->xfer->on_done = ledger_done;
	connect_xfer_start(call->xfer);
}
