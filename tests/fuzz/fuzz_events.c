/* A block of events, as it comes from the log: walking it, decoding each body, writing it as JSON. */
#include "base/check.h"
#include "base/json.h"
#include "core/block.h"
#include "core/events.h"
#include "fuzz.h"

enum { OUT_MAX = 64 << 20 };

static void one_event(const struct core_record *r)
{
	union core_event_any any;
	struct base_buf text;
	struct base_json *doc = NULL;
	struct base_err err;
	if (core_event_get(r->type, r->body, &any) < 0)
		return;
	base_buf_init(&text, OUT_MAX);
	base_buf_char(&text, '{');
	BASE_CHECK(core_event_json(r->type, r->body, &text) == 0);
	base_buf_char(&text, '}');
	/* Members that are JSON already are as they are stored; the fuzzer's need not be JSON. */
	if (base_json_parse(base_buf_view(&text), &doc, &err) == 0)
		base_json_free(doc);
	base_buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_str block = {(const char *)data, size};
	struct core_record r;
	size_t at = 0;
	while (core_block_next(block, &at, &r) == 1) {
		BASE_CHECK(at <= size);
		one_event(&r);
	}
	/* The first byte as a type, the rest as its body: every decoder is near. */
	if (size > 0) {
		r = (struct core_record){.type = data[0], .body = base_str_sub(block, 1, size - 1)};
		one_event(&r);
	}
	return 0;
}
