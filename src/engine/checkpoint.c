#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/money.h"
#include "engine/checkpoint.h"
#include "wire/outcome.h"

/*
 * Signed checkpoints of the log: made by the vault when something has happened and audit.every is over, or when somebody
 * asks; sent to the places of audit.checkpoints, which aios cannot rewrite.
 *
 * Invariants
 *
 * Z1 What is signed is durable: a position at which a commit ends, and the chain there. The signature is verified before it is
 * recorded (checkpoint_signed), and recorded before it is sent.
 *
 * Z2 A place gets the newest, again and again until it has it; the log says when a place begins to fail and when it has one.
 *
 * Z3 While the vault is locked none is made, which status and `aios audit checkpoint` say; the next look tries again.
 */

static const int64_t every_default = 3600000;
enum { CALL_MS = 30000, PAUSE_MS = 15000, PAUSE_MAX_MS = 3600000 };

struct engine_checks *engine_checks(struct engine *e)
{
	if (!e->checks) {
		e->checks = calloc(1, sizeof(*e->checks));
		BASE_CHECK(e->checks);
	}
	return e->checks;
}

static struct base_jv settings(const struct engine *e)
{
	return e->config ? base_jv_get(base_json_root(e->config), "audit") : (struct base_jv){0};
}

/* --- as text --- */

void engine_put_checkpoint(struct base_jw *w, const struct core_checkpoint_signed *k)
{
	struct base_buf b;

	base_buf_init(&b, 1024);
	base_jw_key(w, "checkpoint");
	base_jw_uint(w, k->seq);
	base_jw_mstr(w, "log", k->log);
	base_jw_mhash(w, "chain", &k->root);
	base_jw_mint(w, "time", k->signed_ms);
	base_hex_put(&b, k->public_key);
	base_jw_mstr(w, "public_key", base_buf_view(&b));
	base_buf_clear(&b);
	base_hex_put(&b, k->signature);
	base_jw_mstr(w, "signature", base_buf_view(&b));
	base_buf_done(&b);
}

void engine_checkpoint_text(
	struct base_buf *b, struct base_str log, uint64_t seq, const struct base_hash *chain, int64_t at_ms)
{
	char hex[65];

	base_hash_hex(chain, hex);
	base_buf_printf(b, "aios checkpoint 1\nlog %.*s\nseq %" PRIu64 "\nchain %s\ntime %" PRId64 "\n",
		BASE_STR_ARG(log), seq, hex, at_ms);
}

bool engine_checkpoint_holds(struct base_str text, struct base_str key, struct base_str signature)
{
	static const struct base_str domain = {"aios/1/checkpoint", 18}; /* with the zero byte */
	struct base_buf b;
	bool ok;

	if (key.len != crypto_sign_PUBLICKEYBYTES || signature.len != crypto_sign_BYTES)
		return false;
	base_buf_init(&b, 4096);
	base_buf_str(&b, domain);
	base_buf_str(&b, text);
	ok = !base_buf_failed(&b) && crypto_sign_verify_detached((const uint8_t *)signature.ptr,
					     (const uint8_t *)b.ptr, b.len, (const uint8_t *)key.ptr) == 0;
	base_buf_done(&b);
	return ok;
}

/* The newest, from the log. False: there is none, or it cannot be read. Views until the next read. */
static bool newest(struct engine *e, struct core_checkpoint_signed *ret)
{
	struct core_checkpoint_info info;
	union core_event_any ev;
	struct core_record rec;

	core_checkpoint_get(e->core, &info);
	if (!info.seq || engine_read_event(e, info.at, &rec) < 0 || rec.type != CORE_EV_CHECKPOINT_SIGNED ||
		core_event_get(rec.type, rec.body, &ev) < 0)
		return false;
	*ret = ev.checkpoint_signed;
	return true;
}

static void put_line(struct base_buf *b, const struct core_checkpoint_signed *k)
{
	struct base_jw w = base_jw_of(b);

	base_jw_obj(&w);
	engine_put_checkpoint(&w, k);
	base_jw_end_obj(&w);
}

/* --- the places --- */

/* As the configuration has it; kind NONE: it has none of that name. */
static struct base_jv place_of(const struct engine *e, const char *name)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	while (base_jv_next(base_jv_get(settings(e), "checkpoints"), &it, &none, &v))
		if (base_str_is(base_jv_str(base_jv_get(v, "name")), name))
			return v;
	return (struct base_jv){0};
}

/* Its slot, or a free one: of no place, or of one that the configuration has no more. NULL: all are busy. */
static struct engine_place *place_named(struct engine *e, struct base_str name)
{
	struct engine_checks *c = engine_checks(e);

	for (size_t i = 0; i < ENGINE_PLACES_MAX; i++)
		if (c->place[i].name[0] && base_str_is(name, c->place[i].name))
			return &c->place[i];
	for (size_t i = 0; i < ENGINE_PLACES_MAX; i++) {
		struct engine_place *p = &c->place[i];

		if (p->name[0] &&
			(p->state != PLACE_IDLE || base_jv_kind(place_of(e, p->name)) == BASE_JSON_OBJ))
			continue;
		base_buf_done(&p->line);
		*p = (struct engine_place){.state = PLACE_IDLE};
		snprintf(p->name, sizeof(p->name), "%.*s", BASE_STR_ARG(name));
		return p;
	}
	return NULL;
}

static void sent(struct engine *e, struct engine_place *p, bool ok, struct base_str problem)
{
	struct core_cmd cmd = {.type = CORE_CMD_CHECKPOINT_SENT,
		.id = p->seq,
		.name = base_str_of(p->name),
		.base = ok,
		.body = ok ? BASE_STR_NONE : problem,
		.by = {.id = BASE_STR("operator")}};
	int64_t pause = (int64_t)PAUSE_MS << (p->tries < 8 ? p->tries : 8);
	struct core_reply r;
	bool failed;

	p->state = PLACE_IDLE;
	p->tries = ok ? 0 : p->tries + 1;
	p->not_before = ok ? 0 : e->mono + (pause < PAUSE_MAX_MS ? pause : PAUSE_MAX_MS);
	core_place_get(e->core, base_str_of(p->name), &failed);
	if (!ok)
		engine_note(2, "checkpoint %" PRIu64 " could not be sent to %s: %.*s", p->seq, p->name,
			BASE_STR_ARG(problem));
	if (ok || !failed) /* Z2: when it begins to fail, not each time */
		if (engine_decide(e, &cmd, &r) < 0)
			p->not_before = e->mono + PAUSE_MS;
}

static void sent_problem(struct engine *e, struct engine_place *p, const char *code, const char *text)
{
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 4096);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", code);
	base_jw_mcstr(&w, "message", text);
	base_jw_end_obj(&w);
	sent(e, p, false, base_buf_view(&b));
	base_buf_done(&b);
}

/* A line at the end of FOLDER/checkpoints-LOG.jsonl; the folder must be there: what is not mounted is not written to. */
static void file_work(void *owner)
{
	struct engine_place *p = owner;
	int dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
	struct stat st = {0};
	ssize_t n = -1;

	if (dir >= 0)
		fd = openat(dir, p->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd >= 0 && fstat(fd, &st) == 0)
		n = write(fd, p->line.ptr, p->line.len);
	/* Half a line would spoil the one that comes behind it, too. */
	if (n >= 0 && (size_t)n != p->line.len && ftruncate(fd, st.st_size) < 0)
		n = -1;
	p->rc = fd < 0 || n < 0 ? -errno : (size_t)n != p->line.len ? -ENOSPC : 0;
	if (p->rc == 0 && (fsync(fd) < 0 || fsync(dir) < 0))
		p->rc = -errno;
	if (fd >= 0)
		close(fd);
	if (dir >= 0)
		close(dir);
}

static void file_done(struct engine *e, void *owner)
{
	struct engine_place *p = owner;

	if (p->rc == 0)
		sent(e, p, true, BASE_STR_NONE);
	else
		sent_problem(e, p, "file", strerror(-p->rc));
}

static void to_file(struct engine *e, struct engine_place *p, struct base_jv place, struct base_str line)
{
	struct base_str path = base_jv_str(base_jv_get(place, "path"));

	snprintf(p->path, sizeof(p->path), "%.*s", BASE_STR_ARG(path));
	snprintf(p->file, sizeof(p->file), "checkpoints-%s.jsonl", log_id(e->log));
	base_buf_done(&p->line);
	base_buf_init(&p->line, 1 << 16);
	base_buf_str(&p->line, line);
	base_buf_char(&p->line, '\n');
	p->job = (struct engine_job){.work = file_work, .done = file_done, .owner = p};
	p->state = PLACE_FILE;
	if (engine_job_start(e, &p->job) < 0)
		sent_problem(e, p, "file", "no thread could be started");
}

/* --- by mail or HTTP, through aios-connect --- */

static bool is_mail(struct base_jv place)
{
	return base_str_is(base_jv_str(base_jv_get(place, "to")), "mail");
}

static void put_mail(struct engine *e, struct base_jv place, const struct engine_place *p,
	struct base_buf *args, struct base_buf *config)
{
	struct base_jv mail = base_jv_get(base_json_root(e->config), "mail");
	struct base_jw w = base_jw_of(args);
	char subject[80];

	snprintf(subject, sizeof(subject), "aios checkpoint of event %" PRIu64, p->seq);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "subject", subject);
	base_jw_mstr(&w, "text", base_buf_view(&p->line));
	base_jw_mstr(&w, "to", base_jv_str(base_jv_get(place, "address")));
	base_jw_end_obj(&w);
	w = base_jw_of(config);
	base_jw_obj(&w);
	base_jw_mint(&w, "now_ms", core_time_ms(e->core));
	if (base_jv_kind(mail) == BASE_JSON_OBJ) {
		base_jw_key(&w, "mail");
		base_jw_value(&w, mail);
	}
	base_jw_end_obj(&w);
}

static void put_post(struct base_jv place, const struct engine_place *p, struct base_buf *args)
{
	struct base_jw w = base_jw_of(args);
	char id[64];

	snprintf(id, sizeof(id), "checkpoint_%" PRIu64, p->seq);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "kind", "checkpoint");
	base_jw_mstr(&w, "url", base_jv_str(base_jv_get(place, "url")));
	if (base_jv_str(base_jv_get(place, "ca")).len)
		base_jw_mstr(&w, "ca", base_jv_str(base_jv_get(place, "ca")));
	base_jw_mcstr(&w, "id", id);
	base_jw_mint(&w, "at_s", engine_wall_ms() / 1000);
	base_jw_mstr(&w, "text", base_buf_view(&p->line));
	base_jw_end_obj(&w);
}

static void transmit(struct engine *e, struct engine_place *p, struct base_str secret)
{
	struct engine_proc *proc = engine_proc_of(e, ENGINE_CONNECT, 0);
	struct base_buf args, config, *b;
	struct base_jv place = place_of(e, p->name);

	b = proc->state == ENGINE_UP && base_jv_kind(place) == BASE_JSON_OBJ
		    ? engine_proc_begin(e, proc, WIRE_EFFECT)
		    : NULL;
	if (!b) {
		p->state = PLACE_IDLE;
		p->not_before = e->mono + PAUSE_MS;
		return;
	}
	base_buf_init(&args, 1 << 21);
	base_buf_init(&config, 1 << 21);
	if (is_mail(place)) {
		put_mail(e, place, p, &args, &config);
	} else {
		put_post(place, p, &args);
		base_buf_cstr(&config, "{}");
	}
	snprintf(p->key, sizeof(p->key), "checkpoint-%" PRIu64 "-%s", p->seq, p->name);
	wire_effect_put(b, &(struct wire_effect){.call = p->call,
				   .action = is_mail(place) ? BASE_STR("mail.send") : BASE_STR("notify.post"),
				   .key = base_str_of(p->key),
				   .args = base_buf_view(&args),
				   .config = base_buf_view(&config),
				   .secret = secret,
				   .timeout_ms = CALL_MS});
	engine_proc_send(e, proc);
	p->state = PLACE_SENT;
	p->since = e->mono;
	base_buf_done(&args);
	base_buf_done(&config);
}

static void on_secret(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_place *p = userdata;

	if (p->state != PLACE_SECRET)
		return;
	if (status == 1)
		transmit(e, p, sealed);
	else
		sent(e, p, false,
			status == 0 ? value : BASE_STR("{\"code\":\"vault\",\"message\":\"no answer\"}"));
}

static bool secret_of(
	struct engine *e, struct base_jv place, struct base_str *ret_name, struct base_str *ret_host)
{
	struct base_jv mail = base_jv_get(base_json_root(e->config), "mail"), smtp;

	if (!is_mail(place)) {
		*ret_name = base_jv_str(base_jv_get(place, "secret"));
		*ret_host = engine_host_of(base_jv_str(base_jv_get(place, "url")));
		return ret_name->len > 0;
	}
	if (!base_str_is(base_jv_str(base_jv_get(mail, "transport")), "smtp"))
		return false;
	smtp = base_jv_get(mail, "smtp");
	*ret_name = base_jv_str(base_jv_get(smtp, "secret"));
	*ret_host = engine_host_of(base_jv_str(base_jv_get(smtp, "url")));
	return ret_name->len > 0;
}

static void to_outside(struct engine *e, struct engine_place *p, struct base_jv place, struct base_str line)
{
	struct engine_proc *proc = engine_proc_of(e, ENGINE_CONNECT, 0);
	struct base_str name, host;
	struct base_buf b;
	uint64_t req;

	base_buf_done(&p->line);
	base_buf_init(&p->line, 1 << 16);
	base_buf_str(&p->line, line);
	base_buf_char(&p->line, '\n');
	p->call = ++e->next_call;
	if (!secret_of(e, place, &name, &host)) {
		transmit(e, p, BASE_STR_NONE);
		return;
	}
	p->state = PLACE_SECRET;
	req = engine_ask_next(e);
	base_buf_init(&b, 1 << 16);
	wire_vault_release_put(
		&b, &(struct wire_vault_release){.req = req,
			    .call = p->call,
			    .name = name,
			    .host = host,
			    .action = is_mail(place) ? BASE_STR("mail.send") : BASE_STR("notify.post"),
			    .recipient = {proc->public_key, proc->has_key ? sizeof(proc->public_key) : 0}});
	engine_ask(e, ENGINE_VAULT, WIRE_VAULT_RELEASE, req, &b, 10000, on_secret, p);
	base_buf_done(&b);
}

bool engine_checkpoint_result(struct engine *e, const struct wire_effect_result *r)
{
	struct engine_checks *c = e->checks;

	for (size_t i = 0; c && i < ENGINE_PLACES_MAX; i++) {
		struct engine_place *p = &c->place[i];

		if (p->state != PLACE_SENT || p->call != r->call)
			continue;
		sent(e, p, r->outcome == WIRE_DONE, r->value);
		return true;
	}
	return false;
}

/* --- who has not the newest --- */

static void send_all(struct engine *e)
{
	struct core_checkpoint_signed k;
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_buf line;
	struct base_jv v;
	bool failed;

	if (e->degraded || e->stopping || !newest(e, &k) || k.seq > e->durable)
		return;
	base_buf_init(&line, 1 << 16);
	put_line(&line, &k);
	while (base_jv_next(base_jv_get(settings(e), "checkpoints"), &it, &none, &v)) {
		struct base_str name = base_jv_str(base_jv_get(v, "name"));
		struct engine_place *p = place_named(e, name);

		bool file = base_str_is(base_jv_str(base_jv_get(v, "to")), "file");

		/* While aios is frozen nothing leaves the machine. */
		if (!p || core_place_get(e->core, name, &failed) >= k.seq ||
			(!file && core_is_frozen(e->core)))
			continue;
		if (p->state == PLACE_SENT && e->mono - p->since > 2 * CALL_MS)
			sent_problem(e, p, "timeout", "no answer came");
		if (p->state != PLACE_IDLE || (e->mono < p->not_before && p->seq == k.seq))
			continue;
		p->seq = k.seq;
		if (file)
			to_file(e, p, v, base_buf_view(&line));
		else
			to_outside(e, p, v, base_buf_view(&line));
	}
	base_buf_done(&line);
}

/* --- a new one --- */

static void answer(struct engine *e, int status, const char *code, const char *text)
{
	struct engine_checks *c = engine_checks(e);
	struct engine_req *q = c->req ? engine_req_of(e, c->req) : NULL;

	c->req = 0;
	if (q && status >= 400)
		engine_reply_problem(e, q, status, code, "%s", text);
	else if (q)
		engine_checkpoint_reply(e, q);
}

/* Once it is durable it is sent. */
static void signed_durable(struct engine *e, struct engine_out *o)
{
	free(o);
	send_all(e);
}

static void signed_lost(struct engine *e, struct engine_out *o, int code)
{
	(void)e;
	(void)code;
	free(o);
}

static void record(struct engine *e, struct base_str key, struct base_str signature)
{
	struct engine_checks *c = engine_checks(e);
	struct core_cmd cmd = {.type = CORE_CMD_CHECKPOINT,
		.id = c->seq,
		.hash = c->chain,
		.bytes = signature,
		.key = key,
		.name = base_str_of(log_id(e->log)),
		.base = c->at_ms,
		.by = {.id = BASE_STR("operator")}};
	struct engine_out *o;
	struct core_reply r;

	if (engine_decide(e, &cmd, &r) < 0 || r.status >= 400) {
		answer(e, 503, "unavailable", "the log could not record the checkpoint: try again");
		return;
	}
	o = calloc(1, sizeof(*o));
	BASE_CHECK(o);
	o->release = signed_durable;
	o->discard = signed_lost;
	engine_after_commit(e, o);
	answer(e, 200, NULL, NULL);
}

static void on_signed(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	struct engine_checks *c = userdata;
	struct base_json *doc = NULL;
	struct base_buf key, text;
	struct base_str message;

	c->asking = false;
	if (status != 1) {
		if (status == 0 && base_json_parse(value, &doc, NULL) < 0)
			doc = NULL;
		message = doc ? base_jv_str(base_jv_get(base_json_root(doc), "message")) : BASE_STR_NONE;
		if (!message.len)
			message = BASE_STR("the vault does not answer");
		snprintf(c->why, sizeof(c->why), "%.*s", BASE_STR_ARG(message));
		answer(e, 409, "vault", c->why);
		base_json_free(doc);
		return;
	}
	base_buf_init(&key, 256);
	base_buf_init(&text, 1024);
	engine_checkpoint_text(&text, base_str_of(log_id(e->log)), c->seq, &c->chain, c->at_ms);
	if (base_json_parse(value, &doc, NULL) < 0)
		doc = NULL;
	if (doc && base_b64url_get(base_jv_str(base_jv_get(base_json_root(doc), "public_key")), &key) == 0 &&
		engine_checkpoint_holds(base_buf_view(&text), base_buf_view(&key), sealed)) {
		c->why[0] = '\0';
		record(e, base_buf_view(&key), sealed);
	} else {
		snprintf(c->why, sizeof(c->why), "the vault's signature does not hold");
		answer(e, 500, "vault", c->why);
	}
	base_json_free(doc);
	base_buf_done(&key);
	base_buf_done(&text);
}

static void make(struct engine *e)
{
	struct engine_checks *c = engine_checks(e);
	struct base_buf text;

	if (c->asking)
		return;
	log_head(e->log, &c->seq, &c->chain);
	c->at_ms = engine_wall_ms();
	c->asking = true;
	base_buf_init(&text, 1024);
	engine_checkpoint_text(&text, base_str_of(log_id(e->log)), c->seq, &c->chain, c->at_ms);
	engine_vault_sign(e, "checkpoint", base_buf_view(&text), on_signed, c);
	base_buf_done(&text);
}

void engine_checkpoint_look(struct engine *e)
{
	struct base_str every = base_jv_str(base_jv_get(settings(e), "every"));
	struct core_checkpoint_info info;
	int64_t ms = every_default;

	if (!base_jv_len(base_jv_get(settings(e), "checkpoints")) || e->degraded || e->stopping)
		return;
	if (every.len && base_duration_parse(every, &ms, NULL) < 0)
		ms = every_default;
	core_checkpoint_get(e->core, &info);
	if (info.since > 0 && engine_wall_ms() - info.at_ms >= ms)
		make(e);
	send_all(e);
}

/* --- the API --- */

static void put_places(struct engine *e, struct base_jw *w, uint64_t seq)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	base_jw_key(w, "places");
	base_jw_arr(w);
	while (base_jv_next(base_jv_get(settings(e), "checkpoints"), &it, &none, &v)) {
		bool failed;
		uint64_t has = core_place_get(e->core, base_jv_str(base_jv_get(v, "name")), &failed);

		base_jw_obj(w);
		base_jw_mstr(w, "name", base_jv_str(base_jv_get(v, "name")));
		base_jw_mstr(w, "to", base_jv_str(base_jv_get(v, "to")));
		base_jw_mint(w, "has", (int64_t)has);
		base_jw_mcstr(w, "state", has >= seq && seq ? "has it" : failed ? "failing" : "waiting");
		base_jw_end_obj(w);
	}
	base_jw_end_arr(w);
}

void engine_checkpoint_put(struct engine *e, struct base_jw *w)
{
	struct core_checkpoint_info info;

	core_checkpoint_get(e->core, &info);
	base_jw_key(w, "checkpoints");
	base_jw_obj(w);
	base_jw_mint(w, "seq", (int64_t)info.seq);
	base_jw_mint(w, "at_ms", info.at_ms);
	base_jw_mint(w, "since", (int64_t)info.since);
	if (engine_checks(e)->why[0])
		base_jw_mcstr(w, "why", engine_checks(e)->why);
	put_places(e, w, info.seq);
	base_jw_end_obj(w);
}

void engine_checkpoint_reply(struct engine *e, struct engine_req *q)
{
	struct base_jw w = base_jw_of(&q->reply);
	struct core_checkpoint_signed k;

	base_jw_obj(&w);
	if (newest(e, &k)) {
		engine_put_checkpoint(&w, &k);
		put_places(e, &w, k.seq);
	}
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}

void engine_op_audit_checkpoint(struct engine *e, struct engine_req *q)
{
	struct engine_checks *c = engine_checks(e);
	struct core_checkpoint_info info;

	core_checkpoint_get(e->core, &info);
	for (size_t i = 0; i < ENGINE_PLACES_MAX; i++)
		c->place[i].not_before = 0;
	if (info.seq && !info.since) {
		send_all(e);
		engine_checkpoint_reply(e, q);
		return;
	}
	if (c->req) {
		engine_reply_problem(e, q, 409, "busy", "a checkpoint is being made already");
		return;
	}
	engine_commit_wait(e); /* it covers all that was decided */
	c->req = q->id;
	make(e);
}

void engine_checks_settle(struct engine *e)
{
	struct engine_checks *c = e->checks;

	for (size_t i = 0; c && i < ENGINE_PLACES_MAX; i++)
		engine_job_settle(e, &c->place[i].job);
}

void engine_checks_done(struct engine *e)
{
	struct engine_checks *c = e->checks;

	for (size_t i = 0; c && i < ENGINE_PLACES_MAX; i++)
		base_buf_done(&c->place[i].line);
	free(c);
	e->checks = NULL;
}
