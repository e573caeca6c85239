#pragma once

/* Schedules in the state: shared by schedule*.c, and by nobody else. */

#include "base/map.h"
#include "core/core_int.h"
#include "core/plan.h"

enum {
	CORE_SCHEDULE_FIRINGS = 10,	 /* shown of one */
	CORE_SCHEDULE_LATE_MS = 60000,	 /* what may pass until a firing counts as missed (skip) */
	CORE_SCHEDULE_COUNT_MAX = 10000, /* missed times that are counted one by one */
};

/* The rules of a zone as the log has them. */
struct core_zone_rules {
	struct base_str name, file;
	struct core_zone zone; /* derived: a view of file */
};

struct core_schedule {
	struct base_str name; /* "FLOW/0" */
	struct base_str flow, by;
	struct base_str spec;	      /* the entry of `on`, canonical */
	struct core_zone_rules *zone; /* NULL: UTC */
	uint64_t id;		      /* position of its schedule_set: what its timer names */
	int64_t anchor_ms;	      /* intervals count from here */
	int64_t after_ms;	      /* next_ms is the first time behind this one */
	int64_t next_ms;	      /* 0: never again */
	int64_t due_ms;		      /* of the last that started a run, 0: none */
	uint64_t run;		      /* that it started */
	uint8_t outcome;	      /* of that one, 0: open */
	bool paused;
	uint32_t queued;
	int64_t queue[CORE_CATCH_MAX]; /* dues that wait for the run to end */
	struct core_plan plan;	       /* derived from spec */
};

struct core_schedules {
	struct base_names *by_name, *zones;
	struct base_idmap *by_id; /* derived */
	struct base_idmap *runs;  /* derived: open runs that a schedule started */
};

struct core_schedule *core_schedule_find(const struct core *c, struct base_str name);
const struct core_zone *core_schedule_zone(const struct core_schedule *s);
/* The run that it started last, where that is still open; else NULL. */
const struct core_run *core_schedule_open(const struct core *c, const struct core_schedule *s);
/* When its timer is due: what is queued and may start now, or its next time; 0: none. */
int64_t core_schedule_due(const struct core *c, const struct core_schedule *s);
