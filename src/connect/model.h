#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

/*
 * Model APIs behind one shape. A request:
 * {"model"/"tier","system","messages","max_tokens","tools","temperature"} (the schema stands in
 * core/actions.json). A reply: {"text","tool_calls":[{"id","name","args"}],"stop","model","usage"}.
 */

enum { MODEL_TOOLS_MAX = 64, MODEL_TEXT_MAX = 8 << 20 };

struct model_usage {
	int64_t input, output, cache_read, cache_write; /* tokens; input is without what came from a cache */
	int64_t cost_nusd;				/* the provider's own figure, or -1 */
};

struct model_tool_call {
	struct base_str id, name;
	struct base_buf args; /* JSON text, as the model wrote it */
};

struct model_reply {
	struct base_arena *arena;
	struct base_buf text;
	struct model_tool_call tools[MODEL_TOOLS_MAX];
	size_t tool_count;
	const char *stop; /* end, length, tools, refusal, pause, other */
	struct base_str model;
	struct model_usage usage;
	bool stopped;	       /* it said why it stopped */
	bool counted;	       /* usage is what the provider said */
	bool complete;	       /* the provider said that this is all */
	struct base_str error; /* what it said instead of a reply */
};

struct model_api {
	const char *name;
	const char *path; /* behind the provider's address */
	/* Writes the request's members into an open object. */
	void (*request)(struct base_jv args, struct base_str model, bool stream, struct base_jv provider,
		struct base_jw *w);
	/* Whole reply. -EBADMSG. */
	int (*reply)(struct base_jv root, struct model_reply *ret);
	/* One event of a stream. 0, -EBADMSG, or -EPIPE for an error of the provider (ret->error). */
	int (*event)(struct base_jv data, struct model_reply *ret);
	/* The header that carries the key: its name, and what stands before the key. */
	const char *key_header, *key_prefix;
	/* One more header, or NULL. */
	const char *version_header, *version;
};

extern const struct model_api model_anthropic;
extern const struct model_api model_openai;

/* The built-in model: picks sentences out of what it is given, invents nothing, costs nothing
 * (model_local.c). */
int model_local(struct base_jv args, struct model_reply *ret) __attribute__((warn_unused_result));

/* For the APIs' files: a number of tokens; a tool call by its index (NULL: too many); a value behind a key; the
 * member "temperature" where the request has one; our word for why the model stopped, from pairs of theirs and
 * ours ("other" where there is none). */
int64_t model_tokens(struct base_jv v);
struct model_tool_call *model_tool(struct model_reply *r, size_t index);
void model_jw_value(struct base_jw *w, struct base_jv v);
void model_put_temperature(struct base_jw *w, struct base_jv args);
const char *model_stop(const char *const (*names)[2], size_t count, struct base_str reason);
