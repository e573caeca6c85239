/* Further lists of grants that a run must stay within: what those who started it are granted. Many runs share one. */
#include "base/check.h"
#include "core/core_int.h"

struct core_limits *core_limits_take(struct core *c, struct base_str text)
{
	struct core_limits *l;
	struct base_json *doc;
	size_t n;

	if (text.len == 0)
		return NULL;
	l = base_names_get(c->limits, text);
	if (l) {
		l->refs++;
		return l;
	}
	if (base_json_parse(text, &doc, NULL) < 0)
		return NULL;
	n = base_jv_len(base_json_root(doc));
	if (n) {
		l = base_slab_alloc(c->slab, sizeof(*l));
		l->text = core_word_take(c, text);
		l->list = base_slab_alloc(c->slab, n * sizeof(*l->list));
		for (size_t i = 0; i < n; i++)
			l->list[i] = core_patterns_of(c, base_jv_at(base_json_root(doc), i));
		l->count = (uint32_t)n;
		l->refs = 1;
		BASE_CHECK(base_names_put(c->limits, text, l) == 0);
	}
	base_json_free(doc);
	return l;
}

void core_limits_drop(struct core *c, struct core_limits *l)
{
	if (!l || --l->refs > 0)
		return;
	BASE_CHECK(base_names_remove(c->limits, core_word_text(l->text)) == l);
	for (uint32_t i = 0; i < l->count; i++)
		core_patterns_free(c, &l->list[i]);
	base_slab_release(c->slab, l->list, l->count * sizeof(*l->list));
	core_word_drop(c, l->text);
	base_slab_release(c->slab, l, sizeof(*l));
}
