#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/str.h"

/* JSON (RFC 8259) over yyjson, which no other file includes. Strict: no comments, no trailing commas, no
 * duplicate keys, valid UTF-8, depth at most BASE_JSON_DEPTH_MAX. */
enum { BASE_JSON_DEPTH_MAX = 64 };

enum base_json_kind {
	BASE_JSON_NONE, /* no value: what a missing member gives; every accessor answers it with a zero */
	BASE_JSON_NULL,
	BASE_JSON_BOOL,
	BASE_JSON_INT,	/* fits int64_t */
	BASE_JSON_REAL, /* any other number */
	BASE_JSON_STR,
	BASE_JSON_ARR,
	BASE_JSON_OBJ,
};

struct base_json; /* a parsed document */
struct base_jv {  /* a value in it; valid as long as the document */
	const void *v;
};

/* -EINVAL with line, column and reason in err; -E2BIG for depth; -ENOMEM. The caller frees *ret. Copies
 * `text`. */
int base_json_parse(struct base_str text, struct base_json **ret, struct base_err *err)
	__attribute__((warn_unused_result));
void base_json_free(struct base_json *d);
struct base_jv base_json_root(const struct base_json *d);

enum base_json_kind base_jv_kind(struct base_jv v);
struct base_jv base_jv_get(struct base_jv obj, const char *key);
struct base_jv base_jv_get_str(struct base_jv obj, struct base_str key);
struct base_jv base_jv_at(struct base_jv arr, size_t i); /* O(i) */
size_t base_jv_len(struct base_jv v);			 /* elements or members */
struct base_str base_jv_str(struct base_jv v);		 /* empty unless a string; may hold NUL bytes */
int64_t base_jv_int(struct base_jv v, int64_t otherwise);
double base_jv_real(struct base_jv v, double otherwise); /* ints too */
bool base_jv_bool(struct base_jv v, bool otherwise);
/* Walk: *it starts zeroed. Arrays give an empty key. */
struct base_jv_iter {
	size_t i;
	const void *next;
};
bool base_jv_next(struct base_jv v, struct base_jv_iter *it, struct base_str *ret_key, struct base_jv *ret);
/* Appends the value as canonical JSON. */
void base_jv_write(struct base_jv v, struct base_buf *b);

/* Canonical form, RFC 8785: sorted keys (by UTF-16 units), shortest numbers, minimal escapes. Integers keep
 * every digit within int64 (where the RFC would round above 2^53, aios refuses: -ERANGE). */
int base_json_canon(struct base_str text, struct base_buf *ret, struct base_err *err)
	__attribute__((warn_unused_result));
/* 0 if `d`, parsed from `text`, is canonical already, byte for byte; else -EINVAL with what is not. Does not
 * allocate for documents under 4 KiB. */
int base_json_is_canon(const struct base_json *d, struct base_str text, struct base_err *err)
	__attribute__((warn_unused_result));

/* Writers: append to `b`, with escapes; commas are placed by the writer. Nesting at most BASE_JSON_DEPTH_MAX.
 */
struct base_jw {
	struct base_buf *b;
	uint64_t comma; /* bit per level: a comma is due */
	unsigned depth;
};
struct base_jw base_jw_of(struct base_buf *b);
void base_jw_obj(struct base_jw *w);
void base_jw_arr(struct base_jw *w);
void base_jw_end_obj(struct base_jw *w);
void base_jw_end_arr(struct base_jw *w);
void base_jw_key(struct base_jw *w, const char *key);
void base_jw_key_str(struct base_jw *w, struct base_str key);
void base_jw_str(struct base_jw *w, struct base_str s);
void base_jw_cstr(struct base_jw *w, const char *s);
void base_jw_int(struct base_jw *w, int64_t v);
void base_jw_uint(struct base_jw *w, uint64_t v);
void base_jw_real(struct base_jw *w, double v); /* shortest form; not finite: null */
void base_jw_bool(struct base_jw *w, bool v);
void base_jw_null(struct base_jw *w);
void base_jw_value(struct base_jw *w, struct base_jv v);   /* a parsed value, as canonical JSON */
void base_jw_raw(struct base_jw *w, struct base_str json); /* text that is JSON already; empty: null */
/* "key": value in one call. */
void base_jw_mstr(struct base_jw *w, const char *key, struct base_str s);
void base_jw_mcstr(struct base_jw *w, const char *key, const char *s);
void base_jw_mint(struct base_jw *w, const char *key, int64_t v);
void base_jw_mbool(struct base_jw *w, const char *key, bool v);
void base_jw_mraw(struct base_jw *w, const char *key, struct base_str json);
void base_jw_mhash(struct base_jw *w, const char *key, const struct base_hash *h);

/* Appends s as a JSON string with its quotes. */
void base_json_quote(struct base_buf *b, struct base_str s);
