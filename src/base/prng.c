#include "base/prng.h"

#include "base/check.h"

static uint64_t rotl(uint64_t v, unsigned n)
{
	return v << n | v >> (64 - n);
}

static uint64_t splitmix(uint64_t *at)
{
	uint64_t z = *at += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

struct base_prng base_prng_of(const uint8_t seed[32])
{
	struct base_prng p = {{0}};
	unsigned i;

	for (i = 0; i < 32; i++)
		p.s[i / 8] |= (uint64_t)seed[i] << (i % 8 * 8);
	/* The generator never leaves the state of zeros. */
	if ((p.s[0] | p.s[1] | p.s[2] | p.s[3]) == 0)
		return base_prng_of_u64(0);
	return p;
}

struct base_prng base_prng_of_u64(uint64_t seed)
{
	struct base_prng p;
	unsigned i;

	for (i = 0; i < 4; i++)
		p.s[i] = splitmix(&seed);
	return p;
}

uint64_t base_prng_next(struct base_prng *p)
{
	uint64_t *s = p->s, ret = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return ret;
}

uint64_t base_prng_below(struct base_prng *p, uint64_t n)
{
	uint64_t skew, v;

	BASE_CHECK(n > 0);
	/* 2^64 mod n: what would make the small remainders likelier is drawn again. */
	skew = (0 - n) % n;
	do
		v = base_prng_next(p);
	while (v < skew);
	return v % n;
}
