#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/prng.h"
#include "wire/conn.h"
#include "wire/frames.h"

static void pair(struct wire_conn **ret_a, struct wire_conn **ret_b)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(wire_conn_new(fds[0], ret_a), 0);
	assert_int_equal(wire_conn_new(fds[1], ret_b), 0);
}

static void test_round_trip(void **state)
{
	struct wire_flow_call call = {.run = 7,
				      .step = 3,
				      .action = BASE_STR("mail.send"),
				      .args = BASE_STR("{}")},
			      got;
	struct wire_conn *a, *b;
	struct base_str body;
	struct wire_hello hello;
	unsigned type;

	(void)state;
	pair(&a, &b);
	assert_int_equal(wire_conn_fill(b), -EAGAIN);
	assert_int_equal(wire_conn_next(b, &type, &body), 0);
	assert_int_equal(wire_hello(a, "aios-flow", "seccomp landlock", BASE_STR("key")), 0);
	wire_flow_call_put(wire_conn_begin(a, WIRE_FLOW_CALL), &call);
	assert_int_equal(wire_conn_pending(a), 0); /* a frame that has begun is not ready to go */
	assert_int_equal(wire_conn_end(a), 0);
	wire_conn_begin(a, WIRE_STOP);
	assert_int_equal(wire_conn_end(a), 0);
	assert_true(wire_conn_pending(a) > WIRE_HEAD * 2);
	assert_int_equal(wire_conn_flush(a), 0);
	assert_int_equal(wire_conn_pending(a), 0);
	assert_int_equal(wire_conn_wait(b, -1), 0);
	assert_int_equal(wire_conn_next(b, &type, &body), 1);
	assert_int_equal(type, WIRE_HELLO);
	assert_int_equal(wire_hello_get(body, &hello), 0);
	assert_true(hello.version == wire_frame_version() && base_str_is(hello.sandbox, "seccomp landlock"));
	assert_int_equal(wire_conn_next(b, &type, &body), 1);
	assert_int_equal(type, WIRE_FLOW_CALL);
	assert_int_equal(wire_flow_call_get(body, &got), 0);
	assert_true(
		got.run == 7 && got.step == 3 && base_str_is(got.action, "mail.send") && got.opts.len == 0);
	assert_int_equal(wire_conn_next(b, &type, &body), 1);
	assert_true(type == WIRE_STOP && body.len == 0);
	assert_int_equal(wire_conn_next(b, &type, &body), 0);
	assert_int_equal(wire_conn_wait(b, 0), -ETIMEDOUT);
	wire_conn_free(a);
	assert_int_equal(wire_conn_wait(b, -1), -EPIPE);
	assert_int_equal(wire_conn_fill(b), -EPIPE);
	wire_conn_begin(b, WIRE_STOP);
	assert_int_equal(wire_conn_end(b), 0);
	assert_int_equal(wire_conn_flush(b), -EPIPE);
	wire_conn_free(b);
	wire_conn_free(NULL);
}

/* Frames of many sizes through a socket that takes little at a time. */
static void test_stream(void **state)
{
	static char data[300000];
	struct base_prng in = base_prng_of_u64(5), out = in;
	struct wire_conn *a, *b;
	unsigned sent = 0, received = 0, type;
	struct base_str body;
	int r;

	(void)state;
	memset(data, 'z', sizeof(data));
	pair(&a, &b);
	while (received < 400) {
		while (sent < 400 && wire_conn_pending(a) < 500000) {
			size_t len = base_prng_below(&in, sent % 10 ? 300 : sizeof(data));

			base_buf_put(wire_conn_begin(a, 1 + sent % 1000), data, len);
			assert_int_equal(wire_conn_end(a), 0);
			sent++;
		}
		r = wire_conn_flush(a);
		assert_true(r == 0 || r == -EAGAIN);
		r = wire_conn_fill(b);
		assert_true(r == 0 || r == -EAGAIN);
		while (wire_conn_next(b, &type, &body) == 1) {
			size_t len = base_prng_below(&out, received % 10 ? 300 : sizeof(data));

			assert_int_equal(type, 1 + received % 1000);
			assert_true(base_str_eq(body, (struct base_str){data, len}));
			received++;
		}
	}
	wire_conn_free(a);
	wire_conn_free(b);
}

static void test_limits(void **state)
{
	char *data = calloc(1, WIRE_BODY_MAX + 1);
	struct wire_conn *a, *b;
	struct base_str body;
	unsigned type, frames = 0;
	int r = 0;

	(void)state;
	assert_non_null(data);
	pair(&a, &b);
	base_buf_put(wire_conn_begin(a, 9), data, WIRE_BODY_MAX + 1);
	assert_int_equal(wire_conn_end(a), -EFBIG);
	assert_int_equal(wire_conn_pending(a), 0);
	/* The queue has a limit, and what is in it goes out whole. */
	while (r == 0 && frames < 100) {
		base_buf_put(wire_conn_begin(a, 9), data, WIRE_BODY_MAX);
		r = wire_conn_end(a);
		frames += r == 0;
	}
	assert_int_equal(r, -EFBIG);
	assert_int_equal(frames, WIRE_OUT_MAX / (WIRE_BODY_MAX + WIRE_HEAD));
	while (frames > 0) {
		r = wire_conn_flush(a);
		assert_true(r == 0 || r == -EAGAIN);
		r = wire_conn_fill(b);
		assert_true(r == 0 || r == -EAGAIN);
		if (wire_conn_next(b, &type, &body) == 1) {
			assert_int_equal(body.len, WIRE_BODY_MAX);
			frames--;
		}
	}
	assert_int_equal(wire_conn_pending(a), 0);
	wire_conn_free(a);
	wire_conn_free(b);
	free(data);
}

/* What was written already takes no room from what is pending: many large frames to a reader that is slower. */
static void test_slow_reader(void **state)
{
	static const size_t large = 15 << 20;
	struct wire_conn *a, *b;
	struct base_str body;
	unsigned type, sent = 0, got = 0;
	char *data = calloc(1, large);

	(void)state;
	assert_non_null(data);
	pair(&a, &b);
	while (got < 12) {
		int r = wire_conn_flush(a);

		assert_true(r == 0 || r == -EAGAIN);
		while (sent < 12 && wire_conn_pending(a) + large <= 48 << 20) {
			base_buf_put(wire_conn_begin(a, 7), data, large);
			assert_int_equal(wire_conn_end(a), 0);
			sent++;
		}
		r = wire_conn_fill(b);
		assert_true(r == 0 || r == -EAGAIN);
		if (wire_conn_next(b, &type, &body) == 1) {
			assert_int_equal(body.len, large);
			got++;
		}
	}
	wire_conn_free(a);
	wire_conn_free(b);
	free(data);
}

/* A peer that sends and a reader that never takes: memory stays bounded. */
static void test_not_taken(void **state)
{
	static char data[1 << 20];
	struct wire_conn *a, *b;
	struct base_str body;
	unsigned type, i, got = 0;

	(void)state;
	pair(&a, &b);
	for (i = 0; i < 2000; i++) {
		if (wire_conn_pending(a) < (1 << 20)) {
			base_buf_put(wire_conn_begin(a, 3), data, 1000000);
			assert_int_equal(wire_conn_end(a), 0);
		}
		wire_conn_flush(a);
		assert_true(wire_conn_fill(b) <= 0);
	}
	while (wire_conn_next(b, &type, &body) == 1)
		got++;
	assert_in_range(got, 15, 22);
	wire_conn_free(a);
	wire_conn_free(b);
}

static void bad_head(const char head[WIRE_HEAD])
{
	struct base_str body;
	struct wire_conn *c;
	unsigned type;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(wire_conn_new(fds[1], &c), 0);
	assert_int_equal(write(fds[0], head, WIRE_HEAD), WIRE_HEAD);
	assert_int_equal(wire_conn_fill(c), 0);
	assert_int_equal(wire_conn_next(c, &type, &body), -EBADMSG);
	assert_int_equal(wire_conn_next(c, &type, &body), -EBADMSG);
	wire_conn_free(c);
	close(fds[0]);
}

static void test_bad_heads(void **state)
{
	(void)state;
	bad_head("\x01\x00\x40\x01\x01\x00\x00\x00"); /* longer than a body may be */
	bad_head("\xff\xff\xff\xff\x01\x00\x00\x00");
	bad_head("\x00\x00\x00\x00\x00\x00\x00\x00"); /* no type */
	bad_head("\x00\x00\x00\x00\x01\x00\x01\x00");
}

/* What is read just before the peer goes is not lost. */
static void test_last_words(void **state)
{
	struct wire_conn *a, *b;
	struct base_str body;
	unsigned type;

	(void)state;
	pair(&a, &b);
	base_buf_cstr(wire_conn_begin(a, 4), "bye");
	assert_int_equal(wire_conn_end(a), 0);
	assert_int_equal(wire_conn_flush(a), 0);
	wire_conn_free(a);
	assert_int_equal(wire_conn_fill(b), 0);
	assert_int_equal(wire_conn_next(b, &type, &body), 1);
	assert_true(base_str_is(body, "bye"));
	assert_int_equal(wire_conn_fill(b), -EPIPE);
	wire_conn_free(b);
}

static void test_permitted(void **state)
{
	(void)state;
	assert_true(wire_frame_permitted(WIRE_FLOW_CALL, "flow", "aiosd"));
	assert_false(wire_frame_permitted(WIRE_FLOW_CALL, "door", "aiosd"));
	assert_false(wire_frame_permitted(WIRE_FLOW_CALL, "aiosd", "flow"));
	assert_true(wire_frame_permitted(WIRE_HELLO, "parse", "aiosd"));
	assert_false(wire_frame_permitted(60000, "flow", "aiosd"));
	assert_null(wire_frame_name(60000));
	assert_string_equal(wire_frame_name(WIRE_EFFECT), "effect");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_not_taken),
		cmocka_unit_test(test_bad_heads),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_permitted),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
