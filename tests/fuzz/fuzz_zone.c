/* A cron expression, a line feed, the rules of a zone: when it fires there. */
#include <stdlib.h>

#include "core/cron.h"
#include "fuzz.h"

static void must(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_str in = {(const char *)data, size}, head, tail;
	int64_t at = 1300000000, change;
	struct core_zone z;
	struct core_cron c;
	struct base_err err;

	(void)base_str_cut(in, '\n', &head, &tail);
	if (core_zone_read(tail, &z, &err) < 0)
		return 0;
	for (int i = 0; i < 50; i++) {
		must(core_zone_instant(&z, at + 3600, at) >= at);
		if (!core_zone_next(&z, at, &change) || change > 4000000000)
			break;
		must(change > at);
		at = change;
	}
	if (core_cron_read(head, &c, &err) < 0)
		return 0;
	at = 1300000000;
	for (int i = 0; i < 20 && at != INT64_MAX; i++) {
		int64_t next = core_cron_next(&c, &z, at);

		must(next > at);
		at = next;
	}
	return 0;
}
