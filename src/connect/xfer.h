#pragma once

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "connect/connect_int.h"

/* One HTTP request in libcurl's hands. */
struct connect_xfer {
	struct connect_call *call;
	CURL *easy;
	struct curl_slist *headers; /* wiped at the end: a secret may stand in them */
	struct base_buf body;	    /* the reply's; its cap is the limit */
	struct base_buf head;	    /* the last reply's header lines */
	char error[CURL_ERROR_SIZE];
	char host[256];
	bool running;
	bool guarded;	   /* may only reach public addresses */
	bool blocked;	   /* the guard refused an address */
	bool refused_data; /* on_data did not want more */
	bool leaves;	   /* sets call->left when the request goes out */
	bool bills;	   /* sets call->billed when the request goes out */
	/* Optional: takes the body of a 2xx reply piecewise instead of `body`; false ends the transfer. */
	bool (*on_data)(struct connect_call *call, struct base_str data);
	/* At the end; the transfer is out of libcurl's hands. */
	void (*on_done)(struct connect_call *call, CURLcode code);
};

/* Makes the call's transfer (call->xfer, freed with the call) towards `url`. body_max: the most that a reply
 * may hold. -EINVAL for what is no address; -ENOMEM. */
int connect_xfer_new(struct connect_call *call, struct base_str url, size_t body_max, struct base_err *err)
	__attribute__((warn_unused_result));
void connect_xfer_free(struct connect_xfer *x);
/* Host name of the address, lower case as given; empty without a transfer. */
struct base_str connect_xfer_host(const struct connect_xfer *x);
/* Adds a request header. -EINVAL for a name or value that cannot be one; -ENOMEM. */
int connect_xfer_header(struct connect_xfer *x, struct base_str name, struct base_str value,
	struct base_err *err) __attribute__((warn_unused_result));
/* POST with this body, which must live as long as the call. */
void connect_xfer_post(struct connect_xfer *x, struct base_str body);
/* A connection of its own: libcurl never sends such a request twice by itself. */
void connect_xfer_fresh(struct connect_xfer *x);
/* Trusts this PEM text instead of the system's certificates. */
void connect_xfer_ca(struct connect_xfer *x, struct base_str pem);
/* Hands it to libcurl; ends in on_done. Ends the call with a problem when that cannot be. */
void connect_xfer_start(struct connect_xfer *x);

long connect_xfer_status(const struct connect_xfer *x);
uint32_t connect_xfer_retry_after_ms(const struct connect_xfer *x);
/* Ends the call with the problem that `code` stands for, in words. */
void connect_xfer_fail(struct connect_xfer *x, CURLcode code);

/* The same for a transfer that is not a struct connect_xfer. */
void connect_fail_curl(struct connect_call *call, const char *host, CURLcode code, const char *detail);

/* The host's name in an address. -EINVAL for what is no address, or carries a user name; -ENOMEM. */
int connect_host_of(const char *url, char *ret, size_t size, struct base_err *err)
	__attribute__((warn_unused_result));
bool connect_is_loopback(const char *host);
/* True for an address of the public internet: not private, loopback, link-local, multicast, or reserved, nor
 * one of those inside of an IPv6 address. */
bool connect_address_public(const struct sockaddr *addr);

/* --- the loop's side (net.c) --- */

struct connect_net;
int connect_net_new(int wire_fd, struct connect_net **ret) __attribute__((warn_unused_result));
void connect_net_free(struct connect_net *n);
CURLM *connect_net_multi(struct connect_net *n);
/* Calls fn when fd (one only) is readable. -errno. */
int connect_net_watch(struct connect_net *n, int fd, void (*fn)(void *userdata), void *userdata)
	__attribute__((warn_unused_result));
/* Waits at most timeout_ms (-1: for ever) for the wire or a transfer; lets transfers go on and ends those
 * that are through. Returns 1 when the wire has something, 0 when not, -errno. want_write: the wire has bytes
 * to write. */
int connect_net_wait(struct connect_net *n, int timeout_ms, bool want_read, bool want_write);
