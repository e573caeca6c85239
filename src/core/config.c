/* What is derived from the configuration, the policy and a flow's spec: parsed once when their event is
 * applied. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "core/core_int.h"

/* "50/s", "100/m", "1000/h": calls per time. */
int core_rate_of(struct base_str s, int64_t *ret_interval_us, int64_t *ret_burst)
{
	struct base_str count, unit;
	int64_t period;
	uint64_t n;

	if (!base_str_cut(s, '/', &count, &unit) || base_str_u64(count, &n) < 0 || n == 0 || n > 1000000)
		return -EINVAL;
	if (base_str_is(unit, "s"))
		period = 1000000;
	else if (base_str_is(unit, "m"))
		period = 60 * (int64_t)1000000;
	else if (base_str_is(unit, "h"))
		period = 3600 * (int64_t)1000000;
	else
		return -EINVAL;
	*ret_interval_us = period / (int64_t)n;
	*ret_burst = n > 10 ? (int64_t)n / 10 : 1;
	return 0;
}

static int64_t money_member(struct base_jv obj, const char *key)
{
	int64_t nusd;
	struct base_jv v = base_jv_get(obj, key);

	if (base_jv_kind(v) != BASE_JSON_STR || base_money_parse(base_jv_str(v), &nusd, NULL) < 0)
		return -1;
	return nusd;
}

static int check_money(struct base_jv obj, const char *where, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	int64_t nusd;

	while (base_jv_next(obj, &it, &key, &v)) {
		if (base_jv_kind(v) == BASE_JSON_STR && base_money_parse(base_jv_str(v), &nusd, err) == 0)
			continue;
		return base_err_set(err, -EINVAL, "aios.yaml: %s.%.*s is not an amount such as \"20 USD\"",
			where, BASE_STR_ARG(key));
	}
	return 0;
}

static int check_prices(struct base_jv prices, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(prices, &it, &key, &v))
		if (check_money(v, "models.prices", err) < 0)
			return -EINVAL;
	return 0;
}

static int check_rates(struct base_jv rates, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	int64_t a, b;

	while (base_jv_next(rates, &it, &key, &v))
		if (core_rate_of(base_jv_str(v), &a, &b) < 0)
			return base_err_set(err, -EINVAL,
				"aios.yaml: rates.%.*s is not a rate such as \"50/s\"", BASE_STR_ARG(key));
	return 0;
}

/* What can be reached from outside is reached by TLS. */
static int check_door(struct base_jv door, struct base_err *err)
{
	struct base_str listen = base_jv_str(base_jv_get(door, "listen"));

	if (!listen.len || base_str_starts(listen, BASE_STR("127.")) || base_str_is(listen, "::1") ||
		base_jv_kind(base_jv_get(door, "tls")) == BASE_JSON_OBJ)
		return 0;
	return base_err_set(err, -EINVAL,
		"door.listen: %.*s can be reached from outside, so it needs TLS: give door.tls a certificate "
		"and a key, or "
		"listen on 127.0.0.1 behind a proxy",
		BASE_STR_ARG(listen));
}

int core_config_check(struct base_str json, struct base_err *err)
{
	struct base_json *doc;
	struct base_jv root, models;
	int r = base_json_parse(json, &doc, err);

	if (r < 0)
		return r;
	root = base_json_root(doc);
	models = base_jv_get(root, "models");
	r = core_settings_check("config", "aios.yaml", root, err);
	if (r == 0)
		r = check_money(base_jv_get(root, "budgets"), "budgets", err);
	if (r == 0)
		r = check_prices(base_jv_get(models, "prices"), err);
	if (r == 0)
		r = check_rates(base_jv_get(root, "rates"), err);
	if (r == 0)
		r = core_notify_check(root, err);
	if (r == 0)
		r = check_door(base_jv_get(root, "door"), err);
	base_json_free(doc);
	return r;
}

void core_config_load(struct core *c)
{
	struct base_jv root, rates, limits;
	struct base_jv_iter it = {0};
	struct base_str key, at = BASE_STR_NONE;
	struct base_jv v;
	void *value;

	base_json_free(c->config_doc);
	c->config_doc = NULL;
	c->active_max = CORE_ACTIVE_DEFAULT;
	c->queue_max = CORE_QUEUE_DEFAULT;
	if (c->config.len == 0)
		return;
	BASE_CHECK(base_json_parse(c->config, &c->config_doc, NULL) == 0);
	root = base_json_root(c->config_doc);
	c->budget_month = money_member(base_jv_get(root, "budgets"), "month");
	c->budget_run = money_member(base_jv_get(root, "budgets"), "run");
	limits = base_jv_get(root, "limits");
	c->active_max = (uint64_t)base_jv_int(base_jv_get(limits, "active"), CORE_ACTIVE_DEFAULT);
	c->queue_max = (uint64_t)base_jv_int(base_jv_get(limits, "queue"), CORE_QUEUE_DEFAULT);
	c->customers = base_jv_str(base_jv_get(root, "customers"));
	for (bool first = true; base_names_seek(c->connectors, at, first, &at, &value); first = false)
		((struct core_connector *)value)->interval_us = 0;
	rates = base_jv_get(root, "rates");
	while (base_jv_next(rates, &it, &key, &v)) {
		struct core_connector *k = core_connector_of(c, key);

		BASE_CHECK(core_rate_of(base_jv_str(v), &k->interval_us, &k->burst) == 0);
	}
}

struct core_version *core_version_make(struct core *c, struct base_str flow, const struct base_hash *hash,
	uint64_t seq, struct base_str spec)
{
	struct core_version *v = base_slab_alloc(c->slab, sizeof(*v));
	struct core_control k;
	struct base_json *doc;
	struct base_jv input, output;

	v->hash = *hash;
	v->seq = seq;
	v->flow = base_slab_dup(c->slab, flow);
	v->spec = base_slab_dup(c->slab, spec);
	v->budget_run = -1;
	v->budget_month = -1;
	if (spec.len && base_json_parse(spec, &doc, NULL) == 0) {
		input = base_jv_get(base_json_root(doc), "input");
		if (base_jv_kind(input) == BASE_JSON_OBJ && base_schema_compile(input, &v->input, NULL) < 0)
			v->input = NULL;
		output = base_jv_get(base_json_root(doc), "output");
		if (base_jv_kind(output) == BASE_JSON_OBJ &&
			base_schema_compile(output, &v->output, NULL) < 0)
			v->output = NULL;
		v->narrow = v->output && core_schema_is_narrow(output);
		v->budget_run = money_member(base_jv_get(base_json_root(doc), "budget"), "run");
		v->budget_month = money_member(base_jv_get(base_json_root(doc), "budget"), "month");
		v->timeout_ms = core_duration_member(base_json_root(doc), "timeout");
		/* Checked before the event was written. */
		if (core_control_read(base_json_root(doc), &k, NULL) == 0 &&
			(k.limit || k.interval_us || k.priority)) {
			v->control = base_slab_alloc(c->slab, sizeof(k));
			*v->control = k;
		}
		base_json_free(doc);
	}
	return v;
}
