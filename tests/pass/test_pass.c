/* What aios-pass accepts, and all that it must refuse: ceremonies made by an authenticator in software, then each thing of
 * them wrong by itself. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "authenticator.h"
#include "base/hash.h"
#include "pass/pass.h"
#include "wire/sign_in.h"

static const int algs[] = {PASS_ES256, PASS_EDDSA, PASS_RS256};
#define CHALLENGE "0123456789abcdef0123456789abcdef"
#define ORIGIN "http://localhost:7717"

/* One ceremony and what stands behind its views. */
struct scene {
	struct authenticator a;
	struct act act;
	struct base_buf client_data, data, signature;
	struct pass_created made;
	struct pass_ceremony c;
};

static void play(struct scene *s)
{
	base_buf_clear(&s->client_data);
	base_buf_clear(&s->data);
	base_buf_clear(&s->signature);
	authenticator_client_data(&s->act, &s->client_data);
	authenticator_data(&s->a, &s->act, &s->data);
	authenticator_sign(&s->a, base_buf_view(&s->data), base_buf_view(&s->client_data), &s->signature);
	s->c.client_data = base_buf_view(&s->client_data);
	s->c.authenticator_data = base_buf_view(&s->data);
	s->c.signature = base_buf_view(&s->signature);
}

static void begin(struct scene *s, int alg)
{
	struct base_err err = {0};

	memset(s, 0, sizeof(*s));
	base_buf_init(&s->client_data, 1 << 16);
	base_buf_init(&s->data, 1 << 16);
	base_buf_init(&s->signature, 1 << 16);
	authenticator_make(&s->a, alg);
	s->act = (struct act){.type = "webauthn.create",
		.origin = ORIGIN,
		.rp_id = "localhost",
		.challenge = BASE_STR(CHALLENGE),
		.flags = FLAG_UP | FLAG_UV,
		.counter = 3,
		.create = true};
	s->c = (struct pass_ceremony){.rp_id = BASE_STR("localhost"),
		.challenge = BASE_STR(CHALLENGE),
		.origins = {BASE_STR("https://desk.example.org"), BASE_STR(ORIGIN)},
		.origin_count = 2};
	play(s);
	if (pass_create(&s->c, &s->made, &err) < 0)
		fail_msg("%s", err.text);
}

static void then_get(struct scene *s)
{
	s->act.type = "webauthn.get";
	s->act.create = false;
	s->act.counter = 4;
	s->c.public_key = (struct base_str){(const char *)s->made.public_key, s->made.public_key_len};
	s->c.alg = s->made.alg;
	play(s);
}

static void end(struct scene *s)
{
	authenticator_done(&s->a);
	base_buf_done(&s->client_data);
	base_buf_done(&s->data);
	base_buf_done(&s->signature);
}

/* The first word of the refusal; "" where it was accepted. */
static const char *verdict(struct scene *s)
{
	static char word[64];
	struct base_err err = {0};
	struct pass_created made;
	uint32_t count;
	int r = s->act.create ? pass_create(&s->c, &made, &err) : pass_get(&s->c, &count, &err);

	if (r == 0)
		return "";
	assert_int_equal(r, -EACCES);
	snprintf(word, sizeof(word), "%.*s", (int)strcspn(err.text, ":"), err.text);
	return word;
}

static void test_ceremonies(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct scene s;
		struct base_err err = {0};
		uint8_t id[32];
		uint32_t count = 0;

		begin(&s, algs[i]);
		authenticator_id(&s.a, id);
		assert_int_equal(s.made.id_len, 32);
		assert_memory_equal(s.made.id, id, 32);
		assert_int_equal(s.made.alg, algs[i]);
		assert_int_equal(s.made.sign_count, 3);
		then_get(&s);
		if (pass_get(&s.c, &count, &err) < 0)
			fail_msg("%s", err.text);
		assert_int_equal(count, 4);
		end(&s);
	}
}

/* Each thing of a ceremony wrong by itself, correctly signed. */
static void each_wrong(struct scene *s)
{
	const struct act right = s->act;

#define EXPECT(word)                                                                                         \
	do {                                                                                                 \
		play(s);                                                                                     \
		assert_string_equal(verdict(s), word);                                                       \
		s->act = right;                                                                              \
	} while (0)

	EXPECT("");
	s->act.origin = "http://localhost:7718";
	EXPECT("origin");
	s->act.origin = "http://localhost";
	EXPECT("origin");
	s->act.origin = "https://localhost:7717";
	EXPECT("origin");
	s->act.origin = "http://localhost:7717.evil.example";
	EXPECT("origin");
	s->act.origin = "";
	EXPECT("origin");
	s->act.rp_id = "evil.example";
	EXPECT("relying_party");
	s->act.challenge = BASE_STR("0123456789abcdef0123456789abcdeX");
	EXPECT("challenge");
	s->act.challenge = BASE_STR("0123456789abcdef");
	EXPECT("challenge");
	s->act.challenge = BASE_STR_NONE;
	EXPECT("challenge");
	s->act.type = right.create ? "webauthn.get" : "webauthn.create";
	EXPECT("type");
	s->act.type = "payment.get";
	EXPECT("type");
	s->act.flags = FLAG_UV;
	EXPECT("presence");
	s->act.flags = FLAG_UP;
	EXPECT("verification");
	s->act.flags = 0;
	EXPECT("presence");
	s->act.flags = FLAG_UP | FLAG_UV | FLAG_BS;
	EXPECT("authenticator_data");
	s->act.flags = FLAG_UP | FLAG_UV | FLAG_BE | FLAG_BS;
	EXPECT("");
	s->act.more = ",\"crossOrigin\":true";
	EXPECT("cross_origin");
	s->act.more = ",\"crossOrigin\":\"false\"";
	EXPECT("cross_origin");
	s->act.more = ",\"topOrigin\":\"https://evil.example\"";
	EXPECT("cross_origin");
	s->act.more = ",\"crossOrigin\":false,\"other_keys_can_be_added_here\":\"yes\"";
	EXPECT("");
	s->act.more = ",\"type\":\"webauthn.get\""; /* twice: not JSON here */
	EXPECT("client_data");
	s->act.create = !right.create;
	s->act.type = right.type;
	play(s);
	s->act = right;
	assert_string_equal(verdict(s), "authenticator_data");
	play(s);
#undef EXPECT
}

/* What must be is missing: never "nothing is expected, all is well". */
static void nothing_expected(struct scene *s)
{
	struct base_str challenge = s->c.challenge;

	s->c.challenge = BASE_STR_NONE;
	assert_string_equal(verdict(s), "challenge");
	s->c.challenge = challenge;
	s->c.origin_count = 0;
	assert_string_equal(verdict(s), "origin");
	s->c.origin_count = 2;
	s->c.rp_id = BASE_STR_NONE;
	assert_string_equal(verdict(s), "relying_party");
	s->c.rp_id = BASE_STR("localhost");
	assert_string_equal(verdict(s), "");
}

static void test_wrong_registrations(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct scene s;

		begin(&s, algs[i]);
		each_wrong(&s);
		nothing_expected(&s);
		end(&s);
	}
}

static void test_wrong_assertions(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct scene s;

		begin(&s, algs[i]);
		then_get(&s);
		each_wrong(&s);
		nothing_expected(&s);
		end(&s);
	}
}

/* The right words with a signature that is not of the registered key over them. */
static void test_wrong_signatures(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct scene s;
		struct authenticator own, other;

		begin(&s, algs[i]);
		then_get(&s);
		own = s.a;
		authenticator_make(&other, algs[i]);
		s.a = other;
		play(&s);
		assert_string_equal(verdict(&s), "signature");
		s.a = own;
		play(&s);
		assert_string_equal(verdict(&s), "");
		for (size_t at = 0; at < s.signature.len; at += 7) {
			s.signature.ptr[at] ^= 1;
			assert_string_equal(verdict(&s), "signature");
			s.signature.ptr[at] ^= 1;
		}
		s.data.ptr[36] ^= 1; /* the counter */
		assert_string_equal(verdict(&s), "signature");
		s.data.ptr[36] ^= 1;
		s.c.signature.len--;
		assert_string_equal(verdict(&s), "signature");
		s.c.signature.len = 0;
		assert_string_equal(verdict(&s), "signature");
		s.c.signature = base_buf_view(&s.signature);
		/* Another algorithm than the key was registered for. */
		for (size_t k = 0; k < 3; k++) {
			s.c.alg = algs[k];
			assert_string_equal(verdict(&s), algs[k] == algs[i] ? "" : "algorithm");
		}
		s.c.alg = 0;
		assert_string_equal(verdict(&s), "algorithm");
		s.c.alg = -65535; /* RS1 */
		assert_string_equal(verdict(&s), "algorithm");
		s.c.alg = algs[i];
		s.c.public_key = BASE_STR_NONE;
		assert_string_equal(verdict(&s), "algorithm");
		authenticator_done(&other);
		end(&s);
	}
}

/* A key that is no point of the curve. */
static void test_keys_off_the_curve(void **state)
{
	struct scene s;
	struct base_str before;
	char key[64];

	(void)state;
	begin(&s, PASS_ES256);
	s.data.ptr[s.data.len - 1] ^= 1;
	assert_string_equal(verdict(&s), "algorithm");
	then_get(&s);
	before = s.c.public_key;
	memset(key, 0, sizeof(key));
	s.c.public_key = (struct base_str){key, sizeof(key)};
	assert_string_not_equal(verdict(&s), "");
	s.c.public_key = before;
	assert_string_equal(verdict(&s), "");
	end(&s);
}

/* CBOR that ends too soon, and every byte of it changed. */
static void test_damaged_data(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct scene s;
		size_t len;

		begin(&s, algs[i]);
		len = s.data.len;
		for (size_t n = 0; n < len; n++) {
			s.c.authenticator_data.len = n;
			assert_string_not_equal(verdict(&s), "");
		}
		s.c.authenticator_data.len = len;
		for (size_t n = 0; n < len * 8; n += i == 2 ? 11 : 3) {
			s.data.ptr[n / 8] ^= (char)(1 << n % 8);
			(void)verdict(
				&s); /* a bit of an id or a key makes another one: it must only not break */
			s.data.ptr[n / 8] ^= (char)(1 << n % 8);
		}
		base_buf_char(&s.data, '\0');
		s.c.authenticator_data = base_buf_view(&s.data);
		assert_string_not_equal(verdict(&s), "");
		for (size_t n = 0; n < s.client_data.len; n++) {
			s.c.client_data.len = n;
			assert_string_not_equal(verdict(&s), "");
		}
		end(&s);
	}
}

/* --- TOTP: RFC 6238, appendix B; the last six of its eight digits --- */

static void test_totp(void **state)
{
	static const char *const sha1 = "sha1:GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
	static const char *const sha256 = "sha256:GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA";
	static const struct {
		int64_t time;
		uint32_t sha1, sha256;
	} cases[] = {{59, 287082, 119246}, {1111111109, 81804, 84774}, {1111111111, 50471, 62674},
		{1234567890, 5924, 819424}, {2000000000, 279037, 698825}, {20000000000, 353130, 737706}};
	uint32_t code;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[16];

		assert_int_equal(pass_totp(base_str_of(sha1), (uint64_t)cases[i].time / 30, &code), 0);
		assert_int_equal(code, cases[i].sha1);
		assert_int_equal(pass_totp(base_str_of(sha256), (uint64_t)cases[i].time / 30, &code), 0);
		assert_int_equal(code, cases[i].sha256);
		/* One step early or late, not two; and which step it was. */
		snprintf(text, sizeof(text), "%06u", cases[i].sha1);
		for (int64_t off = -2; off <= 2; off++) {
			int64_t step = pass_totp_check(
				base_str_of(sha1), base_str_of(text), cases[i].time + 30 * off);

			if (cases[i].time + 30 * off < 0)
				continue;
			assert_int_equal(step, off == -2 || off == 2 ? -EACCES : (int)(cases[i].time / 30));
		}
		assert_int_equal(pass_totp_check(base_str_of(sha1), BASE_STR("12345"), 59), -EACCES);
		assert_int_equal(pass_totp_check(base_str_of(sha1), BASE_STR("2870820"), 59), -EACCES);
		assert_int_equal(pass_totp_check(base_str_of(sha1), BASE_STR_NONE, 59), -EACCES);
	}
	assert_int_equal(pass_totp_check(BASE_STR_NONE, BASE_STR("000000"), 59), -EACCES);
	assert_int_equal(pass_totp(BASE_STR("md5:GEZDGNBVGY3TQOJQ"), 1, &code), -EINVAL);
	assert_int_equal(pass_totp(BASE_STR("sha1:gezdgnbv"), 1, &code), -EINVAL);
	assert_int_equal(pass_totp(BASE_STR("sha1:GEZDGNBV"), 1, &code), -EINVAL); /* too short a secret */
	assert_int_equal(pass_totp(BASE_STR("sha1:"), 1, &code), -EINVAL);
}

/* --- passwords --- */

static void test_password(void **state)
{
	char hash[crypto_pwhash_STRBYTES], weak[crypto_pwhash_STRBYTES];
	struct base_str pw = BASE_STR("correct horse battery");

	(void)state;
	assert_int_equal(crypto_pwhash_str(hash, pw.ptr, pw.len, WIRE_PASS_OPS, WIRE_PASS_MEM), 0);
	assert_true(base_str_starts(base_str_of(hash), BASE_STR(WIRE_PASS_PREFIX)));
	assert_true(pass_password_is(base_str_of(hash), pw));
	assert_false(pass_password_is(base_str_of(hash), BASE_STR("correct horse batterx")));
	assert_false(pass_password_is(base_str_of(hash), BASE_STR_NONE));
	assert_false(pass_password_is(BASE_STR_NONE, pw));
	/* A hash that is cheaper to guess is not one. */
	assert_int_equal(crypto_pwhash_str(weak, pw.ptr, pw.len, 1, 1 << 20), 0);
	assert_false(pass_password_is(base_str_of(weak), pw));
}

static bool ask(const char *what, const char *params, const char *hash, const char *totp, char ret[512])
{
	struct base_buf b;
	bool ok;

	base_buf_init(&b, 1 << 16);
	ok = pass_answer(&(struct pass_request){base_str_of(what), base_str_of(params), base_str_of(hash),
				 base_str_of(totp)},
		&b);
	snprintf(ret, 512, "%.*s", (int)b.len, b.ptr);
	base_buf_done(&b);
	return ok;
}

/* One answer for every wrong thing, as far as whoever asks can tell. */
static void test_answers_are_uniform(void **state)
{
	static const char *const totp = "sha1:GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
	char hash[crypto_pwhash_STRBYTES], text[512], wrong[512];

	(void)state;
	assert_int_equal(crypto_pwhash_str(hash, "correct horse", 13, WIRE_PASS_OPS, WIRE_PASS_MEM), 0);
	assert_true(ask("password",
		"{\"password\":\"correct horse\",\"code\":\"287082\",\"need_code\":true,\"now_s\":59}", hash,
		totp, text));
	assert_string_equal(text, "{\"step\":1}");
	assert_true(ask("password", "{\"password\":\"correct horse\",\"need_code\":false,\"now_s\":59}", hash,
		"", text));
	assert_false(ask("password",
		"{\"password\":\"correct horsf\",\"code\":\"287082\",\"need_code\":true,\"now_s\":59}", hash,
		totp, wrong));
	assert_false(ask("password",
		"{\"password\":\"correct horse\",\"code\":\"287083\",\"need_code\":true,\"now_s\":59}", hash,
		totp, text));
	assert_string_equal(text, wrong);
	/* A code is needed unless it is said that none is; without a secret none is right. */
	assert_false(ask("password", "{\"password\":\"correct horse\",\"now_s\":59}", hash, totp, text));
	assert_string_equal(text, wrong);
	assert_false(ask("password", "{\"password\":\"correct horse\",\"code\":\"000000\",\"now_s\":59}",
		hash, "", text));
	assert_string_equal(text, wrong);
	assert_false(ask("password", "{\"password\":\"correct horse\",\"need_code\":false}", "", "", text));
	assert_string_equal(text, wrong);
	assert_false(ask("password", "{}", "", "", text));
	assert_string_equal(text, wrong);
	assert_true(ask("totp", "{\"code\":\"287082\",\"now_s\":59}", "", totp, text));
	assert_false(ask("totp", "{\"code\":\"287081\",\"now_s\":59}", "", totp, text));
	assert_false(ask("totp", "{}", "", "", text));
	assert_false(ask("magic", "{}", "", "", text));
	assert_false(ask("get", "nonsense", "", "", text));
	assert_false(ask("get", "{}", "", "", text));
	assert_false(ask("create", "{\"challenge\":\"%%\"}", "", "", text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ceremonies),
		cmocka_unit_test(test_wrong_registrations),
		cmocka_unit_test(test_wrong_assertions),
		cmocka_unit_test(test_wrong_signatures),
		cmocka_unit_test(test_keys_off_the_curve),
		cmocka_unit_test(test_damaged_data),
		cmocka_unit_test(test_totp),
		cmocka_unit_test(test_password),
		cmocka_unit_test(test_answers_are_uniform),
	};
	struct base_err err;

	if (pass_init(&err) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
