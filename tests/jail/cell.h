#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "jail/jail.h"

/* Children that enter a sandbox and do one thing there. */
enum {
	CELL_REFUSED = 200, /* jail_enter failed */
	CELL_KILLED = 1000, /* plus the signal */
	CELL_FEATURES_MAX = 512,
};

struct cell {
	struct jail_options jail;
	unsigned uid;	       /* become this user first; 0: stay who we are */
	int (*act)(void *arg); /* in the sandbox; its result is the exit code: 0 good, an errno value for a
				  refusal */
	void *arg;
	void (*meanwhile)(void *arg); /* in the parent; may be NULL */
};

/* Runs it. Returns the exit code of `act`, CELL_REFUSED, or CELL_KILLED + signal. ret_features may be NULL.
 */
int cell_run(const struct cell *c, char ret_features[CELL_FEATURES_MAX]);

/* A new folder of mode 0777, below the system's temporary one. */
void cell_make_dir(char *ret, size_t size);
void cell_remove_dir(const char *dir);

/* Whether the features name one. */
bool cell_has(const char *features, const char *name);
