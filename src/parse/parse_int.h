#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "parse/parse.h"

/* Refuses what is over PARSE_INPUT_MAX or not UTF-8, with its place. */
int parse_check_text(struct base_str in, struct parse_fault *fault) __attribute__((warn_unused_result));

/* Line and column (from 1, in characters) of byte `at` of `in`. */
void parse_place(struct base_str in, size_t at, uint32_t *ret_line, uint32_t *ret_column);

/* Called for each key of the outermost map, with its place. A negative return refuses the document; the
 * callee has filled the fault. */
typedef int (*parse_key_fn)(
	void *userdata, struct base_str key, size_t line, size_t column, struct parse_fault *fault);

/* parse_yaml; lines are counted from first_line; on_key may be NULL. */
int parse_yaml_keys(struct base_str in, size_t first_line, parse_key_fn on_key, void *userdata,
	struct base_buf *ret, struct parse_fault *fault) __attribute__((warn_unused_result));

/* A scalar of the YAML core schema as JSON. plain: not quoted. Returns NULL, or why it is refused. */
const char *parse_yaml_scalar(struct base_str s, bool plain, struct base_buf *ret);

/* Appends HTML as text: tags dropped (blocks become blanks), scripts and styles dropped, entities resolved,
 * blanks joined, no blanks at the ends. At most PARSE_TEXT_MAX bytes, whole characters. */
void parse_html_text(struct base_str html, struct base_buf *ret);

/* Appends plain text with blanks joined, with the same limit. */
void parse_plain_text(struct base_str text, struct base_buf *ret);

/* RFC 3339 / ISO 8601 (date, or date and time) or RFC 822 ("Tue, 03 Jun 2025 09:39:21 +0200") to milliseconds
 * since 1970 UTC. False if it is neither. */
bool parse_date(struct base_str s, int64_t *ret_ms);

/* An XML document as UTF-8 without a byte order mark: UTF-8, UTF-16 (with a mark or evident), ISO-8859-1,
 * Windows-1252 and ASCII by its declaration; anything else is refused. Appends to `ret`. */
int parse_xml_decode(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
	__attribute__((warn_unused_result));

/* Appends the code point as UTF-8; U+FFFD for what is none. */
void parse_put_char(struct base_buf *b, uint32_t c);
