#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "connect/markdown.h"
#include "connect/mime.h"
#include "rig.h"
#include "wire/outcome.h"

/* Mail: what is built, read by another parser; where it goes; and what each failure means. */

#define MAILDIR                                                                                              \
	"\"mail\":{\"transport\":\"maildir\",\"from\":\"Ada "                                                \
	"<ada@example.org>\",\"maildir\":\"files/outbox\"},"                                                 \
	"\"now_ms\":1795337626000"

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	rig_start(r, MAILDIR);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	rig_stop(*state);
	free(*state);
	return 0;
}

/* What another parser reads out of a mail; the caller frees the document. */
static struct base_json *read_mail(const char *argument)
{
	const char *folder = getenv("AIOS_TESTS");
	struct base_json *doc;
	struct base_err err;
	char *text = calloc(1, 1 << 20);
	FILE *p =
		popen(fmt("python3 '%s/read_mail.py' %s", folder ? folder : "tests/connect", argument), "r");
	size_t len = fread(text, 1, 1 << 20, p);

	assert_int_equal(pclose(p), 0);
	if (base_json_parse((struct base_str){text, len}, &doc, &err) < 0)
		fail_msg("read_mail.py: %s", err.text);
	free(text);
	return doc;
}

static const char *of(const struct base_json *mail, const char *key)
{
	return fmt("%.*s", BASE_STR_ARG(base_jv_str(base_jv_get(base_json_root(mail), key))));
}

static size_t count_in(struct rig *r, const char *folder)
{
	DIR *d = opendir(fmt("%s/outbox/%s", r->files, folder));
	struct dirent *e;
	size_t n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void send_mail(struct rig *r, const char *key, const char *args, struct rig_result *ret)
{
	rig_do(r, &(struct rig_effect){.action = "mail.send", .key = key, .args = args}, ret);
}

/* Sends, expects done, reads the file. */
static struct base_json *delivered(struct rig *r, const char *key, const char *args)
{
	struct base_json *mail;
	struct rig_result x;

	send_mail(r, key, args, &x);
	rig_expect(&x, WIRE_DONE);
	mail = read_mail(fmt("'%s/outbox/new/%s'", r->files, rig_text(&x, "file")));
	assert_string_equal(of(mail, "id"), rig_text(&x, "message_id"));
	rig_result_done(&x);
	return mail;
}

static void a_mail_is_read_by_others_as_it_was_meant(void **state)
{
	struct base_json *mail = delivered(*state, "k1",
		"{\"to\":\"Gr\\u00fc\\u00dfe an Bj\\u00f6rn <bjorn@example.com>\",\"subject\":\"\\u00dcber "
		"\\ud83d\\ude00 "
		"eine sehr lange Betreffzeile, die \\u00f6fter als einmal umgebrochen werden muss, damit sie "
		"passt\","
		"\"markdown\":\"# Hello\\n\\nA *fine* day, said **Zo\\u00eb**. See "
		"[it](https://example.org/a?b=1&c=2).\\n\\n- one\\n- "
		"two\\n\\n<script>alert(1)</script>\\n\\nFrom here.\\n.\\n\","
		"\"reply_to\":\"re@example.org\",\"unsubscribe\":\"https://example.org/u?t=abc\","
		"\"headers\":{\"X-Custom\":\"gr\\u00fcn\",\"List-Id\":\"Notes <notes.example.org>\"}}");

	assert_string_equal(of(mail, "type"), "multipart/alternative");
	assert_string_equal(of(mail, "from_address"), "ada@example.org");
	assert_string_equal(of(mail, "from_name"), "Ada");
	assert_string_equal(of(mail, "to"), "Grüße an Björn <bjorn@example.com>");
	assert_string_equal(of(mail, "subject"),
		"Über 😀 eine sehr lange Betreffzeile, die öfter als einmal umgebrochen "
		"werden muss, damit sie passt");
	assert_string_equal(of(mail, "date"), "2026-11-22T08:53:46+00:00");
	assert_string_equal(of(mail, "unsubscribe"), "<https://example.org/u?t=abc>");
	assert_string_equal(of(mail, "one_click"), "List-Unsubscribe=One-Click");
	assert_string_equal(of(mail, "custom"), "grün");
	assert_string_equal(of(mail, "text"),
		"Hello\n\nA fine day, said Zoë. See it (https://example.org/a?b=1&c=2).\n\n- "
		"one\n- two\n\n<script>alert(1)</script>\n\nFrom here.\n.");
	assert_non_null(strstr(of(mail, "html"), "<h1>Hello</h1>"));
	assert_non_null(strstr(of(mail, "html"), "<strong>Zoë</strong>"));
	assert_non_null(strstr(of(mail, "html"), "<a href=\"https://example.org/a?b=1&amp;c=2\">it</a>"));
	assert_non_null(strstr(of(mail, "html"), "&lt;script&gt;"));
	assert_null(strstr(of(mail, "html"), "<script>"));
	base_json_free(mail);
}

static void plain_text_and_html_stand_alone_or_together(void **state)
{
	struct base_json *mail = delivered(
		*state, "t", "{\"to\":\"a@example.org\",\"subject\":\"s\",\"text\":\"line = 1 \\nline 2\"}");

	assert_string_equal(of(mail, "type"), "text/plain");
	assert_string_equal(of(mail, "text"), "line = 1 \nline 2\n");
	base_json_free(mail);
	mail = delivered(*state, "h", "{\"to\":\"a@example.org\",\"subject\":\"s\",\"html\":\"<p>x</p>\"}");
	assert_string_equal(of(mail, "type"), "text/html");
	base_json_free(mail);
	mail = delivered(*state, "b",
		"{\"to\":\"a@example.org\",\"subject\":\"s\",\"html\":\"<p>x</p>\",\"text\":\"x\"}");
	assert_string_equal(of(mail, "type"), "multipart/alternative");
	base_json_free(mail);
	mail = delivered(*state, "j",
		"{\"to\":\"a@example.org\",\"subject\":\"\\u65e5\\u672c\",\"text\":"
		"\"\\u65e5\\u672c\\u8a9e\\n\"}");
	assert_string_equal(of(mail, "text"), "日本語\r\n"); /* base64 keeps the line ends of mail */
	assert_string_equal(of(mail, "subject"), "日本");
	base_json_free(mail);
}

static void subjects_of_every_length_survive(void **state)
{
	for (size_t len = 1; len < 300; len += 19) {
		char ascii[512], wide[1024];
		struct base_json *mail;

		for (size_t i = 0; i < len; i++)
			ascii[i] = i % 9 == 8 && i + 1 < len ? ' ' : (char)('a' + i % 26);
		ascii[len] = 0;
		wide[0] = 0;
		for (size_t i = 0; i < len; i++)
			strcat(wide, i % 5 ? "x" : "é");
		mail = delivered(*state, fmt("s%zu", len),
			fmt("{\"to\":\"a@example.org\",\"subject\":\"%s\",\"text\":\"x\"}", ascii));
		assert_string_equal(of(mail, "subject"), ascii);
		base_json_free(mail);
		if (len % 2)
			continue;
		mail = delivered(*state, fmt("w%zu", len),
			fmt("{\"to\":\"a@example.org\",\"subject\":\"%s\",\"text\":\"x\"}", wide));
		assert_string_equal(of(mail, "subject"), wide);
		base_json_free(mail);
	}
}

static void nothing_can_slip_into_the_headers(void **state)
{
	static const char *const bad[][2] = {
		{"\"to\":\"a@example.org\\r\\nBcc: x@example.org\",\"subject\":\"s\"", "control"},
		{"\"to\":\"a@example.org\",\"subject\":\"s\\nBcc: x@example.org\"", "control"},
		{"\"to\":\"a@example.org\",\"subject\":\"s\\r\"", "control"},
		{"\"to\":\"a@example.org, b@example.org\",\"subject\":\"s\"", "not a mail address"},
		{"\"to\":\"A <a@example.org>, <b@example.org>\",\"subject\":\"s\"", "not a mail address"},
		{"\"to\":\"a b@example.org\",\"subject\":\"s\"", "not a mail address"},
		{"\"to\":\"<a@example.org\",\"subject\":\"s\"", "not a mail address"},
		{"\"to\":\"a@\",\"subject\":\"s\"", "not a mail address"},
		{"\"to\":\"a@example.org\",\"subject\":\"s\",\"from\":\"x@y\\nTo: z@example.org\"",
			"control"},
		{"\"to\":\"a@example.org\",\"subject\":\"s\",\"reply_to\":\"x@y.org\\u0000\"", "control"},
		{"\"to\":\"a@example.org\",\"subject\":\"s\",\"headers\":{\"Bcc\":\"x@example.org\"}",
			"not the caller's"},
		{"\"to\":\"a@example.org\",\"subject\":\"s\",\"headers\":{\"X\":\"a\\nBcc: x\"}", "control"},
		{"\"to\":\"a@example.org\",\"subject\":\"s\",\"headers\":{\"X: y\\nBcc\":\"x\"}",
			"name of a header"},
		{"\"to\":\"a@example.org\",\"subject\":\"s\",\"headers\":{\"Content-Type\":\"x\"}",
			"not the caller's"},
		{"\"to\":\"a@example.org\",\"subject\":\"s\",\"unsubscribe\":\"https://x/>\\r\\nBcc: x\"",
			"unsubscribe"},
		{"\"to\":\"a@example.org\",\"subject\":\"s\",\"unsubscribe\":\"https://x/ y\"",
			"unsubscribe"},
	};
	struct rig_result x;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		send_mail(*state, fmt("bad%zu", i), fmt("{%s,\"text\":\"x\"}", bad[i][0]), &x);
		if (x.outcome == WIRE_DONE)
			fail_msg("taken: %s", bad[i][0]);
		rig_problem(&x, WIRE_FAILED, "invalid", bad[i][1]);
		rig_result_done(&x);
	}
}

static void names_that_look_like_headers_stay_names(void **state)
{
	struct base_json *mail = delivered(*state, "n",
		"{\"to\":\"\\\"Bcc: evil@example.org, \\\\\\\"x\\\\\\\"\\\" "
		"<a@example.org>\",\"subject\":\"=?UTF-8?B?eA==?=\",\"text\":\"x\"}");

	assert_int_equal(base_jv_int(base_jv_get(base_json_root(mail), "to_count"), 0), 1);
	assert_string_equal(of(mail, "subject"), "=?UTF-8?B?eA==?=");
	base_json_free(mail);
}

static void the_same_key_is_delivered_once(void **state)
{
	static const char args[] = "{\"to\":\"a@example.org\",\"subject\":\"s\",\"text\":\"x\"}";
	struct rig *r = *state;
	struct rig_result x;
	char name[128];

	for (int i = 0; i < 3; i++) {
		send_mail(r, "same", args, &x);
		rig_expect(&x, WIRE_DONE);
		assert_string_equal(rig_text(&x, "transport"), "maildir");
		rig_result_done(&x);
	}
	assert_int_equal(count_in(r, "new"), 1);
	assert_int_equal(count_in(r, "tmp"), 0);
	/* a reader has seen it */
	send_mail(r, "same", args, &x);
	snprintf(name, sizeof(name), "%s", rig_text(&x, "file"));
	rig_result_done(&x);
	assert_int_equal(
		rename(fmt("%s/outbox/new/%s", r->files, name), fmt("%s/outbox/cur/%s:2,S", r->files, name)),
		0);
	send_mail(r, "same", args, &x);
	rig_expect(&x, WIRE_DONE);
	rig_result_done(&x);
	assert_int_equal(count_in(r, "new"), 0);
	assert_int_equal(count_in(r, "cur"), 1);
	send_mail(r, "other", args, &x);
	rig_expect(&x, WIRE_DONE);
	rig_result_done(&x);
	assert_int_equal(count_in(r, "new"), 1);
	rig_do(r, &(struct rig_effect){.mode = 1, .action = "mail.send", .key = "same", .args = args}, &x);
	rig_expect(&x, WIRE_DONE);
	rig_result_done(&x);
	rig_do(r, &(struct rig_effect){.mode = 1, .action = "mail.send", .key = "never", .args = args}, &x);
	rig_expect(&x, WIRE_NOT_FOUND);
	rig_result_done(&x);
}

/* Kills aios-connect while mails are under way, again and again; then sends all of them once more. */
static void kills_lose_no_mail_and_double_none(void **state)
{
	struct rig *r = *state;
	struct rig_result x;

	for (int round = 0; round <= 8; round++) {
		for (int i = 0; i < 40; i++)
			rig_send(r, &(struct rig_effect){.action = "mail.send",
					    .key = fmt("m%d", i),
					    .args = "{\"to\":\"a@example.org\",\"subject\":\"s\",\"text\":"
						    "\"x\"}"});
		for (int i = 0; i < (round < 8 ? round * 5 : 40); i++) { /* a few answers, then the end */
			rig_take(r, &x);
			rig_expect(&x, WIRE_DONE);
			rig_result_done(&x);
		}
		if (round < 8)
			rig_kill(r, MAILDIR);
	}
	assert_int_equal(count_in(r, "new"), 40);
}

static void a_maildir_outside_of_files_is_refused(void **state)
{
	static const char *const dirs[] = {
		"files/../../x", "/tmp/x", "outbox", "files/", "files", "files/link/x"};
	struct rig *r = *state;
	struct rig_result x;

	assert_int_equal(symlink("/tmp", fmt("%s/link", r->files)), 0);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		rig_do(r,
			&(struct rig_effect){.action = "mail.send",
				.args = "{\"to\":\"a@example.org\",\"subject\":\"s\",\"text\":\"x\"}",
				.config = fmt("{\"mail\":{\"from\":\"a@example.org\",\"maildir\":\"%s\"}}",
					dirs[i])},
			&x);
		if (x.outcome != WIRE_FAILED)
			fail_msg("taken: %s", dirs[i]);
		rig_result_done(&x);
	}
}

/* --- SMTP --- */

static void smtp_send(
	struct rig *r, const struct standin *s, const char *to, const char *more, struct rig_result *ret)
{
	const struct rig_effect e = {
		.action = "mail.send",
		.key = to,
		.args = fmt("{\"to\":\"%s@example.org\",\"subject\":\"Gr\\u00fc\\u00dfe\",\"text\":"
			    "\"hello\\n.\\n..dots\\n\"}",
			to),
		.config = fmt("{\"mail\":{\"transport\":\"smtp\",\"from\":\"Ada "
			      "<ada@example.org>\",\"smtp\":{\"url\":"
			      "\"smtp://127.0.0.1:%u\",\"tls\":\"none\"%s}}}",
			s->port, more),
		.timeout_ms = strcmp(to, "hang-after") == 0 ? 500 : 20000,
	};

	rig_do(r, &e, ret);
}

static void smtp_failures_mean_what_they_mean(void **state)
{
	static const struct {
		const char *to;
		unsigned outcome;
		const char *code, *part;
		size_t lines; /* taken by the server so far */
	} cases[] = {
		{"rcpt450", WIRE_RETRY, "later", "450", 0},
		{"rcpt550", WIRE_FAILED, "rejected", "550", 0},
		{"drop-rcpt", WIRE_RETRY, "broken", "127.0.0.1", 0},
		{"data451", WIRE_RETRY, "later", "451", 0},
		{"data554", WIRE_FAILED, "rejected", "554", 0},
		{"drop-data", WIRE_UNKNOWN, "no_answer", "may have been delivered", 0},
		{"drop-after", WIRE_UNKNOWN, "no_answer", "may have been delivered", 1},
		{"hang-after", WIRE_UNKNOWN, "timeout", "no answer", 2},
	};
	struct rig *r = *state;
	char log[128];
	const char *argv[] = {"--log", log, NULL};
	struct base_json *mail;
	struct rig_result x;
	struct standin s;

	snprintf(log, sizeof(log), "%s/smtp.log", r->dir);
	standin_start(&s, "smtp_faults.py", argv);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t len, lines = 0;
		char *text;

		smtp_send(r, &s, cases[i].to, "", &x);
		if (x.outcome != cases[i].outcome)
			fail_msg("%s: outcome %u: %s", cases[i].to, x.outcome, rig_text(&x, "message"));
		rig_problem(&x, cases[i].outcome, cases[i].code, cases[i].part);
		rig_result_done(&x);
		text = slurp(log, &len);
		for (size_t k = 0; k < len; k++)
			lines += text[k] == '\n';
		free(text);
		assert_int_equal(lines, cases[i].lines);
	}
	for (int i = 0; i < 2; i++) { /* the second on the same connection */
		smtp_send(r, &s, fmt("ok%d", i), "", &x);
		rig_expect(&x, WIRE_DONE);
		assert_string_equal(rig_text(&x, "transport"), "smtp");
		mail = read_mail(fmt("--log '%s'", log));
		assert_string_equal(of(mail, "text"), "hello\r\n.\r\n..dots\r\n");
		assert_string_equal(of(mail, "subject"), "Grüße");
		assert_string_equal(of(mail, "id"), rig_text(&x, "message_id"));
		base_json_free(mail);
		rig_result_done(&x);
	}
	standin_stop(&s);
	smtp_send(r, &s, "ok", "", &x);
	rig_problem(&x, WIRE_RETRY, "unreachable", "nothing accepts");
	rig_result_done(&x);
}

/* What the server says of a login never brings the password back, plain or as it was sent. */
static void fault_65_secret_smtp_reflects_it(void **state)
{
	static const char password[] = "correct-horse-battery-staple";
	struct rig *r = *state;
	char log[128];
	const char *argv[] = {"--log", log, "--auth", "ada:another", NULL};
	struct base_str sealed = rig_seal(r, r->calls + 1, "mail.send", "127.0.0.1", password);
	struct rig_result x;
	struct standin s;
	const char *text;

	snprintf(log, sizeof(log), "%s/reflect.log", r->dir);
	standin_start(&s, "smtp_faults.py", argv);
	rig_do(r,
		&(struct rig_effect){.action = "mail.send",
			.key = "reflect",
			.secret = sealed,
			.args = "{\"to\":\"a@example.org\",\"subject\":\"s\",\"text\":\"x\"}",
			.config = fmt("{\"mail\":{\"transport\":\"smtp\",\"from\":\"a@example.org\","
				      "\"smtp\":{\"url\":\"smtp://127.0.0.1:%u\",\"user\":\"ada\"}}}",
				s.port)},
		&x);
	free((void *)(uintptr_t)sealed.ptr);
	rig_problem(&x, WIRE_RETRY, "later", "[secret of-the-test]");
	text = rig_text(&x, "message");
	assert_null(strstr(text, "correct-horse"));
	assert_null(
		strstr(text, "Y29ycmVjdC1ob3JzZS")); /* as it stands behind "\0ada\0" and in other places */
	assert_null(strstr(text, "NvcnJlY3QtaG9yc2"));
	assert_null(strstr(text, "jb3JyZWN0LWhvcnNl"));
	rig_result_done(&x);
	standin_stop(&s);
}

static void smtp_asks_for_the_secret_of_its_host(void **state)
{
	struct rig *r = *state;
	char log[128];
	const char *argv[] = {"--log", log, "--auth", "ada:s3cret", NULL};
	struct rig_result x;
	struct standin s;

	snprintf(log, sizeof(log), "%s/auth.log", r->dir);
	standin_start(&s, "smtp_faults.py", argv);
	for (int i = 0; i < 4; i++) {
		static const char *const hosts[] = {
			"127.0.0.1", "127.0.0.1", "other.example.org", "127.0.0.1"};
		static const char *const values[] = {"s3cret", "wrong", "s3cret", "s3cret"};
		uint64_t call = r->calls + 1 + (i == 3); /* the last: released for another call */
		struct base_str sealed = rig_seal(r, call, "mail.send", hosts[i], values[i]);

		rig_do(r,
			&(struct rig_effect){.action = "mail.send",
				.key = fmt("a%d", i),
				.secret = sealed,
				.args = "{\"to\":\"a@example.org\",\"subject\":\"s\",\"text\":\"x\"}",
				.config = fmt("{\"mail\":{\"transport\":\"smtp\",\"from\":\"a@example.org\","
					      "\"smtp\":{\"url\":"
					      "\"smtp://127.0.0.1:%u\",\"user\":\"ada\"}}}",
					s.port)},
			&x);
		free((void *)(uintptr_t)sealed.ptr);
		if (i == 0)
			rig_expect(&x, WIRE_DONE);
		else if (i == 1)
			rig_problem(&x, WIRE_RETRY, "later", "535");
		else if (i == 2)
			rig_problem(&x, WIRE_FAILED, "denied", "not for 127.0.0.1");
		else
			rig_problem(&x, WIRE_FAILED, "denied", "another call");
		rig_result_done(&x);
	}
	smtp_send(r, &s, "nobody", "", &x);
	rig_problem(&x, WIRE_FAILED, "rejected", "530");
	rig_result_done(&x);
	standin_stop(&s);
}

/* A mail server that is not ours, with TLS both ways: a PEM in the configuration makes its certificate
 * trusted. */
static void a_true_mail_server_takes_it_over_tls(void **state)
{
	static const char *const ways[][2] = {{"starttls", "smtp"}, {"tls", "smtps"}};
	struct rig *r = *state;
	const char *peers = getenv("AIOS_PEERS");
	char modules[512], log[128], key[128], cert[128], *pem, ca[8192] = "";
	size_t len;

	snprintf(modules, sizeof(modules), "%s", peers ? peers : "build/deps-npm");
	if (access(fmt("%s/node_modules/smtp-server", modules), F_OK) < 0 ||
		system("command -v openssl >/dev/null") != 0)
		skip();
	snprintf(log, sizeof(log), "%s/peer.log", r->dir);
	snprintf(key, sizeof(key), "%s/key.pem", r->dir);
	snprintf(cert, sizeof(cert), "%s/cert.pem", r->dir);
	assert_int_equal(
		system(fmt("openssl req -x509 -newkey rsa:2048 -nodes -keyout %s -out %s -days 2 -subj /CN=x "
			   "-addext subjectAltName=IP:127.0.0.1 2>/dev/null",
			key, cert)),
		0);
	pem = slurp(cert, &len);
	for (size_t i = 0, at = 0; i < len; i++)
		at += (size_t)(pem[i] == '\n' ? sprintf(ca + at, "\\n") : sprintf(ca + at, "%c", pem[i]));
	free(pem);
	for (size_t i = 0; i < 2; i++) {
		const char *argv[] = {"--modules", modules, "--log", log, "--auth", "ada:s3cret", "--tls",
			ways[i][0], "--key", key, "--cert", cert, NULL};
		struct standin s;

		standin_start(&s, "smtp.mjs", argv);
		for (int trusted = 0; trusted < 2; trusted++) {
			struct base_str sealed =
				rig_seal(r, r->calls + 1, "mail.send", "127.0.0.1", "s3cret");
			struct rig_result x;

			rig_do(r,
				&(struct rig_effect){.action = "mail.send",
					.key = fmt("tls%zu%d", i, trusted),
					.secret = sealed,
					.args = "{\"to\":\"a@example.org\",\"subject\":\"s\",\"markdown\":"
						"\"Hello *you*\"}",
					.config = fmt(
						"{\"mail\":{\"transport\":\"smtp\",\"from\":\"a@example."
						"org\",\"smtp\":{\"url\":"
						"\"%s://"
						"127.0.0.1:%u\",\"user\":\"ada\",\"tls\":\"%s\"%s%s%s}}}",
						ways[i][1], s.port, ways[i][0], trusted ? ",\"ca\":\"" : "",
						trusted ? ca : "", trusted ? "\"" : "")},
				&x);
			free((void *)(uintptr_t)sealed.ptr);
			if (trusted)
				rig_expect(&x, WIRE_DONE);
			else
				rig_problem(&x, WIRE_RETRY, "tls", "trusted");
			rig_result_done(&x);
		}
		base_json_free(read_mail(fmt("--log '%s'", log)));
		standin_stop(&s);
	}
}

/* --- Markdown --- */

static void markdown_renders(void **state)
{
	static const char *const cases[][3] = {
		/* Markdown, HTML, text */
		{"a\nb", "<p>a\nb</p>\n", "a\nb\n"},
		{"## Two ##", "<h2>Two</h2>\n", "Two\n"},
		{"a **b *c* d** e", "<p>a <strong>b <em>c</em> d</strong> e</p>\n", "a b c d e\n"},
		{"snake_case_word 2*3*4", "<p>snake_case_word 2<em>3</em>4</p>\n", "snake_case_word 234\n"},
		{"`a<b`", "<p><code>a&lt;b</code></p>\n", "a<b\n"},
		{"[x](javascript:alert(1))", "<p>x</p>\n", "x\n"},
		{"[x](\"https://a\")", "<p>x</p>\n", "x\n"},
		{"<https://a.org/?q=1&r>",
			"<p><a href=\"https://a.org/?q=1&amp;r\">https://a.org/?q=1&amp;r</a></p>\n",
			"https://a.org/?q=1&r\n"},
		{"see https://a.org/b.", "<p>see <a href=\"https://a.org/b\">https://a.org/b</a>.</p>\n",
			"see https://a.org/b.\n"},
		{"- a\n- b\n  - c", "<ul>\n<li>a</li>\n<li>b\n<ul>\n<li>c</li>\n</ul></li>\n</ul>\n",
			"- a\n- b\n  - c\n"},
		{"3. a\n4. b", "<ol start=\"3\">\n<li>a</li>\n<li>b</li>\n</ol>\n", "3. a\n4. b\n"},
		{"> q\n> r", "<blockquote><p>q\nr</p></blockquote>\n", "> q\n> r\n"},
		{"```\n<x>\n```", "<pre><code>&lt;x&gt;\n</code></pre>\n", "    <x>\n"},
		{"---", "<hr>\n", "----\n"},
		{"a  \nb", "<p>a<br>\nb</p>\n", "a\nb\n"},
		{"\\*a\\*", "<p>*a*</p>\n", "*a*\n"},
		{"![alt](https://a.org/i.png)",
			"<p><img src=\"https://a.org/i.png\" alt=\"alt\" style=\"max-width:100%\"></p>\n",
			"alt (https://a.org/i.png)\n"},
		{"**open", "<p>**open</p>\n", "**open\n"},
		{"<b onclick=\"x\">", "<p>&lt;b onclick=&quot;x&quot;&gt;</p>\n", "<b onclick=\"x\">\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct base_buf html, text;

		base_buf_init(&html, 65536);
		base_buf_init(&text, 65536);
		markdown_html(base_str_of(cases[i][0]), &html);
		markdown_text(base_str_of(cases[i][0]), &text);
		base_buf_char(&html, 0);
		base_buf_char(&text, 0);
		assert_string_equal(html.ptr, cases[i][1]);
		assert_string_equal(text.ptr, cases[i][2]);
		base_buf_done(&html);
		base_buf_done(&text);
	}
}

static void hostile_markdown_ends_soon(void **state)
{
	static const char *const pieces[] = {
		"[", "*a **b ", "> ", "- ", "`", "![](", "<h", "_", "\\", "* * ", "1. "};

	(void)state;
	for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
		struct base_buf md, out;

		base_buf_init(&md, 1 << 20);
		base_buf_init(&out, 64 << 20);
		while (md.len < 200000)
			base_buf_cstr(&md, pieces[i]);
		markdown_html(base_buf_view(&md), &out);
		assert_true(out.len > 0);
		base_buf_done(&md);
		base_buf_done(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(markdown_renders),
		cmocka_unit_test(hostile_markdown_ends_soon),
		cmocka_unit_test_setup_teardown(a_mail_is_read_by_others_as_it_was_meant, setup, teardown),
		cmocka_unit_test_setup_teardown(plain_text_and_html_stand_alone_or_together, setup, teardown),
		cmocka_unit_test_setup_teardown(subjects_of_every_length_survive, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_can_slip_into_the_headers, setup, teardown),
		cmocka_unit_test_setup_teardown(names_that_look_like_headers_stay_names, setup, teardown),
		cmocka_unit_test_setup_teardown(the_same_key_is_delivered_once, setup, teardown),
		cmocka_unit_test_setup_teardown(kills_lose_no_mail_and_double_none, setup, teardown),
		cmocka_unit_test_setup_teardown(a_maildir_outside_of_files_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(smtp_failures_mean_what_they_mean, setup, teardown),
		cmocka_unit_test_setup_teardown(fault_65_secret_smtp_reflects_it, setup, teardown),
		cmocka_unit_test_setup_teardown(smtp_asks_for_the_secret_of_its_host, setup, teardown),
		cmocka_unit_test_setup_teardown(a_true_mail_server_takes_it_over_tls, setup, teardown),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
