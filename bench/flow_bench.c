/*
 * What a step and a run start cost aios-flow: plays the engine over a socketpair, in batches, so that the
 * worker is busy. flow_bench AIOS-FLOW [RUNS] [CONCURRENT]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wire/conn.h"
#include "wire/frames.h"

static const char modules[] =
	"{\"entry\":\"flows/bench.js\",\"modules\":{\"flows/bench.js\":\"import { flow } from 'aios';\\n"
	"const chunk = (a, n) => a.slice(0, n);\\nclass Sum { n = 0; add(x) { this.n += x; } }\\n"
	"export default flow({ name: 'bench', input: { type: 'object', properties: { steps: { type: "
	"'integer' } } } }, async (ctx, input)"
	" => {\\n  const sum = new Sum();\\n  for (let i = 0; i < input.steps; i++) {\\n    const r = await "
	"ctx.call('test.echo', { i, text: 'hello"
	" world', list: [1, 2, 3] });\\n    sum.add(r.i);\\n  }\\n  return { sum: sum.n, head: chunk([1, 2, "
	"3], 2) };\\n});\\n\"}}";

struct bench {
	struct wire_conn *conn;
	unsigned long started, ended, runs, steps;
	unsigned per_run;
};

static void start_run(struct bench *b)
{
	static const char seed[32] = {1};
	char input[40];
	int len = snprintf(input, sizeof(input), "{\"steps\":%u}", b->per_run);
	struct wire_flow_start f = {.run = ++b->started,
		.version = BASE_STR("v"),
		.time_ms = 1,
		.seed = {seed, 32},
		.input = {input, (size_t)len},
		.context = BASE_STR("{\"flow\":\"bench\"}")};
	wire_flow_start_put(wire_conn_begin(b->conn, WIRE_FLOW_START), &f);
	(void)!wire_conn_end(b->conn);
}

static void on_frame(struct bench *b, unsigned type, struct base_str body)
{
	struct wire_flow_call call;
	struct wire_flow_failed failed;
	if (type == WIRE_FLOW_CALL && wire_flow_call_get(body, &call) == 0) {
		struct wire_flow_result r = {
			.run = call.run, .step = call.step, .time_ms = 2, .value = call.args};
		wire_flow_result_put(wire_conn_begin(b->conn, WIRE_FLOW_RESULT), &r);
		(void)!wire_conn_end(b->conn);
		b->steps++;
	} else if (type == WIRE_FLOW_DONE) {
		b->ended++;
		if (b->started < b->runs)
			start_run(b);
	} else if (type == WIRE_FLOW_FAILED && wire_flow_failed_get(body, &failed) == 0) {
		fprintf(stderr, "%.*s\n", BASE_STR_ARG(failed.problem));
		exit(1);
	}
}

static double cpu_of(pid_t pid)
{
	char path[64], text[1000];
	unsigned long user = 0, sys = 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
	text[n] = '\0';
	char *at = strrchr(text, ')');
	if (at)
		sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys);
	if (f)
		fclose(f);
	return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static void measure(struct bench *b, pid_t pid, unsigned long runs, unsigned per_run, unsigned concurrent)
{
	struct timespec from, to;
	b->started = b->ended = b->steps = 0;
	b->runs = runs;
	b->per_run = per_run;
	double cpu = cpu_of(pid);
	clock_gettime(CLOCK_MONOTONIC, &from);
	while (b->started < runs && b->started < concurrent)
		start_run(b);
	while (b->ended < runs) {
		unsigned type;
		struct base_str body;
		int rc = wire_conn_wait(b->conn, 30000);
		if (rc < 0 && rc != -EAGAIN) {
			fprintf(stderr, "the worker is gone: %s\n", strerror(-rc));
			exit(1);
		}
		while (wire_conn_next(b->conn, &type, &body) > 0)
			on_frame(b, type, body);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	cpu = cpu_of(pid) - cpu;
	double wall = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
	printf("%7lu runs of %2u steps, %3u at once: %7.0f steps/s, %6.0f runs/s; worker CPU %6.1f us a "
	       "run\n",
		runs, per_run, concurrent, (double)b->steps / wall, (double)runs / wall,
		cpu * 1e6 / (double)runs);
}

int main(int argc, char **argv)
{
	int fd[2];
	struct bench b = {0};
	unsigned long runs = argc > 2 ? strtoul(argv[2], NULL, 10) : 20000;
	unsigned concurrent = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 256;
	if (argc < 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0) {
		fprintf(stderr, "usage: flow_bench AIOS-FLOW [RUNS] [CONCURRENT]\n");
		return 2;
	}
	pid_t pid = fork();
	if (pid == 0) {
		if (fd[1] == 3)
			fcntl(3, F_SETFD, 0);
		else
			dup2(fd[1], 3);
		execl(argv[1], "aios-flow", (char *)NULL);
		_exit(127);
	}
	close(fd[1]);
	if (pid < 0 || wire_conn_new(fd[0], &b.conn) < 0)
		return 1;
	struct wire_flow_version v = {.version = BASE_STR("v"), .modules = {modules, sizeof(modules) - 1}};
	wire_flow_version_put(wire_conn_begin(b.conn, WIRE_FLOW_VERSION), &v);
	(void)!wire_conn_end(b.conn);
	measure(&b, pid, runs / 4 + 1, 1, concurrent);
	measure(&b, pid, runs, 1, concurrent);
	measure(&b, pid, runs, 10, concurrent);
	measure(&b, pid, runs / 10 + 1, 10, 1);
	wire_conn_free(b.conn);
	int status;
	waitpid(pid, &status, 0);
	return 0;
}
