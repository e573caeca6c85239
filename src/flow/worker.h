#pragma once

#include "base/err.h"
#include "base/str.h"
#include "wire/conn.h"

/* aios-flow without its jail: a worker that runs flows for the other end of one connection. */
struct flow_worker;
struct flow_realm;

/* Takes over the connection. The caller frees *ret. -ENOMEM, or -EINVAL when the standard library does not
 * load. */
int flow_worker_new(struct wire_conn *conn, struct flow_worker **ret, struct base_err *err)
	__attribute__((warn_unused_result));
void flow_worker_free(struct flow_worker *w);

/* Handles one frame; answers are queued on the connection. 0, or -EBADMSG for a frame that it cannot be sent.
 */
int flow_worker_frame(struct flow_worker *w, unsigned type, struct base_str body)
	__attribute__((warn_unused_result));

/* Serves until the peer closes or says stop; the exit code. */
int flow_worker_serve(struct flow_worker *w);
