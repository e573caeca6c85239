#include "door/door_int.h"

#include <stdarg.h>
#include <stdio.h>

/* RFC 9110's phrases for what aios answers. */
const char *door_status_text(unsigned status)
{
	switch (status) {
	case 400:
		return "Bad Request";
	case 401:
		return "Unauthorized";
	case 402:
		return "Payment Required";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 408:
		return "Request Timeout";
	case 409:
		return "Conflict";
	case 410:
		return "Gone";
	case 412:
		return "Precondition Failed";
	case 413:
		return "Content Too Large";
	case 415:
		return "Unsupported Media Type";
	case 417:
		return "Expectation Failed";
	case 421:
		return "Misdirected Request";
	case 422:
		return "Unprocessable Content";
	case 429:
		return "Too Many Requests";
	case 431:
		return "Request Header Fields Too Large";
	case 500:
		return "Internal Server Error";
	case 501:
		return "Not Implemented";
	case 503:
		return "Service Unavailable";
	case 504:
		return "Gateway Timeout";
	case 507:
		return "Insufficient Storage";
	default:
		return status >= 500 ? "Server Error" : "Error";
	}
}

void door_refuse(struct door_fail *fail, unsigned status, const char *code, const char *fmt, ...)
{
	va_list ap;

	fail->status = status;
	fail->code = code;
	fail->line = fail->column = 0;
	va_start(ap, fmt);
	vsnprintf(fail->detail, sizeof(fail->detail), fmt, ap);
	va_end(ap);
}

void door_problem(const struct door_fail *fail, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);

	base_jw_obj(&w);
	base_jw_mcstr(&w, "type", "about:blank");
	base_jw_mcstr(&w, "title", door_status_text(fail->status));
	base_jw_mint(&w, "status", fail->status);
	base_jw_mcstr(&w, "code", fail->code);
	base_jw_mcstr(&w, "detail", fail->detail);
	if (fail->line > 0) {
		base_jw_mint(&w, "line", fail->line);
		base_jw_mint(&w, "column", fail->column);
	}
	base_jw_end_obj(&w);
}

void door_problem_complete(struct base_str json, unsigned status, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct base_jv root = {0}, v;
	struct base_str key;
	struct base_buf one;

	if (json.len > 0 && base_json_parse(json, &doc, NULL) == 0)
		root = base_json_root(doc);
	base_jw_obj(&w);
	if (base_jv_kind(base_jv_get(root, "type")) == BASE_JSON_NONE)
		base_jw_mcstr(&w, "type", "about:blank");
	if (base_jv_kind(base_jv_get(root, "title")) == BASE_JSON_NONE)
		base_jw_mcstr(&w, "title", door_status_text(status));
	base_jw_mint(&w, "status", status);
	/* aios's own problems have a code and a message; here the message is the detail. */
	if (base_jv_kind(base_jv_get(root, "detail")) == BASE_JSON_NONE &&
		base_jv_str(base_jv_get(root, "message")).len)
		base_jw_mstr(&w, "detail", base_jv_str(base_jv_get(root, "message")));
	base_buf_init(&one, 16 << 20);
	while (base_jv_kind(root) == BASE_JSON_OBJ && base_jv_next(root, &it, &key, &v)) {
		if (base_str_is(key, "status") || base_str_is(key, "message"))
			continue;
		base_buf_clear(&one);
		base_jv_write(v, &one);
		base_jw_key_str(&w, key);
		base_jw_raw(&w, base_buf_view(&one));
	}
	base_jw_end_obj(&w);
	base_buf_done(&one);
	base_json_free(doc);
}
