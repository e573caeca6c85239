#include "sim/sim_int.h"

#include <stdio.h>
#include <string.h>

/*
 * What flows declare, drawn from the seed and the version's number: a version declares the same whenever it is looked at.
 * Each feature is there in a part of the seeds only.
 */

static uint64_t mix(uint64_t v)
{
	v = (v ^ v >> 31) * 0x9e3779b97f4a7c15u;
	v = (v ^ v >> 29) * 0xbf58476d1ce4e5b9u;
	return v ^ v >> 32;
}

bool sim_has(const struct sim *s, enum sim_feature f)
{
	return mix(s->opt->seed * 8 + 5) >> (16 + f) & 1;
}

struct entries {
	char *ret;
	size_t size, len;
	unsigned count;
};

static void entry(struct entries *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void entry(struct entries *e, const char *fmt, ...)
{
	va_list ap;

	e->len += (size_t)snprintf(e->ret + e->len, e->size - e->len, "%s", e->count++ ? "," : "");
	va_start(ap, fmt);
	e->len += (size_t)vsnprintf(e->ret + e->len, e->size - e->len, fmt, ap);
	va_end(ap);
	BASE_CHECK(e->len < e->size);
}

/* A program whose number begins with 3 publishes what only those hear that begin with 4, which publish nothing. */
static void events(struct entries *e, uint64_t dice)
{
	static const char *const topics[] = {"t0", "t.*", "t.b.*", "u.*", "*"};

	for (unsigned n = dice % 3; n; n--) {
		unsigned i = (unsigned)(mix(dice + n) % 5);

		entry(e, "{\"event\":\"%s\",\"input\":{\"p\":\"%u000000000%06x\"}}", topics[i], i < 3 ? 3 : 4,
			(unsigned)(mix(dice ^ n) & 0xffffff));
	}
}

/* audit_schedules.c reads these forms, and no others. No time stands in the hour that the night of this date leaves out. */
static void schedules(struct entries *e, uint64_t dice)
{
	static const char *const whens[] = {"\"every\":\"20s\"", "\"every\":\"5s\"", "\"every\":\"7m\"",
		"\"every\":\"1h\"", "\"cron\":\"*/20 * * * *\"", "\"cron\":\"*/5 * * * *\"",
		"\"cron\":\"10 3-5 * * *\"", "\"at\":\"2026-03-29T01:10\"", "\"at\":\"2026-03-29T03:30\"",
		"\"at\":\"2026-03-29T00:02Z\"", "\"at\":\"2026-03-28T23:30Z\""};
	static const char *const catches[] = {"", ",\"catchUp\":\"last\"", ",\"catchUp\":\"skip\"",
		",\"catchUp\":\"all\"", ",\"catchUp\":\"all\",\"catchUpMax\":3"};
	static const char *const overlaps[] = {"", ",\"overlap\":\"allow\"", ",\"overlap\":\"queue\"",
		",\"overlap\":\"replace\"", ",\"overlap\":\"skip\""};
	static const char *const quiets[] = {"", "", "", ",\"quiet\":\"00:20-00:50\"",
		",\"quiet\":\"23:00-00:40\"", ",\"quiet\":\"01:05-01:45\""};

	for (unsigned n = 1 + dice % 3; n; n--) {
		uint64_t d = mix(dice + n);

		entry(e, "{%s%s%s%s%s,\"input\":{\"p\":\"%u000000000%06x\"}}", whens[d % 11],
			catches[d / 11 % 5], overlaps[d / 55 % 5], quiets[d / 275 % 6],
			d / 1650 % 2 ? ",\"tz\":\"Europe/Amsterdam\"" : "", d / 3300 % 2 ? 3 : 4,
			(unsigned)(d >> 40));
	}
}

/* `same` is drawn once for a flow: a version that lowers a limit can make a run wait for the place of its own parent. */
static void lanes(char flow, uint64_t same, uint64_t d, char *ret, size_t size)
{
	static const char *const keys[] = {"", "\"key\":\"size(input.p) > 4 ? 'x' : 'y'\",",
		"\"key\":\"input.p.startsWith('1') ? 1 : 2\","};
	static const char *const policies[] = {
		"", ",\"policy\":\"fifo\"", ",\"policy\":\"replace\"", ",\"policy\":\"reject\""};
	static const char *const rates[] = {"", "", "", ",\"rate\":{\"limit\":\"5/s\"}",
		",\"rate\":{\"limit\":\"10/m\"}", ",\"rate\":{\"key\":\"size(input.p)\",\"limit\":\"8/s\"}"};
	size_t at = 0;

	ret[0] = '\0';
	if (same % 4 || flow == 'b')
		at = (size_t)snprintf(ret, size, ",\"concurrency\":{%s\"limit\":%u%s}", keys[same / 4 % 3],
			(unsigned)(1 + same / 12 % 3), policies[d / 36 % 4]);
	snprintf(ret + at, size - at, "%s,\"priority\":%d", rates[d / 144 % 6], (int)(d / 864 % 7) - 3);
}

void sim_declare_limits(const struct sim *s, unsigned version, char *ret, size_t size)
{
	static const char *const limits[] = {"", "\\\"active\\\":2", "\\\"queue\\\":4",
		"\\\"active\\\":3,\\\"queue\\\":6", "\\\"queue\\\":20"};
	const char *l = limits[mix(mix(s->opt->seed) ^ version * 77) % 5];

	if (sim_has(s, SIM_LANES) && l[0])
		snprintf(ret, size, ",\\\"limits\\\":{%s}", l);
	else
		ret[0] = '\0';
}

void sim_declare(const struct sim *s, char flow, uint64_t salt, char *ret, size_t size)
{
	uint64_t dice = mix(mix(s->opt->seed) ^ salt);
	char on[2048] = "", control[512] = "";
	struct entries e = {on, sizeof(on), 0, 0};

	if (sim_has(s, SIM_EVENTS))
		events(&e, mix(dice + 1));
	if (sim_has(s, SIM_SCHEDULES))
		schedules(&e, mix(dice + 2));
	if (sim_has(s, SIM_LANES))
		lanes(flow, mix(mix(s->opt->seed) + (uint64_t)flow), mix(dice + 3), control, sizeof(control));
	else if (flow == 'b')
		snprintf(control, sizeof(control),
			",\"concurrency\":{\"key\":\"size(input.p) > 4 ? 'x' : 'y'\",\"limit\":2}");
	snprintf(ret, size, "{\"name\":\"%c\",\"grants\":[\"*\"]%s%s%s%s}", flow, control,
		e.count ? ",\"on\":[" : "", on, e.count ? "]" : "");
}
