#include <sodium.h>
#include <string.h>

#include "base/codec.h"
#include "base/disguise.h"
#include "vault/vault_int.h"
#include "wire/canary.h"

/* Canaries begin as real keys do ("sk-ant-api03-…"): pieces with little else in them would be met by accident. */
enum { PREFIX = 8, LONG = 32 };

struct pieces {
	const uint8_t *key;
	uint64_t base, count;
	size_t len;	      /* of the value */
	struct base_buf *ret; /* NULL: only counted */
};

static void put_pieces(void *userdata, enum base_disguise how, struct base_str form)
{
	struct pieces *p = userdata;
	size_t skip = p->len >= LONG ? PREFIX * form.len / p->len : 0;
	uint8_t sip[crypto_shorthash_BYTES];

	(void)how;
	for (size_t i = skip; i + CANARY_WINDOW <= form.len; i++) {
		const unsigned char *at = (const unsigned char *)form.ptr + i;
		uint64_t h;

		p->count++;
		if (!p->ret)
			continue;
		crypto_shorthash(sip, at, CANARY_WINDOW, p->key);
		memcpy(&h, sip, sizeof(h));
		base_put_u64(p->ret, canary_roll(at, p->base));
		base_put_u64(p->ret, h);
	}
}

int vault_canary_put(const struct vault_entry *e, const uint8_t key[16], uint64_t base, struct base_buf *ret)
{
	size_t size = 6 * e->value.len + 16;
	struct base_buf scratch = {.ptr = sodium_malloc(size + 1), .size = size, .cap = size};
	struct pieces p = {.key = key, .base = base, .len = e->value.len};

	if (!scratch.ptr)
		return -1;
	base_disguises(e->value, &scratch, put_pieces, &p);
	base_put_str(ret, e->name);
	base_put_u64(ret, p.count);
	p.ret = ret;
	base_disguises(e->value, &scratch, put_pieces, &p);
	sodium_free(scratch.ptr);
	return 0;
}
