#include "engine/engine_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/*
 * POST /v1/deploy: {"files": {"aios.yaml": "…", "policy.yaml": "…", "flows/x.js": "…", "lib/…": "…",
 * "agents/a.md": "…"}}. YAML and front matter go through aios-parse, flows through a flow worker
 * (flow_inspect); aiosd itself reads none of it. A flow's version is the hash of its module graph: the entry
 * and what it imports, by path. All or nothing: one fault and nothing is deployed.
 */

enum { FLOWS_MAX = 256, MODULES_MAX = 512, INSPECT_MS = 8000 };
enum part_kind { PART_CONFIG, PART_POLICY, PART_AGENT, PART_FLOW };

/* One file that is looked at elsewhere, and what came back. */
struct part {
	struct part *next;
	struct deploy *d;
	enum part_kind kind;
	char *path;
	struct base_buf modules; /* flows */
	struct base_buf answer;	 /* JSON */
};

struct deploy {
	uint64_t req;
	bool check, whole;
	struct base_json *doc;
	struct base_jv files;
	struct part *parts, **tail;
	size_t waiting;
	bool started; /* all questions are asked */
	bool failed;  /* answered with a fault already */
};

static void deploy_free(struct deploy *d)
{
	while (d->parts) {
		struct part *p = d->parts;

		d->parts = p->next;
		base_buf_done(&p->modules);
		base_buf_done(&p->answer);
		free(p->path);
		free(p);
	}
	base_json_free(d->doc);
	free(d);
}

/* --- the module graph --- */

/* "./x.js" as seen from "flows/a.js" → "flows/x.js"; false when it is not a path within the workspace. */
static bool resolve(struct base_str from, struct base_str spec, char *ret, size_t size)
{
	size_t dir = from.len, n = 0;
	struct base_str part, rest = spec;
	bool more = true;

	if (!base_str_starts(spec, BASE_STR("./")) && !base_str_starts(spec, BASE_STR("../")))
		return false;
	while (dir && from.ptr[dir - 1] != '/')
		dir--;
	if (dir >= size)
		return false;
	memcpy(ret, from.ptr, dir);
	n = dir ? dir - 1 : 0;
	while (more) {
		more = base_str_cut(rest, '/', &part, &rest);
		if (!part.len || base_str_is(part, "."))
			continue;
		if (base_str_is(part, "..")) {
			if (!n)
				return false;
			while (n && ret[n - 1] != '/')
				n--;
			n = n ? n - 1 : 0;
			continue;
		}
		if (n + part.len + 2 > size)
			return false;
		if (n)
			ret[n++] = '/';
		memcpy(ret + n, part.ptr, part.len);
		n += part.len;
	}
	ret[n] = '\0';
	return n > 0;
}

/* The next string literal that stands behind `from` or `import`. A word in a comment may be taken for one:
 * then a module too many belongs to the graph, never one too few. */
static bool next_import(struct base_str src, size_t *at, struct base_str *ret)
{
	for (size_t i = *at; i + 5 < src.len; i++) {
		size_t j;
		char quote;

		if (memcmp(src.ptr + i, "from", 4) == 0)
			j = i + 4;
		else if (i + 6 < src.len && memcmp(src.ptr + i, "import", 6) == 0)
			j = i + 6;
		else
			continue;
		while (j < src.len && strchr(" \t\r\n(", src.ptr[j]))
			j++;
		if (j >= src.len || (src.ptr[j] != '"' && src.ptr[j] != '\''))
			continue;
		quote = src.ptr[j++];
		*ret = (struct base_str){src.ptr + j, 0};
		while (j < src.len && src.ptr[j] != quote && src.ptr[j] != '\n')
			j++;
		ret->len = (size_t)(src.ptr + j - ret->ptr);
		*at = j;
		return true;
	}
	return false;
}

/* Adds `path` and what it imports to the set. */
static int reach(struct base_jv files, struct base_names *set, struct base_str path, unsigned depth)
{
	struct base_jv v = base_jv_get_str(files, path);
	struct base_str src = base_jv_str(v), spec;
	char to[512];
	size_t at = 0;

	if (base_jv_kind(v) != BASE_JSON_STR || base_names_get(set, path))
		return 0; /* a module that is missing is reported where it is loaded */
	if (depth > 64 || base_names_count(set) >= MODULES_MAX)
		return -E2BIG;
	if (base_names_put(set, path, set) < 0)
		return -ENOMEM;
	while (next_import(src, &at, &spec))
		if (resolve(path, spec, to, sizeof(to))) {
			int rc = reach(files, set, base_str_of(to), depth + 1);

			if (rc < 0)
				return rc;
		}
	return 0;
}

int engine_graph_put(struct base_jv files, struct base_str entry, struct base_buf *b)
{
	struct base_names *set = NULL;
	struct base_str path = BASE_STR_NONE;
	struct base_jw w = base_jw_of(b);
	void *value;
	int rc = base_names_new(&set);

	if (rc == 0)
		rc = reach(files, set, entry, 0);
	base_jw_obj(&w);
	base_jw_mstr(&w, "entry", entry);
	base_jw_key(&w, "modules");
	base_jw_obj(&w);
	for (bool ok = set && base_names_seek(set, path, true, &path, &value); ok && rc == 0;
		ok = base_names_seek(set, path, false, &path, &value)) {
		base_jw_key_str(&w, path);
		base_jw_str(&w, base_jv_str(base_jv_get_str(files, path)));
	}
	base_jw_end_obj(&w);
	base_jw_end_obj(&w);
	base_names_free(set);
	return rc ? rc : base_buf_failed(b);
}

/* --- putting it together --- */

static void put_grants(struct base_jw *w, struct base_jv config, struct base_str flow, struct base_jv spec)
{
	struct base_jv grants = base_jv_get_str(base_jv_get(config, "grants"), flow), v;
	struct base_jv_iter it = {0};
	struct base_str none;

	if (base_jv_kind(grants) != BASE_JSON_ARR)
		grants = base_jv_get(spec, "grants");
	base_jw_key(w, "grants");
	base_jw_arr(w);
	while (base_jv_kind(grants) == BASE_JSON_ARR && base_jv_next(grants, &it, &none, &v))
		base_jw_str(w, base_jv_str(v));
	base_jw_end_arr(w);
}

static void put_flow(struct base_jw *w, const struct part *p, struct base_jv config)
{
	struct base_hash version = base_hash_of(base_buf_view(&p->modules));
	struct base_json *spec = NULL;
	struct base_str name;

	if (base_json_parse(base_buf_view(&p->answer), &spec, NULL) < 0)
		return;
	name = base_jv_str(base_jv_get(base_json_root(spec), "name"));
	base_jw_obj(w);
	base_jw_mstr(w, "name", name);
	base_jw_mhash(w, "version", &version);
	base_jw_mraw(w, "modules", base_buf_view(&p->modules));
	base_jw_mraw(w, "spec", base_buf_view(&p->answer));
	put_grants(w, config, name, base_json_root(spec));
	base_jw_end_obj(w);
	base_json_free(spec);
}

static void put_agent(struct base_jw *w, const struct part *p)
{
	struct base_json *doc = NULL;

	if (base_json_parse(base_buf_view(&p->answer), &doc, NULL) < 0)
		return;
	base_jw_obj(w);
	base_jw_mstr(w, "name", base_jv_str(base_jv_get(base_json_root(doc), "name")));
	base_jw_mraw(w, "definition", base_buf_view(&p->answer));
	base_jw_end_obj(w);
	base_json_free(doc);
}

static const struct part *part_of(const struct deploy *d, enum part_kind kind)
{
	for (const struct part *p = d->parts; p; p = p->next)
		if (p->kind == kind)
			return p;
	return NULL;
}

static void put_deployment(struct deploy *d, const struct base_buf *policy, struct base_buf *b)
{
	const struct part *config = part_of(d, PART_CONFIG);
	struct base_json *doc = NULL;
	struct base_jw w = base_jw_of(b);
	struct base_jv root = {0};

	if (config && base_json_parse(base_buf_view(&config->answer), &doc, NULL) == 0)
		root = base_json_root(doc);
	base_jw_obj(&w);
	base_jw_key(&w, "agents");
	base_jw_arr(&w);
	for (const struct part *p = d->parts; p; p = p->next)
		if (p->kind == PART_AGENT)
			put_agent(&w, p);
	base_jw_end_arr(&w);
	if (config)
		base_jw_mraw(&w, "config", base_buf_view(&config->answer));
	base_jw_key(&w, "flows");
	base_jw_arr(&w);
	for (const struct part *p = d->parts; p; p = p->next)
		if (p->kind == PART_FLOW)
			put_flow(&w, p, root);
	base_jw_end_arr(&w);
	if (policy->len)
		base_jw_mraw(&w, "policy", base_buf_view(policy));
	base_jw_end_obj(&w);
	base_json_free(doc);
}

/* What was put together goes to the core, with the rules of the time zones that its flows name. */
static void decide(struct engine *e, struct engine_req *q, const struct deploy *d, struct base_str deployment)
{
	char params[64];
	struct core_cmd cmd = {.type = CORE_CMD_DEPLOY, .body = deployment, .params = {params, 0}};
	struct engine_zones zones = {.count = 0};
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	if (base_json_parse(deployment, &doc, NULL) == 0)
		while (base_jv_next(base_jv_get(base_json_root(doc), "flows"), &it, &none, &v))
			engine_zones_add_spec(&zones, base_jv_get(v, "spec"));
	if (doc) /* the quiet hours of announcements */
		engine_zones_add(&zones,
			base_jv_str(base_jv_get(
				base_jv_get(base_jv_get(base_jv_get(base_json_root(doc), "config"), "notify"),
					"quiet"),
				"tz")));
	cmd.params.len = (size_t)snprintf(params, sizeof(params), "{\"check\":%s,\"whole\":%s}",
		d->check ? "true" : "false", d->whole ? "true" : "false");
	cmd.zones = zones.file;
	cmd.zone_count = zones.count;
	engine_reply_cmd(e, q, &cmd);
	engine_zones_done(&zones);
	base_json_free(doc);
}

/* The files of the policy become one, which is checked: false, and answered with the place of the fault. */
static bool read_policy(struct engine *e, struct engine_req *q, const struct deploy *d, struct base_buf *ret)
{
	struct core_policy_file *files;
	struct base_buf problem;
	size_t count = 0;
	int r;

	for (const struct part *p = d->parts; p; p = p->next)
		count += p->kind == PART_POLICY;
	if (count == 0)
		return true;
	files = calloc(count, sizeof(*files));
	BASE_CHECK(files);
	count = 0;
	for (const struct part *p = d->parts; p; p = p->next)
		if (p->kind == PART_POLICY)
			files[count++] = (struct core_policy_file){
				.name = base_str_of(p->path), .parsed = base_buf_view(&p->answer)};
	base_buf_init(&problem, 64 << 10);
	r = core_policy_read(files, count, ret, NULL, &problem);
	if (r < 0)
		engine_reply_fault(e, q, files[0].name, 0, base_buf_view(&problem),
			"The policy has a fault; nothing was deployed");
	base_buf_done(&problem);
	free(files);
	return r == 0;
}

static void finish(struct engine *e, struct deploy *d)
{
	struct engine_req *q = engine_req_of(e, d->req);
	struct base_buf b, policy;

	base_buf_init(&policy, 64 << 20);
	if (q && !d->failed && read_policy(e, q, d, &policy)) {
		base_buf_init(&b, 64 << 20);
		put_deployment(d, &policy, &b);
		decide(e, q, d, base_buf_view(&b));
		base_buf_done(&b);
	}
	base_buf_done(&policy);
	deploy_free(d);
}

void engine_reply_fault(struct engine *e, struct engine_req *q, struct base_str path, int status,
	struct base_str problem, const char *title)
{
	struct base_json *doc = NULL;
	struct base_jv v = {0};
	struct base_str file, message;
	struct base_buf detail;
	struct base_jw w;
	int64_t line;

	if (status < 0)
		problem = status == -ETIMEDOUT
				  ? BASE_STR("{\"message\":\"it does not come back: is there an "
					     "endless loop?\"}")
				  : BASE_STR("{\"message\":\"the process that reads it ended; see "
					     "the log of aiosd\"}");
	if (base_json_parse(problem, &doc, NULL) == 0)
		v = base_json_root(doc);
	file = base_jv_str(base_jv_get(v, "file"));
	message = base_jv_str(base_jv_get(v, "message"));
	line = base_jv_int(base_jv_get(v, "line"), 0);
	file = file.len ? file : path;
	base_buf_init(&detail, 1 << 16);
	base_buf_str(&detail, file);
	if (line)
		base_buf_printf(&detail, ":%lld:%lld", (long long)line,
			(long long)base_jv_int(base_jv_get(v, "column"), 0));
	base_buf_cstr(&detail, ": ");
	base_buf_str(&detail, message.len ? message : BASE_STR("it cannot be read"));
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", "invalid");
	base_jw_mcstr(&w, "title", title);
	base_jw_mstr(&w, "detail", base_buf_view(&detail));
	base_jw_mstr(&w, "file", file);
	if (line) {
		base_jw_mint(&w, "line", line);
		base_jw_mint(&w, "column", base_jv_int(base_jv_get(v, "column"), 0));
	}
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 422);
	base_buf_done(&detail);
	base_json_free(doc);
}

/* The first fault answers the request. */
static void fault(struct engine *e, struct part *p, int status, struct base_str problem)
{
	struct engine_req *q = engine_req_of(e, p->d->req);

	if (p->d->failed || !q)
		return;
	p->d->failed = true;
	engine_reply_fault(
		e, q, base_str_of(p->path), status, problem, "A source has a fault; nothing was deployed");
}

static void on_answer(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct part *p = userdata;
	struct deploy *d = p->d;

	(void)sealed;
	if (status == 1)
		base_buf_str(&p->answer, value);
	else
		fault(e, p, status, value);
	d->waiting--;
	if (d->started && !d->waiting)
		finish(e, d);
}

static void ask_inspect(struct engine *e, struct part *p)
{
	uint64_t req = engine_ask_next(e);
	struct base_buf b;

	base_buf_init(&b, WIRE_BODY_MAX);
	wire_flow_inspect_put(
		&b, &(struct wire_flow_inspect){.req = req, .modules = base_buf_view(&p->modules)});
	engine_ask(e, ENGINE_INSPECT, WIRE_FLOW_INSPECT, req, &b, INSPECT_MS, on_answer, p);
	base_buf_done(&b);
}

static void add_part(
	struct engine *e, struct deploy *d, enum part_kind kind, struct base_str path, struct base_str text)
{
	struct part *p = calloc(1, sizeof(*p));

	BASE_CHECK(p);
	p->d = d;
	p->kind = kind;
	p->path = strndup(path.ptr, path.len);
	BASE_CHECK(p->path);
	base_buf_init(&p->modules, 16 << 20);
	base_buf_init(&p->answer, 16 << 20);
	*d->tail = p;
	d->tail = &p->next;
	d->waiting++;
	if (kind != PART_FLOW) {
		engine_parse(e, ENGINE_SOURCES,
			kind == PART_AGENT    ? BASE_STR("agent")
			: kind == PART_POLICY ? BASE_STR("policy")
					      : BASE_STR("yaml"),
			path, text, on_answer, p);
	} else if (engine_graph_put(d->files, path, &p->modules) < 0) {
		fault(e, p, 0, BASE_STR("{\"message\":\"it imports too many modules, or too much\"}"));
		d->waiting--;
	} else {
		ask_inspect(e, p);
	}
}

static bool is_in(struct base_str path, const char *folder, const char *ending)
{
	return base_str_starts(path, base_str_of(folder)) && base_str_ends(path, base_str_of(ending)) &&
	       base_str_find(base_str_sub(path, strlen(folder), path.len), '/') < 0;
}

static void add_parts(struct engine *e, struct deploy *d)
{
	struct base_jv_iter it = {0};
	struct base_str path;
	unsigned flows = 0;
	struct base_jv v;

	while (base_jv_next(d->files, &it, &path, &v) && !d->failed) {
		struct base_str text = base_jv_str(v);

		if (base_jv_kind(v) != BASE_JSON_STR)
			continue;
		if (base_str_is(path, "aios.yaml"))
			add_part(e, d, PART_CONFIG, path, text);
		else if (base_str_is(path, "policy.yaml") || is_in(path, "policy/", ".yaml"))
			add_part(e, d, PART_POLICY, path, text);
		else if (is_in(path, "agents/", ".md"))
			add_part(e, d, PART_AGENT, path, text);
		else if (is_in(path, "flows/", ".js") && flows++ < FLOWS_MAX)
			add_part(e, d, PART_FLOW, path, text);
	}
}

void engine_op_deploy(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	struct deploy *d;

	if (!doc)
		return;
	if (base_jv_kind(base_jv_get(base_json_root(doc), "files")) != BASE_JSON_OBJ) {
		engine_reply_problem(e, q, 400, "invalid",
			"the body is {\"files\": {\"aios.yaml\": \"…\", \"flows/x.js\": \"…\"}}");
		base_json_free(doc);
		return;
	}
	d = calloc(1, sizeof(*d));
	BASE_CHECK(d);
	d->req = q->id;
	d->check = q->op == WIRE_OP_DEPLOY_CHECK;
	d->whole = base_jv_bool(base_jv_get(base_json_root(doc), "whole"), false);
	d->doc = doc;
	d->files = base_jv_get(base_json_root(doc), "files");
	d->tail = &d->parts;
	add_parts(e, d);
	d->started = true;
	if (!d->waiting)
		finish(e, d);
}
