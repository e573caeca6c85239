/* One event after the other into the tables. What a row says follows from the events before it alone. */
#include <errno.h>
#include <string.h>

#include "core/core.h"
#include "views/views_int.h"

/* Where an event stands. */
struct at {
	struct views *v;
	int64_t seq;
	int64_t time_ms;
};

static const char *status_name(unsigned status)
{
	switch (status) {
	case CORE_STEP_WAITING:
		return "waiting";
	case CORE_STEP_GATED:
		return "gated";
	case CORE_STEP_HELD:
		return "held";
	case CORE_STEP_SENT:
		return "sent";
	case CORE_STEP_DOUBT:
		return "doubt";
	case CORE_STEP_DONE:
		return "done";
	case CORE_STEP_FAILED:
		return "failed";
	default:
		return "unknown";
	}
}

static const char *class_name(unsigned klass)
{
	switch (klass) {
	case CORE_INTERNAL:
		return "internal";
	case CORE_READ:
		return "read";
	case CORE_IDEMPOTENT:
		return "idempotent";
	case CORE_LOOKUP:
		return "lookup";
	case CORE_ONCE:
		return "once";
	default:
		return "unknown";
	}
}

static const char *outcome_name(unsigned outcome)
{
	switch (outcome) {
	case CORE_DONE:
		return "done";
	case CORE_FAILED:
		return "failed";
	case CORE_CANCELLED:
		return "cancelled";
	default:
		return "unknown";
	}
}

/* What a row carries of a text: all of it or nothing, since half of a JSON text is none. */
static struct base_str preview(struct base_str s)
{
	return s.len <= VIEWS_PREVIEW ? s : BASE_STR_NONE;
}

static struct base_str preview_blob(const struct base_blob *b)
{
	return base_blob_is_inline(b) ? preview(b->data) : BASE_STR_NONE;
}

/* The answer of a dry run says what would have been sent, and is there for nothing but to be looked at: whole,
 * if it is in the event. */
static struct base_str preview_called(const struct base_blob *b)
{
	static const struct base_str dry = {"{\"dry\":true,", 12};

	return base_blob_is_inline(b) && base_str_starts(b->data, dry) ? b->data : preview_blob(b);
}

/* --- the company --- */

static void flow_deployed(const struct at *at, const struct core_flow_deployed *e)
{
	views_run(at->v, "INSERT INTO flows VALUES(?1,?2,?3,?4,?5,?6,?7)", "shisnni", e->flow, &e->version,
		at->time_ms, e->by, e->spec, e->grants, at->seq);
}

static void access_denied(const struct at *at, const struct core_access_denied *e)
{
	views_run(at->v, "INSERT INTO denied VALUES(?1,?2,?3,?4,?5,?6,0,NULL)", "iissss", at->seq,
		at->time_ms, e->principal, e->action, e->object, e->reason);
}

/* --- runs --- */

/* The key as it was given: without who started what in front. A schedule's or an event's has nothing in front. */
static struct base_str own_key(const struct core_run_started *e)
{
	size_t skip = e->by.len + e->flow.len + 2 + (e->flags & 1 ? strlen("dry:") : 0);
	bool scoped = e->key.len > skip && base_str_starts(e->key, e->by) && e->key.ptr[e->by.len] == ':';
	struct base_str own = scoped ? base_str_sub(e->key, skip, e->key.len) : e->key;

	if (own.len > e->by.len && base_str_starts(own, e->by) && own.ptr[e->by.len] == ' ') /* by the API */
		own = base_str_sub(own, e->by.len + 1, own.len);
	return own;
}

static void run_started(const struct at *at, const struct core_run_started *e)
{
	views_run(at->v,
		"INSERT OR REPLACE INTO "
		"runs(run,flow,version,state,parent,parent_step,as_,by_,key,customer,agent,flags,"
		" input,context,started_ms,seq,start_key,forked_from,forked_steps,begin_ms,deadline_ms,"
		"previous,generation,labels,trigger,origin,payer) "
		"VALUES(?1,?2,?3,CASE WHEN ?21 THEN 'queued' ELSE 'active' "
		"END,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,nullif(?17,0),"
		" nullif(?18,0),nullif(?19,0),nullif(?20,0),nullif(?22,0),?23,?24,nullif(?25,''),?26,"
		/* What agents and undos do belongs to the flow that they work for. */
		" CASE WHEN ?2 LIKE 'aios:%' THEN coalesce((SELECT p.payer FROM runs p WHERE p.run = ?4), "
		"?2) ELSE ?2 END)",
		"ishiisssssinniisiiiiiiiiss", (int64_t)e->run, e->flow, &e->version, (int64_t)e->parent,
		(int64_t)e->parent_step, e->as, e->by, e->key, e->customer, e->agent, (int64_t)e->flags,
		preview_blob(&e->input), preview(e->context), at->time_ms, at->seq, own_key(e),
		(int64_t)e->forked_from, (int64_t)e->forked_steps, e->begin_ms, e->deadline_ms,
		(int64_t)e->queued, (int64_t)e->previous, (int64_t)e->generation, (int64_t)e->labels,
		e->trigger, e->origin);
}

static void run_ended(const struct at *at, const struct core_run_ended *e)
{
	const char *state = outcome_name(e->outcome);
	bool stop = e->outcome == CORE_CANCELLED || e->stop;
	/* Who asks for the result of a run that has ended is answered from here: whole, if it is in the
	 * event. */
	struct base_str value = base_blob_is_inline(&e->value) ? e->value.data : BASE_STR_NONE;

	views_run(at->v,
		"UPDATE runs SET state=?2, ended_ms=?3, value=?4, ended_by=?5, seq_ended=?6, "
		"next_run=nullif(?7,0)"
		" WHERE run=?1",
		"isinsii", (int64_t)e->run, base_str_of(state), at->time_ms, value, e->by, at->seq,
		(int64_t)e->next);
	/* What nobody waits for any more, as the core drops it. */
	views_run(at->v,
		"UPDATE steps SET status='cancelled', ended_ms=?2, seq_ended=?3 WHERE run=?1 AND "
		"(status='waiting'"
		" OR (?4 AND status IN ('gated','held')))",
		"iiii", (int64_t)e->run, at->time_ms, at->seq, (int64_t)stop);
	views_run(at->v,
		"UPDATE gates SET state='closed' WHERE run=?1 AND state='open' AND (kind IN "
		"('approve','parked','undo')"
		" OR (?2 AND kind IN ('policy','budget','retry')))",
		"ii", (int64_t)e->run, (int64_t)stop);
}

static void run_parked(const struct at *at, const struct core_run_parked *e)
{
	views_run(at->v, "UPDATE runs SET state='parked', why=?2, detail=?3 WHERE run=?1", "isn",
		(int64_t)e->run, e->why, preview(e->detail));
}

static void run_paused(const struct at *at, const struct core_run_paused *e)
{
	views_run(at->v, "UPDATE runs SET state='paused', why=?2 WHERE run=?1", "is", (int64_t)e->run,
		e->reason);
}

static void run_resumed(const struct at *at, const struct core_run_resumed *e)
{
	views_run(at->v, "UPDATE runs SET state='active', why=NULL, detail=NULL WHERE run=?1", "i",
		(int64_t)e->run);
	views_run(at->v,
		"UPDATE gates SET state='closed' WHERE run=?1 AND state='open' AND kind IN "
		"('parked','undo')",
		"i", (int64_t)e->run);
}

/* Its retention is over: what is shown of it goes. Figures (charges, outcomes), memory and the log keep what they have. */
static void run_forgotten(const struct at *at, const struct core_run_forgotten *e)
{
	static const char *const gone[] = {"DELETE FROM steps WHERE run=?1", "DELETE FROM gates WHERE run=?1",
		"DELETE FROM signals WHERE run=?1", "DELETE FROM logs WHERE run=?1",
		"DELETE FROM runs WHERE run=?1"};

	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
		views_run(at->v, gone[i], "i", (int64_t)e->run);
}

/* It goes on with another version; a parked one is resumed in the same decision. */
static void run_moved(const struct at *at, const struct core_run_moved *e)
{
	char hex[65];

	views_run(at->v, "UPDATE runs SET version=?2 WHERE run=?1", "ih", (int64_t)e->run, &e->version);
	base_hash_hex(&e->version, hex);
}

/* --- rollbacks --- */

static void rollback_started(const struct at *at, const struct core_rollback_started *e)
{
	views_run(at->v, "INSERT OR REPLACE INTO rollbacks VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)",
		"iiiisissii", (int64_t)e->undo, (int64_t)e->run, (int64_t)e->step, (int64_t)e->to, e->name,
		(int64_t)e->then, e->by, e->reason, at->time_ms, at->seq);
	if (e->then) {
		views_run(at->v, "UPDATE runs SET state='undoing', why=NULL, detail=NULL WHERE run=?1", "i",
			(int64_t)e->run);
		views_run(at->v,
			"UPDATE steps SET status='cancelled', ended_ms=?2, seq_ended=?3 WHERE run=?1"
			" AND status='waiting'",
			"iii", (int64_t)e->run, at->time_ms, at->seq);
		views_run(at->v,
			"UPDATE gates SET state='closed' WHERE run=?1 AND state='open'"
			" AND kind IN ('approve','parked','policy','budget')",
			"i", (int64_t)e->run);
	}
	views_run(at->v,
		"UPDATE gates SET state='closed' WHERE run=?1 AND state='open' AND EXISTS (SELECT 1 FROM "
		"steps s"
		" WHERE s.run=gates.run AND s.step=gates.step AND s.status IN ('done','failed'))",
		"i", (int64_t)e->run);
}

static const char *undone_name(unsigned outcome)
{
	return outcome == CORE_DONE ? "undone" : outcome == CORE_FAILED ? "failed" : "given up";
}

static void step_undone(const struct at *at, const struct core_step_undone *e)
{
	views_run(at->v, "INSERT OR REPLACE INTO undone VALUES(?1,?2,?3,?4,?5,?6,?7)", "iiiiiis", at->seq,
		at->time_ms, (int64_t)e->of_run, (int64_t)e->of_step, (int64_t)e->undo, (int64_t)e->undo_step,
		base_str_of(undone_name(e->outcome)));
}

/* --- steps --- */

/* A step that failed at its call because it is not allowed. */
static void note_denied(const struct at *at, const struct core_step_called *e)
{
	struct base_json *doc;
	struct base_jv problem;

	if (e->status != CORE_STEP_FAILED || !base_blob_is_inline(&e->result) ||
		base_json_parse(e->result.data, &doc, NULL) < 0)
		return;
	problem = base_json_root(doc);
	if (base_str_is(base_jv_str(base_jv_get(problem, "code")), "denied"))
		views_run(at->v,
			"INSERT INTO denied SELECT ?1,?2,coalesce((SELECT as_ FROM runs WHERE "
			"run=?3),''),?4,'',?5,?3,?6",
			"iiissi", at->seq, at->time_ms, (int64_t)e->run, e->action,
			base_jv_str(base_jv_get(problem, "message")), (int64_t)e->step);
	base_json_free(doc);
}

/* A run has the labels of all that it has used. */
static void join_labels(const struct at *at, uint64_t run, uint8_t labels)
{
	if (labels)
		views_run(at->v, "UPDATE runs SET labels=labels|?2 WHERE run=?1", "ii", (int64_t)run,
			(int64_t)labels);
}

/* A row of a step; `done` is NULL, or its result, where that is known already. */
static void insert_step(const struct at *at, const struct core_step_called *e, const struct views_done *done)
{
	bool failed = e->status == CORE_STEP_FAILED;
	bool ended = failed || e->status == CORE_STEP_DONE;
	struct base_str result = preview_called(&e->result);

	views_run(at->v,
		"INSERT OR REPLACE INTO "
		"steps(run,step,action,class,status,attempts,key,rule,route,customer,labels,args,"
		" args_hash,result,problem,cost,reserved,gate,approval,called_ms,ended_ms,due_ms,seq,seq_"
		"ended,usage,policy)"
		" VALUES(?1,?2,?3,?4,?5,0,?6,?7,?8,?9,?22,?10,?11,?12,?13,?23,?14,nullif(?15,0),nullif(?16,0"
		"),?17,"
		" nullif(?18,0),nullif(?19,0),?20,nullif(?21,0),?24,nullif(?25,0))",
		"iisssssnsnhnniiiiiiiiiini", (int64_t)e->run, (int64_t)e->step, e->action,
		base_str_of(class_name(e->klass)),
		base_str_of(status_name(done ? CORE_STEP_DONE : e->status)), e->key, e->rule, e->route,
		e->customer, preview_blob(&e->args), &e->args_hash,
		done	 ? preview_blob(&done->event->result)
		: failed ? BASE_STR_NONE
			 : result,
		failed ? result : BASE_STR_NONE, e->reserved, (int64_t)e->gate, (int64_t)e->approval,
		at->time_ms,
		done	? done->time_ms
		: ended ? at->time_ms
			: (int64_t)0,
		done ? (int64_t)0 : e->due_ms, at->seq,
		done	? done->seq
		: ended ? at->seq
			: (int64_t)0,
		(int64_t)(done ? done->event->labels : e->brings), done ? done->event->cost : (int64_t)0,
		done ? preview(done->event->usage) : BASE_STR_NONE, (int64_t)e->policy);
}

void views_insert_called(struct views *v, const struct views_called *called, const struct views_done *done)
{
	const struct at at = {.v = v, .seq = (int64_t)called->seq, .time_ms = called->time_ms};

	insert_step(&at, &called->event, done);
}

static void step_called(const struct at *at, const struct core_step_called *e, struct base_str body)
{
	/* Most calls are answered within the same transaction: their row is written once, when it is whole. */
	if (e->status == CORE_STEP_SENT && views_hold(at->v, at->seq, at->time_ms, e, body))
		return;
	insert_step(at, e, NULL);
	join_labels(at, e->run, e->brings);
	note_denied(at, e);
}

/* A fork shows the steps that it takes over as they were; what they cost was paid once. */
static void step_taken(const struct at *at, const struct core_step_taken *e)
{
	views_run(at->v,
		"INSERT OR REPLACE INTO "
		"steps(run,step,action,class,status,attempts,key,rule,route,customer,labels,args,"
		" args_hash,result,problem,cost,reserved,called_ms,sent_ms,ended_ms,seq,seq_ended,usage,"
		"taken)"
		" SELECT "
		"?1,?2,?3,?4,?5,coalesce(s.attempts,0),coalesce(s.key,''),coalesce(s.rule,''),s.route,"
		" coalesce(s.customer,''),?6,s.args,s.args_hash,s.result,s.problem,0,0,s.called_ms,s.sent_ms,"
		" s.ended_ms,?7,?8,NULL,?9"
		" FROM (SELECT 1) LEFT JOIN runs r ON r.run=?1 LEFT JOIN steps s ON s.run=r.forked_from AND "
		"s.step=?2",
		"iisssiiii", (int64_t)e->run, (int64_t)e->step, e->action, base_str_of(class_name(e->klass)),
		base_str_of(status_name(e->status)), (int64_t)e->labels, (int64_t)e->seq, (int64_t)e->seq_end,
		at->seq);
	join_labels(at, e->run, e->labels);
}

static void step_sent(const struct at *at, const struct core_step_sent *e)
{
	views_run(at->v,
		"UPDATE steps SET status='sent', attempts=attempts+?3, sent_ms=coalesce(sent_ms,?4), "
		"reserved=?5,"
		" route=coalesce(?6,route) WHERE run=?1 AND step=?2",
		"iiiiin", (int64_t)e->run, (int64_t)e->step, (int64_t)(e->mode == 0), at->time_ms,
		e->reserved, e->route);
}

/* Money that was spent, or a model's usage; priced attempts that failed count too. */
static void charge(const struct at *at, uint64_t run, uint32_t step, int64_t cost, struct base_str usage)
{
	struct base_json *doc = NULL;
	struct base_jv u = {NULL};
	struct base_buf model;
	struct base_str provider;

	if (cost == 0 && usage.len == 0)
		return;
	if (usage.len && base_json_parse(usage, &doc, NULL) == 0)
		u = base_json_root(doc);
	base_buf_init(&model, 4096);
	provider = base_jv_str(base_jv_get(u, "provider"));
	base_buf_str(&model, provider);
	if (provider.len)
		base_buf_char(&model, '/');
	base_buf_str(&model, base_jv_str(base_jv_get(u, "model")));
	views_run(at->v, "INSERT INTO charges VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)", "iiiisiiiii", at->seq,
		at->time_ms, (int64_t)run, (int64_t)step, base_buf_view(&model), cost,
		base_jv_int(base_jv_get(u, "input_tokens"), 0),
		base_jv_int(base_jv_get(u, "output_tokens"), 0),
		base_jv_int(base_jv_get(u, "cache_read_tokens"), 0),
		base_jv_int(base_jv_get(u, "cache_write_tokens"), 0));
	base_buf_done(&model);
	base_json_free(doc);
}

static void step_done(const struct at *at, const struct core_step_done *e)
{
	struct views_done done = {.seq = at->seq, .time_ms = at->time_ms, .event = e};

	join_labels(at, e->run, e->labels);
	if (views_held_done(at->v, &done)) {
		charge(at, e->run, e->step, e->cost, e->usage);
		return;
	}
	views_run(at->v,
		"UPDATE steps SET status='done', ended_ms=?3, result=?4, usage=?5, cost=cost+?6, labels=?7, "
		"problem=NULL,"
		" due_ms=NULL, seq_ended=?8 WHERE run=?1 AND step=?2",
		"iiinniii", (int64_t)e->run, (int64_t)e->step, at->time_ms, preview_blob(&e->result),
		preview(e->usage), e->cost, (int64_t)e->labels, at->seq);
	charge(at, e->run, e->step, e->cost, e->usage);
}

static void step_failed(const struct at *at, const struct core_step_failed *e)
{
	join_labels(at, e->run, e->labels);
	views_run(at->v,
		"UPDATE steps SET status='failed', ended_ms=?3, problem=?4, cost=cost+?5, due_ms=NULL, "
		"seq_ended=?6"
		" WHERE run=?1 AND step=?2",
		"iiinii", (int64_t)e->run, (int64_t)e->step, at->time_ms, preview(e->problem), e->cost,
		at->seq);
	/* A step that failed while a gate held it (its time limit) takes the gate along. */
	views_run(at->v, "UPDATE gates SET state='closed' WHERE run=?1 AND step=?2 AND state='open'", "ii",
		(int64_t)e->run, (int64_t)e->step);
	charge(at, e->run, e->step, e->cost, BASE_STR_NONE);
}

static void step_retry(const struct at *at, const struct core_step_retry *e)
{
	views_run(at->v,
		"UPDATE steps SET status='held', due_ms=?3, problem=?4, cost=cost+?5 WHERE run=?1 AND "
		"step=?2",
		"iiini", (int64_t)e->run, (int64_t)e->step, e->at_ms, preview(e->problem), e->cost);
	charge(at, e->run, e->step, e->cost, BASE_STR_NONE);
}

static void step_doubt(const struct at *at, const struct core_step_doubt *e)
{
	views_run(at->v, "UPDATE steps SET status='doubt', gate=?3, evidence=?4 WHERE run=?1 AND step=?2",
		"iiin", (int64_t)e->run, (int64_t)e->step, (int64_t)e->gate, preview(e->evidence));
}

/* --- gates and waits --- */

static void gate_opened(const struct at *at, const struct core_gate_opened *e)
{
	views_run(at->v,
		"INSERT OR REPLACE INTO "
		"gates(gate,run,step,kind,title,state,shown,allows,edit,rule,cost,expires_ms,"
		" on_expiry,opened_ms,seq,terms) "
		"VALUES(?1,?2,?3,?4,?5,'open',?6,?7,?8,?9,?10,nullif(?11,0),?12,?13,?14,?15)",
		"iiisshnisiisiin", (int64_t)e->gate, (int64_t)e->run, (int64_t)e->step, e->kind, e->title,
		&e->shown, preview(e->allows), (int64_t)e->edit, e->rule, e->cost, e->expires_ms,
		e->on_expiry, at->time_ms, at->seq, preview(e->terms));
}

enum { GATE_HISTORY_MAX = 200 };

/* What happened at a gate before it was decided, in order. */
static void gate_history(const struct at *at, uint64_t gate, const char *what, struct base_str who,
	struct base_str to, struct base_str text)
{
	views_run(at->v,
		"UPDATE gates SET history = json_insert(coalesce(history,'[]'), '$[#]', "
		"json_object('at_ms',?2,"
		"'what',?3,'who',?4,'to',?5,'text',?6)) WHERE gate=?1 AND "
		"json_array_length(coalesce(history,'[]')) < ?7",
		"iissssi", (int64_t)gate, at->time_ms, base_str_of(what), who, to, text,
		(int64_t)GATE_HISTORY_MAX);
}

static void gate_more(const struct at *at, unsigned type, const union core_event_any *e)
{
	const struct core_gate_voted *v = &e->gate_voted;
	const struct core_gate_reported *r = &e->gate_reported;
	struct base_str none = BASE_STR_NONE;

	switch (type) {
	case CORE_EV_GATE_VOTED:
		gate_history(at, v->gate, "voted", v->by, v->answer, v->reason);
		break;
	case CORE_EV_GATE_DELEGATED:
		gate_history(at, e->gate_delegated.gate, "delegated", e->gate_delegated.by,
			e->gate_delegated.to, e->gate_delegated.reason);
		break;
	case CORE_EV_GATE_ESCALATED:
		gate_history(at, e->gate_escalated.gate, "escalated", none, e->gate_escalated.to, none);
		break;
	case CORE_EV_GATE_ANNOUNCED:
		gate_history(at, e->gate_announced.gate, "announced", e->gate_announced.to,
			e->gate_announced.channel, e->gate_announced.why);
		break;
	case CORE_EV_GATE_REPORTED:
		gate_history(at, r->gate, r->ok ? "told" : "failed", none, none, r->ok ? none : r->problem);
		break;
	default:
		break;
	}
}

static void gate_decided(const struct at *at, const struct core_gate_decided *e)
{
	bool edited = base_str_is(e->answer, "edit");

	views_run(at->v,
		"UPDATE gates SET state='decided', answer=?2, by_=?3, reason=?4, decided_ms=?5, "
		"waited_ms=?6, edited=?7,"
		" seq_decided=?8 WHERE gate=?1",
		"isssiiii", (int64_t)e->gate, e->answer, e->by, e->reason, at->time_ms, e->waited_ms,
		(int64_t)edited, at->seq);
}

static void signal_sent(const struct at *at, const struct core_signal_sent *e)
{
	views_run(at->v, "INSERT INTO signals VALUES(?1,?2,?3,?4,?5)", "iiiss", at->seq, at->time_ms,
		(int64_t)e->run, e->name, e->by);
}

/* --- memory --- */

static void index_fact(const struct at *at, struct base_str key, struct base_str value)
{
	struct base_json *doc;
	struct base_buf text;

	if (base_json_parse(value, &doc, NULL) < 0) {
		views_text_remove(at->v, BASE_STR("fact"), key);
		return;
	}
	base_buf_init(&text, value.len * 2 + 64);
	views_strings(base_json_root(doc), &text);
	views_text_put(at->v, BASE_STR("fact"), key, key, base_buf_view(&text));
	base_buf_done(&text);
	base_json_free(doc);
}

static void fact_put(const struct at *at, const struct core_fact_put *e)
{
	struct base_str value = BASE_STR_NONE;
	bool here = !e->removed && views_resolve(at->v, &e->value, &value);

	views_run(at->v, "INSERT OR REPLACE INTO facts VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)",
		"sinhiiissiiii", e->key, (int64_t)e->version,
		base_blob_is_inline(&e->value) && !e->removed ? e->value.data : BASE_STR_NONE, &e->value.hash,
		(int64_t)e->removed, (int64_t)e->run, (int64_t)e->step, e->by, e->source, (int64_t)e->labels,
		e->valid_from_ms ? e->valid_from_ms : at->time_ms, at->time_ms, at->seq);
	if (!here) {
		views_text_remove(at->v, BASE_STR("fact"), e->key);
		return;
	}
	views_keep_body(at->v, &e->value, value);
	index_fact(at, e->key, value);
}

static void document_put(const struct at *at, const struct core_document_put *e)
{
	struct base_str text = BASE_STR_NONE, title = e->id;
	struct base_json *meta = NULL;
	bool here = !e->removed && views_resolve(at->v, &e->text, &text);

	if (e->meta.len && base_json_parse(e->meta, &meta, NULL) == 0) {
		struct base_str t = base_jv_str(base_jv_get(base_json_root(meta), "title"));

		title = t.len ? t : title;
	}
	views_run(at->v, "INSERT OR REPLACE INTO documents VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)",
		"ssnhiiisiiii", e->id, title, preview(e->meta), &e->hash, (int64_t)e->text.len,
		(int64_t)e->run, (int64_t)e->step, e->by, (int64_t)e->labels, (int64_t)e->removed,
		at->time_ms, at->seq);
	if (here)
		views_text_put(at->v, BASE_STR("document"), e->id, title, text);
	else
		views_text_remove(at->v, BASE_STR("document"), e->id);
	if (here)
		views_keep_body(at->v, &e->text, text);
	base_json_free(meta);
}

/* --- learning --- */

static void experiment_chosen(const struct at *at, const struct core_experiment_chosen *e)
{
	views_run(at->v, "INSERT INTO choices VALUES(?1,?2,?3,?4,?5,?6,?7,?8)", "iisiiiss", at->seq,
		at->time_ms, e->experiment, (int64_t)e->run, (int64_t)e->step, (int64_t)e->arm, e->how,
		e->customer);
	views_run(at->v, "INSERT OR REPLACE INTO experiments VALUES(?1,?2,?3)", "sni", e->experiment, e->arms,
		at->time_ms);
}

static void outcome_recorded(const struct at *at, const struct core_outcome_recorded *e)
{
	views_run(at->v, "INSERT INTO outcomes VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)", "iisiississi",
		at->seq, at->time_ms, e->name, e->value, (int64_t)e->run, e->customer, e->experiment,
		(int64_t)e->arm, e->key, e->by, e->money);
}

static void run_logged(const struct at *at, const struct core_run_logged *e)
{
	views_run(at->v, "INSERT INTO logs VALUES(?1,?2,?3,?4,?5)", "iiiss", at->seq, at->time_ms,
		(int64_t)e->run, e->level, e->text);
}

/* --- the switch --- */

static void company(const struct at *at, unsigned type, const union core_event_any *e)
{
	if (type == CORE_EV_FLOW_DEPLOYED)
		flow_deployed(at, &e->flow_deployed);
	else if (type == CORE_EV_ACCESS_DENIED)
		access_denied(at, &e->access_denied);
}

static void work(const struct at *at, unsigned type, const union core_event_any *e, struct base_str body)
{
	switch (type) {
	case CORE_EV_RUN_STARTED:
		run_started(at, &e->run_started);
		break;
	case CORE_EV_RUN_ENDED:
		run_ended(at, &e->run_ended);
		break;
	case CORE_EV_RUN_PARKED:
		run_parked(at, &e->run_parked);
		break;
	case CORE_EV_RUN_PAUSED:
		run_paused(at, &e->run_paused);
		break;
	case CORE_EV_RUN_RESUMED:
		run_resumed(at, &e->run_resumed);
		break;
	case CORE_EV_RUN_ADMITTED:
		views_run(at->v, "UPDATE runs SET state='active' WHERE run=?1", "i",
			(int64_t)e->run_admitted.run);
		break;
	case CORE_EV_RUN_MOVED:
		run_moved(at, &e->run_moved);
		break;
	case CORE_EV_ROLLBACK_STARTED:
		rollback_started(at, &e->rollback_started);
		break;
	case CORE_EV_STEP_UNDONE:
		step_undone(at, &e->step_undone);
		break;
	case CORE_EV_RUN_FORGOTTEN:
		run_forgotten(at, &e->run_forgotten);
		break;
	case CORE_EV_STEP_CALLED:
		step_called(at, &e->step_called, body);
		break;
	case CORE_EV_STEP_TAKEN:
		step_taken(at, &e->step_taken);
		break;
	case CORE_EV_STEP_SENT:
		step_sent(at, &e->step_sent);
		break;
	case CORE_EV_STEP_DONE:
		step_done(at, &e->step_done);
		break;
	case CORE_EV_STEP_FAILED:
		step_failed(at, &e->step_failed);
		break;
	case CORE_EV_STEP_RETRY:
		step_retry(at, &e->step_retry);
		break;
	case CORE_EV_STEP_DOUBT:
		step_doubt(at, &e->step_doubt);
		break;
	default:
		break;
	}
}

static void rest(const struct at *at, unsigned type, const union core_event_any *e)
{
	switch (type) {
	case CORE_EV_GATE_OPENED:
		gate_opened(at, &e->gate_opened);
		break;
	case CORE_EV_GATE_DECIDED:
		gate_decided(at, &e->gate_decided);
		break;
	case CORE_EV_GATE_VOTED:
	case CORE_EV_GATE_DELEGATED:
	case CORE_EV_GATE_ESCALATED:
	case CORE_EV_GATE_ANNOUNCED:
	case CORE_EV_GATE_REPORTED:
		gate_more(at, type, e);
		break;
	case CORE_EV_SIGNAL_SENT:
		signal_sent(at, &e->signal_sent);
		break;
	case CORE_EV_FACT_PUT:
		fact_put(at, &e->fact_put);
		break;
	case CORE_EV_DOCUMENT_PUT:
		document_put(at, &e->document_put);
		break;
	case CORE_EV_EXPERIMENT_CHOSEN:
		experiment_chosen(at, &e->experiment_chosen);
		break;
	case CORE_EV_OUTCOME_RECORDED:
		outcome_recorded(at, &e->outcome_recorded);
		break;
	case CORE_EV_RUN_LOGGED:
		run_logged(at, &e->run_logged);
		break;
	default:
		break;
	}
}

/* Events that neither read nor change the row of a step that is sent; before any other, held rows are written. */
static bool leaves_sent_steps(unsigned type)
{
	switch (type) {
	case CORE_EV_RUN_STARTED:
	case CORE_EV_RUN_ENDED:
	case CORE_EV_STEP_CALLED:
	case CORE_EV_STEP_DONE:
	case CORE_EV_FACT_PUT:
	case CORE_EV_OUTCOME_RECORDED:
	case CORE_EV_RUN_LOGGED:
		return true;
	default:
		return false;
	}
}

int views_project(struct views *v, uint64_t seq, const struct core_record *rec)
{
	const struct at at = {.v = v, .seq = (int64_t)seq, .time_ms = rec->time_ms};
	union core_event_any e;

	/* A newer aiosd's event, or a person's ciphertext: the position moves, nothing is shown. */
	if (!core_event_name(rec->type) || rec->subject.len)
		return 0;
	if (core_event_get(rec->type, rec->body, &e) < 0)
		return -EBADMSG;
	if (!leaves_sent_steps(rec->type))
		views_hold_flush(v);
	if (rec->type < CORE_EV_RUN_STARTED)
		company(&at, rec->type, &e);
	else if (rec->type < CORE_EV_GATE_OPENED)
		work(&at, rec->type, &e, rec->body);
	else
		rest(&at, rec->type, &e);
	views_audit(v, at.seq, at.time_ms, rec->type, &e, rec->body);
	return 0;
}
