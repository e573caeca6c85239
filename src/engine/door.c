#include "engine/engine_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"

/*
 * What the network door is told: names that it answers for, limits, and for TLS certificate and key, which are read here
 * since the door has no files.
 *
 * Invariants
 *
 * M1 Plain HTTP never leaves this machine: an address that is not loopback is listened on with TLS only. What is
 * configured otherwise leaves the door shut, and the operator's own open.
 */

enum { PEM_MAX = 256 << 10 };

/* In memory as long as aiosd runs: a door that dies is started again with them. */
struct engine_door {
	struct base_buf cert, key;
};

static struct base_jv settings(const struct engine *e)
{
	return e->config ? base_jv_get(base_json_root(e->config), "door") : (struct base_jv){0};
}

static bool is_loopback(const char *address)
{
	struct in6_addr six, one = IN6ADDR_LOOPBACK_INIT;
	struct in_addr four;

	if (inet_pton(AF_INET, address, &four) == 1)
		return ntohl(four.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, address, &six) == 1 && memcmp(&six, &one, sizeof(six)) == 0;
}

/* A PEM file of the operator's, from the workspace's folder on. */
static int read_pem(
	struct engine *e, struct base_str path, bool secret, struct base_buf *ret, struct base_err *err)
{
	char name[4096];
	struct stat st;
	char *to;
	ssize_t n;
	int fd;

	snprintf(name, sizeof(name), "%s%s%.*s", path.len && path.ptr[0] == '/' ? "" : e->paths.workspace,
		path.len && path.ptr[0] == '/' ? "" : "/", BASE_STR_ARG(path));
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0) {
		n = -errno;
		if (fd >= 0)
			close(fd);
		return base_err_set(err, (int)n, "door.tls: cannot read %s: %s", name, strerror((int)-n));
	}
	if (!S_ISREG(st.st_mode) || st.st_size > PEM_MAX || (secret && (st.st_mode & 007))) {
		close(fd);
		return base_err_set(err, -EINVAL,
			secret && (st.st_mode & 007)
				? "door.tls: everybody on this machine can read the key %s: chmod 600 it"
				: "door.tls: %s is not a PEM file",
			name);
	}
	base_buf_init(ret, PEM_MAX + 1);
	while ((to = base_buf_reserve(ret, 4096)) && (n = read(fd, to, 4096)) > 0)
		base_buf_commit(ret, (size_t)n);
	close(fd);
	if (base_buf_failed(ret) || !ret->len || memchr(ret->ptr, 0, ret->len))
		return base_err_set(err, -EINVAL, "door.tls: %s is not a PEM file", name);
	return 0;
}

static int read_tls(struct engine *e, struct base_err *err)
{
	struct base_jv tls = base_jv_get(settings(e), "tls");
	struct base_str cert = base_jv_str(base_jv_get(tls, "cert")),
			key = base_jv_str(base_jv_get(tls, "key"));
	int rc;

	if (base_jv_kind(tls) != BASE_JSON_OBJ)
		return 0;
	e->door = calloc(1, sizeof(*e->door));
	if (!e->door)
		return base_err_set(err, -ENOMEM, "out of memory");
	rc = read_pem(e, cert, false, &e->door->cert, err);
	return rc < 0 ? rc : read_pem(e, key, true, &e->door->key, err);
}

int engine_door_listen(struct engine *e, bool *ret_shut, struct base_err *err)
{
	struct base_str at = base_jv_str(base_jv_get(settings(e), "listen"));
	char address[64];
	int rc = read_tls(e, err);

	*ret_shut = rc < 0;
	if (rc < 0) {
		engine_door_done(e);
		return rc;
	}
	snprintf(address, sizeof(address), "%.*s", BASE_STR_ARG(at.len ? at : BASE_STR("127.0.0.1")));
	*ret_shut = !e->door && !is_loopback(address);
	if (*ret_shut)
		return base_err_set(err, -EPERM,
			"door.listen: %s can be reached from outside, so it needs TLS: give door.tls a "
			"certificate and a "
			"key, or let a proxy on this machine do it",
			address);
	return engine_listen_tcp(address, (unsigned)e->opt.port, &e->port, err);
}

void engine_door_done(struct engine *e)
{
	if (!e->door)
		return;
	if (e->door->key.ptr)
		sodium_memzero(e->door->key.ptr, e->door->key.size);
	base_buf_done(&e->door->key);
	base_buf_done(&e->door->cert);
	free(e->door);
	e->door = NULL;
}

bool engine_door_secure(const struct engine *e)
{
	return e->door || base_jv_len(base_jv_get(settings(e), "proxies")) > 0;
}

void engine_door_origin(const struct engine *e, struct base_buf *ret)
{
	struct base_str host = base_jv_str(base_jv_at(base_jv_get(settings(e), "hosts"), 0));

	if (!engine_door_secure(e))
		base_buf_printf(ret, "http://localhost:%u", e->port); /* a name: passkeys take no addresses */
	else if (e->door)
		base_buf_printf(ret, "https://%.*s:%u", BASE_STR_ARG(host.len ? host : BASE_STR("localhost")),
			e->port);
	else
		base_buf_printf(ret, "https://%.*s", BASE_STR_ARG(host.len ? host : BASE_STR("localhost")));
}

void engine_door_setup(struct engine *e, const struct engine_proc *p, struct base_jw *w)
{
	static const char *const keys[] = {"hosts", "origins", "limits", "proxies"};
	struct base_jv rate = base_jv_get(base_jv_get(settings(e), "rates"), "address");

	base_jw_mcstr(w, "kind", p->local_door ? "local" : "network");
	base_jw_mint(w, "port", e->port);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		struct base_jv v = base_jv_get(settings(e), keys[i]);

		if (base_jv_kind(v) == BASE_JSON_NONE)
			continue;
		base_jw_key(w, keys[i]);
		base_jw_value(w, v);
	}
	if (base_jv_kind(rate) != BASE_JSON_NONE) {
		base_jw_key(w, "rate");
		base_jw_value(w, rate);
	}
	if (p->local_door || !e->door)
		return;
	base_jw_key(w, "tls");
	base_jw_obj(w);
	base_jw_mstr(w, "cert", base_buf_view(&e->door->cert));
	base_jw_mstr(w, "key", base_buf_view(&e->door->key));
	base_jw_end_obj(w);
}
