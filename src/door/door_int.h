#pragma once

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/str.h"
#include "door/uri.h"
#include "wire/conn.h"
#include "wire/frames.h"
#include "wire/routes.h"

/*
 * What the files of this folder share. One thread, one loop (loop.c): the wire to aiosd and libmicrohttpd's
 * epoll.
 *
 * Invariants:
 *  1. The door decides nothing: what reaches aiosd is a request as received and a credential as presented.
 *  2. A request is in exactly one state; only REQ_SENT and REQ_STREAM have an id that aiosd knows.
 *  3. Every error that the door or aiosd answers is made in problem.c.
 *  4. What one client can make the door hold is bounded: by the connection's pool, the route's body limit,
 * and the stream's buffer; and a connection that makes no progress is closed.
 */

enum door_kind { DOOR_LOCAL, DOOR_NETWORK };
enum { DOOR_BUCKETS = 4096, DOOR_NAMES_MAX = 16, DOOR_REQUESTS_MAX = 1 << 16 };

/* From the setup frame: {"kind","port","hosts":[…],"origins":[…],"limits":{…},"attack":{…}}. */
struct door_config {
	enum door_kind kind;
	unsigned port;
	struct base_str hosts[DOOR_NAMES_MAX];	 /* allowed beside localhost, lower case, without port */
	struct base_str origins[DOOR_NAMES_MAX]; /* allowed beside the own one: scheme://host[:port] */
	unsigned host_count, origin_count;
	unsigned connections;	   /* most at once */
	int64_t idle_ms;	   /* without a byte, in either direction */
	int64_t head_ms;	   /* from the last answer to the end of the next request's headers */
	int64_t body_ms;	   /* for a body, and a second more for each 16 KiB of it */
	size_t stream_max;	   /* bytes that wait for a slow reader of events */
	struct base_str cert, key; /* PEM: TLS is spoken; empty: plain HTTP */
	bool secure;		   /* browsers speak TLS to it, or to a proxy before it */
	struct base_str proxies[DOOR_NAMES_MAX]; /* addresses whose X-Forwarded-For is believed */
	unsigned proxy_count;
	int64_t rate, burst;   /* requests a second of one address, and how many at once; 0: any */
	struct base_json *doc; /* what the views point to; freed by door_config_done */
};

/* One client connection. */
struct door_conn {
	struct door_conn *prev, *next;
	struct MHD_Connection *mhd;
	int fd;
	uint32_t uid; /* local door: of the peer; else UINT32_MAX */
	const struct sockaddr *peer;
	bool waiting;	     /* for a whole request: in the list of those */
	int64_t deadline_ms; /* boot clock; 0: none */
};

/* The headers that matter, one pass. */
struct door_head {
	const char *host, *origin, *fetch_site, *fetch_mode, *fetch_dest, *content_type, *authorization,
		*idempotency_key, *last_event_id, *accept, *forwarded_for;
	const char *content_length, *transfer_encoding, *content_encoding, *expect, *upgrade, *cookies,
		*user_agent;
	struct base_str cookie; /* the session's value, cut out of Cookie */
	unsigned count;
	const char *twice; /* a header that may not come twice but does */
	bool malformed;	   /* a name or a value with characters that it cannot have */
	bool cookie_twice;
	bool bare; /* a line of it did not end with CR LF */
};

/* Why a request is refused. status 0: it is not. */
struct door_fail {
	unsigned status;
	const char *code; /* one lower-case word */
	char detail[BASE_ERR_TEXT_MAX];
	uint32_t line, column; /* of a body that does not parse; 0: none */
	bool close;	       /* at once, without reading on */
	const char *allow;     /* 405 */
	int64_t retry_ms;      /* 429 */
};

enum door_req_state {
	REQ_FREE,
	REQ_NEW,    /* the request line is known */
	REQ_BODY,   /* headers judged, the body arrives */
	REQ_SENT,   /* suspended; aiosd has it */
	REQ_READY,  /* the answer is there */
	REQ_STREAM, /* events flow */
	REQ_CLOSE,  /* to be dropped without an answer */
};

struct door_req {
	struct door *door;
	struct door_conn *conn;
	struct MHD_Connection *mhd;
	enum door_req_state state;
	uint32_t slot, gen;
	struct base_buf target;
	struct base_buf body;
	struct door_match match;
	struct door_head head;
	struct door_fail fail;
	uint64_t received; /* bytes of body, the discarded ones too */
	int64_t sent_ms;   /* when aiosd got it */
	bool head_only;
	bool watched; /* in the gone epoll */
	bool suspended;
	bool ended;	  /* stream: no more will come */
	bool gone;	  /* the client left, or reads too slowly */
	size_t stream_at; /* what of the stream's buffer is out */
	int64_t beat_ms;  /* stream: last time that something was put into it */
	struct base_buf stream;
	struct MHD_Response *response;
	unsigned status;
};

/* Tokens of one address, in thousandths. */
struct door_bucket {
	uint8_t key[16];
	int64_t level, at_ms;
	bool used;
};
struct door_buckets {
	uint8_t secret[32]; /* so that nobody can choose where an address falls */
	struct door_bucket bucket[DOOR_BUCKETS];
};

struct door {
	struct door_config config;
	struct wire_conn *wire;
	struct MHD_Daemon *mhd;
	int mhd_epoll, gone_epoll;
	struct door_conn *conns; /* that wait for a request, who came last first */
	struct door_conn *conns_last;
	struct door_conn *served; /* the others */
	unsigned conn_count;
	struct door_buckets buckets;
	struct door_req **slots;
	uint32_t slot_count;
	uint32_t *free_slots;
	uint32_t free_count;
	unsigned in_flight; /* requests in REQ_SENT, REQ_READY or REQ_STREAM */
	bool resumed;	    /* libmicrohttpd has something to do */
	bool stopping;
	int64_t stop_ms;
	struct base_buf scratch;
	struct door_pairs pairs;
	char page_csp[256];
	struct base_buf openapi;
};

int64_t door_now_ms(void); /* boot clock */

/* --- config.c: from the setup frame */
int door_config_read(struct base_str json, struct door_config *ret, struct base_err *err)
	__attribute__((warn_unused_result));
void door_config_done(struct door_config *c);

/* --- head.c: what the headers must be */

/* Collects from a request. `version`: as libmicrohttpd has it, in its own buffer. */
void door_head_read(struct MHD_Connection *mhd, const struct door_config *c, const char *method,
	const char *version, struct door_head *ret);
/* The same by hand: each line, then the end. */
void door_head_add(struct door_head *h, const char *name, const char *value);
void door_head_end(struct door_head *h, const struct door_config *c);
/* Judges framing, Host, Origin and Sec-Fetch-*, the content type and length, and what has a form of its
 * own. Fills *fail (status 0: nothing to say against it). unsafe: the method may change something. */
void door_head_judge(const struct door_head *h, const struct door_config *c, const struct wire_route *route,
	bool unsafe, struct door_fail *fail);
/* cookie.c: how often a cookie of that name is in the header; *ret is its value if it is there once. */
int door_cookie(struct base_str header, struct base_str name, struct base_str *ret);
/* True when `host` (a Host header: name or address, with or without port) is one that this door answers for.
 */
bool door_host_allowed(const struct door_config *c, struct base_str host);
/* True when `origin` is the one that `host` names, or configured. */
bool door_origin_allowed(const struct door_config *c, struct base_str origin, struct base_str host);
/* Fills *fail. */
void door_refuse(struct door_fail *fail, unsigned status, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* --- rate.c: who sends too much */
/* The address that counts, in *ret. False: it is of this machine, which has no limit. forwarded: X-Forwarded-For or NULL. */
bool door_rate_address(
	const struct door_config *c, const struct sockaddr *peer, const char *forwarded, uint8_t ret[16]);
/* Takes a token: 0, or how many ms until there is one. */
int64_t door_rate_take(
	struct door_buckets *all, const struct door_config *c, const uint8_t key[16], int64_t now);

/* --- problem.c: errors, all of them */
const char *door_status_text(unsigned status);
/* Appends the RFC 9457 document. */
void door_problem(const struct door_fail *fail, struct base_buf *ret);
/* Appends what aiosd gave as a problem (members title, detail, …; maybe not an object at all) with status and
 * type. */
void door_problem_complete(struct base_str json, unsigned status, struct base_buf *ret);

/* --- answer.c: sets q->response; 0, -ENOMEM, or -EBADMSG for what aiosd cannot mean */
int door_answer(struct door_req *q, unsigned status, const char *type, struct base_str body)
	__attribute__((warn_unused_result));
int door_answer_fail(struct door_req *q) __attribute__((warn_unused_result)); /* what q->fail says */
int door_answer_reply(struct door_req *q, const struct wire_door_reply *f)
	__attribute__((warn_unused_result));
int door_answer_stream(struct door_req *q, MHD_ContentReaderCallback reader)
	__attribute__((warn_unused_result));

/* --- http.c: libmicrohttpd's callbacks and the answers */
int door_http_start(struct door *d, int listen_fd, struct base_err *err) __attribute__((warn_unused_result));
/* A door_reply or door_chunk frame. -EBADMSG. */
int door_http_frame(struct door *d, unsigned type, struct base_str body) __attribute__((warn_unused_result));
/* Deadlines, heartbeats, clients that left while nobody wrote to them. */
void door_http_tick(struct door *d, int64_t now);
void door_http_gone(struct door *d);
/* Wakes a suspended request. */
void door_http_resume(struct door_req *q);
/* No new connections; streams end. */
void door_http_quiesce(struct door *d);

/* --- request.c: their memory */
struct door_req *door_req_new(struct door *d);
void door_req_free(struct door_req *q);
uint64_t door_req_id(const struct door_req *q);
struct door_req *door_req_find(struct door *d, uint64_t id); /* NULL: gone */

/* --- openapi.c */
void door_openapi(struct base_buf *ret);

/* --- html.c, pages.c, form.c: the plain pages */
void html_text(struct base_buf *b, struct base_str s); /* escaped, also fit for a quoted attribute */
void html_cstr(struct base_buf *b, const char *s);     /* markup, as it is */
void html_money(struct base_buf *b, int64_t nusd);
void html_time(struct base_buf *b, int64_t ms); /* a <time> element, UTC */
const char *door_css(void);
bool door_op_is_page(enum wire_op op);
/* The frame of every page. */
void html_head(struct base_buf *b, struct base_str title);
void html_foot(struct base_buf *b);
/* pages_sign_in.c */
void door_page_sign_in(struct base_jv v, struct base_buf *b);
void door_page_security(struct base_jv v, struct base_buf *b);
struct base_str door_script(void); /* passkey.js */
/* Renders what aiosd answered for a page operation. -EINVAL when it is no JSON object. */
int door_page(enum wire_op op, struct base_str json, struct base_buf *ret)
	__attribute__((warn_unused_result));
/* A page that says what went wrong. problem: RFC 9457 JSON. */
/* pages_sign.c: the form of a decision that a passkey signs. */
void door_sign_form(struct base_buf *b, struct base_jv g, struct base_str csrf);
void door_page_problem(unsigned status, struct base_str problem, struct base_buf *ret);
/* The body of page_decide as aiosd wants it: {"csrf","shown","answer","reason","value"}. Edits come as fields
 * "text:NAME" and "json:NAME" (a whole value: "text" and "json"). -EINVAL with what is wrong. */
int door_form_json(struct base_str form, struct door_pairs *pairs, struct base_buf *ret, struct base_err *err)
	__attribute__((warn_unused_result));

/* The fields of sign_in and security_act, as strings of an object. -EINVAL with what is wrong. */
int door_form_plain(struct base_str form, struct door_pairs *pairs, struct base_buf *ret,
	struct base_err *err) __attribute__((warn_unused_result));

/* --- attack.c, test builds only: what an attacker could do who holds this process */
void door_attack(struct door *d, struct base_jv what);
