#include "engine/engine_int.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wire/outcome.h"

/* Between fork and exec: only what is safe in the child of a process with threads. */

static void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		_exit(126);
	close(fd);
}

static char *put_dec(char *at, unsigned v)
{
	char digits[12];
	int n = 0;

	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*at++ = digits[--n];
	return at;
}

/* One user maps to itself, so that files keep their owner. */
static void map_user(unsigned uid, unsigned gid)
{
	char text[40], *at;

	put_file("/proc/self/setgroups", "deny");
	at = put_dec(text, uid);
	*at++ = ' ';
	at = put_dec(at, uid);
	memcpy(at, " 1", 3);
	put_file("/proc/self/uid_map", text);
	at = put_dec(text, gid);
	*at++ = ' ';
	at = put_dec(at, gid);
	memcpy(at, " 1", 3);
	put_file("/proc/self/gid_map", text);
}

static void child(
	const struct engine_spawn *s, int sock, pid_t parent, unsigned long ns, unsigned uid, unsigned gid)
{
	static char tz[] = "TZ=UTC";
	char *env[] = {tz, NULL};
	sigset_t none;
	int null;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 1); /* or its id maps are not its own; until the program is another */
	if (ns & CLONE_NEWUSER)
		map_user(uid, gid);
	else if (!ns && getppid() != parent)
		_exit(126);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpriority(PRIO_PROCESS, 0, s->nice);
	sock = fcntl(sock, F_DUPFD_CLOEXEC, 16);
	int listener = s->listen_fd >= 0 ? fcntl(s->listen_fd, F_DUPFD_CLOEXEC, 16) : -1;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || sock < 0 || dup2(null, 0) < 0 || dup2(sock, WIRE_FD) < 0)
		_exit(126);
	if (listener >= 0 && dup2(listener, WIRE_FD + 1) < 0)
		_exit(126);
	syscall(SYS_close_range, listener >= 0 ? WIRE_FD + 2 : WIRE_FD + 1, ~0u, 0);
	execve(s->exe, (char *const *)(uintptr_t)s->argv, env);
	_exit(127);
}

static pid_t fork_into(unsigned long ns, int *ret_pidfd)
{
	int pidfd = -1;
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_PIDFD | SIGCHLD | ns, NULL, &pidfd, NULL, 0);

	if (pid > 0)
		*ret_pidfd = pidfd;
	return pid;
}

int engine_spawn(
	const struct engine_spawn *s, pid_t *ret_pid, int *ret_pidfd, int *ret_fd, struct base_err *err)
{
	int pair[2], pidfd = -1, code;
	pid_t pid = -1, parent = getpid();
	unsigned uid = geteuid(), gid = getegid();
	unsigned long ns = !s->new_pidns	  ? 0
			   : s->files && uid == 0 ? CLONE_NEWPID
						  : CLONE_NEWUSER | CLONE_NEWPID;

	if (access(s->exe, X_OK) < 0)
		return base_err_set(err, -errno, "cannot start %s: %s", s->exe, strerror(errno));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return base_err_set(err, -errno, "cannot start %s: %s", s->exe, strerror(errno));
	if (ns)
		pid = fork_into(ns, &pidfd);
	if (pid < 0) {
		ns = 0;
		pid = fork_into(ns, &pidfd);
	}
	if (pid == 0)
		child(s, pair[1], parent, ns, uid, gid);
	code = pid < 0 ? errno : 0;
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return base_err_set(err, -code, "cannot start %s: %s", s->exe, strerror(code));
	}
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	*ret_fd = pair[0];
	return 0;
}

void engine_child_kill(int pidfd)
{
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

bool engine_child_reap(pid_t pid, int pidfd, bool wait, int *ret_status)
{
	(void)pidfd;
	return waitpid(pid, ret_status, wait ? 0 : WNOHANG) == pid;
}

void engine_child_close(int fd)
{
	if (fd >= 0)
		close(fd);
}
