/* The real aios-door against clients that mean harm: forged origins, frames, content types, framing, floods. */
#include "harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST "Host: localhost\r\n"
#define KEY "Authorization: Bearer k1\r\n"
#define JSON "Content-Type: application/json\r\n"
#define FORM "Content-Type: application/x-www-form-urlencoded\r\n"

static struct door_test net;

static bool has(struct base_str text, const char *what)
{
	return memmem(text.ptr, text.len, what, strlen(what)) != NULL;
}

/* Asks; 200 stands for: it reached aiosd, who answered. */
static int status_of(const char *request)
{
	int fd = door_test_connect(&net), status;

	door_test_send(fd, request);
	while (!door_test_readable(wire_conn_fd(net.wire)) && !door_test_readable(fd))
		usleep(100);
	if (door_test_readable(wire_conn_fd(net.wire)))
		door_test_reply(&net, door_test_request(&net).req, 200, "", "{}");
	status = door_test_read(fd, NULL, NULL);
	close(fd);
	return status;
}

/* --- 56 --- */

static const char *const sites[] = {"", "none", "same-origin", "same-site", "cross-site", "nonsense"};
static const char *const modes[] = {"", "navigate", "cors", "no-cors", "nested-navigate"};
static const char *const dests[] = {
	"", "document", "iframe", "frame", "embed", "object", "image", "script", "empty"};
static const char *const origins[] = {"", "http://localhost", "https://localhost", "http://localhost:1",
	"null", "http://evil.example", "http://localhost.evil.example"};

static bool is_one_of(const char *what, const char *a, const char *b)
{
	return strcmp(what, a) == 0 || strcmp(what, b) == 0;
}

/* What must come of it, written down without looking at the door's code: 200 or 403. */
static int expected(
	bool post, bool cookie, const char *site, const char *mode, const char *dest, const char *origin)
{
	if (is_one_of(dest, "iframe", "frame") || is_one_of(dest, "embed", "object"))
		return 403;
	if (*origin && !is_one_of(origin, "http://localhost", "https://localhost"))
		return 403;
	if (*site && !is_one_of(site, "none", "same-origin"))
		return !post && strcmp(mode, "navigate") == 0 && strcmp(dest, "document") == 0 ? 200 : 403;
	return post && cookie && !*origin && !*site ? 403 : 200;
}

static void put_header(char *to, const char *name, const char *value)
{
	if (*value)
		sprintf(to + strlen(to), "%s: %s\r\n", name, value);
}

static void one_of_the_matrix(
	bool post, bool cookie, const char *site, const char *mode, const char *dest, const char *origin)
{
	char request[1024];
	int got, want = expected(post, cookie, site, mode, dest, origin);

	sprintf(request, "%s /gates/7 HTTP/1.1\r\n" HOST "%s", post ? "POST" : "GET",
		cookie ? "Cookie: aios_session=s\r\n" : KEY);
	put_header(request, "Sec-Fetch-Site", site);
	put_header(request, "Sec-Fetch-Mode", mode);
	put_header(request, "Sec-Fetch-Dest", dest);
	put_header(request, "Origin", origin);
	strcat(request, post ? FORM "Content-Length: 14\r\n\r\nanswer=approve" : "\r\n");
	got = status_of(request);
	if (post && got == 303) /* a decision is answered with the way back */
		got = 200;
	if (got != want)
		fail_msg("%d instead of %d for: %s", got, want, request);
}

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static void test_fault_56_csrf_and_frames(void **state)
{
	struct base_str head, body;

	(void)state;
	for (size_t n = 0; n < 4 * COUNT(sites) * COUNT(modes) * COUNT(dests) * COUNT(origins); n++) {
		size_t k = n / 4, site = k % COUNT(sites), m, d, o;

		m = (k /= COUNT(sites)) % COUNT(modes);
		d = (k /= COUNT(modes)) % COUNT(dests);
		o = k / COUNT(dests);
		if (o < 2 || (m < 2 && d < 3)) /* the rest adds nothing */
			one_of_the_matrix(n & 1, n & 2, sites[site], modes[m], dests[d], origins[o]);
	}
	assert_int_equal(door_test_ask(&net, "GET /gates/7 HTTP/1.1\r\n" HOST "\r\n", &head, &body), 401);
	assert_true(has(head, "frame-ancestors 'none'") && has(head, "X-Frame-Options: DENY"));
	assert_true(has(head, "Cross-Origin-Opener-Policy: same-origin") && !has(head, "unsafe-inline"));
	assert_true(has(head, "X-Content-Type-Options: nosniff") && has(head, "Cache-Control: no-store"));
	assert_true(has(head, "Permissions-Policy: ") && has(head, "Referrer-Policy: "));
	assert_false(has(head, "Strict-Transport-Security")); /* plain HTTP on loopback */
	assert_false(has(head, "Access-Control-"));
}

/* --- 60, 61, 64 --- */

static void test_fault_60_duplicate_keys(void **state)
{
	static const char *const bodies[] = {"{\"a\":1,\"a\":2}", "{\"input\":{\"x\":1,\"\\u0078\":2}}",
		"[{\"k\":[],\"k\":[]}]", "{\"a\":1}{", "{\"a\":1} {\"a\":2}", "{\"a\":01}", "{'a':1}",
		"{\"a\":NaN}", "\xef\xbb\xbf{}", "{\"a\":\"\x01\"}", "{\"a\":\"\xff\"}",
		"{\"a\":\"\xed\xa0\x80\"}", "{\"a\":1,}"};
	char request[1024];

	(void)state;
	for (size_t i = 0; i < COUNT(bodies); i++) {
		snprintf(request, sizeof(request),
			"POST /v1/outcomes HTTP/1.1\r\n" HOST KEY JSON "Content-Length: %zu\r\n\r\n%s",
			strlen(bodies[i]), bodies[i]);
		if (door_test_ask(&net, request, NULL, NULL) != 400)
			fail_msg("taken: %s", bodies[i]);
		assert_true(door_test_quiet(&net));
	}
}

static void test_fault_61_content_types(void **state)
{
	static const struct {
		const char *type;
		int json, form;
	} cases[] = {{"application/json", 200, 415}, {"application/json; charset=utf-8", 200, 415},
		{"APPLICATION/JSON", 200, 415}, {"application/json;", 200, 415}, {"", 415, 415},
		{"text/plain", 415, 415}, {"text/json", 415, 415}, {"application/jsonp", 415, 415},
		{"application/json, text/plain", 415, 415}, {"application/x-www-form-urlencoded", 415, 200},
		{"multipart/form-data; boundary=x", 415, 415}, {"application/xml", 415, 415},
		{"text/html;application/json", 415, 415}, {"application/ json", 415, 415},
		{"application/vnd.api+json", 415, 415}};
	char request[1024];
	int got;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		snprintf(request, sizeof(request),
			"POST /v1/outcomes HTTP/1.1\r\n" HOST KEY "%s%s%sContent-Length: 2\r\n\r\n{}",
			*cases[i].type ? "Content-Type: " : "", cases[i].type, *cases[i].type ? "\r\n" : "");
		got = status_of(request);
		if (got != cases[i].json)
			fail_msg("%d for JSON as \"%s\"", got, cases[i].type);
		snprintf(request, sizeof(request),
			"POST /gates/7 HTTP/1.1\r\n" HOST KEY
			"%s%s%sContent-Length: 14\r\n\r\nanswer=approve",
			*cases[i].type ? "Content-Type: " : "", cases[i].type, *cases[i].type ? "\r\n" : "");
		got = status_of(request);
		if (got != cases[i].form && !(got == 303 && cases[i].form == 200))
			fail_msg("%d for a form as \"%s\"", got, cases[i].type);
	}
	/* A body where none is expected is not left in the connection for the next request. */
	assert_int_equal(
		status_of("GET /v1/runs HTTP/1.1\r\n" HOST KEY JSON "Content-Length: 2\r\n\r\n{}"), 400);
}

static void test_fault_64_compressed_requests(void **state)
{
	static const char *const codings[] = {
		"gzip", "deflate", "br", "zstd", "gzip, gzip", "x-gzip", "identity, gzip"};
	char request[512];

	(void)state;
	for (size_t i = 0; i < COUNT(codings); i++) {
		snprintf(request, sizeof(request),
			"POST /v1/outcomes HTTP/1.1\r\n" HOST KEY JSON
			"Content-Encoding: %s\r\nContent-Length: 2\r\n\r\n{}",
			codings[i]);
		assert_int_equal(door_test_ask(&net, request, NULL, NULL), 415);
		assert_true(door_test_quiet(&net));
	}
	assert_int_equal(status_of("POST /v1/outcomes HTTP/1.1\r\n" HOST KEY JSON
				   "Content-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}"),
		200);
}

/* --- 62 --- */

/* What two servers in a row could read differently: the answer is an error and the connection ends. */
static void test_fault_62_smuggling(void **state)
{
#define POST_ "POST /v1/freeze HTTP/1.1\r\n" HOST KEY JSON
#define TAIL "0\r\n\r\nGET /v1/runs HTTP/1.1\r\n" HOST KEY "\r\n"
	static const char *const corpus[] = {
		/* CL and TE */
		POST_ "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" TAIL,
		POST_ "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" TAIL,
		POST_ "Transfer-Encoding: chunked\r\n\r\n" TAIL,
		POST_ "transfer-encoding: CHUNKED\r\n\r\n" TAIL,
		POST_ "Transfer-Encoding: chunked, identity\r\n\r\n" TAIL,
		POST_ "Transfer-Encoding: xchunked\r\n\r\n" TAIL,
		POST_ "Transfer-Encoding:\tchunked\r\n\r\n" TAIL,
		POST_ "Transfer-Encoding: \x0b"
		      "chunked\r\n\r\n" TAIL,
		POST_ "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" TAIL,
		POST_ "Transfer-Encoding : chunked\r\n\r\n" TAIL,
		POST_ " Transfer-Encoding: chunked\r\n\r\n" TAIL,
		POST_ "X: y\r\n Transfer-Encoding: chunked\r\n\r\n" TAIL,
		POST_ "X: y\r\n\tContent-Length: 5\r\n\r\n" TAIL,
		POST_ "Transfer\x01-Encoding: chunked\r\n\r\n" TAIL,
		/* lengths */
		POST_ "Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}" TAIL,
		POST_ "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" TAIL,
		POST_ "Content-Length: +2\r\n\r\n{}" TAIL,
		POST_ "Content-Length: 2, 2\r\n\r\n{}" TAIL,
		POST_ "Content-Length: -1\r\n\r\n{}" TAIL,
		POST_ "Content-Length: 0x2\r\n\r\n{}" TAIL,
		POST_ "Content-Length: 2 2\r\n\r\n{}" TAIL,
		POST_ "Content-Length: \r\n\r\n{}" TAIL,
		POST_ "Content-Length: 18446744073709551618\r\n\r\n{}" TAIL,
		POST_ "Content-Length:2\x0c\r\n\r\n{}" TAIL,
		/* bare LF and CR, everywhere */
		"GET /v1/runs HTTP/1.1\n" HOST KEY "\r\n",
		"GET /v1/runs HTTP/1.1\r\nHost: localhost\n" KEY "\r\n",
		"GET /v1/runs HTTP/1.1\r\n" HOST "Authorization: Bearer k1\n\r\n",
		"GET /v1/runs HTTP/1.1\r\n" HOST "Authorization: Bearer k1\n\n",
		"GET /v1/runs HTTP/1.1\r\n" HOST KEY "\n",
		"GET /v1/runs HTTP/1.1\nHost: localhost\nAuthorization: Bearer k1\n\n",
		POST_ "X: a\nContent-Length: 5\r\n\r\n" TAIL,
		POST_ "X: a\rContent-Length: 5\r\n\r\n" TAIL,
		POST_ "X: a\n\r\nContent-Length: 5\r\n\r\n" TAIL,
		POST_ "X: \nContent-Length: 5\r\n\r\n" TAIL,
		POST_ "X:\nY: z\r\n\r\n" TAIL,
		"\nGET /v1/runs HTTP/1.1\nHost: localhost\nAuthorization: Bearer k1\n\n",
		/* whose request it is */
		"POST /v1/freeze HTTP/1.1\r\n" HOST "Host: evil.example\r\n" KEY
		"Content-Length: 0\r\n\r\n" TAIL,
		"POST /v1/freeze HTTP/1.1\r\n" KEY "Content-Length: 0\r\n\r\n" TAIL,
		POST_ "Authorization: Bearer k2\r\nContent-Length: 0\r\n\r\n" TAIL,
		POST_ "Upgrade: h2c\r\n\r\n" TAIL,
	};

	(void)state;
	for (size_t i = 0; i < COUNT(corpus); i++) {
		int fd = door_test_connect(&net), status;

		door_test_send(fd, corpus[i]);
		status = door_test_read(fd, NULL, NULL);
		if (status != 400 && status != 411 && status != 413 && status != 0)
			fail_msg("case %zu was answered with %d", i, status);
		assert_true(door_test_closed(fd));
		assert_true(door_test_quiet(&net));
		close(fd);
	}
}

/* The same lines where nothing is wrong with them: also one behind the other, and with blanks round a value. */
static void test_heads_that_are_well_formed(void **state)
{
	(void)state;
	assert_int_equal(status_of("GET /v1/runs HTTP/1.1\r\n" HOST KEY "\r\n"), 200);
	assert_int_equal(
		status_of(
			"GET /v1/runs HTTP/1.1\r\nHost:localhost\r\nX:\r\nAuthorization:  Bearer k1\r\n\r\n"),
		200);
	assert_int_equal(status_of(POST_ "Content-Length: 2\r\n\r\n{}"), 200);
	assert_int_equal(status_of("\r\nGET /v1/health HTTP/1.1\r\n" HOST "\r\n"), 200);
}

static void test_two_requests_at_once(void **state)
{
	int fd = door_test_connect(&net);

	(void)state;
	door_test_send(fd, POST_ "Content-Length: 2\r\n\r\n{}GET /v1/runs HTTP/1.1\r\n" HOST KEY "\r\n");
	for (int i = 0; i < 2; i++) {
		struct wire_door_request f = door_test_request(&net);

		assert_true(base_str_is(f.op, i ? "runs" : "freeze"));
		door_test_reply(&net, f.req, 200, "", "{}");
		assert_int_equal(door_test_read(fd, NULL, NULL), 200);
	}
	close(fd);
}

/* --- 63 --- */

/* Thousands that send a byte now and then: others are served, and what they hold is bounded. */
static void test_fault_63_slowloris(void **state)
{
	static const char body_head[] = "alhost\r\n" KEY "\r\n";
	enum { SLOW = 3000, ROOM = 200 };
	static int fd[SLOW];
	struct rlimit files = {8192, 8192}, was;
	struct door_test t;
	long before;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	if (was.rlim_max < files.rlim_max)
		skip();
	files.rlim_max = was.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	door_test_start(&t, "network", "{\"connections\":200,\"head_ms\":60000}", NULL);
	before = door_test_rss(&t);
	for (int i = 0; i < SLOW; i++) {
		fd[i] = door_test_connect(&t);
		(void)!send(fd[i], "GET /v1/runs HTTP/1.1\r\nHost: loc", 32, MSG_NOSIGNAL);
		/* Some have a body to come, for ever. */
		if (i % 3 == 0)
			(void)!send(fd[i], body_head, sizeof(body_head) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (i % 100 != 99)
			continue;
		for (int k = 0; k <= i; k += 7)
			(void)!send(fd[k], "a", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		/* Somebody who means well. */
		{
			int good = door_test_connect(&t);
			struct wire_door_request f;

			door_test_send(good, "GET /v1/flows HTTP/1.1\r\n" HOST KEY "\r\n");
			do {
				f = door_test_request(&t);
				door_test_reply(&t, f.req, 200, "", "{}");
			} while (!base_str_is(f.op, "flows"));
			assert_int_equal(door_test_read(good, NULL, NULL), 200);
			close(good);
		}
	}
	/* A pool for each connection that it has room for, not for each that came. */
	assert_true(door_test_rss(&t) - before < (long)(ROOM + 128) * 64 + (8 << 10));
	for (int i = 0; i < SLOW; i++)
		close(fd[i]);
	door_test_stop(&t);
	(void)setrlimit(RLIMIT_NOFILE, &was);
}

/* --- rates --- */

static int from(const struct door_test *t, const char *address)
{
	struct base_str head, body;
	char request[512];
	int status;

	snprintf(request, sizeof(request), "GET /v1/runs HTTP/1.1\r\n" HOST "X-Forwarded-For: %s\r\n\r\n",
		address);
	status = door_test_ask(t, request, &head, &body);
	if (status == 429)
		assert_true(has(head, "Retry-After: ") && has(body, "too many requests"));
	return status;
}

/* No credential: 401 stands for let through by the rate. A token comes back after 1,000 s: not in this test. */
static void test_rates_of_addresses(void **state)
{
	char address[64];
	struct door_test t;
	int through = 0;
	long before;

	(void)state;
	door_test_start_with(&t, "network",
		",\"proxies\":[\"127.0.0.1\"],\"limits\":{\"connections\":100},\"rate\":{\"per_second\":1,"
		"\"burst\":3}");
	for (int i = 0; i < 3; i++)
		assert_int_equal(from(&t, "192.0.2.1"), 401);
	assert_int_equal(from(&t, "192.0.2.1"), 429);
	assert_int_equal(from(&t, "192.0.2.2"), 401);
	/* What a client makes up stands before what the proxy adds. */
	assert_int_equal(from(&t, "198.51.100.7, 192.0.2.1"), 429);
	/* IPv6: the first 64 bits. */
	for (int i = 0; i < 3; i++) {
		snprintf(address, sizeof(address), "2001:db8::%x", i + 1);
		assert_int_equal(from(&t, address), 401);
	}
	assert_int_equal(from(&t, "2001:db8::ffff:ffff:ffff:ffff"), 429);
	assert_int_equal(from(&t, "2001:db8:0:1::1"), 401);
	/* This machine has no limit. */
	for (int i = 0; i < 10; i++)
		assert_int_equal(from(&t, "127.0.0.1"), 401);
	/* Ever new addresses: no memory, and no more than the table has tokens for. */
	before = door_test_rss(&t);
	for (int i = 0; i < 6000; i++) {
		snprintf(address, sizeof(address), "10.%d.%d.%d", i / 65536, i / 256 % 256, i % 256);
		through += from(&t, address) == 401;
	}
	assert_true(door_test_rss(&t) - before < 2 << 10);
	assert_true(through > 2000);
	door_test_stop(&t);
}

/* --- secure: TLS, or a proxy that speaks it --- */

static void test_secure_cookies_and_origins(void **state)
{
#define FROM(cookie, origin)                                                                                 \
	"POST /v1/freeze HTTP/1.1\r\n" HOST "Cookie: " cookie "\r\nOrigin: " origin "\r\n\r\n"
	struct door_test was = net;
	struct base_str head;
	struct wire_door_request f;
	int fd;

	(void)state;
	door_test_start_with(&net, "network", ",\"proxies\":[\"127.0.0.1\"]");
	assert_int_equal(door_test_ask(&net, FROM("aios_session=a", "https://localhost"), &head, NULL), 401);
	assert_true(has(head, "Strict-Transport-Security: max-age="));
	assert_int_equal(door_test_ask(&net, FROM("__Host-aios=a", "http://localhost"), NULL, NULL), 403);
	assert_int_equal(
		door_test_ask(&net, FROM("__Host-aios=a; __Host-aios=b", "https://localhost"), NULL, NULL),
		400);
	fd = door_test_connect(&net);
	door_test_send(fd, FROM("x=1; __Host-aios=good; aios_session=bad", "https://localhost"));
	f = door_test_request(&net);
	assert_true(f.credential == 3 && base_str_is(f.token, "good"));
	door_test_reply(&net, f.req, 200, "", "{}");
	assert_int_equal(door_test_read(fd, NULL, NULL), 200);
	close(fd);
	door_test_stop(&net);
	net = was;
}

static int start(void **state)
{
	(void)state;
	door_test_start(&net, "network", "{\"head_ms\":10000,\"body_ms\":10000}", NULL);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	door_test_stop(&net);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fault_56_csrf_and_frames),
		cmocka_unit_test(test_fault_60_duplicate_keys),
		cmocka_unit_test(test_fault_61_content_types),
		cmocka_unit_test(test_fault_62_smuggling),
		cmocka_unit_test(test_heads_that_are_well_formed),
		cmocka_unit_test(test_two_requests_at_once),
		cmocka_unit_test(test_fault_63_slowloris),
		cmocka_unit_test(test_fault_64_compressed_requests),
		cmocka_unit_test(test_rates_of_addresses),
		cmocka_unit_test(test_secure_cookies_and_origins),
	};

	return cmocka_run_group_tests_name("hostile", tests, start, stop);
}
