#pragma once

#include <qjs/quickjs.h>

#include "base/buf.h"
#include "base/str.h"

/*
 * JSON between frames and the interpreter, over its public API: the interpreter's own costs several times as
 * much a step (no canonical order, and a string in between).
 */
struct flow_codec;

enum {
	FLOW_JSON_DEPTH_MAX = 64,
	FLOW_JSON_MAX = 16 << 20, /* bytes of one value */
};

/* -ENOMEM. Freed before the runtime. */
int flow_codec_new(JSRuntime *rt, struct flow_codec **ret) __attribute__((warn_unused_result));
void flow_codec_free(struct flow_codec *c);

/*
 * Appends v as canonical JSON (RFC 8785). As JSON.stringify does, members that are undefined are dropped,
 * undefined elements are null, toJSON is called and getters are read. What JSON cannot carry (functions,
 * symbols, BigInt, NaN, Map, Set, a cycle, lone surrogates, integers beyond 2^53) is a TypeError that names
 * its path, which begins with `what`. v itself undefined: null. 0, or -1 with an exception pending (what was
 * appended then is of no use).
 */
int flow_codec_put(struct flow_codec *c, JSContext *ctx, JSValueConst v, const char *what, struct base_buf *b)
	__attribute__((warn_unused_result));

/* The value of a JSON text; empty text is null. JS_EXCEPTION with a SyntaxError pending if it is not JSON. */
JSValue flow_codec_get(struct flow_codec *c, JSContext *ctx, struct base_str text);
