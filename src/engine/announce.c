#include "engine/engine_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/money.h"
#include "wire/outcome.h"

/*
 * Announcements: a gate that waits is told by the channels of aios.yaml's notify, through aios-connect.
 *
 * Invariants
 *
 * N3 What is told stands in the log before it leaves (gate_announced), and what became of it after (gate_reported). One
 * that has no report is told again after a restart.
 *
 * N4 It holds the gate's title, rule, cost and expiry and a link, never what the gate shows; of a gate that shows private
 * data, and where the channel says show: nothing, not the title either.
 *
 * N5 Nothing is told of a gate that is decided, nor, but for the alarm of a canary, while aios is frozen. A channel that
 * fails delays no other.
 *
 * N6 A channel whose secret lies in a locked vault has not failed: it is told when the vault opens.
 */

enum {
	TRIES_MAX = 8,
	TIMEOUT_MS = 30000,
	TITLE_MAX = 200,
	PAUSE_MS = 2000,
	PAUSE_MAX_MS = 900000,
	LOCKED_MS = 60000
};
enum tell_state { TELL_NEW, TELL_WAITS, TELL_SECRET, TELL_SENT };

struct tell {
	struct engine_out out;
	uint64_t id; /* of this one */
	uint64_t call, gate;
	uint32_t nth;
	unsigned tries;
	enum tell_state state;
	bool locked;   /* waits for the vault */
	int64_t since; /* of its state, monotonic */
};

struct engine_tells {
	struct base_idmap *all;
	uint64_t next;
};

static struct engine_tells *tells(struct engine *e)
{
	if (!e->tells) {
		e->tells = calloc(1, sizeof(*e->tells));
		BASE_CHECK(e->tells && base_idmap_new(&e->tells->all) == 0);
	}
	return e->tells;
}

static void drop(struct engine *e, struct tell *t)
{
	base_idmap_remove(tells(e)->all, t->id);
	free(t);
}

void engine_announce_done(struct engine *e)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	if (!e->tells)
		return;
	while (base_idmap_next(e->tells->all, &cursor, &id, &value))
		free(value);
	base_idmap_free(e->tells->all);
	free(e->tells);
	e->tells = NULL;
}

static void again_in(struct engine *e, struct tell *t, int64_t ms)
{
	t->state = TELL_WAITS;
	t->since = e->mono;
	engine_timer_add(e, ENGINE_TIMER_TELL, t->id, ms);
}

/* --- what became of it --- */

static void report(struct engine *e, struct tell *t, bool ok, struct base_str problem)
{
	struct core_cmd cmd = {.type = CORE_CMD_GATE_REPORT,
		.id = t->gate,
		.step = t->nth,
		.base = ok,
		.body = ok ? BASE_STR_NONE : problem};
	struct core_reply reply;

	if (e->degraded || engine_decide(e, &cmd, &reply) < 0) {
		again_in(e, t, 10000); /* told once more, rather than never reported */
		return;
	}
	if (!ok)
		engine_note(
			2, "gate %" PRIu64 " could not be announced: %.*s", t->gate, BASE_STR_ARG(problem));
	drop(e, t);
}

static void fails(struct engine *e, struct tell *t, const char *code, const char *message)
{
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 4096);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", code);
	base_jw_mcstr(&w, "message", message);
	base_jw_end_obj(&w);
	report(e, t, false, base_buf_view(&b));
	base_buf_done(&b);
}

static void later(struct engine *e, struct tell *t, struct base_str problem, uint32_t retry_after_ms)
{
	int64_t pause = (int64_t)PAUSE_MS << t->tries;

	if (++t->tries >= TRIES_MAX) {
		report(e, t, false, problem);
		return;
	}
	if (pause < retry_after_ms)
		pause = retry_after_ms;
	again_in(e, t, pause > PAUSE_MAX_MS ? PAUSE_MAX_MS : pause);
}

/* --- the text --- */

static struct base_jv notify_of(const struct engine *e)
{
	return e->config ? base_jv_get(base_json_root(e->config), "notify") : (struct base_jv){0};
}

static bool flag(struct base_jv channel, struct base_jv notify, const char *key, bool otherwise)
{
	return base_jv_bool(base_jv_get(channel, key), base_jv_bool(base_jv_get(notify, key), otherwise));
}

/* N4 */
static bool tells_title(struct base_jv channel, struct base_jv notify, const struct core_telling *g)
{
	struct base_str show = base_jv_str(base_jv_get(channel, "show"));

	if ((g->labels & 2) && !base_jv_bool(base_jv_get(channel, "private"), false))
		return false;
	if (!show.len)
		show = base_jv_str(base_jv_get(notify, "show"));
	return !base_str_is(show, "nothing");
}

/* One line, cut; what came from outside loses its addresses, so that nobody follows them from here. */
static void put_line(struct base_buf *b, struct base_str s, bool untrusted)
{
	size_t n, from = b->len;

	for (size_t i = 0; i < s.len && b->len - from < TITLE_MAX; i += n) {
		n = base_utf8_next(base_str_sub(s, i, s.len));
		if (n == 0 || (unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 0x7f) {
			base_buf_char(b, ' ');
			n = n ? n : 1;
		} else if (untrusted && base_str_starts(base_str_sub(s, i, s.len), BASE_STR("://"))) {
			base_buf_cstr(b, ": ");
			n = 3;
		} else {
			base_buf_put(b, s.ptr + i, n);
		}
	}
}

static void put_time(struct base_buf *b, int64_t ms)
{
	time_t s = (time_t)(ms / 1000);
	struct tm tm;
	char text[32];

	if (gmtime_r(&s, &tm) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", &tm))
		base_buf_cstr(b, text);
}

static void put_title(struct base_buf *b, const struct tell *t, const struct core_telling *g, bool title)
{
	base_buf_printf(b, "Gate %" PRIu64 "%s", t->gate, title ? ": " : " waits for you");
	if (title)
		put_line(b, g->title, g->labels & 1);
}

static void put_text(struct base_buf *b, const struct tell *t, const struct core_telling *g, bool title)
{
	if (base_str_is(g->why, "reminder"))
		base_buf_cstr(b, "Still waiting. ");
	else if (base_str_is(g->why, "escalated"))
		base_buf_cstr(b, "Nobody has answered so far. ");
	else if (base_str_is(g->why, "delegated"))
		base_buf_cstr(b, "It was put to you. ");
	if (title && g->rule.len) {
		base_buf_cstr(b, "Rule: ");
		put_line(b, g->rule, false);
		base_buf_cstr(b, ". ");
	}
	if (g->cost > 0) {
		base_buf_cstr(b, "Costs up to ");
		base_money_put(b, g->cost);
		base_buf_cstr(b, ". ");
	}
	if (g->expires_ms) {
		base_buf_cstr(b, "Expires ");
		put_time(b, g->expires_ms);
		base_buf_cstr(b, ". ");
	}
	if (g->labels & 1)
		base_buf_cstr(b, "It shows data from outside. ");
	base_buf_printf(b,
		g->sign ? "Approve it in the console or with: aios approve %" PRIu64
			: "In a shell: aios gates %" PRIu64,
		t->gate);
}

/* --- on the way out --- */

struct parts {
	struct base_buf title, text, link, args, config;
};

static void parts_init(struct parts *p)
{
	base_buf_init(&p->title, 4096);
	base_buf_init(&p->text, 8192);
	base_buf_init(&p->link, 4096);
	base_buf_init(&p->args, 1 << 21);
	base_buf_init(&p->config, 1 << 21);
}

static void parts_done(struct parts *p)
{
	base_buf_done(&p->title);
	base_buf_done(&p->text);
	base_buf_done(&p->link);
	base_buf_done(&p->args);
	base_buf_done(&p->config);
}

static void put_section(struct engine *e, struct base_jw *w, const char *name)
{
	struct base_jv v = base_jv_get(base_json_root(e->config), name);

	if (base_jv_kind(v) != BASE_JSON_OBJ)
		return;
	base_jw_key(w, name);
	base_jw_value(w, v);
}

static void build_mail(struct engine *e, struct base_jv channel, struct parts *p)
{
	struct base_jw w = base_jw_of(&p->args);

	base_buf_cstr(&p->text, "\n");
	if (p->link.len) {
		base_buf_cstr(&p->text, "\n");
		base_buf_str(&p->text, base_buf_view(&p->link));
		base_buf_cstr(&p->text, "\n");
	}
	base_jw_obj(&w);
	base_jw_mstr(&w, "subject", base_buf_view(&p->title));
	base_jw_mstr(&w, "text", base_buf_view(&p->text));
	base_jw_mstr(&w, "to", base_jv_str(base_jv_get(channel, "address")));
	base_jw_end_obj(&w);
	w = base_jw_of(&p->config);
	base_jw_obj(&w);
	base_jw_mint(&w, "now_ms", core_time_ms(e->core));
	put_section(e, &w, "mail");
	base_jw_end_obj(&w);
}

static struct base_str url_of(struct base_jv channel)
{
	struct base_str url = base_jv_str(base_jv_get(channel, "url"));

	return url.len || !base_str_is(base_jv_str(base_jv_get(channel, "kind")), "telegram")
		       ? url
		       : BASE_STR("https://api.telegram.org");
}

static void build_post(struct engine *e, const struct tell *t, const struct core_telling *g,
	struct base_jv channel, struct parts *p)
{
	static const char *const same[] = {"kind", "topic", "chat", "ca"};
	struct base_jw w = base_jw_of(&p->args);
	char id[64];

	base_jw_obj(&w);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		if (base_jv_str(base_jv_get(channel, same[i])).len)
			base_jw_mstr(&w, same[i], base_jv_str(base_jv_get(channel, same[i])));
	snprintf(id, sizeof(id), "gate_%" PRIu64 "_%u", t->gate, t->nth);
	base_jw_mstr(&w, "url", url_of(channel));
	base_jw_mcstr(&w, "id", id);
	base_jw_mint(&w, "gate", (int64_t)t->gate);
	base_jw_mstr(&w, "why", g->why);
	base_jw_mint(&w, "at_s", engine_wall_ms() / 1000);
	base_jw_mstr(&w, "title", base_buf_view(&p->title));
	base_jw_mstr(&w, "text", base_buf_view(&p->text));
	if (p->link.len)
		base_jw_mstr(&w, "click", base_buf_view(&p->link));
	base_jw_end_obj(&w);
	w = base_jw_of(&p->config);
	base_jw_obj(&w);
	base_jw_end_obj(&w);
	(void)e;
}

static bool is_mail(struct base_jv channel)
{
	return base_str_is(base_jv_str(base_jv_get(channel, "kind")), "mail");
}

static struct base_str action_of(struct base_jv channel)
{
	return is_mail(channel) ? BASE_STR("mail.send") : BASE_STR("notify.post");
}

static void transmit(struct engine *e, struct tell *t, const struct core_telling *g, struct base_jv channel,
	struct base_str secret)
{
	struct engine_proc *proc = engine_proc_of(e, ENGINE_CONNECT, 0);
	struct base_buf *b = proc->state == ENGINE_UP ? engine_proc_begin(e, proc, WIRE_EFFECT) : NULL;
	struct base_jv notify = notify_of(e);
	bool title = tells_title(channel, notify, g);
	struct parts p;
	char key[64];

	if (!b) {
		again_in(e, t, 1000);
		return;
	}
	parts_init(&p);
	put_title(&p.title, t, g, title);
	put_text(&p.text, t, g, title);
	if (flag(channel, notify, "links", true))
		engine_link_put(e, t->gate, t->nth, g->to, g->expires_ms, &p.link);
	if (is_mail(channel))
		build_mail(e, channel, &p);
	else
		build_post(e, t, g, channel, &p);
	snprintf(key, sizeof(key), "announce-%" PRIu64 "-%u", t->gate, t->nth);
	wire_effect_put(b, &(struct wire_effect){.call = t->call,
				   .action = action_of(channel),
				   .key = base_str_of(key),
				   .args = base_buf_view(&p.args),
				   .config = base_buf_view(&p.config),
				   .secret = secret,
				   .timeout_ms = TIMEOUT_MS});
	engine_proc_send(e, proc);
	t->state = TELL_SENT;
	t->since = e->mono;
	engine_timer_add(e, ENGINE_TIMER_TELL, t->id, TIMEOUT_MS + 5000);
	parts_done(&p);
}

/* The channel of an announcement that may leave now; false: it is dealt with. */
static bool ready(struct engine *e, struct tell *t, struct core_telling *g, struct base_jv *ret_channel)
{
	if (!core_tell_get(e->core, t->gate, t->nth, g)) {
		drop(e, t); /* decided, or told anew */
		return false;
	}
	if (core_is_frozen(e->core) && !base_str_is(g->kind, "canary")) { /* it is why aios is frozen */
		again_in(e, t, 10000);
		return false;
	}
	if (!g->known) {
		fails(e, t, "unknown_channel", "the configuration has no such channel any more");
		return false;
	}
	*ret_channel = base_jv_get_str(base_jv_get(notify_of(e), "channels"), g->channel);
	if (base_jv_kind(*ret_channel) == BASE_JSON_OBJ)
		return true;
	again_in(e, t, 100); /* the configuration is about to be loaded */
	return false;
}

/* N6. The vault may have been locked before the core knew. */
static void wait_for_vault(struct engine *e, struct tell *t)
{
	again_in(e, t, LOCKED_MS);
	t->locked = true;
	engine_vault_is_locked(e);
}

void engine_announce_unlocked(struct engine *e)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (e->tells && base_idmap_next(e->tells->all, &cursor, &id, &value))
		if (((struct tell *)value)->locked)
			engine_timer_add(e, ENGINE_TIMER_TELL, id, 0);
}

static void on_secret(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	uint64_t id = *(uint64_t *)userdata;
	struct tell *t = base_idmap_get(tells(e)->all, id);
	struct core_telling g;
	struct base_jv channel;

	free(userdata);
	if (!t || t->state != TELL_SECRET || !ready(e, t, &g, &channel))
		return;
	if (status == 1)
		transmit(e, t, &g, channel, sealed);
	else if (status == 0 && engine_is_locked_problem(value))
		wait_for_vault(e, t);
	else if (status == 0)
		report(e, t, false, value);
	else
		later(e, t, BASE_STR("{\"code\":\"vault\",\"message\":\"the vault does not answer\"}"), 0);
}

static bool secret_of(
	struct engine *e, struct base_jv channel, struct base_str *ret_name, struct base_str *ret_host)
{
	struct base_jv mail = base_jv_get(base_json_root(e->config), "mail"), smtp;

	if (!is_mail(channel)) {
		*ret_name = base_jv_str(base_jv_get(channel, "secret"));
		*ret_host = engine_host_of(url_of(channel));
		return ret_name->len > 0;
	}
	if (!base_str_is(base_jv_str(base_jv_get(mail, "transport")), "smtp"))
		return false;
	smtp = base_jv_get(mail, "smtp");
	*ret_name = base_jv_str(base_jv_get(smtp, "secret"));
	*ret_host = engine_host_of(base_jv_str(base_jv_get(smtp, "url")));
	return ret_name->len > 0;
}

static void attempt(struct engine *e, struct tell *t)
{
	struct engine_proc *p = engine_proc_of(e, ENGINE_CONNECT, 0);
	struct base_str name, host;
	struct core_telling g;
	struct base_jv channel;
	struct base_buf b;
	uint64_t req, *box;

	if (e->stopping || !ready(e, t, &g, &channel))
		return;
	t->locked = false;
	if (p->state != ENGINE_UP || !engine_canaries_ready(e, p)) {
		again_in(e, t, 1000);
		return;
	}
	t->call = ++e->next_call;
	if (!secret_of(e, channel, &name, &host)) {
		transmit(e, t, &g, channel, BASE_STR_NONE);
		return;
	}
	t->state = TELL_SECRET;
	t->since = e->mono;
	box = malloc(sizeof(*box));
	BASE_CHECK(box);
	*box = t->id;
	req = engine_ask_next(e);
	base_buf_init(&b, 1 << 16);
	wire_vault_release_put(
		&b, &(struct wire_vault_release){.req = req,
			    .call = t->call,
			    .name = name,
			    .host = host,
			    .action = action_of(channel),
			    .recipient = {p->public_key, p->has_key ? sizeof(p->public_key) : 0}});
	engine_ask(e, ENGINE_VAULT, WIRE_VAULT_RELEASE, req, &b, 10000, on_secret, box);
	base_buf_done(&b);
}

static void on_release(struct engine *e, struct engine_out *o)
{
	struct tell *t = (struct tell *)o;

	t->id = ++tells(e)->next;
	BASE_CHECK(base_idmap_put(tells(e)->all, t->id, t) == 0);
	attempt(e, t);
}

static void on_discard(struct engine *e, struct engine_out *o, int code)
{
	(void)e;
	(void)code;
	free(o);
}

static bool is_known(struct engine *e, uint64_t gate, uint32_t nth)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (base_idmap_next(tells(e)->all, &cursor, &id, &value))
		if (((struct tell *)value)->gate == gate && ((struct tell *)value)->nth == nth)
			return true;
	return false;
}

void engine_announce(struct engine *e, const struct core_act *act)
{
	struct tell *t;

	if (is_known(e, act->id, act->step))
		return; /* the state was loaded again */
	t = calloc(1, sizeof(*t));
	BASE_CHECK(t);
	t->out.release = on_release;
	t->out.discard = on_discard;
	t->gate = act->id;
	t->nth = act->step;
	engine_after_commit(e, &t->out);
}

/* --- answers --- */

bool engine_announce_result(struct engine *e, const struct wire_effect_result *r)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (base_idmap_next(tells(e)->all, &cursor, &id, &value)) {
		struct tell *t = value;

		if (t->state != TELL_SENT || t->call != r->call)
			continue;
		if (r->outcome == WIRE_DONE)
			report(e, t, true, BASE_STR_NONE);
		else if (r->outcome == WIRE_FAILED)
			report(e, t, false, r->value);
		else
			later(e, t, r->value, r->retry_after_ms);
		return true;
	}
	return false;
}

void engine_announce_canary(struct engine *e, const struct wire_canary_met *f)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (e->tells && base_idmap_next(e->tells->all, &cursor, &id, &value)) {
		const struct tell *t = value;
		struct core_telling g;

		if (t->state != TELL_SENT || t->call != f->call)
			continue;
		engine_canary_met(e, f->name, f->where, BASE_STR("the announcement of a gate"),
			core_tell_get(e->core, t->gate, t->nth, &g) ? g.run : 0, 0);
		return;
	}
}

/* A pause is over, or an answer did not come. */
void engine_announce_due(struct engine *e, uint64_t id)
{
	struct tell *t = base_idmap_get(tells(e)->all, id);

	if (!t)
		return;
	if (t->state == TELL_WAITS)
		attempt(e, t);
	else if (t->state == TELL_SENT && e->mono - t->since >= TIMEOUT_MS + 5000)
		later(e, t, BASE_STR("{\"code\":\"timeout\",\"message\":\"no answer in time\"}"), 0);
}

/* The connector died. */
void engine_announce_down(struct engine *e)
{
	size_t cursor = 0;
	uint64_t id;
	void *value;

	while (e->tells && base_idmap_next(e->tells->all, &cursor, &id, &value)) {
		struct tell *t = value;

		if (t->state == TELL_SENT || t->state == TELL_SECRET)
			again_in(e, t, PAUSE_MS);
	}
}
