/* Search: documents in chunks and the string values of current facts, in one full-text index. */
#include <errno.h>
#include <string.h>

#include "views/views_int.h"

enum {
	CHUNK_MIN = 600, /* a paragraph's end behind this ends a chunk */
	CHUNK_MAX = 2000,
	TERMS_MAX = 32,
	TERM_MAX = 64,
	QUERY_MAX = 4096,
	OVERSAMPLE = 8, /* rows looked at per hit, since several chunks may be of one document */
};

/* --- into the index --- */

void views_text_remove(struct views *v, struct base_str kind, struct base_str key)
{
	views_run(v, "DELETE FROM fts WHERE rowid IN (SELECT id FROM texts WHERE kind = ?1 AND key = ?2)",
		"ss", kind, key);
	views_run(v, "DELETE FROM texts WHERE kind = ?1 AND key = ?2", "ss", kind, key);
}

static bool continues(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Length of the first chunk of s: up to the end of a paragraph, else of a line, a word, a character. */
static size_t chunk_len(struct base_str s)
{
	size_t line = 0, word = 0, end = CHUNK_MAX;

	if (s.len <= CHUNK_MAX)
		return s.len;
	for (size_t i = CHUNK_MIN; i < CHUNK_MAX; i++) {
		if (s.ptr[i] == '\n' && s.ptr[i - 1] == '\n')
			return i + 1;
		if (s.ptr[i] == '\n')
			line = i + 1;
		else if (s.ptr[i] == ' ')
			word = i + 1;
	}
	if (line || word)
		return line ? line : word;
	while (end > CHUNK_MIN && continues(s.ptr[end]))
		end--;
	return end;
}

void views_text_put(struct views *v, struct base_str kind, struct base_str key, struct base_str title,
	struct base_str text)
{
	int64_t chunk = 0;

	views_text_remove(v, kind, key);
	while (text.len && v->rc == SQLITE_OK) {
		size_t n = chunk_len(text);

		views_run(v, "INSERT INTO texts(kind, key, chunk, title) VALUES(?1,?2,?3,?4)", "ssis", kind,
			key, chunk++, title);
		views_run(v, "INSERT INTO fts(rowid, title, body) VALUES(?1,?2,?3)", "iss",
			(int64_t)sqlite3_last_insert_rowid(v->db), title, base_str_sub(text, 0, n));
		text = base_str_sub(text, n, text.len);
	}
}

void views_strings(struct base_jv value, struct base_buf *ret)
{
	struct base_jv_iter it = {0};
	struct base_str key, s;
	struct base_jv item;

	switch (base_jv_kind(value)) {
	case BASE_JSON_STR:
		s = base_jv_str(value);
		if (s.len) {
			base_buf_str(ret, s);
			base_buf_char(ret, '\n');
		}
		break;
	case BASE_JSON_ARR:
	case BASE_JSON_OBJ:
		while (base_jv_next(value, &it, &key, &item))
			views_strings(item, ret);
		break;
	default:
		break;
	}
}

/* --- out of it --- */

static bool is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (unsigned char)c >= 0x80;
}

/* The words of a question as quoted terms joined by OR: nothing of the query language is left in them. */
static unsigned match_of(struct base_str query, struct base_buf *ret)
{
	unsigned terms = 0;

	for (size_t i = 0; i < query.len && terms < TERMS_MAX;) {
		size_t start = i, len;

		while (i < query.len && is_word(query.ptr[i]))
			i++;
		len = i - start;
		if (len == 0) {
			i++;
			continue;
		}
		if (len > TERM_MAX)
			continue;
		base_buf_cstr(ret, terms++ ? " OR \"" : "\"");
		base_buf_str(ret, base_str_sub(query, start, len));
		base_buf_char(ret, '"');
	}
	return terms;
}

static void put_hit(struct views_ask *a, sqlite3_stmt *st)
{
	base_jw_obj(&a->w);
	base_jw_mstr(&a->w, "id", views_column(st, 1));
	base_jw_mstr(&a->w, "kind", views_column(st, 0));
	base_jw_mstr(&a->w, "title", views_column(st, 2));
	base_jw_mstr(&a->w, "text", views_column(st, 3));
	base_jw_key(&a->w, "score");
	base_jw_real(&a->w, -sqlite3_column_double(st, 4));
	base_jw_key(&a->w, "labels");
	views_put_labels(&a->w, sqlite3_column_int64(st, 5));
	base_jw_end_obj(&a->w);
}

enum { SEARCH_MAX = 100 };

struct seen {
	uint64_t keys[SEARCH_MAX]; /* hashes of (kind, key) */
	int64_t count;
};

static bool is_new(struct seen *seen, sqlite3_stmt *st)
{
	struct base_hash h = base_hash_of2(views_column(st, 0), views_column(st, 1));
	uint64_t key;

	memcpy(&key, h.b, sizeof(key));
	for (int64_t i = 0; i < seen->count; i++)
		if (seen->keys[i] == key)
			return false;
	seen->keys[seen->count++] = key;
	return true;
}

static int put_hits(struct views_ask *a, sqlite3_stmt *st, int64_t limit)
{
	struct seen seen = {.count = 0};
	int rc = SQLITE_DONE;

	while (seen.count < limit && (rc = sqlite3_step(st)) == SQLITE_ROW)
		if (is_new(&seen, st))
			put_hit(a, st);
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : views_error(a->v, rc, a->err);
}

int views_ask_search(struct views_ask *a)
{
	static const char sql[] = "SELECT t.kind, t.key, t.title, fts.body, bm25(fts, 4.0, 1.0) AS rank_,"
				  " CASE t.kind WHEN 'fact' THEN (SELECT f.labels FROM facts f WHERE f.key = "
				  "t.key ORDER BY f.version DESC LIMIT 1)"
				  " ELSE (SELECT d.labels FROM documents d WHERE d.id = t.key) END"
				  " FROM fts JOIN texts t ON t.id = fts.rowid"
				  " WHERE fts MATCH ?1 AND substr(t.key, 1, length(?2)) = ?2"
				  " ORDER BY rank_, t.kind, t.key, t.chunk LIMIT ?3";
	struct base_str query = views_param(a, "query"), prefix = views_param(a, "prefix");
	struct base_buf match;
	int64_t limit = 0;
	sqlite3_stmt *st;
	int r = views_param_limit(a, 10, SEARCH_MAX, &limit);

	if (r < 0)
		return r;
	query = base_str_sub(query, 0, QUERY_MAX);
	if (!base_utf8_valid(query) && query.len < QUERY_MAX)
		return base_err_set(a->err, -EINVAL, "the query is not valid UTF-8");
	base_buf_init(&match, 4 * QUERY_MAX);
	base_jw_obj(&a->w);
	base_jw_key(&a->w, "hits");
	base_jw_arr(&a->w);
	if (match_of(query, &match) > 0) {
		st = views_prepare(a->v, sql);
		if (!st ||
			views_bind(st, "ssi", base_buf_view(&match), prefix, limit * OVERSAMPLE) != SQLITE_OK)
			r = views_error(a->v, a->v->rc, a->err);
		else
			r = put_hits(a, st, limit);
	}
	base_jw_end_arr(&a->w);
	base_jw_end_obj(&a->w);
	base_buf_done(&match);
	return r;
}
