#pragma once

/* Undo: what of a run can be taken back, and the runs that take it back (flow "aios:undo"). */

#include "core/core_int.h"

enum { CORE_CHECKPOINTS_MAX = 1000, CORE_UNDO_SHOWN_MAX = 100 };

/* `to` and `step` of a rollback that a person asked for. */
#define CORE_STEP_NONE UINT32_MAX

enum core_rollback_then { CORE_THEN_GOES_ON = 0, CORE_THEN_ENDS = 1, CORE_THEN_RESTARTS = 2 };

enum core_undoable_state {
	CORE_UNDO_OPEN =
		1,	 /* its step is not finished: nobody can say yet whether there is anything to undo */
	CORE_UNDO_READY, /* it happened */
	CORE_UNDO_RUNNING, /* a step of an undo run is at it */
};

/* A step with an undo beside it. It stands in the list of one run: its own; after that one's end its
 * parent's; during a rollback that of the undo run. */
struct core_undoable {
	uint64_t seq;	  /* of step_called: the order of start */
	uint64_t seq_end; /* of the event that finished it, 0: OPEN */
	uint64_t run;
	uint32_t step, action; /* action: index into names of actions */
	uint8_t state;
	uint64_t by_run; /* RUNNING: the undo run, whose step by_step it is */
	uint32_t by_step;
	struct base_str customer; /* where the call named one */
};

struct core_checkpoint {
	struct base_str name;
	uint64_t seq; /* of its step_called */
	uint32_t step;
};

/* What became of one undo, for the answer to who asked for the rollback. */
struct core_undone {
	uint64_t run;
	uint32_t step, action, undo_step;
	uint8_t outcome; /* CORE_DONE, CORE_CANCELLED: given up */
};

/* What an undo run is at. */
struct core_rollback {
	uint64_t target;  /* whose steps they are */
	uint32_t step;	  /* of the target that waits for it, CORE_STEP_NONE: a person asked */
	uint32_t to;	  /* first step that is undone */
	uint8_t then;	  /* enum core_rollback_then */
	uint64_t current; /* position of the step whose undo is under way, 0: none */
	int64_t due_ms;	  /* the next undo may be asked for; 0: something must happen first */
	struct base_str name, by, reason;
	struct core_undone *done;
	uint32_t done_count, done_cap;
};

/* Only runs that have something of this have one: core.undos, by run. */
struct core_undo {
	uint64_t run;
	struct core_undoable *item; /* by position, oldest first */
	uint32_t count, cap;
	uint32_t unsettled;		    /* items that are not READY */
	struct core_checkpoint *checkpoint; /* by position */
	uint32_t checkpoints, checkpoint_cap;
	uint64_t rollback;	    /* the undo run that is at work for this run, 0: none */
	struct core_rollback *work; /* of an undo run, else NULL */
};

/* --- undo_call.c, rollback.c, undo.c: decisions --- */

/* An undo as it is asked for. */
struct core_undo_call {
	struct base_str action, args, opts;
	struct base_str problem; /* not empty: it cannot be asked for */
};
/* `result`: of the step; empty when it cannot be read. */
struct core_undo_call core_undo_call_of(
	struct core_turn *t, const struct core_undoable *i, struct base_jv undo, struct base_str result);
/* The members run, step and action. */
void core_undo_put_item(
	const struct core *c, struct base_jw *w, uint64_t run, uint32_t step, uint32_t action);

/* NULL: none. */
struct core_undo *core_undo_find(const struct core *c, uint64_t run);
/* The item of a list that began at seq, or NULL. */
struct core_undoable *core_undo_item(const struct core_undo *u, uint64_t seq);
/* The list that holds an item which is not settled, or NULL. */
struct core_undo *core_undo_owner(const struct core *c, uint64_t seq);
bool core_run_is_undo(const struct core_run *r);
/* Reads opts.undo of a call. 0 and false: there is none. -EINVAL with a text. */
int core_undo_read(const struct core *c, struct base_jv opts, bool *ret_has, struct base_err *err)
	__attribute__((warn_unused_result));
void core_decide_checkpoint(struct core_turn *t, const struct core_call *call);
void core_decide_rollback_call(struct core_turn *t, const struct core_call *call);
/* CORE_CMD_RUN_ROLLBACK, and CORE_CMD_RUN_CANCEL with {"undo":true}. */
void core_decide_rollback(struct core_turn *t);
/* The due time of an undo run: asks for the next undo, or ends it. */
void core_undo_tick(struct core_turn *t, struct core_run *u);
/* A step of a run has ended; if that is an undo run, what it undid is settled with it. */
void core_undo_settle(struct core_turn *t, uint64_t run, uint32_t step, bool ok, struct base_str problem);
/* Ends an undo run, and the run that it was to end. */
void core_undo_end(
	struct core_turn *t, const struct core_run *u, enum core_outcome outcome, struct base_str problem);
/* The gate of an undo that failed was answered. */
void core_undo_answer(
	struct core_turn *t, const struct core_run *u, struct base_str answer, struct base_str by);
/* Who will have what a run that ends now leaves to be undone, or NULL. */
struct core_run *core_undo_heir(const struct core *c, const struct core_run *r);
/* Names what core_undo_tick reads. */
size_t core_undo_wants(const struct core *c, const struct core_run *u, uint64_t ret[3]);

/* --- apply_undo.c --- */

void core_undo_called(
	struct core_apply *a, struct core_run *r, uint32_t step, const struct core_step_called *e);
/* A step is finished: must stand before core_finish_step. */
void core_undo_step_end(struct core_apply *a, const struct core_step *s, bool ok);
/* Is this open step one that a rollback waits for when it may have happened? */
bool core_undo_counts(const struct core *c, const struct core_run *r, const struct core_step *s);
/* run.checkpoint is done: `args` name it. */
void core_undo_checkpoint(struct core_apply *a, struct core_run *r, uint32_t step, struct base_str args);
/* r goes on where the rollback of `from` ended: what is before belongs to it now. Of another fork: nothing. */
void core_undo_inherit(struct core_apply *a, const struct core_run *r, uint64_t from);
void core_undo_ended(struct core_apply *a, struct core_run *r);
void core_undo_wake(struct core_apply *a, const struct core_run *r);
void core_undo_sleep(struct core_apply *a, const struct core_run *r);
void core_undo_forget(struct core *c, uint64_t run);
void core_apply_undo(struct core_apply *a, unsigned type, const union core_event_any *e);
void core_undo_check(const struct core *c);

/* --- snapshot_undo.c --- */
void core_undo_put(struct base_buf *b, const struct core_undo *u);
void core_undo_get(struct core *c, struct base_reader *r);
