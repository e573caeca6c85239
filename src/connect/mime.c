#include "connect/mime.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/hash.h"
#include "connect/markdown.h"

/*
 * Invariants:
 *  1. No byte of an argument reaches a header but through header_text, header_address or header_plain, none
 * of which lets a line break or another control character through.
 *  2. Bodies are quoted-printable or base64, so that no line of one can be a boundary, which holds "=_".
 */

enum { COLUMN_MAX = 76, PART_MAX = 6 << 20 };

static bool is_ascii(struct base_str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] >= 127)
			return false;
	return true;
}

static int no_controls(struct base_str s, const char *what, struct base_err *err)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 127)
			return base_err_set(err, -EINVAL,
				"%s: must not hold line breaks or other control characters", what);
	return base_utf8_valid(s) ? 0 : base_err_set(err, -EINVAL, "%s: not valid UTF-8", what);
}

/* --- addresses --- */

static bool is_atext(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

static bool is_dot_atom(struct base_str s)
{
	if (!s.len || s.ptr[0] == '.' || s.ptr[s.len - 1] == '.')
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!(is_atext(s.ptr[i]) || (s.ptr[i] == '.' && s.ptr[i - 1] != '.')))
			return false;
	return true;
}

static bool is_domain(struct base_str s)
{
	size_t label = 0;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (c == '.' ? label == 0 || s.ptr[i - 1] == '-' : !(alnum || (c == '-' && label)))
			return false;
		label = c == '.' ? 0 : label + 1;
		if (label > 63)
			return false;
	}
	return label > 0 && s.len <= 253 && s.ptr[s.len - 1] != '-';
}

static struct base_str trimmed(struct base_str s)
{
	while (s.len && s.ptr[s.len - 1] == ' ')
		s.len--;
	while (s.len && s.ptr[0] == ' ')
		s = base_str_sub(s, 1, s.len);
	return s;
}

int mime_address(struct base_str s, const char *what, struct base_str *ret_name, struct base_str *ret_addr,
	struct base_err *err)
{
	struct base_str name = BASE_STR_NONE, addr = trimmed(s), local, domain;
	int r = no_controls(s, what, err);

	if (r < 0)
		return r;
	if (addr.len && addr.ptr[addr.len - 1] == '>') {
		size_t at = addr.len - 1;

		while (at > 0 && addr.ptr[at] != '<')
			at--;
		name = trimmed(base_str_sub(addr, 0, at));
		addr = base_str_sub(addr, at + 1, addr.len - at - 2);
		if (name.len >= 2 && name.ptr[0] == '"' && name.ptr[name.len - 1] == '"')
			name = base_str_sub(name, 1, name.len - 2);
		else if (base_str_find(name, '<') >= 0 || base_str_find(name, '>') >= 0)
			addr = BASE_STR_NONE; /* more than one address */
	}
	if (!base_str_cut(addr, '@', &local, &domain) || !is_dot_atom(local) || !is_domain(domain) ||
		local.len > 64)
		return base_err_set(err, -EINVAL, "%s: \"%.*s\" is not a mail address (name@example.org)",
			what, BASE_STR_ARG(s));
	*ret_name = name;
	*ret_addr = addr;
	return 0;
}

/* --- headers --- */

/* A header that is being written: knows its column, so that it can fold. */
struct header {
	struct base_buf *out;
	size_t column;
};

static struct header header_begin(struct base_buf *out, struct base_str name)
{
	base_buf_str(out, name);
	base_buf_char(out, ':');
	return (struct header){out, name.len + 1};
}

static void header_end(struct header *h)
{
	base_buf_cstr(h->out, "\r\n");
}

/* A piece that is not broken, with a blank before it that may become a fold. */
static void header_plain(struct header *h, struct base_str word)
{
	if (h->column + 1 + word.len > COLUMN_MAX && h->column > 1) {
		base_buf_cstr(h->out, "\r\n");
		h->column = 0;
	}
	base_buf_char(h->out, ' ');
	base_buf_str(h->out, word);
	h->column += 1 + word.len;
}

/* RFC 2047: base64 in words of at most 75 characters, cut at characters. */
static void header_encoded(struct header *h, struct base_str s)
{
	while (s.len) {
		size_t room = h->column + 13 + 8 > COLUMN_MAX ? 45 : (COLUMN_MAX - h->column - 13) / 4 * 3;
		size_t len = s.len < room ? s.len : room;
		struct base_buf word;

		while (len < s.len && len > 0 && ((unsigned char)s.ptr[len] & 0xc0) == 0x80)
			len--;
		base_buf_init(&word, 128);
		base_buf_cstr(&word, "=?UTF-8?B?");
		base_b64_put(&word, base_str_sub(s, 0, len));
		base_buf_cstr(&word, "?=");
		header_plain(h, base_buf_view(&word));
		base_buf_done(&word);
		s = base_str_sub(s, len, s.len);
	}
}

/* True if s can stand as it is, folded at its blanks. */
static bool is_foldable(struct base_str s)
{
	size_t word = 0;

	for (size_t i = 0; i < s.len; i++) {
		bool blank = s.ptr[i] == ' ';

		if (blank && (word == 0 || i + 1 == s.len))
			return false; /* at an end, or two in a row: folding would change them */
		word = blank ? 0 : word + 1;
		if (word > 900 || (s.ptr[i] == '=' && i + 1 < s.len && s.ptr[i + 1] == '?'))
			return false;
	}
	return is_ascii(s);
}

static void header_text(struct header *h, struct base_str s)
{
	struct base_str word;

	if (!is_foldable(s)) {
		header_encoded(h, s);
		return;
	}
	do {
		bool more = base_str_cut(s, ' ', &word, &s);

		header_plain(h, word);
		if (!more)
			break;
	} while (true);
}

static void header_address(struct header *h, struct base_str name, struct base_str addr)
{
	bool atoms = true;
	struct base_buf b;

	for (size_t i = 0; i < name.len; i++)
		atoms = atoms && (is_atext(name.ptr[i]) || name.ptr[i] == ' ');
	base_buf_init(&b, 4096);
	if (name.len && atoms && is_foldable(name)) {
		header_text(h, name);
	} else if (name.len && is_ascii(name) && name.len < 60 && !memmem(name.ptr, name.len, "=?", 2)) {
		base_buf_char(&b, '"');
		for (size_t i = 0; i < name.len; i++) {
			if (name.ptr[i] == '"' || name.ptr[i] == '\\')
				base_buf_char(&b, '\\');
			base_buf_char(&b, name.ptr[i]);
		}
		base_buf_char(&b, '"');
		header_plain(h, base_buf_view(&b));
		base_buf_clear(&b);
	} else if (name.len) {
		header_encoded(h, name);
	}
	base_buf_printf(&b, name.len ? "<%.*s>" : "%.*s", BASE_STR_ARG(addr));
	header_plain(h, base_buf_view(&b));
	base_buf_done(&b);
}

static int put_address(struct base_buf *out, const char *name, struct base_str value,
	struct base_str *ret_addr, struct base_err *err)
{
	struct base_str person, addr;
	struct header h;
	int r = mime_address(value, name, &person, &addr, err);

	if (r < 0)
		return r;
	h = header_begin(out, base_str_of(name));
	header_address(&h, person, addr);
	header_end(&h);
	*ret_addr = addr;
	return 0;
}

static void put_date(struct base_buf *out, int64_t ms)
{
	static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[][4] = {
		"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm = {0};

	gmtime_r(&seconds, &tm);
	base_buf_printf(out, "Date: %s, %d %s %d %02d:%02d:%02d +0000\r\n", days[tm.tm_wday % 7], tm.tm_mday,
		months[tm.tm_mon % 12], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static int put_unsubscribe(struct base_buf *out, struct base_str url, struct base_err *err)
{
	struct base_buf word;
	struct header h;

	for (size_t i = 0; i < url.len; i++)
		if (url.ptr[i] <= ' ' || url.ptr[i] >= 127 || strchr("<>,\"", url.ptr[i]))
			return base_err_set(err, -EINVAL,
				"unsubscribe: \"%.*s\" is not an address that can stand in a "
				"header",
				BASE_STR_ARG(url));
	base_buf_init(&word, 2048);
	base_buf_printf(&word, "<%.*s>", BASE_STR_ARG(url));
	h = header_begin(out, BASE_STR("List-Unsubscribe"));
	header_plain(&h, base_buf_view(&word));
	header_end(&h);
	base_buf_done(&word);
	if (url.len > 8 && strncasecmp(url.ptr, "https://", 8) == 0)
		base_buf_cstr(out, "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"); /* RFC 8058 */
	return 0;
}

/* What this file writes itself, and what would change where a mail goes or how it is read. */
static bool is_reserved(struct base_str name)
{
	static const char *const names[] = {"from", "to", "cc", "bcc", "sender", "subject", "date",
		"message-id", "mime-version", "reply-to", "return-path", "received", "list-unsubscribe",
		"list-unsubscribe-post", "dkim-signature", "delivered-to"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strlen(names[i]) == name.len && strncasecmp(name.ptr, names[i], name.len) == 0)
			return true;
	return (name.len >= 8 && strncasecmp(name.ptr, "content-", 8) == 0) ||
	       (name.len >= 7 && strncasecmp(name.ptr, "resent-", 7) == 0);
}

static int put_headers(struct base_buf *out, struct base_jv headers, struct base_err *err)
{
	struct base_jv_iter it = {0};
	struct base_str name;
	struct base_jv value;

	while (base_jv_next(headers, &it, &name, &value)) {
		struct header h;
		int r;

		for (size_t i = 0; i < name.len; i++)
			if (name.ptr[i] <= ' ' || name.ptr[i] >= 127 || name.ptr[i] == ':')
				return base_err_set(err, -EINVAL,
					"headers: \"%.*s\" cannot be the name of a header",
					BASE_STR_ARG(name));
		if (!name.len || name.len > 60 || is_reserved(name))
			return base_err_set(
				err, -EINVAL, "headers: %.*s is not the caller's to set", BASE_STR_ARG(name));
		r = no_controls(base_jv_str(value), "headers", err);
		if (r < 0)
			return r;
		h = header_begin(out, name);
		header_text(&h, base_jv_str(value));
		header_end(&h);
	}
	return 0;
}

/* --- bodies --- */

/* The line ends of any system become CRLF. */
static void canonical(struct base_str in, struct base_buf *out)
{
	for (size_t i = 0; i < in.len; i++) {
		if (in.ptr[i] == '\r' || in.ptr[i] == '\n') {
			base_buf_cstr(out, "\r\n");
			i += in.ptr[i] == '\r' && i + 1 < in.len && in.ptr[i + 1] == '\n';
		} else {
			base_buf_char(out, in.ptr[i]);
		}
	}
}

void mime_quoted_printable(struct base_str data, struct base_buf *out)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t column = 0;

	for (size_t i = 0; i < data.len; i++) {
		unsigned char c = (unsigned char)data.ptr[i];
		bool last = i + 1 == data.len || data.ptr[i + 1] == '\n' || data.ptr[i + 1] == '\r';
		bool plain = (c > ' ' && c < 127 && c != '=') || ((c == ' ' || c == '\t') && !last);

		if (c == '\r' || c == '\n') {
			base_buf_cstr(out, "\r\n");
			i += c == '\r' && i + 1 < data.len && data.ptr[i + 1] == '\n';
			column = 0;
			continue;
		}
		/* "From " at the start of a line and a lone dot are changed by some on the way. */
		if (column == 0 && (c == '.' || (c == 'F' && data.len - i >= 5 &&
							memcmp(data.ptr + i, "From ", 5) == 0)))
			plain = false;
		if (column + (plain ? 1 : 3) > COLUMN_MAX - 1) {
			base_buf_cstr(out, "=\r\n");
			column = 0;
			i--; /* judged again, at the start of a line */
			continue;
		}
		if (plain) {
			base_buf_char(out, (char)c);
		} else {
			base_buf_char(out, '=');
			base_buf_char(out, hex[c >> 4]);
			base_buf_char(out, hex[c & 15]);
		}
		column += plain ? 1 : 3;
	}
}

static void put_base64(struct base_str data, struct base_buf *out)
{
	struct base_buf lines;

	base_buf_init(&lines, PART_MAX);
	canonical(data, &lines);
	data = base_buf_view(&lines);
	while (data.len) {
		base_b64_put(out, base_str_sub(data, 0, 57));
		base_buf_cstr(out, "\r\n");
		data = base_str_sub(data, 57, data.len);
	}
	if (base_buf_failed(&lines))
		out->failed = base_buf_failed(&lines);
	base_buf_done(&lines);
}

/* The headers of a part and its body. Base64 is shorter where most of the text is not ASCII. */
static void put_part(const char *type, struct base_str body, struct base_buf *out)
{
	size_t other = 0;

	for (size_t i = 0; i < body.len; i++)
		other += (unsigned char)body.ptr[i] >= 127;
	base_buf_printf(out, "Content-Type: %s; charset=utf-8\r\nContent-Transfer-Encoding: %s\r\n\r\n", type,
		other > body.len / 4 ? "base64" : "quoted-printable");
	if (other > body.len / 4) {
		put_base64(body, out);
		return;
	}
	mime_quoted_printable(body, out);
	if (!base_str_ends(base_buf_view(out), BASE_STR("\r\n")))
		base_buf_cstr(out, "\r\n");
}

static void put_document(struct base_str title, struct base_str md, struct base_buf *out)
{
	base_buf_cstr(out, "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" "
			   "content=\"width=device-width\">\n<title>");
	markdown_escape(title, out);
	base_buf_cstr(out, "</title></head>\n<body style=\"max-width:40em;margin:0 auto;padding:1em;"
			   "font:16px/1.5 sans-serif;color:#222\">\n");
	markdown_html(md, out);
	base_buf_cstr(out, "</body></html>\n");
}

static void put_parts(const struct mime_mail *m, const char *boundary, struct base_str text,
	struct base_str html, struct base_buf *out)
{
	base_buf_cstr(out, "MIME-Version: 1.0\r\n");
	if (!m->markdown.len && !(m->text.len && m->html.len)) {
		put_part(m->html.len ? "text/html" : "text/plain", m->html.len ? html : text, out);
		return;
	}
	base_buf_printf(out, "Content-Type: multipart/alternative;\r\n boundary=\"%s\"\r\n\r\n--%s\r\n",
		boundary, boundary);
	put_part("text/plain", text, out);
	base_buf_printf(out, "--%s\r\n", boundary);
	put_part("text/html", html, out);
	base_buf_printf(out, "--%s--\r\n", boundary);
}

static int put_bodies(
	const struct mime_mail *m, const char *boundary, struct base_buf *out, struct base_err *err)
{
	struct base_buf text, html;
	int r;

	base_buf_init(&text, PART_MAX);
	base_buf_init(&html, PART_MAX);
	if (m->text.len)
		base_buf_str(&text, m->text);
	else if (m->markdown.len)
		markdown_text(m->markdown, &text);
	if (m->html.len)
		base_buf_str(&html, m->html);
	else if (m->markdown.len)
		put_document(m->subject, m->markdown, &html);
	put_parts(m, boundary, base_buf_view(&text), base_buf_view(&html), out);
	r = base_buf_failed(&text) ? base_buf_failed(&text) : base_buf_failed(&html);
	base_buf_done(&text);
	base_buf_done(&html);
	if (r == 0)
		r = base_buf_failed(out);
	return r == 0 ? 0 : base_err_set(err, r, r == -EFBIG ? "the mail is too large" : "out of memory");
}

/* --- the message --- */

static int put_message_id(struct base_arena *arena, const char *id, struct base_str from,
	struct base_buf *out, struct base_str *ret)
{
	struct base_str local, domain;

	base_str_cut(from, '@', &local, &domain);
	*ret = base_arena_printf(arena, "<%.32s@%.*s>", id, BASE_STR_ARG(domain));
	if (!ret->ptr)
		return -ENOMEM;
	base_buf_printf(out, "Message-ID: %.*s\r\n", BASE_STR_ARG(*ret));
	return 0;
}

int mime_build(const struct mime_mail *m, struct base_arena *arena, struct base_buf *out,
	struct mime_envelope *ret, struct base_err *err)
{
	struct base_hash hash = base_hash_of2(BASE_STR("aios mail "), m->key);
	struct mime_envelope env = {0};
	char id[65], boundary[64];
	struct base_str unused;
	struct header h;
	int r = no_controls(m->subject, "subject", err);

	if (r < 0)
		return r;
	base_hash_hex(&hash, id);
	snprintf(boundary, sizeof(boundary), "=_%.24s", id + 32);
	put_date(out, m->date_ms);
	r = put_address(out, "From", m->from, &env.from, err);
	if (r == 0)
		r = put_address(out, "To", m->to, &env.to, err);
	if (r == 0 && m->reply_to.len)
		r = put_address(out, "Reply-To", m->reply_to, &unused, err);
	if (r < 0)
		return r;
	r = put_message_id(arena, id, env.from, out, &env.message_id);
	if (r < 0)
		return base_err_set(err, r, "out of memory");
	h = header_begin(out, BASE_STR("Subject"));
	header_text(&h, m->subject);
	header_end(&h);
	if (m->unsubscribe.len)
		r = put_unsubscribe(out, m->unsubscribe, err);
	if (r == 0)
		r = put_headers(out, m->headers, err);
	if (r == 0)
		r = put_bodies(m, boundary, out, err);
	if (r == 0)
		*ret = env;
	return r;
}
