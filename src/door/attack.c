#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/hash.h"
#include "door/door_int.h"

/*
 * Test builds only (-Dattack=true): what somebody could do who runs code in this process after it has entered
 * its jail.
 *   {"syscall": N, "args": [a, b, …]}       make it; the answer is a note "attack: syscall N = RESULT errno
 * E"
 *   {"open": "/path"}                        as a file to read, then to write
 *   {"connect": PORT}                        to 127.0.0.1
 *   {"frames": [{"type": N, "hex": "…"}, …]} send these to aiosd, as they are
 * A jail that kills leaves no note: aiosd sees the process die.
 */

static void say(struct door *d, const char *what, long result, int error)
{
	struct wire_note note = {.level = 1};
	char text[256];

	snprintf(text, sizeof(text), "attack: %s = %ld errno %d", what, result, error);
	note.text = base_str_of(text);
	wire_note_put(wire_conn_begin(d->wire, WIRE_NOTE), &note);
	if (wire_conn_end(d->wire) == 0)
		wire_conn_flush(d->wire);
}

static void try_syscall(struct door *d, struct base_jv what)
{
	struct base_jv args = base_jv_get(what, "args");
	long number = (long)base_jv_int(base_jv_get(what, "syscall"), -1), a[6], r;
	char text[64];
	size_t i;

	for (i = 0; i < 6; i++)
		a[i] = (long)base_jv_int(base_jv_at(args, i), 0);
	errno = 0;
	r = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	snprintf(text, sizeof(text), "syscall %ld", number);
	say(d, text, r, r < 0 ? errno : 0);
}

static void try_open(struct door *d, struct base_str path)
{
	char name[4096];
	int fd;

	if (path.len == 0 || path.len >= sizeof(name))
		return;
	memcpy(name, path.ptr, path.len);
	name[path.len] = '\0';
	fd = open(name, O_RDONLY | O_CLOEXEC);
	say(d, "open to read", fd, fd < 0 ? errno : 0);
	fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	say(d, "open to write", fd, fd < 0 ? errno : 0);
}

static void try_connect(struct door *d, int64_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	say(d, "socket", fd, fd < 0 ? errno : 0);
	if (fd < 0)
		return;
	r = connect(fd, (struct sockaddr *)&in, sizeof(in));
	say(d, "connect", r, r < 0 ? errno : 0);
}

/* Hex that is longer than this, or no hex, is sent as far as it goes. */
static void send_frames(struct door *d, struct base_jv frames)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv f;

	while (base_jv_next(frames, &it, &key, &f)) {
		struct base_str hex = base_jv_str(base_jv_get(f, "hex"));
		struct base_buf *b =
			wire_conn_begin(d->wire, (unsigned)base_jv_int(base_jv_get(f, "type"), 0));
		uint8_t byte;
		size_t i;

		for (i = 0; i + 2 <= hex.len && base_hex_get(base_str_sub(hex, i, 2), &byte, 1) == 0; i += 2)
			base_buf_put(b, &byte, 1);
		if (wire_conn_end(d->wire) == 0)
			wire_conn_flush(d->wire);
	}
}

void door_attack(struct door *d, struct base_jv what)
{
	if (base_jv_kind(what) != BASE_JSON_OBJ)
		return;
	if (base_jv_kind(base_jv_get(what, "syscall")) == BASE_JSON_INT)
		try_syscall(d, what);
	try_open(d, base_jv_str(base_jv_get(what, "open")));
	if (base_jv_kind(base_jv_get(what, "connect")) == BASE_JSON_INT)
		try_connect(d, base_jv_int(base_jv_get(what, "connect"), 0));
	send_frames(d, base_jv_get(what, "frames"));
}
