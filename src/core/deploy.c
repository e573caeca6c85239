/* Deploy: what the operator puts in place. */
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

struct deployment {
	struct core_turn *t;
	struct base_jw w; /* the reply: a list of changes */
	bool check;	  /* report only */
	bool whole;	  /* these are all the flows: what is not among them starts by itself no more */
	unsigned changes;
	struct base_names *touched; /* schedules that are set or removed */
};

static void note_change(struct deployment *d, const char *what, struct base_str name, const char *version)
{
	base_jw_obj(&d->w);
	base_jw_mcstr(&d->w, "what", what);
	base_jw_mstr(&d->w, "name", name);
	if (version)
		base_jw_mcstr(&d->w, "version", version);
	base_jw_end_obj(&d->w);
	d->changes++;
}

static struct base_str written(struct core_turn *t, struct base_jv v)
{
	struct base_buf b;

	base_buf_init(&b, 64 << 20);
	base_jv_write(v, &b);
	return core_buf_to_arena(t->arena, &b);
}

static void schedule_changed(void *userdata, const char *what, struct base_str name)
{
	struct deployment *d = userdata;

	note_change(d, what, name, NULL);
	BASE_CHECK(base_names_put(d->touched, name, d) == 0);
}

static bool schedule_touched(void *userdata, struct base_str name)
{
	const struct deployment *d = userdata;

	return base_names_get(d->touched, name) != NULL;
}

static bool same_grants(const struct core *c, struct base_str id, struct base_jv grants)
{
	const struct core_principal *p = base_names_get(c->principals, id);

	if (!p || p->grants.count != base_jv_len(grants))
		return false;
	for (uint32_t i = 0; i < p->grants.count; i++)
		if (!base_str_eq(p->grants.item[i], base_jv_str(base_jv_at(grants, i))))
			return false;
	return true;
}

static void deploy_flow(struct deployment *d, struct base_jv v)
{
	struct core_turn *t = d->t;
	struct base_str name = base_jv_str(base_jv_get(v, "name")),
			hex = base_jv_str(base_jv_get(v, "version"));
	const struct core_flow *flow = base_names_get(t->c->flows, name);
	struct base_jv grants = base_jv_get(v, "grants");
	struct core_flow_deployed ev = {.flow = name, .by = t->cmd->by.id};
	struct base_str id = base_arena_printf(t->arena, "flow/%.*s", BASE_STR_ARG(name));
	struct core_control control;
	struct base_err err;
	char text[65];

	if (core_control_read(base_jv_get(v, "spec"), &control, &err) < 0) {
		core_refuse(t, 422, "invalid", "%.*s: %s",
			BASE_STR_ARG(base_jv_str(base_jv_get(base_jv_get(v, "modules"), "entry"))), err.text);
		return;
	}
	core_control_done(&control);
	if (base_hash_from_hex(hex, &ev.version) < 0 || name.len == 0) {
		core_refuse(t, 400, "invalid", "deploy: a flow needs a name and a version");
		return;
	}
	if (flow && flow->current && base_hash_eq(&flow->current->hash, &ev.version) &&
		same_grants(t->c, id, grants))
		return;
	base_hash_hex(&ev.version, text);
	note_change(d, "flow", name, text);
	if (d->check)
		return;
	ev.modules = core_blob(t, written(t, base_jv_get(v, "modules")));
	ev.spec = written(t, base_jv_get(v, "spec"));
	ev.grants = written(t, grants);
	core_flow_deployed_emit(t->block, t->cmd->now_ms, &ev);
}

static void deploy_schedules(struct deployment *d, struct base_jv v)
{
	struct core_turn *t = d->t;
	struct base_err err;

	if (t->reply->status == 200 &&
		core_deploy_schedules(t, base_jv_str(base_jv_get(v, "name")), base_jv_get(v, "spec"),
			d->check, schedule_changed, d, &err) < 0)
		core_refuse(t, 422, "invalid", "%s", err.text);
}

static bool is_deployed(struct base_jv flows, struct base_str name)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(flows, &it, &key, &v))
		if (base_str_eq(base_jv_str(base_jv_get(v, "name")), name))
			return true;
	return false;
}

/* Flows whose files are gone: their runs go on, and they can be started; nothing starts them by itself. */
static void retire_schedules(struct deployment *d, struct base_jv flows)
{
	struct base_str at = BASE_STR_NONE, flow;
	struct base_err err;
	void *value;

	for (bool first = true; base_names_seek(d->t->c->flows, at, first, &at, &value); first = false) {
		flow = ((const struct core_flow *)value)->name;
		if (!is_deployed(flows, flow))
			BASE_CHECK(core_deploy_schedules(d->t, flow, (struct base_jv){NULL}, d->check,
					   schedule_changed, d, &err) == 0);
	}
}

static void deploy_agent(struct deployment *d, struct base_jv v)
{
	struct core_turn *t = d->t;
	struct core_agent_deployed ev = {.agent = base_jv_str(base_jv_get(v, "name")),
		.by = t->cmd->by.id,
		.definition = written(t, base_jv_get(v, "definition"))};
	const struct core_agent *was = base_names_get(t->c->agents, ev.agent);

	ev.version = base_hash_of(ev.definition);
	if (was && base_hash_eq(&was->version, &ev.version))
		return;
	note_change(d, "agent", ev.agent, NULL);
	if (!d->check)
		core_agent_deployed_emit(t->block, t->cmd->now_ms, &ev);
}

static int deploy_settings(struct deployment *d, struct base_jv root)
{
	struct core_turn *t = d->t;
	struct base_jv config = base_jv_get(root, "config"), policy = base_jv_get(root, "policy");
	struct base_str text;
	struct base_err err;

	if (base_jv_kind(config) == BASE_JSON_OBJ) {
		text = core_settings_complete(config, t->arena);
		if (core_config_check(written(t, config), &err) < 0) {
			core_refuse(t, 422, "invalid", "%s", err.text);
			return -1;
		}
		if (!base_str_eq(text, t->c->config)) {
			note_change(d, "config", BASE_STR("aios.yaml"), NULL);
			if (!d->check)
				core_config_set_emit(t->block, t->cmd->now_ms,
					&(struct core_config_set){.config = text,
						.hash = base_hash_of(text),
						.by = t->cmd->by.id});
		}
	}
	if (base_jv_kind(policy) == BASE_JSON_OBJ) {
		struct core_fault fault;

		text = written(t, policy);
		if (core_policy_check(text, &fault, NULL) < 0) {
			core_refuse(
				t, 422, "invalid", "policy.yaml: at \"%s\": %s", fault.at, fault.err.text);
			return -1;
		}
		if (!base_str_eq(text, t->c->policy)) {
			note_change(d, "policy", BASE_STR("policy.yaml"), NULL);
			if (!d->check)
				core_policy_set_emit(t->block, t->cmd->now_ms,
					&(struct core_policy_set){.policy = text,
						.hash = base_hash_of(text),
						.by = t->cmd->by.id});
		}
	}
	return 0;
}

void core_decide_deploy(struct core_turn *t)
{
	struct deployment d = {.t = t};
	struct base_json *doc, *params;
	struct base_jv_iter it = {0};
	size_t before = t->block->len;
	struct base_str key;
	struct base_jv v;
	struct base_err err;
	struct base_buf b;

	if (base_json_parse(t->cmd->body, &doc, &err) < 0) {
		core_refuse(t, 400, "invalid", "deploy: %s", err.text);
		return;
	}
	if (t->cmd->params.len && base_json_parse(t->cmd->params, &params, NULL) == 0) {
		d.check = base_jv_bool(base_jv_get(base_json_root(params), "check"), false);
		d.whole = base_jv_bool(base_jv_get(base_json_root(params), "whole"), false);
		base_json_free(params);
	}
	BASE_CHECK(base_names_new(&d.touched) == 0);
	base_buf_init(&b, 16 << 20);
	d.w = base_jw_of(&b);
	base_jw_obj(&d.w);
	base_jw_key(&d.w, "changed");
	base_jw_arr(&d.w);
	if (deploy_settings(&d, base_json_root(doc)) == 0) {
		while (base_jv_next(base_jv_get(base_json_root(doc), "agents"), &it, &key, &v))
			deploy_agent(&d, v);
		if (!d.check)
			core_emit_zones(t);
		it = (struct base_jv_iter){0};
		while (base_jv_next(base_jv_get(base_json_root(doc), "flows"), &it, &key, &v)) {
			deploy_flow(&d, v);
			deploy_schedules(&d, v);
		}
		if (d.whole && t->reply->status == 200)
			retire_schedules(&d, base_jv_get(base_json_root(doc), "flows"));
		if (!d.check)
			core_emit_rezoned(t, schedule_touched, &d);
	}
	base_names_free(d.touched);
	base_jw_end_arr(&d.w);
	base_jw_end_obj(&d.w);
	if (t->reply->status == 200)
		core_reply_json(t, 200, core_buf_to_arena(t->arena, &b));
	else
		t->block->len = before; /* all or nothing */
	base_buf_done(&b);
	base_json_free(doc);
}
