#include <errno.h>
#include <sodium.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "jail/jail.h"
#include "pass/pass.h"
#include "wire/conn.h"
#include "wire/frames.h"
#include "wire/outcome.h"
#include "wire/secret.h"
#include "wire/sign_in.h"

enum { MEMORY_MAX = 512 << 20, SECRET_MAX = 4096 };

/* The keys that secrets are sealed to: of this process, which answers once. */
struct keys {
	uint8_t public_key[crypto_box_PUBLICKEYBYTES], secret[crypto_box_SECRETKEYBYTES];
};

/* What aios-vault sealed for this very call and for nobody else. Empty: nothing was sent. -EACCES. */
static int open_sealed(
	const struct keys *k, uint64_t req, const char *name, struct base_str sealed, struct base_buf *ret)
{
	uint8_t plain[SECRET_MAX];
	struct wire_secret secret;
	int r = -EACCES;
	size_t len;

	if (!sealed.len)
		return 0;
	if (sealed.len < crypto_box_SEALBYTES || sealed.len - crypto_box_SEALBYTES > sizeof(plain) ||
		crypto_box_seal_open(
			plain, (const uint8_t *)sealed.ptr, sealed.len, k->public_key, k->secret) != 0)
		return -EACCES;
	len = sealed.len - crypto_box_SEALBYTES;
	if (wire_secret_get((struct base_str){(const char *)plain, len}, &secret) == 0 &&
		secret.call == req && base_str_is(secret.host, WIRE_PASS_HOST) &&
		base_str_is(secret.action, WIRE_PASS_ACTION) && base_str_is(secret.name, name)) {
		base_buf_str(ret, secret.value);
		r = base_buf_failed(ret);
	}
	sodium_memzero(plain, sizeof(plain));
	return r;
}

static int answer(struct wire_conn *c, const struct keys *k, struct base_str body)
{
	struct wire_pass_check in;
	struct wire_pass_reply out = {0};
	struct base_buf hash, totp, value;
	int r = wire_pass_check_get(body, &in);

	if (r < 0)
		return r;
	base_buf_init(&hash, SECRET_MAX);
	base_buf_init(&totp, SECRET_MAX);
	base_buf_init(&value, 1 << 16);
	out.req = in.req;
	if (open_sealed(k, in.req, WIRE_PASS_SECRET_PASSWORD, in.hash, &hash) < 0 ||
		open_sealed(k, in.req, WIRE_PASS_SECRET_TOTP, in.totp, &totp) < 0)
		base_buf_cstr(
			&value, "{\"code\":\"failed\",\"message\":\"a secret came that is not for this\"}");
	else
		out.ok = pass_answer(&(struct pass_request){.what = in.what,
					     .params = in.params,
					     .hash = base_buf_view(&hash),
					     .totp = base_buf_view(&totp)},
			&value);
	out.value = base_buf_view(&value);
	wire_pass_reply_put(wire_conn_begin(c, WIRE_PASS_REPLY), &out);
	r = wire_conn_end(c);
	if (hash.ptr)
		sodium_memzero(hash.ptr, hash.size);
	if (totp.ptr)
		sodium_memzero(totp.ptr, totp.size);
	base_buf_done(&hash);
	base_buf_done(&totp);
	base_buf_done(&value);
	return r < 0 ? r : wire_conn_flush(c);
}

/* One request, or `stop` (0); the loss of aiosd is -EPIPE. */
static int serve(struct wire_conn *c, const struct keys *k)
{
	struct base_str body;
	unsigned type;
	int r;

	for (;;) {
		r = wire_conn_wait(c, -1);
		if (r < 0)
			return r;
		while ((r = wire_conn_next(c, &type, &body)) > 0) {
			if (type == WIRE_STOP)
				return 0;
			if (type == WIRE_SETUP)
				continue;
			return type == WIRE_PASS_CHECK ? answer(c, k, body) : -EBADMSG;
		}
		if (r < 0)
			return r;
	}
}

int main(void)
{
	struct jail_options jail = {.profile = JAIL_PURE, .memory_max = MEMORY_MAX};
	struct base_buf sandbox;
	struct wire_conn *c = NULL;
	struct base_err err = {0};
	struct keys k;
	int r = pass_init(&err);

	base_buf_init(&sandbox, 4096);
	if (r == 0)
		r = jail_enter(&jail, &sandbox, &err);
	if (r < 0) {
		fprintf(stderr, "aios-pass: %s\n", err.text);
		return 1;
	}
	crypto_box_keypair(k.public_key, k.secret);
	base_buf_char(&sandbox, 0);
	r = wire_conn_new(WIRE_FD, &c);
	if (r == 0)
		r = wire_hello(c, "aios-pass", sandbox.ptr,
			(struct base_str){(const char *)k.public_key, sizeof(k.public_key)});
	if (r == 0)
		r = serve(c, &k);
	sodium_memzero(&k, sizeof(k));
	/* Not freed: the kernel gives other processes nothing of it, and the libraries' own ends need calls that the
	 * sandbox lacks. */
	return r == 0 || r == -EPIPE ? 0 : 1;
}
