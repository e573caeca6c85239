#pragma once

#include "engine/keep.h"

/* What checkpoint.c and audit_verify.c share: signed checkpoints of the log, and the places that get them. */

enum { ENGINE_PLACES_MAX = 16 };
enum engine_place_state { PLACE_IDLE, PLACE_FILE, PLACE_SECRET, PLACE_SENT };
struct engine_place {
	char name[72];
	enum engine_place_state state;
	uint64_t seq;	    /* of the checkpoint that is under way, or was tried last */
	uint64_t call;	    /* of the attempt */
	int64_t since;	    /* of the attempt, monotonic */
	int64_t not_before; /* the next one, monotonic */
	unsigned tries;
	struct base_buf line;
	char key[128];
	/* a file */
	struct engine_job job;
	char path[1100], file[80];
	int rc;
};
struct engine_checks {
	struct engine_place place[ENGINE_PLACES_MAX];
	bool asking;		/* the vault is signing: */
	uint64_t seq;		/* up to here, */
	struct base_hash chain; /* with this chain, */
	int64_t at_ms;		/* at this time */
	uint64_t req;		/* who asked for it, 0: nobody */
	char why[256];		/* why none could be made, or empty */
};

struct engine_checks *engine_checks(struct engine *e); /* of this engine; made at the first call */
/* What is signed. */
void engine_checkpoint_text(
	struct base_buf *b, struct base_str log, uint64_t seq, const struct base_hash *chain, int64_t at_ms);
/* Whether this is the signature of a checkpoint's text by this key. */
bool engine_checkpoint_holds(struct base_str text, struct base_str key, struct base_str signature);
/* Answers with the newest. */
void engine_checkpoint_reply(struct engine *e, struct engine_req *q);
