/* apply: one event into the state, and what must happen next. It cannot fail: a committed event is a fact. */
#include <string.h>

#include "base/check.h"
#include "core/undo_int.h"

void core_act(const struct core_apply *a, const struct core_act *act)
{
	if (a->fn)
		a->fn(a->userdata, act);
}

static void apply_by_type(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	if (type >= CORE_EV_GATE_OPENED && type <= CORE_EV_PROPOSAL_CLOSED) {
		core_apply_gate(a, type, e);
		return;
	}
	switch (type) {
	case CORE_EV_RUN_STARTED:
	case CORE_EV_RUN_ENDED:
	case CORE_EV_RUN_PARKED:
	case CORE_EV_RUN_PAUSED:
	case CORE_EV_RUN_RESUMED:
	case CORE_EV_RUNS_RESTED:
	case CORE_EV_RUN_MOVED:
	case CORE_EV_RUN_ADMITTED:
	case CORE_EV_RUN_FORGOTTEN:
	case CORE_EV_SIGNAL_SENT:
		core_apply_run(a, type, e);
		break;
	case CORE_EV_STEP_CALLED:
	case CORE_EV_STEP_TAKEN:
	case CORE_EV_STEP_SENT:
	case CORE_EV_STEP_DONE:
	case CORE_EV_STEP_FAILED:
	case CORE_EV_STEP_RETRY:
	case CORE_EV_STEP_DOUBT:
		core_apply_step(a, type, e);
		break;
	case CORE_EV_ROLLBACK_STARTED:
	case CORE_EV_STEP_UNDONE:
		core_apply_undo(a, type, e);
		break;
	case CORE_EV_FACT_PUT:
	case CORE_EV_DOCUMENT_PUT:
	case CORE_EV_EXPERIMENT_CHOSEN:
	case CORE_EV_OUTCOME_RECORDED:
	case CORE_EV_RUN_LOGGED:
		core_apply_memory(a, type, e);
		break;
	case CORE_EV_EVENT_PUBLISHED:
	case CORE_EV_EVENT_DELIVERED:
		core_apply_event(a, type, e);
		break;
	case CORE_EV_SCHEDULE_SET:
	case CORE_EV_SCHEDULE_REMOVED:
	case CORE_EV_SCHEDULE_FIRED:
	case CORE_EV_SCHEDULE_PAUSED:
	case CORE_EV_ZONE_SET:
		core_apply_schedule(a, type, e);
		break;
	case CORE_EV_CREDENTIAL_ADDED:
	case CORE_EV_CREDENTIAL_REMOVED:
	case CORE_EV_CREDENTIAL_USED:
	case CORE_EV_SESSION_OPENED:
	case CORE_EV_SESSION_CLOSED:
	case CORE_EV_SIGN_IN_FAILED:
		core_apply_sign_in(a, type, e);
		break;
	case CORE_EV_CHECKPOINT_SIGNED:
	case CORE_EV_CHECKPOINT_SENT:
		core_apply_audit(a, type, e);
		break;
	default:
		core_apply_company(a, type, e);
		break;
	}
}

void core_apply(struct core *c, uint64_t seq, const struct core_record *rec, core_act_fn fn, void *userdata)
{
	struct core_apply a = {.c = c, .seq = seq, .time_ms = rec->time_ms, .fn = fn, .userdata = userdata};
	union core_event_any e;

	BASE_CHECK(seq == c->seq + 1 && rec->time_ms >= c->time_ms);
	BASE_CHECK(core_event_get(rec->type, rec->body, &e) == 0);
	c->seq = seq;
	c->time_ms = rec->time_ms;
	apply_by_type(&a, rec->type, &e);
}

/* --- the company --- */

static void add_principal(struct core *c, struct base_str id, struct base_str kind, struct base_str name,
	struct base_str key, struct base_str grants, struct base_str by, int64_t expires_ms)
{
	struct core_principal *p = base_names_get(c->principals, id);
	struct base_json *doc;

	if (!p) {
		p = base_slab_alloc(c->slab, sizeof(*p));
		BASE_CHECK(base_names_put(c->principals, id, p) == 0);
	}
	core_set_str(c, &p->id, id);
	core_set_str(c, &p->kind, kind);
	core_set_str(c, &p->name, name);
	core_set_str(c, &p->by, by);
	p->expires_ms = expires_ms;
	p->revoked = false;
	p->has_key = key.len == sizeof(p->public_key);
	if (p->has_key)
		memcpy(p->public_key, key.ptr, sizeof(p->public_key));
	core_patterns_free(c, &p->grants);
	if (grants.len && base_json_parse(grants, &doc, NULL) == 0) {
		p->grants = core_patterns_of(c, base_json_root(doc));
		base_json_free(doc);
	}
}

static void prefixed(struct core *c, const char *prefix, struct base_str name, struct base_str *ret)
{
	base_arena_reset(c->scratch);
	*ret = base_arena_printf(c->scratch, "%s%.*s", prefix, BASE_STR_ARG(name));
}

static void apply_flow(struct core_apply *a, const struct core_flow_deployed *e)
{
	struct core *c = a->c;
	struct core_flow *f = base_names_get(c->flows, e->flow);
	struct base_str key = {(const char *)e->version.b, sizeof(e->version.b)}, id;
	struct core_version *v = base_names_get(c->versions, key);

	if (!f) {
		f = base_slab_alloc(c->slab, sizeof(*f));
		f->name = base_slab_dup(c->slab, e->flow);
		BASE_CHECK(base_names_put(c->flows, e->flow, f) == 0);
	}
	if (!v) {
		v = core_version_make(c, e->flow, &e->version, a->seq, e->spec);
		BASE_CHECK(base_names_put(c->versions, key, v) == 0);
	}
	f->current = v;
	core_admit_flow(c, f);
	prefixed(c, "flow/", e->flow, &id);
	add_principal(c, id, BASE_STR("flow"), e->flow, BASE_STR_NONE, e->grants, e->by, 0);
}

/* An agent may use its tools, what it is granted, and a model. */
static void apply_agent(struct core_apply *a, const struct core_agent_deployed *e)
{
	struct core *c = a->c;
	struct core_agent *g = base_names_get(c->agents, e->agent);
	struct base_str id, key;
	struct base_json *doc;
	struct base_buf b;
	struct base_jw w;
	struct base_jv v;

	if (!g) {
		g = base_slab_alloc(c->slab, sizeof(*g));
		g->name = base_slab_dup(c->slab, e->agent);
		BASE_CHECK(base_names_put(c->agents, e->agent, g) == 0);
	}
	core_set_str(c, &g->definition, e->definition);
	g->version = e->version;
	BASE_CHECK(base_json_parse(e->definition, &doc, NULL) == 0);
	base_buf_init(&b, CORE_INLINE_MAX);
	w = base_jw_of(&b);
	base_jw_arr(&w);
	base_jw_cstr(&w, "model.generate");
	for (int i = 0; i < 2; i++) {
		struct base_jv list = base_jv_get(base_json_root(doc), i ? "grants" : "tools");
		struct base_jv_iter it = {0};

		while (base_jv_next(list, &it, &key, &v))
			base_jw_str(&w, base_jv_str(v));
	}
	base_jw_end_arr(&w);
	prefixed(c, "agent/", e->agent, &id);
	add_principal(c, id, BASE_STR("agent"), e->agent, BASE_STR_NONE, base_buf_view(&b), e->by, 0);
	base_buf_done(&b);
	base_json_free(doc);
}

/* The steps that a freeze held are due again. */
static void apply_thaw(struct core_apply *a)
{
	a->c->frozen = false;
	for (struct core_effect *x = a->c->effect_first; x; x = x->next) {
		const struct core_open *o = x->open;

		if (o->due_ms && core_run_find(a->c, o->run)->step[o->step].status == CORE_STEP_HELD)
			core_timer_add(a->c, CORE_TIMER_STEP, o->run, o->step, o->due_ms);
	}
}

void core_apply_company(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	struct core *c = a->c;

	switch (type) {
	case CORE_EV_ENGINE_STARTED:
		c->epoch = e->engine_started.epoch;
		if (e->engine_started.restored)
			core_apply_restored(a, e->engine_started.lost_ms);
		if (e->engine_started.restored)
			core_sessions_restored(a);
		core_set_str(c, &c->interpreter, e->engine_started.interpreter);
		if (!c->workspace.len)
			core_set_str(c, &c->workspace, e->engine_started.workspace);
		break;
	case CORE_EV_CONFIG_SET:
		core_set_str(c, &c->config, e->config_set.config);
		core_config_load(c);
		core_gates_rearm(c);
		core_act(a, &(struct core_act){.type = CORE_ACT_CONFIG});
		break;
	case CORE_EV_VAULT_STATE:
		core_apply_lock(a, &e->vault_state);
		break;
	case CORE_EV_POLICY_SET:
		core_set_str(c, &c->policy, e->policy_set.policy);
		c->policy_seq = a->seq;
		core_policy_load(c, true);
		break;
	case CORE_EV_PRINCIPAL_ADDED:
		add_principal(c, e->principal_added.id, e->principal_added.kind, e->principal_added.name,
			e->principal_added.public_key, e->principal_added.grants, e->principal_added.by,
			e->principal_added.expires_ms);
		core_apply_key(c, type, e);
		core_votes_forget(c, e->principal_added.id);
		break;
	case CORE_EV_PRINCIPAL_REVOKED:
		core_apply_key(c, type, e);
		core_votes_forget(c, e->principal_revoked.id);
		break;
	case CORE_EV_KEY_ROTATED:
	case CORE_EV_KEYS_USED:
		core_apply_key(c, type, e);
		break;
	case CORE_EV_FLOW_DEPLOYED:
		apply_flow(a, &e->flow_deployed);
		break;
	case CORE_EV_AGENT_DEPLOYED:
		apply_agent(a, &e->agent_deployed);
		break;
	case CORE_EV_FROZEN:
		c->frozen = true;
		break;
	case CORE_EV_THAWED:
		apply_thaw(a);
		break;
	case CORE_EV_GUARD_SET:
		if (base_str_is(e->guard_set.rule, CORE_GUARD))
			c->guard_off = !e->guard_set.on;
		break;
	case CORE_EV_LOG_ARCHIVED:
		c->archived = e->log_archived.last_seq;
		break;
	default: /* access_denied, secret_changed: for the record */
		break;
	}
}
