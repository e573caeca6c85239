/* Several rules that gate one call, and an approval that was given before a gate: nobody gets by on the weaker terms. */
#include <string.h>

#include "base/check.h"
#include "core/policy_int.h"

/* --- an approval for a rule's gate --- */

static bool named(struct base_jv people, struct base_str who)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	while (base_jv_next(people, &it, &none, &v))
		if (base_str_matches(base_jv_str(v), who))
			return true;
	return false;
}

/* All of these are among those whom the rule names. */
static bool are_named(struct base_jv people, const struct core_patterns *who)
{
	for (uint32_t i = 0; i < who->count; i++)
		if (!base_str_is(who->item[i], "operator") && !named(people, who->item[i]))
			return false;
	return true;
}

bool core_terms_cover(const struct core_gate *g, struct base_str terms)
{
	const struct core_terms *had = &g->terms;
	struct base_json *doc = NULL;
	struct base_jv want = {0}, people;
	bool ok, operator_too;

	if (terms.len) {
		BASE_CHECK(base_json_parse(terms, &doc, NULL) == 0);
		want = base_json_root(doc);
	}
	people = base_jv_get(want, "approvers");
	operator_too =
		base_jv_bool(base_jv_get(want, "operator"), true) || named(people, BASE_STR("operator"));
	ok = (int64_t)had->need >= base_jv_int(base_jv_get(want, "need"), 1) &&
	     (had->sign || !base_jv_bool(base_jv_get(want, "sign"), false)) &&
	     (operator_too ||
		     (had->no_operator && !core_patterns_match(&had->approvers, BASE_STR("operator")))) &&
	     are_named(people, &had->approvers);
	for (uint32_t i = 0; i < had->stage_count; i++)
		ok &= are_named(people, &had->stage[i].to) &&
		      (operator_too || !core_patterns_match(&had->stage[i].to, BASE_STR("operator")));
	base_json_free(doc);
	return ok;
}

/* --- several rules --- */

struct joint {
	struct base_json **doc; /* the terms of each; NULL: it has none */
	struct base_jv base;	/* of the strongest: those that are joined below are taken from all */
	int64_t need, denials;
	bool sign, no_operator;
};

static struct base_jv root_of(struct base_json *doc)
{
	return doc ? base_json_root(doc) : (struct base_jv){0};
}

static int64_t strength(struct base_jv v)
{
	return base_jv_int(base_jv_get(v, "need"), 1) +
	       (base_jv_bool(base_jv_get(v, "sign"), false) ? 100 : 0) +
	       (base_jv_kind(base_jv_get(v, "approvers")) == BASE_JSON_ARR ? 1 : 0);
}

static bool all_name(const struct joint *x, size_t count, struct base_str who)
{
	for (size_t i = 0; i < count; i++) {
		struct base_jv people = base_jv_get(root_of(x->doc[i]), "approvers");

		if (base_jv_kind(people) == BASE_JSON_ARR && !base_str_is(who, "operator") &&
			!named(people, who))
			return false;
	}
	return true;
}

static bool may_all(const struct joint *x, size_t count, struct base_str who)
{
	return all_name(x, count, who) && !(x->no_operator && base_str_is(who, "operator"));
}

static size_t count_people(const struct joint *x, size_t count, struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;
	size_t n = 0;

	while (base_jv_next(list, &it, &none, &v))
		n += may_all(x, count, base_jv_str(v));
	return n;
}

/* Those of a list whom every rule that names somebody names too. */
static void put_people(struct base_jw *w, const struct joint *x, size_t count, struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	base_jw_arr(w);
	while (base_jv_next(list, &it, &none, &v))
		if (may_all(x, count, base_jv_str(v)))
			base_jw_str(w, base_jv_str(v));
	base_jw_end_arr(w);
}

static void put_stages(struct base_jw *w, const struct joint *x, size_t count, struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	base_jw_key(w, "escalate");
	base_jw_arr(w);
	while (base_jv_next(list, &it, &none, &v)) {
		if (count_people(x, count, base_jv_get(v, "to")) == 0)
			continue;
		base_jw_obj(w);
		base_jw_mint(w, "after_ms", base_jv_int(base_jv_get(v, "after_ms"), 0));
		base_jw_key(w, "to");
		put_people(w, x, count, base_jv_get(v, "to"));
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

static void join_one(struct joint *x, struct base_jv v)
{
	int64_t need = base_jv_int(base_jv_get(v, "need"), 1),
		denials = base_jv_int(base_jv_get(v, "denials"), 1);

	x->need = need > x->need ? need : x->need;
	x->denials = denials < x->denials ? denials : x->denials;
	x->sign |= base_jv_bool(base_jv_get(v, "sign"), false);
	x->no_operator |= !base_jv_bool(base_jv_get(v, "operator"), true);
	if (strength(v) > strength(x->base))
		x->base = v;
}

static struct base_str written(struct joint *x, size_t count, struct base_arena *arena)
{
	static const char *const joined[] = {"approvers", "denials", "need", "operator", "sign", "escalate"};
	struct base_jv_iter it = {0};
	struct base_buf raw, canon;
	struct base_str key;
	struct base_jw w;
	struct base_jv v;

	base_buf_init(&raw, 1 << 20);
	base_buf_init(&canon, 1 << 20);
	w = base_jw_of(&raw);
	base_jw_obj(&w);
	while (base_jv_next(x->base, &it, &key, &v)) {
		bool is = false;

		for (size_t i = 0; i < sizeof(joined) / sizeof(joined[0]); i++)
			is |= base_str_is(key, joined[i]);
		if (is)
			continue;
		base_jw_key_str(&w, key);
		base_jw_value(&w, v);
	}
	v = base_jv_get(x->base, "approvers");
	if (base_jv_kind(v) == BASE_JSON_ARR) {
		base_jw_key(&w, "approvers");
		put_people(&w, x, count, v);
	}
	v = base_jv_get(x->base, "escalate");
	if (base_jv_kind(v) == BASE_JSON_ARR)
		put_stages(&w, x, count, v);
	if (x->denials > 1)
		base_jw_mint(&w, "denials", x->denials);
	if (x->need > 1)
		base_jw_mint(&w, "need", x->need);
	if (x->no_operator)
		base_jw_mbool(&w, "operator", false);
	if (x->sign)
		base_jw_mbool(&w, "sign", true);
	base_jw_end_obj(&w);
	BASE_CHECK(base_json_canon(base_buf_view(&raw), &canon, NULL) == 0);
	base_buf_done(&raw);
	key = core_buf_to_arena(arena, &canon);
	return base_str_is(key, "{}") ? BASE_STR_NONE : key;
}

/* Time may let it through only where every rule says so, and then as late as the latest. */
static void join_expiry(struct core_judged *j, const struct core_rule *const *rule, size_t count, bool over)
{
	bool deny = over;
	int64_t first = 0, last = 0;

	for (size_t i = 0; i < count; i++)
		deny |= !base_str_is(rule[i]->on_expiry, "approve");
	for (size_t i = 0; i < count; i++) {
		int64_t ms = rule[i]->expires_ms;

		first = ms && (!first || ms < first) ? ms : first;
		last = ms > last ? ms : last;
	}
	j->on_expiry = deny ? BASE_STR("deny") : BASE_STR("approve");
	j->expires_ms = deny ? first : last;
}

void core_gates_join(struct core_judged *j, const struct core_rule *const *rule, size_t count, bool over,
	struct base_arena *arena)
{
	struct joint x = {.need = 1, .denials = INT64_MAX};
	struct base_json *terms;
	struct base_err err;

	if (count == 0) { /* a counter that cannot be told */
		j->on_expiry = BASE_STR("deny");
		return;
	}
	join_expiry(j, rule, count, over);
	if (count == 1)
		return;
	x.doc = base_arena_array(arena, count, sizeof(struct base_json *));
	BASE_CHECK(x.doc);
	for (size_t i = 0; i < count; i++) {
		x.doc[i] = NULL;
		if (rule[i]->terms.len)
			BASE_CHECK(base_json_parse(rule[i]->terms, &x.doc[i], NULL) == 0);
		if (i == 0)
			x.base = root_of(x.doc[i]);
		join_one(&x, root_of(x.doc[i]));
	}
	j->terms = written(&x, count, arena);
	for (size_t i = 0; i < count; i++)
		base_json_free(x.doc[i]);
	if (j->terms.len == 0)
		return;
	BASE_CHECK(base_json_parse(j->terms, &terms, NULL) == 0);
	if (core_terms_check(base_json_root(terms), &err) < 0) {
		j->verdict = CORE_DENY;
		j->why = BASE_STR("several rules gate it, and nobody may decide for all of them: let their "
				  "`approvers` have enough in common");
	}
	base_json_free(terms);
}
