#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

/* --- export --- */

static void put_lines(FILE *f, struct base_jv items)
{
	struct base_jv_iter it = {0};
	struct base_buf line;
	struct base_str none;
	struct base_jv v;

	base_buf_init(&line, CLI_BODY_MAX);
	while (base_jv_next(items, &it, &none, &v)) {
		base_buf_clear(&line);
		base_jv_write(v, &line);
		base_buf_char(&line, '\n');
		fwrite(line.ptr, 1, line.len, f);
	}
	base_buf_done(&line);
}

static const char *with_number(struct cli *c, const char *path, const char *name, int64_t v)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", (long long)v);
	return cli_query(c, path, name, v ? text : NULL);
}

/* The query of the next page: positions are fixed by the first. */
static const char *page(struct cli *c, int64_t since, int64_t until, struct base_jv last)
{
	const char *path = "/v1/audit/export";
	bool again = base_jv_kind(last) == BASE_JSON_OBJ;
	struct base_str gates = base_jv_str(base_jv_get(last, "gates"));

	if (again) {
		path = with_number(c, path, "from", base_jv_int(base_jv_get(last, "from"), 0));
		path = with_number(c, path, "to", base_jv_int(base_jv_get(last, "to"), 0));
		path = with_number(c, path, "cursor", base_jv_int(base_jv_get(last, "next"), 0));
		path = with_number(c, path, "covered", base_jv_int(base_jv_get(last, "covered"), 0));
		if (gates.len)
			path = cli_query(c, path, "gates",
				base_arena_printf(c->arena, "%.*s", BASE_STR_ARG(gates)).ptr);
	} else {
		path = cli_query(c, path, "from", cli_opt(c, "from"));
		path = cli_query(c, path, "to", cli_opt(c, "to"));
		path = with_number(c, path, "since", since);
		path = with_number(c, path, "until", until);
	}
	path = cli_query(c, path, "run", cli_opt(c, "run"));
	return cli_query(c, path, "heads", cli_flag(c, "heads") ? "1" : NULL);
}

static int export_to(struct cli *c, FILE *f, int64_t since, int64_t until, int64_t *ret_lines)
{
	struct base_jv last = {NULL};
	struct cli_answer a, before;
	bool have = false;
	int r;

	for (*ret_lines = 0;;) {
		r = cli_call(c, "GET", page(c, since, until, last), NULL, &a);
		if (have)
			cli_answer_done(&before);
		if (r != 0)
			return r;
		put_lines(f, cli_list(a.root, "items"));
		*ret_lines += (int64_t)base_jv_len(cli_list(a.root, "items"));
		before = a;
		have = true;
		last = before.root;
		if (!base_jv_int(base_jv_get(last, "next"), 0))
			break;
	}
	cli_answer_done(&before);
	return CLI_OK;
}

int cmd_audit_export(struct cli *c)
{
	const char *out = cli_opt(c, "out");
	int64_t since = 0, until = 0, lines = 0;
	FILE *f = stdout;
	int r = 0;

	if (cli_opt(c, "since"))
		r = cli_moment(c, "since", false, &since);
	if (r == 0 && cli_opt(c, "until"))
		r = cli_moment(c, "until", false, &until);
	if (r != 0)
		return r;
	if (out && !(f = fopen(out, "wxe")))
		return cli_fail(c, "cannot make %s: %s", out, strerror(errno));
	r = export_to(c, f, since, until, &lines);
	if (fflush(f) != 0 || (out && (fsync(fileno(f)) != 0)))
		r = r ? r : cli_fail(c, "cannot write %s: %s", out ? out : "the export", strerror(errno));
	if (out)
		fclose(f);
	if (out && r == CLI_OK && !c->json)
		cli_put(c, "%lld lines in %s; aios-verify-audit checks them\n", (long long)lines, out);
	return r;
}

/* --- checkpoints --- */

int cmd_audit_checkpoint(struct cli *c)
{
	static const char *const columns[] = {"PLACE=name", "TO=to", "STATE=state", ">HAS EVENT=has", NULL};
	struct base_buf body;
	struct cli_answer a;
	struct base_str key;
	int r;

	base_buf_init(&body, 64);
	base_buf_cstr(&body, "{}");
	r = cli_call(c, "POST", "/v1/audit/checkpoint", &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	key = base_jv_str(base_jv_get(a.root, "public_key"));
	if (!cli_print_json(c, &a)) {
		cli_put(c, "checkpoint of event %lld, signed with the key %.*s\n",
			(long long)base_jv_int(base_jv_get(a.root, "checkpoint"), 0), BASE_STR_ARG(key));
		if (base_jv_len(base_jv_get(a.root, "places")))
			cli_table(c, base_jv_get(a.root, "places"), columns);
		else
			cli_put(c, "it is sent nowhere: audit.checkpoints in aios.yaml names places\n");
	}
	cli_answer_done(&a);
	return CLI_OK;
}

/* The lines of a file of checkpoints as a list. */
static int put_points(struct cli *c, const char *file, struct base_jw *w)
{
	struct base_str rest, line;
	struct base_buf text;
	struct base_err err;
	int r = 0;

	base_buf_init(&text, 15 << 20);
	if (cli_read_file(file, 15 << 20, &text, &err) < 0)
		r = cli_fail(c, "%s", err.text);
	rest = base_buf_view(&text);
	base_jw_key(w, "checkpoints");
	base_jw_arr(w);
	while (r == 0 && rest.len) {
		struct base_json *doc = NULL;

		base_str_cut(rest, '\n', &line, &rest);
		if (!line.len)
			continue;
		if (base_json_parse(line, &doc, NULL) < 0)
			r = cli_fail(c, "%s: a line of it is no checkpoint", file);
		else
			base_jw_value(w, base_json_root(doc));
		base_json_free(doc);
	}
	base_jw_end_arr(w);
	base_buf_done(&text);
	return r;
}

int cmd_audit_verify(struct cli *c)
{
	struct base_buf body;
	struct cli_answer a;
	struct base_jw w;
	bool ok;
	int r = 0;

	base_buf_init(&body, 16 << 20);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	if (cli_opt(c, "key"))
		base_jw_mcstr(&w, "key", cli_opt(c, "key"));
	if (cli_opt(c, "checkpoint"))
		r = put_points(c, cli_opt(c, "checkpoint"), &w);
	base_jw_end_obj(&w);
	r = r == 0 ? cli_call(c, "POST", "/v1/audit/verify", &body, &a) : r;
	base_buf_done(&body);
	if (r != 0)
		return r;
	ok = base_jv_bool(base_jv_get(a.root, "ok"), false);
	if (!cli_print_json(c, &a) && ok)
		cli_put(c,
			"the log is whole: %lld events; %lld checkpoints agree, the last covers event %lld\n",
			(long long)base_jv_int(base_jv_get(a.root, "seq"), 0),
			(long long)base_jv_int(base_jv_get(a.root, "checkpoints"), 0),
			(long long)base_jv_int(base_jv_get(a.root, "covered"), 0));
	else if (!c->json)
		r = cli_fail(c, "%.*s", BASE_STR_ARG(base_jv_str(base_jv_get(a.root, "message"))));
	cli_answer_done(&a);
	return ok ? r : CLI_FAILED;
}

void cli_put_checkpoints(struct cli *c, struct base_jv v)
{
	struct base_str why = base_jv_str(base_jv_get(v, "why")), none;
	struct base_jv_iter it = {0};
	struct base_jv place;

	if (why.len) {
		cli_put(c, "%s%-16s%s no checkpoint could be signed: ", cli_paint(c, "red"), "audit",
			cli_paint(c, "off"));
		cli_text(c, why);
		cli_put(c, "\n");
	}
	while (base_jv_next(base_jv_get(v, "places"), &it, &none, &place)) {
		if (!base_str_is(base_jv_str(base_jv_get(place, "state")), "failing"))
			continue;
		cli_put(c, "%s%-16s%s checkpoints do not reach ", cli_paint(c, "red"), "audit",
			cli_paint(c, "off"));
		cli_text(c, base_jv_str(base_jv_get(place, "name")));
		cli_put(c, "; it has event %lld: aios audit --action checkpoint.sent\n",
			(long long)base_jv_int(base_jv_get(place, "has"), 0));
	}
}
