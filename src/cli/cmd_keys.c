#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "base/money.h"
#include "cli/cli_int.h"
#include "token/token.h"

/* keys: add, list, rotate, revoke; and attenuate, which asks nobody. */

static const char *const key_columns[] = {"KEY=id,name", "KIND=kind", "MAY=grants", "SCOPE=scope",
	"EXPIRES=expires_ms", "USED=used_ms", "OLD UNTIL=old_until_ms", "REVOKED=revoked", NULL};

int cmd_keys_list(struct cli *c)
{
	struct cli_answer a;
	int r = cli_call(c, "GET", "/v1/keys", NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		if (base_jv_len(cli_list(a.root, "keys")) == 0)
			cli_put(c, "no keys\n");
		else
			cli_table(c, cli_list(a.root, "keys"), key_columns);
	}
	cli_answer_done(&a);
	return CLI_OK;
}

/* "name":[…] of a comma-separated option, if it is given. */
static void put_list(struct cli *c, struct base_jw *w, const char *option, const char *name)
{
	struct base_str item, rest = base_str_of(cli_opt(c, option));

	if (!cli_opt(c, option))
		return;
	base_jw_key(w, name);
	base_jw_arr(w);
	while (rest.len > 0) {
		base_str_cut(rest, ',', &item, &rest);
		if (item.len > 0)
			base_jw_str(w, item);
	}
	base_jw_end_arr(w);
}

/* "scope":{…} of --flow, --memory and --own, if any of them is given. */
static void put_scope(struct cli *c, struct base_jw *w)
{
	if (!cli_opt(c, "flow") && !cli_opt(c, "memory") && !cli_flag(c, "own"))
		return;
	base_jw_key(w, "scope");
	base_jw_obj(w);
	put_list(c, w, "flow", "flows");
	put_list(c, w, "memory", "memory");
	if (cli_flag(c, "own"))
		base_jw_mbool(w, "own", true);
	base_jw_end_obj(w);
}

/* Posts and prints the key that comes back. */
static int print_new(struct cli *c, const char *path, const struct base_buf *body)
{
	struct cli_answer a;
	int r = cli_call(c, "POST", path, body, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		cli_text(c, base_jv_str(base_jv_get(a.root, "key")));
		cli_put(c, "\n");
		cli_flush(c);
		fprintf(stderr, "This is the only time that it is shown.\n");
	}
	if (a.text.ptr)
		sodium_memzero(a.text.ptr, a.text.size);
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_keys_add(struct cli *c)
{
	struct base_buf body;
	struct base_jw w;
	int r;

	if (!cli_opt(c, "grant") || !*cli_opt(c, "grant"))
		return cli_usage(c, "--grant says what the key may do, for instance api.run_start,api.run");
	base_buf_init(&body, 1 << 16);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "name", c->args[0]);
	put_list(c, &w, "grant", "grants");
	if (cli_opt(c, "kind"))
		base_jw_mcstr(&w, "kind", cli_opt(c, "kind"));
	if (cli_opt(c, "expires"))
		base_jw_mcstr(&w, "expires", cli_opt(c, "expires"));
	put_scope(c, &w);
	base_jw_end_obj(&w);
	r = print_new(c, "/v1/keys", &body);
	base_buf_done(&body);
	return r;
}

int cmd_keys_rotate(struct cli *c)
{
	struct base_buf body;
	struct base_jw w;
	int r;

	base_buf_init(&body, 1 << 10);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "overlap", cli_opt(c, "overlap") ? cli_opt(c, "overlap") : "1d");
	base_jw_end_obj(&w);
	r = print_new(c, cli_path(c, "/v1/keys/", c->args[0], "/rotate"), &body);
	base_buf_done(&body);
	return r;
}

int cmd_keys_revoke(struct cli *c)
{
	return cli_act(c, cli_path(c, "/v1/keys/", c->args[0], "/revoke"), "revoked");
}

/* --- attenuate --- */

/* The key: of AIOS_KEY, else the first line of stdin. */
static int read_key(struct cli *c, struct token *ret)
{
	char line[TOKEN_TEXT_MAX + 2];
	const char *text = getenv("AIOS_KEY");
	struct base_err err;
	int r;

	if (!text || !*text) {
		text = fgets(line, sizeof(line), stdin);
		if (text)
			line[strcspn(line, "\r\n")] = '\0';
	}
	if (!text || !*text)
		return cli_usage(c, "give the key on stdin, or in AIOS_KEY");
	r = token_read(base_str_of(text), ret, &err);
	sodium_memzero(line, sizeof(line));
	return r < 0 ? cli_fail(c, "%s", err.text) : CLI_OK;
}

static int put_caveats(struct cli *c, struct base_buf *b)
{
	struct base_jw w = base_jw_of(b);
	struct timeval now;
	struct base_err err;
	int64_t ms;

	base_jw_obj(&w);
	put_list(c, &w, "grant", "grants");
	if (cli_opt(c, "expires")) {
		if (base_duration_parse(base_str_of(cli_opt(c, "expires")), &ms, &err) < 0)
			return cli_usage(c, "--expires: %s", err.text);
		gettimeofday(&now, NULL);
		base_jw_mint(&w, "expires_ms", (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000 + ms);
	}
	put_scope(c, &w);
	base_jw_end_obj(&w);
	if (b->len == 2)
		return cli_usage(c, "say what it may no more: --grant, --expires, --flow, --memory or --own");
	return CLI_OK;
}

static int narrow(struct cli *c, const struct token *t, struct base_str caveats)
{
	uint8_t next[TOKEN_SEED];
	struct base_json *doc;
	struct base_buf text;
	struct base_err err;
	struct base_jw w;
	int r;

	if (base_json_parse(caveats, &doc, &err) < 0)
		return cli_fail(c, "%s", err.text);
	randombytes_buf(next, sizeof(next));
	base_buf_init(&text, 2 * TOKEN_TEXT_MAX);
	r = token_attenuate(t, base_json_root(doc), next, &text, &err);
	sodium_memzero(next, sizeof(next));
	base_json_free(doc);
	if (r < 0) {
		r = cli_fail(c, "%s", err.text);
	} else if (c->json) {
		w = base_jw_of(&c->out);
		base_jw_obj(&w);
		base_jw_mstr(&w, "key", base_buf_view(&text));
		base_jw_mraw(&w, "caveats", caveats);
		base_jw_end_obj(&w);
		cli_put(c, "\n");
	} else {
		cli_text(c, base_buf_view(&text));
		cli_put(c, "\n");
	}
	if (text.ptr)
		sodium_memzero(text.ptr, text.size);
	base_buf_done(&text);
	return r;
}

int cmd_keys_attenuate(struct cli *c)
{
	struct base_buf caveats;
	struct token t = {0};
	int r = sodium_init() < 0 ? cli_fail(c, "libsodium does not start") : CLI_OK;

	base_buf_init(&caveats, 1 << 16);
	r = r ? r : put_caveats(c, &caveats);
	r = r ? r : read_key(c, &t);
	r = r ? r : narrow(c, &t, base_buf_view(&caveats));
	token_done(&t);
	base_buf_done(&caveats);
	return r;
}
