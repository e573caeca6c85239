#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* Shared by json*.c. */

enum { JSON_REAL_MAX = 32 };

/* Writes a finite number as ECMAScript does (RFC 8785 section 3.2.2.3); returns its length. Not terminated.
 */
size_t json_real_text(double v, char ret[JSON_REAL_MAX]);
/* The decimal form of v; returns its length, at most 20. Not terminated. */
size_t json_int_text(int64_t v, char ret[20]);
/* How many bytes at the start of s stand in a JSON string as they are (no control, quote or backslash). */
size_t json_plain(struct base_str s);
/* The escape of a control character, quote or backslash; returns its length (2 or 6). */
size_t json_escape(char c, char ret[6]);
/* The order of keys in canonical form: by UTF-16 code units. Both are valid UTF-8. */
int json_key_cmp(struct base_str a, struct base_str b);
