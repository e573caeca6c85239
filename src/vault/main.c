#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "jail/jail.h"
#include "vault/vault.h"
#include "wire/conn.h"
#include "wire/frames.h"
#include "wire/outcome.h"

/* v is NULL when the vault could not be opened: then every request gets `fault`, and nothing is written. */
struct serve {
	struct wire_conn *c;
	struct vault *v;
	struct base_err fault;
};

static const char *code_of(int r)
{
	switch (r) {
	case -ENOENT:
		return "unknown_secret";
	case -EACCES:
		return "denied";
	case -EINVAL:
	case -E2BIG:
		return "invalid";
	default:
		return "failed";
	}
}

static int reply(struct serve *s, uint64_t req, int r, const struct base_err *err, struct base_buf *value,
	struct base_buf *sealed)
{
	struct wire_vault_reply out = {.req = req, .ok = r == 0};
	struct base_jw w = base_jw_of(value);

	if (r < 0) {
		base_buf_clear(value);
		base_buf_clear(sealed);
		base_jw_obj(&w);
		base_jw_mcstr(&w, "code", s->v ? code_of(r) : "vault_closed");
		base_jw_mcstr(&w, "message", err->text);
		base_jw_end_obj(&w);
	} else if (value->len == 0) {
		base_buf_cstr(value, "{}");
	}
	out.value = base_buf_view(value);
	out.sealed = base_buf_view(sealed);
	wire_vault_reply_put(wire_conn_begin(s->c, WIRE_VAULT_REPLY), &out);
	return wire_conn_end(s->c);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* One request: fills *ret_req and what the reply holds. -EBADMSG for a frame that cannot be. */
static int perform(struct serve *s, unsigned type, struct base_str body, uint64_t *ret_req, int *ret_r,
	struct base_err *err, struct base_buf *value, struct base_buf *sealed)
{
	union {
		struct wire_vault_release release;
		struct wire_vault_set set;
		struct wire_vault_remove remove;
		struct wire_vault_list list;
	} f;
	int r = -EBADMSG;

	*err = s->fault;
	*ret_r = s->fault.code;
	if (type == WIRE_VAULT_RELEASE && (r = wire_vault_release_get(body, &f.release)) == 0) {
		*ret_req = f.release.req;
		if (s->v)
			*ret_r = vault_release(s->v, f.release.call, f.release.name, f.release.host,
				f.release.recipient, sealed, err);
	} else if (type == WIRE_VAULT_SET && (r = wire_vault_set_get(body, &f.set)) == 0) {
		*ret_req = f.set.req;
		if (s->v)
			*ret_r = vault_set(s->v, f.set.name, f.set.host, f.set.sealed, now_ms(), err);
	} else if (type == WIRE_VAULT_REMOVE && (r = wire_vault_remove_get(body, &f.remove)) == 0) {
		*ret_req = f.remove.req;
		if (s->v)
			*ret_r = vault_remove(s->v, f.remove.name, err);
	} else if (type == WIRE_VAULT_LIST && (r = wire_vault_list_get(body, &f.list)) == 0) {
		*ret_req = f.list.req;
		if (s->v) {
			vault_list(s->v, value);
			*ret_r = base_buf_failed(value);
		}
	}
	return r;
}

static int answer(struct serve *s, unsigned type, struct base_str body)
{
	struct base_buf value, sealed;
	struct base_err err;
	uint64_t req = 0;
	int outcome, r;

	base_buf_init(&value, WIRE_BODY_MAX / 2);
	base_buf_init(&sealed, 1 << 20);
	r = perform(s, type, body, &req, &outcome, &err, &value, &sealed);
	if (r == 0)
		r = reply(s, req, outcome, &err, &value, &sealed);
	base_buf_done(&value);
	base_buf_done(&sealed);
	return r;
}

/* Until `stop` (0) or the loss of aiosd (-EPIPE). */
static int serve(struct serve *s)
{
	struct base_str body;
	unsigned type;
	int r;

	for (;;) {
		r = wire_conn_wait(s->c, -1);
		if (r < 0)
			return r;
		while ((r = wire_conn_next(s->c, &type, &body)) > 0) {
			if (type == WIRE_STOP)
				return 0;
			if (type == WIRE_SETUP)
				continue;
			r = answer(s, type, body);
			if (r < 0)
				return r;
		}
		if (r < 0)
			return r;
	}
}

static int hello(struct serve *s, const char *sandbox)
{
	struct wire_note note = {.level = 3, .text = base_str_of(s->fault.text)};
	int r;

	r = wire_hello(s->c, "aios-vault", sandbox, s->v ? vault_public_key(s->v) : BASE_STR_NONE);
	if (r < 0 || s->v)
		return r;
	wire_note_put(wire_conn_begin(s->c, WIRE_NOTE), &note);
	r = wire_conn_end(s->c);
	return r < 0 ? r : wire_conn_flush(s->c);
}

int main(int argc, char **argv)
{
	const char *dirs[] = {argc == 2 ? argv[1] : NULL, NULL};
	struct jail_options jail = {.profile = JAIL_VAULT, .dirs_rw = dirs, .memory_max = 256 << 20};
	struct serve s = {0};
	struct base_buf sandbox;
	struct base_err err = {0};
	int r;

	if (argc != 2) {
		fprintf(stderr, "usage: aios-vault DIR (started by aiosd)\n");
		return 2;
	}
	if (mkdir(argv[1], 0700) < 0 && errno != EEXIST) {
		fprintf(stderr, "aios-vault: cannot make %s\n", argv[1]);
		return 1;
	}
	if (vault_open(argv[1], &s.v, &s.fault) == 0)
		s.fault = (struct base_err){0};
	base_buf_init(&sandbox, 4096);
	r = jail_enter(&jail, &sandbox, &err);
	if (r < 0) {
		fprintf(stderr, "aios-vault: %s\n", err.text);
		return 1;
	}
	base_buf_char(&sandbox, 0);
	r = wire_conn_new(WIRE_FD, &s.c);
	if (r == 0)
		r = hello(&s, sandbox.ptr);
	if (r == 0)
		r = serve(&s);
	wire_conn_free(s.c);
	vault_free(s.v);
	base_buf_done(&sandbox);
	return r == 0 || r == -EPIPE ? 0 : 1;
}
