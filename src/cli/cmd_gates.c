#include <string.h>

#include "cli/cli_int.h"

/* The inbox: gates, approve, deny, settle. */

enum { VALUE_MAX = 16 << 20 };

static void put_fact(struct cli *c, const char *label, const char *key, struct base_jv g)
{
	struct base_jv v = base_jv_get(g, key);
	struct base_buf cell;

	base_buf_init(&cell, 1 << 16);
	cli_cell(&cell, base_str_of(key), v);
	if (cell.len > 0 && !(base_jv_kind(v) == BASE_JSON_INT && base_jv_int(v, 0) == 0)) {
		cli_put(c, "  %s%-10s%s ", cli_paint(c, "dim"), label, cli_paint(c, "off"));
		base_buf_str(&c->out, base_buf_view(&cell));
		cli_put(c, "\n");
	}
	base_buf_done(&cell);
}

/* Where its labels came from: "private: step 3 memory.get customers/anna". */
static void put_sources(struct cli *c, struct base_jv list)
{
	struct base_jv_iter it = {0}, jt;
	struct base_str key, name;
	struct base_jv v, member;

	while (base_jv_next(list, &it, &key, &v)) {
		cli_put(c, "  %s%-10s%s ", cli_paint(c, "dim"), "from", cli_paint(c, "off"));
		cli_text(c, base_jv_str(base_jv_get(v, "label")));
		cli_put(c, ":");
		jt = (struct base_jv_iter){0};
		while (base_jv_next(v, &jt, &name, &member)) {
			if (base_str_is(name, "label"))
				continue;
			cli_put(c, " %.*s ", BASE_STR_ARG(name));
			if (base_jv_kind(member) == BASE_JSON_INT)
				cli_put(c, "%lld", (long long)base_jv_int(member, 0));
			else
				cli_text(c, base_jv_str(member));
		}
		cli_put(c, "\n");
	}
}

static void put_names(struct cli *c, struct base_jv list, const char *member)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	bool more = false;

	while (base_jv_next(list, &it, &key, &v)) {
		cli_put(c, more ? ", " : "");
		cli_text(c, base_jv_str(member ? base_jv_get(v, member) : v));
		more = true;
	}
}

static void label(struct cli *c, const char *text)
{
	cli_put(c, "  %s%-10s%s ", cli_paint(c, "dim"), text, cli_paint(c, "off"));
}

static void put_told(struct cli *c, struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(list, &it, &key, &v)) {
		bool failed = base_str_is(base_jv_str(base_jv_get(v, "state")), "failed");

		label(c, "announced");
		cli_text(c, base_jv_str(base_jv_get(v, "channel")));
		cli_put(c, " (");
		cli_text(c, base_jv_str(base_jv_get(v, "why")));
		cli_put(c, "): %s", failed ? cli_paint(c, "red") : "");
		cli_text(c, base_jv_str(base_jv_get(v, "state")));
		cli_put(c, "%s%s", failed ? cli_paint(c, "off") : "", failed ? ": " : "");
		cli_text(c, base_jv_str(base_jv_get(v, "problem")));
		cli_put(c, "\n");
	}
}

/* Who may decide it, who has, who was told; where its data comes from. */
static void put_people(struct cli *c, struct base_jv g)
{
	struct base_jv votes = base_jv_get(g, "votes"), v;
	struct base_jv_iter it = {0};
	struct base_str key;

	if (base_jv_len(base_jv_get(g, "approvers")) > 0) {
		label(c, "approvers");
		put_names(c, base_jv_get(g, "approvers"), NULL);
		cli_put(c, "%s\n", base_jv_bool(base_jv_get(g, "operator"), true) ? ", operator" : "");
	}
	if (base_jv_int(base_jv_get(g, "need"), 1) > 1)
		put_fact(c, "needed", "need", g);
	while (base_jv_next(votes, &it, &key, &v)) {
		label(c, "vote");
		cli_text(c, base_jv_str(base_jv_get(v, "by")));
		cli_put(c, ": ");
		cli_text(c, base_jv_str(base_jv_get(v, "answer")));
		cli_put(c, "\n");
	}
	if (base_jv_len(base_jv_get(g, "delegated")) > 0) {
		label(c, "put to");
		put_names(c, base_jv_get(g, "delegated"), "to");
		cli_put(c, "\n");
	}
	if (base_jv_bool(base_jv_get(g, "sign"), false)) {
		label(c, "signature");
		cli_put(c, "approved with a passkey, or in this shell\n");
	}
	it = (struct base_jv_iter){0};
	while (base_jv_next(base_jv_get(g, "escalate"), &it, &key, &v)) {
		label(c, base_jv_bool(base_jv_get(v, "done"), false) ? "escalated" : "escalates");
		cli_time(&c->out, base_jv_int(base_jv_get(v, "at_ms"), 0));
		cli_put(c, " to ");
		put_names(c, base_jv_get(v, "to"), NULL);
		cli_put(c, "\n");
	}
	put_told(c, base_jv_get(g, "announced"));
}

static void put_gate(struct cli *c, struct base_jv g)
{
	cli_put(c, "%sgate %lld%s ", cli_paint(c, "bold"), (long long)base_jv_int(base_jv_get(g, "gate"), 0),
		cli_paint(c, "off"));
	cli_text(c, base_jv_str(base_jv_get(g, "title")));
	cli_put(c, "\n");
	put_fact(c, "kind", "kind", g);
	put_fact(c, "flow", "flow", g);
	put_fact(c, "run", "run", g);
	put_fact(c, "rule", "rule", g);
	put_fact(c, "costs",
		base_jv_kind(base_jv_get(g, "cost_nusd")) == BASE_JSON_INT ? "cost_nusd" : "cost", g);
	put_fact(c, "opened", "opened_ms", g);
	put_fact(c, "expires", "expires_ms", g);
	put_fact(c, "then", "on_expiry", g);
	put_fact(c, "allows", "allows", g);
	put_fact(c, "labels", "labels", g);
	put_sources(c, base_jv_get(g, "sources"));
	put_people(c, g);
	put_fact(c, "answer", "answer", g);
	put_fact(c, "by", "by", g);
	put_fact(c, "reason", "reason", g);
	put_fact(c, "waited", "waited_ms", g);
	if (base_jv_kind(base_jv_get(g, "show")) > BASE_JSON_NULL) {
		cli_put(c, "\n");
		cli_value(c, base_jv_get(g, "show"), 2);
		cli_put(c, "\n");
	}
}

int cmd_gates(struct cli *c)
{
	static const char *const columns[] = {">GATE=gate", "KIND=kind", "FLOW=flow", ">RUN=run",
		"TITLE=title", "OPENED=opened_ms", "EXPIRES=expires_ms", ">COSTS=cost_nusd,cost",
		"ANSWER=answer", NULL};
	const char *path = "/v1/gates";
	struct cli_answer a;
	int r;

	if (c->arg_count > 0) {
		path = cli_path(c, "/v1/gates/", c->args[0], "");
	} else {
		path = cli_query(c, path, "state", cli_opt(c, "state"));
		path = cli_query(c, path, "limit", cli_opt(c, "limit"));
		path = cli_query(c, path, "mine", cli_flag(c, "mine") ? "1" : NULL);
	}
	r = cli_call(c, "GET", path, NULL, &a);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		struct base_jv list = cli_list(a.root, "gates");

		if (c->arg_count > 0)
			put_gate(c, a.root);
		else if (base_jv_len(list) == 0)
			cli_put(c, "nothing waits for you\n");
		else
			cli_table(c, list, columns);
	}
	cli_answer_done(&a);
	return CLI_OK;
}

/* --- decisions --- */

/* Text in place of what was shown: where a string was, or an object's only member "body" that is one. */
static int text_value(struct cli *c, struct base_jv show, struct base_str text, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_buf one;
	struct base_jv v;

	if (base_jv_kind(show) == BASE_JSON_STR) {
		base_jw_str(&w, text);
		return 0;
	}
	if (base_jv_kind(base_jv_get(show, "body")) != BASE_JSON_STR)
		return cli_fail(
			c, "this gate shows no text: give JSON, as in aios gates %s --json", c->args[0]);
	base_buf_init(&one, VALUE_MAX);
	base_jw_obj(&w);
	while (base_jv_next(show, &it, &key, &v)) {
		base_jw_key_str(&w, key);
		if (base_str_is(key, "body")) {
			base_jw_str(&w, text);
			continue;
		}
		base_buf_clear(&one);
		base_jv_write(v, &one);
		base_jw_raw(&w, base_buf_view(&one));
	}
	base_jw_end_obj(&w);
	base_buf_done(&one);
	return 0;
}

/* The edited value: --value JSON, or --edit FILE with JSON or text. Empty: approved as shown. */
static int edited(struct cli *c, struct base_jv show, struct base_buf *ret)
{
	const char *file = cli_opt(c, "edit"), *value = cli_opt(c, "value");
	struct base_json *doc;
	struct base_buf text;
	struct base_err err;
	int r;

	if (file && value)
		return cli_usage(c, "--edit and --value say the same thing twice");
	if (value)
		return cli_read_json(c, value, ret);
	if (!file)
		return 0;
	base_buf_init(&text, VALUE_MAX + 65536);
	r = cli_read_file(file, VALUE_MAX, &text, &err);
	if (r < 0)
		r = cli_fail(c, "%s", err.text);
	else if (base_jv_kind(show) != BASE_JSON_STR &&
		 base_json_parse(base_buf_view(&text), &doc, &err) == 0) {
		base_json_free(doc);
		base_buf_str(ret, base_buf_view(&text));
	} else if (base_str_ends(base_str_of(file), BASE_STR(".json"))) {
		r = cli_fail(c, "%s: %s", file, err.text);
	} else {
		r = text_value(c, show, base_buf_view(&text), ret);
	}
	base_buf_done(&text);
	return r;
}

/* Sends the decision with the hash of what the gate shows now. answer NULL: said by the path. */
static int decide(
	struct cli *c, const char *what, const char *answer, struct base_jv gate, struct base_str value)
{
	struct base_buf body;
	struct cli_answer a;
	struct base_jw w;
	int r;

	base_buf_init(&body, CLI_BODY_MAX);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	base_jw_mstr(&w, "shown", base_jv_str(base_jv_get(gate, "shown")));
	if (answer)
		base_jw_mcstr(&w, "answer", answer);
	if (value.len > 0)
		base_jw_mraw(&w, "value", value);
	if (cli_opt(c, "reason"))
		base_jw_mcstr(&w, "reason", cli_opt(c, "reason"));
	base_jw_end_obj(&w);
	r = cli_call(c, "POST", cli_path(c, "/v1/gates/", c->args[0], what), &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		struct base_str voted = base_jv_str(base_jv_get(a.root, "voted"));

		cli_put(c, "gate %s: ", c->args[0]);
		cli_text(c, voted.len ? voted : base_jv_str(base_jv_get(a.root, "answer")));
		if (voted.len)
			cli_put(c, ", %lld of %lld: others must agree",
				(long long)base_jv_int(base_jv_get(a.root, "have"), 0),
				(long long)base_jv_int(base_jv_get(a.root, "need"), 0));
		cli_put(c, "\n");
	}
	cli_answer_done(&a);
	return CLI_OK;
}

static int fetch(struct cli *c, struct cli_answer *ret)
{
	return cli_call(c, "GET", cli_path(c, "/v1/gates/", c->args[0], ""), NULL, ret);
}

int cmd_approve(struct cli *c)
{
	struct cli_answer gate;
	struct base_buf value;
	int r;

	if (c->arg_count != 1)
		return cli_decide_several(c, "approve");
	r = fetch(c, &gate);
	if (r != 0)
		return r;
	base_buf_init(&value, VALUE_MAX + 65536);
	r = edited(c, base_jv_get(gate.root, "show"), &value);
	if (r == 0 && !c->json && !cli_flag(c, "quiet") &&
		base_jv_kind(base_jv_get(gate.root, "answer")) <= BASE_JSON_NULL)
		put_gate(c, gate.root);
	if (r == 0)
		r = decide(c, "/approve", NULL, gate.root, base_buf_view(&value));
	base_buf_done(&value);
	cli_answer_done(&gate);
	return r;
}

int cmd_deny(struct cli *c)
{
	struct cli_answer gate;
	int r;

	if (c->arg_count != 1)
		return cli_decide_several(c, "deny");
	r = fetch(c, &gate);
	if (r != 0)
		return r;
	r = decide(c, "/deny", NULL, gate.root, BASE_STR_NONE);
	cli_answer_done(&gate);
	return r;
}

int cmd_settle(struct cli *c)
{
	const char *answer = NULL;
	struct cli_answer gate;
	struct base_buf value;
	int r, given = cli_flag(c, "happened") + cli_flag(c, "send") + cli_flag(c, "give-up") +
		       cli_flag(c, "again") + cli_flag(c, "skip");

	if (given != 1)
		return cli_usage(c, "say one of --happened, --send, --give-up; of an undo that failed "
				    "--again, --skip, --give-up");
	if (cli_opt(c, "result") && !cli_flag(c, "happened"))
		return cli_usage(c, "--result goes with --happened");
	answer = cli_flag(c, "happened") ? "happened"
		 : cli_flag(c, "send")	 ? "send"
		 : cli_flag(c, "again")	 ? "retry"
		 : cli_flag(c, "skip")	 ? "skip"
					 : "give_up";
	r = fetch(c, &gate);
	if (r != 0)
		return r;
	base_buf_init(&value, VALUE_MAX + 65536);
	if (cli_opt(c, "result"))
		r = cli_read_json(c, cli_opt(c, "result"), &value);
	if (r == 0)
		r = decide(c, "/settle", answer, gate.root, base_buf_view(&value));
	base_buf_done(&value);
	cli_answer_done(&gate);
	return r;
}
