/* Answers: parameters, rows to JSON, and the lists of runs, steps, gates and memory. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/check.h"
#include "views/views_int.h"

/* --- parameters --- */

struct base_str views_param(const struct views_ask *a, const char *name)
{
	return base_jv_str(base_jv_get(a->params, name));
}

int views_param_int(const struct views_ask *a, const char *name, int64_t otherwise, int64_t *ret)
{
	struct base_jv v = base_jv_get(a->params, name);

	switch (base_jv_kind(v)) {
	case BASE_JSON_NONE:
	case BASE_JSON_NULL:
		*ret = otherwise;
		return 0;
	case BASE_JSON_INT:
		*ret = base_jv_int(v, 0);
		return 0;
	case BASE_JSON_STR:
		if (base_jv_str(v).len == 0) {
			*ret = otherwise;
			return 0;
		}
		if (base_str_i64(base_jv_str(v), ret) == 0)
			return 0;
		break;
	default:
		break;
	}
	return base_err_set(a->err, -EINVAL, "%s must be a whole number", name);
}

int views_param_limit(const struct views_ask *a, int64_t otherwise, int64_t max, int64_t *ret)
{
	int64_t n;
	int r = views_param_int(a, "limit", otherwise, &n);

	if (r < 0)
		return r;
	if (n < 1)
		return base_err_set(a->err, -EINVAL, "limit must be at least 1");
	*ret = n < max ? n : max;
	return 0;
}

/* --- rows to JSON --- */

void views_put_labels(struct base_jw *w, int64_t labels)
{
	base_jw_arr(w);
	if (labels & 2)
		base_jw_cstr(w, "private");
	if (labels & 1)
		base_jw_cstr(w, "untrusted");
	base_jw_end_arr(w);
}

static void put_column(struct views_ask *a, sqlite3_stmt *st, int i)
{
	struct base_str name = base_str_of(sqlite3_column_name(st, i)), kind;

	base_str_cut(name, ':', &name, &kind);
	base_jw_key_str(&a->w, name);
	if (sqlite3_column_type(st, i) == SQLITE_NULL) {
		base_jw_null(&a->w);
	} else if (base_str_is(kind, "json")) {
		base_jw_raw(&a->w, views_column(st, i));
	} else if (base_str_is(kind, "bool")) {
		base_jw_bool(&a->w, sqlite3_column_int(st, i) != 0);
	} else if (base_str_is(kind, "labels")) {
		views_put_labels(&a->w, sqlite3_column_int64(st, i));
	} else if (base_str_is(kind, "hex")) {
		struct base_buf hex;

		base_buf_init(&hex, 4096);
		base_hex_put(&hex, views_column(st, i));
		base_jw_str(&a->w, base_buf_view(&hex));
		base_buf_done(&hex);
	} else if (sqlite3_column_type(st, i) == SQLITE_INTEGER) {
		base_jw_int(&a->w, sqlite3_column_int64(st, i));
	} else if (sqlite3_column_type(st, i) == SQLITE_FLOAT) {
		base_jw_real(&a->w, sqlite3_column_double(st, i));
	} else {
		base_jw_str(&a->w, views_column(st, i));
	}
}

void views_row(struct views_ask *a, sqlite3_stmt *st)
{
	int n = sqlite3_column_count(st);

	for (int i = 0; i < n; i++)
		put_column(a, st, i);
}

int views_rows(struct views_ask *a, const char *name, sqlite3_stmt *st, int64_t limit, int64_t *ret_last)
{
	int64_t rows = 0, last = 0;
	bool more = false;
	int rc = SQLITE_OK;

	base_jw_key(&a->w, name);
	base_jw_arr(&a->w);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		if (limit > 0 && rows == limit) {
			more = true;
			break;
		}
		rows++;
		last = sqlite3_column_int64(st, 0);
		base_jw_obj(&a->w);
		views_row(a, st);
		base_jw_end_obj(&a->w);
		if (base_buf_failed(a->out))
			break;
	}
	base_jw_end_arr(&a->w);
	sqlite3_reset(st);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return views_error(a->v, rc, a->err);
	if (ret_last)
		*ret_last = more ? last : 0;
	return 0;
}

void views_next(struct views_ask *a, int64_t last)
{
	if (last)
		base_jw_mint(&a->w, "next", last);
	else
		base_jw_mraw(&a->w, "next", BASE_STR("null"));
}

/* A whole answer: {items, next}. st is bound. */
static int put_list(struct views_ask *a, sqlite3_stmt *st, int64_t limit)
{
	int64_t last;
	int r;

	base_jw_obj(&a->w);
	r = views_rows(a, "items", st, limit, &last);
	if (r == 0)
		views_next(a, last);
	base_jw_end_obj(&a->w);
	return r;
}

/* A statement made of constant pieces; not cached. NULL with an error set. */
static sqlite3_stmt *prepare(struct views_ask *a, const struct base_buf *sql, int *ret)
{
	sqlite3_stmt *st = NULL;
	int rc;

	if (base_buf_failed(sql)) {
		*ret = base_err_set(a->err, -ENOMEM, "out of memory");
		return NULL;
	}
	rc = sqlite3_prepare_v2(a->v->db, sql->ptr, (int)sql->len, &st, NULL);
	*ret = rc == SQLITE_OK ? 0 : views_error(a->v, rc, a->err);
	return st;
}

/* --- runs --- */

/* `count` is the name for the number of steps: a run's own answer has its timeline under "steps". */
#define RUN_COLUMNS_(count)                                                                                  \
	"r.run, r.flow, r.version AS \"version:hex\", r.state, nullif(r.parent,0) AS parent, r.parent_step," \
	" r.as_ AS \"as\", r.by_ AS \"by\", r.customer, r.agent, r.flags, r.started_ms, r.ended_ms,"         \
	" r.start_key, r.labels AS \"labels:labels\", r.forked_from, r.forked_steps, r.begin_ms, "           \
	"r.deadline_ms,"                                                                                     \
	" r.previous, r.generation, r.next_run, r.trigger,"                                                  \
	" (SELECT count(*) FROM steps s WHERE s.run = r.run) AS " count ","                                  \
	" (SELECT coalesce(sum(s.cost),0) FROM steps s WHERE s.run = r.run) AS cost, r.seq, r.seq_ended"
#define RUN_COLUMNS RUN_COLUMNS_("steps")

#define GATE_COLUMNS                                                                                         \
	"g.gate, g.run, g.step, (SELECT flow FROM runs WHERE run = g.run) AS flow, g.kind, g.title, "        \
	"g.state,"                                                                                           \
	" g.answer, g.by_ AS \"by\", g.reason, g.rule, g.cost, g.edit AS \"edit:bool\", g.shown AS "         \
	"\"shown:hex\","                                                                                     \
	" g.allows AS \"allows:json\", g.expires_ms, g.on_expiry, g.opened_ms, g.decided_ms, g.waited_ms,"   \
	" g.edited AS \"edited:bool\", g.seq, g.seq_decided, g.terms AS \"terms:json\","                     \
	" g.history AS \"history:json\""

#define OUTCOME_COLUMNS                                                                                      \
	"seq, at, name, value, nullif(run,0) AS run, customer, experiment, arm, key, by_ AS \"by\", money"

/* Bits of a label's name; -EINVAL for another. */
static int label_bits(const struct views_ask *a, int64_t *ret)
{
	struct base_str label = views_param(a, "label");

	*ret = base_str_is(label, "untrusted") ? 1 : base_str_is(label, "private") ? 2 : 0;
	if (label.len && !*ret)
		return base_err_set(a->err, -EINVAL, "there are the labels untrusted and private");
	return 0;
}

/* Where a run may hold a text: what it was started with, what it ended with, why it stands, what it logged. */
#define RUN_HAS_TEXT                                                                                         \
	" AND (instr(lower(r.input), ?11) OR instr(lower(r.value), ?11) OR instr(lower(r.customer), ?11)"    \
	" OR instr(lower(r.start_key), ?11) OR instr(lower(r.why), ?11) OR instr(lower(r.detail), ?11)"      \
	" OR EXISTS (SELECT 1 FROM logs l WHERE l.run = r.run AND instr(lower(l.text), ?11)))"

static struct base_str lower_of(struct base_buf *b, struct base_str s)
{
	for (size_t i = 0; i < s.len; i++)
		base_buf_char(b, s.ptr[i] >= 'A' && s.ptr[i] <= 'Z' ? (char)(s.ptr[i] + 32) : s.ptr[i]);
	return base_buf_view(b);
}

int views_ask_runs(struct views_ask *a)
{
	struct base_str flow = views_param(a, "flow"), state = views_param(a, "state");
	struct base_str customer = views_param(a, "customer"), key = views_param(a, "key");
	struct base_str text = views_param(a, "text");
	int64_t before, parent, since, until, label, limit = 0;
	struct base_buf sql, lower;
	sqlite3_stmt *st;
	int r = views_param_int(a, "before", INT64_MAX, &before);

	r = r < 0 ? r : views_param_int(a, "parent", 0, &parent);
	r = r < 0 ? r : views_param_int(a, "since", 0, &since);
	r = r < 0 ? r : views_param_int(a, "until", 0, &until);
	r = r < 0 ? r : label_bits(a, &label);
	r = r < 0 ? r : views_param_limit(a, 50, 1000, &limit);
	if (r < 0)
		return r;
	base_buf_init(&sql, 8192);
	base_buf_init(&lower, 1 << 16);
	base_buf_cstr(&sql, "SELECT " RUN_COLUMNS " FROM runs r WHERE r.run < ?1");
	base_buf_cstr(&sql, flow.len ? " AND r.flow = ?3" : "");
	base_buf_cstr(&sql, base_str_is(state, "ended") ? " AND r.seq_ended > 0"
			    : state.len			? " AND r.state = ?4"
							: "");
	base_buf_cstr(&sql, parent ? " AND r.parent = ?5 AND r.parent > 0" : "");
	base_buf_cstr(&sql, customer.len ? " AND r.customer = ?6 AND r.customer <> ''" : "");
	base_buf_cstr(&sql, key.len ? " AND r.start_key = ?7 AND r.start_key <> ''" : "");
	base_buf_cstr(&sql, since ? " AND r.started_ms >= ?8" : "");
	base_buf_cstr(&sql, until ? " AND r.started_ms < ?9" : "");
	base_buf_cstr(&sql, label ? " AND r.labels & ?10" : "");
	base_buf_cstr(&sql, text.len ? RUN_HAS_TEXT : "");
	base_buf_cstr(&sql, " ORDER BY r.run DESC LIMIT ?2");
	st = prepare(a, &sql, &r);
	if (st) {
		views_bind(st, "iississiiis", before, limit + 1, flow, state, parent, customer, key, since,
			until, label, lower_of(&lower, text));
		r = put_list(a, st, limit);
	}
	sqlite3_finalize(st);
	base_buf_done(&lower);
	base_buf_done(&sql);
	return r;
}

/* Where the steps of a run stand in the log: for forks of one that the state has forgotten. */
int views_ask_positions(struct views_ask *a)
{
	sqlite3_stmt *st = views_prepare(a->v, "SELECT seq, lower(hex(version)) FROM runs WHERE run = ?1");
	int64_t run, before;
	int rc, r = views_param_int(a, "run", 0, &run);

	r = r < 0 ? r : views_param_int(a, "before", INT64_MAX, &before);
	if (r < 0)
		return r;
	if (!st)
		return views_error(a->v, a->v->rc, a->err);
	views_bind(st, "i", run);
	if (sqlite3_step(st) != SQLITE_ROW) {
		sqlite3_reset(st);
		return base_err_set(a->err, -ENOENT, "there is no run %lld", (long long)run);
	}
	base_jw_obj(&a->w);
	base_jw_mint(&a->w, "seq", sqlite3_column_int64(st, 0));
	base_jw_mstr(&a->w, "version", views_column(st, 1));
	sqlite3_reset(st);
	st = views_prepare(a->v, "SELECT seq, CASE WHEN status IN ('done', 'failed') THEN seq_ended ELSE 0 "
				 "END, coalesce(taken, 0)"
				 " FROM steps WHERE run = ?1 AND step < ?2 ORDER BY step");
	if (!st)
		return views_error(a->v, a->v->rc, a->err);
	views_bind(st, "ii", run, before);
	base_jw_key(&a->w, "steps");
	base_jw_arr(&a->w);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		base_jw_arr(&a->w);
		for (int i = 0; i < 3; i++)
			base_jw_int(&a->w, sqlite3_column_int64(st, i));
		base_jw_end_arr(&a->w);
	}
	sqlite3_reset(st);
	base_jw_end_arr(&a->w);
	base_jw_end_obj(&a->w);
	return rc == SQLITE_DONE ? 0 : views_error(a->v, rc, a->err);
}

/* A member with the gate that st stands on from column `at` on, or null. */
static void put_step_gate(struct views_ask *a, sqlite3_stmt *gate, const char *name, int64_t id)
{
	base_jw_key(&a->w, name);
	views_bind(gate, "i", id);
	if (id && sqlite3_step(gate) == SQLITE_ROW) {
		base_jw_obj(&a->w);
		views_row(a, gate);
		base_jw_end_obj(&a->w);
	} else {
		base_jw_null(&a->w);
	}
	sqlite3_reset(gate);
}

/* A member with the row that st gives, if it gives one. */
static void put_row(struct views_ask *a, sqlite3_stmt *st, const char *name)
{
	if (sqlite3_step(st) == SQLITE_ROW) {
		base_jw_key(&a->w, name);
		base_jw_obj(&a->w);
		views_row(a, st);
		base_jw_end_obj(&a->w);
	}
	sqlite3_reset(st);
}

static int put_steps(struct views_ask *a, int64_t run, int64_t after, int64_t limit)
{
	static const char sql[] =
		"SELECT step, action, class, status, attempts, key, rule, route AS \"route:json\", customer, "
		"labels AS \"labels:labels\","
		" args AS \"args:json\", nullif(args_hash, zeroblob(32)) AS \"args_hash:hex\", result AS "
		"\"result:json\","
		" problem AS \"problem:json\", evidence AS \"evidence:json\", usage AS \"usage:json\", cost, "
		"reserved,"
		" called_ms, sent_ms, ended_ms, ended_ms - called_ms AS latency_ms, due_ms, seq, seq_ended, "
		"taken"
		" FROM steps WHERE run = ?1 AND step > ?2 ORDER BY step LIMIT ?3";
	static const char undone_sql[] = "SELECT outcome, undo AS run, undo_step AS step, at FROM undone"
					 " WHERE run = ?1 AND step = ?2 ORDER BY seq DESC LIMIT 1";
	static const char gates_sql[] =
		"SELECT coalesce(s.gate, (SELECT max(g.gate) FROM gates g WHERE g.run = s.run"
		" AND g.step = s.step AND g.kind <> 'parked')), s.approval"
		" FROM steps s WHERE s.run = ?1 AND s.step = ?2";
	static const char gate_sql[] =
		"SELECT gate, kind, title, state, answer, by_ AS \"by\", reason, opened_ms,"
		" decided_ms, waited_ms, history AS \"history:json\" FROM gates WHERE gate = ?1";
	sqlite3_stmt *st = views_prepare(a->v, sql), *ids = views_prepare(a->v, gates_sql);
	sqlite3_stmt *gate = views_prepare(a->v, gate_sql), *undone = views_prepare(a->v, undone_sql);
	int64_t rows = 0, last = 0;
	int rc;

	if (!st || !ids || !gate || !undone)
		return views_error(a->v, a->v->rc, a->err);
	views_bind(st, "iii", run, after, limit + 1);
	base_jw_key(&a->w, "steps");
	base_jw_arr(&a->w);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW && rows++ < limit && !base_buf_failed(a->out)) {
		bool found;

		last = sqlite3_column_int64(st, 0);
		base_jw_obj(&a->w);
		views_row(a, st);
		views_bind(ids, "ii", run, last);
		found = sqlite3_step(ids) == SQLITE_ROW;
		put_step_gate(a, gate, "gate", found ? sqlite3_column_int64(ids, 0) : 0);
		put_step_gate(a, gate, "approval", found ? sqlite3_column_int64(ids, 1) : 0);
		sqlite3_reset(ids);
		views_bind(undone, "ii", run, last);
		put_row(a, undone, "undone");
		base_jw_end_obj(&a->w);
	}
	base_jw_end_arr(&a->w);
	sqlite3_reset(st);
	if (rc == SQLITE_ROW)
		base_jw_mint(&a->w, "next", last);
	else
		base_jw_mraw(&a->w, "next", BASE_STR("null"));
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : views_error(a->v, rc, a->err);
}

/* A member with all rows of a cached statement whose only parameter is the run. */
static int put_of_run(struct views_ask *a, const char *name, const char *sql, int64_t run)
{
	sqlite3_stmt *st = views_prepare(a->v, sql);

	if (!st)
		return views_error(a->v, a->v->rc, a->err);
	views_bind(st, "i", run);
	return views_rows(a, name, st, 0, NULL);
}

static const char run_sql[] = "SELECT " RUN_COLUMNS_(
	"step_count") ", r.key, r.input AS \"input:json\", r.value AS \"value:json\", r.why,"
		      " r.detail AS \"detail:json\", r.context AS \"context:json\", r.ended_by"
		      " FROM runs r WHERE r.run = ?1";

int views_ask_run(struct views_ask *a)
{
	static const char tree_sql[] =
		"WITH RECURSIVE tree(run) AS (VALUES(?1) UNION SELECT runs.run FROM runs JOIN tree"
		" ON runs.parent = tree.run AND runs.parent > 0)"
		" SELECT coalesce(sum(s.cost),0) FROM tree JOIN steps s ON s.run = tree.run";
	int64_t run, after, limit = 0;
	sqlite3_stmt *st;
	int r = views_param_int(a, "run", 0, &run);

	r = r < 0 ? r : views_param_int(a, "after", -1, &after);
	r = r < 0 ? r : views_param_limit(a, 2000, 10000, &limit);
	if (r < 0)
		return r;
	st = views_prepare(a->v, run_sql);
	if (!st)
		return views_error(a->v, a->v->rc, a->err);
	views_bind(st, "i", run);
	a->v->rc = sqlite3_step(st);
	if (a->v->rc != SQLITE_ROW) {
		r = a->v->rc == SQLITE_DONE
			    ? base_err_set(a->err, -ENOENT, "there is no run %lld", (long long)run)
			    : views_error(a->v, a->v->rc, a->err);
		sqlite3_reset(st);
		return r;
	}
	a->v->rc = SQLITE_OK;
	base_jw_obj(&a->w);
	views_row(a, st);
	sqlite3_reset(st);
	base_jw_mint(&a->w, "cost_tree", views_int(a->v, tree_sql, 0, "i", run));
	r = put_of_run(a, "children",
		"SELECT " RUN_COLUMNS " FROM runs r WHERE r.parent = ?1 AND r.parent > 0"
		" ORDER BY r.run LIMIT 1000",
		run);
	r = r < 0 ? r : put_steps(a, run, after, limit);
	r = r < 0 ? r
		  : put_of_run(a, "gates",
			    "SELECT " GATE_COLUMNS " FROM gates g WHERE g.run = ?1 ORDER BY g.gate"
			    " LIMIT 1000",
			    run);
	r = r < 0 ? r
		  : put_of_run(a, "rollbacks",
			    "SELECT undo AS run, nullif(step,4294967295) AS step, name AS \"to\", by_ AS "
			    "\"by\","
			    " reason, ends > 0 AS \"ends:bool\", at FROM rollbacks WHERE run = ?1"
			    " ORDER BY undo LIMIT 1000",
			    run);
	r = r < 0 ? r
		  : put_of_run(a, "logs",
			    "SELECT at, level, text FROM logs WHERE run = ?1 ORDER BY seq LIMIT 1000", run);
	r = r < 0 ? r
		  : put_of_run(a, "outcomes",
			    "SELECT " OUTCOME_COLUMNS " FROM outcomes o WHERE o.run = ?1"
			    " AND o.run > 0 ORDER BY seq LIMIT 1000",
			    run);
	r = r < 0 ? r
		  : put_of_run(a, "signals",
			    "SELECT at, name, by_ AS \"by\" FROM signals WHERE run = ?1"
			    " ORDER BY seq LIMIT 1000",
			    run);
	base_jw_end_obj(&a->w);
	return r;
}

int views_ask_gates(struct views_ask *a)
{
	struct base_str state = views_param(a, "state"), kind = views_param(a, "kind");
	int64_t before, limit = 0, run, gate;
	struct base_buf sql;
	sqlite3_stmt *st;
	int r = views_param_int(a, "before", INT64_MAX, &before);

	r = r < 0 ? r : views_param_int(a, "run", 0, &run);
	r = r < 0 ? r : views_param_int(a, "gate", 0, &gate);
	r = r < 0 ? r : views_param_limit(a, 50, 1000, &limit);
	if (r < 0)
		return r;
	base_buf_init(&sql, 4096);
	base_buf_cstr(&sql, "SELECT " GATE_COLUMNS " FROM gates g WHERE g.gate < ?1");
	base_buf_cstr(&sql, state.len ? " AND g.state = ?3" : "");
	base_buf_cstr(&sql, run ? " AND g.run = ?4" : "");
	base_buf_cstr(&sql, gate ? " AND g.gate = ?5" : "");
	base_buf_cstr(&sql, kind.len ? " AND g.kind = ?6" : "");
	base_buf_cstr(&sql, " ORDER BY g.gate DESC LIMIT ?2");
	st = prepare(a, &sql, &r);
	if (st) {
		views_bind(st, "iisiis", before, limit + 1, state, run, gate, kind);
		r = put_list(a, st, limit);
	}
	sqlite3_finalize(st);
	base_buf_done(&sql);
	return r;
}

/* --- memory --- */

int views_ask_history(struct views_ask *a)
{
	static const char sql[] =
		"SELECT f.version, coalesce(f.value, CAST(b.data AS TEXT)) AS \"value:json\","
		" f.removed AS \"removed:bool\", f.at, nullif(f.run,0) AS run,"
		" CASE WHEN f.run > 0 THEN f.step END AS step, f.by_ AS \"by\", f.source,"
		" f.labels AS \"labels:labels\""
		" FROM facts f LEFT JOIN bodies b ON b.hash = f.hash WHERE f.key = ?1 ORDER BY f.version "
		"DESC LIMIT ?2";
	struct base_str key = views_param(a, "key");
	sqlite3_stmt *st;
	int64_t limit = 0;
	int r = views_param_limit(a, 100, 1000, &limit);

	if (r < 0)
		return r;
	if (key.len == 0)
		return base_err_set(a->err, -EINVAL, "history needs a key");
	st = views_prepare(a->v, sql);
	if (!st)
		return views_error(a->v, a->v->rc, a->err);
	views_bind(st, "si", key, limit);
	base_jw_obj(&a->w);
	r = views_rows(a, "items", st, 0, NULL);
	base_jw_end_obj(&a->w);
	return r;
}

int views_ask_documents(struct views_ask *a)
{
	static const char sql[] =
		"SELECT id, title, meta AS \"meta:json\", bytes, at, nullif(run,0) AS run, by_ AS \"by\","
		" labels AS \"labels:labels\" FROM documents WHERE removed = 0 AND id > ?1 AND substr(id, 1, "
		"length(?2)) = ?2"
		" ORDER BY id LIMIT ?3";
	struct base_str prefix = views_param(a, "prefix"), after = views_param(a, "after");
	int64_t limit = 0, rows = 0;
	struct base_buf last;
	sqlite3_stmt *st;
	int rc, r = views_param_limit(a, 100, 1000, &limit);

	if (r < 0)
		return r;
	st = views_prepare(a->v, sql);
	if (!st)
		return views_error(a->v, a->v->rc, a->err);
	views_bind(st, "ssi", after, prefix, limit + 1);
	base_buf_init(&last, 1 << 16);
	base_jw_obj(&a->w);
	base_jw_key(&a->w, "items");
	base_jw_arr(&a->w);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW && rows++ < limit) {
		base_buf_clear(&last);
		base_buf_str(&last, views_column(st, 0));
		base_jw_obj(&a->w);
		views_row(a, st);
		base_jw_end_obj(&a->w);
	}
	base_jw_end_arr(&a->w);
	if (rc == SQLITE_ROW)
		base_jw_mstr(&a->w, "next", base_buf_view(&last));
	else
		base_jw_mraw(&a->w, "next", BASE_STR("null"));
	base_jw_end_obj(&a->w);
	base_buf_done(&last);
	sqlite3_reset(st);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : views_error(a->v, rc, a->err);
}

/* --- the table of queries --- */

static const struct {
	const char *name;
	int (*fn)(struct views_ask *a);
} queries[] = {
	{"runs", views_ask_runs},
	{"run", views_ask_run},
	{"positions", views_ask_positions},
	{"gates", views_ask_gates},
	{"costs", views_ask_costs},
	{"search", views_ask_search},
	{"history", views_ask_history},
	{"outcomes", views_ask_outcomes},
	{"documents", views_ask_documents},
	{"denied", views_ask_denied},
	{"audit", views_ask_audit},
	{"flows", views_ask_flows},
	{"dump", views_ask_dump},
};

static int ask(struct views_ask *a, struct base_str query)
{
	for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++)
		if (base_str_is(query, queries[i].name))
			return queries[i].fn(a);
	return base_err_set(a->err, -EINVAL, "there is no query \"%.*s\"",
		(int)(query.len < 40 ? query.len : 40), query.ptr);
}

/* With a scope, only what it leaves: aiosd stamps it. */
static int ask_scoped(struct views_ask *a, struct base_str query)
{
	struct base_jv scope = base_jv_get(a->params, "scope");
	int rc, r;

	if (base_jv_kind(scope) == BASE_JSON_NONE)
		return ask(a, query);
	if (base_jv_kind(scope) != BASE_JSON_OBJ || base_str_is(query, "dump"))
		return base_err_set(a->err, -EINVAL, "this cannot be asked with a scope");
	rc = views_scope_begin(a->v, scope);
	if (rc != SQLITE_OK)
		return views_error(a->v, rc, a->err);
	r = ask(a, query);
	rc = views_scope_end(a->v);
	BASE_CHECK(rc == SQLITE_OK); /* else what is written next would not reach the tables */
	return r;
}

int views_query(struct views *v, struct base_str query, struct base_str params, struct base_buf *ret,
	struct base_err *err)
{
	struct base_buf out;
	struct views_ask a = {.v = v, .out = &out, .err = err};
	struct base_json *doc;
	int before = v->rc, r;

	views_hold_flush(v);
	if (params.len == 0)
		params = BASE_STR("{}");
	r = base_json_parse(params, &doc, err);
	if (r < 0)
		return r == -ENOMEM ? r : -EINVAL;
	a.params = base_json_root(doc);
	base_buf_init(&out, VIEWS_ANSWER_MAX);
	a.w = base_jw_of(&out);
	if (base_jv_kind(a.params) != BASE_JSON_OBJ)
		r = base_err_set(err, -EINVAL, "the parameters of a query are an object");
	else
		r = ask_scoped(&a, query);
	if (r == 0 && base_buf_failed(&out))
		r = base_err_set(
			err, base_buf_failed(&out), "the answer is too large: ask for less with limit");
	if (r == 0)
		base_buf_str(ret, base_buf_view(&out));
	/* A query that failed has not harmed the tables; what comes in goes on. */
	v->rc = before;
	base_buf_done(&out);
	base_json_free(doc);
	return r;
}
