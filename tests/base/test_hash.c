#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"

static void test_known(void **state)
{
	struct base_hash h, g;
	char hex[65];

	(void)state;
	h = base_hash_of(BASE_STR_NONE);
	base_hash_hex(&h, hex);
	assert_string_equal(hex, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
	h = base_hash_of(BASE_STR("abc"));
	base_hash_hex(&h, hex);
	assert_string_equal(hex, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
	g = base_hash_of2(BASE_STR("a"), BASE_STR("bc"));
	assert_true(base_hash_eq(&h, &g));
	assert_false(base_hash_is_zero(&h));
	assert_true(base_hash_is_zero(&(struct base_hash){{0}}));
	assert_int_equal(base_hash_from_hex(base_str_of(hex), &g), 0);
	assert_true(base_hash_eq(&h, &g));
	assert_int_equal(base_hash_from_hex(BASE_STR("abcd"), &g), -EINVAL);
	hex[3] = 'g';
	assert_int_equal(base_hash_from_hex(base_str_of(hex), &g), -EINVAL);
	assert_true(base_hash_eq(&h, &g));
}

/* RFC 6962, section 2.1, as it stands there: recursive, split at the largest power of two below n. */
static struct base_hash model(const struct base_hash *leaves, size_t n)
{
	struct base_hash left, right;
	char both[65] = "\1";
	size_t k = 1;

	if (n == 1)
		return leaves[0];
	while (k * 2 < n)
		k *= 2;
	left = model(leaves, k);
	right = model(leaves + k, n - k);
	memcpy(both + 1, left.b, 32);
	memcpy(both + 33, right.b, 32);
	return base_hash_of((struct base_str){both, 65});
}

static void test_merkle(void **state)
{
	struct base_hash leaves[70], work[70], root, want;
	size_t i, n;

	(void)state;
	for (i = 0; i < 70; i++) {
		char data[2] = {0, (char)i};

		leaves[i] = base_merkle_leaf((struct base_str){data + 1, 1});
		want = base_hash_of((struct base_str){data, 2});
		assert_true(base_hash_eq(&leaves[i], &want));
	}
	root = base_merkle_root(work, 0);
	want = base_hash_of(BASE_STR_NONE);
	assert_true(base_hash_eq(&root, &want));
	for (n = 1; n <= 70; n++) {
		memcpy(work, leaves, sizeof(work));
		root = base_merkle_root(work, n);
		want = model(leaves, n);
		assert_true(base_hash_eq(&root, &want));
	}
}

/* Up from each leaf of each tree, by its index alone, to the root. */
static void test_merkle_paths(void **state)
{
	struct base_hash leaves[70], tree[BASE_MERKLE_TREE(70)], path[64], root, h;

	(void)state;
	for (size_t i = 0; i < 70; i++)
		leaves[i] = base_merkle_leaf((struct base_str){(const char *)&i, sizeof(i)});
	for (size_t n = 1; n <= 70; n++) {
		root = model(leaves, n);
		memcpy(tree, leaves, n * sizeof(*tree));
		base_merkle_tree(tree, n);
		for (size_t i = 0; i < n; i++) {
			size_t count = base_merkle_path(tree, n, i, path), used = 0, at = i, width = n;

			for (h = leaves[i]; width > 1; width = (width + 1) / 2, at /= 2) {
				char pair[65] = {1};

				if (at % 2 == 0 && at + 1 == width)
					continue;
				assert_true(used < count);
				memcpy(pair + 1 + (at % 2 ? 32 : 0), h.b, 32);
				memcpy(pair + 1 + (at % 2 ? 0 : 32), path[used++].b, 32);
				h = base_hash_of((struct base_str){pair, sizeof(pair)});
			}
			assert_int_equal(used, count);
			assert_true(base_hash_eq(&h, &root));
		}
	}
}

static void test_hex(void **state)
{
	struct base_buf b;
	uint8_t out[3];

	(void)state;
	base_buf_init(&b, 100);
	base_hex_put(&b, BASE_STR("\x00\x7f\xff"));
	assert_true(base_str_is(base_buf_view(&b), "007fff"));
	assert_int_equal(base_hex_get(base_buf_view(&b), out, 3), 0);
	assert_memory_equal(out, "\x00\x7f\xff", 3);
	assert_int_equal(base_hex_get(BASE_STR("00AAbB"), out, 3), 0);
	assert_int_equal(base_hex_get(BASE_STR("00AAb"), out, 3), -EINVAL);
	assert_int_equal(base_hex_get(BASE_STR("00AAbB00"), out, 3), -EINVAL);
	base_buf_done(&b);
}

static void check_base64(const char *plain, const char *padded, const char *url)
{
	struct base_buf b;

	base_buf_init(&b, 100);
	base_b64_put(&b, base_str_of(plain));
	assert_true(base_str_is(base_buf_view(&b), padded));
	base_buf_clear(&b);
	base_b64url_put(&b, base_str_of(plain));
	assert_true(base_str_is(base_buf_view(&b), url));
	base_buf_clear(&b);
	assert_int_equal(base_b64_get(base_str_of(padded), &b), 0);
	assert_true(base_str_is(base_buf_view(&b), plain));
	base_buf_clear(&b);
	assert_int_equal(base_b64url_get(base_str_of(url), &b), 0);
	assert_true(base_str_is(base_buf_view(&b), plain));
	base_buf_done(&b);
}

static void test_base64(void **state)
{
	static const char *const bad[] = {"Zg", "Zg=", "Zh==", "Z", "Zm9v!", "Zm9v====", " Zm9v", "Zm9-"};
	struct base_buf b;
	size_t i;

	(void)state;
	check_base64("", "", "");
	check_base64("f", "Zg==", "Zg");
	check_base64("fo", "Zm8=", "Zm8");
	check_base64("foo", "Zm9v", "Zm9v");
	check_base64("foob", "Zm9vYg==", "Zm9vYg");
	check_base64("\xfb\xff\xfe", "+//+", "-__-");
	base_buf_init(&b, 100);
	base_buf_cstr(&b, "keep");
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(base_b64_get(base_str_of(bad[i]), &b), -EINVAL);
	assert_int_equal(base_b64url_get(BASE_STR("Zg=="), &b), -EINVAL);
	assert_int_equal(base_b64url_get(BASE_STR("+//+"), &b), -EINVAL);
	assert_true(base_str_is(base_buf_view(&b), "keep"));
	base_buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_merkle),
		cmocka_unit_test(test_merkle_paths),
		cmocka_unit_test(test_hex),
		cmocka_unit_test(test_base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
