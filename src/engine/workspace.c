#include "engine/engine_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int make_dir(const char *path, struct base_err *err)
{
	struct stat st;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return base_err_set(err, -errno, "cannot make %s: %s", path, strerror(errno));
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return base_err_set(err, -ENOTDIR, "%s is not a folder", path);
	return 0;
}

static char *join(const char *a, const char *b)
{
	char *s;

	return asprintf(&s, "%s/%s", a, b) < 0 ? NULL : s;
}

static char *bin_dir(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	if (n <= 0)
		return NULL;
	path[n] = '\0';
	slash = strrchr(path, '/');
	if (!slash)
		return NULL;
	*slash = '\0';
	return strdup(path);
}

/* Who has it, as they wrote; "" if nothing can be read. */
static void read_holder(int fd, char pid[16])
{
	ssize_t n = pread(fd, pid, 15, 0);

	pid[n > 0 ? n : 0] = '\0';
}

/*
 * An aiosd that was killed while it started a process leaves the lock to that process for the moment until the kernel
 * ends it too: whoever starts it again at once must not be told that it is still there.
 */
static bool take_lock(int fd)
{
	char pid[16];

	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		long holder;

		read_holder(fd, pid);
		holder = strtol(pid, NULL, 10);
		if (i == 100 || holder <= 0 || kill((pid_t)holder, 0) == 0 || errno != ESRCH)
			return false;
		(void)poll(NULL, 0, 20);
	}
	return true;
}

static int lock(struct engine_paths *p, struct base_err *err)
{
	char *path = join(p->run, "lock");
	char pid[16] = "";
	int fd;

	if (!path)
		return base_err_set(err, -ENOMEM, "out of memory");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	free(path);
	if (fd < 0)
		return base_err_set(err, -errno, "cannot open %s/lock: %s", p->run, strerror(errno));
	if (!take_lock(fd)) {
		read_holder(fd, pid);
		close(fd);
		return base_err_set(err, -EBUSY,
			"another aiosd (pid %s) already has the workspace %s; stop it first",
			pid[0] ? pid : "unknown", p->workspace);
	}
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, strlen(pid), 0) < 0) {
		close(fd);
		return base_err_set(err, -errno, "cannot write %s/lock: %s", p->run, strerror(errno));
	}
	p->lock_fd = fd;
	return 0;
}

int engine_workspace_open(struct engine_paths *p, const char *dir, struct base_err *err)
{
	char real[PATH_MAX];
	int rc;

	memset(p, 0, sizeof(*p));
	p->lock_fd = -1;
	if (!realpath(dir, real))
		return base_err_set(err, -errno, "no workspace at %s: %s (make one with `aios init`)", dir,
			strerror(errno));
	p->workspace = strdup(real);
	p->aios = join(real, ".aios");
	p->files = join(real, "files");
	p->bin = bin_dir();
	if (!p->workspace || !p->aios || !p->files || !p->bin)
		return base_err_set(err, -ENOMEM, "out of memory");
	p->log = join(p->aios, "log");
	p->views = join(p->aios, "views");
	p->vault = join(p->aios, "vault");
	p->run = join(p->aios, "run");
	if (!p->log || !p->views || !p->vault || !p->run)
		return base_err_set(err, -ENOMEM, "out of memory");
	rc = make_dir(p->aios, err);
	rc = rc ? rc : make_dir(p->files, err);
	rc = rc ? rc : make_dir(p->log, err);
	rc = rc ? rc : make_dir(p->views, err);
	rc = rc ? rc : make_dir(p->vault, err);
	rc = rc ? rc : make_dir(p->run, err);
	return rc ? rc : lock(p, err);
}

void engine_workspace_done(struct engine_paths *p)
{
	char *door = p->run ? join(p->run, "door.json") : NULL;

	if (door && p->lock_fd >= 0)
		unlink(door);
	free(door);
	if (p->lock_fd >= 0)
		close(p->lock_fd);
	free(p->workspace);
	free(p->aios);
	free(p->files);
	free(p->bin);
	free(p->log);
	free(p->views);
	free(p->vault);
	free(p->run);
	memset(p, 0, sizeof(*p));
	p->lock_fd = -1;
}

int engine_workspace_announce(const struct engine_paths *p, unsigned port, struct base_err *err)
{
	char text[96];
	char *path = join(p->run, "door.json"), *tmp = join(p->run, "door.json.tmp");
	int fd, rc = 0;

	if (!path || !tmp) {
		rc = base_err_set(err, -ENOMEM, "out of memory");
		goto out;
	}
	snprintf(text, sizeof(text), "{\"pid\":%d,\"port\":%u}\n", (int)getpid(), port);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || rename(tmp, path) < 0)
		rc = base_err_set(err, -errno, "cannot write %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
out:
	free(path);
	free(tmp);
	return rc;
}

/* A door of the aiosd before may need a moment to go: an address in use is tried again for a while. */
static int bind_patiently(int fd, const struct sockaddr *a, socklen_t len)
{
	struct timespec pause = {.tv_nsec = 20000000};

	for (int i = 0;; i++) {
		if (bind(fd, a, len) == 0 && listen(fd, 1024) == 0)
			return 0;
		if (errno != EADDRINUSE || i >= 100)
			return -errno;
		nanosleep(&pause, NULL);
	}
}

int engine_listen_tcp(const char *address, unsigned port, unsigned *ret_port, struct base_err *err)
{
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} a = {.six = {0}};
	bool six = strchr(address, ':') != NULL;
	socklen_t len = six ? sizeof(a.six) : sizeof(a.four);
	int one = 1, fd, rc;

	a.any.sa_family = six ? AF_INET6 : AF_INET;
	if (inet_pton(a.any.sa_family, address, six ? (void *)&a.six.sin6_addr : (void *)&a.four.sin_addr) !=
		1)
		return base_err_set(err, -EINVAL,
			"door.listen: %s is not an address (127.0.0.1, 0.0.0.0, ::1, ::)", address);
	if (six)
		a.six.sin6_port = htons((uint16_t)port);
	else
		a.four.sin_port = htons((uint16_t)port);
	fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return base_err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	rc = bind_patiently(fd, &a.any, len);
	if (rc == 0 && getsockname(fd, &a.any, &len) < 0)
		rc = -errno;
	if (rc < 0) {
		close(fd);
		return base_err_set(err, rc,
			"cannot listen on %s:%u: %s (choose another with `door: { port: N }` in "
			"aios.yaml)",
			address, port, strerror(-rc));
	}
	*ret_port = ntohs(six ? a.six.sin6_port : a.four.sin_port);
	return fd;
}

int engine_listen_unix(const char *path, struct base_err *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd, rc;

	if (strlen(path) >= sizeof(a.sun_path))
		return base_err_set(
			err, -ENAMETOOLONG, "the path of the local door is too long for a socket: %s", path);
	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return base_err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	unlink(path);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || chmod(path, 0600) < 0 || listen(fd, 1024) < 0) {
		rc = -errno;
		close(fd);
		return base_err_set(err, rc, "cannot listen on %s: %s", path, strerror(-rc));
	}
	return fd;
}
