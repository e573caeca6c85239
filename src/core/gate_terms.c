/* Who may decide a gate: the terms that stand in its event. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "core/core_int.h"
#include "core/plan.h"

enum { STAGES_MAX = 8, NEED_MAX = 32, NAMES_MAX = 64 };
static const int64_t remind_min_ms = 60 * 1000;

/* --- reading --- */

static int read_hours(struct base_jv v, int *ret_from, int *ret_to, struct base_str *ret_tz)
{
	struct base_str from = base_jv_str(base_jv_get(v, "from")), to = base_jv_str(base_jv_get(v, "to"));

	if (base_jv_kind(v) == BASE_JSON_STR)
		(void)base_str_cut(base_jv_str(v), '-', &from, &to);
	*ret_from = core_minutes_of(from);
	*ret_to = core_minutes_of(to);
	*ret_tz = base_jv_str(base_jv_get(v, "tz"));
	return *ret_from < 0 || *ret_to < 0 || *ret_from == *ret_to ? -EINVAL : 0;
}

static uint32_t count_of(struct base_jv v)
{
	int64_t n = base_jv_int(v, 1);

	return n < 1 ? 1 : n > NEED_MAX ? NEED_MAX : (uint32_t)n;
}

struct core_terms core_terms_of(struct core *c, struct base_str text)
{
	struct core_terms x = {.need = 1, .denials = 1};
	struct base_jv root, list, v;
	struct base_jv_iter it = {0};
	struct base_json *doc;
	struct base_str none, tz;

	if (text.len == 0 || base_json_parse(text, &doc, NULL) < 0)
		return x;
	root = base_json_root(doc);
	x.approvers = core_patterns_of(c, base_jv_get(root, "approvers"));
	x.announce = core_patterns_of(c, base_jv_get(root, "announce"));
	x.need = count_of(base_jv_get(root, "need"));
	x.denials = count_of(base_jv_get(root, "denials"));
	x.remind_ms = base_jv_int(base_jv_get(root, "remind_ms"), 0);
	if (x.remind_ms > 0 && x.remind_ms < remind_min_ms)
		x.remind_ms = remind_min_ms;
	x.no_operator = !base_jv_bool(base_jv_get(root, "operator"), true);
	x.sign = base_jv_bool(base_jv_get(root, "sign"), false);
	v = base_jv_get(root, "quiet");
	x.urgent = base_jv_bool(base_jv_get(root, "urgent"), false) ||
		   (base_jv_kind(v) == BASE_JSON_BOOL && !base_jv_bool(v, true));
	x.quiet = read_hours(v, &x.quiet_from, &x.quiet_to, &tz) == 0;
	if (x.quiet)
		x.quiet_tz = base_slab_dup(c->slab, tz);
	list = base_jv_get(root, "escalate");
	if (base_jv_kind(list) == BASE_JSON_ARR && base_jv_len(list) > 0)
		x.stage = base_slab_alloc(c->slab, base_jv_len(list) * sizeof(*x.stage));
	while (base_jv_kind(list) == BASE_JSON_ARR && base_jv_next(list, &it, &none, &v))
		x.stage[x.stage_count++] =
			(struct core_stage){.after_ms = base_jv_int(base_jv_get(v, "after_ms"), 0),
				.to = core_patterns_of(c, base_jv_get(v, "to"))};
	base_json_free(doc);
	return x;
}

void core_terms_free(struct core *c, struct core_terms *x)
{
	core_patterns_free(c, &x->approvers);
	core_patterns_free(c, &x->announce);
	base_slab_str_release(c->slab, x->quiet_tz);
	for (uint32_t i = 0; i < x->stage_count; i++)
		core_patterns_free(c, &x->stage[i].to);
	base_slab_release(c->slab, x->stage, x->stage_count * sizeof(*x->stage));
	*x = (struct core_terms){.need = 1, .denials = 1};
}

/* --- checking --- */

static int check_names(struct base_jv list, const char *member, bool people, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_str none, s;
	struct base_jv v;

	if (base_jv_kind(list) == BASE_JSON_NONE)
		return 0;
	if (base_jv_kind(list) != BASE_JSON_ARR || base_jv_len(list) > NAMES_MAX)
		return base_err_set(err, -EINVAL, "%s: a list of at most %d names", member, NAMES_MAX);
	while (base_jv_next(list, &it, &none, &v)) {
		s = base_jv_str(v);
		if (s.len == 0 || s.len > 128)
			return base_err_set(err, -EINVAL, "%s: a list of names", member);
		/* Flows and agents do not decide. */
		if (people && !base_str_is(s, "operator") &&
			(!base_str_starts(s, BASE_STR("key/")) || s.len == 4))
			return base_err_set(err, -EINVAL, "%s: %.*s is neither operator nor key/NAME", member,
				BASE_STR_ARG(s));
	}
	return 0;
}

static bool has_pattern(struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	while (base_jv_next(list, &it, &none, &v))
		if (base_str_ends(base_jv_str(v), BASE_STR("*")))
			return true;
	return false;
}

static bool has_name(struct base_jv list, const char *name)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	while (base_jv_next(list, &it, &none, &v))
		if (base_str_is(base_jv_str(v), name))
			return true;
	return false;
}

/* As many as must agree have to be there: with those that it is put to later. */
static int check_need(struct base_jv terms, struct base_err *err)
{
	struct base_jv people = base_jv_get(terms, "approvers"), stages = base_jv_get(terms, "escalate"), v;
	int64_t need = base_jv_int(base_jv_get(terms, "need"), 1), there = (int64_t)base_jv_len(people);
	bool by_operator = base_jv_bool(base_jv_get(terms, "operator"), true), open = has_pattern(people);
	struct base_jv_iter it = {0};
	struct base_str none;

	if (by_operator && !has_name(people, "operator"))
		there++;
	while (base_jv_next(stages, &it, &none, &v)) {
		there += (int64_t)base_jv_len(base_jv_get(v, "to"));
		open |= has_pattern(base_jv_get(v, "to"));
	}
	if (need < 1 || need > NEED_MAX)
		return base_err_set(err, -EINVAL, "need: a number from 1 to %d", NEED_MAX);
	if (need > there && !open)
		return base_err_set(err, -EINVAL, "need: %lld must agree, and only %lld may decide",
			(long long)need, (long long)there);
	need = base_jv_int(base_jv_get(terms, "denials"), 1);
	if (need < 1 || need > NEED_MAX || (need > there && !open))
		return base_err_set(err, -EINVAL, "denials: %lld must deny, and %lld may decide",
			(long long)need, (long long)there);
	if (!by_operator && there == 0)
		return base_err_set(err, -EINVAL, "operator: nobody else may decide: name approvers");
	return 0;
}

static int check_stages(struct base_jv list, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	int64_t before = 0;
	struct base_jv v;

	if (base_jv_kind(list) == BASE_JSON_NONE)
		return 0;
	if (base_jv_kind(list) != BASE_JSON_ARR || base_jv_len(list) > STAGES_MAX)
		return base_err_set(err, -EINVAL, "escalate: a list of at most %d", STAGES_MAX);
	while (base_jv_next(list, &it, &none, &v)) {
		int64_t after = base_jv_int(base_jv_get(v, "after_ms"), 0);
		struct base_jv to = base_jv_get(v, "to");

		if (after <= before)
			return base_err_set(
				err, -EINVAL, "escalate: each has a time `after`, later than the one before");
		if (base_jv_len(to) == 0)
			return base_err_set(err, -EINVAL, "escalate: each says whom it goes to");
		if (check_names(to, "escalate.to", true, err) < 0)
			return -EINVAL;
		before = after;
	}
	return 0;
}

int core_terms_check(struct base_jv terms, struct base_err *err)
{
	struct base_jv quiet = base_jv_get(terms, "quiet");
	struct base_str tz;
	int from, to;

	if (base_jv_kind(terms) == BASE_JSON_NONE)
		return 0;
	if (base_jv_kind(terms) != BASE_JSON_OBJ)
		return base_err_set(err, -EINVAL, "terms: an object");
	if (check_names(base_jv_get(terms, "approvers"), "approvers", true, err) < 0 ||
		check_names(base_jv_get(terms, "announce"), "announce", false, err) < 0 ||
		check_stages(base_jv_get(terms, "escalate"), err) < 0 || check_need(terms, err) < 0)
		return -EINVAL;
	if (base_jv_kind(quiet) != BASE_JSON_NONE && base_jv_kind(quiet) != BASE_JSON_BOOL &&
		read_hours(quiet, &from, &to, &tz) < 0)
		return base_err_set(err, -EINVAL,
			"quiet: false, or two times of the day such as {from: \"22:00\", to: \"07:00\"}");
	return 0;
}

/* --- what the configuration adds --- */

static bool above_limit(const struct core *c, int64_t cost)
{
	struct base_jv gates =
		c->config_doc ? base_jv_get(base_json_root(c->config_doc), "gates") : (struct base_jv){0};
	int64_t limit;

	return base_money_parse(base_jv_str(base_jv_get(gates, "sign_above")), &limit, NULL) == 0 &&
	       cost > limit;
}

struct base_str core_terms_for(struct core_turn *t, const struct core_gate_open *g)
{
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct base_buf raw, canon;
	struct base_str key;
	struct base_jv v;
	struct base_jw w;

	if (!above_limit(t->c, g->cost))
		return g->terms;
	if (g->terms.len)
		BASE_CHECK(base_json_parse(g->terms, &doc, NULL) == 0);
	base_buf_init(&raw, 1 << 20);
	base_buf_init(&canon, 1 << 20);
	w = base_jw_of(&raw);
	base_jw_obj(&w);
	while (doc && base_jv_next(base_json_root(doc), &it, &key, &v)) {
		if (base_str_is(key, "sign"))
			continue;
		base_jw_key_str(&w, key);
		base_jw_value(&w, v);
	}
	base_jw_mbool(&w, "sign", true);
	base_jw_end_obj(&w);
	base_json_free(doc);
	BASE_CHECK(base_json_canon(base_buf_view(&raw), &canon, NULL) == 0);
	base_buf_done(&raw);
	return core_buf_to_arena(t->arena, &canon);
}

/* --- who --- */

bool core_gate_names(const struct core_gate *g, struct base_str who)
{
	for (const struct core_asked *a = g->asked; a; a = a->next)
		if (base_str_eq(a->who, who))
			return !a->gone;
	if (base_str_is(who, "operator"))
		return !g->terms.no_operator || core_patterns_match(&g->terms.approvers, who);
	if (!base_str_starts(who, BASE_STR("key/")))
		return false;
	for (uint32_t i = 0; i < g->escalated && i < g->terms.stage_count; i++)
		if (core_patterns_match(&g->terms.stage[i].to, who))
			return true;
	return core_patterns_match(&g->terms.approvers, who);
}

bool core_run_asked_by(const struct core *c, const struct core_run *r, struct base_str who)
{
	for (; r; r = core_run_parent(c, r))
		if (base_str_eq(core_word_text(r->by), who) || base_str_eq(core_word_text(r->origin), who))
			return true;
	return false;
}
