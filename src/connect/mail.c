#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/hash.h"
#include "connect/connect_int.h"
#include "connect/maildir.h"
#include "connect/mime.h"
#include "connect/xfer.h"

/*
 * mail.send. To a Maildir it is idempotent: the file's name comes from the key. To an SMTP server it is
 * `once` from DATA on: what fails before the server asks for the message did not happen; what breaks off
 * after that may have.
 */

enum { MESSAGE_MAX = 16 << 20, SMTP_REPLY_MAX = 64 << 10 };

struct mail {
	struct base_str message;
	struct mime_envelope envelope;
	size_t sent; /* bytes that libcurl has taken */
};

static struct base_str text_arg(const struct connect_call *call, const char *name)
{
	return base_jv_str(base_jv_get(call->args, name));
}

static int build(struct connect_call *call, struct base_jv config, struct mail *ret, struct base_err *err)
{
	struct base_str from = text_arg(call, "from");
	const struct mime_mail m = {
		.from = from.len ? from : base_jv_str(base_jv_get(config, "from")),
		.to = text_arg(call, "to"),
		.reply_to = text_arg(call, "reply_to"),
		.subject = text_arg(call, "subject"),
		.markdown = text_arg(call, "markdown"),
		.text = text_arg(call, "text"),
		.html = text_arg(call, "html"),
		.unsubscribe = text_arg(call, "unsubscribe"),
		.headers = base_jv_get(call->args, "headers"),
		.key = call->key,
		.date_ms = base_jv_int(connect_config(call, "now_ms"), (int64_t)time(NULL) * 1000),
	};
	struct base_buf out;
	int r;

	if (!m.from.len)
		return base_err_set(err, -EINVAL,
			"no sender: set mail: { from: \"Name <name@example.org>\" } in aios.yaml");
	if (!m.markdown.len && !m.text.len && !m.html.len)
		return base_err_set(err, -EINVAL, "the mail is empty: it needs markdown, text or html");
	base_buf_init(&out, MESSAGE_MAX);
	r = mime_build(&m, call->arena, &out, &ret->envelope, err);
	if (r == 0) {
		ret->message = base_arena_dup(call->arena, base_buf_view(&out));
		if (!ret->message.ptr)
			r = base_err_set(err, -ENOMEM, "out of memory");
	}
	base_buf_done(&out);
	return r;
}

static void sent(struct connect_call *call, const char *transport, const struct mail *m, const char *file)
{
	struct base_buf value;
	struct base_jw w;

	base_buf_init(&value, 8192);
	w = base_jw_of(&value);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "transport", transport);
	base_jw_mstr(&w, "message_id", m->envelope.message_id);
	base_jw_mstr(&w, "to", m->envelope.to);
	if (file)
		base_jw_mcstr(&w, "file", file);
	base_jw_end_obj(&w);
	connect_done(call, &value);
	base_buf_done(&value);
}

/* --- Maildir
 * ---------------------------------------------------------------------------------------------------- */

/* The configured folder, which the operator writes relative to the workspace, relative to its files/. */
static int maildir_of(
	const struct connect_call *call, struct base_jv config, struct base_str *ret, struct base_err *err)
{
	struct base_str dir = base_jv_str(base_jv_get(config, "maildir"));
	struct base_str files = base_jv_str(connect_config(call, "files"));

	if (!dir.len)
		dir = BASE_STR("files/outbox");
	if (files.len && dir.ptr[0] == '/' && base_str_starts(dir, files))
		dir = base_str_sub(dir, files.len, dir.len);
	else if (base_str_starts(dir, BASE_STR("./files/")))
		dir = base_str_sub(dir, 7, dir.len);
	else if (base_str_starts(dir, BASE_STR("files/")))
		dir = base_str_sub(dir, 5, dir.len);
	if (dir.len < 2 || dir.ptr[0] != '/')
		return base_err_set(
			err, -EINVAL, "mail: maildir must be a folder below files/, such as files/outbox");
	*ret = base_str_sub(dir, 1, dir.len);
	return 0;
}

static void to_maildir(struct connect_call *call, struct base_jv config, struct mail *m)
{
	struct base_hash hash = base_hash_of2(BASE_STR("aios maildir "), call->key);
	struct base_err err = {0};
	struct base_str dir;
	char hex[65], name[80];
	bool already;
	int r = maildir_of(call, config, &dir, &err);

	if (r == 0 && call->c->files_fd < 0)
		r = base_err_set(&err, -EINVAL, "the workspace has no files folder that can be opened");
	if (r < 0) {
		connect_fail(call, WIRE_FAILED, "invalid", "%s", err.text);
		return;
	}
	base_hash_hex(&hash, hex);
	snprintf(name, sizeof(name), "%.40s.aios", hex);
	if (call->mode == 1) {
		r = maildir_has(call->c->files_fd, dir, base_str_of(name), &err);
		if (r == 0) {
			connect_fail(
				call, WIRE_NOT_FOUND, "not_found", "the Maildir holds no mail of this key");
			return;
		}
	} else {
		r = maildir_deliver(call->c->files_fd, dir, base_str_of(name), m->message, &already, &err);
	}
	if (r < 0) {
		bool stays = r == -EXDEV || r == -ELOOP || r == -ENOTDIR || r == -EACCES || r == -EROFS ||
			     r == -ENOSYS;

		/* The name makes a repetition harmless. */
		connect_fail(call, stays ? WIRE_FAILED : WIRE_RETRY, "failed", "%s", err.text);
		return;
	}
	sent(call, "maildir", m, name);
}

/* --- SMTP
 * ------------------------------------------------------------------------------------------------------- */

/* libcurl asks for the message only once the server has answered DATA with 354. */
static size_t on_read(char *buffer, size_t size, size_t count, void *userdata)
{
	struct connect_call *call = userdata;
	struct mail *m = call->state;
	struct base_str piece = base_str_sub(m->message, m->sent, size * count);

	call->left = true;
	if (piece.len)
		memcpy(buffer, piece.ptr, piece.len);
	m->sent += piece.len;
	return piece.len;
}

/* The server's own last words, without its codes' control characters. */
static struct base_str last_line(const struct connect_xfer *x)
{
	struct base_str rest = base_buf_view(&x->head), line, last = BASE_STR_NONE;

	while (rest.len) {
		base_str_cut(rest, '\n', &line, &rest);
		if (line.len > 1)
			last = line;
	}
	while (last.len && (unsigned char)last.ptr[last.len - 1] <= ' ')
		last.len--;
	return base_str_sub(last, 0, 200);
}

static void rejected(struct connect_call *call, long status, enum wire_outcome outcome)
{
	struct connect_xfer *x = call->xfer;
	struct base_str words = last_line(x);
	struct base_err err = {0};
	char extra[32];

	base_err_set(&err, -EIO, "%s: the mail server answered %ld%s: %.*s", x->host, status,
		status == 535 || status == 530 ? " (check user and secret)"
		: status >= 500		       ? " and will not take this mail"
					       : " and asks to try later",
		BASE_STR_ARG(words));
	snprintf(extra, sizeof(extra), "\"status\":%ld", status);
	connect_fail_with(call, &(struct connect_problem){
					.outcome = outcome,
					.code = outcome == WIRE_FAILED ? "rejected" : "later",
					.message = err.text,
					.extra = base_str_of(extra),
				});
}

static void smtp_done(struct connect_call *call, CURLcode code)
{
	struct connect_xfer *x = call->xfer;
	long status = connect_xfer_status(x);

	if (code == CURLE_OK) {
		sent(call, "smtp", call->state, NULL);
		return;
	}
	if (call->left && status >= 400) { /* it answered the message itself: not taken */
		call->left = false;
		rejected(call, status, status >= 500 ? WIRE_FAILED : WIRE_RETRY);
		return;
	}
	if (call->left) {
		connect_fail(call, WIRE_UNKNOWN, "no_answer",
			"%s: the connection ended after the message was handed over and before it was "
			"confirmed: it may "
			"have been delivered; look for %.*s",
			x->host, BASE_STR_ARG(((struct mail *)call->state)->envelope.message_id));
		return;
	}
	if (status >= 400) {
		bool final = status >= 500 && code != CURLE_LOGIN_DENIED && code != CURLE_USE_SSL_FAILED;

		rejected(call, status, final ? WIRE_FAILED : WIRE_RETRY);
		return;
	}
	if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_USE_SSL_FAILED) {
		connect_fail(call, WIRE_RETRY, "tls",
			"%s: no trusted TLS connection (%s); check mail: smtp: tls in aios.yaml", x->host,
			x->error[0] ? x->error : curl_easy_strerror(code));
		return;
	}
	connect_xfer_fail(x, code);
}

static int smtp_tls(struct connect_xfer *x, struct base_str url, struct base_str tls, struct base_err *err)
{
	bool smtps = url.len > 8 && strncasecmp(url.ptr, "smtps://", 8) == 0;

	if (base_str_is(tls, "starttls"))
		curl_easy_setopt(x->easy, CURLOPT_USE_SSL, (long)CURLUSESSL_ALL);
	else if (base_str_is(tls, "tls") && !smtps)
		return base_err_set(
			err, -EINVAL, "mail: smtp: tls: \"tls\" needs an address that begins with smtps://");
	else if (!base_str_is(tls, "tls") && !base_str_is(tls, "none") && tls.len)
		return base_err_set(err, -EINVAL, "mail: smtp: tls must be none, starttls or tls");
	return 0;
}

static int smtp_login(struct connect_call *call, struct connect_xfer *x, struct base_jv smtp,
	struct base_str tls, struct base_err *err)
{
	struct base_str user = base_jv_str(base_jv_get(smtp, "user")), secret, copy;
	int r = connect_secret_for(call, base_str_of(x->host), &secret, err);

	if (r < 0 || !user.len || !secret.len)
		return r;
	if ((!tls.len || base_str_is(tls, "none")) && strcmp(x->host, "localhost") != 0 &&
		strncmp(x->host, "127.", 4) != 0 && strcmp(x->host, "[::1]") != 0)
		return base_err_set(err, -EACCES,
			"mail: smtp: a password is not sent without TLS to another machine: set "
			"tls: starttls or tls");
	copy = base_arena_dup(call->arena, user);
	if (!copy.ptr)
		return base_err_set(err, -ENOMEM, "out of memory");
	curl_easy_setopt(x->easy, CURLOPT_USERNAME, copy.ptr);
	curl_easy_setopt(x->easy, CURLOPT_PASSWORD, secret.ptr); /* terminated: a copy in the arena */
	return 0;
}

static int smtp_envelope(struct connect_call *call, struct connect_xfer *x, const struct mail *m)
{
	struct base_str from = base_arena_printf(call->arena, "<%.*s>", BASE_STR_ARG(m->envelope.from));
	struct base_str to = base_arena_printf(call->arena, "<%.*s>", BASE_STR_ARG(m->envelope.to));

	x->rcpt = to.ptr ? curl_slist_append(NULL, to.ptr) : NULL;
	if (!from.ptr || !x->rcpt)
		return -ENOMEM;
	curl_easy_setopt(x->easy, CURLOPT_MAIL_FROM, from.ptr);
	curl_easy_setopt(x->easy, CURLOPT_MAIL_RCPT, x->rcpt);
	curl_easy_setopt(x->easy, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(x->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)m->message.len);
	curl_easy_setopt(x->easy, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(x->easy, CURLOPT_READDATA, call);
	return 0;
}

static void to_smtp(struct connect_call *call, struct base_jv config, struct mail *m)
{
	struct base_jv smtp = base_jv_get(config, "smtp");
	struct base_str url = base_jv_str(base_jv_get(smtp, "url")),
			tls = base_jv_str(base_jv_get(smtp, "tls"));
	struct base_err err = {0};
	int r;

	if (call->mode == 1) {
		connect_fail(call, WIRE_UNKNOWN, "invalid",
			"a mail server cannot be asked whether it took a mail");
		return;
	}
	if (!base_str_starts(url, BASE_STR("smtp://")) && !base_str_starts(url, BASE_STR("smtps://"))) {
		connect_fail(
			call, WIRE_FAILED, "invalid", "mail: smtp: url must begin with smtp:// or smtps://");
		return;
	}
	r = connect_xfer_new(call, url, SMTP_REPLY_MAX, &err);
	if (r == 0)
		r = smtp_tls(call->xfer, url, tls, &err);
	if (r == 0)
		r = smtp_login(call, call->xfer, smtp, tls, &err);
	if (r == 0 && smtp_envelope(call, call->xfer, m) < 0)
		r = base_err_set(&err, -ENOMEM, "out of memory");
	if (r < 0) {
		connect_fail(call, r == -ENOMEM ? WIRE_RETRY : WIRE_FAILED,
			r == -EACCES ? "denied" : "invalid", "%s", err.text);
		return;
	}
	connect_xfer_ca(call->xfer, base_jv_str(base_jv_get(smtp, "ca")));
	call->state = m;
	call->xfer->on_done = smtp_done;
	connect_xfer_start(call->xfer);
}

void connect_mail_send(struct connect_call *call)
{
	struct base_jv config = connect_config(call, "mail");
	struct base_str transport = base_jv_str(base_jv_get(config, "transport"));
	struct mail *m = base_arena_alloc(call->arena, sizeof(*m));
	struct base_err err = {0};
	int r = m ? build(call, config, m, &err) : base_err_set(&err, -ENOMEM, "out of memory");

	if (r < 0)
		connect_fail(call, r == -ENOMEM ? WIRE_RETRY : WIRE_FAILED, "invalid", "%s", err.text);
	else if (!transport.len || base_str_is(transport, "maildir"))
		to_maildir(call, config, m);
	else if (base_str_is(transport, "smtp"))
		to_smtp(call, config, m);
	else
		connect_fail(call, WIRE_FAILED, "invalid", "mail: transport must be maildir or smtp");
}
