#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/heap.h"
#include "base/map.h"
#include "base/prng.h"

enum { KEYS = 600, ROUNDS = 60000 };
static char values[KEYS];

static void compare_ids(const struct base_idmap *m, void *const model[KEYS])
{
	size_t cursor = 0, count = 0, i;
	uint64_t id;
	void *v;

	while (base_idmap_next(m, &cursor, &id, &v)) {
		assert_true(id % 7 == 0 && id / 7 < KEYS && model[id / 7] == v);
		count++;
	}
	assert_int_equal(count, base_idmap_count(m));
	for (i = 0; i < KEYS; i++) {
		assert_ptr_equal(base_idmap_get(m, i * 7), model[i]);
		count -= model[i] != NULL;
	}
	assert_int_equal(count, 0);
}

static void test_idmap(void **state)
{
	void *model[KEYS] = {NULL};
	struct base_prng p = base_prng_of_u64(1);
	struct base_idmap *m;
	unsigned i;

	(void)state;
	assert_int_equal(base_idmap_new(&m), 0);
	assert_null(base_idmap_get(m, 0));
	assert_null(base_idmap_remove(m, 0));
	for (i = 0; i < ROUNDS; i++) {
		size_t k = base_prng_below(&p, KEYS);
		/* Times of growing and of shrinking. */
		bool put = base_prng_below(&p, 10) < (i / 10000 % 2 ? 3 : 7);

		if (put) {
			void *v = &values[base_prng_below(&p, KEYS)];

			assert_int_equal(base_idmap_put(m, k * 7, v), 0);
			model[k] = v;
		} else {
			assert_ptr_equal(base_idmap_remove(m, k * 7), model[k]);
			model[k] = NULL;
		}
		if (i % 500 == 0)
			compare_ids(m, model);
	}
	for (i = 0; i < KEYS; i++) {
		assert_ptr_equal(base_idmap_remove(m, i * 7), model[i]);
		model[i] = NULL;
	}
	compare_ids(m, model);
	base_idmap_free(m);
	base_idmap_free(NULL);
}

static void test_idmap_same_order(void **state)
{
	struct base_idmap *a, *b;
	size_t i, at = 0, bt = 0;
	uint64_t x, y;

	(void)state;
	assert_int_equal(base_idmap_new(&a), 0);
	assert_int_equal(base_idmap_new(&b), 0);
	for (i = 0; i < 1000; i++) {
		assert_int_equal(base_idmap_put(a, i * i, &values[0]), 0);
		assert_int_equal(base_idmap_put(b, i * i, &values[0]), 0);
	}
	while (base_idmap_next(a, &at, &x, NULL)) {
		assert_true(base_idmap_next(b, &bt, &y, NULL));
		assert_true(x == y);
	}
	assert_int_equal(base_idmap_put(a, UINT64_MAX, &values[1]), 0);
	assert_ptr_equal(base_idmap_get(a, UINT64_MAX), &values[1]);
	base_idmap_free(a);
	base_idmap_free(b);
}

static struct base_str key_of(size_t k, char buf[16])
{
	return (struct base_str){buf, (size_t)snprintf(buf, 16, "k/%03zu", k)};
}

static void compare_names(const struct base_names *m, void *const model[KEYS])
{
	struct base_str key = BASE_STR_NONE;
	bool more = base_names_seek(m, BASE_STR_NONE, true, &key, NULL);
	size_t i, count = 0;
	char buf[16];
	void *v;

	for (i = 0; i < KEYS; i++) {
		assert_ptr_equal(base_names_get(m, key_of(i, buf)), model[i]);
		if (!model[i])
			continue;
		assert_true(more && base_str_eq(key, key_of(i, buf)));
		assert_true(base_names_seek(m, key_of(i, buf), true, NULL, &v));
		assert_ptr_equal(v, model[i]);
		more = base_names_seek(m, key, false, &key, &v);
		count++;
	}
	assert_false(more);
	assert_int_equal(count, base_names_count(m));
}

static void test_names(void **state)
{
	void *model[KEYS] = {NULL};
	struct base_prng p = base_prng_of_u64(2);
	struct base_names *m;
	char buf[16];
	unsigned i;

	(void)state;
	assert_int_equal(base_names_new(&m), 0);
	assert_false(base_names_seek(m, BASE_STR_NONE, true, NULL, NULL));
	for (i = 0; i < ROUNDS; i++) {
		size_t k = base_prng_below(&p, KEYS);
		bool put = base_prng_below(&p, 10) < (i / 10000 % 2 ? 3 : 7);

		if (put) {
			void *v = &values[base_prng_below(&p, KEYS)];

			assert_int_equal(base_names_put(m, key_of(k, buf), v), 0);
			model[k] = v;
		} else {
			assert_ptr_equal(base_names_remove(m, key_of(k, buf)), model[k]);
			model[k] = NULL;
		}
		if (i % 500 == 0)
			compare_names(m, model);
	}
	base_names_free(m);
	base_names_free(NULL);
}

static void test_names_edges(void **state)
{
	struct base_names *m;
	struct base_str key;
	size_t i;

	(void)state;
	assert_int_equal(base_names_new(&m), 0);
	assert_int_equal(base_names_put(m, BASE_STR_NONE, &values[1]), 0);
	assert_int_equal(base_names_put(m, BASE_STR("a\0b"), &values[2]), 0);
	assert_int_equal(base_names_put(m, BASE_STR("a"), &values[3]), 0);
	assert_ptr_equal(base_names_get(m, BASE_STR("")), &values[1]);
	assert_ptr_equal(base_names_get(m, BASE_STR("a\0b")), &values[2]);
	assert_true(base_names_seek(m, BASE_STR("a"), false, &key, NULL));
	assert_int_equal(key.len, 3);
	/* In order, as a list would be built: the tree must stay flat enough for its paths. */
	for (i = 0; i < 100000; i++) {
		char buf[16];

		assert_int_equal(
			base_names_put(m, (struct base_str){buf, (size_t)snprintf(buf, 16, "%08zu", i)}, m),
			0);
	}
	assert_int_equal(base_names_count(m), 100003);
	base_names_free(m);
}

static int by_order(const void *a, const void *b)
{
	const struct base_heap_item *x = a, *y = b;

	if (x->when != y->when)
		return x->when < y->when ? -1 : 1;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return (x->sub > y->sub) - (x->sub < y->sub);
}

static bool is_even(void *userdata, const struct base_heap_item *item)
{
	++*(size_t *)userdata;
	return item->sub % 2 == 0;
}

static void test_heap(void **state)
{
	static struct base_heap_item model[2000];
	struct base_prng p = base_prng_of_u64(3);
	struct base_heap_item item, top;
	struct base_heap *h;
	size_t i, asked = 0;

	(void)state;
	assert_int_equal(base_heap_new(&h), 0);
	assert_false(base_heap_pop(h, &item));
	assert_false(base_heap_peek(h, &item));
	for (i = 0; i < 2000; i++) {
		model[i] = (struct base_heap_item){.when = (int64_t)base_prng_below(&p, 50) - 25,
			.id = base_prng_below(&p, 20),
			.sub = (uint32_t)i};
		assert_int_equal(base_heap_push(h, model[i]), 0);
	}
	qsort(model, 2000, sizeof(model[0]), by_order);
	for (i = 0; i < 2000; i++) {
		assert_int_equal(base_heap_count(h), 2000 - i);
		assert_true(base_heap_peek(h, &top) && base_heap_pop(h, &item));
		assert_memory_equal(&item, &model[i], sizeof(item));
		assert_memory_equal(&top, &item, sizeof(item));
	}
	assert_int_equal(base_heap_count(h), 0);
	base_heap_filter(h, is_even, &asked);
	assert_int_equal(asked, 0);
	for (i = 0; i < 2000; i++)
		assert_int_equal(base_heap_push(h, model[(i * 7) % 2000]), 0);
	base_heap_filter(h, is_even, &asked);
	assert_int_equal(asked, 2000);
	assert_int_equal(base_heap_count(h), 1000);
	for (i = 0; i < 2000; i++)
		if (model[i].sub % 2 == 0) {
			assert_true(base_heap_pop(h, &item));
			assert_memory_equal(&item, &model[i], sizeof(item));
		}
	assert_int_equal(base_heap_count(h), 0);
	base_heap_free(h);
	base_heap_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idmap),
		cmocka_unit_test(test_idmap_same_order),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_names_edges),
		cmocka_unit_test(test_heap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
