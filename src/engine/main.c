#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_int.h"

static int usage(void)
{
	fputs("usage: aiosd --workspace DIR [--port N] [--workers N] [--fold-after EVENTS] [--evict-after "
	      "MS]\n"
	      "Runs a workspace in the foreground. `aios up` starts it in the background.\n",
		stderr);
	return 2;
}

static int number(const char *s, int max, int *ret)
{
	uint64_t v;

	if (!s || base_str_u64(base_str_of(s), &v) < 0 || v > (uint64_t)max)
		return -EINVAL;
	*ret = (int)v;
	return 0;
}

int main(int argc, char **argv)
{
	struct engine_options opt = {.port = -1};
	struct base_err err = {0};
	int rc, workers = 0, fold = ENGINE_FOLD_LONG, evict = ENGINE_EVICT_MS;

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--workspace") == 0 && value)
			opt.workspace = value;
		else if (strcmp(argv[i], "--port") == 0 && number(value, 65535, &opt.port) == 0)
			;
		else if (strcmp(argv[i], "--workers") == 0 &&
			 number(value, ENGINE_FLOWS_MAX, &workers) == 0 && workers > 0)
			opt.workers = (unsigned)workers;
		else if (strcmp(argv[i], "--fold-after") == 0 && number(value, INT32_MAX, &fold) == 0)
			;
		else if (strcmp(argv[i], "--evict-after") == 0 && number(value, INT32_MAX, &evict) == 0)
			;
		else
			return usage();
		i++;
	}
	opt.fold_after = (uint64_t)fold;
	opt.evict_ms = evict;
	if (!opt.workspace)
		return usage();
	rc = engine_run_main(&opt, &err);
	if (rc < 0)
		fprintf(stderr, "aiosd: %s\n", err.text[0] ? err.text : strerror(-rc));
	return rc < 0 ? 1 : rc;
}
