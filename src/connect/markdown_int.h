#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"

enum { MARKDOWN_DEPTH_MAX = 8 };

/* Renders the inside of a paragraph (markdown_inline.c). */
void markdown_inline(struct base_str s, bool html, unsigned depth, struct base_buf *out);
