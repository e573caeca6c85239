#include <stdlib.h>
#include <string.h>

#include "base/money.h"
#include "cli/cli_int.h"

/* run, runs, show, cancel, signal. */

enum { INPUT_MAX = 16 << 20, BAR_WIDTH = 24 };

int cli_read_json(struct cli *c, const char *text, struct base_buf *ret)
{
	struct base_json *doc;
	struct base_err err;

	if (text[0] == '@' || strcmp(text, "-") == 0) {
		if (cli_read_file(text[0] == '@' ? text + 1 : text, INPUT_MAX, ret, &err) < 0)
			return cli_fail(c, "%s", err.text);
	} else {
		base_buf_cstr(ret, text);
	}
	if (base_json_parse(base_buf_view(ret), &doc, &err) < 0)
		return cli_fail(c, "%s is not JSON: %s", text[0] == '@' ? text + 1 : "the value", err.text);
	base_json_free(doc);
	return 0;
}

/* The flow's schema of its input, or a value of kind NONE. */
static struct base_jv input_schema(struct cli *c, struct base_jv flows)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv f;

	while (base_jv_next(flows, &it, &key, &f))
		if (base_str_is(base_jv_str(base_jv_get(f, "flow")), c->args[0]))
			return base_jv_get(base_jv_get(f, "spec"), "input");
	return (struct base_jv){0};
}

/* A value of the command line: text where the flow wants a string, else JSON where it is JSON, else text. */
static void put_value(struct base_jw *w, struct base_jv schema, const char *name, const char *text)
{
	struct base_jv wanted = base_jv_get(base_jv_get(base_jv_get(schema, "properties"), name), "type");
	struct base_json *doc;

	if (!base_str_is(base_jv_str(wanted), "string") &&
		base_json_parse(base_str_of(text), &doc, NULL) == 0) {
		base_jw_raw(w, base_str_of(text));
		base_json_free(doc);
	} else {
		base_jw_cstr(w, text);
	}
}

/* Options that the flow's input takes. */
static int put_extra(struct cli *c, struct base_jw *w)
{
	struct cli_answer a;
	struct base_jv schema;
	unsigned i;
	int r;

	if (c->extra_count == 0)
		return 0;
	r = cli_call(c, "GET", "/v1/flows", NULL, &a);
	if (r != 0)
		return r;
	schema = input_schema(c, cli_list(a.root, "flows"));
	for (i = 0; i < c->extra_count; i++) {
		base_jw_key(w, c->extra[i].name);
		put_value(w, schema, c->extra[i].name, c->extra[i].value);
	}
	cli_answer_done(&a);
	return 0;
}

static bool given_elsewhere(const struct cli *c, struct base_str key)
{
	unsigned i;

	for (i = 0; i < c->extra_count; i++)
		if (base_str_is(key, c->extra[i].name))
			return true;
	return base_str_is(key, "to") && cli_opt(c, "to");
}

/* --input's members, then --to and the other options; those win. */
static int put_input(struct cli *c, struct base_jw *w)
{
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct base_buf text, one;
	struct base_str key;
	struct base_jv v;
	int r = 0;

	base_buf_init(&text, INPUT_MAX + 65536);
	base_buf_init(&one, INPUT_MAX + 65536);
	if (cli_opt(c, "input"))
		r = cli_read_json(c, cli_opt(c, "input"), &text);
	else
		base_buf_cstr(&text, "{}");
	if (r == 0 && base_json_parse(base_buf_view(&text), &doc, NULL) < 0)
		r = cli_fail(c, "the input is not JSON");
	if (r == 0 && base_jv_kind(base_json_root(doc)) != BASE_JSON_OBJ) {
		if (c->extra_count > 0 || cli_opt(c, "to"))
			r = cli_usage(c, "--input is no object: it has no members to add");
		else
			base_jw_raw(w, base_buf_view(&text));
	} else if (r == 0) {
		base_jw_obj(w);
		while (base_jv_next(base_json_root(doc), &it, &key, &v)) {
			if (given_elsewhere(c, key))
				continue;
			base_buf_clear(&one);
			base_jv_write(v, &one);
			base_jw_key_str(w, key);
			base_jw_raw(w, base_buf_view(&one));
		}
		if (cli_opt(c, "to"))
			base_jw_mcstr(w, "to", cli_opt(c, "to"));
		r = put_extra(c, w);
		base_jw_end_obj(w);
	}
	base_json_free(doc);
	base_buf_done(&text);
	base_buf_done(&one);
	return r;
}

static int put_priority(struct cli *c, struct base_jw *w)
{
	const char *text = cli_opt(c, "priority");
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < -10 || n > 10)
		return cli_usage(c, "--priority is a whole number from -10 to 10");
	base_jw_mint(w, "priority", n);
	return 0;
}

/* When it begins, and how long it may take. */
static int put_times(struct cli *c, struct base_jw *w)
{
	const char *limit = cli_opt(c, "timeout");
	struct base_err err;
	int64_t ms;
	int r;

	if (cli_opt(c, "in") && cli_opt(c, "at"))
		return cli_usage(c, "--in and --at say the same in two ways");
	if (limit && base_duration_parse(base_str_of(limit), &ms, &err) < 0)
		return cli_usage(c, "--timeout: %s", err.text);
	if (limit)
		base_jw_mint(w, "timeout", ms);
	if (cli_opt(c, "in") && base_duration_parse(base_str_of(cli_opt(c, "in")), &ms, &err) < 0)
		return cli_usage(c, "--in: %s", err.text);
	if (cli_opt(c, "in"))
		base_jw_mcstr(w, "begin", cli_opt(c, "in"));
	if (!cli_opt(c, "at"))
		return 0;
	r = cli_moment(c, "at", true, &ms);
	if (r == 0)
		base_jw_mint(w, "begin", ms);
	return r;
}

static int start(struct cli *c, int64_t *ret_run, struct cli_answer *ret)
{
	const char *path = cli_path(c, "/v1/flows/", c->args[0], "/runs");
	struct base_buf body;
	struct base_jw w;
	int r;

	base_buf_init(&body, CLI_BODY_MAX);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	base_jw_key(&w, "input");
	r = put_input(c, &w);
	if (cli_flag(c, "dry"))
		base_jw_mbool(&w, "dry", true);
	if (cli_opt(c, "customer"))
		base_jw_mcstr(&w, "customer", cli_opt(c, "customer"));
	if (cli_opt(c, "priority") && (r = put_priority(c, &w)) != 0) {
		base_buf_done(&body);
		return r;
	}
	if (r == 0)
		r = put_times(c, &w);
	base_jw_end_obj(&w);
	if (r == 0)
		r = cli_call_key(c, "POST", path, &body, cli_opt(c, "key"), ret);
	base_buf_done(&body);
	if (r == 0)
		*ret_run = base_jv_int(base_jv_get(ret->root, "run"), 0);
	return r;
}

static bool is_over(struct base_str state)
{
	return !base_str_is(state, "active") && !base_str_is(state, "running") &&
	       !base_str_is(state, "queued") && !base_str_is(state, "paused") &&
	       !base_str_is(state, "undoing") && state.len > 0;
}

/* The first open gate of a run's answer, or a value of kind NONE. */
static struct base_jv open_gate(struct base_jv run)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv g;

	while (base_jv_next(base_jv_get(run, "gates"), &it, &key, &g))
		if (base_str_is(base_jv_str(base_jv_get(g, "state")), "open"))
			return g;
	return (struct base_jv){0};
}

static void say_gate(struct cli *c, struct base_jv g)
{
	long long id = (long long)base_jv_int(base_jv_get(g, "gate"), 0);

	cli_put(c, "%swaits for you%s at gate %lld: ", cli_paint(c, "yellow"), cli_paint(c, "off"), id);
	cli_text(c, base_jv_str(base_jv_get(g, "title")));
	cli_put(c, "\n  look at it   aios gates %lld\n", id);
	if (base_str_is(base_jv_str(base_jv_get(g, "kind")), "doubt"))
		cli_put(c, "  then         aios settle %lld --happened | --send | --give-up\n", id);
	else if (base_str_is(base_jv_str(base_jv_get(g, "kind")), "undo"))
		cli_put(c, "  then         aios settle %lld --again | --skip | --give-up\n", id);
	else
		cli_put(c, "  then         aios approve %lld   or   aios deny %lld --reason …\n", id, id);
}

static void say_end(struct cli *c, struct base_jv run)
{
	struct base_str state = base_jv_str(base_jv_get(run, "state"));
	struct base_jv value = base_jv_get(run, "value"), detail = base_jv_get(run, "detail");
	long long id = (long long)base_jv_int(base_jv_get(run, "run"), 0);

	cli_put(c, "run %lld is %s", id, cli_paint(c, cli_mood(state)));
	cli_text(c, state);
	cli_put(c, "%s, cost ", cli_paint(c, "off"));
	cli_money(&c->out,
		base_jv_int(base_jv_get(run, "cost"), base_jv_int(base_jv_get(run, "cost_nusd"), 0)));
	cli_put(c, "\n");
	if (base_str_is(state, "parked")) {
		cli_put(c, "  ");
		cli_text(c, base_jv_str(base_jv_get(run, "why")));
		cli_put(c, "\n");
		if (base_jv_kind(detail) != BASE_JSON_NULL)
			cli_value(c, detail, 2);
		cli_put(c, "  when it is mended: aios resume %lld; to give it up: aios cancel %lld\n", id,
			id);
	} else if (base_jv_kind(value) != BASE_JSON_NONE && base_jv_kind(value) != BASE_JSON_NULL) {
		cli_value(c, value, 2);
	}
	cli_put(c, "  its timeline: aios show %lld\n", id);
}

/* Until it ends or waits for a person. One long request after the other; the engine answers when there is
 * news. */
int cli_follow(struct cli *c, int64_t run, bool through_gates)
{
	int64_t said = 0;

	for (;;) {
		struct cli_answer a;
		struct base_jv gate;
		struct base_str state;
		char id[32];
		int64_t again;
		int r;

		snprintf(id, sizeof(id), "%lld", (long long)run);
		r = cli_call(c, "GET", cli_path(c, "/v1/runs/", id, "?wait=1"), NULL, &a);

		if (r != 0)
			return r;
		state = base_jv_str(base_jv_get(a.root, "state"));
		gate = open_gate(a.root);
		again = base_jv_int(base_jv_get(a.root, "next_run"), 0);
		if (again > run) { /* its next generation */
			run = again;
			cli_answer_done(&a);
			continue;
		}
		if (is_over(state) && !base_str_is(base_jv_str(base_jv_get(gate, "kind")), "undo")) {
			r = base_str_is(state, "done") || base_str_is(state, "ended") ? CLI_OK : CLI_FAILED;
			if (!cli_print_json(c, &a))
				say_end(c, a.root);
			cli_answer_done(&a);
			return r;
		}
		if (base_jv_kind(gate) == BASE_JSON_OBJ) {
			int64_t number = base_jv_int(base_jv_get(gate, "gate"), 0);

			if (!c->json && number != said)
				say_gate(c, gate);
			said = number;
			if (!through_gates) {
				cli_print_json(c, &a);
				cli_answer_done(&a);
				return CLI_OK;
			}
		}
		cli_answer_done(&a);
		cli_flush(c);
	}
}

int cmd_run(struct cli *c)
{
	bool later = cli_opt(c, "in") || cli_opt(c, "at");
	struct cli_answer a;
	int64_t run = 0;
	int r;

	if (cli_flag(c, "wait") && cli_flag(c, "detach"))
		return cli_usage(c, "--wait and --detach say opposite things");
	r = start(c, &run, &a);
	if (r != 0)
		return r;
	if (cli_flag(c, "detach") || (later && !cli_flag(c, "wait"))) {
		if (!cli_print_json(c, &a))
			cli_put(c, "run %lld %s; see aios %s %lld\n", (long long)run,
				later ? "begins later" : "started", later ? "why" : "show", (long long)run);
		cli_answer_done(&a);
		return CLI_OK;
	}
	if (!c->json) {
		bool known = base_jv_bool(base_jv_get(a.root, "existing"), false);

		cli_put(c, "run %lld%s%s\n", (long long)run, known ? " (this key started it before)" : "",
			cli_flag(c, "dry") ? ", dry: nothing goes out" : "");
		cli_flush(c);
	}
	cli_answer_done(&a);
	return cli_follow(c, run, cli_flag(c, "wait"));
}

int cmd_runs(struct cli *c)
{
	static const char *const columns[] = {">RUN=run", "FLOW=flow", "STATE=state", "STARTED=started_ms",
		">STEPS=steps", ">COST=cost,cost_nusd", "BY=by", NULL};
	static const char *const same[] = {
		"flow", "state", "key", "customer", "label", "text", "limit", "before"};
	static const char *const times[] = {"since", "until"};
	const char *path = "/v1/runs";
	struct cli_answer a;
	struct base_jv list;
	char text[2][32];
	int64_t at;
	int r = 0;

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		path = cli_query(c, path, same[i], cli_opt(c, same[i]));
	for (size_t i = 0; i < 2 && r == 0; i++) {
		if (!cli_opt(c, times[i]))
			continue;
		r = cli_moment(c, times[i], false, &at);
		snprintf(text[i], sizeof(text[i]), "%lld", (long long)at);
		if (r == 0)
			path = cli_query(c, path, times[i], text[i]);
	}
	if (r != 0)
		return r;
	r = cli_call(c, "GET", path, NULL, &a);
	if (r != 0)
		return r;
	list = cli_list(a.root, "runs");
	if (!cli_print_json(c, &a)) {
		if (base_jv_len(list) == 0)
			cli_put(c, "no runs\n");
		else
			cli_table(c, list, columns);
	}
	cli_answer_done(&a);
	return CLI_OK;
}

/* --- the timeline --- */

struct span {
	int64_t from, to;
};

static int64_t step_start(struct base_jv step)
{
	return base_jv_int(base_jv_get(step, "called_ms"), base_jv_int(base_jv_get(step, "started_ms"), 0));
}

static struct span span_of(struct base_jv run)
{
	struct span s = {
		base_jv_int(base_jv_get(run, "started_ms"), 0), base_jv_int(base_jv_get(run, "ended_ms"), 0)};
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv step;

	while (base_jv_next(base_jv_get(run, "steps"), &it, &key, &step)) {
		int64_t a = step_start(step), z = base_jv_int(base_jv_get(step, "ended_ms"), a);

		if (a > 0 && (s.from == 0 || a < s.from))
			s.from = a;
		if (z > s.to)
			s.to = z;
	}
	if (s.to <= s.from)
		s.to = s.from + 1;
	return s;
}

/* Eighths of a character at both ends: a short step still shows. */
static void put_bar(struct cli *c, struct span all, struct base_jv step)
{
	static const char *const full = "█", *const part[] = {"▏", "▎", "▍", "▌", "▋", "▊", "▉"};
	int64_t a = step_start(step), z = base_jv_int(base_jv_get(step, "ended_ms"), 0),
		width = all.to - all.from;
	int from, len, i;

	if (a < all.from)
		a = all.from;
	if (z < a)
		z = all.to;
	from = (int)((a - all.from) * BAR_WIDTH / width);
	len = (int)((z - a) * BAR_WIDTH * 8 / width);
	if (from >= BAR_WIDTH)
		from = BAR_WIDTH - 1;
	if (len < 1)
		len = 1;
	if (from * 8 + len > BAR_WIDTH * 8)
		len = (BAR_WIDTH - from) * 8;
	cli_put(c, "%*s%s", from, "", cli_paint(c, "blue"));
	for (i = 0; i < len / 8; i++)
		cli_put(c, "%s", full);
	if (len % 8)
		cli_put(c, "%s", part[len % 8 - 1]);
	cli_put(c, "%s%*s", cli_paint(c, "off"), BAR_WIDTH - from - (len + 7) / 8, "");
}

static void put_padded(struct cli *c, struct base_str text, int width)
{
	size_t before = c->out.len, w;

	cli_text(c, text);
	w = cli_width(base_str_sub(base_buf_view(&c->out), before, c->out.len));
	if ((int)w < width)
		cli_put(c, "%*s", width - (int)w, "");
}

static void put_gate_line(struct cli *c, const char *what, struct base_jv g)
{
	struct base_jv_iter it = {0};
	struct base_str by, reason, key;
	struct base_jv v;

	if (base_jv_kind(g) != BASE_JSON_OBJ)
		return;
	by = base_jv_str(base_jv_get(g, "by"));
	reason = base_jv_str(base_jv_get(g, "reason"));
	cli_put(c, "       %s%s %lld: ", cli_paint(c, "dim"), what,
		(long long)base_jv_int(base_jv_get(g, "gate"), 0));
	cli_text(c, base_jv_str(base_jv_get(g, "title")));
	cli_put(c, "%s ", cli_paint(c, "off"));
	if (base_str_is(base_jv_str(base_jv_get(g, "state")), "open")) {
		cli_put(c, "%sopen%s", cli_paint(c, "yellow"), cli_paint(c, "off"));
	} else {
		cli_put(c, "%s", cli_paint(c, cli_mood(base_jv_str(base_jv_get(g, "answer")))));
		cli_text(c, base_jv_str(base_jv_get(g, "answer")));
		cli_put(c, "%s", cli_paint(c, "off"));
	}
	if (by.len > 0) {
		cli_put(c, " by ");
		cli_text(c, by);
	}
	if (base_jv_int(base_jv_get(g, "waited_ms"), 0) > 0) {
		cli_put(c, " after ");
		base_duration_put(&c->out, base_jv_int(base_jv_get(g, "waited_ms"), 0));
	}
	if (reason.len > 0) {
		cli_put(c, ": ");
		cli_text(c, reason);
	}
	cli_put(c, "\n");
	while (base_jv_next(base_jv_get(g, "history"), &it, &key, &v)) {
		static const char *const members[] = {"who", "to", "text"};

		cli_put(c, "         %s", cli_paint(c, "dim"));
		cli_text(c, base_jv_str(base_jv_get(v, "what")));
		for (size_t i = 0; i < 3; i++) {
			cli_put(c, base_jv_str(base_jv_get(v, members[i])).len ? " " : "");
			cli_text(c, base_jv_str(base_jv_get(v, members[i])));
		}
		cli_put(c, "%s\n", cli_paint(c, "off"));
	}
}

static void put_dim(struct cli *c, const char *before, struct base_str text)
{
	if (text.len == 0)
		return;
	cli_put(c, "  %s%s", cli_paint(c, "dim"), before);
	cli_text(c, text);
	cli_put(c, "%s", cli_paint(c, "off"));
}

/* Behind the figures: for whom, by which model, by which rule, on whose word. */
static void put_step_why(struct cli *c, struct base_jv step)
{
	struct base_jv route = base_jv_get(step, "route"), approval = base_jv_get(step, "approval");
	struct base_str rule = base_jv_str(base_jv_get(step, "rule")),
			reason = base_jv_str(base_jv_get(approval, "reason"));

	put_dim(c, "for ", base_jv_str(base_jv_get(step, "customer")));
	put_dim(c, "", base_jv_str(base_jv_get(route, "model")));
	if (!base_str_is(rule, "grant")) /* what every allowed internal step says */
		put_dim(c, "rule: ", rule);
	if (base_jv_kind(approval) == BASE_JSON_OBJ) {
		cli_put(c, "  %sgate %lld: ", cli_paint(c, "dim"),
			(long long)base_jv_int(base_jv_get(approval, "gate"), 0));
		cli_text(c, base_jv_str(base_jv_get(approval, "answer")));
		cli_put(c, " by ");
		cli_text(c, base_jv_str(base_jv_get(approval, "by")));
		if (reason.len > 0) {
			cli_put(c, ": ");
			cli_text(c, reason);
		}
		cli_put(c, "%s", cli_paint(c, "off"));
	}
}

/* Lines of their own: the gate that held it, and what went wrong. */
static void put_step_notes(struct cli *c, struct base_jv step)
{
	struct base_str text = base_jv_str(base_jv_get(base_jv_get(step, "problem"), "message"));

	put_gate_line(c, "gate", base_jv_get(step, "gate"));
	cli_put_undone(c, base_jv_get(step, "undone"));
	if (text.len > 0) {
		cli_put(c, "       %s", cli_paint(c, "red"));
		cli_text(c, text);
		cli_put(c, "%s\n", cli_paint(c, "off"));
	}
}

static void put_step(struct cli *c, struct span all, struct base_jv step)
{
	struct base_str status = base_jv_str(base_jv_get(step, "status"));
	int64_t attempts =
		base_jv_int(base_jv_get(step, "attempts"), base_jv_int(base_jv_get(step, "attempt"), 0));
	int64_t cost = base_jv_int(base_jv_get(step, "cost"), base_jv_int(base_jv_get(step, "cost_nusd"), 0));
	struct base_buf text;

	base_buf_init(&text, 256);
	cli_put(c, "%5lld  ", (long long)base_jv_int(base_jv_get(step, "step"), 0));
	put_padded(c, base_jv_str(base_jv_get(step, "action")), 18);
	cli_put(c, " %s", cli_paint(c, cli_mood(status)));
	put_padded(c, status, 8);
	cli_put(c, "%s ", cli_paint(c, "off"));
	put_bar(c, all, step);
	if (base_jv_kind(base_jv_get(step, "latency_ms")) == BASE_JSON_INT)
		base_duration_put(&text, base_jv_int(base_jv_get(step, "latency_ms"), 0));
	cli_put(c, " %9.*s", BASE_STR_ARG(base_buf_view(&text)));
	base_buf_clear(&text);
	if (cost != 0)
		cli_money(&text, cost);
	cli_put(c, "%s%.*s", text.len ? "  " : "", (int)text.len, text.ptr ? text.ptr : "");
	if (attempts > 1)
		cli_put(c, "  %s%lld attempts%s", cli_paint(c, "yellow"), (long long)attempts,
			cli_paint(c, "off"));
	put_step_why(c, step);
	cli_labels(c, base_jv_get(step, "labels"));
	cli_put(c, "\n");
	base_buf_done(&text);
	put_step_notes(c, step);
}

static void put_generations(struct cli *c, struct base_jv run)
{
	int64_t previous = base_jv_int(base_jv_get(run, "previous"), 0),
		next = base_jv_int(base_jv_get(run, "next_run"), 0);

	if (!previous && !next)
		return;
	cli_put(c, "%sgeneration %lld", cli_paint(c, "dim"),
		(long long)base_jv_int(base_jv_get(run, "generation"), 0));
	if (previous)
		cli_put(c, ", after run %lld", (long long)previous);
	if (next)
		cli_put(c, ", goes on as run %lld", (long long)next);
	cli_put(c, "%s\n", cli_paint(c, "off"));
}

static void put_run_head(struct cli *c, struct base_jv run)
{
	struct base_str state = base_jv_str(base_jv_get(run, "state"));

	cli_put(c, "%srun %lld%s ", cli_paint(c, "bold"), (long long)base_jv_int(base_jv_get(run, "run"), 0),
		cli_paint(c, "off"));
	cli_text(c, base_jv_str(base_jv_get(run, "flow")));
	cli_put(c, " %s", cli_paint(c, cli_mood(state)));
	cli_text(c, state);
	cli_put(c, "%s\n%sstarted ", cli_paint(c, "off"), cli_paint(c, "dim"));
	cli_time(&c->out, base_jv_int(base_jv_get(run, "started_ms"), 0));
	cli_put(c, " by ");
	cli_text(c, base_jv_str(base_jv_get(run, "by")));
	if (base_jv_str(base_jv_get(run, "trigger")).len) {
		cli_put(c, " through ");
		cli_text(c, base_jv_str(base_jv_get(run, "trigger")));
	}
	if (base_jv_int(base_jv_get(run, "ended_ms"), 0) > 0) {
		cli_put(c, ", took ");
		base_duration_put(&c->out, base_jv_int(base_jv_get(run, "ended_ms"), 0) -
						   base_jv_int(base_jv_get(run, "started_ms"), 0));
	}
	cli_put(c, ", cost ");
	cli_money(&c->out,
		base_jv_int(base_jv_get(run, "cost"), base_jv_int(base_jv_get(run, "cost_nusd"), 0)));
	cli_labels(c, base_jv_get(run, "labels"));
	if (base_jv_int(base_jv_get(run, "forked_from"), 0) > 0)
		cli_put(c, "\nforked from run %lld: its first %lld steps are taken over",
			(long long)base_jv_int(base_jv_get(run, "forked_from"), 0),
			(long long)base_jv_int(base_jv_get(run, "forked_steps"), 0));
	if (base_str_is(state, "queued") || base_str_is(state, "paused") || base_str_is(state, "active") ||
		base_str_is(state, "undoing"))
		cli_put(c, "\nwhy it waits: aios why %lld",
			(long long)base_jv_int(base_jv_get(run, "run"), 0));
	cli_put(c, "%s\n", cli_paint(c, "off"));
	put_generations(c, run);
	cli_put(c, "\n");
}

static void put_steps(struct cli *c, struct span all, struct base_jv run)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv step;

	while (base_jv_next(base_jv_get(run, "steps"), &it, &key, &step))
		put_step(c, all, step);
}

/* A long run comes in pages: "next" is the step behind which the following one begins. */
static int more_steps(struct cli *c, const char *path, struct span all, int64_t after)
{
	while (after >= 0) {
		struct cli_answer a;
		char text[32];
		int64_t next;
		int r;

		snprintf(text, sizeof(text), "%lld", (long long)after);
		r = cli_call(c, "GET", cli_query(c, path, "after", text), NULL, &a);
		if (r != 0)
			return r;
		put_steps(c, all, a.root);
		next = base_jv_int(base_jv_get(a.root, "next"), -1);
		cli_answer_done(&a);
		after = next > after ? next : -1;
	}
	return 0;
}

int cmd_show(struct cli *c)
{
	const char *path = cli_path(c, "/v1/runs/", c->args[0], "");
	struct cli_answer a;
	struct base_jv gate;
	struct span all;
	int r = cli_call(c, "GET", cli_query(c, path, "wait", cli_opt(c, "wait")), NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		all = span_of(a.root);
		put_run_head(c, a.root);
		cli_put_rollbacks(c, a.root);
		put_steps(c, all, a.root);
		r = more_steps(c, path, all, base_jv_int(base_jv_get(a.root, "next"), -1));
		cli_put(c, "\n");
		gate = open_gate(a.root);
		if (base_jv_kind(gate) == BASE_JSON_OBJ)
			say_gate(c, gate);
		else if (is_over(base_jv_str(base_jv_get(a.root, "state"))) &&
			 base_jv_kind(base_jv_get(a.root, "value")) > BASE_JSON_NULL)
			cli_value(c, base_jv_get(a.root, "value"), 2);
	}
	cli_answer_done(&a);
	return r;
}

/* --- small ones --- */

int cmd_freeze(struct cli *c)
{
	return cli_act(c, "/v1/freeze", "frozen: nothing goes out until aios thaw");
}

int cmd_thaw(struct cli *c)
{
	return cli_act(c, "/v1/thaw", "thawed");
}

int cmd_signal(struct cli *c)
{
	const char *before = cli_path(c, "/v1/runs/", c->args[0], "/signals/");
	struct cli_answer a;
	struct base_buf body;
	int r = 0;

	base_buf_init(&body, CLI_BODY_MAX);
	if (c->arg_count > 2)
		r = cli_read_json(c, c->args[2], &body);
	else
		base_buf_cstr(&body, "null");
	if (r == 0)
		r = cli_call(c, "POST", cli_path(c, before, c->args[1], ""), &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "sent\n");
	cli_answer_done(&a);
	return CLI_OK;
}
