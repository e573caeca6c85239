/* aios-views DIR: see README.md. */
#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>

#include "jail/jail.h"
#include "views/views.h"
#include "wire/outcome.h"

enum { MEMORY_MAX = 1 << 30 };

int main(int argc, char **argv)
{
	const char *dirs[] = {argc > 1 ? argv[1] : NULL, NULL};
	struct jail_options jail = {.profile = JAIL_VIEWS, .dirs_rw = dirs, .memory_max = MEMORY_MAX};
	struct base_err err = {0};
	struct base_buf sandbox;
	int r;

	if (argc != 2) {
		fprintf(stderr, "usage: aios-views DIR (started by aiosd)\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	base_buf_init(&sandbox, 4096);
	r = sodium_init() < 0 ? base_err_set(&err, -EIO, "libsodium does not start") : 0;
	if (r == 0)
		r = jail_enter(&jail, &sandbox, &err);
	base_buf_char(&sandbox, '\0');
	if (r == 0)
		r = views_serve(&(struct views_options){.wire_fd = WIRE_FD, .sandbox = sandbox.ptr}, &err);
	base_buf_done(&sandbox);
	if (r == 0 || r == -EPIPE)
		return 0;
	fprintf(stderr, "aios-views: %s\n", err.text);
	return 1;
}
