#include "door/door_int.h"

#include <string.h>

/* OpenAPI 3.1, from the route table alone: what it says is what the door matches. */

struct query_doc {
	enum wire_op op;
	const char *name;
	const char *what;
};

static const struct query_doc queries[] = {
	{WIRE_OP_RUN_START, "wait", "seconds to wait for the run's end before answering"},
	{WIRE_OP_RUN, "wait", "seconds to wait for the run's end before answering"},
	{WIRE_OP_RUNS, "flow", "only runs of this flow"},
	{WIRE_OP_RUNS, "state", "active, parked or ended"},
	{WIRE_OP_RUNS, "limit", "at most so many"},
	{WIRE_OP_RUNS, "before", "only runs with a smaller number"},
	{WIRE_OP_GATES, "state", "open (default) or decided"},
	{WIRE_OP_GATES, "limit", "at most so many"},
	{WIRE_OP_FACTS, "prefix", "only keys that start so"},
	{WIRE_OP_FACTS, "limit", "at most so many"},
	{WIRE_OP_FACTS, "after", "only keys behind this one"},
	{WIRE_OP_FACT, "history", "1: every version"},
	{WIRE_OP_FACT_PUT, "base", "the version that is replaced; another one there is a 409"},
	{WIRE_OP_SEARCH, "q", "what to look for"},
	{WIRE_OP_SEARCH, "limit", "at most so many"},
	{WIRE_OP_COSTS, "by", "flow, model, customer, outcome or run"},
	{WIRE_OP_COSTS, "since", "milliseconds since 1970"},
	{WIRE_OP_EVENTS, "after", "only events behind this position"},
	{WIRE_OP_EVENTS, "limit", "at most so many"},
};

static void parameter(struct base_jw *w, const char *name, const char *in, const char *what, bool required)
{
	base_jw_obj(w);
	base_jw_mcstr(w, "name", name);
	base_jw_mcstr(w, "in", in);
	if (what)
		base_jw_mcstr(w, "description", what);
	base_jw_mbool(w, "required", required);
	base_jw_mraw(w, "schema", BASE_STR("{\"type\":\"string\"}"));
	base_jw_end_obj(w);
}

static void parameters(struct base_jw *w, const struct wire_route *route, enum wire_op op)
{
	unsigned i;

	base_jw_key(w, "parameters");
	base_jw_arr(w);
	for (i = 0; i < route->count; i++)
		if (route->segments[i].kind == WIRE_SEGMENT_PARAM)
			parameter(w, route->segments[i].text, "path", NULL, true);
		else if (route->segments[i].kind == WIRE_SEGMENT_REST)
			parameter(w, route->segments[i].text, "path", "may hold slashes", true);
	for (i = 0; i < sizeof(queries) / sizeof(queries[0]); i++)
		if (queries[i].op == op)
			parameter(w, queries[i].name, "query", queries[i].what, false);
	if (strcmp(route->method, "POST") == 0 && route->body == WIRE_BODY_JSON)
		parameter(w, "Idempotency-Key", "header",
			"the same key gives the same answer, and nothing twice", false);
	if (op == WIRE_OP_EVENTS)
		parameter(w, "Last-Event-ID", "header", "where a stream goes on", false);
	base_jw_end_arr(w);
}

static void content(struct base_jw *w, const char *type)
{
	base_jw_key(w, "content");
	base_jw_obj(w);
	base_jw_mraw(w, type, BASE_STR("{\"schema\":{}}"));
	base_jw_end_obj(w);
}

static void responses(struct base_jw *w, enum wire_op op)
{
	base_jw_key(w, "responses");
	base_jw_obj(w);
	base_jw_key(w, "2XX");
	base_jw_obj(w);
	base_jw_mcstr(w, "description", "done, or taken on");
	if (op == WIRE_OP_EVENTS)
		base_jw_mraw(w, "content",
			BASE_STR("{\"application/json\":{\"schema\":{}},\"text/event-stream\":{\"schema\":"
				 "{\"type\":\"string\"}}}"));
	else
		content(w, door_op_is_page(op) ? "text/html" : "application/json");
	base_jw_end_obj(w);
	base_jw_key(w, "default");
	base_jw_obj(w);
	base_jw_mcstr(w, "description", "a problem (RFC 9457)");
	base_jw_mraw(w, "content",
		BASE_STR("{\"application/problem+json\":{\"schema\":{\"$ref\":\"#/components/schemas/"
			 "problem\"}}}"));
	base_jw_end_obj(w);
	base_jw_end_obj(w);
}

static void operation(struct base_jw *w, const struct wire_route *route, enum wire_op op)
{
	static const char *const lower[][2] = {
		{"GET", "get"}, {"POST", "post"}, {"PUT", "put"}, {"DELETE", "delete"}};
	unsigned i;

	for (i = 0; i < 4; i++)
		if (strcmp(route->method, lower[i][0]) == 0)
			base_jw_key(w, lower[i][1]);
	base_jw_obj(w);
	base_jw_mcstr(w, "operationId", route->name);
	base_jw_mcstr(w, "summary", route->summary);
	base_jw_key(w, "security");
	base_jw_arr(w);
	if (route->auth != WIRE_AUTH_NONE) {
		base_jw_raw(w, BASE_STR("{\"key\":[]}"));
		base_jw_raw(w, BASE_STR("{\"session\":[]}"));
	}
	base_jw_end_arr(w);
	parameters(w, route, op);
	if (route->body != WIRE_BODY_NONE) {
		base_jw_key(w, "requestBody");
		base_jw_obj(w);
		content(w, route->body == WIRE_BODY_JSON ? "application/json"
							 : "application/x-www-form-urlencoded");
		base_jw_mint(w, "x-limit-bytes", route->body_max);
		base_jw_end_obj(w);
	}
	responses(w, op);
	base_jw_end_obj(w);
}

/* "{key+}" is aios's own notation. */
static void path_key(struct base_jw *w, const char *path)
{
	struct base_buf b;
	const char *c;

	base_buf_init(&b, 256);
	for (c = path; *c; c++)
		if (!(*c == '+' && c[1] == '}'))
			base_buf_char(&b, *c);
	base_jw_key_str(w, base_buf_view(&b));
	base_buf_done(&b);
}

static void paths(struct base_jw *w)
{
	unsigned a, b;

	base_jw_key(w, "paths");
	base_jw_obj(w);
	for (a = 0; a < WIRE_OP_COUNT; a++) {
		const char *path = wire_route_of((enum wire_op)a)->path;

		for (b = 0; b < a; b++)
			if (strcmp(wire_route_of((enum wire_op)b)->path, path) == 0)
				break;
		if (b < a)
			continue;
		path_key(w, path);
		base_jw_obj(w);
		for (b = a; b < WIRE_OP_COUNT; b++)
			if (strcmp(wire_route_of((enum wire_op)b)->path, path) == 0)
				operation(w, wire_route_of((enum wire_op)b), (enum wire_op)b);
		base_jw_end_obj(w);
	}
	base_jw_end_obj(w);
}

void door_openapi(struct base_buf *ret)
{
	struct base_jw w = base_jw_of(ret);

	base_jw_obj(&w);
	base_jw_mcstr(&w, "openapi", "3.1.0");
	base_jw_mraw(&w, "info",
		BASE_STR("{\"title\":\"aios\",\"version\":\"" DOOR_VERSION
			 "\",\"description\":\"Runs, gates, memory, costs and events of one workspace.\"}"));
	paths(&w);
	base_jw_mraw(&w, "components",
		BASE_STR("{\"securitySchemes\":{\"key\":{\"type\":\"http\",\"scheme\":\"bearer\"},"
			 "\"session\":{\"type\":"
			 "\"apiKey\",\"in\":\"cookie\",\"name\":\"aios_session\"}},\"schemas\":{\"problem\":{"
			 "\"type\":"
			 "\"object\",\"properties\":{\"type\":{\"type\":\"string\"},\"title\":{\"type\":"
			 "\"string\"},"
			 "\"status\":{\"type\":\"integer\"},\"code\":{\"type\":\"string\"},\"detail\":{"
			 "\"type\":"
			 "\"string\"},\"line\":{\"type\":\"integer\"},\"column\":{\"type\":\"integer\"}},"
			 "\"required\":["
			 "\"type\",\"title\",\"status\"]}}}"));
	base_jw_end_obj(&w);
}
