#include "vault/vault.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "vault/vault_int.h"

struct vault {
	char dir[PATH_MAX];
	uint8_t *key;	 /* VAULT_KEY bytes, locked */
	uint8_t *secret; /* of the sealing key, locked */
	uint8_t public_key[crypto_box_PUBLICKEYBYTES];
	struct vault_book book;
};

void vault_free(struct vault *v)
{
	if (!v)
		return;
	sodium_free(v->key);
	sodium_free(v->secret);
	vault_book_free(&v->book);
	free(v);
}

int vault_open(const char *dir, struct vault **ret, struct base_err *err)
{
	struct vault *v = calloc(1, sizeof(*v));
	int r, there;

	if (!v || sodium_init() < 0)
		r = -ENOMEM;
	else
		r = realpath(dir, v->dir) ? 0 : -errno;
	if (r < 0) {
		free(v);
		return base_err_set(err, r, "cannot open the vault %s: %s", dir, strerror(-r));
	}
	v->key = sodium_malloc(VAULT_KEY);
	v->secret = sodium_malloc(crypto_box_SECRETKEYBYTES);
	if (!v->key || !v->secret) {
		vault_free(v);
		return base_err_set(err, -ENOMEM, "out of memory for the vault");
	}
	crypto_box_keypair(v->public_key, v->secret);
	there = vault_file_exists(v->dir, err);
	r = there < 0 ? there : vault_key_open(v->dir, !there, v->key, err);
	if (r == 0 && there)
		r = vault_file_read(v->dir, v->key, &v->book, err);
	if (r < 0)
		vault_free(v);
	else
		*ret = v;
	return r;
}

struct base_str vault_public_key(const struct vault *v)
{
	return (struct base_str){(const char *)v->public_key, sizeof(v->public_key)};
}

static bool is_name(struct base_str s)
{
	if (s.len == 0 || s.len > VAULT_NAME_MAX)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!s.ptr[i] || !strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./",
					 s.ptr[i]))
			return false;
	return true;
}

/* A host name or address, without port, blanks or wildcards. */
static bool is_host(struct base_str s)
{
	if (s.len == 0 || s.len > 253)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!s.ptr[i] ||
			!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:[]",
				s.ptr[i]))
			return false;
	return true;
}

static struct base_str trim(struct base_str s)
{
	while (s.len && s.ptr[0] == ' ')
		s = base_str_sub(s, 1, s.len);
	while (s.len && s.ptr[s.len - 1] == ' ')
		s.len--;
	return s;
}

static bool are_hosts(struct base_str list)
{
	struct base_str one;
	bool more = true;

	if (list.len > VAULT_HOST_MAX)
		return false;
	while (more) {
		more = base_str_cut(list, ',', &one, &list);
		if (!is_host(trim(one)))
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

/* Writes the edited book and takes it over; on failure the old one stays, on disk and here. */
static int commit(struct vault *v, struct vault_book *next, struct base_err *err)
{
	int r = vault_file_write(v->dir, v->key, next, err);

	if (r < 0) {
		vault_book_free(next);
		return r;
	}
	vault_book_free(&v->book);
	v->book = *next;
	return 0;
}

static int set(struct vault *v, const struct vault_entry *add, struct base_err *err)
{
	struct vault_entry old;
	struct vault_book next;
	int r;

	if (!vault_book_find(&v->book, add->name, &old) && vault_book_count(&v->book) >= VAULT_SECRETS_MAX)
		return base_err_set(
			err, -E2BIG, "the vault holds %d secrets, which is its limit", VAULT_SECRETS_MAX);
	r = vault_book_edit(&v->book, add->name, add, &next);
	if (r < 0)
		return base_err_set(
			err, r, r == -E2BIG ? "the vault is full" : "out of memory for the vault");
	return commit(v, &next, err);
}

int vault_set(struct vault *v, struct base_str name, struct base_str host, struct base_str sealed,
	int64_t now_ms, struct base_err *err)
{
	struct vault_entry add = {.name = name, .host = host, .created_ms = now_ms};
	uint8_t *value;
	size_t len;
	int r;

	if (!is_name(name))
		return base_err_set(err, -EINVAL, "a secret's name is 1 to %d letters, digits and - _ . /",
			VAULT_NAME_MAX);
	if (!are_hosts(host))
		return base_err_set(err, -EINVAL,
			"secret %.*s: name the host that it may go to, like api.example.org (several: with "
			"commas)",
			BASE_STR_ARG(name));
	if (sealed.len <= crypto_box_SEALBYTES || sealed.len - crypto_box_SEALBYTES > VAULT_VALUE_MAX)
		return base_err_set(err, -EINVAL, "secret %.*s: a value has 1 to %d bytes",
			BASE_STR_ARG(name), VAULT_VALUE_MAX);
	len = sealed.len - crypto_box_SEALBYTES;
	value = sodium_malloc(len);
	if (!value)
		return base_err_set(err, -ENOMEM, "out of memory for the vault");
	add.value = (struct base_str){(const char *)value, len};
	if (crypto_box_seal_open(value, (const uint8_t *)sealed.ptr, sealed.len, v->public_key, v->secret) !=
		0)
		r = base_err_set(err, -EINVAL, "secret %.*s was not sealed to this vault: try again",
			BASE_STR_ARG(name));
	else if (!base_utf8_valid(add.value))
		r = base_err_set(err, -EINVAL, "secret %.*s: the value is not UTF-8", BASE_STR_ARG(name));
	else
		r = set(v, &add, err);
	sodium_free(value);
	return r;
}

int vault_remove(struct vault *v, struct base_str name, struct base_err *err)
{
	struct vault_entry old;
	struct vault_book next;
	int r;

	if (!vault_book_find(&v->book, name, &old))
		return base_err_set(err, -ENOENT, "there is no secret %.*s", BASE_STR_ARG(name));
	r = vault_book_edit(&v->book, name, NULL, &next);
	if (r < 0)
		return base_err_set(err, r, "out of memory for the vault");
	return commit(v, &next, err);
}

void vault_list(const struct vault *v, struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);
	struct vault_entry e;
	size_t at = 0;

	base_jw_arr(&w);
	while (vault_book_next(&v->book, &at, &e) > 0) {
		base_jw_obj(&w);
		base_jw_mstr(&w, "name", e.name);
		base_jw_mstr(&w, "host", e.host);
		base_jw_mint(&w, "created_ms", e.created_ms);
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
}

/* The JSON is written into locked memory of a size that always suffices, so that the buffer never moves. */
static int seal(uint64_t call, const struct vault_entry *e, struct base_str host, struct base_str recipient,
	struct base_buf *ret)
{
	size_t size = 128 + 6 * (host.len + e->value.len);
	struct base_buf plain = {.ptr = sodium_malloc(size + 1), .size = size, .cap = size};
	struct base_jw w = base_jw_of(&plain);
	char *out;
	int r = -ENOMEM;

	if (!plain.ptr)
		return -ENOMEM;
	base_jw_obj(&w);
	base_jw_key(&w, "call");
	base_jw_uint(&w, call);
	base_jw_mstr(&w, "host", host);
	base_jw_mstr(&w, "value", e->value);
	base_jw_end_obj(&w);
	out = base_buf_reserve(ret, plain.len + crypto_box_SEALBYTES);
	if (out && base_buf_failed(&plain) == 0 &&
		crypto_box_seal((uint8_t *)out, (const uint8_t *)plain.ptr, plain.len,
			(const uint8_t *)recipient.ptr) == 0) {
		base_buf_commit(ret, plain.len + crypto_box_SEALBYTES);
		r = 0;
	}
	sodium_free(plain.ptr);
	return r;
}

int vault_release(const struct vault *v, uint64_t call, struct base_str name, struct base_str host,
	struct base_str recipient, struct base_buf *ret, struct base_err *err)
{
	struct vault_entry e;
	int r;

	if (recipient.len != crypto_box_PUBLICKEYBYTES)
		return base_err_set(err, -EINVAL, "secret %.*s: the recipient's key has %zu bytes, not %d",
			BASE_STR_ARG(name), recipient.len, crypto_box_PUBLICKEYBYTES);
	if (!vault_book_find(&v->book, name, &e))
		return base_err_set(err, -ENOENT, "there is no secret %.*s: set it with aios secrets set",
			BASE_STR_ARG(name));
	if (!is_host(host) || !names_host(e.host, host))
		return base_err_set(err, -EACCES, "secret %.*s is for %.*s and not for %.*s",
			BASE_STR_ARG(name), BASE_STR_ARG(e.host), (int)(host.len > 253 ? 253 : host.len),
			host.ptr);
	r = seal(call, &e, host, recipient, ret);
	return r < 0 ? base_err_set(err, r, "secret %.*s could not be sealed", BASE_STR_ARG(name)) : 0;
}
