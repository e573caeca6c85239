#include "door/uri.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int door_percent_decode(struct base_str in, bool plus, struct base_buf *ret, struct base_err *err)
{
	size_t i, n = 0;
	char *out;

	if (in.len == 0)
		return 0;
	out = base_buf_reserve(ret, in.len);
	if (!out)
		return base_err_set(err, base_buf_failed(ret), "too long");
	for (i = 0; i < in.len; i++) {
		char c = in.ptr[i];

		if (c == '%') {
			int hi = in.len - i > 2 ? hex_digit(in.ptr[i + 1]) : -1;
			int lo = in.len - i > 2 ? hex_digit(in.ptr[i + 2]) : -1;

			if (hi < 0 || lo < 0)
				return base_err_set(err, -EINVAL, "broken %% encoding at byte %zu", i);
			c = (char)(hi << 4 | lo);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (c == '\0')
			return base_err_set(err, -EINVAL, "a NUL byte at byte %zu", i);
		out[n++] = c;
	}
	if (!base_utf8_valid((struct base_str){out, n}))
		return base_err_set(err, -EINVAL, "not valid UTF-8");
	base_buf_commit(ret, n);
	return 0;
}

void door_percent_encode(struct base_str in, struct base_buf *ret)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t i;

	for (i = 0; i < in.len; i++) {
		unsigned char c = (unsigned char)in.ptr[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
			c == '_' || c == '.' || c == '~') {
			base_buf_char(ret, (char)c);
		} else {
			base_buf_char(ret, '%');
			base_buf_char(ret, hex[c >> 4]);
			base_buf_char(ret, hex[c & 15]);
		}
	}
}

static int pair_add(struct base_str piece, struct door_pairs *p, struct base_err *err)
{
	struct base_str name, value;
	size_t from = p->text.len, mid;
	unsigned i;
	int r;

	base_str_cut(piece, '=', &name, &value);
	if (name.len == 0)
		return base_err_set(err, -EINVAL, "a parameter without a name");
	if (p->count == DOOR_PAIRS_MAX)
		return base_err_set(err, -E2BIG, "more than %d parameters", DOOR_PAIRS_MAX);
	r = door_percent_decode(name, true, &p->text, err);
	if (r < 0)
		return r;
	mid = p->text.len;
	r = door_percent_decode(value, true, &p->text, err);
	if (r < 0)
		return r;
	name = (struct base_str){p->text.ptr + from, mid - from};
	for (i = 0; i < p->count; i++)
		if (base_str_eq(p->at[i].name, name))
			return base_err_set(
				err, -EINVAL, "parameter \"%.*s\" comes twice", BASE_STR_ARG(name));
	p->at[p->count++] = (struct door_pair){name, {p->text.ptr + mid, p->text.len - mid}};
	return 0;
}

int door_pairs_parse(struct base_str in, struct door_pairs *ret, struct base_err *err)
{
	struct base_str piece, rest = in;
	int r;

	ret->count = 0;
	base_buf_clear(&ret->text);
	if (in.len == 0)
		return 0;
	/* Decoding never grows, so with this room the text never moves while pairs point into it. */
	if (!base_buf_reserve(&ret->text, in.len))
		return base_err_set(err, base_buf_failed(&ret->text), "too many parameters");
	while (rest.len > 0) {
		base_str_cut(rest, '&', &piece, &rest);
		if (piece.len == 0)
			continue;
		r = pair_add(piece, ret, err);
		if (r < 0)
			return r;
	}
	return 0;
}

struct base_str door_pairs_get(const struct door_pairs *p, const char *name)
{
	unsigned i;

	for (i = 0; i < p->count; i++)
		if (base_str_is(p->at[i].name, name))
			return p->at[i].value;
	return BASE_STR_NONE;
}

/* --- routes --- */

static bool segment_plain(struct base_str s)
{
	return s.len > 0 && !base_str_is(s, ".") && !base_str_is(s, "..");
}

/* Fills m->params where the path (without its first slash) has the shape of the route. */
static bool route_matches(const struct wire_route *route, struct base_str path, struct door_match *m)
{
	unsigned i;

	for (i = 0; i < route->count; i++) {
		const struct wire_segment *seg = &route->segments[i];
		struct base_str head, tail;
		bool more = base_str_cut(path, '/', &head, &tail);

		m->params[i] = BASE_STR_NONE;
		if (!segment_plain(head))
			return false;
		if (seg->kind == WIRE_SEGMENT_REST) {
			m->params[i] = path;
			while (base_str_cut(tail, '/', &head, &tail) || head.len > 0)
				if (!segment_plain(head))
					return false;
			return path.ptr[path.len - 1] != '/';
		}
		if (seg->kind == WIRE_SEGMENT_LITERAL && !base_str_is(head, seg->text))
			return false;
		if (seg->kind == WIRE_SEGMENT_PARAM)
			m->params[i] = head;
		if (more && tail.len == 0)
			return false;
		path = tail;
		if (path.len == 0 && i + 1 < route->count)
			return false;
	}
	return path.len == 0;
}

static void allow_add(char *allow, const char *method)
{
	size_t n = strlen(allow);

	if (strstr(allow, method) || n + strlen(method) + 3 > DOOR_METHODS_MAX)
		return;
	if (n > 0)
		memcpy(allow + n, ", ", 3);
	strcat(allow, method);
}

int door_route(struct base_str method, struct base_str target, struct door_match *ret)
{
	struct door_match m = {0};
	struct base_str path;
	unsigned op;
	bool head = base_str_is(method, "HEAD");

	base_str_cut(target, '?', &path, &m.query);
	if (path.len == 0 || path.ptr[0] != '/')
		return -ENOENT;
	path = base_str_sub(path, 1, path.len - 1);
	for (op = 0; op < WIRE_OP_COUNT; op++) {
		const struct wire_route *route = wire_route_of((enum wire_op)op);

		if (!route_matches(route, path, &m))
			continue;
		if (base_str_is(method, route->method) || (head && strcmp(route->method, "GET") == 0)) {
			m.op = (enum wire_op)op;
			m.route = route;
			m.allow[0] = '\0';
			*ret = m;
			return 0;
		}
		allow_add(m.allow, route->method);
		if (strcmp(route->method, "GET") == 0)
			allow_add(m.allow, "HEAD");
	}
	memcpy(ret->allow, m.allow, sizeof(m.allow));
	return m.allow[0] ? -EPERM : -ENOENT;
}

static int path_params(
	const struct door_match *m, struct base_jw *w, struct base_buf *scratch, struct base_err *err)
{
	unsigned i;
	int r;

	for (i = 0; i < m->route->count; i++) {
		const struct wire_segment *seg = &m->route->segments[i];

		if (seg->kind == WIRE_SEGMENT_LITERAL)
			continue;
		base_buf_clear(scratch);
		r = door_percent_decode(m->params[i], false, scratch, err);
		if (r < 0) {
			base_err_prefix(err, "path parameter %s", seg->text);
			return r;
		}
		base_jw_mstr(w, seg->text, base_buf_view(scratch));
	}
	return 0;
}

int door_params(const struct door_match *m, const char *extra, struct door_pairs *pairs, struct base_buf *ret,
	struct base_err *err)
{
	struct base_jw w = base_jw_of(ret);
	unsigned i, k;
	int r;

	base_jw_obj(&w);
	r = path_params(m, &w, &pairs->text, err);
	if (r < 0)
		return r;
	r = door_pairs_parse(m->query, pairs, err);
	if (r < 0) {
		base_err_prefix(err, "query");
		return r;
	}
	for (i = 0; i < pairs->count; i++) {
		struct base_str name = pairs->at[i].name;

		for (k = 0; k < m->route->count; k++)
			if (m->route->segments[k].kind != WIRE_SEGMENT_LITERAL &&
				base_str_is(name, m->route->segments[k].text))
				return base_err_set(err, -EINVAL, "parameter \"%.*s\" is part of the path",
					BASE_STR_ARG(name));
		if (extra && base_str_is(name, extra))
			continue;
		base_jw_key_str(&w, name);
		base_jw_str(&w, pairs->at[i].value);
	}
	if (extra)
		base_jw_mcstr(&w, extra, "1");
	base_jw_end_obj(&w);
	return base_buf_failed(ret);
}
