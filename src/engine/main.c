#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "engine/backup.h"
#include "engine/engine_int.h"

static int usage(void)
{
	fputs("usage: aiosd --workspace DIR [--port N] [--workers N] [--fold-after EVENTS] [--evict-after "
	      "MS] [--restored]\n"
	      "       aiosd --verify-backup DIR\n"
	      "       aiosd --restore DIR --workspace NEW\n"
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

/* One line of JSON on stdout; what went wrong on stderr. */
static int with_backup(const char *dir, const char *workspace)
{
	struct backup_progress at = {.part = ""};
	struct backup_info info;
	struct base_err err = {0};
	int rc = workspace ? backup_restore(dir, workspace, &at, &info, &err)
			   : backup_verify(dir, &at, &info, &err);

	if (rc < 0) {
		fprintf(stderr, "aiosd: %s\n", err.text[0] ? err.text : strerror(-rc));
		return 1;
	}
	printf("{\"ok\":true,\"seq\":%llu,\"files\":%llu,\"bytes\":%llu,\"made_ms\":%lld,\"with_key\":%s}\n",
		(unsigned long long)info.seq, (unsigned long long)info.files, (unsigned long long)info.bytes,
		(long long)info.made_ms, info.has_key ? "true" : "false");
	return 0;
}

/* No core, no debugger: what passes through here is the company's. (A limit of one byte, not zero: the kernel takes zero
 * for "no file", but still feeds a collector.) */
static void close_memory(void)
{
	const struct rlimit core = {1, 1};

	(void)setrlimit(RLIMIT_CORE, &core);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

int main(int argc, char **argv)
{
	const char *verify = NULL, *restore = NULL;
	struct engine_options opt = {.port = -1};
	struct base_err err = {0};
	int rc, workers = 0, fold = ENGINE_FOLD_LONG, evict = ENGINE_EVICT_MS;

	close_memory();
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--restored") == 0) {
			opt.restored = true;
			continue;
		}
		if (strcmp(argv[i], "--verify-backup") == 0 && value)
			verify = value;
		else if (strcmp(argv[i], "--restore") == 0 && value)
			restore = value;
		else if (strcmp(argv[i], "--workspace") == 0 && value)
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
	if (verify || (restore && opt.workspace))
		return with_backup(verify ? verify : restore, verify ? NULL : opt.workspace);
	if (!opt.workspace || restore)
		return usage();
	rc = engine_run_main(&opt, &err);
	if (rc < 0)
		fprintf(stderr, "aiosd: %s\n", err.text[0] ? err.text : strerror(-rc));
	return rc < 0 ? 1 : rc;
}
