#include "parse/parse.h"

#include <errno.h>
#include <libxml/parser.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/json.h"
#include "parse/parse_int.h"

int parse_fault_set(struct parse_fault *f, int code, size_t line, size_t column, const char *fmt, ...)
{
	char text[BASE_ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = 0;
	va_end(ap);
	f->line = line > UINT32_MAX ? UINT32_MAX : (uint32_t)line;
	f->column = column > UINT32_MAX ? UINT32_MAX : (uint32_t)column;
	return base_err_set(&f->err, code, "%s", text);
}

void parse_place(struct base_str in, size_t at, uint32_t *ret_line, uint32_t *ret_column)
{
	uint32_t line = 1, column = 1;

	for (size_t i = 0; i < at && i < in.len; i++) {
		if (in.ptr[i] == '\n') {
			line++;
			column = 1;
		} else if (((unsigned char)in.ptr[i] & 0xc0) != 0x80) {
			column++;
		}
	}
	*ret_line = line;
	*ret_column = column;
}

/* Index of the first byte that is not part of valid UTF-8, found by halving: a prefix that ends inside a
 * character is told from a bad one by giving it up to three bytes more. */
static size_t first_bad_byte(struct base_str in)
{
	size_t at = 0;

	while (at < in.len) {
		unsigned char c = (unsigned char)in.ptr[at];
		size_t len = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

		if (len > in.len - at || !base_utf8_valid(base_str_sub(in, at, len)))
			return at;
		at += len;
	}
	return at;
}

int parse_check_text(struct base_str in, struct parse_fault *fault)
{
	uint32_t line, column;

	if (in.len > PARSE_INPUT_MAX)
		return parse_fault_set(fault, -EFBIG, 0, 0, "%zu bytes are more than the %d that are read",
			in.len, PARSE_INPUT_MAX);
	if (base_utf8_valid(in))
		return 0;
	parse_place(in, first_bad_byte(in), &line, &column);
	return parse_fault_set(fault, -EINVAL, line, column, "this is not valid UTF-8");
}

/* base_json names the place in its sentence ("line 3, column 7: …"): take it from there. */
static void place_from_text(struct parse_fault *fault)
{
	const char *at = fault->err.text;
	unsigned line, column;

	fault->line = 0;
	fault->column = 0;
	for (; *at; at++) {
		if (sscanf(at, "line %u, column %u", &line, &column) == 2) {
			fault->line = line;
			fault->column = column;
			return;
		}
	}
}

int parse_json(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
{
	size_t before = ret->len;
	int r;

	r = parse_check_text(in, fault);
	if (r < 0)
		return r;
	r = base_json_canon(in, ret, &fault->err);
	if (r < 0) {
		ret->len = before;
		place_from_text(fault);
	}
	return r;
}

int parse_any(struct base_str format, struct base_str in, struct base_buf *ret, struct parse_fault *fault)
{
	size_t before = ret->len;
	int r;

	if (in.len > PARSE_INPUT_MAX)
		return parse_fault_set(fault, -EFBIG, 0, 0, "%zu bytes are more than the %d that are read",
			in.len, PARSE_INPUT_MAX);
	if (base_str_is(format, "feed"))
		r = parse_feed(in, ret, fault);
	else if (base_str_is(format, "yaml"))
		r = parse_yaml(in, ret, fault);
	else if (base_str_is(format, "policy"))
		r = parse_policy(in, ret, fault);
	else if (base_str_is(format, "agent"))
		r = parse_agent(in, ret, fault);
	else if (base_str_is(format, "json"))
		r = parse_json(in, ret, fault);
	else
		return parse_fault_set(fault, -EINVAL, 0, 0, "no such format: %.*s", BASE_STR_ARG(format));
	if (r < 0)
		return r;
	if (base_buf_failed(ret) < 0 || ret->len - before > PARSE_OUTPUT_MAX) {
		r = base_buf_failed(ret) < 0 ? base_buf_failed(ret) : -EFBIG;
		ret->len = before;
		return parse_fault_set(fault, r, 0, 0, "%s",
			r == -ENOMEM ? "out of memory"
				     : "what came out is larger than the 16 MiB that are allowed");
	}
	return 0;
}

static void xml_silent(void *ctx, const char *msg, ...)
{
	(void)ctx;
	(void)msg;
}

void parse_init(void)
{
	xmlInitParser();
	xmlSetGenericErrorFunc(NULL, xml_silent);
}
