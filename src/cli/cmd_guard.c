#include "cli/cli_int.h"

/* The built-in rules: shown, turned on, asked to be turned off. */

void cli_labels(struct cli *c, struct base_jv labels)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	unsigned n = 0;

	while (base_jv_next(labels, &it, &key, &v)) {
		cli_put(c, "%s", n++ ? " " : "  [");
		cli_text(c, base_jv_str(v));
	}
	if (n)
		cli_put(c, "]");
}

int cmd_guard(struct cli *c)
{
	static const char *const columns[] = {"RULE=rule", "ON=on", "WHAT IT SAYS=text", NULL};
	struct cli_answer a;
	int r = cli_call(c, "GET", "/v1/guards", NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_table(c, cli_list(a.root, "items"), columns);
	cli_answer_done(&a);
	return CLI_OK;
}

static int set(struct cli *c, bool on)
{
	struct cli_answer a;
	struct base_buf body;
	struct base_jw w;
	long long gate;
	int r;

	base_buf_init(&body, 1 << 16);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	base_jw_mbool(&w, "on", on);
	base_jw_mcstr(&w, "reason", cli_opt(c, "reason") ? cli_opt(c, "reason") : "");
	base_jw_end_obj(&w);
	r = cli_call(c, "POST", cli_path(c, "/v1/guards/", c->args[0], ""), &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	gate = (long long)base_jv_int(base_jv_get(a.root, "gate"), 0);
	if (cli_print_json(c, &a))
		;
	else if (gate)
		cli_put(c, "still on: gate %lld asks you; aios approve %lld turns it off\n", gate, gate);
	else
		cli_put(c, "%s\n", on ? "on" : "off already");
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_guard_off(struct cli *c)
{
	return set(c, false);
}

int cmd_guard_on(struct cli *c)
{
	return set(c, true);
}
