#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/heap.h"
#include "base/json.h"
#include "base/map.h"
#include "base/str.h"
#include "core/core.h"
#include "log/log.h"
#include "wire/conn.h"
#include "wire/frames.h"
#include "wire/routes.h"

/* What the files of aiosd share. One thread (the loop) owns all of it but for what stands in struct
 * engine_committer. */

#define ENGINE_VERSION "0.1.0"

enum {
	ENGINE_FLOWS_MAX = 8,	      /* flow workers */
	ENGINE_GROUP_MAX = 1 << 20,   /* bytes of a commit that is started though nobody waits for it */
	ENGINE_PENDING_MAX = 8 << 20, /* bytes that may wait for a commit: more is not decided */
	ENGINE_LINGER_MS = 20,	      /* an event is durable after this even if nobody waits */
	ENGINE_VIEWS_MS = 20, /* committed events go to the views after this, or when somebody asks them */
	ENGINE_WATCHDOG_MS = 2000, /* a flow that does not come back in this time is ended */
	ENGINE_EVICT_MS = 30000,
	ENGINE_BUSY_MAX = 6 << 20, /* the same: clients' work is refused */
	ENGINE_LOADED_MAX =
		2000,		 /* runs loaded in workers, for each worker; limits.loaded: of all together */
	ENGINE_TICKS_MAX = 4000, /* timers that fire in one turn */
	ENGINE_TICKS_MS = 100,	 /* and for how long */
	ENGINE_LOADS_MAX = 128,	 /* runs that are loaded in one turn */
	ENGINE_READS = 8,	 /* commits of the log that are kept after they were read */
	ENGINE_REST_MAX = 1000,	 /* runs taken out of memory before that is noted in the log */
	ENGINE_STOP_MS = 3000,	 /* drain at SIGTERM */
	ENGINE_PARSE_IDLE_MS = 30000,
	ENGINE_FOLD_LONG = 1000000, /* events behind the last snapshot: a new one is made */
	ENGINE_FOLD_QUIET = 20000,  /* the same, in a quiet moment */
	ENGINE_QUIET_MS = 300000,
	ENGINE_CLOCK_STEP_MS = 60000, /* what the wall clock may be set by at once */
};

struct engine;

/* --- what epoll wakes --- */

struct engine_source {
	void (*fn)(struct engine *e, struct engine_source *s, uint32_t events);
	void *owner;
};
/* Adds, changes (again with the same fd) and removes. Negative errno. */
int engine_watch(struct engine *e, int fd, struct engine_source *s, uint32_t events)
	__attribute__((warn_unused_result));
void engine_unwatch(struct engine *e, int fd);

/* --- timers: monotonic milliseconds; a timer that is not needed any more is ignored when it comes --- */

enum engine_timer {
	ENGINE_TIMER_LINGER,
	ENGINE_TIMER_RESPAWN,  /* id: index of the process */
	ENGINE_TIMER_WATCHDOG, /* id: index of the process */
	ENGINE_TIMER_EVICT,
	ENGINE_TIMER_CALLS,
	ENGINE_TIMER_ASK,    /* id: request */
	ENGINE_TIMER_ONCE,   /* id: request that a process lives for */
	ENGINE_TIMER_WAITER, /* id: request */
	ENGINE_TIMER_PARSE,
	ENGINE_TIMER_STOP,
	ENGINE_TIMER_DEGRADED, /* try the disk again */
	ENGINE_TIMER_SNAPSHOT,
	ENGINE_TIMER_VIEWS,
	ENGINE_TIMER_TRIAL, /* id: of the trial whose watchdog it is, or 0: go on */
	ENGINE_TIMER_KEEP,  /* id 1: once more, besides the regular ones */
	ENGINE_TIMER_ANCHOR,
	ENGINE_TIMER_TELL, /* id: of an announcement */
	ENGINE_TIMER_SEEN,
};
void engine_timer_add(struct engine *e, enum engine_timer kind, uint64_t id, int64_t in_ms);

/* --- the world (world.c): what the simulator has otherwise --- */

int engine_world_open(struct engine *e, struct base_err *err) __attribute__((warn_unused_result));
void engine_world_done(struct engine *e);
/* Waits for what is watched, the alarm or a signal, at most timeout_ms (-1: for ever), and handles what came. */
void engine_wait(struct engine *e, int timeout_ms);
/* Sets the alarm that wakes engine_wait: monotonic milliseconds. When it has rung, e->armed is INT64_MAX again. */
void engine_arm(struct engine *e, int64_t when);
void engine_entropy(void *ret, size_t len); /* at most 4096 bytes */
/* Opens the event log of this workspace. */
int engine_log_open(struct engine *e, struct log **ret, struct base_err *err)
	__attribute__((warn_unused_result));
/* A place where aiosd may die in the simulator; does nothing here. */
void engine_point(const char *name);
/* SIGTERM: the doors stop accepting, what is in flight has a moment. */
void engine_stop(struct engine *e);

/* --- processes --- */

enum engine_kind {
	ENGINE_FLOW,
	ENGINE_CONNECT,
	ENGINE_PARSE,
	ENGINE_VAULT,
	ENGINE_VIEWS,
	ENGINE_DOOR,
	ENGINE_FOLD,
	ENGINE_TRIAL,	/* aios-flow too, for trials of versions (trial.c) */
	ENGINE_INSPECT, /* aios-flow: what a flow declares; one life for one source (ask.c, Q2) */
	ENGINE_PASS,	/* one life for one check of a credential */
	ENGINE_SOURCES, /* aios-parse: the operator's own documents; one life for one of them */
};
enum engine_proc_state { ENGINE_DOWN, ENGINE_STARTING, ENGINE_UP, ENGINE_STOPPING };

/* A version that a flow worker holds. */
struct engine_loaded {
	struct base_hash version;
	uint32_t runs;
};
/* What aiosd knows of one flow worker; reset when it dies. */
struct engine_worker {
	struct engine_loaded *versions;
	size_t version_count, version_size;
	uint64_t *
		unacked; /* ring: runs whose flow_start or flow_result the worker has not acknowledged, oldest first */
	size_t ring_size, ring_head, ring_count;
	int64_t head_since;	    /* when the oldest became the oldest */
	struct engine_stale *stale; /* lives of runs that it was told to drop and still speaks of (stale.c) */
	size_t stale_count, stale_size;
	bool hung;    /* ended because it did not come back */
	bool watched; /* a watchdog timer stands */
	uint32_t runs;
};

struct engine_proc {
	unsigned index;
	enum engine_kind kind;
	const char *exe;   /* "aios-flow" */
	const char *label; /* "aios-flow 1": for messages */
	char label_buf[24];
	enum engine_proc_state state;
	bool on_demand;
	bool once;  /* it lives for one question */
	bool asked; /* that question was sent */
	bool local_door;
	bool killed; /* by aiosd, on purpose */
	bool want_out;
	bool dirty;
	pid_t pid;
	int pidfd;
	int listen_fd;	     /* doors; else -1 */
	uint64_t generation; /* counts its lives */
	struct wire_conn *conn;
	struct engine_source io, death;
	unsigned fails; /* deaths in a row, for the backoff */
	int64_t up_since, used_ms, notes_since;
	unsigned notes;
	char sandbox[128];
	char public_key[32];
	bool has_key;
	struct engine_worker worker;
};

struct engine_spawn {
	const char *exe; /* path */
	const char *const *argv;
	int listen_fd; /* becomes fd 4; -1: none */
	int nice;
	bool new_pidns;
	bool files; /* as root it goes on reaching files of other users: no user namespace */
};
/* Starts a process with a cleared environment and only 0-2, 3 (its socket) and 4. Negative errno with a text.
 */
int engine_spawn(const struct engine_spawn *s, pid_t *ret_pid, int *ret_pidfd, int *ret_fd,
	struct base_err *err) __attribute__((warn_unused_result));

void engine_child_kill(int pidfd); /* SIGKILL */
/* Whether it has ended (wait: waits until it has); then *ret_status (may be NULL) is as waitpid gives it. */
bool engine_child_reap(pid_t pid, int pidfd, bool wait, int *ret_status);
void engine_child_close(int fd); /* a pidfd or a listening socket; -1: nothing */

/* The table of processes; the local door starts at once, while the log is opened. */
int engine_procs_early(struct engine *e, struct base_err *err) __attribute__((warn_unused_result));
/* The others, as configured. */
int engine_procs_start(struct engine *e, struct base_err *err) __attribute__((warn_unused_result));
void engine_proc_start(struct engine *e, struct engine_proc *p);
/* SIGKILL, with the reason in the operator's log; what follows happens when its death is seen. */
void engine_proc_kill(struct engine *e, struct engine_proc *p, const char *why);
/* Ends it as intended: it is not needed any more. */
void engine_proc_end(struct engine *e, struct engine_proc *p);
/* Begins a frame to p; NULL when it is not up (or starting). Then encode and call engine_proc_send. */
struct base_buf *engine_proc_begin(struct engine *e, struct engine_proc *p, unsigned type);
void engine_proc_send(struct engine *e, struct engine_proc *p);
/* The same without waking the process: with the next frame that is sent to it, or when somebody marks it
 * dirty. */
void engine_proc_send_later(struct engine *e, struct engine_proc *p);
void engine_procs_flush(struct engine *e);
struct engine_proc *engine_proc_of(struct engine *e, enum engine_kind kind, unsigned nth); /* NULL: none */
/* Asks the doors, or all others, to stop; whether they have. */
void engine_procs_stop(struct engine *e, bool doors);
bool engine_procs_gone(const struct engine *e, bool doors);
void engine_procs_done(struct engine *e);
void engine_respawn_due(struct engine *e, uint64_t index);

/* --- commits --- */

/* Something that may leave only when the events before it are durable. Embedded first in its owner. */
struct engine_out {
	struct engine_out *next;
	void (*release)(struct engine *e, struct engine_out *o);	   /* durable */
	void (*discard)(struct engine *e, struct engine_out *o, int code); /* will never be */
};
struct engine_body {
	struct base_hash hash;
	char *data;
	size_t len;
};
/* The events of one commit. */
struct engine_group {
	struct base_buf block;
	uint32_t *offs; /* where each event starts in the block */
	size_t count, size;
	uint64_t first_seq;
	struct engine_body *bodies;
	size_t body_count, body_size, body_bytes;
	struct engine_out *outs, **outs_tail;
	int64_t time_ms;
};
struct engine_committer {
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct engine_group *job; /* guarded by lock, as are the next seven */
	bool stop, done, idling, busy;
	uint64_t appended;
	int result;
	struct base_err err;
	int efd;
	struct engine_source source;
	struct log *log;
};
/* The thread that appends (committer.c): one group at a time is given to it; it says engine_committed when it is done
 * with it. reserve and run do the same on the calling thread, if the committer has nothing to do. */
int engine_committer_start(struct engine *e, struct base_err *err) __attribute__((warn_unused_result));
void engine_committer_stop(struct engine *e); /* finishes what it was given */
void engine_committer_give(struct engine *e, struct engine_group *g);
bool engine_committer_take(struct engine *e, int *ret_rc, struct base_err *ret_err); /* true: it was done */
bool engine_committer_reserve(struct engine *e, struct engine_group *g);
void engine_committer_run(struct engine *e, struct engine_group *g);
void engine_committer_wait(struct engine *e);
/* Appends a group to the log. As log_append. */
int engine_group_append(struct log *log, const struct engine_group *g, struct base_err *err)
	__attribute__((warn_unused_result));
void engine_committed(struct engine *e); /* releases what waited for the commit that is done */

int engine_commit_init(struct engine *e, struct base_err *err) __attribute__((warn_unused_result));
void engine_commit_done(struct engine *e);
/* Releases o when everything decided so far is durable: now, or with a commit that this asks for. */
void engine_after_commit(struct engine *e, struct engine_out *o);
/* Starts a commit if somebody waits for one (or `force`) and none is running. */
void engine_commit_start(struct engine *e, bool force);
/* The same on the calling thread, if nothing is under way inside the house. */
void engine_commit_inline(struct engine *e);
void engine_commit_one(struct engine *e); /* waits for the one that is running */
/* Waits for the running commit and releases (shutdown). */
void engine_commit_wait(struct engine *e);
bool engine_all_durable(const struct engine *e);

/* --- turns --- */

/* Prefetch, decide, apply. Fills now_ms and entropy. Views in *ret live until the next decide. 0, -ENOMEM,
 * -ENOSPC (degraded: nothing can be written), -EIO. */
int engine_decide(struct engine *e, struct core_cmd *cmd, struct core_reply *ret)
	__attribute__((warn_unused_result));
void engine_tick(struct engine *e);   /* timers that are due */
void engine_resume(struct engine *e); /* after the state was loaded: what must run, runs */
/* The time that counts: the wall clock's, as long as it goes with the boot clock. */
int64_t engine_wall_ms(void);
struct engine_clock {
	int64_t skew; /* wall clock - boot clock */
	bool set, jumped;
};
/* One reading of both clocks: small corrections of the wall clock are followed, jumps are not. */
int64_t engine_clock_follow(struct engine_clock *k, int64_t wall, int64_t boot);
int64_t engine_mono_ms(void);
void engine_random(struct engine *e, void *ret, size_t len);
/* Reads the event at seq from the tail or the log. Views live until the next call. 0, -ENOENT, -EIO. */
/* A body that is not durable yet. */
bool engine_group_body(const struct engine_group *g, const struct base_hash *hash, struct base_str *ret);
/* What was read from the log before is not looked at again (another log was opened; the end). */
void engine_reads_forget(struct engine *e);
int engine_read_event(struct engine *e, uint64_t seq, struct core_record *ret);
/* Its body's blob, found and resolved. Views live until the next call. */
int engine_read_blob(struct engine *e, uint64_t seq, struct core_record *ret_rec, struct base_str *ret_blob);
/* What a flow gets for the event that ended its step. Views live until the next read. */
int engine_step_result(
	struct engine *e, uint64_t seq, bool *ret_ok, int64_t *ret_time_ms, struct base_str *ret_value);
/* A body by hash, from the tail or the log. */
int engine_read_body(struct engine *e, const struct base_hash *hash, struct base_str *ret);
/* The main blob of a decoded event, NULL: it has none. */
const struct base_blob *engine_event_blob(unsigned type, const union core_event_any *ev);

/* --- opening and closing --- */

int engine_recover(struct engine *e, struct base_err *err) __attribute__((warn_unused_result));
/* A fresh core with the catalogue. */
int engine_core_new(struct core **ret, struct base_err *err) __attribute__((warn_unused_result));
/* Applies the events behind `from` up to `until` to c. -EUCLEAN when the log does not hold them. */
int engine_fold(struct core *c, struct log_reader *r, uint64_t from, uint64_t until, struct base_err *err)
	__attribute__((warn_unused_result));
int engine_snapshot(struct engine *e, struct base_err *err) __attribute__((warn_unused_result));
/* A commit failed: forgets everything that is not in the log and goes on from there, read-only until it can
 * write. */
void engine_degrade(struct engine *e, int code, const char *why);
void engine_degraded_retry(struct engine *e);
/* Applies the configuration in the state to this process. */
void engine_config_load(struct engine *e);

/* The interpreter that the flow workers of this build have: "quickjs-ng 0.16.2". */
struct base_str engine_interpreter(void);

/* --- flows --- */

struct engine_run; /* flows_int.h */
int engine_flows_init(struct engine *e) __attribute__((warn_unused_result));
void engine_flows_done(struct engine *e);
/* Load it (again). later: after all others, when the workers have little to do. */
void engine_flows_want(struct engine *e, uint64_t run, bool later);
void engine_flows_result(struct engine *e, const struct core_act *act);
void engine_flows_drop(struct engine *e, uint64_t run);
void engine_flows_pump(struct engine *e); /* loads what waits: a part, so that others have their turn */
bool engine_flows_more(const struct engine *e);
void engine_flows_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body);
void engine_flows_up(struct engine *e, struct engine_proc *p);
/* status: as waitpid gives it. */
void engine_flows_down(struct engine *e, struct engine_proc *p, int status);
void engine_worker_watchdog(struct engine *e, uint64_t index);
void engine_flows_evict(struct engine *e);
/* Tells the log which runs are at rest since it was told last. */
void engine_flows_rest(struct engine *e);
void engine_flows_stop(struct engine *e);   /* the same with those that are still in memory, before a stop */
void engine_flows_forget(struct engine *e); /* all of them (the state is reloaded) */
size_t engine_flows_count(const struct engine *e);

/* Why a worker is gone: it died (status as waitpid gives it), or was ended because it hung or broke the protocol. */
enum engine_death { ENGINE_DIED, ENGINE_HUNG, ENGINE_ROGUE };
/* Records what the run did to its worker; enough: it is quarantined now. */
void engine_flow_crashed(struct engine *e, uint64_t run, enum engine_death death, int status, bool enough);
/* A run was dropped with so many frames unanswered. */
void engine_stale_add(struct engine_worker *w, uint64_t run, uint32_t answers);
/* True when this frame of the worker is about a life of the run that is over. Call once per frame. */
bool engine_stale(struct engine_worker *w, uint64_t run, unsigned type);
/* True when the worker has told everything that it will tell of this run until it gets something new, or when none has
 * it. */
bool engine_flows_settled(const struct engine *e, uint64_t run);

/* --- trials of versions (trial.c) --- */

int engine_trials_init(struct engine *e) __attribute__((warn_unused_result));
void engine_trials_done(struct engine *e);
void engine_trials_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body);
void engine_trials_up(struct engine *e);
void engine_trials_down(struct engine *e, struct engine_proc *p, int status);
void engine_trials_timer(struct engine *e, uint64_t id);

/* --- effects --- */

int engine_effects_init(struct engine *e) __attribute__((warn_unused_result));
void engine_effects_done(struct engine *e);
void engine_effects_dispatch(struct engine *e, const struct core_act *act);
void engine_effects_cancel(struct engine *e, const struct core_act *act);
void engine_effects_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body);
void engine_effects_up(struct engine *e);
/* What the connector's connection did not take, once it has drained. */
void engine_effects_pump(struct engine *e);
void engine_effects_down(struct engine *e);
void engine_effects_sweep(struct engine *e); /* deadlines */
size_t engine_effects_count(const struct engine *e);
/* Results that came while nothing could be written: decides them; forgets them. */
void engine_effects_replay(struct engine *e);
void engine_effects_replayed(struct engine *e);

/* session.get and session.put: sets *ret_outcome and appends the value. *labels: of the run that asks; then of the value. */
void engine_session_call(struct engine *e, struct base_str action, struct base_str args, uint8_t *labels,
	unsigned *ret_outcome, struct base_buf *ret);
void engine_sessions_done(struct engine *e);

/* The host of "scheme://user@host:port/…". */
struct base_str engine_host_of(struct base_str url);

/* --- announcements and links (announce.c, links.c) --- */

void engine_announce(struct engine *e, const struct core_act *act);
/* False: the attempt is no announcement's. */
bool engine_announce_result(struct engine *e, const struct wire_effect_result *r);
void engine_announce_due(struct engine *e, uint64_t id);
void engine_announce_down(struct engine *e);	 /* the connector died */
void engine_announce_unlocked(struct engine *e); /* the vault is open */
/* One was met in an announcement; nothing where the call is none's. */
void engine_announce_canary(struct engine *e, const struct wire_canary_met *f);
void engine_announce_done(struct engine *e);
/* Appends a one-time link by which `who` decides the gate; nothing where none can be made. */
void engine_link_put(struct engine *e, uint64_t gate, uint32_t nth, struct base_str who, int64_t expires_ms,
	struct base_buf *ret);
void engine_links_done(struct engine *e);
/* --- questions to other processes --- */

/* status 1: ok, value is the answer; 0: value is a problem; negative: nobody answered. Views live during the
 * call. */
typedef void (*engine_ask_fn)(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed);
/* A request whose frame begins with the request number. `frame` is encoded with the number that
 * engine_ask_next gave. Survives one restart of the process. fn is always called once, possibly before this
 * returns. */
uint64_t engine_ask_next(struct engine *e);
void engine_ask(struct engine *e, enum engine_kind kind, unsigned type, uint64_t req, struct base_buf *frame,
	int64_t timeout_ms, engine_ask_fn fn, void *userdata);
void engine_ask_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body);
void engine_ask_up(struct engine *e, struct engine_proc *p);
void engine_ask_down(struct engine *e, struct engine_proc *p);
void engine_ask_timeout(struct engine *e, uint64_t req);
/* A process that lives for this question has had its time. */
void engine_ask_hung(struct engine *e, uint64_t req);
void engine_asks_done(struct engine *e);
/* The common ones. */
/* kind: ENGINE_PARSE for what comes from outside, ENGINE_SOURCES for what the operator deploys. */
void engine_parse(struct engine *e, enum engine_kind kind, struct base_str format, struct base_str name,
	struct base_str input, engine_ask_fn fn, void *userdata);
void engine_parse_idle(struct engine *e);
void engine_views_ask(
	struct engine *e, const char *query, struct base_str params, engine_ask_fn fn, void *userdata);
/* API keys of model providers in the environment go into the vault. */
void engine_vault_adopt(struct engine *e);
/* The vault has come up: is it open? */
void engine_vault_up(struct engine *e);
/* Before anything leaves through this aios-connect it knows the canaries: false, and they are asked for; engine_effects_up
 * follows. */
bool engine_canaries_ready(struct engine *e, struct engine_proc *connect);
/* aios-connect has met one. action, run: of the call. */
void engine_canary_met(struct engine *e, struct base_str name, struct base_str where, struct base_str action,
	uint64_t run, uint32_t step);
/* Whether a refusal of the vault says that it is locked. */
bool engine_is_locked_problem(struct base_str problem);
/* The reply to a release said so. */
void engine_vault_is_locked(struct engine *e);
/* Asks for a signature of the vault's Ed25519 key over "aios/1/" domain, a zero byte, data. fn: status 1: `sealed` is the
 * signature (64 bytes), value {"public_key"}; 0: value is a problem, "vault_locked" among them; else no answer. */
void engine_vault_sign(
	struct engine *e, const char *domain, struct base_str data, engine_ask_fn fn, void *userdata);

/* --- time zones (zones.c) --- */

enum { ENGINE_ZONES_MAX = 64 };
struct engine_zones { /* zeroed: none; engine_zones_done frees what it holds */
	struct core_zone_file file[ENGINE_ZONES_MAX];
	struct base_buf text[ENGINE_ZONES_MAX];
	size_t count;
};
/* Reads the rules of a zone, once each; `name` must outlive z. */
void engine_zones_add(struct engine_zones *z, struct base_str name);
/* Of every zone that a flow's spec names. */
void engine_zones_add_spec(struct engine_zones *z, struct base_jv spec);
void engine_zones_done(struct engine_zones *z);

/* --- views --- */

void engine_views_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body);
void engine_views_committed(struct engine *e, const struct engine_group *g);
void engine_views_pump(struct engine *e);
bool engine_views_more(struct engine *e); /* there is more to send and room for it */
void engine_views_down(struct engine *e);
void engine_views_due(struct engine *e);
/* Its files are deleted and it starts again from the first event. */
void engine_views_rebuild(struct engine *e);

/* --- snapshots while running (fold.c) --- */

int engine_fold_init(struct engine *e) __attribute__((warn_unused_result));
void engine_fold_check(
	struct engine *e, bool quiet); /* starts one if the suffix has grown long (quiet: longish) */
void engine_fold_up(struct engine *e, struct engine_proc *p);
void engine_fold_down(struct engine *e);
void engine_fold_settle(struct engine *e); /* waits for the thread that writes */
void engine_fold_done(struct engine *e);

/* --- the API --- */

/* A request of a door until it is answered. Copies of what is needed later. */
struct engine_req {
	struct engine_out out;
	uint64_t id;  /* of aiosd */
	uint64_t req; /* of the door */
	struct engine_proc *door;
	uint64_t generation;
	enum wire_op op;
	struct core_caller by; /* id points to by_id, caveats to by_caveats */
	char by_id[160];
	char *by_caveats;
	bool scoped; /* not everything exists for it: `scope` of scope_doc (core_scope_json) */
	struct base_json *scope_doc;
	struct base_jv scope;
	uint64_t asked;	 /* the run, or the gate, that it is looked for whether it is there (scope.c) */
	bool asked_gate; /* it is a gate */
	struct base_buf kept_body; /* of the request, while the views look */
	bool gone;		   /* nobody waits any more */
	bool again;		   /* its answer is kept for its Idempotency-Key */
	struct base_json *params_doc;
	struct base_jv params;
	struct base_str body; /* valid during the handler only */
	struct base_str key;  /* idempotency key, scoped by the caller; points to key_buf */
	char key_buf[544];
	uint8_t credential;
	char session[65];     /* its id, credential 3 */
	uint8_t holder[32];   /* the public half of the key (of a chain: its root), credential 2 */
	bool session_rotates; /* it is to get another token */
	char host[256];	      /* as asked for: "localhost:7717" */
	char address[64];     /* of the client; empty: the operator's socket */
	char agent[204];      /* User-Agent, cut */
	uint64_t last_event;  /* SSE resume */
	bool has_last_event;
	int status;
	const char *content_type;
	struct base_buf headers;
	struct base_buf reply;
	uint64_t run;		 /* waits for its end */
	uint64_t shown_gate;	 /* that the answer shows, where no parameter says it */
	void *state;		 /* of an operation in several parts; freed with free() */
	struct engine_req *next; /* waits for the same run */
};
int engine_api_init(struct engine *e);
void engine_api_frame(struct engine *e, struct engine_proc *p, unsigned type, struct base_str body);
void engine_api_down(struct engine *e, struct engine_proc *p);
void engine_api_done(struct engine *e);
/* Answers with JSON once what was decided is durable, and frees q. */
void engine_reply(struct engine *e, struct engine_req *q, int status, struct base_str json);
/* The same with what was appended to q->reply. */
void engine_reply_built(struct engine *e, struct engine_req *q, int status);
void engine_reply_problem(struct engine *e, struct engine_req *q, int status, const char *code,
	const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Decides cmd as the caller of q and answers. */
void engine_reply_cmd(struct engine *e, struct engine_req *q, struct core_cmd *cmd);
/* Decides only: true with the reply when it was taken (status below 400); else q is answered. */
bool engine_req_decide(struct engine *e, struct engine_req *q, struct core_cmd *cmd, struct core_reply *ret);
/* An engine_ask_fn whose userdata is a request: passes the answer on. */
void engine_reply_ask(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed);
struct base_str engine_param(const struct engine_req *q, const char *name);
uint64_t engine_param_u64(const struct engine_req *q, const char *name, uint64_t otherwise);
/* The request's body as JSON (an empty one as {}), or answers 400 and returns NULL. The caller frees. */
struct base_json *engine_body_json(struct engine *e, struct engine_req *q);
void engine_req_free(struct engine *e, struct engine_req *q);
struct engine_req *engine_req_of(struct engine *e, uint64_t id);

/* Idempotency-Key (again.c): true when q came before and is answered. */
bool engine_again(struct engine *e, struct engine_req *q);
void engine_again_answered(struct engine *e, struct engine_req *q);
void engine_agains_done(struct engine *e);

/* Waiting for the end of a run. */
void engine_waiter_due(struct engine *e, uint64_t id);
void engine_run_ended(struct engine *e, const struct core_act *act);
void engine_run_wait(struct engine *e, struct engine_req *q, uint64_t run, uint64_t seconds);
void engine_waiters_check(
	struct engine *e); /* after a reload: refuses those whose run is not there any more */
void engine_waiter_drop(struct engine *e, struct engine_req *q);

/* Who asks: fills q->by. 0, or a status (401, 403) to refuse with. */
int engine_authenticate(struct engine *e, struct engine_req *q, const struct wire_door_request *in);
/* Does what q was let in with still hold: the key neither revoked, replaced nor expired and granted this still, the session
 * open. To be asked again by whoever answers later than at once. */
bool engine_still_holds(struct engine *e, const struct engine_req *q);
/* Answers 401, the same for every reason (K3). */
void engine_reply_unknown(struct engine *e, struct engine_req *q);
/* Records that the caller of q may not do its operation, and answers 403. */
void engine_req_deny(struct engine *e, struct engine_req *q, const char *why);
/* May the caller of q do this operation? */
bool engine_req_may(struct engine *e, const struct engine_req *q);
/* sessions_web.c: is this the cookie of a session that is open? Fills q->session. */
bool engine_web_session(struct engine *e, struct engine_req *q, struct base_str token);
/* scope.c: fills q->scope from q->by. False: out of memory. */
bool engine_scope_load(struct engine *e, struct engine_req *q) __attribute__((warn_unused_result));
/* Whether what the request names is there for who asks. False: q is answered, or will be or go on when the views have
 * looked. */
bool engine_scope_check(struct engine *e, struct engine_req *q);
bool engine_scope_flow(const struct engine_req *q, struct base_str flow);
bool engine_scope_key(const struct engine_req *q, struct base_str key); /* of a fact or a document */
bool engine_scope_run(struct engine *e, const struct engine_req *q, uint64_t run); /* that the state knows */
/* Appends the elements of a JSON list, made from the state for this operation, that are there for who asks. */
void engine_scope_list(
	struct engine *e, const struct engine_req *q, struct base_str list, struct base_buf *ret);
/* As engine_views_ask, with the scope of who asks. params: an object. */
void engine_views_ask_as(struct engine *e, struct engine_req *q, const char *query, struct base_str params,
	engine_ask_fn fn, void *userdata);
/* Who asks is known, may do it, and what it is about is there: does it. */
void engine_req_go_on(struct engine *e, struct engine_req *q);
/* auth_keys.c: a key, plain or attenuated: fills q->by. */
bool engine_authenticate_key(struct engine *e, struct engine_req *q, struct base_str text);
/* The 8 bytes in every key of this workspace. */
void engine_keys_tag(const struct engine *e, uint8_t ret[8]);
void engine_keys_flush(struct engine *e); /* when keys were last used: into the log */
void engine_keys_done(struct engine *e);
/* Takes one of the requests that a key may send now: 0, or how many ms until it may (door.rates.key). */
int64_t engine_key_wait_ms(struct engine *e, struct base_str id);
void engine_op_keys(struct engine *e, struct engine_req *q);
void engine_op_key_create(struct engine *e, struct engine_req *q);
void engine_op_key_change(struct engine *e, struct engine_req *q); /* revoke, rotate */
/* The token that a page's form must carry, hex. */
void engine_web_csrf(struct engine *e, const struct engine_req *q, char ret[65]);
void engine_web_done(struct engine *e);

typedef void (*engine_op_fn)(struct engine *e, struct engine_req *q);
engine_op_fn engine_op(enum wire_op op); /* NULL: answered by the door */
/* api_runs.c */
void engine_op_run_start(struct engine *e, struct engine_req *q);
void engine_op_run(struct engine *e, struct engine_req *q);
void engine_op_run_value(struct engine *e, struct engine_req *q);
void engine_op_run_cmd(struct engine *e, struct engine_req *q);
void engine_op_signal(struct engine *e, struct engine_req *q);
void engine_op_views(struct engine *e, struct engine_req *q);
/* "active", "queued", … of a run that the state knows. */
const char *engine_run_state(const struct core_run_info *info);
/* api_fork.c */
void engine_op_run_fork(struct engine *e, struct engine_req *q);
/* api_why.c */
void engine_op_queue(struct engine *e, struct engine_req *q);
void engine_op_run_why(struct engine *e, struct engine_req *q);
void engine_op_can(struct engine *e, struct engine_req *q);
/* api_schedules.c */
void engine_op_schedules(struct engine *e, struct engine_req *q);
void engine_op_schedule_pause(struct engine *e, struct engine_req *q);
void engine_op_event_publish(struct engine *e, struct engine_req *q);
/* api_gates.c */
void engine_op_gates(struct engine *e, struct engine_req *q);
void engine_op_gate(struct engine *e, struct engine_req *q);
void engine_op_gate_decide(struct engine *e, struct engine_req *q);
void engine_op_link_show(struct engine *e, struct engine_req *q);
void engine_op_link_decide(struct engine *e, struct engine_req *q);
void engine_op_links_rotate(struct engine *e, struct engine_req *q);
void engine_op_proposals(struct engine *e, struct engine_req *q);
void engine_op_proposal(struct engine *e, struct engine_req *q);
void engine_op_proposal_close(struct engine *e, struct engine_req *q);
/* gate_sign.c: an approval that is a passkey's signature; body: {"shown","reason"}. Answers q. */
void engine_gate_sign(struct engine *e, struct engine_req *q, struct base_jv body, struct base_jv assertion);
void engine_gate_challenge(
	struct engine *e, uint64_t gate, const struct base_hash *shown, struct base_hash *ret);
/* Appends ,"challenge":…,"rp_id":… where passkeys can be used. */
void engine_gate_challenge_put(
	struct engine *e, uint64_t gate, const struct base_hash *shown, struct base_buf *b);
void engine_op_gates_decide(struct engine *e, struct engine_req *q);
void engine_op_gate_delegate(struct engine *e, struct engine_req *q);
/* An open gate with what it shows, as an object; false: there is none. */
bool engine_gate_put(struct engine *e, uint64_t gate, struct base_buf *b);
/* api_pages.c */
void engine_op_page(struct engine *e, struct engine_req *q);
void engine_op_page_gate(struct engine *e, struct engine_req *q);
void engine_op_page_decide(struct engine *e, struct engine_req *q);
/* api_memory.c */
void engine_op_facts(struct engine *e, struct engine_req *q);
void engine_op_fact(struct engine *e, struct engine_req *q);
void engine_op_fact_put(struct engine *e, struct engine_req *q);
void engine_op_doc_put(struct engine *e, struct engine_req *q);
/* api_admin.c */
void engine_op_health(struct engine *e, struct engine_req *q);
void engine_op_status(struct engine *e, struct engine_req *q);
void engine_op_state(struct engine *e, struct engine_req *q); /* flows, budgets, keys, from the state alone */
/* The array in {"name":[…]}: a view into the buffer. */
struct base_str engine_array_of(const struct base_buf *object);
void engine_op_flow(struct engine *e, struct engine_req *q);
void engine_op_outcome(struct engine *e, struct engine_req *q);
void engine_op_freeze(struct engine *e, struct engine_req *q);
void engine_op_guards(struct engine *e, struct engine_req *q);
void engine_op_guard_set(struct engine *e, struct engine_req *q);
void engine_op_vault(struct engine *e, struct engine_req *q);
void engine_op_vault_state(struct engine *e, struct engine_req *q);
void engine_op_views_rebuild(struct engine *e, struct engine_req *q);
/* sessions_web.c */
void engine_op_session_open(struct engine *e, struct engine_req *q);
void engine_op_sign_in(struct engine *e, struct engine_req *q);
/* verify.c */
void engine_op_log_verify(struct engine *e, struct engine_req *q);
void engine_verify_settle(struct engine *e); /* waits for the one that is running, and answers */
void engine_verify_done(struct engine *e);
/* deploy.c */
void engine_op_deploy(struct engine *e, struct engine_req *q);
/* Appends {"entry":…,"modules":{…}}: the entry and what it imports, with sorted paths; canonical, so that its hash is the
 * version. -E2BIG, -ENOMEM. */
int engine_graph_put(struct base_jv files, struct base_str entry, struct base_buf *b)
	__attribute__((warn_unused_result));
/* 422 for a fault in a source: file, line and column where the problem names them. status: as of engine_ask_fn. */
void engine_reply_fault(struct engine *e, struct engine_req *q, struct base_str path, int status,
	struct base_str problem, const char *title);
/* rehearse.c, backtest.c */
void engine_op_rehearse(struct engine *e, struct engine_req *q);
void engine_op_backtest(struct engine *e, struct engine_req *q);
/* stream.c */
void engine_op_events(struct engine *e, struct engine_req *q);

/* SSE: what was committed goes to open streams. */
void engine_stream_gone(struct engine *e, const struct engine_proc *door, bool all, uint64_t req);
void engine_stream_pump(struct engine *e);
void engine_stream_check(struct engine *e); /* ends those whose session or key does not hold any more */
bool engine_stream_more(struct engine *e);
void engine_streams_done(struct engine *e);

/* --- housekeeping --- */

/* In the log's folder: it was restored from a backup, and has not begun its new epoch. */
#define ENGINE_RESTORED "restored"
/* keep.c: archive, retention, disk */
int engine_keep_init(struct engine *e) __attribute__((warn_unused_result));
void engine_keep_start(struct engine *e);
void engine_keep_due(struct engine *e, uint64_t once);
void engine_keep_committed(struct engine *e, const struct engine_group *g);
void engine_keep_settle(struct engine *e); /* waits for its threads, before the log is closed */
void engine_keep_done(struct engine *e);
/* disk.c */
void engine_disk_full(struct engine *e);			  /* gives up the reserve */
bool engine_disk_stands(const struct engine *e);		  /* flows and timers wait for room */
bool engine_disk_refuses(struct engine *e, struct engine_req *q); /* new work: q is answered */
void engine_disk_put(const struct engine *e, struct base_jw *w);  /* "disk":{…} */
/* anchor.c: -ESTALE with a text when the log is older than it was. */
int engine_anchor_check(struct engine *e, struct base_err *err) __attribute__((warn_unused_result));
void engine_anchor_due(struct engine *e);
void engine_anchor_later(struct engine *e);
/* seen.c: a read that is being answered is noted; what was noted goes into the log. */
void engine_seen(struct engine *e, const struct engine_req *q);
void engine_seen_flush(struct engine *e);
void engine_seen_due(struct engine *e);
void engine_seen_later(struct engine *e);
void engine_seen_done(struct engine *e);
/* api_keep.c */
void engine_op_log_archive(struct engine *e, struct engine_req *q);
void engine_op_log_search(struct engine *e, struct engine_req *q);
void engine_op_backup(struct engine *e, struct engine_req *q);
void engine_op_restored_resume(struct engine *e, struct engine_req *q);
/* checkpoint.c, audit_verify.c: signed checkpoints of the log; the log against them */
void engine_op_audit_checkpoint(struct engine *e, struct engine_req *q);
void engine_op_audit_verify(struct engine *e, struct engine_req *q);
void engine_checkpoint_look(struct engine *e);			 /* is one due, has every place the newest? */
void engine_checkpoint_put(struct engine *e, struct base_jw *w); /* "checkpoints":{…} */
/* False: the attempt is none of a checkpoint's. */
bool engine_checkpoint_result(struct engine *e, const struct wire_effect_result *r);
void engine_checks_settle(struct engine *e);
void engine_checks_done(struct engine *e);
void engine_compare_settle(struct engine *e);
/* audit_export.c */
void engine_op_audit_export(struct engine *e, struct engine_req *q);
/* stream.c: appends {"seq","type","at",…} */
void engine_put_event(struct base_buf *b, uint64_t seq, const struct core_record *rec);

/* --- the whole --- */

struct engine_keep;
struct engine_verify;
struct engine_trials;
struct engine_fold;
struct engine_agains;
struct engine_tells;
struct engine_links;

struct engine_paths {
	char *workspace, *aios, *log, *views, *vault, *run, *files, *bin;
	int lock_fd;
};
/* Finds or makes WORKSPACE/.aios and locks it. -EBUSY with a text when another aiosd has it. */
int engine_workspace_open(struct engine_paths *p, const char *dir, struct base_err *err)
	__attribute__((warn_unused_result));
void engine_workspace_done(struct engine_paths *p);
/* run/door.json, so that the CLI finds the door. */
int engine_workspace_announce(const struct engine_paths *p, unsigned port, struct base_err *err)
	__attribute__((warn_unused_result));
/* Listening sockets of the doors. */
int engine_listen_tcp(const char *address, unsigned port, unsigned *ret_port, struct base_err *err)
	__attribute__((warn_unused_result));
int engine_listen_unix(const char *path, struct base_err *err) __attribute__((warn_unused_result));

/* door.c: the socket of the network door, as configured, and what TLS needs. A descriptor, or negative with a text;
 * *ret_shut: what is configured cannot be, and all else can start without that door. */
int engine_door_listen(struct engine *e, bool *ret_shut, struct base_err *err)
	__attribute__((warn_unused_result));
void engine_door_done(struct engine *e);
/* The members of a door's set-up. */
void engine_door_setup(struct engine *e, const struct engine_proc *p, struct base_jw *w);
/* Browsers reach it by TLS, its own or a proxy's: cookies are __Host- ones. */
bool engine_door_secure(const struct engine *e);
/* "http://localhost:7717", "https://aios.example.org": what links to the console begin with. */
void engine_door_origin(const struct engine *e, struct base_buf *ret);

struct engine_options {
	const char *workspace;
	int port;	     /* -1: as configured */
	unsigned workers;    /* 0: as configured */
	int64_t evict_ms;    /* an idle run leaves its worker's memory after this */
	uint64_t fold_after; /* events behind the last snapshot: a new one is made */
	bool restored;	     /* takes the log as restored from a backup */
};

struct engine_sessions;
struct engine_held;
struct engine_web;
struct engine_key_uses;
struct engine_pass;
struct engine_door;
struct engine_streams;

/* A commit that was read from the log. */
struct engine_read {
	struct base_buf block;
	uint64_t first_seq, count; /* count 0: nothing */
	uint64_t at;		   /* the event at `pos` in its block */
	size_t pos;
	uint64_t used;
};

struct engine {
	struct engine_options opt;
	struct engine_paths paths;
	int epfd, sigfd, timerfd;
	struct engine_source sig_source, timer_source;
	int64_t mono, started_ms;
	int64_t armed; /* when the timerfd fires; INT64_MAX: not armed */
	struct base_heap *timers;
	bool stopping, quit, linger;
	int exit_code;

	struct core *core;
	struct log *log;
	struct log_reader *reader, *body_reader;
	struct engine_read reads[ENGINE_READS];
	uint64_t reads_clock;
	struct base_arena *arena;
	struct base_buf scratch; /* for frames that are built in passing */
	uint64_t seq;		 /* of the last event applied */
	uint64_t durable;	 /* of the last event committed */
	struct engine_group *pending, *inflight, *spare;
	struct engine_committer committer;
	uint8_t entropy[4096];
	size_t entropy_left;
	bool degraded, config_dirty, commit_wanted;
	char degraded_why[256];
	struct base_json *config;
	int64_t loaded_max;    /* limits.loaded, 0: by the number of workers */
	uint64_t config_count; /* how often it was loaded: calls know which one they were judged under */
	unsigned port;
	uint64_t snapshot_seq;

	struct engine_proc *procs;
	size_t proc_count;

	struct base_idmap *runs;
	struct engine_run *lru_head, *lru_tail;
	struct engine_run *queue_head, *queue_tail;
	struct engine_run *later_head,
		*later_tail;  /* after a start: only to be looked at, when workers are free */
	unsigned later_turns; /* in which none of them was */
	struct engine_replay *replays;
	bool ticking;	   /* more timers are due than fired in this turn */
	size_t loads_left; /* of those that may be loaded in this turn */
	uint64_t *rest;	   /* runs that were taken out of memory since the log was told */
	size_t rest_count;
	bool evict_armed;

	struct base_idmap *calls;
	uint64_t next_call;
	uint64_t canaries_for,
		canaries_asked;	  /* generation of the aios-connect that knows them, will know them */
	bool effects_held;	  /* calls wait until the connector's connection has drained */
	int64_t sweep_at;	  /* when the deadlines of calls are looked at; 0: not */
	struct engine_held *held; /* results that could not be written yet */
	struct engine_sessions *sessions;

	struct base_idmap *asks;
	uint64_t next_ask;

	bool views_live;     /* what is committed goes straight to it */
	bool views_ready;    /* it has said where it stands */
	bool views_timer;    /* blocks wait in its connection */
	bool views_wipe;     /* its files go before it starts again */
	uint64_t views_sent; /* last position sent */
	uint64_t views_at;   /* last position confirmed */
	size_t views_record; /* of the commit behind views_sent: whose bodies are sent next */

	struct engine_web *web;
	struct engine_key_uses *key_uses;
	struct engine_pass *pass;
	struct engine_door *door; /* TLS; NULL: plain HTTP */
	uint64_t sign_in_failed;  /* attempts that the log was not told of yet */
	int64_t sign_in_told;
	struct engine_streams *streams;
	struct base_idmap *reqs, *waiters; /* by id; by run: the first of a list */
	uint64_t next_req;
	struct engine_verify *verify; /* one that is running */
	struct engine_fold *fold;
	struct engine_trials *trials;
	struct engine_keep *keep;
	struct engine_agains *agains;
	struct engine_tells *tells;
	struct engine_links *links;
	struct engine_seen *seen;	/* NULL: nothing was looked at yet */
	struct engine_checks *checks;	/* NULL: there was no checkpoint yet */
	struct engine_compare *compare; /* one that is running */
};

int engine_run_main(const struct engine_options *opt, struct base_err *err)
	__attribute__((warn_unused_result));
/* Levels as in the note frame. One line to stderr. */
void engine_note(unsigned level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
