/*
 * The built-in rule `untrusted-private`: a run that has both read untrusted data and touched private data sends nothing
 * outside without a gate. It is on. To turn it off is an act of the operator's that is asked for with a reason and decided
 * at a gate of its own; to turn it on again needs nobody.
 */
#include "core/core_int.h"

bool core_gate_is_operators(const struct core_gate *g)
{
	return base_str_is(g->kind, "guard") || base_str_is(g->kind, "shed") ||
	       base_str_is(g->kind, "canary");
}

static uint64_t asked(const struct core *c)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (base_idmap_next(c->gates, &cursor, &id, &value)) {
		const struct core_gate *g = value;

		if (!g->decided && base_str_is(g->kind, "guard"))
			return id;
	}
	return 0;
}

/* Who has a passkey signs with it. */
static bool has_passkey(const struct core *c)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(c->credentials, at, first, &at, &value); first = false)
		if (base_str_is(((const struct core_credential *)value)->kind, "passkey"))
			return true;
	return false;
}

static void ask(struct core_turn *t)
{
	struct core_gate_open g = {.step = UINT32_MAX,
		.kind = "guard",
		.rule = t->cmd->name,
		.title = BASE_STR("Turn the built-in rule " CORE_GUARD " off?"),
		.on_expiry = BASE_STR("deny"),
		.terms = has_passkey(t->c) ? BASE_STR("{\"approvers\":[\"operator\"],\"sign\":true}")
					   : BASE_STR("{\"approvers\":[\"operator\"]}")};
	struct base_buf b;
	struct base_jw w;
	uint64_t gate;

	base_buf_init(&b, CORE_INLINE_MAX);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mstr(&w, "rule", t->cmd->name);
	base_jw_mcstr(&w, "to", "off");
	base_jw_mstr(&w, "reason", t->cmd->text);
	base_jw_mcstr(&w, "means",
		"Runs that have read untrusted data and touched private data may then send what they like to "
		"wherever the policy lets them.");
	base_jw_end_obj(&w);
	g.show = core_buf_to_arena(t->arena, &b);
	gate = core_emit_gate(t, &g);
	t->reply->id = gate;
	core_reply_json(t, 202,
		base_arena_printf(t->arena, "{\"rule\":\"" CORE_GUARD "\",\"on\":true,\"gate\":%llu}",
			(unsigned long long)gate));
}

void core_decide_guard(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	bool on = cmd->base == 1;
	uint64_t open = asked(t->c);

	if (!base_str_is(cmd->by.id, "operator"))
		core_refuse(t, 403, "denied", "only the operator turns a built-in rule on or off");
	else if (!base_str_is(cmd->name, CORE_GUARD))
		core_refuse(t, 404, "unknown_guard", "there is the built-in rule " CORE_GUARD);
	else if (on == !t->c->guard_off)
		core_reply_json(t, 200,
			base_arena_printf(t->arena,
				"{\"rule\":\"" CORE_GUARD "\",\"on\":%s,\"changed\":false}",
				on ? "true" : "false"));
	else if (on) {
		core_guard_set_emit(t->block, cmd->now_ms,
			&(struct core_guard_set){
				.rule = cmd->name, .on = 1, .by = cmd->by.id, .reason = cmd->text});
		core_reply_json(
			t, 200, BASE_STR("{\"rule\":\"" CORE_GUARD "\",\"on\":true,\"changed\":true}"));
	} else if (cmd->text.len == 0 || cmd->text.len > 1000 || !base_utf8_valid(cmd->text))
		core_refuse(t, 422, "invalid", "say why the rule is to be off: a reason of 1 to 1,000 bytes");
	else if (open)
		core_refuse(
			t, 409, "asked", "gate %llu asks that already: decide it", (unsigned long long)open);
	else
		ask(t);
}

void core_guard_decided(struct core_turn *t, const struct core_gate *g, struct base_str answer,
	struct base_str by, struct base_str reason)
{
	if (!base_str_is(answer, "approve") || t->c->guard_off)
		return;
	core_guard_set_emit(t->block, t->cmd->now_ms,
		&(struct core_guard_set){
			.rule = g->rule, .on = 0, .by = by, .reason = reason, .gate = g->id});
}
