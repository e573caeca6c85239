#include "sim/sim_int.h"

#include <stdio.h>

/* aios-parse (sources are JSON already), aios-vault (has no secret), aios-views (keeps what it was sent, and says if a
 * block is missing, comes twice or was never committed). */

static void on_parse(struct sim_proc *p, struct base_str body)
{
	struct wire_parse f;

	struct base_buf b;

	BASE_CHECK(wire_parse_get(body, &f) == 0);
	base_buf_init(&b, 1 << 20);
	/* Of a policy every value's place goes along; here nothing has one. */
	if (base_str_is(f.format, "policy"))
		base_buf_printf(&b, "{\"marks\":{},\"value\":%.*s}", BASE_STR_ARG(f.input));
	else
		base_buf_str(&b, f.input);
	BASE_CHECK(base_buf_failed(&b) == 0);
	wire_parsed_put(sim_send_begin(p),
		&(struct wire_parsed){.req = f.req, .ok = 1, .value = sim_dup(p->s, base_buf_view(&b))});
	base_buf_done(&b);
	sim_send_end(p, WIRE_PARSED, 200);
}

static void on_vault(struct sim_proc *p, unsigned type, struct base_str body)
{
	struct wire_vault_reply reply = {.ok = 1, .value = BASE_STR("{}"), .sealed = BASE_STR("sealed")};
	struct wire_vault_status status;
	struct wire_vault_canaries canaries;
	struct wire_vault_release release;

	if (type == WIRE_VAULT_RELEASE && wire_vault_release_get(body, &release) == 0)
		reply.req = release.req;
	else if (type == WIRE_VAULT_STATUS && wire_vault_status_get(body, &status) == 0)
		reply = (struct wire_vault_reply){
			.req = status.req, .ok = 1, .value = BASE_STR("{\"state\":\"open\"}")};
	else if (type == WIRE_VAULT_CANARIES && wire_vault_canaries_get(body, &canaries) == 0)
		reply.req = canaries.req;
	else
		return;
	wire_vault_reply_put(sim_send_begin(p), &reply);
	sim_send_end(p, WIRE_VAULT_REPLY, 200);
}

static void on_block(struct sim_proc *p, struct base_str body)
{
	struct sim *s = p->s;
	struct wire_views_block f;
	struct core_record rec;
	uint64_t seq;
	size_t at = 0;

	BASE_CHECK(wire_views_block_get(body, &f) == 0);
	if (f.first_seq != p->at + 1 && f.first_seq > p->at)
		sim_broken(s, SIM_SAFETY, "views.gap", "the views are sent event %llu after event %llu",
			(unsigned long long)f.first_seq, (unsigned long long)p->at);
	for (seq = f.first_seq; core_block_next(f.block, &at, &rec) == 1; seq++)
		if (seq > s->audit.seq)
			sim_broken(s, SIM_SAFETY, "views.early",
				"the views are sent event %llu before it is durable",
				(unsigned long long)seq);
	if (seq - 1 > p->at)
		p->at = seq - 1;
	s->views_at = p->at;
	wire_views_at_put(sim_send_begin(p), &(struct wire_views_at){.seq = p->at});
	sim_send_end(p, WIRE_VIEWS_AT, 300);
}

struct question {
	struct sim_proc *p;
	struct base_str body;
};

static void on_query(struct sim_proc *p, struct base_str body);

static void ask_again(struct sim *s, void *a, uint64_t b)
{
	struct question *q = a;

	(void)s;
	(void)b;
	if (q->p->alive)
		on_query(q->p, q->body);
}

/* Like the real one it answers when its tables include what the question says. */
static void answer_later(struct sim_proc *p, struct base_str body)
{
	struct question *q = sim_alloc(p->s, sizeof(*q));

	q->p = p;
	q->body = sim_dup(p->s, body);
	sim_later(p->s, 5000, true, ask_again, q, 0);
}

static void on_query(struct sim_proc *p, struct base_str body)
{
	struct sim *s = p->s;
	struct wire_views_query f;
	struct base_json *doc = NULL;
	const struct sim_run_seen *r;
	char text[256];
	uint64_t run;

	BASE_CHECK(wire_views_query_get(body, &f) == 0);
	if (f.at_least > p->at) {
		answer_later(p, body);
		return;
	}
	BASE_CHECK(base_json_parse(f.params, &doc, NULL) == 0);
	run = (uint64_t)base_jv_int(base_jv_get(base_json_root(doc), "run"), 0);
	base_json_free(doc);
	r = run ? sim_run_seen(s, run) : NULL;
	if (base_str_is(f.query, "run") && r)
		snprintf(text, sizeof(text), "{\"run\":%llu,\"state\":\"%s\",\"value\":null}",
			(unsigned long long)run,
			r->outcome == CORE_DONE	    ? "done"
			: r->outcome == CORE_FAILED ? "failed"
			: r->outcome		    ? "cancelled"
						    : "active");
	else
		snprintf(text, sizeof(text), "{\"items\":[]}");
	wire_views_answer_put(sim_send_begin(p),
		&(struct wire_views_answer){.req = f.req, .ok = 1, .value = base_str_of(text)});
	sim_send_end(p, WIRE_VIEWS_ANSWER, 500);
}

void sim_help_frame(struct sim_proc *p, unsigned type, struct base_str body)
{
	if (p->kind == ENGINE_PARSE && type == WIRE_PARSE)
		on_parse(p, body);
	else if (p->kind == ENGINE_VAULT)
		on_vault(p, type, body);
	else if (p->kind == ENGINE_VIEWS && type == WIRE_VIEWS_BLOCK)
		on_block(p, body);
	else if (p->kind == ENGINE_VIEWS && type == WIRE_VIEWS_QUERY)
		on_query(p, body);
}
