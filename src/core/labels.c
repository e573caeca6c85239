/*
 * Labels: where data comes from (untrusted) and who may have it (private). They are the run's: they join as it uses data
 * and are never lost by it (shed.c is the one way round), and what it writes, starts, publishes or returns has them.
 *
 * A call is judged with the labels that its run had when it asked: what the run hears later cannot be in its arguments.
 *
 * Invariants (by construction; tests/core/test_labels.c)
 *  T1  The labels of a run only grow.
 *  T2  Whatever gives a run data gives it the labels of that data in the same event: a result, a problem, an input.
 */
#include <errno.h>
#include <string.h>

#include "core/undo_int.h"

enum { WHAT_MAX = 200 };

static const struct {
	const char *name;
	uint8_t bit;
} names[] = {{"private", CORE_LABEL_PRIVATE}, {"untrusted", CORE_LABEL_UNTRUSTED}};
enum { NAMES = sizeof(names) / sizeof(names[0]) };

struct base_str core_labels_json(uint8_t labels)
{
	static const char *const all[] = {
		"[]", "[\"untrusted\"]", "[\"private\"]", "[\"private\",\"untrusted\"]"};

	return base_str_of(all[labels & CORE_LABELS_ALL]);
}

static uint8_t bit_of(struct base_str name)
{
	for (size_t i = 0; i < NAMES; i++)
		if (base_str_is(name, names[i].name))
			return names[i].bit;
	return 0;
}

int core_labels_read(struct base_jv list, uint8_t *ret)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	uint8_t labels = 0;

	if (base_jv_kind(list) != BASE_JSON_ARR && base_jv_kind(list) != BASE_JSON_NONE)
		return -EINVAL;
	while (base_jv_next(list, &it, &key, &v)) {
		if (!bit_of(base_jv_str(v)))
			return -EINVAL;
		labels |= bit_of(base_jv_str(v));
	}
	*ret = labels;
	return 0;
}

static uint8_t bits_of(struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	uint8_t labels = 0;

	while (base_jv_next(list, &it, &key, &v))
		labels |= bit_of(base_jv_str(v));
	return labels;
}

uint8_t core_run_labels(const struct core *c, uint64_t run)
{
	const struct core_run *r = core_run_find(c, run);

	return r ? (uint8_t)r->labels : 0;
}

/* --- what aios.yaml says --- */

static struct base_jv settings(const struct core *c)
{
	return c->config_doc ? base_jv_get(base_json_root(c->config_doc), "labels") : (struct base_jv){0};
}

uint8_t core_caller_labels(const struct core *c, struct base_str by)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	if (base_str_is(by, "operator"))
		return 0;
	while (base_jv_next(base_jv_get(settings(c), "trusted"), &it, &key, &v))
		if (base_str_matches(base_jv_str(v), by))
			return 0;
	return CORE_LABEL_UNTRUSTED;
}

/* One of the list begins `text`; with `wide`, also one that `text` begins. */
static bool listed(struct base_jv list, struct base_str text, bool wide)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(list, &it, &key, &v))
		if (base_str_starts(text, base_jv_str(v)) || (wide && base_str_starts(base_jv_str(v), text)))
			return true;
	return false;
}

static uint8_t marked(struct base_jv from, struct base_str text, bool wide)
{
	uint8_t labels = 0;

	for (size_t i = 0; i < NAMES; i++)
		if (listed(base_jv_get(from, names[i].name), text, wide))
			labels |= names[i].bit;
	return labels;
}

uint8_t core_key_labels(const struct core *c, struct base_str key)
{
	return marked(settings(c), key, false);
}

uint8_t core_prefix_labels(const struct core *c, struct base_str prefix)
{
	return marked(settings(c), prefix, true);
}

uint8_t core_fact_labels_of(const struct core *c, struct base_str key, const struct core_fact *f)
{
	return (uint8_t)(core_key_labels(c, key) | (f ? f->labels : 0));
}

uint8_t core_fact_labels(const struct core *c, struct base_str key)
{
	return core_fact_labels_of(c, key, base_names_get(c->facts, key));
}

uint8_t core_file_labels(const struct core *c, struct base_str path)
{
	return (uint8_t)(marked(base_jv_get(settings(c), "files"), path, false) |
			 (uint8_t)(uintptr_t)base_names_get(c->file_labels, path));
}

uint8_t core_folder_labels(const struct core *c, struct base_str path)
{
	uint8_t labels = marked(base_jv_get(settings(c), "files"), path, true);
	struct base_str at = path;
	void *value;

	for (bool first = true; base_names_seek(c->file_labels, at, first, &at, &value); first = false) {
		if (!base_str_starts(at, path))
			break;
		labels |= (uint8_t)(uintptr_t)value;
	}
	return labels;
}

struct base_str core_file_path(struct base_arena *a, struct base_str path)
{
	struct base_str head, rest = path, out = BASE_STR("");

	while (rest.len) {
		(void)base_str_cut(rest, '/', &head, &rest);
		if (head.len == 0 || base_str_is(head, "."))
			continue;
		if (base_str_is(head, "..")) {
			while (out.len && out.ptr[out.len - 1] != '/')
				out.len--;
			out.len -= out.len ? 1 : 0;
			continue;
		}
		out = out.len ? BASE_JOIN(a, out, BASE_STR("/"), head) : head;
	}
	return out;
}

/* --- what a result brings --- */

bool core_result_needs_call(const struct core_action *a)
{
	return base_str_is(a->connector, "views") || base_str_is(a->connector, "file") ||
	       base_str_is(a->connector, "feed");
}

static uint8_t labels_of_hits(const struct core *c, struct base_jv hits)
{
	struct base_jv_iter it = {0};
	struct base_str key, id;
	struct base_jv hit;
	uint8_t labels = 0;

	while (base_jv_next(hits, &it, &key, &hit)) {
		id = base_jv_str(base_jv_get(hit, "id"));
		labels |= bits_of(base_jv_get(hit, "labels")) | core_key_labels(c, id);
		if (base_str_is(base_jv_str(base_jv_get(hit, "kind")), "fact"))
			labels |= core_fact_labels(c, id);
	}
	return labels;
}

static uint8_t labels_of_history(const struct core *c, struct base_jv args, struct base_jv items)
{
	struct base_str key, of = base_jv_str(base_jv_get(args, "key"));
	uint8_t labels = core_fact_labels(c, of);
	struct base_jv_iter it = {0};
	struct base_jv v;

	while (base_jv_next(items, &it, &key, &v))
		labels |= bits_of(base_jv_get(v, "labels"));
	return labels;
}

static uint8_t labels_of_views(
	const struct core *c, const struct core_action *a, struct base_jv args, struct base_str value)
{
	struct base_json *doc;
	uint8_t labels;

	if (base_json_parse(value, &doc, NULL) < 0) /* what cannot be read may be anything */
		return CORE_LABELS_ALL;
	if (base_str_is(a->name, "memory.search"))
		labels = labels_of_hits(c, base_jv_get(base_json_root(doc), "hits"));
	else if (base_str_is(a->name, "memory.history"))
		labels = labels_of_history(c, args, base_jv_get(base_json_root(doc), "items"));
	else
		labels = CORE_LABELS_ALL;
	base_json_free(doc);
	return labels;
}

/* Is it in the folder that mails are delivered to? They hold what whoever sent them had read. */
static bool is_mail(struct core_turn *t, struct base_str path)
{
	struct base_jv mail = t->c->config_doc ? base_jv_get(base_json_root(t->c->config_doc), "mail")
					       : (struct base_jv){0};
	struct base_str dir = base_jv_str(base_jv_get(mail, "maildir")), at;

	dir = core_file_path(t->arena, dir.len ? dir : BASE_STR("files/outbox"));
	for (size_t i = 0; i + 6 <= dir.len; i++) { /* an absolute one leads through the workspace's files/ */
		if ((i && dir.ptr[i - 1] != '/') ||
			!base_str_starts(base_str_sub(dir, i, dir.len), BASE_STR("files/")))
			continue;
		at = base_str_sub(dir, i + 6, dir.len);
		if (at.len && base_str_starts(path, at) && (path.len == at.len || path.ptr[at.len] == '/'))
			return true;
	}
	return false;
}

static uint8_t labels_of_file(struct core_turn *t, const struct core_action *a, struct base_jv args)
{
	bool feed = base_str_is(a->connector, "feed");
	struct base_str given = base_jv_str(base_jv_get(args, feed ? "file" : "path"));
	struct base_str path = core_file_path(t->arena, given);

	if (feed && !given.len)
		return 0;
	if (is_mail(t, path))
		return CORE_LABELS_ALL;
	return base_str_is(a->name, "file.list") ? core_folder_labels(t->c, path)
						 : core_file_labels(t->c, path);
}

uint8_t core_result_labels(
	struct core_turn *t, const struct core_run *r, const struct core_open *o, struct base_str value)
{
	const struct core_fetched *f = core_fetched_at(t, r->step[o->step].seq);
	struct base_json *args = NULL;
	uint8_t labels = (uint8_t)(o->action->labels | t->cmd->labels);

	if (!core_result_needs_call(o->action))
		return labels;
	if (!f || base_json_parse(f->blob, &args, NULL) < 0)
		return CORE_LABELS_ALL;
	labels |= base_str_is(o->action->connector, "views")
			  ? labels_of_views(t->c, o->action, base_json_root(args), value)
			  : labels_of_file(t, o->action, base_json_root(args));
	base_json_free(args);
	return labels;
}

/* --- the guard --- */

bool core_provider_is_trusted(const struct core *c, struct base_str provider)
{
	struct base_jv models = base_jv_get(base_json_root(c->config_doc), "models");
	struct base_jv p = base_jv_get_str(base_jv_get(models, "providers"), provider);

	if (base_jv_kind(p) == BASE_JSON_NONE)
		return base_str_is(provider, "local");
	return base_jv_bool(
		base_jv_get(p, "private"), base_str_is(base_jv_str(base_jv_get(p, "api")), "local"));
}

/* Does it stay in the house? What only runs here is no sending: memory, sessions, files, the model without a network. */
static bool stays(const struct core *c, const struct core_action *a, struct base_str provider)
{
	struct base_jv models, p;

	if (a->internal)
		return true;
	if (!a->model || !base_str_is(provider, "local"))
		return false;
	models = base_jv_get(base_json_root(c->config_doc), "models");
	p = base_jv_get_str(base_jv_get(models, "providers"), provider);
	return base_jv_kind(p) == BASE_JSON_NONE || base_str_is(base_jv_str(base_jv_get(p, "api")), "local");
}

bool core_guard_is_on(const struct core *c, struct base_str rule)
{
	return base_str_is(rule, CORE_GUARD) && !c->guard_off;
}

struct base_str core_guard(
	const struct core *c, const struct core_action *a, struct base_str provider, uint8_t labels)
{
	if (a->has_accepts)
		return labels & ~a->accepts & CORE_LABELS_ALL ? BASE_STR("accepts") : BASE_STR_NONE;
	if ((labels & CORE_LABELS_ALL) != CORE_LABELS_ALL || c->guard_off || stays(c, a, provider))
		return BASE_STR_NONE;
	return BASE_STR(CORE_GUARD);
}

/* --- where they came from --- */

/* The first step that brought this label, UINT32_MAX: none did, it came with the input. */
static uint32_t first_with(const struct core_run *r, uint8_t bit)
{
	for (uint32_t i = 0; i < r->steps; i++)
		if (r->step[i].labels & bit)
			return i;
	return UINT32_MAX;
}

size_t core_sources_want(const struct core_run *r, uint8_t labels, uint64_t ret[2])
{
	size_t n = 0;

	for (size_t i = 0; i < NAMES; i++) {
		uint32_t step = labels & names[i].bit ? first_with(r, names[i].bit) : UINT32_MAX;

		if (step != UINT32_MAX)
			ret[n++] = r->step[step].seq;
	}
	return n;
}

/* The argument that says what was read. */
static void put_what(struct core_turn *t, struct base_jw *w, uint64_t seq)
{
	static const char *const members[] = {"key", "url", "path", "file", "query", "prefix", "id", "name",
		"topic", "flow", "agent", "run"};
	const struct core_fetched *f = core_fetched_at(t, seq);
	struct core_step_called ev;
	struct base_json *doc;
	struct base_str text;
	struct base_jv v;

	if (!f || f->record.type != CORE_EV_STEP_CALLED || core_step_called_get(f->record.body, &ev) < 0 ||
		!base_blob_is_inline(&ev.args) || base_json_parse(ev.args.data, &doc, NULL) < 0)
		return;
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		v = base_jv_get(base_json_root(doc), members[i]);
		if (base_jv_kind(v) != BASE_JSON_STR && base_jv_kind(v) != BASE_JSON_INT)
			continue;
		text = base_str_sub(base_jv_str(v), 0, WHAT_MAX);
		while (text.len && !base_utf8_valid(text))
			text.len--;
		if (base_jv_kind(v) == BASE_JSON_INT)
			base_jw_mint(w, members[i], base_jv_int(v, 0));
		else
			base_jw_mstr(w, members[i], text);
		break;
	}
	base_json_free(doc);
}

struct base_str core_sources(struct core_turn *t, const struct core_run *r, uint8_t labels)
{
	struct base_buf b;
	struct base_jw w;

	if (!(labels & CORE_LABELS_ALL))
		return BASE_STR_NONE;
	base_buf_init(&b, CORE_INLINE_MAX);
	w = base_jw_of(&b);
	base_jw_arr(&w);
	for (size_t i = 0; i < NAMES; i++) {
		uint32_t step;

		if (!(labels & names[i].bit))
			continue;
		step = first_with(r, names[i].bit);
		base_jw_obj(&w);
		base_jw_mcstr(&w, "label", names[i].name);
		if (step == UINT32_MAX) {
			base_jw_mcstr(
				&w, "from", core_run_extra(r)->parent ? "the run that started it" : "input");
			base_jw_mstr(&w, "by", core_word_text(r->by));
		} else {
			base_jw_mint(&w, "step", step);
			base_jw_mstr(&w, "action", t->c->action_names[r->step[step].action]);
			put_what(t, &w, r->step[step].seq);
		}
		base_jw_end_obj(&w);
	}
	base_jw_end_arr(&w);
	return core_buf_to_arena(t->arena, &b);
}
