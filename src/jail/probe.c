#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/jail_int.h"

/* The child's half: enters and tells what it got, or why not. Never returns. */
static void try_in_child(enum jail_profile profile, int out)
{
	const int keep[] = {out, -1};
	const struct jail_options o = {.profile = profile, .keep = keep};
	struct base_buf features;
	struct base_err err = {0, ""};
	base_buf_init(&features, 1024);
	int rc = jail_enter(&o, &features, &err);
	struct base_str text = rc < 0 ? base_str_of(err.text) : base_buf_view(&features);
	ssize_t n = write(out, text.ptr, text.len);
	_exit(rc < 0 || n < 0 ? 1 : 0);
}

/* Reads until the end or until the buffer is full. */
static size_t read_all(int fd, char *ret, size_t size)
{
	size_t len = 0;
	while (len < size) {
		ssize_t n = read(fd, ret + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	return len;
}

static void probe(enum jail_profile profile, const char *name, struct base_buf *ret)
{
	int fds[2];
	if (pipe(fds) < 0) {
		base_buf_printf(ret, "%s: cannot try: %s\n", name, strerror(errno));
		return;
	}
	pid_t pid = fork();
	if (pid == 0)
		try_in_child(profile, fds[1]);
	(void)close(fds[1]);
	char text[1024];
	size_t len = read_all(fds[0], text, sizeof(text));
	(void)close(fds[0]);
	int status = 0;
	pid_t done = pid;
	while (pid > 0 && (done = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
		;
	if (pid < 0 || done < 0)
		base_buf_printf(ret, "%s: cannot try: %s\n", name, strerror(errno));
	else if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		base_buf_printf(ret, "%s: %.*s\n", name, (int)len, text);
	else
		base_buf_printf(ret, "%s: refused: %.*s\n", name, (int)len, text);
}

void jail_probe(struct base_buf *ret)
{
	int abi = jail_landlock_abi();
	if (abi > 0)
		base_buf_printf(ret, "landlock: version %d\n", abi);
	else
		base_buf_cstr(ret, "landlock: not in this kernel\n");
	probe(JAIL_PURE, "sandbox of aios-flow, aios-parse and aios-pass", ret);
	probe(JAIL_VIEWS, "sandbox of aios-views", ret);
	probe(JAIL_VAULT, "sandbox of aios-vault", ret);
	probe(JAIL_NET, "sandbox of aios-connect", ret);
	probe(JAIL_DOOR, "sandbox of aios-door", ret);
}
