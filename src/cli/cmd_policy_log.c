#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "cli/cli_int.h"
#include "cli/policy_file.h"
#include "core/core.h"

/* policy explain, backtest: what the log says of verdicts, and what another policy would have said. */

enum { PAGE = 1000, SHOWN = 20, PROGRESS_EVENTS = 20000 };

static struct base_str str(struct base_jv v, const char *key)
{
	return base_jv_str(base_jv_get(v, key));
}

static int64_t num(struct base_jv v, const char *key)
{
	return base_jv_int(base_jv_get(v, key), 0);
}

/* --- explain --- */

/* The event at a position; the caller ends *a. False: said why. */
static bool event_at(struct cli *c, int64_t seq, struct cli_answer *a, struct base_jv *ret)
{
	const char *path =
		base_arena_printf(c->arena, "/v1/events?after=%lld&limit=1", (long long)seq - 1).ptr;

	if (cli_call(c, "GET", path, NULL, a) != 0)
		return false;
	*ret = base_jv_at(cli_list(a->root, "items"), 0);
	return true;
}

/* The step's event among those of its run. */
static int find_step(struct cli *c, struct cli_answer *a, struct base_jv *ret)
{
	const char *after = NULL, *path;
	struct base_jv_iter it;
	struct base_str none;
	struct base_jv v;
	uint64_t step;
	int r;

	if (base_str_u64(base_str_of(c->args[1]), &step) < 0)
		return cli_usage(c, "STEP is a number, as aios show RUN has it");
	for (;;) {
		path = cli_query(c, cli_query(c, "/v1/log/search", "run", c->args[0]), "limit", "1000");
		r = cli_call(c, "GET", cli_query(c, path, "after", after), NULL, a);
		if (r != 0)
			return r;
		it = (struct base_jv_iter){0};
		while (base_jv_next(cli_list(a->root, "items"), &it, &none, &v))
			if (base_str_is(str(v, "type"), "step.called") &&
				base_jv_int(base_jv_get(v, "step"), -1) == (int64_t)step) {
				*ret = v;
				return 0;
			}
		if (!num(a->root, "next"))
			break;
		after = base_arena_printf(c->arena, "%lld", (long long)num(a->root, "next")).ptr;
		cli_answer_done(a);
	}
	cli_answer_done(a);
	return cli_fail(c, "run %s has no step %s in the log", c->args[0], c->args[1]);
}

static const char *verdict_of(struct base_jv step)
{
	if (num(step, "gate") || num(step, "approval"))
		return "gate";
	return num(step, "status") == CORE_STEP_FAILED ? "deny" : "allow";
}

static void put_line(struct cli *c, const char *label, struct base_jv v)
{
	struct base_buf b;

	if (base_jv_kind(v) <= BASE_JSON_NULL)
		return;
	base_buf_init(&b, 1 << 20);
	if (base_jv_kind(v) == BASE_JSON_STR)
		base_buf_str(&b, base_jv_str(v));
	else
		base_jv_write(v, &b);
	if (b.len) {
		cli_put(c, "%-10s ", label);
		cli_text(c, base_buf_view(&b));
		cli_put(c, "\n");
	}
	base_buf_done(&b);
}

static struct base_jv rule_of(struct base_jv event, struct base_str name)
{
	struct base_jv rules = base_jv_get(base_jv_get(event, "policy"), "rules"), v;
	struct base_jv_iter it = {0};
	struct base_str none;

	while (base_jv_next(rules, &it, &none, &v))
		if (base_str_eq(str(v, "name").len ? str(v, "name") : str(v, "on"), name))
			return v;
	return (struct base_jv){NULL};
}

static void put_version(struct cli *c, struct base_jv step)
{
	struct cli_answer a;
	struct base_jv set, rule;

	if (!num(step, "policy")) {
		cli_put(c, "policy     no rule was asked: a grant decided\n");
		return;
	}
	if (!event_at(c, num(step, "policy"), &a, &set))
		return;
	cli_put(c, "policy     as it was set at %lld", (long long)num(step, "policy"));
	cli_put(c, " by ");
	cli_text(c, str(set, "by"));
	cli_put(c, "\n");
	rule = rule_of(set, str(step, "rule"));
	put_line(c, "  on", base_jv_get(rule, "on"));
	put_line(c, "  when", base_jv_get(rule, "when"));
	put_line(c, "  then", base_jv_get(rule, "then"));
	put_line(c, "  limit", base_jv_get(rule, "limit"));
	cli_answer_done(&a);
}

int cmd_policy_explain(struct cli *c)
{
	struct base_jv step;
	struct cli_answer a;
	int r = find_step(c, &a, &step);

	if (r != 0)
		return r;
	if (c->json) {
		base_jv_write(step, &c->out);
		cli_put(c, "\n");
	} else {
		put_line(c, "action", base_jv_get(step, "action"));
		cli_put(c, "%-10s %s\n", "verdict", verdict_of(step));
		put_line(c, "rule", base_jv_get(step, "rule"));
		put_version(c, step);
		put_line(c, "customer", base_jv_get(step, "customer"));
		put_line(c, "read", base_jv_get(step, "judged"));
		put_line(c, "counted", base_jv_get(step, "counts"));
		put_line(c, "arguments", base_jv_get(step, "args"));
	}
	cli_answer_done(&a);
	return CLI_OK;
}

/* --- backtest --- */

struct who {
	struct base_str as, flow, agent;
};
struct backtest {
	struct cli *c;
	struct core_retrial *trial;
	struct base_names *runs, *facts; /* run number -> struct who; customer -> JSON */
	struct base_str customers;	 /* prefix of their facts */
	int64_t since_ms;
	const char *flow;
	uint64_t calls, differ, left_out, matrix[3][3]; /* [was][is]: allow, gate, deny */
	struct base_buf shown;
	struct base_jw w;
	size_t examples;
};

static int index_of(const char *verdict)
{
	return verdict[0] == 'a' ? 0 : verdict[0] == 'g' ? 1 : 2;
}

static struct base_str keep(struct backtest *b, struct base_str s)
{
	return base_arena_dup(b->c->arena, s);
}

static void put_number(struct base_buf *b, int64_t n)
{
	base_buf_clear(b);
	base_buf_i64(b, n);
}

static void on_run(struct backtest *b, struct base_jv v)
{
	struct who *w = base_arena_alloc(b->c->arena, sizeof(*w));
	struct base_buf key;

	base_buf_init(&key, 64);
	put_number(&key, num(v, "run"));
	if (w) {
		*w = (struct who){keep(b, str(v, "as")), keep(b, str(v, "flow")), keep(b, str(v, "agent"))};
		if (base_names_put(b->runs, base_buf_view(&key), w) < 0)
			abort();
	}
	base_buf_done(&key);
}

static void on_fact(struct backtest *b, struct base_jv v)
{
	struct base_str key = str(v, "key"), *place;
	struct base_buf text;

	if (!b->customers.len || !base_str_starts(key, b->customers))
		return;
	key = base_str_sub(key, b->customers.len, key.len);
	if (num(v, "removed")) {
		(void)base_names_remove(b->facts, key);
		return;
	}
	base_buf_init(&text, 1 << 20);
	base_jv_write(base_jv_get(v, "value"), &text);
	place = base_arena_alloc(b->c->arena, sizeof(*place));
	if (place)
		*place = keep(b, base_buf_view(&text));
	if (!place || base_names_put(b->facts, key, place) < 0)
		abort();
	base_buf_done(&text);
}

static void put_example(
	struct backtest *b, struct base_jv v, const char *was, const char *is, struct base_str rule)
{
	if (b->examples++ >= SHOWN)
		return;
	base_jw_obj(&b->w);
	base_jw_mint(&b->w, "run", num(v, "run"));
	base_jw_mint(&b->w, "step", num(v, "step"));
	base_jw_mstr(&b->w, "action", str(v, "action"));
	base_jw_mcstr(&b->w, "was", was);
	base_jw_mstr(&b->w, "was_rule", str(v, "rule"));
	base_jw_mcstr(&b->w, "would", is);
	base_jw_mstr(&b->w, "would_rule", rule);
	base_jw_end_obj(&b->w);
}

static void on_call(struct backtest *b, struct base_jv v)
{
	struct base_jv judged = base_jv_get(v, "judged"), args = base_jv_get(v, "args");
	struct base_buf key, text;
	const struct who *who;
	const struct base_str *fact;
	struct core_retrial_call call;
	struct base_str rule;
	const char *was, *is;

	if (!num(v, "policy"))
		return;
	base_buf_init(&key, 64);
	put_number(&key, num(v, "run"));
	who = base_names_get(b->runs, base_buf_view(&key));
	base_buf_done(&key);
	if (base_jv_kind(args) != BASE_JSON_OBJ || !who ||
		(base_jv_len(args) == 2 && str(args, "hash").len == 64 && num(args, "bytes"))) {
		b->left_out++;
		return;
	}
	fact = str(v, "customer").len ? base_names_get(b->facts, str(v, "customer")) : NULL;
	base_buf_init(&text, 32 << 20);
	base_jv_write(args, &text);
	call = (struct core_retrial_call){.as = who->as,
		.flow = who->flow,
		.agent = who->agent,
		.run = (uint64_t)num(v, "run"),
		.action = str(v, "action"),
		.customer = str(v, "customer"),
		.args = base_buf_view(&text),
		.fact = fact ? *fact : BASE_STR_NONE,
		.strange = b->customers.len && str(v, "customer").len && !fact,
		.labels = (uint8_t)num(v, "labels"),
		.cost = base_jv_int(base_jv_get(judged, "cost"), num(v, "reserved")),
		.confidence = num(judged, "confidence"),
		.time_ms = num(v, "at")};
	is = core_retrial_judge(b->trial, &call, &rule);
	was = verdict_of(v);
	base_buf_done(&text);
	if (num(v, "at") < b->since_ms || (b->flow && !base_str_is(who->flow, b->flow)))
		return;
	b->calls++;
	b->matrix[index_of(was)][index_of(is)]++;
	if (strcmp(was, is) != 0) {
		b->differ++;
		put_example(b, v, was, is, rule);
	}
}

static void on_event(struct backtest *b, struct base_jv v)
{
	struct base_str type = str(v, "type");

	if (base_str_is(type, "run.started"))
		on_run(b, v);
	else if (base_str_is(type, "config.set"))
		b->customers = keep(b, str(base_jv_get(v, "config"), "customers"));
	else if (base_str_is(type, "fact.put"))
		on_fact(b, v);
	else if (base_str_is(type, "step.called"))
		on_call(b, v);
}

static int walk(struct backtest *b)
{
	int64_t after = 0, last, durable, said = 0;
	struct base_jv_iter it;
	struct base_str none;
	struct cli_answer a;
	struct base_jv v;
	int r;

	do {
		r = cli_call(b->c, "GET",
			base_arena_printf(
				b->c->arena, "/v1/events?after=%lld&limit=%d", (long long)after, PAGE)
				.ptr,
			NULL, &a);
		if (r != 0)
			return r;
		it = (struct base_jv_iter){0};
		while (base_jv_next(cli_list(a.root, "items"), &it, &none, &v))
			on_event(b, v);
		last = num(a.root, "last");
		durable = num(a.root, "durable");
		r = last <= after;
		after = last;
		cli_answer_done(&a);
		if (after - said >= PROGRESS_EVENTS) {
			said = after;
			fprintf(stderr, "%lld of %lld events\n", (long long)after, (long long)durable);
		}
	} while (r == 0 && after < durable);
	return 0;
}

static void put_counts(struct backtest *b, struct base_jw *w)
{
	static const char *const names[] = {"allow", "gate", "deny"};

	base_jw_mint(w, "calls", (int64_t)b->calls);
	base_jw_mint(w, "differ", (int64_t)b->differ);
	base_jw_mint(w, "left_out", (int64_t)b->left_out);
	base_jw_mint(w, "gates_saved", (int64_t)(b->matrix[1][0] + b->matrix[1][2]));
	base_jw_mint(w, "gates_added", (int64_t)(b->matrix[0][1] + b->matrix[2][1]));
	base_jw_key(w, "changes");
	base_jw_arr(w);
	for (int i = 0; i < 3; i++) {
		for (int k = 0; k < 3; k++) {
			if (i == k || !b->matrix[i][k])
				continue;
			base_jw_obj(w);
			base_jw_mcstr(w, "was", names[i]);
			base_jw_mcstr(w, "would", names[k]);
			base_jw_mint(w, "count", (int64_t)b->matrix[i][k]);
			base_jw_end_obj(w);
		}
	}
	base_jw_end_arr(w);
}

static void report(struct backtest *b)
{
	static const char *const columns[] = {">RUN=run", ">STEP=step", "ACTION=action", "WAS=was",
		"BY=was_rule", "WOULD=would", "BY=would_rule", NULL};
	struct base_json *doc;
	struct base_buf out;
	struct base_jw w;

	base_jw_end_arr(&b->w);
	base_buf_init(&out, 4 << 20);
	w = base_jw_of(&out);
	base_jw_obj(&w);
	put_counts(b, &w);
	base_jw_mraw(&w, "examples", base_buf_view(&b->shown));
	base_jw_end_obj(&w);
	if (b->c->json) {
		base_buf_str(&b->c->out, base_buf_view(&out));
		cli_put(b->c, "\n");
	} else if (base_json_parse(base_buf_view(&out), &doc, NULL) == 0) {
		struct base_jv root = base_json_root(doc);

		if (b->differ)
			cli_table(b->c, base_jv_get(root, "examples"), columns);
		if (b->differ > SHOWN)
			cli_put(b->c, "… and %llu more\n", (unsigned long long)(b->differ - SHOWN));
		cli_put(b->c, "%llu calls, %llu would be judged otherwise; gates: %lld saved, %lld added\n",
			(unsigned long long)b->calls, (unsigned long long)b->differ,
			(long long)num(root, "gates_saved"), (long long)num(root, "gates_added"));
		if (b->left_out)
			cli_put(b->c,
				"%llu calls are left out: their arguments do not stand in the log itself\n",
				(unsigned long long)b->left_out);
		base_json_free(doc);
	}
	base_buf_done(&out);
}

static int open_trial(struct backtest *b)
{
	struct base_json *doc;
	struct base_buf text;
	struct core_fault fault;
	struct base_jv root, problem;
	int r = cli_policy_read(b->c, 0, &doc);

	if (r != 0)
		return r;
	root = base_json_root(doc);
	problem = base_jv_get(root, "problem");
	base_buf_init(&text, 64 << 20);
	if (base_jv_kind(problem) == BASE_JSON_OBJ) {
		r = cli_policy_problem(b->c, problem);
	} else {
		base_jv_write(base_jv_get(root, "policy"), &text);
		if (core_retrial_new(base_buf_view(&text), &b->trial, &fault) < 0)
			r = cli_fail(b->c, "%s", fault.err.text);
	}
	base_buf_done(&text);
	base_json_free(doc);
	return r;
}

int cmd_policy_backtest(struct cli *c)
{
	struct backtest b = {.c = c, .flow = cli_opt(c, "flow")};
	int r = 0;

	if (cli_opt(c, "since"))
		r = cli_moment(c, "since", false, &b.since_ms);
	if (r == 0)
		r = open_trial(&b);
	if (r != 0)
		return r;
	base_buf_init(&b.shown, 4 << 20);
	b.w = base_jw_of(&b.shown);
	base_jw_arr(&b.w);
	if (base_names_new(&b.runs) < 0 || base_names_new(&b.facts) < 0)
		abort();
	r = walk(&b);
	if (r == 0)
		report(&b);
	base_names_free(b.runs);
	base_names_free(b.facts);
	base_buf_done(&b.shown);
	core_retrial_free(b.trial);
	return r;
}
