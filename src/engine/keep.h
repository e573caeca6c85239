#pragma once

#include "engine/engine_int.h"

/* What keep.c, disk.c, anchor.c and api_keep.c share. */

/* Something long on a thread of its own; `done` is called on the loop when it has ended. */
struct engine_job {
	pthread_t thread;
	struct engine_source source;
	int efd;
	bool running;
	void (*work)(void *owner);
	void (*done)(struct engine *e, void *owner);
	void *owner;
};
int engine_job_start(struct engine *e, struct engine_job *j) __attribute__((warn_unused_result));
void engine_job_settle(struct engine *e, struct engine_job *j); /* waits for it, and calls done */

/* How much of the disk the workspace takes, and what that means (disk.c). */
struct engine_disk {
	int64_t used, quota, reserve, room; /* bytes; room: free on the disk */
	bool warned, over;		    /* beyond 80 % of the quota; beyond all of it */
	bool spent;			    /* the reserve file is gone: the disk was full */
};
void engine_disk_check(struct engine *e, struct engine_disk *d);

struct engine_archiving; /* keep.c */
struct engine_backup;	 /* api_keep.c */
struct engine_search;
struct engine_export; /* audit_export.c */

struct engine_keep {
	struct engine_disk disk;
	struct engine_archiving *archiving;
	struct engine_backup *backup;
	struct engine_search *search;
	struct engine_export *export;
	bool armed;
	int64_t archive_at, retire_at; /* monotonic: not before */
	/* retention: the flow that is looked at, the run before which */
	size_t flow;
	uint64_t before;
	int64_t grown;	   /* bytes since the disk was looked at */
	uint64_t anchored; /* position in the anchor (anchor.c) */
	bool anchor_armed;
	char *anchor; /* its file; NULL: none */
};

/* A setting of aios.yaml's `log` in bytes or ms; negative: "never". */
int64_t engine_keep_size(const struct engine *e, const char *name, int64_t otherwise);
int64_t engine_keep_time(const struct engine *e, const char *name, int64_t otherwise);
/* Archives what is older than before_ms: starts it; q (may be NULL) is answered at the end. False: it runs already. */
bool engine_archive_start(struct engine *e, int64_t before_ms, struct engine_req *q);
void engine_archive_settle(struct engine *e);
void engine_backup_settle(struct engine *e);
void engine_search_settle(struct engine *e);
void engine_export_settle(struct engine *e);
/* The members of a checkpoint as it stands in exports and in the files and messages that are sent (checkpoint.c). */
void engine_put_checkpoint(struct base_jw *w, const struct core_checkpoint_signed *k);
