#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cel/cel.h"
#include "cli/cli_int.h"
#include "core/zone.h"

/* aios cel: expressions without a workspace. */

enum {
	SOURCE_MAX = 1 << 20,
	VARS_MAX = 64,
	SHOWN_MAX = 160,
	CASES_MAX = 64 << 20,
	ZONES_MAX = 16,
	EVAL_MAX = 64 << 20
};

/* --- time zones: files of this machine, read once --- */

struct zone {
	char name[CORE_ZONE_NAME_MAX + 1];
	struct base_buf file;
	struct core_zone zone;
};

struct zones {
	struct zone at[ZONES_MAX];
	size_t count;
};

/* Europe/Berlin, and nothing that leaves the folder. */
static bool name_valid(struct base_str name)
{
	if (name.len == 0 || name.len > CORE_ZONE_NAME_MAX || name.ptr[0] == '/')
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];

		if ((c < '0' || c > '9') && ((c | 0x20) < 'a' || (c | 0x20) > 'z') && !strchr("/_+-", c))
			return false;
	}
	return true;
}

static void zones_done(struct zones *z)
{
	for (size_t i = 0; i < z->count; i++)
		base_buf_done(&z->at[i].file);
	z->count = 0;
}

/* Those that were read are forgotten when there are too many: many cases may name many. */
static struct zone *zone_named(struct zones *z, struct base_str name)
{
	const char *folder = getenv("TZDIR");
	struct zone *to;
	char path[512];

	for (size_t i = 0; i < z->count; i++)
		if (base_str_is(name, z->at[i].name))
			return &z->at[i];
	if (!name_valid(name))
		return NULL;
	if (z->count == ZONES_MAX)
		zones_done(z);
	to = &z->at[z->count];
	snprintf(to->name, sizeof(to->name), "%.*s", BASE_STR_ARG(name));
	snprintf(path, sizeof(path), "%s/%s", folder && *folder ? folder : "/usr/share/zoneinfo", to->name);
	base_buf_init(&to->file, CORE_ZONE_MAX);
	if (cli_read_file(path, CORE_ZONE_MAX - 1, &to->file, NULL) < 0 ||
		core_zone_read(base_buf_view(&to->file), &to->zone, NULL) < 0) {
		base_buf_done(&to->file);
		return NULL;
	}
	z->count++;
	return to;
}

static bool zone_at(void *ctx, struct base_str name, int64_t time, int32_t *ret_offset_s)
{
	struct zone *z = zone_named(ctx, name);

	if (!z)
		return false;
	*ret_offset_s = core_zone_offset(&z->zone, time);
	return true;
}

/* --- what is wrong, and where --- */

static void to_stderr(struct cli *c)
{
	fwrite(c->out.ptr, 1, c->out.len, stderr);
	base_buf_clear(&c->out);
}

/* The line with a caret under the place. */
static void show_place(struct cli *c, struct base_str source, size_t line, size_t column)
{
	struct base_str head = BASE_STR_NONE, rest = source;
	size_t at = 0, from, i;

	for (i = 0; i < line; i++)
		base_str_cut(rest, '\n', &head, &rest);
	for (i = 1; i < column && at < head.len; i++)
		at += base_utf8_next(base_str_sub(head, at, head.len));
	from = at > SHOWN_MAX / 2 ? at - SHOWN_MAX / 2 : 0;
	while (from > 0 && ((unsigned char)head.ptr[from] & 0xc0) == 0x80)
		from--;
	cli_put(c, "  ");
	for (i = from; i < head.len && i < from + SHOWN_MAX;)
		i += base_utf8_next(base_str_sub(head, i, head.len));
	cli_text(c, base_str_sub(head, from, i - from));
	cli_put(c, "\n  ");
	for (i = cli_width(base_str_sub(head, from, at - from)); i > 0; i--)
		cli_put(c, " ");
	cli_put(c, "^\n");
}

static int fails(struct cli *c, struct base_str source, const char *why, size_t line, size_t column)
{
	if (c->json) {
		struct base_jw w = base_jw_of(&c->out);

		base_jw_obj(&w);
		base_jw_mcstr(&w, "error", why);
		if (line) {
			base_jw_mint(&w, "line", (int64_t)line);
			base_jw_mint(&w, "column", (int64_t)column);
		}
		base_jw_end_obj(&w);
		cli_put(c, "\n");
		return CLI_FAILED;
	}
	cli_flush(c);
	cli_put(c, "aios: ");
	if (line)
		cli_put(c, "line %zu, column %zu: ", line, column);
	cli_text(c, base_str_of(why));
	cli_put(c, "\n");
	if (line)
		show_place(c, source, line, column);
	to_stderr(c);
	return CLI_FAILED;
}

static int does_not_compile(struct cli *c, struct base_str source, const struct base_err *err)
{
	size_t line, column;
	int n = 0;

	if (sscanf(err->text, "line %zu, column %zu: %n", &line, &column, &n) == 2 && n > 0 &&
		base_utf8_valid(source))
		return fails(c, source, err->text + n, line, column);
	return fails(c, source, err->text, 0, 0);
}

/* --- variables --- */

struct scene {
	struct base_json *doc;
	struct cel_var vars[VARS_MAX];
	struct cel_value values[VARS_MAX];
	unsigned count;
};

/* {"t": "uint", "v": "1"} is a typed value; any other JSON is itself. */
static bool typed(struct base_jv v)
{
	static const char *const names[] = {"int", "uint", "double", "string", "bytes", "bool", "null",
		"list", "map", "type", "timestamp", "duration"};
	struct base_str t = base_jv_str(base_jv_get(v, "t"));

	if (base_jv_len(v) != 2 || base_jv_kind(base_jv_get(v, "v")) == BASE_JSON_NONE)
		return false;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (base_str_is(t, names[i]))
			return true;
	return false;
}

static int read_vars(struct cli *c, const char *path, struct scene *s)
{
	struct base_jv_iter it = {0};
	struct base_buf text;
	struct base_err err;
	struct base_str name;
	struct base_jv v;
	int r;

	base_buf_init(&text, CLI_BODY_MAX);
	r = cli_read_file(path, CLI_BODY_MAX - 1, &text, &err);
	if (r == 0)
		r = base_json_parse(base_buf_view(&text), &s->doc, &err);
	base_buf_done(&text);
	if (r < 0)
		return cli_fail(c, "the variables: %s", err.text);
	if (base_jv_kind(base_json_root(s->doc)) != BASE_JSON_OBJ)
		return cli_fail(c, "the variables: %s is no JSON object", path);
	while (base_jv_next(base_json_root(s->doc), &it, &name, &v)) {
		if (s->count == VARS_MAX)
			return cli_fail(c, "the variables: more than %d", VARS_MAX);
		s->values[s->count] = cel_json(v);
		if (typed(v) && cel_from_typed(v, c->arena, &s->values[s->count], &err) < 0)
			return cli_fail(c, "the variables: %.*s: %s", BASE_STR_ARG(name), err.text);
		s->vars[s->count] = (struct cel_var){name, s->values[s->count].kind};
		s->count++;
	}
	return 0;
}

/* --- one expression --- */

static void put_value(struct cli *c, struct cel_value v)
{
	struct base_buf b;

	base_buf_init(&b, CLI_BODY_MAX);
	if (c->json) {
		base_buf_cstr(&b, "{\"type\": \"");
		base_buf_cstr(&b, cel_kind_name(v.kind));
		base_buf_cstr(&b, "\", \"value\": ");
		cel_put_json(&b, v);
		base_buf_cstr(&b, ", \"typed\": ");
		cel_put_typed(&b, v);
		base_buf_char(&b, '}');
		base_buf_str(&c->out, base_buf_view(&b));
	} else {
		cel_put_text(&b, v);
		cli_text(c, base_buf_view(&b));
	}
	cli_put(c, "\n");
	base_buf_done(&b);
}

static int evaluate(struct cli *c, struct base_str source, struct scene *s, struct zones *zones)
{
	struct cel_env env = {.vars = s->vars, .count = s->count, .untyped = cli_flag(c, "untyped")};
	struct cel_limits limits = {.zone = zone_at, .zone_ctx = zones};
	size_t line = 0, column = 0;
	struct cel_program *p;
	struct base_arena *arena;
	struct base_err err;
	struct cel_value v;
	int r = CLI_OK;

	if (cel_compile_in(source, &env, &p, &err) < 0)
		return does_not_compile(c, source, &err);
	if (base_arena_new(EVAL_MAX, &arena) < 0) {
		cel_free(p);
		return cli_fail(c, "out of memory");
	}
	v = cel_eval_in(p, s->values, arena, &limits);
	if (v.kind == CEL_ERROR) {
		struct base_str why = base_arena_dup(c->arena, v.as.s);

		(void)cel_error_place(source, v, &line, &column);
		r = fails(c, source, why.ptr ? why.ptr : "out of memory", line, column);
	} else {
		put_value(c, v);
		if (base_buf_failed(&c->out))
			r = cli_fail(c, "the value is too large to print");
	}
	base_arena_free(arena);
	cel_free(p);
	return r;
}

/* --- cases --- */

struct tally {
	uint64_t passed, failed;
	struct base_jw failures;
};

static void put_name(struct base_buf *b, struct base_jv c, size_t line)
{
	static const char *const members[] = {"file", "section", "name"};
	bool any = false;

	for (size_t i = 0; i < 3; i++) {
		struct base_str s = base_jv_str(base_jv_get(c, members[i]));

		if (s.len == 0)
			continue;
		if (any)
			base_buf_char(b, '/');
		base_buf_str(b, s);
		any = true;
	}
	if (!any)
		base_buf_printf(b, "line %zu", line);
}

static void failed_case(struct cli *c, struct tally *t, struct base_str name, struct base_str why)
{
	t->failed++;
	if (c->json) {
		base_jw_obj(&t->failures);
		base_jw_mstr(&t->failures, "name", name);
		base_jw_mstr(&t->failures, "why", why);
		base_jw_end_obj(&t->failures);
		return;
	}
	cli_text(c, name);
	cli_put(c, ": ");
	cli_text(c, why);
	cli_put(c, "\n");
}

static void run_case(struct cli *c, struct base_str text, size_t line, struct zones *zones, struct tally *t)
{
	struct cel_limits limits = {.zone = zone_at, .zone_ctx = zones};
	struct base_buf name, why;
	struct base_json *doc;
	struct base_err err;

	base_buf_init(&name, 64 << 10);
	base_buf_init(&why, CLI_BODY_MAX / 4);
	if (base_json_parse(text, &doc, &err) < 0) {
		base_buf_printf(&name, "line %zu", line);
		failed_case(c, t, base_buf_view(&name), base_str_of(err.text));
	} else {
		if (cel_case(base_json_root(doc), &limits, &why) == 0) {
			t->passed++;
		} else {
			put_name(&name, base_json_root(doc), line);
			failed_case(c, t, base_buf_view(&name), base_buf_view(&why));
		}
		base_json_free(doc);
	}
	base_buf_done(&name);
	base_buf_done(&why);
}

static int run_cases(struct cli *c, const char *path, struct zones *zones)
{
	struct base_str line, rest;
	struct tally t = {0};
	struct base_buf text;
	struct base_err err;

	base_buf_init(&text, CASES_MAX);
	if (cli_read_file(path, CASES_MAX - 1, &text, &err) < 0) {
		base_buf_done(&text);
		return cli_fail(c, "%s", err.text);
	}
	t.failures = base_jw_of(&c->out);
	if (c->json) {
		base_jw_obj(&t.failures);
		base_jw_key(&t.failures, "failures");
		base_jw_arr(&t.failures);
	}
	rest = base_buf_view(&text);
	for (size_t n = 1; rest.len; n++) {
		base_str_cut(rest, '\n', &line, &rest);
		if (line.len && line.ptr[line.len - 1] == '\r')
			line.len--;
		if (line.len)
			run_case(c, line, n, zones, &t);
	}
	if (c->json) {
		base_jw_end_arr(&t.failures);
		base_jw_mint(&t.failures, "passed", (int64_t)t.passed);
		base_jw_mint(&t.failures, "failed", (int64_t)t.failed);
		base_jw_end_obj(&t.failures);
		cli_put(c, "\n");
	} else {
		cli_put(c, "%llu passed, %llu failed\n", (unsigned long long)t.passed,
			(unsigned long long)t.failed);
	}
	base_buf_done(&text);
	return t.failed ? CLI_FAILED : CLI_OK;
}

int cmd_cel(struct cli *c)
{
	const char *cases = cli_opt(c, "cases"), *vars = cli_opt(c, "vars");
	struct zones zones = {.count = 0};
	struct scene s = {.count = 0};
	struct base_buf source;
	struct base_err err;
	int r = CLI_OK;

	if ((cases != NULL) == (c->arg_count == 1))
		return cli_usage(c, "aios cel takes an expression, or --cases FILE");
	if (cases && vars)
		return cli_usage(c, "the cases of a file bring their own variables");
	base_buf_init(&source, SOURCE_MAX + 1);
	if (cases) {
		r = run_cases(c, cases, &zones);
	} else {
		if (strcmp(c->args[0], "-") != 0)
			base_buf_cstr(&source, c->args[0]);
		else if (cli_read_file("-", SOURCE_MAX, &source, &err) < 0)
			r = cli_fail(c, "%s", err.text);
		if (r == CLI_OK && vars)
			r = read_vars(c, vars, &s);
		if (r == CLI_OK)
			r = evaluate(c, base_buf_view(&source), &s, &zones);
	}
	base_buf_done(&source);
	base_json_free(s.doc);
	zones_done(&zones);
	return r;
}
