#pragma once

#include "base/json.h"
#include "wire/conn.h"

/*
 * An exploited interpreter, for tests (built with -Dattack=true; else nothing). What it does stands in the
 * setup frame:
 *   {"attack":{"syscall":N}}             that system call, with harmless arguments; then a note says that it
 * returned
 *   {"attack":{"frame":N,"body":"hex"}}  that frame
 */
void flow_attack(struct wire_conn *conn, struct base_jv config);
