#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "door/door_int.h"

/* Answers: from the door's own refusals, from aiosd's replies, and as pages. Every one carries the same
 * headers. */

static const char api_csp[] = "default-src 'none'; frame-ancestors 'none'";
static const char permissions[] =
	"accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "
	"magnetometer=(), microphone=(), midi=(), payment=(), usb=(), "
	"publickey-credentials-create=(self), publickey-credentials-get=(self)";
static const char problem_type[] = "application/problem+json";
static const char html_type[] = "text/html; charset=utf-8";

static void secure(struct door *d, struct MHD_Response *r, bool page)
{
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(r, "Cache-Control", "no-store");
	MHD_add_response_header(r, "Content-Security-Policy", page ? d->page_csp : api_csp);
	/* same-origin where forms are: with no-referrer a browser sends Origin: null with its own form. */
	MHD_add_response_header(r, "Referrer-Policy", page ? "same-origin" : "no-referrer");
	MHD_add_response_header(r, "Cross-Origin-Resource-Policy", "same-origin");
	MHD_add_response_header(r, "Cross-Origin-Opener-Policy", "same-origin");
	MHD_add_response_header(r, "Cross-Origin-Embedder-Policy", "require-corp");
	MHD_add_response_header(r, "X-Frame-Options", "DENY");
	MHD_add_response_header(r, "Permissions-Policy", permissions);
	if (d->config.secure)
		MHD_add_response_header(r, "Strict-Transport-Security", "max-age=31536000");
}

int door_answer(struct door_req *q, unsigned status, const char *type, struct base_str body)
{
	bool page = strncmp(type, "text/html", 9) == 0;
	/* libmicrohttpd copies, though its prototype takes the buffer without const. */
	union {
		const char *in;
		void *out;
	} text = {body.ptr};
	struct MHD_Response *r =
		MHD_create_response_from_buffer(body.len, body.len ? text.out : NULL, MHD_RESPMEM_MUST_COPY);

	if (!r)
		return -ENOMEM;
	if (q->response)
		MHD_destroy_response(q->response);
	q->response = r;
	q->status = status;
	if (body.len > 0)
		MHD_add_response_header(r, "Content-Type", type);
	secure(q->door, r, page);
	if (status == 401)
		MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
	if (q->fail.status == 503) /* nothing of it was passed on */
		MHD_add_response_header(r, "Retry-After", "1");
	if (q->fail.retry_ms > 0) {
		char seconds[24];

		snprintf(seconds, sizeof(seconds), "%lld", (long long)(q->fail.retry_ms + 999) / 1000);
		MHD_add_response_header(r, "Retry-After", seconds);
	}
	if (q->fail.allow)
		MHD_add_response_header(r, "Allow", q->fail.allow);
	if (q->fail.close)
		MHD_add_response_header(r, "Connection", "close");
	return 0;
}

/* A problem, as JSON or, where a person looks at it, as a page. */
static int answer_problem(struct door_req *q, unsigned status, struct base_str problem)
{
	struct base_buf html;
	int r;

	if (!q->match.route || !door_op_is_page(q->match.op))
		return door_answer(q, status, problem_type, problem);
	base_buf_init(&html, 1 << 20);
	door_page_problem(status, problem, &html);
	r = door_answer(q, status, html_type, base_buf_view(&html));
	base_buf_done(&html);
	return r;
}

int door_answer_fail(struct door_req *q)
{
	struct base_buf text;
	int r;

	base_buf_init(&text, 64 << 10);
	door_problem(&q->fail, &text);
	r = answer_problem(q, q->fail.status, base_buf_view(&text));
	base_buf_done(&text);
	return r;
}

static bool header_safe(struct base_str s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
			return false;
	return s.len > 0;
}

/* "Name: value\n" lines. */
static int add_headers(struct door_req *q, struct base_str lines)
{
	struct base_buf *z = &q->door->scratch;
	struct base_str line, name, value;

	while (lines.len > 0) {
		base_str_cut(lines, '\n', &line, &lines);
		if (line.len == 0)
			continue;
		if (!base_str_cut(line, ':', &name, &value) || !header_safe(name))
			return -EBADMSG;
		while (value.len > 0 && value.ptr[0] == ' ')
			value = base_str_sub(value, 1, value.len);
		if (!header_safe(value))
			return -EBADMSG;
		base_buf_clear(z);
		base_buf_str(z, name);
		base_buf_char(z, '\0');
		base_buf_str(z, value);
		base_buf_char(z, '\0');
		if (base_buf_failed(z))
			return -ENOMEM;
		MHD_add_response_header(q->response, z->ptr, z->ptr + name.len + 1);
	}
	return 0;
}

static int answer_page(struct door_req *q, unsigned status, struct base_str json)
{
	struct base_buf html;
	int r;

	base_buf_init(&html, 32 << 20);
	r = door_page(q->match.op, json, &html);
	if (r == 0)
		r = base_buf_failed(&html);
	if (r == 0)
		r = door_answer(q, status, html_type, base_buf_view(&html));
	base_buf_done(&html);
	return r;
}

static int answer_error(struct door_req *q, const struct wire_door_reply *f)
{
	struct base_buf text;
	int r;

	base_buf_init(&text, 16 << 20);
	door_problem_complete(f->body, f->status, &text);
	r = base_buf_failed(&text);
	if (r == 0)
		r = answer_problem(q, f->status, base_buf_view(&text));
	base_buf_done(&text);
	return r;
}

static int copy_type(struct base_str in, char *ret, size_t size)
{
	if (in.len == 0)
		in = BASE_STR("application/json");
	if (in.len >= size || !header_safe(in))
		return -EBADMSG;
	memcpy(ret, in.ptr, in.len);
	ret[in.len] = '\0';
	return 0;
}

int door_answer_reply(struct door_req *q, const struct wire_door_reply *f)
{
	char type[128];
	int r;

	if (f->status < 200 || f->status > 599)
		return -EBADMSG;
	if (f->status >= 400) {
		r = answer_error(q, f);
	} else if (q->match.op == WIRE_OP_PAGE_DECIDE && f->status < 300) {
		r = door_answer(q, 303, html_type, BASE_STR_NONE);
		if (r == 0)
			MHD_add_response_header(q->response, "Location", "/");
	} else if (door_op_is_page(q->match.op) && f->status < 300) {
		r = answer_page(q, f->status, f->body);
	} else {
		r = copy_type(f->content_type, type, sizeof(type));
		if (r == 0)
			r = door_answer(q, f->status, type, f->body);
	}
	if (r == 0)
		r = add_headers(q, f->headers);
	return r;
}

int door_answer_stream(struct door_req *q, MHD_ContentReaderCallback reader)
{
	struct MHD_Response *r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, reader, q, NULL);

	if (!r)
		return -ENOMEM;
	q->response = r;
	q->status = 200;
	MHD_add_response_header(r, "Content-Type", "text/event-stream");
	secure(q->door, r, false);
	return 0;
}
