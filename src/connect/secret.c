#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "connect/connect_int.h"

/* Overwrites a view of memory that is ours to overwrite. */
static void wipe(struct base_str s)
{
	if (s.len)
		sodium_memzero((void *)(uintptr_t)s.ptr, s.len);
}

static bool same_call(struct base_jv v, uint64_t id)
{
	uint64_t n;

	if (base_jv_kind(v) == BASE_JSON_STR)
		return base_str_u64(base_jv_str(v), &n) == 0 && n == id;
	return base_jv_kind(v) == BASE_JSON_INT && (uint64_t)base_jv_int(v, -1) == id;
}

static int take(struct connect_call *call, struct base_str plain, struct base_err *err)
{
	struct base_json *doc = NULL;
	struct base_jv root;
	struct base_str value;
	int r;

	if (base_json_parse(plain, &doc, NULL) < 0)
		return base_err_set(err, -EACCES, "the secret that came with this call cannot be read");
	root = base_json_root(doc);
	value = base_jv_str(base_jv_get(root, "value"));
	if (!same_call(base_jv_get(root, "call"), call->id)) {
		r = base_err_set(
			err, -EACCES, "the secret that came with this call was released for another call");
	} else {
		call->secret_host = base_arena_dup(call->arena, base_jv_str(base_jv_get(root, "host")));
		call->secret_value = base_arena_dup(call->arena, value);
		r = value.len && call->secret_value.ptr
			    ? 0
			    : base_err_set(err, -EACCES, "the secret that came with this call is empty");
	}
	wipe(value);
	base_json_free(doc);
	return r;
}

int connect_secret_open(struct connect_call *call, struct base_str sealed, struct base_err *err)
{
	const struct connect *c = call->c;
	unsigned char *plain;
	size_t len;
	int r;

	if (sealed.len <= crypto_box_SEALBYTES || sealed.len > 65536)
		return base_err_set(
			err, -EACCES, "the secret that came with this call has an impossible size");
	len = sealed.len - crypto_box_SEALBYTES;
	plain = malloc(len);
	if (!plain)
		return base_err_set(err, -ENOMEM, "out of memory");
	if (crypto_box_seal_open(
		    plain, (const unsigned char *)sealed.ptr, sealed.len, c->public_key, c->secret_key) != 0)
		r = base_err_set(
			err, -EACCES, "the secret that came with this call is not sealed to this process");
	else
		r = take(call, (struct base_str){(const char *)plain, len}, err);
	sodium_memzero(plain, len);
	free(plain);
	return r;
}

int connect_secret_for(
	const struct connect_call *call, struct base_str host, struct base_str *ret, struct base_err *err)
{
	if (!call->secret_value.ptr) {
		*ret = BASE_STR_NONE;
		return 0;
	}
	if (host.len > 2 && host.ptr[0] == '[') /* an IPv6 address */
		host = base_str_sub(host, 1, host.len - 2);
	if (host.len != call->secret_host.len || strncasecmp(host.ptr, call->secret_host.ptr, host.len) != 0)
		return base_err_set(err, -EACCES,
			"the secret is for %.*s, not for %.*s: set one for that host (aios secrets set)",
			BASE_STR_ARG(call->secret_host), BASE_STR_ARG(host));
	*ret = call->secret_value;
	return 0;
}

void connect_secret_wipe(struct connect_call *call)
{
	wipe(call->secret_value);
	call->secret_value = BASE_STR_NONE;
}
