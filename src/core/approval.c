/* Approvals for calls to come (ctx.approve with `allows`): which call one lets through, and which of them the guard takes for
 * a gate on that very call. */
#include <string.h>

#include "core/undo_int.h"

static bool value_is_fixed(struct base_jv arg, struct base_jv allowed)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	struct base_buf b;
	struct base_hash h;
	char hex[65];

	base_buf_init(&b, 32 << 20);
	base_jv_write(arg, &b);
	h = base_hash_of(base_buf_view(&b));
	base_buf_done(&b);
	base_hash_hex(&h, hex);
	while (base_jv_next(allowed, &it, &key, &v))
		if (base_str_is(base_jv_str(base_jv_get(v, "hash")), hex))
			return true;
	return false;
}

static struct base_str mismatch(struct core_turn *t, const struct core_gate *g, struct base_str arg,
	struct base_jv allowed, struct base_jv sent)
{
	struct base_buf b;
	struct base_jw w;
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	base_buf_init(&b, 256 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", "approval_mismatch");
	base_jw_mstr(&w, "message",
		base_arena_printf(t->arena, "%.*s: argument `%.*s` is not what gate %llu approved",
			BASE_STR_ARG(t->cmd->name), BASE_STR_ARG(arg), (unsigned long long)g->id));
	base_jw_mstr(&w, "argument", arg);
	base_jw_key(&w, "approved");
	base_jw_arr(&w);
	while (base_jv_next(allowed, &it, &key, &v))
		base_jw_str(&w, base_jv_str(base_jv_get(v, "text")));
	base_jw_end_arr(&w);
	base_jw_key(&w, "sent");
	base_jw_value(&w, sent);
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

int core_approval_use(
	struct core_turn *t, const struct core_call *call, uint64_t gate, struct base_str *ret_problem)
{
	const struct core_gate *g = core_gate_find(t->c, gate);
	struct base_jv_iter it = {0};
	struct base_json *doc;
	struct base_str key;
	struct base_jv v;

	if (!g || g->run != call->run->id || !g->decided || g->action.len == 0) {
		*ret_problem = core_problem(t->arena, "no_approval", "gate %llu gave this run no approval",
			(unsigned long long)gate);
		return -1;
	}
	if (!base_str_eq(g->action, t->cmd->name) || g->left == 0) {
		*ret_problem = core_problem(t->arena, "approval_spent",
			g->left ? "gate %llu approved another action"
				: "every call that gate %llu approved is used up",
			(unsigned long long)gate);
		return -1;
	}
	if (g->fixed.len == 0 || base_json_parse(g->fixed, &doc, NULL) < 0)
		return 0;
	while (base_jv_next(base_json_root(doc), &it, &key, &v)) {
		struct base_jv sent = base_jv_get_str(call->args, key);

		if (value_is_fixed(sent, v))
			continue;
		*ret_problem = mismatch(t, g, key, v, sent);
		base_json_free(doc);
		return -1;
	}
	base_json_free(doc);
	return 0;
}

bool core_approval_covers(const struct core_gate *g, struct base_jv args, struct base_str key)
{
	struct base_json *allows = NULL, *fixed = NULL;
	struct base_jv_iter it = {0};
	struct base_jv places, v;
	struct base_str name;
	bool all = false;

	/* Whom the flow names beside the operator is no answer to the guard. */
	if (!g || key.len || g->terms.approvers.count || g->terms.stage_count ||
		base_json_parse(g->allows, &allows, NULL) < 0)
		return false;
	places = base_jv_get(base_json_root(allows), "fixed");
	if (base_jv_kind(places) == BASE_JSON_OBJ && base_json_parse(g->fixed, &fixed, NULL) == 0) {
		all = true;
		while (base_jv_next(args, &it, &name, &v))
			all &= base_jv_kind(base_jv_get_str(places, name)) == BASE_JSON_STR &&
			       base_jv_len(base_jv_get_str(base_json_root(fixed), name)) == 1;
	}
	base_json_free(fixed);
	base_json_free(allows);
	return all;
}

bool core_guard_release(struct core_turn *t, const struct core_run *r, const struct core_open *o,
	struct base_json *args, struct base_str args_text, uint8_t labels, struct base_str provider)
{
	const struct core_effect *x = o->effect;
	struct core_gate_open g = {.run = r->id,
		.step = o->step,
		.kind = "policy",
		.rule = core_guard(t->c, o->action, provider, labels),
		.on_expiry = BASE_STR("deny"),
		.labels = labels};
	struct base_json *opts = NULL;
	struct base_str key = BASE_STR_NONE;
	bool covered;

	if (!g.rule.len || x->cleared)
		return true;
	if (x->opts.len && base_json_parse(x->opts, &opts, NULL) == 0)
		key = base_jv_str(base_jv_get(base_json_root(opts), "key"));
	covered = x->approval &&
		  core_approval_covers(core_gate_find(t->c, x->approval), base_json_root(args), key);
	if (covered) {
		base_json_free(opts);
		return true;
	}
	g.title = base_arena_printf(
		t->arena, "%.*s wants to do %.*s", BASE_STR_ARG(r->as->text), BASE_STR_ARG(o->action->name));
	g.show = core_shown_call(t, o->action->name, args_text, key);
	g.sources = core_sources(t, r, labels);
	base_json_free(opts);
	(void)core_emit_gate(t, &g);
	return false;
}
