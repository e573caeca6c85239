#pragma once

#include <stddef.h>

#include "base/str.h"

/* Doubles and decimal text, whatever the locale. */
enum { BASE_REAL_MAX = 32, BASE_REAL_DIGITS_MAX = 1000, BASE_REAL_PRINT_MAX = 1400 };

/* The double nearest to [+-]DIGITS[.DIGITS][e[+-]DIGITS] (digits on one side of the point suffice). -EINVAL for any other
 * text, -ERANGE for what is larger than the largest double. */
int base_real_parse(struct base_str s, double *ret) __attribute__((warn_unused_result));
/* The shortest text that reads back as v, as ECMAScript writes it; v is finite. Returns its length; not terminated. */
size_t base_real_text(double v, char ret[BASE_REAL_MAX]);
/* With `digits` (at most BASE_REAL_DIGITS_MAX) behind the point, halves to even; v is finite: 12.50 and 1.25e+01. Return
 * the length; not terminated. */
size_t base_real_fixed(double v, unsigned digits, char ret[BASE_REAL_PRINT_MAX]);
size_t base_real_scientific(double v, unsigned digits, char ret[BASE_REAL_PRINT_MAX]);
/* The shortest text without an exponent; v is finite. */
size_t base_real_plain(double v, char ret[BASE_REAL_PRINT_MAX]);
