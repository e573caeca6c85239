#include <stdio.h>
#include <stdlib.h>

#include "flow/worker.h"
#include "jail/jail.h"
#include "wire/outcome.h"

/* aios-flow: started by aiosd with its socket on WIRE_FD; nothing else works it. */

enum { ADDRESS_SPACE_MAX = 1 << 30 };

int main(void)
{
	struct base_err err;
	struct base_buf sandbox;
	struct wire_conn *conn;
	struct flow_worker *w;
	struct jail_options jail = {.profile = JAIL_PURE, .memory_max = ADDRESS_SPACE_MAX};

	base_buf_init(&sandbox, 256);
	if (jail_enter(&jail, &sandbox, &err) < 0) {
		fprintf(stderr, "aios-flow: %s\n", err.text);
		return 1;
	}
	if (wire_conn_new(WIRE_FD, &conn) < 0) {
		fprintf(stderr, "aios-flow: no connection on descriptor %d: it is started by aiosd\n",
			WIRE_FD);
		return 1;
	}
	if (flow_worker_new(conn, &w, &err) < 0) {
		fprintf(stderr, "aios-flow: %s\n", err.text);
		return 1;
	}
	base_buf_char(&sandbox, '\0');
	int rc = wire_hello(conn, "aios-flow", sandbox.ptr, BASE_STR_NONE);
	int code = rc < 0 ? 1 : flow_worker_serve(w);
	flow_worker_free(w);
	wire_conn_free(conn);
	base_buf_done(&sandbox);
	return code;
}
