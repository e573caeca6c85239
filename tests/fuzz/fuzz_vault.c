/* The vault's file, its book and what it seals, from whoever can write there: first byte: which. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "base/disguise.h"
#include "fuzz.h"
#include "vault/vault_int.h"
#include "wire/secret.h"

static void file(const uint8_t *data, size_t size)
{
	static const uint8_t key[VAULT_KEY];
	uint8_t *bytes = malloc(size ? size : 1), data_key[VAULT_KEY];
	struct vault_file f;
	struct vault_book b;

	if (!bytes)
		return;
	memcpy(bytes, data, size);
	if (vault_file_decode(bytes, size, &f) < 0) {
		free(bytes);
		return;
	}
	if (vault_file_open(&f, key, data_key, &b) == 0)
		vault_book_free(&b);
	vault_file_free(&f);
}

/* What decrypts is walked whole, edited and walked again. */
static void book(const uint8_t *data, size_t size)
{
	struct vault_book b = {(uint8_t *)(uintptr_t)data, size}, next;
	struct vault_entry e;

	if (vault_book_check(&b) < 0)
		return;
	if (vault_book_edit(&b, BASE_STR("a"), NULL, 1000, &next) == 0) {
		if (vault_book_check(&next) < 0)
			abort();
		(void)vault_book_find(&next, BASE_STR("b"), &e);
		vault_book_free(&next);
	}
}

static void first_book(const uint8_t *data, size_t size)
{
	static const uint8_t seed[VAULT_SEED];
	struct vault_book b;

	if (vault_book_convert(data, size, seed, &b) == 0) {
		if (vault_book_check(&b) < 0)
			abort();
		vault_book_free(&b);
	}
}

static void one_form(void *userdata, enum base_disguise how, struct base_str form)
{
	(void)how;
	*(size_t *)userdata += form.len ? (unsigned char)form.ptr[form.len - 1] : 0;
}

static void secret(const uint8_t *data, size_t size)
{
	struct wire_secret s;
	struct base_buf scratch;
	size_t sum = 0;

	if (wire_secret_get((struct base_str){(const char *)data, size}, &s) < 0)
		return;
	base_buf_init(&scratch, 8 * s.value.len + 64);
	base_disguises(s.value, &scratch, one_form, &sum);
	base_buf_done(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || sodium_init() < 0)
		return 0;
	switch (data[0] & 3) {
	case 0:
		file(data + 1, size - 1);
		break;
	case 1:
		book(data + 1, size - 1);
		break;
	case 2:
		first_book(data + 1, size - 1);
		break;
	default:
		secret(data + 1, size - 1);
		break;
	}
	return 0;
}
