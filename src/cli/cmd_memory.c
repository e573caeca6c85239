#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli_int.h"

/* memory, costs, outcome. */

static int show_list(
	struct cli *c, const char *path, const char *name, const char *const *columns, const char *none)
{
	struct cli_answer a;
	struct base_jv list;
	int r = cli_call(c, "GET", path, NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		list = cli_list(a.root, name);
		if (base_jv_len(list) == 0)
			cli_put(c, "%s\n", none);
		else
			cli_table(c, list, columns);
	}
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_memory_get(struct cli *c)
{
	struct cli_answer a;
	int r = cli_call(c, "GET", cli_path_rest(c, "/v1/memory/facts/", c->args[0], ""), NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		cli_put(c, "%sversion %lld", cli_paint(c, "dim"),
			(long long)base_jv_int(base_jv_get(a.root, "version"), 0));
		cli_put(c, " of ");
		cli_time(&c->out, base_jv_int(base_jv_get(a.root, "at"), 0));
		cli_put(c, " by ");
		cli_text(c, base_jv_str(base_jv_get(a.root, "by")));
		cli_labels(c, base_jv_get(a.root, "labels"));
		cli_put(c, "%s\n", cli_paint(c, "off"));
		cli_value(c, base_jv_get(a.root, "value"), 0);
	}
	cli_answer_done(&a);
	return CLI_OK;
}

static void put_label_list(struct base_jw *w, struct base_str rest)
{
	struct base_str one;

	base_jw_key(w, "labels");
	base_jw_arr(w);
	while (base_str_cut(rest, ',', &one, &rest))
		base_jw_str(w, one);
	base_jw_str(w, rest.len ? rest : one);
	base_jw_end_arr(w);
}

/* A new version of a fact: with a value, or removed where that is NULL. */
static int put_version(struct cli *c, const struct base_buf *value)
{
	const char *path = cli_path_rest(c, "/v1/memory/facts/", c->args[0], "");
	struct base_buf body;
	struct cli_answer a;
	struct base_jw w;
	int r;

	base_buf_init(&body, CLI_BODY_MAX);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	if (value)
		base_jw_mraw(&w, "value", base_buf_view(value));
	else
		base_jw_mbool(&w, "removed", true);
	base_jw_mcstr(&w, "source", cli_opt(c, "source") ? cli_opt(c, "source") : "cli");
	if (value && cli_opt(c, "label"))
		put_label_list(&w, base_str_of(cli_opt(c, "label")));
	base_jw_end_obj(&w);
	r = cli_call(c, "PUT", cli_query(c, path, "base", cli_opt(c, "base")), &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "%sversion %lld\n", value ? "" : "forgotten: ",
			(long long)base_jv_int(base_jv_get(a.root, "version"), 0));
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_memory_put(struct cli *c)
{
	struct base_buf value;
	int r;

	base_buf_init(&value, CLI_BODY_MAX);
	r = cli_read_json(c, c->args[1], &value);
	if (r == 0)
		r = put_version(c, &value);
	base_buf_done(&value);
	return r;
}

int cmd_memory_forget(struct cli *c)
{
	return put_version(c, NULL);
}

int cmd_memory_list(struct cli *c)
{
	static const char *const columns[] = {
		"KEY=key", ">VERSION=version", "VALUE=value", "CHANGED=at", NULL};
	const char *path = "/v1/memory/facts";

	path = cli_query(c, path, "prefix", c->arg_count > 0 ? c->args[0] : NULL);
	path = cli_query(c, path, "limit", cli_opt(c, "limit"));
	path = cli_query(c, path, "after", cli_opt(c, "after"));
	return show_list(c, path, "facts", columns, "no facts");
}

int cmd_memory_search(struct cli *c)
{
	static const char *const columns[] = {
		">SCORE=score", "KIND=kind", "ID=id", "TITLE=title", "TEXT=text", NULL};
	struct base_buf words;
	unsigned i;
	int r;

	base_buf_init(&words, 1 << 16);
	for (i = 0; i < c->arg_count; i++)
		base_buf_printf(&words, "%s%s", i ? " " : "", c->args[i]);
	base_buf_char(&words, '\0');
	r = base_buf_failed(&words) ? cli_usage(c, "too many words")
				    : show_list(c,
					      cli_query(c, cli_query(c, "/v1/memory/search", "q", words.ptr),
						      "limit", cli_opt(c, "limit")),
					      "hits", columns, "nothing found");
	base_buf_done(&words);
	return r;
}

int cmd_memory_history(struct cli *c)
{
	static const char *const columns[] = {">VERSION=version", "VALUE=value", "REMOVED=removed",
		"CHANGED=at", "BY=by", "SOURCE=source", ">RUN=run", NULL};

	return show_list(c, cli_path_rest(c, "/v1/memory/facts/", c->args[0], "?history=1"), "items", columns,
		"there is no such fact");
}

int cmd_costs(struct cli *c)
{
	static const char *const spent[] = {"WHAT=key,name", ">COST=cost,cost_nusd", ">CALLS=calls",
		">IN=input_tokens", ">OUT=output_tokens", ">CACHE READ=cache_read_tokens",
		">CACHE WRITE=cache_write_tokens", NULL};
	static const char *const people[] = {
		"CUSTOMER=key", ">EFFECTS=effects", ">COST=cost", ">SHARE=share", ">CALLS=calls", NULL};
	static const char *const outcomes[] = {"OUTCOME=key,name", ">COUNT=count", ">VALUE=value",
		">MONEY=money", ">RUNS=runs", ">COST=cost,cost_nusd", ">EACH=each", NULL};
	const char *by = cli_opt(c, "by") ? cli_opt(c, "by") : "flow",
		   *path = cli_query(c, "/v1/costs", "by", by);
	struct cli_answer a;
	struct base_jv list;
	uint64_t days = 0;
	char since[32];
	int r = cli_opt_u64(c, "since", &days);

	if (r != 0)
		return r;
	if (days > 0) {
		snprintf(since, sizeof(since), "%lld",
			((long long)time(NULL) - (long long)days * 86400) * 1000);
		path = cli_query(c, path, "since", since);
	}
	r = cli_call(c, "GET", path, NULL, &a);
	if (r != 0)
		return r;
	list = cli_list(a.root, "costs");
	if (!cli_print_json(c, &a)) {
		if (base_jv_len(list) == 0)
			cli_put(c, "nothing was spent\n");
		else
			cli_table(c, list,
				strcmp(by, "outcome") == 0    ? outcomes
				: strcmp(by, "customer") == 0 ? people
							      : spent);
		if (base_jv_kind(base_jv_get(a.root, "total")) == BASE_JSON_INT) {
			cli_put(c, "%stotal%s ", cli_paint(c, "dim"), cli_paint(c, "off"));
			cli_money(&c->out, base_jv_int(base_jv_get(a.root, "total"), 0));
			cli_put(c, "\n");
		}
	}
	cli_answer_done(&a);
	return CLI_OK;
}

/* Numbers of the command line keep their digits: checked to be JSON, then sent as they are. */
static int put_number(struct cli *c, struct base_jw *w, const char *key, const char *text)
{
	struct base_json *doc;
	enum base_json_kind kind = BASE_JSON_NONE;

	if (base_json_parse(base_str_of(text), &doc, NULL) == 0) {
		kind = base_jv_kind(base_json_root(doc));
		base_json_free(doc);
	}
	if (kind != BASE_JSON_INT && kind != BASE_JSON_REAL)
		return cli_usage(c, "--%s takes a number, not %s", key, text);
	base_jw_mraw(w, key, base_str_of(text));
	return 0;
}

int cmd_outcome(struct cli *c)
{
	static const char *const texts[] = {"customer", "experiment", "key"};
	struct cli_answer a;
	struct base_buf body;
	struct base_jw w;
	unsigned i;
	int r = 0;

	base_buf_init(&body, 1 << 16);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "name", c->args[0]);
	if (cli_opt(c, "value"))
		r = put_number(c, &w, "value", cli_opt(c, "value"));
	if (r == 0 && cli_opt(c, "run"))
		r = put_number(c, &w, "run", cli_opt(c, "run"));
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (cli_opt(c, texts[i]))
			base_jw_mcstr(&w, texts[i], cli_opt(c, texts[i]));
	base_jw_end_obj(&w);
	if (r == 0)
		r = cli_call(c, "POST", "/v1/outcomes", &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, base_jv_bool(base_jv_get(a.root, "counted"), true) ? "recorded\n"
									      : "known already\n");
	cli_answer_done(&a);
	return CLI_OK;
}
