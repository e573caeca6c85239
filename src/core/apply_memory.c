/* Facts, experiments and outcomes into the state. Values stay in the log: the state holds where. */
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

static void apply_fact(struct core_apply *a, const struct core_fact_put *e)
{
	struct core *c = a->c;
	struct core_fact *f = base_names_get(c->facts, e->key);

	if (!f) {
		f = base_slab_alloc(c->slab, sizeof(*f));
		BASE_CHECK(base_names_put(c->facts, e->key, f) == 0);
	}
	BASE_CHECK(e->version == f->version + 1);
	f->version = e->version;
	f->seq = a->seq;
	f->removed = e->removed != 0;
	f->labels = e->labels;
}

static struct core_experiment *experiment_of(struct core *c, struct base_str name)
{
	struct core_experiment *x = base_names_get(c->experiments, name);

	if (x)
		return x;
	x = base_slab_alloc(c->slab, sizeof(*x));
	BASE_CHECK(base_names_put(c->experiments, name, x) == 0);
	return x;
}

static void apply_chosen(struct core_apply *a, const struct core_experiment_chosen *e)
{
	struct core_experiment *x = experiment_of(a->c, e->experiment);
	struct base_json *doc;

	x->chosen++;
	x->labels |= e->labels & CORE_LABELS_ALL;
	x->run = e->run;
	if (e->arms.len && base_json_parse(e->arms, &doc, NULL) == 0) {
		uint32_t n = (uint32_t)base_jv_len(base_json_root(doc));

		if (n > x->arms && n <= CORE_ARMS_MAX)
			x->arms = n;
		base_json_free(doc);
	}
	BASE_CHECK(e->arm < CORE_ARMS_MAX);
	if (base_str_is(e->how, "known"))
		return;
	x->arm[e->arm].n++;
	if (e->customer.len == 0)
		return;
	if (!x->units)
		BASE_CHECK(base_names_new(&x->units) == 0);
	BASE_CHECK(base_names_put(x->units, e->customer, (void *)(uintptr_t)(e->arm + 1)) == 0);
}

static void apply_outcome(struct core_apply *a, const struct core_outcome_recorded *e)
{
	struct core_experiment *x;

	if (e->key.len)
		BASE_CHECK(base_names_put(a->c->outcome_keys, e->key,
				   (void *)core_fingerprint(e->name, e->customer)) == 0);
	if (e->experiment.len == 0 || e->arm >= CORE_ARMS_MAX)
		return;
	x = experiment_of(a->c, e->experiment);
	x->labels |= e->labels & CORE_LABELS_ALL;
	x->arm[e->arm].wins++;
	x->arm[e->arm].value += e->value;
}

void core_apply_memory(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	switch (type) {
	case CORE_EV_FACT_PUT:
		apply_fact(a, &e->fact_put);
		break;
	case CORE_EV_EXPERIMENT_CHOSEN:
		apply_chosen(a, &e->experiment_chosen);
		break;
	case CORE_EV_OUTCOME_RECORDED:
		apply_outcome(a, &e->outcome_recorded);
		break;
	default: /* document_put, run_logged: for the views */
		break;
	}
}
