#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "core/zone.h"

/*
 * Five fields: minute (0-59), hour (0-23), day of the month (1-31, L: its last), month (1-12, JAN-DEC), day of the week
 * (0-7, SUN-SAT; 0 and 7 are Sunday). Each is `*`, a value, a range, either of the last with a step behind a slash, or a
 * list of those with commas. Or one of @yearly @annually @monthly @weekly @daily @midnight @hourly.
 *
 * As in Vixie cron: where neither the day of the month nor the day of the week begins with `*`, one of them must fit; else
 * both.
 *
 * Where clocks are put forward, a time that is passed over fires once, right after the gap; where the hour begins with
 * `*` the hours that are there count. Where clocks are put back, a time that comes twice fires the first time; where the
 * minute or the hour begins with `*`, both times.
 */
struct core_cron {
	uint64_t minutes;
	uint32_t hours, days; /* days: bit 0 is the month's last */
	uint16_t months;
	uint8_t weekdays;
	bool minute_star, hour_star, day_star, weekday_star;
};

/* -EINVAL with which field and why. */
int core_cron_read(struct base_str text, struct core_cron *ret, struct base_err *err)
	__attribute__((warn_unused_result));
/* The first time after `after` (seconds, UTC); INT64_MAX: none within fifty years, which is never. */
int64_t core_cron_next(const struct core_cron *c, const struct core_zone *z, int64_t after);
