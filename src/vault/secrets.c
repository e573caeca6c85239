#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>

#include "base/codec.h"
#include "base/json.h"
#include "vault/vault_int.h"
#include "wire/secret.h"

/* What is asked of the open vault: secrets in, and out to those who may use them. */

static bool of_chars(struct base_str s, size_t max, const char *more)
{
	if (s.len == 0 || s.len > max)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

		if (!plain && (!c || !strchr(more, c)))
			return false;
	}
	return true;
}

static bool is_name(struct base_str s)
{
	return of_chars(s, VAULT_NAME_MAX, "-_./");
}

/* A host name or address, without port, blanks or wildcards. */
static bool is_host(struct base_str s)
{
	return of_chars(s, 253, "-_.:[]");
}

/* "mail.send", "model.*", "*". */
static bool is_pattern(struct base_str s)
{
	if (s.len && s.ptr[s.len - 1] == '*')
		return s.len == 1 || of_chars(base_str_sub(s, 0, s.len - 1), 128, "-_.");
	return of_chars(s, 128, "-_.");
}

static struct base_str trim(struct base_str s)
{
	while (s.len && s.ptr[0] == ' ')
		s = base_str_sub(s, 1, s.len);
	while (s.len && s.ptr[s.len - 1] == ' ')
		s.len--;
	return s;
}

/* Whether each of a list with commas is one. */
static bool are_all(struct base_str list, size_t max, bool (*is)(struct base_str s))
{
	struct base_str one;
	bool more = true;

	if (list.len > max)
		return false;
	while (more) {
		more = base_str_cut(list, ',', &one, &list);
		if (!is(trim(one)))
			return false;
	}
	return true;
}

static bool names_host(struct base_str list, struct base_str host)
{
	struct base_str one;
	bool more = true;

	while (more) {
		more = base_str_cut(list, ',', &one, &list);
		one = trim(one);
		if (one.len == host.len && strncasecmp(one.ptr, host.ptr, host.len) == 0)
			return true;
	}
	return false;
}

static bool names_action(struct base_str list, struct base_str action)
{
	struct base_str one;
	bool more = true;

	while (more) {
		more = base_str_cut(list, ',', &one, &list);
		if (base_str_matches(trim(one), action))
			return true;
	}
	return false;
}

int vault_commit(struct vault *v, struct vault_book *next, struct base_err *err)
{
	int r = vault_file_write(v->dir, &v->head, v->kek, v->data_key, next, err);

	if (r < 0) {
		vault_book_free(next);
		return r;
	}
	vault_book_free(&v->book);
	v->book = *next;
	return 0;
}

/* --- in --- */

static int check_new(const struct vault_new *n, struct base_err *err)
{
	if (!is_name(n->name))
		return base_err_set(err, -EINVAL, "a secret's name is 1 to %d letters, digits and - _ . /",
			VAULT_NAME_MAX);
	if (n->how != VAULT_CANARY && !are_all(n->host, VAULT_HOST_MAX, is_host))
		return base_err_set(err, -EINVAL,
			"secret %.*s: name the host that it may go to, like api.example.org (several: with "
			"commas)",
			BASE_STR_ARG(n->name));
	if (n->how != VAULT_CANARY && !are_all(n->actions, VAULT_ACTIONS_MAX, is_pattern))
		return base_err_set(err, -EINVAL,
			"secret %.*s: name the actions that it is for, like model.* (several: with commas)",
			BASE_STR_ARG(n->name));
	return 0;
}

/* The new value beside the one that is there. */
static int rotate(const struct vault *v, struct vault_new *n, struct vault_entry *add, int64_t now_ms,
	struct base_err *err)
{
	struct vault_entry old;

	if (!vault_book_find(&v->book, n->name, &old))
		return base_err_set(err, -ENOENT, "there is no secret %.*s: set it with aios secrets set",
			BASE_STR_ARG(n->name));
	if (old.canary || n->overlap_ms < 0)
		return base_err_set(err, -EINVAL,
			old.canary ? "a canary is not rotated: make another one"
				   : "an overlap is not negative");
	n->host = n->host.len ? n->host : old.host;
	n->actions = n->actions.len ? n->actions : old.actions;
	if (n->overlap_ms > 0) {
		add->old = old.value;
		add->old_until_ms = now_ms + n->overlap_ms;
	}
	return 0;
}

static int put(struct vault *v, const struct vault_entry *add, int64_t now_ms, struct base_err *err)
{
	struct vault_entry old;
	struct vault_book next;
	int r;

	if (!vault_book_find(&v->book, add->name, &old) && vault_book_count(&v->book) >= VAULT_SECRETS_MAX)
		return base_err_set(
			err, -E2BIG, "the vault holds %d secrets, which is its limit", VAULT_SECRETS_MAX);
	r = vault_book_edit(&v->book, add->name, add, now_ms, &next);
	if (r < 0)
		return base_err_set(
			err, r, r == -E2BIG ? "the vault is full" : "out of memory for the vault");
	return vault_commit(v, &next, err);
}

int vault_set(struct vault *v, const struct vault_new *in, int64_t now_ms, struct base_err *err)
{
	struct vault_new n = *in;
	struct vault_entry add = {.name = n.name, .canary = n.how == VAULT_CANARY, .created_ms = now_ms};
	int r = vault_check_open(v, err);

	if (r == 0 && n.how == VAULT_ROTATE)
		r = rotate(v, &n, &add, now_ms, err);
	if (r == 0)
		r = check_new(&n, err);
	if (r == 0)
		r = vault_unseal(v, n.sealed, add.canary ? VAULT_CANARY_MIN : 1, VAULT_VALUE_MAX,
			"the value of a secret", &add.value, err);
	if (r < 0)
		return r;
	add.host = n.host;
	add.actions = n.actions;
	if (!base_utf8_valid(add.value))
		r = base_err_set(err, -EINVAL, "secret %.*s: the value is not UTF-8", BASE_STR_ARG(n.name));
	else
		r = put(v, &add, now_ms, err);
	sodium_free((void *)(uintptr_t)add.value.ptr);
	return r;
}

int vault_remove(struct vault *v, struct base_str name, int64_t now_ms, struct base_err *err)
{
	struct vault_entry old;
	struct vault_book next;
	int r = vault_check_open(v, err);

	if (r < 0)
		return r;
	if (!vault_book_find(&v->book, name, &old))
		return base_err_set(err, -ENOENT, "there is no secret %.*s", BASE_STR_ARG(name));
	r = vault_book_edit(&v->book, name, NULL, now_ms, &next);
	if (r < 0)
		return base_err_set(err, r, "out of memory for the vault");
	return vault_commit(v, &next, err);
}

int vault_list(const struct vault *v, int64_t now_ms, struct base_buf *ret, struct base_err *err)
{
	struct base_jw w = base_jw_of(ret);
	struct vault_entry e;
	size_t at = 0;
	int r = vault_check_open(v, err);

	if (r < 0)
		return r;
	base_jw_arr(&w);
	while (vault_book_next(&v->book, &at, &e) > 0) {
		base_jw_obj(&w);
		base_jw_mstr(&w, "name", e.name);
		base_jw_mstr(&w, "host", e.host);
		base_jw_mstr(&w, "actions", e.actions);
		base_jw_mint(&w, "created_ms", e.created_ms);
		if (e.canary)
			base_jw_mbool(&w, "canary", true);
		if (e.old_until_ms > now_ms)
			base_jw_mint(&w, "old_until_ms", e.old_until_ms);
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	r = base_buf_failed(ret);
	return r < 0 ? base_err_set(err, r, "the list of secrets is too long") : 0;
}

/* --- out --- */

static int check_recipient(struct base_str recipient, struct base_err *err)
{
	if (recipient.len == crypto_box_PUBLICKEYBYTES)
		return 0;
	return base_err_set(err, -EINVAL, "the recipient's key has %zu bytes, not %d", recipient.len,
		crypto_box_PUBLICKEYBYTES);
}

static int seal(struct base_str plain, struct base_str recipient, struct base_buf *ret)
{
	char *out = base_buf_reserve(ret, plain.len + crypto_box_SEALBYTES);

	if (!out || crypto_box_seal((uint8_t *)out, (const uint8_t *)plain.ptr, plain.len,
			    (const uint8_t *)recipient.ptr) != 0)
		return -ENOMEM;
	base_buf_commit(ret, plain.len + crypto_box_SEALBYTES);
	return 0;
}

/* In locked memory of a size that always suffices, so that the buffer never moves. */
static int seal_secret(const struct wire_secret *s, struct base_str recipient, struct base_buf *ret)
{
	size_t size = 64 + s->host.len + s->action.len + s->name.len + s->value.len + s->old.len;
	struct base_buf plain = {.ptr = sodium_malloc(size + 1), .size = size, .cap = size};
	int r;

	if (!plain.ptr)
		return -ENOMEM;
	wire_secret_put(&plain, s);
	r = base_buf_failed(&plain) ? -ENOMEM : seal(base_buf_view(&plain), recipient, ret);
	sodium_free(plain.ptr);
	return r;
}

static int may_have(const struct vault_entry *e, const struct vault_ask *a, struct base_err *err)
{
	if (e->canary)
		return base_err_set(
			err, -EACCES, "secret %.*s is a canary: it is never released", BASE_STR_ARG(a->name));
	if (!is_host(a->host) || !names_host(e->host, a->host))
		return base_err_set(err, -EACCES, "secret %.*s is for %.*s and not for %.*s",
			BASE_STR_ARG(a->name), BASE_STR_ARG(e->host),
			(int)(a->host.len > 253 ? 253 : a->host.len), a->host.ptr);
	if (!of_chars(a->action, 128, "-_.") || !names_action(e->actions, a->action))
		return base_err_set(err, -EACCES,
			"secret %.*s may be used by %.*s and not by %.*s: aios secrets set it with --action",
			BASE_STR_ARG(a->name), BASE_STR_ARG(e->actions),
			(int)(a->action.len > 128 ? 128 : a->action.len), a->action.ptr);
	return 0;
}

int vault_release(const struct vault *v, const struct vault_ask *a, int64_t now_ms, struct base_buf *ret,
	struct base_err *err)
{
	struct wire_secret s = {.call = a->call, .host = a->host, .action = a->action, .name = a->name};
	struct vault_entry e;
	int r = vault_check_open(v, err);

	r = r < 0 ? r : check_recipient(a->recipient, err);
	if (r < 0)
		return r;
	if (!vault_book_find(&v->book, a->name, &e))
		return base_err_set(err, -ENOENT, "there is no secret %.*s: set it with aios secrets set",
			BASE_STR_ARG(a->name));
	r = may_have(&e, a, err);
	if (r < 0)
		return r;
	s.value = e.value;
	s.old = e.old_until_ms > now_ms ? e.old : BASE_STR_NONE;
	r = seal_secret(&s, a->recipient, ret);
	return r < 0 ? base_err_set(err, r, "secret %.*s could not be sealed", BASE_STR_ARG(a->name)) : 0;
}

int vault_canaries(
	const struct vault *v, struct base_str recipient, struct base_buf *ret, struct base_err *err)
{
	uint8_t key[crypto_shorthash_KEYBYTES];
	struct vault_entry e;
	struct base_buf b;
	uint64_t base;
	size_t at = 0;
	int r = vault_check_open(v, err);

	r = r < 0 ? r : check_recipient(recipient, err);
	if (r < 0)
		return r;
	randombytes_buf(key, sizeof(key));
	randombytes_buf(&base, sizeof(base));
	base |= 1;
	base_buf_init(&b, 32 << 20);
	base_put_str(&b, (struct base_str){(const char *)key, sizeof(key)});
	base_put_u64(&b, base);
	while (r == 0 && vault_book_next(&v->book, &at, &e) > 0)
		if (e.canary)
			r = vault_canary_put(&e, key, base, &b);
	if (r == 0 && !base_buf_failed(&b))
		r = seal(base_buf_view(&b), recipient, ret);
	else
		r = -ENOMEM;
	base_buf_done(&b);
	return r < 0 ? base_err_set(err, r, "the canaries' fingerprints need too much memory") : 0;
}
