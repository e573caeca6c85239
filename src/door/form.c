#include <errno.h>

#include "door/door_int.h"

/* Browsers send CRLF for a line's end in a text area. */
static void put_text(struct base_str s, struct base_buf *ret)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if (s.ptr[i] != '\r' || i + 1 == s.len || s.ptr[i + 1] != '\n')
			base_buf_char(ret, s.ptr[i]);
}

static int put_value(
	struct base_jw *w, bool json, struct base_str value, struct base_buf *scratch, struct base_err *err)
{
	struct base_json *doc;
	int r;

	base_buf_clear(scratch);
	put_text(value, scratch);
	if (base_buf_failed(scratch))
		return base_err_set(err, base_buf_failed(scratch), "out of memory");
	if (!json) {
		base_jw_str(w, base_buf_view(scratch));
		return 0;
	}
	r = base_json_parse(base_buf_view(scratch), &doc, err);
	if (r < 0)
		return r;
	base_jw_raw(w, base_buf_view(scratch));
	base_json_free(doc);
	return 0;
}

/* "text:NAME" and "json:NAME" fields make an object, "text" or "json" alone is the whole value. */
static bool edit_field(struct base_str field, bool *ret_json, struct base_str *ret_name)
{
	struct base_str kind, name;
	bool named = base_str_cut(field, ':', &kind, &name);

	if (!base_str_is(kind, "text") && !base_str_is(kind, "json"))
		return false;
	*ret_json = base_str_is(kind, "json");
	*ret_name = named ? name : BASE_STR_NONE;
	return !named || name.len > 0;
}

static bool name_twice(const struct door_pairs *p, unsigned at, struct base_str name)
{
	struct base_str other;
	bool json;
	unsigned i;

	for (i = 0; i < at; i++)
		if (edit_field(p->at[i].name, &json, &other) && base_str_eq(other, name))
			return true;
	return false;
}

static int write_value(
	const struct door_pairs *p, struct base_jw *w, struct base_buf *scratch, struct base_err *err)
{
	struct base_str name;
	bool json, open = false;
	unsigned i, n = 0;
	int r;

	for (i = 0; i < p->count; i++) {
		if (!edit_field(p->at[i].name, &json, &name))
			continue;
		if (name_twice(p, i, name) || (n > 0 && (name.len == 0 || !open)))
			return base_err_set(err, -EINVAL, "field %.*s: the edited value comes twice",
				BASE_STR_ARG(p->at[i].name));
		if (n++ == 0)
			base_jw_key(w, "value");
		if (name.len > 0 && !open) {
			base_jw_obj(w);
			open = true;
		}
		if (name.len > 0)
			base_jw_key_str(w, name);
		r = put_value(w, json, p->at[i].value, scratch, err);
		if (r < 0) {
			base_err_prefix(err, "field %.*s", BASE_STR_ARG(p->at[i].name));
			return r;
		}
	}
	if (open)
		base_jw_end_obj(w);
	return 0;
}

int door_form_plain(
	struct base_str form, struct door_pairs *pairs, struct base_buf *ret, struct base_err *err)
{
	static const char *const names[] = {"csrf", "answer", "id", "token", "password", "code"};
	struct base_jw w = base_jw_of(ret);
	int r = door_pairs_parse(form, pairs, err);

	if (r < 0) {
		base_err_prefix(err, "form");
		return r;
	}
	base_jw_obj(&w);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (door_pairs_get(pairs, names[i]).ptr)
			base_jw_mstr(&w, names[i], door_pairs_get(pairs, names[i]));
	base_jw_end_obj(&w);
	return base_buf_failed(ret) ? base_err_set(err, base_buf_failed(ret), "form: too large") : 0;
}

int door_form_json(struct base_str form, struct door_pairs *pairs, struct base_buf *ret, struct base_err *err)
{
	static const char *const plain[] = {"csrf", "shown", "answer", "reason", "assertion"};
	struct base_jw w = base_jw_of(ret);
	struct base_str answer;
	struct base_buf scratch;
	unsigned i;
	int r;

	r = door_pairs_parse(form, pairs, err);
	if (r < 0) {
		base_err_prefix(err, "form");
		return r;
	}
	answer = door_pairs_get(pairs, "answer");
	if (answer.len == 0)
		return base_err_set(err, -EINVAL, "form: no answer");
	base_jw_obj(&w);
	for (i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		if (door_pairs_get(pairs, plain[i]).ptr)
			base_jw_mstr(&w, plain[i], door_pairs_get(pairs, plain[i]));
	base_buf_init(&scratch, 4 << 20);
	if (base_str_is(answer, "edit") || base_str_is(answer, "happened"))
		r = write_value(pairs, &w, &scratch, err);
	base_buf_done(&scratch);
	base_jw_end_obj(&w);
	if (r == 0 && base_buf_failed(ret))
		r = base_err_set(err, base_buf_failed(ret), "form: too large");
	return r;
}
