#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "base/check.h"
#include "door/door_int.h"

enum {
	POOL = 16 << 10,
	DISCARD_MAX =
		256
		<< 20, /* a body over its limit is read on up to here, so that the client reads the answer */
	BODY_RATE = 16 << 10, /* bytes a second that a body must keep up after body_ms */
	ANSWER_MS = 60000,
	BEAT_MS = 15000,
	PATIENCE_MS = 2000, /* after this, a waiting client is watched for leaving */
};

int64_t door_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* --- connections: those that wait for a request, and those that are served --- */

static void link_conn(struct door *d, struct door_conn *c, bool waiting)
{
	struct door_conn **head = waiting ? &d->conns : &d->served;

	c->waiting = waiting;
	c->prev = NULL;
	c->next = *head;
	if (c->next)
		c->next->prev = c;
	*head = c;
	if (waiting && !d->conns_last)
		d->conns_last = c;
}

static void unlink_conn(struct door *d, struct door_conn *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else if (c->waiting)
		d->conns = c->next;
	else
		d->served = c->next;
	if (c->next)
		c->next->prev = c->prev;
	if (d->conns_last == c)
		d->conns_last = c->prev;
}

static void move(struct door *d, struct door_conn *c, bool waiting)
{
	if (!c || c->waiting == waiting)
		return;
	unlink_conn(d, c);
	link_conn(d, c, waiting);
}

static void deadline(struct door_req *q, int64_t ms)
{
	if (q->conn)
		q->conn->deadline_ms = ms > 0 ? door_now_ms() + ms : 0;
}

/* --- aiosd --- */

static void set_credential(const struct door_req *q, struct wire_door_request *f)
{
	if (q->head.authorization) {
		f->credential = 2;
		f->token = base_str_of(q->head.authorization + 7);
	} else if (q->door->config.kind == DOOR_LOCAL) {
		f->credential = 1;
		f->uid = q->conn ? q->conn->uid : UINT32_MAX;
	} else if (q->head.cookie.len) {
		f->credential = 3;
		f->token = q->head.cookie;
	}
}

enum { AGENT_MAX = 200 };

/* Where it comes from: the address that counts, what the browser calls itself. */
static void set_client(const struct door_req *q, char address[INET6_ADDRSTRLEN], struct wire_door_request *f)
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	bool network = q->door->config.kind == DOOR_NETWORK && q->conn && q->conn->peer;
	uint8_t key[16] = {0};

	if (network) {
		(void)door_rate_address(&q->door->config, q->conn->peer, q->head.forwarded_for, key);
		if (memcmp(key, mapped, sizeof(mapped)) == 0)
			f->address = base_str_of(inet_ntop(AF_INET, key + 12, address, INET6_ADDRSTRLEN));
		else
			f->address = base_str_of(inet_ntop(AF_INET6, key, address, INET6_ADDRSTRLEN));
	}
	f->host = base_str_of(q->head.host);
	f->agent = base_str_of(q->head.user_agent);
	if (f->agent.len > AGENT_MAX)
		f->agent.len = AGENT_MAX;
}

/* Hands the request over. 0, or a refusal in q->fail. */
static int ask(struct door_req *q)
{
	struct door *d = q->door;
	struct wire_door_request f = {.req = door_req_id(q), .op = base_str_of(q->match.route->name)};
	char address[INET6_ADDRSTRLEN] = "";
	const char *extra = NULL;
	struct base_err err;

	if (q->match.op == WIRE_OP_EVENTS && !q->head_only && q->head.accept &&
		strstr(q->head.accept, "text/event-stream"))
		extra = "stream";
	base_buf_clear(&d->scratch);
	if (door_params(&q->match, extra, &d->pairs, &d->scratch, &err) < 0) {
		door_refuse(&q->fail, 400, "invalid", "%s", err.text);
		return -1;
	}
	f.params = base_buf_view(&d->scratch);
	f.body = base_buf_view(&q->body);
	f.idempotency_key = base_str_of(q->head.idempotency_key);
	f.last_event_id = base_str_of(q->head.last_event_id);
	set_credential(q, &f);
	set_client(q, address, &f);
	if (f.credential == 0 && q->match.route->auth != WIRE_AUTH_NONE) {
		door_refuse(&q->fail, 401, "unauthenticated",
			"this needs a key (Authorization: Bearer) or a session");
		return -1;
	}
	wire_door_request_put(wire_conn_begin(d->wire, WIRE_DOOR_REQUEST), &f);
	if (wire_conn_end(d->wire) < 0) {
		door_refuse(&q->fail, 503, "busy", "aiosd does not keep up; try again");
		return -1;
	}
	return 0;
}

static void tell_gone(struct door_req *q)
{
	struct door *d = q->door;
	struct wire_door_gone f = {.req = door_req_id(q)};

	wire_door_gone_put(wire_conn_begin(d->wire, WIRE_DOOR_GONE), &f);
	if (wire_conn_end(d->wire) < 0)
		return; /* aiosd is behind; its answer will find nobody */
}

/* A suspended connection is not read: leaving is seen here. */
static void watch(struct door_req *q)
{
	struct epoll_event ev = {.events = EPOLLRDHUP, .data.u64 = door_req_id(q)};

	if (!q->watched && q->conn && epoll_ctl(q->door->gone_epoll, EPOLL_CTL_ADD, q->conn->fd, &ev) == 0)
		q->watched = true;
}

static void unwatch(struct door_req *q)
{
	if (q->watched && q->conn)
		epoll_ctl(q->door->gone_epoll, EPOLL_CTL_DEL, q->conn->fd, NULL);
	q->watched = false;
}

void door_http_resume(struct door_req *q)
{
	if (!q->suspended)
		return;
	q->suspended = false;
	q->door->resumed = true;
	MHD_resume_connection(q->mhd);
}

static void suspend(struct door_req *q)
{
	q->suspended = true;
	MHD_suspend_connection(q->mhd);
}

/* --- the request arrives --- */

static void *on_target(void *cls, const char *target, struct MHD_Connection *mhd)
{
	struct door_req *q = door_req_new(cls);
	const union MHD_ConnectionInfo *info;

	if (!q)
		return NULL;
	q->mhd = mhd;
	info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	q->conn = info ? info->socket_context : NULL;
	base_buf_cstr(&q->target, target);
	return q;
}

static enum MHD_Result queue(struct door_req *q)
{
	enum MHD_Result ok;

	if (!q->response)
		return MHD_NO;
	ok = MHD_queue_response(q->mhd, q->status, q->response);
	MHD_destroy_response(q->response);
	q->response = NULL;
	return ok;
}

static enum MHD_Result refuse(struct door_req *q)
{
	if (door_answer_fail(q) < 0)
		return MHD_NO;
	q->state = REQ_READY;
	deadline(q, ANSWER_MS);
	return queue(q);
}

static bool target_plain(struct base_str s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] <= 0x20 || (unsigned char)s.ptr[i] >= 0x7f)
			return false;
	return s.len > 0;
}

/* Over its limit; before anything else is looked at. */
static void judge_rate(struct door_req *q)
{
	struct door *d = q->door;
	uint8_t address[16];
	int64_t ms;

	if (d->config.kind != DOOR_NETWORK || !q->conn ||
		!door_rate_address(&d->config, q->conn->peer, q->head.forwarded_for, address))
		return;
	ms = door_rate_take(&d->buckets, &d->config, address, door_now_ms());
	if (ms == 0)
		return;
	door_refuse(&q->fail, 429, "busy", "too many requests from this address");
	q->fail.retry_ms = ms;
}

static void judge(struct door_req *q, const char *method, const char *version)
{
	struct base_str target = base_buf_view(&q->target);
	bool unsafe = strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0;
	int r;

	memset(&q->match, 0, offsetof(struct door_match, allow) + 1);
	door_head_read(q->mhd, &q->door->config, method, version, &q->head);
	q->head_only = strcmp(method, "HEAD") == 0;
	r = door_route(base_str_of(method), target, &q->match);
	judge_rate(q);
	if (q->fail.status == 0)
		door_head_judge(&q->head, &q->door->config, r == 0 ? q->match.route : NULL, unsafe, &q->fail);
	if (q->fail.status != 0)
		return;
	if (!target_plain(target)) {
		door_refuse(
			&q->fail, 400, "invalid", "the request target has characters that it cannot have");
	} else if (r == -ENOENT) {
		door_refuse(&q->fail, 404, "not_found", "there is nothing at this path; see /openapi.json");
	} else if (r == -EPERM) {
		door_refuse(&q->fail, 405, "method", "this path takes %s", q->match.allow);
		q->fail.allow = q->match.allow;
	}
}

static enum MHD_Result on_head(struct door_req *q, const char *method, const char *version)
{
	uint64_t len = 0;

	judge(q, method, version);
	q->state = REQ_BODY;
	if (q->head.content_length && base_str_u64(base_str_of(q->head.content_length), &len) < 0)
		len = UINT64_MAX;
	if (q->fail.status != 0 && len > DISCARD_MAX)
		q->fail.close = true;
	if (q->fail.status != 0 && (q->fail.close || q->head.expect))
		return refuse(q);
	deadline(q, q->door->config.body_ms +
			    (int64_t)(len <= DISCARD_MAX ? len : DISCARD_MAX) / BODY_RATE * 1000);
	return MHD_YES;
}

static enum MHD_Result on_piece(struct door_req *q, const char *data, size_t len)
{
	q->received += len;
	if (q->received > DISCARD_MAX)
		return MHD_NO;
	if (q->fail.status != 0)
		return MHD_YES;
	if (q->received > q->match.route->body_max) {
		door_refuse(&q->fail, 413, "too_large", "%s %s takes at most %u bytes",
			q->match.route->method, q->match.route->path, q->match.route->body_max);
		base_buf_done(&q->body);
		base_buf_init(&q->body, WIRE_BODY_MAX);
		return MHD_YES;
	}
	base_buf_put(&q->body, data, len);
	return base_buf_failed(&q->body) ? MHD_NO : MHD_YES;
}

static void check_json(struct door_req *q)
{
	struct base_json *doc;
	struct base_err err;
	const char *at;
	unsigned line, column;
	int r = base_json_parse(base_buf_view(&q->body), &doc, &err);

	if (r == 0) {
		base_json_free(doc);
		return;
	}
	door_refuse(
		&q->fail, r == -ENOMEM ? 503 : 400, r == -ENOMEM ? "busy" : "invalid", "body: %s", err.text);
	at = strstr(err.text, "line ");
	if (at && sscanf(at, "line %u, column %u", &line, &column) == 2) {
		q->fail.line = line;
		q->fail.column = column;
	}
}

static void convert_form(struct door_req *q)
{
	bool plain = q->match.op == WIRE_OP_SIGN_IN || q->match.op == WIRE_OP_SECURITY_ACT;
	struct door *d = q->door;
	struct base_err err;

	base_buf_clear(&d->scratch);
	if ((plain ? door_form_plain : door_form_json)(
		    base_buf_view(&q->body), &d->pairs, &d->scratch, &err) < 0) {
		door_refuse(&q->fail, 400, "invalid", "%s", err.text);
		return;
	}
	base_buf_clear(&q->body);
	base_buf_str(&q->body, base_buf_view(&d->scratch));
}

static enum MHD_Result on_complete_request(struct door_req *q)
{
	struct door *d = q->door;

	if (q->fail.status == 0 && q->body.len > 0 && q->match.route->body == WIRE_BODY_JSON)
		check_json(q);
	else if (q->fail.status == 0 && q->match.route->body == WIRE_BODY_FORM)
		convert_form(q);
	if (q->fail.status == 0 && q->match.op == WIRE_OP_OPENAPI) {
		if (door_answer(q, 200, "application/json", base_buf_view(&d->openapi)) < 0)
			return MHD_NO;
		q->state = REQ_READY;
		return queue(q);
	}
	if (q->fail.status == 0 && q->match.op == WIRE_OP_ASSET) {
		if (door_answer(q, 200, "text/javascript; charset=utf-8", door_script()) < 0)
			return MHD_NO;
		q->state = REQ_READY;
		return queue(q);
	}
	if (q->fail.status == 0 && d->stopping)
		door_refuse(&q->fail, 503, "stopping", "aios is stopping");
	if (q->fail.status != 0 || ask(q) < 0)
		return refuse(q);
	q->state = REQ_SENT;
	q->sent_ms = door_now_ms();
	move(d, q->conn, false);
	deadline(q, 0);
	d->in_flight++;
	suspend(q);
	return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
	const char *version, const char *upload, size_t *upload_size, void **req)
{
	struct door_req *q = *req;

	(void)cls;
	(void)mhd;
	(void)url;
	if (!q || base_buf_failed(&q->target))
		return MHD_NO;
	switch (q->state) {
	case REQ_NEW:
		return on_head(q, method, version);
	case REQ_BODY:
		if (*upload_size > 0) {
			size_t n = *upload_size;

			*upload_size = 0;
			return on_piece(q, upload, n);
		}
		return on_complete_request(q);
	case REQ_READY:
	case REQ_STREAM:
		return queue(q);
	default:
		return MHD_NO;
	}
}

static void on_done(void *cls, struct MHD_Connection *mhd, void **req, enum MHD_RequestTerminationCode why)
{
	struct door_req *q = *req;
	struct door *d = cls;

	(void)mhd;
	(void)why;
	if (!q)
		return;
	unwatch(q);
	if (q->state == REQ_SENT || (q->state == REQ_STREAM && !q->ended))
		tell_gone(q);
	if (q->sent_ms != 0) {
		BASE_CHECK(d->in_flight > 0);
		d->in_flight--;
	}
	deadline(q, d->config.head_ms);
	move(d, q->conn, true);
	door_req_free(q);
	*req = NULL;
}

/* --- connections --- */

static uint32_t peer_uid(int fd)
{
	struct ucred cred = {.uid = UINT32_MAX};
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || len != sizeof(cred))
		return UINT32_MAX;
	return cred.uid;
}

/* Who is served is not ended for room; of those that wait for a request, or send one slowly, who does so longest. */
static void make_room(struct door *d)
{
	struct door_conn *c = d->conns_last;

	if (d->conn_count <= d->config.connections || !c)
		return;
	unlink_conn(d, c);
	link_conn(d, c, false); /* it is on its way out, and not asked again */
	c->deadline_ms = 0;
	shutdown(c->fd, SHUT_RDWR);
}

static void on_connection(
	void *cls, struct MHD_Connection *mhd, void **ctx, enum MHD_ConnectionNotificationCode what)
{
	struct door *d = cls;
	struct door_conn *c = *ctx;

	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);

		c = calloc(1, sizeof(*c));
		*ctx = c;
		if (!c || !info)
			return;
		c->mhd = mhd;
		c->fd = info->connect_fd;
		c->uid = d->config.kind == DOOR_LOCAL ? peer_uid(c->fd) : UINT32_MAX;
		info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
		c->peer = info ? info->client_addr : NULL;
		c->deadline_ms = door_now_ms() + d->config.head_ms;
		d->conn_count++;
		link_conn(d, c, true);
		make_room(d);
	} else if (c) {
		unlink_conn(d, c);
		d->conn_count--;
		free(c);
		*ctx = NULL;
	}
}

/* --- answers from aiosd --- */

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct door_req *q = cls;
	size_t n = q->stream.len - q->stream_at;

	(void)pos;
	if (q->gone)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (n == 0 && q->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (n == 0) {
		suspend(q);
		watch(q);
		return 0;
	}
	if (n > max)
		n = max;
	memcpy(buf, q->stream.ptr + q->stream_at, n);
	q->stream_at += n;
	if (q->stream_at == q->stream.len) {
		base_buf_clear(&q->stream);
		q->stream_at = 0;
	}
	return (ssize_t)n;
}

static void stream_put(struct door_req *q, struct base_str data)
{
	if (q->gone)
		return;
	if (q->stream_at > q->stream.len / 2) {
		base_buf_consume(&q->stream, q->stream_at);
		q->stream_at = 0;
	}
	base_buf_str(&q->stream, data);
	q->beat_ms = door_now_ms();
	if (base_buf_failed(&q->stream)) {
		q->gone = true;
		if (q->conn)
			shutdown(q->conn->fd, SHUT_RDWR);
	}
	door_http_resume(q);
}

static int open_stream(struct door_req *q, struct base_str first)
{
	int r = door_answer_stream(q, read_stream);

	q->state = REQ_STREAM;
	base_buf_cstr(&q->stream, ":\n\n"); /* so that the headers leave at once */
	base_buf_str(&q->stream, first);
	q->beat_ms = door_now_ms();
	return r;
}

static void cannot_show(struct door_req *q, int r)
{
	door_refuse(&q->fail, r == -ENOMEM ? 503 : 500, "internal", "the answer cannot be shown");
	q->state = door_answer_fail(q) == 0 ? REQ_READY : REQ_CLOSE;
}

static int on_reply(struct door *d, struct base_str body)
{
	struct wire_door_reply f;
	struct door_req *q;
	int r;

	if (wire_door_reply_get(body, &f) < 0)
		return -EBADMSG;
	q = door_req_find(d, f.req);
	if (!q || q->state != REQ_SENT)
		return 0;
	unwatch(q);
	if (f.status == 200 && base_str_starts(f.content_type, BASE_STR("text/event-stream"))) {
		r = open_stream(q, f.body);
	} else {
		r = door_answer_reply(q, &f);
		q->state = REQ_READY;
		deadline(q, ANSWER_MS + (int64_t)f.body.len / BODY_RATE * 1000);
	}
	if (r < 0)
		cannot_show(q, r);
	door_http_resume(q);
	return 0;
}

int door_http_frame(struct door *d, unsigned type, struct base_str body)
{
	struct wire_door_chunk f;
	struct door_req *q;

	if (type == WIRE_DOOR_REPLY)
		return on_reply(d, body);
	if (type != WIRE_DOOR_CHUNK || wire_door_chunk_get(body, &f) < 0)
		return -EBADMSG;
	q = door_req_find(d, f.req);
	if (q && q->state == REQ_SENT && q->match.op == WIRE_OP_EVENTS) {
		/* A stream may begin with its first piece. */
		int r = open_stream(q, BASE_STR_NONE);

		unwatch(q);
		if (r < 0)
			cannot_show(q, r);
	}
	if (!q || q->state != REQ_STREAM)
		return 0;
	if (f.end)
		q->ended = true;
	stream_put(q, f.data);
	return 0;
}

/* --- time
 * ----------------------------------------------------------------------------------------------------------
 */

static void drop(struct door_req *q)
{
	q->gone = true;
	if (q->state == REQ_SENT) {
		tell_gone(q);
		q->state = REQ_CLOSE;
	}
	door_http_resume(q);
}

void door_http_gone(struct door *d)
{
	struct epoll_event ev[64];
	int i, n = epoll_wait(d->gone_epoll, ev, 64, 0);

	for (i = 0; i < n; i++) {
		struct door_req *q = door_req_find(d, ev[i].data.u64);

		if (!q)
			continue;
		unwatch(q);
		drop(q);
	}
}

void door_http_tick(struct door *d, int64_t now)
{
	struct door_conn *c;
	uint32_t i;

	for (i = 0; i < 2; i++)
		for (c = i ? d->conns : d->served; c; c = c->next)
			if (c->deadline_ms != 0 && now >= c->deadline_ms) {
				c->deadline_ms = 0;
				shutdown(c->fd, SHUT_RDWR);
			}
	for (i = 0; i < d->slot_count; i++) {
		struct door_req *q = d->slots[i];

		if (!q)
			continue;
		if (q->state == REQ_SENT && now - q->sent_ms >= PATIENCE_MS)
			watch(q);
		if (q->state == REQ_STREAM && !q->ended && now - q->beat_ms >= BEAT_MS)
			stream_put(q, BASE_STR(":\n\n"));
	}
}

void door_http_quiesce(struct door *d)
{
	uint32_t i;

	MHD_quiesce_daemon(d->mhd);
	for (i = 0; i < d->slot_count; i++) {
		struct door_req *q = d->slots[i];

		if (q && q->state == REQ_STREAM) {
			q->ended = true;
			door_http_resume(q);
		}
	}
}

/* TLS 1.2 and 1.3 with what is not broken: an exchange of keys that is forward secret, and ciphers that authenticate. */
static const char tls_priorities[] =
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:"
	"-CIPHER-ALL:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:-MAC-ALL:+AEAD:"
	"%SERVER_PRECEDENCE";
enum { SLACK = 128 }; /* connections beyond the limit that are on their way out */

/* A terminated copy, which libmicrohttpd keeps pointers to. */
static char *text_of(struct base_str s)
{
	return s.len > 0 ? strndup(s.ptr, s.len) : NULL;
}

static struct MHD_Daemon *start_daemon(struct door *d, int listen_fd)
{
	char *cert = text_of(d->config.cert), *key = text_of(d->config.key);
	struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, cert},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, key},
		{MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)tls_priorities},
		{MHD_OPTION_END, 0, NULL}};
	unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (cert ? MHD_USE_TLS : 0);

	if (!cert != !key)
		return NULL;
	return MHD_start_daemon(flags, 0, NULL, NULL, on_request, d, MHD_OPTION_LISTEN_SOCKET,
		(MHD_socket)listen_fd, MHD_OPTION_CONNECTION_LIMIT, d->config.connections + SLACK,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned)(d->config.idle_ms / 1000), MHD_OPTION_NOTIFY_CONNECTION, on_connection, d,
		MHD_OPTION_NOTIFY_COMPLETED, on_done, d, MHD_OPTION_URI_LOG_CALLBACK, on_target, d,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, cert ? tls : tls + 3, MHD_OPTION_END);
}

int door_http_start(struct door *d, int listen_fd, struct base_err *err)
{
	const union MHD_DaemonInfo *info;
	int flags = fcntl(listen_fd, F_GETFL);

	if (flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return base_err_set(err, -errno, "listening socket: %s", strerror(errno));
	d->gone_epoll = epoll_create1(EPOLL_CLOEXEC);
	if (d->gone_epoll < 0)
		return base_err_set(err, -errno, "epoll: %s", strerror(errno));
	d->mhd = start_daemon(d, listen_fd);
	info = d->mhd ? MHD_get_daemon_info(d->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (!info)
		return base_err_set(err, -EIO,
			d->config.cert.len > 0 ? "TLS does not start: the key does not fit the certificate, "
						 "or one of them is not PEM"
					       : "libmicrohttpd does not start");
	d->mhd_epoll = info->epoll_fd;
	return 0;
}
