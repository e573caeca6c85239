#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/jail_int.h"

/*
 * Landlock by bare system calls: the headers of the oldest supported distribution know only its first
 * versions, and the kernel may be newer. The numbers are the same on every architecture.
 */
enum {
	NR_CREATE_RULESET = 444,
	NR_ADD_RULE = 445,
	NR_RESTRICT_SELF = 446,
	CREATE_RULESET_VERSION = 1,
	RULE_PATH_BENEATH = 1,
};

#define FS_EXECUTE (UINT64_C(1) << 0)
#define FS_WRITE_FILE (UINT64_C(1) << 1)
#define FS_READ_FILE (UINT64_C(1) << 2)
#define FS_READ_DIR (UINT64_C(1) << 3)
#define FS_REMOVE_DIR (UINT64_C(1) << 4)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_DIR (UINT64_C(1) << 7)
#define FS_MAKE_REG (UINT64_C(1) << 8)
#define FS_REFER (UINT64_C(1) << 13)	/* since ABI 2 */
#define FS_TRUNCATE (UINT64_C(1) << 14) /* since ABI 3 */
#define NET_BIND_TCP (UINT64_C(1) << 0) /* since ABI 4 */
#define NET_CONNECT_TCP (UINT64_C(1) << 1)
#define SCOPE_ABSTRACT (UINT64_C(1) << 0) /* since ABI 6 */
#define SCOPE_SIGNAL (UINT64_C(1) << 1)

struct ruleset_attr {
	uint64_t fs;
	uint64_t net;
	uint64_t scoped;
};

struct path_beneath {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

/* What name resolution and TLS read. Missing ones are skipped. */
static const char *const net_ro[] = {"/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf",
	"/etc/gai.conf", "/etc/services", "/etc/protocols", "/etc/ssl", "/etc/pki", "/etc/ca-certificates",
	"/etc/ld.so.cache", "/etc/localtime", "/usr/share/ca-certificates",
	"/usr/local/share/ca-certificates", "/usr/share/zoneinfo", "/usr/lib", "/usr/lib64", "/usr/local/lib",
	"/lib", "/lib64", "/run/systemd/resolve", "/dev/null", "/dev/urandom", NULL};

const char *const jail_devices[] = {"/dev/null", "/dev/urandom", NULL};

int jail_landlock_abi(void)
{
	long abi = syscall(NR_CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);
	return abi < 0 ? 0 : (int)abi;
}

static uint64_t fs_all(int abi)
{
	uint64_t all = (UINT64_C(1) << 13) - 1;
	if (abi >= 2)
		all |= FS_REFER;
	if (abi >= 3)
		all |= FS_TRUNCATE;
	return all;
}

static size_t attr_size(int abi)
{
	if (abi >= 6)
		return sizeof(struct ruleset_attr);
	return abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
}

/* Adds one path; a missing one is an error only where `must` is set. */
static int add_path(int ruleset, const char *path, uint64_t allowed, bool must, struct base_err *err)
{
	int fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0) {
		int code = -errno;
		return must ? base_err_set(err, code, "sandbox: cannot open %s: %s", path, strerror(-code))
			    : 0;
	}
	struct stat st;
	if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
		allowed &= FS_READ_FILE | FS_WRITE_FILE | FS_EXECUTE | FS_TRUNCATE;
	struct path_beneath rule = {.allowed = allowed, .fd = fd};
	long rc = syscall(NR_ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0);
	int code = -errno;
	(void)close(fd);
	return rc < 0 ? base_err_set(err, code, "sandbox: Landlock refuses %s: %s", path, strerror(-code))
		      : 0;
}

static int add_paths(int ruleset, const char *const *paths, uint64_t allowed, bool must, struct base_err *err)
{
	for (size_t i = 0; paths && paths[i]; i++) {
		int rc = add_path(ruleset, paths[i], allowed, must, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int add_rules(int ruleset, const struct jail_options *o, uint64_t handled, struct base_err *err)
{
	uint64_t ro = FS_READ_FILE | FS_READ_DIR;
	uint64_t rw = (ro | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG |
			      FS_REFER | FS_TRUNCATE) &
		      handled;
	int rc = add_paths(ruleset, o->dirs_rw, rw, true, err);
	if (rc == 0)
		rc = add_paths(ruleset, o->dirs_ro, ro, true, err);
	if (rc == 0 && o->profile == JAIL_NET)
		rc = add_paths(ruleset, net_ro, ro, false, err);
	if (rc == 0 && (o->profile == JAIL_VIEWS || o->profile == JAIL_VAULT))
		rc = add_paths(ruleset, jail_devices, ro, false, err);
	return rc;
}

int jail_landlock(const struct jail_options *o, struct base_err *err)
{
	int abi = jail_landlock_abi();
	/* The first version forbids every link and rename from one folder to another: a Maildir could not
	 * deliver. */
	if (abi < 1 || (abi == 1 && o->profile == JAIL_NET && o->dirs_rw && o->dirs_rw[0]))
		return 0;
	struct ruleset_attr attr = {.fs = fs_all(abi), .scoped = SCOPE_ABSTRACT | SCOPE_SIGNAL};
	attr.net = o->profile == JAIL_NET ? NET_BIND_TCP : NET_BIND_TCP | NET_CONNECT_TCP;
	int ruleset = (int)syscall(NR_CREATE_RULESET, &attr, attr_size(abi), 0);
	if (ruleset < 0)
		return base_err_set(err, -errno, "sandbox: Landlock: %s", strerror(errno));
	bool files = o->profile == JAIL_VIEWS || o->profile == JAIL_VAULT || o->profile == JAIL_NET;
	int rc = files ? add_rules(ruleset, o, attr.fs, err) : 0;
	if (rc == 0 && syscall(NR_RESTRICT_SELF, ruleset, 0) < 0)
		rc = base_err_set(err, -errno, "sandbox: Landlock: %s", strerror(errno));
	(void)close(ruleset);
	return rc < 0 ? rc : 1;
}
