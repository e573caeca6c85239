#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* The events of a small company, one behind the other, to be cut into blocks at will. */
struct company {
	struct base_buf events; /* a block of all of them */
	size_t *starts;		/* where each begins; starts[count] is the end */
	size_t count, size;
	int64_t now;
};

void company_init(struct company *c);
void company_done(struct company *c);

/* Call after each emit into c->events: remembers where the event ended. */
void company_mark(struct company *c);
/* The block of events [from, to), numbered from 1. */
struct base_str company_block(const struct company *c, uint64_t from, uint64_t to);

/* A deployed flow; run 1 of it with a model call, a gate, two sends (one denied), a retry, an effect in
 * doubt, a child, facts, a document, an experiment with outcomes; run 2 parked. The tests know its figures.
 */
void company_newsletter(struct company *c);
/* More of everything, from a seed. */
void company_bulk(struct company *c, uint64_t seed, unsigned runs);
