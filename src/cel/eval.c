#include <math.h>
#include <string.h>

#include "cel/cel_int.h"

/*
 * A walk over the tree. Its depth is the tree's (at most CEL_DEPTH_MAX); its length is bounded by steps: when
 * they are gone every node answers with an error, and so does the whole.
 */
#define EVAL cel_eval_node

static bool failed(struct cel_value v)
{
	return __builtin_expect(v.kind == CEL_ERROR, 0);
}

/* --- selection and index --- */

/* What a look-up found, as has(), an optional and a plain selection each answer it. */
static struct cel_value found(struct cel_run *run, bool there, bool optional, struct cel_value v)
{
	if (!optional)
		return v;
	if (run->stopped)
		return cel_error(run->stopped);
	return there ? cel_optional_of(run, v) : cel_optional_none();
}

static struct cel_value select_field(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value room, v;
	const struct cel_value *of = cel_operand(run, n->a, &room);
	bool has = n->op == CEL_OP_HAS, optional = n->optional || of->kind == CEL_OPTIONAL, there;

	if (of->kind == CEL_OPTIONAL) {
		if (!cel_optional_get(*of))
			return has ? cel_bool(false) : *of;
		of = cel_optional_get(*of);
	}
	if (of->kind != CEL_MAP)
		return failed(*of) ? *of
				   : cel_named_error(run,
					     has ? "not a map, so has() cannot ask it for a field"
						 : "not a map, so it has no field",
					     n->name);
	there = cel_find(run, *of, n->value, &v);
	if (has)
		return cel_bool(there);
	if (!there && !optional)
		return cel_named_error(run, "no such field", n->name);
	return found(run, there, optional, v);
}

/* A number that is whole as an int64: what may index a list. */
static bool whole(struct cel_value v, int64_t *ret)
{
	if (v.kind == CEL_INT)
		*ret = v.as.i;
	else if (v.kind == CEL_UINT && v.as.u <= INT64_MAX)
		*ret = (int64_t)v.as.u;
	else if (v.kind == CEL_DOUBLE && fabs(v.as.d) < 9007199254740992.0 &&
		 v.as.d == (double)(int64_t)v.as.d)
		*ret = (int64_t)v.as.d;
	else
		return false;
	return true;
}

static struct cel_value element(struct cel_run *run, struct cel_value of, struct cel_value at, bool optional)
{
	int64_t i;

	if (!cel_is_number(at))
		return cel_no_overload();
	if (!whole(at, &i))
		return cel_error("an index is a whole number");
	if (i < 0 || (uint64_t)i >= cel_count(of))
		return optional ? cel_optional_none() : cel_error("index out of range");
	if (of.tag == CEL_TAG_JSON && !cel_pay(run, 1 + (uint64_t)i / 16))
		return cel_null();
	return found(run, true, optional, cel_at(of, (size_t)i));
}

static struct cel_value index_of(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value of = EVAL(run, n->a), at, v;
	bool optional = n->optional || of.kind == CEL_OPTIONAL, there;

	if (failed(of))
		return of;
	at = EVAL(run, n->b);
	if (failed(at))
		return at;
	if (of.kind == CEL_OPTIONAL) {
		if (!cel_optional_get(of))
			return of;
		of = *cel_optional_get(of);
	}
	if (of.kind == CEL_LIST)
		return element(run, of, at, optional);
	if (of.kind != CEL_MAP || !(cel_is_key(at) || cel_is_number(at)))
		return cel_no_overload();
	there = cel_find(run, of, at, &v);
	return there || optional ? found(run, there, optional, v) : cel_error("no such key");
}

/* --- literals --- */

/* An element or a member's value; false: an optional that holds none, or (*ret is an error) it failed. */
static bool entry(struct cel_run *run, const struct cel_node *n, struct cel_value *ret)
{
	bool maybe = n->op == CEL_OP_MAYBE;

	*ret = EVAL(run, maybe ? n->a : n);
	if (failed(*ret) || !maybe)
		return !failed(*ret);
	if (ret->kind != CEL_OPTIONAL) {
		*ret = cel_no_overload();
		return false;
	}
	if (!cel_optional_get(*ret))
		return false;
	*ret = *cel_optional_get(*ret);
	return true;
}

static struct cel_value list_literal(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value *items = cel_items_room(run, n->arg_count);
	size_t count = 0;
	uint32_t i;

	if (!items)
		return cel_error(run->stopped);
	for (i = 0; i < n->arg_count; i++) {
		if (entry(run, n->args[i], &items[count]))
			count++;
		else if (items[count].kind == CEL_ERROR)
			return items[count];
	}
	return cel_made(run, CEL_LIST, items, count);
}

/* Adds a member to `count` pairs. An error, or null. */
static struct cel_value add_pair(
	struct cel_run *run, struct cel_value *pairs, size_t count, struct cel_value key, struct cel_value v)
{
	size_t i;

	if (!cel_is_key(key))
		return cel_error("a map's key must be a bool, an int, a uint or a string");
	for (i = 0; i < count; i++) {
		if (key.kind == CEL_STRING && pairs[2 * i].kind != CEL_STRING)
			continue;
		if (!cel_pay(run, 1))
			return cel_error(run->stopped);
		if (cel_equal(run, pairs[2 * i], key))
			return cel_error("a key stands twice in a map");
	}
	pairs[2 * count] = key;
	pairs[2 * count + 1] = v;
	return cel_null();
}

static struct cel_value map_literal(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value *pairs = cel_items_room(run, n->arg_count), key, v;
	size_t count = 0;
	uint32_t i;

	if (!pairs)
		return cel_error(run->stopped);
	for (i = 0; i < n->arg_count; i += 2) {
		key = EVAL(run, n->args[i]);
		if (failed(key))
			return key;
		if (!entry(run, n->args[i + 1], &v)) {
			if (failed(v))
				return v;
			continue;
		}
		v = add_pair(run, pairs, count, key, v);
		if (failed(v))
			return v;
		count++;
	}
	return cel_made(run, CEL_MAP, pairs, count);
}

/* --- calls and operators --- */

static bool suits(const struct cel_overload *o, const struct cel_value *args, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (o->args[i] != 'd' && o->args[i] != cel_letter(args[i].kind))
			return false; /* the end of the text is no letter either */
	return o->args[count] == '\0';
}

static struct cel_value call(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value args[CEL_ARGS_MAX];
	uint32_t i;

	for (i = 0; i < n->arg_count; i++) {
		args[i] = *cel_operand(run, n->args[i], &args[i]);
		if (failed(args[i]))
			return args[i];
		if (i == 0 && (n->fn->style & CEL_EITHER) && args[0].kind == CEL_OPTIONAL &&
			cel_optional_get(args[0]))
			break;
	}
	if (i < n->arg_count)
		return n->fn->fn(run, args, 1);
	if (n->regex)
		return args[0].kind == CEL_STRING ? cel_matches(run, args[0].as.s, n->regex)
						  : cel_no_overload();
	for (i = 0; i < n->fn_count; i++)
		if (suits(&n->fn[i], args, n->arg_count))
			return n->fn[i].fn(run, args, n->arg_count);
	return cel_no_overload();
}

static struct cel_value arithmetic(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value first, second;
	const struct cel_value *a = cel_operand(run, n->a, &first), *b;

	if (failed(*a))
		return *a;
	b = cel_operand(run, n->b, &second);
	return failed(*b) ? *b : cel_arithmetic(run, n->op, *a, *b);
}

/* --- macros --- */

/* The next round of a macro: binds its variables. */
static bool next_round(struct cel_run *run, const struct cel_node *n, struct cel_value range,
	struct cel_iter *it, struct cel_value *ret_key)
{
	struct cel_value v;

	if (!cel_pay(run, 1) || !cel_next(range, it, ret_key, &v))
		return false;
	if (n->two) {
		run->locals[n->local] = *ret_key;
		run->locals[n->local + 1] = v;
	} else {
		run->locals[n->local] = range.kind == CEL_MAP ? *ret_key : v;
	}
	return true;
}

/* all and exists: the value `decides` ends it; an error counts only if nothing does. */
static struct cel_value quantifier(
	struct cel_run *run, const struct cel_node *n, struct cel_value range, bool decides)
{
	struct cel_value ret = cel_bool(!decides), key, v;
	struct cel_iter it = cel_iter_of(range);

	while (next_round(run, n, range, &it, &key)) {
		v = EVAL(run, n->b);
		if (v.kind == CEL_BOOL && v.as.b == decides)
			return v;
		if (v.kind != CEL_BOOL && ret.kind != CEL_ERROR)
			ret = v.kind == CEL_ERROR ? v : cel_no_overload();
	}
	return ret;
}

static struct cel_value exists_one(struct cel_run *run, const struct cel_node *n, struct cel_value range)
{
	struct cel_iter it = cel_iter_of(range);
	struct cel_value key, v;
	size_t count = 0;

	while (next_round(run, n, range, &it, &key)) {
		v = EVAL(run, n->b);
		if (v.kind != CEL_BOOL)
			return failed(v) ? v : cel_no_overload();
		count += v.as.b;
	}
	return cel_bool(count == 1);
}

/* The filter of a macro. False: what is collected next is not this; *ret is then an error, or not. */
static bool wanted(struct cel_run *run, const struct cel_node *n, struct cel_value *ret)
{
	if (!n->b)
		return true;
	*ret = EVAL(run, n->b);
	if (ret->kind != CEL_BOOL && !failed(*ret))
		*ret = cel_no_overload();
	return ret->kind == CEL_BOOL && ret->as.b;
}

/* filter, map and transformList. */
static struct cel_value collect(struct cel_run *run, const struct cel_node *n, struct cel_value range)
{
	struct cel_iter it = cel_iter_of(range);
	struct cel_value *items = cel_items_room(run, it.count), key, v;
	size_t count = 0;

	if (!items)
		return cel_error(run->stopped);
	while (next_round(run, n, range, &it, &key)) {
		if (wanted(run, n, &v)) {
			v = n->c ? EVAL(run, n->c) : run->locals[n->local];
			if (!failed(v))
				items[count++] = v;
		}
		if (failed(v))
			return v;
	}
	return cel_made(run, CEL_LIST, items, count);
}

static struct cel_value collect_map(struct cel_run *run, const struct cel_node *n, struct cel_value range)
{
	struct cel_iter it = cel_iter_of(range);
	struct cel_value *pairs = cel_items_room(run, 2 * it.count), key, v;
	size_t count = 0;

	if (!pairs)
		return cel_error(run->stopped);
	while (next_round(run, n, range, &it, &key)) {
		if (wanted(run, n, &v)) {
			v = EVAL(run, n->c);
			if (!failed(v)) {
				pairs[2 * count] = key; /* the keys of a list or map are each there once */
				pairs[2 * count++ + 1] = v;
			}
		}
		if (failed(v))
			return v;
	}
	return cel_made(run, CEL_MAP, pairs, count);
}

/* transformMapEntry: each round gives the members of a map that is written out. */
static struct cel_value collect_entries(struct cel_run *run, const struct cel_node *n, struct cel_value range)
{
	struct cel_iter it = cel_iter_of(range);
	size_t size = it.count * (n->c->arg_count / 2), count = 0;
	struct cel_value *pairs = cel_items_room(run, 2 * size), key, v, made, member;

	if (!pairs)
		return cel_error(run->stopped);
	while (next_round(run, n, range, &it, &key)) {
		struct cel_iter members;

		if (!wanted(run, n, &v)) {
			if (failed(v))
				return v;
			continue;
		}
		made = EVAL(run, n->c);
		if (failed(made))
			return made;
		members = cel_iter_of(made);
		while (cel_next(made, &members, &key, &member)) {
			v = add_pair(run, pairs, count, key, member);
			if (failed(v))
				return v;
			count++;
		}
	}
	return cel_made(run, CEL_MAP, pairs, count);
}

static struct cel_value sort_by(struct cel_run *run, const struct cel_node *n, struct cel_value range)
{
	struct cel_iter it = cel_iter_of(range);
	struct cel_value *items = cel_items_room(run, it.count), *keys = cel_items_room(run, it.count), key;
	size_t count = 0;

	if (!items || !keys)
		return cel_error(run->stopped);
	while (next_round(run, n, range, &it, &key)) {
		items[count] = run->locals[n->local];
		keys[count] = EVAL(run, n->c);
		if (failed(keys[count]))
			return keys[count];
		if (count > 0 && keys[count].kind != keys[0].kind)
			return cel_error("what is sorted by must be of one type");
		count++;
	}
	if (!cel_sort(run, keys, items, count))
		return cel_error("what is sorted by has no order");
	return cel_made(run, CEL_LIST, items, count);
}

static struct cel_value macro(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value range = EVAL(run, n->a);

	if (failed(range))
		return range;
	if (range.kind != CEL_LIST && (range.kind != CEL_MAP || n->op == CEL_OP_SORT_BY))
		return cel_no_overload();
	switch (n->op) {
	case CEL_OP_ALL:
		return quantifier(run, n, range, false);
	case CEL_OP_EXISTS:
		return quantifier(run, n, range, true);
	case CEL_OP_EXISTS_ONE:
		return exists_one(run, n, range);
	case CEL_OP_TRANSFORM_MAP:
		return collect_map(run, n, range);
	case CEL_OP_TRANSFORM_ENTRY:
		return collect_entries(run, n, range);
	case CEL_OP_SORT_BY:
		return sort_by(run, n, range);
	default:
		return collect(run, n, range);
	}
}

static struct cel_value optional_map(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value of = EVAL(run, n->a), v;

	if (failed(of))
		return of;
	if (of.kind != CEL_OPTIONAL)
		return cel_no_overload();
	if (!cel_optional_get(of))
		return of;
	run->locals[n->local] = *cel_optional_get(of);
	v = EVAL(run, n->c);
	if (failed(v))
		return v;
	if (n->op == CEL_OP_OPT_MAP)
		return cel_optional_of(run, v);
	return v.kind == CEL_OPTIONAL ? v : cel_no_overload();
}

/* What fails to be bound fails where it is used. */
static struct cel_value binding(struct cel_run *run, const struct cel_node *n)
{
	uint32_t i;

	if (n->op == CEL_OP_BIND)
		run->locals[n->local] = EVAL(run, n->a);
	for (i = 0; i < n->arg_count; i++)
		run->locals[n->local + i] = EVAL(run, n->args[i]);
	return EVAL(run, n->b);
}

static struct cel_value conditional(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value v;
	int truth = cel_truth(run, n->a, &v);

	return truth < 0 ? v : EVAL(run, truth ? n->b : n->c);
}

static struct cel_value variable(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value v = run->vars[n->slot];

	if (v.kind == CEL_LAZY)
		v = v.as.lazy->get(v.as.lazy, run->arena);
	if (failed(v))
		v.tag = 0;
	return v;
}

static struct cel_value other(struct cel_run *run, const struct cel_node *n)
{
	switch (n->op) {
	case CEL_OP_INDEX:
		return index_of(run, n);
	case CEL_OP_LIST:
		return list_literal(run, n);
	case CEL_OP_MAP:
		return map_literal(run, n);
	case CEL_OP_NEGATE:
		return cel_negate(EVAL(run, n->a));
	case CEL_OP_IF:
		return conditional(run, n);
	case CEL_OP_BIND:
	case CEL_OP_BLOCK:
		return binding(run, n);
	case CEL_OP_OPT_MAP:
	case CEL_OP_OPT_FLAT_MAP:
		return optional_map(run, n);
	default:
		return n->op >= CEL_OP_ALL ? macro(run, n) : arithmetic(run, n);
	}
}

struct cel_value cel_eval_node(struct cel_run *run, const struct cel_node *n)
{
	struct cel_value v;
	int truth;

	if (n->op == CEL_OP_NOT || (n->op >= CEL_OP_AND && n->op <= CEL_OP_IN)) {
		truth = cel_truth(run, n, &v);
		return truth < 0 ? v : cel_bool(truth);
	}
	if (__builtin_expect(run->steps <= 1, 0))
		return cel_stop(run, "took too many steps");
	run->steps--;
	switch (n->op) {
	case CEL_OP_CONST:
		return n->value;
	case CEL_OP_LOCAL:
		return run->locals[n->local];
	case CEL_OP_VAR:
		v = variable(run, n);
		break;
	case CEL_OP_SELECT:
	case CEL_OP_HAS:
		v = select_field(run, n);
		break;
	case CEL_OP_CALL:
		v = call(run, n);
		break;
	default:
		v = other(run, n);
	}
	if (failed(v) && v.tag == 0)
		v.tag = n->at + 1;
	return v;
}
