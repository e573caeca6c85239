/*
 * Votes at gates: who may answer, and whether one answer is enough.
 *
 * Invariants (core_check walks G4 to G6)
 *  G3  A gate is decided once: every decision looks at the state that the one before it left.
 *  G4  A voter stands once in a gate's votes: the last answer counts.
 *  G5  Who set the run or one of its ancestors going has no vote in its gates, but for the operator.
 *  G6  Whoever has a vote is among those who may decide. A key that is revoked or made anew loses its votes.
 */
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

/* --- who may --- */

static bool is_no(struct base_str answer)
{
	return base_str_is(answer, "deny") || base_str_is(answer, "give_up") ||
	       base_str_is(answer, "cancel") || base_str_is(answer, "skip");
}

static struct base_str grant_of(struct base_str answer)
{
	if (base_str_is(answer, "approve") || base_str_is(answer, "edit"))
		return BASE_STR("api.gate_approve");
	return base_str_is(answer, "deny") ? BASE_STR("api.gate_deny") : BASE_STR("api.gate_settle");
}

bool core_gate_may(const struct core *c, const struct core_gate *g, const struct core_caller *by,
	struct base_str answer, int64_t now_ms, const char **ret_why)
{
	if (core_gate_is_operators(g) && !base_str_is(by->id, "operator")) {
		*ret_why = "may not decide this gate: only the operator does";
		return false;
	}
	if (!core_gate_names(g, by->id)) {
		*ret_why = "is not among those who may decide this gate";
		return false;
	}
	if (base_str_is(by->id, "operator"))
		return true;
	if (core_run_asked_by(c, core_run_find(c, g->run), by->id)) {
		*ret_why = "started this run: somebody else must decide its gates";
		return false;
	}
	/* Revoked, expired and narrowed keys too: the state is looked at now. */
	if (!core_may(c, by, grant_of(answer), now_ms)) {
		*ret_why = "may not decide gates: its key is not granted that, or not any more";
		return false;
	}
	return true;
}

/* --- counting --- */

/* Only what a rule or a flow asked about is decided by several. */
static bool is_voted_on(const struct core_gate *g)
{
	static const char *const kinds[] = {"approve", "policy", "budget", "retry", "shed", "guard"};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (base_str_is(g->kind, kinds[i]))
			return true;
	return false;
}

static uint32_t needed(const struct core_gate *g, struct base_str answer)
{
	if (!is_voted_on(g))
		return 1;
	return is_no(answer) ? g->terms.denials : g->terms.need;
}

static const struct core_vote *vote_of(const struct core_gate *g, struct base_str who)
{
	for (const struct core_vote *v = g->votes; v; v = v->next)
		if (base_str_eq(v->by, who))
			return v;
	return NULL;
}

/* The others who gave this answer and still may. */
static uint32_t count(const struct core *c, const struct core_gate *g, struct base_str answer,
	struct base_str but, int64_t now_ms)
{
	const char *why;
	uint32_t n = 0;

	for (const struct core_vote *v = g->votes; v; v = v->next) {
		struct core_caller by = {.id = v->by};

		n += !base_str_eq(v->by, but) && base_str_eq(v->answer, answer) &&
		     core_gate_may(c, g, &by, answer, now_ms, &why);
	}
	return n;
}

static bool is_signed(struct core_turn *t, const struct core_gate *g)
{
	/* The operator's own shell stands for a signature; nothing else does. */
	if (!g->terms.sign || t->cmd->bytes.len > 0 ||
		(base_str_is(t->cmd->by.id, "operator") && base_str_is(t->cmd->key, "shell")))
		return true;
	core_refuse(t, 403, "signature",
		"gate %llu is decided with a signature: by a passkey in the console, or in the operator's "
		"shell "
		"(aios approve %llu)",
		(unsigned long long)g->id, (unsigned long long)g->id);
	return false;
}

static void emit_vote(struct core_turn *t, const struct core_gate *g, struct base_str answer)
{
	core_gate_voted_emit(t->block, t->cmd->now_ms,
		&(struct core_gate_voted){.gate = g->id,
			.by = t->cmd->by.id,
			.answer = answer,
			.reason = t->cmd->text,
			.shown = g->shown,
			.value = base_blob_of(BASE_STR_NONE),
			.how = t->cmd->key,
			.proof = t->cmd->bytes});
}

enum core_ballot core_gate_vote(
	struct core_turn *t, struct core_gate *g, struct base_str answer, struct base_str value)
{
	const struct core_caller *by = &t->cmd->by;
	uint32_t need = needed(g, answer), have;
	const struct core_vote *before = vote_of(g, by->id);
	const char *why;

	(void)value;
	if (!core_gate_may(t->c, g, by, answer, t->cmd->now_ms, &why)) {
		core_refuse(t, 403, "denied", "%.*s %s", BASE_STR_ARG(by->id), why);
		return CORE_BALLOT_REFUSED;
	}
	if (!is_no(answer) && !is_signed(t, g))
		return CORE_BALLOT_REFUSED;
	if (need <= 1)
		return CORE_BALLOT_DECIDES;
	if (base_str_is(answer, "edit")) {
		core_refuse(t, 422, "not_editable",
			"%u must approve gate %llu, all of them the same: it is approved or denied, not "
			"edited",
			need, (unsigned long long)g->id);
		return CORE_BALLOT_REFUSED;
	}
	have = count(t->c, g, answer, by->id, t->cmd->now_ms) + 1;
	if (have >= need)
		return CORE_BALLOT_DECIDES;
	if (before && base_str_eq(before->answer, answer)) {
		core_refuse(t, 409, "voted", "%.*s has voted at gate %llu already: a voter counts once",
			BASE_STR_ARG(by->id), (unsigned long long)g->id);
		return CORE_BALLOT_REFUSED;
	}
	emit_vote(t, g, answer);
	core_reply_json(t, 202,
		base_arena_printf(t->arena,
			"{\"gate\":%llu,\"voted\":\"%.*s\",\"have\":%u,\"need\":%u,\"state\":\"open\"}",
			(unsigned long long)g->id, BASE_STR_ARG(answer), have, need));
	return CORE_BALLOT_VOTED;
}

/* --- delegation --- */

static bool may_be_asked(struct core_turn *t, const struct core_gate *g, struct base_str to)
{
	const struct core_principal *p = base_names_get(t->c->principals, to);
	struct core_caller who = {.id = to};

	if (base_str_is(to, "operator"))
		return true;
	if (!p || !p->has_key) {
		core_refuse(t, 404, "unknown_key", "there is no key %.*s: aios keys lists them",
			BASE_STR_ARG(to));
		return false;
	}
	if (!core_may(t->c, &who, BASE_STR("api.gate_approve"), t->cmd->now_ms)) {
		core_refuse(t, 422, "denied", "%.*s may not decide gates: its key needs api.gate_approve",
			BASE_STR_ARG(to));
		return false;
	}
	if (core_run_asked_by(t->c, core_run_find(t->c, g->run), to)) {
		core_refuse(t, 422, "denied", "%.*s started this run: somebody else must decide its gates",
			BASE_STR_ARG(to));
		return false;
	}
	return true;
}

/* The operator asks somebody else too; anybody else hands over what is theirs, and has no vote any more. */
void core_decide_delegate(struct core_turn *t)
{
	const struct core_cmd *cmd = t->cmd;
	struct core_gate *g = core_gate_find(t->c, cmd->id);
	const char *why;

	if (!g || g->decided) {
		bool was = cmd->id && cmd->id < t->c->next_gate;

		core_refuse(t, was ? 409 : 404, was ? "decided" : "unknown_gate",
			was ? "gate %llu is decided already" : "there is no gate %llu",
			(unsigned long long)cmd->id);
		return;
	}
	if (!core_gate_may(t->c, g, &cmd->by, BASE_STR("approve"), cmd->now_ms, &why)) {
		core_refuse(t, 403, "denied", "%.*s %s", BASE_STR_ARG(cmd->by.id), why);
		return;
	}
	if (!may_be_asked(t, g, cmd->name))
		return;
	if (core_gate_names(g, cmd->name)) {
		core_refuse(t, 409, "asked", "%.*s may decide gate %llu already", BASE_STR_ARG(cmd->name),
			(unsigned long long)g->id);
		return;
	}
	core_gate_delegated_emit(t->block, cmd->now_ms,
		&(struct core_gate_delegated){
			.gate = g->id, .by = cmd->by.id, .to = cmd->name, .reason = cmd->text});
	core_reply_json(t, 200,
		base_arena_printf(t->arena, "{\"gate\":%llu,\"to\":\"%.*s\"}", (unsigned long long)g->id,
			BASE_STR_ARG(cmd->name)));
}

/* --- apply --- */

static void set_vote(
	struct core *c, struct core_gate *g, struct base_str by, struct base_str answer, int64_t at_ms)
{
	struct core_vote **at = &g->votes;

	while (*at && !base_str_eq((*at)->by, by))
		at = &(*at)->next;
	if (!*at) {
		*at = base_slab_alloc(c->slab, sizeof(**at));
		(*at)->by = base_slab_dup(c->slab, by);
	}
	core_set_str(c, &(*at)->answer, answer);
	(*at)->at_ms = at_ms;
}

static void drop_vote(struct core *c, struct core_gate *g, struct base_str by)
{
	struct core_vote **at = &g->votes, *v;

	while (*at && !base_str_eq((*at)->by, by))
		at = &(*at)->next;
	v = *at;
	if (!v)
		return;
	*at = v->next;
	base_slab_str_release(c->slab, v->by);
	base_slab_str_release(c->slab, v->answer);
	base_slab_release(c->slab, v, sizeof(*v));
}

static void set_asked(struct core *c, struct core_gate *g, struct base_str who, struct base_str by, bool gone)
{
	struct core_asked **at = &g->asked;

	while (*at && !base_str_eq((*at)->who, who))
		at = &(*at)->next;
	if (!*at) {
		*at = base_slab_alloc(c->slab, sizeof(**at));
		(*at)->who = base_slab_dup(c->slab, who);
	}
	core_set_str(c, &(*at)->by, by);
	(*at)->gone = gone;
}

void core_apply_voting(struct core_apply *a, unsigned type, const union core_event_any *e)
{
	struct core *c = a->c;
	struct core_gate *g;

	if (type == CORE_EV_GATE_VOTED) {
		g = core_gate_find(c, e->gate_voted.gate);
		BASE_CHECK(g && !g->decided);
		set_vote(c, g, e->gate_voted.by, e->gate_voted.answer, a->time_ms);
	} else if (type == CORE_EV_GATE_DELEGATED) {
		g = core_gate_find(c, e->gate_delegated.gate);
		BASE_CHECK(g && !g->decided);
		set_asked(c, g, e->gate_delegated.to, e->gate_delegated.by, false);
		if (!base_str_is(e->gate_delegated.by, "operator")) {
			set_asked(c, g, e->gate_delegated.by, e->gate_delegated.by, true);
			drop_vote(c, g, e->gate_delegated.by);
		}
		core_gate_tell(a, g, "delegated");
	} else {
		g = core_gate_find(c, e->gate_escalated.gate);
		BASE_CHECK(g && !g->decided && g->escalated < g->terms.stage_count);
		g->escalated++;
		core_gate_tell(a, g, "escalated");
	}
}

void core_votes_forget(struct core *c, struct base_str who)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (base_idmap_next(c->gates, &cursor, &id, &value))
		if (!((struct core_gate *)value)->decided)
			drop_vote(c, value, who);
}

void core_gate_forget_people(struct core *c, struct core_gate *g)
{
	while (g->votes)
		drop_vote(c, g, g->votes->by);
	while (g->asked) {
		struct core_asked *a = g->asked;

		g->asked = a->next;
		base_slab_str_release(c->slab, a->who);
		base_slab_str_release(c->slab, a->by);
		base_slab_release(c->slab, a, sizeof(*a));
	}
	while (g->told) {
		struct core_told *t = g->told;

		g->told = t->next;
		base_slab_str_release(c->slab, t->channel);
		base_slab_str_release(c->slab, t->why);
		base_slab_str_release(c->slab, t->problem);
		base_slab_release(c->slab, t, sizeof(*t));
	}
	core_terms_free(c, &g->terms);
}

/* --- check --- */

void core_gate_check(const struct core *c, const struct core_gate *g)
{
	const struct core_run *r = core_run_find(c, g->run);

	for (const struct core_vote *v = g->votes; v; v = v->next) {
		const struct core_vote *same = v->next;

		while (same && !base_str_eq(same->by, v->by))
			same = same->next;
		BASE_CHECK(!same); /* G4 */
		BASE_CHECK(g->decided || base_str_is(v->by, "operator") ||
			   !core_run_asked_by(c, r, v->by));	     /* G5 */
		BASE_CHECK(g->decided || core_gate_names(g, v->by)); /* G6 */
	}
	BASE_CHECK(g->escalated <= g->terms.stage_count);
}
