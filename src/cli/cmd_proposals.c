#include <string.h>

#include "cli/cli_int.h"

/* Rules that decisions suggest: aios proposes them, and never applies one. */

int cmd_proposals(struct cli *c)
{
	static const char *const columns[] = {">PROPOSAL=proposal", "MADE=at_ms", ">WOULD=would",
		">AGAINST=against", "ON=on", "THEN=then", NULL};
	struct base_jv_iter it = {0};
	struct cli_answer a;
	struct base_str key;
	struct base_buf rows;
	struct base_json *doc;
	struct base_jw w;
	struct base_jv v;
	int r = cli_call(c, "GET", "/v1/proposals", NULL, &a);

	if (r != 0)
		return r;
	if (cli_print_json(c, &a)) {
		cli_answer_done(&a);
		return CLI_OK;
	}
	base_buf_init(&rows, 4 << 20);
	w = base_jw_of(&rows);
	base_jw_arr(&w);
	while (base_jv_next(cli_list(a.root, "items"), &it, &key, &v)) {
		struct base_jv rule = base_jv_get(base_jv_get(v, "rule"), "add");

		base_jw_obj(&w);
		base_jw_mint(&w, "proposal", base_jv_int(base_jv_get(v, "proposal"), 0));
		base_jw_mint(&w, "at_ms", base_jv_int(base_jv_get(v, "at_ms"), 0));
		base_jw_mint(&w, "would", base_jv_int(base_jv_get(v, "would"), 0));
		base_jw_mint(&w, "against", base_jv_int(base_jv_get(v, "against"), 0));
		base_jw_mstr(&w, "on", base_jv_str(base_jv_get(rule, "on")));
		base_jw_mstr(&w, "then", base_jv_str(base_jv_get(rule, "then")));
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	if (base_json_parse(base_buf_view(&rows), &doc, NULL) == 0) {
		if (base_jv_len(base_json_root(doc)) == 0)
			cli_put(c, "nothing is proposed\n");
		else
			cli_table(c, base_json_root(doc), columns);
		base_json_free(doc);
	}
	base_buf_done(&rows);
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_proposals_show(struct cli *c)
{
	struct cli_answer a;
	int r = cli_call(c, "GET", cli_path(c, "/v1/proposals/", c->args[0], ""), NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		cli_put(c,
			"  # proposed after gate %lld; of the decisions before it would have answered %lld "
			"the same way, "
			"%lld the other\n",
			(long long)base_jv_int(base_jv_get(a.root, "gate"), 0),
			(long long)base_jv_int(base_jv_get(a.root, "would"), 0),
			(long long)base_jv_int(base_jv_get(a.root, "against"), 0));
		cli_lines(c, base_jv_str(base_jv_get(a.root, "yaml")));
	}
	cli_answer_done(&a);
	return CLI_OK;
}

static int close_it(struct cli *c, const char *answer)
{
	struct base_buf body;
	struct cli_answer a;
	struct base_jw w;
	int r;

	base_buf_init(&body, CLI_BODY_MAX);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "answer", answer);
	base_jw_end_obj(&w);
	r = cli_call(c, "POST", cli_path(c, "/v1/proposals/", c->args[0], ""), &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "proposal %s is %s\n", c->args[0], answer);
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_proposals_drop(struct cli *c)
{
	return close_it(c, "dropped");
}

int cmd_proposals_taken(struct cli *c)
{
	return close_it(c, "taken");
}
