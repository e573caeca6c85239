#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/heap.h"
#include "base/json.h"
#include "base/map.h"
#include "base/str.h"
#include "wire/conn.h"
#include "wire/outcome.h"
#include "wire/secret.h"

/* What the files of this folder share. One thread, one loop; a call is one attempt at one effect. */

enum {
	CONNECT_KEY_LEN = 32,
	CONNECT_ARENA_MAX = 96 << 20, /* what one call may hold, its reply included */
	CONNECT_VALUE_MAX = 16 << 20, /* a result */
	CONNECT_CALLS_MAX = 4096,
};

struct canaries;

struct connect {
	struct wire_conn *wire;
	struct base_idmap *calls;  /* id of the attempt to struct connect_call */
	struct base_heap *timers;  /* of calls; those of calls that are gone are skipped */
	struct base_json *setup;   /* the setup frame's config, or NULL */
	struct base_names *tries;  /* test.fail: key to how often it was asked */
	struct connect_net *net;   /* curl and epoll: net.c */
	struct smtp_pool *mailers; /* made for the first mail that goes by SMTP */
	int files_fd;
	struct canaries *canaries; /* NULL: none known */
	bool stopping;
	uint8_t public_key[CONNECT_KEY_LEN];
	uint8_t secret_key[CONNECT_KEY_LEN];
};

struct connect_call;

struct connect_action {
	const char *name;
	bool read; /* no answer means that nothing has changed outside: may be asked again */
	/* Either finishes the call (which is then gone) or leaves it in flight. */
	void (*start)(struct connect_call *call);
};

struct connect_call {
	struct connect *c;
	const struct connect_action *action;
	uint64_t id;
	unsigned mode; /* 0 send, 1 lookup */
	struct base_arena *arena;
	struct base_json *args_doc, *config_doc;
	struct base_jv args;
	struct base_str key;
	int64_t deadline_ms; /* of this machine's monotonic clock */
	uint32_t timeout_ms;
	bool left;   /* the outside may have acted on it: no answer now means in doubt, unless action->read */
	bool billed; /* a model may charge for it: no answer now means that the cost is unknown */
	struct connect_xfer *xfer; /* the request in flight, or NULL */
	void *state;		   /* the action's own, in the arena */
	void (*on_timer)(struct connect_call *call);
	void (*on_cut)(
		struct connect_call *call); /* it is cut short: says in `left` what may have happened */
	void (*on_free)(struct connect_call *call); /* frees what of state is not in the arena; may be NULL */
	void *secret_memory;	   /* locked, wiped at the end; NULL: the call came without */
	struct wire_secret secret; /* views into it */
	bool secret_turned;	   /* the old value is used: the new one was not taken */
};

/* An attempt's end. Texts are copied before connect_finish returns. */
struct connect_result {
	enum wire_outcome outcome;
	struct base_str value; /* JSON */
	const char *parse;     /* format of raw, or NULL */
	struct base_str raw;
	uint32_t retry_after_ms;
	struct base_str usage; /* JSON or empty */
};

/* Milliseconds of the monotonic clock. */
int64_t connect_clock_ms(void);

/* --- calls (call.c) --- */

/* Begins the effect of one frame body; answers at once what cannot be begun. -EBADMSG: not a frame. */
int connect_call_begin(struct connect *c, struct base_str body) __attribute__((warn_unused_result));
void connect_call_cancel(struct connect *c, uint64_t id);
/* Runs the timers that are due; returns milliseconds to the next, or -1. */
int connect_call_timers(struct connect *c);
/* Drops every call without an answer (the engine is gone). */
void connect_calls_drop(struct connect *c);

/* Sends the result and frees the call. */
void connect_finish(struct connect_call *call, const struct connect_result *r);
void connect_done(struct connect_call *call, const struct base_buf *value);
/* Ends the call with a problem {"code","message"}: the message says what, where, and what to do next. */
void connect_fail(struct connect_call *call, enum wire_outcome outcome, const char *code, const char *fmt,
	...) __attribute__((format(printf, 4, 5)));
/* The same with the parts that some problems have: `extra` is JSON members ("\"status\":503") or empty. */
struct connect_problem {
	enum wire_outcome outcome;
	const char *code;
	const char *message;
	struct base_str extra;
	uint32_t retry_after_ms;
	struct base_str usage;
};
void connect_fail_with(struct connect_call *call, const struct connect_problem *p);
/* What no answer means for this call: WIRE_UNKNOWN when it may have happened, else WIRE_RETRY. */
enum wire_outcome connect_no_answer(const struct connect_call *call);

/* A member of the effect's config, else of setup's. */
struct base_jv connect_config(const struct connect_call *call, const char *key);
/* Calls call->on_timer in `ms`. -ENOMEM. */
int connect_call_timer(struct connect_call *call, uint32_t ms) __attribute__((warn_unused_result));

/* --- secrets (secret.c) --- */

/* Opens what was sealed to this process and keeps it in the call; refuses one made for another call. -EACCES.
 */
int connect_secret_open(struct connect_call *call, struct base_str sealed, struct base_err *err)
	__attribute__((warn_unused_result));
/* The secret for `host`, the name that is contacted; empty if the call came with none. -EACCES for another
 * host's. */
int connect_secret_for(const struct connect_call *call, struct base_str host, struct base_str *ret,
	struct base_err *err) __attribute__((warn_unused_result));
/* The outside did not take the value: true once, within the overlap of a rotation, when the one before it is used from now
 * on. */
bool connect_secret_turn(struct connect_call *call);
void connect_secret_wipe(struct connect_call *call);

/* Takes the call's secret out of a text that goes back to aiosd (redact.c): *text stays, or is a view of `hold`, which is
 * to be freed in any case (and was initialised here). False: it could not be checked and must not go out. */
bool connect_redact(const struct connect_call *call, struct base_str *text, struct base_buf *hold);

/* --- canaries (canary.c) --- */

/* Replaces those that are known. -EBADMSG: not sealed to this process; -ENOMEM. */
int connect_canaries_load(struct connect *c, struct base_str sealed) __attribute__((warn_unused_result));
void connect_canaries_free(struct canaries *k);
/* The name of a canary of which a piece stands in s, or NULL. */
const char *connect_canary_in(const struct connect *c, struct base_str s);

/* --- the actions, one file each --- */

void connect_mail_send(struct connect_call *call);
void connect_http_get(struct connect_call *call);
void connect_file_read(struct connect_call *call);
void connect_file_write(struct connect_call *call);
void connect_file_list(struct connect_call *call);
void connect_feed_read(struct connect_call *call);
void connect_notify_post(struct connect_call *call);
void connect_model_generate(struct connect_call *call);
void connect_test_fail(struct connect_call *call);
void connect_test_slow(struct connect_call *call);
void connect_test_ledger(struct connect_call *call);
