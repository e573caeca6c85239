#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli_int.h"

/* up, down, deploy. */

#define NEVER_DEPLOYED ".aios/run/never-deployed"

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void sleep_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

/* --- deploy --- */

static void put_changes(struct cli *c, struct base_jv changed)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(changed, &it, &key, &v)) {
		cli_put(c, "  ");
		cli_text(c, base_jv_str(base_jv_get(v, "what")));
		cli_put(c, " %s", cli_paint(c, "bold"));
		cli_text(c, base_jv_str(base_jv_get(v, "name")));
		cli_put(c, "%s", cli_paint(c, "off"));
		if (base_jv_str(base_jv_get(v, "version")).len > 0) {
			cli_put(c, " %s", cli_paint(c, "dim"));
			cli_text(c, base_str_sub(base_jv_str(base_jv_get(v, "version")), 0, 12));
			cli_put(c, "%s", cli_paint(c, "off"));
		}
		cli_put(c, "\n");
	}
}

static void put_grants(struct cli *c, struct base_jv flow)
{
	struct base_jv_iter it = {0};
	struct base_jv grants = base_jv_get(flow, "grants"), v;
	struct base_str key;

	cli_put(c, "  ");
	cli_text(c, base_jv_str(base_jv_get(flow, "flow")));
	cli_put(c, " %s", cli_paint(c, "dim"));
	cli_text(c, base_str_sub(base_jv_str(base_jv_get(flow, "version")), 0, 12));
	cli_put(c, "%s may do", cli_paint(c, "off"));
	if (base_jv_len(grants) == 0)
		cli_put(c, " nothing outside itself");
	while (base_jv_next(grants, &it, &key, &v)) {
		cli_put(c, " ");
		cli_text(c, base_jv_str(v));
	}
	cli_put(c, "\n");
}

static int put_flows(struct cli *c)
{
	struct base_jv_iter it = {0};
	struct cli_answer a;
	struct base_str key;
	struct base_jv v;
	int r = cli_call(c, "GET", "/v1/flows", NULL, &a);

	if (r != 0)
		return r;
	while (base_jv_next(cli_list(a.root, "flows"), &it, &key, &v))
		put_grants(c, v);
	cli_answer_done(&a);
	return 0;
}

static int send_sources(struct cli *c, bool check, struct cli_answer *ret)
{
	struct base_buf body;
	struct base_err err;
	int r;

	base_buf_init(&body, CLI_BODY_MAX);
	r = cli_sources(c, &body, &err);
	if (r < 0)
		r = cli_fail(c, "%s", err.text);
	else
		r = cli_call(c, "POST", check ? "/v1/deploy/check" : "/v1/deploy", &body, ret);
	base_buf_done(&body);
	return r;
}

int cli_deploy(struct cli *c, bool check)
{
	struct cli_answer a;
	struct base_jv changed;
	int r = send_sources(c, check, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		changed = base_jv_get(a.root, "changed");
		if (base_jv_len(changed) == 0)
			cli_put(c, check ? "what is deployed is what is here\n" : "nothing changed\n");
		else
			cli_put(c, check ? "differs from what is deployed:\n" : "deployed:\n");
		put_changes(c, changed);
		if (!check)
			r = put_flows(c);
	}
	cli_answer_done(&a);
	return r;
}

int cmd_deploy(struct cli *c)
{
	int r;

	if (!cli_flag(c, "check"))
		cli_types(c);
	r = cli_deploy(c, cli_flag(c, "check"));
	if (r == 0 && !cli_flag(c, "check"))
		unlink(cli_in_workspace(c, NEVER_DEPLOYED));
	return r;
}

/* --- up
 * -------------------------------------------------------------------------------------------------------------
 */

static const char *aiosd_path(struct cli *c)
{
	const char *path = base_arena_printf(c->arena, "%s/aiosd", c->self).ptr;

	return path && access(path, X_OK) == 0 ? path : NULL;
}

/* Until the first deploy aiosd knows no configuration: the port of aios.yaml is given to it. A mark tells a workspace
 * that was never deployed from one that was, also after a first start that failed. NULL: let aiosd choose. */
static const char *port_for(struct cli *c)
{
	const char *mark = cli_in_workspace(c, NEVER_DEPLOYED);
	struct base_buf text;
	struct base_err err;
	int port = -1, fd;

	if (cli_opt(c, "port"))
		return cli_opt(c, "port");
	if (access(cli_in_workspace(c, ".aios/log"), F_OK) == 0 && access(mark, F_OK) < 0)
		return NULL;
	fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
	base_buf_init(&text, 4 << 20);
	if (cli_read_file(cli_in_workspace(c, "aios.yaml"), 1 << 20, &text, &err) == 0)
		port = cli_door_port(base_buf_view(&text));
	base_buf_done(&text);
	return port < 0 ? NULL : base_arena_printf(c->arena, "%d", port).ptr;
}

static void become_aiosd(struct cli *c, const char *path, const char *port)
{
	const char *argv[8] = {"aiosd", "--workspace", c->workspace};
	size_t n = 3;

	if (port) {
		argv[n++] = "--port";
		argv[n++] = port;
	}
	if (cli_flag(c, "restored"))
		argv[n] = "--restored";
	execv(path, (char *const *)(uintptr_t)argv);
}

static int open_log(struct cli *c)
{
	int fd;

	if ((mkdir(cli_in_workspace(c, ".aios"), 0700) < 0 && errno != EEXIST) ||
		(mkdir(cli_in_workspace(c, ".aios/run"), 0700) < 0 && errno != EEXIST))
		return -errno;
	fd = open(
		cli_in_workspace(c, ".aios/run/aiosd.log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static pid_t start_behind(struct cli *c, const char *path, const char *port, int log)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t pid = fork();

	if (pid != 0) {
		if (null >= 0)
			close(null);
		return pid;
	}
	setsid();
	dup2(null, 0);
	dup2(log, 1);
	dup2(log, 2);
	if (chdir("/") < 0)
		_exit(126);
	become_aiosd(c, path, port);
	_exit(127);
}

/* The last lines that it wrote: why it does not run. */
static void put_log_end(struct cli *c)
{
	struct base_buf text;
	struct base_err err;
	struct base_str end;
	unsigned lines = 0;

	base_buf_init(&text, 64 << 20);
	if (cli_read_file(cli_in_workspace(c, ".aios/run/aiosd.log"), 32 << 20, &text, &err) == 0) {
		end = base_buf_view(&text);
		while (end.len > 0 && lines <= 5) {
			end.len--;
			lines += end.ptr[end.len] == '\n';
		}
		cli_lines(c, base_str_sub(base_buf_view(&text), end.len ? end.len + 1 : 0, text.len));
		if (c->out.len > 0)
			fwrite(c->out.ptr, 1, c->out.len, stderr);
		base_buf_clear(&c->out);
	}
	base_buf_done(&text);
}

/* Until the door answers. 0, or an exit code when it ends first or takes too long. */
static int wait_up(struct cli *c, pid_t pid)
{
	uint64_t seconds = 30;
	int64_t until;
	long pause = 2;
	int status, r = cli_opt_u64(c, "timeout", &seconds);

	if (r != 0)
		return r;
	until = now_ms() + (int64_t)seconds * 1000;
	for (;;) {
		if (access(cli_in_workspace(c, ".aios/run/door.json"), F_OK) == 0 && cli_answers(c))
			return 0;
		if (waitpid(pid, &status, WNOHANG) == pid) {
			put_log_end(c);
			return cli_fail(c, "aiosd ended at once; its log is %s",
				cli_in_workspace(c, ".aios/run/aiosd.log"));
		}
		if (now_ms() >= until) {
			put_log_end(c);
			return cli_fail(c, "aiosd started but does not answer after %llu s; its log is %s",
				(unsigned long long)seconds, cli_in_workspace(c, ".aios/run/aiosd.log"));
		}
		sleep_ms(pause);
		if (pause < 50)
			pause += pause / 2;
	}
}

/* {"pid","port"} of the aiosd that runs, or zeros. */
static void read_door(struct cli *c, int64_t *ret_pid, int64_t *ret_port)
{
	struct base_json *doc;
	struct base_buf text;
	struct base_err err;

	*ret_pid = *ret_port = 0;
	base_buf_init(&text, 1 << 20);
	if (cli_read_file(cli_in_workspace(c, ".aios/run/door.json"), 65536, &text, &err) == 0 &&
		base_json_parse(base_buf_view(&text), &doc, NULL) == 0) {
		*ret_pid = base_jv_int(base_jv_get(base_json_root(doc), "pid"), 0);
		*ret_port = base_jv_int(base_jv_get(base_json_root(doc), "port"), 0);
		base_json_free(doc);
	}
	base_buf_done(&text);
}

/* Sources that differ are said, never deployed; a fault in them is a fact to know, not a reason not to run.
 */
static int report(struct cli *c, bool ran)
{
	struct cli_answer a;
	int64_t pid, port;
	struct base_jw w;
	bool json = c->json, ok;

	read_door(c, &pid, &port);
	c->json = false;
	ok = send_sources(c, true, &a) == 0;
	c->json = json;
	if (c->json) {
		struct base_buf changed;

		base_buf_init(&changed, 4 << 20);
		if (ok)
			base_jv_write(base_jv_get(a.root, "changed"), &changed);
		w = base_jw_of(&c->out);
		base_jw_obj(&w);
		base_jw_mcstr(&w, "workspace", c->workspace);
		base_jw_mint(&w, "pid", pid);
		base_jw_mint(&w, "port", port);
		base_jw_mbool(&w, "started", !ran);
		base_jw_mraw(&w, "changed", base_buf_view(&changed));
		base_jw_end_obj(&w);
		cli_put(c, "\n");
		base_buf_done(&changed);
	} else {
		cli_put(c, "aiosd %s, port %lld (sign in with aios open)\n", ran ? "runs already" : "runs",
			(long long)port);
		if (ok && base_jv_len(base_jv_get(a.root, "changed")) > 0) {
			cli_put(c, "not deployed yet; aios deploy does:\n");
			put_changes(c, base_jv_get(a.root, "changed"));
		}
	}
	if (ok)
		cli_answer_done(&a);
	return CLI_OK;
}

int cmd_up(struct cli *c)
{
	const char *path = aiosd_path(c), *port;
	pid_t pid;
	int log, r;

	if (!path)
		return cli_fail(c, "there is no aiosd beside this program, in %s", c->self);
	if (access(cli_in_workspace(c, ".aios/run/door.sock"), F_OK) == 0 && cli_answers(c)) {
		if (cli_flag(c, "foreground"))
			return cli_fail(c, "aiosd runs already; aios down stops it");
		return report(c, true);
	}
	log = open_log(c);
	if (log < 0)
		return cli_fail(c, "%s: %s", cli_in_workspace(c, ".aios/run"), strerror(-log));
	port = port_for(c);
	if (cli_flag(c, "foreground")) {
		close(log);
		become_aiosd(c, path, port);
		return cli_fail(c, "%s: %s", path, strerror(errno));
	}
	unlink(cli_in_workspace(c, ".aios/run/door.json"));
	pid = start_behind(c, path, port, log);
	close(log);
	if (pid < 0)
		return cli_fail(c, "cannot start aiosd: %s", strerror(errno));
	r = wait_up(c, pid);
	return r != 0 ? r : report(c, false);
}

/* --- down
 * -----------------------------------------------------------------------------------------------------------
 */

/* A number that was given to another program since is not stopped. A process that ended but was not reaped
 * counts as ended. (Where its program lies is aiosd's own business: it cannot be read from outside.) */
static bool is_aiosd(int64_t pid)
{
	char path[64], stat[64];
	const char *state;
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, stat, sizeof(stat) - 1);
	close(fd);
	if (n <= 0)
		return false;
	stat[n] = '\0';
	state = strstr(stat, " (aiosd) ");
	return state && state[9] != 'Z' && state[9] != 'X';
}

int cmd_down(struct cli *c)
{
	uint64_t seconds = 30;
	int64_t pid, port, until;
	int r = cli_opt_u64(c, "timeout", &seconds);

	if (r != 0)
		return r;
	read_door(c, &pid, &port);
	if (pid <= 1 || !is_aiosd(pid)) {
		if (c->json)
			cli_put(c, "{\"stopped\":false}\n");
		else
			cli_put(c, "aiosd does not run\n");
		return CLI_OK;
	}
	if (kill((pid_t)pid, SIGTERM) < 0)
		return cli_fail(c, "cannot stop aiosd (process %lld): %s", (long long)pid, strerror(errno));
	until = now_ms() + (int64_t)seconds * 1000;
	while (is_aiosd(pid)) {
		if (now_ms() >= until)
			return cli_fail(c, "aiosd (process %lld) still runs after %llu s", (long long)pid,
				(unsigned long long)seconds);
		sleep_ms(10);
	}
	if (c->json)
		cli_put(c, "{\"stopped\":true,\"pid\":%lld}\n", (long long)pid);
	else
		cli_put(c, "stopped\n");
	return CLI_OK;
}
