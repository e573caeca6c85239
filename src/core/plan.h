#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "core/cron.h"

/* One entry of a flow's `on`: a time, and when it is due, or an event. Pure; docs/flows.md says what each member
 * means. */
enum core_plan_kind { CORE_PLAN_CRON = 1, CORE_PLAN_EVERY, CORE_PLAN_AT, CORE_PLAN_EVENT };
enum core_catch_up { CORE_CATCH_LAST, CORE_CATCH_SKIP, CORE_CATCH_ALL };
enum core_overlap { CORE_OVERLAP_SKIP, CORE_OVERLAP_ALLOW, CORE_OVERLAP_QUEUE, CORE_OVERLAP_REPLACE };
enum { CORE_CATCH_MAX = 100, CORE_CATCH_DEFAULT = 10 };

struct core_plan {
	enum core_plan_kind kind;
	struct core_cron cron;
	int64_t every_ms;
	int64_t at_s;	/* local time of the zone, or UTC */
	bool at_is_utc; /* it says its own offset */
	enum core_catch_up catch_up;
	enum core_overlap overlap;
	uint32_t catch_max;
	bool quiet;
	int quiet_from, quiet_to; /* minutes of the day; from > to: over midnight */
};

/* Is this entry one of those (cron, every, at, event)? */
bool core_plan_is(struct base_jv entry);
/* *ret_zone is the name of its zone, empty for UTC; a view of the entry. -EINVAL with what is wrong. */
int core_plan_read(struct base_jv entry, struct core_plan *ret, struct base_str *ret_zone,
	struct base_err *err) __attribute__((warn_unused_result));
/* The first time after `after_ms` at which it is due, 0: never. `anchor_ms` is what intervals are counted from. */
int64_t core_plan_next(
	const struct core_plan *p, const struct core_zone *z, int64_t anchor_ms, int64_t after_ms);
/* What is due at due_ms is, within quiet hours (minutes of the day; from > to: over midnight), due at their end. */
int64_t core_quiet_end(int from, int to, const struct core_zone *z, int64_t due_ms);
/* "07:30" as minutes of the day; -1: it is none. */
int core_minutes_of(struct base_str s);
