#include <stdarg.h>
#include <string.h>
#include <strings.h>

#include "door/door_int.h"

enum { HEADERS_MAX = 100, IDEMPOTENCY_KEY_MAX = 255, TOKEN_MAX = 8192 };

struct known {
	const char *name;
	size_t offset;
};

#define HEAD(name, member)                                                                                   \
	{                                                                                                    \
		name, offsetof(struct door_head, member)                                                     \
	}

static const struct known known[] = {
	HEAD("Accept", accept),
	HEAD("Authorization", authorization),
	HEAD("Content-Encoding", content_encoding),
	HEAD("Content-Length", content_length),
	HEAD("Content-Type", content_type),
	HEAD("Cookie", cookies),
	HEAD("Expect", expect),
	HEAD("Host", host),
	HEAD("Idempotency-Key", idempotency_key),
	HEAD("Last-Event-ID", last_event_id),
	HEAD("Origin", origin),
	HEAD("Sec-Fetch-Dest", fetch_dest),
	HEAD("Sec-Fetch-Mode", fetch_mode),
	HEAD("Sec-Fetch-Site", fetch_site),
	HEAD("Transfer-Encoding", transfer_encoding),
	HEAD("Upgrade", upgrade),
	HEAD("User-Agent", user_agent),
	HEAD("X-Forwarded-For", forwarded_for),
};

static bool token_char(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool header_well_formed(const char *name, const char *value)
{
	if (!*name)
		return false;
	for (; *name; name++)
		if (!token_char((unsigned char)*name))
			return false;
	for (; *value; value++)
		if ((unsigned char)*value < 0x20 ? *value != '\t' : *value == 0x7f)
			return false;
	return true;
}

void door_head_add(struct door_head *h, const char *name, const char *value)
{
	h->count++;
	if (!header_well_formed(name, value)) {
		h->malformed = true;
		return;
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		const char **at;

		if (strcasecmp(name, known[i].name) != 0)
			continue;
		at = (const char **)(void *)((char *)h + known[i].offset);
		/* Several Accept lines are one list; nothing else here may come twice. */
		if (*at && strcmp(known[i].name, "Accept") != 0)
			h->twice = known[i].name;
		if (!*at)
			*at = value;
		break;
	}
}

void door_head_end(struct door_head *h, const struct door_config *c)
{
	struct base_str name = c->secure ? BASE_STR("__Host-aios") : BASE_STR("aios_session");

	h->cookie_twice = door_cookie(base_str_of(h->cookies), name, &h->cookie) > 1;
}

/* Where libmicrohttpd's own buffer is looked at: each line of a head stands in it as it came, CR and LF made zeros. */
struct reading {
	struct door_head *h;
	const char *last; /* behind the value of the line that came last */
	bool looks;	  /* this libmicrohttpd does not refuse a bare LF itself */
};

static enum MHD_Result collect(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct reading *r = cls;
	const char *end;

	(void)kind;
	if (!value)
		value = "";
	door_head_add(r->h, name, value);
	/* A bare LF is one zero, and then comes the next line; a folded line was put together elsewhere. */
	end = value + strlen(value);
	if (r->looks && (end < name || end[1] != '\0'))
		r->h->bare = true;
	if (end > r->last)
		r->last = end;
	return MHD_YES;
}

/* libmicrohttpd 0.9 takes a bare LF as the end of a line. A proxy that does not is told another request than we are, so it
 * is refused: every line of the head must have left two zeros, and its end four. */
static void see_line_ends(
	struct MHD_Connection *mhd, const char *method, const char *version, struct reading *r)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
	const char *end = version + strlen(version);

	if (end[1] != '\0')
		r->h->bare = true;
	if (end > r->last)
		r->last = end;
	if (!info || info->header_size == 0 || r->last + 4 != method + info->header_size)
		r->h->bare = true;
}

void door_head_read(struct MHD_Connection *mhd, const struct door_config *c, const char *method,
	const char *version, struct door_head *ret)
{
	/* From 0.9.77 on it parses otherwise, and MHD_OPTION_STRICT_FOR_CLIENT refuses it. */
	struct reading r = {.h = ret, .looks = strverscmp(MHD_get_version(), "0.9.77") < 0};

	memset(ret, 0, sizeof(*ret));
	MHD_get_connection_values(mhd, MHD_HEADER_KIND, collect, &r);
	if (r.looks)
		see_line_ends(mhd, method, version, &r);
	door_head_end(ret, c);
}

/* --- names --- */

static bool same_name(struct base_str a, struct base_str b)
{
	return a.len == b.len && strncasecmp(a.ptr, b.ptr, a.len) == 0;
}

/* Cuts the port off; false for what is no host[:port]. */
static bool host_name(struct base_str host, struct base_str *ret)
{
	struct base_str name = host, port = BASE_STR_NONE;
	uint64_t n;

	if (host.len > 0 && host.ptr[0] == '[') {
		ptrdiff_t end = base_str_find(host, ']');

		if (end < 0)
			return false;
		name = base_str_sub(host, 0, (size_t)end + 1);
		port = base_str_sub(host, (size_t)end + 1, host.len);
		if (port.len > 0 && port.ptr[0] != ':')
			return false;
		port = base_str_sub(port, 1, port.len);
	} else {
		base_str_cut(host, ':', &name, &port);
	}
	if (name.len == 0 || (port.len > 0 && (base_str_u64(port, &n) < 0 || n > 65535)))
		return false;
	*ret = name;
	return true;
}

bool door_host_allowed(const struct door_config *c, struct base_str host)
{
	struct base_str name;
	unsigned i;

	if (!host_name(host, &name))
		return false;
	if (same_name(name, BASE_STR("localhost")) || same_name(name, BASE_STR("127.0.0.1")) ||
		same_name(name, BASE_STR("[::1]")))
		return true;
	for (i = 0; i < c->host_count; i++)
		if (same_name(name, c->hosts[i]))
			return true;
	return false;
}

bool door_origin_allowed(const struct door_config *c, struct base_str origin, struct base_str host)
{
	struct base_str rest;
	unsigned i;

	for (i = 0; i < c->origin_count; i++)
		if (same_name(origin, c->origins[i]))
			return true;
	/* Where browsers speak TLS, a page that came without it is another origin, and may be anybody's. */
	if (!c->secure && base_str_starts(origin, BASE_STR("http://")))
		rest = base_str_sub(origin, 7, origin.len);
	else if (base_str_starts(origin, BASE_STR("https://")))
		rest = base_str_sub(origin, 8, origin.len);
	else
		return false;
	return same_name(rest, host);
}

/* --- judging --- */

static void judge_framing(const struct door_head *h, struct door_fail *fail)
{
	if (h->malformed)
		door_refuse(fail, 400, "invalid",
			"a header has a name or a value with characters that it cannot have");
	else if (h->bare)
		door_refuse(fail, 400, "invalid", "a line of the head does not end with CR LF");
	else if (h->twice)
		door_refuse(fail, 400, "invalid", "header %s comes twice", h->twice);
	else if (h->transfer_encoding && h->content_length)
		door_refuse(fail, 400, "invalid", "both Transfer-Encoding and Content-Length");
	else if (h->transfer_encoding)
		door_refuse(fail, 411, "invalid",
			"a body says how long it is (Content-Length), and comes in one piece");
	else if (h->upgrade)
		door_refuse(fail, 400, "invalid", "there is no other protocol here to upgrade to");
	else if (h->count > HEADERS_MAX)
		door_refuse(fail, 431, "too_large", "more than %d headers", HEADERS_MAX);
	else if (h->expect && strcasecmp(h->expect, "100-continue") != 0)
		door_refuse(fail, 417, "invalid", "the only expectation that is met is 100-continue");
	fail->close = fail->status != 0;
}

/* What browsers say of where a request comes from. Another site's may only lead here: a person follows a link to a page. */
static const char *foreign(const struct door_head *h, const struct wire_route *route, bool unsafe)
{
	static const char *const framed[] = {"iframe", "frame", "embed", "object", "fencedframe"};
	bool page = route && door_op_is_page(wire_op_of(base_str_of(route->name)));

	for (size_t i = 0; h->fetch_dest && i < sizeof(framed) / sizeof(framed[0]); i++)
		if (strcmp(h->fetch_dest, framed[i]) == 0)
			return "this is not shown within other pages";
	if (!h->fetch_site || strcmp(h->fetch_site, "same-origin") == 0 || strcmp(h->fetch_site, "none") == 0)
		return NULL;
	if (!unsafe && page && h->fetch_mode && strcmp(h->fetch_mode, "navigate") == 0 && h->fetch_dest &&
		strcmp(h->fetch_dest, "document") == 0)
		return NULL;
	return "requests that another site makes are refused";
}

static void judge_site(const struct door_head *h, const struct door_config *c, const struct wire_route *route,
	bool unsafe, struct door_fail *fail)
{
	struct base_str host = base_str_of(h->host);
	const char *why = foreign(h, route, unsafe);

	if (!h->host) {
		door_refuse(fail, 400, "invalid", "no Host header");
	} else if (!door_host_allowed(c, host)) {
		door_refuse(fail, 421, "denied", "this door does not answer for the host that was asked for");
	} else if (h->origin && !door_origin_allowed(c, base_str_of(h->origin), host)) {
		door_refuse(fail, 403, "denied", "requests from other origins are refused");
	} else if (why) {
		door_refuse(fail, 403, "denied", "%s", why);
	} else if (unsafe && h->cookie.len && !h->authorization && !h->origin && !h->fetch_site) {
		door_refuse(fail, 403, "denied", "a session's request must say where it comes from (Origin)");
	}
}

/* True when `value` is the media type, parameters aside. */
static bool media_type_is(const char *value, const char *type)
{
	size_t n = strlen(type);

	if (!value || strncasecmp(value, type, n) != 0)
		return false;
	value += n;
	value += strspn(value, " \t");
	return *value == '\0' || *value == ';';
}

static void judge_body(const struct door_head *h, const struct wire_route *route, struct door_fail *fail)
{
	uint64_t len = 0;
	bool any;

	if (h->content_length && base_str_u64(base_str_of(h->content_length), &len) < 0) {
		door_refuse(fail, 400, "invalid", "Content-Length is not a number");
		fail->close = true;
		return;
	}
	any = len > 0;
	if (route->body == WIRE_BODY_NONE && any)
		door_refuse(fail, 400, "invalid", "%s %s takes no body", route->method, route->path);
	else if (h->content_encoding && strcasecmp(h->content_encoding, "identity") != 0)
		door_refuse(fail, 415, "invalid", "a body comes as it is, not compressed");
	else if (len > route->body_max)
		door_refuse(fail, 413, "too_large", "the body has %llu bytes; %s %s takes at most %u",
			(unsigned long long)len, route->method, route->path, route->body_max);
	else if (any && route->body == WIRE_BODY_JSON && !media_type_is(h->content_type, "application/json"))
		door_refuse(fail, 415, "invalid", "the body must be application/json");
	else if (any && route->body == WIRE_BODY_FORM &&
		 !media_type_is(h->content_type, "application/x-www-form-urlencoded"))
		door_refuse(fail, 415, "invalid", "the body must be application/x-www-form-urlencoded");
}

static bool printable(const char *s, size_t max)
{
	size_t n = 0;

	for (; *s; s++, n++)
		if ((unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e)
			return false;
	return n > 0 && n <= max;
}

static bool token_fits(struct base_str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] <= 0x20 || s.ptr[i] > 0x7e)
			return false;
	return s.len <= TOKEN_MAX;
}

static void judge_fields(const struct door_head *h, struct door_fail *fail)
{
	if (h->idempotency_key && !printable(h->idempotency_key, IDEMPOTENCY_KEY_MAX))
		door_refuse(fail, 400, "invalid",
			"Idempotency-Key must be 1 to %d printable ASCII characters", IDEMPOTENCY_KEY_MAX);
	else if (h->last_event_id && *h->last_event_id && !printable(h->last_event_id, IDEMPOTENCY_KEY_MAX))
		door_refuse(fail, 400, "invalid", "Last-Event-ID is not one that this door gave");
	else if (h->authorization && (strncasecmp(h->authorization, "Bearer ", 7) != 0 ||
					     !printable(h->authorization + 7, TOKEN_MAX)))
		door_refuse(fail, 401, "unauthenticated", "the credential must be a Bearer token");
	else if (h->cookie_twice)
		door_refuse(fail, 400, "invalid", "the session's cookie comes twice");
	else if (!token_fits(h->cookie))
		door_refuse(fail, 401, "unauthenticated", "the session is not one that this door gave");
}

void door_head_judge(const struct door_head *h, const struct door_config *c, const struct wire_route *route,
	bool unsafe, struct door_fail *fail)
{
	judge_framing(h, fail);
	if (fail->status == 0)
		judge_site(h, c, route, unsafe, fail);
	if (fail->status == 0 && route)
		judge_body(h, route, fail);
	if (fail->status == 0)
		judge_fields(h, fail);
}
