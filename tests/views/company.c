#include "company.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "core/core.h"

#define S(lit) BASE_STR(lit)
#define EMIT(c, name, ...)                                                                                   \
	do {                                                                                                 \
		(c)->now += 10;                                                                              \
		core_##name##_emit(&(c)->events, (c)->now, &(struct core_##name){__VA_ARGS__});              \
		company_mark(c);                                                                             \
	} while (0)

void company_init(struct company *c)
{
	memset(c, 0, sizeof(*c));
	base_buf_init(&c->events, SIZE_MAX);
	c->now = 1700000000000;
}

void company_done(struct company *c)
{
	base_buf_done(&c->events);
	free(c->starts);
}

void company_mark(struct company *c)
{
	if (c->count + 2 > c->size) {
		c->size = c->size ? c->size * 2 : 64;
		c->starts = reallocarray(c->starts, c->size, sizeof(*c->starts));
		assert_non_null(c->starts);
		c->starts[0] = 0;
	}
	c->starts[++c->count] = c->events.len;
	assert_int_equal(base_buf_failed(&c->events), 0);
}

struct base_str company_block(const struct company *c, uint64_t from, uint64_t to)
{
	assert_true(from >= 1 && from < to && to <= c->count + 1);
	return base_str_sub(
		base_buf_view(&c->events), c->starts[from - 1], c->starts[to - 1] - c->starts[from - 1]);
}

static struct base_hash hash_of(const char *s)
{
	return base_hash_of(base_str_of(s));
}

static void begin(struct company *c)
{
	EMIT(c, engine_started, .epoch = 1, .version = S("0.1"));
	EMIT(c, config_set, .config = S("{}"), .by = S("operator"));
	EMIT(c, flow_deployed, .flow = S("newsletter"), .version = hash_of("v1"),
		.spec = S("{\"name\":\"newsletter\"}"), .grants = S("[\"mail.send\"]"), .by = S("operator"));
	EMIT(c, access_denied, .principal = S("key/ci"), .action = S("freeze"), .reason = S("no grant"));
	EMIT(c, run_started, .run = 1, .flow = S("newsletter"), .version = hash_of("v1"),
		.as = S("flow/newsletter"), .by = S("operator"),
		.input = base_blob_of(S("{\"issue\":\"12\"}")), .customer = S("acme"));
}

static void model_step(struct company *c)
{
	EMIT(c, step_called, .run = 1, .step = 0, .status = CORE_STEP_HELD, .klass = CORE_READ,
		.action = S("model.generate"), .args = base_blob_of(S("{\"tier\":\"draft\"}")),
		.rule = S("models"), .route = S("{\"provider\":\"p\",\"model\":\"m\"}"), .reserved = 5000);
	EMIT(c, step_sent, .run = 1, .step = 0, .attempt = 1, .reserved = 5000);
	EMIT(c, step_retry, .run = 1, .step = 0, .attempt = 1, .at_ms = c->now + 500, .cost = 7,
		.problem = S("{\"code\":\"busy\"}"));
	EMIT(c, step_sent, .run = 1, .step = 0, .attempt = 2, .reserved = 5000);
	EMIT(c, step_done, .run = 1, .step = 0, .result = base_blob_of(S("{\"text\":\"hello\"}")),
		.cost = 1000,
		.usage = S("{\"provider\":\"p\",\"model\":\"m\",\"input_tokens\":11,\"output_tokens\":22,"
			   "\"cache_read_tokens\":3,\"cache_write_tokens\":4,\"cost_nusd\":1000}"));
}

static void gate_step(struct company *c)
{
	EMIT(c, step_called, .run = 1, .step = 1, .status = CORE_STEP_WAITING, .action = S("gate.ask"),
		.gate = 1);
	EMIT(c, gate_opened, .gate = 1, .run = 1, .step = 1, .kind = S("approve"), .title = S("Issue 12"),
		.show = base_blob_of(S("\"draft\"")), .shown = hash_of("draft"), .edit = 1,
		.on_expiry = S("deny"), .expires_ms = c->now + 99999);
	EMIT(c, gate_decided, .gate = 1, .answer = S("edit"), .by = S("operator"),
		.reason = S("a better title"), .waited_ms = 1234, .shown = hash_of("draft"));
	EMIT(c, step_done, .run = 1, .step = 1, .result = base_blob_of(S("{\"answer\":\"edit\"}")));
}

static void send_steps(struct company *c)
{
	EMIT(c, step_called, .run = 1, .step = 2, .status = CORE_STEP_HELD, .klass = CORE_IDEMPOTENT,
		.action = S("mail.send"), .key = S("k2"), .approval = 1, .rule = S("mail"),
		.customer = S("bob"));
	EMIT(c, step_sent, .run = 1, .step = 2, .attempt = 1);
	EMIT(c, step_done, .run = 1, .step = 2, .result = base_blob_of(S("null")), .cost = 40);
	EMIT(c, step_called, .run = 1, .step = 3, .status = CORE_STEP_FAILED, .klass = CORE_ONCE,
		.action = S("http.post"), .rule = S("default"),
		.result = base_blob_of(S("{\"code\":\"denied\",\"message\":\"not granted\"}")));
	EMIT(c, step_called, .run = 1, .step = 4, .status = CORE_STEP_HELD, .klass = CORE_ONCE,
		.action = S("test.once"));
	EMIT(c, step_sent, .run = 1, .step = 4, .attempt = 1);
	EMIT(c, step_doubt, .run = 1, .step = 4, .attempt = 1, .gate = 2,
		.evidence = S("{\"why\":\"no answer\"}"));
	EMIT(c, gate_opened, .gate = 2, .run = 1, .step = 4, .kind = S("doubt"), .title = S("In doubt"),
		.shown = hash_of("doubt"));
}

static void memory(struct company *c)
{
	EMIT(c, fact_put, .key = S("voice/main"), .version = 1,
		.value = base_blob_of(S("{\"tone\":\"plain\"}")), .run = 1, .step = 5,
		.by = S("flow/newsletter"), .source = S("notes"));
	EMIT(c, fact_put, .key = S("voice/main"), .version = 2,
		.value = base_blob_of(S("{\"tone\":\"dry humour\",\"rules\":[\"no exclamation marks\"]}")),
		.by = S("operator"));
	EMIT(c, fact_put, .key = S("voice/old"), .version = 1, .value = base_blob_of(S("\"flamboyant\"")));
	EMIT(c, fact_put, .key = S("voice/old"), .version = 2, .removed = 1);
	EMIT(c, document_put, .id = S("notes/garden"),
		.text = base_blob_of(S("Gardening in winter needs patience.")),
		.meta = S("{\"title\":\"The garden\"}"), .by = S("operator"));
	EMIT(c, document_put, .id = S("notes/city"), .text = base_blob_of(S("The city sleeps in winter.")),
		.by = S("operator"));
}

static void learning(struct company *c)
{
	EMIT(c, experiment_chosen, .experiment = S("subject"), .run = 1, .step = 6, .arm = 0,
		.arms = S("[\"Winter\",\"Patience\"]"), .how = S("even"));
	EMIT(c, experiment_chosen, .experiment = S("subject"), .run = 1, .step = 7, .arm = 1,
		.arms = S("[\"Winter\",\"Patience\"]"), .how = S("even"));
	EMIT(c, outcome_recorded, .name = S("open"), .value = 1000, .run = 1, .customer = S("bob"),
		.experiment = S("subject"), .arm = 1, .by = S("key/ci"), .money = 50);
	EMIT(c, outcome_recorded, .name = S("open"), .value = 0, .run = 1, .experiment = S("subject"),
		.arm = 0);
	EMIT(c, run_logged, .run = 1, .level = S("info"), .text = S("half way"));
	EMIT(c, signal_sent, .run = 1, .name = S("go"), .payload = base_blob_of(S("1")), .by = S("operator"));
}

void company_newsletter(struct company *c)
{
	begin(c);
	model_step(c);
	gate_step(c);
	send_steps(c);
	memory(c);
	learning(c);
	EMIT(c, run_started, .run = 2, .flow = S("child"), .parent = 1, .parent_step = 8,
		.as = S("flow/child"), .by = S("flow/newsletter"));
	EMIT(c, step_called, .run = 2, .step = 0, .status = CORE_STEP_HELD, .action = S("test.paid"));
	EMIT(c, step_failed, .run = 2, .step = 0, .problem = S("{\"code\":\"failed\"}"), .cost = 300);
	EMIT(c, run_parked, .run = 2, .why = S("diverged"), .detail = S("{\"step\":1}"));
	EMIT(c, run_ended, .run = 1, .outcome = CORE_DONE, .value = base_blob_of(S("{\"sent\":1}")));
}

__attribute__((format(printf, 3, 4))) static struct base_str print(
	char *to, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(to, size, fmt, ap);
	va_end(ap);
	return (struct base_str){to, (size_t)n};
}

static void bulk_run(struct company *c, struct base_prng *p, uint64_t run)
{
	char flow[64], key[64], text[200];
	unsigned long long n = run;
	uint64_t steps = base_prng_below(p, 6);

	EMIT(c, run_started, .run = run, .flow = print(flow, sizeof(flow), "flow%llu", n % 7),
		.parent = base_prng_below(p, 3) ? 0 : run - 1, .as = S("flow/x"), .by = S("operator"));
	for (uint32_t i = 0; i < steps; i++) {
		EMIT(c, step_called, .run = run, .step = i, .status = CORE_STEP_HELD,
			.klass = CORE_IDEMPOTENT, .action = S("test.echo"),
			.key = print(key, sizeof(key), "%llu-%u", n, i));
		EMIT(c, step_sent, .run = run, .step = i, .attempt = 1);
		EMIT(c, step_done, .run = run, .step = i, .result = base_blob_of(S("{}")),
			.cost = (int64_t)base_prng_below(p, 50));
	}
	EMIT(c, fact_put, .key = print(key, sizeof(key), "bulk/%u", (unsigned)base_prng_below(p, 40)),
		.version = run,
		.value = base_blob_of(
			print(text, sizeof(text), "{\"word\":\"alpha%llu beta%llu\"}", n % 13, n)));
	EMIT(c, document_put, .id = print(key, sizeof(key), "doc/%u", (unsigned)base_prng_below(p, 30)),
		.text = base_blob_of(
			print(text, sizeof(text), "Document %llu tells of gamma%llu.", n, n % 5)),
		.removed = base_prng_below(p, 8) == 0);
	EMIT(c, outcome_recorded, .name = S("open"), .value = (int64_t)base_prng_below(p, 2) * 1000,
		.run = run);
	EMIT(c, run_ended, .run = run, .outcome = CORE_DONE, .value = base_blob_of(S("null")));
}

void company_bulk(struct company *c, uint64_t seed, unsigned runs)
{
	struct base_prng p = base_prng_of_u64(seed);

	for (unsigned i = 0; i < runs; i++)
		bulk_run(c, &p, 1000 + i);
}
