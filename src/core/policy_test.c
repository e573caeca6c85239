/* A policy is checked: it is read, and the tests that it carries are run. Several files become one. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "core/policy_int.h"

enum { ARENA_MAX = 64 << 20, NANO = 1000000000 };

/* history: {NAME: number} of counters, and of limits by the names of their rules. */
static int64_t told(void *userdata, const struct core_counter *k, struct base_str key, int64_t now_ms)
{
	const struct base_jv *history = userdata;
	struct base_str name = k->name;
	struct base_jv v;
	int64_t n = 0;

	(void)key;
	(void)now_ms;
	if (base_str_starts(name, BASE_STR("limit:")))
		name = base_str_sub(name, 6, name.len);
	v = base_jv_get_str(*history, name);
	if (!k->sum)
		return base_jv_int(v, 0);
	(void)core_nano_of((struct cel_value){.kind = CEL_DOUBLE, .as.d = base_jv_real(v, 0)}, &n);
	return n;
}

static uint8_t labels_of(struct base_jv list)
{
	uint8_t labels = 0;

	for (size_t i = 0; i < base_jv_len(list); i++)
		labels |= base_str_is(base_jv_str(base_jv_at(list, i)), "private") ? CORE_LABEL_PRIVATE
										   : CORE_LABEL_UNTRUSTED;
	return labels;
}

static struct base_str written(struct base_jv v, struct base_arena *arena)
{
	struct base_buf b;

	if (base_jv_kind(v) != BASE_JSON_OBJ)
		return BASE_STR_NONE;
	base_buf_init(&b, 16 << 20);
	base_jv_write(v, &b);
	return core_buf_to_arena(arena, &b);
}

static int failed(struct base_arena *arena, struct core_fault *fault, uint32_t index, const char *member,
	struct base_str name, const char *why)
{
	return core_fault_set(fault, base_arena_printf(arena, "/tests/%u%s", index, member),
		"the test%s%.*s%s fails: %s", name.len ? " \"" : "", BASE_STR_ARG(name), name.len ? "\"" : "",
		why);
}

static int run_test(const struct core_policy *p, struct base_jv v, uint32_t index, struct base_arena *arena,
	struct core_fault *fault)
{
	struct base_str as = base_jv_str(base_jv_get(v, "principal")),
			rule = base_jv_str(base_jv_get(v, "rule")),
			expect = base_jv_str(base_jv_get(v, "expect")),
			cost = base_jv_str(base_jv_get(v, "cost"));
	struct base_jv history = base_jv_get(v, "history"), run = base_jv_get(v, "run");
	struct base_json *empty;
	struct core_case of = {.as = as.len ? as : BASE_STR("flow/test"),
		.action = base_jv_str(base_jv_get(v, "action")),
		.args = base_jv_get(v, "args"),
		.flow = base_jv_str(base_jv_get(run, "flow")),
		.agent = base_jv_str(base_jv_get(run, "agent")),
		.run = (uint64_t)base_jv_int(base_jv_get(run, "id"), 1),
		.labels = labels_of(base_jv_get(v, "labels")),
		.customer = BASE_STR("test"),
		.customer_fact = written(base_jv_get(v, "customer"), arena),
		.confidence = (int64_t)(base_jv_real(base_jv_get(v, "confidence"), 0) * 1000 + 0.5)};
	struct base_str name = base_jv_str(base_jv_get(v, "name")), why;
	struct core_scene s;
	struct core_judged j;

	if (cost.len && base_money_parse(cost, &of.cost, NULL) < 0)
		return failed(arena, fault, index, "/cost", name, "`cost` is an amount such as \"0.50 USD\"");
	BASE_CHECK(base_json_parse(BASE_STR("{}"), &empty, NULL) == 0);
	if (base_jv_kind(of.args) != BASE_JSON_OBJ)
		of.args = base_json_root(empty);
	if (!of.flow.len && base_str_starts(of.as, BASE_STR("flow/")))
		of.flow = base_str_sub(of.as, 5, of.as.len);
	core_scene_init(&s, p, &of, told, &history, arena);
	j = core_policy_judge(&s, NULL);
	core_scene_done(&s);
	base_json_free(empty);
	why = base_arena_printf(arena, "%s, by \"%.*s\"%s%.*s", core_verdict_name(j.verdict),
		BASE_STR_ARG(j.rule), j.why.len ? ": " : "", BASE_STR_ARG(j.why));
	if (j.verdict != core_verdict_of(expect))
		return failed(arena, fault, index, "/expect", name,
			base_arena_printf(arena, "it expects %.*s and gets %.*s", BASE_STR_ARG(expect),
				BASE_STR_ARG(why))
				.ptr);
	if (rule.len && !base_str_eq(rule, j.rule))
		return failed(arena, fault, index, "/rule", name,
			base_arena_printf(arena, "it expects the rule \"%.*s\" and gets %.*s",
				BASE_STR_ARG(rule), BASE_STR_ARG(why))
				.ptr);
	return 0;
}

int core_policy_test(
	const struct core_policy *p, struct base_jv tests, struct core_fault *fault, unsigned *ret_passed)
{
	struct base_jv_iter it = {0};
	struct base_arena *arena;
	struct base_str none;
	struct base_jv v;
	uint32_t index = 0;
	int r = 0;

	if (base_arena_new(ARENA_MAX, &arena) < 0)
		return -ENOMEM;
	while (r == 0 && base_jv_next(tests, &it, &none, &v)) {
		base_arena_reset(arena);
		r = run_test(p, v, index, arena, fault);
		index += r == 0;
	}
	base_arena_free(arena);
	if (ret_passed)
		*ret_passed = index;
	return r;
}

int core_policy_check(struct base_str json, struct core_fault *fault, unsigned *ret_tests)
{
	struct core_policy *p;
	struct base_json *doc;
	int r;

	if (ret_tests)
		*ret_tests = 0;
	r = core_policy_compile(json, false, &p, fault);
	if (r < 0)
		return r;
	BASE_CHECK(base_json_parse(json, &doc, NULL) == 0);
	r = core_policy_test(p, base_jv_get(base_json_root(doc), "tests"), fault, ret_tests);
	base_json_free(doc);
	core_policy_free(p);
	return r;
}

/* --- several files --- */

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
