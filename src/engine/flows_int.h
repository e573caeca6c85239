#pragma once

#include "engine/engine_int.h"

/*
 * Runs in flow workers. Shared by flows.c (who is in a worker, and who waits for it), load.c (how a run comes into one)
 * and worker.c (what a worker has not answered).
 */

enum {
	QUEUED = 1, /* struct engine_run.state; 0: neither */
	LATER = 2,  /* queued behind all others */
	LOADED = 3,
	LOAD_HIGH = 8 << 20, /* bytes waiting for a worker: it gets no further run */
};

struct engine_run {
	uint64_t run;
	struct engine_proc *worker; /* LOADED */
	struct base_hash version;
	int state;
	uint32_t unacked;
	unsigned suspect; /* how often in a row its worker was killed from outside while it ran */
	int64_t idle_since;
	struct engine_run *prev, *next; /* in the queue or the list of idle runs */
	struct engine_replay *replay;	/* of its journal, while it is under way */
	bool idle;
	bool unheard; /* a frame of it was passed over while aiosd stops */
};

/* A journal on its way to a worker. */
struct engine_replay {
	struct engine_replay *prev, *next;
	struct engine_run *run;
	struct core_journal_entry *entry;
	size_t count, size, at;
};

/* --- what a worker has not answered (worker.c) --- */

/* A frame about a run, which it answers, goes to worker p. */
void engine_worker_push(struct engine *e, struct engine_proc *p, uint64_t run);
/* It answered the oldest one about `run`. */
void engine_worker_ack(struct engine *e, struct engine_proc *p, uint64_t run);
/* It will answer none about `run` any more. */
void engine_worker_forget(struct engine *e, struct engine_proc *p, uint64_t run);
/* It is gone: another comes in its place. */
void engine_worker_reset(struct engine_worker *w);

/* --- what brings a run into a worker (load.c) --- */

/* What the worker has of a version, owned by it, or NULL. */
struct engine_loaded *engine_worker_version(struct engine_worker *w, const struct base_hash *version);
/* Sends version, start and journal of a run that is in no worker; LOADED from the start on. -ENOENT: it is not to be
 * loaded; -EPIPE: the worker is gone. */
int engine_run_load(struct engine *e, struct engine_proc *p, struct engine_run *r)
	__attribute__((warn_unused_result));
int engine_result_send(struct engine *e, struct engine_proc *p, struct engine_run *r, uint32_t step, bool ok,
	int64_t time_ms, struct base_str value) __attribute__((warn_unused_result));
/* Sends of a journal what the worker's connection takes; the rest follows when that has drained. */
int engine_replay_more(struct engine *e, struct engine_run *r) __attribute__((warn_unused_result));
/* A result that comes while the journal is still on its way follows it, or goes when the connection has drained. -ENOMEM. */
int engine_result_later(struct engine *e, struct engine_run *r, uint64_t seq, uint32_t step)
	__attribute__((warn_unused_result));
/* The journal is sent, or its run leaves the worker. */
void engine_replay_end(struct engine *e, struct engine_run *r);
