#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <qjs/quickjs.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/map.h"
#include "base/prng.h"
#include "base/str.h"
#include "flow/codec.h"
#include "flow/heap.h"
#include "flow/worker.h"

/* What the files of this folder share. */

/* --- the standard library (lib/, embedded at build) --- */

struct flow_lib_module {
	const char *name; /* "aios", "aios:agent", ... */
	const char *source;
	size_t len;
};
extern const struct flow_lib_module flow_lib_modules[];
extern const size_t flow_lib_count;

/* --- versions: module graphs, compiled once --- */

struct flow_module {
	char *name;   /* "flows/newsletter.js" */
	char *source; /* terminated; freed once the version is compiled */
	size_t source_len;
	uint8_t *code; /* bytecode; NULL until compiled */
	size_t code_len;
};

struct flow_version {
	struct flow_version *next;
	char *hash;
	char *problem; /* JSON: why no run of it can start; NULL: it compiled */
	struct flow_module *modules;
	size_t count;
	size_t entry;
	unsigned runs;
};

/* Parses {"entry","modules"} and compiles. A graph that does not compile is a version with a problem.
 * -ENOMEM. */
int flow_version_new(struct flow_worker *w, struct base_str hash, struct base_str modules,
	struct flow_version **ret) __attribute__((warn_unused_result));
void flow_version_free(struct flow_worker *w, struct flow_version *v);
struct flow_version *flow_version_find(struct flow_worker *w, struct base_str hash);

/* Compiles the standard library; once. */
int flow_modules_init(struct flow_worker *w) __attribute__((warn_unused_result));
void flow_modules_done(struct flow_worker *w);

/* Module instances while they are linked: imports are looked up here. */
struct flow_link {
	struct flow_version *version;
	struct flow_realm *realm;
	JSModuleDef **defs; /* per module of the version; NULL: not instantiated yet */
	bool reading;	    /* bytecode is read: imports are asked for, but not yet for good */
};
/*
 * Makes module instances of `v` in the realm, evaluates them and gives the default export of its entry (which
 * the caller frees). JS_EXCEPTION with the error pending in the realm's context.
 */
JSValue flow_instantiate(struct flow_worker *w, struct flow_realm *r, struct flow_version *v);
/* Evaluates one module of the standard library in a new realm and gives its namespace. JS_EXCEPTION. */
JSValue flow_instantiate_lib(struct flow_worker *w, struct flow_realm *r, const char *name);

/* --- realms: contexts with frozen intrinsics, shared by a number of runs --- */

struct flow_realm {
	struct flow_realm *next;
	JSContext *ctx;
	JSModuleDef *native;
	JSModuleDef **lib; /* per module of the standard library; NULL: not instantiated */
	JSValue flow_ctx;  /* the `ctx` that flows get */
	JSValue step_error;
	JSValue describe;
	unsigned runs; /* alive in it */
	unsigned made; /* ever */
	size_t began;  /* heap.total when it was made: module instances live as long as their realm */
	bool retired;
};

/* The realm for the next run; made when there is none or the last is full. NULL when memory is out. */
struct flow_realm *flow_realm_take(struct flow_worker *w);
/* A run of it has ended. */
void flow_realm_leave(struct flow_worker *w, struct flow_realm *r);
/* No further runs in it; freed when its last run has ended. */
void flow_realm_retire(struct flow_worker *w, struct flow_realm *r);
void flow_realm_free_all(struct flow_worker *w);

/* Freezes everything that can be reached from the context's global object and class prototypes. 0, or -1. */
int flow_freeze(JSContext *ctx, JSClassID own_classes);
/* The same for one value and what it leads to, and for what a module namespace exports. */
int flow_freeze_value(JSContext *ctx, JSValueConst v);
int flow_freeze_exports(JSContext *ctx, JSValueConst ns);

/* --- natives: what the standard library is built on --- */

int flow_natives_init(struct flow_worker *w) __attribute__((warn_unused_result));
/* Makes the module "aios:native" in ctx. NULL with an exception. */
JSModuleDef *flow_natives_module(JSContext *ctx);
/* What flow(spec, fn) gave: views into v. False if v is no such thing. */
bool flow_definition_of(JSContext *ctx, JSValueConst v, JSValueConst *ret_spec, JSValueConst *ret_fn);

/* --- runs
 * -------------------------------------------------------------------------------------------------------------
 */

struct flow_step {
	JSValue resolve, reject; /* undefined once it has ended */
	JSAtom action;
	bool open;
};

enum flow_kill { FLOW_ALIVE = 0, FLOW_CPU, FLOW_MEMORY, FLOW_BROKEN };

struct flow_run {
	uint64_t id;
	struct flow_realm *realm;
	struct flow_version *version; /* NULL while a version is inspected */
	struct flow_account *account;
	int64_t time_ms;
	struct base_prng prng;
	JSValue main;	 /* the promise of the flow's function */
	JSValue context; /* ctx.run once it was asked for, else undefined */
	char *context_json;
	size_t context_len;
	char *customer; /* ctx.attribute; NULL: none */
	struct flow_step *steps;
	uint32_t count, size, open;
	enum flow_kill kill;
	char unhandled[200]; /* the last rejection that nobody handled */
};

/* --- problems
 * ----------------------------------------------------------------------------------------------------------
 */

/* Appends a problem made from a thrown value (consumed). kind NULL: found from the value. */
void flow_problem_of(JSContext *ctx, JSValue thrown, const char *kind, struct base_buf *b);
/* Appends a problem of words alone; file may be NULL, line 0. */
void flow_problem_say(struct base_buf *b, const char *kind, const char *file, int line, int column,
	const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* --- the worker
 * ---------------------------------------------------------------------------------------------------------
 */

struct flow_worker {
	struct wire_conn *conn;
	struct flow_heap heap;
	JSRuntime *rt;
	struct flow_codec *codec;
	struct base_idmap *runs;
	struct flow_version *versions;
	struct flow_realm *realms;	/* all; the first that is not retired takes new runs */
	struct flow_version *lib;	/* the standard library, in the order of flow_lib_modules */
	struct flow_version *compiling; /* while a version is compiled */
	struct flow_link *link;		/* while modules are linked */
	JSClassID definition_class;	/* what flow() returns */
	struct flow_run *cur;		/* whose code runs now; NULL: nobody's */
	struct base_buf scratch;	/* for one value as JSON; taken while in use */
	bool scratch_taken;
	int64_t cpu_began_ms; /* when this frame's code first asked for the time; -1: not yet */
	int64_t wall_began_ms;
	size_t called_bytes; /* of the calls in answer to this frame */
	size_t next_gc;
	size_t run_memory_max;
	int64_t run_cpu_max_ms;
	bool stopping;
	int exit_code; /* when stopping */
};

struct flow_worker *flow_worker_of(JSContext *ctx);

/* Whose code runs from here on; pays and answers for it. NULL: the worker itself. Returns who did before. */
struct flow_run *flow_enter(struct flow_worker *w, struct flow_run *run);
/* Runs the job queue until it is empty or the run is killed. */
void flow_drain(struct flow_worker *w, struct flow_run *run);
/* After a kill: gets rid of the run's jobs without letting them do anything. */
void flow_purge(struct flow_worker *w, struct flow_run *run);
/* Has the run (or what is being inspected) overstepped? Its kind and sentence, for a problem. */
void flow_kill_problem(struct flow_worker *w, const struct flow_run *run, struct base_buf *b);
struct flow_run *flow_run_new(struct flow_worker *w, uint64_t id);
/* Frees everything but what the garbage collector still has to find. */
void flow_run_free(struct flow_worker *w, struct flow_run *run);

struct wire_flow_start;
struct wire_flow_result;
struct wire_flow_inspect;
void flow_run_start(struct flow_worker *w, const struct wire_flow_start *f);
void flow_run_result(struct flow_worker *w, const struct wire_flow_result *f);
void flow_run_drop(struct flow_worker *w, uint64_t id);
void flow_inspect(struct flow_worker *w, const struct wire_flow_inspect *f);
/* The run asks for a step; gives its promise. JS_EXCEPTION if the arguments are no JSON. */
JSValue flow_run_call(
	struct flow_worker *w, JSContext *ctx, JSValueConst action, JSValueConst args, JSValueConst opts);

/* A buffer for one JSON value; give it back. */
struct base_buf *flow_scratch(struct flow_worker *w, struct base_buf *spare);
void flow_scratch_done(struct flow_worker *w, struct base_buf *b);

void flow_note(struct flow_worker *w, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
