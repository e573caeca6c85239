#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/json.h"
#include "wire/conn.h"
#include "wire/frames.h"

/* The engine's side of one real aios-flow, for tests. Everything that goes wrong fails the test. */
struct peer {
	pid_t pid;
	struct wire_conn *conn;
	char sandbox[200];
};

/* A frame as it came, with copies; peer_got_done frees it. */
struct got {
	unsigned type; /* WIRE_FLOW_CALL, ...; 0: the worker is gone */
	uint64_t run;  /* or req */
	uint32_t step; /* or steps, or ok */
	char *action, *args, *opts;
	char *value; /* or problem, spec, text of a note */
};

enum { PEER_WAIT_MS = 20000 };

/* Starts aios-flow of AIOS_BIN; config: JSON for the setup frame, or NULL. */
void peer_open(struct peer *p, const char *config);
/* Says stop and expects exit code 0. */
void peer_close(struct peer *p);
/* Waits for the end of the process; its wait status. */
int peer_reap(struct peer *p);

/* One module "flows/x.js"; or pairs of name and source, ended by NULL, of which the first is the entry. */
void peer_version(struct peer *p, const char *hash, const char *source);
void peer_graph(struct peer *p, const char *hash, ...);
void peer_inspect(struct peer *p, uint64_t req, ...);
void peer_start(struct peer *p, uint64_t run, const char *hash, const char *input, uint32_t replay);
void peer_start_with(struct peer *p, uint64_t run, const char *hash, const char *input, const char *context,
	int64_t time_ms, uint8_t seed);
void peer_result(struct peer *p, uint64_t run, uint32_t step, bool ok, const char *value);
void peer_result_at(struct peer *p, uint64_t run, uint32_t step, bool ok, const char *value, int64_t time_ms);
void peer_send(struct peer *p); /* flushes */

struct got peer_next(struct peer *p);
void peer_got_done(struct got *g);

/* Expects one frame. */
void peer_call_is(struct peer *p, uint64_t run, uint32_t step, const char *action, const char *args);
void peer_idle_is(struct peer *p, uint64_t run, uint32_t steps);
void peer_done_is(struct peer *p, uint64_t run, const char *value);
/* A problem of that kind whose message holds `text`. */
void peer_failed_is(struct peer *p, uint64_t run, const char *kind, const char *text);
/* Starts and expects a result without steps. */
void peer_gives(struct peer *p, const char *source, const char *value);
