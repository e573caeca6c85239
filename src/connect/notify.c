#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "connect/connect_int.h"
#include "connect/xfer.h"

/* notify.post: tells that a gate waits, by ntfy, a Telegram bot or a webhook; or posts a checkpoint of the log as it is. Told twice is no harm: no answer is RETRY. */

enum { REPLY_MAX = 64 << 10, PATH_MAX_LEN = 512 };

static struct base_str arg(const struct connect_call *call, const char *name)
{
	return base_jv_str(base_jv_get(call->args, name));
}

static void on_done(struct connect_call *call, CURLcode code)
{
	struct connect_xfer *x = call->xfer;
	long status = connect_xfer_status(x);
	bool later = status == 429 || status == 408 || status >= 500;

	if (code != CURLE_OK) {
		connect_xfer_fail(x, code);
		return;
	}
	if (status >= 200 && status < 300) {
		connect_finish(call, &(struct connect_result){.outcome = WIRE_DONE, .value = BASE_STR("{}")});
		return;
	}
	struct base_err err = {0};

	base_err_set(&err, -EIO, "%s: answered %ld%s", x->host, status,
		later ? ", it cannot take it now"
		      : "; check the address and the secret (aios.yaml, notify.channels)");
	connect_fail_with(call, &(struct connect_problem){.outcome = later ? WIRE_RETRY : WIRE_FAILED,
					.code = "status",
					.message = err.text,
					.retry_after_ms = connect_xfer_retry_after_ms(x)});
}

/* --- bodies --- */

static void put_ntfy(const struct connect_call *call, struct base_jw *w)
{
	base_jw_mstr(w, "topic", arg(call, "topic"));
	base_jw_mstr(w, "title", arg(call, "title"));
	base_jw_mstr(w, "message", arg(call, "text"));
	base_jw_mint(w, "priority", base_jv_bool(base_jv_get(call->args, "urgent"), false) ? 4 : 3);
	if (arg(call, "click").len)
		base_jw_mstr(w, "click", arg(call, "click"));
}

static void put_telegram(const struct connect_call *call, struct base_jw *w)
{
	struct base_str part[] = {arg(call, "title"), BASE_STR("\n\n"), arg(call, "text"), BASE_STR("\n\n"),
		arg(call, "click")};

	base_jw_mstr(w, "chat_id", arg(call, "chat"));
	base_jw_mstr(w, "text", base_arena_join(call->arena, part, arg(call, "click").len ? 5 : 3));
	/* A preview would fetch the link. */
	base_jw_key(w, "link_preview_options");
	base_jw_obj(w);
	base_jw_mbool(w, "is_disabled", true);
	base_jw_end_obj(w);
}

static void put_webhook(const struct connect_call *call, struct base_jw *w)
{
	base_jw_mcstr(w, "type", "gate.waiting");
	base_jw_mint(w, "timestamp", base_jv_int(base_jv_get(call->args, "at_s"), 0));
	base_jw_key(w, "data");
	base_jw_obj(w);
	base_jw_mint(w, "gate", base_jv_int(base_jv_get(call->args, "gate"), 0));
	base_jw_mstr(w, "why", arg(call, "why"));
	base_jw_mstr(w, "title", arg(call, "title"));
	base_jw_mstr(w, "text", arg(call, "text"));
	if (arg(call, "click").len)
		base_jw_mstr(w, "link", arg(call, "click"));
	base_jw_end_obj(w);
}

static struct base_str body_of(struct connect_call *call, struct base_str kind)
{
	struct base_str body = BASE_STR_NONE;
	struct base_buf b;
	struct base_jw w;

	if (base_str_is(kind, "checkpoint"))
		return arg(call, "text");
	base_buf_init(&b, REPLY_MAX);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	if (base_str_is(kind, "ntfy"))
		put_ntfy(call, &w);
	else if (base_str_is(kind, "telegram"))
		put_telegram(call, &w);
	else
		put_webhook(call, &w);
	base_jw_end_obj(&w);
	if (!base_buf_failed(&b))
		body = base_arena_dup(call->arena, base_buf_view(&b));
	base_buf_done(&b);
	return body;
}

/* --- secrets --- */

static int bearer(struct connect_call *call, struct base_str secret, struct base_err *err)
{
	struct base_buf b;
	int r;

	if (!secret.len)
		return 0;
	base_buf_init(&b, 8192);
	base_buf_cstr(&b, "Bearer ");
	base_buf_str(&b, secret);
	r = connect_xfer_header(call->xfer, BASE_STR("Authorization"), base_buf_view(&b), err);
	if (b.ptr)
		sodium_memzero(b.ptr, b.len);
	base_buf_done(&b);
	return r;
}

/* Standard Webhooks: HMAC-SHA256 over "id.timestamp.body"; a secret "whsec_…" is base64. */
static int sign(struct connect_call *call, struct base_str secret, struct base_str body, struct base_err *err)
{
	struct base_str id = arg(call, "id");
	int64_t at_s = base_jv_int(base_jv_get(call->args, "at_s"), 0);
	crypto_auth_hmacsha256_state st;
	uint8_t mac[crypto_auth_hmacsha256_BYTES];
	struct base_buf key, text;
	char stamp[32];
	int r = 0;

	base_buf_init(&key, 8192);
	base_buf_init(&text, 256);
	if (base_str_starts(secret, BASE_STR("whsec_")))
		r = base_b64_get(base_str_sub(secret, 6, secret.len), &key);
	else
		base_buf_str(&key, secret);
	if (r < 0 || key.len < 16) {
		r = base_err_set(err, -EINVAL,
			"the webhook's secret is too short to sign with: at least 16 bytes, or whsec_ and "
			"base64");
	} else {
		snprintf(stamp, sizeof(stamp), "%" PRId64, at_s);
		crypto_auth_hmacsha256_init(&st, (const uint8_t *)key.ptr, key.len);
		crypto_auth_hmacsha256_update(&st, (const uint8_t *)id.ptr, id.len);
		crypto_auth_hmacsha256_update(&st, (const uint8_t *)".", 1);
		crypto_auth_hmacsha256_update(&st, (const uint8_t *)stamp, strlen(stamp));
		crypto_auth_hmacsha256_update(&st, (const uint8_t *)".", 1);
		crypto_auth_hmacsha256_update(&st, (const uint8_t *)body.ptr, body.len);
		crypto_auth_hmacsha256_final(&st, mac);
		sodium_memzero(&st, sizeof(st));
		base_buf_cstr(&text, "v1,");
		base_b64_put(&text, (struct base_str){(const char *)mac, sizeof(mac)});
		r = connect_xfer_header(call->xfer, BASE_STR("webhook-id"), id, err);
		if (r == 0)
			r = connect_xfer_header(
				call->xfer, BASE_STR("webhook-timestamp"), base_str_of(stamp), err);
		if (r == 0)
			r = connect_xfer_header(
				call->xfer, BASE_STR("webhook-signature"), base_buf_view(&text), err);
	}
	if (key.ptr)
		sodium_memzero(key.ptr, key.len);
	base_buf_done(&key);
	base_buf_done(&text);
	return r;
}

/* --- the request --- */

/* A bot's token is part of the path: only what such tokens consist of, so that nothing else becomes of the address. */
static bool is_bot_token(struct base_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    c == ':' || c == '_' || c == '-'))
			return false;
	}
	return s.len > 0 && s.len < PATH_MAX_LEN;
}

static int open_telegram(struct connect_call *call, struct base_str base, struct base_err *err)
{
	char host[256], url[1600];
	struct base_str secret;
	int n, r;

	while (base.len && base.ptr[base.len - 1] == '/')
		base.len--;
	n = snprintf(url, sizeof(url), "%.*s", BASE_STR_ARG(base));
	if (n < 0 || (size_t)n >= sizeof(url) - PATH_MAX_LEN - 32)
		return base_err_set(err, -EINVAL, "telegram: the address is too long");
	r = connect_host_of(url, host, sizeof(host), err);
	if (r == 0)
		r = connect_secret_for(call, base_str_of(host), &secret, err);
	if (r < 0)
		return r;
	if (!is_bot_token(secret))
		return base_err_set(err, -EINVAL, "telegram: the secret is not the token of a bot");
	n = snprintf(url, sizeof(url), "%.*s/bot%.*s/sendMessage", BASE_STR_ARG(base), BASE_STR_ARG(secret));
	r = connect_xfer_new(call, (struct base_str){url, (size_t)n}, REPLY_MAX, err);
	sodium_memzero(url, sizeof(url));
	return r;
}

static int open_other(
	struct connect_call *call, struct base_str kind, struct base_str body, struct base_err *err)
{
	struct base_str secret;
	int r = connect_xfer_new(call, arg(call, "url"), REPLY_MAX, err);

	if (r == 0)
		r = connect_secret_for(call, connect_xfer_host(call->xfer), &secret, err);
	if (r < 0)
		return r;
	if (base_str_is(kind, "checkpoint") && !secret.len)
		return 0; /* it is signed itself */
	return base_str_is(kind, "ntfy") ? bearer(call, secret, err) : sign(call, secret, body, err);
}

void connect_notify_post(struct connect_call *call)
{
	struct base_str kind = arg(call, "kind"), body = body_of(call, kind), ca = arg(call, "ca");
	struct base_err err = {0};
	int r;

	if (!body.ptr)
		r = base_err_set(&err, -ENOMEM, "out of memory");
	else if (base_str_is(kind, "telegram"))
		r = open_telegram(call, arg(call, "url"), &err);
	else
		r = open_other(call, kind, body, &err);
	if (r == 0)
		r = connect_xfer_header(
			call->xfer, BASE_STR("Content-Type"), BASE_STR("application/json"), &err);
	if (r < 0) {
		connect_fail(call, r == -ENOMEM ? WIRE_RETRY : WIRE_FAILED, "invalid", "%s", err.text);
		return;
	}
	if (ca.len)
		connect_xfer_ca(call->xfer, ca);
	curl_easy_setopt(call->xfer->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	connect_xfer_post(call->xfer, body);
	call->xfer->on_done = on_done;
	connect_xfer_start(call->xfer);
}
