/* Expressions: compiled, evaluated over some variables, bounded in steps and memory. What is printed is the same expression,
 * what is checked gives what is not, a value as text or JSON is that value again. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/json.h"
#include "cel/cel.h"
#include "fuzz.h"

enum { ARENA_MAX = 4 << 20, STEPS_MAX = 20000, TEXT_MAX = 8 << 20, VARS = 5 };

static const char json[] =
	"{\"args\":{\"amount\":501,\"to\":\"ada@example.org\",\"tags\":[\"a\",\"b\"],\"rate\":2.5},"
	"\"customer\":{\"tier\":\"basic\"},\"principal\":\"flow/"
	"x\",\"cost\":12,\"x\":[1,2.5,\"\xc3\xa4\",null]}";

static const struct cel_limits limits = {.steps = STEPS_MAX, .string_max = 64 << 10, .list_max = 10000};

struct world {
	struct base_arena *arena;
	struct base_json *doc;
	struct cel_binding bound[VARS + 1];
	struct cel_var vars[VARS + 1];
	unsigned count;
};

static struct world world_of(void)
{
	struct world w = {.count = 0};
	struct base_jv_iter it = {0};
	struct base_err err;
	struct base_jv v;

	BASE_CHECK(base_json_parse(BASE_STR(json), &w.doc, &err) == 0);
	BASE_CHECK(base_arena_new(ARENA_MAX, &w.arena) == 0);
	for (; base_jv_next(base_json_root(w.doc), &it, &w.bound[w.count].name, &v); w.count++) {
		w.bound[w.count].value = cel_json(v);
		w.vars[w.count] = (struct cel_var){w.bound[w.count].name, w.bound[w.count].value.kind};
	}
	return w;
}

/* Memory counts what was used before: then two evaluations differ. */
static bool ran_out(struct cel_value v)
{
	static const char *const texts[] = {
		"took too many steps", "out of memory", "a string is too long", "a list or map is too large"};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (v.kind == CEL_ERROR && base_str_is(v.as.s, texts[i]))
			return true;
	return false;
}

static bool agree(struct cel_value a, struct cel_value b)
{
	if (ran_out(a) || ran_out(b))
		return true;
	return a.kind == CEL_ERROR ? b.kind == CEL_ERROR : cel_same(a, b);
}

static void same_printed(struct world *w, struct base_str source, struct cel_value want)
{
	struct cel_program *p;
	struct base_buf first, second;
	struct base_err err;

	base_buf_init(&first, TEXT_MAX);
	base_buf_init(&second, TEXT_MAX);
	BASE_CHECK(cel_print(source, &first, &err) == 0);
	/* Escapes make it longer, signs nest deeper. */
	if (cel_compile(base_buf_view(&first), &p, &err) == 0) {
		BASE_CHECK(agree(cel_eval_with(p, w->bound, w->count, w->arena, &limits), want));
		cel_free(p);
		BASE_CHECK(cel_print(base_buf_view(&first), &second, &err) == 0);
		BASE_CHECK(base_str_eq(base_buf_view(&first), base_buf_view(&second)));
	} else {
		BASE_CHECK(strstr(err.text, "nested too deep") || strstr(err.text, "longer than"));
	}
	base_buf_done(&first);
	base_buf_done(&second);
}

static void same_checked(struct world *w, struct base_str source, struct cel_value want)
{
	struct cel_env env = {.vars = w->vars, .count = w->count};
	struct cel_value values[VARS], v;
	struct cel_program *p;
	struct base_err err;

	for (unsigned i = 0; i < w->count; i++)
		values[i] = w->bound[i].value;
	if (cel_compile_in(source, &env, &p, &err) < 0) {
		BASE_CHECK(base_utf8_valid(base_str_of(err.text)) && strncmp(err.text, "line ", 5) == 0);
		return;
	}
	v = cel_eval_in(p, values, w->arena, &limits);
	BASE_CHECK(agree(v, want));
	if (v.kind != CEL_ERROR && cel_result(p) != CEL_DYN)
		BASE_CHECK(cel_result(p) == v.kind);
	cel_free(p);
}

static bool readable(struct base_str typed)
{
	static const char *const not_read[] = {"{\"t\": \"optional\"", "{\"t\": \"error\""};

	for (size_t i = 0; i < 2; i++)
		if (memmem(typed.ptr, typed.len, not_read[i], strlen(not_read[i])))
			return false;
	return true;
}

static void same_as_json(struct world *w, struct cel_value v)
{
	struct base_json *doc;
	struct cel_value back;
	struct base_buf b;
	struct base_err err;

	base_buf_init(&b, 64 << 10);
	cel_put_typed(&b, v);
	if (!base_buf_failed(&b) && readable(base_buf_view(&b)) &&
		base_json_parse(base_buf_view(&b), &doc, &err) != -E2BIG) {
		if (cel_from_typed(base_json_root(doc), w->arena, &back, &err) != -ENOMEM)
			BASE_CHECK(cel_same(v, back));
		base_json_free(doc);
	}
	base_buf_done(&b);
}

static void same_as_text(struct world *w, struct cel_value v)
{
	struct cel_program *p;
	struct base_buf b;

	base_buf_init(&b, 16 << 10);
	cel_put_text(&b, v);
	if (!base_buf_failed(&b) && cel_compile(base_buf_view(&b), &p, NULL) == 0) {
		BASE_CHECK(agree(cel_eval_with(p, NULL, 0, w->arena, &limits), v));
		cel_free(p);
	}
	base_buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_str source = {(const char *)data, size};
	struct cel_program *program = NULL;
	struct cel_limits one = {.steps = 1};
	struct cel_value v;
	struct base_err err;
	struct world w;
	size_t line, column;

	if (cel_compile(source, &program, &err) < 0) {
		BASE_CHECK(base_utf8_valid(base_str_of(err.text)) && err.text[0]);
		return 0;
	}
	w = world_of();
	v = cel_eval_with(program, w.bound, w.count, w.arena, &limits);
	BASE_CHECK(v.kind < CEL_LAZY);
	BASE_CHECK(v.kind != CEL_ERROR || base_utf8_valid(v.as.s));
	BASE_CHECK(v.kind != CEL_STRING || base_utf8_valid(v.as.s));
	(void)cel_error_place(source, v, &line, &column);
	BASE_CHECK(cel_eval_with(program, w.bound, w.count, w.arena, &one).kind < CEL_LAZY);
	BASE_CHECK(agree(cel_eval_with(program, w.bound, w.count, w.arena, &limits), v));
	same_printed(&w, source, v);
	same_checked(&w, source, v);
	if (v.kind != CEL_ERROR) {
		same_as_json(&w, v);
		same_as_text(&w, v);
	}
	cel_free(program);
	base_arena_free(w.arena);
	base_json_free(w.doc);
	return 0;
}
