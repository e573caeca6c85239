/* Facts, documents, outcomes and signals that come from outside a run: the API and the command line. */
#include <errno.h>
#include <string.h>

#include "core/core_int.h"

#define OUTCOME_MAX 9e12 /* its thousandths fit */

static int canonical(struct core_turn *t, struct base_str text, struct base_str *ret)
{
	struct base_buf b;
	struct base_err err;

	base_buf_init(&b, 32 << 20);
	if (base_json_canon(text, &b, &err) < 0) {
		base_buf_done(&b);
		core_refuse(t, 400, "invalid", "%s", err.text);
		return -1;
	}
	*ret = core_buf_to_arena(t->arena, &b);
	return 0;
}

void core_decide_fact_put(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	const struct core_fact *f = base_names_get(t->c->facts, cmd->name);
	uint64_t version = f ? f->version : 0;
	struct base_str value = BASE_STR_NONE;

	if (cmd->name.len == 0 || cmd->name.len > 512) {
		core_refuse(t, 400, "invalid", "a fact's key has 1 to 512 bytes");
		return;
	}
	if (cmd->base >= 0 && (uint64_t)cmd->base != version) {
		core_refuse(t, 409, "conflict", "%.*s stands at version %llu, not %lld: read it again",
			BASE_STR_ARG(cmd->name), (unsigned long long)version, (long long)cmd->base);
		return;
	}
	if (cmd->body.len == 0 && (!f || f->removed)) {
		core_refuse(t, 404, "unknown_fact", "there is no fact %.*s", BASE_STR_ARG(cmd->name));
		return;
	}
	if (cmd->body.len && canonical(t, cmd->body, &value) < 0)
		return;
	core_emit_fact(t, cmd->name, value, cmd->body.len == 0, 0, 0, cmd->by.id, cmd->text,
		(uint8_t)(cmd->labels | core_caller_labels(t->c, cmd->by.id)));
	core_reply_json(t, f ? 200 : 201,
		base_arena_printf(t->arena, "{\"version\":%llu}", (unsigned long long)version + 1));
}

void core_decide_doc_put(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	struct base_str meta = BASE_STR_NONE;

	if (cmd->name.len == 0 || cmd->name.len > 512 || !base_utf8_valid(cmd->body)) {
		core_refuse(t, 400, "invalid", "a document has an id of 1 to 512 bytes and a text in UTF-8");
		return;
	}
	if (cmd->params.len && canonical(t, cmd->params, &meta) < 0)
		return;
	core_document_put_emit(t->block, t->cmd->now_ms,
		&(struct core_document_put){.id = cmd->name,
			.text = core_blob(t, cmd->body),
			.meta = meta,
			.hash = base_hash_of(cmd->body),
			.by = cmd->by.id,
			.labels = (uint8_t)(cmd->labels | core_caller_labels(t->c, cmd->by.id))});
	core_reply_json(t, 201, BASE_STR("{}"));
}

/* The experiment of a run in which this customer was given an arm. */
static const struct core_experiment *experiment_of(
	const struct core *c, uint64_t run, struct base_str customer, struct base_str *ret_name)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; base_names_seek(c->experiments, at, first, &at, &value); first = false) {
		const struct core_experiment *x = value;

		if (x->run == run && x->units && base_names_get(x->units, customer)) {
			*ret_name = at;
			return x;
		}
	}
	return NULL;
}

/* True, with the reply written, when this key was used before: for the same thing (nothing happens again) or not. */
static bool known_key(struct core_turn *t, struct base_str key, uintptr_t fingerprint, const char *same)
{
	uintptr_t was = key.len ? (uintptr_t)base_names_get(t->c->outcome_keys, key) : 0;

	if (!was)
		return false;
	if (was == fingerprint)
		core_reply_json(t, 200, base_str_of(same));
	else
		core_refuse(t, 409, "key_reused", "this key was used for something else: use a new key");
	return true;
}

/* The arm that this customer was given, or UINT32_MAX. */
static uint32_t arm_of(const struct core *c, struct base_str experiment, struct base_str customer)
{
	const struct core_experiment *x = experiment.len ? base_names_get(c->experiments, experiment) : NULL;
	uintptr_t unit = x && x->units && customer.len ? (uintptr_t)base_names_get(x->units, customer) : 0;

	return unit ? (uint32_t)unit - 1 : UINT32_MAX;
}

int core_outcome_read(const struct core *c, struct base_jv from, bool by_customer,
	struct core_outcome_recorded *ev, struct base_err *err)
{
	struct base_jv value = base_jv_get(from, "value"), money = base_jv_get(from, "money"),
		       arm = base_jv_get(from, "arm");
	const struct core_experiment *x;
	double v = base_jv_real(value, 1);

	if (base_jv_kind(value) != BASE_JSON_NONE && base_jv_kind(value) != BASE_JSON_INT &&
		base_jv_kind(value) != BASE_JSON_REAL)
		return base_err_set(err, -EINVAL, "the value of an outcome is a number");
	if (!(v >= -OUTCOME_MAX && v <= OUTCOME_MAX))
		return base_err_set(err, -EINVAL, "the value of an outcome is at most 9e12");
	if (base_jv_kind(money) != BASE_JSON_NONE && base_jv_kind(money) != BASE_JSON_INT)
		return base_err_set(err, -EINVAL, "the money of an outcome is a whole number of nano-USD");
	ev->value = (int64_t)(v * 1000 + (v < 0 ? -0.5 : 0.5));
	ev->money = base_jv_int(money, 0);
	ev->experiment = base_jv_str(base_jv_get(from, "experiment"));
	if (ev->experiment.len == 0 && by_customer && ev->run && ev->customer.len)
		(void)experiment_of(c, ev->run, ev->customer, &ev->experiment);
	if (base_jv_kind(arm) == BASE_JSON_NONE) {
		ev->arm = arm_of(c, ev->experiment, ev->customer);
		return 0;
	}
	x = ev->experiment.len ? base_names_get(c->experiments, ev->experiment) : NULL;
	if (!x || base_jv_int(arm, -1) < 0 || base_jv_int(arm, -1) >= x->arms)
		return base_err_set(err, -EINVAL, "there is no such arm of experiment %.*s",
			BASE_STR_ARG(ev->experiment));
	ev->arm = (uint32_t)base_jv_int(arm, 0);
	return 0;
}

void core_decide_outcome(struct core_turn *t)
{
	struct core_outcome_recorded ev = {
		.by = t->cmd->by.id, .labels = core_caller_labels(t->c, t->cmd->by.id)};
	struct base_json *doc;
	struct base_jv root;
	struct base_err err;

	if (base_json_parse(t->cmd->body, &doc, &err) < 0) {
		core_refuse(t, 400, "invalid", "outcome: %s", err.text);
		return;
	}
	root = base_json_root(doc);
	ev.name = base_jv_str(base_jv_get(root, "name"));
	ev.run = (uint64_t)base_jv_int(base_jv_get(root, "run"), 0);
	ev.customer = base_jv_str(base_jv_get(root, "customer"));
	ev.key = base_jv_str(base_jv_get(root, "key"));
	if (!ev.key.len && t->cmd->key.len)
		ev.key = base_arena_printf(
			t->arena, "%.*s:%.*s", BASE_STR_ARG(t->cmd->by.id), BASE_STR_ARG(t->cmd->key));
	if (ev.name.len == 0)
		core_refuse(t, 422, "invalid", "an outcome needs a name");
	else if (core_outcome_read(t->c, root, true, &ev, &err) < 0)
		core_refuse(t, 422, "invalid", "%s", err.text);
	else if (ev.key.len && base_names_get(t->c->outcome_keys, ev.key))
		core_reply_json(t, 200, BASE_STR("{\"counted\":false}"));
	else {
		core_outcome_recorded_emit(t->block, t->cmd->now_ms, &ev);
		core_reply_json(t, 201, BASE_STR("{\"counted\":true}"));
	}
	base_json_free(doc);
}

/* The step of the run that has waited longest for this signal, or NULL. */
static const struct core_open *first_waiting(const struct core_run *r, struct base_str name)
{
	const struct core_open *o, *first = NULL;
	uint32_t i = r->steps, seen = 0;

	while (seen++ < r->open && (o = core_open_before(r, &i)) != NULL)
		if (o->action->handler == CORE_H_SIGNAL_WAIT && base_str_eq(core_word_text(o->signal), name))
			first = o;
	return first;
}

uintptr_t core_signal_fingerprint(const struct core_signal_sent *ev)
{
	struct base_str by_hash = {(const char *)ev->payload.hash.b, sizeof(ev->payload.hash.b)};

	return core_fingerprint(ev->name, base_blob_is_inline(&ev->payload) ? ev->payload.data : by_hash);
}

void core_decide_signal(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	struct core_run *r = core_run_find(t->c, cmd->run);
	struct base_str payload = BASE_STR("null"), key = BASE_STR_NONE;
	const struct core_open *hears;
	struct core_signal_sent ev;
	unsigned waiting = 0;

	if (!r || r->state == CORE_RUN_ENDED) {
		core_refuse(t, cmd->run && cmd->run < t->c->next_run ? 409 : 404, "not_active",
			cmd->run && cmd->run < t->c->next_run ? "run %llu has ended" : "there is no run %llu",
			(unsigned long long)cmd->run);
		return;
	}
	for (const struct core_signal *s = core_run_extra(r)->signals; s; s = s->next)
		waiting++;
	if (waiting >= CORE_SIGNALS_MAX) {
		core_refuse(t, 429, "too_many", "run %llu has %u signals that it has not waited for yet",
			(unsigned long long)r->id, waiting);
		return;
	}
	if (cmd->name.len == 0 || (cmd->body.len && canonical(t, cmd->body, &payload) < 0)) {
		if (cmd->name.len == 0)
			core_refuse(t, 400, "invalid", "a signal needs a name");
		return;
	}
	if (cmd->key.len)
		key = base_arena_printf(t->arena, "signal:%llu:%.*s:%.*s", (unsigned long long)r->id,
			BASE_STR_ARG(cmd->by.id), BASE_STR_ARG(cmd->key));
	ev = (struct core_signal_sent){.run = r->id,
		.name = cmd->name,
		.payload = core_blob(t, payload),
		.by = cmd->by.id,
		.key = key,
		.labels = core_caller_labels(t->c, cmd->by.id)};
	if (known_key(t, key, core_signal_fingerprint(&ev), "{}"))
		return;
	core_signal_sent_emit(t->block, cmd->now_ms, &ev);
	core_reply_json(t, 202, BASE_STR("{}"));
	hears = first_waiting(r, cmd->name);
	if (hears)
		core_emit_step_done(t, r->id, hears->step,
			base_arena_printf(t->arena, "{\"payload\":%.*s}", BASE_STR_ARG(payload)), 0,
			BASE_STR_NONE, ev.labels);
}
