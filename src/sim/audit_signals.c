#include "sim/sim_int.h"

#include <string.h>

/*
 * Signals, a second time: each is heard once, in the order in which they were sent; who waits for a name hears at once what
 * was sent before. The next generation of a run has what the one before had not heard.
 */

struct sim_signal {
	struct sim_signal *next;
	struct base_str name, payload;
};

static void broken(struct sim *s, const char *what, uint64_t run, struct base_str name)
{
	sim_broken(s, SIM_SAFETY, "signal", "event %llu: %s (run %llu, signal %.*s)",
		(unsigned long long)s->audit.seq, what, (unsigned long long)run, BASE_STR_ARG(name));
}

static struct sim_signal **first_of(struct sim_run_seen *r, struct base_str name)
{
	struct sim_signal **at = &r->signals;

	while (*at && !base_str_eq((*at)->name, name))
		at = &(*at)->next;
	return at;
}

static void sent(struct sim *s, const struct core_signal_sent *ev)
{
	struct sim_run_seen *r = sim_run_seen(s, ev->run);
	struct sim_signal *x = sim_alloc(s, sizeof(*x)), **at;

	if (!r || r->outcome)
		broken(s, "a run that is over gets a signal", ev->run, ev->name);
	x->name = sim_dup(s, ev->name);
	x->payload = sim_dup(s, ev->payload.data);
	for (at = &r->signals; *at; at = &(*at)->next)
		;
	*at = x;
}

/* The name in a wait's arguments. */
static struct base_str name_of(struct sim *s, struct base_str args)
{
	struct base_json *doc = NULL;
	struct base_str name;

	if (base_json_parse(args, &doc, NULL) < 0)
		return BASE_STR_NONE;
	name = sim_dup(s, base_jv_str(base_jv_get(base_json_root(doc), "name")));
	base_json_free(doc);
	return name;
}

void sim_audit_signal_wait(struct sim *s, struct sim_run_seen *r, struct base_str args)
{
	struct base_str name = name_of(s, args);

	if (*first_of(r, name))
		broken(s, "it is waited for though it was sent before", r->run, name);
}

void sim_audit_signal_heard(
	struct sim *s, struct sim_run_seen *r, struct base_str args, struct base_str result)
{
	struct base_str head = BASE_STR("{\"payload\":"), name = name_of(s, args);
	struct sim_signal **at = first_of(r, name);

	if (!base_str_starts(result, head))
		return; /* a timeout */
	if (!*at || !base_str_eq(base_str_sub(result, head.len, result.len - head.len - 1), (*at)->payload))
		broken(s, "what is heard is not what was sent first", r->run, name);
	*at = (*at)->next;
}

void sim_audit_signals(struct sim *s, const struct core_record *rec, const union core_event_any *ev)
{
	struct sim_run_seen *before;

	if (rec->type == CORE_EV_SIGNAL_SENT) {
		sent(s, &ev->signal_sent);
	} else if (rec->type == CORE_EV_RUN_STARTED && ev->run_started.previous) {
		before = sim_run_seen(s, ev->run_started.previous);
		if (before)
			sim_run_seen(s, ev->run_started.run)->signals = before->signals;
	}
}
