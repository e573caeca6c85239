#include "sim/sim_int.h"

#include <errno.h>
#include <signal.h>

/* What goes wrong, as the plan says. */

int sim_disk_append(void *userdata, const struct log_commit *c)
{
	struct sim *s = userdata;
	unsigned fail = s->fail_sync;

	(void)c;
	if (s->healed)
		return 0;
	s->disk_failed |= fail || s->full_until > s->now;
	if (s->full_until > s->now)
		return -ENOSPC;
	s->fail_sync = 0;
	return fail == 0 ? 0 : fail == 1 ? -EIO : LOG_DISK_UNCERTAIN;
}

int sim_disk_snapshot(void *userdata, uint64_t seq)
{
	struct sim *s = userdata;
	bool fail = s->fail_snapshot || s->full_until > s->now;

	(void)seq;
	s->fail_snapshot = false;
	return fail && !s->healed ? -EIO : 0;
}

static void kill_one(struct sim *s, enum engine_kind kind, uint32_t nth, int status)
{
	unsigned n = 0;
	struct sim_proc *p;

	while (sim_proc_of(s, kind, n))
		n++;
	p = n ? sim_proc_of(s, kind, nth % n) : NULL;
	if (p)
		sim_proc_die(s, p, status);
}

static void hang(struct sim *s, const struct sim_op *op)
{
	struct sim_proc *p = sim_proc_of(s, ENGINE_FLOW, op->a % 3);

	if (p)
		p->stalled = s->now + 1000 * (int64_t)(op->b % 8000);
}

static void garbage(struct sim *s, const struct sim_op *op)
{
	struct sim_proc *p = sim_proc_of(s, op->a % 2 ? ENGINE_FLOW : ENGINE_CONNECT, op->b % 3);

	if (p)
		sim_send_garbage(p, op->c);
}

/* At one of the next points; or at once, between two turns. */
static void crash(struct sim *s, const struct sim_op *op)
{
	if (s->crash_in || op->c % 5 == 0)
		s->die_now = s->woken = s->up;
	else
		s->crash_in = 1 + op->a % 60;
}

void sim_fault_op(struct sim *s, const struct sim_op *op)
{
	static const enum engine_kind others[] = {
		ENGINE_VIEWS, ENGINE_DOOR, ENGINE_VAULT, ENGINE_PARSE, ENGINE_DOOR};
	/* How a worker ends: killed, of a broken pointer, after it has answered. */
	static const int ends[] = {SIGKILL, SIGSEGV, 3 << 8, SIGKILL, 1 << 8};

	switch ((enum sim_op_kind)op->kind) {
	case SIM_OP_CRASH_AGAIN:
		s->crash_next = 1 + op->b % 40;
		crash(s, op);
		break;
	case SIM_OP_CRASH:
		crash(s, op);
		break;
	case SIM_OP_KILL_FLOW:
		kill_one(s, ENGINE_FLOW, op->a, ends[op->b % 5]);
		break;
	case SIM_OP_HANG_FLOW:
		hang(s, op);
		break;
	case SIM_OP_GARBAGE:
		garbage(s, op);
		break;
	case SIM_OP_KILL_CONNECT:
		kill_one(s, ENGINE_CONNECT, 0, SIGKILL);
		break;
	case SIM_OP_KILL_OTHER:
		kill_one(s, others[op->a % 5], op->b, SIGKILL);
		break;
	case SIM_OP_FULL:
		s->full_until = s->now + 1000 * (int64_t)(op->a % 8000);
		break;
	case SIM_OP_OFF:
		s->off_ms = op->b % 10800000;
		s->crash_in = 1 + op->a % 60;
		break;
	case SIM_OP_SYNC_ERROR:
		s->fail_sync = 1 + op->a % 2;
		break;
	case SIM_OP_CLOCK:
		s->wall_skew += (int64_t)(op->a % 7200000) - 3600000;
		s->life_time_ms += ENGINE_CLOCK_STEP_MS; /* it may be a small step, which is followed */
		break;
	case SIM_OP_RESTART:
		s->stop_asked = s->woken = s->up;
		break;
	case SIM_OP_SNAPSHOT_ERROR:
		s->fail_snapshot = true;
		break;
	default:
		break;
	}
}
