/* Keys and chains as texts: whatever reads is verified, and narrowing it gives a text that reads again and allows no
 * more. First byte 't': the text; 'j': the JSON inside a chain, with a checksum that fits; else caveats that narrow a key
 * of our own. */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/check.h"
#include "fuzz.h"
#include "token/token.h"

enum { TEXT_CAP = 64 << 10 };

static const uint8_t tag[TOKEN_TAG] = {1, 2, 3, 4, 5, 6, 7, 8};

/* Reads; what reads can be narrowed until it is full, and keeps its root, its workspace and its caveats. */
static void read_text(struct base_str text)
{
	static const uint8_t next[TOKEN_SEED] = {9};
	struct token t, again;
	struct base_json *doc;
	struct base_buf b;
	struct base_err err;
	int r;

	if (token_read(text, &t, &err) < 0) {
		BASE_CHECK(err.text[0] != '\0');
		return;
	}
	BASE_CHECK(t.blocks <= TOKEN_BLOCKS_MAX && (t.blocks > 0) == (t.caveats.len > 0));
	base_buf_init(&b, TEXT_CAP);
	BASE_CHECK(base_json_parse(BASE_STR("{\"grants\":[\"x\"]}"), &doc, &err) == 0);
	r = token_attenuate(&t, base_json_root(doc), next, &b, &err);
	BASE_CHECK(r == 0 || r == -E2BIG);
	if (r == 0) {
		BASE_CHECK(token_read(base_buf_view(&b), &again, &err) == 0);
		BASE_CHECK(again.blocks == t.blocks + 1 && memcmp(again.root, t.root, 32) == 0);
		BASE_CHECK(memcmp(again.tag, t.tag, TOKEN_TAG) == 0 && again.caveats.len > t.caveats.len);
		token_done(&again);
	}
	base_json_free(doc);
	base_buf_done(&b);
	token_done(&t);
}

static void inside(struct base_str json)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	uint32_t crc = UINT32_MAX;
	char check[6];
	struct base_buf b;

	base_buf_init(&b, TEXT_CAP);
	base_buf_cstr(&b, "aiosc_");
	base_b64url_put(&b, json);
	for (size_t i = 0; i < b.len; i++) {
		crc ^= (uint8_t)b.ptr[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
	}
	crc = ~crc;
	for (int i = 5; i >= 0; i--, crc /= 62)
		check[i] = digits[crc % 62];
	base_buf_put(&b, check, sizeof(check));
	if (!base_buf_failed(&b))
		read_text(base_buf_view(&b));
	base_buf_done(&b);
}

static void caveats(struct base_str json)
{
	static const uint8_t seed[TOKEN_SEED] = {3}, next[TOKEN_SEED] = {4};
	struct base_buf plain, chain;
	struct base_json *doc;
	struct base_err err;
	struct token t;

	if (base_json_parse(json, &doc, &err) < 0)
		return;
	base_buf_init(&plain, TEXT_CAP);
	base_buf_init(&chain, TEXT_CAP);
	token_put(seed, tag, &plain);
	BASE_CHECK(token_read(base_buf_view(&plain), &t, &err) == 0);
	if (token_attenuate(&t, base_json_root(doc), next, &chain, &err) == 0)
		read_text(base_buf_view(&chain));
	token_done(&t);
	base_json_free(doc);
	base_buf_done(&plain);
	base_buf_done(&chain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_str in = {(const char *)data + 1, size ? size - 1 : 0};

	if (size == 0 || sodium_init() < 0)
		return 0;
	if (data[0] == 't')
		read_text(in);
	else if (data[0] == 'j')
		inside(in);
	else
		caveats(in);
	return 0;
}
