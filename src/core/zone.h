#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/*
 * Time zones: TZif (RFC 9636, version 2 and later) and the POSIX TZ string behind it, which tells of all times after the
 * last that the file lists. Pure: the bytes come from outside and stay where they are. Times are seconds since 1970 UTC;
 * "local" is the same count as the zone's clocks show it.
 */
enum { CORE_ZONE_MAX = 64 << 10, CORE_ZONE_NAME_MAX = 64 };

struct core_zone_rule {
	char kind; /* 'J': day 1-365 without 29 February; 'N': day 0-365; 'M': the week'th weekday of a month */
	int day, month, week;
	int time_s; /* of that day, by the clock before the change */
};

struct core_zone {			   /* zeroed: UTC */
	const char *times, *types, *infos; /* in the file */
	uint32_t time_count, type_count;
	bool footer, dst;
	int32_t standard_s, summer_s;
	struct core_zone_rule start, end; /* of summer time */
};

/* A view of `file`, which must outlive it; every length and index in it is checked. -EBADMSG with what is wrong. */
int core_zone_read(struct base_str file, struct core_zone *ret, struct base_err *err)
	__attribute__((warn_unused_result));

/* What local clocks are ahead of UTC. */
int32_t core_zone_offset(const struct core_zone *z, int64_t time);
/* The first time after `after` at which that may change; false: never. */
bool core_zone_next(const struct core_zone *z, int64_t after, int64_t *ret);
/* The first time, not before `from`, at which local clocks show `local` or have passed over it. `from` is at most some
 * days before. */
int64_t core_zone_instant(const struct core_zone *z, int64_t local, int64_t from);

/* Days since 1970-01-01 of a date (month 1-12; a day past the month's end runs on) and back. */
int64_t core_days_of(int64_t year, int month, int day);
void core_date_of(int64_t days, int64_t *ret_year, int *ret_month, int *ret_day);
/* 0 Sunday to 6. */
int core_weekday_of(int64_t days);
/* Division that rounds down. */
int64_t core_floor_div(int64_t a, int64_t b);
