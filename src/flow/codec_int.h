#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "flow/codec.h"

/* Shared by codec_put.c and codec_get.c: keys that were met before. Direct-mapped, so never large. */
enum {
	CODEC_KEY_MAX = 40, /* longer keys are not remembered */
	CODEC_SLOTS = 1024,
};

struct codec_key {
	JSAtom atom; /* JS_ATOM_NULL: empty; a reference is held */
	bool plain;  /* needs no escape in JSON */
	uint8_t len;
	char text[CODEC_KEY_MAX];
};

struct flow_codec {
	JSRuntime *rt;
	JSAtom to_json;
	JSClassID object, array, map, set, boxed[4]; /* as the interpreter numbers them */
	struct codec_key by_atom[CODEC_SLOTS];
	struct codec_key by_text[CODEC_SLOTS];
};
