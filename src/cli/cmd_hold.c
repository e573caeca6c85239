#include "base/money.h"
#include "cli/cli_int.h"

/* pause, resume, why, queue. */

int cmd_pause(struct cli *c)
{
	return cli_act(
		c, cli_path(c, "/v1/runs/", c->args[0], "/pause"), "paused: aios resume lets it go on");
}

int cmd_resume(struct cli *c)
{
	if (cli_flag(c, "restored"))
		return cli_resume_restored(c);
	if (c->arg_count == 0)
		return cli_usage(c, "say which run, or --restored");
	return cli_act(c, cli_path(c, "/v1/runs/", c->args[0], "/resume"), "resumed");
}

/* "  since 2026-11-22 14:00:00 (2 min ago)" */
static void put_moment(struct cli *c, const char *what, int64_t at, int64_t now)
{
	if (at <= 0)
		return;
	cli_put(c, "     %-6s ", what);
	cli_time(&c->out, at);
	cli_put(c, at > now ? " (in " : " (");
	base_duration_put(&c->out, at > now ? at - now : now - at);
	cli_put(c, at > now ? ")\n" : " ago)\n");
}

static void put_wait(struct cli *c, struct base_jv v, int64_t now)
{
	struct base_str wakes = base_jv_str(base_jv_get(v, "wakes"));

	put_moment(c, "since", base_jv_int(base_jv_get(v, "since"), 0), now);
	put_moment(c, "until", base_jv_int(base_jv_get(v, "until"), 0), now);
	put_moment(c, "limit", base_jv_int(base_jv_get(v, "limit"), 0), now);
	if (wakes.len) {
		cli_put(c, "     wakes  ");
		cli_text(c, wakes);
		cli_put(c, "\n");
	}
}

int cmd_why(struct cli *c)
{
	struct base_jv_iter it = {0};
	struct cli_answer a;
	struct base_str key;
	struct base_jv v;
	int64_t now;
	int r = cli_call(c, "GET", cli_path(c, "/v1/runs/", c->args[0], "/why"), NULL, &a);

	if (r != 0)
		return r;
	if (cli_print_json(c, &a)) {
		cli_answer_done(&a);
		return CLI_OK;
	}
	now = base_jv_int(base_jv_get(a.root, "now"), 0);
	cli_put(c, "%s", cli_paint(c, "bold"));
	cli_text(c, base_jv_str(base_jv_get(a.root, "text")));
	cli_put(c, "%s\n", cli_paint(c, "off"));
	put_wait(c, a.root, now);
	while (base_jv_next(base_jv_get(a.root, "waits"), &it, &key, &v)) {
		int64_t step = base_jv_int(base_jv_get(v, "step"), -1);

		if (step >= 0)
			cli_put(c, "%4lld ", (long long)step);
		else
			cli_put(c, "   - ");
		cli_text(c, base_jv_str(base_jv_get(v, "text")));
		cli_put(c, "\n");
		put_wait(c, v, now);
	}
	cli_answer_done(&a);
	return CLI_OK;
}

static void put_of(struct cli *c, struct base_jv root, const char *what, const char *n, const char *max)
{
	cli_put(c, "%lld of at most %lld %s", (long long)base_jv_int(base_jv_get(root, n), 0),
		(long long)base_jv_int(base_jv_get(root, max), 0), what);
}

int cmd_queue(struct cli *c)
{
	static const char *const columns[] = {"FLOW=flow", "LANE=lane", ">ACTIVE=active", ">LIMIT=limit",
		">WAIT=waiting", ">DELAYED=delayed", ">NEXT RUN=next", "SINCE=since_ms", NULL};
	struct cli_answer a;
	int r = cli_call(c, "GET", c->arg_count ? cli_query(c, "/v1/queue", "flow", c->args[0]) : "/v1/queue",
		NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		put_of(c, a.root, "runs wait, ", "queued", "queue_max");
		put_of(c, a.root, "are awake\n", "awake", "active_max");
		if (base_jv_len(base_jv_get(a.root, "lanes")))
			cli_table(c, base_jv_get(a.root, "lanes"), columns);
	}
	cli_answer_done(&a);
	return CLI_OK;
}
