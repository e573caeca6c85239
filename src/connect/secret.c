#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>

#include "connect/connect_int.h"

enum { SEALED_MAX = 2 * 65536 + 4096 }; /* a value, an old one, and their names */

int connect_secret_open(struct connect_call *call, struct base_str sealed, struct base_err *err)
{
	const struct connect *c = call->c;
	struct wire_secret s;
	unsigned char *plain;
	size_t len;

	if (sealed.len <= crypto_box_SEALBYTES || sealed.len > SEALED_MAX)
		return base_err_set(
			err, -EACCES, "the secret that came with this call has an impossible size");
	len = sealed.len - crypto_box_SEALBYTES;
	plain = sodium_malloc(len);
	if (!plain)
		return base_err_set(err, -ENOMEM, "out of memory");
	call->secret_memory = plain;
	if (crypto_box_seal_open(
		    plain, (const unsigned char *)sealed.ptr, sealed.len, c->public_key, c->secret_key) != 0)
		return base_err_set(
			err, -EACCES, "the secret that came with this call is not sealed to this process");
	if (wire_secret_get((struct base_str){(const char *)plain, len}, &s) < 0 || !s.value.len)
		return base_err_set(err, -EACCES, "the secret that came with this call cannot be read");
	if (s.call != call->id || !base_str_is(s.action, call->action->name))
		return base_err_set(
			err, -EACCES, "the secret that came with this call was released for another call");
	call->secret = s;
	return 0;
}

int connect_secret_for(
	const struct connect_call *call, struct base_str host, struct base_str *ret, struct base_err *err)
{
	if (!call->secret.value.len) {
		*ret = BASE_STR_NONE;
		return 0;
	}
	if (host.len > 2 && host.ptr[0] == '[') /* an IPv6 address */
		host = base_str_sub(host, 1, host.len - 2);
	if (host.len != call->secret.host.len || strncasecmp(host.ptr, call->secret.host.ptr, host.len) != 0)
		return base_err_set(err, -EACCES,
			"the secret is for %.*s, not for %.*s: set one for that host (aios secrets set)",
			BASE_STR_ARG(call->secret.host), BASE_STR_ARG(host));
	*ret = call->secret_turned ? call->secret.old : call->secret.value;
	return 0;
}

bool connect_secret_turn(struct connect_call *call)
{
	if (call->secret_turned || !call->secret.old.len)
		return false;
	call->secret_turned = true;
	return true;
}

void connect_secret_wipe(struct connect_call *call)
{
	sodium_free(call->secret_memory);
	call->secret_memory = NULL;
	call->secret = (struct wire_secret){0};
}
