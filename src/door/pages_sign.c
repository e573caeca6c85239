#include "door/door_int.h"

/* A decision that is signed: the script of passkeys fills in the field, and sends the form. */
void door_sign_form(struct base_buf *b, struct base_jv g, struct base_str csrf)
{
	html_cstr(b, "<script src=\"/assets/passkey.js\" type=\"module\"></script>"
		     "<form method=\"post\" data-passkey=\"decide\" data-challenge=\"");
	html_text(b, base_jv_str(base_jv_get(g, "challenge")));
	html_cstr(b, "\" data-rp=\"");
	html_text(b, base_jv_str(base_jv_get(g, "rp_id")));
	html_cstr(b, "\" action=\"/gates/");
	base_buf_i64(b, base_jv_int(base_jv_get(g, "gate"), 0));
	html_cstr(b, "\"><input type=\"hidden\" name=\"csrf\" value=\"");
	html_text(b, csrf);
	html_cstr(b, "\"><input type=\"hidden\" name=\"shown\" value=\"");
	html_text(b, base_jv_str(base_jv_get(g, "shown")));
	html_cstr(b, "\"><input type=\"hidden\" name=\"assertion\" value=\"\">");
	html_cstr(b, "<label>Reason (kept with the decision)<input type=\"text\" name=\"reason\" "
		     "maxlength=\"2000\" autocomplete=\"off\"></label>");
	html_cstr(b,
		"<p role=\"status\" class=\"bad\"></p><div class=\"row\"><button disabled hidden></button>"
		"<button name=\"answer\" value=\"approve\" class=\"go\" data-sign>Approve with a "
		"passkey</button></div></form>");
}
