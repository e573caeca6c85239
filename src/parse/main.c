#include <errno.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "jail/jail.h"
#include "parse/parse.h"
#include "wire/conn.h"
#include "wire/frames.h"
#include "wire/outcome.h"

enum { MEMORY_MAX = 768 << 20 };

static void put_fault(const struct parse_fault *fault, struct base_str file, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);

	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", "invalid");
	base_jw_mstr(&w, "file", file);
	base_jw_mint(&w, "line", fault->line);
	base_jw_mint(&w, "column", fault->column);
	base_jw_mcstr(&w, "message", fault->err.text);
	base_jw_end_obj(&w);
}

static int answer(struct wire_conn *c, struct base_str body)
{
	struct wire_parse in;
	struct wire_parsed out = {0};
	struct parse_fault fault = {0};
	struct base_buf value;
	int r;

	r = wire_parse_get(body, &in);
	if (r < 0)
		return r;
	base_buf_init(&value, WIRE_BODY_MAX);
	out.req = in.req;
	out.ok = parse_any(in.format, in.input, &value, &fault) == 0;
	if (!out.ok) {
		base_buf_clear(&value);
		put_fault(&fault, in.name, &value);
	}
	out.value = base_buf_view(&value);
	wire_parsed_put(wire_conn_begin(c, WIRE_PARSED), &out);
	r = wire_conn_end(c);
	base_buf_done(&value);
	return r;
}

/* Until `stop` (0) or the loss of aiosd (-EPIPE). */
static int serve(struct wire_conn *c)
{
	struct base_str body;
	unsigned type;
	int r;

	for (;;) {
		r = wire_conn_wait(c, -1);
		if (r < 0)
			return r;
		while ((r = wire_conn_next(c, &type, &body)) > 0) {
			if (type == WIRE_STOP)
				return 0;
			if (type == WIRE_SETUP)
				continue;
			if (type != WIRE_PARSE)
				return -EBADMSG;
			r = answer(c, body);
			if (r < 0)
				return r;
		}
		if (r < 0)
			return r;
	}
}

int main(void)
{
	struct jail_options jail = {.profile = JAIL_PURE, .memory_max = MEMORY_MAX};
	struct base_buf sandbox;
	struct wire_conn *c = NULL;
	struct base_err err = {0};
	int r;

	parse_init();
	base_buf_init(&sandbox, 4096);
	r = jail_enter(&jail, &sandbox, &err);
	if (r < 0) {
		fprintf(stderr, "aios-parse: %s\n", err.text);
		return 1;
	}
	base_buf_char(&sandbox, 0);
	r = wire_conn_new(WIRE_FD, &c);
	if (r == 0)
		r = wire_hello(c, "aios-parse", sandbox.ptr, BASE_STR_NONE);
	if (r == 0)
		r = serve(c);
	wire_conn_free(c);
	base_buf_done(&sandbox);
	return r == 0 || r == -EPIPE ? 0 : 1;
}
