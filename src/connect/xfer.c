#include "connect/xfer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { HEAD_MAX = 128 << 10, CONNECT_TIMEOUT_MS = 15000 };

/* --- which addresses are public --- */

static bool v4_public(uint32_t a)
{
	static const struct {
		uint32_t net, mask;
	} closed[] = {
		{0x00000000, 0xff000000}, {0x0a000000, 0xff000000}, {0x64400000, 0xffc00000},
		{0x7f000000, 0xff000000}, {0xa9fe0000, 0xffff0000}, {0xac100000, 0xfff00000},
		{0xc0000000, 0xffffff00}, {0xc0000200, 0xffffff00}, {0xc0586300, 0xffffff00},
		{0xc0a80000, 0xffff0000}, {0xc6120000, 0xfffe0000}, {0xc6336400, 0xffffff00},
		{0xcb007100, 0xffffff00}, {0xe0000000, 0xe0000000}, /* multicast, reserved, broadcast */
	};

	for (size_t i = 0; i < sizeof(closed) / sizeof(*closed); i++)
		if ((a & closed[i].mask) == closed[i].net)
			return false;
	return true;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool v6_public(const uint8_t *a)
{
	static const uint8_t zero[16];
	static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};

	if (memcmp(a, zero, 10) == 0 && a[10] == 0xff && a[11] == 0xff)
		return v4_public(be32(a + 12)); /* ::ffff:a.b.c.d */
	if (memcmp(a, nat64, 12) == 0)
		return v4_public(be32(a + 12));
	if (a[0] == 0x20 && a[1] == 0x02)
		return v4_public(be32(a + 2)); /* 6to4 */
	if (a[0] == 0x20 && a[1] == 0x01 && a[2] == 0 && a[3] == 0)
		return false;	      /* Teredo */
	return (a[0] & 0xe0) == 0x20; /* all that is global stands in 2000::/3 */
}

bool connect_address_public(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, addr, sizeof(in));
		return v4_public(ntohl(in.sin_addr.s_addr));
	}
	if (addr->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, addr, sizeof(in6));
		return v6_public(in6.sin6_addr.s6_addr);
	}
	return false;
}

static bool text_public(const char *ip)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, ip, &in.sin_addr) == 1)
		return connect_address_public((const struct sockaddr *)&in);
	if (inet_pton(AF_INET6, ip, &in6.sin6_addr) == 1)
		return connect_address_public((const struct sockaddr *)&in6);
	return false;
}

/* --- callbacks of libcurl --- */

/* The address that is about to be contacted, whatever name led to it. */
static curl_socket_t on_open(void *userdata, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct connect_xfer *x = userdata;

	(void)purpose;
	if (x->guarded && !connect_address_public(&a->addr)) {
		x->blocked = true;
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* Just before the request goes out, on a connection that may be an old one. */
static int on_request(void *userdata, char *ip, char *local_ip, int port, int local_port)
{
	struct connect_xfer *x = userdata;

	(void)local_ip;
	(void)port;
	(void)local_port;
	if (x->guarded && !text_public(ip)) {
		x->blocked = true;
		return CURL_PREREQFUNC_ABORT;
	}
	x->call->left = x->call->left || x->leaves;
	x->call->billed = x->call->billed || x->bills;
	return CURL_PREREQFUNC_OK;
}

static size_t on_body(char *data, size_t size, size_t count, void *userdata)
{
	struct connect_xfer *x = userdata;
	size_t len = size * count;
	long status = connect_xfer_status(x);

	if (x->on_data && status >= 200 && status < 300) {
		x->refused_data = !x->on_data(x->call, (struct base_str){data, len});
		return x->refused_data ? 0 : len;
	}
	base_buf_put(&x->body, data, len);
	return base_buf_failed(&x->body) ? 0 : len;
}

static size_t on_head(char *data, size_t size, size_t count, void *userdata)
{
	struct connect_xfer *x = userdata;
	struct base_str line = {data, size * count};

	if (base_str_starts(line, BASE_STR("HTTP/")))
		base_buf_clear(&x->head); /* of a reply before this one */
	base_buf_str(&x->head, line);
	return base_buf_failed(&x->head) ? 0 : line.len;
}

/* --- making one --- */

/* With libcurl's own parser, so that both see the same. */
int connect_host_of(const char *url, char *ret, size_t size, struct base_err *err)
{
	CURLU *u = curl_url();
	char *host = NULL, *user = NULL;
	int r = 0;

	if (!u)
		return base_err_set(err, -ENOMEM, "out of memory");
	if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
		curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK)
		r = base_err_set(err, -EINVAL, "not an address that can be contacted: %s", url);
	else if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK)
		r = base_err_set(err, -EINVAL,
			"an address must not carry a user name or password: keep it in a secret");
	else if (strlen(host) >= size)
		r = base_err_set(err, -EINVAL, "the host name is too long");
	else
		strcpy(ret, host);
	curl_free(host);
	curl_free(user);
	curl_url_cleanup(u);
	return r;
}

bool connect_is_loopback(const char *host)
{
	struct in_addr v4;

	return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
	       (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

static void set_options(struct connect_xfer *x, const char *url)
{
	long timeout =
		x->call->timeout_ms < CONNECT_TIMEOUT_MS ? (long)x->call->timeout_ms : CONNECT_TIMEOUT_MS;
	CURL *e = x->easy;

	curl_easy_setopt(e, CURLOPT_URL, url);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, timeout);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "aios/0.1");
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, x->error);
	curl_easy_setopt(e, CURLOPT_PRIVATE, x);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, x);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_head);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_open);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, x);
	curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_request);
	curl_easy_setopt(e, CURLOPT_PREREQDATA, x);
}

int connect_xfer_new(struct connect_call *call, struct base_str url, size_t body_max, struct base_err *err)
{
	struct base_str text = base_arena_dup(call->arena, url);
	struct connect_xfer *x = base_arena_alloc(call->arena, sizeof(*x));
	int r;

	if (!text.ptr || !x)
		return base_err_set(err, -ENOMEM, "out of memory");
	if (memchr(text.ptr, 0, text.len))
		return base_err_set(err, -EINVAL, "not an address that can be contacted");
	r = connect_host_of(text.ptr, x->host, sizeof(x->host), err);
	if (r < 0)
		return r;
	x->easy = curl_easy_init();
	if (!x->easy)
		return base_err_set(err, -ENOMEM, "out of memory");
	x->call = call;
	base_buf_init(&x->body, body_max);
	base_buf_init(&x->head, HEAD_MAX);
	set_options(x, text.ptr);
	call->xfer = x;
	return 0;
}

static void slist_free(struct curl_slist *list)
{
	for (struct curl_slist *s = list; s; s = s->next)
		sodium_memzero(s->data, strlen(s->data));
	curl_slist_free_all(list);
}

static void wipe_buf(struct base_buf *b)
{
	if (b->ptr)
		sodium_memzero(b->ptr, b->size);
}

void connect_xfer_free(struct connect_xfer *x)
{
	if (!x)
		return;
	if (x->running)
		curl_multi_remove_handle(connect_net_multi(x->call->c->net), x->easy);
	curl_easy_cleanup(x->easy);
	slist_free(x->headers);
	if (x->call->secret.value.len) { /* some servers send back what they were sent */
		wipe_buf(&x->body);
		wipe_buf(&x->head);
	}
	base_buf_done(&x->body);
	base_buf_done(&x->head);
}

struct base_str connect_xfer_host(const struct connect_xfer *x)
{
	return x ? base_str_of(x->host) : BASE_STR_NONE;
}

static bool is_token(struct base_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char ch = (unsigned char)s.ptr[i];

		if (ch <= ' ' || ch >= 127 || strchr("()<>@,;:\\\"/[]?={}", ch))
			return false;
	}
	return s.len > 0;
}

int connect_xfer_header(
	struct connect_xfer *x, struct base_str name, struct base_str value, struct base_err *err)
{
	struct base_buf line;
	struct curl_slist *list;

	if (!is_token(name))
		return base_err_set(
			err, -EINVAL, "\"%.*s\" cannot be the name of a header", BASE_STR_ARG(name));
	for (size_t i = 0; i < value.len; i++)
		if ((unsigned char)value.ptr[i] < ' ' && value.ptr[i] != '\t')
			return base_err_set(err, -EINVAL,
				"header %.*s: a value must not hold line breaks or other control "
				"characters",
				BASE_STR_ARG(name));
	base_buf_init(&line, 64 << 10);
	base_buf_printf(&line, "%.*s%s%.*s", BASE_STR_ARG(name), value.len ? ": " : ";", BASE_STR_ARG(value));
	base_buf_char(&line, 0);
	list = base_buf_failed(&line) ? NULL : curl_slist_append(x->headers, line.ptr);
	if (line.ptr)
		sodium_memzero(line.ptr, line.len);
	base_buf_done(&line);
	if (!list)
		return base_err_set(err, -ENOMEM, "header %.*s: out of memory", BASE_STR_ARG(name));
	x->headers = list;
	return 0;
}

void connect_xfer_post(struct connect_xfer *x, struct base_str body)
{
	curl_easy_setopt(x->easy, CURLOPT_POST, 1L);
	curl_easy_setopt(x->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
	curl_easy_setopt(x->easy, CURLOPT_POSTFIELDS, body.len ? body.ptr : "");
}

void connect_xfer_fresh(struct connect_xfer *x)
{
	curl_easy_setopt(x->easy, CURLOPT_FRESH_CONNECT, 1L);
	curl_easy_setopt(x->easy, CURLOPT_FORBID_REUSE, 1L);
}

void connect_xfer_ca(struct connect_xfer *x, struct base_str pem)
{
	struct curl_blob blob = {.data = (void *)(uintptr_t)pem.ptr, .len = pem.len, .flags = CURL_BLOB_COPY};

	if (pem.len)
		curl_easy_setopt(x->easy, CURLOPT_CAINFO_BLOB, &blob);
}

void connect_xfer_start(struct connect_xfer *x)
{
	if (x->headers)
		curl_easy_setopt(x->easy, CURLOPT_HTTPHEADER, x->headers);
	if (curl_multi_add_handle(connect_net_multi(x->call->c->net), x->easy) != CURLM_OK) {
		connect_fail(x->call, WIRE_RETRY, "busy", "%s: no memory for another connection", x->host);
		return;
	}
	x->running = true;
}

long connect_xfer_status(const struct connect_xfer *x)
{
	long status = 0;

	curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

uint32_t connect_xfer_retry_after_ms(const struct connect_xfer *x)
{
	curl_off_t seconds = 0;

	curl_easy_getinfo(x->easy, CURLINFO_RETRY_AFTER, &seconds);
	if (seconds <= 0)
		return 0;
	return seconds > 86400 ? 86400000u : (uint32_t)seconds * 1000;
}

/* --- what went wrong, in words --- */

struct reason {
	CURLcode code;
	bool final; /* another attempt would meet the same */
	const char *name, *text;
};

static const struct reason reasons[] = {
	{CURLE_COULDNT_RESOLVE_HOST, false, "unreachable",
		"its name does not resolve; check the name and this machine's "
		"DNS"},
	{CURLE_COULDNT_CONNECT, false, "unreachable",
		"nothing accepts a connection there; check the address and that "
		"the server runs"},
	{CURLE_OPERATION_TIMEDOUT, false, "timeout", "it did not answer in time"},
	{CURLE_PEER_FAILED_VERIFICATION, true, "tls",
		"its certificate cannot be trusted; check the host name and this "
		"machine's certificates"},
	{CURLE_SSL_CACERT_BADFILE, true, "tls",
		"this machine's certificates cannot be read; install ca-certificates"},
	{CURLE_SSL_CONNECT_ERROR, false, "tls", "the TLS handshake failed; check that the port speaks TLS"},
	{CURLE_URL_MALFORMAT, true, "invalid", "the address is malformed"},
	{CURLE_UNSUPPORTED_PROTOCOL, true, "invalid", "only http, https and the mail protocols are spoken"},
	{CURLE_TOO_MANY_REDIRECTS, true, "invalid", "it redirects more often than is followed"},
	{CURLE_GOT_NOTHING, false, "broken", "it closed the connection without an answer"},
	{CURLE_PARTIAL_FILE, false, "broken", "it closed the connection in the middle of its answer"},
	{CURLE_RECV_ERROR, false, "broken", "the connection broke while waiting for its answer"},
	{CURLE_SEND_ERROR, false, "broken", "the connection broke while sending"},
	{CURLE_WEIRD_SERVER_REPLY, false, "broken", "it answered with something that cannot be understood"},
	{CURLE_OUT_OF_MEMORY, false, "busy", "aios-connect is out of memory"},
};

static const struct reason *reason_of(CURLcode code)
{
	static const struct reason other = {CURLE_OK, false, "broken", NULL};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++)
		if (reasons[i].code == code)
			return &reasons[i];
	return &other;
}

void connect_fail_curl(struct connect_call *call, const char *host, CURLcode code, const char *detail)
{
	const struct reason *why = reason_of(code);
	enum wire_outcome outcome = connect_no_answer(call);
	struct base_err err = {0};

	if (outcome == WIRE_RETRY && why->final)
		outcome = WIRE_FAILED;
	base_err_set(&err, -EIO, "%s: %s%s%s%s", host, why->text ? why->text : "the transfer failed",
		detail[0] ? " (" : "", detail, detail[0] ? ")" : "");
	connect_fail_with(
		call, &(struct connect_problem){
			      .outcome = outcome,
			      .code = why->name,
			      .message = err.text,
			      .usage = call->billed ? BASE_STR("{\"unknown\":true}") : BASE_STR_NONE,
		      });
}

void connect_xfer_fail(struct connect_xfer *x, CURLcode code)
{
	struct connect_call *call = x->call;
	enum wire_outcome outcome;

	if (x->blocked) {
		connect_fail(call, WIRE_FAILED, "denied",
			"%s: leads to an address that is not public; only aios.yaml (http: allow_private) "
			"can allow that",
			x->host);
		return;
	}
	if (base_buf_failed(&x->body) || base_buf_failed(&x->head)) {
		outcome = connect_no_answer(call);
		connect_fail(call, outcome == WIRE_UNKNOWN ? outcome : WIRE_FAILED, "too_large",
			"%s: the answer is larger than %zu bytes", x->host, x->body.cap);
		return;
	}
	connect_fail_curl(call, x->host, code, x->error);
}
