/* Foreign formats: the first byte chooses the parser, what comes out must be JSON. */
#include "base/check.h"
#include "base/json.h"
#include "fuzz.h"
#include "parse/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const formats[] = {"yaml", "feed", "agent", "json"};
	struct base_buf out;
	struct parse_fault fault;
	struct base_json *doc = NULL;
	struct base_err err;
	if (size == 0)
		return 0;
	parse_init();
	base_buf_init(&out, PARSE_OUTPUT_MAX);
	struct base_str text = {(const char *)data + 1, size - 1};
	int rc = parse_any(base_str_of(formats[data[0] % 4]), text, &out, &fault);
	if (rc == 0) {
		BASE_CHECK(base_json_parse(base_buf_view(&out), &doc, &err) == 0);
		base_json_free(doc);
	} else {
		BASE_CHECK(out.len == 0);
	}
	base_buf_done(&out);
	return 0;
}
