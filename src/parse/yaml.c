#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/hash.h"
#include "base/json.h"
#include "parse/marks.h"
#include "parse/parse.h"
#include "parse/parse_int.h"

/* Keys of one open map: open addressing over 64 bits of their hash, so that a document cannot make it slow.
 */
struct keys {
	uint64_t *slots;
	size_t size; /* a power of two, or 0 */
	size_t count;
};

struct level {
	bool map;
	bool want_key;
	struct keys keys;
	size_t path;  /* bytes of its own path */
	size_t index; /* of a list: the next */
};

struct walk {
	yaml_parser_t parser;
	size_t first_line;
	parse_key_fn on_key;
	void *userdata;
	struct parse_marks *marks; /* or NULL */
	struct base_buf *out;
	struct base_jw w;
	struct level levels[PARSE_DEPTH_MAX];
	unsigned depth;
	size_t nodes;
	size_t documents;
	struct parse_fault *fault;
};

static int fail(struct walk *k, const yaml_mark_t *at, const char *why)
{
	return parse_fault_set(k->fault, -EINVAL, at->line + k->first_line, at->column + 1, "%s", why);
}

/* 1 if the key was there, 0 if it was added, -ENOMEM. */
static int keys_add(struct keys *s, struct base_str key)
{
	struct base_hash h = base_hash_of(key);
	uint64_t v, *grown;
	size_t i, size;

	memcpy(&v, h.b, sizeof(v));
	v |= 1; /* 0 is an empty slot */
	if (s->count * 2 >= s->size) {
		size = s->size ? s->size * 2 : 16;
		grown = calloc(size, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		for (size_t n = 0; n < s->size; n++) {
			if (!s->slots[n])
				continue;
			for (i = (s->slots[n] >> 1) & (size - 1); grown[i]; i = (i + 1) & (size - 1))
				;
			grown[i] = s->slots[n];
		}
		free(s->slots);
		s->slots = grown;
		s->size = size;
	}
	for (i = (v >> 1) & (s->size - 1); s->slots[i]; i = (i + 1) & (s->size - 1))
		if (s->slots[i] == v)
			return 1;
	s->slots[i] = v;
	s->count++;
	return 0;
}

static int on_key(struct walk *k, const yaml_event_t *e, struct base_str key)
{
	int r;

	if (base_str_is(key, "<<") && e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
		return fail(k, &e->start_mark, "merge keys (<<) are not allowed: write the members out");
	r = keys_add(&k->levels[k->depth - 1].keys, key);
	if (r == -ENOMEM)
		return parse_fault_set(k->fault, r, 0, 0, "out of memory");
	if (r > 0)
		return parse_fault_set(k->fault, -EINVAL, e->start_mark.line + k->first_line,
			e->start_mark.column + 1, "the key \"%.*s\" stands here twice",
			(int)(key.len > 80 ? 80 : key.len), key.ptr);
	if (k->depth == 1 && k->on_key) {
		r = k->on_key(k->userdata, key, e->start_mark.line + k->first_line, e->start_mark.column + 1,
			k->fault);
		if (r < 0)
			return r;
	}
	base_jw_key_str(&k->w, key);
	if (k->marks)
		parse_marks_key(k->marks, k->levels[k->depth - 1].path, key);
	return 0;
}

/* A value begins. */
static void mark(struct walk *k, const yaml_event_t *e)
{
	struct level *l = k->depth ? &k->levels[k->depth - 1] : NULL;

	if (!k->marks)
		return;
	if (l && !l->map)
		parse_marks_index(k->marks, l->path, l->index++);
	parse_marks_put(k->marks, e);
}

static int on_scalar(struct walk *k, const yaml_event_t *e)
{
	struct base_str s = {(const char *)e->data.scalar.value, e->data.scalar.length};
	struct level *l = k->depth ? &k->levels[k->depth - 1] : NULL;
	struct base_buf one;
	const char *why;

	if (e->data.scalar.anchor)
		return fail(k, &e->start_mark, "anchors (&) are not allowed");
	if (e->data.scalar.tag)
		return fail(k, &e->start_mark, "tags (!) are not allowed");
	if (l && l->map && l->want_key) {
		l->want_key = false;
		return on_key(k, e, s);
	}
	if (l && l->map)
		l->want_key = true;
	mark(k, e);
	base_buf_init(&one, PARSE_OUTPUT_MAX);
	why = parse_yaml_scalar(s, e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE, &one);
	if (!why)
		base_jw_raw(&k->w, base_buf_view(&one));
	if (base_buf_failed(&one) < 0)
		why = "this value is too long";
	base_buf_done(&one);
	return why ? fail(k, &e->start_mark, why) : 0;
}

static int on_open(struct walk *k, const yaml_event_t *e, bool map, bool anchor, bool tag)
{
	struct level *l = k->depth ? &k->levels[k->depth - 1] : NULL;

	if (anchor)
		return fail(k, &e->start_mark, "anchors (&) are not allowed");
	if (tag)
		return fail(k, &e->start_mark, "tags (!) are not allowed");
	if (l && l->map && l->want_key)
		return fail(k, &e->start_mark, "a key must be a plain word or text");
	if (k->depth == PARSE_DEPTH_MAX)
		return fail(k, &e->start_mark, "this is nested more than 60 deep");
	if (l && l->map)
		l->want_key = true;
	mark(k, e);
	k->levels[k->depth++] =
		(struct level){.map = map, .want_key = map, .path = k->marks ? k->marks->path.len : 0};
	if (map)
		base_jw_obj(&k->w);
	else
		base_jw_arr(&k->w);
	return 0;
}

static int on_close(struct walk *k, bool map)
{
	struct level *l = &k->levels[--k->depth];

	free(l->keys.slots);
	l->keys.slots = NULL;
	if (map)
		base_jw_end_obj(&k->w);
	else
		base_jw_end_arr(&k->w);
	return 0;
}

static int on_event(struct walk *k, const yaml_event_t *e)
{
	if (++k->nodes > PARSE_YAML_NODES_MAX)
		return fail(k, &e->start_mark, "more than 200000 values are not read");
	if (base_buf_failed(k->out) < 0)
		return parse_fault_set(k->fault, base_buf_failed(k->out), 0, 0, "the result is too large");
	switch (e->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (k->documents++ > 0)
			return fail(k, &e->start_mark, "only one document is allowed here");
		if (e->data.document_start.tag_directives.start != e->data.document_start.tag_directives.end)
			return fail(k, &e->start_mark, "tags (%TAG) are not allowed");
		return 0;
	case YAML_ALIAS_EVENT:
		return fail(k, &e->start_mark, "aliases (*) are not allowed");
	case YAML_SCALAR_EVENT:
		return on_scalar(k, e);
	case YAML_SEQUENCE_START_EVENT:
		return on_open(k, e, false, e->data.sequence_start.anchor != NULL,
			e->data.sequence_start.tag != NULL);
	case YAML_MAPPING_START_EVENT:
		return on_open(
			k, e, true, e->data.mapping_start.anchor != NULL, e->data.mapping_start.tag != NULL);
	case YAML_SEQUENCE_END_EVENT:
		return on_close(k, false);
	case YAML_MAPPING_END_EVENT:
		return on_close(k, true);
	default:
		return 0;
	}
}

static int parser_fault(struct walk *k)
{
	const yaml_parser_t *p = &k->parser;
	const char *what = p->problem ? p->problem : "this cannot be read";
	const yaml_mark_t *at = &p->problem_mark;

	if (p->error == YAML_MEMORY_ERROR)
		return parse_fault_set(k->fault, -ENOMEM, 0, 0, "out of memory");
	if (p->error == YAML_READER_ERROR)
		at = &p->mark;
	return parse_fault_set(k->fault, -EINVAL, at->line + k->first_line, at->column + 1, "%s%s%s", what,
		p->context ? " " : "", p->context ? p->context : "");
}

static int walk(struct walk *k)
{
	yaml_event_t e;
	bool end = false;
	int r = 0;

	while (!end && r == 0) {
		if (!yaml_parser_parse(&k->parser, &e))
			return parser_fault(k);
		end = e.type == YAML_STREAM_END_EVENT;
		r = on_event(k, &e);
		yaml_event_delete(&e);
	}
	return r;
}

/* Lines are counted from first_line; marks and key_fn may be NULL. */
static int read_yaml(struct base_str in, size_t first_line, parse_key_fn key_fn, void *userdata,
	struct parse_marks *marks, struct base_buf *ret, struct parse_fault *fault)
{
	struct walk k = {.first_line = first_line,
		.on_key = key_fn,
		.userdata = userdata,
		.marks = marks,
		.out = ret,
		.fault = fault};
	size_t before = ret->len;
	int r;

	r = parse_check_text(in, fault);
	if (r < 0)
		return r;
	if (base_str_starts(in, BASE_STR("\xef\xbb\xbf")))
		in = base_str_sub(in, 3, in.len - 3);
	if (!yaml_parser_initialize(&k.parser))
		return parse_fault_set(fault, -ENOMEM, 0, 0, "out of memory");
	yaml_parser_set_encoding(&k.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&k.parser, (const unsigned char *)in.ptr, in.len);
	k.w = base_jw_of(ret);
	r = walk(&k);
	while (k.depth)
		free(k.levels[--k.depth].keys.slots);
	yaml_parser_delete(&k.parser);
	if (r < 0)
		ret->len = before;
	else if (ret->len == before)
		base_buf_cstr(ret, "null");
	return r;
}

int parse_yaml_keys(struct base_str in, size_t first_line, parse_key_fn key_fn, void *userdata,
	struct base_buf *ret, struct parse_fault *fault)
{
	return read_yaml(in, first_line, key_fn, userdata, NULL, ret, fault);
}

int parse_yaml(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
{
	return read_yaml(in, 1, NULL, NULL, NULL, ret, fault);
}

int parse_policy(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
{
	struct parse_marks marks;
	struct base_buf value;
	struct base_jw w;
	int r;

	parse_marks_init(&marks, in);
	base_buf_init(&value, PARSE_OUTPUT_MAX);
	r = read_yaml(in, 1, NULL, NULL, &marks, &value, fault);
	base_jw_end_obj(&marks.w);
	if (r == 0 && base_buf_failed(&marks.out) < 0)
		r = parse_fault_set(fault, base_buf_failed(&marks.out), 0, 0, "it is too large");
	if (r == 0) {
		w = base_jw_of(ret);
		base_jw_obj(&w);
		base_jw_mraw(&w, "marks", base_buf_view(&marks.out));
		base_jw_mraw(&w, "value", base_buf_view(&value));
		base_jw_end_obj(&w);
	}
	base_buf_done(&value);
	parse_marks_done(&marks);
	return r;
}
