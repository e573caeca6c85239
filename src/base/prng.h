#pragma once

#include <stdint.h>

/* xoshiro256**: for choices that replay must repeat, never for secrets. */
struct base_prng {
	uint64_t s[4];
};
struct base_prng base_prng_of(const uint8_t seed[32]);
struct base_prng base_prng_of_u64(uint64_t seed);
uint64_t base_prng_next(struct base_prng *p);
uint64_t base_prng_below(struct base_prng *p, uint64_t n); /* uniform in [0, n); n > 0 */
