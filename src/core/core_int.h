#pragma once

/* What the files of this folder share, with nobody else: one decision, and who does which part of it. The state itself
 * stands in state_int.h. */

#include "core/state_int.h"

/* --- one decision --- */

struct core_turn {
	struct core *c;
	const struct core_cmd *cmd;
	struct base_arena *arena;
	struct base_buf *block;
	struct core_reply *reply;
	uint64_t next_run, next_gate; /* counters ahead of the state within this decision */
	uint64_t starts;	      /* runs that this decision has started */
	size_t mark;		      /* in the block, where this decision begins */
	struct core_body *bodies;
	size_t body_count, body_cap;
	struct base_prng entropy; /* of the command */
	bool overdue;		  /* a time limit passed while an attempt was out: it may have happened */
};

/* Refuses: a reply with a status and a problem, no event. */
void core_refuse(struct core_turn *t, int status, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void core_reply_json(struct core_turn *t, int status, struct base_str json);
/* A blob for `data`: inline, or by hash with the body noted in the turn. */
struct base_blob core_blob(struct core_turn *t, struct base_str data);
/* {"code":…,"message":…} in the arena. */
struct base_str core_problem(struct base_arena *a, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A buffer whose bytes move into the arena. */
struct base_str core_buf_to_arena(struct base_arena *a, struct base_buf *b);
uint64_t core_entropy(struct core_turn *t);
/* What an Idempotency-Key stood for, small enough to keep: never 0. */
uintptr_t core_fingerprint(struct base_str a, struct base_str b);
/* The same of a signal, whose payload may stand in the log by its hash. */
uintptr_t core_signal_fingerprint(const struct core_signal_sent *ev);
/* The fetched record at `seq`, or NULL. */
const struct core_fetched *core_fetched_at(const struct core_turn *t, uint64_t seq);

/* --- catalogue.c --- */
const struct core_action *core_action_find(const struct core *c, struct base_str name);
void core_catalogue_free(struct core *c);
/* The class that counts for this workspace (a transport may change it). */
enum core_class core_action_class(const struct core *c, const struct core_action *a);

struct core_apply;

/* --- state.c --- */
struct core_run *core_run_find(const struct core *c, uint64_t id);
struct core_gate *core_gate_find(const struct core *c, uint64_t id);
struct core_step *core_step_find(const struct core_run *r, uint32_t step);
struct core_connector *core_connector_of(struct core *c, struct base_str name);
struct core_connector *core_connector_find(const struct core *c, struct base_str name);
uint32_t core_action_intern(struct core *c, struct base_str name);
/* The word for a text, counted once more; NULL for an empty one. */
struct core_word *core_word_take(struct core *c, struct base_str text);
void core_word_drop(struct core *c, struct core_word *w); /* NULL is fine */
struct base_str core_word_text(const struct core_word *w);
/* limits.c: the lists that `text` (JSON) holds, counted once more; NULL: none, or they cannot be read. */
struct core_limits *core_limits_take(struct core *c, struct base_str text);
void core_limits_drop(struct core *c, struct core_limits *l); /* NULL is fine */
/* The rare members of a run: all zero if it has none. */
const struct core_run_extra *core_run_extra(const struct core_run *r);
struct core_run_extra *core_run_extend(struct core *c, struct core_run *r); /* to write them */
struct core_flow *core_run_payer(const struct core_run *r);		    /* or NULL */
/* "aios:agent" and "aios:undo" for those that are built in. */
struct base_str core_run_flow_name(const struct core_run *r);
/* The run that waits for it, or NULL. */
struct core_run *core_run_parent(const struct core *c, const struct core_run *r);
/* Room for one more step; the new one is zeroed and counted. */
struct core_step *core_step_new(struct core *c, struct core_run *r);
struct core_open *core_step_open(const struct core_step *s); /* NULL: finished, or no such step */
uint64_t core_step_end(const struct core_step *s);	     /* 0: open */
/* The open steps of a run, the latest first: start with *i = r->steps. NULL at the end. */
struct core_open *core_open_before(const struct core_run *r, uint32_t *i);
bool core_key_is(const struct core_key *k, const struct base_hash *input);
struct core_key *core_key_new(struct core *c, uint64_t run, const uint8_t *input);
/* An open step of `status`, which the caller sets in the step too. */
struct core_open *core_open_add(struct core *c, struct core_run *r, uint32_t step, uint8_t status);
/* The step is finished: `status` is CORE_STEP_DONE or CORE_STEP_FAILED, `seq` the event that did it. */
void core_open_drop(struct core *c, struct core_run *r, uint32_t step, uint8_t status, uint64_t seq);
void core_run_forget(struct core *c, struct core_run *r);
void core_gate_forget(struct core *c, struct core_gate *g);
struct core_patterns core_patterns_of(struct core *c, struct base_jv list);
void core_patterns_free(struct core *c, struct core_patterns *p);
bool core_patterns_match(const struct core_patterns *p, struct base_str name);
void core_set_str(struct core *c, struct base_str *place, struct base_str value);
/* Timers: derived; stale ones are skipped. */
enum core_timer_kind {
	CORE_TIMER_STEP = 1,
	CORE_TIMER_GATE = 2,
	CORE_TIMER_RUN = 3,
	CORE_TIMER_RATE = 4,
	CORE_TIMER_SCHEDULE = 5,
	CORE_TIMER_DELIVERY = 10,
	CORE_TIMER_DEADLINE = 8,
	CORE_TIMER_UNDO = 9,
	CORE_TIMER_TELL = 11,
};
void core_timer_add(struct core *c, enum core_timer_kind kind, uint64_t id, uint32_t sub, int64_t when);
/* The earliest timer that is not stale. */
bool core_timer_next(struct core *c, struct base_heap_item *ret);

/* --- gate_terms.c --- */
/* "terms" of gate_opened: what the rule or the flow asks for, and what the configuration adds. */
struct core_gate_open;
struct base_str core_terms_for(struct core_turn *t, const struct core_gate_open *g);
/* Parsed, in the slab. */
struct core_terms core_terms_of(struct core *c, struct base_str text);
void core_terms_free(struct core *c, struct core_terms *x);
/* Of ctx.approve or of a rule: -EINVAL with what is wrong. */
int core_terms_check(struct base_jv terms, struct base_err *err) __attribute__((warn_unused_result));
/* May `who` decide it by its terms, escalations and delegations? Says nothing of keys that are revoked. */
bool core_gate_names(const struct core_gate *g, struct base_str who);
/* Did `who` set the run, or one that it belongs to, going? */
bool core_run_asked_by(const struct core *c, const struct core_run *r, struct base_str who);

/* --- gate_votes.c --- */
enum core_ballot {
	CORE_BALLOT_REFUSED, /* and said why */
	CORE_BALLOT_VOTED,   /* one of several: others must decide too */
	CORE_BALLOT_DECIDES,
};
enum core_ballot core_gate_vote(
	struct core_turn *t, struct core_gate *g, struct base_str answer, struct base_str value);
void core_decide_delegate(struct core_turn *t);
/* May whoever asks give one of the answers at this gate now? Else *ret_why says why not (static text). */
bool core_gate_may(const struct core *c, const struct core_gate *g, const struct core_caller *by,
	struct base_str answer, int64_t now_ms, const char **ret_why);
void core_votes_forget(struct core *c, struct base_str who); /* its key is revoked, or another */
void core_gate_forget_people(struct core *c, struct core_gate *g);
/* G3 to G6. */
void core_gate_check(const struct core *c, const struct core_gate *g);

/* --- notify.c --- */
/* The members `notify` and `gates` of a configuration. -EINVAL with what is wrong. */
int core_notify_check(struct base_jv root, struct base_err *err) __attribute__((warn_unused_result));

/* --- propose.c, propose_state.c: rules from decisions --- */
struct core_apply;
/* Behind a person's gate_decided. shown: what the gate showed. */
void core_propose(
	struct core_turn *t, const struct core_gate *g, struct base_str answer, struct base_str shown);
size_t core_want_precedents(
	const struct core *c, const struct core_gate *g, struct core_want *ret, size_t max);
void core_decide_proposal(struct core_turn *t);
void core_precedent_add(
	struct core *c, const struct core_gate *g, struct base_str action, struct base_str as, bool yes);
void core_apply_proposal(struct core_apply *a, unsigned type, const union core_event_any *e);
void core_proposals_put(const struct core *c, struct base_buf *b);
void core_proposals_get(struct core *c, struct base_reader *r);

/* --- gate_tell.c --- */
/* When it is to be announced, or is put to others; 0: neither. */
int64_t core_gate_due(const struct core *c, const struct core_gate *g);
void core_gate_arm(struct core *c, const struct core_gate *g); /* its timers */
void core_gates_rearm(struct core *c);			       /* the channels have changed */
void core_decide_tell(struct core_turn *t, uint64_t gate);
void core_decide_report(struct core_turn *t);
/* What is to be announced is, at this time or after the quiet hours. */
struct core_apply;
void core_gate_tell(const struct core_apply *a, struct core_gate *g, const char *why);
/* Members of its JSON: who may decide, votes, escalations, announcements, where its data came from. */
void core_gate_put_more(struct base_jw *w, const struct core_gate *g);
/* What was announced and not reported is to be sent again. */
void core_tell_resume(struct core *c, core_act_fn fn, void *userdata);
/* snapshot_gate.c */
void core_gate_put(struct base_buf *b, const struct core_gate *g);
void core_gate_get(struct core *c, struct base_reader *r);

/* --- fork.c --- */
/* Is this what the recorded step asked for? */
bool core_step_is(
	const struct core *c, const struct core_step *s, struct base_str action, struct base_str args);
/* What a start key stands for: the input, and what was forked. */
struct base_hash core_fork_hash(
	const struct base_hash *input, uint64_t run, uint32_t steps, const struct base_hash *version);
void core_apply_taken(struct core_apply *a, const struct core_step_taken *e);

/* --- deadline.c: time limits --- */
/* `when` 0: none. Its timer goes with it. */
void core_deadline_set(struct core *c, struct core_run *r, uint32_t step, int64_t when);
/* A step that was in doubt, where no limit counts, goes on: its timer may have been dropped. */
void core_deadline_again(struct core *c, const struct core_run *r, uint32_t step);
struct core_deadline *core_deadline_of(const struct core_run *r, uint32_t step);
void core_deadline_drop(struct core *c, struct core_run *r, uint32_t step);
void core_deadlines_free(struct core *c, struct core_run *r);
bool core_deadline_is_live(const struct core *c, const struct base_heap_item *t);
/* The time limit of this step is over at `now_ms`. */
bool core_is_overdue(const struct core_run *r, uint32_t step, int64_t now_ms);
/* In apply: the step goes on though its time limit is over; an attempt in flight is called off. */
void core_deadline_passed(struct core_apply *a, struct core_run *r, uint32_t step);
/* One whose time has come. */
void core_decide_deadline(struct core_turn *t, const struct base_heap_item *item);
/* Milliseconds of a member of a JSON text (a number, or a text such as "2h"); 0: not there, or no duration. */
int64_t core_duration_member(struct base_jv object, const char *name);

/* --- config.c: what is derived from configuration and policy --- */
void core_config_load(struct core *c);
int core_config_check(struct base_str json, struct base_err *err);
/* "50/s", "100/m", "1000/h". -EINVAL. */
int core_rate_of(struct base_str s, int64_t *ret_interval_us, int64_t *ret_burst)
	__attribute__((warn_unused_result));
struct core_version *core_version_make(struct core *c, struct base_str flow, const struct base_hash *hash,
	uint64_t seq, struct base_str spec);

/* --- settings.c --- */
/* Against a schema of settings.json ("config", "policy"); the text names `file` and the place. */
int core_settings_check(const char *which, const char *file, struct base_jv value, struct base_err *err);
/* The configuration with the built-in providers and prices of what it names, canonical. */
struct base_str core_settings_complete(struct base_jv config, struct base_arena *arena);

/* --- policy.c, policy_*.c (policy_int.h) --- */
enum core_verdict { CORE_ALLOW, CORE_GATE, CORE_DENY };
struct core_judged {
	enum core_verdict verdict;
	struct base_str rule; /* its name, or what decided instead */
	struct base_str why;  /* for a person, where the name does not say it; or empty */
	/* gate */
	int64_t expires_ms; /* how long it stays open; 0 for ever */
	struct base_str
		terms; /* canonical JSON: approvers, need, escalate, remind_ms, announce, quiet, sign; or empty */
	struct base_str on_expiry; /* deny, approve */
	/* for step_called */
	uint64_t policy;	/* position of the policy_set whose rules were asked, 0: none were */
	struct base_str judged; /* JSON: what they read beside the arguments; or empty */
	struct base_str counts; /* JSON: what the call adds to counters; or empty */
};
struct core_question {
	const struct core_run *run;
	const struct core_action *action;
	struct base_jv args;
	struct base_str customer;      /* id */
	struct base_str customer_fact; /* JSON or empty */
	int64_t cost;
	int64_t now_ms;
	int64_t confidence; /* thousandths, bound to the arguments (verify.c); 0: none */
	bool released; /* judged before: its limits held then, and its own counts are not held against it */
	struct base_str counts; /* released: what it counted */
	uint8_t labels;		/* of the run when it asked */
};
/* Grants first, then rules: deny over gate over allow; nothing matches: deny. Then limits, which are only stricter. */
struct core_judged core_judge(const struct core *c, const struct core_question *q, struct base_arena *arena);
bool core_run_may(const struct core *c, const struct core_run *r, struct base_str action);
/* Why core_run_may says no: "it has no grant for it …" or "its starter may not …". */
const char *core_run_may_not(const struct core *c, const struct core_run *r, struct base_str action);
/* The grants of a run, for one that it starts: JSON as run_started.grants. A child acts with the intersection. */
struct base_str core_run_limits(
	const struct core *c, const struct core_run *r, bool own, struct base_arena *arena);
/* --- verify.c --- */
struct core_call;
/* What a call's `confidence` is worth for it, in thousandths: 0 unless it names a verification of this run whose value
 * stands in the arguments. */
int64_t core_confidence_of(struct core_turn *t, const struct core_call *call);
/* The position that it is read from, 0: none. */
uint64_t core_confidence_seq(const struct core *c, const struct core_run *r, struct base_jv opts);
/* The step `verify.check`. */
void core_verify(struct core_turn *t, const struct core_call *call);
/* Positions that it reads: the model's step, the facts that are cited. */
size_t core_verify_wants(
	const struct core *c, const struct core_run *r, struct base_jv args, uint64_t *ret, size_t max);

/* Position of the customer's fact if the policy needs it, else 0. */
uint64_t core_customer_seq(const struct core *c, struct base_str customer);
/* Derived from c->policy. `set`: by its event, so that what is not counted any more is forgotten. */
void core_policy_load(struct core *c, bool set);
void core_policy_unload(struct core *c);
/* In apply: what a step counts is counted, and taken back where it surely did not happen. */
void core_counts_apply(struct core_apply *a, struct core_effect *x, struct base_str counts);
void core_counts_release(struct core *c, struct core_effect *x);
void core_counts_put(const struct core *c, struct base_buf *b);
void core_counts_get(struct core *c, struct base_reader *r);
/* N1 to N3. */
void core_counts_check(const struct core *c);

/* --- money.c --- */
uint32_t core_month_of(int64_t time_ms);
/* Which budget cannot cover `amount` more: its name in words, or empty. */
struct base_str core_budget_short(const struct core *c, const struct core_run *r, int64_t amount,
	int64_t now_ms, struct base_arena *arena);
void core_reserve(struct core *c, struct core_run *r, struct core_open *o, int64_t amount);
void core_settle(struct core *c, struct core_run *r, struct core_open *o, int64_t cost);
struct core_route {
	struct base_str json; /* {"provider","model","tier","why"} */
	struct base_str provider;
	int64_t reserve;
	uint32_t candidates;	 /* models that could serve it */
	struct base_str problem; /* not empty: no route, and why */
};
/* What the call may cost, and who serves it. With private data only those that the operator trusts with it. */
struct core_route core_route_of(const struct core *c, struct base_jv args, size_t args_len, uint8_t labels,
	uint32_t failures, int64_t now_ms, struct base_arena *arena);

/* --- decisions by subject --- */
void core_decide_deploy(struct core_turn *t);
void core_decide_run_start(struct core_turn *t);
void core_decide_run_cancel(struct core_turn *t);
void core_decide_run_resume(struct core_turn *t);
void core_decide_run_pause(struct core_turn *t);
void core_decide_runs_rest(struct core_turn *t);
void core_decide_run_fork(struct core_turn *t);
void core_decide_run_move(struct core_turn *t);
void core_decide_run_park(struct core_turn *t);
void core_decide_flow_crashed(struct core_turn *t);
void core_decide_flow_call(struct core_turn *t);
void core_decide_flow_end(struct core_turn *t);
void core_decide_effect_result(struct core_turn *t);
void core_decide_tick(struct core_turn *t);
void core_decide_start(struct core_turn *t);
void core_decide_thaw(struct core_turn *t);
void core_decide_gate(struct core_turn *t);
void core_decide_signal(struct core_turn *t);
void core_decide_fact_put(struct core_turn *t);
void core_decide_doc_put(struct core_turn *t);
void core_decide_outcome(struct core_turn *t);
/* Value, money, experiment and arm of an outcome; its run and customer stand in *ev already. by_customer: the experiment of
 * that run in which the customer was given an arm, where none is named. -EINVAL with a text. */
int core_outcome_read(const struct core *c, struct base_jv from, bool by_customer,
	struct core_outcome_recorded *ev, struct base_err *err) __attribute__((warn_unused_result));
void core_decide_key(struct core_turn *t); /* keys.c */
/* That of the log, or one that is made of the command's entropy. */
struct base_str core_workspace_of(const struct core_turn *t);
void core_apply_key(struct core *c, unsigned type, const union core_event_any *e);
void core_keys_check(const struct core *c); /* I1, I2 */

/* --- sign_in.c, sign_in_state.c --- */
void core_decide_credential(struct core_turn *t);
void core_decide_credential_used(struct core_turn *t);
void core_decide_session_open(struct core_turn *t);
void core_decide_session_close(struct core_turn *t);
void core_decide_sign_in_failed(struct core_turn *t);
void core_apply_sign_in(struct core_apply *a, unsigned type, const union core_event_any *e);
/* Whoever restores an old log does not bring closed sessions back. */
void core_sessions_restored(struct core_apply *a);
void core_sign_in_put(const struct core *c, struct base_buf *b);
void core_sign_in_get(struct core *c, struct base_reader *r);
void core_sign_in_check(const struct core *c); /* L1 to L4 */

/* What a fork takes over of another run; run 0: it is none. */
struct core_fork {
	uint64_t run;
	uint32_t steps;
	struct base_str seed;
	int64_t clock_ms;
};

/* restore.c */
void core_decide_restored(struct core_turn *t);
void core_restored_admit(struct core_turn *t, const struct core_run *r); /* behind its run_admitted */
uint8_t core_restored_flags(const struct core_run *from); /* of a run that `from` (or NULL) starts */
bool core_is_held(const struct core_run *r);		  /* by a restore; NULL is not */
/* Its key is another than that of what may have been sent before the restore. */
bool core_is_stray(const struct core_run *r, const struct core_effect *x);

/* A run_started event; parent may be NULL. Returns the new run's id. */
struct core_start {
	struct core_flow *flow; /* NULL for agents */
	const struct core_agent *agent;
	const struct core_run *parent;
	uint32_t parent_step;
	struct base_str by, origin, key, input, customer, limits, trigger;
	uint8_t labels;	     /* joined by those of the parent, of the generation before */
	uint8_t shed;	     /* that its value may lose for the parent */
	uint8_t event_depth; /* the parent's where there is one */
	bool dry;
	const struct core_run *cause;	 /* started it, published what it hears, or was forked; or NULL */
	const struct core_run *previous; /* the generation before, which ends in the same decision */
	int64_t timeout_ms;		 /* 0: what its flow declares */
	/* flow control */
	int64_t begin_ms;	    /* not before, 0: at once */
	int64_t priority;	    /* with has_priority; else the parent's or the flow's */
	struct base_str lane, rate; /* by core_start_check */
	bool has_priority, checked;
	const struct core_version *version; /* NULL: the flow's current one */
	struct core_fork fork;
};
uint64_t core_emit_run_started(struct core_turn *t, const struct core_start *s);

/* --- generation.c --- */
struct core_call;
void core_decide_again(struct core_turn *t, const struct core_call *call);
struct core_apply;
void core_generation_started(struct core_apply *a, struct core_run *r, const struct core_run_started *e);

/* --- admit.c: flow control --- */
/* What a spec declares about its starts: all zero if nothing. -EINVAL with a text that names the member. */
int core_control_read(struct base_jv spec, struct core_control *ret, struct base_err *err)
	__attribute__((warn_unused_result));
void core_control_done(struct core_control *k);
/* May this start now, or wait? Fills in lane and rate. Otherwise false with a problem (core_problem's form) and HTTP's
 * status: a key that cannot be told, a full queue, a lane that rejects, a wait without end. Whoever starts runs asks
 * first; core_emit_run_started itself never refuses. */
bool core_start_check(
	struct core_turn *t, struct core_start *s, struct base_str *ret_problem, int *ret_status);
/* Does a new run wait in the queue? */
bool core_start_queues(struct core_turn *t, const struct core_start *s);
int64_t core_start_priority(const struct core_start *s);
/* Does run `from` wait for run `to`, by calls, waits and full lanes? */
bool core_waits_for(const struct core *c, uint64_t from, uint64_t to);
/* One step of admission: a wait is answered, a run admitted, replaced or rejected. False: nothing to do. */
bool core_decide_admit(struct core_turn *t);
/* Why a queued run waits, what would wake it, and until when (0: nobody knows), in words. */
void core_queue_why(const struct core *c, const struct core_run *r, int64_t now_ms, struct base_buf *ret_text,
	struct base_buf *ret_wakes, int64_t *ret_until);
void core_decide_run_forget(struct core_turn *t);

/* --- labels.c: where data comes from, and who may have it --- */
/* Of what a caller brings in: the operator's own has none. */
uint8_t core_caller_labels(const struct core *c, struct base_str by);
/* That aios.yaml gives this key of memory, or this file. */
uint8_t core_key_labels(const struct core *c, struct base_str key);
/* All that a list of this prefix may show. */
uint8_t core_prefix_labels(const struct core *c, struct base_str prefix);
/* May this call carry these labels with no gate? Empty: yes; else the name of what stands against it. `provider`: of a model. */
struct base_str core_guard(
	const struct core *c, const struct core_action *a, struct base_str provider, uint8_t labels);
/* --- approval.c --- */
struct core_call;
/* 0: the approval lets the call through. Else *ret_problem says why not. */
int core_approval_use(struct core_turn *t, const struct core_call *call, uint64_t gate,
	struct base_str *ret_problem) __attribute__((warn_unused_result));
/* Would whoever gave this approval have been enough for a gate with these terms (JSON)? Not if the flow asked for fewer, for
 * others, or without a signature. */
bool core_terms_cover(const struct core_gate *g, struct base_str terms);
/* Does the approval say where each argument of the call stands in what was shown, so that whoever approved saw the very
 * call? What a flow chooses beside them (`key`) may not go along. */
bool core_approval_covers(const struct core_gate *g, struct base_jv args, struct base_str key);
/* What a gate shows of a call; key: what the flow chose, or empty. In the arena. */
struct base_str core_shown_call(
	struct core_turn *t, struct base_str action, struct base_str args, struct base_str key);
/* The guard once more when a call would leave: false, and a gate is opened that shows it. */
bool core_guard_release(struct core_turn *t, const struct core_run *r, const struct core_open *o,
	struct base_json *args, struct base_str args_text, uint8_t labels, struct base_str provider);
/* Is this provider trusted with private data? */
bool core_provider_is_trusted(const struct core *c, struct base_str provider);
/* [{"label","step","action","what"} or {"label","from"}]: where each label of a run came from first. `want` names what it
 * reads, for prefetch. */
struct base_str core_sources(struct core_turn *t, const struct core_run *r, uint8_t labels);
size_t core_sources_want(const struct core_run *r, uint8_t labels, uint64_t ret[2]);
/* Labels of what the views or the file connector answered. */
uint8_t core_result_labels(
	struct core_turn *t, const struct core_run *r, const struct core_open *o, struct base_str value);
bool core_result_needs_call(const struct core_action *a);
/* Of the fact as it stands. */
uint8_t core_fact_labels_of(const struct core *c, struct base_str key, const struct core_fact *f);

uint8_t core_file_labels(const struct core *c, struct base_str path);
/* Of all below a folder. */
uint8_t core_folder_labels(const struct core *c, struct base_str path);
/* A path of the files folder in one form: no empty parts, no `.`, no `..`. */
struct base_str core_file_path(struct base_arena *a, struct base_str path);

/* --- guard.c: the built-in rule, turned off by a decision only --- */
#define CORE_GUARD "untrusted-private"
void core_decide_guard(struct core_turn *t);
void core_guard_decided(struct core_turn *t, const struct core_gate *g, struct base_str answer,
	struct base_str by, struct base_str reason);
/* Only the operator decides it, whoever else may decide gates. */
bool core_gate_is_operators(const struct core_gate *g);

/* --- shed.c: a label is lost, by a narrow schema and a decision --- */
/* What may be shed by a call of this flow; refuses (the call has failed) and false where it may not. */
struct core_call;
bool core_shed_read(
	struct core_turn *t, const struct core_call *call, const struct core_flow *flow, uint8_t *ret);
bool core_schema_is_narrow(struct base_jv schema);
/* The child has ended with this value: opens the gate. False: there is nothing to shed, the value goes to the parent as is. */
bool core_shed_ask(struct core_turn *t, const struct core_run *child, const struct core_open *parent,
	struct base_str value);
void core_shed_decided(struct core_turn *t, const struct core_gate *g, const struct core_fetched *f,
	struct base_str answer, struct base_str by, struct base_str reason);

/* --- wait.c: a run waits for a run --- */
struct core_call;
void core_run_wait(struct core_turn *t, const struct core_call *call);
/* The position of the run_ended that a call of run.wait with these arguments is answered from, 0: none. */
uint64_t core_wait_seq(const struct core *c, struct base_jv args);
/* The same of the first wait that is to be answered now. */
uint64_t core_answer_seq(const struct core *c);
/* Answers it. False: there is none. */
bool core_decide_answer(struct core_turn *t);
/* The run that a step waits for as its own, which ends with it; NULL: none. */
struct core_run *core_open_child(const struct core *c, const struct core_open *o);
/* open: it counts as open until core_wait_restored. */
void core_wait_add(struct core *c, struct core_open *o, uint64_t run, bool open);
void core_wait_drop(struct core *c, const struct core_open *o);
void core_wait_ended(struct core *c, uint64_t run); /* those that wait for it are answered next */
void core_wait_restored(struct core *c);
/* A7: a step waits in `waits` while the run is open, in `answers` when it has ended. */
void core_wait_check(const struct core *c);

/* --- lane.c --- */
enum { CORE_LANE_SEPARATOR = 0x1f };
/* Numbers whose bytes are in their order. */
void core_be(char *to, uint64_t v);
uint64_t core_from_be(const char *at);
struct base_str core_lane_name(struct base_arena *a, struct base_str flow, struct base_str key);
struct base_str core_lane_flow(const struct core_flow *f); /* NULL: of agents */
const struct core_control *core_flow_control(const struct core_flow *f);

/* --- apply_admit.c --- */
struct core_apply;
void core_admit_started(struct core_apply *a, struct core_run *r, const struct core_run_started *e);
/* Its concurrency key, or empty. */
struct base_str core_lane_key(const struct core_run *r);
void core_admit_admitted(struct core_apply *a, struct core_run *r);
void core_admit_ended(struct core *c, struct core_run *r);
/* The number of steps that run, or the state, has changed: does it still take a slot? */
void core_slot_update(struct core *c, struct core_run *r);
/* A flow's limits have changed. */
void core_admit_flow(struct core *c, const struct core_flow *f);
/* The timer that a tick answers first, of those that are due: what was under way goes before what has not begun. The
 * timers of delayed runs and of rates are popped in passing. */
bool core_admit_timer_due(struct core *c, int64_t now_ms, struct base_heap_item *ret);
bool core_admit_timer_live(const struct core *c, const struct base_heap_item *t);
struct core_lane *core_lane_find(
	const struct core *c, struct base_str flow, struct base_str key, struct base_arena *arena);
struct core_bucket *core_bucket_find(
	const struct core *c, struct base_str flow, struct base_str key, struct base_arena *arena);
int64_t core_lane_limit(const struct core_lane *l); /* INT64_MAX: none */
enum core_lane_policy core_lane_policy_of(const struct core_lane *l);
int64_t core_bucket_slot(const struct core_bucket *b, int64_t now_ms);		  /* ms, 0: now */
struct core_run *core_lane_head(const struct core *c, const struct core_lane *l); /* waits, next */
/* One that waits and is not `except`, or NULL. */
struct core_run *core_lane_waiting(
	const struct core *c, const struct core_lane *l, const struct core_run *except);
struct core_run *core_lane_after(const struct core *c, const struct core_run *r); /* the next that waits */
struct core_run *core_lane_last(const struct core *c, const struct core_lane *l); /* waits, started last */
/* The run that was admitted to the lane longest ago, or the next after the one admitted at after_seq. */
struct core_run *core_lane_oldest(const struct core *c, const struct core_lane *l, uint64_t after_seq);
/* k: its start key, if it goes with this run; or NULL. */
void core_ended_put(struct core *c, uint64_t run, uint64_t seq, struct core_key *k);
void core_ended_drop(struct core *c, uint64_t run);
void core_ended_save(const struct core *c, struct base_buf *b);
void core_ended_load(struct core *c, struct base_reader *rd);
void core_ticket_put(struct base_buf *b, const struct core_run_extra *x);
void core_ticket_get(struct core *c, struct base_reader *rd, struct core_run *r);
void core_admit_put(const struct core *c, struct base_buf *b);
void core_admit_get(struct core *c, struct base_reader *rd);
void core_admit_restored(struct core *c); /* after the runs: what is derived */
/* A1 to A6. */
void core_admit_check(const struct core *c);

/* Ends those that a run waits for. */
void core_end_children(struct core_turn *t, const struct core_run *r, struct base_str problem);
/* Ends one run; a step that waits for it is finished. `stop`: nothing is sent for it any more. */
void core_end_run(struct core_turn *t, const struct core_run *r, enum core_outcome outcome,
	struct base_str value, bool stop);
/* A step that is not recorded yet: form, schema, grants, policy, budget, limits. */
void core_decide_new_step(struct core_turn *t, struct core_run *r);
/* Ends a run and those that it waits for, children first; nothing is sent for them any more. */
void core_end_tree(
	struct core_turn *t, const struct core_run *r, enum core_outcome outcome, struct base_str problem);
/* The same as cancelled. */
void core_cancel(struct core_turn *t, const struct core_run *r, struct base_str problem);
/* The key that a start is known by: a dry run is not the real one, and a flow is not another. */
struct base_str core_start_key(
	struct base_arena *a, struct base_str by, struct base_str flow, bool dry, struct base_str key);

/* Internal actions: decides one and emits its step_called. */
struct core_call {
	struct core_run *run;
	uint32_t step;
	const struct core_action *action;
	struct base_jv args;
	struct base_str args_text;
	struct base_jv opts; /* NONE if there are none */
	struct base_str opts_text;
	struct base_hash args_hash;
	struct base_str customer;
	struct base_str rule;
	uint64_t policy; /* what rules were asked, and what they read: as in step_called */
	struct base_str judged;
	uint8_t brings; /* labels of its result, where it is finished at once */
};
void core_decide_internal(struct core_turn *t, const struct core_call *call);
/* step_called that is finished at once. */
void core_emit_called_done(struct core_turn *t, const struct core_call *call, struct base_str result);
void core_emit_called_failed(struct core_turn *t, const struct core_call *call, struct base_str problem);
void core_emit_called_waiting(
	struct core_turn *t, const struct core_call *call, int64_t due_ms, uint64_t gate);
/* A step that is open is finished. */
void core_emit_step_done(struct core_turn *t, uint64_t run, uint32_t step, struct base_str result,
	int64_t cost, struct base_str usage, uint8_t labels);
/* What the outside said in the problem brings the labels of the action. */
void core_emit_step_failed(
	struct core_turn *t, uint64_t run, uint32_t step, struct base_str problem, int64_t cost);
void core_emit_step_failed_with(struct core_turn *t, uint64_t run, uint32_t step, struct base_str problem,
	int64_t cost, uint8_t labels);
void core_emit_fact(struct core_turn *t, struct base_str key, struct base_str value, bool removed,
	uint64_t run, uint32_t step, struct base_str by, struct base_str source, uint8_t labels);
/* How many facts one memory.list gives. */
int64_t core_list_limit(struct base_jv args);
/* Releases an approved step: sends it, or holds it until a slot is free. */
void core_release(struct core_turn *t, struct core_run *r, uint32_t step);
/* When this connector may be called next: 0 now. */
int64_t core_slot(const struct core_connector *k, int64_t now_ms);
struct base_str core_effect_key(const struct core_run *r, uint32_t step, struct base_arena *arena);
/* What an open effect may be taken for now: one whose key the outside has forgotten is as good as `once`. */
enum core_class core_class_now(const struct core *c, const struct core_step *s, int64_t now_ms);
/* An effect whose time limit is over: failed if it did not happen, else by its class. */
void core_settle_overdue(struct core_turn *t, struct core_run *r, uint32_t step, struct base_str problem);
/* Opens the gate that asks about an effect in doubt. */
void core_emit_doubt(struct core_turn *t, struct core_run *r, uint32_t step, struct base_str evidence);
struct core_gate_open {
	uint64_t run;
	uint32_t step;
	const char *kind;
	struct base_str title, show, allows, rule, on_expiry;
	bool edit;
	int64_t cost, expires_ms;
	struct base_str terms, sources; /* JSON or empty */
	uint8_t labels;
	uint64_t policy; /* position of the policy_set whose rule opened it, 0: none */
};
uint64_t core_emit_gate(struct core_turn *t, const struct core_gate_open *g);

/* --- lock.c --- */

/* Until the vault is open: no time. */
#define CORE_NEVER_MS INT64_C(253402300799000)
struct core_action;
/* Does a call of it need a secret of the vault, as it is configured? provider: of models. */
bool core_needs_secret(const struct core *c, const struct core_action *action, struct base_str provider);
/* And must it wait for that? */
bool core_lock_holds(const struct core *c, const struct core_action *action, struct base_str provider);
/* The first that waits asks the operator. */
bool core_lock_asks(const struct core *c);
void core_emit_lock_gate(struct core_turn *t, uint64_t run, uint32_t step);
void core_decide_vault_state(struct core_turn *t);
void core_decide_canary(struct core_turn *t);
struct core_gate;
void core_lock_opened(struct core *c, const struct core_gate *g); /* a gate */
struct core_apply;
void core_apply_lock(struct core_apply *a, const struct core_vault_state *e);
void core_lock_put(const struct core *c, struct base_buf *b);
void core_lock_get(struct core *c, struct base_reader *r);
void core_lock_check(const struct core *c); /* L1 */

/* --- schedule.c, schedule_state.c --- */

/* What stands in schedule_fired.why when it waits for the run before it. */
#define CORE_SCHEDULE_QUEUED "queued"
/* The input of a run that a trigger starts, canonical, in the turn's arena: what the trigger declares (an object, or
 * nothing), with a member that says why: "schedule" or "event". */
struct base_str core_trigger_input(
	struct core_turn *t, struct base_jv declared, const char *member, struct base_str what);
/* 0, also without a schema; negative, with a text. input: JSON. */
int core_input_fits(const struct base_schema *schema, struct base_str input, struct base_err *err)
	__attribute__((warn_unused_result));
int core_schedules_new(struct core *c);
void core_schedules_free(struct core *c);
/* The rules that the engine brought and that differ from the log's: zone_set events. */
void core_emit_zones(struct core_turn *t);
/* Schedules in zones whose rules change, but those that are set or removed in this decision anyway: their next times. */
typedef bool (*core_named_fn)(void *userdata, struct base_str name);
void core_emit_rezoned(struct core_turn *t, core_named_fn touched, void *userdata);
/* The schedules of a flow as its spec has them; `check`: only says what would change. -1 with what is wrong. */
int core_deploy_schedules(struct core_turn *t, struct base_str flow, struct base_jv spec, bool check,
	void (*changed)(void *userdata, const char *what, struct base_str name), void *userdata,
	struct base_err *err) __attribute__((warn_unused_result));
void core_decide_schedule(struct core_turn *t, uint64_t id);
void core_decide_schedule_pause(struct core_turn *t);
/* After a restore: pauses those that were due in the lost time. */
void core_hold_schedules(struct core_turn *t);
bool core_schedule_timer_is_live(const struct core *c, uint64_t id, int64_t when);
/* A run that may be a schedule's has ended. */
void core_schedule_run_ended(struct core *c, uint64_t run, uint8_t outcome, uint64_t next);
void core_schedules_put(const struct core *c, struct base_buf *b);
void core_schedules_get(struct core *c, struct base_reader *r);
void core_schedules_check(const struct core *c);

/* --- publish.c --- */

struct core_publication {
	struct base_str topic, payload; /* checked, canonical */
	uint64_t run;			/* who publishes, 0: none */
	uint32_t step;
	struct base_str by, origin, key;
	uint8_t labels, depth;
};
/* Publishes: *ret is {"id","started":[run],"refused"?}. False, with a problem and HTTP's status: nothing was. */
bool core_publish(
	struct core_turn *t, const struct core_publication *p, struct base_str *ret, int *ret_status);
void core_decide_publish(struct core_turn *t);
void core_event_publish(struct core_turn *t, const struct core_call *call);
void core_event_wait(struct core_turn *t, const struct core_call *call);
/* "order.paid", "order.*", "*" */
bool core_topic_pattern_valid(struct base_str s);
void core_event_wait_add(struct core *c, const struct core_run *r, const struct core_open *o);
void core_event_wait_drop(struct core *c, const struct core_run *r, const struct core_open *o);
/* The position of a publication of which not all have heard, or 0. */
uint64_t core_delivery_seq(const struct core *c, uint64_t id);
void core_decide_delivery(struct core_turn *t, uint64_t id);
void core_deliveries_put(const struct core *c, const uint64_t *ids, size_t count, struct base_buf *b);
void core_deliveries_get(struct core *c, struct base_reader *r);
void core_events_check(const struct core *c);

/* --- apply --- */
struct core_apply {
	struct core *c;
	uint64_t seq;
	int64_t time_ms;
	core_act_fn fn;
	void *userdata;
};
void core_act(const struct core_apply *a, const struct core_act *act);
void core_apply_company(struct core_apply *a, unsigned type, const union core_event_any *e);
/* audit.c */
void core_decide_log_checkpoint(struct core_turn *t);
void core_decide_log_checkpoint_sent(struct core_turn *t);
void core_decide_seen(struct core_turn *t);
void core_apply_audit(struct core_apply *a, unsigned type, const union core_event_any *e);
void core_audit_put(const struct core *c, struct base_buf *b);
void core_audit_get(struct core *c, struct base_reader *r);
void core_check_audit(const struct core *c);
void core_apply_run(struct core_apply *a, unsigned type, const union core_event_any *e);
void core_apply_step(struct core_apply *a, unsigned type, const union core_event_any *e);
void core_apply_schedule(struct core_apply *a, unsigned type, const union core_event_any *e);
void core_apply_event(struct core_apply *a, unsigned type, const union core_event_any *e);
void core_apply_gate(struct core_apply *a, unsigned type, const union core_event_any *e);
void core_apply_voting(struct core_apply *a, unsigned type, const union core_event_any *e);
void core_apply_telling(struct core_apply *a, unsigned type, const union core_event_any *e);
void core_apply_rested(struct core_apply *a, const struct core_runs_rested *e);
void core_apply_memory(struct core_apply *a, unsigned type, const union core_event_any *e);
/* The gate that holds an open step goes with the step. */
void core_gate_close(struct core_apply *a, uint64_t gate);
/* restore.c */
void core_apply_restored(struct core_apply *a, int64_t lost_ms);
void core_apply_let_go(struct core_apply *a, struct core_run *r); /* a person resumed it */
void core_apply_doubtful(struct core_apply *a, const struct core_run *r, uint32_t step); /* a new step */
/* A step of r that waited until due_ms is done. */
void core_apply_woke(struct core_apply *a, struct core_run *r, const struct core_step *s,
	const struct core_action *action, int64_t due_ms);
/* versions.c */
void core_apply_crash(struct core_apply *a, const struct core_run_parked *e);
void core_apply_moved(struct core_apply *a, const struct core_run_moved *e);
void core_crashes_forget(struct core *c, uint64_t run);
/* Positions of the crashes that a quarantine shows. */
size_t core_want_crashes(const struct core *c, uint64_t run, struct core_want *ret, size_t max);
/* Steps that a run which ends does not wait for any more; `stop`: nor sends. */
void core_run_drop_steps(struct core_apply *a, struct core_run *r, bool stop);
/* Gates of steps that are gone go with them. */
void core_run_close_gates(struct core_apply *a, struct core_run *r);
/* A run that has ended: its gates go, and with its last open step the run itself. */
void core_run_retire(struct core_apply *a, struct core_run *r);
/* Hands a finished step's value to the flow. */
void core_finish_step(
	struct core_apply *a, struct core_run *r, uint32_t step, bool ok, const struct base_blob *value);

/* --- snapshot --- */
void core_put_patterns(struct base_buf *b, const struct core_patterns *p);
void core_get_patterns(struct core *c, struct base_reader *r, struct core_patterns *p);
/* Words, the runs of `ids` (ascending), their steps and what is open of them. */
void core_put_runs(const struct core *c, const uint64_t *ids, size_t count, struct base_buf *b);
/* After flows, versions and keys; a fault stands in the reader. */
void core_get_runs(struct core *c, struct base_reader *r);
