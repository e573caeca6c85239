/* A JSON Schema, a line feed, a value: compiling and checking. */
#include "base/json.h"
#include "base/regex.h"
#include "base/schema.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_str in = {(const char *)data, size}, head, tail;
	struct base_json *schema = NULL, *value = NULL;
	struct base_schema *compiled = NULL;
	struct base_regex *re = NULL;
	struct base_err err;
	(void)base_str_cut(in, '\n', &head, &tail);
	if (base_json_parse(head, &schema, &err) == 0 &&
		base_schema_compile(base_json_root(schema), &compiled, &err) == 0 &&
		base_json_parse(tail, &value, &err) == 0)
		(void)!base_schema_check(compiled, base_json_root(value), &err);
	if (base_regex_compile(head, &re, &err) == 0)
		(void)base_regex_search(re, tail);
	base_regex_free(re);
	base_schema_free(compiled);
	base_json_free(value);
	base_json_free(schema);
	return 0;
}
