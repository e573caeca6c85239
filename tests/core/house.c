#include "house.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/actions.h"

static struct core *fresh(void)
{
	struct base_err err;
	struct core *c;

	assert_int_equal(core_new(&c), 0);
	for (size_t i = 0; i < core_actions_count; i++)
		if (core_catalogue_add(c, core_actions[i], &err) < 0)
			fail_msg("%s", err.text);
	/* An outside that forgets keys after an hour. */
	assert_int_equal(
		core_catalogue_add(c,
			BASE_STR(
				"{\"name\":\"test.forgets\",\"class\":\"idempotent\",\"connector\":\"other\","
				"\"key_life_ms\":3600000,\"args\":{\"type\":\"object\"}}"),
			&err),
		0);
	/* One that says what its arguments may carry. */
	assert_int_equal(
		core_catalogue_add(c,
			BASE_STR("{\"name\":\"test.narrow\",\"class\":\"once\",\"connector\":\"other\","
				 "\"accepts\":[\"untrusted\"],\"args\":{\"type\":\"object\"}}"),
			&err),
		0);
	return c;
}

static void init(struct house *h)
{
	memset(h, 0, sizeof(*h));
	h->core = fresh();
	assert_int_equal(base_arena_new(256 << 20, &h->arena), 0);
	base_buf_init(&h->log, 1 << 30);
	h->now_ms = 1700000000000;
	house_do(h, (struct core_cmd){.type = CORE_CMD_START, .text = BASE_STR("test")});
}

static void done(struct house *h)
{
	core_free(h->core);
	base_arena_free(h->arena);
	base_buf_done(&h->log);
	free(h->at);
}

static struct core_record record_at(const struct house *h, uint64_t seq)
{
	struct core_record rec;
	size_t at = h->at[seq];

	assert_int_equal(core_block_next(base_buf_view(&h->log), &at, &rec), 1);
	return rec;
}

static void copy(char *to, size_t room, struct base_str s)
{
	size_t n = s.len < room - 1 ? s.len : room - 1;

	if (n)
		memcpy(to, s.ptr, n);
	to[n] = '\0';
}

static void on_act(void *userdata, const struct core_act *act)
{
	struct house *h = userdata;
	struct house_act *a;

	assert_true(h->act_count < HOUSE_ACTS_MAX);
	a = &h->acts[h->act_count++];
	*a = (struct house_act){.type = act->type,
		.run = act->run,
		.id = act->id,
		.seq = act->seq,
		.step = act->step,
		.attempt = act->attempt,
		.ok = act->ok,
		.mode = act->mode,
		.outcome = act->outcome};
	copy(a->action, sizeof(a->action), act->action);
	copy(a->key, sizeof(a->key), act->key);
	copy(a->text, sizeof(a->text), act->blob.data);
}

static struct base_str blob_of(const struct core_record *rec)
{
	union core_event_any e;

	if (core_event_get(rec->type, rec->body, &e) < 0)
		return BASE_STR_NONE;
	switch (rec->type) {
	case CORE_EV_RUN_STARTED:
		return e.run_started.input.data;
	case CORE_EV_FACT_PUT:
		return e.fact_put.value.data;
	case CORE_EV_STEP_CALLED: /* as the engine: a step that ended at once stands here with its result */
		return e.step_called.status >= CORE_STEP_DONE ? e.step_called.result.data
							      : e.step_called.args.data;
	case CORE_EV_STEP_DONE:
		return e.step_done.result.data;
	case CORE_EV_GATE_OPENED:
		return e.gate_opened.show.data;
	case CORE_EV_RUN_ENDED:
		return e.run_ended.value.data;
	case CORE_EV_SIGNAL_SENT:
		return e.signal_sent.payload.data;
	case CORE_EV_EVENT_PUBLISHED:
		return e.event_published.payload.data;
	default:
		return BASE_STR_NONE;
	}
}

static void append(struct house *h, struct base_str block)
{
	size_t at = 0, base = h->log.len;
	struct core_record rec;

	base_buf_str(&h->log, block);
	for (size_t from = 0; core_block_next(block, &at, &rec) == 1; from = at) {
		uint64_t seq = core_seq(h->core) + 1;

		if (seq >= h->at_cap) {
			h->at_cap = h->at_cap ? h->at_cap * 2 : 1024;
			h->at = realloc(h->at, h->at_cap * sizeof(*h->at));
			assert_non_null(h->at);
		}
		h->at[seq] = base + from;
		core_apply(h->core, seq, &rec, on_act, h);
	}
}

static void fetch(struct house *h, struct core_cmd *cmd)
{
	static struct core_want wants[CORE_WANTS_MAX];
	static struct core_fetched fetched[CORE_WANTS_MAX];
	size_t n = core_prefetch(h->core, cmd, wants, CORE_WANTS_MAX);

	for (size_t i = 0; i < n; i++) {
		fetched[i].seq = wants[i].seq;
		fetched[i].record = record_at(h, wants[i].seq);
		fetched[i].blob = blob_of(&fetched[i].record);
	}
	cmd->fetched = fetched;
	cmd->fetched_count = n;
}

/* Whoever can be admitted now is, before anything else is decided. */
static void admit(struct house *h)
{
	struct core_cmd cmd = {.type = CORE_CMD_TICK, .now_ms = h->now_ms};
	struct core_reply reply;
	struct base_buf block;

	while (core_admit_is_due(h->core)) {
		base_buf_init(&block, 1 << 28);
		h->entropy++;
		memcpy(cmd.entropy, &h->entropy, sizeof(h->entropy));
		fetch(h, &cmd);
		assert_int_equal(core_decide(h->core, &cmd, h->arena, &block, &reply), 0);
		assert_true(block.len > 0);
		append(h, base_buf_view(&block));
		base_buf_done(&block);
		if (!h->unchecked)
			core_check(h->core);
	}
}

void house_do(struct house *h, struct core_cmd cmd)
{
	struct base_buf block;

	cmd.now_ms = h->now_ms;
	h->entropy++;
	memcpy(cmd.entropy, &h->entropy, sizeof(h->entropy));
	if (cmd.by.id.len == 0)
		cmd.by.id = BASE_STR("operator");
	fetch(h, &cmd);
	base_arena_reset(h->arena);
	base_buf_init(&block, 1 << 28);
	h->act_count = 0;
	assert_int_equal(core_decide(h->core, &cmd, h->arena, &block, &h->reply), 0);
	copy(h->reply_text, sizeof(h->reply_text), h->reply.body);
	append(h, base_buf_view(&block));
	base_buf_done(&block);
	if (!h->unchecked)
		core_check(h->core);
	admit(h);
}

const struct house_act *house_act(const struct house *h, enum core_act_type type, size_t nth)
{
	for (size_t i = 0; i < h->act_count; i++)
		if (h->acts[i].type == type && nth-- == 0)
			return &h->acts[i];
	return NULL;
}

void house_tick(struct house *h)
{
	struct house_act *kept = calloc(HOUSE_ACTS_MAX, sizeof(*kept));
	size_t count = 0;

	assert_non_null(kept);
	while (core_next_due(h->core) <= h->now_ms) {
		uint64_t before = core_seq(h->core);
		int64_t due = core_next_due(h->core);

		house_do(h, (struct core_cmd){.type = CORE_CMD_TICK});
		/* a tick that is due makes progress */
		assert_true(core_seq(h->core) > before || core_next_due(h->core) > due);
		memcpy(kept + count, h->acts, h->act_count * sizeof(*kept));
		count += h->act_count;
	}
	memcpy(h->acts, kept, count * sizeof(*kept));
	h->act_count = count;
	free(kept);
}

void house_check(struct house *h)
{
	struct base_hash live = core_state_hash(h->core), folded, restored;
	struct core *c = fresh();
	struct base_buf snap;
	struct base_err err;

	for (uint64_t seq = 1; seq <= core_seq(h->core); seq++) {
		struct core_record rec = record_at(h, seq);

		core_apply(c, seq, &rec, NULL, NULL);
	}
	folded = core_state_hash(c);
	core_free(c);
	assert_memory_equal(&live, &folded, sizeof(live));
	base_buf_init(&snap, 1 << 30);
	assert_int_equal(core_snapshot(h->core, &snap), 0);
	c = fresh();
	if (core_restore(c, base_buf_view(&snap), &err) < 0)
		fail_msg("%s", err.text);
	restored = core_state_hash(c);
	assert_memory_equal(&live, &restored, sizeof(live));
	/* A delayed start whose time has come without an event stands where it stood before. */
	assert_true(core_next_due(c) == core_next_due(h->core) || core_next_due(c) <= h->now_ms);
	core_free(c);
	base_buf_done(&snap);
}

void house_deploy(struct house *h, const char *json)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_DEPLOY, .body = base_str_of(json)});
	if (h->reply.status != 200)
		fail_msg("%s", h->reply_text);
}

uint64_t house_start(struct house *h, const char *flow, const char *input)
{
	house_do(h,
		(struct core_cmd){
			.type = CORE_CMD_RUN_START, .name = base_str_of(flow), .body = base_str_of(input)});
	if (h->reply.status != 201)
		fail_msg("%s", h->reply_text);
	return h->reply.id;
}

void house_call(
	struct house *h, uint64_t run, uint32_t step, const char *action, const char *args, const char *opts)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_FLOW_CALL,
			    .run = run,
			    .step = step,
			    .name = base_str_of(action),
			    .body = base_str_of(args),
			    .params = base_str_of(opts)});
}

void house_result(
	struct house *h, uint64_t run, uint32_t step, uint32_t attempt, unsigned outcome, const char *value)
{
	house_do(h, (struct core_cmd){.type = CORE_CMD_EFFECT_RESULT,
			    .run = run,
			    .step = step,
			    .attempt = attempt,
			    .outcome = outcome,
			    .body = base_str_of(value)});
}

void house_gate(struct house *h, uint64_t gate, const char *answer, const char *value)
{
	struct core_cmd cmd = {.type = CORE_CMD_GATE_DECIDE,
		.id = gate,
		.name = base_str_of(answer),
		.body = base_str_of(value)};
	struct core_record rec =
		record_at(h, core_gate_seq(h->core, gate) ? core_gate_seq(h->core, gate) : 1);
	struct core_gate_opened ev = {0};

	if (core_gate_seq(h->core, gate))
		assert_int_equal(core_gate_opened_get(rec.body, &ev), 0);
	cmd.hash = ev.shown;
	house_do(h, cmd);
}

int house_set_up(void **state, const char *deployment)
{
	struct house *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	init(h);
	house_deploy(h, deployment);
	*state = h;
	return 0;
}

int house_tear_down(void **state)
{
	struct house *h = *state;

	house_check(h);
	done(h);
	free(h);
	return 0;
}
