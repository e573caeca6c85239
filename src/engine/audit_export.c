#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/keep.h"

/*
 * GET /v1/audit/export: a window of the log with what proves it, a page at a time. tools/aios-verify-audit.py checks it and
 * says what it trusts: a public key.
 *
 *   {"aios_audit":1,"log","from","to","before","first","run"?}        before: the chain before the commit of event `first`
 *   {"commit":FIRST SEQ,"count","time","root","chain"}                each commit from that one on
 *   {"seq","bytes","proof":[…],"event"}                               its events of the window; event: the same for people
 *   {"checkpoint":SEQ,"log","chain","time","public_key","signature"}  as they come by
 *   {"end":TO,"last":SEQ}
 *
 * Behind the window come the heads of commits only, up to the first checkpoint that covers all of it. Bodies over 64 KiB are
 * in the events by their hash.
 */

enum { PAGE_BYTES = 4 << 20, HEADS_MAX = 20000, GATES_MAX = 4096, SHOWN_MAX = 1 << 20 };

struct engine_export {
	struct engine_job job;
	uint64_t req;
	struct log_reader *reader;
	struct base_buf out, line, packed;
	uint64_t from, to, cursor, run, durable, signed_up;
	int64_t since, until;
	bool first, heads;
	uint64_t next; /* where the next page goes on, 0: this was the last */
	uint64_t covered;
	unsigned count;
	uint64_t gates[GATES_MAX]; /* that belong to `run` */
	size_t gate_count;
	struct base_hash *tree;
	size_t tree_size;
	char id[33];
	int rc;
	struct base_err err;
};

/* --- one line --- */

static struct base_jw begin(struct engine_export *x)
{
	struct base_jw w;

	if (x->out.len)
		base_buf_char(&x->out, ',');
	w = base_jw_of(&x->out);
	base_jw_obj(&w);
	return w;
}

static void put_u64(struct base_jw *w, const char *name, uint64_t v)
{
	base_jw_key(w, name);
	base_jw_uint(w, v);
}

static void put_commit(struct engine_export *x, const struct log_commit *c)
{
	struct base_jw w = begin(x);

	put_u64(&w, "commit", c->first_seq);
	put_u64(&w, "count", c->count);
	base_jw_mint(&w, "time", c->time_ms);
	base_jw_mhash(&w, "root", &c->root);
	base_jw_mhash(&w, "chain", &c->chain);
	base_jw_end_obj(&w);
}

static void put_event(struct engine_export *x, const struct log_commit *c, uint64_t seq, struct base_str raw)
{
	struct base_hash path[64];
	size_t n = base_merkle_path(x->tree, c->count, (size_t)(seq - c->first_seq), path);
	struct base_jw w = begin(x);

	put_u64(&w, "seq", seq);
	base_buf_clear(&x->packed);
	base_b64_put(&x->packed, raw);
	base_jw_mstr(&w, "bytes", base_buf_view(&x->packed));
	base_jw_key(&w, "proof");
	base_jw_arr(&w);
	for (size_t i = 0; i < n; i++) {
		char hex[65];

		base_hash_hex(&path[i], hex);
		base_jw_cstr(&w, hex);
	}
	base_jw_end_arr(&w);
	if (x->line.len <= SHOWN_MAX)
		base_jw_mraw(&w, "event", base_buf_view(&x->line));
	base_jw_end_obj(&w);
}

static void put_checkpoint(struct engine_export *x, const struct core_checkpoint_signed *k)
{
	struct base_jw w = begin(x);

	engine_put_checkpoint(&w, k);
	base_jw_end_obj(&w);
}

/* --- which events --- */

/* The number behind `"name":` in the event's JSON, 0: none. */
static uint64_t named(struct base_str line, const char *name)
{
	const char *at = memmem(line.ptr, line.len, name, strlen(name));
	uint64_t v = 0;

	if (!at)
		return 0;
	for (at += strlen(name); at < line.ptr + line.len && *at >= '0' && *at <= '9'; at++)
		v = v * 10 + (uint64_t)(*at - '0');
	return v;
}

/* Of the run, or a decision about a gate of it. What only mentions its number comes along: nothing of it is left out. */
static bool is_wanted(struct engine_export *x, uint64_t seq, const struct core_record *rec)
{
	struct base_str line;
	uint64_t gate;
	bool of_run;

	base_buf_clear(&x->line);
	engine_put_event(&x->line, seq, rec);
	if (!x->run)
		return true;
	line = base_buf_view(&x->line);
	gate = named(line, "\"gate\":");
	of_run = named(line, "\"run\":") == x->run;
	if (of_run && rec->type == CORE_EV_GATE_OPENED && x->gate_count < GATES_MAX)
		x->gates[x->gate_count++] = gate;
	for (size_t i = 0; !of_run && gate && i < x->gate_count; i++)
		of_run = x->gates[i] == gate;
	return of_run;
}

static int make_tree(struct engine_export *x, const struct log_commit *c)
{
	size_t need = BASE_MERKLE_TREE((size_t)c->count), at = 0, n = 0;
	struct core_record rec;

	if (need > x->tree_size) {
		struct base_hash *more = reallocarray(x->tree, need, sizeof(*more));

		if (!more)
			return base_err_set(&x->err, -ENOMEM, "out of memory");
		x->tree = more;
		x->tree_size = need;
	}
	while (n < c->count && core_block_next(c->block, &at, &rec) == 1)
		x->tree[n++] = base_merkle_leaf(rec.raw);
	if (n != c->count)
		return base_err_set(&x->err, -EUCLEAN, "the commit of event %llu is malformed",
			(unsigned long long)c->first_seq);
	base_merkle_tree(x->tree, n);
	return 0;
}

/* --- the walk --- */

static int export_commit(void *userdata, const struct log_commit *c)
{
	struct engine_export *x = userdata;
	uint64_t seq = c->first_seq, last = c->first_seq + c->count - 1;
	union core_event_any ev;
	struct core_record rec;
	size_t at = 0;
	int rc;

	if (last > x->durable)
		return 1;
	if (x->out.len > PAGE_BYTES || x->count > HEADS_MAX) {
		x->next = c->first_seq;
		return 1;
	}
	if (x->first || x->cursor <= c->first_seq) /* else the page before has its head */
		put_commit(x, c);
	x->count++;
	rc = c->first_seq <= x->to && !x->heads ? make_tree(x, c) : 0;
	if (rc < 0)
		return rc;
	for (; core_block_next(c->block, &at, &rec) == 1; seq++) {
		if (seq < x->cursor)
			continue;
		if (x->out.len > PAGE_BYTES) {
			x->next = seq;
			return 1;
		}
		if (seq >= x->from && seq <= x->to && !x->heads && is_wanted(x, seq, &rec))
			put_event(x, c, seq, rec.raw);
		if (rec.type == CORE_EV_CHECKPOINT_SIGNED && !rec.subject.len &&
			core_event_get(rec.type, rec.body, &ev) == 0 && ev.checkpoint_signed.seq >= x->from) {
			put_checkpoint(x, &ev.checkpoint_signed);
			x->covered = ev.checkpoint_signed.seq;
		}
	}
	return last >= x->to && x->covered >= x->to ? 1 : 0;
}

/* The first event that is not older than `ms`: commits go forward in time. */
static uint64_t at_time(struct engine_export *x, int64_t ms)
{
	uint64_t low = 1, high = x->durable + 1;
	struct log_commit c;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (log_read(x->reader, mid, &c, &x->err) < 0)
			return 0;
		if (c.time_ms < ms)
			low = c.first_seq + c.count;
		else
			high = c.first_seq < mid ? c.first_seq : mid;
	}
	return low;
}

static int put_head(struct engine_export *x)
{
	struct base_hash before = {0};
	struct log_commit c;
	struct base_jw w;
	uint64_t first;
	int rc = log_read(x->reader, x->from, &c, &x->err);

	if (rc < 0)
		return rc;
	first = c.first_seq;
	if (first > 1) {
		rc = log_read(x->reader, first - 1, &c, &x->err);
		if (rc < 0)
			return rc;
		before = c.chain;
	}
	w = begin(x);
	base_jw_mint(&w, "aios_audit", 1);
	base_jw_mcstr(&w, "log", x->id);
	put_u64(&w, "from", x->from);
	put_u64(&w, "to", x->to);
	put_u64(&w, "first", first);
	base_jw_mhash(&w, "before", &before);
	if (x->run)
		put_u64(&w, "run", x->run);
	if (x->heads)
		base_jw_mbool(&w, "heads", true);
	base_jw_end_obj(&w);
	return 0;
}

static void export_work(void *owner)
{
	struct engine_export *x = owner;
	struct base_jw w;

	x->rc = 0;
	if (x->since)
		x->from = at_time(x, x->since);
	if (x->until)
		x->to = at_time(x, x->until) - 1;
	if (!x->to && x->signed_up >= x->from) /* as far as it can be verified */
		x->to = x->signed_up;
	if (x->to > x->durable || !x->to)
		x->to = x->durable;
	if (!x->from || x->from > x->to) {
		x->rc = base_err_set(&x->err, -ENOENT, "there are no events between these");
		return;
	}
	if (x->first) {
		x->cursor = x->from;
		x->rc = put_head(x);
	}
	if (x->rc == 0)
		x->rc = log_each(x->reader, x->cursor, export_commit, x, &x->err);
	if (x->rc < 0)
		return;
	x->rc = 0;
	if (!x->next) {
		w = begin(x);
		put_u64(&w, "end", x->to);
		base_jw_end_obj(&w);
	}
}

static void export_free(struct engine_export *x)
{
	log_reader_free(x->reader);
	base_buf_done(&x->out);
	base_buf_done(&x->line);
	base_buf_done(&x->packed);
	free(x->tree);
	free(x);
}

static void put_gates(const struct engine_export *x, struct base_buf *b)
{
	base_buf_cstr(b, ",\"gates\":\"");
	for (size_t i = 0; i < x->gate_count; i++)
		base_buf_printf(b, "%s%llu", i ? "," : "", (unsigned long long)x->gates[i]);
	base_buf_cstr(b, "\"");
}

static void export_done(struct engine *e, void *owner)
{
	struct engine_export *x = owner;
	struct engine_req *q = engine_req_of(e, x->req);
	struct base_buf *b = q ? &q->reply : NULL;

	e->keep->export = NULL;
	if (q && (x->rc < 0 || base_buf_failed(&x->out))) {
		engine_reply_problem(e, q, x->rc == -ENOENT ? 404 : 500,
			x->rc == -ENOENT ? "not_found" : "log", "%s",
			x->rc < 0 ? x->err.text : "this page of the log is too large");
	} else if (q) {
		base_buf_cstr(b, "{\"items\":[");
		base_buf_str(b, base_buf_view(&x->out));
		base_buf_printf(b, "],\"from\":%llu,\"to\":%llu", (unsigned long long)x->from,
			(unsigned long long)x->to);
		if (x->next)
			base_buf_printf(b, ",\"next\":%llu,\"covered\":%llu", (unsigned long long)x->next,
				(unsigned long long)x->covered);
		if (x->next && x->run)
			put_gates(x, b);
		base_buf_char(b, '}');
		engine_reply_built(e, q, 200);
	}
	export_free(x);
}

static void read_gates(struct engine_export *x, struct base_str list)
{
	struct base_str one;

	while (list.len && x->gate_count < GATES_MAX) {
		base_str_cut(list, ',', &one, &list);
		if (base_str_u64(one, &x->gates[x->gate_count]) == 0)
			x->gate_count++;
	}
}

void engine_op_audit_export(struct engine *e, struct engine_req *q)
{
	struct core_checkpoint_info signed_up;
	struct engine_export *x;
	struct base_err err = {0};
	int rc;

	if (e->keep->export) {
		engine_reply_problem(
			e, q, 409, "busy", "another export is being read: try again in a moment");
		return;
	}
	x = calloc(1, sizeof(*x));
	BASE_CHECK(x);
	base_buf_init(&x->out, 16 << 20);
	base_buf_init(&x->line, 128 << 20);
	base_buf_init(&x->packed, 128 << 20);
	x->req = q->id;
	x->from = engine_param_u64(q, "from", 1);
	x->to = engine_param_u64(q, "to", 0);
	x->since = (int64_t)engine_param_u64(q, "since", 0);
	x->until = (int64_t)engine_param_u64(q, "until", 0);
	x->run = engine_param_u64(q, "run", 0);
	x->cursor = engine_param_u64(q, "cursor", 0);
	x->covered = engine_param_u64(q, "covered", 0);
	x->heads = engine_param(q, "heads").len > 0;
	x->first = x->cursor == 0;
	x->durable = e->durable;
	core_checkpoint_get(e->core, &signed_up);
	x->signed_up = signed_up.seq;
	read_gates(x, engine_param(q, "gates"));
	memcpy(x->id, log_id(e->log), sizeof(x->id) - 1);
	x->job = (struct engine_job){.work = export_work, .done = export_done, .owner = x};
	rc = log_reader_new(e->log, &x->reader, &err);
	if (rc == 0)
		rc = engine_job_start(e, &x->job);
	if (rc == 0) {
		e->keep->export = x;
		return;
	}
	export_free(x);
	engine_reply_problem(e, q, 503, "unavailable", "%s", err.text);
}

void engine_export_settle(struct engine *e)
{
	if (e->keep && e->keep->export)
		engine_job_settle(e, &e->keep->export->job);
}
