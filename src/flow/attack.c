#include "flow/attack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "wire/frames.h"

static void try_syscall(struct wire_conn *conn, long number)
{
	char text[80];
	long rc = syscall(number, -1, 0, 0, 0, 0, 0);
	snprintf(text, sizeof(text), "attack: system call %ld returned %ld (errno %d)", number, rc,
		rc < 0 ? errno : 0);
	struct wire_note n = {.level = 2, .text = base_str_of(text)};
	wire_note_put(wire_conn_begin(conn, WIRE_NOTE), &n);
	if (wire_conn_end(conn) == 0)
		wire_conn_flush(conn);
}

static void try_frame(struct wire_conn *conn, unsigned type, struct base_str hex)
{
	size_t len = hex.len / 2;
	uint8_t *body = malloc(len + 1);
	struct base_buf *b = wire_conn_begin(conn, type);
	if (body && base_hex_get(hex, body, len) == 0)
		base_buf_put(b, body, len);
	free(body);
	if (wire_conn_end(conn) == 0)
		wire_conn_flush(conn);
}

void flow_attack(struct wire_conn *conn, struct base_jv config)
{
	struct base_jv attack = base_jv_get(config, "attack");
	int64_t call = base_jv_int(base_jv_get(attack, "syscall"), -1);
	int64_t frame = base_jv_int(base_jv_get(attack, "frame"), -1);
	if (call >= 0)
		try_syscall(conn, (long)call);
	if (frame >= 0)
		try_frame(conn, (unsigned)frame, base_jv_str(base_jv_get(attack, "body")));
}
