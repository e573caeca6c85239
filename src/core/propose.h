#pragma once

/* What people decided at policy's gates, and the rules that were proposed from it: shared by propose*.c. */

#include "core/core_int.h"

enum {
	CORE_PRECEDENTS_MAX = 256, /* decisions that are remembered, of all actions */
	CORE_PRECEDENTS_READ = 64, /* of one action that a proposal is measured with */
	CORE_PROPOSALS_MAX = 256,  /* that nobody has looked at */
};

/* A person's answer at a gate that a rule opened. */
struct core_precedent {
	uint64_t gate, seq; /* of gate_opened, which holds the action and its arguments */
	struct base_str action, as;
	bool yes;
};

struct core_proposal {
	uint64_t gate, seq; /* of rule_proposed */
	uint64_t hash;	    /* of the rule: the same again takes its place */
};

/* Both in the order in which they came, the oldest first. */
struct core_proposals {
	struct core_precedent precedent[CORE_PRECEDENTS_MAX];
	struct core_proposal proposal[CORE_PROPOSALS_MAX];
	uint32_t precedents, proposals;
};

/* Those of this action and principal, the newest first: at most max. */
size_t core_precedents_of(const struct core *c, struct base_str action, struct base_str as,
	const struct core_precedent **ret, size_t max);
