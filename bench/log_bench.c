/*
 * usage: log_bench DIR [COMMITS] [EVENTS] [BYTES]
 * Appends COMMITS commits of EVENTS events of BYTES bytes to a new log in DIR/log-bench, and prints p50 and
 * p99 beside bare fdatasyncs of the same disk in the same run (4 KiB overwriting a zeroed file), interleaved
 * so that both meet the same machine.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/codec.h"
#include "log/log.h"

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double percentile(const double *sorted, size_t n, double p)
{
	size_t i = (size_t)(p * (double)(n - 1));

	return sorted[i];
}

static void report(const char *name, double *us, size_t n, double peer_p50)
{
	qsort(us, n, sizeof(*us), by_size);
	printf("%-10s p50 %8.1f us  p99 %8.1f us  p99.9 %8.1f us  max %8.1f us  p50 ratio to fdatasync "
	       "%.2f\n",
		name, percentile(us, n, 0.5), percentile(us, n, 0.99), percentile(us, n, 0.999), us[n - 1],
		percentile(us, n, 0.5) / (peer_p50 > 0 ? peer_p50 : percentile(us, n, 0.5)));
}

enum { FILE_PAGES = 1024, PAGE = 4096 };

static int open_zeroed(const char *path)
{
	static const char zero[PAGE];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	for (unsigned i = 0; fd >= 0 && i < FILE_PAGES; i++)
		if (pwrite(fd, zero, PAGE, (off_t)i * PAGE) != PAGE)
			return -1;
	if (fd >= 0 && fsync(fd) < 0)
		return -1;
	return fd;
}

static double one_sync(int fd, unsigned i)
{
	char page[PAGE];
	double t = now_us();

	memset(page, (int)i, PAGE);
	if (pwrite(fd, page, PAGE, (off_t)(i % FILE_PAGES) * PAGE) != PAGE || fdatasync(fd) < 0)
		return -1;
	return now_us() - t;
}

static double one_append(
	struct log *l, unsigned events, size_t bytes, struct base_buf *block, struct base_err *err)
{
	struct log_commit c = {.first_seq = log_last_seq(l) + 1, .count = events, .time_ms = 1};
	char *event = calloc(1, bytes);
	double t;

	base_buf_clear(block);
	for (unsigned i = 0; event && i < events; i++) {
		memset(event, (int)(c.first_seq + i), bytes);
		base_put_str(block, (struct base_str){event, bytes});
	}
	free(event);
	c.block = base_buf_view(block);
	t = now_us();
	if (log_append(l, &c, NULL, 0, err) < 0)
		return -1;
	return now_us() - t;
}

int main(int argc, char **argv)
{
	unsigned commits = argc > 2 ? (unsigned)atoi(argv[2]) : 5000;
	unsigned events = argc > 3 ? (unsigned)atoi(argv[3]) : 3;
	size_t bytes = argc > 4 ? (size_t)atoi(argv[4]) : 150;
	double *syncs = calloc(commits, sizeof(double)), *appends = calloc(commits, sizeof(double)), all = 0;
	struct base_buf block;
	struct base_err err = {0};
	struct log *l;
	char path[4096];
	int fd;

	if (argc < 2 || commits == 0 || !syncs || !appends) {
		fprintf(stderr, "usage: log_bench DIR [COMMITS] [EVENTS] [BYTES]\n");
		return 2;
	}
	base_buf_init(&block, SIZE_MAX);
	snprintf(path, sizeof(path), "%s/log-bench", argv[1]);
	if (log_open_sqlite(path, &l, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	snprintf(path, sizeof(path), "%s/log-bench/zeroed", argv[1]);
	fd = open_zeroed(path);
	for (unsigned i = 0; fd >= 0 && i < commits; i++) {
		syncs[i] = one_sync(fd, i);
		appends[i] = one_append(l, events, bytes, &block, &err);
		if (syncs[i] < 0 || appends[i] < 0) {
			fprintf(stderr, "failed: %s\n", err.text);
			return 1;
		}
		all += appends[i];
	}
	unlink(path);
	log_close(l);
	qsort(syncs, commits, sizeof(*syncs), by_size);
	report("fdatasync", syncs, commits, 0);
	report("append", appends, commits, percentile(syncs, commits, 0.5));
	printf("%.0f events a second\n", (double)commits * events / (all / 1e6));
	base_buf_done(&block);
	free(syncs);
	free(appends);
	return 0;
}
