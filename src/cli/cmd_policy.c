#include <string.h>

#include "cli/cli_int.h"
#include "cli/policy_file.h"

/* policy check, test, explain; can: what the policy says, and why. */

enum { NANO = 1000000000, PAGE = 1000 };

static size_t limits_of(struct base_jv policy)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;
	size_t n = 0;

	while (base_jv_next(base_jv_get(policy, "rules"), &it, &none, &v))
		n += base_jv_kind(base_jv_get(v, "limit")) == BASE_JSON_OBJ;
	return n;
}

static void put_document(struct cli *c, struct base_json *doc)
{
	base_jv_write(base_json_root(doc), &c->out);
	cli_put(c, "\n");
}

int cmd_policy_check(struct cli *c)
{
	struct base_json *doc;
	struct base_jv root, policy;
	int r = cli_policy_read(c, 0, &doc);

	if (r != 0)
		return r;
	root = base_json_root(doc);
	policy = base_jv_get(root, "policy");
	if (c->json)
		put_document(c, doc);
	if (base_jv_kind(base_jv_get(root, "problem")) == BASE_JSON_OBJ)
		r = c->json ? CLI_FAILED : cli_policy_problem(c, base_jv_get(root, "problem"));
	else if (!c->json)
		cli_put(c, "ok: %zu rules, %zu counters, %zu limits; %zu tests pass\n",
			base_jv_len(base_jv_get(policy, "rules")),
			base_jv_len(base_jv_get(policy, "counters")), limits_of(policy),
			base_jv_len(base_jv_get(root, "tests")));
	base_json_free(doc);
	return r;
}

int cmd_policy_test(struct cli *c)
{
	static const char *const columns[] = {
		"TEST=name", "ACTION=action", "EXPECT=expect", "GOT=got", "RULE=rule", "WHY=why", NULL};
	struct base_json *doc;
	struct base_jv root, tests, v;
	struct base_jv_iter it = {0};
	struct base_str none;
	size_t bad = 0;
	int r = cli_policy_read(c, 0, &doc);

	if (r != 0)
		return r;
	root = base_json_root(doc);
	tests = base_jv_get(root, "tests");
	while (base_jv_next(tests, &it, &none, &v))
		bad += !base_jv_bool(base_jv_get(v, "ok"), false);
	if (c->json)
		put_document(c, doc);
	else if (base_jv_kind(tests) == BASE_JSON_ARR && base_jv_len(tests))
		cli_table(c, tests, columns);
	if (base_jv_kind(base_jv_get(root, "problem")) == BASE_JSON_OBJ)
		r = c->json ? CLI_FAILED : cli_policy_problem(c, base_jv_get(root, "problem"));
	if (!c->json)
		cli_put(c, "%zu passed, %zu failed\n", base_jv_len(tests) - bad, bad);
	base_json_free(doc);
	return bad ? CLI_FAILED : r;
}

/* --- can --- */

static void put_amount(struct cli *c, bool sums, int64_t n)
{
	if (sums)
		cli_put(c, "%lld.%02lld", (long long)(n / NANO), (long long)(n % NANO / (NANO / 100)));
	else
		cli_put(c, "%lld", (long long)n);
}

static void put_rule(struct cli *c, struct base_jv v)
{
	struct base_jv limit = base_jv_get(v, "limit");
	bool matches = base_jv_bool(base_jv_get(v, "matches"), false), sums;

	cli_put(c, "  %s%-5s%s ", cli_paint(c, matches ? "bold" : "dim"),
		base_jv_str(base_jv_get(v, "then")).ptr, cli_paint(c, "off"));
	cli_text(c, base_jv_str(base_jv_get(v, "rule")));
	if (base_jv_str(base_jv_get(v, "when")).len) {
		cli_put(c, "\n        when ");
		cli_text(c, base_jv_str(base_jv_get(v, "when")));
		cli_put(c, "\n        gives ");
		cli_text(c, base_jv_str(base_jv_get(v, "value")));
		cli_put(c, "%s", matches ? ": it matches" : ": it does not match");
	}
	if (base_jv_kind(limit) == BASE_JSON_OBJ) {
		sums = base_jv_bool(base_jv_get(limit, "sums"), false);
		cli_put(c, "\n        limit: ");
		put_amount(c, sums, base_jv_int(base_jv_get(limit, "used"), 0));
		cli_put(c, " used, this adds ");
		put_amount(c, sums, base_jv_int(base_jv_get(limit, "adds"), 0));
		cli_put(c, ", at most ");
		put_amount(c, sums, base_jv_int(base_jv_get(limit, "max"), 0));
		if (base_jv_str(base_jv_get(limit, "key")).len) {
			cli_put(c, " for ");
			cli_text(c, base_jv_str(base_jv_get(limit, "key")));
		}
		if (base_jv_bool(base_jv_get(limit, "over"), false))
			cli_put(c, ": over, so %s", base_jv_str(base_jv_get(limit, "else")).ptr);
	}
	cli_put(c, "\n");
}

static void put_why(struct cli *c, struct base_jv root)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	cli_put(c, "\ngrants:");
	if (base_jv_len(base_jv_get(root, "grants")) == 0)
		cli_put(c, " none");
	while (base_jv_next(base_jv_get(root, "grants"), &it, &none, &v)) {
		cli_put(c, " ");
		cli_text(c, base_jv_str(v));
	}
	cli_put(c, "\n");
	if (base_jv_str(base_jv_get(root, "guard")).len) {
		cli_put(c, "labels: ");
		cli_text(c, base_jv_str(base_jv_get(root, "guard")));
		cli_put(c, "\n");
	}
	if (base_jv_kind(base_jv_get(root, "rules")) != BASE_JSON_ARR)
		return;
	cli_put(c, "rules that are about it:\n");
	it = (struct base_jv_iter){0};
	while (base_jv_next(base_jv_get(root, "rules"), &it, &none, &v))
		put_rule(c, v);
}

static void put_labels(struct base_jw *w, const char *text)
{
	struct base_str part, rest = base_str_of(text);
	bool more = true;

	base_jw_key(w, "labels");
	base_jw_arr(w);
	while (more) {
		more = base_str_cut(rest, ',', &part, &rest);
		base_jw_str(w, part);
	}
	base_jw_end_arr(w);
}

static int put_ask(struct cli *c, struct base_buf *body)
{
	struct base_jw w = base_jw_of(body);
	struct base_buf args;
	int r = 0;

	base_buf_init(&args, CLI_BODY_MAX);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "who", c->args[0]);
	base_jw_mcstr(&w, "action", c->args[1]);
	if (cli_opt(c, "args")) {
		r = cli_read_json(c, cli_opt(c, "args"), &args);
		if (r == 0)
			base_jw_mraw(&w, "args", base_buf_view(&args));
	}
	if (cli_opt(c, "customer"))
		base_jw_mcstr(&w, "customer", cli_opt(c, "customer"));
	if (cli_opt(c, "labels"))
		put_labels(&w, cli_opt(c, "labels"));
	if (cli_opt(c, "confidence"))
		base_jw_mraw(&w, "confidence", base_str_of(cli_opt(c, "confidence")));
	base_jw_end_obj(&w);
	base_buf_done(&args);
	return r;
}

int cmd_can(struct cli *c)
{
	struct base_str verdict;
	struct cli_answer a;
	struct base_buf body;
	int r;

	base_buf_init(&body, CLI_BODY_MAX);
	r = put_ask(c, &body);
	if (r == 0)
		r = cli_call(c, "POST", "/v1/can", &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	verdict = base_jv_str(base_jv_get(a.root, "verdict"));
	r = base_str_is(verdict, "deny") ? CLI_FAILED : CLI_OK;
	if (!cli_print_json(c, &a)) {
		cli_put(c, "%s%s%s",
			cli_paint(c, base_str_is(verdict, "allow") ? "green"
				     : r			   ? "red"
								   : "yellow"),
			base_str_is(verdict, "allow") ? "yes"
			: r			      ? "no"
						      : "a person is asked",
			cli_paint(c, "off"));
		cli_put(c, ", by \"");
		cli_text(c, base_jv_str(base_jv_get(a.root, "rule")));
		cli_put(c, "\"");
		if (base_jv_str(base_jv_get(a.root, "why")).len) {
			cli_put(c, ": ");
			cli_text(c, base_jv_str(base_jv_get(a.root, "why")));
		}
		cli_put(c, "\n");
		if (cli_flag(c, "why"))
			put_why(c, a.root);
	}
	cli_answer_done(&a);
	return r;
}
