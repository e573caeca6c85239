#include "base/schema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/schema_int.h"

/*
 * Compiling: one node per schema object, in an arena that the schema owns.
 * 1. Every keyword is known or refused: nothing is silently not checked.
 * 2. From a node, references and any/all/one/not alone never lead back to it, nor further than IN_PLACE_MAX:
 * so a check ends, and its stack is bounded by the depth of the value.
 */
enum { ARENA_MAX = 16 << 20, IN_PLACE_MAX = 32 };

struct def {
	struct base_str name;
	struct schema_node *node;
};

struct compiler {
	struct base_schema *s;
	struct def *defs;
	size_t def_count;
	struct base_err *err;
};

typedef int (*keyword_fn)(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v);

static int node_of(struct compiler *c, struct base_jv v, const struct schema_node **ret);

static int wrong(struct compiler *c, struct base_str key, const char *want)
{
	return base_err_set(c->err, -EINVAL, "schema: %.*s must be %s", BASE_STR_ARG(key), want);
}

static int no_memory(struct compiler *c)
{
	return base_err_set(c->err, -ENOMEM, "schema: too large");
}

static int ignore(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	(void)c;
	(void)n;
	(void)key;
	(void)v;
	return 0;
}

static int dialect(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	(void)n;
	if (!base_str_is(base_jv_str(v), "https://json-schema.org/draft/2020-12/schema"))
		return wrong(c, key, "\"https://json-schema.org/draft/2020-12/schema\"");
	return 0;
}

static int one_type(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	static const struct {
		const char *name;
		unsigned bits;
	} types[] = {
		{"null", 1 << BASE_JSON_NULL},
		{"boolean", 1 << BASE_JSON_BOOL},
		{"integer", 1 << BASE_JSON_INT},
		{"number", 1 << BASE_JSON_INT | 1 << BASE_JSON_REAL},
		{"string", 1 << BASE_JSON_STR},
		{"array", 1 << BASE_JSON_ARR},
		{"object", 1 << BASE_JSON_OBJ},
	};
	size_t i;

	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (base_jv_kind(v) == BASE_JSON_STR && base_str_is(base_jv_str(v), types[i].name)) {
			n->types |= types[i].bits;
			return 0;
		}
	return wrong(c, key, "null, boolean, integer, number, string, array or object, or a list of these");
}

static int type(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	struct base_jv_iter it = {0};
	struct base_jv item;
	int r = 0;

	if (base_jv_kind(v) != BASE_JSON_ARR || base_jv_len(v) == 0) {
		r = one_type(c, n, key, v);
	} else {
		while (r == 0 && base_jv_next(v, &it, NULL, &item))
			r = one_type(c, n, key, item);
	}
	n->integer = (n->types & (1 << BASE_JSON_INT)) && !(n->types & (1 << BASE_JSON_REAL));
	return r;
}

static int choices(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	if (base_jv_kind(v) != BASE_JSON_ARR || base_jv_len(v) == 0)
		return wrong(c, key, "a list of values");
	n->choices = v;
	return 0;
}

static int constant(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	(void)c;
	(void)key;
	n->constant = v;
	n->has |= HAS_CONST;
	return 0;
}

static struct schema_prop *prop(struct schema_node *n, struct base_str name)
{
	size_t i;

	for (i = 0; i < n->prop_count; i++)
		if (base_str_eq(n->props[i].name, name))
			return &n->props[i];
	n->props[n->prop_count] = (struct schema_prop){.name = name};
	return &n->props[n->prop_count++];
}

static int properties(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	struct base_jv_iter it = {0};
	struct base_str name;
	struct base_jv sub;
	int r;

	if (base_jv_kind(v) != BASE_JSON_OBJ)
		return wrong(c, key, "an object of schemas");
	while (base_jv_next(v, &it, &name, &sub)) {
		const struct schema_node *node;

		r = node_of(c, sub, &node);
		if (r < 0)
			return r;
		prop(n, name)->node = node;
	}
	return 0;
}

static int required(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	struct base_jv_iter it = {0};
	struct base_jv name;

	if (base_jv_kind(v) != BASE_JSON_ARR)
		return wrong(c, key, "a list of names");
	while (base_jv_next(v, &it, NULL, &name)) {
		struct schema_prop *p;

		if (base_jv_kind(name) != BASE_JSON_STR)
			return wrong(c, key, "a list of names");
		p = prop(n, base_jv_str(name));
		n->required_count += !p->required;
		p->required = true;
	}
	return 0;
}

static int additional(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	(void)key;
	if (base_jv_kind(v) == BASE_JSON_BOOL) {
		n->closed = !base_jv_bool(v, true);
		return 0;
	}
	return node_of(c, v, &n->additional);
}

static int items(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	(void)key;
	return node_of(c, v, &n->items);
}

static int negation(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	(void)key;
	return node_of(c, v, &n->not_);
}

static int list(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	struct schema_list *to = base_str_is(key, "anyOf")   ? &n->any_of
				 : base_str_is(key, "allOf") ? &n->all_of
				 : base_str_is(key, "oneOf") ? &n->one_of
							     : &n->prefix;
	struct base_jv_iter it = {0};
	struct base_jv sub;
	int r;

	if (base_jv_kind(v) != BASE_JSON_ARR || base_jv_len(v) == 0)
		return wrong(c, key, "a list of schemas");
	to->nodes = base_arena_array(c->s->arena, base_jv_len(v), sizeof(*to->nodes));
	if (!to->nodes)
		return no_memory(c);
	while (base_jv_next(v, &it, NULL, &sub)) {
		r = node_of(c, sub, &to->nodes[to->count]);
		if (r < 0)
			return r;
		to->count++;
	}
	return 0;
}

static int limit(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	bool exclusive = base_str_starts(key, BASE_STR("exclusive"));
	bool max = base_str_ends(key, BASE_STR("aximum"));
	struct schema_limit *to = max ? &n->max : &n->min;
	int order;

	if (base_jv_kind(v) != BASE_JSON_INT && base_jv_kind(v) != BASE_JSON_REAL)
		return wrong(c, key, "a number");
	/* Both the plain and the exclusive one may be there: the narrower counts. */
	if (n->has & (max ? HAS_MAX : HAS_MIN)) {
		order = schema_compare(v, to->number) * (max ? 1 : -1);
		if (order > 0 || (order == 0 && !exclusive))
			return 0;
	}
	*to = (struct schema_limit){v, exclusive};
	n->has |= max ? HAS_MAX : HAS_MIN;
	return 0;
}

static int multiple(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	n->multiple = base_jv_int(v, 0);
	n->has |= HAS_MULTIPLE;
	return n->multiple > 0 ? 0 : wrong(c, key, "an integer above 0");
}

static int count(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	int64_t i = base_jv_int(v, -1);
	bool length = base_str_ends(key, BASE_STR("Length")), max = base_str_starts(key, BASE_STR("max"));
	uint64_t *to =
		length ? (max ? &n->length_max : &n->length_min) : (max ? &n->items_max : &n->items_min);

	if (i < 0)
		return wrong(c, key, "an integer from 0 up");
	*to = (uint64_t)i;
	n->has |= length ? HAS_LENGTH : HAS_ITEMS;
	return 0;
}

static int unique(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	if (base_jv_kind(v) != BASE_JSON_BOOL)
		return wrong(c, key, "true or false");
	if (base_jv_bool(v, false))
		n->has |= HAS_UNIQUE;
	return 0;
}

static int pattern(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	struct base_schema *s = c->s;
	int r;

	if (base_jv_kind(v) != BASE_JSON_STR)
		return wrong(c, key, "a regular expression");
	if (s->pattern_count == s->pattern_size) {
		size_t size = s->pattern_size * 2 + 4;
		struct base_regex **more = reallocarray(s->patterns, size, sizeof(struct base_regex *));

		if (!more)
			return no_memory(c);
		s->patterns = more;
		s->pattern_size = size;
	}
	r = base_regex_compile(base_jv_str(v), &n->pattern, c->err);
	if (r < 0) {
		base_err_prefix(c->err, "schema");
		return r;
	}
	s->patterns[s->pattern_count++] = n->pattern;
	return 0;
}

static int format(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	static const char *const names[] = {[FORMAT_EMAIL] = "email",
		[FORMAT_URI] = "uri",
		[FORMAT_DATE] = "date",
		[FORMAT_DATE_TIME] = "date-time"};
	size_t i;

	for (i = FORMAT_EMAIL; i <= FORMAT_DATE_TIME; i++)
		if (base_str_is(base_jv_str(v), names[i])) {
			n->format = (enum schema_format)i;
			return 0;
		}
	return wrong(c, key, "email, uri, date or date-time");
}

static int reference(struct compiler *c, struct schema_node *n, struct base_str key, struct base_jv v)
{
	struct base_str name = base_jv_str(v);
	size_t i;

	if (!base_str_starts(name, BASE_STR("#/$defs/")))
		return wrong(c, key, "\"#/$defs/NAME\"");
	name = base_str_sub(name, 8, name.len);
	for (i = 0; i < c->def_count; i++)
		if (base_str_eq(c->defs[i].name, name)) {
			n->ref = c->defs[i].node;
			return 0;
		}
	return base_err_set(
		c->err, -EINVAL, "schema: $ref to \"%.*s\", which is not in $defs", BASE_STR_ARG(name));
}

static const struct {
	const char *name;
	keyword_fn fn;
} keywords[] = {
	{"type", type},
	{"properties", properties},
	{"required", required},
	{"additionalProperties", additional},
	{"items", items},
	{"prefixItems", list},
	{"minItems", count},
	{"maxItems", count},
	{"uniqueItems", unique},
	{"enum", choices},
	{"const", constant},
	{"minimum", limit},
	{"maximum", limit},
	{"exclusiveMinimum", limit},
	{"exclusiveMaximum", limit},
	{"multipleOf", multiple},
	{"minLength", count},
	{"maxLength", count},
	{"pattern", pattern},
	{"format", format},
	{"anyOf", list},
	{"allOf", list},
	{"oneOf", list},
	{"not", negation},
	{"$ref", reference},
	{"$schema", dialect},
	{"title", ignore},
	{"description", ignore},
	{"default", ignore},
	{"examples", ignore},
};

static int keyword(
	struct compiler *c, struct schema_node *n, bool root, struct base_str key, struct base_jv v)
{
	size_t i;

	if (root && base_str_is(key, "$defs"))
		return 0;
	for (i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
		if (base_str_is(key, keywords[i].name))
			return keywords[i].fn(c, n, key, v);
	return base_err_set(c->err, -EINVAL, "schema: the keyword \"%.*s\" is not supported%s",
		(int)(key.len < 100 ? key.len : 100), key.ptr,
		base_str_is(key, "$defs") ? " below the top" : "");
}

static int fill(struct compiler *c, struct base_jv v, bool root, struct schema_node *n)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv sub;
	size_t most;
	int r;

	n->length_max = n->items_max = UINT64_MAX;
	if (base_jv_kind(v) == BASE_JSON_BOOL) {
		n->never = !base_jv_bool(v, true);
		return 0;
	}
	if (base_jv_kind(v) != BASE_JSON_OBJ)
		return base_err_set(c->err, -EINVAL, "schema: a schema must be an object, true or false");
	most = base_jv_len(base_jv_get(v, "properties")) + base_jv_len(base_jv_get(v, "required"));
	n->props = base_arena_array(c->s->arena, most + 1, sizeof(*n->props));
	if (!n->props)
		return no_memory(c);
	while (base_jv_next(v, &it, &key, &sub)) {
		r = keyword(c, n, root, key, sub);
		if (r < 0)
			return r;
	}
	return 0;
}

static int node_of(struct compiler *c, struct base_jv v, const struct schema_node **ret)
{
	struct schema_node *n = base_arena_alloc(c->s->arena, sizeof(*n));
	int r = n ? fill(c, v, false, n) : no_memory(c);

	if (r == 0)
		*ret = n;
	return r;
}

enum { MARK_OPEN = UINT32_MAX };

/* How far references and combinations lead from n without going into the value (plus 1); <0 when in circles.
 */
static int reach(struct compiler *c, const struct schema_node *cn, unsigned depth)
{
	union {
		const struct schema_node *from;
		struct schema_node *to;
	} cast = {cn};
	struct schema_node *n = cast.to;
	const struct schema_list *lists[] = {&cn->any_of, &cn->all_of, &cn->one_of};
	const struct schema_node *single[] = {cn->not_, cn->ref};
	unsigned most = 0;
	size_t i, j;
	int r;

	if (n->mark == MARK_OPEN || depth > IN_PLACE_MAX)
		return base_err_set(c->err, -EINVAL, "schema: $ref, anyOf, allOf, oneOf and not lead %s",
			n->mark == MARK_OPEN ? "in a circle" : "too far");
	if (n->mark > 0)
		return (int)n->mark;
	n->mark = MARK_OPEN;
	for (i = 0; i < 5; i++) {
		size_t count_ = i < 3 ? lists[i]->count : single[i - 3] != NULL;

		for (j = 0; j < count_; j++) {
			r = reach(c, i < 3 ? lists[i]->nodes[j] : single[i - 3], depth + 1);
			if (r < 0)
				return r;
			most = (unsigned)r > most ? (unsigned)r : most;
		}
	}
	n->mark = most + 1;
	if (n->mark > IN_PLACE_MAX)
		return base_err_set(
			c->err, -EINVAL, "schema: $ref, anyOf, allOf, oneOf and not lead too far");
	return (int)n->mark;
}

static int compile_defs(struct compiler *c, struct base_jv defs)
{
	struct base_jv_iter it = {0};
	struct base_jv sub;
	size_t i;
	int r;

	if (defs.v && base_jv_kind(defs) != BASE_JSON_OBJ)
		return wrong(c, BASE_STR("$defs"), "an object of schemas");
	c->defs = base_arena_array(c->s->arena, base_jv_len(defs), sizeof(*c->defs));
	if (!c->defs)
		return no_memory(c);
	/* The names first, so that they may refer to each other. */
	while (base_jv_next(defs, &it, &c->defs[c->def_count].name, &sub)) {
		c->defs[c->def_count].node = base_arena_alloc(c->s->arena, sizeof(struct schema_node));
		if (!c->defs[c->def_count++].node)
			return no_memory(c);
	}
	it = (struct base_jv_iter){0};
	for (i = 0; base_jv_next(defs, &it, NULL, &sub); i++) {
		r = fill(c, sub, false, c->defs[i].node);
		if (r < 0) {
			base_err_prefix(c->err, "in $defs/%.*s", BASE_STR_ARG(c->defs[i].name));
			return r;
		}
	}
	return 0;
}

/* Every node is one of the tree below the root and the definitions; all that can be in a circle are reached
 * from these. */
static int check_circles(struct compiler *c, const struct schema_node *root)
{
	size_t i;
	int r = reach(c, root, 0);

	for (i = 0; i < c->def_count && r >= 0; i++)
		r = reach(c, c->defs[i].node, 0);
	return r < 0 ? r : 0;
}

static int compile(struct compiler *c, struct base_jv schema)
{
	struct base_buf text;
	struct schema_node *root;
	int r;

	base_buf_init(&text, ARENA_MAX);
	base_jv_write(schema, &text);
	r = base_buf_failed(&text);
	r = r < 0 ? no_memory(c) : base_json_parse(base_buf_view(&text), &c->s->doc, c->err);
	base_buf_done(&text);
	if (r < 0)
		return r;
	r = base_arena_new(ARENA_MAX, &c->s->arena);
	if (r < 0)
		return no_memory(c);
	schema = base_json_root(c->s->doc);
	root = base_arena_alloc(c->s->arena, sizeof(*root));
	if (!root)
		return no_memory(c);
	r = compile_defs(c, base_jv_get(schema, "$defs"));
	if (r == 0)
		r = fill(c, schema, true, root);
	c->s->root = root;
	return r < 0 ? r : check_circles(c, root);
}

int base_schema_compile(struct base_jv schema, struct base_schema **ret, struct base_err *err)
{
	struct base_schema *s = calloc(1, sizeof(*s));
	struct compiler c = {.s = s, .err = err};
	int r;

	if (!s)
		return base_err_set(err, -ENOMEM, "out of memory");
	r = compile(&c, schema);
	if (r < 0) {
		base_schema_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void base_schema_free(struct base_schema *s)
{
	size_t i;

	if (!s)
		return;
	for (i = 0; i < s->pattern_count; i++)
		base_regex_free(s->patterns[i]);
	free(s->patterns);
	base_arena_free(s->arena);
	base_json_free(s->doc);
	free(s);
}
