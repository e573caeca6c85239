/*
 * What a reader with a scope is answered from: views of the same names before the tables, which the queries then mean
 * without knowing it. A table that has none here would be seen whole: test_scope walks the schema.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "views/views_int.h"

/* table, what is left of it. */
#define OF_RUN " WHERE EXISTS (SELECT 1 FROM temp.runs r WHERE r.run = t.run)"
static const struct {
	const char *table, *where;
} narrowed[] = {
	{"runs", " WHERE aios_sees_run(t.payer, t.by_, t.origin)"},
	{"steps", OF_RUN},
	{"rollbacks", OF_RUN},
	{"undone", OF_RUN},
	{"gates", OF_RUN},
	{"charges", OF_RUN},
	{"choices", OF_RUN},
	{"outcomes", OF_RUN},
	{"signals", OF_RUN},
	{"logs", OF_RUN},
	{"facts", " WHERE aios_sees_key(t.key)"},
	{"documents", " WHERE aios_sees_key(t.id)"},
	{"texts", " WHERE aios_sees_key(t.key)"},
	{"flows", " WHERE aios_sees_flow(t.flow)"},
	{"experiments", " WHERE 0"},
	{"denied", " WHERE 0"},
	{"audit", " WHERE 0"},
};
enum { NARROWED = sizeof(narrowed) / sizeof(narrowed[0]) };

const char *views_scope_table(size_t i)
{
	return i < NARROWED ? narrowed[i].table : NULL;
}

static struct base_str text_of(sqlite3_value *v)
{
	const unsigned char *s = sqlite3_value_text(v);

	return s ? (struct base_str){(const char *)s, (size_t)sqlite3_value_bytes(v)} : BASE_STR_NONE;
}

/* Every list of patterns has one that matches. */
static bool sees_flow(struct base_jv scope, struct base_str flow)
{
	struct base_jv_iter it = {0}, jt;
	struct base_str key;
	struct base_jv list, v;
	bool ok = true, match;

	while (ok && base_jv_next(base_jv_get(scope, "flows"), &it, &key, &list)) {
		match = false;
		jt = (struct base_jv_iter){0};
		while (!match && base_jv_next(list, &jt, &key, &v))
			match = base_str_matches(base_jv_str(v), flow);
		ok = match;
	}
	return ok;
}

static void fn_flow(sqlite3_context *x, int n, sqlite3_value **v)
{
	const struct views *views = sqlite3_user_data(x);

	(void)n;
	sqlite3_result_int(x, sees_flow(views->scope, text_of(v[0])));
}

static void fn_run(sqlite3_context *x, int n, sqlite3_value **v)
{
	const struct views *views = sqlite3_user_data(x);
	struct base_jv own = base_jv_get(views->scope, "own");
	bool mine = base_jv_kind(own) != BASE_JSON_STR || base_str_eq(base_jv_str(own), text_of(v[1])) ||
		    base_str_eq(base_jv_str(own), text_of(v[2]));

	(void)n;
	sqlite3_result_int(x, mine && sees_flow(views->scope, text_of(v[0])));
}

static void fn_key(sqlite3_context *x, int n, sqlite3_value **v)
{
	const struct views *views = sqlite3_user_data(x);
	struct base_jv list = base_jv_get(views->scope, "memory"), item;
	bool ok = base_jv_kind(list) != BASE_JSON_ARR;
	struct base_jv_iter it = {0};
	struct base_str key;

	(void)n;
	while (!ok && base_jv_next(list, &it, &key, &item))
		ok = base_str_starts(text_of(v[0]), base_jv_str(item));
	sqlite3_result_int(x, ok);
}

int views_scope_init(struct views *v)
{
	static const struct {
		const char *name;
		int args;
		void (*fn)(sqlite3_context *, int, sqlite3_value **);
	} functions[] = {
		{"aios_sees_run", 3, fn_run}, {"aios_sees_flow", 1, fn_flow}, {"aios_sees_key", 1, fn_key}};
	int rc = SQLITE_OK;

	for (size_t i = 0; rc == SQLITE_OK && i < sizeof(functions) / sizeof(functions[0]); i++)
		rc = sqlite3_create_function(v->db, functions[i].name, functions[i].args,
			SQLITE_UTF8 | SQLITE_INNOCUOUS, v, functions[i].fn, NULL, NULL);
	return rc;
}

static int exec_all(struct views *v, bool begin)
{
	struct base_buf sql;
	int rc = SQLITE_NOMEM;

	base_buf_init(&sql, 1 << 16);
	for (size_t i = 0; i < NARROWED; i++)
		if (begin)
			base_buf_printf(&sql, "CREATE TEMP VIEW %s AS SELECT t.* FROM main.%s t%s;",
				narrowed[i].table, narrowed[i].table, narrowed[i].where);
		else
			base_buf_printf(&sql, "DROP VIEW IF EXISTS temp.%s;", narrowed[i].table);
	base_buf_char(&sql, '\0');
	if (!base_buf_failed(&sql))
		rc = sqlite3_exec(v->db, sql.ptr, NULL, NULL, NULL);
	base_buf_done(&sql);
	return rc;
}

int views_scope_begin(struct views *v, struct base_jv scope)
{
	int rc;

	v->scope = scope;
	rc = exec_all(v, true);
	if (rc != SQLITE_OK)
		BASE_CHECK(views_scope_end(v) == SQLITE_OK);
	return rc;
}

int views_scope_end(struct views *v)
{
	v->scope = (struct base_jv){0};
	return exec_all(v, false);
}
