/* What a policy says, told: `aios can`, the tests of a policy, other policies over what was judged before. Nothing here
 * changes anything. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "core/policy_int.h"

enum { HEARD_MAX = 1000, ARENA_MAX = 64 << 20 };

static int64_t counted(void *userdata, const struct core_counter *k, struct base_str key, int64_t now_ms)
{
	return core_count_used(userdata, k, key, now_ms);
}

static void put_heard(struct base_jw *w, const struct core_heard *h)
{
	const struct core_limit *limit = h->rule->limit;

	base_jw_obj(w);
	base_jw_mstr(w, "rule", h->rule->name);
	base_jw_mstr(w, "on", h->rule->on);
	base_jw_mcstr(w, "then", core_verdict_name(h->rule->then));
	if (!h->rule->simple) {
		base_jw_mstr(w, "when", h->rule->when_text);
		base_jw_mstr(w, "value", h->value);
	}
	base_jw_mbool(w, "matches", h->matches);
	if (limit && h->matches) {
		base_jw_key(w, "limit");
		base_jw_obj(w);
		base_jw_mstr(w, "key", h->key);
		base_jw_mbool(w, "sums", limit->counter.sum != NULL);
		base_jw_mint(w, "used", h->used);
		base_jw_mint(w, "adds", h->adds);
		base_jw_mint(w, "max", limit->max);
		base_jw_mbool(w, "over", h->over);
		base_jw_mcstr(w, "else", core_verdict_name(limit->otherwise));
		base_jw_end_obj(w);
	}
	base_jw_end_obj(w);
}

static void put_judged(struct base_jw *w, const struct core_judged *j)
{
	base_jw_mcstr(w, "verdict", core_verdict_name(j->verdict));
	base_jw_mstr(w, "rule", j->rule);
	if (j->why.len)
		base_jw_mstr(w, "why", j->why);
	if (j->judged.len)
		base_jw_mraw(w, "inputs", j->judged);
	if (j->verdict == CORE_GATE && j->terms.len)
		base_jw_mraw(w, "terms", j->terms);
	if (j->verdict == CORE_GATE && j->expires_ms)
		base_jw_mint(w, "expires_ms", j->expires_ms);
}

static void put_grants(struct base_jw *w, const struct core_principal *p, bool granted)
{
	base_jw_key(w, "grants");
	base_jw_arr(w);
	for (uint32_t i = 0; p && i < p->grants.count; i++)
		base_jw_str(w, p->grants.item[i]);
	base_jw_end_arr(w);
	base_jw_mbool(w, "granted", granted);
}

/* --- aios can --- */

struct can {
	const struct core *c;
	struct base_jv ask;
	struct base_str who, action;
	struct base_arena *arena;
	int64_t now_ms;
	struct base_json *fact; /* of the customer */
	struct base_jw *w;
};

static uint8_t labels_of(struct base_jv list)
{
	uint8_t labels = 0;

	for (size_t i = 0; i < base_jv_len(list); i++) {
		if (base_str_is(base_jv_str(base_jv_at(list, i)), "private"))
			labels |= CORE_LABEL_PRIVATE;
		if (base_str_is(base_jv_str(base_jv_at(list, i)), "untrusted"))
			labels |= CORE_LABEL_UNTRUSTED;
	}
	return labels;
}

static struct base_str fact_value(struct can *k, uint64_t seq, core_read_fn read, void *userdata)
{
	struct core_record rec;
	struct core_fact_put ev;

	if (!seq || !read(userdata, seq, &rec) || rec.type != CORE_EV_FACT_PUT ||
		core_fact_put_get(rec.body, &ev) < 0 || !base_blob_is_inline(&ev.value))
		return BASE_STR_NONE;
	return base_arena_dup(k->arena, ev.value.data);
}

/* The built-in rule, which comes before those of the policy. */
static bool put_guard(struct can *k, const struct core_action *a, uint8_t labels, struct base_str *ret)
{
	struct base_str stops = core_guard(k->c, a, BASE_STR_NONE, labels);

	if (stops.len)
		base_jw_mstr(k->w, "guard", stops);
	*ret = stops;
	return stops.len > 0;
}

static void can_rules(struct can *k, const struct core_action *a, core_read_fn read, void *userdata)
{
	struct base_str customer = base_jv_str(base_jv_get(k->ask, "customer"));
	struct core_hearing hear = {.cap = HEARD_MAX};
	struct core_case of = {.as = k->who,
		.action = k->action,
		.args = base_jv_get(k->ask, "args"),
		.customer = customer,
		.customer_seq = core_customer_seq(k->c, customer),
		.strange = core_customer_is_strange(k->c, customer),
		.labels = labels_of(base_jv_get(k->ask, "labels")),
		.confidence = (int64_t)(base_jv_real(base_jv_get(k->ask, "confidence"), 0) * 1000 + 0.5),
		.now_ms = k->now_ms};
	struct core_scene s;
	struct core_judged j;
	struct base_json *none;
	struct base_str guard;

	BASE_CHECK(base_json_parse(BASE_STR("{}"), &none, NULL) == 0);
	if (base_jv_kind(of.args) != BASE_JSON_OBJ)
		of.args = base_json_root(none);
	if (base_str_starts(k->who, BASE_STR("flow/")))
		of.flow = base_str_sub(k->who, 5, k->who.len);
	if (base_str_starts(k->who, BASE_STR("agent/")))
		of.agent = base_str_sub(k->who, 6, k->who.len);
	of.customer_fact = fact_value(k, of.customer_seq, read, userdata);
	hear.heard = base_arena_array(k->arena, HEARD_MAX, sizeof(*hear.heard));
	BASE_CHECK(hear.heard);
	core_scene_init(&s, k->c->rules, &of, counted, k->c->counts, k->arena);
	j = core_policy_judge(&s, &hear);
	if (put_guard(k, a, of.labels, &guard) && j.verdict == CORE_ALLOW) {
		j.verdict = CORE_GATE;
		j.rule = guard;
	}
	put_judged(k->w, &j);
	base_jw_key(k->w, "rules");
	base_jw_arr(k->w);
	for (size_t i = 0; i < hear.count; i++)
		put_heard(k->w, &hear.heard[i]);
	base_jw_end_arr(k->w);
	core_scene_done(&s);
	base_json_free(none);
}

static int can(struct can *k, core_read_fn read, void *userdata, struct base_err *err)
{
	const struct core_principal *p = base_names_get(k->c->principals, k->who);
	const struct core_action *a = core_action_find(k->c, k->action);
	struct core_caller by = {.id = k->who};
	bool operator= base_str_is(k->who, "operator");
	bool acts = base_str_starts(k->who, BASE_STR("flow/")) || base_str_starts(k->who, BASE_STR("agent/"));
	struct core_judged j = {.verdict = CORE_ALLOW, .rule = BASE_STR("grant")};
	bool granted;

	if (!operator&& !p)
		return base_err_set(err, -ENOENT,
			"there is nobody called %.*s: operator, flow/NAME, agent/NAME or key/NAME",
			BASE_STR_ARG(k->who));
	if (acts && !a)
		return base_err_set(err, -ENOENT, "there is no action %.*s", BASE_STR_ARG(k->action));
	granted = (a && a->always && acts) || core_may(k->c, &by, k->action, k->now_ms);
	put_grants(k->w, p, granted);
	if (!granted) {
		j = (struct core_judged){.verdict = CORE_DENY,
			.rule = BASE_STR("no grant"),
			.why = p && p->revoked ? BASE_STR("it is revoked")
					       : BASE_STR("it has no grant for it")};
		put_judged(k->w, &j);
	} else if (!acts || a->internal) { /* keys and people meet no rules: what they start does */
		put_judged(k->w, &j);
	} else if (!k->c->rules) {
		j = (struct core_judged){
			.verdict = CORE_DENY, .rule = BASE_STR("default: nothing allows it")};
		put_judged(k->w, &j);
	} else {
		can_rules(k, a, read, userdata);
	}
	return 0;
}

int core_can_json(const struct core *c, struct base_str ask, int64_t now_ms, core_read_fn read,
	void *userdata, struct base_buf *ret, struct base_err *err)
{
	struct base_jw w = base_jw_of(ret);
	struct can k = {.c = c, .now_ms = now_ms, .w = &w};
	struct base_json *doc;
	int r = base_json_parse(ask, &doc, err);

	if (r < 0)
		return r;
	if (base_arena_new(ARENA_MAX, &k.arena) < 0) {
		base_json_free(doc);
		return -ENOMEM;
	}
	k.ask = base_json_root(doc);
	k.who = base_jv_str(base_jv_get(k.ask, "who"));
	k.action = base_jv_str(base_jv_get(k.ask, "action"));
	base_jw_obj(&w);
	base_jw_mstr(&w, "who", k.who);
	base_jw_mstr(&w, "action", k.action);
	base_jw_mint(&w, "policy", (int64_t)c->policy_seq);
	r = can(&k, read, userdata, err);
	base_jw_end_obj(&w);
	base_arena_free(k.arena);
	base_json_free(doc);
	return r;
}

/* --- what another policy would have said --- */

struct core_retrial {
	struct core_policy *policy;
	struct base_slab *slab;
	struct base_names *counts;
	struct base_arena *arena;
};

int core_retrial_new(struct base_str json, struct core_retrial **ret, struct core_fault *fault)
{
	struct core_policy *p;
	struct base_slab *slab;
	struct core_retrial *x;
	int r = core_policy_compile(json, false, &p, fault);

	if (r < 0)
		return r;
	if (base_slab_new(&slab) < 0) {
		core_policy_free(p);
		return -ENOMEM;
	}
	x = base_slab_alloc(slab, sizeof(*x));
	x->slab = slab;
	x->policy = p;
	if (base_names_new(&x->counts) < 0 || base_arena_new(ARENA_MAX, &x->arena) < 0) {
		core_retrial_free(x);
		return -ENOMEM;
	}
	*ret = x;
	return 0;
}

void core_retrial_free(struct core_retrial *x)
{
	struct base_slab *slab;

	if (!x)
		return;
	slab = x->slab;
	core_policy_free(x->policy);
	core_counts_free(x->counts);
	base_arena_free(x->arena);
	base_slab_free(slab);
}

const char *core_retrial_judge(
	struct core_retrial *x, const struct core_retrial_call *call, struct base_str *ret_rule)
{
	struct core_case of = {.as = call->as,
		.action = call->action,
		.flow = call->flow,
		.agent = call->agent,
		.run = call->run,
		.customer = call->customer,
		.customer_fact = call->fact,
		.strange = call->strange,
		.labels = call->labels,
		.cost = call->cost,
		.confidence = call->confidence,
		.now_ms = call->time_ms};
	struct core_scene s;
	struct core_judged j;
	struct base_json *doc;

	*ret_rule = BASE_STR_NONE;
	if (base_json_parse(call->args, &doc, NULL) < 0)
		return "deny";
	of.args = base_json_root(doc);
	base_arena_reset(x->arena);
	core_scene_init(&s, x->policy, &of, counted, x->counts, x->arena);
	j = core_policy_judge(&s, NULL);
	core_count_add(x->counts, x->slab, x->policy, j.counts, call->time_ms);
	core_scene_done(&s);
	base_json_free(doc);
	*ret_rule = j.rule;
	return core_verdict_name(j.verdict);
}

/* --- the tests of a policy, one by one --- */

int core_policy_tests(struct base_str json, struct base_buf *ret, struct core_fault *fault)
{
	struct core_policy *p;
	struct base_json *doc;
	struct base_jv_iter it = {0};
	struct base_jw w = base_jw_of(ret);
	struct base_str none;
	struct base_jv v;
	int r = core_policy_compile(json, false, &p, fault);

	if (r < 0)
		return r;
	BASE_CHECK(base_json_parse(json, &doc, NULL) == 0);
	base_jw_arr(&w);
	while (base_jv_next(base_jv_get(base_json_root(doc), "tests"), &it, &none, &v))
		core_policy_test_one(p, v, &w);
	base_jw_end_arr(&w);
	base_json_free(doc);
	core_policy_free(p);
	return 0;
}
