#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "connect/connect_int.h"
#include "connect/xfer.h"

/* http.get, and feed.read from an address. */

enum { GET_DEFAULT = 2 << 20, GET_MAX = 8 << 20, FEED_REDIRECTS = 3 };

/* Headers that would change what libcurl sends or where it believes to be. */
static bool is_reserved(struct base_str name)
{
	static const char *const names[] = {"host", "content-length", "transfer-encoding", "connection",
		"upgrade", "te", "trailer", "expect", "proxy-authorization", "proxy-connection",
		"keep-alive"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strlen(names[i]) == name.len && strncasecmp(name.ptr, names[i], name.len) == 0)
			return true;
	return false;
}

static int put_headers(struct connect_xfer *x, struct base_jv headers, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_str name;
	struct base_jv value;

	while (base_jv_next(headers, &it, &name, &value)) {
		int r;

		if (is_reserved(name))
			return base_err_set(
				err, -EINVAL, "header %.*s is not the caller's to set", BASE_STR_ARG(name));
		r = connect_xfer_header(x, name, base_jv_str(value), err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* {"name": "value"}: lower-case names; of a header that comes more than once all values, joined with ", ". */
static void write_headers(struct base_jw *w, CURL *easy)
{
	struct curl_header *h = NULL, *more;
	struct base_buf name, value;

	base_buf_init(&name, 4096);
	base_buf_init(&value, 256 << 10);
	base_jw_obj(w);
	while ((h = curl_easy_nextheader(easy, CURLH_HEADER, -1, h))) {
		if (h->index != 0)
			continue;
		base_buf_clear(&name);
		base_buf_clear(&value);
		for (const char *p = h->name; *p; p++)
			base_buf_char(&name, *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p);
		base_buf_cstr(&value, h->value);
		for (size_t i = 1; i < h->amount; i++)
			if (curl_easy_header(easy, h->name, i, CURLH_HEADER, -1, &more) == CURLHE_OK)
				base_buf_printf(&value, ", %s", more->value);
		if (base_buf_failed(&name) || base_buf_failed(&value) ||
			!base_utf8_valid(base_buf_view(&name)) || !base_utf8_valid(base_buf_view(&value)))
			continue;
		base_jw_key_str(w, base_buf_view(&name));
		base_jw_str(w, base_buf_view(&value));
	}
	base_jw_end_obj(w);
	base_buf_done(&name);
	base_buf_done(&value);
}

static void put_reply(struct base_buf *b, const struct connect_xfer *x)
{
	struct base_str body = base_buf_view(&x->body);
	struct base_jw w = base_jw_of(b);

	base_jw_obj(&w);
	base_jw_mint(&w, "status", connect_xfer_status(x));
	base_jw_key(&w, "headers");
	write_headers(&w, x->easy);
	if (base_utf8_valid(body)) {
		base_jw_mstr(&w, "body", body);
		base_jw_mbool(&w, "base64", false);
	} else {
		base_jw_mbool(&w, "base64", true);
		base_buf_cstr(b, ",\"body\":\"");
		base_b64_put(b, body);
		base_buf_char(b, '"');
	}
	base_jw_end_obj(&w);
}

static void status_fails(struct connect_call *call, long status, bool later)
{
	struct connect_xfer *x = call->xfer;
	struct base_err err = {0};
	char extra[32];

	base_err_set(&err, -EIO, "%s: answered %ld%s", x->host, status,
		status == 429 ? ", too many requests"
		: later	      ? ", it cannot answer now"
			      : "; check the address");
	snprintf(extra, sizeof(extra), "\"status\":%ld", status);
	connect_fail_with(call, &(struct connect_problem){.outcome = later ? WIRE_RETRY : WIRE_FAILED,
					.code = "status",
					.message = err.text,
					.extra = base_str_of(extra),
					.retry_after_ms = connect_xfer_retry_after_ms(x)});
}

static void on_done(struct connect_call *call, CURLcode code)
{
	struct connect_xfer *x = call->xfer;
	bool feed = base_str_is(base_str_of(call->action->name), "feed.read");
	long status = connect_xfer_status(x);
	struct base_buf value;

	if (code != CURLE_OK) {
		connect_xfer_fail(x, code);
		return;
	}
	if (status == 429 || status == 408 || status >= 500 || (feed && status != 200)) {
		status_fails(call, status, status == 429 || status == 408 || status >= 500);
		return;
	}
	if (feed) {
		connect_finish(call, &(struct connect_result){.outcome = WIRE_DONE,
					     .value = BASE_STR("{}"),
					     .parse = "feed",
					     .raw = base_buf_view(&x->body)});
		return;
	}
	base_buf_init(&value, CONNECT_VALUE_MAX);
	put_reply(&value, x);
	connect_done(call, &value);
	base_buf_done(&value);
}

/* Feeds move; a redirect stays on its scheme, and each address on the way meets the guard. */
static void follow_redirects(struct connect_xfer *x, struct base_str url)
{
	bool tls = url.len > 5 && (url.ptr[4] == 's' || url.ptr[4] == 'S');

	curl_easy_setopt(x->easy, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(x->easy, CURLOPT_MAXREDIRS, (long)FEED_REDIRECTS);
	curl_easy_setopt(x->easy, CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http");
}

void connect_http_get(struct connect_call *call)
{
	struct base_str url = base_jv_str(base_jv_get(call->args, "url"));
	struct base_jv http = connect_config(call, "http");
	int64_t max = base_jv_int(base_jv_get(call->args, "max_bytes"), GET_DEFAULT);
	struct base_err err = {0};
	struct connect_xfer *x;
	int r;

	r = connect_xfer_new(call, url, max < 1 || max > GET_MAX ? GET_MAX : (size_t)max, &err);
	if (r == 0)
		r = put_headers(call->xfer, base_jv_get(call->args, "headers"), &err);
	if (r < 0) {
		connect_fail(call, r == -ENOMEM ? WIRE_RETRY : WIRE_FAILED, "invalid", "%s", err.text);
		return;
	}
	x = call->xfer;
	curl_easy_setopt(x->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	x->guarded = !base_jv_bool(base_jv_get(http, "allow_private"), false);
	x->on_done = on_done;
	if (base_str_is(base_str_of(call->action->name), "feed.read"))
		follow_redirects(x, url);
	connect_xfer_start(x);
}
