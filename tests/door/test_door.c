/* The real aios-door with a scripted aiosd behind it: what it lets through, what it refuses, how streams
 * behave. */
#include "harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOST "Host: localhost\r\n"
#define KEY "Authorization: Bearer k1\r\n"
#define JSON "Content-Type: application/json\r\n"

static struct door_test net, local;

static bool has(struct base_str text, const char *what)
{
	return memmem(text.ptr, text.len, what, strlen(what)) != NULL;
}

static void assert_has(struct base_str text, const char *what)
{
	if (!has(text, what))
		fail_msg("\"%s\" is not in: %.*s", what, BASE_STR_ARG(text));
}

/* The request is refused with that status and aiosd hears nothing of it. */
static void refused(const char *request, int status, const char *detail)
{
	struct base_str head, body;
	int got = door_test_ask(&net, request, &head, &body);

	if (got != status)
		fail_msg("%d instead of %d for: %s", got, status, request);
	if (detail) {
		assert_has(head, "application/problem+json");
		assert_has(body, "\"type\":\"about:blank\"");
		assert_has(body, detail);
	}
	assert_true(door_test_quiet(&net));
}

/* The request reaches aiosd, and its answer the client. */
static void passes(const char *request)
{
	struct wire_door_request f;
	struct base_str body;
	int fd = door_test_connect(&net);

	door_test_send(fd, request);
	f = door_test_request(&net);
	door_test_reply(&net, f.req, 200, "", "{\"ok\":1}");
	assert_int_equal(door_test_read(fd, NULL, &body), 200);
	assert_true(base_str_is(body, "{\"ok\":1}"));
	close(fd);
}

static void round_trip(void **state)
{
	struct wire_door_request f;
	struct base_str head, body;
	int fd = door_test_connect(&net), i;

	(void)state;
	for (i = 0; i < 3; i++) { /* one connection, kept alive */
		door_test_send(fd,
			"POST /v1/flows/news%20letter/runs?wait=5&x=%C3%A9 HTTP/1.1\r\n" HOST KEY JSON
			"Idempotency-Key: abc-1\r\nContent-Length: 13\r\n\r\n{\"issue\":\"7\"}");
		f = door_test_request(&net);
		assert_true(base_str_is(f.op, "run_start"));
		assert_true(base_str_is(
			f.params, "{\"flow\":\"news letter\",\"wait\":\"5\",\"x\":\"\xc3\xa9\"}"));
		assert_true(base_str_is(f.body, "{\"issue\":\"7\"}"));
		assert_true(base_str_is(f.idempotency_key, "abc-1"));
		assert_int_equal(f.credential, 2);
		assert_true(base_str_is(f.token, "k1"));
		door_test_reply(&net, f.req, 201, "application/json", "{\"run\":7}");
		assert_int_equal(door_test_read(fd, &head, &body), 201);
		assert_true(base_str_is(body, "{\"run\":7}"));
		assert_has(head, "Content-Type: application/json");
		assert_has(head, "X-Content-Type-Options: nosniff");
		assert_has(head, "Cache-Control: no-store");
		assert_has(head, "Content-Security-Policy: default-src 'none'");
		assert_has(head, "Referrer-Policy: no-referrer");
	}
	close(fd);
}

static void many_at_once(void **state)
{
	struct wire_door_request f[40];
	struct base_str body;
	int fd[40], i;

	(void)state;
	for (i = 0; i < 40; i++) {
		fd[i] = door_test_connect(&net);
		door_test_send(fd[i], "GET /v1/runs HTTP/1.1\r\n" HOST KEY "\r\n");
		f[i] = door_test_request(&net);
	}
	for (i = 39; i >= 0; i--) { /* answered in another order than asked */
		char text[32];

		snprintf(text, sizeof(text), "{\"n\":%d}", i);
		door_test_reply(&net, f[i].req, 200, "", text);
		assert_int_equal(door_test_read(fd[i], NULL, &body), 200);
		assert_true(base_str_is(body, text));
		close(fd[i]);
	}
}

static void problems_of_aiosd(void **state)
{
	struct wire_door_request f;
	struct base_str head, body;
	int fd = door_test_connect(&net);

	(void)state;
	door_test_send(fd, "GET /v1/runs/9 HTTP/1.1\r\n" HOST KEY "\r\n");
	f = door_test_request(&net);
	door_test_reply(
		&net, f.req, 404, "application/json", "{\"message\":\"no run 9\",\"code\":\"not_found\"}");
	assert_int_equal(door_test_read(fd, &head, &body), 404);
	assert_has(head, "application/problem+json");
	assert_has(body, "\"detail\":\"no run 9\"");
	assert_has(body, "\"status\":404");
	assert_has(body, "\"title\":\"Not Found\"");
	/* what it cannot mean is an error, not a crash */
	door_test_send(fd, "GET /v1/runs/9 HTTP/1.1\r\n" HOST KEY "\r\n");
	f = door_test_request(&net);
	door_test_reply(&net, f.req, 99, "", "");
	assert_int_equal(door_test_read(fd, NULL, &body), 500);
	close(fd);
}

static void credentials(void **state)
{
	struct wire_door_request f;
	int fd;

	(void)state;
	refused("GET /v1/runs HTTP/1.1\r\n" HOST "\r\n", 401, "\"code\":\"unauthenticated\"");
	refused("GET /v1/runs HTTP/1.1\r\n" HOST "Authorization: Basic eDp5\r\n\r\n", 401, "Bearer");
	passes("GET /v1/health HTTP/1.1\r\n" HOST "\r\n");
	fd = door_test_connect(&net);
	door_test_send(fd, "GET /v1/runs HTTP/1.1\r\n" HOST "Cookie: a=b; aios_session=s3cret\r\n\r\n");
	f = door_test_request(&net);
	assert_int_equal(f.credential, 3);
	assert_true(base_str_is(f.token, "s3cret"));
	door_test_reply(&net, f.req, 200, "", "{}");
	assert_int_equal(door_test_read(fd, NULL, NULL), 200);
	close(fd);
	/* The operator's socket: who the kernel says it is; a cookie means nothing there. */
	fd = door_test_connect(&local);
	door_test_send(fd, "GET /v1/runs HTTP/1.1\r\n" HOST "Cookie: aios_session=s3cret\r\n\r\n");
	f = door_test_request(&local);
	assert_int_equal(f.credential, 1);
	assert_int_equal(f.uid, getuid());
	assert_int_equal(f.token.len, 0);
	door_test_reply(&local, f.req, 200, "", "{}");
	assert_int_equal(door_test_read(fd, NULL, NULL), 200);
	close(fd);
}

static void routes(void **state)
{
	struct base_str head, body;

	(void)state;
	refused("GET /nope HTTP/1.1\r\n" HOST KEY "\r\n", 404, "\"code\":\"not_found\"");
	refused("GET /v1/runs/ HTTP/1.1\r\n" HOST KEY "\r\n", 404, "not_found");
	refused("GET /v1//runs HTTP/1.1\r\n" HOST KEY "\r\n", 404, "not_found");
	refused("GET /v1/memory/facts/a/../b HTTP/1.1\r\n" HOST KEY "\r\n", 404, "not_found");
	refused("GET /v1/runs/%zz HTTP/1.1\r\n" HOST KEY "\r\n", 400, "encoding");
	refused("GET /v1/runs/%00 HTTP/1.1\r\n" HOST KEY "\r\n", 400, "NUL");
	refused("GET /v1/runs/%ff HTTP/1.1\r\n" HOST KEY "\r\n", 400, "UTF-8");
	refused("GET /v1/runs?a=1&a=2 HTTP/1.1\r\n" HOST KEY "\r\n", 400, "twice");
	refused("GET /v1/runs/7?run=8 HTTP/1.1\r\n" HOST KEY "\r\n", 400, "part of the path");
	assert_int_equal(
		door_test_ask(&net, "DELETE /v1/runs HTTP/1.1\r\n" HOST KEY "\r\n", &head, &body), 405);
	assert_has(head, "Allow: GET, HEAD");
	assert_int_equal(
		door_test_ask(&net, "BREW /v1/memory/facts/x HTTP/1.1\r\n" HOST KEY "\r\n", &head, &body),
		405);
	assert_has(head, "Allow: GET, HEAD, PUT");
	assert_int_equal(door_test_ask(&net, "GET /openapi.json HTTP/1.1\r\n" HOST "\r\n", NULL, &body), 200);
	assert_has(body, "\"openapi\":\"3.1.0\"");
	assert_has(body, "\"/v1/memory/facts/{key}\"");
	assert_true(door_test_quiet(&net));
}

/* A JSON body of that text to a route that takes it. */
static void bad_body(const char *text, int status, const char *detail)
{
	char request[4096];

	snprintf(request, sizeof(request),
		"POST /v1/outcomes HTTP/1.1\r\n" HOST KEY JSON "Content-Length: %zu\r\n\r\n%s", strlen(text),
		text);
	refused(request, status, detail);
}

static void json_errors(void **state)
{
	(void)state;
	bad_body("{\"a\":1,}", 400, "\"line\":1");
	bad_body("{\n  \"a\" 1}", 400, "\"line\":2");
	bad_body("{\"a\":1,\"a\":2}", 400, "invalid");
	bad_body("{\"a\":\"\xff\"}", 400, "invalid");
	bad_body("nonsense", 400, "\"column\":1");
	refused("POST /v1/outcomes HTTP/1.1\r\n" HOST KEY
		"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
		415, "application/json");
	refused("POST /v1/outcomes HTTP/1.1\r\n" HOST KEY "Content-Length: 2\r\n\r\n{}", 415,
		"application/json");
	refused("GET /v1/runs HTTP/1.1\r\n" HOST KEY "Content-Length: 2\r\n\r\n{}", 400, "no body");
	passes("POST /v1/outcomes HTTP/1.1\r\n" HOST KEY "Content-Type: application/json; charset=utf-8\r\n"
	       "Content-Length: 2\r\n\r\n{}");
	passes("POST /v1/freeze HTTP/1.1\r\n" HOST KEY "Content-Length: 0\r\n\r\n"); /* nothing is fine too */
}

static void fault_60_deep_json(void **state)
{
	enum { DEPTH = 100000 };
	char *text = malloc(2 * DEPTH), head[256];
	struct base_str body;
	int fd = door_test_connect(&net);

	(void)state;
	memset(text, '[', DEPTH);
	memset(text + DEPTH, ']', DEPTH);
	snprintf(head, sizeof(head),
		"POST /v1/outcomes HTTP/1.1\r\n" HOST KEY JSON "Content-Length: %d\r\n\r\n", 2 * DEPTH);
	door_test_send(fd, head);
	door_test_send_bytes(fd, text, 2 * DEPTH);
	assert_int_equal(door_test_read(fd, NULL, &body), 400);
	assert_has(body, "deep");
	assert_true(door_test_quiet(&net));
	free(text);
	close(fd);
}

static void send_blanks(int fd, size_t total)
{
	enum { PIECE = 1 << 20 };
	char *piece = calloc(1, PIECE);
	size_t sent;

	memset(piece, ' ', PIECE);
	for (sent = 0; sent < total; sent += PIECE)
		door_test_send_bytes(fd, piece, PIECE);
	free(piece);
}

/* KiB. The route's 16 MiB, and what the allocator rounds; the address sanitizer keeps what was freed. */
#ifdef __SANITIZE_ADDRESS__
enum { GROWTH_MAX = 300 << 10 };
#else
enum { GROWTH_MAX = 40 << 10 };
#endif

static void fault_60_huge_body(void **state)
{
	struct base_str body;
	long before, after;
	int fd;

	(void)state;
	passes("GET /v1/health HTTP/1.1\r\n" HOST "\r\n");
	before = door_test_rss(&net);
	fd = door_test_connect(&net);
	door_test_send(
		fd, "POST /v1/flows/x/runs HTTP/1.1\r\n" HOST KEY JSON "Content-Length: 104857600\r\n\r\n");
	send_blanks(fd, 100 << 20);
	assert_int_equal(door_test_read(fd, NULL, &body), 413);
	assert_has(body, "too_large");
	close(fd);
	after = door_test_rss(&net);
	assert_true(after - before < GROWTH_MAX);
	assert_true(door_test_quiet(&net));
	/* one that says how much it is, and waits: refused before it is sent */
	refused("POST /v1/flows/x/runs HTTP/1.1\r\n" HOST KEY JSON
		"Expect: 100-continue\r\nContent-Length: 104857600\r\n\r\n",
		413, "too_large");
}

static void fault_55_dns_rebinding(void **state)
{
#define ASK(host, more) "GET /v1/health HTTP/1.1\r\nHost: " host "\r\n" more "\r\n"
#define DO(more) "POST /v1/freeze HTTP/1.1\r\nHost: localhost:7717\r\n" KEY more "\r\n"
#define DO_COOKIE(more)                                                                                      \
	"POST /v1/freeze HTTP/1.1\r\nHost: localhost:7717\r\nCookie: aios_session=s\r\n" more "\r\n"
	(void)state;
	passes(ASK("localhost", ""));
	passes(ASK("LOCALHOST:7717", ""));
	passes(ASK("127.0.0.1:1", ""));
	passes(ASK("[::1]:7717", ""));
	passes(ASK("desk.example", ""));
	refused(ASK("evil.example", ""), 421, "host");
	refused(ASK("localhost.evil.example", ""), 421, "host");
	refused(ASK("localhost:99999", ""), 421, "host");
	refused(ASK("localhost@evil.example", ""), 421, "host");
	refused(ASK("", ""), 421, "host");
	refused(ASK("[::1]x", ""), 421, "host");
	passes(ASK("localhost:7717", "Origin: http://localhost:7717\r\n"));
	refused(ASK("localhost:7717", "Origin: http://localhost:3000\r\n"), 403, "origins");
	refused(ASK("localhost:7717", "Origin: http://evil.example\r\n"), 403, "origins");
	refused(ASK("localhost:7717", "Origin: null\r\n"), 403, "origins");
	refused(ASK("localhost:7717", "Sec-Fetch-Site: cross-site\r\n"), 403, "another site");
	passes(DO(""));
	passes(DO("Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:7717\r\n"));
	refused(DO("Sec-Fetch-Site: cross-site\r\n"), 403, "another site");
	refused(DO("Sec-Fetch-Site: same-site\r\n"), 403, "another site");
	refused(DO_COOKIE(""), 403, "where it comes from");
	refused(DO_COOKIE("Origin: http://localhost:3000\r\n"), 403, "origins");
	passes(DO_COOKIE("Origin: http://localhost:7717\r\n"));
}

static void header_limits(void **state)
{
	char *text = malloc(64 << 10), *p;
	struct base_str head, body;
	int i, status;

	(void)state;
	p = text + sprintf(text, "GET /v1/health HTTP/1.1\r\n" HOST);
	for (i = 0; i < 150; i++)
		p += sprintf(p, "X-%d: y\r\n", i);
	strcpy(p, "\r\n");
	refused(text, 431, "100 headers");
	p = text + sprintf(text, "GET /v1/health HTTP/1.1\r\n" HOST "X-Big: ");
	memset(p, 'a', 40 << 10);
	strcpy(p + (40 << 10), "\r\n\r\n");
	status = door_test_ask(&net, text, &head, &body);
	assert_true(status == 431 || status == 413 || status == 0);
	memset(text, 0, 1024);
	p = text + sprintf(text, "POST /v1/freeze HTTP/1.1\r\n" HOST KEY "Idempotency-Key: ");
	memset(p, 'k', 256);
	strcpy(p + 256, "\r\n\r\n");
	refused(text, 400, "Idempotency-Key");
	free(text);
}

static uint64_t open_stream(int fd, const char *more)
{
	struct wire_door_request f;
	char request[512];

	snprintf(request, sizeof(request),
		"GET /v1/events HTTP/1.1\r\n" HOST KEY "Accept: text/event-stream\r\n%s\r\n", more);
	door_test_send(fd, request);
	f = door_test_request(&net);
	assert_true(base_str_is(f.op, "events"));
	assert_true(base_str_is(f.params, "{\"stream\":\"1\"}"));
	if (*more)
		assert_true(base_str_is(f.last_event_id, "41"));
	door_test_reply(&net, f.req, 200, "text/event-stream", "");
	door_test_read_until(fd, "text/event-stream");
	return f.req;
}

static void gone(uint64_t req)
{
	struct wire_door_gone f;

	assert_int_equal(wire_door_gone_get(door_test_frame(&net, WIRE_DOOR_GONE), &f), 0);
	assert_true(f.req == req);
}

static void streams(void **state)
{
	int fd = door_test_connect(&net);
	uint64_t req = open_stream(fd, "Last-Event-ID: 41\r\n");

	(void)state;
	door_test_chunk(&net, req, "id: 42\ndata: {}\n\n", 17, false);
	door_test_read_until(fd, "id: 42\ndata: {}\n\n");
	door_test_chunk(&net, req, "id: 43\ndata: {}\n\n", 17, false);
	door_test_read_until(fd, "id: 43\ndata: {}\n\n");
	close(fd); /* the client leaves while nothing is sent: aiosd hears of it */
	gone(req);
	door_test_chunk(&net, req, "id: 44\n\n", 8, false); /* to nobody */
	fd = door_test_connect(&net);
	req = open_stream(fd, "");
	door_test_chunk(&net, req, "id: 1\n\n", 7, true);
	door_test_read_until(fd, "0\r\n\r\n"); /* aiosd ends it */
	close(fd);
	passes("GET /v1/health HTTP/1.1\r\n" HOST "\r\n");
}

static void slow_reader(void **state)
{
	char *block = malloc(64 << 10);
	int fd = door_test_connect(&net), i;
	uint64_t req = open_stream(fd, "");

	(void)state;
	memset(block, 'x', 64 << 10);
	/* It never reads; the door holds no more than stream_max (1 MiB here) beyond the socket's own
	 * buffers. */
	for (i = 0; i < 400; i++)
		door_test_chunk(&net, req, block, 64 << 10, false);
	gone(req);
	assert_true(door_test_closed(fd));
	close(fd);
	free(block);
	passes("GET /v1/health HTTP/1.1\r\n" HOST "\r\n");
}

static void slow_sender(void **state)
{
	int head = door_test_connect(&net), body = door_test_connect(&net);

	(void)state;
	door_test_send(head, "GET /v1/health HTTP/1.1\r\nHost: lo");
	door_test_send(body, "POST /v1/freeze HTTP/1.1\r\n" HOST KEY JSON "Content-Length: 100\r\n\r\n{");
	assert_true(door_test_closed(head));
	assert_true(door_test_closed(body));
	assert_true(door_test_quiet(&net));
	close(head);
	close(body);
}

static void waiting_client_leaves(void **state)
{
	struct wire_door_request f;
	int fd = door_test_connect(&net);

	(void)state;
	door_test_send(fd, "GET /v1/runs/7?wait=60 HTTP/1.1\r\n" HOST KEY "\r\n");
	f = door_test_request(&net);
	close(fd);
	gone(f.req);
	door_test_reply(&net, f.req, 200, "", "{}"); /* too late, and to nobody */
	passes("GET /v1/health HTTP/1.1\r\n" HOST "\r\n");
}

static void pages(void **state)
{
	struct wire_door_request f;
	struct base_str head, body;
	int fd = door_test_connect(&net);

	(void)state;
	assert_int_equal(door_test_ask(&net, "GET / HTTP/1.1\r\n" HOST "\r\n", &head, &body), 401);
	assert_has(head, "text/html");
	assert_has(body, "aios open");
	door_test_send(fd, "GET / HTTP/1.1\r\n" HOST "Cookie: aios_session=s\r\n\r\n");
	f = door_test_request(&net);
	assert_true(base_str_is(f.op, "page_home"));
	door_test_reply(&net, f.req, 200, "application/json",
		"{\"page\":\"home\",\"csrf\":\"c\",\"gates\":[{\"gate\":3,\"kind\":\"approve\",\"title\":\"<"
		"script>alert(1)"
		"</script>\",\"shown\":\"ab\"}],\"runs\":[]}");
	assert_int_equal(door_test_read(fd, &head, &body), 200);
	assert_has(head, "Content-Security-Policy: default-src 'none'; style-src 'sha256-");
	assert_has(head, "frame-ancestors 'none'");
	assert_has(body, "&lt;script&gt;");
	assert_false(has(body, "<script"));
	door_test_send(fd,
		"POST /gates/3 HTTP/1.1\r\n" HOST "Cookie: aios_session=s\r\nOrigin: http://localhost\r\n"
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 45\r\n\r\n"
		"csrf=c&shown=ab&answer=approve&reason=a+%26+b");
	f = door_test_request(&net);
	assert_true(base_str_is(f.op, "page_decide"));
	assert_true(base_str_is(f.params, "{\"gate\":\"3\"}"));
	assert_true(base_str_is(
		f.body, "{\"csrf\":\"c\",\"shown\":\"ab\",\"answer\":\"approve\",\"reason\":\"a & b\"}"));
	door_test_reply(&net, f.req, 200, "", "{}");
	assert_int_equal(door_test_read(fd, &head, &body), 303);
	assert_has(head, "Location: /");
	close(fd);
}

static void signs_in(void **state)
{
	struct wire_door_request f;
	struct wire_door_reply reply;
	struct base_str head;
	int fd = door_test_connect(&net);

	(void)state;
	door_test_send(fd, "GET /sign-in?token=t1 HTTP/1.1\r\n" HOST "\r\n");
	f = door_test_request(&net);
	assert_true(base_str_is(f.params, "{\"token\":\"t1\"}"));
	assert_int_equal(f.credential, 0);
	reply = (struct wire_door_reply){f.req, 303, BASE_STR_NONE,
		BASE_STR("Location: /\nSet-Cookie: aios_session=x; HttpOnly; SameSite=Strict\n"),
		BASE_STR_NONE};
	wire_door_reply_put(wire_conn_begin(net.wire, WIRE_DOOR_REPLY), &reply);
	assert_int_equal(wire_conn_end(net.wire), 0);
	wire_conn_flush(net.wire);
	assert_int_equal(door_test_read(fd, &head, NULL), 303);
	assert_has(head, "Location: /\r\n");
	assert_has(head, "Set-Cookie: aios_session=x; HttpOnly; SameSite=Strict\r\n");
	close(fd);
}

/* Beyond the limit the one that has waited longest for its next request gives way; who is served does not. */
static void connection_limit(void **state)
{
	struct door_test t;
	struct wire_door_request f;
	uint64_t served;
	int fd[3], i, late;

	(void)state;
	door_test_start(&t, "network", "{\"connections\":3}", NULL);
	for (i = 0; i < 3; i++) {
		fd[i] = door_test_connect(&t);
		door_test_send(fd[i], "GET /v1/health HTTP/1.1\r\n" HOST "\r\n");
		f = door_test_request(&t);
		door_test_reply(&t, f.req, 200, "", "{}");
		assert_int_equal(door_test_read(fd[i], NULL, NULL), 200);
	}
	door_test_send(fd[0], "GET /v1/flows HTTP/1.1\r\n" HOST KEY "\r\n");
	served = door_test_request(&t).req;
	late = door_test_connect(&t);
	door_test_send(late, "GET /v1/runs HTTP/1.1\r\n" HOST KEY "\r\n");
	f = door_test_request(&t);
	assert_true(base_str_is(f.op, "runs"));
	door_test_reply(&t, f.req, 200, "", "{}");
	assert_int_equal(door_test_read(late, NULL, NULL), 200);
	assert_true(door_test_closed(fd[1]));
	door_test_reply(&t, served, 200, "", "{}");
	assert_int_equal(door_test_read(fd[0], NULL, NULL), 200);
	for (i = 0; i < 3; i++)
		close(fd[i]);
	close(late);
	door_test_stop(&t);
}

static void ends_with_aiosd(void **state)
{
	struct door_test t;
	int status;

	(void)state;
	door_test_start(&t, "local", NULL, NULL);
	shutdown(wire_conn_fd(t.wire), SHUT_RDWR);
	status = door_test_wait_end(&t);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
}

/* Stop: what is in flight is still answered. */
static void stops_cleanly(void **state)
{
	struct door_test t;
	struct wire_door_request f;
	struct wire_stop stop = {0};
	struct base_str body;
	int fd, status;

	(void)state;
	door_test_start(&t, "network", NULL, NULL);
	fd = door_test_connect(&t);
	door_test_send(fd, "GET /v1/runs HTTP/1.1\r\n" HOST KEY "\r\n");
	f = door_test_request(&t);
	wire_stop_put(wire_conn_begin(t.wire, WIRE_STOP), &stop);
	assert_int_equal(wire_conn_end(t.wire), 0);
	door_test_reply(&t, f.req, 200, "", "{}");
	assert_int_equal(door_test_read(fd, NULL, &body), 200);
	close(fd);
	status = door_test_wait_end(&t);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int start(void **state)
{
	(void)state;
	door_test_start(&net, "network", "{\"head_ms\":2000,\"body_ms\":2000,\"stream_max\":1048576}", NULL);
	door_test_start(&local, "local", NULL, NULL);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	door_test_stop(&net);
	door_test_stop(&local);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(many_at_once),
		cmocka_unit_test(problems_of_aiosd),
		cmocka_unit_test(credentials),
		cmocka_unit_test(routes),
		cmocka_unit_test(json_errors),
		cmocka_unit_test(fault_60_deep_json),
		cmocka_unit_test(fault_60_huge_body),
		cmocka_unit_test(fault_55_dns_rebinding),
		cmocka_unit_test(header_limits),
		cmocka_unit_test(streams),
		cmocka_unit_test(slow_reader),
		cmocka_unit_test(slow_sender),
		cmocka_unit_test(waiting_client_leaves),
		cmocka_unit_test(pages),
		cmocka_unit_test(signs_in),
		cmocka_unit_test(connection_limit),
		cmocka_unit_test(ends_with_aiosd),
		cmocka_unit_test(stops_cleanly),
	};

	return cmocka_run_group_tests_name("door", tests, start, stop);
}
