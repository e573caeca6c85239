/* Gates: questions to a person. One decision wins; what is decided is bound to the hash of what was shown. */
#include <string.h>

#include "core/undo_int.h"

enum { SHOWN_TEXT_MAX = 400, FIXED_VALUES_MAX = 4096 };

uint64_t core_emit_gate(struct core_turn *t, const struct core_gate_open *g)
{
	struct base_str show = g->show.len ? g->show : BASE_STR("null");
	const struct core_run *r = core_run_find(t->c, g->run);
	struct core_gate_opened ev = {.gate = t->next_gate++,
		.run = g->run,
		.step = g->step,
		.kind = base_str_of(g->kind),
		.title = g->title,
		.show = core_blob(t, show),
		.shown = base_hash_of(show),
		.allows = g->allows,
		.edit = g->edit,
		.rule = g->rule,
		.cost = g->cost,
		.expires_ms = g->expires_ms,
		.on_expiry = g->on_expiry,
		.terms = core_terms_for(t, g),
		.labels = g->labels | (r ? r->labels : 0),
		.sources = g->sources,
		.policy = g->policy};

	core_gate_opened_emit(t->block, t->cmd->now_ms, &ev);
	return ev.gate;
}

/* --- what an approval fixes --- */

static struct base_jv at_pointer(struct base_jv v, struct base_str pointer)
{
	struct base_str head, rest = pointer;
	uint64_t i;

	if (rest.len && rest.ptr[0] == '/')
		rest = base_str_sub(rest, 1, rest.len);
	while (rest.len) {
		(void)base_str_cut(rest, '/', &head, &rest);
		if (base_jv_kind(v) == BASE_JSON_ARR && base_str_u64(head, &i) == 0)
			v = base_jv_at(v, i);
		else
			v = base_jv_get_str(v, head);
	}
	return v;
}

static void put_fixed(struct base_jw *w, struct base_jv v)
{
	struct base_buf b;
	struct base_hash h;
	struct base_str text;

	if (base_jv_kind(v) == BASE_JSON_NONE)
		return;
	base_buf_init(&b, 32 << 20);
	base_jv_write(v, &b);
	h = base_hash_of(base_buf_view(&b));
	text = base_str_sub(base_buf_view(&b), 0, SHOWN_TEXT_MAX);
	while (text.len && !base_utf8_valid(text))
		text.len--;
	base_jw_obj(w);
	base_jw_mhash(w, "hash", &h);
	base_jw_mstr(w, "text", text);
	base_jw_end_obj(w);
	base_buf_done(&b);
}

static void put_leaves(struct base_jw *w, struct base_jv v, unsigned *left)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv child;

	if (*left == 0)
		return;
	if (base_jv_kind(v) != BASE_JSON_ARR && base_jv_kind(v) != BASE_JSON_OBJ) {
		(*left)--;
		put_fixed(w, v);
		return;
	}
	while (base_jv_next(v, &it, &key, &child))
		put_leaves(w, child, left);
}

/* {"markdown":[{"hash","text"}…]}: each fixed argument and the values that it may have. False and refused:
 * what was approved cannot be told, so nothing may be allowed by it. */
static bool fixed_of(
	struct core_turn *t, struct base_str allows, struct base_str approved, struct base_str *ret)
{
	struct base_json *rule, *value;
	struct base_jv fixed, v, p;
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_buf b;
	struct base_jw w;

	*ret = BASE_STR_NONE;
	if (allows.len == 0 || base_json_parse(allows, &rule, NULL) < 0)
		return true;
	if (base_json_parse(approved, &value, NULL) < 0) {
		base_json_free(rule);
		core_refuse(t, 503, "unreadable", "what this gate showed cannot be read now: try again");
		return false;
	}
	fixed = base_jv_get(base_json_root(rule), "fixed");
	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	while (base_jv_next(fixed, &it, &key, &v)) {
		bool names = base_jv_kind(fixed) == BASE_JSON_ARR;
		unsigned left = FIXED_VALUES_MAX;

		base_jw_key_str(&w, names ? base_jv_str(v) : key);
		base_jw_arr(&w);
		if (names) {
			put_leaves(&w, base_json_root(value), &left);
		} else if (base_jv_kind(v) == BASE_JSON_ARR) {
			struct base_jv_iter jt = {0};

			while (base_jv_next(v, &jt, &key, &p))
				put_fixed(&w, at_pointer(base_json_root(value), base_jv_str(p)));
		} else {
			put_fixed(&w, at_pointer(base_json_root(value), base_jv_str(v)));
		}
		base_jw_end_arr(&w);
	}
	base_jw_end_obj(&w);
	base_json_free(value);
	base_json_free(rule);
	if (base_buf_failed(&b)) {
		base_buf_done(&b);
		core_refuse(t, 413, "too_large",
			"too much is fixed by this approval: the flow must name fewer arguments or values");
		return false;
	}
	*ret = core_buf_to_arena(t->arena, &b);
	return true;
}

/* --- a decision --- */

struct decision {
	struct core_gate *gate;
	struct core_run *run;
	struct core_step *step;				  /* NULL for parked runs */
	struct base_str answer, by, reason, value, shown; /* value: edited, or what happened */
};

static void emit_decided(struct core_turn *t, const struct decision *d, struct base_str fixed)
{
	core_gate_decided_emit(t->block, t->cmd->now_ms,
		&(struct core_gate_decided){.gate = d->gate->id,
			.answer = d->answer,
			.by = d->by,
			.reason = d->reason,
			.shown = d->gate->shown,
			.value = core_blob(t, d->value),
			.waited_ms = t->cmd->now_ms - d->gate->opened_ms,
			.fixed = fixed,
			.how = base_str_is(d->by, "time") ? BASE_STR("expiry") : t->cmd->key,
			.proof = t->cmd->bytes});
}

static struct base_str asked_result(struct core_turn *t, const struct decision *d, struct base_str value)
{
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 64 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mstr(&w, "answer", d->answer);
	base_jw_mint(&w, "approval", (int64_t)d->gate->id);
	base_jw_mstr(&w, "by", d->by);
	base_jw_mstr(&w, "reason", d->reason);
	base_jw_mraw(&w, "value", value);
	if (d->gate->votes) {
		base_jw_key(&w, "voted");
		base_jw_arr(&w);
		for (const struct core_vote *v = d->gate->votes; v; v = v->next)
			if (!base_str_eq(v->by, d->by) && base_str_eq(v->answer, d->answer))
				base_jw_str(&w, v->by);
		base_jw_end_arr(&w);
	}
	base_jw_end_obj(&w);
	return core_buf_to_arena(t->arena, &b);
}

/* Of what was written by who decided: a reason, another value. */
static uint8_t labels_of(const struct core_turn *t, const struct decision *d)
{
	return base_str_is(d->by, "time") ? 0 : core_caller_labels(t->c, d->by);
}

/* A gate that the flow asked for itself: its answer is the step's result. */
static void decide_asked(struct core_turn *t, struct decision *d)
{
	bool edit = base_str_is(d->answer, "edit"), approve = edit || base_str_is(d->answer, "approve");
	struct base_str value = edit ? d->value : d->shown, fixed = BASE_STR_NONE;

	if (edit && !d->gate->edit) {
		core_refuse(t, 422, "not_editable", "gate %llu can be approved or denied, not edited",
			(unsigned long long)d->gate->id);
		return;
	}
	if (edit && d->value.len == 0) {
		core_refuse(t, 422, "invalid", "an edit needs the value that is approved");
		return;
	}
	if (approve && !fixed_of(t, d->gate->allows, value, &fixed))
		return;
	emit_decided(t, d, fixed);
	core_emit_step_done(t, d->run->id, d->gate->step,
		asked_result(
			t, d, approve || base_str_is(d->gate->on_expiry, "value") ? value : BASE_STR_NONE),
		0, BASE_STR_NONE, labels_of(t, d));
}

/* A gate that holds an effect: policy, budget, or attempts used up. */
static void decide_held(struct core_turn *t, struct decision *d)
{
	emit_decided(t, d, BASE_STR_NONE);
	if (!base_str_is(d->answer, "approve")) {
		core_emit_step_failed(t, d->run->id, d->gate->step,
			core_problem(t->arena, base_str_is(d->answer, "expired") ? "expired" : "denied",
				"%.*s by %.*s%s%.*s", BASE_STR_ARG(d->answer), BASE_STR_ARG(d->by),
				d->reason.len ? ": " : "", BASE_STR_ARG(d->reason)),
			0);
		return;
	}
	/* The release follows by its timer: applying the decision holds the step with a slot that is due now.
	 */
}

static void decide_doubt(struct core_turn *t, struct decision *d)
{
	if (base_str_is(d->answer, "happened")) {
		emit_decided(t, d, BASE_STR_NONE);
		core_emit_step_done(t, d->run->id, d->gate->step, d->value.len ? d->value : BASE_STR("null"),
			0, BASE_STR_NONE,
			(uint8_t)(labels_of(t, d) | core_step_open(d->step)->action->labels));
	} else if (base_str_is(d->answer, "send")) {
		emit_decided(t, d, BASE_STR_NONE);
	} else {
		emit_decided(t, d, BASE_STR_NONE);
		core_emit_step_failed(t, d->run->id, d->gate->step,
			core_problem(t->arena, "given_up",
				"nobody knows whether it happened; given up by %.*s", BASE_STR_ARG(d->by)),
			0);
	}
}

static void decide_parked(struct core_turn *t, struct decision *d)
{
	bool resume = base_str_is(d->answer, "approve") || base_str_is(d->answer, "resume");

	emit_decided(t, d, BASE_STR_NONE);
	if (resume) {
		core_run_resumed_emit(
			t->block, t->cmd->now_ms, &(struct core_run_resumed){.run = d->run->id, .by = d->by});
		return;
	}
	core_cancel(t, d->run, core_problem(t->arena, "cancelled", "given up by %.*s", BASE_STR_ARG(d->by)));
}

static void decide_undo(struct core_turn *t, struct decision *d)
{
	emit_decided(t, d, BASE_STR_NONE);
	core_undo_answer(t, d->run, d->answer, d->by);
}

static void decide_guard(struct core_turn *t, struct decision *d)
{
	emit_decided(t, d, BASE_STR_NONE);
	core_guard_decided(t, d->gate, d->answer, d->by, d->reason);
}

static void decide_shed(struct core_turn *t, struct decision *d)
{
	const struct core_fetched *f = core_fetched_at(t, d->gate->seq);

	if (base_str_is(d->answer, "approve") && !f) {
		core_refuse(t, 503, "unreadable", "what this gate showed cannot be read now: try again");
		return;
	}
	emit_decided(t, d, BASE_STR_NONE);
	core_shed_decided(t, d->gate, f, d->answer, d->by, d->reason);
}

static void decide_kind(struct core_turn *t, struct decision *d)
{
	if (base_str_is(d->gate->kind, "approve"))
		decide_asked(t, d);
	else if (base_str_is(d->gate->kind, "doubt"))
		decide_doubt(t, d);
	else if (base_str_is(d->gate->kind, "parked"))
		decide_parked(t, d);
	else if (base_str_is(d->gate->kind, "undo"))
		decide_undo(t, d);
	else if (base_str_is(d->gate->kind, "guard"))
		decide_guard(t, d);
	else if (base_str_is(d->gate->kind, "shed"))
		decide_shed(t, d);
	else if (base_str_is(d->gate->kind, "canary")) /* seen: thawing is another act */
		emit_decided(t, d, BASE_STR_NONE);
	else
		decide_held(t, d);
}

/* What each kind of gate can be answered with. */
static const struct {
	const char *kind, *answers[5];
} answers[] = {
	{"approve", {"approve", "edit", "deny"}}, {"policy", {"approve", "deny"}},
	{"budget", {"approve", "deny"}}, {"retry", {"approve", "deny"}},
	{"secret", {"deny"}}, /* approved by aios vault unlock alone */
	{"doubt", {"happened", "send", "give_up", "deny"}},
	{"undo", {"approve", "retry", "skip", "deny", "give_up"}},
	{"parked", {"approve", "resume", "deny", "cancel", "give_up"}}, {"shed", {"approve", "deny"}},
	{"guard", {"approve", "deny"}}, {"canary", {"approve"}}, /* it was seen */
};

static bool answer_fits(struct core_turn *t, struct base_str kind, struct base_str answer)
{
	struct base_str list = BASE_STR_NONE;

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		if (!base_str_is(kind, answers[i].kind))
			continue;
		for (size_t k = 0; k < 5 && answers[i].answers[k]; k++) {
			if (base_str_is(answer, answers[i].answers[k]))
				return true;
			list = base_arena_printf(t->arena, "%.*s%s%s", BASE_STR_ARG(list), k ? ", " : "",
				answers[i].answers[k]);
		}
	}
	core_refuse(t, 422, base_str_is(answer, "edit") ? "not_editable" : "invalid",
		"this gate is answered with one of: %.*s", BASE_STR_ARG(list));
	return false;
}

static void expire(struct core_turn *t)
{
	struct base_heap_item item;
	struct decision d = {.by = BASE_STR("time"), .answer = BASE_STR("expired")};
	const struct core_fetched *f;

	if (!core_timer_next(t->c, &item))
		return;
	d.gate = core_gate_find(t->c, item.id);
	d.run = core_run_find(t->c, d.gate->run);
	d.step = core_step_find(d.run, d.gate->step);
	f = core_fetched_at(t, d.gate->seq);
	if (f)
		d.shown = f->blob;
	/* Time neither signs nor stands for several, whatever the flow asked for. */
	if (base_str_is(d.gate->on_expiry, "approve") && !d.gate->terms.sign && d.gate->terms.need <= 1)
		d.answer = BASE_STR("approve");
	decide_kind(t, &d);
}

static int canonical_value(struct core_turn *t, struct decision *d)
{
	struct base_buf b;
	struct base_err err;

	if (d->value.len == 0)
		return 0;
	base_buf_init(&b, 32 << 20);
	if (base_json_canon(d->value, &b, &err) < 0) {
		base_buf_done(&b);
		core_refuse(t, 400, "invalid", "value: %s", err.text);
		return -1;
	}
	d->value = core_buf_to_arena(t->arena, &b);
	return 0;
}

void core_decide_gate(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	struct decision d = {.answer = cmd->name, .by = cmd->by.id, .reason = cmd->text, .value = cmd->body};
	const struct core_fetched *f;

	if (cmd->type == CORE_CMD_TICK) {
		expire(t);
		return;
	}
	d.gate = core_gate_find(t->c, cmd->id);
	if (!d.gate || d.gate->decided) {
		bool was = cmd->id && cmd->id < t->c->next_gate;

		core_refuse(t, was ? 409 : 404, was ? "decided" : "unknown_gate",
			was ? "gate %llu is decided already: one decision wins" : "there is no gate %llu",
			(unsigned long long)cmd->id);
		return;
	}
	if (!answer_fits(t, d.gate->kind, cmd->name))
		return;
	if (!base_hash_eq(&cmd->hash, &d.gate->shown)) {
		core_refuse(t, 409, "not_what_was_shown",
			"the answer names another content than gate %llu shows: look at it again",
			(unsigned long long)cmd->id);
		return;
	}
	if (canonical_value(t, &d) < 0 || core_gate_vote(t, d.gate, d.answer, d.value) != CORE_BALLOT_DECIDES)
		return;
	d.run = core_run_find(t->c, d.gate->run);
	d.step = core_step_find(d.run, d.gate->step);
	f = core_fetched_at(t, d.gate->seq);
	if (f)
		d.shown = f->blob;
	core_reply_json(t, 200,
		base_arena_printf(t->arena, "{\"gate\":%llu,\"answer\":\"%.*s\"}",
			(unsigned long long)cmd->id, BASE_STR_ARG(cmd->name)));
	decide_kind(t, &d);
	core_propose(t, d.gate, d.answer, d.shown);
}
