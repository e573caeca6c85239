#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/money.h"
#include "cli/cli_int.h"

/* flows rehearse, backtest: runs on another version of their flow. */

enum { RUNS_MAX = 10000, ARGS_SHOWN = 160 };

/* Where FILE stands among the sources: its path in the workspace; one from elsewhere as if it stood in flows/. */
static const char *entry_of(struct cli *c, const char *file)
{
	char path[PATH_MAX];
	size_t n = strlen(c->workspace);
	const char *base = strrchr(file, '/');

	if (realpath(file, path) && strncmp(path, c->workspace, n) == 0 && path[n] == '/')
		return base_arena_printf(c->arena, "%s", path + n + 1).ptr;
	return base_arena_printf(c->arena, "flows/%s", base ? base + 1 : file).ptr;
}

/* "files" with FILE in its place, and "entry". */
static int put_sources(struct cli *c, struct base_jw *w, const char *file)
{
	const char *entry = entry_of(c, file);
	struct base_buf sources, text;
	struct base_jv_iter it = {0};
	struct base_json *doc = NULL;
	struct base_err err;
	struct base_str key;
	struct base_jv v;
	int r;

	base_buf_init(&sources, CLI_BODY_MAX);
	base_buf_init(&text, 8 << 20);
	r = cli_read_file(file, 4 << 20, &text, &err);
	if (r == 0 && !base_utf8_valid(base_buf_view(&text)))
		r = base_err_set(&err, -1, "%s: not UTF-8 text", file);
	if (r == 0)
		r = cli_sources(c, &sources, &err);
	if (r == 0)
		r = base_json_parse(base_buf_view(&sources), &doc, &err);
	if (r == 0) {
		base_jw_key(w, "files");
		base_jw_obj(w);
		while (base_jv_next(base_jv_get(base_json_root(doc), "files"), &it, &key, &v))
			if (base_str_ends(key, BASE_STR(".js")) && !base_str_is(key, entry)) {
				base_jw_key_str(w, key);
				base_jw_str(w, base_jv_str(v));
			}
		base_jw_mstr(w, entry, base_buf_view(&text));
		base_jw_end_obj(w);
		base_jw_mcstr(w, "entry", entry);
	} else {
		r = cli_fail(c, "%s", err.text);
	}
	base_json_free(doc);
	base_buf_done(&sources);
	base_buf_done(&text);
	return r;
}

/* "3,4,5" as a list of numbers. */
static int put_runs(struct cli *c, struct base_jw *w, const char *name)
{
	const char *text = cli_opt(c, name);
	struct base_str part, rest = text ? base_str_of(text) : BASE_STR_NONE;
	bool more = text != NULL;
	uint64_t run;

	if (!text)
		return 0;
	base_jw_key(w, name);
	base_jw_arr(w);
	while (more) {
		more = base_str_cut(rest, ',', &part, &rest);
		if (base_str_u64(part, &run) < 0 || run == 0)
			return cli_usage(c, "--%s takes numbers of runs: 7 or 7,9", name);
		base_jw_uint(w, run);
	}
	base_jw_end_arr(w);
	return 0;
}

/* --- what came of it --- */

static const char *mood_of(struct base_str outcome)
{
	return base_str_is(outcome, "same") ? "green" : base_str_is(outcome, "skipped") ? "dim" : "red";
}

static void put_call(struct cli *c, const char *before, struct base_jv call)
{
	struct base_jv args = base_jv_get(call, "args");
	struct base_buf text;

	if (base_jv_kind(call) != BASE_JSON_OBJ)
		return;
	base_buf_init(&text, 1 << 20);
	cli_put(c, "    %s%-10s%s ", cli_paint(c, "dim"), before, cli_paint(c, "off"));
	cli_text(c, base_jv_str(base_jv_get(call, "action")));
	if (base_jv_kind(args) != BASE_JSON_NONE)
		base_jv_write(args, &text);
	else
		base_buf_cstr(&text, "(arguments too long to show)");
	cli_put(c, " ");
	cli_text(c, base_str_sub(base_buf_view(&text), 0, ARGS_SHOWN));
	cli_put(c, "%s\n", text.len > ARGS_SHOWN ? " …" : "");
	base_buf_done(&text);
}

static void put_note(struct cli *c, const char *before, struct base_str text)
{
	if (!text.len)
		return;
	cli_put(c, "    %s%-10s%s ", cli_paint(c, "dim"), before, cli_paint(c, "off"));
	cli_text(c, text);
	cli_put(c, "\n");
}

static void put_rehearsed(struct cli *c, struct base_jv item)
{
	struct base_str outcome = base_jv_str(base_jv_get(item, "outcome"));
	struct base_jv next = base_jv_get(item, "next"), v;
	struct base_jv_iter it = {0};
	struct base_str none;

	cli_put(c, "run %lld  ", (long long)base_jv_int(base_jv_get(item, "run"), 0));
	cli_text(c, base_jv_str(base_jv_get(item, "flow")));
	cli_put(c, "  %s", cli_paint(c, "dim"));
	cli_text(c, base_jv_str(base_jv_get(item, "state")));
	cli_put(c, ", %lld steps%s  %s", (long long)base_jv_int(base_jv_get(item, "steps"), 0),
		cli_paint(c, "off"), cli_paint(c, mood_of(outcome)));
	cli_text(c, outcome);
	if (base_jv_kind(base_jv_get(item, "step")) == BASE_JSON_INT)
		cli_put(c, " at step %lld", (long long)base_jv_int(base_jv_get(item, "step"), 0));
	else if (!base_str_is(outcome, "same"))
		cli_put(c, " after asking for %lld steps",
			(long long)base_jv_int(base_jv_get(item, "called"), 0));
	cli_put(c, "%s%s\n", cli_paint(c, "off"),
		base_jv_bool(base_jv_get(item, "ends"), false) ? ", and ends" : "");
	put_call(c, "recorded", base_jv_get(item, "recorded"));
	put_call(c, "asked", base_jv_get(item, "asked"));
	while (base_jv_next(next, &it, &none, &v))
		put_call(c, "asks next", v);
	put_note(c, "why", base_jv_str(base_jv_get(item, "why")));
	put_note(c, "problem", base_jv_str(base_jv_get(base_jv_get(item, "problem"), "message")));
	put_note(c, "now", base_jv_str(base_jv_get(item, "decided")));
	put_note(c, "refused", base_jv_str(base_jv_get(item, "refused")));
}

/* "3 same, 1 diverged" */
static void put_totals(struct cli *c, struct base_jv totals)
{
	struct base_jv_iter it = {0};
	const char *between = "";
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(totals, &it, &key, &v)) {
		cli_put(c, "%s%lld %.*s", between, (long long)base_jv_int(v, 0), BASE_STR_ARG(key));
		between = ", ";
	}
}

static void put_rehearsal(struct cli *c, struct base_jv root)
{
	struct base_str version = base_jv_str(base_jv_get(root, "version"));
	int64_t runs = base_jv_int(base_jv_get(root, "runs"), 0),
		moved = base_jv_int(base_jv_get(root, "moved"), 0),
		parked = base_jv_int(base_jv_get(root, "parked"), 0);
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	if (version.len) {
		cli_text(c, base_jv_str(base_jv_get(root, "flow")));
		cli_put(c, " %.12s%s", version.ptr,
			base_jv_bool(base_jv_get(root, "deployed"), false) ? "" : " (not deployed)");
	} else {
		cli_put(c, "every run on its own version, with ");
		cli_text(c, base_jv_str(base_jv_get(root, "interpreter")));
	}
	cli_put(c, ", %lld open %s\n\n", (long long)runs, runs == 1 ? "run" : "runs");
	while (base_jv_next(base_jv_get(root, "items"), &it, &none, &v))
		put_rehearsed(c, v);
	if (runs)
		cli_put(c, "\n");
	put_totals(c, base_jv_get(root, "totals"));
	if (moved)
		cli_put(c, "; %lld moved", (long long)moved);
	if (parked)
		cli_put(c, "; %lld parked", (long long)parked);
	cli_put(c, "%s\n", runs ? "" : "nothing to try");
	if (base_jv_int(base_jv_get(root, "left_out"), 0))
		cli_put(c, "%lld runs more are counted, but not shown\n",
			(long long)base_jv_int(base_jv_get(root, "left_out"), 0));
}

/* What an exit code says: every run is the same, or what was asked for was done. */
static bool is_well(struct cli *c, struct base_jv root)
{
	bool decides =
		cli_opt(c, "move") || cli_opt(c, "park") || cli_opt(c, "keep") || cli_flag(c, "move-same");
	int64_t same = base_jv_int(base_jv_get(base_jv_get(root, "totals"), "same"), 0);
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	if (!decides)
		return same == base_jv_int(base_jv_get(root, "runs"), 0);
	while (!cli_flag(c, "move-same") && base_jv_next(base_jv_get(root, "items"), &it, &none, &v))
		if (base_jv_str(base_jv_get(v, "refused")).len)
			return false;
	return true;
}

static int put_question(struct cli *c, struct base_jw *w)
{
	const char *file = c->arg_count ? c->args[0] : NULL;
	int r = 0;

	if (!file == !cli_flag(c, "open"))
		return cli_usage(c, "give FILE, or --open for every run on its own version");
	if (!file && (cli_opt(c, "move") || cli_flag(c, "move-same")))
		return cli_usage(c, "runs move to the version of a FILE");
	base_jw_obj(w);
	if (file)
		r = put_sources(c, w, file);
	else
		base_jw_mbool(w, "open", true);
	if (cli_opt(c, "flow"))
		base_jw_mcstr(w, "flow", cli_opt(c, "flow"));
	if (cli_flag(c, "move-same"))
		base_jw_mcstr(w, "move", "same");
	else if (r == 0)
		r = put_runs(c, w, "move");
	if (r == 0)
		r = put_runs(c, w, "park");
	if (r == 0)
		r = put_runs(c, w, "keep");
	if (r == 0)
		r = put_runs(c, w, "runs");
	base_jw_end_obj(w);
	return r;
}

int cmd_flows_rehearse(struct cli *c)
{
	size_t mark = c->out.len;
	struct cli_answer a;
	struct base_buf body;
	struct base_jw w;
	int r = 0;

	base_buf_init(&body, CLI_BODY_MAX);
	w = base_jw_of(&body);
	r = put_question(c, &w);
	if (r == 0 && cli_flag(c, "deploy")) {
		r = cli_deploy(c, false);
		if (c->json)
			c->out.len = mark; /* stdout is one document */
	}
	if (r == 0)
		r = cli_call(c, "POST", "/v1/rehearsals", &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		put_rehearsal(c, a.root);
	r = is_well(c, a.root) ? CLI_OK : CLI_FAILED;
	cli_answer_done(&a);
	return r;
}

/* --- backtest --- */

static void put_difference(struct cli *c, struct base_jv d)
{
	struct base_str kind = base_jv_str(base_jv_get(d, "kind"));

	cli_put(c, "  step %lld ", (long long)base_jv_int(base_jv_get(d, "step"), 0));
	cli_text(c, kind);
	if (base_str_is(kind, "moved"))
		cli_put(c, " (recorded as step %lld)", (long long)base_jv_int(base_jv_get(d, "from"), 0));
	cli_put(c, "\n");
	put_call(c, "recorded", base_jv_get(d, "recorded"));
	if (!base_str_is(kind, "moved"))
		put_call(c, "asked", base_jv_get(d, "asked"));
}

static void put_value(struct cli *c, const char *before, struct base_jv v)
{
	struct base_buf text;

	if (base_jv_kind(v) == BASE_JSON_NONE)
		return;
	base_buf_init(&text, 1 << 20);
	base_jv_write(v, &text);
	put_note(c, before, base_str_sub(base_buf_view(&text), 0, ARGS_SHOWN));
	base_buf_done(&text);
}

static void put_tried(struct cli *c, struct base_jv item)
{
	struct base_str outcome = base_jv_str(base_jv_get(item, "outcome")), none;
	struct base_jv_iter it = {0};
	struct base_jv v;

	if (base_str_is(outcome, "same"))
		return;
	cli_put(c, "run %lld  %s", (long long)base_jv_int(base_jv_get(item, "run"), 0),
		cli_paint(c, mood_of(outcome)));
	cli_text(c, outcome);
	cli_put(c, "%s: %lld of %lld steps the same, %lld new, %lld moved, %lld dropped\n",
		cli_paint(c, "off"), (long long)base_jv_int(base_jv_get(item, "same"), 0),
		(long long)base_jv_int(base_jv_get(item, "steps"), 0),
		(long long)base_jv_int(base_jv_get(item, "new"), 0),
		(long long)base_jv_int(base_jv_get(item, "moved"), 0),
		(long long)base_jv_int(base_jv_get(item, "dropped"), 0));
	while (base_jv_next(base_jv_get(item, "differences"), &it, &none, &v))
		put_difference(c, v);
	if (base_jv_bool(base_jv_get(item, "result_changed"), false)) {
		cli_put(c, "  result\n");
		put_value(c, "recorded", base_jv_get(item, "recorded"));
		put_value(c, "now", base_jv_get(item, "result"));
		put_note(c, "now fails", base_jv_str(base_jv_get(base_jv_get(item, "problem"), "message")));
	}
	put_note(c, "why", base_jv_str(base_jv_get(item, "why")));
}

static void put_backtest(struct cli *c, struct base_jv root)
{
	struct base_str version = base_jv_str(base_jv_get(root, "version")), none;
	struct base_jv totals = base_jv_get(root, "totals"), v;
	struct base_jv_iter it = {0};

	cli_text(c, base_jv_str(base_jv_get(root, "flow")));
	cli_put(c, " on %.12s, the last %lld runs\n\n", version.ptr ? version.ptr : "",
		(long long)base_jv_int(base_jv_get(root, "runs"), 0));
	while (base_jv_next(base_jv_get(root, "items"), &it, &none, &v))
		put_tried(c, v);
	it = (struct base_jv_iter){0};
	while (base_jv_next(base_jv_get(totals, "effects"), &it, &none, &v)) {
		cli_text(c, base_jv_str(base_jv_get(v, "action")));
		cli_put(c, ": %lld added, %lld dropped\n", (long long)base_jv_int(base_jv_get(v, "added"), 0),
			(long long)base_jv_int(base_jv_get(v, "dropped"), 0));
	}
	cli_put(c, "cost: recorded ");
	cli_money(&c->out, base_jv_int(base_jv_get(totals, "cost_recorded_nusd"), 0));
	cli_put(c, ", the steps that remain ");
	cli_money(&c->out, base_jv_int(base_jv_get(totals, "cost_kept_nusd"), 0));
	if (base_jv_int(base_jv_get(totals, "steps_new"), 0))
		cli_put(c, ", and %lld new steps that nobody has paid for yet",
			(long long)base_jv_int(base_jv_get(totals, "steps_new"), 0));
	cli_put(c, "\n");
	cli_text(c, base_jv_str(base_jv_get(root, "verdict")));
	cli_put(c, "\n");
}

static int put_backtest_question(struct cli *c, struct base_jw *w)
{
	const char *file = cli_opt(c, "with");
	struct base_buf assume;
	uint64_t last = 0;
	int r = 0;

	if (!file)
		return cli_usage(c, "--with FILE names the code to try");
	base_buf_init(&assume, 1 << 20);
	base_jw_obj(w);
	if (cli_opt(c, "last")) {
		r = cli_opt_u64(c, "last", &last);
		base_jw_mint(w, "last", (int64_t)last);
	}
	if (r == 0 && cli_opt(c, "assume")) {
		r = cli_read_json(c, cli_opt(c, "assume"), &assume);
		base_jw_mraw(w, "assume", base_buf_view(&assume));
	}
	if (r == 0)
		r = put_sources(c, w, file);
	base_jw_end_obj(w);
	base_buf_done(&assume);
	return r;
}

int cmd_backtest(struct cli *c)
{
	struct cli_answer a;
	struct base_buf body;
	struct base_jw w;
	int r;

	base_buf_init(&body, CLI_BODY_MAX);
	w = base_jw_of(&body);
	r = put_backtest_question(c, &w);
	if (r == 0)
		r = cli_call(c, "POST", cli_path(c, "/v1/flows/", c->args[0], "/backtest"), &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		put_backtest(c, a.root);
	r = base_jv_int(base_jv_get(base_jv_get(a.root, "totals"), "same"), 0) ==
			    base_jv_int(base_jv_get(a.root, "runs"), 0)
		    ? CLI_OK
		    : CLI_FAILED;
	cli_answer_done(&a);
	return r;
}
