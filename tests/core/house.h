#pragma once

#include "core/core.h"

/* The smallest engine: decides, applies at once, remembers every event and every act. */
enum { HOUSE_ACTS_MAX = 4096 };

struct house_act {
	enum core_act_type type;
	uint64_t run, id, seq;
	uint32_t step, attempt;
	bool ok;
	unsigned mode, outcome;
	char action[64];
	char key[128];
	char text[4096]; /* the blob, if it was at hand */
};

struct house {
	struct core *core;
	struct base_arena *arena;
	struct base_buf log; /* every event, length-prefixed, in order */
	size_t *at;	     /* where event seq starts in log: at[seq] */
	size_t at_cap;
	int64_t now_ms;
	struct core_reply reply;
	char reply_text[8192];
	struct house_act acts[HOUSE_ACTS_MAX];
	size_t act_count;
	uint64_t entropy;
	bool unchecked; /* the state is not walked after each command: for very many */
};

/* For cmocka: a house in *state with this deployed; at the end house_check. */
int house_set_up(void **state, const char *deployment);
int house_tear_down(void **state);
/* Fills in time and entropy, prefetches, decides, applies. The acts of this command replace those of the
 * last. */
void house_do(struct house *h, struct core_cmd cmd);
/* The nth act of a type, or NULL. */
const struct house_act *house_act(const struct house *h, enum core_act_type type, size_t nth);
/* Ticks until nothing is due. */
void house_tick(struct house *h);
/* Folds the log from zero into a fresh core and checks that it equals the live one; the same by snapshot. */
void house_check(struct house *h);
/* Shortcuts. */
void house_deploy(struct house *h, const char *json);
uint64_t house_start(struct house *h, const char *flow, const char *input);
void house_call(
	struct house *h, uint64_t run, uint32_t step, const char *action, const char *args, const char *opts);
void house_result(
	struct house *h, uint64_t run, uint32_t step, uint32_t attempt, unsigned outcome, const char *value);
void house_gate(struct house *h, uint64_t gate, const char *answer, const char *value);
