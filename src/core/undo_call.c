/* The call that takes a step back: its form, checked when the step is called, and its arguments, filled in from what the
 * step gave. */
#include <errno.h>

#include "base/check.h"
#include "core/undo_int.h"

/* --- the form --- */

static bool has_hole(struct base_jv v)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv child;

	if (base_jv_kind(v) != BASE_JSON_OBJ && base_jv_kind(v) != BASE_JSON_ARR)
		return false;
	while (base_jv_next(v, &it, &key, &child))
		if ((base_jv_kind(v) == BASE_JSON_OBJ && base_str_is(key, "$result")) || has_hole(child))
			return true;
	return false;
}

/* What an undo may be: a call to the outside, of memory, or of another flow; nothing that waits or rolls back. */
static bool may_undo(const struct core_action *a)
{
	switch (a->handler) {
	case CORE_H_NONE:
	case CORE_H_MEMORY_PUT:
	case CORE_H_MEMORY_FORGET:
	case CORE_H_MEMORY_DOCUMENT:
	case CORE_H_RUN_START:
	case CORE_H_RUN_CALL:
	case CORE_H_AGENT_RUN:
	case CORE_H_OUTCOME:
	case CORE_H_EVENT_PUBLISH:
	case CORE_H_LOG:
		return true;
	default:
		return false;
	}
}

int core_undo_read(const struct core *c, struct base_jv opts, bool *ret_has, struct base_err *err)
{
	struct base_jv undo = base_jv_get(opts, "undo"), args = base_jv_get(undo, "args"), v;
	struct base_str name = base_jv_str(base_jv_get(undo, "action")), key;
	const struct core_action *a = core_action_find(c, name);
	struct base_jv_iter it = {0};
	struct base_err why;

	*ret_has = false;
	if (base_jv_kind(undo) == BASE_JSON_NONE || base_jv_kind(undo) == BASE_JSON_NULL)
		return 0;
	if (base_jv_kind(undo) != BASE_JSON_OBJ)
		return base_err_set(err, -EINVAL, "undo is null or {action, args, retry}");
	while (base_jv_next(undo, &it, &key, &v))
		if (!base_str_is(key, "action") && !base_str_is(key, "args") && !base_str_is(key, "retry"))
			return base_err_set(err, -EINVAL, "undo has action, args and retry, not %.*s",
				(int)(key.len < 64 ? key.len : 64), key.ptr);
	if (!a)
		return base_err_set(err, -EINVAL, "undo: there is no action %.*s",
			(int)(name.len < 128 ? name.len : 128), name.ptr ? name.ptr : "");
	if (!may_undo(a))
		return base_err_set(err, -EINVAL, "undo: %.*s takes nothing back", BASE_STR_ARG(name));
	if (base_jv_kind(args) != BASE_JSON_OBJ && base_jv_kind(args) != BASE_JSON_NONE)
		return base_err_set(err, -EINVAL, "undo: args is an object");
	if (base_jv_kind(args) == BASE_JSON_OBJ && !has_hole(args) &&
		base_schema_check(a->schema, args, &why) < 0)
		return base_err_set(err, -EINVAL, "undo: %.*s: %s", BASE_STR_ARG(name), why.text);
	*ret_has = true;
	return 0;
}

/* --- the call, filled in from the result --- */

/* RFC 6901; a value of kind NONE where there is nothing. */
static struct base_jv pointed(struct base_jv v, struct base_str pointer, struct base_arena *arena)
{
	while (pointer.len && pointer.ptr[0] == '/') {
		struct base_str head, rest;
		char *name;
		size_t n = 0;
		uint64_t index;

		(void)base_str_cut(base_str_sub(pointer, 1, pointer.len), '/', &head, &rest);
		name = base_arena_alloc(arena, head.len + 1);
		BASE_CHECK(name);
		for (size_t i = 0; i < head.len; i++) {
			bool escaped = head.ptr[i] == '~' && i + 1 < head.len;

			name[n++] = (char)(!escaped ? head.ptr[i] : head.ptr[++i] == '1' ? '/' : '~');
		}
		if (base_jv_kind(v) == BASE_JSON_ARR && base_str_u64(head, &index) == 0)
			v = base_jv_at(v, index);
		else
			v = base_jv_get_str(v, (struct base_str){name, n});
		pointer = (struct base_str){pointer.ptr + 1 + head.len, pointer.len - 1 - head.len};
	}
	return v;
}

struct filling {
	struct base_jw w;
	struct base_jv result;
	struct base_arena *arena;
	struct base_str missing; /* pointer that leads nowhere */
	bool failed;
};

static void fill(struct filling *f, struct base_jv v)
{
	struct base_jv_iter it = {0};
	struct base_str key, pointer = base_jv_str(base_jv_get(v, "$result"));
	enum base_json_kind kind = base_jv_kind(v);
	struct base_jv child;

	if (kind == BASE_JSON_OBJ && base_jv_len(v) == 1 &&
		base_jv_kind(base_jv_get(v, "$result")) == BASE_JSON_STR) {
		child = pointed(f->result, pointer, f->arena);
		if (base_jv_kind(child) == BASE_JSON_NONE) {
			f->failed = true;
			f->missing = base_arena_dup(f->arena, pointer);
			base_jw_null(&f->w);
		} else {
			base_jw_value(&f->w, child);
		}
	} else if (kind == BASE_JSON_OBJ) {
		base_jw_obj(&f->w);
		while (base_jv_next(v, &it, &key, &child)) {
			base_jw_key_str(&f->w, key);
			fill(f, child);
		}
		base_jw_end_obj(&f->w);
	} else if (kind == BASE_JSON_ARR) {
		base_jw_arr(&f->w);
		while (base_jv_next(v, &it, &key, &child))
			fill(f, child);
		base_jw_end_arr(&f->w);
	} else {
		base_jw_value(&f->w, v);
	}
}

static struct base_str opts_of(struct core_turn *t, struct base_jv undo, struct base_str customer)
{
	struct base_jv retry = base_jv_get(undo, "retry");
	struct base_buf b;
	struct base_jw w;

	if (!customer.len && base_jv_kind(retry) == BASE_JSON_NONE)
		return BASE_STR_NONE;
	base_buf_init(&b, 1 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	if (customer.len)
		base_jw_mstr(&w, "customer", customer);
	if (base_jv_kind(retry) != BASE_JSON_NONE) {
		base_jw_key(&w, "retry");
		base_jw_value(&w, retry);
	}
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

/* `result`: JSON, or empty when it cannot be read. */
struct core_undo_call core_undo_call_of(
	struct core_turn *t, const struct core_undoable *i, struct base_jv undo, struct base_str result)
{
	struct base_jv args = base_jv_get(undo, "args");
	struct filling f = {.arena = t->arena};
	struct core_undo_call call = {
		.action = base_arena_dup(t->arena, base_jv_str(base_jv_get(undo, "action"))),
		.args = BASE_STR("{}"),
		.opts = opts_of(t, undo, i->customer)};
	struct base_json *doc = NULL;
	struct base_buf text, canon;
	struct base_err err;

	if (base_jv_kind(args) != BASE_JSON_OBJ)
		return call;
	if (base_json_parse(result, &doc, NULL) == 0)
		f.result = base_json_root(doc);
	base_buf_init(&text, 32 << 20);
	base_buf_init(&canon, 32 << 20);
	f.w = base_jw_of(&text);
	fill(&f, args);
	if (f.failed)
		call.problem = core_problem(t->arena, "invalid",
			"the result of step %u of run %llu has nothing at \"%.*s\", which its undo needs",
			i->step, (unsigned long long)i->run, BASE_STR_ARG(f.missing));
	else if (base_json_canon(base_buf_view(&text), &canon, &err) < 0)
		call.problem = core_problem(t->arena, "invalid", "the arguments of the undo: %s", err.text);
	if (!call.problem.len)
		call.args = base_arena_dup(t->arena, base_buf_view(&canon));
	base_buf_done(&text);
	base_buf_done(&canon);
	base_json_free(doc);
	return call;
}
