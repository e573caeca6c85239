#pragma once

#include <stdint.h>

#include "base/str.h"

/*
 * How a canary secret is recognised by a process that does not know it: fingerprints of all pieces of CANARY_WINDOW
 * bytes of it and of its disguises. Sealed as (base/codec.h): str key (16 bytes, of SipHash), u64 base; then per canary
 * str name, u64 number of pieces, and per piece u64 rolling, u64 SipHash.
 */
enum { CANARY_WINDOW = 16 };

/* The rolling fingerprint of the first CANARY_WINDOW bytes at p: sum of (p[i] + 1) * base^(15 - i). */
static inline uint64_t canary_roll(const unsigned char *p, uint64_t base)
{
	uint64_t h = 0;

	for (int i = 0; i < CANARY_WINDOW; i++)
		h = h * base + p[i] + 1;
	return h;
}

/* base^16, for canary_next. */
static inline uint64_t canary_power(uint64_t base)
{
	uint64_t p = base;

	for (int i = 0; i < 4; i++)
		p *= p;
	return p;
}

/* From the window that begins at p to the one that begins at p + 1. */
static inline uint64_t canary_next(uint64_t h, const unsigned char *p, uint64_t base, uint64_t power)
{
	return h * base + p[CANARY_WINDOW] + 1 - (p[0] + (uint64_t)1) * power;
}
