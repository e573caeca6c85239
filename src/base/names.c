#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/map.h"

/*
 * An AVL tree.
 * 1. Keys left of a node are smaller, keys right of it larger.
 * 2. The heights of a node's two sides differ by at most one.
 */
enum { DEPTH_MAX = 96 }; /* 1.44 * log2(2^64) and some */

struct node {
	struct node *side[2];
	void *value;
	int height;
	size_t len;
	char key[];
};

struct base_names {
	struct node *root;
	size_t count;
};

int base_names_new(struct base_names **ret)
{
	struct base_names *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	*ret = m;
	return 0;
}

/* Turns left children away until there are none: no recursion, no stack. */
void base_names_free(struct base_names *m)
{
	struct node *n = m ? m->root : NULL;

	while (n) {
		struct node *left = n->side[0], *gone = n;

		if (left) {
			n->side[0] = left->side[1];
			left->side[1] = n;
			n = left;
		} else {
			n = n->side[1];
			free(gone);
		}
	}
	free(m);
}

static struct base_str key_of(const struct node *n)
{
	return (struct base_str){n->key, n->len};
}

static int height(const struct node *n)
{
	return n ? n->height : 0;
}

static void measure(struct node *n)
{
	int left = height(n->side[0]), right = height(n->side[1]);

	n->height = 1 + (left > right ? left : right);
}

/* Lifts the child on side `up` over its parent. */
static struct node *rotate(struct node *n, int up)
{
	struct node *top = n->side[up];

	n->side[up] = top->side[!up];
	top->side[!up] = n;
	measure(n);
	measure(top);
	return top;
}

static struct node *balance(struct node *n)
{
	int lean = height(n->side[1]) - height(n->side[0]), up = lean > 0;
	struct node *child;

	if (lean >= -1 && lean <= 1) {
		measure(n);
		return n;
	}
	child = n->side[up];
	if (height(child->side[!up]) > height(child->side[up]))
		n->side[up] = rotate(child, !up);
	return rotate(n, up);
}

/* Links from the root to where the key is, or would be; returns how many. */
static unsigned descend(struct base_names *m, struct base_str key, struct node **path[DEPTH_MAX])
{
	struct node **at = &m->root;
	unsigned depth = 0;

	for (;;) {
		int order;

		BASE_CHECK(depth < DEPTH_MAX);
		path[depth++] = at;
		if (!*at)
			return depth;
		order = base_str_cmp(key, key_of(*at));
		if (order == 0)
			return depth;
		at = &(*at)->side[order > 0];
	}
}

static void rebalance(struct node **path[], unsigned depth)
{
	while (depth > 0) {
		depth--;
		*path[depth] = balance(*path[depth]);
	}
}

void *base_names_get(const struct base_names *m, struct base_str key)
{
	const struct node *n = m->root;

	while (n) {
		int order = base_str_cmp(key, key_of(n));

		if (order == 0)
			return n->value;
		n = n->side[order > 0];
	}
	return NULL;
}

int base_names_put(struct base_names *m, struct base_str key, void *value)
{
	struct node **path[DEPTH_MAX], *n;
	unsigned depth = descend(m, key, path);

	BASE_CHECK(value);
	n = *path[depth - 1];
	if (n) {
		n->value = value;
		return 0;
	}
	if (key.len > SIZE_MAX / 2)
		return -ENOMEM;
	n = calloc(1, sizeof(*n) + key.len);
	if (!n)
		return -ENOMEM;
	n->value = value;
	n->height = 1;
	n->len = key.len;
	if (key.len)
		memcpy(n->key, key.ptr, key.len);
	*path[depth - 1] = n;
	m->count++;
	rebalance(path, depth - 1);
	return 0;
}

void *base_names_remove(struct base_names *m, struct base_str key)
{
	struct node **path[DEPTH_MAX], *n, *next;
	unsigned depth = descend(m, key, path), at = depth - 1;
	void *value;

	n = *path[at];
	if (!n)
		return NULL;
	value = n->value;
	if (!n->side[0] || !n->side[1]) {
		*path[at] = n->side[0] ? n->side[0] : n->side[1];
		rebalance(path, at);
	} else {
		/* The next larger key, which has no left side, takes its place. */
		path[depth++] = &n->side[1];
		while ((*path[depth - 1])->side[0]) {
			struct node **left = &(*path[depth - 1])->side[0];

			path[depth++] = left;
		}
		next = *path[depth - 1];
		*path[depth - 1] = next->side[1];
		next->side[0] = n->side[0];
		next->side[1] = n->side[1];
		*path[at] = next;
		path[at + 1] = &next->side[1];
		rebalance(path, depth - 1);
	}
	free(n);
	m->count--;
	return value;
}

size_t base_names_count(const struct base_names *m)
{
	return m->count;
}

bool base_names_seek(const struct base_names *m, struct base_str from, bool inclusive,
	struct base_str *ret_key, void **ret_value)
{
	const struct node *n = m->root, *best = NULL;

	while (n) {
		int order = base_str_cmp(key_of(n), from);

		if (order > 0 || (order == 0 && inclusive)) {
			best = n;
			n = n->side[0];
		} else {
			n = n->side[1];
		}
	}
	if (!best)
		return false;
	if (ret_key)
		*ret_key = key_of(best);
	if (ret_value)
		*ret_value = best->value;
	return true;
}
