#pragma once

#include "base/buf.h"
#include "base/str.h"

/*
 * The forms in which a text may stand inside of another: itself, escaped for JSON, percent-encoded, in hex, in base64
 * (of both alphabets, at each of the three places where it may begin in what is encoded: without the digits that depend
 * on its neighbours).
 */
enum base_disguise { BASE_PLAIN, BASE_JSON_ESCAPED, BASE_PERCENT, BASE_HEX, BASE_BASE64 };

/* Calls fn for each form that differs from those before it in kind; `form` lies in `scratch` (or is `s`), which is
 * overwritten by the next and must have room for six times s. Nothing is allocated if it has. */
void base_disguises(struct base_str s, struct base_buf *scratch,
	void (*fn)(void *userdata, enum base_disguise how, struct base_str form), void *userdata);
