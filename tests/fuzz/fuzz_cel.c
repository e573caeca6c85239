/* Expressions of policies: compiled, evaluated over some variables, bounded in steps and memory. */
#include "base/check.h"
#include "base/json.h"
#include "cel/cel.h"
#include "fuzz.h"

enum { ARENA_MAX = 4 << 20, STEPS_MAX = 20000 };

static const char vars[] =
	"{\"args\":{\"amount\":501,\"to\":\"ada@example.org\",\"tags\":[\"a\",\"b\"],\"rate\":2.5},"
	"\"customer\":{\"tier\":\"basic\"},\"principal\":\"flow/x\",\"cost\":12}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_str source = {(const char *)data, size};
	struct cel_program *program = NULL;
	struct cel_binding bound[5]; /* one more than there are: the loop looks at it */
	struct base_jv_iter it = {0};
	struct base_arena *arena;
	struct base_json *doc;
	struct base_err err;
	struct base_jv v;
	unsigned count = 0;

	if (cel_compile(source, &program, &err) < 0) {
		BASE_CHECK(base_utf8_valid(base_str_of(err.text)) && err.text[0]);
		return 0;
	}
	BASE_CHECK(base_json_parse(BASE_STR(vars), &doc, &err) == 0);
	BASE_CHECK(base_arena_new(ARENA_MAX, &arena) == 0);
	for (; base_jv_next(base_json_root(doc), &it, &bound[count].name, &v); count++)
		bound[count].value = cel_json(v);
	struct cel_value first = cel_eval(program, bound, count, arena, STEPS_MAX);
	BASE_CHECK(first.kind < CEL_LAZY);
	BASE_CHECK(cel_eval(program, bound, count, arena, 1).kind < CEL_LAZY);
	cel_free(program);
	base_arena_free(arena);
	base_json_free(doc);
	return 0;
}
