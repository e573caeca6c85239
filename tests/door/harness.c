#include "harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAIT_MS = 10000, ANSWER_MAX = 8 << 20 };

static int listen_on(struct door_test *t, bool network)
{
	int fd;

	if (network) {
		struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		socklen_t len = sizeof(in);

		fd = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
		assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
		t->port = ntohs(in.sin_port);
	} else {
		struct sockaddr_un un = {.sun_family = AF_UNIX};

		strcpy(t->dir, "/tmp/door-test-XXXXXX");
		assert_non_null(mkdtemp(t->dir));
		snprintf(t->path, sizeof(t->path), "%s/door.sock", t->dir);
		strcpy(un.sun_path, t->path);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	}
	assert_int_equal(listen(fd, 128), 0);
	return fd;
}

static void child(int wire, int door)
{
	char path[4096];
	const char *bin = getenv("AIOS_BIN");
	int a = dup2(wire, 20), b = dup2(door, 21);

	snprintf(path, sizeof(path), "%s/aios-door", bin ? bin : ".");
	dup2(a, 3);
	dup2(b, 4);
	close(a);
	close(b);
	execl(path, "aios-door", (char *)NULL);
	dprintf(2, "cannot start %s: %s\n", path, strerror(errno));
	_exit(127);
}

void door_test_start(struct door_test *t, const char *kind, const char *limits, const char *attack)
{
	char more[2048];

	snprintf(more, sizeof(more), ",\"limits\":%s%s%s", limits ? limits : "{}",
		attack ? ",\"attack\":" : "", attack ? attack : "");
	door_test_start_with(t, kind, more);
}

void door_test_start_with(struct door_test *t, const char *kind, const char *more)
{
	struct wire_hello hello;
	struct wire_setup setup;
	char config[4096];
	int pair[2], fd;

	memset(t, 0, sizeof(*t));
	fd = listen_on(t, strcmp(kind, "network") == 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	t->pid = fork();
	if (t->pid == 0)
		child(pair[1], fd);
	close(pair[1]);
	close(fd);
	assert_int_equal(wire_conn_new(pair[0], &t->wire), 0);
	assert_int_equal(wire_hello_get(door_test_frame(t, WIRE_HELLO), &hello), 0);
	assert_true(base_str_is(hello.process, "aios-door"));
	assert_int_equal(hello.version, wire_frame_version());
	snprintf(config, sizeof(config), "{\"kind\":\"%s\",\"port\":%d,\"hosts\":[\"desk.example\"]%s}", kind,
		t->port, more);
	setup.config = base_str_of(config);
	wire_setup_put(wire_conn_begin(t->wire, WIRE_SETUP), &setup);
	assert_int_equal(wire_conn_end(t->wire), 0);
	assert_int_equal(wire_conn_flush(t->wire), 0);
}

int door_test_wait_end(struct door_test *t)
{
	int status = -1, i;

	for (i = 0; i < WAIT_MS / 10; i++) {
		if (waitpid(t->pid, &status, WNOHANG) == t->pid)
			break;
		usleep(10000);
	}
	if (i == WAIT_MS / 10)
		kill(t->pid, SIGKILL);
	assert_true(i < WAIT_MS / 10);
	wire_conn_free(t->wire);
	t->wire = NULL;
	if (t->path[0]) {
		unlink(t->path);
		rmdir(t->dir);
	}
	return status;
}

void door_test_stop(struct door_test *t)
{
	struct wire_stop stop = {0};
	int status;

	wire_stop_put(wire_conn_begin(t->wire, WIRE_STOP), &stop);
	assert_int_equal(wire_conn_end(t->wire), 0);
	assert_int_equal(wire_conn_flush(t->wire), 0);
	status = door_test_wait_end(t);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int door_test_connect(const struct door_test *t)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd;

	if (t->path[0]) {
		strcpy(un.sun_path, t->path);
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	} else {
		in.sin_port = htons((uint16_t)t->port);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	}
	return fd;
}

void door_test_send_bytes(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		assert_true(n > 0);
		p += n;
		len -= (size_t)n;
	}
}

void door_test_send(int fd, const char *text)
{
	door_test_send_bytes(fd, text, strlen(text));
}

static char answer[ANSWER_MAX + 1];

/* Appends what is there; 0 at the end of the stream. */
static size_t read_more(int fd, size_t have)
{
	struct pollfd p = {fd, POLLIN, 0};
	ssize_t n;

	if (poll(&p, 1, WAIT_MS) != 1)
		fail_msg("nothing arrived in time; so far: %.*s", (int)have, answer);
	n = recv(fd, answer + have, ANSWER_MAX - have, 0);
	answer[have + (n > 0 ? (size_t)n : 0)] = '\0';
	return n > 0 ? (size_t)n : 0;
}

int door_test_read(int fd, struct base_str *ret_head, struct base_str *ret_body)
{
	size_t have = 0, n, want;
	char *end, *len;
	int status = 0;

	do {
		n = read_more(fd, have);
		have += n;
		end = memmem(answer, have, "\r\n\r\n", 4);
	} while (n > 0 && !end);
	if (!end)
		return 0;
	end += 4;
	len = strcasestr(answer, "\r\nContent-Length: ");
	want = len && len < end ? (size_t)(end - answer) + strtoul(len + 18, NULL, 10) : SIZE_MAX;
	while (have < want && (n = read_more(fd, have)) > 0)
		have += n;
	assert_int_equal(sscanf(answer, "HTTP/1.1 %d ", &status), 1);
	if (ret_head)
		*ret_head = (struct base_str){answer, (size_t)(end - answer)};
	if (ret_body)
		*ret_body = (struct base_str){end, have - (size_t)(end - answer)};
	return status;
}

void door_test_read_until(int fd, const char *text)
{
	size_t have = 0, n;

	answer[0] = '\0';
	while (!strstr(answer, text)) {
		n = read_more(fd, have);
		if (n == 0)
			fail_msg("the connection ended without \"%s\": %s", text, answer);
		have += n;
	}
}

bool door_test_closed(int fd)
{
	char drop[65536];
	struct pollfd p = {fd, POLLIN, 0};

	while (poll(&p, 1, WAIT_MS) == 1)
		if (recv(fd, drop, sizeof(drop), 0) <= 0)
			return true;
	return false;
}

int door_test_ask(
	const struct door_test *t, const char *request, struct base_str *ret_head, struct base_str *ret_body)
{
	int fd = door_test_connect(t), status;

	door_test_send(fd, request);
	status = door_test_read(fd, ret_head, ret_body);
	close(fd);
	return status;
}

struct base_str door_test_frame(struct door_test *t, unsigned type)
{
	struct base_str body;
	unsigned got;
	int r;

	while ((r = wire_conn_next(t->wire, &got, &body)) == 0)
		assert_int_equal(wire_conn_wait(t->wire, WAIT_MS), 0);
	assert_int_equal(r, 1);
	assert_int_equal(got, type);
	return body;
}

struct wire_door_request door_test_request(struct door_test *t)
{
	struct wire_door_request f;

	assert_int_equal(wire_door_request_get(door_test_frame(t, WIRE_DOOR_REQUEST), &f), 0);
	return f;
}

bool door_test_quiet(struct door_test *t)
{
	struct base_str body;
	unsigned type;

	wire_conn_fill(t->wire);
	return wire_conn_next(t->wire, &type, &body) == 0;
}

void door_test_reply(struct door_test *t, uint64_t req, unsigned status, const char *type, const char *body)
{
	struct wire_door_reply f = {
		req, (uint16_t)status, base_str_of(type), BASE_STR_NONE, base_str_of(body)};

	wire_door_reply_put(wire_conn_begin(t->wire, WIRE_DOOR_REPLY), &f);
	assert_int_equal(wire_conn_end(t->wire), 0);
	assert_int_equal(wire_conn_flush(t->wire), 0);
}

void door_test_chunk(struct door_test *t, uint64_t req, const char *data, size_t len, bool end)
{
	struct wire_door_chunk f = {req, end, {data, len}};
	int r;

	wire_door_chunk_put(wire_conn_begin(t->wire, WIRE_DOOR_CHUNK), &f);
	assert_int_equal(wire_conn_end(t->wire), 0);
	while ((r = wire_conn_flush(t->wire)) == -EAGAIN) {
		struct pollfd p = {wire_conn_fd(t->wire), POLLOUT, 0};

		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	}
	assert_int_equal(r, 0);
}

long door_test_rss(const struct door_test *t)
{
	char path[64], line[256];
	long kib = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)t->pid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %ld kB", &kib) == 1)
			break;
	fclose(f);
	assert_true(kib > 0);
#ifdef __SANITIZE_ADDRESS__
	kib = 1; /* the sanitizer keeps what is freed: its memory says nothing about ours */
#endif
	return kib;
}

bool door_test_readable(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};

	return poll(&p, 1, 0) > 0;
}
