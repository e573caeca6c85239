#include "base/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

/*
 * Parsing and reading. Small documents live in one allocation: this struct and, behind it, the parser's pool.
 */
enum { POOLED_MAX = 4096, PAIRWISE_MAX = 16 };

struct base_json {
	yyjson_doc *doc;
	bool pooled;
	_Alignas(16) char pool[];
};

static yyjson_val *val(struct base_jv v)
{
	union {
		const void *from;
		yyjson_val *to;
	} cast = {v.v};

	return cast.to; /* yyjson's readers take a pointer to non-const and change nothing */
}

static struct base_str text_of(yyjson_val *v)
{
	return (struct base_str){unsafe_yyjson_get_str(v), unsafe_yyjson_get_len(v)};
}

static int key_order(const void *a, const void *b)
{
	return base_str_cmp(text_of(*(yyjson_val *const *)a), text_of(*(yyjson_val *const *)b));
}

static int duplicate(struct base_err *err, yyjson_val *key)
{
	size_t len = unsafe_yyjson_get_len(key);

	return base_err_set(err, -EINVAL, "the key \"%.*s\" stands twice in an object",
		(int)(len < 200 ? len : 200), unsafe_yyjson_get_str(key));
}

static yyjson_val *value_behind(yyjson_val *key)
{
	return unsafe_yyjson_get_next(key + 1);
}

static int unique_sorted(yyjson_val *obj, size_t count, struct base_err *err)
{
	yyjson_val **keys = reallocarray(NULL, count, sizeof(yyjson_val *)),
		   *key = unsafe_yyjson_get_first(obj);
	size_t i;
	int r = 0;

	if (!keys)
		return base_err_set(err, -ENOMEM, "out of memory");
	for (i = 0; i < count; i++, key = value_behind(key))
		keys[i] = key;
	qsort(keys, count, sizeof(yyjson_val *), key_order);
	for (i = 1; i < count && r == 0; i++)
		if (key_order(&keys[i - 1], &keys[i]) == 0)
			r = duplicate(err, keys[i]);
	free(keys);
	return r;
}

/* Keys that ascend, as they do in canonical form, need one pass. */
static int unique(yyjson_val *obj, struct base_err *err)
{
	size_t count = unsafe_yyjson_get_len(obj), i, j;
	yyjson_val *keys[PAIRWISE_MAX], *key = unsafe_yyjson_get_first(obj), *last = NULL;

	for (i = 0; i < count; i++, last = key, key = value_behind(key)) {
		if (last && base_str_cmp(text_of(last), text_of(key)) >= 0)
			break;
	}
	if (i == count)
		return 0;
	if (count > PAIRWISE_MAX)
		return unique_sorted(obj, count, err);
	key = unsafe_yyjson_get_first(obj);
	for (i = 0; i < count; i++, key = value_behind(key)) {
		keys[i] = key;
		for (j = 0; j < i; j++)
			if (base_str_eq(text_of(keys[j]), text_of(key)))
				return duplicate(err, key);
	}
	return 0;
}

static int too_deep(struct base_err *err)
{
	return base_err_set(err, -E2BIG, "nested deeper than %d", BASE_JSON_DEPTH_MAX);
}

static int check(yyjson_val *v, unsigned depth, struct base_err *err)
{
	bool obj = unsafe_yyjson_is_obj(v);
	size_t count = unsafe_yyjson_get_len(v), i;
	yyjson_val *at;
	int r;

	if (depth == BASE_JSON_DEPTH_MAX)
		return too_deep(err);
	if (obj && count > 1) {
		r = unique(v, err);
		if (r < 0)
			return r;
	}
	at = unsafe_yyjson_get_first(v);
	for (i = 0; i < count; i++) {
		at += obj;
		if (unsafe_yyjson_is_ctn(at)) {
			r = check(at, depth + 1, err);
			if (r < 0)
				return r;
		}
		at = unsafe_yyjson_get_next(at);
	}
	return 0;
}

/* Looks at the brackets alone, so that a text that nests too deep is refused before it takes memory. */
static bool nests_deep(struct base_str text)
{
	unsigned depth = 0;
	bool string = false;
	size_t i;

	for (i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		if (string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				string = false;
		} else if (c == '"') {
			string = true;
		} else if (c == '[' || c == '{') {
			if (++depth > BASE_JSON_DEPTH_MAX)
				return true;
		} else if ((c == ']' || c == '}') && depth > 0) {
			depth--;
		}
	}
	return false;
}

static int read_failed(struct base_str text, const yyjson_read_err *e, struct base_err *err)
{
	size_t line = 1, col = 1, chr = 0;

	if (e->code == YYJSON_READ_ERROR_MEMORY_ALLOCATION)
		return base_err_set(err, -ENOMEM, "out of memory");
	if (!err)
		return -EINVAL;
	if (text.len == 0)
		return base_err_set(err, -EINVAL, "line 1, column 1: no JSON value: the text is empty");
	yyjson_locate_pos(text.ptr, text.len, e->pos, &line, &col, &chr);
	return base_err_set(err, -EINVAL, "line %zu, column %zu: %s", line, col, e->msg);
}

static struct base_json *read_small(struct base_str text, yyjson_read_err *e)
{
	size_t size = yyjson_read_max_memory_usage(text.len, YYJSON_READ_NOFLAG);
	struct base_json *d = malloc(sizeof(*d) + size);
	union {
		const char *from;
		char *to;
	} in = {text.ptr};
	yyjson_alc alc;

	if (!d)
		return NULL;
	d->pooled = true;
	yyjson_alc_pool_init(&alc, d->pool, size);
	d->doc = yyjson_read_opts(in.to, text.len, YYJSON_READ_NOFLAG, &alc, e);
	if (!d->doc) {
		free(d);
		return NULL;
	}
	return d;
}

static struct base_json *read_large(struct base_str text, yyjson_read_err *e)
{
	struct base_json *d = malloc(sizeof(*d));
	union {
		const char *from;
		char *to;
	} in = {text.ptr};

	if (!d)
		return NULL;
	d->pooled = false;
	d->doc = yyjson_read_opts(in.to, text.len, YYJSON_READ_NOFLAG, NULL, e);
	if (!d->doc) {
		free(d);
		return NULL;
	}
	return d;
}

int base_json_parse(struct base_str text, struct base_json **ret, struct base_err *err)
{
	yyjson_read_err e = {.code = YYJSON_READ_ERROR_MEMORY_ALLOCATION, .msg = "out of memory"};
	struct base_json *d;
	int r = 0;

	if (text.len == 0) {
		e.code = YYJSON_READ_ERROR_EMPTY_CONTENT;
		return read_failed(text, &e, err);
	}
	if (text.len > POOLED_MAX && nests_deep(text))
		return too_deep(err);
	d = text.len > POOLED_MAX ? read_large(text, &e) : read_small(text, &e);
	if (!d)
		return read_failed(text, &e, err);
	if (unsafe_yyjson_is_ctn(d->doc->root))
		r = check(d->doc->root, 0, err);
	if (r < 0) {
		base_json_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

void base_json_free(struct base_json *d)
{
	if (!d)
		return;
	if (!d->pooled)
		yyjson_doc_free(d->doc);
	free(d);
}

struct base_jv base_json_root(const struct base_json *d)
{
	return (struct base_jv){d ? d->doc->root : NULL};
}

enum base_json_kind base_jv_kind(struct base_jv v)
{
	if (!v.v)
		return BASE_JSON_NONE;
	switch (unsafe_yyjson_get_type(val(v))) {
	case YYJSON_TYPE_NULL:
		return BASE_JSON_NULL;
	case YYJSON_TYPE_BOOL:
		return BASE_JSON_BOOL;
	case YYJSON_TYPE_NUM:
		if (unsafe_yyjson_get_subtype(val(v)) == YYJSON_SUBTYPE_REAL)
			return BASE_JSON_REAL;
		if (unsafe_yyjson_get_subtype(val(v)) == YYJSON_SUBTYPE_UINT &&
			unsafe_yyjson_get_uint(val(v)) > INT64_MAX)
			return BASE_JSON_REAL;
		return BASE_JSON_INT;
	case YYJSON_TYPE_STR:
		return BASE_JSON_STR;
	case YYJSON_TYPE_ARR:
		return BASE_JSON_ARR;
	case YYJSON_TYPE_OBJ:
		return BASE_JSON_OBJ;
	default:
		return BASE_JSON_NONE;
	}
}

struct base_jv base_jv_get(struct base_jv obj, const char *key)
{
	return base_jv_get_str(obj, base_str_of(key));
}

struct base_jv base_jv_get_str(struct base_jv obj, struct base_str key)
{
	size_t count, i;
	yyjson_val *at;

	if (!obj.v || !unsafe_yyjson_is_obj(val(obj)))
		return (struct base_jv){NULL};
	count = unsafe_yyjson_get_len(val(obj));
	at = unsafe_yyjson_get_first(val(obj));
	for (i = 0; i < count; i++, at = value_behind(at))
		if (unsafe_yyjson_get_len(at) == key.len &&
			(key.len == 0 || memcmp(unsafe_yyjson_get_str(at), key.ptr, key.len) == 0))
			return (struct base_jv){at + 1};
	return (struct base_jv){NULL};
}

struct base_jv base_jv_at(struct base_jv arr, size_t i)
{
	return (struct base_jv){arr.v ? yyjson_arr_get(val(arr), i) : NULL};
}

size_t base_jv_len(struct base_jv v)
{
	return v.v && unsafe_yyjson_is_ctn(val(v)) ? unsafe_yyjson_get_len(val(v)) : 0;
}

struct base_str base_jv_str(struct base_jv v)
{
	return v.v && unsafe_yyjson_is_str(val(v)) ? text_of(val(v)) : BASE_STR_NONE;
}

int64_t base_jv_int(struct base_jv v, int64_t otherwise)
{
	return base_jv_kind(v) == BASE_JSON_INT ? unsafe_yyjson_get_sint(val(v)) : otherwise;
}

double base_jv_real(struct base_jv v, double otherwise)
{
	return v.v && unsafe_yyjson_is_num(val(v)) ? yyjson_get_num(val(v)) : otherwise;
}

bool base_jv_bool(struct base_jv v, bool otherwise)
{
	return v.v && unsafe_yyjson_is_bool(val(v)) ? unsafe_yyjson_get_bool(val(v)) : otherwise;
}

bool base_jv_next(struct base_jv v, struct base_jv_iter *it, struct base_str *ret_key, struct base_jv *ret)
{
	yyjson_val *at;

	if (it->i >= base_jv_len(v))
		return false;
	at = it->i == 0 ? unsafe_yyjson_get_first(val(v)) : val((struct base_jv){it->next});
	if (unsafe_yyjson_is_obj(val(v))) {
		if (ret_key)
			*ret_key = text_of(at);
		at++;
	} else if (ret_key) {
		*ret_key = BASE_STR_NONE;
	}
	if (ret)
		*ret = (struct base_jv){at};
	it->next = unsafe_yyjson_get_next(at);
	it->i++;
	return true;
}
