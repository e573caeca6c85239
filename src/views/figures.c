/* Answers: costs, outcomes, and who was denied what. */
#include <errno.h>

#include "views/views_int.h"

/* --- costs --- */

#define COST_COLUMNS                                                                                         \
	"sum(c.cost) AS cost, count(*) AS calls, sum(c.input_tokens) AS input_tokens,"                       \
	" sum(c.output_tokens) AS output_tokens, sum(c.cache_read_tokens) AS cache_read_tokens,"             \
	" sum(c.cache_write_tokens) AS cache_write_tokens"
#define COST_FROM                                                                                            \
	" FROM charges c LEFT JOIN runs r ON r.run = c.run LEFT JOIN steps s ON s.run = c.run AND s.step = " \
	"c.step"                                                                                             \
	" WHERE c.at >= ?1 AND c.at < ?2 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?3"
#define COST_BY(key) "SELECT " key " AS key, " COST_COLUMNS COST_FROM

/* What the runs that recorded an outcome cost, their children included. */
static const char by_outcome[] =
	"WITH RECURSIVE o AS (SELECT name, count(*) AS n, sum(value) AS value, sum(money) AS money FROM "
	"outcomes"
	"  WHERE at >= ?1 AND at < ?2 GROUP BY name),"
	" tree(name, run) AS (SELECT DISTINCT name, run FROM outcomes WHERE run > 0 AND at >= ?1 AND at < ?2"
	"  UNION SELECT tree.name, runs.run FROM runs JOIN tree ON runs.parent = tree.run AND runs.parent > "
	"0)"
	" SELECT o.name AS key, o.n AS count, o.value, o.money,"
	"  (SELECT count(DISTINCT run) FROM outcomes x WHERE x.name = o.name AND x.run > 0 AND at >= ?1 AND "
	"at < ?2)"
	"   AS runs,"
	"  (SELECT coalesce(sum(c.cost),0) FROM tree JOIN charges c ON c.run = tree.run WHERE tree.name = "
	"o.name) AS cost,"
	"  (SELECT coalesce(sum(c.cost),0) FROM tree JOIN charges c ON c.run = tree.run WHERE tree.name = "
	"o.name) / o.n"
	"   AS each"
	" FROM o ORDER BY 6 DESC, 1 LIMIT ?3";

/* What was spent for a customer directly, how many effects reached them, and their share of what a run spent for all
 * whom it reached (its children included). */
static const char by_customer[] =
	"WITH RECURSIVE direct AS (SELECT coalesce(nullif(s.customer,''), r.customer, '') AS "
	"key, " COST_COLUMNS "  FROM charges c LEFT JOIN runs r ON r.run = c.run LEFT JOIN steps s ON s.run "
	"= c.run AND s.step = c.step"
	"  WHERE c.at >= ?1 AND c.at < ?2 GROUP BY 1),"
	" reached AS (SELECT customer AS key, run, count(*) AS n FROM steps WHERE customer <> '' AND status "
	"= 'done'"
	"  AND class IN ('idempotent','lookup','once') AND ended_ms >= ?1 AND ended_ms < ?2 GROUP BY 1, 2),"
	" people AS (SELECT run, count(*) AS n FROM reached GROUP BY run),"
	" tree(root, run) AS (SELECT run, run FROM people"
	"  UNION SELECT tree.root, runs.run FROM runs JOIN tree ON runs.parent = tree.run AND runs.parent > "
	"0),"
	" common AS (SELECT tree.root AS run, sum(c.cost) AS cost FROM tree JOIN charges c ON c.run = "
	"tree.run"
	"  LEFT JOIN steps s ON s.run = c.run AND s.step = c.step WHERE coalesce(s.customer,'') = '' GROUP "
	"BY 1),"
	" shares AS (SELECT reached.key AS key, sum(reached.n) AS effects, sum(coalesce(common.cost,0) / "
	"people.n) AS share"
	"  FROM reached JOIN people ON people.run = reached.run LEFT JOIN common ON common.run = reached.run "
	"GROUP BY 1),"
	" keys AS (SELECT key FROM direct UNION SELECT key FROM shares)"
	" SELECT keys.key AS key, coalesce(direct.cost,0) AS cost, coalesce(direct.calls,0) AS calls,"
	"  coalesce(input_tokens,0) AS input_tokens, coalesce(output_tokens,0) AS output_tokens,"
	"  coalesce(cache_read_tokens,0) AS cache_read_tokens, coalesce(cache_write_tokens,0) AS "
	"cache_write_tokens,"
	"  coalesce(shares.effects,0) AS effects, coalesce(shares.share,0) AS share"
	" FROM keys LEFT JOIN direct ON direct.key = keys.key LEFT JOIN shares ON shares.key = keys.key"
	" ORDER BY 2 DESC, 1 LIMIT ?3";

static const struct {
	const char *name;
	const char *sql;
} cost_by[] = {
	{"flow", COST_BY("coalesce(r.flow,'')")},
	{"model", COST_BY("c.model")},
	{"customer", by_customer},
	{"run", COST_BY("c.run")},
	{"day", COST_BY("date(c.at / 1000, 'unixepoch')")},
	{"outcome", by_outcome},
};

int views_ask_costs(struct views_ask *a)
{
	struct base_str by = views_param(a, "by");
	int64_t since, until, limit = 0;
	sqlite3_stmt *st = NULL;
	int r = views_param_int(a, "since", 0, &since);

	r = r < 0 ? r : views_param_int(a, "until", INT64_MAX, &until);
	r = r < 0 ? r : views_param_limit(a, 1000, 10000, &limit);
	if (r < 0)
		return r;
	by = by.len ? by : BASE_STR("flow");
	for (size_t i = 0; i < sizeof(cost_by) / sizeof(cost_by[0]); i++)
		if (base_str_is(by, cost_by[i].name)) {
			st = views_prepare(a->v, cost_by[i].sql);
			if (!st)
				return views_error(a->v, a->v->rc, a->err);
		}
	if (!st)
		return base_err_set(
			a->err, -EINVAL, "costs are by flow, model, customer, outcome, run or day");
	views_bind(st, "iii", since, until, limit);
	base_jw_obj(&a->w);
	base_jw_mstr(&a->w, "by", by);
	r = views_rows(a, "items", st, 0, NULL);
	base_jw_mint(&a->w, "total",
		views_int(a->v, "SELECT coalesce(sum(cost),0) FROM charges WHERE at >= ?1 AND at < ?2", 0,
			"ii", since, until));
	base_jw_end_obj(&a->w);
	return r;
}

/* --- outcomes and experiments --- */

static int put_experiments(struct views_ask *a, struct base_str experiment)
{
	static const char sql[] =
		"SELECT e.experiment, j.key AS arm,"
		" CASE j.type WHEN 'text' THEN json_quote(j.value) WHEN 'true' THEN 'true' WHEN 'false' THEN "
		"'false'"
		"  WHEN 'null' THEN 'null' ELSE j.value END AS \"value:json\","
		" (SELECT count(*) FROM choices c WHERE c.experiment = e.experiment AND c.arm = j.key) AS "
		"chosen,"
		" count(o.seq) AS outcomes, coalesce(sum(o.value > 0),0) AS wins, coalesce(sum(o.value),0) "
		"AS sum,"
		" coalesce(sum(o.money),0) AS money"
		" FROM experiments e JOIN json_each(e.arms) j"
		" LEFT JOIN outcomes o ON o.experiment = e.experiment AND o.arm = j.key AND o.experiment <> "
		"''"
		" WHERE ?1 = '' OR e.experiment = ?1 GROUP BY e.experiment, j.key ORDER BY 1, 2 LIMIT 1000";
	sqlite3_stmt *st = views_prepare(a->v, sql);

	if (!st)
		return views_error(a->v, a->v->rc, a->err);
	views_bind(st, "s", experiment);
	return views_rows(a, "experiments", st, 0, NULL);
}

int views_ask_outcomes(struct views_ask *a)
{
	static const char items_sql[] =
		"SELECT seq, at, name, value, nullif(run,0) AS run, customer, experiment, arm, key, by_ AS "
		"\"by\", money"
		" FROM outcomes WHERE seq < ?1 AND at >= ?2 AND (?3 = '' OR name = ?3) AND (?4 = '' OR "
		"experiment = ?4)"
		" AND (?5 = 0 OR run = ?5) AND (?6 = '' OR customer = ?6) ORDER BY seq DESC LIMIT ?7";
	static const char totals_sql[] =
		"SELECT name, count(*) AS count, sum(value) AS value, sum(money) AS money FROM outcomes"
		" WHERE at >= ?1 AND (?2 = '' OR name = ?2) AND (?3 = '' OR experiment = ?3) AND (?4 = 0 OR "
		"run = ?4)"
		" AND (?5 = '' OR customer = ?5) GROUP BY name ORDER BY name LIMIT 1000";
	struct base_str name = views_param(a, "name"), experiment = views_param(a, "experiment");
	struct base_str customer = views_param(a, "customer");
	int64_t before, since, run, limit = 0, last = 0;
	sqlite3_stmt *items, *totals;
	int r = views_param_int(a, "before", INT64_MAX, &before);

	r = r < 0 ? r : views_param_int(a, "since", 0, &since);
	r = r < 0 ? r : views_param_int(a, "run", 0, &run);
	r = r < 0 ? r : views_param_limit(a, 100, 1000, &limit);
	if (r < 0)
		return r;
	items = views_prepare(a->v, items_sql);
	totals = views_prepare(a->v, totals_sql);
	if (!items || !totals)
		return views_error(a->v, a->v->rc, a->err);
	views_bind(items, "iissisi", before, since, name, experiment, run, customer, limit + 1);
	views_bind(totals, "issis", since, name, experiment, run, customer);
	base_jw_obj(&a->w);
	r = views_rows(a, "items", items, limit, &last);
	if (r == 0)
		views_next(a, last);
	r = r < 0 ? r : views_rows(a, "totals", totals, 0, NULL);
	r = r < 0 ? r : put_experiments(a, experiment);
	base_jw_end_obj(&a->w);
	return r;
}

/* --- who did what --- */

/* {items, next} of a cached statement with ?1 before, ?2 since, ?3 limit, ?4 a filter. */
static int put_log(struct views_ask *a, const char *sql, const char *filter)
{
	int64_t before, since, limit = 0, last = 0;
	sqlite3_stmt *st;
	int r = views_param_int(a, "before", INT64_MAX, &before);

	r = r < 0 ? r : views_param_int(a, "since", 0, &since);
	r = r < 0 ? r : views_param_limit(a, 100, 1000, &limit);
	if (r < 0)
		return r;
	st = views_prepare(a->v, sql);
	if (!st)
		return views_error(a->v, a->v->rc, a->err);
	views_bind(st, "iiis", before, since, limit + 1, views_param(a, filter));
	base_jw_obj(&a->w);
	r = views_rows(a, "items", st, limit, &last);
	if (r == 0)
		views_next(a, last);
	base_jw_end_obj(&a->w);
	return r;
}

int views_ask_denied(struct views_ask *a)
{
	return put_log(a,
		"SELECT seq, at, principal, action, object, reason, nullif(run,0) AS run, step FROM denied"
		" WHERE seq < ?1 AND at >= ?2 AND (?4 = '' OR principal = ?4) ORDER BY seq DESC LIMIT ?3",
		"principal");
}

int views_ask_flows(struct views_ask *a)
{
	static const char sql[] =
		"SELECT f.flow, f.version AS \"version:hex\", f.at, f.by_ AS \"by\", f.spec AS \"spec:json\","
		" f.grants AS \"grants:json\", (SELECT count(*) FROM runs r WHERE r.flow = f.flow) AS runs,"
		" (SELECT count(*) FROM runs r WHERE r.flow = f.flow AND r.state IN "
		"('active','parked','queued','paused')) AS "
		"active,"
		" (SELECT coalesce(sum(c.cost),0) FROM charges c JOIN runs r ON r.run = c.run WHERE r.flow = "
		"f.flow)"
		"  AS cost"
		" FROM flows f WHERE f.seq = (SELECT max(seq) FROM flows g WHERE g.flow = f.flow)"
		" AND (?1 = '' OR f.flow = ?1) ORDER BY f.flow LIMIT 1000";
	sqlite3_stmt *st = views_prepare(a->v, sql);
	int r;

	if (!st)
		return views_error(a->v, a->v->rc, a->err);
	views_bind(st, "s", views_param(a, "flow"));
	base_jw_obj(&a->w);
	r = views_rows(a, "items", st, 0, NULL);
	base_jw_end_obj(&a->w);
	return r;
}
