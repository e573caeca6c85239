#pragma once

#include <sqlite3.h>
#include <stdbool.h>

#include "base/codec.h"
#include "base/json.h"
#include "core/block.h"
#include "core/events.h"
#include "views/views.h"

/* What the files of this folder share. */

enum {
	VIEWS_STATEMENTS = 256, /* places for cached statements; a power of two */
	VIEWS_PREVIEW = 2048,	/* longest args, result, … that a row carries */
	VIEWS_ANSWER_MAX = 16 << 20,
};

struct views_pending {
	struct base_hash hash;
	char *data;
	size_t len;
};

struct views_hold; /* rows that are not written yet (hold.c) */

struct views {
	struct views_hold *hold;
	char *path;
	sqlite3 *db;
	uint64_t seq;
	bool open; /* a transaction */
	int rc;	   /* SQLite's first error in it; what follows does nothing */
	uint64_t skipped;
	struct views_pending *bodies; /* for the block that comes next */
	size_t body_count, body_size;
	struct base_jv scope; /* of the query that is being answered */
	struct {
		const char *sql; /* by address: statements are literals */
		sqlite3_stmt *st;
	} statements[VIEWS_STATEMENTS];
};

extern const char views_schema[];

/*
 * SQL with parameters bound by `types`: i int64_t, s struct base_str as text, n the same with NULL where it
 * is empty, b struct base_str as a blob, h const struct base_hash * as a blob. A parameter that the text does
 * not mention is ignored.
 */
/* A statement that is cached under the address of `sql`, or NULL. To be reset after use. */
sqlite3_stmt *views_prepare(struct views *v, const char *sql);
int views_bind(sqlite3_stmt *st, const char *types, ...);
/* Runs a cached statement to its end; an error is remembered in v->rc and makes all that follow do nothing.
 */
void views_run(struct views *v, const char *sql, const char *types, ...);
/* The first column of the first row; `otherwise` when there is none. */
int64_t views_int(struct views *v, const char *sql, int64_t otherwise, const char *types, ...);
struct base_str views_column(sqlite3_stmt *st, int i);	  /* text or blob; until the next step */
void views_put_labels(struct base_jw *w, int64_t labels); /* ["private","untrusted"] */
int views_error(struct views *v, int rc, struct base_err *err);

/* The body that a blob names: inline, among the bodies that came, or in the table. False: it is nowhere. */
bool views_resolve(struct views *v, const struct base_blob *blob, struct base_str *ret);
/* Keeps the body of a blob that is not inline in the table. */
void views_keep_body(struct views *v, const struct base_blob *blob, struct base_str data);

/* One event into the tables (project.c). -EBADMSG when it does not decode. */
int views_project(struct views *v, uint64_t seq, const struct core_record *rec);

/*
 * Steps that were sent and whose rows are not written yet (hold.c): an answer that comes within the same
 * transaction is written together with its call, in one statement instead of two.
 */
struct views_called {
	int64_t seq, time_ms;
	struct core_step_called event;
};
struct views_done {
	int64_t seq, time_ms;
	const struct core_step_done *event;
};
int views_hold_new(struct views_hold **ret) __attribute__((warn_unused_result)); /* -ENOMEM */
void views_hold_free(struct views_hold *h);
/* Keeps a call back; `body` is the event that `e` was decoded from, and is copied. False: there is no room. */
bool views_hold(struct views *v, int64_t seq, int64_t time_ms, const struct core_step_called *e,
	struct base_str body);
/* Writes the row of a call that was kept back, with its result. False: none was. */
bool views_held_done(struct views *v, const struct views_done *done);
/* Writes all that is kept back; must be called before anything else reads or changes these rows. */
void views_hold_flush(struct views *v);
/* Forgets all that is kept back: the transaction is rolled back. */
void views_hold_drop(struct views *v);
/* The row of a step (project.c); `done` may be NULL. */
void views_insert_called(struct views *v, const struct views_called *called, const struct views_done *done);

/* Text for search (text.c): replaces what is known under (kind, key). */
void views_text_put(struct views *v, struct base_str kind, struct base_str key, struct base_str title,
	struct base_str text);
void views_text_remove(struct views *v, struct base_str kind, struct base_str key);
/* The string values of a JSON document, a line each. */
void views_strings(struct base_jv value, struct base_buf *ret);

/* What an event says of who did, was allowed, approved or saw something (audit.c). `body`: that e was decoded from. */
void views_audit(struct views *v, int64_t seq, int64_t time_ms, unsigned type, const union core_event_any *e,
	struct base_str body);

/* Between begin and end, which change no table, queries see what the scope leaves (scope.c). SQLite's codes. */
int views_scope_init(struct views *v);
int views_scope_begin(struct views *v, struct base_jv scope) __attribute__((warn_unused_result));
int views_scope_end(struct views *v) __attribute__((warn_unused_result));
const char *views_scope_table(size_t i); /* the tables that it narrows; NULL behind the last */

/* Answers (query.c, figures.c, text.c, dump.c, audit.c). */
struct views_ask {
	struct views *v;
	struct base_jv params;
	struct base_jw w;
	struct base_buf *out;
	struct base_err *err;
};
struct base_str views_param(const struct views_ask *a, const char *name);
/* A number, or a string of digits. -EINVAL for anything else. */
int views_param_int(const struct views_ask *a, const char *name, int64_t otherwise, int64_t *ret);
/* `limit` within 1 and max. */
int views_param_limit(const struct views_ask *a, int64_t otherwise, int64_t max, int64_t *ret);

/* The current row as members: a column named "x:json" is written as it is, "x:hex" as hex, "x:bool" as a
 * boolean. */
void views_row(struct views_ask *a, sqlite3_stmt *st);
/* A member `name` with an array of an object per row of st (which is bound), at most `limit`; with limit > 0
 * and more rows than that, *ret_last gets the first column of the last row written, else 0. Resets st. */
int views_rows(struct views_ask *a, const char *name, sqlite3_stmt *st, int64_t limit, int64_t *ret_last);
void views_next(struct views_ask *a, int64_t last); /* the member "next" */

int views_ask_runs(struct views_ask *a);
int views_ask_run(struct views_ask *a);
int views_ask_positions(struct views_ask *a);
int views_ask_gates(struct views_ask *a);
int views_ask_history(struct views_ask *a);
int views_ask_documents(struct views_ask *a);
int views_ask_search(struct views_ask *a);
int views_ask_costs(struct views_ask *a);
int views_ask_outcomes(struct views_ask *a);
int views_ask_denied(struct views_ask *a);
int views_ask_audit(struct views_ask *a);
int views_ask_flows(struct views_ask *a);
int views_ask_dump(struct views_ask *a);
