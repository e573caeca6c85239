#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "engine/backup.h"
#include "engine/keep.h"

/* Keeping the log: archive, search, backup, and letting go what a restore holds. */

/* --- POST /v1/log/archive --- */

static void put_look(struct engine *e, struct engine_req *q, int64_t before_ms)
{
	struct log_archive_plan p = {.before_ms = before_ms};
	struct log_reader *r = NULL;
	struct base_err err;
	uint64_t events = 0, last = 0;
	struct base_jw w;
	int rc = log_reader_new(e->log, &r, &err);

	if (rc == 0)
		rc = log_archive_look(r, &p, &events, &last, &err);
	log_reader_free(r);
	if (rc < 0) {
		engine_reply_problem(e, q, 500, "archive", "%s", err.text);
		return;
	}
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_mbool(&w, "dry", true);
	base_jw_mint(&w, "events", (int64_t)events);
	base_jw_mint(&w, "archived", (int64_t)core_archived(e->core));
	base_jw_mint(&w, "would_be", (int64_t)(events ? last : core_archived(e->core)));
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}

void engine_op_log_archive(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	struct base_str older;
	struct base_err err;
	int64_t ms;
	bool dry;

	if (!doc)
		return;
	older = base_jv_str(base_jv_get(base_json_root(doc), "older"));
	dry = base_jv_bool(base_jv_get(base_json_root(doc), "dry"), false);
	ms = engine_keep_time(e, "archive_after", 30ll * 86400000);
	if (older.len && base_duration_parse(older, &ms, &err) < 0) {
		engine_reply_problem(e, q, 400, "invalid", "older: %s", err.text);
		base_json_free(doc);
		return;
	}
	base_json_free(doc);
	engine_commit_wait(e);
	if (ms < 0)
		engine_reply_problem(e, q, 422, "never",
			"log.archive_after in aios.yaml says never: say how old, as with --older 30d");
	else if (dry)
		put_look(e, q, engine_wall_ms() - ms + 1);
	else if (!engine_archive_start(e, engine_wall_ms() - ms + 1, q))
		engine_reply_problem(e, q, 409, "busy", "the archive is being written already");
}

/* --- GET /v1/log/search --- */

enum { FOUND_DEFAULT = 50, FOUND_MAX = 1000, FOUND_BYTES = 4 << 20 };

struct engine_search {
	struct engine_job job;
	uint64_t req, from, until, left;
	uint64_t run; /* 0: any */
	char *text;   /* lower case */
	struct log_reader *reader;
	struct base_buf out, line, low;
	uint64_t last; /* that was looked at */
	bool full;
	int rc;
	struct base_err err;
};

static bool line_fits(struct engine_search *s)
{
	char want[32];
	size_t n;

	if (s->run) {
		const char *at;

		n = (size_t)snprintf(want, sizeof(want), "\"run\":%llu", (unsigned long long)s->run);
		at = memmem(s->line.ptr, s->line.len, want, n);
		if (!at || (at + n < s->line.ptr + s->line.len && at[n] >= '0' && at[n] <= '9'))
			return false;
	}
	if (!s->text[0])
		return true;
	base_buf_clear(&s->low);
	base_buf_str(&s->low, base_buf_view(&s->line));
	for (size_t i = 0; i < s->low.len; i++)
		if (s->low.ptr[i] >= 'A' && s->low.ptr[i] <= 'Z')
			s->low.ptr[i] = (char)(s->low.ptr[i] + 32);
	return memmem(s->low.ptr, s->low.len, s->text, strlen(s->text)) != NULL;
}

static int search_commit(void *userdata, const struct log_commit *c)
{
	struct engine_search *s = userdata;
	struct core_record rec;
	uint64_t seq = c->first_seq;
	size_t at = 0;

	for (; core_block_next(c->block, &at, &rec) == 1; seq++) {
		if (seq < s->from)
			continue;
		if (seq > s->until || !s->left || s->out.len > FOUND_BYTES) {
			s->full = seq <= s->until;
			return 1;
		}
		s->last = seq;
		base_buf_clear(&s->line);
		engine_put_event(&s->line, seq, &rec);
		if (base_buf_failed(&s->line) || !line_fits(s))
			continue;
		if (s->out.len)
			base_buf_char(&s->out, ',');
		base_buf_str(&s->out, base_buf_view(&s->line));
		s->left--;
	}
	return 0;
}

static void search_work(void *owner)
{
	struct engine_search *s = owner;

	s->rc = log_each(s->reader, s->from, search_commit, s, &s->err);
}

static void search_free(struct engine_search *s)
{
	log_reader_free(s->reader);
	base_buf_done(&s->out);
	base_buf_done(&s->line);
	base_buf_done(&s->low);
	free(s->text);
	free(s);
}

static void search_done(struct engine *e, void *owner)
{
	struct engine_search *s = owner;
	struct engine_req *q = engine_req_of(e, s->req);

	e->keep->search = NULL;
	if (q && s->rc < 0) {
		engine_reply_problem(e, q, s->rc == -EUCLEAN ? 500 : 503, "log", "%s", s->err.text);
	} else if (q) {
		base_buf_cstr(&q->reply, "{\"items\":[");
		base_buf_str(&q->reply, base_buf_view(&s->out));
		base_buf_printf(
			&q->reply, "],\"archived\":%llu", (unsigned long long)log_archived_seq(e->log));
		if (s->full)
			base_buf_printf(&q->reply, ",\"next\":%llu", (unsigned long long)s->last);
		base_buf_char(&q->reply, '}');
		engine_reply_built(e, q, 200);
	}
	search_free(s);
}

void engine_op_log_search(struct engine *e, struct engine_req *q)
{
	struct base_str text = engine_param(q, "q");
	uint64_t limit = engine_param_u64(q, "limit", FOUND_DEFAULT);
	struct engine_search *s;
	struct base_err err = {0};
	int rc;

	if (e->keep->search) {
		engine_reply_problem(e, q, 409, "busy", "a search of the log is running already");
		return;
	}
	s = calloc(1, sizeof(*s));
	BASE_CHECK(s);
	base_buf_init(&s->out, FOUND_BYTES * 2);
	base_buf_init(&s->line, 128 << 20);
	base_buf_init(&s->low, 128 << 20);
	s->req = q->id;
	s->run = engine_param_u64(q, "run", 0);
	s->text = strndup(text.ptr ? text.ptr : "", text.len);
	BASE_CHECK(s->text);
	for (char *p = s->text; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p + 32);
	s->left = limit < 1 ? 1 : limit > FOUND_MAX ? FOUND_MAX : limit;
	s->from = engine_param_u64(q, "after", 0) + 1;
	s->until = engine_param(q, "archived").len ? log_archived_seq(e->log) : e->durable;
	s->job = (struct engine_job){.work = search_work, .done = search_done, .owner = s};
	rc = !s->text[0] && !s->run ? -EINVAL : log_reader_new(e->log, &s->reader, &err);
	if (rc == 0)
		rc = engine_job_start(e, &s->job);
	if (rc == 0) {
		e->keep->search = s;
		return;
	}
	search_free(s);
	if (rc == -EINVAL)
		engine_reply_problem(e, q, 400, "invalid", "say what to look for: ?q=TEXT or ?run=N");
	else
		engine_reply_problem(e, q, 503, "unavailable", "%s", err.text);
}

void engine_search_settle(struct engine *e)
{
	if (e->keep && e->keep->search)
		engine_job_settle(e, &e->keep->search->job);
}

/* --- backup --- */

struct engine_backup {
	struct engine_job job;
	struct backup_job work;
	char *to;
	bool running;
	int rc;
	struct base_err err;
};

static void backup_work(void *owner)
{
	struct engine_backup *b = owner;

	b->rc = backup_make(&b->work, &b->err);
}

static void backup_done(struct engine *e, void *owner)
{
	struct engine_backup *b = owner;

	(void)e;
	b->running = false;
	if (b->rc < 0)
		engine_note(2, "the backup in %s failed: %s", b->to, b->err.text);
	else
		engine_note(1, "a backup up to event %llu was made in %s", (unsigned long long)b->work.seq,
			b->to);
}

static void put_backup(struct engine *e, struct engine_req *q, int status)
{
	const struct engine_backup *b = e->keep->backup;
	struct base_jw w = base_jw_of(&q->reply);

	base_jw_obj(&w);
	base_jw_mcstr(&w, "state", !b ? "none" : b->running ? "running" : b->rc < 0 ? "failed" : "done");
	if (b) {
		const char *part = __atomic_load_n(&b->work.at.part, __ATOMIC_RELAXED);

		base_jw_mcstr(&w, "dir", b->to);
		base_jw_mcstr(&w, "part", part ? part : "");
		base_jw_mint(&w, "done", (int64_t)__atomic_load_n(&b->work.at.done, __ATOMIC_RELAXED));
		base_jw_mint(&w, "total", (int64_t)__atomic_load_n(&b->work.at.total, __ATOMIC_RELAXED));
	}
	if (b && !b->running && b->rc == 0) {
		base_jw_mint(&w, "seq", (int64_t)b->work.seq);
		base_jw_mint(&w, "files", (int64_t)b->work.files);
		base_jw_mint(&w, "bytes", (int64_t)b->work.bytes);
	} else if (b && !b->running) {
		base_jw_mcstr(&w, "message", b->err.text);
	}
	base_jw_end_obj(&w);
	engine_reply_built(e, q, status);
}

static void free_backup(struct engine *e)
{
	if (!e->keep->backup)
		return;
	free(e->keep->backup->to);
	free(e->keep->backup);
	e->keep->backup = NULL;
}

static void start_backup(struct engine *e, struct engine_req *q, struct base_str dir, bool with_key)
{
	struct engine_backup *b;
	int rc;

	if (e->keep->backup && e->keep->backup->running) {
		engine_reply_problem(e, q, 409, "busy", "a backup is being made already: see GET /v1/backup");
		return;
	}
	if (!dir.len || dir.ptr[0] != '/' || memchr(dir.ptr, 0, dir.len)) {
		engine_reply_problem(e, q, 400, "invalid", "the body is {\"dir\": \"/an/absolute/path\"}");
		return;
	}
	free_backup(e);
	b = calloc(1, sizeof(*b));
	BASE_CHECK(b && (b->to = strndup(dir.ptr, dir.len)));
	b->work = (struct backup_job){.open = e->log,
		.workspace = e->paths.workspace,
		.log = e->paths.log,
		.vault = e->paths.vault,
		.to = b->to,
		.with_key = with_key};
	b->job = (struct engine_job){.work = backup_work, .done = backup_done, .owner = b};
	e->keep->backup = b;
	engine_commit_wait(e);
	if (backup_is_inside(b->to, e->paths.workspace)) {
		engine_reply_problem(e, q, 422, "inside",
			"%s is in the workspace: a backup would hold itself, and be lost with what it is of; "
			"name "
			"a folder outside",
			b->to);
		free_backup(e);
		return;
	}
	if (!backup_is_free(b->to)) {
		engine_reply_problem(e, q, 409, "exists",
			"%s is there already and not empty: a backup overwrites nothing; name another folder",
			b->to);
		free_backup(e);
		return;
	}
	rc = engine_job_start(e, &b->job);
	if (rc < 0) {
		engine_reply_problem(e, q, 503, "unavailable", "cannot start a thread: %s", strerror(-rc));
		free_backup(e);
		return;
	}
	b->running = true;
	put_backup(e, q, 202);
}

void engine_op_backup(struct engine *e, struct engine_req *q)
{
	struct base_json *doc;

	if (q->op == WIRE_OP_BACKUP_STATE) {
		put_backup(e, q, 200);
		return;
	}
	doc = engine_body_json(e, q);
	if (!doc)
		return;
	start_backup(e, q, base_jv_str(base_jv_get(base_json_root(doc), "dir")),
		base_jv_bool(base_jv_get(base_json_root(doc), "with_key"), false));
	base_json_free(doc);
}

void engine_backup_settle(struct engine *e)
{
	if (!e->keep)
		return;
	if (e->keep->backup && e->keep->backup->running)
		engine_job_settle(e, &e->keep->backup->job);
	if (e->stopping)
		free_backup(e);
}

/* --- POST /v1/restored/resume --- */

enum { RESUME_MAX = 200 };

/* A portion; the caller asks again while some are left. */
void engine_op_restored_resume(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	uint64_t *ids;
	size_t n, all, resumed = 0;
	struct base_str flow;
	struct base_jw w;

	if (!doc)
		return;
	flow = base_jv_str(base_jv_get(base_json_root(doc), "flow"));
	all = core_restored_held(e->core, NULL, 0);
	ids = calloc(all ? all : 1, sizeof(*ids));
	BASE_CHECK(ids);
	n = core_restored_held(e->core, ids, all);
	for (size_t i = 0; i < n && resumed < RESUME_MAX && !e->degraded; i++) {
		struct core_cmd cmd = {.type = CORE_CMD_RUN_RESUME, .run = ids[i], .by = q->by};
		struct core_run_info info;
		struct core_reply r;

		if (!core_run_get(e->core, ids[i], &info) || (flow.len && !base_str_eq(info.flow, flow)))
			continue;
		resumed += engine_decide(e, &cmd, &r) == 0 && r.status < 400;
	}
	free(ids);
	base_json_free(doc);
	w = base_jw_of(&q->reply);
	base_jw_obj(&w);
	base_jw_mint(&w, "resumed", (int64_t)resumed);
	base_jw_mint(&w, "left", (int64_t)core_restored_held(e->core, NULL, 0));
	base_jw_end_obj(&w);
	engine_reply_built(e, q, 200);
}
