/*
 * After a person's decision at a gate that a rule opened: a rule that would have answered it, and how it would have
 * answered the gates before. It is proposed, and never applied by itself.
 *
 * How it generalises: the same action and principal; of each argument that is a number, a bound (the largest that was
 * approved, the smallest that was denied); of each short text or flag its value, if all decisions of the same kind had
 * that one, and nothing if they differed. Where that would have answered one of the other kind too, only what was decided
 * just now, member by member.
 */
#include <string.h>

#include "base/check.h"
#include "cel/cel.h"
#include "core/propose.h"

enum { TEXT_MAX = 120, MEMBERS_MAX = 24 };

struct precedent {
	struct base_json *doc;
	struct base_jv args;
	bool yes;
};

struct proposing {
	struct core_turn *t;
	const struct core_gate *gate;
	struct base_str action, as;
	bool yes;
	struct precedent past[CORE_PRECEDENTS_READ + 1]; /* [0]: what was decided just now */
	size_t count;
};

/* --- the condition --- */

static bool is_number(struct base_jv v)
{
	return base_jv_kind(v) == BASE_JSON_INT || base_jv_kind(v) == BASE_JSON_REAL;
}

static bool is_usable(struct base_jv v)
{
	return is_number(v) || base_jv_kind(v) == BASE_JSON_BOOL ||
	       (base_jv_kind(v) == BASE_JSON_STR && base_jv_str(v).len <= TEXT_MAX);
}

static bool same(struct base_jv a, struct base_jv b)
{
	if (is_number(a) && is_number(b))
		return base_jv_real(a, 0) == base_jv_real(b, 0);
	if (base_jv_kind(a) != base_jv_kind(b))
		return false;
	return base_jv_kind(a) == BASE_JSON_BOOL ? base_jv_bool(a, false) == base_jv_bool(b, false)
						 : base_str_eq(base_jv_str(a), base_jv_str(b));
}

static void put_member(struct base_buf *b, struct base_str key)
{
	bool name = key.len > 0 && !(key.ptr[0] >= '0' && key.ptr[0] <= '9');

	for (size_t i = 0; i < key.len; i++) {
		char c = key.ptr[i];

		name &= (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
			(c >= '0' && c <= '9');
	}
	if (name && key.len < 40) {
		base_buf_printf(b, "args.%.*s", BASE_STR_ARG(key));
		return;
	}
	base_buf_cstr(b, "args[");
	base_json_quote(b, key);
	base_buf_char(b, ']');
}

static void put_literal(struct base_buf *b, struct base_jv v)
{
	size_t from = b->len;

	base_jv_write(v, b);
	/* A double in CEL has a point or an exponent. */
	if (base_jv_kind(v) == BASE_JSON_REAL && !memchr(b->ptr + from, '.', b->len - from) &&
		!memchr(b->ptr + from, 'e', b->len - from))
		base_buf_cstr(b, ".0");
}

/* What all decisions of this kind have of a member; false: nothing that a rule could say. */
static bool common(const struct proposing *p, struct base_str key, struct base_jv now, struct base_jv *ret)
{
	*ret = now;
	for (size_t i = 1; i < p->count; i++) {
		struct base_jv v = base_jv_get_str(p->past[i].args, key);

		if (p->past[i].yes != p->yes)
			continue;
		if (is_number(now) && is_number(v)) {
			if (p->yes ? base_jv_real(v, 0) > base_jv_real(*ret, 0)
				   : base_jv_real(v, 0) < base_jv_real(*ret, 0))
				*ret = v;
		} else if (!same(now, v)) {
			return false;
		}
	}
	return true;
}

static struct base_str condition(const struct proposing *p, bool exact)
{
	struct base_jv_iter it = {0};
	unsigned members = 0;
	struct base_str key;
	struct base_buf b;
	struct base_jv v, of;

	base_buf_init(&b, 1 << 20);
	base_buf_cstr(&b, "principal == ");
	base_json_quote(&b, p->as);
	while (base_jv_next(p->past[0].args, &it, &key, &v) && members < MEMBERS_MAX) {
		of = v;
		if (!is_usable(v) || key.len > TEXT_MAX || (!exact && !common(p, key, v, &of)))
			continue;
		base_buf_cstr(&b, " && ");
		put_member(&b, key);
		base_buf_cstr(&b, exact || !is_number(v) ? " == " : p->yes ? " <= " : " >= ");
		put_literal(&b, of);
		members++;
	}
	return core_buf_to_arena(p->t->arena, &b);
}

/* --- how it would have answered --- */

static bool measure(
	const struct proposing *p, struct base_str when, uint32_t *ret_would, uint32_t *ret_against)
{
	static const struct cel_var vars[] = {{{"principal", 9}, CEL_STRING}, {{"args", 4}, CEL_DYN}};
	static const struct cel_env env = {.vars = vars, .count = 2};
	struct cel_program *program;
	uint32_t hits[2] = {0, 0};
	bool mine = false;

	if (cel_compile_in(when, &env, &program, NULL) < 0)
		return false;
	for (size_t i = 0; i < p->count; i++) {
		struct cel_value values[2] = {cel_string(p->as), cel_json(p->past[i].args)};
		struct cel_value r = cel_eval_in(program, values, p->t->arena, NULL);
		bool hit = r.kind == CEL_BOOL && r.as.b;

		mine |= i == 0 && hit;
		hits[p->past[i].yes == p->yes] += hit;
	}
	cel_free(program);
	*ret_would = hits[1];
	*ret_against = hits[0];
	return mine; /* one that would not have answered this gate is none */
}

/* --- what is proposed --- */

static struct base_jv rule_named(const struct core *c, struct base_str name, struct base_json **ret)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	if (c->policy.len == 0 || base_json_parse(c->policy, ret, NULL) < 0)
		return (struct base_jv){0};
	while (base_jv_next(base_jv_get(base_json_root(*ret), "rules"), &it, &none, &v))
		if (base_str_eq(base_jv_str(base_jv_get(v, "name")), name) ||
			(base_jv_kind(base_jv_get(v, "name")) == BASE_JSON_NONE &&
				base_str_eq(base_jv_str(base_jv_get(v, "on")), name)))
			return v;
	return (struct base_jv){0};
}

/* The rule that asked does not ask about these any more; all else of it stays. */
static struct base_str narrowed(struct base_arena *a, struct base_jv rule, struct base_str when)
{
	struct base_str old = base_jv_str(base_jv_get(rule, "when"));
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_buf b;
	struct base_jw w;
	struct base_jv v;

	base_buf_init(&b, 1 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	while (base_jv_next(rule, &it, &key, &v)) {
		if (base_str_is(key, "when"))
			continue;
		base_jw_key_str(&w, key);
		base_jw_value(&w, v);
	}
	base_jw_mstr(&w, "when",
		old.len ? base_arena_printf(a, "(%.*s) && !(%.*s)", BASE_STR_ARG(old), BASE_STR_ARG(when))
			: base_arena_printf(a, "!(%.*s)", BASE_STR_ARG(when)));
	base_jw_end_obj(&w);
	return core_buf_to_arena(a, &b);
}

static struct base_str new_rule(const struct proposing *p, struct base_str when)
{
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 1 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mstr(&w, "name",
		base_arena_printf(p->t->arena, "as at gate %llu", (unsigned long long)p->gate->id));
	base_jw_mstr(&w, "on", p->action);
	base_jw_mcstr(&w, "then", p->yes ? "allow" : "deny");
	base_jw_mstr(&w, "when", when);
	base_jw_end_obj(&w);
	return core_buf_to_arena(p->t->arena, &b);
}

/* JSON is YAML: a rule as a block that can be pasted below `rules:`. */
static void put_yaml(struct base_buf *b, struct base_str rule)
{
	static const char *const first[] = {"name", "on", "when", "then"};
	struct base_jv_iter it = {0};
	struct base_json *doc;
	struct base_str key;
	struct base_jv v;
	bool more = false;

	if (base_json_parse(rule, &doc, NULL) < 0)
		return;
	for (size_t i = 0; i < 4; i++) {
		v = base_jv_get(base_json_root(doc), first[i]);
		if (base_jv_kind(v) == BASE_JSON_NONE)
			continue;
		base_buf_printf(b, "%s%s: ", more ? "    " : "  - ", first[i]);
		base_jv_write(v, b);
		base_buf_char(b, '\n');
		more = true;
	}
	while (base_jv_next(base_json_root(doc), &it, &key, &v)) {
		bool done = false;

		for (size_t i = 0; i < 4; i++)
			done |= base_str_is(key, first[i]);
		if (done)
			continue;
		base_buf_printf(b, "    %.*s: ", BASE_STR_ARG(key));
		base_jv_write(v, b);
		base_buf_char(b, '\n');
	}
	base_json_free(doc);
}

static void emit(const struct proposing *p, struct base_str when, uint32_t would, uint32_t against)
{
	struct base_str rule = new_rule(p, when), instead = BASE_STR_NONE, json;
	struct base_json *doc = NULL;
	struct base_jv asked;
	struct base_buf text;

	if (p->yes) { /* deny and gate come before allow: the rule that asked has to let it pass */
		asked = rule_named(p->t->c, p->gate->rule, &doc);
		if (base_jv_kind(asked) == BASE_JSON_OBJ)
			instead = narrowed(p->t->arena, asked, when);
	}
	base_buf_init(&text, 1 << 20);
	put_yaml(&text, rule);
	if (instead.len) {
		base_buf_cstr(&text, "  # instead of the rule that asked:\n");
		put_yaml(&text, instead);
	}
	json = instead.len ? base_arena_printf(p->t->arena, "{\"add\":%.*s,\"instead\":%.*s}",
				     BASE_STR_ARG(rule), BASE_STR_ARG(instead))
			   : base_arena_printf(p->t->arena, "{\"add\":%.*s}", BASE_STR_ARG(rule));
	base_json_free(doc);
	if (base_buf_failed(&text) == 0 && text.len + json.len < CORE_INLINE_MAX)
		core_rule_proposed_emit(p->t->block, p->t->cmd->now_ms,
			&(struct core_rule_proposed){.gate = p->gate->id,
				.rule = json,
				.text = base_buf_view(&text),
				.would = would,
				.against = against});
	base_buf_done(&text);
}

/* --- reading the past --- */

/* What a gate showed: {"action","args"}. */
static void add(struct proposing *p, struct base_str shown, bool yes)
{
	struct precedent *one = &p->past[p->count];

	*one = (struct precedent){.yes = yes};
	if (base_json_parse(shown, &one->doc, NULL) < 0)
		return;
	one->args = base_jv_get(base_json_root(one->doc), "args");
	if (base_jv_kind(one->args) == BASE_JSON_OBJ)
		p->count++;
	else
		base_json_free(one->doc);
}

static bool is_measured(const struct core_gate *g)
{
	return base_str_is(g->kind, "policy");
}

static struct base_str action_of(const struct core *c, const struct core_gate *g, const struct core_run *r)
{
	const struct core_step *s = core_step_find(r, g->step);

	return s ? c->action_names[s->action] : BASE_STR_NONE;
}

size_t core_want_precedents(
	const struct core *c, const struct core_gate *g, struct core_want *ret, size_t max)
{
	const struct core_precedent *past[CORE_PRECEDENTS_READ];
	const struct core_run *r = core_run_find(c, g->run);
	size_t n;

	if (!is_measured(g) || !r)
		return 0;
	n = core_precedents_of(c, action_of(c, g, r), core_word_text(r->as), past,
		max < CORE_PRECEDENTS_READ ? max : CORE_PRECEDENTS_READ);
	for (size_t i = 0; i < n; i++)
		ret[i].seq = past[i]->seq;
	return n;
}

void core_propose(
	struct core_turn *t, const struct core_gate *g, struct base_str answer, struct base_str shown)
{
	const struct core_precedent *past[CORE_PRECEDENTS_READ];
	const struct core_run *r = core_run_find(t->c, g->run);
	struct proposing p = {.t = t, .gate = g, .yes = base_str_is(answer, "approve")};
	uint32_t would, against;
	struct base_str when;
	size_t n;

	/* A rule stands in a file, and is told to whoever may read proposals: nothing private becomes one. */
	if (!is_measured(g) || !r || shown.len == 0 || (g->labels & CORE_LABEL_PRIVATE) ||
		(!p.yes && !base_str_is(answer, "deny")))
		return;
	p.action = action_of(t->c, g, r);
	p.as = core_word_text(r->as);
	add(&p, shown, p.yes);
	if (p.count == 0)
		return;
	n = core_precedents_of(t->c, p.action, p.as, past, CORE_PRECEDENTS_READ);
	for (size_t i = 0; i < n; i++) {
		const struct core_fetched *f = core_fetched_at(t, past[i]->seq);

		if (f)
			add(&p, f->blob, past[i]->yes);
	}
	when = condition(&p, false);
	if (!measure(&p, when, &would, &against) || against > 0) {
		struct base_str exact = condition(&p, true);
		uint32_t a, b;

		if (measure(&p, exact, &a, &b)) {
			when = exact;
			would = a;
			against = b;
		} else {
			when = BASE_STR_NONE;
		}
	}
	if (when.len)
		emit(&p, when, would, against);
	for (size_t i = 0; i < p.count; i++)
		base_json_free(p.past[i].doc);
}

void core_decide_proposal(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;

	if (!base_str_is(cmd->name, "taken") && !base_str_is(cmd->name, "dropped")) {
		core_refuse(t, 422, "invalid", "a proposal is taken or dropped");
		return;
	}
	if (!core_proposal_seq(t->c, cmd->id)) {
		core_refuse(t, 404, "unknown_proposal",
			"there is no open proposal %llu: aios proposals lists them",
			(unsigned long long)cmd->id);
		return;
	}
	core_proposal_closed_emit(t->block, cmd->now_ms,
		&(struct core_proposal_closed){.gate = cmd->id, .by = cmd->by.id, .answer = cmd->name});
	core_reply_json(t, 200,
		base_arena_printf(t->arena, "{\"proposal\":%llu,\"answer\":\"%.*s\"}",
			(unsigned long long)cmd->id, BASE_STR_ARG(cmd->name)));
}
