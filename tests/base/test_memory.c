#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"

static void test_arena(void **state)
{
	struct base_arena *a;
	struct base_str s;
	unsigned char *p, *q;
	size_t i;

	(void)state;
	assert_int_equal(base_arena_new(1 << 20, &a), 0);
	for (i = 1; i < 300; i++) {
		p = base_arena_alloc(a, i);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		for (size_t k = 0; k < i; k++)
			assert_int_equal(p[k], 0);
		memset(p, 0xaa, i);
	}
	assert_int_equal(base_arena_used(a), 299 * 300 / 2);
	p = base_arena_alloc(a, 300000); /* a chunk of its own */
	assert_non_null(p);
	memset(p, 0xbb, 300000);
	base_arena_reset(a);
	assert_int_equal(base_arena_used(a), 0);
	p = base_arena_alloc(a, 64);
	q = base_arena_alloc(a, 0);
	assert_true(q != p && q != NULL);
	for (i = 0; i < 64; i++)
		assert_int_equal(p[i], 0);
	s = base_arena_dup(a, BASE_STR("hello"));
	assert_string_equal(s.ptr, "hello");
	s = base_arena_dup(a, BASE_STR_NONE);
	assert_true(s.ptr && s.len == 0);
	s = base_arena_printf(a, "%d-%s", 42, "x");
	assert_string_equal(s.ptr, "42-x");
	assert_int_equal(s.len, 4);
	base_arena_free(a);
	base_arena_free(NULL);
}

static void test_arena_cap(void **state)
{
	struct base_arena *a;
	size_t n = 0;

	(void)state;
	assert_int_equal(base_arena_new(1000, &a), 0);
	assert_null(base_arena_alloc(a, 1001));
	assert_null(base_arena_alloc(a, SIZE_MAX));
	assert_null(base_arena_array(a, SIZE_MAX / 2, 3));
	while (base_arena_alloc(a, 10))
		n++;
	assert_int_equal(n, 100);
	assert_null(base_arena_dup(a, BASE_STR("x")).ptr);
	assert_null(base_arena_printf(a, "x").ptr);
	base_arena_reset(a);
	assert_non_null(base_arena_alloc(a, 1000));
	base_arena_free(a);
}

static void test_buf(void **state)
{
	struct base_buf b;
	size_t len;
	char *p;
	int i;

	(void)state;
	base_buf_init(&b, 10000);
	assert_int_equal(base_buf_view(&b).len, 0);
	base_buf_put(&b, NULL, 0);
	base_buf_cstr(&b, "a");
	base_buf_char(&b, 'b');
	base_buf_str(&b, BASE_STR("c\0d"));
	base_buf_u64(&b, UINT64_MAX);
	base_buf_i64(&b, INT64_MIN);
	base_buf_i64(&b, 0);
	base_buf_printf(&b, "<%s>", "x");
	assert_true(base_str_eq(
		base_buf_view(&b), BASE_STR("abc\0d18446744073709551615-92233720368547758080<x>")));
	base_buf_consume(&b, 5);
	assert_true(base_str_starts(base_buf_view(&b), BASE_STR("1844")));
	base_buf_consume(&b, b.len);
	assert_int_equal(b.len, 0);
	for (i = 0; i < 1000; i++)
		base_buf_printf(&b, "%09d\n", i);
	assert_int_equal(base_buf_failed(&b), 0);
	assert_int_equal(b.len, 10000);
	p = base_buf_take(&b, &len);
	assert_int_equal(strlen(p), len);
	free(p);
	assert_int_equal(b.len, 0);
	p = base_buf_take(&b, NULL);
	assert_string_equal(p, "");
	free(p);
	base_buf_done(&b);
	base_buf_done(&b);
	base_buf_done(NULL);
}

static void test_buf_cap(void **state)
{
	struct base_buf b;

	(void)state;
	base_buf_init(&b, 10);
	base_buf_cstr(&b, "12345678");
	assert_int_equal(base_buf_failed(&b), 0);
	base_buf_cstr(&b, "345");
	assert_int_equal(base_buf_failed(&b), -EFBIG);
	base_buf_char(&b, 'x'); /* would fit, but a failed buffer takes nothing */
	assert_int_equal(b.len, 8);
	assert_null(base_buf_take(&b, NULL));
	base_buf_clear(&b);
	base_buf_printf(&b, "%s", "0123456789");
	assert_int_equal(base_buf_failed(&b), 0);
	assert_non_null(base_buf_reserve(&b, 0));
	assert_null(base_buf_reserve(&b, 1));
	assert_int_equal(base_buf_failed(&b), -EFBIG);
	base_buf_clear(&b);
	assert_null(base_buf_reserve(&b, SIZE_MAX));
	base_buf_done(&b);
	base_buf_init(&b, 0);
	base_buf_put(&b, "", 0);
	assert_int_equal(base_buf_failed(&b), 0);
	base_buf_char(&b, 'x');
	assert_int_equal(base_buf_failed(&b), -EFBIG);
	base_buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arena),
		cmocka_unit_test(test_arena_cap),
		cmocka_unit_test(test_buf),
		cmocka_unit_test(test_buf_cap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
