#include "base/hash.h"

#include <errno.h>
#include <sodium/crypto_generichash.h>
#include <sodium/utils.h>
#include <string.h>

static struct base_hash hash_parts(const struct base_str *parts, size_t count)
{
	crypto_generichash_state st;
	struct base_hash h;
	size_t i;

	crypto_generichash_init(&st, NULL, 0, sizeof(h.b));
	for (i = 0; i < count; i++)
		crypto_generichash_update(&st, (const unsigned char *)parts[i].ptr, parts[i].len);
	crypto_generichash_final(&st, h.b, sizeof(h.b));
	return h;
}

struct base_hash base_hash_of(struct base_str data)
{
	return hash_parts(&data, 1);
}

struct base_hash base_hash_of2(struct base_str a, struct base_str b)
{
	return hash_parts((struct base_str[]){a, b}, 2);
}

bool base_hash_eq(const struct base_hash *a, const struct base_hash *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool base_hash_is_zero(const struct base_hash *h)
{
	static const struct base_hash zero;

	return base_hash_eq(h, &zero);
}

static const char hex_digits[] = "0123456789abcdef";

static void hex_write(char *to, const unsigned char *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		to[2 * i] = hex_digits[p[i] >> 4];
		to[2 * i + 1] = hex_digits[p[i] & 15];
	}
}

void base_hash_hex(const struct base_hash *h, char ret_hex[65])
{
	hex_write(ret_hex, h->b, sizeof(h->b));
	ret_hex[2 * sizeof(h->b)] = '\0';
}

int base_hash_from_hex(struct base_str hex, struct base_hash *ret)
{
	struct base_hash h;

	if (base_hex_get(hex, h.b, sizeof(h.b)) < 0)
		return -EINVAL;
	*ret = h;
	return 0;
}

struct base_hash base_merkle_leaf(struct base_str data)
{
	return base_hash_of2(BASE_STR("\0"), data);
}

static struct base_hash node(const struct base_hash *left, const struct base_hash *right)
{
	struct base_str parts[] = {BASE_STR("\1"), {(const char *)left->b, sizeof(left->b)},
		{(const char *)right->b, sizeof(right->b)}};

	return hash_parts(parts, 3);
}

/* Pairing level by level and passing an odd last one up unchanged gives the RFC's tree (split at the largest
 * power of two below the count). */
struct base_hash base_merkle_root(struct base_hash *leaves, size_t count)
{
	if (count == 0)
		return base_hash_of(BASE_STR_NONE);
	while (count > 1) {
		size_t i;

		for (i = 0; i < count / 2; i++)
			leaves[i] = node(&leaves[2 * i], &leaves[2 * i + 1]);
		if (count % 2)
			leaves[i] = leaves[count - 1];
		count = (count + 1) / 2;
	}
	return leaves[0];
}

void base_merkle_tree(struct base_hash *tree, size_t count)
{
	while (count > 1) {
		struct base_hash *next = tree + count;

		for (size_t i = 0; i < count; i += 2)
			next[i / 2] = i + 1 < count ? node(&tree[i], &tree[i + 1]) : tree[i];
		tree = next;
		count = (count + 1) / 2;
	}
}

size_t base_merkle_path(const struct base_hash *tree, size_t count, size_t index, struct base_hash ret[64])
{
	size_t n = 0;

	while (count > 1) {
		if (index % 2 || index + 1 < count)
			ret[n++] = tree[index ^ 1];
		tree += count;
		count = (count + 1) / 2;
		index /= 2;
	}
	return n;
}

void base_hex_put(struct base_buf *b, struct base_str data)
{
	char *to = data.len > SIZE_MAX / 2 ? NULL : base_buf_reserve(b, data.len * 2);

	if (!to) {
		b->failed = b->failed ? b->failed : -EFBIG;
		return;
	}
	hex_write(to, (const unsigned char *)data.ptr, data.len);
	base_buf_commit(b, data.len * 2);
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int base_hex_get(struct base_str hex, uint8_t *ret, size_t len)
{
	size_t i;

	if (hex.len % 2 || hex.len / 2 != len)
		return -EINVAL;
	for (i = 0; i < hex.len; i++)
		if (hex_value(hex.ptr[i]) < 0)
			return -EINVAL;
	for (i = 0; i < len; i++)
		ret[i] = (uint8_t)(hex_value(hex.ptr[2 * i]) << 4 | hex_value(hex.ptr[2 * i + 1]));
	return 0;
}

static void b64_put(struct base_buf *b, struct base_str data, int variant)
{
	size_t size;
	char *to;

	if (data.len > SIZE_MAX / 2) {
		b->failed = b->failed ? b->failed : -EFBIG;
		return;
	}
	size = sodium_base64_encoded_len(data.len, variant); /* with its NUL: it goes into the spare byte */
	to = base_buf_reserve(b, size - 1);
	if (!to)
		return;
	sodium_bin2base64(to, size, (const unsigned char *)data.ptr, data.len, variant);
	base_buf_commit(b, size - 1);
}

static int b64_get(struct base_str text, struct base_buf *ret, int variant)
{
	size_t max = text.len / 4 * 3 + 3, len;
	char *to = base_buf_reserve(ret, max);

	if (!to)
		return base_buf_failed(ret);
	if (sodium_base642bin((unsigned char *)to, max, text.ptr, text.len, NULL, &len, NULL, variant) != 0)
		return -EINVAL;
	base_buf_commit(ret, len);
	return 0;
}

void base_b64url_put(struct base_buf *b, struct base_str data)
{
	b64_put(b, data, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

int base_b64url_get(struct base_str text, struct base_buf *ret)
{
	return b64_get(text, ret, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

void base_b64_put(struct base_buf *b, struct base_str data)
{
	b64_put(b, data, sodium_base64_VARIANT_ORIGINAL);
}

int base_b64_get(struct base_str text, struct base_buf *ret)
{
	return b64_get(text, ret, sodium_base64_VARIANT_ORIGINAL);
}
