#include "engine/keep.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/money.h"

/*
 * Housekeeping: what is old goes into the archive, runs whose retention is over are forgotten, the disk is looked at.
 *
 * Invariants
 *
 * H1 Commits leave the log's database only when their segment is on the disk, was verified, and the log says so
 * (log_archived is durable).
 *
 * H2 Housekeeping is bounded: one segment, or PORTION runs, at a time; the loop goes on meanwhile.
 */

enum {
	LOOK_MS = 15000,
	ARCHIVE_MS = 3600000,
	RETIRE_MS = 60000,
	AGAIN_MS = 1000,
	PORTION = 200,
	FULL_SEGMENT = 48 << 20
};
static const int64_t archive_default = 30ll * 86400000;
static const uint64_t worth_it = 20000; /* events: fewer wait for the next look */

/* --- settings --- */

static struct base_str setting(const struct engine *e, const char *name)
{
	struct base_jv log = e->config ? base_jv_get(base_json_root(e->config), "log") : (struct base_jv){0};

	return base_jv_str(base_jv_get(log, name));
}

int64_t engine_keep_time(const struct engine *e, const char *name, int64_t otherwise)
{
	struct base_str s = setting(e, name);
	int64_t ms;

	if (base_str_is(s, "never"))
		return -1;
	return s.len && base_duration_parse(s, &ms, NULL) == 0 ? ms : otherwise;
}

int64_t engine_keep_size(const struct engine *e, const char *name, int64_t otherwise)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
	struct base_str s = setting(e, name);
	uint64_t v = 0;
	size_t i = 0;

	if (base_str_is(s, "never") || base_str_is(s, "0"))
		return 0;
	for (; i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9' && v < UINT32_MAX; i++)
		v = v * 10 + (uint64_t)(s.ptr[i] - '0');
	s = base_str_sub(s, i, s.len);
	if (s.len && s.ptr[0] == ' ')
		s = base_str_sub(s, 1, s.len);
	for (i = 0; i < 4; i++)
		if (base_str_is(s, units[i]))
			return (int64_t)(v << (10 * (i + 1)));
	return otherwise;
}

/* --- threads --- */

static void *job_main(void *arg)
{
	struct engine_job *j = arg;
	uint64_t one = 1;

	j->work(j->owner);
	if (write(j->efd, &one, sizeof(one)) < 0)
		BASE_CHECK(errno == EAGAIN);
	return NULL;
}

static void job_ended(struct engine *e, struct engine_source *s, uint32_t events)
{
	struct engine_job *j = s->owner;

	(void)events;
	pthread_join(j->thread, NULL);
	engine_unwatch(e, j->efd);
	close(j->efd);
	j->efd = -1;
	j->running = false;
	j->done(e, j->owner);
}

int engine_job_start(struct engine *e, struct engine_job *j)
{
	sigset_t all, old;
	int rc;

	j->source = (struct engine_source){job_ended, j};
	j->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (j->efd < 0)
		return -errno;
	rc = engine_watch(e, j->efd, &j->source, EPOLLIN);
	if (rc == 0) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		rc = -pthread_create(&j->thread, NULL, job_main, j);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	j->running = rc == 0;
	if (rc < 0) {
		engine_unwatch(e, j->efd);
		close(j->efd);
	}
	return rc;
}

void engine_job_settle(struct engine *e, struct engine_job *j)
{
	if (j->running)
		job_ended(e, &j->source, 0);
}

/* --- the archive --- */

struct engine_archiving {
	struct engine_job job;
	struct log *log;
	struct log_reader *reader;
	uint64_t from; /* behind what the log says is archived */
	int64_t before_ms;
	uint64_t req; /* who is answered at the end, 0: nobody */
	uint64_t segments, events, bytes, raw;
	bool fresh; /* made now, not found */
	bool again; /* in the place of one that the log knows of */
	/* results */
	int rc;
	struct base_err err;
	struct log_archived made;
	struct base_hash hash;
};

/* One that was damaged while the database still had all of it is made again, up to where the log says that the archive is.
 * One that a crash left unsaid comes next: the log has to know of it before another follows; it may have died before it
 * was verified. */
static void archive_work(void *owner)
{
	struct engine_archiving *a = owner;
	struct log_archive_plan p = {.before_ms = a->before_ms};
	bool again = log_archived_seq(a->log) + 1 < a->from;

	if (again)
		p = (struct log_archive_plan){.before_ms = INT64_MAX, .keep_seq = a->from};
	a->rc = again ? -ENOENT : log_archived_get(a->log, a->from, &a->made);
	a->fresh = a->rc == -ENOENT;
	if (a->fresh)
		a->rc = log_archive_make(a->reader, &p, &a->made, &a->err);
	else if (a->rc == 0 && !a->made.lost)
		a->rc = log_archive_check(a->reader, a->made.first_seq, &a->err);
	a->again = again;
	if (a->rc == 0 && a->made.lost)
		a->rc = base_err_set(&a->err, -EUCLEAN, "the segment %s is lost or damaged", a->made.file);
	if (a->rc == 0)
		a->rc = log_archived_hash(a->log, a->made.first_seq, &a->hash, &a->err);
}

/* Released when log_archived is durable. */
struct let_go {
	struct engine_out out;
	uint64_t upto;
};

static void let_go(struct engine *e, struct engine_out *o)
{
	log_archive_release(e->log, ((struct let_go *)o)->upto);
	free(o);
}

static void not_durable(struct engine *e, struct engine_out *o, int code)
{
	(void)e;
	(void)code;
	free(o);
}

static int tell_log(struct engine *e, struct engine_archiving *a)
{
	struct core_cmd cmd = {.type = CORE_CMD_ARCHIVED, .hash = a->hash};
	struct let_go *o;
	struct core_reply r;
	struct base_jw w;
	int rc;

	if (a->again) {
		log_archive_release(e->log, a->made.last_seq);
		return 0;
	}
	base_buf_clear(&e->scratch);
	w = base_jw_of(&e->scratch);
	base_jw_obj(&w);
	base_jw_mint(&w, "first_seq", (int64_t)a->made.first_seq);
	base_jw_mint(&w, "last_seq", (int64_t)a->made.last_seq);
	base_jw_mint(&w, "bytes", (int64_t)a->made.bytes);
	base_jw_mcstr(&w, "file", a->made.file);
	base_jw_end_obj(&w);
	cmd.params = base_buf_view(&e->scratch);
	rc = engine_decide(e, &cmd, &r);
	if (rc == 0 && r.status >= 400)
		rc = -EINVAL;
	if (rc < 0)
		return base_err_set(&a->err, rc, "the log cannot say what was archived: %s", strerror(-rc));
	o = calloc(1, sizeof(*o));
	BASE_CHECK(o);
	o->upto = a->made.last_seq;
	o->out.release = let_go;
	o->out.discard = not_durable;
	engine_after_commit(e, &o->out);
	a->segments++;
	a->events += a->made.last_seq - a->made.first_seq + 1;
	a->bytes += a->made.bytes;
	a->raw += a->made.raw_bytes;
	return 0;
}

static void archive_answer(struct engine *e, struct engine_archiving *a)
{
	struct engine_req *q = a->req ? engine_req_of(e, a->req) : NULL;
	struct base_jw w;

	if (a->segments)
		engine_note(1, "archived %llu events in %llu segments: %llu KiB of %llu KiB",
			(unsigned long long)a->events, (unsigned long long)a->segments,
			(unsigned long long)(a->bytes >> 10), (unsigned long long)(a->raw >> 10));
	if (a->rc < 0 && a->rc != -ENOENT)
		engine_note(2, "archive: %s", a->err.text);
	if (!q)
		return;
	if (a->rc < 0 && a->rc != -ENOENT) {
		engine_reply_problem(e, q, a->rc == -ENOSPC ? 507 : 500, "archive", "%s", a->err.text);
		return;
	}
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_mint(&w, "segments", (int64_t)a->segments);
	base_jw_mint(&w, "events", (int64_t)a->events);
	base_jw_mint(&w, "bytes", (int64_t)a->bytes);
	base_jw_mint(&w, "raw_bytes", (int64_t)a->raw);
	base_jw_mint(&w, "archived", (int64_t)core_archived(e->core));
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}

static void archive_done(struct engine *e, void *owner);

static int archive_go(struct engine *e, struct engine_archiving *a)
{
	int rc = log_reader_new(e->log, &a->reader, &a->err);

	a->log = e->log;
	a->from = core_archived(e->core) + 1;
	a->job = (struct engine_job){.work = archive_work, .done = archive_done, .owner = a};
	if (rc == 0)
		rc = engine_job_start(e, &a->job);
	return rc;
}

static void archive_done(struct engine *e, void *owner)
{
	struct engine_archiving *a = owner;
	bool over = e->stopping || e->degraded, more;

	log_reader_free(a->reader);
	a->reader = NULL;
	if (a->rc == 0 && !over)
		a->rc = tell_log(e, a);
	/* A segment that was not full had all there was. */
	more = !a->fresh || a->again || a->made.raw_bytes >= FULL_SEGMENT;
	if (a->rc == 0 && !over && more && (a->rc = archive_go(e, a)) == 0)
		return; /* the next segment */
	log_reader_free(a->reader);
	archive_answer(e, a);
	e->keep->archiving = NULL;
	free(a);
	if (!over)
		engine_disk_check(e, &e->keep->disk);
}

bool engine_archive_start(struct engine *e, int64_t before_ms, struct engine_req *q)
{
	struct engine_archiving *a;

	if (e->keep->archiving)
		return false;
	a = calloc(1, sizeof(*a));
	BASE_CHECK(a);
	a->before_ms = before_ms;
	a->req = q ? q->id : 0;
	e->keep->archiving = a;
	a->rc = archive_go(e, a);
	if (a->rc == 0)
		return true;
	log_reader_free(a->reader);
	archive_answer(e, a);
	e->keep->archiving = NULL;
	free(a);
	return true;
}

void engine_archive_settle(struct engine *e)
{
	if (e->keep && e->keep->archiving)
		engine_job_settle(e, &e->keep->archiving->job);
}

/* Hourly: what is older than log.archive_after, if it is worth a file. */
static void archive_look(struct engine *e)
{
	int64_t after = engine_keep_time(e, "archive_after", archive_default),
		before = engine_wall_ms() - after;
	uint64_t next = core_archived(e->core) + worth_it;
	struct log_reader *r = NULL;
	struct log_commit c;

	e->keep->archive_at = e->mono + ARCHIVE_MS;
	if (after < 0 || next >= e->durable || log_reader_new(e->log, &r, NULL) < 0)
		return;
	if (log_read(r, next, &c, NULL) == 0 && c.time_ms < before)
		engine_archive_start(e, before, NULL);
	log_reader_free(r);
}

/* --- retention --- */

/* The n-th flow that has one: its name (in *doc) and how long. */
static bool nth_retention(
	struct engine *e, size_t n, struct base_json **ret_doc, struct base_str *ret_flow, int64_t *ret_ms)
{
	struct base_jv_iter it = {0};
	struct base_buf all;
	struct base_str none;
	bool found = false;
	struct base_jv v;

	*ret_doc = NULL;
	base_buf_init(&all, 64 << 20);
	if (core_flows_json(e->core, &all) == 0 && base_json_parse(engine_array_of(&all), ret_doc, NULL) == 0)
		while (!found && base_jv_next(base_json_root(*ret_doc), &it, &none, &v)) {
			struct base_str text = base_jv_str(base_jv_get(base_jv_get(v, "spec"), "retention"));

			if (!text.len || base_duration_parse(text, ret_ms, NULL) < 0 || n-- > 0)
				continue;
			*ret_flow = base_jv_str(base_jv_get(v, "name"));
			if (!ret_flow->len)
				*ret_flow = base_jv_str(base_jv_get(v, "flow"));
			found = true;
		}
	base_buf_done(&all);
	return found;
}

static void retire_next(struct engine *e, bool again)
{
	e->keep->retire_at = e->mono + (again ? AGAIN_MS : RETIRE_MS);
	if (again)
		engine_timer_add(e, ENGINE_TIMER_KEEP, 1, AGAIN_MS);
}

static void on_old_runs(
	struct engine *e, void *userdata, int status, struct base_str value, struct base_str sealed)
{
	int64_t cut = *(int64_t *)userdata;
	struct base_json *doc = NULL;
	struct base_jv_iter it = {0};
	struct core_reply r;
	struct base_str none;
	struct base_jv v, next;
	unsigned count = 0;

	(void)sealed;
	free(userdata);
	if (status != 1 || e->degraded || e->stopping || base_json_parse(value, &doc, NULL) < 0) {
		retire_next(e, false);
		return;
	}
	while (base_jv_next(base_jv_get(base_json_root(doc), "items"), &it, &none, &v)) {
		int64_t ended = base_jv_int(base_jv_get(v, "ended_ms"), 0);
		struct core_cmd cmd = {.type = CORE_CMD_RUN_FORGET,
			.run = (uint64_t)base_jv_int(base_jv_get(v, "run"), 0),
			.by = {.id = BASE_STR("operator")}};

		if (ended > 0 && ended < cut && engine_decide(e, &cmd, &r) == 0 && r.status < 400)
			count++;
	}
	next = base_jv_get(base_json_root(doc), "next");
	e->keep->before = (uint64_t)base_jv_int(next, 0);
	if (!e->keep->before)
		e->keep->flow++;
	base_json_free(doc);
	if (count)
		engine_note(1, "%u runs are past their retention and were forgotten", count);
	retire_next(e, true);
}

/* A page of the runs of one flow; then the next page, the next flow, and a pause. */
static void retire_look(struct engine *e)
{
	struct engine_keep *k = e->keep;
	struct base_json *doc;
	struct base_str flow;
	int64_t keep_ms, *cut;
	struct base_jw w;

	if (!nth_retention(e, k->flow, &doc, &flow, &keep_ms)) {
		k->flow = 0;
		k->before = 0;
		base_json_free(doc);
		retire_next(e, false);
		return;
	}
	k->retire_at = INT64_MAX; /* until the answer has come */
	cut = malloc(sizeof(*cut));
	BASE_CHECK(cut);
	*cut = engine_wall_ms() - keep_ms;
	base_buf_clear(&e->scratch);
	w = base_jw_of(&e->scratch);
	base_jw_obj(&w);
	base_jw_mstr(&w, "flow", flow);
	base_jw_mint(&w, "until", *cut);
	base_jw_mint(&w, "limit", PORTION);
	if (k->before)
		base_jw_mint(&w, "before", (int64_t)k->before);
	base_jw_end_obj(&w);
	engine_views_ask(e, "runs", base_buf_view(&e->scratch), on_old_runs, cut);
	base_json_free(doc);
}

/* --- the timer --- */

void engine_keep_due(struct engine *e, uint64_t once)
{
	struct engine_keep *k = e->keep;

	if (!once)
		k->armed = false;
	if (e->stopping || e->quit)
		return;
	engine_disk_check(e, &k->disk);
	engine_checkpoint_look(e);
	k->grown = 0;
	if (!e->degraded && e->mono >= k->retire_at)
		retire_look(e);
	if (!e->degraded && e->mono >= k->archive_at)
		archive_look(e);
	/* Somebody who waits for room is looked after sooner; an idle house is woken seldom. */
	if (!k->armed) {
		k->armed = true;
		engine_timer_add(
			e, ENGINE_TIMER_KEEP, 0, k->disk.spent || k->disk.over ? AGAIN_MS * 2 : LOOK_MS);
	}
}

/* A quota that is near is not run over between two looks. */
void engine_keep_committed(struct engine *e, const struct engine_group *g)
{
	struct engine_keep *k = e->keep;
	int64_t step;

	engine_anchor_later(e);
	if (!k || !k->armed)
		return;
	k->grown += (int64_t)g->block.len;
	for (size_t i = 0; i < g->body_count; i++)
		k->grown += (int64_t)g->bodies[i].len;
	step = k->disk.quota > 0 ? k->disk.quota / 50 : 0;
	if (step && k->grown >= (step > 64 << 20 ? 64 << 20 : step)) {
		k->grown = 0;
		engine_timer_add(e, ENGINE_TIMER_KEEP, 1, 0);
	}
}

int engine_keep_init(struct engine *e)
{
	e->keep = calloc(1, sizeof(*e->keep));
	return e->keep ? 0 : -ENOMEM;
}

void engine_keep_start(struct engine *e)
{
	log_archive_release(e->log, core_archived(e->core));
	e->keep->archive_at = e->mono;
	e->keep->retire_at = e->mono + AGAIN_MS;
	engine_keep_due(e, 0);
	engine_anchor_due(e);
}

void engine_keep_settle(struct engine *e)
{
	engine_archive_settle(e);
	engine_backup_settle(e);
	engine_search_settle(e);
	engine_export_settle(e);
	engine_compare_settle(e);
	engine_checks_settle(e);
}

void engine_keep_done(struct engine *e)
{
	if (!e->keep)
		return;
	free(e->keep->anchor);
	free(e->keep);
	e->keep = NULL;
}
