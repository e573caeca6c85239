#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli_int.h"

/* Keeping the log: archive, search, backup, restore, and what a restore holds. */

static int post(struct cli *c, const char *path, const char *const *members, struct cli_answer *ret)
{
	struct base_buf body;
	struct base_jw w;
	int r;

	base_buf_init(&body, 1 << 16);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	for (; members[0]; members += 2) {
		base_jw_key_str(&w, base_str_of(members[0]));
		if (members[1])
			base_jw_cstr(&w, members[1]);
		else
			base_jw_bool(&w, true);
	}
	base_jw_end_obj(&w);
	r = cli_call(c, "POST", path, &body, ret);
	base_buf_done(&body);
	return r;
}

static long long number(const struct cli_answer *a, const char *name)
{
	return (long long)base_jv_int(base_jv_get(a->root, name), 0);
}

/* --- archive and search --- */

int cmd_log_archive(struct cli *c)
{
	const char *members[6] = {NULL};
	struct cli_answer a;
	size_t n = 0;
	int r;

	if (cli_opt(c, "older")) {
		members[n++] = "older";
		members[n++] = cli_opt(c, "older");
	}
	if (cli_flag(c, "dry"))
		members[n] = "dry";
	r = post(c, "/v1/log/archive", members, &a);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		if (cli_flag(c, "dry"))
			cli_put(c, "%lld events would go into the archive, which ends at event %lld now\n",
				number(&a, "events"), number(&a, "archived"));
		else if (number(&a, "segments") == 0)
			cli_put(c, "nothing is old enough; the archive ends at event %lld\n",
				number(&a, "archived"));
		else
			cli_put(c,
				"%lld events in %lld segments: %lld KiB of %lld KiB; the archive ends at "
				"event %lld\n",
				number(&a, "events"), number(&a, "segments"), number(&a, "bytes") >> 10,
				number(&a, "raw_bytes") >> 10, number(&a, "archived"));
	}
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_log_search(struct cli *c)
{
	const char *path = "/v1/log/search";
	struct cli_answer a;
	int r;

	if (c->arg_count == 0 && !cli_opt(c, "run"))
		return cli_usage(c, "say what to look for: a text, or --run N");
	if (c->arg_count > 0)
		path = cli_query(c, path, "q", c->args[0]);
	path = cli_query(c, path, "run", cli_opt(c, "run"));
	path = cli_query(c, path, "after", cli_opt(c, "after"));
	path = cli_query(c, path, "limit", cli_opt(c, "limit"));
	path = cli_query(c, path, "archived", cli_flag(c, "archived") ? "1" : NULL);
	r = cli_call(c, "GET", path, NULL, &a);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		cli_events(c, cli_list(a.root, "items"), false);
		if (base_jv_len(cli_list(a.root, "items")) == 0)
			cli_put(c, "nothing is found\n");
		if (number(&a, "next"))
			cli_put(c, "there may be more: --after %lld\n", number(&a, "next"));
	}
	cli_answer_done(&a);
	return CLI_OK;
}

/* --- backup --- */

/* The folder need not exist: its parent does. */
static const char *absolute(struct cli *c, const char *name)
{
	char cwd[PATH_MAX], *path = NULL;
	struct base_str s;

	if (name[0] == '/')
		return name;
	if (!getcwd(cwd, sizeof(cwd)) || asprintf(&path, "%s/%s", cwd, name) < 0)
		return name;
	s = base_arena_printf(c->arena, "%s", path);
	free(path);
	return s.ptr;
}

static int offline(struct cli *c, const char *option, const char *dir, const char *workspace)
{
	char path[PATH_MAX + 16];
	int status;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/aiosd", c->self);
	cli_flush(c);
	pid = fork();
	if (pid == 0) {
		if (workspace)
			execl(path, "aiosd", option, dir, "--workspace", workspace, (char *)NULL);
		else
			execl(path, "aiosd", option, dir, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return cli_fail(c, "cannot start %s: %s", path, strerror(errno));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return cli_fail(c, "cannot start %s", path);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? CLI_OK : CLI_FAILED;
}

static void show_progress(const struct cli *c, const struct cli_answer *a)
{
	struct base_str part = base_jv_str(base_jv_get(a->root, "part"));

	if (c->json || !isatty(2) || part.len == 0)
		return;
	fprintf(stderr, "\r\033[K%.*s", BASE_STR_ARG(part));
	if (number(a, "total"))
		fprintf(stderr, " %lld/%lld", number(a, "done"), number(a, "total"));
	fflush(stderr);
}

static int finished(struct cli *c, struct cli_answer *a)
{
	struct base_str state = base_jv_str(base_jv_get(a->root, "state"));

	if (!c->json && isatty(2))
		fprintf(stderr, "\r\033[K");
	if (!base_str_is(state, "done"))
		return cli_fail(c, "%.*s", BASE_STR_ARG(base_jv_str(base_jv_get(a->root, "message"))));
	if (!cli_print_json(c, a)) {
		cli_text(c, base_jv_str(base_jv_get(a->root, "dir")));
		cli_put(c, ": the workspace up to event %lld, %lld files, %lld KiB; verified\n",
			number(a, "seq"), number(a, "files"), number(a, "bytes") >> 10);
	}
	return CLI_OK;
}

int cmd_backup(struct cli *c)
{
	struct timespec pause = {.tv_nsec = 100000000};
	const char *members[6] = {"dir", NULL};
	struct cli_answer a;
	bool running = true;
	int r;

	members[1] = absolute(c, c->args[0]);
	if (cli_flag(c, "verify")) {
		r = offline(c, "--verify-backup", members[1], NULL);
		if (r == CLI_OK && !c->json)
			cli_put(c, "the backup is whole\n");
		return r;
	}
	if (cli_flag(c, "with-key"))
		members[2] = "with_key";
	r = post(c, "/v1/backup", members, &a);
	while (r == 0 && running) {
		cli_answer_done(&a);
		nanosleep(&pause, NULL);
		r = cli_call(c, "GET", "/v1/backup", NULL, &a);
		if (r != 0)
			return r;
		running = base_str_is(base_jv_str(base_jv_get(a.root, "state")), "running");
		show_progress(c, &a);
	}
	if (r != 0)
		return r;
	r = finished(c, &a);
	cli_answer_done(&a);
	return r;
}

int cmd_restore(struct cli *c)
{
	int r = offline(c, "--restore", absolute(c, c->args[0]), absolute(c, c->args[1]));

	if (r != CLI_OK || c->json)
		return r;
	cli_put(c,
		"restored. aios up -C %s starts it: what may have happened after the backup is held until "
		"you let it go on\n"
		"(aios gates; aios resume RUN; aios resume --restored).\n",
		c->args[1]);
	return CLI_OK;
}

/* --- aios resume --restored --- */

int cli_resume_restored(struct cli *c)
{
	const char *members[4] = {NULL};
	long long resumed = 0, more, left = 0;
	struct cli_answer a;
	int r;

	if (cli_opt(c, "flow")) {
		members[0] = "flow";
		members[1] = cli_opt(c, "flow");
	}
	do {
		r = post(c, "/v1/restored/resume", members, &a);
		if (r != 0)
			return r;
		more = number(&a, "resumed");
		left = number(&a, "left");
		resumed += more;
		cli_answer_done(&a);
	} while (more > 0 && left > 0);
	if (c->json)
		cli_put(c, "{\"resumed\":%lld,\"left\":%lld}\n", resumed, left);
	else
		cli_put(c,
			"%lld runs go on, %lld are still held; what may have happened before is asked at a "
			"gate each\n",
			resumed, left);
	return CLI_OK;
}
