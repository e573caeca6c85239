#pragma once

#include <stdint.h>

/* The tables of unicode.c, which tools/gen_unicode.py writes. */

/* Code points first, first + step … last become others, `distance` away. */
struct base_unicode_shift {
	uint32_t first, last;
	int32_t distance;
	uint32_t step;
};

/* Where a run of one category starts, ascending: code point << 5 | category. */
extern const uint32_t base_unicode_runs[];
extern const unsigned base_unicode_runs_count;
extern const struct base_unicode_shift base_unicode_to_upper[], base_unicode_to_lower[];
extern const unsigned base_unicode_to_upper_count, base_unicode_to_lower_count;
