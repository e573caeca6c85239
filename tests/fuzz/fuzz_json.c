/* JSON text: what parses can be made canonical, and canonical text is a fixed point. */
#include <errno.h>

#include "base/check.h"
#include "base/json.h"
#include "fuzz.h"

enum { OUT_MAX = 64 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_str text = {(const char *)data, size};
	struct base_json *doc = NULL, *again = NULL;
	struct base_err err;
	if (base_json_parse(text, &doc, &err) < 0)
		return 0;
	struct base_buf once, twice;
	base_buf_init(&once, OUT_MAX);
	base_buf_init(&twice, OUT_MAX);
	int rc = base_json_canon(text, &once, &err);
	BASE_CHECK(rc == 0 || rc == -ERANGE || rc == -EINVAL);
	if (rc == 0) {
		BASE_CHECK(base_json_canon(base_buf_view(&once), &twice, &err) == 0);
		BASE_CHECK(base_str_eq(base_buf_view(&once), base_buf_view(&twice)));
		BASE_CHECK(base_json_parse(base_buf_view(&once), &again, &err) == 0);
		BASE_CHECK(base_json_is_canon(again, base_buf_view(&once), &err) == 0);
	}
	base_json_free(again);
	base_json_free(doc);
	base_buf_done(&once);
	base_buf_done(&twice);
	return 0;
}
