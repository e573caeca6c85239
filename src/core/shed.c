/*
 * A label is lost in one way: a child run reads the data, gives back a value that fits the narrow schema its flow declares
 * (`output`), and the operator, who sees that value at a gate, says so. The run that called it then has read the value and
 * not the data. The child keeps its labels, and so does a run that has them already.
 *
 * Narrow is what leaves no room for a message: objects and lists are closed, numbers and yes or no are, and a text is one
 * of an `enum` or has both a `pattern` and a `maxLength` of at most 128.
 */
#include <string.h>

#include "core/core_int.h"

enum { TEXT_MAX = 128, ITEMS_MAX = 1000, DEPTH_MAX = 16 };

/* --- the schema --- */

static bool narrow(struct base_jv s, unsigned depth);

static bool all_narrow(struct base_jv list, unsigned depth)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	if (base_jv_len(list) == 0)
		return false;
	while (base_jv_next(list, &it, &key, &v))
		if (!narrow(v, depth + 1))
			return false;
	return true;
}

static bool object_is_narrow(struct base_jv s, unsigned depth)
{
	struct base_jv more = base_jv_get(s, "additionalProperties");

	return base_jv_kind(more) == BASE_JSON_BOOL && !base_jv_bool(more, true) &&
	       base_jv_kind(base_jv_get(s, "patternProperties")) == BASE_JSON_NONE &&
	       all_narrow(base_jv_get(s, "properties"), depth);
}

static bool type_is_narrow(struct base_jv s, struct base_str type, unsigned depth)
{
	int64_t max;

	if (base_str_is(type, "boolean") || base_str_is(type, "integer") || base_str_is(type, "number") ||
		base_str_is(type, "null"))
		return true;
	if (base_str_is(type, "string")) {
		max = base_jv_int(base_jv_get(s, "maxLength"), INT64_MAX);
		return max <= TEXT_MAX && base_jv_kind(base_jv_get(s, "pattern")) == BASE_JSON_STR;
	}
	if (base_str_is(type, "array")) {
		max = base_jv_int(base_jv_get(s, "maxItems"), INT64_MAX);
		return max <= ITEMS_MAX && base_jv_kind(base_jv_get(s, "prefixItems")) == BASE_JSON_NONE &&
		       narrow(base_jv_get(s, "items"), depth + 1);
	}
	return base_str_is(type, "object") && object_is_narrow(s, depth);
}

static bool narrow(struct base_jv s, unsigned depth)
{
	struct base_jv type = base_jv_get(s, "type"), v;
	struct base_jv_iter it = {0};
	struct base_str key;

	if (depth > DEPTH_MAX || base_jv_kind(s) != BASE_JSON_OBJ)
		return false;
	if (base_jv_kind(base_jv_get(s, "enum")) == BASE_JSON_ARR ||
		base_jv_kind(base_jv_get(s, "const")) != BASE_JSON_NONE)
		return true;
	if (base_jv_kind(type) == BASE_JSON_STR)
		return type_is_narrow(s, base_jv_str(type), depth);
	if (base_jv_kind(type) == BASE_JSON_ARR) {
		while (base_jv_next(type, &it, &key, &v))
			if (!type_is_narrow(s, base_jv_str(v), depth))
				return false;
		return base_jv_len(type) > 0;
	}
	if (base_jv_kind(base_jv_get(s, "anyOf")) == BASE_JSON_ARR)
		return all_narrow(base_jv_get(s, "anyOf"), depth);
	return all_narrow(base_jv_get(s, "oneOf"), depth);
}

bool core_schema_is_narrow(struct base_jv schema)
{
	return narrow(schema, 0);
}

/* --- the call --- */

static uint8_t mask_of(struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	uint8_t mask = 0;

	while (base_jv_next(list, &it, &key, &v))
		mask |= base_str_is(base_jv_str(v), "private") ? CORE_LABEL_PRIVATE : CORE_LABEL_UNTRUSTED;
	return mask;
}

bool core_shed_read(
	struct core_turn *t, const struct core_call *call, const struct core_flow *flow, uint8_t *ret)
{
	uint8_t mask = mask_of(base_jv_get(call->args, "shed"));

	*ret = 0;
	if (!mask)
		return true;
	if (flow->current->output && flow->current->narrow) {
		*ret = mask;
		return true;
	}
	core_emit_called_failed(t, call,
		core_problem(t->arena, "invalid", "%.*s cannot shed a label: %s", BASE_STR_ARG(flow->name),
			flow->current->output ? "its `output` has room for a message; close its objects, and "
						"give each text an "
						"enum, or a pattern and a maxLength of at most 128"
					      : "its flow declares no `output` schema"));
	return false;
}

/* --- the end of the child --- */

static struct base_str shown(struct core_turn *t, const struct core_run *child, struct base_str value)
{
	uint8_t shed = core_run_extra(child)->shed & (uint8_t)child->labels;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mstr(&w, "flow", core_run_flow_name(child));
	base_jw_mint(&w, "run", (int64_t)child->id);
	base_jw_key(&w, "shed");
	base_jw_arr(&w);
	if (shed & CORE_LABEL_PRIVATE)
		base_jw_cstr(&w, "private");
	if (shed & CORE_LABEL_UNTRUSTED)
		base_jw_cstr(&w, "untrusted");
	base_jw_end_arr(&w);
	base_jw_mraw(&w, "value", value);
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

static bool fits(const struct core_run *child, struct base_str value)
{
	const struct core_version *v = child->version;
	struct base_json *doc;
	bool ok;

	if (!v || !v->output || !v->narrow || base_json_parse(value, &doc, NULL) < 0)
		return false;
	ok = base_schema_check(v->output, base_json_root(doc), NULL) == 0;
	base_json_free(doc);
	return ok;
}

bool core_shed_ask(struct core_turn *t, const struct core_run *child, const struct core_open *parent,
	struct base_str value)
{
	uint8_t shed = core_run_extra(child)->shed & (uint8_t)child->labels;
	struct core_gate_open g = {.run = parent->run,
		.step = parent->step,
		.kind = "shed",
		.rule = BASE_STR("a label is shed"),
		.on_expiry = BASE_STR("deny"),
		.labels = (uint8_t)child->labels,
		.terms = BASE_STR("{\"approvers\":[\"operator\"]}")};

	if (!shed)
		return false;
	if (!fits(child, value)) {
		core_emit_step_failed(t, parent->run, parent->step,
			core_problem(t->arena, "output",
				"run %llu gave back what its `output` schema does not allow: no label is "
				"shed",
				(unsigned long long)child->id),
			0);
		return true;
	}
	g.title = base_arena_printf(t->arena, "May the value of run %llu (%.*s) go on without its label%s?",
		(unsigned long long)child->id, BASE_STR_ARG(core_run_flow_name(child)),
		shed == CORE_LABELS_ALL ? "s" : "");
	g.show = shown(t, child, value);
	g.sources = core_sources(t, child, (uint8_t)child->labels);
	(void)core_emit_gate(t, &g);
	return true;
}

void core_shed_decided(struct core_turn *t, const struct core_gate *g, const struct core_fetched *f,
	struct base_str answer, struct base_str by, struct base_str reason)
{
	struct core_gate_opened ev;
	struct base_json *doc;
	struct base_jv root;
	struct base_buf b;

	if (!base_str_is(answer, "approve") || !f || core_gate_opened_get(f->record.body, &ev) < 0 ||
		base_json_parse(f->blob, &doc, NULL) < 0) {
		core_emit_step_failed(t, g->run, g->step,
			core_problem(t->arena, base_str_is(answer, "expired") ? "expired" : "denied",
				"the label stays, by %.*s%s%.*s", BASE_STR_ARG(by), reason.len ? ": " : "",
				BASE_STR_ARG(reason)),
			0);
		return;
	}
	root = base_json_root(doc);
	base_buf_init(&b, 64 << 20);
	base_jv_write(base_jv_get(root, "value"), &b);
	core_emit_step_done(t, g->run, g->step, core_buf_to_arena(t->arena, &b), 0, BASE_STR_NONE,
		(uint8_t)(ev.labels & ~mask_of(base_jv_get(root, "shed"))));
	base_json_free(doc);
}
