/*
 * usage: cel_bench
 *
 * What judging costs, beside the same decision written by hand in C and measured in the same run: one expression with the
 * variables as a policy binds them, its compilation, and policies of a hundred rules. One JSON object; nanoseconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "cel/cel.h"
#include "core/policy_int.h"

enum { BATCH = 200, ROUNDS = 2001, RULES = 100, ARENA = 32 << 20 };

static const char expression[] = "args.amount > 500.0 && !(customer.tier in [\"trusted\"])";
static const char args_json[] =
	"{\"amount\":501.5,\"currency\":\"USD\",\"customer\":\"c-17\",\"note\":\"second parcel\","
	"\"order\":\"o-2231\"}";
static const char customer_json[] = "{\"email\":\"ada@example.org\",\"name\":\"Ada\",\"tier\":\"basic\"}";

enum slot { PRINCIPAL, ACTION, ARGS, COST, CUSTOMER, SLOTS };

struct bench {
	struct base_arena *arena;
	struct base_json *args, *customer;
	struct cel_program *program;
	struct cel_value values[SLOTS];
	struct core_policy *policy;
	struct core_case call;
	uint64_t sum; /* so that nothing is optimised away */
};

static const struct cel_var vars[SLOTS] = {{{"principal", 9}, CEL_STRING}, {{"action", 6}, CEL_STRING},
	{{"args", 4}, CEL_DYN}, {{"cost", 4}, CEL_INT}, {{"customer", 8}, CEL_DYN}};
static const struct cel_env env = {.vars = vars, .count = SLOTS};

/* Of this thread alone: others may have the machine meanwhile. */
static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Median of batches, for one call. */
static double median(struct bench *b, void (*fn)(struct bench *b), unsigned batch, unsigned rounds)
{
	static double took[ROUNDS];

	BASE_CHECK(rounds <= ROUNDS);
	for (unsigned i = 0; i < rounds; i++) {
		double from = now_ns();

		for (unsigned j = 0; j < batch; j++)
			fn(b);
		took[i] = (now_ns() - from) / batch;
	}
	qsort(took, rounds, sizeof(took[0]), by_size);
	return took[rounds / 2];
}

static void evaluate(struct bench *b)
{
	struct cel_value v = cel_eval_in(b->program, b->values, b->arena, NULL);

	b->sum += v.kind == CEL_BOOL && v.as.b;
}

/* Binding included, as it is done for each call that is judged. */
static void bind_and_evaluate(struct bench *b)
{
	b->values[PRINCIPAL] = cel_string(BASE_STR("flow/refunds"));
	b->values[ACTION] = cel_string(BASE_STR("pay.refund"));
	b->values[ARGS] = cel_json(base_json_root(b->args));
	b->values[COST] = cel_int(12);
	b->values[CUSTOMER] = cel_json(base_json_root(b->customer));
	evaluate(b);
}

static void by_hand(struct bench *b)
{
	double amount = base_jv_real(base_jv_get(base_json_root(b->args), "amount"), 0);
	struct base_str tier = base_jv_str(base_jv_get(base_json_root(b->customer), "tier"));

	b->sum += amount > 500.0 && !base_str_is(tier, "trusted");
}

static void compile(struct bench *b)
{
	struct cel_program *p;

	BASE_CHECK(cel_compile_in(BASE_STR(expression), &env, &p, NULL) == 0);
	b->sum += cel_reads(p, ARGS);
	cel_free(p);
}

/* --- policies --- */

static int64_t nothing_used(void *userdata, const struct core_counter *k, struct base_str key, int64_t now_ms)
{
	(void)userdata;
	(void)k;
	(void)key;
	(void)now_ms;
	return 0;
}

static void judge(struct bench *b)
{
	struct core_scene s;

	core_scene_init(&s, b->policy, &b->call, nothing_used, NULL, b->arena);
	b->sum += core_policy_judge(&s, NULL).verdict == CORE_ALLOW;
	core_scene_done(&s);
	base_arena_reset(b->arena);
}

/* spread: twenty kinds of actions with five rules each; else each rule is about every action, with a condition that
 * is evaluated and does not hold, but for the last. */
static struct core_policy *policy_of(bool spread)
{
	struct core_policy *p;
	struct core_fault fault;
	struct base_buf text;
	struct base_jw w;
	char when[200];

	base_buf_init(&text, 1 << 20);
	w = base_jw_of(&text);
	base_jw_obj(&w);
	base_jw_key(&w, "rules");
	base_jw_arr(&w);
	for (int i = 0; i < RULES; i++) {
		char on[40];

		snprintf(on, sizeof(on), spread ? i % 5 ? "kind%d.*" : "kind%d.refund" : "*", i / 5);
		snprintf(when, sizeof(when),
			"args.amount > %d.0 && !(customer.tier in [\"trusted\", \"vip%d\"])",
			spread ? 100 * i : 1000 + i, i);
		base_jw_obj(&w);
		base_jw_mcstr(&w, "on", on);
		base_jw_mcstr(&w, "then",
			i == RULES - 1 || i % 5 == 4 ? "allow"
			: i % 5 < 2		     ? "deny"
						     : "gate");
		if (i != RULES - 1)
			base_jw_mcstr(&w, "when", when);
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	if (core_policy_compile(base_buf_view(&text), false, &p, &fault) < 0) {
		fprintf(stderr, "cel_bench: %s\n", fault.err.text);
		exit(1);
	}
	base_buf_done(&text);
	return p;
}

/* The catalogue that a policy is indexed for. */
static struct base_names *actions(void)
{
	struct base_names *names;

	BASE_CHECK(base_names_new(&names) == 0);
	for (int i = 0; i < 20; i++) {
		char name[40];

		snprintf(name, sizeof(name), "kind%d.refund", i);
		BASE_CHECK(base_names_put(names, base_str_of(name), names) == 0);
	}
	return names;
}

static double policy(struct bench *b, bool spread, struct base_names *catalogue)
{
	double ns;

	b->policy = policy_of(spread);
	core_policy_index(b->policy, catalogue);
	b->call = (struct core_case){.as = BASE_STR("flow/refunds"),
		.action = BASE_STR("kind7.refund"),
		.flow = BASE_STR("refunds"),
		.customer = BASE_STR("c-17"),
		.customer_fact = BASE_STR(customer_json),
		.run = 7,
		.args = base_json_root(b->args),
		.cost = 12};
	ns = median(b, judge, 20, 1001);
	core_policy_free(b->policy);
	return ns;
}

int main(void)
{
	struct bench b = {.sum = 0};
	struct base_names *catalogue = actions();
	double eval, bound, hand, made, spread, all;
	struct base_err err;

	BASE_CHECK(base_arena_new(ARENA, &b.arena) == 0);
	BASE_CHECK(base_json_parse(BASE_STR(args_json), &b.args, &err) == 0);
	BASE_CHECK(base_json_parse(BASE_STR(customer_json), &b.customer, &err) == 0);
	BASE_CHECK(cel_compile_in(BASE_STR(expression), &env, &b.program, &err) == 0);
	bind_and_evaluate(&b);
	BASE_CHECK(b.sum == 1);
	eval = median(&b, evaluate, BATCH, ROUNDS);
	bound = median(&b, bind_and_evaluate, BATCH, ROUNDS);
	hand = median(&b, by_hand, BATCH, ROUNDS);
	made = median(&b, compile, 20, 501);
	spread = policy(&b, true, catalogue);
	all = policy(&b, false, catalogue);
	printf("{\"eval_ns\":%.1f,\"bind_eval_ns\":%.1f,\"hand_ns\":%.1f,\"compile_ns\":%.0f,\"policy_spread_"
	       "ns\":%.0f,"
	       "\"policy_all_ns\":%.0f,\"sum\":%llu}\n",
		eval, bound, hand, made, spread, all, (unsigned long long)b.sum);
	cel_free(b.program);
	base_json_free(b.args);
	base_json_free(b.customer);
	base_names_free(catalogue);
	base_arena_free(b.arena);
	return 0;
}
