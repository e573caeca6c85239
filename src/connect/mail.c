#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "connect/connect_int.h"
#include "connect/maildir.h"
#include "connect/mime.h"
#include "connect/smtp.h"
#include "connect/xfer.h"

/*
 * mail.send. To a Maildir it is idempotent: the file's name comes from the key. To an SMTP server it is
 * `once` from DATA on: what fails before the server asks for the message did not happen; what breaks off
 * after that may have.
 */

enum { MESSAGE_MAX = 16 << 20 };

struct mail {
	struct base_str message;
	struct mime_envelope envelope;
	char host[256];	      /* of the mail server */
	struct smtp_job *job; /* with the threads, or NULL */
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

/* --- Maildir --- */

/* The configured folder, which the operator writes relative to the workspace, relative to its files/. */
static int maildir_of(
	const struct connect_call *call, struct base_jv config, struct base_str *ret, struct base_err *err)
{
	struct base_str dir = base_jv_str(base_jv_get(config, "maildir"));
	struct base_str files = base_jv_str(connect_config(call, "files"));

	if (!dir.len)
		dir = BASE_STR("files/outbox");
	if (base_str_starts(dir, BASE_STR("./")))
		dir = base_str_sub(dir, 2, dir.len);
	if (files.len && dir.ptr[0] == '/' && base_str_starts(dir, files))
		dir = base_str_sub(dir, files.len, dir.len);
	else if (base_str_starts(dir, BASE_STR("files/")))
		dir = base_str_sub(dir, 5, dir.len);
	else
		dir.len = 0;
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

/* --- SMTP --- */

static void rejected(
	struct connect_call *call, const struct smtp_job *job, const char *host, enum wire_outcome outcome)
{
	struct base_err err = {0};
	char extra[32];

	base_err_set(&err, -EIO, "%s: the mail server answered %ld%s: %s", host, job->status,
		job->status == 535 || job->status == 530 ? " (check user and secret)"
		: outcome == WIRE_FAILED		 ? " and will not take this mail"
							 : " and asks to try later",
		job->words);
	snprintf(extra, sizeof(extra), "\"status\":%ld", job->status);
	connect_fail_with(call, &(struct connect_problem){
					.outcome = outcome,
					.code = outcome == WIRE_FAILED ? "rejected" : "later",
					.message = err.text,
					.extra = base_str_of(extra),
				});
}

static void to_smtp(struct connect_call *call, struct base_jv config, struct mail *m);

static void smtp_done(struct connect_call *call, const struct smtp_job *job)
{
	const struct mail *m = call->state;
	bool given = atomic_load(&job->phase) == SMTP_DATA;
	const char *detail = job->error[0] ? job->error : curl_easy_strerror(job->code);

	if (job->code == CURLE_OK) {
		sent(call, "smtp", m, NULL);
	} else if (!given && job->status == 535 && connect_secret_turn(call)) {
		/* With the password from before it was rotated. */
		to_smtp(call, connect_config(call, "mail"), call->state);
	} else if (given && job->status >= 400) { /* it answered the message itself: not taken */
		rejected(call, job, m->host, job->status >= 500 ? WIRE_FAILED : WIRE_RETRY);
	} else if (given) {
		connect_fail(call, WIRE_UNKNOWN, "no_answer",
			"%s: the connection ended after the message was handed over and before it was "
			"confirmed: it may "
			"have been delivered; look for %.*s",
			m->host, BASE_STR_ARG(m->envelope.message_id));
	} else if (job->status >= 400) {
		bool final = job->status >= 500 && job->code != CURLE_LOGIN_DENIED &&
			     job->code != CURLE_USE_SSL_FAILED;

		rejected(call, job, m->host, final ? WIRE_FAILED : WIRE_RETRY);
	} else if (job->code == CURLE_PEER_FAILED_VERIFICATION || job->code == CURLE_USE_SSL_FAILED ||
		   job->code == CURLE_SSL_CONNECT_ERROR) {
		connect_fail(call, WIRE_RETRY, "tls",
			"%s: no trusted TLS connection (%s); check mail: smtp: tls in aios.yaml", m->host,
			detail);
	} else {
		connect_fail_curl(call, m->host, job->code, detail);
	}
}

/* The threads have something. */
static void on_through(void *userdata)
{
	struct connect *c = userdata;
	struct smtp_job *job;

	while ((job = smtp_pool_take(c->mailers))) {
		struct connect_call *call = base_idmap_get(c->calls, job->call);
		struct mail *m = call && call->action->start == connect_mail_send ? call->state : NULL;

		if (m && m->job == job) {
			m->job = NULL;
			smtp_done(call, job);
		}
		smtp_job_free(job);
	}
}

/* Cut short: whether the message may have been handed over decides what that means. */
static void smtp_cut(struct connect_call *call)
{
	struct mail *m = call->state;

	if (m->job && !smtp_job_give_up(m->job))
		call->left = true;
	m->job = NULL;
}

static struct smtp_pool *mailers(struct connect *c)
{
	if (!c->mailers && smtp_pool_new(&c->mailers) == 0 &&
		connect_net_watch(c->net, smtp_pool_fd(c->mailers), on_through, c) < 0) {
		smtp_pool_free(c->mailers);
		c->mailers = NULL;
	}
	return c->mailers;
}

static char *copy(struct base_str s)
{
	return s.len ? strndup(s.ptr, s.len) : NULL;
}

static int smtp_tls(struct smtp_job *job, struct base_str url, struct base_str tls, struct base_err *err)
{
	bool smtps = base_str_starts(url, BASE_STR("smtps://"));

	job->starttls = base_str_is(tls, "starttls");
	if (base_str_is(tls, "tls") && !smtps)
		return base_err_set(
			err, -EINVAL, "mail: smtp: tls: \"tls\" needs an address that begins with smtps://");
	if (tls.len && !job->starttls && !base_str_is(tls, "tls") && !base_str_is(tls, "none"))
		return base_err_set(err, -EINVAL, "mail: smtp: tls must be none, starttls or tls");
	return 0;
}

static int smtp_login(struct connect_call *call, struct smtp_job *job, struct base_jv smtp, const char *host,
	struct base_err *err)
{
	struct base_str secret;
	int r = connect_secret_for(call, base_str_of(host), &secret, err);

	job->user = copy(base_jv_str(base_jv_get(smtp, "user")));
	if (r < 0 || !job->user || !secret.len)
		return r;
	if (!job->starttls && strncmp(job->url, "smtps://", 8) != 0 && !connect_is_loopback(host))
		return base_err_set(err, -EACCES,
			"mail: smtp: a password is not sent without TLS to another machine: set "
			"tls: starttls or tls");
	job->password = sodium_malloc(secret.len + 1);
	if (job->password) {
		memcpy(job->password, secret.ptr, secret.len);
		job->password[secret.len] = 0;
	}
	return job->password ? 0 : base_err_set(err, -ENOMEM, "out of memory");
}

static int smtp_job_fill(struct connect_call *call, struct smtp_job *job, struct base_jv smtp, struct mail *m,
	struct base_err *err)
{
	struct base_str url = base_jv_str(base_jv_get(smtp, "url")), text;
	int r;

	if (!base_str_starts(url, BASE_STR("smtp://")) && !base_str_starts(url, BASE_STR("smtps://")))
		return base_err_set(err, -EINVAL, "mail: smtp: url must begin with smtp:// or smtps://");
	job->call = call->id;
	job->timeout_ms = call->timeout_ms + 2000; /* the call's own end comes first */
	job->url = copy(url);
	job->ca = copy(base_jv_str(base_jv_get(smtp, "ca")));
	text = base_arena_printf(call->arena, "<%.*s>", BASE_STR_ARG(m->envelope.from));
	job->from = copy(text);
	text = base_arena_printf(call->arena, "<%.*s>", BASE_STR_ARG(m->envelope.to));
	job->to = copy(text);
	job->message = (struct base_str){copy(m->message), m->message.len};
	if (!job->url || !job->from || !job->to || !job->message.ptr)
		return base_err_set(err, -ENOMEM, "out of memory");
	r = connect_host_of(job->url, m->host, sizeof(m->host), err);
	if (r == 0)
		r = smtp_tls(job, url, base_jv_str(base_jv_get(smtp, "tls")), err);
	return r < 0 ? r : smtp_login(call, job, smtp, m->host, err);
}

static void to_smtp(struct connect_call *call, struct base_jv config, struct mail *m)
{
	struct smtp_pool *pool = mailers(call->c);
	struct smtp_job *job = calloc(1, sizeof(*job));
	struct base_err err = {0};
	int r = -ENOMEM;

	if (call->mode == 1) {
		free(job);
		connect_fail(call, WIRE_UNKNOWN, "invalid",
			"a mail server cannot be asked whether it took a mail");
		return;
	}
	if (job && pool)
		r = smtp_job_fill(call, job, base_jv_get(config, "smtp"), m, &err);
	if (r == 0) {
		call->state = m;
		m->job = job;
		call->on_cut = smtp_cut;
		r = smtp_pool_submit(pool, job);
	}
	if (r < 0) {
		m->job = NULL;
		smtp_job_free(job);
		if (r == -EINVAL || r == -EACCES)
			connect_fail(call, WIRE_FAILED, r == -EACCES ? "denied" : "invalid", "%s", err.text);
		else
			connect_fail(call, WIRE_RETRY, "busy",
				"as many mails are waiting for the mail server as can be held");
	}
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
