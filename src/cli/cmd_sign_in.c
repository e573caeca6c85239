#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli_int.h"
#include "wire/sign_in.h"

/* How the operator signs in to the console: passkeys (made in the browser), a password, codes; and who is signed in. */

static const char *const session_columns[] = {"SESSION=id", "OPENED=opened_ms", "BY=credential,how",
	"FROM=address", "BROWSER=agent", "ENDS=until_ms", NULL};
static const char *const credential_columns[] = {
	"WHAT=id", "ADDED=added_ms", "USED=used_ms", "REFUSED=refused_ms", NULL};
static const char *const failure_columns[] = {
	"FAILED=how", "FROM=address", ">TIMES=count", "LAST=last_ms", NULL};

static void put_list(struct cli *c, struct base_jv list, const char *const *columns, const char *none)
{
	if (base_jv_len(list))
		cli_table(c, list, columns);
	else if (none)
		cli_put(c, "%s\n", none);
}

int cmd_sign_in(struct cli *c)
{
	struct cli_answer a;
	int r = cli_call(c, "GET", "/v1/sign-in", NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		put_list(c, base_jv_get(a.root, "credentials"), credential_columns,
			"no passkey, no password: aios open makes links");
		cli_put(c, "\n");
		put_list(c, base_jv_get(a.root, "sessions"), session_columns, "nobody is signed in");
		if (base_jv_len(base_jv_get(a.root, "failures")))
			cli_put(c, "\n");
		put_list(c, base_jv_get(a.root, "failures"), failure_columns, NULL);
	}
	cli_answer_done(&a);
	return CLI_OK;
}

static int close_session(struct cli *c, const char *id)
{
	struct cli_answer a;
	struct base_buf body;
	int r;

	base_buf_init(&body, 16);
	base_buf_cstr(&body, "{}");
	r = cli_call(c, "POST", cli_path(c, "/v1/sign-in/sessions/", id, "/revoke"), &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "closed: %lld\n", (long long)base_jv_int(base_jv_get(a.root, "closed"), 0));
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_sign_in_sessions(struct cli *c)
{
	struct cli_answer a;
	int r;

	if (c->arg_count == 2 && strcmp(c->args[0], "revoke") == 0)
		return close_session(c, c->args[1]);
	if (c->arg_count)
		return cli_usage(c, "say: aios sign-in sessions revoke SESSION, or all");
	r = cli_call(c, "GET", "/v1/sign-in", NULL, &a);
	if (r != 0)
		return r;
	if (c->json) {
		base_jv_write(base_jv_get(a.root, "sessions"), &c->out);
		base_buf_char(&c->out, '\n');
	} else {
		put_list(c, base_jv_get(a.root, "sessions"), session_columns, "nobody is signed in");
	}
	cli_answer_done(&a);
	return CLI_OK;
}

static int remove_credential(struct cli *c, const char *id)
{
	struct cli_answer a;
	int r = cli_call(c, "DELETE", cli_path_rest(c, "/v1/sign-in/credentials/", id, ""), NULL, &a);

	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "removed; the sessions that it opened are closed\n");
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_sign_in_passkeys(struct cli *c)
{
	const char *name = cli_opt(c, "remove");
	struct cli_answer a;
	int r;

	if (name)
		return remove_credential(
			c, strncmp(name, "passkey/", 8) == 0 ? name : cli_path_rest(c, "passkey/", name, ""));
	r = cli_call(c, "GET", "/v1/sign-in", NULL, &a);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a)) {
		put_list(
			c, base_jv_get(a.root, "credentials"), credential_columns, "no passkey, no password");
		cli_put(c, "a passkey is made in the browser: aios open, then Security\n");
	}
	cli_answer_done(&a);
	return CLI_OK;
}

/* --- secrets, sealed here --- */

static int put_secret(
	struct cli *c, const char *path, char *value, size_t len, const char *code, const char *done)
{
	struct cli_answer a;
	struct base_buf body;
	struct base_jw w;
	int r;

	base_buf_init(&body, 1 << 16);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	r = cli_put_sealed(c, value, len, &w);
	if (code)
		base_jw_mcstr(&w, "code", code);
	base_jw_end_obj(&w);
	if (r == 0)
		r = cli_call(c, "PUT", path, &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "%s\n", done);
	cli_answer_done(&a);
	return CLI_OK;
}

static int read_password(struct cli *c, char *ret, size_t *ret_len)
{
	char *again;
	size_t len = 0;
	int r = cli_read_hidden(c, "New password", ret, ret_len);

	if (r != 0)
		return r;
	if (*ret_len < WIRE_PASSWORD_MIN || *ret_len > WIRE_PASSWORD_MAX)
		return cli_fail(c, "a password has %d to %d characters: several words are easy to keep",
			WIRE_PASSWORD_MIN, WIRE_PASSWORD_MAX);
	if (!isatty(0))
		return 0;
	again = calloc(1, CLI_HIDDEN_MAX);
	r = again ? cli_read_hidden(c, "Again", again, &len) : cli_fail(c, "out of memory");
	if (r == 0 && (len != *ret_len || sodium_memcmp(again, ret, len) != 0))
		r = cli_fail(c, "the two are not the same: nothing was changed");
	if (again)
		sodium_memzero(again, CLI_HIDDEN_MAX);
	free(again);
	return r;
}

int cmd_sign_in_password(struct cli *c)
{
	char hash[crypto_pwhash_STRBYTES] = {0}, *password;
	size_t len = 0;
	int r;

	if (cli_flag(c, "remove"))
		return remove_credential(c, "password");
	password = calloc(1, CLI_HIDDEN_MAX);
	r = password ? read_password(c, password, &len) : cli_fail(c, "out of memory");
	if (r == 0 && (sodium_init() < 0 ||
			      crypto_pwhash_str(hash, password, len, WIRE_PASS_OPS, WIRE_PASS_MEM) != 0 ||
			      strncmp(hash, WIRE_PASS_PREFIX, strlen(WIRE_PASS_PREFIX)) != 0))
		r = cli_fail(
			c, "the password cannot be hashed: %d MiB of memory are needed", WIRE_PASS_MEM >> 20);
	if (password)
		sodium_memzero(password, CLI_HIDDEN_MAX);
	free(password);
	return r ? r
		 : put_secret(c, "/v1/sign-in/password", hash, strlen(hash), NULL,
			   "the password is set; where aios.yaml says sign_in: {password: true}, it signs "
			   "in");
}

/* --- TOTP --- */

static void base32(const uint8_t *data, size_t len, char *ret)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
	uint32_t bits = 0;
	unsigned have = 0;

	for (size_t i = 0; i < len; i++) {
		bits = (bits << 8 | data[i]) & 0xffff;
		for (have += 8; have >= 5; have -= 5)
			*ret++ = digits[bits >> (have - 5) & 31];
	}
	*ret = '\0';
}

/* Twenty bytes for SHA-1 make 32 characters, thirty-five for SHA-256 make 56: no padding. */
int cmd_sign_in_totp(struct cli *c)
{
	bool sha256 = cli_flag(c, "sha256");
	uint8_t raw[35];
	char secret[64], value[80], code[16] = "";
	int r;

	if (cli_flag(c, "remove"))
		return remove_credential(c, "totp");
	if (sodium_init() < 0)
		return cli_fail(c, "libsodium does not start");
	randombytes_buf(raw, sizeof(raw));
	base32(raw, sha256 ? 35 : 20, secret);
	snprintf(value, sizeof(value), "%s:%s", sha256 ? "sha256" : "sha1", secret);
	fprintf(stderr,
		"Give this to the app on your phone, by hand or as a QR code of the line; it is shown "
		"once:\n\n"
		"  %s\n"
		"  otpauth://totp/aios:operator?secret=%s&issuer=aios&algorithm=%s&digits=%d&period=%d\n\n"
		"The code that it shows now: ",
		secret, secret, sha256 ? "SHA256" : "SHA1", WIRE_TOTP_DIGITS, WIRE_TOTP_STEP);
	fflush(stderr);
	if (!fgets(code, sizeof(code), stdin))
		code[0] = '\0';
	code[strcspn(code, "\r\n")] = '\0';
	r = code[0] ? put_secret(c, "/v1/sign-in/totp", value, strlen(value), code,
			      "codes are asked for from now on")
		    : cli_fail(c, "without a code nothing was changed");
	sodium_memzero(raw, sizeof(raw));
	sodium_memzero(secret, sizeof(secret));
	sodium_memzero(value, sizeof(value));
	return r;
}
