/* Who may do what: grants, then rules. Deny wins over gate, gate over allow; nothing matches: deny. */
#include <string.h>

#include "base/check.h"
#include "core/policy_int.h"

enum {
	OF = '@'
}; /* "@flow/f" among the grants that a run is narrowed to: whose they are; no action begins so */

static bool own_grants(const struct core *c, const struct core_run *r, struct base_str action)
{
	const struct core_principal *p = base_names_get(c->principals, core_word_text(r->as));

	return p && !p->revoked && core_patterns_match(&p->grants, action);
}

/* What a run was given by its starter is narrowed with it: the starter's grants as they were then, and as they are now. */
static bool limit_allows(const struct core *c, const struct core_patterns *limit, struct base_str action)
{
	const struct core_principal *p;

	if (!core_patterns_match(limit, action))
		return false;
	for (uint32_t i = 0; i < limit->count; i++) {
		if (limit->item[i].len == 0 || limit->item[i].ptr[0] != OF)
			continue;
		p = base_names_get(c->principals, base_str_sub(limit->item[i], 1, limit->item[i].len));
		if (!p || p->revoked || !core_patterns_match(&p->grants, action))
			return false;
	}
	return true;
}

bool core_run_may(const struct core *c, const struct core_run *r, struct base_str action)
{
	if (!own_grants(c, r, action))
		return false;
	for (uint32_t i = 0; r->limits && i < r->limits->count; i++)
		if (!limit_allows(c, &r->limits->list[i], action))
			return false;
	return true;
}

const char *core_run_may_not(const struct core *c, const struct core_run *r, struct base_str action)
{
	if (own_grants(c, r, action))
		return "its starter may not: a run that is started by another acts with what both are "
		       "granted (add it to "
		       "the `grants` of the one that starts it, and deploy)";
	return "it has no grant for it (add it to `grants` and deploy)";
}

/* `limit` is what `p` is granted, and says whose it is. */
static bool is_of(const struct core_patterns *limit, const struct core_principal *p)
{
	const struct core_patterns *b = &p->grants;

	if (limit->count != b->count + 1 || limit->item[0].len == 0 || limit->item[0].ptr[0] != OF ||
		!base_str_eq(base_str_sub(limit->item[0], 1, limit->item[0].len), p->id))
		return false;
	for (uint32_t i = 0; i < b->count; i++)
		if (!base_str_eq(limit->item[i + 1], b->item[i]))
			return false;
	return true;
}

static void put_patterns(struct base_jw *w, const struct core_patterns *p, struct base_str of)
{
	base_jw_arr(w);
	if (of.len)
		base_jw_str(w, of);
	for (uint32_t i = 0; i < p->count; i++)
		base_jw_str(w, p->item[i]);
	base_jw_end_arr(w);
}

struct base_str core_run_limits(
	const struct core *c, const struct core_run *r, bool own, struct base_arena *arena)
{
	static const struct core_principal nobody = {.revoked = true};
	const struct core_principal *p = base_names_get(c->principals, core_word_text(r->as));
	struct base_buf b;
	struct base_jw w;

	if (!own)
		return r->limits ? core_word_text(r->limits->text) : BASE_STR_NONE;
	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_arr(&w);
	p = p && !p->revoked ? p : &nobody;
	put_patterns(&w, &p->grants, p->id.len ? BASE_JOIN(arena, BASE_STR("@"), p->id) : BASE_STR_NONE);
	/* One that starts itself again and again has each list once. */
	for (uint32_t i = 0; r->limits && i < r->limits->count; i++)
		if (!is_of(&r->limits->list[i], p))
			put_patterns(&w, &r->limits->list[i], BASE_STR_NONE);
	base_jw_end_arr(&w);
	return core_buf_to_arena(arena, &b);
}

static bool caveats_allow(struct base_str caveats, struct base_str action, int64_t now_ms)
{
	struct base_jv_iter it = {0};
	struct base_json *doc;
	struct base_str key;
	struct base_jv v;
	bool ok = true;

	if (caveats.len == 0)
		return true;
	if (base_json_parse(caveats, &doc, NULL) < 0)
		return false;
	/* A list of blocks: {"grants":[…],"expires_ms":n}; each can only narrow. */
	while (base_jv_next(base_json_root(doc), &it, &key, &v)) {
		struct base_jv grants = base_jv_get(v, "grants"), g;
		struct base_jv_iter jt = {0};
		int64_t expires = base_jv_int(base_jv_get(v, "expires_ms"), 0);
		bool match = base_jv_kind(grants) == BASE_JSON_NONE;

		while (base_jv_next(grants, &jt, &key, &g))
			match |= base_str_matches(base_jv_str(g), action);
		ok &= match && (expires == 0 || now_ms < expires);
	}
	base_json_free(doc);
	return ok;
}

bool core_may(const struct core *c, const struct core_caller *by, struct base_str action, int64_t now_ms)
{
	const struct core_principal *p;

	if (base_str_is(by->id, "operator"))
		return caveats_allow(by->caveats, action, now_ms);
	p = base_names_get(c->principals, by->id);
	if (!p || p->revoked || (p->expires_ms && now_ms >= p->expires_ms))
		return false;
	return core_patterns_match(&p->grants, action) && caveats_allow(by->caveats, action, now_ms);
}

static const struct core_fact *customer_fact(const struct core *c, struct base_str customer)
{
	char key[600];
	const struct core_fact *f;

	if (customer.len == 0 || customer.len + c->customers.len > sizeof(key))
		return NULL;
	memcpy(key, c->customers.ptr, c->customers.len);
	memcpy(key + c->customers.len, customer.ptr, customer.len);
	f = base_names_get(c->facts, (struct base_str){key, customer.len + c->customers.len});
	return f && !f->removed ? f : NULL;
}

bool core_customer_is_strange(const struct core *c, struct base_str customer)
{
	return c->customers.len && customer.len && !customer_fact(c, customer);
}

uint64_t core_customer_seq(const struct core *c, struct base_str customer)
{
	const struct core_fact *f;

	if (!core_policy_reads(c->rules, CORE_VAR_CUSTOMER))
		return 0;
	f = customer_fact(c, customer);
	return f ? f->seq : 0;
}

/* --- rules --- */

/* A condition that fails to evaluate counts as a match for deny and gate, as none for allow. */
static bool rule_matches(const struct core_rule *rule, struct core_scene *s, struct core_heard *heard)
{
	struct cel_value v;

	if (rule->simple)
		return true;
	v = core_scene_eval(s, rule->when);
	if (heard)
		heard->value = v.kind == CEL_BOOL    ? v.as.b ? BASE_STR("true") : BASE_STR("false")
				  : v.kind == CEL_ERROR ? v.as.s
						     : BASE_STR("it is neither true nor false");
	return v.kind == CEL_BOOL ? v.as.b : rule->then != CORE_ALLOW;
}

static void note(struct core_judged *j, enum core_verdict v, const struct core_rule *rule)
{
	j->verdict = v;
	j->rule = rule->name;
	j->expires_ms = rule->expires_ms;
	j->terms = rule->terms;
	j->on_expiry = rule->on_expiry;
}

/* --- limits and counters: only ever stricter --- */

struct counting {
	struct core_scene *s;
	struct core_judged *j;
	struct base_buf counts, limits;
	struct base_jw counts_w, limits_w;
	const struct core_rule **gate; /* the rules that gate it */
	size_t gates;
	bool over; /* a limit or a counter gates it: time does not let it through */
};

static void put_count(struct counting *k, struct base_str counter, struct base_str key, int64_t value)
{
	if (value <= 0)
		return;
	if (k->counts.len == 0) {
		k->counts_w = base_jw_of(&k->counts);
		base_jw_arr(&k->counts_w);
	}
	base_jw_obj(&k->counts_w);
	base_jw_mstr(&k->counts_w, "counter", counter);
	base_jw_mstr(&k->counts_w, "key", key);
	base_jw_mint(&k->counts_w, "value", value);
	base_jw_end_obj(&k->counts_w);
}

static void put_limit(struct counting *k, const struct core_rule *rule, const struct core_heard *h)
{
	if (k->limits.len == 0) {
		k->limits_w = base_jw_of(&k->limits);
		base_jw_arr(&k->limits_w);
	}
	base_jw_obj(&k->limits_w);
	base_jw_mstr(&k->limits_w, "rule", rule->name);
	base_jw_mstr(&k->limits_w, "key", h->key);
	base_jw_mint(&k->limits_w, "used", h->used);
	base_jw_mint(&k->limits_w, "adds", h->adds);
	base_jw_mint(&k->limits_w, "max", rule->limit->max);
	base_jw_mbool(&k->limits_w, "over", h->over);
	base_jw_end_obj(&k->limits_w);
}

static int64_t plus(int64_t a, int64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static void add_gate(struct counting *k, const struct core_rule *rule)
{
	for (size_t i = 0; i < k->gates; i++)
		if (k->gate[i] == rule)
			return;
	k->gate[k->gates++] = rule;
}

static void ask_limit(struct counting *k, const struct core_rule *rule, struct core_heard *heard)
{
	const struct core_limit *limit = rule->limit;
	struct core_heard h = {.rule = rule};
	bool known = core_scene_amount(k->s, &limit->counter, &h.adds);
	bool whose = core_scene_key(k->s, &limit->counter, &h.key);

	h.used = core_scene_used(k->s, &limit->counter, h.key);
	/* What cannot be told could be any amount. */
	h.over = !known || !whose || plus(h.used, h.adds) > limit->max;
	if (heard) {
		heard->over = h.over;
		heard->key = h.key;
		heard->used = h.used;
		heard->adds = h.adds;
	}
	put_limit(k, rule, &h);
	put_count(k, limit->counter.name, h.key, h.adds);
	if (!h.over || k->s->of->released || limit->otherwise < k->j->verdict)
		return;
	if (limit->otherwise == CORE_GATE) {
		add_gate(k, rule);
		k->over = true; /* or one could wait until it is let through */
		if (k->j->verdict == CORE_GATE)
			return;
	}
	note(k->j, limit->otherwise, rule);
	k->j->why = !known   ? BASE_STR("how much it adds to the limit cannot be told")
		    : !whose ? BASE_STR("for whom it counts cannot be told")
			     : BASE_STR("its limit is used up");
}

static void ask_counter(struct counting *k, const struct core_counter *counter)
{
	struct base_str key;
	struct cel_value v;
	int64_t adds = 0;
	bool known, whose;

	if (!base_str_matches(counter->on, k->s->of->action))
		return;
	if (counter->when_set && !counter->unreadable) {
		v = core_scene_eval(k->s, counter->when);
		if (v.kind == CEL_BOOL && !v.as.b)
			return;
	}
	known = core_scene_amount(k->s, counter, &adds);
	whose = core_scene_key(k->s, counter, &key);
	put_count(k, counter->name, key, adds);
	if (known && whose)
		return;
	k->over = true;
	if (k->j->verdict != CORE_ALLOW)
		return;
	k->j->verdict = CORE_GATE;
	k->j->rule = base_arena_printf(k->s->arena, "counter %.*s", BASE_STR_ARG(counter->name));
	k->j->why = BASE_STR("what it adds to this counter cannot be told");
	k->j->on_expiry = BASE_STR("deny");
}

/* --- what they read --- */

static struct base_str judged_of(struct core_scene *s, struct counting *k)
{
	struct base_str text;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 8 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	if (s->of->confidence)
		base_jw_mint(&w, "confidence", s->of->confidence);
	if (core_policy_reads(s->policy, CORE_VAR_COST))
		base_jw_mint(&w, "cost", s->of->cost);
	if (core_policy_reads(s->policy, CORE_VAR_CUSTOMER))
		base_jw_mint(&w, "customer", (int64_t)s->of->customer_seq);
	if (s->history) {
		base_jw_key(&w, "history");
		base_jw_value(&w, base_json_root(s->history));
	}
	if (core_policy_reads(s->policy, CORE_VAR_LABELS))
		base_jw_mraw(&w, "labels", core_case_labels(s->of));
	if (k->limits.len)
		base_jw_mraw(&w, "limits", base_buf_view(&k->limits));
	base_jw_end_obj(&w);
	text = core_buf_to_arena(s->arena, &b);
	return base_str_is(text, "{}") ? BASE_STR_NONE : text;
}

static struct core_heard *hear_rule(struct core_hearing *hear, const struct core_rule *rule)
{
	if (!hear || hear->count == hear->cap)
		return NULL;
	hear->heard[hear->count] = (struct core_heard){.rule = rule};
	return &hear->heard[hear->count++];
}

/* Rules in the order deny, gate, allow: the first that matches decides, of several that gate all set the terms. Those
 * behind it are asked only if they have a limit, or somebody listens. */
static void ask_rules(struct counting *k, const struct core_candidates *c, struct core_hearing *hear)
{
	const struct core_rule **limited =
		base_arena_array(k->s->arena, k->s->policy->limit_count + 1, sizeof(*limited));
	struct core_heard **notes =
		base_arena_array(k->s->arena, k->s->policy->limit_count + 1, sizeof(*notes));
	uint32_t count = 0;
	bool any = false;

	k->gate = base_arena_array(k->s->arena, c->count + 1, sizeof(*k->gate));
	BASE_CHECK(limited && notes && k->gate);
	for (uint32_t i = 0; i < c->count; i++) {
		const struct core_rule *rule = c->rule[i];
		struct core_heard *heard;

		if (any && !rule->limit && !hear && !(rule->then == CORE_GATE && k->gates))
			continue;
		heard = hear_rule(hear, rule);
		if (!rule_matches(rule, k->s, heard))
			continue;
		if (heard)
			heard->matches = true;
		if (rule->limit) {
			notes[count] = heard;
			limited[count++] = rule;
		}
		if (rule->then == CORE_GATE)
			add_gate(k, rule);
		if (any)
			continue;
		note(k->j, rule->then, rule);
		any = true;
		if (rule->then == CORE_DENY && !hear)
			return;
	}
	for (uint32_t i = 0; i < count; i++)
		ask_limit(k, limited[i], notes[i]);
}

struct core_judged core_policy_judge(struct core_scene *s, struct core_hearing *hear)
{
	const struct core_candidates *c = core_policy_candidates(s->policy, s->of->action, s->arena);
	struct core_judged j = {.verdict = CORE_DENY, .rule = BASE_STR("default: nothing allows it")};
	struct counting k = {.s = s, .j = &j};

	base_buf_init(&k.counts, 4 << 20);
	base_buf_init(&k.limits, 4 << 20);
	ask_rules(&k, c, hear);
	for (uint32_t i = 0; j.verdict != CORE_DENY && i < s->policy->counter_count; i++)
		ask_counter(&k, &s->policy->counters[i]);
	if (j.verdict == CORE_GATE && (k.gates > 1 || k.over))
		core_gates_join(&j, k.gate, k.gates, k.over, s->arena);
	if (k.counts.len)
		base_jw_end_arr(&k.counts_w);
	if (k.limits.len)
		base_jw_end_arr(&k.limits_w);
	if (c->conditions || s->of->confidence)
		j.judged = judged_of(s, &k);
	base_buf_done(&k.limits);
	if (k.counts.len && j.verdict != CORE_DENY)
		j.counts = core_buf_to_arena(s->arena, &k.counts);
	else
		base_buf_done(&k.counts);
	return j;
}

/* --- a call --- */

static int64_t used(void *userdata, const struct core_counter *k, struct base_str key, int64_t now_ms)
{
	return core_count_used(((const struct core *)userdata)->counts, k, key, now_ms);
}

static struct core_case case_of(const struct core *c, const struct core_question *q)
{
	const struct core_flow *flow = q->run->flow;
	const struct core_run_extra *x = core_run_extra(q->run);

	/* An undo is judged as a call of the flow whose step it takes back. */
	if (!flow && (q->run->flags & CORE_RUN_UNDO) && !x->agent)
		flow = core_run_payer(q->run);
	return (struct core_case){.as = core_word_text(q->run->as),
		.action = q->action->name,
		.flow = flow ? flow->name : BASE_STR_NONE,
		.agent = core_word_text(x->agent),
		.run = q->run->id,
		.args = q->args,
		.customer = q->customer,
		.customer_fact = q->customer_fact,
		.customer_seq = core_customer_seq(c, q->customer),
		.strange = core_customer_is_strange(c, q->customer),
		.cost = q->cost,
		.confidence = q->confidence,
		.labels = q->labels,
		.released = q->released,
		.counts = q->counts,
		.now_ms = q->now_ms};
}

struct core_judged core_judge(const struct core *c, const struct core_question *q, struct base_arena *arena)
{
	struct core_judged j = {.verdict = CORE_DENY};
	struct core_scene scene;
	struct core_case of;

	if (!q->action->always && !core_run_may(c, q->run, q->action->name)) {
		j.rule = BASE_STR("no grant");
		j.why = base_str_of(core_run_may_not(c, q->run, q->action->name));
		return j;
	}
	if (q->action->internal)
		return (struct core_judged){.verdict = CORE_ALLOW, .rule = BASE_STR("grant")};
	j.rule = BASE_STR("default: nothing allows it");
	if (!c->rules)
		return j;
	of = case_of(c, q);
	core_scene_init(&scene, c->rules, &of, used, (void *)(uintptr_t)c, arena);
	j = core_policy_judge(&scene, NULL);
	core_scene_done(&scene);
	j.policy = c->policy_seq;
	return j;
}
