#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/money.h"
#include "parse/parse.h"
#include "parse/parse_int.h"

enum { AGENT_NAME_MAX = 64 };

struct front {
	struct {
		struct base_str key; /* points into the input's copy of names below */
		size_t line;
		size_t column;
	} keys[16];
	size_t count;
};

/* Members that an agent may have, and the shape of each. */
static const struct member {
	const char *name;
	enum { TEXT, NAME, TEXTS, MONEY, COUNT } shape;
} members[] = {
	{"name", NAME},
	{"description", TEXT},
	{"tier", NAME},
	{"model", TEXT},
	{"tools", TEXTS},
	{"grants", TEXTS},
	{"budget", MONEY},
	{"max_tokens", COUNT},
	{"turns", COUNT},
};

static const struct member *member_of(struct base_str key)
{
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (base_str_is(key, members[i].name))
			return &members[i];
	return NULL;
}

static int on_key(void *userdata, struct base_str key, size_t line, size_t column, struct parse_fault *fault)
{
	struct front *f = userdata;
	const struct member *m = member_of(key);

	if (!m)
		return parse_fault_set(fault, -EINVAL, line, column,
			"an agent has no \"%.*s\"; it has name, description, tier, model, tools, grants, "
			"budget, "
			"max_tokens and turns",
			(int)(key.len > 40 ? 40 : key.len), key.ptr);
	f->keys[f->count].key = base_str_of(m->name);
	f->keys[f->count].line = line;
	f->keys[f->count++].column = column;
	return 0;
}

static bool is_name(struct base_str s)
{
	if (s.len == 0 || s.len > AGENT_NAME_MAX || s.ptr[0] < 'a' || s.ptr[0] > 'z')
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-_", s.ptr[i]) || !s.ptr[i])
			return false;
	return true;
}

/* NULL, or what the member must be. */
static const char *check_budget(struct base_jv v)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv one;
	int64_t nusd;

	if (base_jv_kind(v) == BASE_JSON_STR)
		return base_money_parse(base_jv_str(v), &nusd, NULL) < 0 ? "must be an amount like 0.10 USD"
									 : NULL;
	if (base_jv_kind(v) != BASE_JSON_OBJ)
		return "must be an amount like 0.10 USD, or {run: 0.10 USD, month: 5 USD}";
	while (base_jv_next(v, &it, &key, &one)) {
		if (!base_str_is(key, "run") && !base_str_is(key, "month"))
			return "has the limits run and month";
		if (base_jv_kind(one) != BASE_JSON_STR || base_money_parse(base_jv_str(one), &nusd, NULL) < 0)
			return "must hold amounts like 0.10 USD";
	}
	return NULL;
}

static const char *check(const struct member *m, struct base_jv v)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv one;

	switch (m->shape) {
	case NAME:
		return is_name(base_jv_str(v))
			       ? NULL
			       : "must be a word of a-z, 0-9, - and _ that begins with a letter";
	case TEXT:
		return base_jv_str(v).len ? NULL : "must be text";
	case COUNT:
		return base_jv_kind(v) == BASE_JSON_INT && base_jv_int(v, 0) > 0 &&
				       base_jv_int(v, 0) <= 1000000
			       ? NULL
			       : "must be a whole number from 1 to 1000000";
	case MONEY:
		return check_budget(v);
	case TEXTS:
		if (base_jv_kind(v) != BASE_JSON_ARR)
			return "must be a list, like [memory.search]";
		while (base_jv_next(v, &it, &key, &one))
			if (base_jv_str(one).len == 0)
				return "must be a list of names, like [memory.search]";
		return NULL;
	}
	return NULL;
}

/* The line that starts at `at`, without its end; *ret_next is where the next one starts. */
static struct base_str line_at(struct base_str in, size_t at, size_t *ret_next)
{
	struct base_str rest = base_str_sub(in, at, in.len);
	ptrdiff_t end = base_str_find(rest, '\n');

	*ret_next = end < 0 ? in.len : at + (size_t)end + 1;
	if (end >= 0)
		rest.len = (size_t)end;
	while (rest.len && (rest.ptr[rest.len - 1] == '\r' || rest.ptr[rest.len - 1] == ' '))
		rest.len--;
	return rest;
}

static struct base_str trim(struct base_str s)
{
	while (s.len && strchr(" \t\r\n", s.ptr[0]) && s.ptr[0])
		s = base_str_sub(s, 1, s.len);
	while (s.len && strchr(" \t\r\n", s.ptr[s.len - 1]) && s.ptr[s.len - 1])
		s.len--;
	return s;
}

static int check_front(struct base_jv root, const struct front *f, struct parse_fault *fault)
{
	if (base_jv_kind(root) != BASE_JSON_OBJ || base_jv_kind(base_jv_get(root, "name")) == BASE_JSON_NONE)
		return parse_fault_set(fault, -EINVAL, 2, 1, "an agent needs a name in its front matter");
	for (size_t i = 0; i < f->count; i++) {
		const char *why = check(member_of(f->keys[i].key), base_jv_get_str(root, f->keys[i].key));

		if (why)
			return parse_fault_set(fault, -EINVAL, f->keys[i].line, f->keys[i].column, "%.*s %s",
				BASE_STR_ARG(f->keys[i].key), why);
	}
	return 0;
}

static int put_agent(
	struct base_str front, struct base_str body, struct base_buf *ret, struct parse_fault *fault)
{
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct base_buf json;
	struct base_str key;
	struct base_jw w = base_jw_of(ret);
	struct base_jv v;
	struct front f = {0};
	int r;

	base_buf_init(&json, PARSE_OUTPUT_MAX);
	r = parse_yaml_keys(front, 2, on_key, &f, &json, fault);
	if (r == 0)
		r = base_json_parse(base_buf_view(&json), &doc, &fault->err);
	if (r == 0)
		r = check_front(base_json_root(doc), &f, fault);
	if (r == 0) {
		base_jw_obj(&w);
		while (base_jv_next(base_json_root(doc), &it, &key, &v)) {
			base_jw_key_str(&w, key);
			base_buf_clear(&json);
			base_jv_write(v, &json);
			base_jw_raw(&w, base_buf_view(&json));
		}
		base_jw_mstr(&w, "instructions", body);
		base_jw_end_obj(&w);
	}
	base_json_free(doc);
	base_buf_done(&json);
	return r;
}

int parse_agent(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
{
	struct base_str line, front, body;
	size_t at, next, start, before = ret->len;
	size_t count = 1;
	int r;

	r = parse_check_text(in, fault);
	if (r < 0)
		return r;
	if (base_str_starts(in, BASE_STR("\xef\xbb\xbf")))
		in = base_str_sub(in, 3, in.len);
	line = line_at(in, 0, &start);
	if (!base_str_is(line, "---"))
		return parse_fault_set(
			fault, -EINVAL, 1, 1, "an agent begins with a line of --- and its front matter");
	for (at = start; at < in.len; at = next) {
		count++;
		line = line_at(in, at, &next);
		if (base_str_is(line, "---"))
			break;
	}
	if (at >= in.len)
		return parse_fault_set(
			fault, -EINVAL, count, 1, "the front matter does not end: a line of --- is missing");
	front = base_str_sub(in, start, at - start);
	body = trim(base_str_sub(in, next, in.len));
	if (body.len == 0)
		return parse_fault_set(
			fault, -EINVAL, count, 1, "an agent needs instructions behind its front matter");
	r = put_agent(front, body, ret, fault);
	if (r < 0)
		ret->len = before;
	return r;
}
