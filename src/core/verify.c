/*
 * Confidence: a step that says how far a value is confirmed by what is outside of the flow, bound to the hash of the
 * value. A flow cannot claim a number: it names evidence, and what that is worth is found here.
 *
 *  - `schema`: form alone proves nothing; a value that does not fit is worth 0.
 *  - `citations`: [{"key","quote"}]: facts that say so; the share of them that hold. What this run wrote itself does not
 *    count.
 *  - `model`: the arguments with which a model was asked in this run about exactly this value, in the words of ctx.verify;
 *    its answer is read here.
 *
 * The least of them counts, in thousandths. A call that carries {confidence: STEP} is judged with it if the value stands
 * in its arguments, as it was.
 */
#include <string.h>

#include "base/check.h"
#include "core/core_int.h"

enum { WHOLE = 1000, VALUE_MIN = 16, QUOTE_MIN = 8, NODES_MAX = 4000, DEPTH_MAX = 12 };

/* src/flow/lib/verify.js asks with these words; tests/e2e/policy.py meets both. */
#define MODEL_SYSTEM                                                                                         \
	"You check a text against its sources. Answer with JSON alone: {\"confidence\": 0 to 1, "            \
	"\"problems\": [\"…\"]}."
#define MODEL_TEXT "\n\nTEXT\n"

static struct base_str canonical(struct base_arena *a, struct base_jv v)
{
	struct base_buf b;

	base_buf_init(&b, 32 << 20);
	base_jv_write(v, &b);
	return core_buf_to_arena(a, &b);
}

static bool holds(struct base_str text, struct base_str part)
{
	return text.len >= part.len && memmem(text.ptr, text.len, part.ptr, part.len) != NULL;
}

/* --- citations --- */

static bool says(struct base_jv v, struct base_str quote, unsigned depth)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv child;

	if (base_jv_kind(v) == BASE_JSON_STR)
		return holds(base_jv_str(v), quote);
	while (depth < DEPTH_MAX && base_jv_next(v, &it, &key, &child))
		if (says(child, quote, depth + 1))
			return true;
	return false;
}

static bool fact_says(struct core_turn *t, const struct core_call *call, struct base_jv citation)
{
	struct base_str quote = base_jv_str(base_jv_get(citation, "quote"));
	const struct core_fact *f = base_names_get(t->c->facts, base_jv_str(base_jv_get(citation, "key")));
	const struct core_fetched *got = f && !f->removed ? core_fetched_at(t, f->seq) : NULL;
	struct core_fact_put ev;
	struct base_json *doc;
	bool yes;

	/* Whether a fact says something is told to who may read it. */
	if (!got || quote.len < QUOTE_MIN || !core_run_may(t->c, call->run, BASE_STR("memory.get")) ||
		core_fact_put_get(got->record.body, &ev) < 0 || ev.run == call->run->id ||
		base_json_parse(got->blob, &doc, NULL) < 0)
		return false;
	yes = says(base_json_root(doc), quote, 0);
	base_json_free(doc);
	return yes;
}

/* An answer about a fact has its labels: asked often enough, it is the fact. */
static uint8_t labels_of_citations(struct core_turn *t, struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	uint8_t labels = 0;

	while (base_jv_next(list, &it, &key, &v))
		labels |= core_fact_labels(t->c, base_jv_str(base_jv_get(v, "key")));
	return labels;
}

static int64_t citations_worth(struct core_turn *t, const struct core_call *call, struct base_jv list)
{
	struct base_jv_iter it = {0};
	int64_t found = 0, all = 0;
	struct base_str none;
	struct base_jv v;

	while (base_jv_next(list, &it, &none, &v)) {
		all++;
		found += fact_says(t, call, v);
	}
	return all ? found * WHOLE / all : 0;
}

/* --- a second model --- */

/* Was this question put to it, and no other? */
static bool asked_this(struct base_str args, struct base_str value)
{
	struct base_jv root, messages, m;
	struct base_json *doc;
	struct base_str content;
	bool yes;

	if (base_json_parse(args, &doc, NULL) < 0)
		return false;
	root = base_json_root(doc);
	messages = base_jv_get(root, "messages");
	m = base_jv_at(messages, 0);
	content = base_jv_str(base_jv_get(m, "content"));
	yes = base_jv_len(messages) == 1 &&
	      base_str_is(base_jv_str(base_jv_get(root, "system")), MODEL_SYSTEM) &&
	      base_str_is(base_jv_str(base_jv_get(m, "role")), "user") &&
	      base_jv_kind(base_jv_get(root, "tools")) == BASE_JSON_NONE &&
	      base_str_starts(content, BASE_STR("SOURCES\n")) && base_str_ends(content, value) &&
	      base_str_ends(base_str_sub(content, 0, content.len - value.len), BASE_STR(MODEL_TEXT));
	base_json_free(doc);
	return yes;
}

/* The number in its answer, which may have words around the JSON. */
static int64_t said(struct base_str result)
{
	struct base_json *doc, *answer;
	struct base_str text;
	size_t from = 0, to;
	double n = 0;

	if (base_json_parse(result, &doc, NULL) < 0)
		return 0;
	text = base_jv_str(base_jv_get(base_json_root(doc), "text"));
	to = text.len;
	while (from < to && text.ptr[from] != '{')
		from++;
	while (to > from && text.ptr[to - 1] != '}')
		to--;
	if (base_json_parse(base_str_sub(text, from, to - from), &answer, NULL) == 0) {
		n = base_jv_real(base_jv_get(base_json_root(answer), "confidence"), 0);
		base_json_free(answer);
	}
	base_json_free(doc);
	return !(n > 0) ? 0 : n >= 1 ? WHOLE : (int64_t)(n * WHOLE);
}

/* The last step of the run that asked a model with exactly these arguments, and was answered. */
static const struct core_step *asked_with(
	const struct core *c, const struct core_run *r, struct base_str args)
{
	struct base_hash h = base_hash_of(args);

	for (uint32_t i = r->steps; i-- > 0;) {
		const struct core_step *s = &r->step[i];

		if (s->status == CORE_STEP_DONE && memcmp(s->hash, h.b, sizeof(s->hash)) == 0 &&
			base_str_is(c->action_names[s->action], "model.generate"))
			return s;
	}
	return NULL;
}

static int64_t model_worth(struct core_turn *t, const struct core_call *call, struct base_str args,
	struct base_str value, const char **ret_why)
{
	const struct core_step *s = asked_with(t->c, call->run, args);
	const struct core_fetched *answer = s ? core_fetched_at(t, core_step_end(s)) : NULL;

	*ret_why = "no model of this run was asked about this value";
	if (!answer || !asked_this(args, value))
		return 0;
	*ret_why = "the model's answer";
	return said(answer->blob);
}

/* --- the step --- */

struct finding {
	int64_t confidence;
	struct base_buf b;
	struct base_jw w;
};

static void find(struct finding *f, const char *check, int64_t worth, const char *why)
{
	f->confidence = worth < f->confidence ? worth : f->confidence;
	base_jw_obj(&f->w);
	base_jw_mcstr(&f->w, "check", check);
	base_jw_mint(&f->w, "worth", worth);
	if (why)
		base_jw_mcstr(&f->w, "why", why);
	base_jw_end_obj(&f->w);
}

/* False and answered: it cannot be asked like this. */
static bool check_form(
	struct core_turn *t, const struct core_call *call, struct base_str value, struct finding *f)
{
	struct base_jv schema = base_jv_get(call->args, "schema");
	bool cites = base_jv_kind(base_jv_get(call->args, "citations")) != BASE_JSON_NONE;
	struct base_schema *s;
	struct base_err err;

	if (!cites && base_jv_kind(base_jv_get(call->args, "model")) == BASE_JSON_NONE) {
		core_emit_called_failed(t, call,
			core_problem(t->arena, "invalid",
				"form alone proves nothing: a confidence needs citations, or a model that "
				"was asked"));
		return false;
	}
	if (value.len < VALUE_MIN) {
		core_emit_called_failed(t, call,
			core_problem(t->arena, "invalid",
				"a value of less than %d bytes could stand anywhere", VALUE_MIN));
		return false;
	}
	if (cites && !core_run_may(t->c, call->run, BASE_STR("memory.get"))) {
		core_emit_called_failed(t, call,
			core_problem(t->arena, "denied",
				"%.*s may not read facts, so it cannot cite them: %s",
				BASE_STR_ARG(call->run->as->text),
				core_run_may_not(t->c, call->run, BASE_STR("memory.get"))));
		return false;
	}
	if (base_jv_kind(schema) == BASE_JSON_NONE)
		return true;
	if (base_schema_compile(schema, &s, &err) < 0) {
		core_emit_called_failed(t, call, core_problem(t->arena, "invalid", "verify: %s", err.text));
		return false;
	}
	if (base_schema_check(s, base_jv_get(call->args, "value"), &err) < 0)
		find(f, "schema", 0, err.text);
	else
		find(f, "schema", WHOLE, NULL);
	base_schema_free(s);
	return true;
}

void core_verify(struct core_turn *t, const struct core_call *call)
{
	struct base_jv value = base_jv_get(call->args, "value"),
		       citations = base_jv_get(call->args, "citations"),
		       model = base_jv_get(call->args, "model");
	struct base_str text = canonical(t->arena, value);
	struct base_hash hash = base_hash_of(text);
	struct finding f = {.confidence = WHOLE};
	struct core_call with = *call;
	struct base_str findings, result;
	char hex[65];
	const char *why;

	base_buf_init(&f.b, 64 << 10);
	f.w = base_jw_of(&f.b);
	base_jw_arr(&f.w);
	if (!check_form(t, call, text, &f)) {
		base_buf_done(&f.b);
		return;
	}
	if (base_jv_kind(citations) != BASE_JSON_NONE)
		find(&f, "citations", citations_worth(t, call, citations), NULL);
	if (base_jv_kind(model) != BASE_JSON_NONE) {
		int64_t worth = model_worth(t, call, canonical(t->arena, model),
			base_jv_kind(value) == BASE_JSON_STR ? base_jv_str(value) : text, &why);

		find(&f, "model", worth, why);
	}
	base_jw_end_arr(&f.w);
	findings = core_buf_to_arena(t->arena, &f.b);
	base_hash_hex(&hash, hex);
	result = base_arena_printf(t->arena,
		"{\"bytes\":%zu,\"confidence\":%lld,\"findings\":%.*s,\"hash\":\"%s\",\"step\":%u}", text.len,
		(long long)f.confidence, BASE_STR_ARG(findings), hex, call->step);
	with.brings = labels_of_citations(t, citations);
	core_emit_called_done(t, &with, result);
}

size_t core_verify_wants(
	const struct core *c, const struct core_run *r, struct base_jv args, uint64_t *ret, size_t max)
{
	struct base_jv model = base_jv_get(args, "model");
	const struct core_step *s = NULL;
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;
	size_t count = 0;

	if (r && base_jv_kind(model) == BASE_JSON_OBJ) {
		struct base_buf b;

		base_buf_init(&b, 32 << 20);
		base_jv_write(model, &b);
		s = asked_with(c, r, base_buf_view(&b));
		base_buf_done(&b);
	}
	if (s && max)
		ret[count++] = core_step_end(s);
	while (count < max && base_jv_next(base_jv_get(args, "citations"), &it, &none, &v)) {
		const struct core_fact *f = base_names_get(c->facts, base_jv_str(base_jv_get(v, "key")));

		if (f && !f->removed)
			ret[count++] = f->seq;
	}
	return count;
}

/* --- a call that carries it --- */

struct search {
	struct base_arena *arena;
	struct base_str hash;
	size_t bytes;
	unsigned nodes;
};

static bool stands_in(struct search *s, struct base_jv v, unsigned depth)
{
	struct base_jv_iter it = {0};
	struct base_str key, text;
	struct base_jv child;
	struct base_hash h;
	char hex[65];

	if (depth > DEPTH_MAX || s->nodes++ > NODES_MAX)
		return false;
	text = canonical(s->arena, v);
	if (text.len < s->bytes)
		return false; /* nor does anything in it */
	if (text.len == s->bytes) {
		h = base_hash_of(text);
		base_hash_hex(&h, hex);
		if (base_str_is(s->hash, hex))
			return true;
	}
	while (base_jv_next(v, &it, &key, &child))
		if (stands_in(s, child, depth + 1))
			return true;
	return false;
}

uint64_t core_confidence_seq(const struct core *c, const struct core_run *r, struct base_jv opts)
{
	int64_t n = base_jv_int(base_jv_get(opts, "confidence"), -1);
	const struct core_step *s = r && n >= 0 && n < r->steps ? core_step_find(r, (uint32_t)n) : NULL;

	if (!s || s->status != CORE_STEP_DONE || !base_str_is(c->action_names[s->action], "verify.check"))
		return 0;
	return s->seq;
}

int64_t core_confidence_of(struct core_turn *t, const struct core_call *call)
{
	uint64_t seq = core_confidence_seq(t->c, call->run, call->opts);
	const struct core_fetched *got = seq ? core_fetched_at(t, seq) : NULL;
	struct search s = {.arena = t->arena};
	struct core_step_called ev;
	struct base_json *doc;
	int64_t worth = 0;

	if (!got || core_step_called_get(got->record.body, &ev) < 0 || !base_blob_is_inline(&ev.result) ||
		base_json_parse(ev.result.data, &doc, NULL) < 0)
		return 0;
	s.hash = base_jv_str(base_jv_get(base_json_root(doc), "hash"));
	s.bytes = (size_t)base_jv_int(base_jv_get(base_json_root(doc), "bytes"), 0);
	if (s.bytes >= VALUE_MIN && stands_in(&s, call->args, 0))
		worth = base_jv_int(base_jv_get(base_json_root(doc), "confidence"), 0);
	base_json_free(doc);
	return worth;
}
