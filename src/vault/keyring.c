#include <errno.h>
#include <linux/keyctl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vault/vault_int.h"

/*
 * The kernel's keyring of the user, by its serial: aiosd looked it up, since a process in a user namespace of its
 * own would be shown another one. The key can be read by every process of this user on this machine; it is gone
 * when the machine stops.
 */

enum {
	/* Of linux/keyctl.h's KEY_POS_ and KEY_USR_: all for the possessor; the user may view, read, search, and
	 * (to drop it) set attributes and write. */
	POSSESSOR_ALL = 0x3f000000,
	USER_MAY = 0x00010000 | 0x00020000 | 0x00040000 | 0x00080000 | 0x00200000,
};

static void name_of(const uint8_t id[VAULT_ID], char ret[64])
{
	char hex[2 * VAULT_ID + 1];

	sodium_bin2hex(hex, sizeof(hex), id, VAULT_ID);
	snprintf(ret, 64, "aios:vault:%s", hex);
}

static long find(int32_t keyring, const uint8_t id[VAULT_ID])
{
	char name[64];
	long key;

	if (!keyring)
		return -ENOKEY;
	name_of(id, name);
	key = syscall(SYS_keyctl, KEYCTL_SEARCH, keyring, "user", name, 0);
	return key < 0 ? -errno : key;
}

int vault_keyring_get(int32_t keyring, const uint8_t id[VAULT_ID], uint8_t ret[VAULT_KEY])
{
	uint8_t got[VAULT_KEY];
	long key = find(keyring, id), n;

	if (key < 0)
		return (int)key;
	n = syscall(SYS_keyctl, KEYCTL_READ, key, got, sizeof(got));
	if (n == VAULT_KEY)
		memcpy(ret, got, VAULT_KEY);
	sodium_memzero(got, sizeof(got));
	return n == VAULT_KEY ? 0 : n < 0 ? -errno : -EBADMSG;
}

/* Made among the process's own keys, where it may still be changed; given to the user's keyring then. */
int vault_keyring_put(int32_t keyring, const uint8_t id[VAULT_ID], const uint8_t key[VAULT_KEY])
{
	char name[64];
	long made;
	int r = 0;

	if (!keyring)
		return -ENOKEY;
	name_of(id, name);
	made = syscall(SYS_add_key, "user", name, key, (size_t)VAULT_KEY, KEY_SPEC_PROCESS_KEYRING);
	if (made < 0)
		return -errno;
	if (syscall(SYS_keyctl, KEYCTL_SETPERM, made, POSSESSOR_ALL | USER_MAY) < 0 ||
		syscall(SYS_keyctl, KEYCTL_LINK, made, keyring) < 0)
		r = -errno;
	syscall(SYS_keyctl, KEYCTL_UNLINK, made, KEY_SPEC_PROCESS_KEYRING);
	return r;
}

int vault_keyring_drop(int32_t keyring, const uint8_t id[VAULT_ID])
{
	long key = find(keyring, id);

	if (key < 0)
		return key == -ENOKEY ? 0 : (int)key;
	return syscall(SYS_keyctl, KEYCTL_UNLINK, key, keyring) < 0 ? -errno : 0;
}
