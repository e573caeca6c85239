#include <string.h>

#include "door/door_int.h"

/* The pages on which the operator signs in, and sees who is signed in. They work without a script but for passkeys. */

static void script(struct base_buf *b)
{
	html_cstr(b, "<script src=\"/assets/passkey.js\" type=\"module\"></script>");
}

static void csrf_field(struct base_buf *b, struct base_str csrf)
{
	html_cstr(b, "<input type=\"hidden\" name=\"csrf\" value=\"");
	html_text(b, csrf);
	html_cstr(b, "\">");
}

static bool is(struct base_jv v, const char *name)
{
	return base_jv_bool(base_jv_get(v, name), false);
}

static void link_form(struct base_buf *b, struct base_str token)
{
	html_cstr(b, "<form method=\"post\" action=\"/sign-in\" class=\"card\"><p>This link signs this "
		     "browser in, "
		     "once.</p><input type=\"hidden\" name=\"token\" value=\"");
	html_text(b, token);
	html_cstr(b, "\"><div class=\"row\"><button class=\"go\" autofocus>Sign in</button></div></form>");
}

static void passkey_form(struct base_buf *b)
{
	html_cstr(b,
		"<form method=\"post\" action=\"/sign-in/passkey\" data-passkey=\"sign-in\" class=\"card\">"
		"<h2>With a passkey</h2><div class=\"row\"><button class=\"go\">Sign in with a "
		"passkey</button>"
		"</div><p role=\"status\" class=\"bad\"></p></form>");
}

static void password_form(struct base_buf *b, bool code)
{
	html_cstr(b, "<form method=\"post\" action=\"/sign-in\" class=\"card\"><h2>With a password</h2>"
		     "<input type=\"text\" name=\"user\" value=\"operator\" autocomplete=\"username\" hidden>"
		     "<label>Password<input type=\"password\" name=\"password\" "
		     "autocomplete=\"current-password\" maxlength=\"1024\" required></label>");
	if (code)
		html_cstr(b, "<label>Code<input type=\"text\" name=\"code\" inputmode=\"numeric\" "
			     "autocomplete=\"one-time-code\" maxlength=\"8\"></label>");
	html_cstr(b, "<div class=\"row\"><button class=\"go\">Sign in</button></div></form>");
}

void door_page_sign_in(struct base_jv v, struct base_buf *b)
{
	struct base_str token = base_jv_str(base_jv_get(v, "token"));

	html_head(b, BASE_STR("Sign in"));
	html_cstr(b, "<h1>Sign in</h1>");
	if (token.len && is(v, "link")) {
		link_form(b, token);
		html_foot(b);
		return;
	}
	if (is(v, "passkey"))
		passkey_form(b);
	if (is(v, "password"))
		password_form(b, is(v, "code"));
	html_cstr(b,
		"<p class=\"dim\">In a shell of this machine, <code>aios open</code> always signs in.</p>");
	if (is(v, "passkey"))
		script(b);
	html_foot(b);
}

/* --- /security --- */

static void act_form(struct base_buf *b, struct base_str csrf, const char *answer, struct base_str id,
	const char *style, const char *text)
{
	html_cstr(b, "<form method=\"post\" action=\"/security\">");
	csrf_field(b, csrf);
	html_cstr(b, "<input type=\"hidden\" name=\"id\" value=\"");
	html_text(b, id);
	base_buf_printf(b, "\"><button name=\"answer\" value=\"%s\" class=\"%s\">%s</button></form>", answer,
		style, text);
}

static void put_time(struct base_buf *b, struct base_jv from, const char *name)
{
	int64_t ms = base_jv_int(base_jv_get(from, name), 0);

	if (ms > 0 && ms < 1LL << 52)
		html_time(b, ms);
}

static void sessions(struct base_buf *b, struct base_jv list, struct base_str csrf)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv s;

	html_cstr(b, "<h2>Sessions</h2><div class=\"wide\"><table><thead><tr><th>Session</th><th>Opened</th>"
		     "<th>By</th><th>From</th><th>Ends</th><th></th></tr></thead><tbody>");
	while (base_jv_next(list, &it, &none, &s)) {
		struct base_str credential = base_jv_str(base_jv_get(s, "credential"));

		html_cstr(b, "<tr><td>");
		html_text(b, base_jv_str(base_jv_get(s, "id")));
		if (is(s, "current"))
			html_cstr(b, " <span class=\"good\">this browser</span>");
		html_cstr(b, "</td><td>");
		put_time(b, s, "opened_ms");
		html_cstr(b, "</td><td>");
		html_text(b, credential.len ? credential : base_jv_str(base_jv_get(s, "how")));
		html_cstr(b, "</td><td>");
		html_text(b, base_jv_str(base_jv_get(s, "address")));
		html_cstr(b, "<div class=\"dim\">");
		html_text(b, base_jv_str(base_jv_get(s, "agent")));
		html_cstr(b, "</div></td><td>");
		put_time(b, s, "until_ms");
		html_cstr(b, "</td><td>");
		act_form(b, csrf, "revoke", base_jv_str(base_jv_get(s, "id")), "stop", "Revoke");
		html_cstr(b, "</td></tr>");
	}
	html_cstr(b, "</tbody></table></div><div class=\"row\">");
	act_form(b, csrf, "revoke_all", BASE_STR_NONE, "stop", "Revoke all");
	act_form(b, csrf, "sign_out", BASE_STR_NONE, "", "Sign out");
	html_cstr(b, "</div>");
}

static void credentials(struct base_buf *b, struct base_jv list, struct base_str csrf)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv c;

	html_cstr(b,
		"<h2>Ways to sign in</h2><div class=\"wide\"><table><thead><tr><th>What</th><th>Added</th>"
		"<th>Last used</th><th></th></tr></thead><tbody>");
	while (base_jv_next(list, &it, &none, &c)) {
		html_cstr(b, "<tr><td>");
		html_text(b, base_jv_str(base_jv_get(c, "id")));
		if (base_jv_int(base_jv_get(c, "refused_ms"), 0)) {
			html_cstr(b, "<div class=\"bad\">its counter did not go up at ");
			put_time(b, c, "refused_ms");
			html_cstr(b, ": there may be a copy</div>");
		}
		html_cstr(b, "</td><td>");
		put_time(b, c, "added_ms");
		html_cstr(b, "</td><td>");
		put_time(b, c, "used_ms");
		html_cstr(b, "</td><td>");
		act_form(b, csrf, "remove", base_jv_str(base_jv_get(c, "id")), "stop", "Remove");
		html_cstr(b, "</td></tr>");
	}
	html_cstr(b, "</tbody></table></div>");
}

static void failures(struct base_buf *b, struct base_jv list)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv f;

	if (!base_jv_len(list))
		return;
	html_cstr(b, "<h2>Failed attempts</h2><div class=\"wide\"><table><thead><tr><th>From</th><th>By</th>"
		     "<th class=\"n\">How often</th><th>Last</th></tr></thead><tbody>");
	while (base_jv_next(list, &it, &none, &f)) {
		html_cstr(b, "<tr><td>");
		html_text(b, base_jv_str(base_jv_get(f, "address")));
		html_cstr(b, "</td><td>");
		html_text(b, base_jv_str(base_jv_get(f, "how")));
		html_cstr(b, "</td><td class=\"n\">");
		base_buf_i64(b, base_jv_int(base_jv_get(f, "count"), 0));
		html_cstr(b, "</td><td>");
		put_time(b, f, "last_ms");
		html_cstr(b, "</td></tr>");
	}
	html_cstr(b, "</tbody></table></div>");
}

void door_page_security(struct base_jv v, struct base_buf *b)
{
	struct base_str csrf = base_jv_str(base_jv_get(v, "csrf"));
	struct base_jv state = base_jv_get(v, "state");
	bool passkeys = is(v, "passkeys");

	html_head(b, BASE_STR("Security"));
	html_cstr(b, "<h1>Security</h1>");
	sessions(b, base_jv_get(state, "sessions"), csrf);
	credentials(b, base_jv_get(state, "credentials"), csrf);
	if (passkeys) {
		html_cstr(b,
			"<form method=\"post\" action=\"/security\" data-passkey=\"register\" class=\"card\">"
			"<h2>A new passkey</h2><label>Its name<input type=\"text\" name=\"name\" "
			"maxlength=\"64\" required autocomplete=\"off\"></label><div class=\"row\"><button "
			"class=\"go\">Add a passkey</button></div><p role=\"status\" "
			"class=\"bad\"></p></form>");
		script(b);
	} else {
		base_buf_printf(b,
			"<p class=\"dim\">Passkeys need https or <a href=\"http://localhost:%lld/security\">"
			"http://localhost:%lld</a>.</p>",
			(long long)base_jv_int(base_jv_get(v, "port"), 0),
			(long long)base_jv_int(base_jv_get(v, "port"), 0));
	}
	failures(b, base_jv_get(state, "failures"));
	html_foot(b);
}
