#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/jail_int.h"

/* The id that the kernel shows for every user who has none in a namespace. */
enum { OVERFLOW_ID = 65534 };

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = write(fd, text, strlen(text));
	(void)close(fd);
	return n == (ssize_t)strlen(text);
}

/* Some distributions give an ordinary user a namespace without any right in it, its id map included. */
static bool useless_for_users(void)
{
	char c = '0';
	int fd = open("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, &c, 1);
	(void)close(fd);
	return n == 1 && c == '1' && geteuid() != 0;
}

/* Maps the own ids onto themselves, so that files and peers keep the owners that they have outside. */
static bool map_ids(uid_t uid, gid_t gid)
{
	char text[64];
	snprintf(text, sizeof(text), "%u %u 1\n", (unsigned)uid, (unsigned)uid);
	if (!write_file("/proc/self/uid_map", text))
		return false;
	if (!write_file("/proc/self/setgroups", "deny"))
		return false;
	snprintf(text, sizeof(text), "%u %u 1\n", (unsigned)gid, (unsigned)gid);
	return write_file("/proc/self/gid_map", text);
}

/* What stays of the file system: each at the path that it has outside. */
struct stay {
	const char *path;
	int fd;
};

enum { STAY_MAX = 8, STAGE_PATH_MAX = 4096 };

/* Opens what stays before the stage hides it (it may lie below /tmp). False where a path is not one that can be
 * made again in an empty folder. */
static bool open_stay(const char *const *paths, bool must, struct stay *ret, size_t *n)
{
	for (size_t i = 0; paths && paths[i]; i++) {
		if (paths[i][0] != '/' || strstr(paths[i], "/../") || *n == STAY_MAX)
			return false;
		int fd = open(paths[i], O_PATH | O_CLOEXEC);
		if (fd < 0 && must)
			return false;
		if (fd >= 0)
			ret[(*n)++] = (struct stay){paths[i], fd};
	}
	return true;
}

/* Makes the folders that lead to it, and it itself, below /tmp; binds the original there. */
static bool put_on_stage(const struct stay *s)
{
	char at[STAGE_PATH_MAX], from[40];
	struct stat st;
	int len = snprintf(at, sizeof(at), "/tmp%s", s->path);
	if (len >= (int)sizeof(at) || fstat(s->fd, &st) < 0)
		return false;
	for (char *slash = strchr(at + 5, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(at, 0555) < 0 && errno != EEXIST)
			return false;
		*slash = '/';
	}
	if (S_ISDIR(st.st_mode)) {
		if (mkdir(at, 0555) < 0 && errno != EEXIST)
			return false;
	} else {
		int fd = open(at, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
		if (fd < 0)
			return false;
		(void)close(fd);
	}
	snprintf(from, sizeof(from), "/proc/self/fd/%d", s->fd);
	return mount(from, at, NULL, MS_BIND | MS_REC, NULL) == 0;
}

/* An empty file system on /tmp, with what stays in it. What fails leaves nothing behind. */
static bool set_stage(const struct stay *stay, size_t n)
{
	/* Inodes: its root, and for what stays the folders that lead there. */
	const char *size = n ? "size=1m,nr_inodes=256,mode=0555" : "size=4k,nr_inodes=2,mode=0555";
	bool ok = mount("none", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, size) == 0;
	if (!ok)
		return false;
	for (size_t i = 0; ok && i < n; i++)
		ok = put_on_stage(&stay[i]);
	if (!ok)
		(void)umount2("/tmp", MNT_DETACH);
	return ok;
}

/* Makes a read-only file system the root that is empty but for the process's folders (and, where it has some, the
 * devices that libraries look for). Only with a mount namespace of our own. */
static bool bare_root(const struct jail_options *o)
{
	struct stay stay[STAY_MAX];
	size_t n = 0;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return false;
	bool ok = open_stay(o->dirs_rw, true, stay, &n) && open_stay(o->dirs_ro, true, stay, &n) &&
		  (n == 0 || open_stay(jail_devices, false, stay, &n)) && set_stage(stay, n);
	while (n > 0)
		(void)close(stay[--n].fd);
	if (!ok)
		return false;
	/* pivot_root(".", ".") puts the old root on top of the new one; detaching it leaves the new one. */
	if (chdir("/tmp") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
		return false;
	if (chdir("/") < 0)
		return false;
	return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
		       NULL) == 0;
}

/* All capabilities, those that a new user namespace brings included. */
static int drop_capabilities(struct base_err *err)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}, {0}};
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0,
			0); /* needs a capability; without one there is nothing to drop */
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &head, none) < 0)
		return base_err_set(err, -errno, "sandbox: cannot give up capabilities: %s", strerror(errno));
	return 0;
}

static void left(struct base_buf *ret_features, int flag, const char *name)
{
	if (unshare(flag) == 0)
		base_buf_printf(ret_features, " %s", name);
}

int jail_namespaces(
	const struct jail_options *o, bool foreign, struct base_buf *ret_features, struct base_err *err)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	bool bare = o->profile == JAIL_PURE || o->profile == JAIL_DOOR || o->profile == JAIL_VIEWS ||
		    o->profile == JAIL_VAULT;
	/* As the overflow user every stranger on a socket would look like ourselves. */
	bool user = !foreign && uid != OVERFLOW_ID && !useless_for_users() && unshare(CLONE_NEWUSER) == 0;
	if (user) {
		base_buf_cstr(ret_features, " userns");
		/* Unmapped we are the overflow user: own files still open, but peers could not be told apart.
		 */
		if (!map_ids(uid, gid) && o->profile == JAIL_DOOR)
			return base_err_set(
				err, -EPERM, "sandbox: cannot write /proc/self/uid_map: is /proc mounted?");
	}
	if (user || uid == 0) {
		if (o->profile != JAIL_NET)
			left(ret_features, CLONE_NEWNET, "netns");
		left(ret_features, CLONE_NEWIPC, "ipcns");
		left(ret_features, CLONE_NEWUTS, "utsns");
		if (bare && unshare(CLONE_NEWNS) == 0)
			base_buf_cstr(ret_features, bare_root(o) ? " mntns" : "");
	}
	if (getpid() == 1)
		base_buf_cstr(ret_features, " pidns");
	return foreign ? 0 : drop_capabilities(err);
}
