#include "door/door_int.h"

#include <errno.h>
#include <string.h>

static unsigned names(struct base_jv list, struct base_str *ret)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	unsigned n = 0;

	while (n < DOOR_NAMES_MAX && base_jv_next(list, &it, &key, &v))
		if (base_jv_str(v).len > 0)
			ret[n++] = base_jv_str(v);
	return n;
}

/* A limit of the configuration, kept between what works at all and what is sane. */
static int64_t limit(struct base_jv limits, const char *key, int64_t otherwise, int64_t min, int64_t max)
{
	int64_t v = base_jv_int(base_jv_get(limits, key), otherwise);

	return v < min ? min : v > max ? max : v;
}

int door_config_read(struct base_str json, struct door_config *ret, struct base_err *err)
{
	struct door_config c = {0};
	struct base_jv root, limits;
	struct base_str kind;
	int r;

	r = base_json_parse(json, &c.doc, err);
	if (r < 0)
		return r;
	root = base_json_root(c.doc);
	kind = base_jv_str(base_jv_get(root, "kind"));
	if (base_str_is(kind, "local")) {
		c.kind = DOOR_LOCAL;
	} else if (base_str_is(kind, "network")) {
		c.kind = DOOR_NETWORK;
	} else {
		base_json_free(c.doc);
		return base_err_set(err, -EINVAL, "the setup's kind is neither local nor network");
	}
	c.port = (unsigned)base_jv_int(base_jv_get(root, "port"), 0);
	c.host_count = names(base_jv_get(root, "hosts"), c.hosts);
	c.origin_count = names(base_jv_get(root, "origins"), c.origins);
	c.proxy_count = names(base_jv_get(root, "proxies"), c.proxies);
	c.cert = base_jv_str(base_jv_get(base_jv_get(root, "tls"), "cert"));
	c.key = base_jv_str(base_jv_get(base_jv_get(root, "tls"), "key"));
	c.secure = c.kind == DOOR_NETWORK && (c.cert.len > 0 || c.proxy_count > 0);
	c.rate = limit(base_jv_get(root, "rate"), "per_second", 50, 0, 1000000);
	c.burst = limit(base_jv_get(root, "rate"), "burst", 200, 1, 1000000);
	limits = base_jv_get(root, "limits");
	c.connections = (unsigned)limit(limits, "connections", 1000, 1, 20000);
	c.idle_ms = limit(limits, "idle_ms", 60000, 1000, 3600000);
	c.head_ms = limit(limits, "head_ms", 90000, 1000, 3600000);
	c.body_ms = limit(limits, "body_ms", 30000, 1000, 3600000);
	c.stream_max = (size_t)limit(limits, "stream_max", 4 << 20, 64 << 10, 64 << 20);
	*ret = c;
	return 0;
}

void door_config_done(struct door_config *c)
{
	if (!c)
		return;
	base_json_free(c->doc);
	memset(c, 0, sizeof(*c));
}
