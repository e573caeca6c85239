#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "connect/connect_int.h"
#include "wire/canary.h"

/*
 * Canary secrets, by their fingerprints: a table from the rolling fingerprint of a window to its SipHash, behind a set of
 * bits by the upper 16 bits of the fingerprint, since nearly every window of a text is none.
 */
enum { NAME_MAX_LEN = 128, PIECES_MAX = 1 << 20, BITS = 1 << 16 };

struct piece {
	uint64_t roll, sip;
	uint32_t canary; /* 0: free */
};

struct canaries {
	uint8_t key[crypto_shorthash_KEYBYTES];
	uint64_t base, power;
	size_t mask; /* of the table */
	struct piece *table;
	uint8_t bits[BITS / 8];
	uint32_t count;
	char (*names)[NAME_MAX_LEN + 1];
};

void connect_canaries_free(struct canaries *k)
{
	if (!k)
		return;
	free(k->table);
	free(k->names);
	free(k);
}

static void add(struct canaries *k, uint64_t roll, uint64_t sip, uint32_t canary)
{
	size_t at = (size_t)(roll * UINT64_C(0x9e3779b97f4a7c15) >> 20) & k->mask;

	while (k->table[at].canary)
		at = (at + 1) & k->mask;
	k->table[at] = (struct piece){roll, sip, canary};
	k->bits[roll >> 51] |= (uint8_t)(1 << (roll >> 48 & 7));
}

/* How many canaries and pieces there are; -EBADMSG. */
static int count(struct base_reader r, uint32_t *ret_canaries, size_t *ret_pieces)
{
	uint32_t canaries = 0;
	size_t pieces = 0;

	while (!r.failed && r.at < r.end) {
		struct base_str name = base_get_str(&r);
		uint64_t n = base_get_uint(&r, PIECES_MAX);

		canaries++;
		pieces += n;
		if (name.len > NAME_MAX_LEN || pieces > PIECES_MAX)
			return -EBADMSG;
		for (uint64_t i = 0; i < 2 * n && !r.failed; i++)
			base_get_u64(&r);
	}
	*ret_canaries = canaries;
	*ret_pieces = pieces;
	return r.failed ? -EBADMSG : 0;
}

static void fill(struct canaries *k, struct base_reader r)
{
	while (r.at < r.end) {
		struct base_str name = base_get_str(&r);
		uint64_t n = base_get_u64(&r);

		memcpy(k->names[k->count], name.ptr ? name.ptr : "", name.len);
		k->count++;
		for (uint64_t i = 0; i < n; i++) {
			uint64_t roll = base_get_u64(&r);

			add(k, roll, base_get_u64(&r), k->count);
		}
	}
}

static int load(struct base_str plain, struct canaries **ret)
{
	struct base_reader r = base_reader_of(plain);
	struct base_str key = base_get_str(&r);
	struct canaries *k = calloc(1, sizeof(*k));
	size_t pieces = 0, size = 16;
	uint32_t names = 0;
	int rc = k ? 0 : -ENOMEM;

	if (rc == 0 && key.len != sizeof(k->key))
		rc = -EBADMSG;
	if (rc == 0) {
		memcpy(k->key, key.ptr, sizeof(k->key));
		k->base = base_get_u64(&r);
		k->power = canary_power(k->base);
		rc = count(r, &names, &pieces);
	}
	while (size < 2 * pieces)
		size *= 2;
	if (rc == 0) {
		k->mask = size - 1;
		k->table = calloc(size, sizeof(*k->table));
		k->names = calloc(names ? names : 1, sizeof(*k->names));
		rc = k->table && k->names ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		connect_canaries_free(k);
		return rc;
	}
	fill(k, r);
	*ret = k;
	return 0;
}

int connect_canaries_load(struct connect *c, struct base_str sealed)
{
	struct canaries *k;
	size_t len;
	unsigned char *plain;
	int r = -EBADMSG;

	if (sealed.len <= crypto_box_SEALBYTES)
		return -EBADMSG;
	len = sealed.len - crypto_box_SEALBYTES;
	plain = malloc(len);
	if (!plain)
		return -ENOMEM;
	if (crypto_box_seal_open(
		    plain, (const unsigned char *)sealed.ptr, sealed.len, c->public_key, c->secret_key) == 0)
		r = load((struct base_str){(const char *)plain, len}, &k);
	free(plain);
	if (r < 0)
		return r;
	connect_canaries_free(c->canaries);
	c->canaries = k;
	return 0;
}

/* The canary of this window, or NULL. */
static const char *look_up(const struct canaries *k, uint64_t roll, const unsigned char *window)
{
	size_t at = (size_t)(roll * UINT64_C(0x9e3779b97f4a7c15) >> 20) & k->mask;
	uint8_t sip[crypto_shorthash_BYTES];
	uint64_t h;

	for (; k->table[at].canary; at = (at + 1) & k->mask) {
		if (k->table[at].roll != roll)
			continue;
		crypto_shorthash(sip, window, CANARY_WINDOW, k->key);
		memcpy(&h, sip, sizeof(h));
		if (h == k->table[at].sip)
			return k->names[k->table[at].canary - 1];
	}
	return NULL;
}

static const char *scan(const struct canaries *k, struct base_str s)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	const char *name;
	uint64_t h;

	if (s.len < CANARY_WINDOW)
		return NULL;
	h = canary_roll(p, k->base);
	for (size_t i = 0;; i++) {
		if (k->bits[h >> 51] & 1 << (h >> 48 & 7)) {
			name = look_up(k, h, p + i);
			if (name)
				return name;
		}
		if (i + CANARY_WINDOW == s.len)
			return NULL;
		h = canary_next(h, p + i, k->base, k->power);
	}
}

static int digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

const char *connect_canary_in(const struct connect *c, struct base_str s)
{
	const char *name;
	struct base_buf b;

	if (!c->canaries || !c->canaries->count)
		return NULL;
	name = scan(c->canaries, s);
	if (name || base_str_find(s, '%') < 0)
		return name;
	/* Needless percent signs are one more disguise. */
	base_buf_init(&b, s.len + 1);
	for (size_t i = 0; i < s.len; i++) {
		int hi = s.ptr[i] == '%' && i + 2 < s.len ? digit(s.ptr[i + 1]) : -1,
		    lo = hi >= 0 ? digit(s.ptr[i + 2]) : -1;

		base_buf_char(&b, lo >= 0 ? (char)(hi << 4 | lo) : s.ptr[i]);
		i += lo >= 0 ? 2 : 0;
	}
	name = scan(c->canaries, base_buf_view(&b));
	base_buf_done(&b);
	return name;
}
