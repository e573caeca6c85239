#include <stdio.h>
#include <string.h>

#include "cli/cli_int.h"

/* Who did, allowed, approved and saw what; proofs of it. */

int cmd_audit(struct cli *c)
{
	static const char *const columns[] = {"TIME=at", "KIND=kind", "WHO=by", "WHAT=action,type",
		"OF=object", ">RUN=run", ">GATE=gate", "RULE=rule", "APPROVED BY=approved_by", ">COST=cost",
		"WHY=text", NULL};
	static const char *const same[] = {
		"who", "action", "object", "run", "gate", "customer", "kind", "limit", "before"};
	static const char *const times[] = {"since", "until"};
	const char *path = "/v1/audit";
	struct cli_answer a;
	struct base_jv list;
	char text[2][32];
	int64_t at;
	int r = 0;

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		path = cli_query(c, path, same[i], cli_opt(c, same[i]));
	for (size_t i = 0; i < 2 && r == 0; i++) {
		if (!cli_opt(c, times[i]))
			continue;
		r = cli_moment(c, times[i], false, &at);
		snprintf(text[i], sizeof(text[i]), "%lld", (long long)at);
		if (r == 0)
			path = cli_query(c, path, times[i], text[i]);
	}
	r = r == 0 ? cli_call(c, "GET", path, NULL, &a) : r;
	if (r != 0)
		return r;
	list = cli_list(a.root, "items");
	if (!cli_print_json(c, &a)) {
		if (base_jv_len(list) == 0)
			cli_put(c, "nothing of that kind stands in the log\n");
		else
			cli_table(c, list, columns);
		if (base_jv_int(base_jv_get(a.root, "next"), 0))
			cli_put(c, "there is more: --before %lld\n",
				(long long)base_jv_int(base_jv_get(a.root, "next"), 0));
	}
	cli_answer_done(&a);
	return CLI_OK;
}
