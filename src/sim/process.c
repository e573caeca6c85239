#include "sim/sim_int.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "wire/frames.h"
#include "wire/head.h"

/*
 * Processes and the sockets to them, as src/engine/spawn.c and src/wire/conn.c have them for the real aiosd: bytes
 * arrive in order, after a while. What a process had not yet said when it dies is never said; what had arrived counts.
 */

static const size_t NONE = SIZE_MAX;

static int new_fd(struct sim *s, struct sim_proc *p, bool is_pid)
{
	BASE_CHECK(s->fd_next < SIM_FD_FIRST + SIM_FDS);
	s->fds[s->fd_next - SIM_FD_FIRST] = (struct sim_fd){.p = p, .is_pid = is_pid};
	return s->fd_next++;
}

static struct sim_fd *fd_of(struct sim *s, int fd)
{
	BASE_CHECK(fd >= SIM_FD_FIRST && fd < s->fd_next);
	return &s->fds[fd - SIM_FD_FIRST];
}

struct sim_proc *sim_proc_of(struct sim *s, enum engine_kind kind, unsigned nth)
{
	for (size_t i = 0; i < s->proc_count; i++)
		if (s->procs[i]->kind == kind && s->procs[i]->alive && s->procs[i]->ready && nth-- == 0)
			return s->procs[i];
	return NULL;
}

/* --- bytes under way --- */

struct parcel {
	struct sim_proc *p;
	struct base_str bytes;
};

static struct parcel *pack(struct sim_proc *p, struct base_str bytes)
{
	struct parcel *x = sim_alloc(p->s, sizeof(*x));

	x->p = p;
	x->bytes = sim_dup(p->s, bytes);
	return x;
}

static void at_aiosd(struct sim *s, void *a, uint64_t b)
{
	struct parcel *x = a;
	struct sim_proc *p = x->p;

	(void)b;
	if (!p->alive || !p->conn)
		return;
	if (p->stalled > s->now) {
		p->to_engine = p->stalled;
		sim_later(s, p->stalled - s->now, true, at_aiosd, x, 0);
		return;
	}
	base_buf_str(&p->conn->in, x->bytes);
	fd_of(s, p->fd)->ready = true;
	if (p->kind == ENGINE_CONNECT && !p->garbled)
		sim_outside_told(p, x->bytes);
	sim_trace(s, x->bytes.ptr, x->bytes.len);
}

static void send_bytes(struct sim_proc *p, struct base_str bytes, int64_t us)
{
	struct sim *s = p->s;
	int64_t at = s->now + us;

	if (at < p->to_engine)
		at = p->to_engine;
	p->to_engine = at;
	sim_later(s, at - s->now, true, at_aiosd, pack(p, bytes), 0);
}

struct base_buf *sim_send_begin(struct sim_proc *p)
{
	struct base_buf *b = &p->s->frame;

	base_buf_clear(b);
	base_buf_put(b, "\0\0\0\0\0\0\0", WIRE_HEAD);
	return b;
}

void sim_send_end(struct sim_proc *p, unsigned type, int64_t us)
{
	struct base_buf *b = &p->s->frame;

	BASE_CHECK(base_buf_failed(b) == 0);
	wire_head_put(b->ptr, type, b->len - WIRE_HEAD);
	send_bytes(p, base_buf_view(b), us);
}

void sim_send_now(struct sim_proc *p, unsigned type)
{
	struct base_buf *b = &p->s->frame;

	wire_head_put(b->ptr, type, b->len - WIRE_HEAD);
	at_aiosd(p->s, pack(p, base_buf_view(b)), 0);
}

void sim_send_garbage(struct sim_proc *p, unsigned kind)
{
	static const char zeros[16] = {0};

	p->garbled = true;
	/* A head that cannot be; a frame that this process may not send; a body that does not decode. */
	if (kind % 3 == 0) {
		send_bytes(p, (struct base_str){zeros, sizeof(zeros)}, 100);
		return;
	}
	base_buf_cstr(sim_send_begin(p), "\xff\xff\xff");
	sim_send_end(p,
		kind % 3 == 1		 ? WIRE_SETUP
		: p->kind == ENGINE_FLOW ? WIRE_FLOW_CALL
					 : WIRE_EFFECT_RESULT,
		100);
}

static void frame(struct sim_proc *p, unsigned type, struct base_str body)
{
	switch (p->kind) {
	case ENGINE_FLOW:
		sim_worker_frame(p, type, body);
		break;
	case ENGINE_CONNECT:
		sim_outside_frame(p, type, body);
		break;
	case ENGINE_DOOR:
		sim_client_frame(p, type, body);
		break;
	default:
		sim_help_frame(p, type, body);
		break;
	}
}

static void end_of_stop(struct sim *s, void *a, uint64_t b)
{
	(void)b;
	sim_proc_die(s, a, 0);
}

static void at_process(struct sim *s, void *a, uint64_t b)
{
	struct parcel *x = a;
	struct sim_proc *p = x->p;

	(void)b;
	if (p->stalled > s->now) {
		p->to_proc = p->stalled;
		sim_later(s, p->stalled - s->now, true, at_process, x, 0);
		return;
	}
	for (size_t at = 0; p->alive && at < x->bytes.len;) {
		const char *head = x->bytes.ptr + at;
		size_t len = wire_head_body(head);
		unsigned type = wire_head_type(head);

		if (type == WIRE_STOP)
			sim_later(s, 1000 + (int64_t)sim_draw(s, SIM_NET, 20000), true, end_of_stop, p, 0);
		else
			frame(p, type, (struct base_str){head + WIRE_HEAD, len});
		at += WIRE_HEAD + len;
	}
}

/* --- aiosd's ends of the sockets --- */

int wire_conn_new(int fd, struct wire_conn **ret)
{
	struct sim *s = sim_the();
	struct sim_proc *p = fd_of(s, fd)->p;
	struct wire_conn *c = sim_alloc(s, sizeof(*c));

	c->p = p;
	c->frame = NONE;
	base_buf_init(&c->in, 64 << 20);
	base_buf_init(&c->out, 64 << 20);
	p->conn = c;
	*ret = c;
	return 0;
}

void wire_conn_free(struct wire_conn *c)
{
	if (!c)
		return;
	c->p->conn = NULL;
	base_buf_done(&c->in);
	base_buf_done(&c->out);
}

int wire_conn_fd(const struct wire_conn *c)
{
	return c->p->fd;
}

struct base_buf *wire_conn_begin(struct wire_conn *c, unsigned type)
{
	char head[WIRE_HEAD] = {0};

	BASE_CHECK(c->frame == NONE);
	c->frame = c->out.len;
	wire_head_put(head, type, 0);
	base_buf_put(&c->out, head, sizeof(head));
	return &c->out;
}

int wire_conn_end(struct wire_conn *c)
{
	size_t start = c->frame;
	struct base_str body;

	BASE_CHECK(start != NONE && base_buf_failed(&c->out) == 0);
	c->frame = NONE;
	wire_head_size(c->out.ptr + start, c->out.len - start - WIRE_HEAD);
	body = base_str_sub(base_buf_view(&c->out), start + WIRE_HEAD, c->out.len);
	sim_audit_frame(c->p->s, c->p, wire_head_type(c->out.ptr + start), body);
	return 0;
}

size_t wire_conn_pending(const struct wire_conn *c)
{
	return c->frame == NONE ? c->out.len : c->frame;
}

int wire_conn_flush(struct wire_conn *c)
{
	struct sim_proc *p = c->p;
	struct sim *s = p->s;
	int64_t at = s->now + 5 + (int64_t)sim_draw(s, SIM_NET, 40);

	BASE_CHECK(c->frame == NONE);
	if (!c->out.len)
		return 0;
	if (at < p->to_proc)
		at = p->to_proc;
	p->to_proc = at;
	sim_trace(s, c->out.ptr, c->out.len);
	sim_later(s, at - s->now, true, at_process, pack(p, base_buf_view(&c->out)), 0);
	base_buf_clear(&c->out);
	return p->alive ? 0 : -EPIPE;
}

int wire_conn_fill(struct wire_conn *c)
{
	/* Bytes are put there when they arrive. */
	if (c->in_at) {
		base_buf_consume(&c->in, c->in_at);
		c->seen -= c->in_at;
		c->in_at = 0;
	}
	if (c->in.len > c->seen) {
		c->seen = c->in.len;
		return 0;
	}
	return c->p->alive ? -EAGAIN : -EPIPE;
}

int wire_conn_next(struct wire_conn *c, unsigned *ret_type, struct base_str *ret_body)
{
	struct base_str in = {c->in.ptr + c->in_at, c->in.len - c->in_at};
	int rc = wire_head_next(in, ret_type, ret_body);

	if (rc > 0)
		c->in_at += WIRE_HEAD + ret_body->len;
	return rc;
}

int wire_conn_wait(struct wire_conn *c, int timeout_ms)
{
	(void)c;
	(void)timeout_ms;
	return -EPIPE;
}

/* --- birth and death --- */

static void hello(struct sim *s, void *a, uint64_t b)
{
	struct sim_proc *p = a;
	static const char *const names[] = {"aios-flow", "aios-connect", "aios-parse", "aios-vault",
		"aios-views", "aios-door", "aios-fold"};
	static const char key[32] = "a public key of the simulation.";

	(void)b;
	if (!p->alive)
		return;
	p->ready = true;
	wire_hello_put(sim_send_begin(p), &(struct wire_hello){.version = wire_frame_version(),
						  .process = base_str_of(names[p->kind]),
						  .sandbox = BASE_STR("sim"),
						  .public_key = {key, sizeof(key)}});
	sim_send_end(p, WIRE_HELLO, 0);
	if (p->kind != ENGINE_VIEWS)
		return;
	p->at = s->views_at;
	wire_views_at_put(sim_send_begin(p), &(struct wire_views_at){.seq = p->at});
	sim_send_end(p, WIRE_VIEWS_AT, 0);
}

int engine_spawn(
	const struct engine_spawn *spawn, pid_t *ret_pid, int *ret_pidfd, int *ret_fd, struct base_err *err)
{
	static const char *const exes[] = {"aios-flow", "aios-connect", "aios-parse", "aios-vault",
		"aios-views", "aios-door", "aios-fold"};
	struct sim *s = sim_the();
	const char *name = strrchr(spawn->exe, '/') + 1;
	struct sim_proc *p;

	if (s->up && !s->healed && sim_chance(s, SIM_NET, s->plan.rate[SIM_RATE_SPAWN]))
		return base_err_set(err, -EAGAIN, "cannot start %s: no more processes", name);
	BASE_CHECK(s->proc_count < SIM_PROCS);
	p = sim_alloc(s, sizeof(*p));
	p->s = s;
	while (strcmp(exes[p->kind], name) != 0)
		p->kind++;
	p->local = p->kind == ENGINE_DOOR && strcmp(spawn->argv[1], "local") == 0;
	p->alive = true;
	p->fd = new_fd(s, p, false);
	p->pidfd = new_fd(s, p, true);
	p->pid = ++s->pid_next;
	BASE_CHECK(base_idmap_new(&p->runs) == 0);
	s->procs[s->proc_count++] = p;
	*ret_pid = p->pid;
	*ret_pidfd = p->pidfd;
	*ret_fd = p->fd;
	sim_later(s, 500 + (int64_t)sim_draw(s, SIM_NET, 3000), true, hello, p, 0);
	return 0;
}

void sim_proc_die(struct sim *s, struct sim_proc *p, int status)
{
	if (!p->alive)
		return;
	p->alive = p->ready = false;
	p->status = status;
	fd_of(s, p->pidfd)->ready = true;
	if (p->conn)
		fd_of(s, p->fd)->ready = true;
	if (p->kind == ENGINE_FLOW)
		s->workers_died++;
	for (size_t i = 0; i < s->proc_count; i++)
		if (s->procs[i] == p) {
			s->procs[i] = s->procs[--s->proc_count];
			break;
		}
	if (p->kind == ENGINE_DOOR)
		sim_client_lost(s);
}

static void kill_due(struct sim *s, void *a, uint64_t b)
{
	(void)b;
	sim_proc_die(s, a, SIGKILL);
}

void engine_child_kill(int pidfd)
{
	struct sim *s = sim_the();
	struct sim_proc *p = fd_of(s, pidfd)->p;

	if (p->alive)
		sim_later(s, (int64_t)sim_draw(s, SIM_NET, 500), true, kill_due, p, 0);
}

bool engine_child_reap(pid_t pid, int pidfd, bool wait, int *ret_status)
{
	struct sim_proc *p = fd_of(sim_the(), pidfd)->p;

	(void)pid;
	if (wait)
		sim_proc_die(p->s, p, SIGKILL);
	if (p->alive)
		return false;
	if (ret_status)
		*ret_status = p->status;
	return true;
}

void engine_child_close(int fd)
{
	if (fd >= SIM_FD_FIRST)
		fd_of(sim_the(), fd)->source = NULL;
}
