#include "cli/cli_int.h"

/*
 * The port in aios.yaml of a workspace that was never deployed. From the first deploy on aiosd knows it; before, it
 * would listen where another workspace may listen already. This is no YAML: it knows the two ways in which the member
 * is written, and where it is not sure it finds nothing.
 */

static struct base_str skip_blanks(struct base_str s)
{
	size_t n = 0;

	while (n < s.len && (s.ptr[n] == ' ' || s.ptr[n] == '\t'))
		n++;
	return base_str_sub(s, n, s.len);
}

static bool ends_here(struct base_str s)
{
	s = skip_blanks(s);
	return s.len == 0 || s.ptr[0] == '#' || s.ptr[0] == '\r';
}

/* "port: 7717"; what stands behind the number in *ret_rest. -1: it is not this member, or no such number. */
static int member(struct base_str s, struct base_str *ret_rest)
{
	uint64_t port;
	size_t n = 0;

	if (!base_str_starts(s, BASE_STR("port:")) || s.len < 6 || s.ptr[5] != ' ')
		return -1;
	s = skip_blanks(base_str_sub(s, 5, s.len));
	while (n < s.len && s.ptr[n] >= '0' && s.ptr[n] <= '9')
		n++;
	if (base_str_u64(base_str_sub(s, 0, n), &port) < 0 || port > 65535)
		return -1;
	*ret_rest = base_str_sub(s, n, s.len);
	return (int)port;
}

/* Behind "door: {": members up to the brace that closes it, on this line. */
static int in_braces(struct base_str s)
{
	struct base_str rest;
	int port, depth = 0;

	for (;;) {
		s = skip_blanks(s);
		port = member(s, &rest);
		if (port >= 0) {
			rest = skip_blanks(rest);
			return rest.len && (rest.ptr[0] == ',' || rest.ptr[0] == '}') ? port : -1;
		}
		while (s.len && (depth > 0 || s.ptr[0] != ',')) {
			if (s.ptr[0] == '#' || s.ptr[0] == '"' || s.ptr[0] == '\'')
				return -1;
			depth += s.ptr[0] == '[' || s.ptr[0] == '{';
			if ((s.ptr[0] == ']' || s.ptr[0] == '}') && depth-- == 0)
				return -1;
			s = base_str_sub(s, 1, s.len);
		}
		if (!s.len)
			return -1;
		s = base_str_sub(s, 1, s.len);
	}
}

/* Behind the line "door:": the lines that are set in as far as the first one. */
static int in_block(struct base_str text)
{
	size_t indent = 0;

	while (text.len > 0) {
		struct base_str line = text, inner, rest;
		size_t at;
		int port;

		if (!base_str_cut(text, '\n', &line, &text))
			text = (struct base_str){0};
		inner = skip_blanks(line);
		if (ends_here(inner))
			continue;
		at = line.len - inner.len;
		if (at == 0 || at < indent)
			return -1;
		indent = indent ? indent : at;
		port = at == indent ? member(inner, &rest) : -1;
		if (port >= 0)
			return ends_here(rest) ? port : -1;
	}
	return -1;
}

int cli_door_port(struct base_str yaml)
{
	while (yaml.len > 0) {
		struct base_str line = yaml, value;

		if (!base_str_cut(yaml, '\n', &line, &yaml))
			yaml = (struct base_str){0};
		if (!base_str_starts(line, BASE_STR("door:")))
			continue;
		value = skip_blanks(base_str_sub(line, 5, line.len));
		if (ends_here(value))
			return in_block(yaml);
		return value.ptr[0] == '{' ? in_braces(base_str_sub(value, 1, value.len)) : -1;
	}
	return -1;
}
