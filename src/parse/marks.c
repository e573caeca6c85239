#include "parse/marks.h"

#include <string.h>

#include "parse/parse.h"

void parse_marks_init(struct parse_marks *m, struct base_str in)
{
	m->in = in;
	base_buf_init(&m->out, PARSE_OUTPUT_MAX);
	base_buf_init(&m->path, 1 << 20);
	m->w = base_jw_of(&m->out);
	base_jw_obj(&m->w);
}

void parse_marks_done(struct parse_marks *m)
{
	base_buf_done(&m->out);
	base_buf_done(&m->path);
}

void parse_marks_key(struct parse_marks *m, size_t parent, struct base_str key)
{
	m->path.len = parent;
	base_buf_cstr(&m->path, "/");
	for (size_t i = 0; i < key.len; i++) {
		if (key.ptr[i] == '~')
			base_buf_cstr(&m->path, "~0");
		else if (key.ptr[i] == '/')
			base_buf_cstr(&m->path, "~1");
		else
			base_buf_put(&m->path, key.ptr + i, 1);
	}
}

void parse_marks_index(struct parse_marks *m, size_t parent, size_t index)
{
	m->path.len = parent;
	base_buf_printf(&m->path, "/%zu", index);
}

static size_t characters(const yaml_event_t *e)
{
	size_t n = 0;

	for (size_t i = 0; i < e->data.scalar.length; i++)
		n += (e->data.scalar.value[i] & 0xc0) != 0x80;
	return n;
}

/* The column, from 0, at which the block below this line (from 0) begins; SIZE_MAX: it is empty. */
static size_t block_column(struct base_str in, size_t line)
{
	struct base_str head, rest = in;
	size_t column = 0;

	for (size_t i = 0; i <= line; i++)
		if (!base_str_cut(rest, '\n', &head, &rest))
			return SIZE_MAX;
	while (column < rest.len && rest.ptr[column] == ' ')
		column++;
	return column < rest.len && rest.ptr[column] != '\n' ? column : SIZE_MAX;
}

void parse_marks_put(struct parse_marks *m, const yaml_event_t *e)
{
	size_t line = e->start_mark.line, column = e->start_mark.column, wide;
	int exact = 0;

	if (e->type == YAML_SCALAR_EVENT && e->data.scalar.style == YAML_LITERAL_SCALAR_STYLE) {
		wide = block_column(m->in, line);
		if (wide != SIZE_MAX) {
			exact = 1;
			line++;
			column = wide;
		}
	} else if (e->type == YAML_SCALAR_EVENT && e->end_mark.line == line) {
		wide = e->end_mark.column - column;
		if (wide == characters(e)) {
			exact = 1;
		} else if (wide ==
			   characters(e) + 2) { /* quotes, and nothing in them that is written otherwise */
			exact = 1;
			column++;
		}
	}
	base_jw_key_str(&m->w, base_buf_view(&m->path));
	base_jw_arr(&m->w);
	base_jw_int(&m->w, (int64_t)line + 1);
	base_jw_int(&m->w, (int64_t)column + 1);
	base_jw_int(&m->w, exact);
	base_jw_end_arr(&m->w);
}
