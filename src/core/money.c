/* Money: what is reserved before a call and settled after it, and which model serves the call. Integers only.
 */
#include <string.h>

#include "base/money.h"
#include "core/core_int.h"

enum { OUTPUT_DEFAULT = 1024, PER_MILLION = 1000000 };
static const int64_t COST_MAX = 1000000 * (int64_t)1000000000; /* of one call: sums stay far from overflow */

/* Months since year 0, in UTC (days to civil date, proleptic Gregorian calendar). */
uint32_t core_month_of(int64_t time_ms)
{
	int64_t days = time_ms / 86400000 + 719468;
	int64_t era = days / 146097;
	int64_t doe = days - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;
	int64_t month = mp < 10 ? mp + 3 : mp - 9;
	int64_t year = yoe + era * 400 + (month <= 2 ? 1 : 0);

	return (uint32_t)(year * 12 + month - 1);
}

static int64_t spent_in(const struct core_meter *m, uint32_t month)
{
	return m->month == month ? m->spent : 0;
}

static void meter_add(struct core_meter *m, uint32_t month, int64_t amount)
{
	if (m->month != month)
		*m = (struct core_meter){.month = month};
	m->spent += amount;
}

static struct base_str short_text(struct base_arena *a, const char *what, int64_t used, int64_t limit)
{
	struct base_str text;
	struct base_buf b;

	base_buf_init(&b, 1024);
	base_buf_printf(&b, "the budget of %s is ", what);
	base_money_put(&b, limit);
	base_buf_cstr(&b, ", of which ");
	base_money_put(&b, used);
	base_buf_cstr(&b, " is spent or reserved");
	text = base_arena_dup(a, base_buf_view(&b));
	base_buf_done(&b);
	return text;
}

struct base_str core_budget_short(const struct core *c, const struct core_run *r, int64_t amount,
	int64_t now_ms, struct base_arena *arena)
{
	uint32_t month = core_month_of(now_ms);
	const struct core_flow *flow = core_run_payer(r);
	int64_t used;

	if (amount <= 0)
		return BASE_STR_NONE;
	for (const struct core_run *at = r; at; at = core_run_parent(c, at))
		if (at->budget >= 0 && at->spent + at->reserved + amount > at->budget)
			return short_text(arena, "this run", at->spent + at->reserved, at->budget);
	if (flow && flow->current && flow->current->budget_month >= 0) {
		used = spent_in(&flow->meter, month) + flow->reserved;
		if (used + amount > flow->current->budget_month)
			return short_text(
				arena, "this flow for the month", used, flow->current->budget_month);
	}
	used = spent_in(&c->meter, month) + c->reserved;
	if (c->budget_month >= 0 && used + amount > c->budget_month)
		return short_text(arena, "the workspace for the month", used, c->budget_month);
	return BASE_STR_NONE;
}

static void move_reserved(struct core *c, struct core_run *r, struct core_open *o, int64_t amount)
{
	struct core_flow *flow = core_run_payer(r);

	o->effect->reserved += amount;
	c->reserved += amount;
	if (flow)
		flow->reserved += amount;
	for (struct core_run *at = r; at; at = core_run_parent(c, at))
		at->reserved += amount;
}

void core_reserve(struct core *c, struct core_run *r, struct core_open *o, int64_t amount)
{
	if (amount > 0)
		move_reserved(c, r, o, amount);
}

void core_settle(struct core *c, struct core_run *r, struct core_open *o, int64_t cost)
{
	uint32_t month = core_month_of(c->time_ms);
	struct core_flow *flow = core_run_payer(r);

	if (cost > COST_MAX)
		cost = COST_MAX;
	if (o->effect && o->effect->reserved)
		move_reserved(c, r, o, -o->effect->reserved);
	if (cost <= 0)
		return;
	meter_add(&c->meter, month, cost);
	if (flow)
		meter_add(&flow->meter, month, cost);
	for (struct core_run *at = r; at; at = core_run_parent(c, at))
		at->spent += cost;
}

/* --- routes --- */

static int64_t price(struct base_jv prices, const char *key)
{
	struct base_jv v = base_jv_get(prices, key);
	int64_t nusd;

	if (base_jv_kind(v) != BASE_JSON_STR || base_money_parse(base_jv_str(v), &nusd, NULL) < 0)
		return -1;
	return nusd;
}

/* The highest that a call can cost: every byte of the prompt a token, at the dearest input price, and a full
 * answer. */
static int64_t highest_cost(struct base_jv prices, size_t prompt_bytes, int64_t max_tokens)
{
	int64_t in = price(prices, "input"), out = price(prices, "output"),
		write = price(prices, "cache_write");

	if (in < 0 || out < 0)
		return -1;
	if (write > in)
		in = write;
	if (__builtin_mul_overflow((int64_t)prompt_bytes, in, &in) ||
		__builtin_mul_overflow(max_tokens, out, &out))
		return COST_MAX;
	in = in / PER_MILLION + out / PER_MILLION + 1;
	return in < COST_MAX ? in : COST_MAX;
}

static struct base_str route_json(struct base_arena *a, struct base_str provider, struct base_str model,
	struct base_str tier, uint32_t failures)
{
	struct base_str text;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 4096);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mstr(&w, "provider", provider);
	base_jw_mstr(&w, "model", model);
	base_jw_mstr(&w, "tier", tier);
	base_jw_mcstr(&w, "why", failures == 0 ? "first of its tier" : "the one before it failed");
	base_jw_end_obj(&w);
	text = base_arena_dup(a, base_buf_view(&b));
	base_buf_done(&b);
	return text;
}

static struct base_str candidate(struct base_jv list, struct base_str direct, size_t i)
{
	if (direct.len)
		return direct;
	return base_jv_kind(list) == BASE_JSON_ARR ? base_jv_str(base_jv_at(list, i))
						   : BASE_STR("local/extract");
}

struct core_route core_route_of(const struct core *c, struct base_jv args, size_t args_len, uint8_t labels,
	uint32_t failures, int64_t now_ms, struct base_arena *arena)
{
	struct base_jv models = base_jv_get(base_json_root(c->config_doc), "models");
	struct base_str tier = base_jv_str(base_jv_get(args, "tier"));
	struct base_str direct = base_jv_str(base_jv_get(args, "model"));
	struct base_jv list =
		base_jv_get_str(base_jv_get(models, "tiers"), tier.len ? tier : BASE_STR("draft"));
	size_t count = direct.len || base_jv_kind(list) != BASE_JSON_ARR ? 1 : base_jv_len(list);
	struct core_route route = {.candidates = (uint32_t)count};

	if (base_jv_kind(list) == BASE_JSON_NONE && tier.len && !direct.len &&
		base_jv_kind(base_jv_get(models, "tiers")) != BASE_JSON_NONE) {
		route.problem = base_arena_printf(arena,
			"no tier named %.*s: add it under models.tiers in aios.yaml", BASE_STR_ARG(tier));
		return route;
	}
	for (size_t n = 0; n < count; n++) {
		struct base_str name = candidate(list, direct, (failures + n) % count), provider, model;
		const struct core_connector *k;

		if (!base_str_cut(name, '/', &provider, &model)) {
			route.problem = base_arena_printf(
				arena, "\"%.*s\" is not PROVIDER/MODEL", BASE_STR_ARG(name));
			continue;
		}
		if ((labels & CORE_LABEL_PRIVATE) && !core_provider_is_trusted(c, provider)) {
			route.problem = base_arena_printf(arena,
				"this run has private data, which goes to no model but those that you trust "
				"with it: local/extract, or a provider with `private: true` under "
				"models.providers in aios.yaml (%.*s has none)",
				BASE_STR_ARG(provider));
			continue;
		}
		k = core_connector_find(c, provider);
		if (k && k->open_until_ms > now_ms && n + 1 < count)
			continue; /* it failed again and again: another is tried first */
		route.provider = base_arena_dup(arena, provider);
		if (!base_str_is(provider, "local")) {
			struct base_jv prices = base_jv_get_str(base_jv_get(models, "prices"), name);

			route.reserve = highest_cost(prices, args_len,
				base_jv_int(base_jv_get(args, "max_tokens"), OUTPUT_DEFAULT));
			if (route.reserve < 0) {
				route.problem = base_arena_printf(arena,
					"no price for %.*s: add it under models.prices in aios.yaml",
					BASE_STR_ARG(name));
				continue;
			}
		}
		route.problem = BASE_STR_NONE;
		route.json = route_json(arena, provider, model, tier, failures);
		return route;
	}
	if (route.problem.len == 0)
		route.problem = BASE_STR("no model can serve this call now");
	return route;
}
