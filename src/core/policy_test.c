/* A policy is checked: it is read, and the tests that it carries are run. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "core/policy_int.h"

enum { ARENA_MAX = 64 << 20, NANO = 1000000000 };

/* history: {NAME: number} of counters, and of limits by the names of their rules. */
static int64_t told(void *userdata, const struct core_counter *k, struct base_str key, int64_t now_ms)
{
	const struct base_jv *history = userdata;
	struct base_str name = k->name;
	struct base_jv v;
	int64_t n = 0;

	(void)key;
	(void)now_ms;
	if (base_str_starts(name, BASE_STR("limit:")))
		name = base_str_sub(name, 6, name.len);
	v = base_jv_get_str(*history, name);
	if (!k->sum)
		return base_jv_int(v, 0);
	(void)core_nano_of((struct cel_value){.kind = CEL_DOUBLE, .as.d = base_jv_real(v, 0)}, &n);
	return n;
}

static uint8_t labels_of(struct base_jv list)
{
	uint8_t labels = 0;

	for (size_t i = 0; i < base_jv_len(list); i++)
		labels |= base_str_is(base_jv_str(base_jv_at(list, i)), "private") ? CORE_LABEL_PRIVATE
										   : CORE_LABEL_UNTRUSTED;
	return labels;
}

static struct base_str written(struct base_jv v, struct base_arena *arena)
{
	struct base_buf b;

	if (base_jv_kind(v) != BASE_JSON_OBJ)
		return BASE_STR_NONE;
	base_buf_init(&b, 16 << 20);
	base_jv_write(v, &b);
	return core_buf_to_arena(arena, &b);
}

static int failed(struct base_arena *arena, struct core_fault *fault, uint32_t index, const char *member,
	struct base_str name, const char *why)
{
	return core_fault_set(fault, base_arena_printf(arena, "/tests/%u%s", index, member),
		"the test%s%.*s%s fails: %s", name.len ? " \"" : "", BASE_STR_ARG(name), name.len ? "\"" : "",
		why);
}

/* False: `cost` is no amount. */
static bool judge_test(
	const struct core_policy *p, struct base_jv v, struct base_arena *arena, struct core_judged *ret)
{
	struct base_str as = base_jv_str(base_jv_get(v, "principal")),
			cost = base_jv_str(base_jv_get(v, "cost"));
	struct base_jv history = base_jv_get(v, "history"), run = base_jv_get(v, "run");
	struct base_json *empty;
	struct core_case of = {.as = as.len ? as : BASE_STR("flow/test"),
		.action = base_jv_str(base_jv_get(v, "action")),
		.args = base_jv_get(v, "args"),
		.flow = base_jv_str(base_jv_get(run, "flow")),
		.agent = base_jv_str(base_jv_get(run, "agent")),
		.run = (uint64_t)base_jv_int(base_jv_get(run, "id"), 1),
		.labels = labels_of(base_jv_get(v, "labels")),
		.customer = BASE_STR("test"),
		.customer_fact = written(base_jv_get(v, "customer"), arena),
		.confidence = (int64_t)(base_jv_real(base_jv_get(v, "confidence"), 0) * 1000 + 0.5)};
	struct core_scene s;

	if (cost.len && base_money_parse(cost, &of.cost, NULL) < 0)
		return false;
	BASE_CHECK(base_json_parse(BASE_STR("{}"), &empty, NULL) == 0);
	if (base_jv_kind(of.args) != BASE_JSON_OBJ)
		of.args = base_json_root(empty);
	if (!of.flow.len && base_str_starts(of.as, BASE_STR("flow/")))
		of.flow = base_str_sub(of.as, 5, of.as.len);
	core_scene_init(&s, p, &of, told, &history, arena);
	*ret = core_policy_judge(&s, NULL);
	core_scene_done(&s);
	base_json_free(empty);
	return true;
}

static int run_test(const struct core_policy *p, struct base_jv v, uint32_t index, struct base_arena *arena,
	struct core_fault *fault)
{
	struct base_str name = base_jv_str(base_jv_get(v, "name")),
			rule = base_jv_str(base_jv_get(v, "rule")),
			expect = base_jv_str(base_jv_get(v, "expect")), why;
	struct core_judged j;

	if (!judge_test(p, v, arena, &j))
		return failed(arena, fault, index, "/cost", name, "`cost` is an amount such as \"0.50 USD\"");
	why = base_arena_printf(arena, "%s, by \"%.*s\"%s%.*s", core_verdict_name(j.verdict),
		BASE_STR_ARG(j.rule), j.why.len ? ": " : "", BASE_STR_ARG(j.why));
	if (j.verdict != core_verdict_of(expect))
		return failed(arena, fault, index, "/expect", name,
			base_arena_printf(arena, "it expects %.*s and gets %.*s", BASE_STR_ARG(expect),
				BASE_STR_ARG(why))
				.ptr);
	if (rule.len && !base_str_eq(rule, j.rule))
		return failed(arena, fault, index, "/rule", name,
			base_arena_printf(arena, "it expects the rule \"%.*s\" and gets %.*s",
				BASE_STR_ARG(rule), BASE_STR_ARG(why))
				.ptr);
	return 0;
}

void core_policy_test_one(const struct core_policy *p, struct base_jv v, struct base_jw *w)
{
	struct base_str rule = base_jv_str(base_jv_get(v, "rule")),
			expect = base_jv_str(base_jv_get(v, "expect"));
	struct base_arena *arena;
	struct core_judged j = {.verdict = CORE_DENY};
	bool ok;

	BASE_CHECK(base_arena_new(ARENA_MAX, &arena) == 0);
	ok = judge_test(p, v, arena, &j) && j.verdict == core_verdict_of(expect) &&
	     (rule.len == 0 || base_str_eq(rule, j.rule));
	base_jw_obj(w);
	base_jw_mstr(w, "name", base_jv_str(base_jv_get(v, "name")));
	base_jw_mstr(w, "action", base_jv_str(base_jv_get(v, "action")));
	base_jw_mstr(w, "expect", expect);
	base_jw_mcstr(w, "got", core_verdict_name(j.verdict));
	base_jw_mstr(w, "rule", j.rule);
	base_jw_mstr(w, "why", j.why);
	base_jw_mbool(w, "ok", ok);
	base_jw_end_obj(w);
	base_arena_free(arena);
}

int core_policy_test(
	const struct core_policy *p, struct base_jv tests, struct core_fault *fault, unsigned *ret_passed)
{
	struct base_jv_iter it = {0};
	struct base_arena *arena;
	struct base_str none;
	struct base_jv v;
	uint32_t index = 0;
	int r = 0;

	if (base_arena_new(ARENA_MAX, &arena) < 0)
		return -ENOMEM;
	while (r == 0 && base_jv_next(tests, &it, &none, &v)) {
		base_arena_reset(arena);
		r = run_test(p, v, index, arena, fault);
		index += r == 0;
	}
	base_arena_free(arena);
	if (ret_passed)
		*ret_passed = index;
	return r;
}

int core_policy_check(struct base_str json, struct core_fault *fault, unsigned *ret_tests)
{
	struct core_policy *p;
	struct base_json *doc;
	int r;

	if (ret_tests)
		*ret_tests = 0;
	r = core_policy_compile(json, false, &p, fault);
	if (r < 0)
		return r;
	BASE_CHECK(base_json_parse(json, &doc, NULL) == 0);
	r = core_policy_test(p, base_jv_get(base_json_root(doc), "tests"), fault, ret_tests);
	base_json_free(doc);
	core_policy_free(p);
	return r;
}
