#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/str.h"
#include "core/block.h"
#include "core/events.h"

/*
 * The decisions. decide(state, command) appends events; apply(state, event) folds them and tells what must
 * happen next. Both pure: time and entropy come with the command. `apply` cannot fail; replay is apply alone.
 */
struct core;

enum core_outcome { CORE_DONE = 1, CORE_FAILED = 2, CORE_CANCELLED = 3 };
enum core_class { CORE_INTERNAL = 0, CORE_READ = 1, CORE_IDEMPOTENT = 2, CORE_LOOKUP = 3, CORE_ONCE = 4 };
enum core_step_status {
	CORE_STEP_WAITING = 1, /* internal: a timer, a signal, a child, a gate of the flow's own */
	CORE_STEP_GATED = 2,   /* planned; a gate holds it */
	CORE_STEP_HELD = 3,    /* approved; rate limit, freeze, backoff, or budget holds it */
	CORE_STEP_SENT = 4,
	CORE_STEP_DOUBT = 5,
	CORE_STEP_DONE = 6,
	CORE_STEP_FAILED = 7,
};
enum core_run_state {
	CORE_RUN_ACTIVE = 1, /* runs, or waits for a step */
	CORE_RUN_PARKED = 2,
	CORE_RUN_ENDED = 3,
	CORE_RUN_QUEUED = 4,  /* not begun: a delayed start, its lane or the cap on active runs is full */
	CORE_RUN_PAUSED = 5,  /* the operator holds it */
	CORE_RUN_UNDOING = 6, /* its steps are being undone; then it ends */
};

/* -ENOMEM. The caller frees *ret. */
int core_new(struct core **ret) __attribute__((warn_unused_result));
void core_free(struct core *c);

/*
 * An action that flows can call: its schema, class and connector. Loaded by the engine before anything else;
 * not part of the state (what was decided with it is in the events).
 *   {"name":"mail.send","class":"once","connector":"mail","args":{schema},"timeout_ms":30000,"attempts":5,
 *    "labels":["untrusted"]}    connector "": answered by the core or by "engine"/"views"
 */
int core_catalogue_add(struct core *c, struct base_str json, struct base_err *err)
	__attribute__((warn_unused_result));

/* --- commands --- */

enum core_cmd_type {
	CORE_CMD_START =
		1, /* the engine has opened the log: begins an epoch, recovers what was in flight; base: 1 it was
			       restored from a backup; text:
			       its version; name: the interpreter's */
	CORE_CMD_TICK,	 /* time has passed: one timer, expiry or retry; repeat while core_next_due <= now */
	CORE_CMD_DEPLOY, /* body:
			    {"flows":[{name,version,modules,spec,grants}],"agents":[…],"policy":…,"config":…}
			  */
	CORE_CMD_RUN_START,   /* name: flow; body: input; key; params: {"dry","customer"} */
	CORE_CMD_RUN_CANCEL,  /* run */
	CORE_CMD_RUN_RESUME,  /* run */
	CORE_CMD_FLOW_CALL,   /* run, step, name: action, body: args, params: opts */
	CORE_CMD_FLOW_DONE,   /* run, step: calls made; body: value */
	CORE_CMD_FLOW_FAILED, /* run, step: calls made; body: problem */
	CORE_CMD_FLOW_CRASHED, /* run: the worker died or hung while it ran; body: problem; base 1: quarantine it
				   now */
	CORE_CMD_EFFECT_RESULT, /* run, step, attempt, outcome, body: value, params: usage, retry_after_ms */
	CORE_CMD_GATE_DECIDE,	/* id: gate; name: answer; body: value (edit, happened); hash: shown; text:
				   reason; key: how (shell, api, console, link, passkey); bytes: the proof of a
				   passkey that was verified, or empty */
	CORE_CMD_SIGNAL,	/* run; name; body: payload */
	CORE_CMD_FACT_PUT,	/* name: key; body: value (empty: remove); base: version or -1 for any; text:
				   source */
	CORE_CMD_DOC_PUT,	/* name: id; body: text; params: meta */
	CORE_CMD_OUTCOME,	/* body: {"name","value","run","customer","experiment","arm","key"} */
	CORE_CMD_FREEZE,	/* text: reason */
	CORE_CMD_THAW,
	CORE_CMD_KEY_ADD,     /* name; body: {"kind","grants","expires_ms"}; bytes: public key */
	CORE_CMD_KEY_REVOKE,  /* name: principal id */
	CORE_CMD_SECRET_NOTE, /* name; text: host; base: 1 removed */
	CORE_CMD_DENIED, /* name: action; text: object; who asked is `by`: records an access denied outside */
	CORE_CMD_RUN_PAUSE,    /* run; text: reason */
	CORE_CMD_RUN_FORK,     /* run; step: first that is not taken over; body: other input or empty; params:
				  {"version","restart"} */
	CORE_CMD_RUN_ROLLBACK, /* run; name: checkpoint or empty; params: {"restart"}; text: reason */
	CORE_CMD_RUN_MOVE,     /* run; hash: version; base: core_run_position at which it was rehearsed */
	CORE_CMD_RUN_PARK,     /* run; name: why; body: detail */
	CORE_CMD_RUN_FORGET,   /* run: an ended one whose retention is over */
	CORE_CMD_PUBLISH,      /* name: topic; body: payload; key */
	CORE_CMD_SCHEDULE_PAUSE, /* name: schedule; base: 1 pause, 0 go on */
	CORE_CMD_ARCHIVED,	 /* params: {"first_seq","last_seq","file","hash","bytes"} */
	CORE_CMD_RUNS_REST, /* body: as runs_rested.runs: no worker needs them until a step of theirs ends */
	CORE_CMD_KEY_ROTATE, /* name: principal; bytes: new public key; base: ms that the old one still holds */
	CORE_CMD_CREDENTIAL, /* name: id; base: 1 removed; text: reason; body: {"kind","name","credential_id","public_key"
				(base64url),"alg"} */
	CORE_CMD_CREDENTIAL_USED, /* name: id; base: its counter; text: the session that it opened */
	CORE_CMD_SESSION_OPEN, /* body: {"id","how","address","agent","until_ms","credential"}; hash: of the token; key:
				  the session that goes on with it (then body may be empty) */
	CORE_CMD_SESSION_CLOSE,	 /* name: id, empty: all; text: reason */
	CORE_CMD_SIGN_IN_FAILED, /* name: how; text: address; base: count */
	CORE_CMD_GATE_DELEGATE,	 /* id: gate; name: to; text: reason */
	CORE_CMD_GATE_REPORT,	 /* id: gate; step: nth; base: 1 told; body: problem */
	CORE_CMD_PROPOSAL,	 /* id: gate; name: taken or dropped */
	CORE_CMD_GUARD_SET,	 /* name: built-in rule; base: 1 on; text: reason */
	CORE_CMD_CHECKPOINT, /* id: seq; hash: chain; bytes: signature; key: public key; name: log; base: ms
				     that was signed */
	CORE_CMD_CHECKPOINT_SENT, /* id: seq; name: where; base: 1 ok; body: problem */
	CORE_CMD_SEEN,		  /* name: who; text: how; body: list as objects_seen.seen */
	CORE_CMD_VAULT_STATE,	  /* base: 1 locked; text: why */
	CORE_CMD_CANARY,	  /* name: canary; text: where; body: detail */
	CORE_CMD_KEYS_USED,	  /* body: as keys_used.used */
};

/* Who asks. Made by the engine from a verified credential, or "flow/NAME" for a run's own steps. */
struct core_caller {
	struct base_str id;	 /* "operator", "key/ci", … */
	struct base_str caveats; /* JSON of what an attenuated key may still do, or empty */
};

struct core_cmd {
	enum core_cmd_type type;
	int64_t now_ms; /* log time: never smaller than the last event's */
	uint8_t entropy[32];
	struct core_caller by;
	uint64_t run;
	uint32_t step;
	uint32_t attempt;
	uint64_t id;
	int64_t base;
	unsigned outcome; /* enum wire_outcome's numbers */
	uint32_t retry_after_ms;
	uint8_t labels; /* EFFECT_RESULT: of the value, beside those of its action; FACT_PUT, DOC_PUT: as asked for */
	struct base_str name;
	struct base_str text;
	struct base_str key;
	struct base_str bytes;
	struct base_str body;
	struct base_str params;
	struct base_hash hash;
	const struct core_zone_file
		*zones; /* DEPLOY: of the zones that it names; START: of core_zone_names */
	size_t zone_count;
	const struct core_fetched *fetched; /* what core_prefetch asked for, in its order */
	size_t fetched_count;
};

/* The rules of a time zone as this machine has them (TZif); empty: it has none of that name. */
struct core_zone_file {
	struct base_str name, file;
};

/* Something that a decision must read and the state does not hold: the event at a position of the log. */
struct core_want {
	uint64_t seq;
};
struct core_fetched {
	uint64_t seq;
	struct core_record record; /* type 0: not found */
	struct base_str blob;	   /* the event's main blob (result, value, args, show, …), resolved */
};
enum { CORE_WANTS_MAX = 4096 };
/* Names what `decide` will need for this command: appends up to CORE_WANTS_MAX to `ret` and returns how many.
 */
size_t core_prefetch(const struct core *c, const struct core_cmd *cmd, struct core_want *ret, size_t max);

/* A body over CORE_INLINE_MAX: the event holds its hash, the log stores it once. */
enum { CORE_INLINE_MAX = 64 << 10 };
struct core_body {
	struct base_hash hash;
	struct base_str data;
};

/* The answer to whoever asked (API). Written by decide; views live in the decide arena. */
struct core_reply {
	int status;	      /* HTTP's meaning: 200, 201, 202, 400, 403, 404, 409, 422, 429 … */
	struct base_str body; /* JSON: the result, or the members of a problem (RFC 9457: title, detail, …) */
	uint64_t id;	      /* run or gate made */
	int64_t retry_after_ms;		/* 429: when to try again, 0: not said */
	const struct core_body *bodies; /* to be stored with the commit: what events name by hash */
	size_t body_count;
};

/*
 * Decides. Appends events to `block` (times cmd->now_ms) and fills *ret. Does not change the state: the
 * caller applies the new events at once, in order, before the next decide. A refusal appends no event, or
 * only access_denied. Everything in *ret and what it allocates lives in `arena` until its reset. 0, or
 * -ENOMEM (nothing appended).
 */
int core_decide(struct core *c, const struct core_cmd *cmd, struct base_arena *arena, struct base_buf *block,
	struct core_reply *ret) __attribute__((warn_unused_result));

/* --- events and what follows from them --- */

enum core_act_type {
	CORE_ACT_RUN_LOAD = 1, /* run must be (re)started in a worker */
	CORE_ACT_RESULT,       /* run, step, ok, value: hand to the flow now */
	CORE_ACT_DISPATCH,     /* run, step, attempt, mode, action, key, args, route: after the commit */
	CORE_ACT_RUN_DROP,     /* run: the worker forgets it */
	CORE_ACT_RUN_ENDED, /* run, outcome, value: answer those who wait; id: the next generation, which they wait
				  for instead, 0: none; after the commit */
	CORE_ACT_GATE,	    /* id: a gate opened; after the commit */
	CORE_ACT_GATE_CLOSED, /* id */
	CORE_ACT_CANCEL,      /* run, step, attempt: stop an attempt in flight */
	CORE_ACT_CONFIG,      /* configuration changed */
	CORE_ACT_SESSIONS,    /* browser sessions were closed: look at what is open for them */
	CORE_ACT_TELL,	      /* id: gate, step: nth announcement; after the commit */
};

struct core_act {
	enum core_act_type type;
	uint64_t run;
	uint32_t step;
	uint32_t attempt;
	uint64_t id;
	bool ok;
	unsigned mode; /* dispatch: 0 send, 1 lookup */
	unsigned outcome;
	int64_t time_ms;
	struct base_str connector; /* dispatch: "mail", "views", "engine", …: valid while the catalogue is */
	struct base_str action;	   /* valid while the catalogue is */
	struct base_str key;	   /* valid until the next apply */
	struct base_blob blob;	   /* args or value, if at hand: valid until the next apply; else see seq */
	uint64_t seq;		   /* the event that holds args or value, when blob.data.ptr is NULL */
	struct base_str route;	   /* models; valid until the next apply */
	uint32_t timeout_ms;
};

/* Called by apply for each thing that must happen; NULL while replaying. */
typedef void (*core_act_fn)(void *userdata, const struct core_act *act);

/* Folds one event at position seq. Never fails: a record that does not decode ends the process (BASE_CHECK).
 */
void core_apply(struct core *c, uint64_t seq, const struct core_record *rec, core_act_fn fn, void *userdata);

/* After recovery, before CORE_CMD_START: nothing is in any worker. Emits RUN_LOAD for active runs that are not at rest;
 * mode 1: it waits for a step too, and may only have to be looked at. */
void core_resume(struct core *c, core_act_fn fn, void *userdata);

/* Somebody can be admitted, or must give way, now: a CORE_CMD_TICK does one step of it. Whoever decides goes on with ticks
 * until this is false, before anything is committed. */
bool core_admit_is_due(const struct core *c);

/* Runs that a restore holds until a person resumes them: how many; the ids of at most max of them. */
size_t core_restored_held(const struct core *c, uint64_t *ret, size_t max);
/* Signed checkpoints: the newest, and what came behind it that is not about checkpoints themselves. */
struct core_checkpoint_info {
	uint64_t seq; /* it covers the events up to here, 0: there is none */
	uint64_t at;  /* position of its checkpoint_signed */
	int64_t at_ms;
	uint64_t since; /* events */
};
void core_checkpoint_get(const struct core *c, struct core_checkpoint_info *ret);
/* The newest checkpoint that a place has, 0: none; whether the last attempt to send one there failed. */
uint64_t core_place_get(const struct core *c, struct base_str name, bool *ret_failed);
/* The last event that the log says is in the archive, 0: none. */
uint64_t core_archived(const struct core *c);

/* When the next timer is due (ms), or INT64_MAX. */
int64_t core_next_due(const struct core *c);

/* --- reading the state --- */

uint64_t core_seq(const struct core *c);    /* position of the last event applied, 0: none */
int64_t core_time_ms(const struct core *c); /* time of the last event */
uint64_t core_epoch(const struct core *c);
bool core_is_frozen(const struct core *c);
bool core_is_locked(const struct core *c);	   /* the vault, as far as the log knows */
struct base_str core_config(const struct core *c); /* JSON; valid until the next config_set */
/* What tells this workspace from others, 16 bytes; empty before the first start. Valid until the next apply. */
struct base_str core_workspace(const struct core *c);
/* Public key to principal: the id (valid until the next apply), or empty. Revoked and expired keys are not
 * found. ret_new (may be NULL): it is the key of a rotation that was not used before. */
struct base_str core_principal_by_key(
	const struct core *c, struct base_str public_key, int64_t now_ms, bool *ret_new);
/* When it was last used as far as the log says, 0: never or unknown. */
int64_t core_key_used_ms(const struct core *c, struct base_str id);
/* Appends what of the workspace's objects exists for `by`: {"flows":[[patterns]…],"memory":[prefixes],"own":ID}: it must
 * match each list of patterns, begin with one of the prefixes, and be started by ID; a member that is missing narrows
 * nothing. Appends nothing for whom everything exists. A principal that is not known sees nothing. */
void core_scope_json(const struct core *c, const struct core_caller *by, struct base_buf *ret);
/* Does a grant name this very action (not by a pattern)? What only the operator does is not given away by "*". */
bool core_may_by_name(
	const struct core *c, const struct core_caller *by, struct base_str action, int64_t now_ms);
/* May `by` do `action` (an API operation or an action) by its grants, at this time? A pattern ("api.*") is
 * itself granted only by one that is at least as wide. */
bool core_may(const struct core *c, const struct core_caller *by, struct base_str action, int64_t now_ms);

struct core_run_info {
	uint64_t run;
	enum core_run_state state;
	unsigned outcome;
	struct base_str flow, as;
	struct base_hash version;
	uint64_t seq_started, seq_ended;
	int64_t started_ms;
	uint32_t steps;
	int64_t cost, reserved;
	uint64_t parent;
	bool stopped;		    /* it has ended, and nothing is sent for it any more */
	struct base_str by, origin; /* who started it, and the first of its line */
	struct base_str
		payer; /* the flow that it belongs to: its own, or of the run that an agent works for */
};
bool core_run_get(const struct core *c, uint64_t run, struct core_run_info *ret);
/* Position of an ended run's run_ended, 0: not known. */
uint64_t core_ended_seq(const struct core *c, uint64_t run);
/* The journal of a run, in log order: for each finished step the position of the event that finished it.
 * Returns the count, at most max; call with max 0 to learn it. */
struct core_journal_entry {
	uint64_t seq;
	uint32_t step;
};
size_t core_run_journal(const struct core *c, uint64_t run, struct core_journal_entry *ret, size_t max);
/* How far a run is: steps asked for and steps finished, together. It never goes back. */
uint64_t core_run_position(const struct core *c, uint64_t run);
/* The steps of a run, in order: where each was called, and where the event that finished it stands (0: open). As
 * core_run_journal. */
struct core_step_at {
	uint64_t seq, seq_end;
};
size_t core_run_steps(const struct core *c, uint64_t run, struct core_step_at *ret, size_t max);
/* Runs that have not ended, in no order; `flow` empty: all. Returns the count; ret gets at most max. */
size_t core_runs_open(const struct core *c, struct base_str flow, uint64_t *ret, size_t max);
/* The flow of a version, empty: unknown. */
struct base_str core_version_flow(const struct core *c, const struct base_hash *version);
/* Of the last engine that began here: "quickjs-ng 0.16.2"; may be empty. Valid until the next start. */
struct base_str core_interpreter(const struct core *c);
/* The class of an action by the catalogue (enum core_class), -1: unknown. */
int core_class_of(const struct core *c, struct base_str action);
/* Where the modules of a version stand in the log (flow_deployed), 0: unknown. */
uint64_t core_version_seq(const struct core *c, const struct base_hash *version);

/* What is wrong with a policy, and where: a JSON Pointer into it, and the place in the text that stands there (an
 * expression): both count from 1, 0: the value as a whole. */
struct core_fault {
	char at[256];
	size_t line, column;
	struct base_err err; /* without the place */
};
/* A policy (JSON of policy.yaml) is checked, and the tests that it carries are run. -EINVAL. */
int core_policy_check(struct base_str json, struct core_fault *fault, unsigned *ret_tests)
	__attribute__((warn_unused_result));
/* A policy in files, as aios-parse gives them ("policy": {"marks","value"}), joined in this order: rules and tests one
 * behind the other, counters together. Checked; its tests are run. -EINVAL: *ret_problem is {"file","line","column",
 * "message"}; -ENOMEM. */
struct core_policy_file {
	struct base_str name, parsed;
};
int core_policy_read(const struct core_policy_file *files, size_t count, struct base_buf *ret,
	unsigned *ret_tests, struct base_buf *ret_problem) __attribute__((warn_unused_result));

/* JSON answers for the API, made from the state alone. 0, -ENOENT, -ENOMEM. */
int core_gates_json(const struct core *c, struct base_buf *ret); /* open gates */
int core_gate_json(const struct core *c, uint64_t gate,
	struct base_buf *ret);				     /* its head; show is in the log at seq_shown */
uint64_t core_gate_seq(const struct core *c, uint64_t gate); /* position of gate_opened */
uint64_t core_gate_run(const struct core *c, uint64_t gate); /* 0: unknown, or of none */
/* The open gates that `by` may decide now. */
int core_gates_of_json(
	const struct core *c, const struct core_caller *by, int64_t now_ms, struct base_buf *ret);
/* May `by` answer this open gate so, now? A link asks before it shows anything. */
bool core_gate_may_decide(const struct core *c, uint64_t gate, const struct core_caller *by,
	struct base_str answer, int64_t now_ms);
/* Is this open gate approved with a signature? *ret_shown: the hash of what it shows. */
bool core_gate_signs(const struct core *c, uint64_t gate, struct base_hash *ret_shown);
/* Has `who` voted at it? */
bool core_gate_has_vote(const struct core *c, uint64_t gate, struct base_str who);
/* Proposed rules that nobody has looked at: positions of rule_proposed, the newest first; of one gate's, 0: none. */
size_t core_proposals_open(const struct core *c, uint64_t *ret_seqs, size_t max);
uint64_t core_proposal_seq(const struct core *c, uint64_t gate);
/* Appends [{"gate","channel","problem"}]: announcements of open gates that failed, at most max. */
void core_tell_failures(const struct core *c, size_t max, struct base_buf *ret);
/* One announcement of an open gate: views until the next apply. */
struct core_telling {
	struct base_str channel, to, why, kind, title, rule, flow;
	int64_t cost, expires_ms;
	uint64_t run;
	uint8_t labels; /* of what it shows: 1 untrusted, 2 private */
	bool sign;	/* is decided with a signature */
	bool known;	/* the configuration still has the channel */
};
/* False: the gate is decided, or its channel has told it anew since. */
bool core_tell_get(const struct core *c, uint64_t gate, uint32_t nth, struct core_telling *ret);
int core_flows_json(const struct core *c, struct base_buf *ret);
/* {"queued","queue_max","awake","active_max","more","lanes":[{flow,lane,active,limit,waiting,delayed,next,since_ms}]}: at
 * most `max` lanes, of this flow or (empty) of all. */
int core_queue_json(const struct core *c, struct base_str flow, size_t max, struct base_buf *ret);
int core_budgets_json(const struct core *c, struct base_buf *ret);
int core_keys_json(const struct core *c, struct base_buf *ret);
/* The event at a position of the log; views valid until the next call. False: it cannot be read. */
typedef bool (*core_read_fn)(void *userdata, uint64_t seq, struct core_record *ret);
enum { CORE_WHY_MAX = 1000 }; /* waits of one answer */
/* Why a run that the state knows waits: {"run","now","kind","text","since"?,"until"?,"limit"?,"wakes","waits":[{"step",
 * "action","kind","text",…}]}. Times in ms; "limit": when its own time limit ends it. */
int core_why_json(const struct core *c, uint64_t run, int64_t now_ms, core_read_fn read, void *userdata,
	struct base_buf *ret);
/* May they, and why: {"who","action","args","customer","labels","confidence"} → {"verdict","rule","why","grants",
 * "granted","rules":[{"rule","on","then","when","value","matches","limit"}],"guard","inputs","terms"}. Nothing is done, nor
 * counted. -ENOENT with a text. */
int core_can_json(const struct core *c, struct base_str ask, int64_t now_ms, core_read_fn read,
	void *userdata, struct base_buf *ret, struct base_err *err) __attribute__((warn_unused_result));

/* The tests that a policy carries, each: [{"name","action","expect","got","rule","why","ok"}]. */
int core_policy_tests(struct base_str json, struct base_buf *ret, struct core_fault *fault)
	__attribute__((warn_unused_result));

/* Another policy (JSON) over calls that were judged before, in the order of the log: it counts for itself. */
struct core_retrial;
int core_retrial_new(struct base_str json, struct core_retrial **ret, struct core_fault *fault)
	__attribute__((warn_unused_result));
void core_retrial_free(struct core_retrial *x);
struct core_retrial_call {
	struct base_str as, flow, agent, action, customer;
	struct base_str args, fact; /* JSON; fact: the customer's, or empty */
	uint64_t run;
	bool strange; /* customers are known by their facts, and there is none of this one */
	uint8_t labels;
	int64_t cost, confidence, time_ms;
};
/* What it would have been: "allow", "gate", "deny"; *ret_rule lives until the next. */
const char *core_retrial_judge(
	struct core_retrial *x, const struct core_retrial_call *call, struct base_str *ret_rule);

int core_schedules_json(const struct core *c, struct base_buf *ret);
/* One, with its next ten firings. -ENOENT. */
int core_schedule_json(const struct core *c, struct base_str name, struct base_buf *ret);
/* May this be the name of a time zone ("Europe/Amsterdam")? It cannot lead out of a folder. */
bool core_zone_name_valid(struct base_str name);
/* The time zones that schedules in the state name: how many, at most max. Views until the next apply. */
size_t core_zone_names(const struct core *c, struct base_str *ret, size_t max);
/* Labels of a run as it is now (enum: 1 untrusted, 2 private); 0 for one that is not known. */
uint8_t core_run_labels(const struct core *c, uint64_t run);
/* Labels of a fact: those that it was written with, and those that aios.yaml gives its key. */
uint8_t core_fact_labels(const struct core *c, struct base_str key);
struct base_str core_labels_json(uint8_t labels); /* ["private","untrusted"]; for ever */
/* The labels of a list of names; none (kind NONE) has none. -EINVAL: it is no such list. */
int core_labels_read(struct base_jv list, uint8_t *ret) __attribute__((warn_unused_result));
/* Is this built-in rule on? There is "untrusted-private". */
bool core_guard_is_on(const struct core *c, struct base_str rule);
/* Facts: positions, in key order. */
bool core_fact_get(const struct core *c, struct base_str key, uint64_t *ret_seq, uint64_t *ret_version);
size_t core_fact_list(
	const struct core *c, struct base_str prefix, struct base_str after, uint64_t *ret_seqs, size_t max);

/* --- signing in (sign_in.c) --- */

enum {
	CORE_CREDENTIALS_MAX = 32,
	CORE_SESSIONS_MAX = 64,
	CORE_FAILURES_MAX = 256,	 /* addresses whose failures are remembered */
	CORE_SESSION_OVERLAP_MS = 60000, /* how long the token before still counts after a rotation */
};
/* Views are valid until the next apply. */
struct core_session_info {
	struct base_str id, how, address, agent, credential;
	int64_t opened_ms, token_ms, until_ms; /* token_ms: when its token was made */
	bool old;			       /* found by the token before */
};
struct core_credential_info {
	struct base_str id, kind, name, credential_id, public_key;
	int64_t alg, sign_count, added_ms, used_ms, refused_ms;
};
/* The open session of this token (its hash). */
bool core_session_find(
	const struct core *c, const struct base_hash *token, int64_t now_ms, struct core_session_info *ret);
bool core_session_get(
	const struct core *c, struct base_str id, int64_t now_ms, struct core_session_info *ret);
/* By the name that it has here, or by the one that its authenticator gave. */
bool core_credential_get(const struct core *c, struct base_str id, struct core_credential_info *ret);
bool core_passkey_find(const struct core *c, struct base_str credential_id, struct core_credential_info *ret);
/* Calls fn for each passkey. */
void core_passkeys(const struct core *c, void (*fn)(void *userdata, const struct core_credential_info *info),
	void *userdata);
/* Failed attempts as the log has them: how many at `now_ms`, where one is forgiven each CORE_FORGIVE_MS, and when the last
 * was. `address` empty: from anywhere. */
enum { CORE_FORGIVE_MS = 600000, CORE_FORGIVE_ALL_MS = 60000 };
uint32_t core_sign_in_failures(const struct core *c, struct base_str how, struct base_str address,
	int64_t now_ms, int64_t *ret_last_ms);
/* {"credentials":[…],"sessions":[…],"failures":[…]}; `current`: the session of who asks, or empty. */
int core_sign_in_json(const struct core *c, int64_t now_ms, struct base_str current, struct base_buf *ret);

/* --- snapshots --- */

/* The state in a canonical form: equal states give equal bytes. */
int core_snapshot(const struct core *c, struct base_buf *ret) __attribute__((warn_unused_result));
/* Into a fresh core (catalogue loaded). -EBADMSG. */
int core_restore(struct core *c, struct base_str snapshot, struct base_err *err)
	__attribute__((warn_unused_result));
struct base_hash core_state_hash(const struct core *c);
/* Walks every invariant (listed at the top of state.c); ends the process with what is broken. */
void core_check(const struct core *c);
