#include <string.h>

#include "cli/cli_int.h"

/* What starts flows: schedules (the list, one with its next times, pause, resume), publish. */

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
	if (base_str_is(base_jv_str(base_jv_get(s, "state")), "over"))
		cli_put(c, "it does not fire again\n");
	else if (base_jv_len(firings) > 0)
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

static void say_published(struct cli *c, struct base_jv a)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	if (base_jv_bool(base_jv_get(a, "existing"), false)) {
		cli_put(c, "published before with this key\n");
		return;
	}
	cli_put(c, "published as event %lld\n", (long long)base_jv_int(base_jv_get(a, "id"), 0));
	while (base_jv_next(base_jv_get(a, "started"), &it, &none, &v))
		cli_put(c, "started run %lld\n", (long long)base_jv_int(v, 0));
	it = (struct base_jv_iter){0};
	while (base_jv_next(base_jv_get(a, "refused"), &it, &none, &v)) {
		cli_put(c, "did not start ");
		cli_text(c, base_jv_str(base_jv_get(v, "flow")));
		cli_put(c, ": ");
		cli_text(c, base_jv_str(base_jv_get(base_jv_get(v, "problem"), "message")));
		cli_put(c, "\n");
	}
}

int cmd_publish(struct cli *c)
{
	struct base_buf body;
	struct cli_answer a;
	int r = 0;

	base_buf_init(&body, CLI_BODY_MAX);
	if (cli_opt(c, "payload"))
		r = cli_read_json(c, cli_opt(c, "payload"), &body);
	else
		base_buf_cstr(&body, "null");
	if (r == 0)
		r = cli_call_key(
			c, "POST", cli_path(c, "/v1/events/", c->args[0], ""), &body, cli_opt(c, "key"), &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		say_published(c, a.root);
	cli_answer_done(&a);
	return CLI_OK;
}
