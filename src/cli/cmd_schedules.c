#include <string.h>

#include "cli/cli_int.h"

/* schedules: the list, one with its next times, pause, resume. */

static void put_one(struct cli *c, struct base_jv s)
{
	static const char *const columns[] = {"NEXT=local", "HERE=at_ms", NULL};
	struct base_jv firings = base_jv_get(s, "firings");

	cli_put(c, "%s", cli_paint(c, "bold"));
	cli_text(c, base_jv_str(base_jv_get(s, "name")));
	cli_put(c, "%s ", cli_paint(c, "off"));
	cli_text(c, base_jv_str(base_jv_get(s, "when")));
	if (!base_str_is(base_jv_str(base_jv_get(s, "state")), "active")) {
		cli_put(c, " ");
		cli_text(c, base_jv_str(base_jv_get(s, "state")));
	}
	cli_put(c, "\n");
	if (base_jv_int(base_jv_get(s, "last_run"), 0)) {
		cli_put(c, "last: run %lld, due ", (long long)base_jv_int(base_jv_get(s, "last_run"), 0));
		cli_time(&c->out, base_jv_int(base_jv_get(s, "last_due_ms"), 0));
		cli_put(c, ", ");
		cli_text(c, base_jv_str(base_jv_get(s, "last_outcome")));
		cli_put(c, "\n");
	}
	if (base_jv_len(firings) == 0)
		cli_put(c, "it does not fire again\n");
	else
		cli_table(c, firings, columns);
}

int cmd_schedules(struct cli *c)
{
	static const char *const columns[] = {"NAME=name", "WHEN=when", "NEXT=next", "STATE=state",
		">LAST RUN=last_run", "DUE=last_due_ms", "OUTCOME=last_outcome", ">QUEUED=queued", NULL};
	const char *path = c->arg_count > 0 ? cli_path(c, "/v1/schedules/", c->args[0], "") : "/v1/schedules";
	struct cli_answer a;
	int r = cli_call(c, "GET", path, NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		if (c->arg_count > 0)
			put_one(c, a.root);
		else if (base_jv_len(cli_list(a.root, "items")) == 0)
			cli_put(c, "no flow has a schedule; a flow declares them with `on`\n");
		else
			cli_table(c, cli_list(a.root, "items"), columns);
	}
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_schedules_pause(struct cli *c)
{
	return cli_act(c, cli_path(c, "/v1/schedules/", c->args[0], "/pause"),
		"paused: it does not fire until aios schedules resume");
}

int cmd_schedules_resume(struct cli *c)
{
	return cli_act(c, cli_path(c, "/v1/schedules/", c->args[0], "/resume"), "it fires again");
}
