/*
 * Who did, was allowed, approved and saw what. What an event says of that is a row of `audit`; what runs did are the rows of
 * `steps`, each with the rule that let it; the answer is both, in the order of the log.
 *
 * A row's id is its event's position times ROWS_MAX, plus its number within the event: what somebody saw comes as a list.
 */
#include <errno.h>
#include <string.h>

#include "core/core.h"
#include "views/views_int.h"

enum { ROWS_MAX = 1024 };

struct row {
	int64_t at, seq, n;
	const char *kind;
	struct base_str type, by, action, object, how, text;
	int64_t run, step, gate;
};

static void insert(struct views *v, const struct row *r)
{
	views_run(v,
		"INSERT OR REPLACE INTO audit VALUES(?1,?2,?3,?4,?5,?6,?7,"
		"coalesce(nullif(?8,0),(SELECT run FROM gates WHERE gate=?10 AND ?10>0)),"
		"CASE WHEN ?8>0 THEN ?9 END,nullif(?10,0),?11,?12)",
		"iissssniiinn", r->seq * ROWS_MAX + r->n, r->at, base_str_of(r->kind), r->type, r->by,
		r->action, r->object, r->run, r->step, r->gate, r->how, r->text);
}

/* --- from events --- */

/* Which members of an event say what; NULL: none. Those with much in them are read field by field below. */
static const struct told {
	unsigned type;
	const char *kind, *by, *object, *how, *text;
} told[] = {
	{CORE_EV_ENGINE_STARTED, "configured", NULL, "epoch", NULL, "version"},
	{CORE_EV_CONFIG_SET, "configured", "by", NULL, NULL, "hash"},
	{CORE_EV_POLICY_SET, "configured", "by", NULL, NULL, "hash"},
	{CORE_EV_PRINCIPAL_ADDED, "configured", "by", "id", "kind", "grants"},
	{CORE_EV_PRINCIPAL_REVOKED, "configured", "by", "id", NULL, "reason"},
	{CORE_EV_AGENT_DEPLOYED, "configured", "by", "agent", NULL, "version"},
	{CORE_EV_ACCESS_DENIED, "denied", "principal", "object", NULL, "reason"},
	{CORE_EV_FROZEN, "configured", "by", NULL, NULL, "reason"},
	{CORE_EV_THAWED, "configured", "by", NULL, NULL, "reason"},
	{CORE_EV_SECRET_CHANGED, "configured", "by", "name", NULL, "host"},
	{CORE_EV_KEY_ROTATED, "configured", "by", "id", NULL, NULL},
	{CORE_EV_CREDENTIAL_ADDED, "configured", "by", "id", "kind", "name"},
	{CORE_EV_CREDENTIAL_REMOVED, "configured", "by", "id", NULL, "reason"},
	{CORE_EV_CREDENTIAL_USED, "signed-in", NULL, "session", "id", NULL},
	{CORE_EV_SESSION_OPENED, "signed-in", NULL, "id", "how", "address"},
	{CORE_EV_SESSION_CLOSED, "signed-in", "by", "id", NULL, "reason"},
	{CORE_EV_SIGN_IN_FAILED, "denied", NULL, "address", "how", "count"},
	{CORE_EV_GUARD_SET, "configured", "by", "rule", NULL, "reason"},
	{CORE_EV_RUN_PARKED, "did", NULL, "run", NULL, "why"},
	{CORE_EV_RUN_PAUSED, "did", "by", "run", NULL, "reason"},
	{CORE_EV_RUN_RESUMED, "did", "by", "run", NULL, NULL},
	{CORE_EV_RUN_MOVED, "did", "by", "run", NULL, "version"},
	{CORE_EV_GATE_DECIDED, "approved", "by", "gate", "how", "answer"},
	{CORE_EV_GATE_VOTED, "approved", "by", "gate", "how", "answer"},
	{CORE_EV_GATE_DELEGATED, "did", "by", "gate", "to", "reason"},
	{CORE_EV_GATE_ESCALATED, "did", NULL, "gate", NULL, "to"},
	{CORE_EV_PROPOSAL_CLOSED, "did", "by", "gate", NULL, "answer"},
	{CORE_EV_SIGNAL_SENT, "did", "by", "name", NULL, NULL},
	{CORE_EV_SCHEDULE_PAUSED, "did", "by", "name", NULL, "paused"},
	{CORE_EV_LOG_ARCHIVED, "did", NULL, "file", NULL, "last_seq"},
	{CORE_EV_CHECKPOINT_SIGNED, "did", NULL, "of_seq", NULL, "root"},
	{CORE_EV_CHECKPOINT_SENT, "did", NULL, "of_seq", "where", "problem"},
	{CORE_EV_VAULT_STATE, "configured", "by", NULL, NULL, "why"},
	{CORE_EV_CANARY_MET, "denied", NULL, "name", NULL, "where"},
};

/* A member as text, whatever it is; what is long is left out. */
static struct base_str member(struct base_jv root, const char *name, struct base_buf *b)
{
	struct base_jv v = name ? base_jv_get(root, name) : (struct base_jv){NULL};

	base_buf_clear(b);
	if (base_jv_kind(v) == BASE_JSON_STR)
		base_buf_str(b, base_jv_str(v));
	else if (base_jv_kind(v) != BASE_JSON_NONE && base_jv_kind(v) != BASE_JSON_NULL)
		base_jv_write(v, b);
	return b->len <= VIEWS_PREVIEW ? base_buf_view(b) : BASE_STR_NONE;
}

/* A decision with its reason: "deny: too dear". */
static struct base_str answer(struct base_jv root, struct base_buf *b)
{
	struct base_str reason = base_jv_str(base_jv_get(root, "reason"));

	base_buf_clear(b);
	base_buf_str(b, base_jv_str(base_jv_get(root, "answer")));
	if (reason.len && reason.len <= VIEWS_PREVIEW)
		base_buf_printf(b, ": %.*s", BASE_STR_ARG(reason));
	return base_buf_view(b);
}

static void from_told(struct views *v, struct row *r, const struct told *t, struct base_str body)
{
	struct base_buf json, b[5];
	struct base_json *doc = NULL;
	struct base_jv root;

	base_buf_init(&json, 64 << 20);
	for (size_t i = 0; i < 5; i++)
		base_buf_init(&b[i], 1 << 20);
	base_buf_char(&json, '{');
	if (core_event_json(t->type, body, &json) < 0)
		json.len = 1;
	if (json.len > 1 && json.ptr[json.len - 1] == ',')
		json.len--;
	base_buf_char(&json, '}');
	if (base_json_parse(base_buf_view(&json), &doc, NULL) == 0) {
		root = base_json_root(doc);
		r->kind = t->kind;
		r->by = member(root, t->by, &b[0]);
		r->object = member(root, t->object, &b[1]);
		r->how = member(root, t->how, &b[2]);
		r->text = t->kind[0] == 'a' ? answer(root, &b[3]) : member(root, t->text, &b[3]);
		if (t->type == CORE_EV_ACCESS_DENIED)
			r->action = member(root, "action", &b[4]);
		if (t->kind[0] == 'a' && base_str_is(base_jv_str(base_jv_get(root, "answer")), "deny"))
			r->kind = "denied";
		if (t->kind[0] == 's' && !r->by.len)
			r->by = BASE_STR("operator");
		r->run = base_jv_int(base_jv_get(root, "run"), 0);
		r->gate = base_jv_int(base_jv_get(root, "gate"), 0);
		insert(v, r);
		base_json_free(doc);
	}
	for (size_t i = 0; i < 5; i++)
		base_buf_done(&b[i]);
	base_buf_done(&json);
}

static void seen(struct views *v, struct row *r, const struct core_objects_seen *e)
{
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_buf b;
	struct base_jv x;

	if (base_json_parse(e->seen, &doc, NULL) < 0)
		return;
	base_buf_init(&b, 128);
	r->kind = "saw";
	r->by = e->by;
	r->how = e->how;
	for (r->n = 0; r->n < ROWS_MAX && base_jv_next(base_json_root(doc), &it, &none, &x); r->n++) {
		int64_t n = base_jv_int(base_jv_get(x, "n"), 1);

		base_buf_clear(&b);
		if (n > 1)
			base_buf_printf(&b, "%lld times", (long long)n);
		r->action = base_jv_str(base_jv_get(x, "op"));
		r->object = base_jv_str(base_jv_get(x, "object"));
		r->text = base_buf_view(&b);
		r->run = base_jv_int(base_jv_get(x, "run"), 0);
		r->gate = base_jv_int(base_jv_get(x, "gate"), 0);
		insert(v, r);
	}
	base_buf_done(&b);
	base_json_free(doc);
}

/* Those whose bodies may be large or many. What a run itself did of them is a step of it. */
static bool by_field(struct row *r, unsigned type, const union core_event_any *e)
{
	r->kind = "did";
	switch (type) {
	case CORE_EV_FLOW_DEPLOYED:
		r->kind = "configured";
		r->by = e->flow_deployed.by;
		r->object = e->flow_deployed.flow;
		return true;
	case CORE_EV_RUN_STARTED:
		r->by = e->run_started.by;
		r->object = e->run_started.flow;
		r->how = e->run_started.trigger;
		r->run = (int64_t)e->run_started.run;
		return e->run_started.parent == 0;
	case CORE_EV_RUN_ENDED:
		r->by = e->run_ended.by;
		r->run = (int64_t)e->run_ended.run;
		r->text = BASE_STR("cancelled");
		return e->run_ended.outcome == CORE_CANCELLED;
	case CORE_EV_ROLLBACK_STARTED:
		r->by = e->rollback_started.by;
		r->object = e->rollback_started.name;
		r->run = (int64_t)e->rollback_started.run;
		r->text = e->rollback_started.reason;
		return e->rollback_started.then > 0;
	case CORE_EV_EVENT_PUBLISHED:
		r->by = e->event_published.by;
		r->object = e->event_published.topic;
		return e->event_published.run == 0;
	case CORE_EV_FACT_PUT:
		r->by = e->fact_put.by;
		r->object = e->fact_put.key;
		r->text = e->fact_put.removed ? BASE_STR("removed") : BASE_STR_NONE;
		return e->fact_put.run == 0;
	case CORE_EV_DOCUMENT_PUT:
		r->by = e->document_put.by;
		r->object = e->document_put.id;
		return e->document_put.run == 0;
	case CORE_EV_OUTCOME_RECORDED:
		r->by = e->outcome_recorded.by;
		r->object = e->outcome_recorded.name;
		return e->outcome_recorded.run == 0;
	default:
		return false;
	}
}

void views_audit(struct views *v, int64_t seq, int64_t time_ms, unsigned type, const union core_event_any *e,
	struct base_str body)
{
	struct row r = {.at = time_ms, .seq = seq, .type = base_str_of(core_event_name(type))};

	if (type == CORE_EV_OBJECTS_SEEN) {
		seen(v, &r, &e->objects_seen);
		return;
	}
	if (by_field(&r, type, e)) {
		insert(v, &r);
		return;
	}
	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++)
		if (told[i].type == type) {
			r.n = 0;
			from_told(v, &r, &told[i], body);
			return;
		}
}

/* --- the answer --- */

/* A pattern of actions: "mail.*" or a whole name. */
#define ACTION_FITS(column)                                                                                  \
	"(" column " = ?5 OR (substr(?5,-2) = '.*' AND substr(" column ",1,length(?5)-1) = "                 \
	"substr(?5,1,length(?5)-1)))"

static const char from_events[] =
	"SELECT a.id AS id, a.id / 1024 AS seq, a.at AS at, a.kind AS kind, a.type AS type, a.by_ AS \"by\","
	" nullif(a.action,'') AS action, a.object AS object, a.run AS run, a.step AS step, a.gate AS gate,"
	" g.rule AS rule, NULL AS policy, nullif(coalesce(r.customer,''),'') AS customer, NULL AS cost,"
	" a.how AS how, NULL AS approved_by, a.text AS text"
	" FROM audit a LEFT JOIN gates g ON g.gate = a.gate LEFT JOIN runs r ON r.run = a.run"
	" WHERE a.id < ?1 AND a.at >= ?2 AND a.at < ?3";

/* What was not allowed has its reason from `denied`; the others the rule that let them, and who approved. */
static const char from_steps[] =
	" UNION ALL SELECT s.seq * 1024, s.seq, s.called_ms,"
	" CASE WHEN d.seq IS NOT NULL THEN 'denied' WHEN s.status IN ('gated','held','cancelled') THEN "
	"'asked'"
	"  ELSE 'did' END,"
	" 'step.called', r.as_, s.action, nullif(s.key,''), s.run, s.step, coalesce(s.gate, s.approval),"
	" s.rule, s.policy, nullif(coalesce(nullif(s.customer,''), r.customer),''), s.cost, s.status, g.by_,"
	" coalesce(d.reason, g.reason)"
	" FROM steps s JOIN runs r ON r.run = s.run LEFT JOIN denied d ON d.seq = s.seq"
	" LEFT JOIN gates g ON g.gate = coalesce(s.gate, s.approval)"
	" WHERE s.seq * 1024 < ?1 AND s.called_ms >= ?2 AND s.called_ms < ?3 AND s.taken IS NULL";

/* Which kinds of rows there are among the steps: all but what only events tell. */
static bool steps_fit(struct base_str kind)
{
	return !kind.len || base_str_is(kind, "did") || base_str_is(kind, "allowed") ||
	       base_str_is(kind, "denied") || base_str_is(kind, "asked");
}

static void put_sql(struct base_buf *b, const struct views_ask *a, bool run, bool gate)
{
	struct base_str kind = views_param(a, "kind");
	bool who = views_param(a, "who").len > 0, action = views_param(a, "action").len > 0,
	     object = views_param(a, "object").len > 0, customer = views_param(a, "customer").len > 0,
	     type = views_param(a, "type").len > 0;

	base_buf_cstr(b, from_events);
	base_buf_cstr(b, who ? " AND a.by_ = ?4" : "");
	base_buf_cstr(b, action ? " AND (" ACTION_FITS("a.action") " OR " ACTION_FITS("a.type") ")" : "");
	base_buf_cstr(b, object ? " AND a.object = ?6" : "");
	base_buf_cstr(b, run ? " AND a.run = ?7" : "");
	base_buf_cstr(b, gate ? " AND a.gate = ?8" : "");
	base_buf_cstr(b, customer ? " AND r.customer = ?9" : "");
	base_buf_cstr(b, kind.len ? " AND a.kind = ?10" : "");
	base_buf_cstr(b, type ? " AND a.type = ?11" : "");
	if (steps_fit(kind) && (!type || base_str_is(views_param(a, "type"), "step.called"))) {
		base_buf_cstr(b, from_steps);
		base_buf_cstr(b, who ? " AND (r.as_ = ?4 OR r.by_ = ?4 OR g.by_ = ?4)" : "");
		base_buf_cstr(b, action ? " AND " ACTION_FITS("s.action") : "");
		base_buf_cstr(b, object ? " AND s.key = ?6" : "");
		base_buf_cstr(b, run ? " AND s.run = ?7" : "");
		base_buf_cstr(b, gate ? " AND (s.gate = ?8 OR s.approval = ?8)" : "");
		base_buf_cstr(b, customer ? " AND coalesce(nullif(s.customer,''), r.customer) = ?9" : "");
		if (base_str_is(kind, "denied"))
			base_buf_cstr(b, " AND d.seq IS NOT NULL");
		else if (base_str_is(kind, "asked"))
			base_buf_cstr(b, " AND d.seq IS NULL AND s.status IN ('gated','held','cancelled')");
		else if (kind.len)
			base_buf_cstr(
				b, " AND d.seq IS NULL AND s.status NOT IN ('gated','held','cancelled')");
	}
	base_buf_cstr(b, " ORDER BY 1 DESC LIMIT ?12");
}

int views_ask_audit(struct views_ask *a)
{
	int64_t before, since, until, run, gate, limit = 0, last = 0;
	sqlite3_stmt *st = NULL;
	struct base_buf sql;
	int r = views_param_int(a, "before", INT64_MAX - ROWS_MAX, &before);

	r = r < 0 ? r : views_param_int(a, "since", 0, &since);
	r = r < 0 ? r : views_param_int(a, "until", INT64_MAX, &until);
	r = r < 0 ? r : views_param_int(a, "run", 0, &run);
	r = r < 0 ? r : views_param_int(a, "gate", 0, &gate);
	r = r < 0 ? r : views_param_limit(a, 100, 1000, &limit);
	if (r < 0)
		return r;
	if (before > INT64_MAX - ROWS_MAX)
		before = INT64_MAX - ROWS_MAX;
	base_buf_init(&sql, 16384);
	put_sql(&sql, a, run > 0, gate > 0);
	a->v->rc = sqlite3_prepare_v2(a->v->db, sql.ptr, (int)sql.len, &st, NULL);
	base_buf_done(&sql);
	if (a->v->rc != SQLITE_OK)
		return views_error(a->v, a->v->rc, a->err);
	views_bind(st, "iiisssiisssi", before, since, until, views_param(a, "who"), views_param(a, "action"),
		views_param(a, "object"), run, gate, views_param(a, "customer"), views_param(a, "kind"),
		views_param(a, "type"), limit + 1);
	base_jw_obj(&a->w);
	r = views_rows(a, "items", st, limit, &last);
	if (r == 0)
		views_next(a, last);
	base_jw_end_obj(&a->w);
	sqlite3_finalize(st);
	return r;
}
