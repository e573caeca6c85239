#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One seed, from the empty disk to the end of its liveness phase. One simulation a process: what the engine leaves
 * behind when it dies is freed with the process. */

enum sim_verdict {
	SIM_OK = 0,
	SIM_CRASH = 3,	  /* the simulated aiosd broke one of its own assertions, or did not start */
	SIM_SAFETY = 4,	  /* an invariant is broken */
	SIM_LIVENESS = 5, /* all is healed and something does not come to its end */
};

enum { SIM_TEXT_MAX = 512 };

struct sim_options {
	uint64_t seed;
	const char *plan;  /* a plan as text instead of the one that the seed draws, or NULL */
	unsigned commands; /* at least so many are decided */
	bool verbose;	   /* tell on stderr what happens */
};

struct sim_result {
	enum sim_verdict verdict;
	char invariant[32];	 /* its short name: "ack.lost", … */
	char what[SIM_TEXT_MAX]; /* for a person */
	uint64_t trace;		 /* hash of everything that happened */
	uint64_t commands, crashes, events, runs, effects;
	int64_t ms; /* simulated */
	size_t plan_len;
	char plan[]; /* what was done, as text */
};
enum { SIM_PLAN_MAX = 512 << 10, SIM_RESULT_SIZE = sizeof(struct sim_result) + SIM_PLAN_MAX };

/* Fills *ret (SIM_RESULT_SIZE bytes). Does not return when a violation is found: *ret is filled and the process exits
 * with its verdict. */
void sim_run(const struct sim_options *opt, struct sim_result *ret);

/* What seeds have in common, made before the processes part. */
void sim_prepare(void);
