#include <errno.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "jail/jail_int.h"

/*
 * Allow-lists by system call name: libseccomp knows each architecture's numbers, and a name that an
 * architecture (or an old libseccomp) does not have is skipped. What is not listed kills the process.
 */
enum {
	P = 1 << JAIL_PURE,
	W = 1 << JAIL_VIEWS,
	V = 1 << JAIL_VAULT,
	N = 1 << JAIL_NET,
	D = 1 << JAIL_DOOR,
	ALL = P | W | V | N | D,
	FILES = W | V | N,
	SOCKETS = N | D,
};

struct call {
	const char *name;
	unsigned in; /* the profiles */
};

static const struct call allowed[] = {
	/* memory, streams, waiting, ending: everybody's. mmap, mprotect, tgkill, fcntl: see below */
	{"read", ALL},
	{"write", ALL},
	{"readv", ALL},
	{"writev", ALL},
	{"close", ALL},
	{"fstat", ALL},
	{"lseek", ALL},
	{"brk", ALL},
	{"munmap", ALL},
	{"mremap", ALL},
	{"madvise", ALL},
	{"futex", ALL},
	{"sched_yield", ALL},
	{"poll", ALL},
	{"ppoll", ALL},
	{"epoll_wait", ALL},
	{"epoll_pwait", ALL},
	{"epoll_pwait2", ALL},
	{"epoll_ctl", ALL},
	{"restart_syscall", ALL},
	{"rt_sigreturn", ALL},
	{"rt_sigprocmask", ALL},
	{"rt_sigaction", ALL},
	{"exit", ALL},
	{"exit_group", ALL},
	{"getpid", ALL},
	{"gettid", ALL},
	{"clock_gettime", ALL},
	{"clock_getres", ALL},
	{"gettimeofday", ALL},
	{"time", ALL},
	{"getrandom", ALL},
	{"getrusage", ALL},
	{"times", ALL},
	{"setitimer", ALL},
	/* other threads and events of one's own */
	{"epoll_create1", W | V | SOCKETS},
	{"eventfd2", SOCKETS},
	{"timerfd_create", W | SOCKETS},
	{"timerfd_settime", W | SOCKETS},
	{"timerfd_gettime", SOCKETS},
	{"pipe2", SOCKETS},
	{"pipe", SOCKETS},
	{"nanosleep", W | V | SOCKETS},
	{"clock_nanosleep", W | V | SOCKETS},
	{"sigaltstack", SOCKETS},
	{"set_robust_list", SOCKETS},
	{"rseq", SOCKETS},
	{"dup", W | V | SOCKETS},
	{"select", SOCKETS},
	{"pselect6", SOCKETS},
	{"getuid", ALL},
	{"geteuid", ALL},
	{"getgid", ALL},
	{"getegid", ALL},
	/* files; Landlock says which */
	{"openat", FILES},
	{"open", FILES},
	{"openat2", FILES},
	{"pread64", FILES},
	{"pwrite64", FILES},
	{"preadv", FILES},
	{"pwritev", FILES},
	{"fsync", FILES},
	{"fdatasync", FILES},
	{"sync_file_range", FILES},
	{"flock", FILES},
	{"ftruncate", FILES},
	{"fallocate", FILES},
	{"fadvise64", FILES},
	{"unlink", FILES},
	{"unlinkat", FILES},
	{"rename", FILES},
	{"renameat", FILES},
	{"renameat2", FILES},
	{"mkdir", FILES},
	{"mkdirat", FILES},
	{"rmdir", FILES},
	{"link", V | N},
	{"linkat", V | N},
	{"getcwd", FILES},
	{"stat", FILES},
	{"lstat", FILES},
	{"newfstatat", FILES},
	{"statx", FILES},
	{"readlink", FILES},
	{"readlinkat", FILES},
	{"access", FILES},
	{"faccessat", FILES},
	{"faccessat2", FILES},
	{"getdents64", FILES},
	{"fchmod", FILES},
	{"fchmodat", FILES},
	{"fchown", W | V},
	{"utimensat", FILES},
	{"umask", FILES},
	{"fstatfs", FILES},
	/* keys stay out of swap */
	{"mlock", V | N},
	{"mlock2", V | N},
	{"munlock", V | N},
	/* sockets that are there */
	{"sendto", P | SOCKETS},
	{"recvfrom", P | SOCKETS},
	{"sendmsg", SOCKETS},
	{"recvmsg", SOCKETS},
	{"sendmmsg", N},
	{"recvmmsg", N},
	{"shutdown", SOCKETS},
	{"getsockname", SOCKETS},
	{"getpeername", SOCKETS},
	{"getsockopt", SOCKETS},
	{"setsockopt", SOCKETS},
	{"sendfile", D},
	/* sockets in */
	{"accept", D},
	{"accept4", D},
	{"listen", D},
	/* sockets out; socket and clone: see below */
	{"connect", N},
	{"bind", N},
	{"socketpair", N},
	{"uname", N},
	{"sched_getaffinity", N},
	{"getrlimit", SOCKETS},
	{"prlimit64", SOCKETS},
	{"sysinfo", W | N},
	{"membarrier", N},
};

/* What C libraries try and can do without. It reaches nothing and kills nobody. */
static const struct refusal {
	const char *name;
	unsigned in;
	int error;
} refused[] = {
	{"open", P | D, EACCES},
	{"openat", P | D, EACCES},
	{"stat", P | D, EACCES},
	{"lstat", P | D, EACCES},
	{"newfstatat", P | D, EACCES},
	{"statx", P | D, EACCES},
	{"access", P | D, EACCES},
	{"faccessat", P | D, EACCES},
	{"readlink", P | D, EACCES},
	{"readlinkat", P | D, EACCES},
	{"clone3", SOCKETS, ENOSYS},
	{"sched_setaffinity", N, EPERM},
	{"getxattr", FILES, ENOTSUP},
	{"statfs", FILES, EACCES},
	{"mincore", ALL, ENOSYS},
};

#if JAIL_SANITIZED
static const char *const for_sanitizers[] = {"sigaltstack", "prctl", "sched_yield"};
#endif

static int add_rule(
	scmp_filter_ctx ctx, uint32_t action, const char *name, unsigned n, const struct scmp_arg_cmp *args)
{
	int nr = seccomp_syscall_resolve_name(name);
	if (nr < 0)
		return 0; /* not on this architecture */
	return seccomp_rule_add_array(ctx, action, nr, n, args);
}

static bool is_allowed(enum jail_profile profile, const char *name)
{
	for (size_t i = 0; i < sizeof(allowed) / sizeof(*allowed); i++) {
		if (strcmp(allowed[i].name, name) == 0 && (allowed[i].in & (1U << profile)))
			return true;
	}
	return false;
}

/* Memory is never executable. aios-connect may map a library's file so, for name service modules that load
 * late, but never memory that it can write, nor memory that it has written. */
static int add_memory(scmp_filter_ctx ctx, enum jail_profile profile)
{
	const struct scmp_arg_cmp no_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	const struct scmp_arg_cmp library[] = {
		SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC),
		SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS | MAP_SHARED, 0),
	};
	const struct scmp_arg_cmp exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC);
	int rc = add_rule(ctx, SCMP_ACT_ALLOW, "mmap", 1, &no_exec);
	if (rc == 0)
		rc = add_rule(ctx, SCMP_ACT_ALLOW, "mprotect", 1, &no_exec);
	if (rc == 0 && profile == JAIL_NET)
		rc = add_rule(ctx, SCMP_ACT_ALLOW, "mmap", 2, library);
	if (rc == 0 && profile == JAIL_NET)
		rc = add_rule(ctx, SCMP_ACT_ERRNO(EACCES), "mprotect", 1, &exec);
	return rc;
}

/* Signals to oneself: abort() for everybody, whatever threads need for those who have them. */
static int add_signals(scmp_filter_ctx ctx, enum jail_profile profile)
{
	const struct scmp_arg_cmp args[] = {
		SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()),
		SCMP_A2(SCMP_CMP_EQ, SIGABRT),
	};
	return add_rule(ctx, SCMP_ACT_ALLOW, "tgkill", profile == JAIL_NET ? 1 : 2, args);
}

/* Descriptors' flags; locks and copies only for those who have files or sockets of their own. */
static int add_fcntl(scmp_filter_ctx ctx, enum jail_profile profile)
{
	static const int flags[] = {1 /* F_GETFD */, 2 /* F_SETFD */, 3 /* F_GETFL */, 4 /* F_SETFL */};
	if (profile != JAIL_PURE)
		return add_rule(ctx, SCMP_ACT_ALLOW, "fcntl", 0, NULL);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof(flags) / sizeof(*flags); i++) {
		const struct scmp_arg_cmp arg = SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)flags[i]);
		rc = add_rule(ctx, SCMP_ACT_ALLOW, "fcntl", 1, &arg);
	}
	return rc;
}

/* Only what sockets need: others could type into the operator's terminal. */
static int add_ioctl(scmp_filter_ctx ctx, enum jail_profile profile)
{
	static const unsigned long wanted[] = {FIONBIO, FIONREAD};
	if (profile != JAIL_NET && profile != JAIL_DOOR)
		return add_rule(ctx, SCMP_ACT_ERRNO(ENOTTY), "ioctl", 0, NULL);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof(wanted) / sizeof(*wanted); i++) {
		const struct scmp_arg_cmp arg = SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, wanted[i]);
		rc = add_rule(ctx, SCMP_ACT_ALLOW, "ioctl", 1, &arg);
	}
	const struct scmp_arg_cmp terminal = SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, TCGETS);
	return rc < 0 ? rc : add_rule(ctx, SCMP_ACT_ERRNO(ENOTTY), "ioctl", 1, &terminal);
}

/* Sockets for TCP, UDP and the address list of the machine. No unix sockets: the operator's own door is one,
 * and those of other services act in the operator's name too. */
static int add_sockets(scmp_filter_ctx ctx)
{
	static const int families[] = {AF_INET, AF_INET6, AF_NETLINK};
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof(families) / sizeof(*families); i++) {
		const struct scmp_arg_cmp args[] = {
			SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]),
			SCMP_A2(SCMP_CMP_EQ, NETLINK_ROUTE),
		};
		rc = add_rule(ctx, SCMP_ACT_ALLOW, "socket", families[i] == AF_NETLINK ? 2 : 1, args);
	}
	const struct scmp_arg_cmp unix_only = SCMP_A0(SCMP_CMP_EQ, AF_UNIX);
	return rc < 0 ? rc : add_rule(ctx, SCMP_ACT_ERRNO(EACCES), "socket", 1, &unix_only);
}

/* Threads, never processes: clone3's flags cannot be seen by a filter, so it does not exist here and the C
 * library falls back to clone. */
static int add_threads(scmp_filter_ctx ctx)
{
	const scmp_datum_t need = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
	const scmp_datum_t never =
		CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
	const struct scmp_arg_cmp arg = SCMP_A0(SCMP_CMP_MASKED_EQ, need | never, need);
	const struct scmp_arg_cmp name = SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME);
	int rc = add_rule(ctx, SCMP_ACT_ALLOW, "clone", 1, &arg);
	return rc < 0 ? rc : add_rule(ctx, SCMP_ACT_ALLOW, "prctl", 1, &name);
}

/* The one key that may rest in the user's keyring: found, read, put there, taken out. */
static int add_keyring(scmp_filter_ctx ctx)
{
	static const int wanted[] = {KEYCTL_SEARCH, KEYCTL_READ, KEYCTL_SETPERM, KEYCTL_LINK, KEYCTL_UNLINK};
	int rc = add_rule(ctx, SCMP_ACT_ALLOW, "add_key", 0, NULL);
	for (size_t i = 0; rc == 0 && i < sizeof(wanted) / sizeof(*wanted); i++) {
		const struct scmp_arg_cmp arg = SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)wanted[i]);
		rc = add_rule(ctx, SCMP_ACT_ALLOW, "keyctl", 1, &arg);
	}
	return rc;
}

static int add_lists(scmp_filter_ctx ctx, enum jail_profile profile)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof(allowed) / sizeof(*allowed); i++) {
		if (allowed[i].in & (1U << profile))
			rc = add_rule(ctx, SCMP_ACT_ALLOW, allowed[i].name, 0, NULL);
	}
	for (size_t i = 0; rc == 0 && i < sizeof(refused) / sizeof(*refused); i++) {
		if (refused[i].in & (1U << profile))
			rc = add_rule(
				ctx, SCMP_ACT_ERRNO((uint32_t)refused[i].error), refused[i].name, 0, NULL);
	}
#if JAIL_SANITIZED
	for (size_t i = 0; rc == 0 && i < sizeof(for_sanitizers) / sizeof(*for_sanitizers); i++) {
		if (!is_allowed(profile, for_sanitizers[i]))
			rc = add_rule(ctx, SCMP_ACT_ALLOW, for_sanitizers[i], 0, NULL);
	}
#else
	(void)is_allowed;
#endif
	return rc;
}

int jail_seccomp(enum jail_profile profile, struct base_err *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!ctx)
		return base_err_set(err, -ENOSYS, "sandbox: libseccomp cannot start");
	/* A tree, not a list: a system call costs a few comparisons. Older libraries do not know it; that is
	 * fine. */
	(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	int rc = add_lists(ctx, profile);
	if (rc == 0)
		rc = add_memory(ctx, profile);
	if (rc == 0)
		rc = add_signals(ctx, profile);
	if (rc == 0)
		rc = add_fcntl(ctx, profile);
	if (rc == 0)
		rc = add_ioctl(ctx, profile);
	if (rc == 0 && profile == JAIL_VAULT)
		rc = add_keyring(ctx);
	if (rc == 0 && profile == JAIL_NET)
		rc = add_sockets(ctx);
	if (rc == 0 && profile == JAIL_NET)
		rc = add_threads(ctx);
	if (rc == 0)
		rc = seccomp_load(ctx);
	seccomp_release(ctx);
	if (rc < 0)
		return base_err_set(
			err, -ENOSYS, "sandbox: the kernel takes no seccomp filter: %s", strerror(-rc));
	return 0;
}
