#pragma once

/* What the files of the simulator share. One thread; whoever makes a choice draws from the stream of its component. */

#include <setjmp.h>
#include <stdarg.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/heap.h"
#include "base/map.h"
#include "base/prng.h"
#include "engine/engine_int.h"
#include "log/disk.h"
#include "sim/sim.h"
#include "wire/frames.h"
#include "wire/outcome.h"

struct sim;
struct sim_proc;

/* --- what is going to happen --- */

typedef void (*sim_fn)(struct sim *s, void *a, uint64_t b);
/* Runs fn in `us` microseconds. `life`: only if aiosd is still the same one then. */
void sim_later(struct sim *s, int64_t us, bool life, sim_fn fn, void *a, uint64_t b);
/* The next one that is due until `until` (us): runs it and is true. */
bool sim_step(struct sim *s, int64_t until);

/* --- components of randomness --- */

enum sim_stream { SIM_PLAN, SIM_NET, SIM_OUTSIDE, SIM_DISK, SIM_CLIENT, SIM_ENTROPY, SIM_CHECK, SIM_STREAMS };
uint64_t sim_draw(struct sim *s, enum sim_stream which, uint64_t n); /* in [0, n) */
bool sim_chance(struct sim *s, enum sim_stream which, unsigned of_1000);

/* --- the plan --- */

enum sim_op_kind {
#define SIM_OP(id, name, weight) SIM_OP_##id,
#include "sim/ops.def"
#undef SIM_OP
	SIM_OPS
};
struct sim_op {
	uint32_t kind, dt_ms;
	uint32_t a, b, c;
};
/* Classes of faults that are always there at a seed's own rate: parts of 1000. */
enum sim_rate {
	SIM_RATE_LOST,	    /* a request to the outside is lost */
	SIM_RATE_SILENT,    /* it is done, and its answer is lost */
	SIM_RATE_RETRY,	    /* 429, 503 */
	SIM_RATE_FAIL,	    /* refused for good */
	SIM_RATE_UNKNOWN,   /* the connector says that it does not know */
	SIM_RATE_TWICE,	    /* a request or an answer comes twice */
	SIM_RATE_SLOW,	    /* an answer takes long */
	SIM_RATE_MALFORMED, /* an answer that is not JSON */
	SIM_RATE_SLOW_SYNC,
	SIM_RATE_SPAWN, /* a process cannot be started */
	SIM_RATE_STRAY, /* a flow goes another way when it is replayed */
	SIM_RATE_LATE,	/* a worker goes on with a run that was taken from it */
	SIM_RATES
};
struct sim_plan {
	struct sim_op *ops;
	size_t count, size, next;
	bool fixed;    /* as given: nothing is drawn */
	uint64_t want; /* commands, before all is healed: what follows makes some more */
	unsigned weight[SIM_OPS];
	unsigned rate[SIM_RATES];
};
void sim_plan_draw(struct sim *s);
int sim_plan_parse(struct sim *s, const char *text);
/* As text, which sim_plan_parse reads. */
void sim_plan_write(const struct sim *s, char *ret, size_t size, size_t *ret_len);
/* The next operation; false: the plan is at its end. */
bool sim_plan_next(struct sim *s, struct sim_op *ret);

/* --- processes --- */

struct wire_conn {
	struct sim_proc *p;
	struct base_buf in, out;
	size_t in_at, seen, frame; /* seen: of `in`, at the last fill */
	bool ended;
};

struct sim_proc {
	struct sim *s;
	enum engine_kind kind;
	unsigned nth; /* among its kind */
	bool local;
	bool alive, ready; /* ready: it has said hello */
	int fd, pidfd, status;
	pid_t pid;
	struct wire_conn *conn;
	int64_t to_engine, to_proc; /* when the last bytes in flight arrive */
	int64_t stalled;	    /* it does nothing before this time */
	bool garbled;		    /* it said what makes aiosd end it */
	struct base_idmap *runs;    /* flow: struct sim_run; connect: calls */
	uint64_t at;		    /* views: position */
};
struct sim_proc *sim_proc_of(struct sim *s, enum engine_kind kind, unsigned nth); /* alive, or NULL */
void sim_proc_die(struct sim *s, struct sim_proc *p, int status);
/* Sends a frame to aiosd after `us`: the buffer takes the body, sim_send_end sends it. */
struct base_buf *sim_send_begin(struct sim_proc *p);
void sim_send_end(struct sim_proc *p, unsigned type, int64_t us);
/* The same; it has arrived when this returns. */
void sim_send_now(struct sim_proc *p, unsigned type);
/* Bytes that are no frame, or not one of this process. */
void sim_send_garbage(struct sim_proc *p, unsigned kind);
/* A frame from aiosd has come. */
void sim_worker_frame(struct sim_proc *p, unsigned type, struct base_str body);
void sim_outside_frame(struct sim_proc *p, unsigned type, struct base_str body);
void sim_client_frame(struct sim_proc *p, unsigned type, struct base_str body);
void sim_help_frame(struct sim_proc *p, unsigned type, struct base_str body);

/* --- flows (program.c) --- */

/* A program is drawn from a number and a version: it does the same whenever it is given the same results. */
/* What a worker learns of a version. */
struct sim_version {
	uint64_t salt;
};

/* What is published, by programs and clients. */
enum { SIM_TOPICS = 4 };
extern const char *const sim_topics[SIM_TOPICS];

struct sim_run;
struct sim_emit {
	void *userdata;
	void (*call)(void *userdata, uint32_t step, const char *action, struct base_str args,
		struct base_str opts);
};
/* The number in a run's input, for this version of its flow. */
uint64_t sim_program_number(struct base_str input, uint64_t salt);
struct sim_run *sim_program_new(struct sim *s, uint64_t number, uint64_t salt, bool stray);
void sim_program_start(struct sim_run *r, const struct sim_emit *emit);
void sim_program_result(
	struct sim_run *r, const struct sim_emit *emit, uint32_t step, bool ok, struct base_str value);
/* 0: goes on; 1: done; 2: failed. */
int sim_program_ended(const struct sim_run *r, uint32_t *ret_steps, uint64_t *ret_value);

/* --- the outside (outside.c) --- */

/* Everything that happened there, by key: the truth. */
struct sim_deed {
	struct base_hash args;
	struct base_str key;
	unsigned klass; /* enum core_class */
	unsigned done;	/* how often it was really done */
	unsigned under_way;
	uint64_t number;
	uint64_t told, told_seq; /* the life of aiosd that was told that it is done, and where it stood */
};
/* Bytes of aios-connect have come to aiosd. */
void sim_outside_told(struct sim_proc *p, struct base_str bytes);
struct sim_deed *sim_deed_of(struct sim *s, struct base_str key); /* NULL: nobody has asked */

/* --- what the log says (audit.c) --- */

struct sim_step_seen {
	bool ended, gated, approved;
	bool over; /* its run had ended when it was sent last */
	unsigned status, klass;
	unsigned sent, handed; /* attempts released; attempts that have left */
	int64_t due_ms, retry_at_ms, limit_ms;
	uint64_t gate, seq, seq_end;
	int64_t amount;
	bool taken; /* from the run that its run was forked from */
	struct base_hash args;
	struct base_str key, action, detail; /* detail: the arguments */
	bool ok;
	struct base_str result; /* what ended it */
};
struct sim_signal;
struct sim_run_seen {
	uint64_t run, parent;
	uint32_t parent_step;
	unsigned outcome; /* 0: open */
	bool parked, dry, paused, queued;
	bool own;		    /* the core goes through it itself: an undo run */
	bool stopping;		    /* it is taken back and then ends */
	struct sim_signal *signals; /* not heard yet */
	uint64_t previous, next;    /* the generations before and after */
	int64_t begin_ms, deadline_ms;
	int64_t since_ms, priority; /* since_ms: when it could have begun first */
	struct base_str flow, lane, rate;
	uint64_t undone; /* an undo run: where the step stands that it undid last */
	uint64_t forked_from;
	uint32_t forked_steps;
	struct base_str key, input_text, value;
	struct base_hash input, version;
	struct sim_step_seen *step;
	uint32_t steps, size;
	uint32_t *order; /* steps in the order of their ends */
	uint32_t ended_steps, order_size;
};
struct sim_gate_seen {
	uint64_t gate, run;
	uint32_t step;
	bool decided, approves; /* approves: when it expires */
	unsigned used;		/* calls that left by its approval */
	char kind[12];
	struct base_hash shown;
	struct base_str answer;
	int64_t expires_ms;
};
struct sim_audit {
	uint64_t seq; /* events seen */
	int64_t time_ms;
	uint64_t epoch;
	bool frozen;
	struct base_idmap *runs, *gates, *tokens; /* tokens: what clients put into requests */
	struct base_names *keys, *effects;	  /* start key: run; effect key: run and step */
	struct base_names *schedules;		  /* struct sim_schedule_seen */
	struct base_idmap *ends,
		*undone; /* where a step ended: its result; where one stands that was undone */
	int64_t deny;	 /* amounts above it are denied; 0: no policy yet */
	struct sim_events *events;
	struct sim_lanes *lanes;
	uint64_t *open; /* runs that have not ended, in the order of their start */
	size_t open_count, open_size;
	uint64_t *waiting; /* gates that are not decided */
	size_t waiting_count, waiting_size;
	uint64_t started, ended;
};
/* What flows declare (declare.c). A seed has some of these. */
enum sim_feature { SIM_EVENTS, SIM_SCHEDULES, SIM_LANES };
bool sim_has(const struct sim *s, enum sim_feature f);
/* The spec of flow a, b or c in the version with this number. */
void sim_declare(const struct sim *s, char flow, uint64_t salt, char *ret, size_t size);
/* The workspace's limits in that version: a member of aios.yaml, quoted for a JSON text, or nothing. */
void sim_declare_limits(const struct sim *s, unsigned version, char *ret, size_t size);

/* Events between flows (audit_events.c): before the event is taken in; after all of a commit. */
void sim_audit_events(struct sim *s, const struct core_record *rec, const union core_event_any *ev);
void sim_audit_events_commit(struct sim *s);
/* Is it the position of a publication that is durable? */
bool sim_event_seen(struct sim *s, uint64_t id);

/* Schedules (audit_schedules.c): after the event is taken in. */
void sim_audit_schedules(struct sim *s, const struct core_record *rec, const union core_event_any *ev);
void sim_schedules_overdue(struct sim *s, int64_t now);
/* The name of one that is there, or (`going`) that fires by time and is not paused; empty: there are not so many. */
struct base_str sim_schedule_nth(struct sim *s, unsigned nth, bool going);

/* Flow control (audit_lanes.c): after the event is taken in; after all of a commit. */
void sim_audit_lanes(struct sim *s, const struct core_record *rec, const union core_event_any *ev);
void sim_audit_lanes_commit(struct sim *s);
/* Is or was the queue full, as far as anybody can tell? */
bool sim_queue_was_full(struct sim *s, bool event);

int sim_audit_init(struct sim *s);
/* A commit is durable. */
void sim_disk_appended(void *userdata, const struct log_commit *c);
/* Signals (audit_signals.c): an event; a step that waits; one that has heard. */
void sim_audit_signals(struct sim *s, const struct core_record *rec, const union core_event_any *ev);
void sim_audit_signal_wait(struct sim *s, struct sim_run_seen *r, struct base_str args);
void sim_audit_signal_heard(
	struct sim *s, struct sim_run_seen *r, struct base_str args, struct base_str result);
struct sim_run_seen *sim_run_seen(struct sim *s, uint64_t run);
struct sim_gate_seen *sim_gate_seen(struct sim *s, uint64_t gate);
void sim_gate_gone(struct sim *s, uint64_t gate);
bool sim_token_seen(struct sim *s, uint64_t token);
/* A frame leaves aiosd. */
void sim_audit_frame(struct sim *s, struct sim_proc *p, unsigned type, struct base_str body);

/* --- clients (client.c) --- */

void sim_client_op(struct sim *s, const struct sim_op *op);
/* What can be asked again is, what was under way is not known. */
void sim_client_lost(struct sim *s);
void sim_client_deploy(struct sim *s, unsigned version);
/* Everything that waits for a person or a signal gets it. */
void sim_client_heal(struct sim *s);
bool sim_client_idle(const struct sim *s);

/* --- faults (faults.c) --- */

void sim_fault_op(struct sim *s, const struct sim_op *op);
int sim_disk_append(void *userdata, const struct log_commit *c);
int sim_disk_snapshot(void *userdata, uint64_t seq);

/* --- checks (check.c) --- */

void sim_check_turn(struct sim *s);	 /* between two turns of aiosd */
void sim_check_recovered(struct sim *s); /* aiosd has begun */
void sim_check_fold(struct sim *s, bool snapshot);
void sim_shadow(struct sim *s, const struct log_commit *c); /* a commit is durable */
void sim_check_money(struct sim *s);
void sim_check_overdue(struct sim *s); /* healed: no timer is lost */
void sim_check_end(struct sim *s);     /* all is healed, nothing goes on */

/* --- the whole --- */

struct sim_fd {
	struct engine_source *source;
	struct sim_proc *p;
	bool is_pid, ready;
};
enum { SIM_FDS = 4096, SIM_FD_FIRST = 100, SIM_PROCS = 512 };

struct sim_timed;
struct sim_client;
struct sim_outside;

struct sim {
	const struct sim_options *opt;
	struct sim_result *result;
	struct base_prng streams[SIM_STREAMS];
	struct base_arena *arena; /* all that lives until the end */
	int64_t now;		  /* us since the beginning */
	uint64_t seq;
	struct sim_timed *heap;
	size_t heap_count, heap_size;
	struct sim_plan plan;

	/* aiosd */
	struct engine *engine; /* NULL while it is down */
	uint64_t life;
	jmp_buf death;
	bool up, dying, woken, die_now;
	uint64_t crash_in, crash_next; /* points until it dies; the same for its next life; 0: does not */
	struct engine_clock clock;
	int64_t wall_skew,
		life_time_ms; /* life_time_ms: with the boot clock, how far the log's time may be */
	struct sim_fd *fds;
	int fd_next;
	struct sim_proc *procs[SIM_PROCS];
	size_t proc_count;
	pid_t pid_next;
	uint64_t alarm; /* the one that counts */

	/* its disk and committer */
	struct base_buf frame; /* that is being built for aiosd */
	struct log_disk *disk;
	struct engine_group *job;
	bool job_done, job_event;
	int job_rc;
	struct base_err job_err;
	int64_t job_until;
	int64_t full_until; /* the disk is full until then */
	unsigned fail_sync; /* how the next append fails: 0 not, 1 lost, 2 kept */
	bool fail_snapshot;
	bool disk_failed;  /* an append did */
	int64_t off_ms;	   /* how long the machine is off when aiosd dies next */
	bool folding;	   /* a snapshot is being made */
	uint64_t views_at; /* what the tables of the views include; survives everything */

	struct core *shadow; /* folded from the log alone */

	/* the world */
	struct sim_audit audit;
	struct sim_client *client;
	struct sim_outside *outside;
	uint64_t version;	     /* of the flows that was deployed last */
	struct base_idmap *owners;   /* run: the worker that was told to begin it last and not to drop it */
	struct base_names *versions; /* hex: what a worker knows of it */
	uint64_t tokens;
	bool healed, stop_asked, finished;
	int64_t healed_at;
	uint64_t commands, crashes, points, workers_died;
	uint64_t turns, spins, folds, trace;
	bool strays;
};

/* Ends this seed: what is broken, for a person. */
void sim_broken(struct sim *s, enum sim_verdict v, const char *invariant, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 4, 5)));
void sim_say(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(struct sim *s, const void *data, size_t len);
void *sim_alloc(struct sim *s, size_t size); /* zeroed, for ever */
struct base_str sim_dup(struct sim *s, struct base_str t);
int64_t sim_wall_ms(const struct sim *s);
/* One life of aiosd: until it dies or stops. */
void sim_live(struct sim *s);
void sim_world_set(struct sim *s);
struct sim *sim_the(void); /* for functions that the engine calls without a context */
