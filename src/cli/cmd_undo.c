#include "cli/cli_int.h"

/* cancel, rollback, and what they leave in a timeline. */

int cmd_cancel(struct cli *c)
{
	const char *path = cli_path(c, "/v1/runs/", c->args[0], "/cancel");
	struct cli_answer a;
	int64_t undo;
	int r;

	if (!cli_flag(c, "undo"))
		return cli_act(c, path, "cancelled");
	r = cli_decide(c, path, "undo", &a);
	if (r != 0)
		return r;
	undo = base_jv_int(base_jv_get(a.root, "undo"), 0);
	if (!cli_print_json(c, &a) && undo)
		cli_put(c, "run %s is being undone by run %lld: aios show %lld\n", c->args[0],
			(long long)undo, (long long)undo);
	else if (!c->json)
		cli_put(c, "cancelled: it had not begun\n");
	cli_answer_done(&a);
	return CLI_OK;
}

static void put_waits(struct cli *c, struct base_jv waits)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(waits, &it, &key, &v)) {
		int64_t gate = base_jv_int(base_jv_get(v, "gate"), 0);

		cli_put(c, "  first must be settled: step %lld of run %lld, ",
			(long long)base_jv_int(base_jv_get(v, "step"), 0),
			(long long)base_jv_int(base_jv_get(v, "run"), 0));
		cli_text(c, base_jv_str(base_jv_get(v, "action")));
		if (gate)
			cli_put(c, ": aios settle %lld", (long long)gate);
		cli_put(c, "\n");
	}
}

int cmd_rollback(struct cli *c)
{
	struct cli_answer a;
	struct base_buf body;
	struct base_jw w;
	int64_t undo;
	int r;

	if (cli_flag(c, "wait") && cli_flag(c, "detach"))
		return cli_usage(c, "--wait and --detach say opposite things");
	base_buf_init(&body, 1 << 16);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	if (cli_opt(c, "to"))
		base_jw_mcstr(&w, "to", cli_opt(c, "to"));
	if (cli_flag(c, "restart"))
		base_jw_mbool(&w, "restart", true);
	if (cli_opt(c, "reason"))
		base_jw_mcstr(&w, "reason", cli_opt(c, "reason"));
	base_jw_end_obj(&w);
	r = cli_call(c, "POST", cli_path(c, "/v1/runs/", c->args[0], "/rollback"), &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	undo = base_jv_int(base_jv_get(a.root, "undo"), 0);
	if (!c->json) {
		cli_put(c, "run %s is being undone by run %lld\n", c->args[0], (long long)undo);
		put_waits(c, base_jv_get(a.root, "waits_for"));
		cli_flush(c);
	} else if (cli_flag(c, "detach")) {
		cli_print_json(c, &a);
	}
	cli_answer_done(&a);
	return cli_flag(c, "detach") ? CLI_OK : cli_follow(c, undo, cli_flag(c, "wait"));
}

void cli_put_undone(struct cli *c, struct base_jv undone)
{
	struct base_str outcome = base_jv_str(base_jv_get(undone, "outcome"));

	if (outcome.len == 0)
		return;
	cli_put(c, "       %sundo:%s %s", cli_paint(c, "dim"), cli_paint(c, "off"),
		cli_paint(c, cli_mood(outcome)));
	cli_text(c, outcome);
	cli_put(c, "%s by step %lld of run %lld\n", cli_paint(c, "off"),
		(long long)base_jv_int(base_jv_get(undone, "step"), 0),
		(long long)base_jv_int(base_jv_get(undone, "run"), 0));
}

void cli_put_rollbacks(struct cli *c, struct base_jv run)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	if (base_str_is(base_jv_str(base_jv_get(run, "flow")), "aios:undo"))
		cli_put(c, "undoes the steps of run %lld\n\n",
			(long long)base_jv_int(base_jv_get(run, "parent"), 0));
	while (base_jv_next(base_jv_get(run, "rollbacks"), &it, &key, &v)) {
		struct base_str to = base_jv_str(base_jv_get(v, "to")),
				reason = base_jv_str(base_jv_get(v, "reason"));

		cli_put(c, "rolled back%s", to.len ? " to " : "");
		cli_text(c, to);
		cli_put(c, " by ");
		cli_text(c, base_jv_str(base_jv_get(v, "by")));
		if (reason.len) {
			cli_put(c, ": ");
			cli_text(c, reason);
		}
		cli_put(c, " (run %lld)\n", (long long)base_jv_int(base_jv_get(v, "run"), 0));
	}
	if (base_jv_len(base_jv_get(run, "rollbacks")) > 0)
		cli_put(c, "\n");
}
