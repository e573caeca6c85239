#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vault/vault_int.h"

static const char *const kinds[] = {NULL, "file", "passphrase", "keyring", "credential"};

enum { CREDENTIAL_MIN = 16, CREDENTIAL_MAX = 4096 };

const char *vault_kind_name(enum vault_kind kind)
{
	return kinds[kind];
}

enum vault_kind vault_kind_of(struct base_str name)
{
	for (unsigned i = VAULT_FILE; i <= VAULT_CREDENTIAL; i++)
		if (base_str_is(name, kinds[i]))
			return (enum vault_kind)i;
	return 0;
}

int vault_key_make(const char *dir, uint8_t ret[VAULT_KEY], struct base_err *err)
{
	randombytes_buf(ret, VAULT_KEY);
	return vault_replace(dir, "key.next", ret, VAULT_KEY, err);
}

int vault_key_read(const char *dir, bool next, uint8_t ret[VAULT_KEY], struct base_err *err)
{
	uint8_t *bytes;
	size_t len;
	int r = vault_read(dir, next ? "key.next" : "key", VAULT_KEY, VAULT_KEY, true, &bytes, &len, err);

	if (r < 0)
		return r;
	memcpy(ret, bytes, VAULT_KEY);
	sodium_memzero(bytes, len);
	free(bytes);
	return 0;
}

int vault_key_settle(const char *dir, bool is_file, bool by_next, struct base_err *err)
{
	char from[PATH_MAX], to[PATH_MAX];
	int r;

	if (!is_file || !by_next) {
		r = vault_remove_file(dir, "key.next", err);
		return r < 0 || is_file ? r : vault_remove_file(dir, "key", err);
	}
	r = vault_path(dir, "key.next", from, sizeof(from), err);
	r = r < 0 ? r : vault_path(dir, "key", to, sizeof(to), err);
	if (r < 0)
		return r;
	if (rename(from, to) < 0)
		return vault_failed(err, "rename to", to);
	return vault_sync(dir, err);
}

int vault_key_credential(const char *path, uint8_t ret[VAULT_KEY], struct base_err *err)
{
	uint8_t *bytes = NULL;
	size_t len = 0;
	int r = -ENOENT;

	if (path)
		r = vault_read("", path + (path[0] == '/'), 0, CREDENTIAL_MAX, false, &bytes, &len, err);
	if (r == -ENOENT)
		return base_err_set(err, r,
			"the systemd credential \"aios-vault\" is not there: start aios as a service with "
			"LoadCredentialEncrypted=aios-vault (packaging/aios@.service)");
	if (r < 0)
		return r;
	if (len < CREDENTIAL_MIN)
		r = base_err_set(err, -EBADMSG,
			"the systemd credential \"aios-vault\" has %zu bytes: at least %d random ones are "
			"needed",
			len, CREDENTIAL_MIN);
	else
		crypto_generichash(ret, VAULT_KEY, bytes, len, (const uint8_t *)"aios credential", 15);
	sodium_memzero(bytes, len);
	free(bytes);
	return r;
}

int vault_key_strength(struct vault_head *h, struct base_str strength, struct base_err *err)
{
	if (strength.len == 0 || base_str_is(strength, "moderate")) {
		h->opslimit = crypto_pwhash_OPSLIMIT_MODERATE;
		h->memlimit = crypto_pwhash_MEMLIMIT_MODERATE;
	} else if (base_str_is(strength, "sensitive")) {
		h->opslimit = crypto_pwhash_OPSLIMIT_SENSITIVE;
		h->memlimit = crypto_pwhash_MEMLIMIT_SENSITIVE;
	} else {
		return base_err_set(err, -EINVAL, "strength is moderate or sensitive");
	}
	randombytes_buf(h->salt, sizeof(h->salt));
	return 0;
}

int vault_key_derive(const struct vault_head *h, struct base_str passphrase, uint8_t ret[VAULT_KEY])
{
	if (crypto_pwhash(ret, VAULT_KEY, passphrase.ptr, passphrase.len, h->salt, h->opslimit,
		    (size_t)h->memlimit, crypto_pwhash_ALG_ARGON2ID13) != 0)
		return -ENOMEM;
	return 0;
}
