/* A policy in several files: they become one, and a fault is told by its place in the file that has it. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "core/policy_int.h"

enum { NAMES_MAX = 256 };

static size_t length_of(struct base_str json, const char *member, size_t len)
{
	struct base_json *doc;
	size_t n;

	if (base_json_parse(json, &doc, NULL) < 0)
		return 0;
	n = base_jv_len(base_jv_get_str(base_json_root(doc), (struct base_str){member, len}));
	base_json_free(doc);
	return n;
}

static bool has_counter(struct base_str json, const char *at, size_t len)
{
	struct base_json *doc;
	bool has;

	if (base_json_parse(json, &doc, NULL) < 0)
		return false;
	has = base_jv_kind(base_jv_get_str(base_jv_get(base_json_root(doc), "counters"),
		      (struct base_str){at, len})) != BASE_JSON_NONE;
	base_json_free(doc);
	return has;
}

/* Puts "/MEMBER/INDEX" in the place of what stands before `rest`. */
static void place_put(char *at, size_t size, struct base_str member, size_t index, struct base_str rest)
{
	struct base_buf b;
	struct base_str text;

	base_buf_init(&b, size + 64);
	base_buf_printf(&b, "/%.*s/%zu%.*s", BASE_STR_ARG(member), index, BASE_STR_ARG(rest));
	text = base_str_sub(base_buf_view(&b), 0, size - 1);
	memcpy(at, text.ptr, text.len);
	at[text.len] = 0;
	base_buf_done(&b);
}

size_t core_policy_file_of(const struct base_str *json, size_t count, char *at, size_t size)
{
	struct base_str text = base_str_of(at), head, member, number, rest;
	uint64_t index;

	(void)base_str_cut(text, '/', &head, &text);
	(void)base_str_cut(text, '/', &member, &text);
	(void)base_str_cut(text, '/', &number, &rest);
	if (base_str_is(member, "counters")) {
		for (size_t i = count; i-- > 0;)
			if (has_counter(json[i], number.ptr, number.len))
				return i;
		return 0;
	}
	if (base_str_u64(number, &index) < 0)
		return 0;
	rest = base_str_sub(text, number.len, text.len);
	for (size_t i = 0; i < count; i++) {
		size_t here = length_of(json[i], member.ptr, member.len);

		if (index < here) {
			place_put(at, size, member, index, rest);
			return i;
		}
		index -= here;
	}
	return 0;
}

struct join {
	struct base_arena *arena;
	struct base_json **doc;
	size_t count;
	struct base_jw w;
};

static void join_lists(struct join *k, const char *member, bool always)
{
	bool begun = false;
	struct base_jv v;

	for (size_t i = 0; i < k->count; i++) {
		struct base_jv list = base_jv_get(base_json_root(k->doc[i]), member);
		struct base_jv_iter it = {0};
		struct base_str none;

		if (base_jv_kind(list) != BASE_JSON_ARR && !(always && i == 0))
			continue;
		if (!begun) {
			base_jw_key(&k->w, member);
			base_jw_arr(&k->w);
			begun = true;
		}
		while (base_jv_next(list, &it, &none, &v))
			base_jw_value(&k->w, v);
	}
	if (begun)
		base_jw_end_arr(&k->w);
}

static int join_counters(struct join *k, size_t *ret_file, struct core_fault *fault)
{
	bool begun = false;
	struct base_str name;
	struct base_jv v;

	for (size_t i = 0; i < k->count; i++) {
		struct base_jv_iter it = {0};

		while (base_jv_next(base_jv_get(base_json_root(k->doc[i]), "counters"), &it, &name, &v)) {
			for (size_t n = 0; n < i; n++) {
				if (base_jv_kind(base_jv_get_str(
					    base_jv_get(base_json_root(k->doc[n]), "counters"), name)) ==
					BASE_JSON_NONE)
					continue;
				*ret_file = i;
				return core_fault_set(fault,
					BASE_JOIN(k->arena, BASE_STR("/counters/"), name),
					"this counter stands in another file too");
			}
			if (!begun) {
				base_jw_key(&k->w, "counters");
				base_jw_obj(&k->w);
				begun = true;
			}
			base_jw_key_str(&k->w, name);
			base_jw_value(&k->w, v);
		}
	}
	if (begun)
		base_jw_end_obj(&k->w);
	return 0;
}

/* What only a whole policy file may be: an object with known members. */
static int join_all(struct join *k, struct base_buf *raw, size_t *ret_file, struct core_fault *fault)
{
	static const char *const known[] = {"rules", "counters", "tests"};
	struct base_str key;
	struct base_jv v;

	for (size_t i = 0; i < k->count; i++) {
		struct base_jv root = base_json_root(k->doc[i]);
		struct base_jv_iter it = {0};

		*ret_file = i;
		if (base_jv_kind(root) != BASE_JSON_OBJ)
			return base_err_set(&fault->err, -EINVAL, "a policy is a map with `rules`");
		while (base_jv_next(root, &it, &key, &v)) {
			bool ok = false;

			for (size_t n = 0; n < sizeof(known) / sizeof(known[0]); n++)
				ok |= base_str_is(key, known[n]) &&
				      base_jv_kind(v) == (n == 1 ? BASE_JSON_OBJ : BASE_JSON_ARR);
			if (ok)
				continue;
			return core_fault_set(fault, BASE_JOIN(k->arena, BASE_STR("/"), key),
				"a policy has `rules` and `tests`, which are lists, and `counters`, a map");
		}
	}
	k->w = base_jw_of(raw);
	base_jw_obj(&k->w);
	if (join_counters(k, ret_file, fault) < 0)
		return -EINVAL;
	join_lists(k, "rules", true);
	join_lists(k, "tests", false);
	base_jw_end_obj(&k->w);
	return base_buf_failed(raw);
}

int core_policy_join(const struct base_str *json, size_t count, struct base_buf *ret, size_t *ret_file,
	struct core_fault *fault)
{
	struct base_arena *arena;
	struct join k = {.count = 0};
	struct base_buf raw;
	int r = 0;

	*fault = (struct core_fault){.line = 0};
	*ret_file = 0;
	if (base_arena_new(1 << 20, &arena) < 0)
		return -ENOMEM;
	k.arena = arena;
	k.doc = base_arena_array(arena, count + 1, sizeof(*k.doc));
	BASE_CHECK(k.doc);
	base_buf_init(&raw, 64 << 20);
	for (; r == 0 && k.count < count; k.count += r == 0) {
		*ret_file = k.count;
		r = base_json_parse(json[k.count], &k.doc[k.count], &fault->err);
	}
	if (r == 0)
		r = join_all(&k, &raw, ret_file, fault);
	if (r == 0)
		r = base_json_canon(base_buf_view(&raw), ret, &fault->err);
	for (size_t i = 0; i < k.count; i++)
		base_json_free(k.doc[i]);
	base_buf_done(&raw);
	base_arena_free(arena);
	return r;
}

/* --- places --- */

/* The nearest value around a place that stands in the file: ["line","column","exact"]. */
static struct base_jv mark_of(struct base_jv marks, struct base_str at, bool *ret_itself)
{
	struct base_jv v;

	*ret_itself = true;
	for (;;) {
		v = base_jv_get_str(marks, at);
		if (base_jv_kind(v) == BASE_JSON_ARR || at.len == 0)
			return v;
		*ret_itself = false;
		while (at.len && at.ptr[at.len - 1] != '/')
			at.len--;
		at.len -= at.len > 0;
	}
}

/* "then: ", the member that a place ends with; nothing for an element of a list. */
static void put_member(struct base_buf *ret, struct base_str at)
{
	size_t from = at.len;
	uint64_t index;

	while (from > 0 && at.ptr[from - 1] != '/')
		from--;
	at = base_str_sub(at, from, at.len);
	if (at.len && base_str_u64(at, &index) < 0)
		base_buf_printf(ret, "%.*s: ", BASE_STR_ARG(at));
}

static void tell(const struct core_policy_file *file, const struct core_fault *fault, struct base_buf *ret)
{
	struct base_json *doc = NULL;
	struct base_jv mark;
	int64_t line, column;
	bool itself, exact;
	struct base_buf text;
	struct base_jw w = base_jw_of(ret);

	BASE_CHECK(base_json_parse(file->parsed, &doc, NULL) == 0);
	mark = mark_of(base_jv_get(base_json_root(doc), "marks"), base_str_of(fault->at), &itself);
	line = base_jv_int(base_jv_at(mark, 0), 1);
	column = base_jv_int(base_jv_at(mark, 1), 1);
	exact = base_jv_int(base_jv_at(mark, 2), 0) && itself && fault->line;
	base_buf_init(&text, 4096);
	put_member(&text, base_str_of(fault->at));
	base_buf_cstr(&text, fault->err.text);
	if (exact) {
		line += (int64_t)fault->line - 1;
		column += (int64_t)fault->column - 1;
	} else if (fault->line) {
		base_buf_printf(
			&text, " (line %zu, column %zu of the expression)", fault->line, fault->column);
	}
	base_jw_obj(&w);
	base_jw_mstr(&w, "file", file->name);
	base_jw_mint(&w, "line", line);
	base_jw_mint(&w, "column", column);
	base_jw_mstr(&w, "message", base_buf_view(&text));
	base_jw_end_obj(&w);
	base_buf_done(&text);
	base_json_free(doc);
}

static int value_of(struct base_str parsed, struct base_arena *arena, struct base_str *ret)
{
	struct base_json *doc;
	struct base_buf b;
	int r = base_json_parse(parsed, &doc, NULL);

	if (r < 0)
		return r;
	base_buf_init(&b, 64 << 20);
	base_jv_write(base_jv_get(base_json_root(doc), "value"), &b);
	*ret = core_buf_to_arena(arena, &b);
	base_json_free(doc);
	return 0;
}

int core_policy_read(const struct core_policy_file *files, size_t count, struct base_buf *ret,
	unsigned *ret_tests, struct base_buf *ret_problem)
{
	struct base_arena *arena;
	struct core_fault fault = {.line = 0};
	struct base_str *json;
	size_t file = 0;
	int r = 0;

	if (count == 0 || count > NAMES_MAX) {
		base_buf_cstr(ret_problem, "{\"message\":\"a policy has 1 to 256 files\"}");
		return -EINVAL;
	}
	if (base_arena_new(256 << 20, &arena) < 0)
		return -ENOMEM;
	json = base_arena_array(arena, count, sizeof(*json));
	BASE_CHECK(json);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = value_of(files[i].parsed, arena, &json[i]);
	if (r == 0)
		r = core_policy_join(json, count, ret, &file, &fault);
	if (r == 0) {
		r = core_policy_check(base_buf_view(ret), &fault, ret_tests);
		if (r < 0)
			file = core_policy_file_of(json, count, fault.at, sizeof(fault.at));
	}
	if (r < 0)
		tell(&files[file], &fault, ret_problem);
	base_arena_free(arena);
	return r;
}
