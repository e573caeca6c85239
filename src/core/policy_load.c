/* A policy from its text: rules with their obligations, counters, and what their conditions read. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "core/policy_int.h"

enum { COUNTERS_MAX = 64, LIMITS_MAX = 500 };

struct load {
	struct core_policy *p;
	struct core_fault *fault;
	bool lenient;
};

enum core_verdict core_verdict_of(struct base_str then)
{
	if (base_str_is(then, "allow"))
		return CORE_ALLOW;
	return base_str_is(then, "gate") ? CORE_GATE : CORE_DENY;
}

const char *core_verdict_name(enum core_verdict v)
{
	return v == CORE_ALLOW ? "allow" : v == CORE_GATE ? "gate" : "deny";
}

int core_fault_set(struct core_fault *fault, struct base_str at, const char *fmt, ...)
{
	struct base_buf b;
	va_list args;

	if (!fault)
		return -EINVAL;
	*fault = (struct core_fault){.line = 0};
	at = base_str_sub(at, 0, sizeof(fault->at) - 1);
	if (at.len)
		memcpy(fault->at, at.ptr, at.len);
	base_buf_init(&b, 64 << 10);
	va_start(args, fmt);
	base_buf_vprintf(&b, fmt, args);
	va_end(args);
	(void)base_err_set(&fault->err, -EINVAL, "%.*s", BASE_STR_ARG(base_buf_view(&b)));
	base_buf_done(&b);
	return -EINVAL;
}

#define wrong(l, at, ...) core_fault_set((l)->fault, at, __VA_ARGS__)
#define at_of(l, ...) base_arena_printf((l)->p->arena, __VA_ARGS__)

static struct base_str own(const struct load *l, struct base_str s)
{
	struct base_str copy = base_arena_dup(l->p->arena, s);

	BASE_CHECK(copy.ptr);
	return copy;
}

/* "line 2, column 7: why" → the place, and why. */
static void place_of(struct core_fault *f)
{
	static const struct base_str words[] = {{"line ", 5}, {", column ", 9}, {": ", 2}};
	struct base_str rest = base_str_of(f->err.text);
	uint64_t n[2];

	for (int i = 0; i < 3; i++) {
		size_t len = 0;

		if (!base_str_starts(rest, words[i]))
			return;
		rest = base_str_sub(rest, words[i].len, rest.len);
		while (len < rest.len && rest.ptr[len] >= '0' && rest.ptr[len] <= '9')
			len++;
		if (i < 2 && base_str_u64(base_str_sub(rest, 0, len), &n[i]) < 0)
			return;
		rest = i < 2 ? base_str_sub(rest, len, rest.len) : rest;
	}
	f->line = (size_t)n[0];
	f->column = (size_t)n[1];
	memmove(f->err.text, rest.ptr, rest.len + 1);
}

bool core_policy_reads(const struct core_policy *p, enum core_var var)
{
	return p && (p->reads & 1u << var);
}

static int compile(struct load *l, struct base_str text, struct base_str at, struct cel_program **ret)
{
	static const struct cel_var vars[CORE_VARS] = {[CORE_VAR_PRINCIPAL] = {{"principal", 9}, CEL_STRING},
		[CORE_VAR_ACTION] = {{"action", 6}, CEL_STRING},
		[CORE_VAR_ARGS] = {{"args", 4}, CEL_DYN},
		[CORE_VAR_RUN] = {{"run", 3}, CEL_DYN},
		[CORE_VAR_LABELS] = {{"labels", 6}, CEL_DYN},
		[CORE_VAR_CONFIDENCE] = {{"confidence", 10}, CEL_DYN},
		[CORE_VAR_COST] = {{"cost", 4}, CEL_DYN},
		[CORE_VAR_CUSTOMER] = {{"customer", 8}, CEL_DYN},
		[CORE_VAR_HISTORY] = {{"history", 7}, CEL_DYN}};
	static const struct cel_env env = {.vars = vars, .count = CORE_VARS};
	struct base_err err;
	int r;

	*ret = NULL;
	if (text.len == 0)
		return 0;
	r = cel_compile_in(text, &env, ret, &err);
	if (r < 0) {
		(void)wrong(l, at, "%s", err.text);
		if (l->fault)
			place_of(l->fault);
		return r;
	}
	for (unsigned i = 0; i < CORE_VARS; i++)
		if (cel_reads(*ret, i))
			l->p->reads |= 1u << i;
	return 0;
}

static int duration(struct load *l, struct base_jv obj, const char *name, struct base_str at, int64_t *ret)
{
	struct base_jv v = base_jv_get(obj, name);
	struct base_err err;

	if (base_jv_kind(v) != BASE_JSON_STR)
		return 0;
	if (base_duration_parse(base_jv_str(v), ret, &err) < 0 || *ret <= 0)
		return wrong(l, at_of(l, "%.*s/%s", BASE_STR_ARG(at), name),
			"`%s` is a time such as \"2d\", \"12h\" or \"15m\"", name);
	return 0;
}

/* --- obligations --- */

static void put_copy(struct base_jw *w, struct base_jv rule, const char *name)
{
	struct base_jv v = base_jv_get(rule, name);

	if (base_jv_kind(v) == BASE_JSON_NONE)
		return;
	base_jw_key(w, name);
	base_jw_value(w, v);
}

static int put_escalate(struct load *l, struct base_jw *w, struct base_jv list, struct base_str at)
{
	int64_t last = 0;

	if (base_jv_len(list) == 0)
		return 0;
	base_jw_key(w, "escalate");
	base_jw_arr(w);
	for (size_t i = 0; i < base_jv_len(list); i++) {
		struct base_str here = at_of(l, "%.*s/escalate/%zu", BASE_STR_ARG(at), i);
		int64_t after = 0;

		if (duration(l, base_jv_at(list, i), "after", here, &after) < 0)
			return -EINVAL;
		if (after <= last)
			return wrong(l, here, "each step of `escalate` comes after the one before it");
		last = after;
		base_jw_obj(w);
		base_jw_mint(w, "after_ms", after);
		put_copy(w, base_jv_at(list, i), "to");
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
	return 0;
}

static const char *const obligations[] = {"approvers", "need", "denials", "operator", "escalate", "remind",
	"announce", "quiet", "urgent", "sign", "expires", "on_expiry"};

static int put_terms(struct load *l, struct base_jv v, struct base_str at, struct base_buf *b)
{
	int64_t remind = 0;
	struct base_jw w = base_jw_of(b);

	base_jw_obj(&w);
	put_copy(&w, v, "announce");
	put_copy(&w, v, "approvers");
	if (put_escalate(l, &w, base_jv_get(v, "escalate"), at) < 0)
		return -EINVAL;
	put_copy(&w, v, "denials");
	put_copy(&w, v, "need");
	put_copy(&w, v, "operator");
	put_copy(&w, v, "urgent");
	put_copy(&w, v, "quiet");
	if (duration(l, v, "remind", at, &remind) < 0)
		return -EINVAL;
	if (remind)
		base_jw_mint(&w, "remind_ms", remind);
	put_copy(&w, v, "sign");
	base_jw_end_obj(&w);
	return 0;
}

/* As gates read them: enough people for those that are needed, and so on. */
static int check_terms(struct load *l, struct base_str at, struct base_str terms)
{
	struct base_json *doc;
	struct base_err err;
	int r;

	BASE_CHECK(base_json_parse(terms, &doc, NULL) == 0);
	r = core_terms_check(base_json_root(doc), &err);
	base_json_free(doc);
	return r < 0 ? wrong(l, at, "%s", err.text) : 0;
}

static int read_terms(struct load *l, struct base_jv v, struct base_str at, struct core_rule *ret)
{
	int64_t need = base_jv_int(base_jv_get(v, "need"), 1);
	struct base_buf raw, canon;
	int r;

	ret->on_expiry = own(l, base_jv_str(base_jv_get(v, "on_expiry")));
	if (ret->on_expiry.len == 0)
		ret->on_expiry = BASE_STR("deny");
	if (duration(l, v, "expires", at, &ret->expires_ms) < 0)
		return -EINVAL;
	if (base_str_is(ret->on_expiry, "approve") &&
		(need > 1 || base_jv_bool(base_jv_get(v, "sign"), false)))
		return wrong(l, at_of(l, "%.*s/on_expiry", BASE_STR_ARG(at)),
			"time can neither sign nor stand for several: with `need` or `sign` it expires as "
			"deny");
	base_buf_init(&raw, 1 << 20);
	base_buf_init(&canon, 1 << 20);
	r = put_terms(l, v, at, &raw);
	if (r == 0 && !base_str_is(base_buf_view(&raw), "{}")) {
		BASE_CHECK(base_json_canon(base_buf_view(&raw), &canon, NULL) == 0);
		ret->terms = own(l, base_buf_view(&canon));
		r = check_terms(l, at, ret->terms);
	}
	base_buf_done(&raw);
	base_buf_done(&canon);
	return r;
}

/* --- counters and limits --- */

static int read_counter(struct load *l, struct base_jv v, struct base_str at, struct core_counter *ret)
{
	struct base_str when = base_jv_str(base_jv_get(v, "when")), per = base_jv_str(base_jv_get(v, "per")),
			sum = base_jv_str(base_jv_get(v, "sum"));

	ret->on = own(l, base_jv_str(base_jv_get(v, "on")));
	ret->when_set = when.len > 0;
	ret->per = per.len == 0			  ? CORE_PER_ALL
		   : base_str_is(per, "customer") ? CORE_PER_CUSTOMER
						  : CORE_PER_EXPR;
	if (duration(l, v, "window", at, &ret->window_ms) < 0 ||
		compile(l, when, at_of(l, "%.*s/when", BASE_STR_ARG(at)), &ret->when) < 0 ||
		compile(l, sum, at_of(l, "%.*s/sum", BASE_STR_ARG(at)), &ret->sum) < 0)
		return -EINVAL;
	if (ret->per == CORE_PER_EXPR &&
		compile(l, per, at_of(l, "%.*s/per", BASE_STR_ARG(at)), &ret->key) < 0)
		return -EINVAL;
	return 0;
}

static void counter_done(struct core_counter *k)
{
	cel_free(k->when);
	cel_free(k->sum);
	cel_free(k->key);
	k->when = k->sum = k->key = NULL;
}

/* A whole number of calls; where it sums, nano-units. */
static int read_max(struct load *l, struct base_jv v, struct base_str at, struct core_limit *ret)
{
	struct base_jv max = base_jv_get(v, "max");
	struct base_str where = at_of(l, "%.*s/max", BASE_STR_ARG(at));
	bool sums = ret->counter.sum != NULL;

	if (base_jv_kind(max) == BASE_JSON_STR) {
		if (!sums)
			return wrong(l, where, "a number of calls, or say with `sum` which amount is summed");
		if (base_money_parse(base_jv_str(max), &ret->max, NULL) < 0 ||
			ret->max > INT64_C(9000000000000000000))
			return wrong(l, where, "`max` is a number or an amount such as \"500 USD\"");
		return 0;
	}
	if (sums) {
		struct cel_value n = {.kind = CEL_DOUBLE, .as.d = base_jv_real(max, 0)};

		if (base_jv_kind(max) == BASE_JSON_INT)
			n = cel_int(base_jv_int(max, 0));
		return core_nano_of(n, &ret->max) ? 0
						  : wrong(l, where, "`max` is a number that is not negative");
	}
	if (base_jv_kind(max) != BASE_JSON_INT)
		return wrong(l, where, "a whole number of calls, or say with `sum` which amount is summed");
	ret->max = base_jv_int(max, 0);
	return 0;
}

static int read_limit(struct load *l, struct base_jv v, struct base_str at, struct core_rule *rule)
{
	struct core_limit *limit = base_arena_alloc(l->p->arena, sizeof(*limit));
	struct base_str where = at_of(l, "%.*s/limit", BASE_STR_ARG(at));
	int r;

	BASE_CHECK(limit);
	if (rule->then == CORE_DENY)
		return wrong(l, where, "a rule that denies needs no limit");
	if (l->p->limit_count == LIMITS_MAX) /* what all of them say of a call stands in its event */
		return wrong(l, where, "at most %d rules have a limit: one `per` something counts for many",
			LIMITS_MAX);
	if (base_jv_kind(base_jv_get(v, "name")) == BASE_JSON_NONE)
		return wrong(
			l, where, "a rule with a limit needs a `name`: what it has counted is kept under it");
	r = read_counter(l, base_jv_get(v, "limit"), where, &limit->counter);
	if (r == 0)
		r = read_max(l, base_jv_get(v, "limit"), where, limit);
	if (r < 0) {
		counter_done(&limit->counter);
		return r;
	}
	limit->counter.name = own(l, at_of(l, "limit:%.*s", BASE_STR_ARG(rule->name)));
	limit->otherwise = base_str_is(base_jv_str(base_jv_get(base_jv_get(v, "limit"), "else")), "deny")
				   ? CORE_DENY
				   : CORE_GATE;
	rule->limit = limit;
	l->p->limit_count++;
	return 0;
}

/* --- rules --- */

static int read_rule(struct load *l, struct base_jv v, uint32_t index, struct core_rule *ret)
{
	struct base_str at = at_of(l, "/rules/%u", index), name = base_jv_str(base_jv_get(v, "name"));
	struct core_rule rule = {.index = index,
		.on = own(l, base_jv_str(base_jv_get(v, "on"))),
		.then = core_verdict_of(base_jv_str(base_jv_get(v, "then"))),
		.when_text = own(l, base_jv_str(base_jv_get(v, "when")))};
	bool asks;
	int r;

	rule.name = name.len ? own(l, name) : rule.on;
	rule.simple = rule.when_text.len == 0;
	r = read_terms(l, v, at, &rule);
	if (r == 0)
		r = compile(l, rule.when_text, at_of(l, "/rules/%u/when", index), &rule.when);
	if (r == 0 && rule.when && cel_result(rule.when) != CEL_BOOL && cel_result(rule.when) != CEL_DYN)
		r = wrong(l, at_of(l, "/rules/%u/when", index),
			"a condition is true or false, and this gives %s",
			cel_kind_name(cel_result(rule.when)));
	if (r == 0 && base_jv_kind(base_jv_get(v, "limit")) == BASE_JSON_OBJ)
		r = read_limit(l, v, at, &rule);
	asks = rule.then == CORE_GATE || (rule.limit && rule.limit->otherwise == CORE_GATE);
	for (size_t i = 0; r == 0 && !asks && i < sizeof(obligations) / sizeof(obligations[0]); i++)
		if (base_jv_kind(base_jv_get(v, obligations[i])) != BASE_JSON_NONE)
			r = wrong(l, at_of(l, "/rules/%u/%s", index, obligations[i]),
				"`%s` is about a gate, and this rule opens none", obligations[i]);
	if (r < 0) {
		cel_free(rule.when);
		if (rule.limit)
			counter_done(&rule.limit->counter);
		return r;
	}
	*ret = rule;
	return 0;
}

static int read_rules(struct load *l, struct base_jv list)
{
	size_t n = base_jv_len(list);
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	l->p->rules = base_arena_array(l->p->arena, n + 1, sizeof(*l->p->rules));
	BASE_CHECK(l->p->rules);
	while (base_jv_next(list, &it, &none, &v)) {
		struct core_rule *rule = &l->p->rules[l->p->rule_count];

		if (read_rule(l, v, l->p->rule_count, rule) < 0) {
			if (!l->lenient)
				return -EINVAL;
			/* One that an older binary accepted: it is about what it was about, as far as that can be
			 * told, and counts as one whose condition fails. */
			*rule = (struct core_rule){.index = l->p->rule_count,
				.then = core_verdict_of(base_jv_str(base_jv_get(v, "then"))),
				.on = own(l, base_jv_str(base_jv_get(v, "on"))),
				.name = BASE_STR("unreadable"),
				.on_expiry = BASE_STR("deny")};
			if (rule->on.len == 0)
				rule->on = BASE_STR("*");
		}
		l->p->rule_count++;
	}
	return 0;
}

static bool is_word(struct base_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char ch = s.ptr[i];

		if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_' ||
			    (i > 0 && ch >= '0' && ch <= '9')))
			return false;
	}
	return s.len > 0 && s.len <= 64;
}

static int read_counters(struct load *l, struct base_jv obj)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	l->p->counters = base_arena_array(l->p->arena, base_jv_len(obj) + 1, sizeof(*l->p->counters));
	BASE_CHECK(l->p->counters);
	while (base_jv_next(obj, &it, &key, &v)) {
		struct core_counter *k = &l->p->counters[l->p->counter_count++];
		struct base_str at = at_of(l, "/counters/%.*s", BASE_STR_ARG(key));
		int r = 0;

		if (!is_word(key) || l->p->counter_count > COUNTERS_MAX)
			r = wrong(l, at,
				"a counter has a name such as `refunds_week`, and there are at most %d",
				COUNTERS_MAX);
		k->name = own(l, key);
		if (r == 0)
			r = read_counter(l, v, at, k);
		if (r == 0)
			continue;
		if (!l->lenient)
			return r;
		counter_done(k);
		k->unreadable = true;
		if (k->on.len == 0)
			k->on = BASE_STR("*");
	}
	return 0;
}

/* What limits have counted is kept under the names of their rules. */
static int check_names(struct load *l)
{
	const struct core_policy *p = l->p;

	for (uint32_t i = 0; p->limit_count > 1 && i < p->rule_count; i++)
		for (uint32_t k = 0; p->rules[i].limit && k < i; k++)
			if (p->rules[k].limit && base_str_eq(p->rules[i].name, p->rules[k].name))
				return wrong(l, at_of(l, "/rules/%u/name", i),
					"two rules with a limit have this name: what each has counted is "
					"kept under it");
	return 0;
}

/* "at "/rules/0/then": …" → the place, and what was wanted there. */
static int schema_fault(struct load *l, struct base_err *err)
{
	struct base_str text = base_str_of(err->text), at = BASE_STR_NONE;

	for (size_t i = 0; i + 4 < text.len; i++) {
		struct base_str rest = base_str_sub(text, i + 4, text.len);

		if (memcmp(text.ptr + i, "at \"", 4) != 0)
			continue;
		for (size_t k = 0; k + 3 <= rest.len; k++)
			if (memcmp(rest.ptr + k, "\": ", 3) == 0)
				return wrong(l, base_str_sub(rest, 0, k), "%.*s",
					BASE_STR_ARG(base_str_sub(rest, k + 3, rest.len)));
	}
	return wrong(l, at, "%.*s", BASE_STR_ARG(text));
}

int core_policy_compile(
	struct base_str json, bool lenient, struct core_policy **ret, struct core_fault *fault)
{
	struct base_arena *arena;
	struct load l = {.fault = fault, .lenient = lenient};
	struct base_json *doc;
	struct base_err err;
	struct base_jv root;
	int r;

	if (base_arena_new(CORE_POLICY_MAX, &arena) < 0)
		return -ENOMEM;
	l.p = base_arena_alloc(arena, sizeof(*l.p));
	BASE_CHECK(l.p);
	l.p->arena = arena;
	r = base_json_parse(json, &doc, &err);
	if (r < 0) {
		(void)wrong(&l, BASE_STR_NONE, "%s", err.text);
		base_arena_free(arena);
		return r;
	}
	root = base_json_root(doc);
	if (!lenient && core_settings_check("policy", "policy.yaml", root, &err) < 0)
		r = schema_fault(&l, &err);
	if (r == 0)
		r = read_counters(&l, base_jv_get(root, "counters"));
	if (r == 0)
		r = read_rules(&l, base_jv_get(root, "rules"));
	if (r == 0 && !lenient)
		r = check_names(&l);
	base_json_free(doc);
	if (r < 0) {
		core_policy_free(l.p);
		return r;
	}
	*ret = l.p;
	return 0;
}

void core_policy_free(struct core_policy *p)
{
	struct base_arena *arena;

	if (!p)
		return;
	for (uint32_t i = 0; i < p->rule_count; i++) {
		cel_free(p->rules[i].when);
		if (p->rules[i].limit)
			counter_done(&p->rules[i].limit->counter);
	}
	for (uint32_t i = 0; i < p->counter_count; i++)
		counter_done(&p->counters[i]);
	base_names_free(p->by_action);
	arena = p->arena;
	base_arena_free(arena);
}

/* --- the index --- */

static struct core_candidates *candidates_of(
	const struct core_policy *p, struct base_str action, struct base_arena *arena)
{
	static const enum core_verdict order[] = {CORE_DENY, CORE_GATE, CORE_ALLOW};
	struct core_candidates *c = base_arena_alloc(arena, sizeof(*c));
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->rule_count; i++)
		n += base_str_matches(p->rules[i].on, action);
	c->rule = base_arena_array(arena, n + 1, sizeof(const struct core_rule *));
	BASE_CHECK(c->rule);
	for (size_t v = 0; v < 3; v++) {
		for (uint32_t i = 0; i < p->rule_count; i++) {
			const struct core_rule *r = &p->rules[i];

			if (r->then != order[v] || !base_str_matches(r->on, action))
				continue;
			c->conditions |= !r->simple || r->limit;
			c->rule[c->count++] = r;
		}
	}
	return c;
}

void core_policy_index(struct core_policy *p, const struct base_names *actions)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	base_names_free(p->by_action);
	p->by_action = NULL;
	BASE_CHECK(base_names_new(&p->by_action) == 0);
	for (bool first = true; base_names_seek(actions, at, first, &at, &value); first = false)
		BASE_CHECK(base_names_put(p->by_action, at, candidates_of(p, at, p->arena)) == 0);
}

const struct core_candidates *core_policy_candidates(
	const struct core_policy *p, struct base_str action, struct base_arena *arena)
{
	const struct core_candidates *c = p->by_action ? base_names_get(p->by_action, action) : NULL;

	return c ? c : candidates_of(p, action, arena);
}

const struct core_counter *core_counter_find(const struct core_policy *p, struct base_str name)
{
	for (uint32_t i = 0; p && i < p->counter_count; i++)
		if (base_str_eq(p->counters[i].name, name))
			return &p->counters[i];
	for (uint32_t i = 0; p && p->limit_count && i < p->rule_count; i++)
		if (p->rules[i].limit && base_str_eq(p->rules[i].limit->counter.name, name))
			return &p->rules[i].limit->counter;
	return NULL;
}
