/*
 * The vault's lock. While it is locked, what needs a secret waits: the first call at a gate of kind `secret`, so that the
 * operator is told once and not per call, the others behind it; all else runs on. Canaries: secrets that nobody needs.
 *
 * Invariants
 *
 * X1 A step that waits for the vault is HELD until CORE_NEVER_MS, or GATED by the lock's gate. No step is HELD so while the
 * vault is open.
 *
 * X2 There is at most one gate of kind `secret`, and none while the vault is open.
 */
#include "base/check.h"
#include "core/core_int.h"

static struct base_jv config_at(const struct core *c, const char *section)
{
	return base_jv_get(base_json_root(c->config_doc), section);
}

bool core_needs_secret(const struct core *c, const struct core_action *action, struct base_str provider)
{
	struct base_jv at = {0};

	if (!c->config_doc)
		return false;
	if (action->model) {
		at = base_jv_get_str(base_jv_get(config_at(c, "models"), "providers"), provider);
	} else if (base_str_is(action->connector, "mail")) {
		struct base_jv mail = config_at(c, "mail");

		if (base_str_is(base_jv_str(base_jv_get(mail, "transport")), "smtp"))
			at = base_jv_get(mail, "smtp");
	}
	return base_jv_str(base_jv_get(at, "secret")).len > 0;
}

bool core_lock_holds(const struct core *c, const struct core_action *action, struct base_str provider)
{
	return c->locked && core_needs_secret(c, action, provider);
}

bool core_is_locked(const struct core *c)
{
	return c->locked;
}

static struct core_gate *lock_gate(const struct core *c)
{
	struct core_gate *g = c->lock_gate ? core_gate_find(c, c->lock_gate) : NULL;

	return g && !g->decided ? g : NULL;
}

bool core_lock_asks(const struct core *c)
{
	return !lock_gate(c);
}

void core_emit_lock_gate(struct core_turn *t, uint64_t run, uint32_t step)
{
	(void)core_emit_gate(
		t, &(struct core_gate_open){.run = run,
			   .step = step,
			   .kind = "secret",
			   .title = BASE_STR("The vault is locked: aios vault unlock"),
			   .show = BASE_STR("{\"unlock\":\"aios vault unlock\",\"waits\":\"every call "
					    "that needs a secret\"}"),
			   .rule = BASE_STR("vault locked"),
			   .on_expiry = BASE_STR("deny")});
}

/* It is opened: the gate is answered by that. */
static void close_gate(struct core_turn *t)
{
	const struct core_gate *g = lock_gate(t->c);

	if (!g)
		return;
	core_gate_decided_emit(t->block, t->cmd->now_ms,
		&(struct core_gate_decided){.gate = g->id,
			.answer = BASE_STR("approve"),
			.by = t->cmd->by.id,
			.reason = BASE_STR("the vault is open"),
			.shown = g->shown,
			.waited_ms = t->cmd->now_ms - g->opened_ms,
			.how = BASE_STR("vault")});
}

void core_decide_vault_state(struct core_turn *t)
{
	bool locked = t->cmd->base == 1;

	if (locked != t->c->locked) {
		core_vault_state_emit(t->block, t->cmd->now_ms,
			&(struct core_vault_state){
				.locked = locked, .by = t->cmd->by.id, .why = t->cmd->text});
		if (!locked)
			close_gate(t);
	}
	core_reply_json(t, 200, locked ? BASE_STR("{\"locked\":true}") : BASE_STR("{\"locked\":false}"));
}

static bool canary_asks(const struct core *c)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (base_idmap_next(c->gates, &cursor, &id, &value)) {
		const struct core_gate *g = value;

		if (!g->decided && base_str_is(g->kind, "canary"))
			return false;
	}
	return true;
}

/* One for all that are met until somebody has looked, and one for each that stops everything anew: a gate is what is told where the operator is. */
static void emit_canary_gate(struct core_turn *t, bool frozen)
{
	struct core_gate_open g = {.step = UINT32_MAX,
		.kind = "canary",
		.rule = BASE_STR("canaries"),
		.show = t->cmd->body,
		.on_expiry = BASE_STR("deny"),
		.terms = BASE_STR("{\"approvers\":[\"operator\"],\"urgent\":true}")};

	g.title = base_arena_printf(t->arena, "ALARM: the canary %.*s was met%s", BASE_STR_ARG(t->cmd->name),
		frozen ? "; everything outgoing is frozen (aios thaw)" : "; the call was refused");
	(void)core_emit_gate(t, &g);
}

/* vault.on_canary: "refuse" only refuses the call; else everything outgoing is frozen. */
void core_decide_canary(struct core_turn *t)
{
	struct base_str how = t->c->config_doc
				      ? base_jv_str(base_jv_get(config_at(t->c, "vault"), "on_canary"))
				      : BASE_STR_NONE;

	core_canary_met_emit(t->block, t->cmd->now_ms,
		&(struct core_canary_met){
			.name = t->cmd->name, .where = t->cmd->text, .detail = t->cmd->body});
	if (canary_asks(t->c) || (!base_str_is(how, "refuse") && !t->c->frozen))
		emit_canary_gate(t, !base_str_is(how, "refuse"));
	if (!base_str_is(how, "refuse") && !t->c->frozen)
		core_frozen_emit(t->block, t->cmd->now_ms,
			&(struct core_frozen){.by = t->cmd->by.id,
				.reason = base_arena_printf(t->arena, "the canary %.*s was met (%.*s)",
					BASE_STR_ARG(t->cmd->name), BASE_STR_ARG(t->cmd->text))});
	core_reply_json(t, 200, BASE_STR("{}"));
}

void core_lock_opened(struct core *c, const struct core_gate *g)
{
	if (base_str_is(g->kind, "secret"))
		c->lock_gate = g->id;
}

void core_apply_lock(struct core_apply *a, const struct core_vault_state *e)
{
	struct core *c = a->c;

	c->locked = e->locked != 0;
	if (c->locked)
		return;
	for (struct core_effect *x = c->effect_first; x; x = x->next) {
		struct core_open *o = x->open;

		if (o->due_ms != CORE_NEVER_MS ||
			core_run_find(c, o->run)->step[o->step].status != CORE_STEP_HELD)
			continue;
		o->due_ms = a->time_ms;
		core_timer_add(c, CORE_TIMER_STEP, o->run, o->step, o->due_ms);
	}
}

void core_lock_put(const struct core *c, struct base_buf *b)
{
	base_put_u64(b, c->locked);
	base_put_u64(b, c->lock_gate);
}

void core_lock_get(struct core *c, struct base_reader *r)
{
	c->locked = base_get_uint(r, 1) != 0;
	c->lock_gate = base_get_u64(r);
}

void core_lock_check(const struct core *c)
{
	if (c->locked)
		return;
	for (const struct core_effect *x = c->effect_first; x; x = x->next)
		BASE_CHECK(x->open->due_ms != CORE_NEVER_MS ||
			   core_run_find(c, x->open->run)->step[x->open->step].status != CORE_STEP_HELD);
}
