#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* What code points are, and their other case. Tables of the code: no locale, the same everywhere. */

/* The general category, a number below 32: its bit is in what base_unicode_categories gives. */
unsigned base_unicode_category(uint32_t c);
/* The bits of the categories that `name` means: "Lu", or "L" for all of that letter. False: there is no such. */
bool base_unicode_categories(struct base_str name, uint32_t *ret);
/* The upper and the lower case of c where that is a single code point; else c. */
uint32_t base_unicode_upper(uint32_t c);
uint32_t base_unicode_lower(uint32_t c);
/* The same for all that differ by case alone. */
uint32_t base_unicode_fold(uint32_t c);
