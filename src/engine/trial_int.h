#pragma once

#include "engine/engine_int.h"

/*
 * Trials: a version runs in a worker of its own against what a run recorded. Nothing is decided, nothing is written,
 * nothing leaves. Shared by trial.c, journal.c, rehearse.c and backtest.c.
 */

enum {
	TRIAL_ASKED_MAX = 200,	     /* calls without a record that are kept with their arguments */
	TRIAL_PREVIEW_MAX = 4096,    /* bytes of arguments that a report shows */
	TRIAL_STUCK_MAX = 10,	     /* trials of one report that hang or crash: the rest is not tried */
	TRIAL_REPORT_MAX = 12 << 20, /* bytes of a report's items */
};

/* A step as it was recorded. */
struct trial_step {
	struct base_str action;	    /* in the trial's arena */
	struct base_hash args_hash; /* of the canonical arguments */
	uint64_t seq;		    /* of the event that called it: it has the arguments */
	uint64_t seq_end;	    /* of the event that finished it, 0: open */
	uint64_t copy;		    /* of the step_taken that names both, where the owner knows it, else 0 */
	int64_t cost;		    /* nano-USD, of the event that finished it */
	int klass;
	bool refused;  /* it failed at once */
	bool taken;    /* by a fork: it answers whatever the arguments are now */
	bool used;     /* a call of the trial was answered by it */
	uint32_t same; /* the next with the same action and arguments + 1, 0: none */
};

/* A call that has no record at its place. */
struct trial_asked {
	uint32_t step;
	struct base_str action, args; /* args: a preview, or empty where it is too long */
	uint32_t found;		      /* record that answered it + 1, 0: none */
	int klass;
};

enum trial_outcome {
	TRIAL_SAME = 1, /* it reached the end of the record */
	TRIAL_DIVERGED, /* it asked for something else at a recorded step */
	TRIAL_ENDED,	/* it returned before the end of the record */
	TRIAL_STOPPED,	/* backtest: it waits for a call that has no record */
	TRIAL_FAILED,
	TRIAL_HUNG,
	TRIAL_CRASHED,
	TRIAL_UNREADABLE, /* the record cannot be read from the log */
	TRIAL_OUTCOMES
};

struct trial {
	/* What to try: set by the owner, who keeps `modules` until `done`. */
	uint64_t run;
	uint64_t seq_started;
	struct base_hash version;
	struct base_str modules;
	bool lenient;		/* backtest: a call may be answered by a record that stands elsewhere */
	struct base_str assume; /* backtest: answers calls without a record; empty: nothing does */
	/* Called once, not from within trial_begin; the owner frees the trial then. */
	void (*done)(struct engine *e, struct trial *t);
	void *owner;
	/* The record: positions from the owner; the rest is read from the log by trial_begin's machine. */
	struct trial_step *steps;
	uint32_t count;
	/* What came of it. */
	enum trial_outcome outcome;
	uint32_t called;	   /* steps that it asked for */
	uint32_t at;		   /* diverged: the step */
	bool ends;		   /* its function returned or threw */
	struct base_str value;	   /* ends: the result, or the problem */
	char why[200];		   /* what happened, for a person; may be empty */
	struct trial_asked *asked; /* calls beyond or beside the record */
	uint32_t asked_count, asked_all;
	uint32_t fresh;	  /* backtest: calls that no record answered */
	uint32_t matched; /* calls that were answered by the record at their own place */
	/* The machine's. */
	uint64_t id;
	struct trial *next;
	struct base_arena *arena;
	struct base_heap *ready; /* answers that may be given: in log order */
	struct base_names *index;
	uint32_t gathered;
	int64_t fed_seq, fed_ms;
	int64_t sent_ms;
	bool started, watched, waits; /* waits: for the worker */
};

/* A trial of `count` steps, whose positions the owner fills in. NULL: no memory. */
struct trial *trial_new(uint32_t count);
void trial_free(struct trial *t);
/* Queues it: trials go one after the other, so that each harms only itself. */
void trial_begin(struct engine *e, struct trial *t);
const char *trial_outcome_name(enum trial_outcome o);

/* journal.c: the record of one step, read from the log and checked: right run, right step. -EUCLEAN when the log says
 * something else. */
int trial_read_step(struct engine *e, struct trial *t, uint32_t i) __attribute__((warn_unused_result));
/* Appends {"action","args"?} of a recorded step. */
void trial_put_step(struct engine *e, struct base_jw *w, const char *key, const struct trial_step *s);
void trial_put_asked(struct base_jw *w, const char *key, const struct trial_asked *a);

/* The candidate of a report: a version from files that are not deployed, or one that is. */
struct candidate {
	struct base_hash version;
	struct base_buf modules;
	struct base_str flow; /* its name; points into spec */
	struct base_json *spec;
	void (*ready)(struct engine *e, void *owner, bool ok);
	void *owner;
	uint64_t req;
	char *path;
};
/* Builds the module graph of body's {"files","entry"} and has it inspected in the trials' worker. On a fault the
 * request is answered (422 with file and line) and ready is called with false. */
void candidate_inspect(struct engine *e, struct candidate *c, struct engine_req *q, struct base_jv body);
/* The modules of a deployed (or built-in) version. Negative errno. */
int candidate_deployed(struct engine *e, struct candidate *c, const struct base_hash *version)
	__attribute__((warn_unused_result));
void candidate_done(struct candidate *c);
