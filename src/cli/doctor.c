#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli_int.h"
#include "jail/jail.h"

/* aios doctor: what this machine and this workspace are like, and what to do about it. */

enum level { LEVEL_OK, LEVEL_WARN, LEVEL_FAIL };
enum { SYNCS = 21 };

struct doctor {
	struct cli *c;
	struct base_jw w; /* --json */
	enum level worst;
};

static void say(
	struct doctor *d, enum level level, const char *what, struct base_str found, const char *advice)
{
	static const char *const names[] = {"ok", "warning", "failed"},
				 *const colours[] = {"green", "yellow", "red"},
				 *const marks[] = {"✓", "!", "✗"};
	struct cli *c = d->c;

	if (level > d->worst)
		d->worst = level;
	if (c->json) {
		base_jw_obj(&d->w);
		base_jw_mcstr(&d->w, "check", what);
		base_jw_mcstr(&d->w, "level", names[level]);
		base_jw_mstr(&d->w, "found", found);
		if (level != LEVEL_OK && advice)
			base_jw_mcstr(&d->w, "advice", advice);
		base_jw_end_obj(&d->w);
		return;
	}
	cli_put(c, "%s%s%s %s: ", cli_paint(c, colours[level]), marks[level], cli_paint(c, "off"), what);
	cli_text(c, found);
	cli_put(c, "\n");
	if (level != LEVEL_OK && advice)
		cli_put(c, "    %s\n", advice);
}

static void sayf(struct doctor *d, enum level level, const char *what, const char *advice, const char *fmt,
	...) __attribute__((format(printf, 5, 6)));
static void sayf(
	struct doctor *d, enum level level, const char *what, const char *advice, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	say(d, level, what, base_str_of(text), advice);
}

static void check_kernel(struct doctor *d)
{
	struct utsname u;
	int major = 0, minor = 0;
	bool ok;

	if (uname(&u) < 0)
		return;
	ok = sscanf(u.release, "%d.%d", &major, &minor) == 2 && (major > 5 || (major == 5 && minor >= 13));
	sayf(d, ok ? LEVEL_OK : LEVEL_FAIL, "kernel", "aios needs Linux 5.13 or newer", "%s %s %s", u.sysname,
		u.release, u.machine);
}

static void check_sandbox(struct doctor *d)
{
	struct base_str line, name, found, rest;
	struct base_buf text;

	base_buf_init(&text, 1 << 16);
	jail_probe(&text);
	rest = base_buf_view(&text);
	while (rest.len > 0) {
		bool landlock, refused, full;
		char what[96];

		base_str_cut(rest, '\n', &line, &rest);
		if (!base_str_cut(line, ':', &name, &found))
			continue;
		found = base_str_sub(found, found.len && found.ptr[0] == ' ', found.len);
		snprintf(what, sizeof(what), "%.*s", BASE_STR_ARG(name));
		landlock = base_str_is(name, "landlock");
		refused = base_str_starts(found, BASE_STR("refused")) ||
			  base_str_starts(found, BASE_STR("cannot"));
		full = landlock ? base_str_starts(found, BASE_STR("version"))
				: memmem(found.ptr, found.len, "landlock", 8) &&
					  memmem(found.ptr, found.len, "netns", 5);
		if (refused)
			say(d, LEVEL_FAIL, what, found,
				"without seccomp this process does not start; is it a restricted container?");
		else if (full || base_str_ends(name, BASE_STR("connect")))
			say(d, LEVEL_OK, what, found, NULL);
		else
			say(d, LEVEL_WARN, what, found,
				landlock ? "the seccomp lists still hold; a newer kernel, or lsm=landlock,… "
					   "on its command line, adds it"
					 : "a layer is missing; where user namespaces are restricted, "
					   "kernel.unprivileged_userns_clone=1 "
					   "or an AppArmor profile for aiosd allows them");
	}
	base_buf_done(&text);
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* fdatasync of 4 KiB over a zeroed file: what each commit costs at least. Microseconds, or a negative errno.
 */
static int64_t sync_time(const char *dir)
{
	char path[4096], block[4096] = {1};
	int64_t took[SYNCS], from;
	int fd, i, r = 0;

	if (snprintf(path, sizeof(path), "%s/.doctor-XXXXXX", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = mkstemp(path);
	if (fd < 0)
		return -errno;
	unlink(path);
	for (i = 0; i < 16 && r == 0; i++)
		r = pwrite(fd, block, sizeof(block), i * 4096) == sizeof(block) ? 0 : -errno;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	for (i = 0; i < SYNCS && r == 0; i++) {
		from = now_us();
		if (pwrite(fd, block, sizeof(block), i % 16 * 4096) != sizeof(block) || fdatasync(fd) < 0)
			r = -errno;
		took[i] = now_us() - from;
	}
	close(fd);
	if (r < 0)
		return r;
	qsort(took, SYNCS, sizeof(took[0]), by_value);
	return took[SYNCS / 2];
}

static void check_disk(struct doctor *d, const char *dir)
{
	struct statvfs fs;
	int64_t us = sync_time(dir);

	if (us < 0)
		sayf(d, LEVEL_FAIL, "disk", "the workspace must be writable", "%s: %s", dir,
			strerror((int)-us));
	else
		sayf(d, us > 20000 ? LEVEL_WARN : LEVEL_OK, "disk sync",
			"every commit waits for it; a disk of its own, or an SSD, makes runs faster",
			"%lld.%02lld ms for 4 KiB (median of %d)", (long long)(us / 1000),
			(long long)(us % 1000 / 10), SYNCS);
	if (statvfs(dir, &fs) == 0) {
		unsigned long long mib = (unsigned long long)fs.f_bavail * fs.f_frsize >> 20;

		sayf(d,
			mib < 64     ? LEVEL_FAIL
			: mib < 1024 ? LEVEL_WARN
				     : LEVEL_OK,
			"disk space", "when the disk is full, new work is refused; free some",
			"%llu MiB free", mib);
	}
}

static void check_clock(struct doctor *d)
{
	struct timex t = {0};
	time_t now = time(NULL);
	int state = adjtimex(&t);

	if (now < 1735689600) /* 2025 */
		sayf(d, LEVEL_FAIL, "clock", "set it: timers and schedules follow it",
			"it says %lld s since 1970", (long long)now);
	else if (state == TIME_ERROR || (t.status & STA_UNSYNC))
		sayf(d, LEVEL_WARN, "clock", "systemd-timesyncd or chrony keeps it right",
			"not kept by a time server");
	else
		sayf(d, LEVEL_OK, "clock", NULL, "kept by a time server");
}

/* aiosd reads the same folder. */
static void check_zones(struct doctor *d)
{
	const char *folder = getenv("TZDIR") && *getenv("TZDIR") ? getenv("TZDIR") : "/usr/share/zoneinfo";
	char path[512];

	if (snprintf(path, sizeof(path), "%s/Europe/London", folder) < (int)sizeof(path) &&
		access(path, R_OK) == 0)
		sayf(d, LEVEL_OK, "time zones", NULL, "%s", folder);
	else
		sayf(d, LEVEL_WARN, "time zones", "install tzdata: schedules know only UTC without it",
			"%s has none", folder);
}

static void check_programs(struct doctor *d)
{
	static const char *const names[] = {"aiosd", "aios-flow", "aios-connect", "aios-parse", "aios-pass",
		"aios-vault", "aios-views", "aios-door"};
	struct base_buf missing;
	size_t i;

	base_buf_init(&missing, 1024);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *path = base_arena_printf(d->c->arena, "%s/%s", d->c->self, names[i]).ptr;

		if (!path || access(path, X_OK) < 0)
			base_buf_printf(&missing, "%s%s", missing.len ? ", " : "", names[i]);
	}
	if (missing.len > 0)
		sayf(d, LEVEL_FAIL, "programs", "build or install them all into one folder",
			"not in %s: %.*s", d->c->self, BASE_STR_ARG(missing));
	else
		sayf(d, LEVEL_OK, "programs", NULL, "aios %s, all in %s", CLI_VERSION, d->c->self);
	base_buf_done(&missing);
}

static void check_limits(struct doctor *d)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		sayf(d, files.rlim_max < 4096 ? LEVEL_WARN : LEVEL_OK, "open files",
			"the door holds one per connection; LimitNOFILE=65536 in the unit raises it",
			"at most %llu", (unsigned long long)files.rlim_max);
}

/* What only the owner may read. */
static void check_private(struct doctor *d, const char *name, mode_t bad)
{
	const char *path = cli_in_workspace(d->c, name);
	struct stat st;

	if (lstat(path, &st) < 0)
		return;
	if (st.st_uid != geteuid())
		sayf(d, LEVEL_FAIL, name, "run aios as the user that owns the workspace",
			"belongs to user %u", (unsigned)st.st_uid);
	else if (st.st_mode & bad)
		sayf(d, LEVEL_FAIL, name, "chmod go-rwx it", "others may get at it (mode %o)",
			(unsigned)(st.st_mode & 07777));
	else
		sayf(d, LEVEL_OK, name, NULL, "mode %o", (unsigned)(st.st_mode & 07777));
}

static void check_running(struct doctor *d)
{
	struct cli_answer a;
	bool json = d->c->json;

	if (!cli_answers(d->c)) {
		sayf(d, LEVEL_WARN, "aiosd", "start it with aios up", "does not run");
		return;
	}
	d->c->json = false;
	if (cli_call(d->c, "GET", "/v1/status", NULL, &a) == 0) {
		struct base_str status = base_jv_str(base_jv_get(a.root, "status"));
		bool frozen = base_jv_bool(base_jv_get(a.root, "frozen"), false);

		d->c->json = json;
		if (status.len > 0 && !base_str_is(status, "ok"))
			say(d, LEVEL_FAIL, "aiosd", status, "aios status says why");
		else if (frozen)
			say(d, LEVEL_WARN, "aiosd", BASE_STR("runs, frozen"),
				"nothing goes out until aios thaw");
		else
			say(d, LEVEL_OK, "aiosd", BASE_STR("runs"), NULL);
		cli_answer_done(&a);
	}
	d->c->json = json;
}

int cmd_doctor(struct cli *c)
{
	struct doctor d = {.c = c, .w = base_jw_of(&c->out)};

	if (c->json) {
		base_jw_obj(&d.w);
		base_jw_key(&d.w, "checks");
		base_jw_arr(&d.w);
	}
	check_kernel(&d);
	check_sandbox(&d);
	check_programs(&d);
	check_limits(&d);
	check_clock(&d);
	check_zones(&d);
	check_disk(&d, c->workspace ? c->workspace : ".");
	if (c->workspace) {
		check_private(&d, ".aios", 077);
		check_private(&d, ".aios/vault/key", 077);
		check_running(&d);
	} else {
		sayf(&d, LEVEL_WARN, "workspace", "aios init DIR makes one; -C DIR names one", "none here");
	}
	if (c->json) {
		base_jw_end_arr(&d.w);
		base_jw_mbool(&d.w, "ok", d.worst != LEVEL_FAIL);
		base_jw_end_obj(&d.w);
		cli_put(c, "\n");
	}
	return d.worst == LEVEL_FAIL ? CLI_FAILED : CLI_OK;
}
