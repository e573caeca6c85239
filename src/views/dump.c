/* The ordered logical dump: every table in the order of its key, folded into one hash. */
#include <errno.h>
#include <string.h>

#include "views/views_int.h"

static const struct {
	const char *name;
	const char *sql;
} tables[] = {
	{"bodies", "SELECT * FROM bodies ORDER BY hash"},
	{"runs", "SELECT * FROM runs ORDER BY run"},
	{"steps", "SELECT * FROM steps ORDER BY run, step"},
	{"gates", "SELECT * FROM gates ORDER BY gate"},
	{"charges", "SELECT * FROM charges ORDER BY seq"},
	{"facts", "SELECT * FROM facts ORDER BY key, version"},
	{"documents", "SELECT * FROM documents ORDER BY id"},
	{"texts", "SELECT t.kind, t.key, t.chunk, t.title, fts.title, fts.body FROM texts t"
		  " LEFT JOIN fts ON fts.rowid = t.id ORDER BY t.kind, t.key, t.chunk"},
	{"choices", "SELECT * FROM choices ORDER BY seq"},
	{"experiments", "SELECT * FROM experiments ORDER BY experiment"},
	{"outcomes", "SELECT * FROM outcomes ORDER BY seq"},
	{"denied", "SELECT * FROM denied ORDER BY seq"},
	{"flows", "SELECT * FROM flows ORDER BY flow, seq"},
	{"signals", "SELECT * FROM signals ORDER BY seq"},
	{"logs", "SELECT * FROM logs ORDER BY seq"},
	{"audit", "SELECT * FROM audit ORDER BY id"},
};

/* Type and length before each value: no two rows look alike. */
static void put_value(struct base_buf *b, sqlite3_stmt *st, int i)
{
	int type = sqlite3_column_type(st, i);

	base_buf_char(b, (char)type);
	switch (type) {
	case SQLITE_INTEGER:
		base_put_i64(b, sqlite3_column_int64(st, i));
		break;
	case SQLITE_NULL:
		break;
	default:
		base_put_str(b, views_column(st, i));
	}
}

static int fold_table(
	struct views_ask *a, const char *name, const char *sql, struct base_hash *hash, int64_t *rows)
{
	sqlite3_stmt *st = views_prepare(a->v, sql);
	struct base_buf row;
	int rc = SQLITE_ROW;

	if (!st)
		return views_error(a->v, a->v->rc, a->err);
	base_buf_init(&row, SIZE_MAX);
	base_buf_cstr(&row, name);
	while (rc == SQLITE_ROW) {
		*hash = base_hash_of2(
			(struct base_str){(const char *)hash->b, sizeof(hash->b)}, base_buf_view(&row));
		base_buf_clear(&row);
		rc = sqlite3_step(st);
		for (int i = 0; rc == SQLITE_ROW && i < sqlite3_column_count(st); i++)
			put_value(&row, st, i);
		*rows += rc == SQLITE_ROW;
		if (base_buf_failed(&row))
			rc = SQLITE_NOMEM;
	}
	base_buf_done(&row);
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : views_error(a->v, rc, a->err);
}

int views_ask_dump(struct views_ask *a)
{
	struct base_hash hash = {{0}};
	int64_t rows = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(tables) / sizeof(tables[0]); i++)
		r = fold_table(a, tables[i].name, tables[i].sql, &hash, &rows);
	if (r < 0)
		return r;
	base_jw_obj(&a->w);
	base_jw_mhash(&a->w, "hash", &hash);
	base_jw_mint(&a->w, "seq", (int64_t)views_seq(a->v));
	base_jw_mint(&a->w, "rows", rows);
	base_jw_end_obj(&a->w);
	return 0;
}
