#include <errno.h>
#include <string.h>

#include "base/money.h"
#include "door/door_int.h"

/* The plain pages: JSON from aiosd in, HTML without scripts out. Members that are not there are left out. */

bool door_op_is_page(enum wire_op op)
{
	return op == WIRE_OP_PAGE_HOME || op == WIRE_OP_PAGE_RUN || op == WIRE_OP_PAGE_GATE ||
	       op == WIRE_OP_PAGE_DECIDE || op == WIRE_OP_SIGN_IN || op == WIRE_OP_SIGN_IN_PAGE ||
	       op == WIRE_OP_PAGE_SECURITY || op == WIRE_OP_SECURITY_ACT || op == WIRE_OP_LINK_SHOW ||
	       op == WIRE_OP_LINK_DECIDE;
}

static void head(struct base_buf *b, struct base_str title)
{
	html_cstr(b, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
		     "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>");
	html_text(b, title);
	html_cstr(b, " · aios</title><style>");
	html_cstr(b, door_css());
	html_cstr(b, "</style></head><body><header><a href=\"/\">aios</a> <a "
		     "href=\"/security\">Security</a></header><main>");
}

static void foot(struct base_buf *b)
{
	html_cstr(b, "</main><footer>Times are UTC. The same is in <code>aios --help</code> and "
		     "<a href=\"/openapi.json\">the API</a>.</footer></body></html>\n");
}

/* An id that may be a number or a string. */
static void put_id(struct base_buf *b, struct base_jv v)
{
	if (base_jv_kind(v) == BASE_JSON_INT)
		base_buf_i64(b, base_jv_int(v, 0));
	else
		html_text(b, base_jv_str(v));
}

static void put_id_path(struct base_buf *b, struct base_jv v)
{
	if (base_jv_kind(v) == BASE_JSON_INT)
		base_buf_i64(b, base_jv_int(v, 0));
	else
		door_percent_encode(base_jv_str(v), b);
}

static bool there(struct base_jv v)
{
	enum base_json_kind k = base_jv_kind(v);

	return k != BASE_JSON_NONE && k != BASE_JSON_NULL && !(k == BASE_JSON_STR && base_jv_str(v).len == 0);
}

static void link_to(struct base_buf *b, const char *folder, struct base_jv id, struct base_str text)
{
	base_buf_printf(b, "<a href=\"/%s/", folder);
	put_id_path(b, id);
	html_cstr(b, "\">");
	if (text.len > 0)
		html_text(b, text);
	else
		put_id(b, id);
	html_cstr(b, "</a>");
}

/* --- values --- */

/* Canonical JSON with line breaks: what a person reads and can edit. */
static void pretty(struct base_jv v, unsigned depth, struct base_buf *ret)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv item;
	bool obj = base_jv_kind(v) == BASE_JSON_OBJ, first = true;

	if ((!obj && base_jv_kind(v) != BASE_JSON_ARR) || base_jv_len(v) == 0) {
		base_jv_write(v, ret);
		return;
	}
	base_buf_char(ret, obj ? '{' : '[');
	while (base_jv_next(v, &it, &key, &item)) {
		base_buf_cstr(ret, first ? "\n" : ",\n");
		base_buf_printf(ret, "%*s", (int)(2 * depth + 2), "");
		if (obj) {
			base_json_quote(ret, key);
			base_buf_cstr(ret, ": ");
		}
		pretty(item, depth + 1, ret);
		first = false;
	}
	base_buf_printf(ret, "\n%*s%c", (int)(2 * depth), "", obj ? '}' : ']');
}

static void put_json(struct base_buf *b, struct base_jv v)
{
	struct base_buf text;

	base_buf_init(&text, 16 << 20);
	pretty(v, 0, &text);
	html_text(b, base_buf_view(&text));
	base_buf_done(&text);
}

static bool is_money(struct base_str key)
{
	return base_str_ends(key, BASE_STR("_nusd")) || base_str_is(key, "cost") ||
	       base_str_is(key, "total") || base_str_is(key, "money") || base_str_is(key, "reserved");
}

static void put_scalar(struct base_buf *b, struct base_str key, struct base_jv v)
{
	bool number = base_jv_kind(v) == BASE_JSON_INT;

	if (number && is_money(key))
		html_money(b, base_jv_int(v, 0));
	else if (number && (base_str_is(key, "latency_ms") || base_str_is(key, "waited_ms")))
		base_duration_put(b, base_jv_int(v, 0));
	else if (number && base_str_ends(key, BASE_STR("_ms")))
		html_time(b, base_jv_int(v, 0));
	else if (base_jv_kind(v) == BASE_JSON_STR)
		html_text(b, base_jv_str(v));
	else if (base_jv_kind(v) != BASE_JSON_NULL)
		put_json(b, v);
}

static void put_label(struct base_buf *b, struct base_str key)
{
	if (base_str_ends(key, BASE_STR("_nusd")))
		key.len -= 5;
	else if (base_str_ends(key, BASE_STR("_ms")))
		key.len -= 3;
	html_text(b, key);
}

/* Any array of objects; the first one names the columns. */
static void table(struct base_buf *b, struct base_jv list)
{
	struct base_jv_iter rows = {0}, cols;
	struct base_jv first = base_jv_at(list, 0), row, v;
	struct base_str key, none;

	html_cstr(b, "<div class=\"wide\"><table><thead><tr>");
	memset(&cols, 0, sizeof(cols));
	while (base_jv_next(first, &cols, &key, &v)) {
		html_cstr(b, base_jv_kind(v) == BASE_JSON_INT ? "<th class=\"n\">" : "<th>");
		put_label(b, key);
		html_cstr(b, "</th>");
	}
	html_cstr(b, "</tr></thead><tbody>");
	while (base_jv_next(list, &rows, &none, &row)) {
		html_cstr(b, "<tr>");
		memset(&cols, 0, sizeof(cols));
		while (base_jv_next(first, &cols, &key, &v)) {
			v = base_jv_get_str(row, key);
			html_cstr(b, base_jv_kind(v) == BASE_JSON_INT ? "<td class=\"n\">" : "<td>");
			put_scalar(b, key, v);
			html_cstr(b, "</td>");
		}
		html_cstr(b, "</tr>");
	}
	html_cstr(b, "</tbody></table></div>");
}

/* What a gate shows: text as text, lists as lists, the rest as JSON. */
static void show_value(struct base_buf *b, struct base_jv v)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv item;

	if (base_jv_kind(v) == BASE_JSON_STR) {
		html_cstr(b, "<pre>");
		html_text(b, base_jv_str(v));
		html_cstr(b, "</pre>");
	} else if (base_jv_kind(v) == BASE_JSON_OBJ && base_jv_len(v) > 0) {
		while (base_jv_next(v, &it, &key, &item)) {
			html_cstr(b, "<h3>");
			html_text(b, key);
			html_cstr(b, "</h3>");
			if (base_jv_kind(item) == BASE_JSON_OBJ) {
				html_cstr(b, "<pre>");
				put_json(b, item);
				html_cstr(b, "</pre>");
			} else {
				show_value(b, item);
			}
		}
	} else if (base_jv_kind(v) == BASE_JSON_ARR && base_jv_kind(base_jv_at(v, 0)) == BASE_JSON_STR) {
		html_cstr(b, "<ul>");
		while (base_jv_next(v, &it, &key, &item)) {
			html_cstr(b, "<li>");
			put_scalar(b, key, item);
			html_cstr(b, "</li>");
		}
		html_cstr(b, "</ul>");
	} else {
		html_cstr(b, "<pre>");
		put_json(b, v);
		html_cstr(b, "</pre>");
	}
}

static void fact(struct base_buf *b, const char *label, const char *key, struct base_jv from)
{
	struct base_jv v = base_jv_get(from, key);

	if (!there(v) || (base_jv_kind(v) == BASE_JSON_INT && base_jv_int(v, 0) == 0))
		return;
	html_cstr(b, "<dt>");
	html_cstr(b, label);
	html_cstr(b, "</dt><dd>");
	put_scalar(b, base_str_of(key), v);
	html_cstr(b, "</dd>");
}

static void fact_link(struct base_buf *b, const char *label, const char *folder, struct base_jv id)
{
	if (!there(id) || (base_jv_kind(id) == BASE_JSON_INT && base_jv_int(id, 0) == 0))
		return;
	html_cstr(b, "<dt>");
	html_cstr(b, label);
	html_cstr(b, "</dt><dd>");
	link_to(b, folder, id, BASE_STR_NONE);
	html_cstr(b, "</dd>");
}

/* A time, within bounds that sums and differences cannot leave. */
static int64_t time_of(struct base_jv v, const char *key, int64_t otherwise)
{
	int64_t ms = base_jv_int(base_jv_get(v, key), otherwise);

	return ms < 0 ? 0 : ms > 1LL << 52 ? 1LL << 52 : ms;
}

static int64_t cost_of(struct base_jv v)
{
	return base_jv_int(base_jv_get(v, "cost_nusd"), base_jv_int(base_jv_get(v, "cost"), 0));
}

/* --- gates
 * ---------------------------------------------------------------------------------------------------------
 */

/* token: of a one-time link, which needs no other; or empty. */
static void form_open(struct base_buf *b, struct base_jv gate, struct base_str csrf, struct base_str token)
{
	html_cstr(b, "<form method=\"post\" action=\"");
	html_cstr(b, token.len ? "/l/" : "/gates/");
	if (token.len)
		door_percent_encode(token, b);
	else
		put_id_path(b, base_jv_get(gate, "gate"));
	html_cstr(b, "\"><input type=\"hidden\" name=\"csrf\" value=\"");
	html_text(b, csrf);
	html_cstr(b, "\"><input type=\"hidden\" name=\"shown\" value=\"");
	html_text(b, base_jv_str(base_jv_get(gate, "shown")));
	html_cstr(b, "\">");
}

static void reason_field(struct base_buf *b)
{
	html_cstr(b, "<label>Reason (kept with the decision)<input type=\"text\" name=\"reason\" "
		     "maxlength=\"2000\" "
		     "autocomplete=\"off\"></label>");
}

static void button(struct base_buf *b, const char *answer, const char *style, const char *text)
{
	base_buf_printf(
		b, "<button name=\"answer\" value=\"%s\" class=\"%s\">%s</button>", answer, style, text);
}

/* Which answers a kind of gate has. */
static void buttons(struct base_buf *b, struct base_jv gate, bool edit)
{
	struct base_str kind = base_jv_str(base_jv_get(gate, "kind"));

	html_cstr(b, "<div class=\"row\"><button disabled hidden></button>"); /* Enter in a field decides
										 nothing */
	if (base_str_is(kind, "doubt")) {
		button(b, "happened", "go", "It happened");
		button(b, "send", "", "It did not: send");
		button(b, "give_up", "stop", "Give up");
	} else if (base_str_is(kind, "undo")) {
		button(b, "retry", "go", "Try this undo again");
		button(b, "skip", "", "Leave this step, go on");
		button(b, "give_up", "stop", "Undo no more");
	} else if (base_str_is(kind, "parked")) {
		button(b, "resume", "go", "Resume");
		button(b, "cancel", "stop", "Cancel the run");
	} else {
		bool sign = base_jv_bool(base_jv_get(gate, "sign"), false);

		if (!sign)
			button(b, "approve", "go", "Approve");
		if (edit && !sign)
			button(b, "edit", "go", "Approve with my changes");
		button(b, "deny", "stop", "Deny");
	}
	html_cstr(b, "</div>");
}

/* The labels, and where each came from first. */
static void put_labels(struct base_buf *b, struct base_jv of)
{
	struct base_jv_iter it = {0}, jt;
	struct base_str key, name;
	struct base_jv v, member;

	if (base_jv_len(base_jv_get(of, "labels")) == 0)
		return;
	html_cstr(b, "<dt>Labels</dt><dd>");
	while (base_jv_next(base_jv_get(of, "labels"), &it, &key, &v)) {
		html_text(b, base_jv_str(v));
		html_cstr(b, " ");
	}
	html_cstr(b, "</dd>");
	it = (struct base_jv_iter){0};
	while (base_jv_next(base_jv_get(of, "sources"), &it, &key, &v)) {
		html_cstr(b, "<dt>From</dt><dd>");
		jt = (struct base_jv_iter){0};
		while (base_jv_next(v, &jt, &name, &member)) {
			if (!base_str_is(name, "label")) {
				html_text(b, name);
				html_cstr(b, " ");
			}
			put_scalar(b, name, member);
			html_cstr(b, base_str_is(name, "label") ? ": " : " ");
		}
		html_cstr(b, "</dd>");
	}
}

/* inside: for somebody who is signed in. */
static void gate_facts(struct base_buf *b, struct base_jv g, bool inside)
{
	html_cstr(b, "<dl>");
	fact(b, "Kind", "kind", g);
	fact(b, "Flow", "flow", g);
	if (inside)
		fact_link(b, "Run", "runs", base_jv_get(g, "run"));
	fact(b, "Action", "action", g);
	fact(b, "Rule", "rule", g);
	if (cost_of(g) != 0) {
		html_cstr(b, "<dt>Costs up to</dt><dd>");
		html_money(b, cost_of(g));
		html_cstr(b, "</dd>");
	}
	fact(b, "Opened", "opened_ms", g);
	fact(b, "Expires", "expires_ms", g);
	fact(b, "Then", "on_expiry", g);
	put_labels(b, g);
	html_cstr(b, "</dl>");
}

static void gate_card(struct base_buf *b, struct base_jv g, struct base_str csrf)
{
	struct base_str title = base_jv_str(base_jv_get(g, "title"));

	html_cstr(b, "<article class=\"card\"><h3>");
	link_to(b, "gates", base_jv_get(g, "gate"), title.len ? title : BASE_STR("A gate without a title"));
	html_cstr(b, "</h3>");
	gate_facts(b, g, true);
	html_cstr(b, "<div class=\"row\"><a class=\"button\" href=\"/gates/");
	put_id_path(b, base_jv_get(g, "gate"));
	html_cstr(b, "\">Review</a></div><details><summary>Decide without opening it</summary>");
	form_open(b, g, csrf, BASE_STR_NONE);
	reason_field(b);
	buttons(b, g, false);
	html_cstr(b, "</form></details></article>");
}

static void names(struct base_buf *b, struct base_jv list, const char *member)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;
	bool more = false;

	while (base_jv_next(list, &it, &key, &v)) {
		html_cstr(b, more ? ", " : "");
		html_text(b, base_jv_str(member ? base_jv_get(v, member) : v));
		more = true;
	}
}

static void dt(struct base_buf *b, const char *label)
{
	html_cstr(b, "<dt>");
	html_cstr(b, label);
	html_cstr(b, "</dt><dd>");
}

static void told(struct base_buf *b, struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(list, &it, &key, &v)) {
		bool failed = base_str_is(base_jv_str(base_jv_get(v, "state")), "failed");

		dt(b, "Announced");
		html_text(b, base_jv_str(base_jv_get(v, "channel")));
		html_cstr(b, ", ");
		html_text(b, base_jv_str(base_jv_get(v, "why")));
		html_cstr(b, failed ? ": <span class=\"bad\">" : ": ");
		html_text(b, base_jv_str(base_jv_get(v, failed ? "problem" : "state")));
		html_cstr(b, failed ? "</span></dd>" : "</dd>");
	}
}

/* Who may decide, who has, who was told. */
static void gate_people(struct base_buf *b, struct base_jv g)
{
	struct base_jv votes = base_jv_get(g, "votes"), v;
	struct base_jv_iter it = {0};
	struct base_str key;

	html_cstr(b, "<dl>");
	if (base_jv_len(base_jv_get(g, "approvers")) > 0) {
		dt(b, "May decide");
		names(b, base_jv_get(g, "approvers"), NULL);
		html_cstr(b, base_jv_bool(base_jv_get(g, "operator"), true) ? ", operator</dd>" : "</dd>");
	}
	if (base_jv_int(base_jv_get(g, "need"), 1) > 1)
		fact(b, "Must agree", "need", g);
	while (base_jv_next(votes, &it, &key, &v)) {
		dt(b, "Vote");
		html_text(b, base_jv_str(base_jv_get(v, "by")));
		html_cstr(b, ": ");
		html_text(b, base_jv_str(base_jv_get(v, "answer")));
		html_cstr(b, "</dd>");
	}
	if (base_jv_len(base_jv_get(g, "delegated")) > 0) {
		dt(b, "Put to");
		names(b, base_jv_get(g, "delegated"), "to");
		html_cstr(b, "</dd>");
	}
	if (base_jv_bool(base_jv_get(g, "sign"), false)) {
		dt(b, "Signature");
		html_cstr(b, "It is approved with a passkey, or in the operator's shell</dd>");
	}
	it = (struct base_jv_iter){0};
	while (base_jv_next(base_jv_get(g, "escalate"), &it, &key, &v)) {
		dt(b, base_jv_bool(base_jv_get(v, "done"), false) ? "Put to others" : "Will be put to");
		names(b, base_jv_get(v, "to"), NULL);
		html_cstr(b, "</dd>");
	}
	told(b, base_jv_get(g, "announced"));
	html_cstr(b, "</dl>");
}

static void edit_area(struct base_buf *b, struct base_str key, struct base_jv v)
{
	bool text = base_jv_kind(v) == BASE_JSON_STR;

	html_cstr(b, "<label>");
	html_text(b, key.len ? key : BASE_STR("Value"));
	html_cstr(b, text ? "" : " (JSON)");
	html_cstr(b, "<textarea name=\"");
	html_cstr(b, text ? "text" : "json");
	if (key.len > 0) {
		html_cstr(b, ":");
		html_text(b, key);
	}
	html_cstr(b, "\">\n");
	if (text)
		html_text(b, base_jv_str(v));
	else
		put_json(b, v);
	html_cstr(b, "</textarea></label>");
}

static void edit_areas(struct base_buf *b, struct base_jv show)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	if (base_jv_kind(show) != BASE_JSON_OBJ || base_jv_len(show) == 0 ||
		base_jv_len(show) > DOOR_PAIRS_MAX / 2) {
		edit_area(b, BASE_STR_NONE, show);
		return;
	}
	while (base_jv_next(show, &it, &key, &v))
		edit_area(b, key, v);
}

static void gate_page(struct base_buf *b, struct base_jv g, struct base_str csrf, struct base_str token)
{
	struct base_str title = base_jv_str(base_jv_get(g, "title")),
			answer = base_jv_str(base_jv_get(g, "answer"));
	struct base_jv show = base_jv_get(g, "show"), allows = base_jv_get(g, "allows");
	bool edit = base_jv_bool(base_jv_get(g, "edit"), base_jv_int(base_jv_get(g, "edit"), 0) != 0);
	bool doubt = base_str_is(base_jv_str(base_jv_get(g, "kind")), "doubt");

	head(b, title);
	html_cstr(b, "<h1>");
	html_text(b, title);
	html_cstr(b, "</h1>");
	gate_facts(b, g, token.len == 0);
	gate_people(b, g);
	if (there(show)) {
		html_cstr(b, "<section class=\"card\"><h2>What is asked</h2>");
		show_value(b, show);
		html_cstr(b, "</section>");
	}
	if (there(allows)) {
		html_cstr(b, "<section class=\"card\"><h2>An approval also allows</h2><pre>");
		put_json(b, allows);
		html_cstr(b, "</pre></section>");
	}
	if (answer.len > 0) {
		html_cstr(b, "<section class=\"card\"><h2>Decided</h2><dl>");
		fact(b, "Answer", "answer", g);
		fact(b, "By", "by", g);
		fact(b, "Reason", "reason", g);
		fact(b, "Waited", "waited_ms", g);
		html_cstr(b, "</dl></section>");
		foot(b);
		return;
	}
	html_cstr(b, "<section class=\"card\"><h2>Your decision</h2>");
	if (token.len == 0 && there(base_jv_get(g, "challenge")))
		door_sign_form(b, g, csrf);
	form_open(b, g, csrf, token);
	if (edit && there(show)) {
		html_cstr(b, "<details><summary>Change it first</summary>");
		edit_areas(b, show);
		html_cstr(b, "</details>");
	}
	if (doubt)
		html_cstr(b, "<label>Its result, where it happened (JSON)<textarea "
			     "name=\"json\">null</textarea></label>");
	reason_field(b);
	buttons(b, g, edit && there(show));
	html_cstr(b, "</form></section>");
	foot(b);
}

/* --- runs
 * ----------------------------------------------------------------------------------------------------------
 */

/* A word's colour: what is well, what is not, what waits. */
static const char *mood(struct base_str word)
{
	static const char *const good[] = {"done", "ended", "ok", "approve", "completed"};
	static const char *const bad[] = {"failed", "denied", "doubt", "parked", "cancelled"};
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (base_str_is(word, good[i]))
			return "good";
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (base_str_is(word, bad[i]))
			return "bad";
	return "wait";
}

static void put_word(struct base_buf *b, struct base_str word)
{
	base_buf_printf(b, "<span class=\"%s\">", mood(word));
	html_text(b, word);
	html_cstr(b, "</span>");
}

static struct base_str run_word(struct base_jv run)
{
	struct base_str state = base_jv_str(base_jv_get(run, "state")),
			out = base_jv_str(base_jv_get(run, "outcome"));

	return base_str_is(state, "ended") && out.len > 0 ? out : state;
}

static void runs_table(struct base_buf *b, struct base_jv runs)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv r;

	html_cstr(b,
		"<div "
		"class=\"wide\"><table><thead><tr><th>Run</th><th>Flow</th><th>State</th><th>Started</th>"
		"<th class=\"n\">Took</th><th class=\"n\">Cost</th></tr></thead><tbody>");
	while (base_jv_next(runs, &it, &key, &r)) {
		int64_t started = time_of(r, "started_ms", 0);
		int64_t ended = time_of(r, "ended_ms", 0);

		html_cstr(b, "<tr><td>");
		link_to(b, "runs", base_jv_get(r, "run"), BASE_STR_NONE);
		html_cstr(b, "</td><td>");
		html_text(b, base_jv_str(base_jv_get(r, "flow")));
		html_cstr(b, "</td><td>");
		put_word(b, run_word(r));
		html_cstr(b, "</td><td>");
		if (started > 0)
			html_time(b, started);
		html_cstr(b, "</td><td class=\"n\">");
		if (ended > 0)
			base_duration_put(b, ended - started);
		html_cstr(b, "</td><td class=\"n\">");
		html_money(b, cost_of(r));
		html_cstr(b, "</td></tr>");
	}
	html_cstr(b, "</tbody></table></div>");
}

struct span {
	int64_t from, to;
};

static int64_t step_start(struct base_jv step)
{
	return time_of(step, "started_ms", time_of(step, "called_ms", 0));
}

static struct span run_span(struct base_jv run)
{
	struct span s = {time_of(run, "started_ms", 0), time_of(run, "ended_ms", 0)};
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv step;

	while (base_jv_next(base_jv_get(run, "steps"), &it, &key, &step)) {
		int64_t a = step_start(step), z = time_of(step, "ended_ms", a);

		if (a > 0 && (s.from == 0 || a < s.from))
			s.from = a;
		if (z > s.to)
			s.to = z;
	}
	if (s.to <= s.from)
		s.to = s.from + 1;
	return s;
}

static void bar(struct base_buf *b, struct span all, struct base_jv step, const char *style)
{
	int64_t a = step_start(step), z = time_of(step, "ended_ms", 0);
	int64_t width = all.to - all.from, x, w;

	if (a < all.from)
		return;
	if (z < a)
		z = all.to;
	x = (a - all.from) * 1000 / width;
	w = (z - a) * 1000 / width;
	if (w < 4)
		w = 4;
	if (x > 996)
		x = 996;
	base_buf_printf(b,
		"<svg class=\"bar\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" "
		"aria-hidden=\"true\">"
		"<rect class=\"%s\" x=\"%lld\" width=\"%lld\" height=\"10\"/></svg>",
		style, (long long)x, (long long)w);
}

/* A gate of a step: its number, or what is known of it. */
static void step_gate(struct base_buf *b, const char *before, struct base_jv gate)
{
	struct base_jv id = base_jv_kind(gate) == BASE_JSON_OBJ ? base_jv_get(gate, "gate") : gate;
	struct base_str by = base_jv_str(base_jv_get(gate, "by")),
			why = base_jv_str(base_jv_get(gate, "reason"));
	struct base_str answer = base_jv_str(base_jv_get(gate, "answer")), key;
	struct base_jv_iter it = {0};
	struct base_jv v;

	if (!there(id) || base_jv_int(id, 1) == 0)
		return;
	html_cstr(b, "<div>");
	html_cstr(b, before);
	link_to(b, "gates", id, BASE_STR_NONE);
	if (answer.len > 0) {
		html_cstr(b, ": ");
		html_text(b, answer);
	}
	if (by.len > 0) {
		html_cstr(b, " by ");
		html_text(b, by);
	}
	if (why.len > 0) {
		html_cstr(b, ", “");
		html_text(b, why);
		html_cstr(b, "”");
	}
	html_cstr(b, "</div>");
	while (base_jv_next(base_jv_get(gate, "history"), &it, &key, &v)) {
		static const char *const members[] = {"who", "to", "text"};

		html_cstr(b, "<div class=\"dim\">");
		html_text(b, base_jv_str(base_jv_get(v, "what")));
		for (size_t i = 0; i < 3; i++) {
			html_cstr(b, " ");
			html_text(b, base_jv_str(base_jv_get(v, members[i])));
		}
		html_cstr(b, "</div>");
	}
}

/* Who decided, by which rule, with which reason; or what went wrong. */
static void step_why(struct base_buf *b, struct base_jv step)
{
	struct base_str by = base_jv_str(base_jv_get(step, "approved_by"));
	struct base_str why = base_jv_str(base_jv_get(step, "reason")),
			rule = base_jv_str(base_jv_get(step, "rule"));
	struct base_jv problem = base_jv_get(step, "problem");

	if (rule.len > 0 && !base_str_is(rule, "grant")) {
		html_cstr(b, "rule ");
		html_text(b, rule);
	}
	step_gate(b, "gate ", base_jv_get(step, "gate"));
	step_gate(b, "approved at gate ", base_jv_get(step, "approval"));
	if (by.len > 0) {
		html_cstr(b, " by ");
		html_text(b, by);
	}
	if (why.len > 0) {
		html_cstr(b, ": ");
		html_text(b, why);
	}
	if (there(problem)) {
		struct base_str text = base_jv_str(base_jv_get(problem, "message"));

		html_cstr(b, "<div class=\"bad\">");
		if (text.len > 0)
			html_text(b, text);
		else
			put_scalar(b, BASE_STR_NONE, problem);
		html_cstr(b, "</div>");
	}
}

/* What its result brought. */
static void step_labels(struct base_buf *b, struct base_jv labels)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	if (base_jv_len(labels) == 0)
		return;
	html_cstr(b, "<div class=\"dim\">");
	while (base_jv_next(labels, &it, &key, &v)) {
		html_text(b, base_jv_str(v));
		html_cstr(b, " ");
	}
	html_cstr(b, "</div>");
}

static void step_row(struct base_buf *b, struct span all, struct base_jv step)
{
	struct base_str status = base_jv_str(base_jv_get(step, "status"));
	int64_t attempt =
		base_jv_int(base_jv_get(step, "attempt"), base_jv_int(base_jv_get(step, "attempts"), 0));

	html_cstr(b, "<tr><td class=\"n\">");
	put_id(b, base_jv_get(step, "step"));
	html_cstr(b, "</td><td>");
	html_text(b, base_jv_str(base_jv_get(step, "action")));
	if (there(base_jv_get(step, "model"))) {
		html_cstr(b, "<div class=\"dim\">");
		html_text(b, base_jv_str(base_jv_get(step, "model")));
		html_cstr(b, "</div>");
	}
	step_labels(b, base_jv_get(step, "labels"));
	html_cstr(b, "</td><td>");
	put_word(b, status);
	if (attempt > 1)
		base_buf_printf(b, " <span class=\"dim\">attempt %lld</span>", (long long)attempt);
	html_cstr(b, "</td><td>");
	bar(b, all, step, mood(status));
	html_cstr(b, "</td><td class=\"n\">");
	if (there(base_jv_get(step, "latency_ms")))
		base_duration_put(b, base_jv_int(base_jv_get(step, "latency_ms"), 0));
	html_cstr(b, "</td><td class=\"n\">");
	if (cost_of(step) != 0)
		html_money(b, cost_of(step));
	html_cstr(b, "</td><td>");
	step_why(b, step);
	html_cstr(b, "</td></tr>");
}

/* Its result or what went wrong. */
static void run_end(struct base_buf *b, struct base_jv run)
{
	struct base_str word = run_word(run);
	struct base_jv problem = base_jv_get(run, "problem"), result = base_jv_get(run, "result");
	struct base_jv value = base_jv_get(run, "value"); /* either, by the state */
	bool failed =
		base_str_is(word, "failed") || base_str_is(word, "cancelled") || base_str_is(word, "parked");

	if (!there(problem) && failed)
		problem = there(base_jv_get(run, "detail")) ? base_jv_get(run, "detail") : value;
	if (!there(result) && !failed)
		result = value;
	if (!there(problem) && !there(result))
		return;
	html_cstr(b, there(problem) ? "<h2 class=\"bad\">Problem</h2>" : "<h2>Result</h2>");
	show_value(b, there(problem) ? problem : result);
}

static void run_page(struct base_buf *b, struct base_jv run)
{
	struct base_str flow = base_jv_str(base_jv_get(run, "flow")), key;
	struct base_jv steps = base_jv_get(run, "steps"), step;
	struct base_jv_iter it = {0};
	struct span all = run_span(run);

	head(b, flow);
	html_cstr(b, "<h1>");
	html_text(b, flow);
	html_cstr(b, " <span class=\"dim\">run ");
	put_id(b, base_jv_get(run, "run"));
	html_cstr(b, "</span></h1><p>");
	put_word(b, run_word(run));
	html_cstr(b, "</p><dl>");
	fact(b, "Started", "started_ms", run);
	fact(b, "Ended", "ended_ms", run);
	fact(b, "By", "by", run);
	html_cstr(b, "<dt>Cost</dt><dd>");
	html_money(b, cost_of(run));
	html_cstr(b, "</dd>");
	fact(b, "Why", "why", run);
	put_labels(b, run);
	html_cstr(b, "</dl>");
	if (base_jv_len(steps) > 0) {
		html_cstr(b,
			"<h2>Timeline</h2><div class=\"wide\"><table><thead><tr><th class=\"n\">Step</th>"
			"<th>Action</th><th>Status</th><th>When</th><th class=\"n\">Took</th><th "
			"class=\"n\">Cost</th>"
			"<th>Why</th></tr></thead><tbody>");
		while (base_jv_next(steps, &it, &key, &step))
			step_row(b, all, step);
		html_cstr(b, "</tbody></table></div>");
	}
	run_end(b, run);
	foot(b);
}

/* --- home
 * ----------------------------------------------------------------------------------------------------------
 */

/* {"items":[…]}, {"costs":[…]} or the list itself. */
static struct base_jv list_of(struct base_jv v, const char *name)
{
	if (base_jv_kind(v) == BASE_JSON_OBJ) {
		struct base_jv in = base_jv_get(v, "items");

		return base_jv_kind(in) == BASE_JSON_ARR ? in : base_jv_get(v, name);
	}
	return v;
}

static void home_page(struct base_buf *b, struct base_jv root, struct base_str csrf)
{
	struct base_jv gates = list_of(base_jv_get(root, "gates"), "gates"), g;
	struct base_jv runs = list_of(base_jv_get(root, "runs"), "runs");
	struct base_jv costs = list_of(base_jv_get(root, "costs"), "costs");
	struct base_str name = base_jv_str(base_jv_get(root, "name")), key;
	struct base_jv_iter it = {0};

	head(b, name.len ? name : BASE_STR("Inbox"));
	if (name.len > 0) {
		html_cstr(b, "<h1>");
		html_text(b, name);
		html_cstr(b, "</h1>");
	}
	if (base_jv_bool(base_jv_get(root, "frozen"), false))
		html_cstr(b, "<p class=\"bad\" role=\"status\">Frozen: nothing goes out until <code>aios "
			     "thaw</code>.</p>");
	html_cstr(b, "<h2>Inbox</h2>");
	if (base_jv_len(gates) == 0)
		html_cstr(b, "<p class=\"dim\">Nothing waits for you.</p>");
	while (base_jv_next(gates, &it, &key, &g))
		gate_card(b, g, csrf);
	html_cstr(b, "<h2>Runs</h2>");
	if (base_jv_len(runs) == 0)
		html_cstr(b, "<p class=\"dim\">No run yet: <code>aios run FLOW</code>.</p>");
	else
		runs_table(b, runs);
	html_cstr(b, "<h2>Costs</h2>");
	if (base_jv_kind(costs) == BASE_JSON_ARR && base_jv_len(costs) > 0)
		table(b, costs);
	else
		html_cstr(b, "<p class=\"dim\">Nothing was spent.</p>");
	foot(b);
}

/* Of a one-time link: what was decided, and nothing that leads further in. */
static void done_page(struct base_buf *b, struct base_jv root)
{
	head(b, BASE_STR("Done"));
	html_cstr(b, "<h1>Done</h1><p>");
	html_text(b, base_jv_str(base_jv_get(root, "done")));
	html_cstr(b, "</p>");
	foot(b);
}

static void plain_page(struct base_buf *b, struct base_jv root)
{
	head(b, BASE_STR("aios"));
	show_value(b, root);
	foot(b);
}

void html_head(struct base_buf *b, struct base_str title)
{
	head(b, title);
}

void html_foot(struct base_buf *b)
{
	foot(b);
}

int door_page(enum wire_op op, struct base_str json, struct base_buf *ret)
{
	struct base_json *doc;
	struct base_jv root, inner;
	struct base_str csrf;
	int r = base_json_parse(json, &doc, NULL);

	if (r < 0)
		return r == -ENOMEM ? r : -EINVAL;
	root = base_json_root(doc);
	csrf = base_jv_str(base_jv_get(root, "csrf"));
	inner = base_jv_get(root, op == WIRE_OP_PAGE_RUN ? "run" : "gate");
	if (base_jv_kind(inner) != BASE_JSON_OBJ)
		inner = root;
	if (base_jv_kind(root) != BASE_JSON_OBJ)
		r = -EINVAL;
	else if (op == WIRE_OP_SIGN_IN_PAGE)
		door_page_sign_in(root, ret);
	else if (op == WIRE_OP_PAGE_SECURITY)
		door_page_security(root, ret);
	else if (op == WIRE_OP_PAGE_HOME)
		home_page(ret, root, csrf);
	else if (op == WIRE_OP_PAGE_RUN)
		run_page(ret, inner);
	else if (op == WIRE_OP_PAGE_GATE)
		gate_page(ret, inner, csrf, BASE_STR_NONE);
	else if (op == WIRE_OP_LINK_SHOW)
		gate_page(ret, inner, BASE_STR_NONE, base_jv_str(base_jv_get(root, "token")));
	else if (op == WIRE_OP_LINK_DECIDE)
		done_page(ret, root);
	else
		plain_page(ret, root);
	base_json_free(doc);
	return r;
}

void door_page_problem(unsigned status, struct base_str problem, struct base_buf *ret)
{
	struct base_json *doc = NULL;
	struct base_jv root = {0};

	if (base_json_parse(problem, &doc, NULL) == 0)
		root = base_json_root(doc);
	head(ret, base_str_of(door_status_text(status)));
	base_buf_printf(ret, "<h1>%s</h1>", door_status_text(status));
	if (there(base_jv_get(root, "detail"))) {
		html_cstr(ret, "<p>");
		html_text(ret, base_jv_str(base_jv_get(root, "detail")));
		html_cstr(ret, "</p>");
	}
	if (status == 401)
		html_cstr(ret,
			"<p><a href=\"/sign-in\">Sign in</a>, or type <code>aios open</code> in a shell on "
			"this machine and follow its link.</p>");
	else
		html_cstr(ret, "<p><a href=\"/\">Back to the inbox</a></p>");
	foot(ret);
	base_json_free(doc);
}
