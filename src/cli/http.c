#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli_int.h"

/* The client of the local door. */

/* A socket's path is short; a deep workspace is reached through its opened folder. */
static const char *socket_path(struct cli *c)
{
	const char *path = cli_in_workspace(c, ".aios/run/door.sock");
	struct base_str via;
	int fd;

	if (strlen(path) < sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return path;
	fd = open(cli_in_workspace(c, ".aios/run"), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return path;
	via = base_arena_printf(c->arena, "/proc/self/fd/%d/door.sock", fd); /* open until the process ends */
	return via.ptr ? via.ptr : path;
}

static CURL *handle(struct cli *c)
{
	if (!c->curl) {
		curl_global_init(CURL_GLOBAL_DEFAULT);
		c->curl = curl_easy_init();
	}
	if (c->curl)
		curl_easy_reset(c->curl);
	return c->curl;
}

void cli_http_done(struct cli *c)
{
	if (c->curl) {
		curl_easy_cleanup(c->curl);
		curl_global_cleanup();
	}
	c->curl = NULL;
}

static size_t collect(char *data, size_t size, size_t count, void *userdata)
{
	struct base_buf *b = userdata;

	base_buf_put(b, data, size * count);
	return base_buf_failed(b) ? 0 : size * count;
}

static void prepare(struct cli *c, CURL *h, const char *method, const char *path)
{
	struct base_str url = base_arena_printf(c->arena, "http://localhost%s", path);

	curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, socket_path(c));
	curl_easy_setopt(h, CURLOPT_URL, url.ptr);
	curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_PROXY, "");
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 10L);
}

static int not_running(struct cli *c)
{
	cli_flush(c);
	fprintf(stderr, "aios: aiosd does not run in %s; start it with aios up\n", c->workspace);
	return CLI_NOT_RUNNING;
}

static int transfer_failed(struct cli *c, CURLcode code)
{
	if (code == CURLE_COULDNT_CONNECT)
		return not_running(c);
	return cli_fail(
		c, "the door does not answer: %s; look at .aios/run/aiosd.log", curl_easy_strerror(code));
}

static CURLcode perform(struct cli *c, const char *method, const char *path, const struct base_buf *body,
	const char *key, struct cli_answer *a)
{
	CURL *h = handle(c);
	struct curl_slist *headers = NULL;
	CURLcode code;
	long status = 0;

	if (!h)
		return CURLE_OUT_OF_MEMORY;
	prepare(c, h, method, path);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, collect);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, &a->text);
	if (body) {
		headers = curl_slist_append(headers, "Content-Type: application/json");
		curl_easy_setopt(h, CURLOPT_POSTFIELDS, body->len ? body->ptr : "");
		curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->len);
	}
	headers = curl_slist_append(headers, "Expect:");
	if (key)
		headers = curl_slist_append(
			headers, base_arena_printf(c->arena, "Idempotency-Key: %s", key).ptr);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
	code = curl_easy_perform(h);
	curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	a->status = (unsigned)status;
	return code;
}

static void parse(struct cli_answer *a)
{
	a->root = (struct base_jv){0};
	if (a->text.len > 0 && base_json_parse(base_buf_view(&a->text), &a->doc, NULL) == 0)
		a->root = base_json_root(a->doc);
	else
		a->doc = NULL;
}

/* "FILE:LINE:COLUMN: " where a problem names a place. */
static void put_place(struct base_jv p, struct base_buf *b)
{
	struct base_str file = base_jv_str(base_jv_get(p, "file"));
	int64_t line = base_jv_int(base_jv_get(p, "line"), 0),
		column = base_jv_int(base_jv_get(p, "column"), 0);

	if (file.len == 0)
		return;
	base_buf_str(b, file);
	if (line > 0)
		base_buf_printf(b, ":%lld", (long long)line);
	if (line > 0 && column > 0)
		base_buf_printf(b, ":%lld", (long long)column);
	base_buf_cstr(b, ": ");
}

static void put_problem(struct base_jv p, struct base_buf *b)
{
	struct base_str text = base_jv_str(base_jv_get(p, "detail"));

	if (text.len == 0)
		text = base_jv_str(base_jv_get(p, "message"));
	if (text.len == 0)
		text = base_jv_str(base_jv_get(p, "title"));
	/* Some details name the place themselves. */
	if (!base_str_starts(text, base_jv_str(base_jv_get(p, "file"))))
		put_place(p, b);
	base_buf_str(b, text);
}

static int say_problem(struct cli *c, struct cli_answer *a)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv p;
	struct base_buf b;

	if (c->json && a->doc)
		cli_print_json(c, a);
	base_buf_init(&b, 1 << 16);
	put_problem(a->root, &b);
	if (b.len == 0)
		base_buf_printf(&b, "the door answered with status %u", a->status);
	cli_fail(c, "%.*s", BASE_STR_ARG(b));
	while (base_jv_next(base_jv_get(a->root, "problems"), &it, &key, &p)) {
		base_buf_clear(&b);
		put_problem(p, &b);
		cli_fail(c, "%.*s", BASE_STR_ARG(b));
	}
	base_buf_done(&b);
	return CLI_FAILED;
}

int cli_call_key(struct cli *c, const char *method, const char *path, const struct base_buf *body,
	const char *key, struct cli_answer *ret)
{
	struct cli_answer a = {0};
	CURLcode code;
	int r = 0;

	base_buf_init(&a.text, CLI_BODY_MAX);
	if (body && base_buf_failed(body))
		return cli_fail(c, "this is too large to send");
	code = perform(c, method, path, body, key, &a);
	if (code != CURLE_OK) {
		r = transfer_failed(c, code);
	} else {
		parse(&a);
		if (a.status < 200 || a.status > 299)
			r = say_problem(c, &a);
	}
	if (r != 0)
		cli_answer_done(&a);
	else
		*ret = a;
	return r;
}

int cli_call(struct cli *c, const char *method, const char *path, const struct base_buf *body,
	struct cli_answer *ret)
{
	return cli_call_key(c, method, path, body, NULL, ret);
}

bool cli_answers(struct cli *c)
{
	struct cli_answer a = {0};
	bool ok;

	base_buf_init(&a.text, CLI_BODY_MAX);
	ok = perform(c, "GET", "/v1/health", NULL, NULL, &a) == CURLE_OK && a.status == 200;
	cli_answer_done(&a);
	return ok;
}

void cli_answer_done(struct cli_answer *a)
{
	base_json_free(a->doc);
	base_buf_done(&a->text);
	a->doc = NULL;
	a->root = (struct base_jv){0};
}

bool cli_print_json(struct cli *c, const struct cli_answer *a)
{
	if (!c->json)
		return false;
	base_buf_str(&c->out, base_buf_view(&a->text));
	if (a->text.len == 0 || a->text.ptr[a->text.len - 1] != '\n')
		base_buf_char(&c->out, '\n');
	cli_flush(c);
	return true;
}

/* --- streams --- */

struct stream {
	struct cli *c;
	void (*fn)(struct cli *c, struct base_str data);
	struct base_buf rest; /* of a line that is not complete */
	struct base_buf text; /* of an answer that is no stream */
	CURL *curl;
};

static size_t take_lines(char *data, size_t size, size_t count, void *userdata)
{
	struct stream *s = userdata;
	struct base_str all, line, value;
	long status = 0;
	size_t used = 0;

	curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200)
		return collect(data, size, count, &s->text);
	base_buf_put(&s->rest, data, size * count);
	all = base_buf_view(&s->rest);
	while (base_str_cut(base_str_sub(all, used, all.len), '\n', &line, &value)) {
		used += line.len + 1;
		if (base_str_starts(line, BASE_STR("data:")))
			s->fn(s->c, base_str_sub(line, line.len > 5 && line.ptr[5] == ' ' ? 6 : 5, line.len));
	}
	base_buf_consume(&s->rest, used);
	return base_buf_failed(&s->rest) ? 0 : size * count;
}

int cli_stream(struct cli *c, const char *path, void (*fn)(struct cli *c, struct base_str data))
{
	struct stream s = {.c = c, .fn = fn, .curl = handle(c)};
	struct curl_slist *headers = NULL;
	struct cli_answer a = {0};
	long status = 0;
	CURLcode code;
	int r = 0;

	if (!s.curl)
		return cli_fail(c, "out of memory");
	base_buf_init(&s.rest, CLI_BODY_MAX);
	base_buf_init(&s.text, CLI_BODY_MAX);
	prepare(c, s.curl, "GET", path);
	headers = curl_slist_append(headers, "Accept: text/event-stream");
	curl_easy_setopt(s.curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(s.curl, CURLOPT_WRITEFUNCTION, take_lines);
	curl_easy_setopt(s.curl, CURLOPT_WRITEDATA, &s);
	code = curl_easy_perform(s.curl);
	curl_easy_getinfo(s.curl, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	if (code != CURLE_OK) {
		r = transfer_failed(c, code);
	} else if (status != 200) {
		a.text = s.text;
		a.status = (unsigned)status;
		parse(&a);
		r = say_problem(c, &a);
		base_json_free(a.doc);
	}
	base_buf_done(&s.rest);
	base_buf_done(&s.text);
	return r;
}

/* --- paths
 * ----------------------------------------------------------------------------------------------------------
 */

static void encode(struct base_buf *b, const char *text, bool slashes)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *text; text++) {
		unsigned char ch = (unsigned char)*text;

		if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
			strchr("-_.~", ch) || (slashes && ch == '/')) {
			base_buf_char(b, (char)ch);
		} else {
			base_buf_char(b, '%');
			base_buf_char(b, hex[ch >> 4]);
			base_buf_char(b, hex[ch & 15]);
		}
	}
}

void cli_encode(struct base_buf *b, const char *text)
{
	encode(b, text, false);
}

static const char *join(
	struct cli *c, const char *before, const char *middle, const char *after, bool slashes)
{
	struct base_buf b;
	struct base_str path;

	base_buf_init(&b, 1 << 20);
	base_buf_cstr(&b, before);
	encode(&b, middle, slashes);
	base_buf_cstr(&b, after);
	path = base_arena_dup(c->arena, base_buf_view(&b));
	base_buf_done(&b);
	return path.ptr ? path.ptr : "/";
}

const char *cli_path(struct cli *c, const char *before, const char *segment, const char *after)
{
	return join(c, before, segment, after, false);
}

const char *cli_path_rest(struct cli *c, const char *before, const char *rest, const char *after)
{
	return join(c, before, rest, after, true);
}

const char *cli_query(struct cli *c, const char *path, const char *name, const char *value)
{
	struct base_str start;

	if (!value)
		return path;
	start = base_arena_printf(c->arena, "%s%c%s=", path, strchr(path, '?') ? '&' : '?', name);
	return start.ptr ? join(c, start.ptr, value, "", false) : path;
}

struct base_jv cli_list(struct base_jv root, const char *name)
{
	struct base_jv v = root;
	int depth;

	for (depth = 0; depth < 3 && base_jv_kind(v) == BASE_JSON_OBJ; depth++) {
		struct base_jv items = base_jv_get(v, "items");

		v = base_jv_kind(items) == BASE_JSON_NONE ? base_jv_get(v, name) : items;
	}
	return v;
}

int cli_decide(struct cli *c, const char *path, const char *flag, struct cli_answer *ret)
{
	struct base_buf body;
	struct base_jw w;
	int r;

	base_buf_init(&body, 1 << 16);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	if (flag)
		base_jw_mbool(&w, flag, true);
	if (cli_opt(c, "reason"))
		base_jw_mcstr(&w, "reason", cli_opt(c, "reason"));
	base_jw_end_obj(&w);
	r = cli_call(c, "POST", path, &body, ret);
	base_buf_done(&body);
	return r;
}

int cli_act(struct cli *c, const char *path, const char *done)
{
	struct cli_answer a;
	int r = cli_decide(c, path, NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "%s\n", done);
	cli_answer_done(&a);
	return CLI_OK;
}
