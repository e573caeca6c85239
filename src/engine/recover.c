#include "engine/engine_int.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

/*
 * From the log to a state and back.
 *
 * Invariants
 *
 * R1 The state is the fold of the log's events up to `seq`, whether it came from a snapshot and a suffix
 * or from zero.
 *
 * R2 After a commit that failed, state and log agree again before anything else is decided.
 */

struct fold {
	struct core *core;
	uint64_t seq, until;
};

static int fold_commit(void *userdata, const struct log_commit *c)
{
	struct fold *f = userdata;
	struct core_record rec;
	uint64_t seq = c->first_seq;
	size_t at = 0;
	int rc;

	while ((rc = core_block_next(c->block, &at, &rec)) == 1) {
		if (seq > f->until)
			return 1;
		if (seq > f->seq) {
			if (seq != f->seq + 1)
				return -EUCLEAN;
			core_apply(f->core, seq, &rec, NULL, NULL);
			f->seq = seq;
		}
		seq++;
	}
	return rc < 0 ? -EUCLEAN : 0;
}

int engine_fold(struct core *c, struct log_reader *r, uint64_t from, uint64_t until, struct base_err *err)
{
	struct fold f = {c, from, until};
	int rc = from < until ? log_each(r, from + 1, fold_commit, &f, err) : 0;

	if (rc < 0)
		return rc;
	if (f.seq != until)
		return base_err_set(err, -EUCLEAN, "the log ends at event %llu, not at %llu",
			(unsigned long long)f.seq, (unsigned long long)until);
	return 0;
}

static int from_snapshot(struct engine *e, struct core **ret, uint64_t *ret_seq, struct base_err *err)
{
	struct core *c;
	uint64_t seq;
	char *data;
	size_t len;
	int rc = log_snapshot_get(e->log, log_last_seq(e->log), &seq, &data, &len, err);

	if (rc < 0)
		return rc;
	rc = engine_core_new(&c, err);
	if (rc == 0) {
		rc = core_restore(c, (struct base_str){data, len}, err);
		if (rc == 0 && core_seq(c) != seq)
			rc = base_err_set(err, -EBADMSG, "it stands at another event than it says");
		if (rc < 0)
			core_free(c);
	}
	free(data);
	if (rc < 0)
		return rc;
	*ret = c;
	*ret_seq = seq;
	return 0;
}

static int load_state(struct engine *e, struct base_err *err)
{
	uint64_t seq = 0, last = log_last_seq(e->log);
	struct core *c = NULL;
	int rc = from_snapshot(e, &c, &seq, err);

	if (rc < 0) {
		if (rc != -ENOENT)
			engine_note(2, "the snapshot cannot be used (%s); the log is folded from its start",
				err->text);
		seq = 0;
		rc = engine_core_new(&c, err);
		if (rc < 0)
			return rc;
	}
	rc = engine_fold(c, e->reader, seq, last, err);
	if (rc < 0) {
		core_free(c);
		return rc;
	}
	core_free(e->core);
	e->core = c;
	e->seq = e->durable = last;
	e->snapshot_seq = seq;
	engine_reads_forget(e);
	return 0;
}

static void close_log(struct engine *e)
{
	engine_fold_settle(e);
	engine_keep_settle(e);
	engine_verify_settle(e);
	log_reader_free(e->reader);
	log_reader_free(e->body_reader);
	e->reader = e->body_reader = NULL;
	log_close(e->log);
	e->log = NULL;
}

static int open_readers(struct engine *e, struct base_err *err)
{
	int rc = log_reader_new(e->log, &e->reader, err);

	if (rc < 0)
		return rc;
	return log_reader_new(e->log, &e->body_reader, err);
}

/* Open runs have been run by another interpreter until now: it should do the same, and it can be tried. */
static void note_interpreter(struct engine *e)
{
	struct base_str was = core_interpreter(e->core), now = engine_interpreter();
	size_t open = core_runs_open(e->core, BASE_STR_NONE, NULL, 0);

	if (was.len && open && !base_str_eq(was, now))
		engine_note(2,
			"the interpreter is %.*s now, it was %.*s: aios flows rehearse --open tries it with "
			"the %zu runs "
			"that are open",
			BASE_STR_ARG(now), BASE_STR_ARG(was), open);
}

/* The mark of a restore stays until the epoch that it begins is durable. */
static void restored_path(const struct engine *e, char *ret, size_t size)
{
	snprintf(ret, size, "%s/" ENGINE_RESTORED, e->paths.log);
}

static int begin(struct engine *e, bool restored)
{
	struct core_cmd cmd = {.type = CORE_CMD_START,
		.text = BASE_STR(ENGINE_VERSION),
		.name = engine_interpreter(),
		.base = restored};
	struct base_str names[ENGINE_ZONES_MAX];
	struct engine_zones zones = {.count = 0};
	size_t n = core_zone_names(e->core, names, ENGINE_ZONES_MAX);
	struct core_reply reply;
	int rc;

	for (size_t i = 0; i < n; i++)
		engine_zones_add(&zones, names[i]);
	note_interpreter(e);
	cmd.zones = zones.file;
	cmd.zone_count = zones.count;
	rc = engine_decide(e, &cmd, &reply);
	engine_zones_done(&zones);
	return rc;
}

static int begin_again(struct engine *e, struct base_err *err)
{
	int rc;

	engine_resume(e);
	rc = begin(e, false);
	if (rc < 0)
		return base_err_set(err, rc, "cannot begin: %s", strerror(-rc));
	engine_commit_start(e, true);
	return 0;
}

/* What may not go on is held before anything runs. */
static int begin_restored(struct engine *e, struct base_err *err)
{
	char path[PATH_MAX];
	int rc = begin(e, true);

	if (rc == 0) {
		engine_commit_wait(e);
		rc = e->degraded ? -EIO : 0;
	}
	if (rc < 0)
		return base_err_set(err, rc, "cannot begin after the restore: %s", strerror(-rc));
	restored_path(e, path, sizeof(path));
	unlink(path);
	engine_note(2,
		"this log was restored: %zu runs are held until you let them go on (aios gates; aios resume "
		"RUN; aios resume "
		"--restored)",
		core_restored_held(e->core, NULL, 0));
	engine_resume(e);
	return 0;
}

int engine_recover(struct engine *e, struct base_err *err)
{
	char path[PATH_MAX];
	bool restored;
	int rc = open_readers(e, err);

	if (rc == 0)
		rc = load_state(e, err);
	if (rc < 0)
		return rc;
	engine_config_load(e);
	restored_path(e, path, sizeof(path));
	restored = e->opt.restored || access(path, F_OK) == 0;
	return restored ? begin_restored(e, err) : begin_again(e, err);
}

int engine_snapshot(struct engine *e, struct base_err *err)
{
	struct base_hash hash;
	struct base_buf b;
	int rc;

	if (e->seq == e->snapshot_seq)
		return 0;
	BASE_CHECK(engine_all_durable(e));
	base_buf_init(&b, (size_t)4 << 30);
	rc = core_snapshot(e->core, &b);
	hash = base_hash_of(base_buf_view(&b));
	if (rc < 0)
		base_err_set(err, rc, "out of memory");
	else
		rc = log_snapshot_put(e->log, e->seq, &hash, base_buf_view(&b), err);
	base_buf_done(&b);
	if (rc == 0)
		e->snapshot_seq = e->seq;
	return rc;
}

void engine_config_load(struct engine *e)
{
	struct base_str json = core_config(e->core);
	struct base_json *doc = NULL;

	if (json.len && base_json_parse(json, &doc, NULL) < 0)
		doc = NULL;
	base_json_free(e->config);
	e->config = doc;
	e->config_count++;
	e->loaded_max = 0;
	if (doc)
		e->loaded_max =
			base_jv_int(base_jv_get(base_jv_get(base_json_root(doc), "limits"), "loaded"), 0);
}

/* --- when the log cannot be written --- */

enum { RETRY_MS = 2000 };

static int reload(struct engine *e, bool reopen, struct base_err *err)
{
	int rc = 0;

	if (reopen) {
		close_log(e);
		rc = engine_log_open(e, &e->log, err);
		if (rc == 0) {
			e->committer.log = e->log;
			rc = open_readers(e, err);
		}
	}
	return rc < 0 ? rc : load_state(e, err);
}

void engine_degrade(struct engine *e, int code, const char *why)
{
	struct base_err err = {0};
	int rc;

	if (code == -ENOSPC)
		engine_disk_full(e);
	engine_note(3, "the log cannot be written: %s; new work is refused until it can", why);
	e->degraded = true;
	snprintf(e->degraded_why, sizeof(e->degraded_why), "%s",
		code == -ENOSPC ? "the disk is full" : "the log could not be written");
	engine_flows_forget(e);
	for (size_t i = 0; i < e->proc_count; i++)
		if (e->procs[i].kind == ENGINE_FLOW)
			engine_proc_kill(e, &e->procs[i], "the state goes back to what is in the log");
	rc = reload(e, code != -ENOSPC, &err);
	if (rc < 0) {
		engine_note(3, "the log cannot be read again: %s", err.text);
		e->exit_code = 1;
		e->quit = true;
		return;
	}
	engine_config_load(e);
	e->views_live =
		false; /* the commit that failed may be in the log all the same: it comes from there */
	engine_waiters_check(e);
	engine_timer_add(e, ENGINE_TIMER_DEGRADED, 0, RETRY_MS);
}

/* Calls that are out finish first: their results are kept and written before anything is said to be lost. */
void engine_degraded_retry(struct engine *e)
{
	if (!e->degraded || e->quit)
		return;
	if (engine_effects_count(e)) {
		engine_timer_add(e, ENGINE_TIMER_DEGRADED, 0, RETRY_MS);
		return;
	}
	e->degraded = false;
	engine_effects_replay(e);
	engine_resume(e);
	if (begin(e, false) == 0)
		engine_commit_wait(e);
	if (e->degraded)
		return;
	engine_effects_replayed(e);
	engine_note(1, "the log can be written again");
}
