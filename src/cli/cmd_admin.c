#include <curl/curl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "cli/cli_int.h"

/* status, flows, log, views, open, version. */

static int show(struct cli *c, const char *path)
{
	struct cli_answer a;
	int r = cli_call(c, "GET", path, NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_value(c, a.root, 0);
	cli_answer_done(&a);
	return CLI_OK;
}

/* "disk             12 MiB of 10240 MiB"; red when it is too much. */
static void put_disk(struct cli *c, struct base_jv disk)
{
	struct base_str state = base_jv_str(base_jv_get(disk, "state"));
	bool ok = base_str_is(state, "ok") || state.len == 0;

	if (base_jv_kind(disk) != BASE_JSON_OBJ)
		return;
	cli_put(c, "%s%-16s%s %lld MiB", cli_paint(c, "dim"), "disk", cli_paint(c, "off"),
		(long long)base_jv_int(base_jv_get(disk, "used"), 0) >> 20);
	if (base_jv_int(base_jv_get(disk, "quota"), 0))
		cli_put(c, " of %lld MiB", (long long)base_jv_int(base_jv_get(disk, "quota"), 0) >> 20);
	if (!ok)
		cli_put(c, "  %s%s%s", cli_paint(c, "red"),
			base_str_is(state, "full")
				? "the disk is full: new work is refused, flows stand still"
			: base_str_is(state, "over")
				? "over its quota: new work is refused; aios log archive"
				: "soon at its quota: aios log archive, or a larger log.quota",
			cli_paint(c, "off"));
	cli_put(c, "\n");
}

/* Gates whose people could not be told. */
static void put_unannounced(struct cli *c, struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(list, &it, &key, &v)) {
		cli_put(c, "\n%sgate %lld was not announced%s by ", cli_paint(c, "red"),
			(long long)base_jv_int(base_jv_get(v, "gate"), 0), cli_paint(c, "off"));
		cli_text(c, base_jv_str(base_jv_get(v, "channel")));
		cli_put(c, ": ");
		cli_text(c, base_jv_str(base_jv_get(v, "problem")));
		cli_put(c, "\n");
	}
}

int cmd_status(struct cli *c)
{
	static const char *const columns[] = {"PROCESS=process", "STATE=state", ">PID=pid", ">STARTS=starts",
		">RUNS=runs", "SANDBOX=sandbox", NULL};
	struct base_jv_iter it = {0};
	struct cli_answer a;
	struct base_str key;
	struct base_jv v;
	int r = cli_call(c, "GET", "/v1/status", NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		while (base_jv_next(a.root, &it, &key, &v)) {
			if (base_jv_kind(v) == BASE_JSON_ARR || base_jv_kind(v) == BASE_JSON_OBJ)
				continue;
			cli_put(c, "%s%-16.*s%s ", cli_paint(c, "dim"), BASE_STR_ARG(key),
				cli_paint(c, "off"));
			cli_cell(&c->out, key, v);
			cli_put(c, "\n");
		}
		put_disk(c, base_jv_get(a.root, "disk"));
		cli_put_checkpoints(c, base_jv_get(a.root, "checkpoints"));
		cli_put(c, "\n");
		cli_table(c, base_jv_get(a.root, "processes"), columns);
		put_unannounced(c, base_jv_get(a.root, "announcements_failed"));
		if (base_jv_bool(base_jv_get(a.root, "frozen"), false))
			cli_put(c, "\n%sfrozen: nothing goes out until aios thaw%s\n", cli_paint(c, "red"),
				cli_paint(c, "off"));
	}
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_flows(struct cli *c)
{
	static const char *const columns[] = {
		"FLOW=flow,name", "VERSION=version", "MAY=grants", ">THIS MONTH=spent_month_nusd", NULL};
	struct cli_answer a;
	int r;

	if (c->arg_count > 0)
		return show(c, cli_path(c, "/v1/flows/", c->args[0], ""));
	r = cli_call(c, "GET", "/v1/flows", NULL, &a);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		if (base_jv_len(cli_list(a.root, "flows")) == 0)
			cli_put(c, "no flow is deployed; aios deploy deploys flows/*.js\n");
		else
			cli_table(c, cli_list(a.root, "flows"), columns);
	}
	cli_answer_done(&a);
	return CLI_OK;
}

/* --- the log --- */

static void put_event(struct cli *c, struct base_jv e)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	struct base_buf cell;

	base_buf_init(&cell, 1 << 20);
	cli_put(c, "%s", cli_paint(c, "dim"));
	cli_time(&c->out, base_jv_int(base_jv_get(e, "at"), 0));
	cli_put(c, " %7lld%s %s", (long long)base_jv_int(base_jv_get(e, "seq"), 0), cli_paint(c, "off"),
		cli_paint(c, "bold"));
	cli_text(c, base_jv_str(base_jv_get(e, "type")));
	cli_put(c, "%s", cli_paint(c, "off"));
	while (base_jv_next(e, &it, &key, &v)) {
		if (base_str_is(key, "at") || base_str_is(key, "seq") || base_str_is(key, "type"))
			continue;
		base_buf_clear(&cell);
		cli_cell(&cell, key, v);
		if (cell.len == 0 || base_str_is(base_buf_view(&cell), "0"))
			continue;
		cli_put(c, " %s", cli_paint(c, "dim"));
		cli_text(c, key);
		cli_put(c, "=%s", cli_paint(c, "off"));
		base_buf_str(&c->out, base_str_sub(base_buf_view(&cell), 0, 120));
		if (cell.len > 120)
			cli_put(c, "…");
	}
	cli_put(c, "\n");
	base_buf_done(&cell);
}

static void on_event(struct cli *c, struct base_str data)
{
	struct base_json *doc;

	if (c->json) {
		base_buf_str(&c->out, data);
		base_buf_char(&c->out, '\n');
	} else if (base_json_parse(data, &doc, NULL) == 0) {
		put_event(c, base_json_root(doc));
		base_json_free(doc);
	}
	cli_flush(c);
}

/* With -f and --json too, one event a line. */
void cli_events(struct cli *c, struct base_jv list, bool lines)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv e;

	while (base_jv_next(list, &it, &key, &e)) {
		if (lines) {
			base_jv_write(e, &c->out);
			base_buf_char(&c->out, '\n');
		} else {
			put_event(c, e);
		}
	}
}

int cmd_log_tail(struct cli *c)
{
	const char *path = "/v1/events";
	struct cli_answer a;
	char after[32];
	int r;

	path = cli_query(c, path, "after", cli_opt(c, "after"));
	path = cli_query(c, path, "limit", cli_opt(c, "limit") ? cli_opt(c, "limit") : "20");
	r = cli_call(c, "GET", path, NULL, &a);
	if (r != 0)
		return r;
	if (cli_flag(c, "follow") || !cli_print_json(c, &a))
		cli_events(c, cli_list(a.root, "events"), c->json);
	snprintf(after, sizeof(after), "%lld", (long long)base_jv_int(base_jv_get(a.root, "last"), 0));
	cli_answer_done(&a);
	cli_flush(c);
	return cli_flag(c, "follow") ? cli_stream(c, cli_query(c, "/v1/events", "after", after), on_event)
				     : CLI_OK;
}

int cmd_log_verify(struct cli *c)
{
	struct cli_answer a;
	struct base_buf body;
	bool ok;
	int r;

	base_buf_init(&body, 256);
	base_buf_cstr(&body, cli_flag(c, "replay") ? "{\"replay\":true}" : "{}");
	r = cli_call(c, "POST", "/v1/log/verify", &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	ok = base_jv_bool(base_jv_get(a.root, "ok"), false);
	if (!cli_print_json(c, &a)) {
		cli_put(c, "%s%s%s, %lld events%s\n", cli_paint(c, ok ? "green" : "red"),
			ok ? "the log is whole" : "the log is NOT whole", cli_paint(c, "off"),
			(long long)base_jv_int(base_jv_get(a.root, "seq"), 0),
			base_jv_bool(base_jv_get(a.root, "replayed"), false) && ok
				? "; folded from the start it gives the live state"
				: "");
		if (base_jv_kind(base_jv_get(a.root, "bad")) == BASE_JSON_INT)
			cli_put(c, "the first bad event is %lld\n",
				(long long)base_jv_int(base_jv_get(a.root, "bad"), 0));
		if (base_jv_str(base_jv_get(a.root, "message")).len > 0) {
			cli_text(c, base_jv_str(base_jv_get(a.root, "message")));
			cli_put(c, "\n");
		}
	}
	cli_answer_done(&a);
	return ok ? CLI_OK : CLI_FAILED;
}

int cmd_views_rebuild(struct cli *c)
{
	struct cli_answer a;
	struct base_buf body;
	int r;

	base_buf_init(&body, 16);
	base_buf_cstr(&body, "{}");
	r = cli_call(c, "POST", "/v1/views/rebuild", &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		cli_put(c, "rebuilt; ");
		cli_value(c, a.root, 0);
	}
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_views_dump(struct cli *c)
{
	return show(c, "/v1/views/dump");
}

/* --- open, version --- */

static void show_in_browser(const char *url)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (!freopen("/dev/null", "r+", stdin) || !freopen("/dev/null", "w", stdout) ||
			!freopen("/dev/null", "w", stderr))
			_exit(1);
		execlp("xdg-open", "xdg-open", url, (char *)NULL);
		_exit(1);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

int cmd_open(struct cli *c)
{
	bool desktop = (getenv("DISPLAY") && *getenv("DISPLAY")) ||
		       (getenv("WAYLAND_DISPLAY") && *getenv("WAYLAND_DISPLAY"));
	struct cli_answer a;
	struct base_buf body;
	struct base_str url;
	int r;

	base_buf_init(&body, 16);
	base_buf_cstr(&body, "{}");
	r = cli_call(c, "POST", "/v1/sessions", &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	url = base_arena_dup(c->arena, base_jv_str(base_jv_get(a.root, "url")));
	if (!cli_print_json(c, &a)) {
		cli_text(c, url);
		cli_put(c, "\n");
		cli_flush(c);
		fprintf(stderr, "It works once, for %lld seconds.\n",
			(long long)base_jv_int(base_jv_get(a.root, "expires_s"), 0));
		if (desktop && !cli_flag(c, "print") && url.ptr && base_str_starts(url, BASE_STR("http")))
			show_in_browser(url.ptr);
	}
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_version(struct cli *c)
{
	const curl_version_info_data *curl = curl_version_info(CURLVERSION_NOW);

	if (c->json)
		cli_put(c, "{\"aios\":\"%s\",\"libcurl\":\"%s\",\"libsodium\":\"%s\"}\n", CLI_VERSION,
			curl->version, sodium_version_string());
	else
		cli_put(c, "aios %s (libcurl %s, libsodium %s)\n", CLI_VERSION, curl->version,
			sodium_version_string());
	return CLI_OK;
}
