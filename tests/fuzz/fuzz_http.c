/* What the door does with texts of others: a form becomes JSON, JSON becomes a page, headers name hosts and
 * origins. First byte: which; the rest: the text. */
#include <string.h>

#include "base/check.h"
#include "door/door_int.h"
#include "fuzz.h"

enum { OUT_MAX = 16 << 20 };

static bool has(const struct base_buf *b, const char *what)
{
	return b->len > 0 && memmem(b->ptr, b->len, what, strlen(what)) != NULL;
}

/* What a form gives is JSON with a known shape, or nothing. */
static void form(struct base_str in, struct base_buf *out)
{
	static struct door_pairs pairs;
	struct base_json *doc;
	struct base_err err;

	base_buf_init(&pairs.text, OUT_MAX);
	if (door_form_json(in, &pairs, out, &err) == 0) {
		BASE_CHECK(base_json_parse(base_buf_view(out), &doc, &err) == 0);
		BASE_CHECK(base_jv_str(base_jv_get(base_json_root(doc), "answer")).len > 0);
		base_json_free(doc);
	}
	base_buf_done(&pairs.text);
}

/* No text leaves its place on a page: one style sheet, no script, no comment, and the page is whole. */
static void page(enum wire_op op, struct base_str in, struct base_buf *out)
{
	if (door_page(op, in, out) < 0 || base_buf_failed(out))
		return;
	BASE_CHECK(!has(out, "<script") && !has(out, "<!--") && !has(out, "href=\"javascript"));
	BASE_CHECK(base_str_starts(base_buf_view(out), BASE_STR("<!doctype html>")));
	BASE_CHECK(base_str_ends(base_buf_view(out), BASE_STR("</html>\n")));
}

static void problem(struct base_str in, struct base_buf *out)
{
	struct base_json *doc;

	door_problem_complete(in, 404, out);
	BASE_CHECK(base_buf_failed(out) || base_json_parse(base_buf_view(out), &doc, NULL) == 0);
	if (!base_buf_failed(out)) {
		BASE_CHECK(base_jv_int(base_jv_get(base_json_root(doc), "status"), 0) == 404);
		base_json_free(doc);
	}
	base_buf_clear(out);
	door_page_problem(404, in, out);
	BASE_CHECK(base_buf_failed(out) || !has(out, "<script"));
}

static void site(struct base_str in)
{
	struct door_config c = {.kind = DOOR_NETWORK};
	struct base_str host, origin;

	base_str_cut(in, '\n', &host, &origin);
	/* Only names of this machine, whatever stands round them. */
	if (door_host_allowed(&c, host))
		BASE_CHECK(memmem(host.ptr, host.len, "1", 1) || host.len >= 9);
	if (door_origin_allowed(&c, origin, host))
		BASE_CHECK(origin.len > host.len);
}

static void config(struct base_str in)
{
	struct door_config c;
	struct base_err err;

	if (door_config_read(in, &c, &err) == 0)
		door_config_done(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_str in = {(const char *)data + 1, size ? size - 1 : 0};
	struct base_buf out;

	if (size == 0)
		return 0;
	base_buf_init(&out, OUT_MAX);
	switch (data[0]) {
	case 'f':
		form(in, &out);
		break;
	case 'h':
		page(WIRE_OP_PAGE_HOME, in, &out);
		break;
	case 'r':
		page(WIRE_OP_PAGE_RUN, in, &out);
		break;
	case 'g':
		page(WIRE_OP_PAGE_GATE, in, &out);
		break;
	case 'p':
		problem(in, &out);
		break;
	case 's':
		site(in);
		break;
	default:
		config(in);
		break;
	}
	base_buf_done(&out);
	return 0;
}
