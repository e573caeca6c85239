#pragma once

/* What the state consists of, and its limits; see core_int.h. */

#include "base/heap.h"
#include "base/json.h"
#include "base/map.h"
#include "base/prng.h"
#include "base/schema.h"
#include "base/slab.h"
#include "cel/cel.h"
#include "core/core.h"

enum {
	CORE_HASH_SHORT = 16, /* of a hash, enough to compare a replayed step with its record */
	CORE_ATTEMPTS_DEFAULT = 5,
	CORE_LIST_DEFAULT = 1000, /* items of one memory.list */
	CORE_LIST_MAX = 4000,	  /* less than CORE_WANTS_MAX */
	CORE_STEPS_MAX = 100000,
	CORE_ARMS_MAX = 16,
	CORE_GRANTS_MAX = 64,
	CORE_CITATIONS_MAX = 64, /* of one verification */
	CORE_NAME_MAX = 512,	 /* bytes of a key, a customer */
	CORE_MESSAGE_MAX = 4096, /* bytes of a problem's message */
	CORE_DEPTH_MAX = 32,	 /* runs that wait for one another */
	CORE_SIGNALS_MAX = 1000, /* of one run, not yet waited for */
	CORE_CRASHES_KEPT = 3,	 /* a run that crashes so often in a row is quarantined */
};

/* The numbers of enum wire_outcome, which this folder must not see; tests/core compares them. */
enum { CORE_WIRE_DONE = 1, CORE_WIRE_FAILED, CORE_WIRE_RETRY, CORE_WIRE_UNKNOWN, CORE_WIRE_NOT_FOUND };

/* Flow control: one level of priority is worth as much as this time of waiting. */
enum { CORE_PRIORITY_MAX = 10, CORE_AGE_MS = 60000, CORE_QUEUE_RETRY_MS = 5000 };
enum { CORE_ACTIVE_DEFAULT = 10000, CORE_QUEUE_DEFAULT = 100000 };

enum { CORE_LABEL_UNTRUSTED = 1, CORE_LABEL_PRIVATE = 2, CORE_LABELS_ALL = 3 };
enum {
	CORE_RUN_DRY = 1,
	CORE_RUN_STOPPED = 2, /* ended or being undone, and nothing is sent for it any more */
	CORE_RUN_UNDO = 4,    /* undoes the steps of its parent */
	/* restore.c */
	CORE_RUN_RESTORED = 8, /* was open when the log was restored, or was started by such a run */
	CORE_RUN_HELD = 16,    /* until a person lets it go on */
	CORE_RUN_STRAY = 32,   /* started after the restore: its keys are not those of the lost time */
};
/* Who resumes a run that crashed its worker, before it is quarantined. */
#define CORE_BY_AIOS "aios"

/* A list of patterns ("mail.*"); all in one allocation of the slab. */
struct core_patterns {
	struct base_str *item;
	uint32_t count;
};

/* --- catalogue: not state --- */

enum core_handler {
	CORE_H_NONE = 0, /* goes to its connector */
	CORE_H_MEMORY_GET,
	CORE_H_MEMORY_PUT,
	CORE_H_MEMORY_LIST,
	CORE_H_MEMORY_FORGET,
	CORE_H_MEMORY_DOCUMENT,
	CORE_H_GATE_ASK,
	CORE_H_SLEEP,
	CORE_H_SIGNAL_WAIT,
	CORE_H_EVENT_PUBLISH,
	CORE_H_EVENT_WAIT,
	CORE_H_RUN_START,
	CORE_H_RUN_CALL,
	CORE_H_RUN_WAIT,
	CORE_H_AGENT_RUN,
	CORE_H_EXPERIMENT_CHOOSE,
	CORE_H_EXPERIMENT_COUNTS,
	CORE_H_OUTCOME,
	CORE_H_LOG,
	CORE_H_CHECKPOINT,
	CORE_H_ROLLBACK,
	CORE_H_AGAIN,
	CORE_H_VERIFY,
};

struct core_action {
	struct base_str name;
	struct base_str connector;
	enum core_class klass;
	enum core_handler handler;
	bool internal; /* never leaves the house: core, engine, views */
	bool always;   /* every run may do it to itself: no grant needed */
	bool model;    /* routed, reserved and settled */
	uint32_t timeout_ms;
	uint32_t attempts;
	int64_t key_life_ms; /* idempotent: how long the outside knows a key; 0: for ever */
	int64_t settle_ms;   /* lookup: how long the outside may take to know of a call */
	uint8_t labels;	     /* that its result brings */
	uint8_t accepts;     /* that its arguments may carry with no gate, if it says so */
	bool has_accepts;
	struct base_schema *schema;
	struct base_str variants; /* JSON {"maildir":"idempotent"}: class by transport, or empty */
};

/* --- state --- */

struct core_principal {
	struct base_str id, kind, name, by;
	uint8_t public_key[32];
	bool has_key, revoked;
	int64_t expires_ms;
	struct core_patterns grants;
	struct base_str scope; /* JSON, or empty */
	uint8_t old_key[32];   /* before the rotation */
	bool has_old, fresh;   /* fresh: the key of the rotation was not used yet */
	int64_t old_until_ms, used_ms;
};

struct core_version {
	struct base_hash hash;
	uint64_t seq; /* of flow_deployed */
	struct base_str flow;
	struct base_schema *input;	  /* derived from the spec */
	struct base_schema *output;	  /* the same, of what it returns; or NULL */
	bool narrow;			  /* the output is so narrow that it may shed a label (shed.c) */
	int64_t budget_run, budget_month; /* nano-USD, -1: none */
	int64_t timeout_ms;		  /* of a run, 0: none */
	struct base_str spec;
	uint32_t number;	      /* in the snapshot that is being written */
	struct core_control *control; /* derived from the spec; NULL: it declares none */
};

/* What a flow declares about its starts. */
enum core_lane_policy { CORE_FIFO, CORE_REPLACE, CORE_REJECT };
struct core_control {
	struct cel_program *lane, *rate; /* keys over `input`, NULL: one for the whole flow */
	int64_t limit;			 /* runs at a time in a lane, 0: any number */
	enum core_lane_policy policy;
	int64_t interval_us, burst; /* of starts, 0: no rate */
	int64_t priority;
};

/* Runs of one flow and concurrency key; those that wait without one stand in the flow's own. */
struct core_lane {
	uint64_t id;	      /* derived; begins its entries in the sets */
	struct base_str name; /* FLOW, 0x1f, key */
	struct core_flow *flow;
	bool keyed;
	uint32_t active;     /* admitted, not ended (keyed lanes) */
	uint32_t members;    /* queued: delayed and waiting */
	uint32_t waiting;    /* derived: whose time to begin has come */
	int64_t served_ms;   /* when it was admitted from last */
	uint64_t served_seq; /* and by which event */
	/* derived: where it stands */
	struct core_bucket *bucket; /* in c->blocked, else in c->ready */
	bool placed, due;
	char place[32]; /* its key there */
};

/* The rate of starts of a flow, by key. */
struct core_bucket {
	uint64_t id; /* derived */
	struct base_str name;
	struct core_flow *flow;
	int64_t next_us; /* when the next slot is */
	uint32_t members;
	/* derived */
	struct core_lane *exposed; /* the one that may be admitted from now: in c->ready */
	char place[24];
	int64_t armed_ms;
};

/* The place of a run that waits, or that was admitted to a keyed lane. */
struct core_ticket {
	struct core_lane *lane;
	struct core_bucket *bucket;
	int64_t since_ms; /* it waits since; in the future: a delayed start */
	uint64_t seq;	  /* of the event that admitted it, 0: it waits */
	bool waits;	  /* derived: in c->waiting */
};

struct core_meter {	/* money of one month */
	uint32_t month; /* year * 12 + month */
	int64_t spent;
};

struct core_flow {
	struct base_str name;
	struct core_version *current;
	struct core_meter meter;
	int64_t reserved;
	uint32_t number; /* in the snapshot that is being written */
};

struct core_agent {
	struct base_str name, definition;
	struct base_hash version;
};

struct core_connector { /* a connector, or a model provider */
	struct base_str name;
	int64_t interval_us;   /* from configuration: 0 no limit */
	int64_t burst;	       /* from configuration: calls at once */
	int64_t next_us;       /* when the next slot is */
	uint32_t fails;	       /* in a row */
	int64_t open_until_ms; /* the breaker */
};

/* A text that many runs share (principals, agents, signals): kept once and counted. */
struct core_word {
	struct base_str text;
	uint32_t refs;
	uint32_t number; /* in the snapshot that is being written */
};

/* What is kept of a step only while it is not finished. A million runs sleep in one of these each: 64 bytes. */
struct core_open {
	uint64_t run;
	uint32_t step;
	int64_t due_ms; /* 0: no timer */
	uint64_t gate;
	uint64_t child; /* run that it waits for: its own (core_open_child), or any (run.wait) */
	const struct core_action *action;
	struct core_word *signal;   /* that it waits for; the topic, for an event */
	struct core_effect *effect; /* of a step that was not only WAITING, else NULL */
};

/* The part of an open step that may reach outside. */
struct core_effect {
	struct core_effect *prev, *next; /* all of them, oldest first */
	struct core_open *open;
	uint32_t attempt; /* of the last that was sent */
	uint32_t failures;
	uint8_t mode;	  /* of the next or current attempt */
	bool uncertain;	  /* an attempt may have happened */
	bool cleared;	  /* the operator let it pass the policy's gate */
	int64_t sent_ms;  /* when its key first left the house, 0: not yet */
	int64_t reserved; /* nano-USD */
	int64_t overrun;  /* nano-USD beyond the budgets that the operator let it cost */
	struct base_str key, customer, route, opts;
	uint64_t approval;
	struct base_hash args_hash;
	uint64_t seq_retry;	/* of the last step_retry, 0: none */
	struct base_str counts; /* what it added to counters, as in step_called; or empty */
	int64_t counted_ms;
};

/* A time limit of a step or, with step UINT32_MAX, of its run (deadline.c). */
struct core_deadline {
	struct core_deadline *next;
	int64_t when_ms;
	uint32_t step;
	bool passed; /* and what follows from it is recorded, though the step is still open */
};

/* 40 bytes: a run may have 100,000 of them. */
struct core_step {
	uint64_t seq; /* of step_called */
	union {
		struct core_open *open; /* status below CORE_STEP_DONE: core_step_open */
		uint64_t seq_end;	/* else, the event that finished it: core_step_end */
	};
	uint8_t hash[CORE_HASH_SHORT];
	uint32_t action; /* index into names of actions */
	uint8_t status;	 /* enum core_step_status */
	uint8_t klass;
	uint8_t labels;
	uint8_t attempt;
};

struct core_signal {
	struct core_signal *next;
	struct core_word *name;
	uint64_t seq;
};

/* What few runs have: read through core_run_extra, made by core_run_extend. */
/* Lists that must all allow what a run does, beside its own grants (limits.c). */
struct core_limits {
	struct core_word *text; /* JSON, as run_started has it */
	struct core_patterns *list;
	uint32_t count, refs;
};

struct core_run_extra {
	uint64_t parent;
	uint32_t parent_step;
	uint8_t outcome; /* ended, but a step of it is not settled */
	uint64_t seq_ended;
	struct core_flow *payer; /* of an agent's run: whose month its money falls under */
	struct core_word *agent;
	struct base_str customer;
	uint32_t generation;	     /* how often it began again (ctx.again) */
	struct core_signal *signals; /* not yet waited for, oldest first */
	uint64_t park_gate;
	uint64_t seq_stand;   /* of run_parked or run_paused, while it stands */
	uint64_t seq_stopped; /* of the rollback_started that dropped what was open */
	struct core_deadline *deadlines;
	struct core_ticket *ticket; /* NULL: neither queued nor in a lane */
	uint8_t event_depth;
	uint8_t shed; /* labels that its value may lose at its end (shed.c) */
	int8_t priority;
};

/* What every run has, also one that only sleeps: at most 144 bytes (tests/core). */
struct core_run {
	uint64_t id;
	uint32_t state : 3; /* enum core_run_state */
	uint32_t flags : 6;
	uint32_t labels : 3;
	uint32_t has_gates : 1;
	uint32_t rested : 1; /* no worker needs it until a step of it ends (rest.c) */
	uint32_t awake : 1;  /* takes a slot: runs, or waits for an answer from outside (A5) */
	uint32_t sent : 17;  /* steps that are SENT */
	uint32_t steps, steps_cap, open;
	struct core_step *step;
	struct core_version *version; /* NULL: built-in agent flow */
	struct core_flow *flow;
	uint64_t seq_started;
	int64_t started_ms;
	uint8_t salt[CORE_HASH_SHORT]; /* idempotency keys of its effects come from it */
	int64_t spent, reserved, budget;
	struct core_word *as, *by, *origin;
	struct core_limits *limits; /* NULL: its own grants alone */
	struct core_key *key;	    /* of its start, or NULL */
	struct core_run_extra *extra;
};

/* Nobody answered for so long: others may decide too. */
struct core_stage {
	int64_t after_ms; /* since the gate opened */
	struct core_patterns to;
};

/* Who may decide a gate and how: derived from the JSON in its gate_opened (gate_terms.c). */
struct core_terms {
	struct core_patterns approvers, announce;
	struct core_stage *stage;
	uint32_t stage_count, need, denials;
	int64_t remind_ms;
	bool no_operator, sign, urgent, quiet;
	int quiet_from, quiet_to;
	struct base_str quiet_tz;
};

/* One of several answers that a gate needs (gate_votes.c): the last of each voter counts. */
struct core_vote {
	struct core_vote *next;
	struct base_str by, answer;
	int64_t at_ms;
};

/* Who may decide besides those whom the terms name, and who handed it over. */
struct core_asked {
	struct core_asked *next;
	struct base_str who, by;
	bool gone; /* gave it away: may not decide any more */
};

/* The last announcement of a gate by one channel (gate_tell.c). */
enum { CORE_TOLD_SENT, CORE_TOLD_DONE, CORE_TOLD_FAILED };
struct core_told {
	struct core_told *next;
	struct base_str channel, why, problem;
	uint32_t nth;
	uint8_t state;
	int64_t at_ms;
};

struct core_gate {
	uint64_t id, run, seq;
	uint32_t step;
	struct base_str kind, title, rule, on_expiry, allows;
	struct base_hash shown;
	int64_t opened_ms, expires_ms, cost;
	bool edit, decided;
	/* after an approval: what it allows */
	struct base_str action, fixed;
	uint64_t left;
	/* who decides, and how they are told */
	struct base_str terms_text, sources;
	struct core_terms terms;
	struct core_vote *votes;
	struct core_asked *asked;
	struct core_told *told;
	uint8_t labels;
	uint32_t announced, escalated, reminded; /* how often */
	int64_t tell_ms;			 /* when it is announced next, 0: not */
	struct base_str tell_why;
};

struct core_fact {
	uint64_t version, seq;
	bool removed;
	uint8_t labels;
};

struct core_key {	      /* what a start key, or a key that a flow chose for an effect, stands for */
	struct base_str name; /* in its map */
	uint64_t run;
	uint8_t input[CORE_HASH_SHORT];
	bool ended;
	uint64_t seq_ended; /* a start key's: of run_ended */
};

/* How often a run crashed its worker (versions.c). */
struct core_crashes {
	uint64_t position;		 /* where it stood at the last */
	uint32_t count;			 /* in a row there */
	uint32_t total;			 /* since a person last looked */
	uint64_t seq[CORE_CRASHES_KEPT]; /* ring of run_parked */
};

struct core_arm {
	uint64_t n, wins;
	int64_t value;
};

struct core_experiment {
	struct core_arm arm[CORE_ARMS_MAX];
	uint32_t arms;
	uint8_t labels;		  /* of all that its counts were made of */
	uint64_t chosen, run;	  /* run: the last that chose */
	struct base_names *units; /* customer -> arm + 1, as a pointer-sized number */
};

struct core_policy;
struct core_credential {
	struct base_str id, kind, name, credential_id, public_key;
	int64_t alg, sign_count, added_ms, used_ms, refused_ms;
};

/* A browser session: found by the hash of its token. */
struct core_web_session {
	struct base_str id, how, address, agent, credential;
	struct base_hash token, old;
	int64_t opened_ms, token_ms, until_ms;
	int64_t old_until_ms; /* 0: there is no token before */
};

/* Attempts to sign in that failed: less one for each CORE_FORGIVE_MS. */
struct core_failures {
	uint32_t count;
	int64_t last_ms;
};

struct core_schedules;
struct core_proposals;
/* Signed checkpoints of the log, and where they are (audit.c). */
enum { CORE_PLACES_MAX = 16 };
struct core_place {
	struct base_str name;
	uint64_t seq; /* the newest checkpoint that it has, 0: none */
	int64_t tried_ms;
	bool failed; /* the last attempt */
};
struct core_audit {
	uint64_t seq, at; /* the newest covers the events up to `seq`; position of its event; 0: none */
	int64_t at_ms;
	uint64_t own; /* events behind `seq` that are about checkpoints */
	struct core_place place[CORE_PLACES_MAX];
	unsigned place_count;
};

struct core {
	struct base_slab *slab;
	struct base_arena *scratch; /* for apply and answers; reset at each use */
	/* catalogue */
	struct base_names *actions;
	/* state */
	uint64_t seq, epoch, next_run, next_gate;
	int64_t time_ms;
	uint64_t archived;	      /* last event in the archive, as far as the log says */
	int64_t restored_ms, lost_ms; /* the last restore, and the last event before it; 0: none */
	bool frozen;
	bool guard_off;	    /* the built-in rule untrusted-private */
	bool locked;	    /* the vault: what needs a secret waits (lock.c) */
	uint64_t lock_gate; /* the last gate of kind secret, 0: none yet */
	struct base_names
		*file_labels; /* path -> labels of a file that a run wrote, as a pointer-sized number */
	struct base_str config, policy, interpreter, workspace;
	struct base_names *principals, *flows, *agents, *connectors, *facts, *keys, *experiments,
		*outcome_keys;
	struct base_names *effect_keys;
	struct base_names *credentials, *web_sessions; /* sign_in.c: by id */
	struct base_names *failures;		       /* by HOW, blank, ADDRESS; HOW alone: all of them */
	struct base_names *versions;		       /* by hash bytes */
	struct base_names *words;		       /* to struct core_word */
	struct base_names *limits;		       /* by text, to struct core_limits */
	struct base_idmap *runs, *gates;
	struct base_idmap *undos; /* by run, to struct core_undo (undo_int.h): only of those that have one */
	struct base_idmap *crashes; /* by run; few */
	struct core_schedules *schedules;
	struct core_proposals *proposals; /* NULL: none, and nothing to make one from */
	struct base_names *event_waits;	  /* derived: who waits for an event (publish.c) */
	struct base_idmap *deliveries;	  /* by position of event_published */
	struct core_effect *effect_first, *effect_last;
	struct base_idmap *ended; /* run -> position of run_ended, or its key: see core_ended_seq */
	struct base_names *lanes, *buckets;
	struct core_meter meter; /* the workspace's month */
	int64_t reserved;
	/* interned names of actions, in order of first use */
	struct base_str *action_names;
	uint32_t action_count, action_cap;
	struct base_names *action_index;
	/* derived */
	struct base_heap *timers;
	size_t deadlines_gone; /* time limits whose timers may still stand there: see core_deadline_drop */
	/* Flow control: sets in the order of their binary keys (apply_admit.c). */
	struct base_names *waiting, *holders, *ready, *blocked, *due, *idle_buckets;
	struct base_idmap *bucket_ids;
	struct base_names *waits, *answers; /* steps that wait for runs: open ones, ended ones (wait.c) */
	uint64_t next_place;		    /* ids of lanes and buckets */
	uint64_t queued, awake, active_max, queue_max;
	struct base_idmap
		*undo_owners; /* step_called of an undoable step that is not settled: whose list has it */
	struct base_json *config_doc;
	int64_t budget_month, budget_run;
	struct base_str customers; /* prefix of customer facts */
	struct core_policy *rules; /* derived from c->policy, NULL: none */
	uint64_t policy_seq;	   /* position of the policy_set that it comes from, 0: none */
	struct base_names *counts; /* by counter, to struct core_count (policy_count.c) */
	struct core_audit audit;
};
