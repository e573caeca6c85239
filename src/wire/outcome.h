#pragma once

/* How an attempt at an effect ended, as aios-connect knows it. */
enum wire_outcome {
	WIRE_DONE = 1,	    /* happened; value is the result */
	WIRE_FAILED = 2,    /* certainly did not happen, and trying again would not help */
	WIRE_RETRY = 3,	    /* certainly did not happen; may be tried again */
	WIRE_UNKNOWN = 4,   /* may have happened: no answer */
	WIRE_NOT_FOUND = 5, /* lookup: the outside does not know the key */
};

/* The fd on which every process finds its socket to aiosd. */
enum { WIRE_FD = 3 };
