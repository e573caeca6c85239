#include "engine/flows_int.h"

#include <errno.h>
#include <stdlib.h>

/* What brings a run into its worker: the code of its version, its beginning, its journal (F2 in flows.c). */

enum {
	REPLAY_HOLD = 16,   /* results that are worth one transaction for all */
	VERSIONS_KEPT = 64, /* in a worker; more only while they have runs there */
};

/* --- versions --- */

struct engine_loaded *engine_worker_version(struct engine_worker *w, const struct base_hash *version)
{
	for (size_t i = 0; i < w->version_count; i++)
		if (base_hash_eq(&w->versions[i].version, version))
			return &w->versions[i];
	return NULL;
}

/* Deploys go by and workers stay: a version of which a worker has no run is not kept for ever. */
static void forget_version(struct engine *e, struct engine_proc *p)
{
	struct engine_worker *w = &p->worker;
	struct base_buf *b;
	char hex[65];
	size_t i = 0;

	while (i < w->version_count && w->versions[i].runs)
		i++;
	b = i < w->version_count ? engine_proc_begin(e, p, WIRE_FLOW_FORGET) : NULL;
	if (!b)
		return;
	base_hash_hex(&w->versions[i].version, hex);
	wire_flow_forget_put(b, &(struct wire_flow_forget){.version = {hex, 64}});
	engine_proc_send(e, p);
	for (w->version_count--; i < w->version_count; i++)
		w->versions[i] = w->versions[i + 1];
}

static int send_version(struct engine *e, struct engine_proc *p, const struct base_hash *version)
{
	struct engine_worker *w = &p->worker;
	struct core_record rec;
	struct base_str modules =
		BASE_STR("{\"entry\":\"aios:agent\",\"modules\":{}}"); /* an agent's: built in */
	uint64_t seq = core_version_seq(e->core, version);
	struct base_buf *b;
	char hex[65];
	int rc;

	if (engine_worker_version(w, version))
		return 0;
	if (w->version_count >= VERSIONS_KEPT)
		forget_version(e, p);
	if (w->version_count == w->version_size) {
		size_t size = w->version_size ? w->version_size * 2 : 16;
		struct engine_loaded *more = realloc(w->versions, size * sizeof(*more));

		if (!more)
			return -ENOMEM;
		w->versions = more;
		w->version_size = size;
	}
	rc = seq ? engine_read_blob(e, seq, &rec, &modules) : 0;
	if (rc < 0)
		return rc;
	b = engine_proc_begin(e, p, WIRE_FLOW_VERSION);
	if (!b)
		return -EPIPE;
	base_hash_hex(version, hex);
	wire_flow_version_put(b, &(struct wire_flow_version){.version = {hex, 64}, .modules = modules});
	engine_proc_send(e, p);
	w->versions[w->version_count++] = (struct engine_loaded){.version = *version};
	return 0;
}

static int send_start(
	struct engine *e, struct engine_proc *p, const struct core_run_info *info, size_t replay)
{
	struct core_record rec;
	union core_event_any ev;
	struct base_str input;
	struct base_buf *b;
	char hex[65];
	int rc = engine_read_blob(e, info->seq_started, &rec, &input);

	if (rc < 0)
		return rc;
	rc = core_event_get(rec.type, rec.body, &ev);
	if (rc < 0 || rec.type != CORE_EV_RUN_STARTED)
		return -EUCLEAN;
	b = engine_proc_begin(e, p, WIRE_FLOW_START);
	if (!b)
		return -EPIPE;
	base_hash_hex(&info->version, hex);
	wire_flow_start_put(
		b, &(struct wire_flow_start){.run = info->run,
			   .version = {hex, 64},
			   .time_ms = ev.run_started.clock_ms ? ev.run_started.clock_ms : rec.time_ms,
			   .seed = ev.run_started.seed,
			   .input = input,
			   .context = ev.run_started.context,
			   .replay = (uint32_t)replay});
	engine_proc_send(e, p);
	return 0;
}

/* --- journals --- */

int engine_result_send(struct engine *e, struct engine_proc *p, struct engine_run *r, uint32_t step, bool ok,
	int64_t time_ms, struct base_str value)
{
	struct base_buf *b = engine_proc_begin(e, p, WIRE_FLOW_RESULT);

	if (!b)
		return -EPIPE;
	wire_flow_result_put(b, &(struct wire_flow_result){.run = r->run,
					.step = step,
					.status = ok ? 0 : 1,
					.time_ms = time_ms,
					.value = value});
	engine_proc_send(e, p);
	r->unacked++;
	engine_worker_push(e, p, r->run);
	return 0;
}

void engine_replay_end(struct engine *e, struct engine_run *r)
{
	struct engine_replay *y = r->replay;

	if (!y)
		return;
	if (y->prev)
		y->prev->next = y->next;
	else
		e->replays = y->next;
	if (y->next)
		y->next->prev = y->prev;
	free(y->entry);
	free(y);
	r->replay = NULL;
}

int engine_replay_more(struct engine *e, struct engine_run *r)
{
	struct engine_replay *y = r->replay;
	struct engine_proc *p = r->worker;
	bool hold = y->count - y->at > REPLAY_HOLD;
	int rc = 0;

	if (hold) /* what is not durable yet stands in the groups, which stay as they are meanwhile */
		log_reader_hold(e->reader, true);
	while (rc == 0 && y->at < y->count && wire_conn_pending(p->conn) <= LOAD_HIGH) {
		struct base_str value;
		int64_t time_ms;
		bool ok;

		rc = engine_step_result(e, y->entry[y->at].seq, &ok, &time_ms, &value);
		if (rc == 0)
			rc = engine_result_send(e, p, r, y->entry[y->at].step, ok, time_ms, value);
		y->at++;
	}
	if (hold)
		log_reader_hold(e->reader, false);
	if (rc < 0 || y->at == y->count)
		engine_replay_end(e, r);
	return rc;
}

static int replay_add(struct engine_replay *y, uint64_t seq, uint32_t step)
{
	if (y->count == y->size) {
		size_t size = y->size * 2;
		struct core_journal_entry *more = realloc(y->entry, size * sizeof(*more));

		if (!more)
			return -ENOMEM;
		y->entry = more;
		y->size = size;
	}
	y->entry[y->count++] = (struct core_journal_entry){.seq = seq, .step = step};
	return 0;
}

/* With room for `size` entries, at least one. */
static int replay_new(struct engine *e, struct engine_run *r, size_t size)
{
	struct engine_replay *y = calloc(1, sizeof(*y));

	if (!y)
		return -ENOMEM;
	y->run = r;
	y->next = e->replays;
	if (y->next)
		y->next->prev = y;
	e->replays = y;
	r->replay = y;
	y->entry = calloc(size, sizeof(*y->entry));
	if (!y->entry)
		return -ENOMEM;
	y->size = size;
	return 0;
}

int engine_result_later(struct engine *e, struct engine_run *r, uint64_t seq, uint32_t step)
{
	int rc = r->replay ? 0 : replay_new(e, r, 1);

	return rc < 0 ? rc : replay_add(r->replay, seq, step);
}

static int replay_begin(struct engine *e, struct engine_run *r, size_t count)
{
	int rc = count ? replay_new(e, r, count) : 0;

	if (rc == 0 && count)
		r->replay->count = core_run_journal(e->core, r->run, r->replay->entry, count);
	return rc;
}

int engine_run_load(struct engine *e, struct engine_proc *p, struct engine_run *r)
{
	struct core_run_info info;
	size_t n;
	int rc;

	if (!core_run_get(e->core, r->run, &info) || info.state != CORE_RUN_ACTIVE)
		return -ENOENT;
	rc = send_version(e, p, &info.version);
	if (rc < 0)
		return rc;
	n = core_run_journal(e->core, r->run, NULL, 0);
	rc = send_start(e, p, &info, n);
	if (rc < 0)
		return rc;
	r->state = LOADED;
	r->worker = p;
	r->version = info.version;
	r->unacked = 1;
	p->worker.runs++;
	engine_worker_version(&p->worker, &info.version)->runs++;
	engine_worker_push(e, p, r->run);
	rc = replay_begin(e, r, n);
	return rc == 0 && r->replay ? engine_replay_more(e, r) : rc;
}
