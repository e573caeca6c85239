#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/* Money is int64 nano-USD everywhere: 1 USD = 1,000,000,000. */
enum { BASE_NUSD_DIGITS = 9 };
/* "0.50 USD", "20 USD", "0.000001 USD": at most 9 decimals, not negative. -EINVAL, -ERANGE. */
int base_money_parse(struct base_str s, int64_t *ret_nusd, struct base_err *err)
	__attribute__((warn_unused_result));
/* Appends "12.345 USD" (trailing zeros dropped, at least two decimals). */
void base_money_put(struct base_buf *b, int64_t nusd);
/* Appends a duration for people: "7 ms", "1.5 s", "2 min 3 s", "1 h 0 min", "3 d 4 h". A negative one is 0. */
void base_duration_put(struct base_buf *b, int64_t ms);
/* "90s", "15m", "12h", "2d", "500ms", "1w" to milliseconds. -EINVAL, -ERANGE. */
int base_duration_parse(struct base_str s, int64_t *ret_ms, struct base_err *err)
	__attribute__((warn_unused_result));
