#include "peer.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Builds with -Dattack=true: an exploited interpreter tries every system call from inside the sandbox. */

/* What a jailed aios-flow can still do, and what comes of it: nothing outside its own memory and its one
 * socket. */
static const long harmless[] = {
	SYS_read,
	SYS_write,
	SYS_readv,
	SYS_writev,
	SYS_close,
	SYS_fstat,
	SYS_lseek,
	SYS_brk,
	SYS_munmap,
	SYS_mremap,
	SYS_madvise,
	SYS_futex,
	SYS_sched_yield,
	SYS_ppoll,
	SYS_epoll_pwait,
	SYS_epoll_pwait2,
	SYS_epoll_ctl,
	SYS_restart_syscall,
	SYS_rt_sigprocmask,
	SYS_rt_sigaction,
	SYS_getpid,
	SYS_gettid,
	SYS_clock_gettime,
	SYS_clock_getres,
	SYS_gettimeofday,
	SYS_getrandom,
	SYS_getrusage,
	SYS_times,
	SYS_setitimer,
	SYS_getuid,
	SYS_geteuid,
	SYS_getgid,
	SYS_getegid,
	SYS_mmap,
	SYS_mprotect,
	SYS_fcntl,
	SYS_sendto,
	SYS_recvfrom,
#ifdef __x86_64__
	336, /* uprobe: Linux keeps it from every filter, and it does nothing outside a probe */
#endif
#ifdef SYS_poll
	SYS_poll,
	SYS_epoll_wait,
	SYS_time,
#endif
};

static bool is_harmless(long number)
{
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
		if (harmless[i] == number)
			return true;
	}
	return false;
}

/* The filter answers some that libraries try without harm with an error of its own. */
static bool was_refused(const char *note)
{
	return strstr(note, "(errno 13)") || strstr(note, "(errno 1)") || strstr(note, "(errno 38)") ||
	       strstr(note, "(errno 25)");
}

static void fault_46_exploited_interpreter_every_system_call(void **state)
{
	(void)state;
	unsigned killed = 0, refused = 0, returned = 0;
	for (long number = 0; number < 480; number++) {
		struct peer p;
		char config[60];
		if (number == SYS_exit || number == SYS_exit_group || number == SYS_rt_sigreturn)
			continue; /* they end it by themselves */
		if (number == SYS_ppoll)
			continue; /* allowed, and waits for ever */
		snprintf(config, sizeof(config), "{\"attack\":{\"syscall\":%ld}}", number);
		peer_open(&p, config);
		struct got g = peer_next(&p);
		if (g.type == 0) {
			int status = peer_reap(&p);
			/* SIGILL: uretprobe, which the kernel answers before any filter */
			if (!WIFSIGNALED(status) ||
				(WTERMSIG(status) != SIGSYS && WTERMSIG(status) != SIGILL))
				fail_msg("system call %ld: status %x, not SIGSYS", number, status);
			killed++;
			continue;
		}
		assert_int_equal(g.type, WIRE_NOTE);
		if (is_harmless(number))
			returned++;
		else if (was_refused(g.value))
			refused++;
		else
			fail_msg("not stopped: %s", g.value);
		peer_got_done(&g);
		peer_close(&p);
	}
	print_message("%u system calls ended the process, %u were refused, %u harmless ones returned\n",
		killed, refused, returned);
	assert_true(killed > 300);
}

static void fault_46_exploited_interpreter_forges_frames(void **state)
{
	(void)state;
	struct peer p;
	peer_open(&p, "{\"attack\":{\"frame\":19,\"body\":\"070005226f6b2122\"}}");
	struct got g = peer_next(&p);
	assert_int_equal(g.type, WIRE_FLOW_DONE);
	assert_int_equal(g.run, 7);
	peer_got_done(&g);
	peer_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(fault_46_exploited_interpreter_every_system_call),
		cmocka_unit_test(fault_46_exploited_interpreter_forges_frames)};
	return cmocka_run_group_tests_name("flow/attack", tests, NULL, NULL);
}
