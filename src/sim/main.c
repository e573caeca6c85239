#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "sim/sim.h"

/*
 * aios-sim: many seeds, each in a process of its own, a few at a time. A seed that fails is shrunk and written down where
 * that is asked for.
 */

enum { JOBS_MAX = 64, TWICE_EVERY = 20, COMMANDS = 500, SEED_SECONDS = 60 };

struct options {
	uint64_t seed, seeds;
	unsigned jobs, commands;
	const char *plan, *save;
	bool shrink, verbose, quiet, stop, twice;
};
struct slot {
	pid_t pid;
	uint64_t seed;
	bool second; /* the run that must give the same trace */
	uint64_t trace;
	struct sim_result *result;
};
struct sums {
	uint64_t seeds, failed, commands, events, crashes, runs, effects, twice;
	uint64_t least_commands, least_crashes;
	int64_t ms;
	int code;
};

static int usage(void)
{
	fputs("usage: aios-sim [--seeds N] [--seed S] [--jobs N] [--commands N] [--shrink] [--save FILE] "
	      "[--plan FILE]\n"
	      "                [--stop] [--twice] [--verbose] [--quiet]\n"
	      "Runs the engine on a simulated world. --plan runs a plan that was saved. --stop ends at the "
	      "first failure.\n"
	      "Exit code: 0, 3 aiosd broke an assertion, 4 an invariant is broken, 5 something does not come "
	      "to its end.\n",
		stderr);
	return 2;
}

static struct sim_result *new_result(void)
{
	struct sim_result *r =
		mmap(NULL, SIM_RESULT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (r == MAP_FAILED) {
		perror("aios-sim: mmap");
		exit(2);
	}
	return r;
}

static pid_t begin(const struct options *o, uint64_t seed, const char *plan, struct sim_result *r)
{
	struct sim_options opt = {.seed = seed, .plan = plan, .commands = o->commands, .verbose = o->verbose};
	pid_t pid;

	fflush(stdout);
	memset(r, 0, sizeof(*r));
	r->verdict = SIM_CRASH;
	pid = fork();
	if (pid < 0) {
		perror("aios-sim: fork");
		exit(2);
	}
	if (pid > 0)
		return pid;
	alarm(SEED_SECONDS);
	if (o->quiet && !freopen("/dev/null", "w", stderr))
		_exit(2);
	sim_run(&opt, r);
	_exit((int)r->verdict);
}

/* What a process that ended by a signal did not write itself. */
static void note_death(struct sim_result *r, int status)
{
	if (!WIFSIGNALED(status) || r->invariant[0])
		return;
	r->verdict = WTERMSIG(status) == SIGALRM ? SIM_LIVENESS : SIM_CRASH;
	snprintf(r->invariant, sizeof(r->invariant), WTERMSIG(status) == SIGALRM ? "time" : "assertion");
	snprintf(r->what, sizeof(r->what), "it ended by signal %d (%s)", WTERMSIG(status),
		strsignal(WTERMSIG(status)));
}

static void run_one(const struct options *o, uint64_t seed, const char *plan, struct sim_result *r)
{
	int status;
	pid_t pid = begin(o, seed, plan, r);

	if (waitpid(pid, &status, 0) == pid)
		note_death(r, status);
}

/* --- shrinking --- */

/* The lines of a plan, some of them left out. */
static char *without(char *const *lines, size_t count, size_t from, size_t n)
{
	char *text, *at;
	size_t size = 1;

	for (size_t i = 0; i < count; i++)
		size += strlen(lines[i]) + 1;
	text = at = malloc(size);
	if (!text)
		exit(2);
	*at = '\0';
	for (size_t i = 0; i < count; i++)
		if (i < from || i >= from + n)
			at += sprintf(at, "%s\n", lines[i]);
	return text;
}

static size_t cut(char *text, char ***ret)
{
	size_t n = 0, size = 0;
	char **lines = NULL, *rest;

	for (char *l = strtok_r(text, "\n", &rest); l; l = strtok_r(NULL, "\n", &rest)) {
		if (n == size) {
			size = size ? size * 2 : 256;
			lines = realloc(lines, size * sizeof(*lines));
			if (!lines)
				exit(2);
		}
		lines[n++] = l;
	}
	*ret = lines;
	return n;
}

/* Leaves parts out, large ones first, as long as the same invariant stays broken. */
static char *shrink(const struct options *o, uint64_t seed, const struct sim_result *failed)
{
	struct options quiet = *o;
	struct sim_result *r = new_result();
	char *plan = strdup(failed->plan), **lines, *text, *copy;
	size_t count = 0, part = 0;

	quiet.quiet = true;
	quiet.verbose = false;
	for (part = SIZE_MAX; part; part = part == SIZE_MAX ? count / 2 : part / 2) {
		for (size_t from = 0;; from += part) {
			copy = strdup(plan);
			count = cut(copy, &lines);
			if (part == SIZE_MAX || from >= count) {
				free(lines);
				free(copy);
				break;
			}
			text = without(lines, count, from, part);
			free(lines);
			free(copy);
			run_one(&quiet, seed, text, r);
			if (r->verdict == failed->verdict && strcmp(r->invariant, failed->invariant) == 0) {
				free(plan);
				plan = text;
				from -= part;
			} else {
				free(text);
			}
		}
	}
	munmap(r, SIM_RESULT_SIZE);
	return plan;
}

/* --- reporting --- */

static void print_tail(const char *plan)
{
	const char *at = plan + strlen(plan);

	for (int n = 0; at > plan && n < 9; n++)
		for (at--; at > plan && at[-1] != '\n'; at--)
			;
	printf("%s%s", at > plan ? "  ...\n" : "", at);
}

static void save(const struct options *o, uint64_t seed, const struct sim_result *r, const char *plan)
{
	FILE *f = fopen(o->save, "w");

	if (!f) {
		fprintf(stderr, "aios-sim: cannot write %s: %s\n", o->save, strerror(errno));
		return;
	}
	fprintf(f, "# %s: %s\nseed %llu\n%s", r->invariant, r->what, (unsigned long long)seed, plan);
	fclose(f);
}

static void report(const struct options *o, uint64_t seed, const struct sim_result *r, struct sums *sums)
{
	char *plan = NULL;

	sums->failed++;
	sums->code = (int)r->verdict;
	printf("failed seed %llu %s: %s\n", (unsigned long long)seed,
		r->invariant[0] ? r->invariant : "crash", r->what);
	if (o->shrink && r->plan_len) {
		plan = shrink(o, seed, r);
		printf("shrunk to:\n%s", plan);
	} else if (!o->quiet) {
		print_tail(r->plan);
	}
	if (o->save)
		save(o, seed, r, plan ? plan : r->plan);
	free(plan);
	printf("again: build/aios-sim --seed %llu --seeds 1\n", (unsigned long long)seed);
}

static void add(struct sums *sums, const struct sim_result *r)
{
	if (!sums->seeds || r->commands < sums->least_commands)
		sums->least_commands = r->commands;
	if (!sums->seeds || r->crashes < sums->least_crashes)
		sums->least_crashes = r->crashes;
	sums->seeds++;
	sums->commands += r->commands;
	sums->events += r->events;
	sums->crashes += r->crashes;
	sums->runs += r->runs;
	sums->effects += r->effects;
	sums->ms += r->ms;
}

/* --- many --- */

static bool wants_second(const struct options *o, uint64_t seed)
{
	return o->twice || seed % TWICE_EVERY == 0;
}

/* True: the slot goes on with the same seed once more. */
static bool settle(const struct options *o, struct slot *s, int status, struct sums *sums)
{
	note_death(s->result, status);
	if (s->result->verdict != SIM_OK) {
		report(o, s->seed, s->result, sums);
	} else if (s->second && s->result->trace != s->trace) {
		s->result->verdict = SIM_SAFETY;
		snprintf(s->result->invariant, sizeof(s->result->invariant), "deterministic");
		snprintf(s->result->what, sizeof(s->result->what), "the same seed went two ways");
		report(o, s->seed, s->result, sums);
	} else if (!s->second) {
		add(sums, s->result);
		if (wants_second(o, s->seed)) {
			s->second = true;
			s->trace = s->result->trace;
			sums->twice++;
			return true;
		}
	}
	return false;
}

static void run_many(const struct options *o, struct sums *sums)
{
	struct slot slots[JOBS_MAX] = {0};
	uint64_t next = o->seed, end = o->seed + o->seeds;
	unsigned running = 0;
	int status;

	for (unsigned i = 0; i < o->jobs; i++)
		slots[i].result = new_result();
	for (;;) {
		bool stop = o->stop && sums->failed;
		pid_t pid;

		for (unsigned i = 0; i < o->jobs && next < end && !stop; i++) {
			if (slots[i].pid)
				continue;
			slots[i].seed = next++;
			slots[i].second = false;
			slots[i].pid = begin(o, slots[i].seed, NULL, slots[i].result);
			running++;
		}
		if (!running)
			return;
		pid = waitpid(-1, &status, 0);
		for (unsigned i = 0; i < o->jobs; i++) {
			if (slots[i].pid != pid)
				continue;
			slots[i].pid = 0;
			running--;
			if (settle(o, &slots[i], status, sums) && !stop) {
				slots[i].pid = begin(o, slots[i].seed, NULL, slots[i].result);
				running++;
			}
		}
	}
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, SIM_PLAN_MAX);
	size_t n = f && text ? fread(text, 1, SIM_PLAN_MAX - 1, f) : 0;

	if (f)
		fclose(f);
	if (!n) {
		fprintf(stderr, "aios-sim: cannot read the plan %s\n", path);
		exit(2);
	}
	return text;
}

static int run_plan(const struct options *o)
{
	struct sim_result *r = new_result();
	char *text = read_file(o->plan), *seed = strstr(text, "seed ");
	struct sums sums = {0};
	uint64_t n = seed ? strtoull(seed + 5, NULL, 10) : o->seed;

	run_one(o, n, text, r);
	if (r->verdict != SIM_OK)
		report(o, n, r, &sums);
	else
		printf("%s holds: %llu commands, %llu crashes\n", o->plan, (unsigned long long)r->commands,
			(unsigned long long)r->crashes);
	free(text);
	return sums.code;
}

static bool number(const char *s, uint64_t *ret)
{
	return s && base_str_u64(base_str_of(s), ret) == 0;
}

static bool flag(const char *arg, struct options *o)
{
	if (strcmp(arg, "--shrink") == 0)
		o->shrink = true;
	else if (strcmp(arg, "--stop") == 0)
		o->stop = true;
	else if (strcmp(arg, "--twice") == 0)
		o->twice = true;
	else if (strcmp(arg, "--verbose") == 0)
		o->verbose = true;
	else if (strcmp(arg, "--quiet") == 0)
		o->quiet = true;
	else
		return false;
	return true;
}

static bool parse(int argc, char **argv, struct options *o)
{
	uint64_t jobs = 2, commands = COMMANDS;

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (flag(argv[i], o))
			continue;
		if (strcmp(argv[i], "--plan") == 0 && value)
			o->plan = value;
		else if (strcmp(argv[i], "--save") == 0 && value)
			o->save = value;
		else if (!(strcmp(argv[i], "--seeds") == 0 && number(value, &o->seeds)) &&
			 !(strcmp(argv[i], "--seed") == 0 && number(value, &o->seed)) &&
			 !(strcmp(argv[i], "--commands") == 0 && number(value, &commands)) &&
			 !(strcmp(argv[i], "--jobs") == 0 && number(value, &jobs) && jobs &&
				 jobs <= JOBS_MAX))
			return false;
		i++;
	}
	o->jobs = (unsigned)jobs;
	o->commands = (unsigned)commands;
	return true;
}

int main(int argc, char **argv)
{
	struct options o = {.seed = 1, .seeds = 100};
	struct timespec from, to;
	struct sums sums = {0};
	double s;

	if (!parse(argc, argv, &o))
		return usage();
	clearenv();
	/* What a seed gives back it takes again: pages that are returned to the kernel cost more than all else. */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	mallopt(M_TOP_PAD, 4 << 20);
	sim_prepare();
	if (o.plan)
		return run_plan(&o);
	clock_gettime(CLOCK_MONOTONIC, &from);
	run_many(&o, &sums);
	clock_gettime(CLOCK_MONOTONIC, &to);
	s = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
	printf("%llu seeds hold, %llu failed; %.1f a second; %llu run twice\n",
		(unsigned long long)sums.seeds, (unsigned long long)sums.failed,
		(double)(sums.seeds + sums.failed) / (s > 0 ? s : 1), (unsigned long long)sums.twice);
	if (sums.seeds)
		printf("a seed: %llu commands (at least %llu), %llu events, %llu runs, %llu effects, %.1f "
		       "crashes (at least "
		       "%llu), %.0f s simulated\n",
			(unsigned long long)(sums.commands / sums.seeds),
			(unsigned long long)sums.least_commands,
			(unsigned long long)(sums.events / sums.seeds),
			(unsigned long long)(sums.runs / sums.seeds),
			(unsigned long long)(sums.effects / sums.seeds),
			(double)sums.crashes / (double)sums.seeds, (unsigned long long)sums.least_crashes,
			(double)sums.ms / 1000.0 / (double)sums.seeds);
	return sums.code;
}
