#pragma once

#include <stdbool.h>

/* The allocator of this program: the real one, whose n-th call from now on fails. */
void allocator_fail(long nth, bool for_ever); /* 0: no more; it is still known whether one has */
bool allocator_failed(void);		      /* it has */
long allocator_live(void);		      /* pieces that are held now */
