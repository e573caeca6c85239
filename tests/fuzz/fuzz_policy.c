/* A policy file as aios-parse reads it, then as the core checks it: with its conditions, limits and tests. */
#include <stdlib.h>

#include "base/json.h"
#include "core/core.h"
#include "fuzz.h"
#include "parse/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_str in = {(const char *)data, size};
	struct base_buf parsed, policy, problem;
	struct core_policy_file file = {.name = BASE_STR("policy.yaml")};
	struct parse_fault fault;
	struct base_json *doc;
	struct core_fault where;
	unsigned tests;

	base_buf_init(&parsed, 64 << 20);
	base_buf_init(&policy, 64 << 20);
	base_buf_init(&problem, 1 << 20);
	if (parse_any(BASE_STR("policy"), in, &parsed, &fault) == 0) {
		file.parsed = base_buf_view(&parsed);
		if (core_policy_read(&file, 1, &policy, &tests, &problem) == 0) {
			/* What was accepted is accepted as it stands in the log. */
			if (core_policy_check(base_buf_view(&policy), &where, &tests) < 0)
				abort();
		} else { /* a fault has a place that exists */
			if (base_json_parse(base_buf_view(&problem), &doc, NULL) < 0)
				abort();
			if (base_jv_int(base_jv_get(base_json_root(doc), "line"), 1) < 1)
				abort();
			base_json_free(doc);
		}
	}
	base_buf_done(&parsed);
	base_buf_done(&policy);
	base_buf_done(&problem);
	return 0;
}
