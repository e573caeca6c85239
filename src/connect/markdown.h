#pragma once

#include "base/buf.h"
#include "base/str.h"

/*
 * A small, safe rendering of Markdown for mail: headings, paragraphs, lists, quotes, code, rules, emphasis,
 * links, images. Raw HTML is shown, never passed on; links go to http, https and mailto alone. Any input
 * renders; time is linear in its length (searches look ahead a bounded distance, nesting is bounded).
 */

/* Appends HTML (the body's contents, no document around it). */
void markdown_html(struct base_str md, struct base_buf *ret);
/* Appends plain text: markers dropped, links as "text (address)". Lines end in LF. */
void markdown_text(struct base_str md, struct base_buf *ret);
/* Appends `s` with &, <, > and quotes escaped. */
void markdown_escape(struct base_str s, struct base_buf *ret);
