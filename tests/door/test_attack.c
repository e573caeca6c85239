/* Attack builds: what somebody who took over the door's process could do. Each system call that opens a way
 * out is tried after the jail was entered; it must be refused before the kernel looks at its arguments, or
 * end the process. */
#include "harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct call {
	long number;
	const char *name;
	const char *args;
};

#define CALL(name)                                                                                           \
	{                                                                                                    \
		SYS_##name, #name, "[-1]"                                                                    \
	}

static const struct call calls[] = {
	CALL(openat),
	CALL(openat2),
	CALL(open_by_handle_at),
	CALL(name_to_handle_at),
	CALL(connect),
	CALL(execve),
	CALL(execveat),
	CALL(clone3),
	CALL(ptrace),
	CALL(process_vm_readv),
	CALL(process_vm_writev),
	CALL(mount),
	CALL(umount2),
	CALL(pivot_root),
	CALL(chroot),
	CALL(unshare),
	CALL(setns),
	CALL(bpf),
	CALL(perf_event_open),
	CALL(keyctl),
	CALL(add_key),
	CALL(request_key),
	CALL(io_uring_setup),
	CALL(userfaultfd),
	CALL(init_module),
	CALL(finit_module),
	CALL(kexec_load),
	CALL(reboot),
	CALL(swapon),
	CALL(kill),
	CALL(tkill),
	CALL(pidfd_open),
	CALL(pidfd_getfd),
	CALL(pidfd_send_signal),
	CALL(unlinkat),
	CALL(renameat2),
	CALL(mkdirat),
	CALL(linkat),
	CALL(symlinkat),
	CALL(fchmodat),
	CALL(fchownat),
	CALL(truncate),
	CALL(mknodat),
	CALL(setuid),
	CALL(setgid),
	CALL(setresuid),
	CALL(setgroups),
	CALL(capset),
	CALL(bind),
	CALL(socketpair),
	CALL(getdents64),
	CALL(statfs),
	CALL(fanotify_init),
	CALL(inotify_init1),
	CALL(quotactl),
	CALL(acct),
	CALL(sethostname),
	CALL(settimeofday),
	CALL(clock_settime),
	CALL(adjtimex),
	CALL(personality),
	CALL(vhangup),
	CALL(shmget),
	CALL(msgget),
	CALL(semget),
	CALL(mq_open),
	CALL(fsopen),
	CALL(open_tree),
	CALL(move_mount),
	CALL(mount_setattr),
	CALL(memfd_create),
	{SYS_socket, "socket", "[2,1,0]"},
	{SYS_socket, "socket (unix)", "[1,1,0]"},
	{SYS_clone, "clone", "[17,0,0,0,0]"},
#ifdef SYS_open
	CALL(open),
	CALL(creat),
	CALL(fork),
	CALL(vfork),
	CALL(rename),
	CALL(unlink),
	CALL(mkdir),
	CALL(chmod),
	CALL(chown),
	CALL(symlink),
	CALL(link),
	CALL(mknod),
	CALL(iopl),
	CALL(ioperm),
#endif
};

/* What the process said before it went on or died: a note, or nothing. */
static bool note(struct door_test *t, char *ret, size_t size)
{
	struct wire_note n;
	struct base_str body;
	unsigned type;
	int r;

	while ((r = wire_conn_next(t->wire, &type, &body)) == 0)
		if (wire_conn_wait(t->wire, 10000) < 0)
			return false;
	if (r != 1 || type != WIRE_NOTE || wire_note_get(body, &n) < 0)
		return false;
	snprintf(ret, size, "%.*s", BASE_STR_ARG(n.text));
	return true;
}

/* Sound when it was killed by the jail, or refused by it. */
static void judge(struct door_test *t, const char *name)
{
	char text[256] = "";
	int status, error = -1;

	if (!note(t, text, sizeof(text))) {
		status = door_test_wait_end(t);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("%s ended the process, but not by the jail (status %x)", name,
				(unsigned)status);
		return;
	}
	if (sscanf(strstr(text, "errno "), "errno %d", &error) != 1 ||
		(error != EPERM && error != ENOSYS && error != EACCES))
		fail_msg("%s reached the kernel: %s", name, text);
	door_test_stop(t);
}

static void no_way_out(void **state)
{
	struct door_test t;
	char attack[256];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		snprintf(attack, sizeof(attack), "{\"syscall\":%ld,\"args\":%s}", calls[i].number,
			calls[i].args);
		door_test_start(&t, "network", NULL, attack);
		judge(&t, calls[i].name);
	}
}

/* Frames of others and frames that are none reach aiosd as they are: it is the one that must refuse them
 * (tests of the engine). Here: the routine does send what it is told. */
static void sends_frames(void **state)
{
	struct door_test t;
	struct base_str body;

	(void)state;
	door_test_start(&t, "network", NULL,
		"{\"frames\":[{\"type\":17,\"hex\":\"0102ff\"},{\"type\":9999,\"hex\":\"\"}]}");
	body = door_test_frame(&t, 17);
	assert_int_equal(body.len, 3);
	assert_memory_equal(body.ptr, "\x01\x02\xff", 3);
	assert_int_equal(door_test_frame(&t, 9999).len, 0);
	door_test_stop(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_way_out),
		cmocka_unit_test(sends_frames),
	};

	return cmocka_run_group_tests_name("door attacked", tests, NULL, NULL);
}
