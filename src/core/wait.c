/*
 * A run waits for a run of any flow, open or ended (run.wait). It does not own it: neither ends with the other.
 *
 * Waits stand in sets by the run that they are for (derived): in `waits` while it is open, in `answers` from its end
 * until a tick has given them the outcome, which it reads from the log.
 *
 * Invariant (core_check walks it)
 *  A7  A step that waits for a run stands in `waits` while that is open, in `answers` when it has ended.
 */
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

enum { RUN_KEY = 8, WAIT_KEY = 20 };

static void be(char *to, uint64_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		to[i] = (char)(v >> (8 * (n - 1 - i)));
}

static struct base_str key_of(char key[WAIT_KEY], const struct core_open *o)
{
	be(key, o->child, 8);
	be(key + 8, o->run, 8);
	be(key + 16, o->step, 4);
	return (struct base_str){key, WAIT_KEY};
}

static bool is_open(const struct core *c, uint64_t run)
{
	const struct core_run *r = core_run_find(c, run);

	return r && r->state != CORE_RUN_ENDED;
}

struct core_run *core_open_child(const struct core *c, const struct core_open *o)
{
	return o && o->child && o->action->handler != CORE_H_RUN_WAIT ? core_run_find(c, o->child) : NULL;
}

void core_wait_add(struct core *c, struct core_open *o, uint64_t run, bool open)
{
	char key[WAIT_KEY];

	o->child = run;
	open |= is_open(c, run);
	BASE_CHECK(base_names_put(open ? c->waits : c->answers, key_of(key, o), o) == 0);
}

void core_wait_drop(struct core *c, const struct core_open *o)
{
	char key[WAIT_KEY];

	if (!o->action || o->action->handler != CORE_H_RUN_WAIT)
		return;
	if (!base_names_remove(c->waits, key_of(key, o)))
		BASE_CHECK(base_names_remove(c->answers, key_of(key, o)));
}

void core_wait_ended(struct core *c, uint64_t run)
{
	char from[RUN_KEY], copy[WAIT_KEY];
	struct base_str key;
	void *value;

	be(from, run, 8);
	while (base_names_seek(c->waits, (struct base_str){from, sizeof(from)}, true, &key, &value) &&
		memcmp(key.ptr, from, sizeof(from)) == 0) {
		memcpy(copy, key.ptr, sizeof(copy));
		BASE_CHECK(base_names_put(c->answers, key, value) == 0);
		base_names_remove(c->waits, (struct base_str){copy, sizeof(copy)});
	}
}

void core_wait_restored(struct core *c)
{
	struct base_str at;
	char from[RUN_KEY] = {0};
	void *value;

	/* One look for each run that is waited for. */
	while (base_names_seek(c->waits, (struct base_str){from, sizeof(from)}, true, &at, &value)) {
		uint64_t run = ((struct core_open *)value)->child;

		if (!is_open(c, run))
			core_wait_ended(c, run);
		be(from, run + 1, 8);
	}
}

void core_wait_check(const struct core *c)
{
	const struct base_names *sets[] = {c->waits, c->answers};
	void *value;

	for (int i = 0; i < 2; i++) {
		struct base_str at = BASE_STR_NONE;

		for (bool first = true; base_names_seek(sets[i], at, first, &at, &value); first = false) {
			const struct core_open *o = value;

			BASE_CHECK(core_step_open(core_step_find(core_run_find(c, o->run), o->step)) == o);
			BASE_CHECK(is_open(c, o->child) == (i == 0)); /* A7 */
		}
	}
}

/* --- the outcome --- */

static const char *outcome_name(unsigned outcome)
{
	return outcome == CORE_DONE ? "done" : outcome == CORE_FAILED ? "failed" : "cancelled";
}

/* What a wait for an ended run gives; empty: its end cannot be read. */
static struct base_str outcome_of(struct core_turn *t, uint64_t seq, uint8_t *ret_labels)
{
	const struct core_fetched *got = core_fetched_at(t, seq);
	struct core_run_ended ev;
	struct base_buf b;
	struct base_jw w;

	if (!got || core_run_ended_get(got->record.body, &ev) < 0)
		return BASE_STR_NONE;
	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	if (ev.next)
		base_jw_mint(&w, "next", (int64_t)ev.next);
	if (ev.outcome != CORE_DONE)
		base_jw_mraw(&w, "problem", got->blob.len ? got->blob : BASE_STR("null"));
	base_jw_mcstr(&w, "state", outcome_name(ev.outcome));
	if (ev.outcome == CORE_DONE)
		base_jw_mraw(&w, "value", got->blob.len ? got->blob : BASE_STR("null"));
	base_jw_end_obj(&w);
	*ret_labels = ev.labels;
	return core_buf_to_arena(t->arena, &b);
}

uint64_t core_wait_seq(const struct core *c, struct base_jv args)
{
	return core_ended_seq(c, (uint64_t)base_jv_int(base_jv_get(args, "run"), 0));
}

static const struct core_open *first_answer(const struct core *c)
{
	struct base_str key;
	void *value;

	return base_names_seek(c->answers, BASE_STR_NONE, true, &key, &value) ? value : NULL;
}

uint64_t core_answer_seq(const struct core *c)
{
	const struct core_open *o = first_answer(c);

	return o ? core_ended_seq(c, o->child) : 0;
}

bool core_decide_answer(struct core_turn *t)
{
	const struct core_open *o = first_answer(t->c);
	struct base_str outcome;
	uint8_t labels = 0;

	if (!o)
		return false;
	outcome = outcome_of(t, core_ended_seq(t->c, o->child), &labels);
	if (outcome.len)
		core_emit_step_done(t, o->run, o->step, outcome, 0, BASE_STR_NONE, labels);
	else
		core_emit_step_failed(t, o->run, o->step,
			core_problem(t->arena, "unreadable", "the end of run %llu cannot be read",
				(unsigned long long)o->child),
			0);
	return true;
}

void core_run_wait(struct core_turn *t, const struct core_call *call)
{
	uint64_t run = (uint64_t)base_jv_int(base_jv_get(call->args, "run"), 0);
	int64_t timeout = base_jv_int(base_jv_get(call->args, "timeout_ms"), -1);
	uint64_t seq = core_ended_seq(t->c, run);
	struct base_str outcome;
	uint8_t labels = 0;

	if (!seq && !is_open(t->c, run)) {
		core_emit_called_failed(t, call,
			run < t->c->next_run
				? core_problem(t->arena, "forgotten",
					  "run %llu ended so long ago that its outcome is not known any more",
					  (unsigned long long)run)
				: core_problem(t->arena, "unknown_run", "there is no run %llu",
					  (unsigned long long)run));
		return;
	}
	if (!seq && core_waits_for(t->c, run, call->run->id)) {
		core_emit_called_failed(t, call,
			core_problem(t->arena, "deadlock", "run %llu waits for this one: neither would end",
				(unsigned long long)run));
		return;
	}
	if (!seq && timeout == 0) {
		core_emit_called_done(t, call, BASE_STR("{\"timeout\":true}"));
		return;
	}
	outcome = seq ? outcome_of(t, seq, &labels) : BASE_STR_NONE;
	if (outcome.len) {
		struct core_call with = *call;

		with.brings = labels;
		core_emit_called_done(t, &with, outcome);
	} else {
		core_emit_called_waiting(t, call, timeout > 0 ? t->cmd->now_ms + timeout : 0, 0);
	}
}
