#include <string.h>

#include "cel/cel_int.h"

/* What is true: logic, comparison and membership, without making a value of each answer. */

static int answer(bool b)
{
	return b;
}

static int fails(const struct cel_node *n, struct cel_value v, struct cel_value *ret)
{
	if (v.tag == 0)
		v.tag = n->at + 1;
	*ret = v;
	return -1;
}

/* && and ||: `decides` is the value with which one side alone settles it, even beside an error. */
static int logic(struct cel_run *run, const struct cel_node *n, bool decides, struct cel_value *ret)
{
	int left = cel_truth(run, n->a, ret), right;
	struct cel_value second;

	if (left == decides)
		return left;
	right = cel_truth(run, n->b, &second);
	if (right == decides || left >= 0) {
		if (right < 0)
			*ret = second;
		return right;
	}
	return left;
}

static int compare(struct cel_run *run, const struct cel_node *n, const struct cel_value *a,
	const struct cel_value *b, struct cel_value *ret)
{
	struct cel_value v;

	if (a->kind == CEL_DOUBLE && b->kind == CEL_DOUBLE) {
		switch (n->op) {
		case CEL_OP_LT:
			return answer(a->as.d < b->as.d);
		case CEL_OP_LE:
			return answer(a->as.d <= b->as.d);
		case CEL_OP_GT:
			return answer(a->as.d > b->as.d);
		default:
			return answer(a->as.d >= b->as.d);
		}
	}
	if (a->kind == CEL_STRING && !cel_pay(run, a->as.s.len / CEL_BYTES_A_STEP))
		return fails(n, cel_error(run->stopped), ret);
	v = cel_compare(n->op, *a, *b);
	return v.kind == CEL_BOOL ? answer(v.as.b) : fails(n, v, ret);
}

static bool in_sorted(const struct cel_value *sorted, size_t count, struct base_str s)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t mid = (low + high) / 2;
		int order = base_str_cmp(s, sorted[mid].as.s);

		if (order == 0)
			return true;
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return false;
}

/* A string among a constant's few strings. */
static bool in_few(const struct cel_items *items, struct base_str s)
{
	for (size_t i = 0; i < items->count; i++) {
		const struct cel_value *v = &items->items[i];

		if (v->kind == CEL_STRING && v->as.s.len == s.len && memcmp(v->as.s.ptr, s.ptr, s.len) == 0)
			return true;
	}
	return false;
}

static int membership(struct cel_run *run, const struct cel_node *n, const struct cel_value *what,
	const struct cel_value *in, struct cel_value *ret)
{
	struct cel_value key, v;
	struct cel_iter it;

	if (what->kind == CEL_STRING && what->as.s.len) {
		if (n->sorted)
			return answer(in_sorted(n->sorted, cel_count(*in), what->as.s));
		if (n->few && what->as.s.len < CEL_BYTES_A_STEP)
			return answer(in_few(cel_items(*in), what->as.s));
	}
	if (in->kind == CEL_MAP)
		return answer((cel_is_key(*what) || cel_is_number(*what)) && cel_find(run, *in, *what, &v));
	if (in->kind != CEL_LIST)
		return fails(n, cel_no_overload(), ret);
	it = cel_iter_of(*in);
	while (cel_next(*in, &it, &key, &v))
		if (cel_pay(run, 1) && cel_equal(run, *what, v))
			return answer(true);
	return answer(false);
}

static int relation(struct cel_run *run, const struct cel_node *n, struct cel_value *ret)
{
	struct cel_value first, second;
	const struct cel_value *a = cel_operand(run, n->a, &first), *b;

	if (a->kind == CEL_ERROR)
		return fails(n, *a, ret);
	b = cel_operand(run, n->b, &second);
	if (b->kind == CEL_ERROR)
		return fails(n, *b, ret);
	switch (n->op) {
	case CEL_OP_EQ:
		return answer(cel_equal(run, *a, *b));
	case CEL_OP_NE:
		return answer(!cel_equal(run, *a, *b));
	case CEL_OP_IN:
		return membership(run, n, a, b, ret);
	default:
		return compare(run, n, a, b, ret);
	}
}

int cel_truth(struct cel_run *run, const struct cel_node *n, struct cel_value *ret)
{
	int truth;

	switch (n->op) {
	case CEL_OP_AND:
	case CEL_OP_OR:
	case CEL_OP_NOT:
	case CEL_OP_EQ:
	case CEL_OP_NE:
	case CEL_OP_LT:
	case CEL_OP_LE:
	case CEL_OP_GT:
	case CEL_OP_GE:
	case CEL_OP_IN:
		break;
	default:
		*ret = cel_eval_node(run, n);
		if (ret->kind == CEL_BOOL)
			return answer(ret->as.b);
		return fails(n, ret->kind == CEL_ERROR ? *ret : cel_no_overload(), ret);
	}
	if (__builtin_expect(run->steps <= 1, 0))
		return fails(n, cel_stop(run, "took too many steps"), ret);
	run->steps--;
	if (n->op == CEL_OP_AND || n->op == CEL_OP_OR)
		return logic(run, n, n->op == CEL_OP_OR, ret);
	if (n->op != CEL_OP_NOT)
		return relation(run, n, ret);
	truth = cel_truth(run, n->a, ret);
	return truth < 0 ? truth : !truth;
}
