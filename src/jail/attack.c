#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "jail/jail_int.h"

/*
 * Test builds only (-Dattack=true): somebody who runs code in any of our processes from the moment on at which it has
 * entered its jail. What is tried stands in "attack.conf" beside the executable, "KIND TARGET", read before the jail is
 * closed; without that file nothing happens. Standard error gets "attack: begun", then "attack: reached" or "attack: refused
 * ERRNO", and the process ends. A jail that kills leaves it at "begun". tests/jail/compromise.py drives it.
 */

static char plan[PATH_MAX + 64];

void jail_attack_arm(void)
{
	char path[PATH_MAX + 16];
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
	char *slash;
	int fd;

	if (n <= 0)
		return;
	path[n] = '\0';
	slash = strrchr(path, '/');
	snprintf(slash ? slash : path, 16, "/attack.conf");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, plan, sizeof(plan) - 1);
	close(fd);
	plan[n > 0 ? n : 0] = '\0';
	plan[strcspn(plan, "\n")] = '\0';
}

/* --- the attempts: 0, or a negative errno --- */

static int result(long r)
{
	return r < 0 ? -errno : 0;
}

static int try_read(const char *path)
{
	char byte;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : result(read(fd, &byte, 1));
}

static int try_write(const char *path)
{
	return result(open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
}

static int try_list(const char *path)
{
	char names[4096];
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : result(syscall(SYS_getdents64, fd, names, sizeof(names)));
}

static int try_tcp(const char *port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return fd < 0 ? -errno : result(connect(fd, (struct sockaddr *)&in, sizeof(in)));
}

static int try_udp(const char *port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return fd < 0 ? -errno : result(sendto(fd, "x", 1, 0, (struct sockaddr *)&in, sizeof(in)));
}

static int try_unix(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	strcpy(un.sun_path, path);
	return fd < 0 ? -errno : result(connect(fd, (struct sockaddr *)&un, sizeof(un)));
}

static int try_listen(const char *unused)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)unused;
	if (fd < 0 || bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0)
		return -errno;
	return result(listen(fd, 1));
}

static int try_exec(const char *path)
{
	char *argv[] = {(char *)(uintptr_t)path, NULL}, *env[] = {NULL};

	return result(execve(path, argv, env));
}

static int try_fork(const char *unused)
{
	long pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	(void)unused;
	if (pid == 0)
		_exit(0);
	return result(pid);
}

static int try_signal(const char *pid)
{
	return result(kill(atoi(pid), 0));
}

static int try_trace(const char *pid)
{
	return result(ptrace(PTRACE_SEIZE, atoi(pid), NULL, NULL));
}

static int try_memory(const char *pid)
{
	char byte;
	struct iovec mine = {&byte, 1}, other = {(void *)(uintptr_t)0x400000, 1};
	ssize_t n = process_vm_readv(atoi(pid), &mine, 1, &other, 1, 0);

	/* A fault at that address is an answer about the other's memory: it was let in. */
	return n < 0 && errno != EFAULT ? -errno : 0;
}

static int try_root(const char *unused)
{
	(void)unused;
	return result(mount("none", "/", "tmpfs", 0, NULL));
}

static int try_keyring(const char *unused)
{
	(void)unused;
	return result(syscall(SYS_add_key, "user", "aios-attack", "x", (size_t)1, -3));
}

static int try_code(const char *unused)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)unused;
	return p == MAP_FAILED ? -errno : 0;
}

static const struct {
	const char *kind;
	int (*attempt)(const char *target);
} attempts[] = {
	{"read", try_read},
	{"write", try_write},
	{"list", try_list},
	{"tcp", try_tcp},
	{"udp", try_udp},
	{"unix", try_unix},
	{"listen", try_listen},
	{"exec", try_exec},
	{"fork", try_fork},
	{"signal", try_signal},
	{"trace", try_trace},
	{"memory", try_memory},
	{"mount", try_root},
	{"keyring", try_keyring},
	{"code", try_code},
};

static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		_exit(3);
}

void jail_attack(void)
{
	char *target = strchr(plan, ' '), text[64];

	if (!plan[0])
		return;
	target = target ? target : plan + strlen(plan);
	if (*target)
		*target++ = '\0';
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		int r;

		if (strcmp(plan, attempts[i].kind) != 0)
			continue;
		say("attack: begun\n");
		r = attempts[i].attempt(target);
		snprintf(text, sizeof(text), r < 0 ? "attack: refused %d\n" : "attack: reached\n", -r);
		say(text);
		_exit(0);
	}
	say("attack: unknown\n");
	_exit(2);
}
