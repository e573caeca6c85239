#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "vault/vault_int.h"

/*
 * Another key. The order is what makes it safe to be killed at any step: first the new key is where it will be looked for
 * (a key file as key.next, the keyring beside a passphrase needs none), then one rename changes DIR/secrets from "opens
 * with the old key" to "opens with the new one", then the old key goes. What is left over is put right at the next
 * opening (vault_key_settle).
 */

struct next {
	struct vault_head head;
	uint8_t *kek, *data_key; /* sodium_malloc */
};

static int need_passphrase(const struct vault *v, struct next *n, struct base_str strength,
	struct base_str sealed, struct base_err *err)
{
	struct base_str passphrase;
	int r = vault_key_strength(&n->head, strength, err);

	if (r == 0)
		r = vault_unseal(v, sealed, 8, VAULT_PASSPHRASE_MAX, "a passphrase", &passphrase, err);
	if (r < 0)
		return r;
	r = vault_key_derive(&n->head, passphrase, n->kek);
	sodium_free((void *)(uintptr_t)passphrase.ptr);
	return r < 0 ? base_err_set(err, r, "the vault needs %llu MiB of memory for that strength",
			       (unsigned long long)(n->head.memlimit >> 20))
		     : 0;
}

static int make_next(const struct vault *v, struct next *n, enum vault_kind kind, struct base_str strength,
	struct base_str sealed, struct base_err *err)
{
	n->head = v->head;
	randombytes_buf(n->data_key, VAULT_KEY);
	if (!kind) { /* as it is: the same key, another data key */
		memcpy(n->kek, v->kek, VAULT_KEY);
		return 0;
	}
	n->head.kind = (uint8_t)kind;
	n->head.opslimit = n->head.memlimit = 0;
	sodium_memzero(n->head.salt, sizeof(n->head.salt));
	if (kind == VAULT_FILE)
		return vault_key_make(v->dir, n->kek, err);
	if (kind == VAULT_CREDENTIAL)
		return vault_key_credential(v->credential[0] ? v->credential : NULL, n->kek, err);
	if (kind == VAULT_KEYRING && !v->keyring)
		return base_err_set(err, -EOPNOTSUPP,
			"this machine gives aios no keyring: use a passphrase, a file or a systemd "
			"credential");
	return need_passphrase(v, n, strength, sealed, err);
}

static int take_over(struct vault *v, struct next *n, enum vault_kind kind, struct base_err *err)
{
	bool was_keyring = v->head.kind == VAULT_KEYRING;
	int r = vault_file_write(v->dir, &n->head, n->kek, n->data_key, &v->book, err);

	if (r < 0)
		return r;
	/* From here on the new key counts. */
	v->head = n->head;
	memcpy(v->kek, n->kek, VAULT_KEY);
	memcpy(v->data_key, n->data_key, VAULT_KEY);
	v->why = NULL;
	if (kind == VAULT_KEYRING && vault_keyring_put(v->keyring, v->head.id, v->kek) < 0)
		v->why = "its key could not be put into the keyring: the next start needs the passphrase";
	if (kind && kind != VAULT_KEYRING && was_keyring)
		(void)vault_keyring_drop(v->keyring, v->head.id); /* it opens nothing any more */
	return kind ? vault_key_settle(v->dir, kind == VAULT_FILE, kind == VAULT_FILE, err) : 0;
}

int vault_rekey(struct vault *v, struct base_str kind_name, struct base_str strength, struct base_str sealed,
	struct base_err *err)
{
	enum vault_kind kind = kind_name.len ? vault_kind_of(kind_name) : 0;
	struct next n = {.kek = sodium_malloc(VAULT_KEY), .data_key = sodium_malloc(VAULT_KEY)};
	int r = vault_check_open(v, err);

	if (r == 0 && kind_name.len && !kind)
		r = base_err_set(
			err, -EINVAL, "the key comes from one of: passphrase, file, keyring, credential");
	if (r == 0 && (!n.kek || !n.data_key))
		r = base_err_set(err, -ENOMEM, "out of memory for the vault");
	if (r == 0)
		r = make_next(v, &n, kind, strength, sealed, err);
	if (r == 0)
		r = take_over(v, &n, kind, err);
	sodium_free(n.kek);
	sodium_free(n.data_key);
	return r;
}
