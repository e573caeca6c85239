#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/keep.h"

/*
 * A note outside the workspace of how far its log is: $XDG_STATE_HOME/aios/anchors/ID, or below ~/.local/state. Old files
 * that are put back by hand end before it or beside it, and would do again what was done since; that is refused.
 *
 * Invariants
 *
 * W1 The anchor is never ahead of what is durable: it is written behind a commit, at most every so often, and at the end.
 *
 * W2 Where there is no home there is no anchor, and nothing is refused.
 */

enum { LAZY_MS = 2000 };

static int make_dirs(char *path)
{
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST) {
			*p = '/';
			return -errno;
		}
		*p = '/';
	}
	return 0;
}

static char *path_of(const char *id)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char *path = NULL;
	int n = -1;

	if (!*id)
		return NULL;
	if (state && state[0] == '/')
		n = asprintf(&path, "%s/aios/anchors/%s", state, id);
	else if (!state && home && home[0] == '/')
		n = asprintf(&path, "%s/.local/state/aios/anchors/%s", home, id);
	return n < 0 ? NULL : path;
}

static bool read_anchor(const char *path, uint64_t *ret_seq, struct base_hash *ret_chain)
{
	char text[256], hex[65];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return sscanf(text, "aios anchor 1 %" SCNu64 " %64[0-9a-f]", ret_seq, hex) == 2 &&
	       base_hash_from_hex(base_str_of(hex), ret_chain) == 0;
}

/* 0: the log goes on from the anchor; 1: behind it, 2: beside it. */
static int compare(struct engine *e, uint64_t seq, const struct base_hash *chain, struct base_err *err)
{
	struct log_reader *r;
	struct log_commit c;
	int rc;

	if (log_last_seq(e->log) < seq)
		return 1;
	rc = log_reader_new(e->log, &r, err);
	if (rc < 0)
		return rc;
	rc = log_read(r, seq, &c, err);
	if (rc == 0)
		rc = c.first_seq + c.count - 1 == seq && base_hash_eq(&c.chain, chain) ? 0 : 2;
	else if (rc == -EUCLEAN)
		rc = 0; /* damage is another matter: verification tells of it */
	log_reader_free(r);
	return rc;
}

int engine_anchor_check(struct engine *e, struct base_err *err)
{
	struct base_hash chain;
	uint64_t seq;
	int rc;

	if (!e->keep)
		return 0;
	e->keep->anchor = path_of(log_id(e->log));
	if (!e->keep->anchor || e->opt.restored || !read_anchor(e->keep->anchor, &seq, &chain))
		return 0;
	rc = compare(e, seq, &chain, err);
	if (rc <= 0)
		return rc;
	return base_err_set(err, -ESTALE,
		"the log of this workspace %s event %llu, which %s says was written here: older files were "
		"put back, or a copy of "
		"it went on elsewhere. Put the newest files back; or `aios up --restored` takes the log as "
		"restored from a backup: "
		"what may have happened since is held until you let it go on",
		rc == 1 ? "ends before" : "has another", (unsigned long long)seq, e->keep->anchor);
}

/* Not synced: one that is lost or empty after a crash is as if it were not there. */
static void write_anchor(struct engine_keep *k, uint64_t seq, const struct base_hash *chain)
{
	char tmp[PATH_MAX], text[128], hex[65];
	int fd, n;

	base_hash_hex(chain, hex);
	n = snprintf(text, sizeof(text), "aios anchor 1 %" PRIu64 " %s\n", seq, hex);
	if ((size_t)snprintf(tmp, sizeof(tmp), "%s.tmp", k->anchor) >= sizeof(tmp) ||
		make_dirs(k->anchor) < 0)
		return;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	if (write(fd, text, (size_t)n) != n) {
		close(fd);
		unlink(tmp);
		return;
	}
	close(fd);
	if (rename(tmp, k->anchor) == 0)
		k->anchored = seq;
}

void engine_anchor_due(struct engine *e)
{
	struct engine_keep *k = e->keep;
	struct base_hash chain;
	uint64_t seq;

	if (!k)
		return;
	k->anchor_armed = false;
	if (!k->anchor || !e->log)
		return;
	log_head(e->log, &seq, &chain);
	if (seq && seq != k->anchored)
		write_anchor(k, seq, &chain);
}

void engine_anchor_later(struct engine *e)
{
	struct engine_keep *k = e->keep;

	if (!k || !k->anchor || k->anchor_armed)
		return;
	k->anchor_armed = true;
	engine_timer_add(e, ENGINE_TIMER_ANCHOR, 0, LAZY_MS);
}
