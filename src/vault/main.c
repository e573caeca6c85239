#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
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
	case -EKEYREVOKED:
		return "vault_locked";
	case -EKEYREJECTED:
		return "wrong_passphrase";
	case -EBUSY:
		return "throttled";
	case -EINVAL:
	case -E2BIG:
	case -EOPNOTSUPP:
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

static int64_t clock_ms(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* One question to an open vault, and where its answer goes. */
struct question {
	struct vault *v;
	int64_t now_ms;
	struct base_err *err;
	struct base_buf *value, *sealed;
};

static int release(struct question *q, const void *frame)
{
	const struct wire_vault_release *f = frame;

	return vault_release(q->v,
		&(struct vault_ask){.call = f->call,
			.name = f->name,
			.host = f->host,
			.action = f->action,
			.recipient = f->recipient},
		q->now_ms, q->sealed, q->err);
}

static int set(struct question *q, const void *frame)
{
	const struct wire_vault_set *f = frame;

	if (f->how > VAULT_CANARY)
		return base_err_set(q->err, -EINVAL, "a secret is set, rotated, or made a canary");
	return vault_set(q->v,
		&(struct vault_new){.name = f->name,
			.host = f->host,
			.actions = f->actions,
			.sealed = f->sealed,
			.how = (enum vault_how)f->how,
			.overlap_ms = f->overlap_ms},
		q->now_ms, q->err);
}

static int drop(struct question *q, const void *frame)
{
	return vault_remove(q->v, ((const struct wire_vault_remove *)frame)->name, q->now_ms, q->err);
}

static int list(struct question *q, const void *frame)
{
	(void)frame;
	return vault_list(q->v, q->now_ms, q->value, q->err);
}

static int sign(struct question *q, const void *frame)
{
	const struct wire_vault_sign *f = frame;
	uint8_t signature[VAULT_SIGNATURE];
	int r = vault_sign(q->v, f->domain, f->data, signature, q->err);

	if (r < 0)
		return r;
	base_buf_put(q->sealed, signature, sizeof(signature));
	base_buf_cstr(q->value, "{\"public_key\":\"");
	base_b64url_put(
		q->value, (struct base_str){(const char *)vault_sign_public(q->v), VAULT_SIGN_PUBLIC});
	base_buf_cstr(q->value, "\"}");
	return 0;
}

static int status(struct question *q, const void *frame)
{
	(void)frame;
	vault_status(q->v, q->value);
	return 0;
}

static int unlock(struct question *q, const void *frame)
{
	int r = vault_unlock(
		q->v, ((const struct wire_vault_unlock *)frame)->sealed, clock_ms(CLOCK_BOOTTIME), q->err);

	if (r == 0)
		vault_status(q->v, q->value);
	return r;
}

static int lock(struct question *q, const void *frame)
{
	int r = vault_lock(q->v, q->err);

	(void)frame;
	if (r == 0)
		vault_status(q->v, q->value);
	return r;
}

static int rekey(struct question *q, const void *frame)
{
	const struct wire_vault_rekey *f = frame;
	int r = vault_rekey(q->v, f->kind, f->strength, f->sealed, q->err);

	if (r == 0)
		vault_status(q->v, q->value);
	return r;
}

static int canaries(struct question *q, const void *frame)
{
	return vault_canaries(
		q->v, ((const struct wire_vault_canaries *)frame)->recipient, q->sealed, q->err);
}

union any_request {
	uint64_t req; /* the first member of each */
	struct wire_vault_release release;
	struct wire_vault_set set;
	struct wire_vault_remove remove;
	struct wire_vault_list list;
	struct wire_vault_sign sign;
	struct wire_vault_status status;
	struct wire_vault_unlock unlock;
	struct wire_vault_lock lock;
	struct wire_vault_rekey rekey;
	struct wire_vault_canaries canaries;
};

/* Decodes; -EBADMSG for a frame that cannot be. */
static int decode(unsigned type, struct base_str body, union any_request *f,
	int (**ret_fn)(struct question *q, const void *frame))
{
	switch (type) {
	case WIRE_VAULT_RELEASE:
		*ret_fn = release;
		return wire_vault_release_get(body, &f->release);
	case WIRE_VAULT_SET:
		*ret_fn = set;
		return wire_vault_set_get(body, &f->set);
	case WIRE_VAULT_REMOVE:
		*ret_fn = drop;
		return wire_vault_remove_get(body, &f->remove);
	case WIRE_VAULT_LIST:
		*ret_fn = list;
		return wire_vault_list_get(body, &f->list);
	case WIRE_VAULT_SIGN:
		*ret_fn = sign;
		return wire_vault_sign_get(body, &f->sign);
	case WIRE_VAULT_STATUS:
		*ret_fn = status;
		return wire_vault_status_get(body, &f->status);
	case WIRE_VAULT_UNLOCK:
		*ret_fn = unlock;
		return wire_vault_unlock_get(body, &f->unlock);
	case WIRE_VAULT_LOCK:
		*ret_fn = lock;
		return wire_vault_lock_get(body, &f->lock);
	case WIRE_VAULT_REKEY:
		*ret_fn = rekey;
		return wire_vault_rekey_get(body, &f->rekey);
	case WIRE_VAULT_CANARIES:
		*ret_fn = canaries;
		return wire_vault_canaries_get(body, &f->canaries);
	default:
		return -EBADMSG;
	}
}

/* One request: fills *ret_req and what the reply holds. */
static int perform(struct serve *s, unsigned type, struct base_str body, uint64_t *ret_req, int *ret_r,
	struct base_err *err, struct base_buf *value, struct base_buf *sealed)
{
	struct question q = {s->v, clock_ms(CLOCK_REALTIME), err, value, sealed};
	int (*fn)(struct question * q, const void *frame) = NULL;
	union any_request f;
	int r = decode(type, body, &f, &fn);

	if (r < 0)
		return r;
	*ret_req = f.req;
	*err = s->fault;
	*ret_r = s->v ? fn(&q, &f) : s->fault.code;
	return 0;
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
	if (r < 0 || (s->v && vault_memory_is_locked(s->v)))
		return r;
	if (s->v)
		note = (struct wire_note){.level = 2,
			.text = BASE_STR(
				"the vault's memory is not locked: keys may reach the swap space; raise "
				"the limit of locked memory (ulimit -l, LimitMEMLOCK of the unit)")};
	wire_note_put(wire_conn_begin(s->c, WIRE_NOTE), &note);
	r = wire_conn_end(s->c);
	return r < 0 ? r : wire_conn_flush(s->c);
}

/* The folder of the credential stays readable, so that `aios vault unlock` can look again. */
static const char *folder_of(const char *path, char ret[PATH_MAX])
{
	char *slash;

	if (!path || (size_t)snprintf(ret, PATH_MAX, "%s", path) >= PATH_MAX)
		return NULL;
	slash = strrchr(ret, '/');
	if (!slash || slash == ret)
		return NULL;
	*slash = 0;
	return access(ret, R_OK) == 0 ? ret : NULL;
}

int main(int argc, char **argv)
{
	struct vault_options o = {.dir = argc > 1 ? argv[1] : NULL,
		.keyring = argc > 2 ? (int32_t)strtol(argv[2], NULL, 10) : 0,
		.credential = argc > 3 ? argv[3] : NULL};
	char credentials[PATH_MAX];
	const char *dirs[] = {o.dir, NULL}, *readable[] = {folder_of(o.credential, credentials), NULL};
	struct jail_options jail = {.profile = JAIL_VAULT,
		.dirs_rw = dirs,
		.dirs_ro = readable,
		.memory_max = (size_t)1408 << 20}; /* Argon2id of strength "sensitive" takes 1 GiB */
	struct serve s = {0};
	struct base_buf sandbox;
	struct base_err err = {0};
	int r;

	if (argc < 2 || argc > 4) {
		fprintf(stderr, "usage: aios-vault DIR [KEYRING [CREDENTIAL]] (started by aiosd)\n");
		return 2;
	}
	if (mkdir(argv[1], 0700) < 0 && errno != EEXIST) {
		fprintf(stderr, "aios-vault: cannot make %s\n", argv[1]);
		return 1;
	}
	if (vault_open(&o, &s.v, &s.fault) == 0)
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
