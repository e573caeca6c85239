#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/json.h"
#include "core/events.h"
#include "wire/conn.h"

/* aiosd's side of one aios-views process, as a test plays it. */
struct peer {
	pid_t pid;
	struct wire_conn *conn;
	uint64_t at;  /* the last views_at */
	bool started; /* the first one has come */
	uint64_t req;
	char sandbox[256];
	char note[600]; /* the last error note */
};

/* Starts the real process over `dir` and waits for its position. Ends the test when it does not come up. */
void peer_start(struct peer *p, const char *dir);
/* Starts it without the setup frame. */
void peer_start_bare(struct peer *p, const char *dir);
void peer_setup(struct peer *p, const char *dir);
/* Asks it to stop and expects exit status 0. */
void peer_stop(struct peer *p);
void peer_kill(struct peer *p);
/* Waits for its end: the exit status, or -1 for a signal. */
int peer_wait_exit(struct peer *p);

void peer_block(struct peer *p, uint64_t first_seq, struct base_str block);
void peer_body(struct peer *p, struct base_str data);
void peer_flush(struct peer *p);
/* Raw bytes on the socket, behind what was flushed. */
void peer_raw(struct peer *p, const void *data, size_t len);
/* Waits until it stands at seq or behind. */
void peer_wait_at(struct peer *p, uint64_t seq);

/* Sends a query; its number. */
uint64_t peer_send_query(struct peer *p, const char *query, const char *params, uint64_t at_least);
/* The answer to it, parsed, for the caller to free; expects ok as given. */
struct base_json *peer_answer(struct peer *p, uint64_t req, bool ok);
struct base_json *peer_query(struct peer *p, const char *query, const char *params, uint64_t at_least);
/* The dump's hash. */
void peer_dump(struct peer *p, uint64_t at_least, char ret[65]);

/* A new folder, and its removal. */
void peer_dir(char *ret, size_t size);
void peer_remove(const char *dir);
