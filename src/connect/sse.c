#include "connect/sse.h"

#include <errno.h>

void sse_init(struct sse *s, size_t cap)
{
	base_buf_init(&s->line, cap);
	base_buf_init(&s->data, cap);
	s->after_cr = false;
}

void sse_done(struct sse *s)
{
	base_buf_done(&s->line);
	base_buf_done(&s->data);
}

static int end_of_line(struct sse *s, int (*fn)(void *userdata, struct base_str data), void *userdata)
{
	struct base_str line = base_buf_view(&s->line), name, value;
	int r = 0;

	if (line.len == 0) {
		if (s->data.len)
			r = fn(userdata, base_str_sub(base_buf_view(&s->data), 0, s->data.len - 1));
		base_buf_clear(&s->data);
		return r;
	}
	base_str_cut(line, ':', &name, &value);
	if (base_str_is(name, "data")) {
		base_buf_str(&s->data,
			value.len && value.ptr[0] == ' ' ? base_str_sub(value, 1, value.len) : value);
		base_buf_char(&s->data, '\n');
	}
	r = base_buf_failed(&s->data);
	base_buf_clear(&s->line);
	return r;
}

int sse_feed(
	struct sse *s, struct base_str bytes, int (*fn)(void *userdata, struct base_str data), void *userdata)
{
	for (size_t i = 0; i < bytes.len; i++) {
		char c = bytes.ptr[i];
		int r = 0;

		if (c == '\n' && s->after_cr) {
			s->after_cr = false;
			continue;
		}
		s->after_cr = c == '\r';
		if (c == '\r' || c == '\n')
			r = end_of_line(s, fn, userdata);
		else
			base_buf_char(&s->line, c);
		if (r == 0)
			r = base_buf_failed(&s->line);
		if (r < 0)
			return r;
	}
	return 0;
}
