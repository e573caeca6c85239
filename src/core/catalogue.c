/* The actions that exist: what they take, how they may be repeated, who answers them. Not state: an event
 * records what was decided with it. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

static const struct {
	const char *name;
	enum core_handler handler;
	bool always;
} handlers[] = {
	{"memory.get", CORE_H_MEMORY_GET, false},
	{"memory.put", CORE_H_MEMORY_PUT, false},
	{"memory.list", CORE_H_MEMORY_LIST, false},
	{"memory.forget", CORE_H_MEMORY_FORGET, false},
	{"memory.document", CORE_H_MEMORY_DOCUMENT, false},
	{"gate.ask", CORE_H_GATE_ASK, true},
	{"timer.sleep", CORE_H_SLEEP, true},
	{"signal.wait", CORE_H_SIGNAL_WAIT, true},
	{"event.publish", CORE_H_EVENT_PUBLISH, false},
	{"event.wait", CORE_H_EVENT_WAIT, false},
	{"run.start", CORE_H_RUN_START, false},
	{"run.call", CORE_H_RUN_CALL, false},
	{"run.wait", CORE_H_RUN_WAIT, false},
	{"agent.run", CORE_H_AGENT_RUN, false},
	{"experiment.choose", CORE_H_EXPERIMENT_CHOOSE, true},
	{"experiment.counts", CORE_H_EXPERIMENT_COUNTS, true},
	{"outcome.record", CORE_H_OUTCOME, true},
	{"log.write", CORE_H_LOG, true},
	{"run.checkpoint", CORE_H_CHECKPOINT, true},
	{"run.rollback", CORE_H_ROLLBACK, true},
	{"run.again", CORE_H_AGAIN, true},
	{"verify.check", CORE_H_VERIFY, true},
};

static int class_of(struct base_str s, enum core_class *ret)
{
	static const struct {
		const char *name;
		enum core_class klass;
	} table[] = {{"internal", CORE_INTERNAL}, {"read", CORE_READ}, {"idempotent", CORE_IDEMPOTENT},
		{"lookup", CORE_LOOKUP}, {"once", CORE_ONCE}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (base_str_is(s, table[i].name)) {
			*ret = table[i].klass;
			return 0;
		}
	}
	return -EINVAL;
}

static uint8_t labels_of(struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	uint8_t labels = 0;

	while (base_jv_next(list, &it, &key, &v)) {
		if (base_str_is(base_jv_str(v), "untrusted"))
			labels |= CORE_LABEL_UNTRUSTED;
		if (base_str_is(base_jv_str(v), "private"))
			labels |= CORE_LABEL_PRIVATE;
	}
	return labels;
}

static struct base_str text_of(struct core *c, struct base_jv v)
{
	struct base_str text = BASE_STR_NONE;
	struct base_buf b;

	if (base_jv_kind(v) == BASE_JSON_NONE)
		return text;
	base_buf_init(&b, CORE_INLINE_MAX);
	base_jv_write(v, &b);
	text = base_slab_dup(c->slab, base_buf_view(&b));
	base_buf_done(&b);
	return text;
}

static int fill_action(struct core *c, struct core_action *a, struct base_jv v, struct base_err *err)
{
	a->name = base_slab_dup(c->slab, base_jv_str(base_jv_get(v, "name")));
	a->connector = base_slab_dup(c->slab, base_jv_str(base_jv_get(v, "connector")));
	a->timeout_ms = (uint32_t)base_jv_int(base_jv_get(v, "timeout_ms"), 30000);
	a->attempts = (uint32_t)base_jv_int(base_jv_get(v, "attempts"), CORE_ATTEMPTS_DEFAULT);
	a->key_life_ms = base_jv_int(base_jv_get(v, "key_life_ms"), 0);
	a->settle_ms = base_jv_int(base_jv_get(v, "settle_ms"), 1000);
	a->labels = labels_of(base_jv_get(v, "labels"));
	a->has_accepts = base_jv_kind(base_jv_get(v, "accepts")) == BASE_JSON_ARR;
	a->accepts = labels_of(base_jv_get(v, "accepts"));
	a->variants = text_of(c, base_jv_get(v, "classes"));
	a->model = base_str_is(a->name, "model.generate");
	if (a->name.len == 0 || class_of(base_jv_str(base_jv_get(v, "class")), &a->klass) < 0)
		return base_err_set(err, -EINVAL, "catalogue: an action needs a name and a class");
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
		if (base_str_is(a->name, handlers[i].name)) {
			a->handler = handlers[i].handler;
			a->always = handlers[i].always;
		}
	}
	a->internal = base_str_is(a->connector, "core") || base_str_is(a->connector, "engine") ||
		      base_str_is(a->connector, "views");
	if (base_str_is(a->connector, "engine"))
		a->always = true; /* sessions are the run's own */
	if (base_str_is(a->connector, "core") && a->handler == CORE_H_NONE)
		return base_err_set(err, -EINVAL, "catalogue: nothing answers %.*s", BASE_STR_ARG(a->name));
	if (base_schema_compile(base_jv_get(v, "args"), &a->schema, err) < 0) {
		base_err_prefix(err, "catalogue: %.*s", BASE_STR_ARG(a->name));
		return -EINVAL;
	}
	return 0;
}

int core_catalogue_add(struct core *c, struct base_str json, struct base_err *err)
{
	struct core_action *a;
	struct base_json *doc;
	int r = base_json_parse(json, &doc, err);

	if (r < 0)
		return r;
	a = base_slab_alloc(c->slab, sizeof(*a));
	r = fill_action(c, a, base_json_root(doc), err);
	base_json_free(doc);
	if (r == 0 && base_names_get(c->actions, a->name))
		r = base_err_set(err, -EEXIST, "catalogue: %.*s stands there twice", BASE_STR_ARG(a->name));
	if (r == 0)
		r = base_names_put(c->actions, a->name, a);
	if (r < 0)
		base_schema_free(a->schema);
	return r;
}

const struct core_action *core_action_find(const struct core *c, struct base_str name)
{
	return base_names_get(c->actions, name);
}

void core_catalogue_free(struct core *c)
{
	struct base_str at = BASE_STR_NONE;
	void *value;

	for (bool first = true; c->actions && base_names_seek(c->actions, at, first, &at, &value);
		first = false)
		base_schema_free(((struct core_action *)value)->schema);
}

enum core_class core_action_class(const struct core *c, const struct core_action *a)
{
	enum core_class klass = a->klass;
	struct base_json *doc;
	struct base_jv transport;

	if (a->variants.len == 0)
		return klass;
	transport = base_jv_get(base_jv_get_str(base_json_root(c->config_doc), a->connector), "transport");
	BASE_CHECK(base_json_parse(a->variants, &doc, NULL) == 0);
	if (base_jv_len(transport) == 0 && base_jv_str(transport).len == 0)
		(void)class_of(base_jv_str(base_jv_get(base_json_root(doc), "maildir")), &klass);
	else
		(void)class_of(
			base_jv_str(base_jv_get_str(base_json_root(doc), base_jv_str(transport))), &klass);
	base_json_free(doc);
	return klass;
}
