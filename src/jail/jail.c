#include "jail/jail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "jail/jail_int.h"

/*
 * The order matters:
 *  1. descriptors and environment first: what was open or known outside is gone before anything else runs;
 *  2. namespaces before Landlock and no_new_privs: their set-up writes below /proc and mounts;
 *  3. seccomp last: from then on none of the calls above is possible.
 */

#if JAIL_SANITIZED
/* Leak checks and symbolizers start processes of their own, which the sandbox kills. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:symbolize=0:handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0:use_"
	       "sigaltstack=0";
}
#endif

enum { LAST_STANDARD_FD = 3 };

static bool kept(const struct jail_options *o, int fd)
{
	if (fd <= LAST_STANDARD_FD)
		return true;
	for (size_t i = 0; o->keep && o->keep[i] >= 0; i++) {
		if (o->keep[i] == fd)
			return true;
	}
	return false;
}

/* The smallest kept descriptor that is at least `from`; -1 if there is none. */
static int next_kept(const struct jail_options *o, int from)
{
	int best = -1;
	for (size_t i = 0; o->keep && o->keep[i] >= 0; i++) {
		if (o->keep[i] >= from && (best < 0 || o->keep[i] < best))
			best = o->keep[i];
	}
	return best;
}

static int close_others(const struct jail_options *o, struct base_err *err)
{
	int from = LAST_STANDARD_FD + 1;
	for (;;) {
		while (kept(o, from))
			from++;
		int stop = next_kept(o, from);
		unsigned last = stop < 0 ? ~0U : (unsigned)stop - 1;
		if (syscall(SYS_close_range, (unsigned)from, last, 0) < 0)
			return base_err_set(err, -errno, "sandbox: close_range: %s", strerror(errno));
		if (stop < 0)
			return 0;
		from = stop + 1;
	}
}

/* The strings themselves too: keys may have come in the environment, and they would stay readable in memory.
 */
static int clear_environment(struct base_err *err)
{
	extern char **environ;
	for (char **e = environ; e && *e; e++)
		explicit_bzero(*e, strlen(*e));
	if (clearenv() != 0 || setenv("TZ", "UTC", 1) < 0)
		return base_err_set(err, -ENOMEM, "sandbox: out of memory");
	tzset(); /* reads the zone's file now, never again while TZ stays the same */
	return 0;
}

static int limit(int resource, rlim_t max, const char *name, struct base_err *err)
{
	struct rlimit now;
	if (getrlimit(resource, &now) < 0)
		return base_err_set(err, -errno, "sandbox: %s: %s", name, strerror(errno));
	if (now.rlim_max != RLIM_INFINITY && now.rlim_max < max)
		max = now.rlim_max;
	struct rlimit want = {max, max};
	if (setrlimit(resource, &want) < 0)
		return base_err_set(err, -errno, "sandbox: %s: %s", name, strerror(errno));
	return 0;
}

static rlim_t files_max(enum jail_profile profile)
{
	switch (profile) {
	case JAIL_NET:
		return 4096;
	case JAIL_DOOR:
		return 65536;
	case JAIL_VIEWS:
		return 256;
	default:
		return 64;
	}
}

static int set_limits(const struct jail_options *o, struct base_err *err)
{
	/* One byte, not zero: the kernel takes zero as "no file" but still feeds a core to a collector on a
	 * pipe. */
	int rc = limit(RLIMIT_CORE, 1, "RLIMIT_CORE", err);
	if (rc == 0)
		rc = limit(RLIMIT_NOFILE, files_max(o->profile), "RLIMIT_NOFILE", err);
	if (rc == 0 && o->memory_max > 0 && !JAIL_SANITIZED)
		rc = limit(RLIMIT_AS, o->memory_max, "RLIMIT_AS", err);
	return rc;
}

/* Whether we are root and some writable folder is another user's. */
static bool has_foreign_dirs(const struct jail_options *o)
{
	struct stat st;
	for (size_t i = 0; geteuid() == 0 && o->dirs_rw && o->dirs_rw[i]; i++) {
		if (stat(o->dirs_rw[i], &st) == 0 && st.st_uid != 0)
			return true;
	}
	return false;
}

int jail_enter(const struct jail_options *o, struct base_buf *ret_features, struct base_err *err)
{
	struct base_buf features;
	base_buf_init(&features, 256);
	jail_attack_arm();
	int rc = close_others(o, err);
	if (rc == 0)
		rc = clear_environment(err);
	if (rc == 0)
		rc = jail_namespaces(o, has_foreign_dirs(o), &features, err);
	/* No core, no debugger, no reader of /proc/PID/mem of this user; behind the namespaces, whose id maps it would
	 * close too. */
	if (rc == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		rc = base_err_set(err, -errno, "sandbox: PR_SET_DUMPABLE: %s", strerror(errno));
	if (rc == 0)
		rc = set_limits(o, err);
	if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		rc = base_err_set(err, -ENOSYS, "sandbox: this kernel has no no_new_privs");
	int landlock = rc == 0 ? jail_landlock(o, err) : rc;
	if (landlock >= 0)
		rc = jail_seccomp(o->profile, err);
	else
		rc = landlock;
	if (rc == 0) {
		base_buf_cstr(ret_features, landlock ? "seccomp landlock" : "seccomp");
		base_buf_str(ret_features, base_buf_view(&features));
	}
	base_buf_done(&features);
	if (rc == 0)
		jail_attack();
	return rc;
}
