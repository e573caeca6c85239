/* An HTTP request's target and form: a method, a blank, a target, a line feed, a form. */
#include "base/check.h"
#include "base/json.h"
#include "door/uri.h"
#include "fuzz.h"

enum { OUT_MAX = 4 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct door_pairs pairs;
	struct base_str in = {(const char *)data, size}, line, form, method, target;
	struct door_match match;
	struct base_buf out;
	struct base_json *doc = NULL;
	struct base_err err;
	(void)base_str_cut(in, '\n', &line, &form);
	(void)base_str_cut(line, ' ', &method, &target);
	base_buf_init(&out, OUT_MAX);
	base_buf_init(&pairs.text, OUT_MAX);
	if (door_route(method, target, &match) == 0 && door_params(&match, NULL, &pairs, &out, &err) == 0) {
		BASE_CHECK(base_json_parse(base_buf_view(&out), &doc, &err) == 0);
		base_json_free(doc);
	}
	if (door_pairs_parse(form, &pairs, &err) == 0)
		BASE_CHECK(pairs.count <= DOOR_PAIRS_MAX);
	base_buf_done(&pairs.text);
	base_buf_done(&out);
	return 0;
}
