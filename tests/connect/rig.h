#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/str.h"

/* The real aios-connect over a socketpair, a files folder of its own, and stand-ins for the outside. Whatever
 * fails here fails the test. */
struct rig {
	struct wire_conn *wire;
	pid_t pid;
	char dir[64];	/* a folder of the test's own */
	char files[80]; /* what aios-connect may touch */
	uint8_t public_key[32];
	char sandbox[256];
	uint64_t calls;
};

struct rig_result {
	unsigned outcome;
	struct base_json *doc, *usage_doc;
	struct base_jv value, usage;
	char parse[16];
	struct base_buf raw;
	uint32_t retry_after_ms;
};

/* Starts aios-connect with this setup config (members without braces, may be ""). */
void rig_start(struct rig *r, const char *setup);
/* SIGKILL, and another process on the same folder. */
void rig_kill(struct rig *r, const char *setup);
/* Says stop, waits for exit 0, removes the folder. */
void rig_stop(struct rig *r);

struct rig_effect {
	unsigned mode;
	const char *action, *key, *args, *config; /* config: a JSON object, or NULL */
	struct base_str secret;
	uint32_t timeout_ms;
};
/* Sends; returns the call's id. */
uint64_t rig_send(struct rig *r, const struct rig_effect *e);
void rig_cancel(struct rig *r, uint64_t call);
/* The next result frame, and whose it is. Free with rig_result_done. */
uint64_t rig_take(struct rig *r, struct rig_result *ret);
/* Both. */
void rig_do(struct rig *r, const struct rig_effect *e, struct rig_result *ret);
void rig_result_done(struct rig_result *x);
/* A struct wire_secret sealed to this aios-connect, malloc'ed. The call is the next one that rig_send
 * makes. */
struct base_str rig_seal(
	struct rig *r, uint64_t call, const char *action, const char *host, const char *value);

/* A string or number of the result's value, by key. */
const char *rig_text(const struct rig_result *x, const char *key);
int64_t rig_int(const struct rig_result *x, const char *key);
/* Fails unless the outcome is this; prints the problem. */
void rig_expect(const struct rig_result *x, unsigned outcome);
/* Fails unless it is this outcome with a problem of this code whose message holds `part`. */
void rig_problem(const struct rig_result *x, unsigned outcome, const char *code, const char *part);

/* A stand-in from tests/standins; runs while the rig's test does. */
struct standin {
	pid_t pid;
	int stdin_fd;
	unsigned port;
};
/* argv: further arguments, ended by NULL. */
void standin_start(struct standin *s, const char *script, const char *const *argv);
void standin_stop(struct standin *s);

/* Formats into one of several static buffers: for arguments and configs. */
const char *fmt(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A whole file as a string, malloc'ed. */
char *slurp(const char *path, size_t *ret_len);
