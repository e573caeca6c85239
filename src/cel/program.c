#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cel/cel_int.h"

/* Programs: made, evaluated, freed. */

enum { ARENA_MAX = 32 << 20 };

int cel_compile_in(
	struct base_str source, const struct cel_env *env, struct cel_program **ret, struct base_err *err)
{
	static const struct cel_env any = {.open = true, .untyped = true};
	struct cel_program *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return base_err_set(err, -ENOMEM, "out of memory");
	r = base_arena_new(ARENA_MAX, &p->arena);
	if (r < 0)
		base_err_set(err, r, "out of memory");
	if (r == 0)
		r = cel_parse(source, p->arena, &p->root, err);
	if (r == 0)
		r = cel_check(p, source, env ? env : &any, err);
	if (r < 0) {
		cel_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

int cel_compile(struct base_str source, struct cel_program **ret, struct base_err *err)
{
	return cel_compile_in(source, NULL, ret, err);
}

void cel_free(struct cel_program *p)
{
	if (!p)
		return;
	base_arena_free(p->arena);
	free(p);
}

enum cel_kind cel_result(const struct cel_program *p)
{
	return p->result;
}

bool cel_reads(const struct cel_program *p, unsigned slot)
{
	return slot < p->count && (p->reads >> slot & 1);
}

bool cel_reads_name(const struct cel_program *p, const char *name)
{
	for (uint32_t i = 0; i < p->count; i++)
		if (base_str_is(p->names[i], name))
			return cel_reads(p, i);
	return false;
}

bool cel_constant(const struct cel_program *p, struct cel_value *ret)
{
	if (p->root->op != CEL_OP_CONST)
		return false;
	*ret = p->root->value;
	return true;
}

struct cel_value cel_eval_in(const struct cel_program *p, const struct cel_value *values,
	struct base_arena *arena, const struct cel_limits *limits)
{
	struct cel_run run;
	struct cel_value v;

	/* The locals are set before they are read: clearing them would cost more than most rules. */
	run.vars = values;
	run.arena = arena;
	run.stopped = NULL;
	run.limits = limits;
	run.steps = limits && limits->steps ? limits->steps : CEL_STEPS;
	run.string_max = limits && limits->string_max ? limits->string_max : CEL_STRING_MAX;
	run.list_max = limits && limits->list_max ? limits->list_max : CEL_LIST_MAX;
	v = cel_eval_node(&run, p->root);
	return run.stopped ? cel_error(run.stopped) : v;
}

struct cel_value cel_eval_with(const struct cel_program *p, const struct cel_binding *vars, unsigned count,
	struct base_arena *arena, const struct cel_limits *limits)
{
	struct cel_value values[CEL_SLOTS_MAX];

	BASE_CHECK(p->count <= CEL_SLOTS_MAX);
	for (uint32_t i = 0; i < p->count; i++) {
		values[i] = p->missing[i];
		for (unsigned j = 0; j < count; j++)
			if (base_str_eq(vars[j].name, p->names[i])) {
				values[i] = vars[j].value;
				break;
			}
	}
	return cel_eval_in(p, values, arena, limits);
}

struct cel_value cel_eval(const struct cel_program *p, const struct cel_binding *vars, unsigned count,
	struct base_arena *arena, uint64_t steps_max)
{
	struct cel_limits limits = {.steps = steps_max};

	return cel_eval_with(p, vars, count, arena, &limits);
}

bool cel_error_place(struct base_str source, struct cel_value error, size_t *ret_line, size_t *ret_column)
{
	if (error.kind != CEL_ERROR || error.tag == 0)
		return false;
	cel_line_column(source, error.tag - 1, ret_line, ret_column);
	return true;
}
