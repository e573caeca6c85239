/* Who may do what: grants, then rules. Deny wins over gate, gate over allow; nothing matches: deny. */
#include <string.h>

#include "core/core_int.h"

bool core_run_may(const struct core *c, const struct core_run *r, struct base_str action)
{
	const struct core_principal *p = base_names_get(c->principals, core_word_text(r->as));
	const struct core_run_extra *x = core_run_extra(r);

	if (!p || p->revoked || !core_patterns_match(&p->grants, action))
		return false;
	for (uint32_t i = 0; i < x->limit_count; i++)
		if (!core_patterns_match(&x->limits[i], action))
			return false;
	return true;
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

struct base_str core_principal_by_key(const struct core *c, struct base_str public_key, int64_t now_ms)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	if (public_key.len != 32)
		return BASE_STR_NONE;
	for (bool first = true; base_names_seek(c->principals, at, first, &at, &value); first = false) {
		const struct core_principal *p = value;

		if (p->has_key && memcmp(p->public_key, public_key.ptr, 32) == 0)
			return p->revoked || (p->expires_ms && now_ms >= p->expires_ms) ? BASE_STR_NONE
											: p->id;
	}
	return BASE_STR_NONE;
}

uint64_t core_customer_seq(const struct core *c, struct base_str customer)
{
	char key[600];
	const struct core_fact *f;

	if (!c->policy_uses_customer || customer.len == 0 || customer.len + c->customers.len > sizeof(key))
		return 0;
	memcpy(key, c->customers.ptr, c->customers.len);
	memcpy(key + c->customers.len, customer.ptr, customer.len);
	f = base_names_get(c->facts, (struct base_str){key, customer.len + c->customers.len});
	return f && !f->removed ? f->seq : 0;
}

/* What CEL sees; documents live until the judgement is over. */
struct scene {
	struct base_json *customer, *run;
	struct cel_binding vars[6];
	unsigned count;
};

static void bind(struct scene *s, const char *name, struct cel_value v)
{
	s->vars[s->count++] = (struct cel_binding){base_str_of(name), v};
}

static void bind_run(struct scene *s, const struct core_run *r, struct base_arena *arena)
{
	const struct core_flow *flow = r->flow;
	struct base_buf b;
	struct base_jw w;

	/* An undo is judged as a call of the flow whose step it takes back. */
	if (!flow && (r->flags & CORE_RUN_UNDO) && !core_run_extra(r)->agent)
		flow = core_run_payer(r);
	base_buf_init(&b, 4096);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mstr(&w, "flow", flow ? flow->name : BASE_STR("aios:agent"));
	base_jw_mstr(&w, "agent", core_word_text(core_run_extra(r)->agent));
	base_jw_mint(&w, "id", (int64_t)r->id);
	base_jw_end_obj(&w);
	if (base_json_parse(base_buf_view(&b), &s->run, NULL) == 0)
		bind(s, "run", cel_json(base_json_root(s->run), arena));
	base_buf_done(&b);
}

/* What no rule mentions is not made. */
static void scene_init(
	struct scene *s, const struct core *c, const struct core_question *q, struct base_arena *arena)
{
	struct base_str customer = q->customer_fact.len ? q->customer_fact : BASE_STR("{}");

	*s = (struct scene){0};
	bind(s, "principal", cel_string(core_word_text(q->run->as)));
	bind(s, "action", cel_string(q->action->name));
	bind(s, "args", cel_json(q->args, arena));
	bind(s, "cost", cel_int(q->cost));
	if (c->policy_uses_customer && (base_json_parse(customer, &s->customer, NULL) == 0 ||
					       base_json_parse(BASE_STR("{}"), &s->customer, NULL) == 0))
		bind(s, "customer", cel_json(base_json_root(s->customer), arena));
	if (c->policy_uses_run)
		bind_run(s, q->run, arena);
}

static void scene_done(struct scene *s)
{
	base_json_free(s->customer);
	base_json_free(s->run);
}

/* A condition that fails to evaluate counts as a match for deny and gate, as none for allow. */
static bool rule_matches(const struct core_rule *rule, const struct scene *s, struct base_arena *arena)
{
	struct cel_value v;
	bool strict = base_str_is(rule->then, "allow");

	if (rule->simple)
		return true;
	if (!rule->when)
		return !strict;
	v = cel_eval(rule->when, s->vars, s->count, arena, 0);
	if (v.kind == CEL_BOOL)
		return v.as.b;
	return !strict;
}

static enum core_verdict verdict_of(struct base_str then)
{
	if (base_str_is(then, "allow"))
		return CORE_ALLOW;
	return base_str_is(then, "gate") ? CORE_GATE : CORE_DENY;
}

struct core_judged core_judge(const struct core *c, const struct core_question *q, struct base_arena *arena)
{
	struct core_judged best = {.verdict = CORE_DENY, .rule = BASE_STR("default: nothing allows it")};
	bool any = false, staged = false;
	struct scene scene;

	if (!q->action->always && !core_run_may(c, q->run, q->action->name))
		return (struct core_judged){.verdict = CORE_DENY, .rule = BASE_STR("no grant")};
	if (q->action->internal)
		return (struct core_judged){.verdict = CORE_ALLOW, .rule = BASE_STR("grant")};
	for (uint32_t i = 0; i < c->rule_count; i++) {
		const struct core_rule *rule = &c->rules[i];
		enum core_verdict v = verdict_of(rule->then);

		if (!base_str_matches(rule->on, q->action->name) || (any && v <= best.verdict))
			continue;
		if (!rule->simple && !staged) {
			scene_init(&scene, c, q, arena);
			staged = true;
		}
		if (!rule_matches(rule, &scene, arena))
			continue;
		best = (struct core_judged){.verdict = v, .rule = rule->name, .expires_ms = rule->expires_ms};
		any = true;
	}
	if (staged)
		scene_done(&scene);
	return best;
}
