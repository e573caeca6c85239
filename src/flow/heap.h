#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <qjs/quickjs.h>

/*
 * The interpreter's memory, with an account per run: every block knows whose it is, so a run that takes too
 * much is told "no" while its neighbours go on. Blocks keep their owner until they are freed, which the
 * garbage collector may do long after the run has ended; an account lives as long as its last block.
 */
struct flow_account {
	size_t bytes;
	size_t limit;
	bool exhausted; /* a request was refused because of the limit */
	bool closed;
};

struct flow_heap {
	struct flow_account *cur; /* who pays for what is allocated now; never NULL */
	struct flow_account common;
	size_t total;
	size_t total_max;
};

void flow_heap_init(struct flow_heap *h, size_t total_max);
/* NULL when memory is out. */
struct flow_account *flow_account_new(size_t limit);
/* The owner is gone: freed now or with its last block. NULL is fine. */
void flow_account_close(struct flow_account *a);
/* The functions for JS_NewRuntime2, whose opaque is the heap. */
const JSMallocFunctions *flow_heap_functions(void);
