#include "cell.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int in_child(const struct cell *c, int out)
{
	/* The test library catches these and would go on with the next test, in the child. */
	static const int caught[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGSYS, SIGABRT};
	for (size_t i = 0; i < sizeof(caught) / sizeof(*caught); i++)
		signal(caught[i], SIG_DFL);
	if (c->uid != 0 && (setgid(c->uid) < 0 || setuid(c->uid) < 0))
		return CELL_REFUSED;
	/* A change of user made /proc/self root's; a process that was started by that user would own it. */
	if (c->uid != 0 && prctl(PR_SET_DUMPABLE, 1) < 0)
		return CELL_REFUSED;
	int keep[8] = {out, -1};
	for (size_t i = 0; c->jail.keep && c->jail.keep[i] >= 0 && i < 6; i++) {
		keep[i + 1] = c->jail.keep[i];
		keep[i + 2] = -1;
	}
	struct jail_options o = c->jail;
	o.keep = keep;
	struct base_buf features;
	struct base_err err = {0, ""};
	base_buf_init(&features, CELL_FEATURES_MAX);
	if (jail_enter(&o, &features, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return CELL_REFUSED;
	}
	if (write(out, features.ptr, features.len) != (ssize_t)features.len)
		return CELL_REFUSED;
	return c->act(c->arg);
}

int cell_run(const struct cell *c, char ret_features[CELL_FEATURES_MAX])
{
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(in_child(c, fds[1]));
	close(fds[1]);
	if (c->meanwhile)
		c->meanwhile(c->arg);
	char text[CELL_FEATURES_MAX] = "";
	size_t len = 0;
	ssize_t n;
	while (len < sizeof(text) - 1 && (n = read(fds[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	close(fds[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (ret_features)
		memcpy(ret_features, text, sizeof(text));
	return WIFSIGNALED(status) ? CELL_KILLED + WTERMSIG(status) : WEXITSTATUS(status);
}

void cell_make_dir(char *ret, size_t size)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(ret, size, "%s/aios-jail-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(ret));
	assert_int_equal(chmod(ret, 0777), 0);
}

void cell_remove_dir(const char *dir)
{
	DIR *d = opendir(dir);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			unlinkat(dirfd(d), e->d_name, 0);
	}
	closedir(d);
	rmdir(dir);
}

bool cell_has(const char *features, const char *name)
{
	size_t len = strlen(name);
	for (const char *p = features; (p = strstr(p, name)); p += len) {
		if ((p == features || p[-1] == ' ') && (p[len] == ' ' || p[len] == '\0'))
			return true;
	}
	return false;
}
