#include <string.h>

#include "cli/cli_int.h"

/* Several gates at once: each with the hash of what it shows, each decided on its own. Delegation; links. */

struct several {
	struct base_buf items;
	struct base_jw w;
	unsigned count;
};

static void begin(struct several *s)
{
	base_buf_init(&s->items, CLI_BODY_MAX);
	s->w = base_jw_of(&s->items);
	base_jw_obj(&s->w);
	base_jw_key(&s->w, "items");
	base_jw_arr(&s->w);
	s->count = 0;
}

static void add(struct cli *c, struct several *s, const char *answer, struct base_jv g)
{
	base_jw_obj(&s->w);
	base_jw_mint(&s->w, "gate", base_jv_int(base_jv_get(g, "gate"), 0));
	base_jw_mstr(&s->w, "shown", base_jv_str(base_jv_get(g, "shown")));
	base_jw_mcstr(&s->w, "answer", answer);
	if (cli_opt(c, "reason"))
		base_jw_mcstr(&s->w, "reason", cli_opt(c, "reason"));
	base_jw_end_obj(&s->w);
	s->count++;
	if (c->json)
		return;
	cli_put(c, "%s%lld%s  ", cli_paint(c, "bold"), (long long)base_jv_int(base_jv_get(g, "gate"), 0),
		cli_paint(c, "off"));
	cli_text(c, base_jv_str(base_jv_get(g, "flow")));
	cli_put(c, "  ");
	cli_text(c, base_jv_str(base_jv_get(g, "title")));
	cli_put(c, "\n");
}

/* What nobody decides without looking at it is left out. */
static bool is_simple(struct base_jv g)
{
	static const char *const kinds[] = {"approve", "policy", "budget", "retry"};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (base_str_is(base_jv_str(base_jv_get(g, "kind")), kinds[i]))
			return true;
	return false;
}

static int collect_all(struct cli *c, struct several *s, const char *answer)
{
	const char *flow = cli_opt(c, "flow");
	struct base_jv_iter it = {0};
	struct cli_answer a;
	struct base_str key;
	struct base_jv g;
	int r = cli_call(c, "GET", "/v1/gates?mine=1", NULL, &a);

	if (r != 0)
		return r;
	while (base_jv_next(cli_list(a.root, "gates"), &it, &key, &g))
		if (is_simple(g) && s->count < 200 &&
			(!flow || base_str_is(base_jv_str(base_jv_get(g, "flow")), flow)))
			add(c, s, answer, g);
	cli_answer_done(&a);
	return 0;
}

static int collect_given(struct cli *c, struct several *s, const char *answer)
{
	for (unsigned i = 0; i < c->arg_count; i++) {
		struct cli_answer a;
		int r = cli_call(c, "GET", cli_path(c, "/v1/gates/", c->args[i], ""), NULL, &a);

		if (r != 0)
			return r;
		add(c, s, answer, a.root);
		cli_answer_done(&a);
	}
	return 0;
}

static int send(struct cli *c, struct several *s)
{
	struct base_jv_iter it = {0};
	struct cli_answer a;
	struct base_str key;
	struct base_jv v;
	int r = cli_call(c, "POST", "/v1/gates/decide", &s->items, &a), failed = 0;

	if (r != 0)
		return r;
	while (base_jv_next(cli_list(a.root, "items"), &it, &key, &v)) {
		bool bad = base_jv_int(base_jv_get(v, "status"), 500) >= 400;
		struct base_jv result = base_jv_get(v, "result");
		struct base_str voted = base_jv_str(base_jv_get(result, "voted"));

		failed += bad;
		if (c->json)
			continue;
		cli_put(c, "gate %lld: ", (long long)base_jv_int(base_jv_get(v, "gate"), 0));
		cli_text(c, bad		? base_jv_str(base_jv_get(base_jv_get(v, "problem"), "message"))
			    : voted.len ? voted
					: base_jv_str(base_jv_get(result, "answer")));
		cli_put(c, voted.len ? " (others must agree)\n" : "\n");
	}
	(void)cli_print_json(c, &a);
	cli_answer_done(&a);
	return failed ? CLI_FAILED : CLI_OK;
}

int cli_decide_several(struct cli *c, const char *answer)
{
	bool all = cli_flag(c, "all");
	struct several s;
	int r;

	if (all == (c->arg_count > 0))
		return cli_usage(c, "say which gates, or --all");
	if (cli_opt(c, "edit") || cli_opt(c, "value"))
		return cli_usage(c, "an edit is for one gate");
	begin(&s);
	r = all ? collect_all(c, &s, answer) : collect_given(c, &s, answer);
	base_jw_end_arr(&s.w);
	base_jw_end_obj(&s.w);
	if (r == 0 && s.count == 0)
		cli_put(c, c->json ? "{\"items\":[]}\n" : "nothing waits for you\n");
	else if (r == 0 && all && !cli_flag(c, "yes"))
		cli_put(c,
			c->json ? "{\"items\":[],\"would_be\":%u}\n"
				: "nothing was decided: with --yes these %u are\n",
			s.count);
	else if (r == 0)
		r = send(c, &s);
	base_buf_done(&s.items);
	return r;
}

int cmd_delegate(struct cli *c)
{
	struct base_buf body;
	struct cli_answer a;
	struct base_jw w;
	int r;

	base_buf_init(&body, CLI_BODY_MAX);
	w = base_jw_of(&body);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "to", c->args[1]);
	if (cli_opt(c, "reason"))
		base_jw_mcstr(&w, "reason", cli_opt(c, "reason"));
	base_jw_end_obj(&w);
	r = cli_call(c, "POST", cli_path(c, "/v1/gates/", c->args[0], "/delegate"), &body, &a);
	base_buf_done(&body);
	if (r != 0)
		return r;
	if (!cli_print_json(c, &a))
		cli_put(c, "gate %s is put to %s\n", c->args[0], c->args[1]);
	cli_answer_done(&a);
	return CLI_OK;
}

int cmd_links_rotate(struct cli *c)
{
	return cli_act(c, "/v1/links/rotate", "every link that was sent so far is dead");
}
