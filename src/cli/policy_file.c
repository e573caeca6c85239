/* Policy files without aiosd: read by a child process that can do nothing but read and write what it was given. */
#include "cli/policy_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/core.h"
#include "jail/jail.h"
#include "parse/parse.h"

enum { FILES_MAX = 256, FILE_MAX_BYTES = 4 << 20, CHILD_OUT = 3 };

struct files {
	const char *name[FILES_MAX];
	struct base_buf text[FILES_MAX], parsed[FILES_MAX];
	size_t count;
};

static void files_done(struct files *f)
{
	for (size_t i = 0; i < f->count; i++) {
		base_buf_done(&f->text[i]);
		base_buf_done(&f->parsed[i]);
	}
}

static int add(struct cli *c, struct files *f, const char *name, const char *path)
{
	struct base_err err;

	if (f->count == FILES_MAX)
		return cli_fail(c, "a policy has at most %d files", FILES_MAX);
	f->name[f->count] = name;
	base_buf_init(&f->text[f->count], FILE_MAX_BYTES);
	base_buf_init(&f->parsed[f->count], 64 << 20);
	if (cli_read_file(path, FILE_MAX_BYTES, &f->text[f->count++], &err) < 0)
		return cli_fail(c, "%s", err.text);
	return 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_policy(const struct dirent *d)
{
	return d->d_name[0] != '.' && base_str_ends(base_str_of(d->d_name), BASE_STR(".yaml"));
}

static int collect(struct cli *c, struct files *f, unsigned from)
{
	struct dirent **list = NULL;
	int n, r = 0;

	for (unsigned i = from; r == 0 && i < c->arg_count; i++)
		r = add(c, f, c->args[i], c->args[i]);
	if (r != 0 || f->count)
		return r;
	if (!c->workspace)
		return cli_usage(c, "name a policy file, or come into a workspace");
	r = add(c, f, "policy.yaml", cli_in_workspace(c, "policy.yaml"));
	n = r == 0 ? scandir(cli_in_workspace(c, "policy"), &list, is_policy, by_name) : 0;
	for (int i = 0; i < n; i++) {
		const char *name = base_arena_printf(c->arena, "policy/%s", list[i]->d_name).ptr;

		if (r == 0)
			r = add(c, f, name, cli_in_workspace(c, name));
		free(list[i]);
	}
	free(list);
	return r;
}

static void put_problem(struct base_jw *w, const char *file, const struct parse_fault *fault)
{
	base_jw_obj(w);
	base_jw_mcstr(w, "file", file);
	base_jw_mint(w, "line", fault->line ? fault->line : 1);
	base_jw_mint(w, "column", fault->column ? fault->column : 1);
	base_jw_mcstr(w, "message", fault->err.text);
	base_jw_end_obj(w);
}

/* {"policy","tests"} or {"problem","policy"?,"tests"?}. */
static void read_them(struct files *f, struct base_buf *out)
{
	struct core_policy_file file[FILES_MAX];
	struct base_buf policy, problem, tests;
	struct base_jw w = base_jw_of(out);
	struct parse_fault fault;
	struct core_fault where;
	int r = 0;

	base_jw_obj(&w);
	for (size_t i = 0; i < f->count; i++) {
		if (parse_any(BASE_STR("policy"), base_buf_view(&f->text[i]), &f->parsed[i], &fault) < 0) {
			base_jw_key(&w, "problem");
			put_problem(&w, f->name[i], &fault);
			base_jw_end_obj(&w);
			return;
		}
		file[i] = (struct core_policy_file){base_str_of(f->name[i]), base_buf_view(&f->parsed[i])};
	}
	base_buf_init(&policy, 64 << 20);
	base_buf_init(&problem, 1 << 20);
	base_buf_init(&tests, 64 << 20);
	r = core_policy_read(file, f->count, &policy, NULL, &problem);
	if (policy.len)
		base_jw_mraw(&w, "policy", base_buf_view(&policy));
	if (r < 0)
		base_jw_mraw(&w, "problem", base_buf_view(&problem));
	if (policy.len && core_policy_tests(base_buf_view(&policy), &tests, &where) == 0)
		base_jw_mraw(&w, "tests", base_buf_view(&tests));
	base_jw_end_obj(&w);
	base_buf_done(&policy);
	base_buf_done(&problem);
	base_buf_done(&tests);
}

static void write_all(int fd, struct base_str s)
{
	while (s.len) {
		ssize_t n = write(fd, s.ptr, s.len);

		if (n <= 0)
			_exit(1);
		s = base_str_sub(s, (size_t)n, s.len);
	}
}

static void child(struct files *f, int fd)
{
	static const int keep[] = {CHILD_OUT, -1};
	struct jail_options jail = {.profile = JAIL_PURE, .keep = keep, .memory_max = (size_t)2 << 30};
	struct base_buf out;
	struct base_err err;

	if (fd != CHILD_OUT && dup2(fd, CHILD_OUT) < 0)
		_exit(1);
	base_buf_init(&out, 128 << 20);
	parse_init();
	if (jail_enter(&jail, &out, &err) < 0)
		_exit(1);
	base_buf_clear(&out);
	read_them(f, &out);
	write_all(CHILD_OUT, base_buf_view(&out));
	_exit(base_buf_failed(&out) ? 1 : 0);
}

static int read_all(int fd, struct base_buf *ret)
{
	char part[65536];
	ssize_t n;

	while ((n = read(fd, part, sizeof(part))) > 0 || (n < 0 && errno == EINTR))
		if (n > 0)
			base_buf_put(ret, part, (size_t)n);
	return n < 0 || base_buf_failed(ret) ? -1 : 0;
}

int cli_policy_read(struct cli *c, unsigned from, struct base_json **ret)
{
	struct files f = {.count = 0};
	struct base_buf answer;
	int fd[2], status = 0, r = collect(c, &f, from);
	pid_t pid;

	if (r != 0) {
		files_done(&f);
		return r;
	}
	base_buf_init(&answer, 128 << 20);
	if (pipe(fd) < 0 || (pid = fork()) < 0) {
		files_done(&f);
		return cli_fail(c, "no process could be made: %s", strerror(errno));
	}
	if (pid == 0) {
		close(fd[0]);
		child(&f, fd[1]);
	}
	close(fd[1]);
	r = read_all(fd[0], &answer);
	close(fd[0]);
	if (waitpid(pid, &status, 0) < 0 || r < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0 ||
		base_json_parse(base_buf_view(&answer), ret, NULL) < 0)
		r = cli_fail(c, "the process that reads the policy ended");
	base_buf_done(&answer);
	files_done(&f);
	return r;
}

int cli_policy_problem(struct cli *c, struct base_jv problem)
{
	struct base_buf b;

	base_buf_init(&b, 1 << 20);
	base_buf_str(&b, base_jv_str(base_jv_get(problem, "file")));
	base_buf_printf(&b, ":%lld:%lld: ", (long long)base_jv_int(base_jv_get(problem, "line"), 1),
		(long long)base_jv_int(base_jv_get(problem, "column"), 1));
	base_buf_str(&b, base_jv_str(base_jv_get(problem, "message")));
	(void)cli_fail(c, "%.*s", BASE_STR_ARG(base_buf_view(&b)));
	base_buf_done(&b);
	return CLI_FAILED;
}
