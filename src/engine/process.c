#include "engine/engine_int.h"

#include <errno.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

/*
 * The table of processes.
 *
 * Invariants
 *
 * P1 A process is heard only for frames that its kind may send (wire_frame_permitted), and only after a
 * hello of this very protocol version; anything else ends it.
 *
 * P2 A process that dies is started again, 100 ms to 5 s later; what it had in flight is settled at its
 * death.
 *
 * P3 An answer goes only to the life of a process that asked: the generation counts lives.
 */

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 5000, NOTES_A_SECOND = 50, PROCS_FIXED = 11 };

static const char *const kind_names[] = {
	"flow", "connect", "parse", "vault", "views", "door", "fold", "flow", "flow", "pass", "parse"};
static const char *const kind_exes[] = {"aios-flow", "aios-connect", "aios-parse", "aios-vault", "aios-views",
	"aios-door", "aios-fold", "aios-flow", "aios-flow", "aios-pass", "aios-parse"};

static void proc_closed(struct engine *e, struct engine_proc *p)
{
	if (!p->conn)
		return;
	engine_unwatch(e, wire_conn_fd(p->conn));
	wire_conn_free(p->conn);
	p->conn = NULL;
	p->dirty = p->want_out = false;
}

static int64_t backoff(unsigned fails)
{
	int64_t ms = BACKOFF_MIN_MS;

	while (fails-- > 1 && ms < BACKOFF_MAX_MS)
		ms *= 2;
	return ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
}

/* Everybody who waits for something from this process learns of its death. */
static void settle(struct engine *e, struct engine_proc *p, int status)
{
	switch (p->kind) {
	case ENGINE_FLOW:
		engine_flows_down(e, p, status);
		break;
	case ENGINE_CONNECT:
		engine_effects_down(e);
		engine_announce_down(e);
		break;
	case ENGINE_VIEWS:
		engine_views_down(e);
		break;
	case ENGINE_DOOR:
		engine_api_down(e, p);
		break;
	case ENGINE_FOLD:
		engine_fold_down(e);
		break;
	case ENGINE_TRIAL:
		engine_trials_down(e, p, status);
		break;
	default:
		break;
	}
	engine_ask_down(e, p);
}

static void describe(int status, char *ret, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(
			ret, size, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(ret, size, "exit status %d", WEXITSTATUS(status));
}

static void schedule(struct engine *e, struct engine_proc *p)
{
	if (e->stopping || p->on_demand)
		return;
	engine_timer_add(e, ENGINE_TIMER_RESPAWN, p->index, backoff(p->fails));
}

void engine_proc_kill(struct engine *e, struct engine_proc *p, const char *why)
{
	(void)e;
	if (p->state == ENGINE_DOWN || p->killed)
		return;
	engine_note(2, "%s: %s; it is ended", p->label, why);
	p->killed = true;
	engine_child_kill(p->pidfd);
}

void engine_proc_end(struct engine *e, struct engine_proc *p)
{
	(void)e;
	if (p->state == ENGINE_DOWN || p->killed)
		return;
	p->killed = true;
	p->state = ENGINE_STOPPING;
	engine_child_kill(p->pidfd);
}

static void on_hello(struct engine *e, struct engine_proc *p, struct base_str body)
{
	struct wire_hello h;
	size_t n;

	if (wire_hello_get(body, &h) < 0 || !base_str_is(h.process, p->exe)) {
		engine_proc_kill(e, p, "sent a hello that is not its own");
		return;
	}
	if (h.version != wire_frame_version()) {
		engine_proc_kill(
			e, p, "speaks another version of the protocol: its executable is not of this build");
		return;
	}
	n = h.sandbox.len < sizeof(p->sandbox) - 1 ? h.sandbox.len : sizeof(p->sandbox) - 1;
	memcpy(p->sandbox, h.sandbox.ptr ? h.sandbox.ptr : "", n);
	p->sandbox[n] = '\0';
	p->has_key = h.public_key.len == sizeof(p->public_key);
	if (p->has_key)
		memcpy(p->public_key, h.public_key.ptr, sizeof(p->public_key));
	p->state = ENGINE_UP;
	p->up_since = p->used_ms = e->mono;
	if (p->kind == ENGINE_FLOW)
		engine_flows_up(e, p);
	if (p->kind == ENGINE_CONNECT)
		engine_effects_up(e);
	if (p->kind == ENGINE_FOLD)
		engine_fold_up(e, p);
	if (p->kind == ENGINE_TRIAL)
		engine_trials_up(e);
	engine_ask_up(e, p);
	if (p->kind == ENGINE_VAULT)
		engine_vault_up(e);
}

/* A process that went wild must not fill the operator's log. */
static bool may_note(struct engine *e, struct engine_proc *p)
{
	if (e->mono - p->notes_since >= 1000) {
		p->notes_since = e->mono;
		p->notes = 0;
	}
	return p->notes++ < NOTES_A_SECOND;
}

static void on_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body)
{
	struct wire_note note;

	switch (type) {
	case WIRE_NOTE:
		if (wire_note_get(body, &note) == 0 && may_note(e, p))
			engine_note(note.level, "%s: %.*s", p->label, BASE_STR_ARG(note.text));
		return;
	case WIRE_FLOW_INSPECTED:
	case WIRE_PARSED:
	case WIRE_PASS_REPLY:
	case WIRE_VAULT_REPLY:
	case WIRE_VIEWS_ANSWER:
		engine_ask_frame(e, p, type, body);
		return;
	default:
		break;
	}
	switch (p->kind) {
	case ENGINE_FLOW:
		engine_flows_frame(e, p, type, body);
		break;
	case ENGINE_CONNECT:
		engine_effects_frame(e, p, type, body);
		break;
	case ENGINE_VIEWS:
		engine_views_frame(e, p, type, body);
		break;
	case ENGINE_DOOR:
		engine_api_frame(e, p, type, body);
		break;
	case ENGINE_TRIAL:
		engine_trials_frame(e, p, type, body);
		break;
	default:
		break;
	}
}

static void drain(struct engine *e, struct engine_proc *p)
{
	struct base_str body;
	unsigned type;
	int rc = 0;

	while (p->conn && !p->killed && (rc = wire_conn_next(p->conn, &type, &body)) > 0) {
		if (!wire_frame_permitted(type, kind_names[p->kind], "aiosd")) {
			engine_proc_kill(e, p, "sent a frame that it may not send");
			return;
		}
		if (p->state == ENGINE_STARTING && type != WIRE_HELLO && type != WIRE_NOTE) {
			engine_proc_kill(e, p, "spoke before its hello");
			return;
		}
		if (type == WIRE_HELLO) {
			if (p->state == ENGINE_STARTING)
				on_hello(e, p, body);
			continue;
		}
		on_frame(e, p, type, body);
	}
	if (rc < 0)
		engine_proc_kill(e, p, "sent bytes that are not a frame");
}

static void on_death(struct engine *e, struct engine_source *s, uint32_t events)
{
	struct engine_proc *p = s->owner;
	int status = 0;
	char why[96];
	bool asked = p->state == ENGINE_STOPPING;

	(void)events;
	if (!engine_child_reap(p->pid, p->pidfd, false, &status))
		return;
	/* What it managed to say before it died still counts. */
	if (p->conn && (p->state == ENGINE_UP || asked))
		while (wire_conn_fill(p->conn) == 0)
			drain(e, p);
	engine_unwatch(e, p->pidfd);
	engine_child_close(p->pidfd);
	p->pidfd = -1;
	p->pid = 0;
	proc_closed(e, p);
	describe(status, why, sizeof(why));
	/* aios-fold ends by itself when it has answered. */
	asked |= p->kind == ENGINE_FOLD;
	if (!asked || (!p->killed && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)))
		engine_note(p->killed ? 1 : 2, "%s ended: %s", p->label, why);
	p->fails = asked ? 0 : e->mono - p->up_since > 10000 && p->state == ENGINE_UP ? 1 : p->fails + 1;
	p->state = ENGINE_DOWN;
	settle(e, p, status);
	p->killed = false;
	schedule(e, p);
}

static void on_io(struct engine *e, struct engine_source *s, uint32_t events)
{
	struct engine_proc *p = s->owner;
	int rc;

	if (!p->conn)
		return;
	if (events & EPOLLOUT)
		p->dirty = true;
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	rc = wire_conn_fill(p->conn);
	drain(e, p);
	if (rc < 0 && rc != -EAGAIN && p->conn) {
		/* The end of the stream: its death follows; make sure of it. */
		engine_unwatch(e, wire_conn_fd(p->conn));
		if (p->pidfd >= 0 && p->state != ENGINE_STOPPING)
			engine_child_kill(p->pidfd);
	}
}

static void put_setup(struct engine *e, struct engine_proc *p, struct base_buf *b)
{
	struct base_jw w = base_jw_of(b);

	base_jw_obj(&w);
	switch (p->kind) {
	case ENGINE_CONNECT:
		base_jw_mcstr(&w, "workspace", e->paths.workspace);
		base_jw_mcstr(&w, "files", e->paths.files);
		break;
	case ENGINE_VAULT:
		base_jw_mcstr(&w, "dir", e->paths.vault);
		break;
	case ENGINE_VIEWS:
		base_jw_mcstr(&w, "dir", e->paths.views);
		break;
	case ENGINE_DOOR:
		engine_door_setup(e, p, &w);
		break;
	default:
		break;
	}
	base_jw_end_obj(&w);
}

static void send_setup(struct engine *e, struct engine_proc *p)
{
	struct base_buf json, *b;

	base_buf_init(&json, 1 << 20);
	put_setup(e, p, &json);
	b = engine_proc_begin(e, p, WIRE_SETUP);
	if (b) {
		wire_setup_put(b, &(struct wire_setup){.config = base_buf_view(&json)});
		engine_proc_send(e, p);
	}
	if (json.ptr) /* the door's key was in it */
		explicit_bzero(json.ptr, json.size);
	base_buf_done(&json);
}

static const char *argument(const struct engine *e, const struct engine_proc *p)
{
	switch (p->kind) {
	case ENGINE_CONNECT:
		return e->paths.files;
	case ENGINE_VAULT:
		return e->paths.vault;
	case ENGINE_VIEWS:
		return e->paths.views;
	case ENGINE_DOOR:
		return p->local_door ? "local" : "network";
	default:
		return NULL;
	}
}

/* What aios-vault cannot find out behind its own walls: the keyring of the user (from a user namespace of its own it
 * would see another one), and where systemd has put the credential. */
struct vault_arguments {
	char keyring[24], credential[4096];
};

static void vault_arguments(struct vault_arguments *v, const char **argv)
{
	long keyring = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1);
	const char *folder = getenv("CREDENTIALS_DIRECTORY");

	snprintf(v->keyring, sizeof(v->keyring), "%ld", keyring > 0 ? keyring : 0);
	argv[0] = v->keyring;
	if (!folder || folder[0] != '/')
		return;
	if ((size_t)snprintf(v->credential, sizeof(v->credential), "%s/aios-vault", folder) <
		sizeof(v->credential))
		argv[1] = v->credential;
}

static bool sees_secrets(enum engine_kind kind)
{
	return kind == ENGINE_VAULT || kind == ENGINE_CONNECT || kind == ENGINE_PASS;
}

/* Spawns; the setup frame comes with engine_proc_start. */
static void start(struct engine *e, struct engine_proc *p)
{
	char path[4096];
	struct vault_arguments vault;
	const char *argv[] = {p->exe, argument(e, p), NULL, NULL, NULL};
	struct engine_spawn s = {.exe = path, .argv = argv, .listen_fd = p->listen_fd};
	struct base_err err = {0};
	int fd, rc;

	if (p->state != ENGINE_DOWN || e->stopping)
		return;
	s.files = p->kind == ENGINE_VIEWS || sees_secrets(p->kind);
	/* Whose program starts inside of a user namespace can be read by whoever made that: this user. Those that see
	 * secrets enter theirs later; without it only root can give them a process namespace. */
	s.new_pidns = p->kind != ENGINE_DOOR && (!sees_secrets(p->kind) || geteuid() == 0);
	s.nice = p->kind == ENGINE_FOLD								 ? 10
		 : p->kind == ENGINE_VIEWS || p->kind == ENGINE_PARSE || p->kind == ENGINE_TRIAL ? 5
												 : 0;
	if (p->kind == ENGINE_VAULT)
		vault_arguments(&vault, argv + 2);
	snprintf(path, sizeof(path), "%s/%s", e->paths.bin, p->exe);
	rc = engine_spawn(&s, &p->pid, &p->pidfd, &fd, &err);
	if (rc < 0) {
		p->fails++;
		if (p->fails <= 3)
			engine_note(3, "%s", err.text);
		engine_ask_down(e, p);
		schedule(e, p);
		return;
	}
	p->generation++;
	p->asked = false;
	p->state = ENGINE_STARTING;
	p->io = (struct engine_source){on_io, p};
	p->death = (struct engine_source){on_death, p};
	if (wire_conn_new(fd, &p->conn) < 0)
		p->conn = NULL;
	if (!p->conn || engine_watch(e, fd, &p->io, EPOLLIN) < 0 ||
		engine_watch(e, p->pidfd, &p->death, EPOLLIN) < 0) {
		engine_note(3, "out of memory or descriptors for %s", p->label);
		engine_proc_kill(e, p, "cannot be watched");
		return;
	}
}

void engine_proc_start(struct engine *e, struct engine_proc *p)
{
	if (p->state != ENGINE_DOWN)
		return;
	start(e, p);
	if (p->state == ENGINE_STARTING && p->conn)
		send_setup(e, p);
}

void engine_respawn_due(struct engine *e, uint64_t index)
{
	BASE_CHECK(index < e->proc_count);
	engine_proc_start(e, &e->procs[index]);
}

struct base_buf *engine_proc_begin(struct engine *e, struct engine_proc *p, unsigned type)
{
	(void)e;
	if (!p || !p->conn || p->state == ENGINE_DOWN || p->killed)
		return NULL;
	return wire_conn_begin(p->conn, type);
}

void engine_proc_send(struct engine *e, struct engine_proc *p)
{
	int rc = wire_conn_end(p->conn);

	if (rc < 0) {
		engine_proc_kill(e, p, "does not read what is sent to it, or a frame to it was too large");
		return;
	}
	p->dirty = true;
	p->used_ms = e->mono;
	/* Early: the other side begins while this turn goes on. */
	if (wire_conn_pending(p->conn) >= 4096 && !p->want_out)
		(void)wire_conn_flush(p->conn);
}

void engine_proc_send_later(struct engine *e, struct engine_proc *p)
{
	if (wire_conn_end(p->conn) < 0)
		engine_proc_kill(e, p, "does not read what is sent to it, or a frame to it was too large");
}

void engine_procs_flush(struct engine *e)
{
	for (size_t i = 0; i < e->proc_count; i++) {
		struct engine_proc *p = &e->procs[i];
		int rc;

		if (!p->dirty || !p->conn)
			continue;
		p->dirty = false;
		rc = wire_conn_flush(p->conn);
		if ((rc == -EAGAIN) != p->want_out) {
			p->want_out = rc == -EAGAIN;
			if (engine_watch(e, wire_conn_fd(p->conn), &p->io,
				    EPOLLIN | (p->want_out ? EPOLLOUT : 0)) < 0)
				engine_proc_kill(e, p, "cannot be watched");
		}
	}
}

struct engine_proc *engine_proc_of(struct engine *e, enum engine_kind kind, unsigned nth)
{
	for (size_t i = 0; i < e->proc_count; i++)
		if (e->procs[i].kind == kind && nth-- == 0)
			return &e->procs[i];
	return NULL;
}

static struct engine_proc *add(struct engine *e, enum engine_kind kind, unsigned nth, int listen_fd)
{
	struct engine_proc *p = &e->procs[e->proc_count];

	p->index = (unsigned)e->proc_count++;
	p->kind = kind;
	p->exe = kind_exes[kind];
	p->pidfd = -1;
	p->listen_fd = listen_fd;
	if (nth)
		snprintf(p->label_buf, sizeof(p->label_buf), "%s %u", p->exe, nth);
	else
		snprintf(p->label_buf, sizeof(p->label_buf), "%s", p->exe);
	p->label = p->label_buf;
	return p;
}

static void add_once(struct engine *e, enum engine_kind kind, const char *label)
{
	struct engine_proc *p = add(e, kind, 0, -1);

	p->on_demand = p->once = true;
	snprintf(p->label_buf, sizeof(p->label_buf), "%s", label);
}

int engine_procs_early(struct engine *e, struct base_err *err)
{
	struct engine_proc *trial;
	char path[4096];
	int unix_fd;

	e->procs = calloc(PROCS_FIXED + ENGINE_FLOWS_MAX, sizeof(*e->procs));
	if (!e->procs)
		return base_err_set(err, -ENOMEM, "out of memory");
	snprintf(path, sizeof(path), "%s/door.sock", e->paths.run);
	unix_fd = engine_listen_unix(path, err);
	if (unix_fd < 0)
		return unix_fd;
	add(e, ENGINE_DOOR, 1, unix_fd)->local_door = true;
	add(e, ENGINE_CONNECT, 0, -1);
	add(e, ENGINE_VAULT, 0, -1);
	add(e, ENGINE_VIEWS, 0, -1);
	add(e, ENGINE_PARSE, 0, -1)->on_demand = true;
	add(e, ENGINE_FOLD, 0, -1)->on_demand = true;
	add_once(e, ENGINE_INSPECT, "aios-flow inspect");
	add_once(e, ENGINE_PASS, "aios-pass");
	add_once(e, ENGINE_SOURCES, "aios-parse sources");
	trial = add(e, ENGINE_TRIAL, 0, -1);
	trial->on_demand = true;
	snprintf(trial->label_buf, sizeof(trial->label_buf), "aios-flow trial");
	BASE_CHECK(e->proc_count == PROCS_FIXED - 1);
	start(e, &e->procs[0]);
	return 0;
}

int engine_procs_start(struct engine *e, struct base_err *err)
{
	bool shut = false;
	int tcp_fd = engine_door_listen(e, &shut, err);

	if (tcp_fd < 0 && !shut)
		return tcp_fd;
	if (shut) /* the operator's own door is how it is put right */
		engine_note(3, "the network door stays shut: %s; then aios deploy, aios down and aios up",
			err->text);
	else
		add(e, ENGINE_DOOR, 2, tcp_fd);
	for (unsigned i = 0; i < e->opt.workers; i++)
		add(e, ENGINE_FLOW, i + 1, -1);
	if (e->procs[0].conn)
		send_setup(e, &e->procs[0]);
	if (!shut)
		engine_proc_start(e, engine_proc_of(e, ENGINE_DOOR, 1));
	for (size_t i = 0; i < e->proc_count; i++)
		if (!e->procs[i].on_demand)
			engine_proc_start(e, &e->procs[i]);
	return 0;
}

void engine_procs_stop(struct engine *e, bool doors)
{
	for (size_t i = 0; i < e->proc_count; i++) {
		struct engine_proc *p = &e->procs[i];
		struct base_buf *b;

		if ((p->kind == ENGINE_DOOR) != doors || p->state == ENGINE_STOPPING ||
			p->state == ENGINE_DOWN)
			continue;
		if (p->state == ENGINE_STARTING || p->kind == ENGINE_FOLD) {
			/* It has nothing in flight. */
			p->state = ENGINE_STOPPING;
			p->killed = true;
			engine_child_kill(p->pidfd);
			continue;
		}
		b = engine_proc_begin(e, p, WIRE_STOP);
		if (!b)
			continue;
		wire_stop_put(b, &(struct wire_stop){0});
		engine_proc_send(e, p);
		p->state = ENGINE_STOPPING;
	}
	engine_procs_flush(e);
}

bool engine_procs_gone(const struct engine *e, bool doors)
{
	for (size_t i = 0; i < e->proc_count; i++)
		if (e->procs[i].state != ENGINE_DOWN && (e->procs[i].kind == ENGINE_DOOR) == doors)
			return false;
	return true;
}

void engine_procs_done(struct engine *e)
{
	for (size_t i = 0; i < e->proc_count; i++) {
		struct engine_proc *p = &e->procs[i];

		if (p->pid > 0) {
			engine_child_kill(p->pidfd);
			(void)engine_child_reap(p->pid, p->pidfd, true, NULL);
		}
		if (p->conn)
			wire_conn_free(p->conn);
		engine_child_close(p->pidfd);
		engine_child_close(p->listen_fd);
		free(p->worker.versions);
		free(p->worker.unacked);
		free(p->worker.stale);
	}
	free(e->procs);
	e->procs = NULL;
	e->proc_count = 0;
}
