#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connect/sse.h"
#include "connect/xfer.h"
#include "rig.h"
#include "wire/outcome.h"

/* Models: both APIs against a stand-in that checks their wire formats, and the built-in one. */

struct stage {
	struct rig r;
	struct standin llm;
	char log[128];
};

static int setup(void **state)
{
	struct stage *s = calloc(1, sizeof(*s));
	const char *argv[] = {"--key", "sk-test", "--log", s->log, NULL};

	rig_start(&s->r, "");
	snprintf(s->log, sizeof(s->log), "%s/llm.log", s->r.dir);
	standin_start(&s->llm, "llm.py", argv);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct stage *s = *state;

	standin_stop(&s->llm);
	rig_stop(&s->r);
	free(s);
	return 0;
}

struct ask {
	const char *api, *model;
	bool stream;
	const char *args; /* members behind max_tokens */
	const char *prices;
	const char *host, *key;
	uint32_t timeout_ms;
};

#define USER                                                                                                 \
	"\"messages\":[{\"role\":\"user\",\"content\":\"Tell me about rivers.\\n\\nRivers carry water to "   \
	"the sea every day. "                                                                                \
	"Lakes hold water for a very long time.\"}]"
#define TOOLS                                                                                                \
	"\"tools\":[{\"name\":\"search\",\"description\":\"Finds "                                           \
	"notes\",\"args\":{\"type\":\"object\",\"properties\":"                                              \
	"{\"query\":{\"type\":\"string\"}},\"required\":[\"query\"]}}]"
#define PRICES                                                                                               \
	"{\"input\":3000000000,\"output\":15000000000,\"cache_read\":300000000,\"cache_write\":3750000000}"

static void ask(struct stage *s, const struct ask *a, struct rig_result *ret)
{
	struct base_str sealed = rig_seal(&s->r, s->r.calls + 1, "model.generate",
		a->host ? a->host : "127.0.0.1", a->key ? a->key : "sk-test");
	const struct rig_effect e = {
		.action = "model.generate",
		.args = fmt("{\"model\":\"x\",\"max_tokens\":500,%s}", a->args),
		.config = fmt("{\"route\":{\"provider\":\"p\",\"model\":\"%s\"},\"provider\":{\"api\":\"%s\","
			      "\"url\":"
			      "\"http://127.0.0.1:%u%s\",\"stream\":%s},\"prices\":%s}",
			a->model, a->api, s->llm.port, strcmp(a->api, "openai") == 0 ? "/v1" : "",
			a->stream ? "true" : "false", a->prices ? a->prices : PRICES),
		.secret = sealed,
		.timeout_ms = a->timeout_ms,
	};

	rig_do(&s->r, &e, ret);
	free((void *)(uintptr_t)sealed.ptr);
}

static int64_t used(const struct rig_result *x, const char *key)
{
	return base_jv_int(base_jv_get(x->usage, key), -1);
}

static bool unknown(const struct rig_result *x)
{
	return base_jv_bool(base_jv_get(x->usage, "unknown"), false);
}

/* Every test runs against both APIs, whole and streamed. */
static const struct {
	const char *api;
	bool stream;
} ways[] = {{"anthropic", false}, {"anthropic", true}, {"openai", false}, {"openai", true}};
enum { WAYS = sizeof(ways) / sizeof(*ways) };

static void answers_come_with_text_usage_and_cost(void **state)
{
	for (size_t i = 0; i < WAYS; i++) {
		struct ask a = {.api = ways[i].api, .stream = ways[i].stream, .model = "m", .args = USER};
		struct rig_result x;
		int64_t cost;

		ask(*state, &a, &x);
		rig_expect(&x, WIRE_DONE);
		assert_non_null(strstr(rig_text(&x, "text"), "Rivers carry water to the sea every day."));
		assert_string_equal(rig_text(&x, "stop"), "end");
		assert_string_equal(rig_text(&x, "model"), "m");
		assert_int_equal(base_jv_len(base_jv_get(x.value, "tool_calls")), 0);
		assert_true(used(&x, "input_tokens") > 0 && used(&x, "output_tokens") > 0);
		cost = used(&x, "input_tokens") * 3000 + used(&x, "output_tokens") * 15000;
		assert_int_equal(used(&x, "cost_nusd"), cost);
		assert_false(unknown(&x));
		rig_result_done(&x);
		a.prices = "null"; /* no price: the cost cannot be known */
		ask(*state, &a, &x);
		rig_expect(&x, WIRE_DONE);
		assert_true(unknown(&x));
		rig_result_done(&x);
	}
}

static void cached_tokens_are_counted_apart(void **state)
{
	for (size_t i = 0; i < WAYS; i++) {
		char system[256], *args;
		struct ask a = {.api = ways[i].api, .stream = ways[i].stream, .model = "m"};
		struct rig_result first, second;

		memset(system, 'a' + (int)i, 240);
		system[240] = 0;
		args = strdup(fmt("\"system\":\"%s\"," USER, system));
		a.args = args;
		ask(*state, &a, &first);
		ask(*state, &a, &second);
		rig_expect(&first, WIRE_DONE);
		rig_expect(&second, WIRE_DONE);
		assert_int_equal(used(&first, "cache_write_tokens"), 60);
		assert_int_equal(used(&first, "cache_read_tokens"), 0);
		assert_int_equal(used(&second, "cache_write_tokens"), 0);
		assert_int_equal(used(&second, "cache_read_tokens"), 60);
		assert_int_equal(used(&first, "input_tokens"), used(&second, "input_tokens"));
		assert_int_equal(used(&first, "cost_nusd") - used(&second, "cost_nusd"), 60 * (3750 - 300));
		rig_result_done(&first);
		rig_result_done(&second);
		free(args);
	}
}

static void tools_are_called_and_answered(void **state)
{
	for (size_t i = 0; i < WAYS; i++) {
		struct ask a = {
			.api = ways[i].api, .stream = ways[i].stream, .model = "m", .args = USER "," TOOLS};
		struct rig_result x;
		struct base_jv call;
		struct base_buf args;
		const char *id;

		ask(*state, &a, &x);
		rig_expect(&x, WIRE_DONE);
		assert_string_equal(rig_text(&x, "stop"), "tools");
		call = base_jv_at(base_jv_get(x.value, "tool_calls"), 0);
		assert_true(base_str_is(base_jv_str(base_jv_get(call, "name")), "search"));
		assert_true(base_jv_str(base_jv_get(base_jv_get(call, "args"), "query")).len > 0);
		id = fmt("%.*s", BASE_STR_ARG(base_jv_str(base_jv_get(call, "id"))));
		base_buf_init(&args, 4096);
		base_jv_write(base_jv_get(call, "args"), &args);
		/* the stand-in refuses a history whose calls and results do not match */
		a.args = fmt("\"messages\":[{\"role\":\"user\",\"content\":\"Tell me about "
			     "rivers.\"},{\"role\":\"assistant\","
			     "\"content\":\"\",\"tool_calls\":[{\"id\":\"%s\",\"name\":\"search\",\"args\":%."
			     "*s}]},{\"role\":\"tool\",\"id\":"
			     "\"%s\",\"content\":\"The Rhine is a long river in Europe.\"}]," TOOLS,
			id, BASE_STR_ARG(base_buf_view(&args)), id);
		rig_result_done(&x);
		ask(*state, &a, &x);
		rig_expect(&x, WIRE_DONE);
		assert_string_equal(rig_text(&x, "text"), "The Rhine is a long river in Europe.");
		rig_result_done(&x);
		base_buf_done(&args);
	}
}

static void arguments_that_are_no_json_are_shown(void **state)
{
	for (size_t i = 0; i < WAYS; i++) {
		struct ask a = {.api = ways[i].api,
			.stream = ways[i].stream,
			.model = "m+badargs",
			.args = USER "," TOOLS};
		struct rig_result x;
		struct base_jv call;

		if (strcmp(a.api, "anthropic") == 0 && !a.stream)
			continue; /* there they are JSON by form */
		ask(*state, &a, &x);
		rig_expect(&x, WIRE_DONE);
		call = base_jv_at(base_jv_get(x.value, "tool_calls"), 0);
		assert_int_equal(base_jv_len(base_jv_get(call, "args")), 0);
		assert_true(base_str_is(base_jv_str(base_jv_get(call, "invalid")), "{\"broken\": "));
		rig_result_done(&x);
	}
}

static void failures_say_what_may_have_been_charged(void **state)
{
	static const struct {
		const char *model;
		unsigned outcome;
		const char *code, *part;
		bool unknown;
		uint32_t timeout_ms;
	} cases[] = {
		{"m+429", WIRE_RETRY, "busy", "too many requests", false, 0},
		{"m+529", WIRE_RETRY, "busy", "overloaded", false, 0},
		{"m+500", WIRE_RETRY, "busy", "500", false, 0},
		{"m+400", WIRE_FAILED, "invalid", "prompt is too long", false, 0},
		{"m+cut", WIRE_RETRY, "broken", "127.0.0.1", true, 0},
		{"m+drop", WIRE_RETRY, "broken", "127.0.0.1", true, 0},
		{"m+garbage", WIRE_RETRY, "broken", "127.0.0.1", true, 0},
		{"m+deep", WIRE_RETRY, "broken", "127.0.0.1", true, 0},
		{"m+slow", WIRE_RETRY, "timeout", "no answer", true, 400},
	};

	for (size_t i = 0; i < WAYS; i++) {
		for (size_t k = 0; k < sizeof(cases) / sizeof(*cases); k++) {
			struct ask a = {.api = ways[i].api,
				.stream = ways[i].stream,
				.model = cases[k].model,
				.args = USER,
				.timeout_ms = cases[k].timeout_ms};
			struct rig_result x;

			ask(*state, &a, &x);
			if (x.outcome != cases[k].outcome || unknown(&x) != cases[k].unknown)
				fail_msg("%s %d %s: outcome %u, unknown %d: %s", a.api, a.stream, a.model,
					x.outcome, unknown(&x), rig_text(&x, "message"));
			rig_problem(&x, cases[k].outcome, cases[k].code, cases[k].part);
			if (k == 0)
				assert_int_equal(x.retry_after_ms, 1000);
			rig_result_done(&x);
		}
	}
}

static void an_error_inside_of_a_stream_is_one(void **state)
{
	static const char *const words[] = {"Overloaded", "had an error"};

	for (size_t i = 1; i < WAYS; i += 2) {
		struct ask a = {.api = ways[i].api, .stream = true, .model = "m+error", .args = USER};
		struct rig_result x;

		ask(*state, &a, &x);
		rig_problem(&x, WIRE_RETRY, "broken", words[i / 2]);
		assert_true(unknown(&x));
		rig_result_done(&x);
	}
}

static void keys_go_to_their_host_alone(void **state)
{
	for (size_t i = 0; i < WAYS; i++) {
		struct ask a = {.api = ways[i].api,
			.stream = ways[i].stream,
			.model = "m",
			.args = USER,
			.key = "wrong"};
		struct rig_result x;

		ask(*state, &a, &x);
		rig_problem(&x, WIRE_FAILED, "denied", "secret");
		assert_int_equal(rig_int(&x, "status"), 401);
		rig_result_done(&x);
		a.key = NULL;
		a.host = "api.example.org";
		ask(*state, &a, &x);
		rig_problem(&x, WIRE_FAILED, "denied", "not for 127.0.0.1");
		rig_result_done(&x);
	}
}

/* --- the built-in model --- */

#define NOTES                                                                                                \
	"# Bread\\n\\nA sourdough starter needs feeding twice a day in summer. Flour and water are all it "  \
	"takes. I like it.\\n\\n"                                                                            \
	"# Rivers\\n\\nThe Rhine carries barges from Basel to Rotterdam. Its water level falls every "       \
	"autumn. "                                                                                           \
	"Barges then load half of their freight.\\n\\n# Clocks\\n\\nA pendulum clock loses seconds when "    \
	"the air gets warm."

static void local(struct stage *s, const char *task, struct rig_result *ret)
{
	rig_do(&s->r,
		&(struct rig_effect){.action = "model.generate",
			.args = fmt("{\"tier\":\"draft\",\"max_tokens\":400,\"messages\":[{\"role\":\"user\","
				    "\"content\":\"%s\\n\\n" NOTES "\"}]}",
				task),
			.config = "{\"route\":{\"provider\":\"local\",\"model\":\"extract\"}}"},
		ret);
	rig_expect(ret, WIRE_DONE);
	assert_int_equal(base_jv_int(base_jv_get(ret->usage, "cost_nusd"), -1), 0);
}

static void the_built_in_model_picks_what_is_asked_for(void **state)
{
	struct rig_result x, again;

	local(*state, "Summarise in 2 sentences what happens to barges on the Rhine.", &x);
	assert_non_null(strstr(rig_text(&x, "text"), "Rhine"));
	assert_non_null(strstr(rig_text(&x, "text"), "Barges"));
	assert_null(strstr(rig_text(&x, "text"), "sourdough"));
	local(*state, "Summarise in 2 sentences what happens to barges on the Rhine.", &again);
	assert_string_equal(rig_text(&x, "text"), rig_text(&again, "text"));
	rig_result_done(&again);
	rig_result_done(&x);
	local(*state, "Write an outline.", &x);
	assert_string_equal(rig_text(&x, "text"), "- Bread\n- Rivers\n- Clocks");
	rig_result_done(&x);
	local(*state, "Propose 3 subjects as a JSON array.", &x);
	{
		struct base_json *doc;

		assert_int_equal(base_json_parse(base_jv_str(base_jv_get(x.value, "text")), &doc, NULL), 0);
		assert_int_equal(base_jv_len(base_json_root(doc)), 3);
		base_json_free(doc);
	}
	rig_result_done(&x);
}

/* Every sentence of an answer stands in what was given. */
static void the_built_in_model_invents_nothing(void **state)
{
	static const char *const tasks[] = {
		"Draft the section about clocks.", "What is said about bread?", "Hello", ""};
	char *notes = strdup(NOTES);
	struct rig_result x;

	for (char *p = notes; (p = strstr(p, "\\n"));)
		memcpy(p, "  ", 2);
	for (size_t i = 0; i < sizeof(tasks) / sizeof(*tasks); i++) {
		char *text, *sentence, *rest;

		local(*state, tasks[i], &x);
		text = strdup(rig_text(&x, "text"));
		assert_true(strlen(text) > 20);
		for (sentence = strtok_r(text, ".\n", &rest); sentence;
			sentence = strtok_r(NULL, ".\n", &rest)) {
			while (*sentence == ' ')
				sentence++;
			if (!strstr(notes, sentence))
				fail_msg("invented: %s", sentence);
		}
		free(text);
		rig_result_done(&x);
	}
	free(notes);
}

static void the_built_in_model_reads_json_and_histories(void **state)
{
	struct stage *s = *state;
	struct rig_result x;

	rig_do(&s->r,
		&(struct rig_effect){.action = "model.generate",
			.args = "{\"tier\":\"draft\",\"max_tokens\":400,\"messages\":[{\"role\":\"user\","
				"\"content\":\"Summarise.\\n{\\\"task\\\":"
				"\\\"Tell about owls\\\",\\\"notes\\\":[\\\"Owls hunt at night and hear very "
				"well.\\\",\\\"Prices rose by a "
				"third in March.\\\"]}\"},{\"role\":\"assistant\",\"content\":\"Nothing yet "
				"to say about it.\"},{\"role\":\"user\",\"content\":\"One "
				"sentence about owls please.\"}]}",
			.config = "{\"route\":{\"provider\":\"local\",\"model\":\"extract\"}}"},
		&x);
	rig_expect(&x, WIRE_DONE);
	assert_string_equal(rig_text(&x, "text"), "Owls hunt at night and hear very well.");
	rig_result_done(&x);
}

/* --- parts --- */

static int collect(void *userdata, struct base_str data)
{
	base_buf_str(userdata, data);
	base_buf_char(userdata, '|');
	return 0;
}

static void events_are_read_however_they_are_cut(void **state)
{
	static const char stream[] =
		": hi\r\ndata: one\r\n\r\nevent: x\ndata:two\ndata: lines\n\n\n\rdata: last\r\r";

	(void)state;
	for (size_t cut = 1; cut < sizeof(stream); cut++) {
		struct base_buf got;
		struct sse s;

		base_buf_init(&got, 4096);
		sse_init(&s, 4096);
		for (size_t at = 0; at < sizeof(stream) - 1; at += cut)
			assert_int_equal(
				sse_feed(&s,
					base_str_sub((struct base_str){stream, sizeof(stream) - 1}, at, cut),
					collect, &got),
				0);
		base_buf_char(&got, 0);
		assert_string_equal(got.ptr, "one|two\nlines|last|");
		base_buf_done(&got);
		sse_done(&s);
	}
}

static void an_endless_event_is_refused(void **state)
{
	struct base_buf got;
	struct sse s;
	int r = 0;

	(void)state;
	base_buf_init(&got, 4096);
	sse_init(&s, 1000);
	for (int i = 0; i < 2000 && r == 0; i++)
		r = sse_feed(&s, BASE_STR("data: x\n"), collect, &got);
	assert_int_equal(r, -EFBIG);
	sse_done(&s);
	base_buf_done(&got);
}

static void public_addresses_are_told_from_others(void **state)
{
	static const struct {
		const char *ip;
		bool open;
	} cases[] = {{"1.1.1.1", true}, {"8.8.8.8", true}, {"172.15.0.1", true}, {"172.32.0.1", true},
		{"100.63.0.1", true}, {"100.128.0.1", true}, {"192.167.1.1", true}, {"223.255.255.1", true},
		{"0.0.0.0", false}, {"10.1.2.3", false}, {"100.64.0.1", false}, {"127.0.0.1", false},
		{"127.255.255.255", false}, {"169.254.169.254", false}, {"172.16.0.1", false},
		{"172.31.255.255", false}, {"192.168.1.1", false}, {"192.0.0.8", false},
		{"198.18.0.1", false}, {"224.0.0.1", false}, {"240.0.0.1", false}, {"255.255.255.255", false},
		{"2606:4700::1111", true}, {"2a00:1450::1", true}, {"::", false}, {"::1", false},
		{"::ffff:10.0.0.1", false}, {"::ffff:8.8.8.8", true}, {"64:ff9b::a00:1", false},
		{"64:ff9b::808:808", true}, {"2002:7f00:1::", false}, {"2001:0:1::", false},
		{"fe80::1", false}, {"fc00::1", false}, {"fd12::1", false}, {"ff02::1", false},
		{"fec0::1", false}, {"::7f00:1", false}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sockaddr_in v4 = {.sin_family = AF_INET};
		struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
		bool open = false;

		if (inet_pton(AF_INET, cases[i].ip, &v4.sin_addr) == 1)
			open = connect_address_public((const struct sockaddr *)&v4);
		else if (inet_pton(AF_INET6, cases[i].ip, &v6.sin6_addr) == 1)
			open = connect_address_public((const struct sockaddr *)&v6);
		else
			fail_msg("no address: %s", cases[i].ip);
		if (open != cases[i].open)
			fail_msg("%s", cases[i].ip);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_are_read_however_they_are_cut),
		cmocka_unit_test(an_endless_event_is_refused),
		cmocka_unit_test(public_addresses_are_told_from_others),
		cmocka_unit_test_setup_teardown(answers_come_with_text_usage_and_cost, setup, teardown),
		cmocka_unit_test_setup_teardown(cached_tokens_are_counted_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(tools_are_called_and_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(arguments_that_are_no_json_are_shown, setup, teardown),
		cmocka_unit_test_setup_teardown(failures_say_what_may_have_been_charged, setup, teardown),
		cmocka_unit_test_setup_teardown(an_error_inside_of_a_stream_is_one, setup, teardown),
		cmocka_unit_test_setup_teardown(keys_go_to_their_host_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(the_built_in_model_picks_what_is_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(the_built_in_model_invents_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(the_built_in_model_reads_json_and_histories, setup, teardown),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
