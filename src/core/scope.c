/* What of the workspace's objects exists for a principal: its own scope, and those of every block of an attenuated key
 * (each only takes away). What is not in it is not there: the same answer as for what was never made. */
#include <string.h>

#include "core/core_int.h"

enum { PREFIXES_MAX = 256 };

/* Prefixes of which one must fit; `all`: nothing is narrowed yet. */
struct prefixes {
	bool all;
	size_t count;
	struct base_str item[PREFIXES_MAX];
};

static void prefixes_add(struct prefixes *p, struct base_str s)
{
	for (size_t i = 0; i < p->count; i++)
		if (base_str_starts(s, p->item[i]))
			return;
	if (p->count < PREFIXES_MAX) /* beyond: less is seen, not more */
		p->item[p->count++] = s;
}

/* Both must fit: of two that do, the longer. */
static void prefixes_narrow(struct prefixes *p, struct base_jv list)
{
	struct prefixes was = *p;
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	p->all = false;
	p->count = 0;
	while (base_jv_next(list, &it, &key, &v)) {
		struct base_str s = base_jv_str(v);

		if (was.all)
			prefixes_add(p, s);
		for (size_t i = 0; i < was.count; i++)
			if (base_str_starts(s, was.item[i]))
				prefixes_add(p, s);
			else if (base_str_starts(was.item[i], s))
				prefixes_add(p, was.item[i]);
	}
}

/* In the order of keys, and none that another covers. */
static void prefixes_put(struct base_jw *w, struct prefixes *p)
{
	for (size_t i = 1; i < p->count; i++)
		for (size_t j = i; j > 0 && base_str_cmp(p->item[j], p->item[j - 1]) < 0; j--) {
			struct base_str s = p->item[j];

			p->item[j] = p->item[j - 1];
			p->item[j - 1] = s;
		}
	base_jw_key(w, "memory");
	base_jw_arr(w);
	for (size_t i = 0, last = 0; i < p->count; i++) {
		if (i > 0 && base_str_starts(p->item[i], p->item[last]))
			continue;
		base_jw_str(w, p->item[i]);
		last = i;
	}
	base_jw_end_arr(w);
}

/* The scopes that apply, as they were written. */
struct layers {
	struct base_jv own; /* of the principal */
	struct base_jv blocks;
};

static bool layer_at(const struct layers *l, size_t i, struct base_jv *ret)
{
	if (i > 0 && i > base_jv_len(l->blocks))
		return false;
	*ret = i == 0 ? l->own : base_jv_get(base_jv_at(l->blocks, i - 1), "scope");
	return true;
}

static void put_scope(const struct layers *l, struct base_str id, struct base_buf *ret)
{
	struct prefixes memory = {.all = true};
	struct base_jw w = base_jw_of(ret);
	bool own = false, flows = false;
	struct base_jv s;

	base_jw_obj(&w);
	for (size_t i = 0; layer_at(l, i, &s); i++) {
		struct base_jv list = base_jv_get(s, "flows");

		own = own || base_jv_bool(base_jv_get(s, "own"), false);
		if (base_jv_kind(base_jv_get(s, "memory")) == BASE_JSON_ARR)
			prefixes_narrow(&memory, base_jv_get(s, "memory"));
		if (base_jv_kind(list) != BASE_JSON_ARR)
			continue;
		if (!flows) {
			base_jw_key(&w, "flows");
			base_jw_arr(&w);
		}
		flows = true;
		base_jw_value(&w, list);
	}
	if (flows)
		base_jw_end_arr(&w);
	if (!memory.all)
		prefixes_put(&w, &memory);
	if (own)
		base_jw_mstr(&w, "own", id);
	base_jw_end_obj(&w);
}

void core_scope_json(const struct core *c, const struct core_caller *by, struct base_buf *ret)
{
	const struct core_principal *p = base_names_get(c->principals, by->id);
	struct base_json *own = NULL, *blocks = NULL;
	size_t from = ret->len;
	bool lost;

	if (!p && !base_str_is(by->id, "operator")) {
		base_buf_cstr(ret, "{\"flows\":[[]],\"memory\":[],\"own\":\"\"}");
		return;
	}
	lost = (p && p->scope.len && base_json_parse(p->scope, &own, NULL) < 0) ||
	       (by->caveats.len && base_json_parse(by->caveats, &blocks, NULL) < 0);
	if (lost)
		base_buf_cstr(ret, "{\"flows\":[[]],\"memory\":[],\"own\":\"\"}");
	else
		put_scope(&(struct layers){own ? base_json_root(own) : (struct base_jv){0},
				  blocks ? base_json_root(blocks) : (struct base_jv){0}},
			by->id, ret);
	if (ret->len - from == 2) /* {} */
		ret->len = from;
	base_json_free(own);
	base_json_free(blocks);
}

static bool names(const struct core_patterns *p, struct base_str action)
{
	for (uint32_t i = 0; i < p->count; i++)
		if (base_str_eq(p->item[i], action))
			return true;
	return false;
}

bool core_may_by_name(
	const struct core *c, const struct core_caller *by, struct base_str action, int64_t now_ms)
{
	const struct core_principal *p = base_names_get(c->principals, by->id);

	return p && names(&p->grants, action) && core_may(c, by, action, now_ms);
}
