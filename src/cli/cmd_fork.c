#include <string.h>
#include <time.h>

#include "base/money.h"
#include "cli/cli_int.h"

/* fork, restart, and points in time. */

enum { INPUT_MAX = 16 << 20 };

/* "2026-11-22", "2026-11-22T14:00", "2026-11-22 14:00:30", each local, or with a Z. */
static bool parse_moment(const char *text, int64_t *ret_ms)
{
	static const char *const forms[] = {
		"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d"};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct tm tm = {.tm_isdst = -1};
		const char *end = strptime(text, forms[i], &tm);
		time_t t;

		if (!end || (*end && strcmp(end, "Z") != 0))
			continue;
		t = *end ? timegm(&tm) : mktime(&tm);
		*ret_ms = (int64_t)t * 1000;
		return t != (time_t)-1;
	}
	return false;
}

int cli_moment(struct cli *c, const char *option, bool ahead, int64_t *ret_ms)
{
	const char *text = cli_opt(c, option);
	int64_t ms;

	if (base_duration_parse(base_str_of(text), &ms, NULL) == 0) {
		int64_t now = (int64_t)time(NULL) * 1000;

		*ret_ms = ahead ? now + ms : now - ms;
		return 0;
	}
	if (parse_moment(text, ret_ms))
		return 0;
	return cli_usage(c,
		"--%s takes a time such as 2026-11-22T14:00 (with Z: UTC), or a duration such as 90m, not %s",
		option, text);
}

/* NAME=VALUE: JSON where it is JSON, else text. */
static int put_set(struct cli *c, struct base_jw *w, const char *pair)
{
	const char *eq = strchr(pair, '=');
	struct base_json *doc;

	if (!eq || eq == pair)
		return cli_usage(c, "--set takes NAME=VALUE, not %s", pair);
	base_jw_key_str(w, (struct base_str){pair, (size_t)(eq - pair)});
	if (base_json_parse(base_str_of(eq + 1), &doc, NULL) == 0) {
		base_jw_raw(w, base_str_of(eq + 1));
		base_json_free(doc);
	} else {
		base_jw_cstr(w, eq + 1);
	}
	return 0;
}

static int put_sets(struct cli *c, struct base_jw *w)
{
	int r = 0;

	if (!cli_opt(c, "set"))
		return 0;
	base_jw_key(w, "set");
	base_jw_obj(w);
	for (unsigned i = 0; i < c->opt_count && r == 0; i++)
		if (strcmp(c->opts[i].name, "set") == 0)
			r = put_set(c, w, c->opts[i].value);
	base_jw_end_obj(w);
	return r;
}

static int put_fork(struct cli *c, struct base_jw *w)
{
	struct base_buf input;
	uint64_t from = 0;
	int r = cli_opt_u64(c, "from", &from);

	base_jw_obj(w);
	base_jw_mint(w, "from", (int64_t)from);
	if (cli_opt(c, "reason"))
		base_jw_mcstr(w, "reason", cli_opt(c, "reason"));
	if (cli_opt(c, "version"))
		base_jw_mcstr(w, "version", cli_opt(c, "version"));
	if (r == 0 && cli_opt(c, "input")) {
		base_buf_init(&input, INPUT_MAX + 65536);
		r = cli_read_json(c, cli_opt(c, "input"), &input);
		if (r == 0)
			base_jw_mraw(w, "input", base_buf_view(&input));
		base_buf_done(&input);
	}
	if (r == 0)
		r = put_sets(c, w);
	base_jw_end_obj(w);
	return r;
}

static int fork_run(struct cli *c, const char *how, const char *done)
{
	struct cli_answer a;
	struct base_buf body;
	struct base_jw w;
	int64_t run;
	int r;

	if (cli_flag(c, "wait") && cli_flag(c, "detach"))
		return cli_usage(c, "--wait and --detach say opposite things");
	base_buf_init(&body, CLI_BODY_MAX);
	w = base_jw_of(&body);
	r = put_fork(c, &w);
	if (r == 0)
		r = cli_call_key(
			c, "POST", cli_path(c, "/v1/runs/", c->args[0], how), &body, cli_opt(c, "key"), &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	run = base_jv_int(base_jv_get(a.root, "run"), 0);
	if (cli_flag(c, "detach") && cli_print_json(c, &a)) {
		cli_answer_done(&a);
		return CLI_OK;
	}
	if (!c->json)
		cli_put(c, "run %lld: run %s %s from step %lld\n", (long long)run, c->args[0], done,
			(long long)base_jv_int(base_jv_get(a.root, "from"), 0));
	cli_answer_done(&a);
	cli_flush(c);
	return cli_flag(c, "detach") ? CLI_OK : cli_follow(c, run, cli_flag(c, "wait"));
}

int cmd_fork(struct cli *c)
{
	return fork_run(c, "/fork", "forked");
}

int cmd_restart(struct cli *c)
{
	return fork_run(c, "/restart", "restarted");
}
