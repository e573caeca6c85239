#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/*
 * What a process gives up right after exec, before it reads its first frame. Each process's main calls
 * jail_enter with its profile. Always applied: no_new_privs, seccomp allow-list (kill the process), rlimits,
 * no core dumps, all descriptors but 0-2 and 3 (and `keep`) closed, environment cleared but for TZ=UTC. Added
 * where the kernel grants them: Landlock, and new user, pid (by the spawner), network, ipc, uts and mount
 * namespaces.
 */
enum jail_profile {
	JAIL_PURE, /* aios-flow, aios-parse, aios-pass: memory, read, write, poll on open descriptors, exit; nothing else
		    */
	JAIL_VIEWS, /* the same, and files below one folder (SQLite) */
	JAIL_VAULT, /* files below one folder; getrandom; no sockets */
	JAIL_NET,   /* aios-connect: sockets out, name resolution, files below its folders */
	JAIL_DOOR,  /* accept on an inherited listening socket; no connect, no files */
};

struct jail_options {
	enum jail_profile profile;
	const char *const *dirs_rw; /* NULL-terminated; folders that stay writable (Landlock) */
	const char *const *dirs_ro; /* NULL-terminated; folders that stay readable */
	size_t memory_max;	    /* RLIMIT_AS; 0: no limit */
	const int *keep;	    /* further descriptors to keep, ended by -1; may be NULL */
};

/* Enters. On success appends what was granted to `ret_features`, space separated: "seccomp landlock userns
 * netns ipcns". A missing Landlock or namespace is not an error; a missing seccomp or no_new_privs is
 * (-ENOSYS and a text). */
int jail_enter(const struct jail_options *o, struct base_buf *ret_features, struct base_err *err)
	__attribute__((warn_unused_result));

/* What this kernel would grant, for `aios doctor`: appends one line each. Forks a child to try. */
void jail_probe(struct base_buf *ret);
