#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "connect/connect.h"
#include "jail/jail.h"
#include "wire/outcome.h"

/* Of addresses, not of memory: each thread reserves more than it uses. */
static const size_t memory_max = (size_t)4 << 30;

/* libcurl keeps copies of what it sends, headers and passwords among them: what it frees is wiped. */
static void wipe_free(void *p)
{
	if (p)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

static void *wipe_realloc(void *p, size_t size)
{
	size_t old = p ? malloc_usable_size(p) : 0;
	void *to = malloc(size);

	if (!to)
		return NULL;
	if (p)
		memcpy(to, p, old < size ? old : size);
	wipe_free(p);
	return to;
}

static int fail(const struct base_err *err)
{
	fprintf(stderr, "aios-connect: %s\n", err->text);
	return 1;
}

int main(int argc, char **argv)
{
	const char *dirs[] = {argc > 1 ? argv[1] : NULL, NULL};
	int files_fd = -1;
	int keep[] = {-1, -1};
	struct jail_options jail = {
		.profile = JAIL_NET, .dirs_rw = dirs, .memory_max = memory_max, .keep = keep};
	struct base_buf sandbox;
	struct base_err err = {0};
	int r;

	signal(SIGPIPE, SIG_IGN);
	mallopt(M_ARENA_MAX, 2); /* or each thread of a mail server or a name takes a heap of its own */
	base_buf_init(&sandbox, 4096);
	if (argc > 1) {
		files_fd = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (files_fd < 0)
			fprintf(stderr,
				"aios-connect: %s: cannot be opened; file actions and the Maildir are off\n",
				argv[1]);
		keep[0] = files_fd;
	}
	if (sodium_init() < 0 || curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, wipe_free, wipe_realloc,
					 strdup, calloc) != CURLE_OK) {
		base_err_set(&err, -EIO, "libsodium or libcurl does not start");
		return fail(&err);
	}
	if (jail_enter(&jail, &sandbox, &err) < 0)
		return fail(&err);
	base_buf_char(&sandbox, 0);
	r = connect_run(
		&(struct connect_options){
			.wire_fd = WIRE_FD, .files_fd = files_fd, .sandbox = {sandbox.ptr, sandbox.len - 1}},
		&err);
	base_buf_done(&sandbox);
	curl_global_cleanup();
	if (r == 0 || r == -EPIPE)
		return 0;
	return fail(&err);
}
