#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/hash.h"
#include "cli/cli_int.h"

/* Secrets and the vault that keeps them. What is typed here is sealed to the vault's key before it leaves: neither the door
 * nor aiosd can read it. */

enum { SECRET_MAX = 65536, PASSPHRASE_MIN = 8 };

static const char *const secret_columns[] = {"NAME=name", "HOST=host", "ACTIONS=actions", "SET=created_ms",
	"OLD UNTIL=old_until_ms", "CANARY=canary", NULL};

int cmd_secrets_list(struct cli *c)
{
	struct cli_answer a;
	int r = cli_call(c, "GET", "/v1/secrets", NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		if (base_jv_len(cli_list(a.root, "secrets")) == 0)
			cli_put(c, "no secrets\n");
		else
			cli_table(c, cli_list(a.root, "secrets"), secret_columns);
	}
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_secrets_remove(struct cli *c)
{
	struct cli_answer a;
	int r = cli_call(c, "DELETE", cli_path(c, "/v1/secrets/", c->args[0], ""), NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "removed\n");
	cli_answer_done(&a);
	return CLI_OK;
}

/* --- what is typed --- */

/* One text from stdin, one line end at its end dropped; on a terminal without echo. `whole`: all of stdin, else its first
 * line. */
static int read_hidden(struct cli *c, const char *what, bool whole, char *ret, size_t *ret_len)
{
	struct termios old, quiet;
	bool terminal = isatty(0) && tcgetattr(0, &old) == 0;
	size_t n = 0, max = whole ? SECRET_MAX : 1;
	ssize_t got = 0;

	if (terminal) {
		fprintf(stderr, "%s (not shown): ", what);
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(0, TCSAFLUSH, &quiet);
	}
	while (n < SECRET_MAX && (got = read(0, ret + n, max < SECRET_MAX - n ? max : SECRET_MAX - n)) > 0) {
		n += (size_t)got;
		if ((terminal || !whole) && ret[n - 1] == '\n')
			break;
	}
	if (terminal) {
		tcsetattr(0, TCSAFLUSH, &old);
		fputc('\n', stderr);
	}
	if (n > 0 && ret[n - 1] == '\n')
		n--;
	if (got < 0 || n == 0 || n >= SECRET_MAX)
		return cli_fail(c, n == 0 ? "%s is empty" : "%s is too long", what);
	*ret_len = n;
	return 0;
}

int cli_read_hidden(struct cli *c, const char *what, char *ret, size_t *ret_len)
{
	return read_hidden(c, what, false, ret, ret_len);
}

/* A new passphrase, twice on a terminal: nobody can bring back one that was mistyped. */
static int read_passphrase(struct cli *c, bool new, char *ret, size_t *ret_len)
{
	static char again[SECRET_MAX];
	size_t len = 0;
	int r = read_hidden(c, new ? "New passphrase" : "Passphrase of the vault", false, ret, ret_len);

	if (r == 0 && new &&*ret_len < PASSPHRASE_MIN)
		return cli_fail(c, "a passphrase has at least %d characters", PASSPHRASE_MIN);
	if (r != 0 || !new || !isatty(0))
		return r;
	r = read_hidden(c, "Again", false, again, &len);
	if (r == 0 && (len != *ret_len || memcmp(again, ret, len) != 0))
		r = cli_fail(c, "the two are not the same: nothing was changed");
	sodium_memzero(again, sizeof(again));
	return r;
}

static int vault_key(struct cli *c, uint8_t ret[crypto_box_PUBLICKEYBYTES])
{
	struct cli_answer a;
	struct base_buf key;
	int r = sodium_init() < 0 ? cli_fail(c, "libsodium does not start")
				  : cli_call(c, "GET", "/v1/vault/key", NULL, &a);

	if (r != 0)
		return r;
	base_buf_init(&key, 1024);
	if (base_b64url_get(base_jv_str(base_jv_get(a.root, "public_key")), &key) < 0)
		base_buf_clear(&key);
	if (key.len == crypto_box_PUBLICKEYBYTES)
		memcpy(ret, key.ptr, key.len);
	else
		r = cli_fail(c, "the vault's key cannot be read");
	base_buf_done(&key);
	cli_answer_done(&a);
	return r;
}

int cli_put_sealed(struct cli *c, char *value, size_t len, struct base_jw *w)
{
	uint8_t key[crypto_box_PUBLICKEYBYTES];
	uint8_t *sealed = malloc(len + crypto_box_SEALBYTES);
	struct base_buf text;
	int r = sealed ? vault_key(c, key) : cli_fail(c, "out of memory");

	if (r == 0 && crypto_box_seal(sealed, (const uint8_t *)value, len, key) != 0)
		r = cli_fail(c, "the value cannot be sealed");
	sodium_memzero(value, len);
	if (r == 0) {
		base_buf_init(&text, 4 * SECRET_MAX);
		base_b64_put(&text, (struct base_str){(const char *)sealed, len + crypto_box_SEALBYTES});
		base_jw_mstr(w, "sealed", base_buf_view(&text));
		base_buf_done(&text);
	}
	free(sealed);
	return r;
}

/* Sends a value with the options that it goes with. */
static int send_value(struct cli *c, const char *method, const char *path, char *value, size_t len,
	const char *const (*members)[2], struct cli_answer *ret)
{
	struct base_buf body;
	struct base_jw w;
	int r = 0;

	base_buf_init(&body, 8 * SECRET_MAX);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	for (; members && (*members)[0]; members++)
		if ((*members)[1])
			base_jw_mcstr(&w, (*members)[0], (*members)[1]);
	if (len)
		r = cli_put_sealed(c, value, len, &w);
	base_jw_end_obj(&w);
	if (r == 0)
		r = cli_call(c, method, path, &body, ret);
	base_buf_done(&body);
	return r;
}

/* --- secrets --- */

int cmd_secrets_set(struct cli *c)
{
	static char value[SECRET_MAX];
	const char *const members[][2] = {
		{"host", cli_opt(c, "host")}, {"actions", cli_opt(c, "action")}, {NULL, NULL}};
	struct cli_answer a;
	size_t len = 0;
	int r;

	if (!cli_opt(c, "host"))
		return cli_usage(
			c, "--host says the only host that it may go to, for instance api.anthropic.com");
	r = read_hidden(c, "Value of the secret", true, value, &len);
	if (r == 0)
		r = send_value(
			c, "PUT", cli_path(c, "/v1/secrets/", c->args[0], ""), value, len, members, &a);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "%s is in the vault, for %s\n", c->args[0], cli_opt(c, "host"));
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_secrets_rotate(struct cli *c)
{
	static char value[SECRET_MAX];
	const char *overlap = cli_opt(c, "overlap") ? cli_opt(c, "overlap") : "24h";
	const char *const members[][2] = {{"overlap", overlap}, {"host", cli_opt(c, "host")},
		{"actions", cli_opt(c, "action")}, {NULL, NULL}};
	struct cli_answer a;
	size_t len = 0;
	int r = read_hidden(c, "New value of the secret", true, value, &len);

	if (r == 0)
		r = send_value(c, "POST", cli_path(c, "/v1/secrets/", c->args[0], "/rotate"), value, len,
			members, &a);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "%s has a new value; the old one is tried where it is not taken, for %s\n",
			c->args[0], overlap);
	cli_answer_done(&a);
	return CLI_OK;
}

/* How keys look: what stands before, and how many random letters and digits follow. */
static const struct {
	const char *name, *prefix;
	int more;
} fakes[] = {
	{"anthropic", "sk-ant-api03-", 95},
	{"openai", "sk-proj-", 156},
	{"github", "ghp_", 36},
	{"stripe", "sk_live_", 99},
	{"slack", "xoxb-", 50},
	{"password", "", 24},
};

static int make_fake(struct cli *c, const char *like, char *ret, size_t *ret_len)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	size_t n;

	if (sodium_init() < 0)
		return cli_fail(c, "libsodium does not start");
	for (size_t i = 0; i < sizeof(fakes) / sizeof(fakes[0]); i++) {
		if (strcmp(fakes[i].name, like) != 0)
			continue;
		n = strlen(fakes[i].prefix);
		memcpy(ret, fakes[i].prefix, n);
		for (int k = 0; k < fakes[i].more; k++)
			ret[n++] = letters[randombytes_uniform(sizeof(letters) - 1)];
		ret[n] = 0;
		*ret_len = n;
		return 0;
	}
	return cli_usage(c, "--like is one of anthropic, openai, github, stripe, slack, password");
}

int cmd_secrets_canary(struct cli *c)
{
	char value[256], shown[256];
	struct cli_answer a;
	size_t len = 0;
	int r = make_fake(c, cli_opt(c, "like") ? cli_opt(c, "like") : "openai", value, &len);

	if (r != 0)
		return r;
	memcpy(shown, value, len + 1);
	r = send_value(c, "POST", cli_path(c, "/v1/secrets/", c->args[0], "/canary"), value, len, NULL, &a);
	if (r == 0) {
		if (c->json)
			cli_put(c, "{\"name\":\"%s\",\"value\":\"%s\"}\n", c->args[0], shown);
		else
			cli_put(c, "%s\n", shown);
		cli_flush(c);
		if (!c->json)
			fprintf(stderr, "Put it where only a thief looks: a fact, a file, a note. It opens "
					"nothing; a call that "
					"carries\nit is refused, and everything outgoing is frozen. It is "
					"shown only now.\n");
		cli_answer_done(&a);
	}
	sodium_memzero(shown, sizeof(shown));
	return r;
}

/* --- the vault --- */

static int show_state(struct cli *c, struct cli_answer *a)
{
	if (!cli_print_json(c, a))
		cli_value(c, a->root, 0);
	cli_answer_done(a);
	return CLI_OK;
}

int cmd_vault_status(struct cli *c)
{
	struct cli_answer a;
	int r = cli_call(c, "GET", "/v1/vault", NULL, &a);

	return r != 0 ? r : show_state(c, &a);
}

/* "file", "passphrase", …; empty after a failure, which was told. */
static struct base_str kind_now(struct cli *c)
{
	struct base_str kind = BASE_STR_NONE;
	struct cli_answer a;

	if (cli_call(c, "GET", "/v1/vault", NULL, &a) != 0)
		return kind;
	kind = base_arena_dup(c->arena, base_jv_str(base_jv_get(a.root, "key")));
	cli_answer_done(&a);
	return kind;
}

int cmd_vault_unlock(struct cli *c)
{
	static char value[SECRET_MAX];
	struct base_str kind = kind_now(c);
	struct cli_answer a;
	size_t len = 0;
	int r = kind.len ? 0 : CLI_FAILED;

	if (r == 0 && (base_str_is(kind, "passphrase") || base_str_is(kind, "keyring")))
		r = read_passphrase(c, false, value, &len);
	if (r == 0)
		r = send_value(c, "POST", "/v1/vault/unlock", value, len, NULL, &a);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "the vault is open\n");
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_vault_lock(struct cli *c)
{
	struct cli_answer a;
	int r = send_value(c, "POST", "/v1/vault/lock", NULL, 0, NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "the vault is locked: what needs a secret waits for aios vault unlock\n");
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_vault_rotate(struct cli *c)
{
	struct cli_answer a;
	int r = send_value(c, "POST", "/v1/vault/rekey", NULL, 0, NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "all secrets are encrypted with a new data key\n");
	cli_answer_done(&a);
	return CLI_OK;
}

static int show_public(struct cli *c)
{
	struct cli_answer a;
	int r = cli_call(c, "GET", "/v1/vault", NULL, &a);

	if (r != 0)
		return r;
	if (c->json)
		cli_put(c, "{\"signing_key\":\"%.*s\"}\n",
			BASE_STR_ARG(base_jv_str(base_jv_get(a.root, "signing_key"))));
	else
		cli_put(c, "%.*s\n", BASE_STR_ARG(base_jv_str(base_jv_get(a.root, "signing_key"))));
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_vault_key(struct cli *c)
{
	static char value[SECRET_MAX];
	const char *kind = c->args[0];
	const char *const members[][2] = {{"kind", kind}, {"strength", cli_opt(c, "strength")}, {NULL, NULL}};
	bool passphrase = strcmp(kind, "passphrase") == 0 || strcmp(kind, "keyring") == 0;
	struct cli_answer a;
	size_t len = 0;
	int r = 0;

	if (strcmp(kind, "public") == 0)
		return show_public(c);
	if (!passphrase && strcmp(kind, "file") != 0 && strcmp(kind, "credential") != 0)
		return cli_usage(c,
			"the key comes from one of: passphrase, file, keyring, credential; public shows the "
			"signing key");
	if (passphrase)
		r = read_passphrase(c, true, value, &len);
	if (r == 0)
		r = send_value(c, "POST", "/v1/vault/rekey", value, len, members, &a);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "%s\n",
			passphrase ? "the vault opens with this passphrase; without it nothing brings the "
				     "secrets back"
				   : "the vault has another key");
	cli_answer_done(&a);
	return CLI_OK;
}
