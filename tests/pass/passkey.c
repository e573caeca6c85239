/* An authenticator for the tests of other languages: one ceremony, as JSON on stdout.
 *
 * usage: passkey make ALG FILE
 *        passkey create|get FILE RP_ID ORIGIN CHALLENGE [COUNTER [FLAGS [TYPE]]]    CHALLENGE is base64url */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "authenticator.h"
#include "base/hash.h"

static void member(const char *name, struct base_str data, bool last)
{
	struct base_buf text;

	base_buf_init(&text, 1 << 16);
	base_b64url_put(&text, data);
	printf("\"%s\":\"%.*s\"%s", name, (int)text.len, text.ptr, last ? "}\n" : ",");
	base_buf_done(&text);
}

int main(int argc, char **argv)
{
	struct base_buf challenge, client_data, data, signature;
	struct authenticator a = {0};
	struct act act = {0};
	uint8_t id[32];

	if (argc == 4 && strcmp(argv[1], "make") == 0) {
		authenticator_make(&a, atoi(argv[2]));
		return authenticator_save(&a, argv[3]) ? 0 : 1;
	}
	base_buf_init(&challenge, 1 << 16);
	base_buf_init(&client_data, 1 << 16);
	base_buf_init(&data, 1 << 16);
	base_buf_init(&signature, 1 << 16);
	if (argc < 6 || !authenticator_load(&a, argv[2]) ||
		base_b64url_get(base_str_of(argv[5]), &challenge) < 0)
		return 2;
	act.create = strcmp(argv[1], "create") == 0;
	act.rp_id = argv[3];
	act.origin = argv[4];
	act.challenge = base_buf_view(&challenge);
	act.counter = argc > 6 ? (uint32_t)strtoul(argv[6], NULL, 10) : 0;
	act.flags = argc > 7 ? (uint8_t)atoi(argv[7]) : FLAG_UP | FLAG_UV;
	act.type = argc > 8 ? argv[8] : act.create ? "webauthn.create" : "webauthn.get";
	authenticator_client_data(&act, &client_data);
	authenticator_data(&a, &act, &data);
	authenticator_sign(&a, base_buf_view(&data), base_buf_view(&client_data), &signature);
	authenticator_id(&a, id);
	printf("{");
	member("id", (struct base_str){(const char *)id, sizeof(id)}, false);
	member("client_data", base_buf_view(&client_data), false);
	member("authenticator_data", base_buf_view(&data), false);
	member("signature", base_buf_view(&signature), true);
	authenticator_done(&a);
	base_buf_done(&challenge);
	base_buf_done(&client_data);
	base_buf_done(&data);
	base_buf_done(&signature);
	return 0;
}
